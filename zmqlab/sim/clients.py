"""Simulated clients: production's sessions on simulated wires, in virtual time.

Numbers, window, retries, roster and all reactions to answers are those of :class:`zmqlab.client.session.Session`. This
module adds what surrounds a session: wires that put frames on the simulated network, the clock, a caller that draws
commands, and the checks. Beyond what a session does by itself, a client

- checks each answer to an open request against the history, whatever its status and whether the session takes it;
- expects each request to complete once, with OK;
- reads books, which needs no session;
- sends frames of old and of open requests again, also to nodes that were removed or are no members yet: late copies
  may reach any node;
- looks at each node that its session leaves: :class:`Leaving` knows which of them it must keep;
- compares what its session calls unsent, and so certainly not applied, with what has left;
- opens another session when its own has expired. The outcome of what was open then stays unknown.

Time-outs and windows are drawn small: many requests are sent again while their first copy is still under way, and many
meet a full window. What they order is drawn in :mod:`zmqlab.sim.orders`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from zmqlab.client.retries import NodeChoice, ResponseClock
from zmqlab.client.roster import Contact, Wire
from zmqlab.client.session import Completion, Session, SessionSettings
from zmqlab.endpoints import CLIENT_PORT, client_endpoint, client_endpoint_of, parse_endpoint
from zmqlab.placement import group_of
from zmqlab.sim.checkers import Histories, Operation, Violation
from zmqlab.sim.leaving_rule import Leaving
from zmqlab.sim.orders import MarketPlan, Trader
from zmqlab.sim.plan import MS
from zmqlab.sim.world import World
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames, records
from zmqlab.wire.client import Response, ResponseStatus

if TYPE_CHECKING:
    from zmqlab.sim.node_process import Process

NS_PER_US = 1_000
READ_RETRY_US_MIN, READ_RETRY_US_MAX = 100 * MS, 300 * MS
"""Around an election's length: some reads are asked again while their first copy is still under way."""
HURRY_US = 15 * MS
"""Mean time between two turns of a client when all is healed: what is left to do is to be answered, no more."""
TIMEOUTS_MS = (20, 40, 80, 200)
"""Retry time-outs, from below a round trip to above an election; production's is 1,000."""
NODE_CHOICES: tuple[NodeChoice, ...] = (*("random",) * 8, "round-robin", "leader")
SUSPICIONS_MS = (400, 1_000, 1_000, 3_000)
WINDOWS = (2, 8, 64)
"""Below, near and above the window that the cluster allows."""
WINDOW_BYTES = (80, 400, 100_000)
"""Two orders, ten, and more than a run has."""
UNSENT_TURNS = 4
"""A caller asks by every so many turns which requests were not sent."""
LOOK_TURNS = 12
"""A lost connection is noticed by every so many of a client's turns: often after the node is back."""
OLD_AGAIN = 0.07
"""Share of a client's turns in which it sends a frame again that it need not send."""
PLACES = 15
"""Addresses at which there may ever be nodes: a client that loses all the nodes it knows tries all of them."""


