"""One replica: a replication, a state machine and a journal, made to work together; and the requests that wait.

A turn of the node's loop hands in what has arrived (requests of clients, forwarded requests, messages, ticks) and then
calls :meth:`Replica.turn`, which carries out the ``Ready`` contract (:mod:`zmqlab.raft`) until nothing is left to do:

1. send what promises nothing about the disk;
2. store term, vote and entries in one transaction;
3. send what that promised (votes, acknowledgements, a leader's entries if its message says that they are stored);
4. apply what may be applied, and answer the clients whose requests this node took;
5. tell the replication, which may have more.

*Requests.* A request waits in ``pending`` at the node that took it, and only there, until this node itself applies it
and the replication lets it answer. It goes to the leader with the other requests of the turn, in frames of at most
``forward_bytes``: a peer drops a frame above its limit, and the next try would be as large. When the leader changes,
all that is pending is sent again. Otherwise a request goes again only if its answer is late, measured by how long
answers take at this time, and at doubling intervals. The leader drops a copy of a request that it has already proposed
in its term or applied: while it leads, the first copy stands in its log. So a slow cluster does not get more work
because it is slow. The sessions make any further copy harmless.

*Reads* are linearizable through ReadIndex (thesis, section 6.4): a query waits until this node has applied the index
that the leader confirmed.

*Snapshots* and state hashes are made beside all that, a share of them a turn (:mod:`zmqlab.replica.snapshotting`).

Left out on purpose: time (the node measures it), sockets, and what a query means (the caller gives a function).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from zmqlab.raft import InstallSnapshot, Ready
from zmqlab.raft.messages import NOBODY, AppendEntries, Entry, Message
from zmqlab.raft.state import LEADER
from zmqlab.replica.driver import Driver, Key, ReplicaSettings, Route, Steps
from zmqlab.replica.journal import Journal
from zmqlab.replica.machine import StateMachine
from zmqlab.replica.replication import Replication
from zmqlab.replica.snapshotting import Finish, SnapshotSettings, Snapshotting
from zmqlab.replica.waiting_reads import Read, WaitingReads
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames
from zmqlab.wire.client import ResponseStatus

MAX_DOUBLINGS = 4
"""Of the pause before a request is sent to the leader again: 16 times the first one."""
LATE_FACTOR = 3
"""An answer is late after so many times the time that answers take."""


@dataclass(slots=True)
class Pending:
    """A request that this node took and has not answered."""

    route: Route
    frame: bytes
    received_ns: int
    received_tick: int
    sent_tick: int
    """When it last went to the leader, or began to wait for one; ``>= received_tick``."""
    resends: int = 0
    """How often it went to the same leader again."""


class Held(NamedTuple):
    """An answer whose entry is applied and that may not be given yet."""

    log_index: int
    route: Route
    body: bytes
    received_ns: int


class Replica:
    """Drives one replication and applies what it commits; see the module. Not thread-safe: one loop owns it."""

    def __init__(
        self,
        replication: Replication,
        machine: StateMachine,
        journal: Journal,
        driver: Driver,
        settings: ReplicaSettings,
        first_context: int,
    ) -> None:
        """``first_context``: see :class:`~zmqlab.replica.waiting_reads.WaitingReads`."""
        self.replication = replication
        self.machine = machine
        self.journal = journal
        self.settings = settings
        self.pending: dict[Key, Pending] = {}
        """In the order of arrival."""
        self._pending_bytes = 0
        """The sum of the pending frames."""
        self.answered: list[int] = []
        """``received_ns`` of the requests that the last turn answered; the node takes and clears it."""
        self.elections_total = 0
        self.proposes = True
        """Whether this leader appends requests; False: they wait, as while leadership is handed over."""
        self.steps: Steps | None = None
        """Told of each step; None: no watch."""
        self._driver = driver
        self._tick = 0
        self._to_propose: list[tuple[Key, bytes]] = []
        self._proposed: set[Key] = set()
        """Of a leader: requests that it has proposed in ``_proposed_in`` and not applied. Each stands in its log."""
        self._proposed_in = 0
        self._askers: set[int] = set()
        """Nodes that have passed on requests of their clients, and wait for their commit; the leader is to be told."""
        self._commit_at_ready = 0
        """The commit index when the last Ready was taken."""
        self._known_commit = 0
        """Up to here the log is committed, as a leader said last."""
        self._leader_seen = (0, 0)  # (term, leader_id) that pending requests were last sent to
        self._answer_ticks = 0.0
        """How long answers take: a moving mean, in ticks."""
        self._held: list[Held] = []
        self._reads = WaitingReads(first_context)
        self._snapshotting = Snapshotting(machine, replication, journal, _of_snapshots(settings))

    def rebound(self, settings: ReplicaSettings) -> None:
        """Other bounds hold from now on. What exceeds them stays: a request that was taken is answered, and the log
        shrinks by the next snapshot."""
        self.settings = settings
        self._snapshotting.settings = _of_snapshots(settings)

    @property
    def snapshots_total(self) -> int:
        """Snapshots made since this node started."""
        return self._snapshotting.total

    # What comes in.

    def take_request(self, route: Route, frame: bytes, now_ns: int) -> bytes | None:
        """A client's REQUEST or OPEN_SESSION whose key is :func:`request_key`.

        Returns a response body where the answer is known at once: applied before, or over, or this node is too busy.

        Raises:
            FrameError: the frame is not a valid request. Nothing has changed.
        """
        key = request_key(frame)
        stored = self.machine.sessions.peek(*key) if key[0] else None
        if stored is not None:
            return self._replay(route, stored, now_ns)
        if key[0] and self.machine.sessions.is_over(*key):
            return client_wire.encode_response(*key, 0, ResponseStatus.STALE)
        self._forget(key)  # a request that comes again moves to the end: the order is that of arrival
        room = self.settings.max_pending_bytes - self._pending_bytes
        if len(self.pending) >= self.settings.max_pending or len(frame) > room or self._is_far_behind():
            return client_wire.encode_response(*key, 0, ResponseStatus.BUSY, 0, b"", b"")
        self.pending[key] = Pending(route, frame, now_ns, self._tick, self._tick)
        self._pending_bytes += len(frame)
        self._to_propose.append((key, frame))
        return None

    def fail_reads(self) -> None:
        """No read that waits will be served here any more."""
        self._reads.expire(1 << 62)

    def _is_far_behind(self) -> bool:
        """Whether this node follows a leader and has much to catch up with.

        It would pass a request on at once and answer late. Clients share their requests between all nodes; so soon all
        that they may have outstanding would wait here, and the nodes that serve would get nothing to do.
        """
        replication = self.replication
        behind = max(self._known_commit, replication.commit_index) - self.machine.applied_index
        return behind > self.settings.max_behind and replication.leader_id not in (NOBODY, replication.node_id)

    def _replay(self, route: Route, stored: bytes, now_ns: int) -> bytes | None:
        """The first answer again; later, if even the first one may not be given yet."""
        body = client_wire.replayed(stored)
        index = client_wire.log_index_of(body)
        if index <= self.replication.answerable_index:
            return body
        self._held.append(Held(index, route, body, now_ns))
        return None

    def take_forwarded(self, requests: list[bytes], sender: int = NOBODY) -> None:
        """Requests that other nodes took. Only a leader wants them; the other nodes send them again when it changes.

        ``sender``: the node that passes these on, and is to be told of their commit.

        Raises:
            FrameError: one of them is not a valid request. Nothing has changed.
        """
        keyed = [(request_key(frame), frame) for frame in requests]
        if self.replication.role is LEADER and len(self._to_propose) < self.settings.max_unproposed:
            self._to_propose.extend(keyed)
            if keyed and sender:
                self._askers.add(sender)

    def step(self, message: Message) -> None:
        """A message of the replication from a peer.

        Raises:
            FrameError: it is a chunk of a snapshot that can't be restored.
        """
        if isinstance(message, AppendEntries):
            self._known_commit = message.commit_index
        elif isinstance(message, InstallSnapshot):
            self._snapshotting.check_chunk(message)
        self.replication.step(message)

    def tick(self) -> None:
        """One tick of time has passed."""
        self._tick += 1
        self.replication.tick()
        if self._reads:
            self._reads.expire(self._tick)
        if self._tick % self.settings.resend_ticks == 0:
            self._resend_late()

    def read(self, finish: Callable[[bool], None]) -> None:
        """Call ``finish(True)`` once the state machine may be read linearizably, ``finish(False)`` if it can't be."""
        if len(self._reads) >= self.settings.max_reads:
            finish(False)
            return
        self.replication.read_index(self._reads.ask(Read(finish, self._tick + self.settings.read_ticks)))

    def hash_state(self, finish: Finish) -> bool:
        """Call ``finish`` with the hashes of a state that is not older than this call. False: too many ask already."""
        return self._snapshotting.hash_state(finish)

    # What goes out.

    def turn(self) -> bool:
        """Carry out what can be done now; returns whether there is more, for another turn right after this one.

        Of a long log one portion is applied a turn (``RaftSettings.max_apply_bytes``). A node that starts again replays
        its log: seconds of work, in which it must hear its peers, vote, and store what they send, or a majority that
        runs would not be one that serves.
        """
        self.begin_turn()
        more = False
        while not more and (ready := self.take_ready()) is not None:
            if must_store(ready):
                self.store(ready)
            self.send_stored(ready)
            more = self.follow_up(ready)
        return self.end_turn() or more

    # A turn in its parts, for a node with many groups, which store together.

    def begin_turn(self) -> None:
        """Hand on what has come in since the last turn."""
        self._resend_to_new_leader()
        if self._to_propose:
            self._propose()
        self._snapshotting.write_ahead()

    def take_ready(self) -> Ready | None:
        """What is to be done next, without what promises nothing about the disk: that is done. None: nothing.

        What is to be stored (:func:`must_store`) goes to :meth:`store`, and all of it to :meth:`send_stored` and then
        to :meth:`follow_up` once that is in the journal.
        """
        replication = self.replication
        if not replication.is_ready():
            return None
        self._commit_at_ready = replication.commit_index
        ready = replication.ready()
        if ready.send_now:
            self._driver.send(ready.send_now)
        if ready.snapshot is not None:
            self._snapshotting.install(ready.snapshot)  # before it is stored: a bad one would fail every later start
        return ready

    def store(self, ready: Ready) -> None:
        """Put into the journal what ``ready`` has for it. Raises JournalFull."""
        self.journal.store(ready.hard_state, ready.entries, ready.snapshot)

    def send_stored(self, ready: Ready) -> None:
        """Send what promises that ``ready`` is stored, once it is."""
        if self.steps is not None and must_store(ready):
            self.steps.stored(ready)
        if ready.send_stored:
            self._driver.send(ready.send_stored)

    def follow_up(self, ready: Ready) -> bool:
        """All else that follows once ``ready`` is stored; returns whether there is more, for another turn."""
        if ready.snapshot is not None:
            self._settle_pending()
        if ready.committed:
            if self.steps is not None:
                self.steps.committed(ready.committed)
            self._apply(ready.committed)
        if ready.role_changed and self.replication.role is LEADER:
            self.elections_total += 1
        self.replication.advance(ready)
        if self._held:
            self._give_held()
        if self._reads:
            self._reads.take(ready, self.machine.applied_index)
        self._resend_to_new_leader()
        if self._to_propose:
            self._propose()
        return bool(ready.committed) and ready.committed[-1].index < self._commit_at_ready

    def end_turn(self) -> bool:
        """The turn's share of large work; returns whether there is more to do, also by what that work has led to."""
        return self._snapshotting.work()

    def _forget(self, key: Key) -> Pending | None:
        """Take a request out of those that wait, if it is one."""
        waiting = self.pending.pop(key, None)
        if waiting is not None:
            self._pending_bytes -= len(waiting.frame)
        return waiting

    def _resend_to_new_leader(self) -> None:
        replication = self.replication
        leader_id = replication.leader_id
        seen_in, seen = self._leader_seen
        if leader_id and (seen != leader_id or seen_in != replication.term):
            self._leader_seen = replication.term, leader_id
            self._settle_pending()
            for waiting in self.pending.values():
                waiting.sent_tick, waiting.resends = self._tick, 0
            self._to_propose = self._pending_frames()
            self._askers.clear()  # what they have passed on is dropped with the rest; each sends it to the new leader

    def _settle_pending(self) -> None:
        """Answer those requests that wait here and are done: no entry will come that answers them.

        They were applied within a snapshot, or their clients have the answers, from other nodes: those get STALE, as
        from the log. Sent to the leader again, they would fill the log with what is done. A node far behind could so
        keep itself behind for ever: each resend makes the leader compact, and the next snapshot is due before this one
        is in.
        """
        sessions, answers = self.machine.sessions, []
        for key in [key for key in self.pending if key[0] and sessions.is_done(*key)]:
            waiting, stored = self.pending[key], sessions.peek(*key)
            self._forget(key)
            if stored is None:
                answers.append((waiting.route, client_wire.encode_response(*key, 0, ResponseStatus.STALE)))
                continue
            body = self._replay(waiting.route, stored, waiting.received_ns)
            if body is not None:
                answers.append((waiting.route, body))
                self.answered.append(waiting.received_ns)
        if answers:
            self._driver.answer(answers)

    def _pending_frames(self) -> list[tuple[Key, bytes]]:
        return [(key, waiting.frame) for key, waiting in self.pending.items()]

    def _resend_late(self) -> None:
        """Send again what waits for much longer than answers take, each request at doubling intervals."""
        pause = max(self.settings.resend_ticks, LATE_FACTOR * self._answer_ticks)
        pause_max = self.settings.resend_ticks << MAX_DOUBLINGS  # waits for a lost copy count as answer times, too
        self._settle_pending()
        for key, waiting in self.pending.items():
            if waiting.received_tick > self._tick - self.settings.resend_ticks:
                break  # the pending ones stand in the order of their arrival
            if self._tick - waiting.sent_tick >= min(pause * 2 ** min(waiting.resends, MAX_DOUBLINGS), pause_max):
                waiting.sent_tick = self._tick
                waiting.resends += 1
                self._to_propose.append((key, waiting.frame))

    def _propose(self) -> None:
        """Hand this turn's requests to the log, or to the leader; keep them while there is none."""
        requests = self._to_propose
        if self.replication.role is LEADER:
            self._propose_as_leader(requests)
        elif self.replication.leader_id:
            self._to_propose = []
            for batch in frames.slices([frame for _, frame in requests], self.settings.forward_bytes):
                self._driver.forward(self.replication.leader_id, batch)
        elif len(requests) > len(self.pending):
            self._to_propose = self._pending_frames()

    def _propose_as_leader(self, requests: list[tuple[Key, bytes]]) -> None:
        if not self.proposes:
            return
        if self._proposed_in != self.replication.term:
            self._proposed_in, self._proposed = self.replication.term, set()
        proposed, is_done = self._proposed, self.machine.sessions.is_done
        new = {key: frame for key, frame in requests if key not in proposed and not (key[0] and is_done(*key))}
        if not new:
            self._to_propose = []
        elif self.replication.propose(list(new.values())):
            self._to_propose = []
            self._proposed |= new.keys()
        if self._askers and not self._to_propose:
            for node_id in sorted(self._askers):
                self.replication.await_commit(node_id)  # also if its requests stand in the log already
            self._askers.clear()

    def _apply(self, entries: list[Entry]) -> None:
        answers: list[tuple[Route, bytes]] = []
        answerable_index = self.replication.answerable_index
        waiting = None
        for entry in entries:
            self._snapshotting.applied_bytes += len(entry.data)
            applied = self.machine.apply(entry)
            if applied is None:
                continue
            self._driver.applied(entry, applied)
            if entry.term == self._proposed_in:  # a copy of an older term may come before the one in this term
                self._proposed.discard(applied.key)
            taken = self._forget(applied.key)
            if taken is None:
                continue
            waiting = taken
            if entry.index <= answerable_index:
                answers.append((taken.route, applied.body))
                self.answered.append(taken.received_ns)
            else:
                self._held.append(Held(entry.index, taken.route, applied.body, taken.received_ns))
        if answers:
            self._driver.answer(answers)
        if waiting is not None:
            self._answer_ticks += (self._tick - waiting.received_tick - self._answer_ticks) / 8

    def _give_held(self) -> None:
        """Answers whose entries were applied before they could be answered."""
        answerable_index = self.replication.answerable_index
        due = [held for held in self._held if held.log_index <= answerable_index]
        if due:
            self._held = [held for held in self._held if held.log_index > answerable_index]
            self.answered += [held.received_ns for held in due]
            self._driver.answer([(held.route, held.body) for held in due])


def _of_snapshots(settings: ReplicaSettings) -> SnapshotSettings:
    return SnapshotSettings(
        log_bytes=settings.snapshot_log_bytes,
        keep_bytes=settings.keep_bytes,
        slice_bytes=settings.snapshot_slice_bytes,
    )


def must_store(ready: Ready) -> bool:
    """Whether ``ready`` has something for the journal."""
    return ready.hard_state is not None or bool(ready.entries) or ready.snapshot is not None


def request_key(frame: bytes) -> Key:
    """``(client_id, request_number)`` of a request, ``(0, nonce)`` of an opened session. Raises FrameError."""
    frame_type, _ = frames.parse_header(frame)
    if frame_type == frames.OPEN_SESSION:
        return 0, client_wire.parse_open_session(frame)
    header = client_wire.parse_request(frame)
    return header.client_id, header.request_number
