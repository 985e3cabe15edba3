"""Nodes come to a cluster with shards and leave it: the roster says where replicas go, and each group follows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.engine.fake_effects import Driven, FakeEffects
from tests.engine.shard_cluster import (
    SHARDS,
    ShardCluster,
    endpoint,
    founded,
    grown,
    identities,
    status_of,
    with_founders_that_wait,
)
from zmqlab.engine.answers import Answers
from zmqlab.engine.following import Following
from zmqlab.engine.group_founding import AssemblyOfShards, JoiningCluster
from zmqlab.engine.status import early_status
from zmqlab.placement import PARTING_MAX, Gone, Roster
from zmqlab.raft import Configuration
from zmqlab.replica import Change, MemoryJournal, ReplicaSettings
from zmqlab.settings import NodeSettings
from zmqlab.wire import control, frames


def test_nodes_that_come_are_given_replicas_and_the_others_have_fewer() -> None:
    cluster = grown()
    held = [len(cluster.groups(number)) for number in range(5)]
    assert sum(held) == 3 * SHARDS
    assert max(held) - min(held) <= 1
    assert len(cluster.roster().nodes) == 5


def test_where_all_nodes_hold_all_groups_one_that_comes_holds_them_too() -> None:
    cluster = grown(copies=0)
    assert all(set(cluster.groups(number)) == set(range(SHARDS)) for number in range(5))
    assert all(len(cluster.voters(group)) == 5 for group in range(SHARDS))


def test_a_node_that_is_dismissed_hands_its_replicas_over_and_holds_nothing() -> None:
    cluster = grown()
    for number in (4, 3):
        cluster.dismiss(number)
        cluster.step_until(lambda gone=number: endpoint(gone) not in cluster.roster().nodes and cluster.is_placed())
        assert not cluster.groups(number)
    assert all(set(cluster.groups(number)) == set(range(SHARDS)) for number in range(3))


def test_a_node_that_leaves_by_a_signal_is_out_of_all_groups_when_it_ends() -> None:
    cluster = founded()
    cluster.join(3, leave=True, drain_ms=60_000)
    cluster.step_until(lambda: cluster.roster().version == 1 and cluster.is_placed())
    leaving = cluster.running[3]
    cluster.terminate(3)
    cluster.step_until(lambda: leaving.engine.is_over)
    cluster.stop(3)
    assert endpoint(3) not in cluster.roster().nodes
    assert cluster.is_placed()


def test_a_node_that_left_comes_back_as_the_same_member_with_its_journals() -> None:
    cluster = grown()
    own_id = cluster.running[4].engine.hosting.placing.node_id  # type: ignore[union-attr]
    cluster.dismiss(4)
    cluster.step_until(lambda: endpoint(4) not in cluster.roster().nodes and cluster.is_placed())
    cluster.stop(4)
    cluster.join(4)
    cluster.step_until(lambda: endpoint(4) in cluster.roster().nodes and cluster.is_placed())
    for group in cluster.groups(4).values():
        assert group.replica.replication.node_id == own_id
        assert own_id in group.replica.replication.configuration.voters


def test_a_node_that_was_dismissed_while_it_was_away_asks_again_when_it_is_back() -> None:
    cluster = grown()
    cluster.stop(4)
    cluster.dismiss(4)
    cluster.step_until(lambda: endpoint(4) not in cluster.roster().nodes and cluster.is_placed())
    cluster.join(4)
    cluster.step_until(lambda: endpoint(4) in cluster.roster().nodes and cluster.is_placed())


def test_a_node_that_lost_its_disk_takes_its_own_place_and_no_other_replica_moves() -> None:
    cluster = grown()
    held, roster = set(cluster.groups(4)), cluster.roster()
    cluster.stop(4)
    cluster.join(4, MemoryJournal())
    cluster.step_until(lambda: set(cluster.groups(4)) == held and cluster.is_placed())
    own_id = cluster.running[4].engine.hosting.placing.node_id  # type: ignore[union-attr]
    cluster.step_until(lambda: all(votes(cluster, group, own_id) for group in held))
    cluster.step_until(lambda: cluster.roster().address_of(own_id) == endpoint(4))
    assert cluster.roster()[1:4] == roster[1:4], "but for its identity"


def votes(cluster: ShardCluster, group: int, node_id: int) -> bool:
    leader = cluster.leader(group)
    return leader is not None and node_id in cluster.groups(leader)[group].replica.replication.configuration.voters


def test_no_more_nodes_come_than_there_are_copies_to_hold() -> None:
    cluster = founded(copies=1)
    cluster.join(3)
    cluster.step_until(lambda: cluster.roster().version == 1 and cluster.is_placed())
    one_too_many = cluster.join(4)
    cluster.step(200)
    assert cluster.roster().version == 1
    assert not one_too_many.engine.groups
    assert any("too few copies for one more node" in note for note in one_too_many.effects.notes)


def test_the_last_node_is_not_dismissed() -> None:
    cluster = founded(copies=0)
    for number in (2, 1):
        cluster.dismiss(number)
        cluster.step_until(lambda gone=number: endpoint(gone) not in cluster.roster().nodes and cluster.is_placed())
    (answer,) = [
        each for each in cluster.dismiss(0) if isinstance(each, control.ErrorAnswer) and each.code == "refused"
    ]
    assert "last voter" in answer.message
    assert cluster.is_placed()


def test_a_replica_stays_open_until_its_group_has_let_it_go() -> None:
    """The new member can't be reached, so that it never votes: the old one must stay."""
    cluster = grown()
    before = {group: cluster.voters(group) for group in range(SHARDS)}
    cluster.running[3].effects.send = lambda address, frame: None  # type: ignore[method-assign]
    cluster.running[3].effects.publish = lambda frame: None  # type: ignore[method-assign]
    cluster.step(100)
    cluster.dismiss(4)
    cluster.step(400)
    assert endpoint(4) not in cluster.roster().nodes
    for group in range(SHARDS):
        if endpoint(3) in cluster.roster().groups[group] and endpoint(3) not in before[group]:
            assert group in cluster.groups(4)


