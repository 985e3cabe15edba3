"""What is broken, and in which order: an endless list of faults that follows from a seed alone.

Pure: no clock, no process, no knowledge of the cluster but how many nodes it has. A fault names its victims by what
they are when it strikes (the leader, a follower), since who that is differs from run to run; where there is a choice,
the fault's own random number ``pick`` makes it. So two runs with one seed see the same faults in the same order with
the same sizes, and differ only in real time.

Faults are dealt like cards: all variants in random order, then all of them again in another, so that even a short run
has seen most, and a figure for one kind is not of three cases where another has thirty.

Every fault but :data:`TOTAL` ones leaves a majority that runs and is connected.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from zmqlab.errors import SettingsError

MIN_NODES, MAX_NODES = 3, 9
"""Three is the least that survives anything; the rest of nine is room to scale up."""


class Variant(NamedTuple):
    """One way to break something. ``amount`` means what its kind says."""

    kind: str
    name: str
    hold_s: tuple[float, float]
    """From and to: how long it lasts."""
    amount: tuple[float, float] = (0.0, 0.0)
    nodes: int = MIN_NODES
    """The smallest cluster that it makes sense in."""


VARIANTS = (
    Variant("kill", "leader", (0.5, 3.0)),
    Variant("kill", "follower", (0.5, 3.0)),
    Variant("kill", "minority", (0.5, 3.0), nodes=5),
    Variant("kill", "again and again", (0.0, 0.3), (2, 4)),
    Variant("kill-all", "at once", (0.2, 1.0)),
    Variant("pause", "leader", (0.3, 3.0)),
    Variant("pause", "follower", (0.3, 3.0)),
    Variant("pause", "all", (0.2, 1.5)),
    Variant("terminate", "leader", (0.2, 2.0)),
    Variant("terminate", "follower", (0.2, 2.0)),
    Variant("terminate", "rolling", (0.0, 0.3)),
    Variant("partition", "leader cut off", (1.0, 4.0)),
    Variant("partition", "minority cut off", (1.0, 4.0)),
    Variant("partition", "leader not heard", (1.0, 4.0)),
    Variant("partition", "leader deaf", (1.0, 4.0)),
    Variant("partition", "bridge", (1.0, 4.0)),
    Variant("partition", "ring", (1.0, 4.0), nodes=5),
    Variant("delay", "leader", (1.0, 4.0), (50, 300)),
    Variant("delay", "one link", (1.0, 4.0), (50, 300)),
    Variant("delay", "all", (1.0, 4.0), (2, 20)),
    Variant("loss", "one node", (1.0, 4.0), (0.2, 0.6)),
    Variant("loss", "all", (1.0, 4.0), (0.02, 0.2)),
    Variant("wipe", "leader", (0.0, 0.0)),
    Variant("wipe", "follower", (0.0, 0.0)),
    Variant("scale", "up", (1.0, 3.0), (1, 2)),
    Variant("scale", "down", (1.0, 3.0), (1, 1)),
    Variant("mixed", "loss, leader killed", (0.5, 2.0), (0.02, 0.15)),
    Variant("mixed", "delay, follower wiped", (0.5, 2.0), (2, 20)),
    Variant("mixed", "scale up, leader killed", (0.5, 2.0), (0.0, 0.6)),
)
KINDS = tuple(dict.fromkeys(variant.kind for variant in VARIANTS))
TOTAL = {("kill-all", "at once"), ("pause", "all")}
"""Faults after which nobody serves until they end."""
REST_S = (0.5, 1.5)
"""Between a recovery and the next fault: long enough to see the cluster calm."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is done to a cluster."""

    number: int
    """From 1 on."""
    kind: str
    variant: str
    hold_s: float
    rest_s: float
    """What passes before it strikes."""
    amount: float
    """Milliseconds, a share, a number of nodes or times, or seconds until the second of two faults."""
    pick: int
    """Seeds the choice among several victims."""

    @property
    def name(self) -> str:
        """For people and tables."""
        return f"{self.kind} {self.variant}"

    @property
    def is_total(self) -> bool:
        """Whether nobody can be served while it lasts."""
        return (self.kind, self.variant) in TOTAL


def parse_kinds(text: str) -> tuple[str, ...]:
    """The kinds in a list with commas; an empty one means all. Raises SettingsError."""
    kinds = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) or KINDS
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise SettingsError(f"no fault is called {unknown[0]!r}: choose from {', '.join(KINDS)}")
    return kinds


def faults(seed: int, nodes: int, kinds: Iterable[str] = KINDS) -> Iterator[Fault]:
    """The faults of a run with this seed, without end. Raises SettingsError."""
    wanted = set(parse_kinds(",".join(kinds)))
    if not MIN_NODES <= nodes <= MAX_NODES:
        raise SettingsError(f"nodes is {nodes}: it must be from {MIN_NODES} to {MAX_NODES}, or one death is too many")
    deck = [variant for variant in VARIANTS if variant.kind in wanted and variant.nodes <= nodes]
    return _deal(random.Random(f"torture {seed}"), deck)


def _deal(rng: random.Random, deck: list[Variant]) -> Iterator[Fault]:
    number = 0
    while True:
        rng.shuffle(deck)
        for variant in deck:
            number += 1
            hold_s, rest_s = round(rng.uniform(*variant.hold_s), 2), round(rng.uniform(*REST_S), 2)
            amount = round(rng.uniform(*variant.amount), 2)
            yield Fault(number, variant.kind, variant.name, hold_s, rest_s, amount, rng.randrange(1 << 32))
