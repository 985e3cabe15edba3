"""The sampler: a row a turn, from what nodes and load clients publish."""

from __future__ import annotations

import contextlib
import gc
import math
import threading
import time
from typing import cast

import numpy as np
import pytest

from tests.widgets.fake_cluster import MS, FakeCluster
from zmqlab.lab.cluster import Cluster
from zmqlab.widgets.cluster_controls import NodeTable
from zmqlab.widgets.marks import clock_ms
from zmqlab.widgets.readings import COLUMNS, MAX_SLOTS, STALE_S
from zmqlab.widgets.sampler import Sampler, _sweep_once, problem_of, sampler_of


def newest(sampler: Sampler, *names: str) -> list[float]:
    rows = sampler.ring.newest(names, 1)
    return [float(rows[name][0]) for name in names]


def test_rates_of_a_load(cluster: FakeCluster, sampler: Sampler) -> None:
    cluster.load(offered=120, acknowledged=100)
    cluster.load(offered=80, acknowledged=50)
    sampler.turn()
    assert newest(sampler, "offered", "acknowledged") == pytest.approx([1_000, 750])
    sampler.turn()
    assert newest(sampler, "offered") == pytest.approx([1_000]), "nothing came in this turn: as before"


def test_the_first_sampler_looks_for_garbage_before_figures_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seconds later Python would, and all figures stood still for 0.1 s."""
    monkeypatch.setattr(Sampler, "start", lambda self: self)
    swept: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: swept.append(1))
    _sweep_once.cache_clear()
    for _ in range(2):
        cluster = FakeCluster()
        sampler_of(cast(Cluster, cluster)).close()
        cluster.stop()
    assert swept == [1]


def test_news_is_told_before_the_next_row_is_due(cluster: FakeCluster) -> None:
    with contextlib.closing(Sampler(cast(Cluster, cluster), interval_s=60).start()) as sampler:
        told = threading.Event()
        cluster.feed.wait_until(lambda: sampler.ring.total > 0, 30)
        sampler.on_tick(told.set)
        cluster.happen("killed", "node1")
        assert told.wait(30)
        assert [mark.label for mark in sampler.timeline.marks] == ["node1 killed"]


def test_two_load_clients_add_up(cluster: FakeCluster, sampler: Sampler) -> None:
    cluster.load(offered=100, pid=1)
    cluster.load(offered=100, pid=2)
    sampler.turn()
    assert newest(sampler, "offered") == pytest.approx([2_000])


def test_percentiles_are_of_the_last_second(cluster: FakeCluster, sampler: Sampler) -> None:
    cluster.load(acknowledged=99, latency_ns=MS)
    cluster.load(acknowledged=1, latency_ns=100 * MS)
    sampler.turn()
    p50, highest = newest(sampler, "p50", "max")
    assert p50 == pytest.approx(1.0, rel=0.01)
    assert highest == pytest.approx(100.0)
    for _ in range(10):
        cluster.load(latency_ns=MS)
        sampler.turn()
    assert newest(sampler, "max") == pytest.approx([1.0])


def test_a_load_that_falls_silent_is_over(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.load()
    sampler.turn()
    assert sampler.load is not None
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 2 * STALE_S)
    sampler.turn()
    assert sampler.load is None
    offered, acknowledged, p50 = newest(sampler, "offered", "acknowledged", "p50")
    assert math.isnan(offered), "it may have ended, or hang: what it offers is not known"
    assert math.isnan(acknowledged)
    assert math.isnan(p50)
    assert newest(sampler, "offered_area") == [0]


def test_a_load_that_has_ended_offers_nothing(cluster: FakeCluster, sampler: Sampler) -> None:
    """At once: rows in which nothing has come repeat the one before, and would claim its rate for a while."""
    cluster.load(pid=1)
    cluster.load(pid=2)
    cluster.load(pid=1, state="ended")
    sampler.turn()
    sampler.turn()
    (offered,) = newest(sampler, "offered")
    assert offered > 0, "the other one works"
    cluster.load(pid=2, state="ended")
    sampler.turn()
    sampler.turn()
    assert newest(sampler, "offered", "acknowledged") == [0, 0]


def test_a_load_that_was_killed_is_forgotten_by_the_next_one(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.load(pid=1)
    sampler.turn()
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 2 * STALE_S)
    cluster.load(pid=2)
    cluster.load(pid=2, state="ended")
    sampler.turn()
    sampler.turn()
    assert newest(sampler, "offered") == [0]


def test_a_load_that_was_killed_is_forgotten_while_another_one_goes_on(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the other one's end the chart said "unknown"."""
    at_s = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: at_s[0])
    cluster.load(pid=1, silence_ms=200.0, gap_ms=200.0)
    for state in ("running", "running", "running", "ended"):
        cluster.load(pid=2, state=state)
        sampler.turn()
        at_s[0] += STALE_S / 2
    assert all(band.end_ms is not None for band in sampler.timeline.silences), "its silence is over as well"
    sampler.turn()
    assert newest(sampler, "offered") == [0]


