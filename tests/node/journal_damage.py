"""A journal whose file is damaged at random, and what a node makes of it; run as a process of its own.

``python -m tests.node.journal_damage FOLDER SEED COUNT WHOLE_LEAVES`` makes a journal, damages a copy of it ``COUNT``
times, and opens each copy. It prints one line for each damage that is neither told apart nor harmless, and ``done`` at
the end. The process is one of its own, because LMDB may kill it at a damaged page.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from zmqlab.errors import JournalCorrupt
from zmqlab.node import lmdb_pages
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.raft import Configuration, HardState, Snapshot
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica import Origin

THREE = Configuration((1, 2, 3))
PAGE = 4_096
Damage = Callable[[bytearray, random.Random], None]


def entries(first: int, last: int, term: int, size: int = 40) -> list[Entry]:
    return [Entry(index, term, EntryKind.DATA, b"%d" % index * (size // 4)) for index in range(first, last + 1)]


def make(folder: Path) -> None:
    """A journal with a past: a snapshot, forgotten entries, a conflict, large entries, free pages."""
    journal = LmdbJournal(folder, identity="me", retain_bytes=40_000)
    journal.draw(7)
    journal.origin(Origin(7, THREE))
    for first in range(1, 1_200, 60):
        journal.store(HardState(1, 1, first - 1), entries(first, first + 59, 1), None)
    journal.store_snapshot(Snapshot(1_000, 1, THREE, bytes(range(256)) * 60))
    for index in range(1_201, 1_231):
        journal.store(HardState(2, 2, index - 1), entries(index, index, 2, size=9_000 if index % 10 else 40), None)
    journal.store(HardState(3, 3, 1_228), entries(1_229, 1_240, 3), None)
    journal.store(HardState(4, 1, 1_240), [], None)
    journal.close()


def contents(journal: LmdbJournal) -> list[object]:
    """What a node starts from."""
    stored = journal.load()
    return [journal.is_new, journal.origin(Origin(9, THREE)), stored.hard_state, stored.snapshot, stored.entries]


def look(folder: Path, is_known: bool = False) -> tuple[list[object], list[Entry]]:
    """What is stored, and the old log; of a journal whose state is known, after it has stored more."""
    journal = LmdbJournal(folder, identity="me", retain_bytes=40_000)
    try:
        found = contents(journal)
        if is_known:
            go_on(journal)
        log = journal.read(journal.first_index, 1_240, 1 << 62)
    finally:
        journal.close()
    return found, log


def go_on(journal: LmdbJournal) -> None:
    for index in range(1_241, 1_261):
        journal.store(HardState(5, 2, index), entries(index, index, 5), None)
    if journal.load().entries[-20:] != entries(1_241, 1_260, 5):
        raise AssertionError("what is stored later is not there")


def flip(data: bytearray, rng: random.Random) -> None:
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8


def flip_in_a_header(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) // PAGE) * PAGE + rng.randrange(160)
    data[at] ^= 1 << rng.randrange(8)


def flip_in_a_meta(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(2) * PAGE + rng.randrange(152)
    data[at] ^= 1 << rng.randrange(8)


def zero(data: bytearray, rng: random.Random) -> None:
    at, size = rng.randrange(len(data)), rng.choice((1, 8, 512, PAGE, 5 * PAGE))
    data[at : at + size] = bytes(len(data[at : at + size]))


def garbage(data: bytearray, rng: random.Random) -> None:
    at, size = rng.randrange(len(data)), rng.choice((1, 8, 512, PAGE))
    data[at : at + size] = rng.randbytes(len(data[at : at + size]))


def wrong_page(data: bytearray, rng: random.Random) -> None:
    source, target = (rng.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    data[target : target + PAGE] = data[source : source + PAGE]


def wrong_number(data: bytearray, rng: random.Random) -> None:
    """A page that stands where another one should, under that one's number."""
    source, target = (rng.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    data[target + 8 : target + PAGE] = data[source + 8 : source + PAGE]


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.choice((rng.randrange(len(data)), rng.randrange(len(data) // PAGE) * PAGE)) :]


DAMAGES: tuple[Damage, ...] = (
    flip,
    flip_in_a_header,
    flip_in_a_meta,
    zero,
    garbage,
    wrong_page,
    wrong_number,
    cut,
)


def outcome(folder: Path, whole: tuple[list[object], list[Entry]], is_empty: bool) -> str:
    """What a node makes of a copy: ``same``, ``refused``, or what is wrong."""
    try:
        found, log = look(folder, is_known=not is_empty)
    except JournalCorrupt as error:
        return "refused" if len(str(error).splitlines()) == 1 else repr(error)
    except Exception as error:  # anything else is what this looks for
        return f"{type(error).__name__}: {error}"
    if is_empty:
        return "same" if found[0] is True else "an empty file is no new journal"
    return "same" if found == whole[0] and whole[1][-len(log) :] == log else "another state"


def main(base: Path, seed: int, count: int) -> None:
    make(base / "whole")
    whole = look(base / "whole")
    data = (base / "whole" / "data.mdb").read_bytes()
    rng = random.Random(seed)
    seen = {"same": 0, "refused": 0}
    for number in range(count):
        damage = DAMAGES[number % len(DAMAGES)]
        damaged = bytearray(data)
        damage(damaged, rng)
        folder = base / "damaged"
        folder.mkdir()
        (folder / "data.mdb").write_bytes(damaged)
        result = outcome(folder, whole, not damaged)
        if result in seen:
            seen[result] += 1
        else:
            print(f"damage {number} ({damage.__name__}): {result}", flush=True)
        shutil.rmtree(folder)
    print("done", seen["same"], seen["refused"])


if __name__ == "__main__":
    lmdb_pages.WHOLE_LEAVES = int(sys.argv[4])
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
