"""What the picture of a cluster is told: how each node looks, which links are bad, and which messages travel.

:class:`PictureReadings` makes the frames that :mod:`~zmqlab.widgets.cluster_picture` pushes. Its rows and messages grow
as streams, and small tables travel whole when they change. Where things are drawn, and when, is decided on the page
(``picture_scene.js``). The two enumerations here have the same order there.

*How a node looks* (:class:`Look`) is one word, because a picture has one shape for a node. The lab knows whether its
process runs; the node's own snapshots say the rest, as long as they come. A node that runs and publishes nothing is
``SILENT``, and not what it was before.

*Messages* are real ones: nodes and load clients tell of a sample of their frames while a page shows the picture
(:mod:`zmqlab.lab.sampled_traces`). Only a message whose two ends are known is drawn as one that arrives. One that is
missing at a receiver that was heard all the time is drawn as lost. One whose fate is unknown is not drawn.

*Stories.* What belongs together is one story: a request with its copies and its answer, one campaign, one heartbeat and
its answers. At 5,000 orders a second all of them would be a blur, so only one order in a while is *live*, and elections
always are. A replay in slow motion shows all messages that came.

*Order.* The two ends of a message are told by two processes, up to 0.2 s apart. So messages wait here until they are
``HOLD_NS`` old, and then leave in the order in which they were sent.

Left out on purpose: asking for the samples, which takes a thread and is the widget's.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from zmqlab.lab.cluster import Cluster
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_table import Link
from zmqlab.lab.incidents import NS_PER_MS
from zmqlab.lab.message_matching import Fate, Message
from zmqlab.lab.sampled_traces import Traces
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.settings import client_endpoint, parse_endpoint
from zmqlab.widgets.cluster_controls import agreement, states_of
from zmqlab.widgets.live_figure import Frame, Stream
from zmqlab.widgets.palette import node_colour
from zmqlab.widgets.readings import MAX_SLOTS, NodeTrack, Ring
from zmqlab.widgets.sampler import Sampler
from zmqlab.wire.control import Event
from zmqlab.wire.fault_queries import LinkFault

KEPT_MS = 12_000
"""As long as a page keeps what it was told."""
ROWS_KEPT = 240
"""Twelve seconds of ten rows a second, and as many rows for events between them."""
MESSAGES_KEPT = 4_000
"""Twelve seconds of the bound below."""
MESSAGES_A_PUSH = 40
"""More are not told to a page in a tenth of a second; heartbeats are left out first."""
HOLD_NS = 250_000_000
"""Processes publish their traces ten times a second, and a busy one is late by as much."""
STORY_NS = 700_000_000
"""A live order begins so long after the one before: its dozen messages are drawn over two seconds."""
BEAT_NS = 1_000_000_000
"""The same for heartbeats, which are live only while there are no orders."""
STORIES_KEPT = 2_000
CLIENTS_MAX = 4
"""Load clients that are drawn: a page has four corners."""
CLIENT = 100
"""The first number of a client; smaller numbers are slots of nodes."""
HASH_S = 1.0
"""Hashes change several times a second, and would flicker."""
CLIENT_STALE_S = 1.0
SHARE_STEP = 4
REQUESTS_SAMPLED_PER_S = 10.0
"""Some 110 messages a second with five nodes: enough for a replay at 1/100, and half a percent of a core."""


class Look(IntEnum):
    """What a node looks like. The numbers travel; ``picture_scene.js`` has the same order."""

    STARTING = 0
    """Its process runs, and it has not said yet what it is."""
    DEAD = 1
    PAUSED = 2
    SILENT = 3
    """Its process runs, and it publishes nothing."""
    FOLLOWER = 4
    CANDIDATE = 5
    LEADER = 6
    OLD_LEADER = 7
    """It believes that it leads, and another node leads in a later term."""
    LEARNER = 8
    BEHIND = 9
    """It has not applied what was committed half a second ago: it catches up, or it is cut off."""


class Kind(IntEnum):
    """What a message is. The numbers travel, too."""

    HEARTBEAT = 0
    ENTRIES = 1
    STORED = 2
    VOTE_ASKED = 3
    VOTE_GIVEN = 4
    VOTE_REFUSED = 5
    SNAPSHOT = 6
    PASSED_ON = 7
    ORDER = 8
    ANSWER = 9
    HAND_OVER = 10


ELECTIONS = frozenset({Kind.VOTE_ASKED, Kind.VOTE_GIVEN, Kind.VOTE_REFUSED, Kind.HAND_OVER})
_KINDS = {
    "request": Kind.ORDER,
    "responses": Kind.ANSWER,
    "forward": Kind.PASSED_ON,
    "append_entries_response": Kind.STORED,
    "install_snapshot": Kind.SNAPSHOT,
    "install_snapshot_response": Kind.STORED,
    "request_vote": Kind.VOTE_ASKED,
    "pre_vote": Kind.VOTE_ASKED,
    "timeout_now": Kind.HAND_OVER,
}
_VOTES = frozenset({"request_vote_response", "pre_vote_response"})
_ROLES = {
    "leader": Look.OLD_LEADER,
    "candidate": Look.CANDIDATE,
    "pre_candidate": Look.CANDIDATE,
    "follower": Look.FOLLOWER,
    "learner": Look.LEARNER,
}
NODE_COLUMNS = ("look", "term", "applied", "stored_lag", "commit_lag", "applied_lag", "due", "timeout")
"""Of each slot, as in ``look3``: the look, the term, the log index that is applied; by how many entries what is stored,
known as committed and applied is behind the leader's commit index; the election timer in ms: what is left, and all."""
MESSAGE_COLUMNS = ("sent", "received", "source", "target", "kind", "term", "index", "story", "live")
"""Times in ms of the wall clock, ``received`` unknown if the message is lost; numbers of nodes and clients; see
:class:`Kind`; what is not to be drawn live has ``live`` 0."""


