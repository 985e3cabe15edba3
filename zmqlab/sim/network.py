"""Frames between nodes and clients, with everything that can happen to them on the way.

Each link has a direction. A frame on it may be lost, may arrive twice, and takes a time that is drawn anew for each,
so that frames overtake each other: more than TCP allows, and what a broadcast beside a unicast, or two connections
one after the other, amount to. A cut link loses everything; cutting one direction only is a one-way partition.

:class:`Network` has the links, :class:`Sockets` is one node's end of them. No fault is decided here:
:mod:`~zmqlab.sim.adversary` turns the knobs. The exception are connections that close (:class:`Closings`): they are an
event of their own, beside the frames.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zmqlab.engine import Vitals
from zmqlab.replica import Replica
from zmqlab.sim.plan import MS, Plan
from zmqlab.sim.trace import Trace
from zmqlab.wire import frames
from zmqlab.wire.node_status import NodeStatus

if TYPE_CHECKING:
    from zmqlab.sim.node_process import Process
    from zmqlab.sim.world import World

Receiver = Callable[[int, bytes], None]
"""(sender, frame)"""
HEALTHY_DELAY_US = 1 * MS
TAIL = 0.03
"""Share of frames that take up to ten times as long as the others."""

MISSED_CLOSINGS, LATE_CLOSINGS = 0.15, 0.15
"""Shares of the ends of a process that a peer does not see at all, or sees late."""
CLOSING_US, LATE_CLOSING_US = 3 * MS, 200 * MS
"""Within so long the others, or the late ones, are seen."""

_APPENDS = frames.topic(frames.APPEND_ENTRIES)


class Network:
    """All links of one run."""

    def __init__(
        self,
        plan: Plan,
        rng: random.Random,
        at: Callable[..., None],
        now_us: Callable[[], int],
        trace: Trace | None,
    ) -> None:
        self._loss, self._doubled_above = plan.loss, 1 - plan.duplication
        self._most_us, self._second_copy_us = plan.delay_us, plan.second_copy_us
        self._cuts_lose_all = plan.cuts_lose_all
        self._draw = rng.random
        self._at = at
        self._now_us = now_us
        self._trace = trace
        self._healed = False
        self.receivers: dict[int, Receiver] = {}
        """By address: what takes the frames of a node, a client or the operator."""
        self.cut: set[tuple[int, int]] = set()
        self.slow: dict[tuple[int, int], int] = {}
        """Links that take so many microseconds more."""
        self.sent = 0
        self.lost = 0

    def send(self, sender: int, to: int, frame: bytes) -> None:
        """Put a frame under way; whether and when it arrives is decided now."""
        self.sent += 1
        at, draw = self._at, self._draw
        if self._healed and not self.cut and self._trace is None:  # as below, for the many frames of a healed cluster
            delay_us = 100 + int(draw() * HEALTHY_DELAY_US)
            if self._cuts_lose_all:
                at(delay_us, self._deliver, sender, to, frame)
            else:
                at(delay_us, self.receivers[to], sender, frame)
            return
        delays_us = self._draw_delays(sender, to)
        if not delays_us:
            self.lost += 1
        elif self._cuts_lose_all:
            for delay_us in delays_us:
                at(delay_us, self._deliver, sender, to, frame)
        else:
            for delay_us in delays_us:
                at(delay_us, self.receivers[to], sender, frame)
        if self._trace is not None:
            now_us = self._now_us()
            self._trace.frame(now_us, sender, to, frame, [now_us + delay_us for delay_us in delays_us])

    def _deliver(self, sender: int, to: int, frame: bytes) -> None:
        """A frame arrives; unless its link is cut by now and took it along, as a broken connection does."""
        if self.cut and (sender, to) in self.cut:
            self.lost += 1
            if self._trace is not None:
                self._trace.add(self._now_us(), "lost", sender=sender, to=to)
            return
        self.receivers[to](sender, frame)

    def _draw_delays(self, sender: int, to: int) -> tuple[int, ...]:
        """How long each copy takes; nothing if the frame is lost."""
        if self.cut and (sender, to) in self.cut:
            return ()
        chance = self._draw()
        if self._healed:
            return (100 + int(chance * HEALTHY_DELAY_US),)
        if chance < self._loss:
            return ()
        if chance <= self._doubled_above:
            return (self._delay_us(sender, to),)
        late_us = int(self._draw() * self._second_copy_us)
        return self._delay_us(sender, to), self._delay_us(sender, to) + late_us

    def _delay_us(self, sender: int, to: int) -> int:
        draw = self._draw
        delay = draw() * self._most_us
        if draw() < TAIL:
            delay *= 10
        return 100 + int(delay) + (self.slow.get((sender, to), 0) if self.slow else 0)

    def join(self) -> None:
        """Undo all cuts and delays of single links."""
        self.cut.clear()
        self.slow.clear()

    def heal(self) -> None:
        """From now on nothing is lost, doubled or late; what is under way already arrives as it was drawn."""
        self.join()
        self._healed = True


class Closings:
    """Connections that close, and which peers notice it.

    A process that ends takes its connections along. Most peers see that within some milliseconds, a few see it late,
    when another process may listen there, and a few never, as when a whole machine is gone. In some runs connections
    also break between processes that live.

    Chance comes from a stream of its own, so that nothing else that a seed draws is shifted.
    """

    def __init__(self, world: World, rng: random.Random) -> None:
        self.seen = 0
        """How often a node was told that a connection had closed."""
        self._world = world
        self._rng = rng
        self._break_gap_us = rng.choice((0, 0, 100, 400)) * MS
        """Mean time between two breaks of connections whose ends live; 0: there are none."""

    def begin(self) -> None:
        """Connections break from now on, if this is such a run."""
        if self._break_gap_us:
            self._world.at(int(self._rng.expovariate(1.0) * self._break_gap_us) + 1, self._break)

    def heal(self) -> None:
        """From now on no connection breaks whose ends live."""
        self._break_gap_us = 0

    def ended(self, process: Process) -> None:
        """A process has ended."""
        for peer in self._hearers(process):
            chance = self._rng.random()
            if chance >= MISSED_CLOSINGS:
                is_late = chance < MISSED_CLOSINGS + LATE_CLOSINGS
                self.tell(peer, process, int(self._rng.random() * (LATE_CLOSING_US if is_late else CLOSING_US)))

    def tell(self, peer: Process, process: Process, delay_us: int) -> None:
        """``peer`` will see that its connection to ``process`` has closed."""
        self.seen += 1
        self._world.at(delay_us, peer.see_closing, process.address, peer.life)

    def _hearers(self, process: Process) -> list[Process]:
        peers = (peer for peer in self._world.reachable() if peer is not process and peer.engine is not None)
        return [peer for peer in peers if process.address in peer.sockets.subscribed]

    def _break(self) -> None:
        """One node loses all its connections, or one of them."""
        if not self._break_gap_us:
            return
        process = self._rng.choice(self._world.reachable())
        peers = self._hearers(process)
        if peers and self._rng.random() < 0.5:
            peers = [self._rng.choice(peers)]
        for peer in peers:
            self.tell(peer, process, int(self._rng.random() * CLOSING_US))
        self.begin()


class Sockets:
    """A simulated node's sockets: what its engine sends, and to which other node that goes.

    This is the :class:`~zmqlab.engine.Effects` of a simulated engine, for one life of one process. As in production, a
    SUB socket hears the addresses that the engine subscribed to and no other, a frame goes to whichever node listens
    at an address by then, and a question is answered only for as long as it is wanted.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.connected: set[str] = set()
        self.subscribed: set[str] = set()
        """Addresses whose broadcasts it hears. Two members there count once, as for a SUB socket of libzmq."""
        self.heard: frozenset[int] | None = None
        """Groups whose broadcasts are wanted; None: of all."""
        self.asked: dict[int, str] = {}
        """Nodes that were asked a question, and the addresses at which they were."""
        self._world = process.world

    def publish(self, frame: bytes) -> None:
        if self.process.crash_in:
            self.process.effect("before it publishes")
        if frame.startswith(_APPENDS):
            own, address, send = self.process, self.process.address, self._world.network.send
            for process in self._world.reachable():
                if address in process.sockets.subscribed and process is not own and process.sockets.hears(frame):
                    send(own.node_id, process.node_id, frame)

    def send(self, address: str, frame: bytes) -> None:
        if self.process.crash_in:
            self.process.effect("before a message")
        assert address in self.connected, f"node {self.process.node_id} sends to {address} without a connection"
        peer = self._world.listening.get(address)
        if peer is not None:
            self._world.network.send(self.process.node_id, peer.node_id, frame)

    def reply(self, route: bytes, frame: bytes) -> None:
        if self.process.crash_in:
            self.process.effect("before an answer")
        self._world.network.send(self.process.node_id, int.from_bytes(route, "little"), frame)

    def connect(self, address: str) -> None:
        assert address not in self.connected, f"node {self.process.node_id} connects to {address} twice"
        self.connected.add(address)

    def disconnect(self, address: str) -> None:
        self.connected.remove(address)

    def subscribe(self, address: str) -> None:
        assert address not in self.subscribed, f"node {self.process.node_id} subscribes to {address} twice"
        self.subscribed.add(address)

    def unsubscribe(self, address: str) -> None:
        self.subscribed.remove(address)

    def hear_groups(self, numbers: Sequence[int]) -> None:
        self.heard = frozenset(numbers)

    def hears(self, frame: bytes) -> bool:
        """Whether a broadcast is of a group that is wanted, as a SUB socket's topics decide."""
        return self.heard is None or frames.parse_header(frame)[1] in self.heard

    def resolve(self, endpoints: Sequence[str]) -> tuple[str, ...]:
        return tuple(endpoints)

    def ask(self, address: str, frame: bytes) -> None:
        if self.process.crash_in:
            self.process.effect("before a question")
        peer = self._world.listening.get(address)
        if peer is not None:
            self.asked[peer.node_id] = address
            self._world.network.send(self.process.node_id, peer.node_id, frame)

    def hang_up(self, address: str) -> None:
        self.asked = {number: asked for number, asked in self.asked.items() if asked != address}

    def damage_disk(self, write_ms: float, is_full: bool) -> None:
        """Nothing takes time within a turn here, so that no write is slow."""
        self.process.disk.full = is_full

    def vitals(self) -> Vitals:
        now_us = self._world.now_us()
        return Vitals(
            pid=self.process.node_id,
            time_ns=now_us * 1_000,
            uptime_ms=now_us // 1_000,
            cpu_percent=0.0,
            rss_bytes=0,
            dropped=self.process.overflowed,
            bad_messages=0,
        )

    def observe(self, status: NodeStatus, replica: Replica, is_closing: bool) -> None:
        """Nothing is exported here."""

    def note(self, text: str, is_warning: bool = False) -> None:
        """The story has its own lines."""
