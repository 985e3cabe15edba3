"""What each fault cost, as a card, and all that happened, as a log.

An :class:`Incident` is read off the events and the load clients' snapshots around a fault. It is complete
:data:`SETTLE_NS` after the fault, or when orders are acknowledged again if that is later. A complete incident is not
measured again: snapshots are kept for a minute only, and a card must not change when they are gone.

*Detected* is the moment at which another node began to campaign. That node had missed the leader's heartbeats for its
election time-out. No node detects the fault of a follower, because nothing depends on a follower.

*Lost* and *duplicated* are words of the verdict. They are unknown until the run has been judged.

:class:`FaultCards` and :class:`EventLog` are the widgets. Which events are faults, and what they are called, is in
:mod:`~zmqlab.widgets.marks`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from zmqlab.histogram import Histogram
from zmqlab.judge.verdict import Verdict
from zmqlab.lab.cluster import Cluster
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.tables import EventTable, clock, html_table
from zmqlab.widgets.marks import (
    NS_PER_MS,
    is_campaign,
    is_election,
    is_fault,
    is_link_fault,
    is_part_of,
    sort_of,
    title_of,
    word_of,
)
from zmqlab.widgets.panel import Panel, script
from zmqlab.widgets.readings import UNSERVED_MS
from zmqlab.wire.control import Event

SETTLE_NS = 8_000_000_000
"""An incident is over after so long, unless orders still wait."""
BEFORE_NS = 5_000_000_000
"""The time before a fault whose latencies are compared with those during it."""
DURING_NS = 3_000_000_000
"""An election takes 0.2 to 0.6 s, and the orders that waited are worked off in as long again."""
TOGETHER_NS = 1_500_000_000
"""Links that a person cuts one after the other within this time are one fault."""
MAX_INCIDENTS = 6
"""So many cards are shown."""
EVENTS_SHOWN = 100
"""The event log's newest rows; a page draws all of them anew at each event."""
RECENT_EVENTS = 20
"""A card looks among the newest so many events for a fault that is new."""

CARD_HEAD = (
    *("at", "fault", "detected", "elected", "no acknowledgement"),
    *("p99 before", "p99 during", "lost", "duplicated"),
)
NOT_JUDGED = "judged at the end"

LeaderAt = Callable[[int], str]
"""The name of the node that led at a time in nanoseconds; empty: none did."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One fault. Times are milliseconds after the fault; None: not known (yet), or it did not happen."""

    time_ns: int
    title: str
    led: bool
    """The fault hit a node, and that node led."""
    links: bool = False
    """The fault hit links, after which an election may or may not follow."""
    detected_ms: float | None = None
    elected_ms: float | None = None
    """Not before ``detected_ms``, if both are known."""
    new_leader: str = ""
    silence_ms: float | None = None
    """The longest time in which answers were owed and none came; so far, if :attr:`unserved`."""
    unserved: bool = False
    """The silence goes on."""
    p99_before_ms: float | None = None
    p99_during_ms: float | None = None
    """None while :attr:`unserved`: the orders that wait have no latency yet."""
    lost: str = ""
    """The verdict's words; empty: not judged yet."""
    duplicated: str = ""
    """The verdict's words; empty: not judged yet."""


