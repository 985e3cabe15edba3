"""Real nodes answer scrapes and probes; no Prometheus is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from zmqlab import Cluster
from zmqlab.lab.hosts import free_base_ports

pytestmark = pytest.mark.process


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_alive_and_ready_as_the_cluster_goes_down(tmp_path: Path) -> None:
    with Cluster(3, metrics=True, run_dir=tmp_path) as cluster:
        groups = json.loads((tmp_path / "prometheus" / "targets.json").read_text())
        address = {each["labels"]["node"]: each["targets"][0] for each in groups}
        assert tuple(address) == cluster.nodes
        with cluster.client() as client:
            client.buy("AAPL", quantity=1, price=1)
        for name in cluster.nodes:
            assert get(address[name], "/healthz") == (200, "ok\n")
            deadline = time.monotonic() + 30  # what is shown is up to 100 ms old, and the leader was elected just now
            while (ready := get(address[name], "/readyz")) != (200, "ok\n"):
                assert time.monotonic() < deadline, ready
                time.sleep(0.02)
        shown = {
            sample.name: sample.value
            for family in text_string_to_metric_families(get(address[cluster.leader], "/metrics")[1])
            for sample in family.samples
            if sample.name.startswith("process_") or not sample.labels
        }
        assert shown["zmqlab_leader_known"] == 1
        assert shown["zmqlab_journal_write_seconds_count"] > 0
        assert shown["process_start_time_seconds"] == pytest.approx(time.time(), abs=60)
        survivor, *others = cluster.nodes
        for name in others:
            cluster.kill(name)
        deadline = time.monotonic() + 30
        while (ready := get(address[survivor], "/readyz"))[0] == 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert ready[0] == 503
        assert ready[1].startswith("no leader known in term ")
        assert get(address[survivor], "/healthz")[0] == 200
        cluster.kill(survivor)
    assert json.loads((tmp_path / "prometheus" / "targets.json").read_text()) == []


def test_a_metrics_port_that_is_taken_ends_the_node(tmp_path: Path) -> None:
    with Cluster(1, metrics=True) as cluster:
        assert cluster.targets is not None
        taken = json.loads(cluster.targets.path.read_text())[0]["targets"][0].rpartition(":")[2]
        port = str(free_base_ports(1)[0])
        command = [sys.executable, "-m", "zmqlab.node", "--node", "late", "--port", port, "--metrics-port", taken]
        done = subprocess.run([*command, "--run-dir", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr.startswith(
        f"zmqlab node late: late can't show its metrics on 127.0.0.1:{taken}: Address already"
    )
