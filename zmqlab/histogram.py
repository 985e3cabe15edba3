"""Latency histograms that merge: a fixed logarithmic bucket scheme, the same one everywhere in the lab.

A percentile of percentiles means nothing, so no code of the lab averages them. Metrics carry the histogram of an
interval. A figure over several intervals, nodes or clients is read from their merged histograms.

The scheme is that of HdrHistogram with two significant digits. Values are integers, in nanoseconds throughout the lab.
Below 256 each value has its own bucket. Above, each power of two is cut into 128 buckets of equal width::

    value   0 .. 255   256 .. 511   512 .. 1023   ...   up to 2**42 - 1 (73 minutes; larger ones are clamped)
    width   1          2            4             ...   1/128 of the power of two: at most 0.8 % of the value

A percentile is reported as the upper edge of its bucket, but never above the exact maximum. So it errs by at most 0.8
%, and upwards only. ``max`` stays exact if it is handed on beside the sparse form.

Rules: no numpy, because nodes record with this module and must start fast; the vectorised twin is in
:mod:`zmqlab.load.measurement`. Only the export imports ``hdrh``.

Left out on purpose: means and standard deviations, which say little about latency.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

SUB_BUCKET_BITS = 7
"""Each power of two has 2**7 buckets. That gives two significant digits, and some 300 used buckets in a typical run."""
SUB_BUCKETS = 1 << SUB_BUCKET_BITS
SIGNIFICANT_DIGITS = 2
"""The name of this scheme in HdrHistogram's terms."""
MAX_VALUE = (1 << 42) - 1
"""Larger values are counted as this one. No latency of the lab lasts 73 minutes."""
BUCKET_COUNT = ((MAX_VALUE.bit_length() - SUB_BUCKET_BITS) + 1) * SUB_BUCKETS
NS_PER_MS = 1_000_000


def bucket_index(value: int) -> int:
    """The bucket of ``value``. Negative values belong to bucket 0, values above MAX_VALUE to the last one."""
    if value > MAX_VALUE:
        value = MAX_VALUE
    shift = value.bit_length() - SUB_BUCKET_BITS - 1
    if shift <= 0 or value < 0:
        return max(value, 0)
    return (shift << SUB_BUCKET_BITS) + (value >> shift)


def bucket_low(index: int) -> int:
    """The smallest value of a bucket."""
    shift = max((index >> SUB_BUCKET_BITS) - 1, 0)
    return (index - (shift << SUB_BUCKET_BITS)) << shift


def bucket_high(index: int) -> int:
    """The largest value of a bucket."""
    return bucket_low(index + 1) - 1