class Incidents:
    """The faults of a cluster's life."""

    def __init__(self) -> None:
        self._known: dict[int, Incident] = {}
        """By the time of the fault, ascending."""

    @property
    def newest(self) -> list[Incident]:
        """The last ``MAX_INCIDENTS`` incidents, oldest first."""
        return list(self._known.values())[-MAX_INCIDENTS:]

    def follow(
        self, events: Sequence[Event], snapshots: Sequence[LoadMetrics], now_ns: int, leader_at: LeaderAt
    ) -> None:
        """Add new faults, and measure again what is not complete.

        Args:
            events: all that are known, in any order.
            snapshots: of the load clients, oldest first.
            now_ns: the wall clock.
            leader_at: tells which node led at a time.
        """
        for fault in faults_of(events):
            known = self._known.get(fault.time_ns)
            if known is None or known.unserved or now_ns - fault.time_ns < SETTLE_NS:
                measured = measure(fault, events, snapshots, leader_at)
                self._known[fault.time_ns] = measured if known is None else _completed(known, measured)

    def judged(self, verdict: Verdict, since_ns: int) -> None:
        """Write the verdict of a run that began at ``since_ns`` into the incidents of that run."""
        lost, twice = said_of(verdict, "nothing lost"), said_of(verdict, "nothing twice")
        for time_ns, incident in self._known.items():
            if time_ns >= since_ns:
                self._known[time_ns] = replace(incident, lost=lost, duplicated=twice)


class FaultCards(Panel):
    """A card for each of the last few faults, newest first."""

    _esm = script("fault_cards.js")

    def __init__(self, cluster: Cluster) -> None:
        self._incidents = Incidents()
        super().__init__(cluster)
        self._follow()
        self.refresh(now=True)

    def judged(self, verdict: Verdict, since_ns: int) -> None:
        """Show the verdict of a run that began at ``since_ns`` (wall clock)."""
        with self._guard:
            self._incidents.judged(verdict, since_ns)
        self.refresh(now=True)

    def make_state(self) -> dict[str, Any]:
        """``cards``: an incident's fields each, with the time of day ``at``, and ``young`` while more may come."""
        return {"cards": [_card(each) for each in reversed(self._incidents.newest)]}

    def html(self) -> str:
        """The cards as a table."""
        cards = self._state["cards"]
        return html_table(CARD_HEAD, map(_card_row, cards)) if cards else "<p>No faults yet: kill a node.</p>"

    def _follow(self) -> None:
        sampler = self._sampler
        self._incidents.follow(sampler.events, list(sampler.load_frames), time.time_ns(), sampler.who_leads)

    def _tick(self) -> None:
        """Runs in the sampler's thread. Measures only while there is something to measure."""
        newest = self._incidents.newest
        young = newest and (newest[-1].unserved or time.time_ns() - newest[-1].time_ns < 2 * SETTLE_NS)
        known_ns = newest[-1].time_ns if newest else 0
        if young or any(event.time_ns > known_ns for event in self._sampler.events[-RECENT_EVENTS:]):
            with self._guard:
                if self.is_due():
                    self._follow()
                    self.refresh()


class EventLog(Panel):
    """The events as a table that scrolls, newest first."""

    _esm = script("event_log.js")

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, interval_s=0.2)

    def make_state(self) -> dict[str, Any]:
        """``events``: what a row shows of each."""
        newest = sorted(self._sampler.events, key=lambda event: -event.time_ns)[:EVENTS_SHOWN]
        return {"events": [_log_row(event) for event in newest]}

    def html(self) -> str:
        """The same as a table, oldest first."""
        return EventTable(sorted(self._sampler.events, key=lambda event: event.time_ns)[-EVENTS_SHOWN:])._repr_html_()


# -- measuring an incident ----------------------------------------------------------------------------------------


def faults_of(events: Iterable[Event]) -> list[Event]:
    """The events that begin an incident, oldest first; a fault that belongs to the one before it does not."""
    faults: list[Event] = []
    for event in sorted(filter(is_fault, events), key=lambda each: each.time_ns):
        last = faults[-1] if faults else None
        if last is None or event.time_ns - last.time_ns >= TOGETHER_NS or not is_part_of(event, last):
            faults.append(event)
    return faults


