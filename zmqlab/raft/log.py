"""The log: the entries in memory, the base before them that compaction moves up, and how many of them are stored.

The base is the position before the first kept entry. Its term is known; its entry is gone. Everything at or below the
base is committed. So no question about an older position can be answered here, and none needs to be.

::

      base_index            stored_index         last_index
          |                      |                    |
    ------+======================+~~~~~~~~~~~~~~~~~~~~+
    gone     kept and on disk      to be stored next

Appending never copies the log. Terms never fall along a log, so bisection finds a position by its term.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter

from zmqlab.raft.messages import Entry

ENTRY_OVERHEAD_BYTES = 32
"""The size that an entry without data is counted as: about its cost on the wire and in the journal."""
_term_of = itemgetter(1)


class Log:
    """The entries of one node: those with ``base_index < index <= last_index``."""

    __slots__ = (
        "_entries",
        "base_index",
        "base_term",
        "last_index",
        "last_term",
        "size_bytes",
        "stored_index",
    )

    def __init__(self, base_index: int = 0, base_term: int = 0, entries: Iterable[Entry] = ()) -> None:
        self._entries: list[Entry] = []
        self.base_index = base_index
        """Everything up to here is compacted. ``0 <= base_index <= stored_index <= last_index``."""
        self.base_term = base_term
        self.last_index = base_index
        self.last_term = base_term
        self.stored_index = base_index
        self.size_bytes = 0
        """The data of all kept entries, with :data:`ENTRY_OVERHEAD_BYTES` for each."""
        self.append(entries)
        self.stored_index = self.last_index

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries at the end. Their indexes must go on without a gap."""
        last_index, last_term, size_bytes = self.last_index, self.last_term, self.size_bytes
        for entry in entries:
            last_index += 1
            assert entry.index == last_index, f"entry {entry.index} where {last_index} is next"
            assert entry.term >= last_term, f"entry {entry.index} of term {entry.term} follows term {last_term}"
            last_term = entry.term
            size_bytes += len(entry.data) + ENTRY_OVERHEAD_BYTES
            self._entries.append(entry)
        self.last_index, self.last_term, self.size_bytes = last_index, last_term, size_bytes

    def truncate(self, from_index: int) -> None:
        """Drop the entry at ``from_index`` and all entries after it."""
        assert self.base_index < from_index <= self.last_index
        position = from_index - self.base_index - 1
        self.size_bytes -= self._size_of(self._entries[position:])
        del self._entries[position:]
        self.last_index = from_index - 1
        self.last_term = self._entries[-1].term if self._entries else self.base_term
        self.stored_index = min(self.stored_index, self.last_index)

    def compact(self, index: int) -> None:
        """Move the base up to ``index``. A lower index changes nothing."""
        if index <= self.base_index:
            return
        assert index <= self.stored_index, f"compaction to {index} beyond what is stored, {self.stored_index}"
        count = index - self.base_index
        self.base_term = self._entries[count - 1].term
        self.base_index = index
        self.size_bytes -= self._size_of(self._entries[:count])
        del self._entries[:count]

    def term_at(self, index: int) -> int | None:
        """The term of the entry at ``index``; None if it is compacted or not there yet."""
        position = index - self.base_index - 1
        if position >= 0:
            return self._entries[position].term if index <= self.last_index else None
        return self.base_term if position == -1 else None

    def matches(self, index: int, term: int) -> bool:
        """Whether the log holds an entry of ``term`` at ``index``. If so, all earlier entries match too (log
        matching)."""
        return self.term_at(index) == term

    def slice(self, first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        """Entries from ``first_index`` to ``last_index``, about ``max_bytes`` of them; at least one if there is one."""
        assert first_index > self.base_index, f"entry {first_index} is compacted, the base is {self.base_index}"
        entries, base = self._entries, self.base_index + 1
        start = stop = first_index - base
        end = min(last_index, self.last_index) - base + 1
        budget = max_bytes
        while stop < end:
            budget -= len(entries[stop].data) + ENTRY_OVERHEAD_BYTES
            if budget < 0 and stop > start:
                break
            stop += 1
        return entries[start:stop]

    def unstored(self) -> list[Entry]:
        """The entries that are not stored yet."""
        return self._entries[self.stored_index - self.base_index :]

    def mark_stored(self, last: Entry) -> None:
        """Everything up to ``last`` is stored, if the log still holds that entry."""
        if last.index > self.stored_index and self.matches(last.index, last.term):
            self.stored_index = last.index

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends with ``(index, term)`` is at least as up to date as this one (section 3.6.1)."""
        return (term, index) >= (self.last_term, self.last_index)

    def last_index_with_term_at_most(self, term: int, index: int) -> int:
        """The last position up to ``index`` whose term is not above ``term``: the logs may agree there, and no later.

        It is one below the base if even the base has a higher term.
        """
        end = max(0, min(index, self.last_index) - self.base_index)
        position = bisect_right(self._entries, term, 0, end, key=_term_of)
        if position == 0 and (index < self.base_index or self.base_term > term):
            return self.base_index - 1
        return self.base_index + position

    @staticmethod
    def _size_of(entries: Sequence[Entry]) -> int:
        return sum(len(entry.data) for entry in entries) + ENTRY_OVERHEAD_BYTES * len(entries)
