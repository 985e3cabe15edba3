"""A second exchange that does everything in the obvious way, to compare the fast one with.

It has the interface and the rules of :mod:`zmqlab.market.exchange`, and shares with it only the vocabulary and the form
of the canonical state. A side of a book is one plain list of orders, in the order in which they would trade. Every
operation walks that list. The property tests, the verdict after a run and the simulator's checkers replay commands
through this exchange. Read this module to learn the rules.

Left out: speed, and restoring from a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from zmqlab.market.canonical import SymbolState, encode_state, hash_state
from zmqlab.market.types import (
    FILL_WIDTH,
    MAX_PRICE,
    MAX_QUANTITY,
    POST_ONLY,
    TAPE_LENGTH,
    Command,
    CommandKind,
    Depth,
    OrderType,
    Reason,
    Report,
    Side,
    Status,
    TimeInForce,
    Trade,
    symbol_code,
    symbol_name,
)

_SIDES, _ORDER_TYPES, _TIMES_IN_FORCE = tuple(Side), tuple(OrderType), tuple(TimeInForce)


@dataclass
class Resting:
    """An order in a book, or one that is about to enter it."""

    order_id: int
    side: int
    price: int
    leaves: int
    account: int


@dataclass
class NaiveBook:
    """The book of one symbol. Each side is in the order in which its orders would trade."""

    bids: list[Resting] = field(default_factory=list)
    asks: list[Resting] = field(default_factory=list)
    tape: list[Trade] = field(default_factory=list)

    def own(self, side: int) -> list[Resting]:
        """The orders on ``side``."""
        return self.bids if side == Side.BUY else self.asks

    def opposite(self, side: int) -> list[Resting]:
        """The orders that an order of ``side`` may trade with."""
        return self.asks if side == Side.BUY else self.bids

    def enter(self, order: Resting) -> None:
        """Put ``order`` behind every order with an equal or a better price."""
        queue = self.own(order.side)
        place = 0
        while place < len(queue) and not better(order, queue[place]):
            place += 1
        queue.insert(place, order)


def better(one: Resting, other: Resting) -> bool:
    """Whether ``one`` has a strictly better price than ``other`` on the same side."""
    return one.price > other.price if one.side == Side.BUY else one.price < other.price


def reaches(side: int, limit: int | None, price: int) -> bool:
    """Whether an incoming order of ``side`` with ``limit`` may trade at ``price``. Without a limit it always may."""
    if limit is None:
        return True
    return price <= limit if side == Side.BUY else price >= limit


@dataclass
class Outcome:
    """The report of one command while it is made."""

    status: int
    reason: int = Reason.NONE
    filled: int = 0
    leaves: int = 0
    order_id: int = 0
    notional: int = 0

    def report(self, fill_count: int) -> Report:
        """The report, with ``fill_count`` fills."""
        codes = int(self.status), int(self.reason)
        return Report(*codes, 0, fill_count, self.filled, self.leaves, self.order_id, self.notional)


class NaiveExchange:
    """All books of one group. The methods do what those of :class:`zmqlab.market.exchange.Exchange` do."""

    def __init__(self, *, max_open_orders: int = 1_000_000, max_symbols: int = 4_096) -> None:
        self._max_open_orders = max_open_orders
        self._max_symbols = max_symbols
        self._books: dict[int, NaiveBook] = {}
        self._next_order_id = 1

    @property
    def open_orders(self) -> int:
        """How many orders rest in the books."""
        return sum(len(book.bids) + len(book.asks) for book in self._books.values())

    def execute(self, commands: Iterable[tuple[int, ...]]) -> tuple[list[int], list[int]]:
        """Execute ``commands`` in order. Returns the reports and the fills, each as one flat list."""
        reports: list[int] = []
        fills: list[int] = []
        for command in commands:
            own_fills: list[int] = []
            outcome = self._apply(Command._make(command), own_fills)
            reports += outcome.report(len(own_fills) // FILL_WIDTH)
            fills += own_fills
        return reports, fills

    def _apply(self, command: Command, fills: list[int]) -> Outcome:
        if command.kind == CommandKind.NEW:
            return self._new(command, fills)
        if command.kind == CommandKind.CANCEL:
            return self._cancel(command)
        if command.kind == CommandKind.REPLACE:
            return self._replace(command, fills)
        return Outcome(Status.REJECTED, Reason.UNKNOWN_COMMAND)

    # New orders.

    def _new(self, command: Command, fills: list[int]) -> Outcome:
        reason = self._refusal(command)
        if reason:
            return Outcome(Status.REJECTED, reason)
        side, limit = command.side, command.price if command.order_type == OrderType.LIMIT else None
        book = self._books.get(command.symbol, NaiveBook())
        if command.flags & POST_ONLY and self._would_trade(book, side, limit):
            return Outcome(Status.REJECTED, Reason.WOULD_CROSS)
        self._books[command.symbol] = book
        order_id = self._next_order_id
        self._next_order_id += 1
        all_or_nothing = command.time_in_force == TimeInForce.FOK
        if all_or_nothing and self._fillable(book, side, limit, command.account) < command.quantity:
            return Outcome(Status.EXPIRED, Reason.WOULD_NOT_FILL, order_id=order_id)
        order = Resting(order_id, side, command.price, command.quantity, command.account)
        outcome = self._trade(book, order, limit, fills)
        if outcome.status == Status.EXPIRED or not outcome.leaves:
            return outcome
        if command.order_type != OrderType.LIMIT or command.time_in_force != TimeInForce.GTC:
            outcome.status, outcome.reason, outcome.leaves = Status.EXPIRED, Reason.NO_LIQUIDITY, 0
            return outcome
        order.leaves = outcome.leaves
        book.enter(order)
        outcome.status = Status.PARTIALLY_FILLED if outcome.filled else Status.NEW
        return outcome

    def _refusal(self, command: Command) -> Reason:
        """The first rule that a new order breaks, whatever the book holds."""
        _, side, order_type, time_in_force, quantity, _, symbol, price, _, flags = command
        known = symbol in self._books
        plain_limit = order_type == OrderType.LIMIT and time_in_force == TimeInForce.GTC
        rules = [
            (known or _spells_a_symbol(symbol), Reason.BAD_SYMBOL),
            (side in _SIDES, Reason.BAD_SIDE),
            (order_type in _ORDER_TYPES and time_in_force in _TIMES_IN_FORCE, Reason.BAD_TYPE),
            (flags == 0 or (flags == POST_ONLY and plain_limit), Reason.BAD_TYPE),
            (1 <= quantity <= MAX_QUANTITY, Reason.BAD_QUANTITY),
            (order_type == OrderType.MARKET or 1 <= price <= MAX_PRICE, Reason.BAD_PRICE),
            (known or len(self._books) < self._max_symbols, Reason.TOO_MANY_SYMBOLS),
            (not plain_limit or self.open_orders < self._max_open_orders, Reason.TOO_MANY_ORDERS),
        ]
        return next((reason for holds, reason in rules if not holds), Reason.NONE)

    # Trading.

    def _would_trade(self, book: NaiveBook, side: int, limit: int | None) -> bool:
        opposite = book.opposite(side)
        return bool(opposite) and reaches(side, limit, opposite[0].price)

    def _fillable(self, book: NaiveBook, side: int, limit: int | None, account: int) -> int:
        total = 0
        for maker in book.opposite(side):
            if maker.account == account or not reaches(side, limit, maker.price):
                break
            total += maker.leaves
        return total

    def _trade(self, book: NaiveBook, taker: Resting, limit: int | None, fills: list[int]) -> Outcome:
        """Trade as far as possible. EXPIRED: a self-trade stopped it; otherwise the caller judges what is left."""
        outcome = Outcome(Status.FILLED, order_id=taker.order_id, leaves=taker.leaves)
        makers = book.opposite(taker.side)
        while outcome.leaves and self._would_trade(book, taker.side, limit):
            maker = makers[0]
            if maker.account == taker.account:
                outcome.status, outcome.reason, outcome.leaves = Status.EXPIRED, Reason.SELF_TRADE, 0
                break
            traded = min(outcome.leaves, maker.leaves)
            maker.leaves -= traded
            outcome.leaves -= traded
            outcome.filled += traded
            outcome.notional += traded * maker.price
            fills += [maker.order_id, maker.price, traded, maker.leaves]
            book.tape = [*book.tape, Trade(maker.price, traded, maker.order_id, taker.order_id)][-TAPE_LENGTH:]
            if not maker.leaves:
                del makers[0]
        return outcome

    # Cancel and replace.

    def _find(self, command: Command) -> Resting | None:
        """The open order that a cancel or a replace names."""
        book = self._books.get(command.symbol, NaiveBook())
        wanted = (command.order_id, command.account)
        return next((o for o in [*book.bids, *book.asks] if (o.order_id, o.account) == wanted), None)

    def _cancel(self, command: Command) -> Outcome:
        order = self._find(command)
        if order is None:
            return Outcome(Status.REJECTED, Reason.UNKNOWN_ORDER, order_id=command.order_id)
        self._books[command.symbol].own(order.side).remove(order)
        return Outcome(Status.CANCELED, order_id=order.order_id)

    def _replace(self, command: Command, fills: list[int]) -> Outcome:
        _, _, _, _, quantity, order_id, symbol, price, account, flags = command
        order = self._find(command)
        rules = [
            (order is not None, Reason.UNKNOWN_ORDER),
            (flags in (0, POST_ONLY), Reason.BAD_TYPE),
            (1 <= quantity <= MAX_QUANTITY, Reason.BAD_QUANTITY),
            (1 <= price <= MAX_PRICE, Reason.BAD_PRICE),
        ]
        reason = next((reason for holds, reason in rules if not holds), Reason.NONE)
        if reason or order is None:
            return Outcome(Status.REJECTED, reason, order_id=order_id)
        if price == order.price and quantity <= order.leaves:
            order.leaves = quantity
            return Outcome(Status.REPLACED, leaves=quantity, order_id=order_id)
        book = self._books[symbol]
        if flags and self._would_trade(book, order.side, price):
            return Outcome(Status.REJECTED, Reason.WOULD_CROSS, order_id=order_id)
        book.own(order.side).remove(order)
        outcome = self._trade(book, Resting(order_id, order.side, price, quantity, account), price, fills)
        if outcome.status == Status.EXPIRED:
            return outcome
        if outcome.leaves:
            book.enter(Resting(order_id, order.side, price, outcome.leaves, account))
        outcome.status = Status.REPLACED
        return outcome

    # For people, and the state.

    def depth(self, symbol: str, levels: int = 10) -> Depth:
        """The best ``levels`` levels of ``symbol``."""
        book = self._books.get(symbol_code(symbol), NaiveBook())
        sides = []
        for queue in (book.bids, book.asks):
            prices: dict[int, list[Resting]] = {}
            for order in queue:
                prices.setdefault(order.price, []).append(order)
            rows = [(price, sum(o.leaves for o in orders), len(orders)) for price, orders in prices.items()]
            sides.append(rows[:levels])
        return Depth(symbol, *sides)

    def trades(self, symbol: str) -> list[Trade]:
        """The last trades of ``symbol``, oldest first."""
        return list(self._books.get(symbol_code(symbol), NaiveBook()).tape)

    def state_hash(self) -> bytes:
        """The hash of the canonical bytes; equal to that of the fast exchange in the same state."""

        def rows(queue: list[Resting]) -> list[tuple[int, int, int, int]]:
            return [(order.order_id, order.price, order.leaves, order.account) for order in queue]

        symbols = [
            SymbolState(code, rows(book.bids), rows(book.asks), list(map(tuple, book.tape)))  # type: ignore[arg-type]
            for code, book in sorted(self._books.items())
        ]
        return hash_state(encode_state(self._next_order_id, symbols))


def _spells_a_symbol(code: int) -> bool:
    try:
        return bool(symbol_name(code))
    except ValueError:
        return False
