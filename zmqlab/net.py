"""The one module that creates ZeroMQ sockets.

Every socket of zmqlab is made here, so that one place decides what a socket may cost and whom it may talk to. A test
holds the rule (``tests/test_net.py``): ``.socket(`` and ``zmq.Context`` stand in no other module.

Rules:

- Each socket has bounds (:class:`SocketBounds`): the length of its queues, the size of a frame, how long it lingers.
  libzmq's own defaults (no limit on a frame, a linger without end) are never used.
- libzmq is given numbers only: an address and a port. It would look a name up in the thread that moves all data of a
  context, for as long as the name server likes (30 s of silence were measured). Names are looked up before, by
  :mod:`zmqlab.names`.
- Each socket is owned by one thread. A context may be shared by threads.
- A failure to listen is an error of our own (:class:`~zmqlab.errors.PortInUse`,
  :class:`~zmqlab.errors.ListenFailed`) that says what to do next.

:class:`Waiter` is here too, since it depends on how libzmq signals that something has arrived.

Left out: what travels (:mod:`zmqlab.wire`), and who is connected to whom (each owner of sockets).
"""

from __future__ import annotations

import contextlib
import errno
import math
import resource
import select
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psutil
import zmq

from zmqlab.errors import ListenFailed, PortInUse, SettingsError
from zmqlab.settings import is_numeric, parse_endpoint, spelled

Socket = zmq.Socket[bytes]
Context = zmq.Context[zmq.Socket[bytes]]

SOCKETS_MAX = 16_384
"""Of one context; libzmq's own 1,023 are 340 clients of three nodes. Each that there may be takes 8 bytes."""
SELECT_LIMIT = 1_024
"""``select`` refuses file descriptors from here on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketBounds:
    """What one socket may cost. A value of 0 leaves out a heartbeat; queues and frames are always bounded."""

    frame_bytes: int
    """``ZMQ_MAXMSGSIZE``: libzmq ends the connection on which a larger frame arrives, and tells neither side."""
    send_messages: int = 256
    """High-water mark towards each connection."""
    receive_messages: int = 1_024
    linger_ms: int = 0
    """How long a closed socket still tries to send what is queued."""
    reconnect_ms: int = 20
    """First pause before a lost connection is tried again; it doubles up to ``reconnect_max_ms``."""
    reconnect_max_ms: int = 200
    heartbeat_ms: int = 0
    """Interval of ZMTP pings, which find a connection whose other end vanished without a word."""
    only_connected: bool = False
    """``ZMQ_IMMEDIATE``: nothing is queued for a connection that does not stand; a send fails instead."""


def new_context() -> Context:
    """A context with one I/O thread. Its owner ends it with ``destroy(linger=0)`` or ``term()``."""
    context = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
    return context


def shared_context() -> Context:
    """The context that all short questions of this process share: making one costs 2 ms. It lives until the process
    ends, so that its users must close their sockets themselves. A forked child gets a context of its own."""
    return zmq.Context.instance()


def open_socket(context: Context, kind: int, bounds: SocketBounds) -> Socket:
    """A socket of this kind (``zmq.DEALER``, ...) within its bounds, neither bound nor connected."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, bounds.linger_ms)
    socket.setsockopt(zmq.SNDHWM, bounds.send_messages)
    socket.setsockopt(zmq.RCVHWM, bounds.receive_messages)
    socket.setsockopt(zmq.MAXMSGSIZE, bounds.frame_bytes)
    socket.setsockopt(zmq.RECONNECT_IVL, bounds.reconnect_ms)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, bounds.reconnect_max_ms)
    if bounds.heartbeat_ms:
        socket.setsockopt(zmq.HEARTBEAT_IVL, bounds.heartbeat_ms)
        socket.setsockopt(zmq.HANDSHAKE_IVL, bounds.heartbeat_ms)
    if bounds.only_connected:
        socket.setsockopt(zmq.IMMEDIATE, 1)
    return socket


def connect(context: Context, kind: int, endpoint: str, bounds: SocketBounds, topics: Iterable[bytes] = ()) -> Socket:
    """:func:`open_socket`, subscribed to ``topics`` and connecting to ``endpoint``, as :func:`attach` takes it."""
    expect_numbers(endpoint)
    socket = open_socket(context, kind, bounds)
    for topic in topics:
        socket.setsockopt(zmq.SUBSCRIBE, topic)
    attach(socket, endpoint)
    return socket


def attach(socket: Socket, endpoint: str) -> None:
    """Connect ``socket`` to one more endpoint, ``tcp://ADDRESS:PORT``. Nothing is waited for.

    Raises:
        SettingsError: it is no endpoint, or it names a host.
    """
    expect_numbers(endpoint)
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    socket.connect(endpoint)


