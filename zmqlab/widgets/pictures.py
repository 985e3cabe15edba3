"""Pictures of what was measured: bokeh figures that do not move, for chapters and reports.

:class:`Picture` brings a figure to the page as :class:`~zmqlab.widgets.live_figure.LiveFigure` does, without a network,
and once. The figure is an ordinary bokeh layout. A table says the same in words, for places without widgets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import traitlets
from bokeh.embed import json_item
from bokeh.layouts import column
from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    LegendItem,
    NumeralTickFormatter,
    Range1d,
    UIElement,
)
from bokeh.plotting import figure
from ipywidgets import widget_serialization

from zmqlab.histogram import Histogram
from zmqlab.lab.sweep import Sweep
from zmqlab.load.load_report import LatencySummary
from zmqlab.tables import html_table
from zmqlab.widgets.bokeh_library import BokehLibrary, bokeh_library
from zmqlab.widgets.live_figure import page_text, with_html
from zmqlab.widgets.palette import FAINT, GREY, INK, role_colour, themed
from zmqlab.widgets.scene import Scene, dress, log_ticks

PICTURE_HEIGHT_PX = 300
PICTURE_WIDTH_PX = 760
"""At most; a notebook's column of text is about as wide."""
DASHES = ("solid", "dashed", "dotted")
SERIES = (INK, "p99", FAINT, "p50")
"""Roles of curves that are no nodes; with the dashes twelve that differ."""
NS_PER_MS = 1_000_000
NINES = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)
"""The percentiles that have a tick."""
STEPS_A_DECADE = 24
"""Points of a curve between two ticks of the axis: smooth at this width."""


def _script() -> str:
    """``live_figure.js`` up to its ``render``, with what that part uses, then ``pictures.js``."""
    shared, found, _ = page_text("live_figure.js").partition("async function render")
    assert found, "live_figure.js has no render() where its shared part ends"
    return page_text("mark_labels.js") + shared + page_text("pictures.js")


