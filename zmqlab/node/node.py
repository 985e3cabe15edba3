"""The loop: frames in, the replica's turn, frames out.

Each turn polls all sockets, drains each up to a bound, ticks as often as time has passed, lets the replica carry out
what follows, and sends the answers: all answers of a turn to one client in one message, since it is messages and
wake-ups that cost, not bytes. The leader's AppendEntries goes out before its own journal is written.

Frames are checked here: the header, that a Raft message is for this node (:mod:`zmqlab.node.peers`), that a request is
whole. What fails is counted, logged at a bounded rate, and dropped.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable
from itertools import islice

import zmq

from zmqlab.errors import FrameError
from zmqlab.node.closing import Closing
from zmqlab.node.joining import Joining
from zmqlab.node.leaving import Leaving
from zmqlab.node.links import Links
from zmqlab.node.metrics import LOG_EVERY, SNAPSHOT_INTERVAL_NS, Metrics, log_line
from zmqlab.node.peers import Peers
from zmqlab.node.queries import Queries
from zmqlab.node.trades import trades_of
from zmqlab.node.transport import Transport
from zmqlab.raft import Configuration, Raft, RaftSettings, Role
from zmqlab.raft.messages import BROADCAST, Entry, Message
from zmqlab.replica import Applied, Journal, Origin, Replica, ReplicaSettings, StateMachine
from zmqlab.replica.replica import Route, request_key
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.control import EventKind
from zmqlab.wire.peer import decode_forward, decode_hello, decode_message, encode_forward, encode_message

STDIN = 0
MAX_PER_TURN = 256
"""Messages taken from one socket before the others get their turn: about 5 ms of work at most."""
MAX_CLIENT_NS_PER_TURN = 20_000_000
"""No more is taken from clients in a turn that has taken so long: hashing 100,000 open orders takes 100 ms, and
256 such questions in one turn would let everybody else wait for half a minute."""
MAX_TICKS_PER_TURN = 3
"""After a long pause time does not run backwards, but it does not rush either: peers are heard between the ticks."""
EAGER_TICKS = 300
"""For so long the node with ``--leader`` goes on asking for votes on its first start: its peers may start later."""
EAGER_INTERVAL_TICKS = 3
BAD_FRAMES_LOGGED_PER_S = 5
TRADES_PER_TURN = 64
"""Trades published a turn; the tape on the wire is for eyes, the book's own tape is exact."""

