"""One session of a client with a cluster, without I/O: requests that are answered exactly once.

Events go in: a connection has come or gone (:meth:`Session.on_connected`, :meth:`Session.on_disconnected`), a frame has
come (:meth:`Session.on_frame`), time has passed (:meth:`Session.on_time`), the caller has a request
(:meth:`Session.submit`). Effects go out through the :class:`~zmqlab.client.roster.Wire` of each node. The load
generator, the synchronous client and the simulator's clients run this code; they differ in wires and clocks.

Theory of operation (Raft thesis, 6.3). The cluster gives a session its id. The session numbers its requests 1, 2, 3,
... A request that is not answered is sent again, mostly to another node, *under its number*: the replicas remember the
answers of the session and give the first answer again, so that nothing is applied twice. Each request says below which
number the client has all answers (``answered_below``), so that the replicas may forget those. What the replicas
remember is bounded, so the :class:`Window` bounds how far numbers run ahead of the first unanswered request.
:mod:`~zmqlab.client.retries` decides when a request is sent again, :mod:`~zmqlab.client.roster` which nodes there are.

An answer may come twice, from two nodes. The first one is taken and the second one is counted. By status:

- OK, STALE and MALFORMED complete the request. The last two mean that the client or the cluster has a bug.
- BUSY, CLOSING and ELSEWHERE: the request goes to another node.
- WINDOW_FULL: the request is sent again a little later, with the newest ``answered_below``.
- SESSION_EXPIRED: the session is over (:attr:`Session.expired`), and the outcome of all open requests is unknown.

Rules: no socket, no clock (``now_ns`` is handed in and must not fall), no random generator but those handed in.

*Shards.* A session is of one group. Its frames name the group, and a response of another group is a bad frame. A client
of a cluster with shards has a session for each group that it trades in: numbers, window, retries, answers and the id
are a group's own.

Left out on purpose: opening another session after an expiry. That would hide that outcomes are unknown.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from zmqlab.client.retries import NodeChoice, OpenRequest, Outbox, ResponseClock, SessionCounters, UnwaitedOutbox
from zmqlab.client.roster import Contact, Numbering, Roster, Wire
from zmqlab.errors import FrameError, NoLeader, RequestError, RequestRefused, RequestTimeout
from zmqlab.wire import control
from zmqlab.wire.client import Response, ResponseStatus, encode_open_session, encode_request, iter_responses
from zmqlab.wire.frames import ANSWER, RESPONSES, parse_header

NS_PER_MS = 1_000_000
WINDOW_FULL_MS = 20
"""Before a request is sent again that met a full window: a few round trips, in which others are answered. It doubles
each time up to WINDOW_FULL_DOUBLINGS_MAX times, because each copy costs the cluster a place in the log."""
WINDOW_FULL_DOUBLINGS_MAX = 4
OPEN_TRY_MS = 500
"""Before OPEN_SESSION is sent again, to the next node: long enough for an election. It doubles with each try, twice, as
each copy opens another session at the cluster."""
OPEN_DOUBLINGS_MAX = 2
OPEN_SOON_MS = 5
"""Before the next try when no node could take OPEN_SESSION."""
LOST_MS = 2_000
"""A client that is owed answers and gets none for so long looks for other nodes: several times a failover."""
WINDOW_BYTES = 2_097_152
"""Of commands ahead of the first unanswered request. A session may store twice that in answers, and answers are about
as large as their commands."""

_OK = int(ResponseStatus.OK)  # plain integers: an attribute of an IntEnum costs on the hot path
_EXPIRED = int(ResponseStatus.SESSION_EXPIRED)
_WINDOW_FULL = int(ResponseStatus.WINDOW_FULL)
_FORBIDDEN = int(ResponseStatus.FORBIDDEN)
_REFUSALS = (_EXPIRED, _WINDOW_FULL, *map(int, (ResponseStatus.BUSY, ResponseStatus.CLOSING, ResponseStatus.ELSEWHERE)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How one session behaves."""

    group: int = 0
    """The Raft group that the session is of (:func:`zmqlab.placement.group_of`); 0 in a cluster without shards."""
    timeout_ms: float = 1_000.0
    """The shortest retry time-out; see :mod:`~zmqlab.client.retries`."""
    suspicion_ms: float = 300.0
    """A node that says nothing for so long, while others do, is avoided."""
    window: int = 512
    """How far numbers run ahead of the first unanswered one; at most what a session of the cluster remembers."""
    window_bytes: int = WINDOW_BYTES
    """How many bytes of commands run ahead of the first unanswered request."""
    node_choice: NodeChoice = "random"
    waits: bool = True
    """False: a request is sent once, and its answer is not waited for. Nothing is known of its outcome."""


