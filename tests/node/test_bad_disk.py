"""A disk that is slow or full on demand: how long a write takes, what fails, and that nothing is lost by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmqlab.errors import JournalFull
from zmqlab.node import bad_disk
from zmqlab.node.lmdb_journal import LmdbJournal, LmdbStore
from zmqlab.raft import HardState
from zmqlab.raft.messages import Entry, EntryKind

MS = 1_000_000


class Clock:
    """Stands for the module ``time``: it passes only when the caller sleeps, or a write takes its own time."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.slept: list[float] = []

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(bad_disk, "time", made)
    return made


def open_journal(folder: Path) -> LmdbJournal:
    return LmdbJournal(folder, identity="me")


def entry(index: int) -> Entry:
    return Entry(index, 1, EntryKind.DATA, b"data")


def indexes(journal: LmdbJournal) -> list[int]:
    return [each.index for each in journal.load().entries]


def test_each_write_takes_as_long_as_it_is_told_and_a_read_does_not(tmp_path: Path, clock: Clock) -> None:
    journal = open_journal(tmp_path)
    journal.damage(50.0, False)
    journal.store(HardState(1, 1, 0), [entry(1)], None)
    journal.store(None, [entry(2), entry(3)], None)
    assert clock.slept == [0.05, 0.05]
    assert indexes(journal) == [1, 2, 3]
    assert len(clock.slept) == 2
    journal.damage(0.0, False)
    journal.store(None, [entry(4)], None)
    assert len(clock.slept) == 2
    journal.close()


def test_a_write_that_is_slow_by_itself_waits_for_the_rest_only(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    real = LmdbStore.write

    def slow(store: LmdbStore) -> object:
        clock.now_ns += 30 * MS
        return real(store)

    journal.damage(50.0, False)
    monkeypatch.setattr(LmdbStore, "write", slow)
    journal.store(None, [entry(1)], None)
    assert clock.slept == [pytest.approx(0.02)]
    journal.damage(10.0, False)
    journal.store(None, [entry(2)], None)
    assert clock.slept[1:] == [0.0]
    journal.close()


def test_a_full_disk_takes_no_write_and_loses_none_that_it_took(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.store(HardState(1, 1, 0), [entry(1)], None)
    journal.damage(0.0, True)
    with pytest.raises(JournalFull, match="No space left on device, by a fault of the lab") as caught:
        journal.store(HardState(2, 1, 0), [entry(2)], None)
    assert "Make room and start the node again: nothing that was promised is lost" in str(caught.value)
    assert caught.value.exit_status == 5
    journal.close()
    again = open_journal(tmp_path)
    assert indexes(again) == [1]
    hard_state = again.load().hard_state
    assert hard_state is not None
    assert hard_state.term == 1
    again.close()


def test_another_failure_stays_what_it_is(tmp_path: Path) -> None:
    """The full disk does not hide a broken invariant."""
    journal = open_journal(tmp_path)
    journal.damage(0.0, True)
    with pytest.raises(AssertionError, match="no gaps"):
        journal.store(None, [entry(7)], None)
    journal.close()
