"""What a node owes that does not know yet what it is (:mod:`zmqlab.engine.first_start`): to believe members.

* *founding*: a node that is told of a cluster at its first start joins it, and founds no other.

The word of a node that was not named, and was asked because it asked this one, is not looked at: it counts only if it
has this node among its founders.

With shards a founder that has lost its disk is told by a node that holds one of its groups: no other knows whether the
group is still to be held at its address (:class:`zmqlab.engine.group_founding.AssemblyOfShards`).
"""

from __future__ import annotations

from zmqlab.engine.first_start import FirstStart
from zmqlab.engine.group_founding import roster_in
from zmqlab.raft import Configuration
from zmqlab.settings import NodeSettings
from zmqlab.sim.checkers import Violation
from zmqlab.wire.control import StatusAnswer, decode_answer
from zmqlab.wire.node_status import NodeStatus


class Beginning:
    """Of one life of one node."""

    def __init__(self, node_id: int, settings: NodeSettings) -> None:
        self._node_id = node_id
        self._settings = settings
        self.told_by = ""
        """The address at which a member has told it of a cluster."""

    def hears(self, start: FirstStart, address: str, frame: bytes) -> None:
        """An answer comes to one of its questions."""
        answer = decode_answer(frame)
        if address not in start.callers and isinstance(answer, StatusAnswer) and start.has_asked(address, answer.nonce):
            self.told_by = self.told_by or (address if self._is_told(answer.status) else "")

    def _is_told(self, status: NodeStatus) -> bool:
        """Whether this is the word of a member that this node has to believe."""
        if not status.members or self._settings.shards == 1:
            return bool(status.members)
        own = roster_in(status, self._settings).held_by(self._settings.endpoint)
        return any(brief.number in own for brief in status.groups)

    def took_turn(self, configuration: Configuration | None) -> None:
        """A turn is over, of a node that was told. ``configuration``: of its log, once it knows what it is."""
        if configuration is None or configuration.voters == (self._node_id,):
            does = "goes on asking" if configuration is None else "founds one"
            raise Violation(f"founding: node {self._node_id} is told of a cluster at {self.told_by}, and {does}")
        self.told_by = ""  # what becomes of it later is another matter
