"""Nodes come and go while a client trades: real processes, nothing lost, no error at the client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.waiting import PATIENCE_S, wait_for
from zmqlab import Cluster, LoadClient
from zmqlab.client import ask
from zmqlab.errors import ClusterError, SettingsError
from zmqlab.lab import scaling
from zmqlab.wire import control
from zmqlab.wire.node_status import NodeStatus

pytestmark = pytest.mark.process


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Patient nodes: where a test says that no leader was elected, a pause of the machine elected none either."""
    with Cluster(3, settings={"election_ticks": 60}) as running:
        yield running


def voters_by_name(cluster: Cluster) -> dict[str, int]:
    """Name -> id of the voters, as the leader knows them."""
    leading: list[NodeStatus] = []

    def one_leads() -> bool:
        leading[:] = [each.status for each in cluster.status() if each.status and each.status.role == "leader"]
        return len(leading) == 1

    assert wait_for(one_leads)
    (status,) = leading
    names = {state.endpoint: state.name for state in cluster.status()}
    return {
        names[f"tcp://{member.host}:{member.port + 2}"]: member.node_id for member in status.members if member.voter
    }


def assert_all_catch_up(cluster: Cluster) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        applied = {state.name: state.status.applied_index if state.status else -1 for state in cluster.status()}
        if len(set(applied.values())) == 1:
            return
        assert time.monotonic() < deadline, applied
        time.sleep(0.05)


def kinds(cluster: Cluster) -> list[tuple[str, str]]:
    return [(event.node, event.kind) for event in cluster.events]


def test_three_five_three_under_load(cluster: Cluster) -> None:
    with LoadClient(cluster, rate=2_000, duration=None) as load:
        load.start()
        cluster.scale(5)
        assert cluster.nodes == cluster.running == ("node0", "node1", "node2", "node3", "node4")
        assert set(voters_by_name(cluster)) == set(cluster.nodes)
        cluster.scale(3)
        assert len(voters_by_name(cluster)) == 3
        load.stop()
        result = load.wait()
    assert result.verdict.ok, result.verdict
    assert result.total.failed == 0
    assert [kind for _, kind in kinds(cluster)].count("removed") == 2
    assert [kind for _, kind in kinds(cluster)].count("promoted") == 2


def test_a_client_that_was_given_addresses_watches_those_that_come(cluster: Cluster) -> None:
    with LoadClient(list(cluster.endpoints), rate=1_000, duration=None) as load:
        load.start()
        assert load.feed.wait_until(lambda: set(load.feed.newest()) == {"node0", "node1", "node2"}, 30)
        name = cluster.add()
        assert load.feed.wait_until(lambda: name in load.feed.newest(), 30)


def test_the_leader_is_removed_by_a_transfer(cluster: Cluster) -> None:
    leader = cluster.leader
    before = max(status.term for status in cluster.feed.newest().values())
    cluster.remove(leader)
    assert leader not in cluster.nodes
    assert cluster.leader != leader
    assert max(status.term for status in cluster.feed.newest().values()) == before + 1


def test_down_to_one_and_up_again(cluster: Cluster) -> None:
    with cluster.client() as client:
        client.buy("ACME", 5, 100)
        cluster.scale(1)
        client.buy("ACME", 6, 101)
        cluster.scale(2)
        assert client.book("ACME").bids == [(101, 6, 1), (100, 5, 1)]
    with pytest.raises(ClusterError, match="only 1 of 2 nodes would run without it"):
        cluster.wipe("node1" if "node1" in cluster.nodes else cluster.nodes[-1])


def test_a_wiped_node_is_another_member_in_the_same_place(cluster: Cluster) -> None:
    with cluster.client() as client:
        client.buy("ACME", 5, 100)
    victim = cluster.leader
    before, endpoint = voters_by_name(cluster), cluster.endpoints[cluster.nodes.index(victim)]
    cluster.wipe(victim)
    after = voters_by_name(cluster)
    assert set(after) == set(before)
    assert after[victim] != before[victim]
    assert cluster.endpoints[cluster.nodes.index(victim)] == endpoint
    assert (victim, "wiped") in kinds(cluster)
    assert_all_catch_up(cluster)


