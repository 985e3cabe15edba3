"""What one row of the sampler says about the nodes and about the load: published snapshots in, columns out.

:class:`NodeReadings` follows the members of a cluster, :class:`LoadReadings` the load clients. Each keeps what it needs
from one row to the next. Neither has a thread or a clock of its own: the sampler calls them and hands the time in.

*Slots.* A node keeps its slot, and with it its columns and its colour, as long as it is a member. The slot of a node
that has left goes to the next newcomer.

*How far a node is behind.* The lag is the commit index that the leader had *when the node published*, less the node's
own index. The two publish at different moments, so the leader's index is interpolated between two of its snapshots. At
20,000 orders/s a difference of only 50 ms would look like a lag of 1,000 entries.

:class:`Ring` keeps the newest rows: a table whose columns are all floating point. One thread appends rows, others read.
The rows live in an array of twice the capacity. A row is written behind the last one; when the array is full, the newer
half moves to the front. Any number of the newest rows is therefore one contiguous slice of a column. A reader copies
that slice under the lock.

:class:`MovingPercentiles` merges the histograms of the last intervals; percentiles are never averaged. The counts of
all intervals in the window stand in one dense array. A new interval is added to it and the one that leaves is
subtracted, so that a reading costs the same for any window.

The names of all columns stand here, because a chart must name a column before its first row exists.
"""

from __future__ import annotations

import bisect
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zmqlab.client.roster import leader_of
from zmqlab.histogram import BUCKET_COUNT, bucket_high
from zmqlab.lab.incidents import NS_PER_MS
from zmqlab.load.load_messages import LoadCounters, LoadMetrics
from zmqlab.widgets.group_readings import LATE_ENTRIES, LEAD_COLUMNS, GroupReadings
from zmqlab.widgets.marks import SilenceBands
from zmqlab.wire.node_status import NodeStatus

Column = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

MAX_SLOTS = 15
"""A cluster has at most so many members."""
LATENCY_INTERVALS = 10
"""Percentiles cover the last second: 100 ms hold too few requests for a p99.9."""
STALE_S = 0.4
"""Four snapshots in a row are missing: the publisher hangs, or it has ended."""
LOAD_FRAMES = 600
"""A minute of a load client's snapshots, for the fault cards."""
LATE_NS = 500_000_000
"""A node that is so far behind catches up: a busy machine delays an entry by less."""
TABLES_KEPT = 16
"""Each widget asks for its own columns, and for others when the members change."""
COMMITS_KEPT = 60
"""Six seconds of the leader's commit index; no node that counts as fresh published earlier."""

LATENCY_COLUMNS = ("p50", "p99", "p99_9", "max")
SERVICE_COLUMNS = tuple(f"service_{name}" for name in LATENCY_COLUMNS)
NODE_COLUMNS = ("taken", "commit", "applied")
"""Of each slot, as in ``taken3``: orders/s from clients, and the entries by which its commit index and its applied
index are behind."""
AREA = "offered_area"
"""As ``offered``, and 0 where that is unknown: bokeh breaks a line at NaN, and draws an area across it."""
IDLE = {"offered": 0.0, "acknowledged": 0.0, AREA: 0.0}
"""The load's columns while no load runs: nothing is offered, and latencies are unknown."""
SILENT = {AREA: 0.0}
"""The same while nothing is heard of a load that has not told its end: all is unknown."""
COLUMNS = (
    *("t", "offered", "acknowledged", AREA),
    *LATENCY_COLUMNS,
    *SERVICE_COLUMNS,
    *(f"{name}{slot}" for name in (*NODE_COLUMNS, *LEAD_COLUMNS) for slot in range(MAX_SLOTS)),
)
GAP = SILENT | {f"{name}{slot}": 0.0 for name in ("lead_low", "lead_top") for slot in range(MAX_SLOTS)}
"""A row of a time in which nothing was sampled: areas are as thin as can be, all else is unknown."""
PERCENTS = (50.0, 99.0, 99.9)
_EDGES_MS = np.array([bucket_high(index) for index in range(BUCKET_COUNT)]) / NS_PER_MS
_NOTHING = (float("nan"),) * (len(PERCENTS) + 1)


