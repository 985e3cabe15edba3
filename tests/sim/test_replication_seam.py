"""The seam between a replica and its replication: another implementation runs in the simulator, and is found out."""

from __future__ import annotations

import inspect
import re

from tests.replica import leader_acknowledges
from tests.replica.leader_acknowledges import LeaderAcknowledges
from zmqlab.sim import SimSettings, run

REPLACED = re.compile(r"state-machine safety: node \d+ applies (\d+) of term \d+, others applied one of term \d+ there")


def test_answering_before_the_quorum_loses_an_acknowledged_order() -> None:
    """Within a few seeds a leader is lost with an entry that a client was told of, and another takes its place."""
    lost = [index for seed in range(1, 41) for index in [acknowledged_and_lost(seed)] if index]
    assert lost


def acknowledged_and_lost(seed: int) -> int:
    """The log index of an order that a client had an answer to, when its entry was replaced; 0 if there is none."""
    outcome = run(seed, SimSettings(focus="figure-8"), trace=True, make_replication=LeaderAcknowledges)
    replaced = REPLACED.match(outcome.failure)
    if replaced is None:
        return 0
    answered = {event["index"] for event in outcome.trace["events"] if event["event"] == "answered"}
    index = int(replaced[1])
    return index if index in answered else 0


def test_the_same_runs_are_sound_with_raft_by_quorum() -> None:
    assert [run(seed, SimSettings(focus="figure-8")).failure for seed in range(1, 11)] == [""] * 10


def test_it_works_as_long_as_nothing_breaks() -> None:
    """The seam carries another implementation through a whole run: it is not the difference in wiring that fails."""
    outcomes = [run(seed, SimSettings(nodes=1), make_replication=LeaderAcknowledges) for seed in range(1, 6)]
    assert [outcome.failure for outcome in outcomes] == [""] * 5
    assert all(outcome.figures["answered"] for outcome in outcomes)


def test_a_replication_is_small() -> None:
    assert len(inspect.getsource(leader_acknowledges).splitlines()) <= 60
