"""A cluster of real node processes: started, killed, paused, resumed, restarted and watched from Python.

The object owns its processes. They end with :meth:`Cluster.stop`, with the ``with`` block, at the
interpreter's exit, and, if this process is killed outright, by the end of the pipe that
:mod:`~zmqlab.cluster.launcher` holds. What the nodes do comes in through one
:class:`~zmqlab.cluster.feed.MetricsFeed`; what this object does to them (kills, pauses, restarts) and the
deaths that nobody ordered are recorded among the same events.

A node's state is one of ``running``, ``paused`` (SIGSTOP: it keeps its sockets and answers nothing, as a
machine that hangs) and ``stopped``. Times in events are the wall clock of this machine in nanoseconds.
"""

from __future__ import annotations

import atexit
import secrets
import shutil
import signal
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from zmqlab.cluster import queries
from zmqlab.cluster.feed import MetricsFeed
from zmqlab.cluster.launcher import Launcher, LocalLauncher, NodeProcess, end_all
from zmqlab.cluster.ports import free_base_ports
from zmqlab.cluster.start import (
    START_TIMEOUT_S,
    await_answer,
    await_cluster,
    check_arguments,
    client_endpoint,
    plan_nodes,
)
from zmqlab.cluster.tables import EventTable, NodeState, StatusTable
from zmqlab.errors import ClusterError, NoLeader, PortInUse
from zmqlab.settings import Durability, LogLevel, NodeSettings
from zmqlab.wire import control

if TYPE_CHECKING:
    from zmqlab.cluster.client import Client

START_ATTEMPTS = 5
"""How often other ports are drawn when another process takes one between the probe and the start."""
STOP_GRACE_S = 3.0
SIGNALS = {-number.value: number.name for number in signal.Signals}

_live: weakref.WeakSet[Cluster] = weakref.WeakSet()


