"""What each fault cost: how long until it was noticed, until another node led, and until clients were served again.

An :class:`Incident` is read off the events and the load clients' snapshots around a fault. It is complete
:data:`SETTLE_NS` after the fault, or when orders are acknowledged again if that is later. A complete incident is not
measured again: snapshots are kept for a minute only, and a card must not change when they are gone.

*Detected* is the moment at which another node began to campaign. That node had missed the leader's heartbeats for its
election time-out. No node detects the fault of a follower, because nothing depends on a follower.

*Lost* and *duplicated* are words of the verdict. They are unknown until the run has been judged.

:class:`IncidentsOfRun` follows one load client while it runs; a panel follows a whole cluster.

Rules: pure, but for what is kept between two looks. Which events are faults, and what they are called, is said by the
one registry (:data:`~zmqlab.lab.fault_kinds.FAULTS`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from zmqlab.judge.verdict import Verdict
from zmqlab.lab.events import LabEvent, group_named_in
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.load.load_report import response_time_of
from zmqlab.wire.control import Event, EventKind

SETTLE_NS = 8_000_000_000
"""An incident is over after so long, unless orders still wait."""
BEFORE_NS = 5_000_000_000
"""The time before a fault whose latencies are compared with those during it."""
DURING_NS = 3_000_000_000
"""An election takes 0.2 to 0.6 s, and the orders that waited are worked off in as long again."""
TOGETHER_NS = 1_500_000_000
"""Links that a person cuts one after the other within this time are one fault. What follows two faults that come so
close may be the doing of either."""
MAX_INCIDENTS = 6
"""So many cards are shown while a cluster runs."""
WAITED_MS = 150.0
"""A group that gives no answer for longer has waited, as in a threshold (:mod:`zmqlab.judge.thresholds`)."""
UNSERVED_MS = 1_000.0
"""No election alone causes a silence of this length: clients are not served."""
SNAPSHOTS = 600
"""Of a load client that are kept while it runs: a minute."""
SNAPSHOTS_A_LOOK = 10
"""A run's incidents are measured again after so many: once a second."""
NS_PER_MS = 1e6

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
    """The longest time in which answers were owed and none came, by any group; so far, if :attr:`unserved`."""
    waited: tuple[int, ...] = ()
    """Where there are several Raft groups: those that gave no answer for :data:`WAITED_MS`, while others did."""
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

    @property
    def all(self) -> list[Incident]:
        """Every incident, oldest first."""
        return list(self._known.values())

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


