"""The weak replications, by hand: what each answers, what it loses, and how a node comes back to the others."""

from __future__ import annotations

import pytest

from tests.replica.network import ELECTION_TICKS_MAX, Network, Node, request
from zmqlab.raft import Role
from zmqlab.replica import ReplicaSettings
from zmqlab.replica.broadcast import Broadcast
from zmqlab.replica.leader_answers import LeaderAnswers
from zmqlab.replica.primary_backup import TERMS_A_ROUND, PrimaryBackup

SMALL_SNAPSHOTS = ReplicaSettings(snapshot_log_bytes=300, keep_bytes=0)


def answered(node: Node) -> list[int]:
    """The numbers of the requests that this node has answered."""
    return [response.request_number for response in node.answers]


def take(network: Network, node: Node, client_id: int, *numbers: int) -> None:
    for number in numbers:
        node.take(request(client_id, number))
    network.settle()


def parted(make: type[LeaderAnswers]) -> Network:
    """Node 1 leads, is cut off and answers two requests; another node leads, and has answered a third one."""
    network = Network(make=make)
    client_id = network.open_session()
    network.cut_off = {1}
    take(network, network.nodes[1], client_id, 1, 2)
    take(network, network.elect(), client_id, 3)
    return network


@pytest.mark.parametrize("make", [LeaderAnswers, PrimaryBackup])
def test_a_leader_that_reaches_no_follower_answers_all_the_same(make: type[LeaderAnswers]) -> None:
    network = Network(make=make)
    client_id = network.open_session()
    network.cut_off = {1}
    take(network, network.nodes[1], client_id, 1, 2)
    assert answered(network.nodes[1]) == [1, 2]
    assert network.nodes[2].machine.orders_applied == 0


@pytest.mark.parametrize("make", [LeaderAnswers, PrimaryBackup])
@pytest.mark.parametrize("settings", [ReplicaSettings(), SMALL_SNAPSHOTS], ids=["from the log", "from a snapshot"])
def test_a_leader_that_comes_back_takes_back_what_its_successor_never_heard_of(
    make: type[LeaderAnswers], settings: ReplicaSettings
) -> None:
    network = Network(settings, make)
    client_id = network.open_session()
    take(network, network.nodes[1], client_id, *range(1, 6))
    network.cut_off = {1}
    take(network, network.nodes[1], client_id, 6, 7)
    assert answered(network.nodes[1])[-2:] == [6, 7]
    successor = network.elect()
    take(network, successor, client_id, 8)
    network.heal()
    network.assert_agreed()
    assert network.nodes[1].machine.orders_applied == 6
    assert not network.nodes[1].machine.sessions.is_done(client_id, 6)


@pytest.mark.parametrize("make", [LeaderAnswers, PrimaryBackup])
def test_so_does_one_that_is_started_again(make: type[LeaderAnswers]) -> None:
    network = parted(make)
    network.nodes[1].start()
    network.heal()
    network.assert_agreed()
    assert network.nodes[2].machine.orders_applied == 1


@pytest.mark.parametrize("make", [LeaderAnswers, PrimaryBackup])
def test_what_was_taken_back_stays_so_over_another_start(make: type[LeaderAnswers]) -> None:
    network = parted(make)
    network.heal()
    network.nodes[1].start()
    network.heal()
    network.assert_agreed()


@pytest.mark.parametrize("make", [LeaderAnswers, PrimaryBackup])
def test_the_members_by_what_is_committed_are_known_behind_a_snapshot(make: type[LeaderAnswers]) -> None:
    """A leader that is cut off takes a node in, answers on, makes a snapshot of it all, and is asked for its status."""
    network = Network(SMALL_SNAPSHOTS, make)
    client_id = network.open_session()
    network.cut_off = {1}
    replication = network.nodes[1].replica.replication
    assert isinstance(replication, LeaderAnswers)
    replication.add_member(4, "")
    take(network, network.nodes[1], client_id, *range(1, 16))
    assert replication.snapshot is not None
    assert replication.commit_index < replication.configuration_index <= replication.snapshot.index
    assert replication.members_at(replication.commit_index).members == (1, 2, 3)


class Anything(LeaderAnswers):
    """A rule that knows no bound."""

    __slots__ = ()

    @property
    def early_index(self) -> int:
        return 1 << 60


def test_whatever_the_rule_says_nothing_is_applied_that_is_not_stored() -> None:
    network = Network(make=Anything)
    client_id = network.open_session()
    take(network, network.nodes[1], client_id, 1, 2)
    network.assert_agreed()
    assert answered(network.nodes[1]) == [1, 2]


def test_a_primary_alone_goes_on_and_a_backup_alone_takes_over() -> None:
    network = Network(make=PrimaryBackup)
    client_id = network.open_session()
    network.cut_off = {1, 2}
    network.tick(3 * ELECTION_TICKS_MAX)
    roles = [network.nodes[node_id].replica.replication.role for node_id in (1, 3)]
    assert roles == [Role.LEADER, Role.LEADER]
    take(network, network.nodes[3], client_id, 1)
    assert answered(network.nodes[3]) == [1]


def test_no_two_nodes_take_over_in_one_term() -> None:
    network = Network(make=PrimaryBackup)
    network.cut_off = {1, 2, 3}
    network.tick(3 * ELECTION_TICKS_MAX)
    terms = [node.replica.replication.term for node in network.nodes.values()]
    assert [term % TERMS_A_ROUND for term in terms] == [0, 1, 2]
    network.heal()
    network.assert_agreed()


def test_a_primary_hands_over_when_it_is_asked_to() -> None:
    network = Network(make=PrimaryBackup)
    assert network.nodes[1].replica.replication.hand_over(2)
    network.settle()
    assert network.leader is network.nodes[2]


def test_broadcast_nodes_agree_as_long_as_one_of_them_takes_all() -> None:
    network = Network(make=Broadcast)
    client_id = network.open_session()
    take(network, network.nodes[1], client_id, 1, 2, 3)
    network.assert_agreed()
    assert answered(network.nodes[1]) == [1, 2, 3]


def test_broadcast_nodes_part_when_two_take_something_at_once() -> None:
    network = Network(make=Broadcast)
    client_id = network.open_session()
    network.nodes[1].take(request(client_id, 1))
    network.nodes[2].take(request(client_id, 2))
    network.settle()
    chains = {node.machine.chain for node in network.nodes.values()}
    assert len(chains) > 1
    assert {node.machine.applied_index for node in network.nodes.values()} == {4}


def test_a_whole_state_brings_a_broadcast_node_back_that_missed_something() -> None:
    network = Network(SMALL_SNAPSHOTS, Broadcast)
    client_id = network.open_session()
    network.cut_off = {3}
    take(network, network.nodes[1], client_id, 1)
    network.cut_off = set()
    for number in range(2, 8):  # until a snapshot is due
        take(network, network.nodes[1], client_id, number)
    assert network.nodes[3].machine.sessions.is_done(client_id, 1)
    network.assert_agreed()
