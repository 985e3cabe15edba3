"""Nodes of a cluster with shards come back at other addresses: each keeps its place, and takes no other one's."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest

from tests.engine.shard_cluster import (
    SHARDS,
    ShardCluster,
    endpoint,
    founded,
    grown,
    identities,
    with_founders_that_wait,
)
from zmqlab.engine.answers import Answers
from zmqlab.engine.following import Following
from zmqlab.placement import Roster
from zmqlab.raft import Configuration, Role
from zmqlab.replica import Change, MemoryJournal, RaftByQuorum
from zmqlab.wire import control
from zmqlab.wire.peer import Hello

MOVED = 9


def moved(cluster: ShardCluster, number: int, place: int, **fields: Any) -> None:
    """A node is started again, at the place of another number."""
    driven = cluster.running.pop(number)
    fields = {key: getattr(driven.settings, key) for key in ("peers", "join")} | fields
    cluster.journals[place] = cluster.journals.pop(number)
    cluster.start(place, **fields)


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize("copies", [2, 3])
def test_a_node_at_another_address_keeps_its_place(number: int, copies: int) -> None:
    """Founders, also the leader of group 0, and one that has joined."""
    cluster = grown(copies)
    held, nodes = set(cluster.groups(number)), set(cluster.roster().nodes)
    moved(cluster, number, MOVED)
    cluster.step_until(lambda: endpoint(MOVED) in cluster.roster().nodes and cluster.is_placed())
    assert set(cluster.groups(MOVED)) == held
    assert set(cluster.roster().nodes) == nodes - {endpoint(number)} | {endpoint(MOVED)}


def test_a_node_that_moves_when_those_that_it_named_have_left_keeps_its_place() -> None:
    """It asked them alone, for ever, although it knew others."""
    cluster = ShardCluster(3, 6, 1)
    cluster.step(60)
    for number, seeds in ((3, None), (4, [2])):
        cluster.join(number, seeds=seeds)
        cluster.step_until(lambda version=number - 2: cluster.roster().version == version and cluster.is_placed())
    cluster.dismiss(2)
    cluster.step_until(lambda: cluster.roster().version == 3 and cluster.is_placed())
    cluster.stop(2)
    assert 0 not in cluster.groups(4), "a member of group 0 asks its leader in any case"
    moved(cluster, 4, MOVED)
    cluster.step_until(lambda: endpoint(MOVED) in cluster.roster().nodes and cluster.is_placed())


def test_founders_follow_one_that_decided_alone_and_is_at_another_address() -> None:
    """Seed 60000755: the others had not got its last word, and waited for it where it was."""
    cluster = ShardCluster(3, SHARDS, 3)
    late = with_founders_that_wait(cluster)
    assert [bool(cluster.groups(number)) for number in range(3)] == [False, False, True]
    for start in late:
        del start._decide
    moved(cluster, 2, MOVED)
    cluster.step_until(lambda: endpoint(MOVED) in cluster.roster().nodes and cluster.is_placed())


def test_a_founder_that_was_away_finds_the_others_where_the_roster_has_them() -> None:
    """The others founded with it while it died, and were started again at other addresses. It asked for them where they
    had been, and did not listen to them."""
    cluster = ShardCluster(3, SHARDS, 3)
    late: Any = cluster.running[0].engine._first_start
    late._decide = lambda founders: None
    cluster.step(60)
    assert [bool(cluster.groups(number)) for number in range(3)] == [False, True, True]
    cluster.stop(0)
    for number in (1, 2):
        moved(cluster, number, MOVED + number)
        cluster.step_until(lambda version=number: cluster.roster().version == version)
        cluster.step(100)  # the groups note it, too
    cluster.start(0)
    cluster.step_until(cluster.is_placed)
    assert len(cluster.roster().nodes) == 3


def test_two_nodes_that_exchange_their_addresses_keep_their_places() -> None:
    cluster = grown(2)
    held = {number: set(cluster.groups(number)) for number in (2, 4)}
    joined = cluster.running[4].settings.join
    del cluster.running[4]
    journal = cluster.journals.pop(4)
    moved(cluster, 2, 4)
    cluster.journals[2] = journal
    cluster.start(2, peers=(), join=tuple(each for each in joined if each != endpoint(2)))
    for _ in range(200):
        cluster.step()
        assert set(cluster.groups(2)) == held[4], "it opens no replica of the other one's groups meanwhile"
        assert set(cluster.groups(4)) == held[2]
    cluster.step_until(cluster.is_placed)
    assert len(cluster.roster().nodes) == 5


def of_roster(cluster: ShardCluster) -> Following:
    """By what the leader of group 0 decides who comes and goes."""
    leader = cluster.leader(0)
    assert leader is not None
    following = cluster.groups(leader)[0].following
    assert following is not None
    return following


def test_the_node_that_leaves_is_the_one_that_is_named_and_not_the_one_whose_place_is_there() -> None:
    """Seeds 60000278 and 60001178: two nodes had exchanged their addresses, and one of them was taken out before the
    roster followed. The other one's place went, and that node asked for no other."""
    cluster = grown()
    leaver, other = identities(cluster, 3, 4)
    following = of_roster(cluster)
    assert following.release(leaver, endpoint(4)) is Change.UNDER_WAY
    assert following.admit(leaver, endpoint(4)) is Change.ADDRESS_TAKEN, "by the log, which is not committed"
    cluster.step_until(lambda: leaver not in cluster.roster().ids and cluster.is_placed())
    assert cluster.roster().address_of(other) == endpoint(4)
    following = of_roster(cluster)
    expect_out(following, leaver, endpoint(4))
    assert following.admit(other, endpoint(3)) is not Change.ADDRESS_TAKEN, "the other one has really moved"


