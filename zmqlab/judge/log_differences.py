"""Where the logs of two nodes part: asked only when nodes do not agree, to say from which index on.

All nodes are asked for their logs side by side, a piece at a time, from the oldest entry that all of them have. The
first index at which two of them hold different entries is the answer. Nodes that agree as far as both go have not
parted: one of them may only lag.

Left out: nodes of the same log and another state. The hashes tell of them, and no entry does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zmqlab.client import ask
from zmqlab.errors import FrameError, ZmqlabError
from zmqlab.judge.evidence import LogPiece, ask_for_log
from zmqlab.judge.replay import LogEntry
from zmqlab.raft.messages import EntryKind
from zmqlab.wire import client as wire
from zmqlab.wire.frames import REQUEST, parse_header

PIECE_BYTES = 1_048_576
"""One answer: some 25,000 orders."""
ASK_TIMEOUT_S = 3.0


class Parting(NamedTuple):
    """The first index at which logs differ."""

    log_index: int
    entries: Mapping[str, LogEntry]
    """Node -> what it has there."""

    def __str__(self) -> str:
        held = ", ".join(f"{name} has {describe(entry)}" for name, entry in self.entries.items())
        return f"the logs differ from index {self.log_index:,} on: there {held}"


def describe(entry: LogEntry) -> str:
    """What an entry is, for a person."""
    if entry.kind != EntryKind.DATA:
        return f"{EntryKind(entry.kind).name.lower().replace('_', '-')} of term {entry.term}"
    try:
        if parse_header(entry.data)[0] == REQUEST:
            client_id, number, *_ = wire.parse_request(entry.data)
            return f"request {number} of client {client_id}"
    except FrameError:
        return "bytes that are no request"
    return "a new session"


def where_logs_part(endpoints: Sequence[str], start: int = 1, group: int = 0) -> Parting | None:
    """Where the logs that the nodes at these client endpoints have of a group part; None if they agree as far as all of
    them go.

    A node that does not answer is left out. Entries before ``start`` are not looked at.
    """
    told = ask.statuses_of_group(endpoints, group, ASK_TIMEOUT_S)
    names = {endpoint: status.name for endpoint, status in told.items()}
    index = start
    while len(names) > 1:
        pieces = {name: piece for endpoint, name in names.items() if (piece := _piece(endpoint, index, group))}
        start = max((piece.first_index for piece in pieces.values()), default=1)
        if start > index:
            index = start
            continue
        logs = {name: piece.entries for name, piece in pieces.items()}
        common = min(map(len, logs.values()), default=0)
        for place in range(common):
            there = {name: entries[place] for name, entries in logs.items()}
            if len(set(there.values())) > 1:
                return Parting(index + place, dict(sorted(there.items())))
        if not common or len(logs) < 2:
            return None
        index += common
    return None


def _piece(endpoint: str, from_index: int, group: int) -> LogPiece | None:
    """Entries from ``from_index`` on; None if the node does not answer."""
    try:
        return ask_for_log(endpoint, from_index, PIECE_BYTES, ASK_TIMEOUT_S, group)
    except ZmqlabError:
        return None
