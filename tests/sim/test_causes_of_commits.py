"""Each rule of commitment and of snapshots objects to the step that breaks it, and only to that."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.sim.causes import LIMITS, NO_OP, THREE, Story, answers, change, no_op
from zmqlab.raft import AppendEntries, Configuration, HardState, InstallSnapshot, Raft, Snapshot
from zmqlab.raft.messages import Entry
from zmqlab.replica import Replica, StateMachine
from zmqlab.sim.checkers import Violation

# Commitment.


def test_what_is_applied_is_on_a_majority_of_the_voters() -> None:
    for configuration, holders, is_good in (
        (THREE, (1, 2), True),
        (THREE, (1,), False),
        (Configuration((1, 2), (3,)), (1, 3), False),  # a learner does not count
        (Configuration((1, 2, 4, 5), (3,)), (1, 2, 3), False),
    ):
        story = Story(configuration)
        nodes = [story.node(node_id, 1, NO_OP) for node_id in holders]
        if is_good:
            story.applied(nodes[0], NO_OP)
        else:
            with pytest.raises(Violation, match="commit rule: node 1 applies 1 of term 1, which only"):
                story.applied(nodes[0], NO_OP)


def test_another_term_at_the_same_place_does_not_count() -> None:
    story = Story()
    first = story.node(1, 2, NO_OP)
    story.node(2, 2, no_op(1, 2))
    with pytest.raises(Violation, match="commit rule"):
        story.applied(first, NO_OP)


def test_a_smaller_group_commits_what_came_before_its_own_entry() -> None:
    """The configuration that a leader appended last counts for all that it commits from then on."""
    story = Story(Configuration((1, 2, 3, 4)))
    leader = story.leader(1, 2, NO_OP)
    removal = change(2, 2, THREE)
    story.causes.heard(leader, answers(2, leader, 1))
    leader.commit_index = leader.term_start_index = 1
    leader.configurations.append(2, THREE)
    story.causes.stored(leader, None, [removal], None)
    story.node(2, 2, NO_OP)
    story.applied(leader, NO_OP)


def test_a_smaller_group_commits_although_its_leader_has_lost_the_change() -> None:
    """The leader ends with its change neither sent nor stored; a follower knows what is committed (seed 3003658)."""
    story = Story(Configuration((1, 2, 3, 4)))
    leader = story.leader(1, 2, NO_OP)
    follower = story.node(2, 2, NO_OP)
    leader.commit_index = leader.term_start_index = 1
    assert leader.propose_configuration(THREE) == 3
    story.causes.sent(leader, AppendEntries(1, 0, 2, 1, NO_OP.term, 1, 1, ()))
    story.applied(follower, NO_OP)


def test_a_leader_that_commits_an_older_term() -> None:
    story = Story()
    leader = story.leader(1, 3, NO_OP, no_op(2, 2))
    story.causes.led(leader)
    leader.commit_index = 3
    story.causes.led(leader)
    leader.commit_index = 2
    with pytest.raises(Violation, match="commit rule: node 1 has committed 2 while it leads term 3, which began at 3"):
        story.causes.led(leader)


def says(leader: Raft, stored_index: int, *entries: Entry, commit: int = 0) -> AppendEntries:
    """What a leader sends: entries from the first on, and how much of its log it has stored."""
    return AppendEntries(leader.node_id, 0, leader.term, 0, 0, commit, 1, entries, stored_index)


def test_a_leader_that_says_more_of_its_disk_than_is_true() -> None:
    story = Story()
    leader = story.leader(1, 1)
    story.store(leader, 1, 1, NO_OP)
    story.causes.sent(leader, says(leader, 1, NO_OP))
    with pytest.raises(Violation, match="claim: node 1 says that it has stored 2, but its stored log ends at 1"):
        story.causes.sent(leader, says(leader, 2))


def test_a_follower_that_counts_an_entry_of_an_older_term() -> None:
    for term_of_last, is_good in ((2, False), (3, True)):
        story = Story()
        follower = story.node(2, 3, NO_OP, no_op(2, 2), no_op(3, term_of_last))
        story.causes.took_turn(follower)
        follower.commit_index = 3
        if is_good:
            story.causes.took_turn(follower)
        else:
            with pytest.raises(
                Violation, match="commit rule: node 2 has counted the copies of 3 in term 3, but that is"
            ):
                story.causes.took_turn(follower)


def test_a_follower_may_be_told_that_an_entry_of_an_older_term_is_committed() -> None:
    story = Story()
    leader, follower = story.leader(1, 3, NO_OP, no_op(2, 2)), story.node(2, 3, NO_OP, no_op(2, 2))
    story.causes.took_turn(follower)
    story.causes.sent(leader, says(leader, 0, commit=2))
    follower.commit_index = 2
    story.causes.took_turn(follower)


def test_a_follower_that_waits_although_it_could_count() -> None:
    """It need not, and can't, where two copies are no majority, and where one of the two has no vote."""
    for configuration, is_enough in (
        (THREE, True),
        (Configuration((1, 2)), True),
        (Configuration((1, 2, 3, 4)), False),
        (Configuration((1, 3), (2,)), False),
        (Configuration((2, 3), (1,)), False),
    ):
        story = Story(configuration)
        leader, follower = Story().leader(1, 1), story.node(2, 1)
        message = says(leader, 1, NO_OP)
        story.causes.heard(follower, message)
        follower.step(message)
        story.causes.took_turn(follower)  # its own copy is not stored
        story.elections.leaders[1] = 1
        story.elections.stored(1, HardState(1, 1, 0))
        story.causes.creation.found(1, [NO_OP])
        story.causes.stored(follower, None, [NO_OP], None)
        if is_enough:
            with pytest.raises(
                Violation, match="promptness: node 2 has stored 1, as its leader 1 has, but has committed"
            ):
                story.causes.took_turn(follower)
            follower.commit_index = 1
        story.causes.took_turn(follower)


