"""What happened, the newest first: what was done to the cluster, and what the nodes said of it."""

from __future__ import annotations

from typing import Any

from zmqlab.lab.cluster import Cluster
from zmqlab.tables import EventTable, clock
from zmqlab.widgets.data import sampler_of
from zmqlab.widgets.marks import is_fault
from zmqlab.widgets.panel import Panel, script

SHOWN = 100
WORDS = {"stepped_down": "stepped down", "hash_mismatch": "states differ"}


class EventLog(Panel):
    """A table that scrolls; the newest event on top."""

    _esm = script("events.js")

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
