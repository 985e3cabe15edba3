"""The rules of Raft about votes, terms, entries and what is committed, each checked as a node does something.

These are the rules that are about nodes and their disks; what :mod:`~zmqlab.sim.causes` adds are those about snapshots
and reads, and the front that is told what happens. Each class holds one kind of rule and its own account:

* :class:`Votes`: a vote, or a pre-vote, goes only to a candidate whose log is up to date at that moment (thesis,
  3.6.1), and not while the voter hears a leader (4.2.3). A request states the log that the candidate has. A leader has
  the votes of a majority of the voters (3.4).
* :class:`Storage`: a term, a vote and an acknowledged entry are on the disk before the message that promises them
  leaves (3.8). What was stored, and is committed, is there when the node starts again.
* :class:`Creation`: only the leader of a term creates entries of that term, and it never overwrites its own log (figure
  3.2, leader append-only). It changes the members only after the last change, and an entry of its own term, are
  committed (4.1), and takes in one learner at a time. It makes no second entry of a request whose first one stands in
  its log and is not applied. It tells a follower to campaign only if the follower has the whole log (3.10).
* :class:`Commitment`: what is first applied is on the disks of a majority of the voters; learners do not count. A
  leader moves its commit index only to entries of its own term (3.6.2).
* :class:`Office`: a leader that has not heard a majority of the voters for an election time-out leads no more (6.2).

The rules share one :class:`Copy` of each disk. A copy changes when a write has returned, since a node may rely on the
write only then; a node that starts again reports what it has found.

What a majority is, and which log is up to date, is written here a second time: a checker that asks the code under test
repeats its mistakes. The rules read a node's Raft core and change nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from zmqlab.raft import (
    AppendEntriesResponse,
    Configuration,
    HardState,
    Message,
    Raft,
    RequestVote,
    RequestVoteResponse,
    Snapshot,
)
from zmqlab.raft.messages import CONFIGURATION, DATA, NOBODY, Entry, InstallSnapshotResponse, TimeoutNow
from zmqlab.raft.state import CANDIDATE, LEADER, PRE_CANDIDATE
from zmqlab.replica.replica import request_key
from zmqlab.sim.checkers import Configurations, Elections, Ledger, Violation, is_one_step


class Copy:
    """What one node's disk is known to hold. It stays as it was when the node loses its disk."""

    __slots__ = ("base_index", "term", "terms", "voted_for")

    def __init__(self) -> None:
        self.term = 0
        """The term that is stored."""
        self.voted_for = NOBODY
        """The vote in ``term`` that is stored."""
        self.base_index = 0
        """A snapshot holds everything up to here."""
        self.terms: list[int] = []
        """The terms of the entries from ``base_index + 1`` on."""

    @property
    def last_index(self) -> int:
        """The end of the stored log."""
        return self.base_index + len(self.terms)

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry of ``term`` at ``index`` is there, or within a snapshot."""
        position = index - self.base_index - 1
        return position < 0 or (position < len(self.terms) and self.terms[position] == term)

    def store(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        """A write has returned."""
        if hard_state is not None:
            self.term, self.voted_for = hard_state.term, hard_state.voted_for
        if snapshot is not None:
            self.base_index, self.terms = snapshot.index, []
        if entries:
            assert entries[0].index > self.base_index, "what a snapshot holds is never stored again"
            del self.terms[entries[0].index - self.base_index - 1 :]
            self.terms.extend([entry.term for entry in entries])


Copies = defaultdict[int, Copy]
"""Node -> its copy."""


class Votes:
    """Who may be voted for, and who may lead."""

    def __init__(self, elections: Elections) -> None:
        self._elections = elections
        self._heard: dict[tuple[int, int, int, bool], str] = {}
        """(voter, candidate, term, pre-vote) -> why a yes would be wrong; empty if it would be right."""

    def heard(self, raft: Raft, request: RequestVote) -> None:
        """A voter is about to read a request. Of several copies, one that may be granted is enough."""
        key = (raft.node_id, request.sender, request.term, request.pre_vote)
        self._heard[key] = self._heard.get(key, "?") and _objection(raft, request)

    def forgot(self, voter: int) -> None:
        """A voter forgets its leader. It may grant the pre-votes now that it ignored for the sake of that leader."""
        ignored = [key for key, why in self._heard.items() if key[0] == voter and key[3] and "it hears" in why]
        self._heard.update(dict.fromkeys(ignored, ""))

    def granted(self, response: RequestVoteResponse) -> None:
        """A voter says yes."""
        key = (response.sender, response.to, response.term, response.pre_vote)
        objection = self._heard.get(key, "it was never asked")
        if objection:
            raise Violation(
                f"up-to-date vote: node {response.sender} gives {_kind(response)} to node {response.to} "
                f"in term {response.term}, but {objection}"
            )

    def requested(self, raft: Raft, request: RequestVote) -> None:
        """A candidate states its log. One that lost its role within this turn states an older one, in vain."""
        stands = raft.role is (PRE_CANDIDATE if request.pre_vote else CANDIDATE)
        if not stands or request.term != raft.term + request.pre_vote:
            return
        stated, real = (request.last_term, request.last_index), (raft.log.last_term, raft.log.last_index)
        if stated > real or (stated < real and not request.pre_vote):
            raise Violation(
                f"up-to-date vote: node {raft.node_id} asks for {_kind(request)} with a log that ends at "
                f"{request.last_index} of term {request.last_term}, but it ends at {real[1]} of {real[0]}"
            )

    def leads(self, raft: Raft) -> None:
        """A leader is seen for the first time."""
        voters = raft.configuration.voters
        given = [voter for voter in voters if self._elections.vote(voter, raft.term) == raft.node_id]
        if 2 * len(given) <= len(voters):
            raise Violation(
                f"election by majority: node {raft.node_id} leads term {raft.term} with the votes of {given}, "
                f"but the voters are {list(voters)}"
            )


def _kind(message: RequestVote | RequestVoteResponse) -> str:
    return "a pre-vote" if message.pre_vote else "a vote"


def _objection(raft: Raft, request: RequestVote) -> str:
    """Why this node must not say yes to this request now."""
    log = raft.log
    if (request.last_term, request.last_index) < (log.last_term, log.last_index):
        return (
            f"its own log ends at {log.last_index} of term {log.last_term}, "
            f"and the candidate's at {request.last_index} of term {request.last_term}"
        )
    if request.term > raft.term and not request.forced and _hears_leader(raft):
        return f"it hears the leader of term {raft.term}"
    return ""


def _hears_leader(raft: Raft) -> bool:
    if raft.role is LEADER:
        return True
    return raft.leader_id != NOBODY and raft.election_elapsed < raft.settings.election_ticks


class Storage:
    """What a message promises is on the disk."""

    def __init__(self, copies: Copies, ledger: Ledger) -> None:
        self._copies = copies
        self._ledger = ledger

    def loaded(self, node_id: int, found: Copy) -> None:
        """A node starts with this. It may have died before its last write returned, so that more may be there."""
        copy = self._copies[node_id]
        if found.term == copy.term and copy.voted_for not in (NOBODY, found.voted_for):
            raise Violation(
                f"durability: node {node_id} stored a vote for {copy.voted_for} in term {copy.term}, "
                f"and starts with one for {found.voted_for}"
            )
        for entry in self._ledger.entries[found.base_index : copy.last_index]:
            if copy.holds(entry.index, entry.term) and not found.holds(entry.index, entry.term):
                raise Violation(f"durability: node {node_id} stored the committed {entry.index} and starts without it")
        self._copies[node_id] = found

    def unstored(self, message: Message) -> None:
        """A message of a term that is not stored leaves. Only a pre-vote may: no node is in the term that it names."""
        if not (isinstance(message, (RequestVote, RequestVoteResponse)) and message.pre_vote):
            raise Violation(
                f"stored before sent: node {message.sender} speaks in term {message.term}, "
                f"but term {self._copies[message.sender].term} is stored"
            )

    def vote(self, voter: int, term: int, candidate: int) -> None:
        """A vote leaves. In a later term it can't be given twice any more."""
        copy = self._copies[voter]
        if copy.term == term and copy.voted_for != candidate:
            raise Violation(
                f"stored before sent: node {voter} votes for node {candidate} in term {term}, "
                f"but a vote for {copy.voted_for} is stored"
            )

    def installed(self, response: InstallSnapshotResponse) -> None:
        """A follower has no need of a snapshot any more: it holds what was committed at its index."""
        index = response.snapshot_index
        committed = self._ledger.entries[index - 1 : index]
        for entry in committed:
            if not self._copies[response.sender].holds(index, entry.term):
                raise Violation(
                    f"stored before sent: node {response.sender} acknowledges a snapshot at {index}, "
                    f"but has not stored that entry of term {entry.term}, nor a snapshot behind it"
                )

    def acknowledgement(self, response: AppendEntriesResponse, index: int) -> None:
        """A follower says that it has the log up to ``index``; a leader of a later term may have cut it since."""
        copy = self._copies[response.sender]
        if copy.last_index < index and copy.term == response.term:
            raise Violation(
                f"stored before sent: node {response.sender} acknowledges {index}, "
                f"but its stored log ends at {copy.last_index}"
            )

    def acknowledged(self, raft: Raft, response: AppendEntriesResponse) -> None:
        """A leader counts an acknowledgement: the follower holds what the leader has there."""
        copy, index = self._copies[response.sender], response.index
        term = raft.log.term_at(index)
        if term is not None and not copy.holds(index, term) and copy.term == response.term:
            raise Violation(
                f"acknowledgement: node {response.sender} tells node {raft.node_id} that it has {index}, "
                f"but no entry of term {term} is stored there"
            )


