"""What nodes suffer by themselves: faults, the cluster's table of them, and real nodes that obey."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.waiting import wait_for
from zmqlab import Cluster, LoadClient
from zmqlab.errors import ClusterError, JournalFull, SettingsError
from zmqlab.lab.events import LabEvent, spans_of
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_table import FaultTable
from zmqlab.lab.faults import Kill
from zmqlab.lab.fleet import Fleet
from zmqlab.lab.hosts import LocalHost
from zmqlab.lab.node_faults import BadClientLinks, FullDisk, SkewedClock, SlowDisk, Suffering
from zmqlab.settings import NodeSettings
from zmqlab.wire.fault_queries import LinkFault, NodeFaults

FAKE = [sys.executable, str(Path(__file__).with_name("fake_node.py"))]
FAULTS_OF_A_NODE = [
    SlowDisk("node1", 20.0),
    FullDisk("node1"),
    SkewedClock("node1", 0.5),
    BadClientLinks("node1", answer_loss=0.5),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(3, run_dir=tmp_path, host=LocalHost(FAKE), keys=False) as running:
        yield running


def told(cluster: Cluster) -> list[tuple[str, str]]:
    return [(event.kind, event.text) for event in cluster.events if event.kind != LabEvent.STARTED]


@pytest.mark.parametrize("fault", FAULTS_OF_A_NODE, ids=lambda fault: type(fault).__name__)
def test_a_fault_is_told_kept_undone_and_seen(cluster: Cluster, fault: Suffering) -> None:
    fault.strike(cluster)
    assert cluster.node_faults == {"node1": fault.faults}
    assert told(cluster) == [(fault.begins, str(fault.faults))]
    assert fault.is_suffered(cluster)
    (span,) = spans_of(cluster.events, FAULTS.bands)
    assert "node1" in span.label
    assert span.end_ns is None
    for _ in range(2):
        fault.undo(cluster)
    assert cluster.node_faults == {}
    assert [kind for kind, _ in told(cluster)] == [fault.begins, fault.ends], "undoing twice tells it once"
    (span,) = spans_of(cluster.events, FAULTS.bands)
    assert span.end_ns == cluster.events[-1].time_ns


def test_faults_of_one_node_add_up_and_mend_ends_them_all(cluster: Cluster) -> None:
    cluster.slow_disk("node1", 20)
    cluster.skew_clock("node1", 2)
    cluster.harm_clients("node1", request_loss=0.1, answer_delay_ms=5)
    everything = NodeFaults(write_ms=20, clock_rate=2, request_loss=0.1, answer_delay_ms=5)
    assert cluster.node_faults == {"node1": everything}
    assert str(everything) == ("each write takes 20 ms, clock at 2 times, 10% of requests lost, answers 5 ms late")
    cluster.slow_disk("node1", 0)
    assert told(cluster)[-1] == (SlowDisk.ends, "well"), "a slider that is put back"
    cluster.mend("node1")
    assert cluster.node_faults == {}
    assert {kind for kind, _ in told(cluster)[-2:]} == {SkewedClock.ends, BadClientLinks.ends}


def test_a_node_that_does_not_run_is_told_when_it_starts(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    Kill("node1").strike(cluster)
    cluster.skew_clock("node1", 0.5)
    assert cluster.fault_table.concerns("node1")
    heard = []
    tell = cluster.fault_table._about_nodes.tell
    monkeypatch.setattr(cluster.fault_table._about_nodes, "tell", lambda names: (heard.append(names), tell(names)))
    cluster.restart("node1")
    assert heard == [{"node1"}]
    assert cluster.node_faults == {"node1": NodeFaults(clock_rate=0.5)}, "a fault outlives the process"


def test_what_is_refused_leaves_no_event(cluster: Cluster) -> None:
    before = list(cluster.events)
    for act in (
        lambda: cluster.slow_disk("node9", 5),
        lambda: cluster.mend("node9"),
        lambda: cluster.slow_disk("node1", -1),
        lambda: cluster.skew_clock("node1", 0),
        lambda: cluster.harm_clients("node1", answer_loss=2),
        lambda: cluster.link("node0", "node1", bytes_per_s=-1),
    ):
        with pytest.raises((ClusterError, SettingsError)):
            act()
    assert list(cluster.events) == before
    assert cluster.node_faults == {}


def test_nodes_without_a_disk_have_no_faults_of_disks(tmp_path: Path) -> None:
    with Cluster(1, run_dir=tmp_path, host=LocalHost(FAKE), durability="memory") as cluster:
        for fault in (SlowDisk("node0", 5.0), FullDisk("node0")):
            with pytest.raises(ClusterError, match="has no disk"):
                fault.strike(cluster)
        cluster.skew_clock("node0", 2)


def test_a_death_that_a_fault_foretold_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary folder of a run is kept as evidence of a failure, and a full disk on demand is none."""
    for status, is_failure in ((JournalFull.exit_status, False), (6, True)):
        with Cluster(2, host=LocalHost(FAKE)) as cluster:
            FullDisk("node1").strike(cluster)
            process = cluster.fleet.process("node1")
            monkeypatch.setattr(process, "poll", lambda status=status: status)
            process.signal(signal.SIGKILL)
            process.wait(30.0)
            cluster.fleet.notice_deaths()
            assert cluster.keep is is_failure
            cluster.keep = False
            monkeypatch.undo()


