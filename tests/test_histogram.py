"""Buckets compared with arithmetic, percentiles with sorting, the export with HdrHistogram."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path
from subprocess import run

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from zmqlab.histogram import (
    BUCKET_COUNT,
    MAX_VALUE,
    HdrLine,
    Histogram,
    bucket_high,
    bucket_index,
    bucket_low,
    write_hdr_log,
)

VALUES = st.integers(0, MAX_VALUE)


@given(VALUES)
def test_a_value_lies_in_its_bucket_which_is_narrow(value: int) -> None:
    index = bucket_index(value)
    assert bucket_low(index) <= value <= bucket_high(index)
    assert bucket_high(index) - bucket_low(index) <= value / 128


def test_buckets_touch_without_gap_or_overlap() -> None:
    for index in range(BUCKET_COUNT):
        assert bucket_index(bucket_low(index)) == bucket_index(bucket_high(index)) == index
    assert bucket_high(BUCKET_COUNT - 1) == MAX_VALUE


def test_what_is_out_of_range_is_clamped() -> None:
    assert bucket_index(-5) == 0
    assert bucket_index(-(10**15)) == 0
    assert bucket_index(10 * MAX_VALUE) == BUCKET_COUNT - 1


@given(st.lists(VALUES, min_size=1, max_size=200), st.sampled_from([0, 50, 90, 99, 99.9, 100]))
def test_a_percentile_is_that_of_the_sorted_values_within_a_bucket(values: list[int], percent: float) -> None:
    histogram = Histogram()
    histogram.record_many(values)
    exact = sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]
    assert exact <= histogram.percentile(percent) <= exact + exact / 128
    assert histogram.count == len(values)
    assert histogram.percentile(100) == histogram.max == max(values)


@given(st.lists(VALUES), st.lists(VALUES))
def test_merged_histograms_equal_one_that_saw_everything(first: list[int], second: list[int]) -> None:
    left, right, both = Histogram(), Histogram(), Histogram()
    left.record_many(first)
    right.record_many(second)
    both.record_many(first + second)
    assert Histogram.merged([left, right]) == both
    left.merge(right)
    assert left == both
    assert Histogram.merged([]) == Histogram()
    assert Histogram.from_sparse(both.to_sparse(), both.max) == both


def test_an_empty_histogram_reports_zeros() -> None:
    histogram = Histogram()
    assert (histogram.count, histogram.max, histogram.percentile(99)) == (0, 0, 0)
    assert Histogram.from_sparse({}) == histogram


def test_without_the_exact_maximum_the_top_edge_stands_in() -> None:
    histogram = Histogram()
    histogram.record(1_000_000, 3)
    again = Histogram.from_sparse(histogram.to_sparse())
    assert again.max == bucket_high(bucket_index(1_000_000))
    assert again.count == 3


@pytest.mark.parametrize("sparse", [{"-1": 1}, {str(BUCKET_COUNT): 1}, {"7": 0}, {"x": 1}])
def test_nonsense_from_a_socket_is_refused(sparse: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"bucket|invalid"):
        Histogram.from_sparse(sparse)


def test_hdr_tools_read_the_export_and_agree(tmp_path: Path) -> None:
    rng = random.Random(1)
    histogram = Histogram()
    values = [int(rng.lognormvariate(14, 1)) for _ in range(5_000)]
    histogram.record_many(values)
    path = tmp_path / "run.hlog"
    write_hdr_log(path, [HdrLine("response_time", 0, 1, histogram)], started_ns=1_700_000_000_000_000_000)
    line = path.read_text().splitlines()[-1]
    assert line.startswith("Tag=response_time,0.000,1.000,")
    decoded = HdrHistogram.decode(line.rsplit(",", 1)[1])
    assert decoded.get_total_count() == 5_000
    for percent in (50, 90, 99, 99.9):
        assert decoded.get_value_at_percentile(percent) == histogram.percentile(percent)


def test_neither_numpy_nor_hdrh_is_imported_with_it() -> None:
    code = "import zmqlab.histogram, sys; sys.exit(bool({'numpy', 'hdrh'} & set(sys.modules)))"
    assert run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
