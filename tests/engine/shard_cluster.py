"""A few whole engines that hear each other at once, each with many groups: a cluster with shards without processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from tests.engine.fake_effects import Driven, FakeEffects
from zmqlab.engine import Group
from zmqlab.placement import Roster
from zmqlab.raft import Role
from zmqlab.replica import Journal, MemoryJournal
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames

CLIENT = b"client"
SHARDS = 4
"""Of the clusters of :func:`founded` and :func:`grown`."""


def endpoint(number: int) -> str:
    return f"tcp://127.0.0.1:{5_000 + 10 * number}"


class ShardCluster:
    """Engines by number; whatever one sends arrives in the next :meth:`step`, unless its receiver is down."""

    def __init__(
        self,
        nodes: int,
        shards: int,
        replication_factor: int = 0,
        make_journal: Callable[[int], Journal] = lambda _: MemoryJournal(),
        **fields: Any,
    ) -> None:
        """``fields``: further settings of all nodes."""
        self.fields = fields
        self.shards, self.copies, self.nodes = shards, replication_factor, nodes
        self.journals = {number: make_journal(number) for number in range(nodes)}
        self._known: list[Journal] = []
        """Journals that a node has been started with."""
        self.running: dict[int, Driven] = {}
        self.now_ns = 0
        self._ids = count(70_001)
        self.sent: deque[tuple[int, str, bytes]] = deque()
        """(sender, receiver's address or empty for all, frame)"""
        self.watch: Callable[[int, FakeEffects], object] = lambda number, effects: None
        """Shown what each node has sent, before that arrives."""
        for number in range(nodes):
            self.start(number)

    def start(self, number: int, **fields: Any) -> None:
        peers = tuple(endpoint(other) for other in range(self.nodes) if other != number)
        settings = NodeSettings(
            name=f"node{number}",
            port=5_000 + 10 * number,
            shards=self.shards,
            replication_factor=self.copies,
            **{"peers": peers, **self.fields, **fields},
        )
        driven = Driven(settings, self._opened(number), is_met=False)
        driven.now_ns = self.now_ns
        self.running[number] = driven

    def _opened(self, number: int) -> Journal:
        """The journal of a node that starts. One on disk counts by itself how often it is opened: the node's lives."""
        journal = self.journals[number]
        if isinstance(journal, MemoryJournal):
            journal.life += journal in self._known
            self._known.append(journal)
        return journal

    def join(
        self, number: int, journal: Journal | None = None, seeds: Sequence[int] | None = None, **fields: Any
    ) -> Driven:
        """A node starts that is to be taken in, or is started again; told of ``seeds``, or of all that run."""
        self.journals[number] = journal or self.journals.get(number) or MemoryJournal()
        settings = NodeSettings(
            name=f"node{number}",
            port=5_000 + 10 * number,
            join=tuple(endpoint(other) for other in (self.running if seeds is None else seeds) if other != number),
            shards=self.shards,
            replication_factor=self.copies,
            **fields,
        )
        driven = Driven(settings, self._opened(number), is_met=False, own_id=next(self._ids))
        driven.now_ns = self.now_ns
        self.running[number] = driven
        return driven

    def dismiss(self, number: int, node_id: int = 0) -> list[control.Answer]:
        """A person asks all nodes that this one leave the cluster, by its identity if that is known; what they say."""
        query = control.encode(frames.QUERY, control.RemoveMemberQuery(9, node_id, address=endpoint(number)))
        return [control.decode_answer(answer) for each in list(self.running) for answer in self.ask(each, query)]

    def roster(self) -> Roster:
        """The newest that any node knows."""
        known = [driven.engine.hosting.placing.roster for driven in self.running.values() if driven.engine.hosting]
        return max(known, key=lambda roster: roster.version)

    def voters(self, group: int) -> list[str]:
        """Where the voters of a group are, as its leader has it."""
        leader = self.leader(group)
        assert leader is not None
        configuration = self.groups(leader)[group].replica.replication.configuration
        return sorted(at for member, at in configuration.addresses if member in configuration.voters)

    def is_placed(self) -> bool:
        """Whether every group has the members that the roster wants, and every node holds what it wants of it."""
        roster = self.roster()
        held = {driven.settings.endpoint: tuple(sorted(driven.engine.groups)) for driven in self.running.values()}
        return all(roster.held_by(place) == groups for place, groups in held.items()) and all(
            self.leader(group) is not None and self.voters(group) == sorted(members)
            for group, members in enumerate(roster.groups)
        )

    def step_until(self, done: Callable[[], bool], ticks_max: int = 3_000) -> None:
        for _ in range(ticks_max // 10):
            if done():
                return
            self.step(10)
        raise AssertionError("it takes too long")

    def terminate(self, number: int) -> None:
        """SIGTERM: the node ends in order; it is not taken away here."""
        driven = self.running[number]
        driven.engine.begin_turn()
        driven.engine.on_signal()
        driven.engine.turn()

    def stop(self, number: int) -> None:
        del self.running[number]

    def groups(self, number: int) -> dict[int, Group]:
        return self.running[number].engine.groups

    def leader(self, group: int) -> int | None:
        """The node that leads a group, in its highest term."""
        found = [
            (groups[group].replica.replication.term, number)
            for number in self.running
            if group in (groups := self.groups(number)) and groups[group].replica.replication.role is Role.LEADER
        ]
        return max(found)[1] if found else None

    def leaders(self) -> list[int | None]:
        return [self.leader(group) for group in range(self.shards)]

    def ask(self, number: int, *frames_: bytes) -> list[bytes]:
        """Frames of a client to a node; its answers so far."""
        driven = self.running[number]
        driven.turn(clients=frames_)
        answers = [frame for _, frame in driven.effects.replies]
        driven.effects.replies.clear()
        return answers

    def step(self, ticks: int = 1) -> None:
        """So many ticks pass everywhere; what was sent arrives at once, over and over until nothing is under way."""
        for _ in range(ticks):
            self.now_ns += 10_000_000
            for driven in self.running.values():
                driven.now_ns = max(driven.now_ns, self.now_ns)
                driven.turn()
            for _ in range(12):
                self._exchange()

    def _exchange(self) -> None:
        for number, driven in self.running.items():
            self.watch(number, driven.effects)
        places = {driven.settings.endpoint: driven for driven in self.running.values()}
        heard: dict[str, list[bytes]] = {place: [] for place in places}
        for place, driven in places.items():
            effects = driven.effects
            for frame in effects.published:
                for other in places.values():
                    number = frames.parse_header(frame)[1]
                    is_heard = place in other.effects.subscribed and number in (other.effects.heard or (number,))
                    if is_heard and frame[3] == frames.APPEND_ENTRIES:
                        heard[other.settings.endpoint].append(frame)
            for address, frame in effects.sent:
                if address in heard:
                    heard[address].append(frame)
            asked, effects.asked = effects.asked, []
            for address, frame in asked:
                if address in places:
                    for answer in self._answers(places[address], frame):
                        driven.engine.begin_turn()
                        driven.engine.on_answer(address, answer)
                        driven.engine.turn()
            effects.published.clear()
            effects.sent.clear()
        for place, come in heard.items():
            if come:
                places[place].turn(peers=come)

    @staticmethod
    def _answers(driven: Driven, frame: bytes) -> list[bytes]:
        kept, driven.effects.replies = driven.effects.replies, []
        driven.turn(clients=[frame])
        answers, driven.effects.replies = [answer for _, answer in driven.effects.replies], kept
        return answers


def responses(answers: Sequence[bytes]) -> list[client_wire.Response]:
    return [each for frame in answers if frame[3] == frames.RESPONSES for each in client_wire.iter_responses(frame)]


def status_of(cluster: ShardCluster, number: int, group: int) -> control.Answer:
    (answer,) = cluster.ask(number, control.encode(frames.QUERY, control.StatusQuery(7), group))
    return control.decode_answer(answer)


def founded(nodes: int = 3, copies: int = 3) -> ShardCluster:
    cluster = ShardCluster(nodes, SHARDS, copies)
    cluster.step(60)
    return cluster


def grown(copies: int = 3) -> ShardCluster:
    """Three nodes founded it, and two came."""
    cluster = founded(copies=copies)
    for number in (3, 4):
        cluster.join(number)
        cluster.step_until(lambda version=number - 2: cluster.roster().version == version and cluster.is_placed())
    return cluster


def with_founders_that_wait(cluster: ShardCluster) -> list[Any]:
    """Founders 0 and 1 miss the last word that they need, for as long as these have ``_decide``; the others found."""
    late: list[Any] = [cluster.running[number].engine._first_start for number in (0, 1)]
    for start in late:
        start._decide = lambda founders: None
    cluster.step(60)
    return late


def identities(cluster: ShardCluster, *numbers: int) -> list[int]:
    return [cluster.running[number].engine.hosting.placing.node_id for number in numbers]  # type: ignore[union-attr]
