"""What one row of the sampler says where the nodes hold several Raft groups: who leads how many, who is how far behind.

A node has one line and one colour in the panel, and its groups differ. So a node's lag is that of the group in which it
is furthest behind, and its place in the stack of leaders is as thick as it leads groups. The stack is as high as there
are groups, less those that no node leads.

Left out on purpose: interpolating the leader's commit index between two of its snapshots, as :mod:`zmqlab.widgets.
readings` does for one group. A group has a share of the entries only, and so 100 ms of them are few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zmqlab.client.roster import leader_of
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wording import numbered

LEAD_COLUMNS = ("led", "lead_low", "lead_top")
"""Of each slot: how many groups its node leads, and from where to where its part of the stack reaches."""
LATE_ENTRIES = 500
"""A node with more entries to apply in a group catches up."""


class GroupRow(NamedTuple):
    """One group at one moment."""

    number: int
    leader: str
    """Empty: no node that is heard leads it."""
    term: int
    """The highest that a node has told."""
    lags: dict[str, int]
    """Node -> entries that are committed and that it has not applied; of the nodes that hold the group."""


class GroupReadings:
    """The groups, as nodes have published them last. Replaced as a whole, so that any thread may read it."""

    def __init__(self, rows: Sequence[GroupRow] = (), commit_lags: Mapping[str, int] | None = None) -> None:
        self.rows = tuple(rows)
        self._commit_lags = commit_lags or {}

    @classmethod
    def of(cls, told: Mapping[int, Mapping[str, NodeStatus]], fresh: Sequence[str]) -> GroupReadings:
        """From the statuses of each group, by node; only ``fresh`` nodes count as leaders."""
        rows, commit_lags = [], dict[str, int]()
        for number, statuses in told.items():
            end = max((status.commit_index for status in statuses.values()), default=0)
            leader = leader_of({name: status for name, status in statuses.items() if name in fresh})
            term = max((status.term for status in statuses.values()), default=0)
            lags = {name: end - status.applied_index for name, status in statuses.items()}
            rows.append(GroupRow(number, leader or "", term, lags))
            for name, status in statuses.items():
                commit_lags[name] = max(commit_lags.get(name, 0), end - status.commit_index)
        return cls(rows, commit_lags)

    def in_group(self, number: int) -> tuple[str, Mapping[str, int]]:
        """The leader of one group, and by how many entries each of its nodes is behind."""
        return next(((row.leader, row.lags) for row in self.rows if row.number == number), ("", {}))

    def led_by(self, name: str) -> int:
        """How many groups a node leads."""
        return sum(row.leader == name for row in self.rows)

    def behind(self, name: str) -> tuple[int, int]:
        """By how many entries a node's commit index and its applied index are behind, where these are most."""
        return self._commit_lags.get(name, 0), max((row.lags.get(name, 0) for row in self.rows), default=0)

    def columns(self, slots: Mapping[str, int]) -> dict[str, float]:
        """The columns of a row; ``slots``: by node."""
        row: dict[str, float] = {}
        low = 0
        for name, slot in sorted(slots.items(), key=lambda item: item[1]):
            led = self.led_by(name)
            row |= {f"led{slot}": led, f"lead_low{slot}": low, f"lead_top{slot}": low + led}
            low += led
        return row

    def said(self) -> str:
        """In words: who leads how many groups, and which have no leader."""
        names = sorted({row.leader for row in self.rows} - {""})
        led = ", ".join(f"{name} leads {self.led_by(name)}" for name in names) or "no node leads"
        without = [row.number for row in self.rows if not row.leader]
        return led + (f"; no leader: {numbered('group', without)}" if without else "")
