"""The canonical state: its bytes, its hash, and the bytes that are refused."""

from __future__ import annotations

import struct
from hashlib import blake2b

import pytest

from tests.market.exchanges import ALL, FAST, Make, fast_exchanges
from zmqlab.errors import StateInvalid
from zmqlab.market import Command, Exchange, NaiveExchange, Side, symbol_code
from zmqlab.market.canonical import HEADER, ORDER, SYMBOL, TRADE
from zmqlab.market.market_state import FREED_AT_ONCE

EMPTY = b"ZLMS" + struct.pack("<IQIII", 2, 1, 0, 0, 0)

FLOW = [
    Command.limit(Side.SELL, "B", 5, 101, account=1),
    Command.limit(Side.SELL, "B", 6, 100, account=2),
    Command.limit(Side.BUY, "B", 2, 100, account=3),
    Command.limit(Side.BUY, "B", 7, 99, account=4),
    Command.limit(Side.BUY, "B", 8, 99, account=5),
    Command.limit(Side.BUY, "A", 1, 70, account=6),
    Command.limit(Side.BUY, "B", 9, 98, account=2),
    Command.cancel(7, "B", account=2),
    Command.cancel(6, "A", account=6),
    Command.market(Side.BUY, "C", 1, account=6),
    Command.replace(4, "B", 8, 99, account=4),
]
"""Leaves asks 2:4 at 100 and 1:5 at 101, bids 5:8 and 4:8 at 99, one trade, and an empty book of A."""

B = symbol_code("B")
STATE = b"".join(
    [
        b"ZLMS",
        struct.pack("<IQIII", 2, 9, 1, 1, 4),
        b"B\0\0\0\0\0\0\0" + struct.pack("<QII", 77, 1, 1),
        struct.pack("<IIQQ", 100, 2, 2, 3),
        b"A\0\0\0\0\0\0\0" + struct.pack("<QII", 0, 0, 0),
        struct.pack("<QQQiII", 1, 77, B, 101, 5, 1),
        struct.pack("<QQQiII", 2, 77, B, 100, 4, 2),
        struct.pack("<QQQiII", 5, 77, B, -99, 8, 5),
        struct.pack("<QQQiII", 4, 77, B, -99, 8, 4),
    ]
)


@pytest.mark.parametrize("make", ALL)
def test_the_state_hash_is_of_the_documented_bytes(make: type[Exchange] | type[NaiveExchange]) -> None:
    """The bytes are spelled out here, so that neither exchange judges the other."""
    exchange = make()
    assert exchange.state_hash() == blake2b(EMPTY, digest_size=16).digest()
    exchange.execute(FLOW, session=77)
    assert exchange.state_hash() == blake2b(STATE, digest_size=16).digest()


@pytest.mark.parametrize("make", FAST)
def test_the_snapshot_is_the_documented_bytes(make: Make) -> None:
    exchange = make()
    exchange.execute(FLOW, session=77)
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


@pytest.mark.parametrize("make", FAST)
def test_no_slice_has_more_than_its_rows(make: Make) -> None:
    """A slice is one turn's work. A node's loop must not stand still because many orders rest."""
    exchange = make()
    exchange.execute([Command.limit(Side.BUY, f"S{n % 40}", 5, 100 + n % 7, account=n % 3) for n in range(6_000)])
    exchange.execute([Command.market(Side.SELL, f"S{n % 40}", 5, account=9) for n in range(40 * 64)])
    slices = list(exchange.freeze(rows=128))
    symbols, orders = slices[:20], slices[20:]
    assert max(map(len, symbols)) <= HEADER.size + 2 * (SYMBOL.size + 64 * TRADE.size)
    assert {len(slice_) // ORDER.size for slice_ in orders[:-1]} == {128}
    assert len(orders) == -(-exchange.open_orders // 128)
    assert b"".join(slices) == exchange.snapshot()


@pytest.mark.parametrize("make", FAST)
def test_an_old_state_is_let_go_in_steps(make: Make) -> None:
    exchange = make()
    exchange.execute([Command.limit(Side.BUY, "A", 5, 1 + n % 5_000, account=1) for n in range(9_000)])
    left = exchange.open_orders
    for _ in exchange.dismantle():
        assert left - exchange.open_orders <= FREED_AT_ONCE
        left = exchange.open_orders
    assert left <= FREED_AT_ONCE
    assert exchange.open_orders == 0


@pytest.mark.parametrize("make", FAST)
def test_a_snapshot_that_is_cut_anywhere_is_refused_and_changes_nothing(make: Make) -> None:
    exchange = make()
    exchange.execute(FLOW, session=77)
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
        STATE[:4] + struct.pack("<I", 1) + STATE[8:],
        STATE[:16] + struct.pack("<I", 2**32 - 1) + STATE[20:],
        STATE[:24] + struct.pack("<I", 2**32 - 1) + STATE[28:],
        STATE[:48] + struct.pack("<I", 65) + STATE[52:],
        STATE[:28] + b"a" + STATE[29:],
        STATE[:-36] + STATE[-72:-36],
        STATE[:-8] + struct.pack("<I", 0) + STATE[-4:],
        STATE[:-12] + struct.pack("<i", -100) + STATE[-8:],
        STATE[:-12] + struct.pack("<i", 0) + STATE[-8:],
        STATE[:-20] + b"Z" + STATE[-19:],
        STATE[:8] + struct.pack("<Q", 5) + STATE[16:],
    ],
    ids=[
        "a byte too many",
        "magic",
        "version",
        "number of symbols",
        "number of orders",
        "number of trades",
        "code of a symbol",
        "an order twice",
        "no quantity",
        "a crossed book",
        "no price",
        "a symbol that is not listed",
        "an order of the future",
    ],
)
def test_a_damaged_snapshot_is_refused(damaged: bytes) -> None:
    """With the same words by every exchange."""
    said = set()
    for make in fast_exchanges():
        with pytest.raises(StateInvalid) as refused:
            make().restore(damaged)
        said.add(str(refused.value))
    assert len(said) == 1
