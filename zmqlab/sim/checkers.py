"""What must hold whatever happens: one class for each promise, and none of them knows of any fault.

The checkers see what leaves a node (messages), what it writes (hard state, entries), what it applies, and what
clients asked and were told. They keep their own account and compare. A broken promise raises :class:`Violation`, whose
text says which promise, where, and both sides of the contradiction.

* :class:`Elections`: at most one leader a term, at most one vote of a node in a term, terms that never fall; a new
  leader has everything that was committed before its term (thesis, figure 3.2: election safety, leader completeness).
* :class:`Logs`: an index and a term name one entry and one history (log matching); no follower rejects what it knows
  to be committed.
* :class:`Configurations`: the members change by one at a time, from the founders on.
* :class:`Ledger`: the committed log, entry by entry: every node applies the same entries with the same answers and
  the same chain hash, also after a restart and from a snapshot (state-machine safety); each request is carried out
  once; each answer, and each whole state, is what a naive exchange and session rules written a second time say.
* :class:`Histories`: what clients saw, in real time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from zmqlab.market.naive import NaiveExchange
from zmqlab.market.types import FILL_WIDTH, REPORT_STATUS, REPORT_WIDTH, MarketLimits, Status, symbol_code
from zmqlab.raft import (
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    HardState,
    Message,
    Raft,
    RequestVote,
    RequestVoteResponse,
)
from zmqlab.raft.messages import DATA, Entry
from zmqlab.replica import Applied
from zmqlab.settings import SessionLimits
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames, records
from zmqlab.wire.client import Response, ResponseStatus

Levels = list[tuple[int, int, int]]
_SUMS = struct.Struct("<QQQQ16sI")  # index orders rejected fills chain session_bytes
_SESSION = struct.Struct("<QQQI")  # client_id answered_below owner answer_count
_ANSWER = struct.Struct("<QI")  # request_number body_bytes


class Violation(AssertionError):
    """A promise is broken."""


class Elections:
    """Who leads and who voted for whom."""

    def __init__(self, ledger: Ledger) -> None:
        self.leaders: dict[int, int] = {}
        """term -> node"""
        self._votes: dict[tuple[int, int], int] = {}
        """(voter, term) -> candidate, as stored or sent"""
        self._terms: dict[int, int] = {}
        """node -> highest term stored"""
        self._checked: set[int] = set()
        """Terms whose leader was found complete."""
        self._ledger = ledger

    def check_leader(self, raft: Raft) -> bool:
        """Whether this leader was not seen before in its term; then it must lack nothing."""
        self._leads(raft.term, raft.node_id)
        if raft.term in self._checked:
            return False
        self._checked.add(raft.term)
        for entry, term in self._ledger.committed_from(raft.first_index):
            if term < raft.term and raft.log.term_at(entry.index) != entry.term:
                raise Violation(
                    f"leader completeness: node {raft.node_id} leads term {raft.term} without entry {entry.index} "
                    f"of term {entry.term}, which was committed by term {term}"
                )
        return True

    def vote(self, voter: int, term: int) -> int:
        """The node that a node has voted for in a term, by what it stored or sent; 0: none."""
        return self._votes.get((voter, term), 0)

    def _leads(self, term: int, node_id: int) -> None:
        known = self.leaders.setdefault(term, node_id)
        if known != node_id:
            raise Violation(f"election safety: nodes {known} and {node_id} both lead term {term}")

    def sent(self, message: Message) -> None:
        """A message leaves its node."""
        if isinstance(message, AppendEntries):
            self._leads(message.term, message.sender)
        elif isinstance(message, RequestVoteResponse):
            if message.granted and not message.pre_vote:
                self._vote(message.sender, message.term, message.to)
        elif isinstance(message, RequestVote) and not message.pre_vote:
            self._vote(message.sender, message.term, message.sender)

    def stored(self, node_id: int, hard_state: HardState) -> None:
        """A node writes its term and vote."""
        if hard_state.term < self._terms.get(node_id, 0):
            raise Violation(f"node {node_id} falls back from term {self._terms[node_id]} to {hard_state.term}")
        self._terms[node_id] = hard_state.term
        if hard_state.voted_for:
            self._vote(node_id, hard_state.term, hard_state.voted_for)

    def _vote(self, voter: int, term: int, candidate: int) -> None:
        known = self._votes.setdefault((voter, term), candidate)
        if known != candidate:
            raise Violation(f"one vote a term: node {voter} voted for {known} and for {candidate} in term {term}")


class Logs:
    """Every entry that was ever sent or stored."""

    def __init__(self) -> None:
        self._contents: dict[tuple[int, int], tuple[int, int, bytes]] = {}
        """(index, term) -> (term of the entry before, kind, data)"""

    def saw(self, prev_term: int, entries: Iterable[Entry]) -> None:
        """Entries that follow one of ``prev_term``, in a message or on a disk."""
        for entry in entries:
            content = (prev_term, int(entry.kind), entry.data)
            known = self._contents.setdefault((entry.index, entry.term), content)
            if known is not content and known != content:
                raise Violation(
                    f"log matching: entry {entry.index} of term {entry.term} is {known[1:]} after term {known[0]} "
                    f"and {content[1:]} after term {content[0]}"
                )
            prev_term = entry.term

    def answered(self, response: AppendEntriesResponse, applied_index: int) -> None:
        """A follower answers that had applied up to ``applied_index`` when its turn began.

        A leader has all that is committed, so that their logs agree there, compacted or not; round 0 only tells a
        sender of an older term that its term is over.
        """
        if not response.success and response.round and response.rejected_index <= applied_index:
            raise Violation(
                f"log matching: node {response.sender} has applied {applied_index} and rejects what follows "
                f"{response.rejected_index}"
            )


class Configurations:
    """Who the members are, by the committed log."""

    def __init__(self, founders: Configuration) -> None:
        self.history = [(0, founders)]
        """(index, the members from there on), rising."""

    def applied(self, entry: Entry) -> None:
        """A node applied a change of the members."""
        last_index, last = self.history[-1]
        if entry.index <= last_index:
            return
        configuration = Configuration.decode(entry.data)
        if not is_one_step(last, configuration):
            raise Violation(f"membership: {last} and, at {entry.index}, {configuration} differ by more than one member")
        self.history.append((entry.index, configuration))

    def were_ever(self, members: Configuration) -> bool:
        """Whether these were the members at some index, or are one step away, by a change that is not committed."""
        return any(members == each or is_one_step(each, members) for _, each in self.history)

    def at(self, index: int) -> Configuration:
        """Who the members are by the committed log up to ``index``."""
        return next(members for start, members in reversed(self.history) if start <= index)


def is_one_step(before: Configuration, after: Configuration) -> bool:
    """Whether one member joined, left, began or ceased to vote, or moved (thesis, 4.1); or the roster is another."""
    roles_before, roles_after = _roles(before), _roles(after)
    changed = {member for member, _ in roles_before.items() ^ roles_after.items()}
    moved = {member for member, _ in set(before.addresses) ^ set(after.addresses)} & {*roles_before} & {*roles_after}
    return len({*changed, *moved}) + (before.roster != after.roster) == 1


def _roles(configuration: Configuration) -> dict[int, str]:
    return dict.fromkeys(configuration.learners, "learner") | dict.fromkeys(configuration.voters, "voter")


class Ledger:
    """The one committed log, and what the rules say that each entry of it does."""

    def __init__(self, limits: SessionLimits, market: MarketLimits | None = None) -> None:
        self.entries: list[Entry] = []
        """As first applied by any node; position + 1 is the index."""
        self._limits = limits
        self._market = market
        self._terms: list[int] = []
        """In which term the node was that applied it first: it was committed in that term or before."""
        self._chains: list[bytes] = []
        self._bodies: list[bytes] = []
        self._executed: dict[tuple[int, int], int] = {}
        self._orders = self._rejected = self._fills = 0
        """Sums over all requests that were carried out."""
        self._books = NaiveExchange(market)
        self._sessions = SessionRules(limits)
        self._depths: dict[int, list[tuple[int, list[Levels]]]] = {}
        """Symbol -> its book after each entry that named it: index, and both sides."""
        self._past: Ledger | None = None
        """As it was when an older state was last looked at; most of them are near the end."""

    @property
    def last_index(self) -> int:
        """The highest index that any node has applied."""
        return len(self.entries)

    def committed_from(self, index: int) -> Iterable[tuple[Entry, int]]:
        """The committed entries from ``index`` on, each with the term by which it was committed."""
        start = max(0, index - 1)
        return zip(self.entries[start:], self._terms[start:], strict=True)

    def body(self, index: int) -> bytes:
        """The answer that entry ``index`` has; empty if none."""
        return self._bodies[index - 1]

    def applied(self, node_id: int, term: int, entry: Entry, applied: Applied | None, chain: bytes) -> None:
        """A node applied a committed entry."""
        body = applied.body if applied else b""
        position = entry.index - 1
        if position == len(self.entries):
            self._extend(node_id, term, entry, applied, chain)
            return
        if position > len(self.entries):
            raise Violation(f"node {node_id} applies {entry.index}, but no node applied {len(self.entries) + 1}")
        if self.entries[position] != entry:
            raise Violation(
                f"state-machine safety: node {node_id} applies {entry.index} of term {entry.term}, "
                f"others applied one of term {self.entries[position].term} there"
            )
        if self._bodies[position] != body:
            raise Violation(f"state-machine safety: node {node_id} gives another answer at {entry.index}")
        self.same_chain(node_id, entry.index, chain)

    def same_chain(self, node_id: int, index: int, chain: bytes) -> None:
        """A node is at ``index`` with this chain hash, by applying or from a snapshot."""
        if index == 0:
            return
        if index > len(self.entries):
            raise Violation(f"node {node_id} has a snapshot at {index}, but no node applied that yet")
        if self._chains[index - 1] != chain:
            raise Violation(f"state-machine safety: node {node_id} has another chain hash at {index}")

    def _extend(self, node_id: int, term: int, entry: Entry, applied: Applied | None, chain: bytes) -> None:
        expected = self._expected(entry)
        body = applied.body if applied else b""
        if body != expected:
            raise Violation(
                f"answers: at {entry.index} node {node_id} says {body.hex()}, but by the naive exchange and the "
                f"session rules it is {expected.hex()}"
            )
        if applied is not None and applied.reports:
            first = self._executed.setdefault(applied.key, entry.index)
            if first != entry.index:
                raise Violation(f"exactly once: request {applied.key} is carried out at {first} and {entry.index}")
        self.entries.append(entry)
        self._terms.append(term)
        self._chains.append(chain)
        self._bodies.append(body)

    def _expected(self, entry: Entry) -> bytes:
        """What the entry answers by the rules."""
        if entry.kind != DATA:
            return b""
        if frames.parse_header(entry.data)[0] == frames.OPEN_SESSION:
            self._sessions.open(entry.index)
            nonce = client_wire.parse_open_session(entry.data)
            return client_wire.encode_response(entry.index, nonce, entry.index)
        client_id, number, answered_below, _ = client_wire.parse_request(entry.data)
        status, stored = self._sessions.judge(client_id, number, answered_below)
        if stored:
            return client_wire.replayed(stored)
        if status:
            return client_wire.encode_response(client_id, number, entry.index, status)
        commands = list(client_wire.request_commands(entry.data))
        reports, fills = self._books.execute(commands, client_id)
        for code in {command[6] for command in commands}:
            self._depths.setdefault(code, []).append((entry.index, self._books.sides(code, 10)))  # as clients read it
        self._orders += len(reports) // REPORT_WIDTH
        self._rejected += reports[REPORT_STATUS::REPORT_WIDTH].count(Status.REJECTED)
        self._fills += len(fills) // FILL_WIDTH
        packed = records.pack_reports(reports), records.pack_fills(fills)
        body = client_wire.encode_execution(client_id, number, entry.index, *packed, self._limits.answer_fills)
        self._sessions.remember(client_id, number, body)
        return body

    def depth(self, symbol: str, index: int) -> list[Levels]:
        """Both sides of the naive book as it was after entry ``index``."""
        return next((book for at, book in reversed(self._depths.get(symbol_code(symbol), [])) if at <= index), [[], []])

    def state(self, index: int) -> bytes:
        """What a node's snapshot of the state after entry ``index`` must be, byte by byte."""
        then, sessions = self._as_of(index), self._as_of(index)._sessions.encoded()
        chain = self._chains[index - 1] if index else bytes(16)
        sums = _SUMS.pack(index, then._orders, then._rejected, then._fills, chain, len(sessions))
        return sums + sessions + then._books.snapshot()

    def _as_of(self, index: int) -> Ledger:
        if index == len(self.entries):
            return self
        if self._past is None or len(self._past.entries) > index:
            self._past = Ledger(self._limits, self._market)
        past = self._past
        for entry in self.entries[len(past.entries) : index]:
            past._expected(entry)
            past.entries.append(entry)
        return past

    def books_hash(self) -> bytes:
        """The naive exchange's state hash at the end of the ledger."""
        return self._books.state_hash()


