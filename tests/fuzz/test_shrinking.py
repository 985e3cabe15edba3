"""The same question as :mod:`tests.fuzz.handlers` asks, put by hypothesis: fewer frames, and a failure shrinks."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.handlers import assert_equal
from tests.fuzz.hostile import BOMBS, client_frames, peer_frames
from tests.fuzz.in_process import Group, make_group
from tests.fuzz.legal import Verdict, verdict
from tests.wire.damage import damaged
from zmqlab.errors import FrameError
from zmqlab.wire import control, frames
from zmqlab.wire.peer import (
    decode_forward,
    decode_hello,
    decode_message,
    encode_forward,
    encode_hello,
    encode_message,
)

LED = make_group(3, attack_leader=True)
FOLLOWER = make_group(3, attack_leader=False)
PEER_FRAMES = [*peer_frames(LED.view()), *peer_frames(FOLLOWER.view())]
CLIENT_FRAMES = client_frames(LED.view())
BEHIND_HEADER = st.sampled_from([frames.header(frames.QUERY) + bomb for bomb in BOMBS])


def check(group: Group, socket: str, frame: bytes) -> None:
    judged = verdict(socket, frame, group.view())
    if judged is Verdict.LEGAL:
        return
    before, bad = group.fingerprint(), group.target.bad_frames
    getattr(group.target.transport, socket).messages.append([frame] if socket == "broadcasts" else [b"stranger", frame])
    group.target.turn()
    assert (group.target.bad_frames - bad == 1) == (judged is Verdict.BAD)
    group.turn()
    assert_equal(before, group.fingerprint())
    group.assert_bounded()


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from([LED, FOLLOWER]), st.sampled_from(["peers", "broadcasts"]), damaged(*PEER_FRAMES))
def test_a_damaged_frame_of_a_peer_changes_nothing(group: Group, socket: str, frame: bytes) -> None:
    check(group, socket, frame)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from([LED, FOLLOWER]), st.one_of(damaged(*CLIENT_FRAMES), BEHIND_HEADER))
def test_a_damaged_frame_of_a_client_changes_nothing(group: Group, frame: bytes) -> None:
    check(group, "clients", frame)


@given(damaged(*PEER_FRAMES))
def test_what_is_understood_of_a_peer_says_the_same_again(frame: bytes) -> None:
    """So no byte of an accepted frame is without a meaning, but for flags, of which any but zero is yes."""
    try:
        frame_type, _ = frames.parse_header(frame)
        if frame_type == frames.FORWARD:
            again = encode_forward(*decode_forward(frame))
        elif frame_type == frames.HELLO:
            again = encode_hello(decode_hello(frame))
        else:
            message = decode_message(frame_type, frame)
            again = encode_message(message)
            assert decode_message(frame_type, again) == message
    except FrameError:
        return
    assert len(again) == len(frame)
    changed = [
        (was, now)
        for was, now in zip(frame[frames.HEADER_BYTES :], again[frames.HEADER_BYTES :], strict=True)
        if was != now
    ]
    assert all(now == 1 for _, now in changed)


@given(damaged(*CLIENT_FRAMES))
def test_what_is_understood_of_a_client_says_the_same_again(frame: bytes) -> None:
    try:
        query = control.decode_query(frame)
    except FrameError:
        return
    assert control.decode_query(control.encode(frames.QUERY, query)) == query
