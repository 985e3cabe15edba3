"""An exchange with calls for people, for tests that are scenarios.

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

from zmqlab.market import Command, Exchange, ExecutionReport, Fill, NaiveExchange, Reason, Side, Status, TimeInForce

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


def outcome(report: ExecutionReport) -> tuple[Status, Reason, int, int]:
    """Status, reason, filled and leaves quantity: the subject of most scenarios."""
    return report.status, report.reason, report.filled_quantity, report.leaves_quantity


def rejected(reason: Reason) -> tuple[Status, Reason, int, int]:
    return Status.REJECTED, reason, 0, 0
