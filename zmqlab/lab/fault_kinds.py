"""The one registry of what can be broken: how each kind of fault looks, what starts it, and how torture draws it.

:data:`FAULTS` holds a :class:`FaultKind` for each. Three kinds of reader use it:

- charts and tables: the marks and bands of its events (:mod:`~zmqlab.lab.events`);
- buttons: its controls. ``control.fault(cluster, "node1").strike(cluster)`` is a click, and ``.undo(cluster)`` another;
- torture: its draws (:mod:`zmqlab.scenarios.nemesis`), and scenario files: draws and buttons, each by its name.

So a new kind of fault is a class (:class:`~zmqlab.lab.faults.Fault`) and one call of :meth:`Registry.register`, in one
file. ``tests/lab/test_fault_kinds.py`` has an example.

Rules: a kind decides nothing about pixels or colours, and nothing about the times between faults.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations

from zmqlab.errors import SettingsError
from zmqlab.lab import faults
from zmqlab.lab.events import ENDS_OF_PAUSE, PLAIN_MARKS, Band, LabEvent, Mark, Sort
from zmqlab.lab.faults import Breakable, Fault
from zmqlab.lab.link_table import Link
from zmqlab.wire.control import LinkFault

MIN_NODES = 3
"""The smallest cluster that survives anything."""
LEADER_S = 10.0
"""How long a fault that means the leader waits for one."""
ALIVE = ("running", "paused")
DELAY_MS_MAX = 500.0
"""As far as a slider goes: beyond 200 ms elections begin."""


# -- how torture aims ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aim:
    """What torture knows when a drawn fault is about to strike: the cluster, a size, and a generator for choices."""

    cluster: Breakable
    rng: random.Random
    amount: float
    """In the unit of the :class:`Draw`."""

    @property
    def minority(self) -> int:
        """How many nodes can be missed."""
        return (len(self.cluster.nodes) - 1) // 2

    def leader(self) -> str:
        """The leader, as soon as there is one. Raises NoLeader."""
        return self.cluster.wait_for_leader(LEADER_S)

    def followers(self) -> list[str]:
        """All nodes but the leader, in random order."""
        leader = self.leader()
        return self._shuffled(name for name in self.cluster.nodes if name != leader)

    def everyone(self) -> list[str]:
        """All nodes, in random order."""
        return self._shuffled(self.cluster.nodes)

    def links(self, *names: str) -> tuple[Link, ...]:
        """The links of these nodes in both directions; without names all links."""
        pairs = permutations(self.cluster.nodes, 2)
        return tuple(pair for pair in pairs if not names or set(names).intersection(pair))

    def _shuffled(self, names: Iterable[str]) -> list[str]:
        shuffled = list(names)
        self.rng.shuffle(shuffled)
        return shuffled


@dataclass(frozen=True, slots=True)
class Draw:
    """One way in which torture strikes with a kind of fault."""

    name: str
    hold_s: tuple[float, float]
    """From and to: how long it lasts."""
    aim: Callable[[Aim], Fault] | None = None
    """Chooses the victims at the moment of the strike. None: a procedure of the nemesis' own."""
    amount: tuple[float, float] = (0.0, 0.0)
    """From and to: a size, in a unit that ``aim`` knows."""
    nodes: int = MIN_NODES
    """The smallest cluster that it makes sense in."""
    is_total: bool = False
    """Whether no client can be served while it lasts."""


# -- how people start it -------------------------------------------------------------------------------------------


class Target(StrEnum):
    """What a person chooses before a fault strikes."""

    NODE = "node"
    LINK = "link"
    """Two nodes: the one that speaks, and the one that hears."""
    LEADER = "leader"
    """Nothing: the leader is meant, whichever node that is at the strike."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One size that a person may set, as with a slider."""

    name: str
    """What :attr:`Control.make` is given it as, with its unit."""
    low: float
    high: float
    label: str


@dataclass(frozen=True, slots=True)
class Undo:
    """The button that undoes what another button did."""

    button: str
    hint: str
    states: tuple[str, ...] = ()
    """In which states of a node it is of use; empty: it is about links, and of use while one is bad."""


