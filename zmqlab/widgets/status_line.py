"""One line on top of the panel that says whether clients are served now, and if not, why and what to do.

What it says is found by :mod:`zmqlab.lab.service_status`; nothing is decided here. The page adds one level of its own,
NO KERNEL, which the kernel can't tell: ``age.js`` knows it, and while the kernel is gone all controls of the page are
disabled. The line stays in sight while the rest of the panel scrolls under it. Its level has a shape beside its colour.
A screen reader is told when the headline changes, and not of each figure.

At its right end stands how many of the acknowledged orders are lost so far, and how many were applied twice
(:mod:`zmqlab.lab.so_far`).
"""

from __future__ import annotations

import html
import time
from typing import Any

from zmqlab.lab.cluster import Cluster
from zmqlab.lab.service_facts import ServiceWatch
from zmqlab.lab.service_status import PAUSE_MS, Level, ServiceStatus, duration, service_status
from zmqlab.widgets.fault_cards import CountsAlong, figures_of
from zmqlab.widgets.live_figure import page_text
from zmqlab.widgets.panel import Panel, script


class StatusLine(Panel):
    """The line; see the module.

    Args:
        cluster: a cluster that has been started.
        load: tells what its run has lost so far: a load client, or the controls that start them. None: that is not
            shown.
    """

    _css = Panel._css + page_text("status_line.css")
    _esm = script("status_line.js")

    def __init__(self, cluster: Cluster, load: CountsAlong | None = None) -> None:
        self._load = load
        self._watch = ServiceWatch.of(cluster)
        self._known_events = 0
        super().__init__(cluster)

    @property
    def status(self) -> ServiceStatus:
        """What the line says now."""
        error = self._sampler.error
        self._watch.is_over = self._watch.is_over or self._sampler.ended
        return service_status(self._watch.facts("" if error is None else repr(error)))

    def judged(self, outcome: str) -> None:
        """A run was judged: ``passed``, ``failed`` or ``not judged``."""
        self._watch.outcome = outcome
        self.refresh(now=True)

    def make_state(self) -> dict[str, Any]:
        """The parts of the line; ``lasts`` is empty where it is not known since when it is so."""
        status = self.status
        so_far = self._load.so_far if self._load is not None else None
        return {
            "level": status.level.value,
            "headline": status.headline,
            "lasts": duration(time.time_ns() - status.since_ns) if status.since_ns else "",
            "text": status.text,
            "advice": status.advice,
            "so_far": None if so_far is None else figures_of(so_far),
        }

    def html(self) -> str:
        """The line as a paragraph."""
        status = self.status
        return f"<p>{status.level.symbol} {html.escape(status.line(time.time_ns()))}</p>"

    def close(self) -> None:
        """Take it from the page; the cluster goes on."""
        self._watch.close()
        super().close()

    def _tick(self) -> None:
        """After an event, and when answers stop coming, the line does not wait for its turn."""
        count, load = len(self._sampler.events), self._sampler.load
        stops = self._state["level"] == Level.SERVING and load is not None and load.silence_ms > PAUSE_MS
        self.refresh(now=(stops or count != self._known_events) and not self._hidden)
        self._known_events = count
