"""A result as people read it: throughput, latencies, what went wrong. docs/measuring.md explains every figure.

Throughput is the number of acknowledged orders, over the time from the first intended send to the last acknowledgement.
Latencies are read from the histograms of the whole run. Orders that were never answered are in no histogram; the report
says how many there were, because the latencies would flatter otherwise.

Every order that was offered ends in one of three ways: *acknowledged*, *failed* (sent, and no report came) or *unsent*.
The last two together are *unserved*. A *rejected* order is acknowledged: the cluster did with it what the rules say.

:class:`LoadFigures` is the same for a run that goes on, over its last second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zmqlab.histogram import HdrLine, Histogram, write_hdr_log
from zmqlab.load.load_messages import LoadMetrics, LoadResult, Second
from zmqlab.wording import WHY_REFUSED, counted, refused

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
        """Zeros for an empty histogram. No latency is zero: :attr:`measured` tells them apart."""
        figures = [*histogram.percentiles((50, 90, 99, 99.9)), histogram.max]
        return cls(*(figure / NS_PER_MS for figure in figures))

    @property
    def measured(self) -> bool:
        """Whether there was anything to measure."""
        return self.max_ms > 0

    def as_dict(self) -> dict[str, float | None]:
        """For JSON; None where nothing was measured."""
        return {name: value if self.measured else None for name, value in self._asdict().items()}

    def __str__(self) -> str:
        p50, p90, p99, p99_9, longest = map(text_of_ms, self)
        return f"p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p99_9}  max {longest} ms"


def text_of_ms(latency_ms: float) -> str:
    """A latency as people read it; a dash if nothing was measured, because no latency is zero."""
    return f"{latency_ms:,.2f}" if latency_ms > 0 else "-"


def response_time_of(parts: Iterable[LoadMetrics | Second]) -> Histogram:
    """Response time over several snapshots or seconds."""
    return Histogram.merged(Histogram.from_sparse(each.response_time, each.response_time_max_ns) for each in parts)


def service_time_of(parts: Iterable[LoadMetrics | Second]) -> Histogram:
    """Service time over several snapshots or seconds."""
    return Histogram.merged(Histogram.from_sparse(each.service_time, each.service_time_max_ns) for each in parts)


class LoadFigures(NamedTuple):
    """How a run goes, over about the last second."""

    state: str
    """``running``, ``draining`` or ``ended``."""
    elapsed_s: float
    rate: float
    """Orders acknowledged a second."""
    p50_ms: float
    """Response time; 0 if nothing was acknowledged, like the next."""
    p99_ms: float
    offered: int
    """Orders since the start, like the next."""
    acknowledged: int
    outstanding: int
    """Requests that wait for their answer."""

    @classmethod
    def of(cls, snapshots: Sequence[LoadMetrics]) -> LoadFigures:
        """The figures of ``snapshots``, of which there is at least one."""
        newest = snapshots[-1]
        p50_ns, p99_ns = response_time_of(snapshots).percentiles((50, 99))
        over_s = sum(each.interval_s for each in snapshots) or 1.0
        return cls(
            state=newest.state,
            elapsed_s=newest.elapsed_s,
            rate=sum(each.interval.acknowledged for each in snapshots) / over_s,
            p50_ms=p50_ns / NS_PER_MS,
            p99_ms=p99_ns / NS_PER_MS,
            offered=newest.total.offered,
            acknowledged=newest.total.acknowledged,
            outstanding=newest.outstanding,
        )

    @property
    def latencies(self) -> str:
        """p50 and p99, with a dash for what was not measured."""
        return f"p50 {text_of_ms(self.p50_ms):>7} ms  p99 {text_of_ms(self.p99_ms):>7} ms"


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
    def orders_per_request(self) -> float:
        """Acknowledged orders in each acknowledged request, on average."""
        return self.result.total.acknowledged / max(self.result.total.requests, 1)

    @property
    def cpu_us_per_order(self) -> float:
        """CPU time of the load process for each acknowledged order; 0 if it did not tell, because it was killed."""
        return 1e6 * self.result.cpu_s / max(self.result.total.acknowledged, 1)

    @property
    def cpu_us_per_request(self) -> float:
        """The same for each acknowledged request."""
        return 1e6 * self.result.cpu_s / max(self.result.total.requests, 1)

    @property
    def unanswered(self) -> int:
        """Orders that were handed to a socket and never answered; their outcome is unknown."""
        return sum(each.orders for each in self.result.open_requests)

    @property
    def unsent(self) -> int:
        """Orders that were due and never handed to a socket, because the run ended first."""
        return self.result.total.offered - self.result.total.sent

    @property
    def unserved(self) -> int:
        """Orders that were offered and got no report, for whatever reason: failed or unsent."""
        return self.result.total.offered - self.result.total.acknowledged

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
        if result.requests_sent:
            found.append("no answer was waited for (ack none): response time ends when an order is handed to a socket")
        if self.generator_limited:
            found.append(f"the generator was the limit: {total.late:,} of {total.sent:,} orders were sent late")
        if self.unanswered:
            found.append(f"{counted(self.unanswered, 'order')} never answered, and in no histogram")
        if self.unsent:
            found.append(f"{counted(self.unsent, 'order')} due and never sent")
        if total.refused:
            found.append(f"{refused(total.refused)}: {WHY_REFUSED}")
        if result.unremembered:
            found.append(f"{counted(result.unremembered, 'acknowledged request')} not in the ledger")
        return found

    def figures(self) -> list[tuple[str, str]]:
        """Names and values, in the order in which they are shown."""
        result, total = self.result, self.result.total
        rows = [
            ("throughput", f"{self.throughput:,.0f} orders/s acknowledged, over {result.elapsed_s:.2f} s"),
            ("response time", str(self.response_time)),
            ("service time", str(self.service_time)),
            ("orders", f"{total.offered:,} offered, {total.sent:,} sent, {total.acknowledged:,} acknowledged"),
            ("unserved", f"{self.unserved:,}: {total.failed:,} failed, {self.unsent:,} never sent"),
            ("outcomes", f"{total.filled:,} filled on arrival ({total.fills:,} fills), {total.rejected:,} rejected"),
            ("longest gap", f"{result.longest_gap_ms:.1f} ms, at {result.longest_gap_at_s:.2f} s"),
            ("late", f"{total.late:,} by the generator, {total.held_back:,} held back by the cluster"),
            (
                "generator",
                f"{self.orders_per_request:.1f} orders a request; CPU {self.cpu_us_per_order:.1f} µs an order,"
                f" {self.cpu_us_per_request:.0f} µs a request",
            ),
            ("retries", f"{total.retries:,}, {total.failovers:,} failovers, {total.replayed:,} replayed answers"),
        ]
        if result.rejected_by_reason:
            reasons = sorted(result.rejected_by_reason.items(), key=lambda item: -item[1])
            rows.append(("rejected for", ", ".join(f"{reason} {count:,}" for reason, count in reasons)))
        return rows

    def group_cells(self) -> dict[str, tuple[str, str, str]]:
        """By the number of each of several Raft groups: orders acknowledged, the longest gap in ms, when that began."""
        return {
            str(each.group): (
                f"{each.acknowledged:,}",
                f"{each.longest_gap_ms:,.1f}",
                f"{each.longest_gap_at_s:.2f}",
            )
            for each in self.result.groups
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        result = self.result
        return {
            "throughput": self.throughput,
            "elapsed_s": result.elapsed_s,
            "response_time": self.response_time.as_dict(),
            "service_time": self.service_time.as_dict(),
            "counters": msgspec.to_builtins(result.total),
            "rejected_by_reason": result.rejected_by_reason,
            "orders_by_node": result.orders_by_node,
            "longest_gap_ms": result.longest_gap_ms,
            "groups": msgspec.to_builtins(result.groups),
            "orders_per_request": self.orders_per_request,
            "cpu_us_per_order": self.cpu_us_per_order,
            "cpu_us_per_request": self.cpu_us_per_request,
            "unanswered": self.unanswered,
            "unsent": self.unsent,
            "unserved": self.unserved,
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
