"""A client without a safety net: each frame is sent once, to the node that the caller names.

:class:`~zmqlab.client.order_client.Client` numbers requests, sends them again and changes nodes by itself. This client
leaves all of that to its caller, and so shows what happens: lose an answer, send a request twice, use a number again.
It is for notebooks and tests.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import zmq

from zmqlab import net
from zmqlab.client.ask import new_nonce
from zmqlab.errors import RequestTimeout
from zmqlab.market.types import Command, ExecutionReport
from zmqlab.names import known_endpoints
from zmqlab.wire import client as wire
from zmqlab.wire import records
from zmqlab.wire.frames import MAX_ANSWER_BYTES, RESPONSES, parse_header

TIMEOUT_S = 5.0
BOUNDS = net.SocketBounds(frame_bytes=MAX_ANSWER_BYTES)


class HasNodes(Protocol):
    """A cluster, as far as this module needs it."""

    @property
    def nodes(self) -> Sequence[str]:
        """Names of the nodes."""

    @property
    def endpoints(self) -> Sequence[str]:
        """Where clients reach them, in the same order."""


class BareAnswer(NamedTuple):
    """One answer, as it came."""

    status: str
    """``OK``, or why nothing was done."""
    log_index: int
    """Where in the log the request was applied."""
    replayed: bool
    """Whether this is the first answer, given again."""
    reports: tuple[ExecutionReport, ...]
    frame: bytes
    """All bytes of it."""

    def __repr__(self) -> str:
        again = ", the first answer again" if self.replayed else ""
        reports = "".join(f", {report}" for report in self.reports)
        at = f" at log index {self.log_index}" if self.log_index else ""
        return f"<{self.status}{at}{again}{reports}>"


class BareClient:
    """One connection to each node, and one session.

    Args:
        nodes: a Cluster, or the names of nodes and their client endpoints.
    """

    def __init__(self, nodes: HasNodes | Mapping[str, str]) -> None:
        if not isinstance(nodes, Mapping):
            nodes = dict(zip(nodes.nodes, nodes.endpoints, strict=True))
        self._context = net.new_context()
        self._sockets = {name: self._connect(endpoint) for name, endpoint in nodes.items()}
        self.session = 0
        """The session's id, once it is open: the log index of its opening."""

    def __enter__(self) -> BareClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BareClient of {', '.join(self._sockets)}, session {self.session or 'not open'}>"

    def open(self, node: str, timeout_s: float = 5.0) -> int:
        """Open a session through ``node``; returns its id.

        Raises:
            RequestTimeout: the node opened no session in time.
        """
        nonce = new_nonce()
        answer = self._first(node, wire.encode_open_session(nonce), nonce, timeout_s)
        self.session = answer.client_id
        return self.session

    def request(self, number: int, *commands: Command, answered_below: int = 1, session: int | None = None) -> bytes:
        """The frame of a request. Nothing is sent yet."""
        client_id = self.session if session is None else session
        return wire.encode_request(client_id, number, answered_below, records.pack_commands(commands))

    def send(self, node: str, frame: bytes) -> None:
        """Hand a frame to ``node``, and wait for nothing. A connection that takes no more, or was refused, loses it."""
        with contextlib.suppress(zmq.Again):
            self._sockets[node].send(frame, zmq.NOBLOCK)

    def receive(self, node: str, timeout_s: float = TIMEOUT_S, number: int | None = None) -> BareAnswer | None:
        """The next answer of ``node``, to request ``number`` if that is given; None if there is none in time."""
        deadline = time.monotonic() + timeout_s
        while (found := self._next(node, deadline)) is not None:
            if number is None or found[0].request_number == number:
                return _answer_of(*found)
        return None

    def ask(self, node: str, frame: bytes, timeout_s: float = TIMEOUT_S) -> BareAnswer:
        """:meth:`send`, then :meth:`receive` the answer to this very request.

        Raises:
            RequestTimeout: no answer. The outcome is unknown.
        """
        self.send(node, frame)
        answer = self.receive(node, timeout_s, wire.parse_request(frame).request_number)
        if answer is None:
            raise RequestTimeout(
                f"{node} did not answer within {timeout_s:g} s; it is unknown whether the request was applied"
            )
        return answer

    def drop(self, node: str) -> None:
        """Close the connection to ``node`` and make a new one: an answer on its way is lost."""
        socket = self._sockets[node]
        endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        socket.close(0)
        self._sockets[node] = self._connect(endpoint)

    def close(self) -> None:
        """Close the sockets. Calling it twice is fine."""
        self._context.destroy(0)

    def _connect(self, endpoint: str) -> net.Socket:
        return net.connect(self._context, zmq.DEALER, known_endpoints([endpoint])[0], BOUNDS)

    def _next(self, node: str, deadline: float) -> tuple[wire.Response, bytes] | None:
        """The next response frame; a node answers a lone request with a frame of its own."""
        socket = self._sockets[node]
        while (remaining_ms := (deadline - time.monotonic()) * 1000) > 0:
            if socket.poll(max(1, int(remaining_ms))):
                frame = socket.recv()
                if parse_header(frame)[0] == RESPONSES:
                    return next(wire.iter_responses(frame)), frame
        return None

    def _first(self, node: str, frame: bytes, nonce: int, timeout_s: float) -> wire.Response:
        self.send(node, frame)
        deadline = time.monotonic() + timeout_s
        while (found := self._next(node, deadline)) is not None:
            if found[0].request_number == nonce and found[0].status == wire.ResponseStatus.OK:
                return found[0]
        raise RequestTimeout(f"{node} opened no session within {timeout_s:g} s: is it running, and is there a leader?")


def _answer_of(response: wire.Response, frame: bytes) -> BareAnswer:
    return BareAnswer(
        wire.ResponseStatus(response.status).name,
        response.log_index,
        bool(response.flags & wire.REPLAYED),
        tuple(wire.execution_reports(response)),
        frame,
    )