def test_a_leader_that_keeps_to_itself_what_its_followers_can_not_count() -> None:
    for configuration, can_count in (
        (THREE, True),
        (THREE.with_learner(4), False),
        (Configuration((1, 2, 3, 4)), False),
    ):
        story = Story(configuration)
        leader = story.leader(1, 1)
        leader.commit_index = leader.applied_index = 1
        if can_count:
            story.causes.took_turn(leader)
        else:
            with pytest.raises(Violation, match="promptness: node 1 has committed 1 and told its followers 0, but"):
                story.causes.took_turn(leader)
            story.causes.claims.sent(says(leader, 0, commit=1))
            story.causes.took_turn(leader)


# Snapshots.


def with_snapshot(story: Story, **changes: Any) -> Replica:
    """A node that has applied a change of the members at 1 and has just made a snapshot there."""
    four = THREE.with_learner(4)
    entry = change(1, 1, four)
    raft = story.node(1, 1, entry)
    story.node(2, 1, entry)
    machine = StateMachine(LIMITS)
    machine.apply(entry)
    story.applied(raft, entry)
    raft.snapshot = replace(Snapshot(1, 1, four, machine.snapshot()), **changes)
    return cast(Replica, SimpleNamespace(replication=raft, machine=machine))


def snapshot_of(replica: Replica) -> Snapshot:
    snapshot = cast(Raft, replica.replication).snapshot
    assert snapshot is not None
    return snapshot


def test_a_sound_snapshot() -> None:
    story = Story()
    replica = with_snapshot(story)
    story.causes.keeps(1, snapshot_of(replica))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"configuration": THREE}, "snapshot: node 1 names the members"),
        ({"configuration": THREE.with_learner(5)}, "snapshot: node 1 names the members"),
        ({"term": 2}, "snapshot: node 1 has one at 1 of term 2, which was not committed"),
        ({"index": 2}, "snapshot: node 1 has one at 2 of term 1, which was not committed"),
        ({"data": StateMachine(LIMITS).snapshot()}, "snapshot: node 1 has one at 1 with the state at 0"),
    ],
)
def test_a_snapshot_of_something_else(changes: dict[str, Any], match: str) -> None:
    story = Story()
    replica = with_snapshot(story, **changes)
    with pytest.raises(Violation, match=match):
        story.causes.keeps(1, snapshot_of(replica))
    with pytest.raises(Violation, match=match):
        story.causes.loaded(1, None, [], snapshot_of(replica))


def test_a_state_that_the_log_does_not_make() -> None:
    """A session more than were opened: no answer shows it."""
    story = Story()
    replica = with_snapshot(story)
    story.causes.has(1, 1, replica.machine.snapshot(), "freezes")
    replica.machine.sessions.open(4)
    with pytest.raises(
        Violation, match=r"state: node 1 freezes a state at 1 that the log does not make: .* from byte 48"
    ):
        story.causes.has(1, 1, replica.machine.snapshot(), "freezes")
    replica = with_snapshot(Story(), data=replica.machine.snapshot())
    with pytest.raises(Violation, match="snapshot: node 1 has one at 1 that the log does not make"):
        story.causes.keeps(1, snapshot_of(replica))


def test_a_chunk_that_names_other_members() -> None:
    story = Story()
    replica = with_snapshot(story)
    for members, is_good in ((THREE.with_learner(4), True), (THREE, False)):
        message = InstallSnapshot(1, 2, 1, 1, 1, 1, 0, True, b"", members.encode())
        if is_good:
            story.causes.sent(cast(Raft, replica.replication), message)
        else:
            with pytest.raises(Violation, match="snapshot: node 1 names the members"):
                story.causes.sent(cast(Raft, replica.replication), message)
