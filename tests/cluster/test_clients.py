"""Several clients at once on real nodes, nodes that come and go beneath them, and one verdict over all of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.waiting import wait_for
from zmqlab.judge.evidence import acknowledgements_of
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.load_client import LoadClient

pytestmark = pytest.mark.process


@pytest.mark.long
def test_ten_clients_while_nodes_come_and_go(tmp_path: Path) -> None:
    with Cluster(3, run_dir=tmp_path / "run") as cluster:
        first = cluster.endpoints
        load = LoadClient(cluster, rate=2_000, duration=None, clients=10).start()
        time.sleep(0.5)
        cluster.add()
        cluster.kill(cluster.leader)
        time.sleep(1)
        for name in tuple(cluster.nodes)[:2]:
            cluster.remove(name)

        def answered_by_the_new_one() -> int:
            assert load.newest is not None
            by_endpoint = dict(zip(load.newest.endpoints, load.newest.orders_by_node, strict=True))
            return by_endpoint.get(cluster.endpoints[-1], 0)

        assert wait_for(lambda: answered_by_the_new_one() > 200), "it has its share"
        load.stop()
        result = load.wait()
        outcome = result.report.result
        assert result.verdict.ok, result.verdict
        assert result.total.acknowledged == result.total.sent == result.total.offered
        assert result.total.failed == 0
        assert len({each.client_id for each in acknowledgements_of(outcome)}) == 10
        assert set(outcome.orders_by_node) == {*first, *cluster.endpoints}
