"""Real nodes with shards come, go and lose their disks under load; the verdict holds for each group."""

from __future__ import annotations

import pytest

from zmqlab import Cluster, LoadClient
from zmqlab.errors import ClusterError

pytestmark = [pytest.mark.process, pytest.mark.long]


def held(cluster: Cluster) -> dict[str, set[int]]:
    """Node -> the groups that it holds, as it last said."""
    return {
        name: {group for group in range(cluster.shards) if name in cluster.feed.newest(group)} for name in cluster.nodes
    }


def test_nodes_come_go_and_lose_a_disk_under_load_and_nothing_is_lost() -> None:
    with Cluster(nodes=3, shards=4, replication_factor=3) as cluster, LoadClient(cluster, rate=300, seed=1) as load:
        load.start()
        cluster.scale(5)
        assert cluster.feed.wait_until(lambda: sorted(map(len, held(cluster).values())) == [2, 2, 2, 3, 3], 60.0)
        cluster.scale(3)
        assert cluster.feed.wait_until(lambda: all(len(groups) == 4 for groups in held(cluster).values()), 60.0)
        cluster.wipe(cluster.nodes[1])
        assert cluster.feed.wait_until(lambda: all(cluster.leaders.values()), 60.0)
        load.stop()
        result = load.wait()
        assert result.verdict is not None
        assert result.verdict.ok, result.verdict
        assert set(result.verdict.groups) == set(range(4))


def test_a_node_is_not_replaced_that_holds_the_only_replica_of_a_group() -> None:
    with Cluster(nodes=3, shards=4, replication_factor=1) as cluster:
        with pytest.raises(ClusterError, match="would have 0 of its 1 replicas"):
            cluster.wipe("node1")
        cluster.remove("node1")
        assert cluster.nodes == ("node0", "node2")
        assert cluster.feed.wait_until(lambda: all(cluster.leaders.values()), 60.0)
