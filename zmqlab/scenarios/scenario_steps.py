"""What a step of a scenario waits for, and what it does.

A *condition* looks at the run and says what it sees, or nothing as long as it does not hold. Every kind of event is a
condition (``elected``, ``promoted``, ``died node2``): the event has happened since the scenario last did something.
:data:`CONDITIONS` has the others. An *action* becomes a :class:`~zmqlab.lab.faults.Fault` at the moment of its strike.
Both are read from :data:`~zmqlab.lab.fault_kinds.FAULTS`:

- ``fault: kill leader`` is a draw of torture, by its kind and its name. It chooses its victims by itself.
- ``press: kill -9`` is a button of the panel, by what it says. Its victims are named beside it.

So a kind of fault that is registered can be used in scenarios, and nothing is listed here.

Nodes are called ``node0``, ``node1``, ..., or by what they are at the moment of the strike (:data:`ROLES`). Where there
is a choice, the seed of the scenario makes it, and so two runs choose alike. Which node leads differs from run to run.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from zmqlab.errors import ClusterError, SettingsError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.events import LabEvent
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_registry import Aim, Control, Draw, Target
from zmqlab.lab.faults import Breakable, Fault, Together
from zmqlab.load.load_messages import LoadMetrics, decode_metrics
from zmqlab.scenarios.nemesis import PROCEDURES, Deal, Nemesis, Progress
from zmqlab.scenarios.recovery import NEAR, behind_in_groups
from zmqlab.scenarios.written import Written, choices
from zmqlab.settings import parse_duration, parse_rate
from zmqlab.wire.control import Event, EventKind
from zmqlab.wire.node_status import NodeStatus

VICTIM = "victim"
"""The node, or the nodes, that the last fault hit."""
ROLES = ("leader", "follower", "followers", "all", VICTIM)
"""Who a fault may be for, besides a node by its name: ``follower`` is one of those that run, ``followers`` all of
them."""
SILENT_S = 0.5
"""A node that has published nothing for so long, five snapshots, has not caught up with anything."""


class Served(Progress):
    """What the snapshots of all load clients say together."""

    def __init__(self) -> None:
        super().__init__()
        self._by_name: dict[str, LoadMetrics] = {}

    def take(self, frame: bytes) -> None:
        """A frame of one of them."""
        metrics = decode_metrics(frame)
        self._by_name[metrics.name] = metrics

    @property
    def acknowledged(self) -> int:
        """Orders of all clients, since the start."""
        return sum(each.total.acknowledged for each in self._by_name.values())

    @property
    def silence_ms(self) -> float:
        """For how long no client has been answered, of those that are owed an answer; 0: one of them is owed none."""
        return min((each.silence_ms for each in self._by_name.values()), default=0.0)


@dataclass(slots=True)
class Situation:
    """A run of a scenario, as its conditions and actions see it; functions of a Python scenario get it, too."""

    cluster: Cluster
    served: Served
    nemesis: Nemesis
    """Knows when the cluster has recovered, and carries out faults that are procedures."""
    victims: tuple[str, ...] = ()
    """The nodes that the last fault hit."""
    heard: int = 0
    """So many events were there when the scenario last did something."""
    acknowledged_then: int = 0
    """And so many orders were acknowledged."""
    held: dict[str, list[Fault]] = field(default_factory=dict)
    """By the name of their step: faults that have struck and were not undone."""

    def begin(self) -> None:
        """The scenario is about to do something: what happens from here on is news."""
        self.heard = len(self.cluster.feed.events())
        self.acknowledged_then = self.served.acknowledged

    def news(self) -> list[Event]:
        """The events since then."""
        return self.cluster.feed.events()[self.heard :]

    def status(self, name: str) -> NodeStatus | None:
        """What a node published last; None if it is not heard now."""
        feed = self.cluster.feed
        heard = name in self.cluster.running and feed.silent_s().get(name, SILENT_S) < SILENT_S
        return feed.newest().get(name) if heard else None

    def hit(self, fault: Fault) -> None:
        """Remember whom a fault hits. One that is not about nodes leaves the victims as they are."""
        self.victims = tuple(_nodes_hit(fault)) or self.victims

    def named(self, word: str, rng: random.Random) -> list[str]:
        """The nodes that a word means now.

        Raises:
            NoLeader: the leader is meant, or all others, and there is none.
            ClusterError: it means no node.
        """
        aim = Aim(self.cluster, rng, 0.0)
        if word == "leader":
            return [aim.leader()]
        if word in ("follower", "followers"):
            names = [name for name in aim.followers() if name in self.cluster.running]
            found = names[:1] if word == "follower" else names
        elif word == "all":
            found = list(self.cluster.nodes)
        else:
            found = list(self.victims) if word == VICTIM else [word]
        if not found:
            raise ClusterError(f"there is no {word} now: {', '.join(self.cluster.running) or 'no node'} run")
        return found


def _nodes_hit(fault: Fault) -> list[str]:
    if isinstance(fault, Together):
        return [name for each in fault.faults for name in _nodes_hit(each)]
    name = getattr(fault, "node", "")
    return [name] if name else []


# -- conditions ----------------------------------------------------------------------------------------------------

Look = Callable[[Situation], str]
"""What a condition sees, for people; empty as long as it does not hold."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that a step waits for."""

    text: str
    look: Look


