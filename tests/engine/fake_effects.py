"""The world around an engine, for tests: what it was asked to do is kept, in order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec

from zmqlab.endpoints import parse_endpoint
from zmqlab.engine import Design, Engine, Vitals
from zmqlab.engine.first_start import FOUNDER
from zmqlab.engine.status import early_status
from zmqlab.raft import Configuration
from zmqlab.replica import Journal, MemoryJournal, Replica
from zmqlab.settings import NodeSettings
from zmqlab.wire import control, frames
from zmqlab.wire.node_status import Member, NodeStatus

MS = 1_000_000


class FakeEffects:
    """Keeps effects. ``subscribed`` behaves as a SUB socket of libzmq: connecting twice counts once."""

    def __init__(self) -> None:
        self.hosts: dict[str, str] = {}
        """Name -> its address now; for the names that a test uses."""
        self.published: list[bytes] = []
        self.sent: list[tuple[str, bytes]] = []
        self.replies: list[tuple[bytes, bytes]] = []
        self.connected: set[str] = set()
        self.subscribed: set[str] = set()
        self.heard: tuple[int, ...] = ()
        """Groups whose broadcasts are wanted; empty: of all."""
        self.asked: list[tuple[str, bytes]] = []
        self.questioned: set[str] = set()
        """Addresses to which a connection for questions is kept."""
        self.notes: list[str] = []
        self.disk = (0.0, False)
        """How slow it was made, and whether it was filled."""

    def publish(self, frame: bytes) -> None:
        self.published.append(frame)

    def send(self, address: str, frame: bytes) -> None:
        assert address in self.connected
        self.sent.append((address, frame))

    def reply(self, route: bytes, frame: bytes) -> None:
        self.replies.append((route, frame))

    def connect(self, address: str) -> None:
        assert address not in self.connected, "an address is connected to once"
        self.connected.add(address)

    def disconnect(self, address: str) -> None:
        self.connected.remove(address)

    def subscribe(self, address: str) -> None:
        self.subscribed.add(address)

    def unsubscribe(self, address: str) -> None:
        self.subscribed.remove(address)

    def hear_groups(self, numbers: Sequence[int]) -> None:
        self.heard = tuple(numbers)

    def resolve(self, endpoints: Sequence[str]) -> tuple[str, ...]:
        places = map(parse_endpoint, endpoints)
        return tuple(f"tcp://{self.hosts.get(host, host)}:{port}" for host, port in places)

    def ask(self, address: str, frame: bytes) -> None:
        self.asked.append((address, frame))
        self.questioned.add(address)

    def hang_up(self, address: str) -> None:
        self.questioned.discard(address)

    def damage_disk(self, write_ms: float, is_full: bool) -> None:
        self.disk = write_ms, is_full

    def vitals(self) -> Vitals:
        return Vitals(pid=1, time_ns=0, uptime_ms=0, cpu_percent=0.0, rss_bytes=0, dropped=0, bad_messages=0)

    def observe(self, status: NodeStatus, replica: Replica, is_closing: bool) -> None:
        """Not looked at."""

    def note(self, text: str, is_warning: bool = False) -> None:
        self.notes.append(text)


def founder_id(endpoint: str) -> int:
    """The identity that a founder has drawn."""
    return parse_endpoint(endpoint)[1]


def configuration_of(members: Sequence[Member]) -> Configuration:
    """The members that a status tells, all of them committed."""
    voters, learners = (tuple(each.node_id for each in members if each.voter is voter) for voter in (True, False))
    return Configuration(voters, learners, tuple((member.node_id, member.endpoint) for member in members))


class Driven:
    """An engine whose clock is turned by hand. A founder has met the others, unless it is to be alone."""

    def __init__(
        self,
        settings: NodeSettings,
        journal: Journal | None = None,
        design: Design | None = None,
        *,
        is_met: bool = True,
        own_id: int = 0,
    ) -> None:
        """``own_id``: what it draws at its first start; by default it follows from the address."""
        self.now_ns = 0
        self.effects = FakeEffects()
        self.settings = settings
        self.engine = Engine(
            settings,
            journal or MemoryJournal(),
            self.effects,
            clock=lambda: self.now_ns,
            rng=random.Random(settings.port),
            draw_id=lambda: own_id or founder_id(settings.endpoint),
            design=design,
        )
        if settings.peers and is_met:
            self.pass_time(1)
            for peer in settings.peers:
                self.meet(peer)
            self.effects.asked.clear()

    def meet(self, peer: str, *members: Member, late_ns: int = 0, **fields: Any) -> None:
        """The node at ``peer`` answers the newest question for its status: a founder, or a member of a cluster.

        ``late_ns``: so much time has passed since the last turn.
        """
        *_, question = (frame for address, frame in self.effects.asked if address == peer)
        vitals, role = self.effects.vitals(), "follower" if members else FOUNDER
        status = early_status(self.settings, role, founder_id(peer), vitals)
        committed = configuration_of(members).encode() if members else b""
        places = (self.settings.endpoint, *self.effects.resolve(self.settings.peers))
        alike = [] if members else [(founder_id(each), each) for each in places]
        told = {
            "founders": alike,
            "address": peer,
            "members": list(members),
            "committed_members": committed,
        }
        status = msgspec.structs.replace(status, **told | fields)
        answer = control.StatusAnswer(control.decode_query(question).nonce, status)
        self.now_ns += late_ns
        self.engine.begin_turn()
        self.engine.on_answer(peer, control.encode(frames.ANSWER, answer))
        self.engine.turn()

    def turn(self, *, peers: Sequence[bytes] = (), clients: Sequence[bytes] = ()) -> None:
        """One turn, or as many as the engine wants, with these frames in the first one."""
        self.engine.begin_turn()
        for frame in peers:
            self.engine.on_peer_frame(frame)
        for frame in clients:
            self.engine.on_client_frame(b"client", frame)
        while self.engine.turn():
            self.engine.begin_turn()

    def close(self, address: str) -> None:
        """The connection to this address closes."""
        self.engine.begin_turn()
        self.engine.on_peer_gone(address)
        self.engine.turn()

    def pass_time(self, ticks: int) -> None:
        """So many ticks pass, each with a turn."""
        for _ in range(ticks):
            self.now_ns = self.engine.wake_ns
            self.turn()
