"""Nodes without sockets and without a clock, so that a hundred thousand frames a second reach their handlers.

The nodes, their replicas and the code of the transport that takes messages apart are the real ones. Below that,
:class:`FakeContext` stands in for libzmq: queues instead of connections, and two ways to fail that were measured at the
real one: it refuses some addresses, and it has a limited number of sockets, since a closed one is only given back when
another thread gets to it. Time passes when the harness says so, a tick a turn, so that no run depends on the machine.
"""

from __future__ import annotations

import random
import re
from collections import deque
from dataclasses import dataclass
from typing import Any, cast

import zmq

from tests.fuzz.hostile import Parts, View
from zmqlab.engine.engine import MAX_PER_TURN
from zmqlab.handshakes import Complaints, Handshakes
from zmqlab.keys import ANYONE
from zmqlab.node.loop import Node
from zmqlab.node.transport import Transport
from zmqlab.raft import Configuration, Role
from zmqlab.raft.messages import NOBODY
from zmqlab.replica import MemoryJournal, Origin
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames, records

MAX_SOCKETS = 1_023
"""libzmq's default."""
TAKEN_BY_LIBZMQ = re.compile(r"tcp://[0-9A-Za-z\[][0-9A-Za-z.:%\[\]_*-]*:[0-9]+")
FIRST_PORT = 5_000
FIRST_ID = 0x1_2345_6789_ABCD
"""Times a port, it is an identity of nearly 64 bits, as nodes draw them."""
SETTLING_TURNS = 200


@dataclass
class FakeFrame:
    """What a receive without a copy gives."""

    bytes: bytes
    more: bool


class FakeSocket:
    """A queue of messages, each a list of frames, that is read one frame at a time. It monitors nothing."""

    def __init__(self, context: FakeContext) -> None:
        self.messages: deque[Parts] = deque()
        self._rest: Parts = []
        self._context = context

    def recv(self, _flags: int = 0, copy: bool = True) -> Any:
        if not self._rest:
            if not self.messages:
                raise zmq.Again
            self._rest = self.messages.popleft()
        first, self._rest = self._rest[0], self._rest[1:]
        return first if copy else FakeFrame(first, bool(self._rest))

    def recv_multipart(self, _flags: int = 0) -> Parts:
        raise zmq.Again

    def send(self, _frame: bytes, _flags: int = 0) -> None:
        """A question: it is lost."""

    def getsockopt(self, _option: int) -> int:
        return bool(self._rest)

    def setsockopt(self, _option: int, _value: Any) -> None:
        """All options are fine."""

    def monitor(self, _address: str, _events: int) -> None:
        """It has nothing to report."""

    def disable_monitor(self) -> None:
        """It had nothing to report."""

    def connect(self, address: str) -> None:
        if not (TAKEN_BY_LIBZMQ.fullmatch(address) or address.startswith("inproc://")):
            raise zmq.ZMQError(22, f"Invalid argument (addr={address!r})")

    def disconnect(self, address: str) -> None:
        self.connect(address)

    def close(self, _linger: int = 0) -> None:
        self._context.closed += 1


class FakeContext:
    """Makes sockets; closed ones are given back once a turn, as by a thread that had its time by then."""

    def __init__(self) -> None:
        self.open = 0
        self.closed = 0

    def socket(self, _kind: int) -> FakeSocket:
        if self.open >= MAX_SOCKETS:
            raise AssertionError("too many sockets: the transport would go without")
        self.open += 1
        return FakeSocket(self)

    def reap(self) -> None:
        self.open -= self.closed
        self.closed = 0


class FakeInlets:
    """Sockets have something to receive as long as their queues say so."""

    def __init__(self) -> None:
        self.unread: set[Any] = set()

    def has_more(self, socket: FakeSocket) -> bool:
        if not socket.messages:
            self.unread.discard(socket)
        return bool(socket.messages)


