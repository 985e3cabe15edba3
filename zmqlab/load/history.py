"""The history of a run: what each client asked and was told, and when, in lines of JSON for checkers of all kinds.

The first line is a :class:`Head`. Then come :class:`SessionOpened`, :class:`Request` and :class:`BookRead` lines in the
order of their completion, and last an :class:`End`. A request is one operation, however often it was sent. It lasts
from when it was first handed to a socket to when its answer came. docs/history-format.md explains every field, and how
to feed the history to a general checker of linearizability.

Fields that have their default are left out of the lines. A file whose name ends in ``.gz`` is compressed. A file
without an End is from a process that was killed: the requests that were open then are missing from it.

:func:`read_history` and :func:`iter_history` read a file. :class:`HistoryWriter` writes it while the run goes on, at
little cost to it. The loop of the load makes the lines as answers come, at some 3 µs an order, so that the work is
spread as the answers are. A thread writes them a quarter of a megabyte at a time, so that the loop never waits for a
disk that is busy with the nodes' journals. A disk that fails or is full ends the history and not the run;
:attr:`HistoryWriter.problem` says so.

Rule: no numpy, because a reader of histories needs none.
"""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from enum import IntEnum
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

from zmqlab.client.retries import OpenRequest
from zmqlab.client.session import Completion
from zmqlab.errors import SettingsError
from zmqlab.load.load_settings import LoadSettings
from zmqlab.market import types as market
from zmqlab.wire.client import REPLAYED, Response, ResponseStatus
from zmqlab.wire.records import FILL, REPORT

VERSION = 2
"""Version 2 added the lines of type read."""
READABLE_VERSIONS = (1, 2)
GZIP_LEVEL = 1
CHUNK_BYTES = 262_144
CLOSE_TIMEOUT_S = 10.0
"""How long the end may wait for what is not yet written; a disk that takes longer is stuck."""


class Head(msgspec.Struct, kw_only=True, tag_field="type", tag="history"):
    """The first line."""

    version: int
    name: str
    """Of the load client."""
    time_ns: int
    """Wall clock, when the file was begun."""
    monotonic_ns: int
    """The same moment on the clock of all other times."""
    settings: dict[str, Any]
    """Of the load client, as given."""


class SessionOpened(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="type", tag="session"):
    """A client has opened a session."""

    client: int
    """The session's id; also the log index of this operation. Two groups may give the same id."""
    invoked_ns: int
    completed_ns: int
    group: int = 0
    """The Raft group that it is a session with. Each group is a history of its own: nothing spans two."""


