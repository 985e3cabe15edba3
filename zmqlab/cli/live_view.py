"""What is said of a run while it goes on: a whole screen, or one line. Pure: readings in, lines out.

:func:`screen` fits any size from 20 by 5 on. What matters most stands on top: what runs, the status line, the charts.
Then come the counters, the nodes, and the newest of what happened. Where there is little room, the charts become one
line high, then the nodes and the ticker give way, so that neither is missing before it must be.

*The charts* have a bar for each half second, the newest at the right. The throughput axis ends a fifth above the rate
that is offered: the burst of a catch-up is a full bar, and does not flatten what was before it. A bar of the gaps is
the longest time without an answer in that half second, so that a dip of 0.2 s is seen at once.

:class:`Columns` makes the bars from the snapshots of the load clients, which are merged: percentiles are never
averaged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from zmqlab.cli.styled_lines import Line, Span, apart, as_lines, banner, bars, labelled, round_up, shortened, wrapped
from zmqlab.histogram import Histogram
from zmqlab.lab.service_facts import NodeFacts
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.load.load_report import NS_PER_MS, LoadFigures, response_time_of
from zmqlab.tables import text_table
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wording import counted

COLUMN_S = 0.5
"""The time of one bar: fifty of them, in a terminal of 80 columns, are the last 25 seconds."""
COLUMNS_MAX = 400
"""More bars than any terminal is wide."""
FIGURES_OVER = 10
"""Snapshots behind the figures: they come ten times a second, so these are the last second."""
HEADROOM = 1.2
"""The throughput axis ends so far above the offered rate."""
GAP_WARN_MS, GAP_BAD_MS = 100.0, 1_000.0
"""An answer takes some milliseconds, an election without a time-out some ten, one with it 200 to 600."""
LABEL, TOP, NOW = 10, 8, 9
"""The widths of a chart's name, the end of its axis, and its newest value."""
CHARTS = ("orders/s", "p99, ms", "gap, ms")
ROOM_MIN = 8
"""With room for fewer bars, the newest values are shown alone."""
CHART_HEIGHT_MAX = 6
FOOT_MAX = 4
TICKER_WANTED = 6
"""Lines of the ticker that the charts leave free before they grow."""
NODE_HEAD = ("node", "role", "term", "taken", "applied", "lag", "CPU %", "MB")
ROLE_STYLES = {
    "leader": "good",
    "candidate": "warn",
    "pre_candidate": "warn",
    "paused": "warn",
    "silent": "bad",
    "dead": "bad",
}


class NodeRow(NamedTuple):
    """What is shown of one node."""

    name: str
    role: str
    """As it published last; ``silent`` if that was too long ago to be true, ``dead`` or ``paused`` if that is known."""
    status: NodeStatus | None
    """What it published last; None if nothing is known."""


def node_rows(nodes: Iterable[NodeFacts]) -> list[NodeRow]:
    """The nodes by name. What a dead node said last is not shown."""
    return [
        NodeRow(each.name, role := _role(each), None if role == "dead" else each.status)
        for each in sorted(nodes, key=lambda each: each.name)
    ]


def _role(node: NodeFacts) -> str:
    if node.is_heard and node.status is not None and node.process != "stopped":
        return "paused" if node.process == "paused" else node.status.role
    if node.process == "running" and node.status is None:
        return "starting"
    return {"stopped": "dead", "paused": "paused"}.get(node.process, "silent")


class Tick(NamedTuple):
    """Something that happened."""

    at_s: float
    """Since the start of the run."""
    text: str
    style: str = ""


class Bar(NamedTuple):
    """Half a second of all load clients together."""

    offered: float
    """Orders a second."""
    acknowledged: float
    p99_ms: float
    """Response time; 0: nothing was acknowledged."""
    gap_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """All that a screen shows, at one moment."""

    command: str
    about: Sequence[str] = ()
    """What runs, the most important first."""
    clock: str = ""
    """How far it is."""
    status: tuple[str, str] = ("", "")
    """The status line, and the style of its ground."""
    counters: Sequence[str] = ()
    lost: tuple[str, str] = ("", "")
    """What was lost so far, and its style; empty: that is not counted."""
    bars: Sequence[Bar | None] = ()
    figures: LoadFigures | None = None
    nodes: Sequence[NodeRow] = ()
    ticker: Sequence[Tick] = ()
    doing: str = ""
    """What goes on just now."""
    advice: str = ""
    """What a key does."""


