"""Bugs to plant: each a change of a line or two in the real code, each once a real bug of some Raft.

A simulator that finds nothing proves something only if it finds what is there. :func:`planted` rewrites one function:
its source is read, ``old`` is replaced by ``new``, and the compiled result is put in the function's place wherever that
is referred to. The text must be there exactly once, so that a mutation can't go stale unnoticed. Meanwhile the nodes
match orders in Python, since a bug that is planted there would not be in the compiled exchange. The tests plant each
and count seeds until a checker, an assertion or the requirement of progress objects; ``seeds_max`` is the stated bound.

Numbers in the names are those of the list in the issue that asked for them; the others were found wanting here. Rare
bugs are looked for where they are likely (:data:`zmqlab.sim.plan.FOCUSES`); one run in three of a plain search has
such a focus too.
"""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from zmqlab.market import market_state
from zmqlab.raft import append_entries, configuration, core, election, log, reads, snapshots, state
from zmqlab.replica import execution, machine, record_journal, replica, sealed_records, sessions, waiting_reads
from zmqlab.sim import disk
from zmqlab.sim.plan import SimSettings


@dataclass(frozen=True, slots=True)
class Mutation:
    """One bug."""

    name: str
    function: Callable[..., Any]
    changes: tuple[tuple[str, str], ...]
    """(old, new) pieces of the function's source, dedented."""
    seeds_max: int
    """Within so many seeds, from 1 on, some run fails; two to five times the mean distance of two that do."""
    settings: SimSettings | None = None
    """Where such a bug is looked for."""


@contextmanager
def planted(mutation: Mutation) -> Iterator[None]:
    """The bug is in the code for as long as this lasts."""
    function = mutation.function
    assert isinstance(function, FunctionType)
    sound, exchange = function.__code__, os.environ.get(execution.VARIABLE, "")
    function.__code__ = _mutated(function, mutation.changes)
    os.environ[execution.VARIABLE] = "python"
    try:
        yield
    finally:
        function.__code__ = sound
        os.environ[execution.VARIABLE] = exchange


def _mutated(function: FunctionType, changes: tuple[tuple[str, str], ...]) -> CodeType:
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        assert source.count(old) == 1, f"{function.__name__} does not hold {old!r} exactly once any more"
        source = source.replace(old, new)
    outcome: dict[str, Any] = dict(function.__globals__)
    exec(compile("from __future__ import annotations\n" + source, f"<mutated {function.__name__}>", "exec"), outcome)
    code = outcome[function.__name__].__code__
    assert isinstance(code, CodeType)
    return code


