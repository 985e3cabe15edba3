"""What shards are worth: saturation and CPU per order and node, for several sizes, without and with shards.

All sizes run in one process, one after the other, round after round: a machine that becomes slower is slower for all.
At saturation a fixed number of requests is kept outstanding (rate "max"), as many for all groups together as for one;
at a rate the loop is open. CPU is what the system charged to each node's process while the load ran, over the orders
acknowledged: a node pays for each order that it holds a copy of, and not for the others.

    python benchmarks/shards.py [--sizes 3/1/0,5/8/3] [--outstanding 16,128] [--rate 4000] [--seconds 6] [--rounds 3]

A size is NODES/SHARDS/REPLICATION-FACTOR; factor 0 means that every node holds every group.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import psutil
from machine import cpu_s, line, unwind_at_sigterm
from tables import markdown

from zmqlab import Cluster, LoadClient

SIZES = "3/1/0,5/8/3,5/1/0,3/8/0,7/1/0,7/8/3"


class Size(NamedTuple):
    """One cluster."""

    nodes: int
    shards: int
    replication_factor: int

    def __str__(self) -> str:
        said = f"{self.nodes} nodes, {self.shards} {'group' if self.shards == 1 else 'groups'}"
        return said + (f" of {self.replication_factor}" if self.replication_factor else "")


class Tried(NamedTuple):
    """A cluster, and the load that it got."""

    size: Size
    rate: float | str
    outstanding: int = 0
    """Requests at rate "max", of all groups together."""

    def __str__(self) -> str:
        return str(self.size) + (f"; {self.outstanding} requests" if self.outstanding else "")


class Measured(NamedTuple):
    """One run."""

    orders_per_s: float
    p50_ms: float
    p99_ms: float
    orders_a_request: float
    node_us: float
    """CPU time of all nodes for each acknowledged order, over their number."""
    nodes_us: float
    """Of all nodes together."""
    client_us: float
    ok: bool


def run_once(tried: Tried, seconds: float) -> Measured:
    """One cluster, one load."""
    nodes, shards, factor = tried.size
    closed = {"closed_requests": max(1, tried.outstanding // shards)} if tried.outstanding else {}
    with Cluster(nodes, shards=shards, replication_factor=factor) as cluster:
        processes = [psutil.Process(cluster.pid(name)) for name in cluster.nodes]
        with LoadClient(cluster, rate=tried.rate, duration=seconds, **closed) as load:
            before_s = cpu_s(processes)
            load.start()
            while load.running:
                time.sleep(0.05)  # and not load.wait(): the verdict asks the nodes much, which is not counted
            after_s = cpu_s(processes)
            result = load.wait()
    orders = max(result.total.acknowledged, 1)
    used_us = 1e6 * (after_s - before_s) / orders
    report = result.report
    return Measured(
        result.throughput,
        result.response_time.p50_ms,
        result.response_time.p99_ms,
        report.orders_per_request,
        used_us / nodes,
        used_us,
        report.cpu_us_per_order,
        result.verdict.ok,
    )


def table(found: dict[Tried, list[Measured]]) -> str:
    """Medians, with the lowest and the highest throughput."""
    head = ("cluster", "orders/s", "lowest to highest", "p50 ms", "p99 ms", "orders a request")
    head = (*head, "CPU µs/order, a node", "all nodes", "client", "verdict")
    rows = []
    for tried, runs in found.items():
        rates = [each.orders_per_s for each in runs]
        middle = [median(getattr(each, name) for each in runs) for name in Measured._fields[1:7]]
        p50, p99, *rest = middle
        rows.append(
            (
                str(tried),
                f"{median(rates):,.0f}",
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                f"{p50:.2f}",
                f"{p99:.1f}",
                *(f"{each:.1f}" for each in rest),
                "passed" if all(each.ok for each in runs) else "NOT PASSED",
            )
        )
    return markdown(head, rows)


def sizes_of(text: str) -> list[Size]:
    """The sizes of a list with commas."""
    return [Size(*map(int, each.split("/"))) for each in text.split(",")]


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print two tables, and fail if a verdict did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--outstanding", default="16,128", help="requests at saturation, of all groups together")
    parser.add_argument("--rate", type=float, default=4_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(words)
    unwind_at_sigterm()
    print(f"{line()}.\n")
    good = True
    sizes, queues = sizes_of(arguments.sizes), map(int, arguments.outstanding.split(","))
    saturated = [Tried(size, "max", outstanding) for outstanding in queues for size in sizes]
    open_loop = [Tried(size, arguments.rate) for size in sizes]
    for title, tries in (("Saturation", saturated), (f"At {arguments.rate:,.0f} orders/s", open_loop)):
        found: dict[Tried, list[Measured]] = defaultdict(list)
        for number in range(1, arguments.rounds + 1):
            for tried in tries:
                print(f"  round {number}: {tried}, {title.lower()}", file=sys.stderr, flush=True)
                found[tried].append(run_once(tried, arguments.seconds))
        print(f"{title}\n\n{table(found)}\n", flush=True)
        good = good and all(each.ok for runs in found.values() for each in runs)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
