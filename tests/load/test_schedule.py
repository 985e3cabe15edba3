"""Intended send times: fixed by seed and rate, none skipped, whatever the pace at which they are taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmqlab.histogram import MAX_VALUE, Histogram, bucket_index
from zmqlab.load.measurement import LatencyRecorder, bucket_indices
from zmqlab.load.schedule import NEVER_NS, Schedule

SECOND_NS = 1_000_000_000


def drain(schedule: Schedule, until_ns: int, step_ns: int, limit: int = 1_024) -> list[int]:
    taken: list[int] = []
    for now_ns in range(0, until_ns + step_ns, step_ns):
        while (times := schedule.take(now_ns, limit)).size:
            assert times.size <= limit
            taken += times.tolist()
    return taken


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_times_do_not_depend_on_how_they_are_taken(arrivals: str) -> None:
    def make() -> Schedule:
        return Schedule(10_000, arrivals=arrivals, seed=5, duration_s=2)  # type: ignore[arg-type]

    smooth = drain(make(), 2 * SECOND_NS, 1_000_000)
    stalled = drain(make(), 2 * SECOND_NS, 700_000_000, limit=100)
    assert smooth == stalled
    assert smooth == sorted(smooth)
    assert smooth[-1] < 2 * SECOND_NS


def test_constant_arrivals_neither_drift_nor_skip() -> None:
    times = drain(Schedule(30_000, arrivals="constant", duration_s=3), 3 * SECOND_NS, 5_000_000)
    assert len(times) == 90_000
    assert np.abs(np.array(times) - np.arange(90_000) * SECOND_NS / 30_000).max() <= 2


def test_poisson_arrivals_have_the_rate_and_its_spread() -> None:
    times = np.array(drain(Schedule(20_000, seed=2, duration_s=5), 5 * SECOND_NS, 10_000_000))
    assert len(times) == pytest.approx(100_000, rel=0.02)
    gaps = np.diff(times)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)


def test_a_change_of_rate_keeps_what_is_due_and_restarts_from_now() -> None:
    schedule = Schedule(100_000, arrivals="constant", duration_s=10)
    now_ns = SECOND_NS  # ten times further than one chunk reaches: all 100,000 are due, and stay due
    schedule.set_rate(1_000, now_ns)
    times = drain(schedule, 2 * SECOND_NS - 1, SECOND_NS)
    assert sum(time <= now_ns for time in times) == pytest.approx(100_001, abs=1)
    assert sum(time > now_ns for time in times) == pytest.approx(1_000, abs=1)


def test_rate_zero_pauses_and_stop_ends() -> None:
    schedule = Schedule(1_000, arrivals="constant")
    assert schedule.take(SECOND_NS // 2, 1_024).size == 501
    schedule.set_rate(0, SECOND_NS // 2)
    assert schedule.next_due_ns == NEVER_NS
    assert schedule.take(SECOND_NS, 10).size == 0
    schedule.set_rate(1_000, SECOND_NS)
    assert schedule.next_due_ns == SECOND_NS
    schedule.stop(SECOND_NS + 9_500_000)
    assert len(drain(schedule, 3 * SECOND_NS, 1_000_000)) == 10
    assert schedule.next_due_ns == NEVER_NS


@given(st.lists(st.integers(-5, 2 * MAX_VALUE), min_size=1))
@settings(max_examples=200)
def test_vectorised_buckets_equal_the_plain_ones(values: list[int]) -> None:
    assert bucket_indices(np.array(values)).tolist() == [bucket_index(value) for value in values]


def test_the_recorder_gives_intervals_that_add_up_to_the_run() -> None:
    rng = np.random.default_rng(1)
    recorder, plain, merged = LatencyRecorder(), Histogram(), Histogram()
    for _ in range(5):
        values = rng.integers(1, 10**8, 300)
        recorder.record(values)
        recorder.record_weighted(values[:3], np.array([2, 3, 4]))
        plain.record_many(values.tolist())
        for value, count in zip(values[:3].tolist(), (2, 3, 4), strict=True):
            plain.record(value, count)
        merged.merge(recorder.take_interval())
    assert recorder.histogram() == merged == plain
