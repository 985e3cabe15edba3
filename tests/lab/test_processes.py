"""``ps`` and ``reap`` see what is ours, and touch nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from tests.monitoring.fakes import a_status
from tests.waiting import wait_for
from zmqlab import keys
from zmqlab.errors import ClusterError, SettingsError
from zmqlab.keys import Keyring
from zmqlab.lab import processes, scaling_by_hand
from zmqlab.settings import NodeSettings
from zmqlab.wire.node_status import Member, NodeStatus

NAP = "import time; time.sleep(60)"


@pytest.fixture
def pretend(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts processes whose command lines look like nodes'."""
    package = tmp_path / "zmqlab"
    (package / "node").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "node" / "__init__.py").touch()
    (package / "node" / "__main__.py").write_text(NAP)
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start_pretender(tmp_path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "zmqlab.node", *arguments]
    return subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("command", "kind", "name", "port"),
    [
        (["python", "-P", "-m", "zmqlab.node", "--node", "n1", "--port", "5000"], "node", "n1", 5000),
        (["python", "-m", "zmqlab.node", "--node=n1", "--leader", "--port=5000"], "node", "n1", 5000),
        (["python", "/venv/bin/zmqlab", "node", "--port", "5000", "--node", "n1"], "node", "n1", 5000),
        (["python", "-m", "zmqlab.cli", "node", "--node", "n1", "--port", "5000"], "node", "n1", 5000),
        (["python", "-m", "zmqlab.load.load_process"], "load", "load", 0),
        (["python", "-m", "zmqlab.load.load_process", "--config", '{"settings":{"name":"big"}}'], "load", "big", 0),
    ],
)
def test_reads_command_lines(command: list[str], kind: str, name: str, port: int) -> None:
    found = processes.describe(1, 0.0, command)
    assert found is not None
    assert (found.kind, found.name, found.port) == (kind, name, port)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["zmqlab"],
        ["vim", "zmqlab", "node.py"],
        ["grep", "-r", "pattern", "-m", "zmqlab.node"],
        ["bash", "-c", "python -m zmqlab.node --node n1"],
        ["timeout", "10", "python", "-m", "zmqlab.node"],
        ["python", "-m", "zmqlab.nodes"],
    ],
)
def test_is_not_taken_in_by_what_only_mentions_us(command: list[str]) -> None:
    assert processes.describe(1, 0.0, command) is None


