"""A cluster without processes: a real feed that is told what nodes would publish, and a record of what was asked."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from zmqlab.errors import ClusterError
from zmqlab.lab.fault_table import WELL, WHOLE, Link
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.register import Ending
from zmqlab.lab.turns import Turns
from zmqlab.load.load_messages import LoadCounters, LoadMetrics, encode_metrics
from zmqlab.settings import DEFAULT_REPLICATION, NodeSettings
from zmqlab.wire.control import Event, TradeEvent, encode
from zmqlab.wire.fault_queries import LinkFault, NodeFaults
from zmqlab.wire.frames import TRADE
from zmqlab.wire.node_status import NodeStatus

MS = 1_000_000


class FakeFleet:
    """As much of a cluster's fleet as faults use."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.turns = Turns()
        self.foretold: dict[str, int] = {}
        self.outside = ""
        self.plan = SimpleNamespace(replication=DEFAULT_REPLICATION, durability="os")

    @property
    def names(self) -> tuple[str, ...]:
        return self._cluster.nodes

    @property
    def running(self) -> tuple[str, ...]:
        return self._cluster.running

    @property
    def paused(self) -> tuple[str, ...]:
        return self._cluster.paused

    def process(self, name: str) -> None:
        self.settings(name)

    def settings(self, name: str) -> NodeSettings:
        if self._cluster.broken:
            raise ClusterError(f"{name} is not running: cluster.restart({name!r}) starts it")
        return NodeSettings(name=name, port=5_000)

    def end(self, name: str, how: signal.Signals) -> None:
        self._cluster.did(how.name, name)

    def pause(self, name: str) -> None:
        self._cluster.did("SIGSTOP", name)

    def resume(self, name: str) -> None:
        self._cluster.did("SIGCONT", name)


class FakeFaultTable:
    """As much of a cluster's fault table as faults and the status line use."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    @property
    def faults(self) -> dict[Link, LinkFault]:
        return self._cluster.links

    @property
    def node_faults(self) -> dict[str, NodeFaults]:
        return self._cluster.node_faults

    def change(self, links: Sequence[Link], fault: LinkFault) -> None:
        others = {link: known for link, known in self.faults.items() if link not in links}
        self._cluster.links = others | ({} if fault == WHOLE else dict.fromkeys(links, fault))

    def of_node(self, name: str) -> NodeFaults:
        return self._cluster.node_faults.get(name, WELL)

    def change_node(self, name: str, **faults: Any) -> None:
        changed = replace(self.of_node(name), **faults)
        self._cluster.node_faults.pop(name, None)
        if changed != WELL:
            self._cluster.node_faults[name] = changed

    def tell(self, name: str) -> None:
        """No node is there to be told."""


class FakeScaling:
    """As much of a cluster's scaling as faults use."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def turn(self, name: str, verb: str) -> AbstractContextManager[None]:
        return self._cluster.fleet.turns.take(name, verb)

    def to_lead(self, name: str, group: int | None) -> Sequence[int]:
        """There is one group."""
        return [group or 0]

    def check_replaceable(self, name: str) -> None:
        """Every node can be replaced."""

    def replace(self, name: str, timeout_s: float) -> None:
        self._cluster.did("replace", name)

    def hand_over(self, name: str, timeout_s: float, group: int = 0) -> None:
        self._cluster.did("hand over", name)