def expect_out(following: Following, leaver: int, address: str) -> None:
    """What a node that was let go, and is where another one has its place, and late questions for it, come to."""
    for late in range(2):
        assert following.release(leaver, address) is Change.DONE, f"late question {late}"
    assert following.admit(leaver, address) is Change.ADDRESS_TAKEN


def test_nodes_that_are_started_again_know_who_was_let_go() -> None:
    """They knew the founders and the newest version, and so no node that had come and gone in between. A person's
    question, asked again, took out the other node, whose place is at the address; a question of the one that was let go
    gave it that place."""
    cluster = grown()
    leaver, other = identities(cluster, 3, 4)
    assert of_roster(cluster).release(leaver, endpoint(4)) is Change.UNDER_WAY
    cluster.step_until(lambda: leaver not in cluster.roster().ids and cluster.is_placed())
    cluster.stop(3)
    for number in list(cluster.running):
        started_again(cluster, number)
    cluster.step_until(lambda: None not in cluster.leaders() and cluster.roster().version == 3)
    expect_out(of_roster(cluster), leaver, endpoint(4))
    assert cluster.roster().address_of(other) == endpoint(4)


def started_again(cluster: ShardCluster, number: int) -> None:
    """A node ends, and is started by the same command."""
    settings = cluster.running.pop(number).settings
    cluster.start(number, peers=settings.peers, join=settings.join)


def test_a_node_that_moves_finds_nodes_that_have_moved_before() -> None:
    """It had been told where they are, and knew only where they were at the founding when it was started again. No two
    of these share a group."""
    cluster = ShardCluster(3, 3, 1)
    cluster.step(60)
    for number in range(3):
        moved(cluster, number, MOVED + number)
        cluster.step_until(lambda version=number + 1: cluster.roster().version == version and cluster.is_placed())
    moved(cluster, MOVED + 1, 3)
    cluster.step_until(lambda: endpoint(3) in cluster.roster().nodes and cluster.is_placed())


def test_a_founder_that_was_let_go_stays_out_when_it_is_started_elsewhere() -> None:
    """It took itself for one that has moved, as it knew the roster of the founders again, and was taken in."""
    cluster = founded()
    cluster.dismiss(1)
    cluster.step_until(lambda: endpoint(1) not in cluster.roster().nodes and cluster.is_placed())
    moved(cluster, 1, MOVED)
    cluster.step(200)
    assert cluster.roster().version == 1
    assert cluster.groups(MOVED) == {}


def test_two_nodes_exchange_their_addresses_and_one_of_them_is_taken_out_at_once() -> None:
    cluster = grown(2)
    leaver, other = identities(cluster, 2, 4)
    joined = cluster.running.pop(4).settings.join
    journal = cluster.journals.pop(4)
    moved(cluster, 2, 4)
    cluster.journals[2] = journal
    cluster.start(2, peers=(), join=tuple(each for each in joined if each != endpoint(2)))
    for _ in range(60):
        cluster.dismiss(4, leaver)
        cluster.step()
    cluster.step_until(lambda: cluster.roster().address_of(other) == endpoint(2) and cluster.is_placed())
    assert cluster.groups(4) == {}
    assert len(cluster.roster().nodes) == 4


def test_two_nodes_exchange_their_addresses_and_one_of_them_loses_its_disk_meanwhile() -> None:
    """The new node comes first, where the roster has the other one still, and has that one's place. So that one must
    not count as let go: it gets the place of the lost one, and no person has to take a dead place out."""
    cluster = grown()
    one, other = (each for each in range(5) if 0 not in cluster.groups(each))
    (moving,) = identities(cluster, other)
    cluster.stop(one)
    cluster.stop(other)
    journal = cluster.journals.pop(other)
    cluster.join(other, MemoryJournal())
    new = cluster.running[other].engine._first_start.own_id  # type: ignore[union-attr]
    cluster.step_until(lambda: cluster.roster().address_of(new) == endpoint(other))
    cluster.join(one, journal)
    cluster.step_until(lambda: cluster.roster().address_of(moving) == endpoint(one) and cluster.is_placed())
    assert len(cluster.roster().nodes) == 5


