"""A cluster of real node processes: started, killed, paused, resumed, restarted and watched from Python.

The object owns its processes. They end with :meth:`Cluster.stop`, with the ``with`` block, at the
interpreter's exit, and, if this process is killed outright, by the end of the pipe that
:mod:`~zmqlab.lab.hosts` holds. What the nodes do comes in through one
:class:`~zmqlab.lab.feed.MetricsFeed`; what this object does to them (kills, pauses, restarts) and the
deaths that nobody ordered are recorded among the same events.

This class is the front. The processes are in :mod:`~zmqlab.lab.fleet`, the changes of the members in
:mod:`~zmqlab.lab.scaling`. Every method may be called from any thread. Times in events are the wall clock of
this machine in nanoseconds.
"""

from __future__ import annotations

import atexit
import secrets
import shutil
import signal
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zmqlab.cluster import queries
from zmqlab.errors import ClusterError, NoLeader, PortInUse
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.fleet import Nodes
from zmqlab.lab.hosts import Launcher, LocalLauncher, NodeProcess
from zmqlab.lab.link_faults import ClusterLinks
from zmqlab.lab.ports import free_base_ports
from zmqlab.lab.scaling import CHANGE_TIMEOUT_S, Membership
from zmqlab.lab.start import (
    START_TIMEOUT_S,
    await_answer,
    await_cluster,
    check_arguments,
    plan_nodes,
)
from zmqlab.lab.targets import Targets
from zmqlab.settings import Durability, LogLevel, NodeSettings
from zmqlab.tables import EventTable, NodeState, StatusTable
from zmqlab.wire.control import LinkFault

if TYPE_CHECKING:
    from zmqlab.cluster.client import Client

