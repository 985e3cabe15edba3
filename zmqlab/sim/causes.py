"""What must hold at the moment something is done, before any harm can be seen.

:mod:`~zmqlab.sim.checkers` looks at damage: two leaders, two histories, a lost entry. A broken rule does damage only if
two or three rare events follow it. The checkers here look at the step that breaks the rule, so that the first of these
events is enough. Each rule has a class, and each violation begins with the name of the rule:

* ``Votes``, ``Storage``, ``Creation``, ``Commitment`` and ``Office`` are in :mod:`~zmqlab.sim.raft_rules`;
* ``Hearing``, ``Claims`` and ``Transfers`` are in :mod:`~zmqlab.sim.hearing_rules`;
* :class:`Snapshots`: a snapshot names the members that were committed at its index, and is, byte by byte, the state
  that the naive exchange and the session rules make of the log up to there (thesis, 5.1). So is each state as a node
  begins to encode it, and as it was restored: one that differs in a place of a queue or in a quota may give the right
  answers for a long time;
* :class:`Reads`: a confirmed read index is not below what any node had applied when the read was asked for, and the
  leader that confirms it had no successor by then, and has heard a majority since (6.4). A node gives each read that it
  asks for its own number, over all its lives.

Theory of operation: :class:`Causes` is told what each node hears, sends, stores, loads and applies, and when its turn
ends. It hands each event to the rules that it concerns.

Left out on purpose: faults. A rule that needs to know which fault struck would be wrong as soon as there is another.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple, cast

from zmqlab.raft import (
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    HardState,
    InstallSnapshot,
    Message,
    Raft,
    RequestVote,
    RequestVoteResponse,
    Snapshot,
)
from zmqlab.raft.messages import (
    CONFIGURATION,
    Entry,
    InstallSnapshotResponse,
    ReadIndex,
    ReadIndexResponse,
    TimeoutNow,
)
from zmqlab.raft.state import LEADER
from zmqlab.replica import Replica
from zmqlab.sim.checkers import Configurations, Elections, Ledger, Violation
from zmqlab.sim.hearing_rules import Claims, Hearing, Transfers, leads
from zmqlab.sim.raft_rules import Commitment, Copies, Copy, Creation, Office, Storage, Votes

_APPLIED_INDEX = struct.Struct("<Q")
"""The first field of a state machine's snapshot."""


class Snapshots:
    """What a snapshot says about its index, and what a state is."""

    def __init__(self, configurations: Configurations, ledger: Ledger) -> None:
        self._configurations = configurations
        self._ledger = ledger
        self._digests: dict[int, bytes] = {}
        """Index -> the digest of the state there, by the ledger."""

    def check(self, node_id: int, snapshot: Snapshot) -> None:
        """A node has made, received or loaded this one."""
        index, entries = snapshot.index, self._ledger.entries
        if index > len(entries) or entries[index - 1].term != snapshot.term:
            raise Violation(
                f"snapshot: node {node_id} has one at {index} of term {snapshot.term}, which was not committed"
            )
        self._names(node_id, index, snapshot.configuration)
        holds = _APPLIED_INDEX.unpack_from(snapshot.data)[0]
        if holds != index:
            raise Violation(f"snapshot: node {node_id} has one at {index} with the state at {holds}")
        if _digest(snapshot.data) != self._digest(index):
            difference = self._difference(index, snapshot.data)
            raise Violation(f"snapshot: node {node_id} has one at {index} that {difference}")

    def compare(self, node_id: int, index: int, state: bytes, since: str) -> None:
        """A node's state is this after entry ``index``."""
        if index <= self._ledger.last_index and _digest(state) != self._digest(index):
            raise Violation(f"state: node {node_id} {since} a state at {index} that {self._difference(index, state)}")

    def sent(self, message: InstallSnapshot) -> None:
        """A leader sends a chunk; the first one of each is looked at."""
        if message.offset == 0:
            self._names(message.sender, message.snapshot_index, Configuration.decode(message.configuration))

    def _names(self, node_id: int, index: int, configuration: Configuration) -> None:
        committed = self._configurations.at(index)
        if configuration != committed:
            raise Violation(
                f"snapshot: node {node_id} names the members {configuration} at {index}, where {committed} is committed"
            )

    def _digest(self, index: int) -> bytes:
        known = self._digests.get(index)
        if known is None:
            known = self._digests[index] = _digest(self._ledger.state(index))
        return known

    def _difference(self, index: int, state: bytes) -> str:
        expected = self._ledger.state(index)
        place = next((at for at, (one, other) in enumerate(zip(state, expected, strict=False)) if one != other), -1)
        return f"the log does not make: {len(state)} bytes, not {len(expected)}, that differ from byte {place} on"


