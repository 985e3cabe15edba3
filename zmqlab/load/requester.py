"""Requests that are answered exactly once, over several nodes any of which may fail at any time.

Used by the load generator, which keeps hundreds of requests outstanding, and by the synchronous client, which keeps
one. Not thread-safe; no numpy.

Theory (Raft thesis, 6.3). A session has an id that the cluster gave it, and numbers its requests 1, 2, 3, ... A
request that is not answered is sent again, to another node, *under its number*: the replicas remember the answers of
the session and give the first one again, so that nothing is applied twice. Each request says below which number all
are answered, so that the replicas may forget those. How far numbers run ahead of the first unanswered one is bounded
(``window``, and a bound in bytes), since the replicas' memory is.

When a request is sent again:

- its node's connection is lost: at once (the answer would have gone to the old connection);
- its node says BUSY or CLOSING: at once to a node that has not, else after a short back-off that grows;
- its node has answered one that was sent ``OVERTAKEN_MS`` later: at once. A node forwards to the leader, and the
  leader may have died with the request; answers come nearly in order otherwise;
- its node is suspect: silent for ``suspicion_ms`` with requests outstanding, while another node is not;
- nobody has answered for ``timeout_ms``; doubled with each try of the same request, up to eightfold.

A late first answer and a replayed second one may both arrive; the first is taken, the other is counted. Of the
responses' statuses, OK, STALE and MALFORMED are handed to the caller as they are (the last two mean that one of us is
wrong), WINDOW_FULL is sent again with a newer ``answered_below``, and SESSION_EXPIRED raises: then the outcome of
all open requests is unknown.

Left out on purpose: opening a new session by itself after an expiry, which would hide that outcomes are unknown.
"""

from __future__ import annotations

import heapq
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import zmq

from zmqlab.errors import FrameError, NoLeader, RequestTimeout, SessionExpired
from zmqlab.load.choice import choose_node
from zmqlab.load.connection import Configure, Connection
from zmqlab.load.leader import LeaderWatch
from zmqlab.load.requests import Completion, OpenRequest, RequesterCounters
from zmqlab.load.settings import NodeChoice
from zmqlab.load.waiting import Waiter
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
OVERTAKEN_MS = 100
"""A request this much older than one that its node has answered is taken for lost: a hundred times a usual answer."""
SUSPECT_MS = 2_000
"""How long a suspect is avoided before it is given another chance, if it says nothing."""
BUSY_MS = 5
"""First back-off; doubles with each BUSY in a row, up to BUSY_MAX_MS."""
BUSY_MAX_MS = 160
CLOSING_MS = 1_000
WINDOW_FULL_MS = 20
OPEN_TRY_MS = 500
"""Before OPEN_SESSION is sent to the next node; long enough for an election."""
MAX_BACKOFF_DOUBLINGS = 3
WINDOW_BYTES = 2_097_152
"""Of commands ahead of the first unanswered request: a session may store twice that in answers, which are about as
large as their commands."""

_OK = int(ResponseStatus.OK)  # plain integers: an IntEnum's attribute costs on the hot path
_EXPIRED = int(ResponseStatus.SESSION_EXPIRED)
_WINDOW_FULL = int(ResponseStatus.WINDOW_FULL)
_CLOSING = int(ResponseStatus.CLOSING)
_TRY_ELSEWHERE = (int(ResponseStatus.BUSY), _CLOSING)


