"""Frames between nodes: every Raft message comes back equal, and damage raises FrameError."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.damage import damaged, refuses_or_accepts
from zmqlab.errors import FrameError
from zmqlab.placement import Roster
from zmqlab.raft import (
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    Entry,
    EntryKind,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    ReadIndex,
    ReadIndexResponse,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from zmqlab.wire import frames
from zmqlab.wire.peer import (
    Hello,
    RosterNews,
    decode_bundle,
    decode_forward,
    decode_hello,
    decode_message,
    decode_roster,
    encode_bundle,
    encode_forward,
    encode_hello,
    encode_message,
    encode_roster,
    sender_of,
)

LARGE = 2**64 - 1
CONFIGURATION = Configuration((1, 2, LARGE), (9,)).encode()
ENTRIES = (
    Entry(8, 3, EntryKind.NO_OP, b""),
    Entry(9, 3, EntryKind.DATA, b"a request"),
    Entry(10, 3, EntryKind.CONFIGURATION, CONFIGURATION),
)
MESSAGES: list[Message] = [
    AppendEntries(1, 0, 3, 7, 2, 6, 5, ENTRIES),
    AppendEntries(1, 0, 3, 7, 2, 6, 5, ENTRIES, 10),
    AppendEntries(LARGE, LARGE, LARGE, 7, 2, 6, LARGE, (), LARGE),
    AppendEntriesResponse(1, 2, 3, 4, True, 5, 6, 7),
    AppendEntriesResponse(1, 2, 3, 4, False, 5, 6, LARGE),
    RequestVote(1, 2, 3, 4, 5, True, False),
    RequestVote(1, 2, 3, 4, 5, False, True),
    RequestVoteResponse(1, 2, 3, True, False),
    RequestVoteResponse(1, 2, 3, False, True),
    InstallSnapshot(1, 2, 3, 4, 5, 6, 7, False, b"a chunk", CONFIGURATION),
    InstallSnapshot(1, 2, 3, 4, 5, 6, 7, True, b"", CONFIGURATION),
    InstallSnapshotResponse(1, 2, 3, 4, 5, 6, True),
    TimeoutNow(1, 2, 3),
    ReadIndex(1, 2, 3, LARGE),
    ReadIndexResponse(1, 2, 3, 4, LARGE),
]
FRAMES = [encode_message(message) for message in MESSAGES]
REQUESTS = [b"one", b"", b"three" * 99]


def decode(frame: bytes) -> Message:
    return decode_message(frames.parse_header(frame)[0], frame)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back(message: Message) -> None:
    frame = encode_message(message)
    assert decode(frame) == message
    assert [type(getattr(decode(frame), name)) for name in message.__slots__] == [
        type(getattr(message, name)) for name in message.__slots__
    ]


@pytest.mark.parametrize("frame", FRAMES, ids=[type(message).__name__ for message in MESSAGES])
def test_a_message_that_is_cut_or_too_long_is_refused(frame: bytes) -> None:
    for end in range(frames.HEADER_BYTES, len(frame)):
        with pytest.raises(FrameError):
            decode(frame[:end])
    with pytest.raises(FrameError):
        decode(frame + b"\0")


def test_an_unknown_type_is_refused() -> None:
    for frame_type in (frames.FORWARD, frames.HELLO, frames.BUNDLE, frames.REQUEST, 0xFF):
        with pytest.raises(FrameError, match="not a Raft message"):
            decode_message(frame_type, frames.header(frame_type))


def test_an_entry_of_unknown_kind_is_refused() -> None:
    frame = bytearray(encode_message(AppendEntries(1, 0, 3, 7, 2, 6, 5, ENTRIES[:1])))
    frame[-5] = 9
    with pytest.raises(FrameError, match="unknown kind 9"):
        decode(bytes(frame))


def test_a_promise_of_four_billion_entries_costs_nothing() -> None:
    frame = bytearray(encode_message(AppendEntries(1, 0, 3, 7, 2, 6, 5, ())))
    struct.pack_into("<I", frame, len(frame) - 4, 2**32 - 1)
    with pytest.raises(FrameError):
        decode(bytes(frame))


def test_a_snapshot_without_a_configuration_is_refused() -> None:
    overlapping = struct.pack("<HHQQ", 1, 1, 5, 5)
    for wrong in (b"", b"\x01", overlapping):
        with pytest.raises(FrameError, match="configuration"):
            decode(encode_message(InstallSnapshot(1, 2, 3, 4, 5, 6, 7, True, b"chunk", wrong)))


def test_a_configuration_that_is_far_too_large_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decoded is kept, so that a stranger could fill the memory with it."""
    monkeypatch.setattr(Configuration, "decode", lambda data: pytest.fail("it was decoded"))
    with pytest.raises(FrameError, match="a configuration of 65537 bytes came"):
        decode(encode_message(InstallSnapshot(1, 2, 3, 4, 5, 6, 7, True, b"chunk", bytes(65_537))))


