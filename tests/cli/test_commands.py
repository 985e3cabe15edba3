"""The commands with real processes: quick, the test by hand of the README, status, book, ps."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import wait_for
from zmqlab import Run
from zmqlab.client import ask
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.hosts import free_base_ports
from zmqlab.lab.processes import clusters_here
from zmqlab.replica.execution import new_exchange

pytestmark = pytest.mark.process
ZMQLAB = [sys.executable, "-m", "zmqlab.cli"]


def zmqlab(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ZMQLAB, *arguments], capture_output=True, text=True, timeout=timeout_s)


def test_quick_shows_progress_and_ends_with_a_verdict() -> None:
    done = zmqlab("quick", "--rate", "1000", "--duration", "3s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "orders/s  p50" in done.stdout
    assert re.search(r"node\d:leader/\d", done.stdout)
    for figure in (
        "throughput",
        "response time",
        "service time",
        "p99.9",
        "rejected",
        "filled",
        "elections",
        "exchange",
    ):
        assert figure in done.stdout
    for column in ("orders taken", "applied index", "state hash"):
        assert column in done.stdout
    assert "verdict: PASSED" in done.stdout


def test_quick_as_json_and_kept(tmp_path: Path) -> None:
    arguments = ("--nodes", "1", "--rate", "500", "--duration", "1s", "--seed", "3")
    limits = ("--fail-if", "unserved>0.1%", "--fail-if", "p50>1us")
    keep = ("--run-dir", str(tmp_path), "--keep", str(tmp_path / "runs"))
    done = zmqlab("quick", *arguments, *limits, "--json", *keep)
    result = json.loads(done.stdout)
    assert done.returncode == 10, "no promise was broken, and a threshold was crossed"
    assert result["verdict"]["ok"] is True
    assert [each["ok"] for each in result["thresholds"]] == [True, False]
    assert result["settings"]["seed"] == 3
    assert result["exchange"] == new_exchange().name
    kept = Run.read(result["kept"])
    assert kept.folder.parent == tmp_path / "runs"
    assert (kept.about.what, kept.about.cluster["nodes"]) == ("quick", 1)
    assert kept.repetitions[0].judge().ok
    assert (tmp_path / "logs" / "node0.log").is_file()
    assert " metrics " in (tmp_path / "logs" / "node0.log").read_text()
    again = zmqlab("quick", *arguments, "--json", "--run-dir", str(tmp_path))
    assert again.returncode == 0, again.stderr  # the same cluster: the ports are in its journals
    assert json.loads(again.stdout)["verdict"]["coverage"] != result["verdict"]["coverage"], "it has both runs' orders"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_early_and_in_order(number: signal.Signals) -> None:
    """SIGTERM and SIGHUP ended it at once, without a result."""
    command = [*ZMQLAB, "quick", "--nodes", "1", "--rate", "500", "--duration", "60s"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        while "acknowledged" not in (line := running.stdout.readline()):
            assert line, "it ended before it began"
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.communicate()
    assert "interrupted: ending the load" in err
    assert "verdict: PASSED" in out
    assert running.returncode == 0


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[list[list[str]]]:
    """The README's three command lines, on free ports, started; the nodes end with the test."""
    bases = free_base_ports(3)
    lines = []
    for number, base in enumerate(bases):
        peers = ",".join(f"tcp://localhost:{other}" for other in bases if other != base)
        line = [*ZMQLAB, "node", "--node", f"node{number}", "--port", str(base), "--peers", peers]
        lines.append([*line, "--leader"] if number == 0 else line)
    running = [subprocess.Popen(line, cwd=tmp_path, stdin=subprocess.DEVNULL) for line in lines]
    lines.append([",".join(f"tcp://localhost:{base + 2}" for base in bases)])
    try:
        yield lines
    finally:
        for pid in _nodes_of(tmp_path, bases):
            os.kill(pid, signal.SIGKILL)
        for process in running:
            process.kill()
            process.wait()


def _nodes_of(folder: Path, bases: list[int]) -> list[int]:
    from zmqlab.lab import processes

    return [each.pid for each in processes.find() if each.port in bases]


