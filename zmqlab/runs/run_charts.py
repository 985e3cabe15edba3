"""Charts of kept runs as SVG: curves over time with the faults behind them, and latency by percentile.

A chart is text, made once, without a script: it opens offline, prints, and follows the theme of its page, because its
colours are classes of the page's style sheet (:data:`STYLE`). Text in an SVG shrinks with the picture. So a page has
each chart in two widths (:data:`WIDTHS_PX`) and shows the one that fits.

Every axis has its unit. Events are lines with labels in lanes above the curves; a label that finds no room is left out,
and the list of events tells it. A band is a stretch of time in which something was broken.

Left out on purpose: what is worth showing, which is in :mod:`zmqlab.runs.run_pages`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from zmqlab.histogram import Histogram

WIDTHS_PX = (1040, 700)
"""Of a page of 1,120 pixels and more, and of one of 800."""
HEIGHT_PX = 250
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 58, 18, 24, 40
"""Room around the frame for ticks, units and the labels of both axes."""
LANES, LANE_PX, CHARACTER_PX = 4, 14, 6.3
"""Labels of events: at most four lines, each so high; a letter is so wide at most."""
TICKS_PX = 90
"""Between two ticks of a time axis, at least."""
HOVER_WHOLE = 10_000
"""From here on a moment is told without decimals: it is a rate."""
HOVER_MAX = 1_500
"""More moments than that have no figures under the mouse: each takes 150 bytes."""
NINES = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)
"""The percentiles that have a tick."""
STEPS_A_DECADE = 24
NS_PER_MS = 1_000_000
SERIES = 7
"""Colours; then dashes tell series of the same colour apart."""

_COLOURS = {
    "ink": ("#1f2328", "#e6e8eb"),
    "faint": ("#59636e", "#a3abb5"),
    "grid": ("#e4e7eb", "#30363d"),
    "paper": ("#ffffff", "#111418"),
    "panel": ("#f6f8fa", "#1a1f25"),
    "fault": ("#c2500a", "#ff8f4a"),
    "change": ("#2073b5", "#6db3ea"),
    "election": ("#00805d", "#2cc295"),
    "ok": ("#1a7f37", "#4ac26b"),
    "bad": ("#c4242b", "#ff7b72"),
    "unsure": ("#8a6100", "#e0b34a"),
    "c0": ("#0072b2", "#4da3de"),
    "c1": ("#d98a00", "#f0b03a"),
    "c2": ("#00916a", "#2cc295"),
    "c3": ("#bf5f96", "#df93bf"),
    "c4": ("#4aa5dc", "#8ccbf2"),
    "c5": ("#9a8400", "#d6be2b"),
    "c6": ("#7d7d7d", "#a8a8a8"),
}
"""On light and on dark pages: Okabe and Ito's colours, as in the panel, darker on white and lighter on black."""

STYLE = (
    """
.zr svg { display: block; width: 100%; height: auto; font-size: 11px; overflow: visible; }
.zr svg text { fill: var(--faint); font-family: inherit; }
.zr svg .grid { stroke: var(--grid); stroke-width: 1; shape-rendering: crispEdges; }
.zr svg .frame { stroke: var(--faint); stroke-width: 1; fill: none; shape-rendering: crispEdges; }
.zr svg .curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.zr svg .offered { stroke: var(--faint); stroke-dasharray: 2 4; }
.zr svg .band { fill: var(--fault); opacity: 0.13; }
.zr svg .silent { fill: var(--bad); opacity: 0.3; }
.zr svg .mark { stroke-width: 1.2; opacity: 0.85; }
.zr svg text.label { font-weight: 600; font-size: 10.5px; }
.zr svg .hit { fill: transparent; }
.zr svg .hit:hover { fill: var(--ink); opacity: 0.1; }
"""
    + "".join(
        f".zr .{name}, .zr svg text.{name} {{ --own: var(--{name}); }}\n"
        for name in ("fault", "change", "election", *(f"c{number}" for number in range(SERIES)))
    )
    + """
.zr svg .curve[class*=" c"], .zr svg .mark { stroke: var(--own); }
.zr svg .curve.dashed { stroke-dasharray: 7 4; }
.zr svg text.label { fill: var(--own); }
"""
)


