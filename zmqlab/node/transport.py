"""The sockets of a node, with a bound on everything that a stranger or a slow reader could grow.

=========  ========  ==========================================================================
port       socket    carries
=========  ========  ==========================================================================
base + 0   PUB       AppendEntries to all followers, metrics, trades, events
base + 1   ROUTER    what peers send to this node alone; it is never written to
base + 2   ROUTER    clients: requests and queries in, responses and answers out
=========  ========  ==========================================================================

Towards each peer a DEALER is connected to its base + 1, and one SUB to every peer's base + 0, for Raft broadcasts only;
:meth:`Transport.follow` makes and ends these connections as members come and go. So each direction between two nodes
has a connection of its own, and a node's identity is in the frame, not in ZeroMQ.

Bounds: a frame's size (libzmq refuses larger ones), a message's number of frames and their sum (drained and dropped
here: libzmq limits a single frame only), and each queue's length. A peer or client whose queue is full loses messages;
Raft and the clients' retries are made for that. Nothing here blocks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import psutil
import zmq

from zmqlab.errors import PortInUse
from zmqlab.settings import NodeSettings, parse_endpoint
from zmqlab.wire import frames

NOBLOCK = int(zmq.NOBLOCK)  # pyzmq's enum flags cost a microsecond at each combination
RCVMORE = int(zmq.RCVMORE)

QUEUE_MESSAGES = 256
"""High-water mark towards one peer or client: at 4 KiB a batch 1 MiB, a quarter of a second at full rate."""
RECEIVE_MESSAGES = 1_024
HARD_LIMIT_FACTOR = 4
"""A frame that is up to so many times too large is counted and dropped here; one beyond is refused by libzmq, which
ends that connection and tells nobody."""
RECONNECT_MS = 20
"""First wait before a connection to a peer is tried again: a restarted peer is heard within an election time-out."""
RECONNECT_MAX_MS = 200
MAX_GUESTS = 16
"""Nodes that introduced themselves and are no members, to which a connection is kept."""
HEARTBEAT_MS = 2_000
"""ZMTP pings find a connection whose other end vanished without a word."""


def _bounded(socket: zmq.Socket[bytes], max_frame_bytes: int) -> zmq.Socket[bytes]:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, QUEUE_MESSAGES)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_MESSAGES)
    socket.setsockopt(zmq.MAXMSGSIZE, HARD_LIMIT_FACTOR * max_frame_bytes)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HEARTBEAT_MS)
    return socket


def who_listens_on(port: int) -> str:
    """``python (pid 123)`` where the system tells who has a TCP port, else ``another process``."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid:
                    return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
                break
    return "another process"


class _Peer(NamedTuple):
    """A connection to one other node."""

    address: str
    dealer: zmq.Socket[bytes]
    is_member: bool


class Transport:
    """All sockets of one node. ``close`` is safe to call twice."""

    def __init__(self, settings: NodeSettings) -> None:
        """Bind the three ports; :meth:`follow` connects to the peers.

        Raises:
            PortInUse: another process listens on one of the ports.
        """
        self.bad_messages = 0
        """Messages of too many frames, or empty ones; dropped."""
        self.dropped = 0
        """Messages that a full or missing connection did not take."""
        self._context = zmq.Context(io_threads=1)
        self._peers: dict[int, _Peer] = {}
        try:
            self.publisher = self._bind(settings, 0, zmq.PUB, frames.MAX_CLIENT_FRAME_BYTES)
            self.peers = self._bind(settings, 1, zmq.ROUTER, frames.MAX_PEER_FRAME_BYTES)
            self.clients = self._bind(settings, 2, zmq.ROUTER, frames.MAX_CLIENT_FRAME_BYTES)
            self.broadcasts = _bounded(self._context.socket(zmq.SUB), frames.MAX_PEER_FRAME_BYTES)
            self.broadcasts.setsockopt(zmq.SUBSCRIBE, frames.topic(frames.APPEND_ENTRIES))
        except BaseException:
            self.close()
            raise

    def _bind(self, settings: NodeSettings, offset: int, kind: int, max_frame_bytes: int) -> zmq.Socket[bytes]:
        socket = _bounded(self._context.socket(kind), max_frame_bytes)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a client that comes back under its identity is heard again
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # so that what is dropped can be counted
        port = settings.port + offset
        try:
            socket.bind(f"tcp://{settings.bind}:{port}")
        except zmq.ZMQError as error:
            socket.close(0)
            if error.errno != zmq.EADDRINUSE:
                raise PortInUse(f"{settings.name} can't listen on {settings.bind}:{port}: {error}") from None
            raise PortInUse(
                f"{settings.name} can't listen on {settings.bind}:{port}: {who_listens_on(port)} does."
                " Choose another --port, or end that process; `zmqlab ps` shows the nodes that run"
            ) from None
        return socket

    def follow(self, members: Mapping[int, str]) -> None:
        """Be connected to these nodes, by their base endpoints, and to no other former member."""
        for node_id, peer in list(self._peers.items()):
            if peer.is_member and members.get(node_id) != peer.address:
                self._disconnect(node_id)
        for node_id, address in members.items():
            if node_id in self._peers and not self._peers[node_id].is_member:
                self._disconnect(node_id)
            if node_id not in self._peers:
                self._connect(node_id, address, is_member=True)

    def introduce(self, node_id: int, address: str) -> bool:
        """Be able to answer a node that is no member, as far as is known here; of many, the latest few.

        Returns whether a connection had to be made for it."""
        known = self._peers.get(node_id)
        if known is not None and known.address == address:
            return False
        if known is not None:
            self._disconnect(node_id)
        guests = [guest for guest, peer in self._peers.items() if not peer.is_member]
        if len(guests) >= MAX_GUESTS:
            self._disconnect(guests[0])
        self._connect(node_id, address, is_member=False)
        return True

    def _connect(self, node_id: int, address: str, is_member: bool) -> None:
        host, port = parse_endpoint(address)
        dealer = _bounded(self._context.socket(zmq.DEALER), frames.MAX_PEER_FRAME_BYTES)
        dealer.setsockopt(zmq.IMMEDIATE, 1)  # nothing queues up for a peer that is not there
        dealer.connect(f"tcp://{host}:{port + 1}")
        if is_member:
            self.broadcasts.connect(f"tcp://{host}:{port}")
        self._peers[node_id] = _Peer(address, dealer, is_member)

    def _disconnect(self, node_id: int) -> None:
        peer = self._peers.pop(node_id)
        peer.dealer.close(0)
        if peer.is_member:
            host, port = parse_endpoint(peer.address)
            self.broadcasts.disconnect(f"tcp://{host}:{port}")

    def publish(self, frame: bytes) -> None:
        """To every subscriber; a slow one loses it."""
        self.publisher.send(frame, NOBLOCK)

    def send_to(self, node_id: int, frame: bytes) -> None:
        """To one peer; lost if it is not connected or does not read."""
        peer = self._peers.get(node_id)
        try:
            if peer is not None:
                peer.dealer.send(frame, NOBLOCK)
        except zmq.Again:
            self.dropped += 1

    def reply(self, route: bytes, frame: bytes) -> None:
        """To one client; lost if it has gone or does not read."""
        try:
            self.clients.send_multipart((route, frame), NOBLOCK)
        except zmq.ZMQError:
            self.dropped += 1

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

    def _receive(
        self, socket: zmq.Socket[bytes], most: int, parts_expected: int, max_bytes: int
    ) -> Iterator[list[bytes]]:
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
