"""Three replicas: who answers a request, what a new leader, a restart and a snapshot keep, and when a read may go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.replica.network import CLIENT, ELECTION_TICKS_MAX, RAFT, Network, request
from zmqlab.errors import FrameError
from zmqlab.raft import Role
from zmqlab.replica import RaftByQuorum, ReplicaSettings, Start
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames
from zmqlab.wire.client import ResponseStatus

SMALL_LOGS = ReplicaSettings(snapshot_log_bytes=2_000, keep_bytes=0)


@pytest.fixture
def network() -> Network:
    return Network()


# Requests.


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


# Losses.


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


def telling_those_that_wait(start: Start) -> RaftByQuorum:
    """No follower can count a commit, and a leader tells only those that wait for it."""
    return RaftByQuorum(start._replace(settings=replace(start.settings, store_first=False, tells_all=False)))


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


# Restarts and snapshots.


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


def test_the_log_in_memory_stays_bounded() -> None:
    network = Network(SMALL_LOGS)
    client_id = network.open_session()
    for number in range(1, 501):
        network.nodes[1].take(request(client_id, number, answered_below=number))
        network.settle()
        assert network.leader.replica.replication.log_bytes <= 2 * SMALL_LOGS.snapshot_log_bytes
    assert network.leader.replica.snapshots_total >= 15


# Reads.


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


def test_a_read_that_knows_its_index_and_never_reaches_it_fails_in_time() -> None:
    """Node 3 hears from the leader how far to read, and is cut off before the entries come."""
    network = Network(ReplicaSettings(read_ticks=50))
    client_id = network.open_session()
    network.lose = lambda sender, to, frame_type: to == 3 and frame_type == frames.APPEND_ENTRIES
    network.nodes[1].take(request(client_id, 1))
    network.settle()
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
    network = Network(ReplicaSettings(max_reads=5))
    client_id = network.open_session()
    network.lose = lambda sender, to, frame_type: to == 3 and frame_type == frames.APPEND_ENTRIES
    network.nodes[1].take(request(client_id, 1))
    network.settle()
    seen: list[bool] = []
    for _ in range(8):
        network.nodes[3].replica.read(seen.append)
        network.settle()
    assert seen == [False] * 3
    network.heal()
    assert seen == [False] * 3 + [True] * 5


def test_a_client_that_has_gone_gets_no_answer_and_its_request_counts(network: Network) -> None:
    client_id = network.open_session()
    network.nodes[2].replica.take_request(CLIENT, request(client_id, 1), 0)
    network.nodes[2].replica.turn()
    network.nodes[2].replica.pending.pop((client_id, 1))
    network.settle()
    assert not network.nodes[2].answers
    assert network.nodes[1].machine.orders_applied == 1


# A node that was away.


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