MUTATIONS = (
    Mutation(
        "1 an older term's entries counted as committed",
        append_entries.commit_by_counting,
        ((" and raft.log.term_at(index) == raft.term", ""),),
        60,
        SimSettings(focus="figure-8"),
    ),
    Mutation(
        "2 commit index moved past what the message verified",
        append_entries.handle_append,
        (("min(message.commit_index, verified)", "min(message.commit_index, raft.log.last_index)"),),
        40,
        SimSettings(focus="figure-8"),
    ),
    Mutation(
        "3 a stale AppendEntries truncates good entries",
        append_entries._append,
        (
            ("new = _skip_known(raft, entries)", "new = entries"),
            ("_truncate(raft, new[0].index)", "_truncate(raft, prev_index + 1)"),
        ),
        80,
        SimSettings(focus="figure-8"),
    ),
    Mutation(
        "4 the conflicting entry replaced, its tail kept",
        append_entries._append,
        (
            (
                "_truncate(raft, new[0].index)",
                "tail = log.slice(new[-1].index + 1, log.last_index, 1 << 62)\n"
                "            _truncate(raft, new[0].index)\n"
                "            new = (*new, *tail)",
            ),
        ),
        20,
        SimSettings(focus="figure-8"),
    ),
    Mutation(
        "5 the vote not stored",
        core.Raft._take_out_hard_state,
        (("HardState(self.term, self.voted_for,", "HardState(self.term, 0,"),),
        100,
        SimSettings(focus="crashes"),
    ),
    Mutation(
        "5 term and vote stored only along with entries",
        core.Raft._take_out_hard_state,
        (("if changed or lags:", "if ready.entries:"),),
        60,
        SimSettings(focus="crashes"),
    ),
    Mutation(
        "6 the vote cleared within the same term",
        election.become_follower,
        (
            (
                "if term > raft.term:\n        raft.enter_term(term, NOBODY)",
                "raft.term = term\n    raft.voted_for = NOBODY",
            ),
        ),
        60,
        SimSettings(focus="figure-8"),
    ),
    Mutation(
        "7 a repeated vote counted twice",
        election.handle_response,
        (
            (
                "raft.votes.setdefault(message.sender, message.granted)",
                "others = [voter for voter in raft.configuration.voters if voter not in raft.votes]\n"
                "        voter = message.sender if message.sender in others or not others else others[0]\n"
                "        raft.votes.setdefault(voter, message.granted)",
            ),
        ),
        100,
        SimSettings(focus="figure-8"),
    ),
    Mutation(
        "8 acknowledged before one's own journal write",
        replica.Replica.take_ready,
        (
            (
                "if ready.send_now:\n        self._driver.send(ready.send_now)",
                "self._driver.send(ready.send_now + ready.send_stored)\n    ready.send_stored = []",
            ),
        ),
        200,
        SimSettings(focus="crashes"),
    ),
    Mutation(
        "9 a read served without asking whether one still leads",
        reads.confirm,
        (("while raft.read_batches and raft.read_batches[0].round <= confirmed:", "while raft.read_batches:"),),
        300,
        SimSettings(focus="reads"),
    ),
    Mutation(
        "9 a read served before the leader has committed in its term",
        reads.are_startable,
        ((" and raft.has_committed_in_term", ""),),
        120,
        SimSettings(focus="reads"),
    ),
    Mutation(
        "9 a read served before the read index is applied",
        waiting_reads.WaitingReads.take,
        ((" and self._known[0][0] <= applied_index", ""),),
        30,
        SimSettings(focus="reads"),
    ),
    Mutation(
        "9 a read served by the answer to a read of an earlier life",
        waiting_reads.WaitingReads.__init__,
        (("self._next_context = first_context", "self._next_context = 1"),),
        280,
        SimSettings(focus="reads", clients=10),
    ),
    Mutation(
        "10 a message of an older term left without an answer",
        election._answer_older,
        (("to, term = message.sender, raft.term", "return"),),
        120,
        SimSettings(focus="ahead"),
    ),
    Mutation(
        "10 no pre-vote: a node that comes back disrupts",
        election.start_pre_vote,
        (("leave_role(raft)\n", "start_election(raft, forced=False)\n    return\n"),),
        60,
    ),
    Mutation(
        "11 a membership change before the leader's own term committed",
        core.Raft._may_change_to,
        (("self.has_committed_in_term and ", ""),),
        300,
        SimSettings(focus="members"),
    ),
    Mutation(
        "11 a snapshot without the membership",
        snapshots._restore,
        (("Configuration.decode(message.configuration)", "raft.configuration"),),
        80,
        SimSettings(focus="snapshots"),
    ),
    Mutation(
        "12 a compacted previous entry taken for a conflict",
        append_entries.handle_append,
        (("if prev_index < raft.commit_index:", "if False:"),),
        60,
        SimSettings(focus="snapshots"),
    ),
    Mutation(
        "12 an old snapshot over newer state",
        snapshots.handle_install,
        (
            ("message.snapshot_index <= raft.commit_index", "False"),
            ("raft.log.matches(message.snapshot_index, message.snapshot_term)", "False"),
        ),
        150,
        SimSettings(focus="snapshots"),
    ),
    Mutation(
        "12 the sessions missing from a snapshot",
        machine.StateMachine.adopt,
        (("self.sessions = other.sessions", "pass"),),
        30,
        SimSettings(focus="snapshots"),
    ),
    Mutation(
        "a snapshot that forgets in which order sessions were used",
        sessions.SessionTable.freeze,
        (("self._sessions.values()", "sorted(self._sessions.values(), key=lambda each: each.client_id)"),),
        100,
        SimSettings(focus="snapshots"),
    ),
    Mutation(
        "half the voters taken for a quorum",
        configuration.quorum_size,
        (("voter_count // 2 + 1", "(voter_count + 1) // 2 - (voter_count > 3)"),),
        30,
    ),
    Mutation(
        "a vote for a log that is not up to date",
        log.Log.is_up_to_date,
        (("return (term, index) >= (self.last_term, self.last_index)", "return True"),),
        25,
    ),
    Mutation(
        "an answered request carried out again",
        sessions.SessionTable._judge,
        (("if body is not None:", "if False:"),),
        10,
    ),
    Mutation(
        "a session that is used does not become the most recently used one",
        sessions.SessionTable.admit,
        (
            (
                "self._sessions[client_id] = session  # now",
                "self._sessions = {client_id: session, **self._sessions}  # now",
            ),
        ),
        60,
    ),
    Mutation(
        "the journal's transaction torn: entries without the term",
        replica.Replica.store,
        (("self.journal.store(ready.hard_state,", "self.journal.store(None,"),),
        10,
    ),
    Mutation(
        "5 term and entries stored one after the other",
        record_journal.RecordJournal.store,
        (
            (
                "        if hard_state is not None:\n"
                "            transaction.put_meta(_HARD_STATE, seal_hard_state(hard_state))\n",
                "",
            ),
            (
                "self._forget_some(transaction)",
                "self._forget_some(transaction)\n"
                "    with self._store.write() as transaction:\n"
                "        if hard_state is not None:\n"
                "            transaction.put_meta(_HARD_STATE, seal_hard_state(hard_state))\n",
            ),
        ),
        250,
        SimSettings(focus="crashes"),
    ),
    Mutation(
        "a record whose checksum is not looked at",
        sealed_records.unseal,
        ((" or _CRC.unpack_from(record)[0] != zlib.crc32(body)", ""),),
        70,
    ),
    Mutation(
        "a disk that says it has flushed and has not",
        disk.Disk._flush,
        (("self._unflushed.clear()", "pass"),),
        30,
    ),
    Mutation(
        "the trades missing from a restored book",
        market_state.MarketState.restoring,
        (("book.tape.extend(pieces.rows(TRADE, trades)[1])", "pieces.rows(TRADE, trades)"),),
        60,
    ),
    Mutation(
        "a vote without a look at the log",
        election.cast_vote,
        (("may_vote and raft.log.is_up_to_date(message.last_index, message.last_term)", "may_vote"),),
        20,
    ),
    Mutation(
        "a pre-vote without a look at the log",
        election.cast_vote,
        (("granted = may_vote and ", "granted = may_vote and message.pre_vote or may_vote and "),),
        20,
    ),
    Mutation(
        "logs compared by their length alone",
        log.Log.is_up_to_date,
        (("(term, index) >= (self.last_term, self.last_index)", "index >= self.last_index"),),
        20,
        SimSettings(focus="figure-8"),
    ),
    Mutation(
        "learners counted among those that commit",
        state.RaftState.stored_by_enough,
        (("for voter in self.configuration.voters", "for voter in self.configuration.members"),),
        60,
        SimSettings(focus="members"),
    ),
    Mutation(
        "a snapshot that names members who are not committed at its index",
        snapshots.make,
        (("raft.configurations.at(index)", "raft.configuration"),),
        200,
    ),
    Mutation(
        "an acknowledgement that does not wait for the disk",
        append_entries.handle_append,
        (("raft.send_stored.append(answer)", "raft.send_now.append(answer)"),),
        10,
    ),
    Mutation(
        "a chunk of a snapshot acknowledged before it is stored",
        snapshots._answer,
        (("raft.send_stored.append(answer)", "raft.send_now.append(answer)"),),
        20,
    ),
    Mutation(
        "an acknowledgement up to the end of the log, verified or not",
        append_entries.handle_append,
        (("message.round, True, verified, 0, 0", "message.round, True, raft.log.last_index, 0, 0"),),
        250,
    ),
    Mutation(
        "a term that leaves before it is stored",
        core.Raft._take_out_messages,
        (("now, stored = [], now + stored", "pass"),),
        60,
    ),
    Mutation(
        "leadership handed to a node that lacks entries",
        election.hand_over_if_caught_up,
        ((" and progress.match_index == raft.log.last_index", ""),),
        80,
        SimSettings(focus="ahead"),
    ),
    Mutation(
        "the members changed before the last change is committed",
        core.Raft._may_change_to,
        ((" and self.commit_index >= self.configurations.current_index", ""),),
        200,
    ),
    Mutation(
        "a read index that is applied and not committed",
        reads.start_batch,
        (("index = max(raft.commit_index, raft.claimed_index)", "index = raft.applied_index"),),
        200,
    ),
    Mutation(
        "a deaf leader that stays in office",
        election.check_quorum,
        (("heard < quorum_size(len(voters))", "False"),),
        60,
        SimSettings(focus="outage"),
    ),
    Mutation(
        "a leader counts itself twice among those it has heard",
        election.check_quorum,
        (("heard = sum(", "heard = 1 + sum("),),
        200,
        SimSettings(focus="outage"),
    ),
    Mutation(
        "a read that waits for all followers",
        reads.confirm,
        (("confirmed = quorum_value(", "confirmed = min("),),
        20,
        SimSettings(focus="outage"),
    ),
    Mutation(
        "a leader that tells two nodes to campaign",
        election.start_transfer,
        (("not in (NOBODY, target)", "is None"),),
        40,
        SimSettings(focus="ahead"),
    ),
    Mutation(
        "a transfer to a node that is gone never given up",
        election.tick_transfer,
        (("raft.transfer_elapsed >= raft.settings.election_ticks or ", ""),),
        400,
        SimSettings(focus="outage"),
    ),
)
"""Bugs of consensus, storage and the state machine, each found within its ``seeds_max``."""
