"""What happened in a cluster, as the panel draws it: lines and bands over the charts, and events in words.

What an event is called, whether it is a fault and what makes a band is said by the one registry of faults
(:data:`~zmqlab.lab.fault_kinds.FAULTS`), so that a new kind of fault is seen here without a change. This module adds
what only a display knows: a colour for each sort of event, the charts' axis, and the room that labels have. It is the
only module of the panel that asks for an event's kind.

A *moment* is a line with a label. Faults, changes and elections make one; an event that merely follows from another
one, such as a node that becomes a follower, makes none. A *stretch* reaches from one moment to another: a pause, or a
time in which links were cut.

*Labels* are laid out in lanes, counted from the top of a chart, so that two that are close in time do not cover each
other. A label reaches from its line to the left, because the newest line stands at the right edge. When all lanes are
taken, the oldest label makes room: its line stays without a label, and the event log still tells it.

*Silences.* A load client measures the longest time without an acknowledgement in each of its intervals. A silence that
is still going on is known by its start, and one that has ended by its length. The band of a load client that ends, or
that is no longer heard, ends with what the client last told.

Left out on purpose: what a fault cost, and events in words, which are in :mod:`zmqlab.lab.incidents`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zmqlab.lab.events import Sort, group_named_in, spans_of
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.incidents import NS_PER_MS, is_election
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.widgets.palette import CHANGE_COLOUR, ELECTION_COLOUR, FAULT_COLOUR
from zmqlab.wire.control import Event

WINDOW_MS = 60_000.0
"""A chart shows so much time at first."""
CHARACTER_SHARE = 0.85 / 60
"""A character's width as a share of a chart's width: 6 of some 430 pixels."""
LANES = 4
"""More than four lines of labels would hide the curves below them."""
TOGETHER_NS = 1_000_000_000
"""Elections of several groups within so long become one line: their labels would cover each other."""
MAX_MARKS = 120
"""Two minutes with a fault every second."""
SILENCE_MS = 150.0
"""A longer time without acknowledgements becomes a band. An election takes 200 ms and more; a busy machine causes
shorter gaps."""
SILENCES_KEPT = 50
COLOURS = {Sort.FAULT: FAULT_COLOUR, Sort.CHANGE: CHANGE_COLOUR, Sort.ELECTION: ELECTION_COLOUR}


def clock_ms(time_ns: float) -> float:
    """A time of the wall clock on the charts' axis: milliseconds, in this machine's local time."""
    return time_ns / NS_PER_MS + time.localtime(time_ns / 1e9).tm_gmtoff * 1000


@dataclass(frozen=True, slots=True)
class Moment:
    """One line over the charts."""

    at_ms: float
    label: str
    colour: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time; ``end_ms`` None: it goes on."""

    start_ms: float
    end_ms: float | None
    label: str
    colour: str


def time_of_election_ms(events: Iterable[Event], node: str, term: int) -> float | None:
    """When ``node`` was elected for ``term``, on the charts' axis; None if no event says so yet."""
    times = [event.time_ns for event in events if is_election(event) and (event.node, event.term) == (node, term)]
    return clock_ms(times[-1]) if times else None


# -- lines and bands -----------------------------------------------------------------------------------------------


def moments_of(events: Iterable[Event]) -> list[Moment]:
    """The newest ``MAX_MARKS`` lines, oldest first."""
    known = FAULTS.marks
    shown = [event for event in sorted(events, key=lambda each: each.time_ns) if event.kind in known]
    moments: list[Moment] = []
    electing: list[Event] = []
    for event in shown:
        if is_election(event) and group_named_in(event):
            if electing and event.time_ns - electing[0].time_ns > TOGETHER_NS:
                moments.append(_of_elections(electing))
                electing = []
            electing.append(event)
        else:
            moments.append(Moment(clock_ms(event.time_ns), known[event.kind].label_of(event), _colour_of(event)))
    if electing:
        moments.append(_of_elections(electing))
    return sorted(moments, key=lambda each: each.at_ms)[-MAX_MARKS:]


def _of_elections(events: Sequence[Event]) -> Moment:
    """One line for the elections of several Raft groups that belong together, as after the death of a node that led."""
    first = events[0]
    groups = {group_named_in(event) for event in events}
    label = FAULTS.marks[first.kind].label_of(first) if len(events) == 1 else f"{len(groups)} groups elect"
    return Moment(clock_ms(first.time_ns), label, _colour_of(first))


def _colour_of(event: Event) -> str:
    return COLOURS[FAULTS.marks[event.kind].sort]


def stretches_of(events: Iterable[Event]) -> list[Stretch]:
    """The bands of all faults, those that go on last."""
    return [
        Stretch(
            clock_ms(span.start_ns),
            None if span.end_ns is None else clock_ms(span.end_ns),
            span.label,
            COLOURS[span.sort],
        )
        for span in spans_of(events, FAULTS.bands)
    ]


