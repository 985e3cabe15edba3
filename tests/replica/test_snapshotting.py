"""Large work a slice a turn: what is made, received, hashed and let go of while entries go on being applied."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.replica.test_replica import MEMBERS, Effects
from zmqlab.errors import FrameError
from zmqlab.market import Command, Side
from zmqlab.market.canonical import ORDER
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.raft import Configuration, InstallSnapshot, RaftSettings
from zmqlab.replica import Journal, MemoryJournal, RaftByQuorum, Replica, ReplicaSettings, Start, StateMachine
from zmqlab.replica.snapshotting import HASH_WAITING_MAX, HashedState
from zmqlab.wire import client as client_wire
from zmqlab.wire import records

ALONE = Configuration((1,))
SLICE_BYTES = 10 * ORDER.size
SETTINGS = ReplicaSettings(snapshot_log_bytes=20_000, snapshot_slice_bytes=SLICE_BYTES, keep_bytes=0)
PER_REQUEST = 50
RETAIN_BYTES = 1 << 30
"""All of the log: the tests replay it."""


class CountingMachine(StateMachine):
    """Remembers how many bytes of frozen states were encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded_bytes = 0

    def freeze(self, rows: int = 1) -> Iterator[bytes]:
        return self._count(super().freeze(rows))

    def _count(self, slices: Iterator[bytes]) -> Iterator[bytes]:
        for piece in slices:
            self.encoded_bytes += len(piece)
            yield piece


class Lone:
    """A replica that is a group of its own, and one client."""

    def __init__(self, journal: Journal | None = None, settings: ReplicaSettings = SETTINGS) -> None:
        self.journal = journal or MemoryJournal(RETAIN_BYTES)
        self.machine = CountingMachine()
        stored = self.journal.load()
        if stored.snapshot is not None:
            self.machine.restore(stored.snapshot.data)
        self.replication = RaftByQuorum(Start(1, ALONE, stored, RaftSettings(), random.Random(1)))
        self.replication.campaign()
        self.replica = Replica(self.replication, self.machine, self.journal, Effects(), settings, first_context=1)
        while self.replica.turn():
            pass
        self.replica.take_request(b"client", client_wire.encode_open_session(7), 0)
        self.replica.turn()
        self._session, self._number = self.machine.applied_index, 0

    def place(self, price: int = 100) -> bool:
        """Rest some orders, within one turn; returns whether the turn leaves work."""
        self._number += 1
        order = Command.limit(Side.BUY, "ACME", 5, price, account=7)
        commands = records.pack_commands([order] * PER_REQUEST)
        request = client_wire.encode_request(self._session, self._number, self._number, commands)
        self.replica.take_request(b"client", request, 0)
        return self.replica.turn()

    def grow_until_due(self) -> None:
        """Go on until a snapshot has been begun."""
        while not self.place():
            pass

    def replayed(self, index: int) -> StateMachine:
        """The state at ``index``, by the log."""
        machine = StateMachine()
        for entry in self.journal.read(1, index, RETAIN_BYTES):
            machine.apply(entry)
        return machine


def test_a_snapshot_is_made_in_bounded_turns_while_entries_are_applied() -> None:
    """It took one turn, which grew with the books: the leader lost its office when 100,000 orders rested."""
    lone = Lone()
    lone.grow_until_due()
    begun_at, turns = lone.machine.applied_index, 0
    while lone.replica.snapshots_total == 0:
        before = lone.machine.encoded_bytes
        lone.place(price=100 + turns % 3)
        turns += 1
        assert lone.machine.encoded_bytes - before <= 2 * SLICE_BYTES + 100 * PER_REQUEST, "an answer is encoded whole"
    assert turns > 20
    snapshot = lone.journal.load().snapshot
    assert snapshot is not None
    assert snapshot.index == begun_at < lone.machine.applied_index - 20
    assert snapshot.data == lone.replayed(begun_at).snapshot()
    assert lone.replication.first_index == begun_at + 1, "the log behind it is dropped, and nothing else"
    assert lone.replication.snapshot == snapshot


