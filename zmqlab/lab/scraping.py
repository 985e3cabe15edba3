"""What Prometheus is told: where a cluster's nodes and load clients show metrics, and what a load client shows.

**Targets.** A file in the run folder lists where metrics are shown, in the format of Prometheus' file-based discovery
(``file_sd_configs``), which reads the file again when it changes. It is written aside and renamed, so that no reader
sees half of it. A node that is stopped or was killed stays in the list, since it should be there: its ``up`` is 0, and
an alert waits for that. A node that was removed is gone from the list. The labels are the series' identity: ``job``
is ``zmqlab`` for nodes and ``zmqlab-load`` for load clients, ``cluster`` is the cluster's name, ``node`` or ``client``
the name within it. A node that comes back, even with a new disk, continues its series.

**A load client's metrics** are shown by the process that started it, from the snapshots that come in anyway. The
generator itself serves nothing, so a scrape is no part of what is measured. Counts are the run's; histograms are summed
up here from the snapshots' intervals, ten a second. A snapshot that is lost on its way leaves its answers out of the
histograms, and of nothing else.

This module brings prometheus-client along, so it is imported only where metrics are asked for.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zmqlab.endpoints import spelled
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.load.load_settings import LoadSettings
from zmqlab.node.exposition import Distribution, Endpoint, Figure, Pages, Total, Writer, histogram
from zmqlab.settings import NodeSettings

FILE = Path("prometheus") / "targets.json"
"""Below the cluster's run folder."""
NODE_JOB, LOAD_JOB = "zmqlab", "zmqlab-load"
PREFIX = "zmqlab_load_"


class Targets:
    """Keeps the file up to date. Safe to use from several threads."""

    def __init__(self, run_dir: Path, cluster: str) -> None:
        self.path = run_dir / FILE
        self._cluster = cluster
        self._nodes: list[dict[str, Any]] = []
        self._loads: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def show_nodes(self, nodes: Iterable[NodeSettings]) -> None:
        """These are all nodes of the cluster now."""
        with self._lock:
            self._nodes = [
                self._group(f"{node.host}:{node.metrics_port}", NODE_JOB, node=node.name)
                for node in nodes
                if node.metrics_port
            ]
            self._write()

    def show_load(self, client: str, address: str) -> None:
        """A load client shows its metrics at this address."""
        with self._lock:
            self._loads[address] = self._group(address, LOAD_JOB, client=client)
            self._write()

    def hide_load(self, address: str) -> None:
        """The load client at this address has ended."""
        with self._lock:
            if self._loads.pop(address, None) is not None:
                self._write()

    def clear(self) -> None:
        """The cluster has ended: there is nothing left to scrape."""
        with self._lock:
            self._nodes, self._loads = [], {}
            self._write()

    def _group(self, address: str, job: str, **labels: str) -> dict[str, Any]:
        return {"targets": [address], "labels": {"job": job, "cluster": self._cluster, **labels}}

    def _write(self) -> None:
        aside = self.path.with_suffix(".new")
        aside.write_text(json.dumps([*self._nodes, *self._loads.values()], indent=2) + "\n")
        os.replace(aside, self.path)


class View(NamedTuple):
    """All that a scrape needs; it is replaced and never changed."""

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
    _Series("orders_failed_total", "Orders sent that got no report.", lambda m: m.total.failed),
    _Series("orders_late_total", "Orders sent over 5 ms late by this client's own fault.", lambda m: m.total.late),
    _Series(
        "orders_held_back_total",
        "Orders sent over 5 ms late for the cluster's sake.",
        lambda m: m.total.held_back,
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
    yield from _of_groups(snapshot)
    text = "From an order's due time to its answer, by order."
    yield histogram(PREFIX + "response_time_seconds", text, view.response_time)
    text = "From an order's sending to its answer, by order."
    yield histogram(PREFIX + "service_time_seconds", text, view.service_time)


def _of_groups(snapshot: LoadMetrics) -> Iterator[Figure]:
    """Where the nodes have several Raft groups: what each did."""
    if not snapshot.groups:
        return
    keys = [(str(share.group),) for share in snapshot.groups]
    text = "Orders whose report came, by the Raft group of their symbol."
    acknowledged = [share.acknowledged for share in snapshot.groups]
    yield Figure("counter", PREFIX + "group_orders_acknowledged_total", text, acknowledged, ("group",), keys)
    text = "Since the group's last answer, while it owes one."
    silent_s = [share.silence_ms / 1e3 for share in snapshot.groups]
    yield Figure("gauge", PREFIX + "group_silence_seconds", text, silent_s, ("group",), keys)


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
        self._address = f"{spelled(host)}:{self._endpoint.port}"
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
