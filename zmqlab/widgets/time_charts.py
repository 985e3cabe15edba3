"""The charts over the time axis: throughput, response time, how far nodes are behind, and which node leads.

Each is a :class:`~zmqlab.widgets.scene.Chart`: it draws its figure onto a scene once, and says at each moment what is
new. All read the sampler's rows and timeline, and share the scene's time axis, marks and bands.

A chart that has nothing to show yet says in words what to do. Its summary is one line, for places that show text alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HBar, HoverTool, Label, Line, Range1d, Span, UIElement, VArea
from bokeh.plotting import figure

from zmqlab.widgets.live_figure import Frame
from zmqlab.widgets.palette import BACKED, FONT, GREY, INK, PERCENTILES, node_colour
from zmqlab.widgets.readings import AREA, LATENCY_COLUMNS, SERVICE_COLUMNS, Column
from zmqlab.widgets.sampler import Sampler
from zmqlab.widgets.scene import WINDOW_ROWS, Scene, bold_label, highest_of, log_ticks

LATENCY_LABELS = ("p50", "p99", "p99.9", "max")
"""Each has its step of the percentiles' hue; service time has the same, dashed."""
TERM_LABEL_MS = 6_500.0
"""A shorter bar has no room for its term."""
CLIP = 1.6
"""The axis of the throughput reaches so far above the highest rate that was offered."""
LASTING_ROWS = 10
"""A rate that was offered for less than a second, and is over, is cut off, too: what is measured to find a comfortable
rate, just before the load, would flatten the load's first minute."""
BURST_AT = 0.2
"""Where on the axis its words stand: below the labels of marks."""
BURST_MS = 30_000.0
"""A newer burst stands in the right half, and its words left of it: the edge would cut them off."""
NOTE_PX = 22
"""A stage's chart may be low and narrow: the words for an empty one stand near its bottom, in short lines."""
HEADROOM = 0.4
"""Empty room above the leaders' rows, for the labels of marks; as a share of the number of nodes."""


