"""Exactly-once requests over nodes that die, fall silent, lose answers, or say no: the session on real sockets."""

from __future__ import annotations

import random
import time

import pytest

from tests.client.conftest import MakeNodes
from tests.client.fake_node import FakeLog
from tests.client.steering import FAR_NS, ONE_ORDER, collect, connect, submit_to
from tests.waiting import wait_for
from zmqlab.client.connections import ConnectedSession
from zmqlab.client.retries import choose_node
from zmqlab.client.session import WINDOW_BYTES, SessionSettings
from zmqlab.errors import NoLeader, RequestTimeout, SessionExpired
from zmqlab.load.order_flow import OrderFlow
from zmqlab.wire.client import REPLAYED, ResponseStatus

pytestmark = pytest.mark.clock


def test_requests_are_numbered_answered_and_spread(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(3)
    with connect(nodes, node_choice="round-robin") as session:
        numbers = [session.submit(ONE_ORDER, token=f"token {i}").number for i in range(300)]
        assert numbers == list(range(1, 301))
        done = collect(session, 300)
        assert {each.request_number: each.token for each in done} == {i + 1: f"token {i}" for i in range(300)}
        assert len({each.response.log_index for each in done}) == 300
        assert all(each.attempts == 1 and each.first_sent_ns <= each.completed_ns for each in done)
        assert session.pending == 0
        assert session.room == 512
        assert session.counters.retries == 0
    assert all(node.requests == pytest.approx(100, abs=2) for node in nodes)


def test_a_lost_answer_is_asked_for_again_under_the_same_number(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(2)
    nodes[0].drop_answers = nodes[1].drop_answers = 1
    with connect(nodes, timeout_ms=50) as session:
        submit_to(session, 0)
        (done,) = collect(session, 1)
        assert done.attempts >= 2
        assert done.response.flags & REPLAYED
        assert log.arrivals[(session.client_id, 1)] >= 2
        assert len(log.answers) == 1
        assert done.completed_ns - done.first_sent_ns >= 50_000_000


def test_a_dead_nodes_requests_move_at_once(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(3)
    with connect(nodes, timeout_ms=5_000, suspicion_ms=5_000) as session:
        nodes[0].paused = True
        time.sleep(0.3)
        for _ in range(20):
            submit_to(session, 0)
        assert session.poll(50) == []
        nodes[0].kill()
        done = collect(session, 20)
        assert max(each.completed_ns - each.first_sent_ns for each in done) < 4e9, "the connection tells, no time-out"
        assert {each.node for each in done} <= {1, 2}
        assert [each.attempts for each in done] == [2] * 20
        assert session.counters.failovers == 1
        assert not session.connected[0]
        submit_to(session, 0)
        assert collect(session, 1)[0].attempts == 1, "new requests avoid it"
        nodes[0].start()
        nodes[0].paused = False
        while not session.connected[0]:
            session.poll(20)
        submit_to(session, 0)
        assert collect(session, 1)[0].node == 0, "and find it again"
    assert max(log.arrivals.values()) == 1, "the paused node never read them"


def test_a_paused_node_is_suspected_and_its_late_answers_are_ignored(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(2)
    with connect(nodes, timeout_ms=5_000, suspicion_ms=60) as session:
        nodes[0].paused = True
        time.sleep(0.3)
        for _ in range(10):
            submit_to(session, 0)
        done = collect(session, 10)
        assert {each.node for each in done} == {1}
        for _ in range(10):
            session.submit(ONE_ORDER)
        assert {each.node for each in collect(session, 10)} == {1}
        nodes[0].paused = False
        while session.counters.duplicates < 10:
            assert session.poll(20) == []
        submit_to(session, 0)
        assert collect(session, 1)[0].node == 0, "its word clears it"
    assert len(log.answers) == 21


def test_a_request_that_was_overtaken_is_sent_again_early(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(2)
    with connect(nodes, timeout_ms=10_000) as session:
        nodes[0].lose_requests = 1
        submit_to(session, 0)
        time.sleep(0.15)
        submit_to(session, 0)
        done = collect(session, 2)
        assert {each.request_number: each.attempts for each in done} == {1: 2, 2: 1}
        assert session.counters.overtaken == 1


@pytest.mark.parametrize("status", [ResponseStatus.BUSY, ResponseStatus.CLOSING])
def test_a_refused_request_goes_elsewhere(make_nodes: MakeNodes, status: ResponseStatus) -> None:
    nodes = make_nodes(2)
    with connect(nodes) as session:
        nodes[0].refuse_status = status
        submit_to(session, 0)
        (done,) = collect(session, 1)
        assert (done.node, done.attempts, done.response.status) == (1, 2, ResponseStatus.OK)


def test_when_all_are_busy_requests_wait_and_new_ones_are_held_back(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(2)
    with connect(nodes) as session:
        for node in nodes:
            node.refuse_status = ResponseStatus.BUSY
        session.submit(ONE_ORDER)
        assert wait_for(lambda: session.poll(10) == [] and session.room == 0)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            assert session.poll(10) == []
        assert wait_for(lambda: session.poll(10) == [] and session.room == 0), "at times it is on its way"
        assert session.counters.busy < 30, "it backs off"
        for node in nodes:
            node.refuse_status = 0
        collect(session, 1)
        assert session.room == 512


def test_window_full_is_sent_again_with_what_has_been_answered_since(make_nodes: MakeNodes, log: FakeLog) -> None:
    (node,) = make_nodes(1)
    with connect([node]) as session:
        node.refuse_status, node.refuse_count = ResponseStatus.WINDOW_FULL, 3
        session.submit(ONE_ORDER)
        (done,) = collect(session, 1)
        assert done.attempts == 4
        assert session.counters.window_full == 3


def test_an_expired_session_raises_after_the_last_answer(make_nodes: MakeNodes) -> None:
    (node,) = make_nodes(1)
    with connect([node]) as session:
        node.refuse_status = ResponseStatus.SESSION_EXPIRED
        session.submit(ONE_ORDER)
        with pytest.raises(SessionExpired, match="outcome of 1 requests"):
            collect(session, 1)


def test_the_window_counts_from_the_first_unanswered_request(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(1)
    with connect(nodes, window=4, timeout_ms=60_000, suspicion_ms=60_000) as session:
        nodes[0].lose_requests = 1
        for _ in range(4):
            session.submit(ONE_ORDER)
        assert {each.request_number for each in collect(session, 3)} == {2, 3, 4}
        assert session.room == 0, "three are answered, but the first is not"


def test_the_window_is_bounded_in_bytes_too(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(1)
    full = OrderFlow(seed=1).take(1_024).tobytes()
    with connect(nodes) as session:
        nodes[0].paused = True
        while session.room:
            session.submit(full)
        assert session.pending == WINDOW_BYTES // len(full) + 1
        nodes[0].paused = False
        collect(session, session.pending)
        assert session.room == 512


def test_with_no_node_alive_requests_wait_for_one(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(2)
    with connect(nodes) as session:
        for node in nodes:
            node.kill()
        while any(session.connected):
            session.poll(10)
        session.submit(ONE_ORDER)
        assert session.poll(50) == []
        assert session.room == 0
        nodes[1].start()
        (done,) = collect(session, 1)
        assert done.attempts == 1
        nodes[0].start()


def test_the_leader_is_found_and_followed(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(3)
    nodes[1].leads = True
    with connect(nodes, node_choice="leader") as session:
        while session.leader != 1:
            session.poll(10)
        for _ in range(10):
            session.submit(ONE_ORDER)
        assert {each.node for each in collect(session, 10)} == {1}
        nodes[2].leads = True
        nodes[1].kill()
        while session.leader != 2:
            session.poll(10)
        session.submit(ONE_ORDER)
        assert collect(session, 1)[0].node == 2
        nodes[1].start()


def test_opening_fails_with_a_reason(make_nodes: MakeNodes) -> None:
    (node,) = make_nodes(1)
    node.refuse_status = ResponseStatus.BUSY
    with ConnectedSession([node.endpoint]) as session, pytest.raises(NoLeader, match="BUSY"):
        session.open(timeout_ms=200)
    with ConnectedSession(["tcp://127.0.0.1:1"]) as session, pytest.raises(RequestTimeout, match="0 of 1 nodes"):
        session.open(timeout_ms=200)


def test_opening_asks_the_next_node_when_one_is_silent(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(2)
    nodes[0].paused = True
    with ConnectedSession([node.endpoint for node in nodes], SessionSettings(node_choice="round-robin")) as session:
        assert session.open(timeout_ms=30_000) > 0


def test_a_slow_cluster_gets_each_request_about_once(make_nodes: MakeNodes, log: FakeLog) -> None:
    """The old client sent four copies of each: its time-out knew nothing of the response time, and nodes that had not
    answered for a while counted as silent although all of them were slow."""
    nodes = make_nodes(3)
    with connect(nodes, timeout_ms=200, suspicion_ms=100) as session:
        for node in nodes:
            node.delay_s = 0.8
        deadline, due, answered = time.monotonic() + 4, time.monotonic(), 0
        while time.monotonic() < deadline or session.pending:
            if due < time.monotonic() < deadline and session.room:
                session.submit(ONE_ORDER)
                due += 0.02
            answered += len(session.poll(5))
        assert answered == len(log.arrivals) > 100
        assert log.arrivals.total() / len(log.arrivals) < 1.4, session.counters


def test_without_candidates_no_node_is_chosen() -> None:
    assert choose_node([], (), "random", 1, None, random.Random(1)) is None


def test_an_answer_whose_signal_a_send_has_swallowed_is_found(make_nodes: MakeNodes) -> None:
    """Libzmq's descriptor signals an arrival once, and every call on the socket takes the signal back."""
    (node,) = make_nodes(1)
    with connect([node]) as session:
        first = session.submit(ONE_ORDER).number
        while node.requests < 1:
            time.sleep(0.01)
        time.sleep(0.1)  # the answer is in the socket
        node.lose_requests = 1
        session.submit(ONE_ORDER)
        session._next_tend_ns = FAR_NS  # the look at all sockets every 5 ms would find it, too
        done = session.poll(1_000)
        assert [each.request_number for each in done] == [first]
        assert session.poll(1) == []
