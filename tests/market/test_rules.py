"""The rules of a book: one scenario each, on the fast exchange and on the naive one.

A scenario reads from top to bottom: commands, the report of each, and the book as people draw it, asks above bids with
the best in the middle. A resting order is written ``id:quantity``, in the order of its queue::

    102  4:5
    101  2:5 3:7
    ---
     99  1:10

The exchange gives the ids 1, 2, 3, ... Where accounts don't matter to a scenario, each order has an account of its own.
"""

from __future__ import annotations

import itertools
from textwrap import dedent

import pytest

from tests.market.exchanges import ALL
from zmqlab.market import (
    Command,
    Exchange,
    ExecutionReport,
    Fill,
    MarketLimits,
    NaiveExchange,
    Reason,
    Side,
    Status,
    TimeInForce,
    Trade,
    symbol_code,
)
from zmqlab.market.types import Depth

ACME = "ACME"
BUY, SELL = Side.BUY, Side.SELL
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK
LARGEST = 2_000_000_000
ANN, BOB = 7, 8
"""Two accounts, for scenarios in which it matters whose order it is."""
SWEEPER = 9
"""The account that looks into copies. It has no order in any book."""
MARKET = None
"""As a price."""


class Market:
    """An exchange with calls for people. It remembers the commands, so that a test can look into a copy."""

    def __init__(self, exchange: Exchange | NaiveExchange) -> None:
        self.exchange = exchange
        self._history: list[tuple[int, ...]] = []
        self._accounts = itertools.count(1_001)

    def send(self, command: tuple[int, ...], session: int = 0) -> ExecutionReport:
        """Execute one command. Returns its report with its fills; their sums are checked here for all scenarios."""
        self._history.append(command)
        report, flat = self.exchange.execute([command], session)
        status, reason, reserved, fill_count, filled, leaves, order_id, notional = report
        fills = tuple(Fill(*flat[start : start + 4]) for start in range(0, len(flat), 4))
        assert (reserved, fill_count) == (0, len(fills))
        assert filled == sum(fill.quantity for fill in fills)
        assert notional == sum(fill.price * fill.quantity for fill in fills)
        return ExecutionReport(Status(status), Reason(reason), order_id, filled, leaves, notional, fills)

    def order(
        self,
        side: Side,
        quantity: int,
        price: int | None,
        time_in_force: TimeInForce = GTC,
        *,
        account: int = 0,
        post_only: bool = False,
        symbol: str = ACME,
        session: int = 0,
    ) -> ExecutionReport:
        """A new order. Without ``account`` it gets an account of its own."""
        account = account or next(self._accounts)
        if price is MARKET:
            command = Command.market(side, symbol, quantity, account=account, time_in_force=time_in_force)
            return self.send(command, session)
        command = Command.limit(
            side, symbol, quantity, price, account=account, time_in_force=time_in_force, post_only=post_only
        )
        return self.send(command, session)

    def cancel(self, order_id: int, account: int, symbol: str = ACME) -> ExecutionReport:
        return self.send(Command.cancel(order_id, symbol, account=account))

    def replace(
        self, order_id: int, quantity: int, price: int, account: int, *, post_only: bool = False, symbol: str = ACME
    ) -> ExecutionReport:
        return self.send(Command.replace(order_id, symbol, quantity, price, account=account, post_only=post_only))

    def shows(self, picture: str) -> None:
        """Assert that the book is ``picture``, and that its depth agrees with it."""
        asks, bids = self._queues(SELL), self._queues(BUY)
        lines = [*_lines(asks)[::-1], "---", *_lines(bids)]
        assert lines == [line.strip() for line in dedent(picture).strip().splitlines()]
        depth = self.exchange.depth(ACME, 10)
        for shown, queues in ((depth.asks, asks), (depth.bids, bids)):
            totals = [(price, sum(fill.quantity for fill in fills), len(fills)) for price, fills in queues]
            assert [tuple(level) for level in shown] == totals

    def _queues(self, side: Side) -> list[tuple[int, list[Fill]]]:
        """The orders of a side by price, in the order in which one large order meets them in a copy of the book."""
        copy = Market(type(self.exchange)())
        for command in self._history:
            copy.send(command)
        sweep = copy.order(BUY if side is SELL else SELL, LARGEST, MARKET, account=SWEEPER)
        return [(price, list(fills)) for price, fills in itertools.groupby(sweep.fills, lambda fill: fill.price)]


