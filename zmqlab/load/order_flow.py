"""Realistic order flow, made by the thousand: a wandering mid price for each symbol, and orders around it.

Rules. Rows have exactly the wire's 40-byte layout (:data:`COMMAND`), so that the ``tobytes()`` of a slice is the body
of a request. What is drawn depends on the seed alone. Only cancels and replaces depend on what the cluster answered,
because they name orders that rest. Every row is first made as a new order. Before it is sent, a row that is meant to be
a cancel or a replace is turned into one, if :class:`RestingOrders` knows an order to name; otherwise it stays a new
order. That is done for a block of 256 rows at once, when the first of them is taken: a dozen calls of numpy for each
request of five orders were a quarter of the generator's work.

The book must not grow without end. Cancels take away about what new orders bring. Above ``resting_target`` more and
more new passive orders become cancels as well; at a quarter above the target all of them do.

Theory. Every 64 orders the mid price of a symbol goes one tick up or down, or stays, within half to one and a half
times its start. A passive order is one or more ticks away from the mid, geometrically: the book is deep near it. A
marketable order reaches across by a few ticks.

Order ids are dense, so that ``order_id & mask`` is a perfect hash while fewer than 2**20 ids lie between the oldest and
the newest order in the pool; an older order is simply forgotten. Beside that table the pool has a list of candidates to
draw from. The list may name orders that are gone: a draw checks, and the list is cleaned when one in nine is gone.
What the pool knows can be wrong: another client's order may have filled one of ours a moment ago. Then its cancel is
rejected, as happens in every market, and the order leaves the pool.

Left out on purpose: queue-reactive models, self-exciting arrivals, intraday patterns. They change the shape of the
load, not what a matching engine has to do for an order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zmqlab.load.load_settings import FlowMix
from zmqlab.market.types import (
    POST_ONLY,
    Command,
    CommandKind,
    Fill,
    OrderType,
    Report,
    Side,
    Status,
    TimeInForce,
    record_fields,
    symbol_code,
)

Rows: TypeAlias = NDArray[np.void]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
AnyArray: TypeAlias = NDArray[Any]

_TYPES = {"B": "u1", "H": "<u2", "I": "<u4", "Q": "<u8", "q": "<i8"}
"""numpy's names of the widths, by their codes in a ``struct`` format."""
COMMAND, REPORT, FILL = (
    np.dtype([(name, _TYPES[code]) for name, code in record_fields(record)]) for record in (Command, Report, Fill)
)
"""The wire's fixed-width records as numpy types, byte for byte. The ``tobytes()`` of an array of ``COMMAND`` rows is
the body of a request. ``np.frombuffer`` reads the body of a response as ``REPORT`` rows, and behind them ``FILL``
rows. A test compares the types with :mod:`zmqlab.wire.records`."""

TABLE_SIZE = 1 << 20
"""An order that is overwritten rests for ever, because no client will cancel it. With 25,000 resting orders, an order
lives for 50,000 ids on average, so that one in 10**9 lives for a million; with several clients still very few do."""
MAX_CANDIDATES = 1 << 17
FEW = 256
"""A list of so few candidates is not worth cleaning each time."""
CHUNK = 1_024
"""Rows drawn at once: 8,192 of them took 2.5 ms, which the orders that fell due meanwhile had to wait."""
STEP = 64
"""Orders between two steps of the mid prices; divides CHUNK."""
BLOCK = 256
"""Rows for which the orders to cancel and to replace are chosen at once; divides CHUNK. Some of those orders are filled
before the block is sent: 1 % more of the commands are rejected than if each request chose for itself."""
DEPTH = 0.3
"""Geometric parameter of the distance from the mid: nine in ten orders within 7 ticks."""
DECAY = -math.log1p(-DEPTH)
"""The ceiling of an exponential variable with this rate is a geometric one, and numpy draws it five times as fast."""
MEAN_QUANTITY = 20
MAX_FLOW_QUANTITY = 500
SYMBOL_NAMES = (
    *("AAPL", "MSFT", "NVDA", "AMZN", "GOOG", "META", "TSLA", "AVGO"),
    *("JPM", "V", "XOM", "UNH", "MA", "COST", "HD", "ORCL"),
)

