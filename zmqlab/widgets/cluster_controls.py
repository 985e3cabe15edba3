"""The nodes and the links of a cluster as tables, with the buttons that break and heal them.

:class:`NodeTable` has a row for each node: what the node is, how far it is, and buttons for that node. Above the rows
stand the buttons for the whole cluster. :class:`PartitionMatrix` has a cell for each directed link: a row speaks, a
column hears. A click on a cell cuts the link, another click heals it. For the link that was clicked last, delay and
loss can be set.

Rules: every action is one call of :class:`~zmqlab.lab.cluster.Cluster`, which refuses what cannot be done. The
buttons of a row are :data:`~zmqlab.widgets.marks.NODE_ACTIONS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

import traitlets

from zmqlab.lab.cluster import Cluster
from zmqlab.lab.feed import MetricsFeed
from zmqlab.tables import html_table
from zmqlab.widgets.marks import NODE_ACTIONS
from zmqlab.widgets.palette import node_colour
from zmqlab.widgets.panel import Panel, script
from zmqlab.widgets.readings import NodeTrack

SCALE_MAX = 9
"""The largest cluster that the stepper offers. A group may have 15 members, but nine processes fill a machine."""
NODE_HEAD = ("node", "role", "term", "applied", "lag", "state hash", "orders/s", "CPU %", "memory MiB")
HASH_DIGITS = 8
"""Enough to see by eye that two hashes differ."""
DELAY_MS_MAX = 500
"""The end of the slider: enough for a leader to be deposed, since an election time-out is 200 ms and more."""


class NodeTable(Panel):
    """One row a node, with buttons; above them the buttons for the cluster as a whole."""

    _esm = script("node_table.js")
    _actions = traitlets.List([asdict(each) for each in NODE_ACTIONS]).tag(sync=True)
    """The buttons of a row; they never change, so they are not part of the state."""

    def __init__(self, cluster: Cluster) -> None:
        self._scaling_to = 0
        """The number of nodes that an action is about to reach; 0: none is."""
        super().__init__(cluster)

    def make_state(self) -> dict[str, Any]:
        """``nodes``: what a row shows of each; and what stands above the rows."""
        leader = self._sampler.who_leads()
        common, hashes, parted = agreement(self._sampler.feed, set(self._cluster.running))
        tracks, rows = self._sampler.nodes, []
        for name, state in self._states(tracks).items():
            rows.append(_row(name, tracks[name], state, name == leader) | _hash(name, hashes, parted))
        return {
            "nodes": rows,
            "leader": leader,
            "hash_index": common,
            "parted": parted,
            "scale_max": SCALE_MAX,
            "scaling_to": self._scaling_to,
            "links_cut": len(self._cluster.links),
            "alive": self._sampler.alive,
        }

    def html(self) -> str:
        """The rows as a table, without buttons."""
        names = ("term", "applied", "lag", "hash", "orders", "cpu", "memory_mib")
        rows = []
        for node in self._state["nodes"]:
            role = f"★ {node['role']}" if node["leads"] else node["role"]
            rows.append((node["name"], role, *("-" if node[name] is None else node[name] for name in names)))
        return html_table(NODE_HEAD, rows)

    # -- actions -----------------------------------------------------------------------------------------------

    def action_of(self, name: str) -> Callable[..., None] | None:
        """Beside the methods ``do_``, whatever can be done to a node."""
        if any(name == each.name for each in NODE_ACTIONS):
            return partial(self._do_to_node, name)
        return super().action_of(name)

    def do_kill_leader(self) -> None:
        """SIGKILL for the node that leads when the action runs."""
        self.act("kill_leader", lambda: self._cluster.kill(self._sampler.await_leader()))

    def do_heal(self) -> None:
        """Make all links whole, resume all paused nodes, start all stopped ones."""
        self.act("heal", self._heal_all)

    def do_scale(self, count: int) -> None:
        """Add or remove nodes until there are ``count``."""
        self._scaling_to = count
        self.act("scale", lambda: self._scale(count))
        self.refresh(now=True)

    def _do_to_node(self, name: str, node: str) -> None:
        self.act(f"{name}:{node}", lambda: getattr(self._cluster, name)(node))

    def _scale(self, count: int) -> None:
        try:
            self._cluster.scale(count)
        finally:
            self._scaling_to = 0

    def _heal_all(self) -> None:
        if self._cluster.links:
            self._cluster.heal()
        for name in self._cluster.paused:
            self._cluster.resume(name)
        for name in self._cluster.nodes:
            if name not in self._cluster.running:
                self._cluster.restart(name)

    # -- inside ------------------------------------------------------------------------------------------------

    def _states(self, names: Iterable[str]) -> dict[str, str]:
        """``running``, ``paused`` or ``stopped`` for each name."""
        paused, running = set(self._cluster.paused), set(self._cluster.running)
        return {name: "paused" if name in paused else "running" if name in running else "stopped" for name in names}

    def _tick(self) -> None:
        """Show the figures twice a second, and at once a node that came, went, or began to lead."""
        shown = [(node["name"], node["state"], node["leads"]) for node in self._state["nodes"]]
        leader = self._sampler.who_leads()
        actual = [
            (name, state, name == leader and state == "running")
            for name, state in self._states(self._sampler.nodes).items()
        ]
        if self._sampler.error is not None and not self._problem:
            self.tell(f"The figures have stopped: {self._sampler.error!r}")
        self.refresh(now=shown != actual or not self._sampler.alive)


class PartitionMatrix(Panel):
    """The directed links between the nodes as a grid; see the module."""

    _esm = script("partition_matrix.js")

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, interval_s=0.3)

    def make_state(self) -> dict[str, Any]:
        """``nodes``: the rows and columns; ``links``: the links that are not whole."""
        nodes = self._sampler.nodes
        return {
            "nodes": [{"name": name, "colour": node_colour(track.slot)} for name, track in nodes.items()],
            "leader": self._sampler.who_leads(),
            "links": [
                {"source": source, "target": target, "cut": fault.cut, "delay_ms": fault.delay_ms, "loss": fault.loss}
                for (source, target), fault in sorted(self._cluster.links.items())
            ],
            "delay_ms_max": DELAY_MS_MAX,
            "alive": self._sampler.alive,
        }

    def html(self) -> str:
        """The grid as a table of words."""
        names = [node["name"] for node in self._state["nodes"]]
        faults = self._cluster.links
        rows = [
            (source, *("" if source == target else str(faults.get((source, target), "whole")) for target in names))
            for source in names
        ]
        return html_table(("from \\ to", *names), rows)

    # -- actions -----------------------------------------------------------------------------------------------

    def do_toggle(self, source: str, target: str) -> None:
        """Cut the link from ``source`` to ``target``, or heal it if it is cut."""
        fault = self._cluster.links.get((source, target))
        cut = not (fault is not None and fault.cut)
        self.act(f"link:{source}:{target}", lambda: self._cluster.link(source, target, cut=cut))

    def do_set(self, source: str, target: str, delay_ms: float, loss: float) -> None:
        """Delay each frame of a link, and lose a share of them; ``loss`` runs from 0 to 1."""
        self.act(
            f"link:{source}:{target}",
            lambda: self._cluster.link(source, target, delay_ms=float(delay_ms), loss=float(loss)),
        )

    def do_isolate(self, node: str) -> None:
        """Cut all links between ``node`` and the others, in both directions."""
        self.act(f"isolate:{node}", lambda: self._isolate(node))

    def do_isolate_leader(self) -> None:
        """The same for the node that leads when the action runs."""
        self.act("isolate_leader", lambda: self._isolate(self._sampler.await_leader()))

    def do_heal(self) -> None:
        """Make all links whole."""
        self.act("heal", self._cluster.heal)

    def _isolate(self, node: str) -> None:
        self._cluster.partition([node], [name for name in self._cluster.nodes if name != node])


def agreement(feed: MetricsFeed, running: set[str]) -> tuple[int, dict[str, str], list[int]]:
    """Whether the nodes agree about the state.

    Returns:
        The newest checkpoint whose hash every node of ``running`` has published (0: none), those hashes by node, and
        the log indexes at which nodes differed.
    """
    parted = sorted({mismatch.log_index for mismatch in feed.mismatches()})
    for index, hashes in sorted(feed.checkpoints().items(), reverse=True):
        told = {name: value for name, value in hashes.items() if name in running}
        if running and len(told) == len(running):
            return index, told, parted
    return 0, {}, parted


def _row(name: str, track: NodeTrack, state: str, leads: bool) -> dict[str, Any]:
    status = track.newest
    row: dict[str, Any] = dict.fromkeys(("term", "applied", "lag", "orders", "cpu", "memory_mib", "pid"))
    row |= {"name": name, "colour": node_colour(track.slot), "state": state, "role": state}
    row["leads"] = leads and state == "running"
    if status is None:
        return row
    row |= {"term": status.term, "applied": status.applied_index}
    if state == "running":
        fresh = track.is_fresh(time.monotonic())
        row |= {
            "role": status.role.replace("_", "-") if fresh else "silent",
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
