"""A cluster in virtual time for the client's core: no socket, no thread, no clock.

A :class:`VirtualNode` answers each frame after a delay that the test may change at any time. The
:class:`VirtualCluster` delivers what is due and calls the session every 5 ms, as the loop around the real one does.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from zmqlab.client.roster import Contact
from zmqlab.client.session import Completion, Session, SessionSettings
from zmqlab.wire import client, control, frames
from zmqlab.wire.node_status import Member, NodeStatus

MS = 1_000_000
TEND_MS = 5


def status_of(
    node_id: int,
    role: str = "follower",
    term: int = 1,
    commit_index: int = 0,
    members: tuple[int, ...] = (),
    learners: tuple[int, ...] = (),
    leader_id: int = 0,
) -> NodeStatus:
    """A status; node n listens at ``tcp://10.0.0.n:5000``, so that clients reach it at port 5002."""
    zeros = ("pid", "time_ns", "uptime_ms", "first_index", "last_index", "applied_index", "lag")
    rows = [
        Member(node_id=each, name=f"n{each}", host=f"10.0.0.{each}", port=5000, voter=each in members)
        for each in (*members, *learners)
    ]
    return NodeStatus(
        name=f"n{node_id}",
        node_id=node_id,
        port=5000,
        role=role,
        term=term,
        commit_index=commit_index,
        leader_id=leader_id,
        members=rows,
        **dict.fromkeys(zeros, 0),
    )


def endpoint_of(node_id: int) -> str:
    return f"tcp://10.0.0.{node_id}:5002"


@dataclass
class VirtualNode:
    """One node; a test may change the attributes at any time."""

    node_id: int
    delay_ms: float = 2.0
    """From a request to its answer."""
    answers_requests: bool = True
    answers_queries: bool = True
    status: int = client.ResponseStatus.OK
    status_delay_ms: float = 1.0
    role: str = "follower"
    requests: int = 0
    """How many request frames came in."""


@dataclass
class VirtualCluster:
    """Some nodes and one session."""

    settings: SessionSettings = field(default_factory=lambda: SessionSettings(node_choice="round-robin"))
    count: int = 3
    seed: int = 1
    now_ns: int = 1_000 * MS
    arrivals: Counter[int] = field(default_factory=Counter)
    """By request number: how often it came in anywhere."""
    opens: int = 0
    done: list[Completion] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes = {node_id: VirtualNode(node_id) for node_id in range(1, self.count + 1)}
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._log_index = 0
        self.session = Session(
            self.settings,
            lambda contact: VirtualWire(self, contact),
            [endpoint_of(node_id) for node_id in self.nodes],
            rng=random.Random(self.seed),
            nonces=random.Random(2),
        )
        for contact in self.session.roster.contacts:
            self.session.on_connected(contact)

    def node_of(self, contact: Contact) -> VirtualNode:
        return self.nodes[int(contact.endpoint.split(".")[3].split(":")[0])]

    def contact(self, node_id: int) -> Contact:
        return next(each for each in self.session.roster.contacts if each.endpoint == endpoint_of(node_id))

    def open(self) -> None:
        self.session.begin(self.now_ns)
        self.run(50)
        assert self.session.client_id

    def run(self, ms: float, every_ms: float = 0, submit: int = 0) -> None:
        """Let time pass; every ``every_ms`` one request is submitted if there is room, or ``submit`` of them now."""
        for _ in range(submit):
            self.submit()
        end_ns = self.now_ns + round(ms * MS)
        next_ns = self.now_ns
        while self.now_ns < end_ns:
            self.session.on_time(self.now_ns)
            while every_ms and next_ns <= self.now_ns:
                next_ns += round(every_ms * MS)
                if self.session.room:
                    self.submit()
            self.now_ns += TEND_MS * MS
            while self._events and self._events[0][0] <= self.now_ns:
                heapq.heappop(self._events)[2]()

    def submit(self) -> int:
        return self.session.submit(b"\0" * 40, self.now_ns).number

    def answer_later(self, contact: Contact, delay_ms: float, frame: bytes) -> None:
        def deliver() -> None:
            if contact.connected:
                self.done += self.session.on_frame(contact, frame, self.now_ns)

        heapq.heappush(self._events, (self.now_ns + round(delay_ms * MS), next(self._order), deliver))

    def take(self, contact: Contact, frame: bytes) -> None:
        """A frame reaches a node."""
        node = self.node_of(contact)
        frame_type, _ = frames.parse_header(frame)
        if frame_type == frames.QUERY:
            if node.answers_queries:
                query = control.decode_query(frame)
                status = status_of(node.node_id, node.role)
                answer = control.encode(frames.ANSWER, control.StatusAnswer(query.nonce, status))
                self.answer_later(contact, node.status_delay_ms, answer)
            return
        self._log_index += 1
        if frame_type == frames.OPEN_SESSION:
            self.opens += 1
            body = client.encode_response(77, client.parse_open_session(frame), self._log_index)
        else:
            head = client.parse_request(frame)
            node.requests += 1
            self.arrivals[head.request_number] += 1
            body = client.encode_response(head.client_id, head.request_number, self._log_index, node.status)
        if node.answers_requests:
            self.answer_later(contact, node.delay_ms, client.encode_responses([body]))


class VirtualWire:
    """The session's way to one node."""

    def __init__(self, cluster: VirtualCluster, contact: Contact) -> None:
        self._cluster = cluster
        self._contact = contact
        self.is_closed = False

    def send(self, frame: bytes) -> bool:
        if not self._contact.connected:
            return False
        self._cluster.take(self._contact, frame)
        return True

    def close(self) -> None:
        self.is_closed = True
