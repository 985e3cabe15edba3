"""Frames between nodes and clients, with everything that can happen to them on the way.

Each link has a direction. A frame on it may be lost, may arrive twice, and takes a time that is drawn anew for each,
so that frames overtake each other: more than TCP allows, and what a broadcast beside a unicast, or two connections
one after the other, amount to. A cut link loses everything; cutting one direction only is a one-way partition.

Rule: no frame is looked into here, and no fault is decided here; :mod:`~zmqlab.sim.faults` turns the knobs.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from zmqlab.sim.settings import MS, Plan

Deliver = Callable[[int, int, bytes], None]
"""(sender, to, frame)"""
HEALTHY_DELAY_US = 1 * MS
TAIL = 0.03
"""Share of frames that take up to ten times as long as the others."""


class Network:
    """All links of one run."""

    def __init__(self, plan: Plan, rng: random.Random, at: Callable[..., None], deliver: Deliver) -> None:
        self._plan = plan
        self._rng = rng
        self._at = at
        self._deliver = deliver
        self._healed = False
        self.cut: set[tuple[int, int]] = set()
        self.slow: dict[tuple[int, int], int] = {}
        """Links that take so many microseconds more."""
        self.sent = 0
        self.lost = 0

    def send(self, sender: int, to: int, frame: bytes) -> None:
        """Put a frame under way; whether and when it arrives is decided now."""
        self.sent += 1
        if (sender, to) in self.cut:
            self.lost += 1
            return
        copies = 1
        if not self._healed:
            chance = self._rng.random()
            if chance < self._plan.loss:
                self.lost += 1
                return
            if chance > 1 - self._plan.duplication:
                copies = 2
        self._at(self._delay_us(sender, to), self._deliver, sender, to, frame)
        if copies == 2:
            late = int(self._rng.random() * self._plan.second_copy_us)
            self._at(self._delay_us(sender, to) + late, self._deliver, sender, to, frame)

    def _delay_us(self, sender: int, to: int) -> int:
        if self._healed:
            return 100 + int(self._rng.random() * HEALTHY_DELAY_US)
        delay = self._rng.random() * self._plan.delay_us
        if self._rng.random() < TAIL:
            delay *= 10
        return 100 + int(delay) + self.slow.get((sender, to), 0)

    def join(self) -> None:
        """Undo all cuts and delays of single links."""
        self.cut.clear()
        self.slow.clear()

    def heal(self) -> None:
        """From now on nothing is lost, doubled or late; what is under way already arrives as it was drawn."""
        self.join()
        self._healed = True