@dataclass(slots=True)
class _Part:
    """What one load client did in the half second under way."""

    offered: int = 0
    acknowledged: int = 0
    over_s: float = 0.0


class Columns:
    """The bars of the charts, from snapshots as they come. One thread feeds it, and others may read."""

    def __init__(self) -> None:
        self._done: deque[Bar | None] = deque(maxlen=COLUMNS_MAX)
        self._slot = 0
        """Which half second is being summed up, by the clock of the load clients."""
        self._parts: dict[str, _Part] = {}
        """By the name of the load client."""
        self._times: list[Histogram] = []
        self._gap_ms = 0.0

    def take(self, snapshot: LoadMetrics) -> None:
        """A snapshot of one of the load clients. One that is late counts to the half second under way."""
        slot = int(snapshot.time_ns / 1e9 / COLUMN_S)
        missed = min(max(slot - self._slot, 0), COLUMNS_MAX) if self._slot else 0
        for _ in range(missed):
            self._close()
        self._slot = max(self._slot, slot)
        part = self._parts.setdefault(snapshot.name, _Part())
        part.offered += snapshot.interval.offered
        part.acknowledged += snapshot.interval.acknowledged
        part.over_s += snapshot.interval_s
        self._times.append(Histogram.from_sparse(snapshot.response_time, snapshot.response_time_max_ns))
        self._gap_ms = max(self._gap_ms, snapshot.gap_ms)

    def _close(self) -> None:
        parts = [part for part in self._parts.values() if part.over_s > 0]
        merged = Histogram.merged(self._times)
        bar = Bar(
            sum(part.offered / part.over_s for part in parts),
            sum(part.acknowledged / part.over_s for part in parts),
            merged.percentile(99) / NS_PER_MS if merged.count else 0.0,
            self._gap_ms,
        )
        self._done.append(bar if parts else None)
        self._parts, self._times, self._gap_ms = {}, [], 0.0

    @property
    def bars(self) -> list[Bar | None]:
        """Those that are complete, oldest first; None: no load client said anything."""
        return list(self._done)


def figures_of(recent: Mapping[str, Sequence[LoadMetrics]]) -> LoadFigures | None:
    """The figures of all load clients together, over about the last second; None: none has said anything yet.

    A client that has ended counts in the totals alone, unless all have ended: what it said last is of another second.
    """
    known = [snapshots for snapshots in recent.values() if snapshots]
    each = [LoadFigures.of(snapshots) for snapshots in known]
    if len(each) < 2:
        return each[0] if each else None
    is_over = all(one.state == "ended" for one in each)
    now = [(one, parts) for one, parts in zip(each, known, strict=True) if is_over or one.state != "ended"]
    p50_ns, p99_ns = response_time_of(part for _, parts in now for part in parts).percentiles((50, 99))
    return LoadFigures(
        state="running" if any(one.state == "running" for one in each) else now[0][0].state,
        elapsed_s=max(one.elapsed_s for one in each),
        rate=sum(one.rate for one, _ in now),
        p50_ms=p50_ns / NS_PER_MS,
        p99_ms=p99_ns / NS_PER_MS,
        offered=sum(one.offered for one in each),
        acknowledged=sum(one.acknowledged for one in each),
        outstanding=sum(one.outstanding for one in each),
    )


# -- a line --------------------------------------------------------------------------------------------------------


