"""Orders a second: offered, acknowledged, and taken from clients by each node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.models import LegendItem, UIElement, VArea

from zmqlab.widgets.charts.scene import WINDOW_ROWS, Scene
from zmqlab.widgets.data import Sampler
from zmqlab.widgets.frame import Frame


class Throughput:
    """A grey area is what was offered, the line in ink what was acknowledged: between them orders wait."""

    name = "throughput"

    def draw(self, scene: Scene) -> list[UIElement]:
        self._chart = chart = scene.time_figure(self.name, "Throughput", "orders/s")
        area = VArea(x="t", y1=0, y2="offered", fill_color="#8c8c8c", fill_alpha=0.25)
        offered = chart.add_glyph(scene.series, area)
        nodes = scene.node_lines(chart, "taken", line_width=1.1)
        acknowledged = scene.line(chart, "acknowledged", line_width=2.2)
        edge = scene.line(chart, "offered", line_color="#8c8c8c", line_width=1.0)
        items = [
            LegendItem(label="offered", renderers=[offered, edge]),
            LegendItem(label="acknowledged", renderers=[acknowledged]),
        ]
        scene.legend(chart, [*items, *nodes])
        rows = [("offered", "@offered{0,0} orders/s"), ("acknowledged", "@acknowledged{0,0} orders/s")]
        scene.hover(chart, acknowledged, rows, "taken", "orders/s")
        scene.empty_note(chart, "No orders yet: press Start under Load, or call load.start().")
        return [chart]

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        columns = sampler.ring.newest(scene.names(sampler), WINDOW_ROWS)
        shown = {name: values for name, values in columns.items() if name.startswith(("offered", "ack", "taken"))}
        scene.fit(frame, self._chart, shown, least=100.0)
        idle = not sampler.load_frames and not any(float(values.sum()) for values in shown.values() if values.size)
        frame.properties[f"{self.name}_empty", "visible"] = idle

    def summary(self, sampler: Sampler) -> str:
        row = sampler.ring.newest(("offered", "acknowledged"), 1)
        if not row["offered"].size or row["offered"][0] != row["offered"][0]:
            return "no load is running"
        return f"{row['offered'][0]:,.0f} orders/s offered, {row['acknowledged'][0]:,.0f} acknowledged"