def test_finds_and_reaps_an_orphan_but_not_a_node_in_use(
    pretend: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    port = ("--port", "19999")
    orphan = start_pretender(tmp_path, "--node", "left", "--cluster", "lab-x", "--owner", str(dead_pid()), *port)
    used = start_pretender(tmp_path, "--node", "used", "--owner", str(os.getpid()), *port)
    by_hand = start_pretender(tmp_path, "--node", "hand", *port)
    pretend += [orphan, used, by_hand]
    found = {each.pid: each for each in processes.ps()}
    assert found[orphan.pid].orphan
    assert not found[used.pid].orphan
    assert not found[by_hand.pid].orphan
    assert "lab-x" in repr(processes.ProcessTable(found.values()))
    chosen = [each for each in found.values() if each.orphan and each.cluster == "lab-x"]
    assert processes.reap(chosen) == chosen
    orphan.wait(30)
    assert used.poll() is None
    assert by_hand.poll() is None


def test_reaps_a_stopped_process(pretend: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    stopped = start_pretender(tmp_path, "--node", "stopped", "--owner", str(dead_pid()))
    pretend.append(stopped)
    psutil.Process(stopped.pid).suspend()
    ended = processes.reap([each for each in processes.find() if each.pid == stopped.pid], grace_s=1)
    assert [each.pid for each in ended] == [stopped.pid]
    assert not psutil.pid_exists(stopped.pid)


def test_a_clock_that_was_corrected_makes_no_other_process(
    pretend: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """A process's time of creation is read as the time of booting plus a constant, and the former follows the clock."""
    process = start_pretender(tmp_path, "--node", "old", "--owner", str(dead_pid()))
    pretend.append(process)
    (found,) = [each for each in processes.find() if each.pid == process.pid]
    ended = processes.reap([replace(found, created=found.created - 1)], grace_s=1)
    assert [each.pid for each in ended] == [process.pid]


def test_does_not_touch_a_pid_that_belongs_to_another_process_now(
    pretend: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = start_pretender(tmp_path, "--node", "new", "--owner", str(dead_pid()))
    pretend.append(process)
    stale = processes.describe(process.pid, 1.0, ["python", "-m", "zmqlab.node", "--node", "old"])
    assert stale is not None
    assert processes.reap([stale]) == []
    assert process.poll() is None


def test_a_new_node_gets_the_keys_of_those_that_run(
    pretend: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was started without keys where the command line named none, and could never join."""
    Keyring.new().save(tmp_path / "keys")
    pretend.append(start_pretender(tmp_path, "--node", "node0", "--port", "5000", "--keys", "keys"))
    node = psutil.Process(pretend[0].pid)
    assert wait_for(lambda: processes.describe(node.pid, 0.0, node.cmdline(), 0) is not None)  # it is forked first
    monkeypatch.setattr(processes, "find", lambda: [processes.describe(node.pid, 0.0, node.cmdline(), 0)])
    started: list[NodeSettings] = []

    def start(settings: NodeSettings) -> object:
        started.append(settings)
        raise ClusterError("far enough")

    monkeypatch.setattr(scaling_by_hand, "start_in_background", start)
    monkeypatch.setattr(scaling_by_hand.ask, "statuses", lambda *_: {})
    members = {"tcp://127.0.0.1:5000": Member(node_id=1, host="127.0.0.1", port=5_000, voter=True, name="node0")}
    monkeypatch.setattr(
        scaling_by_hand, "reach_cluster", lambda *_: scaling_by_hand.Reached("tcp://127.0.0.1:5002", members)
    )

    def scale(keys: Path | None = None) -> None:
        scaling_by_hand.ScalingByHand(["tcp://127.0.0.1:5002"], tmp_path, lambda _: None, 1.0, keys).scale(2)

    with pytest.raises(ClusterError, match="far enough"):
        scale()
    assert started[0].keys == tmp_path / "keys"
    Keyring.read(tmp_path / "keys").only("operator").save(tmp_path / "operator")
    with pytest.raises(SettingsError, match="has no secret of a key that is member: name the nodes' own folder"):
        scale(tmp_path / "operator")
    assert len(started) == 1


def test_a_look_at_the_nodes_leaves_no_key_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without keys that listened at such a port later was never reached."""
    Keyring.new().save(tmp_path / "keys")
    nodes = [
        processes.LabProcess(os.getpid(), 0.0, "node", f"node{port}", "", port, 0, True, keys=str(tmp_path / "keys"))
        for port in (29_990, 29_980)
    ]
    own = Keyring.read(tmp_path / "keys").credentials()
    keys.trust(["tcp://127.0.0.1:29980"], own)
    shown: list[Any] = []
    ask_for = processes.ask.statuses

    def statuses(endpoints: Any, *more: Any) -> Any:
        shown.extend(keys.towards(endpoint) for endpoint in endpoints)
        return ask_for(endpoints, 0.05)

    monkeypatch.setattr(processes.ask, "statuses", statuses)
    try:
        assert processes._roles(nodes) == {}
        assert len(shown) == 4
        assert None not in shown
        assert keys.towards("tcp://127.0.0.1:29992") is None
        assert keys.towards("tcp://127.0.0.1:29982") == own, "known before"
    finally:
        keys.forget(["tcp://127.0.0.1:29980"])


def a_process(name: str, port: int, cluster: str = "") -> processes.LabProcess:
    return processes.LabProcess(port, 0.0, "node", name, cluster, port, 0, False)


def a_member_of(*ports: int) -> NodeStatus:
    members = [Member(node_id=port, name="", host="127.0.0.1", port=port) for port in ports]
    return msgspec.structs.replace(a_status(), members=members)


def test_which_clusters_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a Cluster carry its name. Nodes by hand belong together if one of them says so; one of them hangs."""
    found = processes.ProcessTable(
        [
            a_process("node0", 100, "lab-1"),
            a_process("a", 200),
            a_process("node1", 110, "lab-1"),
            a_process("b", 210),
            a_process("alone", 300),
            a_process("hangs", 220),
            processes.LabProcess(1, 0.0, "load", "load", "", 0, 1, True),
        ]
    )
    told = {port: (f"tcp://[::1]:{port + 2}", a_member_of(200, 210, 220)) for port in (200, 210)}
    told[300] = ("tcp://127.0.0.1:302", a_member_of(300))
    monkeypatch.setattr(processes, "find", lambda: found)
    monkeypatch.setattr(processes, "_statuses_by_port", lambda _: told)
    named, by_hand, alone = processes.clusters_here()
    assert named == ("lab-1", ("node0", "node1"), ("tcp://127.0.0.1:102", "tcp://127.0.0.1:112"))
    assert by_hand == ("", ("a", "b", "hangs"), ("tcp://[::1]:202", "tcp://[::1]:212", "tcp://127.0.0.1:222"))
    assert str(alone) == "started by hand: alone"
