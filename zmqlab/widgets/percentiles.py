"""Percentiles over a moving window, from the histograms of its intervals: merged, never averaged.

The counts of all intervals in the window stand in one dense array; a new interval is added to it and the one that
leaves is subtracted, so that the price of a reading doesn't grow with the window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from zmqlab.histogram import BUCKET_COUNT, bucket_high

Counts = npt.NDArray[np.int64]

NS_PER_MS = 1e6
PERCENTS = (50.0, 99.0, 99.9)
_EDGES_MS = np.array([bucket_high(index) for index in range(BUCKET_COUNT)]) / NS_PER_MS
NOTHING = (float("nan"),) * (len(PERCENTS) + 1)


class MovingPercentiles:
    """p50, p99, p99.9 and the maximum, in milliseconds, of the last ``intervals`` histograms."""

    def __init__(self, intervals: int) -> None:
        self._intervals = intervals
        self._counts: Counts = np.zeros(BUCKET_COUNT, np.int64)
        """The sum of all histograms in the window."""
        self._window: deque[tuple[Counts, Counts, int]] = deque()

    def add(self, sparse: Mapping[str, int], max_ns: int) -> None:
        """The histogram of the next interval; an empty one moves the window on all the same."""
        buckets = np.fromiter(map(int, sparse), np.int64, len(sparse))
        counts = np.fromiter(sparse.values(), np.int64, len(sparse))
        self._counts[buckets] += counts
        self._window.append((buckets, counts, max_ns))
        if len(self._window) > self._intervals:
            old_buckets, old_counts, _ = self._window.popleft()
            self._counts[old_buckets] -= old_counts

    def clear(self) -> None:
        """Forget all: another run begins."""
        self._counts[:] = 0
        self._window.clear()

    def figures_ms(self) -> tuple[float, ...]:
        """The percentiles, then the maximum; NaN for all if nothing was counted."""
        ranks = np.cumsum(self._counts)
        if not ranks[-1]:
            return NOTHING
        highest = max(max_ns for _, _, max_ns in self._window) / NS_PER_MS
        wanted = np.maximum(np.ceil(ranks[-1] * np.array(PERCENTS) / 100), 1)
        edges = np.minimum(_EDGES_MS[np.searchsorted(ranks, wanted)], highest)
        return (*edges.tolist(), highest)
