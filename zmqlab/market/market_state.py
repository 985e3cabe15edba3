"""The state of an exchange: its books, its table of open orders, who holds how much, and how it becomes bytes.

:class:`~zmqlab.market.exchange.Exchange` adds the commands that change it. What is here decides about room: which
symbols are listed, and what the quotas of an account and of a session leave (:class:`~zmqlab.market.types
.MarketLimits`).

**Listing.** A symbol is listed when the first order rests in it. While its book is empty it is *idle*: its tape can
still be read, and it may be delisted. That happens when another symbol needs its place, and to the symbol that has been
idle longest. So no open order and no recent tape goes while there is room.

**Quotas.** Counting the orders of each account costs 40 ns an order, and no account can have more than all have
together. So the exchange begins to count when it holds as many orders as the smallest quota, and stops when it holds
less than half of that. Whether it counts is no state: it changes no answer.

**A frozen state.** :meth:`MarketState.freeze` gives the state as it is now, in slices that are encoded later, while
commands go on. It copies the list of open orders (15 ms for a million, and no field of them), because the table of open
orders is in the order of arrival: a Python dictionary keeps the order of insertion, and a replace that loses its place
takes its order out and puts a new one in. Of a copied order only the quantity can change. The two places that change
one tell the states that are frozen first.

**Restoring** is the way back, in pieces as they arrive: each order is put at the end of its level. All that a state
could contradict is checked on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from operator import itemgetter

from zmqlab.errors import StateInvalid
from zmqlab.market.book import ACCOUNT, LEVEL, LIVE, ORDER_ID, QUANTITY, SESSION, Book, BookSide, Order
from zmqlab.market.canonical import (
    HEADER,
    MAGIC,
    ORDER,
    SLICE_ROWS,
    SYMBOL,
    TRADE,
    VERSION,
    CanonicalState,
    Pieces,
    expect_header,
    pack_symbol,
)
from zmqlab.market.types import (
    MAX_PRICE,
    MAX_QUANTITY,
    TAPE_LENGTH,
    Depth,
    MarketLimits,
    Reason,
    Trade,
    symbol_code,
    symbol_name,
)

_NONE = int(Reason.NONE)
_TOO_MANY_ORDERS = int(Reason.TOO_MANY_ORDERS)
_TOO_MANY_SYMBOLS = int(Reason.TOO_MANY_SYMBOLS)
_TOO_MANY_ACCOUNT_ORDERS = int(Reason.TOO_MANY_ACCOUNT_ORDERS)
_TOO_MANY_SESSION_ORDERS = int(Reason.TOO_MANY_SESSION_ORDERS)
_TOO_MANY_ACCOUNT_SYMBOLS = int(Reason.TOO_MANY_ACCOUNT_SYMBOLS)
_TOO_MANY_SESSION_SYMBOLS = int(Reason.TOO_MANY_SESSION_SYMBOLS)

FREED_AT_ONCE = 4_096
"""Orders of a state that is no longer needed which one step frees: 1 ms of work."""


class MarketState(CanonicalState):
    """See the module."""

    def __init__(self, limits: MarketLimits | None = None) -> None:
        self.limits = limits = limits or MarketLimits()
        self._books: dict[int, Book] = {}
        """By symbol code: the symbols with open orders."""
        self._idle: dict[int, Book] = {}
        """The listed symbols without open orders; the one that has been idle longest comes first."""
        self._orders: dict[int, Order] = {}
        """All open orders by id, in the order of their arrival: exactly the live orders of all levels."""
        self._next_order_id = 1
        """Above the id of every order that was ever accepted."""
        self._held_by_account: Counter[int] = Counter()
        self._held_by_session: Counter[int] = Counter()
        """How many of ``_books`` each account and each session holds; without those that hold none."""
        self._open_of_account: Counter[int] = Counter()
        self._open_of_session: Counter[int] = Counter()
        """How many open orders each has, while ``_counting``; otherwise empty."""
        self._counting = False
        self._count_from = min(limits.open_orders, limits.account_orders, limits.session_orders)
        """Below so many open orders no quota of orders can be used up."""
        self._frozen: list[dict[int, int]] = []
        """Of each state that is frozen and not encoded to its end: quantities as they were, by the order's identity."""

    @property
    def open_orders(self) -> int:
        """How many orders rest in the books."""
        return len(self._orders)

    @property
    def symbols(self) -> list[str]:
        """The names of all listed symbols, sorted by code."""
        return [symbol_name(code) for code in sorted([*self._books, *self._idle])]

    # Room.

    def _no_room(self, symbol: int, account: int, session: int) -> int:
        """The reason why an order may not come to rest; 0 if it may."""
        limits = self.limits
        if symbol not in self._books:
            if len(self._books) >= limits.symbols:
                return _TOO_MANY_SYMBOLS
            if self._held_by_account[account] >= limits.account_symbols:
                return _TOO_MANY_ACCOUNT_SYMBOLS
            if self._held_by_session[session] >= limits.session_symbols:
                return _TOO_MANY_SESSION_SYMBOLS
        if len(self._orders) < self._count_from:
            return _NONE
        if len(self._orders) >= limits.open_orders:
            return _TOO_MANY_ORDERS
        if self._open_of_account[account] >= limits.account_orders:
            return _TOO_MANY_ACCOUNT_ORDERS
        if self._open_of_session[session] >= limits.session_orders:
            return _TOO_MANY_SESSION_ORDERS
        return _NONE

    def _begin_to_count(self) -> None:
        self._open_of_account = Counter(map(itemgetter(ACCOUNT), self._orders.values()))
        self._open_of_session = Counter(map(itemgetter(SESSION), self._orders.values()))
        self._counting = True

    def _stop_counting(self) -> None:
        self._open_of_account, self._open_of_session = Counter(), Counter()
        self._counting = False

    def _uncount(self, order: Order) -> None:
        """An order is no longer open. Only while ``_counting``."""
        _decrement(self._open_of_account, order[ACCOUNT])
        _decrement(self._open_of_session, order[SESSION])

    def _hold(self, symbol: int, book: Book, account: int, session: int) -> None:
        """An order is about to rest in the empty ``book``. List the symbol, if it was not."""
        if self._idle.pop(symbol, None) is None and len(self._books) + len(self._idle) >= self.limits.symbols:
            del self._idle[next(iter(self._idle))]
        self._books[symbol] = book
        book.account, book.session = account, session
        self._held_by_account[account] += 1
        self._held_by_session[session] += 1

    def _release_if_empty(self, symbol: int) -> None:
        """The book of ``symbol`` may have become empty by the command that ends here."""
        book = self._books[symbol]
        if book.is_empty:
            self._idle[symbol] = self._books.pop(symbol)
            _decrement(self._held_by_account, book.account)
            _decrement(self._held_by_session, book.session)
            book.account = book.session = 0

    def _rest(self, side: BookSide, key: int, order_id: int, account: int, quantity: int, session: int) -> None:
        """Put an order at the end of its level's queue, and of the table of open orders."""
        level = side.levels.get(key)
        if level is None:
            level = side.open_level(key)
        order = [order_id, account, quantity, True, level, session]
        level.append(order)
        level.live += 1
        self._orders[order_id] = order
        if self._counting:
            self._open_of_account[account] += 1
            self._open_of_session[session] += 1

    # For people.

    def depth(self, symbol: str, levels: int = 10) -> Depth:
        """The best ``levels`` levels of ``symbol``; empty for a symbol that is not listed.

        Raises:
            ValueError: ``symbol`` can't be the name of a symbol.
        """
        book = self._book_of(symbol_code(symbol))
        return Depth(symbol, book.bids.depth(levels), book.asks.depth(levels))

    def trades(self, symbol: str) -> list[Trade]:
        """The last trades of ``symbol``, oldest first; none of a symbol that is not listed.

        Raises:
            ValueError: ``symbol`` can't be the name of a symbol.
        """
        return list(map(Trade._make, self._book_of(symbol_code(symbol)).tape))

    def _book_of(self, symbol: int) -> Book:
        """The book of ``symbol``, or a new one that is not listed."""
        return self._books.get(symbol) or self._idle.get(symbol) or Book(symbol)

    # The state as bytes.

    def freeze(self, rows: int = SLICE_ROWS) -> Iterator[bytes]:
        """The canonical bytes of the state as it is now, in slices of about ``rows`` orders or trades.

        Commands may go on while the slices are made. Who does not want more of them drops the iterator.
        """
        symbols = [(code, book.session, book.account, tuple(book.tape)) for code, book in sorted(self._books.items())]
        symbols += [(code, 0, 0, tuple(book.tape)) for code, book in self._idle.items()]
        orders = list(reversed(self._orders.values()))
        header = HEADER.pack(MAGIC, VERSION, self._next_order_id, len(self._books), len(self._idle), len(orders))
        changed: dict[int, int] = {}
        self._frozen.append(changed)
        slices = self._slices(header, symbols, orders, changed, rows)
        next(slices)  # now it has begun, so that its end is seen even if no slice is taken
        return slices

    def _slices(
        self,
        header: bytes,
        symbols: list[tuple[int, int, int, tuple[tuple[int, int, int, int], ...]]],
        orders: list[Order],
        changed: dict[int, int],
        rows: int,
    ) -> Iterator[bytes]:
        """Encode what :meth:`freeze` has taken; ``orders`` come last first, and are let go of one slice at a time."""
        try:
            yield b""
            at_once = max(1, rows // TAPE_LENGTH)
            first = [pack_symbol(*symbol) for symbol in symbols[:at_once]]
            yield b"".join([header, *first])
            for start in range(at_once, len(symbols), at_once):
                yield b"".join([pack_symbol(*symbol) for symbol in symbols[start : start + at_once]])
            while orders:
                slice_ = orders[: -rows - 1 : -1]
                del orders[-rows:]
                yield _pack_orders(slice_, changed)
        finally:
            self._frozen = [other for other in self._frozen if other is not changed]

    def _note_quantity(self, order: Order) -> None:
        """The quantity of ``order`` is about to change, while a state is frozen."""
        for changed in self._frozen:
            changed.setdefault(id(order), order[QUANTITY])

    def swap(self, other: MarketState, /) -> None:
        """Exchange the states of two objects."""
        own = dict(vars(self))
        vars(self).update(vars(other))
        vars(other).update(own)

    def restoring(self, pieces: Pieces) -> Iterator[None]:
        """Fill this state, which must be new, from ``pieces``. Yields where more bytes are needed.

        Raises:
            StateInvalid: the bytes are no state. This object is of no more use.
        """
        magic, version, self._next_order_id, held, idle, orders = yield from pieces.one(HEADER)
        expect_header(magic, version)
        if held + idle > self.limits.symbols or orders > self.limits.open_orders:
            raise StateInvalid(f"a state of {held + idle} symbols and {orders} orders is beyond the market's limits")
        self._counting = orders >= self._count_from
        for number in range(held + idle):
            code, session, account, trades = yield from pieces.one(SYMBOL)
            book = self._restore_symbol(code, session, account, is_idle=number >= held)
            if trades > TAPE_LENGTH:
                raise StateInvalid(f"a state of the market has {trades} trades of one symbol, more than a tape holds")
            while pieces.size < trades * TRADE.size:
                yield
            book.tape.extend(pieces.rows(TRADE, trades)[1])
        while orders:
            count, rows = pieces.rows(ORDER, orders)
            self._restore_orders(list(rows))
            orders -= count
            if orders:
                yield
        if any(book.is_empty or -book.bids.best >= book.asks.best for book in self._books.values()):
            raise StateInvalid("a state of the market has an empty or a crossed book")

    def _restore_symbol(self, code: int, session: int, account: int, *, is_idle: bool) -> Book:
        if not is_symbol_code(code) or code in self._books or code in self._idle:
            raise StateInvalid(f"a state of the market lists {code}, which is no symbol, or lists it twice")
        book = Book(code)
        if is_idle:
            self._idle[code] = book
        else:
            self._hold(code, book, account, session)
        return book

    def _restore_orders(self, rows: list[tuple[int, ...]]) -> None:
        """:meth:`_rest`, written out: half of a node's restart is spent here."""
        books, orders, next_order_id = self._books, self._orders, self._next_order_id
        before = len(orders)
        for order_id, session, symbol, price, quantity, account in rows:
            if not (
                symbol in books
                and 0 < order_id < next_order_id
                and 0 < quantity <= MAX_QUANTITY
                and price
                and -MAX_PRICE <= price <= MAX_PRICE
            ):
                raise StateInvalid(f"a state of the market has an order {order_id} that can't be")
            side = books[symbol].bids if price < 0 else books[symbol].asks
            level = side.levels.get(price)
            if level is None:
                level = side.open_level(price)
            order = orders[order_id] = [order_id, account, quantity, True, level, session]
            level.append(order)
            level.live += 1
        if len(orders) != before + len(rows):
            raise StateInvalid("a state of the market has an order twice")
        if self._counting:
            self._open_of_account.update(map(itemgetter(5), rows))
            self._open_of_session.update(map(itemgetter(1), rows))

    def dismantle(self) -> Iterator[None]:
        """Free this state, which is of no more use, in steps: orders and levels refer to each other."""
        left = FREED_AT_ONCE
        for table in [side.levels for book in self._books.values() for side in (book.bids, book.asks)]:
            while table:
                table.popitem()[1].clear()
                left -= 1
                if not left:
                    yield
                    left = FREED_AT_ONCE
        while self._orders:
            self._orders.popitem()
            left -= 1
            if not left:
                yield
                left = FREED_AT_ONCE

    def check_invariants(self) -> None:
        """Assert the invariants of this class and of its books. It looks at every order, so it is for tests."""
        seen: dict[int, Order] = {}
        for code, book in self._books.items():
            assert is_symbol_code(code)
            book.check_invariants()
            assert not book.is_empty, "a symbol that is held has an open order"
            for side in (book.bids, book.asks):
                assert side.symbol == code
                for price, order in side.orders():
                    assert order[ORDER_ID] not in seen, "an order rests in one place"
                    seen[order[ORDER_ID]] = order
                    assert 0 < order[QUANTITY] <= MAX_QUANTITY
                    assert 0 < price <= MAX_PRICE
                    assert order[LEVEL].side is side
        assert seen == self._orders, "the table of open orders is exactly what rests"
        assert all(order_id < self._next_order_id for order_id in seen)
        assert all(book.is_empty and not book.session for book in self._idle.values())
        assert not self._books.keys() & self._idle.keys()
        self._check_limits()

    def _check_limits(self) -> None:
        """Assert that the arrivals are in the order of each level, and what is counted and bounded."""
        place = {order_id: number for number, order_id in enumerate(self._orders)}
        books, orders, limits = self._books.values(), self._orders.values(), self.limits
        for level in chain.from_iterable(side.levels.values() for book in books for side in (book.bids, book.asks)):
            places = [place[order[ORDER_ID]] for order in level if order[LIVE]]
            assert places == sorted(places), "the table of open orders is in the order of arrival"
        assert self._held_by_account == Counter(book.account for book in books)
        assert self._held_by_session == Counter(book.session for book in books)
        by_account, by_session = (Counter(order[key] for order in orders) for key in (ACCOUNT, SESSION))
        if self._counting:
            assert (self._open_of_account, self._open_of_session) == (by_account, by_session)
        assert len(orders) <= limits.open_orders
        assert len(self._books) + len(self._idle) <= limits.symbols
        for counts, most in (
            (by_account, limits.account_orders),
            (by_session, limits.session_orders),
            (self._held_by_account, limits.account_symbols),
            (self._held_by_session, limits.session_symbols),
        ):
            assert all(count <= most for count in counts.values())


def is_symbol_code(code: int) -> bool:
    """Whether a symbol has this code."""
    try:
        symbol_name(code)
    except ValueError:
        return False
    return True


def _pack_orders(orders: list[Order], changed: dict[int, int]) -> bytes:
    pack = ORDER.pack
    if changed:
        quantities = [changed.get(id(order), order[QUANTITY]) for order in orders]
    else:
        quantities = [order[QUANTITY] for order in orders]
    return b"".join(
        [
            pack(order[ORDER_ID], order[SESSION], order[LEVEL].symbol, order[LEVEL].key, quantity, order[ACCOUNT])
            for order, quantity in zip(orders, quantities, strict=True)
        ]
    )


def _decrement(counts: Counter[int], key: int) -> None:
    """One less; a count of 0 is not kept, since clients choose their accounts."""
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1
