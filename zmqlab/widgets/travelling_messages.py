"""Which sampled messages travel in the picture of a cluster, and which of them belong together.

Messages are real ones: nodes and load clients tell of a sample of their frames while a page shows the picture
(:mod:`zmqlab.lab.sampled_traces`). Only a message whose two ends are known is drawn as one that arrives. One that is
missing at a receiver that was heard all the time is drawn as lost. One whose fate is unknown is not drawn.

*Stories.* What belongs together is one story: a request with its copies and its answer, one campaign, one heartbeat and
its answers. At 5,000 orders a second all of them would be a blur, so only one order in a while is *live*, and elections
always are. A replay in slow motion shows all messages that came.

*Order.* The two ends of a message are told by two processes, up to 0.2 s apart. So messages wait here until they are
``HOLD_NS`` old, and then leave in the order in which they were sent.

Left out on purpose: asking for the samples, which takes a thread and is the widget's; and where a message is drawn and
when, which is the page's.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Any

from zmqlab.lab.incidents import NS_PER_MS
from zmqlab.lab.message_matching import Fate, Message
from zmqlab.lab.sampled_traces import Traces
from zmqlab.widgets.live_figure import Stream
from zmqlab.widgets.readings import Ring

KEPT_MS = 12_000
"""As long as a page keeps what it was told: the ten seconds of a replay, and some to begin with."""
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
SAMPLED_MIN, SAMPLED_MAX = 2.0, 9.0
"""Requests a second that are sampled: one in 0.7 s is live, and more make a replay. With five nodes each is a dozen
messages. The bounds are apart, so that a share fits for long."""


class Kind(IntEnum):
    """What a message is drawn as. The numbers travel; ``picture_scene.js`` has the same order."""

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
MESSAGE_COLUMNS = ("sent", "received", "source", "target", "kind", "term", "index", "story", "live")
"""Times in ms of the wall clock, ``received`` unknown if the message is lost; numbers of nodes and clients; see
:class:`Kind`; what is not to be drawn live has ``live`` 0."""


def kind_of(message: Message) -> Kind | None:
    """What a message is drawn as; None: it is not drawn."""
    if message.kind == "append_entries":
        return Kind.ENTRIES if message.record.first_index else Kind.HEARTBEAT
    if message.kind in _VOTES:
        return Kind.VOTE_GIVEN if message.record.accepted else Kind.VOTE_REFUSED
    return _KINDS.get(message.kind)


def share_for(requests_per_s: float, share: float = 0.0) -> float:
    """The share of the requests to sample: 1, 1/2, 1/4, ...; ``share``, that of before, as long as it still fits."""
    if share and SAMPLED_MIN <= share * requests_per_s <= SAMPLED_MAX:
        return share
    share = 1.0
    while share * requests_per_s > (SAMPLED_MIN + SAMPLED_MAX) / 2:
        share /= 2
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


class TravellingMessages:
    """See the module. The thread of the sampler calls it."""

    def __init__(self) -> None:
        self._rows = Ring(MESSAGE_COLUMNS, MESSAGES_KEPT)
        self._waiting = _Waiting()
        self._stories = Stories()

    def take(self, traces: Traces, numbers: Mapping[str, int]) -> None:
        """Add the messages that leave now.

        Args:
            traces: of the cluster's feed.
            numbers: the name of each node and client that is drawn -> its number.
        """
        known = [each for each in self._waiting.take(traces, time.monotonic_ns()) if each.fate is not Fate.UNKNOWN]
        drawn = [(each, kind) for each in known if (kind := kind_of(each)) is not None]
        ends = {end for each, _ in drawn for end in (each.sender, each.to)}
        number_of = {end: numbers.get(traces.name_of(end)) for end in ends}
        for message, kind in bounded(drawn, MESSAGES_A_PUSH):
            source, target = number_of[message.sender], number_of[message.to]
            story, live = self._stories.place(message, kind)
            if source is None or target is None or message.sent_ns is None:
                continue
            values: dict[str, float] = {"source": source, "target": target, "kind": kind, "story": story, "live": live}
            values |= {"term": message.record.term, "index": message.record.last_index}
            values["sent"] = traces.wall_ns(message.sent_ns) / NS_PER_MS
            if message.received_ns is not None:
                values["received"] = traces.wall_ns(message.received_ns) / NS_PER_MS
            self._rows.append(values)

    def stream(self) -> Stream:
        """All that travels, for a frame."""
        return Stream(self._rows.total, MESSAGE_COLUMNS, partial(self._rows.table, MESSAGE_COLUMNS))
