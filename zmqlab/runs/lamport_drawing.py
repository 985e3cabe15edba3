"""A Lamport diagram as SVG: processes as lines along which time runs down, messages as arrows between them.

Lamport drew it so ("Time, Clocks, and the Ordering of Events in a Distributed System", 1978). A solid line is a process
that runs, a thick one a leader, a dotted one a process that is down. An arrow ends where its frame arrives. One that
did not arrive is dashed and ends in a cross, and one of which nothing more is known in a question mark. The story of
what happened stands at the right.

Distances are not to scale, or a burst of messages would be a blot between long white spaces. Moments are at least some
pixels apart and at most some others (:class:`Scale`). The times at the left are exact.

A :class:`Drawing` is all that is shown. :mod:`~zmqlab.runs.lamport` makes one of a simulated run, and
:mod:`~zmqlab.runs.trace_diagrams` of traces of real frames. Left out on purpose: deciding what is worth showing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

LEFT_PX, STORY_PX, TOP_PX, LINE_PX = 78, 270, 44, 15
COLUMN_MIN_PX, COLUMN_MAX_PX = 66, 170
STORY_LETTERS = 40
WORD_PX = (38, 10)
"""A word that would come so near to another one is left out; it is there under the mouse."""
BIG_WORD_PX = 40
"""How far right of its line the middle of a mark's word is."""
SIGNS = ("stored", "committed", "applied")
"""Marks that are a sign; the others are a word."""
US_PER_MS = 1_000
IN_US_BELOW_MS = 20
"""A shorter picture has its times in microseconds."""


class Look(NamedTuple):
    """How a kind of frame is shown."""

    word: str
    style: str


LOOKS = {
    "request": Look("order", "c1"),
    "open_session": Look("session?", "c1"),
    "responses": Look("done", "c1"),
    "forward": Look("forward", "c1"),
    "append_entries": Look("append", "c0"),
    "append_entries_response": Look("ack", "c6"),
    "install_snapshot": Look("snapshot", "c0"),
    "install_snapshot_response": Look("ack", "c6"),
    "pre_vote": Look("pre-vote?", "c2"),
    "pre_vote_response": Look("pre-vote", "c2"),
    "request_vote": Look("vote?", "c2"),
    "request_vote_response": Look("vote", "c2"),
    "timeout_now": Look("lead now", "c2"),
    "read_index": Look("read?", "c3"),
    "read_index_response": Look("read", "c3"),
}

STYLE = """
.zr svg .life { stroke: var(--faint); stroke-width: 1.4; fill: none; }
.zr svg .life.leads { stroke: var(--election); stroke-width: 4; }
.zr svg .life.down { stroke-dasharray: 1 5; }
.zr svg .flight { stroke: var(--own); stroke-width: 1.2; fill: none; }
.zr svg .flight.lost { stroke-dasharray: 4 3; stroke: var(--bad); }
.zr svg .flight.unknown { stroke-dasharray: 2 4; }
.zr svg .tip { fill: var(--own); }
.zr svg .did { fill: var(--ink); }
.zr svg .did.applied, .zr svg .did.committed { fill: var(--paper); stroke: var(--ink); stroke-width: 1.2; }
.zr svg text.who { font-size: 12.5px; font-weight: 650; fill: var(--ink); }
.zr svg text.word, .zr svg text.big { fill: var(--own); paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.zr svg text.word { font-size: 9.5px; }
.zr svg text.big { font-size: 11px; font-weight: 650; }
.zr svg text.ends { font-size: 11px; fill: var(--own); font-weight: 650; }
.zr svg .wrong, .zr svg text.wrong { --own: var(--bad); }
"""


class Arrow(NamedTuple):
    """One copy of a frame; times in microseconds."""

    sender: int
    to: int
    kind: str
    sent_us: float
    arrives_us: float | None
    """None: it was not seen to arrive."""
    said: str
    """Under the mouse."""
    is_lost: bool = True
    """Of one that was not seen to arrive: whether it is known that it did not."""
    word: str = ""
    """Instead of the word of its kind."""


