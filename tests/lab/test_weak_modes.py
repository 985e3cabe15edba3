"""Weak modes on real processes: what each loses when its leader is lost, and what the verdict says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_for
from zmqlab.errors import NodeError
from zmqlab.judge.promises import Check
from zmqlab.judge.verdict import LoadResult
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.consistency import exactly_from, strip_of
from zmqlab.lab.load_client import LoadClient

pytestmark = [pytest.mark.process, pytest.mark.long]

RATE = 2_000
ENOUGH_S = 15.0
"""A load that is not stopped before ends then. Of a longer one the log would be collected."""
PATIENT = {"election_ticks": 100}
"""A leader that is cut off goes on for a second at least: it takes orders in that time on any machine."""


def applied(cluster: Cluster) -> int:
    """How many orders the nodes that run have carried out, by the one that is furthest."""
    newest = cluster.feed.newest()
    return max((newest[name].orders_applied for name in cluster.running if name in newest), default=0)


def cut_off(cluster: Cluster, load: LoadClient) -> str:
    """In the middle of a load, part the leader from the others; returns its name when it has gone on alone."""
    assert wait_for(lambda: applied(cluster) > RATE or not load.running)
    leader = cluster.leader

    def taken() -> int:
        return cluster.feed.newest()[leader].orders_taken

    cluster.partition([leader], [name for name in cluster.nodes if name != leader])
    before = taken()
    assert wait_for(lambda: taken() > before + 100 or not load.running)
    return leader


def lose_the_leader(cluster: Cluster, **told: Any) -> LoadResult:
    """Under load, the leader is cut off, goes on alone, and is killed. The load ends when the others have gone on."""
    with LoadClient(cluster, rate=RATE, duration=ENOUGH_S, node_choice="random", **told) as load:
        load.start()
        cluster.kill(cut_off(cluster, load))
        cluster.heal()
        before = applied(cluster)
        assert wait_for(lambda: applied(cluster) > before + RATE / 2 or not load.running)
        load.stop()
        return load.wait()


def check_of(result: LoadResult, name: str) -> Check:
    return next(check for check in result.verdict.checks if check.name == name)


@pytest.mark.parametrize("options", [{"ack": "leader"}, {"replication": "primary-backup"}], ids=str)
def test_a_leader_that_answers_alone_takes_acknowledged_orders_to_its_grave(
    options: dict[str, Any], tmp_path: Path
) -> None:
    with Cluster(3, run_dir=tmp_path, settings=PATIENT, **options) as cluster:
        result = lose_the_leader(cluster)
    lost = check_of(result, "nothing lost")
    assert result.verdict.outcome == "failed"
    assert lost.requests, result.verdict
    assert "does not promise this" in lost.detail
    assert f"request {lost.requests[0][1]}" in lost.detail.replace("requests", "request")
    assert len({node[1:] for node in result.verdict.nodes}) == 1, "those that are left agree"


def test_the_same_loses_nothing_with_a_quorum(tmp_path: Path) -> None:
    with Cluster(3, run_dir=tmp_path, settings=PATIENT) as cluster:
        result = lose_the_leader(cluster)
    assert result.verdict.ok, result.verdict
    assert "replication    raft" in repr(result)


def test_broadcast_parts_and_the_verdict_says_where(tmp_path: Path) -> None:
    for number in range(5):
        with Cluster(3, run_dir=tmp_path / str(number), replication="broadcast", settings=PATIENT) as cluster:
            result = lose_the_leader(cluster)
            strip = strip_of(cluster.nodes, cluster.feed.newest(), cluster.feed.checkpoints())
            exact = exactly_from(strip, cluster.living_endpoints)
        if not result.report.result.problem:
            break  # else a node got a request before it had heard of the session, and the load ended
    assert strip.agrees is False
    assert "the nodes have parted" in strip.said
    assert exact.parting is not None
    assert strip.agreed_index < exact.parting.log_index
    dead_one_parted_first = exact.parting.log_index > strip.parted_index  # and its log can't be read
    assert dead_one_parted_first == ("of the nodes that answer now, the logs differ" in exact.said)
    agree = check_of(result, "nodes agree")
    assert agree.ok is False
    assert "the logs differ from index" in agree.detail


def test_a_client_that_waits_for_nothing_is_never_told_what_is_lost(tmp_path: Path) -> None:
    with Cluster(3, run_dir=tmp_path, ack="none", settings=PATIENT) as cluster:
        result = lose_the_leader(cluster)
    assert result.total.acknowledged == 0
    assert result.total.sent > RATE  # the load has waited for no answer
    sent = check_of(result, "sent is applied")
    assert sent.requests, "what had been sent to the leader and was not passed on"
    assert result.verdict.outcome == "failed"


def test_a_leader_that_comes_back_agrees_with_the_others(tmp_path: Path) -> None:
    with Cluster(3, run_dir=tmp_path, ack="leader", settings=PATIENT) as cluster:
        with LoadClient(cluster, rate=RATE, duration=ENOUGH_S) as load:
            load.start()
            old = cut_off(cluster, load)
            assert wait_for(lambda: cluster.feed.leader_among(cluster.running) not in ("", old))
            before = applied(cluster)
            assert wait_for(lambda: applied(cluster) > before + RATE / 2)
            cluster.heal()
            load.stop()
            result = load.wait()
        assert check_of(result, "nothing lost").ok is False
        assert len(result.verdict.nodes) == 3
        assert len({node[1:] for node in result.verdict.nodes}) == 1, "it has taken back what they never had"
        assert {node.status.replication for node in cluster.status() if node.status} == {"leader-ack"}


def test_a_persons_own_class_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="replication 'nowhere:Mine' can't be imported: ModuleNotFoundError"):
        Cluster(1, run_dir=tmp_path, replication="nowhere:Mine").start()
