"""What nodes and load clients have told of sampled requests and of elections: kept for a while, and put together.

:class:`Traces` is the place for readers. A cluster has one (``cluster.traces``), which hears the TRACE frames of its
feed. It keeps the newest :data:`RECORDS` records, and besides them what a person asks for afterwards: the slowest
requests of the run, and each election.

- A moving picture polls :meth:`Traces.since`: messages with both ends, and steps of nodes, as they become known.
- A diagram takes a :class:`Part`: :meth:`Traces.request` and :meth:`Traces.election`.

Nothing is traced until it is asked for: :func:`zmqlab.lab.trace_leases.trace`, or ``cluster.trace()`` for a person.

*Which group.* Terms, indexes and the ids of sessions are of one Raft group. So where there are several, one of them is
traced at a time (:meth:`Traces.turn_to`), and what is told of another one is left out.

*Which clock.* All times are nanoseconds on the monotonic clock that the processes of one machine share;
:meth:`Traces.wall_ns` gives the time of day. A process whose frames are more than :data:`OTHER_CLOCK_NS` away from this
process' clock runs on another machine, and its records are left out; :attr:`Traces.other_clocks` names it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from zmqlab.client.request_traces import request_record, response_record
from zmqlab.client.retries import OpenRequest
from zmqlab.client.roster import Contact
from zmqlab.errors import ClusterError
from zmqlab.lab.message_matching import MISSING_NS, Coverage, Matcher, Message, Process, Step
from zmqlab.lab.traced_parts import Key, Material, Order, Part, Seen
from zmqlab.wire.client import Response
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.traces import Trace, TraceKind, TraceRecord, is_sampled
from zmqlab.wording import counted

RECORDS = 50_000
"""Kept: some 20 MB; 25 s of five nodes at the bound that is asked for by default, minutes at a usual share."""
NEWS = 20_000
"""Messages and steps that are kept for those who poll."""
SETTLE_NS = MISSING_NS + 500_000_000
"""A message is given up when it was sent so long ago: its receiver's frames of that second are there by then."""
OTHER_CLOCK_NS = 30_000_000_000
"""More than any process of this machine is late with a frame, unless it was paused."""
SLOWEST = 8
"""Requests that are kept beyond the records."""
ELECTIONS = 50
KEEP_AFTER_NS = 1_000_000_000
"""So long after the answer, or the election, all processes have told what belongs to it."""
KEEP_EVERY_NS = 1_000_000_000
"""To keep a part takes milliseconds. In a cluster that becomes slower each request would be kept, and meanwhile the
feed would hear nothing."""
SETTLE_EVERY_NS = 200_000_000
"""To settle is to look at each message that waits."""
YOUNG_NS = 5_000_000_000
"""Of what began so short a time ago more may still come."""
NEWEST_ELECTIONS = 3
"""There are no more in that time, and to look for one takes some milliseconds."""


class News(NamedTuple):
    """What has become known since the last look."""

    sequence: int
    """For the next look."""
    messages: list[Message]
    steps: list[Step]
    missed: int
    """Of these, how many were not kept until this look."""
    dropped: int
    """Records that processes had no room for, since they are traced."""
    group: int = 0
    """The Raft group that all of it is of."""


@dataclass(slots=True)
class _Kept:
    """Parts that outlive the records they are made of."""

    slowest: list[Part] = field(default_factory=list)
    elections: OrderedDict[int, Part] = field(default_factory=OrderedDict)


