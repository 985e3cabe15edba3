"""A journal of sealed records over any store that has transactions.

This is the logic of the journal on disk: which records a store call writes, how a conflict drops the tail, when old
entries are forgotten, what is loaded. Where the records lie is the business of a :class:`Store`: LMDB in
:mod:`zmqlab.node.lmdb_journal`, a simulated disk with power cuts and flipped bits in :mod:`zmqlab.sim.disk`. So the
simulator runs the journal that production runs.

A store keeps three things: entries (by their index), one snapshot, and a few small records by name (``meta``). All that
is done in one ``with store.write()`` is there whole or not at all afterwards.

A large snapshot is written ahead, in *parts*, while it is made or received (:meth:`RecordJournal.stage_snapshot`), so
that no single transaction is large. Its record comes last, with what is left, and names the *generation* of its parts.
Until then the snapshot before it counts. The parts of any other generation are deleted when the record is written, and
when the journal is opened: a process may have died in between.

Entries behind the newest snapshot are kept while they fit ``retain_bytes``, then forgotten a few at a time.

Each record is sealed (:mod:`~zmqlab.replica.sealed_records`).

*Groups.* The journal of a further group has a store of its own (:meth:`Store.of_group`) in the same file, without
identity and life, which are the node's. The stores share a transaction (:meth:`Store.together`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from zmqlab.errors import JournalCorrupt, JournalMismatch
from zmqlab.raft import Configuration, HardState, Snapshot
from zmqlab.raft.messages import Entry
from zmqlab.replica.journal import Hosted, Journal, Origin, StoredState
from zmqlab.replica.sealed_records import (
    CHECKSUM_BYTES,
    NEW_MEMBER,
    SNAPSHOT_RECORD,
    seal,
    seal_entry,
    seal_hard_state,
    seal_snapshot,
    unseal,
    unseal_entry,
    unseal_hard_state,
)

PART_BYTES = 262_144
"""Of a part of a snapshot: writing one takes some 0.5 ms."""
FORGET_AT_ONCE = 512
"""Old entries that one transaction deletes, at most: some 0.3 ms, and as long again to check their pages."""

_INDEX = struct.Struct(">Q")
_HOSTED_RECORD = struct.Struct("<HHH")  # shards replication_factor group_count, groups as u16, founders with roster
_DRAWN_BYTES = CHECKSUM_BYTES + _INDEX.size
"""Of an origin that is only an identity yet: it is not decided what else the node is."""
_HARD_STATE, _IDENTITY, _FIRST_INDEX, _ORIGIN, _LIFE = b"hard_state", b"identity", b"first_index", b"origin", b"life"
_HOSTED = b"shards"
_NAMES = {_HARD_STATE, _IDENTITY, _FIRST_INDEX, _ORIGIN, _LIFE, _HOSTED}
_FORMAT = 2
"""Of the records, in the byte before the identity: 2 since snapshots have parts. Older journals have no such byte."""
_FORMATS = 0x20
"""Where no format has come yet: an identity begins with a character that can be printed."""
_WHO = "who this node is"


class Reading(Protocol):
    """One consistent view of a store."""

    def meta(self, name: bytes) -> bytes | None:
        """A small record; None if there is none."""
        ...

    def names(self) -> Iterable[bytes]:
        """The names of all small records."""
        ...

    def snapshot(self) -> bytes | None:
        """The record of the snapshot."""
        ...

    def part(self, generation: int, number: int) -> bytes | None:
        """The record of a part of a snapshot; parts count from 0."""
        ...

    def last_index(self) -> int:
        """The index of the last entry; 0 without entries."""
        ...

    def scan(self, first: int, last: int) -> Iterator[tuple[int, bytes | memoryview]]:
        """``(index, record)`` of the entries from ``first``, which must be there, to ``last``."""
        ...


class Writing(Reading, Protocol):
    """A transaction: nothing of it is there before it ends, and all of it afterwards, unless it ends by an error."""

    def put_meta(self, name: bytes, value: bytes) -> None: ...

    def put_snapshot(self, record: bytes) -> None: ...

    def put_part(self, generation: int, number: int, record: bytes) -> None: ...

    def delete_parts(self, but: int) -> None:
        """Remove all parts but those of one generation."""
        ...

    def append(self, first: int, records: list[bytes]) -> None:
        """Entries from index ``first`` on, behind all others."""
        ...

    def delete(self, first: int, last: int) -> int:
        """Remove entries; returns how many bytes their records had."""
        ...

    def delete_all(self) -> None:
        """Remove all entries."""
        ...


class Store(Protocol):
    """Where records lie."""

    def read(self) -> AbstractContextManager[Reading]:
        """Look at what is stored."""
        ...

    def write(self) -> AbstractContextManager[Writing]:
        """Begin a transaction, the only one at a time. Leaving it raises JournalFull where there is no room."""
        ...

    def check(self) -> None:
        """Raise JournalLost if what is stored will not stay."""
        ...

    def of_group(self, number: int) -> Store:
        """The store of another group in the same file."""
        ...

    def together(self) -> AbstractContextManager[object]:
        """Until it ends, the writes of all stores of this file are one transaction, begun by the first of them."""
        ...

    def size_of_entries(self) -> int: ...

    def release_memory(self) -> None:
        """Give back memory: much was read or written just now, and it is not needed again soon."""
        ...

    def close(self) -> None: ...


class _Staged:
    """A snapshot of which parts are written ahead."""

    def __init__(self, index: int, term: int, generation: int) -> None:
        self.place = index, term
        self.generation = generation
        self.parts = 0
        self.rest = bytearray()
        """What is not written yet; shorter than a part."""
        self.size = 0
        """Of the parts and the rest."""


class RecordJournal:
    """Implements :class:`zmqlab.replica.journal.Journal` over a store."""

    def __init__(
        self, store: Store, *, identity: str, retain_bytes: int = 0, part_bytes: int = PART_BYTES, life: int = 0
    ) -> None:
        """Take over what ``store`` holds.

        Args:
            store: open, and used by this journal alone.
            identity: the name of the node that writes this journal; a journal of another name is refused.
            retain_bytes: how much log to keep behind the newest snapshot.
            part_bytes: of the parts in which a large snapshot is written.
            life: of the node, where this is the journal of a further group; 0: it is the node's own.

        Raises:
            JournalMismatch: the journal there is another node's.
            JournalCorrupt: another version of zmqlab has written it, one of its records that are read here fails its
                check, or there are strange records.
            JournalFull: there is no room.
        """
        self._store: Store = store
        self._retain_bytes = self._node_retain_bytes = retain_bytes
        self._part_bytes = part_bytes
        self._staged: _Staged | None = None
        self._groups: dict[int, RecordJournal] = {}
        with store.write() as transaction:
            if not life:
                _check_identity(transaction, identity)
            self.life: int = life or _begin_life(transaction)
            _check_names(transaction)
            first = transaction.meta(_FIRST_INDEX)
            self.first_index: int = _INDEX.unpack(unseal(first, "the oldest index"))[0] if first else 1
            self._last_index = transaction.last_index() or self.first_index - 1
            self._generation = generation_of(transaction.snapshot())
            """Of the parts of the stored snapshot."""
            transaction.delete_parts(but=self._generation)
        self._forget_up_to = self.first_index - 1
        self._retained_bytes = store.size_of_entries()

    @property
    def size_bytes(self) -> int:
        """Bytes that the entries take on disk, about."""
        return self._retained_bytes

    @property
    def is_new(self) -> bool:
        """Whether this is the node's first start."""
        with self._store.read() as view:
            record = view.meta(_ORIGIN)
            return (record is None or len(record) == _DRAWN_BYTES) and view.meta(_HOSTED) is None

    def draw(self, new: int) -> int:
        """The identity that this node got when it first asked for one. Raises JournalCorrupt, JournalFull."""
        with self._store.write() as transaction:
            record = transaction.meta(_ORIGIN)
            if record is None:
                transaction.put_meta(_ORIGIN, seal(_INDEX.pack(new)))
                return new
        return int(_INDEX.unpack_from(unseal(record, _WHO))[0])

    def origin(self, new: Origin) -> Origin:
        """What this node has been since its first start; ``new`` if this is it. Raises JournalCorrupt, JournalFull."""
        with self._store.write() as transaction:
            record = transaction.meta(_ORIGIN)
            if record is None or len(record) == _DRAWN_BYTES:
                transaction.put_meta(_ORIGIN, seal(_INDEX.pack(new.node_id), new.configuration.encode()))
                return new
        body = unseal(record, _WHO)
        return Origin(_INDEX.unpack_from(body)[0], Configuration.decode(body[_INDEX.size :]))

    def hosted(self, new: Hosted | None) -> Hosted | None:
        """See the interface. Raises JournalCorrupt, JournalFull."""
        with self._store.read() as view:
            record = view.meta(_HOSTED)
        if record is not None:
            new = _hosted(unseal(record, "the groups of this node"))
            self._share(new)
        elif new is not None:
            self.host(new)
        return new

    def host(self, hosted: Hosted) -> None:
        """See the interface. Raises JournalFull."""
        fixed = _HOSTED_RECORD.pack(hosted.shards, hosted.replication_factor, len(hosted.groups))
        founders = replace(hosted.founders, roster=hosted.roster)
        record = seal(fixed, struct.pack(f"<{len(hosted.groups)}H", *hosted.groups), founders.encode())
        with self._store.write() as writing:
            writing.put_meta(_HOSTED, record)
        self._share(hosted)

    def _share(self, hosted: Hosted) -> None:
        """All groups share what may be kept behind snapshots."""
        for each in {self, *self._groups.values()}:
            each._retain_bytes = self._node_retain_bytes // max(1, len(hosted.groups))

    def group(self, number: int) -> Journal:
        """See the interface. Raises JournalCorrupt, JournalFull."""
        if number not in self._groups:
            self._groups[number] = self._of_group(number) if number else self
        return self._groups[number]

    def _of_group(self, number: int) -> RecordJournal:
        """Open the journal of a further group."""
        store, sizes = self._store.of_group(number), (self._retain_bytes, self._part_bytes)
        return RecordJournal(store, identity="", life=self.life, retain_bytes=sizes[0], part_bytes=sizes[1])

    def together(self) -> AbstractContextManager[object]:
        """See the interface."""
        return self._store.together()

    def check(self) -> None:
        """Raise JournalLost if what is stored will not stay. :meth:`store` looks by itself."""
        self._store.check()

    def load(self) -> StoredState:
        """Everything that survived. Raises JournalCorrupt."""
        with self._store.read() as view:
            record = view.meta(_HARD_STATE)
            hard_state = None if record is None else unseal_hard_state(record)
            record = view.snapshot()
            snapshot = None if record is None else _snapshot(view, record)
            start = snapshot.index + 1 if snapshot else 1
            entries = _entries(view, start, self._last_index, 1 << 62)
        self._store.release_memory()
        return StoredState(hard_state, snapshot, entries)

    def store(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        """One transaction; see the interface. Raises JournalFull, after which this object is of no more use."""
        with self._store.write() as transaction:
            if hard_state is not None:
                transaction.put_meta(_HARD_STATE, seal_hard_state(hard_state))
            if snapshot is not None:
                self._replace_log(transaction, snapshot)
            if entries:
                self._append(transaction, entries)
            if self._forget_up_to >= self.first_index:
                self._forget_some(transaction)

    def _append(self, transaction: Writing, entries: list[Entry]) -> None:
        first = entries[0].index
        if first <= self._last_index:
            self._retained_bytes -= transaction.delete(first, self._last_index)
            self._last_index = first - 1
        assert first == self._last_index + 1, "the log has no gaps"
        records = [seal_entry(term, kind, data) for _, term, kind, data in entries]
        transaction.append(first, records)
        self._last_index = entries[-1].index
        self._retained_bytes += sum(map(len, records))

    def _replace_log(self, transaction: Writing, snapshot: Snapshot) -> None:
        """A snapshot from the leader: what it covers is forgotten, and so is everything after it."""
        transaction.delete_all()
        self._put_snapshot(transaction, snapshot)
        self._set_first_index(transaction, snapshot.index + 1)
        self._last_index, self._forget_up_to, self._retained_bytes = snapshot.index, snapshot.index, 0

    def _set_first_index(self, transaction: Writing, index: int) -> None:
        transaction.put_meta(_FIRST_INDEX, seal(_INDEX.pack(index)))
        self.first_index = index

    def store_snapshot(self, snapshot: Snapshot) -> None:
        """Store this node's own snapshot; what lies behind it may be forgotten from now on. Raises JournalFull."""
        with self._store.write() as transaction:
            self._put_snapshot(transaction, snapshot)
        self._store.release_memory()
        self._forget_up_to = snapshot.index

    def stage_snapshot(self, index: int, term: int, data: bytes) -> None:
        """More bytes of a snapshot that may be stored later; see the interface. Raises JournalFull."""
        staged = self._staged
        if staged is None or staged.place != (index, term) or not data:
            staged = self._staged = _Staged(index, term, self._generation + 1)
        staged.rest += data
        staged.size += len(data)
        if len(staged.rest) >= self._part_bytes:
            with self._store.write() as transaction:
                if not staged.parts:
                    transaction.delete_parts(but=self._generation)
                transaction.put_part(staged.generation, staged.parts, seal(staged.rest))
            staged.parts += 1
            staged.rest = bytearray()

    def _put_snapshot(self, transaction: Writing, snapshot: Snapshot) -> None:
        """Write the record of a snapshot, whose parts are there if all of it was staged."""
        staged, self._staged = self._staged, None
        if staged is not None and staged.place == (snapshot.index, snapshot.term) and staged.size == len(snapshot.data):
            generation, parts, rest = staged.generation, staged.parts, bytes(staged.rest)
        else:
            generation, parts, rest = self._generation + 1, 0, snapshot.data
        self._generation = generation
        transaction.delete_parts(but=generation if parts else 0)
        transaction.put_snapshot(seal_snapshot(replace(snapshot, data=rest), generation, parts))

    def _forget_some(self, transaction: Writing) -> None:
        if self._retained_bytes <= self._retain_bytes:
            return
        end = min(self._forget_up_to, self.first_index + FORGET_AT_ONCE - 1)
        self._retained_bytes -= transaction.delete(self.first_index, end)
        self._set_first_index(transaction, end + 1)

    def read(self, from_index: int, up_to_index: int, max_bytes: int) -> list[Entry]:
        """Entries for a reader, from the oldest kept one at the earliest. Raises JournalCorrupt."""
        with self._store.read() as view:
            start, end = max(from_index, self.first_index), min(up_to_index, self._last_index)
            return _entries(view, start, end, max_bytes)

    def close(self) -> None:
        """Flush and close; after this no method may be called."""
        self._store.close()


def _hosted(body: bytes) -> Hosted:
    shards, copies, count = _HOSTED_RECORD.unpack_from(body)
    groups = struct.unpack_from(f"<{count}H", body, _HOSTED_RECORD.size)
    founders = Configuration.decode(body[_HOSTED_RECORD.size + 2 * count :])
    return Hosted(shards, copies, groups, replace(founders, roster=b""), founders.roster)


def _check_names(view: Reading) -> None:
    """A record whose name was changed would be missing, and a vote would be forgotten."""
    strange = set(view.names()) - _NAMES
    if strange:
        raise JournalCorrupt(f"the journal has a record {min(strange)!r} that nothing here writes. {NEW_MEMBER}")


def _check_identity(transaction: Writing, identity: str) -> None:
    stored = transaction.meta(_IDENTITY)
    if stored is None:
        transaction.put_meta(_IDENTITY, seal(bytes([_FORMAT]), identity.encode()))
    else:
        body = identity.encode() if stored == identity.encode() else unseal(stored, "whose it is")
        found = body[0] if body and body[0] < _FORMATS else 0  # before format 2 there was no such byte
        if found != _FORMAT:
            age = "an older" if found < _FORMAT else "a newer"
            raise JournalCorrupt(
                f"{age} version of zmqlab has written this journal. Start the node with that version, or give the"
                f" journal up. {NEW_MEMBER}"
            )
        written_by = body[1:].decode()
        if written_by != identity:
            raise JournalMismatch(
                f"this journal was written by {written_by!r}, this node is {identity!r}:"
                " choose another run folder, or move that journal away"
            )


def _begin_life(transaction: Writing) -> int:
    record = transaction.meta(_LIFE)
    life = 1 if record is None else _INDEX.unpack(unseal(record, "how often it was opened"))[0] + 1
    transaction.put_meta(_LIFE, seal(_INDEX.pack(life)))
    return int(life)


def _entries(view: Reading, start: int, end: int, max_bytes: int) -> list[Entry]:
    """At least one entry if there is one, then as many as ``max_bytes`` allow. Raises JournalCorrupt."""
    found: list[Entry] = []
    if start > end:
        return found
    for index, record in view.scan(start, end):
        if index != start + len(found):
            break
        found.append(unseal_entry(index, record))
        max_bytes -= len(record)
        if max_bytes <= 0:
            return found
    if len(found) <= end - start:
        raise JournalCorrupt(f"the journal's entry {start + len(found)} is missing. {NEW_MEMBER}")
    return found


def generation_of(record: bytes | None) -> int:
    """The generation of the parts of a stored snapshot, by its record; 0 if there is none. Raises JournalCorrupt."""
    return 0 if record is None else int(SNAPSHOT_RECORD.unpack_from(unseal(record, "the snapshot"))[3])


def _snapshot(view: Reading, record: bytes) -> Snapshot:
    """The stored snapshot with all its parts. Raises JournalCorrupt."""
    body = unseal(record, "the snapshot")
    index, term, configuration_bytes, generation, parts = SNAPSHOT_RECORD.unpack_from(body)
    middle = SNAPSHOT_RECORD.size + configuration_bytes
    data = [unseal(view.part(generation, number) or b"", "a part of the snapshot") for number in range(parts)]
    configuration = Configuration.decode(body[SNAPSHOT_RECORD.size : middle])
    return Snapshot(index, term, configuration, b"".join([*data, body[middle:]]))
