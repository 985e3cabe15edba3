"""What all figures of one widget share: the time axis, the sources, the marks over them, and how they look.

A :class:`Scene` is one bokeh document's worth of figures. A :class:`Chart` draws on it and says which columns it needs
(:meth:`Scene.line`, :meth:`Scene.node_lines`); only those columns travel. Every time axis is the same range, so that
the figures scroll, zoom and stop together. A y axis does not jump: it ends at a round number, grows at once, and
shrinks when two fifths of it would do.

Learned about bokeh, and the reason for much of this code:

- A legend's entries are made anew whenever the data behind them change, which flickers. Legends here stand on a source
  that never changes.
- Annotations are not clipped to the frame. Marks are glyphs, drawn last.
- All glyphs of a source that changes cost time, also hidden ones. Each node's slot has a source of its own, which the
  page fills from the whole (a *part*, see :mod:`~zmqlab.widgets.live_figure`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
from bokeh.core.properties import value
from bokeh.models import (
    ColumnDataSource,
    CrosshairTool,
    DatetimeTicker,
    DatetimeTickFormatter,
    FixedTicker,
    Glyph,
    GlyphRenderer,
    HoverTool,
    Label,
    Legend,
    LegendItem,
    Line,
    LinearScale,
    NumeralTickFormatter,
    Range1d,
    Scatter,
    Text,
    UIElement,
    VArea,
    VSpan,
    VStrip,
)
from bokeh.plotting import figure

from zmqlab.widgets.live_figure import Frame, Stream
from zmqlab.widgets.marks import WINDOW_MS, Moment, Stretch, band_columns, mark_columns
from zmqlab.widgets.palette import BACKED, FAINT, FONT, GREY, INK, node_colour, node_dash, node_shape
from zmqlab.widgets.readings import COLUMNS, MAX_SLOTS, Column
from zmqlab.widgets.sampler import Sampler

HEIGHT_PX = 236
"""Of a figure, in pixels: three rows of figures fit on one screen."""
WINDOW_ROWS = 600
"""A minute: the y axes fit what was sampled in it."""
LANE_TOP, LANE_BOTTOM = 0.35, 17.0
"""The marks' own y range, in lanes: the first label hangs a third of a lane below the frame's top."""
SHRINK_AT = 0.4
"""A y axis shrinks when less than this share of it is used."""
COUNT_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""A y axis ends at one of these times a power of ten."""
EVERY_SERIES = "series"
"""The name of the source, and of the stream, with all columns."""