class Completion(NamedTuple):
    """A request that was answered."""

    request_number: int
    token: Any
    """What the caller gave to :meth:`Session.submit`."""
    response: Response
    node: int
    """Index of the node whose answer was taken."""
    attempts: int
    first_sent_ns: int
    """When the request was first handed to a connection."""
    completed_ns: int


class Watch(Protocol):
    """Is told what sessions of its group send and hear (:meth:`Session.watched_by`); it may change nothing."""

    group: int

    def sent(self, client_id: int, request: OpenRequest, node: Contact, now_ns: int) -> None:
        """A copy of a request was handed to the connection to ``node``."""
        ...

    def heard(self, response: Response, node: Contact, now_ns: int) -> None:
        """``node`` has sent a response of any kind, to whichever request."""
        ...


class Window:
    """Gives numbers 1, 2, 3, ... to requests, as far ahead as the replicas can remember."""

    def __init__(self, size: int, size_bytes: int = WINDOW_BYTES) -> None:
        assert size >= 1, size
        self.low = 1
        """The first unanswered number: ``answered_below``. All smaller ones are answered."""
        self.next_number = 1
        """``low <= next_number <= low + size``."""
        self._size = size
        self._size_bytes = size_bytes
        self._sizes: dict[int, int] = {}
        """Bytes of commands of the numbers from ``low`` on, answered or not."""
        self._ahead_bytes = 0
        """Sum of ``_sizes``."""

    @property
    def room(self) -> int:
        """How many numbers may be given now."""
        if self._ahead_bytes >= self._size_bytes:
            return 0
        return self._size - (self.next_number - self.low)

    def take(self, size_bytes: int) -> int:
        """A number for a request with so many bytes of commands."""
        number = self.next_number
        assert number < self.low + self._size, "look at room before submitting"
        self.next_number = number + 1
        self._sizes[number] = size_bytes
        self._ahead_bytes += size_bytes
        return number

    def advance(self, still_open: Container[int]) -> None:
        """Move ``low`` to the first number that is ``still_open``."""
        low, sizes = self.low, self._sizes
        while low < self.next_number and low not in still_open:
            self._ahead_bytes -= sizes.pop(low)
            low += 1
        self.low = low


class UnwaitedWindow(Window):
    """For a client that waits for no answer: the oldest numbers make room, as if they had been answered.

    They do so as late as they can. A request that overtakes an older one of another number must not make the replicas
    take that for one that is over.
    """

    def take(self, size_bytes: int) -> int:
        """See :class:`Window`."""
        number = super().take(size_bytes)
        while self.room <= 0:
            self._ahead_bytes -= self._sizes.pop(self.low)
            self.low += 1
        return number


