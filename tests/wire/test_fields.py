"""Frames taken apart for people: every byte belongs to one field, and the fields show the packed values."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.wire.damage import damaged
from tests.wire.test_client import OPEN_SESSION, REQUEST, RESPONSES
from zmqlab.errors import FrameError
from zmqlab.market.types import Command, Side
from zmqlab.wire import client, control, frames, records
from zmqlab.wire.client import fields_of


def said(frame: bytes) -> dict[tuple[str, str], str]:
    return {(field.part, field.name): field.value for field in fields_of(frame)}


@pytest.mark.parametrize("frame", [REQUEST, OPEN_SESSION, RESPONSES], ids=["request", "session", "responses"])
def test_the_fields_cover_a_frame_without_a_gap(frame: bytes) -> None:
    fields = fields_of(frame)
    assert b"".join(field.data for field in fields) == frame
    offset = 0
    for field in fields:
        assert field.offset == offset, field
        offset += len(field.data)


def test_a_request_in_words() -> None:
    order = records.pack_commands([Command.limit(Side.SELL, "ACME", 70, 2_500, account=3)])
    fields = said(client.encode_request(9, 4, 2, order))
    assert fields["header", "type"] == "REQUEST"
    assert fields["request", "request_number"] == "4"
    assert (fields["command 0", "side"], fields["command 0", "symbol"]) == ("2, SELL", "ACME")
    assert fields["command 0", "price"] == "2,500"


def test_a_replayed_answer_says_so() -> None:
    body = client.replayed(client.encode_response(9, 4, 77))
    fields = said(client.encode_responses([body]))
    assert fields["response 0", "status"] == "0, OK"
    assert "first answer again" in fields["response 0", "flags"]


def test_codes_that_nobody_gave_are_shown_as_numbers() -> None:
    nonsense = records.COMMAND.pack(77, 9, 0, 0, 1, 0, 2**64 - 1, 5, 1, 0)
    fields = said(client.encode_request(1, 1, 1, nonsense))
    assert fields["command 0", "kind"] == "77"
    assert "no symbol" in fields["command 0", "symbol"]


def test_other_frames_are_refused() -> None:
    with pytest.raises(FrameError, match="not one of a client's"):
        fields_of(control.encode(frames.QUERY, control.StatusQuery(nonce=1)))


@given(damaged(REQUEST, OPEN_SESSION, RESPONSES))
def test_damage_raises_frame_error_and_nothing_else(frame: bytes) -> None:
    try:
        fields = fields_of(frame)
    except FrameError:
        return
    assert b"".join(field.data for field in fields) == frame
