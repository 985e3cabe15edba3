"""One symbol's limit order book: price levels in order, each a queue in order of arrival.

A side is a SortedDict from a key to its level; the key is the price for asks and the negated price for bids, so that
on both sides the best level has the smallest key. The best level of each side is cached, since nearly every command
looks at it and a look-up in a SortedDict costs as much as the rest of the command.

A level is a deque. An order that is cancelled stays in it with nothing left (a *tombstone*) until it comes to the front
or until tombstones outnumber the living; so a cancel is O(1) and a queue's memory stays within twice its orders. A dict
in order of insertion would seem simpler, but finding its first item is O(n) after n removals from the front.
"""

from __future__ import annotations

from collections import deque

from sortedcontainers import SortedDict

MIN_TOMBSTONES = 16
"""Below so many a queue is not worth cleaning."""


class Order:
    """A resting order; with ``leaves_quantity`` 0 it is a tombstone."""

    __slots__ = ("account", "leaves_quantity", "level", "order_id", "symbol")

    def __init__(self, order_id: int, account: int, leaves_quantity: int, symbol: int, level: Level) -> None:
        self.order_id = order_id
        self.account = account
        self.leaves_quantity = leaves_quantity
        self.symbol = symbol
        self.level = level


class Level:
    """All orders of one side at one price."""

    __slots__ = ("key", "order_count", "price", "quantity", "queue", "side")

    def __init__(self, side: BookSide, key: int, price: int) -> None:
        self.side = side
        self.key = key
        self.price = price
        self.quantity = 0
        """The sum of the living orders' leaves; above zero, or the level is not in its side."""
        self.order_count = 0
        """Living orders in ``queue``."""
        self.queue: deque[Order] = deque()

    def remove(self, order: Order) -> None:
        """Turn a living order into a tombstone; drops the level when it was the last."""
        self.quantity -= order.leaves_quantity
        self.order_count -= 1
        order.leaves_quantity = 0
        if not self.order_count:
            self.side.drop(self)
        elif len(self.queue) > 2 * self.order_count + MIN_TOMBSTONES:
            self.queue = deque(order for order in self.queue if order.leaves_quantity)

    def living(self) -> list[Order]:
        """The orders in the order of their arrival."""
        return [order for order in self.queue if order.leaves_quantity]


class BookSide:
    """Bids or asks. ``sign`` is -1 for bids, 1 for asks: ``key == sign * price``."""

    __slots__ = ("best", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.levels: SortedDict = SortedDict()
        self.best: Level | None = None
        """The level with the smallest key; None on an empty side."""

    def level_at(self, price: int) -> Level:
        """The level of ``price``, made if there is none. The caller puts an order into it at once."""
        key = self.sign * price
        level: Level | None = self.levels.get(key)
        if level is None:
            level = self.levels[key] = Level(self, key, price)
            if self.best is None or key < self.best.key:
                self.best = level
        return level

    def drop(self, level: Level) -> None:
        """Forget an empty level."""
        del self.levels[level.key]
        if level is self.best:
            self.best = self.levels.peekitem(0)[1] if self.levels else None


class Book:
    """One symbol: both sides, and the tape of its last trades."""

    __slots__ = ("asks", "bids", "symbol", "tape")

    def __init__(self, symbol: int, tape_length: int) -> None:
        self.symbol = symbol
        self.bids = BookSide(-1)
        self.asks = BookSide(1)
        self.tape: deque[tuple[int, int, int, int]] = deque(maxlen=tape_length)
        """(price, quantity, maker_order_id, taker_order_id), oldest first."""
