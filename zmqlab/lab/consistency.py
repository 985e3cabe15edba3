"""Whether the nodes have the same state, and from which index on they do not: the consistency strip, as data and text.

Each node publishes the hash of its chain at every 256th entry of the log (:mod:`zmqlab.replica.machine`). The chain
covers all entries and answers up to there. So two nodes with different hashes at one index have differed at
or before it, and all of their later hashes differ, too. The strip has a row for each node and a column for each of the
last checkpoints of which two nodes have told.

*Who is right* can't be seen from hashes. A cell is called different if its hash is not that of the single largest
group of nodes; without such a group all cells of the column are.

*The first index.* Checkpoints say it to 256 entries: after the last column in which all agree, at the latest at the
first in which they do not. :func:`exactly_from` asks the nodes for their logs from there on, and compares entries. For
nodes of one log and different answers there is no such index; then it stays a range.

It says *not known* where a node has told nothing: it is down, has not come so far, or has published another checkpoint.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from zmqlab.judge.log_differences import Parting, where_logs_part
from zmqlab.replica.machine import CHECKPOINT_INTERVAL
from zmqlab.wire.node_status import NodeStatus

COLUMNS = 24
"""Checkpoints that are shown: 6,144 entries, a few seconds at full rate."""


class Cell(StrEnum):
    """What is known of one node at one checkpoint."""

    SAME = "same"
    DIFFERS = "differs"
    BEHIND = "behind"
    """The node has not applied that entry."""
    UNKNOWN = "unknown"


SIGNS = {Cell.SAME: "=", Cell.DIFFERS: "X", Cell.BEHIND: ".", Cell.UNKNOWN: "?"}


class Row(NamedTuple):
    """One node."""

    name: str
    applied_index: int | None
    """None: it has told nothing."""
    chain_hash: str
    """Of its newest checkpoint, in hex; empty: it has none."""
    cells: tuple[Cell, ...]


class Strip(NamedTuple):
    """All nodes; shows itself as text and as HTML."""

    columns: tuple[int, ...]
    """Log indexes of the checkpoints."""
    rows: tuple[Row, ...]
    agreed_index: int
    """A checkpoint at which all nodes that told of it have one hash; 0: none is known. If nodes have parted it is the
    last one before that, at which all of those had one hash; else the newest of those that most nodes told of."""
    parted_index: int
    """The first checkpoint at which nodes differ; 0: none is known."""
    told: int
    """How many of the nodes have told a hash at ``agreed_index``."""
    parting: Parting | None = None
    """Where their logs part, if they were asked. Behind :attr:`parted_index`: a node that differs first has ended."""

    @property
    def agrees(self) -> bool | None:
        """Whether the nodes agree; None: it is not known."""
        if self.parted_index:
            return False
        return True if self.agreed_index else None

    @property
    def said(self) -> str:
        """The answer in a sentence."""
        if self.parted_index:
            if self.parting is not None and self.parting.log_index <= self.parted_index:
                return f"the nodes have parted: {self.parting}"
            where = f"after index {self.agreed_index:,}, and at" if self.agreed_index else "at"
            said = f"the nodes have parted {where} {self.parted_index:,} or before: there their hashes differ"
            return said if self.parting is None else f"{said}; of the nodes that answer now, {self.parting}"
        if not self.agreed_index:
            return (
                "not known whether the nodes agree: no two of them have told a hash at one index yet"
                f" (each tells one at every {CHECKPOINT_INTERVAL}th entry)"
            )
        everyone = "both" if self.told == 2 else f"all {self.told}"
        count = f"{self.told} of {len(self.rows)}" if self.told < len(self.rows) else everyone
        return f"{count} nodes have the same state at index {self.agreed_index:,}"

    def __repr__(self) -> str:
        width = max((len(row.name) for row in self.rows), default=0)
        lines = [f"{row.name:{width}}  {''.join(SIGNS[cell] for cell in row.cells)}" for row in self.rows]
        return "\n".join([self.said, *(lines if self.columns else [])])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def strip_of(
    nodes: Collection[str],
    statuses: Mapping[str, NodeStatus],
    checkpoints: Mapping[int, Mapping[str, str]],
    parting: Parting | None = None,
) -> Strip:
    """The strip of what ``nodes`` have told.

    Args:
        nodes: the names of those that are asked about.
        statuses: by name, of those that have told one.
        checkpoints: log index -> node -> hash of its chain.
        parting: where logs part, if that was asked (:func:`exactly_from`).
    """
    known = {index: {name: told[name] for name in nodes if name in told} for index, told in checkpoints.items()}
    shared = sorted(index for index, told in known.items() if len(told) > 1)
    parted = next((index for index in shared if len(set(known[index].values())) > 1), 0)
    columns = tuple(shared[-COLUMNS:])
    if parted:
        concerned = known[parted].keys()
        agreed = max((index for index in shared if index < parted and concerned <= known[index].keys()), default=0)
    else:
        agreed = max(columns, key=lambda index: (len(known[index]), index), default=0)
    common = {index: _of_most(known[index]) for index in columns}
    rows = tuple(
        Row(
            name,
            statuses[name].applied_index if name in statuses else None,
            statuses[name].chain_hash if name in statuses else "",
            tuple(_cell(known[index].get(name, ""), common[index], index, statuses.get(name)) for index in columns),
        )
        for name in nodes
    )
    return Strip(columns, rows, agreed, parted, len(known.get(agreed, ())), parting)


def strip_of_statuses(statuses: Sequence[NodeStatus]) -> Strip:
    """The strip of a single status of each node: one checkpoint each."""
    checkpoints: dict[int, dict[str, str]] = {}
    for status in statuses:
        if status.hash_index:
            checkpoints.setdefault(status.hash_index, {})[status.name] = status.chain_hash
    by_name = {status.name: status for status in statuses}
    return strip_of(by_name, by_name, checkpoints)


def said_of_groups(strips: Mapping[int, Strip]) -> str:
    """Of several Raft groups: the answer in a sentence. Their states are compared group by group."""
    parted = {group: strip for group, strip in strips.items() if strip.agrees is False}
    if parted:
        return "; ".join(f"in group {group} {strip.said}" for group, strip in parted.items())
    agreeing = sum(strip.agrees is True for strip in strips.values())
    if agreeing == len(strips):
        return f"in each of {agreeing} groups the nodes have the same state"
    said = f"in {agreeing} of {len(strips)} groups the nodes have the same state"
    return f"{said}; of the others that is not known: no two nodes have told a hash at one index yet"


def exactly_from(strip: Strip, endpoints: Sequence[str], group: int = 0) -> Strip:
    """The same strip with the first index at which logs differ, asked of the nodes at these client endpoints.

    Takes a few round trips for each MiB of the log that is compared; it begins after the last checkpoint that agrees.
    """
    return (
        strip._replace(parting=where_logs_part(endpoints, strip.agreed_index + 1, group))
        if strip.parted_index
        else strip
    )


def _of_most(told: Mapping[str, str]) -> str:
    """The hash of the single largest group of nodes; empty if there is none."""
    counts = Counter(told.values()).most_common(2)
    return "" if len(counts) > 1 and counts[0][1] == counts[1][1] else counts[0][0]


def _cell(told: str, common: str, index: int, status: NodeStatus | None) -> Cell:
    if told:
        return Cell.SAME if told == common else Cell.DIFFERS
    return Cell.BEHIND if status is not None and status.applied_index < index else Cell.UNKNOWN
