"""Nodes come to a cluster with shards and leave it: the roster says where replicas go, and each group follows."""

from __future__ import annotations

from tests.engine.shard_cluster import ShardCluster, endpoint

SHARDS = 4


def founded(nodes: int = 3, copies: int = 3) -> ShardCluster:
    cluster = ShardCluster(nodes, SHARDS, copies)
    cluster.step(60)
    return cluster


def grown(copies: int = 3) -> ShardCluster:
    """Three nodes founded it, and two came."""
    cluster = founded(copies=copies)
    for number in (3, 4):
        cluster.join(number)
        cluster.step_until(lambda version=number - 2: cluster.roster().version == version and cluster.is_placed())
    return cluster


def test_nodes_that_come_are_given_replicas_and_the_others_have_fewer() -> None:
    cluster = grown()
    held = [len(cluster.groups(number)) for number in range(5)]
    assert sum(held) == 3 * SHARDS
    assert max(held) - min(held) <= 1
    assert len(cluster.roster().nodes) == 5


def test_where_all_nodes_hold_all_groups_one_that_comes_holds_them_too() -> None:
    cluster = grown(copies=0)
    assert all(set(cluster.groups(number)) == set(range(SHARDS)) for number in range(5))
    assert all(len(cluster.voters(group)) == 5 for group in range(SHARDS))


def test_a_node_that_is_dismissed_hands_its_replicas_over_and_holds_nothing() -> None:
    cluster = grown()
    for number in (4, 3):
        cluster.dismiss(number)
        cluster.step_until(lambda gone=number: endpoint(gone) not in cluster.roster().nodes and cluster.is_placed())
        assert not cluster.groups(number)
    assert all(set(cluster.groups(number)) == set(range(SHARDS)) for number in range(3))
