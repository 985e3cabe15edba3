"""Both journals keep the same promises: what was stored is there, a conflict drops the tail, a reader sees no gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from zmqlab.errors import JournalCorrupt, JournalMismatch
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.raft import Configuration, HardState, Snapshot
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica.journal import Journal, MemoryJournal
from zmqlab.replica.record_journal import FORGET_AT_ONCE
from zmqlab.replica.sealed_records import seal

THREE = Configuration((1, 2, 3))


def entries(first: int, last: int, term: int = 1, size: int = 10) -> list[Entry]:
    return [Entry(index, term, EntryKind.DATA, b"%d" % index + bytes(size)) for index in range(first, last + 1)]


@pytest.fixture(params=["lmdb", "memory"])
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Journal]]:
    """A function that gives the journal; closed and opened again at each further call, where it is on disk."""
    opened: list[Journal] = []

    def make() -> Journal:
        if request.param == "memory":
            if not opened:
                opened.append(MemoryJournal(retain_bytes=2_000))
            return opened[-1]
        if opened:
            opened[-1].close()
        opened.append(LmdbJournal(tmp_path / "journal", identity="me", retain_bytes=2_000))
        return opened[-1]

    yield make
    opened[-1].close()


def test_an_empty_journal_says_so(open_journal: Callable[[], Journal]) -> None:
    stored = open_journal().load()
    assert (stored.hard_state, stored.snapshot, stored.entries) == (None, None, [])


def test_what_was_stored_is_there_after_a_restart(open_journal: Callable[[], Journal]) -> None:
    open_journal().store(HardState(3, 2, 0), entries(1, 5), None)
    stored = open_journal().load()
    assert stored.hard_state == HardState(3, 2, 0)
    assert stored.entries == entries(1, 5)


def test_the_life_of_a_node_rises_from_start_to_start(tmp_path: Path) -> None:
    for life in (1, 2, 3):
        journal = LmdbJournal(tmp_path, identity="me")
        assert journal.life == life
        journal.close()


def test_a_conflict_drops_the_whole_tail(open_journal: Callable[[], Journal]) -> None:
    open_journal().store(None, entries(1, 9), None)
    open_journal().store(None, entries(4, 5, term=2), None)
    assert open_journal().load().entries == entries(1, 3) + entries(4, 5, term=2)


def test_entries_behind_a_snapshot_are_not_loaded_but_can_be_read(open_journal: Callable[[], Journal]) -> None:
    journal = open_journal()
    journal.store(None, entries(1, 9), None)
    journal.store_snapshot(Snapshot(6, 1, THREE, b"state"))
    stored = open_journal().load()
    assert stored.snapshot == Snapshot(6, 1, THREE, b"state")
    assert stored.entries == entries(7, 9)
    assert open_journal().read(1, 9, 1 << 20) == entries(1, 9)


def test_a_received_snapshot_replaces_the_log(open_journal: Callable[[], Journal]) -> None:
    open_journal().store(None, entries(1, 9), None)
    open_journal().store(None, [], Snapshot(20, 2, THREE, b"theirs"))
    open_journal().store(None, entries(21, 22, term=2), None)
    journal = open_journal()
    assert journal.load().entries == entries(21, 22, term=2)
    assert journal.first_index == 21
    assert journal.read(1, 30, 1 << 20) == entries(21, 22, term=2)


def test_a_reader_gets_at_least_one_entry_and_stops_at_the_bound(open_journal: Callable[[], Journal]) -> None:
    journal = open_journal()
    journal.store(None, entries(1, 9, size=100), None)
    assert journal.read(2, 9, 1) == entries(2, 2, size=100)
    assert len(journal.read(2, 9, 250)) == 3
    assert journal.read(2, 3, 1 << 20) == entries(2, 3, size=100)


def test_old_entries_are_forgotten_once_they_are_too_many(open_journal: Callable[[], Journal]) -> None:
    journal = open_journal()
    journal.store(None, entries(1, 2_000), None)
    journal.store_snapshot(Snapshot(1_990, 1, THREE, b""))
    for index in range(2_001, 2_001 + 2_000 // FORGET_AT_ONCE + 2):
        journal.store(None, entries(index, index), None)
    assert 1_000 < journal.first_index <= 1_991
    assert open_journal().load().entries[0].index == 1_991


def test_a_log_that_is_forgotten_to_its_end_goes_on(tmp_path: Path) -> None:
    """A turn that stores a vote only may forget the last entry; the next entry still follows it."""
    for reopens in (False, True):
        journal = LmdbJournal(tmp_path / str(reopens), identity="me")
        journal.store(None, entries(1, 5), None)
        journal.store_snapshot(Snapshot(5, 1, THREE, b""))
        journal.store(HardState(2, 1, 5), [], None)
        assert journal.first_index == 6
        if reopens:
            journal.close()
            journal = LmdbJournal(tmp_path / str(reopens), identity="me")
        journal.store(None, entries(6, 7), None)
        assert journal.load().entries == entries(6, 7)
        journal.close()


def test_another_nodes_journal_is_refused(tmp_path: Path) -> None:
    LmdbJournal(tmp_path, identity="node0 at tcp://127.0.0.1:5000").close()
    with pytest.raises(JournalMismatch, match=r"node0 at .* this node is 'node1"):
        LmdbJournal(tmp_path, identity="node1 at tcp://127.0.0.1:5100")


def test_a_damaged_record_is_detected(tmp_path: Path) -> None:
    journal = LmdbJournal(tmp_path, identity="me")
    journal.store(None, entries(1, 3), None)
    journal.close()
    with lmdb.open(str(tmp_path), max_dbs=3) as environment:
        database = environment.open_db(b"entries")
        with environment.begin(write=True, db=database) as transaction:
            key = (2).to_bytes(8, "big")
            record = bytearray(transaction.get(key))
            record[-1] ^= 1
            transaction.put(key, bytes(record))
    journal = LmdbJournal(tmp_path, identity="me")
    with pytest.raises(JournalCorrupt, match="entry 2 fails its checksum"):
        journal.load()
    journal.close()


def edit(folder: Path, database: bytes, change: Callable[[lmdb.Transaction], object]) -> None:
    with (
        lmdb.open(str(folder), max_dbs=3) as environment,
        environment.begin(write=True, db=environment.open_db(database)) as transaction,
    ):
        change(transaction)


def a_stored_journal(folder: Path) -> None:
    journal = LmdbJournal(folder, identity="me")
    journal.store(HardState(3, 2, 0), entries(1, 9), None)
    journal.close()


def test_a_record_under_a_strange_name_is_a_vote_that_was_forgotten(tmp_path: Path) -> None:
    """A bit of the name changed: the node came back without its vote."""
    a_stored_journal(tmp_path)
    vote = b"hard_state"
    edit(tmp_path, b"meta", lambda meta: (meta.put(b"hard_stale", meta.get(vote)), meta.delete(vote)))
    with pytest.raises(JournalCorrupt, match="a record b'hard_stale' that nothing here writes"):
        LmdbJournal(tmp_path, identity="me")


def test_a_gap_in_the_log_is_damage(tmp_path: Path) -> None:
    a_stored_journal(tmp_path)
    edit(tmp_path, b"entries", lambda transaction: transaction.delete((4).to_bytes(8, "big")))
    journal = LmdbJournal(tmp_path, identity="me")
    with pytest.raises(JournalCorrupt, match="entry 4 is missing"):
        journal.load()
    with pytest.raises(JournalCorrupt, match="entry 4 is missing"):
        journal.read(4, 4, 1)
    assert journal.read(5, 9, 1 << 20) == entries(5, 9)
    journal.close()


def test_a_damaged_owner_is_no_other_node(tmp_path: Path) -> None:
    """It had no checksum, and was called the journal of a node of another name."""
    a_stored_journal(tmp_path)
    edit(tmp_path, b"meta", lambda meta: meta.put(b"identity", b"\xffe"))
    with pytest.raises(JournalCorrupt, match="whose it is fails its checksum"):
        LmdbJournal(tmp_path, identity="me")


@pytest.mark.parametrize(
    ("written", "age"), [(b"me", "an older"), (seal(b"me"), "an older"), (seal(b"\x03me"), "a newer")]
)
def test_the_journal_of_another_version_is_not_called_damaged(written: bytes, age: str, tmp_path: Path) -> None:
    """Its records have other layouts, which was a failed checksum, or an error of `struct`."""
    a_stored_journal(tmp_path)
    edit(tmp_path, b"meta", lambda meta: (meta.put(b"identity", written), meta.put(b"old", b"x")))
    with pytest.raises(JournalCorrupt, match=f"{age} version of zmqlab has written this journal.*as a new member"):
        LmdbJournal(tmp_path, identity="me")


def test_a_journal_in_use_is_refused(tmp_path: Path) -> None:
    journal = LmdbJournal(tmp_path, identity="me")
    with pytest.raises(JournalMismatch, match="is in use: another node runs with this journal"):
        LmdbJournal(tmp_path, identity="me")
    journal.close()
    LmdbJournal(tmp_path, identity="me").close()