class Client:
    """One client. Its identity to the network is ``address``."""

    def __init__(self, address: int, world: World, histories: Histories, rng: random.Random) -> None:
        self.address = address
        self.requests = 0
        self.unknown = 0
        """Operations whose outcome is unknown, because the session expired."""
        self._world = world
        self._histories = histories
        self._rng = rng
        self._settings = SessionSettings(
            timeout_ms=rng.choice(TIMEOUTS_MS),
            suspicion_ms=rng.choice(SUSPICIONS_MS),
            window=rng.choice(WINDOWS),
            window_bytes=rng.choice(WINDOW_BYTES),
            node_choice=rng.choice(NODE_CHOICES),
            group=world.group,
        )
        self._session: Session | None = None
        """None between sessions."""
        self._leaving = Leaving(address, world.group)
        self._opening: Operation | None = None
        """The registration, until it is answered."""
        self._open: dict[int, Operation] = {}
        """Request number -> a request that is not answered; the session has the same numbers."""
        self._sent: set[int] = set()
        """Numbers of requests of this session that have left at least once."""
        self._reads: dict[int, Operation] = {}
        """Nonce -> a read that is not answered."""
        self._next_nonce = address << 32
        self._old: list[bytes] = []
        """Frames of the last requests that were answered."""
        self._registrations: list[bytes] = []
        """The frame of the last registration that was answered: a copy of it opens a session that no client uses."""
        self._trader = Trader(address, market_of(world), rng)
        self._lives: dict[int, int] = {}
        """Node id -> how often it had ended when its connection was last looked at."""
        self._stranger = Contact(PLACES, "", False)
        """Stands for a node that the session does not talk to and that answers nevertheless."""
        self._stranger.clock = ResponseClock(MS)
        self._turns = 0
        self._appointments = 0
        """How often the next turn was planned; only the last plan counts."""
        self._ending = False
        self._last_are_sent = False

    @property
    def is_done(self) -> bool:
        """After :meth:`finish`: everything is answered, also what was asked last."""
        return self._last_are_sent and not self._open and not self._reads and self._opening is None

    @property
    def session(self) -> Session | None:
        """What its caller talks to; None between two sessions."""
        return self._session

    def begin(self) -> None:
        """Act from now on."""
        self._world.at(int(self._rng.random() * 50 * MS), self._act, self._appointments)

    def finish(self) -> None:
        """One more request and one more read, which must be answered, and nothing after them until the next call."""
        self._ending, self._last_are_sent = True, False
        for read in self._reads.values():
            read.next_try_us = min(read.next_try_us, self._world.now_us() + HURRY_US)
        self._act_later()

    def strays(self) -> list[str]:
        """Nodes that the session keeps a connection to and that are no members; for when all is at rest. With probes,
        which have the time, also members that it does not know."""
        if self._session is None:
            return []
        members = {_endpoint_of(self._world.processes[node_id]) for node_id in self._world.members}
        contacts = self._session.roster.contacts
        unknown = sorted(members - {each.endpoint for each in contacts}) if self._world.plan.probes else []
        return unknown + [each.endpoint for each in contacts if each.connected and each.endpoint not in members]

    # Asking.

    def _act_later(self) -> None:
        """Act when the client has thought; what was planned before is off."""
        self._appointments += 1
        think_us = HURRY_US if self._ending and not self.is_done else self._world.plan.think_us
        self._world.at(int(self._rng.expovariate(1.0) * think_us) + 1, self._act, self._appointments)

    def _act(self, appointment: int) -> None:
        if appointment != self._appointments:
            return
        now_us = self._world.now_us()
        session = self._session or self._new_session()
        self._turns += 1
        if self._turns % UNSENT_TURNS == 0:
            self._look_at_unsent(session)
        if self._turns % LOOK_TURNS == 1:
            self._look_at_connections(session)
        session.on_time(now_us * NS_PER_US)
        for read in list(self._reads.values()):
            if read.next_try_us <= now_us:
                self._send_read(read)
        if not session.client_id:
            pass  # the first request follows when the session is open
        elif self._ending:
            self._ask_last(session)
        elif len(self._open) + len(self._reads) < self._world.plan.requests_open_max:
            if self._rng.random() < self._world.plan.reads:
                self._read()
            elif session.room > 0:
                self._request(session)
        if self._rng.random() < OLD_AGAIN and not self.is_done:
            self._send_again(session)
        self._act_later()

    def _look_at_unsent(self, session: Session) -> None:
        """A caller whose time is up is told which requests are certainly not applied, as they were never sent."""
        if not self._open:
            return
        if session.next_number - min(self._open) > self._settings.window:
            raise Violation(f"window: client {self.address} is at {session.next_number}, with {min(self._open)} open")
        said = {request.number for request in session.unsent_requests()}
        if said != self._open.keys() - self._sent:
            raise Violation(
                f"unsent: client {self.address} calls {sorted(said)} unsent, "
                f"but of {sorted(self._open)}, which are open, it has sent {sorted(self._sent & self._open.keys())}"
            )

    def _ask_last(self, session: Session) -> None:
        if not self._last_are_sent and session.room > 0:
            self._last_are_sent = True
            self._request(session)
            self._read()

    def _new_session(self) -> Session:
        """Ask for a session at the nodes that are members now; further addresses are the last resort."""
        world = self._world
        self._sent.clear()
        self._session = session = Session(
            self._settings,
            self._connect,
            [_endpoint_of(world.processes[node_id]) for node_id in self._known()],
            rng=self._rng,
            nonces=self._rng,
            fallbacks=[client_endpoint(f"10.0.0.{place}", 5000) for place in range(1, PLACES + 1)],
        )
        self._leaving = Leaving(self.address, world.group)
        self._watch(session, self._leaving)
        session.begin(world.now_us() * NS_PER_US)
        opening = client_wire.encode_open_session(session.nonce, world.group)
        self._opening = self._invoke(session.nonce, opening)
        return session

    def _known(self) -> list[int]:
        """The members; with shards any node, whichever groups it holds."""
        return list(self._world.processes) if self._world.plan.shards > 1 else self._world.members

    def _watch(self, session: Session, leaving: Leaving) -> None:
        """Look at each answer before the session does."""
        take_response, take_answer = session._take_response, session.roster.take_answer

        def watched_response(contact: Contact, response: Response, now_ns: int, done: list[Completion]) -> None:
            self._check(session, response)
            take_response(contact, response, now_ns, done)

        def watched_answer(contact: Contact, answer: control.Answer) -> None:
            leaving.told(answer)
            take_answer(contact, answer)

        session._take_response = watched_response  # type: ignore[method-assign]
        session.roster.take_answer = watched_answer  # type: ignore[method-assign]

    def _invoke(self, number: int, content: bytes) -> Operation:
        self._world.note("invoked", client=self.address, number=number)
        return self._histories.invoke(self.address, number, content)

    def _request(self, session: Session) -> None:
        self.requests += 1
        large = self._rng.random() < self._world.plan.large_requests
        commands = self._trader.commands(large)
        number = session.next_number
        self._open[number] = self._invoke(number, commands)
        assert session.submit(commands, self._world.now_us() * NS_PER_US).number == number

    def _read(self) -> None:
        self._next_nonce += 1
        nonce = self._next_nonce
        query = control.BookQuery(nonce, self._trader.symbol())
        frame = control.encode(frames.QUERY, query, self._world.group)
        self._reads[nonce] = self._invoke(nonce, frame)
        self._send_read(self._reads[nonce])

    def _send_read(self, read: Operation) -> None:
        retry_us = self._rng.randint(READ_RETRY_US_MIN, READ_RETRY_US_MAX)
        read.next_try_us = self._world.now_us() + (min(retry_us, 4 * HURRY_US) if self._ending else retry_us)
        self._world.network.send(self.address, self._any_node(), read.content)

    def _send_again(self, session: Session) -> None:
        """A late copy of something; in the end not of what is open, or it would replace a retry that is missing."""
        again = [*self._registrations, *self._old]
        if not self._ending:
            again += [request.frame for request in session.open_requests() if request.attempts]
        if again:
            self._world.network.send(self.address, self._any_node(), self._rng.choice(again))

    def _any_node(self) -> int:
        """Mostly a member; in the first phase also a node that was removed or is no member yet."""
        if self._ending or self._rng.random() < 0.8:
            return self._rng.choice(self._world.members)
        return self._rng.choice(self._world.reachable()).node_id

    # Connections.

    def _connect(self, contact: Contact) -> Wire:
        return SimulatedWire(self, contact)

    def _look_at_connections(self, session: Session) -> None:
        """What a socket's monitor would report: a process that died takes its connections along."""
        now_ns = self._world.now_us() * NS_PER_US
        for contact in list(session.roster.contacts):
            process = self.process_at(contact.endpoint)
            stands = process is not None and _is_up(process)
            crashes = process.crashes + process.ended if process is not None else 0
            if contact.connected and (not stands or crashes != self._lives.get(contact.index)):
                session.on_disconnected(contact, now_ns)
            if stands and not contact.connected:
                self._lives[contact.index] = crashes
                session.on_connected(contact)

    def process_at(self, endpoint: str) -> Process | None:
        """The node that listens there now, if any does."""
        process = self._world.listening.get(_base_endpoint(endpoint))
        return None if process is None or process.is_gone else process

    def send(self, node_id: int, frame: bytes) -> None:
        """Put a frame of the session on the network."""
        if frame[3] == frames.QUERY:
            self._leaving.asked(control.decode_query(frame))
        elif frame[3] == frames.REQUEST:
            self._sent.add(client_wire.parse_request(frame).request_number)
        self._world.network.send(self.address, node_id, frame)

    def left(self, contact: Contact) -> None:
        """The session has closed the connection to a node."""
        if self._session is not None:
            self._leaving.left(contact, self._session.roster.contacts)

    # Being answered.

    def deliver(self, sender: int, frame: bytes) -> None:
        """A frame from a node."""
        if len(frame) > self._world.plan.answer_frame_bytes:
            raise Violation(f"answers: client {self.address} is sent {len(frame)} bytes, which end its connection")
        session = self._session
        if frame[3] == frames.ANSWER and control.nonce_of(frame) in self._reads:
            self._take_read(control.decode_answer(frame))
        elif session is not None:
            endpoint = _endpoint_of(self._world.processes[sender])
            contact = next((each for each in session.roster.contacts if each.endpoint == endpoint), self._stranger)
            for completion in session.on_frame(contact, frame, self._world.now_us() * NS_PER_US):
                self._complete(completion)
            self._follow(session)

    def _take_read(self, answer: control.Answer) -> None:
        if isinstance(answer, control.BookAnswer):
            read = self._reads.pop(answer.nonce)
            self._note_answered(read, answer.log_index)
            self._histories.read(read, answer.symbol, answer.bids, answer.asks, answer.log_index)

    def _check(self, session: Session, response: Response) -> None:
        """An answer to an open operation must be what the log says, whether or not it ends the operation."""
        number = response.request_number
        if response.status in (ResponseStatus.BUSY, ResponseStatus.CLOSING, ResponseStatus.ELSEWHERE):
            return
        operation = self._open.get(number) if response.client_id == session.client_id else None
        if self._opening is not None and number == self._opening.number:
            operation = self._opening
        if operation is not None:
            self._note_answered(operation, response.log_index)
            self._histories.answer(operation, response)

    def _note_answered(self, operation: Operation, index: int) -> None:
        self._world.note("answered", client=self.address, number=operation.number, index=index)

    def _complete(self, completion: Completion) -> None:
        response = completion.response
        operation = self._open.pop(completion.request_number, None)
        if operation is None:
            raise Violation(f"client {self.address} is given two answers to request {completion.request_number}")
        if self._session is None or response.client_id != self._session.client_id:
            raise Violation(f"client {self.address} takes an answer to session {response.client_id} for its own")
        if response.status != ResponseStatus.OK:
            raise Violation(f"client {self.address} is told {response.status} for its open request {operation.number}")
        number = operation.number
        answered_below = min([number, *self._open])
        numbers = response.client_id, number, answered_below
        frame = client_wire.encode_request(*numbers, operation.content, self._world.group)
        self._old = [*self._old[-3:], frame]
        self._trader.answered(operation.content, records.unpack_reports(response.reports))

    def _follow(self, session: Session) -> None:
        """What an answer has done to the session."""
        if self._opening is not None and session.client_id:
            self._registrations = [self._opening.content]
            self._opening = None
        if session.expired:
            self.unknown += len(self._open)
            self._open.clear()
            self._session = None
            self._last_are_sent = False