class Ring:
    """The newest ``capacity`` rows of the columns ``names``. A column that a row does not mention is NaN: unknown, not
    zero."""

    def __init__(self, names: Sequence[str], capacity: int) -> None:
        self._place = {name: place for place, name in enumerate(names)}
        self._capacity = capacity
        self._values: Column = np.full((len(names), 2 * capacity), np.nan)
        self._end = 0
        """Where the next row goes, 0 to 2 * ``capacity``. The rows before it, at most ``capacity`` of them, are
        kept."""
        self._tables: dict[tuple[str, ...], npt.NDArray[np.intp]] = {}
        """Where the columns stand that are asked for as tables, by their names."""
        self._total = 0
        """Rows ever appended; never below the number of rows that are kept."""
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """Rows ever appended."""
        return self._total

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row.

        Raises:
            KeyError: a name is not a column; the row is not added.
        """
        with self._lock:
            if self._end == 2 * self._capacity:
                self._values[:, : self._capacity] = self._values[:, self._capacity :]
                self._end = self._capacity
            self._values[:, self._end] = np.nan
            for name, value in row.items():
                self._values[self._place[name], self._end] = value
            self._end += 1
            self._total += 1

    def newest(self, names: Iterable[str], count: int | None = None) -> dict[str, Column]:
        """Copies of the last ``count`` rows, or with None of all that are kept; by column, oldest row first."""
        with self._lock:
            start = self._start_of(count)
            return {name: self._values[self._place[name], start : self._end].copy() for name in names}

    def table(self, names: Sequence[str], count: int | None = None) -> Column:
        """The same as one array, with a line for each of ``names``."""
        names = tuple(names)
        places = self._tables.get(names)
        if places is None:
            if len(self._tables) >= TABLES_KEPT:
                self._tables.clear()
            places = self._tables[names] = np.array([self._place[name] for name in names], np.intp)
        with self._lock:
            return self._values[places, self._start_of(count) : self._end]

    def _start_of(self, count: int | None) -> int:
        kept = min(self._total, self._capacity)
        return self._end - (kept if count is None else max(0, min(count, kept)))


class MovingPercentiles:
    """Percentiles of the last ``intervals`` histograms, in milliseconds."""

    def __init__(self, intervals: int) -> None:
        self._intervals = intervals
        self._counts: Counts = np.zeros(BUCKET_COUNT, np.int64)
        """The sum of all histograms in the window."""
        self._window: deque[tuple[Counts, Counts, int]] = deque()
        """(buckets, their counts, maximum in ns) of each interval, oldest first; at most ``intervals`` of them."""

    def add(self, sparse: Mapping[str, int], max_ns: int) -> None:
        """Take the histogram of the next interval; an empty one moves the window on as well.

        Args:
            sparse: bucket index -> count; see :mod:`zmqlab.histogram`.
            max_ns: the exact maximum of the interval.
        """
        buckets = np.fromiter(map(int, sparse), np.int64, len(sparse))
        counts = np.fromiter(sparse.values(), np.int64, len(sparse))
        self._counts[buckets] += counts
        self._window.append((buckets, counts, max_ns))
        if len(self._window) > self._intervals:
            old_buckets, old_counts, _ = self._window.popleft()
            self._counts[old_buckets] -= old_counts

    def clear(self) -> None:
        """Forget all intervals, because another run begins."""
        self._counts[:] = 0
        self._window.clear()

    def figures_ms(self) -> tuple[float, ...]:
        """p50, p99, p99.9 and the maximum; NaN for all if the window is empty."""
        ranks = np.cumsum(self._counts)
        if not ranks[-1]:
            return _NOTHING
        highest = max(max_ns for _, _, max_ns in self._window) / NS_PER_MS
        wanted = np.maximum(np.ceil(ranks[-1] * np.array(PERCENTS) / 100), 1)
        edges = np.minimum(_EDGES_MS[np.searchsorted(ranks, wanted)], highest)
        return (*edges.tolist(), highest)


@dataclass(slots=True)
class NodeTrack:
    """What is known of one node from row to row."""

    slot: int
    """0 to ``MAX_SLOTS`` - 1; no two members have the same."""
    newest: NodeStatus | None = None
    """Its last snapshot; kept after its death. None: it has not published yet."""
    heard_s: float = float("-inf")
    """When that snapshot was seen, on the monotonic clock."""
    taken_per_s: float = 0.0
    """Orders a second from clients, between its last two snapshots; 0 after a restart."""

    def is_fresh(self, now_s: float) -> bool:
        """Whether the node has published within ``STALE_S``."""
        return now_s - self.heard_s < STALE_S


class Behind(NamedTuple):
    """By how many entries a node is behind the leader's commit index; below 0 if it published after the leader."""

    commit: float
    applied: float
    is_late: bool
    """Whether it has not applied what was committed half a second ago."""


