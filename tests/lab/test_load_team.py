"""Several load generators as one load: started, steered, watched, judged, and what is said when one dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.waiting import wait_for
from zmqlab.errors import ClusterError, SettingsError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.load_client import LoadClient
from zmqlab.lab.load_parts import LocalPart
from zmqlab.lab.load_team import LoadTeam
from zmqlab.load.run_record import read_ledger

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(1) as running:
        yield running


def generators_of(load: LoadClient) -> list[LocalPart]:
    assert isinstance(load._run, LoadTeam)
    return [part for part in load._run._parts if isinstance(part, LocalPart)]


def test_two_generators_are_one_load(cluster: Cluster) -> None:
    with LoadClient(cluster, rate=400, duration=60, generators=2, book_reads=10) as load:
        load.start()
        assert len({part.run.pid for part in generators_of(load)}) == 2
        assert wait_for(lambda: load.metrics is not None and load.metrics.acknowledged > 100)
        assert load.newest is not None
        assert load.newest.rate == 400
        assert wait_for(lambda: load.so_far is not None and load.so_far.looked_up > 100), "from both ledgers"
        assert load.so_far is not None
        assert (load.so_far.lost, load.so_far.twice) == (0, 0)
        load.set_rate(800)
        assert wait_for(lambda: load.newest is not None and load.newest.rate == 800)
        load.stop()
        result = load.wait()
        assert result.verdict.ok, result
        assert "on each of 2 clocks by itself" in repr(result.verdict)
        assert len(result.report.result.client_ids) == 2
        assert set(read_ledger(result.report.result.ledger)["clock"].tolist()) == {0, 1}
        assert result.report.response_histogram.count == result.total.acknowledged
        folders = [part.folder for part in generators_of(load)]
    assert not any(folder.exists() for folder in folders)


def test_both_generators_are_traced(cluster: Cluster) -> None:
    """They had feeds of their own, and nothing asked them: diagrams began at the node that took an order."""
    with LoadClient(cluster, rate=200, duration=60, generators=2) as load:
        load.start()
        traces = cluster.trace(share=1, seconds=30)

        def senders() -> set[int | str]:
            return {each.sender for each in traces.since().messages if each.kind == "request"}

        assert wait_for(lambda: {"load-0", "load-1"} <= senders()), senders()
        assert wait_for(lambda: any(order.by_client for order in traces.orders()))


@pytest.mark.long
def test_one_that_dies_is_named_and_the_others_go_on(cluster: Cluster) -> None:
    with LoadClient(cluster, rate=400, duration=60, generators=2) as load:
        load.start()
        dead, alive = generators_of(load)
        assert wait_for(lambda: load.metrics is not None and load.metrics.acknowledged > 50)
        os.kill(dead.run.pid, signal.SIGKILL)
        assert wait_for(lambda: dead.ended)
        assert not alive.ended
        assert wait_for(lambda: load.newest is not None and load.newest.rate == 200)
        load.stop()
        result = load.wait()
    assert result.verdict.outcome == "not judged", result
    assert "on this machine: the load process was killed by SIGKILL" in repr(result.verdict)
    assert not [check for check in result.verdict.checks if check.ok is False], result


def test_who_waits_for_a_load_that_is_closed_is_told_so(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The team has ended a moment before its parts: who waited saw a broken assertion."""
    close = LocalPart.close

    def close_late(part: LocalPart) -> None:
        time.sleep(0.3)
        close(part)

    monkeypatch.setattr(LocalPart, "close", close_late)
    load = LoadClient(cluster, rate=100, duration=60, generators=1).start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(load.wait)
        load.close()
        with pytest.raises(ClusterError, match="was closed"):
            waiting.result()


def test_what_can_not_be_shared_is_refused(cluster: Cluster) -> None:
    with pytest.raises(SettingsError, match="generators"):
        LoadClient(cluster, generators=65)
    load = LoadClient(cluster, generators=2, history="h")
    with pytest.raises(SettingsError, match="one load generator"):
        load.start()
