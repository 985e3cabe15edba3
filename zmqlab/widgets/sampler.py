"""All that the panel shows, sampled ten times a second by one thread from a cluster's feed. Nothing here decides.

Each turn adds one row to a :class:`~zmqlab.widgets.rings.Ring`: what the load client offered and got acknowledged, its
latencies over the last second, and for every node the orders that it took and how far it is behind. Charts, tables and
cards read what is here; those that want to know when there is more register with :meth:`Sampler.on_tick` and are called
in the sampler's thread. There is one sampler for a cluster, however many widgets look at it.

A node keeps its *slot*, and with it its column and its colour, as long as it is a member; a slot that was given up is
taken by the next newcomer.

How far a node is behind is what the leader had committed *when the node published*, less the node's own index: the two
publish at different moments, and at 20,000 orders/s even 50 ms would look like a lag.

A thread that dies keeps its exception in :attr:`Sampler.error`; :meth:`Sampler.close` raises it.
"""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from zmqlab.cluster.cluster import Cluster
from zmqlab.errors import FrameError
from zmqlab.load.metrics import LoadCounters, LoadMetrics, decode_metrics
from zmqlab.widgets.marks import Band, Mark, bands_of, clock_ms, marks_of
from zmqlab.widgets.palette import FAULT_COLOUR
from zmqlab.widgets.rings import MovingPercentiles, Ring
from zmqlab.wire.control import Event, NodeStatus

INTERVAL_S = 0.1
"""As often as nodes publish."""
HISTORY_ROWS = 1_200
"""Two minutes."""
MAX_SLOTS = 15
"""As many nodes as a cluster may have."""
LATENCY_INTERVALS = 10
"""Percentiles are of the last second: in 100 ms there are too few requests for a p99.9."""
STALE_S = 0.4
"""Four snapshots missed in a row: the publisher hangs, or has ended."""
SILENCE_MS = 150.0
"""A time without acknowledgements that is drawn as a band; an election's is 200 ms and more, a busy machine's less."""
LOAD_FRAMES = 600
"""A minute of a load client's snapshots, for the card."""

LATENCY_COLUMNS = ("p50", "p99", "p99_9", "max")
SERVICE_COLUMNS = tuple(f"service_{name}" for name in LATENCY_COLUMNS)
NODE_COLUMNS = ("taken", "commit", "applied")
"""Of each slot, as in ``taken3``: orders/s from clients, entries behind in commit index and in applied index."""
IDLE = {"offered": 0.0, "acknowledged": 0.0}
"""While no load runs: nothing is offered, and latencies are unknown."""
COLUMNS = (
    *("t", "offered", "acknowledged"),
    *LATENCY_COLUMNS,
    *SERVICE_COLUMNS,
    *(f"{name}{slot}" for name in NODE_COLUMNS for slot in range(MAX_SLOTS)),
)


@dataclass(slots=True)
class NodeTrack:
    """What is remembered of one node from turn to turn."""

    slot: int
    newest: NodeStatus | None = None
    """Its last snapshot, even after its death."""
    heard_s: float = float("-inf")
    """When that came, on the monotonic clock."""
    taken_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LeaderSpan:
    """A time in which one node led one term."""

    slot: int
    term: int
    start_ms: float
    end_ms: float


@dataclass(slots=True)
class Timeline:
    """What stands over the charts."""

    marks: list[Mark] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    silences: deque[Band] = field(default_factory=lambda: deque(maxlen=50))
    leaders: deque[LeaderSpan] = field(default_factory=lambda: deque(maxlen=100))


