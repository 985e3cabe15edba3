"""Real node processes, driven from Python: starting, orders, questions, deaths and returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for
from zmqlab.client.order_client import Client
from zmqlab.errors import NoLeader, PortInUse, RequestError, RequestTimeout, SettingsError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.hosts import LocalHost, free_base_ports
from zmqlab.lab.load_client import LoadClient
from zmqlab.market.types import Command, Reason, Side, Status, TimeInForce
from zmqlab.settings import NodeSettings

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(3, run_dir=tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


def test_is_ready_soon_and_says_how_soon(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with Cluster(3) as cluster, cluster.client() as client:
        ready_s = time.monotonic() - began
        assert client.buy("AAPL", 1, 100).status is Status.NEW
    with capsys.disabled():
        print(f"\n3 nodes ready in {ready_s:.2f} s")


def test_an_order_trades_and_shows_in_book_and_tape(client: Client) -> None:
    sold = client.sell("AAPL", quantity=100, price=18_950, account=1)
    bought = client.buy("AAPL", quantity=40, price=19_000, account=2)
    assert (sold.status, bought.status) == (Status.NEW, Status.FILLED)
    assert bought.average_price == 18_950
    assert bought.log_index > sold.log_index
    assert list(client.book("AAPL").asks) == [(18_950, 60, 1)]
    assert client.trades("AAPL")[-1].quantity == 40
    assert "18950" in repr(client.trades("AAPL"))
    moved = client.replace(sold.order_id, "AAPL", 50, 18_900, account=1)
    assert moved.status is Status.REPLACED
    assert client.cancel(sold.order_id, "AAPL", account=1).status is Status.CANCELED
    assert client.cancel(sold.order_id, "AAPL", account=1).reason is Reason.UNKNOWN_ORDER
    assert not client.book("AAPL").asks


def test_several_commands_are_one_request(client: Client) -> None:
    reports = client.send(
        Command.limit(Side.SELL, "PAIR", 5, 10, account=1),
        Command.market(Side.BUY, "PAIR", 9, account=2),
    )
    assert [report.status for report in reports] == [Status.NEW, Status.EXPIRED]
    assert reports[1].filled_quantity == 5
    assert len({report.log_index for report in reports}) == 1


def test_an_order_without_a_price_takes_what_there_is(client: Client) -> None:
    assert client.buy("EMPTY", 5).reason is Reason.NO_LIQUIDITY
    assert client.buy("EMPTY", 5, 10, time_in_force=TimeInForce.FOK).reason is Reason.WOULD_NOT_FILL


def test_status_of_all_nodes(cluster: Cluster, client: Client) -> None:
    assert {node.name for node in client.status()} == set(cluster.nodes)
    wanted = ["follower", "follower", "leader"]
    assert wait_for(lambda: sorted(node.status.role if node.status else "" for node in client.status()) == wanted)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: c.buy("aapl", 1, 1), "symbol is 'aapl'"),
        (lambda c: c.buy(None, 1, 1), "symbol is None"),
        (lambda c: c.buy("AAPL", 0, 1), "quantity is 0"),
        (lambda c: c.buy("AAPL", 1.5, 1), r"quantity is 1\.5"),
        (lambda c: c.sell("AAPL", 1, -1), "price is -1"),
        (lambda c: c.sell("AAPL", 1, True), "price is True"),
        (lambda c: c.buy("AAPL", 1, post_only=True), "post_only needs a price"),
        (lambda c: c.cancel("7", "AAPL"), "order_id is '7'"),
        (lambda c: c.replace(7, "AAPL", 1, 0), "price is 0"),
        (lambda c: c.book("AAPL", 0), "levels is 0"),
        (lambda c: c.send(), "0 commands: send 1 to 1,024"),
        (lambda c: c.send(Command(1, quantity=2**40)), "does not fit"),
        (lambda c: Client([]), "at least one"),
        (lambda c: Client("tcp://127.0.0.1:1"), "must be a list"),
        (lambda c: Client(["127.0.0.1:1"]), "not an endpoint"),
        (lambda c: Client(["tcp://127.0.0.1:1"], timeout_s=0), "timeout_s is 0"),
    ],
)
def test_a_bad_argument_is_told_by_name(client: Client, call: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        call(client)  # type: ignore[operator]


def test_the_leader_dies_and_orders_go_on(cluster: Cluster, client: Client) -> None:
    client.buy("KEEP", 3, 100)
    dead = cluster.leader
    cluster.kill(dead)
    assert client.buy("KEEP", 4, 100).status is Status.NEW
    assert cluster.leader != dead
    cluster.restart(dead)
    assert wait_for(lambda: {node.status.lag if node.status else 1 for node in cluster.status()} == {0})
    assert list(client.book("KEEP").bids) == [(100, 7, 2)]


def test_all_die_at_once_and_nothing_is_lost(cluster: Cluster) -> None:
    with cluster.client() as client:
        before = client.buy("SAFE", 11, 100)
    for name in cluster.nodes:
        os.kill(cluster.pid(name), signal.SIGKILL)
    assert wait_for(lambda: not cluster.running)
    for name in cluster.nodes:
        cluster.restart(name)
    cluster.wait_for_leader()
    with cluster.client() as client:
        assert list(client.book("SAFE").bids) == [(100, 11, 1)]
        assert client.buy("SAFE", 1, 100).order_id > before.order_id


def test_without_a_majority_the_outcome_is_unknown_and_nothing_is_sent_later(tmp_path: Path) -> None:
    with Cluster(2, run_dir=tmp_path) as cluster, cluster.client(timeout_s=30) as client:
        client.buy("AAPL", 1, 100)
        client.timeout_s = 1
        follower = next(name for name in cluster.nodes if name != cluster.leader)
        cluster.kill(follower)
        with pytest.raises((RequestTimeout, NoLeader)):
            client.buy("AAPL", 1, 100)
        cluster.restart(follower)
        client.timeout_s = 30
        assert client.buy("OTHER", 1, 100).status is Status.NEW
        client.close()
        with pytest.raises(RequestError, match="closed"):
            client.buy("AAPL", 1, 100)


class Drawing(LocalHost):
    """Gives out these base ports, one after the other, whether they are free or not."""

    def __init__(self, *bases: int) -> None:
        super().__init__()
        self._bases = list(bases)

    def free_ports(self, count: int, exclude: object = ()) -> list[int]:
        return [self._bases.pop(0) for _ in range(count)]


def test_a_taken_port_is_named_and_a_cluster_draws_others(tmp_path: Path) -> None:
    base = free_base_ports(1)[0]
    settings = NodeSettings(name="first", port=base, run_dir=tmp_path, watch_stdin=True)
    node = LocalHost().start(settings)
    try:
        log = tmp_path / "logs" / "first.log"
        assert wait_for(lambda: log.exists() and not all(_free(base)))
        with Cluster(1, run_dir=tmp_path / "run", host=Drawing(base, *free_base_ports(1, exclude=[base]))) as cluster:
            assert cluster.endpoints != (f"tcp://127.0.0.1:{base + 2}",)
        with pytest.raises(PortInUse, match=str(base)):
            Cluster(1, run_dir=tmp_path / "other", host=Drawing(*[base] * 5)).start()
    finally:
        node.signal(signal.SIGKILL)
        node.wait(30)
        node.close()


def _free(base: int) -> list[bool]:
    from zmqlab.lab import hosts

    return [hosts.is_free(base)]


SCRIPT = """
import time
from zmqlab import Cluster
cluster = Cluster(3).start()
cluster.pause("node1")
print(cluster.run_dir, *(cluster.pid(name) for name in cluster.nodes), flush=True)
time.sleep(60)
"""


def test_no_node_outlives_a_python_process_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        folder, *pids = launcher.stdout.readline().split()
        assert len(pids) == 3
        launcher.kill()
        launcher.wait()
    try:
        assert wait_for(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids))
    finally:
        import shutil

        shutil.rmtree(folder)


@pytest.mark.long
def test_under_load_the_journals_begin_to_be_flushed_and_nothing_is_lost() -> None:
    with Cluster(3) as cluster, LoadClient(cluster, rate=1_000, duration=None) as load:
        load.start()
        cluster.change(durability="fsync")
        new = cluster.add()
        assert all("fsync" in psutil.Process(cluster.pid(name)).cmdline() for name in (*cluster.nodes, new))
        cluster.change(durability="os")
        load.stop()
        assert load.wait().verdict.outcome == "passed"
