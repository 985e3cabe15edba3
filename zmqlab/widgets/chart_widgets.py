"""Charts of a cluster as widgets: each alone, or several on one time axis.

A :class:`LiveCharts` owns a :class:`~zmqlab.widgets.scene.Scene` and the charts on it. At each tick of the sampler it
asks the charts for a :class:`~zmqlab.widgets.live_figure.Frame` and pushes it, in the sampler's thread. The public
classes below choose the charts and what stands in the toolbar.

:meth:`LiveCharts.static` gives the same figures as a bokeh layout, filled with what is known now, for a report.
"""

from __future__ import annotations

import html
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import Column, UIElement

from zmqlab.lab.cluster import Cluster
from zmqlab.load.order_flow import SYMBOL_NAMES
from zmqlab.widgets.book_chart import Book, BookWatch
from zmqlab.widgets.live_figure import Frame, LiveFigure
from zmqlab.widgets.marks import WINDOW_MS, Moment
from zmqlab.widgets.palette import ThemeName, apply_theme
from zmqlab.widgets.sampler import Sampler, sampler_of
from zmqlab.widgets.scene import Chart, Scene
from zmqlab.widgets.time_charts import GroupLeads, Latency, Leaders, Replication, Throughput

GRID = {
    "display": "grid",
    "grid-template-columns": "repeat(auto-fit, minmax(min(400px, 100%), 1fr))",
    "gap": "14px 10px",
}
WINDOW = {
    "key": "window",
    "kind": "select",
    "label": "show the last",
    "value": "60 s",
    "options": ["30 s", "60 s", "120 s"],
}
SERVICE = {"key": "service", "kind": "toggle", "label": "service time beside response time", "value": False}


class LiveCharts(LiveFigure):
    """Any charts, in a grid that follows the page's width.

    Args:
        cluster: a cluster that has been started.
        make_charts: makes the charts; called once for the page, and once for each static layout.
        toolbar: what stands above the figures; see :class:`~zmqlab.widgets.live_figure.LiveFigure`.
        scale: how much larger than usual all text is.
        fills: whether the figures take the height of their place on the page.
    """

    def __init__(
        self,
        cluster: Cluster,
        make_charts: Callable[[], Sequence[Chart]],
        toolbar: Sequence[dict[str, Any]] = (WINDOW,),
        *,
        scale: float = 1.0,
        fills: bool = False,
    ) -> None:
        self._cluster = cluster
        self._make_charts = make_charts
        self._charts = tuple(make_charts())
        self._sampler = sampler_of(cluster)
        self._scene = Scene()
        self._told: list[Moment] = []
        """The newest mark that a page has, alone in a list; empty: none. Another newest mark is news."""
        layout = draw(self._scene, self._charts)
        enlarge(layout, scale)
        if fills:
            fill_place(layout)
        super().__init__(layout, toolbar=toolbar, sampler=self._sampler)
        self._unregister = self._sampler.on_tick(self._tick)

    def static(self, theme: ThemeName = "light") -> UIElement:
        """The charts as they are now, as a bokeh layout, for ``bokeh.plotting.save`` or ``bokeh.embed``."""
        scene, charts = Scene(), self._make_charts()
        layout = draw(scene, charts)
        fill(layout, frame_of(scene, charts, self._sampler, self.options()))
        apply_theme(layout, theme)
        return layout

    def close(self) -> None:
        """Take the charts from the page; the cluster goes on, and so does its sampler."""
        self._unregister()
        super().close()

    def _tick(self, owed: bool = False) -> None:
        """Runs in the sampler's thread; or, for what is owed to a page, in the kernel's."""
        if self._sampler.problem and not self._problem:
            self._problem = self._sampler.problem
        if self._sampler.ended:
            self._ended = True
        marks = self._sampler.timeline.marks[-1:]
        is_news = owed or marks != self._told
        if self.refresh(lambda: frame_of(self._scene, self._charts, self._sampler, self.options()), is_news):
            self._told = marks

    def _push_last(self) -> None:
        self._tick(owed=True)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_html(super()._repr_mimebundle_(**kwargs), self._repr_html_())

    def _repr_html_(self) -> str:
        lines = [f"<li>{chart.name}: {html.escape(chart.summary(self._sampler))}</li>" for chart in self._charts]
        head = (
            f"Charts of cluster {html.escape(self._cluster.name)}, live in JupyterLab; at {time.strftime('%H:%M:%S')}:"
        )
        return f"<p>{head}</p><ul>{''.join(lines)}</ul>"


class ThroughputChart(LiveCharts):
    """Orders a second: offered, acknowledged, and taken by each node."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, lambda: [Throughput()])


class LatencyChart(LiveCharts):
    """Response time: p50, p99, p99.9 and maximum of the last second, with service time on demand."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, lambda: [Latency()], [WINDOW, SERVICE])


