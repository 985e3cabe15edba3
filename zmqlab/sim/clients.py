"""Simulated clients: sessions, many requests open at once, retries elsewhere, and old requests sent again.

A client behaves as the protocol allows (``docs/wire-format.md``): it numbers its requests, says which answers it has,
sends the same bytes again to some other node when no answer comes, waits when it is told to, and opens a new session
when its own has expired; then the outcome of what was open is unknown, and it is let go.

The orders are few in price, symbol and account, so that they meet, and now and then refer to orders of others or to
none at all.
"""

from __future__ import annotations

import random

from zmqlab.market.types import POST_ONLY, Command, symbol_code
from zmqlab.sim.checkers import Violation
from zmqlab.sim.histories import Histories, Operation
from zmqlab.sim.plan import MS
from zmqlab.sim.world import World
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames, records
from zmqlab.wire.client import Response, ResponseStatus

SYMBOLS = ("AAA", "BBB")
CODES = tuple(map(symbol_code, SYMBOLS))
RETRY_US_MIN, RETRY_US_MAX = 100 * MS, 400 * MS
"""Around an election's length: some requests are asked again while their first copy is still under way."""
OLD_AGAIN = 0.05
"""Share of a client's turns in which it sends an old request again."""


class Client:
    """One client. Its identity to the network is ``address``."""

    def __init__(self, address: int, around: World, histories: Histories, rng: random.Random) -> None:
        self.address = address
        self.requests = 0
        self.unknown = 0
        """Operations whose outcome nobody can tell: the session expired."""
        self.open: dict[int, Operation] = {}
        """request_number -> what is not answered; nonces are larger than all of them."""
        self._around = around
        self._histories = histories
        self._rng = rng
        self._session = 0
        self._next_number = 1
        self._next_nonce = address << 32
        self._old: list[bytes] = []
        self._orders: list[int] = []
        self._ending = False
        self._last_are_sent = False

    @property
    def is_done(self) -> bool:
        """After :meth:`finish`: everything is answered, also what was asked last."""
        return self._last_are_sent and not self.open

    def begin(self) -> None:
        """Act from now on."""
        self._around.at(int(self._rng.random() * 50 * MS), self._act)

    def finish(self) -> None:
        """One more request and one more read, which must be answered, and nothing after them until the next call."""
        self._ending, self._last_are_sent = True, False

    # Asking.

    def _act(self) -> None:
        now_us = self._around.now_us()
        for operation in list(self.open.values()):
            if operation.next_try_us <= now_us:
                self._send(operation)
        if not self._session:
            self._open_session()
        elif self._ending:
            self._ask_last()
        elif len(self.open) < self._around.plan.requests_open_max:
            if self._rng.random() < self._around.plan.reads:
                self._read()
            else:
                self._request()
        if self._old and self._rng.random() < OLD_AGAIN:
            self._around.network.send(self.address, self._any_node(), self._rng.choice(self._old))
        self._around.at(int(self._rng.expovariate(1.0) * self._around.plan.think_us) + 1, self._act)

    def _ask_last(self) -> None:
        if not self._last_are_sent:
            self._last_are_sent = True
            self._request()
            self._read()

    def _open_session(self) -> None:
        if not any(number > self.address << 32 for number in self.open):
            nonce = self._nonce()
            self._begin(nonce, client_wire.encode_open_session(nonce))

    def _nonce(self) -> int:
        self._next_nonce += 1
        return self._next_nonce

    def _request(self) -> None:
        number = self._next_number
        self._next_number += 1
        self.requests += 1
        self._begin(number, records.pack_commands(self._command() for _ in range(self._rng.randint(1, 3))))

    def _read(self) -> None:
        nonce = self._nonce()
        self._begin(nonce, control.encode(frames.QUERY, control.BookQuery(nonce, self._rng.choice(SYMBOLS))))

    def _begin(self, number: int, content: bytes) -> None:
        operation = self.open[number] = self._histories.invoke(self.address, number, content)
        self._around.note("invoked", client=self.address, number=number)
        self._send(operation)

    def _send(self, operation: Operation) -> None:
        operation.next_try_us = self._around.now_us() + self._rng.randint(RETRY_US_MIN, RETRY_US_MAX)
        self._around.network.send(self.address, self._any_node(), self._frame(operation))

    def _frame(self, operation: Operation) -> bytes:
        """A retry says anew which answers we have: else a full window would stay full."""
        if operation.number > self.address << 32:
            return operation.content
        answered_below = min(self.open, default=operation.number)
        return client_wire.encode_request(self._session, operation.number, answered_below, operation.content)

    def _any_node(self) -> int:
        """Mostly a member, as far as clients know; in the first phase also one that was removed or is none yet."""
        if self._ending or self._rng.random() < 0.8:
            return self._rng.choice(self._around.members)
        return self._rng.choice(self._around.reachable()).node_id

    def _command(self) -> Command:
        rng = self._rng
        chance, symbol, price = rng.random(), rng.choice(CODES), 100 + rng.randint(-3, 3)
        quantity, side = rng.randint(0, 9), rng.randint(1, 2)
        if chance < 0.7 or not self._orders:
            order_type, lifetime = rng.choice(((1, 1), (1, 1), (1, 1), (1, 2), (1, 3), (2, 2)))
            flags = POST_ONLY if rng.random() < 0.1 and (order_type, lifetime) == (1, 1) else 0
            return Command(1, side, order_type, lifetime, quantity, 0, symbol, price, self.address, flags)
        order_id = rng.choice(self._orders) if rng.random() < 0.9 else rng.randint(1, 50)
        kind = 2 if chance < 0.85 else 3
        return Command(kind, 0, 0, 0, quantity, order_id, symbol, price, self.address)

    # Being answered.

    def deliver(self, _: int, frame: bytes) -> None:
        """A frame from a node."""
        if frames.parse_header(frame)[0] == frames.ANSWER:
            self._take_answer(control.decode_answer(frame))
            return
        for response in client_wire.iter_responses(frame):
            self._take_response(response)

    def _take_answer(self, answer: control.Answer) -> None:
        operation = self.open.get(answer.nonce)
        if operation is None:
            return
        if isinstance(answer, control.BookAnswer):
            del self.open[answer.nonce]
            self._around.note("answered", client=self.address, number=operation.number, index=answer.log_index)
            self._histories.read(operation, answer.symbol, answer.bids, answer.asks, answer.log_index)

    def _take_response(self, response: Response) -> None:
        """Ours if it is of this session, or of the session that is being opened."""
        number = response.request_number
        operation = self.open.get(number)
        opens = number > self.address << 32
        if operation is None or not (opens or response.client_id == self._session):
            return
        if response.status in (ResponseStatus.BUSY, ResponseStatus.CLOSING):
            return
        self._around.note("answered", client=self.address, number=number, index=response.log_index)
        self._histories.answer(operation, response)
        if response.status == ResponseStatus.WINDOW_FULL:
            return
        frame = self._frame(operation)
        del self.open[number]
        if response.status == ResponseStatus.SESSION_EXPIRED:
            self._expire()
        elif response.status != ResponseStatus.OK:
            raise Violation(f"client {self.address} is told {response.status} for its open request {number}")
        elif opens:
            self._session, self._next_number = response.client_id, 1
        else:
            self._old = [*self._old[-3:], frame]
            self._orders += [each.order_id for each in records.unpack_reports(response.reports) if each.order_id]
            self._orders = self._orders[-8:]

    def _expire(self) -> None:
        """Begin again; what else was open in the session may or may not have been carried out."""
        requests = [number for number in self.open if number < self.address << 32]
        for number in requests:
            del self.open[number]
        self.unknown += 1 + len(requests)
        self._session = 0
        self._last_are_sent = False