def _lines(queues: list[tuple[int, list[Fill]]]) -> list[str]:
    return [
        f"{price}  " + " ".join(f"{fill.maker_order_id}:{fill.quantity}" for fill in fills) for price, fills in queues
    ]


@pytest.fixture(params=ALL)
def market(request: pytest.FixtureRequest) -> Market:
    return Market(request.param())


def outcome(report: ExecutionReport) -> tuple[Status, Reason, int, int]:
    """Status, reason, filled and leaves quantity: the subject of most scenarios."""
    return report.status, report.reason, report.filled_quantity, report.leaves_quantity


def rejected(reason: Reason) -> tuple[Status, Reason, int, int]:
    return Status.REJECTED, reason, 0, 0


# Priority and price.


def test_orders_rest_by_price_and_then_by_time(market: Market) -> None:
    for side, quantity, price in [(SELL, 1, 102), (SELL, 2, 101), (SELL, 3, 102), (BUY, 4, 99), (BUY, 5, 100)]:
        assert outcome(market.order(side, quantity, price)) == (Status.NEW, Reason.NONE, 0, quantity)
    market.shows("""
        102  1:1 3:3
        101  2:2
        ---
        100  5:5
        99  4:4
    """)


def test_the_best_price_is_filled_first_and_at_a_price_the_oldest_order(market: Market) -> None:
    for quantity, price in [(5, 102), (5, 101), (5, 101), (5, 100)]:
        market.order(SELL, quantity, price)
    report = market.order(BUY, 13, 102)
    assert report.fills == (Fill(4, 100, 5, 0), Fill(2, 101, 5, 0), Fill(3, 101, 3, 2))
    assert outcome(report) == (Status.FILLED, Reason.NONE, 13, 0)
    market.shows("""
        102  1:5
        101  3:2
        ---
    """)


def test_a_seller_meets_the_highest_bid_first(market: Market) -> None:
    for price in (98, 100, 99):
        market.order(BUY, 1, price)
    assert [fill.price for fill in market.order(SELL, 3, 98).fills] == [100, 99, 98]


def test_the_price_is_the_maker_s_for_both(market: Market) -> None:
    market.order(SELL, 5, 100)
    report = market.order(BUY, 5, 110)
    assert report.fills == (Fill(1, 100, 5, 0),)
    assert (report.notional, report.average_price) == (500, 100)
    assert market.exchange.trades(ACME) == [Trade(100, 5, 1, 2)]


def test_a_partly_filled_order_keeps_its_place(market: Market) -> None:
    market.order(SELL, 5, 100)
    market.order(SELL, 5, 100)
    market.order(BUY, 2, 100)
    market.shows("""
        100  1:3 2:5
        ---
    """)


# Order types and times in force.


def test_a_limit_order_trades_up_to_its_price_and_the_rest_rests(market: Market) -> None:
    market.order(SELL, 5, 100)
    market.order(SELL, 5, 102)
    assert outcome(market.order(BUY, 8, 101)) == (Status.PARTIALLY_FILLED, Reason.NONE, 5, 3)
    market.shows("""
        102  2:5
        ---
        101  3:3
    """)


@pytest.mark.parametrize("time_in_force", [GTC, IOC])
def test_a_market_order_trades_at_any_price_and_never_rests(market: Market, time_in_force: TimeInForce) -> None:
    market.order(SELL, 5, 100)
    market.order(SELL, 5, LARGEST)
    report = market.order(BUY, 12, MARKET, time_in_force)
    assert outcome(report) == (Status.EXPIRED, Reason.NO_LIQUIDITY, 10, 0)
    assert report.order_id == 3
    market.shows("---")


def test_a_market_order_meets_an_empty_side(market: Market) -> None:
    assert outcome(market.order(SELL, 1, MARKET)) == (Status.EXPIRED, Reason.NO_LIQUIDITY, 0, 0)


