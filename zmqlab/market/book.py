"""The book of one symbol: two sides of price levels, each a queue of orders. The data structure only, not the rules.

Theory of operation. Both sides are kept alike by *keys*. The key of an ask is its price; the key of a bid is its
negated price. So on either side the smallest key is the best. An incoming order reaches a level of the other side
exactly if ``level.key <= limit``, where ``limit`` is the price of a buyer and the negated price of a seller. An order
that rests at ``limit`` has the key ``-limit`` on its own side. One code serves both sides, and a market order has a
limit that is above every key.

A *level* is a deque of orders, oldest first. Trading takes orders from its left end. A cancel must not search, so it
only marks the order and leaves it where it is: the order is *dead*. Dead orders are dropped when
they come to the front, when no order in the level is live, or when a cancel or a fill leaves more than half of the
level dead (:meth:`Level.compact`). So removing an order takes constant time on average, and a level is never longer
than twice its live orders and a few more. (A dict by order id looks simpler. But finding its first entry scans all
entries that were deleted before it, which makes trading through a long queue quadratic.)

An *order* is a list of six, because making a list takes a fifth of the time of making an object with ``__slots__``,
and almost every command makes an order. The constants below name its places. Only two of them ever change: an order
that dies loses its mark and nothing else, and the quantity changes by a partial fill and by a replace in place. A
snapshot relies on that (:meth:`zmqlab.market.market_state.MarketState.freeze`).

Left out on purpose: totals for each level. Every command would update them, and only people (depth) and fill-or-kill
orders would read them; those count for themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, TypeAlias

from sortedcontainers import SortedList

from zmqlab.market.types import MAX_PRICE, TAPE_LENGTH

Order: TypeAlias = list[Any]
"""[order_id, account, leaves_quantity, is_live, level, session]"""

ORDER_ID = 0
ACCOUNT = 1
QUANTITY = 2
LIVE = 3
LEVEL = 4
SESSION = 5

NO_LEVEL = MAX_PRICE + 2
"""The best key of an empty side: above every limit, so that no order ever reaches it."""
NO_LIMIT = MAX_PRICE + 1
"""The limit of a market order: above every key and below NO_LEVEL."""

COMPACT_ABOVE = 16
"""How many dead orders a level of any size may hold: rebuilding a short deque is not worth the call."""


class Level(deque[Order]):
    """All orders at one price, oldest first, dead ones included."""

    __slots__ = ("key", "live", "side", "symbol")

    def __init__(self, key: int, side: BookSide) -> None:
        super().__init__()
        self.key = key
        """The price of an ask, the negated price of a bid. Never changes."""
        self.live = 0
        """How many orders in this deque are live. Never 0 for a level that is in its side."""
        self.side = side
        self.symbol = side.symbol

    __hash__ = object.__hash__  # type: ignore[assignment]

    def compact(self) -> None:
        """Drop the dead orders."""
        live = [order for order in self if order[LIVE]]
        self.clear()
        self.extend(live)


class BookSide:
    """The price levels of one side of a book."""

    __slots__ = ("best", "keys", "levels", "symbol")

    def __init__(self, symbol: int) -> None:
        self.symbol = symbol
        self.best = NO_LEVEL
        """The smallest key of ``keys``, or NO_LEVEL."""
        self.levels: dict[int, Level] = {}
        self.keys: SortedList = SortedList()
        """The keys of ``levels``."""

    def open_level(self, key: int) -> Level:
        """A new level. The caller must put an order into it."""
        level = self.levels[key] = Level(key, self)
        self.keys.add(key)
        if key < self.best:
            self.best = key
        return level

    def close_level(self, level: Level) -> bool:
        """Forget a level without live orders. Returns whether it was the last one."""
        level.clear()  # Dead orders refer to their level: without this they would wait for the cycle collector.
        key = level.key
        del self.levels[key]
        self.keys.remove(key)
        if key == self.best:
            self.best = self.keys[0] if self.keys else NO_LEVEL
        return not self.levels

    def remove(self, order: Order) -> None:
        """Take a live order out. The caller has taken it out of the table of open orders."""
        order[LIVE] = False
        level = order[LEVEL]
        live = level.live = level.live - 1
        if not live:
            self.close_level(level)
        elif len(level) > 2 * live + COMPACT_ABOVE:
            level.compact()

    def orders(self) -> Iterator[tuple[int, Order]]:
        """``(price, order)`` of the live orders, in price-time order."""
        for key in self.keys:
            price = abs(key)
            for order in self.levels[key]:
                if order[LIVE]:
                    yield price, order

    def available(self, limit: int, wanted: int, account: int) -> int:
        """How much of ``wanted`` can be filled at ``limit`` or better, before an order of ``account`` stops the
        trading."""
        found = 0
        for key in self.keys:
            if key > limit:
                return found
            for order in self.levels[key]:
                if not order[LIVE]:
                    continue
                if order[ACCOUNT] == account:
                    return found
                found += order[QUANTITY]
                if found >= wanted:
                    return wanted
        return found

    def depth(self, levels: int) -> list[tuple[int, int, int]]:
        """``(price, quantity, orders)`` of the best ``levels`` levels."""
        rows = []
        for key in self.keys[: max(levels, 0)]:
            level = self.levels[key]
            rows.append((abs(key), sum([order[QUANTITY] for order in level if order[LIVE]]), level.live))
        return rows

    def check_invariants(self) -> None:
        """Assert what the docstrings of this class and of its levels promise."""
        assert list(self.keys) == sorted(self.levels), "keys are the levels' keys, in order"
        assert self.best == min(self.levels, default=NO_LEVEL), "best is the smallest key"
        for key, level in self.levels.items():
            live = sum(1 for order in level if order[LIVE])
            assert level.key == key
            assert level.side is self
            assert level.symbol == self.symbol
            assert all(order[LEVEL] is level for order in level)
            assert level.live == live > 0, "a level that is kept has a live order"
            assert len(level) <= 2 * live + COMPACT_ABOVE, "the dead are bounded"


class Book:
    """Both sides of one symbol, and the tape of its last trades."""

    __slots__ = ("account", "asks", "bids", "session", "tape")

    def __init__(self, symbol: int) -> None:
        self.bids = BookSide(symbol)
        self.asks = BookSide(symbol)
        self.account = 0
        self.session = 0
        """Who holds the symbol (:class:`~zmqlab.market.types.MarketLimits`); both 0 while the book is empty."""
        self.tape: deque[tuple[int, int, int, int]] = deque(maxlen=TAPE_LENGTH)
        """``(price, quantity, maker_order_id, taker_order_id)``, oldest first."""

    @property
    def is_empty(self) -> bool:
        """Whether no order rests here."""
        return not (self.bids.levels or self.asks.levels)

    def check_invariants(self) -> None:
        """Assert that the book is not crossed and each side is sound."""
        self.bids.check_invariants()
        self.asks.check_invariants()
        assert -self.bids.best < self.asks.best, "the best bid is below the best ask"
        assert all(key < 0 for key in self.bids.levels), "bids have negated prices as keys"
        assert all(key > 0 for key in self.asks.levels), "asks have prices as keys"
