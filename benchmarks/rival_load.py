"""One open-loop load of Redis, etcd or NATS, in a process of its own; prints what ``load_once.py`` prints.

The schedule is that of this project's load client. A batch of what is due leaves at once while fewer than two batches
are under way, and otherwise at most once in a millisecond. A batch has at most 1,024 orders and is one write: 40 bytes
for each order, as in the protocol of this project. Latency counts from when an order was due. At rate null a fixed
number of batches is kept outstanding.

How each is driven:

- *Redis*: a pool of connections to the primary, each with one batch under way: ``RPUSH orders BATCH`` and ``WAIT 1`` in
  one send. More than one under way on a connection is of no use: ``WAIT`` blocks it.
- *etcd*: gRPC, up to 512 ``Put`` under way on one channel to the leader, each with a key of its own.
- *NATS*: one connection to the leader of the stream; each batch is a message with a reply subject, on which the
  acknowledgement of JetStream comes. Up to 512 are under way.

Redis and NATS are spoken by the few lines below, which take less CPU than the libraries for them.

    python benchmarks/rival_load.py KIND '{"endpoints": [["127.0.0.1", 6379]], "rate": 5000, "duration_s": 5}'
"""

from __future__ import annotations

import collections
import json
import os
import select
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from load_once import cpu_s, end_with_parent

from zmqlab.histogram import Histogram
from zmqlab.load.measurement import LatencyRecorder
from zmqlab.load.schedule import NEVER_NS, Schedule

ORDER_BYTES = 40
BATCH_MAX = 1_024
CLOSED_BATCHES, CLOSED_BATCH = 16, 256
"""As the load client has it at rate "max"."""
WINDOW = 512
REDIS_CONNECTIONS = 32
INTERVAL_NS = 1_000_000
AT_ONCE = 2
"""While fewer batches are under way, the next one leaves as soon as there is an order for it."""
DRAIN_S = 5.0
LATE_NS = 5_000_000
PAYLOAD = os.urandom(BATCH_MAX * ORDER_BYTES)
"""Bytes that do not get smaller by compression."""
Done = Callable[[Any], None]


class Peer(ABC):
    """Sends batches; :meth:`receive` says which of them were acknowledged."""

    window = WINDOW
    pending = 0

    @abstractmethod
    def sockets(self) -> list[Any]:
        """What to wait on."""

    @abstractmethod
    def send(self, batch: bytes, token: Any) -> None:
        """Only called while :attr:`pending` is below :attr:`window`."""

    @abstractmethod
    def receive(self, ready: Any) -> list[Any]:
        """The tokens of the batches that were acknowledged on a socket that has something."""


class Redis(Peer):
    """A pool of connections, one batch under way on each."""

    window = REDIS_CONNECTIONS

    def __init__(self, endpoints: list[list[Any]]) -> None:
        host, port = endpoints[0]
        self._idle = [connected(host, port) for _ in range(REDIS_CONNECTIONS)]
        self._busy: dict[socket.socket, Any] = {}
        self._said: dict[socket.socket, bytes] = collections.defaultdict(bytes)

    def sockets(self) -> list[Any]:
        return list(self._busy)

    def send(self, batch: bytes, token: Any) -> None:
        connection = self._idle.pop()
        self._busy[connection] = token
        self.pending += 1
        head = b"*3\r\n$5\r\nRPUSH\r\n$6\r\norders\r\n$%d\r\n" % len(batch)
        connection.sendall(head + batch + b"\r\n*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n")

    def receive(self, ready: Any) -> list[Any]:
        said = self._said[ready] + received(ready)
        lines = said.split(b"\r\n")
        if len(lines) < 3:  # two lines, each with its end
            self._said[ready] = said
            return []
        if lines[0][:1] != b":" or lines[1][:1] != b":" or int(lines[1][1:]) < 1:
            raise SystemExit(f"Redis refused: {said!r}")
        self._said[ready] = b""
        self._idle.append(ready)
        self.pending -= 1
        return [self._busy.pop(ready)]


