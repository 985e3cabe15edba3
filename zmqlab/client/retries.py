"""Which node a request goes to, and when it is sent again: a pure state machine.

A request may be sent again at any time, because the replicas apply its number once. But each copy costs the cluster a
place in the log. A client that sends again merely because the cluster is slow makes it slower. So there are two kinds
of reasons.

*The node will not answer.* The request moves to another node at once:

- The node's connection is lost: the answer would have come over it.
- The node was left, because it no longer belongs to the cluster.
- The node says BUSY or CLOSING. If all nodes do, the request waits for a short time, which grows with each refusal.
- The node is *silent*: nothing has come from it for ``suspicion_ms`` although requests are outstanding there, while
  another node has said something in that time. After half of ``suspicion_ms`` all nodes are asked for their status, so
  that a live node has a reason to speak. A slow cluster answers such questions as fast as a quick one; only a node that
  is paused or cut off does not. A silent node is avoided for ``AVOID_MS``, or until it says something.
- The node has *answered a request that was sent later*, by 100 ms or by four times the variation of its response time,
  whichever is more. A node passes requests on in order, so that the earlier one was lost behind it, for example with a
  leader that died.

*The node has not answered yet.* The retry time-out follows the response time that is observed at that node, as TCP's
does (RFC 6298):

- SRTT and RTTVAR are the smoothed response time of the requests that were sent once, and its smoothed deviation. The
  time-out is SRTT + 4 RTTVAR, at least the configured ``timeout_ms`` and at most ``TIMEOUT_GROWTH`` times that. (RFC
  6298 allows a minute, because hosts share a network; here an expiry costs one copy. A client that has been through
  some seconds of faults must not wait ten more for an answer that was lost.)
- It doubles with each expiry at the node, and with each expiry of the request, up to eightfold. It stays doubled until
  the node answers a request that was sent once (Karn's rule: after a retry it is unknown which copy was answered).
- Its clock starts when the node's oldest request is sent, and starts again with each answer of that node (RFC 6298,
  5.3). So requests do not time out at a node that goes on answering, however slowly it does.
- On expiry there are two cases. If requests that were sent later (by as much as above) have been answered, or are
  answered from now on, this node is *stuck*, for example cut off from the leader, and all of its requests move. If
  none has been answered, the whole cluster is slow or stands still: one request is sent again, the oldest, as a probe.
  In both cases the node is avoided for another time-out, or until it answers a request; if all nodes are avoided, none
  is. Afterwards it is tried with new requests. A request that has waited in vain goes to a node that has not let a
  request wait since its last answer, if there is one: else it may wait at two nodes in turn, each time twice as long.

So a cluster that becomes slow sees a few copies, never a whole window of them.

Rules: no socket, no clock; ``now_ns`` is handed in. Knows open requests and nodes; knows nothing of sessions and of
what an answer says.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zmqlab.client.roster import Contact, Roster
from zmqlab.wire.client import ResponseStatus

NodeChoice = Literal["random", "round-robin", "leader"]
"""Which node a request goes to. Followers forward, so that any node will do; ``leader`` saves that hop."""

NS_PER_MS = 1_000_000
OVERTAKEN_NS = 100 * NS_PER_MS
"""A request that is so much older than one that its node has answered is lost: a hundred times a usual answer."""
AVOID_MS = 2_000
"""How long a silent node is avoided before it is tried again, if it says nothing."""
BUSY_MS = 5
"""First pause after BUSY; doubles with each BUSY in a row, up to BUSY_MAX_MS."""
BUSY_MAX_MS = 160
CLOSING_MS = 1_000
"""A node that says CLOSING ends within a second."""
TIMEOUT_GROWTH = 5
"""Before doublings. With the usual second, above what a cluster takes to elect and catch up on a busy machine."""
DOUBLINGS_MAX = 3
"""A time-out grows up to eightfold."""

_NOT_HERE = int(ResponseStatus.CLOSING), int(ResponseStatus.ELSEWHERE)


@dataclass(slots=True)
class OpenRequest:
    """A request that was submitted and is not answered."""

    number: int
    commands: bytes
    frame: bytes
    """As sent last; sent again as it is, except after WINDOW_FULL."""
    token: Any
    """What the caller gave to ``submit``."""
    node: Contact | None = None
    """Where it is outstanding; None while it waits to be sent."""
    first_node: Contact | None = None
    """Where it was sent first, unless it was refused there; None until then."""
    attempts: int = 0
    """How often it was handed to a connection."""
    windows_full: int = 0
    """How often it met a full window."""
    expiries: int = 0
    """How often it was the request whose time-out expired. A refusal, such as BUSY, is no expiry."""
    first_sent_ns: int = 0
    sent_ns: int = 0
    """When it was sent last; not before ``first_sent_ns``."""


@dataclass(slots=True)
class SessionCounters:
    """What happened so far, beside the answers themselves. No figure ever falls."""

    retries: int = 0
    """Requests sent again, for whatever reason."""
    timeouts: int = 0
    """Expired time-outs: of a stuck node, or of a request that was sent again as a probe."""
    overtaken: int = 0
    failovers: int = 0
    """Lost connections, nodes left, silent nodes and stuck nodes whose requests moved to another node."""
    busy: int = 0
    window_full: int = 0
    duplicates: int = 0
    """Answers to requests that were answered before, or that are not ours."""
    bad_frames: int = 0


class ResponseClock:
    """The response time of one node, and its retry time-out (RFC 6298)."""

    def __init__(self, floor_ns: int) -> None:
        self.srtt_ns = 0
        """Smoothed response time; 0 before the first sample."""
        self.variation_ns = 0
        """RTTVAR: smoothed deviation from it."""
        self.doublings = 0
        """Expiries since the last sample, at most DOUBLINGS_MAX."""
        self._floor_ns = floor_ns

    def observe(self, sample_ns: int) -> None:
        """The response time of a request that was sent once."""
        if self.srtt_ns:
            self.variation_ns += (abs(self.srtt_ns - sample_ns) - self.variation_ns) >> 2
            self.srtt_ns += (sample_ns - self.srtt_ns) >> 3
        else:
            self.srtt_ns, self.variation_ns = sample_ns, sample_ns >> 1
        self.doublings = 0

    def note_expiry(self) -> None:
        """The time-out has passed without an answer."""
        self.doublings = min(self.doublings + 1, DOUBLINGS_MAX)

    def timeout_ns(self, expiries: int = 0) -> int:
        """How long to wait for the answer to a request that has timed out so many times, here or at other nodes."""
        base_ns = max(min(self.srtt_ns + 4 * self.variation_ns, TIMEOUT_GROWTH * self._floor_ns), self._floor_ns)
        return base_ns << max(self.doublings, min(expiries, DOUBLINGS_MAX))

    @property
    def disorder_ns(self) -> int:
        """How much later a request must have been sent before its earlier answer proves anything."""
        return max(OVERTAKEN_NS, 4 * self.variation_ns)

    def reset(self) -> None:
        """Forget everything: the node may be another process now."""
        self.srtt_ns = self.variation_ns = self.doublings = 0


class Outbox:
    """Open requests of one session and the nodes that have them."""

    def __init__(
        self,
        roster: Roster,
        counters: SessionCounters,
        *,
        suspicion_ms: float,
        node_choice: NodeChoice,
        rng: random.Random,
    ) -> None:
        self.open: dict[int, OpenRequest] = {}
        """Submitted and not answered, by number, in the order of their numbers."""
        self.waiting: list[tuple[int, int]] = []
        """Heap of (ready_ns, number) of open requests that no node has at the moment."""
        self.unsent: dict[int, OpenRequest] = {}
        """Open requests that were never handed to a connection; all of them are in ``waiting``."""
        self.on_sent: Callable[[OpenRequest, Contact, int], None] | None = None
        """Told of each copy that was handed to a connection, and when; None: no watch."""
        self._roster = roster
        self._counters = counters
        self._suspicion_ns = round(suspicion_ms * NS_PER_MS)
        self._choice: NodeChoice = node_choice
        self._rng = rng
        self._turn = 0
        """Counts choices, for round-robin."""
        self._answered_sent_ns = 0
        """The latest sending among all answered requests, whichever node answered."""

    def submit(self, request: OpenRequest, now_ns: int) -> None:
        """Take a new request; it goes out now if a node takes it."""
        self.open[request.number] = request
        node = self.choose(now_ns)
        if node is None or not self._send(request, node, now_ns):
            self.unsent[request.number] = request
            heapq.heappush(self.waiting, (now_ns, request.number))

    def complete(self, request: OpenRequest, node: Contact, now_ns: int) -> None:
        """``node`` has answered."""
        number, asked = request.number, request.node
        del self.open[number]
        if asked is not None:
            del asked.outstanding[number]
        else:  # an earlier copy is answered while the request waits for a node
            self.waiting = [each for each in self.waiting if each[1] != number]
            heapq.heapify(self.waiting)
        node.busy_level = 0
        node.progress_ns = now_ns
        if asked is node and request.sent_ns > self._answered_sent_ns:
            self._answered_sent_ns = request.sent_ns
        if request.attempts == 1:
            node.clock.observe(now_ns - request.sent_ns)
        if request.first_node is node:
            first_sent_ns = request.first_sent_ns
            if first_sent_ns > node.answered_sent_ns:
                node.answered_sent_ns = first_sent_ns

    def wait(self, request: OpenRequest, ready_ns: int, *, by_the_log: bool = False) -> None:
        """Take a request that was refused from its node; it is sent again from ``ready_ns`` on.

        A refusal ``by_the_log`` has travelled through it: the cluster serves, and this node with it.

        Its answer will be one to a later copy, and so tells nothing of the time that answers take.
        """
        if request.node is not None:
            del request.node.outstanding[request.number]
            request.node = None
        request.first_node = None
        if by_the_log and request.sent_ns > self._answered_sent_ns:
            self._answered_sent_ns = request.sent_ns
        heapq.heappush(self.waiting, (ready_ns, request.number))

    def note_busy(self, node: Contact, status: int, now_ns: int) -> None:
        """``node`` takes no requests for now."""
        self._counters.busy += 1
        if now_ns >= node.busy_until_ns:  # several BUSYs may come in one frame: they count once
            pause_ms = CLOSING_MS if status in _NOT_HERE else min(BUSY_MS << node.busy_level, BUSY_MAX_MS)
            node.busy_level = min(node.busy_level + 1, 10)
            node.busy_until_ns = now_ns + pause_ms * NS_PER_MS

    def leave(self, node: Contact, now_ns: int) -> None:
        """Move all that is outstanding at ``node`` elsewhere, in the order of numbers."""
        requests = sorted(node.outstanding.values(), key=lambda request: request.number)
        self._counters.failovers += bool(requests)
        for request in requests:
            self._retry(request, now_ns)

    def tend(self, now_ns: int) -> None:
        """Send again what is overdue, and what waits and is ready."""
        for node in self._roster.contacts:
            if node.outstanding:
                self._look_after(node, now_ns)
        self._flush(now_ns)

    def choose(self, now_ns: int, *, other_than: Sequence[Contact] = (), again: bool = False) -> Contact | None:
        """A node to send to by the rule of choice; avoided nodes only if there are no others.

        A request that is sent ``again`` goes to a stuck node only if there are no others either.
        """
        nodes = self._roster.contacts
        candidates = [node for node in nodes if _is_usable(node, now_ns)]
        if not candidates:
            candidates = [node for node in nodes if node.connected and node.busy_until_ns <= now_ns]
        if again:
            candidates = [node for node in candidates if not node.is_stuck] or candidates
        self._turn += 1
        return choose_node(candidates, other_than, self._choice, self._turn, self._roster.leader, self._rng)

    def _send(self, request: OpenRequest, node: Contact, now_ns: int) -> bool:
        if not node.wire.send(request.frame):
            node.busy_until_ns = max(node.busy_until_ns, now_ns + BUSY_MS * NS_PER_MS)
            return False
        if not request.attempts:
            request.first_sent_ns = now_ns
            request.first_node = node
            self.unsent.pop(request.number, None)
        else:
            self._counters.retries += 1
        request.node = node
        request.sent_ns = now_ns
        request.attempts += 1
        node.outstanding[request.number] = request
        if self.on_sent is not None:
            self.on_sent(request, node, now_ns)
        return True

    def _retry(self, request: OpenRequest, now_ns: int) -> None:
        """Send a request again, to another node if there is one."""
        before = request.node
        node = self.choose(now_ns, other_than=[before] if before else [], again=True)
        if before is not None:
            del before.outstanding[request.number]
            request.node = None
        if node is None or not self._send(request, node, now_ns):
            heapq.heappush(self.waiting, (now_ns, request.number))

    def _look_after(self, node: Contact, now_ns: int) -> None:
        """Whatever is due at a node with outstanding requests; see the module for the rules."""
        oldest = next(iter(node.outstanding.values()))
        if self._is_silent(node, oldest, now_ns):
            self._avoid(node, now_ns + AVOID_MS * NS_PER_MS, now_ns)
            return
        if oldest.sent_ns < node.answered_sent_ns:
            self._retry_overtaken(node, now_ns)
        if node.is_stuck and self._answered_sent_ns >= node.progress_ns:  # what was sent after its expiry is answered
            is_over = node.avoided_until_ns <= now_ns  # it was tried again, and has not answered since
            self._avoid(node, now_ns + node.clock.timeout_ns() if is_over else node.avoided_until_ns, now_ns)
            return
        waited_ns = now_ns - max(oldest.sent_ns, node.progress_ns)
        if oldest.node is node and waited_ns > node.clock.timeout_ns(oldest.expiries):
            self._expire(node, oldest, now_ns)

    def _is_silent(self, node: Contact, oldest: OpenRequest, now_ns: int) -> bool:
        """Whether ``node`` says nothing while others do; makes all speak when it has been silent for a while."""
        silence_ns = now_ns - max(oldest.sent_ns, node.heard_ns)
        if 2 * silence_ns <= self._suspicion_ns or node.avoided_until_ns > now_ns:
            return False
        self._roster.hurry(self._suspicion_ns / (4 * NS_PER_MS))
        return silence_ns > self._suspicion_ns and any(
            each is not node and _is_usable(each, now_ns) and now_ns - each.heard_ns <= self._suspicion_ns
            for each in self._roster.contacts
        )

    def _avoid(self, node: Contact, until_ns: int, now_ns: int) -> None:
        node.avoided_until_ns = until_ns
        self.leave(node, now_ns)

    def _retry_overtaken(self, node: Contact, now_ns: int) -> None:
        overtaken_ns = node.answered_sent_ns - node.clock.disorder_ns
        for request in list(node.outstanding.values()):
            if request.sent_ns >= overtaken_ns:
                return  # those behind it were sent later
            self._counters.overtaken += 1
            self._retry(request, now_ns)

    def _expire(self, node: Contact, oldest: OpenRequest, now_ns: int) -> None:
        """The time-out has passed without any answer of ``node`` to a request."""
        self._counters.timeouts += 1
        others_answer = self._answered_sent_ns - node.clock.disorder_ns > oldest.sent_ns
        node.clock.note_expiry()
        oldest.expiries += 1
        node.progress_ns = now_ns  # the doubled time-out counts from here
        node.is_stuck = True
        avoid_until_ns = now_ns + node.clock.timeout_ns()
        if others_answer:
            self._avoid(node, avoid_until_ns, now_ns)
        else:
            node.avoided_until_ns = avoid_until_ns
            self._retry(oldest, now_ns)

    def _flush(self, now_ns: int) -> None:
        """Send what waits and is ready, as far as nodes take it."""
        while self.waiting and self.waiting[0][0] <= now_ns:
            request = self.open.get(self.waiting[0][1])
            if request is not None and request.node is None:
                node = self.choose(now_ns, again=request.expiries > 0)
                if node is None or not self._send(request, node, now_ns):
                    return
            heapq.heappop(self.waiting)


class UnwaitedOutbox(Outbox):
    """For a client that waits for no answer: a request is done with once a node's connection has taken it."""

    def _send(self, request: OpenRequest, node: Contact, now_ns: int) -> bool:
        if not super()._send(request, node, now_ns):
            return False
        del self.open[request.number], node.outstanding[request.number]
        return True


def _is_usable(node: Contact, now_ns: int) -> bool:
    return node.connected and node.holds_group and node.busy_until_ns <= now_ns and node.avoided_until_ns <= now_ns


def choose_node(
    candidates: Sequence[Contact],
    other_than: Sequence[Contact],
    choice: NodeChoice,
    turn: int,
    leader: int | None,
    rng: random.Random,
) -> Contact | None:
    """One of ``candidates`` by the rule of choice, or None if there is none.

    Args:
        candidates: the nodes that may be chosen.
        other_than: the nodes that were tried before, the latest last; one of them is chosen only if there is no other,
            and the latest only if it is the last one.
        choice: the rule. With ``leader`` any node will do while no leader is known, because nodes forward.
        turn: which turn this is, for ``round-robin``.
        leader: index of the node that leads, if that is known.
        rng: for ``random``.
    """
    for tried in (other_than, other_than[-1:]) if other_than else ():
        untried = [node for node in candidates if node not in tried]
        if untried:
            candidates = untried
            break
    if not candidates:
        return None
    if choice == "leader":
        for node in candidates:
            if node.index == leader:
                return node
    if choice == "random":
        return candidates[int(rng.random() * len(candidates))]
    return candidates[turn % len(candidates)]
