"""A result as people read it: throughput, latencies, what went wrong. docs/measuring.md explains every figure.

Throughput is the number of acknowledged orders, over the time from the first intended send to the last acknowledgement.
Latencies are read from the histograms of the whole run. Orders that were never answered are in no histogram; the report
says how many there were, because the latencies would flatter otherwise.

:class:`LoadFigures` are those of a run that goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zmqlab.histogram import HdrLine, Histogram, write_hdr_log
from zmqlab.load.load_messages import LoadMetrics, LoadResult

NS_PER_MS = 1_000_000
LATE_SHARE = 0.01
"""If more than one order in a hundred was late, the run has measured the generator and not the cluster."""


class LatencySummary(NamedTuple):
    """Milliseconds, from one histogram."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p99_9_ms: float
    max_ms: float

    @classmethod
    def of(cls, histogram: Histogram) -> LatencySummary:
        """Zeros for an empty histogram."""
        figures = [*histogram.percentiles((50, 90, 99, 99.9)), histogram.max]
        return cls(*(figure / NS_PER_MS for figure in figures))

    def __str__(self) -> str:
        return (
            f"p50 {self.p50_ms:.2f}  p90 {self.p90_ms:.2f}  p99 {self.p99_ms:.2f}  p99.9 {self.p99_9_ms:.2f}  "
            f"max {self.max_ms:.2f} ms"
        )


class LoadReport:
    """Figures of one :class:`~zmqlab.load.load_messages.LoadResult`."""

    def __init__(self, result: LoadResult) -> None:
        self.result = result
        self.response_histogram = Histogram.from_sparse(result.response_time, result.response_time_max_ns)
        self.service_histogram = Histogram.from_sparse(result.service_time, result.service_time_max_ns)
        self.response_time = LatencySummary.of(self.response_histogram)
        self.service_time = LatencySummary.of(self.service_histogram)

    @property
    def throughput(self) -> float:
        """Orders acknowledged a second, over the run."""
        return self.result.total.acknowledged / self.result.elapsed_s if self.result.elapsed_s > 0 else 0.0

    @property
    def unanswered(self) -> int:
        """Orders that were handed to a socket and never answered; their outcome is unknown."""
        return sum(each.orders for each in self.result.open_requests)

    @property
    def unsent(self) -> int:
        """Orders that were due and never handed to a socket, because the run ended first."""
        return self.result.total.offered - self.result.total.sent

    @property
    def generator_limited(self) -> bool:
        """Whether the generator was too slow, so that the figures say little about the cluster."""
        return self.result.total.late > LATE_SHARE * max(self.result.total.sent, 1)

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before believing the figures."""
        result, total = self.result, self.result.total
        found = []
        if result.problem:
            found.append(f"the run ended early: {result.problem}")
        if result.history_problem:
            found.append(result.history_problem)
        if result.closed_loop:
            found.append('closed loop (rate "max"): response time is service time')
        if self.generator_limited:
            found.append(f"the generator was the limit: {total.late:,} of {total.sent:,} orders were sent late")
        if self.unanswered:
            found.append(f"{self.unanswered:,} orders were never answered and are in no histogram")
        if self.unsent:
            found.append(f"{self.unsent:,} orders were due and never sent")
        if total.failed:
            found.append(f"{total.failed:,} orders got no report: stale or malformed requests")
        if result.unremembered:
            found.append(f"{result.unremembered:,} acknowledged requests are not in the ledger")
        return found

    def figures(self) -> list[tuple[str, str]]:
        """Names and values, in the order in which they are shown."""
        result, total = self.result, self.result.total
        rows = [
            ("throughput", f"{self.throughput:,.0f} orders/s acknowledged, over {result.elapsed_s:.2f} s"),
            ("response time", str(self.response_time)),
            ("service time", str(self.service_time)),
            ("orders", f"{total.offered:,} offered, {total.sent:,} sent, {total.acknowledged:,} acknowledged"),
            ("outcomes", f"{total.filled:,} filled on arrival ({total.fills:,} fills), {total.rejected:,} rejected"),
            ("longest gap", f"{result.longest_gap_ms:.1f} ms, at {result.longest_gap_at_s:.2f} s"),
            ("late", f"{total.late:,} by the generator, {total.held_back:,} held back by the cluster"),
            ("retries", f"{total.retries:,}, {total.failovers:,} failovers, {total.replayed:,} replayed answers"),
        ]
        if result.rejected_by_reason:
            reasons = sorted(result.rejected_by_reason.items(), key=lambda item: -item[1])
            rows.append(("rejected for", ", ".join(f"{reason} {count:,}" for reason, count in reasons)))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        result = self.result
        return {
            "throughput": self.throughput,
            "elapsed_s": result.elapsed_s,
            "response_time": self.response_time._asdict(),
            "service_time": self.service_time._asdict(),
            "counters": msgspec.to_builtins(result.total),
            "rejected_by_reason": result.rejected_by_reason,
            "orders_by_node": result.orders_by_node,
            "longest_gap_ms": result.longest_gap_ms,
            "unanswered": self.unanswered,
            "unsent": self.unsent,
            "closed_loop": result.closed_loop,
            "generator_limited": self.generator_limited,
            "warnings": self.warnings,
            "settings": result.settings,
        }

    def export_hdr(self, path: str | Path) -> None:
        """Both latencies, second by second, as an HdrHistogram log (V2) for other tools. Values are nanoseconds."""
        lines = []
        for second in self.result.seconds:
            for tag in ("response_time", "service_time"):
                histogram = Histogram.from_sparse(getattr(second, tag), getattr(second, tag + "_max_ns"))
                lines.append(HdrLine(tag, second.start_s, second.length_s, histogram))
        write_hdr_log(path, lines, self.result.started_ns, f"zmqlab {self.result.name}")

    def __repr__(self) -> str:
        lines = [f"{name:<14} {value}" for name, value in self.figures()]
        return "\n".join([*lines, *(f"note: {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self.figures()
        )
        notes = "".join(f"<li>{escape(warning)}</li>" for warning in self.warnings)
        return f"<table>{rows}</table>" + (f"<ul>{notes}</ul>" if notes else "")


class LoadFigures(NamedTuple):
    """How a run goes, over about the last second."""

    state: str
    """``running``, ``draining`` or ``ended``."""
    elapsed_s: float
    rate: float
    """Orders acknowledged a second."""
    p50_ms: float
    """Response time."""
    p99_ms: float
    offered: int
    """Orders since the start, like the next."""
    acknowledged: int
    outstanding: int
    """Requests that wait for their answer."""


def figures_of(recent: Sequence[LoadMetrics]) -> LoadFigures | None:
    """The figures of these snapshots, oldest first; None if there is none."""
    if not recent:
        return None
    merged = Histogram()
    for each in recent:
        merged.merge(Histogram.from_sparse(each.response_time, each.response_time_max_ns))
    p50_ns, p99_ns = merged.percentiles((50, 99))
    newest = recent[-1]
    over_s = sum(each.interval_s for each in recent) or 1.0
    return LoadFigures(
        state=newest.state,
        elapsed_s=newest.elapsed_s,
        rate=sum(each.interval.acknowledged for each in recent) / over_s,
        p50_ms=p50_ns / 1e6,
        p99_ms=p99_ns / 1e6,
        offered=newest.total.offered,
        acknowledged=newest.total.acknowledged,
        outstanding=newest.outstanding,
    )