def test_what_an_ioc_order_cannot_fill_is_dropped(market: Market) -> None:
    market.order(SELL, 5, 100)
    market.order(SELL, 5, 101)
    assert outcome(market.order(BUY, 8, 100, IOC)) == (Status.EXPIRED, Reason.NO_LIQUIDITY, 5, 0)
    assert outcome(market.order(BUY, 8, 100, IOC)) == (Status.EXPIRED, Reason.NO_LIQUIDITY, 0, 0)
    market.shows("""
        101  2:5
        ---
    """)


@pytest.mark.parametrize("price", [101, MARKET])
def test_a_fok_order_is_filled_completely_or_not_at_all(market: Market, price: int | None) -> None:
    market.order(SELL, 5, 100)
    market.order(SELL, 5, 101)
    assert outcome(market.order(BUY, 11, price, FOK)) == (Status.EXPIRED, Reason.WOULD_NOT_FILL, 0, 0)
    market.shows("""
        101  2:5
        100  1:5
        ---
    """)
    assert outcome(market.order(BUY, 10, price, FOK)) == (Status.FILLED, Reason.NONE, 10, 0)
    market.shows("---")


def test_a_fok_order_counts_only_what_its_price_reaches(market: Market) -> None:
    market.order(SELL, 5, 100)
    market.order(SELL, 5, 101)
    assert outcome(market.order(BUY, 6, 100, FOK)) == (Status.EXPIRED, Reason.WOULD_NOT_FILL, 0, 0)
    assert outcome(market.order(BUY, 5, 100, FOK)) == (Status.FILLED, Reason.NONE, 5, 0)


def test_a_fok_order_counts_up_to_an_order_of_its_own_account(market: Market) -> None:
    market.order(SELL, 5, 100)
    market.order(SELL, 5, 100, account=ANN)
    market.order(SELL, 5, 100)
    assert outcome(market.order(BUY, 6, 100, FOK, account=ANN)) == (Status.EXPIRED, Reason.WOULD_NOT_FILL, 0, 0)
    assert outcome(market.order(BUY, 5, 100, FOK, account=ANN)) == (Status.FILLED, Reason.NONE, 5, 0)
    market.shows("""
        100  2:5 3:5
        ---
    """)


# Post-only.


def test_a_post_only_order_is_rejected_rather_than_trade(market: Market) -> None:
    market.order(SELL, 5, 100)
    for price in (100, 101):
        assert outcome(market.order(BUY, 5, price, post_only=True)) == rejected(Reason.WOULD_CROSS)
    assert outcome(market.order(BUY, 5, 99, post_only=True)) == (Status.NEW, Reason.NONE, 0, 5)
    market.shows("""
        100  1:5
        ---
        99  2:5
    """)


@pytest.mark.parametrize("time_in_force", [IOC, FOK])
def test_post_only_goes_with_an_order_that_rests(market: Market, time_in_force: TimeInForce) -> None:
    assert outcome(market.order(BUY, 5, 99, time_in_force, post_only=True)) == rejected(Reason.BAD_TYPE)


# Cancel.


def test_a_cancel_takes_the_order_out_and_leaves_the_others_in_their_places(market: Market) -> None:
    for _ in range(3):
        market.order(BUY, 5, 99, account=ANN)
    report = market.cancel(2, ANN)
    assert (outcome(report), report.order_id) == ((Status.CANCELED, Reason.NONE, 0, 0), 2)
    market.shows("""
        ---
        99  1:5 3:5
    """)


def test_a_cancel_of_the_last_order_at_the_best_price_uncovers_the_next(market: Market) -> None:
    market.order(SELL, 5, 100, account=ANN)
    market.order(SELL, 5, 101)
    market.cancel(1, ANN)
    assert market.order(BUY, 1, MARKET).fills == (Fill(2, 101, 1, 4),)


@pytest.mark.parametrize(("order_id", "account", "symbol"), [(1, BOB, ACME), (1, ANN, "OTHER"), (2, ANN, ACME)])
def test_a_cancel_by_a_stranger_or_in_another_book_finds_nothing(
    market: Market, order_id: int, account: int, symbol: str
) -> None:
    market.order(BUY, 5, 99, account=ANN)
    report = market.cancel(order_id, account, symbol)
    assert (outcome(report), report.order_id) == (rejected(Reason.UNKNOWN_ORDER), order_id)
    market.shows("""
        ---
        99  1:5
    """)


