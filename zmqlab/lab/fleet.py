"""The nodes of a cluster: what each was told, whether it runs, and how it ended.

The one place that has nodes started and signalled. :class:`~zmqlab.lab.cluster.Cluster`, :mod:`~zmqlab.lab.faults` and
:mod:`~zmqlab.lab.scaling` act through it. A node stays known by its settings, running or not, until it is dropped.

A node is ``running``, ``paused`` (SIGSTOP: it keeps its sockets and answers nothing, as a machine that hangs) or
``stopped``. Each start becomes an event here, and each death that the lab did not order. A fault tells its own event,
before it signals.

A node never has two processes: verbs take turns (:mod:`zmqlab.lab.turns`), and :meth:`Fleet.start` refuses a node that
runs. Nor does one start after :meth:`Fleet.end_all`: whatever still waits for a node then ends with an error.

**Ready** is a node that answers a question with its own name: another process may have taken its ports and answer
there. A cluster is ready when every node knows a leader, of each Raft group that it holds, and has applied the first
entry of its term.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from zmqlab import errors, keys
from zmqlab.client import ask
from zmqlab.errors import ClusterError, JournalMismatch, NodeStartFailed, PortInUse
from zmqlab.lab.events import LabEvent
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.hosts import SAME_CLOCK, ClockOffset, Host, NodeProcess, end_all, kill_late
from zmqlab.lab.node_plan import NodePlan
from zmqlab.lab.run_folders import why_not_reopened
from zmqlab.lab.turns import Turns
from zmqlab.settings import NodeSettings, require_whole
from zmqlab.wire.node_status import NodeStatus

MAX_NODES = 15
"""More nodes on one machine teach nothing, and only wait for its cores."""
START_ATTEMPTS = 5
"""How often other ports are drawn when another process takes one between the probe and the node's own bind."""
START_TIMEOUT_S = 40.0
"""Ten times what a start takes on a small machine with other work."""
STOP_GRACE_S = 6.0
"""After a signal that ends a node; then it gets SIGKILL. A node that closes hands over within 2 s (drain_ms), and may
wait for a core."""
POLL_S = 0.01
REOPEN_POLL_S = 0.2  # a node whose owner was killed ends within a turn; a shell wakes one that was paused
ANSWER_TIMEOUT_S = 0.04
"""At first: short, so that a node that just came up is asked again soon. It answers in well under a millisecond."""
SIGNALS = {-number.value: number.name for number in signal.Signals}
"""A process' exit status -> the name of the signal that ended it."""
QUIET_ENDS = (-signal.SIGKILL, -signal.SIGTERM, 0)
"""Exit statuses of a node that a person ended outside the lab. Any other one is a failure, whose evidence is kept."""


