"""A simulated node's sockets: what its engine sends, and to which other node that goes.

This is the :class:`~zmqlab.engine.Effects` of a simulated engine. As in production, a SUB socket hears the addresses
that the engine subscribed to and no other, a frame goes to whichever node listens at an address by then, and a
question is answered only for as long as it is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zmqlab.engine import Vitals
from zmqlab.replica import Replica
from zmqlab.wire import frames
from zmqlab.wire.control import NodeStatus

if TYPE_CHECKING:
    from zmqlab.sim.process import Process

_APPENDS = frames.topic(frames.APPEND_ENTRIES)


class Sockets:
    """Of one life of one process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.connected: set[str] = set()
        self.subscribed: set[str] = set()
        """Addresses whose broadcasts it hears. Two members there count once, as for a SUB socket of libzmq."""
        self.asked: dict[int, str] = {}
        """Nodes that were asked a question, and the addresses at which they were."""
        self._world = process.world

    def publish(self, frame: bytes) -> None:
        self.process.effect("before it publishes")
        if frame.startswith(_APPENDS):
            for process in self._world.reachable():
                if self.process.address in process.sockets.subscribed and process is not self.process:
                    self._world.network.send(self.process.node_id, process.node_id, frame)

    def send(self, address: str, frame: bytes) -> None:
        self.process.effect("before a message")
        assert address in self.connected, f"node {self.process.node_id} sends to {address} without a connection"
        peer = self._world.listening.get(address)
        if peer is not None:
            self._world.network.send(self.process.node_id, peer.node_id, frame)

    def reply(self, route: bytes, frame: bytes) -> None:
        self.process.effect("before an answer")
        self._world.network.send(self.process.node_id, int.from_bytes(route, "little"), frame)

    def connect(self, address: str) -> None:
        self.connected.add(address)

    def disconnect(self, address: str) -> None:
        self.connected.remove(address)

    def subscribe(self, address: str) -> None:
        self.subscribed.add(address)

    def unsubscribe(self, address: str) -> None:
        self.subscribed.discard(address)

    def resolve(self, endpoints: Sequence[str]) -> tuple[str, ...]:
        return tuple(endpoints)

    def ask(self, address: str, frame: bytes) -> None:
        self.process.effect("before a question")
        peer = self._world.listening.get(address)
        if peer is not None:
            self.asked[peer.node_id] = address
            self._world.network.send(self.process.node_id, peer.node_id, frame)

    def hang_up(self, address: str) -> None:
        self.asked = {number: asked for number, asked in self.asked.items() if asked != address}

    def vitals(self) -> Vitals:
        now_us = self._world.now_us()
        return Vitals(
            pid=self.process.node_id,
            time_ns=now_us * 1_000,
            uptime_ms=now_us // 1_000,
            cpu_percent=0.0,
            rss_bytes=0,
            dropped=self.process.overflowed,
            bad_messages=self.process.too_large,
        )

    def observe(self, status: NodeStatus, replica: Replica, is_closing: bool) -> None:
        """Nothing is exported here."""

    def note(self, text: str, is_warning: bool = False) -> None:
        """The story has its own lines."""
