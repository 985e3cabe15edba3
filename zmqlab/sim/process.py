"""One simulated node process: a disk that stays, and a production replica that comes and goes.

This is the node's loop (:mod:`zmqlab.node.node`) with virtual sockets and a virtual clock: frames wait in an inbox
until the turn, a turn handles them, ticks as often as time has passed (at most three times, as there), lets the
replica act, and sends the answers. Replica, state machine, Raft and the wire's encoding are the production ones.

A process can end at any effect. ``crash_in`` counts down with each message sent, each write begun and each write done;
at zero :class:`Crash` is raised there, and what was not yet sent or stored is gone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from zmqlab.errors import JournalFull
from zmqlab.raft import BROADCAST, AppendEntries, Configuration, HardState, Message, Raft, Snapshot
from zmqlab.raft.messages import Entry
from zmqlab.replica import Applied, Replica, StateMachine
from zmqlab.sim.checkers import Elections, Ledger, Logs, Violation
from zmqlab.sim.disk import Disk
from zmqlab.sim.network import Network
from zmqlab.sim.settings import TICK_US, Plan
from zmqlab.sim.trace import Trace
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.peer import decode_forward, decode_message, encode_forward, encode_message

MAX_TICKS_PER_TURN = 3
"""As in the node."""


class Crash(Exception):
    """The process ends here."""


@dataclass(slots=True)
class Surroundings:
    """What all processes of a run share."""

    plan: Plan
    at: Callable[..., None]
    now_us: Callable[[], int]
    network: Network
    tell: Callable[[str], None]
    on_leader: Callable[[Process], None]
    """A process has become leader; the faults want to know."""
    elections: Elections
    logs: Logs
    ledger: Ledger
    trace: Trace | None
    """None unless somebody wants one."""

    def note(self, event: str, **fields: Any) -> None:
        """An event for the trace."""
        if self.trace is not None:
            self.trace.add(self.now_us(), event, **fields)


class ObservedMachine(StateMachine):
    """The production state machine, watched by the ledger."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.around.plan.limits)
        self._process = process

    def apply(self, entry: Entry) -> Applied | None:
        applied = super().apply(entry)
        process = self._process
        process.around.ledger.applied(process.node_id, process.term, entry, applied, self.chain)
        if process.around.trace is not None:
            fields = {"term": entry.term, "kind": entry.kind.name.lower(), "chain": self.chain.hex()}
            process.around.note("applied", node=process.node_id, index=entry.index, **fields)
        return applied

    def restore(self, data: bytes) -> None:
        before = self.applied_index
        super().restore(data)
        if self.applied_index < before:
            raise Violation(f"node {self._process.node_id} falls back from {before} to {self.applied_index}")
        self._process.around.ledger.same_chain(self._process.node_id, self.applied_index, self.chain)