def test_an_order_that_is_filled_or_cancelled_is_unknown(market: Market) -> None:
    market.order(BUY, 5, 99, account=ANN)
    market.order(SELL, 5, 99)
    assert outcome(market.cancel(1, ANN)) == rejected(Reason.UNKNOWN_ORDER)
    assert outcome(market.replace(1, 5, 99, ANN)) == rejected(Reason.UNKNOWN_ORDER)


# Replace.


@pytest.mark.parametrize("quantity", [5, 1])
def test_a_replace_to_no_more_at_the_same_price_keeps_the_place(market: Market, quantity: int) -> None:
    market.order(BUY, 5, 99, account=ANN)
    market.order(BUY, 5, 99)
    report = market.replace(1, quantity, 99, ANN)
    assert (outcome(report), report.order_id) == ((Status.REPLACED, Reason.NONE, 0, quantity), 1)
    market.shows(f"""
        ---
        99  1:{quantity} 2:5
    """)


def test_a_replace_to_more_goes_to_the_end_of_the_queue(market: Market) -> None:
    market.order(BUY, 5, 99, account=ANN)
    market.order(BUY, 5, 99)
    assert outcome(market.replace(1, 6, 99, ANN)) == (Status.REPLACED, Reason.NONE, 0, 6)
    market.shows("""
        ---
        99  2:5 1:6
    """)


def test_a_replace_to_another_price_and_back_loses_the_place(market: Market) -> None:
    market.order(BUY, 5, 99, account=ANN)
    market.order(BUY, 5, 99)
    market.replace(1, 5, 98, ANN)
    market.shows("""
        ---
        99  2:5
        98  1:5
    """)
    market.replace(1, 5, 99, ANN)
    market.shows("""
        ---
        99  2:5 1:5
    """)


def test_a_replace_may_trade_and_the_rest_rests_under_the_old_id(market: Market) -> None:
    market.order(BUY, 5, 99, account=ANN)
    market.order(SELL, 3, 101)
    report = market.replace(1, 5, 101, ANN)
    assert outcome(report) == (Status.REPLACED, Reason.NONE, 3, 2)
    assert (report.order_id, report.fills) == (1, (Fill(2, 101, 3, 0),))
    assert market.exchange.trades(ACME) == [Trade(101, 3, 2, 1)]
    market.shows("""
        ---
        101  1:2
    """)


def test_a_replace_may_trade_completely(market: Market) -> None:
    market.order(SELL, 5, 102, account=ANN)
    market.order(BUY, 5, 100)
    assert outcome(market.replace(1, 4, 100, ANN)) == (Status.REPLACED, Reason.NONE, 4, 0)
    market.shows("""
        ---
        100  2:1
    """)


def test_a_replace_that_meets_an_own_order_expires(market: Market) -> None:
    market.order(BUY, 5, 99, account=ANN)
    market.order(SELL, 2, 101)
    market.order(SELL, 5, 101, account=ANN)
    assert outcome(market.replace(1, 5, 101, ANN)) == (Status.EXPIRED, Reason.SELF_TRADE, 2, 0)
    market.shows("""
        101  3:5
        ---
    """)


def test_a_post_only_replace_is_rejected_rather_than_trade_and_the_order_stays(market: Market) -> None:
    market.order(BUY, 5, 99, account=ANN)
    market.order(BUY, 5, 99)
    market.order(SELL, 5, 101)
    assert outcome(market.replace(1, 5, 101, ANN, post_only=True)) == rejected(Reason.WOULD_CROSS)
    market.shows("""
        101  3:5
        ---
        99  1:5 2:5
    """)
    assert outcome(market.replace(1, 5, 100, ANN, post_only=True)) == (Status.REPLACED, Reason.NONE, 0, 5)


