"""What an acknowledgement costs, and what it is worth: price and loss of each mode, measured in turns.

*Price.* One cluster for each mode stays up for the whole run, so that start-ups are no part of it. They take turns: a
few seconds of load each, round after round, so that whatever else the machine does meets all modes alike. Told are the
median over the rounds of p50 and p99 at a rate, and of the orders a second at rate "max". All orders go to the leader
(``node_choice="leader"``), since only the node that took an order saves the wait.

*Loss.* New clusters, under load. After a second the leader is cut off from the others, 0.3 s later it is killed, and
the links are whole again. The verdict names the acknowledged requests that are not in the log of those that are left,
and says whether the nodes agree.

    python benchmarks/acknowledgements.py [--rounds 5] [--seconds 3] [--rate 5000] [--losses 5]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from typing import Any

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


def load(cluster: Cluster, told: dict[str, Any], rate: float | str, seconds: float) -> Any:
    """One run of load; nothing of it is replayed, which would take longer than the run."""
    with LoadClient(
        cluster, rate=rate, duration=seconds, node_choice="leader", max_replayed_commands=0, **told
    ) as client:
        return client.start().wait()


def price(rounds: int, seconds: float, rate: float) -> dict[str, list[float]]:
    """Mode -> p50 and p99 in milliseconds, orders a second at "max"; medians over the rounds."""
    figures: dict[str, list[list[float]]] = {mode: [] for mode in MODES}
    with ExitStack() as stack:
        clusters = {mode: stack.enter_context(Cluster(3, **options)) for mode, (options, _) in MODES.items()}
        for number in range(rounds):
            for mode, (_, told) in MODES.items():
                paced = load(clusters[mode], told, rate, seconds).response_time
                fastest = 0.0 if told else load(clusters[mode], told, "max", seconds).throughput
                figures[mode].append([paced.p50_ms, paced.p99_ms, fastest])
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
    lost = max((len(check.requests) for check in checks), default=0)
    return lost, all(check.ok for check in checks if check.name == "nodes agree")


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=5_000.0)
    parser.add_argument("--losses", type=int, default=5, help="runs of each mode in which the leader is lost")
    told = parser.parse_args()
    if told.rounds:
        print(f"{'mode':<16} {'p50 ms':>8} {'p99 ms':>8} {'orders/s':>10}")
        for mode, (p50, p99, fastest) in price(told.rounds, told.seconds, told.rate).items():
            print(
                f"{mode:<16} {p50:8.2f} {p99:8.2f} {fastest or '-':>10,.0f}"
                if fastest
                else f"{mode:<16} {p50:8.2f} {p99:8.2f} {'-':>10}"
            )
    print(f"{'mode':<16} {'runs with loss':>14} {'requests lost':>24} {'nodes agree':>12}")
    for mode in MODES if told.losses else ():
        runs = [lose(mode) for _ in range(told.losses)]
        lost = [count for count, _ in runs]
        agreed = sum(agree for _, agree in runs)
        print(
            f"{mode:<16} {sum(map(bool, lost)):>9} of {len(runs):<2} {lost!s:>24} {agreed:>6} of {len(runs)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
