"""Latency recorded a thousand values at a time: the vectorised twin of :class:`zmqlab.histogram.Histogram`.

Same buckets, counted in dense arrays: one for the interval, one for the whole run. A value's bucket follows
from its bit length, which ``frexp`` gives exactly for integers below 2**53.
"""

from __future__ import annotations

import numpy as np

from zmqlab.histogram import BUCKET_COUNT, MAX_VALUE, SUB_BUCKET_BITS, Histogram
from zmqlab.load.layout import Ints


def bucket_indices(values: Ints) -> Ints:
    """The bucket of each value, as :func:`zmqlab.histogram.bucket_index` has it."""
    clamped = np.minimum(np.maximum(values, 0), MAX_VALUE)
    bit_lengths = np.frexp(clamped.astype(np.float64))[1].astype(np.int64)
    shifts = np.maximum(bit_lengths - (SUB_BUCKET_BITS + 1), 0)
    return (shifts << SUB_BUCKET_BITS) + (clamped >> shifts)


class LatencyRecorder:
    """Counts latencies of an interval and of the run. Every interval's counts are part of the run's."""

    def __init__(self) -> None:
        self._interval: Ints = np.zeros(BUCKET_COUNT, np.int64)
        """Counts since the last :meth:`take_interval`."""
        self._run: Ints = np.zeros(BUCKET_COUNT, np.int64)
        """Counts of all intervals taken; the current one is not in it yet."""
        self._interval_max_ns = 0
        self._run_max_ns = 0

    def record(self, values_ns: Ints) -> None:
        """Count each value once."""
        if values_ns.size:
            np.add.at(self._interval, bucket_indices(values_ns), 1)
            self._interval_max_ns = max(self._interval_max_ns, int(values_ns.max()))

    def record_weighted(self, values_ns: Ints, counts: Ints) -> None:
        """Count each value as often as ``counts`` says: all orders of one request share a service time."""
        if values_ns.size:
            np.add.at(self._interval, bucket_indices(values_ns), counts)
            self._interval_max_ns = max(self._interval_max_ns, int(values_ns.max()))

    def take_interval(self) -> Histogram:
        """The interval's histogram; a new interval begins."""
        taken = _histogram(self._interval, self._interval_max_ns)
        self._run += self._interval
        self._run_max_ns = max(self._run_max_ns, self._interval_max_ns)
        self._interval[:] = 0
        self._interval_max_ns = 0
        return taken

    def histogram(self) -> Histogram:
        """The whole run's, the current interval included."""
        return _histogram(self._run + self._interval, max(self._run_max_ns, self._interval_max_ns))


def _histogram(counts: Ints, max_ns: int) -> Histogram:
    hit = np.nonzero(counts)[0]
    sparse = {str(index): count for index, count in zip(hit.tolist(), counts[hit].tolist(), strict=True)}
    return Histogram.from_sparse(sparse, max_ns)
