"""What the records of a journal look like, each sealed with a CRC-32 of its contents.

A disk may give back other bytes than were written: a flipped bit, a page of an older file. A sealed record shows that
when it is read, and is then an error (:class:`~zmqlab.errors.JournalCorrupt`), never an answer. All is little-endian:

========== ===============================================================
record     after the checksum
========== ===============================================================
hard state term, voted_for, commit_index
entry      term, kind, then its data; the index is the record's key
snapshot   index, term, configuration_bytes, then configuration, then data
========== ===============================================================

Pure: the journal on disk (:mod:`zmqlab.node.journal`) and the simulated one (:mod:`zmqlab.sim.disk`) hold the same
bytes.
"""

from __future__ import annotations

import struct
import zlib

from zmqlab.errors import JournalCorrupt
from zmqlab.raft import Configuration, HardState, Snapshot
from zmqlab.raft.messages import Entry, EntryKind

_CRC = struct.Struct("<I")
_HARD_STATE = struct.Struct("<QQQ")
_ENTRY = struct.Struct("<QB")
_SNAPSHOT = struct.Struct("<QQI")

_KINDS = {int(kind): kind for kind in EntryKind}


def seal(*parts: bytes) -> bytes:
    """One record with its checksum before it."""
    body = b"".join(parts)
    return _CRC.pack(zlib.crc32(body)) + body


def unseal(record: bytes | memoryview, what: str) -> bytes:
    """The contents of a sealed record. Raises JournalCorrupt."""
    body = bytes(record[_CRC.size :])
    if len(record) < _CRC.size or _CRC.unpack_from(record)[0] != zlib.crc32(body):
        raise JournalCorrupt(
            f"the journal's record of {what} fails its checksum: the disk has changed it. Move the node's data folder"
            " away and start the node again as a new member; its old copy is not to be trusted"
        )
    return body


def seal_hard_state(hard_state: HardState) -> bytes:
    """The record of term and vote."""
    return seal(_HARD_STATE.pack(hard_state.term, hard_state.voted_for, hard_state.commit_index))


def unseal_hard_state(record: bytes | memoryview) -> HardState:
    """What :func:`seal_hard_state` sealed. Raises JournalCorrupt."""
    return HardState(*_HARD_STATE.unpack(unseal(record, "term and vote")))


def seal_entry(term: int, kind: int, data: bytes) -> bytes:
    """The record of an entry."""
    return seal(_ENTRY.pack(term, kind), data)


def unseal_entry(index: int, record: bytes | memoryview) -> Entry:
    """What :func:`seal_entry` sealed. Raises JournalCorrupt."""
    body = unseal(record, f"entry {index}")
    term, kind = _ENTRY.unpack_from(body)
    return Entry(index, term, _KINDS[kind], body[_ENTRY.size :])


def seal_snapshot(snapshot: Snapshot) -> bytes:
    """The record of a snapshot."""
    configuration = snapshot.configuration.encode()
    return seal(_SNAPSHOT.pack(snapshot.index, snapshot.term, len(configuration)), configuration, snapshot.data)


def unseal_snapshot(record: bytes | memoryview) -> Snapshot:
    """What :func:`seal_snapshot` sealed. Raises JournalCorrupt."""
    body = unseal(record, "the snapshot")
    index, term, configuration_bytes = _SNAPSHOT.unpack_from(body)
    middle = _SNAPSHOT.size + configuration_bytes
    return Snapshot(index, term, Configuration.decode(body[_SNAPSHOT.size : middle]), body[middle:])
