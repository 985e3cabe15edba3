"""The journal's file, damaged before a node starts and under a node that runs: the same state, or one clear line."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import psutil
import pytest

from tests.node.journal_damage import PAGE, entries, make
from zmqlab.errors import JournalCorrupt, JournalDenied, JournalFull, JournalLost, JournalMismatch, NodeError
from zmqlab.node import lmdb_pages
from zmqlab.node.lmdb_journal import MAP_BYTES, LmdbJournal, LmdbStore
from zmqlab.raft import HardState
from zmqlab.raft.messages import Entry, EntryKind

IS_ROOT = os.geteuid() == 0


def journal_of(folder: Path) -> LmdbJournal:
    return LmdbJournal(folder, identity="me", retain_bytes=40_000)


def change(folder: Path, at: int, data: bytes) -> None:
    with (folder / "data.mdb").open("r+b") as file:
        file.seek(at)
        file.write(data)


def cut(folder: Path, size: int) -> None:
    os.truncate(folder / "data.mdb", size)


def leave_no_files(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def put_a_folder(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()


def put_a_pipe(folder: Path) -> None:
    (folder / "data.mdb").unlink()
    os.mkfifo(folder / "data.mdb")


def put_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("in its place")


def put_another_lmdb(folder: Path) -> None:
    leave_no_files(folder)
    with lmdb.open(str(folder), max_dbs=1) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"k", b"v", db=environment.open_db(b"of another program", transaction))


NUMBER = 8
Damage = Callable[[Path], None]
KINDS: dict[str, tuple[Damage, str]] = {
    "a garbage meta page": (lambda folder: change(folder, PAGE, b"x" * PAGE), "page 1 is no meta page"),
    "an older state, by one bit": (
        lambda folder: change(folder, 16 + 128, b"\0" * 8),
        "two meta pages are of the trans",
    ),
    "wrong page numbers": (lambda folder: change(folder, 2 * PAGE, b"\xff" * 90 * PAGE), "is another one, or no page"),
    "a short file": (lambda folder: cut(folder, 20 * PAGE), "it was cut off"),
    "a file of one page": (lambda folder: cut(folder, PAGE), "cut off within its second page"),
    "a file of ten bytes": (lambda folder: cut(folder, 10), "cut off after 10 bytes"),
    "no LMDB": (lambda folder: change(folder, 0, b"#!/bin/sh" * 900), "does not begin as a file of this LMDB does"),
    "another LMDB": (lambda folder: change(folder, 20, b"\3\0\0\0"), "version 3 of LMDB's format"),
    "another program's": (put_another_lmdb, "it holds 'of another program'"),
    "a folder in its place": (lambda folder: put_a_folder(folder, "data.mdb"), "data.mdb is no file"),
    "a folder for the lock": (lambda folder: put_a_folder(folder, "lock.mdb"), "lock.mdb is no file"),
    "a pipe in its place": (put_a_pipe, "data.mdb is no file"),
    "a file for its folder": (put_a_file, "something else stands there"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_damage_is_told_apart_and_asks_for_no_room(kind: str, tmp_path: Path) -> None:
    """They ended with status 5 and "make room", or by a signal and without a word."""
    damage, words = KINDS[kind]
    make(tmp_path / "node")
    damage(tmp_path / "node")
    with pytest.raises(JournalCorrupt) as caught:
        journal_of(tmp_path / "node")
    assert words in str(caught.value)
    assert "room" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_status == 6


@pytest.mark.parametrize("lose", [leave_no_files, lambda folder: cut(folder, 0)], ids=["no file", "an empty file"])
def test_an_empty_journal_is_a_missing_one(lose: Damage, tmp_path: Path) -> None:
    """Its node has no identity any more, and can be no more than a new member."""
    make(tmp_path)
    lose(tmp_path)
    journal = journal_of(tmp_path)
    assert journal.is_new
    assert journal.load().hard_state is None
    journal.close()


@pytest.mark.parametrize("whole_leaves", [lmdb_pages.WHOLE_LEAVES, 0], ids=["small", "large"])
def test_random_damage_is_harmless_or_refused(whole_leaves: int, tmp_path: Path) -> None:
    """Nothing else: no signal, no traceback, no other exit status, no older state. ``large``: leaves are read later."""
    command = [sys.executable, "-m", "tests.node.journal_damage", str(tmp_path), "7", "400", str(whole_leaves)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    *wrong, done = finished.stdout.splitlines()
    assert not wrong
    word, same, refused = done.split()
    assert word == "done"
    assert int(same) > 40
    assert int(refused) > 200


def test_what_lmdb_leaves_behind_is_sound_at_each_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    journal = journal_of(tmp_path)
    descriptor = os.open(tmp_path / "data.mdb", os.O_RDONLY)
    for index in range(1_241, 1_400):
        journal.store(HardState(5, 2, index), entries(index, index, 5, size=40 if index % 7 else 9_000), None)
        monkeypatch.setattr(lmdb_pages, "WHOLE_LEAVES", index % 2 * 100)
        lmdb_pages.check_file(descriptor, (b"entries", b"snapshot", b"meta"))
    os.close(descriptor)
    journal.close()


# Under a node that runs.


def remove(folder: Path) -> None:
    (folder / "data.mdb").unlink()


def move_away(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def replace(folder: Path) -> None:
    shutil.copy(folder / "data.mdb", folder / "copy")
    (folder / "copy").rename(folder / "data.mdb")


@pytest.mark.parametrize("lose", [remove, move_away, replace, lambda folder: cut(folder, 3 * PAGE)])
@pytest.mark.parametrize("use", ["check", "store", "read"])
def test_a_file_that_goes_while_it_is_open_is_noticed(lose: Damage, use: str, tmp_path: Path) -> None:
    """A file that was cut off ended the process by SIGBUS."""
    make(tmp_path / "node")
    journal = journal_of(tmp_path / "node")
    lose(tmp_path / "node")
    uses: dict[str, Callable[[], object]] = {
        "check": journal.check,
        "store": lambda: journal.store(HardState(9, 1, 0), [], None),
        "read": lambda: journal.read(1_201, 1_240, 1 << 20),
    }
    with pytest.raises(JournalLost, match=r"was (deleted|cut off).* while the node ran"):
        uses[use]()
    journal.close()


@pytest.mark.parametrize("lose", [remove, replace])
def test_a_file_that_goes_while_it_is_opened_anew_is_noticed(
    lose: Damage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB made a new, empty file, which became the journal of a node that ran."""
    make(tmp_path)
    store, reopen = LmdbStore(tmp_path, fsync=False), LmdbStore._open

    def open_later(self: LmdbStore) -> None:
        lose(tmp_path)
        reopen(self)

    monkeypatch.setattr(LmdbStore, "_open", open_later)
    with pytest.raises(JournalLost, match="was deleted while the node ran"):
        store.release_memory()
    store.close()


