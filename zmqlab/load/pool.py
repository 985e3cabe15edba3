"""The resting orders that a load client knows of: what its cancels and replaces may name.

Order ids are dense, so that ``order_id & mask`` is a perfect hash as long as fewer than 2**20 ids lie
between the oldest and the newest order kept; an older one is simply forgotten. Beside that table there is a
list of candidates to draw from. It may name orders that are gone: a draw checks, and when half the draws
miss, the list is cleaned.

What is known can be wrong: another client's order may have filled one of ours a moment ago. Then its cancel
is rejected, as happens in every market, and the order leaves the pool.
"""

from __future__ import annotations

import numpy as np

from zmqlab.load.layout import AnyArray, Ints, Mask

TABLE_SIZE = 1 << 20
"""An order that is overwritten rests for ever, since nobody will cancel it. With 25,000 orders resting, one lives for
50,000 ids on average, so that one in 10**9 gets to see a million; with several clients, still very few."""
MAX_CANDIDATES = 1 << 17


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
            self.order_id[slots] = 0
            self.count -= len(np.unique(slots))

    def draw(self, count: int, rng: np.random.Generator) -> Ints:
        """Up to ``count`` distinct orders; fewer when the pool is small or the draws collide."""
        if not self.count:
            return self._candidates[:0]
        drawn = self._candidates[rng.integers(0, self._candidate_count, count)]
        hits = drawn[self.knows(drawn)]
        if 2 * len(hits) < count:
            self._clean()
        return np.unique(hits) if len(hits) > 1 else hits

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