def one_line(readings: Readings) -> str:
    """The run at this moment, for where there is no screen."""
    roles = " ".join(_role_of(node) for node in readings.nodes)
    figures = readings.figures
    if figures is None:
        return "  ".join(filter(None, (readings.doing or "waiting for the load client", roles)))
    parts = (
        f"{figures.elapsed_s:6.1f} s  {figures.rate:9,.0f} orders/s  {figures.latencies}",
        f"acknowledged {figures.acknowledged:,}",
        *readings.counters,
        readings.lost[0] if readings.lost[1] == "bad" else "",
        roles,
        readings.doing,
    )
    return "  ".join(filter(None, parts))


def _role_of(node: NodeRow) -> str:
    """The role and the term; of a node with several groups, which has no term, how many it leads."""
    term = f"/{node.status.term}" if node.status is not None and not node.status.groups else ""
    return f"{node.name}:{_said_of_role(node)}{term}"


def _said_of_role(node: NodeRow) -> str:
    groups = node.status.groups if node.status is not None else []
    leads = sum(brief.role == "leader" for brief in groups)
    return f"leads {leads}" if groups and node.role in ("leader", "follower") else node.role


# -- a screen ------------------------------------------------------------------------------------------------------


def screen(readings: Readings, width: int, height: int) -> list[Line]:
    """Exactly ``height`` lines of at most ``width`` characters."""
    head = [_title(readings, width), *_status(readings, width)]
    foot = as_lines(wrapped(readings.advice, width)[:FOOT_MAX], "dim") if readings.advice and height > 12 else []
    room = max(height - len(head) - len(foot), 0)
    nodes = _nodes(readings.nodes, width)
    spare = room - len(nodes) - TICKER_WANTED - 8
    charts = _charts(readings, width, min(max((spare + 1) // 2, 1), CHART_HEIGHT_MAX))
    body = _stacked([[*charts, *_counters(readings, width)], _cut(nodes, max(room // 2, 4))], room)
    left = room - len(body) - 1
    ticker = _ticker(readings, width, left) if left > 0 else []
    filled = [*body, [], *ticker]
    return [*head, *(filled + [[]] * room)[:room], *foot][:height]


def _title(readings: Readings, width: int) -> Line:
    about = ", ".join(readings.about)
    while len(about) + len(readings.command) + len(readings.clock) + 6 > width and ", " in about:
        about = about.rpartition(", ")[0]
    left = [Span(readings.command, "title"), Span(about)]
    return apart(left, Span(readings.clock), width)


def _status(readings: Readings, width: int) -> list[Line]:
    text, style = readings.status
    return banner(text, style, width)[:3] if text else []


def _stacked(blocks: Sequence[Sequence[Line]], room: int) -> list[Line]:
    """One above the other with a blank line before each, as many as fit; the last one may be cut off."""
    body: list[Line] = []
    for block in filter(None, blocks):
        if len(body) + 1 >= room:
            break
        body += [[], *block]
    return body[:room]


def _cut(lines: Sequence[Line], room: int) -> Sequence[Line]:
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], [Span(f"and {counted(len(lines) - room + 1, 'node')} more", "dim")]]


def _charts(readings: Readings, width: int, height: int) -> list[Line]:
    figures = readings.figures
    if figures is None:
        return []
    known = [bar for bar in readings.bars if bar is not None]
    rate = f"{figures.rate:,.0f}"
    p99 = _ms(figures.p99_ms)
    gap = f"{known[-1].gap_ms:,.0f}" if known else "-"
    room = width - LABEL - TOP - NOW - 2
    if room < ROOM_MIN:
        return as_lines(f"{name.ljust(LABEL)}{now}" for name, now in zip(CHARTS, (rate, p99, gap), strict=True))
    offered = max((bar.offered for bar in known), default=0.0)
    top = round_up(offered * HEADROOM or max((bar.acknowledged for bar in known), default=0.0))
    shown = readings.bars[-room:]
    rates = [None if bar is None else bar.acknowledged for bar in shown]
    p99s = [None if bar is None or not bar.p99_ms else bar.p99_ms for bar in shown]
    gaps = [None if bar is None else bar.gap_ms for bar in shown]
    return [
        *_chart(CHARTS[0], rates, top, rate, room, height),
        *_chart(CHARTS[1], p99s, _top_of(p99s), p99, room, max(1, height - 1)),
        *_chart(CHARTS[2], gaps, _top_of(gaps), gap, room, 1, _gap_style),
    ]


def _ms(latency_ms: float, unit: str = "") -> str:
    """No latency is zero: nothing was measured then."""
    return f"{latency_ms:,.1f}{unit}" if latency_ms else "-"


def _top_of(values: Sequence[float | None]) -> float:
    return round_up(max((value for value in values if value is not None), default=0.0))


def _gap_style(gap_ms: float) -> str:
    return "bad" if gap_ms >= GAP_BAD_MS else "warn" if gap_ms >= GAP_WARN_MS else "chart"


def _chart(
    name: str,
    values: Sequence[float | None],
    top: float,
    now: str,
    room: int,
    height: int,
    style_of: Callable[[float], str] = lambda _: "chart",
) -> list[Line]:
    rows = bars(values, top, room, height)
    styles = [*["chart"] * (room - len(values)), *(style_of(value or 0.0) for value in values)]
    lines: list[Line] = []
    for number, row in enumerate(rows):
        label, newest = (name, now) if number == height - 1 else ("", "")
        end = _short(top) if number == 0 else ""
        drawn = groupby(zip(row, styles, strict=True), key=itemgetter(1))
        lines.append(
            [
                Span(label.ljust(LABEL)),
                Span(end.rjust(TOP) + " ", "dim"),
                *(Span("".join(bar for bar, _ in group), style) for style, group in drawn),
                Span(" " + newest.rjust(NOW), "title"),
            ]
        )
    return lines


def _short(value: float) -> str:
    return (
        f"{value / 1_000_000:g}M" if value >= 1_000_000 else f"{value / 1_000:g}k" if value >= 10_000 else f"{value:g}"
    )


def _counters(readings: Readings, width: int) -> list[Line]:
    figures = readings.figures
    if figures is None:
        return []
    said = [f"acknowledged {figures.acknowledged:,}", f"p50 {_ms(figures.p50_ms, ' ms')}", *readings.counters]
    text, style = readings.lost
    lost = as_lines(wrapped(f"so far, {text}", width)[:2], style) if text else []
    return [*as_lines(wrapped(", ".join(said), width)[:2]), *lost]


def _nodes(nodes: Sequence[NodeRow], width: int) -> list[Line]:
    if not nodes:
        return []
    head, *rows = text_table(NODE_HEAD, map(_node_cells, nodes), width).split("\n")
    if len(rows) != len(nodes):  # too narrow for a row in a line
        return as_lines(shortened(_role_of(node), width) for node in nodes)
    styled = zip(rows, nodes, strict=True)
    return [[Span(head, "dim")], *([Span(row, ROLE_STYLES.get(node.role, ""))] for row, node in styled)]


def _node_cells(node: NodeRow) -> tuple[object, ...]:
    status = node.status
    if status is None:
        return (node.name, node.role, *("-",) * (len(NODE_HEAD) - 2))
    return (
        node.name,
        _said_of_role(node),
        status.term or "-",
        f"{status.orders_taken:,}",
        f"{status.applied_index:,}" if not status.groups else "-",
        f"{status.lag:,}",
        f"{status.cpu_percent:.0f}",
        f"{status.rss_bytes / 1e6:.0f}",
    )


def _ticker(readings: Readings, width: int, room: int) -> list[Line]:
    """The newest of what happened, the newest at the bottom; what goes on now below it."""
    now = labelled(Span("     now", "title"), Span(readings.doing, "warn"), width, 10)[:2] if readings.doing else []
    lines: list[Line] = []
    for tick in reversed(readings.ticker):
        told = labelled(Span(f"{tick.at_s:6.1f} s", "dim"), Span(tick.text, tick.style), width, 10)
        if len(lines) + len(told) + len(now) > room:
            break
        lines = [*told, *lines]
    return [*lines, *now][-room:]