class Floor(NamedTuple):
    """How things were when a read began."""

    applied: int
    """The highest index that any node had applied."""
    term: int
    """The highest that a node led."""
    sent_total: int
    """Messages that had left any node."""
    leads_in: int = 0
    """The term in which the node led that wants to read; 0: it must ask its leader."""


UNKNOWN = Floor(0, 0, 0)


class Reads:
    """Where, and by whose word, a node reads."""

    def __init__(self, elections: Elections, ledger: Ledger, hearing: Hearing) -> None:
        self._elections = elections
        self._ledger = ledger
        self._hearing = hearing
        self._floors: dict[tuple[int, int], Floor] = {}
        """(asking node, context) -> the floor when it asked its leader."""

    def floor(self, leads_in: int = 0) -> Floor:
        """A read begins now."""
        newest = max(self._elections.leaders, default=0)
        return Floor(self._ledger.last_index, newest, self._hearing.sent_total, leads_in)

    def asked(self, message: ReadIndex) -> None:
        """A follower asks its leader."""
        place = message.sender, message.context
        if place in self._floors:
            raise Violation(f"numbers: node {message.sender} asks for a second read under number {message.context}")
        self._floors[place] = self.floor()

    def confirmed(self, raft: Raft, message: ReadIndexResponse) -> None:
        """A leader answers."""
        floor = self._floors.get((message.to, message.context), UNKNOWN)
        self._check(f"node {message.sender} lets node {message.to} read", message.index, message.term, floor)
        if leads(raft, message.term):
            self._hearing.confirmed(raft, floor.sent_total, f"node {message.to}")

    def served(self, replica: Replica, floor: Floor) -> None:
        """A node reads its state, for a read that began at ``floor``."""
        raft = cast(Raft, replica.replication)
        self._check(f"node {raft.node_id} reads", replica.machine.applied_index, raft.term, floor)
        if floor.leads_in and leads(raft, floor.leads_in):
            self._hearing.confirmed(raft, floor.sent_total, "itself")

    def _check(self, who: str, index: int, term: int, floor: Floor) -> None:
        if index < floor.applied:
            raise Violation(f"read index: {who} at {index}, though {floor.applied} was applied before that was asked")
        if term < floor.term:
            raise Violation(f"read index: {who} in term {term}, though term {floor.term} had a leader before")


