"""Faulty links on demand: what a node hears of each peer and of its clients can be lost, late or out of turn, for labs.

The receiver does it, so that no root rights, no firewall and no proxy are needed.

*Peers* (:class:`LinkFaults`). Each frame of a peer passes :meth:`LinkFaults.admit` before the node reads its contents.
The fault is of one direction, from a sender to this node; a link that is cut both ways is two faults, at two nodes. All
frames of a peer are treated alike: broadcasts, unicast messages, forwarded requests, introductions.

*Clients* (:class:`ClientFaults`). Requests and their answers can be lost or late, for all clients of this node alike.
Queries, and what is published for people, are never touched: the lab must go on seeing a node that its peers and
clients don't.

Rules: pure; the clock and the random generator are handed in, so that a test decides what is lost and when. Without a
fault both cost the engine the look at their ``active``, and nothing else.

Faults name a sender by its base endpoint and not by its id, since a node whose disk was wiped returns to its place
with another id. Ids are looked up among the members. Of a sender that is no member the address is known from its
HELLO, which passes through here too. Until its first HELLO, at most a quarter of a second, such a node is heard.

A frame that is late waits in a heap (:class:`Held`) and comes out when it is due. Frames with the same delay stay in
order for each link. The heap is bounded in frames and bytes: what would not fit is lost. Frames that wait when the
table changes keep the delay that they had.

A *bandwidth* makes a link a pipe with a queue before it: a frame begins to move when the one before it is through, and
arrives when its last byte is. The queue takes :data:`QUEUE_BYTES`; a frame that finds more before it is lost, as at a
small router (tail drop). An empty queue takes a frame of any size, or a snapshot's chunk would never get through.

A frame that comes *twice* comes once on time and once right behind. One that is *out of turn* is held back by up to
``reordering_ms``, and frames that were sent after it pass. TCP and ZeroMQ do neither; a network of datagrams does, and
Raft has to bear it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count

from zmqlab.endpoints import parse_endpoint
from zmqlab.errors import SettingsError
from zmqlab.keys import Sender
from zmqlab.replica.driver import Route
from zmqlab.wire import frames
from zmqlab.wire.fault_queries import LinkFault, NodeFaults
from zmqlab.wire.peer import decode_hello, decode_roster, sender_of

MAX_LINKS = 64
"""Several times the nodes that a lab has."""
MAX_WAITING = 16_384
"""Frames that wait: at 2,000 a second, eight seconds of them."""
MAX_WAITING_BYTES = 67_108_864
MAX_GUESTS = 64
"""Senders that are no members and whose address is remembered."""
QUEUE_BYTES = 65_536
"""Before a link with a bandwidth: some 45 packets of 1,500 bytes, as in a small router. At 100 kB/s that is 0.7 s."""
NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
OF_CLIENTS = (frames.REQUEST, frames.OPEN_SESSION)
"""What of a client can be lost or late."""

Take = Callable[[bytes], None]
"""What becomes of a frame when it is due."""


class Held:
    """Frames that are held back until they are due; bounded in frames and bytes."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, int, bytes, Take]] = []
        """A heap of (due_ns, number, frame, take)."""
        self._bytes = 0
        """Always the sum of the frames."""
        self._numbers = count()

    def put(self, frame: bytes, due_ns: int, take: Take) -> bool:
        """Hold a frame back; False: there is no room."""
        if len(self.frames) >= MAX_WAITING or self._bytes + len(frame) > MAX_WAITING_BYTES:
            return False
        heapq.heappush(self.frames, (due_ns, next(self._numbers), frame, take))
        self._bytes += len(frame)
        return True

    def due(self, now_ns: int) -> Iterator[tuple[bytes, Take]]:
        """The frames whose time has come, oldest first, each with what becomes of it."""
        while self.frames and self.frames[0][0] <= now_ns:
            _, _, frame, take = heapq.heappop(self.frames)
            self._bytes -= len(frame)
            yield frame, take

    @property
    def next_due_ns(self) -> int | None:
        """When the next frame is due; None if none waits."""
        return self.frames[0][0] if self.frames else None


