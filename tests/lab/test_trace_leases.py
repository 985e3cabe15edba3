"""Tracing that is asked for: a caller goes on when the nodes tell, and not when they have merely said yes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
import zmq

from tests.lab.fake_node import status_of
from tests.waiting import wait_for
from zmqlab.endpoints import CLIENT_PORT
from zmqlab.lab import trace_leases as leases
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.fleet import Fleet
from zmqlab.lab.started_cluster import StartedCluster
from zmqlab.lab.trace_leases import trace
from zmqlab.wire import control, frames
from zmqlab.wire.traces import Trace, TraceQuery, encode_trace


class SlowlyHeard:
    """A node that says yes at once, and whose first TRACE frame comes a while later: the subscription travels."""

    def __init__(self, late_s: float = 0.2) -> None:
        self._late_s = late_s
        self.told = False
        self.callers: list[bytes] = []
        """The connections on which it was asked, in the order of the questions."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._publisher = self._context.socket(zmq.XPUB)
        self._router = self._context.socket(zmq.ROUTER)
        while True:
            self.port = self._publisher.bind_to_random_port("tcp://127.0.0.1")
            try:
                self._router.bind(f"tcp://127.0.0.1:{self.port + CLIENT_PORT}")
                break
            except zmq.ZMQError:
                self._publisher.unbind(f"tcp://127.0.0.1:{self.port}")
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._publisher.close(0)
        self._router.close(0)
        self._context.term()

    def _run(self) -> None:
        tell_s = 0.0
        while not self._ending.is_set():
            status = status_of("node0", self.port, leads=True)
            status.address = f"tcp://127.0.0.1:{self.port}"
            self._publisher.send(control.encode(frames.METRICS, status))
            if tell_s and time.monotonic() > tell_s:
                self.told = True
                now_ns = time.monotonic_ns()
                told = Trace(
                    name="node0", node_id=self.port, clock_ns=now_ns, time_ns=0, since_ns=now_ns, sequence=1, share=1.0
                )
                self._publisher.send(encode_trace(told))
            if self._router.poll(20):
                identity, frame = self._router.recv_multipart()
                self.callers.append(identity)
                query = control.decode_query(frame)
                if isinstance(query, TraceQuery):
                    tell_s = tell_s or time.monotonic() + self._late_s
                answer = control.OkAnswer(query.nonce, "traced")
                self._router.send_multipart([identity, control.encode(frames.ANSWER, answer)])


@pytest.fixture
def feed() -> Iterator[MetricsFeed]:
    with MetricsFeed() as feed:
        yield feed


@pytest.fixture(params=[0.2, 1.5], ids=["soon", "on a busy machine"])
def node(feed: MetricsFeed, request: pytest.FixtureRequest) -> Iterator[SlowlyHeard]:
    node = SlowlyHeard(request.param)
    feed.connect(f"tcp://127.0.0.1:{node.port}")
    yield node
    node.close()


def test_a_trace_has_begun_when_the_nodes_tell(feed: MetricsFeed, node: SlowlyHeard) -> None:
    assert wait_for(lambda: "node0" in feed.newest())
    traces = trace(feed, share=1, seconds=5)
    assert node.told
    assert traces.has_heard([node.port], 0.0)


def test_a_node_is_asked_again_on_one_connection_which_ends_with_the_wish(
    feed: MetricsFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.1)
    for patience in ("SILENT_S", "ANSWER_S", "LEASE_S"):  # a line to a node that a busy machine keeps waiting is cut
        monkeypatch.setattr(leases, patience, 30.0)
    node = SlowlyHeard()
    feed.connect(f"tcp://127.0.0.1:{node.port}")
    assert wait_for(lambda: "node0" in feed.newest())
    trace(feed, share=1, seconds=5)
    assert wait_for(lambda: len(node.callers) >= 3)
    assert len(set(node.callers)) == 1
    wanted = cast(leases.TraceLeases, feed.trace_leases)
    assert len(wanted._lines) == 1
    trace(feed, share=1, seconds=0)
    assert wait_for(lambda: wanted._thread is None)
    assert len(wanted._lines) == 0
    node.close()


def test_a_cluster_waits_until_each_node_that_runs_was_heard(feed: MetricsFeed) -> None:
    fleet = cast("Fleet", SimpleNamespace(running=("node0",)))
    rooms = StartedCluster("lab", None, feed, fleet, *[None] * 4, end=None)  # type: ignore[arg-type, misc]
    late: list[SlowlyHeard] = []

    def begin() -> None:
        time.sleep(0.2)
        late.append(SlowlyHeard())
        feed.connect(f"tcp://127.0.0.1:{late[0].port}")

    thread = threading.Thread(target=begin)
    thread.start()
    try:
        assert rooms.hear_all()
        assert "node0" in feed.newest()
    finally:
        thread.join()
        late[0].close()