KIND_NEW, KIND_CANCEL, KIND_REPLACE = (int(kind) for kind in CommandKind)
_RESTING = (int(Status.NEW), int(Status.PARTIALLY_FILLED))
_REPLACED = int(Status.REPLACED)
_Change: TypeAlias = Callable[[Rows, Ints, Rows], None]
"""Completes commands that name orders: (the commands, the orders' slots in the pool, the rows that they replace)."""
_KINDS = ("passive", "marketable", "cancel", "replace", "post_only", "ioc", "fok", "market")
_PASSIVE, _MARKETABLE, _CANCEL, _REPLACE, _POST_ONLY, _IOC, _FOK, _MARKET = range(len(_KINDS))
_CROSSES = np.isin(np.arange(len(_KINDS)), (_MARKETABLE, _IOC, _FOK, _MARKET))
_ORDER_TYPE = np.full(len(_KINDS), OrderType.LIMIT, np.uint8)
_ORDER_TYPE[_MARKET] = OrderType.MARKET
_TIME_IN_FORCE = np.full(len(_KINDS), TimeInForce.GTC, np.uint8)
_TIME_IN_FORCE[[_IOC, _FOK, _MARKET]] = (TimeInForce.IOC, TimeInForce.FOK, TimeInForce.IOC)
_FLAGS = np.zeros(len(_KINDS), np.uint32)
_FLAGS[_POST_ONLY] = POST_ONLY
"""What follows from the kind that a row is meant to have."""


def symbol_names(count: int) -> tuple[str, ...]:
    """``count`` symbols: well-known names first, numbered ones after."""
    numbered = tuple(f"SYM{number:05d}" for number in range(len(SYMBOL_NAMES), count))
    return SYMBOL_NAMES[:count] + numbered


class RestingOrders:
    """Order id -> symbol, account, price and quantity, with uniform draws."""

    def __init__(self, table_size: int = TABLE_SIZE) -> None:
        self._mask = table_size - 1
        self.order_id: Ints = np.zeros(table_size, np.int64)
        """By slot; 0 where there is no order. ``order_id[i] & mask == i`` elsewhere."""
        self.symbol = np.zeros(table_size, np.uint64)
        self.account = np.zeros(table_size, np.uint32)
        self.price = np.zeros(table_size, np.int64)
        self.quantity = np.zeros(table_size, np.uint32)
        self.count = 0
        """Non-zero entries of ``order_id``."""
        self._candidates: Ints = np.zeros(min(MAX_CANDIDATES, 2 * table_size), np.int64)
        """Holds every order of the table, and some that have left it."""
        self._candidate_count = 0

    def slots(self, order_ids: Ints) -> Ints:
        """Where these orders are, if they are there."""
        return order_ids & self._mask

    def knows(self, order_ids: Ints) -> Mask:
        """Which of these orders are in the pool."""
        found: Mask = (self.order_id[order_ids & self._mask] == order_ids) & (order_ids > 0)
        return found

    def add(
        self, order_ids: Ints, symbols: AnyArray, accounts: AnyArray, prices: AnyArray, quantities: AnyArray
    ) -> None:
        """New orders; the ids are distinct."""
        slots = order_ids & self._mask
        self.count += len(slots) - int(np.count_nonzero(self.order_id[slots]))
        self.order_id[slots] = order_ids
        self.symbol[slots] = symbols
        self.account[slots] = accounts
        self.price[slots] = prices
        self.quantity[slots] = quantities
        self._remember(order_ids)

    def remove(self, order_ids: Ints) -> None:
        """These orders are gone; unknown and repeated ids are fine."""
        slots = order_ids[self.knows(order_ids)] & self._mask
        if slots.size:
            self.forget(np.unique(slots))

    def forget(self, slots: Ints) -> None:
        """The orders in these slots are gone; there is one in each, and the slots are distinct."""
        self.order_id[slots] = 0
        self.count -= len(slots)

    def draw(self, count: int, rng: np.random.Generator) -> Ints:
        """Up to ``count`` distinct orders; fewer when the pool is small or the draws collide."""
        if not self.count:
            return self._candidates[:0]
        if 8 * self._candidate_count > 9 * self.count + FEW:
            self._clean()
        drawn = self._candidates[rng.integers(0, self._candidate_count, count)]
        drawn = drawn[self.knows(drawn)]
        drawn.sort()
        return drawn[np.diff(drawn, prepend=0) > 0]

    def _remember(self, order_ids: Ints) -> None:
        if self._candidate_count + len(order_ids) > len(self._candidates):
            self._clean()
        first = self._candidate_count
        self._candidate_count = min(first + len(order_ids), len(self._candidates))
        self._candidates[first : self._candidate_count] = order_ids[: self._candidate_count - first]

    def _clean(self) -> None:
        """Keep the candidates that are in the table."""
        kept = self._candidates[: self._candidate_count]
        kept = kept[self.knows(kept)]
        self._candidate_count = len(kept)
        self._candidates[: len(kept)] = kept


