"""Stand-ins for nodes: threads with a ROUTER that answer requests at once, and misbehave when told to.

They share a :class:`FakeLog`, which plays the replicated part: it remembers the answers of each session, gives the
first answer again to a retry, and counts how often each request was applied. Its exchange is the simplest there is:
every new order rests, every cancel and replace succeeds, unless ``fill`` is set: then every new order trades
completely against an order that does not exist.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import zmq

from zmqlab.lab.hosts import free_base_ports
from zmqlab.load.order_flow import COMMAND, FILL, KIND_NEW, REPORT, Rows
from zmqlab.market.types import Status
from zmqlab.wire import client, control, frames
from zmqlab.wire.node_status import Member, NodeStatus

_node_ids = itertools.count(1)
_BY_KIND = [Status.NEW, Status.CANCELED, Status.REPLACED]


def answer_rows(rows: Rows, first_id: int) -> Rows:
    """Reports of an exchange in which everything rests, every cancel and every replace succeeds."""
    reports = np.zeros(len(rows), REPORT)
    new = rows["kind"] == KIND_NEW
    reports["order_id"] = np.where(new, first_id + np.arange(len(rows)), rows["order_id"].astype(np.int64))
    reports["status"] = np.choose(rows["kind"] - 1, _BY_KIND)
    reports["leaves_quantity"] = rows["quantity"]
    return reports


@dataclass
class FakeLog:
    """What the nodes of a fake cluster agree on."""

    fill: bool = False
    log_index: int = 0
    next_order_id: int = 1
    answers: dict[tuple[int, int], bytes] = field(default_factory=dict)
    bodies: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """The commands of each applied request."""
    arrivals: Counter[tuple[int, int]] = field(default_factory=Counter)
    """How often each request came in, applied or not."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open_session(self, nonce: int) -> bytes:
        with self.lock:
            self.log_index += 1
            return client.encode_response(self.log_index, nonce, self.log_index)

    def apply(self, frame: bytes) -> bytes:
        head = client.parse_request(frame)
        key = head.client_id, head.request_number
        with self.lock:
            self.arrivals[key] += 1
            if key in self.answers:
                return client.replayed(self.answers[key])
            self.log_index += 1
            rows = np.frombuffer(frame, COMMAND, offset=len(frame) - head.command_count * COMMAND.itemsize)
            reports = answer_rows(rows, self.next_order_id)
            self.next_order_id += len(rows)
            fills = np.zeros(0, FILL)
            if self.fill:
                reports["status"], reports["fill_count"] = Status.FILLED, 1
                reports["filled_quantity"], reports["leaves_quantity"] = rows["quantity"], 0
                fills = np.zeros(len(rows), FILL)
            body = client.encode_response(*key, self.log_index, 0, 0, reports.tobytes(), fills.tobytes())
            self.answers[key] = body
            self.bodies[key] = rows.tobytes()
            return body


class FakeNode:
    """One node; attributes may be changed at any time from the test's thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], log: FakeLog, name: str = "fake") -> None:
        self.log = log
        self.name = name
        self.paused = False
        """Neither reads nor answers, but keeps its connections."""
        self.drop_answers = 0
        """So many of the next requests are applied and not answered."""
        self.lose_requests = 0
        """So many of the next requests are neither applied nor answered."""
        self.refuse_status = 0
        """Answer every request with this status instead of applying it."""
        self.refuse_count = 1 << 60
        """How many times to do so."""
        self.delay_s = 0.0
        """From a request to its answer; questions are answered at once, as by a node that waits for its quorum."""
        self.leads = False
        self.node_id = next(_node_ids)
        self.term = 1
        self.commit_index = 0
        self.members: list[FakeNode] = []
        """The members by this node's word; empty: it names none."""
        self.learners: list[FakeNode] = []
        """Those of ``members`` that do not vote."""
        self.on_query: Callable[[], None] = lambda: None
        self.requests = 0
        self._context = context
        self._port = free_base_ports(1)[0]
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.start()

    def says(self, *members: FakeNode, commit_index: int) -> None:
        """From now on these are its members."""
        self.members, self.commit_index = list(members), commit_index

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, always on the same port."""
        socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 100_000
        self._bind(socket)
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(socket,), daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """Close all connections at once."""
        assert self._thread is not None
        self._stop.set()
        self._thread.join()

    def _bind(self, socket: zmq.Socket[bytes]) -> None:
        """A socket that :meth:`kill` closed keeps its port until libzmq's reaper has come to it."""
        give_up = time.monotonic() + 60.0
        while True:
            try:
                socket.bind(self.endpoint)
                return
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or time.monotonic() > give_up:
                    raise
                time.sleep(0.005)

    def _run(self, socket: zmq.Socket[bytes]) -> None:
        delayed: deque[tuple[float, bytes, bytes]] = deque()
        while not self._stop.is_set():
            if self.paused:
                time.sleep(0.002)
                continue
            if socket.poll(1 if delayed else 5):
                self._take(socket, delayed)
            while delayed and delayed[0][0] <= time.monotonic():
                _, route, answer = delayed.popleft()
                socket.send_multipart([route, answer])
        socket.close(0)

    def _take(self, socket: zmq.Socket[bytes], delayed: deque[tuple[float, bytes, bytes]]) -> None:
        while socket.getsockopt(zmq.EVENTS) & zmq.POLLIN and not self.paused:  # type: ignore[operator]
            route, frame = socket.recv_multipart()
            answer = self._answer(frame)
            if answer and self.delay_s and frames.parse_header(frame)[0] != frames.QUERY:
                delayed.append((time.monotonic() + self.delay_s, route, answer))
            elif answer:
                socket.send_multipart([route, answer])

    def _answer(self, frame: bytes) -> bytes | None:
        kind, group = frames.parse_header(frame)
        if kind == frames.QUERY:
            self.on_query()
            query, status = control.decode_query(frame), self._status()
            status.group = group  # it holds every group
            return control.encode(frames.ANSWER, control.StatusAnswer(query.nonce, status), group)
        if kind == frames.OPEN_SESSION:
            key = 0, client.parse_open_session(frame)
        else:
            self.requests += 1
            key = client.parse_request(frame)[:2]
        if self.refuse_status and self.refuse_count > 0:
            self.refuse_count -= 1
            return client.encode_responses([client.encode_response(*key, 0, self.refuse_status)], group)
        if kind == frames.OPEN_SESSION:
            return client.encode_responses([self.log.open_session(key[1])], group)
        if self.lose_requests > 0:
            self.lose_requests -= 1
            return None
        body = self.log.apply(frame)
        if self.drop_answers > 0:
            self.drop_answers -= 1
            return None
        return client.encode_responses([body], group)

    def _status(self) -> NodeStatus:
        zeros = ("pid", "time_ns", "uptime_ms", "leader_id", "first_index", "last_index", "applied_index", "lag")
        role = "leader" if self.leads else "follower"
        return NodeStatus(
            name=self.name,
            node_id=self.node_id,
            port=self._port - 2,
            role=role,
            term=self.term,
            commit_index=self.commit_index,
            members=[member.as_member(member not in self.learners) for member in self.members],
            **dict.fromkeys(zeros, 0),
        )

    def as_member(self, voter: bool) -> Member:
        """The entry for it in the statuses of other nodes."""
        return Member(node_id=self.node_id, name=self.name, host="127.0.0.1", port=self._port - 2, voter=voter)
