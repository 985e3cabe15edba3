"""Requests and responses: whole frames come back as they were, damaged ones raise FrameError."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.damage import damaged, refuses_or_accepts
from zmqlab.errors import FrameError
from zmqlab.market.types import Command, Fill, Reason, Side, Status
from zmqlab.wire import client, frames, records
from zmqlab.wire.client import ResponseStatus

U64 = st.integers(0, 2**64 - 1)
ORDER = records.pack_commands([Command.limit(Side.BUY, "ACME", 5, 100, account=3)])
REPORTS = records.pack_reports([2, 0, 0, 2, 7, 3, 41, 705, 1, 0, 0, 0, 0, 9, 42, 0])
FILLS = records.pack_fills([11, 100, 5, 0, 12, 103, 2, 4])
BODY = client.encode_response(9, 4, 77, reports=REPORTS, fills=FILLS)
BUSY = client.encode_response(9, 5, 0, ResponseStatus.BUSY)
REQUEST = client.encode_request(9, 4, 2, ORDER * 3)
OPEN_SESSION = client.encode_open_session(2**64 - 1)
RESPONSES = client.encode_responses([BODY, BUSY, BODY])


@given(U64, U64, U64, st.integers(1, 1_024))
def test_a_request_comes_back(client_id: int, number: int, answered_below: int, count: int) -> None:
    frame = client.encode_request(client_id, number, answered_below, ORDER * count)
    assert len(frame) == 8 + 24 + 40 * count
    assert client.parse_request(frame) == (client_id, number, answered_below, count)
    assert list(client.request_commands(frame)) == [records.COMMAND.unpack(ORDER)] * count


@pytest.mark.parametrize("count", [0, 1_025, 2_000])
def test_a_request_holds_1_to_1024_commands(count: int) -> None:
    with pytest.raises(FrameError, match="1024"):
        client.parse_request(client.encode_request(1, 1, 1, ORDER * count))


def test_the_largest_request_fits_the_bound_of_the_socket() -> None:
    assert len(client.encode_request(1, 1, 1, ORDER * 1_024)) <= frames.MAX_CLIENT_FRAME_BYTES


@pytest.mark.parametrize("surplus", [1, 39])
def test_a_request_that_ends_inside_a_command_is_refused(surplus: int) -> None:
    with pytest.raises(FrameError, match=f"{surplus} bytes into"):
        client.parse_request(client.encode_request(1, 1, 1, ORDER + bytes(surplus)))


@given(U64)
def test_an_open_session_comes_back(nonce: int) -> None:
    frame = client.encode_open_session(nonce)
    assert len(frame) == 16
    assert client.parse_open_session(frame) == nonce
    for wrong in (frame[:-1], frame + b"\0"):
        with pytest.raises(FrameError):
            client.parse_open_session(wrong)


def test_a_frame_of_another_type_group_or_version() -> None:
    with pytest.raises(FrameError, match="0x03"):
        client.parse_request(frames.header(frames.OPEN_SESSION) + REQUEST[8:])
    with pytest.raises(FrameError, match="version 2"):
        client.parse_request(b"ZL\x02" + REQUEST[3:])
    with pytest.raises(FrameError, match="begins with b'LZ'"):
        client.parse_request(b"LZ" + REQUEST[2:])
    assert frames.parse_header(client.encode_open_session(1, group=5)) == (frames.OPEN_SESSION, 5)


def test_responses_come_back_in_order() -> None:
    first, busy, again = client.iter_responses(RESPONSES)
    assert first == again
    assert first[:7] == (9, 4, 77, ResponseStatus.OK, 0, 2, 2)
    assert (bytes(first.reports), bytes(first.fills)) == (REPORTS, FILLS)
    assert busy[:7] == (9, 5, 0, ResponseStatus.BUSY, 0, 0, 0)
    assert len(RESPONSES) == 8 + 2 * (32 + 2 * 32 + 2 * 24) + 32


def test_a_replayed_response_differs_in_one_flag_and_twice_is_once() -> None:
    (response,) = client.iter_responses(client.encode_responses([client.replayed(BODY)]))
    (first,) = client.iter_responses(client.encode_responses([BODY]))
    assert response.flags == client.REPLAYED
    assert response._replace(flags=0) == first
    assert client.replayed(client.replayed(BODY)) == client.replayed(BODY)


def test_a_responses_frame_that_is_cut_anywhere_is_refused() -> None:
    ends_of_bodies = {8 + len(BODY), 8 + len(BODY) + len(BUSY)}
    for end in set(range(len(RESPONSES))) - ends_of_bodies:
        with pytest.raises(FrameError):
            list(client.iter_responses(RESPONSES[:end]))


def test_a_count_is_not_trusted_further_than_the_frame() -> None:
    lying = bytearray(BUSY)
    struct.pack_into("<HI", lying, 26, 65_535, 2**32 - 1)
    with pytest.raises(FrameError, match="says that it ends"):
        list(client.iter_responses(client.encode_responses([bytes(lying)])))


def test_execution_reports_have_their_own_fills() -> None:
    (response,) = client.iter_responses(client.encode_responses([BODY]))
    partial, resting = client.execution_reports(response)
    assert (partial.status, partial.reason, partial.order_id) == (Status.PARTIALLY_FILLED, Reason.NONE, 41)
    assert (partial.filled_quantity, partial.leaves_quantity, partial.notional) == (7, 3, 705)
    assert partial.fills == (Fill(11, 100, 5, 0), Fill(12, 103, 2, 4))
    assert (resting.status, resting.fills, resting.log_index) == (Status.NEW, (), 77)


@pytest.mark.parametrize(
    ("reports", "fills"),
    [
        ([99, 0, 0, 0, 0, 0, 0, 0], []),
        ([1, 99, 0, 0, 0, 0, 0, 0], []),
        ([3, 0, 0, 2, 0, 0, 0, 0], [1, 1, 1, 0]),
        ([3, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0]),
    ],
    ids=["status", "reason", "too few fills", "a fill of nobody"],
)
def test_reports_that_make_no_sense_are_refused(reports: list[int], fills: list[int]) -> None:
    body = client.encode_response(1, 1, 1, 0, 0, records.pack_reports(reports), records.pack_fills(fills))
    (response,) = client.iter_responses(client.encode_responses([body]))
    with pytest.raises(FrameError):
        client.execution_reports(response)


def read_all(frame: bytes) -> None:
    for response in client.iter_responses(frame):
        refuses_or_accepts(lambda _, response=response: client.execution_reports(response), frame)  # type: ignore[misc]


@given(damaged(REQUEST))
def test_a_damaged_request(frame: bytes) -> None:
    refuses_or_accepts(lambda data: list(client.request_commands(data)) if client.parse_request(data) else None, frame)


@given(damaged(OPEN_SESSION))
def test_a_damaged_open_session(frame: bytes) -> None:
    refuses_or_accepts(client.parse_open_session, frame)


@given(damaged(RESPONSES, client.encode_responses([BODY])))
def test_damaged_responses(frame: bytes) -> None:
    refuses_or_accepts(read_all, frame)
