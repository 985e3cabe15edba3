"""The journal on disk: one LMDB environment a node and group.

Three named databases: ``entries`` (index as 8 bytes, big-endian, so that LMDB's order is the log's), ``snapshot`` (one
record, and the parts of a large one) and ``meta`` (hard state, identity, the oldest index). What the records are and
when they are written is in :mod:`zmqlab.replica.record_journal`; each begins with a CRC-32 of the rest, so that a
damaged one is found when it is read and is never served.

LMDB is a copy-on-write B+tree with one writer: a transaction is there whole or not at all, whatever instant the
process dies at, and it needs no recovery. ``durability="os"`` leaves the flushing to the kernel, which survives the
death of every process but not a power cut; ``"fsync"`` flushes each transaction, and since a turn of the loop is one
transaction, that is group commit. A file that is flushed can still be lost with the entry of its folder, which is
flushed apart. So with ``"fsync"`` the store flushes its folder and all folders above it when it has opened its files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import lmdb

from zmqlab.errors import JournalFull, JournalLost, JournalMismatch
from zmqlab.histogram import Histogram
from zmqlab.raft import HardState, Snapshot
from zmqlab.raft.messages import Entry
from zmqlab.replica.record_journal import PART_BYTES, RecordJournal

MAP_BYTES = 1 << 36
"""The most that the file may grow to: address space, not disk. 64 GiB is far above what ``retain_bytes`` allows."""

_KEY = struct.Struct(">Q")
_SNAPSHOT_KEY = b"snapshot"
_PART_KEY = struct.Struct(">QI")  # generation number


class LmdbJournal(RecordJournal):
    """A journal in ``folder``, which is made where it is missing."""

    def __init__(
        self,
        folder: Path,
        *,
        identity: str,
        fsync: bool = False,
        retain_bytes: int = 0,
        part_bytes: int = PART_BYTES,
    ) -> None:
        """Open or create.

        Args:
            folder: the node's own data folder.
            identity: who writes this journal; a journal of anyone else is refused.
            fsync: flush every transaction to the disk.
            retain_bytes: how much log to keep behind the newest snapshot.
            part_bytes: of the parts in which a large snapshot is written.

        Raises:
            JournalMismatch: the journal there is another node's, or in use.
            JournalFull: there is no room to create it.
        """
        store = LmdbStore(folder, fsync=fsync)
        try:
            super().__init__(store, identity=identity, retain_bytes=retain_bytes, part_bytes=part_bytes)
        except JournalMismatch as error:
            store.close()
            raise JournalMismatch(f"{folder}: {error}") from None
        self.write_time = Histogram()
        """Nanoseconds that each :meth:`store` took; the reader may clear it."""

    def store(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        """See the interface."""
        started_ns = time.monotonic_ns()
        super().store(hard_state, entries, snapshot)
        self.write_time.record(time.monotonic_ns() - started_ns)


class LmdbStore:
    """Implements :class:`zmqlab.replica.record_journal.Store`. Every failure to write is a JournalFull.

    LMDB lets several processes write in turns; a journal has one. Two containers may have got the same volume, where no
    port that is taken stops the second one.
    """

    def __init__(self, folder: Path, *, fsync: bool) -> None:
        self._folder = folder
        self._fsync = fsync
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self._full(error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open()
            if fsync:
                _sync_folders(folder)
        except BlockingIOError:
            os.close(self._lock)
            raise JournalMismatch(
                f"{folder} is in use: another node runs with this journal. Give each node a folder, or a volume, of"
                " its own"
            ) from None
        except (lmdb.Error, OSError) as error:
            os.close(self._lock)
            raise self._full(error) from error

    def _open(self) -> None:
        self._env = lmdb.open(
            str(self._folder),
            map_size=MAP_BYTES,
            max_dbs=3,
            sync=self._fsync,
            metasync=self._fsync,
            readahead=False,
            meminit=False,
        )
        self._file = os.open(self._folder / "data.mdb", os.O_RDONLY)
        with self._env.begin(write=True) as transaction:
            self._entries = self._env.open_db(b"entries", transaction)
            self._snapshots = self._env.open_db(b"snapshot", transaction)
            self._meta = self._env.open_db(b"meta", transaction)

    def _full(self, error: Exception) -> JournalFull:
        if isinstance(error, PermissionError):
            return JournalFull(
                f"the journal in {self._folder} can't be written: this user ({os.geteuid()}) may not. Give it the"
                " folder, or name another one with --run-dir"
            )
        free_mib = -1
        with contextlib.suppress(OSError):
            free_mib = shutil.disk_usage(self._folder).free >> 20
        return JournalFull(
            f"the journal in {self._folder} can't be written ({error}); {free_mib} MiB are free on that disk."
            " Make room and start the node again: nothing that was promised is lost"
        )

    def read(self) -> _Transaction:
        """See the interface."""
        return _Transaction(self._env.begin(), self._entries, self._snapshots, self._meta, self._full)

    def write(self) -> _Transaction:
        """See the interface. Raises JournalFull, after which the store is as it was before, and JournalLost."""
        self.check()
        try:
            return _Transaction(self._env.begin(write=True), self._entries, self._snapshots, self._meta, self._full)
        except (lmdb.Error, OSError) as error:
            raise self._full(error) from error

    def check(self) -> None:
        """See the interface: a file that is deleted goes on as long as it is open, and nothing in it outlives that."""
        if not os.fstat(self._file).st_nlink:
            raise JournalLost(
                f"the journal in {self._folder} was deleted while the node ran. The node stops, since nothing that it"
                " stores would stay. Start it again: it comes back as a new member, and gets everything from the others"
            )

    def size_of_entries(self) -> int:
        """See the interface: pages, not records."""
        with self._env.begin() as transaction:
            stat = transaction.stat(self._entries)
            return int(stat["psize"] * (stat["leaf_pages"] + stat["overflow_pages"]))

    def release_memory(self) -> None:
        """Open the environment anew: each page of the file that was touched counts as this process' memory until then,
        and an append touches every page once. Raises JournalFull."""
        self.check()
        try:
            self._env.close()
            os.close(self._file)
            self._open()
        except (lmdb.Error, OSError) as error:
            raise self._full(error) from error

    def close(self) -> None:
        """Flush and close; after this no method may be called."""
        with contextlib.suppress(lmdb.Error):
            self._env.sync(True)
        self._env.close()
        os.close(self._file)
        os.close(self._lock)


def _sync_folders(folder: Path) -> None:
    """Flush the entries of ``folder`` and of all folders above it.

    All of them at each start, and not only new ones: an earlier start may have made them and ended before it flushed
    them. A folder above that this user may not read was not made by this user.

    Raises:
        OSError: ``folder`` itself can't be flushed.
    """
    _sync_folder(folder)
    for above in folder.absolute().parents:
        with contextlib.suppress(OSError):
            _sync_folder(above)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Transaction:
    """Implements :class:`zmqlab.replica.record_journal.Writing`. A class, since a generator would cost a turn a
    microsecond more."""

    __slots__ = ("_entries", "_full", "_meta", "_snapshots", "_transaction")

    def __init__(
        self,
        transaction: lmdb.Transaction,
        entries: lmdb._Database,
        snapshots: lmdb._Database,
        meta: lmdb._Database,
        full: Callable[[Exception], JournalFull],
    ) -> None:
        self._transaction = transaction
        self._entries, self._snapshots, self._meta = entries, snapshots, meta
        self._full = full

    def __enter__(self) -> _Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self._transaction.commit()
            else:
                self._transaction.abort()
        except (lmdb.Error, OSError) as failure:
            raise self._full(failure) from failure
        if isinstance(error, lmdb.Error | OSError):
            raise self._full(error) from error

    def meta(self, name: bytes) -> bytes | None:
        value = self._transaction.get(name, db=self._meta)
        return None if value is None else bytes(value)

    def put_meta(self, name: bytes, value: bytes) -> None:
        self._transaction.put(name, value, db=self._meta)

    def snapshot(self) -> bytes | None:
        value = self._transaction.get(_SNAPSHOT_KEY, db=self._snapshots)
        return None if value is None else bytes(value)

    def put_snapshot(self, record: bytes) -> None:
        self._transaction.put(_SNAPSHOT_KEY, record, db=self._snapshots)

    def part(self, generation: int, number: int) -> bytes | None:
        value = self._transaction.get(_PART_KEY.pack(generation, number), db=self._snapshots)
        return None if value is None else bytes(value)

    def put_part(self, generation: int, number: int, record: bytes) -> None:
        self._transaction.put(_PART_KEY.pack(generation, number), record, db=self._snapshots)

    def delete_parts(self, but: int) -> None:
        with self._transaction.cursor(db=self._snapshots) as cursor:
            found = [key for key in cursor.iternext(values=False) if len(key) == _PART_KEY.size]
        for key in found:
            if _PART_KEY.unpack(key)[0] != but:
                self._transaction.delete(key, db=self._snapshots)

    def last_index(self) -> int:
        with self._transaction.cursor(db=self._entries) as cursor:
            return int(_KEY.unpack(cursor.key())[0]) if cursor.last() else 0

    def scan(self, first: int, last: int) -> Iterator[tuple[int, bytes | memoryview]]:
        with self._transaction.cursor(db=self._entries) as cursor:
            if not cursor.set_key(_KEY.pack(first)):
                return
            for key, record in cursor:
                (index,) = _KEY.unpack(key)
                if index > last:
                    return
                yield index, record

    def append(self, first: int, records: list[bytes]) -> None:
        if len(records) == 1:  # the ordinary case without load; a cursor costs as much as the record
            self._transaction.put(_KEY.pack(first), records[0], db=self._entries, append=True)
            return
        with self._transaction.cursor(db=self._entries) as cursor:
            cursor.putmulti(list(zip(map(_KEY.pack, count(first)), records, strict=False)), append=True)

    def delete(self, first: int, last: int) -> int:
        deleted_bytes = 0
        with self._transaction.cursor(db=self._entries) as cursor:
            found = cursor.set_range(_KEY.pack(first))
            while found and _KEY.unpack(cursor.key())[0] <= last:
                deleted_bytes += len(cursor.value())
                cursor.delete()
                found = bool(cursor.key())
        return deleted_bytes

    def delete_all(self) -> None:
        self._transaction.drop(self._entries, delete=False)
