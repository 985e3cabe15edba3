"""Reads at three replicas: a read sees all that was answered before, or fails, once and in time."""

from __future__ import annotations

import pytest

from tests.replica.network import ELECTION_TICKS_MAX, Network, request
from zmqlab.replica import ReplicaSettings
from zmqlab.wire import frames


@pytest.mark.parametrize("node_id", [1, 2, 3])
def test_a_read_sees_every_request_that_was_answered_before(network: Network, node_id: int) -> None:
    """Also at a follower that has not heard of the commit yet."""
    client_id = network.open_session()
    network.lose = lambda sender, to, frame_type: to == 3 and frame_type == frames.APPEND_ENTRIES
    network.nodes[1].take(request(client_id, 1))
    network.settle()
    assert len(network.nodes[1].answers) == 1
    assert network.nodes[3].machine.orders_applied == 0
    node, seen = network.nodes[node_id], list[tuple[bool, int]]()
    node.replica.read(lambda done: seen.append((done, node.machine.orders_applied)))
    network.settle()
    if node_id == 3:
        assert seen == [], "it waits until it has applied what the leader has"
    network.lose = lambda sender, to, frame_type: False
    network.tick(10)
    assert seen == [(True, 1)]


def test_a_leader_that_is_alone_answers_no_read(network: Network) -> None:
    network.cut_off = {1}
    seen: list[bool] = []
    network.nodes[1].replica.read(seen.append)
    network.settle()
    assert seen == []
    network.tick(2 * ELECTION_TICKS_MAX)
    assert seen == [False]


def test_a_read_without_a_leader_fails_at_once(network: Network) -> None:
    network.cut_off = {1, 2, 3}
    network.tick(2 * ELECTION_TICKS_MAX)
    seen: list[bool] = []
    network.nodes[2].replica.read(seen.append)
    network.settle()
    assert seen == [False]


def with_a_follower_behind(**settings: int) -> Network:
    """A request is committed, and its entry has not come to node 3."""
    network = Network(ReplicaSettings(**settings))
    client_id = network.open_session()
    network.lose = lambda sender, to, frame_type: to == 3 and frame_type == frames.APPEND_ENTRIES
    network.nodes[1].take(request(client_id, 1))
    network.settle()
    return network


def test_a_read_that_knows_its_index_and_never_reaches_it_fails_in_time() -> None:
    """Node 3 hears from the leader how far to read, and is cut off before the entries come."""
    network = with_a_follower_behind(read_ticks=50)
    seen: list[bool] = []
    network.nodes[3].replica.read(seen.append)
    network.settle()
    assert (3, frames.READ_INDEX_RESPONSE) in [said[1:] for said in network.delivered]
    network.cut_off = {3}
    network.tick(51)
    assert seen == [False]
    network.heal()
    assert seen == [False], "once is enough"


def test_reads_that_wait_are_bounded() -> None:
    network = with_a_follower_behind(max_reads=5)
    seen: list[bool] = []
    for _ in range(8):
        network.nodes[3].replica.read(seen.append)
        network.settle()
    assert seen == [False] * 3
    network.heal()
    assert seen == [False] * 3 + [True] * 5
