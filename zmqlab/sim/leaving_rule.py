"""Which nodes a client's session may leave, judged a second time by what it was told (:class:`Leaving`)."""

from __future__ import annotations

from zmqlab.client.roster import Contact
from zmqlab.sim.checkers import Violation
from zmqlab.wire import control


class Leaving:
    """Which nodes a session may leave.

    A session may leave a node only if the newest membership that it was told has no such voter, and only while it is
    connected to a majority of that membership's voters. Otherwise an old word, or that of a minority, may take the last
    nodes away that answer. What is newest is judged here a second time: by commit index, and then by term.
    """

    def __init__(self, client: int, group: int) -> None:
        self._client = client
        self._group = group
        self._nonces: set[int] = set()
        self._newest = -1, -1
        self._voters: dict[int, str] = {}
        """Node id -> endpoint, of the newest membership."""

    def asked(self, query: control.Query) -> None:
        """The session asks a node for its status."""
        self._nonces.add(query.nonce)

    def told(self, answer: control.Answer) -> None:
        """A node's answer is about to reach the session. A node that is no member does not know who is."""
        if not isinstance(answer, control.StatusAnswer) or answer.nonce not in self._nonces:
            return
        status = answer.status
        if status.group != self._group:
            return
        place = status.commit_index, status.term
        voters = {member.node_id: member.client_endpoint for member in status.members if member.voter}
        if voters and place >= self._newest and status.node_id in [member.node_id for member in status.members]:
            self._newest, self._voters = place, voters

    def left(self, contact: Contact, kept: list[Contact]) -> None:
        """The session has left ``contact`` and keeps the others."""
        connected = {each.node_id for each in kept if each.connected} & self._voters.keys()
        if 2 * len(connected) <= len(self._voters):
            raise Violation(
                f"leaving: client {self._client} leaves {contact.endpoint}, but is connected to {sorted(connected)} "
                f"of the voters {sorted(self._voters)} alone"
            )
        missed = [each for each, endpoint in self._voters.items() if endpoint == contact.endpoint]
        if not connected.issuperset(missed) and contact.endpoint not in [each.endpoint for each in kept]:
            raise Violation(f"leaving: client {self._client} leaves {contact.endpoint}, where voter {missed[0]} is")
