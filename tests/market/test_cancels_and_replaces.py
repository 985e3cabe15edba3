"""The rules of a book for orders that are taken out or changed: who may, what keeps its place, what trades."""

from __future__ import annotations

import pytest

from tests.market.market import ACME, ANN, BOB, BUY, LARGEST, MARKET, SELL, Market, outcome, rejected
from zmqlab.market import Fill, Reason, Status, Trade

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
