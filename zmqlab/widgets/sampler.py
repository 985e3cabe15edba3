"""One thread a cluster that samples all the panel shows, ten rows a second, from the cluster's feed.

Each turn adds one row to a :class:`~zmqlab.widgets.readings.Ring`: what the load clients offered and got acknowledged,
their latencies over the last second, and for every node the orders that it took and how far it is behind
(:mod:`~zmqlab.widgets.readings`). A turn that comes late, because the machine is busy or has slept, first adds rows in
which nothing is known: a line over that time would claim what was not seen. Beside the rows stands a :class:`Timeline`:
marks, bands, and which node led when.

Charts, tables and cards read what is here. A widget that wants to know when there is more registers with
:meth:`Sampler.on_tick`, and is called in the sampler's thread. There is one sampler for a cluster, however many widgets
show it: :func:`sampler_of` makes it and ends it with the cluster.

An event does not wait for the next row: watchers are told at once, so that a click and its line on the charts belong
together for the eye.

Which node leads is answered here for the whole panel, by the one rule for it (:func:`~zmqlab.client.roster.leader_of`)
among the nodes that have been heard just now.

A thread that dies keeps its exception in :attr:`Sampler.error`. A watcher that fails ends neither the thread nor the
other watchers; its exception is kept in :attr:`Sampler.failure`. :meth:`Sampler.close` raises either.

A sampler does not hold its cluster: one that only its sampler knows is forgotten, and ends.

Left out on purpose: decisions. The sampler changes nothing in the cluster.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from zmqlab.errors import FrameError
from zmqlab.lab.cluster import Cluster
from zmqlab.load.load_messages import LoadMetrics, decode_metrics
from zmqlab.widgets.group_readings import GroupReadings
from zmqlab.widgets.marks import Moment, Stretch, clock_ms, moments_of, stretches_of, time_of_election_ms
from zmqlab.widgets.readings import COLUMNS, GAP, STALE_S, Behind, LoadReadings, NodeReadings, NodeTrack, Ring
from zmqlab.wire.control import Event

T = TypeVar("T")

INTERVAL_S = 0.1
"""Nodes publish as often."""
HISTORY_ROWS = 1_200
"""Two minutes."""


@dataclass(frozen=True, slots=True)
class LeaderSpan:
    """A time in which one node led one term."""

    slot: int
    term: int
    start_ms: float
    end_ms: float
    """The last row in which it led; later than ``start_ms`` but for the first row."""


@dataclass(slots=True)
class Timeline:
    """What stands over the charts. Written by the sampler's thread alone."""

    silences: deque[Stretch]
    """Times without an acknowledgement; see :class:`~zmqlab.widgets.marks.SilenceBands`."""
    marks: list[Moment] = field(default_factory=list)
    """Oldest first; replaced as a whole when events come."""
    bands: list[Stretch] = field(default_factory=list)
    """Pauses, cut links and the like; replaced as a whole when events come."""
    leaders: deque[LeaderSpan] = field(default_factory=lambda: deque(maxlen=100))
    """Oldest first. Two spans of one node differ in their terms, or have rows between them in which it was not known to
    lead."""