X, Y, Z = 7, 8, 9
"""X and Y have exchanged their addresses; Z leads a group of all three."""


def exchanged(voters: tuple[int, ...], learners: tuple[int, ...]) -> tuple[Following, list[int]]:
    """Of Z, which leads a group of X and Z. The roster has followed the exchange, and the group's log has not. In the
    list are members that it lets go."""
    places = {endpoint(number): node_id for number, node_id in enumerate((X, Y, Z))}
    roster = Roster.of_founders(list(places), 3, 2, places).moved(X, endpoint(1))
    group = next(number for number in range(3) if endpoint(0) not in roster.groups[number])
    gone: list[int] = []
    followers = {each: SimpleNamespace(acked_round=1, heard_at=100) for each in (X, Y)}
    configuration = Configuration(voters, learners, tuple((each, at) for at, each in places.items()))
    replication: Any = SimpleNamespace(node_id=Z, role=Role.LEADER, followers=followers, remove_member=gone.append)
    replication.ticks, replication.election_ticks = 100, 20
    replication.configuration, replication.configuration_index, replication.commit_index = configuration, 9, 9
    placing: Any = SimpleNamespace(
        roster=roster, places_in=roster.groups.__getitem__, note_awaited=lambda *_: None, copies=2
    )
    return Following(group, placing, replication), gone


def test_a_member_that_has_moved_is_wanted_where_its_place_is() -> None:
    """It went by the address in the group's log, where the roster has another node by then: a learner was let go, and
    began anew."""
    following, gone = exchanged(voters=(Z,), learners=(X,))
    following.tick()
    assert gone == []
    assert following.release(X, "") is Change.PLACED
    following, gone = exchanged(voters=(X, Z), learners=())
    assert following.preferred_member == (X if following.preferred == endpoint(1) else Z)


def test_a_member_is_let_go_whose_place_is_elsewhere_though_its_address_is_wanted() -> None:
    """The other one stood, by the group's log, where X is now: it was taken for the member that is wanted there."""
    following, gone = exchanged(voters=(X, Y, Z), learners=())
    for _ in range(5):
        following.tick()
        following._replication.ticks += 20  # type: ignore[misc]
        for progress in following._replication.followers.values():
            progress.heard_at += 20
    assert set(gone) == {Y}


def test_a_member_is_let_go_that_the_roster_does_not_know_and_whose_address_is_another_ones_place() -> None:
    """X moved to where Y was, and lost its disk: the group's log had both at that place, and both were wanted (found by
    ``zmqlab.sim``, seed 77001869 with shards)."""
    lost = 4
    following, gone = exchanged(voters=(X, lost, Z), learners=())
    replication: Any = following._replication
    replication.configuration = Configuration(
        (X, lost, Z), (), ((X, endpoint(1)), (lost, endpoint(1)), (Z, endpoint(2)))
    )
    for _ in range(5):
        following.tick()
        replication.ticks += 20
        for progress in replication.followers.values():
            progress.heard_at += 20
    assert set(gone) == {lost}


def test_a_member_that_the_roster_has_elsewhere_is_in_no_newcomers_way() -> None:
    """A version of the roster had given the group to X and not to Y before the two exchanged their addresses. Y, by the
    group's log where X is now, was removed as lost before X had caught up."""
    following, _ = exchanged(voters=(Y, Z), learners=())
    replication: Any = following._replication

    def add_member(node_id: int, address: str, elsewhere: Collection[int]) -> Change:
        asked.append((node_id, address, set(elsewhere)))
        return Change.UNDER_WAY

    replication.add_member = add_member
    peers: Any = SimpleNamespace(elsewhere=frozenset({Z}), note_address=lambda *_: None)
    replica: Any = SimpleNamespace(replication=replication)
    asked: list[Any] = []
    unused: Any = None
    answers = Answers(replica, peers, unused, unused, None, following=following)
    answers.handle(control.AddMemberQuery(1, X, endpoint(1)), lambda answer: None)
    assert asked == [(X, endpoint(1), {Y, Z})], "Z says itself that it is"


def test_a_node_is_not_taken_in_where_its_place_is_not() -> None:
    """X was at Y's address, and a group of Y took it in, before the roster followed the exchange."""
    following, _ = exchanged(voters=(Z,), learners=())
    assert following.admit(X, endpoint(0)) is Change.UNDER_WAY
    assert following.admit(X, endpoint(1)) is None
    assert following.admit(Y, endpoint(1)) is Change.UNDER_WAY, "it is not heard yet that it has moved"
    assert following.admit(99, endpoint(1)) is None, "one that has lost its disk"


