"""The loop of a node's process: it moves frames between the sockets and the engine, and decides nothing.

Each turn waits for all sockets (:class:`zmqlab.net.Inlets`), drains those that have something up to a bound, and lets
the engine take its turn (:class:`zmqlab.engine.Engine`). The loop is the engine's
:class:`~zmqlab.engine.effects.Effects`: what the engine wants to send, publish, connect or know is one call of the
transport or of the operating system.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Callable, Sequence

import psutil

from zmqlab import net
from zmqlab.engine import Design, Engine, Vitals
from zmqlab.engine.engine import MAX_PER_TURN
from zmqlab.errors import SettingsError
from zmqlab.names import Names
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.node.transport import Transport
from zmqlab.replica import Journal, Replica
from zmqlab.settings import NodeSettings
from zmqlab.wire.node_status import NodeStatus

STDIN = 0
MAX_CLIENT_NS_PER_TURN = 20_000_000
"""No more is taken from clients in a turn that has taken so long. A thousand levels with a million orders take 30 ms to
add up, and 256 questions for such a book in one turn would let every other client wait for eight seconds."""
CPU_INTERVAL_NS = 100_000_000
"""Over at least so long the CPU share is measured."""

Observe = Callable[[NodeStatus, Replica, bool], None]
"""Shown each snapshot that is published, and whether the node is closing; must be quick."""

log = logging.getLogger("zmqlab.node")


class Node:
    """A node whose journal is open and whose ports are bound; :meth:`run` serves until :meth:`stop`."""

    def __init__(
        self,
        settings: NodeSettings,
        transport: Transport,
        journal: Journal,
        observe: Observe | None = None,
        design: Design | None = None,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._journal = journal
        self._observe = observe
        self._names = Names()
        self._process = psutil.Process()
        self._memory_bytes = self._process.memory_info().rss
        self._cpu_percent = 0.0
        self._cpu_used_ns = time.process_time_ns()
        self._cpu_measured_ns = self._started_ns = time.monotonic_ns()
        self._running = False
        self._signals = 0
        """SIGTERMs that came and were not handed to the engine yet; the signal's handler only counts."""
        rng = random.SystemRandom()
        self.engine = Engine(
            settings,
            journal,
            self,
            clock=time.monotonic_ns,
            rng=rng,
            draw_id=lambda: rng.getrandbits(64) | 1,
            design=design,
        )

    # The loop.

    def run(self) -> None:
        """Serve until :meth:`stop`, or until standard input ends where the launcher asked to watch it."""
        engine, inlets, door = self.engine, self._transport.inlets, self._transport.key_checker
        if self._settings.watch_stdin:
            inlets.add_descriptor(STDIN)
        self._running = True
        more = False
        """Whether the engine has work left, of the kind that it does in portions."""
        while self._running and not engine.is_over:
            wait_ms = 0 if more else max(0, (engine.wake_ns - time.monotonic_ns() + 999_999) // 1_000_000)
            unread = inlets.wait(wait_ms)
            engine.begin_turn()
            if STDIN in unread:
                self._check_stdin()
            while self._signals:
                self._signals -= 1
                engine.on_signal()
            if door is not None and door.socket in unread:
                door.admit()
                inlets.has_more(door.socket)
            for address, frame in self._transport.receive_answers(MAX_PER_TURN):
                engine.on_answer(address, frame)
            endings = self._transport.endings
            closed = self._transport.closed_connections() if endings in unread else ()
            self._drain(unread, closed)
            more = engine.turn()

    def stop(self) -> None:
        """End the loop after this turn; may be called from a signal handler."""
        self._running = False

    def terminate(self) -> None:
        """End in order; the second call ends the node at once. For signal handlers."""
        self._signals += 1

    def _check_stdin(self) -> None:
        """The launcher never writes; so readable means that it has gone."""
        self._transport.inlets.unread.discard(STDIN)
        if not os.read(STDIN, 4_096):
            log.info("stop: the launcher has gone")
            self.stop()

    def _drain(self, unread: set[net.Socket | int], closed: Sequence[str]) -> None:
        """Hand in what has arrived. What a peer has sent comes before the news that its connection has closed: it would
        be taken for a sign of life."""
        transport, engine = self._transport, self.engine
        if closed:
            unread |= {transport.broadcasts, transport.peers}
        if transport.broadcasts in unread:
            for frame in transport.receive_broadcasts(MAX_PER_TURN):
                engine.on_peer_frame(frame)
        if transport.peers in unread:
            for frame in transport.receive_from_peers(MAX_PER_TURN):
                engine.on_peer_frame(frame)
        for address in closed:
            engine.on_peer_gone(address)
        if transport.clients in unread:
            give_up_ns = time.monotonic_ns() + MAX_CLIENT_NS_PER_TURN
            for route, frame, sender in transport.receive_from_clients(MAX_PER_TURN):
                engine.on_client_frame(route, frame, sender)
                if time.monotonic_ns() > give_up_ns:
                    break

    # Effects of the engine; see :class:`zmqlab.engine.Effects`.

    def publish(self, frame: bytes) -> None:
        self._transport.publish(frame)

    def send(self, address: str, frame: bytes) -> None:
        self._transport.send_to(address, frame)

    def reply(self, route: bytes, frame: bytes) -> None:
        self._transport.reply(route, frame)

    def connect(self, address: str) -> None:
        self._transport.connect(address)

    def disconnect(self, address: str) -> None:
        self._transport.disconnect(address)

    def subscribe(self, address: str) -> None:
        self._transport.subscribe(address)

    def unsubscribe(self, address: str) -> None:
        self._transport.unsubscribe(address)

    def hear_groups(self, numbers: Sequence[int]) -> None:
        self._transport.hear_groups(numbers)

    def resolve(self, endpoints: Sequence[str]) -> tuple[str, ...]:
        return self._names.spread(endpoints)

    def ask(self, address: str, frame: bytes) -> None:
        self._complain()
        self._transport.ask(address, frame)

    def hang_up(self, address: str) -> None:
        self._transport.hang_up(address)

    def damage_disk(self, write_ms: float, is_full: bool) -> None:
        if isinstance(self._journal, LmdbJournal):
            self._journal.damage(write_ms, is_full)
        elif write_ms or is_full:
            raise SettingsError("with durability memory there is no disk that could be slow or full")

    def vitals(self) -> Vitals:
        if self._transport.key_checker is not None:
            self._transport.key_checker.refresh()
        now_ns = time.monotonic_ns()
        door = self._transport.key_checker
        if now_ns - self._cpu_measured_ns >= CPU_INTERVAL_NS:
            self._measure(now_ns)
        return Vitals(
            pid=os.getpid(),
            time_ns=time.time_ns(),
            uptime_ms=(now_ns - self._started_ns) // 1_000_000,
            cpu_percent=self._cpu_percent,
            rss_bytes=self._memory_bytes,
            dropped=self._transport.dropped,
            bad_messages=self._transport.bad_messages + (door.refused if door else 0),
            connections_ended=self._transport.connections_ended,
        )

    def _measure(self, now_ns: int) -> None:
        """How busy and how large this process is. A figure that takes a file descriptor stays old if there is none."""
        used_ns = time.process_time_ns()
        self._cpu_percent = 100 * (used_ns - self._cpu_used_ns) / (now_ns - self._cpu_measured_ns)
        self._cpu_used_ns, self._cpu_measured_ns = used_ns, now_ns
        with contextlib.suppress(OSError, psutil.Error):
            self._memory_bytes = self._process.memory_info().rss

    def observe(self, status: NodeStatus, replica: Replica, is_closing: bool) -> None:
        self._complain()
        if self._observe is not None:
            self._observe(status, replica, is_closing)

    def _complain(self) -> None:
        """Called with each snapshot, and with each question of a node that does not publish any yet."""
        for complaint in self._transport.complaints():
            self.note(complaint, is_warning=True)

    def note(self, text: str, is_warning: bool = False) -> None:
        log.log(logging.WARNING if is_warning else logging.INFO, "%s", text)