class Nats(Peer):
    """One connection; the reply subject of a message is its number."""

    def __init__(self, endpoints: list[list[Any]]) -> None:
        self._socket = connected(*endpoints[0])
        self._inbox = b"_INBOX." + os.urandom(8).hex().encode()
        self._socket.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %s.* 1\r\n' % self._inbox)
        self._waiting: dict[bytes, Any] = {}
        self._number = 0
        self._said = b""

    def sockets(self) -> list[Any]:
        return [self._socket]

    def send(self, batch: bytes, token: Any) -> None:
        self._number += 1
        subject = b"%s.%d" % (self._inbox, self._number)
        self._waiting[subject] = token
        self.pending += 1
        self._socket.sendall(b"PUB orders %s %d\r\n%s\r\n" % (subject, len(batch), batch))

    def receive(self, ready: Any) -> list[Any]:
        self._said += received(ready)
        tokens = []
        while (end := self._said.find(b"\r\n")) >= 0:
            words = self._said[:end].split()
            if words[0] == b"MSG":
                size = int(words[-1])
                if len(self._said) < end + 4 + size:
                    break
                body, self._said = self._said[end + 2 : end + 2 + size], self._said[end + 4 + size :]
                if b'"error"' in body:
                    raise SystemExit(f"JetStream refused: {body.decode()}")
                tokens.append(self._waiting.pop(words[1]))
                self.pending -= 1
                continue
            self._said = self._said[end + 2 :]
            if words[0] == b"PING":
                self._socket.sendall(b"PONG\r\n")
            elif words[0] == b"-ERR":
                raise SystemExit(f"NATS refused: {words}")
        return tokens


class Etcd(Peer):
    """One channel to the leader. gRPC calls back in its own threads, which wake this one through a pair of sockets."""

    def __init__(self, endpoints: list[list[Any]]) -> None:
        import grpc

        host, port = endpoints[0]
        channel = grpc.insecure_channel(f"{host}:{port}")
        self._put = channel.unary_unary("/etcdserverpb.KV/Put", request_serializer=None, response_deserializer=None)
        self._done: collections.deque[tuple[Any, Any]] = collections.deque()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._prefix = os.urandom(4)
        self._number = 0

    def sockets(self) -> list[Any]:
        return [self._ours]

    def send(self, batch: bytes, token: Any) -> None:
        self._number += 1
        self.pending += 1
        key = self._prefix + self._number.to_bytes(8, "big")
        call = self._put.future(field(1, key) + field(2, batch), timeout=10)
        call.add_done_callback(lambda future: self._tell(future, token))

    def receive(self, ready: Any) -> list[Any]:
        received(ready)
        tokens = []
        while self._done:
            future, token = self._done.popleft()
            future.result()
            tokens.append(token)
            self.pending -= 1
        return tokens

    def _tell(self, future: Any, token: Any) -> None:
        self._done.append((future, token))
        self._theirs.send(b"x")


