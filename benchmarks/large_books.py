"""The longest turn of a node's loop with many resting orders, the elections that it caused, and the restart of a node.

A cluster is filled with resting orders by several clients. Then these things are done to it, one after the other, while
a client goes on placing and cancelling orders: every node makes snapshots, one is asked for its state hash, a follower
is killed and restarted, and a follower whose disk is wiped gets the state from the leader. A node is ready when it has
applied what was committed when it was started. Each row of the table is one phase::

    python benchmarks/large_books.py [--orders 1000000] [--nodes 3] [--symbols 16] [--snapshots 3] [--idle]

The turns are as the nodes measure them. A turn that had to wait for a core is as long as it waited: run it on a machine
that has nothing else to do.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from machine import unwind_at_sigterm

from zmqlab import Cluster, Command, Side
from zmqlab.client import ask
from zmqlab.errors import ZmqlabError
from zmqlab.lab.hosts import LocalHost, module_command
from zmqlab.wire import control
from zmqlab.wire.node_status import NodeStatus

CLIENTS = 8
"""As many sessions and accounts share the orders: none may have more than a quarter of what the exchange holds."""
BATCH = 512
SNAPSHOT_LOG_BYTES = 4_194_304
"""Less than a node's default, so that snapshots come often."""
PRICES = 500
MID = 10_000


class Phase:
    """What the nodes show during one phase."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.turns_ms: dict[str, float] = {}
        self.snapshots: dict[str, int] = {}
        self._unregister = cluster.feed.on_turn(self._look)

    def _look(self) -> None:
        for name, status in self._cluster.feed.newest().items():
            self.turns_ms[name] = max(self.turns_ms.get(name, 0.0), status.turn_ms_max)
            self.snapshots[name] = status.snapshots_total

    def close(self) -> None:
        """Look no more."""
        self._unregister()


@contextmanager
def phase(cluster: Cluster, what: str) -> Iterator[Phase]:
    """Print a row of the table when it is over."""
    time.sleep(1.2)  # a node's longest turn is that of the last second
    before, leaders = time.monotonic(), len(cluster.feed.leaders())
    seen = Phase(cluster)
    yield seen
    took_s = time.monotonic() - before
    time.sleep(0.3)
    seen.close()
    turns = " ".join(f"{seen.turns_ms.get(name, 0):7.1f}" for name in cluster.nodes)
    print(f"{what:28} {took_s:7.1f} s   {turns}   {len(cluster.feed.leaders()) - leaders:9}", flush=True)


def resting(rng: random.Random, account: int, symbols: int) -> Command:
    """An order that meets no other."""
    side = rng.choice((Side.BUY, Side.SELL))
    price = MID + rng.randint(1, PRICES) * (1 if side is Side.SELL else -1)
    return Command.limit(side, f"SYM{rng.randrange(symbols)}", rng.randint(1, 100), price, account=account)


def fill(cluster: Cluster, orders: int, symbols: int) -> None:
    """Rest ``orders`` orders."""

    def place(account: int, count: int) -> None:
        rng = random.Random(account)
        with cluster.client(timeout_s=60.0) as client:
            for start in range(0, count, BATCH):
                size = min(BATCH, count - start)
                reports = client.send(*(resting(rng, account, symbols) for _ in range(size)))
                assert all(report.status.name == "NEW" for report in reports), reports[0]

    shares = [orders // CLIENTS + (number < orders % CLIENTS) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(place, range(1, CLIENTS + 1), shares))


class Traffic:
    """A client that places orders and cancels them again, so that the number of open orders stays."""

    def __init__(self, cluster: Cluster, symbols: int) -> None:
        self._cluster = cluster
        self._symbols = symbols
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.slowest_s = 0.0
        self._thread.start()

    def _run(self) -> None:
        rng, account = random.Random(99), 99
        with self._cluster.client(timeout_s=60.0) as client:
            while not self._over.is_set():
                began = time.monotonic()
                orders = [resting(rng, account, self._symbols) for _ in range(BATCH // 2)]
                reports = client.send(*orders)
                client.send(*map(cancel_of, orders, (report.order_id for report in reports)))
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def stop(self) -> None:
        """Place no more."""
        self._over.set()
        self._thread.join()


def cancel_of(order: Command, order_id: int) -> Command:
    """The command that takes ``order`` back."""
    return Command(2, order_id=order_id, symbol=order.symbol, account=order.account)


def await_true(condition: Callable[[], bool], timeout_s: float) -> None:
    """Look again and again. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the nodes did not get there in time")
        time.sleep(0.02)


