"""When each order is meant to be sent, fixed before any order is sent: the clock of the open loop.

A load generator that sends the next order when the last one is answered slows down exactly when the system does, and
never sees the waiting that the system causes: coordinated omission (Tene; the README of wrk2). Here the intended times
depend on the seed and the rate alone. Each order is sent, late if need be, and its latency counts from the intended
time.

Times are nanoseconds of the caller's clock. They are made in chunks of 1,024, so that a long run needs no memory.
Constant arrivals are multiplied from the chunk's origin, so that they do not drift. A change of the rate keeps the
times that have passed, drops the others, and starts anew at the moment of the change.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

import numpy as np

from zmqlab.load.load_settings import Arrivals
from zmqlab.load.order_flow import Ints

CHUNK = 1_024
NEVER_NS = (1 << 63) - 1
_NOTHING: Ints = np.empty(0, np.int64)


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
    ) -> None:
        self._rng = np.random.default_rng([seed, 0x5CED])  # a stream of its own beside the flow's
        self._poisson = arrivals == "poisson"
        self._rate = rate
        self.start_ns = start_ns
        self.end_ns = NEVER_NS if math.isinf(duration_s) else start_ns + round(duration_s * 1e9)
        self._origin_ns = float(start_ns)
        """Where the next chunk is counted from; after all times already made."""
        self._times: list[int] = []
        """Times made, those from ``_next`` on not taken; ascending. A list: a search in it takes a tenth of the time of
        one call of numpy."""
        self._next = 0
        self._reach(start_ns)

    @property
    def rate(self) -> float:
        """Orders a second, from the last change on."""
        return self._rate

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
        """From ``now_ns`` on, ``rate`` orders a second. What was due before stays due. 0 pauses."""
        del self._times[self._next + self.due_count(now_ns) :]
        self._rate = rate
        self._origin_ns = float(max(now_ns, self.start_ns))
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
        """The next times, cut at the end of the run; empty at rate 0 and after the end."""
        if self._rate <= 0 or self._origin_ns >= self.end_ns:
            return _NOTHING
        gap_ns = 1e9 / self._rate
        if self._poisson:
            offsets = np.cumsum(self._rng.exponential(gap_ns, CHUNK), dtype=np.float64)
            span_ns = float(offsets[-1])
        else:
            offsets = gap_ns * np.arange(CHUNK, dtype=np.float64)
            span_ns = gap_ns * CHUNK
        times = (self._origin_ns + offsets).astype(np.int64)
        self._origin_ns += span_ns
        return times[times < self.end_ns]
