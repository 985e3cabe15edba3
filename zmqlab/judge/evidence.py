"""Collecting what the verdict needs when a run has ended: what the client was told, the nodes' hashes, and the log.

The nodes are asked until all of them stand at the same applied index, for a bounded time: a follower may still be
catching up. Then the log up to that index is pulled from one node, piece by piece. A log that no longer begins at index
1 on one node may still do so on another. What was read along during the run
(:class:`~zmqlab.judge.log_collector.LogCollector`) counts first.

Where the nodes hold several Raft groups, each has a log and hashes of its own, and so each is asked for by its number.

Rules: evidence is taken from sockets and values, never from the object that ran the cluster: any nodes can be judged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple, overload

from zmqlab.client import ask
from zmqlab.errors import RequestError, ZmqlabError
from zmqlab.judge.promises import Acknowledgement, BookRead, NodeEvidence, RunTotals
from zmqlab.judge.replay import LogEntry
from zmqlab.load import load_messages as load_wire
from zmqlab.load.load_report import LoadReport
from zmqlab.load.order_flow import Rows
from zmqlab.load.run_record import read_ledger
from zmqlab.placement import group_of
from zmqlab.wire import control

if TYPE_CHECKING:
    from zmqlab.judge.log_collector import LogCollector

SETTLE_S = 10.0
"""A follower that was restarted replays its log in this time, unless the run was very long."""
SETTLE_POLL_S, ASK_TIMEOUT_S = 0.05, 3.0
PULL_BYTES = 1_048_576
"""One answer at the end of a run, when the nodes have nothing else to do."""
UNPACKED = 10_000
"""Records of a ledger that are unpacked at a time: 400 bytes each."""


class LogPiece(NamedTuple):
    """A log as one node gave it out."""

    first_index: int
    """The oldest entry that this node still has; 1 if it has all."""
    entries: Sequence[LogEntry]

    @property
    def end(self) -> int:
        """The index of the newest entry."""
        return self.first_index + len(self.entries) - 1


def ask_for_log(
    endpoint: str, from_index: int, max_bytes: int, timeout_s: float, group: int = 0, lines: ask.Lines | None = None
) -> LogPiece:
    """What a node has of its log from ``from_index`` on, as much as ``max_bytes`` hold; ``lines`` as in
    :func:`~zmqlab.client.ask.ask_all`.

    Raises:
        ZmqlabError: it does not answer, or refuses.
    """
    query = control.LogQuery(ask.new_nonce(), from_index=from_index, max_bytes=max_bytes)
    answer = ask.ask_one(endpoint, query, control.LogAnswer, timeout_s, group, lines)
    return LogPiece(answer.first_index, [LogEntry(*entry) for entry in answer.entries])


class Acknowledgements(Sequence[Acknowledgement]):
    """The ledger of a run, whose records are unpacked only as they are looked at."""

    def __init__(self, ledger: bytes, group: int | None = None) -> None:
        """``group``: the Raft group whose records count; None: all."""
        rows = read_ledger(ledger)
        self._rows: Rows = (rows if group is None else rows[rows["group"] == group])[list(Acknowledgement._fields)]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, position: int) -> Acknowledgement: ...
    @overload
    def __getitem__(self, position: slice) -> list[Acknowledgement]: ...
    def __getitem__(self, position: int | slice) -> Acknowledgement | list[Acknowledgement]:
        if isinstance(position, slice):
            return [Acknowledgement(*row) for row in self._rows[position].tolist()]
        return Acknowledgement(*self._rows[position].tolist())

    def __iter__(self) -> Iterator[Acknowledgement]:
        for start in range(0, len(self), UNPACKED):
            yield from self[start : start + UNPACKED]


def acknowledgements_of(outcome: load_wire.LoadResult) -> Acknowledgements:
    """What a load client was told, in the form that the verdict takes."""
    return Acknowledgements(outcome.ledger)


def totals_of_group(outcome: load_wire.LoadResult, group: int) -> RunTotals:
    """What a load client counted of one of several Raft groups."""
    share = next((each for each in outcome.groups if each.group == group), load_wire.GroupShare(group=group))
    owns = [each == group for each in outcome.client_groups]
    still_open = [each for each in outcome.open_requests if each.group == group]
    return RunTotals(
        client_ids=tuple(compress(outcome.client_ids, owns)),
        requests=share.requests,
        acknowledged=share.acknowledged,
        unanswered=sum(each.orders for each in still_open),
        open_requests=len(still_open),
        unsent=0,
        served_to_the_end=True,
        problem=outcome.problem,
        unwaited=tuple(compress(outcome.requests_sent, owns)),
    )


def totals_of(outcome: load_wire.LoadResult) -> RunTotals:
    """What a load client counted, remembered or not."""
    report = LoadReport(outcome)
    late = (each for each in outcome.seconds if each.start_s + each.length_s >= outcome.sending_s - 1)
    return RunTotals(
        client_ids=tuple(outcome.client_ids),
        requests=outcome.total.requests,
        acknowledged=outcome.total.acknowledged,
        refused=outcome.total.refused,
        unanswered=report.unanswered,
        open_requests=len(outcome.open_requests),
        unsent=report.unsent,
        served_to_the_end=any(each.counters.acknowledged for each in late),
        problem=outcome.problem,
        unwaited=tuple(outcome.requests_sent),
    )


def book_reads_of(outcome: load_wire.LoadResult, group: int | None = None) -> list[BookRead] | None:
    """The books that a load client read, of one group or of all; None if it was not to read any."""
    if not outcome.settings.get("book_reads"):
        return None
    shards = outcome.settings.get("shards", 1)
    return [
        BookRead(each.symbol, each.levels, each.log_index, each.invoked_ns, each.completed_ns, each.crc)
        for each in outcome.book_reads
        if group is None or group_of(each.symbol, shards) == group
    ]


def settle(endpoints: Sequence[str], timeout_s: float = SETTLE_S, group: int = 0) -> list[NodeEvidence]:
    """What all living nodes of a group say once they stand at one index, or what they say when the time is up.

    Where none lives, nothing is waited for.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        nodes = _look(endpoints, group)
        together = len(nodes) == len(endpoints) and len({node.log_index for node in nodes}) <= 1
        if together or time.monotonic() > deadline:
            return nodes
        time.sleep(SETTLE_POLL_S)