class OrderFlow:
    """An endless stream of commands from a seed, which reacts to what became of them."""

    def __init__(
        self,
        mix: FlowMix | None = None,
        *,
        symbols: int = 16,
        accounts: int = 64,
        seed: int = 1,
        resting_target: int = 20_000,
        names: Sequence[str] = (),
        stream: Sequence[int] = (),
        table_size: int = TABLE_SIZE,
    ) -> None:
        """
        Args:
            mix: how often each kind of command comes.
            symbols: how many, named by :func:`symbol_names`.
            accounts: how many.
            seed: decides the rows.
            resting_target: above so many resting orders more and more new orders become cancels.
            names: the symbols, in place of ``symbols``.
            stream: tells flows of one seed from each other.
            table_size: a power of two, much above ``resting_target``; see the module.
        """
        shares = (mix or FlowMix()).shares
        self._bounds = np.cumsum([shares[kind] for kind in _KINDS])[:-1, np.newaxis]
        """Between the kinds, of a number from 0 to 1."""
        self._rng = np.random.default_rng([seed, 0xF10, *stream])
        """Draws the rows; never used for anything that depends on answers."""
        self._pick = np.random.default_rng([seed, 0x71C, *stream])
        """Draws the orders to cancel and to replace."""
        self._codes = np.array([symbol_code(name) for name in names or symbol_names(symbols)], np.uint64)
        self._accounts = accounts
        self._start = self._rng.integers(5_000, 50_000, len(self._codes))
        self._mid: Ints = self._start.copy()
        """The mid price of each symbol after the current chunk; within 0.5 to 1.5 of its start."""
        self._target = resting_target
        self.pool = RestingOrders(table_size)
        self._rows, self._kinds = self._make_chunk()
        self._ready = 0
        """Rows of the chunk that are ready to be sent: whole blocks, from its beginning."""
        self._next = 0
        """The first row of the chunk that is not taken; at most ``_ready``."""

    def take(self, count: int) -> Rows:
        """The next ``count`` commands, ready to be sent. They are not to be changed."""
        if self._next + count <= self._ready:
            return self._take_ready(count)
        pieces = [self._take_ready(self._ready - self._next)]
        count -= len(pieces[0])
        while count:
            self._make_ready()
            pieces.append(self._take_ready(min(count, BLOCK)))
            count -= len(pieces[-1])
        return np.concatenate(pieces) if len(pieces[0]) or len(pieces) > 2 else pieces[1]

    def observe(self, rows: Rows, reports: Rows, fills: Rows) -> None:
        """Learn from the answers: ``reports[i]`` says what became of ``rows[i]``."""
        kinds, statuses, leaves = rows["kind"], reports["status"], reports["leaves_quantity"]
        rests = (kinds == KIND_NEW) & ((statuses == _RESTING[0]) | (statuses == _RESTING[1]))
        if rests.any():
            own = rows[rests]
            ids = reports["order_id"][rests].astype(np.int64)
            self.pool.add(ids, own["symbol"], own["account"], own["price"], leaves[rests])
        replaces = kinds == KIND_REPLACE
        if replaces.any():
            self._observe_replaces(rows[replaces], (statuses == _REPLACED)[replaces], leaves[replaces])
        if fills.size:
            gone = fills["maker_order_id"][fills["maker_leaves_quantity"] == 0]
            self.pool.remove(gone.astype(np.int64))

    def _observe_replaces(self, rows: Rows, done: Mask, leaves: AnyArray) -> None:
        ids = rows["order_id"].astype(np.int64)
        rests = done & (leaves > 0)
        self.pool.remove(ids[~rests])
        known = rests & self.pool.knows(ids)
        slots = self.pool.slots(ids[known])
        self.pool.price[slots] = rows["price"][known]
        self.pool.quantity[slots] = leaves[known]

    def _take_ready(self, count: int) -> Rows:
        first = self._next
        self._next = first + count
        return self._rows[first : first + count]

    def _make_ready(self) -> None:
        """Turn the next block into what its rows are meant to be, as the pool is now; all rows before are taken."""
        if self._ready == CHUNK:
            self._rows, self._kinds = self._make_chunk()
            self._ready = self._next = 0
        block = slice(self._ready, self._ready + BLOCK)
        rows, kinds = self._rows[block], self._kinds[block]
        over = self.pool.count - self._target
        if over > 0:
            share = min(4 * over / self._target, 1.0)
            kinds[(kinds == _PASSIVE) & (self._pick.random(BLOCK) < share)] = _CANCEL
        self._name_orders(rows, np.flatnonzero(kinds == _CANCEL), self._cancel)
        self._name_orders(rows, np.flatnonzero(kinds == _REPLACE), self._replace)
        self._ready += BLOCK

    def _name_orders(self, rows: Rows, where: Ints, change: _Change) -> None:
        """Turn the rows at ``where`` into commands on orders that rest, as far as the pool knows some."""
        if not where.size:
            return
        ids = self.pool.draw(len(where), self._pick)
        if not ids.size:
            return
        where, slots = where[: len(ids)], self.pool.slots(ids)
        patch = np.zeros(len(ids), COMMAND)
        patch["order_id"] = ids
        patch["symbol"] = self.pool.symbol[slots]
        patch["account"] = self.pool.account[slots]
        change(patch, slots, rows[where])
        rows[where] = patch

    def _cancel(self, patch: Rows, slots: Ints, _: Rows) -> None:
        patch["kind"] = KIND_CANCEL
        self.pool.forget(slots)

    def _replace(self, patch: Rows, slots: Ints, rows: Rows) -> None:
        """Half of the replaces reduce the quantity and keep their place; half move by a few ticks and lose it."""
        reduces = rows["quantity"] % 2 == 0
        moved = np.maximum(self.pool.price[slots] + rows["price"] % 5 - 2, 1)
        patch["kind"] = KIND_REPLACE
        patch["price"] = np.where(reduces, self.pool.price[slots], moved)
        patch["quantity"] = np.where(reduces, (self.pool.quantity[slots] + 1) // 2, rows["quantity"])

    def _make_chunk(self) -> tuple[Rows, Ints]:
        """CHUNK rows, all of them valid new orders, and the kind that each is meant to have."""
        rng = self._rng
        kinds = np.sum(rng.random(CHUNK) >= self._bounds, axis=0)
        symbols = rng.integers(0, len(self._codes), CHUNK)
        buys = rng.integers(0, 2, CHUNK) == 0
        ticks = np.ceil(rng.exponential(1 / DECAY, CHUNK)).astype(np.int64)
        distance = np.where(buys == _CROSSES[kinds], ticks, -ticks)
        quantities = np.minimum(rng.geometric(1 / MEAN_QUANTITY, CHUNK), MAX_FLOW_QUANTITY)
        rows = np.zeros(CHUNK, COMMAND)
        rows["kind"] = KIND_NEW
        rows["side"] = np.where(buys, Side.BUY, Side.SELL)
        rows["order_type"] = _ORDER_TYPE[kinds]
        rows["time_in_force"] = _TIME_IN_FORCE[kinds]
        rows["quantity"] = quantities
        rows["symbol"] = self._codes[symbols]
        rows["price"] = np.where(kinds == _MARKET, 0, self._walk()[np.arange(CHUNK) // STEP, symbols] + distance)
        rows["account"] = rng.integers(1, self._accounts + 1, CHUNK)
        rows["flags"] = _FLAGS[kinds]
        return rows, kinds

    def _walk(self) -> Ints:
        """The mid prices of the chunk, one row for each step; moves the state on."""
        steps = self._rng.choice([-1, 0, 0, 1], (CHUNK // STEP, len(self._codes)))
        mids: Ints = np.clip(self._mid + np.cumsum(steps, axis=0), self._start // 2, self._start * 3 // 2)
        self._mid = mids[-1]
        return mids