class SilenceBands:
    """The times in which load clients got no acknowledgement. One thread calls its methods, others read the bands."""

    def __init__(self) -> None:
        self.bands: deque[Stretch] = deque(maxlen=SILENCES_KEPT)
        """In the order in which they were noticed. At most one of each load client is without an end."""
        self._newest: dict[int, tuple[Stretch, float]] = {}
        """The newest band of each load client, by its pid, and when the client last told of it, on the charts' axis."""

    def hear(self, metrics: LoadMetrics) -> None:
        """Begin a band, or lengthen the client's newest one, if the longest gap of this interval is a silence."""
        at_ms, gap_ms = clock_ms(metrics.time_ns), metrics.gap_ms
        if gap_ms >= SILENCE_MS:
            before = self._newest[metrics.pid][0] if metrics.pid in self._newest else None
            if before is not None and not _is_of(metrics, before):
                self.end(metrics.pid)
                before = None
            start_ms = at_ms - gap_ms if before is None else before.start_ms
            end_ms = None if metrics.silence_ms >= gap_ms else start_ms + gap_ms
            band = Stretch(start_ms, end_ms, f"no acknowledgement for {gap_ms:,.0f} ms", FAULT_COLOUR)
            self._show(band, before)
            self._newest[metrics.pid] = band, at_ms
        if gap_ms < SILENCE_MS or metrics.state == "ended":
            self.end(metrics.pid)

    def end(self, pid: int) -> None:
        """End a load client's open band, if it has one, where the client last told of it: it is no longer heard.

        The band goes on if the client is heard again in the same silence.
        """
        band, told_ms = self._newest.get(pid, (None, 0.0))
        if band is not None and band.end_ms is None:
            ended = replace(band, end_ms=told_ms)
            self._show(ended, band)
            self._newest[pid] = ended, told_ms

    def _show(self, band: Stretch, instead_of: Stretch | None) -> None:
        if instead_of is not None and instead_of in self.bands:
            self.bands[self.bands.index(instead_of)] = band
        else:
            self.bands.append(band)


def _is_of(metrics: LoadMetrics, silence: Stretch) -> bool:
    """Whether the longest gap of an interval is this silence of the same client.

    The gap ended in the interval, or goes on: that tells its start up to the length of the interval. Two silences of
    one client begin at least ``SILENCE_MS`` apart.
    """
    latest_ms = clock_ms(metrics.time_ns) - metrics.gap_ms
    earliest_ms = latest_ms - 1000 * metrics.interval_s
    return earliest_ms - SILENCE_MS / 2 < silence.start_ms < latest_ms + SILENCE_MS / 2


def lanes_of(moments: Sequence[Moment], window_ms: float) -> list[int]:
    """The lane of each moment's label.

    Args:
        moments: oldest first.
        window_ms: how much time a chart shows; the less, the more room a label has.

    Returns:
        For each moment 0 (top) to ``LANES`` - 1, or ``LANES`` if its label made room for newer ones.
    """
    ends_ms = [float("-inf")] * LANES
    lanes: list[int] = []
    for moment in moments:
        start_ms = moment.at_ms - (len(moment.label) + 2) * CHARACTER_SHARE * window_ms
        free = (lane for lane in range(LANES) if ends_ms[lane] <= start_ms)
        lane = next(free, ends_ms.index(min(ends_ms)))
        place = len(lanes) - 1
        while place >= 0 and moments[place].at_ms > start_ms:
            lanes[place] = LANES if lanes[place] == lane else lanes[place]
            place -= 1
        ends_ms[lane] = moment.at_ms
        lanes.append(lane)
    return lanes


def mark_columns(moments: Iterable[Moment], window_ms: float = WINDOW_MS) -> dict[str, list[Any]]:
    """The moments as columns of a bokeh source. ``y`` is minus the lane; a label without a lane is empty."""
    rows = list(moments)
    lanes = lanes_of(rows, window_ms)
    return {
        "t": [moment.at_ms for moment in rows],
        "y": [-float(lane) for lane in lanes],
        "label": [moment.label if lane < LANES else "" for moment, lane in zip(rows, lanes, strict=True)],
        "colour": [moment.colour for moment in rows],
    }


def band_columns(stretches: Iterable[Stretch], now_ms: float) -> dict[str, list[Any]]:
    """The stretches as columns of a bokeh source. A stretch that goes on ends at ``now_ms``."""
    rows = list(stretches)
    return {
        "start": [stretch.start_ms for stretch in rows],
        "end": [now_ms if stretch.end_ms is None else stretch.end_ms for stretch in rows],
        "label": [stretch.label for stretch in rows],
        "colour": [stretch.colour for stretch in rows],
    }
