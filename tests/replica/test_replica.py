"""A replica that receives a snapshot: what waits there and is answered in it."""

from __future__ import annotations

import random
from collections.abc import Iterable

from zmqlab.market.types import symbol_code
from zmqlab.raft import Configuration, Message, Raft, RaftSettings
from zmqlab.raft.messages import Entry, EntryKind, InstallSnapshot
from zmqlab.replica import Applied, MemoryJournal, Replica, ReplicaSettings, StateMachine
from zmqlab.wire import client as client_wire
from zmqlab.wire import records

ORDER = records.pack_commands([(1, 1, 1, 1, 5, 0, symbol_code("AAA"), 100, 7, 0)])
MEMBERS = Configuration((1, 2, 3))


class Effects:
    """A driver that keeps what it is given."""

    def __init__(self) -> None:
        self.answers: list[tuple[bytes, bytes]] = []
        self.forwarded: list[bytes] = []

    def send(self, messages: Iterable[Message]) -> None:
        """Nobody listens."""

    def forward(self, leader_id: int, requests: list[bytes]) -> None:
        self.forwarded += requests

    def answer(self, answers: list[tuple[bytes, bytes]]) -> None:
        self.answers += answers

    def applied(self, entry: Entry, applied: Applied) -> None:
        """Nobody counts."""


def test_a_snapshot_answers_what_waits() -> None:
    """Requests 1 and 2 wait here and were applied elsewhere; the client has the answer of the first already.

    Otherwise each resend would write both into the log again, and a node that is far behind could fill the log faster
    than it catches up (found by ``zmqlab.sim``, seed 1338).
    """
    elsewhere = StateMachine()
    frames = [
        client_wire.encode_open_session(9),
        client_wire.encode_request(1, 1, 1, ORDER),
        client_wire.encode_request(1, 2, 2, ORDER),
    ]
    bodies = [elsewhere.apply(Entry(index, 1, EntryKind.DATA, frame)) for index, frame in enumerate(frames, 1)]
    effects = Effects()
    raft = Raft(1, MEMBERS, RaftSettings(), random.Random(1))
    replica = Replica(raft, StateMachine(), MemoryJournal(), effects, ReplicaSettings(resend_ticks=1))
    for frame in (frames[1], frames[2], client_wire.encode_request(1, 3, 2, ORDER)):
        assert replica.take_request(b"route", frame, 0) is None
    replica.step(InstallSnapshot(2, 1, 1, 1, 3, 1, 0, True, elsewhere.snapshot(), MEMBERS.encode()))
    replica.turn()
    assert bodies[2] is not None
    assert effects.answers == [(b"route", client_wire.replayed(bodies[2].body))]
    assert list(replica.pending) == [(1, 3)], "only the one that was not applied still waits"
    effects.forwarded.clear()
    replica.tick()
    replica.tick()
    replica.turn()
    assert {client_wire.parse_request(frame).request_number for frame in effects.forwarded} == {3}
