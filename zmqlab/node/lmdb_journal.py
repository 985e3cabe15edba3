"""The journal on disk: one LMDB environment a node.

Three named databases for each group that the node holds, those of group 0 without a number: ``entries`` (index as 8
bytes, big-endian, so that LMDB's order is the log's), ``snapshot`` (one record, and the parts of a large one) and
``meta`` (hard state, identity, the oldest index). What the records are and when they are written is in
:mod:`zmqlab.replica.record_journal`; each begins with a CRC-32 of the rest, so that a damaged one is found when it is
read and is never served. What lies between the records is checked by :mod:`zmqlab.node.lmdb_pages` before LMDB maps the
file, because LMDB trusts it. Transactions are in :mod:`zmqlab.node.lmdb_transactions`.

LMDB is a copy-on-write B+tree with one writer: a transaction is there whole or not at all, whatever instant the
process dies at, and it needs no recovery. ``durability="os"`` leaves the flushing to the kernel, which survives the
death of every process but not a power cut; ``"fsync"`` flushes each transaction, and since a turn of the loop is one
transaction, that is group commit. A file that is flushed can still be lost with the entry of its folder, which is
flushed apart. So with ``"fsync"`` the store flushes its folder and all folders above it when it has opened its files.

Failures are told apart in :mod:`zmqlab.node.journal_failures`.

*The file under the node.* The file is mapped, and the process dies where it reads a part that was cut off. So before
each transaction, and with each snapshot that the node publishes, the store looks whether its file is there, the same,
and no shorter than it was. Between two looks a file can still be cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import resource
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb
import psutil

from zmqlab.errors import JournalDenied, JournalMismatch, NodeError
from zmqlab.histogram import Histogram
from zmqlab.node.bad_disk import BadStore
from zmqlab.node.journal_failures import cut_off, deleted, meaning
from zmqlab.node.lmdb_pages import PagesDamaged, PagesForeign, check_file, check_range
from zmqlab.node.lmdb_transactions import GroupStore, Joint, Part, Transaction, Trees
from zmqlab.raft import HardState, Snapshot
from zmqlab.raft.messages import Entry
from zmqlab.replica.record_journal import PART_BYTES, RecordJournal
from zmqlab.settings import MAX_SHARDS

MAP_BYTES = 1 << 36
"""The most that the file may grow to: address space, not disk. 64 GiB is far above what ``retain_bytes`` allows."""
MAP_BYTES_MIN = 1 << 26
"""Room for two snapshots of 100,000 open orders and the log between them, beside what the file already takes."""
MAP_SHARE = 2
"""Where addresses are limited (``ulimit -v``) the map takes this part of those that are left: one half. The rest is for
the books, and for the stacks of libzmq's threads."""
RETAIN_SHARE = 4
"""Of a limited map so much may be old log: one quarter. Snapshots and free pages take the rest."""

_TREES = (b"entries", b"snapshot", b"meta")
_ALL_TREES = {*_TREES, *(b"%s.%d" % (name, number) for name in _TREES for number in range(1, MAX_SHARDS))}
"""Of as many groups as there may be: a node that was started with too few says so itself."""

