"""What is promised of a run, one function for each promise: pure, from evidence to a :class:`Check`.

Evidence is what clients were told (*acknowledgements*), what the log holds (:class:`~zmqlab.judge.replay.Replayed`),
and what the nodes say of their state (:class:`NodeEvidence`). A check passes only on evidence, and it fails only on
evidence. Where there is none, it says why it could not be made and what to do. For each promise there is a test that
breaks it and sees its check fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from zmqlab.judge.real_time import ceilings_of, floors_of, out_of_order
from zmqlab.judge.replay import BookKey, Replayed, RequestTable
from zmqlab.wording import WHY_REFUSED, counted, joined, refused

Outcome = Literal["passed", "failed", "not judged"]

SHOWN = 3
"""How many requests, or runs of requests, a detail names. The rest is a number."""
LISTED = 10_000
"""How many lost requests a check lists one by one: 400 KB of JSON."""
UNSEEN = {
    "one log": "no log entry read twice",
    "one leader a term": "no leader heard",
    "answers agree": "no answer compared",
}
"""Checks for which an ordinary run may have no evidence: a short one, one on nodes with an old log, one whose
replication has no leader. They are left out then, and the coverage says so. Any other makes a run NOT JUDGED."""


class Acknowledgement(NamedTuple):
    """One request of which a client was told that it is done."""

    client_id: int
    request_number: int
    log_index: int
    invoked_ns: int
    """When it was first sent, on the client's monotonic clock."""
    completed_ns: int
    """When its answer came, on the same clock."""
    answer_crc: int
    """CRC-32 of the answer's report and fill records."""
    commands_crc: int | None = None
    """CRC-32 of the commands that were sent. None: not known, and not compared."""
    clock: int = 0
    """Which clock its times are on. Those of two clocks are not compared."""


class BookRead(NamedTuple):
    """One book that a node gave to a client that asked for it as of now. Times are on clock 0 of acknowledgements."""

    symbol: str
    levels: int
    log_index: int
    """The node had applied the log so far, and no farther, when it looked."""
    invoked_ns: int
    completed_ns: int
    book_crc: int
    """CRC-32 of both sides (:func:`zmqlab.judge.replay.crc_of_book`)."""

    @property
    def key(self) -> BookKey:
        """Which book this is."""
        return BookKey(self.log_index, self.symbol, self.levels)


class LostRequest(NamedTuple):
    """An acknowledged request that is lost."""

    client_id: int
    request_number: int
    log_index: int
    """That its client was told; 0 if it waited for no answer."""
    group: int = 0
    """The Raft group. Clients and requests of two groups have the same numbers."""


class Check(NamedTuple):
    """One promise, and whether it was kept."""

    name: str
    ok: bool | None
    """None: that can't be known; ``detail`` says why, and what to do."""
    detail: str
    requests: tuple[LostRequest, ...] = ()
    """Of "nothing lost": what is lost, the first :data:`LISTED` requests."""

    def of_group(self, group: int) -> Check:
        """The same of a group, which each request names."""
        return self._replace(requests=tuple(each._replace(group=group) for each in self.requests))


class RunTotals(NamedTuple):
    """What the client counted, also where it did not remember each request."""

    client_ids: tuple[int, ...]
    """Its sessions."""
    requests: int
    """Requests acknowledged."""
    acknowledged: int
    """Orders acknowledged."""
    unanswered: int
    """Orders that were sent and have no answer."""
    unsent: int
    """Orders that were due and never sent."""
    served_to_the_end: bool
    """Whether an acknowledgement came in the last second in which orders were due."""
    refused: int = 0
    """Orders of requests that were answered with an error."""
    open_requests: int = 0
    """Requests that were sent and have no answer."""
    problem: str = ""
    """Why the run ended before its time, or why evidence is missing, if so."""
    unwaited: tuple[int, ...] = ()
    """By session, of a client that waited for no answer: how many requests it sent."""


class NodeEvidence(NamedTuple):
    """What one living node says of its state when all nodes have come to rest."""

    name: str
    log_index: int
    chain_hash: str
    state_hash: str
    orders_applied: int
    voters: int = 0
    """How many voters the group has, by its word; 0: not known."""
    votes: bool = True
    """Whether it is one of them, by the word of the most advanced node; a learner is not. Not known: True."""


