"""Asking the members for a change, one after the other, until it is done: how a node gets in, moves and leaves.

It asks with queries that anybody could send (:mod:`zmqlab.wire.control`), at the members' client ports. One that does
not lead says who does, and that one is asked next. One that knows of no leader, or says nothing, is left for the next
in the list, so that a node that is itself waiting to be taken in holds nobody up.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence

import zmq

from zmqlab.errors import FrameError
from zmqlab.settings import client_endpoint, parse_endpoint
from zmqlab.wire import control, frames

ASK_TICKS = 10
"""Between two questions: 100 ms with ticks of 10 ms."""
SILENT_TICKS = 50
"""A member that has not answered for so long is given up for the next one."""

log = logging.getLogger("zmqlab.node")


class Asker:
    """Asks the same of one member after the other. ``tick`` does all of it and never blocks."""

    def __init__(self, make_query: Callable[[int], control.Query], refused: str) -> None:
        """``make_query`` gets a nonce; ``refused`` completes the sentence "ENDPOINT ..." in the log."""
        self._make_query = make_query
        self._refused = refused
        self._target = ""
        """The base endpoint of the member that is asked."""
        self._redirected = ""
        """Who leads, as the target says."""
        self._give_up = False
        self._last_asked = ""
        self._socket: zmq.Socket[bytes] | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._nonce = 0
        self._ask_at = 0
        self._silent_at = 0
        self._last_refusal = ""
        self.answer: control.Answer | None = None
        """The newest answer that does not only say whom to ask; for its owner to look at."""

    def tick(self, ticks: int, targets: Callable[[], Sequence[str]]) -> None:
        """Look for an answer, and ask again when it is time.

        Args:
            ticks: the time.
            targets: gives the base endpoints of those who may be asked now.
        """
        if self._socket is not None:
            self._take_answers(self._socket, ticks)
        if ticks < self._ask_at:
            return
        self._ask_at = ticks + ASK_TICKS
        if self._redirected:
            self._turn_to(self._redirected, ticks)
        elif self._socket is None or self._give_up or ticks >= self._silent_at:
            self._turn_to(self._next_of(targets()), ticks)
        if self._socket is not None:
            self._ask(self._socket)

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._context is not None:
            self._context.destroy(linger=0)
        self._context = self._socket = None
        self._target = self._redirected = ""

    def _next_of(self, targets: Sequence[str]) -> str:
        """The one behind the one that was asked last; the first, if that one is no longer there."""
        if not targets:
            return ""
        after = targets.index(self._last_asked) + 1 if self._last_asked in targets else 0
        self._last_asked = targets[after % len(targets)]
        return self._last_asked

    def _turn_to(self, target: str, ticks: int) -> None:
        """Ask ``target`` from now on; nobody if it is empty."""
        self._give_up, self._redirected = False, ""
        self._silent_at = ticks + SILENT_TICKS
        if target == self._target:
            return
        self.close()
        if not target:
            return
        host, port = parse_endpoint(target)
        self._target = target
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 8)
        self._socket.setsockopt(zmq.MAXMSGSIZE, frames.MAX_ANSWER_BYTES)
        self._socket.connect(client_endpoint(host, port))

    def _ask(self, socket: zmq.Socket[bytes]) -> None:
        self._nonce = secrets.randbits(63)
        try:
            socket.send(control.encode(frames.QUERY, self._make_query(self._nonce)), zmq.NOBLOCK)
        except zmq.Again:
            return

    def _take_answers(self, socket: zmq.Socket[bytes], ticks: int) -> None:
        while True:
            try:
                (*_, frame) = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                if frames.parse_header(frame)[0] == frames.ANSWER:
                    self._take(control.decode_answer(frame), ticks)
            except FrameError as error:
                log.warning("bad answer from %s: %s", self._target, error)

    def _take(self, answer: control.Answer, ticks: int) -> None:
        if answer.nonce != self._nonce:
            return
        self._silent_at = ticks + SILENT_TICKS
        if isinstance(answer, control.ErrorAnswer) and answer.code == "not_leader":
            self._redirected = answer.leader if answer.leader != self._target else ""
            self._give_up = not self._redirected
            return
        self.answer = answer
        if (
            isinstance(answer, control.ErrorAnswer)
            and answer.code == "refused"
            and answer.message != self._last_refusal
        ):
            self._last_refusal = answer.message
            log.warning("%s %s: %s", self._target, self._refused, answer.message)
