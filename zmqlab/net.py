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
- With keys (:mod:`zmqlab.keys`) each socket is a CURVE socket. :func:`connect` finds by the endpoint which key to show.
  A socket that listens gets a lock (:func:`lock`), and a :class:`KeyChecker` says who may enter.

*Keys are checked* by this process. libzmq asks by ZAP (https://rfc.zeromq.org/spec/27/) whether a key may enter: a
request to ``inproc://zeromq.zap.01`` of the same context. The REP socket there belongs to the thread that owns the
listening sockets, and stands in the same poll; so a node needs no other thread for it. pyzmq's ThreadAuthenticator was
tried first, and did not call back: it looks for a provider of exactly the socket's domain, and one for ``"*"`` serves
sockets without a domain only. It also runs asyncio in a thread of its own. ``ZMQ_ZAP_ENFORCE_DOMAIN`` is set, since
libzmq would let every key in while no handler is there.

:class:`Waiter` and :class:`Inlets` are here too, since they depend on how libzmq signals that something has arrived.

Left out: what travels (:mod:`zmqlab.wire`), and who is connected to whom (each owner of sockets).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import resource
import select
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psutil
import zmq
from zmq.utils import z85

from zmqlab import keys
from zmqlab.endpoints import is_numeric, parse_endpoint, spelled
from zmqlab.errors import ListenFailed, PortInUse, SettingsError
from zmqlab.keys import Credentials, Keyring, Role

Socket = zmq.Socket[bytes]
Context = zmq.Context[zmq.Socket[bytes]]

SOCKETS_MAX = 16_384
"""Of one context; libzmq's own 1,023 are 340 clients of three nodes. Each that there may be takes 8 bytes."""
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
MAX_HANDSHAKES = 64
"""Answered in one go: about a millisecond."""
NO_ROLE = max(Role) + 1
SELECT_LIMIT = 1_024
"""``select`` refuses file descriptors from here on."""
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)  # pyzmq's enum flags cost a microsecond at each combination


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


DOOR_BOUNDS = SocketBounds(frame_bytes=1_024)
"""A request has a key of 32 bytes and a few short words."""


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


def connect(
    context: Context,
    kind: int,
    endpoint: str,
    bounds: SocketBounds,
    topics: Iterable[bytes] = (),
    credentials: Credentials | None = None,
) -> Socket:
    """:func:`open_socket`, subscribed to ``topics`` and connecting to ``endpoint``, as :func:`attach` does it."""
    expect_numbers(endpoint)
    socket = open_socket(context, kind, bounds)
    for topic in topics:
        socket.setsockopt(zmq.SUBSCRIBE, topic)
    attach(socket, endpoint, credentials)
    return socket


def attach(socket: Socket, endpoint: str, credentials: Credentials | None = None) -> None:
    """Connect ``socket`` to one more endpoint, ``tcp://ADDRESS:PORT``. Nothing is waited for.

    It shows ``credentials`` there, or else what :func:`zmqlab.keys.towards` finds.

    Raises:
        SettingsError: it is no endpoint, or it names a host.
    """
    expect_numbers(endpoint)
    show(socket, credentials or keys.towards(endpoint))
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


def show(socket: Socket, credentials: Credentials | None) -> None:
    """Show this key at each endpoint that ``socket`` is connected to from now on; None: no key, in plain text."""
    if credentials is None:
        if socket.getsockopt(zmq.MECHANISM) == zmq.CURVE:
            socket.setsockopt(zmq.CURVE_SERVER, 0)  # this takes CURVE back
        return
    socket.setsockopt(zmq.CURVE_PUBLICKEY, credentials.public.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, credentials.secret.encode())
    socket.setsockopt(zmq.CURVE_SERVERKEY, credentials.server.encode())


def lock(socket: Socket, credentials: Credentials, door: str) -> None:
    """Let only those in whom a :class:`KeyChecker` of this context admits; to be called before the socket is bound.

    Args:
        socket: not bound yet.
        credentials: the key by which those who connect recognize this socket.
        door: what the :class:`KeyChecker` calls it.
    """
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, credentials.public.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, credentials.secret.encode())
    socket.setsockopt(zmq.ZAP_DOMAIN, door.encode())
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


