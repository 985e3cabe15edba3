"""The cost of scraping a node, in three figures: CPU time of a scrape, CPU time of an order, throughput at saturation.

There is one cluster, one load client, and a process that scrapes every node ten times a second, or pauses, in turn
(``windows.py``). Throughput at saturation varies by several per cent from window to window. CPU time for each order
varies less, and says the same where CPU is short. The CPU time of a scrape, taken without load, varies least. It gives
the share of a core that scraping takes, and a saturated node has just one core.

On a machine that other programs use too, the number of entries that share a turn changes, and with it the CPU time for
each order. It changes by far more than scraping costs. Then only the first figure means anything, and the benchmark
says so.

    python benchmarks/scraping.py [--pairs 20] [--window 2] [--rate 10000] [--scrapes 10]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import time
from functools import partial

import psutil
from machine import cpu_s, unwind_at_sigterm
from windows import SETTLE_S, Windows, in_turn, report

from zmqlab import Cluster, LoadClient

BOUND_PERCENT = 2.0
IDLE_S = 5.0
BUSY_LOAD = 0.5


def scrape(addresses: list[str], interval_s: float) -> int:
    """Run the scraping process: a line ``1`` on standard input starts it, ``0`` pauses it, the end of input ends it."""
    import selectors

    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    connections = [http.client.HTTPConnection(address, timeout=5) for address in addresses]
    on, scrapes = False, 0
    due = time.monotonic()
    while True:
        if selector.select(max(0.0, due - time.monotonic()) if on else None):
            line = sys.stdin.readline()
            if not line:
                print(scrapes)
                return 0
            on, due = line.strip() == "1", time.monotonic()
            continue
        for connection in connections:
            connection.request("GET", "/metrics")
            body = connection.getresponse().read()
            assert b"zmqlab_role" in body
            scrapes += 1
        due = max(due + interval_s, time.monotonic())


def measure_a_scrape(scrapes: float) -> float:
    """CPU milliseconds that a scrape costs a node: without load, at ten times the pace, so that the cost stands out."""
    with Cluster(3, metrics=True) as cluster:
        scraper, _ = start_scraper(cluster, 10 * scrapes)
        nodes = [psutil.Process(cluster.pid(name)) for name in cluster.nodes]
        time.sleep(1.0)
        spent_s = []
        for on in (False, True):
            switch(scraper, on)
            time.sleep(SETTLE_S)
            before_s = cpu_s(nodes)
            time.sleep(IDLE_S)
            spent_s.append(cpu_s(nodes) - before_s)
        switch(scraper, False)
        said, _ = scraper.communicate()
    return 1_000 * (spent_s[1] - spent_s[0]) / int(said)


def start_scraper(cluster: Cluster, scrapes: float) -> tuple[subprocess.Popen[str], list[str]]:
    """The scraping process, off, and the addresses of the nodes that it scrapes."""
    assert cluster.targets is not None
    groups = json.loads(cluster.targets.path.read_text())
    addresses = [each["targets"][0] for each in groups if each["labels"]["job"] == "zmqlab"]
    command = [sys.executable, __file__, "--scrape", ",".join(addresses), "--scrapes", str(scrapes)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True), addresses


def switch(scraper: subprocess.Popen[str], on: bool) -> None:
    """Make the process scrape, or pause."""
    assert scraper.stdin is not None
    scraper.stdin.write(f"{int(on)}\n")
    scraper.stdin.flush()


def run(rate: float | str, pairs: int, window_s: float, scrapes: float) -> Windows:
    """Windows without and with scraping."""
    with Cluster(3, metrics=True) as cluster, LoadClient(cluster, rate=rate, duration=None) as load:
        load.start()
        scraper, addresses = start_scraper(cluster, scrapes)
        windows = in_turn(cluster, partial(switch, scraper), pairs, window_s)
        said, _ = scraper.communicate()
        print(f"  {said.strip()} scrapes of {len(addresses)} nodes", flush=True)
        expected = pairs * (window_s + SETTLE_S) * scrapes * len(addresses)
        if int(said) < 0.9 * expected:
            print(f"  that is less than nine tenths of the {expected:.0f} that were due: the machine was too busy")
    return windows


def main() -> int:
    """Measure all three; fail if the cost by any is over 2 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--window", type=float, default=2.0, help="seconds")
    parser.add_argument("--rate", type=float, default=10_000, help="orders a second of the run at a fixed rate")
    parser.add_argument("--scrapes", type=float, default=10.0, help="scrapes a second of each node")
    parser.add_argument("--scrape", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unwind_at_sigterm()
    if arguments.scrape:
        return scrape(arguments.scrape.split(","), 1 / arguments.scrapes)
    if os.getloadavg()[0] > BUSY_LOAD:
        print(
            f"This machine is busy (load average {os.getloadavg()[0]:.1f}): only the cost of a scrape is to be trusted."
        )
    scrape_ms = measure_a_scrape(arguments.scrapes)
    share = scrape_ms * arguments.scrapes / 10
    print(f"a scrape: {scrape_ms:.3f} ms of CPU at the node; {arguments.scrapes:g} a second: {share:.2f} % of one core")
    print(f"{arguments.pairs} pairs of windows of {arguments.window:g} s; {'off':>19} {'on':>10}")
    print(f"fixed rate, {arguments.rate:,.0f} orders/s:", flush=True)
    windows = run(arguments.rate, arguments.pairs, arguments.window, arguments.scrapes)
    costs = [share, report("CPU of nodes, us/order", windows, "cpu_us_per_order")]
    report("p50, ms", windows, "p50_ms")
    report("p99, ms", windows, "p99_ms")
    print("saturation:", flush=True)
    windows = run("max", arguments.pairs, arguments.window, arguments.scrapes)
    costs.append(report("orders/s", windows, "orders_per_s"))
    costs.append(report("CPU of nodes, us/order", windows, "cpu_us_per_order"))
    return 0 if max(costs) < BOUND_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