class Sampler:
    """The rows and the timeline of one cluster; see the module. Made by :func:`sampler_of`."""

    def __init__(self, cluster: Cluster, interval_s: float = INTERVAL_S) -> None:
        self.feed = cluster.feed
        self._fleet = cluster.fleet
        self.ring = Ring(COLUMNS, HISTORY_ROWS)
        self.events: list[Event] = []
        """All events of the feed as of the last turn."""
        self.error: BaseException | None = None
        """What the thread died of; None: it did not."""
        self.failure: BaseException | None = None
        """How the first of the watchers failed, or a thread that works for one; None: none has."""
        self.now_ms = clock_ms(time.time_ns())
        """The time of the newest row, on the charts' axis."""
        self._nodes = NodeReadings()
        self._load = LoadReadings()
        self.timeline = Timeline(self._load.silences.bands)
        self._is_span_over = True
        """Whether the newest row is one in which no node led, or one of a gap."""
        self._interval_s = interval_s
        self._watchers: list[Callable[[], None]] = []
        self._around: list[tuple[Callable[[], None], Callable[[], None]]] = []
        """What is called before and after the watchers."""
        self._closing = threading.Event()
        self._news = threading.Event()
        """Set when an event has come that watchers have not been told of."""
        self._unregister = (
            self.feed.on_load_frame(self._take_load_frame, at_once=True),
            self.feed.on_event(lambda _event: self._news.set(), at_once=True),
        )
        self._thread = threading.Thread(target=self._run, name="zmqlab-sampler", daemon=True)

    def start(self) -> Sampler:
        """Start the thread."""
        self._thread.start()
        return self

    @property
    def alive(self) -> bool:
        """Whether more rows will come."""
        return self.error is None and not self._closing.is_set()

    @property
    def problem(self) -> str:
        """What a widget is to tell of the sampler and of those that watch it; empty if all is well."""
        if self.error is not None:
            return f"The figures have stopped: {self.error!r}"
        return "" if self.failure is None else f"A part of the panel has failed: {self.failure!r}"

    @property
    def ended(self) -> bool:
        """Whether the cluster stops, or has stopped, so that no more rows will come."""
        return self._closing.is_set()

    @property
    def nodes(self) -> dict[str, NodeTrack]:
        """The members by name; never changed in place."""
        return self._nodes.tracks

    @property
    def groups(self) -> GroupReadings | None:
        """The Raft groups as of the last row; None: there is one."""
        return self._nodes.groups

    def behind(self, name: str) -> Behind | None:
        """How far a member was behind in the last row; None if it has told nothing, or is no member."""
        return self._nodes.behinds.get(name)

    @property
    def load(self) -> LoadMetrics | None:
        """The newest snapshot of a load client that is at work; None if none is."""
        return self._load.newest(time.monotonic())

    @property
    def load_frames(self) -> deque[LoadMetrics]:
        """The last minute of the load clients' snapshots, oldest first."""
        return self._load.frames

    def who_leads(self, time_ns: int | None = None) -> str:
        """The name of the node that leads now, or that led at ``time_ns``; empty if no node does.

        A node that has not been heard within ``STALE_S`` does not lead.
        """
        return self._nodes.leader(time.monotonic()) if time_ns is None else self._who_led(clock_ms(time_ns))

    def on_tick(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call ``watcher`` after each row, at each event, and at the end; returns a function that ends this."""
        self._watchers.append(watcher)
        return partial(_remove, self._watchers, watcher)

    def around_ticks(self, begin: Callable[[], None], end: Callable[[], None]) -> Callable[[], None]:
        """Call ``begin`` before the watchers of :meth:`on_tick` are called, and ``end`` after the last of them.

        Returns:
            A function that ends this.
        """
        self._around.append((begin, end))
        return partial(_remove, self._around, (begin, end))

    def stop(self) -> None:
        """End the thread; what was sampled can still be read."""
        self._closing.set()
        self._news.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5)
        for unregister in self._unregister:
            unregister()

    def close(self) -> None:
        """:meth:`stop`, then raise what the thread died of, or how a watcher failed, if either did."""
        self.stop()
        self.check()

    def check(self) -> None:
        """Raise what the thread died of, or how a watcher failed, if either did."""
        for error in (self.error, self.failure):
            if error is not None:
                raise error

    def turn(self) -> None:
        """Add one row; a gap before it, if the row before is older than ``STALE_S``. The thread calls this, and so do
        tests."""
        now_ns, now_s = time.time_ns(), time.monotonic()
        before_ms, self.now_ms = self.now_ms, clock_ms(now_ns)
        if self.ring.total and self.now_ms - before_ms > 1000 * STALE_S:
            for edge_ms in (before_ms, self.now_ms):
                self.ring.append({"t": edge_ms} | GAP)
            self._is_span_over = True
        self._nodes.follow(self._fleet.names)
        self._nodes.hear(self.feed.newest(), now_s)
        if self.feed.shards > 1:
            self._nodes.hear_groups({group: self.feed.newest(group) for group in range(self.feed.shards)}, now_s)
        self._follow_leader()
        self._follow_events()
        self.ring.append({"t": self.now_ms} | self._load.columns(now_s) | self._nodes.columns(now_s))

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
        """Wait until the next row is due; an event that comes meanwhile is told at once."""
        while not self._closing.is_set() and self._news.wait(max(0.0, until_s - time.monotonic())):
            self._news.clear()
            if not self._closing.is_set():
                self._follow_events()
                self._tell()

    def _tell(self) -> None:
        """Call all watchers. One that fails is not called again."""
        for around in tuple(self._around):
            self._call(around[0], self._around, around)
        for watcher in tuple(self._watchers):
            self._call(watcher, self._watchers, watcher)
        for around in tuple(self._around):
            self._call(around[1], self._around, around)

    def _call(self, callback: Callable[[], None], registered: list[T], entry: T) -> None:
        try:
            callback()
        except Exception as error:
            self.failure = self.failure or error
            _remove(registered, entry)

    def _take_load_frame(self, frame: bytes) -> None:
        """Runs in the feed's thread."""
        with contextlib.suppress(FrameError):
            self._load.hear(decode_metrics(frame))

    # -- what happened -----------------------------------------------------------------------------------------

    def _follow_leader(self) -> None:
        """Lengthen the leader's span by this row, or begin a new one: after another leader, or after a time in which it
        was not seen to lead."""
        leader, spans, was_over = self.who_leads(), self.timeline.leaders, self._is_span_over
        self._is_span_over = not leader
        if not leader:
            return
        track = self.nodes[leader]
        assert track.newest is not None
        slot, term = track.slot, track.newest.term
        is_same = bool(spans) and (spans[-1].slot, spans[-1].term) == (slot, term)
        if is_same and not was_over:
            spans[-1] = LeaderSpan(slot, term, spans[-1].start_ms, self.now_ms)
        else:
            elected_ms = None if is_same else time_of_election_ms(self.feed.events(), leader, term)
            spans.append(LeaderSpan(slot, term, self.now_ms if elected_ms is None else elected_ms, self.now_ms))

    def _who_led(self, at_ms: float) -> str:
        spans = [span for span in tuple(self.timeline.leaders) if span.start_ms <= at_ms]
        spans = [span for span in spans if at_ms <= span.end_ms + 1000 * STALE_S]
        names = {track.slot: name for name, track in self.nodes.items()}
        return names.get(spans[-1].slot, "") if spans else ""

    def _follow_events(self) -> None:
        events = self.feed.events()
        if len(events) == len(self.events) and (not events or events[-1] is self.events[-1]):
            return
        self.events = events
        self.timeline.marks, self.timeline.bands = moments_of(events), stretches_of(events)


def _remove(registered: list[T], entry: T) -> None:
    with contextlib.suppress(ValueError):
        registered.remove(entry)


_samplers: weakref.WeakKeyDictionary[Cluster, Sampler] = weakref.WeakKeyDictionary()
_samplers_lock = threading.Lock()


def sampler_of(cluster: Cluster) -> Sampler:
    """The cluster's sampler, started when it is first asked for; it ends with the cluster. One whose thread has died is
    replaced.

    Raises:
        ClusterError: the cluster has not been started.
    """
    with _samplers_lock:
        sampler = _samplers.get(cluster)
        if sampler is None or not sampler.alive:
            _sweep_once()
            sampler = _samplers[cluster] = Sampler(cluster).start()
            cluster.at_stop(sampler.stop)
        return sampler


@functools.cache
def _sweep_once() -> None:
    """Look for garbage among what this process has imported. It takes 0.1 s, and some seconds later Python would do it
    by itself, in any thread, while all figures stand still."""
    gc.collect()


def problem_of(cluster: Cluster) -> BaseException | None:
    """What the thread behind the cluster's charts died of, or how one of them failed; None if all is well."""
    with _samplers_lock:
        sampler = _samplers.get(cluster)
    return sampler.error or sampler.failure if sampler is not None else None
