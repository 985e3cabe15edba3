"""What can happen to a cluster: the kinds of event that the lab adds, and how events look on a chart.

Nodes publish :class:`~zmqlab.wire.control.EventKind`: elections, changes of role, promotions. The lab adds
:class:`LabEvent`: what was done to the nodes, and what it noticed about them. A fault may have kinds of its own, which
are plain texts (:mod:`~zmqlab.lab.node_faults`): the registry knows them by their marks. All kinds travel and are kept
as :class:`~zmqlab.wire.control.Event`, in one list with one clock.

An event looks like a line with a label (:class:`Mark`) at one moment. Two events, one that begins something and one
that ends it, look like a stretch of time (:class:`Band`). The marks and bands of faults stand beside their faults in
:mod:`~zmqlab.lab.fault_kinds`; those of all other events stand here.

Rules: pure. No clock, no cluster, no colour: a display chooses a colour for each :class:`Sort`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from zmqlab.wire.control import Event, EventKind

OF_GROUP = "group "
"""Before a group's number, in the text of an event."""
ALL_LINKS = "all links"
"""What an event about links is about when it names no single one."""


class LabEvent(StrEnum):
    """What the lab did, or noticed. The values are what tables and files show."""

    STARTED = "started"
    RESTARTED = "restarted"
    """The node's process was started again."""
    ADDED = "added"
    """The node was started to join the cluster; it does not vote yet."""
    REMOVED = "removed"
    """The node left the group for good and has ended."""
    KILLED = "killed"
    """SIGKILL is about to be sent."""
    TERMINATED = "terminated"
    """SIGTERM is about to be sent."""
    DIED = "died"
    """The node's process ended, and the lab had not ended it."""
    ATTACHED = "attached"
    """This process listens to a node that was started elsewhere."""
    SILENT = "fell_silent"
    """The last word of such a node, as it came here: it may be dead, paused or cut off."""
    HEARD = "heard_again"
    """Such a node is heard again, and it has been the same process all the time."""
    PAUSED = "paused"
    """SIGSTOP is about to be sent."""
    RESUMED = "resumed"
    """SIGCONT is about to be sent."""
    WIPED = "wiped"
    """The node is about to be killed and to lose its journal."""
    CUT = "cut"
    """One direction of one link is about to be cut."""
    LINK = "link"
    """One direction of one link is about to be bad: late, lossy, narrow, or out of order."""
    PARTITIONED = "partitioned"
    """All links between groups of nodes are about to be cut."""
    HEALED = "healed"
    """A link, or with an empty node all links, is about to be whole again."""
    TRANSFER = "transfer"
    """The leader is about to be asked to hand leadership to the node."""
    HASH_MISMATCH = "hash_mismatch"
    """Two nodes have published different hashes of one index: a promise is broken."""


ENDS_OF_PAUSE = frozenset(
    (
        LabEvent.RESUMED,
        LabEvent.RESTARTED,
        LabEvent.KILLED,
        LabEvent.TERMINATED,
        LabEvent.DIED,
        LabEvent.WIPED,
        LabEvent.REMOVED,
    )
)
"""After each of these a node is not paused any more."""


class Sort(StrEnum):
    """What an event means to a person who watches."""

    FAULT = "fault"
    """Something broke, or was broken."""
    CHANGE = "change"
    """Something was mended or changed on purpose."""
    ELECTION = "election"


@dataclass(frozen=True, slots=True)
class Mark:
    """How events of one kind look: a line with a label."""

    kind: str
    """An event's kind."""
    label: str
    """A template that may name ``{node}``, ``{term}`` and ``{link}``."""
    sort: Sort

    def label_of(self, event: Event) -> str:
        """The label of one such event, with its Raft group if the event names one."""
        label = self.label.format(node=event.node, term=event.term, link=link_of(event))
        group = group_named_in(event)
        return f"{label}, {group}" if group else label


@dataclass(frozen=True, slots=True)
class Band:
    """How a stretch of time looks: from an event of one kind to one of another, for each node on its own.

    An event that ends it without naming a node ends it for all nodes.
    """

    label: str
    """A template that may name ``{node}``."""
    begins: frozenset[str]
    ends: frozenset[str]
    of_links: bool = False
    """The events are about links: one band reaches from the first bad link until no link is bad."""
    sort: Sort = Sort.FAULT


