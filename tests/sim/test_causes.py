"""Each rule objects to the step that breaks it, and only to that, told without a cluster: votes, storage, creation."""

from __future__ import annotations

import random

import pytest

from tests.sim.causes import NO_OP, THREE, Story, accepts, change, no_op, yes
from zmqlab.raft import (
    AppendEntries,
    AppendEntriesResponse,
    HardState,
    Raft,
    RaftSettings,
    RequestVote,
    RequestVoteResponse,
    Role,
)
from zmqlab.raft.messages import Entry, EntryKind, InstallSnapshotResponse, ReadIndex, TimeoutNow
from zmqlab.sim.checkers import Violation
from zmqlab.wire import client as client_wire

# Votes.


@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_vote_for_a_log_that_is_not_up_to_date(pre_vote: bool) -> None:
    for index, term, is_good in ((2, 2, True), (1, 3, True), (1, 2, False), (9, 1, False)):
        story = Story()
        voter = story.node(2, 2, NO_OP, no_op(2, 2))
        story.causes.heard(voter, RequestVote(1, 2, 3, index, term, pre_vote, False))
        story.causes.stored(voter, HardState(3, 1, 0), [], None)
        if is_good:
            story.causes.sent(voter, yes(2, 1, 3, pre_vote))
        else:
            with pytest.raises(
                Violation, match=r"up-to-date vote: node 2 gives a (pre-)?vote to node 1 in term 3, but"
            ):
                story.causes.sent(voter, yes(2, 1, 3, pre_vote))


def test_a_vote_that_was_not_asked_for() -> None:
    story = Story()
    voter = story.node(2, 3, voted_for=1)
    with pytest.raises(Violation, match="but it was never asked"):
        story.causes.sent(voter, yes(2, 1, 3))


def test_a_vote_while_a_leader_is_heard() -> None:
    """But for one that the leader itself wants."""
    for forced in (True, False):
        story = Story()
        voter = story.node(2, 1)
        voter.step(AppendEntries(3, 2, 1, 0, 0, 0, 1, ()))
        story.causes.heard(voter, RequestVote(1, 2, 2, 0, 0, False, forced))
        story.causes.stored(voter, HardState(2, 1, 0), [], None)
        if forced:
            story.causes.sent(voter, yes(2, 1, 2))
        else:
            with pytest.raises(Violation, match="but it hears the leader of term 1"):
                story.causes.sent(voter, yes(2, 1, 2))


def test_a_request_that_states_another_log() -> None:
    story = Story()
    candidate = story.node(1, 1, NO_OP)
    candidate.campaign()
    story.causes.sent(candidate, RequestVote(1, 2, 2, 1, 1, True, False))
    for index, term in ((2, 1), (1, 2)):
        with pytest.raises(Violation, match="asks for a pre-vote with a log that ends at"):
            story.causes.sent(candidate, RequestVote(1, 2, 2, index, term, True, False))
    # It may have lost its role within this turn, taken entries, and stood once more: the older request asks in vain.
    story.causes.sent(candidate, RequestVote(1, 2, 2, 0, 0, True, False))


def test_a_vote_request_that_states_less_than_there_is() -> None:
    story = Story()
    candidate = story.node(1, 1, NO_OP)
    candidate.campaign()
    candidate.step(RequestVoteResponse(2, 1, 2, True, True))
    assert candidate.role is Role.CANDIDATE
    with pytest.raises(Violation, match="asks for a vote with a log that ends at 0"):
        story.causes.sent(candidate, RequestVote(1, 2, 2, 0, 0, False, False))


def test_a_leader_without_the_votes_of_a_majority() -> None:
    heartbeat = AppendEntries(1, 0, 1, 0, 0, 0, 1, ())
    story = Story()
    leader = story.leader(1, 1)
    story.causes.sent(leader, heartbeat)
    lonely = Story()
    lonely.store(leader, 1, 1)
    with pytest.raises(Violation, match=r"election by majority: node 1 leads term 1 with the votes of \[1\]"):
        lonely.causes.sent(leader, heartbeat)


# Storage.


def test_a_term_that_is_not_stored() -> None:
    story = Story()
    node = story.node(2, 4)
    story.causes.sent(node, ReadIndex(2, 1, 4, 7))
    story.causes.sent(node, RequestVoteResponse(2, 1, 5, False, True))  # a pre-vote names a term that nobody is in
    with pytest.raises(Violation, match="stored before sent: node 2 speaks in term 5, but term 4 is stored"):
        story.causes.sent(node, ReadIndex(2, 1, 5, 8))


