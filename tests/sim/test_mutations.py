"""The simulator finds what is there: every planted bug within its stated number of seeds, and by the checker meant."""

from __future__ import annotations

import pytest

from zmqlab.sim import run
from zmqlab.sim.mutations import MUTATIONS, Mutation, planted

BY_CHECKER = {
    "2 commit index moved past what the message verified": "state-machine safety",
    "3 a stale AppendEntries truncates good entries": "progress",
    "5 the vote not stored": "one vote a term",
    "7 a repeated vote counted twice": "election safety",
    "9 a read served without asking whether one still leads": "linearizable reads",
    "10 a message of an older term left without an answer": "progress",
    "12 the sessions missing from a snapshot": "state-machine safety",
    "a session that is used does not become the most recently used one": "answers",
    "a vote for a log that is not up to date": "leader completeness",
}
"""What the failing run says; the other bugs run into one or another, or into an assertion of the code itself."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_bug_is_found(mutation: Mutation) -> None:
    with planted(mutation):
        seeds = range(mutation.first_seed, mutation.first_seed + mutation.seeds_max)
        failures = (run(seed).failure for seed in seeds)
        found = next((failure for failure in failures if failure), "")
    assert found, f"not found within {seeds}"
    assert BY_CHECKER.get(mutation.name, "") in found


def test_a_planted_bug_is_gone_afterwards() -> None:
    mutation = next(each for each in MUTATIONS if each.name.startswith("an answered request"))
    with planted(mutation):
        assert not run(1).ok
    assert run(1).ok
