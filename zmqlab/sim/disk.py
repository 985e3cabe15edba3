"""One node's disk: a journal that outlives its process, and that a crash may hit before or after each write.

A store is one transaction, in the production journal as here (:mod:`zmqlab.replica.journal`): a torn write is a
transaction that is not there. What the simulation adds is the moment: ``effect`` is called before and after every
write and may end the process there.

Left out: a lost suffix of writes that were reported as stored. With ``durability="os"`` a crash of a *process* loses
nothing; a power cut of a majority at once may, and the documents say so.
"""

from __future__ import annotations

from collections.abc import Callable

from zmqlab.errors import JournalFull
from zmqlab.raft import HardState, Snapshot
from zmqlab.raft.messages import Entry
from zmqlab.replica import MemoryJournal

Stored = Callable[[HardState | None, list[Entry], Snapshot | None], None]


class Disk(MemoryJournal):
    """See the module. ``watch`` is told what is about to be stored, for the checkers."""

    def __init__(self, retain_bytes: int, effect: Callable[[str], None], watch: Stored) -> None:
        super().__init__(retain_bytes)
        self.full = False
        self.installs = 0
        """Snapshots that came from a leader."""
        self._effect = effect
        self._watch = watch

    def store(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        self._effect("before a write")
        if self.full:
            raise JournalFull("the simulated disk is full")
        self._watch(hard_state, entries, snapshot)
        super().store(hard_state, entries, snapshot)
        self.installs += snapshot is not None
        self._effect("after a write")

    def store_snapshot(self, snapshot: Snapshot) -> None:
        self._effect("before a snapshot")
        if self.full:
            raise JournalFull("the simulated disk is full")
        super().store_snapshot(snapshot)
        self._effect("after a snapshot")
