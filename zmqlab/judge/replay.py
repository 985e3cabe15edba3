"""The replicated log read a second time, by rules that were written a second time.

The verdict must not trust the code that it judges. This module parses the log's bytes with
:mod:`zmqlab.wire.client`, and otherwise knows only what the documents promise:

- which of several copies of a request counts: :class:`SessionModel`, by the rules of the Raft thesis, 6.3, as
  ``docs/wire-format.md`` states them, and how many fills an answer carries;
- what the orders do: :class:`~zmqlab.market.naive.NaiveExchange`, an order book of plain lists.

The naive book is several times slower than the cluster. So it follows a bounded number of commands, for a bounded time,
from the beginning of the log. Sessions are followed to the end. Their bounds in bytes need the answers' sizes: behind
the end of the replay, an answer counts with its reports alone.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from zmqlab.errors import FrameError
from zmqlab.load.load_messages import crc_of_book
from zmqlab.market.naive import NaiveExchange
from zmqlab.market.types import FILL_WIDTH, REPORT_FILL_COUNT
from zmqlab.settings import SessionLimits
from zmqlab.wire import client as wire
from zmqlab.wire import records
from zmqlab.wire.frames import OPEN_SESSION, REQUEST, parse_header

MAX_GAP = 4_096
"""A request number so far beyond the largest one of its client is kept apart: four windows of a session."""
BODY_BYTES = 32
"""A response without its reports and fills."""
REPORT_BYTES = 32

_NOTHING: array[int] = array("Q")
RequestKey = tuple[int, int]
"""(client_id, request_number)"""


class BookKey(NamedTuple):
    """One book at one moment."""

    log_index: int
    symbol: str
    levels: int
    """The best levels of each side."""


class LogEntry(NamedTuple):
    """One committed entry as a node gave it out."""

    log_index: int
    term: int
    kind: int
    data: bytes


class RequestTable:
    """One number for each request, in eight bytes: a dictionary takes some hundred, for each of millions of requests.

    Clients number their requests 1, 2, 3, ..., so each client has an array. A number far beyond all others goes to a
    dictionary instead: a log may hold the requests of clients that count differently.
    """

    def __init__(self) -> None:
        self._dense: dict[int, array[int]] = {}
        """client_id -> by request number, one more than the value; 0: there is none."""
        self._others: dict[RequestKey, int] = {}
        self._count = 0

    def __setitem__(self, key: RequestKey, value: int) -> None:
        """``value`` is from 0 to 2**64 - 2."""
        client_id, number = key
        values = self._dense.setdefault(client_id, array("Q"))
        if number > len(values) + MAX_GAP or key in self._others:
            self._count += key not in self._others
            self._others[key] = value
            return
        if number >= len(values):
            values.frombytes(bytes(8 * (number + 1 - len(values))))
        self._count += values[number] == 0
        values[number] = value + 1

    def get(self, key: RequestKey) -> int | None:
        """The request's number; None if it has none."""
        client_id, number = key
        values = self._dense.get(client_id, _NOTHING)
        if number < len(values) and values[number]:
            return values[number] - 1
        return self._others.get(key)

    def __contains__(self, key: RequestKey) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        return self._count

    def of(self, client_id: int) -> int:
        """How many requests of a client have a number."""
        values = self._dense.get(client_id, _NOTHING)
        return len(values) - values.count(0) + sum(each == client_id for each, _ in self._others)


@dataclass(slots=True)
class Replayed:
    """What the log says happened."""

    first_seen: RequestTable = field(default_factory=RequestTable)
    """The first index at which a request stands."""
    copies: dict[RequestKey, list[int]] = field(default_factory=dict)
    """The other indexes at which it stands, if it was retried."""
    applied: RequestTable = field(default_factory=RequestTable)
    """The one index at which a request counts."""
    commands: RequestTable = field(default_factory=RequestTable)
    """CRC-32 of the commands of the copy that counts."""
    applied_twice: list[RequestKey] = field(default_factory=list)
    """Always empty if the session rules work: this checks the model itself."""
    answers: RequestTable = field(default_factory=RequestTable)
    """CRC-32 of reports and fills as the naive book gives them, for the requests that were replayed."""
    books: dict[BookKey, int] = field(default_factory=dict)
    """CRC-32 of the books that were asked for, as far as the log was replayed (:func:`crc_of_book`)."""
    commands_applied: int = 0
    commands_replayed: int = 0

    def stands_at(self, key: RequestKey, log_index: int) -> bool:
        """Whether a copy of the request stands at this index."""
        return self.first_seen.get(key) == log_index or log_index in self.copies.get(key, ())


