"""Several load generators as one load client: one rate, one histogram, one verdict.

Each generator is a process of its own, with its own clock, schedule, sessions and seed, and makes an equal share of the
load (:func:`~zmqlab.load.merged_load.share_of`). The cluster's host says on which machines they run; on this machine
they are children of this process. A thread collects their snapshots, and hands one merged snapshot to the feed, ten
times a second: charts, status line and thresholds see one load. Their records come here as they are written. At the end
they are one result, which is judged as any other.

A generator that dies, or whose machine does, ends by that. What it had recorded until then counts, its result says what
happened, and then the verdict is not *passed*. The others go on.

What is lost so far is counted from the ledgers of all (:mod:`~zmqlab.lab.so_far`).

Generators on this machine are traced with the nodes. Those of other machines have other clocks, and
:class:`~zmqlab.lab.sampled_traces.Traces` names them (``other_clocks``).
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zmqlab.errors import ClusterError, ZmqlabError
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.load_parts import LoadPart, LocalPart
from zmqlab.lab.load_run import Evidence
from zmqlab.lab.register import Ending
from zmqlab.load.load_messages import LoadMetrics, LoadResult, SetRate, Stop, ToLoad, decode_metrics, encode_metrics
from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.merged_load import Part, merged_metrics, merged_result, placed, share_of

if TYPE_CHECKING:
    from zmqlab.lab.cluster import Cluster

MAX_GENERATORS = 64
"""Each has sessions of its own, of which a cluster keeps 1,024."""
LOOK_S = 0.1
"""Between two merged snapshots."""

_numbers = itertools.count(1)


class LoadTeam:
    """Several load generators from their start on; what :class:`~zmqlab.lab.load_run.LoadRun` is for one."""

    def __init__(
        self, settings: LoadSettings, count: int, feed: MetricsFeed, end: Ending, cluster: Cluster | None
    ) -> None:
        """Start them; ``end`` gets the steps that undo it. :meth:`await_start` must follow.

        Raises:
            ClusterError: one could not be started.
            SettingsError: they can't share these settings.
        """
        self.pid = -next(_numbers)
        """What its snapshots bear: a process id that no process has."""
        self.ended = threading.Event()
        self.evidence = Evidence(cluster)
        end.also(self.evidence.forget)
        self._settings = settings
        self._feed = feed
        self._newest: dict[int, LoadMetrics] = {}
        """By the number of the generator."""
        self._told_s = time.monotonic()
        self._closing = threading.Event()
        self._parts: list[LoadPart] = []
        for number in range(count):
            part = self._started(share_of(settings, number, count), number, cluster)
            self._parts.append(part)
            end.also(part.close)
        self._thread = threading.Thread(target=self._collect, name="zmqlab-load-team", daemon=True)
        self._thread.start()
        end.also(partial(_stop, self._closing, self._thread))

    def _started(self, share: LoadSettings, number: int, cluster: Cluster | None) -> LoadPart:
        if cluster is not None:
            folder = self.evidence.folder / str(number)
            folder.mkdir(0o700)
            part = cluster.fleet.host.start_load(share, number, folder, cluster.fleet.nodes)
            if part is not None:
                self._feed.traces.other_clocks.add(share.name)
                return part
        local = LocalPart(share)
        local.traced_by(self._feed)
        return local

    @property
    def ledgers(self) -> dict[Path, bool]:
        """Where the ledger of each generator is, or comes in, and whether its clock is that of this process."""
        return {part.folder: isinstance(part, LocalPart) for part in self._parts}

    def await_start(self, timeout_s: float) -> None:
        """Wait until each is about to send its first order.

        Raises:
            RequestError: one could open no session.
            ClusterError: one does not come up.
        """
        deadline = time.monotonic() + timeout_s
        while late := [part for part in self._parts if not part.begun]:
            if time.monotonic() > deadline:
                names = ", ".join(part.machine for part in late)
                raise ClusterError(f"load generators did not begin within {timeout_s:g} s, on {names}")
            time.sleep(LOOK_S / 10)
        for part in self._parts:
            if part.ended:
                part.outcome()  # raises what it failed with

    def steer(self, message: ToLoad) -> None:
        """Tell all of them something; of a rate each gets its share.

        Raises:
            ClusterError: a machine does not answer; the others were told.
        """
        if isinstance(message, SetRate):
            message = SetRate(message.rate / len(self._parts))
        silent: list[ClusterError] = []
        for part in self._parts:
            try:
                if not part.ended:
                    part.steer(message)
            except ClusterError as error:
                silent.append(error)
        if silent and not isinstance(message, Stop):  # what does not answer for long stops by itself
            raise silent[0]

    def outcome(self) -> LoadResult:
        """The merged result of all, once all have ended. Raises what one failed with, if none has a result."""
        parts: list[Part] = []
        missing: list[ZmqlabError] = []
        for each in self._parts:
            try:
                parts.append(Part(each.outcome(), each.clock().offset_ns, each.machine))
            except ZmqlabError as error:
                missing.append(error)
        if not parts:
            raise missing[0]
        return merged_result(self._settings, parts, [str(error) for error in missing])

    def _collect(self) -> None:
        """The thread, until all have ended."""
        while not self._closing.wait(LOOK_S):
            over = all(part.ended for part in self._parts)  # before the last look: what they said is there by then
            self._tell(list(itertools.chain.from_iterable(map(self._fresh, range(len(self._parts))))))
            if over:
                break
        self.ended.set()

    def _fresh(self, number: int) -> Sequence[LoadMetrics]:
        part = self._parts[number]
        fresh = [placed(decode_metrics(frame), part.clock().offset_ns) for frame in part.frames()]
        if fresh:
            self._newest[number] = fresh[-1]
        if part.ended and number in self._newest:  # one that died could not say that it offers nothing any more
            last = self._newest[number]
            last.state, last.rate, last.outstanding, last.silence_ms = "ended", 0.0, 0, 0.0
        return fresh

    def _tell(self, fresh: Sequence[LoadMetrics]) -> None:
        if not fresh:
            return
        now_s = time.monotonic()
        merged = merged_metrics(
            tuple(self._newest.values()),
            fresh,
            name=self._settings.name,
            pid=self.pid,
            time_ns=time.time_ns(),
            interval_s=now_s - self._told_s,
        )
        self._told_s = now_s
        self._feed.hand_in(encode_metrics(merged))


def _stop(closing: threading.Event, thread: threading.Thread) -> None:
    closing.set()
    if thread is not threading.current_thread():
        thread.join(5)
