"""Traces put together: messages with both ends, what is missing and what is only not known, orders and elections."""

from __future__ import annotations

import gc
import time
from typing import Any

import msgspec
import pytest

from tests.engine.fake_effects import FakeEffects
from zmqlab.client.request_traces import RequestTraces
from zmqlab.client.roster import Contact
from zmqlab.engine.status import early_status
from zmqlab.errors import ClusterError
from zmqlab.lab.message_matching import MISSING_NS, Coverage, Fate, Matcher, Message
from zmqlab.lab.sampled_traces import ELECTIONS, SLOWEST, Traces
from zmqlab.settings import NodeSettings
from zmqlab.wire.client import Response
from zmqlab.wire.node_status import Member, NodeStatus
from zmqlab.wire.traces import Direction, Trace, TraceKind, TraceQuery, TraceRecord

A, B, C = 1, 2, 3
MS = 1_000_000
OUT, IN, STEP = Direction.OUT, Direction.IN, Direction.STEP
APPEND, ACK = TraceKind.APPEND_ENTRIES, TraceKind.APPEND_ENTRIES_RESPONSE
NAMES: dict[int | str, str] = {A: "node0", B: "node1", C: "node2", "load": "load"}


class Told:
    """Frames of several processes, which say what the test has them see."""

    def __init__(self) -> None:
        self.traces = Traces()
        self.now_ns = time.monotonic_ns()
        self._sequence: dict[int | str, int] = {}
        self._since_ns = self.now_ns
        for node in (A, B, C):
            self.traces._matcher.members.add(node)

    def tell(
        self, process: int | str, *records: TraceRecord, late_ms: float = 0.0, group: int = 0, **fields: Any
    ) -> None:
        self._sequence[process] = self._sequence.get(process, 0) + 1
        trace = Trace(
            name=NAMES[process],
            node_id=process if isinstance(process, int) else 0,
            clock_ns=self.now_ns + round(late_ms * MS),
            time_ns=0,
            since_ns=self._since_ns,
            sequence=self._sequence[process],
            records=list(records),
        )
        for name, value in fields.items():
            setattr(trace, name, value)
        self.traces.take(trace, group)

    def at(self, ms: float) -> int:
        return self.now_ns + round(ms * MS)

    def record(self, ms: float, kind: TraceKind, way: Direction, peer: int = 0, **fields: Any) -> TraceRecord:
        return TraceRecord(self.at(ms), kind, way, peer, **fields)

    def order(self, number: int, took_ms: float, start_ms: float = 0.0) -> None:
        """A request of client 9, from the client's side and at the leader."""
        whose = {"client": 9, "number": number}
        entry = {"first_index": 10 + number, "last_index": 10 + number}
        at, end = start_ms, start_ms + took_ms
        self.tell(
            "load",
            self.record(at, TraceKind.REQUEST, OUT, A, **whose),
            self.record(end, TraceKind.RESPONSES, IN, A, last_index=10 + number, **whose),
        )
        self.tell(
            A,
            self.record(at + 0.1, TraceKind.REQUEST, IN, **whose),
            self.record(at + 0.2, TraceKind.STORED, STEP, **entry, **whose),
            self.record(at + 0.3, APPEND, OUT, 0, term=4, round=number, **entry, **whose),
            self.record(at + 0.7, ACK, IN, B, term=4, round=number, last_index=10 + number),
            self.record(at + 0.8, TraceKind.COMMITTED, STEP, **entry, **whose),
            self.record(at + 0.9, TraceKind.APPLIED, STEP, **entry, **whose),
            self.record(end - 0.05, TraceKind.RESPONSES, OUT, last_index=10 + number, **whose),
        )
        self.tell(
            B,
            self.record(at + 0.4, APPEND, IN, A, term=4, round=number, **entry, **whose),
            self.record(at + 0.6, ACK, OUT, A, term=4, round=number, last_index=10 + number),
        )

    def election(self, term: int, start_ms: float) -> None:
        """Node B is elected by C; A is gone."""
        at = start_ms
        self.tell(
            B,
            self.record(at, TraceKind.PRE_CANDIDATE, STEP, term=term - 1),
            self.record(at + 0.1, TraceKind.PRE_VOTE, OUT, C, term=term),
            self.record(at + 0.5, TraceKind.PRE_VOTE_RESPONSE, IN, C, term=term),
            self.record(at + 0.6, TraceKind.CANDIDATE, STEP, term=term),
            self.record(at + 0.7, TraceKind.REQUEST_VOTE, OUT, C, term=term),
            self.record(at + 1.1, TraceKind.REQUEST_VOTE_RESPONSE, IN, C, term=term),
            self.record(at + 1.2, TraceKind.LEADER, STEP, B, term=term),
            self.record(at + 1.3, APPEND, OUT, 0, term=term, round=1, first_index=50 + term, last_index=50 + term),
            self.record(at + 1.9, TraceKind.COMMITTED, STEP, term=term, first_index=50 + term, last_index=50 + term),
        )
        self.tell(
            C,
            self.record(at + 0.3, TraceKind.PRE_VOTE, IN, B, term=term),
            self.record(at + 0.4, TraceKind.PRE_VOTE_RESPONSE, OUT, B, term=term),
            self.record(at + 0.9, TraceKind.REQUEST_VOTE, IN, B, term=term),
            self.record(at + 1.0, TraceKind.REQUEST_VOTE_RESPONSE, OUT, B, term=term),
            self.record(at + 1.5, APPEND, IN, B, term=term, round=1, first_index=50 + term, last_index=50 + term),
        )


