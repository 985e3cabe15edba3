"""Reads the log of a cluster along with a run, so that the verdict has it even if no node has it at the end.

Journals are compacted, and a node with a wiped disk comes back with a snapshot instead of a log. So a thread asks one
of the running nodes, a few times a second, for what is committed behind the last entry that it has. Each time it asks
another node, and it asks for a few entries once more that it has already. Two nodes that say different things of one
index have broken the promise on which all others rest (state machine safety), and the verdict reports it. Entries go to
a file without a name in the cluster's folder, and 17 bytes of each stay in memory. The file is bounded too
(:data:`MAX_FILE_BYTES`: at 10,000 orders/s more than two hours). When it is full, or its disk, collecting ends, and the
verdict says that its log is not complete. At 10,000 orders/s a node reads 100 KiB each time.

If no node has the beginning of the log any more, the collector begins with the oldest entry that one of them has. If it
falls so far behind that no node has what comes next, it looks now and then whether a node that comes back has it.

Where the nodes hold several Raft groups, each has a log of its own: :class:`GroupCollectors` is a collector for each.

Rules: as :mod:`~zmqlab.judge.evidence`; nothing but sockets and values.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import NamedTuple, Protocol, overload

from zmqlab.client.ask import Lines
from zmqlab.errors import ZmqlabError
from zmqlab.judge.evidence import ask_for_log
from zmqlab.judge.replay import LogEntry

COLLECT_POLL_S = 0.25
"""Between two questions during a run."""
PIECE_BYTES = 524_288
"""One answer during a run: a node spends a millisecond or two on it."""
PIECES_A_TURN = 8
"""When it has fallen behind: 16 MB a second, four hundred thousand orders."""
OVERLAP = 64
"""Entries that are asked for once more each time; fewer if they are large, so that there is room for new ones."""
MAX_FILE_BYTES = 4 << 30
GAP_POLLS = 40
"""While no node has what comes next, so many polls are left out: a question costs a piece of the log each time."""
MAX_CONFLICTS = 100
"""How many conflicts are kept; one is enough for the verdict."""
COLLECT_TIMEOUT_S = 0.5
"""A node that needs longer is dead, paused or busy: another one is asked."""


class Watched(Protocol):
    """What a collector needs of a cluster."""

    @property
    def living_endpoints(self) -> Sequence[str]:
        """Where clients reach the nodes that run."""


@dataclass(frozen=True)
class WatchedEndpoints:
    """Nodes of which only the endpoints are known; one that is gone does not answer."""

    known: Callable[[], Sequence[str]]

    @property
    def living_endpoints(self) -> Sequence[str]:
        """All that are known now."""
        return self.known()


class Conflict(NamedTuple):
    """Two committed entries at one index."""

    log_index: int
    known: LogEntry
    told: LogEntry
    endpoint: str
    """The client endpoint of the node that told the second one."""

    def __str__(self) -> str:
        return (
            f"index {self.log_index}: an entry of term {self.known.term} ({len(self.known.data)} bytes) was committed, "
            f"and {self.endpoint} says one of term {self.told.term} ({len(self.told.data)} bytes)"
        )


READ_AT_ONCE = 256
"""Entries of a log that is read from end to end: about as many bytes as an answer of a node."""


class CollectedLog:
    """Entries from index 1 on, or from a later one, without a gap, kept in a file. One thread appends, any may read."""

    def __init__(self, folder: str | os.PathLike[str] | None = None, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # closed by close()
        self._max_bytes = max_bytes
        self.first_index = 1
        """Of the first entry; it is changed only while there is none."""
        self.problem = ""
        """Why an entry could not be kept."""
        self._ends = array("Q")
        """Where the data of the entry at index ``first_index + i`` ends in the file."""
        self._terms = array("Q")
        self._kinds = bytearray()
        """The shortest of the three while entries are appended, so that it counts as the length."""

    def append(self, entries: Sequence[LogEntry]) -> bool:
        """Keep the next entries, by one call of the system. False if there is no room for all of them: those at the
        beginning for which there is are kept, and ``problem`` says why not the rest. If the disk refuses, none is."""
        start = self._ends[-1] if self._ends else 0
        ends = list(accumulate((len(entry.data) for entry in entries), initial=start))[1:]
        for log_index, entry in enumerate(entries, self.next_index):
            assert entry.log_index == log_index, f"entry {entry.log_index} does not follow {log_index - 1}"
        fitting = entries[: bisect_right(ends, self._max_bytes)]
        try:
            data = b"".join([entry.data for entry in fitting])
            if os.pwrite(self._file.fileno(), data, start) < len(data):
                raise OSError("no room for whole entries")
        except OSError as error:
            self.problem = f"the log could not be collected any further: {error}"
            return False
        self._ends.extend(ends[: len(fitting)])
        self._terms.extend(entry.term for entry in fitting)
        self._kinds.extend(entry.kind for entry in fitting)
        if len(fitting) < len(entries):
            self.problem = f"the log was collected up to {self._max_bytes:,} bytes and no further"
        return len(fitting) == len(entries)

    def at(self, log_index: int) -> LogEntry:
        """The entry at a log index from ``first_index`` on, below ``next_index``."""
        return self.between(log_index, log_index + 1)[0]

    def between(self, from_index: int, to_index: int) -> list[LogEntry]:
        """The entries from ``from_index`` on, at least ``first_index``, and below ``to_index``, at most ``next_index``;
        by one call of the system."""
        first, count = from_index - self.first_index, to_index - from_index
        base = self._ends[first - 1] if first else 0
        ends = self._ends[first : first + count]
        data = os.pread(self._file.fileno(), (ends[-1] if ends else base) - base, base)
        starts = [base, *ends][:-1]
        return [
            LogEntry(from_index + place, self._terms[at], self._kinds[at], data[start - base : end - base])
            for place, (at, start, end) in enumerate(zip(range(first, first + count), starts, ends, strict=True))
        ]

    def index_before_end(self, entries: int, max_bytes: int) -> int:
        """The index so many entries before the next one, nearer to it if their data were more than ``max_bytes``."""
        first = max(0, len(self) - entries)
        while first < len(self) and self._ends[-1] - (self._ends[first - 1] if first else 0) > max_bytes:
            first += 1
        return self.first_index + first

    @property
    def next_index(self) -> int:
        """Of the entry that is to be appended next."""
        return self.first_index + len(self)

    def __len__(self) -> int:
        return len(self._kinds)

    def close(self) -> None:
        """Give the disk space back; nothing can be read any more."""
        self._file.close()


class LogPrefix(Sequence[LogEntry]):
    """The first entries of a log that goes on growing."""

    def __init__(self, log: CollectedLog, count: int) -> None:
        self._log = log
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, position: int) -> LogEntry: ...
    @overload
    def __getitem__(self, position: slice) -> list[LogEntry]: ...
    def __getitem__(self, position: int | slice) -> LogEntry | list[LogEntry]:
        first, wanted = self._log.first_index, range(self._count)[position]
        if isinstance(wanted, int):
            return self._log.at(first + wanted)
        if wanted.step == 1:
            return self._log.between(first + wanted.start, first + max(wanted.start, wanted.stop))
        return [self._log.at(first + at) for at in wanted]

    def __iter__(self) -> Iterator[LogEntry]:
        end = self._log.first_index + self._count
        for begin in range(self._log.first_index, end, READ_AT_ONCE):
            yield from self._log.between(begin, min(begin + READ_AT_ONCE, end))


class LogCollector:
    """Collects the log of a cluster from :meth:`start` to :meth:`close`; a context manager that does both."""

    def __init__(
        self,
        cluster: Watched,
        folder: str | os.PathLike[str] | None = None,
        max_bytes: int = MAX_FILE_BYTES,
        poll_s: float = COLLECT_POLL_S,
        group: int = 0,
    ) -> None:
        """``group``: the Raft group whose log is read."""
        self.log = CollectedLog(folder, max_bytes)
        self.conflicts: list[Conflict] = []
        """The first of them; each is a broken promise."""
        self.compared = 0
        """Entries that were read once more, from any node."""
        self.full = False
        """Whether the file has no room left; nothing is collected any more then."""
        self.listener: Callable[[Sequence[LogEntry], str], None] | None = None
        """Is told in this thread all entries that a node has given out, and by which node."""
        self._group = group
        self._cluster = cluster
        self._poll_s = poll_s
        self._turn, self._more = 0, False  # "more": the last answer was so large that there is more
        self._first_of: dict[str, int] = {}  # endpoint -> the oldest entry that it has, as it last said
        self._lock = threading.Lock()
        """Held while a node is asked and entries are taken in: by the thread, or by :meth:`catch_up`."""
        self._lines = Lines()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zmqlab-collector", daemon=True)

    def start(self) -> LogCollector:
        """Begin to read along."""
        self._thread.start()
        return self

    def stop_soon(self) -> None:
        """Have the thread end after the question that it asks now."""
        self._stop.set()

    def stop(self) -> None:
        """Stop reading; what was collected can still be read."""
        self.stop_soon()
        if self._thread.is_alive():
            self._thread.join(10)
        with self._lock:
            self._lines.close()

    def close(self) -> None:
        """Stop reading, and forget the log."""
        self.stop()
        with self._lock:
            self.log.close()

    def __enter__(self) -> LogCollector:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LogCollector: {len(self.log):,} entries, {len(self.conflicts)} conflicts>"

    def catch_up(self, endpoints: Sequence[str], last_index: int, timeout_s: float = 30.0) -> Sequence[LogEntry]:
        """The log up to ``last_index``, or as far as one of these nodes still has what is missing. Every one of them is
        asked for the last entries once more."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            while self.log.next_index <= last_index and time.monotonic() < deadline:
                before = len(self.log)
                for endpoint in endpoints:
                    self._pull(endpoint)
                if len(self.log) == before:
                    break
            for endpoint in endpoints:
                self._pull(endpoint)
            self._lines.close()
        return LogPrefix(self.log, max(0, min(last_index + 1, self.log.next_index) - self.log.first_index))

    def _run(self) -> None:
        polls = 1
        while not self._stop.wait(polls * self._poll_s):
            with self._lock:
                polls = 1 if self._look() else GAP_POLLS

    def _look(self) -> bool:
        """Ask one node after the other, another one first each time, until one has news; False if none can have any."""
        endpoints = list(self._cluster.living_endpoints)
        self._lines.keep(endpoints)
        self._turn += 1
        for offset in range(len(endpoints)):
            endpoint = endpoints[(self._turn + offset) % len(endpoints)]
            pieces = 0
            while pieces < PIECES_A_TURN and self._pull(endpoint) and not self._stop.is_set():
                pieces = pieces + 1 if self._more else PIECES_A_TURN
            if pieces or self._stop.is_set():
                return True
        firsts = [self._first_of.get(endpoint, 0) for endpoint in endpoints]
        lost = bool(firsts) and min(firsts) > self.log.next_index
        if lost and not len(self.log):
            self.log.first_index = min(firsts)
            return True
        return not lost

    def _pull(self, endpoint: str) -> bool:
        """Ask a node for the next entries; whether it had any."""
        if self.full:
            return False
        from_index = self.log.index_before_end(OVERLAP, PIECE_BYTES // 4)
        try:
            piece = ask_for_log(endpoint, from_index, PIECE_BYTES, COLLECT_TIMEOUT_S, self._group, self._lines)
        except ZmqlabError:
            return False  # another node will answer, or this one later
        self._first_of[endpoint] = piece.first_index
        self._more = sum(len(entry.data) for entry in piece.entries) > PIECE_BYTES // 2
        return self.take(piece.entries, endpoint)

    def take(self, entries: Sequence[LogEntry], endpoint: str) -> bool:
        """Compare the entries that are known and keep those that follow; whether any followed."""
        before = self.log.next_index
        if self.listener is not None:
            self.listener(entries, endpoint)
        again = [entry for entry in entries if self.log.first_index <= entry.log_index < before]
        if again:
            first = min(entry.log_index for entry in again)
            known = self.log.between(first, max(entry.log_index for entry in again) + 1)
            for entry in again:
                self._compare(known[entry.log_index - first], entry, endpoint)
        following: list[LogEntry] = []
        for entry in entries:
            if entry.log_index == before + len(following):
                following.append(entry)
            elif entry.log_index > before:
                break  # that node has compacted what is next
        if following and not self.log.append(following):
            self.full = True
        return self.log.next_index > before

    def _compare(self, known: LogEntry, told: LogEntry, endpoint: str) -> None:
        self.compared += 1
        if known != told and len(self.conflicts) < MAX_CONFLICTS:
            self.conflicts.append(Conflict(told.log_index, known, told, endpoint))


class GroupCollectors:
    """A :class:`LogCollector` for each of several Raft groups, started and closed together.

    Args:
        endpoints_of: where clients reach the nodes that run and hold a group.
        groups: their numbers.
        folder: where the logs are kept.
    """

    def __init__(
        self,
        endpoints_of: Callable[[int], Sequence[str]],
        groups: Sequence[int],
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.of_group = {
            group: LogCollector(
                WatchedEndpoints(partial(endpoints_of, group)), folder, MAX_FILE_BYTES // len(groups), group=group
            )
            for group in groups
        }

    def start(self) -> GroupCollectors:
        """Begin to read along."""
        for each in self.of_group.values():
            each.start()
        return self

    def stop(self) -> None:
        """Stop reading; what was collected can still be read."""
        for each in self.of_group.values():
            each.stop_soon()
        for each in self.of_group.values():
            each.stop()

    def close(self) -> None:
        """Stop reading, and forget the logs."""
        self.stop()
        for each in self.of_group.values():
            each.close()

    def __enter__(self) -> GroupCollectors:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        entries = sum(len(each.log) for each in self.of_group.values())
        return f"<GroupCollectors of {len(self.of_group)} groups: {entries:,} entries>"


Collectors = LogCollector | GroupCollectors
"""What reads along with a run, for one group or for several."""
