"""The replicated state machine: sessions, the exchange, and a hash chain over all that they did.

``apply`` takes a committed entry and returns the answer for the client that waits for it. It is deterministic: the same
entries give the same answers and the same hashes on every node, in every process, at every replay.

The *chain hash* after an entry is a hash of the chain before it, the entry and its answer. Two nodes that differ at an
index did something different at or before it. The chain costs microseconds a batch, so each node can publish it all the
time. The *state hash* is a hash of the state itself (books, tapes, sessions). It costs milliseconds, and is made on
demand. Both are needed: the chain says *when* two nodes parted, the state hash sees a difference that no answer
has shown yet.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import NamedTuple

from zmqlab.errors import FrameError, JournalCorrupt, StateInvalid
from zmqlab.market.exchange import Exchange
from zmqlab.market.types import FILL_WIDTH, REPORT_STATUS, REPORT_WIDTH, Status
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica.sessions import SessionTable, Verdict
from zmqlab.settings import SessionLimits
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames
from zmqlab.wire.client import ResponseStatus

HASH_BYTES = 16
CHECKPOINT_INTERVAL = 256
"""Every so many entries the chain hash is kept for comparison with other nodes; at 1,000 entries/s four a second."""
CHECKPOINTS_KEPT = 64

_INDEX_TERM = struct.Struct("<QQB")
_SNAPSHOT = struct.Struct("<QQQQ16sI")  # applied_index orders rejected fills chain session_bytes

_STATUS_OF = {
    Verdict.STALE: ResponseStatus.STALE,
    Verdict.WINDOW_FULL: ResponseStatus.WINDOW_FULL,
    Verdict.EXPIRED: ResponseStatus.SESSION_EXPIRED,
}
_REJECTED = int(Status.REJECTED)  # a plain integer: compared once a report


class Applied(NamedTuple):
    """An answer and its request: ``key`` is (client_id, request_number), or (0, nonce) for a new session."""

    key: tuple[int, int]
    body: bytes
    reports: list[int]
    fills: list[int]
    """The flat records of the batch, for the trade topic; both empty unless it was applied just now."""


class StateMachine:
    """Everything that is replicated, after ``applied_index``."""

    def __init__(self, limits: SessionLimits | None = None, exchange: Exchange | None = None) -> None:
        self.exchange = exchange or Exchange()
        self.sessions = SessionTable(limits)
        self._answer_fills = self.sessions.limits.answer_fills
        self.applied_index = 0
        self.chain = bytes(HASH_BYTES)
        self.orders_applied = 0
        self.rejected_total = 0
        self.fills_total = 0
        self.checkpoints: dict[int, bytes] = {}
        """index -> chain hash, for the newest multiples of CHECKPOINT_INTERVAL; not replicated."""

    def apply(self, entry: Entry) -> Applied | None:
        """Apply the next committed entry; None where no client can be waiting (a no-op, a configuration)."""
        assert entry.index == self.applied_index + 1, "entries are applied in order, each once"
        self.applied_index = entry.index
        applied = self._apply_data(entry) if entry.kind == EntryKind.DATA else None
        self._extend_chain(entry, applied.body if applied else b"")
        return applied

    def _extend_chain(self, entry: Entry, body: bytes) -> None:
        digest = blake2b(self.chain, digest_size=HASH_BYTES)
        digest.update(_INDEX_TERM.pack(entry.index, entry.term, entry.kind))
        digest.update(entry.data)
        digest.update(body)
        self.chain = digest.digest()
        if entry.index % CHECKPOINT_INTERVAL == 0:
            self.checkpoints[entry.index] = self.chain
            if len(self.checkpoints) > CHECKPOINTS_KEPT:
                del self.checkpoints[next(iter(self.checkpoints))]

    def _apply_data(self, entry: Entry) -> Applied | None:
        """A request or a registration. Other bytes change nothing; nodes let none of them into the log."""
        try:
            frame_type, _ = frames.parse_header(entry.data)
            if frame_type == frames.REQUEST:
                return self._apply_request(entry)
            if frame_type == frames.OPEN_SESSION:
                return self._open_session(entry)
        except FrameError:
            pass
        return None

    def _open_session(self, entry: Entry) -> Applied:
        nonce = client_wire.parse_open_session(entry.data)
        self.sessions.open(entry.index, client_wire.owner_in(entry.data))
        body = client_wire.encode_response(entry.index, nonce, entry.index, ResponseStatus.OK)
        return Applied((0, nonce), body, [], [])

    def _apply_request(self, entry: Entry) -> Applied:
        client_id, number, answered_below, command_count = client_wire.parse_request(entry.data)
        key = (client_id, number)
        verdict, stored = self.sessions.admit(client_id, number, answered_below)
        if verdict is Verdict.REPLAY:
            return Applied(key, client_wire.replayed(stored), [], [])
        if verdict is not Verdict.APPLY:
            status = _STATUS_OF[verdict]
            return Applied(key, client_wire.encode_response(client_id, number, entry.index, status), [], [])
        reports, fills = self.exchange.execute(client_wire.request_commands(entry.data))
        self.orders_applied += command_count
        self.rejected_total += reports[REPORT_STATUS::REPORT_WIDTH].count(_REJECTED)
        self.fills_total += len(fills) // FILL_WIDTH
        body = client_wire.encode_execution(client_id, number, entry.index, reports, fills, self._answer_fills)
        self.sessions.store(client_id, number, body)
        return Applied(key, body, reports, fills)

    def state_hash(self) -> bytes:
        """A hash of the whole state: equal on all nodes at an equal index. Costs milliseconds with a large book."""
        digest = blake2b(self.chain, digest_size=HASH_BYTES)
        digest.update(self.exchange.state_hash())
        digest.update(self.sessions.snapshot())
        return digest.digest()

    def snapshot(self) -> bytes:
        """Everything that :meth:`restore` needs."""
        sessions = self.sessions.snapshot()
        fixed = _SNAPSHOT.pack(
            self.applied_index, self.orders_applied, self.rejected_total, self.fills_total, self.chain, len(sessions)
        )
        return b"".join((fixed, sessions, self.exchange.snapshot()))

    def restore(self, data: bytes) -> None:
        """Replace the state by that of a snapshot, whichever node made it.

        Raises:
            JournalCorrupt: the snapshot's books can't be restored.
        """
        index, orders, rejected, fills, chain, session_bytes = _SNAPSHOT.unpack_from(data)
        middle = _SNAPSHOT.size + session_bytes
        self.sessions.restore(data[_SNAPSHOT.size : middle])
        try:
            self.exchange.restore(data[middle:])
        except StateInvalid as error:
            raise JournalCorrupt(f"the snapshot at {index} can't be restored: {error}") from error
        self.applied_index, self.orders_applied, self.rejected_total = index, orders, rejected
        self.fills_total, self.chain = fills, chain
        self.checkpoints = {}