@pytest.mark.parametrize("seed", range(4))
def test_a_node_that_was_told_of_one_node_alone_gets_into_all_its_groups(seed: int) -> None:
    """That node may hold none of them: it asked on there for ever, and its log named no other."""
    cluster = ShardCluster(4, 4, 2)
    cluster.step(60)
    cluster.join(4, seeds=[seed])
    cluster.step_until(lambda: cluster.roster().version == 1 and cluster.is_placed())


def test_a_founder_that_was_away_while_a_group_went_and_came_back_is_a_member_again() -> None:
    """It was given no nodes to ask, and so it never asked to be taken in again."""
    cluster = ShardCluster(4, 4, 3)
    cluster.step(60)
    held = set(cluster.groups(0))
    cluster.stop(0)
    cluster.step(100)
    cluster.join(4)
    gone = held - set(
        Roster.of_founders([endpoint(each) for each in range(4)], 4, 3).with_node(endpoint(4), 3).held_by(endpoint(0))
    )
    assert gone
    cluster.step_until(
        lambda: all(cluster.leader(each) is not None and endpoint(0) not in cluster.voters(each) for each in gone)
    )
    cluster.dismiss(4)
    cluster.step_until(lambda: cluster.roster().version == 2)
    assert gone & set(cluster.roster().held_by(endpoint(0)))
    cluster.start(0)
    cluster.step_until(cluster.is_placed)


def test_a_node_that_was_away_while_a_group_went_closes_its_replica() -> None:
    """It asked the group for ever to be taken in again, and so it never asked whether it was let go."""
    cluster = ShardCluster(3, 8, 3)
    cluster.step(60)
    cluster.join(3)
    cluster.step_until(lambda: cluster.roster().version == 1 and cluster.is_placed())
    held = set(cluster.groups(3))
    cluster.stop(3)
    cluster.step(100)
    cluster.join(4)
    cluster.step_until(lambda: cluster.roster().version == 2)
    gone = held - set(cluster.roster().held_by(endpoint(3)))
    assert gone
    cluster.step_until(
        lambda: any(cluster.leader(each) is not None and endpoint(3) not in cluster.voters(each) for each in gone)
    )
    cluster.join(3)
    cluster.step_until(cluster.is_placed)


