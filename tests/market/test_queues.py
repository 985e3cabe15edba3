"""The queue of a level: dead orders leave it in time, and no pattern of cancels and fills makes it slow."""

from __future__ import annotations

import gc
import time

import pytest

from tests.market.exchanges import FAST, Make
from zmqlab.market import Command, Exchange, Side, fills_in
from zmqlab.market.book import COMPACT_ABOVE, Level
from zmqlab.replica.execution import PythonExchange

ANN, BOB = 1, 2
SIZE = 5


def resting(count: int, make: Make = PythonExchange) -> PythonExchange:
    """An exchange in which ``count`` orders to sell rest at one price, numbered from 1."""
    exchange = make()
    exchange.execute([Command.limit(Side.SELL, "ACME", SIZE, 100, account=ANN)] * count)
    return exchange


def only_level(exchange: Exchange) -> Level:
    (book,) = exchange._books.values()
    (level,) = book.asks.levels.values()
    return level


def cancel(exchange: Exchange, order_ids: range) -> None:
    exchange.execute([Command.cancel(order_id, "ACME", account=ANN) for order_id in order_ids])


def buy(exchange: Exchange, orders: int) -> None:
    """Trade with ``orders`` whole orders from the front, one command each."""
    exchange.execute([Command.market(Side.BUY, "ACME", SIZE, account=BOB)] * orders)


def test_fills_in_front_of_cancelled_orders_leave_the_dead_in_the_minority() -> None:
    """50 dead orders of 150 at the end are no reason to clean up. Once the front was traded away, they are."""
    exchange = resting(150)
    cancel(exchange, range(101, 151))
    assert len(only_level(exchange)) == 150
    for left in range(99, 0, -1):
        buy(exchange, 1)
        exchange.check_invariants()
        assert len(only_level(exchange)) <= 2 * left + COMPACT_ABOVE
    assert exchange.open_orders == 1


def test_a_clean_up_keeps_the_order_of_the_queue() -> None:
    exchange = resting(100)
    cancel(exchange, range(11, 91))
    assert len(only_level(exchange)) < 100, "it was cleaned up"
    _, fills = exchange.execute([Command.market(Side.BUY, "ACME", 20 * SIZE, account=BOB)])
    assert [fill.maker_order_id for fill in fills_in(fills)] == [*range(1, 11), *range(91, 101)]


def test_dead_orders_at_the_front_are_stepped_over_once() -> None:
    exchange = resting(100)
    cancel(exchange, range(1, 41))
    buy(exchange, 1)
    assert only_level(exchange)[0][0] == 42
    exchange.check_invariants()


def test_a_level_whose_last_order_goes_is_forgotten_with_its_dead() -> None:
    exchange = resting(10)
    level = only_level(exchange)
    cancel(exchange, range(2, 11))
    buy(exchange, 1)
    assert not level
    assert not exchange.depth("ACME").asks
    exchange.check_invariants()


@pytest.mark.parametrize("make", FAST)
@pytest.mark.parametrize("pattern", ["fills", "cancels from the front", "cancels from the back", "fills over dead"])
def test_emptying_a_long_queue_takes_linear_time(pattern: str, make: Make) -> None:
    """A queue of four times the length takes about four times as long. A quadratic one would take sixteen times.

    Measured without the cycle collector, as in a node: a full collection walks everything else in the process too.
    """

    def seconds(count: int) -> float:
        exchange = resting(count, make)
        if pattern == "fills over dead":
            cancel(exchange, range(2, count + 1, 3))
        start = time.process_time()
        if pattern.startswith("fills"):
            buy(exchange, exchange.open_orders)
        elif pattern == "cancels from the front":
            cancel(exchange, range(1, count + 1))
        else:
            cancel(exchange, range(count, 0, -1))
        assert exchange.open_orders == 0
        return time.process_time() - start

    gc.disable()
    try:
        ratios = [seconds(40_000) / seconds(10_000) for _ in range(3)]
    finally:
        gc.enable()
    assert min(ratios) < 10
