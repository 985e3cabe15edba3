"""A long load: memory of each process, disk of all, needless elections, latency over the whole time, and the verdict.

Memory and disk are flat if the slope of their second half is near zero: in the first half books and caches fill, and
journals grow up to what they retain. A process's memory is what it has allocated. The pages of files that it has mapped
stand in a row of their own: LMDB maps a journal of hundreds of MiB, and the system keeps as many of its pages resident
as it has room for, and drops them when memory is wanted.

A leader that takes over is a needless election where no node is harmed. With ``--busy 2`` other processes want both
cores all the time; a follower that waits for a core too long would take its leader for dead. With ``--kill-every 30`` a
leader is killed by SIGKILL every 30 s, that of each group in turn, and started again 5 s later.

    python benchmarks/endurance.py --rate 50000 --seconds 600             memory
    python benchmarks/endurance.py --rate 5000 --seconds 600              elections in peace
    python benchmarks/endurance.py --rate 5000 --seconds 300 --busy 2     elections while others want the cores
    python benchmarks/endurance.py --rate 100000 --seconds 30             p99
    python benchmarks/endurance.py --nodes 5 --shards 8 --replication-factor 3 --rate 8000 --seconds 1200 \\
        --kill-every 30 --retain-mib 64                                   shards, and kills
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
from machine import burning, line, unwind_at_sigterm
from tables import markdown

from zmqlab import Cluster, LoadClient, LoadResult

MIB = 1 << 20
SAMPLES = 120
"""Of each process, over the whole time: enough for a slope."""
LOAD = "load process"
MAPPED = "mapped pages of files, all nodes"
DISK = "journals of all nodes"
DOWN_S = 5.0
"""How long a killed node stays down."""
SETTLE_S = 5.0
"""With shards leaders move to their places at first, which are no needless elections."""
Samples = dict[str, list[tuple[float, float]]]
"""By process: (seconds, MiB)."""


def elections(cluster: Cluster) -> int:
    """How many leaders the nodes have had, in all groups."""
    return sum(len(cluster.feed.leaders(group)) for group in range(cluster.fleet.plan.shards))


class Killer:
    """Kills a leader every so often, and starts it again."""

    def __init__(self, cluster: Cluster, every_s: float) -> None:
        """``every_s``: 0 for never."""
        self.kills = 0
        self._cluster = cluster
        self._every_s = every_s
        self._due = time.monotonic() + every_s
        self._down = ""

    def work(self) -> None:
        """Do what is due."""
        cluster, now = self._cluster, time.monotonic()
        if self._down and now >= self._due - self._every_s + DOWN_S:
            cluster.restart(self._down)
            self._down = ""
        leaders = list(cluster.leaders.values()) if self._every_s and now >= self._due else []
        if leaders:
            self._down = leaders[self.kills % len(leaders)]
            cluster.kill(self._down)
            self.kills += 1
            self._due = now + self._every_s

    def end(self) -> None:
        """All nodes are to run when the load is judged."""
        if self._down:
            self._cluster.restart(self._down)


def watch(cluster: Cluster, load: LoadClient, seconds: float, killer: Killer) -> Samples:
    """Look at the memory of all processes, and at the disk, until the load ends."""
    samples: Samples = defaultdict(list)
    began, every_s, count = time.monotonic(), seconds / SAMPLES, 0
    while load.running:
        time.sleep(max(0.0, began + (count + 1) * every_s - time.monotonic()))
        count += 1
        killer.work()
        pids = {name: cluster.pid(name) for name in cluster.running}
        if load.newest is not None:
            pids[LOAD] = load.newest.pid
        mapped = 0
        for name, pid in pids.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                memory = psutil.Process(pid).memory_info()
                of_files = getattr(memory, "shared", 0)  # macOS does not tell
                if memory.rss:  # 0: it has just ended
                    samples[name].append((time.monotonic() - began, (memory.rss - of_files) / MIB))
                    mapped += of_files * (name != LOAD)
        if mapped and len(cluster.running) == len(cluster.nodes):
            samples[MAPPED].append((time.monotonic() - began, mapped / MIB))
        samples[DISK].append((time.monotonic() - began, on_disk(cluster.run_dir) / MIB))
        tell(load, count)
    killer.end()
    return samples


def on_disk(folder: Path) -> int:
    """Bytes that the journals take; LMDB's map is a sparse file, of which blocks count."""
    return sum(path.stat().st_blocks * 512 for path in (folder / "data").rglob("*") if path.is_file())


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


def report(arguments: argparse.Namespace, result: LoadResult, elections: list[object], samples: Samples) -> None:
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
        elections,
        ["verdict", result.verdict.outcome],
    ]
    retained = f", {arguments.retain_mib} MiB of log retained" * (arguments.retain_mib is not None)
    busy = f", {arguments.busy} processes that want a core each" if arguments.busy else ""
    shards = f", {arguments.shards} shards of {arguments.replication_factor or 'all'}" * (arguments.shards > 1)
    load = f"{arguments.rate:,.0f} orders/s for {arguments.seconds:g} s"
    print(f"{arguments.nodes} nodes{shards}, {load}{retained}{busy}.\n")
    print(markdown(["", "figure"], rows) + "\n")
    head = ["MiB of memory or disk", "first", "middle", "last", "MiB/min in the second half"]
    print(markdown(head, [memory_row(name, each) for name, each in samples.items()]))
    for warning in result.report.warnings:
        print(f"\nnote: {warning}")


def main() -> int:
    """Run, print; fail unless the verdict passed and no node was elected in vain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50_000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--replication-factor", type=int, default=0, help="with shards; 0: all nodes")
    parser.add_argument("--kill-every", type=float, default=0, help="seconds between two kills of a leader; 0: none")
    parser.add_argument("--retain-mib", type=int, help="MiB of applied log that a node retains; its default is 512")
    parser.add_argument("--busy", type=int, default=0, help="processes that keep a core busy all the time")
    arguments = parser.parse_args()
    unwind_at_sigterm()
    print(f"{line()}.")
    placement = {"shards": arguments.shards, "replication_factor": arguments.replication_factor}
    retained = {} if arguments.retain_mib is None else {"journal_retain_bytes": arguments.retain_mib * MIB}
    with Cluster(arguments.nodes, **placement, settings=retained) as cluster, burning(arguments.busy):
        for group in range(arguments.shards):
            cluster.feed.wait_until(
                lambda group=group: bool(cluster.feed.leaders(group)), 60.0
            )  # it may not have heard
        time.sleep(SETTLE_S * (arguments.shards > 1))
        before = elections(cluster)
        with LoadClient(cluster, rate=arguments.rate, duration=arguments.seconds) as load:
            load.start()
            killer = Killer(cluster, arguments.kill_every)
            samples = watch(cluster, load, arguments.seconds, killer)
            result = load.wait()
            elected = elections(cluster) - before
        told = ["leaders killed", killer.kills] if arguments.kill_every else ["needless elections", elected]
        report(arguments, result, told, samples)
    return 0 if result.verdict.ok and (arguments.kill_every or not elected) else 1


if __name__ == "__main__":
    sys.exit(main())
