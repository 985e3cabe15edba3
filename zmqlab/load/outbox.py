"""Where a request goes, and when it goes there again.

When a request is sent again:

- its node's connection is lost: at once (the answer would have gone to the old connection);
- its node is left, since it no longer belongs to the cluster: at once;
- its node says BUSY or CLOSING: at once to a node that has not, else after a short back-off that grows;
- its node has answered one that was sent ``OVERTAKEN_MS`` later: at once. A node forwards to the leader, and the
  leader may have died with the request; answers come nearly in order otherwise;
- its node is suspect: silent for ``suspicion_ms`` with requests outstanding, while another node is not;
- nobody has answered for ``timeout_ms``; doubled with each try of the same request, up to eightfold.

Knows the open requests and the nodes; knows nothing of sessions and of what an answer says.
"""

from __future__ import annotations

import heapq
import random

from zmqlab.load.choice import choose_node
from zmqlab.load.connection import Connection
from zmqlab.load.requests import OpenRequest, RequesterCounters
from zmqlab.load.roster import Roster
from zmqlab.load.settings import NodeChoice
from zmqlab.load.watch import StatusWatch
from zmqlab.wire.client import ResponseStatus

NS_PER_MS = 1_000_000
OVERTAKEN_MS = 100
"""A request this much older than one that its node has answered is taken for lost: a hundred times a usual answer."""
SUSPECT_MS = 2_000
"""How long a suspect is avoided before it is given another chance, if it says nothing."""
BUSY_MS = 5
"""First back-off; doubles with each BUSY in a row, up to BUSY_MAX_MS."""
BUSY_MAX_MS = 160
CLOSING_MS = 1_000
MAX_BACKOFF_DOUBLINGS = 3

_CLOSING = int(ResponseStatus.CLOSING)