MakeClient = Callable[[int, World, Histories, random.Random], Client]  # of an address


class SimulatedWire:
    """A session's way to one node."""

    def __init__(self, client: Client, contact: Contact) -> None:
        self._client = client
        self._contact = contact

    def send(self, frame: bytes) -> bool:
        """Put it on the network; False if no connection stands."""
        process = self._client.process_at(self._contact.endpoint) if self._contact.connected else None
        if process is None:
            return False
        self._client.send(process.node_id, frame)
        return True

    def close(self) -> None:
        """The session leaves this node."""
        self._client.left(self._contact)


def market_of(world: World) -> MarketPlan:
    """What a client trades in: with shards, symbols of its group."""
    market, shards = world.plan.market, world.plan.shards
    if shards == 1:
        return market
    names = (f"{letter}{number}" for number in range(100) for letter in "AB")
    own = [name for name in names if group_of(name, shards) == world.group]
    return replace(market, symbols=tuple(own[: len(market.symbols)]))


def _endpoint_of(process: Process) -> str:
    """Where clients reach it."""
    return client_endpoint_of(process.address)


@cache
def _base_endpoint(endpoint: str) -> str:
    host, port = parse_endpoint(endpoint)
    return f"tcp://{host}:{port - CLIENT_PORT}"


def _is_up(process: Process) -> bool:
    """Whether the process runs, so that a connection to it stands."""
    return process.engine is not None
