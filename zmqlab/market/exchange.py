"""The exchange: the rules of :mod:`zmqlab.market`, executed fast.

Rules. The exchange is deterministic: the same commands in the same order give the same reports and the same state in
every process. It uses no clock, no float, no random number, and no iteration in the order of a hash. Ten integers get
exactly one report, whatever they are; a command that makes no sense is rejected and changes nothing.

Theory of operation. ``execute`` is the hot path of every node: it runs once for each command on each replica. A real
flow consists mostly of two commands: a new limit order that comes to rest, and a cancel. ``execute`` handles these two
in its own loop without a further call, and hands all others to one method for each kind. The fast branch is only a
short cut. :meth:`Exchange._new` decides every new order in the same way, and the tests compare both with the naive
exchange. Reports and fills go to two flat lists of integers, in the order of the fields of
:class:`~zmqlab.market.types.Report` and :class:`~zmqlab.market.types.Fill`.

A command leaves at most one object behind: the resting order (:mod:`zmqlab.market.book`). Orders and levels refer to
each other while they rest, but they are freed without the cycle collector. A process that holds hundreds of thousands
of orders should keep the collector away from them (``gc.freeze()``, or a higher threshold).

Left out on purpose: totals for each level, stop orders, auctions, sessions of the trading day, fees.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from zmqlab.market.book import (
    ACCOUNT,
    COMPACT_ABOVE,
    LEVEL,
    LIVE,
    NO_LEVEL,
    NO_LIMIT,
    ORDER_ID,
    QUANTITY,
    SESSION,
    Book,
    BookSide,
)
from zmqlab.market.market_state import MarketState, is_symbol_code
from zmqlab.market.types import (
    FILL_WIDTH,
    MAX_PRICE,
    MAX_QUANTITY,
    POST_ONLY,
    CommandKind,
    OrderType,
    Reason,
    Side,
    Status,
    TimeInForce,
)

# Members of an IntEnum are slower to compare and to pack than plain integers.
_NEW, _CANCEL, _REPLACE = map(int, CommandKind)
_BUY, _SELL = map(int, Side)
_LIMIT, _MARKET = map(int, OrderType)
_GTC, _IOC, _FOK = map(int, TimeInForce)
_RESTS = int(Status.NEW)
_PARTIALLY_FILLED = int(Status.PARTIALLY_FILLED)
_FILLED = int(Status.FILLED)
_CANCELED = int(Status.CANCELED)
_REPLACED = int(Status.REPLACED)
_REJECTED = int(Status.REJECTED)
_EXPIRED = int(Status.EXPIRED)
_NONE = int(Reason.NONE)
_UNKNOWN_ORDER = int(Reason.UNKNOWN_ORDER)
_BAD_QUANTITY = int(Reason.BAD_QUANTITY)
_BAD_PRICE = int(Reason.BAD_PRICE)
_BAD_SYMBOL = int(Reason.BAD_SYMBOL)
_BAD_SIDE = int(Reason.BAD_SIDE)
_BAD_TYPE = int(Reason.BAD_TYPE)
_WOULD_CROSS = int(Reason.WOULD_CROSS)
_WOULD_NOT_FILL = int(Reason.WOULD_NOT_FILL)
_NO_LIQUIDITY = int(Reason.NO_LIQUIDITY)
_SELF_TRADE = int(Reason.SELF_TRADE)
_UNKNOWN_COMMAND = int(Reason.UNKNOWN_COMMAND)
_UNUSED_FIELD = int(Reason.UNUSED_FIELD)


class Exchange(MarketState):
    """All books of one Raft group, driven by :meth:`execute`."""

    def execute(self, commands: Iterable[tuple[int, ...]], session: int = 0) -> tuple[list[int], list[int]]:
        """Execute ``commands`` in order. ``session`` is who sent them, for the quotas.

        Returns:
            The reports, one for each command, and the fills, in the order of their reports. Each is one flat list,
            ready for ``pack_reports`` and ``pack_fills`` of :mod:`zmqlab.wire.records`.
        """
        reports: list[int] = []
        fills: list[int] = []
        if self._counting:
            self._execute_counting(commands, session, reports, fills)
            return reports, fills
        books, orders, count_from = self._books, self._orders, self._count_from
        stream = iter(commands)
        for command in stream:
            kind, side, order_type, time_in_force, quantity, order_id, symbol, price, account, flags = command
            if kind == _NEW:
                # The short cut: a sound limit order, in a symbol with orders, that reaches nothing and may rest.
                if (
                    order_type == _LIMIT
                    and time_in_force == _GTC
                    and 0 < quantity <= MAX_QUANTITY
                    and 0 < price <= MAX_PRICE
                    and 0 <= flags <= POST_ONLY
                    and not order_id
                    and symbol in books
                    and len(orders) < count_from
                ):
                    key = 0
                    if side == _BUY and books[symbol].asks.best > price:
                        own, key = books[symbol].bids, -price
                    elif side == _SELL and books[symbol].bids.best > -price:
                        own, key = books[symbol].asks, price
                    if key:
                        order_id = self._next_order_id
                        self._next_order_id = order_id + 1
                        level = own.levels.get(key)
                        if level is None:
                            level = own.open_level(key)
                        order = orders[order_id] = [order_id, account, quantity, True, level, session]
                        level.append(order)
                        level.live += 1
                        reports += (_RESTS, 0, 0, 0, 0, quantity, order_id, 0)
                        continue
                if len(orders) >= count_from:
                    self._begin_to_count()
                    self._execute_counting(chain((command,), stream), session, reports, fills)
                    break
                self._new(command, session, reports, fills)
            elif kind == _CANCEL:
                found = orders.get(order_id)
                if found is None or found[ACCOUNT] != account or (queue := found[LEVEL]).symbol != symbol:
                    reports += (_REJECTED, _UNKNOWN_ORDER, 0, 0, 0, 0, order_id, 0)
                    continue
                if side or order_type or time_in_force or quantity or price or flags:
                    reports += (_REJECTED, _UNUSED_FIELD, 0, 0, 0, 0, order_id, 0)
                    continue
                # BookSide.remove, written out.
                del orders[order_id]
                found[LIVE] = False
                live = queue.live = queue.live - 1
                if not live:
                    if queue.side.close_level(queue):
                        self._release_if_empty(symbol)
                elif len(queue) > 2 * live + COMPACT_ABOVE:
                    queue.compact()
                reports += (_CANCELED, 0, 0, 0, 0, 0, order_id, 0)
            elif kind == _REPLACE:
                self._replace(command, reports, fills)
            else:
                reports += (_REJECTED, _UNKNOWN_COMMAND, 0, 0, 0, 0, 0, 0)
        return reports, fills

    def _execute_counting(
        self, commands: Iterable[tuple[int, ...]], session: int, reports: list[int], fills: list[int]
    ) -> None:
        """The same while orders are counted: every command goes to the method of its kind."""
        for command in commands:
            kind = command[0]
            if kind == _NEW:
                self._new(command, session, reports, fills)
            elif kind == _CANCEL:
                self._cancel(command, reports)
            elif kind == _REPLACE:
                self._replace(command, reports, fills)
            else:
                reports += (_REJECTED, _UNKNOWN_COMMAND, 0, 0, 0, 0, 0, 0)
        if len(self._orders) < self._count_from // 2:
            self._stop_counting()

    def _new(self, command: tuple[int, ...], session: int, reports: list[int], fills: list[int]) -> None:
        """Any new order: reject it, or match it and let the rest of it rest or expire."""
        _, side, order_type, time_in_force, quantity, _, symbol, price, account, flags = command
        may_rest = order_type == _LIMIT and time_in_force == _GTC
        reason = self._refusal(command, session, may_rest)
        if reason:
            reports += (_REJECTED, reason, 0, 0, 0, 0, 0, 0)
            return
        book = self._books.get(symbol) or self._book_of(symbol)
        own, opposite = (book.bids, book.asks) if side == _BUY else (book.asks, book.bids)
        limit = NO_LIMIT if order_type == _MARKET else price if side == _BUY else -price
        if flags and opposite.best <= limit:
            reports += (_REJECTED, _WOULD_CROSS, 0, 0, 0, 0, 0, 0)
            return
        order_id = self._next_order_id
        self._next_order_id = order_id + 1
        if time_in_force == _FOK and opposite.available(limit, quantity, account) < quantity:
            reports += (_EXPIRED, _WOULD_NOT_FILL, 0, 0, 0, 0, order_id, 0)
            return
        start = len(fills)
        leaves, notional, own_order = self._match(book, opposite, limit, quantity, account, order_id, fills)
        status, reason = _FILLED, _NONE
        if own_order:
            status, reason = _EXPIRED, _SELF_TRADE
        elif leaves and not may_rest:
            status, reason = _EXPIRED, _NO_LIQUIDITY
        elif leaves:
            status = _PARTIALLY_FILLED if leaves < quantity else _RESTS
            if symbol not in self._books:
                self._hold(symbol, book, account, session)
            self._rest(own, -limit, order_id, account, leaves, session)
        filled = quantity - leaves
        if filled and opposite.best == NO_LEVEL:
            self._release_if_empty(symbol)
        rests = 0 if status == _EXPIRED else leaves
        reports += (status, reason, 0, (len(fills) - start) // FILL_WIDTH, filled, rests, order_id, notional)

    def _cancel(self, command: tuple[int, ...], reports: list[int]) -> None:
        """What :meth:`execute` does with a cancel, while orders are counted."""
        _, side, order_type, time_in_force, quantity, order_id, symbol, price, account, flags = command
        order = self._orders.get(order_id)
        if order is None or order[ACCOUNT] != account or order[LEVEL].symbol != symbol:
            reports += (_REJECTED, _UNKNOWN_ORDER, 0, 0, 0, 0, order_id, 0)
            return
        if side or order_type or time_in_force or quantity or price or flags:
            reports += (_REJECTED, _UNUSED_FIELD, 0, 0, 0, 0, order_id, 0)
            return
        del self._orders[order_id]
        self._uncount(order)
        order[LEVEL].side.remove(order)
        self._release_if_empty(symbol)
        reports += (_CANCELED, 0, 0, 0, 0, 0, order_id, 0)

    def _refusal(self, command: tuple[int, ...], session: int, may_rest: bool) -> int:
        """The first reason to reject a new order, whatever the book holds; 0 if there is none."""
        _, side, order_type, time_in_force, quantity, order_id, symbol, price, account, flags = command
        if symbol not in self._books and not is_symbol_code(symbol):
            return _BAD_SYMBOL
        if side not in (_BUY, _SELL):
            return _BAD_SIDE
        if order_type not in (_LIMIT, _MARKET) or time_in_force not in (_GTC, _IOC, _FOK):
            return _BAD_TYPE
        if flags and (flags != POST_ONLY or not may_rest):
            return _BAD_TYPE
        if not 0 < quantity <= MAX_QUANTITY:
            return _BAD_QUANTITY
        if order_type == _LIMIT and not 0 < price <= MAX_PRICE:
            return _BAD_PRICE
        if order_id or (price and order_type == _MARKET):
            return _UNUSED_FIELD
        if may_rest and (symbol not in self._books or len(self._orders) >= self._count_from):
            return self._no_room(symbol, account, session)
        return _NONE

    def _replace(self, command: tuple[int, ...], reports: list[int], fills: list[int]) -> None:
        """Change an open order in its place, or take it out and enter it again under its old id."""
        _, side, order_type, time_in_force, quantity, order_id, symbol, price, account, flags = command
        order = self._orders.get(order_id)
        reason = _NONE
        if order is None or order[ACCOUNT] != account or order[LEVEL].symbol != symbol:
            reason = _UNKNOWN_ORDER
        elif flags and flags != POST_ONLY:
            reason = _BAD_TYPE
        elif not 0 < quantity <= MAX_QUANTITY:
            reason = _BAD_QUANTITY
        elif not 0 < price <= MAX_PRICE:
            reason = _BAD_PRICE
        elif side or order_type or time_in_force:
            reason = _UNUSED_FIELD
        if reason or order is None:
            reports += (_REJECTED, reason, 0, 0, 0, 0, order_id, 0)
            return
        key = order[LEVEL].key
        if quantity <= order[QUANTITY] and (price == key or price == -key):
            if self._frozen:
                self._note_quantity(order)
            order[QUANTITY] = quantity
            reports += (_REPLACED, 0, 0, 0, 0, quantity, order_id, 0)
            return
        book = self._books[symbol]
        own, opposite, limit = (book.bids, book.asks, price) if key < 0 else (book.asks, book.bids, -price)
        if flags and opposite.best <= limit:
            reports += (_REJECTED, _WOULD_CROSS, 0, 0, 0, 0, order_id, 0)
            return
        del self._orders[order_id]
        if self._counting:
            self._uncount(order)
        own.remove(order)
        start = len(fills)
        leaves, notional, own_order = self._match(book, opposite, limit, quantity, account, order_id, fills)
        status = _REPLACED
        filled = quantity - leaves
        if own_order:
            status, reason, leaves = _EXPIRED, _SELF_TRADE, 0
        elif leaves:
            self._rest(own, -limit, order_id, account, leaves, order[SESSION])
        if own.best == opposite.best:  # only if both are NO_LEVEL
            self._release_if_empty(symbol)
        reports += (status, reason, 0, (len(fills) - start) // FILL_WIDTH, filled, leaves, order_id, notional)

    def _match(
        self,
        book: Book,
        opposite: BookSide,
        limit: int,
        leaves: int,
        account: int,
        taker_id: int,
        fills: list[int],
    ) -> tuple[int, int, bool]:
        """Trade up to ``leaves`` with the orders of ``opposite`` that ``limit`` reaches, best and oldest first.

        Returns:
            The quantity that is left, the notional, and whether an order of the same account stopped the trading.
        """
        orders, counting = self._orders, self._counting
        tape = book.tape
        notional = 0
        while leaves and opposite.best <= limit:
            key = opposite.best
            level = opposite.levels[key]
            price = abs(key)
            while leaves:
                maker = level[0]
                if not maker[LIVE]:
                    level.popleft()
                    continue
                if maker[ACCOUNT] == account:
                    return leaves, notional, True
                quantity = maker[QUANTITY]
                maker_id = maker[ORDER_ID]
                if quantity > leaves:
                    if self._frozen:
                        self._note_quantity(maker)
                    maker[QUANTITY] = quantity = quantity - leaves
                    notional += price * leaves
                    fills += (maker_id, price, leaves, quantity)
                    tape.append((price, leaves, maker_id, taker_id))
                    return 0, notional, False
                leaves -= quantity
                notional += price * quantity
                fills += (maker_id, price, quantity, 0)
                tape.append((price, quantity, maker_id, taker_id))
                level.popleft()
                del orders[maker_id]
                if counting:
                    self._uncount(maker)
                live = level.live = level.live - 1
                if not live:
                    opposite.close_level(level)
                    break
                if len(level) > 2 * live + COMPACT_ABOVE:
                    level.compact()
        return leaves, notional, False
