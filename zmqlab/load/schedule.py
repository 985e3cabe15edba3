"""When each order is meant to be sent, fixed before any order is sent: the clock of the open loop.

A load generator that sends the next order when the last one is answered slows down exactly when the system does, and
never sees the waiting that the system causes: coordinated omission (Tene; the README of wrk2). Here the intended times
depend on the seed and the rate alone. Each order is sent, late if need be, and its latency counts from the intended
time.

Times are nanoseconds of the caller's clock. They are made in chunks of 1,024, so that a long run needs no memory. A
change of the rate keeps the times that have passed, drops the others, and starts anew at the moment of the change.

The rate may change along straight lines (:class:`~zmqlab.load.load_settings.Stage`). Then the k-th order is due when
the rate has added up to the k-th value of a process of rate 1: whole numbers for constant arrivals, sums of exponential
gaps for Poisson ones. That is the inversion method for a Poisson process whose rate varies (Çinlar, *Introduction to
Stochastic Processes*, 1975, section 4.7), and it is exact: nothing is rounded to intervals. A rate that does not change
is a curve of one line. So constant arrivals are counted from the start, and do not drift.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zmqlab.load.load_settings import Arrivals, Stage
from zmqlab.load.order_flow import Ints

CHUNK = 1_024
NEVER_NS = (1 << 63) - 1
_NOTHING: Ints = np.empty(0, np.int64)
_Floats = npt.NDArray[np.float64]


class Curve:
    """A rate that changes along straight lines: what it is at a time, and when it has added up to a number."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._at_s: _Floats = np.array([stage.at_s for stage in stages])
        self._rates: _Floats = np.array([stage.rate for stage in stages], np.float64)
        lengths_s = np.diff(self._at_s)
        self._slopes: _Floats = np.zeros(len(stages))
        """Of the line that begins at each point, in orders/s, a second; 0 behind the last point and at a step."""
        np.divide(np.diff(self._rates), lengths_s, out=self._slopes[:-1], where=lengths_s > 0)
        orders = lengths_s * (self._rates[:-1] + self._rates[1:]) / 2
        self._sums: _Floats = np.concatenate(([0.0], np.cumsum(orders)))
        """How many orders fall due, on average, before each point."""

    def rate_at(self, time_s: float) -> float:
        """Orders a second, ``time_s`` after the start."""
        time_s = max(time_s, 0.0)
        line = int(np.searchsorted(self._at_s, time_s, side="right")) - 1
        return float(self._rates[line] + self._slopes[line] * (time_s - self._at_s[line]))

    def times_s(self, sums: _Floats) -> _Floats:
        """When the rate has added up to each of ``sums``, which are in no descending order; infinite for never.

        Within a line of slope m that begins with rate a, the sum after x seconds is d = a x + m x²/2. The root is
        written so that m may be 0: x = 2 d / (a + sqrt(a² + 2 m d)).
        """
        line = np.searchsorted(self._sums, sums, side="right") - 1
        rates, over = self._rates[line], sums - self._sums[line]
        ends = rates + np.sqrt(np.maximum(rates * rates + 2 * self._slopes[line] * over, 0.0))
        into_s = np.where(self._slopes[line] > 0, 0.0, np.inf)  # where no order is due yet
        np.divide(2 * over, ends, out=into_s, where=ends > 0)
        return np.asarray(self._at_s[line] + into_s)


class Schedule:
    """Intended send times, ascending, from ``start_ns`` until ``end_ns`` (exclusive)."""

    def __init__(
        self,
        rate: float,
        *,
        arrivals: Arrivals = "poisson",
        seed: int = 1,
        start_ns: int = 0,
        duration_s: float = math.inf,
        stages: Sequence[Stage] = (),
    ) -> None:
        """``stages``: how the rate changes; then ``rate`` does not count."""
        self._rng = np.random.default_rng([seed, 0x5CED])  # a stream of its own beside the flow's
        self._poisson = arrivals == "poisson"
        self._curve = Curve(stages or (Stage(0.0, rate),))
        self._curve_ns = start_ns
        """When the curve begins."""
        self._made = 0.0
        """What the rate has added up to at the last time that was made; infinite if no more times can come."""
        self.start_ns = start_ns
        self.end_ns = NEVER_NS if math.isinf(duration_s) else start_ns + round(duration_s * 1e9)
        self._times: list[int] = []
        """Times made, those from ``_next`` on not taken; ascending. A list: a search in it takes a tenth of the time of
        one call of numpy."""
        self._next = 0
        self._reach(start_ns)

    def rate_at(self, now_ns: int) -> float:
        """Orders a second at ``now_ns``."""
        return self._curve.rate_at((now_ns - self._curve_ns) / 1e9)

    @property
    def next_due_ns(self) -> int:
        """The next intended time, or NEVER_NS: none before the end, or paused."""
        return self._times[self._next] if self._next < len(self._times) else NEVER_NS

    def due_count(self, now_ns: int) -> int:
        """How many times up to ``now_ns`` wait to be taken."""
        self._reach(now_ns)
        return bisect_right(self._times, now_ns, self._next) - self._next

    def due_before(self, time_ns: int) -> int:
        """How many of the times that wait to be taken are earlier than ``time_ns``, a time that has passed."""
        return bisect_left(self._times, time_ns, self._next) - self._next

    def take(self, now_ns: int, limit: int) -> Ints:
        """Up to ``limit`` times that have fallen due by ``now_ns``, oldest first."""
        count = min(self.due_count(now_ns), limit)
        if count <= 0:
            return _NOTHING
        taken = self._times[self._next : self._next + count]
        self._next += count
        self._reach(now_ns)
        return np.array(taken, np.int64)

    def set_rate(self, rate: float, now_ns: int) -> None:
        """From ``now_ns`` on, ``rate`` orders a second, whatever the stages say. What was due before stays due. 0
        pauses."""
        del self._times[self._next + self.due_count(now_ns) :]
        self._curve, self._curve_ns, self._made = Curve((Stage(0.0, rate),)), max(now_ns, self.start_ns), 0.0
        self._reach(now_ns)

    def stop(self, now_ns: int) -> None:
        """No intended times after ``now_ns``; what was due before stays due."""
        self._reach(now_ns)
        self.end_ns = min(self.end_ns, now_ns + 1)
        del self._times[self._next + self.due_before(self.end_ns) :]

    def _reach(self, now_ns: int) -> None:
        """Make chunks until there is a time beyond ``now_ns``, or none can come any more."""
        while self._next >= len(self._times) or self._times[-1] <= now_ns:
            chunk = self._make_chunk()
            if not len(chunk):
                return
            if 2 * self._next >= len(self._times):  # seldom enough that a long backlog is not copied for each chunk
                del self._times[: self._next]
                self._next = 0
            self._times += chunk.tolist()

    def _make_chunk(self) -> Ints:
        """The next times, cut at the end of the run; empty if none can come any more."""
        if math.isinf(self._made):
            return _NOTHING
        if self._poisson:
            sums = self._made + np.cumsum(self._rng.standard_exponential(CHUNK), dtype=np.float64)
            self._made = float(sums[-1])
        else:
            sums = self._made + np.arange(CHUNK, dtype=np.float64)
            self._made += CHUNK
        offsets_ns = 1e9 * self._curve.times_s(sums)
        offsets_ns = offsets_ns[offsets_ns < self.end_ns - self._curve_ns]
        if len(offsets_ns) < CHUNK:
            self._made = math.inf
        return self._curve_ns + offsets_ns.astype(np.int64)
