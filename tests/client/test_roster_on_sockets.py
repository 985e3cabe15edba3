"""Nodes come and go: a client learns of new ones, leaves old ones, and is not misled by nodes that are behind."""

from __future__ import annotations

import time

import pytest
import zmq

from tests.client.conftest import MakeNodes
from tests.client.fake_node import FakeLog, FakeNode
from tests.client.steering import ONE_ORDER, collect, connect, poll_for, poll_until, submit_to
from zmqlab.client.connections import ConnectedSession
from zmqlab.client.retries import NodeChoice


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
    with connect([old], node_choice=choice) as session:
        poll_until(session, lambda: session.connected == [True, True])
        assert session.endpoints == endpoints(old, new)
        if choice == "leader":
            poll_until(session, lambda: session.leader == 1)
        for _ in range(20):
            session.submit(ONE_ORDER)
        assert {each.node for each in collect(session, 20)} == ({1} if choice == "leader" else {0, 1})


def test_a_removed_node_is_left_and_what_it_owed_goes_elsewhere(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(3)
    all_say(nodes, *nodes, commit_index=5)
    with connect(nodes, timeout_ms=60_000, suspicion_ms=60_000) as session:
        poll_for(session, 0.2)
        nodes[1].lose_requests = 20
        for _ in range(20):
            submit_to(session, 1)
        poll_for(session, 0.1)
        all_say([nodes[0], nodes[2]], nodes[0], nodes[2], commit_index=6)
        done = collect(session, 20, timeout_s=30)
        assert {each.node for each in done} <= {0, 2}, "no time-out and no suspicion was waited for"
        assert {each.response.status for each in done} == {0}
        assert session.endpoints == endpoints(nodes[0], nodes[2])
        assert session.connected == [True, False, True], "indexes are stable"
        assert session.counters.failovers == 1
        asked = nodes[1].requests
        for _ in range(20):
            submit_to(session, 1)
        collect(session, 20)
        assert nodes[1].requests == asked == 20
    assert max(log.arrivals.values()) == 1, "the lost ones were never applied by the node that left"


def test_the_sockets_of_a_node_that_was_left_are_closed(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(2)
    all_say(nodes, *nodes, commit_index=5)
    with connect(nodes) as session:
        poll_for(session, 0.1)
        left = session.sockets[1:]
        nodes[0].says(nodes[0], commit_index=6)
        poll_until(session, lambda: len(session.sockets) == 1)
        assert all(socket.closed for socket in left)
        assert session.changes == 1


def test_a_node_that_is_behind_is_not_believed(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(3)
    all_say(nodes[:2], *nodes, commit_index=50)
    nodes[2].says(nodes[2], commit_index=40)
    nodes[2].term = 9
    with connect(nodes) as session:
        poll_for(session, 2.3)
        assert session.connected == [True, True, True]
        nodes[2].says(nodes[1], nodes[2], commit_index=51)
        poll_until(session, lambda: session.connected == [False, True, True])


def test_a_stale_node_that_is_heard_first_does_not_cut_off_the_others(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(4)
    nodes[3].says(nodes[3], nodes[2], nodes[1], commit_index=40)
    all_say(nodes[:3], *nodes[:3], commit_index=50)
    nodes[1].kill()
    nodes[2].kill()
    nodes[0].paused = True
    with ConnectedSession([nodes[3].endpoint, nodes[0].endpoint]) as session:
        more_not_less = endpoints(nodes[3], nodes[0], nodes[2], nodes[1])
        poll_until(session, lambda: session.endpoints == more_not_less)
        poll_for(session, 0.5)
        assert session.endpoints == more_not_less
        nodes[0].paused = False
        nodes[1].start()
        poll_until(session, lambda: set(session.endpoints) == set(endpoints(*nodes[:3])))
        nodes[2].start()
        poll_until(session, lambda: all(session.connected[1:]))


def test_of_equal_indexes_the_later_term_counts(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(2)
    all_say(nodes, *nodes, commit_index=50)
    with connect(nodes) as session:
        poll_for(session, 0.2)
        nodes[1].term = 2
        heard: list[int] = []
        nodes[1].on_query = lambda: heard.append(1)
        poll_until(session, lambda: bool(heard))
        poll_for(session, 0.3)
        nodes[0].says(nodes[0], commit_index=50)
        poll_for(session, 1.2)
        assert session.connected == [True, True], "an uncommitted membership of an old leader"


def test_a_node_that_is_no_member_by_its_own_account_is_not_believed(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(3)
    all_say(nodes[:2], *nodes, commit_index=50)
    nodes[2].says(nodes[0], commit_index=60)
    with connect(nodes) as session:
        poll_for(session, 2.3)
        assert session.connected == [True, True, True]


def test_learners_are_not_asked(make_nodes: MakeNodes) -> None:
    voter, learner = (nodes := make_nodes(2))
    voter.learners = [learner]
    all_say(nodes, *nodes, commit_index=50)
    with connect([voter]) as session:
        poll_for(session, 1.2)
        assert session.connected == [True]
        voter.learners, voter.commit_index = [], 51
        poll_until(session, lambda: session.connected == [True, True])


def test_the_only_connection_stays_until_there_is_another(make_nodes: MakeNodes) -> None:
    old, new = (nodes := make_nodes(2))
    new.kill()
    old.says(*nodes, commit_index=5)
    with ConnectedSession([old.endpoint]) as session:
        session.open(timeout_ms=30_000)
        poll_until(session, lambda: session.endpoints == endpoints(old, new))
        new.says(new, commit_index=7)
        old.says(old, new, commit_index=6)
        old.learners = [old]
        poll_for(session, 1.3)
        assert session.connected == [True, False], "not a voter any more, and yet the only one"
        session.submit(ONE_ORDER)
        assert collect(session, 1)[0].node == 0
        new.start()
        poll_until(session, lambda: session.connected == [False, True])
        assert session.endpoints == endpoints(new)


def test_all_nodes_that_the_caller_knew_may_go(make_nodes: MakeNodes, log: FakeLog) -> None:
    first, others = (nodes := make_nodes(5))[:2], nodes[2:]
    all_say(nodes, *nodes, commit_index=5)
    with connect(first) as session:
        poll_until(session, lambda: session.connected == [True] * 5)
        for _ in range(10):
            session.submit(ONE_ORDER)
        for node in first:
            node.kill()
        all_say(others, *others, commit_index=6)
        collect(session, 10)
        poll_until(session, lambda: session.endpoints == endpoints(*others))
        session.submit(ONE_ORDER)
        assert collect(session, 1)[0].node in {2, 3, 4}
        for node in first:
            node.start()
    assert len(log.answers) == 11


def test_when_all_known_nodes_are_gone_the_first_ones_are_tried_again(make_nodes: MakeNodes) -> None:
    first, second = (nodes := make_nodes(2))
    all_say(nodes, second, commit_index=5)
    first.says(first, second, commit_index=4)
    with connect([first]) as session:
        poll_until(session, lambda: session.endpoints == endpoints(second))
        second.kill()
        session.submit(ONE_ORDER)
        assert collect(session, 1)[0].node == 0, "the index belongs to the endpoint"
        second.start()
        poll_until(session, lambda: session.connected == [False, True])


def test_fallbacks_are_tried_when_no_other_node_is_there(make_nodes: MakeNodes) -> None:
    (node,) = make_nodes(1)
    with ConnectedSession(["tcp://127.0.0.1:1"], fallbacks=[node.endpoint]) as session:
        assert session.open(timeout_ms=30_000) > 0


def test_another_spelling_of_an_endpoint_is_the_same_node(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(2)
    all_say(nodes, *nodes, commit_index=5)
    spelled = nodes[0].endpoint.replace("127.0.0.1", "localhost")
    with ConnectedSession([spelled]) as session:
        session.open(timeout_ms=30_000)
        poll_until(session, lambda: session.endpoints == (spelled, nodes[1].endpoint))
        nodes[0].kill()
        poll_until(session, lambda: not session.connected[0])
        all_say(nodes[1:], *nodes, commit_index=6)
        poll_for(session, 0.5)
        nodes[0].start()
        poll_until(session, lambda: session.endpoints == (spelled, nodes[1].endpoint) and session.connected[0])


def test_a_new_node_in_an_old_ones_place(make_nodes: MakeNodes) -> None:
    """A disk was wiped: the same endpoint, another identity, and for a while no member at all."""
    nodes = make_nodes(2)
    all_say(nodes, *nodes, commit_index=5)
    with connect(nodes) as session:
        poll_for(session, 0.2)
        nodes[1].kill()
        nodes[1].node_id += 1_000
        nodes[1].learners = nodes[0].learners = [nodes[1]]
        all_say(nodes, *nodes, commit_index=6)
        nodes[1].commit_index = 0
        nodes[1].start()
        poll_until(session, lambda: session.endpoints == endpoints(nodes[0]))
        nodes[0].learners, nodes[0].commit_index = [], 7
        poll_until(session, lambda: session.connected == [True, True])


def test_queries_cost_little(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(3)
    all_say(nodes, *nodes, commit_index=5)
    asked: list[int] = []
    for node in nodes:
        node.on_query = lambda: asked.append(1)
    began_s = time.monotonic()
    with connect(nodes) as session:
        poll_for(session, 2.2)
        poll_until(session, lambda: len(asked) >= 6)
    took_s = time.monotonic() - began_s
    assert len(asked) <= 3 * (took_s + 3.8), "three nodes, once a second and when a connection comes up"
    assert isinstance(session.sockets[0], zmq.Socket)
