"""Requests that are lost at three replicas, or wait for a leader: they go again, to the right node, not too often."""

from __future__ import annotations

from collections.abc import Callable

from tests.replica.network import ELECTION_TICKS_MAX, Network, request
from zmqlab.raft import Role
from zmqlab.replica import ReplicaSettings
from zmqlab.wire import frames
from zmqlab.wire.client import ResponseStatus


def test_a_pending_request_goes_to_the_new_leader(network: Network) -> None:
    client_id = network.open_session(2)
    network.cut_off = {1}
    network.nodes[2].take(request(client_id, 1))
    network.settle()
    assert not network.nodes[2].answers
    leader = network.elect()
    network.tick()
    assert leader is not network.nodes[1]
    (response,) = network.nodes[2].answers
    assert (response.request_number, response.status) == (1, ResponseStatus.OK)
    network.heal()
    assert len(network.nodes[2].answers) == 1
    network.assert_agreed()


def test_an_old_leader_s_uncommitted_request_is_answered_when_it_is_heard_again(network: Network) -> None:
    client_id = network.open_session(1)
    network.cut_off = {1}
    network.nodes[1].take(request(client_id, 1))
    network.settle()
    network.elect()
    network.nodes[3].take(request(client_id, 2, quantity=7))
    network.settle()
    network.heal()
    (response,) = network.nodes[1].answers
    assert (response.request_number, response.status) == (1, ResponseStatus.OK)
    assert [node.machine.orders_applied for node in network.nodes.values()] == [2, 2, 2]
    network.assert_agreed()


def test_an_old_leader_steps_down_and_answers_nothing_while_it_is_alone(network: Network) -> None:
    client_id = network.open_session(1)
    network.cut_off = {1}
    network.nodes[1].take(request(client_id, 1))
    network.tick(5 * ELECTION_TICKS_MAX)
    assert network.nodes[1].replica.replication.role is not Role.LEADER
    assert not network.nodes[1].answers
    assert len(network.nodes[1].replica.pending) == 1


def test_a_forward_that_was_lost_is_sent_again(network: Network) -> None:
    client_id = network.open_session(2)
    network.lose = lambda sender, to, frame_type: frame_type == frames.FORWARD
    network.nodes[2].take(request(client_id, 1))
    network.settle()
    network.lose = lambda sender, to, frame_type: False
    network.tick(2 * network.nodes[2].replica.settings.resend_ticks)
    assert [answer.request_number for answer in network.nodes[2].answers] == [1]
    assert network.nodes[1].machine.orders_applied == 1


def test_a_request_that_is_asked_for_again_and_again_does_not_hold_up_the_others() -> None:
    """Requests 1 and 2 are lost on their way to the leader; only the first one's client asks again."""
    network = Network(ReplicaSettings(resend_ticks=10))
    client_id = network.open_session(2)
    other_id = network.open_session(3)
    network.lose = lambda sender, to, frame_type: frame_type == frames.FORWARD
    network.nodes[2].take(request(client_id, 1))
    network.nodes[2].take(request(other_id, 2))
    network.tick(19)
    network.nodes[2].take(request(client_id, 1))
    network.settle()
    network.lose = lambda sender, to, frame_type: False
    network.tick(11)  # the second pause before a request goes again is twice the first
    assert 2 in [answer.request_number for answer in network.nodes[2].answers]


def test_what_is_pending_goes_to_the_leader_in_slices_that_it_accepts() -> None:
    """More waits at node 2 than fits one frame: all of it went in one frame, which the leader dropped, and again a
    second later, for ever. (150 requests of 1,024 commands that arrive while a follower sleeps.)"""
    network = Network(ReplicaSettings(forward_bytes=1_000, resend_ticks=10))
    client_id = network.open_session(2)
    sizes: list[int] = []
    network.nodes[2].forward = watching(network.nodes[2].forward, sizes)  # type: ignore[method-assign]
    for number in range(1, 101):
        network.nodes[2].take(request(client_id, number))
    network.settle()
    assert len(network.nodes[2].answers) == 100
    assert len(sizes) > 5
    assert max(sizes) <= 1_000


def watching(forward: Callable[[int, list[bytes]], None], sizes: list[int]) -> Callable[[int, list[bytes]], None]:
    """``forward``, which notes how many bytes of requests each frame has."""

    def watched(leader_id: int, requests: list[bytes]) -> None:
        sizes.append(sum(map(len, requests)))
        forward(leader_id, requests)

    return watched


