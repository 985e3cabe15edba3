"""A session on ZeroMQ sockets: a DEALER for each node, and the loop that feeds the session.

A :class:`ConnectedSession` is owned by one thread; several of them may share a context and a thread.

A node can fail in two ways, which the connection tells apart. A node that *dies* closes its connection, and what was
sent over that connection will never be answered over it. A node that is *paused* or cut off keeps its connection and
says nothing; :mod:`~zmqlab.client.retries` deals with that.

``ZMQ_IMMEDIATE`` is set: a message is only queued for a connection that stands. So :meth:`Connection.send` fails at
once instead of storing requests for a node that may never come back. And ``ZMQ_POLLOUT`` says whether the connection
stands, since the queue is longer than the largest window. The socket signals a change of that like an arrival. A
connection that is lost and stands again between two looks is not noticed; the retries deal with that, too.

*Descriptors.* A connection costs two: one for the socket's signals and one for TCP. (A monitor for each socket told of
connections before, and cost two more.) Where the process has none left, the connection is tried again every second.

The file descriptors that :class:`~zmqlab.net.Waiter` waits on signal only once for what has arrived, and any call on
the socket may swallow the signal. Each turn therefore reads the sockets that it has *touched*, which it has sent or
received on, to the end before it waits, and after that those that have signalled. A look at a socket costs 1.4 µs, and
most turns touch one of them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from zmqlab import net
from zmqlab.client.ask import silence_of
from zmqlab.client.retries import OpenRequest, SessionCounters
from zmqlab.client.roster import Contact, Numbering
from zmqlab.client.session import Completion, Session, SessionSettings
from zmqlab.errors import RequestError, RequestTimeout, SessionExpired
from zmqlab.keys import Credentials
from zmqlab.wire.frames import MAX_ANSWER_BYTES

NS_PER_MS = 1_000_000
TEND_MS = 5
"""How often time-outs, suspicion and connections are looked at, apart from when a socket has something to say."""
REOPEN_NS = 1_000_000_000
"""Between two tries to open a socket for which there was no descriptor."""
BOUNDS = net.SocketBounds(
    frame_bytes=MAX_ANSWER_BYTES,
    send_messages=2_048,  # more than the largest window: a full queue means that the node does not read
    receive_messages=4_096,
    reconnect_ms=20,
    reconnect_max_ms=250,  # a node that is started again is found a quarter of a second later at most
    only_connected=True,
)

_EVENTS, _POLLIN, _POLLOUT = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.POLLOUT)
_RCVMORE, _NOBLOCK = int(zmq.RCVMORE), int(zmq.NOBLOCK)
"""Plain integers: an enumeration costs a microsecond each time on this path."""


class Connection:
    """The :class:`~zmqlab.client.roster.Wire` to one node: a DEALER."""

    def __init__(self, context: net.Context, contact: Contact, credentials: Credentials | None = None) -> None:
        self.contact = contact
        self._credentials = credentials
        self.socket: net.Socket | None = None
        """To be polled for input; None while there is no descriptor for it."""
        self.is_touched = True
        """Whether something may have come in without a signal. False: the last call found the socket empty."""
        self._context = context
        self._stands = False
        self._open()

    def _open(self) -> None:
        try:
            self.socket = net.connect(self._context, zmq.DEALER, self.contact.endpoint, BOUNDS, (), self._credentials)
        except zmq.ZMQError as error:
            if not net.is_out_of_descriptors(error):
                raise
        self._open_due_ns = time.monotonic_ns() + REOPEN_NS

    def reopen(self, now_ns: int) -> bool:
        """Open the socket if that has failed and it is time to try again; whether it is open only now."""
        if self.socket is None and now_ns >= self._open_due_ns:
            self._open()
            return self.socket is not None
        return False

    def send(self, frame: bytes) -> bool:
        """Hand over a frame; False if there is no connection or its queue is full."""
        if self.socket is None:
            return False
        self.is_touched = True
        try:
            self.socket.send(frame, _NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> bytes | None:
        """The next frame, or None. A message of several frames is not of the protocol: it comes back as an empty frame,
        which the session counts as a bad one."""
        socket = self.socket
        self.is_touched = socket is not None and bool(int(socket.getsockopt(_EVENTS)) & _POLLIN)
        if socket is None or not self.is_touched:
            return None
        frame = socket.recv(_NOBLOCK)
        if socket.getsockopt(_RCVMORE):
            while socket.getsockopt(_RCVMORE):
                socket.recv(_NOBLOCK)
            return b""
        return frame

    def change(self) -> bool | None:
        """Whether the connection stands, if that is not as it was at the last call; else None."""
        if self.socket is None:
            return None
        self.is_touched = True
        stands = bool(int(self.socket.getsockopt(_EVENTS)) & _POLLOUT)
        if stands == self._stands:
            return None
        self._stands = stands
        return stands

    def close(self) -> None:
        """Close the socket at once; nothing is waited for."""
        if self.socket is not None:
            self.socket.close(0)


class ConnectedSession:
    """One session on sockets: :meth:`open`, then :meth:`submit` and :meth:`poll`, then :meth:`close`."""

    def __init__(
        self,
        endpoints: Sequence[str],
        settings: SessionSettings | None = None,
        *,
        fallbacks: Sequence[str] = (),
        rng: random.Random | None = None,
        context: net.Context | None = None,
        numbering: Numbering | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Start to connect; :meth:`open` must follow.

        Args:
            endpoints: where nodes listen for clients, as in ``tcp://127.0.0.1:5002``; at least one.
            settings: how the session behaves.
            fallbacks: further endpoints, tried when no known node can be reached.
            rng: draws the nodes that requests go to.
            context: shared if given, else owned.
            numbering: gives nodes their indexes; shared with other sessions if given.
            credentials: shown to all nodes, also to those that it learns of; else what this process shows them.
        """
        self._owns_context = context is None
        self._context = net.new_context() if context is None else context
        self._credentials = credentials
        self.session = Session(
            settings or SessionSettings(),
            lambda contact: Connection(self._context, contact, credentials),
            endpoints,
            rng=rng or random.Random(),
            nonces=random.SystemRandom(),
            fallbacks=fallbacks,
            numbering=numbering,
        )
        self._connections: list[Connection] = []
        """Of the roster's contacts, in their order."""
        self._waiter: net.Waiter
        self._waited: list[Connection]
        """Those of the connections that have a socket, in the order of the waiter."""
        self._roster_changes = -1
        """The roster's count of changes when ``_connections`` was made."""
        self._reopened = 0
        """Sockets that could only be opened later."""
        self._next_tend_ns = 0
        self._follow_roster()

    def open(self, timeout_ms: float = 10_000, should_stop: Callable[[], bool] = lambda: False) -> int:
        """Open the session, asking one node after the other; returns its id.

        Args:
            timeout_ms: how long to try.
            should_stop: looked at every few milliseconds; True ends the attempt.

        Raises:
            NoLeader: nodes answer, but none of them can take anything for now.
            RequestTimeout: no node answered in time, or ``should_stop`` said so; NotLetIn if the keys are the reason.
        """
        session = self.session
        started_ns = time.monotonic_ns()
        session.begin(started_ns)
        while not session.client_id:
            if should_stop():
                raise session.open_error(timeout_ms)
            if time.monotonic_ns() - started_ns > timeout_ms * NS_PER_MS:
                raise self._why_not_open(timeout_ms)
            self.poll(TEND_MS)
        return session.client_id

    def _why_not_open(self, timeout_ms: float) -> RequestError:
        """What the nodes answered; or else, if they do not let this process in, why."""
        error = self.session.open_error(timeout_ms)
        if not isinstance(error, RequestTimeout) or any(self.connected):
            return error
        return silence_of(self.endpoints, str(error), self._credentials)

    @property
    def client_id(self) -> int:
        """The session's id; 0 until it is open."""
        return self.session.client_id

    @property
    def counters(self) -> SessionCounters:
        """What happened so far."""
        return self.session.counters

    @property
    def pending(self) -> int:
        """Requests submitted and not answered."""
        return self.session.pending

    @property
    def room(self) -> int:
        """How many requests may be submitted now."""
        return self.session.room

    @property
    def leader(self) -> int | None:
        """Index of the node that leads, as far as is known."""
        return self.session.roster.leader

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where the nodes are that are talked to now."""
        return self.session.roster.endpoints

    @property
    def connected(self) -> list[bool]:
        """By node index: whether its connection stands. False for a node that was left."""
        return self.session.roster.connected

    @property
    def all_connected(self) -> bool:
        """Whether every node that is talked to now is connected."""
        return all(contact.connected for contact in self.session.roster.contacts)

    @property
    def sockets(self) -> list[net.Socket]:
        """Of all nodes that are talked to now: for an owner that waits for several sessions at once."""
        return [connection.socket for connection in self._connections if connection.socket is not None]

    @property
    def changes(self) -> int:
        """Grows whenever :attr:`sockets` changes."""
        return self._roster_changes + self._reopened

    @property
    def wants_a_look(self) -> bool:
        """Whether :meth:`poll` has something to do before a socket signals: for an owner that waits for several."""
        if self.session.is_waiting or time.monotonic_ns() >= self._next_tend_ns:
            return True
        return any(connection.is_touched for connection in self._connections)

    def submit(self, commands: bytes, token: Any = None) -> OpenRequest:
        """Send the next request; see :meth:`Session.submit <zmqlab.client.session.Session.submit>`."""
        return self.session.submit(commands, time.monotonic_ns(), token)

    def poll(self, timeout_ms: float = 0) -> list[Completion]:
        """What was answered; waits up to ``timeout_ms`` for it. May return early and without anything.

        Raises:
            SessionExpired: the cluster has forgotten this session.
        """
        done: list[Completion] = []
        self._drain_touched(done)
        now_ns = time.monotonic_ns()
        if now_ns >= self._next_tend_ns or self.session.is_waiting:
            self._tend(now_ns, done)
            self._drain_touched(done)
        may_wait = timeout_ms > 0 and not done and not self.session.expired
        signalled = self._waiter.wait(self.patience_ms(timeout_ms) if may_wait else 0)
        for place in signalled:
            self._drain_one(self._waited[place], done)
        if signalled and not done:
            self._tend(time.monotonic_ns(), done)
        if self.session.expired and not done:
            raise SessionExpired(
                f"session {self.client_id} is unknown to the cluster; the outcome of {self.pending} requests is unknown"
            )
        return done

    def patience_ms(self, timeout_ms: float) -> float:
        """How long to wait in one go: not past the next look at time-outs, if there is anything to time out."""
        session = self.session
        busy = session.pending or not session.client_id
        return min(timeout_ms, TEND_MS if busy else 10 * TEND_MS)

    def close(self) -> None:
        """Close all sockets; open requests are forgotten."""
        self.session.close()
        if self._owns_context:
            self._context.term()

    def __enter__(self) -> ConnectedSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drain_touched(self, done: list[Completion]) -> None:
        for connection in self._connections:
            if connection.is_touched:
                self._drain_one(connection, done)

    def _drain_one(self, connection: Connection, done: list[Completion]) -> None:
        while (frame := connection.receive()) is not None:
            done += self.session.on_frame(connection.contact, frame, time.monotonic_ns())

    def _tend(self, now_ns: int, done: list[Completion]) -> None:
        """Everything that depends on time or on connections."""
        self._next_tend_ns = now_ns + TEND_MS * NS_PER_MS
        for connection in self._connections:
            if connection.reopen(now_ns):
                self._reopened += 1
                self._make_waiter()
            stands = connection.change()
            if stands:
                self.session.on_connected(connection.contact)
            elif stands is not None:
                self._drain_one(connection, done)  # what the node said before it went
                self.session.on_disconnected(connection.contact, now_ns)
        self.session.on_time(now_ns)
        self._follow_roster()

    def _follow_roster(self) -> None:
        roster = self.session.roster
        if roster.changes != self._roster_changes:
            self._roster_changes = roster.changes
            wires = [contact.wire for contact in roster.contacts]
            self._connections = [wire for wire in wires if isinstance(wire, Connection)]
            self._make_waiter()

    def _make_waiter(self) -> None:
        self._waited = [connection for connection in self._connections if connection.socket is not None]
        self._waiter = net.Waiter(self.sockets)
