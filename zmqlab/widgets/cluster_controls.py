"""The nodes as a table: what each is and does, and what can be done to it."""

from __future__ import annotations

import time
from typing import Any

from zmqlab.cluster.cluster import Cluster
from zmqlab.cluster.feed import MetricsFeed
from zmqlab.cluster.tables import html_table
from zmqlab.widgets.palette import node_colour
from zmqlab.widgets.panel import Panel, script
from zmqlab.widgets.sampler import STALE_S, NodeTrack, sampler_of

SCALE_MAX = 9
HEAD = ("node", "role", "term", "applied", "lag", "state hash", "orders/s", "CPU %", "memory MiB")
HASH_DIGITS = 8


class NodeTable(Panel):
    """One row a node, with buttons; above them what is done to the cluster as a whole."""

    _esm = script("node_table.js")

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._sampler = sampler_of(cluster)
        self._scaling_to = 0
        super().__init__()
        self._unregister = self._sampler.on_tick(self._tick)

    def make_state(self) -> dict[str, Any]:
        tracks = self._sampler.nodes
        leader = self._sampler.leader
        running, paused = set(self._cluster.running), set(self._cluster.paused)
        common, hashes, parted = agreement(self._sampler.feed, running)
        rows = []
        for name, track in tracks.items():
            state = "paused" if name in paused else "running" if name in running else "stopped"
            rows.append(_row(name, track, state, name == leader) | _hash(name, hashes, parted))
        return {
            "nodes": rows,
            "leader": leader,
            "hash_index": common,
            "parted": parted,
            "scale_max": SCALE_MAX,
            "scaling_to": self._scaling_to,
            "links_cut": len(getattr(self._cluster, "links", {})),
            "alive": self._sampler.alive,
        }

    def html(self) -> str:
        rows = []
        for node in self._state["nodes"]:
            role = f"★ {node['role']}" if node["leads"] else node["role"]
            names = ("term", "applied", "lag", "hash", "orders", "cpu", "memory_mib")
            rows.append((node["name"], role, *("-" if node[name] is None else node[name] for name in names)))
        return html_table(HEAD, rows)

    def close(self) -> None:
        """Take it from the page."""
        self._unregister()
        super().close()

    # -- actions -----------------------------------------------------------------------------------------------

    def do_kill(self, node: str) -> None:
        self.act(f"kill:{node}", lambda: self._cluster.kill(node))

    def do_terminate(self, node: str) -> None:
        self.act(f"terminate:{node}", lambda: self._cluster.terminate(node))

    def do_pause(self, node: str) -> None:
        self.act(f"pause:{node}", lambda: self._cluster.pause(node))

    def do_resume(self, node: str) -> None:
        self.act(f"resume:{node}", lambda: self._cluster.resume(node))

    def do_restart(self, node: str) -> None:
        self.act(f"restart:{node}", lambda: self._cluster.restart(node))

    def do_wipe(self, node: str) -> None:
        self.act(f"wipe:{node}", lambda: self._cluster.wipe(node))

    def do_kill_leader(self) -> None:
        self.act("kill_leader", lambda: self._cluster.kill(self._cluster.leader))

    def do_heal(self) -> None:
        self.act("heal", self._heal_all)

    def do_scale(self, count: int) -> None:
        self._scaling_to = count
        self.act("scale", lambda: self._scale(count))
        self.refresh(now=True)

    def _scale(self, count: int) -> None:
        try:
            self._cluster.scale(count)
        finally:
            self._scaling_to = 0

    def _heal_all(self) -> None:
        """All links whole, all paused nodes go on, all stopped ones start."""
        if getattr(self._cluster, "links", {}):
            self._cluster.heal()
        for name in self._cluster.paused:
            self._cluster.resume(name)
        for name in self._cluster.nodes:
            if name not in self._cluster.running:
                self._cluster.restart(name)

    def _tick(self) -> None:
        """Figures twice a second; a node that came, went or leads is told at once."""
        shown = [(node["name"], node["state"], node["leads"]) for node in self._state["nodes"]]
        running, paused, leader = set(self._cluster.running), set(self._cluster.paused), self._sampler.leader
        actual = [
            (name, "paused" if name in paused else "running" if name in running else "stopped", name == leader)
            for name in self._sampler.nodes
        ]
        if self._sampler.error is not None and not self._problem:
            self.tell(f"The figures have stopped: {self._sampler.error!r}")
        self.refresh(now=shown != actual or not self._sampler.alive)


def agreement(feed: MetricsFeed, running: set[str]) -> tuple[int, dict[str, str], list[int]]:
    """The newest checkpoint that every running node has told its hash of, those hashes, and where nodes parted."""
    parted = sorted({mismatch.log_index for mismatch in feed.mismatches()})
    for index, hashes in sorted(feed.checkpoints().items(), reverse=True):
        told = {name: value for name, value in hashes.items() if name in running}
        if running and len(told) == len(running):
            return index, told, parted
    return 0, {}, parted


def _row(name: str, track: NodeTrack, state: str, leads: bool) -> dict[str, Any]:
    status = track.newest
    fresh = time.monotonic() - track.heard_s < STALE_S
    row: dict[str, Any] = {
        "name": name,
        "colour": node_colour(track.slot),
        "state": state,
        "leads": leads and state == "running",
        "role": state,
        "term": None,
        "applied": None,
        "lag": None,
        "orders": None,
        "cpu": None,
        "memory_mib": None,
        "pid": None,
    }
    if status is None:
        return row
    row |= {"term": status.term, "applied": status.applied_index}
    if state == "running":
        role = status.role.replace("_", "-")
        row |= {
            "role": role if fresh else "silent",
            "lag": status.lag,
            "orders": round(track.taken_per_s) if fresh else 0,
            "cpu": round(status.cpu_percent),
            "memory_mib": status.rss_bytes >> 20,
            "pid": status.pid,
        }
    return row


def _hash(name: str, hashes: dict[str, str], parted: list[int]) -> dict[str, Any]:
    value = hashes.get(name, "")
    others = set(hashes.values()) - {value}
    return {"hash": value[:HASH_DIGITS], "agrees": bool(value) and not others and not parted}



DELAY_MS_MAX = 500


class PartitionMatrix(Panel):
    """See the module."""

    _esm = script("partition_matrix.js")

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
