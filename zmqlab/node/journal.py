"""The journal on disk: one LMDB environment a node and group.

Three named databases: ``entries`` (index as 8 bytes, big-endian, so that LMDB's order is the log's), ``snapshot`` (one
record) and ``meta`` (hard state, identity, the oldest index). Each record begins with a CRC-32 of the rest, so that a
damaged one is found when it is read and is never served.

LMDB is a copy-on-write B+tree with one writer: a transaction is there whole or not at all, whatever instant the
process dies at, and it needs no recovery. ``durability="os"`` leaves the flushing to the kernel, which survives the
death of every process but not a power cut; ``"fsync"`` flushes each transaction, and since a turn of the loop is one
transaction, that is group commit.

Entries behind the newest snapshot are kept while they fit ``retain_bytes``, then forgotten a few at a time.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
import zlib
from pathlib import Path

import lmdb

from zmqlab.errors import JournalCorrupt, JournalFull, JournalMismatch
from zmqlab.raft import Configuration, HardState, Snapshot
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica.journal import StoredState

MAP_BYTES = 1 << 36
"""The most that the file may grow to: address space, not disk. 64 GiB is far above what ``retain_bytes`` allows."""
FORGET_AT_ONCE = 512
"""Old entries deleted in one transaction: some 0.3 ms, so that no turn is held up."""

_KEY = struct.Struct(">Q")
_ENTRY = struct.Struct("<QB")  # term kind, then data
_HARD_STATE = struct.Struct("<QQQ")  # term voted_for commit_index
_SNAPSHOT = struct.Struct("<QQI")  # index term configuration_bytes, then configuration, then data
_CRC = struct.Struct("<I")

_HARD_STATE_KEY, _IDENTITY_KEY, _FIRST_INDEX_KEY = b"hard_state", b"identity", b"first_index"
_KINDS = {int(kind): kind for kind in EntryKind}


def _seal(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return _CRC.pack(zlib.crc32(body)) + body


def _unseal(record: bytes | memoryview, what: str) -> bytes:
    body = bytes(record[_CRC.size :])
    if len(record) < _CRC.size or _CRC.unpack_from(record)[0] != zlib.crc32(body):
        raise JournalCorrupt(
            f"the journal's record of {what} fails its checksum: the disk has changed it. Move the node's data folder"
            " away and start the node again as a new member; its old copy is not to be trusted"
        )
    return body


class LmdbJournal:
    """Implements :class:`zmqlab.replica.journal.Journal` in ``folder``, which is made where it is missing."""

    def __init__(self, folder: Path, *, identity: str, fsync: bool = False, retain_bytes: int = 0) -> None:
        """Open or create.

        Args:
            folder: the node's own data folder.
            identity: who writes this journal; a journal of anyone else is refused.
            fsync: flush every transaction to the disk.
            retain_bytes: how much log to keep behind the newest snapshot.

        Raises:
            JournalMismatch: the journal there is another node's.
            JournalFull: there is no room to create it.
        """
        self._folder = folder
        self._retain_bytes = retain_bytes
        self._fsync = fsync
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._open(identity)
        except (lmdb.Error, OSError) as error:
            raise self._full(error) from error
        self._forget_up_to = self.first_index - 1
        self._retained_bytes = self._size_of_log()

    def _open(self, identity: str) -> None:
        self._identity = identity
        self._env = lmdb.open(
            str(self._folder),
            map_size=MAP_BYTES,
            max_dbs=3,
            sync=self._fsync,
            metasync=self._fsync,
            readahead=False,
            meminit=False,
        )
        with self._env.begin(write=True) as transaction:
            self._entries = self._env.open_db(b"entries", transaction)
            self._snapshots = self._env.open_db(b"snapshot", transaction)
            self._meta = self._env.open_db(b"meta", transaction)
            self._check_identity(transaction, identity)
            first = transaction.get(_FIRST_INDEX_KEY, db=self._meta)
            self.first_index: int = _KEY.unpack(first)[0] if first else 1
            self._last_index = self._find_last_index(transaction)

    def _unmap(self) -> None:
        """Open the environment anew: each page of the file that was touched counts as this process' memory until then,
        and an append touches every page once."""
        self._env.close()
        self._open(self._identity)

    def _check_identity(self, transaction: lmdb.Transaction, identity: str) -> None:
        stored = transaction.get(_IDENTITY_KEY, db=self._meta)
        if stored is None:
            transaction.put(_IDENTITY_KEY, identity.encode(), db=self._meta)
        elif bytes(stored) != identity.encode():
            raise JournalMismatch(
                f"the journal in {self._folder} was written by {bytes(stored).decode()!r}, this node is {identity!r}:"
                " choose another run folder, or move that journal away"
            )

    def _find_last_index(self, transaction: lmdb.Transaction) -> int:
        with transaction.cursor(db=self._entries) as cursor:
            return _KEY.unpack(cursor.key())[0] if cursor.last() else self.first_index - 1

    def _size_of_log(self) -> int:
        with self._env.begin(db=self._entries) as transaction:
            page_bytes = self._env.stat()["psize"]
            stat = transaction.stat(self._entries)
            return int(page_bytes * (stat["leaf_pages"] + stat["overflow_pages"]))

    def _full(self, error: Exception) -> JournalFull:
        free_mib = -1
        with contextlib.suppress(OSError):
            free_mib = shutil.disk_usage(self._folder).free >> 20
        return JournalFull(
            f"the journal in {self._folder} can't be written ({error}); {free_mib} MiB are free on that disk."
            " Make room and start the node again: nothing that was promised is lost"
        )

    @property
    def size_bytes(self) -> int:
        """Bytes that the entries take on disk, about."""
        return self._retained_bytes

    def load(self) -> StoredState:
        """Everything that survived. Raises JournalCorrupt."""
        with self._env.begin() as transaction:
            hard_state = None
            record = transaction.get(_HARD_STATE_KEY, db=self._meta)
            if record is not None:
                hard_state = HardState(*_HARD_STATE.unpack(_unseal(record, "term and vote")))
            snapshot = self._load_snapshot(transaction)
            start = snapshot.index + 1 if snapshot else 1
            entries = self._scan(transaction, start, self._last_index, 1 << 62)
        self._unmap()
        return StoredState(hard_state, snapshot, entries)

    def _load_snapshot(self, transaction: lmdb.Transaction) -> Snapshot | None:
        record = transaction.get(b"snapshot", db=self._snapshots)
        if record is None:
            return None
        body = _unseal(record, "the snapshot")
        index, term, configuration_bytes = _SNAPSHOT.unpack_from(body)
        middle = _SNAPSHOT.size + configuration_bytes
        return Snapshot(index, term, Configuration.decode(body[_SNAPSHOT.size : middle]), body[middle:])

    def _scan(self, transaction: lmdb.Transaction, start: int, end: int, max_bytes: int) -> list[Entry]:
        found: list[Entry] = []
        with transaction.cursor(db=self._entries) as cursor:
            if start > end or not cursor.set_key(_KEY.pack(start)):
                return found
            for key, record in cursor:
                (index,) = _KEY.unpack(key)
                body = _unseal(record, f"entry {index}")
                term, kind = _ENTRY.unpack_from(body)
                found.append(Entry(index, term, _KINDS[kind], body[_ENTRY.size :]))
                max_bytes -= len(body)
                if index >= end or max_bytes <= 0:
                    break
        return found

    def store(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        """One transaction; see the interface. Raises JournalFull, after which the journal is as it was before."""
        try:
            with self._env.begin(write=True) as transaction:
                if hard_state is not None:
                    fields = _HARD_STATE.pack(hard_state.term, hard_state.voted_for, hard_state.commit_index)
                    transaction.put(_HARD_STATE_KEY, _seal(fields), db=self._meta)
                if snapshot is not None:
                    self._replace_log(transaction, snapshot)
                if entries:
                    self._append(transaction, entries)
                if self._forget_up_to >= self.first_index:
                    self._forget_some(transaction)
        except (lmdb.Error, OSError) as error:
            raise self._full(error) from error

    def _append(self, transaction: lmdb.Transaction, entries: list[Entry]) -> None:
        first = entries[0].index
        if first <= self._last_index:
            self._delete_range(transaction, first, self._last_index)
        assert first <= self._last_index + 1, "the log has no gaps"
        written = 0
        for index, term, kind, data in entries:
            record = _seal(_ENTRY.pack(term, kind), data)
            transaction.put(_KEY.pack(index), record, db=self._entries, append=True)
            written += len(record)
        self._last_index = entries[-1].index
        self._retained_bytes += written

    def _delete_range(self, transaction: lmdb.Transaction, start: int, end: int) -> None:
        with transaction.cursor(db=self._entries) as cursor:
            found = cursor.set_range(_KEY.pack(start))
            while found and _KEY.unpack(cursor.key())[0] <= end:
                self._retained_bytes -= len(cursor.value())
                cursor.delete()
                found = bool(cursor.key())
        if end >= self._last_index:
            self._last_index = min(self._last_index, start - 1)

    def _replace_log(self, transaction: lmdb.Transaction, snapshot: Snapshot) -> None:
        """A snapshot from the leader: what it covers is forgotten, and so is everything after it."""
        transaction.drop(self._entries, delete=False)
        self._put_snapshot(transaction, snapshot)
        self._set_first_index(transaction, snapshot.index + 1)
        self._last_index, self._forget_up_to, self._retained_bytes = snapshot.index, snapshot.index, 0

    def _put_snapshot(self, transaction: lmdb.Transaction, snapshot: Snapshot) -> None:
        configuration = snapshot.configuration.encode()
        fixed = _SNAPSHOT.pack(snapshot.index, snapshot.term, len(configuration))
        transaction.put(b"snapshot", _seal(fixed, configuration, snapshot.data), db=self._snapshots)

    def _set_first_index(self, transaction: lmdb.Transaction, index: int) -> None:
        transaction.put(_FIRST_INDEX_KEY, _KEY.pack(index), db=self._meta)
        self.first_index = index

    def store_snapshot(self, snapshot: Snapshot) -> None:
        """Store this node's own snapshot; what lies behind it may be forgotten from now on. Raises JournalFull."""
        try:
            with self._env.begin(write=True) as transaction:
                self._put_snapshot(transaction, snapshot)
            self._unmap()
        except (lmdb.Error, OSError) as error:
            raise self._full(error) from error
        self._forget_up_to = snapshot.index

    def _forget_some(self, transaction: lmdb.Transaction) -> None:
        if self._retained_bytes <= self._retain_bytes:
            return
        end = min(self._forget_up_to, self.first_index + FORGET_AT_ONCE - 1)
        self._delete_range(transaction, self.first_index, end)
        self._set_first_index(transaction, end + 1)

    def read(self, from_index: int, up_to_index: int, max_bytes: int) -> list[Entry]:
        """Entries for a reader, from the oldest kept one at the earliest. Raises JournalCorrupt."""
        with self._env.begin() as transaction:
            start, end = max(from_index, self.first_index), min(up_to_index, self._last_index)
            return self._scan(transaction, start, end, max_bytes)

    def close(self) -> None:
        """Flush and close; after this no method may be called."""
        with contextlib.suppress(lmdb.Error):
            self._env.sync(True)
        self._env.close()
