"""Orders between a client and a node: requests, sessions and responses.

A *request* is a numbered batch of commands. It is applied all at once and exactly once, however often it is sent::

    REQUEST       header, client_id u64, request_number u64, answered_below u64,
                  then 1 to 1,024 COMMAND records
    OPEN_SESSION  header, nonce u64; in the log of nodes with keys also owner u64
    RESPONSES     header, then one or more response bodies
    response body client_id u64, request_number u64, log_index u64, status u8, flags u8, report_count u16,
                  fill_count u32, then the REPORT records, then the FILL records in the order of their reports

``request_number`` counts 1, 2, 3, ... in a session. ``answered_below`` says that the client has the answers to all
smaller numbers, so that the replicas may forget them (Raft thesis, section 6.3). An entry of the log opens a session,
and the index of that entry is the session's ``client_id``. The response to OPEN_SESSION carries the nonce as its
``request_number`` and the new id as its ``client_id``. A response *body* has no header of its own. Replicas keep bodies
to answer retries, and a node joins all bodies that one turn has for one client into one frame
(:func:`encode_responses`).

Rules. Lengths are checked here, before anything is stored: a frame is exactly as long as its header says. The *meaning*
of commands is not judged here: the log takes the bytes as they came, and the exchange rejects a senseless command.

:func:`fields_of` takes a frame apart for people, field by field. It reads the same layouts as the code that packs and
parses. It is not on the way of an order, so it may be slow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from zmqlab.errors import FrameError
from zmqlab.market.types import (
    REPORT_FILL_COUNT,
    REPORT_WIDTH,
    Command,
    CommandKind,
    ExecutionReport,
    Fill,
    OrderType,
    Reason,
    Report,
    Side,
    Status,
    TimeInForce,
    symbol_name,
)
from zmqlab.wire.frames import HEADER_BYTES, MAGIC, OPEN_SESSION, REQUEST, RESPONSES, VERSION, header, parse_header
from zmqlab.wire.records import (
    COMMAND,
    COMMAND_FIELDS,
    FILL,
    FILL_FIELDS,
    REPORT,
    REPORT_FIELDS,
    CommandTuple,
    iter_commands,
    pack_reports,
    unpack_fills,
    unpack_reports,
)

MAX_COMMANDS_PER_REQUEST = 1_024
"""40,992 bytes with the headers: one request takes less than two milliseconds of matching, and fits 64 KiB."""

REPLAYED = 1
"""Response flag: the first answer once more, to a retry."""

FILLS_CUT = 2
"""Response flag: the request had more fills than a response carries; see :func:`encode_execution`."""

_FRAME_NAMES = {REQUEST: "REQUEST", RESPONSES: "RESPONSES", OPEN_SESSION: "OPEN_SESSION"}
"""The frames of a client."""
_Layout = tuple[str, Sequence[str]]
"""The codes of a ``struct`` format, and the name of each field."""
_HEADER_LAYOUT: _Layout = ("2sBBI", ("magic", "version", "type", "group"))
_REQUEST_LAYOUT: _Layout = ("QQQ", ("client_id", "request_number", "answered_below"))
_SESSION_LAYOUT: _Layout = ("Q", ("nonce",))
_OWNED_LAYOUT: _Layout = ("QQ", ("nonce", "owner"))
_BODY_LAYOUT: _Layout = (
    "QQQBBHI",
    ("client_id", "request_number", "log_index", "status", "flags", "report_count", "fill_count"),
)
_COMMAND_LAYOUT: _Layout = (COMMAND_FIELDS, Command._fields)
_REPORT_LAYOUT: _Layout = (REPORT_FIELDS, Report._fields)
_FILL_LAYOUT: _Layout = (FILL_FIELDS, Fill._fields)

_REQUEST = struct.Struct("<" + _HEADER_LAYOUT[0] + _REQUEST_LAYOUT[0])
_NONCE = struct.Struct("<" + _HEADER_LAYOUT[0] + _SESSION_LAYOUT[0])
_OWNED = struct.Struct("<" + _HEADER_LAYOUT[0] + _OWNED_LAYOUT[0])
"""In the log of nodes with keys: the node that took the frame has added the fingerprint of the sender's key."""
_BODY = struct.Struct("<" + _BODY_LAYOUT[0])
COMMANDS_OFFSET = _REQUEST.size
"""Where the commands of a REQUEST frame begin."""
_KEY = slice(HEADER_BYTES, HEADER_BYTES + 16)
_HEAD_OF_REQUEST = header(REQUEST)[:4]
_U64 = struct.Struct("<Q")
_LOG_INDEX_OFFSET = 16
_FLAGS_OFFSET = 25
"""The offset of the flags in a response body: after three u64 and the status."""
_MAX_REQUEST_BYTES = _REQUEST.size + MAX_COMMANDS_PER_REQUEST * COMMAND.size


