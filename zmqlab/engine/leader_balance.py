"""Who should lead a group of a cluster with shards, and how leadership goes there.

Each group has a preferred leader: the member at the address that the roster names first
(:class:`zmqlab.placement.Roster`). All nodes know the roster, and so they all agree about it without a word. A leader
that is not the preferred one hands over to it, by the leadership transfer of Raft (thesis, 3.10). When a node dies, the
groups that it led elect others; when it is back, they move back.

When a leader hands over, so that no client is worse off for it:

1. *The preferred member is well.* For :data:`PATIENCE` election time-outs on end it has answered, and it has the whole
   log but for a little (:data:`LAG_MAX`). So a node that comes and goes is given no group. Nor is one that is told to
   end: it says so (:meth:`zmqlab.engine.peers.Peers.close`), takes no requests, and would give the group away at once.
2. *Nothing is uncommitted.* The leader proposes nothing new for a moment, until all that it has is committed. Requests
   wait meanwhile, as they do in any transfer. If that takes longer than :data:`DRAIN` election time-outs, the leader
   goes on as before and tries again later. So no entry depends on what becomes of the transfer: it is on a majority,
   and the next leader has it.
3. *Raft's own rule*: the target is told to campaign only when it holds the leader's whole log.

*No ping-pong.* Leadership moves towards the preferred member and never from it, since all agree which one that is. Each
hand-over doubles the patience for the next one of this node, up to :data:`PATIENCE_MAX` times, so that a preferred
member that can't stay in office is left alone for longer and longer. It halves again whenever the preferred member has
led for :data:`STAY` times as long on end.

Left out: to move a leader away from a node that is slow. It would take a measure of slowness that all agree about.
"""

from __future__ import annotations

from collections.abc import Callable

from zmqlab.raft import ProgressState, Role
from zmqlab.replica import Replica

PATIENCE = 10
"""In election time-outs: two seconds with the node's own settings. An election takes two or three."""
PATIENCE_MAX = 16
"""Times :data:`PATIENCE`: half a minute."""
STAY = 2
"""Times the patience. After two minutes in office none is left that was more than the first."""
DRAIN = 0.5
"""In election time-outs: 100 ms. A commit takes a few milliseconds."""
LAG_MAX = 256
"""Entries that the preferred member may lack when the leader stops to propose: some milliseconds of a busy group."""


class Balance:
    """See the module. Owned by one group."""

    def __init__(
        self,
        replica: Replica,
        preferred: Callable[[], int],
        is_closing: Callable[[int], bool],
        patience: int = PATIENCE,
    ) -> None:
        """
        Args:
            preferred: tells the member that should lead now; 0: none.
            is_closing: tells whether a member is about to end.
            patience: for so many election time-outs it must have been well.
        """
        self.hand_overs = 0
        """How often this node has handed the group over."""
        self._replica = replica
        self._preferred = preferred
        self._is_closing = is_closing
        timeout = replica.replication.election_ticks
        self._patience_ticks = patience * timeout
        self._drain_ticks = max(1, round(DRAIN * timeout))
        self._factor = 1
        """Times the patience, from 1 to PATIENCE_MAX."""
        self._leads_since = 0
        """The tick since when the preferred member is known to lead, or the factor fell; 0: it does not lead."""
        self._well_since = 0
        """The tick since when the preferred member has been well; 0: it is not, or there is nothing to do."""
        self._drains_until = 0
        """The tick at which this leader gives up to wait for its commits; 0: it does not wait."""

    def tick(self) -> None:
        """Look whether it is time to hand over. To be called once a tick."""
        replication = self._replica.replication
        target = self._preferred()
        self._trust_again(target)
        if replication.role is not Role.LEADER or not self._may_lead(target):
            self.rest()
            return
        ticks = replication.ticks
        self._well_since = self._well_since or ticks
        if self._drains_until and ticks >= self._drains_until:
            self.rest()
        elif not self._drains_until and ticks - self._well_since >= self._factor * self._patience_ticks:
            self._drains_until = ticks + self._drain_ticks
            self._replica.proposes = False

    def turn(self) -> bool:
        """Hand over if all is committed. To be called once a turn, after what has come in is carried out.

        Returns whether it has begun to: what the preferred member is told goes out in another turn, right after this
        one.
        """
        is_handing_over = False
        if not self._drains_until:
            return False
        replication, target = self._replica.replication, self._preferred()
        if replication.role is not Role.LEADER or not self._may_lead(target):
            self.rest()
        elif replication.commit_index == replication.last_index:
            self.rest()
            self._factor = min(2 * self._factor, PATIENCE_MAX)
            is_handing_over = replication.hand_over(target)
            self.hand_overs += is_handing_over
        return is_handing_over

    def _trust_again(self, target: int) -> None:
        replication = self._replica.replication
        if not target or replication.leader_id != target:
            self._leads_since = 0
            return
        self._leads_since = self._leads_since or replication.ticks
        if replication.ticks - self._leads_since >= STAY * self._factor * self._patience_ticks:
            self._factor = max(1, self._factor // 2)
            self._leads_since = replication.ticks

    def _may_lead(self, target: int) -> bool:
        """Whether there is another member to hand over to, and it is well."""
        if target in (0, self._replica.replication.node_id) or self._is_closing(target):
            return False
        return self._is_well(target)

    def _is_well(self, target: int) -> bool:
        replication = self._replica.replication
        progress = replication.followers.get(target)
        return (
            progress is not None
            and target in replication.configuration.voters
            and progress.state is ProgressState.REPLICATE
            and replication.ticks - progress.heard_at < replication.election_ticks
            and replication.last_index - progress.match_index <= LAG_MAX
        )

    def rest(self) -> None:
        """Wait for nothing any more."""
        self._well_since = self._drains_until = 0
        self._replica.proposes = True
