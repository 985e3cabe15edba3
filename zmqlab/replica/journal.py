"""What must survive a crash, as an interface; and a journal that survives nothing.

*Groups.* A node has one journal. That of its first group, number 0, is also the node's: who the node is, and how often
it was opened, stands there once. :meth:`Journal.group` gives the others, each with a log of its own, in the same file.
:meth:`Journal.together` makes what all of them store one transaction, so that a turn of a node with many groups costs
one flush.

A journal holds the hard state (term, vote), the entries, and the newest snapshot. One call of :meth:`Journal.store` is
one transaction: after a crash all of it is there or none of it. Entries that a snapshot covers may be kept for a while
(the verdict reads them, and so may a person); ``first_index`` says from where on the log is whole.

The journal on disk is :mod:`zmqlab.replica.record_journal`, over LMDB in :mod:`zmqlab.node.lmdb_journal`, over a
simulated disk in :mod:`zmqlab.sim.disk`. :class:`MemoryJournal` is ``durability="memory"``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from zmqlab.raft import Configuration, HardState, Snapshot
from zmqlab.raft.messages import Entry


class Origin(NamedTuple):
    """What a node is from its first start on. It is stored with the journal and lost with it: a node without its
    journal has forgotten its votes, and must be another member."""

    node_id: int
    configuration: Configuration
    """The founding members; empty for a node that joins a running cluster."""

    @property
    def is_founder(self) -> bool:
        """Whether this node is one of the founding members."""
        return bool(self.configuration.members)


class Hosted(NamedTuple):
    """Which groups of a cluster with shards a node holds now."""

    shards: int
    replication_factor: int
    groups: tuple[int, ...]
    founders: Configuration
    """Of the whole cluster, whichever groups each holds."""
    roster: bytes = b""
    """The newest :class:`~zmqlab.placement.Roster` that this node knew to be committed, encoded; empty: there was none
    but that of the founders."""


@dataclass(slots=True)
class StoredState:
    """What a node finds when it starts."""

    hard_state: HardState | None = None
    snapshot: Snapshot | None = None
    entries: list[Entry] = field(default_factory=list)
    """The log after the snapshot, without a gap."""


class Journal(Protocol):
    """Stable storage of one group."""

    first_index: int
    """The oldest entry that can still be read; 1 in a journal that never forgot."""

    life: int
    """How often this journal was opened, with this time: which life of its node this is. It rises from start to start
    as long as the journal is there; without it the node is another one."""

    @property
    def size_bytes(self) -> int:
        """Bytes that the entries take, about."""
        ...

    @property
    def is_new(self) -> bool:
        """Whether this is the node's first start: it has no origin yet."""
        ...

    def draw(self, new: int) -> int:
        """The identity that this node got when it first asked for one; ``new`` if this is it. Stored on return."""
        ...

    def origin(self, new: Origin) -> Origin:
        """What this node has been since its first start; ``new`` if this is it."""
        ...

    def hosted(self, new: Hosted | None) -> Hosted | None:
        """Which groups this node holds; ``new`` if this is its first start. None: it is of no cluster with shards."""
        ...

    def host(self, hosted: Hosted) -> None:
        """From now on this node holds these groups, and knows this roster. The journal of a group that it holds no more
        stays as it is: with it the node is the same member, should it get the group again. Raises JournalFull."""
        ...

    def group(self, number: int) -> Journal:
        """The journal of another group of this node; number 0 is this one."""
        ...

    def together(self) -> AbstractContextManager[object]:
        """All that this journal and those of the other groups store until it ends is one transaction. Raises
        JournalFull at its end."""
        ...

    def check(self) -> None:
        """Raise JournalLost if what is stored will not stay: its file was deleted. :meth:`store` looks by itself."""
        ...

    def load(self) -> StoredState:
        """Everything that survived. Raises JournalCorrupt when a record fails its check."""
        ...

    def store(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        """One transaction. ``entries[0]`` may be at or below the last stored index: what stood from there on is
        dropped. A ``snapshot`` here came from the leader: it replaces the log. Raises JournalFull."""
        ...

    def store_snapshot(self, snapshot: Snapshot) -> None:
        """Store a snapshot of this node's own state; the log after it stays. May forget old entries."""
        ...

    def stage_snapshot(self, index: int, term: int, data: bytes) -> None:
        """The next bytes of a snapshot that may be stored later on; no bytes begin it anew. A hint: they may be written
        ahead, so that storing the snapshot is a small step. Raises JournalFull."""
        ...

    def read(self, from_index: int, up_to_index: int, max_bytes: int) -> list[Entry]:
        """Entries from ``from_index`` to ``up_to_index``, at least one if there is one, at most ``max_bytes``."""
        ...

    def close(self) -> None: ...


class MemoryJournal:
    """A journal that lives as long as its object."""

    def __init__(self, retain_bytes: int = 0) -> None:
        self.first_index = 1
        self.life = 1
        self._retain_bytes = retain_bytes
        self._origin: Origin | None = None
        self._hosted: Hosted | None = None
        self._groups: dict[int, MemoryJournal] = {}
        self._drawn = 0
        self._hard_state: HardState | None = None
        self._snapshot: Snapshot | None = None
        self._entries: dict[int, Entry] = {}
        self._last_index = 0
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._bytes

    @property
    def is_new(self) -> bool:
        return self._origin is None and self._hosted is None

    def draw(self, new: int) -> int:
        self._drawn = self._drawn or new
        return self._drawn

    def origin(self, new: Origin) -> Origin:
        self._origin = self._origin or new
        return self._origin

    def hosted(self, new: Hosted | None) -> Hosted | None:
        self._hosted = self._hosted or new
        return self._hosted

    def host(self, hosted: Hosted) -> None:
        self._hosted = hosted

    def group(self, number: int) -> Journal:
        if not number:
            return self
        group = self._groups.setdefault(number, MemoryJournal(self._retain_bytes))
        group.life = self.life
        return group

    def together(self) -> AbstractContextManager[object]:
        return nullcontext()

    def check(self) -> None:
        """Nothing stays anyway."""

    def load(self) -> StoredState:
        start = self._snapshot.index + 1 if self._snapshot else 1
        entries = [self._entries[index] for index in range(start, self._last_index + 1)]
        return StoredState(self._hard_state, self._snapshot, entries)

    def store(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        if hard_state is not None:
            self._hard_state = hard_state
        if snapshot is not None:
            self._snapshot, self._entries, self._bytes = snapshot, {}, 0
            self._last_index, self.first_index = snapshot.index, snapshot.index + 1
        if entries:
            self._truncate(entries[0].index)
        for entry in entries:
            assert entry.index == self._last_index + 1, "the log has no gaps"
            self._entries[entry.index] = entry
            self._last_index = entry.index
            self._bytes += len(entry.data)

    def _truncate(self, from_index: int) -> None:
        for index in range(from_index, self._last_index + 1):
            self._bytes -= len(self._entries.pop(index).data)
        self._last_index = min(self._last_index, from_index - 1)

    def store_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        while self.first_index <= snapshot.index and self._bytes > self._retain_bytes:
            self._bytes -= len(self._entries.pop(self.first_index).data)
            self.first_index += 1

    def stage_snapshot(self, index: int, term: int, data: bytes) -> None:
        """Nothing is written."""

    def read(self, from_index: int, up_to_index: int, max_bytes: int) -> list[Entry]:
        found: list[Entry] = []
        for index in range(max(from_index, self.first_index), min(up_to_index, self._last_index) + 1):
            found.append(self._entries[index])
            max_bytes -= len(self._entries[index].data)
            if max_bytes <= 0:
                break
        return found

    def close(self) -> None:
        """Nothing is held open."""
