"""A node's end by SIGTERM: in order, and within a bound.

From the signal on, requests of clients are refused with CLOSING, which sends them to another node at once. What this
node has taken before is answered when it is applied, and a leader hands leadership over, so that nobody waits for an
election (thesis, 3.10). The node ends when nothing is left to do, or after ``drain_ms``: without a majority neither can
be done, and whoever stops a node should not have to wait for what will not come. A node that is to leave the group
(:mod:`zmqlab.node.leaving`) does so meanwhile.
"""

from __future__ import annotations

from zmqlab.node.leaving import Leaving
from zmqlab.raft import Role
from zmqlab.replica import Replica

HAND_OVER_TICKS = 10
"""Between two tries: a successor that does not answer is not waited for longer."""


class Closing:
    """Begun by :meth:`begin`; ``tick`` does the rest until :attr:`is_over`."""

    def __init__(self, replica: Replica, drain_ticks: int, leaving: Leaving | None = None) -> None:
        """``leaving``: of a node that shall be out of the group when it ends."""
        self._replica = replica
        self._leaving = leaving
        self._drain_ticks = drain_ticks
        self._ticks_left = -1

    @property
    def begun(self) -> bool:
        """Whether the node takes no more requests."""
        return self._ticks_left >= 0

    @property
    def is_over(self) -> bool:
        """Whether the node may end now."""
        if not self.begun:
            return False
        stays = self._leaving is not None and not self._leaving.is_over
        return self._ticks_left == 0 or not (self._replica.pending or self._leads_others() or stays)

    def begin(self) -> None:
        """Take no more requests from now on."""
        self._ticks_left = self._drain_ticks

    def tick(self) -> None:
        """Let one tick pass."""
        if not self.begun:
            return
        if self._ticks_left % HAND_OVER_TICKS == 0 and self._leads_others():
            self._replica.members.hand_over()
        if self._leaving is not None:
            self._leaving.tick()
        self._ticks_left = max(0, self._ticks_left - 1)

    def _leads_others(self) -> bool:
        raft = self._replica.raft
        return raft.role is Role.LEADER and len(raft.configuration.voters) > 1
