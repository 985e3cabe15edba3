"""The node processes of a cluster: what each was told, whether it runs, and how it ended.

The one place that starts and signals nodes. :class:`~zmqlab.lab.cluster.Cluster` gives people its verbs,
:mod:`~zmqlab.lab.scaling` decides who belongs to the group; both act through this. A node stays known by its
settings whether it runs or not, until it is dropped.

States: ``running``, ``paused`` (SIGSTOP: it keeps its sockets and answers nothing, as a machine that hangs) and
``stopped``. All that is done here, and every death that nobody ordered, is told to ``record`` as an event.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable

from zmqlab.errors import ClusterError
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.hosts import Launcher, NodeProcess, end_all
from zmqlab.settings import NodeSettings
from zmqlab.wire import control

STOP_GRACE_S = 3.0
SIGNALS = {-number.value: number.name for number in signal.Signals}


class Nodes:
    """The nodes of one cluster. Safe to use from several threads."""

    def __init__(
        self,
        launcher: Launcher,
        feed: MetricsFeed,
        on_failure: Callable[[], None],
        on_change: Callable[[Iterable[NodeSettings]], None] | None = None,
    ) -> None:
        """``on_failure`` is called when a node ended by itself and badly, ``on_change`` with all nodes when one came or
        went for good."""
        self._launcher = launcher
        self._feed = feed
        self._on_failure = on_failure
        self._on_change = on_change or (lambda _: None)
        self._settings: dict[str, NodeSettings] = {}
        self._processes: dict[str, NodeProcess] = {}
        self._paused: set[str] = set()
        self._expected_deaths: set[str] = set()
        """Nodes whose end was ordered, or is already recorded as an event."""
        self._lock = threading.RLock()

    # -- who there is ------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """All nodes, running or not."""
        return tuple(self._settings)

    @property
    def running(self) -> tuple[str, ...]:
        """The nodes whose processes run and are not paused."""
        with self._lock:
            return tuple(
                name
                for name in self._settings
                if (process := self._processes.get(name)) is not None
                and process.poll() is None
                and name not in self._paused
            )

    @property
    def paused(self) -> tuple[str, ...]:
        """The paused nodes."""
        return tuple(sorted(self._paused))

    @property
    def ports(self) -> tuple[int, ...]:
        """The base ports of all nodes."""
        return tuple(settings.port for settings in self._settings.values())

    def settings(self, name: str) -> NodeSettings:
        """What a node was told. Raises ClusterError if there is no such node."""
        found = self._settings.get(name)
        if found is None:
            raise ClusterError(f"no node named {name}: there are {', '.join(self.names)}")
        return found

    def endpoint(self, name: str) -> str:
        """Where clients reach a node."""
        return self.settings(name).client_endpoint

    def process(self, name: str) -> NodeProcess:
        """The process of a running or paused node. Raises ClusterError if it is stopped."""
        self.settings(name)
        process = self._processes.get(name)
        if process is None or process.poll() is not None:
            raise ClusterError(f"{name} is not running: cluster.restart({name!r}) starts it")
        return process

    # -- what is done to them ----------------------------------------------------------------------------

    def start(self, settings: NodeSettings, kind: str = "started") -> NodeProcess:
        """Start a node, under settings that it keeps. It is not ready when this returns."""
        with self._lock:
            process = self._launcher.start(settings)
            self._settings[settings.name] = settings
            self._processes[settings.name] = process
            self._expected_deaths.discard(settings.name)
            self._on_change(self._settings.values())
        self._feed.connect(settings.endpoint)
        self.record(settings.name, kind, f"pid {process.pid}, {settings.endpoint}")
        return process

    def end(self, name: str, number: signal.Signals, kind: str) -> None:
        """End a node by a signal, by SIGKILL if it does not heed it in time."""
        process = self.process(name)
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
        self._feed.forget(name)
        self.record(name, kind)

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        process = self.process(name)
        if name in self._paused:
            raise ClusterError(f"{name} is paused already: cluster.resume({name!r}) continues it")
        with self._lock:
            self._paused.add(name)
        process.signal(signal.SIGSTOP)
        self.record(name, "paused")

    def resume(self, name: str) -> None:
        """SIGCONT."""
        process = self.process(name)
        if name not in self._paused:
            raise ClusterError(f"{name} is not paused: cluster.pause({name!r}) pauses it")
        process.signal(signal.SIGCONT)
        with self._lock:
            self._paused.discard(name)
        self.record(name, "resumed")

    def drop(self, names: Iterable[str]) -> None:
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
            wipe_journal(settings)

    def end_all(self) -> None:
        """End all nodes. Their journals stay."""
        with self._lock:
            processes = dict(self._processes)
            self._expected_deaths.update(processes)
            self._processes.clear()
            self._paused.clear()
        end_all(list(processes.values()), STOP_GRACE_S)

    def notice_deaths(self) -> None:
        """A node that ended without being told to becomes an event. Called by the feed's thread, too."""
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
                self._on_failure()
            self._feed.forget(name)
            how = SIGNALS.get(status, f"exit status {status}")
            self.record(name, "died", " ".join([how, *process.error_text().splitlines()[-1:]]))

    def record(self, name: str, kind: str, text: str = "") -> None:
        """Something happened to a node."""
        self._feed.record(control.Event(time_ns=time.time_ns(), node=name, kind=kind, text=text))


def wipe_journal(settings: NodeSettings) -> None:
    """Delete what a node has stored."""
    shutil.rmtree(settings.run_dir / "data" / settings.name, ignore_errors=True)