def colours(dark: bool) -> str:
    """The colours of a theme as CSS properties."""
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in _COLOURS.items())


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart."""

    name: str
    style: str
    """A class: ``c0``, ``c1``, ..., or ``offered``."""
    points: Sequence[tuple[float, float | None]]
    """x and y; None breaks the line."""


@dataclass(frozen=True, slots=True)
class Line:
    """A moment with a label."""

    at: float
    label: str
    sort: str
    """``fault``, ``change`` or ``election``."""


@dataclass(frozen=True, slots=True)
class Stripe:
    """A stretch of time."""

    start: float
    end: float
    label: str
    style: str = "band"


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What all charts of a run have behind their curves; times in seconds since the first order was due."""

    end: float
    """The axis reaches from 0 to here."""
    lines: Sequence[Line] = ()
    stripes: Sequence[Stripe] = ()
    axis: str = "seconds since the first order was due"
    """What stands below it."""
    unit: str = "s"
    """Of its figures under the mouse."""


def series_style(number: int) -> str:
    """The look of the curve with this number."""
    return f"c{number % SERIES}" + (" dashed" if number // SERIES % 2 else "")


def time_chart(unit: str, curves: Sequence[Curve], behind: Backdrop, *, log: bool = False) -> str:
    """Curves over the seconds of a run, or over what the axis of ``behind`` says, in both widths."""
    return "".join(f'<div class="w{width}">{_time_svg(width, unit, curves, behind, log)}</div>' for width in WIDTHS_PX)


def percentile_chart(histograms: Sequence[tuple[str, str, Histogram]]) -> str:
    """Latency by percentile, in both widths; ``(name, style, latencies in nanoseconds)`` each.

    The x axis gives as much room to the last hundredth of the orders as to the ninety-nine before it, because the
    longest waits are there.
    """
    curves = [Curve(name, style, _percentile_points(each)) for name, style, each in histograms if each.count]
    return "".join(f'<div class="w{width}">{_percentile_svg(width, curves)}</div>' for width in WIDTHS_PX)


# -- axes ----------------------------------------------------------------------------------------------------------


def round_ticks(high: float, count: int) -> list[float]:
    """Round numbers from 0 to at least ``high``, about ``count`` of them."""
    rough = max(high, 1e-9) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
    return [number * step for number in range(math.ceil(high / step - 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1 and 3 times powers of ten, from at most ``low`` to at least ``high``; two decades at least."""
    steps = [each * 10.0**power for power in range(-4, 9) for each in (1, 3)]
    first = max((number for number, step in enumerate(steps) if step <= low), default=0)
    last = min((number for number, step in enumerate(steps) if step >= high), default=len(steps) - 1)
    return steps[first : max(last, first + 4) + 1]


def tick_text(value: float) -> str:
    """A tick's number: ``20,000``, ``0.3``."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def _time_svg(width: int, unit: str, curves: Sequence[Curve], behind: Backdrop, log: bool) -> str:
    lanes = lanes_of(behind.lines, width, behind.end)
    top = TOP_PX + LANE_PX * max((lane + 1 for lane in lanes if lane is not None), default=0)
    height = HEIGHT_PX + top - TOP_PX
    right, bottom = width - RIGHT_PX, height - BOTTOM_PX

    def x_of(at: float) -> float:
        return LEFT_PX + (right - LEFT_PX) * min(max(at / behind.end, 0.0), 1.0)

    y_of, ticks = _y_axis([y for curve in curves for _, y in curve.points if y is not None], top, bottom, log)
    seconds = round_ticks(behind.end, (width - LEFT_PX) // TICKS_PX)
    seconds = [each for each in seconds if each <= behind.end * 1.001]
    parts = [*_stripes(behind.stripes, x_of, top, bottom), *_grid(ticks, y_of, right, unit, top)]
    parts += [_text(x_of(each), bottom + 15, tick_text(each), "middle") for each in seconds]
    parts.append(_text((LEFT_PX + right) / 2, bottom + 32, behind.axis, "middle"))
    parts += [_curve(each, x_of, y_of) for each in curves]
    parts += _marks(behind.lines, lanes, x_of, bottom, right)
    parts += _hovers(curves, x_of, top, bottom, (behind.unit, unit))
    parts.append(f'<path class="frame" d="M{LEFT_PX} {top}V{bottom}H{right}"/>')
    return _svg(width, height, parts)


def _percentile_svg(width: int, curves: Sequence[Curve]) -> str:
    right, top, bottom = width - RIGHT_PX, TOP_PX, HEIGHT_PX + 20 - BOTTOM_PX
    last = max((curve.points[-1][0] for curve in curves), default=2.0)

    def x_of(nines: float) -> float:
        return LEFT_PX + (right - LEFT_PX) * min(nines / last, 1.0)

    y_of, ticks = _y_axis([y for curve in curves for _, y in curve.points if y is not None], top, bottom, True)
    shown = [percent for percent in NINES if _nines(percent) <= last]
    parts = _grid(ticks, y_of, right, "ms", top)
    parts += [f'<path class="grid" d="M{x_of(_nines(each)):.1f} {top}V{bottom}"/>' for each in shown]
    for each in shown:
        x = x_of(_nines(each))
        at_edge = x > right - RIGHT_PX  # its number would be cut
        parts.append(_text(width - 2 if at_edge else x, bottom + 15, f"{each:g} %", "end" if at_edge else "middle"))
    parts.append(
        _text((LEFT_PX + right) / 2, bottom + 32, "this share of the orders (%) was at most so slow", "middle")
    )
    parts += [_curve(each, x_of, y_of) for each in curves]
    parts.append(f'<path class="frame" d="M{LEFT_PX} {top}V{bottom}H{right}"/>')
    return _svg(width, HEIGHT_PX + 20, parts)


Axis = Callable[[float], float]


def _y_axis(values: Sequence[float], top: float, bottom: float, log: bool) -> tuple[Axis, list[float]]:
    if not log:
        ticks = round_ticks(max(values, default=1.0) * 1.05 or 1.0, 4)
        return (lambda y: bottom - (bottom - top) * y / ticks[-1]), ticks
    above = [value for value in values if value > 0]
    ticks = log_ticks(min(above, default=0.1), max(above, default=10.0))
    low, high = math.log10(ticks[0]), math.log10(ticks[-1])
    return (lambda y: bottom - (bottom - top) * (math.log10(max(y, ticks[0])) - low) / (high - low)), ticks


def _percentile_points(histogram: Histogram) -> list[tuple[float, float | None]]:
    last = min(math.log10(max(histogram.count, 10)), _nines(NINES[-1]))  # beyond it there is only the maximum
    steps = [step / STEPS_A_DECADE for step in range(int(last * STEPS_A_DECADE) + 1)]
    values = histogram.percentiles([100 * (1 - 10**-nines) for nines in steps])
    return [(nines, max(value / NS_PER_MS, 0.001)) for nines, value in zip(steps, values, strict=True)]


def _nines(percent: float) -> float:
    """The number of nines of a percentile: 90 has one, 99 two, 99.9 three."""
    return -math.log10(1 - percent / 100)


# -- parts of a picture --------------------------------------------------------------------------------------------


def _svg(width: int, height: float, parts: Iterable[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height:g}" role="img">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    styled = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{styled}>{escape(text)}</text>'


def _grid(ticks: Sequence[float], y_of: Axis, right: float, unit: str, top: float) -> list[str]:
    """Lines and numbers of the y axis, and its unit above them."""
    lines = [f'<path class="grid" d="M{LEFT_PX} {y_of(tick):.1f}H{right}"/>' for tick in ticks]
    numbers = [_text(LEFT_PX - 7, y_of(tick) + 4, tick_text(tick), "end") for tick in ticks]
    return [*lines, *numbers, _text(2, 11, unit, "start")]


def _curve(curve: Curve, x_of: Axis, y_of: Axis) -> str:
    """A path; a point between two gaps becomes a dot, by the line's round ends."""
    path, pen = [], False
    for x, y in curve.points:
        if y is not None:
            path.append(f"{'L' if pen else 'M'}{x_of(x):.1f} {y_of(y):.1f}" + ("" if pen else "h0"))
        pen = y is not None
    return f'<path class="curve {curve.style}" d="{"".join(path)}"/>'


def _stripes(stripes: Iterable[Stripe], x_of: Axis, top: float, bottom: float) -> Iterator[str]:
    for each in stripes:
        width = max(x_of(each.end) - x_of(each.start), 1.5)
        yield (
            f'<rect class="{each.style}" x="{x_of(each.start):.1f}" y="{top:g}" width="{width:.1f}"'
            f' height="{bottom - top:g}"><title>{escape(each.label)}: {each.end - each.start:.2f} s</title></rect>'
        )


def lanes_of(lines: Sequence[Line], width: int, end: float) -> list[int | None]:
    """The lane of each line's label, 0 at the top; None: there is no room, or it has no label. Lines come in order."""
    scale = (width - LEFT_PX - RIGHT_PX) / end
    free_from = [-math.inf] * LANES
    lanes: list[int | None] = []
    for line in lines:
        start, stop = _extent(line, scale, width)
        lane = next((number for number in range(LANES) if free_from[number] <= start), None) if line.label else None
        if lane is not None:
            free_from[lane] = stop + CHARACTER_PX
        lanes.append(lane)
    return lanes


def _extent(line: Line, scale: float, width: int) -> tuple[float, float]:
    """Where a label begins and ends: to the right of its line, or to the left if it would be cut."""
    x, long = LEFT_PX + line.at * scale, len(line.label) * CHARACTER_PX + 4
    return (x - long, x) if x + long > width else (x, x + long)


def _marks(
    lines: Sequence[Line], lanes: Sequence[int | None], x_of: Axis, bottom: float, right: float
) -> Iterator[str]:
    for line, lane in zip(lines, lanes, strict=True):
        x = x_of(line.at)
        y = TOP_PX + LANE_PX * (lane if lane is not None else LANES)
        yield f'<path class="mark {line.sort}" d="M{x:.1f} {y - 8:.1f}V{bottom:g}"/>'
        if lane is not None:
            at_left = x + len(line.label) * CHARACTER_PX + 4 > right + RIGHT_PX
            yield _text(x - 4 if at_left else x + 4, y, line.label, "end" if at_left else "start", f"label {line.sort}")


def _hovers(curves: Sequence[Curve], x_of: Axis, top: float, bottom: float, units: tuple[str, str]) -> Iterator[str]:
    """A strip for each moment, with its figures under the mouse; ``units`` of x and y."""
    moments = [x for x, _ in curves[0].points] if curves else []
    if not 2 < len(moments) <= HOVER_MAX:
        return
    edges = [moments[0], *((a + b) / 2 for a, b in pairwise(moments)), moments[-1]]
    for number, (start, stop) in enumerate(pairwise(edges)):
        at = moments[number]
        said = [f"{at:,.0f} {units[0]}" if at >= HOVER_WHOLE else f"{at:.1f} {units[0]}"]
        for curve in curves:
            y = curve.points[number][1] if number < len(curve.points) else None
            said.append(f"{curve.name}: {'-' if y is None else f'{y:,.2f}' if y < 100 else f'{y:,.0f}'} {units[1]}")
        yield (
            f'<rect class="hit" x="{x_of(start):.1f}" y="{top:g}" width="{max(x_of(stop) - x_of(start), 0):.1f}"'
            f' height="{bottom - top:g}"><title>{escape(chr(10).join(said))}</title></rect>'
        )
