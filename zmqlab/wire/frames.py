"""The header of every frame, the types of frames, and the bounds that every socket enforces.

One ZeroMQ message carries one frame (a ROUTER puts the sender's identity before it)::

    offset  size  field
    0       2     magic    b"ZL"
    2       1     version  1
    3       1     type     one of the constants below
    4       4     group    the Raft group, little-endian; 0 is the first, and the only one without shards

A subscriber filters by the first four bytes (:func:`topic`), so a PUB message needs no topic frame. The bodies of
frames are the subject of :mod:`~zmqlab.wire.client`, :mod:`~zmqlab.wire.control` and :mod:`~zmqlab.wire.peer`.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from zmqlab.errors import FrameError

MAGIC = b"ZL"
VERSION = 1
HEADER = struct.Struct("<2sBBI")
HEADER_BYTES = HEADER.size
_OPENING = MAGIC + bytes((VERSION,))
_FIELDS = struct.Struct("<3sBI")
"""The same bytes, with magic and version as one: each frame is asked for them, often more than once."""

REQUEST = 0x01
RESPONSES = 0x02
OPEN_SESSION = 0x03
QUERY = 0x05
ANSWER = 0x06

APPEND_ENTRIES = 0x10
APPEND_ENTRIES_RESPONSE = 0x11
REQUEST_VOTE = 0x12
REQUEST_VOTE_RESPONSE = 0x13
INSTALL_SNAPSHOT = 0x14
INSTALL_SNAPSHOT_RESPONSE = 0x15
TIMEOUT_NOW = 0x16
READ_INDEX = 0x17
READ_INDEX_RESPONSE = 0x18
FORWARD = 0x19
HELLO = 0x1A
ROSTER = 0x1B
BUNDLE = 0x1C

METRICS = 0x20
TRADE = 0x21
EVENT = 0x22
TRACE = 0x23

MAX_CLIENT_FRAME_BYTES = 65_536
"""A full request, of 1,024 commands of 40 bytes, has 40,992 bytes. A larger frame is dropped."""
MAX_PEER_FRAME_BYTES = 4_194_304
"""Room for an AppendEntries with 1 MiB of entries or for a chunk of a snapshot, and for growth."""
MAX_ANSWER_BYTES = 4_194_304
"""A client must be ready to receive as much: 1,024 reports and their fills, or a piece of the log."""


@lru_cache(maxsize=1_024)
def header(frame_type: int, group: int = 0) -> bytes:
    """The eight bytes that open a frame of ``frame_type``."""
    return HEADER.pack(MAGIC, VERSION, frame_type, group)


def topic(frame_type: int) -> bytes:
    """The prefix to which a SUB socket subscribes for frames of ``frame_type`` of all groups."""
    return MAGIC + bytes((VERSION, frame_type))


def parse_header(frame: bytes) -> tuple[int, int]:
    """``(type, group)`` of a frame.

    Raises:
        FrameError: it is too short, has another magic, or is of an unknown version.
    """
    return _parsed_header(frame[:HEADER_BYTES])


@lru_cache(maxsize=1_024)
def _parsed_header(frame: bytes) -> tuple[int, int]:
    """Each frame is asked for its header, often more than once; there are few of them."""
    try:
        opening, frame_type, group = _FIELDS.unpack_from(frame)
    except struct.error:
        raise FrameError(f"a frame of {len(frame)} bytes is shorter than a header of {HEADER_BYTES}") from None
    if opening == _OPENING:
        return frame_type, group
    magic, version, _, _ = HEADER.unpack_from(frame)
    if magic != MAGIC:
        raise FrameError(f"a frame begins with {magic!r}, and not with {MAGIC!r}")
    raise FrameError(f"a frame is of version {version}: this zmqlab speaks version {VERSION}")


def slices(parts: list[bytes], max_bytes: int) -> list[list[bytes]]:
    """``parts`` in their order, in groups of at most ``max_bytes``; a larger part is a group of its own."""
    if sum(map(len, parts)) <= max_bytes:
        return [parts]
    groups: list[list[bytes]] = []
    size = max_bytes + 1
    for part in parts:
        if size + len(part) > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += len(part)
    return groups