@dataclass(frozen=True, slots=True)
class Control:
    """One button: what it says, what must be chosen before, and the fault that it makes."""

    button: str
    hint: str
    """What happens, for the person who points at it."""
    target: Target
    make: Callable[..., Fault]
    """Given the names of the target's nodes, and the parameters by name."""
    states: tuple[str, ...] = ALIVE
    """In which states of a node it is of use: ``running``, ``paused``, ``stopped``."""
    undo: Undo | None = None
    parameters: tuple[Parameter, ...] = ()
    danger: bool = False
    """Whether a display should warn by its colour."""
    short: str = ""
    """What it says on a narrow page; empty: the same."""

    @property
    def is_about_links(self) -> bool:
        """Whether it breaks links. Its button then belongs to the links, and any other button to the nodes."""
        return self.target is Target.LINK or (self.undo is not None and not self.undo.states)

    def fault(self, cluster: Breakable, *names: str, **sizes: float) -> Fault:
        """The fault for this target.

        Args:
            cluster: where it is to strike.
            names: one node; or the node that speaks and the node that hears; none for the leader.
            sizes: a value for each parameter; one that is left out is at its lowest.

        Raises:
            SettingsError: a size is out of its range, or of no parameter.
            NoLeader: the leader is meant, and there is none.
        """
        ranges = {each.name: each for each in self.parameters}
        sizes = {each.name: each.low for each in self.parameters} | sizes
        for name, value in sizes.items():
            limits = ranges.get(name)
            if limits is None or not limits.low <= value <= limits.high:
                told = "no such size" if limits is None else f"it must be from {limits.low:g} to {limits.high:g}"
                raise SettingsError(f"{self.button}: {name} is {value!r}: {told}")
        if self.target is Target.LEADER:
            names = (cluster.wait_for_leader(LEADER_S),)
        return self.make(*names, **sizes)


# -- the registry --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """What one kind of fault is called, how it looks, what starts it, and how torture draws it."""

    name: str
    """As in ``zmqlab torture --faults NAME``."""
    marks: tuple[Mark, ...] = ()
    """How its events look. Kinds of fault that tell the same event share its mark."""
    bands: tuple[Band, ...] = ()
    controls: tuple[Control, ...] = ()
    draws: tuple[Draw, ...] = ()


class Registry:
    """All kinds of fault, in the order of their registration."""

    def __init__(self) -> None:
        self._kinds: dict[str, FaultKind] = {}
        self.marks: Mapping[str, Mark] = {}
        """Kind of event -> how it looks: for the events of all faults, and for those that are no faults."""
        self._changed()

    def register(self, kind: FaultKind) -> FaultKind:
        """Add a kind of fault. Raises ValueError if its name is taken."""
        if kind.name in self._kinds:
            raise ValueError(f"a kind of fault is called {kind.name!r} already: choose another name")
        self._kinds[kind.name] = kind
        self._changed()
        return kind

    def remove(self, name: str) -> None:
        """Take a kind of fault out again."""
        del self._kinds[name]
        self._changed()

    def __iter__(self) -> Iterator[FaultKind]:
        return iter(tuple(self._kinds.values()))

    def _changed(self) -> None:
        self.marks = {mark.kind: mark for mark in (*PLAIN_MARKS, *(mark for kind in self for mark in kind.marks))}

    @property
    def bands(self) -> Sequence[Band]:
        """All bands, each once."""
        return tuple(dict.fromkeys(band for kind in self for band in kind.bands))

    @property
    def controls(self) -> Sequence[Control]:
        """All buttons."""
        return tuple(control for kind in self for control in kind.controls)

    @property
    def draws(self) -> Mapping[tuple[str, str], Draw]:
        """(name of the kind, name of the draw) -> what torture may draw."""
        return {(kind.name, draw.name): draw for kind in self for draw in kind.draws}

    def is_fault(self, event_kind: str) -> bool:
        """Whether an event of this kind is something that broke, or was broken."""
        mark = self.marks.get(event_kind)
        return mark is not None and mark.sort is Sort.FAULT


FAULTS = Registry()


# -- what there is -------------------------------------------------------------------------------------------------

ANY_STATE = (*ALIVE, "stopped")
RESUME = Undo("resume", "SIGCONT", ("paused",))
HEAL = Undo("heal", "make its links whole")
LINK_MARK = Mark(LabEvent.LINK, "{link} slow or lossy", Sort.FAULT)
DELAY = Parameter("delay_ms", 0, DELAY_MS_MAX, "delay, ms")
LOSS = Parameter("loss", 0, 1, "share of frames lost")


