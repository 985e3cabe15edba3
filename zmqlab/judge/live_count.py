"""Lost so far, twice so far: counted while a run goes on, from the client's ledger and the log as it is read along.

*Lost.* Each acknowledged request must stand in the log at the index that its client was told. A
:mod:`~zmqlab.judge.log_collector` reads the log along; what it is told goes to :meth:`LiveCount.told`, and
what the client remembers to :meth:`LiveCount.acknowledged`. An acknowledgement whose index the log has not reached yet
waits, and the count says how old the oldest one of them is. At an index with another request the acknowledged one is
*lost*, or *misplaced* if it stands elsewhere in the log.

*Twice.* A node publishes how many orders it has applied, and up to which index. The log up to that index holds so many
orders, each request counted once, whatever its retries. What a node has applied beyond that was applied twice. That
needs one log: where nodes have told different ones, it is not known.

*Two logs.* In a weak mode a leader gives out entries that its successor never had. Where two answers differ the later
term counts, as in Raft (thesis, 3.6.1), and nothing behind the difference is known until it is told again. An answer
that differs from its first entry on may differ before: :attr:`LiveCount.doubt` says from where it should be read again.

Bounds. The last :data:`RECENT` entries and the acknowledgements of them are kept: 9 MB. What is older has been looked
up, and its count stays. A loss that shows only later is left to the verdict, which looks at all there is; so does the
comparison of answers. Rules: no clock, no sockets. Any thread may call.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zmqlab.judge.replay import LogEntry
from zmqlab.load.order_flow import Rows
from zmqlab.wire import client as wire
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.records import COMMAND
from zmqlab.wording import counted

RECENT = 131_072
"""Entries of the log that are kept: half a minute at 4,000 requests a second."""
STEP_BACK = 2_048
"""So many entries before a difference are read again at a time."""
NUMBERS_KEPT = 2_048
"""Of each session: two windows of it. A copy that is older is never applied."""
SESSIONS_KEPT = 256
STATUSES_KEPT = 64
"""Of nodes that were ahead of the log as it is known."""

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoFar:
    """What is known at one moment of a run. All counts are of orders."""

    acknowledged: int = 0
    """That the client's ledger has told."""
    looked_up: int = 0
    """Of them, those whose index the log has reached."""
    lost: int = 0
    """Of those, the ones that are not in the log."""
    misplaced: int = 0
    """Of those, the ones that stand at another index than the client was told."""
    twice: int | None = None
    """Orders that a node has applied beyond those in the log. None: not known."""
    age_s: float = 0.0
    """For how long the oldest acknowledgement waits that was not looked up."""
    missed: int = 0
    """Acknowledged orders whose entries had been forgotten when they should have been looked up."""

    def __str__(self) -> str:
        lost = f"{self.lost:,} lost" + (f", {self.misplaced:,} out of place" if self.misplaced else "")
        twice = "twice not counted" if self.twice is None else f"{self.twice:,} twice"
        until = f" until {self.age_s:,.0f} s ago" if self.age_s >= 1 else ""
        return f"of {counted(self.looked_up, 'order')} acknowledged{until}: {lost}, {twice}"

    @property
    def how(self) -> str:
        """How it is counted, for a person who asks."""
        said = (
            f"{self.looked_up:,} of {self.acknowledged:,} acknowledged orders were looked up in the nodes' log, at the "
            "index that the client was told. Twice: what a node has applied beyond the orders in its log. The verdict "
            "looks at everything once more"
        )
        return f"{said}. {counted(self.missed, 'order')} came too late to be looked up" if self.missed else said


def over_groups(found: Sequence[SoFar]) -> SoFar:
    """What is known of several Raft groups together, each counted by itself; at least one."""
    names = ("acknowledged", "looked_up", "lost", "misplaced", "missed")
    twice = [each.twice for each in found if each.twice is not None]
    return SoFar(
        **{name: sum(getattr(each, name) for each in found) for name in names},
        twice=sum(twice) if len(twice) == len(found) else None,
        age_s=max(each.age_s for each in found),
    )


class _Batch:
    """Acknowledgements that were taken together, and what looking them up has found."""

    def __init__(self, rows: Rows) -> None:
        self.index: Ints = rows["log_index"].astype(np.int64)
        self.client: Ints = rows["client_id"].astype(np.int64)
        self.number: Ints = rows["request_number"].astype(np.int64)
        self.orders: Ints = rows["orders"].astype(np.int64)
        self.completed_ns: Ints = rows["completed_ns"].astype(np.int64)
        self.last_index = int(self.index.max())
        self.total = int(self.orders.sum())
        self.looked_up = self.lost = self.misplaced = self.missed = 0
        self.waits_since_ns = int(self.completed_ns.min())
        """Of the oldest one that was not looked up; 0: all were."""

    @property
    def is_settled(self) -> bool:
        """Whether all were looked up."""
        return not self.waits_since_ns


