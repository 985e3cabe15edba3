"""Taking members in, promoting them, letting them go: the policy, on replicas with time by hand."""

from __future__ import annotations

import random

import pytest

from tests.replica.network import RAFT, Network, request
from zmqlab.raft import AppendEntriesResponse, Configuration, HardState, Role
from zmqlab.raft.messages import Entry, EntryKind, RequestVoteResponse
from zmqlab.replica import Change, Members, RaftByQuorum, ReplicaSettings, Start, StoredState
from zmqlab.replica.raft_by_quorum import SILENT_LEARNER_TIMEOUTS, SILENT_VOTER_TIMEOUTS
from zmqlab.replica.replication import MAX_MEMBERS

NEW = 4


def address(node_id: int) -> str:
    return f"tcp://127.0.0.1:{5_000 + node_id}"


def add(network: Network, node_id: int = NEW) -> None:
    """Ask again and again until the new node votes."""
    for _ in range(10 * RAFT.election_ticks):
        if network.leader.replica.replication.add_member(node_id, address(node_id)) is Change.DONE:
            return
        network.tick()
    raise AssertionError("the new node was never promoted")


def remove(network: Network, node_id: int) -> None:
    for _ in range(10 * RAFT.election_ticks):
        if network.leader.replica.replication.remove_member(node_id) is Change.DONE:
            return
        network.tick()
    raise AssertionError("the node was never removed")


def test_a_new_node_learns_and_then_votes(network: Network) -> None:
    client = network.open_session()
    network.nodes[1].take(request(client, 1))
    network.settle()
    stranger = network.start_stranger(NEW)
    assert network.leader.replica.replication.add_member(NEW, address(NEW)) is Change.UNDER_WAY
    network.settle()
    assert network.leader.replica.replication.configuration.learners == (NEW,)
    assert stranger.replica.replication.is_learner
    add(network)
    assert stranger.replica.replication.configuration.voters == (1, 2, 3, NEW)
    assert dict(stranger.replica.replication.configuration.addresses) == {NEW: address(NEW)}
    network.tick(RAFT.heartbeat_ticks)
    network.assert_agreed()


def test_a_learner_that_is_not_there_is_never_promoted(network: Network) -> None:
    network.start_stranger(NEW)
    network.cut_off = {NEW}
    for _ in range(5 * RAFT.election_ticks):
        assert network.leader.replica.replication.add_member(NEW, address(NEW)) is Change.UNDER_WAY
        network.tick()
    assert network.leader.replica.replication.configuration.learners == (NEW,)
    network.heal()
    add(network)


def test_a_learner_is_promoted_only_after_a_short_round(network: Network) -> None:
    """While entries come faster than the learner's round trip, each round takes long."""
    client = network.open_session()
    network.start_stranger(NEW)
    network.cut_off = {NEW}
    network.leader.replica.replication.add_member(NEW, address(NEW))
    network.settle()
    for number in range(1, 2 * RAFT.election_ticks):
        network.leader.take(request(client, number))
        network.tick()
    network.cut_off = set()
    network.tick()
    assert network.leader.replica.replication.configuration.learners == (NEW,), "its first round took too long"
    add(network)


def test_only_the_leader_changes_the_members(network: Network) -> None:
    assert network.nodes[2].replica.replication.add_member(NEW, address(NEW)) is Change.NOT_LEADER
    assert network.nodes[2].replica.replication.remove_member(3) is Change.NOT_LEADER
    assert not network.nodes[2].replica.replication.hand_over()


def test_a_follower_is_let_go(network: Network) -> None:
    remove(network, 3)
    assert network.leader.replica.replication.configuration.voters == (1, 2)
    term = network.leader.replica.replication.term
    network.tick(10 * RAFT.election_ticks)
    assert network.leader.replica.replication.term == term, "a removed node does not disrupt"


def test_a_leader_hands_over_before_it_goes(network: Network) -> None:
    term = network.leader.replica.replication.term
    remove(network, 1)
    assert network.leader.node_id != 1
    assert network.leader.replica.replication.term == term + 1, "a transfer, not an election by time-out"
    assert network.leader.replica.replication.configuration.voters == (2, 3)


def test_down_to_one(network: Network) -> None:
    for _ in range(2):
        remove(network, network.leader.node_id)
        network.nodes = {
            node_id: node
            for node_id, node in network.nodes.items()
            if node_id in network.leader.replica.replication.configuration.members
        }
    assert network.leader.replica.replication.remove_member(network.leader.node_id) is Change.LAST_VOTER
    client = network.open_session(network.leader.node_id)
    network.leader.take(request(client, 1))
    network.settle()
    assert network.leader.answers, "a group of one answers"