def with_a_voter_too_many() -> tuple[ShardCluster, int]:
    """A fourth node has come, and votes in a group that has not let its old member go yet."""
    cluster = founded()
    cluster.join(3)
    for _ in range(3_000):
        cluster.step()
        for group in range(SHARDS):
            if cluster.leader(group) is not None and len(cluster.voters(group)) > 3:
                return cluster, group
    raise AssertionError("no group has four voters at any time")


def test_a_member_stays_while_the_one_in_its_place_is_silent_and_goes_when_that_is_back() -> None:
    """A voter that died right after it was promoted counted as there."""
    cluster, group = with_a_voter_too_many()
    before = cluster.voters(group)
    cluster.stop(3)
    cluster.step(1_000)
    assert cluster.voters(group) == before
    cluster.join(3)
    cluster.step_until(cluster.is_placed)


def test_a_leader_says_for_whom_its_group_waits_and_what_to_do() -> None:
    cluster, group = with_a_voter_too_many()
    cluster.stop(3)
    cluster.step(200)
    leader = cluster.leader(group)
    assert leader is not None
    assert cluster.groups(leader)[group].brief().awaited == [], "it has not been silent for long"
    cluster.step(800)
    leader = cluster.leader(group)
    assert leader is not None
    assert cluster.groups(leader)[group].brief().awaited == [endpoint(3)]
    said = [note for note in cluster.running[leader].effects.notes if f"group {group} keeps its old members" in note]
    assert len(said) == 1
    assert "zmqlab remove" in said[0]
    cluster.dismiss(3)
    cluster.step_until(cluster.is_placed)
    assert not any(brief.awaited for each in cluster.running.values() for brief in each.engine._briefs())


