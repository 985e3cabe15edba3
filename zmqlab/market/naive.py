"""A second exchange that does everything in the obvious way, to compare the fast one with.

It has the interface and the rules of :mod:`zmqlab.market.exchange`, and shares with it only the vocabulary and the form
of the canonical state. A side of a book is one plain list of orders, in the order in which they would trade. Every
operation walks that list. The property tests, the verdict after a run and the simulator's checkers replay commands
through this exchange. Read this module to learn the rules.

The state has an order of arrival (:mod:`zmqlab.market.canonical`). Here each order that comes to rest gets a number,
and the hash sorts by it.

Left out: speed, and restoring from a snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from zmqlab.market.canonical import HEADER, MAGIC, ORDER, VERSION, hash_slices, pack_symbol
from zmqlab.market.types import (
    FILL_WIDTH,
    MAX_PRICE,
    MAX_QUANTITY,
    POST_ONLY,
    TAPE_LENGTH,
    Command,
    CommandKind,
    Depth,
    MarketLimits,
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
    session: int
    arrival: int = 0
    """A number that grows with each order that comes to rest."""


@dataclass
class NaiveBook:
    """The book of one symbol. Each side is in the order in which its orders would trade."""

    bids: list[Resting] = field(default_factory=list)
    asks: list[Resting] = field(default_factory=list)
    tape: list[Trade] = field(default_factory=list)
    holder: tuple[int, int] | None = None
    """(account, session) of the order that came first to the empty book; None while it is empty."""

    def is_empty(self) -> bool:
        """Whether no order rests here."""
        return not (self.bids or self.asks)

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

    def __init__(self, limits: MarketLimits | None = None) -> None:
        self._limits = limits or MarketLimits()
        self._books: dict[int, NaiveBook] = {}
        """The listed symbols."""
        self._idle: list[int] = []
        """Those of them without open orders; the one that has been idle longest comes first."""
        self._next_order_id = 1
        self._next_arrival = 1
        self._open_of_account: Counter[int] = Counter()
        self._open_of_session: Counter[int] = Counter()

    @property
    def open_orders(self) -> int:
        """How many orders rest in the books."""
        return sum(len(book.bids) + len(book.asks) for book in self._books.values())

    def execute(self, commands: Iterable[tuple[int, ...]], session: int = 0) -> tuple[list[int], list[int]]:
        """Execute ``commands`` of ``session`` in order. Returns the reports and the fills, each as one flat list."""
        reports: list[int] = []
        fills: list[int] = []
        for command in commands:
            own_fills: list[int] = []
            outcome = self._apply(Command._make(command), session, own_fills)
            self._note_idle(command[6])
            reports += outcome.report(len(own_fills) // FILL_WIDTH)
            fills += own_fills
        return reports, fills

    def _apply(self, command: Command, session: int, fills: list[int]) -> Outcome:
        if command.kind == CommandKind.NEW:
            return self._new(command, session, fills)
        if command.kind == CommandKind.CANCEL:
            return self._cancel(command)
        if command.kind == CommandKind.REPLACE:
            return self._replace(command, fills)
        return Outcome(Status.REJECTED, Reason.UNKNOWN_COMMAND)

    # What is listed, what rests, and who has how much of it.

    def _note_idle(self, symbol: int) -> None:
        """A command for ``symbol`` has ended: its book may have become empty."""
        book = self._books.get(symbol)
        if book is not None and book.is_empty() and symbol not in self._idle:
            self._idle.append(symbol)
            book.holder = None

    def _enter(self, symbol: int, order: Resting) -> None:
        """Let ``order`` rest. The first one in an empty book holds the symbol."""
        if symbol not in self._books:
            if len(self._books) == self._limits.symbols:
                del self._books[self._idle.pop(0)]
            self._books[symbol] = NaiveBook()
        book = self._books[symbol]
        if symbol in self._idle:
            self._idle.remove(symbol)
        if book.holder is None:
            book.holder = order.account, order.session
        order.arrival = self._next_arrival
        self._next_arrival += 1
        book.enter(order)
        self._open_of_account[order.account] += 1
        self._open_of_session[order.session] += 1

    def _leave(self, queue: list[Resting], order: Resting) -> None:
        """Take ``order`` out of its queue."""
        queue.remove(order)
        self._open_of_account[order.account] -= 1
        self._open_of_session[order.session] -= 1

    def _held(self, place: int, who: int) -> int:
        """How many symbols an account (place 0) or a session (place 1) holds."""
        return sum(1 for book in self._books.values() if book.holder is not None and book.holder[place] == who)

    # New orders.

    def _new(self, command: Command, session: int, fills: list[int]) -> Outcome:
        reason = self._refusal(command, session)
        if reason:
            return Outcome(Status.REJECTED, reason)
        side, limit = command.side, command.price if command.order_type == OrderType.LIMIT else None
        book = self._books.get(command.symbol, NaiveBook())
        if command.flags & POST_ONLY and self._would_trade(book, side, limit):
            return Outcome(Status.REJECTED, Reason.WOULD_CROSS)
        order_id = self._next_order_id
        self._next_order_id += 1
        all_or_nothing = command.time_in_force == TimeInForce.FOK
        if all_or_nothing and self._fillable(book, side, limit, command.account) < command.quantity:
            return Outcome(Status.EXPIRED, Reason.WOULD_NOT_FILL, order_id=order_id)
        order = Resting(order_id, side, command.price, command.quantity, command.account, session)
        outcome = self._trade(book, order, limit, fills)
        if outcome.status == Status.EXPIRED or not outcome.leaves:
            return outcome
        if command.order_type != OrderType.LIMIT or command.time_in_force != TimeInForce.GTC:
            outcome.status, outcome.reason, outcome.leaves = Status.EXPIRED, Reason.NO_LIQUIDITY, 0
            return outcome
        order.leaves = outcome.leaves
        self._enter(command.symbol, order)
        outcome.status = Status.PARTIALLY_FILLED if outcome.filled else Status.NEW
        return outcome

    def _refusal(self, command: Command, session: int) -> Reason:
        """The first rule that a new order breaks, whatever the book holds."""
        _, side, order_type, time_in_force, quantity, order_id, symbol, price, account, flags = command
        plain_limit = order_type == OrderType.LIMIT and time_in_force == TimeInForce.GTC
        rules = [
            (_spells_a_symbol(symbol), Reason.BAD_SYMBOL),
            (side in _SIDES, Reason.BAD_SIDE),
            (order_type in _ORDER_TYPES and time_in_force in _TIMES_IN_FORCE, Reason.BAD_TYPE),
            (flags == 0 or (flags == POST_ONLY and plain_limit), Reason.BAD_TYPE),
            (1 <= quantity <= MAX_QUANTITY, Reason.BAD_QUANTITY),
            (order_type == OrderType.MARKET or 1 <= price <= MAX_PRICE, Reason.BAD_PRICE),
            (order_id == 0 and (order_type == OrderType.LIMIT or price == 0), Reason.UNUSED_FIELD),
        ]
        reason = next((reason for holds, reason in rules if not holds), Reason.NONE)
        return self._no_room(symbol, account, session) if plain_limit and not reason else reason

    def _no_room(self, symbol: int, account: int, session: int) -> Reason:
        """The first limit that an order would exceed if it came to rest."""
        limits = self._limits
        if symbol not in self._books or symbol in self._idle:
            if symbol not in self._books and len(self._books) >= limits.symbols and not self._idle:
                return Reason.TOO_MANY_SYMBOLS
            if self._held(0, account) >= limits.account_symbols:
                return Reason.TOO_MANY_ACCOUNT_SYMBOLS
            if self._held(1, session) >= limits.session_symbols:
                return Reason.TOO_MANY_SESSION_SYMBOLS
        if self.open_orders >= limits.open_orders:
            return Reason.TOO_MANY_ORDERS
        if self._open_of_account[account] >= limits.account_orders:
            return Reason.TOO_MANY_ACCOUNT_ORDERS
        if self._open_of_session[session] >= limits.session_orders:
            return Reason.TOO_MANY_SESSION_ORDERS
        return Reason.NONE

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
                self._leave(makers, maker)
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
        unused = (*command[1:5], command.price, command.flags)
        if any(unused):
            return Outcome(Status.REJECTED, Reason.UNUSED_FIELD, order_id=command.order_id)
        self._leave(self._books[command.symbol].own(order.side), order)
        return Outcome(Status.CANCELED, order_id=order.order_id)

    def _replace(self, command: Command, fills: list[int]) -> Outcome:
        _, side, order_type, time_in_force, quantity, order_id, symbol, price, account, flags = command
        order = self._find(command)
        rules = [
            (order is not None, Reason.UNKNOWN_ORDER),
            (flags in (0, POST_ONLY), Reason.BAD_TYPE),
            (1 <= quantity <= MAX_QUANTITY, Reason.BAD_QUANTITY),
            (1 <= price <= MAX_PRICE, Reason.BAD_PRICE),
            ((side, order_type, time_in_force) == (0, 0, 0), Reason.UNUSED_FIELD),
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
        self._leave(book.own(order.side), order)
        entering = Resting(order_id, order.side, price, quantity, account, order.session)
        outcome = self._trade(book, entering, price, fills)
        if outcome.status == Status.EXPIRED:
            return outcome
        if outcome.leaves:
            entering.leaves = outcome.leaves
            self._enter(symbol, entering)
        outcome.status = Status.REPLACED
        return outcome

    # For people, and the state.

    def depth(self, symbol: str, levels: int = 10) -> Depth:
        """The best ``levels`` levels of ``symbol``."""
        return Depth(symbol, *self.sides(symbol_code(symbol), levels))

    def sides(self, code: int, levels: int) -> list[list[tuple[int, int, int]]]:
        """The best ``levels`` levels of each side of a book: price, quantity and number of orders."""
        book = self._books.get(code, NaiveBook())
        sides = []
        for queue in (book.bids, book.asks):
            prices: dict[int, list[Resting]] = {}
            for order in queue:
                prices.setdefault(order.price, []).append(order)
            rows = [(price, sum(o.leaves for o in orders), len(orders)) for price, orders in prices.items()]
            sides.append(rows[:levels])
        return sides

    def trades(self, symbol: str) -> list[Trade]:
        """The last trades of ``symbol``, oldest first."""
        return list(self._books.get(symbol_code(symbol), NaiveBook()).tape)

    def state_hash(self) -> bytes:
        """The hash of the canonical bytes; equal to that of the fast exchange in the same state."""
        return hash_slices([self.snapshot()])

    def snapshot(self) -> bytes:
        """The whole state as canonical bytes, as :meth:`MarketState.snapshot` gives them."""
        held = sorted(code for code in self._books if code not in self._idle)
        resting = [
            (order.arrival, order, code) for code, book in self._books.items() for order in (*book.bids, *book.asks)
        ]
        counts = len(held), len(self._idle), len(resting)
        state = [HEADER.pack(MAGIC, VERSION, self._next_order_id, *counts)]
        for code in (*held, *self._idle):
            account, session = self._books[code].holder or (0, 0)
            state.append(pack_symbol(code, session, account, self._books[code].tape))
        for _, order, code in sorted(resting, key=lambda item: item[0]):
            price = -order.price if order.side == Side.BUY else order.price
            state.append(ORDER.pack(order.order_id, order.session, code, price, order.leaves, order.account))
        return b"".join(state)


def _spells_a_symbol(code: int) -> bool:
    try:
        return bool(symbol_name(code))
    except ValueError:
        return False
