"""Messages put together from traces: sent here at this time, received there at that time, or not seen again.

Two processes tell of one message: one that it went out, the other that it came in (:mod:`zmqlab.wire.traces`). A
:class:`Matcher` finds what belongs together. Its key is what the message says of itself: its kind, its sender, its term
and round (of a notice of a commit, which has none, what is committed), or the request that it carries. If one key was
sent several times, as a vote that is asked for again, an arrival belongs to the latest one that was sent before it. A
broadcast is one message for each other member.

*What is not seen again.* An arrival may be missing because the message is lost or late, because the receiver is not
traced or has died, or because its TRACE frame is lost. Only in the first case may a picture say so. So a matcher keeps
for each process the stretches of time in which it was heard without a gap (:class:`Coverage`), and a message is
:attr:`Fate.MISSING` if its receiver was heard during all of :data:`MISSING_NS` after it was sent. Otherwise its fate is
unknown.

All times are nanoseconds on the monotonic clock of the machine. Processes on several machines have no common clock, and
their messages can not be matched in time; :class:`~zmqlab.lab.sampled_traces.Traces` leaves those out.

*Out of the garbage collector's sight.* Some 150 messages and steps a second are made, and tens of thousands are kept.
None of them can be part of a cycle. As objects that the collector follows they would bring on a full collection each
minute, which in a notebook's kernel takes 0.1 s, and all figures stand still meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import msgspec

from zmqlab.wire.traces import STEPS, Direction, Trace, TraceKind, TraceRecord

MISSING_NS = 1_000_000_000
"""A message that has not arrived for so long is lost, or later than anyone waits: an election takes a quarter of it."""
STRETCHES = 16
"""Of one process that are remembered: enough for minutes with faults."""
Process = int | str
"""A node by its id, a client by its name."""
_Key = tuple[object, ...]
UNNAMED = ""
"""A process that a record does not name: a client, or a node whose id its client does not know."""
_FROM_CLIENT = (TraceKind.REQUEST, TraceKind.OPEN_SESSION)
_OF_REQUESTS = (*_FROM_CLIENT, TraceKind.RESPONSES, TraceKind.FORWARD)


class Fate(Enum):
    """What became of a message."""

    ARRIVED = "arrived"
    MISSING = "missing"
    """The receiver was heard all the time, and has not received it for a second: it is lost, or very late."""
    UNKNOWN = "unknown"
    """The receiver was not heard all the time; or the message is so young that it may still be under way."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message from one process to another."""

    kind: str
    """As :attr:`TraceKind.word <zmqlab.wire.traces.TraceKind.word>`: ``append_entries``, ``pre_vote``, ``forward``."""
    sender: Process
    to: Process
    """Empty if it is not known: a client's request to a node of which it knew no id, before it arrived."""
    sent_ns: int | None
    """None: its arrival was seen, and its sending was not."""
    received_ns: int | None
    """None: see :attr:`fate`."""
    fate: Fate
    record: TraceRecord
    """What the sender said of it, or else the receiver: term, indexes, request, round, size."""


class Step(msgspec.Struct, frozen=True, gc=False):
    """Something that a node did by itself."""

    kind: str
    """``stored``, ``committed``, ``applied``, or a role: ``follower``, ``pre_candidate``, ``candidate``, ``leader``."""
    node: int
    time_ns: int
    record: TraceRecord


class Coverage:
    """When each process was heard without a gap."""

    def __init__(self) -> None:
        self._stretches: dict[Process, deque[list[int]]] = {}
        """Process -> [from, to] in nanoseconds, the newest last."""
        self._last: dict[Process, tuple[int, int, int]] = {}
        """Process -> (since, sequence, dropped) of its newest frame."""

    def take(self, process: Process, trace: Trace) -> None:
        """A frame has come; those of one process come in order."""
        stretches = self._stretches.setdefault(process, deque(maxlen=STRETCHES))
        since_ns, sequence, dropped = self._last.get(process, (0, 0, 0))
        self._last[process] = (trace.since_ns, trace.sequence, trace.dropped)
        if (trace.since_ns, trace.sequence - 1, trace.dropped) == (since_ns, sequence, dropped) and stretches:
            stretches[-1][1] = trace.clock_ns
        elif trace.sequence == 1 and not trace.dropped:
            stretches.append([trace.since_ns, trace.clock_ns])
        else:
            stretches.append([trace.clock_ns, trace.clock_ns])

    def covers(self, process: Process, start_ns: int, end_ns: int) -> bool:
        """Whether all that ``process`` saw from ``start_ns`` to ``end_ns`` is known."""
        return any(since <= start_ns and end_ns <= until for since, until in self._stretches.get(process, ()))