class Creation:
    """Who makes entries, and when."""

    def __init__(self, elections: Elections, copies: Copies) -> None:
        self._elections = elections
        self._copies = copies
        self._last: dict[int, int] = {}
        """Term -> the highest index that its leader gave to an entry."""
        self._requests: dict[tuple[int, tuple[int, int]], int] = {}
        """(term, key of a request) -> the index of its latest entry of that term."""

    def new(self, raft: Raft, entries: tuple[Entry, ...] | list[Entry]) -> list[Entry]:
        """A node sends or stores entries. Returns those that are new of their term: they must come from its leader.

        If the last one was seen before, so were those before it.
        """
        last = self._last
        if entries[-1].index <= last.get(entries[-1].term, 0):
            return []
        found = []
        for entry in entries:
            if entry.index > last.get(entry.term, 0):
                self._created(raft, entry)
                last[entry.term] = entry.index
                found.append(entry)
        return found

    def found(self, node_id: int, entries: list[Entry]) -> list[Entry]:
        """A node starts with these. Returns those that it created itself, right before it ended in its write."""
        found = [entry for entry in entries if entry.index > self._last.get(entry.term, 0)]
        own = [entry for entry in found if self._may_create(node_id, entry.term)]
        for entry in own:
            self._last[entry.term] = entry.index
        return own

    def _may_create(self, node_id: int, term: int) -> bool:
        leader = self._elections.leaders.get(term, node_id)
        return leader == node_id and self._elections.vote(node_id, term) == node_id

    def _created(self, raft: Raft, entry: Entry) -> None:
        if not self._may_create(raft.node_id, entry.term):
            raise Violation(
                f"one creator: node {raft.node_id} has entry {entry.index} of term {entry.term}, "
                "which the leader of that term has neither sent nor stored"
            )
        if raft.role is LEADER and raft.term == entry.term:
            if entry.kind == CONFIGURATION:
                self._changed(raft, entry)
            elif entry.kind == DATA:
                self._proposed(raft, entry)

    def _proposed(self, raft: Raft, entry: Entry) -> None:
        """A leader makes an entry of a request. A slow cluster must not get more work because clients ask again."""
        place = entry.term, request_key(entry.data)
        first = self._requests.get(place, 0)
        if first > raft.applied_index:
            raise Violation(
                f"copies: node {raft.node_id} makes entry {entry.index} of the request that stands at {first}, "
                f"and has applied only {raft.applied_index}"
            )
        self._requests[place] = entry.index

    def _changed(self, raft: Raft, entry: Entry) -> None:
        """A leader changes the members."""
        change = Configuration.decode(entry.data)
        if len(change.learners) > 1:
            raise Violation(f"membership: node {raft.node_id} takes in a second learner at {entry.index}: {change}")
        if raft.commit_index < raft.term_start_index:
            raise Violation(
                f"membership: node {raft.node_id} changes the members at {entry.index} in term {raft.term}, "
                f"but has committed only {raft.commit_index}, before its term began at {raft.term_start_index}"
            )
        if raft.commit_index >= entry.index:
            return  # a sole voter stores and commits at once
        committed = raft.configurations.at(max(raft.commit_index, raft.configurations.oldest_index))
        if not is_one_step(committed, change):
            raise Violation(
                f"membership: node {raft.node_id} changes the members at {entry.index}, "
                f"but the last change that is committed, {committed}, is more than one step away"
            )

    def appended(self, raft: Raft, entries: list[Entry]) -> None:
        """Before a node's copy changes: a leader's entries of its own term follow the end of its log."""
        end = self._copies[raft.node_id].last_index
        if raft.role is LEADER and entries[0].term == raft.term and entries[0].index != end + 1:
            raise Violation(
                f"leader append-only: node {raft.node_id} leads term {raft.term} and stores {entries[0].index}, "
                f"but its log ends at {end}"
            )

    def handed_over(self, raft: Raft, message: TimeoutNow) -> None:
        """A leader tells another to campaign; in vain if it has given up the transfer, or the other's term is later."""
        index, term, copy = raft.log.last_index, raft.log.last_term, self._copies[message.to]
        heeded = raft.transfer_target == message.to and copy.term <= raft.term
        if raft.role is LEADER and heeded and not copy.holds(index, term):
            at = f"log ends at {copy.last_index} and lacks entry {index} of term {term}"
            raise Violation(f"transfer: node {raft.node_id} tells node {message.to} to campaign, whose {at}")