class NodeReadings:
    """The members of a cluster, and their columns of the next row."""

    def __init__(self) -> None:
        self.tracks: dict[str, NodeTrack] = {}
        """Members by name, in the cluster's order. Replaced as a whole, so that a reader in another thread holds one
        consistent state."""
        self.groups: GroupReadings | None = None
        """The Raft groups, where there are several: then no node leads, or lags, as a whole."""
        self.behinds: dict[str, Behind] = {}
        """How far each member was behind in the last row; without those that have told nothing."""
        self._commits: deque[tuple[int, int]] = deque(maxlen=COMMITS_KEPT)
        """(time_ns, commit index) of the leader, ascending in both."""

    def follow(self, names: Sequence[str]) -> None:
        """Take the members from ``names``: newcomers get a slot, those that have left lose theirs."""
        if list(names) == list(self.tracks):
            return
        kept = {name: track for name, track in self.tracks.items() if name in names}
        taken = {track.slot for track in kept.values()}
        for name in names:
            if name not in kept and (slot := _slot_for(name, taken)) is not None:
                taken.add(slot)
                kept[name] = NodeTrack(slot)
        self.tracks = {name: kept[name] for name in names if name in kept}

    def hear_groups(self, told: Mapping[int, Mapping[str, NodeStatus]], now_s: float) -> None:
        """Take the newest snapshots of several groups, by group and node; after :meth:`hear`."""
        self.groups = GroupReadings.of(told, [name for name, track in self.tracks.items() if track.is_fresh(now_s)])

    def hear(self, newest: Mapping[str, NodeStatus], now_s: float) -> None:
        """Take the newest snapshot of each node; snapshots of strangers and old ones are ignored."""
        for name, status in newest.items():
            track = self.tracks.get(name)
            if track is None or (track.newest is not None and status.time_ns == track.newest.time_ns):
                continue
            track.taken_per_s = _taken_per_s(track.newest, status)
            track.newest, track.heard_s = status, now_s
        self._note_commit(now_s)

    def leader(self, now_s: float) -> str:
        """The name of the node that leads, of those that have been heard within ``STALE_S``; empty: none does, or there
        are several groups."""
        if self.groups is not None:
            return ""
        heard = {name: track.newest for name, track in self.tracks.items() if track.newest and track.is_fresh(now_s)}
        return leader_of(heard) or ""

    def columns(self, now_s: float) -> dict[str, float]:
        """The nodes' columns of a row. A node that is silent falls behind the newest known commit index."""
        row, behinds = dict[str, float](), dict[str, Behind]()
        for name, track in self.tracks.items():
            row[f"taken{track.slot}"] = track.taken_per_s if track.is_fresh(now_s) else 0.0
            behind = self.behind(track, now_s)
            if behind is not None:
                behinds[name] = behind
                row[f"commit{track.slot}"] = max(0.0, round(behind.commit))
                row[f"applied{track.slot}"] = max(0.0, round(behind.applied))
        self.behinds = behinds
        if self.groups is not None:
            row |= self.groups.columns({name: track.slot for name, track in self.tracks.items()})
        return row

    def behind(self, track: NodeTrack, now_s: float) -> Behind | None:
        """How far a node is behind; None if it has told nothing."""
        status = track.newest
        if status is None:
            return None
        if self.groups is not None:
            commit, applied = self.groups.behind(status.name)
            return Behind(commit, applied, applied > LATE_ENTRIES)
        committed = earlier = float(self._commits[-1][1] if self._commits else 0)
        if track.is_fresh(now_s):
            committed = self._committed_at(status.time_ns)
            earlier = self._committed_at(status.time_ns - LATE_NS)
        return Behind(
            committed - status.commit_index,
            committed - status.applied_index,
            status.applied_index < int(earlier),
        )

    def _note_commit(self, now_s: float) -> None:
        leader = self.tracks.get(self.leader(now_s))
        status = leader.newest if leader is not None else None
        if status is None:
            return
        if not self._commits or (status.time_ns > self._commits[-1][0] and status.commit_index >= self._commits[-1][1]):
            self._commits.append((status.time_ns, status.commit_index))

    def _committed_at(self, time_ns: int) -> float:
        """The cluster's commit index at ``time_ns``, interpolated between two snapshots of the leader."""
        commits = self._commits
        place = bisect.bisect_right(commits, (time_ns, 1 << 63))
        if place in (0, len(commits)):
            return commits[min(place, len(commits) - 1)][1] if commits else 0.0
        (from_ns, from_index), (to_ns, to_index) = commits[place - 1], commits[place]
        return from_index + (to_index - from_index) * (time_ns - from_ns) / (to_ns - from_ns)


