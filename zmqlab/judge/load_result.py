"""What a run under load gives back: the client's figures, the nodes at the end, the verdict.

Nothing is computed here: the object holds what it was given, and shows itself as text and as HTML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zmqlab.judge.verdict import Verdict
from zmqlab.load import load_messages as metrics
from zmqlab.load.load_report import LatencySummary, LoadReport
from zmqlab.tables import StatusTable, html_table, text_table

NODE_HEAD = ("node", "state", "role", "term", "orders taken", "applied index", "state hash")


class LoadResult:
    """The result of one :class:`~zmqlab.lab.load_client.LoadClient`.

    Every figure is explained in docs/measuring.md; ``report`` has all of the load client's.
    """

    def __init__(self, result: metrics.LoadResult, verdict: Verdict, nodes: StatusTable, elections: int) -> None:
        self.report = LoadReport(result)
        self.verdict = verdict
        self.nodes = nodes
        """All nodes as they were after the run."""
        self.elections = elections
        """Terms in which a leader was seen; the first one, at a cluster's start, included."""

    @property
    def throughput(self) -> float:
        """Orders acknowledged a second."""
        return self.report.throughput

    @property
    def response_time(self) -> LatencySummary:
        """From the intended send to the answer."""
        return self.report.response_time

    @property
    def service_time(self) -> LatencySummary:
        """From the actual send to the answer."""
        return self.report.service_time

    @property
    def total(self) -> metrics.LoadCounters:
        """Orders offered, sent, acknowledged, rejected, filled, and the rest of the counters."""
        return self.report.result.total

    @property
    def longest_gap_ms(self) -> float:
        """The longest time in which a client waited for answers and none came."""
        return self.report.result.longest_gap_ms

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before believing the figures."""
        return self.report.warnings

    def export_hdr(self, path: str | Path) -> None:
        """Write the latencies, second by second, as an HdrHistogram V2 log."""
        self.report.export_hdr(path)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.report.to_dict() | {
            "elections": self.elections,
            "nodes": [node.as_dict() for node in self.nodes],
            "verdict": self.verdict.as_dict(),
        }

    def __repr__(self) -> str:
        nodes = text_table(NODE_HEAD, self._node_rows())
        elections = f"{'elections':<14} {self.elections}"
        return f"{self.report!r}\n{elections}\n\n{nodes}\n\n{self.verdict!r}"

    def _repr_html_(self) -> str:
        nodes = html_table(NODE_HEAD, self._node_rows())
        return f"{self.report._repr_html_()}<p>elections: {self.elections}</p>{nodes}{self.verdict._repr_html_()}"

    def _node_rows(self) -> list[tuple[object, ...]]:
        hashes = {node.name: node.state_hash[:12] for node in self.verdict.nodes}
        rows: list[tuple[object, ...]] = []
        for node in self.nodes:
            status = node.status
            if status is None:
                rows.append((node.name, node.state, *("-",) * 5))
            else:
                taken, applied = f"{status.orders_taken:,}", f"{status.applied_index:,}"
                rows.append(
                    (node.name, node.state, status.role, status.term, taken, applied, hashes.get(node.name, "-"))
                )
        return rows
