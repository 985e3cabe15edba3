"""Raft, answered before the quorum: the leader applies and answers what it has stored itself.

What ``acks=1`` is elsewhere. Leaders are elected, and the log is copied, as :mod:`zmqlab.replica.raft_by_quorum` does
it. One thing is different. The leader does not wait for its followers: it applies an entry as soon as its own disk has
it, and all that is applied may be answered.

*What is won.* The way to the followers and back is no part of the answer any more, and a leader whose followers are
slow or gone goes on answering, for as long as it leads.

*What is lost.* When that leader dies, or is cut off, its successor may never have heard of the last entries. Their
clients were told that all is done.

*Taking back.* A leader that comes back finds that its last entries are not in the log of its successor. Raft drops them
from the log (thesis, section 3.5). But this leader has applied them, and Raft never takes back what is applied. So the
state machine begins again here: from this node's last snapshot, or from nothing, and applies its log once more.

A request that a follower took is answered by that follower when it applies the entry, and a follower applies what is
committed, as in Raft. So only requests that the leader itself took are answered early. Reads wait for a quorum, but may
see what is lost later.

Left out: a snapshot that holds an entry which is lost. A leader makes one every 16 MiB of log, and such a node would
have to be wiped; it stops and says so.
"""

from __future__ import annotations

from zmqlab.raft import Message, Ready, Role, Snapshot
from zmqlab.replica.machine import StateMachine
from zmqlab.replica.raft_by_quorum import RaftByQuorum
from zmqlab.replica.replication import Start

ALL_THAT_IS_APPLIED = (1 << 63) - 1
"""As an ``answerable_index``: above every index."""


class LeaderAnswers(RaftByQuorum):
    """See the module. ``applied_index`` runs ahead of ``commit_index``, on a node that leads or has led."""

    __slots__ = ("_applied_term",)

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self._applied_term = start.stored.snapshot.term if start.stored.snapshot else 0
        """Of the last entry that was applied."""

    @property
    def answerable_index(self) -> int:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return ALL_THAT_IS_APPLIED

    @property
    def early_index(self) -> int:
        """A leader applies, and answers, its log up to here, if Raft does not allow more: what it has stored itself.

        Another rule is a class of its own, which needs only this (``docs/write-your-own.md``).
        """
        return self.log.stored_index

    def is_ready(self) -> bool:
        """Whether there is work; a leader also has what it may apply early."""
        return super().is_ready() or (self.role is Role.LEADER and self.applied_index < self._end_of_what_applies())

    def ready(self) -> Ready:
        """Raft's next work, and of a leader what it may apply early."""
        ready = super().ready()
        if self.role is Role.LEADER and ready.snapshot is None:
            end = self._end_of_what_applies()
            ready.committed = self.log.slice(self.applied_index + 1, end, self.settings.max_apply_bytes)
        return ready

    def _end_of_what_applies(self) -> int:
        """Of a leader. Nothing is applied that this node has not stored, whatever the rule says."""
        return max(self.commit_index, min(self.early_index, self.log.stored_index))

    def advance(self, ready: Ready) -> None:
        """The work of ``ready`` is done."""
        if ready.committed:
            self._applied_term = ready.committed[-1].term
        elif ready.snapshot is not None:
            self._applied_term = ready.snapshot.term
        super().advance(ready)

    def step(self, message: Message) -> None:
        """Handle one message; what it drops from the log is taken back."""
        is_ahead = self.applied_index > self.commit_index
        super().step(message)
        if is_ahead:
            self._take_back()

    def _take_back(self) -> None:
        """Begin the state anew if the entry that was applied last is not in the log any more."""
        if self.restored is not None:  # a snapshot of the leader replaces log and state
            self.applied_index = min(self.applied_index, self.restored.index)
        elif self.log.term_at(self.applied_index) != self._applied_term:
            base = self.snapshot or Snapshot(0, 0, self.members_at(0), StateMachine().snapshot())
            assert base.index <= self.commit_index, "a snapshot holds orders that the group has lost: wipe this node"
            self.snapshot = self.restored = base
            self.applied_index = base.index
            self.log.stored_index = base.index  # the snapshot replaces the stored log, so all after it is stored again
