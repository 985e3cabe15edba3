"""Requests that are answered exactly once, over several nodes any of which may fail at any time.

Used by the load generator, which keeps hundreds of requests outstanding, and by the synchronous client, which keeps
one. Not thread-safe; no numpy.

Theory (Raft thesis, 6.3). A session has an id that the cluster gave it, and numbers its requests 1, 2, 3, ... A
request that is not answered is sent again, to another node, *under its number*: the replicas remember the answers of
the session and give the first one again, so that nothing is applied twice. Each request says below which number all
are answered, so that the replicas may forget those. How far numbers run ahead of the first unanswered one is bounded
(:mod:`~zmqlab.load.window`), since the replicas' memory is. When a request is sent again is the business of
:mod:`~zmqlab.load.outbox`.

Which nodes there are is learned from them while requests go on (:mod:`~zmqlab.load.roster`,
:mod:`~zmqlab.load.watch`): new ones are connected to, and what is outstanding at one that is left goes elsewhere.

A late first answer and a replayed second one may both arrive; the first is taken, the other is counted. Of the
responses' statuses, OK, STALE and MALFORMED are handed to the caller as they are (the last two mean that one of us is
wrong), WINDOW_FULL is sent again with a newer ``answered_below``, and SESSION_EXPIRED raises: then the outcome of
all open requests is unknown.

Left out on purpose: opening a new session by itself after an expiry, which would hide that outcomes are unknown.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import zmq

from zmqlab.errors import FrameError, NoLeader, RequestTimeout, SessionExpired
from zmqlab.load.connection import Configure, Connection
from zmqlab.load.outbox import Outbox
from zmqlab.load.requests import Completion, OpenRequest, RequesterCounters
from zmqlab.load.roster import Numbering, Roster
from zmqlab.load.settings import NodeChoice
from zmqlab.load.watch import StatusWatch
from zmqlab.load.window import Window
from zmqlab.wire import control
from zmqlab.wire.client import (
    Response,
    ResponseStatus,
    encode_open_session,
    encode_request,
    iter_responses,
)
from zmqlab.wire.frames import ANSWER, QUERY, RESPONSES, parse_header

NS_PER_MS = 1_000_000
TEND_MS = 5
"""How often time-outs, suspicion and monitors are looked at, apart from when a socket has something to say."""
WINDOW_FULL_MS = 20
OPEN_TRY_MS = 500
"""Before OPEN_SESSION is sent to the next node; long enough for an election."""

_OK = int(ResponseStatus.OK)  # plain integers: an IntEnum's attribute costs on the hot path
_EXPIRED = int(ResponseStatus.SESSION_EXPIRED)
_WINDOW_FULL = int(ResponseStatus.WINDOW_FULL)
_TRY_ELSEWHERE = (int(ResponseStatus.BUSY), int(ResponseStatus.CLOSING))


class Requester:
    """Exactly-once requests to a cluster: :meth:`open`, then :meth:`submit` and :meth:`poll`, then :meth:`close`."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        fallbacks: Sequence[str] = (),
        timeout_ms: float = 1_000,
        suspicion_ms: float = 300,
        window: int = 512,
        node_choice: NodeChoice = "random",
        rng: random.Random | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        configure: Configure | None = None,
        on_answer: Callable[[int, control.Answer], None] | None = None,
        numbering: Numbering | None = None,
        group: int = 0,
    ) -> None:
        """Start to connect to the client endpoints; :meth:`open` must follow.

        Args:
            fallbacks: tried when all of ``endpoints`` and all nodes that were learned of are gone. rng: draws nodes;
            the session's nonce is never drawn from it. context: shared if given, else owned. configure: called with
            each socket before it connects. on_answer: called with the node's index and its answer to a query of
            :meth:`send_query`. numbering: gives nodes their indexes; shared with other requesters if given.
        """
        assert endpoints, "at least one endpoint"
        self.client_id = 0
        """The session; 0 until it is open."""
        self.opened_ns = (0, 0)
        """When the session was asked for, and when it was there."""
        self.counters = RequesterCounters()
        self._owns_context = context is None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context() if context is None else context
        self._on_answer = on_answer
        self._group = group
        self._roster = Roster(self._context, endpoints, configure, numbering, fallbacks)
        self._watch = StatusWatch(wants_leader=node_choice == "leader")
        self._window = Window(window)
        self._outbox = Outbox(
            self._roster,
            self._watch,
            self.counters,
            timeout_ms=timeout_ms,
            suspicion_ms=suspicion_ms,
            node_choice=node_choice,
            rng=rng or random.Random(),
        )
        self._open = self._outbox.open
        self._next_tend_ns = 0
        self._nonce = 0
        """Of OPEN_SESSION, while the session is being opened."""
        self._open_problem = 0
        """The last status other than OK that OPEN_SESSION got."""
        self._expired = False

    # The session.

    def open(self, timeout_ms: float = 10_000, should_stop: Callable[[], bool] = lambda: False) -> int:
        """Open the session, trying one node after the other; returns the client id.

        Raises:
            NoLeader: nodes answer, but none can take anything for now.
            RequestTimeout: no node answered in time, or ``should_stop`` said so.
        """
        self._nonce = secrets.randbits(64) or 1
        frame = encode_open_session(self._nonce, self._group)
        started_ns = time.monotonic_ns()
        deadline_ns = started_ns + round(timeout_ms * NS_PER_MS)
        next_try_ns = 0
        while not self.client_id:
            now_ns = time.monotonic_ns()
            if now_ns > deadline_ns or should_stop():
                raise self._open_error(timeout_ms)
            if now_ns >= next_try_ns:
                node = self._outbox.choose(now_ns, None)
                sent = node is not None and node.send(frame)
                next_try_ns = now_ns + (OPEN_TRY_MS if sent else TEND_MS) * NS_PER_MS
            busy_before = self.counters.busy
            self.poll(TEND_MS)
            if self.counters.busy != busy_before:
                next_try_ns = 0
        self._nonce = 0
        self.opened_ns = (started_ns, time.monotonic_ns())
        return self.client_id

    def _open_error(self, timeout_ms: float) -> Exception:
        if self._open_problem:
            name = ResponseStatus(self._open_problem).name
            return NoLeader(f"no session after {timeout_ms:g} ms: nodes answer {name}; do a majority of them run?")
        nodes = self._roster.nodes
        reached = sum(node.connected for node in nodes)
        return RequestTimeout(
            f"no session after {timeout_ms:g} ms: {reached} of {len(nodes)} nodes reached; do a majority run?"
        )

    # Requests.

    @property
    def pending(self) -> int:
        """Requests submitted and not answered."""
        return len(self._open)

    @property
    def room(self) -> int:
        """How many requests may be submitted now; 0 also while an earlier one waits for a node to take it."""
        return 0 if self._outbox.waiting else self._window.room

    @property
    def leader(self) -> int | None:
        """Index of the node that leads, as far as is known."""
        return self._watch.leader

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where the nodes are that are talked to now."""
        return self._roster.endpoints

    @property
    def connected(self) -> list[bool]:
        """By node index: whether its connection stands. False for a node that was left."""
        return self._roster.connected

    @property
    def all_connected(self) -> bool:
        """Whether every node that is talked to now is connected."""
        return all(node.connected for node in self._roster.nodes)

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """Of all nodes that are talked to now: for those who wait for several requesters at once."""
        return [socket for node in self._roster.nodes for socket in node.sockets]

    @property
    def changes(self) -> int:
        """Grows whenever :attr:`sockets` changes."""
        return self._roster.changes

    def open_requests(self) -> Iterator[OpenRequest]:
        """The requests whose outcome is not known, oldest first."""
        return iter(self._open.values())

    def submit(self, commands: bytes, token: Any = None, node_hint: int | None = None) -> int:
        """Send ``commands`` as the next request, to node ``node_hint`` if that is usable; returns its number.

        :attr:`room` must be above 0. If no node can take it now, it waits and :meth:`poll` sends it.
        """
        assert self.client_id, "the session is not open"
        number = self._window.take(len(commands))
        frame = encode_request(self.client_id, number, self._window.low, commands, self._group)
        self._outbox.submit(OpenRequest(number, commands, frame, token), time.monotonic_ns(), node_hint)
        return number

    def poll(self, timeout_ms: float = 0) -> list[Completion]:
        """What was answered; waits up to ``timeout_ms`` for it. May return early and empty-handed.

        Raises:
            SessionExpired: the cluster has forgotten this session.
        """
        done: list[Completion] = []
        now_ns = time.monotonic_ns()
        self._drain(done, now_ns)
        if now_ns >= self._next_tend_ns or self._outbox.waiting:
            self._tend(now_ns, done)
            self._drain(done, now_ns)  # a send may swallow the signal that something has come in: see Waiter
        if not done and timeout_ms > 0 and not self._expired and self._roster.waiter.wait(self.patience_ms(timeout_ms)):
            now_ns = time.monotonic_ns()
            self._drain(done, now_ns)
            if not done:
                self._tend(now_ns, done)
        if self._expired and not done:
            raise SessionExpired(
                f"session {self.client_id} is unknown to the cluster; the outcome of {self.pending} requests is unknown"
            )
        return done

    def patience_ms(self, timeout_ms: float) -> float:
        """How long to wait in one go: not past the next look at time-outs, if there is anything to time out."""
        return min(timeout_ms, TEND_MS if self._open or self._outbox.waiting else 10 * TEND_MS)

    def send_query(self, query: control.Query, node: int | None = None) -> bool:
        """Send a query to one node (any, if None); its answer goes to ``on_answer``. False: not sent."""
        target = self._outbox.choose(time.monotonic_ns(), None) if node is None else self._roster.find(node)
        return target is not None and target.send(control.encode(QUERY, query, self._group))

    def close(self) -> None:
        """Close all sockets; open requests are forgotten."""
        self._roster.close()
        if self._owns_context:
            self._context.term()

    def __enter__(self) -> Requester:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What comes in.

    def _drain(self, done: list[Completion], now_ns: int) -> None:
        for node in self._roster.nodes:
            while (frame := node.receive()) is not None:
                node.heard_ns = now_ns
                node.suspect_until_ns = 0
                try:
                    self._take_frame(node, frame, done)
                except FrameError:
                    self.counters.bad_frames += 1

    def _take_frame(self, node: Connection, frame: bytes, done: list[Completion]) -> None:
        frame_type, _ = parse_header(frame)
        if frame_type == RESPONSES:
            now_ns = time.monotonic_ns()
            for response in iter_responses(frame):
                self._take_response(node, response, now_ns, done)
        elif frame_type == ANSWER:
            self._take_answer(node, control.decode_answer(frame))
        else:
            raise FrameError(f"a frame of type {frame_type:#04x} is not for clients")

    def _take_response(self, node: Connection, response: Response, now_ns: int, done: list[Completion]) -> None:
        status = response.status
        if self._nonce and response.request_number == self._nonce:
            self._take_session(node, response, now_ns)
            return
        request = self._open.get(response.request_number)
        if request is None or response.client_id != self.client_id:
            self.counters.duplicates += 1
        elif status in _TRY_ELSEWHERE:
            self._outbox.note_busy(node, status, now_ns)
            if request.node is node:
                self._outbox.wait(request, now_ns)
        elif status == _WINDOW_FULL:
            self._take_window_full(node, request, now_ns)
        elif status == _EXPIRED:
            self._expired = True
        else:
            self._complete(node, request, response, now_ns, done)

    def _take_window_full(self, node: Connection, request: OpenRequest, now_ns: int) -> None:
        self.counters.window_full += 1
        if request.node is node:
            self._outbox.wait(request, now_ns + WINDOW_FULL_MS * NS_PER_MS)
            low = self._window.low
            request.frame = encode_request(self.client_id, request.number, low, request.commands, self._group)

    def _complete(
        self, node: Connection, request: OpenRequest, response: Response, now_ns: int, done: list[Completion]
    ) -> None:
        number = request.number
        self._outbox.complete(request, node)
        if number == self._window.low:
            self._window.advance(self._open)
        first_sent_ns = request.first_sent_ns
        done.append(Completion(number, request.token, response, node.index, request.attempts, first_sent_ns, now_ns))

    def _take_session(self, node: Connection, response: Response, now_ns: int) -> None:
        if response.status == _OK:
            self.client_id = response.client_id
            return
        self._open_problem = response.status
        self._outbox.note_busy(node, response.status, now_ns)

    def _take_answer(self, node: Connection, answer: control.Answer) -> None:
        status = self._watch.take_answer(node.index, answer)
        if status is not None:
            self._roster.take_status(node, status)
        elif self._on_answer is not None:
            self._on_answer(node.index, answer)

    # What is due.

    def _tend(self, now_ns: int, done: list[Completion]) -> None:
        """Everything that depends on time or on connections."""
        self._next_tend_ns = now_ns + TEND_MS * NS_PER_MS
        for node in self._roster.nodes:
            if node.take_events():
                self._drain(done, now_ns)  # what it said before it went
                self._watch.forget(node.index)
                self._outbox.leave(node, now_ns)
        for node in self._roster.follow(now_ns):
            self._watch.forget(node.index)
            self._outbox.leave(node, now_ns)
            node.close()
        self._outbox.tend(now_ns)
        self._watch.look(self._roster.nodes, now_ns, self._group)
