"""The run against real node processes: hostile messages through real sockets, as a stranger on the network sends them.

A cluster of one and a cluster of three, each with orders in a book. Between batches a good client asks the attacked
node for its status, over a connection of its own, and the time until it answers is measured; when the batch is behind
it, the node must

- have counted just the frames that are to be refused (:mod:`tests.fuzz.legal`): so none was lost, and none is stuck;
- have the same hash of the whole state at the same log index, the same term, leader and members;
- not have grown.

At the end a good client's orders are acknowledged, and every process is the one that was started.

What a follower's acknowledgement may say depends on how many rounds its leader has begun, which cannot be seen from
outside; there the count is checked between two bounds.

A hostile publisher can only be heard where a member is expected to publish. So for broadcasts one of the three is
killed, and the stranger publishes at its port. What does not begin as an AppendEntries does is thrown away by libzmq's
subscription at either end, and not counted here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import zmq

from tests.fuzz.handlers import MAX_GROWTH_BYTES, Outcome
from tests.fuzz.hostile import Hostile, Parts, View
from tests.fuzz.legal import Verdict, verdict
from zmqlab.client import ask
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.hosts import LocalHost, LocalNode
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.control import HashAnswer, HashQuery, OkAnswer, StatusAnswer, StatusQuery, TransferQuery
from zmqlab.wire.node_status import NodeStatus

BATCH = 1_000
BATCHES_PER_CONNECTION = 20
"""Then the stranger comes back under another identity."""
BATCHES_PER_LOOK = 200
ANSWER_TIMEOUT_S = 60.0
ELECTION_TICKS = 200
MANY_ROUNDS = 1_000_000
"""More than a leader begins in such a run."""

Progress = Callable[[int], None]


class Target:
    """One attacked node: its good client, and what must not change."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.endpoint = endpoint
        self.answer_ms_max = 0.0
        self._good = context.socket(zmq.DEALER)
        self._good.setsockopt(zmq.LINGER, 0)
        self._good.connect(endpoint)
        self.session = self._open_session()
        self.first = self.status()
        self.bad_low = self.bad_high = self.first.bad_frames_total
        """Between these its counter must be."""
        self._state = self._hashes()

    def look(self) -> None:
        """What is so now must stay so."""
        self.first = self.status()
        self.bad_low = self.bad_high = self.first.bad_frames_total
        self._state = self._hashes()
        self.answer_ms_max = 0.0

    @property
    def port(self) -> int:
        """Its base port."""
        return self.first.port

    def close(self) -> None:
        self._good.close(0)

    def status(self) -> NodeStatus:
        """By the good client, whose wait is measured."""
        began = time.perf_counter()
        answer = self._ask(StatusQuery(1))
        self.answer_ms_max = max(self.answer_ms_max, (time.perf_counter() - began) * 1e3)
        assert isinstance(answer, StatusAnswer)
        return answer.status

    def view(self, rounds: int = 0) -> View:
        """What an eavesdropper knows; ``rounds`` is a guess."""
        status = self.first
        return View(
            status.node_id,
            tuple(member.node_id for member in status.members),
            status.term,
            status.leader_id,
            status.last_index,
            status.commit_index,
            rounds,
            self.session,
            tuple(f"tcp://{member.host}:{member.port}" for member in status.members),
        )

    def await_refusals(self) -> None:
        """Until the node has counted what it must refuse."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while (status := self.status()).bad_frames_total < self.bad_low:
            missing = self.bad_low - status.bad_frames_total
            assert time.monotonic() < deadline, f"{missing} frames of this batch were not refused by {status.name}"
        assert status.bad_frames_total <= self.bad_high, f"{status.bad_frames_total - self.bad_high} too many refused"
        self._assert_unchanged(status)

    def _assert_unchanged(self, status: NodeStatus) -> None:
        for what in ("node_id", "pid", "term", "leader_id", "role", "last_index", "commit_index", "applied_index"):
            before, after = getattr(self.first, what), getattr(status, what)
            assert before == after, f"{what} of {status.name} was {before} and is {after}"
        assert _places(status) == _places(self.first), "the members have changed"
        assert (status.sessions, status.open_orders) == (self.first.sessions, self.first.open_orders)
        assert status.rss_bytes - self.first.rss_bytes < MAX_GROWTH_BYTES, "its memory grows"
        assert self._hashes() == self._state, "its state has changed"

    def _hashes(self) -> tuple[int, str, str]:
        answer = self._ask(HashQuery(2))
        assert isinstance(answer, HashAnswer)
        return answer.index, answer.chain_hash, answer.state_hash

    def _ask(self, query: control.Query) -> control.Answer:
        self._good.send(control.encode(frames.QUERY, query))
        return control.decode_answer(self._receive())

    def _receive(self) -> bytes:
        assert self._good.poll(int(ANSWER_TIMEOUT_S * 1e3)), f"{self.endpoint} does not answer a good client"
        return self._good.recv()

    def _open_session(self) -> int:
        self._good.send(client_wire.encode_open_session(1))
        (response,) = client_wire.iter_responses(self._receive())
        return response.client_id


def _places(status: NodeStatus) -> list[tuple[int, int, bool]]:
    return [(member.node_id, member.port, member.voter) for member in status.members]


def run_processes(socket: str, count: int, seed: int, progress: Progress = lambda _: None) -> list[Outcome]:
    """``count`` messages for ``socket`` of real nodes. Raises AssertionError at the first wrong turn."""
    if socket == "broadcasts":
        return [_attack_subscribers(count, seed, progress)]
    outcomes = []
    for size, share in ((1, count // 3), (3, count - count // 3)):
        with _cluster(size) as cluster, zmq.Context() as context:
            leader = cluster.leader
            names = [leader, *(name for name in cluster.nodes if name != leader)][:2]
            for name in names:
                what = f"{socket}, process {'that leads' if name == leader else 'that follows'} of {size}"
                target = Target(context, cluster.endpoints[cluster.nodes.index(name)])
                _settle(cluster, [target])
                offset = 2 if socket == "clients" else 1
                stranger = Stranger(context, target.port + offset, random.Random(seed))
                try:
                    outcomes.append(_attack(socket, what, [target], stranger, share // len(names), seed, progress))
                finally:
                    stranger.close()
                    target.close()
    return outcomes


class Stranger:
    """A DEALER that comes back under another identity now and then."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], port: int, rng: random.Random) -> None:
        self._context, self._port, self._rng = context, port, rng
        self._socket: zmq.Socket[bytes] | None = None
        self._batches = 0

    def send(self, messages: list[Parts]) -> None:
        if self._socket is None or self._batches % BATCHES_PER_CONNECTION == 0:
            self.close()
            self._socket = self._context.socket(zmq.DEALER)
            self._socket.setsockopt(zmq.SNDHWM, 0)
            self._socket.setsockopt(zmq.LINGER, 0)
            identity = self._rng.randbytes(self._rng.choice((1, 8, 254)))
            self._socket.setsockopt(zmq.IDENTITY, b"x" + identity)  # one that begins with a zero is libzmq's own
            self._socket.connect(f"tcp://127.0.0.1:{self._port}")
        self._batches += 1
        for parts in messages:
            self._socket.send_multipart(parts, copy=True)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close(0)