def nothing_lost(acknowledgements: Sequence[Acknowledgement], log: Replayed) -> Check:
    """Each acknowledged request stands in the log at the index that its client was told, as its client sent it.

    If other commands stand there, another process has used the client's session.
    """
    lost, elsewhere, others = [], [], []
    for ack in acknowledgements:
        key = ack.client_id, ack.request_number
        if key not in log.first_seen:
            lost.append(ack)
        elif not log.stands_at(key, ack.log_index):
            elsewhere.append(ack)
        elif ack.commands_crc is not None and log.commands.get(key) not in (None, ack.commands_crc):
            others.append(ack)
    if lost or elsewhere or others:
        problems = [
            f"{len(bad):,} {what}: {_requests(bad)}"
            for bad, what in (
                (lost, "not in the log"),
                (elsewhere, "at another index"),
                (others, "with commands that their client did not send"),
            )
            if bad
        ]
        listed = tuple(LostRequest(*ack[:3]) for ack in (lost + elsewhere + others)[:LISTED])
        return Check("nothing lost", False, "acknowledged requests " + "; ".join(problems), listed)
    return Check("nothing lost", True, f"all {len(acknowledgements):,} acknowledged requests are in the replicated log")


def nothing_twice(
    acknowledgements: Sequence[Acknowledgement],
    log: Replayed,
    nodes: Sequence[NodeEvidence],
    last_index: int,
) -> Check:
    """Each request counts once, at the index that was acknowledged, and the nodes applied just as many orders.

    ``last_index``: the end of the log. A node that lags has applied less of it, and is not compared.
    """
    name = "nothing twice"
    if log.applied_twice:
        return Check(
            name, False, f"{counted(len(log.applied_twice), 'request')} applied twice: {log.applied_twice[:SHOWN]}"
        )
    told = RequestTable()
    for ack in acknowledgements:
        key = (ack.client_id, ack.request_number)
        before = told.get(key)
        if before not in (None, ack.log_index):
            return Check(name, False, f"request {key} was acknowledged at {before} and at {ack.log_index}")
        told[key] = ack.log_index
        counts_at = log.applied.get(key)
        if counts_at not in (None, ack.log_index):
            where = f"counts at {counts_at} but was acknowledged at {ack.log_index}"
            return Check(name, False, f"request {key} {where}")
    expected = log.commands_applied
    at_the_end = [node for node in nodes if node.log_index == last_index]
    if not at_the_end:
        return Check(name, None, f"no node told how many orders it had applied at index {last_index:,}: judge again")
    for node in at_the_end:
        if node.orders_applied != expected:
            applied = counted(node.orders_applied, "order")
            return Check(name, False, f"{node.name} applied {applied}, the log says {expected:,}")
    where = "every node" if len(at_the_end) == len(nodes) else f"{len(at_the_end)} of {len(nodes)} nodes, the rest lag"
    copies = counted(sum(map(len, log.copies.values())), "retry")
    return Check(name, True, f"{counted(expected, 'order')} applied on {where}; {copies} had no effect")


def majority_told(told: int, voters: int, unknown: int, last_index: int) -> Check:
    """A majority of the voters has told its state. ``unknown``: acknowledged requests behind the end of their log."""
    detail = f"{told} of {voters} voters told its state, and its log ends at index {last_index:,}"
    if unknown:
        detail += f", before {counted(unknown, 'acknowledged request')} that the others may have"
    return Check("majority asked", None, f"{detail}. Restart nodes until a majority runs, and judge again")


def run_complete(totals: RunTotals) -> Check:
    """There is something to judge: orders were acknowledged, to the end, and what was sent was answered.

    No promise is broken by a cluster that serves no one while no majority runs. But such a run shows nothing.
    """
    name = "run complete"
    missing = f"{counted(totals.unanswered, 'order')} sent and not answered, {totals.unsent:,} due and never sent"
    if totals.problem:
        return Check(name, None, f"the load ended before its time: {totals.problem}")
    if totals.unwaited:
        requests = counted(sum(totals.unwaited), "request")
        return Check(name, True, f"{requests} sent by a client that waits for no answer")
    if totals.refused:
        return Check(name, None, f"{refused(totals.refused)}: {WHY_REFUSED}")
    if not totals.acknowledged:
        return Check(name, None, f"no order was acknowledged; {missing}. Does a majority of the nodes run?")
    if totals.unanswered or (totals.unsent and not totals.served_to_the_end):
        return Check(name, None, f"{missing}. Restart nodes until a majority runs, and run the load again")
    orders = counted(totals.acknowledged, "order")
    return Check(name, True, f"{orders} acknowledged, to the end; all that was sent was answered")


