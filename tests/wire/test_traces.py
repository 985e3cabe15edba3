"""Traces on the wire: which requests are chosen, what a lease is, and that no frame holds more than it may."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.damage import damaged, refuses_or_accepts
from zmqlab.errors import FrameError, SettingsError
from zmqlab.wire import frames
from zmqlab.wire.traces import (
    LEASES_MAX,
    RECORDS_MAX,
    ROLES,
    STEPS,
    Direction,
    Trace,
    TraceBuffer,
    TraceKind,
    TraceQuery,
    TraceRecord,
    check,
    decode_trace,
    encode_trace,
    is_sampled,
    threshold_of,
)

S = 1_000_000_000
U64 = st.integers(0, 2**64 - 1)
RECORD = TraceRecord(5, TraceKind.APPEND_ENTRIES, Direction.OUT, 2**64 - 1, 3, 10, 12, 7, 9, 44, True, 512)
FRAME = encode_trace(Trace(name="node0", node_id=7, clock_ns=9, time_ns=10, since_ns=1, sequence=3, records=[RECORD]))


def query(share: float = 1.0, seconds: float = 5.0, records_per_s: int = 100, heartbeats: bool = False) -> TraceQuery:
    return TraceQuery(1, share, seconds, records_per_s, heartbeats)


def test_a_frame_comes_back_and_opens_with_its_topic() -> None:
    assert decode_trace(FRAME).records == [RECORD]
    assert FRAME.startswith(frames.topic(frames.TRACE))


@given(damaged(FRAME))
def test_a_damaged_frame_is_refused_or_read(frame: bytes) -> None:
    refuses_or_accepts(decode_trace, frame)


@pytest.mark.parametrize(
    "fields",
    [
        {"records": [RECORD] * (RECORDS_MAX + 1)},
        {"name": "x" * 101},
        {"share": 1.5},
        {"share": float("nan")},
        {"dropped": -1},
        {"since_ns": -1},
    ],
)
def test_what_no_process_sends_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(FrameError, match="a trace"):
        decode_trace(encode_trace(msgspec.structs.replace(decode_trace(FRAME), **fields)))


@given(U64, U64)
def test_all_requests_or_none_are_traced_at_the_ends_of_the_range(client: int, number: int) -> None:
    assert is_sampled(client, number, threshold_of(1.0))
    assert not is_sampled(client, number, threshold_of(0.0))


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("client", [2, 3, 1_000_003])
def test_the_numbers_of_a_session_are_chosen_evenly(share: float, client: int) -> None:
    chosen = [number for number in range(1, 10_001) if is_sampled(client, number, threshold_of(share))]
    assert len(chosen) == pytest.approx(10_000 * share, rel=0.05)
    longest = max(after - before for before, after in itertools.pairwise(chosen))
    assert longest < 4 / share, "no stretch of the run is left out"


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    """Two askers of different shares see the same requests, as far as both look."""
    few, many = (
        {number for number in range(10_000) if is_sampled(5, number, threshold_of(share))} for share in (0.01, 0.1)
    )
    assert few
    assert few < many


@pytest.mark.parametrize("wrong", [query(share=1.1), query(share=-0.1), query(seconds=61), query(records_per_s=0)])
def test_a_senseless_lease_is_refused(wrong: TraceQuery) -> None:
    with pytest.raises(SettingsError):
        check(wrong)


def test_a_lease_ends_by_itself_and_the_largest_share_counts() -> None:
    buffer = TraceBuffer(0)
    assert not buffer.is_on(0)
    buffer.want(query(share=0.01, seconds=5), 0)
    buffer.want(query(share=1.0, seconds=2, heartbeats=True), 0)
    assert buffer.is_on(1 * S)
    assert (buffer.threshold, buffer.heartbeats) == (threshold_of(1.0), True)
    assert buffer.is_on(3 * S)
    assert (buffer.threshold, buffer.heartbeats) == (threshold_of(0.01), False)
    buffer.want(query(share=0.01, seconds=5), 4 * S)
    assert buffer.is_on(8 * S)
    buffer.want(query(share=0.01, seconds=0), 8 * S)
    assert not buffer.is_on(8 * S)


def test_leases_are_bounded() -> None:
    buffer = TraceBuffer(0)
    for number in range(10 * LEASES_MAX):
        buffer.want(query(share=number / 1_000, seconds=1 + number / 10), 0)
    assert len(buffer._leases) == LEASES_MAX


def test_what_the_bound_has_no_room_for_is_counted_and_the_room_comes_back() -> None:
    buffer = TraceBuffer(0)
    buffer.want(query(records_per_s=100), 0)
    for _ in range(80):
        buffer.add(RECORD)
    first = buffer.take("node0", 7, S // 10, 0)
    assert (len(first.records), first.dropped, first.sequence) == (50, 30, 1), "half a second's worth at once"
    for _ in range(80):
        buffer.add(RECORD)
    second = buffer.take("node0", 7, 2 * S // 10, 0)
    assert (len(second.records), second.dropped, second.sequence) == (10, 100, 2), "and then what a tenth brings"


def test_steps_and_messages_are_told_apart() -> None:
    messages = {getattr(frames, kind.name) for kind in TraceKind if hasattr(frames, kind.name)}
    assert messages == {int(kind) for kind in TraceKind if kind < 0x80}
    assert ROLES < STEPS < set(TraceKind)
    assert TraceKind.APPEND_ENTRIES.word == "append_entries"