class Histogram:
    """Counts by bucket, and the exact maximum. Only buckets with values take room."""

    __slots__ = ("_counts", "_max")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        """Bucket index -> count. Every count is above zero."""
        self._max = 0
        """The largest recorded value, exact; 0 without values."""

    def record(self, value: int, count: int = 1) -> None:
        """Count ``value`` ``count`` times."""
        index = bucket_index(value)
        self._counts[index] = self._counts.get(index, 0) + count
        if value > self._max:
            self._max = value

    def record_many(self, values: Iterable[int]) -> None:
        """Count each of ``values`` once."""
        for value in values:
            self.record(value)

    def merge(self, other: Histogram) -> None:
        """Add all counts of ``other``."""
        counts = self._counts
        for index, count in other._counts.items():
            counts[index] = counts.get(index, 0) + count
        self._max = max(self._max, other._max)

    @classmethod
    def merged(cls, histograms: Iterable[Histogram]) -> Histogram:
        """All of them in one; empty if there are none."""
        merged = cls()
        for each in histograms:
            merged.merge(each)
        return merged

    def clear(self) -> None:
        """Forget all counts: a new interval starts."""
        self._counts.clear()
        self._max = 0

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return sum(self._counts.values())

    @property
    def max(self) -> int:
        """The largest recorded value, exact; 0 without values."""
        return self._max

    def percentile(self, percent: float) -> int:
        """The smallest edge of a bucket that ``percent`` per cent of the values do not exceed; 0 without values."""
        return self.percentiles((percent,))[0]

    def percentiles(self, percents: Iterable[float]) -> list[int]:
        """Several percentiles, in the order of ``percents``, in one pass over the buckets."""
        edges = _cumulative(self._counts)
        total = edges[-1][1] if edges else 0
        ranks = (max(math.ceil(total * percent / 100), 1) for percent in percents)
        return [min(_edge_at(edges, rank), self._max) for rank in ranks]

    def to_sparse(self) -> dict[str, int]:
        """Bucket index -> count. The index is text, so that the result is valid JSON."""
        return {str(index): count for index, count in sorted(self._counts.items())}

    @classmethod
    def from_sparse(cls, sparse: Mapping[str, int], max_value: int | None = None) -> Histogram:
        """The histogram of which :meth:`to_sparse` made ``sparse``. Without ``max_value`` its maximum is the top
        bucket's edge.

        Raises:
            ValueError: an index is not that of a bucket, or a count is not positive.
        """
        histogram = cls()
        for text, count in sparse.items():
            index = int(text)
            if not 0 <= index < BUCKET_COUNT or count <= 0:
                raise ValueError(f"bucket {text!r} with count {count} is not part of a histogram")
            histogram._counts[index] = count
        if histogram._counts:
            histogram._max = bucket_high(max(histogram._counts)) if max_value is None else max_value
        return histogram

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self._counts == other._counts and self._max == other._max

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        p50, p99 = self.percentiles((50, 99))
        return (
            f"Histogram(count={self.count}, p50={p50 / NS_PER_MS:.3f} ms, p99={p99 / NS_PER_MS:.3f} ms, "
            f"max={self._max / NS_PER_MS:.3f} ms)"
        )

    def buckets(self) -> list[tuple[int, int]]:
        """``(upper edge, count)`` of every bucket with values, ascending, for charts."""
        return [(bucket_high(index), count) for index, count in sorted(self._counts.items())]


def _cumulative(counts: Mapping[int, int]) -> list[tuple[int, int]]:
    """``(upper edge, number of values up to it)``, ascending."""
    edges: list[tuple[int, int]] = []
    total = 0
    for index in sorted(counts):
        total += counts[index]
        edges.append((bucket_high(index), total))
    return edges


def _edge_at(edges: list[tuple[int, int]], rank: int) -> int:
    """The upper edge of the bucket with the value of rank ``rank``, counted from 1."""
    return next((edge for edge, total in edges if total >= rank), 0)


@dataclass(frozen=True, slots=True)
class HdrLine:
    """One line of an HdrHistogram log: the values recorded under ``tag`` in one interval of the run."""

    tag: str
    start_s: float
    length_s: float
    histogram: Histogram


def write_hdr_log(path: str | Path, lines: Iterable[HdrLine], started_ns: int = 0, comment: str = "") -> None:
    """Write an HdrHistogram log, version 1.2, with histograms in the V2 encoding.

    Every HdrHistogram tool reads it. Values are nanoseconds; the column of maxima is in milliseconds, as those tools
    expect. ``started_ns`` is the wall clock at the start of the run, from which the lines count their seconds.

    Raises:
        OSError: ``path`` can't be written.
    """
    head = [f"#{comment}"] if comment else []
    head += [
        "#[Histogram log format version 1.2]",
        f"#[StartTime: {started_ns / 1e9:.3f} (seconds since epoch)]",
    ]
    head.append('"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"')
    body = [
        f"Tag={line.tag},{line.start_s:.3f},{line.length_s:.3f},{line.histogram.max / NS_PER_MS:.3f},"
        f"{_encode_hdr(line.histogram)}"
        for line in lines
    ]
    Path(path).write_text("\n".join([*head, *body]) + "\n", encoding="ascii")


def _encode_hdr(histogram: Histogram) -> str:
    """The base64 text of the V2 encoding. Both schemes have the same buckets, so only the exact maximum is lost."""
    from hdrh.histogram import HdrHistogram  # slow to import, and nodes never need it

    hdr = HdrHistogram(1, MAX_VALUE, SIGNIFICANT_DIGITS)
    for index, count in histogram._counts.items():
        hdr.record_value(bucket_low(index), count)
    encoded: bytes = hdr.encode()
    return encoded.decode("ascii")
