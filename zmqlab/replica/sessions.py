"""What the state machine remembers of its clients, so that a request is applied once however often it arrives.

The Raft thesis, section 6.3: a client registers and gets an identity (here the log index of its registration, so that
it is unique without a random number); it numbers its requests; the state machine stores the answer of each request
until the client says that it has it (``answered_below``), and gives the stored answer to a retry.

Unlike the thesis' client, ours has many requests under way at once, and they may reach the log out of order, since
they travel through different nodes. So a session is a window: numbers below ``answered_below`` are over, numbers with
a stored answer are done, the others are new.

The memory is bounded three ways, each by what is in the log alone, so that all nodes decide alike: a window in
numbers and in bytes per session, and an eviction of the sessions that were used least recently when there are too
many or their answers take too much room. A client whose session was evicted is told so; its open requests are not
guessed at.

A frozen table (:meth:`SessionTable.freeze`) is the list of the sessions as they were. A session that is in such a list
is not changed any more: who would change it puts a copy into its place first. The generation says whether it is in one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from zmqlab.errors import StateInvalid
from zmqlab.market.canonical import Pieces
from zmqlab.settings import SessionLimits

_COUNT = struct.Struct("<I")
_SESSION = struct.Struct("<QQQI")  # client_id answered_below owner response_count
_RESPONSE = struct.Struct("<QI")  # request_number body_bytes


class Verdict(Enum):
    """What is to be done with a request that has come out of the log."""

    APPLY = auto()
    REPLAY = auto()
    """It was applied before: give the stored answer."""
    STALE = auto()
    """The client itself has said that it has the answer."""
    WINDOW_FULL = auto()
    """Too far ahead, or too many bytes of answers stored: not applied, the client may send it again later.

    The first unanswered request of a session is never refused for its bytes: later ones may have been applied before
    it, and their answers are kept until it is answered."""
    EXPIRED = auto()
    """No such session (any more)."""


@dataclass(slots=True)
class Session:
    """One client's window."""

    client_id: int
    answered_below: int = 1
    """Never falls; every stored number is at or above it."""
    responses: dict[int, bytes] = field(default_factory=dict)
    """request_number -> the encoded response as it was first given."""
    stored_bytes: int = 0
    """The sum of the lengths in ``responses``."""
    owner: int = 0
    """The fingerprint of the key that opened it; 0: it was opened without keys."""
    generation: int = 0
    """How often its table had been frozen when this object was made."""

    def copy(self, generation: int) -> Session:
        """Another object with the same contents."""
        return replace(self, responses=dict(self.responses), generation=generation)

    def encode(self) -> bytes:
        """The record of this session, with its answers by rising number."""
        parts = [_SESSION.pack(self.client_id, self.answered_below, self.owner, len(self.responses))]
        for number in sorted(self.responses):
            body = self.responses[number]
            parts.append(_RESPONSE.pack(number, len(body)))
            parts.append(body)
        return b"".join(parts)

    def forget_below(self, number: int) -> int:
        """Drop the answers that the client has; returns how many bytes were freed."""
        below, self.answered_below = self.answered_below, max(number, self.answered_below)
        freed = 0
        if number - below <= len(self.responses):  # a step or a few: no look at the whole window
            for done in range(below, number):
                freed += len(self.responses.pop(done, b""))
        else:
            for done in [key for key in self.responses if key < number]:
                freed += len(self.responses.pop(done))
        self.stored_bytes -= freed
        return freed


