"""``sim``: a whole cluster in one process under one seed; one run with its story, or many on all cores."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from zmqlab.errors import EXIT_FAILED, EXIT_OK, SettingsError

if TYPE_CHECKING:
    from zmqlab.sim.plan import SimSettings

FOCUSES = "figure-8, members, ahead, snapshots, crashes, reads or outage."


def sim(
    seed: int = typer.Option(1, "--seed", help="The run to replay, with its story."),
    runs: int = typer.Option(0, "--runs", min=0, help="Try so many seeds instead, on all cores."),
    first_seed: int = typer.Option(1, "--first-seed", help="Where --runs begins."),
    nodes: int = typer.Option(0, "--nodes", help="How many nodes; by default each seed decides."),
    faults_ms: int = typer.Option(0, "--faults-ms", min=0, help="How long faults strike; by default the seed decides."),
    focus: str = typer.Option("", "--focus", help="Aim at one kind of bug: " + FOCUSES),
    jobs: int = typer.Option(0, "--jobs", min=0, help="Processes for --runs; by default one for each core."),
    trace: str = typer.Option("", "--trace", help="Write all events of the run there, as JSON.", metavar="FILE"),
) -> int:
    """Simulate a cluster and its clients in virtual time, with faults, and check every promise.

    The nodes' code is the real one; a seed is always the same run. Without --runs one seed is replayed and told. The
    exit status is 1 if a promise was broken, and then the seed that breaks it is printed.
    """
    from zmqlab.sim.__main__ import replay
    from zmqlab.sim.plan import SimSettings

    settings = SimSettings(nodes=nodes, faults_ms=faults_ms, focus=focus)
    if not runs:
        return replay(seed, settings, Path(trace) if trace else None)
    if trace:
        raise SettingsError("--trace is of one run: leave --runs away, and name its --seed")
    return _try_many(first_seed, runs, settings, jobs)


def _try_many(first_seed: int, runs: int, settings: SimSettings, jobs: int) -> int:
    """A bar in a terminal, lines elsewhere; each failing seed at once in both."""
    from zmqlab.sim.__main__ import summary, try_many
    from zmqlab.sim.many import Totals, cores, run_many

    if not sys.stderr.isatty():
        return try_many(first_seed, runs, settings, jobs)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    totals, started = Totals(), time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.0f} runs/s"), TimeRemainingColumn())
    try:
        on_terminal = sys.stdout.isatty()  # only then may the bar take what is printed, to keep out of its way
        with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=on_terminal) as bar:
            task = bar.add_task(f"{jobs or cores()} processes", total=runs, rate=0.0)
            for result in run_many(first_seed, runs, settings, jobs):
                totals.add(result)
                bar.update(task, advance=1, rate=totals.runs / (time.monotonic() - started))
                if result.failure:
                    print(f"seed {result.seed} failed: {result.failure}", flush=True)
    finally:
        print(summary(totals, time.monotonic() - started))
        print(totals.line())
    return EXIT_FAILED if totals.failed_seeds else EXIT_OK
