"""The frames between nodes: Raft messages, forwarded requests, HELLO and bundles of them, as bytes and back.

Each message type has one fixed-width ``struct`` layout, little-endian, right after the frame's header. The messages
that carry bytes of any length (AppendEntries, InstallSnapshot, FORWARD, HELLO, BUNDLE) append them and state their
lengths. Decoding checks every length against the frame, trusts no count beyond the bytes that came with it, and raises
:class:`~zmqlab.errors.FrameError`. It also refuses messages that Raft takes for impossible, such as terms that fall
along a log, and addresses that no node can connect to.

An AppendEntries goes out over PUB if its ``to`` is ``BROADCAST``, and over a DEALER otherwise. Its bytes are the same.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from zmqlab.endpoints import is_address
from zmqlab.errors import FrameError, SettingsError
from zmqlab.placement import Roster
from zmqlab.raft.configuration import Configuration
from zmqlab.raft.messages import (
    CONFIGURATION,
    AppendEntries,
    AppendEntriesResponse,
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
from zmqlab.settings import is_node_name
from zmqlab.wire import frames
from zmqlab.wire.frames import HEADER_BYTES, header

_SENDER = struct.Struct("<Q")  # each of the following begins with it
_APPEND = struct.Struct("<QQQQQQQQI")  # sender to term prev_index prev_term commit_index round stored_index entry_count
_ENTRY = struct.Struct("<QBI")  # term kind data_bytes; its index follows from prev_index
_APPEND_RESPONSE = struct.Struct("<QQQQ?QQQ")  # sender to term round success index hint_term rejected_index
_VOTE = struct.Struct("<QQQQQ??")  # sender to term last_index last_term pre_vote forced
_VOTE_RESPONSE = struct.Struct("<QQQ??")  # sender to term granted pre_vote
_SNAPSHOT = struct.Struct("<QQQQQQQ?II")  # sender to term round index term offset done configuration_bytes data_bytes
_SNAPSHOT_RESPONSE = struct.Struct("<QQQQQQ?")  # sender to term round snapshot_index offset done
_TIMEOUT_NOW = struct.Struct("<QQQ")  # sender to term
_READ_INDEX = struct.Struct("<QQQQ")  # sender to term context
_READ_INDEX_RESPONSE = struct.Struct("<QQQQQ")  # sender to term context index
_FORWARD = struct.Struct("<QI")  # sender request_count, then each with its length; a BUNDLE of frames is the same
_LENGTH = struct.Struct("<I")
_ROSTER = struct.Struct("<QQHH")  # sender cluster address_bytes roster_bytes, then address, then roster
_HELLO = struct.Struct("<QQBHH")  # sender to is_closing address_bytes name_bytes, then address, then name

MAX_CONFIGURATION_BYTES = 65_536
"""Several times what 15 members and a roster of 64 groups take. What was decoded is kept for the next time."""
_KINDS = {int(kind): kind for kind in EntryKind}


def _encode_append(message: AppendEntries) -> list[bytes]:
    parts = [_APPEND.pack(*message[:7], message.stored_index, len(message.entries))]
    for entry in message.entries:
        parts.append(_ENTRY.pack(entry.term, entry.kind, len(entry.data)))
        parts.append(entry.data)
    return parts


def _decode_append(frame: bytes) -> AppendEntries:
    fixed = _APPEND.unpack_from(frame, HEADER_BYTES)
    sender, to, term, prev_index, prev_term, commit_index, round_, stored_index, count = fixed
    entries, offset = [], HEADER_BYTES + _APPEND.size
    last_term = prev_term
    for index in range(prev_index + 1, prev_index + 1 + min(count, len(frame))):
        entry_term, kind, size = _ENTRY.unpack_from(frame, offset)
        start = offset + _ENTRY.size
        offset = start + size
        if kind not in _KINDS or offset > len(frame):
            raise FrameError(f"entry {index} of an AppendEntries is cut short or of unknown kind {kind}")
        if entry_term < last_term:
            raise FrameError(f"entry {index} is of term {entry_term}, the one before it of term {last_term}")
        last_term = entry_term
        data = frame[start:offset]
        if kind == CONFIGURATION:
            _expect_configuration(data)
        entries.append(Entry(index, entry_term, _KINDS[kind], data))
    _expect_end(frame, offset)
    if count != len(entries):
        raise FrameError(f"an AppendEntries says that it holds {count} entries, and holds {len(entries)}")
    if last_term > term:
        raise FrameError(f"an AppendEntries of term {term} mentions the later term {last_term}")
    return AppendEntries(sender, to, term, prev_index, prev_term, commit_index, round_, tuple(entries), stored_index)


def _encode_snapshot(message: InstallSnapshot) -> list[bytes]:
    fixed = _SNAPSHOT.pack(*message[:8], len(message.configuration), len(message.data))
    return [fixed, message.configuration, message.data]


def _decode_snapshot(frame: bytes) -> InstallSnapshot:
    *fixed, done, configuration_bytes, data_bytes = _SNAPSHOT.unpack_from(frame, HEADER_BYTES)
    sender, to, term, round_, index, snapshot_term, offset = fixed
    start = HEADER_BYTES + _SNAPSHOT.size
    middle = start + configuration_bytes
    _expect_end(frame, middle + data_bytes)
    configuration, data = frame[start:middle], frame[middle:]
    _expect_configuration(configuration)
    return InstallSnapshot(sender, to, term, round_, index, snapshot_term, offset, done, data, configuration)


def _expect_configuration(data: bytes) -> None:
    """Raise FrameError unless ``data`` is a configuration with voters and with real addresses.

    Raft trusts the configurations that it is given. And every node would try to connect to a bad address, now and at
    each start.
    """
    if len(data) > MAX_CONFIGURATION_BYTES:
        raise FrameError(f"a configuration of {len(data)} bytes came; at most {MAX_CONFIGURATION_BYTES} are taken")
    try:
        configuration = Configuration.decode(data)
        for _, address in configuration.addresses:
            _expect_address(address)
        if not configuration.voters:
            raise ValueError("it has no voters")
        if configuration.roster:
            Roster.decode(configuration.roster)
    except (ValueError, SettingsError) as error:
        raise FrameError(f"a configuration is not valid: {error}") from None


def _expect_address(address: str) -> None:
    """Raise SettingsError unless it is a base endpoint with an address. libzmq would look a name up in the thread that
    moves all data, for as long as its name server likes."""
    if not is_address(address):
        raise SettingsError(f"{address[:100]!r} is no endpoint with an address")


def _expect_end(frame: bytes, end: int) -> None:
    if end != len(frame):
        raise FrameError(f"a frame of {len(frame)} bytes should have {end}")


def _fixed(layout: struct.Struct, make: Callable[..., Message]) -> Callable[[bytes], Message]:
    """A decoder of messages that are one struct."""

    unpack_from, end = layout.unpack_from, HEADER_BYTES + layout.size

    def decode(frame: bytes) -> Message:
        _expect_end(frame, end)
        return make(*unpack_from(frame, HEADER_BYTES))

    return decode


_DECODERS: dict[int, Callable[[bytes], Message]] = {
    frames.APPEND_ENTRIES: _decode_append,
    frames.APPEND_ENTRIES_RESPONSE: _fixed(_APPEND_RESPONSE, AppendEntriesResponse),
    frames.REQUEST_VOTE: _fixed(_VOTE, RequestVote),
    frames.REQUEST_VOTE_RESPONSE: _fixed(_VOTE_RESPONSE, RequestVoteResponse),
    frames.INSTALL_SNAPSHOT: _decode_snapshot,
    frames.INSTALL_SNAPSHOT_RESPONSE: _fixed(_SNAPSHOT_RESPONSE, InstallSnapshotResponse),
    frames.TIMEOUT_NOW: _fixed(_TIMEOUT_NOW, TimeoutNow),
    frames.READ_INDEX: _fixed(_READ_INDEX, ReadIndex),
    frames.READ_INDEX_RESPONSE: _fixed(_READ_INDEX_RESPONSE, ReadIndexResponse),
}

_FIXED_LAYOUTS: dict[type, tuple[int, struct.Struct]] = {
    AppendEntriesResponse: (frames.APPEND_ENTRIES_RESPONSE, _APPEND_RESPONSE),
    RequestVote: (frames.REQUEST_VOTE, _VOTE),
    RequestVoteResponse: (frames.REQUEST_VOTE_RESPONSE, _VOTE_RESPONSE),
    InstallSnapshotResponse: (frames.INSTALL_SNAPSHOT_RESPONSE, _SNAPSHOT_RESPONSE),
    TimeoutNow: (frames.TIMEOUT_NOW, _TIMEOUT_NOW),
    ReadIndex: (frames.READ_INDEX, _READ_INDEX),
    ReadIndexResponse: (frames.READ_INDEX_RESPONSE, _READ_INDEX_RESPONSE),
}


def encode_message(message: Message, group: int = 0) -> bytes:
    """A whole frame with one Raft message."""
    if type(message) is AppendEntries:
        return b"".join([header(frames.APPEND_ENTRIES, group), *_encode_append(message)])
    if type(message) is InstallSnapshot:
        return b"".join([header(frames.INSTALL_SNAPSHOT, group), *_encode_snapshot(message)])
    frame_type, layout = _FIXED_LAYOUTS[type(message)]
    return header(frame_type, group) + layout.pack(*message)


def decode_message(frame_type: int, frame: bytes) -> Message:
    """The Raft message of a frame whose header was parsed.

    Raises:
        FrameError: the type is not a Raft message, or the bytes do not fit its layout.
    """
    decoder = _DECODERS.get(frame_type)
    if decoder is None:
        raise FrameError(f"frame type {frame_type:#04x} is not a Raft message")
    try:
        return decoder(frame)
    except struct.error as error:
        raise FrameError(f"a frame of type {frame_type:#04x} is cut short: {error}") from None


def sender_of(frame: bytes) -> int:
    """The id that a frame of any of these types names as its sender.

    Raises:
        FrameError: the frame is too short to name one.
    """
    if len(frame) < HEADER_BYTES + _SENDER.size:
        raise FrameError(f"a frame of {len(frame)} bytes names no sender")
    sender: int = _SENDER.unpack_from(frame, HEADER_BYTES)[0]
    return sender


def encode_forward(sender: int, requests: Sequence[bytes], group: int = 0) -> bytes:
    """A FORWARD frame: whole REQUEST and OPEN_SESSION frames, from the node that took them to the leader."""
    parts = [header(frames.FORWARD, group), _FORWARD.pack(sender, len(requests))]
    for request in requests:
        parts.append(_LENGTH.pack(len(request)))
        parts.append(request)
    return b"".join(parts)


def decode_forward(frame: bytes) -> tuple[int, list[bytes]]:
    """``(sender, requests)`` of a FORWARD frame. The requests are not parsed yet.

    Raises:
        FrameError: it is cut short, or holds another number of requests than it says.
    """
    return _parts(frame, "a forwarded batch", "requests")


def _parts(frame: bytes, name: str, of_what: str) -> tuple[int, list[bytes]]:
    """The sender, and what follows with a length before each. Raises FrameError."""
    try:
        sender, count = _FORWARD.unpack_from(frame, HEADER_BYTES)
        parts, offset = [], HEADER_BYTES + _FORWARD.size
        while offset < len(frame):
            (size,) = _LENGTH.unpack_from(frame, offset)
            offset += _LENGTH.size + size
            parts.append(frame[offset - size : offset])
    except struct.error as error:
        raise FrameError(f"{name} is cut short: {error}") from None
    if offset != len(frame) or count != len(parts):
        raise FrameError(f"{name} of {len(frame)} bytes says that it holds {count} {of_what}, and does not")
    return sender, parts


def encode_bundle(parts: Sequence[bytes]) -> bytes:
    """A BUNDLE frame: whole frames of one node, of any of its groups, for one peer. At least one of them."""
    joined = [header(frames.BUNDLE), _FORWARD.pack(sender_of(parts[0]), len(parts))]
    for part in parts:
        joined.append(_LENGTH.pack(len(part)))
        joined.append(part)
    return b"".join(joined)


def decode_bundle(frame: bytes) -> list[bytes]:
    """The frames in a BUNDLE frame, in their order. What they hold is not parsed yet.

    Raises:
        FrameError: it is cut short, holds another number of frames than it says, or one of another sender, or a bundle.
    """
    sender, parts = _parts(frame, "a bundle", "frames")
    sender_bytes = frame[HEADER_BYTES : HEADER_BYTES + _SENDER.size]
    for part in parts:  # no call for each: nodes without load send each other little else
        if part[HEADER_BYTES : HEADER_BYTES + _SENDER.size] != sender_bytes or part[3] == frames.BUNDLE:
            raise FrameError(f"a bundle of {sender:#x} holds a bundle, or a frame of another sender")
    return parts


class Hello(NamedTuple):
    """A node's id, name and address, told to a node that may not know them."""

    sender: int
    to: int
    address: str
    """Its base endpoint, ``tcp://ADDRESS:PORT``; a name of a host is refused."""
    name: str
    is_closing: bool = False
    """It has been told to end: it takes no requests, and gives away what it leads."""


