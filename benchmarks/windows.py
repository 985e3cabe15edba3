"""What something costs that can be switched on and off while a cluster works: windows without and with it, in turn.

There is one cluster under one load. Windows off and on alternate (off on on off, and so on), so that disturbances of
the machine hit both kinds alike, and each pair of neighbours gives one ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import psutil
from machine import cpu_s

from zmqlab import Cluster
from zmqlab.load.load_messages import LoadMetrics, decode_metrics
from zmqlab.load.load_report import response_time_of

WARM_UP_S = 3.0
SETTLE_S = 0.3
"""Wait after a switch, before a window begins."""


class Window(NamedTuple):
    """The figures of one window."""

    orders_per_s: float
    cpu_us_per_order: float
    """CPU time of all nodes together."""
    p50_ms: float
    p99_ms: float


Windows = dict[bool, list[Window]]
"""Off and on, in the order in which they pair."""


class _Meter:
    """Adds up the snapshots of the load client while a window is open."""

    def __init__(self, cluster: Cluster) -> None:
        self._nodes = [psutil.Process(cluster.pid(name)) for name in cluster.nodes]
        self._snapshots: list[LoadMetrics] = []

    def take(self, frame: bytes) -> None:
        """Take a snapshot; called in the feed's thread."""
        self._snapshots.append(decode_metrics(frame))

    def measure(self, window_s: float) -> Window:
        """Measure one window that begins now."""
        self._snapshots.clear()
        before_s, began = cpu_s(self._nodes), time.monotonic()
        time.sleep(window_s)
        spent_s, took_s = cpu_s(self._nodes) - before_s, time.monotonic() - began
        snapshots = list(self._snapshots)
        orders = sum(each.interval.acknowledged for each in snapshots)
        over_s = sum(each.interval_s for each in snapshots)
        p50, p99 = response_time_of(snapshots).percentiles((50, 99))
        return Window(orders / over_s, spent_s / took_s / (orders / over_s) * 1e6, p50 / 1e6, p99 / 1e6)


def in_turn(cluster: Cluster, switch: Callable[[bool], object], pairs: int, window_s: float) -> Windows:
    """Measure pairs of windows of a cluster that is under load; ``switch`` turns the thing on or off."""
    windows: Windows = {False: [], True: []}
    meter = _Meter(cluster)
    stop = cluster.feed.on_load_frame(meter.take, at_once=True)
    time.sleep(WARM_UP_S)
    for pair in range(pairs):
        for on in (pair % 2 == 1, pair % 2 == 0):
            switch(on)
            time.sleep(SETTLE_S)
            windows[on].append(meter.measure(window_s))
    stop()
    return windows


def report(title: str, windows: Windows, name: str) -> float:
    """Print one figure's medians and the cost in per cent; returns the cost."""
    off, on = ([getattr(each, name) for each in windows[key]] for key in (False, True))
    more_is_worse = name != "orders_per_s"
    costs = sorted(
        100 * ((after / before - 1) if more_is_worse else (1 - after / before))
        for before, after in zip(off, on, strict=True)
    )
    cost = statistics.median(costs)
    low, high = costs[len(costs) // 4], costs[-1 - len(costs) // 4]
    print(
        f"  {title:26} {statistics.median(off):10,.2f} {statistics.median(on):10,.2f}"
        f"   cost {cost:+6.2f} %  (half of the pairs from {low:+.2f} to {high:+.2f})",
        flush=True,
    )
    return cost
