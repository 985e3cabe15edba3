"""Thresholds on the figures of a run: what can be written, when one is crossed, and what a command ends with."""

from __future__ import annotations

import re

import pytest

from zmqlab.errors import EXIT_FAILED, EXIT_NOT_JUDGED, EXIT_OK, EXIT_THRESHOLD, SettingsError
from zmqlab.histogram import Histogram
from zmqlab.judge.promises import Check
from zmqlab.judge.thresholds import METRICS, parse_thresholds
from zmqlab.judge.verdict import LoadResult, Verdict
from zmqlab.load.load_messages import LoadCounters, OpenOutcome
from zmqlab.load.load_messages import LoadResult as Outcome
from zmqlab.load.load_report import LoadReport
from zmqlab.tables import StatusTable

PASSED = Verdict((Check("nothing lost", True, ""),), "all")
FAILED = Verdict((Check("nothing lost", False, ""),), "all")
NOT_JUDGED = Verdict((Check("nothing lost", None, ""),), "all")


def outcome(*, answered: bool = True) -> Outcome:
    """A thousand orders of which twenty were not served, over two seconds; or nothing at all."""
    times = Histogram()
    if answered:
        times.record(2_000_000, 970)
        times.record(50_000_000, 10)
    total = LoadCounters(offered=1_000, sent=990, acknowledged=980, failed=10, rejected=98, retries=3)
    return Outcome(
        name="load",
        settings={},
        client_ids=[1],
        started_ns=0,
        started_monotonic_ns=0,
        sending_s=2.0,
        elapsed_s=2.0,
        closed_loop=False,
        total=total if answered else LoadCounters(offered=1_000),
        response_time=times.to_sparse(),
        response_time_max_ns=times.max,
        service_time=times.to_sparse(),
        service_time_max_ns=times.max,
        open_requests=[OpenOutcome(1, 9, 10, 0)] if answered else [],
        longest_gap_ms=120.0,
    )


def result(fail_if: list[str], verdict: Verdict = PASSED, *, answered: bool = True) -> LoadResult:
    return LoadResult(outcome(answered=answered), verdict, StatusTable(), 1, parse_thresholds(fail_if))


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("p99>10ms", False),
        ("p99>60ms", True),
        ("p50>2100us", True),
        ("p50 > 0.001s", False),
        ("P99.9>=1s", True),
        ("p99_9>10ms", False),
        ("max<1s", False),
        ("service_p99>10ms", False),
        ("gap>100ms", False),
        ("gap>200ms", True),
        ("unserved>0.1%", False),
        ("unserved>2%", True),
        ("unserved>=2%", False),
        ("unserved>20", True),
        ("failed>9", False),
        ("unanswered>9", False),
        ("unsent>9", False),
        ("rejected>10%", True),
        ("throughput<1k", False),
        ("throughput<400", True),
        ("retries>2", False),
        ("elections>1", True),
    ],
)
def test_a_threshold_is_crossed_or_kept(expression: str, kept: bool) -> None:
    (check,) = result([expression]).thresholds
    assert check.ok is kept
    assert check.expression == expression
    assert re.search(r"\d", check.detail), "it says the figure"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("p99", "it is not METRIC>NUMBER"),
        ("p99>", "it is not METRIC>NUMBER"),
        ("p99=5ms", "it is not METRIC>NUMBER"),
        ("", "it is not METRIC>NUMBER"),
        ("p98>5ms", "there is no metric p98"),
        ("p99>5", "the unit of p99 is us, ms or s"),
        ("p99>5%", "the unit of p99 is us, ms or s"),
        ("unserved>5ms", "the unit of unserved is a number, or a share in %"),
        ("throughput<5%", "the unit of throughput is a number"),
        (5, "it is not METRIC>NUMBER"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line_with_what_can(expression: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_thresholds([expression])
    assert said in str(raised.value)
    assert ", ".join(METRICS) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_metric_has_a_figure() -> None:
    for metric in METRICS:
        unit = "ms" if metric.split("_")[-1] in ("p50", "p90", "p99", "p99.9", "max", "gap") else ""
        assert result([f"{metric}>1000000{unit}"]).thresholds[0].ok is True, metric


def test_a_latency_of_nothing_crosses_no_threshold_and_keeps_none() -> None:
    nothing = result(["p99>10ms", "unserved>0.1%"], NOT_JUDGED, answered=False)
    assert [check.ok for check in nothing.thresholds] == [None, False]
    assert "nothing was measured" in nothing.thresholds[0].detail
    assert result(["p99>10ms"], PASSED, answered=False).exit_status == EXIT_NOT_JUDGED


@pytest.mark.parametrize(
    ("verdict", "fail_if", "status"),
    [
        (PASSED, [], EXIT_OK),
        (PASSED, ["p99>1s"], EXIT_OK),
        (PASSED, ["p99>1s", "p99>10ms"], EXIT_THRESHOLD),
        (FAILED, ["p99>10ms"], EXIT_FAILED),
        (NOT_JUDGED, ["p99>10ms"], EXIT_THRESHOLD),
        (NOT_JUDGED, ["p99>1s"], EXIT_NOT_JUDGED),
    ],
)
def test_a_command_ends_with_what_is_worst(verdict: Verdict, fail_if: list[str], status: int) -> None:
    judged = result(fail_if, verdict)
    assert judged.exit_status == status
    assert judged.ok is (status == EXIT_OK)


def test_thresholds_are_shown_wherever_a_result_is() -> None:
    shown = result(["p99>10ms", "unserved>50%"])
    assert "thresholds:\n  CROSSED p99>10ms: p99 50." in repr(shown)
    assert "ok      unserved>50%: unserved 2.00 %" in repr(shown)
    assert "CROSSED" in shown._repr_html_()
    assert [each["ok"] for each in shown.as_dict()["thresholds"]] == [False, True]
    assert "thresholds" not in repr(result([]))


def test_every_order_is_acknowledged_failed_or_never_sent() -> None:
    """``failed`` was 0 for a run in which most orders got no answer."""
    report = LoadReport(outcome())
    assert (report.unserved, report.unanswered, report.unsent) == (20, 10, 10)
    assert "unserved       20: 10 failed, 10 never sent" in repr(report)
    assert report.to_dict()["unserved"] == 20


def test_a_latency_of_nothing_is_a_dash() -> None:
    """It was 0.00 ms."""
    nothing = LoadReport(outcome(answered=False))
    assert "p50 -  p90 -  p99 -  p99.9 -  max - ms" in repr(nothing)
    assert nothing.to_dict()["response_time"]["p50_ms"] is None