def test_a_vote_that_is_not_stored() -> None:
    story = Story()
    voter = story.node(2, 5, voted_for=0)
    story.causes.heard(voter, RequestVote(1, 2, 5, 0, 0, False, False))
    with pytest.raises(Violation, match="votes for node 1 in term 5, but a vote for 0 is stored"):
        story.causes.sent(voter, yes(2, 1, 5))
    story.causes.stored(voter, HardState(5, 1, 0), [], None)
    story.causes.sent(voter, yes(2, 1, 5))
    with pytest.raises(Violation, match="votes for node 2 in term 5, but a vote for 1 is stored"):
        story.causes.sent(story.node(2, 5, voted_for=1), RequestVote(2, 3, 5, 0, 0, False, False))


def test_an_acknowledgement_of_what_is_not_stored() -> None:
    story = Story()
    follower = story.node(2, 1, NO_OP)
    story.causes.sent(follower, accepts(2, 1, 1, 1))
    story.causes.sent(follower, InstallSnapshotResponse(2, 1, 1, 1, 9, 100, False))  # a chunk, and not the whole
    with pytest.raises(Violation, match="stored before sent: node 2 acknowledges 2, but its stored log ends at 1"):
        story.causes.sent(follower, accepts(2, 1, 1, 2))


def test_a_snapshot_that_is_acknowledged_and_not_stored() -> None:
    for entry, is_good in ((NO_OP, True), (no_op(1, 2), False)):
        story = Story()
        follower = story.node(2, 2, entry)
        story.node(1, 2, NO_OP)
        story.applied(story.node(3, 2, NO_OP), NO_OP)
        if is_good:
            story.causes.sent(follower, InstallSnapshotResponse(2, 1, 2, 1, 1, 100, True))
        else:
            with pytest.raises(Violation, match="stored before sent: node 2 acknowledges a snapshot at 1"):
                story.causes.sent(follower, InstallSnapshotResponse(2, 1, 2, 1, 1, 100, True))


def test_an_acknowledgement_of_another_entry() -> None:
    story = Story()
    leader = story.leader(1, 3, NO_OP)
    story.node(2, 3, NO_OP, no_op(2, 2))
    story.causes.heard(leader, accepts(2, 1, 3, 1))
    with pytest.raises(Violation, match="tells node 1 that it has 2, but no entry of term 3 is stored there"):
        story.causes.heard(leader, accepts(2, 1, 3, 2))
    story.node(2, 4, NO_OP)  # a leader of a later term has cut its log since
    story.causes.heard(leader, accepts(2, 1, 3, 2))


# Creation.


def test_an_entry_that_its_leader_did_not_make() -> None:
    story = Story()
    leader, follower = story.leader(1, 1), story.node(2, 1)
    message = AppendEntries(1, 0, 1, 0, 0, 0, 1, (NO_OP,))
    story.elections.sent(message)
    story.causes.sent(leader, message)
    story.causes.stored(follower, None, [NO_OP], None)
    with pytest.raises(Violation, match="one creator: node 2 has entry 2 of term 1"):
        story.causes.stored(follower, None, [no_op(2, 1)], None)


def test_a_leader_that_overwrites_its_log() -> None:
    story = Story()
    leader = story.leader(1, 1)
    story.store(leader, 1, 1, NO_OP, no_op(2, 1))
    with pytest.raises(Violation, match="leader append-only: node 1 leads term 1 and stores 2, but its log ends at 2"):
        story.store(leader, 1, 1, no_op(2, 1))


def test_a_leader_that_no_majority_answers_any_more() -> None:
    story = Story()
    leader = story.leader(1, 1)
    answer = AppendEntriesResponse(2, 1, 1, 0, False, 0, 0, 0)
    for tick in (5, 15, 19):
        leader.ticks = tick
        story.causes.office.took_turn(leader)
        if tick == 5:
            story.causes.heard(leader, answer)
    leader.ticks = 20
    with pytest.raises(Violation, match=r"check quorum: node 1 still leads term 1, but has not heard \[2, 3\]"):
        story.causes.office.took_turn(leader)
    story.causes.heard(leader, answer)
    leader.ticks = 21
    story.causes.office.took_turn(leader)


def test_a_voter_that_does_not_stand_for_election() -> None:
    story = Story()
    voter = story.node(1, 1)
    voter.election_elapsed = voter.election_timeout - 1
    story.causes.took_turn(voter)
    voter.election_elapsed += 1
    with pytest.raises(Violation, match=r"promptness: node 1 has heard no leader for .* does not stand for election"):
        story.causes.took_turn(voter)
    learner = Raft(9, THREE.with_learner(9), RaftSettings(), random.Random(9))
    learner.election_elapsed = learner.election_timeout
    story.causes.took_turn(learner)
    leaves = story.node(3, 1)
    leaves.election_elapsed = leaves.election_timeout
    leaves.configurations.append(1, THREE.without(3))
    with pytest.raises(Violation, match="promptness: node 3"):
        story.causes.took_turn(leaves)
    leaves.commit_index = 1
    story.causes.took_turn(leaves)


