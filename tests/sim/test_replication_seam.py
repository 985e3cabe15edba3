"""The seam between a replica and its replication: the weak ones run in the simulator, and are found out."""

from __future__ import annotations

import inspect

import pytest

from zmqlab.errors import SettingsError
from zmqlab.replica import RaftByQuorum, broadcast, leader_answers, primary_backup
from zmqlab.sim import Outcome, SimSettings, run

LOSSES = {"leader-ack": 494, "primary-backup": 1, "broadcast": 14}
"""A seed in which a client was told of an order that is lost, for each weak replication."""


def outcome_of(replication: str, seed: int, focus: str = "") -> Outcome:
    return run(seed, SimSettings(replication=replication, focus=focus))


@pytest.mark.parametrize("replication", LOSSES)
def test_a_weak_replication_loses_an_order_that_a_client_was_told_of(replication: str) -> None:
    outcome = outcome_of(replication, LOSSES[replication])
    assert outcome.failure.startswith("lost order: client 10")
    assert outcome.story[-1].endswith(f"FAILED: {outcome.failure}")


@pytest.mark.parametrize(("replication", "seed"), [("leader-ack", 63), ("leader-ack", 119), ("primary-backup", 63)])
def test_a_weak_replication_that_applies_ahead_of_the_commit_breaks_no_assertion(replication: str, seed: int) -> None:
    """In 63 a leader makes a snapshot of a change of the members that is not committed; in 119 it ends ahead."""
    assert outcome_of(replication, seed).failure == ""


@pytest.mark.parametrize("replication", LOSSES)
def test_most_seeds_find_a_weak_replication_out(replication: str) -> None:
    """By any damage: an order that is lost, a stale read, nodes that apply different things."""
    found = [outcome_of(replication, seed, "figure-8").failure for seed in range(1, 13)]
    assert sum(map(bool, found)) >= 6


def test_the_same_runs_are_sound_with_raft_by_quorum() -> None:
    assert [outcome_of("raft", seed, "figure-8").failure for seed in range(1, 11)] == [""] * 10
    assert [outcome_of("raft", seed).failure for seed in LOSSES.values()] == [""] * len(LOSSES)


def test_raft_by_quorum_has_no_need_of_the_rules_that_it_alone_is_held_to() -> None:
    """Told apart from the default, it is held to what clients were told, and keeps that."""

    class Other(RaftByQuorum):
        __slots__ = ()

    assert [run(seed, make_replication=Other).failure for seed in range(1, 11)] == [""] * 10


@pytest.mark.parametrize("replication", LOSSES)
def test_they_work_as_long_as_nothing_breaks(replication: str) -> None:
    """The seam carries another implementation through a whole run: it is not the difference in wiring that fails."""
    outcomes = [run(seed, SimSettings(nodes=1, replication=replication)) for seed in range(1, 6)]
    assert [outcome.failure for outcome in outcomes] == [""] * 5
    assert all(outcome.figures["answered"] for outcome in outcomes)


@pytest.mark.parametrize("module", [leader_answers, primary_backup, broadcast])
def test_a_replication_is_small(module: object) -> None:
    assert len(inspect.getsource(module).splitlines()) <= 210  # type: ignore[arg-type]


def test_a_replication_that_there_is_not_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"choose raft, leader-ack, primary-backup, broadcast, or module:Class"):
        SimSettings(replication="paxos")
