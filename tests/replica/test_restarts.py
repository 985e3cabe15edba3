"""What three replicas keep over restarts, and how one that was away catches up: by the log, or by a snapshot."""

from __future__ import annotations

import pytest

from tests.replica.network import Network, request
from zmqlab.replica import ReplicaSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames

SMALL_LOGS = ReplicaSettings(snapshot_log_bytes=2_000, keep_bytes=0)


@pytest.mark.parametrize("settings", [ReplicaSettings(), SMALL_LOGS], ids=["log", "snapshots"])
def test_a_restart_of_all_keeps_everything(settings: ReplicaSettings) -> None:
    network = Network(settings)
    client_id = network.open_session()
    for number in range(1, 101):
        network.nodes[1 + number % 3].take(request(client_id, number, answered_below=max(1, number - 5)))
        network.settle()
    network.tick()
    network.assert_agreed()
    books = network.nodes[1].machine.exchange.state_hash()
    first = network.nodes[1 + 100 % 3].answers[-1]
    assert (network.nodes[1].replica.snapshots_total > 0) is (settings is SMALL_LOGS)
    for node in network.nodes.values():
        node.start()
    network.elect()
    network.tick(2)
    network.assert_agreed()
    assert network.nodes[1].machine.exchange.state_hash() == books
    assert network.nodes[1].machine.orders_applied == 100
    network.nodes[3].take(request(client_id, 100, answered_below=95))
    network.settle()
    assert network.nodes[3].answers[-1] == first._replace(flags=client_wire.REPLAYED)


def test_a_restarted_follower_catches_up(network: Network) -> None:
    client_id = network.open_session()
    for number in range(1, 11):
        network.cut_off = {3} if number > 5 else set()
        network.nodes[1].take(request(client_id, number))
        network.settle()
    network.nodes[3].start()
    network.heal()
    network.assert_agreed()
    assert network.nodes[3].machine.orders_applied == 10


def test_a_node_far_behind_gets_a_snapshot_in_pieces() -> None:
    network = Network(SMALL_LOGS)
    client_id = network.open_session()
    network.cut_off = {3}
    for number in range(1, 301):
        network.nodes[2].take(request(client_id, number))
        network.settle()
    assert network.leader.replica.replication.first_index > network.nodes[3].machine.applied_index + 1
    network.delivered.clear()
    network.heal()
    pieces = network.delivered.count((network.leader.node_id, 3, frames.INSTALL_SNAPSHOT))
    assert pieces > 10, "300 orders and their answers don't fit a chunk of 1,000 bytes"
    network.assert_agreed()
    node = network.nodes[3]
    assert node.machine.orders_applied == 300
    assert node.journal.load().snapshot is not None
    node.take(request(client_id, 17))
    assert node.answers[-1].flags == client_wire.REPLAYED, "sessions are part of the snapshot"
    node.take(request(client_id, 301))
    network.settle()
    assert node.answers[-1].request_number == 301


def test_the_log_stays_while_a_follower_is_sent_a_snapshot() -> None:
    """It was dropped behind each new snapshot: a follower that got a large one needed another one at once, for ever."""
    network = Network(SMALL_LOGS)
    client_id = network.open_session()

    def go_on(first: int, snapshots: int) -> int:
        """Send requests until the leader has made more snapshots; returns the next request number."""
        wanted, number = network.leader.replica.snapshots_total + snapshots, first
        while network.leader.replica.snapshots_total < wanted:
            network.leader.take(request(client_id, number, answered_below=max(1, number - 5)))
            network.settle()
            number += 1
        return number

    network.cut_off.add(3)
    number = go_on(1, 2)
    network.cut_off.clear()
    network.lose = lambda sender, to, frame_type: frame_type == frames.INSTALL_SNAPSHOT
    network.tick(2)
    leader = network.leader.replica.replication
    sent = leader.followers[3].snapshot
    assert sent is not None
    number = go_on(number, 2)
    assert leader.followers[3].snapshot is sent
    assert leader.first_index <= sent.index + 1
    go_on(number, 20)
    assert leader.log_bytes < 6 * SMALL_LOGS.snapshot_log_bytes, "it is bounded all the same"
    network.heal()
    network.assert_agreed()


def test_the_log_in_memory_stays_bounded() -> None:
    network = Network(SMALL_LOGS)
    client_id = network.open_session()
    for number in range(1, 501):
        network.nodes[1].take(request(client_id, number, answered_below=number))
        network.settle()
        assert network.leader.replica.replication.log_bytes <= 2 * SMALL_LOGS.snapshot_log_bytes
    assert network.leader.replica.snapshots_total >= 15
