"""What fuzzing found, one test a finding: the frames that once stopped a node or changed what they must not."""

from __future__ import annotations

import pytest
import zmq

from tests.fuzz.hostile import BUY, STRANGER
from tests.fuzz.in_process import MAX_SOCKETS, TAKEN_BY_LIBZMQ, Group, make_group
from zmqlab.endpoints import parse_endpoint
from zmqlab.errors import SettingsError
from zmqlab.raft.messages import (
    BROADCAST,
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    RequestVote,
    TimeoutNow,
)
from zmqlab.replica.raft_by_quorum import SILENT_LEARNER_TIMEOUTS
from zmqlab.replica.replication import MAX_MEMBERS
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames, records
from zmqlab.wire.peer import Hello, encode_hello, encode_message

BAD_HOSTS = ("..", "-", "_", ".a", "-a")


@pytest.fixture(scope="module")
def led() -> Group:
    """Attacked is the leader of three."""
    return make_group(3, attack_leader=True)


@pytest.fixture(scope="module")
def follower() -> Group:
    """Attacked is a follower of three."""
    return make_group(3, attack_leader=False)


def refuses(group: Group, socket: str, frame: bytes) -> bool:
    """Whether ``frame`` is refused; nothing may change and nothing may be raised either way."""
    before, bad = group.fingerprint(), group.target.bad_frames
    queue = getattr(group.target.transport, socket).messages
    queue.append([frame] if socket == "broadcasts" else [b"stranger", frame])
    group.target.turn()
    refused = group.target.bad_frames == bad + 1
    group.turn()
    assert group.fingerprint() == before
    return refused


def ask(group: Group, query: control.Query) -> control.Answer:
    group.target.transport.clients.messages.append([b"stranger", control.encode(frames.QUERY, query)])
    group.target.turn()
    return control.decode_answer(group.target.transport.last_reply)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "a", "a" * 253, "a-.", "[::1]", "1.2.3.4.5", *BAD_HOSTS])
def test_an_address_that_is_accepted_is_one_that_libzmq_takes(host: str) -> None:
    address = f"tcp://{host}:1"
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.connect(address)
            is_taken = True
        except zmq.ZMQError:
            is_taken = False
    assert bool(TAKEN_BY_LIBZMQ.fullmatch(address)) == is_taken, "the stand-in for libzmq is like it"
    try:
        parse_endpoint(address)
    except SettingsError:
        assert host in BAD_HOSTS
    else:
        assert is_taken


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_an_address_that_libzmq_refuses(led: Group, host: str) -> None:
    """It got into the log of every node, and stopped them at that turn and at each start."""
    before = led.fingerprint()
    answer = ask(led, control.AddMemberQuery(1, STRANGER, f"tcp://{host}:5000", "x"))
    assert isinstance(answer, control.ErrorAnswer)
    assert answer.code == "bad_query"
    assert refuses(led, "peers", encode_hello(Hello(STRANGER, led.target.node_id, f"tcp://{host}:5000", "x")))
    led.turn()
    assert led.fingerprint() == before


@pytest.mark.parametrize(
    ("node_id", "address", "name"),
    [
        (0, "tcp://127.0.0.1:5000", "x"),
        (-1, "tcp://127.0.0.1:5000", "x"),
        (STRANGER, "127.0.0.1:5000", "x"),
        (STRANGER, "tcp://127.0.0.1:65534", "x"),
        (STRANGER, "tcp://" + "a" * 60_000 + ":1", "x"),
        (STRANGER, "tcp://127.0.0.1:5000", "<script>"),
        (STRANGER, "tcp://127.0.0.1:5000", "x" * 33),
    ],
)
def test_a_member_that_makes_no_sense(led: Group, node_id: int, address: str, name: str) -> None:
    before = led.fingerprint()
    answer = ask(led, control.AddMemberQuery(1, node_id, address, name))
    assert isinstance(answer, control.ErrorAnswer)
    assert answer.code == "bad_query"
    led.turn()
    assert led.fingerprint() == before


def test_a_flood_of_new_members() -> None:
    """Each became a learner; the 65,536th did not fit the encoding of a configuration."""
    group = make_group(1, attack_leader=True)
    length = group.target.raft.last_index
    ticks = 10 * SILENT_LEARNER_TIMEOUTS * group.target.raft.settings.election_ticks
    for number in range(ticks):
        group.target.transport.clients.messages += [
            [b"stranger", control.encode(frames.QUERY, control.AddMemberQuery(1, 1_000 + 50 * number + n, address))]
            for n, address in enumerate(f"tcp://127.0.0.1:{1_000 + n}" for n in range(5))
        ]
        group.turn()
        group.assert_bounded()
    assert len(group.target.raft.configuration.members) <= 2 < MAX_MEMBERS
    assert group.target.raft.last_index - length <= 22, "an entry in and one out, five seconds apart"
    assert group.target.raft.configuration.voters == (group.target.node_id,)
    assert group.is_alive()