def test_nothing_is_known_of_a_time_without_rows(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine slept, or its cores were busy with something else."""
    cluster.load(offered=100, acknowledged=100)
    sampler.turn()
    cluster.load(offered=100, acknowledged=100)
    sampler.turn()
    assert sampler.ring.total == 2, "rows that follow each other have no gap between them"
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_000 * MS)
    cluster.load(offered=100, acknowledged=100)
    sampler.turn()
    rows = sampler.ring.newest(COLUMNS)
    _, before, *edges, after = rows["t"]
    assert edges == [before, after], "the gap is as long as the time that was missed"
    areas = {name for name, values in rows.items() if (values[2:4] == 0).all()}
    assert areas == {
        "offered_area",
        *(f"{side}{slot}" for side in ("lead_low", "lead_top") for slot in range(MAX_SLOTS)),
    }
    lines = {name for name in rows if name not in areas | {"t"}}
    assert all(np.isnan(rows[name][2:4]).all() for name in lines), "a line breaks"
    assert rows["acknowledged"][[1, 4]].tolist() == pytest.approx([1_000, 1_000])


def test_orders_of_each_node(cluster: FakeCluster, sampler: Sampler) -> None:
    start = time.time_ns()
    cluster.say("node1", start, orders_taken=1_000)
    sampler.turn()
    cluster.say("node1", start + 100 * MS, orders_taken=1_250)
    sampler.turn()
    assert newest(sampler, "taken1") == pytest.approx([2_500])
    cluster.say("node1", start + 200 * MS, orders_taken=10, pid=101)
    sampler.turn()
    assert newest(sampler, "taken1") == [0.0], "another process counts from zero again"


def test_lag_is_told_at_one_moment(cluster: FakeCluster, sampler: Sampler) -> None:
    """The leader publishes every 100 ms; a follower that published in between is compared with what was then."""
    start = time.time_ns()
    cluster.say("node0", start, commit_index=1_000, applied_index=1_000)
    sampler.turn()
    cluster.say("node1", start + 50 * MS, commit_index=1_495, applied_index=1_490)
    cluster.say("node0", start + 100 * MS, commit_index=2_000, applied_index=2_000)
    sampler.turn()
    assert newest(sampler, "commit1", "applied1") == [5, 10]


def test_a_dead_node_falls_behind(cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.time_ns()
    cluster.say("node1", start, commit_index=10, applied_index=10)
    sampler.turn()
    cluster.feed.forget("node1")
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 2 * STALE_S)
    cluster.say("node0", start + 900 * MS, commit_index=500)
    sampler.turn()
    assert newest(sampler, "applied1", "taken1") == [490, 0]


def test_slots_stay_and_are_taken_again(cluster: FakeCluster, sampler: Sampler) -> None:
    sampler.turn()
    cluster.nodes = ("node0", "node2", "node3", "other")
    sampler.turn()
    assert {name: track.slot for name, track in sampler.nodes.items()} == {
        "node0": 0,
        "node2": 2,
        "node3": 3,
        "other": 1,
    }


def test_who_leads_is_a_timeline(cluster: FakeCluster, sampler: Sampler) -> None:
    now = time.time_ns()
    cluster.happen("elected", "node0", now - 50 * MS, term=1)
    cluster.say("node0")
    sampler.turn()
    cluster.leader = "node1"
    cluster.say("node0", term=2)
    cluster.say("node1", term=2)
    sampler.turn()
    spans = list(sampler.timeline.leaders)
    assert [(span.slot, span.term) for span in spans] == [(0, 1), (1, 2)]
    assert spans[0].start_ms == clock_ms(now - 50 * MS), "from its election on, not from when it was noticed"
    assert sampler.who_leads(now) == "node0"


@pytest.mark.parametrize("gap", ["no leader was heard", "no row was made"])
def test_who_leads_is_not_told_of_a_time_that_was_not_seen(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    """The span reached across it when the same node led again in its term."""
    now = time.time_ns()
    at_s = [now / 1e9]
    monkeypatch.setattr(time, "time_ns", lambda: round(at_s[0] * 1e9))
    monkeypatch.setattr(time, "monotonic", lambda: at_s[0])

    def row(after_s: float, says: bool = True) -> None:
        at_s[0] += after_s
        if says:
            cluster.say("node0")
        sampler.turn()

    cluster.happen("elected", "node0", now - 50 * MS, term=1)
    for _ in range(2):
        row(0.1)
    if gap == "no leader was heard":
        for _ in range(29):
            row(0.1, says=False)
        row(0.1)
    else:
        row(3.0)
    row(0.1)
    first, second = sampler.timeline.leaders
    assert (first.slot, first.term) == (second.slot, second.term)
    assert first.start_ms == clock_ms(now - 50 * MS)
    assert second.start_ms - first.end_ms >= 2_000
    assert second.end_ms > second.start_ms
    assert sampler.who_leads(now + 2_000 * MS) == ""


def test_of_two_nodes_that_claim_to_lead_the_higher_term_does(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that was cut off does not know that it was deposed."""
    assert sampler.who_leads() == ""
    cluster.say("node0", role="leader", term=4)
    cluster.say("node1", role="leader", term=5)
    cluster.say("node2", role="candidate", term=6)
    sampler.turn()
    assert sampler.who_leads() == "node1"
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 2 * STALE_S)
    assert sampler.who_leads() == "", "neither has been heard since"