class Promptness:
    """What a node can do at once is done when its turn ends. Else a group stands still, and no promise breaks.

    A voter whose election time-out has passed stands for election; a node whose removal is not committed counts as one
    (thesis, 4.2.2). A candidate with the votes of a majority has won (3.4). A leader has committed the entries of its
    term that a majority has acknowledged (3.6.2).
    """

    def __init__(self, copies: Copies) -> None:
        self._copies = copies

    def waits(self, raft: Raft) -> None:
        """The turn of a node that does not lead is over. Its time is over too, or it has votes."""
        if raft.election_elapsed >= raft.election_timeout and _may_stand(raft):
            raise Violation(
                f"promptness: node {raft.node_id} has heard no leader for {raft.election_elapsed} ticks, "
                f"and does not stand for election"
            )
        if raft.votes:
            voters, votes = raft.configuration.voters, raft.votes
            given = [voter for voter in voters if votes.get(voter)]
            if 2 * len(given) > len(voters):
                raise Violation(
                    f"promptness: node {raft.node_id} has the votes of {given} of {list(voters)}, and waits for more"
                )

    def leads(self, raft: Raft) -> None:
        """The turn of a leader is over that has not committed its whole log: no voter can have told of more."""
        own, progress = raft.node_id, raft.progress
        ends = [
            self._copies[own].last_index if voter == own else progress[voter].match_index
            for voter in raft.configuration.voters
        ]
        index = sorted(ends)[(len(ends) - 1) // 2]
        if index > raft.commit_index and index >= raft.term_start_index:
            raise Violation(
                f"promptness: a majority has told node {raft.node_id} that it has {index}, "
                f"but only {raft.commit_index} is committed"
            )


def _may_stand(raft: Raft) -> bool:
    changed_at = raft.configurations.current_index
    before = raft.configurations.at(changed_at - 1) if changed_at > raft.commit_index else raft.configuration
    return raft.node_id in raft.configuration.voters or raft.node_id in before.voters


class Causes:
    """All rules of one run; see the module."""

    def __init__(self, elections: Elections, ledger: Ledger, configurations: Configurations) -> None:
        self.copies: Copies = defaultdict(Copy)
        self.votes = Votes(elections)
        self.storage = Storage(self.copies, ledger)
        self.creation = Creation(elections, self.copies)
        self.commitment = Commitment(configurations, self.copies)
        self.office = Office()
        self.hearing = Hearing()
        self.claims = Claims(self.copies)
        self.transfers = Transfers()
        self.promptness = Promptness(self.copies)
        self.snapshots = Snapshots(configurations, ledger)
        self.reads = Reads(elections, ledger, self.hearing)
        self._applied_index = 0
        """The highest index that any node has applied."""

    def heard(self, raft: Raft, message: Message) -> None:
        """A node is about to handle a message."""
        if message.term > self.hearing.terms[raft.node_id]:
            self.hearing.heard(raft, message)
        if isinstance(message, (AppendEntriesResponse, InstallSnapshotResponse)):
            if raft.role is LEADER and message.term == raft.term:
                self.office.heard(raft, message.sender)
                self.hearing.answered(raft, message)
                if isinstance(message, AppendEntriesResponse) and message.success:
                    self.storage.acknowledged(raft, message)
        elif isinstance(message, AppendEntries):
            self.claims.heard(raft, message)
        elif isinstance(message, RequestVote):
            self.votes.heard(raft, message)

    def forgot(self, raft: Raft, leader_id: int) -> None:
        """A node has forgotten its leader because a connection has closed."""
        self.hearing.forgot(raft, leader_id)
        self.votes.forgot(raft.node_id)

    def sent(self, raft: Raft, message: Message) -> None:
        """A message leaves its node."""
        self.hearing.sent_total += 1
        _SENT[type(message)](self, raft, message)
        if self.copies[message.sender].term < message.term:
            self.storage.unstored(message)

    def _sent_append(self, raft: Raft, message: AppendEntries) -> None:
        self.hearing.sent(message)
        self.claims.sent(message)
        if raft.role is LEADER and raft.term == message.term:
            if self.commitment.leads(raft):
                self.votes.leads(raft)
            self.commitment.speaks(raft)
        if message.entries:
            self._saw(raft, message.entries)

    def _sent_answer(self, _: Raft, message: AppendEntriesResponse) -> None:
        if message.success:
            self.storage.acknowledgement(message, message.index)

    def _sent_request(self, raft: Raft, message: RequestVote) -> None:
        self.transfers.requested(message)
        self.votes.requested(raft, message)
        if not message.pre_vote:
            self.storage.vote(message.sender, message.term, message.sender)

    def _sent_vote(self, _: Raft, message: RequestVoteResponse) -> None:
        if message.granted:
            self.votes.granted(message)
            if not message.pre_vote:
                self.storage.vote(message.sender, message.term, message.to)

    def _sent_chunk(self, _: Raft, message: InstallSnapshot) -> None:
        self.hearing.sent(message)
        self.claims.installs(message)
        self.snapshots.sent(message)

    def _sent_offset(self, _: Raft, message: InstallSnapshotResponse) -> None:
        if message.done:
            self.storage.installed(message)

    def _sent_question(self, _: Raft, message: ReadIndex) -> None:
        self.reads.asked(message)

    def _sent_read_index(self, raft: Raft, message: ReadIndexResponse) -> None:
        self.reads.confirmed(raft, message)

    def _sent_timeout_now(self, raft: Raft, message: TimeoutNow) -> None:
        self.creation.handed_over(raft, message)
        self.transfers.told(raft, message)

    def _saw(self, raft: Raft, entries: tuple[Entry, ...] | list[Entry]) -> None:
        """Entries in a message or on a disk; most have been seen before."""
        for entry in self.creation.new(raft, entries):
            if entry.kind == CONFIGURATION:
                self.commitment.saw_change(entry)
                if leads(raft, entry.term):
                    self.hearing.removes(raft, entry)

    def stored(self, raft: Raft, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        """A write of this node has returned."""
        if entries:
            self.creation.appended(raft, entries)
            self._saw(raft, entries)
        self.copies[raft.node_id].store(hard_state, entries, snapshot)

    def loaded(
        self, node_id: int, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None
    ) -> None:
        """A node starts with this."""
        found = Copy()
        found.store(hard_state, entries, snapshot)
        self.storage.loaded(node_id, found)
        self.hearing.started(node_id)
        self.claims.started(
            node_id, max(hard_state.commit_index if hard_state else 0, snapshot.index if snapshot else 0)
        )
        for entry in self.creation.found(node_id, entries):
            if entry.kind == CONFIGURATION:
                self.commitment.saw_change(entry)
        if snapshot is not None:
            self.snapshots.check(node_id, snapshot)

    def applied(self, raft: Raft, entry: Entry) -> None:
        """A node has applied an entry, and the ledger has taken it."""
        if entry.index > self._applied_index:
            self._applied_index = entry.index
            self.commitment.applied_first(raft, entry)

    def read_begins(self, raft: Raft) -> Floor:
        """A query for a read has arrived at a node; returns what :meth:`read_served` wants to know."""
        return self.reads.floor(raft.term if raft.role is LEADER else 0)

    def read_served(self, replica: Replica, floor: Floor) -> None:
        """A node is about to answer that query from its state."""
        self.reads.served(replica, floor)

    def led(self, raft: Raft) -> None:
        """A leader's turn is over."""
        if self.commitment.leads(raft):
            self.votes.leads(raft)
        self.office.took_turn(raft)

    def took_turn(self, raft: Raft) -> None:
        """A node's turn is over."""
        if self.hearing.terms[raft.node_id] > raft.term:
            self.hearing.took_turn(raft)
        if raft.role is LEADER:
            if raft.commit_index != raft.log.last_index:
                self.promptness.leads(raft)
        elif raft.votes or raft.election_elapsed >= raft.election_timeout:
            self.promptness.waits(raft)
        self.claims.took_turn(raft)

    def keeps(self, node_id: int, snapshot: Snapshot) -> None:
        """A turn is over, and the node has another snapshot than before."""
        self.snapshots.check(node_id, snapshot)

    def has(self, node_id: int, index: int, state: bytes, since: str) -> None:
        """A node's state after entry ``index`` is this; ``since`` says what it has just done with it."""
        self.snapshots.compare(node_id, index, state, since)


_SENT: dict[type[Any], Callable[[Causes, Raft, Any], None]] = {
    AppendEntries: Causes._sent_append,
    AppendEntriesResponse: Causes._sent_answer,
    RequestVote: Causes._sent_request,
    RequestVoteResponse: Causes._sent_vote,
    InstallSnapshot: Causes._sent_chunk,
    InstallSnapshotResponse: Causes._sent_offset,
    ReadIndex: Causes._sent_question,
    ReadIndexResponse: Causes._sent_read_index,
    TimeoutNow: Causes._sent_timeout_now,
}


def _digest(state: bytes) -> bytes:
    return blake2b(state, digest_size=16).digest()
