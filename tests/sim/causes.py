"""What tests tell to the checkers of causes: three nodes without a cluster, and the messages that they exchange."""

from __future__ import annotations

import random

from zmqlab.raft import AppendEntriesResponse, Configuration, HardState, Raft, RaftSettings, RequestVoteResponse, Role
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica import StateMachine
from zmqlab.settings import SessionLimits
from zmqlab.sim.causes import Causes
from zmqlab.sim.checkers import Configurations, Elections, Ledger

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


def answers(follower: int, leader: Raft, number: int) -> AppendEntriesResponse:
    return AppendEntriesResponse(follower, leader.node_id, leader.term, number, False, 0, 0, 0)
