"""Fake clusters that are gone after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import zmq

from tests.client.fake_node import FakeLog, FakeNode

MakeNodes = Callable[[int], list[FakeNode]]


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def make_nodes(log: FakeLog) -> Iterator[MakeNodes]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[FakeNode] = []

    def make(count: int) -> list[FakeNode]:
        nodes = [FakeNode(context, log, f"node-{number + 1}") for number in range(count)]
        made.extend(nodes)
        return nodes

    yield make
    for node in made:
        node.kill()
    context.destroy(linger=0)  # also what a test that failed has left open, which a bare term() would wait for