def test_a_node_that_was_let_go_does_not_take_the_place_that_another_has_at_its_address() -> None:
    """It took itself for a node that has lost its disk, and the other one for the node that it was before."""
    cluster = grown()
    leaver, other = identities(cluster, 3, 4)
    placing = cluster.running[3].engine.hosting.placing  # type: ignore[union-attr]
    placing.learn(placing.roster.without_node(endpoint(3), 3).moved(other, endpoint(3)))
    assert placing.node_id == leaver
    assert placing.wanted == ()
    assert placing.place == ""
    assert not placing.is_misplaced


def test_a_member_that_has_lost_its_address_and_is_not_wanted_any_more_is_let_go() -> None:
    """It was left alone for ever: it does not say where it is, as the roster has it in other groups alone."""
    cluster = grown()
    own_id, group = cluster.running[4].engine.hosting.placing.node_id, min(cluster.groups(4))  # type: ignore[union-attr]
    cluster.stop(4)
    leader = leading(cluster, group)
    leader.propose_configuration(leader.configuration.with_address(own_id, ""))
    cluster.step(60)
    cluster.dismiss(4)
    cluster.step_until(cluster.is_placed)
    cluster.step_until(lambda: own_id not in leading(cluster, group).configuration.members)


def leading(cluster: ShardCluster, group: int) -> RaftByQuorum:
    cluster.step_until(lambda: cluster.leader(group) is not None)
    number = cluster.leader(group)
    assert number is not None
    replication = cluster.groups(number)[group].replica.replication
    assert isinstance(replication, RaftByQuorum)
    return replication


def test_a_node_that_leaves_before_the_roster_has_followed_it_takes_its_place_out() -> None:
    """It looked for its new address in the roster, and took itself for gone."""
    cluster = founded()
    cluster.join(3, leave=True, drain_ms=60_000)
    cluster.step_until(lambda: cluster.roster().version == 1 and cluster.is_placed())
    moved(cluster, 3, MOVED, leave=True, drain_ms=60_000)
    leaving = cluster.running[MOVED]
    cluster.terminate(MOVED)
    cluster.step_until(lambda: leaving.engine.is_over)
    cluster.stop(MOVED)
    assert cluster.roster().nodes == tuple(endpoint(number) for number in range(3))


def test_a_node_that_lost_its_disk_and_moves_later_keeps_its_place() -> None:
    cluster = grown()
    cluster.stop(4)
    cluster.join(4, MemoryJournal())
    own_id = cluster.running[4].engine._first_start.own_id  # type: ignore[union-attr]
    cluster.step_until(lambda: cluster.roster().address_of(own_id) == endpoint(4) and cluster.is_placed())
    moved(cluster, 4, MOVED)
    cluster.step_until(lambda: endpoint(MOVED) in cluster.roster().nodes and cluster.is_placed())
    assert len(cluster.roster().nodes) == 5


def test_members_are_looked_for_where_the_roster_has_them() -> None:
    """All members of a group moved at once: none was where its log said, and each had the address of no other."""
    cluster = founded()
    hosting = cluster.running[0].engine.hosting
    other = cluster.running[1].engine.hosting
    assert hosting is not None
    assert other is not None
    own_id = other.placing.node_id
    hosting.placing.learn(hosting.placing.roster.moved(own_id, endpoint(MOVED)))
    cluster.step()
    for group in cluster.groups(0).values():
        assert group.peers._routes[own_id] == (endpoint(1), endpoint(MOVED))


def test_a_node_that_has_moved_since_it_introduced_itself_to_a_group_is_looked_for_at_its_old_address_no_more() -> None:
    """It is no member there and says nothing more to that group: each kept a connection to where no node was (found by
    ``zmqlab.sim``, seed 76001543 with shards)."""
    cluster = grown(copies=2)
    group = next(number for number in range(SHARDS) if number not in cluster.groups(4))
    holders = [number for number in range(4) if group in cluster.groups(number)]
    (guest,) = identities(cluster, 4)
    for holder, own_id in zip(holders, identities(cluster, *holders), strict=True):
        cluster.groups(holder)[group].peers.take_hello(Hello(guest, own_id, endpoint(4), "node4"))
    assert all(endpoint(4) in cluster.running[each].effects.connected for each in holders)
    moved(cluster, 4, MOVED)
    cluster.step_until(lambda: endpoint(MOVED) in cluster.roster().nodes and cluster.is_placed())
    cluster.step(20)
    assert not any(endpoint(4) in cluster.running[each].effects.connected for each in holders)
