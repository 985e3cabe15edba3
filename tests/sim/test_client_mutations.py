"""Bugs in the client's core are found by the simulator: each planted one within its stated number of seeds."""

from __future__ import annotations

import pytest

from zmqlab.client.retries import Outbox
from zmqlab.client.roster import Roster
from zmqlab.client.session import Session, Window
from zmqlab.sim import SimSettings, run
from zmqlab.sim.mutations import Mutation, planted

MUTATIONS = {
    "answered_below runs past an open request": (
        Mutation(
            name="",
            function=Window.advance,
            changes=((" and low not in still_open", ""),),
            seeds_max=30,
        ),
        ("window: ", "answers: client", "is told 3", "exactly once", "progress"),
    ),
    "a request without an answer is never sent again": (
        Mutation(
            name="",
            function=Outbox.tend,
            changes=(("self._look_after(node, now_ns)", "pass"),),
            seeds_max=30,
        ),
        ("progress",),
    ),
    "an answer to an earlier session is taken": (
        Mutation(
            name="",
            function=Session._take_response,
            changes=((" and response.client_id == self.client_id", ""),),
            seeds_max=150,
            settings=SimSettings(focus="sessions"),
        ),
        ("takes an answer to session", "progress"),
    ),
    "a full window is met again and again with the old answered_below": (
        Mutation(
            name="",
            function=Session._take_window_full,
            changes=(("self._window.low", "1"),),
            seeds_max=60,
        ),
        ("progress",),
    ),
    "an expired session goes on": (
        Mutation(
            name="",
            function=Session._take_refusal,
            changes=(("self.expired = True", "pass"),),
            seeds_max=60,
        ),
        ("progress",),
    ),
    "a request that waits for a node called unsent": (
        Mutation(
            name="",
            function=Session.unsent_requests,
            changes=(
                ("iter(self._outbox.unsent.values())", "(each for each in self._open.values() if not each.node)"),
            ),
            seeds_max=30,
        ),
        ("unsent: ",),
    ),
    "nodes left on the word of one that no majority confirms": (
        Mutation(
            name="",
            function=Roster._settle,
            changes=(("bool(left) and 2 * len(found & self._voters.keys()) <= len(self._voters)", "False"),),
            seeds_max=60,
        ),
        ("leaving",),
    ),
    "a second node that tells the same members ends the wait for a majority": (
        Mutation(
            name="",
            function=Roster._take_status,
            changes=(
                (
                    "self._unsettled = self._unsettled or voters != self._voters",
                    "self._unsettled = voters != self._voters",
                ),
            ),
            seeds_max=10,
            settings=SimSettings(focus="members"),
        ),
        ("clients keep nodes",),
    ),
}
"""What is planted, and what a failing run may say."""


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_bug_of_the_client_is_found(name: str) -> None:
    mutation, sayings = MUTATIONS[name]
    with planted(mutation):
        for seed in range(1, mutation.seeds_max + 1):
            failure = run(seed, mutation.settings).failure
            if any(saying in failure for saying in sayings):
                return
            assert not failure, f"seed {seed} says {failure}"
    raise AssertionError(f"{name}: not found in {mutation.seeds_max} seeds")