class Command(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One command of a request. Fields that its kind does not use are left out."""

    kind: str
    """``new``, ``cancel`` or ``replace``."""
    symbol: str
    account: int
    side: str = ""
    """``buy`` or ``sell``; of a new order."""
    order_type: str = ""
    """``limit`` or ``market``."""
    time_in_force: str = ""
    """``gtc``, ``ioc`` or ``fok``."""
    quantity: int = 0
    price: int = 0
    """Ticks; 0 of a market order."""
    order_id: int = 0
    """The order to cancel or to replace."""
    post_only: bool = False


class Fill(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One trade of a command with a resting order."""

    maker_order_id: int
    price: int
    quantity: int
    maker_leaves_quantity: int = 0


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of one command: names and numbers of :class:`zmqlab.market.types.ExecutionReport`."""

    status: str
    """In lower case, as in ``new``, ``partially_filled``, ``filled``, ``canceled``, ``rejected``."""
    reason: str = ""
    """Of a rejection or an expiry."""
    order_id: int = 0
    filled_quantity: int = 0
    leaves_quantity: int = 0
    notional: int = 0
    fills: list[Fill] = []


class Request(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="type", tag="request"):
    """One operation: a batch of commands that is applied as a whole and once, or not at all."""

    client: int
    number: int
    """Counts 1, 2, 3, ... for each client."""
    invoked_ns: int = 0
    """When it was first handed to a socket; 0 if it never was."""
    completed_ns: int = 0
    """When its answer came; 0 if none did."""
    outcome: str
    """``ok``, ``unknown``, ``not_sent``, ``stale`` or ``malformed``."""
    why: str = ""
    """Of an unknown outcome: ``no_answer`` or ``session_expired``."""
    log_index: int = 0
    """Its place in the replicated log, by its answer."""
    attempts: int
    """How often it was sent."""
    group: int = 0
    """The Raft group of the session and of the commands' symbols; ``log_index`` is of its log."""
    node: str = ""
    """Endpoint of the node that answered or, without an answer, of the node that was asked last."""
    replayed: bool = False
    """The answer was the first answer again, because an earlier attempt had been applied."""
    commands: list[Command]
    reports: list[Report] = []
    """One for each command with outcome ``ok``, otherwise none."""


class BookRead(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="type", tag="read"):
    """One operation of no session: a linearizable query for a book. It changes nothing."""

    invoked_ns: int
    completed_ns: int
    """When its answer was seen, up to 20 ms after it came."""
    node: str
    """Endpoint of the node that answered."""
    symbol: str
    levels: int
    """How many levels of each side were asked for."""
    log_index: int
    """The book is as of this place in the log, by the answer."""
    group: int = 0
    """The Raft group that has this symbol."""
    bids: list[tuple[int, int, int]] = []
    """Best price first: (price in ticks, quantity, number of orders)."""
    asks: list[tuple[int, int, int]] = []


class End(msgspec.Struct, kw_only=True, tag_field="type", tag="end"):
    """The last line: the file is whole."""

    completed_ns: int
    requests: int
    """Lines of type request."""
    unknown: int
    """Requests among them whose outcome is unknown."""
    problem: str
    """Why the run ended before its time; empty if it did not."""


Line = Head | SessionOpened | Request | BookRead | End


class History(NamedTuple):
    """A whole file."""

    head: Head
    sessions: list[SessionOpened]
    requests: list[Request]
    reads: list[BookRead]
    end: End | None
    """None: the file is not whole."""


_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def iter_history(path: str | Path) -> Iterator[Line]:
    """The lines of a file, one at a time. An unfinished last line, from a process that was killed, is left out.

    Raises:
        SettingsError: there is no such file, or it is not a history.
    """
    try:
        with closing(open_history(path, "rb")) as file:
            for number, line in enumerate(_whole_lines(file), 1):
                yield _decode(line, path, number)
    except OSError as error:
        raise SettingsError(f"the history {path} can't be read: {error}") from None


def read_history(path: str | Path) -> History:
    """A whole file. For a file that is too large for memory there is :func:`iter_history`.

    Raises:
        SettingsError: there is no such file, or it is not a history.
    """
    lines = iter_history(path)
    head = next(lines, None)
    if not isinstance(head, Head):
        raise SettingsError(f"{path} is no history: its first line is no head")
    history = History(head, [], [], [], None)
    for line in lines:
        if isinstance(line, Request):
            history.requests.append(line)
        elif isinstance(line, SessionOpened):
            history.sessions.append(line)
        elif isinstance(line, BookRead):
            history.reads.append(line)
        elif isinstance(line, End):
            return history._replace(end=line)
    return history


def open_history(path: str | Path, mode: str) -> BinaryIO:
    """A file, compressed if its name says so. Raises OSError."""
    if str(path).endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, mode, GZIP_LEVEL))
    return cast(BinaryIO, open(path, mode))  # the caller closes it


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    try:
        for line in file:
            if line.endswith(b"\n"):
                yield line
    except (EOFError, zlib.error):
        return  # the end of a compressed file is missing


def _decode(line: bytes, path: str | Path, number: int) -> Line:
    try:
        decoded: Line = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}, line {number} is not of a history: {error}") from None
    if isinstance(decoded, Head) and decoded.version not in READABLE_VERSIONS:
        known = " and ".join(map(str, READABLE_VERSIONS))
        raise SettingsError(f"{path} is a history of version {decoded.version}: versions {known} are read here")
    return decoded


