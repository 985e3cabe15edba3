"""The nodes and the links of a cluster as tables, with the buttons that break and heal them.

:class:`NodeTable` has a row for each node: what the node is, how far it is, what it suffers, and buttons for that node;
those that are wanted seldom stand behind *more*. Above the rows stand the buttons for the whole cluster.
:class:`PartitionMatrix` has a cell for each directed link: a row speaks, a column hears. A click on a cell cuts the
link, another click heals it. For the link that was clicked last, delay, loss, bandwidth and order can be set.

*Buttons of faults.* Both tables draw what the one registry says (:data:`~zmqlab.lab.fault_kinds.FAULTS`): each
:class:`~zmqlab.lab.fault_kinds.Control` that is about links becomes a button of the grid, and every other one a button
of the nodes. A click makes the fault and strikes with it; the button beside it undoes it. So a kind of fault that is
registered while a panel is open gets its button without a change here. A fault of the leader has no button that undoes
it: the node that was hit has one in its own row.

Rules: the cluster refuses what cannot be done. The page sends names of buttons, names of nodes and sizes, and nothing
that it sends is run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import traitlets
from msgspec.structs import asdict as asdict_of

from zmqlab.errors import SettingsError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_registry import Control
from zmqlab.lab.faults import Fault
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.group_facts import how_many_are_led
from zmqlab.tables import html_table
from zmqlab.widgets.group_readings import GroupReadings
from zmqlab.widgets.palette import node_colour, node_shape
from zmqlab.widgets.panel import Panel, script
from zmqlab.widgets.readings import NodeTrack

SCALE_MAX = 9
"""The largest cluster that the stepper offers. A group may have 15 members, but nine processes fill a machine."""
NODE_HEAD = ("node", "role", "term", "applied", "lag", "state hash", "orders/s", "CPU %", "memory MiB")
ROLES_OF_A_GROUP = ("leader", "follower", "candidate", "pre-candidate", "learner")
"""What a status says of one group; a node with several has another role in each."""
HASH_DIGITS = 8
"""Enough to see by eye that two hashes differ."""


class FaultPanel(Panel):
    """A panel with buttons of faults: those of the registry that are, or are not, about links."""

    about_links = False
    _controls = traitlets.List().tag(sync=True)
    """The buttons, as :func:`_drawn` tells them. They change only when a kind of fault is registered or removed, so
    they are not part of the state."""

    def __init__(self, cluster: Cluster, interval_s: float = 0.5) -> None:
        self._drawn: list[Control] = []
        """What ``_controls`` tells of."""
        super().__init__(cluster, interval_s)
        self._draw_controls()

    def refresh(self, now: bool = False) -> None:
        """As :meth:`Panel.refresh`; also show a kind of fault that was registered meanwhile."""
        self._draw_controls()
        super().refresh(now)

    def do_strike(self, button: str, target: Sequence[str] = (), sizes: Mapping[str, float] | None = None) -> None:
        """Strike with the fault of a button.

        Args:
            button: what the button says.
            target: the node; or the node that speaks and the node that hears; empty for the leader.
            sizes: the values of the sliders; those that are left out are at their lowest.
        """
        control = self._control(button)
        self.act(_key(button, target), lambda: self._fault(control, target, sizes or {}).strike(self._cluster))

    def do_undo(self, button: str, target: Sequence[str]) -> None:
        """Undo what the fault of a button did to this target, whether a click or a line of code had struck."""
        control = self._control(button)
        if control.undo is None:
            raise SettingsError(f"{button!r} has nothing that undoes it")
        self.act(_key(control.undo.button, target), lambda: self._fault(control, target, {}).undo(self._cluster))

    def _fault(self, control: Control, target: Sequence[str], sizes: Mapping[str, float]) -> Fault:
        return control.fault(self._cluster, *target, **{name: float(size) for name, size in sizes.items()})

    def _draw_controls(self) -> None:
        with self._guard:
            controls = self._own_controls()
            if controls != self._drawn:  # ten times a second, and so before anything is made of them
                outside = self._cluster.fleet.outside
                self._drawn, self._controls = controls, [_drawn(control, outside) for control in controls]

    def _own_controls(self) -> list[Control]:
        return [control for control in FAULTS.controls if control.is_about_links == self.about_links]

    def _control(self, button: str) -> Control:
        for control in self._own_controls():
            if control.button == button:
                return control
        raise SettingsError(f"no button says {button!r}: the page is older than the list of faults, so load it again")


class NodeTable(FaultPanel):
    """One row a node, with buttons; above them the buttons for the cluster as a whole."""

    _esm = script("node_table.js")

    def __init__(self, cluster: Cluster) -> None:
        self._scaling_to = 0
        """The number of nodes that an action is about to reach; 0: none is."""
        super().__init__(cluster)

    def make_state(self) -> dict[str, Any]:
        """``nodes``: what a row shows of each; and what stands above the rows."""
        leader = "" if self._sampler.ended else self._sampler.who_leads()
        groups, running = self._sampler.groups, set(self._cluster.running)
        common, hashes, parted = agreement(self._sampler.feed, running) if groups is None else (0, {}, [])
        tracks, rows, suffering = self._sampler.nodes, [], self._cluster.node_faults
        for name, state in states_of(self._cluster, tracks, self._sampler.ended).items():
            row = _row(name, tracks[name], state, name == leader) | _hash(name, hashes, parted)
            if groups is not None:
                row |= _over_groups(row, tracks[name], groups)
            rows.append(row | {"suffers": str(suffering[name]) if name in suffering else ""})
        return {
            "nodes": rows,
            "leader": leader,
            "hash_index": common,
            "parted": parted,
            "of_groups": "" if groups is None else of_groups(self._sampler.feed, groups, running),
            "scale_max": SCALE_MAX,
            "scaling_to": self._scaling_to,
            "links_cut": len(self._cluster.links),
            "links_of": sorted({name for link in self._cluster.links for name in link}),
            "alive": self._sampler.alive,
            "ended": self._sampler.ended,
            "outside": self._cluster.fleet.outside,
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

    def do_heal(self) -> None:
        """Make all links and nodes well, resume all paused nodes, start all stopped ones."""
        self.act("heal", self._heal_all)

    def do_scale(self, count: int) -> None:
        """Add or remove nodes until there are ``count``."""
        self._scaling_to = count
        self.act("scale", lambda: self._scale(count))
        self.refresh(now=True)

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
        for name in self._cluster.node_faults:
            self._cluster.mend(name)
        for name in self._cluster.nodes:
            if name not in self._cluster.running and not self._cluster.fleet.outside:
                self._cluster.restart(name)

    def _tick(self) -> None:
        """Show the figures twice a second, and at once a node that came, went, or began to lead."""
        shown = [(node["name"], node["state"], node["leads"]) for node in self._state["nodes"]]
        leader = self._sampler.who_leads()
        actual = [
            (name, state, name == leader and state == "running")
            for name, state in states_of(self._cluster, self._sampler.nodes, self._sampler.ended).items()
        ]
        if self._sampler.problem and not self._problem:
            self.tell(self._sampler.problem)
        self.refresh(now=shown != actual or not self._sampler.alive)


class PartitionMatrix(FaultPanel):
    """The directed links between the nodes as a grid; see the module."""

    about_links = True
    _esm = script("partition_matrix.js")

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, interval_s=0.3)

    def make_state(self) -> dict[str, Any]:
        """``nodes``: the rows and columns; ``links``: the links that are not whole."""
        nodes = self._sampler.nodes
        states = states_of(self._cluster, nodes, self._sampler.ended)
        return {
            "nodes": [mark_of(name, track) | {"state": states[name]} for name, track in nodes.items()],
            "leader": self._sampler.who_leads(),
            "links": [
                {**asdict_of(fault), "source": source, "target": target, "text": str(fault)}
                for (source, target), fault in sorted(self._cluster.links.items())
            ],
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

    def do_heal(self) -> None:
        """Make all links whole."""
        self.act("heal", self._cluster.heal)


def states_of(cluster: Cluster, names: Iterable[str], ended: bool) -> dict[str, str]:
    """``running``, ``paused`` or ``stopped`` for each name. Nodes that were started elsewhere are ``running`` while
    they are heard, and else ``silent``: the reason is not known.

    When the cluster stops (``ended``), the figures end before its nodes do. They are called stopped already, because
    nothing corrects that later.
    """
    if ended:
        return dict.fromkeys(names, "stopped")
    paused, running = set(cluster.paused), set(cluster.running)
    other = "silent" if cluster.fleet.outside else "stopped"
    return {name: "paused" if name in paused else "running" if name in running else other for name in names}


def agreement(feed: MetricsFeed, running: set[str], group: int = 0) -> tuple[int, dict[str, str], list[int]]:
    """Whether the nodes agree about the state of a group.

    Returns:
        The newest checkpoint whose hash every node of ``running`` has published (0: none), those hashes by node, and
        the log indexes at which nodes differed.
    """
    parted = sorted({mismatch.log_index for mismatch in feed.mismatches() if mismatch.group == group})
    for index, hashes in sorted(feed.checkpoints(group).items(), reverse=True):
        told = {name: value for name, value in hashes.items() if name in running}
        if running and len(told) == len(running):
            return index, told, parted
    return 0, {}, parted


def of_groups(feed: MetricsFeed, groups: GroupReadings, running: set[str]) -> str:
    """Of several Raft groups: how many have a leader, and in how many the nodes agree about the state."""
    led, count = sum(bool(row.leader) for row in groups.rows), len(groups.rows)
    said = how_many_are_led(led, count)
    parted = sorted({mismatch.group for mismatch in feed.mismatches()})
    if parted:
        return f"{said} · states part in group {', '.join(map(str, parted))}"
    agreeing = sum(agreement(feed, running.intersection(row.lags), row.number)[0] > 0 for row in groups.rows)
    return f"{said} · the nodes agree in {agreeing} of {count}" if agreeing else said


def _over_groups(row: Mapping[str, Any], track: NodeTrack, groups: GroupReadings) -> dict[str, Any]:
    """What differs in the row of a node with several groups: it has no term and no index; its lag is the largest."""
    changed: dict[str, Any] = {"term": None, "applied": None}
    if track.newest is None or row["role"] not in ROLES_OF_A_GROUP:
        return changed
    led, held = groups.led_by(track.newest.name), len(track.newest.groups)
    looks = "leader" if led else "follower"
    return changed | {"role": f"leads {led} of {held}", "looks": looks, "lag": groups.behind(track.newest.name)[1]}


def _drawn(control: Control, outside: str) -> dict[str, Any]:
    """A control as a page is sent it: all but the function that makes the fault. ``outside``: why no process can be
    touched; empty: it can."""
    return {
        "button": control.button,
        "short": control.short or control.button,
        "hint": control.hint,
        "danger": control.danger,
        "target": control.target.value,
        "states": list(control.states),
        "is_rare": control.is_rare,
        "why_not": outside if control.needs_process else "",
        "parameters": [asdict(parameter) for parameter in control.parameters],
        "undo": None if control.undo is None else asdict(control.undo),
    }


def _key(button: str, target: Sequence[str]) -> str:
    """Which buttons are busy meanwhile: ``kill -9:node1``. An error is told with these words."""
    return ":".join((button, *target))


def mark_of(name: str, track: NodeTrack) -> dict[str, str]:
    """The node's name, colour and shape."""
    return {"name": name, "colour": node_colour(track.slot), "shape": node_shape(track.slot)}


def _row(name: str, track: NodeTrack, state: str, leads: bool) -> dict[str, Any]:
    status = track.newest
    row: dict[str, Any] = dict.fromkeys(("term", "applied", "lag", "orders", "cpu", "memory_mib", "pid"))
    row |= mark_of(name, track) | {"state": state, "role": state}
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