class Commitment:
    """What may be called committed."""

    def __init__(self, configurations: Configurations, copies: Copies) -> None:
        self._configurations = configurations
        self._copies = copies
        self._began: dict[int, int] = {}
        """Term -> its leader's commit index when it was first seen."""
        self._changes: dict[tuple[int, int], Configuration] = {}
        """(index, term) -> the members that an entry names, committed or not."""

    def saw_change(self, entry: Entry) -> None:
        """A change of the members is under way."""
        if (entry.index, entry.term) not in self._changes:
            self._changes[entry.index, entry.term] = Configuration.decode(entry.data)

    def speaks(self, raft: Raft) -> None:
        """A leader is about to tell its followers what is committed.

        It counts by the last change in its log from the moment when that is there, on no disk yet. If the leader ends
        before it has stored the change or sent it, no node but the followers' commit index knows of it. A majority of
        the new members and one of the old ones have a node in common, so that what was counted stays.
        """
        index = raft.configurations.current_index
        if index > raft.commit_index:
            self._changes[index, raft.log.term_at(index) or 0] = raft.configuration

    def is_out(self, node_id: int, since: int) -> bool:
        """Whether a change behind index ``since``, which leaves this node out, is on the disks of a majority."""
        return self.agrees(since, lambda change: node_id not in change.members)

    def votes(self, node_id: int, since: int) -> bool:
        """Whether a change behind index ``since``, after which this node votes, is on the disks of a majority."""
        return self.agrees(since, lambda change: node_id in change.voters)

    def agrees(self, since: int, fits: Callable[[Configuration], bool]) -> bool:
        """Whether a change behind index ``since`` that ``fits`` is on the disks of a majority."""
        return any(
            index > since and fits(change) and self._is_on_a_majority(Entry(index, term, CONFIGURATION, b""), change)
            for (index, term), change in self._changes.items()
        )

    def leads(self, raft: Raft) -> bool:
        """A leader works; returns whether it was not seen before in this term."""
        began = self._began.get(raft.term)
        if began is None:
            self._began[raft.term] = raft.commit_index
            return True
        if began < raft.commit_index < raft.term_start_index:
            raise Violation(
                f"commit rule: node {raft.node_id} has committed {raft.commit_index} while it leads term {raft.term}, "
                f"which began at {raft.term_start_index}"
            )
        return False

    def applied_first(self, raft: Raft, entry: Entry) -> None:
        """No node applied this entry before."""
        configuration = self._configurations.at(entry.index)
        if self._is_on_a_majority(entry, configuration) or any(
            self._is_on_a_majority(entry, change)
            for (index, term), change in self._changes.items()
            if index > entry.index and term <= raft.term
        ):
            return
        holders = [node_id for node_id, copy in self._copies.items() if copy.holds(entry.index, entry.term)]
        raise Violation(
            f"commit rule: node {raft.node_id} applies {entry.index} of term {entry.term}, which only {holders} "
            f"have stored, but the voters are {list(configuration.voters)}"
        )

    def _is_on_a_majority(self, entry: Entry, configuration: Configuration) -> bool:
        index, term = entry.index, entry.term
        holders = sum([self._copies[voter].holds(index, term) for voter in configuration.voters])
        return 2 * holders > len(configuration.voters)