class FakeTransport(Transport):
    """The transport of one node among ``nodes``, by node id; what is for nobody there is lost."""

    def __init__(self, nodes: dict[int, Driven]) -> None:
        self.bad_messages = self.dropped = 0
        self._credentials = self.key_checker = self._doorkeeper = None
        self._sender = ANYONE
        self.fake_context = FakeContext()
        self._context = cast(Any, self.fake_context)
        self._dealers = {}
        self._questions = {}
        self._doors = {}
        self._unmade = set()
        self._skipping = set()
        self._nodes = nodes
        self.publisher, self.peers, self.clients, self.broadcasts = (
            cast(Any, FakeSocket(self.fake_context)) for _ in range(4)
        )
        self.inlets = cast(Any, FakeInlets())
        self._heard = Handshakes(self._context, self.broadcasts)
        self._asked = {}
        self._given_up = {}
        self._refused = set()
        self._to_redial = set()
        self._standing = set()
        self._closed = []
        self._to_tell = []
        self._complaints = Complaints()
        self.replies = 0
        self.last_reply = b""

    @property
    def peer_count(self) -> int:
        """Connections to members and guests."""
        return len(self._dealers)

    def publish(self, frame: bytes) -> None:
        if frame.startswith(frames.topic(frames.APPEND_ENTRIES)):
            for other in self._nodes.values():
                if other.transport is not self:
                    other.transport.broadcasts.messages.append([frame])

    def send_to(self, address: str, frame: bytes) -> None:
        for node in self._nodes.values():
            if address in self._dealers and node.address == address:
                node.transport.peers.messages.append([b"peer", frame])

    def reply(self, route: bytes, frame: bytes) -> None:
        self.replies += 1
        self.last_reply = frame


class Driven:
    """One node whose loop is turned by hand."""

    def __init__(
        self, settings: NodeSettings, nodes: dict[int, Driven], origin: Origin, transport: FakeTransport | None = None
    ) -> None:
        """``origin``: what the node has been since its first start."""
        self.transport: Any = transport or FakeTransport(nodes)
        journal = MemoryJournal()
        journal.origin(origin)
        self.node = Node(settings, self.transport, journal)
        self.engine = self.node.engine
        self.engine._next_tick_ns = self.engine._next_snapshot_ns = 1 << 62  # time passes by hand
        (self.group,) = self.engine.groups.values()
        self.replica = self.group.replica
        self.raft: Any = self.replica.replication
        self.node_id = self.raft.node_id
        self.address = settings.endpoint

    def turn(self) -> None:
        """What :meth:`Node.run` does in one turn, but for ticks."""
        transport, engine = self.transport, self.engine
        engine.begin_turn()
        sockets = (transport.broadcasts, transport.peers, transport.clients)
        unread = transport.inlets.unread
        unread.update(socket for socket in sockets if socket.messages)
        self.node._drain(unread, ())
        engine.turn()
        transport.fake_context.reap()

    def drain(self, socket: str) -> None:
        """Turns until all messages of ``socket`` are read. A turn takes one at least, and as many as there is time."""
        queue = getattr(self.transport, socket).messages
        for _ in range(len(queue)):
            if queue:
                self.turn()
        assert not queue, f"{len(queue)} messages were not read"

    def tick(self) -> None:
        self.engine._tick()

    def publish_snapshot(self) -> None:
        """What happens ten times a second."""
        self.engine._publish_statuses()

    @property
    def bad_frames(self) -> int:
        return self.group.counters.bad_frames + int(self.transport.bad_messages)

    def sizes(self) -> dict[str, int]:
        """Everything that a stranger could make grow."""
        group, replica, raft, links = self.group, self.replica, self.raft, self.engine.links
        return {
            "pending": len(replica.pending),
            "unproposed": len(replica._to_propose),
            "reads": len(replica._reads),
            "proposed": len(replica._proposed),
            "leader's reads": len(raft.requested_reads) + sum(len(batch.reads) for batch in raft.read_batches),
            "names": len(group.peers._names),
            "connections": self.transport.peer_count,
            "members": len(raft.configuration.members),
            "outbox": len(group._outbox),
            "messages": len(raft.send_now) + len(raft.send_stored),
            "links": len(links.faults) + len(links._guests) + len(links._held.frames),
        }


MOST = {
    "pending": 8_192,
    "unproposed": 16_384 + 8_192,
    "reads": 1_024,
    "proposed": 16_384 + 8_192,
    "leader's reads": MAX_PER_TURN,
    "names": 40,
    "connections": 40,
    "members": 15,
    "outbox": 0,
    "messages": 64,
    "links": 64,
}
"""The bound of each of :meth:`Driven.sizes` after a turn."""


