"""Two rings: the newest rows of a table, and percentiles over the newest histograms. Old ones fall out at the end.

:class:`Ring` is a table whose columns are all floating point. One thread appends rows, others read. The rows live in an
array of twice the capacity. A row is written behind the last one; when the array is full, the newer half moves to the
front. Any number of the newest rows is therefore one contiguous slice of a column. A reader copies that slice under the
lock.

:class:`MovingPercentiles` merges the histograms of the last intervals; percentiles are never averaged. The counts of
all intervals in the window stand in one dense array. A new interval is added to it and the one that leaves is
subtracted, so that a reading costs the same for any window.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from zmqlab.histogram import BUCKET_COUNT, bucket_high

Column = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

NS_PER_MS = 1e6
PERCENTS = (50.0, 99.0, 99.9)
_EDGES_MS = np.array([bucket_high(index) for index in range(BUCKET_COUNT)]) / NS_PER_MS
_NOTHING = (float("nan"),) * (len(PERCENTS) + 1)


class Ring:
    """The newest ``capacity`` rows of the columns ``names``. A column that a row does not mention is NaN: unknown, not
    zero."""

    def __init__(self, names: Sequence[str], capacity: int) -> None:
        self._place = {name: place for place, name in enumerate(names)}
        self._capacity = capacity
        self._values: Column = np.full((len(names), 2 * capacity), np.nan)
        self._end = 0
        """Where the next row goes, 0 to 2 * ``capacity``. The rows before it, at most ``capacity`` of them, are
        kept."""
        self._total = 0
        """Rows ever appended; never below the number of rows that are kept."""
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """Rows ever appended."""
        return self._total

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row.

        Raises:
            KeyError: a name is not a column; the row is not added.
        """
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
        """Copies of the last ``count`` rows, or with None of all that are kept; by column, oldest row first."""
        with self._lock:
            kept = min(self._total, self._capacity)
            start = self._end - (kept if count is None else max(0, min(count, kept)))
            return {name: self._values[self._place[name], start : self._end].copy() for name in names}


class MovingPercentiles:
    """Percentiles of the last ``intervals`` histograms, in milliseconds."""

    def __init__(self, intervals: int) -> None:
        self._intervals = intervals
        self._counts: Counts = np.zeros(BUCKET_COUNT, np.int64)
        """The sum of all histograms in the window."""
        self._window: deque[tuple[Counts, Counts, int]] = deque()
        """(buckets, their counts, maximum in ns) of each interval, oldest first; at most ``intervals`` of them."""

    def add(self, sparse: Mapping[str, int], max_ns: int) -> None:
        """Take the histogram of the next interval; an empty one moves the window on as well.

        Args:
            sparse: bucket index -> count; see :mod:`zmqlab.histogram`.
            max_ns: the exact maximum of the interval.
        """
        buckets = np.fromiter(map(int, sparse), np.int64, len(sparse))
        counts = np.fromiter(sparse.values(), np.int64, len(sparse))
        self._counts[buckets] += counts
        self._window.append((buckets, counts, max_ns))
        if len(self._window) > self._intervals:
            old_buckets, old_counts, _ = self._window.popleft()
            self._counts[old_buckets] -= old_counts

    def clear(self) -> None:
        """Forget all intervals, because another run begins."""
        self._counts[:] = 0
        self._window.clear()

    def figures_ms(self) -> tuple[float, ...]:
        """p50, p99, p99.9 and the maximum; NaN for all if the window is empty."""
        ranks = np.cumsum(self._counts)
        if not ranks[-1]:
            return _NOTHING
        highest = max(max_ns for _, _, max_ns in self._window) / NS_PER_MS
        wanted = np.maximum(np.ceil(ranks[-1] * np.array(PERCENTS) / 100), 1)
        edges = np.minimum(_EDGES_MS[np.searchsorted(ranks, wanted)], highest)
        return (*edges.tolist(), highest)
