"""Nodes come and go: clients learn of new ones, forget old ones, and are not misled by those that are behind."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import zmq

from tests.load.conftest import MakeNodes
from tests.load.fake_node import FakeLog, FakeNode
from tests.load.test_requester import ONE_ORDER, collect, connect
from zmqlab.load.requester import Requester
from zmqlab.load.settings import NodeChoice


def poll_until(requester: Requester, condition: Callable[[], bool], timeout_s: float = 4.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{requester.endpoints}, connected {requester.connected}"
        assert requester.poll(5) == []


def poll_for(requester: Requester, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert requester.poll(5) == []


def endpoints(*nodes: FakeNode) -> tuple[str, ...]:
    return tuple(node.endpoint for node in nodes)


def all_say(nodes: list[FakeNode], *members: FakeNode, commit_index: int) -> None:
    for node in nodes:
        node.says(*members, commit_index=commit_index)


@pytest.mark.parametrize("choice", ["random", "round-robin", "leader"])
def test_a_new_node_is_learned_of_and_used(make_nodes: MakeNodes, choice: NodeChoice) -> None:
    old, new = (nodes := make_nodes(2))
    new.leads = True
    all_say(nodes, old, new, commit_index=5)
    with connect([old], node_choice=choice) as requester:
        poll_until(requester, lambda: requester.connected == [True, True])
        assert requester.endpoints == endpoints(old, new)
        if choice == "leader":
            poll_until(requester, lambda: requester.leader == 1)
        for _ in range(20):
            requester.submit(ONE_ORDER)
        assert {each.node for each in collect(requester, 20)} == ({1} if choice == "leader" else {0, 1})


def test_a_removed_node_is_left_and_what_it_owed_goes_elsewhere(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(3)
    all_say(nodes, *nodes, commit_index=5)
    with connect(nodes, timeout_ms=60_000, suspicion_ms=60_000) as requester:
        poll_for(requester, 0.2)
        nodes[1].lose_requests = 20
        for _ in range(20):
            requester.submit(ONE_ORDER, node_hint=1)
        poll_for(requester, 0.1)
        all_say([nodes[0], nodes[2]], nodes[0], nodes[2], commit_index=6)
        done = collect(requester, 20, timeout_s=2)
        assert {each.node for each in done} <= {0, 2}, "no time-out and no suspicion was waited for"
        assert {each.response.status for each in done} == {0}
        assert requester.endpoints == endpoints(nodes[0], nodes[2])
        assert requester.connected == [True, False, True], "indexes are stable"
        assert requester.counters.failovers == 1
        asked = nodes[1].requests
        for _ in range(20):
            requester.submit(ONE_ORDER, node_hint=1)
        collect(requester, 20)
        assert nodes[1].requests == asked == 20
    assert max(log.arrivals.values()) == 1, "the lost ones were never applied by the node that left"


def test_the_sockets_of_a_node_that_was_left_are_closed(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(2)
    all_say(nodes, *nodes, commit_index=5)
    with connect(nodes) as requester:
        poll_for(requester, 0.1)
        left = requester.sockets[2:]
        nodes[0].says(nodes[0], commit_index=6)
        poll_until(requester, lambda: len(requester.sockets) == 2)
        assert all(socket.closed for socket in left)
        assert requester.changes == 1


def test_one_that_is_behind_is_not_believed(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(3)
    all_say(nodes[:2], *nodes, commit_index=50)
    nodes[2].says(nodes[2], commit_index=40)
    nodes[2].term = 9
    with connect(nodes) as requester:
        poll_for(requester, 2.3)
        assert requester.connected == [True, True, True]
        nodes[2].says(nodes[1], nodes[2], commit_index=51)
        poll_until(requester, lambda: requester.connected == [False, True, True])


def test_a_stale_node_that_is_heard_first_does_not_cut_off_the_others(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(4)
    nodes[3].says(nodes[3], nodes[2], nodes[1], commit_index=40)
    all_say(nodes[:3], *nodes[:3], commit_index=50)
    nodes[1].kill()
    nodes[2].kill()
    nodes[0].paused = True
    with Requester([nodes[3].endpoint, nodes[0].endpoint]) as requester:
        poll_for(requester, 1.0)
        assert requester.endpoints == endpoints(nodes[3], nodes[0], nodes[2], nodes[1]), "more, not less"
        nodes[0].paused = False
        nodes[1].start()
        poll_until(requester, lambda: set(requester.endpoints) == set(endpoints(*nodes[:3])))
        nodes[2].start()
        poll_until(requester, lambda: all(requester.connected[1:]))


def test_of_equal_indexes_the_later_term_counts(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(2)
    all_say(nodes, *nodes, commit_index=50)
    with connect(nodes) as requester:
        poll_for(requester, 0.2)
        nodes[1].term = 2
        heard: list[int] = []
        nodes[1].on_query = lambda: heard.append(1)
        poll_until(requester, lambda: bool(heard))
        poll_for(requester, 0.3)
        nodes[0].says(nodes[0], commit_index=50)
        poll_for(requester, 1.2)
        assert requester.connected == [True, True], "an uncommitted membership of an old leader"


def test_one_that_is_no_member_itself_is_not_believed(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(3)
    all_say(nodes[:2], *nodes, commit_index=50)
    nodes[2].says(nodes[0], commit_index=60)
    with connect(nodes) as requester:
        poll_for(requester, 2.3)
        assert requester.connected == [True, True, True]


def test_learners_are_not_asked(make_nodes: MakeNodes) -> None:
    voter, learner = (nodes := make_nodes(2))
    voter.learners = [learner]
    all_say(nodes, *nodes, commit_index=50)
    with connect([voter]) as requester:
        poll_for(requester, 1.2)
        assert requester.connected == [True]
        voter.learners, voter.commit_index = [], 51
        poll_until(requester, lambda: requester.connected == [True, True])


def test_the_only_connection_stays_until_there_is_another(make_nodes: MakeNodes) -> None:
    old, new = (nodes := make_nodes(2))
    new.kill()
    old.says(*nodes, commit_index=5)
    with Requester([old.endpoint]) as requester:
        requester.open(timeout_ms=2_000)
        poll_until(requester, lambda: requester.endpoints == endpoints(old, new))
        new.says(new, commit_index=7)
        old.says(old, new, commit_index=6)
        old.learners = [old]
        poll_for(requester, 1.3)
        assert requester.connected == [True, False], "not a voter any more, and yet the only one"
        requester.submit(ONE_ORDER)
        assert collect(requester, 1)[0].node == 0
        new.start()
        poll_until(requester, lambda: requester.connected == [False, True])
        assert requester.endpoints == endpoints(new)


def test_all_that_the_caller_knew_may_go(make_nodes: MakeNodes, log: FakeLog) -> None:
    first, others = (nodes := make_nodes(5))[:2], nodes[2:]
    all_say(nodes, *nodes, commit_index=5)
    with connect(first) as requester:
        poll_until(requester, lambda: requester.connected == [True] * 5)
        for _ in range(10):
            requester.submit(ONE_ORDER)
        for node in first:
            node.kill()
        all_say(others, *others, commit_index=6)
        collect(requester, 10)
        poll_until(requester, lambda: requester.endpoints == endpoints(*others))
        requester.submit(ONE_ORDER)
        assert collect(requester, 1)[0].node in {2, 3, 4}
        for node in first:
            node.start()
    assert len(log.answers) == 11


def test_with_all_known_nodes_gone_the_first_ones_are_tried_again(make_nodes: MakeNodes) -> None:
    first, second = (nodes := make_nodes(2))
    all_say(nodes, second, commit_index=5)
    first.says(first, second, commit_index=4)
    with connect([first]) as requester:
        poll_until(requester, lambda: requester.endpoints == endpoints(second))
        second.kill()
        requester.submit(ONE_ORDER)
        assert collect(requester, 1)[0].node == 0, "the index belongs to the endpoint"
        second.start()
        poll_until(requester, lambda: requester.connected == [False, True])


def test_fallbacks_are_tried_when_nobody_else_is_there(make_nodes: MakeNodes) -> None:
    (node,) = make_nodes(1)
    with Requester(["tcp://127.0.0.1:1"], fallbacks=[node.endpoint]) as requester:
        assert requester.open(timeout_ms=3_000) > 0


def test_another_spelling_of_an_endpoint_is_the_same_node(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(2)
    all_say(nodes, *nodes, commit_index=5)
    spelled = nodes[0].endpoint.replace("127.0.0.1", "localhost")
    with Requester([spelled]) as requester:
        requester.open(timeout_ms=2_000)
        poll_until(requester, lambda: requester.endpoints == (spelled, nodes[1].endpoint))
        nodes[0].kill()
        poll_until(requester, lambda: not requester.connected[0])
        all_say(nodes[1:], *nodes, commit_index=6)
        poll_for(requester, 0.5)
        nodes[0].start()
        poll_until(requester, lambda: requester.endpoints == (spelled, nodes[1].endpoint) and requester.connected[0])


def test_a_new_node_in_an_old_ones_place(make_nodes: MakeNodes) -> None:
    """A disk was wiped: the same endpoint, another identity, and for a while no member at all."""
    nodes = make_nodes(2)
    all_say(nodes, *nodes, commit_index=5)
    with connect(nodes) as requester:
        poll_for(requester, 0.2)
        nodes[1].kill()
        nodes[1].node_id += 1_000
        nodes[1].learners = nodes[0].learners = [nodes[1]]
        all_say(nodes, *nodes, commit_index=6)
        nodes[1].commit_index = 0
        nodes[1].start()
        poll_until(requester, lambda: requester.endpoints == endpoints(nodes[0]))
        nodes[0].learners, nodes[0].commit_index = [], 7
        poll_until(requester, lambda: requester.connected == [True, True])


def test_queries_cost_little(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(3)
    all_say(nodes, *nodes, commit_index=5)
    asked: list[int] = []
    for node in nodes:
        node.on_query = lambda: asked.append(1)
    with connect(nodes) as requester:
        poll_for(requester, 2.2)
    assert 6 <= len(asked) <= 18, "three nodes, once a second and when a connection comes up"
    assert isinstance(requester.sockets[0], zmq.Socket)
