"""What nodes say of themselves, asked now and then: who leads, and who belongs to the cluster.

One question serves both: the leader is for those who want to send their requests straight to it, the members are for
:mod:`~zmqlab.load.roster`. Only a node's own word that it leads counts, of the highest term heard; a wrong answer costs
a hop, nothing else.

All connected nodes are asked once a second, sooner when there is reason to: a connection has come or gone, no leader is
known to one who wants it, or half the nodes or more can't be reached, so that others may have taken their places.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from zmqlab.load.connection import Connection
from zmqlab.wire import control
from zmqlab.wire.frames import QUERY

STATUS_MS = 1_000
STATUS_MINORITY_MS = 250
STATUS_SOON_MS = 50
"""The pause between questions while no leader is known: a quarter of an election."""
NS_PER_MS = 1_000_000


class StatusWatch:
    """Sends status queries and remembers who said that it leads."""

    def __init__(self, wants_leader: bool) -> None:
        self.leader: int | None = None
        """Index of the node that leads; None when it is not known."""
        self._wants_leader = wants_leader
        self._term = -1
        """The term in which it leads; of the last leader while none is known."""
        self._first_nonce = secrets.randbits(62)
        self._asked = 0
        """Rounds of questions so far; a round's nonce is the first one plus its number."""
        self._asked_ns = 0
        self._due_ns = 0
        self._connected = 0
        """How many nodes were connected at the last look."""

    def look(self, nodes: Sequence[Connection], now_ns: int, group: int) -> None:
        """Ask those of ``nodes`` that are connected, if it is time to."""
        connected = [node for node in nodes if node.connected]
        if len(connected) != self._connected:
            self._connected = len(connected)
            self._hurry(STATUS_SOON_MS)
        if now_ns < self._due_ns or not connected:
            return
        self._asked += 1
        frame = control.encode(QUERY, control.StatusQuery(self._first_nonce + self._asked), group)
        for node in connected:
            node.send_query(frame)
        self._asked_ns = now_ns
        self._due_ns = now_ns + STATUS_MS * NS_PER_MS
        if 2 * len(connected) <= len(nodes):
            self._hurry(STATUS_MINORITY_MS)
        if self._wants_leader and self.leader is None:
            self._hurry(STATUS_SOON_MS)

    def take_answer(self, index: int, answer: control.Answer) -> control.NodeStatus | None:
        """The status that node ``index`` tells; None if this answers a question of somebody else."""
        if not isinstance(answer, control.StatusAnswer):
            return None
        if not 0 < answer.nonce - self._first_nonce <= self._asked:
            return None
        status = answer.status
        if status.role == "leader" and status.term >= self._term:
            self.leader, self._term = index, status.term
        elif self.leader == index:
            self.forget(index)
        return status

    def forget(self, index: int) -> None:
        """This node is gone, or leads no longer."""
        if self.leader == index:
            self.leader = None
            if self._wants_leader:
                self._hurry(0)

    def _hurry(self, pause_ms: int) -> None:
        """The next question comes so soon after the last one at the latest."""
        self._due_ns = min(self._due_ns, self._asked_ns + pause_ms * NS_PER_MS)
