"""Requests at three replicas: each is answered once, by the node that took it, and applied once, in order of arrival.

Also who hears of a commit, and when a node takes no more.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.replica.network import CLIENT, RAFT, Network, request
from zmqlab.errors import FrameError
from zmqlab.replica import RaftByQuorum, ReplicaSettings, Start
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames
from zmqlab.wire.client import ResponseStatus


@pytest.mark.parametrize("node_id", [1, 2, 3])
def test_a_request_is_answered_once_by_the_node_that_took_it(network: Network, node_id: int) -> None:
    client_id = network.open_session(node_id)
    node = network.nodes[node_id]
    node.take(request(client_id, 1))
    network.settle()
    network.tick()
    (response,) = node.answers
    assert response[:5] == (client_id, 1, response.log_index, ResponseStatus.OK, 0)
    assert [len(other.answers) for other in network.nodes.values() if other is not node] == [0, 0]
    assert not node.replica.pending
    assert [other.machine.orders_applied for other in network.nodes.values()] == [1, 1, 1]
    network.assert_agreed()


def test_a_retry_at_another_node_gets_the_same_answer_and_is_applied_once(network: Network) -> None:
    client_id = network.open_session()
    for node in network.nodes.values():
        node.take(request(client_id, 1))
        network.settle()
        network.tick()
    first, *others = [node.answers[0] for node in network.nodes.values()]
    assert all(other == first._replace(flags=client_wire.REPLAYED) for other in others)
    assert [node.machine.orders_applied for node in network.nodes.values()] == [1, 1, 1]


def test_a_request_that_reaches_the_log_twice_is_applied_once(network: Network) -> None:
    """The same request at all nodes in one turn, before any of them could know an answer."""
    client_id = network.open_session()
    for node in network.nodes.values():
        node.take(request(client_id, 1))
    network.settle()
    network.tick()
    answers = [answer for node in network.nodes.values() for answer in node.answers]
    assert len({(answer.log_index, bytes(answer.reports)) for answer in answers}) == 1
    assert len(answers) == 3
    assert network.nodes[1].machine.orders_applied == 1
    network.assert_agreed()


def test_requests_of_one_turn_are_applied_in_the_order_in_which_they_came(network: Network) -> None:
    client_id = network.open_session(2)
    for number in range(1, 51):
        network.nodes[2].take(request(client_id, number))
    network.settle()
    network.tick()
    assert [answer.request_number for answer in network.nodes[2].answers] == list(range(1, 51))
    indexes = [answer.log_index for answer in network.nodes[2].answers]
    assert indexes == list(range(indexes[0], indexes[0] + 50))


def test_a_broken_forward_changes_nothing(network: Network) -> None:
    client_id = network.open_session()
    with pytest.raises(FrameError):
        network.leader.replica.take_forwarded([request(client_id, 1), b"broken"])
    network.settle()
    assert network.leader.machine.orders_applied == 0


def test_a_node_with_too_many_requests_waiting_is_busy() -> None:
    network = Network(ReplicaSettings(max_pending=3))
    client_id = network.open_session(2)
    network.cut_off = {2}
    node = network.nodes[2]
    for number in range(1, 5):
        node.take(request(client_id, number))
    network.settle()
    (busy,) = node.answers
    assert busy[:4] == (client_id, 4, 0, ResponseStatus.BUSY)
    node.take(request(client_id, 3))
    assert len(node.answers) == 1, "a retry of one that waits is no further request"
    network.cut_off = set()
    network.tick(2 * node.replica.settings.resend_ticks)
    assert sorted(answer.request_number for answer in node.answers[1:]) == [1, 2, 3]
    assert network.nodes[1].machine.orders_applied == 3, "the refused one was not applied"


def test_a_follower_that_is_far_behind_is_busy_until_it_has_caught_up() -> None:
    """It took all that came. A node that was started again held up whatever its clients had sent there."""
    network = Network(ReplicaSettings(max_behind=4))
    client_id = network.open_session(1)
    network.cut_off = {3}
    for number in range(1, 11):
        network.nodes[1].take(request(client_id, number))
    network.settle()
    node, network.cut_off = network.nodes[3], set()
    network.lose = lambda sender, to, frame_type: sender == 3
    network.tick(RAFT.heartbeat_ticks)
    node.take(request(client_id, 11))
    (busy,) = node.answers
    assert busy[:4] == (client_id, 11, 0, ResponseStatus.BUSY)
    network.lose = lambda sender, to, frame_type: False
    network.tick(2 * RAFT.heartbeat_ticks)
    node.take(request(client_id, 11))
    network.settle()
    network.tick(RAFT.heartbeat_ticks)
    assert [answer.status for answer in node.answers[1:]] == [ResponseStatus.OK]
    assert network.leader.machine.orders_applied == 11


def test_a_client_that_has_gone_gets_no_answer_and_its_request_counts(network: Network) -> None:
    client_id = network.open_session()
    network.nodes[2].replica.take_request(CLIENT, request(client_id, 1), 0)
    network.nodes[2].replica.turn()
    network.nodes[2].replica.pending.pop((client_id, 1))
    network.settle()
    assert not network.nodes[2].answers
    assert network.nodes[1].machine.orders_applied == 1


def telling_those_that_wait(start: Start) -> RaftByQuorum:
    """No follower can count a commit, and a leader tells only those that wait for it."""
    return RaftByQuorum(start._replace(settings=replace(start.settings, store_first=False)))


def test_only_the_node_that_passed_a_request_on_is_told_of_its_commit() -> None:
    """The other one has no client to answer, and learns of it by the next message."""
    network = Network(make=telling_those_that_wait)
    client_id = network.open_session(2)
    network.tick(RAFT.heartbeat_ticks)
    network.delivered.clear()
    network.nodes[2].take(request(client_id, 1))
    network.settle()
    assert [answer.status for answer in network.nodes[2].answers] == [ResponseStatus.OK], "without a tick"
    assert network.delivered.count((1, 2, frames.APPEND_ENTRIES)) == 2, "the entry and the notice"
    assert network.delivered.count((2, 1, frames.APPEND_ENTRIES_RESPONSE)) == 1, "a notice is not answered"
    assert network.delivered.count((1, 3, frames.APPEND_ENTRIES)) == 1
    network.nodes[3].take(request(client_id, 1))
    network.settle()
    assert [answer.status for answer in network.nodes[3].answers] == [ResponseStatus.OK], "though it is committed"
    network.assert_agreed()


def test_a_leader_that_is_elected_again_forgets_who_waited_in_its_former_term() -> None:
    """A request of node 2 comes while leadership is handed over, and goes to the next leader."""
    network = Network(make=telling_those_that_wait)
    client_id = network.open_session(2)
    network.tick(RAFT.heartbeat_ticks)
    assert network.nodes[1].replica.replication.transfer_leadership(3)
    network.nodes[2].take(request(client_id, 1))
    network.settle()
    assert network.leader is network.nodes[3]
    assert network.nodes[3].replica.replication.transfer_leadership(1)
    network.tick(2 * RAFT.heartbeat_ticks)
    assert network.leader is network.nodes[1]
    network.delivered.clear()
    network.nodes[3].take(request(client_id, 2))
    network.settle()
    assert network.delivered.count((1, 3, frames.APPEND_ENTRIES)) == 2, "the entry and the notice"
    assert network.delivered.count((1, 2, frames.APPEND_ENTRIES)) == 1