class Throughput:
    """Orders a second: offered, acknowledged, and taken from clients by each node.

    The grey area is what was offered, and the line in ink what was acknowledged. Between the two, orders wait. The axis
    follows what was offered: the burst in which a backlog is worked off is cut off at its top and told in words, or it
    would flatten a minute of the chart. Of a time in which nothing was heard there is a gap.

    Args:
        nodes: whether there is a line for each node, too.
    """

    name = "throughput"

    def __init__(self, nodes: bool = True) -> None:
        self._nodes = nodes

    def draw(self, scene: Scene) -> list[UIElement]:
        self._chart = chart = scene.time_figure(self.name, "Throughput", "orders/s")
        edge: dict[str, Any] = {"line_color": GREY, "line_width": 1.0}
        area = {"fill_color": GREY, "fill_alpha": 0.25}
        scene.column(AREA)
        chart.add_glyph(scene.series, VArea(x="t", y1=0, y2=AREA, **area))
        if self._nodes:
            scene.node_lines(chart, "taken", line_width=1.1)
        acknowledged = scene.line(chart, "acknowledged", line_width=2.2)
        scene.line(chart, "offered", **edge)
        items = [
            scene.key(chart, "offered", VArea(x="x", y1="y", y2="y", **area), Line(x="x", y="y", **edge)),
            scene.key(chart, "acknowledged", Line(x="x", y="y", line_width=2.2, line_color="#000000", tags=[INK])),
        ]
        scene.legend(chart, [*items, *(scene.node_keys(chart) if self._nodes else [])])
        rows = [("offered", "@offered{0,0} orders/s"), ("acknowledged", "@acknowledged{0,0} orders/s")]
        scene.hover(chart, acknowledged, rows, "taken" if self._nodes else "", "orders/s")
        scene.empty_note(chart, "No orders yet:\nstart the load.", y_px=NOTE_PX)
        style = {"text_font_size": "10px", "text_font": FONT, "text_font_style": "bold", "tags": [INK, BACKED]}
        chart.add_layout(Label(x=0, y=0, text="", visible=False, name=f"{self.name}_burst", x_offset=6, **style))
        return [chart]

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        columns = sampler.ring.newest(scene.names(sampler), WINDOW_ROWS)
        shown = {name: values for name, values in columns.items() if name.startswith(("offered", "ack", "taken"))}
        offered, most = lasting(columns["offered"]), max(map(highest_of, shown.values()), default=0.0)
        limit = CLIP * offered if offered else most
        scene.fit(frame, self._chart, {name: np.minimum(values, limit) for name, values in shown.items()}, least=100.0)
        self._tell_burst(frame, columns, limit, most)
        idle = not sampler.load_frames and not any(np.nansum(values) for values in shown.values())
        frame.properties[f"{self.name}_empty", "visible"] = idle

    def _tell_burst(self, frame: Frame, columns: Mapping[str, Column], limit: float, most: float) -> None:
        """Where the axis cuts something off, say how high it was."""
        label = f"{self.name}_burst"
        top = float(str(frame.properties[f"{self.name}_y", "end"]))
        acknowledged = columns["acknowledged"]
        is_cut = most > max(limit, top) and highest_of(acknowledged) > top
        frame.properties[label, "visible"] = is_cut
        if is_cut:
            highest = int(np.nanargmax(acknowledged))
            frame.properties[label, "x"] = float(columns["t"][highest])
            frame.properties[label, "y"] = BURST_AT * top
            is_new = frame.now_ms - float(columns["t"][highest]) < BURST_MS
            frame.properties[label, "text_align"] = "right" if is_new else "left"
            frame.properties[label, "x_offset"] = -6 if is_new else 6
            frame.properties[label, "text"] = f"▲ {acknowledged[highest] / 1_000:.3g}k/s"

    def summary(self, sampler: Sampler) -> str:
        row = sampler.ring.newest(("offered", "acknowledged"), 1)
        if sampler.load is None or not row["offered"].size:
            return "no load is running"
        return f"{row['offered'][0]:,.0f} orders/s offered, {row['acknowledged'][0]:,.0f} acknowledged"


class Latency:
    """How long an order takes, over the last second: p50, p99, p99.9 and the maximum, on a logarithmic axis.

    Response time runs from the moment at which the order was meant to be sent. Service time, dashed and on demand, runs
    from the moment at which it was sent. Where the two part, orders wait outside of the cluster: coordinated omission
    hides that wait.
    """

    name = "latency"

    def draw(self, scene: Scene) -> list[UIElement]:
        self._chart = chart = scene.time_figure(self.name, "Response time over the last second", "ms", log=True)
        log_ticks(chart)
        lines = [
            scene.line(chart, column, role=role, line_width=1.7)
            for column, role in zip(LATENCY_COLUMNS, PERCENTILES, strict=True)
        ]
        self._service = []
        for column, role in zip(SERVICE_COLUMNS, PERCENTILES, strict=True):
            renderer = scene.line(chart, column, role=role, line_width=1.3, line_dash="dashed")
            renderer.name, renderer.visible = f"latency_{column}", False
            self._service.append(renderer)
        items = [
            scene.key(chart, label, Line(x="x", y="y", line_color="#000000", line_width=2.2, tags=[role]))
            for label, role in zip(LATENCY_LABELS, PERCENTILES, strict=True)
        ]
        dashed = Line(x="x", y="y", line_color="#000000", line_width=1.3, line_dash="dashed", tags=[PERCENTILES[0]])
        service = scene.key(chart, "service time", dashed)
        service.visible, service.name = False, "latency_service_item"
        scene.legend(chart, [*items, service])
        rows = [(label, f"@{name}{{0,0.00}} ms") for label, name in zip(LATENCY_LABELS, LATENCY_COLUMNS, strict=True)]
        rows += [("service p50", "@service_p50{0,0.00} ms"), ("service p99", "@service_p99{0,0.00} ms")]
        scene.hover(chart, lines[1], rows, "", "")
        scene.empty_note(chart, "No latencies yet: they come with the first orders.")
        return [chart]

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        show_service = bool(options.get("service", False))
        columns = sampler.ring.newest(("p50", "max", "service_p50"), WINDOW_ROWS)
        scene.fit_log(frame, self._chart, columns["service_p50" if show_service else "p50"], columns["max"])
        for renderer in self._service:
            frame.properties[str(renderer.name), "visible"] = show_service
        frame.properties["latency_service_item", "visible"] = show_service
        frame.properties[f"{self.name}_empty", "visible"] = not (columns["max"] > 0).any()

    def summary(self, sampler: Sampler) -> str:
        row = sampler.ring.newest(LATENCY_COLUMNS, 1)
        values = [float(row[name][0]) if row[name].size else float("nan") for name in LATENCY_COLUMNS]
        if values[0] != values[0]:
            return "no load is running"
        return "  ".join(f"{label} {value:,.2f} ms" for label, value in zip(LATENCY_LABELS, values, strict=True))


