"""What nodes and load clients have told of sampled requests and of elections: kept for a while, and put together.

:class:`Traces` is the place for readers. A cluster has one (``cluster.traces``), which hears the TRACE frames of its
feed. It keeps the newest :data:`RECORDS` records, and besides them what a person asks for afterwards: the slowest
requests of the run, and each election.

- A moving picture polls :meth:`Traces.since`: messages with both ends, and steps of nodes, as they become known.
- A diagram takes a :class:`Part`: :meth:`Traces.request` and :meth:`Traces.election`.

Nothing is traced until it is asked for: :func:`zmqlab.lab.trace_leases.trace`, or ``cluster.trace()`` for a person.

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
from typing import NamedTuple

from zmqlab.client.request_traces import request_record, response_record
from zmqlab.client.retries import OpenRequest
from zmqlab.client.roster import Contact
from zmqlab.errors import ClusterError
from zmqlab.lab.message_matching import MISSING_NS, Coverage, Matcher, Message, Process, Step
from zmqlab.wire.client import Response
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.traces import Trace, TraceKind, TraceRecord, is_sampled

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
KEEP_EVERY_NS = 500_000_000
"""Keeping a request takes milliseconds, and in a cluster that slows down each would be kept. To settle costs, too."""
BEFORE_ELECTION_NS = 1_000_000_000
"""Votes that are so much older than the last ones before the leader belong to an earlier try."""
AFTER_ELECTION_NS = 200_000_000
"""Until the first entry of the term is known to be committed, if that was not seen."""

_VOTES = frozenset(
    {
        TraceKind.PRE_VOTE,
        TraceKind.PRE_VOTE_RESPONSE,
        TraceKind.REQUEST_VOTE,
        TraceKind.REQUEST_VOTE_RESPONSE,
        TraceKind.TIMEOUT_NOW,
        TraceKind.PRE_CANDIDATE,
        TraceKind.CANDIDATE,
        TraceKind.LEADER,
    }
)
_OF_TERM = _VOTES | {TraceKind.FOLLOWER}
_APPENDS = frozenset({TraceKind.APPEND_ENTRIES, TraceKind.APPEND_ENTRIES_RESPONSE})
_RANGES = frozenset({TraceKind.APPEND_ENTRIES, TraceKind.STORED, TraceKind.COMMITTED, TraceKind.APPLIED})
"""Kinds whose records say which entries they concern."""

Seen = tuple[Process, TraceRecord]
Key = tuple[int, int]


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


class Order(NamedTuple):
    """A traced request and how long it took."""

    client: int
    number: int
    sent_ns: int
    took_ns: int
    """Until the first answer."""
    accepted: bool
    """Whether that answer says that it was applied."""
    by_client: bool
    """Whether its client told so. False: no client is traced, and the times are of the node that took it."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of one request or of one election: enough for a diagram."""

    title: str
    messages: tuple[Message, ...]
    steps: tuple[Step, ...]
    names: tuple[tuple[Process, str], ...]
    """(process, name) of all that were known."""
    start_ns: int
    start_wall_ns: int
    """The same moment on the wall clock."""
    key: Key = (0, 0)
    """(client, number) of a request; (0, term) of an election."""
    order: Order | None = None
    """Of a request whose sending and answer were seen."""

    def name_of(self, process: Process) -> str:
        """Of a node or a client; of one that was not named, what it is known by."""
        return dict(self.names).get(process) or (f"node {process:x}" if isinstance(process, int) else process)


@dataclass(slots=True)
class _Kept:
    """Parts that outlive the records they are made of."""

    slowest: list[Part] = field(default_factory=list)
    elections: OrderedDict[int, Part] = field(default_factory=OrderedDict)