class KeyChecker:
    """Says for the locked sockets of one context which keys may enter.

    Its owner polls :attr:`socket` beside its own sockets and calls :meth:`admit` when it is readable. While it
    does not, no handshake comes to its end; connections that stand are not touched.
    """

    def __init__(self, context: Context, keyring: Keyring, doors: Mapping[str, Role]) -> None:
        """``doors``: the lowest role that each door lets in."""
        self.refused = 0
        """Handshakes with a key that may not enter."""
        self._keyring = keyring
        self._doors = {door.encode(): role for door, role in doors.items()}
        self.socket = open_socket(context, zmq.REP, DOOR_BOUNDS)
        self.socket.bind(ZAP_ENDPOINT)

    def refresh(self) -> None:
        """Read the list of keys again if it has changed: a key that is not in it any more is refused at its next frame.

        It costs a look at the file's time and size; the owner does it some ten times a second.
        """
        self._keyring.refresh()

    def admit(self, most: int = MAX_HANDSHAKES) -> None:
        """Answer what was asked, up to ``most`` handshakes: a flood of them must not hold the owner up."""
        self.refresh()
        for _ in range(most):
            try:
                request = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            version, number, door, _address, _identity, mechanism, *proof = request
            public = z85.encode(proof[0]).decode() if mechanism == b"CURVE" and len(proof) == 1 else ""
            sender = self._keyring.sender(public)
            if sender is not None and sender.role >= self._doors.get(door, NO_ROLE):
                self.socket.send_multipart((version, number, b"200", b"OK", public.encode(), b""))
            else:
                self.refused += 1
                self.socket.send_multipart((version, number, b"400", b"this key is not let in", b"", b""))

    def wait(self, socket: Socket, timeout_ms: int) -> bool:
        """Whether ``socket`` has something to receive; waits for it, and admits meanwhile. May return early."""
        ready, _, _ = zmq.select([socket, self.socket], [], [], timeout_ms / 1000)
        if self.socket in ready:
            self.admit()
        return socket in ready

    def sender(self, frame: zmq.Frame) -> keys.Sender | None:
        """Whose frame it is; None if its key is no longer let in."""
        return self._keyring.sender(str(frame.get("User-Id")))


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
    """A socket that reports these events (``zmq.EVENT_...``) of ``socket``. End it by :func:`stop_monitor`, or with its
    context.

    Its queue has no bound: libzmq would wait for room in the thread that moves all data. Its name is never used again.
    A closed socket's descriptor is, before libzmq has forgotten the name, and then nothing was reported.
    """
    endpoint = f"inproc://monitor-{next(_monitors)}"
    socket.monitor(endpoint, events)
    reports = context.socket(zmq.PAIR)
    reports.setsockopt(zmq.LINGER, 0)
    reports.setsockopt(zmq.RCVHWM, 0)
    reports.connect(endpoint)
    return reports


def stop_monitor(socket: Socket, reports: Socket) -> None:
    """End :func:`monitor`, before ``socket`` is closed. If ``reports`` were only closed, libzmq would wait for a reader
    of the next event, in the thread that moves all data: the whole context stood still."""
    socket.disable_monitor()
    reports.close(0)


_monitors = itertools.count()


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
    gives out. Those are edge-triggered: each becomes readable once for what has arrived, and every call on its socket
    may swallow that. So before it waits, the owner must look at the ``ZMQ_EVENTS`` of each socket that it has sent or
    received on since it last looked. A socket that was left alone since then needs no look.

    ``select`` refuses descriptors from 1,024 on; then ``zmq_poll`` serves, with its milliseconds.
    """

    def __init__(self, sockets: Sequence[Socket]) -> None:
        self._descriptors = [int(socket.getsockopt(zmq.FD)) for socket in sockets]
        self._sockets = list(sockets)
        self._poller: zmq.Poller | None = None
        if max(self._descriptors, default=0) >= SELECT_LIMIT:
            self._poller = zmq.Poller()
            for socket in sockets:
                self._poller.register(socket, zmq.POLLIN)

    def wait(self, timeout_ms: float) -> list[int]:
        """The places, in the order of ``sockets``, where something has happened; none if the time has passed."""
        if self._poller is not None:
            return [self._sockets.index(socket) for socket, _ in self._poller.poll(math.ceil(timeout_ms))]
        ready = select.select(self._descriptors, (), (), timeout_ms / 1000)[0]
        return [self._descriptors.index(descriptor) for descriptor in ready]


class Inlets:
    """The sockets that one thread reads, and which of them have something to receive. Waiting is one system call.

    ``zmq_poll`` looks at every socket twice, before it waits and after: 14 system calls and 9 µs for three sockets, at
    each wake-up. Here ``poll`` waits on the descriptors that ZeroMQ gives out, and the owner receives without a look.
    Those descriptors are edge-triggered (:class:`Waiter`), and so the owner keeps two rules:

    - A socket stays in :attr:`unread` until :meth:`has_more`, or a receive that failed, has shown that it is empty. An
      owner that stops earlier gets it again at once.
    - An owner that sends over one of the sockets adds it to :attr:`written`: libzmq may take note of what has arrived
      while it sends, and the descriptor does not tell of that any more.
    """

    def __init__(self, sockets: Sequence[Socket]) -> None:
        self.unread: set[Socket | int] = set()
        """Sockets that may have something to receive, and plain descriptors that are readable."""
        self.written: set[Socket] = set(sockets)
        """Sockets to look at before the next wait; at first all of them."""
        self._sources: dict[int, Socket | int] = {int(socket.getsockopt(zmq.FD)): socket for socket in sockets}
        self._poll = select.poll()
        for descriptor in self._sources:
            self._poll.register(descriptor, select.POLLIN)

    def add_descriptor(self, descriptor: int) -> None:
        """Wait for a file as well. Its owner takes it out of :attr:`unread` when it has read."""
        self._sources[descriptor] = descriptor
        self._poll.register(descriptor, select.POLLIN)

    def wait(self, timeout_ms: int) -> set[Socket | int]:
        """Wait until there may be something to receive; returns :attr:`unread`, which is empty if the time is up."""
        unread = self.unread
        if self.written:
            unread.update([socket for socket in self.written if _has_input(socket)])
            self.written.clear()
        for descriptor, _ in self._poll.poll(0 if unread else timeout_ms):
            unread.add(self._sources[descriptor])
        return unread

    def has_more(self, socket: Socket) -> bool:
        """Whether ``socket`` still has something to receive."""
        if _has_input(socket):
            return True
        self.unread.discard(socket)
        return False


def _has_input(socket: Socket) -> bool:
    return bool(socket.getsockopt(EVENTS) & POLLIN)  # type: ignore[operator]  # it is a number
