"""The large work of a replica, a slice a turn: snapshots that are made, received and let go of, and state hashes.

A million resting orders are 36 MB. To encode them takes half a second, to restore them a second and a half, and a node
that does not look at its sockets for an election time-out loses its office. So no turn does more than a *share*:
``snapshot_slice_bytes`` of each work that is under way. A state that fits a share is done within one turn.

*Making.* When the log has grown by ``snapshot_log_bytes``, the state is frozen (:meth:`StateMachine.freeze
<zmqlab.replica.machine.StateMachine.freeze>`) at the index that is applied then. Entries go on being applied while it
is encoded and its parts are written ahead. When the last slice is there, it is stored, and the log behind its index is
dropped. A crash in between leaves the snapshot before it, and the whole log after that one. One snapshot is made at a
time, none while one is received, and what is being made is given up when a received one takes its place.

*Receiving.* Each chunk from the leader is restored into another state before Raft sees it. Raft takes over a snapshot
in the step in which its last chunk arrives: by then all of it has been checked, and the state is ready. A chunk that is
no part of a state is refused as any bad frame is, and the transfer begins anew.

*Letting go.* The books that a received snapshot replaces are freed in steps.

*Hashing.* A state hash is of a frozen state, too. Questions that come while one is made wait for the next one, which
answers them all: however many ask, each turn has one share of hashing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from io import BytesIO
from typing import NamedTuple

from zmqlab.errors import FrameError, StateInvalid
from zmqlab.market.canonical import ORDER, STATE_HASH_BYTES
from zmqlab.raft import IncomingSnapshot, InstallSnapshot, Snapshot
from zmqlab.replica.journal import Journal
from zmqlab.replica.machine import Restoring, StateMachine
from zmqlab.replica.replication import Replication

TRANSFER_LOGS = 4
"""So many times the log between two snapshots is kept in memory for a follower that is being sent one: 64 MiB."""
HASH_WAITING_MAX = 1_024
"""Questions for a state hash that wait at once: four turns full of them."""


class HashedState(NamedTuple):
    """The hashes at one index."""

    log_index: int
    chain: bytes
    state_hash: bytes


Finish = Callable[[HashedState], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSettings:
    """When a snapshot is due, and how much of it is done at once."""

    log_bytes: int
    """The log that is applied between two snapshots."""
    keep_bytes: int
    slice_bytes: int


@dataclass(slots=True)
class _Making:
    """A snapshot that is being made."""

    head: Snapshot
    """Without its data."""
    slices: Iterator[bytes]
    data: BytesIO = field(default_factory=BytesIO)


@dataclass(slots=True)
class _Hashing:
    """A state that is being hashed."""

    index: int
    chain: bytes
    slices: Iterator[bytes]
    waiting: list[Finish]
    digest: blake2b = field(default_factory=lambda: blake2b(digest_size=STATE_HASH_BYTES))


@dataclass(slots=True)
class _Receiving:
    """A snapshot of which the first chunks are here."""

    source: tuple[int, int, int, int]
    """Sender, its term, index and term of the snapshot: as Raft tells snapshots apart."""
    restoring: Restoring
    size: int = 0
    unwritten: list[bytes] = field(default_factory=lambda: [b""])
    """What the journal was not told of; no bytes begin a snapshot anew."""

    def feed(self, data: bytes) -> None:
        """The next chunk. Raises StateInvalid."""
        self.restoring.feed(data)
        self.size += len(data)
        self.unwritten.append(data)


class Snapshotting:
    """See the module. Owned by one replica."""

    def __init__(
        self, machine: StateMachine, replication: Replication, journal: Journal, settings: SnapshotSettings
    ) -> None:
        self.total = 0
        """Snapshots made since this node started."""
        self.applied_bytes = 0
        """Of the entries that were applied since a snapshot was begun or received."""
        self._machine = machine
        self._replication = replication
        self._journal = journal
        self.settings = settings
        """May be replaced between two turns."""
        self._rows = -(-settings.slice_bytes // ORDER.size)
        self._making: _Making | None = None
        self._receiving: _Receiving | None = None
        self._hashing: _Hashing | None = None
        self._hashed: HashedState | None = None
        """The newest one."""
        self._hash_waiting: list[Finish] = []
        """Those whose question came after the state that is being hashed was frozen."""
        self._let_go: list[Iterator[None]] = []
        """Books that are freed in steps."""

    def work(self) -> bool:
        """One turn's share of all that is under way; between two turns. Returns whether there is more to do, also for
        the replication: some send on a snapshot that was made."""
        is_due = self.applied_bytes >= self.settings.log_bytes
        if not (is_due or self._is_under_way()):
            return False
        made = self.total
        if self._is_due():
            self._begin()
        if self._making is not None:
            self._make_some(self._making)
        if self._hashing is not None:
            self._hash_some(self._hashing)
        if self._let_go and next(self._let_go[0], self) is self:
            del self._let_go[0]
        has_more = self._is_under_way() or self._is_due()
        return has_more or (self.total > made and self._replication.is_ready())

    def _is_under_way(self) -> bool:
        return bool(self._making or self._hashing or self._let_go)

    # Making.

    def _is_due(self) -> bool:
        return self.applied_bytes >= self.settings.log_bytes and self._may_begin()

    def _may_begin(self) -> bool:
        if self._making is not None or self._is_receiving():
            return False
        # A node that joins does not know the members before the entry that took it in.
        return bool(self._replication.members_at(self._machine.applied_index).voters)

    def _begin(self) -> None:
        assert self._machine.applied_index == self._replication.applied_index, "a snapshot is taken between two turns"
        self.applied_bytes = 0
        head = self._replication.make_snapshot(b"")
        self._journal.stage_snapshot(head.index, head.term, b"")
        self._making = _Making(head, self._machine.freeze(self._rows))

    def _make_some(self, making: _Making) -> None:
        head, left = making.head, self.settings.slice_bytes
        for piece in making.slices:
            making.data.write(piece)
            self._journal.stage_snapshot(head.index, head.term, piece)
            left -= len(piece)
            if left <= 0:
                return
        self._making = None
        snapshot = replace(head, data=making.data.getvalue())
        self._journal.store_snapshot(snapshot)
        self._replication.compact(snapshot, self._entries_to_keep(snapshot.index))
        self.total += 1

    def _entries_to_keep(self, index: int) -> int:
        """How many entries up to ``index`` stay in memory.

        Those that fit ``keep_bytes`` are for followers a little behind. A follower that is being sent a snapshot will
        need all that came after it: if they were dropped, it would need another snapshot, and while a large one is
        under way the next is made. That has a bound, too.
        """
        replication = self._replication
        entries = index - replication.first_index + 1
        if entries <= 0:
            return 0
        log_entries = replication.last_index - replication.first_index + 1
        mean_bytes = max(1, replication.log_bytes // max(1, log_entries))
        sent = [each.snapshot.index for each in replication.followers.values() if each.snapshot is not None]
        needed = min(index - min(sent, default=index), TRANSFER_LOGS * self.settings.log_bytes // mean_bytes)
        return min(entries, max(needed, self.settings.keep_bytes // mean_bytes))

    # Receiving.

    def _is_receiving(self) -> bool:
        if self._receiving is not None and self._receiving.source[2] <= self._machine.applied_index:
            self._receiving = None  # the log has come first
        return self._receiving is not None

    def check_chunk(self, message: InstallSnapshot) -> None:
        """Restore a chunk, if it is the one that Raft will take next.

        Raises:
            FrameError: it is no part of a snapshot. What was received of that snapshot is forgotten.
        """
        replication = self._replication
        if message.term < replication.term or message.snapshot_index <= replication.commit_index:
            return
        source = (message.sender, message.term, message.snapshot_index, message.snapshot_term)
        incoming = replication.incoming
        known = incoming if incoming is not None and incoming.source == source else IncomingSnapshot(source)
        if message.offset != known.offset:
            return  # Raft asks for the right one
        try:
            receiving = self._received(known)
            receiving.feed(message.data)
            if message.done:
                receiving.restoring.finish()
        except StateInvalid as error:
            self._receiving = None
            replication.forget_incoming()
            raise FrameError(f"{message.sender:#x} sends a snapshot that can't be restored: {error}") from None

    def _received(self, known: IncomingSnapshot) -> _Receiving:
        """What the chunks before gave. It is as far as Raft is, unless one of both began anew. Raises StateInvalid."""
        receiving = self._receiving
        if receiving is None or receiving.source != known.source or not receiving.size == known.offset > 0:
            self._give_up_making()
            receiving = self._receiving = _Receiving(known.source, Restoring(self._machine))
            receiving.feed(known.data.getvalue())
        return receiving

    def _give_up_making(self) -> None:
        if self._making is not None:
            self._making = None
            self.applied_bytes = max(self.applied_bytes, self.settings.log_bytes)  # it is due again

    def write_ahead(self) -> None:
        """Hand what was received to the journal."""
        receiving = self._receiving
        if receiving is not None:
            for data in receiving.unwritten:
                self._journal.stage_snapshot(*receiving.source[2:], data)
            receiving.unwritten = []

    def install(self, snapshot: Snapshot) -> None:
        """Take over the state of a received snapshot. Raises JournalCorrupt if it can't be restored."""
        receiving, self._receiving, self._making = self._receiving, None, None
        place = snapshot.index, snapshot.term, len(snapshot.data)
        if receiving is not None and (*receiving.source[2:], receiving.size) == place:
            steps = self._machine.adopt(receiving.restoring)
            if next(steps, self) is not self:
                self._let_go.append(steps)
        else:
            self._machine.restore(snapshot.data)
        self.applied_bytes = 0

    # Hashing.

    def hash_state(self, finish: Finish) -> bool:
        """Hash the state as it is now, or as it will be soon, and call ``finish``. False: too many ask already."""
        if self._hashing is not None:
            if len(self._hash_waiting) >= HASH_WAITING_MAX:
                return False
            self._hash_waiting.append(finish)
        elif self._hashed is not None and self._hashed.log_index == self._machine.applied_index:
            finish(self._hashed)
        else:
            self._hash_some(self._begin_hashing([finish]))
        return True

    def _begin_hashing(self, waiting: list[Finish]) -> _Hashing:
        machine = self._machine
        self._hashing = _Hashing(machine.applied_index, machine.chain, machine.freeze(self._rows), waiting)
        return self._hashing

    def _hash_some(self, hashing: _Hashing) -> None:
        left = self.settings.slice_bytes
        for piece in hashing.slices:
            hashing.digest.update(piece)
            left -= len(piece)
            if left <= 0:
                return
        self._hashing = None
        self._hashed = HashedState(hashing.index, hashing.chain, hashing.digest.digest())
        for finish in hashing.waiting:
            finish(self._hashed)
        waiting, self._hash_waiting = self._hash_waiting, []
        if waiting:
            self._begin_hashing(waiting)
