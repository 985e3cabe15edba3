"""A group of Raft cores in one process, with disks that survive a crash and a network under the test's control.

Every turn goes through ``Ready`` in the order that a real driver keeps. Whatever a test is about, the harness checks
what must hold between nodes: at most one leader a term, one content for each (index, term), one committed entry for
each index, no leader that lacks a committed entry, and no read below the index that was committed when it began.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable

from zmqlab.raft import (
    BROADCAST,
    AppendEntries,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Message,
    Raft,
    RaftSettings,
    Ready,
    Role,
    Snapshot,
)


class Crash(Exception):
    """The node dies at this point, in the middle of its turn."""


class Disk:
    """The stored state of one node."""

    def __init__(self) -> None:
        self.hard_state: HardState | None = None
        self.snapshot: Snapshot | None = None
        self.entries: list[Entry] = []

    def store(self, ready: Ready) -> None:
        """Store one Ready, as in one transaction."""
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.snapshot is not None:
            self.snapshot = ready.snapshot
            self.entries = []
        if ready.entries:
            first = ready.entries[0].index
            self.entries = [entry for entry in self.entries if entry.index < first] + ready.entries

    def compact(self, snapshot: Snapshot, first_index: int) -> None:
        """Replace all entries before ``first_index`` by ``snapshot``."""
        self.snapshot = snapshot
        self.entries = [entry for entry in self.entries if entry.index >= first_index]


class Node:
    """A core, its disk, and a state machine that lists all applied data."""

    def __init__(self, node_id: int, configuration: Configuration, settings: RaftSettings, seed: int) -> None:
        self.node_id = node_id
        self.configuration = configuration
        self.settings = settings
        self.rng = random.Random(seed)
        self.disk = Disk()
        self.restart()

    def restart(self) -> None:
        """Begin again from the disk."""
        disk = self.disk
        self.raft = Raft(
            self.node_id,
            self.configuration,
            self.settings,
            self.rng,
            hard_state=disk.hard_state,
            snapshot=disk.snapshot,
            entries=list(disk.entries),
        )
        self.applied: list[str] = json.loads(disk.snapshot.data) if disk.snapshot else []

    def take_snapshot(self, keep_entries: int) -> None:
        """Take a snapshot of the applied state, and compact."""
        snapshot = self.raft.make_snapshot(json.dumps(self.applied).encode())
        self.raft.compact(snapshot, keep_entries)
        if self.raft.snapshot is snapshot:
            self.disk.compact(snapshot, self.raft.first_index)

    def apply(self, ready: Ready) -> None:
        """Apply one Ready to the state machine."""
        if ready.snapshot is not None:
            self.applied = json.loads(ready.snapshot.data)
        self.applied += [entry.data.decode() for entry in ready.committed if entry.kind == EntryKind.DATA]


class Checker:
    """What must hold between nodes over all time."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.contents: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.committed: dict[int, Entry] = {}
        self.committed_by: dict[int, int] = {}
        self.commit_index = 0
        self.reads: dict[tuple[int, int], int] = {}

    def check_role(self, raft: Raft) -> None:
        """Election safety and leader completeness, for a node whose term is stored. Before that it leads no
        follower."""
        if raft.role is not Role.LEADER or self.leaders.get(raft.term) == raft.node_id:
            return
        assert raft.term not in self.leaders, f"{raft.node_id} and {self.leaders[raft.term]} lead in {raft.term}"
        self.leaders[raft.term] = raft.node_id
        for index, entry in self.committed.items():
            if index >= raft.first_index and self.committed_by[index] < raft.term:
                assert raft.log.term_at(index) == entry.term, f"leader {raft.node_id} lacks committed entry {index}"

    def check_entries(self, prev_term: int, entries: Iterable[Entry]) -> None:
        """Log matching, for entries that are stored or sent."""
        for entry in entries:
            content = (prev_term, entry.data)
            known = self.contents.setdefault((entry.index, entry.term), content)
            assert known == content, f"two entries or histories at {entry.index}/{entry.term}: {known} and {content}"
            prev_term = entry.term

    def check_ready(self, raft: Raft, ready: Ready) -> None:
        """State machine safety; and reads are not stale."""
        for entry in ready.committed:
            known_entry = self.committed.setdefault(entry.index, entry)
            self.committed_by.setdefault(entry.index, raft.term)
            assert known_entry == entry, f"two entries committed at {entry.index}: {known_entry} and {entry}"
        self.commit_index = max(self.commit_index, raft.commit_index)
        for context, index in ready.reads:
            floor = self.reads.pop((raft.node_id, context))
            assert index >= floor, f"read {context} at {index}, but {floor} was committed before it began"
        for context in ready.failed_reads:
            self.reads.pop((raft.node_id, context), None)


