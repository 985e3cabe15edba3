"""One DEALER to one node, and all that its owner knows of that node.

A node can fail in two ways, and they are told apart. One that *dies* closes its connection: libzmq's socket monitor
says so within a millisecond, and whatever was sent over that connection will never be answered over it. One that is
*paused* or cut off keeps its connection and says nothing: it becomes suspect when it stays silent for a while with
requests outstanding, and stops being one with its next word.

With ``ZMQ_IMMEDIATE`` a message is only ever queued for a connection that stands, so that :meth:`Connection.send`
fails at once instead of storing requests for a node that may never come back. ``LINGER`` is 0 and the queues are
bounded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import zmq
from zmq.utils.monitor import parse_monitor_message

from zmqlab.wire.frames import MAX_ANSWER_BYTES

if TYPE_CHECKING:
    from zmqlab.load.requests import OpenRequest

RECONNECT_MS = 20
"""First pause before a connection is tried again; doubles up to RECONNECT_MAX_MS."""
RECONNECT_MAX_MS = 250
"""A node that is started again is found a quarter of a second later at most."""
SEND_HWM = 2_048
"""More than the largest window: a full queue means that the node does not read."""
RECEIVE_HWM = 4_096

_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
"""Plain integers: enumerations cost a microsecond each on this path."""

Configure = Callable[["zmq.Socket[bytes]"], None]
"""Called with a new socket before it connects, for example to set CURVE keys."""


class Connection:
    """Sends frames to one node and receives its answers. Owned by one thread."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        index: int,
        endpoint: str,
        configure: Configure | None = None,
        *,
        may_be_alias: bool = False,
    ) -> None:
        self.index = index
        self.endpoint = endpoint
        self.may_be_alias = may_be_alias
        """Whether the caller named this endpoint, and no member has called itself so."""
        self.node_id = 0
        """Who answers there, by its own word; 0 until it has said so."""
        self.connected = False
        """Whether the monitor has reported a handshake, and no disconnection since."""
        self.outstanding: dict[int, OpenRequest] = {}
        """Requests that were last sent here and are open, in the order of their sending."""
        self.heard_ns = 0
        """When a frame of this node last came in."""
        self.answered_sent_ns = 0
        """The latest ``sent_ns`` among the requests that this node has answered."""
        self.suspect_until_ns = 0
        """Silent while others speak: avoided until then, or until it speaks."""
        self.busy_until_ns = 0
        """It said BUSY or CLOSING: nothing is sent to it until then."""
        self.busy_level = 0
        """Times in a row that it said BUSY; 0 after any other answer."""
        self._socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.SNDHWM, SEND_HWM)
        self._socket.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_ANSWER_BYTES)
        self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        if configure is not None:
            configure(self._socket)
        self._monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        self.sockets = (self._socket, self._monitor)
        """To be polled for input: the connection itself and its monitor."""
        self._socket.connect(endpoint)

    def send(self, frame: bytes) -> bool:
        """Hand a frame to the connection; False when there is none or its queue is full."""
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def send_query(self, frame: bytes) -> None:
        """Hand over a question that may get lost: it is asked again."""
        with contextlib.suppress(zmq.Again):
            self._socket.send(frame, zmq.NOBLOCK)

    def receive(self) -> bytes | None:
        """The next frame, or None. A message of several frames is none of ours: it comes back as its first part,
        which does not parse."""
        if not int(self._socket.getsockopt(_EVENTS)) & _POLLIN:
            return None
        frame = self._socket.recv(zmq.NOBLOCK)
        if self._socket.getsockopt(zmq.RCVMORE):
            while self._socket.getsockopt(zmq.RCVMORE):
                self._socket.recv(zmq.NOBLOCK)
            return b""
        return frame

    def take_events(self) -> bool:
        """Follow the monitor. True if a connection was lost since the last look, even if another stands by now."""
        lost = False
        while int(self._monitor.getsockopt(_EVENTS)) & _POLLIN:
            event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))["event"]
            self.connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            lost = lost or not self.connected
        return lost

    def close(self) -> None:
        """Close both sockets at once; nothing is waited for."""
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
