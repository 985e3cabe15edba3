"""Whole clusters under one seed each: no promise breaks, and after healing they make progress."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zmqlab.errors import SettingsError
from zmqlab.sim import SimSettings, run
from zmqlab.sim.focuses import plan_of
from zmqlab.sim.node_process import Process
from zmqlab.sim.operator import Operator
from zmqlab.sim.placed_operator import PlacedOperator
from zmqlab.sim.plan import FOCUSES
from zmqlab.sim.simulation import Simulation
from zmqlab.wire.fault_queries import LinkFault

once = cache(run)
"""Outcomes of seeds that more than one test looks at."""
SEEDS = Path(__file__).parent / "seeds.txt"
SEEDS_RUN, BLOCK = 300, 25


def failed_once() -> list[tuple[str, int]]:
    """The seeds of the file, each with its focus, or "shards"; each line is one, and why it is there."""
    lines = SEEDS.read_text().splitlines()
    words = [line.split(maxsplit=1)[0] for line in lines if line and not line.startswith("#")]
    return [(focus, int(seed)) for focus, _, seed in (word.rpartition("/") for word in words)]


def three_nodes(seed: int) -> Simulation:
    return Simulation(seed, SimSettings(nodes=3))


@pytest.mark.parametrize("first_seed", range(1, SEEDS_RUN + 1, BLOCK))
def test_no_promise_breaks(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + BLOCK):
        outcome = once(seed)
        assert outcome.ok, f"zmqlab sim --seed {seed}: {outcome.failure}"


@pytest.mark.parametrize("focus", FOCUSES)
def test_no_promise_breaks_where_bugs_are_likely(focus: str) -> None:
    for seed in range(1, 16):
        outcome = run(seed, SimSettings(focus=focus))
        assert outcome.ok, f"zmqlab sim --seed {seed} --focus {focus}: {outcome.failure}"


@pytest.mark.parametrize("nodes", range(1, 10))
def test_every_size(nodes: int) -> None:
    for seed in range(1, 4):
        assert run(seed, SimSettings(nodes=nodes)).failure == ""


@pytest.mark.parametrize(("focus", "seed"), failed_once())
def test_what_failed_once_does_not_fail_again(focus: str, seed: int) -> None:
    settings = SimSettings(shards=True) if focus == "shards" else SimSettings(focus=focus)
    assert run(seed, settings).failure == ""


def test_a_late_question_leaves_no_node_deaf_while_it_is_looked_whether_the_leader_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The operator asked a node to hear its peers badly, and the second copy comes when all has been at rest."""
    simulation = next(each for each in map(three_nodes, range(1, 200)) if each.plan.probes and each.plan.shards == 1)
    close_connections = simulation._close_connections

    def close_and_deafen(leader: Process) -> None:
        close_connections(leader)
        followers = [each for each in simulation._members() if each is not leader]
        simulation.operator.tell_links(leader.node_id, [LinkFault(sender=each.address, cut=True) for each in followers])

    monkeypatch.setattr(simulation, "_close_connections", close_and_deafen)
    simulation.play()


def test_the_runs_are_not_idle() -> None:
    """Everything that should happen does, over some seeds; a simulator in which nothing happens finds nothing."""
    totals: dict[str, int] = {}
    for seed in range(1, SEEDS_RUN + 1):
        for name, value in once(seed).figures.items():
            totals[name] = totals.get(name, 0) + value
    assert {name for name, value in totals.items() if value < 10} == set(), totals


def test_a_seed_is_the_same_run_in_another_process() -> None:
    """Also under another hash seed: nothing depends on the order of a set."""
    here = "\n".join(run(7).story)
    command = [sys.executable, "-c", "from zmqlab.sim import run; print('\\n'.join(run(7).story))"]
    there = subprocess.run(
        command, env={"PYTHONHASHSEED": "99"}, capture_output=True, text=True, timeout=60, check=True
    )
    assert there.stdout.strip("\n") == here


@pytest.mark.parametrize("focus", ["", "figure-8"])
def test_a_length_that_a_person_names_leaves_the_rest_of_the_plan(focus: str) -> None:
    for seed in range(20):
        drawn, named = (plan_of(random.Random(seed), SimSettings(focus=focus, faults_ms=ms)) for ms in (0, 777))
        assert named == replace(drawn, faults_ms=777)


def test_settings_are_checked() -> None:
    with pytest.raises(SettingsError):
        SimSettings(nodes=10)
    with pytest.raises(SettingsError):
        SimSettings(clients=0)
    with pytest.raises(SettingsError, match="choose one of figure-8"):
        SimSettings(focus="all")


@pytest.mark.parametrize("operator", [Operator, PlacedOperator])
def test_the_operator_moves_no_node_that_it_has_yet_to_move(operator: type[Operator]) -> None:
    """One that was restarted where it was, meanwhile, was moved twice, and two nodes were to be at one address."""
    ready: dict[str, Any] = {"is_closing": False, "settings": SimpleNamespace(join=("tcp://10.0.0.9:5000",))}
    nodes = [SimpleNamespace(node_id=number, **ready) for number in (1, 2, 3)]
    world = SimpleNamespace(running=lambda: nodes, plan=SimpleNamespace(nodes_ask=True))
    rng = random.Random(1)
    self: Any = SimpleNamespace(_world=world, members=[1, 2, 3], _moving={1, 3}, _rng=rng)
    assert {operator._pick_movable(self).node_id for _ in range(20)} == {2}  # type: ignore[union-attr]
    self._moving = set()
    assert {operator._pick_movable(self).node_id for _ in range(20)} == {1, 2, 3}  # type: ignore[union-attr]
