"""The state of an exchange as bytes, whichever way it is kept: the snapshot and what the state hash is made of.

The bytes are *canonical*: two exchanges in the same state give the same bytes, whatever their data structures
and whatever way led there. So the snapshot and the input of the state hash are the same thing.
Little-endian::

    state   magic b"ZLMS", version u32, next_order_id u64, symbols u32, then the symbols by rising code symbol
    code u64, bids u32, asks u32, trades u32, then the columns of the bids, the asks and the trades side    in
    price-time order: all order_ids u64, all prices u32, all leaves quantities u32, all accounts u32 trades
    oldest first: all prices u32, all quantities u32, all maker_order_ids u64, all taker_order_ids u64

Columns, because one ``struct`` call then packs any number of values with a short format. A symbol is in the state
from its first accepted order on, even while its book is empty.

Left out on purpose: the limits, which are settings, and dead orders, spare levels and the like, which are not
state.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

from zmqlab.errors import JournalCorrupt

MAGIC = b"ZLMS"
VERSION = 1
STATE_HASH_BYTES = 16

_HEADER = struct.Struct("<4sIQI")
_SYMBOL = struct.Struct("<QIII")
_ORDER_COLUMNS = "QIII"
_TRADE_COLUMNS = "IIQQ"
_WIDTHS = {"Q": 8, "I": 4}

Row = tuple[int, int, int, int]


class SymbolState(NamedTuple):
    """One symbol, listed plainly."""

    code: int
    bids: Sequence[Row]
    """(order_id, price, leaves_quantity, account) in price-time order."""
    asks: Sequence[Row]
    trades: Sequence[Row]
    """(price, quantity, maker_order_id, taker_order_id), oldest first."""


def encode_state(next_order_id: int, symbols: Sequence[SymbolState]) -> bytes:
    """The canonical bytes of a state; ``symbols`` must be sorted by code."""
    parts = [_HEADER.pack(MAGIC, VERSION, next_order_id, len(symbols))]
    for code, bids, asks, trades in symbols:
        parts.append(_SYMBOL.pack(code, len(bids), len(asks), len(trades)))
        parts.extend(_pack_columns(_ORDER_COLUMNS, bids))
        parts.extend(_pack_columns(_ORDER_COLUMNS, asks))
        parts.extend(_pack_columns(_TRADE_COLUMNS, trades))
    return b"".join(parts)


def decode_state(data: bytes) -> tuple[int, list[SymbolState]]:
    """``(next_order_id, symbols)`` of :func:`encode_state`'s bytes.

    Raises:
        JournalCorrupt: the bytes are not exactly one state.
    """
    try:
        magic, version, next_order_id, count = _HEADER.unpack_from(data)
        if magic != MAGIC or version != VERSION:
            raise JournalCorrupt(f"a snapshot of the market opens with {magic!r} version {version}")
        symbols = []
        offset = _HEADER.size
        for _ in range(count):
            code, bids, asks, trades = _SYMBOL.unpack_from(data, offset)
            offset += _SYMBOL.size
            tables = []
            for columns, rows in ((_ORDER_COLUMNS, bids), (_ORDER_COLUMNS, asks), (_TRADE_COLUMNS, trades)):
                tables.append(list(_unpack_columns(columns, rows, data, offset)))
                offset += rows * sum(_WIDTHS[column] for column in columns)
            symbols.append(SymbolState(code, *tables))
    except struct.error as error:
        raise JournalCorrupt(f"a snapshot of the market is cut short: {error}") from None
    if offset != len(data):
        raise JournalCorrupt(f"a snapshot of the market has {len(data) - offset} bytes too many")
    return next_order_id, symbols


def hash_state(state: bytes) -> bytes:
    """The state hash of canonical bytes."""
    return blake2b(state, digest_size=STATE_HASH_BYTES).digest()


def _pack_columns(columns: str, rows: Sequence[Row]) -> Iterable[bytes]:
    if not rows:
        return ()
    count = len(rows)
    return [
        struct.pack(f"<{count}{kind}", *column) for kind, column in zip(columns, zip(*rows, strict=True), strict=True)
    ]


def _unpack_columns(columns: str, count: int, data: bytes, offset: int) -> Iterator[Row]:
    tables: list[tuple[int, ...]] = []
    for kind in columns:
        tables.append(struct.unpack_from(f"<{count}{kind}", data, offset))
        offset += count * _WIDTHS[kind]
    return zip(*tables, strict=True)