def _leader(situation: Situation) -> str:
    return situation.cluster.feed.leader_among(situation.cluster.running)


def _recovered(situation: Situation) -> str:
    """Every node runs, all know one leader, none is far behind, and a client was answered since the last act."""
    return "" if situation.nemesis.trouble(situation.acknowledged_then) else "every node runs and is near the leader"


def _caught_up(names: Sequence[str], situation: Situation) -> str:
    """These nodes have applied all that is committed but for a few entries."""
    if situation.cluster.shards > 1:
        behind = behind_in_groups(situation.cluster.feed)
        near = all(situation.status(name) is not None and behind.get(name, NEAR + 1) <= NEAR for name in names)
        return f"{', '.join(names)} in all groups" if near else ""
    told = {name: situation.status(name) for name in situation.cluster.nodes}
    end = max((status.commit_index for status in told.values() if status is not None), default=0)
    for name in names:
        status = told.get(name)
        if status is None or end - status.applied_index > NEAR:
            return ""
    return f"{', '.join(names)} at index {end:,}"


def _needs_snapshot(names: Sequence[str], situation: Situation) -> str:
    """The leader's log does not reach back to these nodes any more."""
    leader = situation.status(_leader(situation))
    for name in names:
        status = situation.cluster.feed.newest().get(name)
        if leader is None or status is None or leader.first_index <= status.last_index + 1:
            return ""
    return f"{', '.join(names)} ends before the leader's log begins, at index {leader.first_index:,}" if leader else ""


def _of_nodes(look: Callable[[Sequence[str], Situation], str]) -> Callable[[str], Look]:
    def with_word(word: str) -> Look:
        return lambda situation: look(situation.named(word, random.Random(0)), situation)

    return with_word


def _acknowledged(text: str) -> Look:
    orders = parse_rate(text) or 0.0
    return lambda each: f"{each.served.acknowledged:,} orders" if each.served.acknowledged >= orders else ""


def _silent(text: str) -> Look:
    most_ms = 1000 * parse_duration(text)
    return lambda each: f"{each.served.silence_ms:,.0f} ms" if each.served.silence_ms >= most_ms else ""


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
        return Condition(_name_of(function), lambda situation: "so it is" if function(situation) else "")
    name, _, argument = written.text().partition(" ")
    if name in events():
        if argument:
            _known_node(written, argument, (*nodes, VICTIM))
        return Condition(written.text(), lambda situation: _event(situation, name, argument))
    kind = CONDITIONS.get(name)
    if kind is None:
        raise written.wrong(f"nothing to wait for is called {name!r}: {choices(name, (*CONDITIONS, *events()))}")
    if bool(argument) != bool(kind.argument):
        raise written.wrong(f"it is {written.text()!r}: write {f'{name} {kind.argument}'.strip()!r}")
    if kind.argument == "NODE":
        _known_node(written, argument, (*nodes, VICTIM))
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
        if event.kind == kind and (not names or event.node in names):
            return f"{event.node or 'the cluster'}{f', term {event.term}' if event.term else ''}"
    return ""


# -- actions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a step does; ``make`` chooses its victims, with a generator of its own for that."""

    text: str
    make: Callable[[Situation, random.Random], Fault]
    is_held: bool = True
    """Whether there is anything to undo when it has struck."""


@dataclass(frozen=True, slots=True)
class _Whole(Fault):
    """Something that is over when it has struck."""

    act: Callable[[], object]

    def check(self, cluster: Breakable) -> None:
        """It finds out by itself."""

    def inflict(self, cluster: Breakable) -> None:
        self.act()

    def undo(self, cluster: Breakable) -> None:
        """Nothing is left of it."""

    @property
    def victims(self) -> str:
        return ""


