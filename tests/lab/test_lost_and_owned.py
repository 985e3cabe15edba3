"""An acknowledged order stays: when a member loses its disk, and when the process that owns the cluster forks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for
from zmqlab.client.order_client import Client
from zmqlab.errors import NoLeader
from zmqlab.lab.cluster import Cluster

pytestmark = pytest.mark.process


def ask(cluster: Cluster, *names: str) -> Client:
    endpoints = dict(zip(cluster.nodes, cluster.endpoints, strict=True))
    return Client([endpoints[name] for name in names])


def lose_disk(cluster: Cluster, name: str, how: str) -> None:
    folder = cluster.run_dir / "data" / name
    if how == "no folder":
        shutil.rmtree(folder)
    elif how == "an empty folder":
        for file in folder.iterdir():
            file.unlink()


@pytest.mark.parametrize("how", ["no folder", pytest.param("an empty folder", marks=pytest.mark.long)])
def test_a_member_that_lost_its_disk_does_not_vote_an_order_away(how: str) -> None:
    """Two of three have the order, one of them loses its disk, and comes back together with the third."""
    with Cluster(3) as cluster:
        cluster.kill("node2")
        with ask(cluster, "node0", "node1") as client:
            assert client.buy("ACME", 1, 200).log_index
        cluster.kill("node0")
        cluster.kill("node1")
        lose_disk(cluster, "node1", how)
        cluster.restart("node1")
        cluster.restart("node2")
        with pytest.raises(NoLeader):
            _ = cluster.leader
        cluster.restart("node0")
        with ask(cluster, "node0", "node1", "node2") as client:
            assert list(client.book("ACME").bids) == [(200, 1, 1)]
            assert wait_for(lambda: "node1 has caught up and votes" in str(cluster.events))
        assert "its journal was lost" in (cluster.run_dir / "logs" / "node1.log").read_text()


def test_a_founder_alone_waits_for_the_others(tmp_path: Path) -> None:
    """Two of three founders are a majority, and can't know that they are new."""
    with Cluster(3, run_dir=tmp_path) as cluster:
        for name in cluster.nodes:
            cluster.kill(name)
        for name in ("node0", "node1"):
            shutil.rmtree(tmp_path / "data" / name)
            cluster.restart(name)
        with pytest.raises(NoLeader):
            _ = cluster.leader
        with ask(cluster, "node0", "node1") as client:
            roles = {row.name: row.status.role for row in client.status() if row.status is not None}
        assert roles == {"node0": "founder", "node1": "founder"}


FORKS = """
import os, sys
from zmqlab import Cluster
with Cluster(3) as cluster:
    with cluster.client() as client:
        client.buy("ACME", 1, 200)
    child = os.fork()
    if child == 0:
        try:
            cluster.kill("node0")
        except Exception as error:
            print(error, flush=True)
        HOW
    os.waitpid(child, 0)
    print(cluster.run_dir.exists(), len(cluster.running), flush=True)
    for name in cluster.nodes:
        cluster.kill(name)
    for name in cluster.nodes:
        cluster.restart(name)
    with cluster.client() as client:
        print(list(client.book("ACME").bids), flush=True)
"""


@pytest.mark.parametrize("how", ["sys.exit(0)", "cluster.stop(); os._exit(0)"])
def test_a_forked_child_does_not_own_the_cluster(how: str) -> None:
    """At its end the child removed the folder of the cluster that its parent goes on with."""
    program = [sys.executable, "-W", "ignore", "-c", FORKS.replace("HOW", how)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=180, check=False)
    told, folder, book = done.stdout.splitlines()
    assert "belongs to process" in told
    assert (folder, book) == ("True 3", "[(200, 1, 1)]"), done.stderr


OWNER = """
import os, time
from zmqlab import Cluster
cluster = Cluster(1).start()
child = os.fork()
if child == 0:
    time.sleep(30)
    os._exit(0)
print(child, *(cluster.fleet.process(name).pid for name in cluster.nodes), flush=True)
os.kill(os.getpid(), 9)
"""


def test_no_node_outlives_its_owner_while_a_forked_child_goes_on() -> None:
    """A node ends when its standard input does; the child had a copy of the other end."""
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        child, node = map(int, owner.stdout.readline().split())
        assert wait_for(lambda: not psutil.pid_exists(node))
        os.kill(child, 9)


def test_a_node_whose_journal_is_deleted_under_it_stops() -> None:
    """It would go on acknowledging what no restart finds again."""
    with Cluster(3) as cluster, cluster.client() as client:
        client.buy("ACME", 1, 200)
        follower = next(name for name in cluster.nodes if name != cluster.leader)
        shutil.rmtree(cluster.run_dir / "data" / follower)
        assert wait_for(lambda: follower not in cluster.running)
        assert "was deleted while the node ran" in (cluster.run_dir / "logs" / f"{follower}.log").read_text()
        cluster.restart(follower)
        assert wait_for(lambda: f"{follower} has caught up and votes" in str(cluster.events))
        assert list(client.book("ACME").bids) == [(200, 1, 1)]
