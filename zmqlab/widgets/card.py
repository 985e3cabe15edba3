"""A card for each fault: what it cost. Read off in :mod:`zmqlab.widgets.incidents`, shown here."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from zmqlab.judge.verdict import Verdict
from zmqlab.lab.cluster import Cluster
from zmqlab.tables import clock, html_table
from zmqlab.widgets.data import sampler_of
from zmqlab.widgets.incidents import SETTLE_NS, Incidents
from zmqlab.widgets.panel import Panel, script

HEAD = ("at", "fault", "detected", "elected", "no acknowledgement", "p99 before", "p99 during", "lost", "duplicated")
NOT_JUDGED = "judged at the end"


class FaultCards(Panel):
    """The last few faults, the newest first."""

    _esm = script("card.js")

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
