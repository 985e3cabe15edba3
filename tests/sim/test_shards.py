"""Runs with several groups: each keeps every promise for itself, and what mixes two groups is found."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest

from zmqlab.replica import MakeReplication, RaftByQuorum
from zmqlab.sim import SimSettings, run
from zmqlab.sim.disk import Disk
from zmqlab.sim.focuses import plan_of
from zmqlab.sim.mutations import Mutation, planted
from zmqlab.sim.shard_mutations import SHARD_MUTATIONS, SHARDS
from zmqlab.sim.simulation import Simulation

once = cache(run)

BY_CHECKER = {
    "a session shared by two groups": ("progress",),
    "a hand-over that the next leader is told of at the next tick": ("promptness",),
    "a leader balanced away while it holds uncommitted entries": ("balance",),
    "what answers of all groups promise sent before it is stored": ("stored before sent",),
    "of frames that came as one only the first handed on": ("progress",),
    "a replica closed before its group has let it go": ("closing", "progress"),
    "a member let go before the one in its place votes": ("voters",),
    "a member let go for one that has died since it was promoted": ("voters",),
    "nodes that follow a roster that is not agreed on": ("roster",),
    "a node that takes the groups of the place where it is for its own": ("places",),
    "a node that starts again with the groups that it has closed": ("places",),
}
"""Which checker must see it, where that is sure; the others break a group in many ways at once."""


@pytest.mark.parametrize("seed", range(1, 7))
def test_no_promise_breaks_with_shards(seed: int) -> None:
    outcome = once(seed, SHARDS)
    assert outcome.ok, f"zmqlab sim --seed {seed} --shards: {outcome.failure}"


@pytest.mark.long
def test_no_promise_breaks_over_more_seeds() -> None:
    for seed in range(100, 130):
        outcome = run(seed, SHARDS)
        assert outcome.ok, f"zmqlab sim --seed {seed} --shards: {outcome.failure}"


@pytest.mark.long
@pytest.mark.parametrize("mutation", SHARD_MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_bug_between_groups_is_found(mutation: Mutation) -> None:
    with planted(mutation):
        failures = (run(seed, mutation.settings).failure for seed in range(1, mutation.seeds_max + 1))
        found = next(filter(None, failures), "")
    assert found
    assert any(found.startswith(checker) for checker in BY_CHECKER.get(mutation.name, ("",))), found


def test_several_groups_are_led_and_answer() -> None:
    simulation = Simulation(2, SHARDS)
    simulation.play()
    assert len(simulation._worlds) == simulation.plan.shards > 1
    for world in simulation._worlds.values():
        assert world.elections.leaders
        assert world.histories is not None
        assert world.histories.answered


@pytest.mark.parametrize("make", [RaftByQuorum, lambda start: RaftByQuorum(start)])
def test_a_plain_run_has_shards_now_and_then_and_a_run_with_an_aim_never(make: MakeReplication) -> None:
    drawn = [plan_of(Random(f"{seed} plan"), SimSettings(), make).shards > 1 for seed in range(1, 401)]
    assert 4 <= sum(drawn) <= 40 if make is RaftByQuorum else not any(drawn)
    aimed = [plan_of(Random(f"{seed} plan"), SimSettings(focus="crashes")).shards for seed in range(1, 101)]
    assert set(aimed) == {1}


def test_a_transaction_of_several_groups_is_there_for_all_or_for_none() -> None:
    def store_in_both(value: bytes) -> None:
        with disk.together():
            for store in (disk, disk.of_group(3)):
                with store.write() as transaction:
                    transaction.put_meta(b"life", value)

    told: list[str] = []
    disk = Disk(flushes=True, effect=told.append)
    store_in_both(b"1")
    assert told == ["before a write", "in a write", "before a flush", "after a write"]

    def end(what: str) -> None:
        if what == "in a write":
            raise KeyboardInterrupt

    disk._effect = end
    with pytest.raises(KeyboardInterrupt):
        store_in_both(b"2")
    for store in (disk, disk.of_group(3)):
        with store.read() as view:
            assert view.meta(b"life") == b"1"
