"""Each rule objects to the step that breaks it, and only to that: told to the checkers without a cluster."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zmqlab.raft import (
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    HardState,
    InstallSnapshot,
    Raft,
    RaftSettings,
    RequestVote,
    RequestVoteResponse,
    Role,
    Snapshot,
)
from zmqlab.raft.messages import Entry, EntryKind, InstallSnapshotResponse, ReadIndex, ReadIndexResponse, TimeoutNow
from zmqlab.replica import Replica, StateMachine
from zmqlab.settings import SessionLimits
from zmqlab.sim.causes import Causes
from zmqlab.sim.checkers import Configurations, Elections, Ledger, Violation
from zmqlab.wire import client as client_wire

THREE = Configuration((1, 2, 3))
LIMITS = SessionLimits()
NO_OP = Entry(1, 1, EntryKind.NO_OP, b"")


class Story:
    """Three nodes with their checkers, to which a test tells what happens."""

    def __init__(self, configuration: Configuration = THREE) -> None:
        self.ledger = Ledger(LIMITS)
        self.elections = Elections(self.ledger)
        self.configurations = Configurations(configuration)
        self.causes = Causes(self.elections, self.ledger, self.configurations)
        self.configuration = configuration

    def node(self, node_id: int, term: int, *entries: Entry, voted_for: int = 0) -> Raft:
        """A node that has stored this, and has started again."""
        hard_state = HardState(term, voted_for, 0)
        self.elections.stored(node_id, hard_state)
        self.causes.loaded(node_id, hard_state, list(entries), None)
        rng = random.Random(node_id)
        return Raft(node_id, self.configuration, RaftSettings(), rng, hard_state=hard_state, entries=entries)

    def leader(self, node_id: int, term: int, *entries: Entry) -> Raft:
        """A node that the other two have voted for; its no-op is in its log, and on no disk."""
        raft = self.node(node_id, term - 1, *entries)
        raft.campaign()
        for pre_vote in (True, False):
            for voter in {1, 2, 3} - {node_id}:
                if not pre_vote:
                    self.elections.stored(voter, HardState(term, node_id, 0))
                raft.step(RequestVoteResponse(voter, node_id, term, True, pre_vote))
        assert raft.role is Role.LEADER
        self.store(raft, term, node_id)
        return raft

    def store(self, raft: Raft, term: int, voted_for: int, *entries: Entry) -> None:
        hard_state = HardState(term, voted_for, 0)
        self.elections.stored(raft.node_id, hard_state)
        self.causes.stored(raft, hard_state, list(entries), None)

    def applied(self, raft: Raft, *entries: Entry) -> None:
        machine = StateMachine(LIMITS)
        for entry in entries:
            self.ledger.applied(raft.node_id, raft.term, entry, machine.apply(entry), machine.chain)
            if entry.kind == EntryKind.CONFIGURATION:
                self.configurations.applied(entry)
            self.causes.applied(raft, entry)


def no_op(index: int, term: int) -> Entry:
    return Entry(index, term, EntryKind.NO_OP, b"")


def change(index: int, term: int, configuration: Configuration) -> Entry:
    return Entry(index, term, EntryKind.CONFIGURATION, configuration.encode())


def yes(voter: int, candidate: int, term: int, pre_vote: bool = False) -> RequestVoteResponse:
    return RequestVoteResponse(voter, candidate, term, True, pre_vote)


def accepts(follower: int, leader: int, term: int, index: int) -> AppendEntriesResponse:
    return AppendEntriesResponse(follower, leader, term, 1, True, index, 0, 0)


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


def answers(follower: int, leader: Raft, number: int) -> AppendEntriesResponse:
    return AppendEntriesResponse(follower, leader.node_id, leader.term, number, False, 0, 0, 0)


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
