"""Cluster, host and feed with stand-ins for nodes: starting, signals, states, events, and what is left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for
from zmqlab.errors import ClusterError, JournalCorrupt, NoLeader, SettingsError
from zmqlab.judge.log_collector import LogCollector
from zmqlab.lab import fleet, started_cluster
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.evidence_of_run import collectors_of
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_registry import Aim
from zmqlab.lab.hosts import LocalHost
from zmqlab.wire.fault_queries import LinkFault
from zmqlab.wire.node_status import NodeStatus

FAKE = [sys.executable, str(Path(__file__).with_name("fake_node.py"))]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(3, run_dir=tmp_path, host=LocalHost(FAKE), keys=False) as running:
        yield running


def test_nodes_that_answer_late_are_given_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question makes a connection of its own. Where that took more than 40 ms no cluster ever started."""
    honest = fleet.ask.statuses

    def late(endpoints: Iterable[str], timeout_s: float) -> dict[str, NodeStatus]:
        return honest(endpoints, timeout_s) if timeout_s > 0.1 else {}

    monkeypatch.setattr(fleet.ask, "statuses", late)
    monkeypatch.setattr(fleet, "START_TIMEOUT_S", 5.0)
    with Cluster(1, run_dir=tmp_path, host=LocalHost(FAKE), keys=False) as cluster:
        cluster.restart("node0")


def test_starts_names_and_stops_its_nodes(tmp_path: Path) -> None:
    with Cluster(2, run_dir=tmp_path, host=LocalHost(FAKE), keys=False) as cluster:
        pids = [cluster.pid(name) for name in cluster.nodes]
        assert cluster.nodes == cluster.running == ("node0", "node1")
        assert cluster.leader == "node0"
        assert "2 of 2 nodes run, leader node0" in repr(cluster)
        assert "<table>" in cluster._repr_html_()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    cluster.stop()  # twice is fine