def totals_agree(totals: RunTotals, log: Replayed) -> Check:
    """As many requests of the client's sessions are applied as it counted acknowledged, remembered or not.

    There may be more by those that have no answer. How many these are is not known of a load that died.
    """
    if totals.unwaited:
        return sent_is_applied(totals, log)
    name = "totals agree"
    applied = sum(map(log.applied.of, set(totals.client_ids)))
    acknowledged = f"{counted(totals.requests, 'request')} acknowledged"
    if applied < totals.requests:
        return Check(name, False, f"{acknowledged}, and only {applied:,} applied")
    if applied > totals.requests + totals.open_requests and not totals.problem:
        detail = f"{counted(applied, 'request')} of these sessions applied, and their client sent only "
        detail += f"{totals.requests + totals.open_requests:,}: another process has used a session"
        return Check(name, False, detail)
    return Check(name, True, f"{acknowledged}, {applied:,} applied")


def sent_is_applied(totals: RunTotals, log: Replayed) -> Check:
    """Each request of a client that waited for no answer is in the log.

    Nothing promises that, and its client would never learn of it: that is what the check is for.
    """
    name = "sent is applied"
    sessions = zip(totals.client_ids, totals.unwaited, strict=True)
    sent = [(client_id, number) for client_id, count in sessions for number in range(1, count + 1)]
    lost = [Acknowledgement(*key, 0, 0, 0, 0) for key in sent if key not in log.applied]
    if not lost:
        return Check(name, True, f"all {len(sent):,} requests that were sent are applied")
    listed = tuple(LostRequest(*ack[:3]) for ack in lost[:LISTED])
    said = f"{len(lost):,} of {len(sent):,} requests were sent and are not applied, and no client was told: "
    return Check(name, False, said + _requests(lost) + " (ack none promises nothing)", listed)


def nodes_agree(nodes: Sequence[NodeEvidence], mismatches: int = 0, parting: str = "") -> Check:
    """Equal hashes of state and history at equal index, now and at every checkpoint that was published.

    ``parting``: where the logs of the nodes differ, if they do.
    """
    name = "nodes agree"
    if parting:
        return Check(name, False, f"{parting}; hashes differed at {counted(mismatches, 'checkpoint')}")
    if mismatches:
        return Check(name, False, f"nodes published different hashes at {counted(mismatches, 'checkpoint')}")
    if not nodes:
        return Check(name, None, "no node told its state: restart nodes until a majority runs, and judge again")
    if len({node.log_index for node in nodes}) > 1:
        where = ", ".join(f"{node.name} at {node.log_index}" for node in nodes)
        return Check(
            name, None, f"the nodes did not come to rest at one index: {where}. Judge again when none lags any more"
        )
    for what, values in (
        ("state", {node.name: node.state_hash for node in nodes}),
        ("history", {node.name: node.chain_hash for node in nodes}),
    ):
        if len(set(values.values())) > 1:
            return Check(name, False, f"{what} differs at index {nodes[0].log_index}: {_hashes(values)}")
    return Check(
        name,
        True,
        f"{counted(len(nodes), 'node')}, state hash {nodes[0].state_hash[:12]} at index {nodes[0].log_index:,}",
    )


def order_agrees(acknowledgements: Sequence[Acknowledgement]) -> Check:
    """A request that was answered before another one was sent stands before it in the log (linearizability's order).

    Each acknowledgement is compared with the largest index among all of its clock that had been answered when it was
    sent. Columns of numbers are sorted, and not millions of records: O(n log n).
    """
    name = "order agrees"
    times = ((ack.clock, ack.log_index, ack.invoked_ns, ack.completed_ns) for ack in acknowledgements)
    columns = np.fromiter(times, np.dtype((np.int64, 4)), len(acknowledgements)).T
    clocks = np.unique(columns[0])
    for clock in clocks:
        rows = np.flatnonzero(columns[0] == clock)
        if found := out_of_order(*columns[1:, rows]):
            ack, other = (acknowledgements[int(rows[at])] for at in found)
            return Check(
                name,
                False,
                f"request {other[:2]} was answered (index {other.log_index}) before request {ack[:2]} was sent, but "
                f"{ack[:2]} stands before it in the log (index {ack.log_index})",
            )
    apart = f", on each of {len(clocks)} clocks by itself" if len(clocks) > 1 else ""
    agree = counted(len(acknowledgements), "acknowledgement agrees", "acknowledgements agree")
    return Check(name, True, f"{agree} in real time with the log's order{apart}")


def answers_agree(acknowledgements: Sequence[Acknowledgement], log: Replayed) -> Check:
    """Each answer is the one that a naive order book gives when it replays the log."""
    name = "answers agree"
    wrong, compared = [], 0
    for ack in acknowledgements:
        crc = log.answers.get((ack.client_id, ack.request_number))
        if crc is None:
            continue
        compared += 1
        if crc != ack.answer_crc:
            wrong.append(ack)
    if wrong:
        return Check(name, False, f"{counted(len(wrong), 'answer')} unlike the naive book's: {_requests(wrong)}")
    if not compared:
        return Check(name, None, "no answer is among those that the naive book gave: replay more commands")
    return Check(
        name,
        True,
        f"{compared:,} of {len(acknowledgements):,} answers compared with the naive book's, over the first "
        f"{log.commands_replayed:,} of {log.commands_applied:,} commands",
    )