class Publisher:
    """A PUB in a dead member's place."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], port: int) -> None:
        self._socket = context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(f"tcp://127.0.0.1:{port}")

    def send(self, messages: list[Parts]) -> None:
        for parts in messages:
            self._socket.send_multipart(parts)

    def close(self) -> None:
        self._socket.close(0)


def _attack(
    socket: str,
    what: str,
    targets: list[Target],
    stranger: Stranger | Publisher,
    count: int,
    seed: int,
    progress: Progress,
) -> Outcome:
    outcome = Outcome(what)
    hostile = Hostile(socket, targets[0].view(), random.Random(seed))
    began, batches = time.perf_counter(), 0
    try:
        while outcome.frames < count:
            batches += 1
            if batches % BATCHES_PER_LOOK == 0:
                hostile.look(targets[0].view())
            messages = list(_choose(socket, hostile, targets, outcome, min(BATCH, count - outcome.frames)))
            stranger.send(messages)
            for target in targets:
                target.await_refusals()
            if batches % 10 == 0:
                progress(outcome.frames)
    except BaseException as error:
        error.add_note(f"{what}: seed {seed}, after {outcome.frames:,} frames, in batch {batches}")
        raise
    outcome.seconds = time.perf_counter() - began
    outcome.bad = targets[0].status().bad_frames_total - targets[0].first.bad_frames_total
    outcome.harmless = outcome.frames - outcome.bad
    outcome.grown_bytes = max(target.status().rss_bytes - target.first.rss_bytes for target in targets)
    outcome.answer_ms_max = max(target.answer_ms_max for target in targets)
    return outcome


def _choose(socket: str, hostile: Hostile, targets: list[Target], outcome: Outcome, most: int) -> Iterator[Parts]:
    """Messages that are not legal at any target; each target's count of bad ones is moved on."""
    topic = frames.topic(frames.APPEND_ENTRIES)
    guesses = [(target, target.view(0), target.view(MANY_ROUNDS)) for target in targets]
    for parts in hostile.messages(most):
        if socket == "broadcasts" and not parts[0].startswith(topic):
            continue
        is_odd = len(parts) != 1
        judged = [
            (target, Verdict.BAD, Verdict.BAD)
            if is_odd
            else (target, verdict(socket, parts[0], few), verdict(socket, parts[0], many))
            for target, few, many in guesses
        ]
        if any(Verdict.LEGAL in verdicts for _, *verdicts in judged):
            outcome.left_out += 1
            continue
        for target, few_rounds, many_rounds in judged:
            target.bad_high += few_rounds is Verdict.BAD
            target.bad_low += many_rounds is Verdict.BAD
        outcome.odd += is_odd
        outcome.frames += 1
        yield parts


