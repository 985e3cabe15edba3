"""The front of the core: what a driver calls, and the dispatch of messages to their handlers.

A driver's loop is: ``step`` every message that came, ``tick`` as time passes, ``propose``; then, while
``is_ready()``, take ``ready()``, do what it says in the order that :mod:`~zmqlab.raft.ready` gives, and call
``advance``. Between ``ready()`` and ``advance()`` it may step, tick and propose, but not take another Ready.

A call that is not legal now (a proposal to a follower, a transfer to a learner) returns a falsy value and
changes nothing. A broken invariant is an ``AssertionError``: the node must stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zmqlab.raft import (
    acknowledgements,
    election,
    follower,
    invariants,
    membership,
    reads,
    replication,
    roles,
    snapshots,
    transfer,
)
from zmqlab.raft.configuration import Configuration
from zmqlab.raft.messages import (
    BROADCAST,
    NOBODY,
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    EntryKind,
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
from zmqlab.raft.ready import Ready
from zmqlab.raft.state import RaftState, Role

_HANDLERS: dict[type[Any], Callable[[RaftState, Any], None]] = {
    AppendEntries: follower.handle_append,
    AppendEntriesResponse: acknowledgements.handle_append_response,
    RequestVote: election.handle_request,
    RequestVoteResponse: election.handle_response,
    InstallSnapshot: snapshots.handle_install,
    InstallSnapshotResponse: acknowledgements.handle_snapshot_response,
    TimeoutNow: transfer.handle_timeout_now,
    ReadIndex: reads.handle_request,
    ReadIndexResponse: reads.handle_response,
}


class Raft(RaftState):
    """One node's part in one Raft group.

    Parameters
    ----------
    node_id:
        Positive. A node that lost its stored state must come back under another id.
    configuration:
        The members to begin with, the same on all nodes; a snapshot's, or one in the log, takes its place.
    settings, rng:
        The numbers, and the source of chance for election timeouts.
    hard_state, snapshot, entries:
        What was stored; nothing at a first start. ``entries`` has no gap and may begin before the snapshot's
        end.
    applied_index:
        What the state machine has applied; by default what the snapshot holds.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handed_out: Ready | None = None
        self.draw_election_timeout()
        self.check_invariants()

    def step(self, message: Message) -> None:
        """Handle one message. One for somebody else, or our own broadcast come back, is ignored."""
        if message.to not in (BROADCAST, self.node_id) or message.sender == self.node_id:
            return
        if message.term == self.term or roles.admit(self, message):
            _HANDLERS[type(message)](self, message)

    def tick(self) -> None:
        """Let one tick of time pass."""
        self.ticks += 1
        if self.role is Role.LEADER:
            self._tick_leader()
        else:
            election.tick(self)
        if self.forwarded_reads:
            reads.tick(self)

    def campaign(self) -> None:
        """Try to become leader now, without waiting for a timeout. The pre-vote is held all the same."""
        election.start_pre_vote(self)

    def propose(self, datas: Sequence[bytes]) -> int:
        """Append one DATA entry for each of ``datas``. Returns the index of the first, or 0 if we may not."""
        if self.role is not Role.LEADER or self.transfer_target != NOBODY or not datas:
            return 0
        return replication.append(self, datas, EntryKind.DATA)

    def propose_configuration(self, configuration: Configuration) -> int:
        """Change the members by one server. Returns the entry's index, or 0 if that is not possible now."""
        return membership.propose(self, configuration)

    def read_index(self, context: int) -> None:
        """Ask up to where to apply before reading; ``context`` comes back in ``reads`` or
        ``failed_reads``."""
        reads.request(self, context)

    def transfer_leadership(self, target: int) -> bool:
        """Begin to hand leadership to the voter ``target``; only a leader can."""
        return transfer.start(self, target)

    def make_snapshot(self, data: bytes) -> Snapshot:
        """A snapshot at ``applied_index``, of which the state machine's part is ``data``."""
        return snapshots.make(self, data)

    def compact(self, snapshot: Snapshot, keep_entries: int) -> None:
        """Keep ``snapshot`` to send to others, and drop entries but for ``keep_entries`` before its end."""
        snapshots.compact(self, snapshot, keep_entries)

    def report_unreachable(self, node_id: int) -> None:
        """The driver knows that messages to ``node_id`` get lost."""
        acknowledgements.report_unreachable(self, node_id)

    def entries(self, from_index: int, max_bytes: int) -> list[Entry]:
        """Entries from ``from_index``, or from the oldest kept, committed or not; about ``max_bytes`` of
        them."""
        return self.log.slice(max(from_index, self.first_index), self.last_index, max_bytes)

    def is_ready(self) -> bool:
        """Whether ``ready()`` would have anything to do."""
        return bool(
            self.send_now
            or self.send_stored
            or self.log.stored_index < self.log.last_index
            or self.applied_index < self.commit_index
            or self.stored_vote != (self.term, self.voted_for)
            or self.done_reads
            or self.failed_reads
            or self.restored
            or self.announced_role != (self.role, self.term, self.leader_id)
            or (self.role is Role.LEADER and (replication.has_appends(self) or reads.are_startable(self)))
        )

    def ready(self) -> Ready:
        """Take out all that is to be done. Each Ready must be given back to ``advance`` before the next is
        taken."""
        assert self._handed_out is None, "the last Ready was not advanced"
        if self.role is Role.LEADER:
            reads.start_batch(self)
            replication.send_appends(self)
        ready = self._handed_out = Ready(snapshot=self.restored, entries=self.log.unstored())
        self._take_out_hard_state(ready)
        self._take_out_messages(ready)
        self._take_out_committed(ready)
        ready.reads, self.done_reads = self.done_reads, []
        ready.failed_reads, self.failed_reads = self.failed_reads, []
        role = (self.role, self.term, self.leader_id)
        ready.role_changed, self.announced_role = role != self.announced_role, role
        return ready

    def advance(self, ready: Ready) -> None:
        """All that ``ready`` asked for is done: its writes are stored, its entries applied."""
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
        if self.role is Role.LEADER:
            replication.commit_by_counting(self)
            membership.step_down_if_removed(self)

    def check_invariants(self) -> None:
        """Assert what must hold between the fields. For tests and for the curious; it walks the log."""
        invariants.check(self)

    def _tick_leader(self) -> None:
        self.heartbeat_elapsed += 1
        if self.heartbeat_elapsed >= self.settings.heartbeat_ticks:
            self.heartbeat_elapsed = 0
            replication.heartbeat(self)
        transfer.tick(self)
        acknowledgements.check_quorum(self)

    def _take_out_hard_state(self, ready: Ready) -> None:
        """Term and vote whenever they changed; the commit index only along with something else to store."""
        changed = self.stored_vote != (self.term, self.voted_for)
        lags = self.stored_commit < self.commit_index and (ready.entries or ready.snapshot)
        if changed or lags:
            ready.hard_state = HardState(self.term, self.voted_for, self.commit_index)
            self.stored_commit = self.commit_index

    def _take_out_messages(self, ready: Ready) -> None:
        """Also what promises nothing waits if it is of a term that is not stored yet.

        Else a sole voter could lead a term, forget that in a crash, and lead the same term again with other
        entries."""
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
