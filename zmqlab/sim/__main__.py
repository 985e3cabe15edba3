"""``python -m zmqlab.sim``: replay one seed with its story, or try many.

The same as ``zmqlab sim`` without what that needs (typer, rich).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zmqlab.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, SettingsError
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.settings import DEFAULT_REPLICATION, require_writable
from zmqlab.sim.many import Totals, run_many
from zmqlab.sim.plan import FOCUSES, SimSettings
from zmqlab.sim.simulation import run

PROGRESS_EVERY_S = 5.0
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 1 if any seed failed."""
    parser = argparse.ArgumentParser(prog="python -m zmqlab.sim", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="the seed to replay")
    parser.add_argument("--runs", type=int, default=0, help="try so many seeds instead, from --first-seed on")
    parser.add_argument("--first-seed", type=int, default=1, help="where --runs begins")
    parser.add_argument("--nodes", type=int, default=0, help="how many nodes; by default the seed decides")
    parser.add_argument(
        "--faults-ms", type=int, default=0, help="length of the first phase; by default the seed decides"
    )
    parser.add_argument("--focus", default="", help=f"aim at one kind of bug: {', '.join(FOCUSES)}")
    parser.add_argument("--shards", action="store_true", help="every run has several groups")
    parser.add_argument("--replication", default=DEFAULT_REPLICATION, help=f"{REPLICATIONS.names}, or module:Class")
    parser.add_argument("--jobs", type=int, default=0, help="processes for --runs; by default one for each core")
    parser.add_argument("--trace", type=Path, help="write all events of the replayed seed there, as JSON")
    chosen = parser.parse_args(arguments)
    try:
        settings = SimSettings(
            nodes=chosen.nodes,
            faults_ms=chosen.faults_ms,
            focus=chosen.focus,
            replication=chosen.replication,
            shards=chosen.shards,
        )
        if chosen.runs:
            return try_many(chosen.first_seed, chosen.runs, settings, chosen.jobs)
        return replay(chosen.seed, settings, chosen.trace)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def replay(
    seed: int,
    settings: SimSettings,
    trace: Path | None = None,
    show: Callable[[dict[str, Any]], None] | None = None,
) -> int:
    """Print the story and the figures of one run; write its events to ``trace``, and hand them to ``show``.

    Raises:
        SettingsError: ``trace`` can't be written; nothing was run.
    """
    if trace is not None:
        require_writable("--trace", trace)
    outcome = run(seed, settings, trace=trace is not None or show is not None)
    print("\n".join(outcome.story))
    print("  ".join(f"{name} {value}" for name, value in outcome.figures.items()))
    if trace is not None:
        trace.write_text(json.dumps(outcome.trace) + "\n")
    if show is not None:
        show(outcome.trace)
    return EXIT_OK if outcome.ok else EXIT_FAILED


def try_many(first_seed: int, runs: int, settings: SimSettings, jobs: int = 0) -> int:
    """Run many seeds; print progress, each failing seed at once, and the totals."""
    started = shown = time.monotonic()
    totals = Totals()
    try:
        for result in run_many(first_seed, runs, settings, jobs):
            totals.add(result)
            if result.failure:
                print(f"seed {result.seed} failed: {result.failure}", flush=True)
            if time.monotonic() - shown > PROGRESS_EVERY_S:
                shown = time.monotonic()
                print(summary(totals, shown - started), flush=True)
    finally:
        print(summary(totals, time.monotonic() - started))
        print(totals.line())
    return EXIT_FAILED if totals.failed_seeds else EXIT_OK


def summary(totals: Totals, elapsed_s: float) -> str:
    """How far it is, and how fast."""
    return f"{totals.runs:,} runs, {len(totals.failed_seeds)} failed, {totals.runs / max(elapsed_s, 1e-9):.1f} runs/s"


if __name__ == "__main__":
    sys.exit(main())
