"""Getting out of a cluster, as the last thing that a node does (``--leave``).

A node that is only stopped stays a member, and counts for the majority that the others need: right for a restart, wrong
for one of many that are scaled away, for with three of five gone the two that are left could do nothing more. So such a
node asks to be removed, as anybody could ask (:mod:`zmqlab.node.asking`), when it is told to end. The leader removes
one at a time and never so many that no majority is in reach (:mod:`zmqlab.replica.members`); a leader that leaves hands
over first, and the last voter stays.

Its journal is worth keeping: a later start with ``--join`` is taken in under the same identity, and needs only what it
has missed.
"""

from __future__ import annotations

from zmqlab.node.asking import Asker
from zmqlab.raft import Raft
from zmqlab.wire import control


class Leaving:
    """Asks to be removed; ``tick`` does all of it and never blocks."""

    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        self._asker = Asker(
            lambda nonce: control.RemoveMemberQuery(nonce, raft.node_id), "does not let this node go for now"
        )

    @property
    def is_over(self) -> bool:
        """Whether this node is out, or there is nobody to leave behind."""
        raft = self._raft
        others = [voter for voter in raft.configuration.voters if voter != raft.node_id]
        return isinstance(self._asker.answer, control.OkAnswer) or not others

    def tick(self) -> None:
        """Ask until it is over."""
        if self.is_over:
            self._asker.close()
        else:
            self._asker.tick(self._raft.ticks, self._targets)

    def _targets(self) -> list[str]:
        raft = self._raft
        addresses = dict(raft.configuration.addresses)
        ids = [raft.leader_id, *raft.configuration.voters]
        return list(dict.fromkeys(addresses[each] for each in ids if each != raft.node_id and each in addresses))
