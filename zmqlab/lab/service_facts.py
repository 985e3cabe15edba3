"""What is known of a cluster and its load at one moment, and the watch that collects it.

:class:`Facts` is a value, and all that :mod:`zmqlab.lab.service_status` knows. It answers the questions of structure:
which nodes count for a majority, how many are missing, whether a node can hear enough others, which one leads.

A *majority* is one of the voters, as the newest membership has it: a node that joins does not count before it votes.
Not every replication needs one (:class:`~zmqlab.replica.replications.ReplicationKind`).

:class:`ServiceWatch` takes the facts from a feed, and from the fleet and the links of a cluster that this process runs.
Of nodes that another process runs only what they publish is known; their processes are ``unknown``. It keeps two
seconds of the load clients' snapshots.

Rules: :class:`Facts` has neither clock nor socket. The watch refers to no :class:`~zmqlab.lab.cluster.Cluster`, which
may be forgotten while it is watched.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Literal

import psutil

from zmqlab.client.roster import leader_of
from zmqlab.errors import FrameError
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.group_facts import GroupFacts, group_of_statuses
from zmqlab.lab.node_faults import BadClientLinks, FullDisk, SkewedClock, SlowDisk
from zmqlab.load.load_messages import LoadMetrics, decode_metrics
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.settings import DEFAULT_REPLICATION
from zmqlab.wire.control import Event
from zmqlab.wire.fault_queries import LinkFault, NodeFaults
from zmqlab.wire.node_status import NodeStatus

if TYPE_CHECKING:
    from zmqlab.lab.cluster import Cluster
    from zmqlab.lab.fault_table import FaultTable
    from zmqlab.lab.fleet import Fleet

LOOK_S = 2.0
"""How far back load clients' snapshots are looked at: shorter, and a busy machine's hiccups become news."""
OLD_S = 1.0
"""After so long without a word figures are old. Nodes and load clients speak ten times a second."""
NODE_FAULTS = tuple(kind.begins for kind in (SlowDisk, FullDisk, SkewedClock, BadClientLinks))
"""Events: something is wrong with a node's disk, its clock or its clients from then on."""
NS_PER_S = 1_000_000_000

