"""Realistic order flow, made by the thousand: a wandering mid price per symbol, and orders around it.

Rules. Rows have exactly the wire's 40-byte layout, so that a slice's ``tobytes()`` is a request's body.
What is drawn depends on the seed alone. Only the cancels and replaces depend on what the cluster answered,
since they name orders that rest: every row is first made as a new order, and those meant to be cancels or
replaces are turned into one when they are sent, if the pool knows an order to name. If it does not, they
stay new orders.

The book must not grow without end. Cancels take away about what new orders bring, and above
``resting_target`` more and more new passive orders become cancels as well, up to all of them at a quarter
above the target.

Theory. A symbol's mid price walks one tick up or down, or stays, every 64 orders, within half to one and a
half times its start. A passive order is one or more ticks away from it, geometrically: the book is deep
near the mid. A marketable order reaches across by a few ticks.

Left out on purpose: queue-reactive models, self-exciting arrivals, intraday patterns. They change the
load's shape, not what a matching engine has to do for an order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from zmqlab.load.layout import COMMAND, AnyArray, Ints, Mask, Rows
from zmqlab.load.pool import RestingOrders
from zmqlab.load.settings import FlowMix
from zmqlab.market.types import (
    POST_ONLY,
    CommandKind,
    OrderType,
    Side,
    Status,
    TimeInForce,
    symbol_code,
)

CHUNK = 8_192
BLOCK = 64
"""Orders between two steps of the mid prices; divides CHUNK."""
DEPTH = 0.3
"""Geometric parameter of the distance from the mid: nine in ten orders within 7 ticks."""
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
"""Completes commands that name orders: (the commands, the orders' slots in the pool, the rows they stand
for).
"""
_KINDS = ("passive", "marketable", "cancel", "replace", "post_only", "ioc", "fok", "market")
_PASSIVE, _MARKETABLE, _CANCEL, _REPLACE, _POST_ONLY, _IOC, _FOK, _MARKET = range(len(_KINDS))
_CROSSING = (_MARKETABLE, _IOC, _FOK, _MARKET)
_TIME_IN_FORCE = {_IOC: TimeInForce.IOC, _FOK: TimeInForce.FOK, _MARKET: TimeInForce.IOC}


def symbol_names(count: int) -> tuple[str, ...]:
    """``count`` symbols: well-known names first, numbered ones after."""
    numbered = tuple(f"SYM{number:05d}" for number in range(len(SYMBOL_NAMES), count))
    return SYMBOL_NAMES[:count] + numbered


class OrderFlow:
    """An endless, seeded stream of commands that reacts to what became of them."""

    def __init__(
        self,
        mix: FlowMix | None = None,
        *,
        symbols: int = 16,
        accounts: int = 64,
        seed: int = 1,
        resting_target: int = 20_000,
    ) -> None:
        shares = (mix or FlowMix()).shares
        self._shares = np.array([shares[kind] for kind in _KINDS])
        self._rng = np.random.default_rng([seed, 0xF10])
        """Draws the rows; never used for anything that depends on answers."""
        self._pick = np.random.default_rng([seed, 0x71C])
        """Draws the orders to cancel and to replace."""
        self._codes = np.array([symbol_code(name) for name in symbol_names(symbols)], np.uint64)
        self._accounts = accounts
        self._start = self._rng.integers(5_000, 50_000, symbols)
        self._mid: Ints = self._start.copy()
        """The mid price of each symbol after the current chunk; within 0.5 to 1.5 of its start."""
        self._target = resting_target
        self.pool = RestingOrders()
        self._rows, self._kinds = self._make_chunk()
        self._next = 0
        """The first row of the chunk that is not taken; below CHUNK between calls."""

    def take(self, count: int) -> Rows:
        """The next ``count`` commands, ready to be sent."""
        rows, kinds = self._take_raw(count)
        over = self.pool.count - self._target
        if over > 0:
            share = min(4 * over / self._target, 1.0)
            kinds[(kinds == _PASSIVE) & (self._pick.random(count) < share)] = _CANCEL
        self._name_orders(rows, np.flatnonzero(kinds == _CANCEL), self._cancel)
        self._name_orders(rows, np.flatnonzero(kinds == _REPLACE), self._replace)
        return rows

    def observe(self, rows: Rows, reports: Rows, fills: Rows) -> None:
        """Learn from the answers: ``reports[i]`` is what became of ``rows[i]``."""
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

    def _take_raw(self, count: int) -> tuple[Rows, Ints]:
        """Copies of the next rows as they were made, and what each is meant to be."""
        end = self._next + count
        rows, kinds = self._rows[self._next : end].copy(), self._kinds[self._next : end].copy()
        self._next = end
        if end < CHUNK:
            return rows, kinds
        self._rows, self._kinds = self._make_chunk()
        self._next = 0
        if end == CHUNK:
            return rows, kinds
        more_rows, more_kinds = self._take_raw(end - CHUNK)
        return np.concatenate([rows, more_rows]), np.concatenate([kinds, more_kinds])

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
        self.pool.remove(patch["order_id"].astype(np.int64))

    def _replace(self, patch: Rows, slots: Ints, rows: Rows) -> None:
        """Half of them reduce the quantity and keep their place, half move by a few ticks and lose it."""
        reduces = rows["quantity"] % 2 == 0
        moved = np.maximum(self.pool.price[slots] + rows["price"] % 5 - 2, 1)
        patch["kind"] = KIND_REPLACE
        patch["price"] = np.where(reduces, self.pool.price[slots], moved)
        patch["quantity"] = np.where(reduces, (self.pool.quantity[slots] + 1) // 2, rows["quantity"])

    def _make_chunk(self) -> tuple[Rows, Ints]:
        """CHUNK rows, all of them valid new orders, and the kind that each is meant to have."""
        rng = self._rng
        kinds = np.searchsorted(np.cumsum(self._shares)[:-1], rng.random(CHUNK), side="right")
        symbols = rng.integers(0, len(self._codes), CHUNK)
        buys = rng.integers(0, 2, CHUNK) == 0
        crossing = np.isin(kinds, _CROSSING)
        distance = rng.geometric(DEPTH, CHUNK) * np.where(buys == crossing, 1, -1)
        quantities = np.minimum(rng.geometric(1 / MEAN_QUANTITY, CHUNK), MAX_FLOW_QUANTITY)
        rows = np.zeros(CHUNK, COMMAND)
        rows["kind"] = KIND_NEW
        rows["side"] = np.where(buys, Side.BUY, Side.SELL)
        rows["order_type"] = np.where(kinds == _MARKET, OrderType.MARKET, OrderType.LIMIT)
        rows["time_in_force"] = TimeInForce.GTC
        for kind, time_in_force in _TIME_IN_FORCE.items():
            rows["time_in_force"][kinds == kind] = time_in_force
        rows["quantity"] = quantities
        rows["symbol"] = self._codes[symbols]
        rows["price"] = np.where(kinds == _MARKET, 0, self._walk()[np.arange(CHUNK) // BLOCK, symbols] + distance)
        rows["account"] = rng.integers(1, self._accounts + 1, CHUNK)
        rows["flags"] = np.where(kinds == _POST_ONLY, POST_ONLY, 0)
        return rows, kinds

    def _walk(self) -> Ints:
        """The mid prices of the chunk's blocks, one row a block; moves the state on."""
        steps = self._rng.choice([-1, 0, 0, 1], (CHUNK // BLOCK, len(self._codes)))
        mids: Ints = np.clip(self._mid + np.cumsum(steps, axis=0), self._start // 2, self._start * 3 // 2)
        self._mid = mids[-1]
        return mids