def test_a_copy_of_a_request_that_the_leader_has_proposed_costs_no_entry() -> None:
    """Nodes and clients ask again while a slow cluster is still at it: that made 3.2 to 3.7 entries of a request."""
    network = Network(ReplicaSettings(resend_ticks=10))
    client_id = network.open_session(2)
    before = network.leader.replica.replication.last_index
    network.lose = lambda sender, to, frame_type: frame_type == frames.APPEND_ENTRIES_RESPONSE
    network.nodes[2].take(request(client_id, 1))
    network.settle()
    for _ in range(4):
        network.nodes[2].take(request(client_id, 1))
        network.nodes[3].take(request(client_id, 1))
        network.settle()
    assert network.leader.replica.replication.last_index == before + 1
    network.heal()
    assert {answer.request_number for node in (2, 3) for answer in network.nodes[node].answers} == {1}
    network.nodes[1].take(request(client_id, 1))
    network.leader.replica.take_forwarded([request(client_id, 1)])
    network.settle()
    assert network.leader.replica.replication.last_index == before + 1, "nor does one that is applied"


def test_late_requests_go_again_at_doubling_intervals() -> None:
    network = Network(ReplicaSettings(resend_ticks=10))
    client_id = network.open_session(2)
    forwarded: list[int] = []
    network.lose = lambda sender, to, frame_type: frame_type == frames.FORWARD
    network.nodes[2].forward = watching(network.nodes[2].forward, forwarded)  # type: ignore[method-assign]
    network.nodes[2].take(request(client_id, 1))
    network.tick(200)
    assert 4 <= len(forwarded) <= 6, "at 0, 10, 30, 70 and 150 ticks, or a check later"


def test_a_cluster_that_is_slow_gets_more_time_before_it_is_asked_again() -> None:
    """Answers take 5 ticks. Requests of that age were sent again and again, without regard to that."""
    network = Network(ReplicaSettings(resend_ticks=2))
    client_id = network.open_session(2)
    forwarded: list[int] = []
    network.nodes[2].forward = watching(network.nodes[2].forward, forwarded)  # type: ignore[method-assign]
    copies = []
    for number in range(1, 21):
        network.lose = lambda sender, to, frame_type: to == 2 and frame_type == frames.APPEND_ENTRIES
        forwarded.clear()
        network.nodes[2].take(request(client_id, number, answered_below=number))
        network.tick(5)
        network.lose = lambda sender, to, frame_type: False
        network.tick(7)
        copies.append(len(forwarded))
    assert copies[0] > 1
    assert network.nodes[2].replica.pending == {}
    assert copies[-1] == 1, "by now it knows how long an answer takes"


def test_requests_wait_while_leadership_is_handed_over(network: Network) -> None:
    client_id = network.open_session(1)
    assert network.nodes[1].replica.replication.transfer_leadership(3)
    network.nodes[1].take(request(client_id, 1))
    network.nodes[2].take(request(client_id, 2))
    network.settle()
    network.tick(2)
    assert network.leader is network.nodes[3]
    assert [answer.request_number for answer in network.nodes[1].answers] == [1]
    assert [answer.request_number for answer in network.nodes[2].answers] == [2]
    network.assert_agreed()


def test_requests_that_are_over_do_not_fill_the_log_when_the_node_that_took_them_comes_back(network: Network) -> None:
    """The client got all answers from another node, and has said so."""
    client_id = network.open_session(1)
    network.cut_off = {3}
    network.tick(3 * ELECTION_TICKS_MAX)
    for number in range(1, 201):
        network.nodes[3].take(request(client_id, number))
        network.nodes[1].take(request(client_id, number, answered_below=number))
        network.settle()
    network.nodes[1].take(request(client_id, 201, answered_below=201))
    network.settle()
    before = network.leader.replica.replication.last_index
    network.heal()
    network.tick(3 * ReplicaSettings().resend_ticks)
    assert network.leader.replica.replication.last_index - before < 10, "what elections add"
    assert not network.nodes[3].replica.pending
    assert len(network.nodes[3].answers) == 200, "answered all the same, by the log"


def test_one_long_wait_does_not_make_the_next_lost_request_wait_as_long() -> None:
    """A request waited a minute at a node that was cut off. That is no time that answers take."""
    network = Network(ReplicaSettings(resend_ticks=100))
    client_id = network.open_session(1)
    node = network.nodes[2]
    network.cut_off = {2}
    node.take(request(client_id, 1))
    network.settle()
    network.tick(6_000)
    network.heal()
    assert len(node.answers) == 1
    lost: list[int] = []

    def lose_one(sender: int, to: int, frame_type: int) -> bool:
        if frame_type == frames.FORWARD and not lost:
            lost.append(sender)
            return True
        return False

    network.lose = lose_one
    node.take(request(client_id, 2, answered_below=2))
    network.settle()
    network.tick(17 * 100)
    assert lost
    assert not node.replica.pending
