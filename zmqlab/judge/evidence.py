"""Collecting what the verdict needs: from the client what it was told, from the living nodes their hashes and the log.

Nodes are asked until all of them stand at the same applied index, for a bounded time: a follower may still be catching
up when a run ends. Then the log up to that index is pulled from one node, piece by piece. A log that no longer begins
at index 1 on one node may still do so on another.

Rules: evidence is taken from sockets and values, never from the object that ran the cluster, so a verdict can be passed
on nodes that another process started.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from zmqlab.client import ask
from zmqlab.errors import RequestError, ZmqlabError
from zmqlab.judge.collector import LogCollector
from zmqlab.judge.promises import Acknowledgement, BookRead, NodeEvidence
from zmqlab.judge.replay import LogEntry
from zmqlab.load import load_messages as load_wire
from zmqlab.load.measurement import read_ledger
from zmqlab.wire import control

SETTLE_S = 10.0
"""A follower that was restarted replays its log in this time, unless the run was very long."""
ASK_TIMEOUT_S = 3.0
POLL_S = 0.05
PIECE_BYTES = 1_048_576


class LogPiece(NamedTuple):
    """A log as one node gave it out."""

    first_index: int
    """The oldest entry that this node still has; 1 if it has all."""
    entries: Sequence[LogEntry]


def acknowledgements_of(outcome: load_wire.LoadResult) -> list[Acknowledgement]:
    """What a load client was told: the ledger of its run, in the form that the verdict takes."""
    rows = read_ledger(outcome.ledger)
    names = ("client_id", "request_number", "log_index", "invoked_ns", "completed_ns", "answer_crc")
    columns = (rows[name].tolist() for name in names)
    return [Acknowledgement(*row) for row in zip(*columns, strict=True)]


def book_reads_of(outcome: load_wire.LoadResult) -> list[BookRead] | None:
    """The books that a load client read, or None if it was not to read any."""
    if not outcome.settings.get("book_reads"):
        return None
    return [
        BookRead(each.symbol, each.levels, each.log_index, each.invoked_ns, each.completed_ns, each.crc)
        for each in outcome.book_reads
    ]


def settle(endpoints: Sequence[str], timeout_s: float = SETTLE_S) -> list[NodeEvidence]:
    """What all living nodes say once they stand at one index, or what they say when the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        nodes = _look(endpoints)
        together = len(nodes) == len(endpoints) and len({node.log_index for node in nodes}) == 1
        if together or time.monotonic() > deadline:
            return nodes
        time.sleep(POLL_S)


def pull_log(endpoints: Sequence[str], last_index: int, collector: LogCollector | None = None) -> LogPiece:
    """The entries up to ``last_index``: what was collected during the run if that is complete, else from the first
    node that has all of them, else from the one that has most.

    Raises:
        ZmqlabError: no node gives its log.
    """
    if collector is not None:
        collected = collector.catch_up(endpoints, last_index)
        if len(collected) == last_index:
            return LogPiece(1, collected)
    best: LogPiece | None = None
    problem: ZmqlabError = RequestError("no node to take the log from")
    for endpoint in endpoints:
        try:
            piece = _pull(endpoint, last_index)
        except ZmqlabError as error:
            problem = error
            continue
        if piece.first_index <= 1:
            return piece
        if best is None or piece.first_index < best.first_index:
            best = piece
    if best is None:
        raise problem
    return best


def _look(endpoints: Sequence[str]) -> list[NodeEvidence]:
    """One round of questions; a node counts if its status and its hashes are of the same index."""
    nonce = ask.new_nonce()
    hashes = ask.ask_all(endpoints, lambda _: control.HashQuery(nonce=nonce), ASK_TIMEOUT_S)
    statuses = ask.statuses(endpoints, ASK_TIMEOUT_S)
    found = []
    for endpoint, answer in hashes.items():
        status = statuses.get(endpoint)
        if isinstance(answer, control.HashAnswer) and status is not None and status.applied_index == answer.index:
            evidence = (answer.index, answer.chain_hash, answer.state_hash, status.orders_applied)
            found.append(NodeEvidence(status.name, *evidence))
    return sorted(found)


def _pull(endpoint: str, last_index: int) -> LogPiece:
    entries: list[LogEntry] = []
    next_index = 1
    first_index = 0
    while next_index <= last_index:
        query = control.LogQuery(ask.new_nonce(), from_index=next_index, max_bytes=PIECE_BYTES)
        answer = ask.ask_one(endpoint, query, control.LogAnswer, ASK_TIMEOUT_S)
        if not first_index:
            first_index = max(1, answer.first_index)
        if not answer.entries:
            if next_index < answer.first_index:
                next_index = answer.first_index
                continue
            break
        piece = [LogEntry(*entry) for entry in answer.entries]
        entries += [entry for entry in piece if next_index <= entry.log_index <= last_index]
        next_index = piece[-1].log_index + 1
    return LogPiece(first_index, entries)