@pytest.mark.parametrize(
    ("order_id", "quantity", "price", "account", "reason"),
    [
        (1, 0, 99, ANN, Reason.BAD_QUANTITY),
        (1, LARGEST + 1, 99, ANN, Reason.BAD_QUANTITY),
        (1, 5, 0, ANN, Reason.BAD_PRICE),
        (1, 5, -1, ANN, Reason.BAD_PRICE),
        (1, 5, LARGEST + 1, ANN, Reason.BAD_PRICE),
        (1, 5, 99, BOB, Reason.UNKNOWN_ORDER),
        (2, 5, 99, ANN, Reason.UNKNOWN_ORDER),
    ],
)
def test_a_rejected_replace_leaves_the_order_alone(
    market: Market, order_id: int, quantity: int, price: int, account: int, reason: Reason
) -> None:
    market.order(BUY, 5, 99, account=ANN)
    report = market.replace(order_id, quantity, price, account)
    assert (outcome(report), report.order_id) == (rejected(reason), order_id)
    market.shows("""
        ---
        99  1:5
    """)


# Self-trade prevention: cancel newest.


def test_an_order_stops_at_an_order_of_its_own_account(market: Market) -> None:
    market.order(SELL, 2, 100)
    market.order(SELL, 5, 100, account=ANN)
    market.order(SELL, 5, 100)
    report = market.order(BUY, 9, 100, account=ANN)
    assert outcome(report) == (Status.EXPIRED, Reason.SELF_TRADE, 2, 0)
    assert report.fills == (Fill(1, 100, 2, 0),)
    market.shows("""
        100  2:5 3:5
        ---
    """)


def test_an_own_order_behind_the_last_fill_is_no_self_trade(market: Market) -> None:
    market.order(SELL, 2, 100)
    market.order(SELL, 5, 100, account=ANN)
    assert outcome(market.order(BUY, 2, 100, account=ANN)) == (Status.FILLED, Reason.NONE, 2, 0)


def test_an_order_that_meets_an_own_one_at_once_fills_nothing(market: Market) -> None:
    market.order(SELL, 5, 100, account=ANN)
    for price in (100, MARKET):
        report = market.order(BUY, 5, price, account=ANN)
        assert outcome(report) == (Status.EXPIRED, Reason.SELF_TRADE, 0, 0)


def test_an_own_order_out_of_reach_is_no_obstacle(market: Market) -> None:
    market.order(SELL, 5, 101, account=ANN)
    assert outcome(market.order(BUY, 5, 100, account=ANN)) == (Status.NEW, Reason.NONE, 0, 5)


# Rejections.

GOOD = Command.limit(BUY, ACME, 5, 99, account=ANN)
BAD: list[tuple[Command, Reason]] = [
    (GOOD._replace(quantity=0), Reason.BAD_QUANTITY),
    (GOOD._replace(quantity=LARGEST + 1), Reason.BAD_QUANTITY),
    (GOOD._replace(price=0), Reason.BAD_PRICE),
    (GOOD._replace(price=-5), Reason.BAD_PRICE),
    (GOOD._replace(price=LARGEST + 1), Reason.BAD_PRICE),
    (GOOD._replace(symbol=0), Reason.BAD_SYMBOL),
    (GOOD._replace(symbol=int.from_bytes(b"acme", "little")), Reason.BAD_SYMBOL),
    (GOOD._replace(symbol=int.from_bytes(b"A\0B", "little")), Reason.BAD_SYMBOL),
    (GOOD._replace(symbol=2**64 - 1), Reason.BAD_SYMBOL),
    (GOOD._replace(side=0), Reason.BAD_SIDE),
    (GOOD._replace(side=3), Reason.BAD_SIDE),
    (GOOD._replace(order_type=0), Reason.BAD_TYPE),
    (GOOD._replace(order_type=3), Reason.BAD_TYPE),
    (GOOD._replace(time_in_force=0), Reason.BAD_TYPE),
    (GOOD._replace(time_in_force=4), Reason.BAD_TYPE),
    (GOOD._replace(flags=2), Reason.BAD_TYPE),
    (GOOD._replace(flags=3), Reason.BAD_TYPE),
    (GOOD._replace(order_id=7), Reason.UNUSED_FIELD),
    (Command.market(BUY, ACME, 5, account=ANN)._replace(price=99), Reason.UNUSED_FIELD),
]


@pytest.mark.parametrize(("command", "reason"), BAD, ids=lambda value: getattr(value, "name", ""))
def test_a_bad_new_order_is_rejected_and_uses_up_no_id(market: Market, command: Command, reason: Reason) -> None:
    before = market.exchange.state_hash()
    report = market.send(command)
    assert (outcome(report), report.order_id) == (rejected(reason), 0)
    assert market.exchange.state_hash() == before
    assert market.order(BUY, 5, 99).order_id == 1


