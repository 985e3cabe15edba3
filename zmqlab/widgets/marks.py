"""What happened, as it stands on the charts: lines with a label at one moment, bands from one moment to another.

A mark is made of an :class:`~zmqlab.wire.control.Event`; the moments at which nodes merely follow make none. Labels are
laid out in lanes from the top of a chart so that two that are close in time don't cover each other; a label reaches
from its line to the left, since what has just happened stands at the right edge. When all lanes are taken the line
stands without its label: the event log has it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from zmqlab.widgets.palette import CHANGE_COLOUR, ELECTION_COLOUR, FAULT_COLOUR
from zmqlab.wire.control import Event

MS_PER_CHARACTER = 850.0
"""A label's width in time: 6 pixels a character, where 60 s are some 430 pixels wide."""
LANES = 4
MAX_MARKS = 120
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
_ENDS_OF_PAUSE = {"resumed", "restarted", "killed", "terminated", "died", "wiped", "removed"}


def clock_ms(time_ns: float) -> float:
    """The wall clock as a chart's time axis has it: milliseconds, as local time of this machine."""
    return time_ns / NS_PER_MS + time.localtime(time_ns / 1e9).tm_gmtoff * 1000


@dataclass(frozen=True, slots=True)
class Mark:
    """One line over the charts."""

    at_ms: float
    kind: str
    node: str
    label: str
    colour: str
    lane: int
    """Counted from the top; LANES: no room for a label."""


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of time; ``end_ms`` None: it goes on."""

    start_ms: float
    end_ms: float | None
    label: str
    colour: str


def is_fault(kind: str) -> bool:
    """Whether an event of this kind is something that was broken, by a person or by itself."""
    return kind in _FAULTS


def marks_of(events: Iterable[Event]) -> list[Mark]:
    """The newest marks, oldest first, with their lanes."""
    shown = [event for event in sorted(events, key=lambda each: each.time_ns) if event.kind in _LABELS][-MAX_MARKS:]
    free_from_ms = [float("-inf")] * LANES
    return [_mark(event, free_from_ms) for event in shown]


def bands_of(events: Iterable[Event]) -> list[Band]:
    """Pauses, from their start to the end of it, and the time in which links between nodes were not whole."""
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
    """Of an event about one link: which, as in ``node0 → node1``; the text begins with it."""
    return event.text.split(":")[0].replace("->", "→") if event.node else "all links"


def _mark(event: Event, free_from_ms: list[float]) -> Mark:
    at_ms = clock_ms(event.time_ns)
    label = _LABELS[event.kind].format(node=event.node, term=event.term, link=_link(event))
    width_ms = (len(label) + 2) * MS_PER_CHARACTER
    lane = next((lane for lane in range(LANES) if free_from_ms[lane] <= at_ms - width_ms), LANES)
    if lane < LANES:
        free_from_ms[lane] = at_ms
    return Mark(at_ms, event.kind, event.node, label if lane < LANES else "", _colour(event.kind), lane)


def _colour(kind: str) -> str:
    if kind in _FAULTS:
        return FAULT_COLOUR
    return ELECTION_COLOUR if kind in _ELECTIONS else CHANGE_COLOUR


def mark_columns(marks: Iterable[Mark]) -> dict[str, list[Any]]:
    """As columns of a bokeh source; ``y`` counts in lanes, downwards."""
    rows = list(marks)
    return {
        "t": [mark.at_ms for mark in rows],
        "y": [-float(mark.lane) for mark in rows],
        "label": [mark.label for mark in rows],
        "colour": [mark.colour for mark in rows],
    }


def band_columns(bands: Iterable[Band], now_ms: float) -> dict[str, list[Any]]:
    """The same for bands; one that goes on ends ``now``."""
    rows = list(bands)
    return {
        "start": [band.start_ms for band in rows],
        "end": [now_ms if band.end_ms is None else band.end_ms for band in rows],
        "label": [band.label for band in rows],
        "colour": [band.colour for band in rows],
    }
