"""The rules of Raft about what a node has heard, each checked as it does what it must have heard something for.

* *terms*: after its turn a node is in the highest term that it has heard. A vote request does not count, since a node
  that hears a leader ignores it (thesis, 4.2.3), nor does a pre-vote that is granted, since no node is in its term;
* *read confirmed*: a leader serves a read only once a majority of the voters, itself among them, has answered something
  that it *sent after* the read was asked for (6.4);
* *claim*: a leader says that it has stored its log up to an index only if it has (3.8);
* *commit rule*: a node that commits what no leader has said to be committed has counted copies. Then the entry at its
  commit index is of its own term (3.6.2, figure 3.7);
* *promptness*: a follower that has stored an entry, and has heard that its leader has, commits it in the same turn if
  the two are a majority. If its followers can't count, a leader tells in the same turn what it has committed: to those
  that wait for it, as far as they have accepted its log, and to all what begins its term or changes the members;
* *removal*: a leader removes a voter only if it has heard a majority of the voters that stay, in its own term. A leader
  that was elected just now does not know who is alive;
* *transfer*: a node campaigns as if a leader wanted it only if a leader of the term before has told it to. A leader
  tells two nodes only if it has given the first one up, an election time-out after that transfer began (3.10): of two
  that campaign at once often none is elected;
* *endings*: a node that forgets its leader because a connection has closed is a voter, and has not done so within five
  election time-outs: a process that cuts connections again and again must not have an election each time.

:class:`Hearing` numbers the messages of all nodes as they leave. A leader's messages carry a round, and an answer names
the round: so the number of a round's first message is the latest moment that the answer proves. :class:`Claims` keeps
what leaders say of their disks and of what is committed, and :class:`Transfers` whom they have told to campaign.

Left out on purpose: how long ago a leader heard its voters (:class:`~zmqlab.sim.raft_rules.Office`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from zmqlab.raft import (
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    InstallSnapshot,
    Message,
    Raft,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from zmqlab.raft.append_entries import NO_ROUND
from zmqlab.raft.messages import Entry, InstallSnapshotResponse
from zmqlab.raft.state import LEADER
from zmqlab.sim.checkers import Violation
from zmqlab.sim.raft_rules import Copies


class _Office:
    """What one leader has said and heard in one term."""

    __slots__ = ("answered", "rounds", "ticks")

    def __init__(self) -> None:
        self.rounds: dict[int, int] = {}
        """Round -> the number of its first message."""
        self.answered: dict[int, int] = {}
        """Voter -> the number of the newest message that it has surely answered."""
        self.ticks: dict[int, int] = {}
        """Voter -> the leader's tick at which it last heard an answer."""


