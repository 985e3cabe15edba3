"""What each fault cost, as a card, and all that happened, as a log.

:class:`FaultCards` and :class:`EventLog` are the widgets. What a card says is measured by
:mod:`zmqlab.lab.incidents`. The newest card has a film strip: the seconds around the fault in slow motion
(:mod:`zmqlab.lab.film`). :class:`FilmStrip` is that card alone.

How much is lost is counted while the load runs (:mod:`zmqlab.lab.so_far`), and told by the verdict at its end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

from zmqlab.judge.live_count import SoFar
from zmqlab.judge.verdict import Verdict
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.film import Film, film_of
from zmqlab.lab.incidents import MAX_INCIDENTS, SETTLE_NS, Incident, Incidents, sort_of, word_of
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.tables import EventTable, clock, html_table
from zmqlab.widgets.live_figure import page_text
from zmqlab.widgets.panel import Panel, script
from zmqlab.wire.control import Event

EVENTS_SHOWN = 100
"""The event log's newest rows; a page draws all of them anew at each event."""
COUNT_S = 1.0
"""What is lost so far is counted as often."""
RECENT_EVENTS = 20
"""A card looks among the newest so many events for a fault that is new."""

CARD_HEAD = (
    *("at", "fault", "detected", "elected", "no acknowledgement"),
    *("p99 before", "p99 during", "lost", "duplicated"),
)
NOT_JUDGED = "judged at the end"


class CountsAlong(Protocol):
    """A load client, or what starts them."""

    @property
    def so_far(self) -> SoFar | None:
        """What the run has lost so far; None: that is not counted."""


class FaultCards(Panel):
    """A card for each of the last few faults, newest first; the newest has a film strip.

    Args:
        cluster: a cluster that has been started.
        load: tells what its run has lost so far; None: the verdict alone does.
    """

    _css = Panel._css + page_text("film_strip.css")
    _esm = script("film_strip.js", "fault_cards.js")
    _shown = MAX_INCIDENTS
    """So many of the newest faults."""

    def __init__(self, cluster: Cluster, load: CountsAlong | None = None) -> None:
        self._incidents = Incidents()
        self._load = load
        self._film: Film | None = None
        """Of the newest fault."""
        self._filmed_ns = 0
        """When that struck."""
        super().__init__(cluster, interval_s=0.2)
        self._follow()
        self.refresh(now=True)

    def judged(self, verdict: Verdict, since_ns: int) -> None:
        """Show the verdict of a run that began at ``since_ns`` (wall clock)."""
        with self._guard:
            self._incidents.judged(verdict, since_ns)
        self.refresh(now=True)

    def make_state(self) -> dict[str, Any]:
        """``cards``: an incident's fields each, with the time of day ``at``, and ``young`` while more may come;
        ``film``: that of the newest; ``so_far``: what the run that goes on has lost."""
        so_far = self._load.so_far if self._load is not None else None
        return {
            "cards": [_card(each) for each in reversed(self._incidents.newest[-self._shown :])],
            "film": None if self._film is None else asdict(self._film) | {"burst": self._film.burst},
            "so_far": None if so_far is None else figures_of(so_far),
        }

    def html(self) -> str:
        """The cards as a table."""
        cards = self._state["cards"]
        return html_table(CARD_HEAD, map(_card_row, cards)) if cards else "<p>No faults yet: kill a node.</p>"

    def _follow(self) -> None:
        sampler, frames, now_ns = self._sampler, list(self._sampler.load_frames), time.time_ns()
        self._incidents.follow(sampler.events, frames, now_ns, sampler.who_leads)
        newest = self._incidents.newest
        if newest and (self._is_developing or newest[-1].time_ns != self._filmed_ns):
            self._roll_film(newest[-1], frames, now_ns)

    def _roll_film(self, fault: Incident, frames: Sequence[LoadMetrics], now_ns: int) -> None:
        made, before = film_of(fault, frames, now_ns), self._film
        if before is not None and fault.time_ns == self._filmed_ns and before.offered and not made.offered:
            made = replace(before, complete=True)  # its first snapshots are kept no longer
        self._film, self._filmed_ns = made, fault.time_ns

    @property
    def _is_developing(self) -> bool:
        """Whether the film of the newest fault goes on."""
        return self._film is not None and not self._film.complete

    def _tick(self) -> None:
        """Runs in the sampler's thread. Measures only while there is something to measure."""
        newest = self._incidents.newest
        is_recent = newest and time.time_ns() - newest[-1].time_ns < 2 * SETTLE_NS
        young = newest and (is_recent or self._is_developing or newest[-1].unserved)
        known_ns = newest[-1].time_ns if newest else 0
        if young or any(event.time_ns > known_ns for event in self._sampler.events[-RECENT_EVENTS:]):
            with self._guard:
                if self.is_due():
                    self._follow()
                    self.refresh()
        elif newest and self._load is not None and time.monotonic() - self._shown_s >= COUNT_S:
            self.refresh()


class FilmStrip(FaultCards):
    """The newest fault's card with its film strip, and no other."""

    _shown = 1


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


def figures_of(so_far: SoFar) -> dict[str, Any]:
    """What a run has lost so far, as a page is sent it."""
    return asdict(so_far) | {"text": str(so_far), "how": so_far.how}


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
