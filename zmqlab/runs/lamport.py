"""A Lamport diagram of a simulated run: who sent what to whom, when it came, and what each node did then.

A run has hundreds of frames, so a diagram shows a *stretch* of it: the end of a run that failed, the first election of
another one, or what is asked for. Questions of clients, their answers and greetings between nodes are left out; they
would be most of what is seen. :mod:`~zmqlab.runs.lamport_drawing` says how it is drawn.

The input is the document of :mod:`zmqlab.sim.trace`. Left out on purpose: deciding what a run did wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from zmqlab.errors import SettingsError
from zmqlab.runs.lamport_drawing import STYLE, US_PER_MS, Arrow, Drawing, Life, Mark, Scale, svg
from zmqlab.runs.page_shell import page

FRAMES = 70
"""In a stretch that is chosen here: what fits on two screens."""
FRAMES_MAX = 600
"""In one that is asked for: more is no picture any more, and takes a browser seconds to show."""
SCALE = Scale(step_px=9.0, pause_px=64.0, px_a_ms=9.0)
WIDTH_PX = 1056
"""Of the page. With many processes the picture is wider, and is scrolled."""
CLIENTS_FROM = 101
"""The simulator numbers nodes from 1 and clients from here on."""
LEFT_OUT = ("query", "answer", "hello", "metrics")
KEYS = (("votes", "c2"), ("log", "c0"), ("acknowledgements", "c6"), ("clients' orders", "c1"), ("reads", "c3"))


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
    picture = svg(_drawing(stretch, trace), WIDTH_PX)
    figure = f'<figure><figcaption>{keys}</figcaption><div class="scroll">{picture}</div></figure>'
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


def _flights(events: Sequence[Mapping[str, Any]]) -> Iterator[Flight]:
    """All copies of frames. One that went with its link was to arrive at the moment at which its loss is noted."""
    lost = Counter((each["sender"], each["to"], each["at_us"]) for each in events if each["event"] == "lost")
    for event in events:
        if event["event"] != "frame":
            continue
        sender, to = event["sender"], event["to"]
        for arrives_us in event["arrives_us"] or [None]:
            if lost[(sender, to, arrives_us)]:
                lost[(sender, to, arrives_us)] -= 1
                arrives_us = None
            if event["type"] not in LEFT_OUT:
                yield Flight(sender, to, event["type"], event["bytes"], event["at_us"], arrives_us)


# -- the picture ---------------------------------------------------------------------------------------------------


def _drawing(stretch: Stretch, trace: Mapping[str, Any]) -> Drawing:
    who = sorted(
        {each.sender for each in stretch.flights}
        | {each.to for each in stretch.flights}
        | {event["node"] for event in stretch.did},
        key=lambda number: (number < CLIENTS_FROM, number),
    )
    lives = [Life(number, _name_of(number), _states(number, stretch, trace)) for number in who]
    drawing = Drawing(stretch.start_us, stretch.end_us, lives, SCALE, story=list(stretch.story))
    drawing.arrows = [_arrow(each) for each in stretch.flights]
    drawing.marks = [_mark(event) for event in stretch.did]
    drawing.wrong = "FAILED" if trace["failure"] else ""
    return drawing


def _name_of(number: int) -> str:
    return f"{'client' if number >= CLIENTS_FROM else 'node'} {number}"


def _states(number: int, stretch: Stretch, trace: Mapping[str, Any]) -> list[tuple[float, str]]:
    states: list[tuple[float, str]] = [(stretch.start_us, "")]
    for at_us, state in _changes_of(number, trace["events"]):
        if at_us > stretch.end_us:
            break
        if at_us < stretch.start_us:
            states[0] = (stretch.start_us, state)
        elif state != states[-1][1]:
            states.append((at_us, state))
    return states


def _changes_of(node: int, events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    """When a node may have become ``leads``, ``down`` or neither.

    The newest leader of a group is the one that leads it. A node leads if it leads any of several groups.
    """
    led: set[int] = set()
    is_down = False
    for event in events:
        if event["event"] == "leads":
            (led.add if event["node"] == node else led.discard)(event.get("group", 0))
        elif event["event"] in ("crashed", "started") and event["node"] == node:
            is_down = event["event"] == "crashed"
            led.clear()
        else:
            continue
        yield event["at_us"], "leads" if led else "down" if is_down else ""


def _arrow(each: Flight) -> Arrow:
    said = f"{each.kind.replace('_', ' ')}, {each.size:,} bytes, sent at {each.sent_us / US_PER_MS:,.3f} ms"
    if each.arrives_us is None:
        said += ", lost"
    else:
        said += f", arrives at {each.arrives_us / US_PER_MS:,.3f} ms"
    return Arrow(each.sender, each.to, each.kind, each.sent_us, each.arrives_us, said)


def _mark(event: Mapping[str, Any]) -> Mark:
    kind, node, at_us = event["event"], event["node"], event["at_us"]
    where = f" in group {event['group']}" if "group" in event else ""
    if kind == "stored":
        entries, term, snapshot = event["first_index"], event["term"], event["snapshot_index"]
        said = [f"term {term}, vote for {event['voted_for']}"] if term is not None else []
        said += [f"entries {entries} to {event['last_index']}"] if entries is not None else []
        said += [f"a snapshot at {snapshot}"] if snapshot is not None else []
        return Mark(node, at_us, kind, f"stores {', '.join(said)}{where}")
    if kind == "applied":
        return Mark(node, at_us, kind, f"applies entry {event['index']} of term {event['term']}{where}")
    word, style = {
        "leads": (f"leads term {event.get('term')}{where}", "c2"),
        "crashed": ("down", "wrong"),
        "started": ("starts", "c0"),
    }[kind]
    return Mark(node, at_us, kind, word, style)
