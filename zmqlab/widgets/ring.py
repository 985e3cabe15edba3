"""A table of the last so many rows, all columns floating point: appended to by one thread, read by others.

Rows live in an array of twice the capacity. A row is written behind the last one; when the array is full the newer half
moves to its front. So any number of the newest rows is one contiguous slice of a column, and a reader copies that slice
under the lock and has nothing to put together.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.float64]


class Ring:
    """The newest ``capacity`` rows of ``names``. What a row doesn't mention is NaN: unknown, not zero."""

    def __init__(self, names: Sequence[str], capacity: int) -> None:
        self._place = {name: place for place, name in enumerate(names)}
        self._capacity = capacity
        self._values: Column = np.full((len(names), 2 * capacity), np.nan)
        self._end = 0
        """Where the next row goes; rows before it, at most ``capacity`` of them, are what is kept."""
        self._total = 0
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """Rows ever appended."""
        return self._total

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row; unknown names are a KeyError."""
        with self._lock:
            if self._end == 2 * self._capacity:
                self._values[:, : self._capacity] = self._values[:, self._capacity :]
                self._end = self._capacity
            self._values[:, self._end] = np.nan
            for name, value in row.items():
                self._values[self._place[name], self._end] = value
            self._end += 1
            self._total += 1

    def newest(self, names: Iterable[str], count: int | None = None) -> dict[str, Column]:
        """Copies of the last ``count`` rows, or of all that are kept, oldest first."""
        with self._lock:
            kept = min(self._total, self._capacity)
            start = self._end - (kept if count is None else max(0, min(count, kept)))
            return {name: self._values[self._place[name], start : self._end].copy() for name in names}

    def since(self, total: int, names: Iterable[str]) -> tuple[int, dict[str, Column]]:
        """The total now, and the rows appended after it was ``total``, as far as they are kept."""
        now = self._total
        return now, self.newest(names, now - total)