class Replication:
    """How far each node is behind: entries that the cluster has committed and the node has not, or has not applied.

    Solid lines are the applied index, dashed ones the commit index. All are near zero, unless a node is dead, paused,
    cut off or slow. With several Raft groups a node's line is that of the group in which it is furthest behind.
    """

    name = "replication"

    def __init__(self, shards: int = 1) -> None:
        self._shards = shards

    def draw(self, scene: Scene) -> list[UIElement]:
        title = "Behind the leader (dashed: commit index)"
        if self._shards > 1:
            title = "Behind, in the slowest group (dashed: commit)"
        self._chart = chart = scene.time_figure(self.name, title, "log entries")
        scene.node_lines(chart, "applied", line_width=1.8, line_dash="solid")
        scene.node_lines(chart, "commit", line_width=1.4, line_dash="dashed")
        return _with_a_row_for_each_node(scene, chart, "applied", "entries to apply", "No node has said anything yet.")

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        columns = sampler.ring.newest(scene.names(sampler), WINDOW_ROWS)
        shown = {name: values for name, values in columns.items() if name.startswith(("applied", "commit"))}
        scene.fit(frame, self._chart, shown, least=20.0)
        heard = any(track.newest is not None for track in sampler.nodes.values())
        frame.properties[f"{self.name}_empty", "visible"] = not heard

    def summary(self, sampler: Sampler) -> str:
        slots = {track.slot: name for name, track in sampler.nodes.items()}
        row = sampler.ring.newest([f"applied{slot}" for slot in slots], 1)
        known = [
            f"{name} {row[f'applied{slot}'][0]:,.0f}"
            for slot, name in slots.items()
            if row[f"applied{slot}"].size and row[f"applied{slot}"][0] == row[f"applied{slot}"][0]
        ]
        return "entries to apply: " + ", ".join(known) if known else "no node has said anything yet"


