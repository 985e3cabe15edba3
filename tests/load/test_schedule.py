"""Intended send times: fixed by seed and rate, none skipped, whatever the pace at which they are taken."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmqlab.errors import SettingsError
from zmqlab.histogram import MAX_VALUE, Histogram, bucket_index
from zmqlab.load.load_settings import LoadSettings, Stage, parse_stages
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


# Stages.

HOLD_RAMP_STEP_SPIKE = parse_stages(
    "0s:1000, 2s:1000, 4s:5000, 4s:2000, 6s:2000, 6s:20k, 6.5s:20k, 6.5s:0, 8s:0, 8s:500"
)
"""A hold, a ramp up, a step down, a spike, a pause, and a slow end."""
PIECES = [
    (0.0, 2.0, 2_000),
    (2.0, 4.0, 6_000),
    (4.0, 6.0, 4_000),
    (6.0, 6.5, 10_000),
    (6.5, 8.0, 0),
    (8.0, 10.0, 1_000),
]
"""From, to, and how many orders the stages mean in between."""


def counted(times: list[int]) -> list[int]:
    return [sum(1e9 * begin <= time < 1e9 * end for time in times) for begin, end, _ in PIECES]


def test_constant_arrivals_follow_the_stages_to_the_order() -> None:
    schedule = Schedule(0, arrivals="constant", duration_s=10, stages=HOLD_RAMP_STEP_SPIKE)
    times = drain(schedule, 10 * SECOND_NS, 50_000_000)
    assert counted(times) == pytest.approx([orders for *_, orders in PIECES], abs=1)
    assert schedule.next_due_ns == NEVER_NS


@pytest.mark.parametrize("seed", range(5))
def test_poisson_arrivals_follow_the_stages_within_their_spread(seed: int) -> None:
    """Five times the square root of the mean: one count in two million is farther away."""
    schedule = Schedule(0, seed=seed, duration_s=10, stages=HOLD_RAMP_STEP_SPIKE)
    found = counted(drain(schedule, 10 * SECOND_NS, 50_000_000))
    for count, (*_, orders) in zip(found, PIECES, strict=True):
        assert abs(count - orders) <= 5 * orders**0.5


def test_a_ramp_is_a_straight_line() -> None:
    """The first half of a ramp from 0 has a quarter of its orders, and its first tenth a hundredth."""
    ramp = parse_stages("0s:0, 10s:20k")
    times = np.array(drain(Schedule(0, arrivals="constant", duration_s=10, stages=ramp), 10 * SECOND_NS, SECOND_NS))
    assert len(times) == 100_000
    assert [int((times < share * 10 * SECOND_NS).sum()) for share in (0.1, 0.5)] == pytest.approx(
        [1_000, 25_000], abs=1
    )
    poisson = np.array(drain(Schedule(0, duration_s=10, stages=ramp), 10 * SECOND_NS, SECOND_NS))
    half = poisson[poisson < 5 * SECOND_NS]
    assert len(half) == pytest.approx(25_000, abs=5 * 25_000**0.5)
    # within a ramp the squares of the times are spread evenly
    assert np.mean((half / (5 * SECOND_NS)) ** 2) == pytest.approx(0.5, abs=0.01)


def test_stages_do_not_depend_on_how_times_are_taken_and_a_seed_is_always_the_same() -> None:
    def make(seed: int) -> Schedule:
        return Schedule(0, seed=seed, duration_s=10, stages=HOLD_RAMP_STEP_SPIKE)

    smooth = drain(make(3), 10 * SECOND_NS, 1_000_000)
    assert smooth == drain(make(3), 10 * SECOND_NS, 700_000_000, limit=100)
    assert smooth == sorted(smooth)
    assert smooth != drain(make(4), 10 * SECOND_NS, 700_000_000)


def test_one_stage_is_a_plain_rate() -> None:
    plain, staged = (
        Schedule(3_000, seed=9, duration_s=3),
        Schedule(0, seed=9, duration_s=3, stages=parse_stages("0:3k")),
    )
    assert drain(plain, 3 * SECOND_NS, SECOND_NS) == drain(staged, 3 * SECOND_NS, SECOND_NS)


def test_the_rate_of_a_moment() -> None:
    schedule = Schedule(0, start_ns=SECOND_NS, stages=HOLD_RAMP_STEP_SPIKE)
    seconds = [0, 1, 3, 3.999999999, 4, 6.2, 7, 9, 1_000]
    rates = [schedule.rate_at(round(SECOND_NS * (1 + at_s))) for at_s in seconds]
    assert rates == pytest.approx([1_000, 1_000, 3_000, 5_000, 2_000, 20_000, 0, 500, 500])


def test_a_set_rate_ends_the_stages() -> None:
    schedule = Schedule(0, arrivals="constant", duration_s=10, stages=HOLD_RAMP_STEP_SPIKE)
    schedule.set_rate(100, 3 * SECOND_NS)
    times = drain(schedule, 10 * SECOND_NS, SECOND_NS)
    assert sum(time > 3 * SECOND_NS for time in times) == pytest.approx(700, abs=1)


def test_stages_that_end_in_a_pause_have_no_more_orders() -> None:
    schedule = Schedule(0, stages=parse_stages("0:1k, 1s:0"))
    assert len(drain(schedule, 100 * SECOND_NS, SECOND_NS)) == pytest.approx(500, abs=120)
    assert schedule.next_due_ns == NEVER_NS


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3_000)), min_size=1, max_size=6),
    st.sampled_from(["poisson", "constant"]),
)
@settings(max_examples=60, deadline=None)
def test_any_stages_give_ascending_times_within_the_run(points: list[tuple[int, int]], arrivals: str) -> None:
    ordered = sorted({0: 1_000, **dict(points)}.items())
    stages = parse_stages(ordered)
    schedule = Schedule(0, arrivals=arrivals, duration_s=10, stages=stages)  # type: ignore[arg-type]
    times = drain(schedule, 10 * SECOND_NS, SECOND_NS)
    ends = [*ordered, (10, ordered[-1][1])]
    orders = sum((b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(ends))
    assert times == sorted(times)
    assert all(0 <= time < 10 * SECOND_NS for time in times)
    assert len(times) == pytest.approx(orders, abs=1 if arrivals == "constant" else 6 * orders**0.5 + 6)


@pytest.mark.parametrize(
    "written",
    [
        "0s:1000, 5s:8k",
        ["0:1000", "5s:8000"],
        [{"0s": 1000}, {"5s": "8k"}],
        [(0, 1000), (5.0, 8000)],
        [Stage(0, 1000), [5, "8k"]],
    ],
)
def test_stages_can_be_written_in_several_ways(written: object) -> None:
    assert parse_stages(written) == (Stage(0.0, 1_000.0), Stage(5.0, 8_000.0))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "stage '' can't be read: write TIME:RATE, as in 5s:8000"),
        ([], "stages are empty"),
        ("1s:1000", "stages begin at 1 s: say the rate from the start on"),
        ("0s:1000,3s:500,2s:800", "stages go back in time, from 3s:500 to 2s:800"),
        ("0s:1000,1s:1,1s:2,1s:3", "more than two stages stand at 1 s: a step is two"),
        ("0s:max", "max is none"),
        ("0s:fast", "'fast' is not a rate"),
        ("soon:1000", "'soon' is not a duration"),
        ([(0, 1, 2)], "can't be read"),
        ([7], "can't be read"),
        ({"0s": 5}, "write points of time and rate"),
        (5, "write points of time and rate"),
        ([(0, -5)], "'-5' is not a rate"),
    ],
)
def test_stages_that_make_no_sense(written: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_stages(written)


def test_settings_with_stages_survive_the_way_to_the_load_process() -> None:
    stages = parse_stages("0s:1000, 5s:8k")
    told = LoadSettings(nodes=("tcp://127.0.0.1:5002",), rate=1_000.0, stages=stages, duration_s=6.0)
    assert LoadSettings.from_json(told.to_json()) == told
    for wrong, said in ({"rate": 5.0}, "begin with another"), ({"duration_s": 4.0}, "after the end at 4 s"):
        with pytest.raises(SettingsError, match=said):
            LoadSettings.from_dict(told.to_dict() | wrong)


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
