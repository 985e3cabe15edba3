"""Connections that are kept from one question to the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import zmq

from tests.waiting import wait_for
from zmqlab.client.ask import Lines, ask_all, ask_one, new_nonce
from zmqlab.errors import RequestTimeout
from zmqlab.wire import control, frames


class Answering:
    """A node that says OK to all questions but those that it is to leave unanswered."""

    def __init__(self, port: int = 0) -> None:
        self.callers: list[bytes] = []
        """The connections on which it was asked, in the order of the questions."""
        self.is_silent = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.bind(f"tcp://127.0.0.1:{port or '*'}")
        self.endpoint = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            if self._router.poll(20):
                identity, frame = self._router.recv_multipart()
                self.callers.append(identity)
                if not self.is_silent:
                    answer = control.OkAnswer(control.nonce_of(frame), "")
                    self._router.send_multipart([identity, control.encode(frames.ANSWER, answer)])

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._router.close(0)
        self._context.term()


@pytest.fixture
def node() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.close()


@pytest.fixture
def lines() -> Iterator[Lines]:
    made = Lines()
    yield made
    made.close()


def query(_: str = "") -> control.Query:
    return control.StatusQuery(new_nonce())


def test_questions_go_over_one_connection(node: Answering, lines: Lines) -> None:
    for _ in range(3):
        ask_one(node.endpoint, query(), control.OkAnswer, lines=lines)
    assert (len(node.callers), len(set(node.callers)), len(lines)) == (3, 1, 1)
    for _ in range(2):
        ask_one(node.endpoint, query(), control.OkAnswer)
    assert len(set(node.callers)) == 3, "without lines each question has a connection of its own"


def test_a_connection_on_which_a_question_stayed_open_is_closed(node: Answering, lines: Lines) -> None:
    ask_one(node.endpoint, query(), control.OkAnswer, lines=lines)
    node.is_silent = True
    with pytest.raises(RequestTimeout):
        ask_one(node.endpoint, query(), control.OkAnswer, timeout_s=0.1, lines=lines)
    assert len(lines) == 0, "its late answer would wait there"
    node.is_silent = False
    ask_one(node.endpoint, query(), control.OkAnswer, lines=lines)
    assert wait_for(lambda: len(set(node.callers)) == 2)


def test_a_node_that_came_back_is_reached(lines: Lines) -> None:
    node = Answering()
    ask_one(node.endpoint, query(), control.OkAnswer, lines=lines)
    node.close()
    back = Answering(int(node.endpoint.rpartition(":")[2]))
    assert wait_for(lambda: ask_all([node.endpoint], query, 0.5, lines=lines))
    back.close()


def test_of_several_nodes_the_connections_to_the_others_are_closed(node: Answering, lines: Lines) -> None:
    other = Answering()
    assert len(ask_all([node.endpoint, other.endpoint, node.endpoint], query, lines=lines)) == 2
    lines.keep([other.endpoint])
    assert len(lines) == 1
    lines.close()
    assert len(lines) == 0
    other.close()
