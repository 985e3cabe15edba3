"""How long the service stops under each kind of fault, over several torture runs: a table for docs/reliability.md.

    zmqlab torture --nodes 3 --seed 1 --json > 3-1.json      and other seeds, and --nodes 5
    python benchmarks/unavailability.py 3-*.json

The gaps of all runs are grouped by kind of fault. Median and worst are over all gaps of a kind.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from zmqlab.scenarios.nemesis import FAULTS


def main() -> int:
    """Print a table in Markdown; fail if any of the runs did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    gaps_ms: dict[str, list[float]] = defaultdict(list)
    passed, calm_ms, orders = [], [], 0
    for path in parser.parse_args().runs:
        run = json.loads(path.read_text())
        passed.append(run["ok"])
        calm_ms.append(run["calm_gap_ms"])
        orders += run["load"]["counters"]["acknowledged"]
        for fault in run["faults"]:
            gaps_ms[f"{fault['kind']} {fault['variant']}"].append(fault["gap_ms"])
    print(f"{sum(passed)} of {len(passed)} runs passed, {orders:,} orders, {sum(map(len, gaps_ms.values()))} faults\n")
    print("| fault | times | gap, median ms | worst ms |\n| --- | ---: | ---: | ---: |")
    for name in (f"{kind} {variant}" for kind, variant in FAULTS.draws):
        if gaps := gaps_ms.get(name):
            print(f"| {name} | {len(gaps)} | {statistics.median(gaps):,.0f} | {max(gaps):,.0f} |")
    print(f"| none | | | {max(calm_ms):,.0f} |")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