def test_no_second_snapshot_is_begun_while_one_is_made() -> None:
    lone = Lone()
    lone.grow_until_due()
    begun_at = lone.machine.applied_index
    for _ in range(20):
        lone.place()
    for index, total in (
        (begun_at, 1),
        (lone.machine.applied_index, 2),
    ):  # the log of the meantime makes the second due
        while lone.replica.snapshots_total < total:
            more = lone.replica.turn()
        assert more is (total == 1), "there is more to do while the second is due"
        snapshot = lone.journal.load().snapshot
        assert snapshot is not None
        assert (snapshot.index, lone.replica.snapshots_total) == (index, total)
        assert snapshot.data == lone.replayed(index).snapshot()


@pytest.mark.parametrize("turns", [0, 1, 5, 40])
def test_a_death_while_a_snapshot_is_made_leaves_the_one_before(tmp_path: Path, turns: int) -> None:
    def open_journal() -> LmdbJournal:
        return LmdbJournal(tmp_path / "journal", identity="me", retain_bytes=RETAIN_BYTES, part_bytes=2 * SLICE_BYTES)

    lone = Lone(open_journal())
    lone.grow_until_due()
    while lone.replica.turn():
        pass
    first = lone.journal.load().snapshot
    assert first is not None
    lone.grow_until_due()
    for _ in range(turns):
        assert lone.place(), "it is still being made"
    state, index = lone.machine.snapshot(), lone.machine.applied_index
    lone.journal.close()

    again = Lone(open_journal(), ReplicaSettings(snapshot_log_bytes=1 << 40))
    stored = again.journal.load()
    assert stored.snapshot == first
    replayed = StateMachine()
    replayed.restore(first.data)
    for entry in stored.entries[: index - first.index]:
        replayed.apply(entry)
    assert replayed.snapshot() == state
    again.journal.close()


def test_a_hash_is_made_in_bounded_turns_and_is_not_older_than_its_question() -> None:
    lone = Lone(settings=ReplicaSettings(snapshot_log_bytes=1 << 40, snapshot_slice_bytes=SLICE_BYTES))
    for _ in range(40):
        lone.place()
    found: list[tuple[int, HashedState]] = []

    def ask() -> bool:
        asked_at = lone.machine.applied_index
        return lone.replica.hash_state(lambda state: found.append((asked_at, state)))

    before, turns = lone.machine.encoded_bytes, 0
    assert ask()
    while len(found) < 2:
        assert lone.machine.encoded_bytes - before <= 2 * SLICE_BYTES + 100 * PER_REQUEST
        if turns == 3:
            assert ask()
        before, turns = lone.machine.encoded_bytes, turns + 1
        lone.place()
    assert turns > 100
    for asked_at, state in found:
        machine = lone.replayed(state.log_index)
        assert asked_at <= state.log_index
        assert (state.chain, state.state_hash) == (machine.chain, machine.state_hash())


def test_however_many_ask_for_a_hash_it_is_made_once_for_all_of_them() -> None:
    lone = Lone(settings=ReplicaSettings(snapshot_log_bytes=1 << 40, snapshot_slice_bytes=SLICE_BYTES))
    for _ in range(10):
        lone.place()
    size, before = len(lone.machine.snapshot()), lone.machine.encoded_bytes
    found: list[HashedState] = []
    assert all(lone.replica.hash_state(found.append) for _ in range(HASH_WAITING_MAX + 1))
    assert not lone.replica.hash_state(found.append), "those that wait are bounded"
    while lone.replica.turn():
        pass
    assert len(found) == HASH_WAITING_MAX + 1
    assert len(set(found)) == 1
    assert lone.machine.encoded_bytes - before <= 3 * size


class Follower:
    """A replica that gets a snapshot from node 2."""

    def __init__(self, journal: Journal) -> None:
        self.machine = StateMachine()
        self.journal = journal
        self.replication = RaftByQuorum(Start(1, MEMBERS, journal.load(), RaftSettings(), random.Random(1)))
        self.replica = Replica(self.replication, self.machine, journal, Effects(), SETTINGS, first_context=1)

    def chunk(self, index: int, offset: int, data: bytes, *, done: bool = False, term: int = 1) -> None:
        """A chunk arrives, and its turn."""
        round_ = offset + 1
        self.replica.step(InstallSnapshot(2, 1, term, round_, index, 1, offset, done, data, MEMBERS.encode()))
        self.replica.turn()

    def receive(self, index: int, data: bytes, size: int, *, offset: int = 0, term: int = 1) -> None:
        """The rest of a snapshot, in chunks."""
        for start in range(offset, len(data), size):
            done = start + size >= len(data)
            self.chunk(index, start, data[start : start + size], done=done, term=term)


