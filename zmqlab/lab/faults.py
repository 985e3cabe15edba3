"""Faults as values: each names its victims, strikes, and undoes what it did.

:meth:`Fault.strike` is the one place that strikes. First it checks that the fault makes sense, then it records the
fault's events, and only then it touches anything. So an event never bears a later time than what it caused: ending a
process takes 65 ms, and the election that follows a signal may be over 16 ms after it.

What a kind of fault looks like on a chart, which buttons start it and how torture draws it stand in
:mod:`~zmqlab.lab.fault_kinds`.

Rules:

- A fault that can't strike raises before it has recorded or changed anything, and says what can be done instead.
- :meth:`Fault.undo` does no harm to a fault that has ended in another way.
- Check and act are one step: a fault of a node has the node for itself (:meth:`Fault.alone`), so that no other thread
  changes it in between.
- No fault waits for the cluster to recover: that is its caller's to do.

Left out on purpose: procedures of several faults with recoveries in between (:mod:`zmqlab.scenarios.nemesis`).
"""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple, Protocol

from zmqlab.errors import ClusterError
from zmqlab.lab.events import LabEvent
from zmqlab.lab.fault_table import WHOLE, FaultTable, Link
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.fleet import Fleet, check_count
from zmqlab.lab.scaling import CHANGE_TIMEOUT_S, TRANSFER_TIMEOUT_S, Scaling
from zmqlab.wire.fault_queries import LinkFault

ALL_WHOLE = "all links are whole"


class Breakable(Protocol):
    """What a fault uses of a :class:`~zmqlab.lab.cluster.Cluster`."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all nodes."""

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the nodes that run and are not paused."""

    @property
    def paused(self) -> tuple[str, ...]:
        """The names of the paused nodes."""

    @property
    def feed(self) -> MetricsFeed:
        """Keeps the events."""

    @property
    def fleet(self) -> Fleet:
        """The nodes' processes."""

    @property
    def fault_table(self) -> FaultTable:
        """What the nodes suffer: links that are not whole, bad disks, clocks and clients."""

    @property
    def scaling(self) -> Scaling:
        """Changes the members and the leader."""

    def wait_for_leader(self, timeout_s: float, group: int | None) -> str:
        """The name of the leader of a Raft group; None: of the node that leads the most of them."""

    def restart(self, name: str) -> None:
        """Start a node again."""

    def scale(self, count: int) -> None:
        """Have so many nodes."""


class News(NamedTuple):
    """One event that a fault tells."""

    kind: str
    node: str = ""
    text: str = ""


class Fault(ABC):
    """One thing that can be done to a cluster. Subclasses are frozen dataclasses."""

    def strike(self, cluster: Breakable) -> None:
        """Check, record the events, and do it.

        Raises:
            ClusterError: it can't be done now; nothing has changed then.
            SettingsError: a size is out of range; nothing has changed then.
        """
        cluster.fleet.turns.require_open()
        with self.alone(cluster):
            self.check(cluster)
            for news in self.news():
                cluster.feed.note(*news)
            self.inflict(cluster)

    def alone(self, cluster: Breakable) -> AbstractContextManager[None]:
        """What keeps other threads off while the fault strikes; they wait. By default nothing does."""
        return nullcontext()

    @abstractmethod
    def check(self, cluster: Breakable) -> None:
        """Raise what :meth:`strike` would raise."""

    def news(self) -> Iterable[News]:
        """The events that :meth:`strike` records."""
        return ()

    @abstractmethod
    def inflict(self, cluster: Breakable) -> None:
        """Do it, unchecked and untold."""

    @abstractmethod
    def undo(self, cluster: Breakable) -> None:
        """Have things as they were, as far as that is possible."""

    @property
    @abstractmethod
    def victims(self) -> str:
        """What is hit, for people: names of nodes, a link, a size."""


# -- faults of nodes -----------------------------------------------------------------------------------------------


class OfOneNode(Fault):
    """A fault that has its node for itself."""

    node: str

    def alone(self, cluster: Breakable) -> AbstractContextManager[None]:
        return cluster.fleet.turns.take(self.node, type(self).__name__.lower())

    @property
    def victims(self) -> str:
        return self.node


@dataclass(frozen=True, slots=True)
class Kill(OfOneNode):
    """SIGKILL: the node gets no chance to write or say anything. Undone by a restart from its journal."""

    node: str

    def check(self, cluster: Breakable) -> None:
        cluster.fleet.process(self.node)

    def news(self) -> Iterable[News]:
        return (News(LabEvent.KILLED, self.node),)

    def inflict(self, cluster: Breakable) -> None:
        cluster.fleet.end(self.node, signal.SIGKILL)

    def undo(self, cluster: Breakable) -> None:
        if self.node in cluster.nodes and self.node not in (*cluster.running, *cluster.paused):
            cluster.restart(self.node)


