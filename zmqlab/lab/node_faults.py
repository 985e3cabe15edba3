"""What a node suffers by itself, as faults: a slow disk, a full disk, a wrong clock, bad connections to its clients.

The node plays them (:mod:`zmqlab.wire.fault_queries`), the table of the cluster keeps them
(:mod:`~zmqlab.lab.fault_table`): a node that is started again has what it had. Each fault sets some fields of
:class:`~zmqlab.wire.fault_queries.NodeFaults` and leaves the others, so that a disk can be slow under a clock that is
wrong. A size at which nothing is wrong mends the node, as a slider does that is put back.

They strike nodes that do not run, too: such a node is told when it starts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from msgspec.structs import replace

from zmqlab.errors import ClusterError, JournalFull
from zmqlab.lab.fault_table import WELL
from zmqlab.lab.faults import Breakable, News, OfOneNode
from zmqlab.wire.fault_queries import NodeFaults


class Suffering(OfOneNode):
    """A fault that a node plays by itself."""

    begins: ClassVar[str]
    """The kind of the event that tells of the strike; the text says how bad it is."""
    ends: ClassVar[str]
    """The kind of the event that tells of the end."""

    @property
    @abstractmethod
    def fields(self) -> Mapping[str, Any]:
        """What it sets, by the fields of :class:`NodeFaults`."""

    @property
    def faults(self) -> NodeFaults:
        """A node that suffers nothing but this."""
        return replace(WELL, **self.fields)

    def check(self, cluster: Breakable) -> None:
        self.faults.check()
        cluster.fleet.settings(self.node)

    def news(self) -> Iterable[News]:
        return (News(self.ends if self.faults == WELL else self.begins, self.node, str(self.faults)),)

    def inflict(self, cluster: Breakable) -> None:
        cluster.fault_table.change_node(self.node, **self.fields)

    def undo(self, cluster: Breakable) -> None:
        with self.alone(cluster):
            if self.is_suffered(cluster):
                cluster.feed.note(self.ends, self.node)
                cluster.fault_table.change_node(self.node, **{name: getattr(WELL, name) for name in self.fields})

    def is_suffered(self, cluster: Breakable) -> bool:
        """Whether the node suffers this now, of whatever size."""
        now = cluster.fault_table.of_node(self.node)
        return any(getattr(now, name) != getattr(WELL, name) for name in self.fields)

    @property
    def victims(self) -> str:
        return f"{self.node}: {self.faults}"


class _OfTheDisk(Suffering):
    """A fault of the disk, which a node must have."""

    def check(self, cluster: Breakable) -> None:
        super().check(cluster)
        if cluster.fleet.settings(self.node).durability == "memory":
            raise ClusterError(f"{self.node} has no disk: with durability memory nothing is written")


@dataclass(frozen=True, slots=True)
class SlowDisk(_OfTheDisk):
    """Each write of the journal takes at least ``write_ms``, and the node does nothing else meanwhile."""

    node: str
    write_ms: float
    begins: ClassVar[str] = "disk_slow"
    ends: ClassVar[str] = "disk_quick"

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"write_ms": self.write_ms}


@dataclass(frozen=True, slots=True)
class FullDisk(_OfTheDisk):
    """The next write of the journal fails for want of room, and the node ends by itself, as it does in earnest: with
    the exit status of :class:`~zmqlab.errors.JournalFull`. Started again before there is room, it ends again. Undone by
    room and a start from its journal."""

    node: str
    begins: ClassVar[str] = "disk_full"
    ends: ClassVar[str] = "disk_room"

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"disk_full": True}

    def check(self, cluster: Breakable) -> None:
        _OfTheDisk.check(self, cluster)
        if cluster.fleet.outside:
            raise ClusterError(f"{self.node} would end, and only its own launcher can start it again")

    def inflict(self, cluster: Breakable) -> None:
        cluster.fleet.foretold[self.node] = JournalFull.exit_status
        Suffering.inflict(self, cluster)

    def undo(self, cluster: Breakable) -> None:
        if not self.is_suffered(cluster):
            return
        Suffering.undo(self, cluster)
        if self.node in cluster.nodes and self.node not in (*cluster.running, *cluster.paused):
            cluster.restart(self.node)
        cluster.fleet.foretold.pop(self.node, None)


@dataclass(frozen=True, slots=True)
class SkewedClock(Suffering):
    """A node's ticks come ``clock_rate`` times as often as they should, and all its time-outs follow."""

    node: str
    clock_rate: float
    begins: ClassVar[str] = "clock_skewed"
    ends: ClassVar[str] = "clock_right"

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"clock_rate": self.clock_rate}


@dataclass(frozen=True, slots=True)
class BadClientLinks(Suffering):
    """Requests of clients to one node, and its answers to them, are lost or late. Nodes hear each other as before."""

    node: str
    request_loss: float = 0.0
    request_delay_ms: float = 0.0
    answer_loss: float = 0.0
    answer_delay_ms: float = 0.0
    begins: ClassVar[str] = "clients_harmed"
    ends: ClassVar[str] = "clients_well"

    @property
    def fields(self) -> Mapping[str, Any]:
        return {
            "request_loss": self.request_loss,
            "request_delay_ms": self.request_delay_ms,
            "answer_loss": self.answer_loss,
            "answer_delay_ms": self.answer_delay_ms,
        }


def mended(node: str) -> tuple[Suffering, ...]:
    """All that a node may suffer by itself, to be undone."""
    return SlowDisk(node, 0.0), SkewedClock(node, 1.0), BadClientLinks(node), FullDisk(node)
