"""What an exchange rejects: what makes no sense, and what goes beyond its limits and quotas."""

from __future__ import annotations

import pytest

from tests.market.exchanges import ALL
from tests.market.market import ACME, ANN, BOB, BUY, IOC, LARGEST, SELL, Market, outcome, rejected
from zmqlab.market import Command, Exchange, MarketLimits, NaiveExchange, Reason, Status, symbol_code

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


def test_the_largest_order_s_notional_fits(market: Market) -> None:
    market.order(SELL, LARGEST, LARGEST)
    assert market.order(BUY, LARGEST, LARGEST).notional == LARGEST**2 < 2**63


def test_a_symbol_s_code_is_its_characters(market: Market) -> None:
    assert symbol_code("A.B-C_12").to_bytes(8, "little") == b"A.B-C_12"
    assert market.order(BUY, 1, 1, symbol="A.B-C_12").status is Status.NEW
