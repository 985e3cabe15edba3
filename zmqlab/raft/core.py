"""The front of the core: the calls of a driver, the dispatch of messages to their handlers, and :class:`Ready`.

A driver's loop is: ``step`` every message that came, ``tick`` as time passes, ``propose``. Then, while ``is_ready()``,
take ``ready()``, carry it out in the order of its fields, and call ``advance``. Between ``ready()`` and ``advance()``
the driver may step, tick and propose, but it may not take another Ready.

A call that is not legal now (a proposal to a follower, a transfer to a learner) returns a falsy value and changes
nothing. A broken invariant is an ``AssertionError``: the node must stop.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from zmqlab.raft import append_entries, election, invariants, reads, snapshots
from zmqlab.raft.configuration import Configuration
from zmqlab.raft.messages import (
    BROADCAST,
    CONFIGURATION,
    DATA,
    NOBODY,
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    HardState,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    ReadIndex,
    ReadIndexResponse,
    RequestVote,
    RequestVoteResponse,
    Snapshot,
    TimeoutNow,
)
from zmqlab.raft.progress import Progress
from zmqlab.raft.state import LEADER, RaftSettings, RaftState

_HANDLERS: dict[type[Any], Callable[[RaftState, Any], None]] = {
    AppendEntries: append_entries.handle_append,
    AppendEntriesResponse: append_entries.handle_append_response,
    RequestVote: election.handle_request,
    RequestVoteResponse: election.handle_response,
    InstallSnapshot: snapshots.handle_install,
    InstallSnapshotResponse: append_entries.handle_snapshot_response,
    TimeoutNow: election.handle_timeout_now,
    ReadIndex: reads.handle_request,
    ReadIndexResponse: reads.handle_response,
}


@dataclass(slots=True)
class Ready:
    """One turn's work, in the order in which a driver does it. All fields may be empty.

    1. send ``send_now``
    2. store ``hard_state``, ``snapshot`` and ``entries`` in one transaction
    3. send ``send_stored``
    4. take over ``snapshot``, then apply ``committed``
    5. call ``advance(ready)``

    Steps 1 and 2 may overlap: the messages of step 1 promise nothing of what this turn stores.
    """

    send_now: Sequence[Message] = ()
    """Send before storing, or while storing."""
    hard_state: HardState | None = None
    """Replaces the stored one."""
    entries: list[Entry] = field(default_factory=list)
    """To store. They may start at or below the last stored index: then drop the stored entries from there on first."""
    snapshot: Snapshot | None = None
    """A received one. It replaces the stored log, the stored snapshot and the state machine."""
    send_stored: Sequence[Message] = ()
    """Votes, answers, and a leader's entries if the message says that they are stored. They promise what this turn
    stores."""
    committed: list[Entry] = field(default_factory=list)
    """To apply, each exactly once and in order. They are of any kind."""
    reads: Sequence[tuple[int, int]] = ()
    """``(context, index)``: the read may be answered as soon as ``index`` is applied."""
    failed_reads: Sequence[int] = ()
    """Contexts of reads that got no answer. The driver may ask again."""
    role_changed: bool = False
    """Role, term or leader differ from those at the last Ready."""


class Raft(RaftState):
    """One node's part in one Raft group.

    Args:
        node_id: positive. A node that lost its stored state must come back under another id.
        configuration: the members to begin with, the same on all nodes. A configuration in ``snapshot`` or ``entries``
            takes its place.
        settings: the time-outs in ticks, and the sizes of messages.
        rng: the source of chance for election time-outs.
        hard_state: term, vote and commit index as stored; None at a first start.
        snapshot: the newest stored snapshot, if there is one.
        entries: the stored log, without a gap. It may begin before the snapshot's end.
        applied_index: what the state machine has applied; None: what ``snapshot`` holds.

    Raises:
        AssertionError: what was stored contradicts itself.
    """

    __slots__ = ("_handed_out",)

    def __init__(
        self,
        node_id: int,
        configuration: Configuration,
        settings: RaftSettings,
        rng: random.Random,
        hard_state: HardState | None = None,
        snapshot: Snapshot | None = None,
        entries: Sequence[Entry] = (),
        applied_index: int | None = None,
    ) -> None:
        super().__init__(node_id, configuration, settings, rng, hard_state, snapshot, entries, applied_index)
        self._handed_out: Ready | None = None
        """The Ready that the driver works on and has not given back to :meth:`advance`."""
        self.draw_election_timeout()
        self.check_invariants()

    def step(self, message: Message) -> None:
        """Handle one message. A message for another node, and this node's own broadcast, are ignored."""
        if message.to not in (BROADCAST, self.node_id) or message.sender == self.node_id:
            return
        if message.term == self.term or election.admit(self, message):
            _HANDLERS[type(message)](self, message)

    def tick(self) -> None:
        """Let one tick of time pass."""
        self.ticks += 1
        if self.role is LEADER:
            self._tick_leader()
        else:
            election.tick(self)
        if self.forwarded_reads:
            reads.tick(self)

    def campaign(self) -> None:
        """Try to become leader now, without waiting for a time-out. The pre-vote is held as always."""
        election.start_pre_vote(self)

    def lose_leader(self) -> bool:
        """The process of the leader has ended, by its connections. Returns whether this node acts on it.

        It may be wrong, which costs a pre-vote; see :mod:`~zmqlab.raft.election`.
        """
        return election.lose_leader(self)

    def propose(self, datas: Sequence[bytes]) -> int:
        """Append one DATA entry for each of ``datas``.

        Returns:
            The index of the first entry; 0 if this node may not propose now, or ``datas`` is empty.
        """
        if self.role is not LEADER or self.transfer_target != NOBODY or not datas:
            return 0
        return self.append_own(datas, DATA)

    def propose_configuration(self, configuration: Configuration) -> int:
        """Append ``configuration``, which changes the members by one server, and follow it.

        From now on entries are committed by the new members, before the change is stored. Should this leader forget
        the change in a crash, what it has committed stays: a majority of the new members and one of the old members
        have a node in common (section 4.1).

        Returns:
            The index of its entry; 0 if this node may not make that change now.
        """
        if not self._may_change_to(configuration):
            return 0
        index = self.append_own([configuration.encode()], CONFIGURATION)
        self.configurations.append(index, configuration)
        self._track_members()
        append_entries.commit_by_counting(self)
        return index

    def await_commit(self, node_id: int) -> None:
        """Of a leader: the follower ``node_id`` has something in the log as it is now, and waits for its commit."""
        append_entries.await_commit(self, node_id)

    def read_index(self, context: int) -> None:
        """Ask which index to apply before reading. ``context`` comes back in ``Ready.reads`` or ``failed_reads``."""
        reads.request(self, context)

    def transfer_leadership(self, target: int) -> bool:
        """Begin to hand leadership to the voter ``target``. Returns False if this node does not lead or can't."""
        return election.start_transfer(self, target)

    def make_snapshot(self, data: bytes) -> Snapshot:
        """A snapshot at ``applied_index``; ``data`` is the state machine's part of it."""
        return snapshots.make(self, data)

    def forget_incoming(self) -> None:
        """What has arrived of a snapshot is of no use to the driver: ask the leader for all of it again."""
        self.incoming = None

    def compact(self, snapshot: Snapshot, keep_entries: int) -> None:
        """Keep ``snapshot`` to send to others, and drop all but ``keep_entries`` of the entries that it covers."""
        snapshots.compact(self, snapshot, keep_entries)

    def entries(self, from_index: int, max_bytes: int) -> list[Entry]:
        """About ``max_bytes`` of the entries from ``from_index``, or from the oldest kept one; committed or not."""
        return self.log.slice(max(from_index, self.first_index), self.last_index, max_bytes)

    def is_ready(self) -> bool:
        """Whether ``ready()`` would have work for the driver."""
        log, term = self.log, self.term  # asked twice or more in each turn, so that no tuple is built here
        stored_term, stored_vote = self.stored_vote
        role, announced_term, leader_id = self.announced_role
        return bool(
            self.send_now
            or self.send_stored
            or log.stored_index < log.last_index
            or self.applied_index < self.commit_index
            or stored_term != term
            or stored_vote != self.voted_for
            or self.done_reads
            or self.failed_reads
            or self.restored
            or role is not self.role
            or announced_term != term
            or leader_id != self.leader_id
            or (
                role is LEADER
                and (append_entries.has_appends(self) or (self.requested_reads and reads.are_startable(self)))
            )
        )

    def ready(self) -> Ready:
        """Take out all work that is due. It must be given back to ``advance`` before the next Ready is taken."""
        assert self._handed_out is None, "the last Ready was not advanced"
        if self.role is LEADER:
            if self.requested_reads:
                reads.start_batch(self)
            append_entries.send_appends(self)
        log = self.log
        entries = log.unstored() if log.stored_index < log.last_index else []
        ready = self._handed_out = Ready((), None, entries, self.restored)
        self._take_out_hard_state(ready)
        self._take_out_messages(ready)
        if self.applied_index < self.commit_index:
            self._take_out_committed(ready)
        if self.done_reads or self.failed_reads:
            ready.reads, self.done_reads = self.done_reads, []
            ready.failed_reads, self.failed_reads = self.failed_reads, []
        role = (self.role, self.term, self.leader_id)
        ready.role_changed, self.announced_role = role != self.announced_role, role
        return ready

    def advance(self, ready: Ready) -> None:
        """The work of ``ready`` is done: its writes are stored, its entries are applied."""
        assert ready is self._handed_out, "not the Ready that was handed out"
        self._handed_out = None
        if ready.snapshot is not None:
            self.applied_index = max(self.applied_index, ready.snapshot.index)
            if self.restored is ready.snapshot:
                self.restored = None
        if ready.committed:
            self.applied_index = ready.committed[-1].index
        if ready.entries:
            self.log.mark_stored(ready.entries[-1])
        if self.role is LEADER:
            append_entries.commit_by_counting(self)
            election.step_down_if_removed(self)
        elif self.countable_index > self.commit_index:
            append_entries.commit_with_leader(self)

    def check_invariants(self) -> None:
        """Assert what must hold between the fields. It walks the whole log, so it is for tests and for a start."""
        invariants.check(self)

    def _tick_leader(self) -> None:
        self.heartbeat_elapsed += 1
        if self.heartbeat_elapsed >= self.settings.heartbeat_ticks:
            self.heartbeat_elapsed = 0
            append_entries.heartbeat(self)
        election.tick_transfer(self)
        election.check_quorum(self)

    def _may_change_to(self, configuration: Configuration) -> bool:
        """The rules of section 4.1: one server at a time, one change at a time, and an entry of the own term first."""
        if self.role is not LEADER or self.transfer_target != NOBODY or not configuration.voters:
            return False
        settled = self.has_committed_in_term and self.commit_index >= self.configurations.current_index
        return settled and self.configuration.differs_by_one(configuration)

    def _track_members(self) -> None:
        """Of a leader: begin to track members that are new, and forget members that are gone."""
        members = self.configuration.members
        for member in members:
            if member != self.node_id and member not in self.progress:
                self.progress[member] = Progress(member, self.last_index + 1, self.ticks)
                self.due.add(member)
        for gone in set(self.progress) - set(members):
            del self.progress[gone]
            self.due.discard(gone)

    def _take_out_hard_state(self, ready: Ready) -> None:
        """Store term and vote whenever they changed, and the commit index only along with another write."""
        changed = self.stored_vote != (self.term, self.voted_for)
        lags = self.stored_commit < self.commit_index and (ready.entries or ready.snapshot)
        if changed or lags:
            ready.hard_state = HardState(self.term, self.voted_for, self.commit_index)
            self.stored_commit = self.commit_index

    def _take_out_messages(self, ready: Ready) -> None:
        """Hand out the messages. While the term is not stored yet, all of them wait until it is.

        Otherwise a sole voter could lead a term, forget that in a crash, and lead the same term again with other
        entries.
        """
        now, stored = self.send_now, self.send_stored
        self.send_now, self.send_stored = [], []
        if self.stored_vote != (self.term, self.voted_for):
            self.stored_vote = (self.term, self.voted_for)
            now, stored = [], now + stored
        ready.send_now, ready.send_stored = now, stored

    def _take_out_committed(self, ready: Ready) -> None:
        first_index = self.applied_index + 1
        if self.restored is not None:
            first_index = max(first_index, self.restored.index + 1)
        if first_index <= self.commit_index:
            ready.committed = self.log.slice(first_index, self.commit_index, self.settings.max_apply_bytes)
