"""What simulated clients order, and how much the market that they order in holds.

In a *quiet* market no limit is met. Most commands are new orders, in two symbols and at seven prices, so that they
meet. Now and then a command names an order of another client, or no order at all.

In a *busy* one the limits are small, so that quotas bind and idle symbols are delisted. Most commands change orders
that rest, the same one several times in a request: an order may so change twice while one snapshot is made. All clients
trade for one account too. Some commands make no sense, by one field each.

Left out: what rightly becomes of a command; :mod:`zmqlab.sim.checkers` judges that.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from zmqlab.market.types import MAX_PRICE, MAX_QUANTITY, POST_ONLY, Command, MarketLimits, Report, Status, symbol_code
from zmqlab.wire import records

LARGE_COMMANDS_MIN, LARGE_COMMANDS_MAX = 129, 140
"""More than are packed in one piece."""
NEW, CANCEL, REPLACE = 1, 2, 3
LIMIT, MARKET = 1, 2
GTC, IOC, FOK = 1, 2, 3
SHARED_ACCOUNT = 7
"""All clients trade for it too: their orders meet, and must not trade with each other."""
RESTING_KEPT = 12
ODD_COMMANDS = 0.06
_ODD = (
    *((0, 4, 255), (0, 3), (0, 3), (0, 4), (0, MAX_QUANTITY, MAX_QUANTITY + 1), (0, 1, (1 << 64) - 1)),
    *((0, 65, symbol_code("ZZ"), (1 << 64) - 1), (0, -1, MAX_PRICE, MAX_PRICE + 1), (), (0, 1, 2)),
)
"""For each field of a command: values at the ends of what is allowed, and beyond."""
_NEW_ORDERS = ((LIMIT, GTC),) * 6 + ((LIMIT, IOC), (LIMIT, FOK), (MARKET, IOC), (MARKET, GTC)) * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPlan:
    """How much the exchange holds, and what clients do with it."""

    limits: MarketLimits
    symbols: tuple[str, ...] = ("AAA", "BBB")
    is_busy: bool = False
    """Clients mostly change orders that rest, several times in one request; some commands make no sense."""
    adds: float = 0.7
    """Of a busy market: share of commands that are new orders."""
    commands_max: int = 3
    """In an ordinary request."""


QUIET_MARKET = MarketPlan(limits=MarketLimits())
"""Mostly new orders, in two symbols, and no limit is ever met."""


def draw_busy_market(rng: random.Random) -> MarketPlan:
    """Limits that bind, and orders that change again and again while a snapshot is made."""
    listed = rng.choice((1, 2, 3, 5))
    return MarketPlan(
        limits=MarketLimits(
            open_orders=rng.choice((4, 12, 1_000)),
            account_orders=rng.choice((2, 5, 1_000)),
            session_orders=rng.choice((3, 6, 1_000)),
            symbols=listed,
            account_symbols=rng.choice((1, 2, 100)),
            session_symbols=rng.choice((1, 2, 100)),
        ),
        symbols=("CCC", "AAA", "DD", "BBB", "E", "AA")[: listed + rng.choice((0, 1, 2))],
        is_busy=True,
        adds=rng.choice((0.35, 0.55)),
        commands_max=rng.choice((3, 10, 20)),
    )


class Trader:
    """Draws the commands of one client."""

    def __init__(self, account: int, market: MarketPlan, rng: random.Random) -> None:
        self._account = account
        self._market = market
        self._rng = rng
        self._codes = tuple(map(symbol_code, market.symbols))
        self._orders: list[int] = []
        """Those that were answered last."""
        self._resting: dict[int, Command] = {}
        """Orders that rested when they were answered last: id -> the command, with the quantity that was left."""
        self._favourite = 0
        """The one of them that most commands of the present request are for."""

    def commands(self, is_large: bool) -> bytes:
        """Those of one request, packed."""
        draw = self._busy if self._market.is_busy else self._quiet
        most = (LARGE_COMMANDS_MIN, LARGE_COMMANDS_MAX) if is_large else (1, self._market.commands_max)
        self._favourite = self._rng.choice(list(self._resting)) if self._market.is_busy and self._resting else 0
        return records.pack_commands(draw() for _ in range(self._rng.randint(*most)))

    def answered(self, commands: bytes, reports: Iterable[Report]) -> None:
        """A request was carried out."""
        for report, command in zip(reports, map(Command._make, records.iter_commands(commands)), strict=True):
            if report.order_id:
                self._orders = [*self._orders[-7:], report.order_id]
            if report.leaves_quantity:
                self._resting[report.order_id] = command._replace(quantity=report.leaves_quantity)
            elif report.status != Status.REJECTED:
                self._resting.pop(report.order_id, None)
        while len(self._resting) > RESTING_KEPT:
            del self._resting[next(iter(self._resting))]

    def symbol(self) -> str:
        """Any of those that are traded."""
        return self._rng.choice(self._market.symbols)

    def _quiet(self) -> tuple[int, ...]:
        rng = self._rng
        chance, symbol, price = rng.random(), rng.choice(self._codes), 100 + rng.randint(-3, 3)
        quantity, side = rng.randint(0, 9), rng.randint(1, 2)
        if chance < 0.7 or not self._orders:
            return self._new(side, quantity, symbol, price, self._account)
        order_id = rng.choice(self._orders) if rng.random() < 0.9 else rng.randint(1, 50)
        if chance < 0.85:
            return CANCEL, 0, 0, 0, 0, order_id, symbol, 0, self._account, 0
        return REPLACE, 0, 0, 0, quantity, order_id, symbol, price, self._account, 0

    def _new(self, side: int, quantity: int, symbol: int, price: int, account: int) -> tuple[int, ...]:
        order_type, lifetime = self._rng.choice(_NEW_ORDERS)
        flags = POST_ONLY if self._rng.random() < 0.1 and (order_type, lifetime) == (LIMIT, GTC) else 0
        return NEW, side, order_type, lifetime, quantity, 0, symbol, price if order_type == LIMIT else 0, account, flags

    def _busy(self) -> tuple[int, ...]:
        """Now and then one field is odd: each rule of the exchange that rejects a command is met."""
        command = self._sensible()
        if self._rng.random() < ODD_COMMANDS:
            place = self._rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 9))
            return *command[:place], self._rng.choice(_ODD[place]), *command[place + 1 :]
        return command

    def _sensible(self) -> tuple[int, ...]:
        """A new order, or a change of one that may rest: in most cases the same one all through a request."""
        rng = self._rng
        if rng.random() < self._market.adds or not self._resting:
            account = self._account if rng.random() < 0.7 else SHARED_ACCOUNT
            price = 100 + rng.randint(-3, 3)
            return self._new(rng.randint(1, 2), rng.randint(1, 60), rng.choice(self._codes), price, account)
        order_id = self._favourite
        if order_id not in self._resting or rng.random() < 0.3:
            order_id = rng.choice(list(self._resting))
        order = self._resting[order_id]
        if rng.random() < 0.25:
            return CANCEL, 0, 0, 0, 0, order_id, order.symbol, 0, order.account, 0
        if rng.random() < 0.7:  # in its place
            quantity = max(1, order.quantity - rng.randint(0, 9))
            self._resting[order_id] = order._replace(quantity=quantity)
            return REPLACE, 0, 0, 0, quantity, order_id, order.symbol, order.price, order.account, 0
        flags = POST_ONLY if rng.random() < 0.1 else 0
        price = 100 + rng.randint(-3, 3)
        return REPLACE, 0, 0, 0, rng.randint(1, 60), order_id, order.symbol, price, order.account, flags
