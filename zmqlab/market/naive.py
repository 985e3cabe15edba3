"""A second exchange that does everything the slow and obvious way, to hold the fast one against.

It has the same interface and the same rules and shares no code with :mod:`zmqlab.market.exchange`: one flat list of
resting orders, searched and sorted anew for each command. The property tests, the verdict after a run and the
simulator's checkers replay commands through it. Read this one to learn what the rules are.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from zmqlab.market.types import (
    POST_ONLY,
    CommandKind,
    Depth,
    OrderType,
    Reason,
    Side,
    Status,
    TimeInForce,
    Trade,
    symbol_code,
    symbol_name,
)

LARGEST = 2_000_000_000
TAPE_LENGTH = 64


@dataclass
class Resting:
    """An order in the list. ``arrival`` orders those of one price; it is drawn anew when an order loses its place."""

    order_id: int
    symbol: int
    side: int
    price: int
    leaves: int
    account: int
    arrival: int


@dataclass
class Outcome:
    """One command's report, before it is made flat."""

    status: int
    reason: int = Reason.NONE
    filled: int = 0
    leaves: int = 0
    order_id: int = 0
    notional: int = 0
    fill_count: int = 0

    def flat(self) -> list[int]:
        fields = (self.status, self.reason, 0, self.fill_count, self.filled, self.leaves, self.order_id, self.notional)
        return [int(field) for field in fields]