def test_a_removal_that_would_leave_no_majority_is_refused(network: Network) -> None:
    network.cut_off = {2}
    network.tick(RAFT.election_ticks)
    assert network.leader.replica.replication.remove_member(3) is Change.NO_QUORUM
    remove(network, 2)
    assert network.leader.replica.replication.configuration.voters == (1, 3)


def test_a_new_leader_does_not_take_the_silent_for_living(network: Network) -> None:
    network.cut_off = {1}
    leader = network.elect()
    other = next(node_id for node_id in (2, 3) if node_id != leader.node_id)
    assert leader.replica.replication.remove_member(other) is Change.NO_QUORUM, "node 1 was not heard in this term"


def test_two_members_never_share_an_address(network: Network) -> None:
    add_four = network.start_stranger(NEW)
    add(network)
    assert network.leader.replica.replication.add_member(5, address(NEW)) is Change.ADDRESS_TAKEN, "it is in reach"
    remove(network, NEW)
    assert add_four.replica.replication.role is not Role.LEADER
    network.start_stranger(5)
    assert network.leader.replica.replication.add_member(5, address(NEW)) is Change.UNDER_WAY


def test_a_dead_members_place_can_be_taken(network: Network) -> None:
    network.start_stranger(NEW)
    add(network)
    network.cut_off = {NEW}
    network.tick(2 * RAFT.election_ticks)
    network.start_stranger(5)
    for _ in range(10 * RAFT.election_ticks):
        if network.leader.replica.replication.add_member(5, address(NEW)) is Change.DONE:
            break
        network.tick()
    configuration = network.leader.replica.replication.configuration
    assert configuration.voters == (1, 2, 3, 5)
    assert dict(configuration.addresses)[5] == address(NEW)


def test_one_learner_at_a_time_and_a_silent_one_makes_room(network: Network) -> None:
    members = network.leader.replica.replication
    network.start_stranger(100)
    network.cut_off = {100}
    for node_id in range(100, 200):
        assert members.add_member(node_id, address(node_id)) is Change.UNDER_WAY
        network.tick()
    assert network.leader.replica.replication.configuration.learners == (100,), "the one that came first"
    network.start_stranger(NEW)
    network.tick(SILENT_LEARNER_TIMEOUTS * RAFT.election_ticks)
    add(network)
    configuration = network.leader.replica.replication.configuration
    assert configuration.members == (1, 2, 3, NEW), "who never said a word is gone"