class Mark(NamedTuple):
    """What a process did."""

    process: int
    at_us: float
    kind: str
    """``stored``, ``committed``, ``applied``; anything else is a word beside the line."""
    said: str
    """Under the mouse, or the word."""
    style: str = ""


class Life(NamedTuple):
    """One process: its column."""

    process: int
    name: str
    states: Sequence[tuple[float, str]]
    """From when on it is ``leads``, ``down`` or, while empty, neither; the first at the beginning."""


class Scale(NamedTuple):
    """How far apart moments are."""

    step_px: float
    """At least."""
    pause_px: float
    """At most."""
    px_a_ms: float


@dataclass(slots=True)
class Drawing:
    """All that a diagram shows."""

    start_us: float
    end_us: float
    lives: Sequence[Life]
    """From left to right."""
    scale: Scale
    arrows: list[Arrow] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    story: list[tuple[float, str]] = field(default_factory=list)
    wrong: str = ""
    """The beginning of a line of the story that is about what went wrong; empty: there is none."""


Places = Callable[[float], float]


def svg(drawing: Drawing, width_px: int) -> str:
    """The picture, as wide as ``width_px`` unless there are too many processes."""
    lives = drawing.lives
    column_px = min(max((width_px - LEFT_PX - STORY_PX) / len(lives), COLUMN_MIN_PX), COLUMN_MAX_PX)
    x_of = {life.process: LEFT_PX + column_px * (column + 0.5) for column, life in enumerate(lives)}
    y_of, times, bottom = _places(drawing)
    right = LEFT_PX + column_px * len(lives)
    width = right + STORY_PX
    in_us = drawing.end_us - drawing.start_us < IN_US_BELOW_MS * US_PER_MS
    story, below = _story(drawing, y_of, right + 8)
    parts = [*_times(times, y_of, right, in_us), *_lives(lives, x_of, y_of, bottom)]
    words = [(x_of[mark.process] + BIG_WORD_PX, y_of(mark.at_us)) for mark in drawing.marks if mark.kind not in SIGNS]
    for arrow in drawing.arrows:
        parts += _arrow(arrow, x_of, y_of, drawing, words)
    for mark in drawing.marks:
        parts += _mark(mark, x_of[mark.process], y_of(mark.at_us))
    parts += story
    height = max(bottom + 20, below)
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="width: {width:.0f}px"'
    return f'<svg {size} role="img">{"".join(parts)}</svg>'


def _places(drawing: Drawing) -> tuple[Places, list[float], float]:
    """Where each moment is, the moments, and where the picture ends."""
    moments = {drawing.start_us, drawing.end_us, *(mark.at_us for mark in drawing.marks)}
    moments |= {each.sent_us for each in drawing.arrows} | {at_us for at_us, _ in drawing.story}
    moments |= {min(each.arrives_us, drawing.end_us) for each in drawing.arrows if each.arrives_us is not None}
    moments |= {at_us for life in drawing.lives for at_us, _ in life.states}
    times, y, places = sorted(moments), float(TOP_PX), {}
    step_px, pause_px, px_a_ms = drawing.scale
    for before, at_us in zip([None, *times], times, strict=False):
        if before is not None:
            y += min(max((at_us - before) / US_PER_MS * px_a_ms, step_px), pause_px)
        places[at_us] = y
    return (lambda at_us: places[at_us]), times, y


def _times(times: Sequence[float], y_of: Places, right: float, in_us: bool) -> Iterator[str]:
    free_from = 0.0
    for at_us in times:
        if y_of(at_us) >= free_from:
            free_from = y_of(at_us) + 2 * LINE_PX
            said = f"{at_us:,.0f} \N{MICRO SIGN}s" if in_us else f"{at_us / US_PER_MS:,.1f} ms"
            yield f'<path class="grid" d="M{LEFT_PX} {y_of(at_us):.1f}H{right:g}"/>'
            yield f'<text x="{LEFT_PX - 8}" y="{y_of(at_us) + 4:.1f}" text-anchor="end">{said}</text>'


