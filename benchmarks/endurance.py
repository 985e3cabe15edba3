"""A long load: memory of each process, needless elections, latency over the whole time, and the verdict.

Memory is flat if the slope of its second half is near zero: in the first half books and caches fill. A leader that
takes over here is a needless election, since no node is harmed. With ``--busy 2`` other processes want both cores all
the time; a follower that waits for a core too long would take its leader for dead.

    python benchmarks/endurance.py --rate 50000 --seconds 600             memory
    python benchmarks/endurance.py --rate 5000 --seconds 600              elections in peace
    python benchmarks/endurance.py --rate 5000 --seconds 300 --busy 2     elections while others want the cores
    python benchmarks/endurance.py --rate 100000 --seconds 30             p99
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import defaultdict

import numpy as np
import psutil
from machine import burning, line
from tables import markdown

from zmqlab import Cluster, LoadClient, LoadResult

MIB = 1 << 20
SAMPLES = 120
"""Of each process, over the whole time: enough for a slope."""
LOAD = "load process"
Samples = dict[str, list[tuple[float, float]]]
"""By process: (seconds, MiB)."""


def watch(cluster: Cluster, load: LoadClient, seconds: float) -> Samples:
    """Look at the memory of all processes until the load ends."""
    samples: Samples = defaultdict(list)
    began, every_s = time.monotonic(), seconds / SAMPLES
    pids = {name: cluster.pid(name) for name in cluster.nodes}
    while load.running:
        time.sleep(every_s)
        if load.newest is not None:
            pids[LOAD] = load.newest.pid
        for name, pid in pids.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                if rss := psutil.Process(pid).memory_info().rss:  # 0: it has just ended
                    samples[name].append((time.monotonic() - began, rss / MIB))
        tell(load, len(samples[cluster.nodes[0]]))
    return samples


def tell(load: LoadClient, count: int) -> None:
    """A line now and then, for who watches."""
    if count % 12 == 0 and load.metrics is not None:
        print(f"  {load.metrics.elapsed_s:5.0f} s  {load.metrics.latencies}", file=sys.stderr, flush=True)


def memory_row(name: str, samples: list[tuple[float, float]]) -> list[str]:
    """First, middle and last, and the slope of the second half in MiB a minute."""
    half = samples[len(samples) // 2 :]
    seconds, sizes = np.array(half).T
    slope = float(np.polyfit(seconds, sizes, 1)[0]) * 60 if len(half) > 2 else 0.0
    return [name, *(f"{samples[at][1]:.0f}" for at in (0, len(samples) // 2, -1)), f"{slope:+.2f}"]


def report(arguments: argparse.Namespace, result: LoadResult, needless: int, samples: Samples) -> None:
    """Print everything."""
    latency = result.response_time
    rows: list[list[object]] = [
        ["orders acknowledged", f"{result.total.acknowledged:,}"],
        ["orders unserved", f"{result.report.unserved:,}"],
        ["orders/s", f"{result.throughput:,.0f}"],
        ["p50", f"{latency.p50_ms:.2f} ms"],
        ["p99", f"{latency.p99_ms:.2f} ms"],
        ["p99.9", f"{latency.p99_9_ms:.2f} ms"],
        ["longest gap", f"{result.longest_gap_ms:.0f} ms"],
        ["needless elections", needless],
        ["verdict", result.verdict.outcome],
    ]
    busy = f", {arguments.busy} processes that want a core each" if arguments.busy else ""
    print(f"{arguments.nodes} nodes, {arguments.rate:,.0f} orders/s for {arguments.seconds:g} s{busy}.\n")
    print(markdown(["", "figure"], rows) + "\n")
    head = ["memory, MiB", "first", "middle", "last", "MiB/min in the second half"]
    print(markdown(head, [memory_row(name, each) for name, each in samples.items()]))
    for warning in result.report.warnings:
        print(f"\nnote: {warning}")


def main() -> int:
    """Run, print; fail unless the verdict passed and no node was elected in vain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50_000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0, help="processes that keep a core busy all the time")
    arguments = parser.parse_args()
    print(f"{line()}.")
    with Cluster(arguments.nodes) as cluster, burning(arguments.busy):
        cluster.feed.wait_until(lambda: bool(cluster.feed.leaders()), 5.0)  # of the first one it may not have heard yet
        before = len(cluster.feed.leaders())
        with LoadClient(cluster, rate=arguments.rate, duration=arguments.seconds) as load:
            load.start()
            samples = watch(cluster, load, arguments.seconds)
            result = load.wait()
            needless = len(cluster.feed.leaders()) - before
        report(arguments, result, needless, samples)
    return 0 if result.verdict.ok and not needless else 1


if __name__ == "__main__":
    sys.exit(main())
