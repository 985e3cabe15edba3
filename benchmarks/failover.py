"""How long nobody is served after ``kill -9`` of the leader, and whether the verdict passes, run after run.

Each run starts a cluster of its own, loads it, kills the leader in the middle, and judges. The gap is measured at the
client: the longest time between two acknowledgements.

    python benchmarks/failover.py [--runs 20] [--rate 10000] [--nodes 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from zmqlab import Cluster, LoadClient

BEFORE_S, AFTER_S = 1.5, 1.5


def run_once(nodes: int, rate: float) -> tuple[float, bool]:
    """One kill; returns the longest gap in milliseconds and whether the verdict passed."""
    with Cluster(nodes=nodes) as cluster:
        load = LoadClient(cluster, rate=rate, duration=BEFORE_S + AFTER_S)
        load.start()
        time.sleep(BEFORE_S)
        cluster.kill(cluster.leader)
        result = load.wait()
        if not result.verdict.ok:
            print(result.verdict, file=sys.stderr)
        return result.longest_gap_ms, result.verdict.ok


def main() -> int:
    """Measure, print, and fail if any verdict did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--nodes", type=int, default=3)
    arguments = parser.parse_args()
    gaps_ms, passed = [], 0
    for number in range(1, arguments.runs + 1):
        gap_ms, ok = run_once(arguments.nodes, arguments.rate)
        gaps_ms.append(gap_ms)
        passed += ok
        print(f"run {number:3}  longest gap {gap_ms:6.0f} ms  verdict {'ok' if ok else 'FAILED'}", flush=True)
    print(
        f"{passed} of {arguments.runs} verdicts passed; longest gap: median {statistics.median(gaps_ms):.0f} ms,"
        f" worst {max(gaps_ms):.0f} ms"
    )
    return 0 if passed == arguments.runs else 1


if __name__ == "__main__":
    sys.exit(main())