class Traces:
    """See the module. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[Seen] = deque(maxlen=RECORDS)
        self._names: dict[Process, str] = {}
        self._coverage = Coverage()
        self._matcher = Matcher(self._coverage)
        self._news: deque[Message | Step] = deque(maxlen=NEWS)
        self._news_total = 0
        self._dropped: dict[Process, int] = {}
        self._hears_clients = False
        """Whether a client has told anything. Until then the nodes that took requests tell how long they took."""
        self._sent: OrderedDict[Key, int] = OrderedDict()
        """Requests that were sent, or taken, and have no answer yet, by when that was first."""
        self._orders: deque[Order] = deque(maxlen=RECORDS // 10)
        self._to_keep: deque[tuple[int, str, int, int]] = deque(maxlen=RECORDS // 10)
        """(when, ``order`` or ``election``, and its key) of parts that will be whole by then."""
        self._kept, self._keep_ns, self._settle_ns = _Kept(), 0, 0  # not again before these times
        self.threshold = 0
        """Which requests of this process' own clients are traced; for :func:`~zmqlab.wire.traces.is_sampled`."""
        self.other_clocks: set[str] = set()
        """Processes whose clock is not that of this machine."""
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def __repr__(self) -> str:
        with self._lock:
            count, orders, elections = len(self._records), len(self._orders), len(self._elections_seen())
        return f"<Traces: {count:,} records, {orders:,} requests answered, {elections} elections>"

    def wall_ns(self, time_ns: int) -> int:
        """The time of day at a moment of the monotonic clock."""
        return time_ns + self._offset_ns

    # -- what comes in -----------------------------------------------------------------------------------------

    def take(self, trace: Trace) -> None:
        """A TRACE frame has come."""
        now_ns = time.monotonic_ns()
        process: Process = trace.node_id or trace.name
        with self._lock:
            self._names[process] = trace.name
            if abs(trace.clock_ns - now_ns) > OTHER_CLOCK_NS:
                self.other_clocks.add(trace.name)
                return
            self._coverage.take(process, trace)
            self._dropped[process] = trace.dropped
            self._take(process, trace.records, now_ns)

    def knows(self, status: NodeStatus) -> None:
        """A node has told who the members are."""
        with self._lock:
            self._names[status.node_id] = status.name
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
        if now_ns >= self._settle_ns:
            self._settle_ns = now_ns + KEEP_EVERY_NS
            self._tell(self._matcher.settle(now_ns - SETTLE_NS))
        while self._to_keep and max(self._to_keep[0][0], self._keep_ns) <= now_ns:
            if self._keep(*self._to_keep.popleft()[1:]):
                self._keep_ns = now_ns + KEEP_EVERY_NS

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
        """Whether that was work: it was not if slower requests have come meanwhile."""
        if what == "election":
            if (part := self._election(number)) is not None:
                self._kept.elections[number] = part
                while len(self._kept.elections) > ELECTIONS:
                    self._kept.elections.popitem(last=False)
            return True
        slowest = self._kept.slowest
        order = next((each for each in reversed(self._orders) if each[:2] == (client, number)), None)
        if order is None or (len(slowest) == SLOWEST and order.took_ns <= _took_ns(slowest[-1])):
            return False
        if (part := self._request((client, number), order.sent_ns - KEEP_AFTER_NS)) is not None:
            self._kept.slowest = sorted([*slowest, part], key=_took_ns, reverse=True)[:SLOWEST]
        return True

    # -- what goes out -----------------------------------------------------------------------------------------

    def since(self, sequence: int = 0) -> News:
        """What has become known since a look that returned ``sequence``; 0: all that is kept.

        A message is told once: when its arrival is known, or when it is given up, 1.5 s after it was sent.
        """
        with self._lock:
            self._tell(self._matcher.settle(time.monotonic_ns() - SETTLE_NS))
            wanted = max(0, self._news_total - sequence)
            news = list(self._news)[-wanted:] if wanted else []
            total, dropped = self._news_total, sum(self._dropped.values())
        messages = [each for each in news if isinstance(each, Message)]
        return News(total, messages, [each for each in news if isinstance(each, Step)], wanted - len(news), dropped)

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
            part = self._request((client, number))
            kept = [each for each in self._kept.slowest if each.key == (client, number)]
        if part is None and not kept:
            raise ClusterError(
                f"nothing is known of request {number} of client {client}: cluster.trace(share=1) traces every one"
            )
        return kept[0] if kept else part  # type: ignore[return-value]

    def election(self, term: int = 0) -> Part:
        """All that is known of the election of a term's leader; without an argument of the last one.

        Raises:
            ClusterError: no process has told of such an election.
        """
        with self._lock:
            term = term or max(self._elections_seen(), default=0)
            part = self._kept.elections.get(term) or self._election(term)
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
        """Keep what was to be kept later, too: nothing more may come."""
        while self._to_keep:
            self._keep(*self._to_keep.popleft()[1:])

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

    def _request(self, key: Key, since_ns: int = 0) -> Part | None:
        """Of the records that are kept, but for those before ``since_ns``; None if there are none."""
        records = [each for each in self._records if each[1].time_ns >= since_ns]
        own = [(process, record) for process, record in records if (record.client, record.number) == key]
        if not own:
            return None
        indexes = {record.last_index for _, record in own if record.kind in (TraceKind.APPLIED, TraceKind.RESPONSES)}
        indexes.discard(0)
        rounds: set[tuple[int, int]] = set()
        start_ns = min(record.time_ns for _, record in own)
        for _, record in records:
            if record.kind is TraceKind.APPEND_ENTRIES and _brings(record, indexes, key):
                rounds.add((record.term, record.round))
        found = [
            (process, record)
            for process, record in records
            if (record.kind in _APPENDS and (record.term, record.round) in rounds and record.time_ns >= start_ns)
            or (record.kind in _RANGES - _APPENDS and _brings(record, indexes, key))
            or (record.kind not in _RANGES and (record.client, record.number) == key)
        ]
        orders = [each for each in self._orders if (each.client, each.number) == key]
        where = f", entry {max(indexes):,} of the log" if indexes else ""
        title = f"Request {key[1]:,} of client {key[0]:,}{where}"
        return self._part(title, found, key, orders[-1] if orders else None)

    def _election(self, term: int) -> Part | None:
        leads = [each for each in self._records if each[1].kind is TraceKind.LEADER and each[1].term == term]
        if not leads:
            return None
        leader, led_ns = leads[0][0], leads[0][1].time_ns
        before = [
            record.time_ns
            for _, record in self._records
            if record.kind in _VOTES and term - 1 <= record.term <= term and record.time_ns <= led_ns
        ]
        start_ns = led_ns
        for time_ns in sorted(before, reverse=True):
            if start_ns - time_ns > BEFORE_ELECTION_NS:
                break
            start_ns = time_ns
        firsts = [
            record
            for process, record in self._records
            if process == leader and record.kind is TraceKind.APPEND_ENTRIES and record.term == term
        ]
        first = min((each.first_index for each in firsts if each.time_ns >= led_ns - MISSING_NS), default=0)
        rounds = {(each.term, each.round) for each in firsts if each.first_index == first}
        ends = [
            record.time_ns
            for process, record in self._records
            if process == leader and record.kind is TraceKind.COMMITTED and _brings(record, {first}, (-1, -1))
        ]
        end_ns = min(ends, default=led_ns + AFTER_ELECTION_NS)
        found = [
            (process, record)
            for process, record in self._records
            if start_ns <= record.time_ns <= end_ns
            and (
                record.kind in _OF_TERM
                or (record.kind in _APPENDS and (record.term, record.round) in rounds)
                or (record.kind is TraceKind.STORED and (not record.first_index or _brings(record, {first}, (-1, -1))))
                or (record.kind is TraceKind.COMMITTED and _brings(record, {first}, (-1, -1)))
            )
        ]
        title = f"Election of {self._names.get(leader) or leader} in term {term:,}"
        return self._part(title, found, (0, term))

    def _part(self, title: str, found: list[Seen], key: Key, order: Order | None = None) -> Part:
        matcher = Matcher(self._coverage, self._matcher.members)
        news: list[Message | Step] = []
        for process, record in sorted(found, key=lambda each: each[1].time_ns):
            news += matcher.take(process, [record])
        news += matcher.settle(1 << 63)
        start_ns = min((record.time_ns for _, record in found), default=0)
        return Part(
            title,
            tuple(each for each in news if isinstance(each, Message)),
            tuple(each for each in news if isinstance(each, Step)),
            tuple(self._names.items()),
            start_ns,
            self.wall_ns(start_ns),
            key,
            order,
        )


def _brings(record: TraceRecord, indexes: Iterable[int], key: Key) -> bool:
    """Whether the entries that a record concerns have one of ``indexes``, or its request is ``key``."""
    is_there = any(record.first_index <= index <= record.last_index for index in indexes)
    return is_there or (record.client, record.number) == key


def _took_ns(part: Part) -> int:
    return part.order.took_ns if part.order is not None else 0
