"""The verbs of a cluster that break it: one method for each fault that a person strikes with from Python.

:class:`~zmqlab.lab.cluster.Cluster` inherits them, and knows no fault itself. Each is a fault
(:mod:`~zmqlab.lab.faults`, :mod:`~zmqlab.lab.node_faults`) that strikes at once. What undoes it is another verb:
``resume`` a pause, ``restart`` a death, ``heal`` bad links, ``mend`` all that a node suffers by itself.

Each raises :class:`~zmqlab.errors.ClusterError` if there is no such node, or it can't be done now, and
:class:`~zmqlab.errors.SettingsError` if a size is out of range. Nothing has changed then, and no event tells of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from zmqlab.errors import ClusterError
from zmqlab.lab.events import LabEvent
from zmqlab.lab.faults import ALL_WHOLE, BadLinks, Breakable, Kill, Partition, Pause, Terminate, Transfer, Wipe
from zmqlab.lab.fleet import START_TIMEOUT_S
from zmqlab.lab.node_faults import BadClientLinks, FullDisk, SkewedClock, SlowDisk, mended
from zmqlab.lab.scaling import CHANGE_TIMEOUT_S, TRANSFER_TIMEOUT_S
from zmqlab.wire.fault_queries import LinkFault, NodeFaults


class FaultVerbs:
    """See the module. For a class that is :class:`~zmqlab.lab.faults.Breakable`."""

    # -- processes -----------------------------------------------------------------------------------------

    def kill(self: Breakable, name: str) -> None:
        """SIGKILL a node: it gets no chance to write or say anything. Raises ClusterError if it does not run."""
        Kill(name).strike(self)

    def terminate(self: Breakable, name: str) -> None:
        """SIGTERM a node: it closes its journal and ends by itself. Raises ClusterError if it does not run."""
        Terminate(name).strike(self)

    def pause(self: Breakable, name: str) -> None:
        """SIGSTOP a node: it hangs with its sockets open until :meth:`resume`. Raises ClusterError if it can't."""
        Pause(name).strike(self)

    def resume(self: Breakable, name: str) -> None:
        """SIGCONT a paused node. Raises ClusterError if it is not paused."""
        with self.fleet.turns.take(name, "resume"):
            self.fleet.process(name)
            if name not in self.paused:
                raise ClusterError(f"{name} is not paused: cluster.pause({name!r}) pauses it")
            Pause(name).undo(self)

    def wipe(self: Breakable, name: str, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Lose a node's disk: SIGKILL, its journal deleted, and back as a new member with the same name and ports.

        Raises:
            ClusterError: too few others run to take it in again.
        """
        Wipe(name, timeout_s).strike(self)

    def restart(self: Breakable, name: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start a node again from its journal, ending it first if it runs; returns when it answers.

        It may still be catching up then: its ``lag`` in :meth:`status` tells. With durability ``memory`` it has no
        journal, and comes back as a new member, as after :meth:`wipe`.

        Raises:
            NodeError: it could not start; the message is what it said.
            ClusterError: there is no such node.
        """
        self.fleet.notice_deaths()
        if self.fleet.settings(name).durability == "memory" and len(self.fleet.names) > 1:
            Wipe(name, timeout_s).strike(self)
            return
        with self.fleet.turns.take(name, "restart"):
            if name in (*self.running, *self.paused):
                Terminate(name).strike(self)
            self.fleet.start(self.fleet.settings(name), LabEvent.RESTARTED)
            self.fleet.await_answer(name, timeout_s)
            self.fault_table.tell(name)

    # -- the leader ----------------------------------------------------------------------------------------

    def transfer(self: Breakable, name: str, timeout_s: float = TRANSFER_TIMEOUT_S, group: int = 0) -> None:
        """Have the leader, of one of the groups, hand leadership to ``name``; returns when ``name`` leads.

        Raises:
            NoLeader: no node leads, so none can hand over.
            SettingsError: there is no such group.
            ClusterError: the node is stopped or paused, holds no replica of the group, or did not take over in time.
        """
        Transfer(name, timeout_s, group).strike(self)

    # -- links ---------------------------------------------------------------------------------------------

    def link(
        self: Breakable,
        source: str,
        target: str,
        *,
        cut: bool = False,
        delay_ms: float = 0.0,
        loss: float = 0.0,
        bytes_per_s: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        reordering_ms: float = 0.0,
    ) -> None:
        """Make one direction of one link bad, or whole again. Clients reach every node all the same.

        Args:
            source: the node that speaks.
            target: the node that hears it like this. If it restarts it is told again.
            cut: it hears nothing.
            delay_ms: it hears everything so much later, 0 to 60,000 ms.
            loss: the share of frames that it does not hear, 0 to 1.
            bytes_per_s: what the link carries. More waits in a queue of 64 KiB, and is lost when that is full. 0: no
                bound.
            duplication: the share of frames that it hears twice, 0 to 1.
            reordering: the share of frames that it hears out of turn, 0 to 1.
            reordering_ms: those come later than they should, by up to so much.

        Raises:
            ClusterError: there is no such node, or it does not obey.
            SettingsError: a size is out of range.
        """
        fault = LinkFault(
            cut=cut,
            delay_ms=delay_ms,
            loss=loss,
            bytes_per_s=bytes_per_s,
            duplication=duplication,
            reordering=reordering,
            reordering_ms=reordering_ms,
        )
        BadLinks(((source, target),), fault).strike(self)

    def cut(self: Breakable, source: str, target: str) -> None:
        """``target`` hears nothing of ``source`` any more; the other direction stays as it is."""
        BadLinks(((source, target),), LinkFault(cut=True)).strike(self)

    def partition(self: Breakable, *groups: Sequence[str]) -> None:
        """Cut all links between the groups, both ways: ``partition(["node0"], ["node1", "node2"])``.

        Raises:
            ClusterError: fewer than two groups, a node in two of them, or no such node.
        """
        Partition(groups).strike(self)

    def heal(self: Breakable) -> None:
        """Make all links whole again. Raises ClusterError if a node does not obey."""
        self.fleet.turns.require_open()
        if self.fault_table.all_whole:
            return
        self.feed.note(LabEvent.HEALED, "", ALL_WHOLE)
        self.fault_table.heal()

    # -- what a node suffers by itself ---------------------------------------------------------------------

    def slow_disk(self: Breakable, name: str, write_ms: float) -> None:
        """Each write of a node's journal takes at least ``write_ms``, 0 to 10,000 ms, and the node does nothing else
        meanwhile. A turn of its loop has one write at most. 0: the disk is as quick as it is.

        Raises:
            ClusterError: there is no such node, or it has no disk (durability ``memory``).
        """
        SlowDisk(name, write_ms).strike(self)

    def fill_disk(self: Breakable, name: str) -> None:
        """The next write of a node's journal fails for want of room, and the node ends by itself. :meth:`mend` makes
        room and starts it again.

        Raises:
            ClusterError: there is no such node, or it has no disk (durability ``memory``).
        """
        FullDisk(name).strike(self)

    def skew_clock(self: Breakable, name: str, clock_rate: float) -> None:
        """A node's ticks come ``clock_rate`` times as often as they should, 0.1 to 10, and its time-outs follow."""
        SkewedClock(name, clock_rate).strike(self)

    def harm_clients(
        self: Breakable,
        name: str,
        *,
        request_loss: float = 0.0,
        request_delay_ms: float = 0.0,
        answer_loss: float = 0.0,
        answer_delay_ms: float = 0.0,
    ) -> None:
        """Requests of clients to a node, and its answers to them, are lost or late. Queries are not.

        Args:
            name: the node.
            request_loss: the share of frames with requests that are lost, 0 to 1.
            request_delay_ms: the others come so much later, 0 to 60,000 ms.
            answer_loss: the share of frames with answers that are lost.
            answer_delay_ms: the others leave so much later.
        """
        BadClientLinks(name, request_loss, request_delay_ms, answer_loss, answer_delay_ms).strike(self)

    def mend(self: Breakable, name: str) -> None:
        """End all that a node suffers by itself: its disk, its clock, its clients. A node that has ended because its
        disk was full starts again."""
        self.fleet.turns.require_open()
        self.fleet.settings(name)
        for fault in mended(name):
            fault.undo(self)

    @property
    def node_faults(self: Breakable) -> dict[str, NodeFaults]:
        """Node -> what it suffers by itself, for the nodes that are not well."""
        return self.fault_table.node_faults
