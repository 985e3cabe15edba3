"""The fast exchanges and the naive one are the same function of their commands."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.market.exchanges import FAST, Make
from zmqlab.market.canonical import Pieces
from zmqlab.market.exchange import Exchange
from zmqlab.market.naive import NaiveExchange
from zmqlab.market.types import MarketLimits, reports_in, symbol_code

SYMBOLS = ["AAPL", "MSFT", "X"]
CODES = [*map(symbol_code, SYMBOLS), 0, 0x20]
"""The last two are no symbol codes."""

news = st.tuples(
    st.just(1),
    st.sampled_from([1, 2, 1, 2, 1, 2, 0, 3]),
    st.sampled_from([1, 1, 1, 1, 2, 0, 3]),
    st.sampled_from([1, 1, 1, 2, 3, 0, 4]),
    st.one_of(st.integers(1, 12), st.sampled_from([0, 2_000_000_000, 2_000_000_001])),
    st.just(0),
    st.sampled_from([*CODES[:3] * 4, *CODES[3:]]),
    st.one_of(st.integers(95, 105), st.sampled_from([0, -1, 2_000_000_000, 2_000_000_001])),
    st.integers(1, 4),
    st.sampled_from([0, 0, 0, 1, 2]),
)
market_orders = news.map(lambda row: (*row[:2], 2, *row[3:7], 0, *row[8:]))
cancels = st.tuples(
    st.just(2),
    *[st.just(0)] * 4,
    st.integers(0, 40),
    st.sampled_from(CODES[:3]),
    st.just(0),
    st.integers(1, 4),
    st.just(0),
)
changes = st.tuples(
    st.sampled_from([2, 3, 3, 9]),
    st.just(0),
    st.just(0),
    st.just(0),
    st.one_of(st.integers(0, 12), st.just(2_000_000_001)),
    st.integers(0, 40),
    st.sampled_from(CODES[:3]),
    st.integers(94, 106),
    st.integers(1, 4),
    st.just(0),
)
flows = st.lists(st.one_of(news, news, news, market_orders, cancels, changes), max_size=120)
limits = st.builds(
    MarketLimits,
    open_orders=st.integers(2, 12),
    account_orders=st.integers(1, 12),
    session_orders=st.integers(1, 12),
    symbols=st.integers(1, 3),
    account_symbols=st.integers(1, 3),
    session_symbols=st.integers(1, 3),
)


def assert_alike(fast: Exchange, naive: NaiveExchange) -> None:
    assert fast.state_hash() == naive.state_hash()
    assert fast.open_orders == naive.open_orders
    for symbol in SYMBOLS:
        assert fast.trades(symbol) == naive.trades(symbol)
        ours, theirs = fast.depth(symbol, 5), naive.depth(symbol, 5)
        assert [tuple(level) for level in ours.bids] == [tuple(level) for level in theirs.bids]
        assert [tuple(level) for level in ours.asks] == [tuple(level) for level in theirs.asks]


@pytest.mark.parametrize("make", FAST)
@settings(max_examples=300, deadline=None)
@given(flows, limits)
def test_reports_fills_and_state_are_equal_after_each_command(
    make: Make, flow: list[tuple[int, ...]], limits: MarketLimits
) -> None:
    fast, naive = make(limits), NaiveExchange(limits)
    for number, command in enumerate(flow):
        session = number // 2 % 3
        assert fast.execute([command], session) == naive.execute([command], session), command  # type: ignore[list-item]
        fast.check_invariants()
        assert_alike(fast, naive)


@pytest.mark.parametrize("make", FAST)
@settings(max_examples=100, deadline=None)
@given(flows, flows, limits)
def test_a_restored_snapshot_goes_on_as_the_original(
    make: Make, before: list[tuple[int, ...]], after: list[tuple[int, ...]], limits: MarketLimits
) -> None:
    original, restored = make(limits), make(limits)
    original.execute(before)  # type: ignore[arg-type]
    restored.restore(original.snapshot())
    restored.check_invariants()
    assert restored.execute(after) == original.execute(after)  # type: ignore[arg-type]
    assert restored.snapshot() == original.snapshot()


@pytest.mark.parametrize("make", FAST)
@settings(max_examples=100, deadline=None)
@given(flows, flows, st.integers(1, 7), limits)
def test_a_frozen_state_stays_as_it_was_while_commands_go_on(
    make: Make, before: list[tuple[int, ...]], after: list[tuple[int, ...]], rows: int, limits: MarketLimits
) -> None:
    """Between two slices a few commands are executed; two states are frozen at once, at different moments."""
    exchange = make(limits)
    exchange.execute(before)  # type: ignore[arg-type]
    expected = [exchange.snapshot()]
    frozen = [exchange.freeze(rows)]
    slices: list[list[bytes]] = [[next(frozen[0])], []]
    for number, command in enumerate(after):
        exchange.execute([command])  # type: ignore[list-item]
        if number == 5:
            expected.append(exchange.snapshot())
            frozen.append(exchange.freeze(rows))
        if number % 3 == 0:
            for taken, iterator in zip(slices, frozen, strict=False):
                taken.extend(islice(iterator, 1))
    for taken, iterator, state in zip(slices, frozen, expected, strict=False):
        taken.extend(iterator)
        assert b"".join(taken) == state
    frozen += [exchange.freeze(), exchange.freeze()]
    next(frozen[-1])
    del frozen, iterator
    held = exchange._frozen if make is Exchange else exchange.shared_chunks  # type: ignore[attr-defined]
    assert not held, "nothing is kept of a state that is not wanted any more"


@pytest.mark.parametrize("make", FAST)
@settings(max_examples=100, deadline=None)
@given(flows, st.integers(1, 90), limits)
def test_a_state_is_restored_from_pieces_of_any_size(
    make: Make, flow: list[tuple[int, ...]], size: int, limits: MarketLimits
) -> None:
    original, restored, pieces = make(limits), make(limits), Pieces()
    original.execute(flow)  # type: ignore[arg-type]
    snapshot = original.snapshot()
    restoring = restored.restoring(pieces)
    for start in range(0, len(snapshot), size):
        assert next(restoring, None) is None
        pieces.feed(snapshot[start : start + size])
    assert list(restoring) == []
    assert pieces.size == 0
    restored.check_invariants()
    assert restored.snapshot() == snapshot


@pytest.mark.parametrize("make", FAST)
@settings(max_examples=50, deadline=None)
@given(flows, limits)
def test_a_batch_is_its_commands_one_by_one(make: Make, flow: list[tuple[int, ...]], limits: MarketLimits) -> None:
    batch, single = make(limits), make(limits)
    reports, fills = batch.execute(flow)  # type: ignore[arg-type]
    ones = [single.execute([command]) for command in flow]  # type: ignore[list-item]
    assert reports == [field for one in ones for field in one[0]]
    assert fills == [field for one in ones for field in one[1]]


def test_long_queues_of_cancelled_orders_are_cleaned_up() -> None:
    exchange = Exchange()
    code = symbol_code("AAPL")
    exchange.execute([(1, 1, 1, 1, 5, 0, code, 100, 1, 0)])
    for _ in range(10_000):
        reports, _ = exchange.execute([(1, 1, 1, 1, 5, 0, code, 100, 2, 0)])
        (report,) = reports_in(reports)
        exchange.execute([(2, 0, 0, 0, 0, report.order_id, code, 0, 2, 0)])
    (level,) = exchange._books[code].bids.levels.values()
    assert len(level) < 100
    exchange.check_invariants()


HASH_PROGRAM = """
import random
from zmqlab.market.exchange import Exchange
from zmqlab.market.types import symbol_code
rng, exchange = random.Random(5), Exchange()
codes = [symbol_code(name) for name in ("ZZZ", "AAPL", "MSFT", "IBM", "X")]
for _ in range(3000):
    exchange.execute([(1, rng.choice((1, 2)), 1, 1, rng.randrange(1, 9), 0, rng.choice(codes),
                       rng.randrange(90, 110), rng.randrange(9), 0)])
print(exchange.state_hash().hex())
"""


def test_the_state_hash_does_not_depend_on_python_s_hashing() -> None:
    hashes = {
        subprocess.run(
            [sys.executable, "-c", HASH_PROGRAM], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(hashes) == 1
