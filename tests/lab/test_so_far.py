"""What a run has lost so far, counted on real processes while it goes on, and the verdict afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.test_weak_modes import PATIENT, RATE, cut_off
from tests.waiting import wait_for
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.load_client import LoadClient

pytestmark = [pytest.mark.process, pytest.mark.long]


def looked_up(load: LoadClient, orders: int) -> bool:
    found = load.so_far
    return found is not None and found.looked_up >= orders


def test_a_quorum_loses_nothing_when_its_leader_dies(tmp_path: Path) -> None:
    with Cluster(3, run_dir=tmp_path) as cluster, LoadClient(cluster, rate=500, duration=None) as load:
        load.start()
        assert load.so_far is None
        assert wait_for(lambda: looked_up(load, 500))
        cluster.kill(cluster.leader)
        assert wait_for(lambda: looked_up(load, 1_500))
        found = load.so_far
        assert found is not None
        assert (found.lost, found.misplaced, found.twice, found.missed) == (0, 0, 0, 0), found
        load.stop()
        assert load.wait().verdict.ok


def test_a_loss_shows_before_the_verdict(tmp_path: Path) -> None:
    """A leader that answers alone is cut off, then killed."""
    told = {"ack": "leader", "settings": PATIENT}
    with Cluster(3, run_dir=tmp_path, **told) as cluster, LoadClient(cluster, rate=RATE, duration=None) as load:
        load.start()
        assert wait_for(lambda: looked_up(load, 1_000))
        cluster.kill(cut_off(cluster, load))
        cluster.heal()
        assert wait_for(lambda: load.so_far is not None and load.so_far.lost > 0), load.so_far
        assert load.so_far is not None
        assert load.so_far.twice is None, "it does not promise one log"
        load.stop()
        verdict = load.wait().verdict
        assert verdict.lost, verdict