class LoadReadings:
    """The load clients of a cluster, their columns of the next row, and the silences that they measured."""

    def __init__(self) -> None:
        self.frames: deque[LoadMetrics] = deque(maxlen=LOAD_FRAMES)
        """The snapshots of all load clients, oldest first."""
        self.silences = SilenceBands()
        self._fresh: deque[LoadMetrics] = deque()
        """Snapshots that came since the last row. Appended to by the feed's thread, emptied by the sampler's."""
        self._heard_s = float("-inf")
        """When a row last took a snapshot, on the monotonic clock."""
        self._at_work: dict[int, float] = {}
        """When a row last took a snapshot of each load client that has not told its end, by its pid, on the monotonic
        clock. One that falls silent is forgotten when another one is heard."""
        self._row: dict[str, float] = IDLE
        self._response = MovingPercentiles(LATENCY_INTERVALS)
        self._service = MovingPercentiles(LATENCY_INTERVALS)

    def hear(self, metrics: LoadMetrics) -> None:
        """Take a snapshot for the next row. From any thread."""
        self._fresh.append(metrics)

    def newest(self, now_s: float) -> LoadMetrics | None:
        """The newest snapshot of a load client that is at work; None if none is."""
        newest = self.frames[-1] if self.frames else None
        at_work = newest is not None and now_s - self._heard_s < STALE_S and newest.state != "ended"
        return newest if at_work else None

    def columns(self, now_s: float) -> dict[str, float]:
        """The load's columns of a row; those of the row before if no snapshot has come just now."""
        fresh = [self._fresh.popleft() for _ in range(len(self._fresh))]
        is_silent = now_s - self._heard_s >= STALE_S
        silent = [pid for pid, heard_s in self._at_work.items() if now_s - heard_s >= STALE_S]
        for pid in silent:
            self.silences.end(pid)
        if fresh:
            self._heard_s = now_s
            for pid in silent:
                del self._at_work[pid]
            self._take(fresh, now_s)
        elif is_silent or not self._at_work:
            self._row = SILENT if self._at_work else IDLE
            self._response.clear()
            self._service.clear()
        return self._row

    def _take(self, fresh: Sequence[LoadMetrics], now_s: float) -> None:
        self.frames.extend(fresh)
        for metrics in fresh:
            if metrics.state == "ended":
                self._at_work.pop(metrics.pid, None)
            else:
                self._at_work[metrics.pid] = now_s
            self._response.add(metrics.response_time, metrics.response_time_max_ns)
            self._service.add(metrics.service_time, metrics.service_time_max_ns)
            self.silences.hear(metrics)
        rates = rates_of(fresh)
        self._row = {
            **rates,
            AREA: rates["offered"],
            **dict(zip(LATENCY_COLUMNS, self._response.figures_ms(), strict=True)),
            **dict(zip(SERVICE_COLUMNS, self._service.figures_ms(), strict=True)),
        }


def _slot_for(name: str, taken: set[int]) -> int | None:
    """A slot for a newcomer: 3 for ``node3`` if it is free, otherwise the first free one; None if all are taken."""
    digits = name.removeprefix("node")
    if digits.isdigit() and int(digits) < MAX_SLOTS and int(digits) not in taken:
        return int(digits)
    return next((slot for slot in range(MAX_SLOTS) if slot not in taken), None)


def _taken_per_s(before: NodeStatus | None, now: NodeStatus) -> float:
    """Orders a second between two snapshots; 0 if they are not of one process, because another one counts from zero."""
    if before is None or before.pid != now.pid or now.time_ns <= before.time_ns:
        return 0.0
    return (now.orders_taken - before.orders_taken) * 1e9 / (now.time_ns - before.time_ns)


def rates_of(snapshots: Iterable[LoadMetrics]) -> dict[str, float]:
    """Orders a second over these snapshots. Intervals of one load client follow each other, rates of several add up."""
    by_process: dict[int, tuple[float, LoadCounters]] = {}
    for metrics in snapshots:
        over_s, sum_so_far = by_process.get(metrics.pid, (0.0, LoadCounters()))
        both = LoadCounters(
            offered=sum_so_far.offered + metrics.interval.offered,
            acknowledged=sum_so_far.acknowledged + metrics.interval.acknowledged,
        )
        by_process[metrics.pid] = (over_s + metrics.interval_s, both)
    known = [(over_s, counters) for over_s, counters in by_process.values() if over_s > 0]
    return {
        "offered": sum(counters.offered / over_s for over_s, counters in known),
        "acknowledged": sum(counters.acknowledged / over_s for over_s, counters in known),
    }