def _lives(lives: Sequence[Life], x_of: Mapping[int, float], y_of: Places, bottom: float) -> Iterator[str]:
    for life in lives:
        x = x_of[life.process]
        yield f'<text class="who" x="{x:g}" y="18" text-anchor="middle">{escape(life.name)}</text>'
        ends = [*(y_of(at_us) for at_us, _ in life.states[1:]), bottom]
        for (at_us, state), end in zip(life.states, ends, strict=True):
            yield f'<path class="life {state}" d="M{x:g} {y_of(at_us):.1f}V{end:.1f}"/>'


def _arrow(
    each: Arrow, x_of: Mapping[int, float], y_of: Places, drawing: Drawing, words: list[tuple[float, float]]
) -> Iterator[str]:
    """An arrow with its word; ``words`` are the places that others have taken, and gets this one's."""
    word, style = LOOKS.get(each.kind, Look(each.kind.replace("_", " "), "c6"))
    x, y, to_x = x_of[each.sender], y_of(each.sent_us), x_of[each.to]
    if each.arrives_us is None:
        to_x, to_y = x + 0.45 * (to_x - x), y + drawing.scale.step_px
        state = " lost" if each.is_lost else " unknown"
        end = f'<path class="flight lost" d="M{to_x - 4:.1f} {to_y - 4:.1f}l8 8m0 -8l-8 8"/>'
        if not each.is_lost:
            end = f'<text class="ends" x="{to_x + (4 if to_x > x else -10):.1f}" y="{to_y + 4:.1f}">?</text>'
    else:
        to_y, state = y_of(min(each.arrives_us, drawing.end_us)), ""
        back = -7 if to_x > x else 7
        tip = f'<path class="tip {style}" d="M{to_x:.1f} {to_y:.1f}l{back} -3.5v7z"/>'
        end = tip if each.arrives_us <= drawing.end_us else ""  # it arrives after what is shown
    at = (x + 0.3 * (to_x - x), y + 0.3 * (to_y - y) - 2.5)
    yield f'<g class="{style}"><title>{escape(each.said)}</title>'
    yield f'<path class="flight{state}" d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"/>{end}'
    if not any(abs(at[0] - x) < WORD_PX[0] and abs(at[1] - y) < WORD_PX[1] for x, y in words):
        words.append(at)
        yield f'<text class="word" x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="middle">{each.word or word}</text>'
    yield "</g>"


def _mark(mark: Mark, x: float, y: float) -> Iterator[str]:
    """What a process did: a mark on its line, with words under the mouse."""
    title = f"<title>{escape(mark.said)}</title>"
    if mark.kind == "stored":
        yield f'<rect class="did" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6">{title}</rect>'
    elif mark.kind == "committed":
        yield f'<path class="did committed" d="M{x:.1f} {y - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z">{title}</path>'
    elif mark.kind == "applied":
        yield f'<circle class="did applied" cx="{x:.1f}" cy="{y:.1f}" r="3.2">{title}</circle>'
    else:
        yield f'<text class="big {mark.style}" x="{x + 7:.1f}" y="{y - 3:.1f}">{escape(mark.said)}</text>'


def _story(drawing: Drawing, y_of: Places, x: float) -> tuple[list[str], float]:
    """The story at the right, each line where it happened or below the one before; and where it ends."""
    free_from, parts = 0.0, []
    for at_us, text in drawing.story:
        style = " class='wrong big'" if drawing.wrong and text.startswith(drawing.wrong) else ""
        for number, line in enumerate(_wrapped(text)):
            y = max(y_of(at_us) + 4, free_from) if number == 0 else free_from
            free_from = y + LINE_PX
            parts.append(f'<text x="{x + 8 * bool(number):g}" y="{y:.1f}"{style}>{escape(line)}</text>')
    return parts, free_from


def _wrapped(text: str) -> Iterator[str]:
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > STORY_LETTERS:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    yield line
