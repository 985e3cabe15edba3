"""What torture breaks, and in which order: an endless list of faults that follows from a seed alone.

Pure: no clock, no process, and of the cluster only how many nodes it has. What can be drawn is read from the registry
of faults (:data:`~zmqlab.lab.fault_kinds.FAULTS`), to which this module adds ``mixed``: two faults at once.

A fault names its victims by what they are when it strikes (the leader, a follower), since which nodes those are differs
from run to run. Where there is a choice, the fault's own random number ``pick`` makes it. So two runs with one seed see
the same faults in the same order with the same sizes, and differ only in real time.

Faults are dealt like cards: all draws in random order, then all of them again in another order. So even a short run has
seen most of them, and the figures for two kinds come from about as many cases.

Every fault leaves a majority that runs and is connected, but for those that are marked ``is_total``.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from zmqlab.errors import SettingsError
from zmqlab.lab.fault_kinds import FAULTS, MIN_NODES, Draw, FaultKind

MAX_NODES = 9
"""The rest of the 15 that a cluster may have is room to scale up."""
REST_S = (0.5, 1.5)
"""Between a recovery and the next fault: long enough to see the cluster calm."""

FAULTS.register(
    FaultKind(
        name="mixed",
        draws=(
            Draw("loss, leader killed", (0.5, 2.0), amount=(0.02, 0.15)),
            Draw("delay, follower wiped", (0.5, 2.0), amount=(2, 20)),
            Draw("scale up, leader killed", (0.5, 2.0), amount=(0.0, 0.6)),
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Deal:
    """One draw that was dealt, with its sizes."""

    number: int
    """From 1 on."""
    kind: str
    variant: str
    hold_s: float
    """How long it lasts."""
    rest_s: float
    """How long the cluster rests before it strikes."""
    amount: float
    """Milliseconds, a share, a number of nodes or times, or seconds until the second of two faults: the draw knows."""
    pick: int
    """Seeds the choice among several victims."""

    @property
    def name(self) -> str:
        """For people and tables."""
        return f"{self.kind} {self.variant}"

    @property
    def draw(self) -> Draw:
        """What the registry says of it."""
        return FAULTS.draws[self.kind, self.variant]


def kinds() -> tuple[str, ...]:
    """The names of all kinds of fault that can be drawn."""
    return tuple(kind.name for kind in FAULTS if kind.draws)


def parse_kinds(text: str) -> tuple[str, ...]:
    """The kinds in a list with commas; an empty one means all. Raises SettingsError."""
    known = kinds()
    named = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) or known
    unknown = [name for name in named if name not in known]
    if unknown:
        raise SettingsError(f"no fault is called {unknown[0]!r}: choose from {', '.join(known)}")
    return named


def deals(seed: int, nodes: int, wanted: Iterable[str] = ()) -> Iterator[Deal]:
    """The faults of a run, without end.

    Args:
        seed: decides everything.
        nodes: how many the cluster has.
        wanted: only these kinds; none named means all.

    Raises:
        SettingsError: there is no such kind, or a cluster of so many nodes can't be tortured.
    """
    named = set(parse_kinds(",".join(wanted)))
    if not MIN_NODES <= nodes <= MAX_NODES:
        raise SettingsError(f"nodes is {nodes}: it must be from {MIN_NODES} to {MAX_NODES}, or one death is too many")
    deck = [(kind, draw) for (kind, _), draw in FAULTS.draws.items() if kind in named and draw.nodes <= nodes]
    return _deal(random.Random(f"torture {seed}"), deck)


def _deal(rng: random.Random, deck: list[tuple[str, Draw]]) -> Iterator[Deal]:
    number = 0
    while True:
        rng.shuffle(deck)
        for kind, draw in deck:
            number += 1
            hold_s, rest_s = round(rng.uniform(*draw.hold_s), 2), round(rng.uniform(*REST_S), 2)
            amount = round(rng.uniform(*draw.amount), 2)
            yield Deal(number, kind, draw.name, hold_s, rest_s, amount, rng.randrange(1 << 32))
