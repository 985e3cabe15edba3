"""The stage: one screen for a class room, with what matters of a cluster in sight of all.

From the top: a title, three large figures (orders a second, p99, orders lost), one chart with the dip of each fault,
the card of the last fault, and one row of actions. All else that the panel has stands behind tabs below them: a tab's
parts are on the page while it is open, so that what is out of sight costs nothing.

*Where it stands.* In JupyterLab it leaves its cell and docks beside the notebook's text, so that the cell that kills
and what shows it are on screen together. On a page that is too narrow for both it docks above the text. It moves within
the notebook's own panel, by its style classes, and needs no extension and no plugin of JupyterLab. Where there is no
such panel, as in VS Code, it stays in its cell. In Voilà it takes the whole window. ``stage.js`` does all that.

:class:`Stage` makes its layout itself, and not by boxes of ipywidgets: the elements of boxes belong to JupyterLab's
layouts and must not be moved. It puts together *parts*, which are widgets of their own and are handed in.

Left out on purpose: decisions. What the figures say comes from the sampler and the verdict.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anywidget
import ipywidgets
import traitlets
from ipywidgets import widget_serialization

from zmqlab.judge.verdict import LoadResult
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_registry import Control
from zmqlab.lab.incidents import said_of
from zmqlab.lab.load_client import LoadClient
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.tables import html_table
from zmqlab.widgets import palette
from zmqlab.widgets.chart_widgets import LiveCharts
from zmqlab.widgets.cluster_controls import NodeTable
from zmqlab.widgets.courier import close_rest
from zmqlab.widgets.live_figure import page_text, with_html
from zmqlab.widgets.panel import Panel, script
from zmqlab.widgets.readings import rates_of
from zmqlab.widgets.time_charts import Throughput

BASE_PX = 14
"""The size of plain text beside a notebook, whose own text has 14 pixels."""
ROOM_PX = 18
"""The same on a wall, to be read from the back of a room."""
LAST_SECOND_NS = 950_000_000
"""Snapshots come every tenth of a second, less some jitter: ten of them."""


class Stage(anywidget.AnyWidget):
    """The layout of the parts; see the module.

    Args:
        parts: the widgets by name. ``stage.js`` knows the places ``status``, ``figures``, ``picture``, ``chart``,
            ``cards`` and ``actions``; a place without a part is left out.
        tabs: what stands behind the tabs: (label, names of parts) each.
        title: stands on top.
        base_px: the size of plain text, in pixels; all else follows.
    """

    _esm = palette.script() + page_text("stage.js")
    _css = palette.style_sheet(".zl-stage, .zl-stage-away") + page_text("stage.css")
    _parts = traitlets.Dict().tag(sync=True, **widget_serialization)
    _tabs = traitlets.List().tag(sync=True)
    _title = traitlets.Unicode().tag(sync=True)
    _base_px = traitlets.Int(BASE_PX).tag(sync=True)

    def __init__(
        self,
        parts: Mapping[str, ipywidgets.DOMWidget],
        tabs: Sequence[tuple[str, Sequence[str]]],
        title: str,
        base_px: int = BASE_PX,
    ) -> None:
        super().__init__(
            _parts=dict(parts),
            _tabs=[{"label": label, "parts": list(names)} for label, names in tabs],
            _title=title,
            _base_px=base_px,
        )

    def close(self) -> None:
        """Take the stage from the page; its parts are closed by who made them."""
        super().close()
        close_rest(self)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_html(super()._repr_mimebundle_(**kwargs), self._repr_html_())

    def _repr_html_(self) -> str:
        return f"<h3>{html.escape(self._title)}</h3>"

    def __repr__(self) -> str:
        return "Stage()"


class StageFigures(Panel):
    """Three large figures: orders a second, p99, and orders lost.

    Args:
        cluster: a cluster that has been started.
        newest_load: gives the load client whose losses are told while it runs; None: there is none.
    """

    _esm = script("stage_figures.js")

    def __init__(self, cluster: Cluster, newest_load: Callable[[], LoadClient | None] = lambda: None) -> None:
        self._newest_load = newest_load
        self._lost = ""
        """The verdict's words; empty: no run has been judged yet."""
        super().__init__(cluster, interval_s=0.5)

    def judged(self, result: LoadResult) -> None:
        """Show what the verdict of a run says of lost orders."""
        with self._guard:
            self._lost = said_of(result.verdict, "nothing lost")
        self.refresh(now=True)

    def make_state(self) -> dict[str, Any]:
        """``acknowledged`` and ``offered`` in orders a second and ``p99_ms``, of the last second; None while no load
        runs.

        ``so_far``: what is counted of lost orders while the load runs (:class:`~zmqlab.judge.live_count.SoFar`), None
        while nothing is; ``lost``: the verdict's words about the run before; ``silent``: a load runs, and is not heard.
        """
        runs = self._sampler.load is not None and not self._sampler.ended
        load = self._newest_load()
        rates = rates_of(self._last_second()) if runs else {}
        p99 = self._sampler.ring.newest(("p99",), 1)["p99"]
        return {
            "acknowledged": _figure(rates.get("acknowledged")),
            "offered": _figure(rates.get("offered")),
            "p99_ms": _figure(p99[0]) if runs and len(p99) else None,
            "so_far": self._so_far() if runs else None,
            "lost": "" if runs else self._lost,
            "runs": runs,
            "silent": not runs and load is not None and load.running,
        }

    def _last_second(self) -> list[LoadMetrics]:
        """The newest snapshots of all load clients. The status line has its figures from as many: over a tenth of a
        second a rate jumps, and two rates on one page differed."""
        frames = list(self._sampler.load_frames)
        return [each for each in frames if frames[-1].time_ns - each.time_ns < LAST_SECOND_NS]

    def _so_far(self) -> dict[str, Any] | None:
        load = self._newest_load()
        counted = load.so_far if load is not None and load.running else None
        if counted is None:
            return None
        return {"lost": counted.lost, "looked_up": counted.looked_up, "age_s": int(counted.age_s), "how": counted.how}

    def html(self) -> str:
        """The figures as a table."""
        names = ("acknowledged", "p99_ms", "lost")
        return html_table(
            ("orders/s", "p99, ms", "lost"),
            [tuple("-" if self._state[n] in (None, "") else self._state[n] for n in names)],
        )


class StageActions(NodeTable):
    """The table of nodes as one row of buttons: all kinds of fault, those of links too."""

    _esm = script("stage_actions.js")

    def _own_controls(self) -> list[Control]:
        return list(FAULTS.controls)


class StageChart(LiveCharts):
    """Throughput alone, as large as its place, with text that is as large as the stage's."""

    def __init__(self, cluster: Cluster, base_px: int = BASE_PX) -> None:
        super().__init__(cluster, lambda: [Throughput(nodes=False)], [], scale=base_px / 12, fills=True)


def _figure(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 1)