class Places:
    """As much of a fleet as the table uses: nodes that do not run, each at a port."""

    def __init__(self, **ports: int) -> None:
        self.ports = ports
        self.running: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.ports)

    def settings(self, name: str) -> NodeSettings:
        if name not in self.ports:
            raise ClusterError(f"no node named {name}")
        return NodeSettings(name=name, port=self.ports[name])


def test_a_node_that_gets_the_name_of_one_that_was_removed_is_well() -> None:
    """Node2 was removed while its disk was slow, another one was added as node2, and was told that its disk is slow."""
    fleet = Places(node0=5_000, node1=5_100, node2=5_200)
    table = FaultTable(cast(Fleet, fleet))
    table.change([("node0", "node2"), ("node0", "node1")], LinkFault(cut=True))
    table.change_node("node2", write_ms=20)
    assert table.concerns("node2")
    del fleet.ports["node2"]
    fleet.ports["node2"] = 5_300
    assert not table.concerns("node2")
    assert table.faults == {("node0", "node1"): LinkFault(cut=True)}
    assert table.node_faults == {}
    assert table.concerns("node1"), "it is still to be told"


@pytest.mark.process
def test_real_nodes_suffer_and_recover(tmp_path: Path) -> None:
    patient = {"election_ticks": 100}  # the leader with the slow disk shall stay
    with Cluster(3, run_dir=tmp_path, settings=patient) as cluster, cluster.client(timeout_s=30) as client:
        client.buy("A", 1, 100)
        leader = cluster.leader
        follower = next(name for name in cluster.nodes if name != leader)
        cluster.slow_disk(leader, 30)
        cluster.harm_clients(follower, request_loss=1.0)
        load = LoadClient(cluster, rate=500, duration="1s").start().wait()
        assert load.verdict.outcome == "passed"
        assert load.response_time.p50_ms > 30, "a write of 30 ms stands in the way of each answer"
        cluster.mend(leader)
        cluster.mend(follower)
        cluster.fill_disk(follower)
        client.buy("A", 1, 100)
        assert wait_for(lambda: any(event.kind == LabEvent.DIED for event in cluster.events))
        (died,) = (event for event in cluster.events if event.kind == LabEvent.DIED)
        assert died.node == follower
        assert "exit status 5" in died.text
        assert "No space left on device" in died.text
        cluster.mend(follower)
        assert cluster.running == cluster.nodes
        client.buy("A", 1, 100)
        assert wait_for(lambda: len({node.status.applied_index for node in cluster.status() if node.status}) == 1)