def _all(fault: Callable[[str], Fault], names: Iterable[str]) -> Fault:
    return faults.Together(tuple(fault(name) for name in names))


def _bad(links: Iterable[Link], delay_ms: float = 0.0, loss: float = 0.0) -> Fault:
    return faults.BadLinks(tuple(links), LinkFault(delay_ms=delay_ms, loss=loss))


def _cut(source: str, target: str) -> Fault:
    return faults.BadLinks(((source, target),), LinkFault(cut=True))


def _worsen(source: str, target: str, delay_ms: float = 0.0, loss: float = 0.0) -> Fault:
    return _bad([(source, target)], delay_ms, loss)


def _both_ways(links: Iterable[Link], aim: Aim) -> tuple[Link, Link]:
    one = aim.rng.choice(tuple(links))
    return one, (one[1], one[0])


def _cut_off(aim: Aim, away: Sequence[str]) -> Fault:
    """These on one side, all others on the other."""
    return faults.Partition((tuple(away), tuple(name for name in aim.cluster.nodes if name not in away)))


def _bridge(aim: Aim) -> Fault:
    """Two halves that do not hear each other, and nodes between them that hear both."""
    ring, half = aim.everyone(), aim.minority
    return faults.Partition((tuple(ring[:half]), tuple(ring[len(ring) - half :])))


