"""Nodes run somewhere else: a second host, all of which is in this file, and a real cluster on it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from tests.waiting import wait_for
from zmqlab import Cluster
from zmqlab.lab.hosts import Host, Place, free_base_ports, module_command, module_environment, node_arguments
from zmqlab.settings import NodeSettings


class FolderHost(Host):
    """Each node has a folder of its own, runs in it, and listens at another loopback address; calls are counted."""

    address = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: Counter[str] = Counter()

    def places(self, count: int, others: Collection[NodeSettings] = (), exclude: Collection[int] = ()) -> list[Place]:
        self.calls["places"] += 1
        return [Place(self.address, port) for port in free_base_ports(count, exclude=exclude, host=self.address)]

    def start(self, settings: NodeSettings) -> FolderNode:
        self.calls["start"] += 1
        folder = self.root / settings.name
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        return FolderNode(folder, replace(settings, run_dir=folder, watch_stdin=True))

    def log_path(self, settings: NodeSettings) -> Path:
        return self.root / settings.name / "logs" / f"{settings.name}.log"

    def wipe(self, settings: NodeSettings) -> None:
        self.calls["wipe"] += 1
        shutil.rmtree(self.root / settings.name / "data", ignore_errors=True)


class FolderNode:
    """A child process in its folder."""

    def __init__(self, folder: Path, settings: NodeSettings) -> None:
        command = [*module_command("zmqlab.node"), *node_arguments(settings)]
        self._errors = folder / "errors"
        with self._errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.PIPE, stderr=stderr, env=module_environment()
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: int) -> None:
        if self.poll() is None:
            self._process.send_signal(number)

    def error_text(self) -> str:
        return self._errors.read_text()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


@pytest.mark.process
def test_a_cluster_forms_breaks_and_grows_on_another_host(tmp_path: Path) -> None:
    host = FolderHost(tmp_path / "elsewhere")
    with Cluster(3, run_dir=tmp_path / "here", host=host, keys=False) as cluster:
        assert all(endpoint.startswith(f"tcp://{host.address}:") for endpoint in cluster.endpoints)
        with cluster.client() as client:
            client.buy("ACME", 5, 100)
            leader = cluster.leader
            cluster.kill(leader)
            client.buy("ACME", 5, 101)
            cluster.restart(leader)
            cluster.wipe(leader)
            assert cluster.add() == "node3"
            assert client.book("ACME").bids == [(101, 5, 1), (100, 5, 1)]
        assert wait_for(lambda: all(node.status and node.status.lag == 0 for node in cluster.status()))
        assert cluster.log_path("node3") == host.root / "node3" / "logs" / "node3.log"
        assert "node3" in cluster.log_path("node3").read_text()
    assert host.calls == {"places": 2, "start": 6, "wipe": 1}
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"cluster.json", "owner"}, (
        "all others are the host's"
    )