class SessionModel:
    """Decides which copy of a request counts."""

    def __init__(self, limits: SessionLimits | None = None) -> None:
        self._limits = limits or SessionLimits()
        self._floors: dict[int, int] = {}
        """client_id -> answered_below; the order of the keys is the order of last use."""
        self._stored: dict[int, dict[int, int]] = {}
        """client_id -> request_number -> bytes of the stored answer; all numbers are in the window."""
        self._bytes: dict[int, int] = {}
        """client_id -> the sum of its stored answers."""

    def open(self, client_id: int) -> None:
        """A registration at log index ``client_id``."""
        self._floors[client_id] = 1
        self._stored[client_id] = {}
        self._bytes[client_id] = 0
        self._evict()

    def counts(self, client_id: int, number: int, answered_below: int) -> bool:
        """Whether this copy of the request is to be applied.

        The first request without an answer is never refused for bytes: all others wait for it.
        """
        if client_id not in self._floors:
            return False
        before = self._floors.pop(client_id)
        floor = max(before, min(answered_below, number))
        self._floors[client_id] = floor
        stored = self._stored[client_id]
        for done in range(before, min(floor, before + self._limits.window_requests)):
            self._bytes[client_id] -= stored.pop(done, 0)
        has_room = number == floor or self._bytes[client_id] < self._limits.session_bytes
        return floor <= number < floor + self._limits.window_requests and number not in stored and has_room

    def store(self, client_id: int, number: int, size: int) -> None:
        """The request was applied and its answer has ``size`` bytes."""
        self._stored[client_id][number] = size
        self._bytes[client_id] += size
        self._evict()

    def _evict(self) -> None:
        while len(self._floors) > self._limits.max_sessions or (
            len(self._floors) > 1 and sum(self._bytes.values()) > self._limits.total_bytes
        ):
            oldest = next(iter(self._floors))
            del self._floors[oldest], self._stored[oldest], self._bytes[oldest]


def replay(
    entries: Iterable[LogEntry],
    max_commands: int,
    limits: SessionLimits | None = None,
    max_s: float = math.inf,
    books: Iterable[BookKey] = (),
) -> Replayed:
    """Follow ``entries``, which begin at the log's beginning.

    Args:
        entries: the log.
        max_commands: how many commands the naive book follows, at most.
        limits: of the sessions; those of the nodes by default.
        max_s: for how long the naive book follows, at most.
        books: which books to take on the way.
    """
    result = Replayed()
    limits = limits or SessionLimits()
    sessions = SessionModel(limits)
    naive = _NaiveReplay(books, max_commands, max_s, limits.answer_fills)
    for entry, frame_type in _frames(entries):
        naive.take_books_below(entry.log_index)
        if frame_type == OPEN_SESSION:
            sessions.open(entry.log_index)
            continue
        request = wire.parse_request(entry.data)
        key = (request.client_id, request.request_number)
        if key in result.first_seen:
            result.copies.setdefault(key, []).append(entry.log_index)
        else:
            result.first_seen[key] = entry.log_index
        if not sessions.counts(request.client_id, request.request_number, request.answered_below):
            continue
        if key in result.applied:
            result.applied_twice.append(key)
        result.applied[key] = entry.log_index
        result.commands[key] = crc32(wire.request_body(entry.data))
        result.commands_applied += request.command_count
        answer = naive.answer(entry.data, request.command_count)
        if answer is not None:
            result.answers[key] = crc32(answer)
        answer_bytes = request.command_count * REPORT_BYTES if answer is None else len(answer)
        sessions.store(request.client_id, request.request_number, BODY_BYTES + answer_bytes)
    naive.take_books_below(math.inf)
    result.books, result.commands_replayed = naive.books, naive.commands
    return result


class _NaiveReplay:
    """The naive exchange, which follows the requests that count, within its bounds."""

    def __init__(self, wanted: Iterable[BookKey], max_commands: int, max_s: float, answer_fills: int) -> None:
        self.commands = 0
        """That it has followed."""
        self.books: dict[BookKey, int] = {}
        """CRC-32 of the wanted books that it came to."""
        self._exchange = NaiveExchange()
        self._wanted = sorted(set(wanted), reverse=True)
        """The next one is the last."""
        self._max_commands = max_commands
        self._deadline = time.monotonic() + max_s
        self._answer_fills = answer_fills
        self._follows = True
        """Whether it has not come to a bound yet."""

    def answer(self, frame: bytes, commands: int) -> bytes | None:
        """What it answers to the next request, of so many commands; None behind its bounds."""
        self._follows = (
            self._follows and self.commands + commands <= self._max_commands and time.monotonic() < self._deadline
        )
        if not self._follows:
            return None
        self.commands += commands
        return _answer(self._exchange, frame, self._answer_fills)

    def take_books_below(self, log_index: float) -> None:
        """Take the wanted books below ``log_index``, if all that counts below it was followed."""
        while self._follows and self._wanted and self._wanted[-1].log_index < log_index:
            key = self._wanted.pop()
            depth = self._exchange.depth(key.symbol, key.levels)
            self.books[key] = crc_of_book(depth.bids, depth.asks)


def _frames(entries: Iterable[LogEntry]) -> Iterator[tuple[LogEntry, int]]:
    """The entries that carry a request or a registration, with the type of their frame."""
    for entry in entries:
        if not entry.data:
            continue
        try:
            frame_type, _ = parse_header(entry.data)
            if frame_type == OPEN_SESSION:
                wire.parse_open_session(entry.data)
            elif frame_type == REQUEST:
                wire.parse_request(entry.data)
            else:
                continue
        except FrameError:
            continue
        yield entry, frame_type


def _answer(exchange: NaiveExchange, frame: bytes, room: int) -> bytes:
    """Reports and fills of one request; of the fills only the first ``room`` are in the answer."""
    reports, fills = b"", b""
    client_id = wire.parse_request(frame).client_id
    for command in wire.request_commands(frame):
        report, own = exchange.execute([command], client_id)
        own = own[: room * FILL_WIDTH]
        report[REPORT_FILL_COUNT] = len(own) // FILL_WIDTH
        reports += records.pack_reports(report)
        fills += records.pack_fills(own)
        room -= report[REPORT_FILL_COUNT]
    return reports + fills
