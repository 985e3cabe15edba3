"""One simulated node process: a disk that stays, and a production engine that comes and goes.

What a node decides is in its engine (:mod:`zmqlab.engine`), and that is production's. This is what surrounds it: frames
wait in an inbox until the turn, the clock may go wrong, effects become frames on the simulated network. A frame above
the limit is dropped, a queue that is full loses frames, a SUB socket hears the nodes that its engine subscribed to
alone, and a question goes to the node that listens at the address by then: as in production.

A process can end at any effect. ``crash_in`` counts down with each frame sent, each write begun, half done and done. At
zero :class:`Crash` is raised there, and what was not sent or stored is lost. Without its journal a process is *gone*.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from zmqlab.endpoints import parse_endpoint
from zmqlab.engine import Design, Engine
from zmqlab.engine.group_founding import JoiningCluster
from zmqlab.errors import JournalCorrupt, JournalFull
from zmqlab.raft import Configuration
from zmqlab.replica import Journal, RaftByQuorum, Replica
from zmqlab.settings import NodeSettings
from zmqlab.sim.checkers import Violation
from zmqlab.sim.disk import Disk, DiskJournal, VolatileJournal
from zmqlab.sim.first_start_rules import Beginning
from zmqlab.sim.network import Sockets
from zmqlab.sim.node_rules import Duties
from zmqlab.sim.seats import Seated
from zmqlab.sim.watchers import ObservedMachine, WatchedGroup, Watcher
from zmqlab.sim.world import World
from zmqlab.wire import frames

PORTION_US = 1_000
"""How long a node works at one portion of a long log that it applies."""
SNAPSHOT_INTERVAL_NS = 1_000_000_000
"""Between two published snapshots of a node: production's, ten a second, would take a tenth of a run's time."""

_FROM_CLIENTS = (frames.REQUEST, frames.OPEN_SESSION, frames.QUERY)


class Crash(Exception):
    """The process ends here."""


class Process(Seated):
    """See the module."""

    def __init__(self, number: int, settings: NodeSettings, world: World, rng: random.Random) -> None:
        """``number`` is the node's identity, and what the network and the story call it."""
        super().__init__()
        plan = world.plan
        self.node_id = number
        self.settings = settings
        self.world = world
        self.engine: Engine | None = None
        """None while the process is down."""
        self.address = settings.endpoint
        """Where it listens: its base endpoint."""
        self.replica: Replica | None = None
        """None while the process is down, or it is not decided yet what the node is."""
        self.duties: Duties | None = None
        """What it owes; None as for ``replica``."""
        self.has_met = False
        """Whether it has ever known what it is."""
        self.is_gone = False
        """Never to run again: its journal is lost, or it was removed and switched off."""
        self.crash_in = 0
        """Effects until the process ends; 0: it does not."""
        self.by_power_cut = False
        """That end, if it comes, takes along what is not flushed."""
        self.paused = self._turn_is_due = False
        self._is_new = True
        """Whether it had no journal when it was started last."""
        self._is_stray = False
        """It was a seed, reached no member for all its time, and has founded a cluster: its operator wipes it."""
        self.crashes = 0
        self.ended = 0
        """Ends in order, after a signal."""
        self.snapshots = 0
        self.bad_frames = 0
        """Of earlier lives; see :attr:`refused`."""
        self.overflowed = 0
        """Frames that found a queue full."""
        self.watcher = Watcher(self)
        self.disk = Disk(plan.durability == "fsync", self.effect)
        self.last_configurations: list[Configuration] = []
        """In effect and committed, as known when it was last running."""
        self._rng = rng
        self._raft: RaftByQuorum | None = None
        self._now_us = world.now_us
        self._turn_us, self._queue_frames = plan.turn_us, plan.queue_frames
        self._clock_rate = plan.clock_rates[number % len(plan.clock_rates)]
        self.life = 0
        """Counts starts, so that an event of an earlier life is known."""
        self.newest_life = 0
        """By its journal; 0 if it has not started."""
        self._inbox: list[tuple[int, bytes | str]] = []
        """Senders with their frames; and addresses to which a connection has closed."""
        self._waiting: dict[int, int] = {}
        """Sender -> frames of it in the inbox."""
        self.sockets = Sockets(self)
        self._beginning = Beginning(number, settings)
        self._wake_at_us = self._turn_ns = self._signals = 0
        """SIGTERMs that its engine was not told of yet."""

    # What is known of it.

    @property
    def running(self) -> Replica:
        """Of a process that runs."""
        replica = self.replica
        assert replica is not None, "the process is down"
        return replica

    @property
    def raft(self) -> RaftByQuorum:
        """Of a process that runs."""
        raft = next((seat.raft for seat in self.seats.values() if seat.leads), self._raft) if self.seats else self._raft
        assert raft is not None, "the process is down"
        return raft

    @property
    def term(self) -> int:
        """Of a process that runs; otherwise 0."""
        replica = self.replica
        return replica.replication.term if replica else 0

    @property
    def is_closing(self) -> bool:
        """Whether it runs and was told to end."""
        groups = self.engine.groups.values() if self.engine is not None else ()
        return bool(self._signals) or any(group.closing.begun for group in groups)

    @property
    def has_moved(self) -> bool:
        """Whether the members in effect, as it knows them, place it elsewhere."""
        known = (dict(each.addresses) for each in self.configurations())
        return any(addresses.get(self.node_id, self.address) != self.address for addresses in known)

    @property
    def refused(self) -> int:
        """Frames that its engines refused, over all lives."""
        groups = self.engine.groups.values() if self.engine is not None else ()
        return self.bad_frames + sum(group.counters.bad_frames for group in groups)

    def configurations(self) -> list[Configuration]:
        """What this node goes by, or may go by again: the configuration in effect, and the committed one."""
        if self.replica is not None:
            raft = self.raft
            committed = max(raft.commit_index, raft.configurations.oldest_index)
            self.last_configurations = [raft.configuration, raft.configurations.at(committed)]
        return self.last_configurations

    # Life and death.

    def start(self) -> None:
        """Begin from what the journal has, as the node's process does."""
        assert not self.is_gone, "a node without its journal must not come back as the same member"
        other = self.world.listening.get(self.address)
        if other is not None and other is not self and other.engine is not None:
            self.world.tell(f"node {self.node_id} does not start: node {other.node_id} listens there")
            return
        self.life += 1
        self._wake_at_us = self._signals = 0
        self._read_clock()
        self._inbox, self._turn_is_due, self.paused = [], False, False
        self._waiting.clear()
        self.sockets = Sockets(self)
        self._beginning = Beginning(self.node_id, self.settings)
        self.world.listening[self.address] = self
        plan = self.world.plan
        bounds = plan.raft, plan.replica, plan.answer_frame_bytes, plan.balance_timeouts
        design = Design(plan.make_replication, lambda: ObservedMachine(self), *bounds)
        try:
            self.engine = Engine(
                self.settings,
                self._open_journal(),
                self.sockets,
                clock=lambda: self._turn_ns,
                rng=self._rng,
                draw_id=lambda: self.node_id,
                design=design,
                group_class=WatchedGroup,
                snapshot_interval_ns=SNAPSHOT_INTERVAL_NS,
            )
        except JournalFull:
            self.world.tell(f"node {self.node_id} does not start: its disk is full")
            return
        except JournalCorrupt:
            self.lose("its journal is corrupt")
            return
        except Crash as crash:
            self.crash(str(crash))
            return
        self._wake_later()

    def opened(self, replica: Replica, duties: Duties) -> None:
        """The engine has opened its group."""
        self.has_met = True
        self.replica, self.duties = replica, duties
        self.newest_life = replica.journal.life
        self._raft = cast(RaftByQuorum, replica.replication)
        replication = replica.replication
        if replication.node_id != self.node_id:
            raise Violation(f"journal: node {self.node_id} is {replication.node_id} now")
        configuration, known = replication.configuration, self.world.configurations
        if self._is_new and configuration != Configuration(()) and not known.were_ever(configuration):
            if self.settings.bootstrap_ms and not self._beginning.told_by:
                self._is_stray = True
                raise Crash("as it has reached no member and founds a second cluster")
            raise Violation(f"founding: node {self.node_id} founds {configuration} beside {known.at(0)}")
        indexes = {"last_index": replication.last_index, "applied_index": replica.machine.applied_index}
        self.world.note("started", node=self.node_id, term=replication.term, **indexes)

    def _read_clock(self) -> None:
        """Its engine's clock, in monotonic nanoseconds, which may go wrong. No time passes within a turn."""
        now_us, rate = self._now_us, self._clock_rate
        self._turn_ns = now_us() * 1_000 if rate == 1.0 else int(now_us() * 1_000 * rate)

    def _open_journal(self) -> Journal:
        plan = self.world.plan
        journal: DiskJournal | VolatileJournal
        if plan.durability == "memory":
            journal = VolatileJournal(plan.retain_bytes, self.effect, self.watcher.stored)
        else:
            part_bytes = plan.replica.snapshot_slice_bytes
            journal = DiskJournal(self.disk, f"node {self.node_id}", plan.retain_bytes, self.watch_of, part_bytes)
        self._is_new = journal.is_new
        if not self._is_new:
            for number in self.seats if self._worlds else (0,):
                stored = journal.group(number).load()
                self.seat(number).watcher.loaded(stored.hard_state, stored.entries, stored.snapshot)
        return journal

    def crash(self, why: str) -> None:
        """End at once; only the disk stays."""
        self.world.tell(f"node {self.node_id} crashes {why}")
        self.crashes += 1
        self._end(why)

    def _end(self, why: str) -> None:
        self.configurations()
        self.world.note("crashed", node=self.node_id, why=why)
        self.snapshots = self.snapshots_total
        self.bad_frames = self.refused
        for seat in self.seats.values():
            seat.closed()
        self.engine = self.replica = self.duties = self._raft = None
        self.world.closings.ended(self)
        self.crash_in = 0
        if self.by_power_cut:
            self.by_power_cut = False
            self.disk.lose_power(self._rng)
        if self.world.plan.durability == "memory" and not self.is_gone:
            self.is_gone = True
            self.world.on_lost(self)

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
        self.world.on_lost(self)

    def read_whole_log(self) -> None:
        """Read every entry that the journal has; that is how a bit that flipped in an old one is seen."""
        try:
            replica = self.running
            entries = replica.journal.read(replica.journal.first_index, replica.machine.applied_index, 1 << 62)
        except JournalCorrupt:
            self.lose("its journal is corrupt")
            return
        for entry in entries:
            if self.world.ledger.entries[entry.index - 1] != entry:
                raise Violation(f"journal: node {self.node_id} keeps another entry {entry.index} than was committed")

    def retire(self) -> None:
        """Switched off after its removal."""
        self.is_gone = True
        if self.engine is not None:
            self.crash("for good: it is switched off")

    def terminate(self) -> None:
        """SIGTERM: it ends in order, as soon as it can."""
        if self.engine is not None:
            self._signals += 1
            self._turn(self.life)

    def move(self, address: str) -> None:
        """It will start at another address; where its command names that one, its former one stands then."""
        if self.world.listening.get(self.address) is self:
            del self.world.listening[self.address]
        new = {address: self.address}
        join, peers = (tuple(new.get(at, at) for at in each) for each in (self.settings.join, self.settings.peers))
        self.settings = replace(self.settings, bind=parse_endpoint(address)[0], join=join, peers=peers)
        self.address = self.settings.endpoint

    def join(self, members: Iterable[str]) -> None:
        """It is started again, to join the nodes at these addresses, and no more as the founder that it was."""
        self.crash("to be told of other members")
        if self.is_gone:
            return
        join = tuple(address for address in members if address != self.address)
        self.settings = replace(self.settings, peers=(), join=join or (self.address,), leader=False)
        self.start()

    def resume(self) -> None:
        """After a pause: everything that came meanwhile is there."""
        self.paused = False
        if self.engine is not None:
            self._turn(self.life)
            self._wake_later()

    # The loop.

    def deliver(self, sender: int, frame: bytes) -> None:
        """A frame has arrived."""
        if self.engine is None:
            return
        waiting = self._waiting.get(sender, 0)
        if waiting >= self._queue_frames:
            self.overflowed += 1
            return
        self._waiting[sender] = waiting + 1
        self._arrived(sender, frame)

    def see_closing(self, address: str, life: int) -> None:
        """The connection to ``address`` has closed, which this process had in that life."""
        if life == self.life and self.engine is not None:
            self._arrived(0, address)

    def _arrived(self, sender: int, what: bytes | str) -> None:
        self._inbox.append((sender, what))
        if not self._turn_is_due:
            self._turn_is_due = True
            if self._turn_us:
                self.world.at(int(self._rng.random() * self._turn_us), self._turn, self.life)
            else:
                self._turn(self.life)

    def _wake(self, life: int) -> None:
        if life == self.life and self.engine is not None:
            self._wake_at_us = 0
            self._turn(life)
            self._wake_later()

    def _wake_later(self) -> None:
        """Wake up when the engine wants to, unless that is arranged."""
        if self.engine is None or self.paused:
            return
        now_us, rate = self.world.now_us(), self._clock_rate
        wait_ns = (self.engine.wake_ns - int(now_us * 1_000 * rate)) / rate
        wait_us = max(1, -int(-wait_ns // 1_000))
        due_us = now_us + wait_us
        if not self._wake_at_us or due_us < self._wake_at_us:
            self._wake_at_us = due_us
            self.world.at(wait_us, self._wake, self.life)

    def _turn(self, life: int) -> None:
        if life != self.life or self.engine is None or self.paused:
            return
        self._turn_is_due = False
        try:
            self._take_turn(self.engine)
        except Crash as crash:
            if self._is_stray:
                self.lose(str(crash))
            else:
                self.crash(str(crash))
        except JournalFull:
            self.crash("because its disk is full")
        except JournalCorrupt:
            self.lose("its journal is corrupt")

    def _take_turn(self, engine: Engine) -> None:
        self._read_clock()
        engine.begin_turn()
        while self._signals:
            self._signals -= 1
            engine.on_signal()
        if self._inbox:
            inbox, self._inbox = self._inbox, []
            self._waiting.clear()
            for sender, frame in inbox:
                self._hand_in(engine, sender, frame)
        if is_more := engine.turn():
            self.world.at(PORTION_US, self._turn, self.life)  # what has come meanwhile is heard first, as there
        if engine.links.active or engine.held.frames:
            self._wake_later()
        if self._beginning.told_by:
            self._beginning.took_turn(self.replica.replication.configuration if self.replica else None)
        for seat in self.all_seats() if self._worlds else (self,):
            seat.watcher.took_turn(not is_more)
        if self.world.placed is not None:
            self.world.placed.knows(self)
        if engine.is_over:
            for seat in self.all_seats():
                if seat.duties is not None:
                    seat.duties.ended()
            self.ended += 1
            self.world.tell(f"node {self.node_id} ends in order")
            self._end("in order")

    def _hand_in(self, engine: Engine, sender: int, frame: bytes | str) -> None:
        if isinstance(frame, str):
            engine.on_peer_gone(frame)
            return
        frame_type = frame[3]
        if frame_type == frames.ANSWER:
            if sender in self.sockets.asked:
                start = engine._first_start
                if start is not None and not isinstance(start, JoiningCluster):
                    self._beginning.hears(start, self.sockets.asked[sender], frame)
                engine.on_answer(self.sockets.asked[sender], frame)
        elif frame_type in _FROM_CLIENTS:
            engine.on_client_frame(sender.to_bytes(2, "little"), frame)
        elif len(frame) > self.world.plan.peer_frame_bytes:
            raise Violation(f"frames: node {sender} sends {len(frame)} bytes to node {self.node_id}, which drops them")
        elif engine.links.active and sender in self.world.processes:
            self._hear_badly(engine, self.world.processes[sender], frame)
        else:
            engine.on_peer_frame(frame)

    def _hear_badly(self, engine: Engine, sender: Process, frame: bytes) -> None:
        """A frame of a peer while links are faulty: one that is cut lets nothing through."""
        lost = engine.links.lost
        is_cut = self.duties is not None and self.duties.is_cut(engine.links, sender, frame)
        engine.on_peer_frame(frame)
        if is_cut and engine.links.lost == lost:
            raise Violation(f"links: node {self.node_id} hears node {sender.node_id} over a link that is cut")

    # Effects: the disk's hooks.

    def effect(self, what: str) -> None:
        """Something is about to happen outside of the process, which may end here instead."""
        if self.crash_in:
            self.crash_in -= 1
            if not self.crash_in:
                raise Crash(what)
