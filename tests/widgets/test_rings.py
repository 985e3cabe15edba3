"""The ring keeps the newest rows; percentiles over a moving window are those of the merged histograms."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zmqlab.histogram import Histogram
from zmqlab.widgets.readings import NS_PER_MS, PERCENTS, TABLES_KEPT, MovingPercentiles, Ring


@given(st.integers(1, 7), st.lists(st.integers(0, 5), max_size=12))
def test_like_a_list(capacity: int, batches: list[int]) -> None:
    ring, rows, seen = Ring(("a", "b"), capacity), list[float](), 0
    for batch in batches:
        for _ in range(batch):
            rows.append(float(len(rows)))
            ring.append({"a": rows[-1]})
        total = ring.total
        fresh = ring.newest(["a"], total - seen)
        assert fresh["a"].tolist() == rows[max(seen, len(rows) - capacity) :]
        assert total == len(rows)
        assert ring.newest(["a"])["a"].tolist() == rows[-capacity:]
        assert ring.newest(["a"], 2)["a"].tolist() == rows[-min(2, capacity) :]
        seen = total


def test_what_a_row_does_not_mention_is_unknown() -> None:
    ring = Ring(("a", "b"), 1)
    ring.append({"a": 1.0, "b": 2.0})
    for _ in range(3):
        ring.append({"a": 1.0})
    assert np.isnan(ring.newest(["b"])["b"]).all()


def test_a_reader_holds_a_copy() -> None:
    ring = Ring(("a",), 2)
    ring.append({"a": 1.0})
    before = ring.newest(["a"])["a"]
    for value in range(5):
        ring.append({"a": float(value)})
    assert before.tolist() == [1.0]


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


def test_a_table_has_a_line_for_each_column() -> None:
    ring = Ring(("t", "y"), 100)
    for number in range(5):
        ring.append({"t": float(number), "y": 10.0 * number})
    assert ring.table(("y", "t"), 2).tolist() == [[30.0, 40.0], [3.0, 4.0]]
    assert ring.table(("t",)).tolist() == [ring.newest(["t"])["t"].tolist()]
    assert ring.table(("t",), 0).shape == (1, 0)
    before = ring.table(("t",), 1)
    ring.append({"t": 9.0})
    assert before.tolist() == [[4.0]], "a copy"
    for number in range(TABLES_KEPT + 2):
        assert ring.table(("t",) * (number + 1), 1).shape == (number + 1, 1)
    assert len(ring._tables) <= TABLES_KEPT