class Process:
    """See the module. ``replica`` is None while it is down."""

    def __init__(self, node_id: int, voters: tuple[int, ...], around: Surroundings, rng: random.Random) -> None:
        self.node_id = node_id
        self.around = around
        self.replica: Replica | None = None
        self.crash_in = 0
        """Effects until the process ends; 0: it does not."""
        self.paused = False
        self.crashes = 0
        self.snapshots = 0
        self.disk = Disk(around.plan.retain_bytes, self._effect, self._stored)
        self._voters = voters
        self._rng = rng
        self._tick_us = round(TICK_US / around.plan.clock_rates[node_id - 1])
        self._life = 0
        """Counts starts, so that an event of an earlier life is known."""
        self._inbox: list[tuple[int, bytes]] = []
        self._outbox: dict[int, list[bytes]] = {}
        self._next_tick_us = 0
        self._turn_is_due = False

    @property
    def term(self) -> int:
        """Of a running process; otherwise 0."""
        return self.replica.raft.term if self.replica else 0

    @property
    def running(self) -> Replica:
        assert self.replica is not None, "the process is down"
        return self.replica

    # Life and death.

    def start(self, campaign: bool = False) -> None:
        """Begin from what the disk has, as the node does."""
        stored = self.disk.load()
        machine = ObservedMachine(self)
        if stored.snapshot is not None:
            machine.restore(stored.snapshot.data)
        raft = Raft(
            self.node_id,
            stored.snapshot.configuration if stored.snapshot else Configuration(self._voters),
            self.around.plan.raft,
            self._rng,
            hard_state=stored.hard_state,
            snapshot=stored.snapshot,
            entries=stored.entries,
        )
        if campaign:
            raft.campaign()
        self.replica = Replica(raft, machine, self.disk, self, self.around.plan.replica)
        self._life += 1
        self._inbox, self._outbox, self._turn_is_due, self.paused = [], {}, False, False
        self._next_tick_us = self.around.now_us() + self._tick_us
        self.around.at(self._tick_us, self._tick, self._life)
        indexes = {"last_index": raft.last_index, "applied_index": machine.applied_index}
        self.around.note("started", node=self.node_id, term=raft.term, **indexes)

    def crash(self, why: str) -> None:
        """End at once; only the disk stays."""
        self.around.tell(f"node {self.node_id} crashes {why}")
        self.around.note("crashed", node=self.node_id, why=why)
        if self.replica is not None:
            self.snapshots += self.replica.snapshots_total
        self.replica = None
        self.crash_in = 0
        self.crashes += 1

    def resume(self) -> None:
        """After a pause: everything that came meanwhile is there."""
        self.paused = False
        if self.replica is not None:
            self._turn(self._life)

    # The loop.

    def deliver(self, sender: int, frame: bytes) -> None:
        """A frame has arrived."""
        if self.replica is None:
            return
        self._inbox.append((sender, frame))
        if not self._turn_is_due:
            self._turn_is_due = True
            turn_us = self.around.plan.turn_us
            if turn_us:
                self.around.at(int(self._rng.random() * turn_us), self._turn, self._life)
            else:
                self._turn(self._life)

    def _tick(self, life: int) -> None:
        if life == self._life and self.replica is not None:
            self._turn(life)
            self.around.at(self._tick_us, self._tick, life)

    def _turn(self, life: int) -> None:
        if life != self._life or self.replica is None or self.paused:
            return
        self._turn_is_due = False
        try:
            self._take_turn(self.replica)
        except Crash as crash:
            self.crash(str(crash))
        except JournalFull:
            self.crash("because its disk is full")

    def _take_turn(self, replica: Replica) -> None:
        inbox, self._inbox = self._inbox, []
        for sender, frame in inbox:
            self._handle(replica, sender, frame)
        self._let_time_pass(replica)
        replica.turn()
        if self.around.elections.check_leader(replica.raft):
            self.around.tell(f"node {self.node_id} leads term {replica.raft.term}")
            self.around.note("leads", node=self.node_id, term=replica.raft.term)
            self.around.on_leader(self)
        self._flush()
        replica.answered = []

    def _let_time_pass(self, replica: Replica) -> None:
        now_us, ticks = self.around.now_us(), 0
        while self._next_tick_us <= now_us and ticks < MAX_TICKS_PER_TURN:
            replica.tick()
            self._next_tick_us += self._tick_us
            ticks += 1
        if self._next_tick_us <= now_us:
            self._next_tick_us = now_us + self._tick_us

    def _handle(self, replica: Replica, sender: int, frame: bytes) -> None:
        frame_type, _ = frames.parse_header(frame)
        if frame_type in (frames.REQUEST, frames.OPEN_SESSION):
            body = replica.take_request(sender.to_bytes(2, "little"), frame, self.around.now_us() * 1_000)
            if body is not None:
                self._outbox.setdefault(sender, []).append(body)
        elif frame_type == frames.QUERY:
            query = control.decode_query(frame)
            assert isinstance(query, control.BookQuery), "the simulated clients read books"
            self._read(replica, sender, query)
        elif frame_type == frames.FORWARD:
            replica.take_forwarded(decode_forward(frame)[1])
        else:
            replica.step(decode_message(frame_type, frame))

    def _read(self, replica: Replica, sender: int, query: control.BookQuery) -> None:
        def finish(readable: bool) -> None:
            machine = replica.machine
            depth = machine.exchange.depth(query.symbol, query.levels)
            bids = [(row[0], row[1], row[2]) for row in depth.bids]
            asks = [(row[0], row[1], row[2]) for row in depth.asks]
            answer: control.Answer = control.BookAnswer(query.nonce, query.symbol, bids, asks, machine.applied_index)
            if not readable:
                answer = control.ErrorAnswer(query.nonce, "no_leader", "no leader confirmed the read")
            self.around.network.send(self.node_id, sender, control.encode(frames.ANSWER, answer))

        replica.read(finish)

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, {}
        for client, bodies in outbox.items():
            self._effect("before an answer")
            self.around.network.send(self.node_id, client, client_wire.encode_responses(bodies))

    # Effects: the replica's driver, and the disk's hooks.

    def _effect(self, what: str) -> None:
        if self.crash_in:
            self.crash_in -= 1
            if not self.crash_in:
                raise Crash(what)

    def _stored(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        if self.around.trace is not None:
            self._note_stored(hard_state, entries, snapshot)
        if hard_state is not None:
            self.around.elections.stored(self.node_id, hard_state)
        if entries:
            prev_term = self.running.raft.log.term_at(entries[0].index - 1)
            assert prev_term is not None, "entries are stored without a gap"
            self.around.logs.saw(prev_term, entries)

    def _note_stored(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        self.around.note(
            "stored",
            node=self.node_id,
            term=hard_state.term if hard_state else None,
            voted_for=hard_state.voted_for if hard_state else None,
            first_index=entries[0].index if entries else None,
            last_index=entries[-1].index if entries else None,
            snapshot_index=snapshot.index if snapshot else None,
        )

    def send(self, messages: Iterable[Message]) -> None:
        """See :class:`zmqlab.replica.Driver`."""
        for message in messages:
            self._effect("before a message")
            self.around.elections.sent(message)
            if isinstance(message, AppendEntries):
                self.around.logs.saw(message.prev_term, message.entries)
            frame = encode_message(message)
            receivers = (message.to,) if message.to != BROADCAST else self._voters
            for receiver in receivers:
                if receiver != self.node_id:
                    self.around.network.send(self.node_id, receiver, frame)

    def forward(self, leader_id: int, requests: list[bytes]) -> None:
        """See :class:`zmqlab.replica.Driver`."""
        self._effect("before it forwards")
        self.around.network.send(self.node_id, leader_id, encode_forward(self.node_id, requests))

    def answer(self, answers: list[tuple[bytes, bytes]]) -> None:
        """See :class:`zmqlab.replica.Driver`: kept until the turn's end, as in the node."""
        for route, body in answers:
            self._outbox.setdefault(int.from_bytes(route, "little"), []).append(body)

    def applied(self, entry: Entry, applied: Applied) -> None:
        """See :class:`zmqlab.replica.Driver`; the ledger was told by the machine itself."""