def detach(socket: Socket, endpoint: str) -> None:
    """End what :func:`attach` began."""
    socket.disconnect(endpoint)


def expect_numbers(endpoint: str) -> None:
    """Raise SettingsError unless ``endpoint`` is an address and a port."""
    if not is_numeric(parse_endpoint(endpoint)[0]):
        raise SettingsError(
            f"{endpoint} names a host: look its address up first, for libzmq would do it while all wait"
        )


def bind(socket: Socket, host: str, port: int, name: str) -> None:
    """Listen at ``tcp://host:port``; ``name`` says in an error which node wants to. ``::`` listens on IPv4, too.

    Raises:
        PortInUse: another process listens there.
        ListenFailed: this machine has no such address, or the port needs rights that the process lacks.
    """
    try:
        socket.setsockopt(zmq.IPV6, int(":" in host))
        socket.bind(f"tcp://{spelled(host)}:{port}")
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise PortInUse(
                f"{name} can't listen on {host}:{port}: {who_listens_on(port)} does."
                " Choose another --port, or end that process; `zmqlab ps` shows the nodes that run"
            ) from None
        raise ListenFailed(f"{name} can't listen on {host}:{port}: {_advice_on(error, host, port)}") from None


def _advice_on(error: zmq.ZMQError, host: str, port: int) -> str:
    if error.errno in (zmq.EADDRNOTAVAIL, errno.ENODEV):
        return f"no interface of this machine has the address {host}. Choose one that `ip address` shows for --bind"
    if error.errno == errno.EACCES:
        return f"port {port} is for privileged processes. Choose a --port from 1024 on"
    return f"{error.strerror}"


def bind_to_free_port(socket: Socket, host: str = "127.0.0.1") -> str:
    """Listen on a port that the system chooses; returns the endpoint."""
    socket.bind(f"tcp://{host}:*")
    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))


def is_out_of_descriptors(error: zmq.ZMQError) -> bool:
    """Whether a socket could not be made because the process, or the machine, has no file descriptor left for it."""
    return error.errno in (errno.EMFILE, errno.ENFILE)


def raise_descriptor_limit() -> int:
    """Raise the soft limit on file descriptors of this process to the hard one; returns how many there may be.

    Many systems give 1,024 and allow far more, for the sake of programs that use ``select``. :class:`Waiter` minds it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "unlimited" and takes less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def monitor(context: Context, socket: Socket, events: int) -> Socket:
    """A socket that reports these events (``zmq.EVENT_...``) of ``socket``; to be closed before it.

    Its queue has no bound: libzmq would wait for room in the thread that moves all data.
    """
    endpoint = f"inproc://monitor-{int(socket.getsockopt(zmq.FD))}"
    socket.monitor(endpoint, events)
    reports = context.socket(zmq.PAIR)
    reports.setsockopt(zmq.LINGER, 0)
    reports.setsockopt(zmq.RCVHWM, 0)
    reports.connect(endpoint)
    return reports


def who_listens_on(port: int) -> str:
    """``python (pid 123)`` where the system tells which process has a TCP port, else ``another process``."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid:
                    return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
                break
    return "another process"


class Waiter:
    """Waits until one of several sockets may have something to receive, with less than a millisecond's precision.

    ``zmq_poll`` and ``epoll`` count in whole milliseconds, which is too coarse for orders that fall due every 200 µs,
    and spinning would take a core from the cluster. ``select`` takes microseconds, on the file descriptors that ZeroMQ
    gives out. Those are edge-triggered: each becomes readable once for what has arrived. So the owner must look at
    every socket's ``ZMQ_EVENTS`` after its last send or receive on that socket and right before it waits.

    ``select`` refuses descriptors from 1,024 on; then ``zmq_poll`` serves, with its milliseconds.
    """

    def __init__(self, sockets: Sequence[Socket]) -> None:
        self._descriptors = [int(socket.getsockopt(zmq.FD)) for socket in sockets]
        self._poller: zmq.Poller | None = None
        if max(self._descriptors, default=0) >= SELECT_LIMIT:
            self._poller = zmq.Poller()
            for socket in sockets:
                self._poller.register(socket, zmq.POLLIN)

    def wait(self, timeout_ms: float) -> bool:
        """False if the time passed and nothing happened."""
        if self._poller is not None:
            return bool(self._poller.poll(math.ceil(timeout_ms)))
        return bool(select.select(self._descriptors, (), (), timeout_ms / 1000)[0])
