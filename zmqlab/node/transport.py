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

Bounds: a frame's size (libzmq refuses larger ones), a message's number of frames and their sum (drained and dropped
here: libzmq limits a single frame only), and each queue's length. A peer or client whose queue is full loses messages;
Raft and the clients' retries are made for that. Nothing here blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import zmq

from zmqlab import net
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
_QUESTION_BOUNDS = net.SocketBounds(frame_bytes=frames.MAX_ANSWER_BYTES, send_messages=8)


class Transport:
    """All sockets of one node. ``close`` is safe to call twice."""

    def __init__(self, settings: NodeSettings) -> None:
        """Bind the three ports.

        Raises:
            PortInUse: another process listens on one of the ports.
            ListenFailed: this machine has no such address, or the ports need other rights.
        """
        self.bad_messages = 0
        """Messages of too many frames, or empty ones; dropped."""
        self.dropped = 0
        """Messages that a full or missing connection did not take."""
        self._context = net.new_context()
        self._dealers: dict[str, net.Socket] = {}
        """By base endpoint."""
        self._questions: dict[str, net.Socket] = {}
        """By base endpoint."""
        try:
            self.publisher = self._bind(settings, 0, zmq.PUB, _CLIENT_BOUNDS)
            self.peers = self._bind(settings, 1, zmq.ROUTER, _PEER_BOUNDS)
            self.clients = self._bind(settings, 2, zmq.ROUTER, _CLIENT_BOUNDS)
            self.broadcasts = net.open_socket(self._context, zmq.SUB, _PEER_BOUNDS)
            self.broadcasts.setsockopt(zmq.SUBSCRIBE, frames.topic(frames.APPEND_ENTRIES))
        except BaseException:
            self.close()
            raise

    def _bind(self, settings: NodeSettings, offset: int, kind: int, bounds: net.SocketBounds) -> net.Socket:
        socket = net.open_socket(self._context, kind, bounds)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a client that comes back under its identity is heard again
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # so that what is dropped can be counted
        net.bind(socket, settings.bind, settings.port + offset, settings.name)
        return socket

    # Connections. Addresses are base endpoints.

    def connect(self, address: str) -> None:
        """Make a connection to the node there."""
        host, port = parse_endpoint(address)
        self._dealers[address] = net.connect(self._context, zmq.DEALER, f"tcp://{host}:{port + 1}", _DEALER_BOUNDS)

    def disconnect(self, address: str) -> None:
        """End the connection to the node there; what is queued for it is lost."""
        self._dealers.pop(address).close(0)

    def subscribe(self, address: str) -> None:
        """Hear the broadcasts of the node there. libzmq ignores a second call for an address."""
        net.attach(self.broadcasts, address)

    def unsubscribe(self, address: str) -> None:
        """Hear them no more."""
        net.detach(self.broadcasts, address)

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
            endpoint = client_endpoint(*parse_endpoint(address))
            self._questions[address] = net.connect(self._context, zmq.DEALER, endpoint, _QUESTION_BOUNDS)
        try:
            self._questions[address].send(frame, NOBLOCK)
        except zmq.Again:
            return

    def hang_up(self, address: str) -> None:
        """End the connection of the questions to ``address``, if there is one."""
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

    def receive_from_clients(self, most: int) -> Iterator[tuple[bytes, bytes]]:
        """``(route, frame)`` of what clients sent."""
        for parts in self._receive(self.clients, most, 2, frames.MAX_CLIENT_FRAME_BYTES):
            yield parts[0], parts[1]

    def receive_answers(self, most: int) -> list[tuple[str, bytes]]:
        """``(address, frame)`` of the answers to this node's own questions."""
        if not self._questions:
            return []
        return [
            (address, parts[0])
            for address, socket in self._questions.items()
            for parts in self._receive(socket, most, 1, frames.MAX_ANSWER_BYTES)
        ]

    def _receive(self, socket: net.Socket, most: int, parts_expected: int, max_bytes: int) -> Iterator[list[bytes]]:
        """Up to ``most`` messages; one with too many frames or bytes is read to its end and dropped."""
        receive, get = socket.recv, socket.getsockopt
        for _ in range(most):
            try:
                parts = [receive(NOBLOCK)]
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
        self._context.destroy(linger=0)
