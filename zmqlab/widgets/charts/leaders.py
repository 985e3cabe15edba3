"""Who leads, as a timeline: a bar for each term, in the leader's row and colour. Gaps are times without a leader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.models import ColumnDataSource, FixedTicker, HBar, HoverTool, Range1d, UIElement

from zmqlab.widgets.charts.scene import Scene, bold_label
from zmqlab.widgets.data import Sampler
from zmqlab.widgets.frame import Frame
from zmqlab.widgets.palette import node_colour

LABEL_MS = 6_500.0
"""A bar shorter than this has no room for its term."""
HEADROOM = 0.4
"""Empty room above, as a share of the nodes: room for the marks' labels."""


class Leaders:
    """See the module."""

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
            "label": [f"term {span.term}" if span.end_ms - span.start_ms > LABEL_MS else "" for span in spans],
        }
        frame.properties["leaders_y", "start"] = len(names) - 0.4
        frame.properties["leaders_y", "end"] = -0.6 - HEADROOM * len(names)
        frame.properties["leaders_ticker", "ticks"] = list(range(len(names)))
        frame.properties["leaders_axis", "major_label_overrides"] = {row: names[slot] for slot, row in rows.items()}
        frame.properties[f"{self.name}_empty", "visible"] = not spans

    def summary(self, sampler: Sampler) -> str:
        leader = sampler.leader
        return f"{leader} leads" if leader else "nobody leads"