def encode_hello(hello: Hello, group: int = 0) -> bytes:
    """A whole HELLO frame."""
    address, name = hello.address.encode(), hello.name.encode()
    fixed = _HELLO.pack(hello.sender, hello.to, hello.is_closing, len(address), len(name))
    return b"".join((header(frames.HELLO, group), fixed, address, name))


@lru_cache(maxsize=64)
def decode_hello(frame: bytes) -> Hello:
    """The contents of a HELLO frame. A node says the same thing several times a second, hence the cache; what it keeps
    is short, since only valid frames get in.

    Raises:
        FrameError: it is cut short, its address is none or names a host, or its name is no name of a node.
    """
    try:
        sender, to, is_closing, address_bytes, name_bytes = _HELLO.unpack_from(frame, HEADER_BYTES)
        start = HEADER_BYTES + _HELLO.size
        _expect_end(frame, start + address_bytes + name_bytes)
        address, name = frame[start : start + address_bytes].decode(), frame[start + address_bytes :].decode()
        _expect_address(address)
        if not is_node_name(name):
            raise SettingsError(f"{name[:40]!r} is no name of a node")
    except (struct.error, UnicodeDecodeError, SettingsError) as error:
        raise FrameError(f"a HELLO is not valid: {error}") from None
    return Hello(sender, to, address, name, bool(is_closing))


