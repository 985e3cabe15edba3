"""Waiting for ZeroMQ sockets with less than a millisecond's precision.

``zmq_poll`` and ``epoll`` count in whole milliseconds, which is too coarse for orders that fall due every 200 µs, and
spinning would take a core from the cluster. ``select`` takes microseconds, on the file descriptors that ZeroMQ gives
out. Those are edge-triggered: they become readable once for what has arrived, so that the owner must have looked at
every socket's ``ZMQ_EVENTS`` since the last send or receive on it, right before it waits. The requester does.

``select`` refuses descriptors of 1,024 and above; then ``zmq_poll`` has to do, with its milliseconds.
"""

from __future__ import annotations

import math
import select
from collections.abc import Sequence

import zmq

SELECT_LIMIT = 1_024


class Waiter:
    """Waits until one of several sockets may have something to receive."""

    def __init__(self, sockets: Sequence[zmq.Socket[bytes]]) -> None:
        self._descriptors = [int(socket.getsockopt(zmq.FD)) for socket in sockets]
        self._poller: zmq.Poller | None = None
        if max(self._descriptors) >= SELECT_LIMIT:
            self._poller = zmq.Poller()
            for socket in sockets:
                self._poller.register(socket, zmq.POLLIN)

    def wait(self, timeout_ms: float) -> bool:
        """False if the time passed and nothing happened."""
        if self._poller is not None:
            return bool(self._poller.poll(math.ceil(timeout_ms)))
        return bool(select.select(self._descriptors, (), (), timeout_ms / 1000)[0])
