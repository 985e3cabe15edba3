"""Exactly-once requests over nodes that die, fall silent, lose answers, or say no."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.load.conftest import MakeNodes
from tests.load.fake_node import FakeLog, FakeNode
from zmqlab.errors import NoLeader, RequestTimeout, SessionExpired
from zmqlab.load.choice import choose_node
from zmqlab.load.flow import OrderFlow
from zmqlab.load.requester import Requester
from zmqlab.load.requests import Completion
from zmqlab.load.window import WINDOW_BYTES
from zmqlab.wire.client import REPLAYED, ResponseStatus

ONE_ORDER = OrderFlow(seed=1).take(1).tobytes()


def connect(nodes: Sequence[FakeNode], **options: Any) -> Requester:
    requester = Requester([node.endpoint for node in nodes], rng=random.Random(1), **options)
    requester.open(timeout_ms=2_000)
    while not all(requester.connected):
        requester.poll(5)
    return requester


def collect(requester: Requester, count: int, timeout_s: float = 3.0) -> list[Completion]:
    done: list[Completion] = []
    deadline = time.monotonic() + timeout_s
    while len(done) < count and time.monotonic() < deadline:
        done += requester.poll(20)
    assert len(done) == count, f"{len(done)} of {count} answered, {requester.counters}"
    return done


def test_requests_are_numbered_answered_and_spread(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(3)
    with connect(nodes, node_choice="round-robin") as requester:
        numbers = [requester.submit(ONE_ORDER, token=f"token {i}") for i in range(300)]
        assert numbers == list(range(1, 301))
        done = collect(requester, 300)
        assert {each.request_number: each.token for each in done} == {i + 1: f"token {i}" for i in range(300)}
        assert len({each.response.log_index for each in done}) == 300
        assert all(each.attempts == 1 and each.first_sent_ns <= each.completed_ns for each in done)
        assert requester.pending == 0
        assert requester.room == 512
        assert requester.counters.retries == 0
    assert all(node.requests == pytest.approx(100, abs=2) for node in nodes)


def test_a_lost_answer_is_asked_for_again_under_the_same_number(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(2)
    nodes[0].drop_answers = nodes[1].drop_answers = 1
    with connect(nodes, timeout_ms=50) as requester:
        requester.submit(ONE_ORDER, node_hint=0)
        (done,) = collect(requester, 1)
        assert done.attempts >= 2
        assert done.response.flags & REPLAYED
        assert log.arrivals[(requester.client_id, 1)] >= 2
        assert len(log.answers) == 1
        assert done.completed_ns - done.first_sent_ns >= 50_000_000


def test_a_dead_nodes_requests_move_at_once(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(3)
    with connect(nodes, timeout_ms=5_000, suspicion_ms=5_000) as requester:
        nodes[0].paused = True
        time.sleep(0.03)
        for _ in range(20):
            requester.submit(ONE_ORDER, node_hint=0)
        assert requester.poll(50) == []
        nodes[0].kill()
        started = time.monotonic()
        done = collect(requester, 20)
        assert time.monotonic() - started < 0.2, "the monitor tells, not a time-out"
        assert {each.node for each in done} <= {1, 2}
        assert [each.attempts for each in done] == [2] * 20
        assert requester.counters.failovers == 1
        assert not requester.connected[0]
        requester.submit(ONE_ORDER, node_hint=0)
        assert collect(requester, 1)[0].attempts == 1, "new requests avoid it"
        nodes[0].start()
        nodes[0].paused = False
        while not requester.connected[0]:
            requester.poll(20)
        requester.submit(ONE_ORDER, node_hint=0)
        assert collect(requester, 1)[0].node == 0, "and find it again"
    assert max(log.arrivals.values()) == 1, "the paused node never read them"


def test_a_paused_node_is_suspected_and_its_late_answers_are_ignored(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(2)
    with connect(nodes, timeout_ms=5_000, suspicion_ms=60) as requester:
        nodes[0].paused = True
        time.sleep(0.03)
        for _ in range(10):
            requester.submit(ONE_ORDER, node_hint=0)
        done = collect(requester, 10, timeout_s=1)
        assert {each.node for each in done} == {1}
        for _ in range(10):
            requester.submit(ONE_ORDER)
        assert {each.node for each in collect(requester, 10)} == {1}
        nodes[0].paused = False
        while requester.counters.duplicates < 10:
            assert requester.poll(20) == []
        requester.submit(ONE_ORDER, node_hint=0)
        assert collect(requester, 1)[0].node == 0, "its word clears it"
    assert len(log.answers) == 21


def test_a_request_that_was_overtaken_is_sent_again_early(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(2)
    with connect(nodes, timeout_ms=10_000) as requester:
        nodes[0].lose_requests = 1
        requester.submit(ONE_ORDER, node_hint=0)
        time.sleep(0.15)
        requester.submit(ONE_ORDER, node_hint=0)
        done = collect(requester, 2)
        assert {each.request_number: each.attempts for each in done} == {1: 2, 2: 1}
        assert requester.counters.overtaken == 1


@pytest.mark.parametrize("status", [ResponseStatus.BUSY, ResponseStatus.CLOSING])
def test_a_refused_request_goes_elsewhere(make_nodes: MakeNodes, status: ResponseStatus) -> None:
    nodes = make_nodes(2)
    with connect(nodes) as requester:
        nodes[0].refuse_status = status
        requester.submit(ONE_ORDER, node_hint=0)
        (done,) = collect(requester, 1, timeout_s=0.5)
        assert (done.node, done.attempts, done.response.status) == (1, 2, ResponseStatus.OK)


def test_when_all_are_busy_requests_wait_and_new_ones_are_held_back(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(2)
    with connect(nodes) as requester:
        for node in nodes:
            node.refuse_status = ResponseStatus.BUSY
        requester.submit(ONE_ORDER)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            assert requester.poll(10) == []
        assert requester.room == 0
        assert requester.counters.busy < 30, "it backs off"
        for node in nodes:
            node.refuse_status = 0
        collect(requester, 1, timeout_s=1)
        assert requester.room == 512


def test_window_full_is_sent_again_with_what_has_been_answered_since(make_nodes: MakeNodes, log: FakeLog) -> None:
    (node,) = make_nodes(1)
    with connect([node]) as requester:
        node.refuse_status, node.refuse_count = ResponseStatus.WINDOW_FULL, 3
        requester.submit(ONE_ORDER)
        (done,) = collect(requester, 1)
        assert done.attempts == 4
        assert requester.counters.window_full == 3


def test_an_expired_session_raises_after_the_last_answer(make_nodes: MakeNodes) -> None:
    (node,) = make_nodes(1)
    with connect([node]) as requester:
        node.refuse_status = ResponseStatus.SESSION_EXPIRED
        requester.submit(ONE_ORDER)
        with pytest.raises(SessionExpired, match="outcome of 1 requests"):
            collect(requester, 1)


def test_the_window_counts_from_the_first_unanswered_request(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(1)
    with connect(nodes, window=4, timeout_ms=60_000, suspicion_ms=60_000) as requester:
        nodes[0].lose_requests = 1
        for _ in range(4):
            requester.submit(ONE_ORDER)
        assert {each.request_number for each in collect(requester, 3)} == {2, 3, 4}
        assert requester.room == 0, "three are answered, but the first is not"


def test_the_window_is_bounded_in_bytes_too(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(1)
    full = OrderFlow(seed=1).take(1_024).tobytes()
    with connect(nodes) as requester:
        nodes[0].paused = True
        while requester.room:
            requester.submit(full)
        assert requester.pending == WINDOW_BYTES // len(full) + 1
        nodes[0].paused = False
        collect(requester, requester.pending)
        assert requester.room == 512


def test_with_no_node_alive_requests_wait_for_one(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(2)
    with connect(nodes) as requester:
        for node in nodes:
            node.kill()
        while any(requester.connected):
            requester.poll(10)
        requester.submit(ONE_ORDER)
        assert requester.poll(50) == []
        assert requester.room == 0
        nodes[1].start()
        (done,) = collect(requester, 1)
        assert done.attempts == 1
        nodes[0].start()


def test_the_leader_is_found_and_followed(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(3)
    nodes[1].leads = True
    with connect(nodes, node_choice="leader") as requester:
        while requester.leader != 1:
            requester.poll(10)
        for _ in range(10):
            requester.submit(ONE_ORDER)
        assert {each.node for each in collect(requester, 10)} == {1}
        nodes[2].leads = True
        nodes[1].kill()
        while requester.leader != 2:
            requester.poll(10)
        requester.submit(ONE_ORDER)
        assert collect(requester, 1)[0].node == 2
        nodes[1].start()


def test_opening_fails_with_a_reason(make_nodes: MakeNodes) -> None:
    (node,) = make_nodes(1)
    node.refuse_status = ResponseStatus.BUSY
    with Requester([node.endpoint]) as requester, pytest.raises(NoLeader, match="BUSY"):
        requester.open(timeout_ms=200)
    with Requester(["tcp://127.0.0.1:1"]) as requester, pytest.raises(RequestTimeout, match="0 of 1 nodes"):
        requester.open(timeout_ms=200)


def test_opening_asks_the_next_node_when_one_is_silent(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(2)
    nodes[0].paused = True
    with Requester([node.endpoint for node in nodes], node_choice="round-robin") as requester:
        assert requester.open(timeout_ms=3_000) > 0


def test_nobody_to_choose_from() -> None:
    assert choose_node([], None, "random", 1, None, random.Random(1)) is None
