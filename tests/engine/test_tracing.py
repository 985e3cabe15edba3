"""A traced node tells what it sends, receives and does, for as long as it is asked to, and does nothing else for it."""

from __future__ import annotations

from tests.engine.fake_effects import Driven, founder_id
from zmqlab.market.types import Command, Side
from zmqlab.raft.append_entries import NO_ROUND
from zmqlab.raft.messages import AppendEntries, Entry, EntryKind, RequestVote, RequestVoteResponse
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames, records
from zmqlab.wire.peer import encode_forward, encode_message
from zmqlab.wire.traces import Direction, Trace, TraceKind, TraceQuery, decode_trace, encode_trace

B, C = "tcp://127.0.0.1:5100", "tcp://127.0.0.1:5200"
ID_A, ID_B, ID_C = 5_000, founder_id(B), founder_id(C)
BUY = records.pack_commands([Command.limit(Side.BUY, "ACME", 100, 5)])


def alone() -> Driven:
    driven = Driven(NodeSettings(name="node0", port=5_000))
    driven.turn()
    return driven


def one_of_three() -> Driven:
    return Driven(NodeSettings(name="node0", port=5_000, peers=(B, C)))


def ask(driven: Driven, **fields: object) -> control.Answer:
    driven.effects.replies.clear()
    query = TraceQuery(9, **{"share": 1.0, "seconds": 5.0} | fields)  # type: ignore[arg-type]
    driven.turn(clients=[control.encode(frames.QUERY, query)])
    ((_, answer),) = driven.effects.replies
    return control.decode_answer(answer)


def told(driven: Driven) -> list[Trace]:
    """The TRACE frames since the last call, after time for the next one."""
    driven.pass_time(20)
    traces = [decode_trace(frame) for frame in driven.effects.published if frame[3] == frames.TRACE]
    driven.effects.published.clear()
    return traces


def seen(driven: Driven) -> list[tuple[str, str]]:
    return [
        (record.direction.name, record.kind.word)
        for trace in told(driven)
        for record in trace.records
        if record.kind is not TraceKind.FOLLOWER
    ]


def test_nothing_is_told_before_someone_asks() -> None:
    driven = alone()
    driven.turn(clients=[client_wire.encode_open_session(5)])
    assert told(driven) == []
    assert driven.engine.groups[0].tracing is driven.engine.groups[0].replica.steps is None


def test_the_life_of_a_request_at_a_node_that_is_alone() -> None:
    driven = alone()
    driven.turn(clients=[client_wire.encode_open_session(5)])
    assert isinstance(ask(driven), control.OkAnswer)
    session = driven.engine.groups[0].replica.machine.applied_index
    driven.turn(clients=[client_wire.encode_request(session, 1, 1, BUY)])
    traces = told(driven)
    mine = [each for trace in traces for each in trace.records if each.client == session]
    assert [(each.direction.name, each.kind.word) for each in mine if each.kind != TraceKind.APPEND_ENTRIES] == [
        ("IN", "request"),
        ("STEP", "stored"),
        ("STEP", "committed"),
        ("STEP", "applied"),
        ("OUT", "responses"),
    ]
    assert {each.last_index for each in mine if each.direction is not Direction.IN} == {3}
    assert {each.number for each in mine} == {1}
    assert traces[0].name == "node0"
    assert traces[0].node_id == ID_A
    assert traces[0].dropped == 0


def test_a_lease_ends_by_itself_with_a_last_frame() -> None:
    driven = alone()
    ask(driven, seconds=0.3)
    driven.pass_time(100)
    traces = [decode_trace(frame) for frame in driven.effects.published if frame[3] == frames.TRACE]
    assert [trace.sequence for trace in traces] == list(range(1, len(traces) + 1))
    assert 3 <= len(traces) <= 5
    assert driven.engine.groups[0].tracing is driven.engine.groups[0].replica.steps is None


def test_a_senseless_question_is_answered_and_changes_nothing() -> None:
    driven = alone()
    answer = ask(driven, share=2.0)
    assert isinstance(answer, control.ErrorAnswer)
    assert answer.code == control.ErrorCode.BAD_QUERY
    assert told(driven) == []