log = logging.getLogger("zmqlab.node")


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
        groups_max: int = 1,
    ) -> None:
        """Open or create.

        Args:
            folder: the node's own data folder.
            identity: who writes this journal; a journal of anyone else is refused.
            fsync: flush every transaction to the disk.
            retain_bytes: how much log to keep behind the newest snapshot.
            part_bytes: of the parts in which a large snapshot is written.
            groups_max: no group has this number, or a larger one.

        Raises:
            JournalMismatch: the journal there is another node's, or in use.
            JournalCorrupt: it is damaged, or can't be reached.
            JournalFull: there is no room to create it.
            NodeError: there are too few addresses to map it.
        """
        store = LmdbStore(folder, fsync=fsync, groups_max=groups_max)
        if store.map_bytes < MAP_BYTES:
            retain_bytes = min(retain_bytes, store.map_bytes // RETAIN_SHARE)
        try:
            super().__init__(store, identity=identity, retain_bytes=retain_bytes, part_bytes=part_bytes)
        except NodeError as error:
            store.close()
            raise type(error)(f"{folder}: {error}") from None
        self._disk = store
        self.write_time = Histogram()
        """Nanoseconds that each :meth:`store` took; the reader may clear it."""

    def store(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        """See the interface."""
        started_ns = time.monotonic_ns()
        super().store(hard_state, entries, snapshot)
        if not self._disk.is_joint:  # else it is a part of one
            self.write_time.record(time.monotonic_ns() - started_ns)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """See the interface."""
        started_ns = time.monotonic_ns()
        with super().together():
            yield
        self.write_time.record(time.monotonic_ns() - started_ns)

    def damage(self, write_ms: float, is_full: bool) -> None:
        """From now on the disk is as slow as this, or full (:mod:`~zmqlab.node.bad_disk`); 0 and False: it is well."""
        self._store = BadStore(self._disk, write_ms, is_full) if write_ms or is_full else self._disk


class LmdbStore:
    """Implements :class:`zmqlab.replica.record_journal.Store`.

    LMDB lets several processes write in turns; a journal has one. Two containers may have got the same volume, where no
    port that is taken stops the second one.
    """

    def __init__(self, folder: Path, *, fsync: bool, groups_max: int = 1) -> None:
        """Open or create. Raises as :class:`LmdbJournal` does."""
        self.folder = folder = folder.absolute()
        self._fsync = fsync
        self._groups_max = groups_max
        self._trees: dict[int, Trees] = {0: ()}
        """By group."""
        self._joint: Joint | None = None
        """The transaction of all groups, while there is one."""
        self._lock = self._take_folder()
        try:
            self._check_pages()
            self.map_bytes = _map_bytes(self._size())
            """How large the file may grow."""
            self._open()
            if fsync:
                _sync_folders(folder)
        except (PagesDamaged, PagesForeign, lmdb.Error, OSError) as error:
            os.close(self._lock)
            raise meaning(self.folder, error) from error
        except NodeError:
            os.close(self._lock)
            raise

    def _take_folder(self) -> int:
        """The descriptor of the file whose lock says that this process has the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_places()
            lock = os.open(self.folder / "in-use", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise meaning(self.folder, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if not isinstance(error, BlockingIOError):
                raise meaning(self.folder, error) from error
            raise JournalMismatch(
                f"{self.folder} is in use: another node runs with this journal. Give each node a folder, or a volume,"
                " of its own"
            ) from None
        return lock

    def _check_places(self) -> None:
        """What is no file would be opened for ever, as a pipe is. Raises JournalDenied, OSError."""
        for name in ("in-use", "data.mdb", "lock.mdb"):
            path = self.folder / name
            if path.exists() and not stat.S_ISREG(path.stat().st_mode):
                raise JournalDenied(f"{path} is no file, and the journal needs one there. Move it away")

    def _size(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "data.mdb").stat().st_size
        return 0

    def _check_pages(self) -> None:
        try:
            descriptor = os.open(self.folder / "data.mdb", os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            check_file(descriptor, _ALL_TREES)
        finally:
            os.close(descriptor)

    def _open(self) -> None:
        self._env = lmdb.open(
            os.fsencode(self.folder),  # it encodes a text strictly, and a path may hold any byte
            map_size=self.map_bytes,
            max_dbs=len(_TREES) * self._groups_max,
            sync=self._fsync,
            metasync=self._fsync,
            readahead=False,
            meminit=False,
        )
        self._path = str(self.folder / "data.mdb")
        self._file = os.open(self._path, os.O_RDONLY)
        self._seen = os.fstat(self._file)
        """The file as it was last seen."""
        with self._env.begin(write=True) as transaction:
            for number in self._trees:
                self._open_trees(number, transaction)

    def _open_trees(self, number: int, transaction: lmdb.Transaction) -> None:
        self._trees[number] = tuple(self._env.open_db(_tree(name, number), transaction) for name in _TREES)

    def read(self, number: int = 0) -> Transaction:
        """See the interface. Raises JournalLost."""
        self.check()
        return Transaction(self, self.begin(write=False), number)

    def write(self, number: int = 0) -> Transaction:
        """See the interface. Raises JournalFull, after which the store is as it was before, and JournalLost."""
        if self._joint is not None:
            return Part(self, self._joint.begun(), number)
        self.check()
        return Transaction(self, self.begin(write=True), number)

    def begin(self, write: bool) -> lmdb.Transaction:
        """A transaction of LMDB. Raises JournalFull, JournalLost."""
        try:
            return self._env.begin(write=write)
        except (lmdb.Error, OSError) as error:
            raise meaning(self.folder, error) from error

    def of_group(self, number: int) -> GroupStore:
        """See the interface. Raises JournalFull, JournalLost."""
        assert 0 < number < self._groups_max, number
        if number not in self._trees:
            with self.write() as view:
                self._open_trees(number, view.transaction)
        return GroupStore(self, number)

    def trees(self, number: int) -> Trees:
        """Of a group: its entries, snapshots and small records."""
        return self._trees[number]

    @property
    def is_joint(self) -> bool:
        """Whether the writes of all groups are one transaction now."""
        return self._joint is not None

    def together(self) -> Joint:
        """See the interface."""
        return Joint(self)

    def join(self, joint: Joint | None) -> None:
        """Writes are of this transaction from now on; None: each is one of its own."""
        self._joint = joint

    def check_entries(self, first: bytes, last: bytes, number: int) -> None:
        """What LMDB reads on its way to the entries between two keys. Raises PagesDamaged, PagesForeign."""
        check_range(self._file, _tree(b"entries", number), first, last)

    def check(self) -> None:
        """See the interface: a file that is deleted goes on as long as it is open, and nothing in it outlives that."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            raise deleted(self.folder) from None
        except OSError:
            now = os.fstat(self._file)
        if (now.st_ino, now.st_dev) != (self._seen.st_ino, self._seen.st_dev):
            raise deleted(self.folder)
        if now.st_size < self._seen.st_size:
            raise cut_off(self.folder, self._seen.st_size, now.st_size)
        self._seen = now

    def size_of_entries(self, number: int = 0) -> int:
        """See the interface: pages, not records."""
        with self._env.begin() as transaction:
            stat = transaction.stat(self._trees[number][0])
            return int(stat["psize"] * (stat["leaf_pages"] + stat["overflow_pages"]))

    def release_memory(self) -> None:
        """Open the environment anew: each page of the file that was touched counts as this process' memory until then,
        and an append touches every page once. Raises JournalFull, JournalLost."""
        self.check()
        seen, held, self._file = self._seen, self._file, -1
        try:
            self._env.close()
            self._open()
        except (lmdb.Error, OSError) as error:
            raise meaning(self.folder, error) from error
        finally:
            os.close(held)  # only now: a new file would get the number of the old one
        self._seen = seen
        self.check()  # LMDB makes a new file where the old one was deleted meanwhile

    def close(self) -> None:
        """Flush and close; after this no method may be called."""
        with contextlib.suppress(lmdb.Error):
            self._env.sync(True)
        self._env.close()
        if self._file >= 0:  # else it could not be opened anew
            os.close(self._file)
        os.close(self._lock)


def _tree(name: bytes, number: int) -> bytes:
    """What a tree of a group is called."""
    return b"%s.%d" % (name, number) if number else name


def _map_bytes(file_bytes: int) -> int:
    """How large the map may be: smaller where the addresses of this process are limited. Raises NodeError."""
    limit = int(resource.getrlimit(resource.RLIMIT_AS)[0])
    if limit == resource.RLIM_INFINITY:
        return MAP_BYTES
    left: int = max(0, limit - psutil.Process().memory_info().vms)
    size = min(MAP_BYTES, left // MAP_SHARE >> 20 << 20)
    if size < MAP_BYTES_MIN + file_bytes:
        raise NodeError(
            f"the journal takes {file_bytes >> 20} MiB and needs addresses for {MAP_BYTES_MIN + file_bytes >> 20} MiB,"
            f" and {left >> 20} MiB are left to this process, half of them for the journal: raise its limit (ulimit -v)"
        )
    if size < MAP_BYTES:
        log.warning("addresses are limited (ulimit -v): the journal may grow to %d MiB", size >> 20)
    return size


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
