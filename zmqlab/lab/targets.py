"""What Prometheus finds: a file that lists where a cluster's nodes and load clients show their metrics.

The format is that of Prometheus' file-based discovery (``file_sd_configs``), which reads the file again when it
changes. It is written aside and renamed, so that nobody reads a half of it. A node that is stopped or was killed stays
in the list, since it should be there: its ``up`` is 0, which is what an alert waits for. One that was removed is gone.

The labels are the series' identity: ``job`` is ``zmqlab`` for nodes and ``zmqlab-load`` for load clients, ``cluster``
the cluster's name, ``node`` or ``client`` the name within it. A node that comes back, even with a new disk, continues
its series.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zmqlab.settings import NodeSettings

FILE = Path("prometheus") / "targets.json"
"""Below the cluster's run folder."""
NODE_JOB, LOAD_JOB = "zmqlab", "zmqlab-load"


class Targets:
    """Keeps the file. Safe to use from several threads."""

    def __init__(self, run_dir: Path, cluster: str) -> None:
        self.path = run_dir / FILE
        self._cluster = cluster
        self._nodes: list[dict[str, Any]] = []
        self._loads: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def show_nodes(self, nodes: Iterable[NodeSettings]) -> None:
        """These are all nodes that there are now."""
        with self._lock:
            self._nodes = [
                self._group(f"{node.host}:{node.metrics_port}", NODE_JOB, node=node.name)
                for node in nodes
                if node.metrics_port
            ]
            self._write()

    def show_load(self, client: str, address: str) -> None:
        """A load client shows its metrics there."""
        with self._lock:
            self._loads[address] = self._group(address, LOAD_JOB, client=client)
            self._write()

    def hide_load(self, address: str) -> None:
        """It does no longer."""
        with self._lock:
            if self._loads.pop(address, None) is not None:
                self._write()

    def clear(self) -> None:
        """There is nothing left to scrape."""
        with self._lock:
            self._nodes, self._loads = [], {}
            self._write()

    def _group(self, address: str, job: str, **labels: str) -> dict[str, Any]:
        return {"targets": [address], "labels": {"job": job, "cluster": self._cluster, **labels}}

    def _write(self) -> None:
        aside = self.path.with_suffix(".new")
        aside.write_text(json.dumps([*self._nodes, *self._loads.values()], indent=2) + "\n")
        os.replace(aside, self.path)