def test_a_silence_is_a_band(cluster: FakeCluster, sampler: Sampler) -> None:
    start = time.time_ns()
    cluster.load(time_ns=start, silence_ms=200.0, gap_ms=200.0, acknowledged=0)
    sampler.turn()
    (band,) = sampler.timeline.silences
    assert band.end_ms is None
    cluster.load(time_ns=start + 100 * MS, silence_ms=3.0, gap_ms=260.0)
    sampler.turn()
    (band,) = sampler.timeline.silences
    assert band.start_ms == pytest.approx(clock_ms(start) - 200)
    assert band.end_ms == pytest.approx(clock_ms(start) + 60)
    assert "260 ms" in band.label


def later(monkeypatch: pytest.MonkeyPatch, after_s: float) -> None:
    """The monotonic clock, by which loads fall silent, goes forward."""
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + after_s)


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_the_silence_of_a_load_that_is_gone_is_over(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its band stayed open over healthy time, and the next load's first silence took it over."""
    start = time.time_ns()
    silent = {"pid": 1, "acknowledged": 0, "silence_ms": 200.0, "gap_ms": 200.0}
    cluster.load(time_ns=start, **silent, state="ended" if how == "ends" else "running")
    sampler.turn()
    later(monkeypatch, 2 * STALE_S)
    sampler.turn()
    (band,) = sampler.timeline.silences
    assert band.end_ms == pytest.approx(clock_ms(start))
    cluster.load(pid=2, time_ns=start + 5_000 * MS, silence_ms=2.0, gap_ms=300.0)
    sampler.turn()
    first, second = sampler.timeline.silences
    assert first == band
    assert second.start_ms == pytest.approx(clock_ms(start) + 4_700)
    assert second.end_ms == pytest.approx(clock_ms(start) + 5_000)


def test_each_load_client_has_its_own_silence(cluster: FakeCluster, sampler: Sampler) -> None:
    start = time.time_ns()
    cluster.load(pid=1, time_ns=start, silence_ms=500.0, gap_ms=500.0)
    cluster.load(pid=2, time_ns=start, silence_ms=200.0, gap_ms=200.0)
    cluster.load(pid=1, time_ns=start + 100 * MS, silence_ms=2.0, gap_ms=550.0)
    sampler.turn()
    first, second = sampler.timeline.silences
    assert (first.start_ms, first.end_ms) == pytest.approx((clock_ms(start) - 500, clock_ms(start) + 50))
    assert (second.start_ms, second.end_ms) == (pytest.approx(clock_ms(start) - 200), None)
    cluster.load(pid=2, time_ns=start + 100 * MS, gap_ms=3.0)
    sampler.turn()
    assert sampler.timeline.silences[1].end_ms == pytest.approx(clock_ms(start)), "a snapshot was lost"


def test_a_silence_goes_on_when_its_load_client_is_heard_again(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was starved, or a signal stopped it."""
    start = time.time_ns()
    cluster.load(time_ns=start, silence_ms=200.0, gap_ms=200.0)
    sampler.turn()
    later(monkeypatch, 2 * STALE_S)
    sampler.turn()
    cluster.load(time_ns=start + 1_000 * MS, interval_s=1.0, silence_ms=1_200.0, gap_ms=1_200.0)
    sampler.turn()
    (band,) = sampler.timeline.silences
    assert (band.start_ms, band.end_ms) == (pytest.approx(clock_ms(start) - 200), None)


def test_a_watcher_that_fails_is_told_of_at_the_end(cluster: FakeCluster) -> None:
    sampler = Sampler(cluster, interval_s=0.01).start()  # type: ignore[arg-type]

    def fail() -> None:
        raise RuntimeError("the watcher failed")

    others: list[int] = []
    sampler.on_tick(fail)
    sampler.on_tick(lambda: others.append(1))
    deadline = time.monotonic() + 60
    while len(others) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(others) >= 3, "the others go on"
    with pytest.raises(RuntimeError, match="the watcher failed"):
        sampler.close()


def test_a_watcher_that_fails_does_not_end_the_sampler(cluster: FakeCluster, sampler: Sampler) -> None:
    """The panel's buttons were disabled, and the next widget had a second sampler beside the first one."""

    def fail() -> None:
        raise RuntimeError("the watcher failed")

    table = NodeTable(cast(Cluster, cluster))
    sampler.on_tick(fail)
    for _ in range(2):
        sampler.turn()
        sampler._tell()
    assert sampler.alive
    assert sampler_of(cast(Cluster, cluster)) is sampler
    assert table.make_state()["alive"]
    assert "the watcher failed" in table._problem
    assert isinstance(problem_of(cast(Cluster, cluster)), RuntimeError)
    table.close()
    with pytest.raises(RuntimeError, match="the watcher failed"):
        sampler.check()
    sampler.failure = None


def test_a_thread_that_dies_is_told_of_at_the_end(cluster: FakeCluster) -> None:
    sampler = Sampler(cluster, interval_s=0.01)  # type: ignore[arg-type]
    cluster.nodes = None  # type: ignore[assignment]
    sampler.start()
    sampler._thread.join(30)
    assert not sampler.alive
    with pytest.raises(TypeError):
        sampler.close()