def test_a_journal_that_could_not_be_opened_anew_is_closed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing it again raised EBADF in place of the error, or closed what another thread had opened."""
    make(tmp_path)
    store = LmdbStore(tmp_path, fsync=False)
    monkeypatch.setattr(lmdb, "open", lambda *_, **__: raise_error(lmdb.MemoryError("no addresses")))
    with pytest.raises(NodeError, match="can't be opened"):
        store.release_memory()
    store.close()


def raise_error(error: Exception) -> None:
    raise error


def test_old_pages_that_are_damaged_under_a_node_are_an_error_for_the_reader_alone(tmp_path: Path) -> None:
    """LMDB would follow the damaged page, and end the process."""
    make(tmp_path)
    journal = journal_of(tmp_path)
    (first,) = journal.read(journal.first_index, journal.first_index, 1)
    data = (tmp_path / "data.mdb").read_bytes()
    page = data.index(first.data) // PAGE
    change(tmp_path, page * PAGE + 16, b"\xff\xff" * 20)
    with pytest.raises(JournalCorrupt, match=f"page {page} has a node outside of its bounds"):
        journal.read(journal.first_index, 1_240, 1 << 20)
    journal.store(HardState(5, 2, 1_240), entries(1_241, 1_241, 5), None)
    assert journal.read(1_241, 1_241, 1) == entries(1_241, 1_241, 5)
    journal.close()


# Rights, addresses, room.


@pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
@pytest.mark.parametrize("name", ["in-use", "lock.mdb", "data.mdb"])
def test_files_of_somebody_else_are_no_full_disk(name: str, tmp_path: Path) -> None:
    make(tmp_path / "node")
    for path in (tmp_path / "node").iterdir():
        os.chown(path, 0 if path.name == name else 10_001, 0)
        path.chmod(0o600)
    os.chown(tmp_path / "node", 10_001, 0)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o001)
    tmp_path.chmod(0o711)
    os.seteuid(10_001)
    try:
        with pytest.raises(JournalDenied, match=r"this user \(10001\) may not"):
            journal_of(tmp_path / "node")
    finally:
        os.seteuid(0)


def limit_addresses(monkeypatch: pytest.MonkeyPatch, left_mib: int) -> None:
    taken = psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda _: (taken + (left_mib << 20), resource.RLIM_INFINITY))


def test_the_map_is_half_of_the_addresses_that_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = LmdbJournal(tmp_path / "free", identity="me", retain_bytes=1 << 30)
    assert journal._store.map_bytes == MAP_BYTES  # type: ignore[attr-defined]
    journal.close()
    limit_addresses(monkeypatch, 1_000)
    journal = LmdbJournal(tmp_path / "limited", identity="me", retain_bytes=1 << 30)
    assert 450 << 20 < journal._store.map_bytes <= 500 << 20  # type: ignore[attr-defined]
    assert journal._retain_bytes <= 125 << 20
    journal.close()


def test_too_few_addresses_are_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_addresses(monkeypatch, 100)
    with pytest.raises(NodeError, match=r"100 MiB are left to this process.*ulimit -v") as caught:
        journal_of(tmp_path)
    assert not isinstance(caught.value, JournalFull | JournalCorrupt)


def test_a_full_map_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_addresses(monkeypatch, 140)
    journal = journal_of(tmp_path)
    with pytest.raises(JournalFull, match="fills its map"):
        journal.store(None, entries(1, 100, 1, size=1 << 22), None)
    journal.close()


def test_a_folder_that_was_refused_can_be_used_afterwards(tmp_path: Path) -> None:
    """What was opened for a journal that is refused is closed again."""
    make(tmp_path)
    with pytest.raises(JournalMismatch):
        LmdbJournal(tmp_path, identity="another")
    journal_of(tmp_path).close()


def test_what_several_groups_store_together_is_one_transaction(tmp_path: Path) -> None:
    journal = LmdbJournal(tmp_path, identity="me", groups_max=8)
    other = journal.group(5)
    commits = journal._disk._env.info()["last_txnid"]
    with journal.together():
        journal.store(HardState(1, 1, 0), [], None)
        other.store(HardState(2, 1, 0), [Entry(1, 2, EntryKind.NO_OP, b"")], None)
    assert journal._disk._env.info()["last_txnid"] == commits + 1
    journal.close()

    journal = LmdbJournal(tmp_path, identity="me", groups_max=8)
    assert journal.load().hard_state == HardState(1, 1, 0)
    assert journal.load().entries == []
    assert journal.group(5).load().hard_state == HardState(2, 1, 0)
    assert len(journal.group(5).load().entries) == 1
    journal.close()


def test_groups_that_fail_together_store_nothing(tmp_path: Path) -> None:
    journal = LmdbJournal(tmp_path, identity="me", groups_max=8)
    other = journal.group(5)
    journal.damage(0.0, True)
    with pytest.raises(JournalFull), journal.together():
        other.store(HardState(2, 1, 0), [], None)
    journal.damage(0.0, False)
    assert other.load().hard_state is None
    journal.close()