class Network:
    """The nodes, and the messages that are under way between them, in the order in which they were sent."""

    def __init__(
        self,
        voters: Iterable[int],
        settings: RaftSettings,
        extra: Iterable[int] = (),
        learners: Iterable[int] = (),
        seed: int = 0,
    ) -> None:
        configuration = Configuration(tuple(voters), tuple(learners))
        self.nodes: dict[int, Node] = {}
        for node_id in (*configuration.members, *extra):
            self.nodes[node_id] = Node(node_id, configuration, settings, seed * 1000 + node_id)
        self.in_flight: list[tuple[int, int, Message]] = []
        self.cuts: set[tuple[int, int]] = set()
        self.deaf: set[int] = set()
        self.checker = Checker()
        self.on_ready: Callable[[Node, Ready], None] = lambda node, ready: None
        self.on_lost: Callable[[int, int, Message], None] = lambda sender, to, message: None

    def send(self, messages: Iterable[Message]) -> None:
        """Put messages under way; a broadcast becomes one copy for each other node."""
        for message in messages:
            if isinstance(message, AppendEntries):
                self.checker.check_entries(message.prev_term, message.entries)
            if message.to != BROADCAST:
                self._send_one(message.to, message)
                continue
            for node_id in self.nodes:
                if node_id != message.sender:
                    self._send_one(node_id, message)

    def _send_one(self, to: int, message: Message) -> None:
        deaf = message.to == BROADCAST and to in self.deaf
        if (message.sender, to) in self.cuts or to not in self.nodes or deaf:
            self.on_lost(message.sender, to, message)
        else:
            self.in_flight.append((message.sender, to, message))

    def turn(self, node: Node, crash_at: int | None = None) -> None:
        """Handle all Readies of one node. It dies after step ``crash_at`` of the first one."""
        raft = node.raft
        while raft.is_ready():
            ready = raft.ready()
            self.checker.check_ready(raft, ready)
            self.on_ready(node, ready)
            steps: list[Callable[[], None]] = [
                lambda ready=ready: self.send(ready.send_now),  # type: ignore[misc]
                lambda ready=ready: self._store(node, ready),  # type: ignore[misc]
                lambda ready=ready: self.send(ready.send_stored),  # type: ignore[misc]
                lambda ready=ready: node.apply(ready),  # type: ignore[misc]
            ]
            for number, step in enumerate(steps):
                if number == crash_at:
                    raise Crash
                step()
            raft.advance(ready)
            raft.check_invariants()

    def _store(self, node: Node, ready: Ready) -> None:
        if ready.entries:
            prev_term = node.raft.log.term_at(ready.entries[0].index - 1)
            assert prev_term is not None
            self.checker.check_entries(prev_term, ready.entries)
        node.disk.store(ready)
        self.checker.check_role(node.raft)

    def deliver(self, to: int, message: Message) -> None:
        """Hand one message to its node. The node takes its turn later."""
        raft = self.nodes[to].raft
        raft.step(message)
        raft.check_invariants()

    def read(self, node_id: int, context: int) -> None:
        """Begin a read that must see everything that is committed by now."""
        self.checker.reads[node_id, context] = self.checker.commit_index
        self.nodes[node_id].raft.read_index(context)

    def settle(self, limit: int = 200) -> None:
        """Deliver all messages and let all nodes take turns until nothing happens any more."""
        for _ in range(limit):
            messages, self.in_flight = self.in_flight, []
            for _, to, message in messages:
                self.deliver(to, message)
            for node in self.nodes.values():
                self.turn(node)
            if not self.in_flight:
                return
        raise AssertionError("the group does not come to rest: messages go in circles")

    def tick_all(self, count: int = 1) -> None:
        """Let time pass for all nodes, and let all of them answer."""
        for _ in range(count):
            for node in self.nodes.values():
                node.raft.tick()
                self.turn(node)
            self.settle()

    def leader(self) -> Node | None:
        """The leader of the highest term, if any node leads."""
        leaders = [node for node in self.nodes.values() if node.raft.role is Role.LEADER]
        return max(leaders, key=lambda node: node.raft.term, default=None)


def appends(network: Network, to: int) -> list[AppendEntries]:
    """The AppendEntries under way to one node."""
    return [message for _, node, message in network.in_flight if node == to and isinstance(message, AppendEntries)]