def test_the_bounds_of_a_node_are_shared_by_the_groups_that_it_holds_now() -> None:
    """A node to which groups came while it ran held more than one bound."""
    cluster = grown()
    for number in (4, 3):
        cluster.dismiss(number)
        cluster.step_until(lambda gone=number: endpoint(gone) not in cluster.roster().nodes and cluster.is_placed())
    whole = ReplicaSettings()
    for number in range(3):
        limits = [group.replica.settings for group in cluster.groups(number).values()]
        assert {each.max_pending_bytes for each in limits} == {whole.max_pending_bytes // SHARDS}
        assert {each.keep_bytes for each in limits} == {whole.keep_bytes // SHARDS}
        log_bytes = {group.replica._snapshotting.settings.log_bytes for group in cluster.groups(number).values()}
        assert log_bytes == {each.snapshot_log_bytes for each in limits}


def test_a_node_that_was_away_while_many_left_learns_that_it_is_out() -> None:
    """The last four that left are told; it was the first of six, and no node of its log is in its groups any more."""
    cluster = founded()
    for number in range(3, 8):
        cluster.join(number)
        cluster.step_until(lambda version=number - 2: cluster.roster().version == version and cluster.is_placed())
    cluster.stop(0)
    for number in (0, 3, 4, 5, 6, 7):
        cluster.dismiss(number)
        cluster.step_until(lambda gone=number: endpoint(gone) not in cluster.roster().nodes)
        cluster.step_until(cluster.is_placed)
    assert endpoint(0) not in cluster.roster().places
    cluster.start(0)
    cluster.step_until(lambda: not cluster.groups(0))


def test_a_node_that_was_let_go_asks_a_leader_that_came_after_it_was_away() -> None:
    """It asked the members that its log knew, and only the leader's word counts: it campaigned for ever."""
    cluster = ShardCluster(3, SHARDS, 0)
    cluster.step(60)
    cluster.stop(0)
    for number in (3, 4):
        cluster.join(number)
        cluster.step_until(lambda version=number - 2: cluster.roster().version == version)
    cluster.dismiss(0)
    cluster.step_until(lambda: cluster.is_placed() and any(leader in (3, 4) for leader in cluster.leaders()))
    cluster.start(0)
    cluster.step_until(lambda: not cluster.groups(0))


def test_a_node_that_left_and_has_not_heard_so_is_taken_in_again() -> None:
    """Another node, or its own log, told an older version: it believed that it was in, and stayed outside."""
    cluster = ShardCluster(4, 4, 2)
    cluster.step(60)
    cluster.join(4)
    cluster.step_until(lambda: cluster.roster().version == 1 and cluster.is_placed())
    before = cluster.roster()
    assert 0 not in cluster.groups(4), "a member of group 0 asks its leader in any case"
    cluster.stop(4)
    cluster.dismiss(4)
    cluster.step_until(lambda: cluster.roster().version == 2)
    hosting = cluster.join(4).engine.hosting
    assert hosting is not None
    hosting.placing.learn(before)
    cluster.step_until(lambda: cluster.roster().version == 3 and cluster.is_placed())


def test_a_node_whose_only_seed_ended_before_it_said_so_is_told_by_the_others_that_it_is_in() -> None:
    """It asked the seed alone, for ever, while the roster had it and its groups waited for it."""
    cluster = founded()
    seed = cluster.leader(0)
    assert seed is not None
    coming: Any = cluster.join(3, seeds=[seed]).engine
    coming.on_answer = lambda address, frame: None
    cluster.step_until(lambda: cluster.roster().version == 1)
    cluster.step(60)
    assert not coming.groups
    del coming.on_answer
    cluster.stop(seed)
    cluster.step_until(lambda: set(coming.groups) == set(cluster.roster().held_by(endpoint(3))))


def test_a_node_comes_while_the_leader_that_takes_it_in_is_let_go_itself() -> None:
    """The leader of group 0 stays until the newcomer votes there. The newcomer asked it no more whether it is in, as
    the roster was without it, and no other node says so (found by ``zmqlab.sim``, seed 71002824 with shards)."""
    cluster = founded(copies=0)
    leaving = cluster.leader(0)
    assert leaving is not None
    cluster.dismiss(leaving)
    coming: Any = cluster.join(3, seeds=[number for number in range(3) if number != leaving]).engine
    cluster.step_until(lambda: cluster.roster().version == 2 and cluster.is_placed())
    assert set(coming.groups) == set(range(SHARDS))


def test_a_node_that_was_let_go_as_it_came_is_refused_by_the_next_leader_too() -> None:
    """Only the leader that a person had asked knew that it was let go. It asked on, and the next leader took it in."""
    cluster = founded(copies=0)
    coming: Any = cluster.join(3).engine
    coming.on_answer = lambda address, frame: None
    cluster.step_until(lambda: cluster.roster().version == 1)
    cluster.dismiss(3)
    cluster.step_until(lambda: cluster.roster().version == 2)
    leader = cluster.leader(0)
    assert leader is not None
    cluster.stop(leader)
    cluster.step_until(lambda: cluster.leader(0) not in (None, leader))
    cluster.step(60)
    assert cluster.roster().version == 2
    cluster.running.pop(3)
    cluster.join(3)
    cluster.step_until(lambda: cluster.roster().version == 3)


def let_go_by_its_former_life(copies: int = 3, down: Sequence[int] = ()) -> tuple[ShardCluster, int]:
    """Node 4 was asked to end with ``--leave``, and its process died before it was out. It has been started again and
    was told that it is in; it was paused, and what it had asked for was committed meanwhile. The nodes ``down`` are
    away since. The cluster, and the node's identity."""
    cluster = grown(copies)
    (leaver,) = identities(cluster, 4)
    life = cluster.journals[4].life
    cluster.stop(4)
    hosting: Any = cluster.join(4).engine.hosting
    cluster.step_until(lambda: hosting._joining is None)
    leader = cluster.leader(0)
    assert leader is not None
    following = cluster.groups(leader)[0].following
    assert following is not None
    assert following.release(leaver, endpoint(4), life) is Change.UNDER_WAY
    paused = cluster.running.pop(4)
    for number in down:
        cluster.stop(number)
    cluster.step_until(lambda: cluster.roster().version == 3)
    assert cluster.roster().left == (Gone(leaver, life),)
    cluster.running[4] = paused
    return cluster, leaver


def test_a_node_that_was_let_go_because_its_former_life_asked_for_it_comes_back() -> None:
    """It stayed outside, and asked no more (found by ``zmqlab.sim``, seed 76000120 with shards)."""
    cluster, leaver = let_go_by_its_former_life()
    cluster.step_until(lambda: cluster.roster().version == 4 and cluster.is_placed())
    assert cluster.roster().address_of(leaver) == endpoint(4)
    assert not cluster.roster().left


def test_a_node_that_is_still_a_member_of_group_0_gets_its_place_back_though_another_one_is_down() -> None:
    """Group 0 lets it go when all others answer. Until then its leader said that it is in, and one was dead."""
    cluster, leaver = let_go_by_its_former_life(
        copies=0, down=[next(each for each in (1, 2) if each != grown().leader(0))]
    )
    cluster.step_until(lambda: cluster.roster().address_of(leaver) == endpoint(4))


def test_a_node_that_a_person_removes_before_it_is_back_stays_outside() -> None:
    """What its former life had asked for was done, so the person heard that it is out, and it came back."""
    cluster, leaver = let_go_by_its_former_life()
    cluster.dismiss(4, leaver)
    cluster.step_until(lambda: cluster.roster().version == 4)
    assert cluster.roster().left == (Gone(leaver),)
    cluster.step(60)
    assert cluster.roster().version == 4


@pytest.mark.parametrize("life", [-1, 1 << 63])
def test_a_life_that_no_node_has_is_refused(life: int) -> None:
    """The roster would have had it, and no node could have read that."""
    cluster = grown()
    leader = cluster.leader(0)
    assert leader is not None
    (leaver,) = identities(cluster, 4)
    for query in (
        control.RemoveMemberQuery(9, leaver, life, endpoint(4)),
        control.AddMemberQuery(9, 99, endpoint(9), life=life),
    ):
        (answer,) = cluster.ask(leader, control.encode(frames.QUERY, query))
        assert getattr(control.decode_answer(answer), "code", None) == control.ErrorCode.BAD_QUERY
    cluster.step(10)
    assert cluster.roster().version == 2


def test_a_late_question_of_the_life_in_which_a_node_left_does_not_take_it_in() -> None:
    """The roster tells it to each node, also to one that has never heard of that life."""
    cluster, leaver = let_go_by_its_former_life()
    cluster.stop(4)
    leader = cluster.leader(0)
    assert leader is not None
    replica: Any = cluster.groups(leader)[0].replica
    unused: Any = None
    peers: Any = SimpleNamespace(elsewhere=frozenset(), note_address=lambda *_: None)
    following = cluster.groups(leader)[0].following
    said: list[Any] = []
    for life in (1, 2):
        answers = Answers(replica, peers, unused, unused, None, following=following)
        answers.handle(control.AddMemberQuery(1, leaver, endpoint(4), life=life), said.append)
    late, in_time = said
    assert late.code == control.ErrorCode.REFUSED
    assert getattr(in_time, "code", None) in (None, control.ErrorCode.BUSY), "done, or under way"


def test_a_roster_that_a_log_has_lost_is_gone_on_from_as_others_know_it() -> None:
    """After a power cut the log of group 0 was one version behind what nodes had stored. The next change had the number
    of the lost one, and no node that knew that one took it."""
    cluster = grown()
    lost = cluster.roster().with_node(endpoint(7), 3, 77)
    for driven in cluster.running.values():
        driven.engine.hosting.placing.learn(lost)  # type: ignore[union-attr]
    cluster.dismiss(7)
    cluster.step_until(lambda: cluster.roster().version == lost.version + 1)
    assert endpoint(7) not in cluster.roster().nodes


def test_founders_that_are_told_to_join_before_they_have_decided_found_their_groups() -> None:
    """They waited for a leader that took them in, and without them no group had one."""
    cluster = ShardCluster(3, SHARDS, 3)
    with_founders_that_wait(cluster)
    for number in (0, 1):
        cluster.stop(number)
        cluster.join(number, seeds=[2])
    cluster.step_until(cluster.is_placed)
    assert cluster.roster().version == 0


def test_a_node_that_was_let_go_while_it_was_away_asks_nodes_that_it_was_told_of_before() -> None:
    """The node that it was to join, and those of its logs, had left. It asked no others: neither the cluster, nor, as
    soon as it was in, its groups."""
    cluster = grown()
    cluster.join(5, seeds=[4])
    cluster.step_until(lambda: cluster.roster().version == 3 and cluster.is_placed())
    cluster.stop(5)
    cluster.dismiss(5)
    cluster.step_until(lambda: cluster.roster().version == 4 and cluster.is_placed())
    for number in (6, 7):
        cluster.join(number)
        cluster.step_until(lambda version=number - 1: cluster.roster().version == version and cluster.is_placed())
    for number in (0, 1, 2, 4):
        cluster.dismiss(number)
        cluster.step_until(lambda gone=number: endpoint(gone) not in cluster.roster().nodes and cluster.is_placed())
        cluster.stop(number)
    assert endpoint(5) not in cluster.roster().places, "no node tells it"
    cluster.start(5, peers=(), join=(endpoint(4),))
    cluster.step_until(lambda: endpoint(5) in cluster.roster().nodes and cluster.is_placed())


def notes_of(driven: Driven, part: str) -> list[str]:
    return [note for note in driven.effects.notes if part in note]


def test_a_node_that_waits_for_nodes_that_have_left_says_so_and_what_to_do() -> None:
    """It said nothing, for ever: all nodes that it knew had left while it was away."""
    cluster = founded()
    waiting = cluster.running[0]
    cluster.step(2_000)
    assert notes_of(waiting, "answers") == []
    cluster.stop(1)
    cluster.step(1_500)
    assert notes_of(waiting, "answers") == [], "two of three have a leader"
    cluster.stop(2)
    cluster.step(2_500)
    said = notes_of(waiting, "no node that this one knows answers")
    assert 1 <= len(said) <= 2
    assert f"({endpoint(1)}, {endpoint(2)})" in said[0]
    assert "--join" in said[0]


def test_a_node_of_another_cluster_answers_for_none_of_this_one() -> None:
    """It listened where one of the others had been. With its status for an answer the node did not say that it was
    alone; it believed that node's word of its group, and could have learned its roster."""
    cluster = founded()
    waiting = cluster.running[0]
    own = status_of(cluster, 1, 0)
    assert isinstance(own, control.StatusAnswer)
    roster = cluster.roster().without_node(endpoint(0), 3).encode()
    told = {"founders": [(99, endpoint(1))], "roster": roster, "role": "leader", "term": 1 << 40, "members": []}
    strange = msgspec.structs.replace(own.status, **told)
    cluster.stop(1)
    cluster.stop(2)
    answered: list[int] = []

    def answer(number: int, effects: FakeEffects) -> None:
        for address, frame in effects.asked:
            query, group = control.decode_query(frame), frames.parse_header(frame)[1]
            if address == endpoint(1) and isinstance(query, control.StatusQuery):
                word = control.StatusAnswer(query.nonce, msgspec.structs.replace(strange, group=group))
                cluster.running[number].engine.on_answer(address, control.encode(frames.ANSWER, word, group))
                answered.append(group)

    cluster.watch = answer
    cluster.step(2_500)
    assert set(answered) == set(range(SHARDS))
    assert notes_of(waiting, "no node that this one knows answers")
    assert notes_of(waiting, "was removed from its group") == []
    assert cluster.roster().version == 0


def test_a_node_that_asks_on_asks_none_that_have_left() -> None:
    """It asked each node for ever that the cluster had ever had, over a connection of its own."""
    settings = NodeSettings(name="node4", port=5_040, join=(endpoint(0),), shards=4, replication_factor=1)
    effects = FakeEffects()
    start = JoiningCluster(settings, effects, random.Random(1), own_id=4, life=1)
    roster = Roster.of_founders([endpoint(each) for each in range(3)], 4, 1)
    status = msgspec.structs.replace(early_status(settings, "follower", 1, effects.vitals()), founders=[(1, "")])
    for number in range(10, 30):
        coming = roster.with_node(endpoint(number), 1)
        roster = coming.without_node(endpoint(number), 1)
        for known in (coming, roster):
            while not effects.asked:
                start.tick()
            query = control.decode_query(effects.asked[0][1])
            told = msgspec.structs.replace(status, roster=known.encode())
            start.take(endpoint(0), control.StatusAnswer(query.nonce, told))
            effects.asked.clear()
    while not effects.asked:
        start.tick()
    assert start.origin is None
    assert effects.questioned == {address for address, _ in effects.asked} == set(roster.places)
    assert len(roster.places) == 3 + PARTING_MAX


def test_a_node_that_joins_where_none_answers_says_so() -> None:
    cluster = founded()
    coming = cluster.join(3, seeds=[7])
    cluster.step(700)
    assert len(notes_of(coming, f"still waiting to join: no node answers at {endpoint(7)}")) == 2
    started = cluster.join(4)
    cluster.step_until(lambda: bool(cluster.groups(4)))
    assert notes_of(started, "still waiting") == []


def test_a_member_of_a_group_is_told_of_the_roster_wherever_it_is() -> None:
    """Seed 60001178: a node was let go at an address that no roster named, and led a group, so it asked nothing."""
    cluster = founded()
    placing = cluster.running[0].engine.hosting.placing  # type: ignore[union-attr]
    told = placing.roster.without_node(endpoint(2), 3)._replace(parting=())
    placing.learn(told)
    cluster.step(60)
    assert cluster.running[2].engine.hosting.placing.roster == told  # type: ignore[union-attr]


def test_a_replica_without_a_log_does_not_know_that_it_was_let_go() -> None:
    """It was closed while the group had it as a learner: the leader's first word was still on its way."""
    replication: Any = SimpleNamespace(
        node_id=4, configuration=Configuration(()), configuration_index=0, commit_index=0, election_ticks=20
    )
    unused: Any = None
    following = Following(0, unused, replication)
    said: Any = SimpleNamespace(let_go_at=0)
    assert not following.is_out(said)
    said.let_go_at = 7
    assert following.is_out(said), "the leader says so"
    replication.configuration, said.let_go_at = Configuration((1, 2, 3)), 0
    assert following.is_out(said), "its log says so"


def test_a_founder_without_its_disk_asks_the_nodes_that_came_to_its_groups() -> None:
    """Those of its groups had moved since the founding. It asked the founders alone, who do not have its groups."""
    peers = endpoint(1), endpoint(2)
    settings = NodeSettings(name="node0", port=5_000, peers=peers, shards=4, replication_factor=2)
    fresh = Driven(settings, MemoryJournal(), is_met=False)
    start = fresh.engine._first_start
    assert isinstance(start, AssemblyOfShards)
    roster = Roster.of_founders([endpoint(0), *peers], 4, 2).with_node(endpoint(3), 2)
    told: Any = SimpleNamespace(roster=roster.encode(), groups=[])
    start._come_back(endpoint(1), Configuration((1, 2, 3)), told)
    fresh.effects.asked.clear()
    fresh.pass_time(40)
    assert start.origin is None
    assert {address for address, _ in fresh.effects.asked} == {*peers, endpoint(3)}
