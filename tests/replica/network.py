"""Three replicas joined by a queue of frames, with time by hand: nothing happens unless a test lets it.

The frames are those of the wire. A node that is *cut off* still runs, but nothing comes from it or to it. ``lose`` is a
filter for single frames.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable

from zmqlab.market import Command, Side
from zmqlab.raft import Configuration, Message, RaftSettings, Role
from zmqlab.raft.messages import BROADCAST, Entry
from zmqlab.replica import (
    Applied,
    MakeReplication,
    MemoryJournal,
    RaftByQuorum,
    Replica,
    ReplicaSettings,
    Start,
    StateMachine,
)
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames, records
from zmqlab.wire.client import Response
from zmqlab.wire.peer import decode_forward, decode_message, encode_forward, encode_message

MEMBERS = (1, 2, 3)
CLIENT = b"client"
RAFT = RaftSettings(election_ticks=10, heartbeat_ticks=2, snapshot_chunk_bytes=1_000)
ELECTION_TICKS_MAX = 2 * RAFT.election_ticks
MAX_ROUNDS = 10_000
"""Of delivery, before a test says that the nodes never come to rest."""


def request(client_id: int, number: int, *, answered_below: int = 1, quantity: int = 5) -> bytes:
    """A request of one order to buy, which rests."""
    order = Command.limit(Side.BUY, "ACME", quantity, 100, account=1)
    return client_wire.encode_request(client_id, number, answered_below, records.pack_commands([order]))


class Node:
    """A replica, its journal, and what its clients have heard."""

    def __init__(
        self, node_id: int, network: Network, settings: ReplicaSettings, members: tuple[int, ...] = MEMBERS
    ) -> None:
        self.node_id = node_id
        self.journal = MemoryJournal()
        self.answers: list[Response] = []
        self._network = network
        self._settings = settings
        self._members = members
        self.start()

    def start(self) -> None:
        """Begin, or begin again, from what the journal holds; as the node's process does."""
        stored = self.journal.load()
        machine = StateMachine()
        if stored.snapshot is not None:
            machine.restore(stored.snapshot.data)
        replication = self._network.make(
            Start(self.node_id, Configuration(self._members), stored, RAFT, random.Random(self.node_id))
        )
        self.replica = Replica(replication, machine, self.journal, self, self._settings, first_context=1)

    @property
    def machine(self) -> StateMachine:
        return self.replica.machine

    def take(self, frame: bytes, route: bytes = CLIENT) -> None:
        """A client's frame arrives; an answer that is known at once is delivered."""
        body = self.replica.take_request(route, frame, 0)
        if body is not None:
            self.answer([(route, body)])

    def receive(self, frame: bytes) -> None:
        frame_type, _ = frames.parse_header(frame)
        if frame_type == frames.FORWARD:
            sender, requests = decode_forward(frame)
            self.replica.take_forwarded(requests, sender)
        else:
            self.replica.step(decode_message(frame_type, frame))

    # The driver's side.

    def send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            everybody = self.replica.replication.configuration.members
            for to in everybody if message.to == BROADCAST else (message.to,):
                if to != self.node_id:
                    self._network.put(self.node_id, to, encode_message(message))

    def forward(self, leader_id: int, requests: list[bytes]) -> None:
        self._network.put(self.node_id, leader_id, encode_forward(self.node_id, requests))

    def answer(self, answers: list[tuple[bytes, bytes]]) -> None:
        for _, body in answers:
            self.answers += client_wire.iter_responses(client_wire.encode_responses([body]))

    def applied(self, entry: Entry, applied: Applied) -> None:
        """Nobody counts."""


class Network:
    """Node 1 leads at first; ``nodes`` by their id."""

    def __init__(self, settings: ReplicaSettings | None = None, make: MakeReplication = RaftByQuorum) -> None:
        self.make = make
        self.cut_off: set[int] = set()
        self.lose: Callable[[int, int, int], bool] = lambda sender, to, frame_type: False
        """Of a frame, as (sender, to, frame type)."""
        self.delivered: list[tuple[int, int, int]] = []
        self._queue: deque[tuple[int, int, bytes]] = deque()
        self._settings = settings or ReplicaSettings()
        self.nodes = {node_id: Node(node_id, self, self._settings) for node_id in MEMBERS}
        self.nodes[1].replica.replication.campaign()
        self.settle()
        while self.nodes[1].replica.replication.role is not Role.LEADER:
            assert make is not RaftByQuorum, "alone in its campaign, it is elected at once"
            self.tick()

    def start_stranger(self, node_id: int, settings: ReplicaSettings | None = None) -> Node:
        """One more node, which belongs to nobody yet."""
        self.nodes[node_id] = Node(node_id, self, settings or self._settings, members=())
        return self.nodes[node_id]

    @property
    def leader(self) -> Node:
        """The leader of the highest term among those that can be heard."""
        leaders = [node for node in self.connected if node.replica.replication.role is Role.LEADER]
        return max(leaders, key=lambda node: node.replica.replication.term)

    @property
    def connected(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.node_id not in self.cut_off]

    def put(self, sender: int, to: int, frame: bytes) -> None:
        self._queue.append((sender, to, frame))

    def settle(self) -> None:
        """Turns and deliveries until nothing is left to do."""
        for _ in range(MAX_ROUNDS):
            for node in self.nodes.values():
                node.replica.turn()
                if self.make is RaftByQuorum:  # the others go their own ways
                    node.replica.replication.check_invariants()
            if not self._queue:
                return
            batch, self._queue = self._queue, deque()
            for sender, to, frame in batch:
                self._deliver(sender, to, frame)
        raise AssertionError("the nodes never come to rest")

    def _deliver(self, sender: int, to: int, frame: bytes) -> None:
        said = (sender, to, frames.parse_header(frame)[0])
        if self.cut_off.isdisjoint((sender, to)) and not self.lose(*said):
            self.delivered.append(said)
            self.nodes[to].receive(frame)

    def tick(self, count: int = 1) -> None:
        """Let time pass everywhere, and settle after each tick."""
        for _ in range(count):
            for node in self.nodes.values():
                node.replica.tick()
            self.settle()

    def elect(self) -> Node:
        """Let time pass until those that are not cut off have a leader of their own; returns it."""
        for _ in range(20 * ELECTION_TICKS_MAX):
            self.tick()
            if any(node.replica.replication.role is Role.LEADER for node in self.connected):
                return self.leader
        raise AssertionError("nobody was elected")

    def heal(self) -> None:
        """Nothing is lost any more; enough time passes for everyone to hear the leader."""
        self.cut_off.clear()
        self.lose = lambda sender, to, frame_type: False
        self.tick(2 * ELECTION_TICKS_MAX)

    def open_session(self, node_id: int = 1) -> int:
        """A new client's id, through ``node_id``; its answer is taken away."""
        self.nodes[node_id].take(client_wire.encode_open_session(node_id))
        self.settle()
        return self.nodes[node_id].answers.pop().client_id

    def assert_agreed(self) -> None:
        """All nodes have applied the same and hold the same."""
        facts = [
            (node.machine.applied_index, node.machine.chain.hex(), node.machine.state_hash().hex())
            for node in self.nodes.values()
        ]
        assert len(facts) > 1
        assert len(set(facts)) == 1, facts
