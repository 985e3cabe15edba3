"""Getting into a cluster: a node that nobody knows asks the members, one after the other, until it is taken in.

A member that was started again at another address does the same, so that the others learn where it is.

It asks with the query that anybody could send (:class:`zmqlab.wire.control.AddMemberQuery`), at the client port of the
members it was told of with ``--join``. A member that does not lead says who does. From there on everything is Raft: the
leader appends a configuration with this node as a learner, sends it the log, and promotes it when it has caught up.
The asking ends when the node finds itself among the members in the committed part of its own log, and does not begin
again in this process if it is removed later.
"""

from __future__ import annotations

import logging
import secrets

import zmq

from zmqlab.errors import FrameError
from zmqlab.raft import Raft
from zmqlab.settings import NodeSettings, parse_endpoint
from zmqlab.wire import control, frames

ASK_TICKS = 10
"""Between two questions to one member: 100 ms with ticks of 10 ms."""
SILENT_TICKS = 50
"""A member that has not answered for so long is given up for the next one."""

log = logging.getLogger("zmqlab.node")


class Joining:
    """Asks to be taken in. ``tick`` does all of it and never blocks."""

    def __init__(self, settings: NodeSettings, raft: Raft) -> None:
        self._raft = raft
        self._name = settings.name
        self._own_address = settings.endpoint
        self._seeds = list(settings.join or self._moved_from(raft))
        self._target = ""
        self._socket: zmq.Socket[bytes] | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._nonce = 0
        self._ask_at = 0
        self._give_up_at = 0
        self._last_refusal = ""

    def tick(self) -> None:
        """Look for an answer, and ask again when it is time."""
        if not self._seeds:
            return
        if self._is_taken_in():
            self._seeds.clear()
            self.close()
            return
        ticks = self._raft.ticks
        if self._socket is not None:
            self._take_answers(self._socket)
        if not self._target or ticks >= self._give_up_at:
            self._turn_to(self._next_seed())
        if self._socket is not None and ticks >= self._ask_at:
            self._ask_at = ticks + ASK_TICKS
            self._ask(self._socket)

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._context is not None:
            self._context.destroy(linger=0)
        self._context = self._socket = None
        self._target = ""

    def _is_taken_in(self) -> bool:
        raft = self._raft
        settled = raft.commit_index >= raft.configurations.current_index
        return settled and dict(raft.configuration.addresses).get(raft.node_id) == self._own_address

    def _moved_from(self, raft: Raft) -> list[str]:
        """Whom a member asks that finds itself at another address than its log says: the other members."""
        addresses = dict(raft.configuration.addresses)
        if addresses.get(raft.node_id) in (None, self._own_address):
            return []
        return [address for member, address in addresses.items() if member != raft.node_id]

    def _next_seed(self) -> str:
        """The seeds in turn."""
        self._seeds.append(self._seeds.pop(0))
        return self._seeds[-1]

    def _turn_to(self, target: str) -> None:
        """Ask ``target``, a member's base endpoint, from now on."""
        self.close()
        host, port = parse_endpoint(target)
        self._target = target
        self._give_up_at = self._raft.ticks + SILENT_TICKS
        self._ask_at = 0
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 8)
        self._socket.setsockopt(zmq.MAXMSGSIZE, frames.MAX_ANSWER_BYTES)
        self._socket.connect(f"tcp://{host}:{port + 2}")

    def _ask(self, socket: zmq.Socket[bytes]) -> None:
        self._nonce = secrets.randbits(63)
        query = control.AddMemberQuery(self._nonce, self._raft.node_id, self._own_address, self._name)
        try:
            socket.send(control.encode(frames.QUERY, query), zmq.NOBLOCK)
        except zmq.Again:
            return

    def _take_answers(self, socket: zmq.Socket[bytes]) -> None:
        while socket is self._socket:
            try:
                (*_, frame) = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                if frames.parse_header(frame)[0] == frames.ANSWER:
                    self._take(control.decode_answer(frame))
            except FrameError as error:
                log.warning("bad answer from %s: %s", self._target, error)

    def _take(self, answer: control.Answer) -> None:
        if answer.nonce != self._nonce:
            return
        self._give_up_at = self._raft.ticks + SILENT_TICKS
        if not isinstance(answer, control.ErrorAnswer):
            return
        if answer.code == "not_leader" and answer.leader not in ("", self._target):
            self._turn_to(answer.leader)
        elif answer.code == "refused" and answer.message != self._last_refusal:
            self._last_refusal = answer.message
            log.warning("%s does not take this node in: %s", self._target, answer.message)
