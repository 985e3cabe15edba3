"""SIGTERM: a node answers what it took, hands leadership over, and ends within a bound."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest

from tests.waiting import wait_for
from zmqlab import Cluster, LoadClient
from zmqlab.errors import RequestError

pytestmark = pytest.mark.process


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Patient nodes: no pause of a busy machine elects a leader."""
    with Cluster(3, settings={"election_ticks": 100}) as running:
        yield running


def left_alone(cluster: Cluster) -> str:
    """Kill all nodes but the leader, and give it an order, which it can't commit. Returns its name."""
    leader = cluster.leader
    for name in cluster.nodes:
        if name != leader:
            cluster.kill(name)

    def has_taken_one() -> bool:
        with cluster.client(timeout_s=0.3) as client, pytest.raises(RequestError):
            client.buy("ACME", 1, 1)
        status = cluster.status()[leader].status
        return status is not None and status.pending_requests > 0

    assert wait_for(has_taken_one)
    return leader


def text_of_log(cluster: Cluster, name: str) -> str:
    return cluster.log_path(name).read_text()


def test_a_leader_hands_over_and_nobody_waits_for_an_election(cluster: Cluster) -> None:
    with LoadClient(cluster, rate=2_000, duration=None) as load:
        load.start()
        time.sleep(0.5)
        leader = cluster.leader
        term = cluster.feed.newest()[leader].term
        cluster.terminate(leader)
        assert cluster.leader != leader
        assert max(status.term for status in cluster.feed.newest().values()) == term + 1
        time.sleep(0.3)
        load.stop()
        result = load.wait()
    assert result.verdict.ok, result.verdict
    assert result.total.failed == 0
    assert "closes, as leader" in text_of_log(cluster, leader)
    print(f"\nSIGTERM to the leader at 2,000 orders/s: longest gap {result.longest_gap_ms:.0f} ms")


def test_a_rolling_restart_is_not_noticed_by_a_client(cluster: Cluster) -> None:
    with LoadClient(cluster, rate=1_000, duration=None) as load:
        load.start()
        for name in cluster.nodes:
            cluster.restart(name)
        load.stop()
        result = load.wait()
    assert result.verdict.ok, result.verdict
    assert result.total.failed == 0


def test_without_a_majority_it_ends_within_its_bound(cluster: Cluster) -> None:
    name = left_alone(cluster)
    process = psutil.Process(cluster.pid(name))
    process.terminate()
    process.wait(60)
    assert text_of_log(cluster, name).rstrip().endswith("stop")


def test_a_second_signal_ends_it_at_once() -> None:
    with Cluster(3, settings={"drain_ms": 600_000}) as cluster:
        name = left_alone(cluster)
        process = psutil.Process(cluster.pid(name))
        process.terminate()
        assert wait_for(lambda: "closes" in text_of_log(cluster, name))
        process.terminate()
        process.wait(60)  # and not for its bound of ten minutes