def _ring(aim: Aim) -> Fault:
    """Each node hears as many neighbours on either side as make a majority with itself."""
    ring = aim.everyone()
    reach = (len(ring) // 2 + 1) // 2
    apart = [
        (ring[one], ring[other])
        for one, other in permutations(range(len(ring)), 2)
        if min(abs(one - other), len(ring) - abs(one - other)) > reach
    ]
    return faults.BadLinks(tuple(apart), LinkFault(cut=True))


def _one_way(aim: Aim, deaf: bool) -> Fault:
    """The leader hears no follower, or no follower hears the leader."""
    leader = aim.leader()
    links = tuple((name, leader) if deaf else (leader, name) for name in aim.followers())
    return faults.BadLinks(links, LinkFault(cut=True))


def _scaled(aim: Aim, direction: int) -> Fault:
    return faults.Scale(len(aim.cluster.nodes) + direction * round(aim.amount), len(aim.cluster.nodes))


for _kind in (
    FaultKind(
        name="kill",
        marks=(Mark(LabEvent.KILLED, "{node} killed", Sort.FAULT),),
        controls=(
            Control("kill -9", "SIGKILL", Target.NODE, faults.Kill, danger=True),
            Control("kill the leader", "SIGKILL for the node that leads now", Target.LEADER, faults.Kill, danger=True),
        ),
        draws=(
            Draw("leader", (0.5, 3.0), lambda aim: faults.Kill(aim.leader())),
            Draw("follower", (0.5, 3.0), lambda aim: faults.Kill(aim.followers()[0])),
            Draw("minority", (0.5, 3.0), lambda aim: _all(faults.Kill, aim.everyone()[: aim.minority]), nodes=5),
            Draw("again and again", (0.0, 0.3), amount=(2, 4)),
        ),
    ),
    FaultKind(
        name="kill-all",
        draws=(Draw("at once", (0.2, 1.0), lambda aim: faults.power_cut(aim.everyone()), is_total=True),),
    ),
    FaultKind(
        name="pause",
        marks=(Mark(LabEvent.PAUSED, "{node} paused", Sort.FAULT),),
        bands=(Band("{node} paused", frozenset((LabEvent.PAUSED,)), ENDS_OF_PAUSE),),
        controls=(
            Control("pause", "SIGSTOP: it hangs, sockets open", Target.NODE, faults.Pause, ("running",), RESUME),
        ),
        draws=(
            Draw("leader", (0.3, 3.0), lambda aim: faults.Pause(aim.leader())),
            Draw("follower", (0.3, 3.0), lambda aim: faults.Pause(aim.followers()[0])),
            Draw("all", (0.2, 1.5), lambda aim: _all(faults.Pause, aim.everyone()), is_total=True),
        ),
    ),
    FaultKind(
        name="terminate",
        marks=(Mark(LabEvent.TERMINATED, "{node} terminated", Sort.FAULT),),
        controls=(
            Control("terminate", "SIGTERM: it ends by itself", Target.NODE, faults.Terminate, short="term"),
            Control(
                "restart", "end it, if it runs, and start it from its journal", Target.NODE, faults.Restart, ANY_STATE
            ),
        ),
        draws=(
            Draw("leader", (0.2, 2.0), lambda aim: faults.Terminate(aim.leader())),
            Draw("follower", (0.2, 2.0), lambda aim: faults.Terminate(aim.followers()[0])),
            Draw("rolling", (0.0, 0.3)),
        ),
    ),
    FaultKind(
        name="partition",
        marks=(
            Mark(LabEvent.PARTITIONED, "partition", Sort.FAULT),
            Mark(LabEvent.CUT, "{link} cut", Sort.FAULT),
            LINK_MARK,
        ),
        bands=(
            Band(
                "links bad",
                frozenset((LabEvent.PARTITIONED, LabEvent.CUT, LabEvent.LINK)),
                frozenset((LabEvent.HEALED,)),
                of_links=True,
            ),
        ),
        controls=(
            Control("cut", "the second node hears nothing of the first", Target.LINK, _cut, undo=HEAL),
            Control("isolate", "cut all links of this node", Target.NODE, faults.Isolate, undo=HEAL),
            Control("isolate the leader", "cut all links of the leader", Target.LEADER, faults.Isolate, undo=HEAL),
        ),
        draws=(
            Draw(
                "leader cut off",
                (1.0, 4.0),
                lambda aim: _cut_off(aim, [aim.leader(), *aim.followers()[: aim.minority - 1]]),
            ),
            Draw("minority cut off", (1.0, 4.0), lambda aim: _cut_off(aim, aim.followers()[: aim.minority])),
            Draw("leader not heard", (1.0, 4.0), lambda aim: _one_way(aim, deaf=False)),
            Draw("leader deaf", (1.0, 4.0), lambda aim: _one_way(aim, deaf=True)),
            Draw("bridge", (1.0, 4.0), _bridge),
            Draw("ring", (1.0, 4.0), _ring, nodes=5),
        ),
    ),
    FaultKind(
        name="delay",
        marks=(LINK_MARK,),
        controls=(
            Control(
                "make worse",
                "the second node hears the first late, or loses frames",
                Target.LINK,
                _worsen,
                undo=HEAL,
                parameters=(DELAY, LOSS),
            ),
        ),
        draws=(
            Draw("leader", (1.0, 4.0), lambda aim: _bad(aim.links(aim.leader()), delay_ms=aim.amount), (50, 300)),
            Draw(
                "one link", (1.0, 4.0), lambda aim: _bad(_both_ways(aim.links(), aim), delay_ms=aim.amount), (50, 300)
            ),
            Draw("all", (1.0, 4.0), lambda aim: _bad(aim.links(), delay_ms=aim.amount), (2, 20)),
        ),
    ),
    FaultKind(
        name="loss",
        marks=(LINK_MARK,),
        draws=(
            Draw("one node", (1.0, 4.0), lambda aim: _bad(aim.links(aim.everyone()[0]), loss=aim.amount), (0.2, 0.6)),
            Draw("all", (1.0, 4.0), lambda aim: _bad(aim.links(), loss=aim.amount), (0.02, 0.2)),
        ),
    ),
    FaultKind(
        name="wipe",
        marks=(Mark(LabEvent.WIPED, "{node} wiped", Sort.FAULT),),
        controls=(
            Control(
                "wipe", "kill it, delete its journal; it rejoins as a new member", Target.NODE, faults.Wipe, ANY_STATE
            ),
        ),
        draws=(
            Draw("leader", (0.0, 0.0), lambda aim: faults.Wipe(aim.leader())),
            Draw("follower", (0.0, 0.0), lambda aim: faults.Wipe(aim.followers()[0])),
        ),
    ),
    FaultKind(
        name="scale",
        draws=(
            Draw("up", (1.0, 3.0), lambda aim: _scaled(aim, 1), (1, 2)),
            Draw("down", (1.0, 3.0), lambda aim: _scaled(aim, -1), (1, 1)),
        ),
    ),
    FaultKind(
        name="transfer",
        marks=(Mark(LabEvent.TRANSFER, "{node} is to lead", Sort.CHANGE),),
        controls=(
            Control("make it lead", "the leader hands over to this node", Target.NODE, faults.Transfer, ("running",)),
        ),
        draws=(Draw("follower", (0.1, 0.5), lambda aim: faults.Transfer(aim.followers()[0])),),
    ),
):
    FAULTS.register(_kind)
