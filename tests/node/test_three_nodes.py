"""Three real nodes at moments that only real processes have: one sleeps, one closes, and a client waits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from tests.waiting import PATIENCE_S, wait_for
from zmqlab import net
from zmqlab.client import ask
from zmqlab.lab.cluster import Cluster
from zmqlab.market.types import Command, Side
from zmqlab.wire import client as wire
from zmqlab.wire import records

pytestmark = pytest.mark.process

SESSIONS, REQUESTS, COMMANDS = 3, 50, 1_024
"""150 requests and 6 MB: more than the 4 MiB that a node takes from another one in one frame. Three sessions, because
the answers of one may have 4 MiB."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """The leader waits long for its followers before it steps down, and for their answer before it ends: what a test
    does meanwhile may take long, too."""
    with Cluster(3, run_dir=tmp_path, settings={"election_ticks": 200, "drain_ms": 20_000}) as running:
        yield running


class Wire:
    """A DEALER to one node, by hand."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        net.attach(self._socket, cluster.endpoints[list(cluster.nodes).index(name)])

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self, count: int, timeout_s: float) -> list[wire.Response]:
        """So many answers, or fewer if the time is up."""
        answers: list[wire.Response] = []
        deadline = time.monotonic() + timeout_s
        while len(answers) < count and (left_s := deadline - time.monotonic()) > 0:
            if self._socket.poll(int(left_s * 1000) + 1):
                answers += wire.iter_responses(self._socket.recv())
        return answers

    def open(self) -> int:
        nonce = ask.new_nonce()
        self.send(wire.encode_open_session(nonce))
        (answer,) = self.receive(1, PATIENCE_S)
        return answer.client_id


def request(client_id: int, number: int, orders: Sequence[Command]) -> bytes:
    return wire.encode_request(client_id, number, 1, records.pack_commands(orders))


def followers(cluster: Cluster) -> list[str]:
    leader = cluster.leader
    return [name for name in cluster.nodes if name != leader]


def pending(cluster: Cluster, name: str) -> int:
    """How many requests this node has taken and not answered; -1: it does not say."""
    endpoint = cluster.endpoints[cluster.nodes.index(name)]
    told = ask.statuses([endpoint]).get(endpoint)
    return -1 if told is None else told.pending_requests


def test_what_arrives_while_a_follower_sleeps_is_answered_when_it_wakes(cluster: Cluster) -> None:
    """All of it is forwarded in one turn. In one frame it was above what a node takes, and was sent again and again."""
    follower = followers(cluster)[0]
    orders = [Command.limit(Side.BUY, "AAPL", 1, 100 + number % 50) for number in range(COMMANDS)]
    with Wire(cluster, follower) as client:
        ids = [client.open() for _ in range(SESSIONS)]
        os.kill(cluster.pid(follower), signal.SIGSTOP)
        for client_id in ids:
            for number in range(1, REQUESTS + 1):
                client.send(request(client_id, number, orders))
        time.sleep(0.3)
        os.kill(cluster.pid(follower), signal.SIGCONT)
        answers = client.receive(SESSIONS * REQUESTS, 2 * PATIENCE_S)
    assert len(answers) == SESSIONS * REQUESTS
    assert {answer.status for answer in answers} == {wire.ResponseStatus.OK}
    assert len({answer.log_index for answer in answers}) == SESSIONS * REQUESTS


def test_a_node_that_closes_answers_what_it_took_and_refuses_what_comes(cluster: Cluster) -> None:
    """The order is in the leader's log and on no other node when the leader is told to end."""
    leader, others = cluster.leader, followers(cluster)
    log = cluster.log_path(leader)
    with Wire(cluster, leader) as client:
        client_id = client.open()
        order = [Command.limit(Side.BUY, "AAPL", 1, 100)]
        for name in others:
            os.kill(cluster.pid(name), signal.SIGSTOP)
        try:
            client.send(request(client_id, 1, order))
            assert wait_for(lambda: pending(cluster, leader) == 1), "no majority can have it"
            os.kill(cluster.pid(leader), signal.SIGTERM)
            assert wait_for(lambda: "closes, as leader" in log.read_text(), 15)
            client.send(request(client_id, 2, order))
            (refused,) = client.receive(1, 15)
        finally:
            for name in others:
                with suppress(ProcessLookupError):
                    os.kill(cluster.pid(name), signal.SIGCONT)
        (answered,) = client.receive(1, PATIENCE_S)
    assert (refused.request_number, refused.status) == (2, wire.ResponseStatus.CLOSING)
    assert (answered.request_number, answered.status) == (1, wire.ResponseStatus.OK)
    assert answered.log_index
    with cluster.client() as reader:
        assert reader.book("AAPL").bids == [(100, 1, 1)]
