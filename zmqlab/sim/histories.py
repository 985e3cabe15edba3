"""What clients asked and were told, in real time: the checker of linearizability.

Every operation has a moment when it was first sent and a moment when its answer came. The log gives all of them an
order, so that linearizability comes down to three questions, asked at each answer:

* is it the answer that the ledger has at the log index that it names (the ledger compares with a naive exchange)?
* does its log index lie behind that of every operation that had been answered before this one was sent?
* for a read: does it lie behind all that any node had applied when the read was sent, and is the book that was read the
  naive book at that index?
"""

from __future__ import annotations

from dataclasses import dataclass

from zmqlab.market.types import Depth
from zmqlab.sim.checkers import Ledger, Violation
from zmqlab.wire import client as client_wire
from zmqlab.wire.client import Response

Levels = list[tuple[int, int, int]]


@dataclass(slots=True)
class Operation:
    """One operation of one client, from its first sending to its answer, over all retries."""

    client: int
    number: int
    """The request number, or the nonce of a read or of a session."""
    content: bytes
    """The commands of a request; the whole frame of a read or a registration."""
    floor: int
    """Highest log index of an answer that anybody had when this was first sent."""
    applied: int
    """Highest index that any node had applied then."""
    next_try_us: int = 0


class Histories:
    """All operations of all clients."""

    def __init__(self, ledger: Ledger) -> None:
        self.answered = 0
        self.reads = 0
        self._ledger = ledger
        self._floor = 0

    def invoke(self, client: int, number: int, content: bytes) -> Operation:
        """An operation is about to be sent for the first time."""
        return Operation(client, number, content, self._floor, self._ledger.last_index)

    def answer(self, operation: Operation, response: Response) -> None:
        """A response with a log index has come."""
        index = response.log_index
        who = f"client {operation.client}, request {operation.number}"
        if index > self._ledger.last_index:
            raise Violation(f"answers: {who} is answered from {index}, which nobody applied")
        frame = client_wire.encode_responses([self._ledger.body(index)])
        expected = next(client_wire.iter_responses(frame))
        if _without_flags(response) != _without_flags(expected):
            raise Violation(f"answers: {who} is told {response}, but entry {index} says {expected}")
        if index <= operation.floor:
            raise Violation(f"real time: {who} is answered from {index}, though {operation.floor} was answered before")
        self._complete(index)

    def read(self, operation: Operation, symbol: str, bids: Levels, asks: Levels, index: int) -> None:
        """A linearizable read was answered from the state after ``index``."""
        if index < max(operation.floor, operation.applied):
            raise Violation(
                f"linearizable reads: client {operation.client} reads at {index}, "
                f"though {max(operation.floor, operation.applied)} was applied before it asked"
            )
        expected = self._ledger.depth(symbol, index, 10)
        if (bids, asks) != _levels(expected):
            raise Violation(f"linearizable reads: {symbol} at {index} is {bids} {asks}, but should be {expected}")
        self.reads += 1
        self._complete(index)

    def _complete(self, index: int) -> None:
        self.answered += 1
        self._floor = max(self._floor, index)


def _without_flags(response: Response) -> tuple[object, ...]:
    """All but the mark that this is the first answer again."""
    return (*response[:4], *response[5:7], bytes(response.reports), bytes(response.fills))


def _levels(depth: Depth) -> tuple[Levels, Levels]:
    return [(row[0], row[1], row[2]) for row in depth.bids], [(row[0], row[1], row[2]) for row in depth.asks]
