"""Lines of styled text that fit a width: wrapped and cut between words, with sparklines. Pure: rich is not known here.

A *line* is a sequence of spans, and a *span* is a text with the name of a style. :data:`STYLES` says what each name
means in a terminal; :mod:`~zmqlab.cli.terminal` hands that to rich. A style stands for what a thing means, and no
colour is the only sign of anything: where the terminal has none (``NO_COLOR``), the words say the same.

Widths are counted in characters: all texts of zmqlab are one cell a character.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

STYLES = {
    "": "",
    "title": "bold",
    "dim": "dim",
    "good": "bold green",
    "warn": "yellow",
    "bad": "bold red",
    "change": "cyan",
    "chart": "blue",
    "limit": "dim blue",
    "good banner": "bold white on dark_green",
    "warn banner": "bold black on yellow",
    "bad banner": "bold white on red",
    "unknown banner": "bold white on grey37",
}
"""Name of a style -> how rich is told it."""

LEVELS = " ▁▂▃▄▅▆▇█"
"""Nothing, and eight heights in one character."""
NOTHING = "·"
"""A value of zero: it was measured, and there was nothing. A blank stands for what was not measured."""
GAP = "  "
NARROW = 12
"""A text is not indented so far that less than this is left for it."""


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    style: str = ""


Line = Sequence[Span]


def plain(line: Line) -> str:
    """Its text alone."""
    return "".join(span.text for span in line)


def width_of(line: Line) -> int:
    """How many cells it takes."""
    return sum(len(span.text) for span in line)


def shortened(text: str, width: int) -> str:
    """``text``, or as many whole words of it as fit into ``width`` with a ``…`` behind them."""
    if len(text) <= width:
        return text
    head = text[:width]  # the cell of the … is free if a word ends just before it
    kept, space, _ = head.rpartition(" ")
    while space and len(kept) + 2 > width:
        kept, space, _ = kept.rpartition(" ")
    return f"{kept.rstrip(' ,;:')} …" if space and kept.strip() else text[: max(0, width - 1)] + "…"


def wrapped(text: str, width: int, hang: int = 0) -> list[str]:
    """``text`` broken between words; the lines behind the first one begin with ``hang`` blanks.

    A word that is wider than a whole line, such as a path, is broken.
    """
    hang = min(hang, max(0, width - NARROW))
    lines = textwrap.wrap(
        text, max(1, width), subsequent_indent=" " * hang, break_on_hyphens=False, replace_whitespace=False
    )
    return lines or [""]


def labelled(label: Span, text: Span, width: int, column: int) -> list[Line]:
    """A label, and a text that begins at ``column`` and is wrapped there."""
    if width - column < NARROW or len(label.text) >= column:
        return [[Span(line, text.style)] for line in wrapped(f"{label.text} {text.text}".strip(), width, 2)]
    first, *more = wrapped(text.text, width - column)
    lines: list[Line] = [[Span(label.text.ljust(column), label.style), Span(first, text.style)]]
    return lines + [[Span(" " * column), Span(line, text.style)] for line in more]


def apart(left: Sequence[Span], right: Span, width: int) -> Line:
    """``left`` and ``right`` at the two ends of a line. What does not fit is left out, the last of ``left`` first."""
    kept = list(left)
    while len(kept) > 1 and _taken(kept) + len(GAP) + len(right.text) > width:
        kept.pop()
    if _taken(kept) + len(GAP) + len(right.text) > width:
        return [Span(shortened(right.text, width), right.style)]
    spans = [
        Span(f"{span.text}{GAP if number + 1 < len(kept) else ''}", span.style) for number, span in enumerate(kept)
    ]
    return [*spans, Span(" " * (width - width_of(spans) - len(right.text))), right]


def _taken(spans: Sequence[Span]) -> int:
    return width_of(spans) + len(GAP) * (len(spans) - 1)


def banner(text: str, style: str, width: int) -> list[Line]:
    """A text on coloured ground, over the whole width."""
    return [[Span(f" {line}".ljust(width), style)] for line in wrapped(text, width - 2)]


def bars(values: Sequence[float | None], top: float, width: int, height: int = 1) -> list[str]:
    """A row of bars, newest at the right edge.

    Args:
        values: oldest first; the last ``width`` of them are shown. None: not measured.
        top: the value of a full bar.
        width: in characters.
        height: in lines.

    Returns:
        ``height`` lines, the highest first.
    """
    shown = [None] * (width - len(values)) + list(values)[-width:]
    heights = [None if value is None else _eighths(value, top, height) for value in shown]
    return ["".join(_cell(each, row) for each in heights) for row in reversed(range(height))]


def _eighths(value: float, top: float, height: int) -> int:
    """From 0 to ``8 * height``; a value above zero is seen, however small."""
    share = min(max(value / top, 0.0), 1.0) if top > 0 else 0.0
    return max(round(share * 8 * height), 1) if value > 0 else 0


def _cell(eighths: int | None, row: int) -> str:
    if eighths is None:
        return " "
    if eighths == 0:
        return NOTHING if row == 0 else " "
    return LEVELS[min(max(eighths - 8 * row, 0), 8)]


def round_up(value: float) -> float:
    """The next round number: where an axis ends."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def as_lines(texts: Iterable[str], style: str = "") -> list[Line]:
    """One span a line."""
    return [[Span(text, style)] for text in texts]
