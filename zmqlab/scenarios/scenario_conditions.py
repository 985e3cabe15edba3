"""What a step of a scenario waits for: conditions, which look at the run and say what they see.

Every kind of event is a condition (``elected``, ``promoted``, ``died node2``): the event has happened since the
scenario last did something. :data:`CONDITIONS` has the others. With several Raft groups a condition is about all of
them, or about the group that its step names.

Rules: a condition changes nothing, and says nothing as long as it does not hold.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from zmqlab.errors import SettingsError
from zmqlab.lab.events import LabEvent, group_named_in
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.scenarios.recovery import NEAR, behind_in
from zmqlab.scenarios.scenario_steps import VICTIM, Situation, known_node, name_of
from zmqlab.scenarios.written import Written, choices
from zmqlab.settings import parse_duration, parse_rate
from zmqlab.wire.control import Event, EventKind
from zmqlab.wording import counted

Look = Callable[[Situation], str]
"""What a condition sees, for people; empty as long as it does not hold."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that a step waits for."""

    text: str
    look: Look


def _leader(situation: Situation) -> str:
    """Each group that is meant has a leader."""
    groups, running = situation.groups(), situation.cluster.running
    leaders = [situation.cluster.feed.leader_among(running, group) for group in groups]
    if not all(leaders):
        return ""
    return leaders[0] if len(leaders) == 1 else f"all {len(leaders)} groups have one"


def _recovered(situation: Situation) -> str:
    """Every node runs, all know one leader, none is far behind, and a client was answered since the last act."""
    return "" if situation.nemesis.trouble(situation.acknowledged_then) else "every node runs and is near the leader"


def _caught_up(names: Sequence[str], situation: Situation) -> str:
    """These nodes have applied all that is committed but for a few entries."""
    told = {group: situation.cluster.feed.newest(group) for group in situation.groups()}
    behind = behind_in(told)
    if any(situation.status(name) is None or behind.get(name, NEAR + 1) > NEAR for name in names):
        return ""
    if situation.cluster.shards == 1:
        where = f"at index {max((status.commit_index for status in told[0].values()), default=0):,}"
    else:
        where = "in all groups" if situation.group is None else f"in group {situation.group}"
    return f"{', '.join(names)} {where}"


def _needs_snapshot(names: Sequence[str], situation: Situation) -> str:
    """The leader's log does not reach back to these nodes any more; with several groups, in one that they all hold."""
    feed = situation.cluster.feed
    for group in situation.groups():
        told = feed.newest(group)
        leader = feed.leader_among(situation.cluster.running, group)
        if leader and situation.status(leader) is not None and names:
            begins = told[leader].first_index
            if all(name in told and begins > told[name].last_index + 1 for name in names):
                where = f" in group {group}" if situation.cluster.shards > 1 else ""
                return f"{', '.join(names)} ends{where} before the leader's log begins, at index {begins:,}"
    return ""


def _of_nodes(look: Callable[[Sequence[str], Situation], str]) -> Callable[[str], Look]:
    def with_word(word: str) -> Look:
        return lambda situation: look(situation.named(word, random.Random(0)), situation)

    return with_word


def _acknowledged(text: str) -> Look:
    orders = parse_rate(text) or 0.0

    def look(each: Situation) -> str:
        count = each.served.acknowledged if each.group is None else each.served.of_group(each.group)[0]
        return counted(count, "order") if count >= orders else ""

    return look


def _silent(text: str) -> Look:
    most_ms = 1000 * parse_duration(text)

    def look(each: Situation) -> str:
        silence_ms = each.served.silence_ms if each.group is None else each.served.of_group(each.group)[1]
        return f"{silence_ms:,.0f} ms" if silence_ms >= most_ms else ""

    return look


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of condition."""

    argument: str
    """What follows its name, as people read it: NODE, COUNT, DURATION, or nothing."""
    make: Callable[[str], Look]


CONDITIONS: Mapping[str, _Kind] = {
    "leader": _Kind("", lambda _: _leader),
    "recovered": _Kind("", lambda _: _recovered),
    "caught_up": _Kind("NODE", _of_nodes(_caught_up)),
    "needs_snapshot": _Kind("NODE", _of_nodes(_needs_snapshot)),
    "silent": _Kind("DURATION", _silent),
    "acknowledged": _Kind("COUNT", _acknowledged),
}
"""By name, besides the kinds of event."""


def read_condition(written: Written, nodes: Collection[str]) -> Condition:
    """The condition that is written as ``NAME`` or ``NAME ARGUMENT``, or a function of the situation.

    Raises:
        SettingsError: there is none of that name, or its argument does not fit.
    """
    if callable(written.value):
        function = written.value
        return Condition(name_of(function), lambda situation: "so it is" if function(situation) else "")
    name, _, argument = written.text().partition(" ")
    if name in events():
        if argument:
            known_node(written, argument, (*nodes, VICTIM))
        return Condition(written.text(), lambda situation: _event(situation, name, argument))
    kind = CONDITIONS.get(name)
    if kind is None:
        raise written.wrong(f"nothing to wait for is called {name!r}: {choices(name, (*CONDITIONS, *events()))}")
    if bool(argument) != bool(kind.argument):
        raise written.wrong(f"it is {written.text()!r}: write {f'{name} {kind.argument}'.strip()!r}")
    if kind.argument == "NODE":
        known_node(written, argument, (*nodes, VICTIM))
    try:
        return Condition(written.text(), kind.make(argument))
    except SettingsError as error:
        raise written.wrong(error) from None


def events() -> tuple[str, ...]:
    """All kinds of event: what nodes tell, what the lab tells, and what the registered faults tell beside that."""
    return tuple(sorted({*map(str, EventKind), *map(str, LabEvent), *FAULTS.marks}))


def _event(situation: Situation, kind: str, word: str) -> str:
    names = situation.named(word, random.Random(0)) if word else ()
    for event in situation.news():
        if event.kind == kind and (not names or event.node in names) and _is_in_group(event, situation.group):
            where = f", {group}" if (group := group_named_in(event)) else ""
            return f"{event.node or 'the cluster'}{f', term {event.term}' if event.term else ''}{where}"
    return ""


def _is_in_group(event: Event, group: int | None) -> bool:
    """Whether an event is of that Raft group, or of none: what happens to a process happens to all its groups."""
    return group is None or event.group == group or event.kind not in set(EventKind)
