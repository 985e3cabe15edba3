"""What a fault cost: how long until it was noticed, until somebody led, until orders were acknowledged again.

An :class:`Incident` is read off the events and the load client's snapshots around a fault. It is complete some seconds
after it, or when orders are acknowledged again if that is later, and is not touched again then. *Detected* is when
another node began to campaign, which is when it had missed the leader's heartbeats for its election time-out; a fault
of a follower is detected by nobody, since nothing depends on that node. *Lost* and *duplicated* are the verdict's to
say: nobody knows before the run has been judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from zmqlab.cluster.cluster import Cluster
from zmqlab.cluster.tables import EventTable, clock, html_table
from zmqlab.cluster.verdict import Verdict
from zmqlab.histogram import Histogram
from zmqlab.load.metrics import LoadMetrics
from zmqlab.widgets.marks import is_fault
from zmqlab.widgets.panel import Panel, script
from zmqlab.widgets.sampler import sampler_of
from zmqlab.wire.control import Event

SETTLE_NS = 8_000_000_000
"""After so long an incident is taken to be over."""
BEFORE_NS = 5_000_000_000
DURING_NS = 3_000_000_000
"""An election takes 0.2 to 0.6 s, and the orders that waited are worked off in as long again."""
UNSERVED_MS = 1_000.0
"""After so long a silence nobody is served, which is no matter of one election any more."""
TOGETHER_NS = 1_500_000_000
"""Links that are cut one after the other by hand are one fault."""
MAX_INCIDENTS = 6
LINK_KINDS = ("cut", "partitioned")
NS_PER_MS = 1e6

LeaderAt = Callable[[int], str]
"""Who led at a time in nanoseconds; empty: nobody."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One fault. Times in milliseconds after it; None: not (yet) known, or there was none."""

    time_ns: int
    title: str
    led: bool
    """It hit a node, and that node led."""
    links: bool = False
    """It hit links: nobody can tell beforehand whether there will be an election."""
    detected_ms: float | None = None
    elected_ms: float | None = None
    new_leader: str = ""
    silence_ms: float | None = None
    """The longest time in which answers were owed and none came; so far, if :attr:`unserved`."""
    unserved: bool = False
    """The silence goes on."""
    p99_before_ms: float | None = None
    p99_during_ms: float | None = None
    lost: str = ""
    """The verdict's words; empty: not judged yet."""
    duplicated: str = ""


class Incidents:
    """All faults of a cluster's life that are young enough to be shown, newest last."""

    def __init__(self) -> None:
        self._known: dict[int, Incident] = {}
        """By the time of the fault, ascending."""

    @property
    def newest(self) -> list[Incident]:
        """The last few."""
        return list(self._known.values())[-MAX_INCIDENTS:]

    def follow(
        self, events: Sequence[Event], snapshots: Sequence[LoadMetrics], now_ns: int, leader_at: LeaderAt
    ) -> None:
        """Complete what is young, add what is new."""
        for fault in faults_of(events):
            known = self._known.get(fault.time_ns)
            if known is None or known.unserved or now_ns - fault.time_ns < SETTLE_NS:
                measured = measure(fault, events, snapshots, leader_at)
                self._known[fault.time_ns] = measured if known is None else _completed(known, measured)

    def judged(self, verdict: Verdict, since_ns: int) -> None:
        """Write the verdict of a run that began then into the incidents that fell into it."""
        lost, twice = said_of(verdict, "nothing lost"), said_of(verdict, "nothing twice")
        for time_ns, incident in self._known.items():
            if time_ns >= since_ns:
                self._known[time_ns] = replace(incident, lost=lost, duplicated=twice)


def _completed(known: Incident, measured: Incident) -> Incident:
    """What was measured again, with what can't be any more: the verdict's words, and what was before a long silence."""
    return replace(measured, lost=known.lost, duplicated=known.duplicated, p99_before_ms=known.p99_before_ms)


def said_of(verdict: Verdict, name: str) -> str:
    """``0`` if that promise was kept; what was found otherwise."""
    check = next((check for check in verdict.checks if check.name == name), None)
    if check is None:
        return "not checked"
    return "0" if check.ok else check.detail


def faults_of(events: Iterable[Event]) -> list[Event]:
    """The events that begin an incident. Of faults in a row to links the first counts, and of a kill and the wiping
    that goes with it the kill."""
    faults: list[Event] = []
    for event in sorted(events, key=lambda each: each.time_ns):
        if not is_fault(event.kind):
            continue
        last = faults[-1] if faults else None
        close = last is not None and event.time_ns - last.time_ns < TOGETHER_NS
        if last is not None and close and (event.kind == last.kind == "cut" or event.kind == "wiped"):
            continue
        faults.append(event)
    return faults


