"""``--durability fsync`` flushes before it answers: each transaction, and the folders in which new files stand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zmqlab.errors import JournalCorrupt
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.raft.messages import Entry, EntryKind

STORES = 3
SCRIPT = f"""
import os, sys
from pathlib import Path
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.raft.messages import Entry, EntryKind

journal = LmdbJournal(Path(sys.argv[1]), identity="x", fsync=sys.argv[2] == "fsync")
for index in range(1, {STORES} + 1):
    journal.store(None, [Entry(index, 1, EntryKind.DATA, b"x" * 100)], None)
    os.write(1, b"stored %d" % index)
os._exit(0)
"""


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were flushed, in order."""
    folders: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        folders.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return folders


def test_new_folders_are_flushed_up_to_one_that_was_there(tmp_path: Path, flushed: list[Path]) -> None:
    folder = tmp_path / "run" / "data" / "node0"
    LmdbJournal(folder, identity="x", fsync=True).close()
    assert flushed[:4] == [folder, tmp_path / "run" / "data", tmp_path / "run", tmp_path]


def test_folders_are_flushed_again_by_a_later_start(tmp_path: Path, flushed: list[Path]) -> None:
    """The earlier start may have ended before it flushed them."""
    folder = tmp_path / "data" / "node0"
    folder.mkdir(parents=True)
    LmdbJournal(folder, identity="x", fsync=True).close()
    assert flushed[:3] == [folder, tmp_path / "data", tmp_path]


def test_the_files_are_there_when_their_folder_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[set[str]] = []
    monkeypatch.setattr(os, "fsync", lambda _: there.append({path.name for path in tmp_path.iterdir()}))
    LmdbJournal(tmp_path, identity="x", fsync=True).close()
    assert there[0] >= {"data.mdb", "in-use"}


def test_without_fsync_no_folder_is_flushed(tmp_path: Path, flushed: list[Path]) -> None:
    LmdbJournal(tmp_path / "data", identity="x").close()
    assert flushed == []


def test_a_folder_that_can_not_be_flushed_is_on_a_disk_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(JournalCorrupt, match="Input/output error"):
        LmdbJournal(tmp_path, identity="x", fsync=True)


def traced(folder: Path, durability: str) -> list[str] | None:
    """System calls that flush or write, in order; None where this machine does not let processes be traced."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    calls = "trace=fsync,fdatasync,msync,write,pwrite64,pwritev,writev"
    command = [strace, "-f", "-y", "-e", calls, sys.executable, "-c", SCRIPT, str(folder), durability]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return finished.stderr.splitlines() if finished.returncode == 0 else None


def flushes_before_each_answer(lines: list[str]) -> list[int]:
    """How many times the journal's file was flushed in each of the stores."""
    counts = [0]
    for line in lines:
        counts[-1] += "data.mdb" in line and line.split("(")[0].split()[-1] in ("fdatasync", "fsync")
        if "stored " in line:
            counts.append(0)
    return counts[:STORES]


@pytest.mark.process
def test_each_transaction_is_flushed_before_it_is_answered(tmp_path: Path) -> None:
    """By the system calls where they can be traced; by what LMDB says of itself in any case."""
    lines = traced(tmp_path / "traced", "fsync")
    if lines is not None:
        flushes = flushes_before_each_answer(lines)
        assert len(flushes) == STORES
        assert min(flushes) >= 1, lines
        plain = traced(tmp_path / "plain", "os")
        assert plain is not None
        assert flushes_before_each_answer(plain) == [0] * STORES
    for fsync in (True, False):
        journal = LmdbJournal(tmp_path / str(fsync), identity="x", fsync=fsync)
        journal.store(None, [Entry(1, 1, EntryKind.DATA, b"x")], None)
        flags = journal._store._env.flags()  # type: ignore[attr-defined]
        assert (flags["sync"], flags["metasync"]) == (fsync, fsync)
        journal.close()
