"""What a chart is to a widget: it draws itself onto a scene once, and says at each moment what is new."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from bokeh.models import UIElement

from zmqlab.widgets.charts.scene import Scene
from zmqlab.widgets.data import Sampler
from zmqlab.widgets.frame import Frame


class Chart(Protocol):
    """One or more figures with a purpose."""

    name: str

    def draw(self, scene: Scene) -> list[UIElement]:
        """Make the figures, each a tile of the page; called once."""

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        """Add to ``frame`` what this chart shows now. ``options``: the toolbar's values by key."""

    def summary(self, sampler: Sampler) -> str:
        """The newest figures in one line, for places that show text alone."""
