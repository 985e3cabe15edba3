"""How the cost of an order grows with the rate, the batch, the number of nodes, the symbols and the depth of the books.

    python benchmarks/growth.py rate      open-loop, from 1,000 to 100,000 orders/s
    python benchmarks/growth.py batch     closed-loop, 16 requests outstanding, from 1 to 1,024 orders in each
    python benchmarks/growth.py nodes     open-loop at a fixed rate, and saturation, with 1 to 7 nodes
    python benchmarks/growth.py symbols   open-loop at a fixed rate, orders spread over 1 to 1,024 books
    python benchmarks/growth.py depth     open-loop at a fixed rate, with up to 900,000 orders that rest already
                                          [--rate 30000] [--seconds 5] [--rounds 3]

Every measurement has a cluster of its own. The values take turns for several rounds, and the table shows medians. A
session may hold no more than 1,024 books, and an exchange no more than a million orders.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
from machine import line, unwind_at_sigterm
from tables import markdown, short
from targets import Load, Running, running

from zmqlab.client.bare_client import BareClient
from zmqlab.load.order_flow import COMMAND, KIND_NEW, AnyArray, Rows, symbol_names
from zmqlab.market.types import OrderType, Side, Status, TimeInForce, symbol_code
from zmqlab.wire import client as wire

SYMBOLS = 16
"""As the load client has it by default."""
FILL_BATCH = 1_000
FILLERS, ACCOUNTS = 8, 64
"""Sessions and accounts that share the orders: none may have more than a quarter of what an exchange holds."""
LOW, HIGH = 1, 2_000
"""Ticks. Bids this low and asks this far above the walk of the prices never trade, and lie at many levels."""
FAR_ABOVE = 100_000
"""Above all prices of the load client: a walk stays under one and a half times its start, which is below 50,000."""


class Axis(NamedTuple):
    """What is varied."""

    values: Sequence[int]
    unit: str
    measure: Callable[[int, argparse.Namespace], list[Load]]
    """The loads of one value: open-loop, closed-loop, or one after the other."""


def by_rate(value: int, arguments: argparse.Namespace) -> list[Load]:
    """One rate."""
    with running("cluster") as target:
        return [target.load(value, arguments.seconds)]


def by_batch(value: int, arguments: argparse.Namespace) -> list[Load]:
    """One size of a request; few requests, so that small ones are not spared by a queue."""
    with running("cluster") as target:
        return [target.load(None, arguments.seconds, closed_batch=value)]


def by_nodes(value: int, arguments: argparse.Namespace) -> list[Load]:
    """One size of the cluster."""
    with running("cluster", value) as target:
        return [target.load(arguments.rate, arguments.seconds), target.load(None, arguments.seconds)]


def by_symbols(value: int, arguments: argparse.Namespace) -> list[Load]:
    """One number of books."""
    with running("cluster") as target:
        return [target.load(arguments.rate, arguments.seconds, symbols=value)]


def by_depth(value: int, arguments: argparse.Namespace) -> list[Load]:
    """So many orders rest before the load begins."""
    with running("cluster") as target:
        fill(target, value)
        return [target.load(arguments.rate, arguments.seconds)]


AXES = {
    "rate": Axis((1_000, 5_000, 10_000, 30_000, 50_000, 100_000), "orders/s", by_rate),
    "batch": Axis((1, 5, 30, 128, 512, 1_024), "orders/request", by_batch),
    "nodes": Axis((1, 3, 5, 7), "nodes", by_nodes),
    "symbols": Axis((1, 16, 256, 1_024), "symbols", by_symbols),
    "depth": Axis((0, 10_000, 100_000, 900_000), "orders that rest", by_depth),
}


def fill(target: Running, orders: int) -> None:
    """Rest ``orders`` orders, spread over the symbols of the load client and over many prices."""
    rng = np.random.default_rng(1)
    codes = np.array([symbol_code(name) for name in symbol_names(SYMBOLS)], np.uint64)
    with ExitStack() as stack:
        clients = [stack.enter_context(BareClient({"node": target.endpoints[0]})) for _ in range(FILLERS)]
        for client in clients:
            client.open("node")
        for at, first in enumerate(range(0, orders, FILL_BATCH)):
            rows = far_orders(rng, codes, min(FILL_BATCH, orders - first))
            client, number = clients[at % FILLERS], at // FILLERS + 1
            answer = client.ask("node", wire.encode_request(client.session, number, number, rows.tobytes()), 30.0)
            assert all(report.status is Status.NEW for report in answer.reports), answer.reports[0]


def far_orders(rng: np.random.Generator, codes: AnyArray, count: int) -> Rows:
    """Orders that rest, and meet no order of the load client."""
    rows = np.zeros(count, COMMAND)
    buys = rng.integers(0, 2, count) == 0
    rows["kind"], rows["order_type"], rows["time_in_force"] = KIND_NEW, OrderType.LIMIT, TimeInForce.GTC
    rows["side"] = np.where(buys, Side.BUY, Side.SELL)
    rows["price"] = rng.integers(LOW, HIGH, count) + np.where(buys, 0, FAR_ABOVE)
    rows["quantity"], rows["symbol"] = 10, rng.choice(codes, count)
    rows["account"] = rng.integers(1_000, 1_000 + ACCOUNTS, count)
    return rows


def median(loads: Sequence[Load], name: str) -> float:
    """Of one figure over the rounds."""
    return statistics.median(float(getattr(load, name)) for load in loads)


def row(value: int, rounds: Sequence[Sequence[Load]]) -> list[str]:
    """Medians of the first load of a value, and the throughput of the last."""
    first, last = [loads[0] for loads in rounds], [loads[-1] for loads in rounds]
    latencies = [
        short(median(first, name)) if all(load.keeps_up for load in first) else "not kept"
        for name in ("p50_ms", "p99_ms")
    ]
    costs = [median(first, name) for name in ("nodes_us", "load_us", "batch", "turns")]
    per_request = median(first, "nodes_us") * median(first, "batch")
    return [f"{value:,}", *latencies, *map(short, costs), short(per_request), short(median(last, "throughput"))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axis", choices=AXES)
    parser.add_argument("--rate", type=float, default=30_000, help="orders a second, where the rate is not what varies")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--values", default="", help="other values than the usual ones, with commas")
    arguments = parser.parse_args()
    unwind_at_sigterm()
    axis, about = AXES[arguments.axis], line()
    values = [int(value) for value in arguments.values.split(",")] if arguments.values else list(axis.values)
    found: dict[int, list[list[Load]]] = {value: [] for value in values}
    for _ in range(arguments.rounds):
        for value in values:
            found[value].append(axis.measure(value, arguments))
            print(f"  {value:,} {axis.unit}: {row(value, found[value][-1:])}", file=sys.stderr, flush=True)
    print(f"{about}.\nMedians of {arguments.rounds} rounds of {arguments.seconds:g} s; 3 nodes where not said.\n")
    head = [axis.unit, "p50 ms", "p99 ms", "CPU of nodes, µs/order", "CPU of load, µs/order", "orders/request"]
    head += ["turns/request", "CPU of nodes, µs/request"]
    head.append("saturation, orders/s" if arguments.axis == "nodes" else "orders/s")
    print(markdown(head, [row(value, rounds) for value, rounds in found.items()]))


if __name__ == "__main__":
    main()
