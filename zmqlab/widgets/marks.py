"""What happened, as it stands on the charts: lines with a label at one moment, bands from one moment to another.

A mark is made of an :class:`~zmqlab.wire.control.Event`; the moments at which nodes merely follow make none. Labels are
laid out in lanes from the top of a chart so that two that are close in time don't cover each other; a label reaches
from its line to the left, since what has just happened stands at the right edge. When all lanes are taken the oldest
label makes room, and its line stands without one: the event log has it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zmqlab.widgets.palette import CHANGE_COLOUR, ELECTION_COLOUR, FAULT_COLOUR
from zmqlab.wire.control import Event

WINDOW_MS = 60_000.0
"""What a chart shows at first."""
CHARACTER_SHARE = 0.85 / 60
"""A character's width, as a share of the chart's: 6 pixels of some 430."""
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
    """The newest marks, oldest first."""
    shown = [event for event in sorted(events, key=lambda each: each.time_ns) if event.kind in _LABELS][-MAX_MARKS:]
    return [_mark(event) for event in shown]


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


def _mark(event: Event) -> Mark:
    label = _LABELS[event.kind].format(node=event.node, term=event.term, link=_link(event))
    return Mark(clock_ms(event.time_ns), event.kind, event.node, label, _colour(event.kind))


def _colour(kind: str) -> str:
    if kind in _FAULTS:
        return FAULT_COLOUR
    return ELECTION_COLOUR if kind in _ELECTIONS else CHANGE_COLOUR


def lanes_of(marks: Sequence[Mark], window_ms: float) -> list[int]:
    """For each mark, oldest first, its label's lane, counted from the top, where so much time is shown; LANES: it made
    room for newer ones."""
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
    """As columns of a bokeh source; ``y`` counts in lanes, downwards."""
    rows = list(marks)
    lanes = lanes_of(rows, window_ms)
    return {
        "t": [mark.at_ms for mark in rows],
        "y": [-float(lane) for lane in lanes],
        "label": [mark.label if lane < LANES else "" for mark, lane in zip(rows, lanes, strict=True)],
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
