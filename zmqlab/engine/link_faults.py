"""Faulty links on demand: what a node hears of each peer can be cut, delayed and thinned out, for labs.

The receiver does it, so that no root rights, no firewall and no proxy are needed: each frame of a peer passes
:meth:`LinkFaults.admit` before the node reads its contents. The fault is of one direction, from a sender to this node;
a link that is cut both ways is two faults, at two nodes. All frames of a peer are treated alike: broadcasts, unicast
messages, forwarded requests, introductions. Frames of clients, and what is published for people, are never touched:
the lab must go on seeing a node that its peers don't.

Rules: pure; the clock and the random generator are handed in, so that a test decides what is lost and when.

Faults name a sender by its base endpoint and not by its id, since a node whose disk was wiped returns to its place
with another id. Ids are looked up among the members. Of a sender that is no member the address is known from its
HELLO, which passes through here too. Until its first HELLO, at most a quarter of a second, such a node is heard.

A delayed frame waits in a heap and comes out when it is due, in order for each link, since the delay is the same for
all its frames. The heap is bounded in frames and bytes: what would not fit is lost, as in a full queue of a router.
Frames that wait when the table changes keep the delay that they had.

Left out on purpose: reordering and duplicates, which TCP and ZeroMQ do not show to a node, and which the simulator
tries (:mod:`zmqlab.sim.network`).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import count

from zmqlab.errors import SettingsError
from zmqlab.settings import parse_endpoint, require_number
from zmqlab.wire import frames
from zmqlab.wire.control import LinkFault
from zmqlab.wire.peer import decode_hello, sender_of

MAX_LINKS = 64
"""Several times the nodes that a lab has."""
MAX_DELAY_MS = 60_000.0
MAX_WAITING = 16_384
"""Frames that wait: at 2,000 a second, eight seconds of them."""
MAX_WAITING_BYTES = 67_108_864
MAX_GUESTS = 64
"""Senders that are no members and whose address is remembered."""


class LinkFaults:
    """The filter of one node. ``active`` is False as long as it would change nothing."""

    def __init__(self, rng: random.Random, address_of: Callable[[int], str]) -> None:
        """``address_of`` tells a member's base endpoint, or an empty string."""
        self._rng = rng
        self._address_of = address_of
        self.faults: dict[str, LinkFault] = {}
        """By the sender's base endpoint; none of them is whole."""
        self._guests: dict[int, str] = {}
        self._waiting: list[tuple[int, int, bytes]] = []
        """A heap of (due_ns, number, frame)."""
        self._waiting_bytes = 0
        """Always the sum of the frames in ``_waiting``."""
        self._numbers = count()
        self.lost = 0
        """Frames that were cut, lost or found the heap full."""
        self.active = False
        """Whether frames must pass through here: a fault is set, or frames still wait."""

    def replace(self, faults: Iterable[LinkFault]) -> None:
        """Have exactly these faults from now on.

        Raises:
            SettingsError: an address, a delay or a share is out of range; nothing has changed then.
        """
        table: dict[str, LinkFault] = {}
        for fault in faults:
            address = "tcp://{}:{}".format(*parse_endpoint(fault.sender))
            check_fault(fault.delay_ms, fault.loss)
            if fault.cut or fault.delay_ms or fault.loss:
                table[address] = fault
        if len(table) > MAX_LINKS:
            raise SettingsError(f"{len(table)} links are more than {MAX_LINKS}")
        self.faults = table
        self.active = bool(table or self._waiting)

    def admit(self, frame: bytes, now_ns: int) -> bool:
        """Whether ``frame`` is to be handled now; else it is lost, or :meth:`due` gives it out later.

        Raises:
            FrameError: it names no sender.
        """
        fault = self.faults.get(self._address(frame))
        if fault is None:
            return True
        if fault.cut or (fault.loss and self._rng.random() < fault.loss):
            self.lost += 1
            return False
        if not fault.delay_ms:
            return True
        self._delay(frame, now_ns + round(fault.delay_ms * 1e6))
        return False

    def due(self, now_ns: int) -> Iterator[bytes]:
        """The delayed frames whose time has come, oldest first."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= now_ns:
            frame = heapq.heappop(waiting)[2]
            self._waiting_bytes -= len(frame)
            self.active = bool(self.faults or waiting)
            yield frame

    @property
    def next_due_ns(self) -> int | None:
        """When the next delayed frame is due; None if none waits."""
        return self._waiting[0][0] if self._waiting else None

    def _address(self, frame: bytes) -> str:
        sender = sender_of(frame)
        if frame[3] == frames.HELLO:
            self._note_guest(frame)
        return self._address_of(sender) or self._guests.get(sender, "")

    def _note_guest(self, frame: bytes) -> None:
        hello = decode_hello(frame)
        self._guests.pop(hello.sender, None)
        while len(self._guests) >= MAX_GUESTS:
            del self._guests[next(iter(self._guests))]
        self._guests[hello.sender] = "tcp://{}:{}".format(*parse_endpoint(hello.address))

    def _delay(self, frame: bytes, due_ns: int) -> None:
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + len(frame) > MAX_WAITING_BYTES:
            self.lost += 1
            return
        heapq.heappush(self._waiting, (due_ns, next(self._numbers), frame))
        self._waiting_bytes += len(frame)


def check_fault(delay_ms: float, loss: float) -> None:
    """Raise SettingsError unless a link can be so late and so lossy."""
    require_number("delay_ms", delay_ms, 0, MAX_DELAY_MS)
    require_number("loss", loss, 0, 1)