def look_of(state: str, track: NodeTrack, leads: bool, is_late: bool, now_s: float) -> Look:
    """How a node looks.

    Args:
        state: ``running``, ``paused`` or ``stopped``, as the lab knows it.
        track: what the node has published.
        leads: whether it is the leader, by the one rule for all.
        is_late: whether it has not applied what was committed half a second ago.
        now_s: on the monotonic clock.
    """
    if state != "running":
        return Look.PAUSED if state == "paused" else Look.DEAD
    if track.newest is None:
        return Look.STARTING
    if not track.is_fresh(now_s):
        return Look.SILENT
    role = _ROLES.get(track.newest.role, Look.STARTING)
    if role is Look.OLD_LEADER and leads:
        return Look.LEADER
    return Look.BEHIND if is_late and role in (Look.FOLLOWER, Look.LEARNER) else role


def kind_of(message: Message) -> Kind | None:
    """What a message is drawn as; None: it is not drawn."""
    if message.kind == "append_entries":
        return Kind.ENTRIES if message.record.first_index else Kind.HEARTBEAT
    if message.kind in _VOTES:
        return Kind.VOTE_GIVEN if message.record.accepted else Kind.VOTE_REFUSED
    return _KINDS.get(message.kind)


def share_for(requests_per_s: float) -> float:
    """The share of the requests to sample: 1, 1/4, 1/16, ... so that it seldom changes."""
    share = 1.0
    while share * requests_per_s > REQUESTS_SAMPLED_PER_S * SHARE_STEP / 2:
        share /= SHARE_STEP
    return share