def test_a_candidate_that_has_won_and_waits() -> None:
    story = Story()
    candidate = story.node(1, 1)
    candidate.campaign()
    candidate.votes[3] = False
    story.causes.took_turn(candidate)
    candidate.votes[2] = True
    with pytest.raises(Violation, match=r"promptness: node 1 has the votes of \[1, 2\] of \[1, 2, 3\]"):
        story.causes.took_turn(candidate)


def test_a_leader_that_does_not_commit_what_a_majority_has() -> None:
    story = Story()
    leader = story.leader(1, 1)
    leader.progress[2].match_index = 1
    story.causes.took_turn(leader)
    story.store(leader, 1, 1, NO_OP)
    with pytest.raises(Violation, match="promptness: a majority has told node 1 that it has 1, but only 0"):
        story.causes.took_turn(leader)
    leader.commit_index = 1
    story.causes.took_turn(leader)


def test_a_change_of_the_members_too_early() -> None:
    story = Story()
    leader = story.leader(1, 1)
    four = THREE.with_learner(4)
    with pytest.raises(
        Violation, match="membership: node 1 changes the members at 2 in term 1, but has committed only"
    ):
        story.store(leader, 1, 1, NO_OP, change(2, 1, four))
    story = Story()
    leader = story.leader(1, 1)
    leader.commit_index = 1
    leader.configurations.append(2, four)
    story.store(leader, 1, 1, NO_OP, change(2, 1, four))
    with pytest.raises(Violation, match=r"the last change that is committed, .* is more than one step away"):
        story.store(leader, 1, 1, change(3, 1, four.with_voter(4).without(1)))


def test_a_second_learner() -> None:
    story = Story()
    leader = story.leader(1, 1)
    leader.commit_index = 1
    with pytest.raises(Violation, match="membership: node 1 takes in a second learner at 2"):
        story.store(leader, 1, 1, NO_OP, change(2, 1, THREE.with_learner(4).with_learner(5)))


def test_a_leader_that_makes_a_second_entry_of_a_request() -> None:
    story = Story()
    leader = story.leader(1, 1)
    data = client_wire.encode_open_session(9)
    story.store(leader, 1, 1, NO_OP, Entry(2, 1, EntryKind.DATA, data))
    with pytest.raises(Violation, match="copies: node 1 makes entry 3 of the request that stands at 2"):
        story.store(leader, 1, 1, Entry(3, 1, EntryKind.DATA, data))
    leader.applied_index = 3  # its answer is not kept, and the next copy is a registration of its own
    story.store(leader, 1, 1, no_op(3, 1), Entry(4, 1, EntryKind.DATA, data))


def test_leadership_for_a_node_that_lacks_entries() -> None:
    story = Story()
    leader = story.leader(1, 1)
    story.causes.sent(leader, TimeoutNow(1, 2, 1))  # given up since
    leader.transfer_target = 2
    with pytest.raises(Violation, match="transfer: node 1 tells node 2 to campaign, whose log ends at 0"):
        story.causes.sent(leader, TimeoutNow(1, 2, 1))
    story.node(2, 1, NO_OP)
    story.causes.sent(leader, TimeoutNow(1, 2, 1))


def test_two_nodes_that_are_told_to_campaign() -> None:
    story = Story()
    leader = story.leader(1, 1)
    for node_id in (2, 3):
        story.node(node_id, 1, NO_OP)
    leader.transfer_target, leader.ticks, leader.transfer_elapsed = 2, 40, 3
    story.causes.sent(leader, TimeoutNow(1, 2, 1))
    leader.ticks, leader.transfer_elapsed = 45, 8
    story.causes.sent(leader, TimeoutNow(1, 2, 1))  # its log was confirmed once more
    leader.transfer_target, leader.ticks = 3, 37 + leader.settings.election_ticks
    leader.transfer_elapsed = 1
    with pytest.raises(Violation, match="and has told node 2, which it has not given up"):
        story.causes.sent(leader, TimeoutNow(1, 3, 1))
    leader.transfer_elapsed = 0
    story.causes.transfers._newest[1, 1] = 2, 37
    story.causes.sent(leader, TimeoutNow(1, 3, 1))
