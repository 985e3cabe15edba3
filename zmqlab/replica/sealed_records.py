"""The records of a journal, each sealed with a checksum: bytes on the disk, and back.

A disk may give back other bytes than were written: a flipped bit, a page of an older file. So each record is sealed
with a CRC-32 of its contents. A damaged one is an error when it is read (:class:`~zmqlab.errors.JournalCorrupt`),
never an answer. All is little-endian:

========== =====================================================================================================
record     after the checksum
========== =====================================================================================================
identity   the version of this table, one byte, then whose journal it is
hard state term, voted_for, commit_index
entry      term, kind, then its data; the index is the record's key
life       how often the journal was opened
part       data; generation and number are the record's key
shards     how many groups there are, and how many nodes hold each; the groups of this node; all founders
snapshot   index, term, configuration_bytes, generation, parts, then configuration, then the data after the parts
========== =====================================================================================================

Left out: where the records lie, and when they are written (:mod:`zmqlab.replica.record_journal`).
"""

from __future__ import annotations

import struct
import zlib

from zmqlab.errors import JournalCorrupt
from zmqlab.raft import HardState, Snapshot
from zmqlab.raft.messages import Entry, EntryKind

_CRC = struct.Struct("<I")
CHECKSUM_BYTES = _CRC.size
_HARD_STATE_RECORD = struct.Struct("<QQQ")  # term voted_for commit_index
_ENTRY_RECORD = struct.Struct("<QB")  # term kind
SNAPSHOT_RECORD = struct.Struct("<QQIQI")  # index term configuration_bytes generation parts
_KINDS = {int(kind): kind for kind in EntryKind}
NEW_MEMBER = (
    "Move the node's data folder away and start the node again: it comes back as a new member, and gets everything from"
    " the others"
)
"""What to do about a journal that can't be used."""


def seal(*parts: bytes | bytearray) -> bytes:
    """One record with its checksum before it."""
    body = b"".join(parts)
    return _CRC.pack(zlib.crc32(body)) + body


def unseal(record: bytes | memoryview, what: str) -> bytes:
    """The contents of a sealed record. Raises JournalCorrupt."""
    body = bytes(record[_CRC.size :])
    if len(record) < _CRC.size or _CRC.unpack_from(record)[0] != zlib.crc32(body):
        reason = "fails its checksum: the disk has changed it"
        raise JournalCorrupt(f"the journal's record of {what} {reason}. {NEW_MEMBER}")
    return body


def seal_hard_state(hard_state: HardState) -> bytes:
    """The record of term and vote."""
    return seal(_HARD_STATE_RECORD.pack(hard_state.term, hard_state.voted_for, hard_state.commit_index))


def unseal_hard_state(record: bytes | memoryview) -> HardState:
    """What :func:`seal_hard_state` sealed. Raises JournalCorrupt."""
    return HardState(*_HARD_STATE_RECORD.unpack(unseal(record, "term and vote")))


def seal_entry(term: int, kind: int, data: bytes) -> bytes:
    """The record of an entry."""
    return seal(_ENTRY_RECORD.pack(term, kind), data)


def unseal_entry(index: int, record: bytes | memoryview) -> Entry:
    """What :func:`seal_entry` sealed. Raises JournalCorrupt."""
    body = unseal(record, f"entry {index}")
    term, kind = _ENTRY_RECORD.unpack_from(body)
    return Entry(index, term, _KINDS[kind], body[_ENTRY_RECORD.size :])


def seal_snapshot(snapshot: Snapshot, generation: int, parts: int) -> bytes:
    """The record of a snapshot, whose data are what is left after the ``parts`` parts of ``generation``."""
    configuration = snapshot.configuration.encode()
    fixed = SNAPSHOT_RECORD.pack(snapshot.index, snapshot.term, len(configuration), generation, parts)
    return seal(fixed, configuration, snapshot.data)
