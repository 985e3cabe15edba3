"""No agreement at all: every node applies what it gets at once, and broadcasts it.

This is how many first versions of a distributed exchange work, the quick-start text that inspired this project among
them. A node that gets a request gives it the next number of its *own* sequence, stores, applies and answers it, and
publishes it. The others append what they hear to *their* sequences. Now and then, when it makes a snapshot, a node
publishes its whole state, and a node that is behind takes that over.

*What is won.* An answer waits for no other node, and no node waits for a leader: there is none. Each node serves as
long as it runs.

*What is lost.* One order of things. Two nodes that get different requests at the same time apply them in different
orders, and from there on their books differ. A broadcast that is lost is not sent again: what a node missed while it
was dead, cut off or slow is missing there, and all later requests stand at other numbers. A whole state that is taken
over wipes out what only this node had.

How it is dressed as a :class:`~zmqlab.replica.replication.Replication`: each node leads alone, in a term of its own
(its rank among the members), so that it takes requests itself. All entries are of term 1. What is published is an
AppendEntries for all; the index in it is of the sender's sequence and means nothing to the others. A whole state is an
InstallSnapshot in one piece. What is stored is never dropped, so that all that is stored counts as committed.

Left out: members that come and go. A group has its founders.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zmqlab.errors import FrameError
from zmqlab.raft import (
    BROADCAST,
    NOBODY,
    AppendEntries,
    Entry,
    EntryKind,
    InstallSnapshot,
    Message,
    Ready,
    Role,
    Snapshot,
)
from zmqlab.raft.log import Log
from zmqlab.replica.raft_by_quorum import RaftByQuorum
from zmqlab.replica.replication import Change, Start

ENTRY_TERM = 1
"""The same for all: a sequence has no leader that a term could name."""
PATIENCE = 10
"""Election time-outs, two seconds by default, in which a node that starts waits to hear all others: some times what
connections take when the nodes of a cluster start together."""


class Broadcast(RaftByQuorum):
    """See the module. Of Raft it has the log, the order of writes and messages, and nothing that agrees."""

    __slots__ = ("_unheard",)

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self._unheard = {*self.configuration.members} - {self.node_id}
        """Members that this node has heard nothing of since it started."""
        self.voted_for = self.node_id
        self.term = max(self.term, 1 + sorted({*self.configuration.members, self.node_id}).index(self.node_id))
        if not self.log.last_index:
            self.log.append([Entry(1, ENTRY_TERM, EntryKind.NO_OP, b"")])  # the same first entry on every node
        self._begin_if_all_are_heard()

    # What comes in.

    def propose(self, datas: Sequence[bytes]) -> int:
        """Take these requests, and tell the others."""
        start = first = self.log.last_index + 1
        self._append(datas)
        while start <= self.log.last_index:
            entries = tuple(self.log.slice(start, self.log.last_index, self.settings.max_append_bytes))
            message = AppendEntries(self.node_id, BROADCAST, self.term, start - 1, 0, 0, self.next_round(), entries)
            self.send_now.append(message)
            start += len(entries)
        return first

    def step(self, message: Message) -> None:
        """Another node took requests, or tells its whole state."""
        if message.sender == self.node_id:
            return
        self._unheard.discard(message.sender)
        self._begin_if_all_are_heard()
        if isinstance(message, AppendEntries):
            self._append([entry.data for entry in message.entries])
        elif isinstance(message, InstallSnapshot) and message.snapshot_index > self.log.last_index:
            self.snapshot = self.restored = Snapshot(
                message.snapshot_index, message.snapshot_term, self.configuration, message.data
            )
            self.log = Log(message.snapshot_index, message.snapshot_term)
            self.commit_index = message.snapshot_index

    def expect(self, message: Message) -> None:
        """Refuse what no node says that keeps these rules."""
        is_whole = isinstance(message, InstallSnapshot) and message.done and not message.offset
        if message.sender in (NOBODY, self.node_id) or not (isinstance(message, AppendEntries) or is_whole):
            raise FrameError(f"{message.sender:#x} sends no broadcast: do all nodes have the same --replication?")

    def tick(self) -> None:
        """Tell the others now and then that this node is there."""
        self.ticks += 1
        if self.ticks % self.settings.heartbeat_ticks == 0:
            self.send_now.append(AppendEntries(self.node_id, BROADCAST, self.term, 0, 0, 0, self.next_round(), ()))
        self._begin_if_all_are_heard()

    def _begin_if_all_are_heard(self) -> None:
        """Take requests from now on. When a cluster starts, what is broadcast too early is heard by no other node."""
        waited = self.ticks >= PATIENCE * self.settings.election_ticks
        if self.role is not Role.LEADER and (waited or not self._unheard):
            self.role, self.leader_id = Role.LEADER, self.node_id

    def read_index(self, context: int) -> None:
        """A read sees what this node has stored, as soon as that is applied."""
        self.done_reads.append((context, self.log.stored_index))

    def _append(self, datas: Sequence[bytes]) -> None:
        first = self.log.last_index + 1
        self.log.append([Entry(index, ENTRY_TERM, EntryKind.DATA, data) for index, data in enumerate(datas, first)])

    # What is to be done.

    def is_ready(self) -> bool:
        """Whether there is anything to send, store, apply or answer."""
        return bool(
            self.send_now
            or self.done_reads
            or self.restored
            or self.log.stored_index < self.log.last_index
            or self.applied_index < self.log.stored_index
        )

    def ready(self) -> Ready:
        """Send and store what is new, and apply what is stored."""
        ready = self._handed_out = Ready(snapshot=self.restored, entries=self.log.unstored())
        self._take_out_hard_state(ready)
        self._take_out_messages(ready)
        self._take_out_committed(ready)
        ready.reads, self.done_reads = self.done_reads, []
        return ready

    def advance(self, ready: Ready) -> None:
        """What is stored is final here."""
        self._handed_out = None
        if ready.snapshot is not None:
            self.applied_index, self.restored = ready.snapshot.index, None
        if ready.committed:
            self.applied_index = ready.committed[-1].index
        if ready.entries:
            self.log.mark_stored(ready.entries[-1])
        self.commit_index = self.log.stored_index

    def compact(self, snapshot: Snapshot, keep_entries: int) -> None:
        """A snapshot is made: now and then the others are told the whole state, if it fits one frame."""
        super().compact(snapshot, keep_entries)
        if len(snapshot.data) <= self.settings.max_append_bytes:
            where = snapshot.index, snapshot.term
            members = snapshot.configuration.encode()
            chunk = InstallSnapshot(
                self.node_id, BROADCAST, self.term, self.next_round(), *where, 0, True, snapshot.data, members
            )
            self.send_now.append(chunk)

    # Members and leadership: there is nothing to change.

    def campaign(self) -> None:
        """Each node leads already."""

    def lose_leader(self) -> bool:
        """No node has another one that leads it."""
        return False

    def hand_over(self, target: int = NOBODY) -> bool:
        """No other node can take over."""
        return False

    def add_member(self, node_id: int, address: str, elsewhere: Collection[int] = ()) -> Change:
        """Members that are in stay; no other one is taken in."""
        return Change.DONE if (node_id, address) in self.configuration.addresses else Change.FIXED

    def remove_member(self, node_id: int) -> Change:
        """No member is let go."""
        return Change.FIXED

    def set_roster(self, roster: bytes) -> Change:
        """No node comes or goes."""
        return Change.FIXED
