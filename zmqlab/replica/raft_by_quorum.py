"""Raft, answered after a quorum: the replication of production.

:class:`RaftByQuorum` is :class:`zmqlab.raft.Raft` with what the seam (:mod:`zmqlab.replica.replication`) asks of it
beside consensus: the policy of membership (:mod:`zmqlab.replica.members`), the moment of an answer, and the refusal of
messages that no node can have sent that keeps Raft's rules.

*When is an answer given?* When its entry is committed: a majority of the voters has stored it, an entry of the leader's
own term among them (thesis, 3.6.2). What is applied is committed, so that an answer never waits once its entry is
applied.

*What is refused?* Raft takes a contradiction in a message for a broken invariant, and the node would stop. A
stranger's process must not be able to do that. So these are refused before Raft sees them: a second leader of a term,
an answer to a question that was not asked, a log that disagrees with what is committed, a term that no number of
elections explains.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from zmqlab.errors import FrameError
from zmqlab.raft import (
    NOBODY,
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    Progress,
    Raft,
    Role,
    TimeoutNow,
)
from zmqlab.replica.members import Members
from zmqlab.replica.replication import Change, Start

MAX_TERMS_AHEAD = 1 << 32
"""An election a millisecond needs 49 days for so many; and a forged term can't use up the 64 bits that there are."""

_NO_FOLLOWERS: Mapping[int, Progress] = {}


class RaftByQuorum(Raft):
    """See the module."""

    __slots__ = ("_members",)

    def __init__(self, start: Start) -> None:
        stored = start.stored
        super().__init__(
            start.node_id,
            stored.snapshot.configuration if stored.snapshot else start.founders,
            start.settings,
            start.rng,
            hard_state=stored.hard_state,
            snapshot=stored.snapshot,
            entries=stored.entries,
        )
        self._members = Members(self)

    @property
    def answerable_index(self) -> int:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self.commit_index

    @property
    def election_ticks(self) -> int:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self.settings.election_ticks

    @property
    def configuration_index(self) -> int:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self.configurations.current_index

    @property
    def followers(self) -> Mapping[int, Progress]:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self.progress if self.role is Role.LEADER else _NO_FOLLOWERS

    def members_at(self, index: int) -> Configuration:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self.configurations.at(index)

    def tick(self) -> None:
        """One tick of Raft, and a look at the learners."""
        super().tick()
        self._members.tick()

    def add_member(self, node_id: int, address: str, elsewhere: Collection[int] = ()) -> Change:
        """See :meth:`zmqlab.replica.members.Members.add`."""
        return self._members.add(node_id, address, elsewhere)

    def remove_member(self, node_id: int) -> Change:
        """See :meth:`zmqlab.replica.members.Members.remove`."""
        return self._members.remove(node_id)

    def hand_over(self, target: int = NOBODY) -> bool:
        """See :meth:`zmqlab.replica.members.Members.hand_over`."""
        return self._members.hand_over(target)

    # What is refused.

    def expect(self, message: Message) -> None:
        """See :class:`~zmqlab.replica.replication.Replication`; and the module."""
        sender, term = message.sender, message.term
        if sender in (NOBODY, self.node_id):
            raise FrameError(f"a message from {sender:#x} came here")
        if term > self.term + MAX_TERMS_AHEAD:
            raise FrameError(f"term {term} is too far from {self.term}")
        if isinstance(message, AppendEntries | InstallSnapshot | TimeoutNow):
            if term == self.term and self.leader_id not in (NOBODY, sender):
                raise FrameError(f"{sender:#x} says that it leads in term {term}, but {self.leader_id:#x} does")
            if isinstance(message, AppendEntries):
                self._expect_same_past(message)
        elif isinstance(message, AppendEntriesResponse | InstallSnapshotResponse) and term == self.term:
            self._expect_asked(message)

    def _expect_same_past(self, message: AppendEntries) -> None:
        """What is committed here stands in the log of every later leader (thesis, 3.6.3)."""
        covered = self.commit_index - message.prev_index
        if message.term < self.term or not 0 < covered <= len(message.entries):
            return
        entry = message.entries[covered - 1]
        if not self.log.matches(entry.index, entry.term):
            raise FrameError(f"{message.sender:#x} has another entry {entry.index} than the one that is committed")

    def _expect_asked(self, message: AppendEntriesResponse | InstallSnapshotResponse) -> None:
        """An answer belongs to a message of this leader, and claims nothing that this leader does not have."""
        progress = self.progress.get(message.sender)
        if progress is None:
            return
        if message.round > self.round:
            raise FrameError(f"round {message.round} is answered before it was begun")
        if isinstance(message, AppendEntriesResponse):
            is_beyond = message.success and message.index > self.last_index
        else:
            snapshot = progress.snapshot
            is_beyond = snapshot is not None and message.offset > len(snapshot.data)
        if is_beyond:
            raise FrameError(f"{message.sender:#x} claims more than this leader has")