def test_a_node_that_is_let_go_meanwhile_is_no_error(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector of logs looked up the endpoint of a node that was removed just then, and collected nothing more."""
    of_others = cluster.endpoints[:2]
    running = cluster.fleet.running
    ask_all = started_cluster.ask.statuses

    def ask_late(endpoints: Iterable[str], timeout_s: float) -> dict[str, NodeStatus]:
        answers = ask_all(endpoints, timeout_s)
        cluster.fleet.drop(["node2"])
        return answers

    collector = collectors_of(cluster)
    assert isinstance(collector, LogCollector)
    monkeypatch.setattr(started_cluster.ask, "statuses", ask_late)
    assert [node.name for node in cluster.status()] == ["node0", "node1", "node2"]
    monkeypatch.setattr(fleet.Fleet, "running", running)
    assert tuple(cluster.living_endpoints) == tuple(collector._cluster.living_endpoints) == of_others
    collector.log.close()


def test_kill_pause_resume_and_restart_show_in_status_and_events(cluster: Cluster) -> None:
    cluster.kill("node1")
    cluster.pause("node2")
    states = {node.name: node.state for node in cluster.status()}
    assert states == {"node0": "running", "node1": "stopped", "node2": "paused"}
    cluster.resume("node2")
    cluster.restart("node1")
    assert {node.state for node in cluster.status()} == {"running"}
    kinds = [(event.node, event.kind) for event in cluster.events if event.kind != "started"]
    assert kinds == [("node1", "killed"), ("node2", "paused"), ("node2", "resumed"), ("node1", "restarted")]
    assert "killed" in repr(cluster.events)


def test_settings_change_one_node_after_the_other_the_leader_last(cluster: Cluster) -> None:
    """The leader was the first where nothing had been heard of the nodes yet."""
    pids = {name: cluster.pid(name) for name in cluster.nodes}
    for name in cluster.nodes:
        cluster.feed.forget(name)
    cluster.change(durability="fsync", reads="local")
    told = {(cluster.fleet.settings(name).durability, cluster.fleet.settings(name).reads) for name in cluster.nodes}
    assert told == {("fsync", "local")}
    assert (cluster.fleet.plan.durability, cluster.fleet.plan.more) == ("fsync", {"reads": "local"}), "of later nodes"
    assert all(cluster.pid(name) != pid for name, pid in pids.items())
    kinds = [(event.node, event.kind) for event in cluster.events if event.kind != "started"]
    order = ["node1", "node2", "node0"]
    assert kinds == [(name, kind) for name in order for kind in ("terminated", "restarted")]
    cluster.change(durability="fsync")
    assert len(cluster.events) == len(kinds) + 3, "they have it already"


def test_says_which_settings_can_not_be_changed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted, kind, said in (
        ({"durability": "ram"}, SettingsError, "durability is 'ram': choose os, fsync or memory"),
        ({"reads": "quick"}, SettingsError, "reads is 'quick': choose linearizable or local"),
        ({"durability": "memory"}, ClusterError, "no node could come back: start a new cluster"),
    ):
        with pytest.raises(kind, match=said):
            cluster.change(**wanted)  # type: ignore[arg-type]
    monkeypatch.setattr(cluster.fault_table, "_links", {("node1", "node2"): LinkFault(cut=True)})
    with pytest.raises(ClusterError, match=r"the link from node1 to node2 is cut.*heal the links first"):
        cluster.change(durability="fsync")
    monkeypatch.undo()
    cluster.kill("node1")
    cluster.pause("node2")
    with pytest.raises(ClusterError, match="node1, node2 must run first"):
        cluster.change(durability="fsync")
    assert cluster.fleet.settings("node0").durability == cluster.fleet.plan.durability == "os"


def test_a_death_that_was_not_ordered_becomes_an_event(cluster: Cluster) -> None:
    os.kill(cluster.pid("node2"), signal.SIGKILL)
    assert wait_for(lambda: any(event.kind == "died" for event in cluster.events))
    assert "SIGKILL" in cluster.events[-1].text
    assert cluster.running == ("node0", "node1")


def test_a_dead_or_paused_leader_is_none(cluster: Cluster) -> None:
    cluster.pause(cluster.leader)
    with pytest.raises(NoLeader, match=r"2 of 3 nodes run.*cluster\.restart"):
        cluster.wait_for_leader(0.1)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda c: c.kill("node7"), "no node named node7: there are node0, node1, node2"),
        (lambda c: (c.kill("node1"), c.kill("node1")), r"node1 is not running: cluster\.restart\('node1'\) starts it"),
        (lambda c: (c.pause("node1"), c.pause("node1")), "node1 is paused already"),
        (lambda c: c.resume("node1"), "node1 is not paused"),
        (lambda c: c.start(), "started already"),
    ],
)
def test_says_what_can_not_be_done_and_what_can(
    cluster: Cluster, act: Callable[[Cluster], object], message: str
) -> None:
    with pytest.raises(ClusterError, match=message):
        act(cluster)


@pytest.mark.parametrize("nodes", [0, 16, -1, "3", 2.5, True])
def test_refuses_a_wrong_number_of_nodes(nodes: int) -> None:
    with pytest.raises(SettingsError, match="whole number from 1 to 15"):
        Cluster(nodes)


@pytest.mark.parametrize(("name", "value"), [("durability", "ram"), ("log_level", "loud")])
def test_refuses_unknown_choices(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is '{value}': choose"):
        Cluster(3, **{name: value})  # type: ignore[arg-type]


def test_all_nodes_can_be_told_more(tmp_path: Path) -> None:
    told = {"election_ticks": 40, "journal_retain_bytes": 0}
    with Cluster(2, run_dir=tmp_path, host=LocalHost(FAKE), keys=False, settings=told) as cluster:
        for name in cluster.nodes:
            settings = cluster.fleet.settings(name)
            assert (settings.election_ticks, settings.journal_retain_bytes) == (40, 0)
    for wrong, said in ({"port": 7}, "hold no 'port': choose tick_ms"), ({"tick_ms": 0}, "tick_ms is 0"):
        with pytest.raises(SettingsError, match=said):
            Cluster(2, settings=wrong)


@pytest.mark.parametrize("durability", ["os", "memory"])
def test_after_a_power_cut_all_nodes_start_again_with_what_they_have(tmp_path: Path, durability: str) -> None:
    """With durability memory a restart one by one asks the others to take the node in, and there are none."""
    with Cluster(3, run_dir=tmp_path, host=LocalHost(FAKE), keys=False, durability=durability) as cluster:  # type: ignore[arg-type]
        power_cut = FAULTS.draws["kill-all", "at once"].aim(Aim(cluster, random.Random(1), 0.0))  # type: ignore[misc]
        power_cut.strike(cluster)
        assert cluster.running == ()
        power_cut.undo(cluster)
        power_cut.undo(cluster)  # twice is fine
        assert cluster.running == cluster.nodes
        kinds = [event.kind for event in cluster.events if event.kind != "started"]
        assert kinds == 3 * ["killed"] + 3 * ["restarted"]


def test_a_cluster_that_was_not_started_says_so() -> None:
    cluster = Cluster(3)
    assert "not started" in repr(cluster)
    with pytest.raises(ClusterError, match="not been started"):
        _ = cluster.leader
    cluster.stop()


def test_a_node_that_can_not_start_is_reported_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_NODE", "corrupt")
    with pytest.raises(JournalCorrupt, match="record 7 fails its check"):
        Cluster(1, run_dir=tmp_path, host=LocalHost(FAKE), keys=False).start()


def test_the_temporary_folder_goes_unless_kept() -> None:
    for keep in (False, True):
        with Cluster(1, keep=keep, host=LocalHost(FAKE), keys=False) as cluster:
            folder = cluster.run_dir
            assert folder.is_dir()
        assert folder.exists() is keep
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


SCRIPT = """
import sys, time
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.hosts import LocalHost
from zmqlab.wire.fault_queries import LinkFault
cluster = Cluster(2, run_dir=sys.argv[1], host=LocalHost(sys.argv[2:]), keys=False).start()
cluster.pause("node1")
print(cluster.pid("node0"), cluster.pid("node1"), flush=True)
time.sleep(60)
"""


def test_no_node_outlives_a_process_that_is_killed_not_even_a_paused_one(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), *FAKE], stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        pids = [int(pid) for pid in launcher.stdout.readline().split()]
        assert all(psutil.pid_exists(pid) for pid in pids)
        launcher.kill()
        launcher.wait()
        assert wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