def test_every_process_by_hand_and_a_kill_in_the_middle(by_hand: list[list[str]], tmp_path: Path) -> None:
    *lines, [nodes] = by_hand
    assert wait_for(lambda: zmqlab("status", "--nodes", nodes).returncode == 0)
    client = subprocess.Popen(
        [*ZMQLAB, "client", "--nodes", nodes, "--duration", "10m", "--rate", "2000", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    endpoints = nodes.split(",")
    ports = [int(endpoint.rsplit(":", 1)[1]) - 2 for endpoint in endpoints]

    def applied() -> list[int]:
        """Of each node that answers and knows a leader: how many orders it has applied."""
        return [each.orders_applied for each in ask.statuses(endpoints).values() if each.leader_id]

    assert wait_for(lambda: max(applied(), default=0) > 1_000)
    leading: list[dict[str, Any]] = []

    def one_leads() -> bool:  # a node that is busy may answer too late to be listed with its role
        listed = json.loads(zmqlab("ps", "--json").stdout)
        leading[:] = [each for each in listed if each["port"] in ports and each["role"] == "leader"]
        return bool(leading)

    assert wait_for(one_leads)
    leader = leading[0]
    os.kill(leader["pid"], signal.SIGKILL)
    before = max(applied(), default=0)
    assert wait_for(lambda: max(applied(), default=0) > before + 1_000), "the others serve it"
    again = subprocess.Popen(lines[ports.index(leader["port"])], cwd=tmp_path, stdin=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: len(applied()) == 3)
        client.send_signal(signal.SIGINT)  # ends the load before its time, in order
        out, err = client.communicate(timeout=120)
        assert client.returncode == 0, out + err
        result = json.loads(out)
        assert result["verdict"]["ok"] is True
        assert result["counters"]["acknowledged"] == result["counters"]["sent"]
        assert len(result["verdict"]["nodes"]) == 3
    finally:
        for process in (client, again):
            process.kill()
            process.wait()


def test_status_and_book_of_a_running_cluster(tmp_path: Path) -> None:
    with Cluster(2, run_dir=tmp_path, settings={"election_ticks": 200}) as cluster, cluster.client() as client:
        client.sell("AAPL", 7, 18_950)
        nodes = ",".join(cluster.endpoints)
        table = zmqlab("status", "--nodes", nodes).stdout
        assert "leader" in table
        assert "state: not known whether the nodes agree" in table
        assert table.endswith(f"exchange: {new_exchange().name}\n")
        assert "follower" in table
        assert {each["status"]["role"] for each in json.loads(zmqlab("status", "--nodes", nodes, "--json").stdout)} == {
            "leader",
            "follower",
        }
        assert "18,950" in zmqlab("book", "AAPL", "--nodes", nodes).stdout
        book = json.loads(zmqlab("book", "AAPL", "--nodes", nodes, "--json").stdout)
        assert book["asks"] == [{"price": 18_950, "quantity": 7, "orders": 1}]
        assert cluster.name in zmqlab("ps").stdout
        assert {each.name: each.nodes for each in clusters_here()}[cluster.name] == ("node0", "node1")


def test_a_port_in_use_ends_a_node_with_status_3_and_one_line(tmp_path: Path) -> None:
    with Cluster(1, run_dir=tmp_path / "first") as cluster:
        port = int(cluster.endpoints[0].rsplit(":", 1)[1]) - 2
        done = zmqlab("node", "--node", "second", "--port", str(port), "--run-dir", str(tmp_path / "second"))
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert str(port) in done.stderr


@pytest.mark.long
def test_a_cluster_by_hand_is_scaled(by_hand: list[list[str]], tmp_path: Path) -> None:
    *_, [nodes] = by_hand
    assert wait_for(lambda: zmqlab("status", "--nodes", nodes).returncode == 0)
    arguments = ("--nodes", nodes, "--run-dir", str(tmp_path))
    up = zmqlab("scale", "4", *arguments, "--json")
    assert up.returncode == 0, up.stderr
    members = json.loads(up.stdout)
    assert [each["name"] for each in members] == ["node0", "node1", "node2", "node3"]
    endpoints = ",".join(each["endpoint"] for each in members)
    load = zmqlab("client", "--nodes", endpoints, "--rate", "500", "--duration", "1s")
    assert "verdict: PASSED" in load.stdout, load.stdout + load.stderr
    down = zmqlab("scale", "3", *arguments)
    assert down.returncode == 0, down.stderr
    assert "node3 has ended" in down.stdout
    new_port = int(members[3]["endpoint"].rpartition(":")[2]) - 2
    assert _nodes_of(tmp_path, [new_port]) == []


def test_a_cluster_of_another_process_is_not_scaled_behind_its_back() -> None:
    with Cluster(1) as cluster:
        done = zmqlab("scale", "2", "--nodes", cluster.endpoints[0])
    assert done.returncode == 1
    assert "belong to the cluster" in done.stderr


SLOW_IMPORT = "import sys, time; print('importing', flush=True); time.sleep(30)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("as_process_1", [False, True] if shutil.which("unshare") else [False])
def test_a_signal_while_it_imports_is_one_line(tmp_path: Path, number: signal.Signals, as_process_1: bool) -> None:
    """Ctrl-C was a traceback; and process 1 of a container did not hear SIGTERM at all until it had imported."""
    (tmp_path / "typer.py").write_text(SLOW_IMPORT)
    own_pids = ["unshare", "--pid", "--fork", "--kill-child"] if as_process_1 else []
    if own_pids and subprocess.run([*own_pids, "true"], capture_output=True, check=False).returncode:
        own_pids = ["unshare", "--user", "--map-root-user", *own_pids[1:]]
    command = [*own_pids, *ZMQLAB, "quick"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "importing\n"
        (inner,) = psutil.Process(running.pid).children() if as_process_1 else [running]
        inner.send_signal(number)
        _, said = running.communicate(timeout=60)
        assert said == "zmqlab: interrupted\n"
        assert running.returncode == 130
