"""Several load generators as one: counters are added, histograms are merged, and clocks are kept apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zmqlab.errors import SettingsError
from zmqlab.histogram import Histogram
from zmqlab.load.load_messages import (
    FINE_NS,
    GroupShare,
    LoadCounters,
    LoadMetrics,
    LoadResult,
    OpenOutcome,
    ReadOutcome,
    Second,
)
from zmqlab.load.load_report import LoadReport
from zmqlab.load.load_settings import LoadSettings, Stage
from zmqlab.load.merged_load import Part, merged_metrics, merged_result, placed, share_of
from zmqlab.load.run_record import RECORD, read_ledger

S, MS = 1_000_000_000, 1_000_000
SETTINGS = LoadSettings(nodes=("tcp://127.0.0.1:5002",), rate=900.0, seed=7, book_reads=5, ledger_limit=3_000)


def histogram(*values_ms: int) -> tuple[dict[str, int], int]:
    made = Histogram()
    made.record_many(value * MS for value in values_ms)
    return made.to_sparse(), made.max


def snapshot(orders: int, *values_ms: int, state: str = "running", **more: object) -> LoadMetrics:
    response, longest = histogram(*values_ms)
    return LoadMetrics(
        **{
            "name": "load",
            "pid": 1,
            "time_ns": 10 * S,
            "elapsed_s": 1.0,
            "interval_s": 0.1,
            "state": state,
            "rate": 300.0,
            "total": LoadCounters(acknowledged=orders, sent=orders),
            "interval": LoadCounters(acknowledged=len(values_ms)),
            "response_time": response,
            "response_time_max_ns": longest,
            "service_time": response,
            "service_time_max_ns": longest,
            "outstanding": 2,
            "resting": 10,
            "endpoints": ["tcp://a:1", "tcp://b:1"],
            "connected": [True, False],
            "orders_by_node": [orders, 0],
            "rejected_by_reason": {"zero": 1},
            "silence_ms": 0.0,
            "longest_gap_ms": 5.0,
            "cpu_percent": 50.0,
            **more,
        }  # type: ignore[arg-type]
    )


def result(clients: list[int], started_ns: int, values_ms: tuple[int, ...], **more: object) -> LoadResult:
    """Of a generator whose ledger is on a clock that began at its start, at 1,000 seconds."""
    response, longest = histogram(*values_ms)
    rows = np.zeros(len(values_ms), RECORD)
    rows["client_id"], rows["log_index"] = clients[0], range(1, len(values_ms) + 1)
    rows["invoked_ns"] = [1_000 * S + place * 10 * MS for place in range(len(values_ms))]
    rows["completed_ns"] = rows["invoked_ns"] + np.array(values_ms) * MS
    counters = LoadCounters(offered=5, sent=5, acknowledged=5, requests=len(values_ms))
    second = Second(
        start_s=0.0,
        length_s=1.0,
        counters=counters,
        response_time=response,
        response_time_max_ns=longest,
        service_time=response,
        service_time_max_ns=longest,
    )
    return LoadResult(
        **{
            "name": "load",
            "settings": SETTINGS.to_dict(),
            "client_ids": clients,
            "started_ns": started_ns,
            "started_monotonic_ns": 1_000 * S,
            "sending_s": 1.0,
            "elapsed_s": 1.0,
            "closed_loop": False,
            "total": counters,
            "response_time": response,
            "response_time_max_ns": longest,
            "service_time": response,
            "service_time_max_ns": longest,
            "seconds": [second],
            "ledger": rows.tobytes(),
            **more,
        }  # type: ignore[arg-type]
    )


def test_each_generator_gets_an_equal_share_and_chance_of_its_own() -> None:
    staged = replace(SETTINGS, stages=(Stage(0.0, 900.0), Stage(1.0, 300.0)))
    shares = [share_of(staged, number, 3) for number in range(3)]
    assert [share.rate for share in shares] == [300.0] * 3
    assert [stage.rate for stage in shares[1].stages] == [300.0, 100.0]
    assert [share.seed for share in shares] == [7, 8, 9]
    assert [share.book_reads for share in shares] == [5, 0, 0], "a read has no session by which to know its clock"
    assert [share.ledger_limit for share in shares] == [1_000] * 3
    assert len({share.name for share in shares}) == 3
    assert share_of(SETTINGS, 0, 1) == SETTINGS
    assert share_of(replace(SETTINGS, rate=None), 0, 2).rate is None
    with pytest.raises(SettingsError, match="generators"):
        share_of(replace(SETTINGS, history="h"), 0, 2)


def test_snapshots_become_one() -> None:
    first, second = snapshot(10, 1, 2), snapshot(20, 100, endpoints=["tcp://b:1", "tcp://c:1"])
    merged = merged_metrics([first, second], [first, second], name="load", pid=-1, time_ns=7, interval_s=0.1)
    assert (merged.total.acknowledged, merged.interval.acknowledged, merged.rate) == (30, 3, 600.0)
    together = Histogram.from_sparse(merged.response_time, merged.response_time_max_ns)
    assert (together.count, together.max) == (3, 100 * MS)
    assert merged.endpoints == ["tcp://a:1", "tcp://b:1", "tcp://c:1"]
    assert merged.orders_by_node == [10, 20, 0]
    assert merged.connected == [True, True, False]
    assert (merged.pid, merged.time_ns, merged.outstanding, merged.resting) == (-1, 7, 4, 20)
    assert merged.rejected_by_reason == {"zero": 2}


def test_a_load_runs_for_as_long_as_one_of_its_generators() -> None:
    ended, running = snapshot(1, state="ended"), snapshot(1)
    assert merged_metrics([ended, running], [running], name="", pid=0, time_ns=0, interval_s=1).state == "running"
    assert merged_metrics([ended, ended], [ended], name="", pid=0, time_ns=0, interval_s=1).state == "ended"


def test_fine_figures_are_added_where_they_meet_on_the_readers_clock() -> None:
    here = snapshot(1, fine_from_ns=100 * FINE_NS, fine=[1, 2, 3])
    ahead = placed(snapshot(1, fine_from_ns=151 * FINE_NS, fine=[5, 5]), 50 * FINE_NS)
    merged = merged_metrics([here, ahead], [here, ahead], name="", pid=0, time_ns=0, interval_s=1)
    assert (merged.fine_from_ns, merged.fine) == (100 * FINE_NS, [1, 7, 8])
    assert ahead.time_ns == 10 * S - 50 * FINE_NS


def test_results_become_one_whose_percentiles_are_of_all() -> None:
    fast = result([1], 100 * S, (1,) * 99)
    slow = result([2, 3], 160 * S + 20 * MS, (500,), longest_gap_ms=80.0, longest_gap_at_s=0.5, cpu_s=1.5)
    merged = merged_result(SETTINGS, [Part(fast, 0, "a"), Part(slow, 60 * S, "b")])
    report = LoadReport(merged)
    assert report.response_histogram.count == 100
    assert report.response_time.p99_ms < 2, "1 of 100 is slow; the mean of both p99 would be 250 ms"
    assert report.response_time.max_ms == 500
    assert merged.client_ids == [1, 2, 3]
    assert (merged.started_ns, merged.total.acknowledged) == (100 * S, 10)
    assert merged.elapsed_s == pytest.approx(1.02), "the second began 20 ms later, on the reader's clock"
    assert (merged.longest_gap_ms, merged.longest_gap_at_s) == (80.0, pytest.approx(0.52))
    assert merged.seconds[0].counters.acknowledged == 10


def test_a_ledger_keeps_each_clock_apart_and_durations_exact() -> None:
    first = result([1], 100 * S, (5, 7))
    second = result(
        [2],
        160 * S,
        (9,),
        open_requests=[OpenOutcome(2, 4, 1, 1_000 * S)],
        book_reads=[ReadOutcome("A", 1, 1, 1_000 * S, 1_001 * S, 0)],
    )
    merged = merged_result(SETTINGS, [Part(first, 0, "a"), Part(second, 60 * S, "b")])
    rows = read_ledger(merged.ledger)
    assert rows["clock"].tolist() == [0, 0, 1]
    assert (rows["completed_ns"] - rows["invoked_ns"]).tolist() == [5 * MS, 7 * MS, 9 * MS]
    assert rows["invoked_ns"].tolist() == [100 * S, 100 * S + 10 * MS, 100 * S]
    assert merged.open_requests[0].invoked_ns == merged.book_reads[0].invoked_ns == 100 * S
    assert read_ledger(first.ledger)["clock"].tolist() == [0, 0], "the parts stay as they are"


def test_what_a_generator_met_is_said_with_its_machine() -> None:
    parts = [Part(result([1], S, (1,)), 0, "a"), Part(result([2], S, (1,), problem="was killed"), 0, "b")]
    assert merged_result(SETTINGS, parts, ["c is gone"]).problem == "c is gone; on b: was killed"


def test_what_each_raft_group_did_is_added_up_and_its_gap_is_one_generators() -> None:
    first = snapshot(
        1, groups=[GroupShare(group=0, requests=2, acknowledged=5, longest_gap_ms=9.0, longest_gap_at_s=1)]
    )
    second = snapshot(
        1,
        groups=[
            GroupShare(group=1, requests=1, outstanding=3),
            GroupShare(group=0, requests=1, gap_ms=3.0, longest_gap_ms=4.0),
        ],
    )
    merged = merged_metrics([first, second], [first], name="", pid=0, time_ns=0, interval_s=1)
    assert [each.gap_ms for each in merged.groups] == [0.0, 0.0], "only the first has told something new"
    both = merged_metrics([first, second], [first, second], name="", pid=0, time_ns=0, interval_s=1)
    assert [each.gap_ms for each in both.groups] == [3.0, 0.0]
    assert [(each.group, each.requests, each.acknowledged) for each in merged.groups] == [(0, 3, 5), (1, 1, 0)]
    assert (merged.groups[0].longest_gap_ms, merged.groups[0].longest_gap_at_s) == (9.0, 1)
    assert merged.groups[1].outstanding == 3
    results = [result([1], S, (1,), client_groups=[0]), result([1, 2], S, (1,), client_groups=[0, 1])]
    assert merged_result(SETTINGS, [Part(each, 0, "a") for each in results]).client_groups == [0, 0, 1]