def statuses(cluster: Cluster) -> dict[str, NodeStatus]:
    """The status of each node that answers, by name."""
    answers = ask.statuses([cluster.fleet.endpoint(name) for name in cluster.running], 1.0)
    return {status.name: status for status in answers.values()}


def has_caught_up(cluster: Cluster, name: str, index: int) -> bool:
    """Whether the node ``name`` has applied up to ``index``."""
    status = statuses(cluster).get(name)
    return status is not None and status.applied_index >= index


def measure(cluster: Cluster, arguments: argparse.Namespace) -> None:
    """All phases, a row each."""
    print(f"{'phase':28} {'took':>9}   longest turn of each node, ms   elections")
    with phase(cluster, "filling"):
        fill(cluster, arguments.orders, arguments.symbols)
    traffic = None if arguments.idle else Traffic(cluster, arguments.symbols)
    try:
        if traffic is not None:
            with phase(cluster, f"{arguments.snapshots} snapshots a node") as seen:
                time.sleep(0.5)
                wanted = {name: count + arguments.snapshots for name, count in seen.snapshots.items()}
                await_true(lambda: all(seen.snapshots[name] >= count for name, count in wanted.items()), 600.0)
        with phase(cluster, "state hash of each node"):
            for name in cluster.nodes:
                ask.ask_one(cluster.fleet.endpoint(name), control.HashQuery(ask.new_nonce()), control.HashAnswer, 60.0)
        for what, act in (("kill and restart", restart), ("wipe", wipe)):
            leader = cluster.leader
            follower = next(name for name in cluster.nodes if name != leader)
            with phase(cluster, f"{what} {follower}"):
                act(cluster, follower)
    finally:
        if traffic is not None:
            traffic.stop()
            print(f"slowest pair of requests: {traffic.slowest_s * 1e3:.0f} ms")
    print(f"terms: {max(status.term for status in statuses(cluster).values())}; leaders: {cluster.feed.leaders()}")


def restart(cluster: Cluster, name: str) -> None:
    """SIGKILL, and back from its journal."""
    cluster.kill(name)
    time.sleep(0.5)
    index = max(status.commit_index for status in statuses(cluster).values())
    began = time.monotonic()
    cluster.restart(name, timeout_s=60.0)
    answers_s = time.monotonic() - began
    await_true(lambda: has_caught_up(cluster, name, index), 60.0)
    print(f"restart of {name}: it answers after {answers_s:.2f} s, and is ready after {time.monotonic() - began:.2f} s")


def wipe(cluster: Cluster, name: str) -> None:
    """Its disk is lost; it gets the state from the leader."""
    index = max(status.commit_index for status in statuses(cluster).values())
    cluster.wipe(name, timeout_s=120.0)
    await_true(lambda: has_caught_up(cluster, name, index), 120.0)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--symbols", type=int, default=16)
    parser.add_argument("--snapshots", type=int, default=3, help="of each node, in the phase of snapshots")
    parser.add_argument("--idle", action="store_true", help="no traffic beside, and no phase of snapshots")
    arguments = parser.parse_args()
    unwind_at_sigterm()
    host = LocalHost([*module_command("zmqlab.node"), "--snapshot-log-bytes", str(SNAPSHOT_LOG_BYTES)])
    with Cluster(arguments.nodes, host=host) as cluster:
        try:
            measure(cluster, arguments)
        except (ZmqlabError, TimeoutError) as error:
            print(f"not finished: {error}")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
