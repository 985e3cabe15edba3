"""Order flow: the wire's layout, the same rows under the same seed, valid commands, a book that settles."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from tests.client.fake_node import answer_rows
from zmqlab.errors import SettingsError
from zmqlab.load.load_settings import FlowMix
from zmqlab.load.order_flow import (
    COMMAND,
    FILL,
    KIND_CANCEL,
    KIND_NEW,
    KIND_REPLACE,
    REPORT,
    OrderFlow,
    RestingOrders,
    Rows,
    symbol_names,
)
from zmqlab.market.exchange import Exchange
from zmqlab.market.types import Status
from zmqlab.wire import records


@pytest.mark.parametrize(("ours", "wire"), [(COMMAND, records.COMMAND), (REPORT, records.REPORT), (FILL, records.FILL)])
def test_layouts_are_those_of_the_wire(ours: np.dtype[np.void], wire: object) -> None:
    count = len(ours.names or ())
    row = np.array([tuple(range(1, count + 1))], ours)
    assert row.tobytes() == wire.pack(*range(1, count + 1))  # type: ignore[attr-defined]


def test_the_same_seed_gives_the_same_rows_however_they_are_taken() -> None:
    whole = OrderFlow(seed=7).take(20_000)
    flow = OrderFlow(seed=7)
    pieces = [flow.take(size) for size in (1, 999, 8_192, 808, 10_000)]
    assert b"".join(piece.tobytes() for piece in pieces) == whole.tobytes()
    assert OrderFlow(seed=8).take(20_000).tobytes() != whole.tobytes()


def test_with_no_order_known_cancels_are_sent_as_new_orders() -> None:
    rows = OrderFlow(seed=1).take(5_000)
    assert (rows["kind"] == KIND_NEW).all()
    assert (rows["quantity"] > 0).all()
    assert len(np.unique(rows["symbol"])) == 16
    limit = rows["order_type"] == 1
    assert (rows["price"][limit] > 0).all()


def test_cancels_and_replaces_name_orders_that_rest() -> None:
    flow = OrderFlow(FlowMix(market=0), seed=3, resting_target=500)
    resting: dict[int, tuple[int, int]] = {}
    next_id, cancels, replaces = 1, 0, 0
    for _ in range(300):
        rows = flow.take(50)
        reports = answer_rows(rows, next_id)
        next_id += 50
        for row, order_id in zip(rows, reports["order_id"].tolist(), strict=True):
            owner = (int(row["symbol"]), int(row["account"]))
            if row["kind"] == KIND_NEW:
                resting[order_id] = owner
            elif row["kind"] == KIND_CANCEL:
                assert resting.pop(order_id) == owner
                cancels += 1
            else:
                assert resting.get(order_id, owner) == owner  # it may be cancelled in the same request
                assert row["quantity"] > 0
                assert row["price"] > 0
                replaces += 1
        flow.observe(rows, reports, np.zeros(0, FILL))
    assert cancels > 3_000
    assert replaces > 500
    assert len(resting) < 700, "the target bounds the book even though nothing ever trades"
    assert abs(flow.pool.count - len(resting)) < 50


@pytest.mark.parametrize(
    ("mix", "target"), [(FlowMix(), 20_000), (FlowMix(passive=0.9, cancel=0.05), 1_000)], ids=["default", "passive"]
)
def test_the_real_book_settles_and_the_pool_knows_it(mix: FlowMix, target: int) -> None:
    """Answers come ten requests late, as they do in a run."""
    flow, exchange = OrderFlow(mix, seed=6, resting_target=target), Exchange()
    under_way: deque[tuple[Rows, Rows, Rows]] = deque()
    sizes = []
    for _ in range(1_000):
        rows = flow.take(50)
        reports, fills = exchange.execute(records.iter_commands(rows.tobytes()))
        answer = np.frombuffer(records.pack_reports(reports), REPORT)
        under_way.append((rows, answer, np.frombuffer(records.pack_fills(fills), FILL)))
        if len(under_way) > 10:
            flow.observe(*under_way.popleft())
        sizes.append(exchange.open_orders)
        assert np.mean(answer["status"] == Status.REJECTED) < 0.3
    assert max(sizes) < max(1.6 * target, 4_000)
    assert np.mean(sizes[-100:]) < 1.2 * np.mean(sizes[500:600]), "it has stopped growing"
    assert flow.pool.count == pytest.approx(exchange.open_orders, rel=0.3)


def test_a_filled_maker_leaves_the_pool() -> None:
    pool = RestingOrders(table_size=64)
    ids = np.arange(1, 11)
    pool.add(ids, np.full(10, 5), np.full(10, 1), np.full(10, 100), np.full(10, 3))
    pool.remove(np.array([2, 2, 3, 99, 0]))  # 0 is no order, though empty slots hold it
    assert pool.count == 8
    assert pool.knows(ids).tolist() == [True, False, False] + [True] * 7
    rng = np.random.default_rng(1)
    drawn = {int(order_id) for _ in range(50) for order_id in pool.draw(4, rng)}
    assert drawn == {1, 4, 5, 6, 7, 8, 9, 10}
    pool.remove(ids)
    assert pool.count == 0
    assert pool.draw(3, rng).size == 0


def test_an_overwritten_order_is_forgotten_and_the_count_stays_right() -> None:
    pool = RestingOrders(table_size=8)
    for first in range(1, 100, 4):
        ids = np.arange(first, first + 4)
        pool.add(ids, ids, ids, ids, ids)
        assert pool.count == np.count_nonzero(pool.order_id) <= 8


def test_settings_are_checked() -> None:
    assert sum(FlowMix().shares.values()) == pytest.approx(1)
    with pytest.raises(SettingsError, match="share cancel"):
        FlowMix(cancel=-1)
    with pytest.raises(SettingsError, match="nothing to cancel"):
        FlowMix(passive=0, marketable=0, post_only=0, ioc=0, fok=0, market=0)
    assert len(set(symbol_names(40))) == 40


def test_the_mix_is_what_was_asked_for() -> None:
    flow = OrderFlow(FlowMix(passive=1, marketable=1, cancel=0, replace=0, post_only=0, ioc=2, fok=0, market=0))
    rows = flow.take(40_000)
    assert np.mean(rows["time_in_force"] == 2) == pytest.approx(0.5, abs=0.02)
    assert not (rows["kind"] == KIND_REPLACE).any()