def measure(fault: Event, events: Iterable[Event], snapshots: Sequence[LoadMetrics], leader_at: LeaderAt) -> Incident:
    """All that can be said of one fault now; arguments as in :meth:`Incidents.follow`."""
    after = [event for event in events if fault.time_ns < event.time_ns < fault.time_ns + SETTLE_NS]
    after.sort(key=lambda each: each.time_ns)
    elected = next(filter(is_election, after), None)
    noticed = next((event for event in after if is_campaign(event) and event.node != fault.node), None)
    if elected is None or (noticed is not None and noticed.time_ns > elected.time_ns):
        noticed = None
    during = _during(fault, elected, snapshots)
    unserved = bool(during) and during[-1].silence_ms > UNSERVED_MS
    return Incident(
        time_ns=fault.time_ns,
        title=title_of(fault),
        led=bool(fault.node) and not is_link_fault(fault) and leader_at(fault.time_ns) == fault.node,
        links=is_link_fault(fault),
        detected_ms=_ms_after(fault, noticed),
        elected_ms=_ms_after(fault, elected),
        new_leader=elected.node if elected else "",
        silence_ms=max((each.gap_ms for each in during), default=None),
        unserved=unserved,
        p99_before_ms=_p99_ms(each for each in snapshots if -BEFORE_NS < each.time_ns - fault.time_ns <= 0),
        p99_during_ms=None if unserved else _p99_ms(during),
    )


def said_of(verdict: Verdict, name: str) -> str:
    """``0`` if the verdict's check ``name`` was passed, what it found if it failed, else that it was not judged."""
    check = next((check for check in verdict.checks if check.name == name), None)
    if check is None or check.ok is None:
        return "not judged"
    return "0" if check.ok else check.detail


def _completed(known: Incident, measured: Incident) -> Incident:
    """``measured``, with what only ``known`` has: the verdict's words, and the latency before a long silence, whose
    snapshots are gone."""
    return replace(measured, lost=known.lost, duplicated=known.duplicated, p99_before_ms=known.p99_before_ms)


def _ms_after(fault: Event, event: Event | None) -> float | None:
    return None if event is None else (event.time_ns - fault.time_ns) / NS_PER_MS


def _during(fault: Event, elected: Event | None, snapshots: Iterable[LoadMetrics]) -> list[LoadMetrics]:
    """The snapshots from the fault to ``DURING_NS`` after it, after the election, and after the silence."""
    end_ns = (elected or fault).time_ns + DURING_NS
    during: list[LoadMetrics] = []
    for each in snapshots:
        silent_since_ns = each.time_ns - each.gap_ms * NS_PER_MS
        if each.time_ns > fault.time_ns and silent_since_ns < end_ns:
            during.append(each)
            if each.gap_ms > UNSERVED_MS:
                end_ns = max(end_ns, each.time_ns + DURING_NS)
    return during


def _p99_ms(snapshots: Iterable[LoadMetrics]) -> float | None:
    merged = Histogram()
    for each in snapshots:
        merged.merge(Histogram.from_sparse(each.response_time, each.response_time_max_ns))
    return merged.percentile(99) / NS_PER_MS if merged.count else None


# -- what a page shows ---------------------------------------------------------------------------------------------


def _card(incident: Incident) -> dict[str, Any]:
    fields = asdict(incident)
    time_ns = fields.pop("time_ns")
    return fields | {"at": clock(time_ns), "young": time.time_ns() - time_ns < SETTLE_NS}


def _card_row(card: Mapping[str, Any]) -> tuple[str, ...]:
    times = ("detected_ms", "elected_ms", "silence_ms", "p99_before_ms", "p99_during_ms")
    told = ["-" if card[name] is None else f"{card[name]:,.1f} ms" for name in times]
    return (card["at"], card["title"], *told, card["lost"] or NOT_JUDGED, card["duplicated"] or NOT_JUDGED)


def _log_row(event: Event) -> dict[str, Any]:
    return {
        "at": clock(event.time_ns),
        "node": event.node,
        "what": word_of(event),
        "term": event.term or None,
        "text": event.text.replace("pre_candidate", "pre-candidate"),  # as in the table of nodes
        "sort": sort_of(event),
    }
