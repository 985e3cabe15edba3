"""What real time says about the order of requests and reads: pure functions of times on one clock.

A request that was answered before another one was sent stands before it in the log. So does all that was answered
before a book was asked for stand at or before the index that was read. Times of two clocks say nothing about each
other; callers hand over those of one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from math import inf
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zmqlab.judge.promises import Acknowledgement, BookRead

Ints = npt.NDArray[np.int64]


def out_of_order(indexes: Ints, invoked: Ints, completed: Ints) -> tuple[int, int] | None:
    """The first request that stands in the log before one that had been answered when it was sent, and that one."""
    by_end = np.argsort(completed, kind="stable")
    latest = np.maximum.accumulate(indexes[by_end])
    answered = np.searchsorted(completed[by_end], invoked)  # so many before this one was sent
    wrong = np.flatnonzero((answered > 0) & (indexes <= latest[answered - 1]))
    if not len(wrong):
        return None
    first = int(wrong[np.argmin(invoked[wrong])])
    before = by_end[: answered[first]]
    return first, int(before[np.argmax(indexes[before])])


def floors_of(reads: Sequence[BookRead], acknowledgements: Sequence[Acknowledgement]) -> list[int]:
    """For each read, the highest index that was answered before the read was invoked; 0 if none was."""
    starts = sorted(read.invoked_ns for read in reads)
    highest = [0] * (len(starts) + 1)
    all_done: Iterable[Acknowledgement | BookRead] = chain(acknowledgements, reads)
    for done in all_done:
        first = bisect_right(starts, done.completed_ns)  # the first read that was invoked later
        highest[first] = max(highest[first], done.log_index)
    highest = list(accumulate(highest, max))
    return [highest[bisect_left(starts, read.invoked_ns)] for read in reads]


def ceilings_of(reads: Sequence[BookRead], acknowledgements: Sequence[Acknowledgement]) -> list[float]:
    """For each read, the lowest index of the requests that were sent after the read's answer; infinity if none was."""
    ends = sorted(read.completed_ns for read in reads)
    lowest = [inf] * (len(ends) + 1)
    for ack in acknowledgements:
        ended = bisect_left(ends, ack.invoked_ns)  # so many reads had been answered
        lowest[ended] = min(lowest[ended], ack.log_index)
    lowest = list(accumulate(reversed(lowest), min))[::-1]
    return [lowest[bisect_right(ends, read.completed_ns)] for read in reads]
