"""What a kind of fault has: how it looks, what starts it, how torture aims it; and the registry that holds them all.

A :class:`FaultKind` has four parts, each of which may be empty. *Marks* and *bands* say how its events look on a chart
(:mod:`~zmqlab.lab.events`). *Controls* are its buttons, with sizes that a person may set. *Draws* are the ways in which
torture strikes with it; each has an :class:`Aim` at the moment of the strike. The kinds themselves stand in
:mod:`~zmqlab.lab.fault_kinds`.

Rules: a kind decides nothing about pixels or colours, and nothing about the times between faults.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations

from zmqlab.errors import SettingsError
from zmqlab.lab.events import PLAIN_BANDS, PLAIN_MARKS, Band, Mark, Sort
from zmqlab.lab.fault_table import Link
from zmqlab.lab.faults import Breakable, Fault

MIN_NODES = 3
"""The smallest cluster that survives anything."""
LEADER_S = 10.0
"""How long a fault that means the leader waits for one."""
ALIVE = ("running", "paused")


# -- how torture aims ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aim:
    """What torture knows when a drawn fault is about to strike: the cluster, a size, and a generator for choices."""

    cluster: Breakable
    rng: random.Random
    amount: float
    """In the unit of the :class:`Draw`."""
    group: int | None = None
    """With several Raft groups, the one whose leader and members are meant; None: all of them are."""

    @property
    def minority(self) -> int:
        """How many of the :attr:`members` can be missed."""
        return (len(self.members) - 1) // 2

    def leader(self) -> str:
        """The leader, as soon as there is one. With several Raft groups it is that of :attr:`group`, or the node that
        leads the most of them. Raises NoLeader."""
        return self.cluster.wait_for_leader(LEADER_S, self.group)

    @property
    def members(self) -> tuple[str, ...]:
        """The nodes that are meant: all, or those that hold :attr:`group`, as far as is known."""
        nodes = self.cluster.nodes
        if self.group is None or self.cluster.feed.shards == 1:
            return nodes
        holders = self.cluster.feed.newest(self.group)
        return tuple(name for name in nodes if name in holders)

    def successors(self) -> list[str]:
        """The nodes that could lead one group, :attr:`group` or 0, in its leader's place; in random order."""
        return Aim(self.cluster, self.rng, self.amount, self.group or 0).followers()

    def followers(self) -> list[str]:
        """All :attr:`members` but the leader, in random order."""
        leader = self.leader()
        return self._shuffled(name for name in self.members if name != leader)

    def everyone(self) -> list[str]:
        """All :attr:`members`, in random order."""
        return self._shuffled(self.members)

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
    asks_leader: bool = False
    """Whether a leader must take members in, let them go, or hand over for it: impossible where no node leads."""


# -- how people start it -------------------------------------------------------------------------------------------


class Target(StrEnum):
    """What a person chooses before a fault strikes."""

    NODE = "node"
    LINK = "link"
    """Two nodes: the one that speaks, and the one that hears."""
    LEADER = "leader"
    """Nothing: the leader is meant, whichever node that is at the strike; with several Raft groups the node that leads
    the most of them."""


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
    is_rare: bool = False
    """Whether a display may keep it behind a further click, since it is wanted seldom."""
    needs_process: bool = False
    """Whether it starts, pauses or ends processes: it can't be done to nodes that were started elsewhere."""

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
            names = (cluster.wait_for_leader(LEADER_S, None),)
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
        return tuple(dict.fromkeys((*(band for kind in self for band in kind.bands), *PLAIN_BANDS)))

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