class NaiveExchange:
    """See the module; the methods are those of :class:`zmqlab.market.exchange.Exchange`."""

    def __init__(self, *, max_open_orders: int = 1_000_000, max_symbols: int = 4_096) -> None:
        self._max_open_orders = max_open_orders
        self._max_symbols = max_symbols
        self._resting: list[Resting] = []
        self._symbols: list[int] = []
        self._tapes: dict[int, list[Trade]] = {}
        self._next_order_id = 1
        self._arrivals = 0

    @property
    def open_orders(self) -> int:
        return len(self._resting)

    def execute(self, commands: Iterable[tuple[int, ...]]) -> tuple[list[int], list[int]]:
        """Apply ``commands`` in order; flat reports and flat fills."""
        reports: list[int] = []
        fills: list[int] = []
        for command in commands:
            own_fills: list[int] = []
            outcome = self._apply(command, own_fills)
            outcome.fill_count = len(own_fills) // 4
            reports += outcome.flat()
            fills += own_fills
        return reports, fills

    def _apply(self, command: tuple[int, ...], fills: list[int]) -> Outcome:
        kind, order_id = command[0], command[5]
        if kind == CommandKind.NEW:
            return self._new(command, fills)
        if kind == CommandKind.CANCEL:
            return self._cancel(command)
        if kind == CommandKind.REPLACE:
            return self._replace(command, fills)
        return Outcome(Status.REJECTED, Reason.UNKNOWN_COMMAND, order_id=order_id)

    # New orders.

    def _new(self, command: tuple[int, ...], fills: list[int]) -> Outcome:
        _, side, order_type, time_in_force, quantity, _, symbol, price, account, flags = command
        reason = self._refusal(command)
        if reason:
            return Outcome(Status.REJECTED, reason)
        limit = price if order_type == OrderType.LIMIT else None
        reachable = self._reachable(symbol, side, limit)
        if symbol not in self._symbols:
            self._symbols.append(symbol)
        if flags & POST_ONLY and reachable:
            return Outcome(Status.REJECTED, Reason.WOULD_CROSS)
        if time_in_force == TimeInForce.FOK and self._fillable(reachable, account) < quantity:
            return Outcome(Status.REJECTED, Reason.WOULD_NOT_FILL)
        order_id = self._next_order_id
        self._next_order_id += 1
        outcome = self._trade(order_id, symbol, side, limit, quantity, account, fills)
        rests = order_type == OrderType.LIMIT and time_in_force == TimeInForce.GTC
        if outcome.status == Status.EXPIRED or not outcome.leaves:
            return outcome
        if not rests:
            outcome.status, outcome.reason, outcome.leaves = Status.EXPIRED, Reason.NO_LIQUIDITY, 0
            return outcome
        self._rest(Resting(order_id, symbol, side, price, outcome.leaves, account, 0))
        outcome.status = Status.PARTIALLY_FILLED if outcome.filled else Status.NEW
        return outcome

    def _refusal(self, command: tuple[int, ...]) -> Reason:
        _, side, order_type, time_in_force, quantity, _, symbol, price, _, flags = command
        known = symbol in self._symbols
        plain_limit = order_type == OrderType.LIMIT and time_in_force == TimeInForce.GTC
        rules = [
            (known or _spells_a_symbol(symbol), Reason.BAD_SYMBOL),
            (side in list(Side), Reason.BAD_SIDE),
            (order_type in list(OrderType) and time_in_force in list(TimeInForce), Reason.BAD_TYPE),
            (flags == 0 or (flags == POST_ONLY and plain_limit), Reason.BAD_TYPE),
            (1 <= quantity <= LARGEST, Reason.BAD_QUANTITY),
            (order_type == OrderType.MARKET or 1 <= price <= LARGEST, Reason.BAD_PRICE),
            (not plain_limit or len(self._resting) < self._max_open_orders, Reason.TOO_MANY_ORDERS),
            (known or len(self._symbols) < self._max_symbols, Reason.TOO_MANY_SYMBOLS),
        ]
        return next((reason for holds, reason in rules if not holds), Reason.NONE)

    # Trading.

    def _reachable(self, symbol: int, side: int, limit: int | None) -> list[Resting]:
        """The resting orders that an incoming one may trade with, in the order in which it would."""
        if side == Side.BUY:
            sells = [o for o in self._resting if o.symbol == symbol and o.side == Side.SELL]
            return sorted([o for o in sells if limit is None or o.price <= limit], key=lambda o: (o.price, o.arrival))
        buys = [o for o in self._resting if o.symbol == symbol and o.side == Side.BUY]
        return sorted([o for o in buys if limit is None or o.price >= limit], key=lambda o: (-o.price, o.arrival))

    def _fillable(self, reachable: list[Resting], account: int) -> int:
        total = 0
        for maker in reachable:
            if maker.account == account:
                break
            total += maker.leaves
        return total

    def _trade(
        self, order_id: int, symbol: int, side: int, limit: int | None, quantity: int, account: int, fills: list[int]
    ) -> Outcome:
        """Fill what can be filled; the outcome is FILLED, or EXPIRED for a self-trade, or left for the caller."""
        outcome = Outcome(Status.FILLED, order_id=order_id, leaves=quantity)
        for maker in self._reachable(symbol, side, limit):
            if outcome.leaves == 0:
                break
            if maker.account == account:
                outcome.status, outcome.reason, outcome.leaves = Status.EXPIRED, Reason.SELF_TRADE, 0
                break
            traded = min(outcome.leaves, maker.leaves)
            maker.leaves -= traded
            outcome.leaves -= traded
            outcome.filled += traded
            outcome.notional += traded * maker.price
            fills += [maker.order_id, maker.price, traded, maker.leaves]
            tape = [*self._tapes.get(symbol, []), Trade(maker.price, traded, maker.order_id, order_id)]
            self._tapes[symbol] = tape[-TAPE_LENGTH:]
        self._resting = [order for order in self._resting if order.leaves]
        return outcome

    def _rest(self, order: Resting) -> None:
        self._arrivals += 1
        order.arrival = self._arrivals
        self._resting.append(order)

    # Cancel and replace.

    def _find(self, command: tuple[int, ...]) -> Resting | None:
        wanted = (command[5], command[6], command[8])
        return next((o for o in self._resting if (o.order_id, o.symbol, o.account) == wanted), None)

    def _cancel(self, command: tuple[int, ...]) -> Outcome:
        order = self._find(command)
        if order is None:
            return Outcome(Status.REJECTED, Reason.UNKNOWN_ORDER, order_id=command[5])
        self._resting.remove(order)
        return Outcome(Status.CANCELED, order_id=order.order_id)

    def _replace(self, command: tuple[int, ...], fills: list[int]) -> Outcome:
        quantity, order_id, price = command[4], command[5], command[7]
        order = self._find(command)
        if order is None:
            return Outcome(Status.REJECTED, Reason.UNKNOWN_ORDER, order_id=order_id)
        if not 1 <= quantity <= LARGEST:
            return Outcome(Status.REJECTED, Reason.BAD_QUANTITY, order_id=order_id)
        if not 1 <= price <= LARGEST:
            return Outcome(Status.REJECTED, Reason.BAD_PRICE, order_id=order_id)
        if price == order.price and quantity <= order.leaves:
            order.leaves = quantity
            return Outcome(Status.REPLACED, leaves=quantity, order_id=order_id)
        self._resting.remove(order)
        outcome = self._trade(order_id, order.symbol, order.side, price, quantity, order.account, fills)
        if outcome.status == Status.EXPIRED:
            return outcome
        if outcome.leaves:
            self._rest(Resting(order_id, order.symbol, order.side, price, outcome.leaves, order.account, 0))
        outcome.status = Status.REPLACED
        return outcome

    # What people see, and the state.

    def depth(self, symbol: str, levels: int = 10) -> Depth:
        code = symbol_code(symbol)
        sides = []
        for side in (Side.SELL, Side.BUY):  # whom a buyer meets are the asks, whom a seller meets are the bids
            prices: dict[int, list[Resting]] = {}
            for order in self._reachable(code, side, None):
                prices.setdefault(order.price, []).append(order)
            rows = [(price, sum(o.leaves for o in orders), len(orders)) for price, orders in prices.items()]
            sides.append(rows[:levels])
        return Depth(symbol, *sides)

    def trades(self, symbol: str) -> list[Trade]:
        return list(self._tapes.get(symbol_code(symbol), []))

    def state_hash(self) -> bytes:
        """The same bytes are hashed as by the fast exchange, put together independently of it."""
        digest = hashlib.blake2b(struct.pack("<QI", self._next_order_id, len(self._symbols)), digest_size=16)
        for symbol in sorted(self._symbols):
            bids, asks = (self._reachable(symbol, side, None) for side in (Side.SELL, Side.BUY))
            tape = self._tapes.get(symbol, [])
            digest.update(struct.pack("<QIII", symbol, len(bids), len(asks), len(tape)))
            for order in [*bids, *asks]:
                digest.update(struct.pack("<QqII", order.order_id, order.price, order.leaves, order.account))
            for trade in tape:
                digest.update(struct.pack("<qIQQ", *trade))
        return digest.digest()


def _spells_a_symbol(code: int) -> bool:
    try:
        return bool(symbol_name(code))
    except ValueError:
        return False