class Cluster:
    """Nodes ``node0``, ``node1``, ... on free loopback ports, as processes of their own.

    Args:
        nodes: how many, 1 to 15. durability: ``os`` survives the death of every process, ``fsync`` a power
        cut, ``memory`` nothing. run_dir: where logs and journals go. None: a temporary folder, removed at
        the end unless a node died by
            itself or a verdict failed.
        keep: keep the temporary folder in any case.
        log_level: of the nodes' log files.
        launcher: where nodes run; processes on this machine by default.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        durability: Durability = "os",
        run_dir: str | Path | None = None,
        keep: bool = False,
        log_level: LogLevel = "info",
        launcher: Launcher | None = None,
    ) -> None:
        check_arguments(nodes, durability, log_level)
        self.name = f"lab-{secrets.token_hex(3)}"
        self.keep = keep or run_dir is not None
        self._count = nodes
        self._durability: Durability = durability
        self._log_level: LogLevel = log_level
        self._run_dir = Path(run_dir).absolute() if run_dir is not None else None
        self._launcher = launcher or LocalLauncher()
        self._settings: dict[str, NodeSettings] = {}
        self._processes: dict[str, NodeProcess] = {}
        self._paused: set[str] = set()
        self._expected_deaths: set[str] = set()
        """Nodes whose end was ordered, or is already recorded as an event."""
        self._lock = threading.RLock()
        self._feed: MetricsFeed | None = None
        self._attached: list[Callable[[], None]] = []

    # -- life --------------------------------------------------------------------------------------------

    def start(self) -> Cluster:
        """Start all nodes and return when they take orders.

        Raises:
            NodeError: a node could not start; the message is what it said.
        """
        if self._feed is not None:
            raise ClusterError("this cluster has been started already: make another Cluster")
        if self._run_dir is None:
            self._run_dir = Path(tempfile.mkdtemp(prefix="zmqlab-"))
        self._feed = MetricsFeed()
        _live.add(self)
        try:
            self._start_nodes()
        except BaseException:
            self.keep = True
            self.stop()
            raise
        self._feed.on_turn(self._notice_deaths)
        return self

    def stop(self) -> None:
        """End all nodes and the feed; remove the temporary folder. Calling it twice is fine."""
        _live.discard(self)
        while self._attached:
            self._attached.pop()()
        with self._lock:
            processes = dict(self._processes)
            self._expected_deaths.update(processes)
            self._processes.clear()
            self._paused.clear()
        end_all(list(processes.values()), STOP_GRACE_S)
        if self._feed is not None:
            self._feed.close()
        if self._run_dir is not None and not self.keep:
            shutil.rmtree(self._run_dir, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self if self._feed is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def at_stop(self, close: Callable[[], None]) -> None:
        """Call ``close`` before the nodes are ended: what works with them ends first."""
        self._attached.append(close)

    # -- faults ------------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """SIGKILL a node: it gets no chance to write or say anything."""
        self._end(name, signal.SIGKILL, "killed")

    def terminate(self, name: str) -> None:
        """SIGTERM a node: it closes its journal and ends by itself."""
        self._end(name, signal.SIGTERM, "terminated")

    def pause(self, name: str) -> None:
        """SIGSTOP a node: it hangs with its sockets open until :meth:`resume`."""
        process = self._running(name)
        if name in self._paused:
            raise ClusterError(f"{name} is paused already: cluster.resume({name!r}) continues it")
        with self._lock:
            self._paused.add(name)
        process.signal(signal.SIGSTOP)
        self._record(name, "paused")

    def resume(self, name: str) -> None:
        """SIGCONT a paused node."""
        process = self._running(name)
        if name not in self._paused:
            raise ClusterError(f"{name} is not paused: cluster.pause({name!r}) pauses it")
        process.signal(signal.SIGCONT)
        with self._lock:
            self._paused.discard(name)
        self._record(name, "resumed")

    def restart(self, name: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start a node again from its journal, ending it first if it runs; returns when it answers.

        It may still be catching up then: its ``lag`` in :meth:`status` tells.
        """
        self._known(name)
        self._notice_deaths()
        if name in self._processes:
            self._end(name, signal.SIGTERM, "terminated")
        with self._lock:
            process = self._launcher.start(self._settings[name])
            self._processes[name] = process
            self._expected_deaths.discard(name)
        self._record(name, "restarted", text=f"pid {process.pid}")
        await_answer(self._settings[name], process, timeout_s)

    # -- views -------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all nodes, running or not."""
        return tuple(self._settings) or tuple(f"node{number}" for number in range(self._count))

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the nodes whose processes run and are not paused."""
        with self._lock:
            return tuple(
                name for name, process in self._processes.items() if process.poll() is None and name not in self._paused
            )

    @property
    def paused(self) -> tuple[str, ...]:
        """The names of the paused nodes."""
        return tuple(sorted(self._paused))

    @property
    def leader(self) -> str:
        """The name of the leader; waits up to five seconds for one. Raises NoLeader."""
        return self.wait_for_leader(5.0)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where clients connect: one endpoint a node, running or not."""
        return tuple(self._endpoint(name) for name in self._settings)

    @property
    def living_endpoints(self) -> tuple[str, ...]:
        """Where clients reach the nodes that run and are not paused."""
        return tuple(self._endpoint(name) for name in self.running)

    @property
    def events(self) -> EventTable:
        """Elections, deaths, pauses and restarts, oldest first, with times."""
        return EventTable(sorted(self.feed.events(), key=lambda event: event.time_ns))

    @property
    def feed(self) -> MetricsFeed:
        """The live figures."""
        if self._feed is None:
            raise ClusterError("the cluster has not been started: use `with Cluster() as cluster:` or cluster.start()")
        return self._feed

    @property
    def run_dir(self) -> Path:
        """Where the logs and journals are."""
        if self._run_dir is None:
            raise ClusterError("the cluster has no folder before it is started")
        return self._run_dir

    def log_path(self, name: str) -> Path:
        """The log file of a node."""
        self._known(name)
        return self.run_dir / "logs" / f"{name}.log"

    def pid(self, name: str) -> int:
        """The process id of a running or paused node."""
        return self._running(name).pid

    def status(self, timeout_s: float = 1.0) -> StatusTable:
        """Ask every running node how it is; a table."""
        running = self.running
        answers = queries.statuses([self._endpoint(name) for name in running], timeout_s)

        def state(name: str) -> NodeState:
            endpoint = self._endpoint(name)
            if name in self._paused:
                return NodeState(name, endpoint, "paused")
            if name not in running:
                return NodeState(name, endpoint, "stopped")
            status = answers.get(endpoint)
            return NodeState(name, endpoint, "running" if status else "silent", status)

        return StatusTable(tuple(state(name) for name in self._settings))

    def client(self, timeout_s: float = 5.0) -> Client:
        """A client of all nodes, for single orders and questions. Close it, or use it in a ``with`` block."""
        from zmqlab.cluster.client import Client  # the load layer is not needed to run a cluster

        return Client(self.endpoints, timeout_s=timeout_s)

    def wait_for_leader(self, timeout_s: float = 5.0) -> str:
        """The name of the leader among the running nodes, as soon as there is one.

        Raises:
            NoLeader: not within ``timeout_s``.
        """
        found: list[str] = []

        def look() -> bool:
            leader = self._find_leader()
            if leader:
                found.append(leader)
            return bool(leader)

        if not self.feed.wait_until(look, timeout_s):
            raise NoLeader(
                f"no leader within {timeout_s:g} s: {len(self.running)} of {len(self.nodes)} nodes run, and "
                "a majority must: cluster.restart(name) starts one, cluster.status() shows all"
            )
        return found[-1]

    def __repr__(self) -> str:
        if self._feed is None:
            return f"<Cluster {self.name} of {self._count} nodes, not started>"
        leader = self._find_leader() or "none"
        paused = f", {len(self._paused)} paused" if self._paused else ""
        return (
            f"<Cluster {self.name}: {len(self.running)} of {len(self.nodes)} nodes run{paused}, "
            f"leader {leader}, in {self._run_dir}>"
        )

    def _repr_html_(self) -> str:
        if self._feed is None:
            return f"<p>Cluster {self.name} of {self._count} nodes, not started</p>"
        return f"<p>Cluster {self.name}</p>{self.status(0.5)._repr_html_()}"

    # -- inside ------------------------------------------------------------------------------------------

    def _start_nodes(self) -> None:
        refused: PortInUse | None = None
        tried: set[int] = set()
        for _ in range(START_ATTEMPTS):
            ports = free_base_ports(self._count, exclude=tried)
            tried.update(ports)
            self._settings = plan_nodes(
                ports,
                cluster=self.name,
                run_dir=self.run_dir,
                durability=self._durability,
                log_level=self._log_level,
            )
            self._processes = {name: self._launcher.start(settings) for name, settings in self._settings.items()}
            for name, settings in self._settings.items():
                self.feed.connect(settings.endpoint)
                self._record(name, "started", text=f"pid {self._processes[name].pid}, {settings.endpoint}")
            try:
                await_cluster(self._settings, self._processes)
            except PortInUse as error:
                refused = error
                self._give_up_start()
            else:
                return
        raise refused or ClusterError("the cluster did not start")

    def _give_up_start(self) -> None:
        """Undo an attempt whose ports another process took; journals name their ports, so they go as well."""
        end_all(list(self._processes.values()), STOP_GRACE_S)
        for settings in self._settings.values():
            self.feed.disconnect(settings.endpoint)
            self.feed.forget(settings.name)
            shutil.rmtree(self.run_dir / "data" / settings.name, ignore_errors=True)
        self._processes = {}

    def _end(self, name: str, number: signal.Signals, kind: str) -> None:
        process = self._running(name)
        with self._lock:
            self._expected_deaths.add(name)
            self._processes.pop(name)
            self._paused.discard(name)
        process.signal(number)
        process.signal(signal.SIGCONT)
        if process.wait(STOP_GRACE_S) is None:
            process.signal(signal.SIGKILL)
            process.wait(STOP_GRACE_S)
        process.close()
        self.feed.forget(name)
        self._record(name, kind)

    def _notice_deaths(self) -> None:
        """Runs in the feed's thread: a node that ended without being told to becomes an event."""
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
            if status not in (-signal.SIGKILL, -signal.SIGTERM, 0):
                self.keep = True  # its log is what someone will want to read
            self.feed.forget(name)
            how = SIGNALS.get(status, f"exit status {status}")
            self._record(name, "died", text=" ".join([how, *process.error_text().splitlines()[-1:]]))

    def _find_leader(self) -> str:
        """The running node that leads in the highest term, as last published; empty if none."""
        running = self.running
        leaders = [s for s in self.feed.newest().values() if s.role == "leader" and s.name in running]
        return max(leaders, key=lambda status: status.term).name if leaders else ""

    def _endpoint(self, name: str) -> str:
        return client_endpoint(self._settings[name])

    def _known(self, name: str) -> None:
        if name not in self.nodes:
            raise ClusterError(f"no node named {name}: there are {', '.join(self.nodes)}")

    def _running(self, name: str) -> NodeProcess:
        self._known(name)
        process = self._processes.get(name)
        if process is None or process.poll() is not None:
            what_to_do = f"cluster.restart({name!r}) starts it" if self._feed else "the cluster has not been started"
            raise ClusterError(f"{name} is not running: {what_to_do}")
        return process

    def _record(self, name: str, kind: str, text: str = "") -> None:
        self.feed.record(control.Event(time_ns=time.time_ns(), node=name, kind=kind, text=text))


@atexit.register
def _stop_all() -> None:
    for cluster in tuple(_live):
        cluster.stop()