class RosterNews(NamedTuple):
    """A node of a cluster with shards tells another one which nodes there are."""

    sender: int
    cluster: int
    """A number that only the nodes of one cluster know."""
    address: str
    """The sender's base endpoint."""
    roster: Roster


def encode_roster(news: RosterNews) -> bytes:
    """A whole ROSTER frame."""
    address, roster = news.address.encode(), news.roster.encode()
    fixed = _ROSTER.pack(news.sender, news.cluster, len(address), len(roster))
    return b"".join((header(frames.ROSTER), fixed, address, roster))


@lru_cache(maxsize=64)
def decode_roster(frame: bytes) -> RosterNews:
    """The contents of a ROSTER frame. It is told again and again, hence the cache.

    Raises:
        FrameError: it is cut short, or an address or the roster in it is none.
    """
    try:
        sender, cluster, address_bytes, roster_bytes = _ROSTER.unpack_from(frame, HEADER_BYTES)
        start = HEADER_BYTES + _ROSTER.size
        _expect_end(frame, start + address_bytes + roster_bytes)
        address = frame[start : start + address_bytes].decode()
        _expect_address(address)
        return RosterNews(sender, cluster, address, Roster.decode(frame[start + address_bytes :]))
    except (struct.error, ValueError, SettingsError) as error:
        raise FrameError(f"a ROSTER is not valid: {error}") from None
