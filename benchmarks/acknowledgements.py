"""What an acknowledgement costs, and what it is worth: price and loss of each mode, measured in turns.

*Price.* One cluster for each mode stays up for the whole run, so that start-ups are no part of it. They take turns: a
few seconds of load each, round after round, so that whatever else the machine does meets all modes alike. Told are the
median over the rounds of p50 and p99 at a rate, and of the orders a second at rate "max". All orders go to the leader
(``node_choice="leader"``), since only the node that took an order saves the wait.

*Loss.* New clusters, under load. After a second the leader is cut off from the others, 0.3 s later it is killed, and
the links are whole again. The verdict names the acknowledged requests that are not in the log of those that are left,
and says whether the nodes agree.

    python benchmarks/acknowledgements.py [--rounds 5] [--seconds 3] [--rate 5000] [--losses 5] [--modes "leader;none"]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from machine import unwind_at_sigterm

from zmqlab import Cluster, LoadClient

MODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "quorum": ({}, {}),
    "quorum, fsync": ({"durability": "fsync"}, {}),
    "leader": ({"ack": "leader"}, {}),
    "primary-backup": ({"replication": "primary-backup"}, {}),
    "broadcast": ({"replication": "broadcast"}, {}),
    "none": ({}, {"ack": "none"}),
}
"""Mode -> what its cluster and its load clients are told."""
CUT_AFTER_S = 1.0
CUT_FOR_S = 0.3
LOSS_S = 3.0
"""Of load, in a run that loses."""


def load(cluster: Cluster, told: dict[str, Any], rate: float | None, seconds: float) -> dict[str, Any]:
    """The figures of one run, which is not judged: a verdict takes longer than the run."""
    settings = {"nodes": cluster.endpoints, "rate": rate, "duration_s": seconds, "node_choice": "leader", **told}
    command = [sys.executable, str(Path(__file__).with_name("load_once.py")), json.dumps(settings)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        figures: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    return figures


def price(rounds: int, seconds: float, rate: float) -> dict[str, list[float]]:
    """Mode -> p50 and p99 in milliseconds, orders a second at "max"; medians over the rounds."""
    figures: dict[str, list[list[float]]] = {mode: [] for mode in MODES}
    with ExitStack() as stack:
        clusters = {mode: stack.enter_context(Cluster(3, **options)) for mode, (options, _) in MODES.items()}
        for number in range(rounds):
            for mode, (_, told) in MODES.items():
                paced = load(clusters[mode], told, rate, seconds)
                fastest = 0.0 if told else load(clusters[mode], told, None, seconds)["throughput"]
                figures[mode].append([paced["p50_ms"], paced["p99_ms"], fastest])
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return {mode: [statistics.median(column) for column in zip(*rows, strict=True)] for mode, rows in figures.items()}


def lose(mode: str) -> tuple[int, bool]:
    """Lost requests of one run, and whether its nodes agreed."""
    options, told = MODES[mode]
    with Cluster(3, **options) as cluster, LoadClient(cluster, rate=2_000, duration=LOSS_S, **told) as client:
        client.start()
        time.sleep(CUT_AFTER_S)
        leader = cluster.leader
        cluster.partition([leader], [name for name in cluster.nodes if name != leader])
        time.sleep(CUT_FOR_S)
        cluster.kill(leader)
        cluster.heal()
        checks = client.wait().verdict.checks
        cluster.keep = False  # a failed verdict is what is looked for
    lost = max((len(check.requests) for check in checks), default=0)
    return lost, all(check.ok for check in checks if check.name == "nodes agree")


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=5_000.0)
    parser.add_argument("--losses", type=int, default=5, help="runs of each mode in which the leader is lost")
    parser.add_argument("--modes", default=";".join(MODES), help="which of these lose their leader, separated by ;")
    told = parser.parse_args()
    unwind_at_sigterm()
    if told.rounds:
        print(f"{'mode':<16} {'p50 ms':>8} {'p99 ms':>8} {'orders/s':>10}")
        for mode, (p50, p99, fastest) in price(told.rounds, told.seconds, told.rate).items():
            print(f"{mode:<16} {p50:8.2f} {p99:8.2f} {format(fastest, ',.0f') if fastest else '-':>10}", flush=True)
    if told.losses:
        print(f"{'mode':<16} {'runs with loss':>14} {'agreed':>8}  requests lost in each run")
        for mode in told.modes.split(";"):
            runs = [lose(mode) for _ in range(told.losses)]
            lost, agreed = [count for count, _ in runs], sum(agree for _, agree in runs)
            print(
                f"{mode:<16} {sum(map(bool, lost)):>8} of {len(runs):<2} {agreed:>4} of {len(runs)}  {lost}", flush=True
            )


if __name__ == "__main__":
    main()
