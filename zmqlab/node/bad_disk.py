"""A disk that is slow or full on demand, for labs: a store behind which the real one stands.

:class:`BadStore` takes the place of the journal's store only while there is something wrong with the disk, so that a
sound disk costs nothing. Reads are the real store's.

*Slow.* A write ends when the real one has ended and the time that it must take has passed. The node's one thread waits
for that, as it does for a disk that is truly slow: meanwhile it hears nothing, answers nothing, and its ticks are late.

*Full.* A write fails when it is to become permanent, with the system's own "no space left on device", given to the real
store: so what becomes of that is the real store's (:mod:`~zmqlab.node.journal_failures`), down to the message and the
exit status. The message says that it was a fault of the lab, since it also says how much room there is in truth.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, TypeVar

from zmqlab.replica.record_journal import Reading, Store, Writing

T = TypeVar("T")

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class BadStore:
    """Implements :class:`zmqlab.replica.record_journal.Store` over another one."""

    def __init__(self, store: Store, write_ms: float, is_full: bool) -> None:
        """``write_ms``: how long each write takes at least."""
        self._store = store
        self._write_ns = round(write_ms * NS_PER_MS)
        self._is_full = is_full

    def read(self) -> AbstractContextManager[Reading]:
        """See the interface."""
        return self._store.read()

    def write(self) -> AbstractContextManager[Writing]:
        """See the interface."""
        ends_ns = time.monotonic_ns() + self._write_ns
        return _BadWrite(self._store.write(), ends_ns, self._is_full)

    def of_group(self, number: int) -> Store:
        """See the interface. What a group writes apart from the others is on a sound disk."""
        return self._store.of_group(number)

    def together(self) -> AbstractContextManager[object]:
        """See the interface."""
        ends_ns = time.monotonic_ns() + self._write_ns
        return _BadWrite(self._store.together(), ends_ns, self._is_full)

    def check(self) -> None:
        """See the interface."""
        self._store.check()

    def size_of_entries(self) -> int:
        """See the interface."""
        return self._store.size_of_entries()

    def release_memory(self) -> None:
        """See the interface."""
        self._store.release_memory()

    def close(self) -> None:
        """See the interface."""
        self._store.close()


class _BadWrite(Generic[T]):
    """One transaction."""

    def __init__(self, transaction: AbstractContextManager[T], ends_ns: int, is_full: bool) -> None:
        """``ends_ns``: it takes until then at least."""
        self._transaction = transaction
        self._ends_ns = ends_ns
        self._is_full = is_full

    def __enter__(self) -> T:
        return self._transaction.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_full and error is None:
            error = OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}, by a fault of the lab")
            kind = type(error)
        self._transaction.__exit__(kind, error, trace)
        time.sleep(max(0, self._ends_ns - time.monotonic_ns()) / NS_PER_S)