class Hearing:
    """See the module."""

    def __init__(self) -> None:
        self.sent_total = 0
        """Messages that have left any node."""
        self.terms: defaultdict[int, int] = defaultdict(int)
        """Node -> the highest term that it has heard in this life."""
        self._forgot: dict[int, int] = {}
        """Node -> its tick when it last forgot a leader whose connection had closed, in this life."""
        self._offices: defaultdict[tuple[int, int], _Office] = defaultdict(_Office)
        """(leader, term) -> what was said."""

    def started(self, node_id: int) -> None:
        """A node begins another life."""
        self.terms[node_id] = 0
        self._forgot.pop(node_id, None)

    def forgot(self, raft: Raft, leader_id: int) -> None:
        """A node has forgotten its leader because a connection has closed."""
        before = self._forgot.get(raft.node_id)
        self._forgot[raft.node_id] = raft.ticks
        if raft.node_id not in raft.configuration.voters:
            raise Violation(f"endings: node {raft.node_id} forgets its leader {leader_id} and does not vote")
        if before is not None and raft.ticks - before < 5 * raft.settings.election_ticks:
            raise Violation(
                f"endings: node {raft.node_id} forgets its leader {leader_id} at tick {raft.ticks}, "
                f"and has forgotten one at tick {before}"
            )

    def heard(self, raft: Raft, message: Message) -> None:
        """A node is about to handle a message of a higher term than it has heard of."""
        if _tells_its_term(message):
            self.terms[raft.node_id] = message.term

    def answered(self, raft: Raft, message: AppendEntriesResponse | InstallSnapshotResponse) -> None:
        """A leader is about to read an answer of its term. Round 0 answers nothing: it tells a sender its term."""
        if message.round:
            office, voter = self._offices[raft.node_id, raft.term], message.sender
            number = office.rounds.get(message.round, 0)
            if number >= office.answered.get(voter, 0):
                office.answered[voter] = number
            office.ticks[voter] = raft.ticks

    def sent(self, message: AppendEntries | InstallSnapshot) -> None:
        """A leader has sent this; :attr:`sent_total` has counted it."""
        rounds = self._offices[message.sender, message.term].rounds
        if message.round not in rounds:
            rounds[message.round] = self.sent_total

    def confirmed(self, raft: Raft, asked_at: int, who: str) -> None:
        """A leader lets ``who`` read, which asked when ``asked_at`` messages had been sent."""
        answered = self._offices[raft.node_id, raft.term].answered
        for voters in (raft.configuration.voters, _before(raft).voters):  # it may have changed them since it confirmed
            heard = [voter for voter in voters if voter == raft.node_id or answered.get(voter, 0) > asked_at]
            if 2 * len(heard) > len(voters):
                return
        raise Violation(
            f"read confirmed: leader {raft.node_id} lets {who} read, but of {list(raft.configuration.voters)} "
            f"only {heard} have answered what it sent since that was asked"
        )

    def removes(self, raft: Raft, entry: Entry) -> None:
        """A leader changes the members."""
        if raft.configurations.oldest_index >= entry.index:
            return
        before, after = raft.configurations.at(entry.index - 1), Configuration.decode(entry.data)
        gone = [voter for voter in before.voters if voter not in after.members]
        answered = self._offices[raft.node_id, raft.term].answered
        heard = [voter for voter in after.voters if voter == raft.node_id or voter in answered]
        if gone and 2 * len(heard) <= len(after.voters):
            raise Violation(
                f"removal: node {raft.node_id} removes {gone}, but of {list(after.voters)}, which stay, "
                f"it has heard only {heard} in term {raft.term}"
            )

    def in_reach(self, raft: Raft, voters: list[int], timeouts: int = 1) -> list[int]:
        """Those of ``voters`` that this leader has heard within so many election time-outs."""
        since = raft.ticks - timeouts * raft.settings.election_ticks
        ticks = self._offices[raft.node_id, raft.term].ticks
        return [voter for voter in voters if voter == raft.node_id or ticks.get(voter, since) > since]

    def took_turn(self, raft: Raft) -> None:
        """The turn of a node is over."""
        heard = self.terms[raft.node_id]
        if heard > raft.term:
            raise Violation(f"terms: node {raft.node_id} has heard of term {heard}, and stays in term {raft.term}")


class _Claim(NamedTuple):
    """What a leader has said to a follower of its own disk."""

    term: int
    leader: int
    stored_index: int
    """It has stored so much of what the message showed."""
    index_term: int
    """The term of the entry there."""