class SessionRules:
    """Which copy of a request counts: the session rules a second time (Raft thesis, 6.3, ``docs/wire-format.md``).

    A list of clients in the order of their last use, a dictionary of answers each.
    """

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._by_use: list[int] = []
        self._below: dict[int, int] = {}
        self._answers: dict[int, dict[int, bytes]] = {}

    def open(self, client_id: int) -> None:
        """A registration; too many sessions cost the one that was used least recently."""
        self._by_use.append(client_id)
        self._below[client_id] = 1
        self._answers[client_id] = {}
        self._evict()

    def judge(self, client_id: int, number: int, answered_below: int) -> tuple[ResponseStatus, bytes]:
        """The status, and the stored answer of a request that was answered before."""
        if client_id not in self._below:
            return ResponseStatus.SESSION_EXPIRED, b""
        self._by_use.remove(client_id)
        self._by_use.append(client_id)
        below = self._below[client_id] = max(self._below[client_id], min(answered_below, number))
        kept = {done: body for done, body in self._answers[client_id].items() if done >= below}
        self._answers[client_id] = kept
        if number < below:
            return ResponseStatus.STALE, b""
        if number in kept:
            return ResponseStatus.OK, kept[number]
        is_full = number > below and sum(map(len, kept.values())) >= self._limits.session_bytes
        if is_full or number >= below + self._limits.window_requests:
            return ResponseStatus.WINDOW_FULL, b""
        return ResponseStatus.OK, b""

    def remember(self, client_id: int, number: int, body: bytes) -> None:
        """The request was carried out with this answer; too many bytes cost whole sessions, but never the last one."""
        self._answers[client_id][number] = body
        self._evict()

    def encoded(self) -> bytes:
        """All sessions, the least recently used first, as a snapshot has them. No client has a key here."""
        parts = [len(self._by_use).to_bytes(4, "little")]
        for client_id in self._by_use:
            answers = sorted(self._answers[client_id].items())
            parts.append(_SESSION.pack(client_id, self._below[client_id], 0, len(answers)))
            parts += [_ANSWER.pack(number, len(body)) + body for number, body in answers]
        return b"".join(parts)

    def _evict(self) -> None:
        while len(self._by_use) > self._limits.max_sessions or (
            len(self._by_use) > 1 and self._stored_bytes() > self._limits.total_bytes
        ):
            oldest = self._by_use.pop(0)
            del self._below[oldest], self._answers[oldest]

    def _stored_bytes(self) -> int:
        return sum(len(body) for answers in self._answers.values() for body in answers.values())