class LinkFaults:
    """The filter for frames of peers. ``active`` is False as long as it would change nothing."""

    def __init__(self, rng: random.Random, address_of: Callable[[int], str], held: Held, take: Take) -> None:
        """Every link is whole at first.

        Args:
            address_of: tells a member's base endpoint, or an empty string.
            held: where frames wait.
            take: handles a frame that is due.
        """
        self._rng = rng
        self._address_of = address_of
        self._held = held
        self._take = take
        self.faults: dict[str, LinkFault] = {}
        """By the sender's base endpoint; none of them is whole."""
        self._guests: dict[int, str] = {}
        self._free_ns: dict[str, int] = {}
        """Sender -> when all that it has sent so far is through; of links with a bandwidth."""
        self.lost = 0
        """Frames that were cut, lost or found no room."""
        self.active = False
        """Whether a fault is set, so that frames must pass through here."""

    def replace(self, faults: Iterable[LinkFault]) -> None:
        """Have exactly these faults from now on.

        Raises:
            SettingsError: an address, a delay or a share is out of range; nothing has changed then.
        """
        table: dict[str, LinkFault] = {}
        for fault in faults:
            address = "tcp://{}:{}".format(*parse_endpoint(fault.sender))
            fault.check()
            if not fault.is_whole:
                table[address] = fault
        if len(table) > MAX_LINKS:
            raise SettingsError(f"{len(table)} links are more than {MAX_LINKS}")
        self.faults = table
        self._free_ns = {address: free_ns for address, free_ns in self._free_ns.items() if address in table}
        self.active = bool(table)

    def admit(self, frame: bytes, now_ns: int) -> bool:
        """Whether ``frame`` is to be handled now; else it is lost, or it comes later.

        Raises:
            FrameError: it names no sender.
        """
        address = self._address(frame)
        fault = self.faults.get(address)
        if fault is None:
            return True
        if fault.cut or self._happens(fault.loss):
            self.lost += 1
            return False
        arrives_ns = self._through(address, fault, len(frame), now_ns) if fault.bytes_per_s else now_ns
        if arrives_ns is None:
            self.lost += 1
            return False
        due_ns = arrives_ns + round(fault.delay_ms * NS_PER_MS)
        if self._happens(fault.duplication):
            self._hold(frame, due_ns)
        if self._happens(fault.reordering):
            due_ns += round(self._rng.random() * fault.reordering_ms * NS_PER_MS)
        if due_ns <= now_ns:
            return True
        self._hold(frame, due_ns)
        return False

    def _happens(self, share: float) -> bool:
        return share > 0 and self._rng.random() < share

    def _through(self, address: str, fault: LinkFault, size: int, now_ns: int) -> int | None:
        """When a frame that enters the link now is through; None: the queue before it is full."""
        begins_ns = max(now_ns, self._free_ns.get(address, 0))
        if (begins_ns - now_ns) * fault.bytes_per_s > QUEUE_BYTES * NS_PER_S:
            return None
        self._free_ns[address] = begins_ns + round(size * NS_PER_S / fault.bytes_per_s)
        return self._free_ns[address]

    def _hold(self, frame: bytes, due_ns: int) -> None:
        if not self._held.put(frame, due_ns, self._take):
            self.lost += 1

    def _address(self, frame: bytes) -> str:
        sender = sender_of(frame)
        if frame[3] == frames.ROSTER:
            return decode_roster(frame).address
        if frame[3] == frames.HELLO:
            self._note_guest(frame)
        return self._address_of(sender) or self._guests.get(sender, "")

    def _note_guest(self, frame: bytes) -> None:
        hello = decode_hello(frame)
        self._guests.pop(hello.sender, None)
        while len(self._guests) >= MAX_GUESTS:
            del self._guests[next(iter(self._guests))]
        self._guests[hello.sender] = "tcp://{}:{}".format(*parse_endpoint(hello.address))


class ClientFaults:
    """The filter for requests of clients and for their answers. ``active`` is False while it would change nothing."""

    def __init__(
        self,
        rng: random.Random,
        held: Held,
        take: Callable[[Route, bytes, Sender], None],
        reply: Callable[[Route, bytes], None],
    ) -> None:
        """Nothing is lost at first.

        Args:
            held: where frames wait.
            take: handles a request that is due.
            reply: sends an answer that is due.
        """
        self._rng = rng
        self._held = held
        self._take = take
        self._reply = reply
        self._faults = NodeFaults()
        self.lost = 0
        """Frames that were lost or found no room."""
        self.active = False
        """Whether a fault is set, so that frames must pass through here."""

    def replace(self, faults: NodeFaults) -> None:
        """From now on requests and answers are as bad as this."""
        self._faults = faults
        self.active = faults.harms_clients

    def admit(self, frame: bytes, route: Route, sender: Sender, now_ns: int) -> bool:
        """Whether a client's ``frame``, whose header was parsed, is to be handled now; else it is lost or late."""
        if frame[3] not in OF_CLIENTS:
            return True
        faults, take = self._faults, self._take
        return self._passes(
            frame, faults.request_loss, faults.request_delay_ms, now_ns, lambda held: take(route, held, sender)
        )

    def lets_out(self, frame: bytes, route: Route, now_ns: int) -> bool:
        """Whether the answers in ``frame`` are to be sent now; else they are lost or late."""
        faults = self._faults
        return self._passes(frame, faults.answer_loss, faults.answer_delay_ms, now_ns, partial(self._reply, route))

    def _passes(self, frame: bytes, loss: float, delay_ms: float, now_ns: int, take: Take) -> bool:
        if loss and self._rng.random() < loss:
            self.lost += 1
            return False
        if not delay_ms:
            return True
        if not self._held.put(frame, now_ns + round(delay_ms * NS_PER_MS), take):
            self.lost += 1
        return False