def status(group: int, *members: int, shards: int = 4) -> NodeStatus:
    vitals = FakeEffects().vitals()
    early = early_status(NodeSettings(name="node0", port=5_000), "leader", A, vitals)
    there = [Member(node_id=each, name=str(NAMES[each]), host="127.0.0.1", port=5_000 + each) for each in members]
    return msgspec.structs.replace(early, group=group, shards=shards, members=there)


@pytest.fixture
def told() -> Told:
    return Told()


def between(messages: list[Message]) -> set[tuple[str, int | str, int | str, Fate]]:
    return {(each.kind, each.sender, each.to, each.fate) for each in messages}


def test_one_group_is_traced_at_a_time(told: Told) -> None:
    """Terms, entries and sessions of two groups were put into one picture, and what each process said in one row."""
    told.traces.knows(status(0, A, B, C))
    told.order(1, 2.0)
    told.tell(B, told.record(1.5, TraceKind.LEADER, STEP, B, term=4), group=2)
    assert not told.traces.elections()
    assert told.traces.request().title.startswith("Request 1 of client 9 of group 0, entry")
    told.traces.turn_to(2)
    assert not told.traces.orders()
    assert not told.traces.since().messages
    told.traces.knows(status(2, A, B))
    told.traces.knows(status(0, A, B, C))
    assert told.traces._matcher.members == {A, B}, "a broadcast of the group goes to its members"
    told.tell(B, told.record(3.0, TraceKind.LEADER, STEP, B, term=4), group=2)
    assert told.traces.election().title == "Election of node1 in term 4 of group 2"


def test_a_cluster_with_one_group_is_not_told_which(told: Told) -> None:
    told.traces.knows(status(0, A, B, C, shards=1))
    told.order(1, 2.0)
    assert told.traces.request().title.startswith("Request 1 of client 9, entry")


def test_a_client_tells_of_the_group_that_is_asked_for() -> None:
    traces = RequestTraces("load", 0)
    traces.want(TraceQuery(1, 1.0), 0)
    traces.heard(
        Response(9, 1, 10, 0, 0, 0, 0, memoryview(b""), memoryview(b"")), Contact(0, "tcp://127.0.0.1:5002", True), 5
    )
    traces.want(TraceQuery(2, 1.0, group=3), 10)
    assert traces.group == 3
    assert not traces.take(20, 20).records, "what was kept of the other group goes"
    traces.want(TraceQuery(3, 1.0, 0.0, group=0), 30)
    assert traces.group == 3, "the lease of the other group ends"


def test_an_order_has_both_ends_of_each_message_whichever_end_is_heard_first(told: Told) -> None:
    told.order(1, 2.0)
    news = told.traces.since()
    arrived = {(each.kind, each.sender, each.to): each for each in news.messages if each.fate is Fate.ARRIVED}
    assert set(arrived) == {
        ("request", "load", A),
        ("append_entries", A, B),
        ("append_entries_response", B, A),
        ("responses", A, "load"),
    }
    append = arrived["append_entries", A, B]
    assert (append.received_ns or 0) - (append.sent_ns or 0) == pytest.approx(0.1 * MS, abs=2)
    assert (append.record.term, append.record.first_index, append.record.number) == (4, 11, 1)
    assert [step.kind for step in news.steps] == ["stored", "committed", "applied"]