@dataclass(slots=True)
class Operation:
    """One operation of one client, from its first sending to its answer, over all retries."""

    client: int
    number: int
    """The request number, or the nonce of a read or of a session."""
    content: bytes
    """The commands of a request; the whole frame of a read or a registration."""
    floor: int
    """Highest log index of an answer that any client had when this was first sent."""
    applied: int
    """Highest index that any node had applied then."""
    next_try_us: int = 0


class Histories:
    """What clients asked and were told, in real time: the checker of linearizability.

    Every operation has a moment when it was first sent and a moment when its answer came. The log gives all of them an
    order, so that linearizability comes down to three questions, asked at each answer:

    * is it the answer that the ledger has at the log index that it names (the ledger compares with a naive exchange)?
    * does its log index lie behind that of every operation that had been answered before this one was sent?
    * for a read: does it lie behind all that was applied when the read was sent, and is the book the naive one there?
    """

    def __init__(self, ledger: Ledger) -> None:
        self.answered = 0
        self.reads = 0
        self._ledger = ledger
        self._floor = 0

    def invoke(self, client: int, number: int, content: bytes) -> Operation:
        """An operation is about to be sent for the first time."""
        return Operation(client, number, content, self._floor, self._ledger.last_index)

    def answer(self, operation: Operation, response: Response) -> None:
        """A response with a log index has come."""
        index = response.log_index
        who = f"client {operation.client}, request {operation.number}"
        if index > self._ledger.last_index:
            raise Violation(f"answers: {who} is answered from {index}, which no node applied")
        frame = client_wire.encode_responses([self._ledger.body(index)])
        expected = next(client_wire.iter_responses(frame))
        if _without_flags(response) != _without_flags(expected):
            raise Violation(f"answers: {who} is told {response}, but entry {index} says {expected}")
        if index <= operation.floor:
            raise Violation(f"real time: {who} is answered from {index}, though {operation.floor} was answered before")
        self._complete(index)

    def read(self, operation: Operation, symbol: str, bids: Levels, asks: Levels, index: int) -> None:
        """A linearizable read was answered from the state after ``index``."""
        if index < max(operation.floor, operation.applied):
            raise Violation(
                f"linearizable reads: client {operation.client} reads at {index}, "
                f"though {max(operation.floor, operation.applied)} was applied before it asked"
            )
        expected = self._ledger.depth(symbol, index)
        if [bids, asks] != expected:
            raise Violation(f"linearizable reads: {symbol} at {index} is {bids} {asks}, but should be {expected}")
        self.reads += 1
        self._complete(index)

    def _complete(self, index: int) -> None:
        self.answered += 1
        self._floor = max(self._floor, index)


def _without_flags(response: Response) -> tuple[object, ...]:
    """All but the mark that this is the first answer again."""
    return (*response[:4], *response[5:7], bytes(response.reports), bytes(response.fills))