class Outbox:
    """Open requests of one session and the nodes that have them."""

    def __init__(
        self,
        roster: Roster,
        watch: StatusWatch,
        counters: RequesterCounters,
        *,
        timeout_ms: float,
        suspicion_ms: float,
        node_choice: NodeChoice,
        rng: random.Random,
    ) -> None:
        self.open: dict[int, OpenRequest] = {}
        """Submitted and not answered, by number."""
        self.waiting: list[tuple[int, int]] = []
        """Heap of (ready_ns, number) of open requests that no node has at the moment."""
        self._roster = roster
        self._watch = watch
        self._counters = counters
        self._timeout_ns = round(timeout_ms * NS_PER_MS)
        self._suspicion_ns = round(suspicion_ms * NS_PER_MS)
        self._choice: NodeChoice = node_choice
        self._rng = rng
        self._turn = 0  # round-robin

    def submit(self, request: OpenRequest, now_ns: int, node_hint: int | None = None) -> None:
        """A new request; it goes out now if a node takes it."""
        self.open[request.number] = request
        node = self.choose(now_ns, None)
        if node_hint is not None:
            hinted = self._roster.find(node_hint)
            node = hinted if hinted is not None and self._usable(hinted, now_ns) else node
        if node is None or not self._send(request, node, now_ns):
            heapq.heappush(self.waiting, (now_ns, request.number))

    def complete(self, request: OpenRequest, node: Connection) -> None:
        """``node`` has answered."""
        number, asked = request.number, request.node
        del self.open[number]
        if asked is not None:
            del asked.outstanding[number]
            if asked is node and request.sent_ns > node.answered_sent_ns:
                node.answered_sent_ns = request.sent_ns
        node.busy_level = 0

    def wait(self, request: OpenRequest, ready_ns: int) -> None:
        """Take a request from its node; it is sent again from ``ready_ns`` on."""
        if request.node is not None:
            del request.node.outstanding[request.number]
            request.node = None
        heapq.heappush(self.waiting, (ready_ns, request.number))

    def note_busy(self, node: Connection, status: int, now_ns: int) -> None:
        """``node`` takes nothing for now."""
        self._counters.busy += 1
        if now_ns >= node.busy_until_ns:  # one flush may bring many BUSYs, which count once
            backoff_ms = CLOSING_MS if status == _CLOSING else min(BUSY_MS << node.busy_level, BUSY_MAX_MS)
            node.busy_level = min(node.busy_level + 1, 10)
            node.busy_until_ns = now_ns + backoff_ms * NS_PER_MS

    def leave(self, node: Connection, now_ns: int) -> None:
        """All that is outstanding at ``node`` goes elsewhere, in the order of numbers."""
        requests = sorted(node.outstanding.values(), key=lambda request: request.number)
        self._counters.failovers += bool(requests)
        for request in requests:
            self._retry(request, now_ns)

    def tend(self, now_ns: int) -> None:
        """Send again what is overdue, and what waits and is ready."""
        for node in self._roster.nodes:
            if node.outstanding:
                self._retry_overdue(node, now_ns)
        self._flush(now_ns)

    def choose(self, now_ns: int, other_than: Connection | None) -> Connection | None:
        """A node to send to by the rule of choice; suspects only if there is nobody else."""
        nodes = self._roster.nodes
        candidates = [node for node in nodes if self._usable(node, now_ns)]
        if not candidates:
            candidates = [node for node in nodes if node.connected and node.busy_until_ns <= now_ns]
        self._turn += 1
        return choose_node(candidates, other_than, self._choice, self._turn, self._watch.leader, self._rng)

    def _usable(self, node: Connection, now_ns: int) -> bool:
        return node.connected and node.busy_until_ns <= now_ns and node.suspect_until_ns <= now_ns

    def _send(self, request: OpenRequest, node: Connection, now_ns: int) -> bool:
        if not node.send(request.frame):
            node.busy_until_ns = max(node.busy_until_ns, now_ns + BUSY_MS * NS_PER_MS)
            return False
        request.node = node
        request.sent_ns = now_ns
        if not request.attempts:
            request.first_sent_ns = now_ns
        else:
            self._counters.retries += 1
        request.attempts += 1
        node.outstanding[request.number] = request
        return True

    def _retry(self, request: OpenRequest, now_ns: int) -> None:
        """Send a request again, to another node if there is one."""
        before = request.node
        node = self.choose(now_ns, before)
        if before is not None:
            del before.outstanding[request.number]
            request.node = None
        if node is None or not self._send(request, node, now_ns):
            heapq.heappush(self.waiting, (now_ns, request.number))

    def _retry_overdue(self, node: Connection, now_ns: int) -> None:
        oldest_ns = next(iter(node.outstanding.values())).sent_ns
        if now_ns - max(oldest_ns, node.heard_ns) > self._suspicion_ns and node.suspect_until_ns <= now_ns:
            others = [each for each in self._roster.nodes if each is not node and self._usable(each, now_ns)]
            if others:
                node.suspect_until_ns = now_ns + SUSPECT_MS * NS_PER_MS
                self.leave(node, now_ns)
                return
        overtaken_ns = node.answered_sent_ns - OVERTAKEN_MS * NS_PER_MS
        for request in list(node.outstanding.values()):
            age_ns = now_ns - request.sent_ns
            overtaken = request.sent_ns < overtaken_ns
            if not overtaken and age_ns <= self._timeout_ns:
                break  # those behind it were sent later
            timed_out = age_ns > self._timeout_ns << min(request.attempts - 1, MAX_BACKOFF_DOUBLINGS)
            if overtaken or timed_out:
                self._counters.overtaken += overtaken
                self._counters.timeouts += not overtaken
                self._retry(request, now_ns)

    def _flush(self, now_ns: int) -> None:
        """Send what waits and is ready, as far as nodes take it."""
        while self.waiting and self.waiting[0][0] <= now_ns:
            request = self.open.get(self.waiting[0][1])
            if request is not None and request.node is None:
                node = self.choose(now_ns, None)
                if node is None or not self._send(request, node, now_ns):
                    return
            heapq.heappop(self.waiting)
