"""Orders a second: offered, acknowledged, and taken from clients by each node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.models import Line, UIElement, VArea

from zmqlab.widgets.charts.scene import WINDOW_ROWS, Scene
from zmqlab.widgets.data import Sampler
from zmqlab.widgets.frame import Frame
from zmqlab.widgets.palette import INK

GREY = "#8c8c8c"


class Throughput:
    """A grey area is what was offered, the line in ink what was acknowledged: between them orders wait."""

    name = "throughput"

    def draw(self, scene: Scene) -> list[UIElement]:
        self._chart = chart = scene.time_figure(self.name, "Throughput", "orders/s")
        edge, area = {"line_color": GREY, "line_width": 1.0}, {"fill_color": GREY, "fill_alpha": 0.25}
        chart.add_glyph(scene.series, VArea(x="t", y1=0, y2="offered", **area))
        scene.node_lines(chart, "taken", line_width=1.1)
        acknowledged = scene.line(chart, "acknowledged", line_width=2.2)
        scene.line(chart, "offered", **edge)
        items = [
            scene.key(chart, "offered", VArea(x="x", y1="y", y2="y", **area), Line(x="x", y="y", **edge)),
            scene.key(chart, "acknowledged", Line(x="x", y="y", line_width=2.2, line_color="#000000", tags=[INK])),
        ]
        scene.legend(chart, [*items, *scene.node_keys(chart)])
        rows = [("offered", "@offered{0,0} orders/s"), ("acknowledged", "@acknowledged{0,0} orders/s")]
        scene.hover(chart, acknowledged, rows, "taken", "orders/s")
        scene.empty_note(chart, "No orders yet: press Start under Load, or call load.start().")
        return [chart]

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        columns = sampler.ring.newest(scene.names(sampler), WINDOW_ROWS)
        shown = {name: values for name, values in columns.items() if name.startswith(("offered", "ack", "taken"))}
        scene.fit(frame, self._chart, shown, least=100.0)
        idle = not sampler.load_frames and not any(np.nansum(values) for values in shown.values())
        frame.properties[f"{self.name}_empty", "visible"] = idle

    def summary(self, sampler: Sampler) -> str:
        row = sampler.ring.newest(("offered", "acknowledged"), 1)
        if sampler.load is None or not row["offered"].size:
            return "no load is running"
        return f"{row['offered'][0]:,.0f} orders/s offered, {row['acknowledged'][0]:,.0f} acknowledged"