def test_news_are_told_once(told: Told) -> None:
    told.order(1, 2.0)
    first = told.traces.since()
    assert told.traces.since(first.sequence)[1:3] == ([], [])
    told.order(2, 2.0, start_ms=5)
    second = told.traces.since(first.sequence)
    assert {each.record.number for each in second.messages if each.kind == "request"} == {2}
    assert second.missed == 0


def test_the_garbage_collector_does_not_look_at_what_is_kept(told: Told) -> None:
    for number in range(5):
        told.order(number, 2.0)
    told.election(5, start_ms=100.0)
    news, records = told.traces.since(), told.traces._records
    gc.collect()
    assert all((news.messages, news.steps, records))
    assert not any(map(gc.is_tracked, (*news.messages, *news.steps, *records)))


def test_a_message_is_missing_only_if_its_receiver_was_heard_all_the_time() -> None:
    coverage = Coverage()
    matcher = Matcher(coverage, (A, B, C))

    def frame(sequence: int, clock_ns: int, dropped: int = 0) -> Trace:
        return Trace(name="x", clock_ns=clock_ns, time_ns=0, since_ns=0, sequence=sequence, dropped=dropped)

    for number in range(1, 31):
        coverage.take(B, frame(number, number * 100 * MS))
        if number != 8:
            coverage.take(C, frame(number, number * 100 * MS))
    list(matcher.take(A, [TraceRecord(500 * MS, TraceKind.REQUEST_VOTE, OUT, peer, 3) for peer in (B, C)]))
    list(matcher.take(A, [TraceRecord(2_500 * MS, TraceKind.REQUEST_VOTE, OUT, B, 4)]))
    lost, unknown, young = sorted(matcher.settle(1 << 62), key=lambda each: (each.sent_ns or 0, str(each.to)))
    assert (lost.to, lost.fate) == (B, Fate.MISSING)
    assert (unknown.to, unknown.fate) == (C, Fate.UNKNOWN), "a frame of C is missing, and it may have been in there"
    assert (young.to, young.fate) == (B, Fate.UNKNOWN), f"B is known for less than {MISSING_NS} ns after it"


def test_records_that_were_dropped_make_a_gap() -> None:
    coverage = Coverage()
    for number, dropped in enumerate((0, 0, 5, 5, 5), 1):
        trace = Trace(name="x", clock_ns=number * 100, time_ns=0, since_ns=0, sequence=number, dropped=dropped)
        coverage.take(A, trace)
    assert coverage.covers(A, 0, 200)
    assert not coverage.covers(A, 150, 350)
    assert coverage.covers(A, 300, 500)


def test_an_arrival_belongs_to_the_latest_copy_that_was_sent_before_it() -> None:
    matcher = Matcher(Coverage(), (A, B))
    votes = [TraceRecord(at, TraceKind.REQUEST_VOTE, OUT, B, 3) for at in (100, 200, 300)]
    list(matcher.take(A, votes))
    (message,) = matcher.take(B, [TraceRecord(250, TraceKind.REQUEST_VOTE, IN, A, 3)])
    assert isinstance(message, Message)
    assert (message.sent_ns, message.received_ns) == (200, 250)


def test_a_notice_of_a_commit_that_was_lost_does_not_get_the_arrival_of_the_next() -> None:
    """All notices of a term had one key: the first arrival was that of whichever was sent last before it."""
    matcher = Matcher(Coverage(), (A, B))
    notices = [TraceRecord(at, APPEND, OUT, B, 3, last_index=index) for at, index in ((100, 7), (200, 8), (300, 9))]
    list(matcher.take(A, notices))
    arrivals = [TraceRecord(at, APPEND, IN, A, 3, last_index=index) for at, index in ((350, 7), (360, 9))]
    found = [(each.sent_ns, each.received_ns) for each in matcher.take(B, arrivals) if isinstance(each, Message)]
    assert found == [(100, 350), (300, 360)]
    (lost,) = matcher.settle(1_000)
    assert lost.sent_ns == 200