def test_a_learner_that_answers_is_not_put_out_by_another(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    network.start_stranger(NEW)
    members = network.leader.replica.replication
    monkeypatch.setattr(Members, "tick", lambda _: None)  # it is never promoted, however well it answers
    members.add_member(NEW, address(NEW))
    for _ in range(2 * SILENT_LEARNER_TIMEOUTS * RAFT.election_ticks):
        assert members.add_member(5, address(5)) is Change.UNDER_WAY
        network.tick()
    assert network.leader.replica.replication.configuration.learners == (NEW,)


def test_a_group_has_so_many_members_and_no_more(network: Network) -> None:
    for node_id in range(NEW, MAX_MEMBERS + 1):
        network.start_stranger(node_id)
        add(network, node_id)
    length = network.leader.replica.replication.last_index
    for node_id in range(100, 200):
        assert network.leader.replica.replication.add_member(node_id, address(node_id)) is Change.FULL
    assert len(network.leader.replica.replication.configuration.members) == MAX_MEMBERS
    assert network.leader.replica.replication.last_index == length
    remove(network, 2)
    network.start_stranger(99)
    add(network, 99)


def test_a_member_moves(network: Network) -> None:
    network.start_stranger(NEW)
    add(network)
    assert network.leader.replica.replication.add_member(NEW, address(9)) is Change.UNDER_WAY
    network.settle()
    assert network.leader.replica.replication.add_member(NEW, address(9)) is Change.DONE
    assert dict(network.nodes[2].replica.replication.configuration.addresses) == {NEW: address(9)}


def test_two_members_that_exchanged_their_addresses_both_move(network: Network) -> None:
    network.start_stranger(NEW)
    add(network)
    network.start_stranger(5)
    add(network, 5)
    members = network.leader.replica.replication
    assert members.add_member(NEW, address(5)) is Change.ADDRESS_TAKEN, "as far as is known, that one is there"
    for _ in range(10):
        changes = {members.add_member(node_id, address(9 - node_id), elsewhere=(NEW, 5)) for node_id in (NEW, 5)}
        network.settle()
    assert changes == {Change.DONE}
    configuration = network.leader.replica.replication.configuration
    assert dict(configuration.addresses) == {NEW: address(5), 5: address(NEW)}
    assert configuration.voters == (1, 2, 3, NEW, 5)


def test_a_member_keeps_its_vote_when_another_that_has_moved_is_at_its_address(network: Network) -> None:
    """Of two that exchanged their addresses, the one that came back a second later than the other was removed, as if
    its disk were lost, and had to catch up as a learner."""
    for node_id in (NEW, 5):
        network.start_stranger(node_id)
        add(network, node_id)
    members = network.leader.replica.replication
    network.cut_off = {5}
    for _ in range(2 * SILENT_VOTER_TIMEOUTS * RAFT.election_ticks):
        members.add_member(NEW, address(5))
        network.tick()
        assert members.configuration.voters == (1, 2, 3, NEW, 5)
    assert dict(members.configuration.addresses) == {NEW: address(5), 5: address(NEW)}, "where it may be, and be seen"
    network.heal()
    assert members.add_member(5, address(NEW)) is Change.DONE


def test_of_two_members_at_one_address_the_one_that_is_silent_loses_it(network: Network) -> None:
    """The log has both there for a moment, when the first one has got the other one's address."""
    for node_id in (NEW, 5):
        network.start_stranger(node_id)
        add(network, node_id)
    members = network.leader.replica.replication
    assert isinstance(members, RaftByQuorum)
    members.propose_configuration(members.configuration.with_address(5, address(NEW)))
    network.settle()
    network.cut_off = {5}
    for _ in range(2 * SILENT_VOTER_TIMEOUTS * RAFT.election_ticks):
        members.add_member(NEW, address(NEW))
        network.tick()
    assert dict(members.configuration.addresses) == {NEW: address(NEW)}
    assert members.configuration.voters == (1, 2, 3, NEW, 5)


def test_a_new_node_gets_a_snapshot_with_the_members() -> None:
    network = Network(ReplicaSettings(snapshot_log_bytes=400, keep_bytes=0))
    client = network.open_session()
    for number in range(1, 40):
        network.leader.take(request(client, number))
        network.settle()
    assert network.leader.replica.replication.first_index > 1
    stranger = network.start_stranger(NEW)
    add(network)
    assert stranger.replica.replication.snapshot is not None
    assert stranger.replica.replication.configuration.voters == (1, 2, 3, NEW)
    network.tick(RAFT.heartbeat_ticks)
    network.assert_agreed()


def test_a_joining_node_takes_no_snapshot_before_it_knows_the_members() -> None:
    """Its log begins with entries from before the one that took it in; a snapshot there would name no member."""
    network = Network(ReplicaSettings(snapshot_log_bytes=1_000_000))
    client = network.open_session()
    for number in range(1, 20):
        network.leader.take(request(client, number))
        network.settle()
    stranger = network.start_stranger(NEW, ReplicaSettings(snapshot_log_bytes=1))
    add(network)
    snapshot = stranger.journal.load().snapshot
    assert snapshot is not None
    assert snapshot.configuration.voters[:3] == (1, 2, 3)


def test_a_leader_that_is_on_its_way_out_does_not_take_itself_in_again() -> None:
    """Its removal is committed, and it has not stepped down yet: as a learner it would have no progress of its own."""
    founders = Configuration((1, 2, 3))
    log = [Entry(1, 2, EntryKind.NO_OP, b""), Entry(2, 2, EntryKind.CONFIGURATION, founders.without(1).encode())]
    raft = RaftByQuorum(
        Start(1, founders, StoredState(HardState(2, 2, 1), None, log), RAFT, random.Random(1)),
    )
    raft.campaign()
    _store(raft)
    for pre_vote in (True, False):
        term = raft.term + pre_vote
        for voter in (2, 3):
            raft.step(RequestVoteResponse(voter, 1, term, True, pre_vote))
        _store(raft)
    assert raft.role is Role.LEADER
    for voter in (2, 3):
        raft.step(AppendEntriesResponse(voter, 1, raft.term, 1, True, raft.last_index, 0, 0))
    assert raft.commit_index == raft.last_index
    assert raft.add_member(1, address(1)) is Change.NOT_LEADER
    raft.tick()
    _store(raft)
    assert raft.role is not Role.LEADER


def _store(raft: RaftByQuorum) -> None:
    while raft.is_ready():
        raft.advance(raft.ready())


def test_a_voter_that_its_new_leader_has_not_heard_yet_keeps_its_place(network: Network) -> None:
    """Another node asks at its address. It lives, and may have moved to a third one."""
    leader, other = network.leader.replica.replication, 2
    leader.add_member(other, address(other))
    network.tick(2)
    network.cut_off = {other}
    network.tick(2 * RAFT.election_ticks)
    leader.add_member(5, address(other))
    network.tick(2)
    assert other in leader.configuration.voters
    network.tick(SILENT_VOTER_TIMEOUTS * RAFT.election_ticks)
    leader.add_member(5, address(other))
    network.tick(2)
    assert other not in leader.configuration.voters