class LiveCount:
    """Counts; see the module.

    Args:
        one_log: whether the nodes promise to have one log; otherwise nothing is said of orders applied twice.
    """

    def __init__(self, one_log: bool = True) -> None:
        self.doubt: tuple[str, int] | None = None
        """The node that should be asked for its log once more, and from which index on; None: none."""
        self._one_log = one_log
        self._lock = threading.Lock()
        self._client: Ints = np.zeros(RECENT, np.int64)
        """By log index modulo RECENT, as the next two: the request's client, 0 if the entry is none."""
        self._number: Ints = np.zeros(RECENT, np.int64)
        self._term: Ints = np.zeros(RECENT, np.int64)
        self._orders: Ints = np.zeros(RECENT, np.int64)
        """Up to and including this entry: orders in the log, each request counted once."""
        self._first = self._end = 0
        """The first index that is known, and the one behind the last; both 0: none is known."""
        self._seen: dict[int, Ints] = {}
        """Session -> by number modulo NUMBERS_KEPT: the newest number that stands in the log there."""
        self._batches: deque[_Batch] = deque()
        self._done = SoFar()
        """The counts of acknowledgements that are kept no longer."""
        self._statuses: deque[tuple[int, int]] = deque(maxlen=STATUSES_KEPT)
        """(applied index, orders applied) that wait for the log to come so far."""
        self._before: int | None = 0
        """Orders that nodes had applied before the first known entry; None: not known yet."""
        self._twice = 0

    # -- what comes in ---------------------------------------------------------------------------------------------

    def told(self, entries: Sequence[LogEntry], endpoint: str) -> None:
        """A node has told these committed entries, which follow each other; some of them may be known."""
        with self._lock:
            rest = self._unknown_of(list(entries), endpoint)
            if rest:
                self._append(rest)

    def acknowledged(self, rows: Rows) -> None:
        """The client's ledger has these further records (:data:`zmqlab.load.run_record.RECORD`)."""
        if len(rows):
            with self._lock:
                self._batches.append(_Batch(rows))

    def look(self, statuses: Iterable[NodeStatus], now_ns: int) -> SoFar:
        """Look up what was acknowledged, and what nodes say that they have applied.

        Args:
            statuses: the newest of each node.
            now_ns: on the clock of the ledger.
        """
        with self._lock:
            for batch in self._batches:
                if not batch.is_settled:
                    self._look_up(batch)
            self._forget_old()
            self._compare([(each.applied_index, each.orders_applied) for each in statuses])
            return self._so_far(now_ns)

    # -- the log ---------------------------------------------------------------------------------------------------

    def _unknown_of(self, entries: list[LogEntry], endpoint: str) -> list[LogEntry]:
        """The entries that are to be appended. What differs from what is known is forgotten first, if it is older."""
        if not entries:
            return []
        if not self._end:
            self._first = self._end = entries[0].log_index
            self._before = 0 if self._first == 1 else None
        if entries[0].log_index > self._end:  # a gap: the log begins anew behind it
            self._first = self._end = entries[0].log_index
            self._before = None
        first = entries[0].log_index
        skip, known = max(0, self._start - first), self._end - first
        different = self._first_difference(entries[skip:known])
        if different is None:
            return entries[max(known, 0) :]
        return self._at_difference(entries, skip + different, endpoint)

    def _first_difference(self, entries: Sequence[LogEntry]) -> int | None:
        """The place of the first of these entries, all of which are known, that is known otherwise."""
        if not entries:
            return None
        client, number, _ = _requests_of(entries)
        places = np.arange(entries[0].log_index, entries[0].log_index + len(entries)) % RECENT
        terms = np.array([each.term for each in entries])
        same = (self._client[places] == client) & (self._number[places] == number) & (self._term[places] == terms)
        return None if same.all() else int(np.argmin(same))

    def _at_difference(self, entries: list[LogEntry], position: int, endpoint: str) -> list[LogEntry]:
        entry = entries[position]
        self._one_log = False
        if position == 0 and entry.log_index > self._start:
            self.doubt = endpoint, max(self._start, entry.log_index - STEP_BACK)
        if entry.term <= self._term[entry.log_index % RECENT]:
            return []
        self._end = entry.log_index
        for batch in self._batches:
            if batch.last_index >= self._end:
                batch.waits_since_ns = int(batch.completed_ns.min())
        self._seen.clear()
        known = np.arange(self._start, self._end) % RECENT
        self._note(self._client[known], self._number[known])
        return entries[position:]

    def _append(self, entries: Sequence[LogEntry]) -> None:
        for start in range(0, len(entries), RECENT):
            part = entries[start : start + RECENT]
            client, number, orders = _requests_of(part)
            places = np.arange(part[0].log_index, part[0].log_index + len(part)) % RECENT
            before = int(self._orders[(self._end - 1) % RECENT]) if self._end > self._first else 0
            self._client[places], self._number[places] = client, number
            self._term[places] = [each.term for each in part]
            self._orders[places] = before + np.cumsum(orders * self._note(client, number))
            self._end = part[-1].log_index + 1

    def _note(self, client: Ints, number: Ints) -> Flags:
        """Remember these requests; which of them are the first copy."""
        first: Flags = np.zeros(len(client), np.bool_)
        for session in np.unique(client[client > 0]).tolist():
            seen = self._seen.pop(session, None)
            seen = np.zeros(NUMBERS_KEPT, np.int64) if seen is None else seen
            self._seen[session] = seen  # the order of the keys is that of the last use
            places = np.flatnonzero(client == session)
            numbers, once = np.unique(number[places], return_index=True)
            new = seen[numbers % NUMBERS_KEPT] < numbers
            first[places[once[new]]] = True
            seen[numbers[new] % NUMBERS_KEPT] = numbers[new]  # ascending, so that the newest stays
        while len(self._seen) > SESSIONS_KEPT:
            del self._seen[next(iter(self._seen))]
        return first

    @property
    def _start(self) -> int:
        """The first index that is kept."""
        return max(self._first, self._end - RECENT)

    # -- looking up ------------------------------------------------------------------------------------------------

    def _look_up(self, batch: _Batch) -> None:
        reached, kept = batch.index < self._end, batch.index >= self._start
        places = batch.index % RECENT
        right = (self._client[places] == batch.client) & (self._number[places] == batch.number)
        wrong = np.flatnonzero(reached & kept & ~right)
        elsewhere = self._stands_elsewhere(batch, wrong)
        batch.looked_up = int(batch.orders[reached & kept].sum())
        batch.misplaced = int(batch.orders[wrong[elsewhere]].sum())
        batch.lost = int(batch.orders[wrong].sum()) - batch.misplaced
        batch.missed = int(batch.orders[reached & ~kept].sum())
        waiting = batch.completed_ns[~reached]
        batch.waits_since_ns = int(waiting.min()) if waiting.size else 0

    def _stands_elsewhere(self, batch: _Batch, wrong: Ints) -> Flags:
        """Of the records at these places: whether their request stands in the log at another index."""
        found: Flags = np.zeros(len(wrong), np.bool_)
        client, number = batch.client[wrong], batch.number[wrong]
        for session in np.unique(client).tolist():
            seen = self._seen.get(session)
            if seen is not None:
                own = client == session
                found[own] = seen[number[own] % NUMBERS_KEPT] == number[own]
        return found

    def _forget_old(self) -> None:
        """Acknowledgements of entries that are kept no longer: their counts stay."""
        while self._batches and self._batches[0].is_settled and self._batches[0].last_index < self._start:
            self._done = _plus(self._done, self._batches.popleft())

    def _compare(self, statuses: Iterable[tuple[int, int]]) -> None:
        """How many orders nodes have applied, with how many the log holds up to the same index."""
        waiting = [*self._statuses, *statuses]
        self._statuses.clear()
        for index, applied in dict.fromkeys(waiting):
            if index >= self._end:
                self._statuses.append((index, applied))
            elif index >= self._start:
                in_log = int(self._orders[index % RECENT])
                self._before = applied - in_log if self._before is None else self._before
                self._twice = max(self._twice, applied - in_log - self._before)

    def _so_far(self, now_ns: int) -> SoFar:
        total = self._done
        for batch in self._batches:
            total = _plus(total, batch)
        waits = [batch.waits_since_ns for batch in self._batches if batch.waits_since_ns]
        return replace(
            total,
            twice=self._twice if self._one_log and self._before is not None else None,
            age_s=max(now_ns - min(waits), 0) / 1e9 if waits else 0.0,
        )


def _plus(total: SoFar, batch: _Batch) -> SoFar:
    return SoFar(
        acknowledged=total.acknowledged + batch.total,
        looked_up=total.looked_up + batch.looked_up,
        lost=total.lost + batch.lost,
        misplaced=total.misplaced + batch.misplaced,
        missed=total.missed + batch.missed,
    )


def _requests_of(entries: Sequence[LogEntry]) -> tuple[Ints, Ints, Ints]:
    """Client, number and orders of the request in each entry; zeros where there is none."""
    datas = [entry.data for entry in entries]
    client, number = np.frombuffer(wire.keys_of(datas), "<i8").reshape(-1, 2).T
    orders = (np.fromiter(map(len, datas), np.int64, len(datas)) - wire.COMMANDS_OFFSET) // COMMAND.size
    return client, number, np.where(client > 0, orders, 0)
