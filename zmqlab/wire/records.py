"""The fixed-width records on an order's way: commands in, reports and fills out.

The fields, their order and their widths are those of :class:`~zmqlab.market.types.Command` (40 bytes),
:class:`~zmqlab.market.types.Report` (32 bytes) and :class:`~zmqlab.market.types.Fill` (24 bytes), little-endian and
without padding. ``docs/wire-format.md`` has them as tables.

One call of one :class:`struct.Struct` packs a whole batch of reports; its format repeats that of a report. This is
several times faster than a call for each record. The Structs are cached by the number of records. The cache is bounded:
a batch above the bound is packed in pieces, because such a batch is rare and its Struct is large.

Left out on purpose: any check of what a record says. The exchange rejects a command with a wrong kind or quantity, on
every node alike; the frame is not broken.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

from zmqlab.market.types import FILL_WIDTH, REPORT_WIDTH, Command, Fill, Report, record_fields

CommandTuple: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int]
"""The fields of a command, unnamed: a command is read and executed once on each node, and names would cost time."""

COMMAND_FIELDS, REPORT_FIELDS, FILL_FIELDS = (
    "".join(code for _, code in record_fields(record)) for record in (Command, Report, Fill)
)
"""The formats of the records, one code for each field."""

COMMAND = struct.Struct("<" + COMMAND_FIELDS)
REPORT = struct.Struct("<" + REPORT_FIELDS)
FILL = struct.Struct("<" + FILL_FIELDS)

_BEFORE_SYMBOL = struct.calcsize("<" + COMMAND_FIELDS[: Command._fields.index("symbol")])
_SYMBOL = struct.Struct(f"<{_BEFORE_SYMBOL}xQ{COMMAND.size - _BEFORE_SYMBOL - 8}x")
"""Of a command nothing but its symbol."""

MAX_RECORDS_PER_CALL = 128
"""Larger batches are packed in pieces of this size. It also bounds the caches: a Struct takes about 32 bytes a field,
so 128 of them, for 1 to 128 reports of eight fields, take two megabytes."""


@lru_cache(maxsize=MAX_RECORDS_PER_CALL + 1)
def _reports_struct(count: int) -> struct.Struct:
    return struct.Struct("<" + REPORT_FIELDS * count)


@lru_cache(maxsize=MAX_RECORDS_PER_CALL + 1)
def _fills_struct(count: int) -> struct.Struct:
    return struct.Struct("<" + FILL_FIELDS * count)


def symbol_codes(commands: memoryview) -> set[int]:
    """The codes of the symbols that packed commands name, without a look at their other fields."""
    return {code for (code,) in _SYMBOL.iter_unpack(commands)}


def pack_commands(commands: Iterable[Sequence[int]]) -> bytes:
    """A batch of commands, as it follows the header of a request: 40 bytes each.

    Raises:
        struct.error: a field does not fit its width.
    """
    pack = COMMAND.pack
    return b"".join([pack(*command) for command in commands])


def iter_commands(buffer: bytes | memoryview, offset: int = 0) -> Iterator[CommandTuple]:
    """The commands in ``buffer`` from ``offset`` to its end.

    Raises:
        struct.error: there is no whole number of records.
    """
    return COMMAND.iter_unpack(memoryview(buffer)[offset:])


def pack_reports(flat: Sequence[int]) -> bytes:
    """Reports as bytes, from one flat sequence of integers."""
    count = len(flat) // REPORT_WIDTH
    if count <= MAX_RECORDS_PER_CALL:
        return _reports_struct(count).pack(*flat)
    step = MAX_RECORDS_PER_CALL * REPORT_WIDTH
    return b"".join([pack_reports(flat[start : start + step]) for start in range(0, len(flat), step)])


def pack_fills(flat: Sequence[int]) -> bytes:
    """Fills as bytes, from one flat sequence of integers."""
    count = len(flat) // FILL_WIDTH
    if count <= MAX_RECORDS_PER_CALL:
        return _fills_struct(count).pack(*flat)
    step = MAX_RECORDS_PER_CALL * FILL_WIDTH
    return b"".join([pack_fills(flat[start : start + step]) for start in range(0, len(flat), step)])


def unpack_reports(buffer: bytes | memoryview) -> list[Report]:
    """The reports in ``buffer``, which must hold a whole number of them."""
    return list(map(Report._make, REPORT.iter_unpack(buffer)))


def unpack_fills(buffer: bytes | memoryview) -> list[Fill]:
    """The fills in ``buffer``, which must hold a whole number of them."""
    return list(map(Fill._make, FILL.iter_unpack(buffer)))
