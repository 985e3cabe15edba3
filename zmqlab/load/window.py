"""Numbers of a session's requests: how far they may run ahead of the first one that is not answered.

Replicas remember the answers of a session until its client says that it has them (``answered_below``). What they
remember is bounded, in requests and in bytes, and so is what is ahead of the first unanswered request here.
"""

from __future__ import annotations

from collections.abc import Container

WINDOW_BYTES = 2_097_152
"""Of commands ahead of the first unanswered request: a session may store twice that in answers, which are about as
large as their commands."""


class Window:
    """Gives numbers 1, 2, 3, ... to requests."""

    def __init__(self, size: int) -> None:
        assert size >= 1, size
        self.size = size
        self.low = 1
        """The first unanswered number: ``answered_below``. All smaller ones are answered."""
        self.next_number = 1
        """``low <= next_number <= low + size``."""
        self._sizes: dict[int, int] = {}
        """Bytes of commands of the numbers from ``low`` on, answered or not."""
        self._ahead_bytes = 0
        """Sum of ``_sizes``."""

    @property
    def room(self) -> int:
        """How many numbers may be given now."""
        if self._ahead_bytes >= WINDOW_BYTES:
            return 0
        return self.size - (self.next_number - self.low)

    def take(self, size_bytes: int) -> int:
        """A number for a request with so many bytes of commands."""
        number = self.next_number
        assert number < self.low + self.size, "look at room before submitting"
        self.next_number = number + 1
        self._sizes[number] = size_bytes
        self._ahead_bytes += size_bytes
        return number

    def advance(self, still_open: Container[int]) -> None:
        """Move ``low`` to the first number that is ``still_open``."""
        low, sizes = self.low, self._sizes
        while low < self.next_number and low not in still_open:
            self._ahead_bytes -= sizes.pop(low)
            low += 1
        self.low = low
