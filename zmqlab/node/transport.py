"""The sockets of a node, with a bound on everything that a stranger or a slow reader could grow.

=========  ========  ==========================================================================
port       socket    carries
=========  ========  ==========================================================================
base + 0   PUB       AppendEntries to all followers, metrics, trades, events
base + 1   ROUTER    what peers send to this node alone; it is never written to
base + 2   ROUTER    clients: requests and queries in, responses and answers out
=========  ========  ==========================================================================

Towards each peer a DEALER is connected to its base + 1, and one SUB to every member's base + 0, for Raft broadcasts
only. The engine decides which connections there are (:mod:`zmqlab.engine.peers`). So each direction between two nodes
has a connection of its own, and a node's identity is in the frame, not in ZeroMQ. A DEALER to another node's base + 2
carries a question that this node asks as a client would.

A process that ends closes its connections, and its peers learn of its end from that
(:meth:`Transport.closed_connections`). One monitor, of the SUB, tells of all members: it costs two descriptors, however
many members there are. A connection counts only if its handshake had succeeded, so that one which another process, or a
lock without the right key, has refused says nothing.

With keys (:mod:`zmqlab.keys`) all of them are CURVE sockets. Members enter everywhere, every key that is let in enters
at base + 0 and base + 2, and what it may do there is the engine's to say: a client's frame comes with its sender.

Bounds: a frame's size (libzmq refuses larger ones), a message's number of frames and their sum (drained and dropped
here: libzmq limits a single frame only), and each queue's length. A peer or client whose queue is full loses messages;
Raft and the clients' retries are made for that. Nothing here blocks. What libzmq does not bound, connections and what
they bring in without end, :mod:`~zmqlab.node.doorkeeper` does.

A process without a free file descriptor goes on: a connection that can't be made is tried again at the next send, and a
question is lost.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import zmq

from zmqlab import net
from zmqlab.endpoints import client_endpoint_of, parse_endpoint
from zmqlab.handshakes import DISCONNECTED, HANDSHAKES, Complaints, Handshakes
from zmqlab.keys import ANYONE, Keyring, Role, Sender
from zmqlab.node.doorkeeper import Door, Doorkeeper, shares
from zmqlab.settings import NodeSettings
from zmqlab.wire import frames

NOBLOCK = int(zmq.NOBLOCK)  # pyzmq's enum flags cost a microsecond at each combination
NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
RCVMORE = int(zmq.RCVMORE)
SRCFD = int(zmq.SRCFD)

QUEUE_MESSAGES = 256
"""High-water mark towards one peer or client: at 4 KiB a batch 1 MiB, a quarter of a second at full rate."""
RECEIVE_MESSAGES = 1_024
HARD_LIMIT_FACTOR = 4
"""A frame that is up to so many times too large is counted and dropped here; one beyond is refused by libzmq, which
ends that connection and tells neither side."""
LOOKS = 4
"""After so many messages in a row the socket is not asked whether there is another: that costs 1.5 us a message, and
the exception that tells the end costs 6."""
HOSTILE_PARTS = 64
"""A message has one frame, or two. A sender of one with so many is sent away."""
SKIPPED_PARTS = 10_000
"""Of such a message, in one turn: reading them takes 10 ms."""
SUBSCRIPTIONS_BYTES = 4_096
"""What a subscriber may send: 7 bytes for each of four topics, and the handshake. libzmq keeps 50 bytes for one."""
SUBSCRIPTIONS_IN_A_ROW = 8
"""More than zmqlab's own subscribers have. libzmq adds what is queued in the loop's thread, until the queue is empty.
With 1,024 places a flood kept it full, and the loop stood still for as long as it lasted."""
UNFINISHED_FRAMES = 2
"""So many of the largest frames may come in over a connection before one message of it has been read."""
REDIAL_S = 1.0
"""Until a connection is made again that libzmq has given up, because the keys of both ends do not fit."""
ASKED_MAX = 4
"""Questions at once whose handshakes are followed: each takes two descriptors, and few nodes are asked at a time."""
HEARTBEAT_MS = 2_000
"""ZMTP pings find a connection whose other end vanished without a word."""


def _bounds(max_frame_bytes: int, *, only_connected: bool = False) -> net.SocketBounds:
    return net.SocketBounds(
        frame_bytes=HARD_LIMIT_FACTOR * max_frame_bytes,
        send_messages=QUEUE_MESSAGES,
        receive_messages=RECEIVE_MESSAGES,
        heartbeat_ms=HEARTBEAT_MS,
        only_connected=only_connected,
    )


_CLIENT_BOUNDS = _bounds(frames.MAX_CLIENT_FRAME_BYTES)
_SUBSCRIBER_BOUNDS = replace(_bounds(SUBSCRIPTIONS_BYTES // HARD_LIMIT_FACTOR), receive_messages=SUBSCRIPTIONS_IN_A_ROW)
_PEER_BOUNDS = _bounds(frames.MAX_PEER_FRAME_BYTES)
_DEALER_BOUNDS = _bounds(frames.MAX_PEER_FRAME_BYTES, only_connected=True)
"""Nothing queues up for a peer that is not there."""
_DOORS = {"publisher": Role.WATCHER, "peers": Role.MEMBER, "clients": Role.WATCHER}
"""By offset from the base port; the lowest role that is let in."""
_QUESTION_BOUNDS = net.SocketBounds(frame_bytes=frames.MAX_ANSWER_BYTES, send_messages=8)


def _source(frame: zmq.Frame) -> int:
    """The descriptor of the connection that ``frame`` came over; -1 where libzmq does not say (ZMTP before 3.0)."""
    try:
        return int(frame.get(SRCFD))
    except zmq.ZMQError:
        return -1


class Transport:
    """All sockets of one node. ``close`` is safe to call twice."""

    def __init__(self, settings: NodeSettings, descriptors: int = 1_024) -> None:
        """Bind the three ports. ``descriptors``: how many files and connections this process may have open.

        Raises:
            PortInUse: another process listens on one of the ports.
            ListenFailed: this machine has no such address, or the ports need other rights.
            SettingsError: the settings name a folder of keys, and it has no key of a member.
        """
        self.bad_messages = 0
        """Messages of too many frames, or empty ones; dropped."""
        self.dropped = 0
        """Messages that a full or missing connection did not take."""
        keyring = Keyring.read(settings.keys) if settings.keys is not None else None
        self._credentials = keyring.credentials(Role.MEMBER) if keyring else None
        self._context = net.new_context()
        self._sender: Sender | None = ANYONE
        """Of the message that was received last from a client."""
        self.key_checker = net.KeyChecker(self._context, keyring, _DOORS) if keyring else None
        """Its owner polls it. None: there are no keys, and all may enter."""
        self._doors: dict[net.Socket, Door] = {}
        self._doorkeeper: Doorkeeper | None = None
        self._skipping: set[net.Socket] = set()
        """Sockets that are in the middle of a message that is not wanted."""
        self._dealers: dict[str, net.Socket] = {}
        """By base endpoint."""
        self._topics = {frames.topic(frames.APPEND_ENTRIES)}
        """Of the broadcasts that are heard."""
        self._unmade: set[str] = set()
        """Base endpoints to which there is no connection yet, for want of a descriptor."""
        self._questions: dict[str, net.Socket] = {}
        """By base endpoint."""
        self._standing: set[str] = set()
        """Base endpoints that broadcasts are heard from: those to which a connection stands."""
        self._closed: list[str] = []
        """Base endpoints whose connection stood and has closed; the owner was not told yet."""
        self._asked: dict[str, Handshakes] = {}
        """The handshakes of some of the questions, by base endpoint."""
        self._given_up: dict[str, float] = {}
        """Base endpoints of members to which libzmq does not connect again by itself, and when that is tried."""
        self._refused: set[str] = set()
        """Base endpoints that have refused the connection for broadcasts, and not let it in since."""
        self._to_redial: set[str] = set()
        """Base endpoints to which the other connection is made again: libzmq may have given it up."""
        self._complaints = Complaints()
        self._to_tell: list[str] = []
        """Complaints that the owner was not told yet."""
        try:
            self.publisher = self._bind(settings, 0, zmq.PUB, _SUBSCRIBER_BOUNDS)
            self.peers = self._bind(settings, 1, zmq.ROUTER, _PEER_BOUNDS)
            self.clients = self._bind(settings, 2, zmq.ROUTER, _CLIENT_BOUNDS)
            self._doorkeeper = Doorkeeper(self._watched(settings.port, *shares(descriptors)))
            self.broadcasts = net.open_socket(self._context, zmq.SUB, _PEER_BOUNDS)
            self.broadcasts.setsockopt(zmq.SUBSCRIBE, frames.topic(frames.APPEND_ENTRIES))
            self._heard = Handshakes(self._context, self.broadcasts, self._credentials, HANDSHAKES | DISCONNECTED)
            self.inlets = net.Inlets(self._read_by_owner())
            """What the owner waits for."""
        except BaseException:
            self.close()
            raise

    def _read_by_owner(self) -> list[net.Socket]:
        checker = () if self.key_checker is None else (self.key_checker.socket,)
        return [self.broadcasts, self.peers, self.clients, self.endings, *checker]

    def _bind(self, settings: NodeSettings, offset: int, kind: int, bounds: net.SocketBounds) -> net.Socket:
        socket = net.open_socket(self._context, kind, bounds)
        if self._credentials is not None:
            net.lock(socket, self._credentials, list(_DOORS)[offset])
        if kind == zmq.ROUTER:
            # A client that comes back under its identity is heard again. With keys it is not: a client could take the
            # route of another, and the answers on it, by choosing its identity. zmqlab's own clients choose none.
            socket.setsockopt(zmq.ROUTER_HANDOVER, int(self._credentials is None))
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # so that what is dropped can be counted
        net.bind(socket, settings.bind, settings.port + offset, settings.name)
        return socket

    def _watched(self, port: int, subscribers: int, peers: int, clients: int) -> tuple[Door, ...]:
        """A door for each port, with the most connections that it takes."""

        def door(name: str, socket: net.Socket, offset: int, most: int, unfinished_bytes: int) -> Door:
            monitor = net.monitor(self._context, socket, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
            return Door(name, port + offset, monitor, most, unfinished_bytes, has_messages=offset > 0)

        peer_bytes, client_bytes = frames.MAX_PEER_FRAME_BYTES, HARD_LIMIT_FACTOR * frames.MAX_CLIENT_FRAME_BYTES
        self._doors = {
            self.peers: door("peer", self.peers, 1, peers, UNFINISHED_FRAMES * peer_bytes),
            self.clients: door("client", self.clients, 2, clients, UNFINISHED_FRAMES * client_bytes),
        }
        return (door("subscriber", self.publisher, 0, subscribers, SUBSCRIPTIONS_BYTES), *self._doors.values())

    @property
    def connections_ended(self) -> int:
        """Connections of all doors that the doorkeeper has ended."""
        return self._doorkeeper.ended if self._doorkeeper is not None else 0

    # Connections. Addresses are base endpoints.

    def connect(self, address: str) -> None:
        """Make a connection to the node there, now or as soon as there is a descriptor for it."""
        host, port = parse_endpoint(address)
        peer = f"tcp://{host}:{port + 1}"
        try:
            dealer = net.connect(self._context, zmq.DEALER, peer, _DEALER_BOUNDS, credentials=self._credentials)
            self._unmade.discard(address)
            self._dealers[address] = dealer
        except zmq.ZMQError as error:
            if not net.is_out_of_descriptors(error):
                raise
            self._unmade.add(address)

    def disconnect(self, address: str) -> None:
        """End the connection to the node there; what is queued for it is lost."""
        self._unmade.discard(address)
        if address in self._dealers:
            self._dealers.pop(address).close(0)

    def subscribe(self, address: str) -> None:
        """Hear the broadcasts of the node there. libzmq ignores a second call for an address."""
        net.attach(self.broadcasts, address, self._credentials)

    def hear_groups(self, numbers: Sequence[int]) -> None:
        """Of all broadcasts hear those of these groups alone. What another group publishes is not even sent here."""
        wanted = {frames.header(frames.APPEND_ENTRIES, number) for number in numbers}
        for topic in sorted(wanted - self._topics):
            self.broadcasts.setsockopt(zmq.SUBSCRIBE, topic)
        for topic in sorted(self._topics - wanted):
            self.broadcasts.setsockopt(zmq.UNSUBSCRIBE, topic)
        self._topics = wanted

    def unsubscribe(self, address: str) -> None:
        """Hear them no more."""
        self._given_up.pop(address, None)
        self._refused.discard(address)
        net.detach(self.broadcasts, address)

    @property
    def endings(self) -> net.Socket:
        """Readable when the connections for broadcasts have something to report."""
        return self._heard.monitor

    def closed_connections(self) -> list[str]:
        """The base endpoints to which a connection for broadcasts stood and has closed since the last call.

        What came over it is in :attr:`broadcasts` by now. To be called when :attr:`endings` is readable.
        """
        self._take_reports()
        closed, self._closed = self._closed, []
        return closed

    def complaints(self) -> list[str]:
        """Why members, or nodes that were asked, do not let this node in; each is told once. Its owner looks here some
        ten times a second.

        Where libzmq has given a connection up, it is made again: a node may have been started with the wrong keys, and
        be started with the right ones next.
        """
        self._take_reports()
        if self._closed:
            self.inlets.unread.add(self.endings)
        for address, handshakes in list(self._asked.items()):
            for report in list(handshakes.reports()):
                if report.is_final:
                    self.hang_up(address)
                self._to_tell.append(self._complaints.take(report))
        now_s = time.monotonic()
        for address in [each for each, due_s in self._given_up.items() if now_s >= due_s]:
            self.unsubscribe(address)
            self.subscribe(address)
            self._to_redial.add(address)
        for address in self._to_redial & self._dealers.keys():
            self.disconnect(address)
            self.connect(address)
        self._to_redial.clear()
        told, self._to_tell = self._to_tell, []
        return [complaint for complaint in told if complaint]

    def _take_reports(self) -> None:
        """What the connections for broadcasts report."""
        for report in self._heard.reports():
            if report.is_end:
                if report.endpoint in self._standing:
                    self._standing.remove(report.endpoint)
                    self._closed.append(report.endpoint)
                continue
            if report.is_in:
                self._standing.add(report.endpoint)
                if report.endpoint in self._refused:
                    self._refused.remove(report.endpoint)
                    self._to_redial.add(report.endpoint)
            else:
                self._refused.add(report.endpoint)
            if report.is_final:
                self._given_up[report.endpoint] = time.monotonic() + REDIAL_S
            self._to_tell.append(self._complaints.take(report))
        self.inlets.has_more(self.endings)

    # Frames out.

    def publish(self, frame: bytes) -> None:
        """To every subscriber; a slow one loses it."""
        self.publisher.send(frame, NOBLOCK)

    def send_to(self, address: str, frame: bytes) -> None:
        """To one peer; lost if it is not connected or does not read."""
        if address in self._unmade:
            self.connect(address)
        dealer = self._dealers.get(address)
        try:
            if dealer is not None:
                dealer.send(frame, NOBLOCK)
        except zmq.Again:
            self.dropped += 1

    def reply(self, route: bytes, frame: bytes) -> None:
        """To one client; lost if it has gone or does not read."""
        self.inlets.written.add(self.clients)
        try:
            self.clients.send(route, NOBLOCK_MORE)
            self.clients.send(frame, NOBLOCK)  # it can't fail: the first part has found the connection, and its room
        except zmq.ZMQError:
            self.dropped += 1

    def ask(self, address: str, frame: bytes) -> None:
        """A question to another node's client port; lost if it does not read."""
        try:
            if address not in self._questions:
                self._begin_to_ask(address)
            self._questions[address].send(frame, NOBLOCK)
        except zmq.Again:
            return
        except zmq.ZMQError as error:
            if not net.is_out_of_descriptors(error):
                raise
            self.hang_up(address)

    def _begin_to_ask(self, address: str) -> None:
        """Open a connection for questions. What becomes of its handshake is followed from the beginning."""
        question = self._questions[address] = net.open_socket(self._context, zmq.DEALER, _QUESTION_BOUNDS)
        if len(self._asked) < ASKED_MAX:
            self._asked[address] = Handshakes(self._context, question, self._credentials)
        net.attach(question, client_endpoint_of(address), self._credentials)

    def hang_up(self, address: str) -> None:
        """End the connection of the questions to ``address``, if there is one."""
        if address in self._asked:
            self._asked.pop(address).close()
        if address in self._questions:
            self._questions.pop(address).close(0)

    # Frames in.

    def receive_broadcasts(self, most: int) -> Iterator[bytes]:
        """Frames that peers published."""
        for parts in self._receive(self.broadcasts, most, 1, frames.MAX_PEER_FRAME_BYTES):
            yield parts[0]

    def receive_from_peers(self, most: int) -> Iterator[bytes]:
        """Frames that peers sent to this node alone."""
        for parts in self._receive(self.peers, most, 2, frames.MAX_PEER_FRAME_BYTES):
            yield parts[1]

    def receive_from_clients(self, most: int) -> Iterator[tuple[bytes, bytes, Sender]]:
        """``(route, frame, sender)`` of what clients sent. A key that is no longer let in is heard no more."""
        for parts in self._receive(self.clients, most, 2, frames.MAX_CLIENT_FRAME_BYTES):
            if self._sender is None:
                self.bad_messages += 1
            else:
                yield parts[0], parts[1], self._sender

    def receive_answers(self, most: int) -> list[tuple[str, bytes]]:
        """``(address, frame)`` of the answers to this node's own questions."""
        if not self._questions:
            return []
        return [
            (address, parts[0])
            for address, socket in self._questions.items()
            if self.inlets.has_more(socket)
            for parts in self._receive(socket, most, 1, frames.MAX_ANSWER_BYTES)
        ]

    def _receive(self, socket: net.Socket, most: int, parts_expected: int, max_bytes: int) -> Iterator[list[bytes]]:
        """Up to ``most`` messages; one with too many frames or bytes is read to its end and dropped."""
        door = self._doors.get(socket)
        if door is not None:
            door.drains += 1
        if socket in self._skipping:
            if not self._skip(socket):
                return
            self.bad_messages += 1
        receive = socket.recv
        checker = self.key_checker if socket is self.clients else None
        for number in range(most):
            if 0 < number < LOOKS and not self.inlets.has_more(socket):
                return
            try:
                first = receive(NOBLOCK, copy=False)
            except zmq.Again:
                self.inlets.unread.discard(socket)
                return
            parts, part = [first.bytes], first
            if checker is not None:  # 1 to 2 us more a message: the frame has the name that the key checker gave
                self._sender = checker.sender(first)
            while part.more and len(parts) < HOSTILE_PARTS:
                part = receive(NOBLOCK, copy=False)
                parts.append(part.bytes)
            if len(parts) == HOSTILE_PARTS and door is not None:
                door.end(_source(first))
            if len(parts) == HOSTILE_PARTS and not self._skip(socket):
                return
            if len(parts) == parts_expected and len(parts[-1]) <= max_bytes:
                if door is not None and parts[0] not in door.heard:
                    door.heard[parts[0]] = _source(first)
                yield parts
            else:
                self.bad_messages += 1

    def _skip(self, socket: net.Socket) -> bool:
        """Read on to the end of a message that is not wanted, which may take several turns; whether it has come."""
        for _ in range(SKIPPED_PARTS):
            if not socket.getsockopt(RCVMORE):
                self._skipping.discard(socket)
                return True
            with contextlib.suppress(zmq.Again):
                socket.recv(NOBLOCK)
        self._skipping.add(socket)
        return False

    def close(self) -> None:
        """Close all sockets at once; what is queued is lost."""
        if self._doorkeeper is not None:
            self._doorkeeper.close()
        self._context.destroy(linger=0)