def test_a_request_that_goes_again_to_another_node_is_two_messages(told: Told) -> None:
    whose = {"client": 9, "number": 5}
    told.tell(
        "load",
        told.record(0, TraceKind.REQUEST, OUT, A, **whose),
        told.record(300, TraceKind.REQUEST, OUT, B, **whose),
        told.record(302, TraceKind.RESPONSES, IN, B, last_index=20, **whose),
    )
    told.tell(
        B,
        told.record(300.5, TraceKind.REQUEST, IN, **whose),
        told.record(301, TraceKind.RESPONSES, OUT, last_index=20, **whose),
    )
    part = told.traces.request(9, 5)
    assert between(list(part.messages)) == {
        ("request", "load", A, Fate.UNKNOWN),
        ("request", "load", B, Fate.ARRIVED),
        ("responses", B, "load", Fate.ARRIVED),
    }
    assert part.order is not None
    assert part.order.took_ns == pytest.approx(302 * MS, abs=2), "from the first copy on"


def test_the_part_of_a_request_holds_what_belongs_to_it_and_nothing_else(told: Told) -> None:
    for number in range(1, 6):
        told.order(number, 1.0 + number, start_ms=10.0 * number)
    part = told.traces.request(9, 3)
    assert part.title == "Request 3 of client 9, entry 13 of the log"
    assert {each.record.round for each in part.messages if each.record.round} == {3}
    assert {step.record.last_index for step in part.steps} == {13}
    assert part.name_of(A) == "node0"
    with pytest.raises(ClusterError, match="nothing is known of request 77 of client 9"):
        told.traces.request(9, 77)


def test_the_slowest_orders_outlive_the_records(told: Told) -> None:
    for number in range(1, 30):
        told.order(number, 1.0 + number % 10, start_ms=20.0 * number)
    assert len(told.traces.slowest()) == SLOWEST
    told.traces._records.clear()
    slowest = [each.order.took_ns for each in told.traces.slowest() if each.order]
    assert slowest == sorted(slowest, reverse=True)
    assert slowest[0] == pytest.approx(10 * MS, abs=2)
    assert told.traces.request().order == told.traces.slowest()[0].order
    told.traces.begin_run()
    assert told.traces.slowest() == []


def test_without_a_client_the_node_tells_how_long_an_order_took(told: Told) -> None:
    whose = {"client": 9, "number": 1}
    told.tell(
        A,
        told.record(0, TraceKind.REQUEST, IN, **whose),
        told.record(3, TraceKind.RESPONSES, OUT, last_index=11, **whose),
    )
    order = told.traces.request().order
    assert order is not None
    assert not order.by_client
    assert order.took_ns == pytest.approx(3 * MS, abs=2)


def test_an_election_begins_with_the_first_vote_and_ends_with_the_first_commit(told: Told) -> None:
    told.order(1, 2.0)
    told.election(5, start_ms=100)
    told.order(2, 2.0, start_ms=200)
    told.election(7, start_ms=5_000)
    part = told.traces.election(5)
    assert part.title == "Election of node1 in term 5"
    assert part.start_ns == told.at(100)
    assert [step.kind for step in part.steps] == ["pre_candidate", "candidate", "leader", "committed"]
    assert between(list(part.messages)) >= {
        ("pre_vote", B, C, Fate.ARRIVED),
        ("pre_vote_response", C, B, Fate.ARRIVED),
        ("request_vote", B, C, Fate.ARRIVED),
        ("request_vote_response", C, B, Fate.ARRIVED),
        ("append_entries", B, C, Fate.ARRIVED),
        ("append_entries", B, A, Fate.UNKNOWN),
    }
    assert not any(each.record.number for each in part.messages), "no order is part of it"
    assert told.traces.election().key == (0, 7), "the last one"
    assert [each.key[1] for each in told.traces.elections()] == [5, 7]
    with pytest.raises(ClusterError, match="nothing is known of an election in term 6"):
        told.traces.election(6)


def test_elections_are_kept_in_a_bound(told: Told) -> None:
    for term in range(2, ELECTIONS + 12):
        told.election(term, start_ms=10.0 * term)
    assert len(told.traces.elections()) == ELECTIONS


def test_a_process_of_another_machine_is_named_and_left_out(told: Told) -> None:
    told.tell(A, told.record(0, TraceKind.LEADER, STEP, A, term=2), clock_ns=5, since_ns=1)
    assert told.traces.other_clocks == {"node0"}
    assert told.traces.since().steps == []


def test_nothing_is_known_before_anything_was_told() -> None:
    with pytest.raises(ClusterError, match="no traced request has been answered yet"):
        Traces().request()
    with pytest.raises(ClusterError, match="nothing is known of any election"):
        Traces().election()
