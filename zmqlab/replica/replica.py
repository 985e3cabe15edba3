"""One replica: a Raft core, a state machine and a journal, made to work together; and who waits for which answer.

A turn of the node's loop hands in what has arrived (requests of clients, forwarded requests, Raft messages, ticks) and
then calls :meth:`Replica.turn`, which carries out Raft's ``Ready`` contract until nothing is left to do:

1. send what promises nothing (a leader's appends go out while its own copy is still to be written; thesis, 10.2.1);
2. store term, vote and entries in one transaction;
3. send what that promised (votes, acknowledgements);
4. apply what is committed, and answer the clients whose requests this node took;
5. tell Raft, which may have more.

A request waits in ``pending`` at the node that took it, and only there, until this node itself applies it. It goes to
the leader with all others of the turn in one frame. When the leader changes, all that is pending is sent again: the
sessions make that harmless. A client that asks again makes its request go again, too.

Reads are linearizable through Raft's ReadIndex (thesis, section 6.4): a query waits until this node has applied the
index that the leader confirmed.

Left out on purpose: time (the node measures it), sockets, and what a query means (the caller gives a function).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from zmqlab.raft import Raft, Ready, Role
from zmqlab.raft.messages import Entry, Message
from zmqlab.replica.journal import Journal
from zmqlab.replica.machine import Applied, StateMachine
from zmqlab.replica.members import Members
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames
from zmqlab.wire.client import ResponseStatus

Route = bytes
"""How the node finds a client again: what its ROUTER calls it."""


class Driver(Protocol):
    """The effects of a replica. The node sends and stores for real; the simulator may crash in any of these calls."""

    def send(self, messages: Iterable[Message]) -> None:
        """To peers; any may be lost. A message to BROADCAST goes to all of them."""
        ...

    def forward(self, leader_id: int, requests: list[bytes]) -> None:
        """Requests of clients to the leader; may be lost."""
        ...

    def answer(self, answers: list[tuple[Route, bytes]]) -> None:
        """Response bodies to the clients of this node; may be lost."""
        ...

    def applied(self, entry: Entry, applied: Applied) -> None:
        """An entry with an answer was applied: for trades and counters."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """Bounds of one replica."""

    max_pending_bytes: int = 67_108_864
    """Of those requests: without a leader nothing is answered, and 8,192 of the largest would be 335 MB."""
    max_pending: int = 8_192
    """Requests that wait here for their answers; beyond it a client is told BUSY."""
    max_reads: int = 1_024
    """Queries that wait for a read index, or for the entries up to it."""
    read_ticks: int = 300
    """A query that could not be answered for so long fails: no leader."""
    snapshot_log_bytes: int = 16_777_216
    keep_bytes: int = 4_194_304
    """How much of the log stays in memory behind a snapshot, for followers that are only a little behind."""
    max_unproposed: int = 16_384
    """Forwarded requests that wait while leadership is being handed over."""
    resend_ticks: int = 100
    """A request that has waited for so long goes to the leader again: its frame may have been lost on the way."""


class Pending(NamedTuple):
    """A request that this node took and has not answered."""

    route: Route
    frame: bytes
    received_ns: int
    received_tick: int


class Read(NamedTuple):
    """A query that waits for its read index."""

    finish: Callable[[bool], None]
    """Called once: with True when the state machine may be read, with False when there is no leader."""
    deadline_tick: int


class Replica:
    """See the module. Not thread-safe: one loop owns it."""

    def __init__(
        self, raft: Raft, machine: StateMachine, journal: Journal, driver: Driver, settings: ReplicaSettings
    ) -> None:
        self.raft = raft
        self.machine = machine
        self.journal = journal
        self.settings = settings
        self.members = Members(raft)
        self.pending: dict[tuple[int, int], Pending] = {}
        self._pending_bytes = 0
        """The sum of the pending frames."""
        self.answered: list[int] = []
        """``received_ns`` of the requests that the last turn answered; the node takes and clears it."""
        self.snapshots_total = 0
        self.elections_total = 0
        self._driver = driver
        self._tick = 0
        self._to_propose: list[bytes] = []
        self._leader_seen = (0, 0)  # (term, leader_id) that pending requests were last sent to
        self._reads: dict[int, Read] = {}
        self._ready_reads: deque[tuple[int, Read]] = deque()  # (index, read), in the order of their indexes
        self._next_context = raft.rng.getrandbits(62) + 1  # an answer to an earlier life of this node must not fit
        self._bytes_since_snapshot = 0

    # What comes in.

    def take_request(self, route: Route, frame: bytes, now_ns: int) -> bytes | None:
        """A client's REQUEST or OPEN_SESSION whose key is :func:`request_key`.

        Returns a response body where the answer is known at once: applied before, or this node is too busy.

        Raises:
            FrameError: the frame is not a valid request. Nothing has changed.
        """
        key = request_key(frame)
        stored = self.machine.sessions.peek(*key) if key[0] else None
        if stored is not None:
            return client_wire.replayed(stored)
        self._forget(key)  # one that is asked for again moves to the end: the order is that of arrival
        room = self.settings.max_pending_bytes - self._pending_bytes
        if len(self.pending) >= self.settings.max_pending or len(frame) > room:
            return client_wire.encode_response(*key, 0, ResponseStatus.BUSY, 0, b"", b"")
        self.pending[key] = Pending(route, frame, now_ns, self._tick)
        self._pending_bytes += len(frame)
        self._to_propose.append(frame)
        return None

    def take_forwarded(self, requests: list[bytes]) -> None:
        """Requests that other nodes took. Only a leader wants them; their takers send them again when it changes.

        Raises:
            FrameError: one of them is not a valid request. Nothing has changed.
        """
        for frame in requests:
            request_key(frame)
        if self.raft.role is Role.LEADER and len(self._to_propose) < self.settings.max_unproposed:
            self._to_propose.extend(requests)

    def step(self, message: Message) -> None:
        """A Raft message from a peer."""
        self.raft.step(message)

    def tick(self) -> None:
        """One tick of time has passed."""
        self._tick += 1
        self.raft.tick()
        self.members.tick()
        self._expire_reads()
        if self._tick % self.settings.resend_ticks == 0:
            self._resend_overdue()

    def read(self, finish: Callable[[bool], None]) -> None:
        """Call ``finish(True)`` once the state machine may be read linearizably, ``finish(False)`` if it can't be."""
        if len(self._reads) + len(self._ready_reads) >= self.settings.max_reads:
            finish(False)
            return
        context, self._next_context = self._next_context, self._next_context + 1
        self._reads[context] = Read(finish, self._tick + self.settings.read_ticks)
        self.raft.read_index(context)

    # What goes out.

    def turn(self) -> bool:
        """Carry out what can be done now; returns whether there is more, for another turn right after this one.

        Of a long log one portion is applied a turn (``RaftSettings.max_apply_bytes``). A node that starts again replays
        its log: seconds of work, in which it must hear its peers, vote, and store what they send, or a majority that
        runs would not be one that serves.
        """
        self._resend_to_new_leader()
        self._propose()
        more = False
        while not more and self.raft.is_ready():
            commit_index = self.raft.commit_index
            ready = self.raft.ready()
            self._carry_out(ready)
            more = bool(ready.committed) and ready.committed[-1].index < commit_index
            self._resend_to_new_leader()
            self._propose()
        self._maybe_snapshot()
        return more

    def _forget(self, key: tuple[int, int]) -> Pending | None:
        """Take a request out of those that wait, if it is one."""
        waiting = self.pending.pop(key, None)
        if waiting is not None:
            self._pending_bytes -= len(waiting.frame)
        return waiting

    def _resend_to_new_leader(self) -> None:
        seen = (self.raft.term, self.raft.leader_id)
        if seen != self._leader_seen and self.raft.leader_id:
            self._leader_seen = seen
            self._to_propose = [waiting.frame for waiting in self.pending.values()]

    def _resend_overdue(self) -> None:
        for waiting in self.pending.values():
            if waiting.received_tick > self._tick - self.settings.resend_ticks:
                break  # the pending ones stand in the order of their arrival
            self._to_propose.append(waiting.frame)

    def _propose(self) -> None:
        """Hand this turn's requests to Raft, or to the leader; keep them while there is none."""
        requests = self._to_propose
        if not requests:
            return
        if self.raft.role is Role.LEADER:
            if self.raft.propose(requests):
                self._to_propose = []
        elif self.raft.leader_id:
            self._to_propose = []
            self._driver.forward(self.raft.leader_id, requests)
        elif len(requests) > len(self.pending):
            self._to_propose = [waiting.frame for waiting in self.pending.values()]

    def _carry_out(self, ready: Ready) -> None:
        if ready.send_now:
            self._driver.send(ready.send_now)
        if ready.snapshot is not None:
            self.machine.restore(ready.snapshot.data)  # first: what fails here must not meet us at the next start
        if ready.hard_state is not None or ready.entries or ready.snapshot is not None:
            self.journal.store(ready.hard_state, ready.entries, ready.snapshot)
        if ready.snapshot is not None:
            self._bytes_since_snapshot = 0
            self._answer_from_snapshot()
        if ready.send_stored:
            self._driver.send(ready.send_stored)
        if ready.committed:
            self._apply(ready.committed)
        if ready.role_changed and self.raft.role is Role.LEADER:
            self.elections_total += 1
        self.raft.advance(ready)
        self._take_reads(ready)

    def _apply(self, entries: list[Entry]) -> None:
        answers: list[tuple[Route, bytes]] = []
        for entry in entries:
            self._bytes_since_snapshot += len(entry.data)
            applied = self.machine.apply(entry)
            if applied is None:
                continue
            self._driver.applied(entry, applied)
            waiting = self._forget(applied.key)
            if waiting is not None:
                answers.append((waiting.route, applied.body))
                self.answered.append(waiting.received_ns)
        if answers:
            self._driver.answer(answers)

    def _answer_from_snapshot(self) -> None:
        """Requests that wait here may have been applied within the snapshot, and no entry will come to answer them.

        Sent to the leader again, they would fill the log with what is done. A node far behind could so keep itself
        behind for ever: each resend makes the leader compact, and the next snapshot is due before this one is in.
        """
        answers: list[tuple[Route, bytes]] = []
        for key, waiting in list(self.pending.items()):
            stored = self.machine.sessions.peek(*key)
            if stored is not None:
                answers.append((waiting.route, client_wire.replayed(stored)))
                self.answered.append(waiting.received_ns)
            if stored is not None or self.machine.sessions.is_over(*key):
                self._forget(key)
        if answers:
            self._driver.answer(answers)

    def _take_reads(self, ready: Ready) -> None:
        for context, index in ready.reads:
            read = self._reads.pop(context, None)
            if read is not None:
                self._ready_reads.append((index, read))
        for context in ready.failed_reads:
            read = self._reads.pop(context, None)
            if read is not None:
                read.finish(False)
        while self._ready_reads and self._ready_reads[0][0] <= self.machine.applied_index:
            self._ready_reads.popleft()[1].finish(True)

    def _expire_reads(self) -> None:
        late = [context for context, read in self._reads.items() if read.deadline_tick <= self._tick]
        for context in late:
            self._reads.pop(context).finish(False)
        while self._ready_reads and self._ready_reads[0][1].deadline_tick <= self._tick:
            self._ready_reads.popleft()[1].finish(False)  # its index is known, but the entries up to it don't come

    # Snapshots.

    def _maybe_snapshot(self) -> None:
        if self._bytes_since_snapshot < self.settings.snapshot_log_bytes:
            return
        if self.raft.configurations.at(self.machine.applied_index).voters:
            self.take_snapshot()  # a node that joins does not know the members before the entry that took it in

    def take_snapshot(self) -> None:
        """Store a snapshot of the state as it is now, and drop the log behind it."""
        index = self.machine.applied_index
        assert index == self.raft.applied_index, "a snapshot is taken between two turns of Raft"
        snapshot = self.raft.make_snapshot(self.machine.snapshot())
        self.journal.store_snapshot(snapshot)
        self.raft.compact(snapshot, self._entries_to_keep(index))
        self._bytes_since_snapshot = 0
        self.snapshots_total += 1

    def _entries_to_keep(self, index: int) -> int:
        """How many entries up to ``index`` fit the memory that is kept for followers a little behind."""
        entries = index - self.raft.first_index + 1
        if entries <= 0:
            return 0
        mean_bytes = max(1, self.raft.log_bytes // max(1, self.raft.last_index - self.raft.first_index + 1))
        return min(entries, self.settings.keep_bytes // mean_bytes)


def request_key(frame: bytes) -> tuple[int, int]:
    """``(client_id, request_number)`` of a request, ``(0, nonce)`` of an opened session. Raises FrameError."""
    frame_type, _ = frames.parse_header(frame)
    if frame_type == frames.OPEN_SESSION:
        return 0, client_wire.parse_open_session(frame)
    header = client_wire.parse_request(frame)
    return header.client_id, header.request_number
