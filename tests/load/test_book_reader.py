"""Books are read beside the load: no answer is waited for, late ones count, refusals don't."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import zmq

from tests.waiting import wait_for
from zmqlab.load.book_reader import LEVELS, MAX_PENDING, BookReader
from zmqlab.load.history import BookRead
from zmqlab.wire import control
from zmqlab.wire.frames import ANSWER

MS = 1_000_000


class Node:
    """A ROUTER that is steered by hand."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self.endpoint = f"tcp://127.0.0.1:{self._router.bind_to_random_port('tcp://127.0.0.1')}"

    def asked(self) -> tuple[bytes, control.BookQuery]:
        assert self._router.poll(30_000)
        identity, frame = self._router.recv_multipart()
        query = control.decode_query(frame)
        assert isinstance(query, control.BookQuery)
        return identity, query

    def is_asked(self) -> bool:
        return bool(self._router.poll(50))

    def answer(self, identity: bytes, answer: control.Answer) -> None:
        self._router.send_multipart([identity, control.encode(ANSWER, answer)])

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.close()


@pytest.fixture
def reader() -> Iterator[BookReader]:
    made = BookReader(10, ["AAPL"], seed=1)
    yield made
    made.close()


class Loop:
    """Calls the reader as the loop of a load does, on a clock that jumps to the next query."""

    def __init__(self, reader: BookReader, node: Node) -> None:
        self.now_ns = 1_000 * MS
        self._reader, self._node = reader, node

    def ask(self) -> tuple[bytes, control.BookQuery]:
        """Turns until the node is asked: the first queries find no connection."""
        for _ in range(100):
            self.now_ns += 100 * MS
            assert not self._reader.turn(self.now_ns, [self._node.endpoint])
            if self._node.is_asked():
                return self._node.asked()
        raise AssertionError("no query came")

    def read(self) -> BookRead:
        reads: list[BookRead] = []
        wait_for(lambda: reads.extend(self._reader.turn(self.now_ns, [])) or bool(reads))
        (read,) = reads
        return read


def book(query: control.BookQuery, log_index: int) -> control.BookAnswer:
    return control.BookAnswer(query.nonce, query.symbol, [(99, 5, 1)], [], log_index)


def test_a_read_lasts_from_its_query_to_its_answer(reader: BookReader, node: Node) -> None:
    loop = Loop(reader, node)
    identity, query = loop.ask()
    assert query.linearizable
    assert (query.symbol, query.levels) == ("AAPL", LEVELS)
    sent_ns = loop.now_ns
    loop.now_ns += 30 * MS
    node.answer(identity, book(query, 7))
    read = loop.read()
    assert (read.invoked_ns, read.completed_ns) == (sent_ns, sent_ns + 30 * MS)
    assert (read.node, read.log_index, read.bids, read.asks) == (node.endpoint, 7, [(99, 5, 1)], [])


def test_the_answer_of_a_node_that_was_paused_still_counts(reader: BookReader, node: Node) -> None:
    loop = Loop(reader, node)
    identity, first = loop.ask()
    sent_ns = loop.now_ns
    _, second = loop.ask()
    node.answer(identity, book(second, 9))
    assert loop.read().log_index == 9
    loop.now_ns += 60_000 * MS
    node.answer(identity, book(first, 7))
    late = loop.read()
    assert (late.log_index, late.invoked_ns) == (7, sent_ns)


def test_refusals_repetitions_and_strange_frames_are_no_reads(reader: BookReader, node: Node) -> None:
    loop = Loop(reader, node)
    identity, refused = loop.ask()
    node.answer(identity, control.ErrorAnswer(refused.nonce, "no_leader", "ask again"))
    node.answer(identity, book(refused, 5))
    node.answer(identity, book(control.BookQuery(10**9, "AAPL"), 6))
    _, query = loop.ask()
    node.answer(identity, book(query, 7))
    assert loop.read().log_index == 7
    time.sleep(0.02)
    assert not reader.turn(loop.now_ns, [])


def test_one_query_an_interval_and_none_to_a_node_that_is_not_there(reader: BookReader, node: Node) -> None:
    loop = Loop(reader, node)
    loop.ask()
    assert not reader.is_due(loop.now_ns + 99 * MS)
    assert reader.is_due(loop.now_ns + 100 * MS)
    reader.turn(loop.now_ns + 50 * MS, [node.endpoint])
    assert not node.is_asked()
    for tenth in range(2 * MAX_PENDING):
        assert not reader.turn(loop.now_ns + tenth * 100 * MS, ["tcp://127.0.0.1:9"])
