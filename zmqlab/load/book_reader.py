"""Reads books while a load runs, so that the verdict can say whether reads are linearizable.

Every so often one linearizable query for one book goes to a node that is drawn at random. Nothing waits for its answer:
a node that was paused answers when it runs again, and that late answer is the most interesting one, since another node
may have led meanwhile. An answer names the log index at which it was read. A checker demands that no request that was
answered before the query was sent stands above that index, and that the book is the one at that index.

There is no thread and no clock: the loop of the load calls :meth:`BookReader.turn` every 20 ms. An answer that came in
between is given the time of the turn. That makes its operation longer than it was, which never makes a good read look
wrong.

Left out on purpose: retries. A query whose answer never comes was lost with its node, and is no operation.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence

import zmq

from zmqlab import net
from zmqlab.client.ask import answer_in
from zmqlab.load import history
from zmqlab.placement import group_of
from zmqlab.wire import control
from zmqlab.wire.frames import MAX_ANSWER_BYTES, QUERY

LEVELS = 100
"""Of each side: with the usual order flow that is most of a book, and 3 KB."""
MAX_PENDING = 1_000
"""Queries whose answers may still come. The oldest is forgotten then: its node has gone."""
NS_PER_S = 1_000_000_000
BOUNDS = net.SocketBounds(frame_bytes=MAX_ANSWER_BYTES, only_connected=True)


class BookReader:
    """Asks nodes for books; belongs to one thread, and must be closed."""

    def __init__(self, rate: float, symbols: Sequence[str], seed: int, shards: int = 1) -> None:
        """Nothing is connected before the first turn.

        Args:
            rate: queries a second, at most 50: a turn sends one.
            symbols: the books to read.
            seed: decides which node is asked for which book.
            shards: how many Raft groups share the symbols at the nodes.
        """
        self._interval_ns = round(NS_PER_S / rate)
        self._symbols = symbols
        self._random = random.Random(f"book reads {seed}")
        self._context = net.new_context()
        self._sockets: dict[str, net.Socket] = {}
        self._pending: dict[int, tuple[str, int]] = {}
        """nonce -> (symbol, when the query was sent); the oldest comes first."""
        self._due_ns = 0
        self._nonce = 0
        self._shards = shards
        self._without: set[tuple[str, int]] = set()
        """(endpoint, group): the node has said that it does not hold the group. It is not asked for that any more."""

    def turn(self, now_ns: int, endpoints: Sequence[str]) -> list[history.BookRead]:
        """Take the answers that have come, and ask one of the nodes at ``endpoints`` if a query is due."""
        reads = [read for endpoint, socket in self._sockets.items() for read in self._receive(endpoint, socket, now_ns)]
        if endpoints and self.is_due(now_ns):
            self._due_ns = now_ns + self._interval_ns
            self._ask(endpoints, now_ns)
        return reads

    def is_due(self, now_ns: int) -> bool:
        """Whether the next turn sends a query."""
        return now_ns >= self._due_ns

    def close(self) -> None:
        """Close the sockets; answers that are still to come are lost."""
        self._context.destroy(linger=0)

    def _ask(self, endpoints: Sequence[str], now_ns: int) -> None:
        endpoint, symbol = self._random.choice(endpoints), self._random.choice(self._symbols)
        group = group_of(symbol, self._shards)
        if (endpoint, group) in self._without:
            left = [each for each in endpoints if (each, group) not in self._without]
            if not left:
                return
            endpoint = self._random.choice(left)
        if endpoint not in self._sockets:
            self._sockets[endpoint] = net.connect(self._context, zmq.DEALER, endpoint, BOUNDS)
        self._nonce += 1
        query = control.BookQuery(nonce=self._nonce, symbol=symbol, levels=LEVELS, linearizable=True)
        with contextlib.suppress(zmq.Again):  # no connection yet, or not any more
            self._sockets[endpoint].send(control.encode(QUERY, query, group), zmq.NOBLOCK)
            self._pending[self._nonce] = (symbol, now_ns)
        if len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]

    def _receive(self, endpoint: str, socket: net.Socket, now_ns: int) -> list[history.BookRead]:
        reads = []
        with contextlib.suppress(zmq.Again):
            while True:
                answer = answer_in(socket.recv_multipart(zmq.NOBLOCK))
                if answer is None or answer.nonce not in self._pending:
                    continue
                symbol, invoked_ns = self._pending.pop(answer.nonce)
                group = group_of(symbol, self._shards)
                if isinstance(answer, control.BookAnswer):  # else the node knew no leader
                    reads.append(_read_of(answer, symbol, endpoint, invoked_ns, now_ns, group))
                elif isinstance(answer, control.ErrorAnswer) and answer.code == control.ErrorCode.NO_GROUP:
                    self._without.add((endpoint, group))
        return reads


def _read_of(
    answer: control.BookAnswer, symbol: str, endpoint: str, invoked_ns: int, now_ns: int, group: int
) -> history.BookRead:
    return history.BookRead(
        invoked_ns=invoked_ns,
        completed_ns=now_ns,
        node=endpoint,
        symbol=symbol,
        levels=LEVELS,
        log_index=answer.log_index,
        group=group,
        bids=answer.bids,
        asks=answer.asks,
    )