def _attack_subscribers(count: int, seed: int, progress: Progress) -> Outcome:
    with _cluster(3) as cluster, zmq.Context() as context:
        dead = cluster.leader  # it hands over before it dies, so that there is an older term to speak of
        endpoints = dict(zip(cluster.nodes, cluster.endpoints, strict=True))
        ask.ask_one(endpoints[dead], TransferQuery(1), OkAnswer)
        _await_other_leader(cluster, dead)
        port = int(endpoints[dead].rpartition(":")[2]) - 2
        targets = [Target(context, endpoints[name]) for name in cluster.nodes if name != dead]
        cluster.kill(dead)
        _settle(cluster, targets)
        publisher = Publisher(context, port)
        try:
            _await_subscriptions(publisher, targets)
            return _attack("broadcasts", "broadcasts, 2 of 3 processes", targets, publisher, count, seed, progress)
        finally:
            publisher.close()
            for target in targets:
                target.close()


def _await_other_leader(cluster: Cluster, than: str) -> None:
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while cluster.leader in ("", than):
        assert time.monotonic() < deadline, "leadership is not handed over"
        time.sleep(0.05)


def _await_subscriptions(publisher: Publisher, targets: list[Target]) -> None:
    """A SUB tries a lost connection again, and subscribes after that."""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    waiting = set(targets)
    while waiting:
        assert time.monotonic() < deadline, "the nodes do not subscribe"
        publisher.send([[frames.topic(frames.APPEND_ENTRIES)]])
        time.sleep(0.05)
        waiting = {target for target in waiting if target.status().bad_frames_total == target.bad_low}
    time.sleep(0.2)
    for target in targets:
        target.look()


class PatientHost(LocalHost):
    """Nodes that wait long before they call an election, so that a change of term is not the doing of a machine on
    which others work."""

    def start(self, settings: NodeSettings) -> LocalNode:
        return super().start(replace(settings, election_ticks=ELECTION_TICKS))


@contextmanager
def _cluster(size: int) -> Iterator[Cluster]:
    """A cluster with orders in its book, whose processes must all be there at the end, and take orders."""
    with Cluster(nodes=size, host=PatientHost(), keys=False) as cluster, cluster.client() as client:
        for price in range(90, 100):
            client.buy("AAPL", 10, price)
            client.sell("AAPL", 10, price + 20)
        yield cluster
        assert len(cluster.running) >= size - 1
        assert client.buy("AAPL", 10, 80).order_id


def _settle(cluster: Cluster, targets: list[Target]) -> None:
    """Until all agree, and the targets know what must not change from here on."""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        statuses = [target.status() for target in targets]
        indexes = {(s.last_index, s.commit_index, s.applied_index, s.term, s.leader_id) for s in statuses}
        (last, commit, applied, _, leader) = next(iter(indexes))
        if len(indexes) == 1 and last == commit == applied and leader:
            break
        assert time.monotonic() < deadline, "the cluster does not come to rest"
        time.sleep(0.05)
    time.sleep(0.2)
    assert cluster.leader
    for target in targets:
        target.look()
