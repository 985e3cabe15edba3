"""Another way to replicate, for tests: the leader answers as soon as it has stored an entry itself.

What ``acks=1`` is elsewhere. It is Raft but for one rule: what the leader has stored counts as committed, so that
nothing waits for a quorum. When that leader is lost, its successor may never have heard of an order that was
acknowledged.
"""

from __future__ import annotations

from zmqlab.raft import Ready, Role
from zmqlab.replica import RaftByQuorum


class LeaderAcknowledges(RaftByQuorum):
    """See the module."""

    def advance(self, ready: Ready) -> None:
        """After each write the leader applies, and answers, all that it has stored."""
        super().advance(ready)
        if self.role is Role.LEADER:
            self.commit_index = max(self.commit_index, self.log.stored_index)
