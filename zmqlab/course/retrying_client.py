"""A simulated client whose retries are a person's: which number an order goes out under, and when again, and to whom.

The person writes a class :data:`CLASS`::

    class RetryingClient:
        def __init__(self, nodes, send, done): ...
        def submit(self, order): ...
        def on_answer(self, node, number, answer): ...
        def on_time(self, now_ms): ...

``send(node, number, order)`` puts a request on the network, where it may get lost, come late or come twice.
``done(order, answer)`` tells the caller that an order is carried out. This module does the rest: it opens the session,
says with each request which numbers are answered (``answered_below``), makes orders, and judges:

* each order is carried out at most once, by the committed log;
* the caller is told of each order at most once, and with that order's own answer;
* when all is healed, or while a minority of the nodes stays away, all orders are done within ten seconds
  (:mod:`zmqlab.sim.simulation`).

A refusal of a node is not handed on: it looks like a request that got lost. Nodes are numbered 1, 2, 3, ... and stand
for places: if the operator replaces a node, the next one takes its number. A session that the cluster forgets ends the
person's client, and another one begins: the fate of its open orders is unknown, and not judged.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zmqlab.course.seeds import Piece
from zmqlab.course.submission import Submission, Unusable
from zmqlab.market.types import Command, Side
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.sim.checkers import Histories, Violation
from zmqlab.sim.clients import Client
from zmqlab.sim.plan import MS
from zmqlab.sim.world import World
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames, records
from zmqlab.wire.client import Response, ResponseStatus

CLASS = "RetryingClient"
METHODS = {
    "submit": ("order",),
    "on_answer": ("node", "number", "answer"),
    "on_time": ("now_ms",),
}
STEP_US = 10 * MS
"""Between two calls of ``on_time``, on the average."""
OPEN_AGAIN_US = 150 * MS
OPEN_ORDERS = 2
"""At a time, and one more at the end: every window of the cluster has room for them."""
NEW_ORDER = 0.3
"""Chance that a step brings a new order, if there is room."""


class Answer(NamedTuple):
    """What a node says of a request."""

    text: str
    log_index: int
    """Where in the log the order was carried out."""


@dataclass(slots=True)
class Placed:
    """An order that was submitted."""

    text: str
    commands: bytes
    numbers: list[int] = field(default_factory=list)
    """Under which it was sent."""


def client_piece(submission: Submission) -> Piece:
    """Clients that retry as the class says."""
    written = submission.find(CLASS, "class")
    submission.expect_parameters(CLASS, written, ("nodes", "send", "done"))
    for name, parameters in METHODS.items():
        method = getattr(written, name, None)
        if method is None:
            raise Unusable(f"{CLASS} has no method {name}({', '.join(('self', *parameters))})")
        submission.expect_parameters(f"{CLASS}.{name}", method, ("self", *parameters))

    def make(address: int, world: World, histories: Histories, rng: random.Random) -> Client:
        return GradedClient(address, world, histories, rng, submission, written)

    return Piece(make_client=make)


class GradedClient(Client):
    """See the module."""

    def __init__(
        self,
        address: int,
        world: World,
        histories: Histories,
        rng: random.Random,
        submission: Submission,
        written: Callable[..., Any],
    ) -> None:
        super().__init__(address, world, histories, rng)
        self._submission = submission
        self._written = written
        self._mine: Any = None
        """The person's client; None while no session is open."""
        self._session_id = 0
        self._sessions: set[int] = set()
        self._nonce = 0
        self._open_again_us = 0
        self._serial = 0
        """Of the last order."""
        self._placed: dict[str, Placed] = {}
        """Orders that are not done, by their text."""
        self._over: set[str] = set()
        """Orders that are done."""
        self._text_of: dict[bytes, str] = {}
        """Commands of an order -> its text; no two orders are alike."""
        self._carried: dict[bytes, tuple[int, int]] = {}
        """Commands -> number and log index of the request that carried them out."""
        self._scanned = 0
        self._top = 0
        """The highest number that was sent in this session."""
        self._last_is_placed = False

    @property
    def is_done(self) -> bool:
        """After :meth:`finish`: all orders are done, also the last one."""
        return self._last_is_placed and not self._placed

    def finish(self) -> None:
        """One more order, which must be done, and none after it until the next call."""
        self._ending, self._last_is_placed = True, False

    def strays(self) -> list[str]:
        """The person's client has no connections of its own."""
        return []

    # Asking.

    def _act(self, appointment: int) -> None:
        self._look_at_the_log()
        if self._mine is None:
            self._open_session()
        else:
            self._place_some()
            self._call("on_time", self._world.now_us() // MS)
        self._world.at(int(STEP_US * (0.5 + self._rng.random())), self._act, appointment)

    def _open_session(self) -> None:
        now_us = self._world.now_us()
        if now_us >= self._open_again_us:
            self._open_again_us = now_us + OPEN_AGAIN_US
            self._nonce = self._nonce or self._rng.getrandbits(63) + 1
            node = self._rng.choice(self._world.members)
            self._world.network.send(self.address, node, client_wire.encode_open_session(self._nonce))

    def _place_some(self) -> None:
        if self._ending and not self._last_is_placed:
            self._last_is_placed = True
        elif self._ending or len(self._placed) >= OPEN_ORDERS or self._rng.random() > NEW_ORDER:
            return
        self._serial += 1
        side, price = self._rng.choice((Side.BUY, Side.SELL)), 100 + self._rng.randint(-3, 3)
        command = Command.limit(side, "AAA", self._serial, price, account=self.address)
        text = f"order {self._serial} of client {self.address}: {side.name.lower()} {self._serial} at {price}"
        order = self._placed[text] = Placed(text, records.pack_commands([command]))
        self._text_of[order.commands] = text
        self.requests += 1
        self._call("submit", text)

    def _call(self, name: str, *arguments: object) -> None:
        self._submission.call(getattr(self._mine, name), *arguments)

    def _send(self, node: int, number: int, order: str) -> None:
        """The person's client sends a request."""
        placed = self._placed.get(order)
        members = self._world.members
        if not isinstance(node, int) or node < 1:
            raise TypeError(f"send(node, number, order): node is {node!r:.40}, and not one of the nodes")
        if not isinstance(number, int) or not 1 <= number < 1 << 63:
            raise TypeError(f"send(node, number, order): number is {number!r:.40}, and not 1, 2, 3, ...")
        if placed is None:
            if order in self._over:
                return  # a late retry: it costs a request and does no harm
            raise TypeError(f"send(node, number, order): {order!r:.60} is no order that was submitted")
        if number not in placed.numbers:
            placed.numbers.append(number)
            self._world.note("invoked", client=self.address, number=number)
        self._top = max(self._top, number)
        frame = client_wire.encode_request(self._session_id, number, self._answered_below(), placed.commands)
        self._world.network.send(self.address, members[(node - 1) % len(members)], frame)

    def _answered_below(self) -> int:
        return min((min(each.numbers) for each in self._placed.values() if each.numbers), default=self._top + 1)

    def _done(self, order: str, answer: Answer) -> None:
        """The person's client tells its caller that an order is carried out."""
        if order in self._over:
            raise Violation(f"told twice: the caller is told a second time that {order} is done")
        if order not in self._placed:
            raise TypeError(f"done(order, answer): {order!r:.60} is no order that was submitted")
        if not isinstance(answer, Answer):
            raise TypeError(f"done(order, answer): {answer!r:.60} is no answer that has come")
        entry = self._world.ledger.entries[answer.log_index - 1]
        answered = self._text_of[bytes(client_wire.request_body(entry.data))]
        if answered != order:
            raise Violation(f"wrong answer: the caller is told that {order} is done, by the answer to {answered}")
        del self._placed[order]
        self._over.add(order)

    # Being answered.

    def deliver(self, sender: int, frame: bytes) -> None:
        """A frame from a node."""
        if frames.parse_header(frame)[0] != frames.RESPONSES:
            return
        for response in client_wire.iter_responses(frame):
            if self._mine is None:
                self._take_session(response)
            elif response.client_id == self._session_id:
                self._take(sender, response)

    def _take_session(self, response: Response) -> None:
        if response.request_number != self._nonce or response.client_id in self._sessions:
            return
        if response.status != ResponseStatus.OK:
            self._open_again_us = self._world.now_us() + STEP_US
            return
        self._session_id, self._nonce, self._top = response.client_id, 0, 0
        self._sessions.add(response.client_id)
        nodes = list(range(1, len(self._world.members) + 1))
        self._mine = self._submission.call(self._written, nodes, self._send, self._done)

    def _take(self, sender: int, response: Response) -> None:
        if response.status == ResponseStatus.SESSION_EXPIRED:
            self.unknown += len(self._placed)
            self._over.update(self._placed)
            self._placed.clear()
            self._mine, self._last_is_placed = None, False
        elif response.status == ResponseStatus.OK:
            members = self._world.members
            node = members.index(sender) + 1 if sender in members else 1
            self._world.note("answered", client=self.address, number=response.request_number, index=response.log_index)
            answer = Answer(f"carried out at {response.log_index}", response.log_index)
            self._call("on_answer", node, response.request_number, answer)

    # Judging.

    def _look_at_the_log(self) -> None:
        """Each order is carried out once, whatever it was sent as."""
        entries = self._world.ledger.entries
        for entry in entries[self._scanned :]:
            if entry.kind == EntryKind.DATA and frames.parse_header(entry.data)[0] == frames.REQUEST:
                self._look_at(entry)
        self._scanned = len(entries)

    def _look_at(self, entry: Entry) -> None:
        request = client_wire.parse_request(entry.data)
        if request.client_id not in self._sessions or not self._was_carried_out(entry.index):
            return
        commands = bytes(client_wire.request_body(entry.data))
        first = self._carried.setdefault(commands, (request.request_number, entry.index))
        if first[1] != entry.index:
            raise Violation(
                f"exactly once: {self._text_of[commands]} is carried out twice, as request {first[0]} at {first[1]}"
                f" and as request {request.request_number} at {entry.index}"
            )

    def _was_carried_out(self, index: int) -> bool:
        body = self._world.ledger.body(index)
        response = next(client_wire.iter_responses(client_wire.encode_responses([body])))
        return response.status == ResponseStatus.OK and not response.flags & client_wire.REPLAYED
