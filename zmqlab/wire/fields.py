"""A client's frame, field by field, for people.

It follows the layouts of :mod:`~zmqlab.wire.frames`, :mod:`~zmqlab.wire.client` and :mod:`~zmqlab.wire.records`. A test
checks that the fields cover each frame without a gap. It is not on the way of an order, so it may be slow.

Left out on purpose: the frames between nodes, and the msgpack maps, which name their own fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from zmqlab.errors import FrameError
from zmqlab.market.types import (
    Command,
    CommandKind,
    Fill,
    OrderType,
    Reason,
    Report,
    Side,
    Status,
    TimeInForce,
    symbol_name,
)
from zmqlab.wire import client
from zmqlab.wire.frames import OPEN_SESSION, REQUEST, RESPONSES, parse_header
from zmqlab.wire.records import COMMAND_FIELDS, FILL_FIELDS, REPORT_FIELDS

_HEADER = ("2sBBI", ("magic", "version", "type", "group"))
_REQUEST = ("QQQ", ("client_id", "request_number", "answered_below"))
_COMMAND = (COMMAND_FIELDS, Command._fields)
_BODY = (
    "QQQBBHI",
    ("client_id", "request_number", "log_index", "status", "flags", "report_count", "fill_count"),
)
_REPORT = (REPORT_FIELDS, Report._fields)
_FILL = (FILL_FIELDS, Fill._fields)
_TYPES = {REQUEST: "REQUEST", RESPONSES: "RESPONSES", OPEN_SESSION: "OPEN_SESSION"}

_Layout = tuple[str, Sequence[str]]


class Field(NamedTuple):
    """One field of a frame."""

    offset: int
    part: str
    """``header``, ``request``, ``command 0``, ``response 0``, ``report 0``, ``fill 0``, ..."""
    name: str
    data: bytes
    value: str
    """For people: codes with their names."""


def fields_of(frame: bytes) -> list[Field]:
    """All fields of a REQUEST, OPEN_SESSION or RESPONSES frame, in order.

    Raises:
        FrameError: it is of another type, or does not fit its layout.
    """
    frame_type, _ = parse_header(frame)
    if frame_type not in _TYPES:
        raise FrameError(f"a frame of type {frame_type:#04x} is not one of a client's: {', '.join(_TYPES.values())}")
    reader = _Reader(frame)
    reader.take("header", _HEADER)
    if frame_type == REQUEST:
        count = client.parse_request(frame).command_count
        reader.take("request", _REQUEST)
        for number in range(count):
            reader.take(f"command {number}", _COMMAND)
    elif frame_type == OPEN_SESSION:
        client.parse_open_session(frame)
        reader.take("session", ("Q", ("nonce",)))
    else:
        for number, response in enumerate(client.iter_responses(frame)):
            reader.take(f"response {number}", _BODY)
            for report in range(response.report_count):
                reader.take(f"report {report}", _REPORT)
            for fill in range(response.fill_count):
                reader.take(f"fill {fill}", _FILL)
    return reader.fields


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


_ENUMS: dict[tuple[str, str], type[IntEnum]] = {
    ("command", "kind"): CommandKind,
    ("command", "side"): Side,
    ("command", "order_type"): OrderType,
    ("command", "time_in_force"): TimeInForce,
    ("response", "status"): client.ResponseStatus,
    ("report", "status"): Status,
    ("report", "reason"): Reason,
}


def _said(part: str, name: str, value: int | bytes) -> str:
    """A value for people to read."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if (part, name) == ("header", "type"):
        return _TYPES[value]
    if (part, name) == ("response", "flags"):
        return f"{value}, the first answer again" if value & client.REPLAYED else str(value)
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
