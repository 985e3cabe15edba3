"""The consistency strip: a row for each node with its hashes over the log's last stretch, red from where nodes differ.

What is known, and what is not, is decided in :mod:`zmqlab.lab.consistency`. When nodes part, their logs are compared
once, in a thread, so that the strip can name the first index.
"""

from __future__ import annotations

from typing import Any

from zmqlab.judge.log_differences import Parting
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.consistency import Strip, exactly_from, said_of_groups, strip_of
from zmqlab.widgets.group_readings import GroupRow
from zmqlab.widgets.palette import node_colour
from zmqlab.widgets.panel import Panel, script

HASH_DIGITS = 8
"""Enough to see by eye that two hashes differ."""


class ConsistencyStrip(Panel):
    """Whether the nodes have the same state; see the module."""

    _esm = script("consistency_strip.js")

    def __init__(self, cluster: Cluster) -> None:
        self._asked_for = 0
        """The checkpoint at which the nodes had parted when their logs were asked for."""
        self._parting: Parting | None = None
        self._of_group, self._said = 0, ""
        """Which of several groups is shown, and what is said of all of them."""
        super().__init__(cluster)

    def make_state(self) -> dict[str, Any]:
        """``said``, ``agrees``, the ``columns`` and a row for each of the ``nodes``."""
        strip = self._strip()
        slots = {name: track.slot for name, track in self._sampler.nodes.items()}
        return {
            "said": self._said or strip.said,
            "agrees": strip.agrees,
            "columns": list(strip.columns),
            "nodes": [
                {
                    "name": row.name,
                    "colour": node_colour(slots[row.name]),
                    "applied": row.applied_index,
                    "hash": row.chain_hash[:HASH_DIGITS],
                    "cells": [str(cell) for cell in row.cells],
                }
                for row in strip.rows
            ],
        }

    def html(self) -> str:
        """The same as text."""
        return self._strip()._repr_html_()

    def _strip(self) -> Strip:
        """With several Raft groups that of the first one in which nodes have parted, else of the first."""
        feed, groups = self._sampler.feed, self._sampler.groups
        if groups is None:
            self._of_group, self._said = 0, ""
            return strip_of([*self._sampler.nodes], feed.newest(), feed.checkpoints(), self._parting)
        strips = {row.number: self._strip_of(row) for row in groups.rows}
        chosen = next((number for number, strip in strips.items() if strip.agrees is False), 0)
        self._of_group, self._said = chosen, f"{said_of_groups(strips)} (shown: group {chosen})"
        return strips[chosen]

    def _strip_of(self, row: GroupRow) -> Strip:
        feed = self._sampler.feed
        holders = [name for name in self._sampler.nodes if name in row.lags]
        return strip_of(holders, feed.newest(row.number), feed.checkpoints(row.number), self._parting)

    def _tick(self) -> None:
        super()._tick()
        if self._state["agrees"] is False and not self._sampler.ended:
            self._compare_logs()

    def _compare_logs(self) -> None:
        strip = self._strip()
        if strip.parted_index != self._asked_for:
            self._asked_for, self._parting = strip.parted_index, None
            self.act("compare logs", lambda: self._find(strip))

    def _find(self, strip: Strip) -> None:
        self._parting = exactly_from(strip, self._cluster.living_endpoints, self._of_group).parting
