"""How long an order takes, over the last second: p50, p99, p99.9 and the maximum, on a logarithmic axis.

Response time runs from the moment at which the order was meant to be sent; service time, dashed and on demand, from the
moment at which it was sent. Where the two part, orders wait outside of the cluster: that is what coordinated omission
hides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.models import Line, UIElement

from zmqlab.widgets.charts.scene import WINDOW_ROWS, Scene, log_ticks
from zmqlab.widgets.data import LATENCY_COLUMNS, SERVICE_COLUMNS, Sampler
from zmqlab.widgets.frame import Frame

LABELS = ("p50", "p99", "p99.9", "max")
COLOURS = ("#009E73", "#0072B2", "#CC79A7", "#E69F00")
"""Four of Okabe and Ito's colours; the same for service time, dashed."""


class Latency:
    """See the module."""

    name = "latency"

    def draw(self, scene: Scene) -> list[UIElement]:
        self._chart = chart = scene.time_figure(self.name, "Response time over the last second", "ms", log=True)
        log_ticks(chart)
        lines = [
            scene.line(chart, column, line_color=colour, line_width=1.7)
            for column, colour in zip(LATENCY_COLUMNS, COLOURS, strict=True)
        ]
        self._service = []
        for column, colour in zip(SERVICE_COLUMNS, COLOURS, strict=True):
            renderer = scene.line(chart, column, line_color=colour, line_width=1.3, line_dash="dashed")
            renderer.name, renderer.visible = f"latency_{column}", False
            self._service.append(renderer)
        items = [
            scene.key(chart, label, Line(x="x", y="y", line_color=colour, line_width=1.7))
            for label, colour in zip(LABELS, COLOURS, strict=True)
        ]
        dashed = Line(x="x", y="y", line_color=COLOURS[0], line_width=1.3, line_dash="dashed")
        service = scene.key(chart, "service time", dashed)
        service.visible, service.name = False, "latency_service_item"
        scene.legend(chart, [*items, service])
        rows = [(label, f"@{name}{{0,0.00}} ms") for label, name in zip(LABELS, LATENCY_COLUMNS, strict=True)]
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
        return "  ".join(f"{label} {value:,.2f} ms" for label, value in zip(LABELS, values, strict=True))