def test_a_node_that_joined_is_restarted_as_the_same_member(cluster: Cluster) -> None:
    name = cluster.add()
    before = voters_by_name(cluster)
    cluster.kill(name)
    cluster.restart(name)
    assert voters_by_name(cluster) == before


def test_a_node_away_while_all_others_were_replaced_finds_its_way_back(cluster: Cluster) -> None:
    """Its log ends before its leader was taken in: it can answer only because the leader introduces itself."""
    cluster.kill("node2")
    cluster.scale(5)
    for name in ("node0", "node1"):
        cluster.remove(name)
    cluster.restart("node2")
    assert_all_catch_up(cluster)
    assert set(voters_by_name(cluster)) == {"node2", "node3", "node4"}


@pytest.mark.parametrize("is_cut_off", [False, True], ids=["it hears the leader", "it is cut off"])
def test_a_removed_node_that_still_runs_says_so_and_does_not_disrupt(cluster: Cluster, is_cut_off: bool) -> None:
    """Removed behind the back of its cluster, so that its process goes on. One that was cut off at the time never gets
    the entry that removes it: it looked like a candidate, or like a follower, for ever."""
    names = voters_by_name(cluster)
    victim = next(name for name in names if name != cluster.leader)
    leader_endpoint = cluster.endpoints[cluster.nodes.index(cluster.leader)]
    if is_cut_off:
        cluster.partition([victim], [name for name in names if name != victim])
    deadline = time.monotonic() + PATIENCE_S
    while True:
        query = control.RemoveMemberQuery(ask.new_nonce(), names[victim])
        answer = ask.ask_all([leader_endpoint], lambda _, query=query: query, 1.0).get(leader_endpoint)
        if isinstance(answer, control.OkAnswer):
            break
        assert time.monotonic() < deadline
    term = max(status.term for status in cluster.feed.newest().values())
    assert wait_for(lambda: cluster.status()[victim].status.role == "removed")
    assert "was removed from its group" in cluster.log_path(victim).read_text()
    assert max(status.term for status in cluster.feed.newest().values()) == term


def test_two_changes_at_once_take_turns(cluster: Cluster) -> None:
    threads = [threading.Thread(target=cluster.add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(voters_by_name(cluster)) == 5


def test_the_last_one_stays() -> None:
    with Cluster(1) as cluster, pytest.raises(ClusterError, match="last node"):
        cluster.remove("node0")


@pytest.mark.parametrize("count", [0, 16, 2.5, True])
def test_a_scale_that_makes_no_sense(cluster: Cluster, count: object) -> None:
    with pytest.raises(SettingsError, match="from 1 to 15"):
        cluster.scale(count)  # type: ignore[arg-type]


def refusing(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that refuses so many times, and then does what it is asked."""
    left = iter([control.ErrorAnswer(1, "refused", "too few of the others are in reach")] * times)
    monkeypatch.setattr(scaling, "reach_leader", lambda *_: scaling.Reached("tcp://127.0.0.1:1", {}))
    monkeypatch.setattr(ask, "ask_all", lambda *_: {"tcp://127.0.0.1:1": next(left, control.OkAnswer(1))})


def test_a_leader_that_has_just_been_elected_may_refuse_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has led for less than one round of heartbeats, so it takes every follower for dead."""
    refusing(3, monkeypatch)
    monkeypatch.setattr(scaling, "REFUSAL_S", 60.0)
    scaling.remove_member(lambda: ["tcp://127.0.0.1:1"], 7, time.monotonic() + 60)


def test_a_refusal_that_lasts_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(1_000_000, monkeypatch)
    with pytest.raises(ClusterError, match="does not remove that node: too few of the others are in reach"):
        scaling.remove_member(lambda: ["tcp://127.0.0.1:1"], 7, time.monotonic() + 600)
