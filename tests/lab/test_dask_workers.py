"""Nodes and load generators on the workers of a real Dask cluster on this machine: faults, deaths, and what is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for
from zmqlab.keys import Keyring
from zmqlab.lab import worker_nodes
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.dask_host import DaskHost
from zmqlab.lab.events import LabEvent
from zmqlab.lab.hosts import module_environment
from zmqlab.lab.load_client import LoadClient

distributed = pytest.importorskip("distributed", reason="the extra zmqlab[dask] is not installed")
from tests.lab.dask_processes import DaskProcesses  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.process,
    pytest.mark.long,
]


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with DaskProcesses(tmp_path_factory.mktemp("dask"), 3) as processes:
        yield processes


def children_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Nodes, generators and sentinels of paused nodes."""
    return psutil.Process(process.pid).children(recursive=True)


def test_real_workers(dask: DaskProcesses) -> None:
    """One cluster for all that needs real workers but their death: on each machine a node, keys, faults, evidence."""
    with distributed.Client(dask.address) as client:
        client.wait_for_workers(3, timeout=180)
        with Cluster(3, host=DaskHost(client), keys=True) as cluster:
            assert len({endpoint.rpartition(":")[0] for endpoint in cluster.endpoints}) == len(
                set(cluster.machines.values())
            )
            secret = Keyring.read(cluster.run_dir / "keys").credentials().secret
            with cluster.client() as orders:
                orders.buy("ACME", 5, 100)
                leader = cluster.leader
                cluster.kill(leader)
                orders.buy("ACME", 5, 101)
                cluster.restart(leader)
                assert orders.book("ACME").bids == [(101, 5, 1), (100, 5, 1)]
            assert "start id=" in cluster.log_path("node0").read_text()
            (elected, *_) = [event for event in cluster.events if event.kind == "elected"]
            assert "±" in elected.text
            there = worker_nodes.folder_of("", cluster.name)
            assert there.exists()
        assert not there.exists()
        assert not any(map(children_of, dask.workers.values()))
    said = "".join(map(dask.log, dask.workers))
    assert secret not in said
    assert "call_keeper" not in said, "a call every two seconds is not worth a line each"


OWNER = """
import sys, time
from distributed import Client
from zmqlab import Cluster, DaskHost, LoadClient
client = Client(sys.argv[1])
client.wait_for_workers(3, timeout=180)
host = DaskHost(client, lease_s=8, folder=sys.argv[2])  # what a crash leaves is the test's
cluster = Cluster(3, host=host, run_dir=sys.argv[2] + "/run").start()
load = LoadClient(cluster, rate=200, duration=None, generators=2).start()
cluster.pause("node1")
print("ready", flush=True)
time.sleep(600)
"""


def test_nothing_is_left_running_when_the_owner_is_killed(dask: DaskProcesses, tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, dask.address, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=module_environment(),
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        assert sum(len(children_of(worker)) for worker in dask.workers.values()) >= 5, "three nodes, two generators"
        owner.kill()
    assert wait_for(lambda: not any(map(children_of, dask.workers.values())), 80)


def test_a_worker_is_killed_under_load(dask: DaskProcesses) -> None:
    with distributed.Client(dask.address) as client:
        client.wait_for_workers(3, timeout=180)
        host = DaskHost(client, machine=lambda worker: worker.name)
        with Cluster(3, host=host) as cluster, LoadClient(cluster, rate=500, duration=None) as load:
            load.start()
            victim = next(name for name, machine in cluster.machines.items() if machine == "w1")
            orphans = children_of(dask.workers["w1"])
            dask.workers["w1"].kill()
            dask.workers["w1"].wait()
            assert wait_for(lambda: any(event.kind == LabEvent.DIED for event in cluster.events))
            assert victim not in cluster.running
            (died,) = [event for event in cluster.events if event.kind == LabEvent.DIED]
            assert (died.node, "the Dask worker w1" in died.text) == (victim, True)
            assert wait_for(lambda: not any(each.is_running() for each in orphans)), "the pipe was the worker's"
            assert len(cluster.running) == 2, "nothing is repaired behind a person's back"
            dask.start_worker(1)
            client.wait_for_workers(3, timeout=180)
            cluster.restart(victim)
            load.stop()
            result = load.wait()
            assert result.verdict.ok, result
            assert set(cluster.running) == {"node0", "node1", "node2"}
