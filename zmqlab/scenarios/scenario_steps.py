"""The run of a scenario as its steps see it (:class:`Situation`), and what a step does.

An *action* becomes a :class:`~zmqlab.lab.faults.Fault` at the moment of its strike. It is read from
:data:`~zmqlab.lab.fault_kinds.FAULTS`:

- ``fault: kill leader`` is a draw of torture, by its kind and its name. It chooses its victims by itself.
- ``press: kill -9`` is a button of the panel, by what it says. Its victims are named beside it.

So a kind of fault that is registered can be used in scenarios, and nothing is listed here.

Nodes are called ``node0``, ``node1``, ..., or by what they are at the moment of the strike (:data:`ROLES`). Where there
is a choice, the seed of the scenario makes it, and so two runs choose alike. Which node leads differs from run to run.

With several Raft groups *the leader* is the node that leads the most of them, and a condition is about all of them. A
step that names a group means its leader, its members and what happens in it. The groups that a node led when a fault
hit it are *struck* (:attr:`Situation.struck`); expectations compare them with the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from zmqlab.errors import ClusterError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_registry import Aim, Control, Draw, Target
from zmqlab.lab.faults import Breakable, Fault, Partition, Together
from zmqlab.load.load_messages import LoadMetrics, decode_metrics
from zmqlab.scenarios.nemesis import PROCEDURES, Deal, Nemesis, Progress
from zmqlab.scenarios.written import Written, choices
from zmqlab.wire.control import Event
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wording import numbered

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

    def of_group(self, group: int) -> tuple[int, float]:
        """The same of one of several Raft groups: orders acknowledged, and the silence in ms."""
        shares = [share for each in self._by_name.values() for share in each.groups if share.group == group]
        acknowledged = sum(share.acknowledged for share in shares)
        return acknowledged, min((share.silence_ms for share in shares), default=0.0)


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
    group: int | None = None
    """The Raft group that the step names; None: it names none."""
    struck: set[int] = field(default_factory=set)
    """With several Raft groups: those that a node led when a fault hit it."""

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
        """A fault is about to strike: remember whom it hits, and what these nodes lead. One that is not about nodes
        leaves the victims as they are."""
        self.victims = tuple(_nodes_hit(fault)) or self.victims
        self.struck.update(self._led_by_those_hit(fault))

    def said_of_led(self, fault: Fault) -> str:
        """Which groups the nodes lead that a fault is about to hit; empty: none, or there is only one group."""
        led = self._led_by_those_hit(fault)
        return f", leading {numbered('group', led)}" if led else ""

    def _led_by_those_hit(self, fault: Fault) -> list[int]:
        """With several Raft groups: those that the nodes that it hits lead now, as nodes last said, in their order."""
        leaders = self.cluster.leaders if self.cluster.shards > 1 else {}
        hit = _nodes_cut_off(fault)
        return [group for group, leader in leaders.items() if leader in hit]

    def groups(self) -> Sequence[int]:
        """What a condition is about: the group that the step names, or all."""
        return range(self.cluster.shards) if self.group is None else (self.group,)

    def named(self, word: str, rng: random.Random) -> list[str]:
        """The nodes that a word means now.

        Raises:
            NoLeader: the leader is meant, or all others, and there is none.
            ClusterError: it means no node.
        """
        aim = Aim(self.cluster, rng, 0.0, self.group)
        if word == "leader":
            return [aim.leader()]
        if word in ("follower", "followers"):
            names = [name for name in aim.followers() if name in self.cluster.running]
            found = names[:1] if word == "follower" else names
        elif word == "all":
            found = list(aim.members)
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


def _nodes_cut_off(fault: Fault) -> list[str]:
    """The nodes that a fault hits, or parts from the largest side of a partition."""
    if isinstance(fault, Partition):
        return [name for side in sorted(fault.groups, key=len)[:-1] for name in side]
    return _nodes_hit(fault)


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
    return Action(text, lambda situation, rng: aim(Aim(situation.cluster, rng, size, situation.group)))


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
            aim = Aim(situation.cluster, rng, size, situation.group)
            with PROCEDURES[kind, draw.name](situation.nemesis, aim, deal):
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
    words = [known_node(each, each.text(), (*ROLES, *nodes)) for each in victims]
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
    return Action(name_of(function), lambda situation, _: _Whole(lambda: function(situation)), is_held=False)


def parameters() -> tuple[str, ...]:
    """The names of all sizes that buttons have."""
    return tuple(dict.fromkeys(each.name for control in FAULTS.controls for each in control.parameters))


def undone(faults: Iterable[Fault], cluster: Cluster) -> None:
    """Undo these faults, all at once."""
    Together(tuple(faults)).undo(cluster)


def known_node(written: Written, word: str, known: Collection[str]) -> str:
    if word not in known:
        raise written.wrong(f"no node is called {word!r}: {choices(word, known)}")
    return word


def name_of(function: Callable[..., object]) -> str:
    name = getattr(function, "__name__", "")
    return re.sub("_+", " ", name).strip() if name and name != "<lambda>" else "a function"
