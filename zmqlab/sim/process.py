"""One simulated node process: a disk that stays, and a production replica that comes and goes.

This is the node's loop (:mod:`zmqlab.node.node`) with virtual sockets and a virtual clock: frames wait in an inbox
until the turn, a turn handles them, ticks as often as time has passed (at most three times, as there), lets the
replica act, and sends the answers. Replica, journal, state machine, Raft and the wire's encoding are the production
ones. As there, a broadcast counts only if a member sent it, and what is sent to one node is handed to Raft whoever it
came from.

A process can end at any effect. ``crash_in`` counts down with each message sent, each write begun, half done and done;
at zero :class:`Crash` is raised there, and what was not yet sent or stored is gone. A process whose journal is lost
(wiped, corrupt, or in memory only) is *gone*: it never comes back under its old identity.

Left out: that a node can speak only to those whose address it knows (HELLO); real processes are tested for that.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from zmqlab.errors import FrameError, JournalCorrupt, JournalFull
from zmqlab.raft import (
    BROADCAST,
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    HardState,
    Message,
    Raft,
    Role,
    Snapshot,
    quorum_value,
)
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica import Applied, Journal, Origin, Replica
from zmqlab.sim.checkers import Violation
from zmqlab.sim.disk import Disk, DiskJournal, VolatileJournal
from zmqlab.sim.machine import ObservedMachine
from zmqlab.sim.queries import answer_query
from zmqlab.sim.settings import TICK_US
from zmqlab.sim.surroundings import Surroundings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.peer import decode_forward, decode_message, encode_forward, encode_message

MAX_TICKS_PER_TURN = 3
"""As in the node."""
PORTION_US = 1_000
"""How long a node works at one portion of a long log that it applies."""


class Crash(Exception):
    """The process ends here."""


class Process:
    """See the module. ``replica`` is None while it is down."""

    def __init__(
        self, node_id: int, address: str, founders: Configuration, around: Surroundings, rng: random.Random
    ) -> None:
        """A founder is in ``founders``; a node that joins has none."""
        plan = around.plan
        self.node_id = node_id
        self.address = address
        self.around = around
        self.replica: Replica | None = None
        self.is_gone = False
        """Never to run again: its journal is lost, or it was removed and switched off."""
        self.crash_in = 0
        """Effects until the process ends; 0: it does not."""
        self.by_power_cut = False
        """That end, if it comes, takes along what is not flushed."""
        self.paused = False
        self.strangers = 0
        """Frames refused, as their sender was no member."""
        self.crashes = 0
        self.snapshots = 0
        self.installs = 0
        """Snapshots that came from a leader."""
        self.disk = Disk(plan.durability == "fsync", self._effect)
        self.last_configurations: list[Configuration] = [founders]
        """In effect and committed, as known when it was last running."""
        self._origin = Origin(node_id, founders)
        self._rng = rng
        self._tick_us = round(TICK_US / plan.clock_rates[node_id % len(plan.clock_rates)])
        self._life = 0
        """Counts starts, so that an event of an earlier life is known."""
        self._inbox: list[tuple[int, bytes]] = []
        self._outbox: dict[int, list[bytes]] = {}
        self._next_tick_us = 0
        self._turn_is_due = False
        self._commit_when_elected = 0
        self._stood_in = 0
        """The last term in which this process was a candidate."""

    @property
    def term(self) -> int:
        """Of a running process; otherwise 0."""
        return self.replica.raft.term if self.replica else 0

    @property
    def running(self) -> Replica:
        assert self.replica is not None, "the process is down"
        return self.replica

    def configurations(self) -> list[Configuration]:
        """What this node goes by, or may go by again: the configuration in effect, and the committed one."""
        if self.replica is not None:
            raft = self.replica.raft
            committed = max(raft.commit_index, raft.configurations.oldest_index)
            self.last_configurations = [raft.configuration, raft.configurations.at(committed)]
        return self.last_configurations

    # Life and death.

    def start(self, campaign: bool = False) -> None:
        """Begin from what the journal has, as the node does."""
        assert not self.is_gone, "a node without its journal must not come back as the same member"
        try:
            journal = self._open_journal()
            origin = journal.origin(self._origin)
            stored = journal.load()
        except JournalFull:
            self.around.tell(f"node {self.node_id} does not start: its disk is full")
            return
        except JournalCorrupt:
            self.lose("its journal is corrupt")
            return
        if origin != self._origin:
            raise Violation(f"journal: node {self.node_id} was {self._origin} and is {origin} now")
        self._check_loaded(stored.hard_state, stored.entries, stored.snapshot)
        machine = ObservedMachine(self)
        if stored.snapshot is not None:
            machine.restore(stored.snapshot.data)
        raft = Raft(
            origin.node_id,
            stored.snapshot.configuration if stored.snapshot else origin.configuration,
            self.around.plan.raft,
            self._rng,
            hard_state=stored.hard_state,
            snapshot=stored.snapshot,
            entries=stored.entries,
        )
        if campaign or raft.configuration.voters == (raft.node_id,):
            raft.campaign()
        self.replica = Replica(raft, machine, journal, self, self.around.plan.replica)
        self._life += 1
        self._inbox, self._outbox, self._turn_is_due, self.paused = [], {}, False, False
        self._next_tick_us = self.around.now_us() + self._tick_us
        self.around.at(self._tick_us, self._tick, self._life)
        indexes = {"last_index": raft.last_index, "applied_index": machine.applied_index}
        self.around.note("started", node=self.node_id, term=raft.term, **indexes)

    def _open_journal(self) -> Journal:
        retain_bytes = self.around.plan.retain_bytes
        if self.around.plan.durability == "memory":
            return VolatileJournal(retain_bytes, self._effect, self._stored)
        return DiskJournal(self.disk, f"node {self.node_id}", retain_bytes, self._stored)

    def _check_loaded(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        """What was safe is there; what is there is told, since a crash may have come before it could be."""
        self.around.elections.stored(self.node_id, hard_state or HardState(0, 0, 0))
        self.around.logs.saw(snapshot.term if snapshot else 0, entries)
        self.around.causes.loaded(self.node_id, hard_state, entries, snapshot)

    def crash(self, why: str) -> None:
        """End at once; only the disk stays."""
        self.configurations()
        self.around.tell(f"node {self.node_id} crashes {why}")
        self.around.note("crashed", node=self.node_id, why=why)
        if self.replica is not None:
            self.snapshots += self.replica.snapshots_total
        self.replica = None
        self.crashes += 1
        self.crash_in = 0
        if self.by_power_cut:
            self.by_power_cut = False
            self.disk.lose_power(self._rng)
        if self.around.plan.durability == "memory" and not self.is_gone:
            self.is_gone = True
            self.around.on_lost(self)

    def cut_power(self) -> None:
        """A crash that takes along what is not flushed."""
        self.by_power_cut = True
        self.crash("as its power is cut")

    def lose(self, why: str) -> None:
        """Its journal is lost: it ends, and never comes back as the same member."""
        if self.is_gone:
            return
        if why == "its journal is corrupt" and not self.disk.is_corrupt:
            raise Violation(f"journal: node {self.node_id} takes its sound journal for a corrupt one")
        self.is_gone = True
        self.crash(f"for good: {why}")
        self.around.on_lost(self)

    def read_whole_log(self) -> None:
        """Read every entry that the journal has; that is how a bit that flipped in an old one is seen."""
        try:
            replica = self.running
            entries = replica.journal.read(replica.journal.first_index, replica.machine.applied_index, 1 << 62)
        except JournalCorrupt:
            self.lose("its journal is corrupt")
            return
        for entry in entries:
            if self.around.ledger.entries[entry.index - 1] != entry:
                raise Violation(f"journal: node {self.node_id} keeps another entry {entry.index} than was committed")

    def retire(self) -> None:
        """Switched off after its removal."""
        self.is_gone = True
        if self.replica is not None:
            self.crash("for good: it is switched off")

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
        except JournalCorrupt:
            self.lose("its journal is corrupt")

    def _take_turn(self, replica: Replica) -> None:
        if self._inbox:
            inbox, self._inbox = self._inbox, []
            for sender, frame in inbox:
                self._handle(replica, sender, frame)
        now_us = self.around.now_us()
        if self._next_tick_us <= now_us:
            self._let_time_pass(replica, now_us)
        if replica.turn():
            self.around.at(PORTION_US, self._turn, self._life)  # what has come meanwhile is heard first, as there
        if replica.raft.role is Role.LEADER and self.around.elections.check_leader(replica.raft):
            self.around.tell(f"node {self.node_id} leads term {replica.raft.term}")
            self.around.note("leads", node=self.node_id, term=replica.raft.term)
            self._commit_when_elected = replica.raft.commit_index
            self.around.on_leader(self)
        if self.around.plan.unlucky_repair and replica.raft.role is Role.LEADER:
            self._look_at_repair(replica.raft)
        self.around.causes.took_turn(replica)
        if self._outbox:
            self._flush()
        replica.answered.clear()

    def _look_at_repair(self, raft: Raft) -> None:
        """Whether this leader is where figure 3.7 (c) of the thesis has it: entries of older terms are on a majority,
        and its own no-op is not."""
        matches = [
            raft.log.last_index if voter == raft.node_id else raft.progress[voter].match_index
            for voter in raft.configuration.voters
        ]
        if self._commit_when_elected < quorum_value(matches) < raft.term_start_index:
            self.around.on_repair(self)

    def _let_time_pass(self, replica: Replica, now_us: int) -> None:
        ticks = 0
        while self._next_tick_us <= now_us and ticks < MAX_TICKS_PER_TURN:
            replica.tick()
            self._next_tick_us += self._tick_us
            ticks += 1
        if self._next_tick_us <= now_us:
            self._next_tick_us = now_us + self._tick_us

    def _handle(self, replica: Replica, sender: int, frame: bytes) -> None:
        frame_type, _ = frames.parse_header(frame)
        if frame_type == frames.REQUEST or frame_type == frames.OPEN_SESSION:
            body = replica.take_request(sender.to_bytes(2, "little"), frame, self.around.now_us() * 1_000)
            if body is not None:
                self._outbox.setdefault(sender, []).append(body)
        elif frame_type == frames.QUERY:
            answer_query(self, sender, control.decode_query(frame))
        else:
            try:
                self._handle_peer(replica, frame_type, frame)
            except FrameError:
                self.strangers += 1

    def _handle_peer(self, replica: Replica, frame_type: int, frame: bytes) -> None:
        if frame_type == frames.FORWARD:
            sender, requests = decode_forward(frame)
            self._expect_member(replica, sender)
            replica.take_forwarded(requests)
            return
        message = decode_message(frame_type, frame)
        if message.to == BROADCAST:
            self._expect_member(replica, message.sender)
        self.around.causes.heard(replica.raft, message)
        replica.step(message)

    def _expect_member(self, replica: Replica, sender: int) -> None:
        if sender not in replica.raft.configuration.members:
            raise FrameError(f"{sender} is no member")

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
        """Something is stored and safe."""
        if self.around.trace is not None:
            self._note_stored(hard_state, entries, snapshot)
        self.installs += snapshot is not None
        if hard_state is not None:
            self.around.elections.stored(self.node_id, hard_state)
            if hard_state.voted_for == self.node_id and hard_state.term > self._stood_in:
                self._stood_in = hard_state.term
                self.around.on_candidate(self)
        self.around.causes.stored(self.running.raft, hard_state, entries, snapshot)
        if entries:
            prev_term = self.running.raft.log.term_at(entries[0].index - 1)
            assert prev_term is not None, "entries are stored without a gap"
            self.around.logs.saw(prev_term, entries)
            if self.running.raft.role is Role.LEADER and any(e.kind == EntryKind.CONFIGURATION for e in entries):
                self.around.on_change(self)

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
        around = self.around
        for message in messages:
            self._effect("before a message")
            around.elections.sent(message)
            around.causes.sent(self.running.raft, message)
            if isinstance(message, AppendEntries):
                around.logs.saw(message.prev_term, message.entries)
            elif isinstance(message, AppendEntriesResponse):
                around.logs.answered(message, self.running.raft.applied_index)
            frame = encode_message(message)
            if message.to != BROADCAST:
                around.network.send(self.node_id, message.to, frame)
                continue
            for node_id, process in around.processes.items():
                if process is not self and not process.is_gone:
                    around.network.send(self.node_id, node_id, frame)

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