class Stories:
    """Which messages belong together, and which of them are live; see the module. Messages come in order of sending."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[tuple[object, ...], int] = OrderedDict()
        """Story -> its number."""
        self._of_round: OrderedDict[tuple[int, int], tuple[object, ...]] = OrderedDict()
        """(term, round) of AppendEntries -> its story: an answer names the round alone."""
        self._live: OrderedDict[int, None] = OrderedDict()
        """The numbers of the orders and heartbeats that are live."""
        self._told = 0
        self._order_ns = self._beat_ns = self._chunk_ns = 0
        """When the last live order, heartbeat and chunk of a snapshot were sent."""

    def place(self, message: Message, kind: Kind) -> tuple[int, bool]:
        """The number of the message's story, and whether it is live."""
        number = self._number(self._story(message, kind))
        return number, self._is_live(number, kind, message.sent_ns or 0)

    def _story(self, message: Message, kind: Kind) -> tuple[object, ...]:
        record = message.record
        place = (record.term, record.round)
        if kind in ELECTIONS:
            return ("election", record.term)
        if message.kind == "append_entries_response":
            return self._of_round.get(place, ("round", *place))
        if record.client:
            story: tuple[object, ...] = ("request", record.client, record.number)
        else:
            story = ("round", *place)
        if kind in (Kind.ENTRIES, Kind.HEARTBEAT):
            _keep(self._of_round, place, story)
        return story

    def _number(self, story: tuple[object, ...]) -> int:
        if story not in self._numbers:
            self._told += 1
            _keep(self._numbers, story, self._told)
        return self._numbers[story]

    def _is_live(self, number: int, kind: Kind, sent_ns: int) -> bool:
        if kind in ELECTIONS or number in self._live:
            return True
        if kind is Kind.SNAPSHOT:
            begins, self._chunk_ns = _after(sent_ns, self._chunk_ns, STORY_NS)
        elif kind is Kind.HEARTBEAT:
            if sent_ns - self._order_ns < BEAT_NS:
                return False
            begins, self._beat_ns = _after(sent_ns, self._beat_ns, BEAT_NS)
        elif kind in (Kind.ORDER, Kind.PASSED_ON, Kind.ENTRIES):
            begins, self._order_ns = _after(sent_ns, self._order_ns, STORY_NS)
        else:
            return False  # the end of a story whose beginning was not seen
        if begins:
            _keep(self._live, number, None)
        return begins


def _keep(memory: OrderedDict[Any, Any], key: object, value: object) -> None:
    memory[key] = value
    if len(memory) > STORIES_KEPT:
        memory.popitem(last=False)


def _after(at_ns: int, last_ns: int, least_ns: float) -> tuple[bool, int]:
    """Whether ``at_ns`` is late enough after ``last_ns``, and which of them is the last one now."""
    return (True, at_ns) if at_ns - last_ns >= least_ns else (False, last_ns)


def bounded(messages: Sequence[tuple[Message, Kind]], most: int) -> list[tuple[Message, Kind]]:
    """At most so many of them, in their order. Heartbeats and their like go first, elections last."""
    if len(messages) <= most:
        return list(messages)
    worth = {Kind.HEARTBEAT: 2, Kind.STORED: 1} | dict.fromkeys(ELECTIONS, -1)
    kept = sorted(range(len(messages)), key=lambda place: (worth.get(messages[place][1], 0), place))[:most]
    return [messages[place] for place in sorted(kept)]


@dataclass(slots=True)
class _Waiting:
    """Messages that are known, and not old enough to leave."""

    sequence: int = 0
    """For the next look at the traces."""
    messages: list[Message] = field(default_factory=list)

    def take(self, traces: Traces, now_ns: int) -> list[Message]:
        """Those that leave now, in the order in which they were sent. ``now_ns``: monotonic."""
        news = traces.since(self.sequence)
        self.sequence = news.sequence
        oldest_ns = now_ns - KEPT_MS * NS_PER_MS
        self.messages += [each for each in news.messages if each.sent_ns is not None and each.sent_ns > oldest_ns]
        due = [each for each in self.messages if each.sent_ns is not None and each.sent_ns <= now_ns - HOLD_NS]
        self.messages = [each for each in self.messages if each.sent_ns is None or each.sent_ns > now_ns - HOLD_NS]
        return sorted(due, key=lambda each: each.sent_ns or 0)