class Scene:
    """Figures that share a time axis."""

    def __init__(self) -> None:
        empty: dict[str, Any] = {name: [] for name in COLUMNS}
        self.series = ColumnDataSource(data=empty, name=EVERY_SERIES)
        """All columns. The lines of a node are drawn from its part instead."""
        self._parts = {
            slot: ColumnDataSource(data={"t": []}, name=f"{EVERY_SERIES}/{slot}") for slot in range(MAX_SLOTS)
        }
        """By slot: the columns of one node."""
        self.marks = ColumnDataSource(data=mark_columns(()), name="marks")
        self._laid_out: tuple[list[Moment], float, dict[str, list[Any]]] = ([], 0.0, {})
        """Marks, the window that they were laid out for, and their columns. Marks change much less often than
        frames."""
        self.bands = ColumnDataSource(data=band_columns((), 0.0), name="bands")
        self._still = ColumnDataSource(data={"x": [math.nan], "y": [math.nan]})
        """The source behind the legends; never changed."""
        self.x_range = Range1d(start=-WINDOW_MS, end=0, name="time")
        self._names: list[str] = ["t"]
        self._node_names: list[str] = []
        self._by_slot: dict[int, list[GlyphRenderer]] = {slot: [] for slot in range(MAX_SLOTS)}
        self._items: dict[int, list[LegendItem]] = {slot: [] for slot in range(MAX_SLOTS)}
        self._hovers: list[tuple[HoverTool, list[tuple[str, str]], str, str]] = []
        self._shown: tuple[dict[int, str] | None, dict[tuple[str, str], Any]] = (None, {})
        """Members by slot, and what the models say of them. Members change much less often than frames."""
        self._columns: tuple[tuple[int, ...] | None, tuple[str, ...]] = (None, ())
        """The slots of the members, and the columns that the charts need for them."""
        self._time_figures: list[figure] = []
        self._tops: dict[str, float] = {}

    # -- drawing -----------------------------------------------------------------------------------------------

    def time_figure(self, name: str, title: str, y_label: str, *, log: bool = False, y_range: Any = None) -> figure:
        """An empty figure over the time axis, with bands below what will be drawn."""
        chart = figure(
            name=name,
            title=title,
            height=HEIGHT_PX,
            sizing_mode="stretch_width",
            x_range=self.x_range,
            y_range=y_range or Range1d(start=0.1 if log else 0, end=100 if log else 1, name=f"{name}_y"),
            x_axis_type="datetime",
            y_axis_type="log" if log else "auto",
            y_axis_label=y_label,
            tools="xpan,xwheel_zoom",
            toolbar_location=None,
            min_border_left=62,
            min_border_right=26,
            background_fill_color=None,
            border_fill_color=None,
            outline_line_color=None,
        )
        chart.toolbar.active_scroll = None
        dress(chart)
        chart.xaxis.formatter = clock_format()
        chart.xaxis.ticker = DatetimeTicker(desired_num_ticks=5)
        chart.add_glyph(
            self.bands,
            VStrip(x0="start", x1="end", fill_color="colour", fill_alpha=0.13, line_color=None),
            level="underlay",
        )
        chart.extra_y_ranges = {"lanes": Range1d(start=-LANE_BOTTOM, end=LANE_TOP)}
        chart.extra_y_scales = {"lanes": LinearScale()}
        self._time_figures.append(chart)
        return chart

    def finish(self) -> None:
        """Draw the marks over everything else; called once, after all charts have drawn."""
        for chart in self._time_figures:
            line = VSpan(x="t", line_color="colour", line_width=1.3, line_alpha=0.9)
            chart.add_glyph(self.marks, line)
            backed = {"background_fill_color": "#ffffff", "background_fill_alpha": 0.7, "tags": [BACKED]}
            text = bold_label(x="t", y="y", text_color="colour", text_baseline="top", x_offset=-3, **backed)
            chart.add_glyph(self.marks, text, y_range_name="lanes")

    def empty_note(self, chart: figure, text: str, y_px: int = (HEIGHT_PX - 70) // 2) -> Label:
        """The words that stand in a chart until there is something in it, so far above its bottom."""
        label = Label(
            x=12,
            y=y_px,
            x_units="screen",
            y_units="screen",
            text=text,
            text_font_size="12px",
            text_font=FONT,
            name=f"{chart.name}_empty",
            tags=[FAINT],
        )
        chart.add_layout(label)
        return label

    def line(self, chart: figure, column: str, role: str = INK, **style: Any) -> GlyphRenderer:
        """Draw a column over time, in the colour that ``style`` names, or in the theme's colour for ``role``."""
        self.column(column)
        tags = [] if "line_color" in style else [role]
        glyph = Line(x="t", y=column, tags=tags, **({"line_width": 1.6, "line_color": "#000000"} | style))
        return chart.add_glyph(self.series, glyph)

    def node_lines(self, chart: figure, prefix: str, **style: Any) -> None:
        """Draw a line for each slot, in its colour; hidden while no node has the slot.

        Args:
            prefix: of the columns, as ``taken`` of ``taken0``, ``taken1``, ...
        """
        if prefix not in self._node_names:
            self._node_names.append(prefix)
        for slot, part in self._parts.items():
            part.data = {**part.data, f"{prefix}{slot}": []}
            glyph = Line(x="t", y=f"{prefix}{slot}", **(_node_style(slot) | style))
            renderer = chart.add_glyph(part, glyph, visible=False)
            renderer.name = f"{chart.name}_{prefix}{slot}"
            self._by_slot[slot].append(renderer)

    def node_areas(self, chart: figure, low: str, top: str, **style: Any) -> None:
        """Fill the room between two columns of each slot, in its colour; hidden while no node has the slot."""
        self._node_names += [prefix for prefix in (low, top) if prefix not in self._node_names]
        for slot, part in self._parts.items():
            part.data = {**part.data, f"{low}{slot}": [], f"{top}{slot}": []}
            glyph = VArea(x="t", y1=f"{low}{slot}", y2=f"{top}{slot}", fill_color=node_colour(slot), **style)
            renderer = chart.add_glyph(part, glyph, visible=False)
            renderer.name = f"{chart.name}_{top}{slot}"
            self._by_slot[slot].append(renderer)

    def node_column(self, prefix: str) -> None:
        """Have a column of each slot travel, for a hover alone."""
        if prefix not in self._node_names:
            self._node_names.append(prefix)

    def node_keys(self, chart: figure) -> list[LegendItem]:
        """Entries of the legend for all slots; hidden while no node has the slot."""
        items = []
        for slot in range(MAX_SLOTS):
            mark = Scatter(x="x", y="y", size=8, marker=node_shape(slot), **_mark_style(slot))
            item = self.key(chart, f"node{slot}", Line(x="x", y="y", **_node_style(slot)), mark)
            item.visible, item.name = False, f"{chart.name}_key{slot}"
            self._items[slot].append(item)
            items.append(item)
        return items

    def key(self, chart: figure, label: str, *glyphs: Glyph) -> LegendItem:
        """An entry of the legend, looking like ``glyphs``; their columns are x and y."""
        return LegendItem(label=label, renderers=[chart.add_glyph(self._still, glyph) for glyph in glyphs])

    def legend(self, chart: figure, items: list[LegendItem]) -> None:
        """A legend in one line above the figure."""
        chart.add_layout(
            Legend(
                items=items,
                orientation="horizontal",
                label_text_font_size="10px",
                label_text_font=FONT,
                label_standoff=3,
                glyph_width=14,
                glyph_height=12,
                spacing=7,
                padding=0,
                margin=2,
                border_line_color=None,
                background_fill_alpha=0,
            ),
            "above",
        )

    def hover(
        self, chart: figure, renderer: GlyphRenderer, rows: list[tuple[str, str]], node_prefix: str, unit: str
    ) -> None:
        """Show values at the mouse's moment.

        Args:
            renderer: the line whose points the mouse finds.
            rows: (label, bokeh format) each.
            node_prefix: of the columns that give a row for each node; empty: no such rows.
            unit: of those rows.
        """
        tool = HoverTool(
            renderers=[renderer],
            mode="vline",
            line_policy="nearest",
            tooltips=[("at", "@t{%H:%M:%S.%3N}"), *rows],
            formatters={"@t": "datetime"},
            name=f"{chart.name}_hover",
        )
        chart.add_tools(tool, CrosshairTool(dimensions="height", line_alpha=0.4, line_color=GREY))
        self._hovers.append((tool, rows, node_prefix, unit))

    def column(self, column: str) -> None:
        """Have a column travel, for a glyph that a chart draws itself."""
        if column not in self._names:
            self._names.append(column)

    # -- what it shows at one moment ---------------------------------------------------------------------------

    def frame(self, sampler: Sampler, window_ms: float = WINDOW_MS) -> Frame:
        """What the figures share at this moment: series, marks, bands, and which nodes there are.

        Args:
            window_ms: how much time the figures show.
        """
        frame = Frame(sampler.now_ms)
        if not self._time_figures:
            return frame
        names, ring, timeline = self.names(sampler), sampler.ring, sampler.timeline
        frame.streams[EVERY_SERIES] = Stream(ring.total, names, partial(ring.table, names))
        frame.tables["marks"] = self._mark_columns(timeline.marks, window_ms)
        bands: list[Stretch] = [*timeline.bands, *timeline.silences]
        frame.tables["bands"] = band_columns(bands, sampler.now_ms)
        self._show_nodes(frame, sampler)
        return frame

    def _mark_columns(self, marks: list[Moment], window_ms: float) -> dict[str, list[Any]]:
        known, known_ms, columns = self._laid_out
        if marks is not known or window_ms != known_ms:
            columns = mark_columns(marks, window_ms)
            self._laid_out = marks, window_ms, columns
        return columns

    def names(self, sampler: Sampler) -> tuple[str, ...]:
        """The columns that the charts need for the members of now."""
        slots = tuple(sorted([track.slot for track in sampler.nodes.values()]))
        if slots != self._columns[0]:
            names = (*self._names, *(f"{prefix}{slot}" for prefix in self._node_names for slot in slots))
            self._columns = slots, names
        return self._columns[1]

    def _show_nodes(self, frame: Frame, sampler: Sampler) -> None:
        present = {track.slot: name for name, track in sampler.nodes.items()}
        if present != self._shown[0]:
            self._shown = present, self._properties_for(present)
        frame.properties |= self._shown[1]

    def _properties_for(self, present: Mapping[int, str]) -> dict[tuple[str, str], Any]:
        """What the models of the nodes say while these are the members, by slot."""
        made: dict[tuple[str, str], Any] = {}
        for slot in range(MAX_SLOTS):
            for renderer in self._by_slot[slot]:
                made[str(renderer.name), "visible"] = slot in present
            for item in self._items[slot]:
                made[str(item.name), "visible"] = slot in present
                made[str(item.name), "label"] = {"value": present.get(slot, f"node{slot}")}
        for tool, rows, prefix, unit in self._hovers:
            nodes = [[name, f"@{prefix}{slot}{{0,0}} {unit}"] for slot, name in sorted(present.items()) if prefix]
            made[str(tool.name), "tooltips"] = [["at", "@t{%H:%M:%S.%3N}"], *map(list, rows), *nodes]
        return made

    def fit(self, frame: Frame, chart: figure, columns: Mapping[str, Column], least: float) -> None:
        """Let the y axis of ``chart`` hold ``columns``, with room for labels above.

        Args:
            least: the axis ends no lower.
        """
        highest = max(map(highest_of, columns.values()), default=0.0)
        top = steady_top(self._tops.get(str(chart.name), 0.0), max(highest * 1.12, least))
        self._tops[str(chart.name)] = top
        frame.properties[f"{chart.name}_y", "end"] = top

    def fit_log(self, frame: Frame, chart: figure, low: Column, high: Column) -> None:
        """The same for a logarithmic axis, from 1 or 3 times a power of ten below ``low`` to such a number above
        ``high``."""
        positive = low[low > 0]
        lowest = float(positive.min()) if positive.size else 0.5
        highest = highest_of(high) or 50.0
        bottom = _log_step(lowest / 1.2, math.floor)
        top = max(_log_step(highest * 2.0, math.ceil), bottom * 30)
        frame.properties[f"{chart.name}_y", "start"] = bottom
        frame.properties[f"{chart.name}_y", "end"] = top


def _node_style(slot: int) -> dict[str, Any]:
    return {"line_color": node_colour(slot), "line_dash": node_dash(slot), "line_width": 1.5}


def _mark_style(slot: int) -> dict[str, Any]:
    return {"fill_color": node_colour(slot), "line_color": node_colour(slot), "line_width": 2}


def bold_label(**where: Any) -> Text:
    """The texts of the column ``label``, small and bold. Each ends at its x; ``where`` gives the places and the
    colour."""
    small = {"text_font_size": "10px", "text_font": value(FONT), "text_font_style": "bold"}
    return Text(text="label", text_align="right", **small, **where)


def dress(chart: figure) -> None:
    """Set a figure's type sizes and lines. Its colours come from the theme."""
    chart.title.text_font = FONT
    chart.title.text_font_size = "13px"
    chart.title.standoff = 4
    for axis in chart.axis:
        axis.axis_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "11px"
        axis.major_label_text_font = FONT
        axis.major_label_text_font_size = "10px"
        axis.minor_tick_line_color = None
        axis.axis_label_standoff = 6
    chart.yaxis.formatter = NumeralTickFormatter(format="0,0[.]0")
    chart.xgrid.visible = False


def clock_format() -> DatetimeTickFormatter:
    """The time of day, with milliseconds on an axis that is zoomed in so far. Of an axis with one tick bokeh knows no
    scale, and takes it for one of years."""
    scales = ("seconds", "minsec", "minutes", "hourmin", "hours", "days", "months", "years")
    return DatetimeTickFormatter(milliseconds="%H:%M:%S.%3N", **dict.fromkeys(scales, "%H:%M:%S"))


def log_ticks(chart: figure) -> None:
    """Ticks at powers of ten that read as numbers of milliseconds."""
    chart.yaxis.ticker = FixedTicker(ticks=[10.0**exponent for exponent in range(-3, 7)])
    chart.yaxis.formatter = NumeralTickFormatter(format="0,0[.]000")
    chart.ygrid.ticker = chart.yaxis[0].ticker


def steady_top(before: float, wanted: float) -> float:
    """A round number from ``wanted`` on; ``before``, as long as that is neither too small nor much too large."""
    if before * SHRINK_AT <= wanted <= before:
        return before
    decade = 10.0 ** math.floor(math.log10(wanted))
    return next(step * decade for step in COUNT_STEPS if step * decade >= wanted)


def _log_step(value: float, rounding: Callable[[float], int]) -> float:
    """1 or 3 times a power of ten, below or above ``value``."""
    half_decades = rounding(2 * math.log10(value))
    return float(10.0 ** (half_decades // 2) * (3.0 if half_decades % 2 else 1.0))


def highest_of(values: Column) -> float:
    """The largest number; 0 if there is none."""
    highest = float(np.fmax.reduce(values, initial=-np.inf))
    return highest if math.isfinite(highest) else 0.0


class Chart(Protocol):
    """One or more figures with a purpose, as a widget uses them."""

    name: str

    def draw(self, scene: Scene) -> list[UIElement]:
        """Make the figures, each a tile of the page; called once."""

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        """Add to ``frame`` what this chart shows now. ``options``: the toolbar's values by key."""

    def summary(self, sampler: Sampler) -> str:
        """The newest figures in one line, for places that show text alone."""
