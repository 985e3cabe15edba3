"""What happened in a cluster, as the panel tells it: event kinds in words, marks and bands over the charts.

This is the only module of the panel that knows the kinds of events (:class:`~zmqlab.wire.control.Event`), which of them
are faults, and what a person can do to a node. Charts, cards, buttons and the event log ask the tables and functions
here.

A *mark* is a line with a label at one moment. Faults, changes and elections make one; an event that merely follows from
another one, such as a node that becomes a follower, makes none. A *band* reaches from one moment to another: a pause,
or a time in which links were cut.

*Labels* are laid out in lanes, counted from the top of a chart, so that two that are close in time do not cover each
other. A label reaches from its line to the left, because the newest line stands at the right edge. When all lanes are
taken, the oldest label makes room: its line stays without a label, and the event log still tells it.

Left out on purpose: what a fault cost, which is in :mod:`~zmqlab.widgets.incidents`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zmqlab.widgets.palette import CHANGE_COLOUR, ELECTION_COLOUR, FAULT_COLOUR
from zmqlab.wire.control import Event

WINDOW_MS = 60_000.0
"""A chart shows so much time at first."""
CHARACTER_SHARE = 0.85 / 60
"""A character's width as a share of a chart's width: 6 of some 430 pixels."""
LANES = 4
"""More than four lines of labels would hide the curves below them."""
MAX_MARKS = 120
"""Two minutes with a fault every second."""
NS_PER_MS = 1e6

_FAULTS = {
    "killed": "{node} killed",
    "terminated": "{node} terminated",
    "died": "{node} died",
    "paused": "{node} paused",
    "partitioned": "partition",
    "cut": "{link} cut",
    "wiped": "{node} wiped",
    "hash_mismatch": "states differ",
}
_CHANGES = {
    "resumed": "{node} resumed",
    "restarted": "{node} restarted",
    "added": "{node} added",
    "removed": "{node} removed",
    "promoted": "{node} votes",
    "healed": "{link} whole",
    "link": "{link} slow or lossy",
}
_ELECTIONS = {"elected": "{node} leads, term {term}"}
_LABELS = _FAULTS | _CHANGES | _ELECTIONS
"""The label of each kind that makes a mark."""
_WORDS = {"stepped_down": "stepped down", "hash_mismatch": "states differ"}
"""Kinds that the event log does not show as they are called."""
_LINK_FAULTS = {"cut", "partitioned"}
"""Faults of links; all others are faults of nodes."""
_TITLED_BY_TEXT = {"cut", "hash_mismatch"}
"""Faults whose text says it all; the others need their node's name."""
_ENDS_OF_PAUSE = {"resumed", "restarted", "killed", "terminated", "died", "wiped", "removed"}


@dataclass(frozen=True, slots=True)
class NodeAction:
    """A button in a node's row."""

    name: str
    """The method of :class:`~zmqlab.lab.cluster.Cluster` that does it."""
    label: str
    title: str
    """The explanation that a page shows under the mouse."""
    states: tuple[str, ...]
    """The states of a node in which the button is there: ``running``, ``paused``, ``stopped``."""
    danger: bool = False
    """Drawn in the colour of faults."""
    short: str = ""
    """The label on a narrow page; empty: the same."""


_ALIVE = ("running", "paused")
NODE_ACTIONS = (
    NodeAction("kill", "kill -9", "SIGKILL", _ALIVE, danger=True),
    NodeAction("terminate", "terminate", "SIGTERM: it ends by itself", _ALIVE, short="term"),
    NodeAction("pause", "pause", "SIGSTOP: it hangs, sockets open", ("running",)),
    NodeAction("resume", "resume", "SIGCONT", ("paused",)),
    NodeAction("restart", "restart", "end it and start it from its journal", _ALIVE),
    NodeAction("wipe", "wipe", "kill it, delete its journal, let it rejoin as a new member", _ALIVE),
    NodeAction("restart", "restart", "start it from its journal", ("stopped",)),
    NodeAction("wipe", "wipe and rejoin", "delete its journal; it comes back as a new member", ("stopped",)),
)
"""In the order of the buttons."""


def clock_ms(time_ns: float) -> float:
    """A time of the wall clock on the charts' axis: milliseconds, in this machine's local time."""
    return time_ns / NS_PER_MS + time.localtime(time_ns / 1e9).tm_gmtoff * 1000


@dataclass(frozen=True, slots=True)
class Mark:
    """One line over the charts."""

    at_ms: float
    label: str
    colour: str


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of time; ``end_ms`` None: it goes on."""

    start_ms: float
    end_ms: float | None
    label: str
    colour: str


# -- kinds of events ---------------------------------------------------------------------------------------------


def is_fault(event: Event) -> bool:
    """Whether the event tells that something broke, by a person's hand or by itself."""
    return event.kind in _FAULTS


def is_link_fault(event: Event) -> bool:
    """Whether the event is a fault of links and not of a node."""
    return event.kind in _LINK_FAULTS


def is_election(event: Event) -> bool:
    """Whether a node was elected."""
    return event.kind in _ELECTIONS


def is_campaign(event: Event) -> bool:
    """Whether a node began to campaign, or has won."""
    return is_election(event) or (event.kind == "role" and "candidate" in event.text)