def test_a_follower_tells_of_a_traced_entry_and_of_its_answer() -> None:
    driven = one_of_three()
    ask(driven)
    seen(driven)
    request = client_wire.encode_request(2, 1, 1, BUY)
    entries = (Entry(1, 1, EntryKind.NO_OP, b""), Entry(2, 1, EntryKind.DATA, request))
    driven.turn(peers=[encode_message(AppendEntries(ID_B, 0, 1, 0, 0, 0, 7, entries, 2))])
    (trace, *_) = [each for each in told(driven) if each.records]
    assert [(each.direction.name, each.kind.word, each.peer) for each in trace.records if each.round] == [
        ("IN", "append_entries", ID_B),
        ("OUT", "append_entries_response", ID_B),
    ]
    append = next(each for each in trace.records if each.kind is TraceKind.APPEND_ENTRIES)
    assert (append.first_index, append.last_index, append.client, append.number, append.round) == (1, 2, 2, 1, 7)
    assert {each.kind for each in trace.records} > {TraceKind.STORED, TraceKind.COMMITTED, TraceKind.APPLIED}


def test_heartbeats_and_requests_that_are_not_chosen_are_left_out() -> None:
    driven = one_of_three()
    ask(driven, share=0.0)
    seen(driven)
    request = client_wire.encode_request(2, 1, 1, BUY)
    empty = AppendEntries(ID_B, 0, 1, 0, 0, 0, 8, ())
    driven.turn(peers=[encode_message(empty)], clients=[request])
    assert seen(driven) == [("STEP", "stored")], "the new term"
    ask(driven, share=0.0, heartbeats=True)
    driven.turn(peers=[encode_message(empty._replace(round=9))])
    assert seen(driven) == [("IN", "append_entries"), ("OUT", "append_entries_response")]


def test_a_notice_of_a_commit_is_told_with_what_it_tells() -> None:
    """It has no round, by which both ends could name it."""
    driven = one_of_three()
    ask(driven, share=0.0, heartbeats=True)
    entries = tuple(Entry(index, 1, EntryKind.NO_OP, b"") for index in (1, 2, 3))
    driven.turn(peers=[encode_message(AppendEntries(ID_B, 0, 1, 0, 0, 0, 7, entries, 0))])
    told(driven)
    driven.turn(peers=[encode_message(AppendEntries(ID_B, ID_A, 1, 2, 1, 3, NO_ROUND, ()))])
    (notice,) = [each for trace in told(driven) for each in trace.records if each.kind is TraceKind.APPEND_ENTRIES]
    assert (notice.first_index, notice.last_index, notice.round) == (0, 2, 0)


def test_an_election_is_told_whatever_the_share() -> None:
    driven = one_of_three()
    ask(driven, share=0.0)
    driven.turn(peers=[encode_message(RequestVote(ID_B, ID_A, 1, 0, 0, True, False))])
    driven.turn(peers=[encode_message(RequestVote(ID_B, ID_A, 1, 0, 0, False, False))])
    assert seen(driven)[:5] == [
        ("IN", "pre_vote"),
        ("OUT", "pre_vote_response"),
        ("IN", "request_vote"),
        ("STEP", "stored"),
        ("OUT", "request_vote_response"),
    ]


def test_a_leader_tells_how_it_came_to_lead_and_what_was_forwarded_to_it() -> None:
    driven = one_of_three()
    ask(driven)
    driven.pass_time(60)
    term = driven.engine.groups[0].replica.replication.term + 1
    driven.turn(peers=[encode_message(RequestVoteResponse(ID_B, ID_A, term, True, True))])
    driven.turn(peers=[encode_message(RequestVoteResponse(ID_B, ID_A, term, True, False))])
    driven.turn(peers=[encode_forward(ID_C, [client_wire.encode_request(2, 1, 1, BUY)])])
    kinds = seen(driven)
    for kind in ("pre_candidate", "candidate", "leader"):
        assert ("STEP", kind) in kinds
    assert ("IN", "forward") in kinds
    assert kinds.index(("OUT", "pre_vote")) < kinds.index(("OUT", "request_vote")) < kinds.index(("IN", "forward"))


def test_an_empty_frame_says_that_nothing_was_seen() -> None:
    driven = alone()
    ask(driven)
    traces = told(driven)
    assert traces
    assert all(trace.since_ns <= trace.clock_ns for trace in traces)
    assert decode_trace(encode_trace(traces[-1])) == traces[-1]