START_ATTEMPTS = 5
"""How often other ports are drawn when another process takes one between the probe and the start."""

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
        metrics: every node shows metrics; ``prometheus/targets.json`` in the run folder tells Prometheus where.
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
        metrics: bool = False,
        launcher: Launcher | None = None,
    ) -> None:
        check_arguments(nodes, durability, log_level)
        self.name = f"lab-{secrets.token_hex(3)}"
        self.keep = keep or run_dir is not None
        self._count = nodes
        self._durability: Durability = durability
        self._log_level: LogLevel = log_level
        self._metrics = metrics
        self.targets: Targets | None = None
        """What Prometheus is told, with ``metrics``; made by :meth:`start`."""
        self._run_dir = Path(run_dir).absolute() if run_dir is not None else None
        self._launcher = launcher or LocalLauncher()
        self._feed: MetricsFeed | None = None
        self._nodes: Nodes | None = None
        self._membership: Membership | None = None
        self._links: ClusterLinks | None = None
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
        self.targets = Targets(self._run_dir, self.name) if self._metrics else None
        on_change = self.targets.show_nodes if self.targets else None
        self._nodes = Nodes(self._launcher, self._feed, self._keep_evidence, on_change)
        self._links = ClusterLinks(self._nodes)
        self._membership = Membership(self._nodes, self._tell_links)
        _live.add(self)
        try:
            self._start_nodes()
        except BaseException:
            self.keep = True
            self.stop()
            raise
        self._feed.on_turn(self._nodes.notice_deaths)
        return self

    def stop(self) -> None:
        """End all nodes and the feed; remove the temporary folder. Calling it twice is fine."""
        _live.discard(self)
        while self._attached:
            self._attached.pop()()
        if self._nodes is not None:
            self._nodes.end_all()
        if self.targets is not None:
            self.targets.clear()
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
        self._started.end(name, signal.SIGKILL, "killed")

    def terminate(self, name: str) -> None:
        """SIGTERM a node: it closes its journal and ends by itself."""
        self._started.end(name, signal.SIGTERM, "terminated")

    def pause(self, name: str) -> None:
        """SIGSTOP a node: it hangs with its sockets open until :meth:`resume`."""
        self._started.pause(name)

    def resume(self, name: str) -> None:
        """SIGCONT a paused node."""
        self._started.resume(name)
        self._wires.tell(name)

    def restart(self, name: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start a node again from its journal, ending it first if it runs; returns when it answers.

        It may still be catching up then: its ``lag`` in :meth:`status` tells. With durability ``memory`` it has no
        journal, and comes back as a new member, as after :meth:`wipe`.
        """
        nodes = self._started
        settings = nodes.settings(name)
        nodes.notice_deaths()
        if settings.durability == "memory" and len(nodes.names) > 1:
            self.wipe(name, timeout_s)
            return
        if name in (*nodes.running, *nodes.paused):
            nodes.end(name, signal.SIGTERM, "terminated")
        await_answer(settings, nodes.start(settings, "restarted"), timeout_s)
        self._wires.tell(name)

    def link(self, source: str, target: str, *, cut: bool = False, delay_ms: float = 0.0, loss: float = 0.0) -> None:
        """One direction of one link: what ``target`` hears of ``source`` is cut, late, or lost in part; or whole again.

        Clients reach every node all the same. A node that restarts is told its faults again.
        """
        self._wires.change(source, target, LinkFault(cut=cut, delay_ms=delay_ms, loss=loss))

    def cut(self, source: str, target: str) -> None:
        """``target`` hears nothing of ``source`` any more; the other direction stays as it is."""
        self.link(source, target, cut=True)

    def partition(self, *groups: Sequence[str]) -> None:
        """Cut all links between the groups, both ways: ``partition(["node0"], ["node1", "node2"])``."""
        self._wires.partition(groups)

    def heal(self) -> None:
        """Make all links whole again."""
        self._wires.heal()

    @property
    def links(self) -> dict[tuple[str, str], LinkFault]:
        """``(source, target)`` -> what is wrong, for the links that are not whole."""
        return self._links.table if self._links else {}

    # -- members -----------------------------------------------------------------------------------------

    def add(self, timeout_s: float = CHANGE_TIMEOUT_S) -> str:
        """Start one more node; returns its name once it has caught up and votes.

        Raises:
            NodeError: it could not start. ClusterError: it was not taken in, or not promoted, in time.
        """
        return self._members.add(self._pattern, timeout_s)

    def remove(self, name: str, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Let a node go for good: the group is told first, a leader hands over, then it ends, and its journal with it.

        Raises:
            ClusterError: it is the last one, or the others would have no majority, or that was not committed in time.
        """
        self._started.settings(name)
        self._members.remove(name, timeout_s)

    def scale(self, count: int, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Add or remove nodes, one after the other, until there are ``count``; each has ``timeout_s``."""
        self._members.scale(self._pattern, count, self._find_leader, timeout_s)

    def wipe(self, name: str, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Lose a node's disk: SIGKILL, its journal deleted, and back as a new member with the same name and ports.

        Raises:
            ClusterError: too few others run to take it in again.
        """
        self._members.wipe(name, timeout_s)

    # -- views -------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all nodes, running or not."""
        return self._nodes.names if self._nodes else tuple(f"node{number}" for number in range(self._count))

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the nodes whose processes run and are not paused."""
        return self._nodes.running if self._nodes else ()

    @property
    def paused(self) -> tuple[str, ...]:
        """The names of the paused nodes."""
        return self._nodes.paused if self._nodes else ()

    @property
    def leader(self) -> str:
        """The name of the leader; waits up to five seconds for one. Raises NoLeader."""
        return self.wait_for_leader(5.0)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where clients connect: one endpoint a node, running or not."""
        return tuple(map(self._started.endpoint, self._started.names))

    @property
    def living_endpoints(self) -> tuple[str, ...]:
        """Where clients reach the nodes that run and are not paused."""
        return tuple(map(self._started.endpoint, self.running))

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
        self._started.settings(name)
        return self.run_dir / "logs" / f"{name}.log"

    def pid(self, name: str) -> int:
        """The process id of a running or paused node."""
        return self._started.process(name).pid

    def status(self, timeout_s: float = 1.0) -> StatusTable:
        """Ask every running node how it is; a table."""
        nodes = self._started
        running = nodes.running
        answers = queries.statuses([nodes.endpoint(name) for name in running], timeout_s)

        def state(name: str) -> NodeState:
            endpoint = nodes.endpoint(name)
            if name in nodes.paused:
                return NodeState(name, endpoint, "paused")
            if name not in running:
                return NodeState(name, endpoint, "stopped")
            status = answers.get(endpoint)
            return NodeState(name, endpoint, "running" if status else "silent", status)

        return StatusTable(tuple(state(name) for name in nodes.names))

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
        paused = f", {len(self.paused)} paused" if self.paused else ""
        return (
            f"<Cluster {self.name}: {len(self.running)} of {len(self.nodes)} nodes run{paused}, "
            f"leader {leader}, in {self._run_dir}>"
        )

    def _repr_html_(self) -> str:
        if self._feed is None:
            return f"<p>Cluster {self.name} of {self._count} nodes, not started</p>"
        return f"<p>Cluster {self.name}</p>{self.status(0.5)._repr_html_()}"

    # -- inside ------------------------------------------------------------------------------------------

    @property
    def _started(self) -> Nodes:
        if self._nodes is None:
            raise ClusterError("the cluster has not been started: use `with Cluster() as cluster:` or cluster.start()")
        return self._nodes

    @property
    def _members(self) -> Membership:
        if self._membership is None:
            raise ClusterError("the cluster has not been started: use `with Cluster() as cluster:` or cluster.start()")
        return self._membership

    @property
    def _pattern(self) -> NodeSettings:
        """What a new node is like but for its name, its ports and whom it joins."""
        nodes = self._started
        return nodes.settings(nodes.names[0])

    @property
    def _wires(self) -> ClusterLinks:
        if self._links is None:
            raise ClusterError("the cluster has not been started: use `with Cluster() as cluster:` or cluster.start()")
        return self._links

    def _tell_links(self, settings: NodeSettings, process: NodeProcess) -> None:
        """A node that returns to its place is told its faults as soon as it listens."""
        if self._wires.concerns(settings.name):
            await_answer(settings, process)
            self._wires.tell(settings.name)

    def _keep_evidence(self) -> None:
        self.keep = True  # its log is what someone will want to read

    def _start_nodes(self) -> None:
        refused: PortInUse | None = None
        tried: set[int] = set()
        for _ in range(START_ATTEMPTS):
            ports = free_base_ports(self._count, exclude=tried)
            tried.update(ports)
            plan = plan_nodes(
                ports,
                cluster=self.name,
                run_dir=self.run_dir,
                durability=self._durability,
                log_level=self._log_level,
                metrics=self._metrics,
            )
            processes = {name: self._started.start(settings) for name, settings in plan.items()}
            try:
                await_cluster(plan, processes)
            except PortInUse as error:
                refused = error
                self._started.drop(plan)  # journals name their ports, so they go as well
            else:
                return
        raise refused or ClusterError("the cluster did not start")

    def _find_leader(self) -> str:
        """The running node that leads in the highest term, as last published; empty if none."""
        running = self.running
        leaders = [s for s in self.feed.newest().values() if s.role == "leader" and s.name in running]
        return max(leaders, key=lambda status: status.term).name if leaders else ""


@atexit.register
def _stop_all() -> None:
    for cluster in tuple(_live):
        cluster.stop()
