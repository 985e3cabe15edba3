"""The links between the nodes as a grid: a click cuts one direction, another one heals it.

A row is who speaks, a column is who hears. For the link that was clicked last, delay and loss can be set.
"""

from __future__ import annotations

from typing import Any

from zmqlab.lab.cluster import Cluster
from zmqlab.tables import html_table
from zmqlab.widgets.data import sampler_of
from zmqlab.widgets.palette import node_colour
from zmqlab.widgets.panel import Panel, script

DELAY_MS_MAX = 500


class PartitionMatrix(Panel):
    """See the module."""

    _esm = script("partition.js")

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._sampler = sampler_of(cluster)
        super().__init__(interval_s=0.3)
        self._unregister = self._sampler.on_tick(self.refresh)

    def make_state(self) -> dict[str, Any]:
        nodes = self._sampler.nodes
        return {
            "nodes": [{"name": name, "colour": node_colour(track.slot)} for name, track in nodes.items()],
            "leader": self._sampler.leader,
            "links": [
                {"source": source, "target": target, "cut": fault.cut, "delay_ms": fault.delay_ms, "loss": fault.loss}
                for (source, target), fault in sorted(self._cluster.links.items())
            ],
            "delay_ms_max": DELAY_MS_MAX,
            "alive": self._sampler.alive,
        }

    def html(self) -> str:
        names = [node["name"] for node in self._state["nodes"]]
        faults = self._cluster.links
        rows = [
            (source, *("" if source == target else str(faults.get((source, target), "whole")) for target in names))
            for source in names
        ]
        return html_table(("from \\ to", *names), rows)

    def close(self) -> None:
        """Take it from the page."""
        self._unregister()
        super().close()

    # -- actions -----------------------------------------------------------------------------------------------

    def do_toggle(self, source: str, target: str) -> None:
        fault = self._cluster.links.get((source, target))
        cut = not (fault is not None and fault.cut)
        self.act(f"link:{source}:{target}", lambda: self._cluster.link(source, target, cut=cut))

    def do_set(self, source: str, target: str, delay_ms: float, loss: float) -> None:
        self.act(
            f"link:{source}:{target}",
            lambda: self._cluster.link(source, target, delay_ms=float(delay_ms), loss=float(loss)),
        )

    def do_isolate(self, node: str) -> None:
        others = [name for name in self._cluster.nodes if name != node]
        self.act(f"isolate:{node}", lambda: self._cluster.partition([node], others))

    def do_isolate_leader(self) -> None:
        def isolate() -> None:
            leader = self._cluster.leader
            self._cluster.partition([leader], [name for name in self._cluster.nodes if name != leader])

        self.act("isolate_leader", isolate)

    def do_heal(self) -> None:
        self.act("heal", self._cluster.heal)
