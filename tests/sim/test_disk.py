"""The simulated disk under production's journal: what a crash, a power cut and a flipped bit leave of it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from zmqlab.errors import JournalCorrupt, JournalFull
from zmqlab.placement import Roster
from zmqlab.raft import Configuration, HardState, Snapshot
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica import Hosted, Origin, StoredState
from zmqlab.sim.disk import Disk, DiskJournal

THREE = Configuration((1, 2, 3))
ENTRIES = [Entry(index, 1, EntryKind.DATA, b"%d" % index) for index in range(1, 6)]


def test_what_a_node_of_shards_holds_and_knows_is_there_after_a_restart() -> None:
    known = Roster.of_founders(["tcp://10.0.0.1:5000", "tcp://10.0.0.2:5000"], 3, 1).encode()
    first = Hosted(3, 1, (0, 2), THREE)
    disk = Disk(True, lambda what: None)
    assert journal_on(disk).hosted(first) == first
    assert journal_on(disk).hosted(None) == first
    journal_on(disk).host(first._replace(groups=(2,), roster=known))
    assert journal_on(disk).hosted(None) == Hosted(3, 1, (2,), THREE, known)


class Unlucky(random.Random):
    """Everything that may be lost is."""

    def randint(self, a: int, b: int) -> int:
        return b


class Stop(Exception):
    """The process ends."""


def journal_on(disk: Disk) -> DiskJournal:
    return DiskJournal(disk, "node 1", 0, lambda _: lambda *_: None, 262_144)


def stops_at(where: str) -> Callable[[str], None]:
    def effect(what: str) -> None:
        if what == where:
            raise Stop

    return effect


def filled(flushes: bool = True) -> tuple[Disk, list[str]]:
    """A disk with five entries; the list holds at which effect the process is to end."""
    stop: list[str] = [""]
    disk = Disk(flushes, lambda what: stops_at(stop[0])(what))
    journal = journal_on(disk)
    journal.origin(Origin(1, THREE))
    journal.store(HardState(1, 1, 0), ENTRIES, None)
    return disk, stop


def after_a_death_in(where: str, power: bool, flushes: bool = True) -> StoredState:
    disk, stop = filled(flushes)
    journal = journal_on(disk)
    stop[0] = where
    with pytest.raises(Stop):
        journal.store(HardState(2, 3, 5), [Entry(4, 2, EntryKind.NO_OP, b"")], None)
    stop[0] = ""
    if power:
        disk.lose_power(Unlucky())
    return journal_on(disk).load()


@pytest.mark.parametrize(
    ("where", "power", "is_there"),
    [
        ("before a write", False, False),
        ("in a write", False, False),
        ("before a flush", False, True),
        ("before a flush", True, False),
        ("after a write", True, True),
        ("after a write", False, True),
    ],
)
def test_a_transaction_is_there_whole_or_not_at_all(where: str, power: bool, is_there: bool) -> None:
    stored = after_a_death_in(where, power)
    if is_there:
        assert stored.hard_state == HardState(2, 3, 5)
        assert stored.entries == [*ENTRIES[:3], Entry(4, 2, EntryKind.NO_OP, b"")]
    else:
        assert stored.hard_state == HardState(1, 1, 0)
        assert stored.entries == ENTRIES


def test_a_flipped_bit_in_any_record_is_seen() -> None:
    """Whichever record it is: at the start, or when the log is read."""
    seen = set()
    for seed in range(200):
        disk, _ = filled()
        journal = journal_on(disk)
        journal.store_snapshot(Snapshot(3, 1, THREE, b"state"))
        journal.store(HardState(1, 1, 5), [Entry(6, 1, EntryKind.DATA, b"6")], None)
        seen.add(disk.flip_a_bit(random.Random(seed)))
        with pytest.raises(JournalCorrupt):
            read_everything(disk)
    assert seen == {"hard_state", "origin", "first_index", "snapshot", "entry 4", "entry 5", "entry 6"}


def test_a_bit_flips_in_any_group() -> None:
    """It was always group 0, where a node with shards may keep no more than who it is."""
    seen = set()
    for seed in range(200):
        disk, _ = filled()
        other = journal_on(disk).group(3)
        other.store(HardState(1, 1, 0), ENTRIES, None)
        record = disk.flip_a_bit(random.Random(seed))
        seen.add(record)
        if record.endswith("of group 3"):
            with pytest.raises(JournalCorrupt):
                read_group(disk, 3)
    assert {"hard_state of group 3", "entry 2 of group 3", "hard_state of group 0"} <= seen


def read_group(disk: Disk, number: int) -> None:
    journal = journal_on(disk).group(number)
    journal.load()
    journal.read(1, 5, 1 << 62)


def read_everything(disk: Disk) -> None:
    journal = journal_on(disk)
    journal.origin(Origin(1, THREE))
    journal.load()
    journal.read(1, 10, 1 << 20)


def test_a_full_disk_changes_nothing() -> None:
    disk, _ = filled()
    disk.full = True
    with pytest.raises(JournalFull):
        journal_on(disk)
    disk.full = False
    assert journal_on(disk).load().entries == ENTRIES