class IncidentsOfRun:
    """The faults of one load client's run, followed while it goes on. Safe to use from several threads."""

    def __init__(self) -> None:
        self._incidents = Incidents()
        self._snapshots: deque[LoadMetrics] = deque(maxlen=SNAPSHOTS)
        self._count = 0
        self._lock = threading.Lock()

    def take(self, snapshot: LoadMetrics, events: Callable[[], Sequence[Event]]) -> None:
        """A snapshot has come; ``events`` tells all that are known, and is asked once a second."""
        with self._lock:
            self._snapshots.append(snapshot)
            self._count += 1
            if self._count % SNAPSHOTS_A_LOOK == 0:
                self._follow(events(), snapshot.time_ns)

    def judged(self, events: Sequence[Event], verdict: Verdict, started_ns: int, ended_ns: int) -> list[Incident]:
        """All incidents between two times of the wall clock, oldest first, when the run has been judged."""
        with self._lock:
            self._follow(events, ended_ns)
            self._incidents.judged(verdict, started_ns)
            return [each for each in self._incidents.all if started_ns <= each.time_ns <= ended_ns]

    def _follow(self, events: Sequence[Event], now_ns: int) -> None:
        self._incidents.follow(events, list(self._snapshots), now_ns, lambda time_ns: leader_at(events, time_ns))


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
    known = sorted(events, key=lambda each: each.time_ns)
    later = (each for each in faults_of(known) if each.time_ns >= fault.time_ns + TOGETHER_NS)
    next_fault = next(later, None)  # what follows it may be its doing
    during = _during(fault, fault, snapshots)
    silent_until_ns = max((each.time_ns for each in during if _gap_ms(each) > UNSERVED_MS), default=0)
    settled_ns = max(fault.time_ns + SETTLE_NS, silent_until_ns)
    end_ns = settled_ns if next_fault is None else min(next_fault.time_ns, settled_ns)
    after = [event for event in known if fault.time_ns < event.time_ns < end_ns]
    elected = next(filter(is_election, after), None)
    noticed = next((event for event in after if is_campaign(event) and event.node != fault.node), None)
    if elected is None or (noticed is not None and noticed.time_ns > elected.time_ns):
        noticed = None
    if elected is not None:
        during = _during(fault, elected, snapshots)
    unserved = bool(during) and _silence_ms(during[-1]) > UNSERVED_MS
    return Incident(
        time_ns=fault.time_ns,
        title=title_of(fault),
        led=bool(fault.node)
        and not is_link_fault(fault)
        and (leader_at(fault.time_ns) == fault.node or fault.node in leaders_of_groups(known, fault.time_ns)),
        links=is_link_fault(fault),
        detected_ms=_ms_after(fault, noticed),
        elected_ms=_ms_after(fault, elected),
        new_leader=elected.node if elected else "",
        silence_ms=max((gap_ms for each in during for gap_ms in (each.gap_ms, *_gaps_ms(each).values())), default=None),
        waited=tuple(
            sorted({group for each in during for group, gap_ms in _gaps_ms(each).items() if gap_ms > WAITED_MS})
        ),
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


def _gaps_ms(snapshot: LoadMetrics) -> dict[int, float]:
    """By Raft group, if there are several: the longest gap of the interval."""
    return {share.group: share.gap_ms for share in snapshot.groups}


def _gap_ms(snapshot: LoadMetrics) -> float:
    """The longest gap of the interval, of the cluster or of one of its groups."""
    return max(snapshot.gap_ms, *_gaps_ms(snapshot).values(), 0.0)


def _silence_ms(snapshot: LoadMetrics) -> float:
    """How long an answer has been owed, of the cluster or of one of its groups."""
    return max(snapshot.silence_ms, *(share.silence_ms for share in snapshot.groups), 0.0)


def _ms_after(fault: Event, event: Event | None) -> float | None:
    return None if event is None else (event.time_ns - fault.time_ns) / NS_PER_MS


def _during(fault: Event, last: Event, snapshots: Iterable[LoadMetrics]) -> list[LoadMetrics]:
    """The snapshots from the fault to ``DURING_NS`` after ``last``, which is the fault or the election that followed,
    and after a silence in which clients were not served."""
    end_ns = last.time_ns + DURING_NS
    during: list[LoadMetrics] = []
    for each in snapshots:
        gap_ms = _gap_ms(each)
        silent_since_ns = each.time_ns - gap_ms * NS_PER_MS
        if each.time_ns > fault.time_ns and silent_since_ns < end_ns:
            during.append(each)
            if gap_ms > UNSERVED_MS:
                end_ns = max(end_ns, each.time_ns + DURING_NS)
    return during


def _p99_ms(snapshots: Iterable[LoadMetrics]) -> float | None:
    merged = response_time_of(snapshots)
    return merged.percentile(99) / NS_PER_MS if merged.count else None


# -- events in words ---------------------------------------------------------------------------------------------


def is_fault(event: Event) -> bool:
    """Whether the event tells that something broke, or was broken."""
    return FAULTS.is_fault(event.kind)


def is_link_fault(event: Event) -> bool:
    """Whether the event is a fault of links and not of a node."""
    return any(band.of_links and event.kind in band.begins for band in FAULTS.bands)


def is_election(event: Event) -> bool:
    """Whether a node was elected."""
    return event.kind == EventKind.ELECTED


def is_campaign(event: Event) -> bool:
    """Whether a node began to campaign, or has won."""
    return is_election(event) or (event.kind == EventKind.ROLE and "candidate" in event.text)


def is_part_of(event: Event, fault: Event) -> bool:
    """Whether a fault that came soon after ``fault`` belongs to it: the next of several links that became bad, or a
    wiping after a kill."""
    links = (LabEvent.CUT, LabEvent.LINK)
    return event.kind == LabEvent.WIPED or (event.kind in links and fault.kind in links)


def title_of(fault: Event) -> str:
    """A fault in a few words, for its card. If it is not about one node, its text says what it is about."""
    label = FAULTS.marks[fault.kind].label_of(fault)
    return label if fault.node or not fault.text else f"{label}: {fault.text}"


def word_of(event: Event) -> str:
    """The event's kind as the event log shows it."""
    return event.kind.replace("_", " ")


def sort_of(event: Event) -> str:
    """``fault``, ``change``, ``election``, or empty for an event that makes no mark: each has its symbol in a log."""
    mark = FAULTS.marks.get(event.kind)
    return mark.sort.value if mark is not None else ""


def leader_at(events: Iterable[Event], time_ns: int) -> str:
    """The node that was elected last before ``time_ns``, as far as events tell; empty if none was."""
    elected = (event for event in events if is_election(event) and event.time_ns < time_ns)
    newest = max(elected, key=lambda event: event.time_ns, default=None)
    return newest.node if newest is not None else ""


def leaders_of_groups(events: Iterable[Event], time_ns: int) -> set[str]:
    """The nodes that led any of several Raft groups, as far as events tell; empty if there is one group."""
    newest: dict[int, Event] = {}
    for event in events:
        if is_election(event) and group_named_in(event) and event.time_ns < time_ns:
            newest[event.group] = max(newest.get(event.group, event), event, key=lambda each: each.time_ns)
    return {event.node for event in newest.values()}