@dataclass
class Group:
    """A group of nodes in one process, one of which is attacked."""

    nodes: dict[int, Driven]
    target: Driven
    session: int
    turns: int = 0

    def turn(self) -> None:
        """Everybody has two turns, the second for the answers; a tick has passed."""
        self.turns += 1
        for _ in range(2):
            for driven in self.nodes.values():
                driven.turn()
        for driven in self.nodes.values():
            driven.tick()
        if self.turns % 10 == 0:
            self.target.publish_snapshot()

    def settle(self) -> None:
        """Until everything that was taken is done."""
        for _ in range(SETTLING_TURNS):
            self.turn()
            raft = self.target.raft
            quiet = not self.target.replica.pending and raft.applied_index == raft.commit_index == raft.last_index
            if quiet and raft.leader_id and raft.applied_index:
                return
        raise AssertionError("the group does not come to rest")

    def view(self) -> View:
        """What an eavesdropper knows now."""
        raft = self.target.raft
        members = raft.configuration.members
        return View(
            self.target.node_id,
            members,
            raft.term,
            raft.leader_id,
            raft.last_index,
            raft.commit_index,
            raft.round,
            self.session,
            tuple(address for _, address in raft.configuration.addresses),
        )

    def fingerprint(self) -> dict[str, object]:
        """All of the attacked node that must not change, but for what :meth:`state_hash` is for."""
        raft, machine = self.target.raft, self.target.replica.machine
        return {
            "term": raft.term,
            "vote": raft.voted_for,
            "role": raft.role,
            "leader": raft.leader_id,
            "members": raft.configuration,
            "commit index": raft.commit_index,
            "last index": raft.last_index,
            "applied index": (raft.applied_index, machine.applied_index),
            "chain hash": machine.chain,
            "sessions": len(machine.sessions),
            "orders": (machine.orders_applied, machine.exchange.open_orders),
        }

    def state_hash(self) -> bytes:
        """Of books, trades and sessions."""
        return self.target.replica.machine.state_hash()

    def assert_bounded(self) -> None:
        for what, size in self.target.sizes().items():
            assert size <= MOST[what], f"{size} {what}: at most {MOST[what]} are right"

    def is_alive(self) -> bool:
        """Whether a good client's status query is answered within a turn."""
        before = self.target.transport.replies
        query = control.encode(frames.QUERY, control.StatusQuery(1))
        self.target.transport.clients.messages.append([b"good", query])
        self.target.turn()
        return bool(self.target.transport.replies == before + 1)


def make_group(size: int, *, attack_leader: bool, seed: int = 0, allow_faults: bool = False) -> Group:
    """``size`` nodes with a leader, a session and orders in a book."""
    nodes: dict[int, Driven] = {}
    ports = [FIRST_PORT + 10 * number for number in range(size)]
    founders = {port * FIRST_ID: f"tcp://127.0.0.1:{port}" for port in ports}
    configuration = Configuration(tuple(founders), addresses=tuple(founders.items()))
    for number, port in enumerate(ports):
        peers = tuple(f"tcp://127.0.0.1:{other}" for other in ports if other != port)
        settings = NodeSettings(
            name=f"node{number}", port=port, peers=peers, leader=number == 0, allow_faults=allow_faults
        )
        driven = Driven(settings, nodes, Origin(port * FIRST_ID, configuration))
        driven.raft.rng = random.Random(seed + number)
        nodes[driven.node_id] = driven
    group = Group(nodes, next(iter(nodes.values())), 0)
    group.settle()
    leader = nodes[group.target.raft.leader_id]
    leader.transport.clients.messages.append([b"good", client_wire.encode_open_session(1)])
    group.settle()
    (opened,) = client_wire.iter_responses(leader.transport.last_reply)
    group.session = opened.client_id
    for number in range(1, 4):
        orders = [(1, 1 + n % 2, 1, 1, 10, 0, 0x4C504141, 100 - 5 * (n % 2 == 0) + n, 1, 0) for n in range(20)]
        frame = client_wire.encode_request(group.session, number, number, records.pack_commands(orders))
        leader.transport.clients.messages.append([b"good", frame])
    group.settle()
    others = [driven for driven in nodes.values() if driven is not leader]
    group.target = leader if attack_leader else others[0]
    for _ in range(20):
        group.turn()
    assert group.target.raft.leader_id not in (NOBODY,)
    assert (group.target.raft.role is Role.LEADER) == attack_leader
    return group
