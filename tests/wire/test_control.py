"""Queries, answers and published structs: they come back equal, damage raises FrameError, new fields are ignored."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.damage import damaged, refuses_or_accepts
from zmqlab.errors import FrameError
from zmqlab.wire import control, frames
from zmqlab.wire.fault_queries import LinkFault, LinkFaultsQuery, NodeFaults, NodeFaultsQuery
from zmqlab.wire.node_status import Member, NodeStatus
from zmqlab.wire.traces import TraceQuery

STATUS = NodeStatus(
    name="n1", node_id=7, pid=1, port=5_000, time_ns=2, uptime_ms=3, role="leader", term=4, leader_id=7,
    first_index=1, last_index=9, commit_index=8, applied_index=8, lag=1, service_time={"3": 4},
    members=[Member(node_id=7, name="n1", host="127.0.0.1", port=5_000, state="replicate")],
)  # fmt: skip
QUERIES: list[control.Query] = [
    control.StatusQuery(1),
    control.BookQuery(2**64 - 1, "ACME", 3, False),
    control.TradesQuery(3, "ACME"),
    control.LogQuery(4, 17, 1_000),
    control.HashQuery(5),
    control.TransferQuery(6, 2),
    control.AddMemberQuery(7, 2**64 - 1, "tcp://127.0.0.1:5000", "n2"),
    control.RemoveMemberQuery(8, 7),
    LinkFaultsQuery(9, [LinkFault(sender="tcp://127.0.0.1:5000", cut=True, delay_ms=1.5, loss=0.2)]),
    LinkFaultsQuery(10, [LinkFault(bytes_per_s=1e5, duplication=0.1, reordering=0.2, reordering_ms=9.5)]),
    NodeFaultsQuery(11, NodeFaults(write_ms=20.0, disk_full=True, clock_rate=0.5, request_loss=1.0)),
    NodeFaultsQuery(12, NodeFaults(request_delay_ms=1.0, answer_loss=0.5, answer_delay_ms=2.0)),
    TraceQuery(13, 0.5, 3.0, 100, True),
]
ANSWERS: list[control.Answer] = [
    control.StatusAnswer(1, STATUS),
    control.BookAnswer(2, "ACME", [(99, 5, 1)], [(101, 5, 2), (102, 1, 1)], 17),
    control.TradesAnswer(3, "ACME", [(100, 1, 2, 3)], 17),
    control.LogAnswer(4, 1, 9, [(1, 1, 0, b""), (2, 1, 1, b"\x00\xff")]),
    control.HashAnswer(5, 8, "00ff", "ff00"),
    control.OkAnswer(6, "done"),
    control.ErrorAnswer(7, "no_leader", "there is none"),
]
EVENT = control.Event(time_ns=1, node="n1", kind="elected", term=2, text="n1 is leader")
TRADE = control.TradeEvent(symbol="ACME", price=1, quantity=2, log_index=3, maker_order_id=4, taker_order_id=5)
PUBLISHED: list[tuple[int, Callable[[bytes], msgspec.Struct], msgspec.Struct]] = [
    (frames.METRICS, control.decode_status, STATUS),
    (frames.EVENT, control.decode_event, EVENT),
    (frames.TRADE, control.decode_trade, TRADE),
]
DECODERS: list[Callable[[bytes], object]] = [
    control.decode_query,
    control.decode_answer,
    control.decode_status,
    control.decode_event,
    control.decode_trade,
]


def query_of(fields: object) -> control.Query:
    return control.decode_query(frames.header(frames.QUERY) + msgspec.msgpack.encode(fields))


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: type(query).__name__)
def test_a_query_comes_back(query: control.Query) -> None:
    assert control.decode_query(control.encode(frames.QUERY, query)) == query


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_comes_back(answer: control.Answer) -> None:
    assert control.decode_answer(control.encode(frames.ANSWER, answer)) == answer


@pytest.mark.parametrize(("frame_type", "decode", "struct"), PUBLISHED)
def test_what_is_published_comes_back_and_opens_with_its_topic(
    frame_type: int, decode: Callable[[bytes], msgspec.Struct], struct: msgspec.Struct
) -> None:
    frame = control.encode(frame_type, struct)
    assert decode(frame) == struct
    assert frame.startswith(frames.topic(frame_type))


def test_defaults_are_those_of_the_documentation() -> None:
    assert query_of({"op": "book", "nonce": 1, "symbol": "A"}) == control.BookQuery(1, "A", 10, True)
    assert query_of({"op": "log", "nonce": 1, "from_index": 2}) == control.LogQuery(1, 2, 524_288)
    assert query_of({"op": "transfer", "nonce": 1}) == control.TransferQuery(1, 0)


def test_a_field_from_the_future_is_ignored() -> None:
    assert query_of({"op": "hash", "nonce": 1, "colour": "red"}) == control.HashQuery(1)


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "explode", "nonce": 1},
        {"nonce": 1},
        {"op": "book", "nonce": 1},
        {"op": "hash", "nonce": "one"},
        {"op": "log", "nonce": 1, "from_index": 1.5},
        [],
        None,
    ],
)
def test_what_does_not_fit_is_refused(fields: object) -> None:
    with pytest.raises(FrameError):
        query_of(fields)


def test_a_status_whose_committed_members_do_not_decode_is_refused() -> None:
    status = msgspec.structs.replace(STATUS, committed_members=b"\x07")
    with pytest.raises(FrameError, match="a status tells no members: 1 bytes are not a configuration"):
        control.decode_status(control.encode(frames.METRICS, status))
    with pytest.raises(FrameError, match="a status tells no members"):
        control.decode_answer(control.encode(frames.ANSWER, control.StatusAnswer(1, status)))


def test_nesting_without_end_is_refused() -> None:
    for decode in DECODERS:
        with pytest.raises(FrameError):
            decode(frames.header(frames.QUERY) + b"\x91" * 100_000)
        with pytest.raises(FrameError):
            decode(frames.header(frames.QUERY) + b"\x81\xa1x" + b"\x91" * 60_000)


@given(
    damaged(
        *(control.encode(frames.QUERY, query) for query in QUERIES),
        *(control.encode(frames.ANSWER, answer) for answer in ANSWERS),
        *(control.encode(frame_type, struct) for frame_type, _, struct in PUBLISHED),
    ),
    st.sampled_from(DECODERS),
)
def test_a_damaged_control_message(frame: bytes, decode: Callable[[bytes], object]) -> None:
    refuses_or_accepts(decode, frame)


def test_a_kind_travels_as_a_plain_word_and_an_unknown_one_still_decodes() -> None:
    event = control.Event(time_ns=1, node="n1", kind=control.EventKind.STEPPED_DOWN)
    frame = control.encode(frames.EVENT, event)
    assert b"stepped_down" in frame
    assert control.decode_event(frame).kind == "stepped_down"
    newer = control.Event(time_ns=1, node="n1", kind="sang")
    assert control.decode_event(control.encode(frames.EVENT, newer)).kind == "sang"