class Sampler:
    """See the module. Made by :func:`sampler_of`."""

    def __init__(self, cluster: Cluster, interval_s: float = INTERVAL_S) -> None:
        self.cluster = cluster
        self.feed = cluster.feed
        self.ring = Ring(COLUMNS, HISTORY_ROWS)
        self.timeline = Timeline()
        self.nodes: dict[str, NodeTrack] = {}
        """Members by name; replaced as a whole, so that a reader holds one state of it."""
        self.load_frames: deque[LoadMetrics] = deque(maxlen=LOAD_FRAMES)
        self.events: list[Event] = []
        self.error: BaseException | None = None
        self.now_ms = clock_ms(time.time_ns())
        """The time of the newest row."""
        self._interval_s = interval_s
        self._commits: deque[tuple[int, int]] = deque(maxlen=60)
        """(time_ns, commit index) of whoever led, ascending in both."""
        self._fresh: deque[LoadMetrics] = deque()
        """Snapshots that came since the last turn."""
        self._load_heard_s = float("-inf")
        self._load_row: dict[str, float] = IDLE
        self._response = MovingPercentiles(LATENCY_INTERVALS)
        self._service = MovingPercentiles(LATENCY_INTERVALS)
        self._watchers: list[Callable[[], None]] = []
        self._closing = threading.Event()
        self._news = threading.Event()
        """Something has happened, and whoever looks should see it at once."""
        self._unregister = (
            self.feed.on_load_frame(self._take_load_frame),
            self.feed.on_event(lambda _event: self._news.set()),
        )
        self._thread = threading.Thread(target=self._run, name="zmqlab-sampler", daemon=True)

    def start(self) -> Sampler:
        """Begin."""
        self._thread.start()
        return self

    @property
    def alive(self) -> bool:
        """Whether more rows will come."""
        return self.error is None and not self._closing.is_set()

    @property
    def load(self) -> LoadMetrics | None:
        """The newest snapshot of a load client that is at work; None if none is."""
        silent_s = time.monotonic() - self._load_heard_s
        newest = self.load_frames[-1] if self.load_frames else None
        return newest if newest is not None and silent_s < STALE_S and newest.state != "ended" else None

    @property
    def leader(self) -> str:
        """Who leads, as far as has been heard; empty if nobody does."""
        leaders = [
            track.newest for track in self.nodes.values() if track.newest and self._leads(track, time.monotonic())
        ]
        return max(leaders, key=lambda status: status.term).name if leaders else ""

    def leader_at(self, time_ns: int) -> str:
        """Who led then, as far as has been heard; empty if nobody did."""
        at_ms = clock_ms(time_ns)
        slots = {track.slot: name for name, track in self.nodes.items()}
        spans = [span for span in tuple(self.timeline.leaders) if span.start_ms <= at_ms]
        spans = [span for span in spans if at_ms <= span.end_ms + 1000 * STALE_S]
        return slots.get(spans[-1].slot, "") if spans else ""

    def on_tick(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call ``watcher`` after each row, at each event, and at the end; returns a function that ends this."""
        self._watchers.append(watcher)

        def unregister() -> None:
            with contextlib.suppress(ValueError):
                self._watchers.remove(watcher)

        return unregister

    def stop(self) -> None:
        """End the thread; what was sampled can still be read."""
        self._closing.set()
        self._news.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5)
        for unregister in self._unregister:
            unregister()

    def close(self) -> None:
        """:meth:`stop`, and raise what the thread died of."""
        self.stop()
        if self.error is not None:
            raise self.error

    def turn(self) -> None:
        """One row; the thread does this, and tests."""
        now_ns, now_s = time.time_ns(), time.monotonic()
        self.now_ms = clock_ms(now_ns)
        self._follow_members()
        self._hear_nodes(now_s)
        self._follow_leader(now_s)
        self._follow_events()
        self.ring.append({"t": self.now_ms} | self._load_columns(now_s) | self._node_columns(now_s))

    # -- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        due_s = time.monotonic()
        try:
            while not self._closing.is_set():
                self.turn()
                self._tell()
                due_s = max(due_s + self._interval_s, time.monotonic())
                self._rest(due_s)
        except BaseException as error:
            self.error = error
        self._tell()

    def _rest(self, until_s: float) -> None:
        """Wait for the next row's time; what happens meanwhile is told at once, a click must not wait for its line."""
        while not self._closing.is_set() and self._news.wait(max(0.0, until_s - time.monotonic())):
            self._news.clear()
            if not self._closing.is_set():
                self._follow_events()
                self._tell()

    def _tell(self) -> None:
        """A watcher's failure is the thread's: it is kept, and told by close()."""
        for watcher in tuple(self._watchers):
            try:
                watcher()
            except Exception as error:
                self.error = self.error or error
                with contextlib.suppress(ValueError):
                    self._watchers.remove(watcher)

    def _take_load_frame(self, frame: bytes) -> None:
        """Runs in the feed's thread."""
        with contextlib.suppress(FrameError):
            self._fresh.append(decode_metrics(frame))

    # -- nodes -------------------------------------------------------------------------------------------------

    def _follow_members(self) -> None:
        names = self.cluster.nodes
        if list(names) == list(self.nodes):
            return
        kept = {name: track for name, track in self.nodes.items() if name in names}
        taken = {track.slot for track in kept.values()}
        for name in names:
            if name not in kept and (slot := _slot_for(name, taken)) is not None:
                taken.add(slot)
                kept[name] = NodeTrack(slot)
        self.nodes = {name: kept[name] for name in names if name in kept}

    def _hear_nodes(self, now_s: float) -> None:
        for name, status in self.feed.newest().items():
            track = self.nodes.get(name)
            if track is None or (track.newest is not None and status.time_ns == track.newest.time_ns):
                continue
            before = track.newest
            if before is not None and before.pid == status.pid and status.time_ns > before.time_ns:
                over_s = (status.time_ns - before.time_ns) / 1e9
                track.taken_per_s = (status.orders_taken - before.orders_taken) / over_s
            else:
                track.taken_per_s = 0.0
            track.newest, track.heard_s = status, now_s
            if status.role == "leader":
                self._note_commit(status)

    def _note_commit(self, status: NodeStatus) -> None:
        if not self._commits or (status.time_ns > self._commits[-1][0] and status.commit_index >= self._commits[-1][1]):
            self._commits.append((status.time_ns, status.commit_index))

    def _committed_at(self, time_ns: int) -> float:
        """The cluster's commit index at that time, between two snapshots of the leader."""
        commits = list(self._commits)
        place = bisect.bisect_right(commits, (time_ns, 1 << 63))
        if place in (0, len(commits)):
            return commits[min(place, len(commits) - 1)][1] if commits else 0.0
        (from_ns, from_index), (to_ns, to_index) = commits[place - 1], commits[place]
        return from_index + (to_index - from_index) * (time_ns - from_ns) / (to_ns - from_ns)

    def _leads(self, track: NodeTrack, now_s: float) -> bool:
        return track.newest is not None and track.newest.role == "leader" and now_s - track.heard_s < STALE_S

    def _node_columns(self, now_s: float) -> dict[str, float]:
        row: dict[str, float] = {}
        newest_commit = self._commits[-1][1] if self._commits else 0
        for track in self.nodes.values():
            status, fresh = track.newest, now_s - track.heard_s < STALE_S
            row[f"taken{track.slot}"] = track.taken_per_s if fresh else 0.0
            if status is not None:
                committed = self._committed_at(status.time_ns) if fresh else newest_commit
                row[f"commit{track.slot}"] = max(0.0, round(committed - status.commit_index))
                row[f"applied{track.slot}"] = max(0.0, round(committed - status.applied_index))
        return row

    # -- load --------------------------------------------------------------------------------------------------

    def _load_columns(self, now_s: float) -> dict[str, float]:
        fresh = [self._fresh.popleft() for _ in range(len(self._fresh))]
        if not fresh:
            if now_s - self._load_heard_s >= STALE_S:
                self._load_row = IDLE
                self._response.clear()
                self._service.clear()
            return self._load_row
        self._load_heard_s = now_s
        self.load_frames.extend(fresh)
        for metrics in fresh:
            self._response.add(metrics.response_time, metrics.response_time_max_ns)
            self._service.add(metrics.service_time, metrics.service_time_max_ns)
            self._note_silence(metrics)
        self._load_row = {
            **_rates(fresh),
            **dict(zip(LATENCY_COLUMNS, self._response.figures_ms(), strict=True)),
            **dict(zip(SERVICE_COLUMNS, self._service.figures_ms(), strict=True)),
        }
        return self._load_row

    def _note_silence(self, metrics: LoadMetrics) -> None:
        """A gap in acknowledgements: known by its length when it has ended, by its start while it lasts."""
        if metrics.gap_ms < SILENCE_MS:
            return
        at_ms, silences = clock_ms(metrics.time_ns), self.timeline.silences
        going_on = silences[-1] if silences and silences[-1].end_ms is None else None
        lasts = metrics.silence_ms >= metrics.gap_ms
        if going_on is not None:
            silences.pop()
        start_ms = at_ms - metrics.gap_ms if going_on is None else going_on.start_ms
        end_ms = None if lasts else start_ms + metrics.gap_ms
        label = f"no acknowledgement for {metrics.gap_ms:,.0f} ms"
        silences.append(Band(start_ms, end_ms, label, FAULT_COLOUR))

    # -- what happened -----------------------------------------------------------------------------------------

    def _follow_leader(self, now_s: float) -> None:
        leader, spans = self.leader, self.timeline.leaders
        if not leader:
            return
        track = self.nodes[leader]
        assert track.newest is not None
        if spans and (spans[-1].slot, spans[-1].term) == (track.slot, track.newest.term):
            spans[-1] = LeaderSpan(track.slot, track.newest.term, spans[-1].start_ms, self.now_ms)
        else:
            spans.append(LeaderSpan(track.slot, track.newest.term, self._elected_ms(track.newest), self.now_ms))

    def _elected_ms(self, status: NodeStatus) -> float:
        """When it was elected, by the event if that has come; from now on otherwise."""
        times = [
            clock_ms(event.time_ns)
            for event in self.feed.events()
            if (event.kind, event.node, event.term) == ("elected", status.name, status.term)
        ]
        return times[-1] if times else self.now_ms

    def _follow_events(self) -> None:
        events = self.feed.events()
        if len(events) == len(self.events) and (not events or events[-1] is self.events[-1]):
            return
        self.events = events
        self.timeline.marks, self.timeline.bands = marks_of(events), bands_of(events)


def _slot_for(name: str, taken: set[int]) -> int | None:
    """``node3`` takes slot 3 if it can; any other name the first one that is free."""
    digits = name.removeprefix("node")
    if digits.isdigit() and int(digits) < MAX_SLOTS and int(digits) not in taken:
        return int(digits)
    return next((slot for slot in range(MAX_SLOTS) if slot not in taken), None)


def _rates(snapshots: Iterable[LoadMetrics]) -> dict[str, float]:
    """Orders a second over these snapshots; several load clients add up."""
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


_samplers: dict[Cluster, Sampler] = {}
_samplers_lock = threading.Lock()


def sampler_of(cluster: Cluster) -> Sampler:
    """The cluster's sampler, started when it is first asked for; it ends with the cluster.

    Raises:
        ClusterError: the cluster has not been started.
    """
    with _samplers_lock:
        sampler = _samplers.get(cluster)
        if sampler is None or not sampler.alive:
            sampler = _samplers[cluster] = Sampler(cluster).start()
            cluster.at_stop(lambda: _retire(cluster))
        return sampler


def problem_of(cluster: Cluster) -> BaseException | None:
    """What the thread behind the cluster's charts died of, if it did."""
    with _samplers_lock:
        sampler = _samplers.get(cluster)
    return sampler.error if sampler is not None else None


def _retire(cluster: Cluster) -> None:
    with _samplers_lock:
        sampler = _samplers.pop(cluster, None)
    if sampler is not None:
        sampler.stop()