class Office:
    """Who may go on leading."""

    def __init__(self) -> None:
        self._heard: dict[tuple[int, int], dict[int, int]] = {}
        """(leader, term) -> voter -> the leader's tick at which it last heard the voter in this term."""
        self._looked_at: dict[int, tuple[int, int, Configuration]] = {}
        """Leader -> term, tick and members at the last look."""

    def heard(self, raft: Raft, sender: int) -> None:
        """A leader is about to read an answer of its term."""
        self._heard.setdefault((raft.node_id, raft.term), {})[sender] = raft.ticks

    def took_turn(self, raft: Raft) -> None:
        """A leader's turn is over. It is looked at once a tick, and after a change of the members one tick later."""
        term, ticks, voters = raft.term, raft.ticks, raft.configuration.voters
        before = self._looked_at.get(raft.node_id)
        if before is not None and before[1] == ticks and before[0] == term:
            return
        self._looked_at[raft.node_id] = term, ticks, raft.configuration
        heard = self._heard.setdefault((raft.node_id, term), {})
        if before is None or before[0] != term or before[2] is not raft.configuration:
            for voter in voters:
                heard.setdefault(voter, ticks)
            return
        since = ticks - raft.settings.election_ticks
        silent = [voter for voter in voters if voter != raft.node_id and heard[voter] <= since]
        if 2 * len(silent) >= len(voters):
            raise Violation(
                f"check quorum: node {raft.node_id} still leads term {raft.term}, but has not heard {silent} "
                f"of {list(voters)} for {raft.settings.election_ticks} ticks"
            )