def pull_log(
    endpoints: Sequence[str], last_index: int, collector: LogCollector | None = None, group: int = 0
) -> LogPiece:
    """The entries of a group up to ``last_index``: what was collected in the run if that has all of them and no node
    said otherwise, else from the first node that has all, else from where there are most.

    Raises:
        ZmqlabError: no node gives its log.
    """
    best: LogPiece | None = None
    if collector is not None:
        collected = collector.catch_up(endpoints, last_index)
        first_index = collector.log.first_index
        if collected and first_index + len(collected) == last_index + 1 and not collector.conflicts:
            best = LogPiece(first_index, collected)
            if first_index == 1:
                return best
    problem: ZmqlabError = RequestError("no node to take the log from")
    for endpoint in endpoints:
        try:
            piece = _pull(endpoint, last_index, group)
        except ZmqlabError as error:
            problem = error
            continue
        if piece.first_index <= 1 and len(piece.entries) == last_index:
            return piece
        if best is None or (piece.first_index, -len(piece.entries)) < (best.first_index, -len(best.entries)):
            best = piece
    if best is None:
        raise problem
    return best


def _look(endpoints: Sequence[str], group: int) -> list[NodeEvidence]:
    """One round of questions; a node counts if its status and its hashes are of the same index."""
    nonce = ask.new_nonce()
    hashes = ask.ask_all(endpoints, lambda _: control.HashQuery(nonce=nonce), ASK_TIMEOUT_S, group=group)
    statuses = ask.statuses_of_group(endpoints, group, ASK_TIMEOUT_S)
    newest = max(statuses.values(), key=lambda status: status.applied_index, default=None)
    voting = {member.node_id for member in newest.members if member.voter} if newest is not None else set()
    found = []
    for endpoint, answer in hashes.items():
        status = statuses.get(endpoint)
        if isinstance(answer, control.HashAnswer) and status is not None and status.applied_index == answer.index:
            said = (status.name, answer.index, answer.chain_hash, answer.state_hash, status.orders_applied)
            voters = sum(member.voter for member in status.members)
            found.append(NodeEvidence(*said, voters, not voting or status.node_id in voting))
    return sorted(found)


def _pull(endpoint: str, last_index: int, group: int) -> LogPiece:
    """What one node has up to ``last_index``. If it compacts its log meanwhile, then only what follows: no gap."""
    entries: list[LogEntry] = []
    next_index = first_index = 1
    while next_index <= last_index:
        piece = ask_for_log(endpoint, next_index, PULL_BYTES, ASK_TIMEOUT_S, group)
        is_compacted = piece.first_index > next_index
        if is_compacted:
            entries.clear()
            first_index = next_index = piece.first_index
        fitting = [entry for entry in piece.entries if next_index <= entry.log_index <= last_index]
        if fitting:
            entries += fitting
            next_index = fitting[-1].log_index + 1
        elif not is_compacted:
            break
    return LogPiece(first_index, entries)
