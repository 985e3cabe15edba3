"""One node's disk: sealed records that outlive the process, and what can become of them.

The journal is production's (:mod:`zmqlab.replica.record_journal`); this is the store under it, where production has
LMDB. A transaction is there whole or not at all. What a disk can do to it:

* It may be one of several groups of a node: then it is there for all of them, or for none.
* The process ends before it, in it or after it: ``effect`` is called at each of these points and may end the process
  there. In it, nothing of it is there (LMDB writes a new tree beside the old one and switches last).
* With ``flushes`` (durability "fsync") each transaction is flushed before its write returns. In between, the death of
  the process loses nothing, since the kernel has it; a power cut (:meth:`Disk.lose_power`) loses any suffix of what is
  not flushed. Without (durability "os") there is no flushing, and power cuts are not simulated: nothing is promised.
* The disk is full: no transaction begins.
* It gives back other bytes than were written (:meth:`Disk.flip_a_bit`).

With durability "memory" there is no disk: :class:`VolatileJournal` dies with its process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from zmqlab.errors import JournalFull
from zmqlab.raft import HardState, Snapshot
from zmqlab.raft.messages import Entry
from zmqlab.replica import MemoryJournal
from zmqlab.replica.record_journal import RecordJournal, generation_of
from zmqlab.sim.checkers import Violation

Effect = Callable[[str], None]
Stored = Callable[[HardState | None, list[Entry], Snapshot | None], None]
Part = tuple[int, int]
"""Generation and number."""
Contents = tuple[dict[bytes, bytes], dict[int, bytes], bytes | None, dict[Part, bytes]]
"""Of one group: meta, entries by rising index, snapshot, its parts. Never changed in place: a transaction copies what
it changes."""
EMPTY: Contents = {}, {}, None, {}
UNHARMED = {b"identity", b"life"}
"""The records that are never damaged here, so that each seed draws what it always drew."""


class Disk:
    """Implements :class:`zmqlab.replica.record_journal.Store`; see the module."""

    def __init__(self, flushes: bool, effect: Effect) -> None:
        self.full = False
        self.is_corrupt = False
        """A bit was flipped: from now on a JournalCorrupt is what is expected."""
        self._flushes = flushes
        self._effect = effect
        self._groups: dict[int, Contents] = {0: EMPTY}
        """By group. Never changed in place either."""
        self._unflushed: list[dict[int, Contents]] = []
        """What was there before each transaction that is not flushed, oldest first."""
        self._joint: dict[int, Contents] | None = None
        """What a transaction of several groups has changed so far; None: there is none."""

    def read(self, number: int = 0) -> AbstractContextManager[_Transaction]:
        """See the interface."""
        return nullcontext(_Transaction(self, self._groups.get(number, EMPTY), number))

    def write(self, number: int = 0) -> _Transaction:
        """See the interface."""
        if self._joint is None or not self._joint:
            self._begin()
        return _Transaction(self, (self._joint or self._groups).get(number, EMPTY), number)

    def _begin(self) -> None:
        self._effect("before a write")
        if self.full:
            raise JournalFull("the simulated disk is full")
        if self._joint is not None:
            self._joint.update(self._groups)

    def commit(self, contents: Contents, number: int) -> None:
        """A transaction of one group ends."""
        if self._joint is None:
            self._commit({**self._groups, number: contents})
        else:
            self._joint[number] = contents

    @contextmanager
    def together(self) -> Iterator[None]:
        """See the interface."""
        self._joint = {}
        try:
            yield
            if self._joint:
                self._commit(self._joint)
        finally:
            self._joint = None

    def of_group(self, number: int) -> GroupDisk:
        """See the interface."""
        return GroupDisk(self, number)

    def _commit(self, groups: dict[int, Contents]) -> None:
        self._effect("in a write")
        if self._flushes:
            self._unflushed.append(self._groups)
        self._groups = groups
        if self._flushes:
            self._effect("before a flush")
            self._flush()
        self._effect("after a write")

    def _flush(self) -> None:
        self._unflushed.clear()

    def check(self) -> None:
        """See the interface."""

    def last_index(self, number: int = 0) -> int:
        """Of the stored entries; 0 if there is none."""
        return next(reversed((self._joint or self._groups)[number][1]), 0)

    def size_of_entries(self, number: int = 0) -> int:
        """See the interface."""
        return sum(map(len, self._groups[number][1].values()))

    def release_memory(self) -> None:
        """See the interface."""

    def close(self) -> None:
        """See the interface."""

    # What goes wrong.

    def lose_power(self, rng: random.Random) -> None:
        """Of the transactions that are not flushed, the later ones are gone."""
        if self._unflushed:
            lost = rng.randint(0, len(self._unflushed))
            if lost:
                self._groups = self._unflushed[-lost]
            self._unflushed.clear()

    def flip_a_bit(self, rng: random.Random) -> str:
        """Change one bit of one record of any group; returns which record.

        The parts of a snapshot that never became whole are spared: a node that starts deletes them unread.
        """
        names = [(number, name) for number, contents in self._groups.items() for name in _records_of(contents)]
        if not names:
            return ""
        self.is_corrupt = True
        number, name = rng.choice(names)
        meta, entries, snapshot, parts = self._groups[number]
        meta, entries, parts = dict(meta), dict(entries), dict(parts)
        if isinstance(name, int):
            entries[name] = _flipped(entries[name], rng)
        elif isinstance(name, tuple):
            parts[name] = _flipped(parts[name], rng)
        elif name == b"snapshot":
            assert snapshot is not None
            snapshot = _flipped(snapshot, rng)
        else:
            meta[name] = _flipped(meta[name], rng)
        self._groups = {**self._groups, number: (meta, entries, snapshot, parts)}
        record = name.decode() if isinstance(name, bytes) else f"entry {name}" if isinstance(name, int) else "a part"
        return f"{record} of group {number}" if len(self._groups) > 1 else record


def _records_of(contents: Contents) -> list[bytes | int | Part]:
    """The names of those that a node reads."""
    meta, entries, snapshot, parts = contents
    names: list[bytes | int | Part] = [name for name in meta if name not in UNHARMED]
    names += [b"snapshot"] * (snapshot is not None) + list(entries)
    return names + [part for part in parts if part[0] == generation_of(snapshot)]


def _flipped(record: bytes, rng: random.Random) -> bytes:
    bit = rng.randrange(8 * len(record))
    changed = bytearray(record)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class _Transaction:
    """Implements :class:`zmqlab.replica.record_journal.Writing`. What it changes, it changes in a copy."""

    __slots__ = ("_disk", "_entries", "_meta", "_number", "_parts", "_snapshot")

    def __init__(self, disk: Disk, contents: Contents, number: int) -> None:
        self._disk = disk
        self._number = number
        self._meta, self._entries, self._snapshot, self._parts = contents

    def __enter__(self) -> _Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is None:
            self._disk.commit((self._meta, self._entries, self._snapshot, self._parts), self._number)

    def meta(self, name: bytes) -> bytes | None:
        return self._meta.get(name)

    def names(self) -> Iterable[bytes]:
        return self._meta

    def put_meta(self, name: bytes, value: bytes) -> None:
        self._meta = {**self._meta, name: value}

    def snapshot(self) -> bytes | None:
        return self._snapshot

    def put_snapshot(self, record: bytes) -> None:
        self._snapshot = record

    def part(self, generation: int, number: int) -> bytes | None:
        return self._parts.get((generation, number))

    def put_part(self, generation: int, number: int, record: bytes) -> None:
        self._parts = {**self._parts, (generation, number): record}

    def delete_parts(self, but: int) -> None:
        self._parts = {key: record for key, record in self._parts.items() if key[0] == but}

    def last_index(self) -> int:
        return next(reversed(self._entries), 0)

    def scan(self, first: int, last: int) -> Iterator[tuple[int, bytes | memoryview]]:
        for index in range(first, last + 1):
            if index not in self._entries:
                return
            yield index, self._entries[index]

    def append(self, first: int, records: list[bytes]) -> None:
        self._entries = self._entries | dict(enumerate(records, first))

    def delete(self, first: int, last: int) -> int:
        gone = [record for index, record in self._entries.items() if first <= index <= last]
        self._entries = {index: record for index, record in self._entries.items() if not first <= index <= last}
        return sum(map(len, gone))

    def delete_all(self) -> None:
        self._entries = {}


class GroupDisk:
    """Implements :class:`zmqlab.replica.record_journal.Store` for a further group on a disk."""

    def __init__(self, disk: Disk, number: int) -> None:
        self._disk = disk
        self._number = number

    def read(self) -> AbstractContextManager[_Transaction]:
        return self._disk.read(self._number)

    def write(self) -> _Transaction:
        return self._disk.write(self._number)

    def of_group(self, number: int) -> GroupDisk:
        return GroupDisk(self._disk, number)

    def together(self) -> AbstractContextManager[None]:
        return self._disk.together()

    def last_index(self) -> int:
        return self._disk.last_index(self._number)

    def check(self) -> None:
        """As of a disk."""

    def size_of_entries(self) -> int:
        return self._disk.size_of_entries(self._number)

    def release_memory(self) -> None:
        """As of a disk."""

    def close(self) -> None:
        """As of a disk."""


class DiskJournal(RecordJournal):
    """Production's journal on a simulated disk. ``watch`` is told what is stored and safe."""

    def __init__(
        self,
        disk: Disk | GroupDisk,
        identity: str,
        retain_bytes: int,
        watch: Callable[[int], Stored],
        part_bytes: int,
        number: int = 0,
        life: int = 0,
    ) -> None:
        """``watch``: of a group."""
        super().__init__(disk, identity=identity, retain_bytes=retain_bytes, part_bytes=part_bytes, life=life)
        self._disk = disk
        self._watches = watch
        self._watch = watch(number)
        self._unsaid: list[Callable[[], None]] | None = None
        """What the watches are told when the transaction of several groups ends; None: there is none."""
        self._node = self
        """The journal of group 0."""

    def _of_group(self, number: int) -> DiskJournal:
        disk = self._disk.of_group(number)
        journal = DiskJournal(disk, "", self._retain_bytes, self._watches, self._part_bytes, number, self.life)
        journal._node = self
        return journal

    @contextmanager
    def together(self) -> Iterator[None]:
        self._unsaid = []
        try:
            with super().together():
                yield
            for say in self._unsaid:
                say()
        finally:
            self._unsaid = None

    def store(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        super().store(hard_state, entries, snapshot)
        if entries or snapshot is not None:
            self._look_at_end(entries[-1].index if entries else 0)
        if self._node._unsaid is None:
            self._watch(hard_state, entries, snapshot)
        else:
            self._node._unsaid.append(partial(self._watch, hard_state, entries, snapshot))

    def _look_at_end(self, index: int) -> None:
        """What was written is the end of the log: nothing of an older log may stand behind it. 0: no entry is left."""
        last = self._disk.last_index()
        if last != index:
            raise Violation(f"durability: the stored log ends at {last}, but its last entry was to be {index}")


class VolatileJournal(MemoryJournal):
    """Production's journal of ``durability="memory"``."""

    def __init__(self, retain_bytes: int, effect: Effect, watch: Stored) -> None:
        super().__init__(retain_bytes)
        self._effect = effect
        self._watch = watch

    def store(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        self._effect("before a write")
        super().store(hard_state, entries, snapshot)
        self._watch(hard_state, entries, snapshot)
        self._effect("after a write")

    def store_snapshot(self, snapshot: Snapshot) -> None:
        self._effect("before a snapshot")
        super().store_snapshot(snapshot)
        self._effect("after a snapshot")