@dataclass(frozen=True, slots=True)
class Terminate(Kill):
    """SIGTERM: the node answers what is pending, hands over, closes its journal and ends by itself."""

    def news(self) -> Iterable[News]:
        return (News(LabEvent.TERMINATED, self.node),)

    def inflict(self, cluster: Breakable) -> None:
        cluster.fleet.end(self.node, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Restart(Fault):
    """A node ends by SIGTERM, if it runs, and starts again from its journal. There is nothing to undo."""

    node: str

    def check(self, cluster: Breakable) -> None:
        cluster.fleet.settings(self.node)

    def inflict(self, cluster: Breakable) -> None:
        cluster.restart(self.node)

    def undo(self, cluster: Breakable) -> None:
        """Nothing is left of it."""

    @property
    def victims(self) -> str:
        return self.node


@dataclass(frozen=True, slots=True)
class Pause(OfOneNode):
    """SIGSTOP: the node hangs with its sockets open. Undone by SIGCONT."""

    node: str

    def check(self, cluster: Breakable) -> None:
        cluster.fleet.process(self.node)
        if self.node in cluster.paused:
            raise ClusterError(f"{self.node} is paused already: cluster.resume({self.node!r}) continues it")

    def news(self) -> Iterable[News]:
        return (News(LabEvent.PAUSED, self.node),)

    def inflict(self, cluster: Breakable) -> None:
        cluster.fleet.pause(self.node)

    def undo(self, cluster: Breakable) -> None:
        with self.alone(cluster):
            if self.node in cluster.paused:
                cluster.feed.note(LabEvent.RESUMED, self.node)
                cluster.fleet.resume(self.node)
                cluster.fault_table.tell(self.node)


@dataclass(frozen=True, slots=True)
class Wipe(OfOneNode):
    """A node loses its disk: SIGKILL, its journal deleted, and back as a new member with the same name and ports.

    It is over when it has struck: there is nothing to undo.
    """

    node: str
    timeout_s: float = CHANGE_TIMEOUT_S

    def alone(self, cluster: Breakable) -> AbstractContextManager[None]:
        return cluster.scaling.turn(self.node, "wipe")

    def check(self, cluster: Breakable) -> None:
        cluster.scaling.check_replaceable(self.node)

    def news(self) -> Iterable[News]:
        return (News(LabEvent.WIPED, self.node),)

    def inflict(self, cluster: Breakable) -> None:
        cluster.scaling.replace(self.node, self.timeout_s)

    def undo(self, cluster: Breakable) -> None:
        """Nothing is left of it."""


@dataclass(frozen=True, slots=True)
class Transfer(OfOneNode):
    """Leadership of a group, or of all groups that a node holds (None), is handed to it. There is nothing to undo."""

    node: str
    timeout_s: float = TRANSFER_TIMEOUT_S
    group: int | None = 0

    def check(self, cluster: Breakable) -> None:
        if self.node not in cluster.running:
            cluster.fleet.process(self.node)
        if self.node in cluster.paused:
            raise ClusterError(f"{self.node} is paused and can't lead: cluster.resume({self.node!r}) continues it")
        cluster.scaling.to_lead(self.node, self.group)

    def news(self) -> Iterable[News]:
        return (
            News(LabEvent.TRANSFER, self.node, f"{self.node} is to lead{f' group {self.group}' * bool(self.group)}"),
        )

    def inflict(self, cluster: Breakable) -> None:
        for group in cluster.scaling.to_lead(self.node, self.group):
            cluster.scaling.hand_over(self.node, self.timeout_s, group)

    def undo(self, cluster: Breakable) -> None:
        """Nothing is left of it."""


@dataclass(frozen=True, slots=True)
class Scale(Fault):
    """The cluster grows or shrinks to ``count`` nodes, and back to ``back_to``. The members' own events tell of it."""

    count: int
    back_to: int

    def check(self, cluster: Breakable) -> None:
        check_count(self.count)

    def inflict(self, cluster: Breakable) -> None:
        cluster.scale(self.count)

    def undo(self, cluster: Breakable) -> None:
        cluster.scale(self.back_to)

    @property
    def victims(self) -> str:
        return f"{self.back_to} -> {self.count} -> {self.back_to} nodes"


# -- faults of links -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BadLinks(Fault):
    """Some links, each in one direction, are cut or bad (:class:`LinkFault`). Undone by making these links whole.

    A fault that is none makes the links whole at once, as a slider does that is put back to zero.
    """

    links: tuple[Link, ...]
    """(source, target): the target hears the source like this."""
    fault: LinkFault

    def check(self, cluster: Breakable) -> None:
        self.fault.check()
        for source, target in self.links:
            if source == target:
                raise ClusterError(f"{source} is no peer of itself: name two nodes")
            cluster.fleet.settings(source)
            cluster.fleet.settings(target)

    def news(self) -> Iterable[News]:
        if self.fault.is_whole:
            return self._told(LabEvent.HEALED, WHOLE)
        return self._told(LabEvent.CUT if self.fault.cut else LabEvent.LINK, self.fault)

    def inflict(self, cluster: Breakable) -> None:
        cluster.fault_table.change(self.links, WHOLE if self.fault.is_whole else self.fault)

    def undo(self, cluster: Breakable) -> None:
        some_stay = bool(set(cluster.fault_table.faults).difference(self.links))
        for news in self._healed(one_by_one=some_stay or len(self.links) == 1):
            cluster.feed.note(*news)
        cluster.fault_table.change(self.links, WHOLE)

    def _healed(self, one_by_one: bool) -> Sequence[News]:
        return self._told(LabEvent.HEALED, WHOLE) if one_by_one else [News(LabEvent.HEALED, "", ALL_WHOLE)]

    def _told(self, kind: LabEvent, fault: LinkFault) -> list[News]:
        return [News(kind, target, f"{source} -> {target}: {fault}") for source, target in self.links]

    @property
    def victims(self) -> str:
        if len(self.links) == 1:
            return f"{' -> '.join(self.links[0])}: {self.fault}"
        return f"{len(self.links)} links {self.fault}"


@dataclass(frozen=True, slots=True)
class Partition(Fault):
    """All links between nodes of different groups are cut, both ways. Links of nodes that no group names stay whole."""

    groups: tuple[Sequence[str], ...]

    def check(self, cluster: Breakable) -> None:
        if any(isinstance(group, str) for group in self.groups):
            raise ClusterError(f"a group is a list of names: partition([{self.groups[0]!r}], [...])")
        named = [name for group in self.groups for name in group]
        if len(self.groups) < 2 or not all(self.groups):
            raise ClusterError('a partition takes two groups or more: partition(["node0"], ["node1", "node2"])')
        if len(set(named)) < len(named):
            raise ClusterError(f"a node stands in two groups: {', '.join(named)}")
        for name in named:
            cluster.fleet.settings(name)

    def news(self) -> Iterable[News]:
        return (News(LabEvent.PARTITIONED, "", self.victims),)

    def inflict(self, cluster: Breakable) -> None:
        cluster.fault_table.change(self._links, LinkFault(cut=True))

    def undo(self, cluster: Breakable) -> None:
        BadLinks(self._links, LinkFault(cut=True)).undo(cluster)

    @property
    def victims(self) -> str:
        return " | ".join(", ".join(group) for group in self.groups)

    @property
    def _links(self) -> tuple[Link, ...]:
        return tuple((a, b) for one, other in permutations(self.groups, 2) for a in one for b in other)


@dataclass(frozen=True, slots=True)
class Isolate(Fault):
    """One node is on one side of a partition, and all others on the other side."""

    node: str

    def check(self, cluster: Breakable) -> None:
        cluster.fleet.settings(self.node)

    def inflict(self, cluster: Breakable) -> None:
        self._partition(cluster).strike(cluster)

    def undo(self, cluster: Breakable) -> None:
        self._partition(cluster).undo(cluster)

    @property
    def victims(self) -> str:
        return self.node

    def _partition(self, cluster: Breakable) -> Partition:
        return Partition(((self.node,), tuple(name for name in cluster.nodes if name != self.node)))


@dataclass(frozen=True, slots=True)
class Together(Fault):
    """Several faults that strike one after the other and are undone at once, as after a power cut."""

    faults: tuple[Fault, ...]

    def check(self, cluster: Breakable) -> None:
        for fault in self.faults:
            fault.check(cluster)

    def inflict(self, cluster: Breakable) -> None:
        for fault in self.faults:
            fault.strike(cluster)

    def undo(self, cluster: Breakable) -> None:
        with ThreadPoolExecutor(max(1, len(self.faults))) as pool:
            for outcome in [pool.submit(fault.undo, cluster) for fault in self.faults]:
                outcome.result()

    @property
    def victims(self) -> str:
        return ", ".join(fault.victims for fault in self.faults)


@dataclass(frozen=True, slots=True)
class PowerCut(Together):
    """Kills that are undone by a start of all at once, each from its journal. With durability ``memory`` there is none:
    the nodes found another cluster, and what was acknowledged is lost."""

    def undo(self, cluster: Breakable) -> None:
        stopped = [name for name in cluster.nodes if name not in (*cluster.running, *cluster.paused)]
        for name in stopped:
            with cluster.fleet.turns.take(name, "restart"):
                cluster.fleet.start(cluster.fleet.settings(name), LabEvent.RESTARTED)
        for name in stopped:
            cluster.fleet.await_answer(name)
            cluster.fault_table.tell(name)


def power_cut(names: Iterable[str]) -> Fault:
    """SIGKILL for all of these."""
    return PowerCut(tuple(map(Kill, names)))
