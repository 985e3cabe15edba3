"""Parts of what was traced: which records belong to one request, or to one election.

A request is found by client and number, its entry of the log by the index that its answer or its execution names. The
AppendEntries that bring this entry are found by their range, and the answers to them by their rounds.

An election is found by the step with which a node began to lead its term. It begins with the first vote or pre-vote of
a row that leads up to it, and ends when the new leader knows that the first entry of its term is committed.

Left out on purpose: how records come in and how long they stay (:mod:`zmqlab.lab.sampled_traces`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from zmqlab.lab.message_matching import MISSING_NS, Coverage, Matcher, Message, Process, Step
from zmqlab.wire.traces import TraceKind, TraceRecord

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
_STEPS_OF_ENTRIES = frozenset({TraceKind.STORED, TraceKind.COMMITTED, TraceKind.APPLIED})
_OF_ENTRIES = _STEPS_OF_ENTRIES | {TraceKind.APPEND_ENTRIES}
"""Kinds whose records say which entries they concern."""

Seen = tuple[Process, TraceRecord]
Key = tuple[int, int]


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


@dataclass(frozen=True, slots=True)
class Material:
    """All that is known when parts are looked for. The records are read, and not changed."""

    records: Collection[Seen]
    """In the order in which they came in."""
    orders: Collection[Order]
    names: Mapping[Process, str]
    coverage: Coverage
    members: Collection[int]
    offset_ns: int
    """The wall clock, less the monotonic one."""
    of_group: str = ""
    """Which Raft group they are of, for titles; empty where there is one."""

    def request(self, key: Key) -> Part | None:
        """Of the records that are kept; None if there are none."""
        client, number = key
        own = [seen for seen in self.records if seen[1].client == client and seen[1].number == number]
        if not own:
            return None
        indexes = {record.last_index for _, record in own if record.kind in (TraceKind.APPLIED, TraceKind.RESPONSES)}
        indexes.discard(0)
        rounds: set[tuple[int, int]] = set()
        start_ns = min(record.time_ns for _, record in own)
        for _, record in self.records:
            if record.kind is TraceKind.APPEND_ENTRIES and _brings(record, indexes, key):
                rounds.add((record.term, record.round))
        found = [
            (process, record)
            for process, record in self.records
            if (record.kind in _APPENDS and (record.term, record.round) in rounds and record.time_ns >= start_ns)
            or (record.kind in _STEPS_OF_ENTRIES and _brings(record, indexes, key))
            or (record.client == client and record.number == number and record.kind not in _OF_ENTRIES)
        ]
        orders = [each for each in self.orders if (each.client, each.number) == key]
        where = f", entry {max(indexes):,} of the log" if indexes else ""
        title = f"Request {key[1]:,} of client {key[0]:,}{self.of_group}{where}"
        return self._part(title, found, key, orders[-1] if orders else None)

    def election(self, term: int) -> Part | None:
        leads = [each for each in self.records if each[1].kind is TraceKind.LEADER and each[1].term == term]
        if not leads:
            return None
        leader, led_ns = leads[0][0], leads[0][1].time_ns
        before = [
            record.time_ns
            for _, record in self.records
            if record.kind in _VOTES and term - 1 <= record.term <= term and record.time_ns <= led_ns
        ]
        start_ns = led_ns
        for time_ns in sorted(before, reverse=True):
            if start_ns - time_ns > BEFORE_ELECTION_NS:
                break
            start_ns = time_ns
        firsts = [
            record
            for process, record in self.records
            if process == leader and record.kind is TraceKind.APPEND_ENTRIES and record.term == term
        ]
        first = min((each.first_index for each in firsts if each.time_ns >= led_ns - MISSING_NS), default=0)
        rounds = {(each.term, each.round) for each in firsts if each.first_index == first}
        ends = [
            record.time_ns
            for process, record in self.records
            if process == leader and record.kind is TraceKind.COMMITTED and _brings(record, {first}, (-1, -1))
        ]
        end_ns = min(ends, default=led_ns + AFTER_ELECTION_NS)
        found = [
            (process, record)
            for process, record in self.records
            if start_ns <= record.time_ns <= end_ns
            and (
                record.kind in _OF_TERM
                or (record.kind in _APPENDS and (record.term, record.round) in rounds)
                or (record.kind is TraceKind.STORED and (not record.first_index or _brings(record, {first}, (-1, -1))))
                or (record.kind is TraceKind.COMMITTED and _brings(record, {first}, (-1, -1)))
            )
        ]
        title = f"Election of {self.names.get(leader) or leader} in term {term:,}{self.of_group}"
        return self._part(title, found, (0, term))

    def _part(self, title: str, found: list[Seen], key: Key, order: Order | None = None) -> Part:
        matcher = Matcher(self.coverage, self.members)
        news: list[Message | Step] = []
        for process, record in sorted(found, key=lambda each: each[1].time_ns):
            news += matcher.take(process, [record])
        news += matcher.settle(1 << 63)
        start_ns = min((record.time_ns for _, record in found), default=0)
        return Part(
            title,
            tuple(each for each in news if isinstance(each, Message)),
            tuple(each for each in news if isinstance(each, Step)),
            tuple(self.names.items()),
            start_ns,
            start_ns + self.offset_ns,
            key,
            order,
        )


def _brings(record: TraceRecord, indexes: Iterable[int], key: Key) -> bool:
    """Whether the entries that a record concerns have one of ``indexes``, or its request is ``key``."""
    first, last = record.first_index, record.last_index
    for index in indexes:  # no any(): this is asked of thousands of records at a time
        if 0 < first <= index <= last:
            return True
    return (record.client, record.number) == key