@pytest.fixture
def source() -> Lone:
    lone = Lone(settings=ReplicaSettings(snapshot_log_bytes=1 << 40))
    for number in range(20):
        lone.place(price=100 + number)
    return lone


@pytest.fixture(params=["memory", "lmdb"])
def follower(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Follower]:
    if request.param == "memory":
        yield Follower(MemoryJournal())
        return
    journal = LmdbJournal(tmp_path / "journal", identity="me", part_bytes=2 * SLICE_BYTES)
    yield Follower(journal)
    journal.close()


@pytest.mark.parametrize("size", [33, 500, 1 << 20])
def test_a_snapshot_is_received_in_chunks(source: Lone, follower: Follower, size: int) -> None:
    index, data = source.machine.applied_index, source.machine.snapshot()
    follower.receive(index, data, size)
    assert follower.machine.snapshot() == data
    assert follower.replication.commit_index == index
    stored = follower.journal.load().snapshot
    assert stored is not None
    assert (stored.index, stored.data) == (index, data)


def test_all_but_the_last_chunk_is_restored_before_raft_takes_the_snapshot(source: Lone, follower: Follower) -> None:
    """The turn of the last chunk must not do the work of all of them."""
    index, data = source.machine.applied_index, source.machine.snapshot()
    restored: list[bytes] = []
    restore = follower.machine.restore
    follower.machine.restore = lambda data: restored.append(data) or restore(data)  # type: ignore[method-assign,func-returns-value]
    follower.receive(index, data, 500)
    assert follower.machine.applied_index == index
    assert restored == []


@pytest.mark.parametrize("offset", [0, 500, 3_000])
def test_a_chunk_that_is_no_part_of_a_state_changes_nothing(source: Lone, follower: Follower, offset: int) -> None:
    """The node stopped, or took over what was sent, also from a stranger."""
    index, data = source.machine.applied_index, source.machine.snapshot()
    for start in range(0, offset, 500):
        follower.chunk(index, start, data[start : start + 500])
    for garbage in (bytes(500), b"\xff" * 500, data[offset : offset + 500]):
        is_last = garbage == data[offset : offset + 500]
        with pytest.raises(FrameError, match=r"0x2 sends a snapshot that can't be restored"):
            follower.chunk(index, offset, garbage if is_last else garbage * 200, done=True)
        follower.replica.turn()
        for start in range(0, offset, 500):
            follower.chunk(index, start, data[start : start + 500])
    assert (follower.machine.applied_index, follower.replication.commit_index) == (0, 0)
    assert follower.journal.load().snapshot is None
    follower.receive(index, data, 500, offset=offset)
    assert follower.machine.snapshot() == data


def test_a_new_leader_begins_anew(source: Lone, follower: Follower) -> None:
    index, data = source.machine.applied_index, source.machine.snapshot()
    follower.chunk(index, 0, data[:500])
    follower.chunk(index, 500, data[500:1_000])
    follower.receive(index, data, 700, term=2)
    assert follower.machine.snapshot() == data
    stored = follower.journal.load().snapshot
    assert stored is not None
    assert stored.data == data


def test_what_is_made_is_given_up_for_what_is_received(source: Lone) -> None:
    lone = Lone()
    lone.grow_until_due()
    index, data = source.machine.applied_index + 1_000, source.machine.snapshot()
    data = index.to_bytes(8, "little") + data[8:]
    for start in range(0, len(data), 500):
        message = InstallSnapshot(
            2, 1, 9, start + 1, index, 9, start, start + 500 >= len(data), data[start : start + 500], MEMBERS.encode()
        )
        lone.replica.step(message)
        lone.replica.turn()
    while lone.replica.turn():
        pass
    assert lone.replica.snapshots_total == 0
    assert lone.machine.snapshot() == data
    stored = lone.journal.load().snapshot
    assert stored is not None
    assert stored.index == index