class Claims:
    """What leaders say of their disks, and what their followers make of it."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._claims: dict[int, _Claim] = {}
        """Follower -> the furthest claim that it has heard in its newest term."""
        self.told = 0
        """The highest index that any leader has said to be committed."""
        self._told_all = 0
        """The same without notices, which go to one follower."""
        self._noticed: dict[tuple[int, int], tuple[int, int]] = {}
        """(leader, follower) -> term and commit index of its last notice to that one alone."""
        self._commits: dict[int, int] = {}
        """Node -> its commit index when its last turn ended."""
        self._terms: dict[int, int] = {}
        """Node -> its term when its last turn ended."""

    def started(self, node_id: int, commit_index: int) -> None:
        """A node begins another life, and knows so much to be committed."""
        self._claims.pop(node_id, None)
        self._commits[node_id] = commit_index

    def installs(self, message: InstallSnapshot) -> None:
        """A leader sends a snapshot: what it covers is committed."""
        self.told = max(self.told, message.snapshot_index)
        self._told_all = max(self._told_all, message.snapshot_index)

    def sent(self, message: AppendEntries) -> None:
        """A message leaves a leader. It may have lost its office since, and its log; then its disk says more by now."""
        self.told = max(self.told, message.commit_index)
        if message.round == NO_ROUND:
            self._noticed[message.sender, message.to] = message.term, min(message.commit_index, message.prev_index)
        else:
            self._told_all = max(self._told_all, message.commit_index)
        copy = self._copies[message.sender]
        if copy.last_index < message.stored_index and copy.term == message.term:
            raise Violation(
                f"claim: node {message.sender} says that it has stored {message.stored_index}, "
                f"but its stored log ends at {copy.last_index}"
            )

    def heard(self, raft: Raft, message: AppendEntries) -> None:
        """A node is about to handle a message of a leader."""
        last = self._claims.get(raft.node_id)
        index = min(message.stored_index, message.prev_index + len(message.entries))
        if message.term < raft.term or index < message.prev_index or not index:
            return
        if last is None or (last.term, last.stored_index) < (message.term, index):
            shown = index - message.prev_index
            index_term = message.entries[shown - 1].term if shown else message.prev_term
            self._claims[raft.node_id] = _Claim(message.term, message.sender, index, index_term)

    def took_turn(self, raft: Raft) -> None:
        """A node's turn is over."""
        node_id, commit_index = raft.node_id, raft.commit_index
        if raft.role is LEADER:
            if commit_index > self._told_all and raft.applied_index == commit_index:
                self._tells(raft)
        else:
            claim = self._claims.get(node_id)
            if claim is not None and claim.stored_index > commit_index:
                self._counts(raft, claim)
        if commit_index > self._commits.get(node_id, 0):
            self._rises(raft)
        self._commits[node_id], self._terms[node_id] = commit_index, raft.term

    def _rises(self, raft: Raft) -> None:
        """By counting, if no leader has told of it."""
        index, term = raft.commit_index, raft.log.term_at(raft.commit_index)
        if index > self.told and term is not None and term < self._terms.get(raft.node_id, 0):
            raise Violation(
                f"commit rule: node {raft.node_id} has counted the copies of {index} in term {raft.term}, "
                f"but that is an entry of term {term}"
            )

    def _counts(self, raft: Raft, claim: _Claim) -> None:
        """A follower has heard that its leader has stored more than the follower has committed."""
        if raft.term != claim.term or raft.leader_id != claim.leader:
            return
        if claim.index_term != claim.term or not self._copies[raft.node_id].holds(claim.stored_index, claim.index_term):
            return
        voters = raft.configuration.voters
        if 2 * len({claim.leader, raft.node_id} & {*voters}) > len(voters):
            raise Violation(
                f"promptness: node {raft.node_id} has stored {claim.stored_index}, as its leader {claim.leader} has, "
                f"but has committed only {raft.commit_index}"
            )

    def _tells(self, raft: Raft) -> None:
        """A leader has applied all that it has committed, and told of less. One that applies much in portions has
        another turn at once."""
        members, index = raft.configuration, raft.commit_index
        can_count = raft.node_id in members.voters and len(members.voters) < 4 and not members.learners
        if not raft.progress or can_count:
            return
        begins = max(raft.term_start_index, raft.configurations.current_index)
        if members.learners or self._told_all < begins <= index:
            raise Violation(
                f"promptness: node {raft.node_id} has committed {index} and told its followers {self._told_all}, "
                f"but the members are {members}"
            )
        for node_id, until in raft.waiting.items():
            term, noticed = self._noticed.get((raft.node_id, node_id), (0, 0))
            told = max(self._told_all, noticed if term == raft.term else 0)
            accepted = raft.progress[node_id].match_index if node_id in raft.progress else 0
            if told < until and told < min(index, accepted) and accepted > raft.log.base_index:
                raise Violation(
                    f"promptness: node {raft.node_id} has committed {index}, but told node {node_id} only {told}, "
                    f"which waits for {until} and has accepted {accepted}"
                )


class Transfers:
    """Who was told to campaign (thesis, 3.10)."""

    def __init__(self) -> None:
        self._told: set[tuple[int, int]] = set()
        """(node, term) that a leader of this term has told to campaign."""
        self._newest: dict[tuple[int, int], tuple[int, int]] = {}
        """(leader, term) -> the node that it has told last, and the tick at which that transfer began."""

    def told(self, raft: Raft, message: TimeoutNow) -> None:
        """A leader tells a node to campaign."""
        self._told.add((message.to, message.term))
        if raft.role is not LEADER or raft.term != message.term:
            return
        began, key = raft.ticks - raft.transfer_elapsed, (raft.node_id, raft.term)
        other, before = self._newest.get(key, (message.to, 0))
        self._newest[key] = message.to, began
        if other != message.to and began - before < raft.settings.election_ticks:
            raise Violation(
                f"transfer: node {raft.node_id} tells node {message.to} to campaign in term {raft.term}, and has told"
                f" node {other}, which it has not given up"
            )

    def requested(self, request: RequestVote) -> None:
        """A candidate asks for a vote."""
        if request.forced and (request.sender, request.term - 1) not in self._told:
            raise Violation(
                f"transfer: node {request.sender} campaigns in term {request.term} as if a leader wanted it, "
                f"but no leader of term {request.term - 1} has told it to"
            )


def _tells_its_term(message: Message) -> bool:
    if isinstance(message, RequestVoteResponse):
        return not (message.pre_vote and message.granted)
    return not isinstance(message, RequestVote)


def _before(raft: Raft) -> Configuration:
    history = raft.configurations
    return history.at(max(history.oldest_index, history.current_index - 1))


def leads(raft: Raft, term: int) -> bool:
    """Whether this node leads that term."""
    return raft.role is LEADER and raft.term == term
