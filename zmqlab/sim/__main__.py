"""``python -m zmqlab.sim``: replay one seed with its story, or try many."""

from __future__ import annotations

import argparse
import sys
import time

from zmqlab.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, SettingsError
from zmqlab.sim import Outcome, SimSettings, run

PROGRESS_EVERY_S = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 1 if any seed failed."""
    parser = argparse.ArgumentParser(prog="python -m zmqlab.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the seed to replay, or the first of --runs")
    parser.add_argument("--runs", type=int, default=0, help="try so many seeds, from --seed on")
    parser.add_argument("--nodes", type=int, default=0, help="3 or 5; by default the seed decides")
    parser.add_argument("--faults-ms", type=int, default=SimSettings().faults_ms, help="length of the first phase")
    chosen = parser.parse_args(arguments)
    try:
        settings = SimSettings(nodes=chosen.nodes, faults_ms=chosen.faults_ms)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if chosen.runs:
        return try_many(chosen.seed, chosen.runs, settings)
    return tell(run(chosen.seed, settings))


def tell(outcome: Outcome) -> int:
    """Print the story and the figures of one run."""
    print("\n".join(outcome.story))
    print("  ".join(f"{name} {value}" for name, value in outcome.figures.items()))
    return EXIT_OK if outcome.ok else EXIT_FAILED


def try_many(first_seed: int, runs: int, settings: SimSettings) -> int:
    """Run many seeds; print progress, each failing seed at once, and the totals."""
    started = shown = time.monotonic()
    totals: dict[str, int] = {}
    failed = 0
    for count, seed in enumerate(range(first_seed, first_seed + runs), 1):
        outcome = run(seed, settings)
        for name, value in outcome.figures.items():
            totals[name] = totals.get(name, 0) + value
        if not outcome.ok:
            failed += 1
            print(f"seed {seed} failed: {outcome.failure}", flush=True)
        if time.monotonic() - shown > PROGRESS_EVERY_S or count == runs:
            shown = time.monotonic()
            print(f"{count} runs, {failed} failed, {count / (shown - started):.1f} runs/s", flush=True)
    print("  ".join(f"{name} {value:,}" for name, value in totals.items()))
    return EXIT_FAILED if failed else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