def is_part_of(event: Event, fault: Event) -> bool:
    """Whether a fault that came soon after ``fault`` belongs to it: the next of several cuts, or a wiping after a
    kill."""
    return event.kind == fault.kind == "cut" or event.kind == "wiped"


def title_of(fault: Event) -> str:
    """A fault in a few words, for its card."""
    if fault.kind == "partitioned":
        return f"partition {fault.text}"
    return fault.text.replace("->", "→") if fault.kind in _TITLED_BY_TEXT else f"{fault.node} {fault.kind}"


def word_of(event: Event) -> str:
    """The event's kind as the event log shows it."""
    return _WORDS.get(event.kind, event.kind)


def sort_of(event: Event) -> str:
    """``fault``, ``elected`` or empty: the symbol that the event log puts before the event."""
    return "fault" if is_fault(event) else "elected" if is_election(event) else ""


def time_of_election_ms(events: Iterable[Event], node: str, term: int) -> float | None:
    """When ``node`` was elected for ``term``, on the charts' axis; None if no event says so yet."""
    times = [event.time_ns for event in events if is_election(event) and (event.node, event.term) == (node, term)]
    return clock_ms(times[-1]) if times else None


# -- marks and bands -----------------------------------------------------------------------------------------------


def marks_of(events: Iterable[Event]) -> list[Mark]:
    """The newest ``MAX_MARKS`` marks, oldest first."""
    shown = [event for event in sorted(events, key=lambda each: each.time_ns) if event.kind in _LABELS][-MAX_MARKS:]
    return [_mark(event) for event in shown]


def bands_of(events: Iterable[Event]) -> list[Band]:
    """A band for each pause, and one for each time in which links between nodes were cut."""
    bands: list[Band] = []
    paused: dict[str, Band] = {}
    links: set[str] = set()
    cut_ms = 0.0
    for event in sorted(events, key=lambda each: each.time_ns):
        at_ms = clock_ms(event.time_ns)
        if event.kind == "paused":
            paused.setdefault(event.node, Band(at_ms, None, f"{event.node} paused", FAULT_COLOUR))
        elif event.kind in _ENDS_OF_PAUSE and event.node in paused:
            bands.append(replace(paused.pop(event.node), end_ms=at_ms))
        elif event.kind in ("partitioned", "cut"):
            cut_ms = cut_ms if links else at_ms
            links.add(_link(event))
        elif event.kind == "healed" and links:
            links = links - {_link(event)} if event.node else set()
            if not links:
                bands.append(Band(cut_ms, at_ms, "links cut", FAULT_COLOUR))
    if links:
        bands.append(Band(cut_ms, None, "links cut", FAULT_COLOUR))
    return bands + list(paused.values())


def _link(event: Event) -> str:
    """The link that an event is about, as in ``node0 → node1``. The event's text begins with it."""
    return event.text.split(":")[0].replace("->", "→") if event.node else "all links"


def _mark(event: Event) -> Mark:
    label = _LABELS[event.kind].format(node=event.node, term=event.term, link=_link(event))
    return Mark(clock_ms(event.time_ns), label, _colour(event))


def _colour(event: Event) -> str:
    if is_fault(event):
        return FAULT_COLOUR
    return ELECTION_COLOUR if is_election(event) else CHANGE_COLOUR


def lanes_of(marks: Sequence[Mark], window_ms: float) -> list[int]:
    """The lane of each mark's label.

    Args:
        marks: oldest first.
        window_ms: how much time a chart shows; the less, the more room a label has.

    Returns:
        For each mark 0 (top) to ``LANES`` - 1, or ``LANES`` if its label made room for newer ones.
    """
    ends_ms = [float("-inf")] * LANES
    lanes: list[int] = []
    for mark in marks:
        start_ms = mark.at_ms - (len(mark.label) + 2) * CHARACTER_SHARE * window_ms
        free = (lane for lane in range(LANES) if ends_ms[lane] <= start_ms)
        lane = next(free, ends_ms.index(min(ends_ms)))
        place = len(lanes) - 1
        while place >= 0 and marks[place].at_ms > start_ms:
            lanes[place] = LANES if lanes[place] == lane else lanes[place]
            place -= 1
        ends_ms[lane] = mark.at_ms
        lanes.append(lane)
    return lanes


def mark_columns(marks: Iterable[Mark], window_ms: float = WINDOW_MS) -> dict[str, list[Any]]:
    """The marks as columns of a bokeh source. ``y`` is minus the lane; a label without a lane is empty."""
    rows = list(marks)
    lanes = lanes_of(rows, window_ms)
    return {
        "t": [mark.at_ms for mark in rows],
        "y": [-float(lane) for lane in lanes],
        "label": [mark.label if lane < LANES else "" for mark, lane in zip(rows, lanes, strict=True)],
        "colour": [mark.colour for mark in rows],
    }


def band_columns(bands: Iterable[Band], now_ms: float) -> dict[str, list[Any]]:
    """The bands as columns of a bokeh source. A band that goes on ends at ``now_ms``."""
    rows = list(bands)
    return {
        "start": [band.start_ms for band in rows],
        "end": [now_ms if band.end_ms is None else band.end_ms for band in rows],
        "label": [band.label for band in rows],
        "colour": [band.colour for band in rows],
    }