Process = Literal["running", "paused", "stopped", "unknown"]
Life = Literal["running", "not started", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What is known of one node."""

    name: str
    process: Process = "unknown"
    """``unknown``: another process has started it, and only what it publishes is known."""
    status: NodeStatus | None = None
    """What it published last. None: nothing, or it was forgotten when its process ended."""
    silent_s: float = inf
    """For how long it has published nothing, by the clock of this process."""

    @property
    def is_heard(self) -> bool:
        """Whether what it says is not old."""
        return self.status is not None and self.silent_s < OLD_S

    @property
    def is_up(self) -> bool:
        """Whether it can take part, as far as is known: its process runs, or it is heard."""
        return self.process == "running" or (self.process == "unknown" and self.is_heard)

    @property
    def is_down(self) -> bool:
        """Whether it is known that it can take no part."""
        return self.process in ("stopped", "paused")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is known at one moment."""

    now_ns: int
    """The wall clock of this process."""
    life: Life = "running"
    """Of the cluster."""
    nodes: Sequence[NodeFacts] = ()
    groups: Sequence[GroupFacts] = ()
    """The Raft groups, if there are several; a node's status is of the first one that it holds."""
    links: Mapping[tuple[str, str], LinkFault] = field(default_factory=dict)
    """(source, target) -> what is wrong, for the links that are not whole."""
    suffering: Mapping[str, NodeFaults] = field(default_factory=dict)
    """Node -> what is wrong with its disk, its clock or its clients."""
    snapshots: Sequence[LoadMetrics] = ()
    """Of all load clients, oldest first: the last :data:`LOOK_S` of each."""
    silent_s: Mapping[int, float] = field(default_factory=dict)
    """For how long each load client has said nothing, by its process id."""
    dead_clients: Collection[int] = ()
    """Process ids of load clients that are gone without having said that they ended."""
    events: Sequence[Event] = ()
    parted_at: int = 0
    """The first log index at which the nodes' states were seen to differ; 0: they agree, as far as is known."""
    replication: str = ""
    """By which the nodes agree; empty: what their statuses say."""
    outcome: str = ""
    """The verdict on the last run: ``passed``, ``failed`` or ``not judged``; empty: none was passed."""
    problem: str = ""
    """Why nothing more will be heard, if so."""

    # -- load clients ----------------------------------------------------------------------------------------------

    @property
    def clients(self) -> list[list[LoadMetrics]]:
        """The snapshots of each load client, oldest first. A client that has said that it ended is none."""
        by_pid: dict[int, list[LoadMetrics]] = {}
        for each in self.snapshots:
            by_pid.setdefault(each.pid, []).append(each)
        return [each for each in by_pid.values() if each[-1].state != "ended"]

    # -- the group -------------------------------------------------------------------------------------------------

    @property
    def voters(self) -> list[str]:
        """The nodes that count for a majority: the voters of the newest membership, else all nodes that are known.

        A status with the higher commit index knows the later membership (:mod:`zmqlab.client.roster`).
        """
        if self.groups:
            return [each.name for each in self.nodes]
        told = [each.status for each in self.nodes if each.status is not None and each.status.members]
        newest = max(told, key=lambda each: (each.commit_index, each.term), default=None)
        names = [each.name for each in newest.members if each.voter] if newest is not None else []
        return names if names and all(names) else [each.name for each in self.nodes]

    @property
    def needs(self) -> str:
        """What must run so that orders are acknowledged (:data:`~zmqlab.replica.replications.Needs`)."""
        told = (each.status.replication for each in self.nodes if each.status is not None and each.status.replication)
        kind = REPLICATIONS.known(self.replication or next(told, DEFAULT_REPLICATION))
        return kind.needs if kind is not None else ""

    @property
    def majority(self) -> int:
        """So many voters are one."""
        return len(self.voters) // 2 + 1

    @property
    def spare(self) -> int | None:
        """How many more voters may fail; below 0 if too many are known to be down. None: no majority is needed, or
        that is not known."""
        if self.needs != "majority":
            return None
        if self.groups:
            return min(each.spare for each in self.groups)
        return len(self._voters_left) - self.majority

    @property
    def is_out(self) -> bool:
        """Whether no order can be acknowledged, by what is known of processes and links: no node runs, or no majority
        does, or no voter hears one that hears it."""
        if self.groups and self.needs == "majority":
            return all(each.is_out for each in self.groups)
        if not self.nodes or self.needs != "majority":
            return bool(self.nodes) and all(each.is_down for each in self.nodes)
        return not self.can_reach

    @property
    def can_reach(self) -> bool:
        """Whether some voter hears a majority that hears it, counting all that are not known to be down."""
        left = self._voters_left
        torn = {link for link, fault in self.links.items() if fault.cut or fault.loss >= 1}
        reached = (1 + sum((a, b) not in torn and (b, a) not in torn for b in left if b != a) for a in left)
        return max(reached, default=0) >= self.majority

    @property
    def _voters_left(self) -> list[str]:
        voters = self.voters
        return [each.name for each in self.nodes if not each.is_down and each.name in voters]

    @property
    def has_leader(self) -> bool:
        """Whether the nodes have one leader: not with a replication without one, nor with several groups."""
        return self.needs in ("majority", "leader") and not self.groups

    @property
    def leader(self) -> str:
        """The node that leads, of those that run and are heard; empty: none does, as far as is known."""
        heard = {each.name: each.status for each in self.nodes if each.is_up and each.is_heard and each.status}
        return leader_of(heard) or ""

    # -- times -----------------------------------------------------------------------------------------------------

    def time_of(self, node: str, kinds: Collection[str]) -> int:
        """When the newest such event happened to the node, on the wall clock; 0: none is known."""
        return max((each.time_ns for each in self.events if each.node == node and each.kind in kinds), default=0)

    def silent_since(self, nodes: Iterable[NodeFacts]) -> int:
        """When the last of these nodes was heard, on the wall clock; 0: none of them has ever been."""
        silent_s = min((each.silent_s for each in nodes), default=inf)
        return 0 if silent_s == inf else self.now_ns - round(silent_s * NS_PER_S)


@dataclass(slots=True)
class _Client:
    """A load client as a watch knows it."""

    heard_s: float = 0.0
    """When its newest snapshot came, on the monotonic clock."""
    snapshots: deque[LoadMetrics] = field(default_factory=deque)
    """Of its last :data:`LOOK_S`, oldest first; never empty."""


class ServiceWatch:
    """Collects :class:`Facts` about the nodes of a feed; close it when it is needed no longer.

    Args:
        feed: what nodes and load clients publish.
        fleet: the nodes' processes, if this process runs them.
        faults: what their links and the nodes themselves suffer.
    """

    def __init__(self, feed: MetricsFeed, fleet: Fleet | None = None, faults: FaultTable | None = None) -> None:
        self._feed, self._fleet, self._faults = feed, fleet, faults
        self._clients: dict[int, _Client] = {}
        """By process id: the load clients that have not said that they ended."""
        self._lock = threading.Lock()
        """Held while ``_clients`` is read or changed: the feed's thread does both."""
        self.outcome = ""
        """The verdict on the last run, set by the caller that has it; see :class:`Facts`."""
        self.is_over = False
        """Whether the cluster stops, or has stopped."""
        self._forget_end: Callable[[], object] = lambda: None
        """Takes back what the cluster is to call at its end."""
        self._unregister = feed.on_load_frame(partial(_call, weakref.ref(self)), at_once=True)

    @classmethod
    def of(cls, cluster: Cluster) -> ServiceWatch:
        """The watch of a started cluster.

        Raises:
            ClusterError: it has not been started, or has been stopped.
        """
        watch = cls(cluster.feed, cluster.fleet, cluster.fault_table)
        watch._forget_end = cluster.at_stop(watch.end)
        return watch

    def end(self) -> None:
        """The cluster stops: what comes now is about its end alone."""
        self.is_over = True
        self._unregister()

    def close(self) -> None:
        """Listen no longer; the facts grow old."""
        self._unregister()
        self._forget_end()

    def facts(self, problem: str = "") -> Facts:
        """What is known now. ``problem``: why nothing more will be heard, if so."""
        now_s = time.monotonic()
        with self._lock:
            silent_s = {pid: now_s - client.heard_s for pid, client in self._clients.items()}
            snapshots = [each for client in self._clients.values() for each in client.snapshots]
        mismatches, nodes = self._feed.mismatches(), self._nodes()
        return Facts(
            now_ns=time.time_ns(),
            life="stopped" if self.is_over else "running",  # asked after the nodes: none is dead because all end
            nodes=nodes,
            groups=self._groups(nodes),
            links=self._faults.faults if self._faults is not None else {},
            suffering=self._faults.node_faults if self._faults is not None else {},
            snapshots=sorted(snapshots, key=lambda each: each.time_ns),
            silent_s=silent_s,
            dead_clients=[pid for pid, age_s in silent_s.items() if age_s >= OLD_S and not psutil.pid_exists(pid)],
            events=self._feed.events(),
            parted_at=min((each.log_index for each in mismatches), default=0),
            replication=self._fleet.plan.replication if self._fleet is not None else "",
            outcome=self.outcome,
            problem=problem,
        )

    def _nodes(self) -> list[NodeFacts]:
        newest, silent_s = self._feed.newest(), self._feed.silent_s()
        processes: dict[str, Process] = dict.fromkeys(newest, "unknown")
        if self._fleet is not None and self._fleet.outside:
            processes = dict.fromkeys(self._fleet.names, "unknown")
        elif self._fleet is not None:
            running, paused = set(self._fleet.running), set(self._fleet.paused)
            processes = {
                name: "paused" if name in paused else "running" if name in running else "stopped"
                for name in self._fleet.names
            }
        return [
            NodeFacts(name=name, process=process, status=newest.get(name), silent_s=silent_s.get(name, inf))
            for name, process in processes.items()
        ]

    def _groups(self, nodes: Sequence[NodeFacts]) -> list[GroupFacts]:
        """Of several groups what is known; empty if there is one."""
        if self._feed.shards == 1:
            return []
        up, heard = ({each.name for each in nodes if getattr(each, name)} for name in ("is_up", "is_heard"))
        return [group_of_statuses(number, self._feed.newest(number), up, heard) for number in range(self._feed.shards)]

    def _take(self, frame: bytes) -> None:
        """Runs in the feed's thread."""
        with contextlib.suppress(FrameError):
            snapshot = decode_metrics(frame)
            with self._lock:
                self._forget_silent(snapshot.pid)
                if snapshot.state == "ended":
                    self._clients.pop(snapshot.pid, None)
                    return
                client = self._clients.setdefault(snapshot.pid, _Client())
                client.heard_s = time.monotonic()
                client.snapshots.append(snapshot)
                while snapshot.time_ns - client.snapshots[0].time_ns > LOOK_S * NS_PER_S:
                    client.snapshots.popleft()

    def _forget_silent(self, newcomer: int) -> None:
        """Another load client begins: what a dead one said last is of no interest any more."""
        if newcomer not in self._clients:
            old_s = time.monotonic() - OLD_S
            self._clients = {pid: each for pid, each in self._clients.items() if each.heard_s > old_s}


def _call(held: weakref.ref[ServiceWatch], frame: bytes) -> None:
    """Hand a frame to a watch that the feed does not keep alive."""
    watch = held()
    if watch is not None:
        watch._take(frame)
