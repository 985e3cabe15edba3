"""Many simulated runs with a person's piece in the place of the real one, and what the first failing one did.

Rules. Which seeds are tried is fixed for each lab, so that a grade is the same on every machine. Seeds of all aims take
turns: a wrong piece is mostly found by one of them within a second. Chance that the piece itself asks for
(:mod:`random`) is seeded before each run, or a failing seed would not fail again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import zip_longest
from types import ModuleType
from typing import Any, NamedTuple

from zmqlab.course.submission import Unusable
from zmqlab.errors import SettingsError
from zmqlab.replica import MakeReplication
from zmqlab.runs.lamport import diagram_page
from zmqlab.sim.clients import Client, MakeClient
from zmqlab.sim.plan import SimSettings
from zmqlab.sim.simulation import Outcome, run

QUICK_SHARE = 8
"""A quick grade tries every so many seeds, each aim once at least."""
Report = Callable[[int, int], None]
"""(done, of): how far the grader is."""


class Aim(NamedTuple):
    """Seeds that are tried with the same settings."""

    settings: SimSettings
    size: int
    """How many, from 1 on."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What stands in the place of the real code, for as long as ``place`` is open."""

    place: Callable[[], AbstractContextManager[None]] = nullcontext
    make_replication: MakeReplication | None = None
    make_client: MakeClient = Client
    label: str = ""
    """Of the person's code, if the nodes call it without asking the grader: an exception of its own lines is told as
    such."""


@dataclass(slots=True, kw_only=True)
class Finding:
    """What the grader found."""

    failure: str = ""
    """Empty: nothing is wrong."""
    where: str = ""
    """The seed and its settings, or what else repeats it."""
    story: list[str] = field(default_factory=list)
    diagram: str = ""
    """A page with a Lamport diagram; empty if there is none."""
    tried: str = ""
    """What was tried, in words."""


@contextmanager
def in_place(module: ModuleType, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """``module.name`` is ``replacement`` for as long as this lasts."""
    sound = getattr(module, name)
    setattr(module, name, replacement)
    try:
        yield
    finally:
        setattr(module, name, sound)


def try_seeds(piece: Piece, aims: Sequence[Aim], report: Report, quick: bool = False) -> Finding:
    """Run the seeds of ``aims`` until one fails; raises what the person's code raises as Unusable."""
    rows = [[(aim.settings, seed) for seed in _seeds(aim, quick)] for aim in aims]
    turns = [turn for row in zip_longest(*rows) for turn in row if turn is not None]
    with piece.place():
        for done, (settings, seed) in enumerate(turns):
            report(done, len(turns))
            outcome = _run(piece, seed, settings)
            if piece.label and f" in {piece.label}, line " in outcome.failure:
                raise Unusable(outcome.failure)
            if not outcome.ok:
                return _told(_run(piece, seed, settings, trace=True), settings)
    report(len(turns), len(turns))
    return Finding(tried=f"{len(turns)} runs of a simulated cluster, with crashes, cuts and lost messages")


def _seeds(aim: Aim, quick: bool) -> Sequence[int]:
    seeds = range(1, 1 + aim.size)
    return seeds[:: max(1, min(QUICK_SHARE, aim.size))] if quick else seeds


def _run(piece: Piece, seed: int, settings: SimSettings, trace: bool = False) -> Outcome:
    random.seed(seed)
    return run(seed, settings, trace, piece.make_replication, piece.make_client)


def _told(outcome: Outcome, settings: SimSettings) -> Finding:
    try:
        diagram = diagram_page(outcome.trace)
    except SettingsError:  # nothing happened that could be drawn
        diagram = ""
    aim = f", aimed at {settings.focus}" if settings.focus else ""
    nodes = f", {settings.nodes} nodes" if settings.nodes else ""
    return Finding(
        failure=outcome.failure, where=f"seed {outcome.seed}{aim}{nodes}", story=outcome.story, diagram=diagram
    )