class Traces:
    """See the module. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.group = 0
        """The Raft group that is traced."""
        self._shards = 1
        self._news_total = 0
        self._clear()
        self.threshold = 0
        """Which requests of this process' own clients are traced; for :func:`~zmqlab.wire.traces.is_sampled`."""
        self.other_clocks: set[str] = set()
        """Processes whose clock is not that of this machine."""
        self._names: dict[Process, str] = {}
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def _clear(self) -> None:
        self._records: deque[Seen] = deque(maxlen=RECORDS)
        self._coverage = Coverage()
        self._matcher = Matcher(self._coverage)
        self._news: deque[Message | Step] = deque(maxlen=NEWS)
        self._dropped: dict[Process, int] = {}
        self._heard_s: dict[Process, float] = {}
        """When each process' newest frame came, by the monotonic clock of this process."""
        self._hears_clients = False
        """Whether a client has told anything. Until then the nodes that took requests tell how long they took."""
        self._sent: OrderedDict[Key, int] = OrderedDict()
        """Requests that were sent, or taken, and have no answer yet, by when that was first."""
        self._orders: deque[Order] = deque(maxlen=RECORDS // 10)
        self._to_keep: deque[tuple[int, str, int, int]] = deque(maxlen=RECORDS // 10)
        """(when, ``order`` or ``election``, and its key) of parts that will be whole by then."""
        self._kept = _Kept()
        self._keep_due_ns = self._settle_due_ns = 0
        """When the next part may be kept, and when old messages are given up next."""

    def __repr__(self) -> str:
        with self._lock:
            records, orders = counted(len(self._records), "record"), counted(len(self._orders), "request")
            elections = counted(len(self._elections_seen()), "election")
        return f"<Traces{self.where}: {records}, {orders} answered, {elections}>"

    @property
    def where(self) -> str:
        """Which group they are of, to follow other words; empty where there is one."""
        return f" of group {self.group}" if self._shards > 1 else ""

    def turn_to(self, group: int) -> None:
        """Trace another Raft group from now on; what was told of the last one is forgotten."""
        with self._lock:
            if group != self.group:
                self.group = group
                self._clear()

    def wall_ns(self, time_ns: int) -> int:
        """The time of day at a moment of the monotonic clock."""
        return time_ns + self._offset_ns

    # -- what comes in -----------------------------------------------------------------------------------------

    def take(self, trace: Trace, group: int = 0) -> None:
        """A TRACE frame has come, of this Raft group."""
        now_ns = time.monotonic_ns()
        process: Process = trace.node_id or trace.name
        with self._lock:
            if group != self.group:
                return
            self._names[process] = trace.name
            self._heard_s[process] = time.monotonic()
            if abs(trace.clock_ns - now_ns) > OTHER_CLOCK_NS:
                self.other_clocks.add(trace.name)
                return
            self._coverage.take(process, trace)
            self._dropped[process] = trace.dropped
            self._take(process, trace.records, now_ns)

    def knows(self, status: NodeStatus) -> None:
        """A node has told who the members are."""
        with self._lock:
            self._shards = status.shards
            self._names[status.node_id] = status.name
            if status.group != self.group:
                return
            for member in status.members:
                self._matcher.members.add(member.node_id)
                self._names.setdefault(member.node_id, member.name)
            if status.role == "leader" and status.members:
                self._matcher.members = {member.node_id for member in status.members}

    def sent(self, client_id: int, request: OpenRequest, node: Contact, now_ns: int) -> None:
        """A client of this process has sent a request; see :class:`~zmqlab.client.session.Watch`."""
        if is_sampled(client_id, request.number, self.threshold):
            self._take_own(request_record(client_id, request, node, now_ns))

    def heard(self, response: Response, node: Contact, now_ns: int) -> None:
        """A client of this process has got a response; see :class:`~zmqlab.client.session.Watch`."""
        if is_sampled(response.client_id, response.request_number, self.threshold):
            self._take_own(response_record(response, node, now_ns))

    def _take_own(self, record: TraceRecord) -> None:
        name = f"client {record.client}"
        with self._lock:
            self._names[name] = name
            self._take(name, [record], record.time_ns)

    def _take(self, process: Process, records: Iterable[TraceRecord], now_ns: int) -> None:
        for record in records:
            self._records.append((process, record))
            self._hears_clients = self._hears_clients or isinstance(process, str)
            if isinstance(process, str) or not self._hears_clients:
                self._follow_request(record)
            if record.kind is TraceKind.LEADER:
                self._to_keep.append((record.time_ns + KEEP_AFTER_NS, "election", 0, record.term))
        self._tell(self._matcher.take(process, records))
        self._settle(now_ns)
        while self._to_keep and max(self._to_keep[0][0], self._keep_due_ns) <= now_ns:
            if self._keep(*self._to_keep.popleft()[1:]):
                self._keep_due_ns = now_ns + KEEP_EVERY_NS

    def _settle(self, now_ns: int) -> None:
        """Tell of what is given up by now, if that was not done just before."""
        if now_ns >= self._settle_due_ns:
            self._settle_due_ns = now_ns + SETTLE_EVERY_NS
            self._tell(self._matcher.settle(now_ns - SETTLE_NS))

    def _tell(self, news: Iterable[Message | Step]) -> None:
        for each in news:
            self._news.append(each)
            self._news_total += 1

    def _follow_request(self, record: TraceRecord) -> None:
        key = (record.client, record.number)
        if record.kind is TraceKind.REQUEST:
            self._sent.setdefault(key, record.time_ns)
            if len(self._sent) > RECORDS:
                self._sent.popitem(last=False)
        elif record.kind is TraceKind.RESPONSES and key in self._sent:
            sent_ns = self._sent.pop(key)
            took_ns = record.time_ns - sent_ns
            self._orders.append(Order(*key, sent_ns, took_ns, record.accepted, self._hears_clients))
            slowest = self._kept.slowest
            if len(slowest) < SLOWEST or took_ns > _took_ns(slowest[-1]):
                self._to_keep.append((record.time_ns + KEEP_AFTER_NS, "order", *key))

    def _keep(self, what: str, client: int, number: int) -> bool:
        """Keep a part; whether that was work. It is not if slower requests have come meanwhile."""
        if what == "election":
            part = self._material().election(number)
            if part is not None:
                self._kept.elections[number] = part
                while len(self._kept.elections) > ELECTIONS:
                    self._kept.elections.popitem(last=False)
            return True
        slowest = self._kept.slowest
        order = next((each for each in reversed(self._orders) if each[:2] == (client, number)), None)
        if order is None or (len(slowest) == SLOWEST and order.took_ns <= _took_ns(slowest[-1])):
            return False
        end_ns = order.sent_ns + order.took_ns
        part = self._material(order.sent_ns - KEEP_AFTER_NS, end_ns + KEEP_AFTER_NS).request((client, number))
        if part is not None:
            self._kept.slowest = sorted([*slowest, part], key=_took_ns, reverse=True)[:SLOWEST]
        return True

    # -- what goes out -----------------------------------------------------------------------------------------

    def has_heard(self, processes: Iterable[Process], since_s: float) -> bool:
        """Whether a frame of each of these processes has come since then; seconds on the monotonic clock."""
        with self._lock:
            return all(self._heard_s.get(process, 0.0) >= since_s for process in processes)

    def since(self, sequence: int = 0) -> News:
        """What has become known since a look that returned ``sequence``; 0: all that is kept.

        A message is told once: when its arrival is known, or when it is given up, 1.5 to 1.7 s after it was sent.
        """
        with self._lock:
            self._settle(time.monotonic_ns())
            wanted = max(0, self._news_total - sequence)
            news = list(islice(reversed(self._news), wanted))[::-1]  # ten times a second, and most are old
            total, dropped, group = self._news_total, sum(self._dropped.values()), self.group
        messages = [each for each in news if isinstance(each, Message)]
        steps = [each for each in news if isinstance(each, Step)]
        return News(total, messages, steps, wanted - len(news), dropped, group)

    def name_of(self, process: Process) -> str:
        """The name of a node, or of a client; empty for one that is not known."""
        with self._lock:
            return self._names.get(process, "")

    def orders(self) -> list[Order]:
        """The traced requests that were answered, oldest first."""
        with self._lock:
            return list(self._orders)

    def request(self, client: int = 0, number: int = 0) -> Part:
        """All that is known of one request; without arguments of the slowest one that is known.

        Raises:
            ClusterError: no process has told anything of it.
        """
        with self._lock:
            if not client:
                return self._slowest_known()
            known = [self._material().request((client, number)), *self._kept.slowest]
            part = _fullest(each for each in known if each is not None and each.key == (client, number))
        if part is None:
            raise ClusterError(
                f"nothing is known of request {number} of client {client}: cluster.trace(share=1) traces every one"
            )
        return part

    def election(self, term: int = 0) -> Part:
        """All that is known of the election of a term's leader; without an argument of the last one.

        Raises:
            ClusterError: no process has told of such an election.
        """
        with self._lock:
            term = term or max(self._elections_seen(), default=0)
            known = (self._material().election(term), self._kept.elections.get(term))
            part = _fullest(each for each in known if each is not None)
        if part is None:
            which = f"of an election in term {term}" if term else "of any election"
            raise ClusterError(f"nothing is known {which}: cluster.trace(), and then cluster.kill(cluster.leader)")
        return part

    def slowest(self) -> list[Part]:
        """The slowest requests since tracing began, the slowest first; at most eight."""
        with self._lock:
            self._settle_kept()
            return list(self._kept.slowest)

    def elections(self) -> list[Part]:
        """The elections since tracing began, oldest first; at most fifty."""
        with self._lock:
            self._settle_kept()
            return list(self._kept.elections.values())

    def begin_run(self) -> None:
        """From now on the slowest requests are those of a new run."""
        with self._lock:
            self._kept.slowest = []

    def parts_of_run(self, start_wall_ns: int, end_wall_ns: int) -> list[Part]:
        """What is worth keeping of the time between: the slowest requests, then the elections."""
        both = [*self.slowest(), *self.elections()]
        return [each for each in both if start_wall_ns <= each.start_wall_ns <= end_wall_ns]

    # -- inside: parts -----------------------------------------------------------------------------------------

    def _settle_kept(self) -> None:
        """Keep what was to be kept later, too, for a caller who asks now; and what has come since of what is young."""
        while self._to_keep:
            self._keep(*self._to_keep.popleft()[1:])
        self._kept.slowest = [self._renewed(each) for each in self._kept.slowest]
        for term in list(self._kept.elections)[-NEWEST_ELECTIONS:]:
            self._kept.elections[term] = self._renewed(self._kept.elections[term])

    def _renewed(self, part: Part) -> Part:
        """With what has come since, if it is young."""
        if part.start_ns < time.monotonic_ns() - YOUNG_NS:
            return part
        client, number = part.key
        material = self._material()
        now = material.request(part.key) if client else material.election(number)
        return part if now is None else _fullest((part, now)) or part

    def _material(self, since_ns: int = 0, until_ns: int = 0) -> Material:
        """Of the records that are kept; with ``since_ns`` of those between the two: to look at all takes 50 ms."""
        members = self._matcher.members
        records = (
            [each for each in self._records if since_ns <= each[1].time_ns <= until_ns] if since_ns else self._records
        )
        return Material(records, self._orders, self._names, self._coverage, members, self._offset_ns, self.where)

    def _elections_seen(self) -> set[int]:
        seen = {record.term for _, record in self._records if record.kind is TraceKind.LEADER}
        return seen | self._kept.elections.keys()

    def _slowest_known(self) -> Part:
        self._settle_kept()
        if not self._kept.slowest:
            raise ClusterError(
                "no traced request has been answered yet: cluster.trace(share=1) traces every one, then send some"
            )
        return self._kept.slowest[0]


def _fullest(parts: Iterable[Part]) -> Part | None:
    """Of what is known twice: records may have gone since a part was kept, or have come."""
    return max(parts, key=lambda each: len(each.messages) + len(each.steps), default=None)


def _took_ns(part: Part) -> int:
    return part.order.took_ns if part.order is not None else 0