class PictureReadings:
    """See the module. The thread of the sampler calls it."""

    def __init__(self, cluster: Cluster, sampler: Sampler) -> None:
        self._cluster = cluster
        self._sampler = sampler
        self._rows = Ring(("t", *(f"{name}{slot}" for slot in range(MAX_SLOTS) for name in NODE_COLUMNS)), ROWS_KEPT)
        self._messages = Ring(MESSAGE_COLUMNS, MESSAGES_KEPT)
        self._waiting = _Waiting()
        self._stories = Stories()
        self._down: set[str] = set()
        """Nodes that have not been heard since their process ended."""
        self._hashes: dict[str, list[Any]] = {"slot": [], "hash": [], "agrees": []}
        self._hashed_s = float("-inf")
        self.looks: dict[str, Look] = {}
        """How each node looks, as of the last row."""

    @property
    def requests_per_s(self) -> float:
        """What the load clients get answered now, in requests."""
        return sum(each.interval.requests / each.interval_s for each in self._clients() if each.interval_s > 0)

    def news(self) -> tuple[object, ...]:
        """What a page is told of at once: it differs from the last one if a node died, a leader was elected, a link
        was cut."""
        return tuple(self.look(time.monotonic()).items()), tuple(self._cluster.links.items())

    def look(self, now_s: float) -> dict[str, Look]:
        """How each member looks now."""
        tracks, leader = self._sampler.nodes, self._sampler.who_leads()
        found = {}
        for name, state in states_of(self._cluster, tracks, self._sampler.ended).items():
            behind = self._sampler.behind(name)
            is_late = behind is not None and behind.is_late
            found[name] = self._since_its_start(name, look_of(state, tracks[name], name == leader, is_late, now_s))
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
        """Add one row, and the messages that have become known. ``now_ns``: wall clock."""
        self.looks = self.look(time.monotonic())
        row = {"t": now_ns / NS_PER_MS}
        for name, track in self._sampler.nodes.items():
            row |= {f"{column}{track.slot}": value for column, value in self._columns(name, track).items()}
        self._rows.append(row)
        self._take_messages(self._sampler.feed.traces)

    def _columns(self, name: str, track: NodeTrack) -> dict[str, float]:
        columns: dict[str, float] = {"look": self.looks.get(name, Look.STARTING)}
        status, behind = track.newest, self._sampler.behind(name)
        if status is not None:
            columns |= {"term": status.term, "applied": status.applied_index}
            columns |= {"due": status.election_due_ms, "timeout": status.election_timeout_ms}
        if status is not None and behind is not None:
            columns["commit_lag"], columns["applied_lag"] = round(behind.commit), round(behind.applied)
            columns["stored_lag"] = max(0, round(behind.commit)) - (status.last_index - status.commit_index)
        return columns

    def _take_messages(self, traces: Traces) -> None:
        now_ns = time.monotonic_ns()
        known = [(each, kind_of(each)) for each in self._waiting.take(traces, now_ns) if each.fate is not Fate.UNKNOWN]
        numbers = self._numbers()
        drawn = [(each, kind) for each, kind in known if kind is not None]
        for message, kind in bounded(drawn, MESSAGES_A_PUSH):
            source, target = (numbers.get(traces.name_of(end)) for end in (message.sender, message.to))
            story, live = self._stories.place(message, kind)
            if source is None or target is None or message.sent_ns is None:
                continue
            values: dict[str, float] = {"source": source, "target": target, "kind": kind, "story": story, "live": live}
            values |= {"term": message.record.term, "index": message.record.last_index}
            values["sent"] = traces.wall_ns(message.sent_ns) / NS_PER_MS
            if message.received_ns is not None:
                values["received"] = traces.wall_ns(message.received_ns) / NS_PER_MS
            self._messages.append(values)

    def _numbers(self) -> dict[str, int]:
        """Name -> number of all nodes and clients that are drawn."""
        clients = {each.name: CLIENT + place for place, each in enumerate(self._clients())}
        return clients | {name: track.slot for name, track in self._sampler.nodes.items()}

    def _clients(self) -> list[LoadMetrics]:
        """The newest snapshot of each load client at work."""
        now_ns, newest = time.time_ns(), {}
        for each in reversed(self._sampler.load_frames):
            if now_ns - each.time_ns > CLIENT_STALE_S * 1e9:
                break
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
        frame.streams["rows"] = Stream(self._rows.total, columns, lambda count: self._rows.newest(columns, count))
        frame.streams["messages"] = Stream(
            self._messages.total, MESSAGE_COLUMNS, lambda count: self._messages.newest(MESSAGE_COLUMNS, count)
        )
        slot_of = {name: track.slot for name, track in self._sampler.nodes.items()}
        frame.tables["nodes"] = {
            "slot": list(slot_of.values()),
            "name": list(slot_of),
            "colour": [node_colour(slot) for slot in slot_of.values()],
        }
        frame.tables["links"] = links_table(self._cluster.links, slot_of)
        frame.tables["clients"] = clients_table(self._clients(), self._client_endpoints())
        frame.tables["hashes"] = self._newest_hashes(slot_of)
        frame.tables["marks"] = marks_table(self._sampler.events, now_ns)
        frame.properties["picture", "caption"] = caption
        return frame

    def _client_endpoints(self) -> dict[str, int]:
        """Where clients reach each node -> its slot."""
        known = [track for track in self._sampler.nodes.values() if track.newest is not None and track.newest.address]
        return {client_endpoint(*parse_endpoint(each.newest.address)): each.slot for each in known if each.newest}

    def _newest_hashes(self, slot_of: Mapping[str, int]) -> dict[str, list[Any]]:
        if time.monotonic() - self._hashed_s >= HASH_S:
            self._hashed_s = time.monotonic()
            _, hashes, parted = agreement(self._sampler.feed, set(self._cluster.running))
            told = {name: value for name, value in hashes.items() if name in slot_of and value}
            common = not parted and len(set(told.values())) == 1
            self._hashes = {
                "slot": [slot_of[name] for name in told],
                "hash": [value[:8] for value in told.values()],
                "agrees": [common] * len(told),
            }
        return self._hashes


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


