"""What scaling costs the clients: 3 -> 5 -> 3 nodes under load, with the latency before, during and after.

One load client runs all the time. It gives a histogram for each tenth of a second. The histograms of a phase are
merged, so that the percentiles are those of all orders in that phase. Nodes are added and removed one at a time.

    python benchmarks/scaling.py [--rate 10000] [--up 5] [--nodes 3] [--rounds 3]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable

from machine import line, unwind_at_sigterm
from tables import markdown

from zmqlab import Cluster, LoadClient
from zmqlab.histogram import Histogram
from zmqlab.load.load_messages import decode_metrics

STEADY_S = 4.0
PHASES = ("before", "scaling up", "larger", "scaling down", "after")


class Phases:
    """Response times by the phase in which they were measured."""

    def __init__(self) -> None:
        self.now = PHASES[0]
        self.histograms: dict[str, Histogram] = defaultdict(Histogram)
        self.seconds: dict[str, float] = defaultdict(float)
        self.gap_ms: dict[str, float] = defaultdict(float)

    def take(self, frame: bytes) -> None:
        """Take a snapshot of the load client; called in the feed's thread."""
        snapshot = decode_metrics(frame)
        self.histograms[self.now].merge(Histogram.from_sparse(snapshot.response_time, snapshot.response_time_max_ns))
        self.gap_ms[self.now] = max(self.gap_ms[self.now], snapshot.gap_ms)

    def during(self, phase: str, action: Callable[[], object]) -> None:
        """Carry ``action`` out, and count the snapshots of that time to ``phase``."""
        self.now, began = phase, time.monotonic()
        action()
        self.seconds[phase] += time.monotonic() - began


def run_once(phases: Phases, nodes: int, up: int, rate: float) -> bool:
    """One round; returns whether the verdict passed and no order failed."""
    with Cluster(nodes=nodes) as cluster:
        load = LoadClient(cluster, rate=rate, duration=None)
        load.start()
        time.sleep(1.0)
        stop = cluster.feed.on_load_frame(phases.take, at_once=True)
        phases.during("before", lambda: time.sleep(STEADY_S))
        phases.during("scaling up", lambda: cluster.scale(up))
        phases.during("larger", lambda: time.sleep(STEADY_S))
        phases.during("scaling down", lambda: cluster.scale(nodes))
        phases.during("after", lambda: time.sleep(STEADY_S))
        stop()
        load.stop()
        result = load.wait()
        verdict = "ok" if result.verdict.ok else repr(result.verdict)
        print(f"- {result.total.failed} failed, {result.total.retries} retries, verdict {verdict}")
        return result.verdict.ok and not result.total.failed


def main() -> int:
    """Measure, print a table, and fail if any verdict did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--up", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    unwind_at_sigterm()
    print(f"{line()}.\n")
    phases, good = Phases(), 0
    for number in range(1, arguments.rounds + 1):
        steps = f"{arguments.nodes} -> {arguments.up} -> {arguments.nodes} nodes"
        print(f"  round {number}: {steps} at {arguments.rate:,.0f} orders/s", file=sys.stderr, flush=True)
        good += run_once(phases, arguments.nodes, arguments.up, arguments.rate)
    rows = []
    for phase in PHASES:
        latencies = [f"{value / 1e6:.2f}" for value in phases.histograms[phase].percentiles((50, 99, 99.9))]
        rows.append([phase, f"{phases.seconds[phase]:.1f}", *latencies, f"{phases.gap_ms[phase]:.1f}"])
    print("\n" + markdown(["", "seconds", "p50 ms", "p99 ms", "p99.9 ms", "longest gap ms"], rows))
    return 0 if good == arguments.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
