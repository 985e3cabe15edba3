"""The replicated state machine: sessions, the exchange, and a hash chain over all that they did.

``apply`` takes a committed entry and returns the answer for the client that waits for it. It is deterministic: the same
entries give the same answers and the same hashes on every node, in every process, at every replay.

The *chain hash* after an entry is a hash of the chain before it, the entry and its answer. Two nodes that differ at an
index did something different at or before it. The chain costs microseconds a batch, so each node can publish it all the
time. The *state hash* is the hash of the snapshot, which is the state itself (books, tapes, sessions) in canonical
bytes. It costs up to half a second of work, and is made on demand. Both are needed: the chain says *when* two nodes
parted, the state hash sees a difference that no answer has shown yet.

No caller has to wait for the whole of a large state. :meth:`StateMachine.freeze` gives its bytes in slices, while
entries go on being applied. :class:`Restoring` builds another state from a snapshot's bytes as they arrive, and checks
them, while this one goes on; :meth:`StateMachine.adopt` then takes it over at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

from zmqlab.errors import FrameError, JournalCorrupt, StateInvalid
from zmqlab.market.canonical import SLICE_ROWS, Pieces, hash_slices
from zmqlab.raft.messages import DATA, Entry
from zmqlab.replica.execution import AnyExchange, new_exchange
from zmqlab.replica.sealed_records import NEW_MEMBER
from zmqlab.replica.sessions import SessionTable, Verdict
from zmqlab.settings import SessionLimits
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames
from zmqlab.wire.client import COMMANDS_OFFSET, ResponseStatus
from zmqlab.wire.records import FILL

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


class Applied(NamedTuple):
    """An answer and its request: ``key`` is (client_id, request_number), or (0, nonce) for a new session."""

    key: tuple[int, int]
    body: bytes
    reports: bytes
    fills: bytes
    """The packed records of the batch, for the trade topic; both empty unless it was applied just now."""


class StateMachine:
    """Everything that is replicated, after ``applied_index``."""

    def __init__(self, limits: SessionLimits | None = None, exchange: AnyExchange | None = None) -> None:
        self.exchange = exchange or new_exchange()
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
        applied = self._apply_data(entry) if entry.kind == DATA else None
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
        return Applied((0, nonce), body, b"", b"")

    def _apply_request(self, entry: Entry) -> Applied:
        client_id, number, answered_below, command_count = client_wire.parse_request(entry.data)
        key = (client_id, number)
        verdict, stored = self.sessions.admit(client_id, number, answered_below)
        if verdict is Verdict.REPLAY:
            return Applied(key, client_wire.replayed(stored), b"", b"")
        if verdict is not Verdict.APPLY:
            status = _STATUS_OF[verdict]
            return Applied(key, client_wire.encode_response(client_id, number, entry.index, status), b"", b"")
        reports, fills, rejected = self.exchange.execute_packed(entry.data, COMMANDS_OFFSET, client_id)
        self.orders_applied += command_count
        self.rejected_total += rejected
        self.fills_total += len(fills) // FILL.size
        body = client_wire.encode_execution(client_id, number, entry.index, reports, fills, self._answer_fills)
        self.sessions.store(client_id, number, body)
        return Applied(key, body, reports, fills)

    def state_hash(self) -> bytes:
        """The hash of :meth:`snapshot`: equal on all nodes at an equal index."""
        return hash_slices(self.freeze())

    def snapshot(self) -> bytes:
        """Everything that :meth:`restore` needs."""
        return b"".join(self.freeze())

    def freeze(self, rows: int = SLICE_ROWS) -> Iterator[bytes]:
        """The snapshot of the state as it is now, in slices, while entries go on being applied.

        A slice has about ``rows`` orders or trades, or one session. Who does not want more slices drops the iterator.
        """
        index, sizes = self.applied_index, self.sessions.encoded_bytes
        totals = self.orders_applied, self.rejected_total, self.fills_total
        fixed = _SNAPSHOT.pack(index, *totals, self.chain, sizes)
        return chain((fixed,), self.sessions.freeze(), self.exchange.freeze(rows))

    def restore(self, data: bytes) -> None:
        """Replace the state by that of a snapshot, whichever node made it.

        Raises:
            JournalCorrupt: the snapshot can't be restored. The state is as it was.
        """
        restoring = Restoring(self)
        try:
            restoring.feed(data)
            restoring.finish()
        except StateInvalid as error:
            raise JournalCorrupt(f"the snapshot can't be restored: {error}. {NEW_MEMBER}") from error
        for _ in self.adopt(restoring):
            pass

    def adopt(self, restoring: Restoring) -> Iterator[None]:
        """Replace the state by one that was restored. Returns the steps in which the old books are freed."""
        other, old = restoring.machine, self.exchange
        self.exchange = other.exchange
        self.sessions = other.sessions
        self.applied_index, self.orders_applied = other.applied_index, other.orders_applied
        self.rejected_total, self.fills_total, self.chain = other.rejected_total, other.fills_total, other.chain
        self.checkpoints = {}
        return old.dismantle()

    def restoring(self, pieces: Pieces) -> Iterator[None]:
        """Fill this state machine, which must be new, from ``pieces``. Yields where more bytes are needed.

        Raises:
            StateInvalid: the bytes are no snapshot. This object is of no more use.
        """
        fixed = yield from pieces.one(_SNAPSHOT)
        self.applied_index, self.orders_applied, self.rejected_total, self.fills_total, self.chain, size = fixed
        yield from self.sessions.restoring(pieces)
        if self.sessions.encoded_bytes != size:
            raise StateInvalid(f"the sessions take {self.sessions.encoded_bytes} bytes, and not {size} as they say")
        yield from self.exchange.restoring(pieces)


class Restoring:
    """A state that is being restored beside the one in use, from the bytes of a snapshot as they arrive."""

    def __init__(self, machine: StateMachine) -> None:
        """``machine``: the one in use, whose limits the new one gets."""
        self.machine = StateMachine(machine.sessions.limits, type(machine.exchange)(machine.exchange.limits))
        self._pieces = Pieces()
        self._steps = self.machine.restoring(self._pieces)
        self._is_whole = False

    def feed(self, piece: bytes) -> None:
        """Take more bytes, and as much work as they bring. Raises StateInvalid."""
        self._pieces.feed(piece)
        if not self._is_whole:
            self._is_whole = next(self._steps, self._steps) is self._steps
        if self._is_whole and self._pieces.size:
            raise StateInvalid(f"the state ends {self._pieces.size} bytes before its last one")

    def finish(self) -> None:
        """There are no more bytes. Raises StateInvalid if some are missing."""
        if not self._is_whole:
            raise StateInvalid("the state is cut short")