def clients_table(clients: Iterable[LoadMetrics], slot_at: Mapping[str, int]) -> dict[str, list[Any]]:
    """The load clients: name, orders acknowledged a second to two digits, and the slots of the nodes that they use."""
    table: dict[str, list[Any]] = {"name": [], "rate": [], "slots": []}
    for each in clients:
        rate = each.interval.acknowledged / each.interval_s if each.interval_s > 0 else 0.0
        used = [endpoint for endpoint, used in zip(each.endpoints, each.connected, strict=False) if used]
        table["name"].append(each.name)
        table["rate"].append(f"{float(f'{rate:.1e}'):,.0f}/s")
        table["slots"].append(sorted(slot_at[endpoint] for endpoint in used if endpoint in slot_at))
    return table


def marks_table(events: Sequence[Event], now_ns: int) -> dict[str, list[Any]]:
    """What happened in the time that a page keeps, as the charts call it."""
    since_ns = now_ns - KEPT_MS * NS_PER_MS
    shown = [event for event in events[-200:] if event.time_ns >= since_ns and event.kind in FAULTS.marks]
    shown.sort(key=lambda event: event.time_ns)
    return {
        "t": [event.time_ns / NS_PER_MS for event in shown],
        "label": [FAULTS.marks[event.kind].label_of(event) for event in shown],
    }
