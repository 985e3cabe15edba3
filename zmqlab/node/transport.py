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

With keys (:mod:`zmqlab.keys`) all of them are CURVE sockets. Members enter everywhere, every key that is let in enters
at base + 0 and base + 2, and what it may do there is the engine's to say: a client's frame comes with its sender.

Bounds: a frame's size (libzmq refuses larger ones), a message's number of frames and their sum (drained and dropped
here: libzmq limits a single frame only), and each queue's length. A peer or client whose queue is full loses messages;
Raft and the clients' retries are made for that. Nothing here blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import zmq

from zmqlab import net
from zmqlab.keys import ANYONE, Keyring, Role, Sender
from zmqlab.settings import NodeSettings, client_endpoint, parse_endpoint
from zmqlab.wire import frames

NOBLOCK = int(zmq.NOBLOCK)  # pyzmq's enum flags cost a microsecond at each combination
RCVMORE = int(zmq.RCVMORE)

QUEUE_MESSAGES = 256
"""High-water mark towards one peer or client: at 4 KiB a batch 1 MiB, a quarter of a second at full rate."""
RECEIVE_MESSAGES = 1_024
HARD_LIMIT_FACTOR = 4
"""A frame that is up to so many times too large is counted and dropped here; one beyond is refused by libzmq, which
ends that connection and tells neither side."""
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
_PEER_BOUNDS = _bounds(frames.MAX_PEER_FRAME_BYTES)
_DEALER_BOUNDS = _bounds(frames.MAX_PEER_FRAME_BYTES, only_connected=True)
"""Nothing queues up for a peer that is not there."""
_DOORS = {"publisher": Role.WATCHER, "peers": Role.MEMBER, "clients": Role.WATCHER}
"""By offset from the base port; the lowest role that is let in."""
_QUESTION_BOUNDS = net.SocketBounds(frame_bytes=frames.MAX_ANSWER_BYTES, send_messages=8)


class Transport:
    """All sockets of one node. ``close`` is safe to call twice."""

    def __init__(self, settings: NodeSettings) -> None:
        """Bind the three ports.

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
        self._dealers: dict[str, net.Socket] = {}
        """By base endpoint."""
        self._questions: dict[str, tuple[net.Context, net.Socket]] = {}
        """By base endpoint. Each has a context of its own: libzmq looks a host's name up in the thread that moves a
        context's data, and a silent name server must not stop the others."""
        try:
            self.publisher = self._bind(settings, 0, zmq.PUB, _CLIENT_BOUNDS)
            self.peers = self._bind(settings, 1, zmq.ROUTER, _PEER_BOUNDS)
            self.clients = self._bind(settings, 2, zmq.ROUTER, _CLIENT_BOUNDS)
            self.broadcasts = net.open_socket(self._context, zmq.SUB, _PEER_BOUNDS)
            net.show(self.broadcasts, self._credentials)
            self.broadcasts.setsockopt(zmq.SUBSCRIBE, frames.topic(frames.APPEND_ENTRIES))
        except BaseException:
            self.close()
            raise

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

    # Connections. Addresses are base endpoints.

    def connect(self, address: str) -> None:
        """Make a connection to the node there."""
        host, port = parse_endpoint(address)
        endpoint = f"tcp://{host}:{port + 1}"
        self._dealers[address] = net.connect(
            self._context, zmq.DEALER, endpoint, _DEALER_BOUNDS, credentials=self._credentials
        )

    def disconnect(self, address: str) -> None:
        """End the connection to the node there; what is queued for it is lost."""
        self._dealers.pop(address).close(0)

    def subscribe(self, address: str) -> None:
        """Hear the broadcasts of the node there. libzmq ignores a second call for an address."""
        self.broadcasts.connect(address)

    def unsubscribe(self, address: str) -> None:
        """Hear them no more."""
        self.broadcasts.disconnect(address)

    # Frames out.

    def publish(self, frame: bytes) -> None:
        """To every subscriber; a slow one loses it."""
        self.publisher.send(frame, NOBLOCK)

    def send_to(self, address: str, frame: bytes) -> None:
        """To one peer; lost if it is not connected or does not read."""
        dealer = self._dealers.get(address)
        try:
            if dealer is not None:
                dealer.send(frame, NOBLOCK)
        except zmq.Again:
            self.dropped += 1

    def reply(self, route: bytes, frame: bytes) -> None:
        """To one client; lost if it has gone or does not read."""
        try:
            self.clients.send_multipart((route, frame), NOBLOCK)
        except zmq.ZMQError:
            self.dropped += 1

    def ask(self, address: str, frame: bytes) -> None:
        """A question to another node's client port; lost if it does not read."""
        if address not in self._questions:
            context = net.new_context()
            endpoint = client_endpoint(*parse_endpoint(address))
            socket = net.connect(context, zmq.DEALER, endpoint, _QUESTION_BOUNDS, credentials=self._credentials)
            self._questions[address] = context, socket
        try:
            self._questions[address][1].send(frame, NOBLOCK)
        except zmq.Again:
            return

    def hang_up(self, address: str) -> None:
        """End the connection of the questions to ``address``, if there is one."""
        if address in self._questions:
            self._questions.pop(address)[0].destroy(linger=0)

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
            for address, (_, socket) in self._questions.items()
            for parts in self._receive(socket, most, 1, frames.MAX_ANSWER_BYTES)
        ]

    def _receive(self, socket: net.Socket, most: int, parts_expected: int, max_bytes: int) -> Iterator[list[bytes]]:
        """Up to ``most`` messages; one with too many frames or bytes is read to its end and dropped."""
        receive, get = socket.recv, socket.getsockopt
        checker = self.key_checker if socket is self.clients else None
        for _ in range(most):
            try:
                if checker is None:
                    parts = [receive(NOBLOCK)]
                else:  # 1 to 2 us more a message: libzmq's frame has the name that the key checker gave
                    first = receive(NOBLOCK, False)
                    parts, self._sender = [first.bytes], checker.sender(first)
            except zmq.Again:
                return
            while get(RCVMORE):
                part = receive(NOBLOCK)
                if len(parts) <= parts_expected:
                    parts.append(part)
            if len(parts) == parts_expected and len(parts[-1]) <= max_bytes:
                yield parts
            else:
                self.bad_messages += 1

    def close(self) -> None:
        """Close all sockets at once; what is queued is lost."""
        for address in list(self._questions):
            self.hang_up(address)
        self._context.destroy(linger=0)
