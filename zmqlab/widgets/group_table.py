"""Several Raft groups as a table: a row a group, a column a node, and in the cell how far the node is behind there.

The leader's cell has a crown; an empty cell means that the node does not hold the group. Where one node's line lags,
the table says in which of its groups. A page shows it when it is opened, because most of the time the stack of leaders
(:class:`~zmqlab.widgets.time_charts.GroupLeads`) says enough.
"""

from __future__ import annotations

from typing import Any

from zmqlab.lab.cluster import Cluster
from zmqlab.tables import html_table
from zmqlab.widgets.cluster_controls import mark_of
from zmqlab.widgets.panel import Panel, script


class GroupTable(Panel):
    """See the module."""

    _esm = script("group_table.js")

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, interval_s=0.5)

    def make_state(self) -> dict[str, Any]:
        """``nodes``: the columns; ``groups``: the rows, each with its leader, its term and the lag at each node."""
        groups, load = self._sampler.groups, self._sampler.load
        silent = {} if load is None else {share.group: share.silence_ms for share in load.groups}
        return {
            "nodes": [mark_of(name, track) for name, track in self._sampler.nodes.items()],
            "groups": [
                {
                    "number": row.number,
                    "leader": row.leader,
                    "term": row.term,
                    "lags": row.lags,
                    "waits_ms": round(silent.get(row.number, 0.0)),
                }
                for row in (groups.rows if groups is not None else ())
            ],
            "said": groups.said() if groups is not None else "",
            "ended": self._sampler.ended,
        }

    def html(self) -> str:
        """The same as a table of words."""
        names = [node["name"] for node in self._state["nodes"]]
        if not self._state["groups"]:
            return ""
        rows = [
            (group["number"], group["leader"] or "-", group["term"], *(group["lags"].get(name, "") for name in names))
            for group in self._state["groups"]
        ]
        return html_table(("group", "leader", "term", *names), rows)