class FakeCluster:
    """As much of :class:`zmqlab.Cluster` as the widgets use."""

    def __init__(self, *names: str) -> None:
        self.name = "fake"
        self.ack = "quorum"
        self.feed = MetricsFeed()
        self.nodes: tuple[str, ...] = names or ("node0", "node1", "node2")
        self.running: tuple[str, ...] = self.nodes
        self.paused: tuple[str, ...] = ()
        self.leader = "node0"
        self.shards = 1
        self.links: dict[Link, LinkFault] = {}
        self.node_faults: dict[str, NodeFaults] = {}
        self.fleet = FakeFleet(self)
        self.fault_table = FakeFaultTable(self)
        self.scaling = FakeScaling(self)
        self.living_endpoints: tuple[str, ...] = ()
        self.done: list[tuple[Any, ...]] = []
        self.broken = False
        self._end = Ending()

    def at_stop(self, close: Callable[[], None]) -> Callable[[], object]:
        return self._end.also(close)

    @property
    def ending(self) -> dict[object, Callable[[], object]]:
        """What is still to be done at the end."""
        return self._end._steps

    def stop(self) -> None:
        self._end()
        self.feed.close()

    def wait_for_leader(self, timeout_s: float = 0.0, group: int | None = 0) -> str:
        if self.shards == 1:
            return self.leader
        return self.feed.leading_most(self.nodes) if group is None else self.feed.leader_among(self.nodes, group)

    @property
    def leaders(self) -> dict[int, str]:
        return {group: self.feed.leader_among(self.running, group) for group in range(self.shards)}

    def did(self, *action: Any) -> None:
        """Record an action, or fail."""
        if self.broken:
            raise ClusterError(f"{action[1]} is not running: cluster.restart starts it")
        self.done.append(action)

    def heal(self) -> None:
        self.did("heal")

    def mend(self, name: str) -> None:
        self.did("mend", name)
        self.node_faults.pop(name, None)

    def restart(self, name: str) -> None:
        self.did("restart", name)

    def resume(self, name: str) -> None:
        self.did("resume", name)

    def scale(self, count: int) -> None:
        self.did("scale", count)

    def change(self, durability: str) -> None:
        self.did("change", durability)
        self.fleet.plan.durability = durability

    # What nodes and load clients would publish.

    def say(self, name: str, time_ns: int | None = None, **fields: Any) -> None:
        """A snapshot of one node."""
        values: dict[str, Any] = {
            "name": name,
            "node_id": 1 + int(name[4:]),
            "pid": 100,
            "port": 5000,
            "time_ns": time.time_ns() if time_ns is None else time_ns,
            "uptime_ms": 1,
            "role": "leader" if name == self.leader else "follower",
            "term": 1,
            "leader_id": 1,
            "first_index": 1,
            "last_index": 10,
            "commit_index": 10,
            "applied_index": 10,
            "lag": 0,
        }
        self.feed._take_status(NodeStatus(**values | fields))

    def happen(self, kind: str, node: str = "", time_ns: int | None = None, term: int = 0, text: str = "") -> None:
        """An event."""
        at_ns = time.time_ns() if time_ns is None else time_ns
        self.feed.record(Event(time_ns=at_ns, node=node, kind=kind, term=term, text=text))

    def trade(self, price: int, quantity: int, symbol: str = "AAPL") -> None:
        """A trade that the leader publishes."""
        event = TradeEvent(
            symbol=symbol, price=price, quantity=quantity, log_index=1, maker_order_id=1, taker_order_id=2
        )
        self.feed._take_node_frame(TRADE, encode(TRADE, event))

    def load(self, **fields: Any) -> None:
        """A snapshot of a load client."""
        self.feed._take_load_frame(0, encode_metrics(snapshot(**fields)))


def snapshot(
    *,
    offered: int = 100,
    acknowledged: int = 100,
    time_ns: int | None = None,
    latency_ns: int = 2 * MS,
    late: int = 0,
    held_back: int = 0,
    **fields: Any,
) -> LoadMetrics:
    """A load client's snapshot of 100 ms."""
    from zmqlab.histogram import Histogram

    histogram = Histogram()
    if acknowledged:
        histogram.record(latency_ns, acknowledged)
    counters = LoadCounters(offered=offered, sent=offered, acknowledged=acknowledged, late=late, held_back=held_back)
    values: dict[str, Any] = {
        "name": "load",
        "pid": 7,
        "time_ns": time.time_ns() if time_ns is None else time_ns,
        "elapsed_s": 1.0,
        "interval_s": 0.1,
        "state": "running",
        "rate": 1_000.0,
        "total": counters,
        "interval": counters,
        "response_time": histogram.to_sparse(),
        "response_time_max_ns": histogram.max,
        "service_time": histogram.to_sparse(),
        "service_time_max_ns": histogram.max,
        "outstanding": 1,
        "resting": 0,
        "endpoints": ["tcp://127.0.0.1:5002"],
        "connected": [True],
        "orders_by_node": [100],
        "rejected_by_reason": {},
        "silence_ms": 0.0,
        "gap_ms": 1.0,
        "longest_gap_ms": 1.0,
        "cpu_percent": 10.0,
    }
    return LoadMetrics(**values | fields)