Observe = Callable[[control.NodeStatus, Replica, bool], None]
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
        founds: bool = False,
    ) -> None:
        """``founds``: without a journal, found a cluster of one, even if the settings name nodes to join."""
        self._settings = settings
        self._observe = observe
        self._transport = transport
        self._metrics = Metrics(settings)
        self._running = False
        self._now_ns = time.monotonic_ns()
        self._bad_logged = 0
        self._snapshots_made = 0
        self._trades_left = TRADES_PER_TURN
        self._last_seen: tuple[int, int, Role] | None = None
        self._outbox: dict[Route, list[bytes]] = {}
        self.replica = self._make_replica(journal, founds or not settings.join)
        self._peers = Peers(settings, transport, self.replica.raft)
        self._joining = Joining(settings, self.replica.raft)
        leaving = Leaving(self.replica.raft) if settings.leave else None
        self._closing = Closing(self.replica, max(1, settings.drain_ms // settings.tick_ms), leaving)
        self._terminated = 0
        """SIGTERMs that came; the signal's handler only counts."""
        self._links = Links(random.Random(), self._peers.address_of)
        self._queries = Queries(self.replica, self._peers, self._status, self._links if settings.allow_faults else None)

    def _make_replica(self, journal: Journal, founds: bool) -> Replica:
        settings = self._settings
        origin = journal.origin(_new_origin(settings, founds))
        stored = journal.load()
        machine = StateMachine()
        if stored.snapshot is not None:
            machine.restore(stored.snapshot.data)
        raft = Raft(
            origin.node_id,
            stored.snapshot.configuration if stored.snapshot else origin.configuration,
            RaftSettings(election_ticks=settings.election_ticks, heartbeat_ticks=settings.heartbeat_ticks),
            random.Random(),
            hard_state=stored.hard_state,
            snapshot=stored.snapshot,
            entries=stored.entries,
        )
        self._eager_ticks = EAGER_TICKS if settings.leader and stored.hard_state is None else 0
        if raft.configuration.voters == (raft.node_id,) or self._eager_ticks:
            raft.campaign()
        limits = ReplicaSettings(snapshot_log_bytes=_staggered(settings.snapshot_log_bytes, raft.node_id))
        log.info(
            "start id=%#x term=%d entries=%d snapshot=%d",
            raft.node_id,
            raft.term,
            len(stored.entries),
            machine.applied_index,
        )
        return Replica(raft, machine, journal, self, limits)

    # The loop.

    def run(self) -> None:
        """Serve until :meth:`stop`, or until standard input ends where the launcher asked to watch it."""
        poller = self._make_poller()
        tick_ns = self._settings.tick_ms * 1_000_000
        next_tick_ns = time.monotonic_ns() + tick_ns
        next_snapshot_ns = time.monotonic_ns()
        self._running = True
        more = False
        """Whether the replica has work left, of the kind that it does in portions."""
        while self._running:
            wake_ns = min(next_tick_ns, self._links.next_due_ns or next_tick_ns)
            wait_ms = 0 if more else max(0, (wake_ns - time.monotonic_ns() + 999_999) // 1_000_000)
            ready = dict(poller.poll(wait_ms))
            started_ns = self._now_ns = time.monotonic_ns()
            if STDIN in ready:
                self._check_stdin()
            if self._terminated and not self._closing.begun:
                self._begin_to_close()
            self._drain(ready)
            ticks = 0
            while next_tick_ns <= started_ns and ticks < MAX_TICKS_PER_TURN:
                self._tick()
                next_tick_ns += tick_ns
                ticks += 1
            if next_tick_ns <= started_ns:
                next_tick_ns = started_ns + tick_ns
            more = self.replica.turn()
            self._flush()
            self._note_changes()
            self._follow_members()
            if self._closing.is_over:
                self.stop()
            if started_ns >= next_snapshot_ns:
                self._publish_snapshot()
                next_snapshot_ns = started_ns + SNAPSHOT_INTERVAL_NS
            self._metrics.turns += 1
            self._metrics.turn_ns_max = max(self._metrics.turn_ns_max, time.monotonic_ns() - started_ns)

    def _tick(self) -> None:
        """One tick; the node that is to lead at first campaigns again and again until the others are there."""
        self.replica.tick()
        self._peers.tick()
        if not self._closing.begun:  # a node that leaves must not ask to come back
            self._joining.tick()
        self._closing.tick()
        if self._eager_ticks:
            raft = self.replica.raft
            self._eager_ticks = 0 if raft.leader_id else self._eager_ticks - 1
            if self._eager_ticks % EAGER_INTERVAL_TICKS == 1 and raft.role in (Role.FOLLOWER, Role.PRE_CANDIDATE):
                raft.campaign()

    def stop(self) -> None:
        """End the loop after this turn; may be called from a signal handler."""
        self._running = False

    def terminate(self) -> None:
        """End in order (:mod:`zmqlab.node.closing`); the second call ends it at once. For signal handlers."""
        self._terminated += 1
        if self._terminated > 1:
            self.stop()

    def _make_poller(self) -> zmq.Poller:
        poller = zmq.Poller()
        for socket in (self._transport.broadcasts, self._transport.peers, self._transport.clients):
            poller.register(socket, zmq.POLLIN)
        if self._settings.watch_stdin:
            poller.register(STDIN, zmq.POLLIN)
        return poller

    def _check_stdin(self) -> None:
        """The launcher never writes; so readable means that it has gone."""
        if not os.read(STDIN, 4_096):
            log.info("stop: the launcher has gone")
            self.stop()

    def _drain(self, ready: dict[object, int]) -> None:
        transport = self._transport
        if transport.broadcasts in ready:
            for frame in transport.receive_broadcasts(MAX_PER_TURN):
                self._handle_peer(frame)
        if transport.peers in ready:
            for frame in transport.receive_from_peers(MAX_PER_TURN):
                self._handle_peer(frame)
        if transport.clients in ready:
            for route, frame in transport.receive_from_clients(MAX_PER_TURN):
                self._handle_client(route, frame)
                if time.monotonic_ns() - self._now_ns > MAX_CLIENT_NS_PER_TURN:
                    break
        if self._links.active:
            for frame in islice(self._links.due(self._now_ns), MAX_PER_TURN):
                self._handle_peer(frame, was_delayed=True)

    # Frames in.

    def _handle_peer(self, frame: bytes, was_delayed: bool = False) -> None:
        try:
            frame_type = _type_of(frame)
            if self._links.active and not was_delayed and not self._links.admit(frame, self._now_ns):
                return
            if frame_type == frames.FORWARD:
                sender, requests = decode_forward(frame)
                self._peers.expect_member(sender)
                self.replica.take_forwarded(requests)
            elif frame_type == frames.HELLO:
                self._peers.take_hello(decode_hello(frame))
            else:
                message = decode_message(frame_type, frame)
                self._peers.expect_message(message)
                self.replica.step(message)
        except FrameError as error:
            self._count_bad("a peer", error)

    def _handle_client(self, route: Route, frame: bytes) -> None:
        try:
            frame_type = _type_of(frame)
            if frame_type == frames.REQUEST or frame_type == frames.OPEN_SESSION:
                if self._closing.begun:
                    self._refuse(route, frame)
                    return
                body = self.replica.take_request(route, frame, self._now_ns)
                if frame_type == frames.REQUEST:
                    self._metrics.orders_taken += client_wire.parse_request(frame).command_count
                if body is not None:
                    self._outbox.setdefault(route, []).append(body)
            elif frame_type == frames.QUERY:
                self._handle_query(route, control.decode_query(frame))
            else:
                raise FrameError(f"frame type {frame_type:#04x} is not for this socket")
        except FrameError as error:
            self._count_bad("a client", error)

    def _handle_query(self, route: Route, query: control.Query) -> None:
        self._queries.handle(query, lambda answer: self._transport.reply(route, control.encode(frames.ANSWER, answer)))

    def _begin_to_close(self) -> None:
        self._closing.begin()
        role = self.replica.raft.role.name.lower()
        self._tell(self._settings.name, EventKind.CLOSING, f"{self._settings.name} closes, as {role}")

    def _refuse(self, route: Route, frame: bytes) -> None:
        key = request_key(frame)
        body = client_wire.encode_response(*key, 0, client_wire.ResponseStatus.CLOSING)
        self._outbox.setdefault(route, []).append(body)

    def _count_bad(self, source: str, error: FrameError) -> None:
        self._metrics.bad_frames += 1
        self._bad_logged += 1
        if self._bad_logged <= BAD_FRAMES_LOGGED_PER_S:
            log.warning("bad frame from %s: %.200s", source, error)

    # Effects: the replica's driver.

    def send(self, messages: Iterable[Message]) -> None:
        """See :class:`zmqlab.replica.Driver`."""
        for message in messages:
            frame = encode_message(message)
            if message.to == BROADCAST:
                self._transport.publish(frame)
            else:
                self._transport.send_to(message.to, frame)

    def forward(self, leader_id: int, requests: list[bytes]) -> None:
        """See :class:`zmqlab.replica.Driver`."""
        self._transport.send_to(leader_id, encode_forward(self.replica.raft.node_id, requests))

    def answer(self, answers: list[tuple[Route, bytes]]) -> None:
        """See :class:`zmqlab.replica.Driver`: kept until the turn's end, so that a client gets one message."""
        for route, body in answers:
            self._outbox.setdefault(route, []).append(body)

    def applied(self, entry: Entry, applied: Applied) -> None:
        """See :class:`zmqlab.replica.Driver`: the leader publishes trades, as many as eyes can follow."""
        fills = applied.fills
        if not fills or self._trades_left <= 0 or self.replica.raft.role is not Role.LEADER:
            return
        for trade in trades_of(entry, applied, self._trades_left):
            self._transport.publish(control.encode(frames.TRADE, trade))
            self._trades_left -= 1

    def _flush(self) -> None:
        if self._outbox:
            for route, bodies in self._outbox.items():
                self._transport.reply(route, client_wire.encode_responses(bodies))
            self._outbox = {}
        if self.replica.answered:
            self._metrics.record_service(self.replica.answered)
            self.replica.answered = []

    # What is told about it.

    def _status(self) -> control.NodeStatus:
        transport = self._transport
        status = self._metrics.status(self.replica, self._peers, transport.dropped)
        status.bad_frames_total += transport.bad_messages
        return status

    def _publish_snapshot(self) -> None:
        self._metrics.new_interval()
        self._trades_left = TRADES_PER_TURN
        status = self._status()
        self._transport.publish(control.encode(frames.METRICS, status))
        if self._observe is not None:
            self._observe(status, self.replica, self._closing.begun)
        self._snapshots_made += 1
        if self._snapshots_made % LOG_EVERY == 0:
            log.info(log_line(status))
            if self._bad_logged > BAD_FRAMES_LOGGED_PER_S:
                log.warning("%d more bad frames in this second", self._bad_logged - BAD_FRAMES_LOGGED_PER_S)
            self._bad_logged = 0
            self._metrics.turn_ns_max = 0

    def _note_changes(self) -> None:
        """Tell of a new role, term or leader, in the log and on the event topic.

        Each turn, for a candidacy lasts a few milliseconds, and people measure elections by these events.
        """
        raft = self.replica.raft
        seen = (raft.term, raft.leader_id, raft.role)
        if seen == self._last_seen:
            return
        before, self._last_seen = self._last_seen, seen
        kind = EventKind.ELECTED if raft.role is Role.LEADER else EventKind.ROLE
        if before is not None and before[2] is Role.LEADER and raft.role is not Role.LEADER:
            kind = EventKind.STEPPED_DOWN
        self._tell(self._settings.name, kind, f"{self._settings.name} is {raft.role.name.lower()} in term {raft.term}")

    def _follow_members(self) -> None:
        """Follow the configuration; the leader tells who votes from now on."""
        for node_id in self._peers.follow():
            if self.replica.raft.role is Role.LEADER:
                name = self._peers.name_of(node_id) or self._peers.address_of(node_id)
                self._tell(name, EventKind.PROMOTED, f"{name} has caught up and votes")

    def _tell(self, node: str, kind: EventKind, text: str) -> None:
        """Something happened: to the log and to the event topic."""
        log.info("%s", text)
        event = control.Event(time_ns=time.time_ns(), node=node, kind=kind, term=self.replica.raft.term, text=text)
        self._transport.publish(control.encode(frames.EVENT, event))


def _new_origin(settings: NodeSettings, founds: bool) -> Origin:
    """What a node without a journal is: nobody yet; a lone founder, whom nobody need know beforehand; or one of several
    founders, known to the others by its address."""
    own_id = secrets.randbits(64) | 1
    founders = settings.founders if settings.peers else {own_id: settings.endpoint} if founds else {}
    first = next(iter(founders), own_id)
    return Origin(first, Configuration(tuple(founders), addresses=tuple(founders.items())))


def _staggered(snapshot_log_bytes: int, node_id: int) -> int:
    """Up to a third more, by the node's identity, so that not all nodes pause for a snapshot at once."""
    return snapshot_log_bytes + snapshot_log_bytes * (node_id // 2 % 1_000) // 3_000


def _type_of(frame: bytes) -> int:
    """The type of a frame for the one Raft group that there is. Raises FrameError."""
    frame_type, group = frames.parse_header(frame)
    if group != 0:
        raise FrameError(f"there is no Raft group {group} here")
    return frame_type