class ReplicationChart(LiveCharts):
    """How far each node is behind, and which node leads."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, lambda: [Replication(cluster.shards), leaders_of(cluster.shards)])


class _WithBook(LiveCharts):
    """Charts with an order book among them, which is asked for only while a page shows it."""

    def __init__(
        self,
        cluster: Cluster,
        make_charts: Callable[[BookWatch], Sequence[Chart]],
        toolbar: Sequence[dict[str, Any]],
        symbol: str,
    ) -> None:
        seen = weakref.WeakMethod(self._seen)
        self._watch = BookWatch(cluster, symbol, lambda: (is_seen := seen()) is not None and is_seen())
        self._forget_watch = cluster.at_stop(self._watch.stop)
        super().__init__(cluster, lambda: make_charts(self._watch), toolbar)

    def set_option(self, key: str, value: Any) -> None:
        """As before; another symbol also changes the book that is asked for."""
        super().set_option(key, value)
        if key == "symbol":
            self._watch.watch(str(value))

    def close(self) -> None:
        """Take the charts from the page, and stop asking for the book."""
        self._watch.stop()
        self._forget_watch()
        super().close()

    def _seen(self) -> bool:
        """Whether a page may show the book. Runs in the watch's thread, which starts before this widget is made."""
        return "_pushes" in vars(self) and self.watched

    def _tick(self, owed: bool = False) -> None:
        if self._watch.error is not None and self._sampler.failure is None:
            self._sampler.failure = self._watch.error
        super()._tick(owed)


class BookChart(_WithBook):
    """The depth of a symbol's book, its last trades, and its live tape."""

    def __init__(self, cluster: Cluster, symbol: str = SYMBOL_NAMES[0]) -> None:
        super().__init__(cluster, lambda watch: [Book(watch)], [symbol_option(symbol)], symbol)


class AllCharts(_WithBook):
    """All charts on one page, as :class:`~zmqlab.widgets.lab_panel.Lab` shows them."""

    def __init__(self, cluster: Cluster, symbol: str = SYMBOL_NAMES[0]) -> None:
        super().__init__(
            cluster,
            lambda watch: [
                Throughput(),
                Latency(),
                Replication(cluster.shards),
                leaders_of(cluster.shards),
                Book(watch),
            ],
            [WINDOW, SERVICE, symbol_option(symbol)],
            symbol,
        )


def leaders_of(shards: int) -> Chart:
    """The chart of who leads: one row a node, or with several groups a stack of how many each leads."""
    return Leaders() if shards == 1 else GroupLeads(shards)


def symbol_option(symbol: str) -> dict[str, Any]:
    """The toolbar's choice of a book; ``symbol`` is chosen at first."""
    options = list(SYMBOL_NAMES) if symbol in SYMBOL_NAMES else [symbol, *SYMBOL_NAMES]
    return {"key": "symbol", "kind": "select", "label": "book of", "value": symbol, "options": options}


def draw(scene: Scene, charts: Sequence[Chart]) -> Column:
    """Let the charts draw on ``scene``; returns the layout of all their figures."""
    figures: list[UIElement] = []
    for chart in charts:
        figures += chart.draw(scene)
    scene.finish()
    return Column(children=figures, sizing_mode="stretch_width", styles=GRID)


def enlarge(layout: UIElement, scale: float) -> None:
    """Make all text of a layout larger, and the room around its figures with it."""
    for model in layout.references() if scale != 1.0 else ():
        for name in sorted(model.properties()):
            if name.endswith("text_font_size"):
                size = getattr(model, name)
                plain = str(getattr(size, "value", size))
                setattr(model, name, f"{scale * float(plain.removesuffix('px')):.0f}px")
            elif name.startswith("min_border_") and getattr(model, name):
                setattr(model, name, round(scale * getattr(model, name)))


def fill_place(layout: Column) -> None:
    """Let the figures of a layout share the height that their place on the page has."""
    layout.sizing_mode, layout.styles = "stretch_both", {}
    for child in layout.children:
        child.sizing_mode, child.height = "stretch_both", None


def frame_of(scene: Scene, charts: Sequence[Chart], sampler: Sampler, options: Mapping[str, Any]) -> Frame:
    """What the charts show now. ``options``: the toolbar's values by key."""
    frame = scene.frame(sampler, 1000 * float(str(options["window"]).split()[0]) if "window" in options else WINDOW_MS)
    for chart in charts:
        chart.update(scene, sampler, frame, options)
    return frame


def fill(layout: UIElement, frame: Frame) -> None:
    """Give the models of ``layout`` what ``frame`` shows, as the JavaScript of a page does."""
    named = {model.name: model for model in layout.references() if isinstance(getattr(model, "name", None), str)}
    for name, stream in frame.streams.items():
        rows = dict(zip(stream.names, stream.newest(None), strict=True))
        unknown = np.full(len(rows["t"]), np.nan)
        named[name].data = dict.fromkeys(named[name].data, unknown) | rows
        for part in (model for other, model in named.items() if other.startswith(f"{name}/")):
            part.data = {column: rows.get(column, unknown) for column in part.data}
    for name, table in frame.tables.items():
        if name in named:
            named[name].data = table
    for (name, prop), value in frame.properties.items():
        setattr(named[name], prop, value)
    if "time" in named:
        named["time"].start, named["time"].end = frame.now_ms - WINDOW_MS, frame.now_ms


def with_html(bundle: Any, text: str) -> Any:
    """A widget's mimebundle with a static HTML beside it, for places that have no widgets."""
    if isinstance(bundle, tuple):
        return ({**bundle[0], "text/html": text}, *bundle[1:])
    return {**bundle, "text/html": text} if bundle is not None else {"text/html": text}
