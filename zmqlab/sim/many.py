"""Many seeds, on all cores: what a night of simulation is.

Each worker is a fresh process (``spawn``, so that it is the same on every system and inherits no threads) that is
handed a few seeds at a time. Workers ignore Ctrl-C: it reaches the parent, which ends them. They end by themselves when
the parent dies, since the pipe that they wait on is closed then.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.pool import Pool

from zmqlab.machine_facts import cores
from zmqlab.sim.plan import SimSettings
from zmqlab.sim.simulation import run

SEEDS_AT_ONCE = 5
"""Seeds that a worker gets at a time: about a tenth of a second, so that failures show soon and pipes stay quiet."""


@dataclass(slots=True)
class Result:
    """What became of one seed; small enough to cross a pipe."""

    seed: int
    failure: str
    figures: dict[str, int]


@dataclass(slots=True)
class Totals:
    """All results so far."""

    runs: int = 0
    failed_seeds: list[int] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """One more."""
        self.runs += 1
        for name, value in result.figures.items():
            self.figures[name] = self.figures.get(name, 0) + value
        if result.failure:
            self.failed_seeds.append(result.seed)

    def line(self) -> str:
        """All figures on one line."""
        return "  ".join(f"{name} {value:,}" for name, value in self.figures.items())


def run_many(first_seed: int, runs: int, settings: SimSettings, jobs: int = 0) -> Iterator[Result]:
    """Simulate ``runs`` seeds from ``first_seed`` on; results come as they are ready.

    ``jobs`` processes work at it, by default one for each core that this process may use; a single one is this one.
    """
    jobs = min(jobs or cores(), -(-runs // SEEDS_AT_ONCE))
    if jobs <= 1:
        for seed in range(first_seed, first_seed + runs):
            yield _result(seed, settings)
        return
    end = first_seed + runs
    tasks = [(seed, min(seed + SEEDS_AT_ONCE, end), settings) for seed in range(first_seed, end, SEEDS_AT_ONCE)]
    with _start_workers(jobs) as pool:  # leaving it ends the workers
        for results in pool.imap_unordered(_work, tasks):
            yield from results


def _start_workers(jobs: int) -> Pool:
    """Workers inherit that Ctrl-C is ignored, so that it finds none of them while they still load their modules."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
    try:
        return multiprocessing.get_context("spawn").Pool(jobs, _ignore_interrupts)
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(task: tuple[int, int, SimSettings]) -> list[Result]:
    first_seed, end, settings = task
    return [_result(seed, settings) for seed in range(first_seed, end)]


def _result(seed: int, settings: SimSettings) -> Result:
    outcome = run(seed, settings)
    return Result(seed, outcome.failure, outcome.figures)