def drawn(written: Written, amount: Written | None, hold_s: float | None, nodes: int) -> Action:
    """The action of ``fault: KIND DRAW``.

    Args:
        written: the text.
        amount: the size, for a draw that has one.
        hold_s: how long each fault of a procedure is held.
        nodes: how many the cluster has.

    Raises:
        SettingsError: there is no such draw, it has another size, or needs more nodes.
    """
    by_name = {f"{kind} {draw.name}": (kind, draw) for (kind, _), draw in FAULTS.draws.items()}
    text = written.text()
    if text not in by_name:
        raise written.wrong(f"no fault is called {text!r}: {choices(text, by_name)}")
    kind, draw = by_name[text]
    if draw.nodes > nodes:
        raise written.wrong(f"{text!r} needs {draw.nodes} nodes, and the cluster has {nodes}")
    size = _size(written, draw, amount)
    if draw.aim is None:
        return Action(text, _procedure(kind, draw, size, hold_s), is_held=False)
    aim = draw.aim
    return Action(text, lambda situation, rng: aim(Aim(situation.cluster, rng, size)))


def _size(written: Written, draw: Draw, amount: Written | None) -> float:
    low, high = draw.amount
    if not high:
        if amount is not None:
            raise amount.wrong(f"{written.text()!r} has no size: leave it away")
        return 0.0
    if amount is None:
        raise written.wrong(f"{written.text()!r} has a size: write amount, from {low:g} to {high:g}")
    return amount.number(low, high)


def _procedure(kind: str, draw: Draw, size: float, hold_s: float | None) -> Callable[[Situation, random.Random], Fault]:
    def make(situation: Situation, rng: random.Random) -> Fault:
        deal = Deal(0, kind, draw.name, draw.hold_s[0] if hold_s is None else hold_s, 0.0, size, 0)

        def act() -> None:
            with PROCEDURES[kind, draw.name](situation.nemesis, Aim(situation.cluster, rng, size), deal):
                pass

        return _Whole(act)

    return make


def buttons() -> Mapping[str, Control]:
    """By what they say."""
    return {control.button: control for control in FAULTS.controls}


def pressed(
    written: Written, victims: Sequence[Written], sizes: Mapping[str, Written], nodes: Collection[str]
) -> Action:
    """The action of ``press: BUTTON``.

    Args:
        written: the text.
        victims: no node, one, or the two nodes of a link.
        sizes: by the name of a parameter.
        nodes: the names that there can be.

    Raises:
        SettingsError: there is no such button, or it is for other victims, or a size does not fit.
    """
    control = buttons().get(written.text())
    if control is None:
        raise written.wrong(f"no button is called {written.text()!r}: {choices(written.text(), buttons())}")
    wanted = {Target.NODE: (1, "node: NODE"), Target.LINK: (2, "link: [NODE, NODE]"), Target.LEADER: (0, "")}
    count, hint = wanted[control.target]
    if len(victims) != count:
        said = f"write {hint} beside it" if hint else "it chooses the leader by itself"
        raise written.wrong(f"{control.button!r} is for {control.target}: {said}")
    words = [_known_node(each, each.text(), (*ROLES, *nodes)) for each in victims]
    ranges = {each.name: (each.low, each.high) for each in control.parameters}
    for name, size in sizes.items():
        if name not in ranges:
            raise size.wrong(f"{control.button!r} has no {name}: leave it away")
    values = {name: size.number(*ranges[name]) for name, size in sizes.items()}
    return Action(control.button, lambda situation, rng: _press(control, words, values, situation, rng))


def _press(
    control: Control, words: Sequence[str], sizes: Mapping[str, float], situation: Situation, rng: random.Random
) -> Fault:
    chosen = list(product(*(situation.named(word, rng) for word in words)))
    targets = [names for names in chosen if len(set(names)) == len(names)]
    if not targets:
        raise ClusterError(f"{control.button}: {' and '.join(words)} are one node now: name two")
    struck = [control.fault(situation.cluster, *names, **sizes) for names in targets]
    return struck[0] if len(struck) == 1 else Together(tuple(struck))


def called(function: Callable[[Situation], object]) -> Action:
    """The action of a function, in a Python scenario."""
    return Action(_name_of(function), lambda situation, _: _Whole(lambda: function(situation)), is_held=False)


def parameters() -> tuple[str, ...]:
    """The names of all sizes that buttons have."""
    return tuple(dict.fromkeys(each.name for control in FAULTS.controls for each in control.parameters))


def undone(faults: Iterable[Fault], cluster: Cluster) -> None:
    """Undo these faults, all at once."""
    Together(tuple(faults)).undo(cluster)


def _known_node(written: Written, word: str, known: Collection[str]) -> str:
    if word not in known:
        raise written.wrong(f"no node is called {word!r}: {choices(word, known)}")
    return word


def _name_of(function: Callable[..., object]) -> str:
    name = getattr(function, "__name__", "")
    return re.sub("_+", " ", name).strip() if name and name != "<lambda>" else "a function"
