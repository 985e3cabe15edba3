"""The cost of replication and of matching, compared with a bare echo in one run.

The targets run under the same load client: ``echo`` (a bare pyzmq ROUTER that answers at once), ``pipeline`` (three
nodes with Raft and journal, whose books do nothing) and ``cluster`` (three nodes). ``cluster+keys`` is a cluster that
encrypts all traffic, and ``cluster:5`` one of five nodes. Each target is loaded open-loop at fixed rates, which gives
its latency and the CPU time of an order, and closed-loop with as many orders as it takes, which gives its saturation.
The targets take turns for several rounds. The tables show medians, with their ratio to the first target in brackets: on
a shared machine only the ratios of one run mean anything. Turns are those of all nodes, those for ticks included.

With ``--against TREE`` each target is run from another checkout as well, with the generator of that checkout, in turn
with this one. A table shows the ratios of this checkout to that one, the median over the rounds.

    python benchmarks/compare.py [--rate 5000,30000] [--seconds 5] [--rounds 3] [--against ../old] [--json FILE]
                                 [--targets echo,pipeline,cluster,cluster:5,cluster+keys]

``python benchmarks/chart.py FILE OUT.svg`` draws a chart of the JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import machine
from tables import markdown, short
from targets import TREE, Load, running

TARGETS = "echo,pipeline,cluster"


class Candidate(NamedTuple):
    """One target of one checkout."""

    target: str
    tree: Path

    @property
    def kind(self) -> str:
        """As ``running`` takes it."""
        return self.target.partition(":")[0]

    @property
    def nodes(self) -> int:
        """How many; an echo is one process in any case."""
        return int(self.target.partition(":")[2] or 3)

    @property
    def name(self) -> str:
        """In the tables."""
        return self.target if self.tree == TREE else f"{self.target}, other tree"


class Round(NamedTuple):
    """One candidate in one round."""

    paced: list[Load]
    """In the order of the rates."""
    flooded: Load
    exchange: str
    """Which exchange the nodes run; empty if they do not say."""


Rounds = dict[Candidate, list[Round]]
Figure = Callable[[Load], float]
PACED: dict[str, Figure] = {
    "p50 ms": lambda load: load.p50_ms,
    "p99 ms": lambda load: load.p99_ms,
    "CPU, µs/order": lambda load: load.nodes_us + load.load_us,
    "of nodes": lambda load: load.nodes_us,
    "of load": lambda load: load.load_us,
    "orders/request": lambda load: load.batch,
    "turns/request": lambda load: load.turns,
}
FLOODED: dict[str, Figure] = {"orders/s": lambda load: load.throughput} | {
    name: PACED[name] for name in ("CPU, µs/order", "of nodes", "of load", "turns/request")
}


def measure(candidate: Candidate, rates: Sequence[float], seconds: float) -> Round:
    """One round of one candidate."""
    with running(candidate.kind, candidate.nodes, tree=candidate.tree) as target:
        paced = [target.load(rate, seconds) for rate in rates]
        flooded = target.load(None, seconds)
        told = target.statuses()
    if candidate.kind == "pipeline" and any(status.open_orders for status in told):
        raise RuntimeError(
            "orders rest in the books of the pipeline: bare_node.py has to replace what nodes match with"
        )
    return Round(paced, flooded, "/".join(sorted({str(getattr(status, "exchange", "")) for status in told})))


def run(candidates: Sequence[Candidate], rates: Sequence[float], seconds: float, rounds: int) -> Rounds:
    """All rounds. Every other one goes backwards, so that a machine that slows down hits all alike."""
    found: Rounds = {candidate: [] for candidate in candidates}
    for number in range(rounds):
        for candidate in candidates if number % 2 == 0 else reversed(candidates):
            found[candidate].append(one := measure(candidate, rates, seconds))
            paced = ", ".join(f"p50 {load.p50_ms:.2f} p99 {load.p99_ms:.2f} ms" for load in one.paced)
            late = " (the generator was the limit)" if any(load.late for load in one.paced) else ""
            said = f"{candidate.name:22} {paced}, {one.flooded.throughput:,.0f} orders/s{late}"
            print(f"  round {number + 1} {said}", file=sys.stderr, flush=True)
    return found


def table(found: Rounds, figures: dict[str, Figure], pick: Callable[[Round], Load]) -> str:
    """Medians with the ratio to the first candidate."""
    medians = {
        candidate: [statistics.median(map(figure, map(pick, rounds))) for figure in figures.values()]
        for candidate, rounds in found.items()
    }
    base = next(iter(medians.values()))
    rows = [
        [candidate.name, *(cell(own, first) for own, first in zip(row, base, strict=True))]
        for candidate, row in medians.items()
    ]
    return markdown(["", *figures], rows)


def cell(own: float, base: float) -> str:
    """A figure and its ratio to ``base``, if there is one."""
    return "-" if not own else f"{short(own)} ({own / base:.2f})" if base else short(own)


def against(found: Rounds, rates: Sequence[float]) -> str:
    """Ratios of this checkout to the other one, the median over the rounds."""
    rows = []
    for candidate, rounds in found.items():
        if candidate.tree != TREE:
            continue
        others = next(each for key, each in found.items() if key.target == candidate.target and key.tree != TREE)
        pairs = list(zip(rounds, others, strict=True))
        for at, rate in enumerate(rates):
            ratios = [ratio([(own.paced[at], old.paced[at]) for own, old in pairs], each) for each in PACED.values()]
            rows.append([f"{candidate.target}, {rate:,.0f}/s", *ratios, ""])
        full = [ratio([(own.flooded, old.flooded) for own, old in pairs], each) for each in PACED.values()]
        throughput = ratio([(own.flooded, old.flooded) for own, old in pairs], FLOODED["orders/s"])
        rows.append([f"{candidate.target}, saturation", *full, throughput])
    return markdown(["this tree / the other", *PACED, "orders/s"], rows)


def ratio(pairs: Sequence[tuple[Load, Load]], figure: Figure) -> str:
    """Over the pairs that have the figure."""
    ratios = [figure(own) / figure(old) for own, old in pairs if figure(old)]
    return f"{statistics.median(ratios):.2f}" if ratios else "-"


def show(found: Rounds, rates: Sequence[float], other: bool) -> None:
    """Print all tables."""
    for at, rate in enumerate(rates):
        print(f"\n{rate:,.0f} orders/s:\n")
        print(table(found, PACED, lambda one, at=at: one.paced[at]))  # type: ignore[misc]
    print("\nSaturation:\n")
    print(table(found, FLOODED, lambda one: one.flooded))
    if other:
        print(f"\n{against(found, rates)}")


def as_json(found: Rounds, rates: Sequence[float], rounds: int, seconds: float) -> str:
    """Everything, for a chart and for later."""
    measured = [
        {
            "name": candidate.name,
            "target": candidate.target,
            "tree": "this" if candidate.tree == TREE else "other",
            "rounds": [
                {"paced": [load._asdict() for load in one.paced], "flooded": one.flooded._asdict()} for one in each
            ],
        }
        for candidate, each in found.items()
    ]
    values = {"machine": machine.facts(), "rates": rates, "rounds": rounds, "seconds": seconds, "candidates": measured}
    return json.dumps(values, indent=1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", default="30000", help="orders a second, or several rates with commas")
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--targets", default=TARGETS, help="the first is what the others are compared with")
    parser.add_argument("--against", type=Path, help="another checkout, to alternate with")
    parser.add_argument("--json", type=Path, help="write all figures of all rounds to this file")
    arguments = parser.parse_args()
    machine.unwind_at_sigterm()
    rates = [float(rate) for rate in arguments.rate.split(",")]
    trees = [TREE, *([arguments.against.resolve()] if arguments.against else [])]
    candidates = [Candidate(target, tree) for target in arguments.targets.split(",") for tree in trees]
    about = machine.line()
    found = run(candidates, rates, arguments.seconds, arguments.rounds)
    print(f"{about}.")
    print(
        f"Medians of {arguments.rounds} rounds of {arguments.seconds:g} s; ratio to {candidates[0].name} in brackets."
    )
    for candidate, rounds in found.items():
        if candidate.kind.startswith("cluster") and rounds[0].exchange:
            print(f"{candidate.name} matches with the exchange `{rounds[0].exchange}`.")
    show(found, rates, len(trees) > 1)
    if arguments.json:
        arguments.json.write_text(as_json(found, rates, arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
