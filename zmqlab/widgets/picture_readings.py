"""What the picture of a cluster is told: how each node looks, which links are bad, who the clients are.

:class:`PictureReadings` makes the frames that :mod:`~zmqlab.widgets.cluster_picture` pushes. Its rows and messages grow
as streams, and small tables travel whole when they change. Where things are drawn, and when, is decided on the page
(``picture_scene.js``).

*How a node looks* (:class:`Look`) is one word, because a picture has one shape for a node. The lab knows whether its
process runs; the node's own snapshots say the rest, as long as they come. A node that runs and publishes nothing is
``SILENT``, and not what it was before.

*With several Raft groups* there are two pictures. The overview is of all groups: a node that leads any of them wears a
crown, with their number, and its bar is that of the group in which it is furthest behind. It has no term and no
election timer, because it has them in each group. The picture of one group shows all of that, of this group; a node
that does not hold it is ``NO_REPLICA``.

Left out on purpose: the messages that travel (:mod:`~zmqlab.widgets.travelling_messages`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from functools import partial
from itertools import islice
from typing import Any

from zmqlab.lab.cluster import Cluster
from zmqlab.lab.fault_table import WELL, Link
from zmqlab.lab.incidents import NS_PER_MS
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.widgets.cluster_controls import agreement, states_of
from zmqlab.widgets.group_readings import LATE_ENTRIES, GroupReadings
from zmqlab.widgets.live_figure import Frame, Stream
from zmqlab.widgets.marks import moments_of
from zmqlab.widgets.palette import node_colour
from zmqlab.widgets.readings import MAX_SLOTS, NodeTrack, Ring, rates_of
from zmqlab.widgets.sampler import Sampler
from zmqlab.widgets.travelling_messages import KEPT_MS, TravellingMessages
from zmqlab.wire.control import Event
from zmqlab.wire.fault_queries import LinkFault
from zmqlab.wire.node_status import NodeStatus

ROWS_KEPT = 240
"""Twelve seconds of ten rows a second, and as many rows for events between them."""
CLIENTS_MAX = 4
"""Load clients that are drawn: a page has four corners."""
CLIENT = 100
"""The first number of a client; smaller numbers are slots of nodes."""
HASH_S = 1.0
"""Hashes change several times a second, and would flicker."""
FRAMES_A_S = 10
"""A load client tells so often what it does."""
CLIENT_STALE_S = 1.0
"""A load client that has told nothing for so long has ended."""


class Look(IntEnum):
    """What a node looks like. The numbers travel; ``picture_scene.js`` has the same order."""

    STARTING = 0
    """Its process runs, and it has not said yet what it is."""
    DEAD = 1
    PAUSED = 2
    SILENT = 3
    """Its process runs, as far as is known, and it publishes nothing."""
    FOLLOWER = 4
    CANDIDATE = 5
    LEADER = 6
    OLD_LEADER = 7
    """It believes that it leads, and another node leads in a later term."""
    LEARNER = 8
    BEHIND = 9
    """A follower that has not applied what was committed half a second ago: it catches up, or it is cut off."""
    ENDED = 10
    """It has ended with its cluster, which was stopped: it has not failed."""
    NO_REPLICA = 11
    """It runs, and does not hold the Raft group that is shown."""


_ROLES = {
    "leader": Look.OLD_LEADER,
    "candidate": Look.CANDIDATE,
    "pre_candidate": Look.CANDIDATE,
    "follower": Look.FOLLOWER,
    "learner": Look.LEARNER,
}
NODE_COLUMNS = ("look", "term", "applied", "stored_lag", "commit_lag", "applied_lag", "due", "timeout", "leads")
"""Of each slot, as in ``look3``: the look, the term, the log index that is applied; by how many entries what is stored,
known as committed and applied is behind the leader's commit index; the election timer in ms of real time: what is left,
and all. A node counts both by its own clock, whose rate the lab may have changed. All of it is of the Raft group that
is shown. Of all of several groups, neither term nor timer is told, and ``leads`` is: how many of them it leads."""


def look_of(state: str, track: NodeTrack, leads: bool, is_late: bool, now_s: float) -> Look:
    """How a node looks.

    Args:
        state: as :func:`~zmqlab.widgets.cluster_controls.states_of` has it.
        track: what the node has published.
        leads: whether it is the leader, by the one rule for all.
        is_late: whether it has not applied what was committed half a second ago.
        now_s: on the monotonic clock.
    """
    if state != "running":
        return {"paused": Look.PAUSED, "silent": Look.SILENT}.get(state, Look.DEAD)
    if track.newest is None:
        return Look.STARTING
    if not track.is_fresh(now_s):
        return Look.SILENT
    role = _ROLES.get(track.newest.role, Look.STARTING)
    if role is Look.OLD_LEADER and leads:
        return Look.LEADER
    return Look.BEHIND if is_late and role is Look.FOLLOWER else role


class PictureReadings:
    """See the module. The thread of the sampler calls it."""

    def __init__(self, cluster: Cluster, sampler: Sampler, group: int | None = None) -> None:
        """``group``: the one that is shown, of several Raft groups; None: all."""
        self.group = group
        self._cluster = cluster
        self._sampler = sampler
        self._rows = Ring(("t", *(f"{name}{slot}" for slot in range(MAX_SLOTS) for name in NODE_COLUMNS)), ROWS_KEPT)
        self._messages = TravellingMessages()
        self._down: set[str] = set()
        """Nodes that have not been heard since their process ended."""
        self._hashes: dict[str, list[Any]] = {"slot": [], "hash": [], "agrees": []}
        self._hashed_s = float("-inf")
        self.looks: dict[str, Look] = {}
        """How each node looks, as of the last row."""
        self._is_looked = False
        """Whether ``looks`` are newer than the last row."""
        self._recent: tuple[int, list[LoadMetrics]] = (-1, [])
        """The load clients' snapshots of a second, and as of which of the sampler's rows."""

    @property
    def requests_per_s(self) -> float:
        """What the load clients get answered, in requests; over the last second."""
        recent = self._recent_frames()
        return sum(each.interval.requests for each in recent) / max(0.1, min(CLIENT_STALE_S, _span_s(recent)))

    def news(self) -> tuple[object, ...]:
        """What a page is told of at once: it differs from the last one if a node died, a leader was elected, a link
        was cut."""
        self.looks = self.look(time.monotonic())
        self._is_looked = True
        return tuple(self.looks.items()), tuple(self._cluster.links.items())

    def look(self, now_s: float) -> dict[str, Look]:
        """How each member looks now. When the cluster has been stopped, the nodes that were dead before still are."""
        tracks, groups = self._sampler.nodes, self._sampler.groups
        if self._sampler.ended:
            return {name: Look.DEAD if self.looks.get(name) is Look.DEAD else Look.ENDED for name in tracks}
        if groups is not None and self.group is not None:
            return self._look_in(self.group, groups, now_s)
        leaders = {self._sampler.who_leads()} if groups is None else {row.leader for row in groups.rows}
        found = {}
        for name, state in states_of(self._cluster, tracks, ended=False).items():
            behind = self._sampler.behind(name)
            is_late = behind is not None and behind.is_late
            found[name] = self._since_its_start(name, look_of(state, tracks[name], name in leaders, is_late, now_s))
        return found

    def _look_in(self, group: int, groups: GroupReadings, now_s: float) -> dict[str, Look]:
        """How each member looks in one of several Raft groups."""
        told = self._sampler.feed.newest(group)
        (leader, lags), found = groups.in_group(group), {}
        for name, state in states_of(self._cluster, self._sampler.nodes, ended=False).items():
            track, status = self._sampler.nodes[name], told.get(name)
            holds = status is not None and status.role != "removed"
            seen = replace(track, newest=status) if holds else track
            look = look_of(state, seen, name == leader, lags.get(name, 0) > LATE_ENTRIES, now_s)
            is_well = look not in (Look.DEAD, Look.PAUSED, Look.SILENT, Look.STARTING)
            found[name] = self._since_its_start(name, Look.NO_REPLICA if is_well and not holds else look)
        return found

    def _since_its_start(self, name: str, look: Look) -> Look:
        """A node whose process has just come back starts, until it is heard: what it said before is another life's."""
        if look is Look.DEAD:
            self._down.add(name)
        elif look is Look.SILENT and name in self._down:
            return Look.STARTING
        elif look is not Look.STARTING:
            self._down.discard(name)
        return look

    def sample(self, now_ns: int) -> None:
        """Add one row, and the messages that have become known. ``now_ns``: wall clock. Looks that :meth:`news` has
        just found are not looked for again: whether a process lives costs a system call for each node."""
        if not self._is_looked:
            self.looks = self.look(time.monotonic())
        self._is_looked = False
        row, suffering = {"t": now_ns / NS_PER_MS}, self._cluster.node_faults
        told = self._told()
        for name, track in self._sampler.nodes.items():
            clock_rate = suffering.get(name, WELL).clock_rate
            columns = (
                self._columns(name, track, clock_rate) if told is None else self._columns_in(name, told, clock_rate)
            )
            row |= {f"{column}{track.slot}": value for column, value in columns.items()}
        self._rows.append(row)
        self._messages.take(self._sampler.feed.traces, self._numbers())

    def _columns(self, name: str, track: NodeTrack, clock_rate: float) -> dict[str, float]:
        columns: dict[str, float] = {"look": self.looks.get(name, Look.STARTING)}
        status, behind, groups = track.newest, self._sampler.behind(name), self._sampler.groups
        if groups is not None:
            columns["leads"] = groups.led_by(name) if columns["look"] == Look.LEADER else 0
        elif status is not None:
            columns |= _in_one_group(status, clock_rate)
        if status is not None and behind is not None:
            columns["commit_lag"], columns["applied_lag"] = round(behind.commit), round(behind.applied)
            columns["stored_lag"] = max(0, round(behind.commit)) - (status.last_index - status.commit_index)
        return columns

    def _columns_in(self, name: str, told: Mapping[str, NodeStatus], clock_rate: float) -> dict[str, float]:
        """The same of one of several groups; ``told``: its newest status at each node that holds it."""
        columns: dict[str, float] = {"look": self.looks.get(name, Look.STARTING)}
        status = told.get(name)
        if status is not None and columns["look"] != Look.NO_REPLICA:
            end = max(each.commit_index for each in told.values())
            columns |= _in_one_group(status, clock_rate)
            columns |= {"commit_lag": end - status.commit_index, "applied_lag": end - status.applied_index}
            columns["stored_lag"] = end - status.last_index
        return columns

    def _told(self) -> dict[str, NodeStatus] | None:
        """What nodes published of the group that is shown; None: all are, or there is one."""
        if self.group is None or self._sampler.groups is None:
            return None
        return self._sampler.feed.newest(self.group)

    def _numbers(self) -> dict[str, int]:
        """Name -> number of all nodes and clients that are drawn."""
        clients = {each.name: CLIENT + place for place, each in enumerate(self._clients())}
        return clients | {name: track.slot for name, track in self._sampler.nodes.items()}

    def _recent_frames(self) -> list[LoadMetrics]:
        """The load clients' snapshots of the last second, newest first, as of the sampler's last row.

        The sampler's thread may add some meanwhile, so one call copies them: no other thread runs until it ends.
        """
        row = self._sampler.ring.total
        if self._recent[0] != row:
            newest = list(islice(reversed(self._sampler.load_frames), CLIENTS_MAX * FRAMES_A_S))
            oldest_ns = time.time_ns() - CLIENT_STALE_S * 1e9
            self._recent = row, [each for each in newest if each.time_ns >= oldest_ns]
        return self._recent[1]

    def _clients(self) -> list[LoadMetrics]:
        """The newest snapshot of each load client at work."""
        newest: dict[int, LoadMetrics] = {}
        for each in self._recent_frames():
            newest.setdefault(each.pid, each)
        return sorted((each for each in newest.values() if each.state != "ended"), key=lambda each: each.pid)[
            :CLIENTS_MAX
        ]

    # -- the frame ---------------------------------------------------------------------------------------------

    def frame(self, now_ns: int, caption: str) -> Frame:
        """All that the page is to know. ``now_ns``: wall clock; ``caption``: what stands below the picture."""
        frame = Frame(now_ns / NS_PER_MS)
        slots = sorted(track.slot for track in self._sampler.nodes.values())
        columns = ("t", *(f"{name}{slot}" for slot in slots for name in NODE_COLUMNS))
        frame.streams["rows"] = Stream(self._rows.total, columns, partial(self._rows.table, columns))
        frame.streams["messages"] = self._messages.stream()
        slot_of = {name: track.slot for name, track in self._sampler.nodes.items()}
        frame.tables["nodes"] = {
            "slot": list(slot_of.values()),
            "name": list(slot_of),
            "colour": [node_colour(slot) for slot in slot_of.values()],
        }
        frame.tables["links"] = links_table(self._cluster.links, slot_of)
        frame.tables["clients"] = clients_table(self._clients(), self._recent_frames(), self._client_endpoints())
        frame.tables["hashes"] = self._newest_hashes(slot_of)
        frame.tables["marks"] = marks_table(self._sampler.events, now_ns)
        rows = self._sampler.groups.rows if self._sampler.groups is not None else ()
        frame.tables["groups"] = {"number": [row.number for row in rows], "leader": [row.leader for row in rows]}
        frame.properties["picture", "group"] = -1 if self.group is None else self.group
        frame.properties["picture", "caption"] = caption
        return frame

    def _client_endpoints(self) -> dict[str, int]:
        """Where clients reach each node -> its slot."""
        known = [track for track in self._sampler.nodes.values() if track.newest is not None and track.newest.address]
        return {each.newest.client_endpoint: each.slot for each in known if each.newest}

    def _newest_hashes(self, slot_of: Mapping[str, int]) -> dict[str, list[Any]]:
        is_due = time.monotonic() - self._hashed_s >= HASH_S
        told = self._told()
        if is_due and (
            self._sampler.groups is None or told is not None
        ):  # a node with several groups has a hash in each
            self._hashed_s = time.monotonic()
            running = set(self._cluster.running).intersection(self._cluster.running if told is None else told)
            _, hashes, parted = agreement(self._sampler.feed, running, self.group or 0)
            known = {name: value for name, value in hashes.items() if name in slot_of and value}
            common = not parted and len(set(known.values())) == 1
            self._hashes = {
                "slot": [slot_of[name] for name in known],
                "hash": [value[:8] for value in known.values()],
                "agrees": [common] * len(known),
            }
        return self._hashes


