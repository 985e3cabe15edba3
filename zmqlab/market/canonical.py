"""The state of an exchange as bytes: the snapshot, and the input of the state hash.

The bytes are *canonical*: two exchanges in the same state give the same bytes, whatever their data structures are and
however they got there. So one form serves as snapshot and as input of the hash. All integers are little-endian and
unsigned::

    offset  size  field
                  the state
    0       4     magic              b"ZLMS"
    4       4     version            1
    8       8     next_order_id
    16      4     symbols            how many symbols follow, by rising code

                  each symbol
    0       8     code
    8       4     bids               how many orders
    12      4     asks               how many orders
    16      4     trades             how many trades
    20            the columns of the bids, then of the asks, then of the trades

                  the columns of n orders of one side, in price-time order
    0       8n    order_id
    8n      4n    price
    12n     4n    leaves_quantity
    16n     4n    account

                  the columns of n trades, oldest first
    0       4n    price
    4n      4n    quantity
    8n      8n    maker_order_id
    16n     8n    taker_order_id

The tables are in columns, so that one ``struct`` call with a short format packs any number of values. A symbol is in
the state from its first accepted order on, even while its book is empty.

Left out on purpose: the limits, because they are settings; dead orders and spare levels, because they are no state.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

from zmqlab.errors import StateInvalid

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
    """The state of one symbol as plain rows."""

    code: int
    bids: Sequence[Row]
    """(order_id, price, leaves_quantity, account) in price-time order."""
    asks: Sequence[Row]
    trades: Sequence[Row]
    """(price, quantity, maker_order_id, taker_order_id), oldest first."""


def encode_state(next_order_id: int, symbols: Sequence[SymbolState]) -> bytes:
    """The canonical bytes of a state. ``symbols`` must be sorted by code."""
    parts = [_HEADER.pack(MAGIC, VERSION, next_order_id, len(symbols))]
    for code, bids, asks, trades in symbols:
        parts.append(_SYMBOL.pack(code, len(bids), len(asks), len(trades)))
        parts.extend(_pack_columns(_ORDER_COLUMNS, bids))
        parts.extend(_pack_columns(_ORDER_COLUMNS, asks))
        parts.extend(_pack_columns(_TRADE_COLUMNS, trades))
    return b"".join(parts)


def decode_state(data: bytes) -> tuple[int, list[SymbolState]]:
    """``(next_order_id, symbols)`` from the bytes of :func:`encode_state`.

    Raises:
        StateInvalid: the bytes are not exactly one state.
    """
    try:
        magic, version, next_order_id, count = _HEADER.unpack_from(data)
        if magic != MAGIC or version != VERSION:
            raise StateInvalid(
                f"a state of the market begins with {magic!r}, version {version}; this zmqlab reads {MAGIC!r}, "
                f"version {VERSION}"
            )
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
        raise StateInvalid(f"a state of the market is cut short: {error}") from None
    if offset != len(data):
        raise StateInvalid(f"a state of the market ends at byte {offset} of {len(data)}")
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