class Fleet:
    """The nodes of one cluster. Safe to use from several threads.

    Args:
        host: where they run.
        feed: listens to them, and keeps their events.
        plan: what they have in common.
        on_failure: called when a node ended by itself and badly.
        on_change: called with all nodes' settings when a node came or went for good.
    """

    outside = ""
    """Why no process can be started, paused or ended from here; empty: it can."""

    def __init__(
        self,
        host: Host,
        feed: MetricsFeed,
        plan: NodePlan,
        on_failure: Callable[[], None],
        on_change: Callable[[Iterable[NodeSettings]], None] | None = None,
    ) -> None:
        self.host = host
        self.plan = plan
        self._credentials = _own_key(plan.key_folder)
        """What this process shows to the nodes."""
        self._feed = feed
        self._on_failure = on_failure
        self._on_change = on_change or (lambda _: None)
        self._settings: dict[str, NodeSettings] = {}
        self._processes: dict[str, NodeProcess] = {}
        """Of nodes that were started and were not ended here; the names are among those of ``_settings``."""
        self._newest: dict[str, NodeProcess] = {}
        """The process that was started last for each node, ended or not: it tells why a start failed."""
        self._paused: set[str] = set()
        self._expected_deaths: set[str] = set()
        """Nodes whose end was ordered, or is already recorded as an event."""
        self._lock = threading.RLock()
        self.foretold: dict[str, int] = {}
        """Node -> the exit status with which a fault is about to end it: no failure, of which evidence is kept."""
        self.turns = Turns()
        """Which thread is at work on which node."""

    # -- views ---------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """All nodes, running or not."""
        return tuple(self._settings)

    @property
    def running(self) -> tuple[str, ...]:
        """The nodes whose processes run and are not paused."""
        with self._lock:
            return tuple(name for name in self._settings if name not in self._paused and self._runs(name))

    @property
    def living_endpoints(self) -> tuple[str, ...]:
        """Where clients reach the nodes that run and are not paused; one may be let go meanwhile."""
        running = self.running
        return tuple(each.client_endpoint for each in self.nodes if each.name in running)

    @property
    def paused(self) -> tuple[str, ...]:
        """The paused nodes."""
        return tuple(sorted(self._paused))

    @property
    def nodes(self) -> tuple[NodeSettings, ...]:
        """What all nodes were told."""
        return tuple(self._settings.values())

    def settings(self, name: str) -> NodeSettings:
        """What a node was told. Raises ClusterError if there is no such node."""
        found = self._settings.get(name)
        if found is None:
            raise ClusterError(f"no node named {name}: there are {', '.join(self.names)}")
        return found

    def clock(self, name: str) -> ClockOffset:
        """How far the clock of a node's machine is ahead; of a node that is not known, none."""
        settings = self._settings.get(name)
        return self.host.clock(settings) if settings is not None else SAME_CLOCK

    def endpoint(self, name: str) -> str:
        """Where clients reach a node."""
        return self.settings(name).client_endpoint

    def process(self, name: str) -> NodeProcess:
        """The process of a running or paused node. Raises ClusterError if it is stopped, or the cluster is."""
        self.turns.require_open()
        self.settings(name)
        process = self._processes.get(name)
        if process is None or process.poll() is not None:
            raise ClusterError(f"{name} is not running: cluster.restart({name!r}) starts it")
        return process

    def log_path(self, name: str) -> Path:
        """The log file of a node."""
        return self.host.log_path(self.settings(name))

    def free_name(self) -> str:
        """The first of ``node0``, ``node1``, ... that no node has."""
        return free_name(self._settings)

    def _runs(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    # -- starting ------------------------------------------------------------------------------------------

    def found(self, count: int) -> None:
        """Start the first ``count`` nodes and return when they take orders. Ports that another process takes in
        between are drawn again.

        Raises:
            NodeError: a node could not start; the message is what it said.
        """
        refused: PortInUse | None = None
        tried: set[int] = set()
        for _ in range(START_ATTEMPTS):
            places = self.host.places(count, exclude=tried)
            tried.update(place.port for place in places)
            founders = self.plan.founders(places)
            for settings in founders:
                self.start(settings)
            try:
                self._await_cluster()
            except PortInUse as error:
                refused = error
                self.drop([settings.name for settings in founders])  # journals name their ports, so they go as well
            else:
                return
        raise refused or ClusterError("the cluster did not start")

    def reopen(self, nodes: Sequence[NodeSettings]) -> None:
        """Start the nodes of a cluster that has run before, and return when they take orders.

        They come back at the ports that they had, which their journals name. Nodes of an owner that was just killed may
        be there still, for as long as a node takes to end.

        Raises:
            NodeError: a node could not start; the message is what it said.
        """
        deadline = time.monotonic() + STOP_GRACE_S
        while True:
            for settings in nodes:
                self.start(settings)
            try:
                self._await_cluster()
            except (PortInUse, JournalMismatch) as error:
                self._end_processes()
                if time.monotonic() > deadline:
                    raise type(error)(why_not_reopened(self.plan.run_dir, error)) from None
                time.sleep(REOPEN_POLL_S)
            else:
                return

    def start(self, settings: NodeSettings, kind: LabEvent = LabEvent.STARTED) -> None:
        """Start a node, under settings that it keeps. It is not ready when this returns.

        Raises:
            ClusterError: the cluster has been stopped, or the node runs.
        """
        time_ns = time.time_ns()
        with self._lock:
            self.turns.require_open()
            if self._runs(settings.name):
                raise ClusterError(f"{settings.name} runs already: cluster.restart({settings.name!r}) starts it anew")
            process = self.host.start(settings)
            self._settings[settings.name] = settings
            self._processes[settings.name] = self._newest[settings.name] = process
            self._expected_deaths.discard(settings.name)
            self._on_change(self._settings.values())
        keys.trust([settings.endpoint], self._credentials)
        self._feed.connect(settings.endpoint)
        self._feed.note(kind, settings.name, f"pid {process.pid}, {settings.endpoint}", time_ns)

    def await_answer(self, name: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when a node that was started answers a question, whatever its role. Raises NodeError."""
        began = time.monotonic()
        deadline = began + timeout_s
        while not self._answers([self.settings(name)], _patience_s(began)):
            self.raise_if_ended(name)
            if time.monotonic() > deadline:
                raise NodeStartFailed(f"{name} did not answer within {timeout_s:g} s: its log is {self.log_path(name)}")

    def raise_if_ended(self, name: str) -> None:
        """Raise the error that a node ended with before it was ready, or that the cluster has been stopped."""
        self.turns.require_open()
        process = self._newest[name]
        status = process.poll()
        if status is None:
            return
        lines = process.error_text().splitlines()
        error = errors.start_error(status, "")
        meaning = (type(error).__doc__ or "").split(". ")[0]
        reason = lines[-1] if lines else f"{meaning}. It wrote no reason; its log is {self.log_path(name)}"
        raise type(error)(f"{name} ended with status {status} before it was ready: {reason}")

    def _await_cluster(self) -> None:
        began = time.monotonic()
        deadline = began + START_TIMEOUT_S
        waiting = dict(self._settings)
        while True:
            for name, status in self._answers(waiting.values(), _patience_s(began)).items():
                if is_ready(status):
                    del waiting[name]
            for name in self.names:
                self.raise_if_ended(name)
            if not waiting:
                return
            if time.monotonic() > deadline:
                logs = self.log_path(next(iter(waiting))).parent
                raise NodeStartFailed(
                    f"not ready within {START_TIMEOUT_S:g} s: {', '.join(waiting)}; the logs are in {logs}"
                )
            time.sleep(POLL_S)

    def _answers(self, nodes: Iterable[NodeSettings], timeout_s: float) -> dict[str, NodeStatus]:
        """What those of these nodes say that answer under their own name, by name."""
        by_endpoint = {settings.client_endpoint: settings for settings in nodes}
        return {
            status.name: status
            for endpoint, status in ask.statuses(by_endpoint, timeout_s).items()
            if (status.name, status.cluster) == (by_endpoint[endpoint].name, by_endpoint[endpoint].cluster)
        }

    # -- signals -------------------------------------------------------------------------------------------

    def end(self, name: str, number: signal.Signals) -> None:
        """End a node by a signal, and by SIGKILL if it has not ended :data:`STOP_GRACE_S` later."""
        with self._lock:
            process = self.process(name)
            self._expected_deaths.add(name)
            self._processes.pop(name)
            self._paused.discard(name)
        try:
            process.signal(number)
            process.signal(signal.SIGCONT)
        except ClusterError:  # its machine does not answer: it runs, as far as is known
            self._processes[name] = process
            self._expected_deaths.discard(name)
            raise
        kill_late(process, STOP_GRACE_S)
        process.close()
        self._feed.forget(name)

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        with self._lock:
            process = self.process(name)
            self._paused.add(name)
        process.signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.process(name).signal(signal.SIGCONT)
        with self._lock:
            self._paused.discard(name)

    def drop(self, names: Collection[str]) -> None:
        """End these nodes, unless they have ended, and forget them and their journals."""
        with self._lock:
            known = [self._settings.pop(name) for name in names if name in self._settings]
            processes = [self._processes.pop(settings.name, None) for settings in known]
            self._paused.difference_update(settings.name for settings in known)
            self._on_change(self._settings.values())
        end_all([process for process in processes if process is not None], STOP_GRACE_S)
        for settings in known:
            self._feed.disconnect(settings.endpoint)
            self._feed.forget(settings.name)
            keys.forget([settings.endpoint])
            self.host.wipe(settings)

    def end_all(self) -> None:
        """End all nodes for good. Their journals stay. Another process may listen at their ports from now on."""
        self.close()
        self._end_processes()

    def leave_host(self, keep: bool) -> None:
        """All nodes have ended: what they have stored elsewhere is brought here if it is to be kept, else removed."""
        for settings in self.nodes if keep else ():
            with contextlib.suppress(ClusterError):  # its machine is gone, and the others' evidence is fetched
                self.host.fetch(settings)
        self.host.close(self.plan.cluster, keep)

    def close(self) -> None:
        """Start no node any more, refuse all verbs, and let those that wait end with an error."""
        with self._lock:  # a start that is under way is over then, and its process is known
            self.turns.close()

    def _end_processes(self) -> None:
        with self._lock:
            processes = dict(self._processes)
            self._expected_deaths.update(processes)
            self._processes.clear()
            self._paused.clear()
        end_all(list(processes.values()), STOP_GRACE_S)
        keys.forget(settings.endpoint for settings in self._settings.values())

    def notice_deaths(self) -> None:
        """Record each node that ended and was not told to. The feed's thread calls this, too."""
        with self._lock:
            dead = [
                (name, process, status)
                for name, process in self._processes.items()
                if name not in self._expected_deaths and (status := process.poll()) is not None
            ]
            for name, process, _ in dead:
                self._expected_deaths.add(name)
                del self._processes[name]
                self._paused.discard(name)
                process.close()
        for name, process, status in dead:
            if status not in (*QUIET_ENDS, self.foretold.get(name)):
                self._on_failure()
            self._feed.forget(name)
            text = ": ".join([SIGNALS.get(status, f"exit status {status}"), *process.error_text().splitlines()[-1:]])
            self._feed.note(LabEvent.DIED, name, text, getattr(process, "ended_ns", 0))


def _patience_s(began_s: float) -> float:
    """How long to wait for an answer of nodes that have been starting since then: on a machine that others want as well
    a handshake takes longer, and each question makes a connection of its own."""
    return max(ANSWER_TIMEOUT_S, (time.monotonic() - began_s) / 10)


def _own_key(folder: Path | None) -> keys.Credentials | None:
    """The operator's key in ``folder``, which gets new keys if it has none."""
    if folder is None:
        return None
    if not (folder / keys.ALLOWED).exists():
        keys.Keyring.new().save(folder)
    return keys.Keyring.read(folder).credentials()


def is_ready(status: NodeStatus) -> bool:
    """Whether a node takes orders for each group that it holds: it knows a leader there."""
    return bool(status.leader_id and status.applied_index >= 1) and all(each.leader_id for each in status.groups)


def check_count(count: int) -> None:
    """Raise SettingsError unless a cluster can have so many nodes."""
    require_whole("nodes", count, 1, MAX_NODES)


def free_name(taken: Collection[str]) -> str:
    """The first of ``node0``, ``node1``, ... that is not taken."""
    return next(name for number in range(len(taken) + 1) if (name := f"node{number}") not in taken)
