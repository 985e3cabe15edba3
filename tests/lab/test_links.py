"""Links between real nodes are cut, delayed and lossy: which node leads, which clients are served, and healing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.waiting import wait_for
from zmqlab import Cluster, LoadClient
from zmqlab.client.order_client import Client
from zmqlab.errors import ClusterError, SettingsError
from zmqlab.wire.fault_queries import LinkFault

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """Patient nodes: where a test says that no leader is elected, a pause of the machine elects none either."""
    with Cluster(3, settings={"election_ticks": 80}) as running:
        yield running


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    yield shared
    shared.heal()
    assert wait_for(lambda: agreed(shared)), shared.status()


def agreed(cluster: Cluster) -> bool:
    """All know the same leader in the same term, and have applied as much."""
    said = [node.status for node in cluster.status()]
    return all(said) and len({(s.term, s.leader_id, s.applied_index) for s in said if s}) == 1 and said[0].leader_id > 0


def role_of(cluster: Cluster, name: str) -> str:
    status = cluster.status()[name].status
    return status.role if status else "silent"


def hears_no_leader(cluster: Cluster, name: str) -> bool:
    status = cluster.status()[name].status
    return status is not None and status.leader_id == 0


def others(cluster: Cluster, name: str) -> list[str]:
    return [other for other in cluster.nodes if other != name]


def kinds(cluster: Cluster) -> list[str]:
    return [event.kind for event in cluster.events]


def test_a_leader_cut_off_steps_down_and_the_others_elect(cluster: Cluster) -> None:
    old = cluster.leader
    cluster.partition([old], others(cluster, old))
    assert len(cluster.links) == 4
    assert wait_for(lambda: role_of(cluster, old) != "leader"), "it goes on leading without followers"
    assert wait_for(lambda: cluster.leader != old)
    with Client([cluster.endpoints[cluster.nodes.index(name)] for name in others(cluster, old)]) as client:
        client.buy("CUTS", 3, 100)
    assert cluster.status()[old].status is not None, "clients and people still reach it"
    cluster.heal()
    assert cluster.links == {}
    assert wait_for(lambda: agreed(cluster))
    assert {"partitioned", "healed"} <= set(kinds(cluster))


def test_a_node_cut_off_does_not_disrupt_when_it_is_back(cluster: Cluster) -> None:
    leader = cluster.leader
    term = cluster.status()[leader].status.term
    alone = others(cluster, leader)[0]
    cluster.partition([alone], others(cluster, alone))
    assert wait_for(lambda: role_of(cluster, alone) == "pre_candidate")
    time.sleep(1.0)
    cluster.heal()
    assert wait_for(lambda: agreed(cluster))
    assert cluster.leader == leader
    assert cluster.status()[leader].status.term == term


def test_one_way_cuts_in_either_direction_leave_a_majority_served(cluster: Cluster) -> None:
    leader = cluster.leader
    for name in others(cluster, leader):
        cluster.cut(leader, name)
    assert set(cluster.links) == {(leader, name) for name in others(cluster, leader)}
    assert wait_for(lambda: cluster.leader != leader), "no node hears it"
    cluster.heal()
    assert wait_for(lambda: agreed(cluster))
    leader = cluster.leader
    for name in others(cluster, leader):
        cluster.cut(name, leader)
    assert wait_for(lambda: cluster.leader != leader), "it hears no node"
    with cluster.client() as client:
        client.buy("CUTS", 1, 100)


def test_a_follower_that_reaches_only_the_other_follower_is_no_harm(cluster: Cluster) -> None:
    """The link between the leader and one follower is gone: the bridge that once stopped a large company's cluster."""
    leader = cluster.leader
    far = others(cluster, leader)[0]
    cluster.partition([leader], [far])
    with cluster.client() as client:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            client.buy("CUTS", 1, 100)
    terms = {status.term for status in cluster.feed.newest().values()}
    assert len(terms) == 1, "leadership goes to and fro"


def fastest_ms(order: Callable[[], object], count: int = 30) -> float:
    """The fastest of many: a busy machine adds to each, but takes nothing away from one that waits for a link."""
    times_ms = []
    for _ in range(count):
        began = time.perf_counter()
        order()
        times_ms.append((time.perf_counter() - began) * 1000)
    return min(times_ms)