def measure(fault: Event, events: Iterable[Event], snapshots: Sequence[LoadMetrics], leader_at: LeaderAt) -> Incident:
    """All that can be said of one fault now."""
    ordered = sorted(events, key=lambda each: each.time_ns)
    after = [event for event in ordered if fault.time_ns < event.time_ns < fault.time_ns + SETTLE_NS]
    elected = next((event for event in after if event.kind == "elected"), None)
    noticed = next((event for event in after if _campaigns(event) and event.node != fault.node), None)
    if elected is None or (noticed is not None and noticed.time_ns > elected.time_ns):
        noticed = None
    during = _during(fault, elected, snapshots)
    unserved = bool(during) and during[-1].silence_ms > UNSERVED_MS
    return Incident(
        time_ns=fault.time_ns,
        title=_title(fault),
        led=bool(fault.node) and fault.kind not in LINK_KINDS and leader_at(fault.time_ns) == fault.node,
        links=fault.kind in LINK_KINDS,
        detected_ms=_ms_after(fault, noticed),
        elected_ms=_ms_after(fault, elected),
        new_leader=elected.node if elected else "",
        silence_ms=max((each.gap_ms for each in during), default=None),
        unserved=unserved,
        p99_before_ms=_p99_ms(each for each in snapshots if -BEFORE_NS < each.time_ns - fault.time_ns <= 0),
        p99_during_ms=None if unserved else _p99_ms(during),
    )


def _title(fault: Event) -> str:
    if fault.kind == "partitioned":
        return f"partition {fault.text}"
    return fault.text.replace("->", "→") if fault.kind in ("cut", "hash_mismatch") else f"{fault.node} {fault.kind}"


def _campaigns(event: Event) -> bool:
    return event.kind in ("role", "elected") and ("candidate" in event.text or event.kind == "elected")


def _ms_after(fault: Event, event: Event | None) -> float | None:
    return None if event is None else (event.time_ns - fault.time_ns) / NS_PER_MS


def _during(fault: Event, elected: Event | None, snapshots: Iterable[LoadMetrics]) -> list[LoadMetrics]:
    """The snapshots from the fault to so long after it, after the election and after the silence that came of it."""
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



HEAD = ("at", "fault", "detected", "elected", "no acknowledgement", "p99 before", "p99 during", "lost", "duplicated")
NOT_JUDGED = "judged at the end"


class FaultCards(Panel):
    """The last few faults, the newest first."""

    _esm = script("fault_cards.js")

    def __init__(self, cluster: Cluster) -> None:
        self._sampler = sampler_of(cluster)
        self._incidents = Incidents()
        self._follow()
        super().__init__()
        self._unregister = self._sampler.on_tick(self._tick)

    def judged(self, verdict: Verdict, since_ns: int) -> None:
        """A run that began then has been judged."""
        with self._guard:
            self._incidents.judged(verdict, since_ns)
        self.refresh(now=True)

    def make_state(self) -> dict[str, Any]:
        cards = [
            asdict(each) | {"at": clock(each.time_ns), "young": time.time_ns() - each.time_ns < SETTLE_NS}
            for each in reversed(self._incidents.newest)
        ]
        return {"cards": [{name: value for name, value in card.items() if name != "time_ns"} for card in cards]}

    def html(self) -> str:
        def row(card: dict[str, Any]) -> tuple[str, ...]:
            times = ("detected_ms", "elected_ms", "silence_ms", "p99_before_ms", "p99_during_ms")
            told = ["-" if card[name] is None else f"{card[name]:,.1f} ms" for name in times]
            return (card["at"], card["title"], *told, card["lost"] or NOT_JUDGED, card["duplicated"] or NOT_JUDGED)

        cards = self._state["cards"]
        return html_table(HEAD, map(row, cards)) if cards else "<p>No faults yet: kill a node.</p>"

    def close(self) -> None:
        """Take it from the page."""
        self._unregister()
        super().close()

    def _follow(self) -> None:
        sampler = self._sampler
        self._incidents.follow(sampler.events, list(sampler.load_frames), time.time_ns(), sampler.leader_at)

    def _tick(self) -> None:
        newest = self._incidents.newest
        young = newest and (newest[-1].unserved or time.time_ns() - newest[-1].time_ns < 2 * SETTLE_NS)
        if young or any(event.time_ns > (newest[-1].time_ns if newest else 0) for event in self._sampler.events[-20:]):
            with self._guard:
                if time.monotonic() - self._shown_s >= self._interval_s - 0.02:
                    self._follow()
                    self.refresh()



SHOWN = 100
WORDS = {"stepped_down": "stepped down", "hash_mismatch": "states differ"}


class EventLog(Panel):
    """A table that scrolls; the newest event on top."""

    _esm = script("event_log.js")

    def __init__(self, cluster: Cluster) -> None:
        self._sampler = sampler_of(cluster)
        super().__init__(interval_s=0.2)
        self._unregister = self._sampler.on_tick(self.refresh)

    def make_state(self) -> dict[str, Any]:
        newest = sorted(self._sampler.events, key=lambda event: -event.time_ns)[:SHOWN]
        return {
            "events": [
                {
                    "at": clock(event.time_ns),
                    "node": event.node,
                    "what": WORDS.get(event.kind, event.kind),
                    "term": event.term or None,
                    "text": event.text,
                    "sort": "fault" if is_fault(event.kind) else "elected" if event.kind == "elected" else "",
                }
                for event in newest
            ]
        }

    def html(self) -> str:
        return EventTable(sorted(self._sampler.events, key=lambda event: event.time_ns)[-SHOWN:])._repr_html_()

    def close(self) -> None:
        """Take it from the page."""
        self._unregister()
        super().close()