@dataclass(frozen=True, slots=True)
class Span:
    """One band that was found in a list of events. Times are those of the events."""

    label: str
    start_ns: int
    end_ns: int | None
    """None: it goes on."""
    sort: Sort


PLAIN_MARKS = (
    Mark(LabEvent.DIED, "{node} died", Sort.FAULT),
    Mark(LabEvent.SILENT, "{node} silent", Sort.FAULT),
    Mark(LabEvent.HEARD, "{node} heard again", Sort.CHANGE),
    Mark(LabEvent.HASH_MISMATCH, "states differ", Sort.FAULT),
    Mark(LabEvent.RESUMED, "{node} resumed", Sort.CHANGE),
    Mark(LabEvent.RESTARTED, "{node} restarted", Sort.CHANGE),
    Mark(LabEvent.ADDED, "{node} added", Sort.CHANGE),
    Mark(LabEvent.REMOVED, "{node} removed", Sort.CHANGE),
    Mark(LabEvent.HEALED, "{link} whole", Sort.CHANGE),
    Mark(EventKind.PROMOTED, "{node} votes", Sort.CHANGE),
    Mark(EventKind.ELECTED, "{node} leads, term {term}", Sort.ELECTION),
)
"""The marks of events that are no faults. Events of a kind without a mark are in the event log only."""
PLAIN_BANDS = (
    Band(
        "{node} silent",
        frozenset((LabEvent.SILENT,)),
        frozenset((LabEvent.HEARD, LabEvent.RESTARTED, LabEvent.REMOVED)),
    ),
)
"""The bands of what no fault of the lab's has caused."""


def link_of(event: Event) -> str:
    """Of an event about one link: which, as in ``node0 → node1``. The event's text begins with it."""
    return event.text.split(":")[0].replace("->", "→") if event.node else ALL_LINKS


def naming_its_group(event: Event) -> Event:
    """The same event of a cluster with several Raft groups: its text begins with its group, as in ``group 3``, and does
    not end with it, as a line of a node's log does."""
    said = event.text.removesuffix(f" group={event.group}")
    return msgspec.structs.replace(event, text=f"{OF_GROUP}{event.group}" + (f": {said}" if said else ""))


def group_named_in(event: Event) -> str:
    """``group 3``, if :func:`naming_its_group` has been at work; else empty."""
    return event.text.split(":")[0] if event.text.startswith(OF_GROUP) else ""


def spans_of(events: Iterable[Event], bands: Iterable[Band]) -> list[Span]:
    """The stretches of time that ``bands`` find in ``events``; those that go on come last."""
    ordered = sorted(events, key=lambda event: event.time_ns)
    found = [span for band in bands for span in _spans_of(ordered, band)]
    return sorted(found, key=lambda span: span.end_ns is None)


def _spans_of(ordered: Iterable[Event], band: Band) -> list[Span]:
    spans: list[Span] = []
    open_ns: dict[str, int] = {}
    """What is under way, by node or link, and when it began."""
    first_ns = 0
    """When the oldest of what is under way began; counts only for links."""
    for event in ordered:
        subject = link_of(event) if band.of_links else event.node
        if event.kind in band.begins:
            first_ns = first_ns if open_ns else event.time_ns
            open_ns.setdefault(subject, event.time_ns)
        elif event.kind in band.ends and open_ns:
            ended = [subject] if event.node else list(open_ns)
            began_ns = [(name, open_ns.pop(name)) for name in ended if name in open_ns]
            if not band.of_links:
                spans += [_span(band, name, start_ns, event.time_ns) for name, start_ns in began_ns]
            elif not open_ns:
                spans.append(_span(band, "", first_ns, event.time_ns))
    if band.of_links:
        return [*spans, _span(band, "", first_ns, None)] if open_ns else spans
    return spans + [_span(band, name, start_ns, None) for name, start_ns in open_ns.items()]


def _span(band: Band, node: str, start_ns: int, end_ns: int | None) -> Span:
    return Span(band.label.format(node=node), start_ns, end_ns, band.sort)
