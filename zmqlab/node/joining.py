"""Getting into a cluster: a node that nobody knows asks the members until it is taken in.

It asks those whom it was told of with ``--join``, all addresses of each name, and those whom its log names
(:mod:`zmqlab.node.asking`). From there on everything is Raft: the leader appends a configuration with this node as a
learner, sends it the log, and promotes it when it has caught up. So also

- a member that was started again *at another address*, so that the others learn where it is. Where no node leads, those
  who are asked note the new address for the time being (:meth:`zmqlab.node.peers.Peers.note_moved`): when a whole
  cluster comes back at other addresses, it is by this that an election becomes possible;
- a member that was *removed while it was away*. Its own log can't tell it so, and it still hears the leader's
  broadcasts, by which Raft neither repairs it nor lets it know.

So the asking ends with the leader's word that this node votes, where it is, or when the log that came in since the
start says so; that costs a member that was only restarted one question. (Being a learner is not enough: one that is
slow may have to make room for another.) It does not begin again in this process if the node is removed later.
"""

from __future__ import annotations

from zmqlab.names import Names
from zmqlab.node.asking import Asker
from zmqlab.raft import Raft, Role
from zmqlab.settings import NodeSettings
from zmqlab.wire import control


class Joining:
    """Asks to be taken in. ``tick`` does all of it and never blocks."""

    def __init__(self, settings: NodeSettings, raft: Raft, names: Names | None = None) -> None:
        self._raft = raft
        self._own_address = settings.endpoint
        self._seeds = settings.join
        self._names = names or Names()
        self._began_at = raft.last_index
        """What the log told up to here may be old."""
        self._was_in = False
        """Whether it is known since this node's start that it votes, where it is."""
        self._asker = Asker(
            lambda nonce: control.AddMemberQuery(nonce, raft.node_id, self._own_address, settings.name),
            "does not take this node in",
        )

    def tick(self) -> None:
        """Ask while there is a reason to."""
        if self.is_wanted():
            self._asker.tick(self._raft.ticks, self._targets)
        else:
            self._asker.close()

    def close(self) -> None:
        """Close the socket, if there is one."""
        self._asker.close()

    def is_wanted(self) -> bool:
        """Whether there is a reason to ask."""
        raft = self._raft
        is_member = raft.node_id in raft.configuration.members
        is_here = dict(raft.configuration.addresses).get(raft.node_id) == self._own_address
        settled = raft.commit_index >= raft.configurations.current_index
        promoted = raft.is_voter and raft.configurations.current_index > self._began_at
        in_for_sure = is_here and settled and (promoted or raft.role is Role.LEADER)
        if isinstance(self._asker.answer, control.OkAnswer) or in_for_sure:
            self._was_in = True
        if self._was_in:
            return is_member and not is_here
        return bool(self._seeds) or (is_member and not is_here)

    def _targets(self) -> list[str]:
        """Those that were named, then those that the log knows; never this node."""
        members = [address for member, address in self._raft.configuration.addresses if member != self._raft.node_id]
        targets = dict.fromkeys([*(self._names.spread(self._seeds) if self._seeds else ()), *members])
        return [target for target in targets if target != self._own_address]
