"""Some of the million frames of ``python -m tests.fuzz``, in every run of the tests."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.handlers import assert_equal, run_forged, run_handlers
from tests.fuzz.hostile import BUY, SOCKETS, Hostile
from tests.fuzz.in_process import make_group
from tests.fuzz.legal import Verdict, verdict
from tests.fuzz.processes import run_processes
from zmqlab.wire import client as client_wire
from zmqlab.wire import records

FRAMES = 20_000
SEED = 20
KINDS = {"refused": "bad", "harmless": "harmless", "left out": "left_out", "of many parts": "odd"}


@pytest.mark.parametrize("socket", SOCKETS)
def test_hostile_frames_change_nothing(socket: str) -> None:
    outcomes = run_handlers(socket, FRAMES, SEED)
    for outcome in outcomes:
        for kind, field in KINDS.items():
            assert getattr(outcome, field) > 0, f"{outcome.what}: no frame was {kind}: is that a test?"
        assert outcome.left_out < outcome.frames / 10, "too much is left out"
    assert sum(outcome.frames for outcome in outcomes) >= FRAMES


def test_a_node_goes_on_whatever_is_said_in_whosever_name() -> None:
    outcome = run_forged(FRAMES, SEED)
    assert outcome.legal > 100


@pytest.mark.process
@pytest.mark.parametrize("socket", SOCKETS)
def test_hostile_messages_to_real_nodes(socket: str) -> None:
    outcomes = run_processes(socket, 6_000, SEED)
    assert sum(outcome.frames for outcome in outcomes) >= 5_990


def test_a_seed_is_always_the_same_frames() -> None:
    view = make_group(1, attack_leader=True).view()
    for socket in SOCKETS:
        first, second = (list(Hostile(socket, view, random.Random(3), pool=50).messages(500)) for _ in range(2))
        assert first == second


def test_requests_of_nobodys_session_change_no_book() -> None:
    """They are legal, and so left out above: they go into the log, and come out of it as refused."""
    rng = random.Random(SEED)
    group = make_group(3, attack_leader=True)
    length = group.target.raft.last_index
    before, books = group.fingerprint(), group.target.replica.machine.exchange.state_hash()
    for number in range(1, 2_001):
        commands = [
            tuple(rng.randbytes(1)[0] if n < 4 else number for n in range(10)) for _ in range(rng.randrange(1, 4))
        ]
        frame = client_wire.encode_request(rng.randrange(10**6, 2**64), number, number, records.pack_commands(commands))
        assert verdict("clients", frame, group.view()) is Verdict.LEGAL
        group.target.transport.clients.messages.append([b"stranger", frame])
        if number % 100 == 0:
            group.turn()
    group.settle()
    after = group.fingerprint()
    assert group.target.raft.last_index == length + 2_000
    moved = ("commit index", "last index", "applied index", "chain hash")
    assert_equal({what: v for what, v in before.items() if what not in moved}, after)
    assert group.target.replica.machine.exchange.state_hash() == books


def test_sessions_without_end_are_bounded() -> None:
    """Anybody may open sessions; the least recently used are forgotten."""
    group = make_group(1, attack_leader=True)
    machine = group.target.replica.machine
    for nonce in range(3 * machine.sessions.limits.max_sessions):
        group.target.transport.clients.messages.append([b"stranger", client_wire.encode_open_session(nonce)])
        if nonce % 100 == 0:
            group.turn()
            group.assert_bounded()
    group.settle()
    assert len(machine.sessions) == machine.sessions.limits.max_sessions


def test_the_check_can_fail() -> None:
    """One order that is let through is found by what every batch is checked for."""
    group = make_group(1, attack_leader=True)
    before = group.fingerprint()
    frame = client_wire.encode_request(group.session, 500, 500, records.pack_commands([BUY]))
    group.target.transport.clients.messages.append([b"stranger", frame])
    group.turn()
    with pytest.raises(AssertionError, match="the state has changed"):
        assert_equal(before, group.fingerprint())
