"""Transactions of LMDB as a journal sees them: of one group, or of all groups of a node at once.

A group writes in a transaction of its own (:class:`Transaction`), or, between the two ends of a :class:`Joint`, in one
that it shares with the other groups of its node (:class:`Part`). A node with many groups so flushes once a turn.

The records are those of :mod:`zmqlab.replica.record_journal`; the file and its checks are
:mod:`~zmqlab.node.lmdb_journal`'s. Failures of LMDB are told as those of a journal
(:mod:`~zmqlab.node.journal_failures`), at the end of the transaction in which they came.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import lmdb

from zmqlab.node.journal_failures import meaning
from zmqlab.node.lmdb_pages import PagesDamaged, PagesForeign

if TYPE_CHECKING:
    from zmqlab.node.lmdb_journal import LmdbStore

_KEY = struct.Struct(">Q")
_SNAPSHOT_KEY = b"snapshot"
_PART_KEY = struct.Struct(">QI")  # generation number
Trees = tuple[Any, ...]
"""LMDB's handles of one group: entries, snapshots and small records."""


def _index(key: bytes | memoryview) -> int:
    """The index that a key of an entry stands for. Raises PagesDamaged."""
    if len(key) != _KEY.size:
        raise PagesDamaged(f"an entry has a key of {len(key)} bytes")
    return int(_KEY.unpack(key)[0])


class Transaction:
    """Implements :class:`zmqlab.replica.record_journal.Writing`. A class, since a generator would cost a turn a
    microsecond more."""

    __slots__ = ("_entries", "_meta", "_number", "_snapshots", "_store", "_transaction")

    def __init__(self, store: LmdbStore, transaction: lmdb.Transaction, number: int) -> None:
        """``number``: of the group."""
        self._store = store
        self._transaction = transaction
        self._number = number
        self._entries, self._snapshots, self._meta = store.trees(number)

    @property
    def transaction(self) -> lmdb.Transaction:
        """LMDB's own."""
        return self._transaction

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self._transaction.commit()
            else:
                self._transaction.abort()
        except (lmdb.Error, OSError) as failure:
            raise meaning(self._store.folder, failure) from failure
        if isinstance(error, lmdb.Error | OSError | PagesDamaged | PagesForeign):
            raise meaning(self._store.folder, error) from error

    def meta(self, name: bytes) -> bytes | None:
        value = self._transaction.get(name, db=self._meta)
        return None if value is None else bytes(value)

    def names(self) -> list[bytes]:
        with self._transaction.cursor(db=self._meta) as cursor:
            return [bytes(name) for name in cursor.iternext(values=False)]

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
            return _index(cursor.key()) if cursor.last() else 0

    def scan(self, first: int, last: int) -> Iterator[tuple[int, bytes | memoryview]]:
        self._store.check_entries(_KEY.pack(first), _KEY.pack(last), self._number)
        with self._transaction.cursor(db=self._entries) as cursor:
            if not cursor.set_key(_KEY.pack(first)):
                return
            for key, record in cursor:
                index = _index(key)
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
        self._store.check_entries(_KEY.pack(first), _KEY.pack(last), self._number)
        with self._transaction.cursor(db=self._entries) as cursor:
            found = cursor.set_range(_KEY.pack(first))
            while found and _index(cursor.key()) <= last:
                deleted_bytes += len(cursor.value())
                cursor.delete()
                found = bool(cursor.key())
        return deleted_bytes

    def delete_all(self) -> None:
        self._transaction.drop(self._entries, delete=False)


class Part(Transaction):
    """What one group writes of a transaction of several; its end and its errors are theirs."""

    __slots__ = ()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Nothing is committed yet."""


class Joint:
    """One transaction of several groups, begun by the first write."""

    def __init__(self, store: LmdbStore) -> None:
        self._store = store
        self._transaction: lmdb.Transaction | None = None

    def begun(self) -> lmdb.Transaction:
        """Raises JournalFull, JournalLost."""
        if self._transaction is None:
            self._store.check()
            self._transaction = self._store.begin(write=True)
        return self._transaction

    def __enter__(self) -> Joint:
        assert not self._store.is_joint, "one at a time"
        self._store.join(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._store.join(None)
        if self._transaction is not None:
            Transaction(self._store, self._transaction, 0).__exit__(kind, error, trace)


class GroupStore:
    """Implements :class:`zmqlab.replica.record_journal.Store` for a further group in the file of a store."""

    def __init__(self, store: LmdbStore, number: int) -> None:
        self._store = store
        self._number = number

    def read(self) -> Transaction:
        return self._store.read(self._number)

    def write(self) -> Transaction:
        return self._store.write(self._number)

    def of_group(self, number: int) -> GroupStore:
        return self._store.of_group(number)

    def together(self) -> Joint:
        return self._store.together()

    def check(self) -> None:
        self._store.check()

    def size_of_entries(self) -> int:
        return self._store.size_of_entries(self._number)

    def release_memory(self) -> None:
        self._store.release_memory()

    def close(self) -> None:
        """The file is the node's."""
