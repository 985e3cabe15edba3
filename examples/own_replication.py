"""Three rules for when a leader may answer: two that look right, and one that is.

Read docs/write-your-own.md with it. Each class is Raft but for one question: up to where may a leader apply its log and
answer the clients? Try them from the folder above this one::

    zmqlab sim --runs 1000 --replication examples.own_replication:TwoCopies
"""

from __future__ import annotations

from zmqlab.raft import quorum_size
from zmqlab.replica.leader_answers import LeaderAnswers


class TwoCopies(LeaderAnswers):
    """An order is done when the leader and one other node have stored it.

    In a group of three that is a majority. In a group of five, three others may elect a leader that has never heard of
    it.
    """

    __slots__ = ()

    @property
    def early_index(self) -> int:
        return self.stored_by(2)

    def stored_by(self, nodes: int) -> int:
        """The last index up to which so many voters, this leader among them, have stored its log."""
        others = [self.progress[voter].match_index for voter in self.configuration.voters if voter != self.node_id]
        stored = sorted([self.log.stored_index] * self.is_voter + others, reverse=True)
        return stored[min(nodes, len(stored)) - 1]


class Majority(TwoCopies):
    """An order is done when a majority has stored it, whichever leader it comes from.

    Nearly right. A majority may hold an entry of an older term, and still lose it to a leader of a term in between
    (Raft paper, figure 8).
    """

    __slots__ = ()

    @property
    def early_index(self) -> int:
        return self.stored_by(quorum_size(len(self.configuration.voters)))


class MajorityOfTheTerm(Majority):
    """An order is done when a majority has stored it, and after it an entry of the leader's own term. That is Raft."""

    __slots__ = ()

    @property
    def early_index(self) -> int:
        index = super().early_index
        return index if self.log.term_at(index) == self.term else 0