@dataclass(slots=True)
class _Sent:
    """A message that went out, and the receivers of which no arrival is known."""

    sender: Process
    record: TraceRecord
    receivers: set[Process]

    @property
    def is_broadcast(self) -> bool:
        """Whether any node may have received it: also one of which it is not known that it is a member."""
        return not self.record.peer and self.record.kind not in _OF_REQUESTS

    def may_have_reached(self, receiver: Process, arrival: TraceRecord) -> bool:
        """Whether ``arrival``, of the same key, may be this message at ``receiver``."""
        is_from_here = not arrival.peer or arrival.peer == self.sender or self.record.kind in _FROM_CLIENT
        return is_from_here and (receiver in self.receivers or UNNAMED in self.receivers or self.is_broadcast)


class Matcher:
    """See the module. Records go in, messages and steps come out. Not thread-safe."""

    def __init__(self, coverage: Coverage, members: Iterable[int] = ()) -> None:
        """``members``: the nodes of the cluster, which get what is broadcast."""
        self.members = set(members)
        self._coverage = coverage
        self._sent: dict[_Key, list[_Sent]] = {}
        self._early: dict[_Key, list[tuple[Process, TraceRecord]]] = {}
        """Arrivals whose sending is not known yet: the sender's frame may come later."""

    def take(self, process: Process, records: Iterable[TraceRecord]) -> Iterator[Message | Step]:
        """What ``process`` saw; yields what is complete with that."""
        for record in records:
            if record.kind in STEPS:
                if isinstance(process, int):
                    yield Step(record.kind.word, process, record.time_ns, record)
            elif record.direction is Direction.OUT:
                yield from self._goes_out(process, record)
            else:
                yield from self._comes_in(process, record)

    def settle(self, before_ns: int) -> Iterator[Message]:
        """Give up on what went out, or came in, before that time; yields what is known of it."""
        for key, waiting in list(self._sent.items()):
            for sent in [each for each in waiting if each.record.time_ns < before_ns]:
                waiting.remove(sent)
                for receiver in sorted(sent.receivers, key=str):
                    yield self._unseen(sent, receiver)
            if not waiting:
                del self._sent[key]
        for key, early in list(self._early.items()):
            for process, record in [each for each in early if each[1].time_ns < before_ns]:
                early.remove((process, record))
                yield Message(record.kind.word, _sender_of(record), process, None, record.time_ns, Fate.ARRIVED, record)
            if not early:
                del self._early[key]

    def _unseen(self, sent: _Sent, receiver: Process) -> Message:
        time_ns, kind = sent.record.time_ns, sent.record.kind.word
        is_missing = self._coverage.covers(receiver, time_ns, time_ns + MISSING_NS)
        fate = Fate.MISSING if is_missing else Fate.UNKNOWN
        return Message(kind, sent.sender, receiver, time_ns, None, fate, sent.record)

    def _goes_out(self, process: Process, record: TraceRecord) -> Iterator[Message]:
        key = _key(process, record)
        sent = _Sent(process, record, self._receivers(process, record))
        waiting = self._sent.setdefault(key, [])
        waiting.append(sent)
        early, left = self._early.pop(key, []), []
        for receiver, arrival in early:
            message = self._match(key, receiver, arrival)
            if message is None:
                left.append((receiver, arrival))
            else:
                yield message
        if left:
            self._early[key] = left

    def _receivers(self, process: Process, record: TraceRecord) -> set[Process]:
        if record.kind is TraceKind.RESPONSES or (record.kind in _FROM_CLIENT and not record.peer):
            return {UNNAMED}
        return {record.peer} if record.peer else {member for member in self.members if member != process}

    def _comes_in(self, process: Process, record: TraceRecord) -> Iterator[Message]:
        key = _key(_sender_of(record), record)
        message = self._match(key, process, record)
        if message is not None:
            yield message
        else:
            self._early.setdefault(key, []).append((process, record))

    def _match(self, key: _Key, receiver: Process, arrival: TraceRecord) -> Message | None:
        """The arrival with the latest message under its key that can be meant."""
        waiting = self._sent.get(key, [])
        for sent in sorted(waiting, key=lambda each: each.record.time_ns, reverse=True):
            record = sent.record
            if record.time_ns <= arrival.time_ns and sent.may_have_reached(receiver, arrival):
                sent.receivers -= {receiver, UNNAMED}
                if not sent.receivers and not sent.is_broadcast:
                    waiting.remove(sent)
                if not waiting:
                    self._sent.pop(key, None)
                times = record.time_ns, arrival.time_ns
                return Message(record.kind.word, sent.sender, receiver, *times, Fate.ARRIVED, record)
        return None


def _sender_of(record: TraceRecord) -> Process:
    """Of a message that came in; a client is not named there."""
    return record.peer or UNNAMED


def _key(sender: Process, record: TraceRecord) -> _Key:
    """What both ends of a message say of it alike. A client may not know the node, nor a node the client."""
    if record.kind in _OF_REQUESTS:
        return record.kind, record.client, record.number
    told = 0 if record.round else record.last_index  # a notice of a commit has no round
    return record.kind, sender, record.term, record.round, record.first_index, told
