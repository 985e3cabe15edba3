"""A Lamport diagram of a simulated run: who sent what to whom, when it came, and what each node did then.

Lamport drew processes as lines along which time runs, and messages as arrows between them ("Time, Clocks, and the
Ordering of Events in a Distributed System", 1978). Here time runs down. A solid line is a process that runs, a thick
one a leader, a dotted one a process that is down. An arrow ends where its frame arrives; a lost one ends in a cross.
The story of the run stands at the right.

A run has hundreds of frames, so a diagram shows a *stretch* of it: the end of a run that failed, the first election of
another one, or what is asked for. Questions of clients, their answers and greetings between nodes are left out; they
would be most of what is seen.

Distances are not to scale, or a burst of messages would be a blot between long white spaces. Moments are at least
:data:`STEP_PX` apart and at most :data:`PAUSE_PX`. The times at the left are exact.

The input is the document of :mod:`zmqlab.sim.trace`. Left out on purpose: deciding what a run did wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

from zmqlab.errors import SettingsError
from zmqlab.runs.run_pages import page

FRAMES = 70
"""In a stretch that is chosen here: what fits on two screens."""
FRAMES_MAX = 600
"""In one that is asked for: more is no picture any more, and takes a browser seconds to show."""
STEP_PX, PAUSE_PX, PX_A_MS = 9.0, 64.0, 9.0
WIDTH_PX = 1056
"""Of the page. With many processes the picture is wider, and is scrolled."""
LEFT_PX, STORY_PX, TOP_PX, LINE_PX = 78, 270, 44, 15
COLUMN_MIN_PX, COLUMN_MAX_PX = 84, 170
STORY_LETTERS = 40
WORD_PX = (38, 10)
"""A word that would come so near to another one is left out; it is there under the mouse."""
CLIENTS_FROM = 101
"""The simulator numbers nodes from 1 and clients from here on."""
US_PER_MS = 1_000
LEFT_OUT = ("query", "answer", "hello", "metrics")


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
    "request_vote": Look("vote?", "c2"),
    "request_vote_response": Look("vote", "c2"),
    "timeout_now": Look("lead now", "c2"),
    "read_index": Look("read?", "c3"),
    "read_index_response": Look("read", "c3"),
}
KEYS = (("votes", "c2"), ("log", "c0"), ("acknowledgements", "c6"), ("clients' orders", "c1"), ("reads", "c3"))

STYLE = """
.zr svg .life { stroke: var(--faint); stroke-width: 1.4; fill: none; }
.zr svg .life.leads { stroke: var(--election); stroke-width: 4; }
.zr svg .life.down { stroke-dasharray: 1 5; }
.zr svg .flight { stroke: var(--own); stroke-width: 1.2; fill: none; }
.zr svg .flight.lost { stroke-dasharray: 4 3; stroke: var(--bad); }
.zr svg .tip { fill: var(--own); }
.zr svg .did { fill: var(--ink); }
.zr svg .did.applied { fill: var(--paper); stroke: var(--ink); stroke-width: 1.2; }
.zr svg text.who { font-size: 12.5px; font-weight: 650; fill: var(--ink); }
.zr svg text.word, .zr svg text.big { fill: var(--own); paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.zr svg text.word { font-size: 9.5px; }
.zr svg text.big { font-size: 11px; font-weight: 650; }
.zr svg .wrong, .zr svg text.wrong { --own: var(--bad); }
"""


@dataclass(frozen=True, slots=True)
class Flight:
    """One copy of a frame; times in microseconds."""

    sender: int
    to: int
    kind: str
    size: int
    sent_us: int
    arrives_us: int | None
    """None: it was lost."""


@dataclass(slots=True)
class Stretch:
    """What a diagram shows of a run."""

    start_us: int
    end_us: int
    flights: list[Flight] = field(default_factory=list)
    did: list[Mapping[str, Any]] = field(default_factory=list)
    """Events of nodes: ``leads``, ``stored``, ``applied``, ``crashed``, ``started``."""
    story: list[tuple[int, str]] = field(default_factory=list)


def diagram_page(trace: Mapping[str, Any], window_ms: tuple[float, float] | None = None) -> str:
    """A page with the diagram of a run.

    Args:
        trace: the document of a run (:mod:`zmqlab.sim.trace`).
        window_ms: from where to where, in virtual milliseconds; None: the end of a run that failed, otherwise its first
            election.

    Raises:
        SettingsError: the window holds nothing, or too much.
    """
    stretch = stretch_of(trace, window_ms)
    outcome = f"failed: {trace['failure']}" if trace["failure"] else "kept all promises"
    title = f"Seed {trace['seed']}"
    badge = ("bad", "FAILED") if trace["failure"] else ("ok", "PASSED")
    head = (
        f'<div class="head"><span class="badge {badge[0]}">{badge[1]}</span><h1>{title}</h1></div>'
        f"<p>{escape(outcome)}</p>"
        f'<p class="faint">{stretch.start_us / US_PER_MS:,.1f} to {stretch.end_us / US_PER_MS:,.1f} ms of virtual time,'
        " which runs down and is not to scale. An arrow ends where its frame arrives, a dashed one was lost. A filled"
        " square is a write, a ring an entry that is applied. Clients' questions, their answers and greetings are left"
        " out.</p>"
    )
    keys = "".join(f'<i class="{style}">{name}</i>' for name, style in KEYS)
    figure = f'<figure><figcaption>{keys}</figcaption><div class="scroll">{_svg(stretch, trace)}</div></figure>'
    return page(f"{title}: {outcome}", f"<style>{STYLE}</style>{head}{figure}")


# -- what is shown -------------------------------------------------------------------------------------------------


def stretch_of(trace: Mapping[str, Any], window_ms: tuple[float, float] | None = None) -> Stretch:
    """The part of a run that a diagram shows; arguments and errors as in :func:`diagram_page`."""
    events = trace["events"]
    flights = list(_flights(events))
    start_us, end_us = _window(trace, flights) if window_ms is None else _asked(window_ms)
    stretch = Stretch(start_us, end_us)
    for event in events:
        if not start_us <= event["at_us"] <= end_us:
            continue
        if event["event"] == "story":
            stretch.story.append((event["at_us"], event["text"]))
        elif event["event"] in ("leads", "stored", "applied", "crashed", "started"):
            stretch.did.append(event)
    stretch.flights = [each for each in flights if start_us <= each.sent_us <= end_us]
    if not (stretch.flights or stretch.did):
        raise SettingsError(
            f"nothing happens from {start_us / US_PER_MS:g} to {end_us / US_PER_MS:g} ms: the run ends at"
            f" {_end_us(events) / US_PER_MS:g} ms"
        )
    if len(stretch.flights) > FRAMES_MAX:
        raise SettingsError(f"{len(stretch.flights)} frames are no picture: choose a window with {FRAMES_MAX} at most")
    return stretch


def _asked(window_ms: tuple[float, float]) -> tuple[int, int]:
    start, end = window_ms
    if not 0 <= start < end:
        raise SettingsError(f"a window from {start:g} to {end:g} ms: write it as in 120-180")
    return round(start * US_PER_MS), round(end * US_PER_MS)


def _window(trace: Mapping[str, Any], flights: Sequence[Flight]) -> tuple[int, int]:
    """The last frames before a failure; otherwise those around the first election, and after it."""
    events, end_us = trace["events"], _end_us(trace["events"])
    if trace["failure"] or not flights:
        return (flights[-FRAMES:][0].sent_us if flights else 0), end_us
    elected = next((each["at_us"] for each in events if each["event"] == "leads"), 0)
    first = max(0, sum(each.sent_us < elected for each in flights) - FRAMES // 4)
    shown = flights[first : first + FRAMES]
    return shown[0].sent_us, shown[-1].sent_us


def _end_us(events: Sequence[Mapping[str, Any]]) -> int:
    return int(events[-1]["at_us"]) if events else 0


def _flights(events: Iterable[Mapping[str, Any]]) -> Iterator[Flight]:
    for event in events:
        if event["event"] == "frame" and event["type"] not in LEFT_OUT:
            for arrives_us in event["arrives_us"] or [None]:
                yield Flight(event["sender"], event["to"], event["type"], event["bytes"], event["at_us"], arrives_us)


# -- the picture ---------------------------------------------------------------------------------------------------

Places = Callable[[int], float]


def _svg(stretch: Stretch, trace: Mapping[str, Any]) -> str:
    who = sorted(
        {each.sender for each in stretch.flights}
        | {each.to for each in stretch.flights}
        | {event["node"] for event in stretch.did},
        key=lambda number: (number < CLIENTS_FROM, number),
    )
    column_px = min(max((WIDTH_PX - LEFT_PX - STORY_PX) / len(who), COLUMN_MIN_PX), COLUMN_MAX_PX)
    x_of = {number: LEFT_PX + column_px * (column + 0.5) for column, number in enumerate(who)}
    y_of, times, bottom = _scale(stretch)
    right = LEFT_PX + column_px * len(who)
    width, height = right + STORY_PX, bottom + 20
    parts = [*_times(times, y_of, right), *_lives(who, x_of, y_of, bottom, stretch, trace)]
    words: list[tuple[float, float]] = []
    for each in stretch.flights:
        parts += _flight(each, x_of, y_of, stretch.end_us, words)
    for event in stretch.did:
        parts += _did(event, x_of[event["node"]], y_of(event["at_us"]))
    parts += _story(stretch.story, y_of, right + 8, trace["failure"])
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="width: {width:.0f}px"'
    return f'<svg {size} role="img">{"".join(parts)}</svg>'


def _scale(stretch: Stretch) -> tuple[Places, list[int], float]:
    """Where each moment is, the moments, and where the picture ends."""
    moments = {stretch.start_us, stretch.end_us, *(event["at_us"] for event in stretch.did)}
    moments |= {each.sent_us for each in stretch.flights} | {at_us for at_us, _ in stretch.story}
    moments |= {min(each.arrives_us, stretch.end_us) for each in stretch.flights if each.arrives_us is not None}
    times, y, places = sorted(moments), float(TOP_PX), {}
    for before, at_us in zip([None, *times], times, strict=False):
        if before is not None:
            y += min(max((at_us - before) / US_PER_MS * PX_A_MS, STEP_PX), PAUSE_PX)
        places[at_us] = y
    return (lambda at_us: places[at_us]), times, y


def _times(times: Sequence[int], y_of: Places, right: float) -> Iterator[str]:
    free_from = 0.0
    for at_us in times:
        if y_of(at_us) >= free_from:
            free_from = y_of(at_us) + 2 * LINE_PX
            yield f'<path class="grid" d="M{LEFT_PX} {y_of(at_us):.1f}H{right:g}"/>'
            y = y_of(at_us) + 4
            yield f'<text x="{LEFT_PX - 8}" y="{y:.1f}" text-anchor="end">{at_us / US_PER_MS:,.1f} ms</text>'


def _lives(
    who: Sequence[int],
    x_of: Mapping[int, float],
    y_of: Places,
    bottom: float,
    stretch: Stretch,
    trace: Mapping[str, Any],
) -> Iterator[str]:
    for number in who:
        x, is_client = x_of[number], number >= CLIENTS_FROM
        name = f"{'client' if is_client else 'node'} {number}"
        yield f'<text class="who" x="{x:g}" y="18" text-anchor="middle">{name}</text>'
        state = "" if is_client else _state_before(number, trace["events"], stretch.start_us)
        y = float(TOP_PX)
        for event in stretch.did:
            other_leads = event["event"] == "leads" and event["node"] != number and state == "leads"
            if event["node"] != number and not other_leads:
                continue
            after = (
                "" if other_leads else {"leads": "leads", "crashed": "down", "started": ""}.get(event["event"], state)
            )
            if after != state:
                yield f'<path class="life {state}" d="M{x:g} {y:.1f}V{y_of(event["at_us"]):.1f}"/>'
                y, state = y_of(event["at_us"]), after
        yield f'<path class="life {state}" d="M{x:g} {y:.1f}V{bottom:.1f}"/>'


def _state_before(node: int, events: Iterable[Mapping[str, Any]], start_us: int) -> str:
    """``leads``, ``down`` or nothing, as of the last event of the node; the newest leader is the one that leads."""
    state = ""
    for event in events:
        if event["at_us"] >= start_us:
            break
        if event["event"] == "leads":
            state = "leads" if event["node"] == node else ("" if state == "leads" else state)
        elif event.get("node") == node and event["event"] in ("crashed", "started"):
            state = "down" if event["event"] == "crashed" else ""
    return state


def _flight(
    each: Flight, x_of: Mapping[int, float], y_of: Places, end_us: int, words: list[tuple[float, float]]
) -> Iterator[str]:
    """An arrow with its word; ``words`` are the places that others have taken, and gets this one's."""
    word, style = LOOKS.get(each.kind, Look(each.kind.replace("_", " "), "c6"))
    x, y, to_x = x_of[each.sender], y_of(each.sent_us), x_of[each.to]
    said = f"{each.kind.replace('_', ' ')}, {each.size:,} bytes, sent at {each.sent_us / US_PER_MS:,.3f} ms"
    if each.arrives_us is None:
        to_x, to_y, lost = x + 0.45 * (to_x - x), y + STEP_PX, " lost"
        end = f'<path class="flight lost" d="M{to_x - 4:.1f} {to_y - 4:.1f}l8 8m0 -8l-8 8"/>'
        said += ", lost"
    else:
        to_y, lost = y_of(min(each.arrives_us, end_us)), ""
        back = -7 if to_x > x else 7
        tip = f'<path class="tip {style}" d="M{to_x:.1f} {to_y:.1f}l{back} -3.5v7z"/>'
        end = tip if each.arrives_us <= end_us else ""  # it arrives after what is shown
        said += f", arrives at {each.arrives_us / US_PER_MS:,.3f} ms"
    at = (x + 0.3 * (to_x - x), y + 0.3 * (to_y - y) - 2.5)
    yield f'<g class="{style}"><title>{escape(said)}</title>'
    yield f'<path class="flight{lost}" d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"/>{end}'
    if not any(abs(at[0] - x) < WORD_PX[0] and abs(at[1] - y) < WORD_PX[1] for x, y in words):
        words.append(at)
        yield f'<text class="word" x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="middle">{word}</text>'
    yield "</g>"


def _did(event: Mapping[str, Any], x: float, y: float) -> Iterator[str]:
    """What a node did: a mark on its line, with words under the mouse."""
    kind = event["event"]
    if kind == "stored":
        entries, term, snapshot = event["first_index"], event["term"], event["snapshot_index"]
        said = [f"term {term}, vote for {event['voted_for']}"] if term is not None else []
        said += [f"entries {entries} to {event['last_index']}"] if entries is not None else []
        said += [f"a snapshot at {snapshot}"] if snapshot is not None else []
        yield f'<rect class="did" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6">'
        yield f"<title>stores {escape(', '.join(said))}</title></rect>"
    elif kind == "applied":
        yield f'<circle class="did applied" cx="{x:.1f}" cy="{y:.1f}" r="3.2">'
        yield f"<title>applies entry {event['index']} of term {event['term']}</title></circle>"
    else:
        word, style = {
            "leads": (f"leads term {event.get('term')}", "c2"),
            "crashed": ("down", "wrong"),
            "started": ("starts", "c0"),
        }[kind]
        yield f'<text class="big {style}" x="{x + 7:.1f}" y="{y - 3:.1f}">{word}</text>'


def _story(story: Sequence[tuple[int, str]], y_of: Places, x: float, failure: str) -> Iterator[str]:
    """The story at the right, each line where it happened or below the one before."""
    free_from = 0.0
    for at_us, text in story:
        style = " class='wrong big'" if failure and text.startswith("FAILED") else ""
        for number, line in enumerate(_wrapped(text)):
            y = max(y_of(at_us) + 4, free_from) if number == 0 else free_from
            free_from = y + LINE_PX
            yield f'<text x="{x + 8 * bool(number):g}" y="{y:.1f}"{style}>{escape(line)}</text>'


def _wrapped(text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > STORY_LETTERS:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    yield line