def reads_agree(
    reads: Sequence[BookRead], acknowledgements: Sequence[Acknowledgement], log: Replayed, last_index: int
) -> Check:
    """Each read is linearizable, and saw the book of a naive exchange at its index.

    A read stands behind all that was answered before it was invoked, requests and reads. A request that was sent after
    the read's answer stands behind the read.

    Args:
        reads: what was read.
        acknowledgements: all of the run.
        log: replayed with the reads' keys; a book that it lacks is not compared.
        last_index: the end of the log.
    """
    name = "reads agree"
    if not reads:
        return Check(name, None, "no node answered a query for a book")
    unknown = [read for read in reads if read.log_index > last_index]
    if unknown:
        return Check(name, False, f"{_read(unknown[0])} was read, but the log ends at index {last_index:,}")
    timed = [ack for ack in acknowledgements if ack.clock == 0]
    floors, ceilings = floors_of(reads, timed), ceilings_of(reads, timed)
    stale = [(floor - read.log_index, floor, read) for read, floor in zip(reads, floors, strict=True)]
    stale = [each for each in stale if each[0] > 0]
    if stale:
        _, floor, read = max(stale, key=lambda each: each[0])
        more = f"; {len(stale) - 1:,} more of {len(reads):,} reads are" if len(stale) > 1 else ""
        said = f"{_read(read)} is stale: index {floor:,} was answered before the query was sent{more}"
        return Check(name, False, said)
    for read, ceiling in zip(reads, ceilings, strict=True):
        if read.log_index >= ceiling:
            return Check(name, False, f"{_read(read)} is early: the request at index {ceiling:,} was sent after it")
    compared = [read for read in reads if read.key in log.books]
    wrong = [read for read in compared if log.books[read.key] != read.book_crc]
    if wrong:
        return Check(name, False, f"{counted(len(wrong), 'book')} unlike the naive one: {_read(wrong[0])}")
    return Check(
        name,
        True,
        f"{len(reads):,} linearizable reads were never stale; {len(compared):,} of them compared with the naive book",
    )


def _read(read: BookRead) -> str:
    return f"the book of {read.symbol} at index {read.log_index:,}"


def one_leader(leaders: Mapping[int, Collection[str]]) -> Check:
    """At most one node led in each term, as far as the nodes' metrics and events were seen."""
    name = "one leader a term"
    crowded = {term: names for term, names in leaders.items() if len(names) > 1}
    if crowded:
        term, names = min(crowded.items())
        return Check(name, False, f"in term {term} {joined(sorted(names))} led")
    if not leaders:
        return Check(name, None, "no node was heard to lead while the run went on")
    return Check(name, True, f"leaders seen in {counted(len(leaders), 'term')}")


def _requests(acknowledgements: Sequence[Acknowledgement]) -> str:
    """Requests of one client whose numbers follow each other are told as one run."""
    runs: list[list[Acknowledgement]] = []
    for ack in sorted(acknowledgements):
        if runs and ack[:2] == (runs[-1][-1].client_id, runs[-1][-1].request_number + 1):
            runs[-1].append(ack)
        else:
            runs.append([ack])
    return ", ".join(map(_run, runs[:SHOWN])) + (", ..." if len(runs) > SHOWN else "")


def _run(run: Sequence[Acknowledgement]) -> str:
    first, last = run[0], run[-1]
    if len(run) == 1:
        where = f" (index {first.log_index})" if first.log_index else ""
        return f"request {first.request_number} of client {first.client_id}{where}"
    where = f" (index {first.log_index} to {last.log_index})" if first.log_index else ""
    return f"requests {first.request_number} to {last.request_number} of client {first.client_id}{where}"


def _hashes(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value[:12]}" for name, value in values.items())


def outcome_of(checks: Iterable[Check]) -> Outcome:
    """A broken promise fails a run, whatever else is not known. Without any check nothing is known."""
    kept = [check.ok for check in checks]
    if False in kept:
        return "failed"
    return "not judged" if None in kept or not kept else "passed"


def outcomes_text(outcomes: Mapping[int, Outcome]) -> str:
    """How many of several groups have which outcome, with the numbers of those that did not pass."""
    told = []
    for outcome in ("failed", "not judged", "passed"):
        which = [group for group, each in outcomes.items() if each == outcome]
        names = "" if outcome == "passed" else f" ({', '.join(map(str, which))})"
        told += [f"{len(which)} {outcome}{names}"] if which else []
    return ", ".join(told)
