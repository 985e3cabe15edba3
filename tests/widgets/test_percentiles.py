"""Percentiles over a moving window are those of the merged histograms."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from zmqlab.histogram import Histogram
from zmqlab.widgets.rings import NS_PER_MS, PERCENTS, MovingPercentiles


@given(st.lists(st.lists(st.integers(1, 10**10), max_size=20), min_size=1, max_size=8), st.integers(1, 4))
def test_as_merging_all(intervals: list[list[int]], length: int) -> None:
    moving = MovingPercentiles(length)
    for number, values in enumerate(intervals):
        histogram = Histogram()
        histogram.record_many(values)
        moving.add(histogram.to_sparse(), histogram.max)
        merged = Histogram()
        merged.record_many(value for each in intervals[max(0, number + 1 - length) : number + 1] for value in each)
        figures = moving.figures_ms()
        if not merged.count:
            assert all(map(math.isnan, figures))
            continue
        expected = [*merged.percentiles(PERCENTS), merged.max]
        assert [round(figure * NS_PER_MS) for figure in figures] == expected


def test_another_run_begins_empty() -> None:
    moving = MovingPercentiles(3)
    moving.add({"5": 1}, 5)
    moving.clear()
    assert all(map(math.isnan, moving.figures_ms()))
