"""Thresholds on the figures of a run: ``p99>10ms`` fails a run whose p99 was above ten milliseconds, as k6 has them.

A threshold says what must *not* be: a metric, one of ``>``, ``>=``, ``<``, ``<=``, and a number with its unit.

====================================  ===========================================================  ================
metric                                what it is                                                   unit
====================================  ===========================================================  ================
p50, p90, p99, p99.9, max             response time                                                us, ms, s
service_p50 ... service_max           service time                                                 us, ms, s
gap                                   the longest time in which answers were owed and none came    us, ms, s
group_gap                             the same of that Raft group for which it was longest         us, ms, s
groups_waited                         Raft groups with such a time of more than 150 ms             none
unserved, failed, unanswered, unsent  orders; docs/measuring.md says what each counts              none, or % of
refused, rejected, late, held_back                                                                 those offered
throughput                            orders acknowledged a second                                 none; 20k is 20000
retries, elections                    how many                                                     none
====================================  ===========================================================  ================

A threshold is no promise: it is on how fast and how much, a verdict on right and wrong. So both are told, side by side.
A metric that nothing was measured for, such as the p99 of no answer, crosses no threshold and keeps none: it is not
known.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zmqlab.errors import SettingsError
from zmqlab.load.load_report import LatencySummary, LoadReport

TIMES = ("p50", "p90", "p99", "p99.9", "max")
"""In the order of :class:`LatencySummary`."""
COUNTS = ("unserved", "failed", "unanswered", "unsent", "refused", "rejected", "late", "held_back")
PLAIN_COUNTS = ("throughput", "retries", "elections", "groups_waited")
"""Of which no share is told."""
WAITED_MS = 150.0
"""A busy machine causes shorter gaps; an election takes 200 ms and more."""
METRICS = (*TIMES, *(f"service_{name}" for name in TIMES), "gap", "group_gap", *COUNTS, *PLAIN_COUNTS)
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_IN_MS = {"us": 0.001, "ms": 1.0, "s": 1_000.0}
_FACTORS = {"": 1.0, "k": 1_000.0, "m": 1_000_000.0}
_FORM = re.compile(r"\s*([a-z_0-9.]+)\s*(>=|<=|>|<)\s*([0-9]*\.?[0-9]+)\s*([a-z%]*)\s*")


class ThresholdCheck(NamedTuple):
    """One threshold, and what the run says to it."""

    expression: str
    ok: bool | None
    """False: it was crossed. None: nothing was measured."""
    detail: str
    """The figure as it was."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a figure must not be; made by :func:`parse_thresholds`."""

    expression: str
    metric: str
    comparison: str
    limit: float
    """Milliseconds for a time; for a share, percent."""
    unit: str
    """``ms``, ``%`` or nothing."""

    def check(self, report: LoadReport, elections: int) -> ThresholdCheck:
        """Look at the figures of a run."""
        value = _figures(report, elections)[self.metric]
        if self.unit == "%" and value is not None:
            value = 100 * value / report.result.total.offered if report.result.total.offered else None
        if value is None:
            return ThresholdCheck(self.expression, None, f"{self.metric} is not known: nothing was measured")
        crossed = COMPARE[self.comparison](value, self.limit)
        return ThresholdCheck(self.expression, not crossed, f"{self.metric} {_shown(value, self.unit)}")


def parse_thresholds(expressions: Iterable[str]) -> tuple[Threshold, ...]:
    """The thresholds that were written as ``p99>10ms``, ``unserved>0.1%``, ``throughput<20k``.

    Raises:
        SettingsError: one can't be read; the message says what can be written.
    """
    if isinstance(expressions, str):
        expressions = (expressions,)
    return tuple(map(_parse, expressions))


def crossed(checks: Sequence[ThresholdCheck]) -> bool:
    """Whether any threshold was crossed."""
    return any(check.ok is False for check in checks)


def _parse(expression: str) -> Threshold:
    form = _FORM.fullmatch(expression.lower()) if isinstance(expression, str) else None
    if form is None:
        raise _unreadable(expression, "it is not METRIC>NUMBER, as in p99>10ms or unserved>0.1%")
    metric, comparison, number, unit = form.groups()
    metric = metric.replace("p99_9", "p99.9")
    if metric not in METRICS:
        raise _unreadable(expression, f"there is no metric {metric}")
    if metric in COUNTS and unit == "%":
        return Threshold(expression, metric, comparison, float(number), "%")
    units: Mapping[str, float] = _FACTORS if _counts(metric) else _IN_MS
    if unit not in units:
        right = "a number, or a share in %" if metric in COUNTS else "a number" if _counts(metric) else "us, ms or s"
        raise _unreadable(expression, f"the unit of {metric} is {right}")
    return Threshold(expression, metric, comparison, float(number) * units[unit], "" if _counts(metric) else "ms")


def _counts(metric: str) -> bool:
    return metric in COUNTS or metric in PLAIN_COUNTS


def _unreadable(expression: object, why: str) -> SettingsError:
    return SettingsError(f"threshold {expression!r} can't be read: {why}. Metrics: {', '.join(METRICS)}")


def _figures(report: LoadReport, elections: int) -> dict[str, float | None]:
    """Every metric; None for what was not measured."""
    total = report.result.total
    times = _times("", report.response_time) | _times("service_", report.service_time)
    counts = {"unserved": report.unserved, "unanswered": report.unanswered, "unsent": report.unsent}
    counts |= {name: getattr(total, name) for name in ("failed", "refused", "rejected", "late", "held_back", "retries")}
    others = {"gap": report.result.longest_gap_ms, "throughput": report.throughput, "elections": elections}
    gaps = [share.longest_gap_ms for share in report.result.groups] or [report.result.longest_gap_ms]
    others |= {"group_gap": max(gaps), "groups_waited": sum(gap_ms > WAITED_MS for gap_ms in gaps)}
    return times | counts | others


def _times(prefix: str, summary: LatencySummary) -> dict[str, float | None]:
    return {prefix + name: value if summary.measured else None for name, value in zip(TIMES, summary, strict=True)}


def _shown(value: float, unit: str) -> str:
    if unit:
        return f"{value:,.2f} {unit}"
    return f"{value:,.0f}"
