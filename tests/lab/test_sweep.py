"""The sweep: its arithmetic on made-up snapshots, and once on a real cluster."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zmqlab import Cluster
from zmqlab.histogram import Histogram
from zmqlab.lab import sweep as sweep_module
from zmqlab.lab.sweep import (
    COMFORTABLE_MAX,
    COMFORTABLE_MIN,
    Sweep,
    SweepStep,
    _step_of,
    comfortable_rate,
    sweep,
)
from zmqlab.load.load_messages import LoadCounters, LoadMetrics
from zmqlab.load.load_report import LatencySummary

NO_TIME = LatencySummary(0, 0, 0, 0, 0)


def snapshot(interval_s: float, latency_ns: int, **counters: int) -> LoadMetrics:
    histogram = Histogram()
    histogram.record(latency_ns, counters["acknowledged"])
    return LoadMetrics(
        name="load",
        pid=1,
        time_ns=0,
        elapsed_s=0,
        interval_s=interval_s,
        state="running",
        rate=100,
        total=LoadCounters(),
        interval=LoadCounters(**counters),
        response_time=histogram.to_sparse(),
        response_time_max_ns=histogram.max,
        service_time=histogram.to_sparse(),
        service_time_max_ns=histogram.max,
        outstanding=0,
        resting=0,
        connected=[True],
        orders_by_node=[0],
        rejected_by_reason={},
        silence_ms=0,
        longest_gap_ms=0,
        cpu_percent=0,
    )


def step(acknowledged: float, late_share: float = 0.0) -> SweepStep:
    return SweepStep(100, 100, acknowledged, NO_TIME, NO_TIME, late_share)


def test_rates_are_over_the_time_that_was_watched_and_histograms_are_merged() -> None:
    slow = snapshot(1.0, 9_000_000, offered=10, acknowledged=1, sent=10, late=0)
    fast = snapshot(3.0, 1_000_000, offered=190, acknowledged=99, sent=190, late=20)
    both = _step_of(50, [fast, slow])
    assert (both.offered, both.acknowledged) == (50, 25)
    assert both.response_time.p99_ms == pytest.approx(1, rel=0.01)
    assert both.response_time.max_ms == 9
    assert both.late_share == 0.1


def test_who_is_the_limit() -> None:
    assert step(99).keeps_up
    assert not step(90).keeps_up
    assert step(99, late_share=0.5).generator_limited
    steps = Sweep([step(99), step(98, 0.5), step(50)])
    assert steps.knee == 99
    assert [line.split()[-1] for line in repr(steps).splitlines()[1:]] == ["yes", "generator", "cluster"]
    assert Sweep().knee == 0


def test_a_step_that_the_generator_limited_is_no_knee() -> None:
    low, limited, high = step(99)._replace(rate=1), step(200, 0.5)._replace(rate=2), step(50)._replace(rate=3)
    assert (Sweep([low]).knee, Sweep([low]).limit) == (99, "")
    assert (Sweep([low, limited]).knee, Sweep([low, limited]).limit) == (99, "generator")
    assert (Sweep([low, limited, high]).knee, Sweep([low, limited, high]).limit) == (99, "cluster")
    assert (Sweep([limited]).knee_step, Sweep([limited]).limit) == (None, "generator")


class Scripted:
    """A load client of which these shares are acknowledged, look by look."""

    def __init__(self, *shares: float) -> None:
        self._shares = list(shares)
        self.load = SimpleNamespace(set_rate=lambda rate: None)

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        assert not self._shares, "it looked less often"

    def measure(self, rate: float, _for_s: float) -> SweepStep:
        return step(100 * self._shares.pop(0))._replace(rate=rate)


@pytest.mark.parametrize(
    ("shares", "keeps_up"),
    [((1, 0.8, 1, 1), [True, True, True]), ((1, 0.8, 0.8), [True, False]), ((0.9, 0.9), [False])],
)
def test_a_pause_of_the_machine_ends_no_sweep(
    shares: tuple[float, ...], keeps_up: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of 0.6 s at 100 orders/s is 60 orders, and 40 ms without an answer were three too few: the sweep ended."""
    monkeypatch.setattr(sweep_module, "_Watched", lambda *_: Scripted(*shares))
    steps = sweep(["tcp://127.0.0.1:9"], [100, 200, 400], step_s=0, settle_s=0)
    assert [each.keeps_up for each in steps] == keeps_up
    assert [each.rate for each in steps] == [100, 200, 400][: len(keeps_up)]


@pytest.mark.process
def test_a_real_cluster_is_swept_until_it_gives_up() -> None:
    with Cluster(3) as cluster:
        assert COMFORTABLE_MIN <= comfortable_rate(cluster) <= COMFORTABLE_MAX
        steps = sweep(cluster, [1_000_000, 200, 100], step_s=2.0, settle_s=0.2)
        assert [each.rate for each in steps] == [100, 200, 1_000_000]
        assert not steps[-1].keeps_up
        assert steps[0].response_time.p50_ms > 0
        assert "<table>" in steps._repr_html_()