class ResponseStatus(IntEnum):
    """What became of a request as a whole. Its reports say what became of each command."""

    OK = 0
    """It was applied. Its reports say what became of each command."""
    SESSION_EXPIRED = 1
    """The session was evicted, or was never opened. It is unknown whether its open requests were applied: open a new
    session."""
    WINDOW_FULL = 2
    """Too many answers of this session wait for the client's ``answered_below``. Nothing was done: raise it, wait, then
    send the request again."""
    STALE = 3
    """The number is below an ``answered_below`` that this session has sent, so that the client should have the answer.
    Nothing was done, and the answer is forgotten."""
    MALFORMED = 4
    """The request does not hold 1 to 1,024 whole commands, has the number 0, names a group that there is not, or has a
    command of a symbol of another group. Nothing was done."""
    BUSY = 5
    """Nothing was done: send it again in a moment, or to another node."""
    CLOSING = 6
    """The node shuts down. Nothing was done: send it to another node."""
    FORBIDDEN = 7
    """The key's role may not do that, or the session belongs to another key. Nothing was done."""
    ELSEWHERE = 8
    """This node does not hold that group. Nothing was done: send it to a node that does."""


_ENUMS: dict[tuple[str, str], type[IntEnum]] = {
    ("command", "kind"): CommandKind,
    ("command", "side"): Side,
    ("command", "order_type"): OrderType,
    ("command", "time_in_force"): TimeInForce,
    ("response", "status"): ResponseStatus,
    ("report", "status"): Status,
    ("report", "reason"): Reason,
}
"""(part of a frame, field) -> its codes, for :func:`fields_of`."""


class RequestHeader(NamedTuple):
    """The header of a request: all that a node reads before the request is applied."""

    client_id: int
    request_number: int
    answered_below: int
    command_count: int


def keys_of(frames: Iterable[bytes]) -> bytes:
    """Client id and request number of each REQUEST of a log, as two u64; zeros for another frame."""
    return b"".join([frame[_KEY] if frame[:4] == _HEAD_OF_REQUEST else bytes(16) for frame in frames])


class Response(NamedTuple):
    """One response in a frame. ``reports`` and ``fills`` are views into the frame, not copies."""

    client_id: int
    request_number: int
    log_index: int
    status: int
    flags: int
    report_count: int
    fill_count: int
    reports: memoryview
    fills: memoryview


class Field(NamedTuple):
    """One field of a frame, for people."""

    offset: int
    part: str
    """``header``, ``request``, ``command 0``, ``response 0``, ``report 0``, ``fill 0``, ..."""
    name: str
    data: bytes
    value: str
    """For people: codes with their names."""


def encode_request(client_id: int, request_number: int, answered_below: int, commands: bytes, group: int = 0) -> bytes:
    """A whole REQUEST frame. ``commands`` comes from :func:`zmqlab.wire.records.pack_commands`."""
    return _REQUEST.pack(MAGIC, VERSION, REQUEST, group, client_id, request_number, answered_below) + commands


def parse_request(frame: bytes) -> RequestHeader:
    """The header of a REQUEST frame. The frame's length is checked; its commands are not decoded.

    Raises:
        FrameError: it is no REQUEST, is cut short, or does not hold 1 to 1,024 whole commands.
    """
    size = len(frame)
    if size > _MAX_REQUEST_BYTES or size <= COMMANDS_OFFSET:
        _expect(frame, REQUEST)
        raise FrameError(f"a request of {size} bytes does not hold 1 to {MAX_COMMANDS_PER_REQUEST} commands")
    magic, version, frame_type, _, client_id, request_number, answered_below = _REQUEST.unpack_from(frame)
    if magic != MAGIC or version != VERSION or frame_type != REQUEST:
        _expect(frame, REQUEST)
    count, surplus = divmod(size - COMMANDS_OFFSET, COMMAND.size)
    if surplus:
        raise FrameError(f"a request ends {surplus} bytes into a command of {COMMAND.size}")
    return RequestHeader(client_id, request_number, answered_below, count)