UNUSED = ("side", "order_type", "time_in_force", "quantity", "price", "flags")
RESTING = Command.limit(SELL, ACME, 5, 105, account=ANN)


@pytest.mark.parametrize(
    "command",
    [
        *(Command.cancel(1, ACME, account=ANN)._replace(**{field: 1}) for field in UNUSED),
        *(Command.replace(1, ACME, 4, 105, account=ANN)._replace(**{field: 1}) for field in UNUSED[:3]),
    ],
)
@pytest.mark.parametrize("room", [1, 9])
@pytest.mark.parametrize("exchange", ALL)
def test_a_cancel_with_a_quantity_is_no_partial_cancel(exchange: type[Exchange], room: int, command: Command) -> None:
    """Fields that must be 0 were ignored: the whole order was cancelled, and a market order traded beyond its price.

    An exchange that is full (room 1) counts its orders, and takes another way.
    """
    market = Market(exchange(MarketLimits(open_orders=room)))
    market.send(RESTING)
    market.send(RESTING)
    before = market.exchange.state_hash()
    assert outcome(market.send(command)) == rejected(Reason.UNUSED_FIELD)
    assert market.exchange.state_hash() == before


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_an_unknown_kind_of_command(market: Market, kind: int) -> None:
    before = market.exchange.state_hash()
    assert outcome(market.send(GOOD._replace(kind=kind, order_id=3))) == rejected(Reason.UNKNOWN_COMMAND)
    assert market.exchange.state_hash() == before


@pytest.mark.parametrize("make", ALL)
def test_a_full_exchange_takes_only_orders_that_cannot_rest(make: type[Exchange] | type[NaiveExchange]) -> None:
    market = Market(make(MarketLimits(open_orders=2)))
    market.order(SELL, 5, 100)
    market.order(SELL, 5, 101)
    assert outcome(market.order(BUY, 5, 100)) == rejected(Reason.TOO_MANY_ORDERS)
    assert outcome(market.order(BUY, 5, 100, IOC)) == (Status.FILLED, Reason.NONE, 5, 0)
    assert outcome(market.order(BUY, 5, 100)) == (Status.NEW, Reason.NONE, 0, 5)
    assert market.exchange.open_orders == 2


@pytest.mark.parametrize("make", ALL)
def test_no_more_symbols_than_the_limit(make: type[Exchange] | type[NaiveExchange]) -> None:
    market = Market(make(MarketLimits(symbols=1)))
    assert market.order(BUY, 5, 99).status is Status.NEW
    assert outcome(market.order(BUY, 5, 99, symbol="OTHER")) == rejected(Reason.TOO_MANY_SYMBOLS)
    assert outcome(market.order(BUY, 5, 99, IOC, symbol="OTHER")) == (Status.EXPIRED, Reason.NO_LIQUIDITY, 0, 0)
    assert market.order(BUY, 5, 99).status is Status.NEW


@pytest.mark.parametrize("make", ALL)
def test_a_symbol_is_delisted_when_another_needs_its_place(make: type[Exchange] | type[NaiveExchange]) -> None:
    """The one that has been idle longest goes, with its tape. Symbols with open orders stay."""
    market = Market(make(MarketLimits(symbols=3)))
    for symbol in ("A", "B", "C"):
        market.order(SELL, 5, 100, symbol=symbol)
    for symbol in ("B", "A"):
        market.order(BUY, 5, 100, symbol=symbol)
        assert len(market.exchange.trades(symbol)) == 1, "an idle symbol keeps its tape"
    assert market.order(SELL, 5, 100, symbol="D").status is Status.NEW
    assert market.exchange.trades("B") == []
    assert len(market.exchange.trades("A")) == 1
    assert market.exchange.depth("C").asks == [(100, 5, 1)]
    assert market.order(SELL, 5, 100, symbol="B").order_id == 7, "a delisted symbol may come back, with new ids"
    assert outcome(market.order(SELL, 5, 100, symbol="A")) == rejected(Reason.TOO_MANY_SYMBOLS)