def _in_one_group(status: NodeStatus, clock_rate: float) -> dict[str, float]:
    """What a node has in each Raft group: term, applied index, election timer."""
    return {
        "term": status.term,
        "applied": status.applied_index,
        "due": status.election_due_ms / clock_rate,
        "timeout": status.election_timeout_ms / clock_rate,
    }


def _span_s(frames: Iterable[LoadMetrics]) -> float:
    """How much time the snapshots of the client with most of them cover."""
    spans: dict[int, float] = {}
    for each in frames:
        spans[each.pid] = spans.get(each.pid, 0.0) + each.interval_s
    return max(spans.values(), default=0.0)


def links_table(links: Mapping[Link, LinkFault], slot_of: Mapping[str, int]) -> dict[str, list[Any]]:
    """The bad links by the slots of their nodes, and what is wrong with each in words."""
    known = [(link, fault) for link, fault in sorted(links.items()) if set(link) <= slot_of.keys()]
    return {
        "source": [slot_of[source] for (source, _), _ in known],
        "target": [slot_of[target] for (_, target), _ in known],
        "cut": [fault.cut for _, fault in known],
        "delay_ms": [fault.delay_ms for _, fault in known],
        "loss": [fault.loss for _, fault in known],
        "words": [str(fault) for _, fault in known],
    }