def test_a_flood_of_introductions(led: Group) -> None:
    """Each closed one connection and opened another, faster than libzmq gives closed sockets back."""
    before = led.fingerprint()
    for number in range(2 * MAX_SOCKETS):
        hello = Hello(STRANGER + number, led.target.node_id, f"tcp://127.0.0.1:{1 + number % 5}", "x")
        led.target.transport.peers.messages.append([b"stranger", encode_hello(hello)])
    while led.target.transport.peers.messages:
        led.target.turn()
    led.turn()
    led.assert_bounded()
    assert led.fingerprint() == before


def test_two_nodes_that_are_new_are_both_heard(led: Group) -> None:
    """Their introductions may come in one and the same tick, again and again."""
    for _ in range(2):
        for number in (1, 2):
            hello = Hello(0xABC00 + number, led.target.node_id, f"tcp://127.0.0.1:{number}", "x")
            led.target.transport.peers.messages.append([b"stranger", encode_hello(hello)])
        led.turn()
    assert {"tcp://127.0.0.1:1", "tcp://127.0.0.1:2"} <= set(led.target.transport._dealers)


def test_a_second_leader_of_a_term(led: Group, follower: Group) -> None:
    """Raft takes it for a broken invariant, and the node stopped."""
    for group in (led, follower):
        view = group.view()
        others = [member for member in (*view.members, STRANGER) if member not in (view.leader_id, view.node_id)]
        for sender in others:
            place = (view.term, view.last_index, view.term, view.commit_index, 1)
            assert refuses(group, "peers", encode_message(AppendEntries(sender, view.node_id, *place, ())))
            assert refuses(group, "peers", encode_message(TimeoutNow(sender, view.node_id, view.term)))
            snapshot = InstallSnapshot(sender, view.node_id, view.term, 1, 10**6, 1, 0, True, b"", _members(group))
            assert refuses(group, "peers", encode_message(snapshot))
        broadcast = AppendEntries(others[0], BROADCAST, view.term, view.last_index, view.term, 0, 1, ())
        assert refuses(group, "broadcasts", encode_message(broadcast))


def test_an_answer_to_what_was_never_asked(led: Group) -> None:
    view = led.view()
    other = next(member for member in view.members if member != view.node_id)
    answers: list[Message] = [
        AppendEntriesResponse(other, view.node_id, view.term, 2**40, True, view.last_index, 0, 0),
        AppendEntriesResponse(other, view.node_id, view.term, 1, True, view.last_index + 1, 0, 0),
        InstallSnapshotResponse(other, view.node_id, view.term, 2**40, 1, 0, True),
    ]
    for answer in answers:
        assert refuses(led, "peers", encode_message(answer))


@pytest.mark.parametrize("term", [2**64 - 1, 2**63, 2**40])
def test_a_term_that_uses_up_all_terms(follower: Group, term: int) -> None:
    """At 2**64 - 1 the next campaign did not fit its frame, and the node stopped at that and at each start."""
    view = follower.view()
    other = next(member for member in view.members if member not in (view.node_id, view.leader_id))
    vote = RequestVote(other, view.node_id, term, view.last_index, view.term, False, True)
    assert refuses(follower, "peers", encode_message(vote))


def test_a_log_that_contradicts_what_is_committed() -> None:
    """In the name of a later leader: terms would have fallen along the log, which Raft asserts they don't."""
    group = make_group(3, attack_leader=False)
    view = group.view()
    request = client_wire.encode_request(view.session, 1, 1, records.pack_commands([BUY]))
    entries = tuple(Entry(index, 0, EntryKind.DATA, request) for index in range(1, view.commit_index + 2))
    message = AppendEntries(view.leader_id, view.node_id, view.term, 0, 0, view.commit_index + 1, 1, entries)
    assert refuses(group, "peers", encode_message(message))
    group.target.raft.check_invariants()


def test_a_snapshot_of_nothing_is_not_stored() -> None:
    """It stood in the journal, and stopped the node at each start; later on, it stopped the node before it was stored.

    In the leader's name it is refused now, and the node goes on.
    """
    group = make_group(3, attack_leader=False)
    view = group.view()
    snapshot = InstallSnapshot(
        view.leader_id, view.node_id, view.term, 1, view.last_index + 9, view.term, 0, True, b"none", _members(group)
    )
    before = group.target.replica.journal.load()
    assert refuses(group, "peers", encode_message(snapshot))
    assert group.target.replica.journal.load() == before


def _members(group: Group) -> bytes:
    return group.target.raft.configuration.encode()
