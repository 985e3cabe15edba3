"""Which copy of a request counts: the session rules a second time, for the ledger.

Written from the documents (Raft thesis, 6.3, and ``docs/wire-format.md``), not from
:mod:`zmqlab.replica.sessions`: a list of clients in the order of their last use, a set of answers each.
Left out: the bounds in bytes, which a simulated run never reaches.
"""

from __future__ import annotations

from zmqlab.settings import SessionLimits
from zmqlab.wire.client import ResponseStatus


class SessionRules:
    """All sessions that there are by now."""

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._by_use: list[int] = []
        self._below: dict[int, int] = {}
        self._answers: dict[tuple[int, int], bytes] = {}

    def open(self, client_id: int) -> None:
        """A registration; too many sessions cost the one that was used least recently."""
        self._by_use.append(client_id)
        self._below[client_id] = 1
        if len(self._by_use) > self._limits.max_sessions:
            del self._below[self._by_use.pop(0)]

    def judge(self, client_id: int, number: int, answered_below: int) -> tuple[ResponseStatus, bytes]:
        """The status, and the stored answer of a request that was answered before."""
        if client_id not in self._below:
            return ResponseStatus.SESSION_EXPIRED, b""
        self._by_use.remove(client_id)
        self._by_use.append(client_id)
        below = self._below[client_id] = max(self._below[client_id], min(answered_below, number))
        if number < below:
            return ResponseStatus.STALE, b""
        if (client_id, number) in self._answers:
            return ResponseStatus.OK, self._answers[client_id, number]
        if number >= below + self._limits.window_requests:
            return ResponseStatus.WINDOW_FULL, b""
        return ResponseStatus.OK, b""

    def remember(self, client_id: int, number: int, body: bytes) -> None:
        """The request was carried out with this answer."""
        self._answers[client_id, number] = body