def clients_table(
    clients: Iterable[LoadMetrics], recent: Sequence[LoadMetrics], slot_at: Mapping[str, int]
) -> dict[str, list[Any]]:
    """The load clients: name, orders acknowledged a second, and the slots of the nodes that they use.

    Args:
        clients: the newest snapshot of each.
        recent: the snapshots of the last second, from which the rates are, to two digits: they change seldom then.
        slot_at: where clients reach each node -> its slot.
    """
    table: dict[str, list[Any]] = {"name": [], "rate": [], "slots": []}
    for each in clients:
        rate = rates_of(one for one in recent if one.pid == each.pid)["acknowledged"]
        used = [endpoint for endpoint, used in zip(each.endpoints, each.connected, strict=False) if used]
        table["name"].append(each.name)
        table["rate"].append(f"{float(f'{rate:.1e}'):,.0f}/s")
        table["slots"].append(sorted(slot_at[endpoint] for endpoint in used if endpoint in slot_at))
    return table


def marks_table(events: Sequence[Event], now_ns: int) -> dict[str, list[Any]]:
    """What happened in the time that a page keeps, as the charts call it."""
    since_ns = now_ns - KEPT_MS * NS_PER_MS
    recent = sorted((event for event in events[-200:] if event.time_ns >= since_ns), key=lambda event: event.time_ns)
    shown = [(event.time_ns / NS_PER_MS, moment.label) for event in recent for moment in moments_of([event])]
    return {"t": [time_ms for time_ms, _ in shown], "label": [label for _, label in shown]}
