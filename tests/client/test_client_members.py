"""``Client`` follows the cluster: its questions go to the members of the moment."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from tests.client.fake_node import FakeLog, FakeNode
from zmqlab.client import ask
from zmqlab.client.order_client import Client
from zmqlab.errors import RequestError, SettingsError


@pytest.fixture
def nodes() -> Iterator[list[FakeNode]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    log = FakeLog()
    made = [FakeNode(context, log, f"node{number}") for number in range(5)]
    yield made
    for node in made:
        node.kill()
    context.term()


def say(nodes: list[FakeNode], *members: FakeNode, commit_index: int) -> None:
    for node in nodes:
        node.says(*members, commit_index=commit_index)


def endpoints(nodes: list[FakeNode]) -> tuple[str, ...]:
    return tuple(node.endpoint for node in nodes)


def test_the_members_are_found_from_any_known_node(nodes: list[FakeNode]) -> None:
    say(nodes, *nodes[:3], commit_index=5)
    assert set(ask.follow_members(endpoints(nodes[:1]))) == set(endpoints(nodes[:3]))
    say(nodes, *nodes[1:], commit_index=6)
    assert ask.follow_members(endpoints(nodes[:3])) == endpoints(nodes[1:])


def test_a_name_is_looked_up_when_a_client_begins(nodes: list[FakeNode], monkeypatch: pytest.MonkeyPatch) -> None:
    """libzmq was given the name, and its answer of that moment was all that the client ever knew."""
    addresses: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", (address, 0)) for address in addresses])
    say(nodes, nodes[0], commit_index=5)
    named = nodes[0].endpoint.replace("127.0.0.1", "node0.lan")
    with Client([named], timeout_s=30) as client:
        assert client.endpoints == (named,)
        with pytest.raises(RequestError, match=r"nothing was sent: no address is known for node0\.lan"):
            client.buy("A", 1, 1)
        addresses += ["127.0.0.1"]
        assert client.buy("A", 1, 1).order_id
        assert client.endpoints == (nodes[0].endpoint,)


def test_a_minority_drops_no_node(nodes: list[FakeNode]) -> None:
    say(nodes, *nodes[3:], commit_index=5)
    nodes[1].paused = nodes[2].paused = True
    assert ask.follow_members(endpoints(nodes[:3]), 0.1) == endpoints(nodes)


def test_without_any_answer_nothing_is_known(nodes: list[FakeNode]) -> None:
    nodes[0].paused = True
    assert ask.follow_members(endpoints(nodes[:1]), 0.05) == ()


def test_a_node_that_says_nothing_of_members_changes_nothing(nodes: list[FakeNode]) -> None:
    assert ask.follow_members(endpoints(nodes[:2])) == endpoints(nodes[:2])


def test_a_client_goes_on_when_all_first_nodes_are_gone(nodes: list[FakeNode], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmqlab.client.order_client.LOOK_S", 0)
    say(nodes, *nodes, commit_index=5)
    with Client(endpoints(nodes[:2]), timeout_s=30) as client:
        assert len(client.status()) == 5
        say(nodes[2:], *nodes[2:], commit_index=6)
        for node in nodes[:2]:
            node.kill()
        assert sorted(node.endpoint for node in client.status()) == sorted(endpoints(nodes[2:]))
        assert client.buy("AAPL", 5, 100).order_id == 1
        assert set(client.endpoints) == set(endpoints(nodes[2:]))
        for node in nodes[:2]:
            node.start()


def test_sending_orders_finds_the_members_too(nodes: list[FakeNode]) -> None:
    say(nodes, *nodes[:3], commit_index=5)
    with Client(endpoints(nodes[:1]), timeout_s=30) as client:
        deadline = 400
        while len(client.endpoints) < 3 and deadline:
            client.buy("AAPL", 5, 100)
            deadline -= 1
        assert client.endpoints == endpoints(nodes[:3])


def test_a_closed_client_says_so() -> None:
    client = Client(["tcp://127.0.0.1:9"])
    client.close()
    for ask_it in (lambda: client.buy("A", 1, 1), lambda: client.book("A"), lambda: client.trades("A"), client.status):
        with pytest.raises(RequestError, match="this client is closed"):
            ask_it()


@pytest.mark.parametrize("endpoints", [5, None, (), "tcp://127.0.0.1:9", [5], ["127.0.0.1:9"]])
def test_endpoints_that_are_none(endpoints: Any) -> None:
    with pytest.raises(SettingsError, match="endpoint"):
        Client(endpoints)