def key_in(frame: bytes) -> tuple[int, int] | None:
    """What the answer to a REQUEST or OPEN_SESSION frame names, even if the frame makes no sense otherwise.

    Returns:
        ``(client_id, request_number)``, or ``(0, nonce)``; None if the frame is of another type or has no room for it.
    """
    frame_type, _ = parse_header(frame)
    if frame_type == OPEN_SESSION and len(frame) >= _NONCE.size:
        return 0, _NONCE.unpack_from(frame)[4]
    if frame_type == REQUEST and len(frame) >= _REQUEST.size:
        client_id, number = _REQUEST.unpack_from(frame)[4:6]
        return client_id, number
    return None


def request_commands(frame: bytes) -> Iterator[CommandTuple]:
    """The commands of a REQUEST frame that :func:`parse_request` accepted, as plain tuples."""
    return iter_commands(frame, COMMANDS_OFFSET)


def request_body(frame: bytes) -> memoryview:
    """The bytes of the commands of a REQUEST frame that :func:`parse_request` accepted."""
    return memoryview(frame)[COMMANDS_OFFSET:]


def encode_open_session(nonce: int, group: int = 0, owner: int = 0) -> bytes:
    """A whole OPEN_SESSION frame.

    Args:
        nonce: a random u64 by which the client recognizes the answer.
        group: the Raft group.
        owner: the fingerprint of the client's key, which only a node adds; 0: none.
    """
    if owner:
        return _OWNED.pack(MAGIC, VERSION, OPEN_SESSION, group, nonce, owner)
    return _NONCE.pack(MAGIC, VERSION, OPEN_SESSION, group, nonce)


def parse_open_session(frame: bytes) -> int:
    """The nonce of an OPEN_SESSION frame.

    Raises:
        FrameError: it is no OPEN_SESSION frame, or has another length.
    """
    _expect(frame, OPEN_SESSION)
    if len(frame) not in (_NONCE.size, _OWNED.size):
        raise FrameError(f"an open-session frame has {_NONCE.size} bytes, not {len(frame)}")
    nonce: int = _NONCE.unpack_from(frame)[4]
    return nonce


def owner_in(frame: bytes) -> int:
    """The owner that an OPEN_SESSION frame names, which :func:`parse_open_session` accepted; 0: none."""
    owner: int = _OWNED.unpack(frame)[5] if len(frame) == _OWNED.size else 0
    return owner


def encode_response(
    client_id: int,
    request_number: int,
    log_index: int,
    status: int = ResponseStatus.OK,
    flags: int = 0,
    reports: bytes = b"",
    fills: bytes = b"",
) -> bytes:
    """One response body. It has no frame header, so it can be stored, and joined with others."""
    counts = len(reports) // REPORT.size, len(fills) // FILL.size
    return _BODY.pack(client_id, request_number, log_index, status, flags, *counts) + reports + fills


def encode_execution(
    client_id: int, request_number: int, log_index: int, reports: bytes, fills: bytes, max_fills: int
) -> bytes:
    """The body that answers an executed request, from its packed reports and fills.

    One order may trade with hundreds of thousands of others. Of the fills only the first ``max_fills`` are
    in the answer. Then the flag FILLS_CUT is set, and each report's ``fill_count`` counts the fills that are there.
    The totals of each report (filled and remaining quantity, notional) are always of the whole execution.
    """
    if len(fills) <= max_fills * FILL.size:
        return encode_response(client_id, request_number, log_index, ResponseStatus.OK, 0, reports, fills)
    room, cut = max_fills, list[int]()
    for report in unpack_reports(reports):
        cut += report._replace(fill_count=min(report.fill_count, room))
        room -= cut[REPORT_FILL_COUNT - REPORT_WIDTH]
    packed = pack_reports(cut), fills[: max_fills * FILL.size]
    return encode_response(client_id, request_number, log_index, ResponseStatus.OK, FILLS_CUT, *packed)


def log_index_of(body: bytes) -> int:
    """Where in the log the request of this response body was applied."""
    index: int = _U64.unpack_from(body, _LOG_INDEX_OFFSET)[0]
    return index


def replayed(body: bytes) -> bytes:
    """The same response body, marked as the first answer once more."""
    flags = bytes((body[_FLAGS_OFFSET] | REPLAYED,))
    return body[:_FLAGS_OFFSET] + flags + body[_FLAGS_OFFSET + 1 :]


def encode_responses(bodies: Sequence[bytes], group: int = 0) -> bytes:
    """A whole RESPONSES frame of at least one body."""
    return header(RESPONSES, group) + b"".join(bodies)


