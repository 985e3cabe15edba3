"""What tracing costs: throughput at saturation and CPU of an order, without and with a share of the requests traced.

There is one cluster and one load client, without and with tracing in turn (``windows.py``). *On* means that nodes and
load client trace and publish, and that this process hears and matches all of it, as it does for a picture.

Also printed: what one trace record costs a node, measured alone. It does not depend on the machine's mood.

    python benchmarks/tracing.py [--pairs 20] [--window 2] [--rate 10000] [--share 0.01]
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from machine import unwind_at_sigterm
from windows import Windows, in_turn, report

from zmqlab import Cluster, LoadClient
from zmqlab.engine.tracing import Tracing
from zmqlab.raft import Configuration, RaftSettings
from zmqlab.raft.messages import AppendEntries, Entry, EntryKind
from zmqlab.replica import RaftByQuorum, Start, StoredState
from zmqlab.wire.client import encode_request
from zmqlab.wire.traces import TraceQuery

BOUND_PERCENT = 3.0
"""Of throughput, with one request in a hundred traced."""
FOREVER_S = 3_600.0
ENTRIES, CALLS = 8, 20_000


def alone(share: float) -> float:
    """Microseconds that a traced node needs for one AppendEntries of eight requests that it hears."""
    founder = Start(1, Configuration((1,)), StoredState(), RaftSettings(), random.Random(1))
    tracing = Tracing(0, "node0", RaftByQuorum(founder), time.monotonic_ns)
    tracing.want(TraceQuery(1, share, 60.0, 20_000))
    commands = bytes(40 * 5)
    entries = [
        tuple(
            Entry(first + number, 1, EntryKind.DATA, encode_request(2, first + number, 1, commands))
            for number in range(ENTRIES)
        )
        for first in range(1, 8 * ENTRIES, ENTRIES)
    ]
    messages = [AppendEntries(2, 0, 1, each[0].index - 1, 1, 0, each[0].index, each, 0) for each in entries]
    began_ns = time.process_time_ns()
    for number in range(CALLS):
        tracing.heard(messages[number % len(messages)], 2_000)
    return (time.process_time_ns() - began_ns) / CALLS / 1_000


def run(rate: float | str, pairs: int, window_s: float, share: float) -> Windows:
    """Windows without and with tracing."""
    with Cluster(3) as cluster, LoadClient(cluster, rate=rate, duration=None) as load:
        load.start()
        windows = in_turn(cluster, lambda on: cluster.trace(share, FOREVER_S if on else 0.0), pairs, window_s)
        news = cluster.traces.since()
        print(f"  {news.sequence:,} messages and steps told, {news.dropped:,} records dropped", flush=True)
    return windows


def main() -> int:
    """Measure; fail if the cost in throughput is over the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--window", type=float, default=2.0, help="seconds")
    parser.add_argument("--rate", type=float, default=10_000, help="orders a second of the run at a fixed rate")
    parser.add_argument("--share", type=float, default=0.01, help="of the requests")
    given = parser.parse_args()
    unwind_at_sigterm()
    none, some, all_of_them = alone(0.0), alone(given.share), alone(1.0)
    print(
        f"an AppendEntries of {ENTRIES} requests: {some:.2f} us with {given.share:.0%} traced,"
        f" {none:.2f} with none, {all_of_them:.2f} with all"
    )
    print(f"{given.pairs} pairs of windows of {given.window:g} s; {'off':>19} {'on':>10}")
    print(f"fixed rate, {given.rate:,.0f} orders/s:", flush=True)
    windows = run(given.rate, given.pairs, given.window, given.share)
    report("CPU of nodes, us/order", windows, "cpu_us_per_order")
    report("p50, ms", windows, "p50_ms")
    report("p99, ms", windows, "p99_ms")
    print("saturation:", flush=True)
    windows = run("max", given.pairs, given.window, given.share)
    cost = report("orders/s", windows, "orders_per_s")
    report("CPU of nodes, us/order", windows, "cpu_us_per_order")
    return 0 if cost < BOUND_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
