"""The seam between a replica and its replication: another implementation runs in the simulator, and is found out."""

from __future__ import annotations

import inspect

from tests.replica import leader_acknowledges
from tests.replica.leader_acknowledges import LeaderAcknowledges
from zmqlab.sim import SimSettings, run


def test_answering_before_the_quorum_loses_an_acknowledged_order() -> None:
    """Within a few seeds a leader is lost with an entry that it has answered, and the next one leads without it."""
    failures = [run(seed, SimSettings(nodes=3), make_replication=LeaderAcknowledges).failure for seed in range(1, 41)]
    lost = [failure for failure in failures if failure.startswith("leader completeness")]
    assert lost, sorted(set(failures))
    assert "leads term" in lost[0]
    assert "without entry" in lost[0]


def test_it_works_as_long_as_nothing_breaks() -> None:
    """The seam carries another implementation through a whole run: it is not the difference in wiring that fails."""
    outcomes = [run(seed, SimSettings(nodes=1), make_replication=LeaderAcknowledges) for seed in range(1, 6)]
    assert [outcome.failure for outcome in outcomes] == [""] * 5
    assert all(outcome.figures["answered"] for outcome in outcomes)


def test_a_replication_is_small() -> None:
    assert len(inspect.getsource(leader_acknowledges).splitlines()) <= 60