def iter_responses(frame: bytes) -> Iterator[Response]:
    """The responses of a RESPONSES frame, each checked against the frame's bounds before it is handed out.

    Raises:
        FrameError: it is no RESPONSES frame, holds none, or ends in the middle of one. The responses before the
            damage were handed out by then.
    """
    _expect(frame, RESPONSES)
    view = memoryview(frame)
    size = len(frame)
    offset = HEADER_BYTES
    if offset == size:
        raise FrameError("a responses frame holds no response")
    while offset < size:
        if size - offset < _BODY.size:
            raise FrameError(f"{size - offset} bytes at the end of a responses frame are no response")
        head: tuple[int, int, int, int, int, int, int] = _BODY.unpack_from(frame, offset)
        fills_offset = offset + _BODY.size + head[5] * REPORT.size
        end = fills_offset + head[6] * FILL.size
        if end > size:
            raise FrameError(f"a response says that it ends at byte {end} of a frame of {size}")
        yield Response(*head, view[offset + _BODY.size : fills_offset], view[fills_offset:end])
        offset = end


def execution_reports(response: Response) -> list[ExecutionReport]:
    """The reports of ``response`` for people, each with its fills.

    Raises:
        FrameError: a code is unknown, or the fill counts of the reports do not add up.
    """
    fills = unpack_fills(response.fills)
    result = []
    start = 0
    for each in unpack_reports(response.reports):
        own = tuple(fills[start : start + each.fill_count])
        start += each.fill_count
        try:
            codes = Status(each.status), Reason(each.reason)
        except ValueError as error:
            raise FrameError(f"a report does not make sense: {error}") from None
        sums = each.filled_quantity, each.leaves_quantity, each.notional
        result.append(ExecutionReport(*codes, each.order_id, *sums, own, response.log_index))
    if start != len(fills):
        raise FrameError(f"the reports count {start} fills, the response holds {len(fills)}")
    return result


def fields_of(frame: bytes) -> list[Field]:
    """All fields of a REQUEST, OPEN_SESSION or RESPONSES frame, in order.

    Raises:
        FrameError: it is of another type, or does not fit its layout.
    """
    frame_type, _ = parse_header(frame)
    if frame_type not in _FRAME_NAMES:
        known = ", ".join(_FRAME_NAMES.values())
        raise FrameError(f"a frame of type {frame_type:#04x} is not one of a client's: {known}")
    reader = _Reader(frame)
    reader.take("header", _HEADER_LAYOUT)
    if frame_type == REQUEST:
        count = parse_request(frame).command_count
        reader.take("request", _REQUEST_LAYOUT)
        for number in range(count):
            reader.take(f"command {number}", _COMMAND_LAYOUT)
    elif frame_type == OPEN_SESSION:
        parse_open_session(frame)
        reader.take("session", _OWNED_LAYOUT if owner_in(frame) else _SESSION_LAYOUT)
    else:
        for number, response in enumerate(iter_responses(frame)):
            reader.take(f"response {number}", _BODY_LAYOUT)
            for report in range(response.report_count):
                reader.take(f"report {report}", _REPORT_LAYOUT)
            for fill in range(response.fill_count):
                reader.take(f"fill {fill}", _FILL_LAYOUT)
    return reader.fields


def _expect(frame: bytes, frame_type: int) -> None:
    """Raise FrameError unless ``frame`` begins with a valid header of ``frame_type``."""
    found, _ = parse_header(frame)
    if found != frame_type:
        raise FrameError(f"a frame of type {found:#04x} came where {frame_type:#04x} was expected")


class _Reader:
    """Cuts a frame into fields, from the beginning on."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._offset = 0
        self.fields: list[Field] = []

    def take(self, part: str, layout: _Layout) -> None:
        formats, names = layout
        for name, code in zip(names, _codes(formats), strict=True):
            size = struct.calcsize(f"<{code}")
            data = self._frame[self._offset : self._offset + size]
            (value,) = struct.unpack(f"<{code}", data)
            self.fields.append(Field(self._offset, part, name, data, _said(part.split()[0], name, value)))
            self._offset += size


def _codes(formats: str) -> Iterator[str]:
    """The codes of a struct's format, one for each field: ``2sB`` has two."""
    count = ""
    for letter in formats:
        if letter.isdigit():
            count += letter
        else:
            yield count + letter
            count = ""


def _said(part: str, name: str, value: int | bytes) -> str:
    """A value for people to read."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if (part, name) == ("header", "type"):
        return _FRAME_NAMES[value]
    if (part, name) == ("response", "flags"):
        return f"{value}, the first answer again" if value & REPLAYED else str(value)
    if name == "symbol" and value:
        try:
            return symbol_name(value)
        except ValueError:
            return f"{value}, no symbol"
    codes = _ENUMS.get((part, name))
    if codes is not None:
        known = next((code.name for code in codes if code == value), "")
        return f"{value}, {known}" if known else str(value)
    return f"{value:,}"