class Requester:
    """Exactly-once requests to a cluster: :meth:`open`, then :meth:`submit` and :meth:`poll`, then :meth:`close`."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout_ms: float = 1_000,
        suspicion_ms: float = 300,
        window: int = 512,
        node_choice: NodeChoice = "random",
        rng: random.Random | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        configure: Configure | None = None,
        on_answer: Callable[[int, control.Answer], None] | None = None,
        group: int = 0,
    ) -> None:
        """Start to connect to the client endpoints; :meth:`open` must follow.

        Args:
            rng: draws nodes; the session's nonce is never drawn from it. context: shared if given, else owned.
            configure: called with each socket before it connects. on_answer: called with the node's index and its
            answer to a query of :meth:`send_query`.
        """
        assert endpoints, "at least one endpoint"
        assert window >= 1, window
        self.client_id = 0
        """The session; 0 until it is open."""
        self.counters = RequesterCounters()
        self._timeout_ns = round(timeout_ms * NS_PER_MS)
        self._suspicion_ns = round(suspicion_ms * NS_PER_MS)
        self._window = window
        self._choice: NodeChoice = node_choice
        self._rng = rng or random.Random()
        self._owns_context = context is None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context() if context is None else context
        self._on_answer = on_answer
        self._group = group
        self.nodes = [Connection(self._context, i, each, configure) for i, each in enumerate(endpoints)]
        self._waiter = Waiter([socket for node in self.nodes for socket in node.sockets])
        self._open: dict[int, OpenRequest] = {}
        """Submitted and not answered, by number."""
        self._sizes: dict[int, int] = {}
        """Bytes of commands of the numbers from ``_low`` on, answered or not."""
        self._ahead_bytes = 0
        """Sum of ``_sizes``."""
        self._low = 1
        """The first unanswered number: ``answered_below``. All smaller ones are answered."""
        self._next_number = 1
        """``_low <= _next_number <= _low + window``."""
        self._waiting: list[tuple[int, int]] = []
        """Heap of (ready_ns, number) of open requests that no node has at the moment."""
        self._turn = 0  # round-robin
        self._next_tend_ns = 0
        self._nonce = 0
        """Of OPEN_SESSION, while the session is being opened."""
        self._open_problem = 0
        """The last status other than OK that OPEN_SESSION got."""
        self._expired = False
        self._leader = LeaderWatch()
        """Asked with node choice ``leader`` only."""

    # The session.

    def open(self, timeout_ms: float = 10_000, should_stop: Callable[[], bool] = lambda: False) -> int:
        """Open the session, trying one node after the other; returns the client id.

        Raises:
            NoLeader: nodes answer, but none can take anything for now.
            RequestTimeout: no node answered in time, or ``should_stop`` said so.
        """
        self._nonce = secrets.randbits(64) or 1
        frame = encode_open_session(self._nonce, self._group)
        deadline_ns = time.monotonic_ns() + round(timeout_ms * NS_PER_MS)
        next_try_ns = 0
        while not self.client_id:
            now_ns = time.monotonic_ns()
            if now_ns > deadline_ns or should_stop():
                raise self._open_error(timeout_ms)
            if now_ns >= next_try_ns:
                node = self._choose(now_ns, None)
                sent = node is not None and node.send(frame)
                next_try_ns = now_ns + (OPEN_TRY_MS if sent else TEND_MS) * NS_PER_MS
            busy_before = self.counters.busy
            self.poll(TEND_MS)
            if self.counters.busy != busy_before:
                next_try_ns = 0
        self._nonce = 0
        return self.client_id

    def _open_error(self, timeout_ms: float) -> Exception:
        if self._open_problem:
            name = ResponseStatus(self._open_problem).name
            return NoLeader(f"no session after {timeout_ms:g} ms: nodes answer {name}; do a majority of them run?")
        reached = sum(node.connected for node in self.nodes)
        return RequestTimeout(
            f"no session after {timeout_ms:g} ms: {reached} of {len(self.nodes)} nodes reached; do a majority run?"
        )

    # Requests.

    @property
    def pending(self) -> int:
        """Requests submitted and not answered."""
        return len(self._open)

    @property
    def room(self) -> int:
        """How many requests may be submitted now; 0 also while an earlier one waits for a node to take it."""
        if self._waiting or self._ahead_bytes >= WINDOW_BYTES:
            return 0
        return self._window - (self._next_number - self._low)

    @property
    def leader(self) -> int | None:
        """Index of the node that leads, as far as is known; kept up with node choice ``leader`` only."""
        return self._leader.index

    @property
    def connected(self) -> list[bool]:
        """By node: whether its connection stands."""
        return [node.connected for node in self.nodes]

    def open_requests(self) -> Iterator[OpenRequest]:
        """The requests whose outcome is not known, oldest first."""
        return iter(self._open.values())

    def submit(self, commands: bytes, token: Any = None, node_hint: int | None = None) -> int:
        """Send ``commands`` as the next request, to node ``node_hint`` if that is usable; returns its number.

        :attr:`room` must be above 0. If no node can take it now, it waits and :meth:`poll` sends it.
        """
        assert self.client_id, "the session is not open"
        assert self._next_number < self._low + self._window, "look at room before submitting"
        number = self._next_number
        self._next_number = number + 1
        frame = encode_request(self.client_id, number, self._low, commands, self._group)
        request = OpenRequest(number, commands, frame, token)
        self._open[number] = request
        self._sizes[number] = len(commands)
        self._ahead_bytes += len(commands)
        now_ns = time.monotonic_ns()
        node = self._choose(now_ns, None)
        if node_hint is not None and self._usable(self.nodes[node_hint], now_ns):
            node = self.nodes[node_hint]
        if node is None or not self._send(request, node, now_ns):
            heapq.heappush(self._waiting, (now_ns, number))
        return number

    def poll(self, timeout_ms: float = 0) -> list[Completion]:
        """What was answered; waits up to ``timeout_ms`` for it. May return early and empty-handed.

        Raises:
            SessionExpired: the cluster has forgotten this session.
        """
        done: list[Completion] = []
        now_ns = time.monotonic_ns()
        self._drain(done, now_ns)
        if now_ns >= self._next_tend_ns or self._waiting:
            self._tend(now_ns, done)
            self._drain(done, now_ns)  # a send may swallow the signal that something has come in: see Waiter
        if not done and timeout_ms > 0 and not self._expired and self._waiter.wait(self._patience_ms(timeout_ms)):
            now_ns = time.monotonic_ns()
            self._drain(done, now_ns)
            if not done:
                self._tend(now_ns, done)
        if self._expired and not done:
            raise SessionExpired(
                f"session {self.client_id} is unknown to the cluster; the outcome of {self.pending} requests is unknown"
            )
        return done

    def send_query(self, query: control.Query, node: int | None = None) -> bool:
        """Send a query to one node (any, if None); its answer goes to ``on_answer``. False: not sent."""
        target = self._choose(time.monotonic_ns(), None) if node is None else self.nodes[node]
        return target is not None and target.send(control.encode(QUERY, query, self._group))

    def close(self) -> None:
        """Close all sockets; open requests are forgotten."""
        for node in self.nodes:
            node.close()
        if self._owns_context:
            self._context.term()

    def __enter__(self) -> Requester:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What comes in.

    def _drain(self, done: list[Completion], now_ns: int) -> None:
        for node in self.nodes:
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
            self._take_busy(node, request, status, now_ns)
        elif status == _WINDOW_FULL:
            self.counters.window_full += 1
            if request.node is node:
                self._wait(request, now_ns + WINDOW_FULL_MS * NS_PER_MS)
                request.frame = encode_request(self.client_id, request.number, self._low, request.commands, self._group)
        elif status == _EXPIRED:
            self._expired = True
        else:
            self._complete(node, request, response, now_ns, done)

    def _complete(
        self, node: Connection, request: OpenRequest, response: Response, now_ns: int, done: list[Completion]
    ) -> None:
        number = request.number
        del self._open[number]
        if request.node is not None:
            del request.node.outstanding[number]
            if request.node is node and request.sent_ns > node.answered_sent_ns:
                node.answered_sent_ns = request.sent_ns
        node.busy_level = 0
        if number == self._low:
            self._advance()
        first_sent_ns = request.first_sent_ns
        done.append(Completion(number, request.token, response, node.index, request.attempts, first_sent_ns, now_ns))

    def _advance(self) -> None:
        """Move ``_low`` to the first open number."""
        low, sizes, open_requests = self._low, self._sizes, self._open
        while low < self._next_number and low not in open_requests:
            self._ahead_bytes -= sizes.pop(low)
            low += 1
        self._low = low

    def _take_busy(self, node: Connection, request: OpenRequest, status: int, now_ns: int) -> None:
        self._note_busy(node, status, now_ns)
        if request.node is node:
            self._wait(request, now_ns)

    def _note_busy(self, node: Connection, status: int, now_ns: int) -> None:
        self.counters.busy += 1
        if now_ns >= node.busy_until_ns:  # one flush may bring many BUSYs, which count once
            backoff_ms = CLOSING_MS if status == _CLOSING else min(BUSY_MS << node.busy_level, BUSY_MAX_MS)
            node.busy_level = min(node.busy_level + 1, 10)
            node.busy_until_ns = now_ns + backoff_ms * NS_PER_MS

    def _take_session(self, node: Connection, response: Response, now_ns: int) -> None:
        if response.status == _OK:
            self.client_id = response.client_id
            return
        self._open_problem = response.status
        self._note_busy(node, response.status, now_ns)

    def _take_answer(self, node: Connection, answer: control.Answer) -> None:
        if not self._leader.take_answer(node.index, answer) and self._on_answer is not None:
            self._on_answer(node.index, answer)

    # What goes out, and when it goes out again.

    def _send(self, request: OpenRequest, node: Connection, now_ns: int) -> bool:
        if not node.send(request.frame):
            node.busy_until_ns = max(node.busy_until_ns, now_ns + BUSY_MS * NS_PER_MS)
            return False
        request.node = node
        request.sent_ns = now_ns
        if not request.attempts:
            request.first_sent_ns = now_ns
        else:
            self.counters.retries += 1
        request.attempts += 1
        node.outstanding[request.number] = request
        return True

    def _wait(self, request: OpenRequest, ready_ns: int) -> None:
        """Take a request from its node; it is sent again from ``ready_ns`` on."""
        if request.node is not None:
            del request.node.outstanding[request.number]
            request.node = None
        heapq.heappush(self._waiting, (ready_ns, request.number))

    def _retry(self, request: OpenRequest, now_ns: int) -> None:
        """Send a request again, to another node if there is one."""
        before = request.node
        node = self._choose(now_ns, before)
        if before is not None:
            del before.outstanding[request.number]
            request.node = None
        if node is None or not self._send(request, node, now_ns):
            heapq.heappush(self._waiting, (now_ns, request.number))

    def _tend(self, now_ns: int, done: list[Completion]) -> None:
        """Everything that depends on time or on connections."""
        self._next_tend_ns = now_ns + TEND_MS * NS_PER_MS
        for node in self.nodes:
            if node.take_events():
                self._drain(done, now_ns)  # what it said before it went
                self._leader.forget(node.index)
                self._leave(node, now_ns)
        for node in self.nodes:
            if node.outstanding:
                self._retry_overdue(node, now_ns)
        self._flush(now_ns)
        if self._choice == "leader" and self._leader.is_due(now_ns):
            self._leader.ask([node for node in self.nodes if node.connected], now_ns, self._group)

    def _leave(self, node: Connection, now_ns: int) -> None:
        """All that is outstanding at ``node`` goes elsewhere, in the order of numbers."""
        requests = sorted(node.outstanding.values(), key=lambda request: request.number)
        self.counters.failovers += bool(requests)
        for request in requests:
            self._retry(request, now_ns)

    def _retry_overdue(self, node: Connection, now_ns: int) -> None:
        oldest_ns = next(iter(node.outstanding.values())).sent_ns
        if now_ns - max(oldest_ns, node.heard_ns) > self._suspicion_ns and node.suspect_until_ns <= now_ns:
            others = [each for each in self.nodes if each is not node and self._usable(each, now_ns)]
            if others:
                node.suspect_until_ns = now_ns + SUSPECT_MS * NS_PER_MS
                self._leave(node, now_ns)
                return
        overtaken_ns = node.answered_sent_ns - OVERTAKEN_MS * NS_PER_MS
        for request in list(node.outstanding.values()):
            age_ns = now_ns - request.sent_ns
            overtaken = request.sent_ns < overtaken_ns
            if not overtaken and age_ns <= self._timeout_ns:
                break  # those behind it were sent later
            timed_out = age_ns > self._timeout_ns << min(request.attempts - 1, MAX_BACKOFF_DOUBLINGS)
            if overtaken or timed_out:
                self.counters.overtaken += overtaken
                self.counters.timeouts += not overtaken
                self._retry(request, now_ns)

    def _flush(self, now_ns: int) -> None:
        """Send what waits and is ready, as far as nodes take it."""
        while self._waiting and self._waiting[0][0] <= now_ns:
            request = self._open.get(self._waiting[0][1])
            if request is not None and request.node is None:
                node = self._choose(now_ns, None)
                if node is None or not self._send(request, node, now_ns):
                    return
            heapq.heappop(self._waiting)

    def _patience_ms(self, timeout_ms: float) -> float:
        """How long to wait in one go: not past the next look at time-outs, if there is anything to time out."""
        return min(timeout_ms, TEND_MS if self._open or self._waiting else 10 * TEND_MS)

    def _usable(self, node: Connection, now_ns: int) -> bool:
        return node.connected and node.busy_until_ns <= now_ns and node.suspect_until_ns <= now_ns

    def _choose(self, now_ns: int, other_than: Connection | None) -> Connection | None:
        """A node to send to by the rule of choice; suspects only if there is nobody else."""
        candidates = [node for node in self.nodes if self._usable(node, now_ns)]
        if not candidates:
            candidates = [node for node in self.nodes if node.connected and node.busy_until_ns <= now_ns]
        self._turn += 1
        return choose_node(candidates, other_than, self._choice, self._turn, self._leader.index, self._rng)