def test_an_entry_with_a_broken_configuration_is_refused() -> None:
    broken = Entry(8, 3, EntryKind.CONFIGURATION, CONFIGURATION[:-1])
    with pytest.raises(FrameError, match="configuration"):
        decode(encode_message(AppendEntries(1, 0, 3, 7, 2, 6, 5, (broken,))))


def test_forwarded_requests_come_back() -> None:
    assert decode_forward(encode_forward(LARGE, REQUESTS)) == (LARGE, REQUESTS)
    assert decode_forward(encode_forward(1, [])) == (1, [])


def test_forwarded_requests_that_are_cut_are_refused() -> None:
    frame = encode_forward(1, REQUESTS)
    for end in range(frames.HEADER_BYTES, len(frame)):
        with pytest.raises(FrameError):
            decode_forward(frame[:end])


BUNDLED = [frame for frame in FRAMES if sender_of(frame) == 1]


def test_a_bundle_comes_back() -> None:
    for parts in (BUNDLED[:1], BUNDLED):
        assert decode_bundle(encode_bundle(parts)) == parts
    bundle = encode_bundle(BUNDLED)
    assert sender_of(bundle) == 1
    for end in range(frames.HEADER_BYTES, len(bundle)):
        with pytest.raises(FrameError):
            decode_bundle(bundle[:end])


def test_a_bundle_of_two_senders_or_of_bundles_is_refused() -> None:
    stranger = encode_message(TimeoutNow(9, 2, 3))
    for wrong in ([BUNDLED[0], stranger], [BUNDLED[0], encode_bundle(BUNDLED)], [BUNDLED[0], b""]):
        with pytest.raises(FrameError):
            decode_bundle(encode_bundle(wrong))


@given(damaged(encode_bundle(BUNDLED)))
def test_a_damaged_bundle(frame: bytes) -> None:
    refuses_or_accepts(decode_bundle, frame)


@given(damaged(*FRAMES), st.sampled_from([None, *range(0x10, 0x1D)]))
def test_a_damaged_message(frame: bytes, claimed_type: int | None) -> None:
    if claimed_type is None:
        refuses_or_accepts(decode, frame)
    else:
        refuses_or_accepts(lambda data: decode_message(claimed_type, data), frame)


HELLO = Hello(7, 9, "tcp://10.0.0.1:5000", "node7")


def test_a_hello_comes_back() -> None:
    assert decode_hello(encode_hello(HELLO)) == HELLO


@pytest.mark.parametrize("address", ["", "10.0.0.1:5000", "tcp://host:70000", "ipc:///tmp/x"])
def test_a_hello_without_an_endpoint_is_refused(address: str) -> None:
    with pytest.raises(FrameError):
        decode_hello(encode_hello(HELLO._replace(address=address)))


@given(damaged(encode_hello(HELLO)))
def test_a_damaged_hello(frame: bytes) -> None:
    refuses_or_accepts(decode_hello, frame)


NEWS = RosterNews(7, 9, "tcp://10.0.0.1:5000", Roster.of_founders(["tcp://10.0.0.1:5000", "tcp://10.0.0.2:5000"], 3, 1))


def test_a_roster_survives_its_frame() -> None:
    assert decode_roster(encode_roster(NEWS)) == NEWS
    with pytest.raises(FrameError, match="a ROSTER is not valid"):
        decode_roster(encode_roster(NEWS._replace(address="tcp://localhost:5000")))


