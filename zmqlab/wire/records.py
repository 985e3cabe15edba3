"""The fixed-width records of an order's way: commands in, reports and fills out.

Little-endian, without padding, in the order of the fields of :class:`~zmqlab.market.types.Command`,
:class:`~zmqlab.market.types.ExecutionReport` and :class:`~zmqlab.market.types.Fill`::

    COMMAND 40   kind u8, side u8, order_type u8, time_in_force u8, quantity u32, order_id u64, symbol u64,
                 price i64, account u32, flags u32
    REPORT  32   status u8, reason u8, reserved u16 (0), fill_count u32, filled_quantity u32,
                 leaves_quantity u32, order_id u64, notional i64
    FILL    24   maker_order_id u64, price i64, quantity u32, maker_leaves_quantity u32

A batch of reports is packed by one call of one :class:`struct.Struct` (the format repeated count times),
which is several times faster than a call a record; the Structs are cached by count. The cache is bounded: a
count that is larger than the bound is packed in pieces, because such a batch is rare and its Struct large.

Left out on purpose: any check of what a record says. A command with a wrong kind or quantity is a
deterministic rejection by the exchange, not a broken frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

CommandTuple: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int]
"""kind, side, order_type, time_in_force, quantity, order_id, symbol, price, account, flags"""

COMMAND_FIELDS = "BBBBIQQqII"
REPORT_FIELDS = "BBHIIIQq"
FILL_FIELDS = "QqII"

COMMAND = struct.Struct("<" + COMMAND_FIELDS)
REPORT = struct.Struct("<" + REPORT_FIELDS)
FILL = struct.Struct("<" + FILL_FIELDS)

REPORT_WIDTH = len(REPORT_FIELDS)
"""Integers of one report in a flat list."""
FILL_COUNT = 3
"""Position of a report's ``fill_count`` among its integers."""
FILL_WIDTH = len(FILL_FIELDS)
"""Integers of one fill in a flat list."""

MAX_RECORDS_PER_CALL = 128
"""Larger batches are packed in pieces of this size. It also bounds the caches: a Struct takes about 32 bytes
a field, so that 128 of them, for 1 to 128 reports of eight fields, take two megabytes."""


@lru_cache(maxsize=MAX_RECORDS_PER_CALL + 1)
def _reports_struct(count: int) -> struct.Struct:
    return struct.Struct("<" + REPORT_FIELDS * count)


@lru_cache(maxsize=MAX_RECORDS_PER_CALL + 1)
def _fills_struct(count: int) -> struct.Struct:
    return struct.Struct("<" + FILL_FIELDS * count)


def pack_command(command: Sequence[int]) -> bytes:
    """One command as 40 bytes. Raises ``struct.error`` if a field does not fit its width."""
    return COMMAND.pack(*command)


def pack_commands(commands: Iterable[Sequence[int]]) -> bytes:
    """A batch of commands, as it follows a request's header."""
    pack = COMMAND.pack
    return b"".join([pack(*command) for command in commands])


def iter_commands(buffer: bytes | memoryview, offset: int = 0) -> Iterator[CommandTuple]:
    """The commands of ``buffer`` from ``offset`` to its end, which must be a whole number of records away."""
    return COMMAND.iter_unpack(memoryview(buffer)[offset:])


def pack_reports(flat: Sequence[int]) -> bytes:
    """Reports, given as one flat sequence of integers, eight a report."""
    count = len(flat) // REPORT_WIDTH
    if count <= MAX_RECORDS_PER_CALL:
        return _reports_struct(count).pack(*flat)
    step = MAX_RECORDS_PER_CALL * REPORT_WIDTH
    return b"".join([pack_reports(flat[start : start + step]) for start in range(0, len(flat), step)])


def pack_fills(flat: Sequence[int]) -> bytes:
    """Fills, given as one flat sequence of integers, four a fill."""
    count = len(flat) // FILL_WIDTH
    if count <= MAX_RECORDS_PER_CALL:
        return _fills_struct(count).pack(*flat)
    step = MAX_RECORDS_PER_CALL * FILL_WIDTH
    return b"".join([pack_fills(flat[start : start + step]) for start in range(0, len(flat), step)])


def unpack_reports(buffer: bytes | memoryview) -> list[tuple[int, ...]]:
    """Reports as tuples of eight integers, in the order of REPORT."""
    return list(REPORT.iter_unpack(buffer))


def unpack_fills(buffer: bytes | memoryview) -> list[tuple[int, ...]]:
    """Fills as tuples of four integers: maker_order_id, price, quantity, maker_leaves_quantity."""
    return list(FILL.iter_unpack(buffer))
