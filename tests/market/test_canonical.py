"""The canonical state: its bytes, its hash, and the bytes that are refused."""

from __future__ import annotations

import struct
from hashlib import blake2b

import pytest

from zmqlab.errors import StateInvalid
from zmqlab.market import Command, Exchange, NaiveExchange, Side, symbol_code

EMPTY = b"ZLMS" + struct.pack("<IQI", 1, 1, 0)

FLOW = [
    Command.limit(Side.SELL, "B", 5, 101, account=1),
    Command.limit(Side.SELL, "B", 6, 100, account=2),
    Command.limit(Side.BUY, "B", 2, 100, account=3),
    Command.limit(Side.BUY, "B", 7, 99, account=4),
    Command.limit(Side.BUY, "B", 8, 99, account=5),
    Command.market(Side.BUY, "A", 1, account=6),
    Command.limit(Side.BUY, "B", 9, 98, account=2),
    Command.cancel(7, "B", account=2),
]
"""Leaves asks 2:4 at 100 and 1:5 at 101, bids 4:7 and 5:8 at 99, one trade, and an empty book of A."""

STATE = b"".join(
    [
        b"ZLMS",
        struct.pack("<IQI", 1, 8, 2),
        b"A\0\0\0\0\0\0\0" + struct.pack("<III", 0, 0, 0),
        b"B\0\0\0\0\0\0\0" + struct.pack("<III", 2, 2, 1),
        struct.pack("<QQ", 4, 5) + struct.pack("<6I", 99, 99, 7, 8, 4, 5),
        struct.pack("<QQ", 2, 1) + struct.pack("<6I", 100, 101, 4, 5, 2, 1),
        struct.pack("<IIQQ", 100, 2, 2, 3),
    ]
)


@pytest.mark.parametrize("make", [Exchange, NaiveExchange])
def test_the_state_hash_is_of_the_documented_bytes(make: type[Exchange] | type[NaiveExchange]) -> None:
    """The bytes are spelled out here, so that neither exchange judges the other."""
    exchange = make()
    assert exchange.state_hash() == blake2b(EMPTY, digest_size=16).digest()
    exchange.execute(FLOW)
    assert exchange.state_hash() == blake2b(STATE, digest_size=16).digest()


def test_the_snapshot_is_the_documented_bytes() -> None:
    exchange = Exchange()
    exchange.execute(FLOW)
    assert exchange.snapshot() == STATE


def test_the_way_to_a_state_does_not_show() -> None:
    """Dead orders, removed levels and the order in which symbols came up are no state."""
    exchange, restored = Exchange(), Exchange()
    for name in ("B", "A"):
        exchange.execute([Command.limit(Side.BUY, name, 5, price, account=1) for price in (100, 100, 101)])
    exchange.execute([Command.cancel(order_id, "B", account=1) for order_id in (1, 3)])
    (level,) = exchange._books[symbol_code("B")].bids.levels.values()
    assert [order[0] for order in level] == [1, 2], "order 1 is dead and still in its queue"
    restored.restore(exchange.snapshot())
    assert restored.symbols == exchange.symbols == ["A", "B"]
    assert restored.snapshot() == exchange.snapshot()


def test_a_snapshot_that_is_cut_anywhere_is_refused_and_changes_nothing() -> None:
    exchange = Exchange()
    exchange.execute(FLOW)
    before = exchange.snapshot()
    for end in range(len(STATE)):
        with pytest.raises(StateInvalid):
            exchange.restore(STATE[:end])
    assert exchange.snapshot() == before


@pytest.mark.parametrize(
    "damaged",
    [
        STATE + b"\0",
        b"ZLMX" + STATE[4:],
        STATE[:4] + struct.pack("<I", 2) + STATE[8:],
        STATE[:16] + struct.pack("<I", 2**32 - 1) + STATE[20:],
        STATE[:28] + struct.pack("<I", 2**32 - 1) + STATE[32:],
    ],
    ids=["a byte too many", "magic", "version", "number of symbols", "number of orders"],
)
def test_a_damaged_snapshot_is_refused(damaged: bytes) -> None:
    with pytest.raises(StateInvalid):
        Exchange().restore(damaged)