@given(damaged(encode_roster(NEWS)))
def test_a_damaged_roster(frame: bytes) -> None:
    refuses_or_accepts(decode_roster, frame)


@given(damaged(encode_forward(3, REQUESTS)))
def test_a_damaged_forward(frame: bytes) -> None:
    refuses_or_accepts(decode_forward, frame)


U64 = st.integers(0, LARGE)


@given(
    U64,
    U64,
    st.lists(st.tuples(U64, st.sampled_from([EntryKind.NO_OP, EntryKind.DATA]), st.binary(max_size=60)), max_size=20),
)
def test_entries_get_their_indexes_back(term: int, round_: int, said: list[tuple[int, EntryKind, bytes]]) -> None:
    entries = tuple(Entry(index, *fields) for index, fields in enumerate(sorted(said), start=101))
    terms = [0, *(entry.term for entry in entries), term]
    message = AppendEntries(1, 0, term, 100, 0, 99, round_, entries)
    if terms == sorted(terms):
        assert decode(encode_message(message)) == message
    else:
        with pytest.raises(FrameError, match=f"of term {term} mentions the later term {terms[-2]}"):
            decode(encode_message(message))


def test_terms_never_fall_along_a_log() -> None:
    for prev_term, terms in ((3, (2,)), (2, (3, 2)), (0, (1, 3, 2))):
        entries = tuple(Entry(index, term, EntryKind.DATA, b"") for index, term in enumerate(terms, start=8))
        with pytest.raises(FrameError, match="the one before it"):
            decode(encode_message(AppendEntries(1, 0, 3, 7, prev_term, 6, 5, entries)))


@pytest.mark.parametrize(
    "address",
    [
        *("tcp://..:5000", "tcp://-:5000", "tcp://127.0.0.1:65534", "tcp://127.0.0.1:0", "a", "tcp://127.0.0.1:1" * 9),
        *("tcp://silent.example:5000", "tcp://localhost:5000", "tcp://010.0.0.1:5000", "tcp://1.2.3:5000"),
        *("tcp://[::1:5000", "tcp://[0:0::1]:5000", "tcp://[fe80::1%1]:5000", "tcp://[:]:5000", "tcp://::1:5000"),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """libzmq fails at some of these. Others are names of hosts: libzmq looked ``silent.example`` up in the thread that
    moves all data of a node, 30 s long, and at each start again, since the name was committed. No test had a name."""
    members = Configuration((1, 2), addresses=((2, address),)).encode()
    frames_ = (
        encode_hello(Hello(1, 2, address, "node1")),
        encode_message(AppendEntries(1, 0, 3, 7, 2, 6, 5, (Entry(8, 3, EntryKind.CONFIGURATION, members),))),
        encode_message(InstallSnapshot(1, 2, 3, 4, 5, 6, 0, True, b"", members)),
    )
    for frame, read in zip(frames_, (decode_hello, decode, decode), strict=True):
        with pytest.raises(FrameError, match="endpoint"):
            read(frame)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:5000", "tcp://[::1]:65533", "tcp://[2001:db8::7]:1"])
def test_what_is_an_address_is_taken(address: str) -> None:
    members = Configuration((1, 2), addresses=((2, address),)).encode()
    assert decode_hello(encode_hello(Hello(1, 2, address, "node1"))).address == address
    decode(encode_message(AppendEntries(1, 0, 3, 7, 2, 6, 5, (Entry(8, 3, EntryKind.CONFIGURATION, members),))))


def test_a_configuration_without_voters_is_none() -> None:
    entry = Entry(8, 3, EntryKind.CONFIGURATION, Configuration((), (1,)).encode())
    with pytest.raises(FrameError, match="no voters"):
        decode(encode_message(AppendEntries(1, 0, 3, 7, 2, 6, 5, (entry,))))


@pytest.mark.parametrize("name", ["", "a b", "x" * 33, "<script>", "\n", "é"])
def test_a_name_that_no_node_can_have(name: str) -> None:
    with pytest.raises(FrameError, match="no name of a node"):
        decode_hello(encode_hello(Hello(1, 2, "tcp://127.0.0.1:5000", name)))
