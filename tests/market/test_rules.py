"""The rules of a book: one scenario each (:mod:`tests.market.market`), on the fast exchange and on the naive one.

What takes an order out or changes it, and what is rejected, have files of their own.
"""

from __future__ import annotations

import pytest

from tests.market.market import ACME, ANN, BUY, FOK, GTC, IOC, LARGEST, MARKET, SELL, Market, outcome, rejected
from zmqlab.market import Fill, Reason, Status, TimeInForce, Trade
from zmqlab.market.types import Depth

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


def test_books_of_different_symbols_do_not_meet(market: Market) -> None:
    market.order(SELL, 5, 100, symbol="OTHER")
    assert market.order(BUY, 5, 100).status is Status.NEW
    assert market.exchange.trades(ACME) == market.exchange.trades("OTHER") == []


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


# What is remembered.


def test_the_tape_holds_the_last_64_trades_oldest_first(market: Market) -> None:
    market.order(SELL, 100, 100)
    for _ in range(70):
        market.order(BUY, 1, 100)
    tape = market.exchange.trades(ACME)
    assert [trade.taker_order_id for trade in tape] == list(range(8, 72))
    assert {trade.maker_order_id for trade in tape} == {1}


def test_a_book_with_one_side_has_no_spread_to_name() -> None:
    assert repr(Depth("ACME", [(100, 5, 1)], [(103, 2, 1)])).startswith("ACME (spread 3)\n")
    assert repr(Depth("ACME", [(100, 5, 1)], [])).startswith("ACME\n")