class Picture(anywidget.AnyWidget):
    """A bokeh layout on a page.

    Args:
        layout: the figures; also in :attr:`layout_model`, for ``bokeh.plotting.save`` and the like.
        text: HTML that says the same.
    """

    _esm = _script()
    _css = page_text("live_figure.css")
    _library = traitlets.Instance(BokehLibrary).tag(sync=True, **widget_serialization)
    _item = traitlets.Dict().tag(sync=True)
    _themes = traitlets.Dict().tag(sync=True)

    def __init__(self, layout: UIElement, text: str) -> None:
        self.layout_model = layout
        self._text = text
        super().__init__(
            _library=bokeh_library(),
            _item=json_item(layout),
            _themes={"light": themed(layout, "light"), "dark": themed(layout, "dark")},
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_html(super()._repr_mimebundle_(**kwargs), self._repr_html_())

    def _repr_html_(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Picture()"


def percentile_curves(histograms: Mapping[str, Histogram]) -> Picture:
    """Latency by percentile, a curve for each histogram, as HdrHistogram plots it.

    The x axis gives as much room to the last hundredth of the orders as to the ninety-nine before it, because the
    longest waits are there. Each curve ends with the largest latency.

    Args:
        histograms: label -> latencies in nanoseconds.
    """
    chart = _figure("Latency by percentile", "this share of the orders was at most so slow", "ms", x_log=False)
    chart.x_range = Range1d(start=0, end=_nines(NINES[-1]))
    chart.xaxis.ticker = FixedTicker(ticks=[_nines(percent) for percent in NINES])
    chart.xaxis.formatter = CustomJSTickFormatter(code="return `${+(100 * (1 - 10 ** -tick)).toFixed(3)} %`")
    items = []
    for number, (label, histogram) in enumerate(histograms.items()):
        last = min(math.log10(max(histogram.count, 10)), _nines(NINES[-1]))  # beyond it there is only the maximum
        steps = range(int(last * STEPS_A_DECADE) + 1)
        percents = [100 * (1 - 10 ** (-step / STEPS_A_DECADE)) for step in steps]
        values = [max(value / NS_PER_MS, 0.001) for value in (*histogram.percentiles(percents), histogram.max)]
        percents, ends = [*percents, 100.0], [*map(_nines, percents), last]
        source = ColumnDataSource(
            {
                "x": ends,
                "percent": percents,
                "ms": values,
                "label": [label] * len(values),
            }
        )
        line = _line(chart, source, ("x", "ms"), SERIES[number % len(SERIES)], DASHES[number % len(DASHES)])
        items.append(LegendItem(label=label, renderers=[line]))
        tooltips = [("", "@label"), ("percentile", "@percent{0.[000]} %"), ("latency", "@ms{0,0.00} ms")]
        chart.add_tools(HoverTool(renderers=[line], tooltips=tooltips, mode="vline" if number == 0 else "mouse"))
    Scene().legend(chart, items)
    rows = [(label, *(f"{value:.2f}" for value in LatencySummary.of(each))) for label, each in histograms.items()]
    return Picture(chart, html_table(("ms", "p50", "p90", "p99", "p99.9", "max"), rows))


def sweep_curves(sweep: Sweep) -> Picture:
    """Throughput and response time over the offered rate, from a sweep of rates; all axes are logarithmic."""
    columns = {
        "offered": [step.offered for step in sweep],
        "acknowledged": [step.acknowledged for step in sweep],
        "p50": [step.response_time.p50_ms for step in sweep],
        "p99": [step.response_time.p99_ms for step in sweep],
        "p99_9": [step.response_time.p99_9_ms for step in sweep],
    }
    source = ColumnDataSource(columns)
    tooltips = [
        ("offered", "@offered{0,0} orders/s"),
        ("acknowledged", "@acknowledged{0,0} orders/s"),
        ("p50, p99, p99.9", "@p50{0,0.0}, @p99{0,0.0}, @p99_9{0,0.0} ms"),
    ]
    rates = _figure("Throughput: what came back", "", "orders/s", x_log=True)
    ends = [min(columns["offered"]), max(columns["offered"])]
    ideal = rates.line(ends, ends, line_dash="dotted", line_color=GREY, line_width=1.5)
    done = _points(rates, source, "acknowledged", INK, "solid")
    times = _figure("Response time", "orders/s offered", "ms", x_log=True)
    items = [
        LegendItem(label=label, renderers=_points(times, source, name, role=name, dash=dash))
        for (name, label), dash in zip({"p50": "p50", "p99": "p99", "p99_9": "p99.9"}.items(), DASHES, strict=True)
    ]
    for chart in (rates, times):
        chart.x_range = rates.x_range
        chart.xaxis.formatter = NumeralTickFormatter(format="0,0")
        chart.xaxis.ticker = FixedTicker(ticks=_round_rates(*ends))
        chart.add_tools(HoverTool(tooltips=tooltips, mode="mouse"))
    rates.yaxis.ticker = rates.xaxis[0].ticker
    rates.ygrid.ticker = rates.xaxis[0].ticker
    rates.yaxis.formatter = NumeralTickFormatter(format="0,0")
    scene = Scene()
    scene.legend(
        rates, [LegendItem(label="acknowledged", renderers=done), LegendItem(label="offered", renderers=[ideal])]
    )
    scene.legend(times, items)
    layout = column(rates, times, sizing_mode="stretch_width", max_width=PICTURE_WIDTH_PX)
    return Picture(layout, sweep._repr_html_())


def _figure(title: str, x_label: str, y_label: str, *, x_log: bool) -> figure:
    """An empty figure with a logarithmic y axis."""
    chart = figure(
        title=title,
        height=PICTURE_HEIGHT_PX,
        sizing_mode="stretch_width",
        max_width=PICTURE_WIDTH_PX,
        x_axis_type="log" if x_log else "linear",
        y_axis_type="log",
        x_axis_label=x_label or None,
        y_axis_label=y_label,
        tools="",
        toolbar_location=None,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_left=70,
        min_border_right=30,
    )
    dress(chart)
    log_ticks(chart)
    return chart


def _points(chart: figure, source: ColumnDataSource, name: str, role: str, dash: str) -> list[Any]:
    line = _line(chart, source, ("offered", name), role, dash)
    colour = role_colour(role, "light")
    dots = chart.scatter("offered", name, source=source, size=7, fill_color=colour, line_color=None)
    dots.glyph.tags = [role]
    return [line, dots]


def _line(chart: figure, source: ColumnDataSource, columns: tuple[str, str], role: str, dash: str) -> Any:
    """A line in the theme's colour for ``role``."""
    colour = role_colour(role, "light")
    line = chart.line(*columns, source=source, line_width=2, line_color=colour, line_dash=dash)
    line.glyph.tags = [role]
    return line


def _nines(percent: float) -> float:
    """The number of nines of a percentile: 90 has one, 99 two, 99.9 three."""
    return -math.log10(1 - percent / 100)


def _round_rates(low: float, high: float) -> Sequence[float]:
    """1, 3, 10, 30, ... from below ``low`` to above ``high``."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**exponent for exponent in exponents for step in (1, 3)]