def field(number: int, value: bytes) -> bytes:
    """A field of bytes in a message of protocol buffers."""
    length, size = b"", len(value)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def connected(host: str, port: int) -> socket.socket:
    """Over TCP, without Nagle's delay."""
    connection = socket.create_connection((host, port), 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def received(connection: socket.socket) -> bytes:
    """What is there; ends the process if the server has gone."""
    said = connection.recv(1 << 16)
    if not said:
        raise SystemExit("the server closed a connection")
    return said


class Sent(NamedTuple):
    """A batch under way."""

    intended_ns: Any
    """When each of its orders was due."""


class Driver:
    """The open loop, or the closed one at rate None."""

    def __init__(self, peer: Peer, rate: float | None, seconds: float) -> None:
        self._peer = peer
        self._closed = rate is None
        self._latency = LatencyRecorder()
        self._start_ns = time.monotonic_ns()
        self._end_ns = self._start_ns + round(seconds * 1e9)
        self._schedule = Schedule(rate or 0.0, start_ns=self._start_ns, duration_s=seconds)
        self._next_send_ns = 0
        self._last_ns = self._start_ns
        self.orders = self.requests = self.sent = self.late = 0

    def run(self) -> dict[str, Any]:
        """To the end; returns the figures."""
        began_s = cpu_s()
        while not self._is_over(time.monotonic_ns()):
            self._turn()
        elapsed_s = (max(self._last_ns, self._end_ns) - self._start_ns) / 1e9
        histogram: Histogram = self._latency.histogram()
        p50, p99, p99_9 = (value / 1e6 for value in histogram.percentiles((50, 99, 99.9)))
        waiting = 0 if self._closed else max(self._schedule.due_count(self._end_ns), 0)
        return {
            "orders": self.orders,
            "offered_per_s": (self.sent + waiting) / ((self._end_ns - self._start_ns) / 1e9),
            "unserved": self.sent + waiting - self.orders,
            "requests": self.requests,
            "throughput": self.orders / elapsed_s,
            "elapsed_s": elapsed_s,
            "cpu_s": cpu_s() - began_s,
            "late": self.late > 0.01 * max(self.sent, 1),
            "p50_ms": p50,
            "p99_ms": p99,
            "p99_9_ms": p99_9,
            "max_ms": histogram.max / 1e6,
        }

    def _is_over(self, now_ns: int) -> bool:
        if now_ns < self._end_ns:
            return False
        owed = self._peer.pending or (not self._closed and self._schedule.next_due_ns != NEVER_NS)
        return not owed or now_ns > self._end_ns + DRAIN_S * 1e9

    def _turn(self) -> None:
        now_ns = time.monotonic_ns()
        if self._closed:
            self._fill(now_ns)
        else:
            self._send_due(now_ns)
        ready, _, _ = select.select(self._peer.sockets(), (), (), self._patience_s())
        for each in ready:
            for token in self._peer.receive(each):
                self._acknowledged(token)

    def _send_due(self, now_ns: int) -> None:
        due = self._schedule.due_count(now_ns)
        if due <= 0 or self._peer.pending >= self._peer.window:
            return
        if self._is_under_way() and now_ns < self._next_send_ns and due < BATCH_MAX:
            return
        intended_ns = self._schedule.take(now_ns, BATCH_MAX)
        self.late += int(np.count_nonzero(intended_ns < now_ns - LATE_NS))
        self._submit(intended_ns)
        self._next_send_ns = now_ns + INTERVAL_NS

    def _is_under_way(self) -> bool:
        """Whether a batch that leaves now would only queue behind others."""
        return self._peer.pending >= AT_ONCE

    def _fill(self, now_ns: int) -> None:
        while now_ns < self._end_ns and self._peer.pending < min(CLOSED_BATCHES, self._peer.window):
            now_ns = time.monotonic_ns()
            self._submit(np.full(CLOSED_BATCH, now_ns))

    def _submit(self, intended_ns: Any) -> None:
        self.sent += len(intended_ns)
        self._peer.send(PAYLOAD[: len(intended_ns) * ORDER_BYTES], Sent(intended_ns))

    def _patience_s(self) -> float:
        now_ns = time.monotonic_ns()
        until_ns = now_ns + 20_000_000
        if not self._closed and self._peer.pending < self._peer.window:
            due_ns = self._schedule.next_due_ns
            until_ns = min(until_ns, max(due_ns, self._next_send_ns) if self._is_under_way() else due_ns)
        return max(until_ns - now_ns, 0) / 1e9

    def _acknowledged(self, token: Sent) -> None:
        self._last_ns = time.monotonic_ns()
        self._latency.record(self._last_ns - token.intended_ns)
        self.orders += len(token.intended_ns)
        self.requests += 1


PEERS: dict[str, Callable[[list[list[Any]]], Peer]] = {"redis": Redis, "etcd": Etcd, "nats": Nats}


def main() -> None:
    """Run the load, print the figures."""
    end_with_parent()
    told = json.loads(sys.argv[2])
    peer = PEERS[sys.argv[1]](told["endpoints"])
    print("started", flush=True)
    print(json.dumps(Driver(peer, told["rate"], told["duration_s"]).run()), flush=True)


if __name__ == "__main__":
    main()