class SessionTable:
    """All sessions, the least recently used first."""

    def __init__(self, limits: SessionLimits | None = None) -> None:
        self.limits = limits or SessionLimits()
        self.stored_bytes = 0
        self._sessions: dict[int, Session] = {}
        self._generation = 0
        """How often the table was frozen; a session of an earlier generation may be in a frozen list."""

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, client_id: int) -> bool:
        return client_id in self._sessions

    def open(self, client_id: int, owner: int = 0) -> None:
        """Register a client under ``client_id``, the index of the entry that asked for it."""
        assert client_id not in self._sessions, "a log index registers one session only"
        self._sessions[client_id] = Session(client_id, owner=owner, generation=self._generation)
        self._evict()

    def admit(self, client_id: int, number: int, answered_below: int) -> tuple[Verdict, bytes]:
        """Decide on a request that came out of the log, and note that its session was used.

        Returns the verdict, and the stored answer where that is REPLAY (otherwise empty).
        """
        session = self._sessions.pop(client_id, None)
        if session is None:
            return Verdict.EXPIRED, b""
        if session.generation != self._generation:
            session = session.copy(self._generation)
        self._sessions[client_id] = session  # now the most recently used
        self.stored_bytes -= session.forget_below(min(answered_below, number))
        return self._judge(session, number)

    def owner_of(self, client_id: int) -> int | None:
        """The owner of a session, 0 if it has none; None if there is no such session."""
        session = self._sessions.get(client_id)
        return session.owner if session else None

    def peek(self, client_id: int, number: int) -> bytes | None:
        """The stored answer of a request, if it was applied; changes nothing."""
        session = self._sessions.get(client_id)
        return session.responses.get(number) if session else None

    def is_over(self, client_id: int, number: int) -> bool:
        """Whether the client itself has said that it has the answer; changes nothing."""
        session = self._sessions.get(client_id)
        return session is not None and number < session.answered_below

    def is_done(self, client_id: int, number: int) -> bool:
        """Whether the request was applied, as far as this replica is; changes nothing."""
        session = self._sessions.get(client_id)
        return session is not None and (number < session.answered_below or number in session.responses)

    def store(self, client_id: int, number: int, body: bytes) -> None:
        """Remember the answer of a request that was admitted and applied just now."""
        session = self._sessions[client_id]
        assert number not in session.responses, "a request is applied once"
        assert session.generation == self._generation, "it was admitted just now"
        session.responses[number] = body
        session.stored_bytes += len(body)
        self.stored_bytes += len(body)
        self._evict()

    def _judge(self, session: Session, number: int) -> tuple[Verdict, bytes]:
        if number < session.answered_below:
            return Verdict.STALE, b""
        body = session.responses.get(number)
        if body is not None:
            return Verdict.REPLAY, body
        too_far = number >= session.answered_below + self.limits.window_requests
        is_full = session.stored_bytes >= self.limits.session_bytes and number > session.answered_below
        if too_far or is_full:
            return Verdict.WINDOW_FULL, b""
        return Verdict.APPLY, b""

    def _evict(self) -> None:
        while len(self._sessions) > self.limits.max_sessions or (
            self.stored_bytes > self.limits.total_bytes and len(self._sessions) > 1
        ):
            oldest = next(iter(self._sessions))
            self.stored_bytes -= self._sessions.pop(oldest).stored_bytes

    @property
    def encoded_bytes(self) -> int:
        """The length of :meth:`snapshot`."""
        answers = sum([len(session.responses) for session in self._sessions.values()])
        return _COUNT.size + len(self) * _SESSION.size + answers * _RESPONSE.size + self.stored_bytes

    def snapshot(self) -> bytes:
        """All sessions, in the order of their last use: that order decides who is evicted next."""
        return b"".join(self.freeze())

    def freeze(self) -> Iterator[bytes]:
        """The bytes of the sessions as they are now, one session after the other, while requests go on."""
        self._generation += 1
        return _slices(list(self._sessions.values()))

    def restore(self, data: bytes) -> None:
        """Replace everything by what :meth:`snapshot` returned. Raises StateInvalid."""
        pieces, other = Pieces(), SessionTable(self.limits)
        pieces.feed(data)
        for _ in other.restoring(pieces):
            raise StateInvalid(f"a snapshot of sessions is cut short, after {len(data)} bytes")
        if pieces.size:
            raise StateInvalid(f"a snapshot of sessions ends {pieces.size} bytes before its last one")
        self._sessions, self.stored_bytes, self._generation = other._sessions, other.stored_bytes, 0

    def restoring(self, pieces: Pieces) -> Iterator[None]:
        """Fill this table, which must be new, from ``pieces``. Yields where more bytes are needed.

        Raises:
            StateInvalid: the bytes are no sessions. This object is of no more use.
        """
        (count,) = yield from pieces.one(_COUNT)
        for _ in range(count):
            client_id, answered_below, owner, response_count = yield from pieces.one(_SESSION)
            if client_id in self._sessions:
                raise StateInvalid(f"a snapshot of sessions has {client_id} twice")
            session = self._sessions[client_id] = Session(client_id, answered_below, owner=owner)
            for _ in range(response_count):
                number, size = yield from pieces.one(_RESPONSE)
                while pieces.size < size:
                    yield
                session.responses[number] = pieces.take(size)
                session.stored_bytes += size
            self.stored_bytes += session.stored_bytes


def _slices(sessions: list[Session]) -> Iterator[bytes]:
    yield _COUNT.pack(len(sessions))
    for session in sessions:
        yield session.encode()
