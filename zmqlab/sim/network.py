"""Frames between nodes and clients, with everything that can happen to them on the way.

Each link has a direction. A frame on it may be lost, may arrive twice, and takes a time that is drawn anew for each,
so that frames overtake each other: more than TCP allows, and what a broadcast beside a unicast, or two connections
one after the other, amount to. A cut link loses everything; cutting one direction only is a one-way partition.

Rule: no frame is looked into here, and no fault is decided here; :mod:`~zmqlab.sim.faults` turns the knobs.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from zmqlab.sim.plan import MS, Plan
from zmqlab.sim.trace import Trace

Receiver = Callable[[int, bytes], None]
"""(sender, frame)"""
HEALTHY_DELAY_US = 1 * MS
TAIL = 0.03
"""Share of frames that take up to ten times as long as the others."""


class Network:
    """All links of one run."""

    def __init__(
        self,
        plan: Plan,
        rng: random.Random,
        at: Callable[..., None],
        now_us: Callable[[], int],
        trace: Trace | None,
    ) -> None:
        self._plan = plan
        self._rng = rng
        self._at = at
        self._now_us = now_us
        self._trace = trace
        self._healed = False
        self.receivers: dict[int, Receiver] = {}
        """Whoever has an address."""
        self.cut: set[tuple[int, int]] = set()
        self.slow: dict[tuple[int, int], int] = {}
        """Links that take so many microseconds more."""
        self.sent = 0
        self.lost = 0

    def send(self, sender: int, to: int, frame: bytes) -> None:
        """Put a frame under way; whether and when it arrives is decided now."""
        self.sent += 1
        delays_us = self._draw_delays(sender, to)
        for delay_us in delays_us:
            self._at(delay_us, self._deliver, sender, to, frame)
        self.lost += not delays_us
        if self._trace is not None:
            now_us = self._now_us()
            self._trace.frame(now_us, sender, to, frame, [now_us + delay_us for delay_us in delays_us])

    def _deliver(self, sender: int, to: int, frame: bytes) -> None:
        """A frame arrives; unless its link is cut by now and took it along, as a broken connection does."""
        if self.cut and self._plan.cuts_lose_all and (sender, to) in self.cut:
            self.lost += 1
            if self._trace is not None:
                self._trace.add(self._now_us(), "lost", sender=sender, to=to)
            return
        self.receivers[to](sender, frame)

    def _draw_delays(self, sender: int, to: int) -> tuple[int, ...]:
        """How long each copy takes; nothing if the frame is lost."""
        if self.cut and (sender, to) in self.cut:
            return ()
        chance = self._rng.random()
        if self._healed:
            return (100 + int(chance * HEALTHY_DELAY_US),)
        if chance < self._plan.loss:
            return ()
        if chance <= 1 - self._plan.duplication:
            return (self._delay_us(sender, to),)
        late_us = int(self._rng.random() * self._plan.second_copy_us)
        return self._delay_us(sender, to), self._delay_us(sender, to) + late_us

    def _delay_us(self, sender: int, to: int) -> int:
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