class Session:
    """Exactly-once requests to a cluster; see the module."""

    def __init__(
        self,
        settings: SessionSettings,
        connect: Callable[[Contact], Wire],
        endpoints: Sequence[str],
        *,
        rng: random.Random,
        nonces: random.Random,
        fallbacks: Sequence[str] = (),
        numbering: Numbering | None = None,
    ) -> None:
        """Connect to ``endpoints``; :meth:`begin` opens the session.

        Args:
            settings: how the session behaves.
            connect: makes the connection to a node; called again for each node that is learned of.
            endpoints: where nodes listen for clients; at least one.
            rng: draws nodes.
            nonces: draws the numbers by which this client is told from others before it has an id. Two clients must
                not share a seed: a real one takes ``random.SystemRandom()``.
            fallbacks: further endpoints, tried when no known node can be reached.
            numbering: gives nodes their indexes; shared with other sessions if given.
        """
        self.client_id = 0
        """The session's id; 0 until it is open."""
        self.nonce = 0
        """Of OPEN_SESSION, while the session is being opened; 0 before and after."""
        self.opened_ns = (0, 0)
        """When the session was asked for, and when it was there."""
        self.expired = False
        """Whether the cluster has forgotten this session."""
        self.counters = SessionCounters()
        self._connect = connect
        self._timeout_ns = round(settings.timeout_ms * NS_PER_MS)
        self.roster = Roster(
            self._welcome,
            endpoints,
            nonces=nonces,
            fallbacks=fallbacks,
            numbering=numbering,
            wants_leader=settings.node_choice == "leader",
            group=settings.group,
        )
        self._group = settings.group
        self._nonces = nonces
        window, outbox = (Window, Outbox) if settings.waits else (UnwaitedWindow, UnwaitedOutbox)
        self._window = window(settings.window, settings.window_bytes)
        self._outbox = outbox(
            self.roster,
            self.counters,
            suspicion_ms=settings.suspicion_ms,
            node_choice=settings.node_choice,
            rng=rng,
        )
        self._open = self._outbox.open
        self._open_frame = b""
        self._owed_since_ns = 0
        """When the last answer came or, if none was owed then, the next request."""
        self._open_nodes: list[Contact] = []
        """Which nodes were asked to open the session, the latest last; all are asked before one is asked again."""
        self._open_tries = 0
        self._open_due_ns = 0
        self._open_problem = 0
        """The last status other than OK that OPEN_SESSION got."""
        self._watch: Watch | None = None

    def _welcome(self, contact: Contact) -> None:
        contact.clock = ResponseClock(self._timeout_ns)
        contact.wire = self._connect(contact)

    # What the caller wants.

    def begin(self, now_ns: int) -> None:
        """Ask for a session; :meth:`on_time` and :meth:`on_frame` do the rest, until :attr:`client_id` is set."""
        self.nonce = self._nonces.getrandbits(64) or 1
        self._open_frame = encode_open_session(self.nonce, self._group)
        self._open_due_ns = 0
        self.opened_ns = (now_ns, 0)
        self._owed_since_ns = now_ns

    def submit(self, commands: bytes, now_ns: int, token: Any = None) -> OpenRequest:
        """Send ``commands`` as the next request.

        :attr:`room` must be above 0. If no node can take the request now, it has no ``attempts`` yet: it waits and
        :meth:`on_time` sends it.
        """
        assert self.client_id, "the session is not open"
        if not self._open:
            self._owed_since_ns = now_ns
        number = self._window.take(len(commands))
        frame = encode_request(self.client_id, number, self._window.low, commands, self._group)
        request = OpenRequest(number, commands, frame, token)
        self._outbox.submit(request, now_ns)
        return request

    def watched_by(self, watch: Watch | None) -> None:
        """From now on ``watch`` is told of all requests and responses; None: it ends."""
        self._watch = watch
        if watch is None:
            self._outbox.on_sent = None
        else:
            self._outbox.on_sent = lambda request, node, now_ns: watch.sent(self.client_id, request, node, now_ns)

    @property
    def pending(self) -> int:
        """Requests submitted and not answered."""
        return len(self._open)

    @property
    def next_number(self) -> int:
        """The number that the next request will have."""
        return self._window.next_number

    @property
    def is_waiting(self) -> bool:
        """Whether a request waits for a node to take it."""
        return bool(self._outbox.waiting)

    @property
    def room(self) -> int:
        """How many requests may be submitted now; 0 also while an earlier one waits for a node to take it."""
        return 0 if self._outbox.waiting else self._window.room

    def open_requests(self) -> Iterator[OpenRequest]:
        """The requests without an answer, oldest first."""
        return iter(self._open.values())

    def unsent_requests(self) -> Iterator[OpenRequest]:
        """Those of them that were never handed to a connection: certainly not applied."""
        return iter(self._outbox.unsent.values())

    def open_error(self, timeout_ms: float) -> RequestError:
        """Why the session is not open after so long, for the caller to raise."""
        if self._open_problem == _FORBIDDEN:
            return RequestRefused("the nodes let this key in, and it may not open sessions: that needs a trader's key")
        if self._open_problem:
            name = ResponseStatus(self._open_problem).name
            return NoLeader(f"no session after {timeout_ms:,.0f} ms: nodes answer {name}; does a majority of them run?")
        contacts = self.roster.contacts
        reached = sum(contact.connected for contact in contacts)
        return RequestTimeout(
            f"no session after {timeout_ms:,.0f} ms: {reached} of {len(contacts)} nodes reached; does a majority run?"
        )

    def close(self) -> None:
        """Close all wires; open requests are forgotten."""
        for contact in self.roster.contacts:
            contact.wire.close()

    # What happens.

    def on_connected(self, contact: Contact) -> None:
        """The connection to this node stands."""
        contact.busy_until_ns = contact.avoided_until_ns = 0
        contact.is_stuck = False
        contact.clock.reset()
        self.roster.note_connected(contact)

    def on_disconnected(self, contact: Contact, now_ns: int) -> None:
        """The connection to this node is lost, and with it all answers that would have come over it."""
        self.roster.note_disconnected(contact)
        self._leave(contact, now_ns)

    def on_frame(self, contact: Contact, frame: bytes, now_ns: int) -> list[Completion]:
        """A frame has come from this node; returns the requests that it answers."""
        contact.heard_ns = now_ns
        if contact.avoided_until_ns and not contact.is_stuck:
            contact.avoided_until_ns = 0
        done: list[Completion] = []
        try:
            frame_type, group = parse_header(frame)
            if frame_type == RESPONSES:
                if group != self._group:
                    raise FrameError(f"a response of group {group} came to a session of group {self._group}")
                for response in iter_responses(frame):
                    self._take_response(contact, response, now_ns, done)
            elif frame_type == ANSWER:
                self.roster.take_answer(contact, control.decode_answer(frame))
            else:
                raise FrameError(f"a frame of type {frame_type:#04x} is not for clients")
        except FrameError:
            self.counters.bad_frames += 1
        return done

    def on_time(self, now_ns: int) -> None:
        """Do what has become due; to be called every few milliseconds while anything is outstanding."""
        is_lost = self._is_owed and now_ns - self._owed_since_ns > LOST_MS * NS_PER_MS
        for contact in self.roster.follow(now_ns, is_lost):
            self._leave(contact, now_ns)
            contact.wire.close()
        self._outbox.tend(now_ns)
        self.roster.ask(now_ns)
        if self.nonce:
            self._try_to_open(now_ns)

    @property
    def _is_owed(self) -> bool:
        return bool(self._open or self.nonce)

    def _leave(self, contact: Contact, now_ns: int) -> None:
        self._outbox.leave(contact, now_ns)
        if contact in self._open_nodes[-1:]:
            self._open_due_ns = 0

    def _try_to_open(self, now_ns: int) -> None:
        if now_ns < self._open_due_ns:
            return
        contact = self._outbox.choose(now_ns, other_than=self._open_nodes)
        if contact is None or not contact.wire.send(self._open_frame):
            self._open_due_ns = now_ns + OPEN_SOON_MS * NS_PER_MS
            return
        self._open_nodes = [*self._open_nodes, contact] if contact not in self._open_nodes else [contact]
        self._open_due_ns = now_ns + (OPEN_TRY_MS << min(self._open_tries, OPEN_DOUBLINGS_MAX)) * NS_PER_MS
        self._open_tries += 1

    # What comes in.

    def _take_response(self, contact: Contact, response: Response, now_ns: int, done: list[Completion]) -> None:
        if self._watch is not None:
            self._watch.heard(response, contact, now_ns)
        if response.status == _OK and contact.is_stuck:
            contact.is_stuck = False
            contact.avoided_until_ns = 0
        request = self._open.get(response.request_number)
        if request is not None and response.client_id == self.client_id:
            if response.status in _REFUSALS:
                self._take_refusal(contact, request, response.status, now_ns)
            else:
                self._complete(contact, request, response, now_ns, done)
        elif self.nonce and response.request_number == self.nonce:
            self._take_session(contact, response, now_ns)
        else:
            self.counters.duplicates += 1

    def _take_refusal(self, contact: Contact, request: OpenRequest, status: int, now_ns: int) -> None:
        """The request was not carried out, and may be sent again unless the session is over."""
        if status == _EXPIRED:
            self.expired = True
        elif status == _WINDOW_FULL:
            self._take_window_full(contact, request, now_ns)
        else:
            self._outbox.note_busy(contact, status, now_ns)
            if request.node is contact:
                self._outbox.wait(request, now_ns)

    def _take_session(self, contact: Contact, response: Response, now_ns: int) -> None:
        if response.status == _OK:
            self.client_id = response.client_id
            self.opened_ns = (self.opened_ns[0], now_ns)
            self.nonce = 0
            return
        self._open_problem = response.status
        self._open_due_ns = 0  # another node may take it at once
        self._outbox.note_busy(contact, response.status, now_ns)

    def _take_window_full(self, contact: Contact, request: OpenRequest, now_ns: int) -> None:
        self.counters.window_full += 1
        if request.node is contact:
            pause_ms = WINDOW_FULL_MS << min(request.windows_full, WINDOW_FULL_DOUBLINGS_MAX)
            request.windows_full += 1
            self._outbox.wait(request, now_ns + pause_ms * NS_PER_MS, by_the_log=True)
            args = self.client_id, request.number, self._window.low, request.commands
            request.frame = encode_request(*args, self._group)

    def _complete(
        self, contact: Contact, request: OpenRequest, response: Response, now_ns: int, done: list[Completion]
    ) -> None:
        number = request.number
        self._owed_since_ns = now_ns
        self._outbox.complete(request, contact, now_ns)
        if number == self._window.low:
            self._window.advance(self._open)
        first_sent_ns = request.first_sent_ns
        done.append(Completion(number, request.token, response, contact.index, request.attempts, first_sent_ns, now_ns))
