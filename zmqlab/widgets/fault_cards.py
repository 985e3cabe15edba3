"""What each fault cost, as a card, and all that happened, as a log.

:class:`FaultCards` and :class:`EventLog` are the widgets. What a card says is measured by
:mod:`zmqlab.lab.incidents`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from zmqlab.judge.verdict import Verdict
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.incidents import SETTLE_NS, Incident, Incidents, sort_of, word_of
from zmqlab.tables import EventTable, clock, html_table
from zmqlab.widgets.panel import Panel, script
from zmqlab.wire.control import Event

EVENTS_SHOWN = 100
"""The event log's newest rows; a page draws all of them anew at each event."""
RECENT_EVENTS = 20
"""A card looks among the newest so many events for a fault that is new."""

CARD_HEAD = (
    *("at", "fault", "detected", "elected", "no acknowledgement"),
    *("p99 before", "p99 during", "lost", "duplicated"),
)
NOT_JUDGED = "judged at the end"


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
