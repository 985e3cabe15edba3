"""The history of a run: what each client asked and was told, and when, in lines of JSON for checkers of all kinds.

The first line is a :class:`Head`. Then come :class:`SessionOpened`, :class:`Request` and :class:`BookRead` lines in the
order of their completion, and last an :class:`End`. A request is one operation, however often it was sent. It lasts
from when it was first handed to a socket to when its answer came. docs/history-format.md explains every field, and how
to feed the history to a general checker of linearizability.

Fields that have their default are left out of the lines. A file whose name ends in ``.gz`` is compressed. A file
without an End is from a process that was killed: the requests that were open then are missing from it.

This module knows the format and reads it; :mod:`~zmqlab.load.history_writer` writes it. No numpy.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

from zmqlab.errors import SettingsError

VERSION = 2
"""Version 2 added the lines of type read."""
READABLE_VERSIONS = (1, 2)
GZIP_LEVEL = 1


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
    """The session's id; also the log index of this operation."""
    invoked_ns: int
    completed_ns: int


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
