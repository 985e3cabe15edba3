"""The exchange: all books, the command loop, snapshots and the state hash.

``execute`` takes commands as the wire's tuples of integers and returns flat lists of integers, so that on the way from
bytes to bytes the only object made for an order is the one that rests. It is a deterministic function of the commands
so far: no clock, no float, no order of iteration that depends on a hash.

Rules of the book stand in :mod:`zmqlab.market`. A rejected command changes nothing and uses up no order id.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import blake2b

from zmqlab.market.book import Book, BookSide, Level, Order
from zmqlab.market.types import Depth, Trade, symbol_code, symbol_name

HASH_BYTES = 16
TAPE_LENGTH = 64
"""Trades a symbol that are remembered as part of the state."""
MAX_PRICE = MAX_QUANTITY = 2_000_000_000

# The codes of market.types as plain integers: an enum's member costs a look-up at each comparison.
NEW_COMMAND, CANCEL_COMMAND, REPLACE_COMMAND = 1, 2, 3
BUY, SELL = 1, 2
LIMIT, MARKET = 1, 2
GTC, IOC, FOK = 1, 2, 3
POST_ONLY = 1
NEW, PARTIALLY_FILLED, FILLED, CANCELED, REPLACED, REJECTED, EXPIRED = 1, 2, 3, 4, 5, 6, 7
NONE, UNKNOWN_ORDER, BAD_QUANTITY, BAD_PRICE, BAD_SYMBOL, BAD_SIDE, BAD_TYPE = 0, 1, 2, 3, 4, 5, 6
WOULD_CROSS, WOULD_NOT_FILL, NO_LIQUIDITY, SELF_TRADE = 7, 8, 9, 10
TOO_MANY_ORDERS, TOO_MANY_SYMBOLS, UNKNOWN_COMMAND = 11, 12, 13
ANY_PRICE = 1 << 62
"""A limit key that every level passes."""

_HEADER = struct.Struct("<QI")  # next_order_id book_count
_BOOK = struct.Struct("<QIII")  # symbol bid_count ask_count trade_count
_ORDER = struct.Struct("<QqII")  # order_id price leaves_quantity account
_TRADE = struct.Struct("<qIQQ")  # price quantity maker_order_id taker_order_id

CommandTuple = tuple[int, int, int, int, int, int, int, int, int, int]


class Exchange:
    """Order books for many symbols. Not thread-safe."""

    def __init__(self, *, max_open_orders: int = 1_000_000, max_symbols: int = 4_096) -> None:
        self._max_open_orders = max_open_orders
        self._max_symbols = max_symbols
        self._books: dict[int, Book] = {}
        self._orders: dict[int, Order] = {}
        self._next_order_id = 1

    @property
    def open_orders(self) -> int:
        """How many orders rest."""
        return len(self._orders)

    def execute(self, commands: Iterable[CommandTuple]) -> tuple[list[int], list[int]]:
        """Apply ``commands`` in order.

        Returns:
            reports, eight integers a command (status, reason, 0, fill_count, filled_quantity, leaves_quantity,
            order_id, notional), and fills, four integers each (maker_order_id, price, quantity,
            maker_leaves_quantity), both flat.
        """
        reports: list[int] = []
        fills: list[int] = []
        enter, cancel, replace = self._enter, self._cancel, self._replace
        for command in commands:
            kind = command[0]
            if kind == NEW_COMMAND:
                reports += enter(command, fills)
            elif kind == CANCEL_COMMAND:
                reports += cancel(command)
            elif kind == REPLACE_COMMAND:
                reports += replace(command, fills)
            else:
                reports += (REJECTED, UNKNOWN_COMMAND, 0, 0, 0, 0, command[5], 0)
        return reports, fills

    def _enter(self, command: CommandTuple, fills: list[int]) -> tuple[int, ...]:
        """A new order: check it, match it, let the rest rest or drop it."""
        _, side, order_type, time_in_force, quantity, _, symbol, price, account, flags = command
        book = self._books.get(symbol)
        reason = self._reject_reason(command, book)
        if reason:
            return (REJECTED, reason, 0, 0, 0, 0, 0, 0)
        if book is None:
            book = self._books[symbol] = Book(symbol, TAPE_LENGTH)
        own, other = (book.bids, book.asks) if side == BUY else (book.asks, book.bids)
        limit_key = other.sign * price if order_type == LIMIT else ANY_PRICE
        best = other.best
        crosses = best is not None and best.key <= limit_key
        if crosses and flags:
            return (REJECTED, WOULD_CROSS, 0, 0, 0, 0, 0, 0)
        if time_in_force == FOK and not _can_fill(other, limit_key, quantity, account):
            return (REJECTED, WOULD_NOT_FILL, 0, 0, 0, 0, 0, 0)
        order_id = self._next_order_id
        self._next_order_id = order_id + 1
        if not crosses:
            if order_type == LIMIT and time_in_force == GTC:
                self._rest(own, order_id, account, quantity, symbol, price)
                return (NEW, NONE, 0, 0, 0, quantity, order_id, 0)
            return (EXPIRED, NO_LIQUIDITY, 0, 0, 0, 0, order_id, 0)
        first_fill = len(fills)
        leaves, notional, self_trade = self._match(book, other, limit_key, quantity, order_id, account, fills)
        fill_count, filled = (len(fills) - first_fill) // 4, quantity - leaves
        if not leaves:
            return (FILLED, NONE, 0, fill_count, filled, 0, order_id, notional)
        if self_trade:
            return (EXPIRED, SELF_TRADE, 0, fill_count, filled, 0, order_id, notional)
        if order_type == LIMIT and time_in_force == GTC:
            self._rest(own, order_id, account, leaves, symbol, price)
            return (PARTIALLY_FILLED, NONE, 0, fill_count, filled, leaves, order_id, notional)
        return (EXPIRED, NO_LIQUIDITY, 0, fill_count, filled, 0, order_id, notional)

    def _reject_reason(self, command: CommandTuple, book: Book | None) -> int:
        """Why a new order can't be taken whatever the book holds; NONE if it can."""
        _, side, order_type, time_in_force, quantity, _, symbol, price, _, flags = command
        if book is None and not _is_symbol(symbol):
            return BAD_SYMBOL
        if side != BUY and side != SELL:
            return BAD_SIDE
        if not 1 <= time_in_force <= FOK or flags > POST_ONLY or not LIMIT <= order_type <= MARKET:
            return BAD_TYPE
        if flags and (order_type != LIMIT or time_in_force != GTC):
            return BAD_TYPE
        if not 0 < quantity <= MAX_QUANTITY:
            return BAD_QUANTITY
        if order_type == LIMIT and not 0 < price <= MAX_PRICE:
            return BAD_PRICE
        if len(self._orders) >= self._max_open_orders and order_type == LIMIT and time_in_force == GTC:
            return TOO_MANY_ORDERS
        if book is None and len(self._books) >= self._max_symbols:
            return TOO_MANY_SYMBOLS
        return NONE

    def _match(
        self, book: Book, other: BookSide, limit_key: int, leaves: int, order_id: int, account: int, fills: list[int]
    ) -> tuple[int, int, bool]:
        """Trade against ``other`` from its best level on; returns (leaves, notional, stopped by a self-trade)."""
        notional, tape = 0, book.tape
        level = other.best
        while leaves and level is not None and level.key <= limit_key:
            queue, price = level.queue, level.price
            while leaves and level.order_count:
                maker = queue[0]
                maker_leaves = maker.leaves_quantity
                if not maker_leaves:
                    queue.popleft()
                    continue
                if maker.account == account:
                    return leaves, notional, True
                traded = leaves if leaves < maker_leaves else maker_leaves
                leaves -= traded
                maker_leaves -= traded
                notional += price * traded
                level.quantity -= traded
                maker.leaves_quantity = maker_leaves
                fills += (maker.order_id, price, traded, maker_leaves)
                tape.append((price, traded, maker.order_id, order_id))
                if not maker_leaves:
                    queue.popleft()
                    level.order_count -= 1
                    del self._orders[maker.order_id]
            if not level.order_count:
                other.drop(level)
            level = other.best
        return leaves, notional, False

    def _rest(self, own: BookSide, order_id: int, account: int, leaves: int, symbol: int, price: int) -> None:
        level = own.level_at(price)
        order = Order(order_id, account, leaves, symbol, level)
        level.queue.append(order)
        level.quantity += leaves
        level.order_count += 1
        self._orders[order_id] = order

    def _cancel(self, command: CommandTuple) -> tuple[int, ...]:
        order_id = command[5]
        order = self._orders.get(order_id)
        if order is None or order.symbol != command[6] or order.account != command[8]:
            return (REJECTED, UNKNOWN_ORDER, 0, 0, 0, 0, order_id, 0)
        del self._orders[order_id]
        order.level.remove(order)
        return (CANCELED, NONE, 0, 0, 0, 0, order_id, 0)

    def _replace(self, command: CommandTuple, fills: list[int]) -> tuple[int, ...]:
        """A smaller quantity at the same price keeps the place; anything else is a cancel and a new arrival."""
        _, _, _, _, quantity, order_id, symbol, price, account, _ = command
        order = self._orders.get(order_id)
        if order is None or order.symbol != symbol or order.account != account:
            return (REJECTED, UNKNOWN_ORDER, 0, 0, 0, 0, order_id, 0)
        if not 0 < quantity <= MAX_QUANTITY:
            return (REJECTED, BAD_QUANTITY, 0, 0, 0, 0, order_id, 0)
        if not 0 < price <= MAX_PRICE:
            return (REJECTED, BAD_PRICE, 0, 0, 0, 0, order_id, 0)
        level = order.level
        if price == level.price and quantity <= order.leaves_quantity:
            level.quantity -= order.leaves_quantity - quantity
            order.leaves_quantity = quantity
            return (REPLACED, NONE, 0, 0, 0, quantity, order_id, 0)
        own, book = level.side, self._books[symbol]
        del self._orders[order_id]
        level.remove(order)
        other = book.asks if own is book.bids else book.bids
        first_fill = len(fills)
        limit_key = other.sign * price
        leaves, notional, self_trade = self._match(book, other, limit_key, quantity, order_id, account, fills)
        fill_count, filled = (len(fills) - first_fill) // 4, quantity - leaves
        if self_trade:
            return (EXPIRED, SELF_TRADE, 0, fill_count, filled, 0, order_id, notional)
        if leaves:
            self._rest(own, order_id, account, leaves, symbol, price)
        return (REPLACED, NONE, 0, fill_count, filled, leaves, order_id, notional)

    # What people see.

    def depth(self, symbol: str, levels: int = 10) -> Depth:
        """The best ``levels`` of each side; an unknown symbol's book is empty."""
        book = self._books.get(symbol_code(symbol))
        if book is None:
            return Depth(symbol, [], [])
        return Depth(symbol, _best_levels(book.bids, levels), _best_levels(book.asks, levels))

    def trades(self, symbol: str) -> list[Trade]:
        """The symbol's last trades, oldest first."""
        book = self._books.get(symbol_code(symbol))
        return [Trade(*trade) for trade in book.tape] if book else []

    # The whole state.

    def snapshot(self) -> bytes:
        """The state in a canonical form: books by symbol, orders by price and time, bids first."""
        parts = [_HEADER.pack(self._next_order_id, len(self._books))]
        for symbol in sorted(self._books):
            book = self._books[symbol]
            sides = [_pack_side(book.bids), _pack_side(book.asks)]
            counts = [len(side) // _ORDER.size for side in sides]
            parts.append(_BOOK.pack(symbol, *counts, len(book.tape)))
            parts += sides
            parts += [_TRADE.pack(*trade) for trade in book.tape]
        return b"".join(parts)

    def restore(self, data: bytes) -> None:
        """Replace the state by that of a snapshot."""
        self._books, self._orders = {}, {}
        (self._next_order_id, book_count), offset = _HEADER.unpack_from(data), _HEADER.size
        for _ in range(book_count):
            symbol, bid_count, ask_count, trade_count = _BOOK.unpack_from(data, offset)
            offset += _BOOK.size
            book = self._books[symbol] = Book(symbol, TAPE_LENGTH)
            for side, count in ((book.bids, bid_count), (book.asks, ask_count)):
                end = offset + count * _ORDER.size
                for order_id, price, leaves, account in _ORDER.iter_unpack(data[offset:end]):
                    self._rest(side, order_id, account, leaves, symbol, price)
                offset = end
            end = offset + trade_count * _TRADE.size
            book.tape.extend(_TRADE.iter_unpack(data[offset:end]))  # type: ignore[arg-type]
            offset = end
        assert offset == len(data), "a snapshot ends where its counts say"

    def state_hash(self) -> bytes:
        """Equal for equal states, however they were reached and stored."""
        return blake2b(self.snapshot(), digest_size=HASH_BYTES).digest()

    def check_invariants(self) -> None:
        """Assert what must hold between the fields; walks everything."""
        living = 0
        for book in self._books.values():
            for side in (book.bids, book.asks):
                assert side.best is (side.levels.peekitem(0)[1] if side.levels else None)
                for key, level in side.levels.items():
                    orders = level.living()
                    living += len(orders)
                    assert key == level.key == side.sign * level.price
                    assert level.order_count == len(orders) > 0
                    assert level.quantity == sum(order.leaves_quantity for order in orders)
                    assert all(self._orders[order.order_id] is order for order in orders)
            if book.bids.best and book.asks.best:
                assert book.bids.best.price < book.asks.best.price, "the book is crossed"
        assert living == len(self._orders)


def _can_fill(other: BookSide, limit_key: int, quantity: int, account: int) -> bool:
    """Whether ``quantity`` could trade up to ``limit_key`` before an order of the same account is met."""
    for key, level in other.levels.items():
        if key > limit_key:
            return False
        for maker in level.queue:
            if maker.leaves_quantity and maker.account == account:
                return False
            quantity -= maker.leaves_quantity
            if quantity <= 0:
                return True
    return False


def _is_symbol(code: int) -> bool:
    try:
        symbol_name(code)
    except ValueError:
        return False
    return True


def _best_levels(side: BookSide, count: int) -> list[tuple[int, int, int]]:
    levels: list[Level] = side.levels.values()[:count]
    return [(level.price, level.quantity, level.order_count) for level in levels]


def _pack_side(side: BookSide) -> bytes:
    pack = _ORDER.pack
    return b"".join(
        [
            pack(order.order_id, level.price, order.leaves_quantity, order.account)
            for level in side.levels.values()
            for order in level.queue
            if order.leaves_quantity
        ]
    )