@pytest.mark.parametrize("make", ALL)
def test_an_account_and_a_session_have_quotas_of_open_orders(make: type[Exchange] | type[NaiveExchange]) -> None:
    market = Market(make(MarketLimits(account_orders=2, session_orders=3)))
    for price in (98, 99):
        assert market.order(BUY, 5, price, account=ANN).status is Status.NEW
    assert outcome(market.order(BUY, 5, 97, account=ANN)) == rejected(Reason.TOO_MANY_ACCOUNT_ORDERS)
    assert market.order(BUY, 5, 97, account=BOB).status is Status.NEW
    assert outcome(market.order(BUY, 5, 97, account=BOB)) == rejected(Reason.TOO_MANY_SESSION_ORDERS)
    assert market.order(BUY, 5, 97, account=BOB, session=2).status is Status.NEW
    assert market.order(SELL, 5, 99, session=2).status is Status.FILLED
    assert market.order(BUY, 5, 96, account=ANN).status is Status.NEW, "a fill makes room"
    market.cancel(1, ANN)
    assert market.order(BUY, 5, 96, account=ANN, session=2).status is Status.NEW, "a cancel makes room"
    assert outcome(market.order(SELL, 5, 97, IOC, account=99)) == (Status.FILLED, Reason.NONE, 5, 0)


@pytest.mark.parametrize("make", ALL)
def test_an_account_and_a_session_hold_no_more_symbols_than_their_quotas(
    make: type[Exchange] | type[NaiveExchange],
) -> None:
    """A symbol is held by whose order came first to its empty book, until the book is empty again."""
    market = Market(make(MarketLimits(account_symbols=1, session_symbols=2)))
    market.order(BUY, 5, 99, account=ANN, symbol="A")
    market.order(BUY, 5, 99, account=BOB, symbol="A")
    assert outcome(market.order(BUY, 5, 99, account=ANN, symbol="B")) == rejected(Reason.TOO_MANY_ACCOUNT_SYMBOLS)
    assert market.order(BUY, 5, 99, account=BOB, symbol="B").status is Status.NEW
    assert outcome(market.order(BUY, 5, 99, symbol="C")) == rejected(Reason.TOO_MANY_SESSION_SYMBOLS)
    assert market.order(BUY, 5, 99, symbol="C", session=2).status is Status.NEW
    market.cancel(1, ANN, "A")
    assert outcome(market.order(BUY, 5, 99, account=ANN, symbol="D")) == rejected(Reason.TOO_MANY_ACCOUNT_SYMBOLS)
    market.cancel(2, BOB, "A")
    assert market.order(BUY, 5, 99, account=ANN, symbol="D").status is Status.NEW, "A is idle and held by none"


def test_books_of_different_symbols_do_not_meet(market: Market) -> None:
    market.order(SELL, 5, 100, symbol="OTHER")
    assert market.order(BUY, 5, 100).status is Status.NEW
    assert market.exchange.trades(ACME) == market.exchange.trades("OTHER") == []


# What is remembered.


def test_the_largest_order_s_notional_fits(market: Market) -> None:
    market.order(SELL, LARGEST, LARGEST)
    assert market.order(BUY, LARGEST, LARGEST).notional == LARGEST**2 < 2**63


def test_the_tape_holds_the_last_64_trades_oldest_first(market: Market) -> None:
    market.order(SELL, 100, 100)
    for _ in range(70):
        market.order(BUY, 1, 100)
    tape = market.exchange.trades(ACME)
    assert [trade.taker_order_id for trade in tape] == list(range(8, 72))
    assert {trade.maker_order_id for trade in tape} == {1}


def test_a_symbol_s_code_is_its_characters(market: Market) -> None:
    assert symbol_code("A.B-C_12").to_bytes(8, "little") == b"A.B-C_12"
    assert market.order(BUY, 1, 1, symbol="A.B-C_12").status is Status.NEW


def test_a_book_with_one_side_has_no_spread_to_name() -> None:
    assert repr(Depth("ACME", [(100, 5, 1)], [(103, 2, 1)])).startswith("ACME (spread 3)\n")
    assert repr(Depth("ACME", [(100, 5, 1)], [])).startswith("ACME\n")
