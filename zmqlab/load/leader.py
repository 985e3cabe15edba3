"""Who leads: asked of all nodes now and then, for those who want to send their requests straight to the leader.

Only a node's own word that it leads counts, of the highest term heard. A wrong answer costs a hop, nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from zmqlab.load.connection import Connection
from zmqlab.wire import control
from zmqlab.wire.frames import QUERY

STATUS_MS = 1_000
STATUS_UNKNOWN_MS = 50
"""The pause between questions while no leader is known: a quarter of an election."""
NS_PER_MS = 1_000_000


class LeaderWatch:
    """Sends status queries and remembers who said that it leads."""

    def __init__(self) -> None:
        self.index: int | None = None
        """The node that leads; None when it is not known."""
        self._term = -1
        """The term in which it leads; of the last leader while none is known."""
        self._nonce = 0
        self._due_ns = 0

    def is_due(self, now_ns: int) -> bool:
        """Whether it is time to ask again."""
        return now_ns >= self._due_ns

    def ask(self, nodes: Sequence[Connection], now_ns: int, group: int) -> None:
        """One question to each of ``nodes``."""
        self._nonce = secrets.randbits(63)
        frame = control.encode(QUERY, control.StatusQuery(self._nonce), group)
        for node in nodes:
            node.send(frame)
        self._due_ns = now_ns + (STATUS_UNKNOWN_MS if self.index is None else STATUS_MS) * NS_PER_MS

    def take_answer(self, index: int, answer: control.Answer) -> bool:
        """False if this is the answer to a question of somebody else."""
        if not isinstance(answer, control.StatusAnswer) or answer.nonce != self._nonce:
            return False
        status = answer.status
        if status.role == "leader" and status.term >= self._term:
            self.index, self._term = index, status.term
        elif self.index == index:
            self.forget(index)
        return True

    def forget(self, index: int) -> None:
        """This node is gone, or leads no longer."""
        if self.index == index:
            self.index = None
            self._due_ns = 0