class HistoryWriter:
    """One file. Its thread writes; all methods belong to the loop of the load."""

    def __init__(self, path: str, settings: LoadSettings, endpoints: Sequence[str]) -> None:
        """Begin the file; an old file of that name is overwritten.

        Args:
            path: where to write; compressed if it ends in ``.gz``.
            settings: of the run, for the first line.
            endpoints: by node index; the list may grow.

        Raises:
            SettingsError: the file can't be written.
        """
        try:
            self._file = open_history(path, "wb")
        except OSError as error:
            raise SettingsError(f"the history {path} can't be written: {error}") from None
        self.problem = ""
        """Why the file is not whole; empty if it is."""
        self._path = path
        self._endpoints = endpoints
        self._encoder = msgspec.json.Encoder()
        self._lines = bytearray()
        """Made and not yet handed to the thread; below CHUNK_BYTES, except for one batch."""
        self._requests = 0
        self._unknown = 0
        self._chunks: SimpleQueue[bytes] = SimpleQueue()
        """For the thread; an empty chunk ends it."""
        self._thread = threading.Thread(target=self._write, args=(self._file,), name="zmqlab-history", daemon=True)
        self._thread.start()
        now_ns = time.monotonic_ns()
        head = Head(
            version=VERSION,
            name=settings.name,
            time_ns=time.time_ns(),
            monotonic_ns=now_ns,
            settings=settings.to_dict(),
        )
        self._add([head])

    def opened(self, sessions: Sequence[SessionOpened]) -> None:
        """Sessions were opened."""
        self._add(sessions)

    def completed(self, completions: Sequence[Completion]) -> None:
        """Requests were answered."""
        self._requests += len(completions)
        self._add([self._answered(each) for each in completions])

    def read(self, reads: Sequence[BookRead]) -> None:
        """Books were read."""
        self._add(reads)

    def close(
        self, open_requests: Iterable[tuple[int, OpenRequest]], expired: Iterable[tuple[int, int]], problem: str
    ) -> None:
        """End the file.

        Args:
            open_requests: (client id, request) of what has no answer and will get none.
            expired: (group, id) of sessions that the cluster has forgotten.
            problem: why the run ended before its time; empty if it did not.
        """
        gone = frozenset(expired)
        lines = [self._unanswered(client_id, request, gone) for client_id, request in open_requests]
        unknown = sum(line.outcome == "unknown" for line in lines)
        self._add(lines)
        requests = self._requests + len(lines)
        self._add([End(completed_ns=time.monotonic_ns(), requests=requests, unknown=unknown, problem=problem)])
        self._hand_over()
        self._chunks.put(b"")
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            self.problem = f"the history {self._path} is not whole: its disk takes too long"

    def _add(self, lines: Sequence[Line]) -> None:
        self._lines += self._encoder.encode_lines(lines)
        if len(self._lines) >= CHUNK_BYTES:
            self._hand_over()

    def _hand_over(self) -> None:
        self._chunks.put(bytes(self._lines))
        self._lines.clear()

    def _write(self, file: BinaryIO) -> None:
        """The thread."""
        while chunk := self._chunks.get():
            if not self.problem:
                self._note_problem(file.write, chunk)
        self._note_problem(file.close)

    def _note_problem(self, action: Callable[..., object], *arguments: bytes) -> None:
        try:
            action(*arguments)
        except OSError as error:
            self.problem = f"the history {self._path} is not whole: {error}"

    def _answered(self, each: Completion) -> Request:
        response = each.response
        return Request(
            client=response.client_id,
            number=each.request_number,
            invoked_ns=each.first_sent_ns,
            completed_ns=each.completed_ns,
            outcome=_OUTCOMES[response.status],
            log_index=response.log_index,
            attempts=each.attempts,
            group=each.token.group,
            node=self._endpoints[each.node],
            replayed=bool(response.flags & REPLAYED),
            commands=_commands(each.token.rows.tolist()),
            reports=_reports(response),
        )

    def _unanswered(self, client_id: int, request: OpenRequest, expired: Collection[tuple[int, int]]) -> Request:
        sent = request.attempts > 0
        why = "session_expired" if (request.token.group, client_id) in expired else "no_answer"
        return Request(
            client=client_id,
            number=request.number,
            invoked_ns=request.first_sent_ns,
            outcome="unknown" if sent else "not_sent",
            why=why if sent else "",
            attempts=request.attempts,
            group=request.token.group,
            node=request.node.endpoint if request.node is not None else "",
            commands=_commands(request.token.rows.tolist()),
        )


def _names(codes: type[IntEnum]) -> list[str]:
    """Lower-case names by code, for all codes that fit a byte; the name of 0 is empty unless it has one."""
    known = {int(code): code.name.lower() for code in codes}
    return [known.get(code, str(code) if code else "") for code in range(256)]


_KINDS, _SIDES, _ORDER_TYPES, _TIMES_IN_FORCE = map(
    _names, (market.CommandKind, market.Side, market.OrderType, market.TimeInForce)
)
_STATUSES, _REASONS, _OUTCOMES = map(_names, (market.Status, market.Reason, ResponseStatus))
_REASONS[market.Reason.NONE] = ""
_symbol_name = cache(market.symbol_name)


def _commands(rows: Iterable[tuple[int, ...]]) -> list[Command]:
    """Commands as people read them."""
    return [
        Command(
            kind=_KINDS[kind],
            symbol=_symbol_name(symbol),
            account=account,
            side=_SIDES[side],
            order_type=_ORDER_TYPES[order_type],
            time_in_force=_TIMES_IN_FORCE[time_in_force],
            quantity=quantity,
            price=price,
            order_id=order_id,
            post_only=bool(flags & market.POST_ONLY),
        )
        for kind, side, order_type, time_in_force, quantity, order_id, symbol, price, account, flags in rows
    ]


def _reports(response: Response) -> list[Report]:
    """The reports of an answer, each with its fills."""
    fills = [
        Fill(maker_order_id=maker, price=price, quantity=quantity, maker_leaves_quantity=leaves)
        for maker, price, quantity, leaves in FILL.iter_unpack(response.fills)
    ]
    reports, start = [], 0
    for status, reason, _, count, filled, leaves, order_id, notional in REPORT.iter_unpack(response.reports):
        reports.append(
            Report(
                status=_STATUSES[status],
                reason=_REASONS[reason],
                order_id=order_id,
                filled_quantity=filled,
                leaves_quantity=leaves,
                notional=notional,
                fills=fills[start : start + count],
            )
        )
        start += count
    return reports