def test_delay_is_seen_in_the_time_to_commit(cluster: Cluster) -> None:
    leader = cluster.leader
    with Client([cluster.endpoints[cluster.nodes.index(leader)]]) as client:
        client.buy("SLOW", 1, 100)
        fast_ms = fastest_ms(lambda: client.buy("SLOW", 1, 100))
        for name in others(cluster, leader):
            cluster.link(leader, name, delay_ms=30)
        slow_ms = fastest_ms(lambda: client.buy("SLOW", 1, 100))
        assert cluster.leader == leader
    assert fast_ms < 30 <= slow_ms
    assert cluster.links[leader, others(cluster, leader)[0]] == LinkFault(delay_ms=30)


@pytest.mark.long
def test_a_fifth_of_all_frames_lost_and_still_everything_counts_once(cluster: Cluster) -> None:
    for source in cluster.nodes:
        for target in others(cluster, source):
            cluster.link(source, target, loss=0.2)
    with LoadClient(cluster, rate=500, duration=None, timeout_ms=500) as load:
        load.start()
        time.sleep(4)
        cluster.heal()
        load.stop()
        result = load.wait()
    assert result.verdict.ok, result.verdict
    assert result.total.acknowledged == result.total.sent > 1_000


def test_a_node_that_comes_back_is_told_again(cluster: Cluster) -> None:
    leader = cluster.leader
    alone = others(cluster, leader)[0]
    cluster.partition([alone], others(cluster, alone))
    for restart in (lambda: cluster.kill(alone) or cluster.restart(alone), lambda: cluster.restart(alone)):
        restart()
        time.sleep(0.8)  # by then it has heard a leader that it can hear, and missed none that it can't
        assert wait_for(lambda: hears_no_leader(cluster, alone)), "it hears the leader"
    cluster.heal()
    assert wait_for(lambda: agreed(cluster))


def test_what_changes_while_a_node_is_paused_or_dead_is_told_when_it_is_back(cluster: Cluster) -> None:
    leader = cluster.leader
    paused, dead = others(cluster, leader)
    cluster.cut(leader, paused)
    cluster.pause(paused)
    cluster.heal()
    cluster.resume(paused)
    assert wait_for(lambda: agreed(cluster)), "it was not told that all is whole"
    cluster.kill(dead)
    cluster.cut(leader, dead)
    cluster.restart(dead)
    time.sleep(0.8)
    assert wait_for(lambda: hears_no_leader(cluster, dead))


def test_a_wiped_node_is_heard_as_badly_as_before(cluster: Cluster) -> None:
    leader = cluster.leader
    wiped, other = others(cluster, leader)
    cluster.cut(wiped, other)
    cluster.wipe(wiped)
    assert cluster.links == {(wiped, other): LinkFault(cut=True)}
    assert wait_for(lambda: agreed(cluster)), (
        "a node that does not know yet that it votes waits for its leader for ever"
    )
    cluster.partition([wiped], [leader, other])
    assert wait_for(lambda: hears_no_leader(cluster, wiped)), "its new id is not meant"


def test_what_makes_no_sense_is_refused(cluster: Cluster) -> None:
    for call, error, said in (
        (lambda: cluster.cut("node0", "node0"), ClusterError, "no peer of itself"),
        (lambda: cluster.cut("node0", "node9"), ClusterError, "no node named node9"),
        (lambda: cluster.link("node0", "node1", loss=2), SettingsError, "loss is 2"),
        (lambda: cluster.link("node0", "node1", delay_ms=-1), SettingsError, "delay_ms is -1"),
        (lambda: cluster.partition(["node0"]), ClusterError, "two groups or more"),
        (lambda: cluster.partition("node0", "node1"), ClusterError, "a list of names"),
        (lambda: cluster.partition(["node0"], ["node0", "node1"]), ClusterError, "in two groups"),
    ):
        with pytest.raises(error, match=said):
            call()
    assert cluster.links == {}


def test_links_of_a_removed_node_are_forgotten() -> None:
    with Cluster(3) as cluster:
        gone = others(cluster, cluster.leader)[0]
        cluster.link(gone, cluster.leader, delay_ms=1)
        cluster.remove(gone)
        cluster.heal()
        assert cluster.links == {}
