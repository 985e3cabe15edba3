"""What the nodes of a cluster have published last, by node and by Raft group.

A node publishes a status of each group that it holds (:class:`~zmqlab.wire.node_status.NodeStatus`). What is of a group
is kept by group: who led in which term, and the hash chains at checkpoints. Terms and log indexes of two groups have
nothing to do with each other. What is of the process, as its memory, stands in all statuses of a node alike.

The promise "nodes that applied the same index have the same state" is checked all the time: chains of a group at equal
index are compared.

Rules: bounded; no clock (the time is handed in) and no lock: its owner has both.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from zmqlab.wire.node_status import NodeStatus

CHECKPOINTS = 2_000
"""Checkpoints and terms that are kept of each group. At 256 log entries a checkpoint, half a million entries."""
MISMATCHES = 2_000


class Mismatch(NamedTuple):
    """Two nodes with different hash chains of one group at the same log index: a broken promise."""

    log_index: int
    hashes: dict[str, str]
    """Node name -> chain hash, in hex."""
    group: int = 0

    def __str__(self) -> str:
        hashes = ", ".join(f"{name} {value[:12]}" for name, value in sorted(self.hashes.items()))
        return f"state differs at index {self.log_index}: {hashes}"


ADDED_UP = (
    *("orders_taken", "orders_applied", "rejected_total", "fills_total", "elections_total", "open_orders"),
    *("sessions", "pending_requests", "log_bytes", "journal_bytes", "snapshots_total"),
)
"""Figures of a group that make a figure of the node when they are added."""


def over_groups(statuses: Sequence[NodeStatus]) -> NodeStatus:
    """A node's statuses of the groups that it holds as one: what is counted is added up, and the lag is the largest.

    It leads if it leads any group, and knows a leader if it knows one of each. There is no term of a node, and so it is
    0. Indexes and hashes are of the first group, and mean nothing for the others.
    """
    if len(statuses) == 1:
        return statuses[0]
    leads = any(status.role == "leader" for status in statuses)
    figures = {name: sum(getattr(status, name) for status in statuses) for name in ADDED_UP}
    return msgspec.structs.replace(
        statuses[0],
        role="leader" if leads else statuses[0].role,
        term=0,
        leader_id=statuses[0].leader_id if all(status.leader_id for status in statuses) else 0,
        lag=max(status.lag for status in statuses),
        time_ns=max(status.time_ns for status in statuses),
        **figures,
    )


class _Group:
    """What is kept of one group."""

    def __init__(self) -> None:
        self.newest: dict[str, NodeStatus] = {}
        self.leaders: OrderedDict[int, set[str]] = OrderedDict()
        self.checkpoints: OrderedDict[int, dict[str, str]] = OrderedDict()

    def note_leader(self, term: int, name: str) -> None:
        self.leaders.setdefault(term, set()).add(name)
        while len(self.leaders) > CHECKPOINTS:
            self.leaders.popitem(last=False)

    def note_checkpoint(self, status: NodeStatus) -> Mismatch | None:
        """Keep a checkpoint; the mismatch if it contradicts another node's for the first time."""
        if not status.hash_index or not status.chain_hash:
            return None
        hashes = self.checkpoints.setdefault(status.hash_index, {})
        if hashes.get(status.name) == status.chain_hash:
            return None
        hashes[status.name] = status.chain_hash
        while len(self.checkpoints) > CHECKPOINTS:
            self.checkpoints.popitem(last=False)
        if len(set(hashes.values())) == 1:
            return None
        return Mismatch(status.hash_index, dict(hashes), status.group)


class Published:
    """See the module."""

    def __init__(self, shards: int = 1) -> None:
        self.shards = shards
        """How many groups share the symbols, by the newest status."""
        self.mismatches: deque[Mismatch] = deque(maxlen=MISMATCHES)
        """Every checkpoint at which nodes disagreed."""
        self.heard_s: dict[str, float] = {}
        """When the newest snapshot of each node came."""
        self._groups: dict[int, _Group] = {}

    def take(self, status: NodeStatus, now_s: float) -> Mismatch | None:
        """A node has published; the mismatch, if it has broken that promise."""
        self.shards = status.shards
        self.heard_s[status.name] = now_s
        if status.groups:
            held = {brief.number for brief in status.groups}
            for number, other in self._groups.items():
                if number not in held:
                    other.newest.pop(status.name, None)
        group = self._group(status.group)
        group.newest[status.name] = status
        if status.role == "leader":
            group.note_leader(status.term, status.name)
        mismatch = group.note_checkpoint(status)
        if mismatch is not None:
            self.mismatches.append(mismatch)
        return mismatch

    def note_leader(self, group: int, term: int, name: str) -> None:
        """A node says that it was elected."""
        self._group(group).note_leader(term, name)

    def forget(self, name: str) -> None:
        """Drop the newest snapshots of a node that no longer runs."""
        self.heard_s.pop(name, None)
        for group in self._groups.values():
            group.newest.pop(name, None)

    def newest(self, group: int | None = None) -> dict[str, NodeStatus]:
        """The newest status of each node in this group; None: over all groups that the node holds."""
        if group is not None:
            return dict(self._groups[group].newest) if group in self._groups else {}
        found: dict[str, list[NodeStatus]] = {}
        for _, each in sorted(self._groups.items()):
            for name, status in each.newest.items():
                found.setdefault(name, []).append(status)
        return {name: over_groups(statuses) for name, statuses in found.items()}

    def leaders(self, group: int) -> dict[int, frozenset[str]]:
        """Term -> the nodes that said that they led in it."""
        known = self._groups.get(group)
        return {term: frozenset(names) for term, names in known.leaders.items()} if known else {}

    def checkpoints(self, group: int) -> dict[int, dict[str, str]]:
        """Log index -> node name -> chain hash, as published."""
        known = self._groups.get(group)
        return {index: dict(hashes) for index, hashes in known.checkpoints.items()} if known else {}

    def endpoints_of(self, group: int) -> dict[str, str]:
        """Node -> where clients reach it, of the nodes that hold the group."""
        told = ((name, status) for name, status in self.newest(group).items() if status.address)
        return {name: status.client_endpoint for name, status in told}

    def _group(self, number: int) -> _Group:
        return self._groups.setdefault(number, _Group())
