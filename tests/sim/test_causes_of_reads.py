"""Each rule of reads, of what a node has heard, of durability and of transfers objects to the step that breaks it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from tests.sim.causes import LIMITS, NO_OP, THREE, Story, answers, change, no_op, yes
from zmqlab.raft import (
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    HardState,
    Raft,
    RequestVote,
    RequestVoteResponse,
)
from zmqlab.raft.messages import ReadIndex, ReadIndexResponse, TimeoutNow
from zmqlab.replica import Replica, StateMachine
from zmqlab.sim.checkers import Violation

# Reads.


def test_a_read_index_below_what_was_applied() -> None:
    story = Story()
    asker, leader = story.node(2, 1, NO_OP), story.node(1, 1, NO_OP)
    story.causes.sent(asker, ReadIndex(2, 1, 1, 7))
    story.applied(leader, NO_OP)
    story.causes.sent(leader, ReadIndexResponse(1, 2, 1, 7, 0))  # nothing was applied when that was asked
    story.causes.sent(asker, ReadIndex(2, 1, 1, 8))
    story.causes.sent(leader, ReadIndexResponse(1, 2, 1, 8, 1))
    with pytest.raises(Violation, match="read index: node 1 lets node 2 read at 0, though 1 was applied before"):
        story.causes.sent(leader, ReadIndexResponse(1, 2, 1, 8, 0))


def test_a_read_by_the_word_of_a_leader_that_has_a_successor() -> None:
    story = Story()
    asker, leader = story.node(2, 1), story.node(1, 1)
    story.causes.sent(asker, ReadIndex(2, 1, 1, 7))
    story.elections.sent(AppendEntries(3, 0, 2, 0, 0, 0, 1, ()))
    story.causes.sent(leader, ReadIndexResponse(1, 2, 1, 7, 0))  # the successor came after the question
    story.causes.sent(asker, ReadIndex(2, 1, 1, 8))
    with pytest.raises(Violation, match="read index: node 1 lets node 2 read in term 1, though term 2 had a leader"):
        story.causes.sent(leader, ReadIndexResponse(1, 2, 1, 8, 0))


def test_a_read_at_a_node_that_is_behind() -> None:
    story = Story()
    reader, other = story.node(1, 1, NO_OP), story.node(2, 1, NO_OP)
    replica = cast(Replica, SimpleNamespace(replication=reader, machine=StateMachine(LIMITS)))
    floor = story.causes.read_begins(reader)
    story.applied(other, NO_OP)
    story.causes.read_served(replica, floor)
    with pytest.raises(Violation, match="read index: node 1 reads at 0, though 1 was applied"):
        story.causes.read_served(replica, story.causes.read_begins(reader))


def test_two_reads_under_one_number() -> None:
    story = Story()
    asker = story.node(2, 1)
    story.causes.sent(asker, ReadIndex(2, 1, 1, 7))
    story.causes.sent(story.node(3, 1), ReadIndex(3, 1, 1, 7))
    with pytest.raises(Violation, match="numbers: node 2 asks for a second read under number 7"):
        story.causes.sent(story.node(2, 1), ReadIndex(2, 1, 1, 7))  # in another life


# What a node has heard.


def round_of(leader: Raft, number: int) -> AppendEntries:
    return AppendEntries(leader.node_id, 0, leader.term, 0, 0, 0, number, ())


@pytest.mark.parametrize("asker", [1, 2])
def test_a_read_that_a_majority_confirms_by_older_words(asker: int) -> None:
    story = Story()
    leader = story.leader(1, 1)
    replica = cast(Replica, SimpleNamespace(replication=leader, machine=StateMachine(LIMITS)))
    story.causes.sent(leader, round_of(leader, 1))
    floor = story.causes.read_begins(leader)
    story.causes.sent(story.node(2, 1), ReadIndex(2, 1, 1, 7))

    def serve() -> None:
        if asker == 1:
            story.causes.read_served(replica, floor)
        else:
            story.causes.sent(leader, ReadIndexResponse(1, 2, 1, 7, 0))

    story.causes.heard(leader, answers(3, leader, 1))
    with pytest.raises(
        Violation, match=r"read confirmed: leader 1 lets .* but of \[1, 2, 3\] only \[1\] have answered"
    ):
        serve()
    story.causes.sent(leader, round_of(leader, 2))
    with pytest.raises(Violation, match="read confirmed"):
        serve()
    story.causes.heard(leader, answers(3, leader, 2))
    serve()


def test_a_read_that_is_confirmed_by_the_voters_before_a_change() -> None:
    """The leader has confirmed it, and changes the members before its answer leaves."""
    story = Story()
    leader = story.leader(1, 1)
    floor = story.causes.read_begins(leader)
    story.causes.sent(leader, round_of(leader, 1))
    story.causes.heard(leader, answers(3, leader, 1))
    leader.configurations.append(2, Configuration((1, 2, 3, 4)))
    story.causes.read_served(cast(Replica, SimpleNamespace(replication=leader, machine=StateMachine(LIMITS))), floor)


def test_a_node_that_stays_in_its_term() -> None:
    story = Story()
    node = story.node(2, 4)
    story.causes.heard(node, RequestVote(1, 2, 9, 0, 0, False, False))  # it may hear a leader
    story.causes.heard(node, yes(1, 2, 9, pre_vote=True))
    story.causes.hearing.took_turn(node)
    story.causes.heard(node, RequestVoteResponse(1, 2, 5, False, True))
    with pytest.raises(Violation, match="terms: node 2 has heard of term 5, and stays in term 4"):
        story.causes.hearing.took_turn(node)
    story.causes.hearing.took_turn(story.node(2, 4))  # it ended within its turn, and has forgotten


def test_a_voter_removed_by_a_leader_that_does_not_know_who_is_alive() -> None:
    for heard, is_good in (((), False), ((3,), False), ((2,), True)):
        story = Story()
        leader = story.leader(1, 1)
        story.causes.sent(leader, round_of(leader, 1))
        story.causes.heard(leader, AppendEntriesResponse(2, 1, 1, 0, False, 0, 0, 0))  # no round of it
        for voter in heard:
            story.causes.heard(leader, answers(voter, leader, 1))
        leader.commit_index = 1
        leader.configurations.append(2, THREE.without(3))
        entries = NO_OP, change(2, 1, THREE.without(3))
        if is_good:
            story.store(leader, 1, 1, *entries)
        else:
            with pytest.raises(Violation, match=r"removal: node 1 removes \[3\], but of \[1, 2\], which stay"):
                story.store(leader, 1, 1, *entries)


def test_a_learner_may_be_removed_unheard() -> None:
    story = Story(THREE.with_learner(4))
    leader = story.leader(1, 1)
    leader.commit_index = 1
    leader.configurations.append(2, THREE)
    story.store(leader, 1, 1, NO_OP, change(2, 1, THREE))


# Durability, and transfers.


def test_a_node_that_starts_without_what_it_has_stored() -> None:
    story = Story()
    node = story.node(1, 2, NO_OP, no_op(2, 1), voted_for=1)
    story.node(2, 2, NO_OP)
    story.applied(node, NO_OP)
    story.causes.loaded(1, HardState(2, 1, 0), [NO_OP], None)  # the second entry was never committed
    with pytest.raises(Violation, match="durability: node 1 stored a vote for 1 in term 2, and starts with one for 0"):
        story.causes.loaded(1, HardState(2, 0, 0), [NO_OP], None)
    with pytest.raises(Violation, match="durability: node 1 stored the committed 1 and starts without it"):
        story.causes.loaded(1, HardState(2, 1, 0), [], None)


def test_a_campaign_that_no_leader_wanted() -> None:
    story = Story()
    candidate = story.node(2, 2, voted_for=2)
    request = RequestVote(2, 3, 2, 0, 0, False, True)
    with pytest.raises(Violation, match="transfer: node 2 campaigns in term 2 as if a leader wanted it"):
        story.causes.sent(candidate, request)
    story.causes.sent(story.node(1, 1), TimeoutNow(1, 2, 1))
    story.causes.sent(candidate, request)
