"""Faults strike, tell and undo: when their events are stamped, what they refuse, and what they leave behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_for
from zmqlab.errors import ClusterError, NoLeader, SettingsError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.events import LabEvent
from zmqlab.lab.faults import BadLinks, Fault, Kill, Partition, Pause, Terminate, Together, Transfer
from zmqlab.lab.hosts import LocalHost, LocalNode
from zmqlab.settings import NodeSettings
from zmqlab.wire import control
from zmqlab.wire.control import EventKind
from zmqlab.wire.fault_queries import LinkFault

FAKE = [sys.executable, str(Path(__file__).with_name("fake_node.py"))]
SLOW_END_S = 0.05
CUT = LinkFault(cut=True)


class SlowHost(LocalHost):
    """Its nodes take a while to end, and it notes when they were signalled."""

    def __init__(self) -> None:
        super().__init__(FAKE)
        self.signalled_ns: list[int] = []

    def start(self, settings: NodeSettings) -> LocalNode:
        node = super().start(settings)
        send, wait = node.signal, node.wait

        def slow_signal(number: int) -> None:
            self.signalled_ns.append(time.time_ns())
            time.sleep(SLOW_END_S)
            send(number)

        def slow_wait(timeout_s: float) -> int | None:
            time.sleep(SLOW_END_S)
            return wait(timeout_s)

        node.signal, node.wait = slow_signal, slow_wait  # type: ignore[method-assign]
        return node


@pytest.fixture
def host() -> SlowHost:
    return SlowHost()


@pytest.fixture
def cluster(tmp_path: Path, host: SlowHost) -> Iterator[Cluster]:
    with Cluster(3, run_dir=tmp_path, host=host, keys=False) as running:
        yield running


def newest(cluster: Cluster) -> control.Event:
    return cluster.events[-1]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Kill("node1"), LabEvent.KILLED),
        (Terminate("node1"), LabEvent.TERMINATED),
        (Pause("node1"), LabEvent.PAUSED),
    ],
)
def test_an_event_is_stamped_before_the_signal(cluster: Cluster, host: SlowHost, fault: Fault, kind: LabEvent) -> None:
    """An election came 16 ms after SIGTERM, the event 65 ms after it: the fault seemed to have caused no election."""
    before_ns = time.time_ns()
    fault.strike(cluster)
    assert newest(cluster).kind == kind
    assert before_ns <= newest(cluster).time_ns <= host.signalled_ns[0]


def test_the_end_of_a_pause_is_stamped_before_the_signal(cluster: Cluster, host: SlowHost) -> None:
    cluster.pause("node1")
    host.signalled_ns.clear()
    cluster.resume("node1")
    assert newest(cluster).kind == LabEvent.RESUMED
    assert newest(cluster).time_ns <= host.signalled_ns[0]


@pytest.mark.parametrize(
    "fault",
    [BadLinks((("node0", "node1"),), CUT), Partition((("node0",), ("node1", "node2")))],
    ids=["cut", "partition"],
)
def test_a_fault_of_links_is_told_before_the_nodes_obey(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    table = cluster.fault_table
    change, changed_ns = table.change, list[int]()

    def slow_change(*arguments: object) -> None:
        changed_ns.append(time.time_ns())
        change(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(table, "change", slow_change)
    fault.strike(cluster)
    assert newest(cluster).time_ns <= changed_ns[0]


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda c: c.kill("node9"), ClusterError),
        (lambda c: c.resume("node1"), ClusterError),
        (lambda c: c.cut("node0", "node0"), ClusterError),
        (lambda c: c.link("node0", "node1", loss=2), SettingsError),
        (lambda c: c.partition(["node0"], ["node9"]), ClusterError),
        (lambda c: c.transfer("node9"), ClusterError),
    ],
)
def test_what_is_refused_leaves_no_event(
    cluster: Cluster, act: Callable[[Cluster], object], error: type[Exception]
) -> None:
    before = list(cluster.events)
    with pytest.raises(error):
        act(cluster)
    assert list(cluster.events) == before


def test_faults_are_undone_and_undoing_twice_does_no_harm(cluster: Cluster) -> None:
    faults = (Kill("node1"), Pause("node2"), BadLinks((("node0", "node1"), ("node1", "node0")), CUT))
    for fault in faults:
        fault.strike(cluster)
    assert (cluster.running, cluster.paused) == (("node0",), ("node2",))
    for _ in range(2):
        for fault in faults:
            fault.undo(cluster)
        assert cluster.running == cluster.nodes
        assert not cluster.links


def test_undoing_one_of_two_faults_of_links_leaves_the_other(cluster: Cluster) -> None:
    mine, other = BadLinks((("node0", "node1"),), CUT), BadLinks((("node1", "node2"),), LinkFault(delay_ms=5))
    mine.strike(cluster)
    other.strike(cluster)
    mine.undo(cluster)
    assert cluster.links == {("node1", "node2"): LinkFault(delay_ms=5)}
    assert newest(cluster).text == "node0 -> node1: whole"


def test_several_together_strike_and_are_undone(cluster: Cluster) -> None:
    both = Together((Kill("node1"), Kill("node2")))
    assert both.victims == "node1, node2"
    both.strike(cluster)
    assert cluster.running == ("node0",)
    both.undo(cluster)
    assert cluster.running == cluster.nodes
    assert [event.kind for event in cluster.events].count(LabEvent.RESTARTED) == 2


def test_a_paused_node_is_not_made_leader(cluster: Cluster) -> None:
    cluster.pause("node1")
    with pytest.raises(ClusterError, match=r"node1 is paused and can't lead: cluster\.resume"):
        Transfer("node1").strike(cluster)


def test_a_transfer_that_does_not_happen_says_why(cluster: Cluster) -> None:
    """The stand-ins know of no members."""
    with pytest.raises(ClusterError, match=r"node1 did not take over within 0\.1 s: it is no member"):
        cluster.transfer("node1", timeout_s=0.1)
    cluster.kill("node0")
    with pytest.raises(NoLeader):
        cluster.transfer("node1", timeout_s=0.1)


# -- real nodes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Iterator[Cluster]:
    """Patient nodes: a pause of the machine elects no leader."""
    with Cluster(3, settings={"election_ticks": 100}) as running:
        yield running


def newest_term(cluster: Cluster) -> int:
    """Of all nodes: the one that the last election went past may know an older one."""
    return max(node.status.term for node in cluster.status() if node.status)


@pytest.mark.process
def test_leadership_goes_where_it_is_wanted_and_orders_go_on(real: Cluster) -> None:
    with real.client() as client:
        for _ in range(3):
            target = next(name for name in real.nodes if name != real.leader)
            before = newest_term(real)
            real.transfer(target)
            assert real.leader == target
            client.buy("ACME", 1, 100)
            assert newest_term(real) == before + 1, "one election, and only one"
    events = len(real.events)
    assert LabEvent.TRANSFER in [event.kind for event in real.events]
    real.transfer(real.leader)
    assert len([e for e in real.events[events:] if e.kind == EventKind.ELECTED]) == 0


@pytest.mark.process
def test_the_election_after_a_termination_is_later_than_its_event(real: Cluster) -> None:
    """A node that closes hands over at once, so the election is over before its process has ended."""
    leader = real.leader
    real.terminate(leader)
    (ended,) = (event for event in real.events if event.kind == LabEvent.TERMINATED)
    assert wait_for(lambda: any(e.kind == EventKind.ELECTED and e.time_ns > ended.time_ns for e in real.events))
    assert wait_for(lambda: any(event.kind == EventKind.CLOSING for event in real.events))
    closing = next(event for event in real.events if event.kind == EventKind.CLOSING)
    assert ended.time_ns <= closing.time_ns
    Terminate(leader).undo(real)
    assert real.running == real.nodes


@pytest.mark.process
def test_trades_are_heard_while_they_are_wanted(real: Cluster) -> None:
    seen: list[control.TradeEvent] = []
    unregister = real.feed.on_trade(seen.append)

    def trade() -> bool:
        with real.client() as client:
            client.sell("TAPE", 5, 100, account=1)
            client.buy("TAPE", 5, 100, account=2)
        return wait_for(lambda: bool(seen), 0.5)

    assert wait_for(trade)
    assert (seen[0].symbol, seen[0].price, seen[0].quantity) == ("TAPE", 100, 5)
    unregister()