class Leaders:
    """Which node leads, as a timeline: a bar for each term, in the leader's row and colour. A gap is a time without a
    leader."""

    name = "leaders"

    def draw(self, scene: Scene) -> list[UIElement]:
        rows = Range1d(start=2.6, end=-0.6, name="leaders_y")
        chart = scene.time_figure(self.name, "Who leads", "", y_range=rows)
        empty: dict[str, Any] = {name: [] for name in ("start", "end", "row", "colour", "term", "node", "label")}
        source = ColumnDataSource(data=empty, name="leader_spans")
        bar = HBar(y="row", left="start", right="end", height=0.62, fill_color="colour", line_color=None)
        bars = chart.add_glyph(source, bar)
        text = bold_label(x="end", y="row", text_color="#ffffff", text_baseline="middle", x_offset=-6)
        chart.add_glyph(source, text)
        chart.ygrid.visible = False
        chart.yaxis.ticker = FixedTicker(ticks=[0, 1, 2], name="leaders_ticker")
        chart.yaxis[0].name = "leaders_axis"
        tooltips = [("leader", "@node"), ("term", "@term"), ("from", "@start{%H:%M:%S.%3N}")]
        chart.add_tools(
            HoverTool(renderers=[bars], tooltips=tooltips, formatters={"@start": "datetime"}, name="leaders_hover")
        )
        scene.empty_note(chart, "No leader yet: a majority of the nodes must run.")
        return [chart]

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        names = {track.slot: name for name, track in sampler.nodes.items()}
        rows = {slot: row for row, slot in enumerate(sorted(names))}
        spans = [span for span in tuple(sampler.timeline.leaders) if span.slot in names]
        frame.tables["leader_spans"] = {
            "start": [span.start_ms for span in spans],
            "end": [span.end_ms for span in spans],
            "row": [rows[span.slot] for span in spans],
            "colour": [node_colour(span.slot) for span in spans],
            "term": [span.term for span in spans],
            "node": [names[span.slot] for span in spans],
            "label": [f"term {span.term}" if span.end_ms - span.start_ms > TERM_LABEL_MS else "" for span in spans],
        }
        frame.properties["leaders_y", "start"] = len(names) - 0.4
        frame.properties["leaders_y", "end"] = -0.6 - HEADROOM * len(names)
        frame.properties["leaders_ticker", "ticks"] = list(range(len(names)))
        frame.properties["leaders_axis", "major_label_overrides"] = {row: names[slot] for slot, row in rows.items()}
        frame.properties[f"{self.name}_empty", "visible"] = not spans

    def summary(self, sampler: Sampler) -> str:
        leader = sampler.who_leads()
        return f"{leader} leads" if leader else "no node leads"


class GroupLeads:
    """How many of several Raft groups each node leads, as a stack over time, as high as there are groups.

    What is missing at the top are groups without a leader: they serve no client.
    """

    name = "leads"

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def draw(self, scene: Scene) -> list[UIElement]:
        top = Range1d(start=0, end=self._shards * (1 + HEADROOM), name=f"{self.name}_y")
        chart = scene.time_figure(self.name, f"Who leads the {self._shards} groups", "groups led", y_range=top)
        scene.node_areas(chart, "lead_low", "lead_top", fill_alpha=0.85)
        scene.node_column("led")
        chart.add_layout(Span(location=self._shards, dimension="width", line_color=GREY, line_dash="dotted"))
        step = max(1, round(self._shards / 4))
        chart.yaxis.ticker = FixedTicker(ticks=list(range(0, self._shards + 1, step)))
        empty = "No leader yet: a majority of each group's nodes must run."
        return _with_a_row_for_each_node(scene, chart, "led", "groups", empty)

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        groups = sampler.groups
        frame.properties[f"{self.name}_empty", "visible"] = groups is None or not any(row.leader for row in groups.rows)

    def summary(self, sampler: Sampler) -> str:
        return sampler.groups.said() if sampler.groups is not None else "no node has said anything yet"


def lasting(rates: Column) -> float:
    """The highest rate that lasted for :data:`LASTING_ROWS`, or the newest one; 0 if there is none."""
    if len(rates) <= LASTING_ROWS:
        return highest_of(rates)
    least = np.lib.stride_tricks.sliding_window_view(rates, LASTING_ROWS).min(axis=1)
    return max(highest_of(least), highest_of(rates[-1:]))


def _with_a_row_for_each_node(scene: Scene, chart: figure, column: str, what: str, empty: str) -> list[UIElement]:
    """A chart of nodes alone, with its legend, and a hover that names each node's figure at a moment.

    Args:
        column: whose figures the hover shows, as ``led`` of ``led0``, ``led1``, ...
        what: the figures are.
        empty: shown while there are none.
    """
    clock = scene.line(chart, "t", line_alpha=0.0, line_color=GREY)
    scene.legend(chart, scene.node_keys(chart))
    scene.hover(chart, clock, [], column, what)
    scene.empty_note(chart, empty)
    return [chart]
