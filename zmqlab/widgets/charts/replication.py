"""How far each node is behind: entries that the cluster has committed and this node has not, and has not applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.models import UIElement

from zmqlab.widgets.charts.scene import WINDOW_ROWS, Scene
from zmqlab.widgets.data import Sampler
from zmqlab.widgets.frame import Frame


class Replication:
    """Solid: the applied index; dashed: the commit index. Near zero, unless a node is dead, paused, cut off or slow."""

    name = "replication"

    def draw(self, scene: Scene) -> list[UIElement]:
        title = "Behind the leader (dashed: commit index)"
        self._chart = chart = scene.time_figure(self.name, title, "log entries")
        scene.node_lines(chart, "applied", line_width=1.8, line_dash="solid")
        scene.node_lines(chart, "commit", line_width=1.4, line_dash="dashed")
        clock = scene.line(chart, "t", line_alpha=0.0, line_color="#8c8c8c")
        scene.legend(chart, scene.node_keys(chart))
        scene.hover(chart, clock, [], "applied", "entries to apply")
        scene.empty_note(chart, "No node has said anything yet: cluster.start() starts them.")
        return [chart]

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
