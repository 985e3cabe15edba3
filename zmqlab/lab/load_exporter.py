"""What a load client tells Prometheus: shown by the process that started it, from the snapshots that come in anyway.

The generator itself serves nothing, so that a scrape is no part of what is measured. Counts are the run's; histograms
are summed up here from the snapshots' intervals, ten a second. A snapshot that is lost on its way leaves its answers
out of the histograms, and of nothing else.

prometheus-client is imported with this module, and this module only where metrics are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from zmqlab.lab.targets import Targets
from zmqlab.load.metrics import LoadMetrics
from zmqlab.load.settings import LoadSettings
from zmqlab.node.exposition import Distribution, Endpoint, Figure, Pages, Total, Writer, histogram

PREFIX = "zmqlab_load_"


class View(NamedTuple):
    """What a scrape needs; never changed."""

    snapshot: LoadMetrics
    response_time: Distribution
    service_time: Distribution


class _Series(NamedTuple):
    name: str
    help_text: str
    read: Callable[[LoadMetrics], float]


_COUNTERS = (
    _Series("orders_offered_total", "Orders whose due time came, sent or not.", lambda m: m.total.offered),
    _Series("orders_sent_total", "Orders sent, each once.", lambda m: m.total.sent),
    _Series("orders_acknowledged_total", "Orders whose report came.", lambda m: m.total.acknowledged),
    _Series("orders_rejected_total", "Acknowledged orders that changed nothing.", lambda m: m.total.rejected),
    _Series("orders_failed_total", "Orders of requests that got no reports.", lambda m: m.total.failed),
    _Series("orders_late_total", "Orders sent over 5 ms late by this client's own fault.", lambda m: m.total.late),
    _Series(
        "orders_held_back_total", "Orders sent over 5 ms late for the cluster's sake.", lambda m: m.total.held_back
    ),
    _Series("requests_acknowledged_total", "Requests that were answered.", lambda m: m.total.requests),
    _Series("retries_total", "Requests sent again.", lambda m: m.total.retries),
    _Series("failovers_total", "Times that a node was left for another.", lambda m: m.total.failovers),
    _Series("busy_total", "Answers that a node was too busy.", lambda m: m.total.busy),
)
_GAUGES = (
    _Series("running", "1 while orders are sent.", lambda m: int(m.state == "running")),
    _Series("outstanding_requests", "Requests sent and not answered.", lambda m: m.outstanding),
    _Series("silence_seconds", "Since the last answer, while one is owed.", lambda m: m.silence_ms / 1e3),
    _Series(
        "longest_gap_seconds", "Longest time that answers were owed and none came.", lambda m: m.longest_gap_ms / 1e3
    ),
)


def figures(view: View) -> Iterator[Figure]:
    """The whole of ``/metrics``."""
    snapshot = view.snapshot
    for name, help_text, read in _COUNTERS:
        yield Figure("counter", PREFIX + name, help_text, [read(snapshot)])
    for name, help_text, read in _GAUGES:
        yield Figure("gauge", PREFIX + name, help_text, [read(snapshot)])
    text = "From an order's due time to its answer, by order."
    yield histogram(PREFIX + "response_time_seconds", text, view.response_time)
    text = "From an order's sending to its answer, by order."
    yield histogram(PREFIX + "service_time_seconds", text, view.service_time)


class LoadExporter:
    """Takes a load client's snapshots and shows them."""

    def __init__(self, settings: LoadSettings, host: str, port: int, targets: Targets | None) -> None:
        """Listen; port 0 is any free one. ``targets`` is told where.

        Raises:
            PortInUse: another process listens there.
        """
        self._view: View | None = None
        self._writer = Writer()
        self._response_time, self._service_time = Total(), Total()
        pages = Pages(self._metrics, lambda: "", self._why_not_ready)
        self._endpoint = Endpoint(host, port, pages, f"load client {settings.name}")
        self._address = f"{host}:{self._endpoint.port}"
        self._targets = targets
        if targets is not None:
            targets.show_load(settings.name, self._address)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._endpoint.port

    def take(self, snapshot: LoadMetrics) -> None:
        """Each snapshot once, from one thread."""
        self._response_time.add(snapshot.response_time)
        self._service_time.add(snapshot.service_time)
        self._view = View(snapshot, self._response_time.view(), self._service_time.view())

    def close(self) -> None:
        """Stop showing anything."""
        if self._targets is not None:
            self._targets.hide_load(self._address)
        self._endpoint.close()

    def _metrics(self) -> bytes:
        return self._writer.write(figures(self._view)) if self._view else b""

    def _why_not_ready(self) -> str:
        state = self._view.snapshot.state if self._view else "starting"
        return "" if state == "running" else state
