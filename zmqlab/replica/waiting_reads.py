"""Queries that wait until the state machine may be read linearizably.

A read asks the replication for an index (ReadIndex, Raft thesis, section 6.4) and waits twice: until the index is
known, and until the state machine has applied the entries up to it. A read that waits too long fails, because there may
be no leader for it.

Rules: pure; time is a number of ticks. Knows nothing of what is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from zmqlab.raft import Ready


class Read(NamedTuple):
    """A query that waits for its read index."""

    finish: Callable[[bool], None]
    """Called once: with True when the state machine may be read, with False when there is no leader."""
    deadline_tick: int


class WaitingReads:
    """The reads of one replica; ``len`` counts them."""

    def __init__(self, first_context: int) -> None:
        """``first_context``: a random number of 62 bits, so that an answer to a read of an earlier life of this node
        does not fit a read of this one."""
        self._next_context = first_context
        self._asked: dict[int, Read] = {}
        """By context, those whose index is not known yet."""
        self._known: deque[tuple[int, Read]] = deque()
        """(index, read), in the order of their indexes."""

    def __len__(self) -> int:
        return len(self._asked) + len(self._known)

    def ask(self, read: Read) -> int:
        """One more; returns the context under which the replication is to be asked."""
        context, self._next_context = self._next_context, self._next_context + 1
        self._asked[context] = read
        return context

    def take(self, ready: Ready, applied_index: int) -> None:
        """Finish what can be read, by what the replication says and what is applied now."""
        for context, index in ready.reads:
            read = self._asked.pop(context, None)
            if read is not None:
                self._known.append((index, read))
        for context in ready.failed_reads:
            read = self._asked.pop(context, None)
            if read is not None:
                read.finish(False)
        while self._known and self._known[0][0] <= applied_index:
            self._known.popleft()[1].finish(True)

    def expire(self, tick: int) -> None:
        """Fail those that have waited too long."""
        for context in [context for context, read in self._asked.items() if read.deadline_tick <= tick]:
            self._asked.pop(context).finish(False)
        for item in [item for item in self._known if item[1].deadline_tick <= tick]:
            self._known.remove(item)
            item[1].finish(False)  # its index is known, but the entries up to it don't come
