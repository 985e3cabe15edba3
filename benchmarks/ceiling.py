"""The highest open-loop rate at which p99 stays under a bound.

The rate grows by a factor of 1.5 until it is too much, then the search halves the distance that is left. A rate passes
if p99 is under the bound, every order is answered, and the rate is kept. A rate that fails is tried once more, since a
machine that others use disturbs a run now and then. Each try has a cluster of its own, whose books and log begin empty.

    python benchmarks/ceiling.py [--p99 10] [--seconds 10] [--nodes 3] [--target cluster] [--first 20000] [--steps 4]
"""

from __future__ import annotations

import argparse
import sys

from machine import line, unwind_at_sigterm
from tables import markdown, short
from targets import Load, running

GROWTH = 1.5


class Search:
    """All tries so far."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self.tries: list[Load] = []

    def passes(self, rate: float) -> bool:
        """Try ``rate``, and once more if it fails."""
        return self._try(rate) or self._try(rate)

    def _try(self, rate: float) -> bool:
        with running(self._arguments.target, self._arguments.nodes) as target:
            load = target.load(rate, self._arguments.seconds)
        self.tries.append(load)
        good = self.is_good(load)
        print(
            f"  {rate:,.0f}/s: p99 {load.p99_ms:.1f} ms, {'good' if good else 'too much'}", file=sys.stderr, flush=True
        )
        return good

    def is_good(self, load: Load) -> bool:
        """Whether the bound was kept, by orders that were answered: of none, p99 is 0."""
        return load.orders > 0 and load.keeps_up and load.p99_ms < self._arguments.p99

    def run(self) -> float:
        """The highest rate that passed; 0 if none did."""
        low, high = 0.0, self._arguments.first
        while self.passes(high):
            low, high = high, high * GROWTH
        for _ in range(self._arguments.steps if low else 0):
            middle = round((low + high) / 2, -3)
            low, high = (middle, high) if self.passes(middle) else (low, middle)
        return low


def row(load: Load, good: bool) -> list[str]:
    """One try."""
    said = "yes" if good else "no: the generator was the limit" if load.late else "no"
    figures = (load.rate or 0, load.throughput, load.p50_ms, load.p99_ms, load.nodes_us, load.load_us, load.batch)
    return [said, *map(short, figures)]


def main() -> int:
    """Search and print; fail if no rate passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--p99", type=float, default=10.0, help="the bound, in milliseconds")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each try")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--target", default="cluster", help="echo, pipeline, cluster or cluster+keys")
    parser.add_argument("--first", type=float, default=20_000, help="the rate that is tried first")
    parser.add_argument("--steps", type=int, default=4, help="how often the distance is halved")
    arguments = parser.parse_args()
    unwind_at_sigterm()
    print(f"{line()}.")
    search = Search(arguments)
    best = search.run()
    print(f"{arguments.target}, {arguments.nodes} nodes, {arguments.seconds:g} s a try. Highest rate with p99 under")
    print(f"{arguments.p99:g} ms: {best:,.0f} orders/s.\n" if best else f"{arguments.p99:g} ms: none of these.\n")
    head = ["good", "offered/s", "done/s", "p50 ms", "p99 ms", "CPU of nodes, µs/order", "of load", "orders/request"]
    print(
        markdown(
            head, [row(load, search.is_good(load)) for load in sorted(search.tries, key=lambda each: each.rate or 0)]
        )
    )
    return 0 if best else 1


if __name__ == "__main__":
    sys.exit(main())
