"""Real nodes with many groups: a client finds the group of each symbol, through a kill and the return of a node."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_for
from zmqlab import Client
from zmqlab.client import ask
from zmqlab.endpoints import client_endpoint
from zmqlab.lab.hosts import free_base_ports
from zmqlab.market.types import Status
from zmqlab.placement import group_of, place
from zmqlab.wire.node_status import GroupBrief

pytestmark = [pytest.mark.process, pytest.mark.long]

NODES, SHARDS, COPIES = 4, 6, 3


class Nodes:
    """Founders of a cluster with shards, each a process."""

    def __init__(self, run_dir: Path) -> None:
        self.ports = free_base_ports(NODES)
        self.run_dir = run_dir
        self.places = [f"tcp://127.0.0.1:{port}" for port in self.ports]
        self.clients = [client_endpoint("127.0.0.1", port) for port in self.ports]
        self.processes = [self.start(number) for number in range(NODES)]

    def start(self, number: int) -> subprocess.Popen[bytes]:
        others = ",".join(place for place in self.places if place != self.places[number])
        flags = {"node": f"node{number}", "port": self.ports[number], "peers": others, "run-dir": self.run_dir}
        flags |= {"shards": SHARDS, "replication-factor": COPIES}
        said = [str(each) for name, value in flags.items() for each in (f"--{name}", value)]
        return subprocess.Popen([sys.executable, "-m", "zmqlab.node", *said, "--watch-stdin"], stdin=subprocess.PIPE)

    def kill(self, number: int) -> None:
        process = self.processes[number]
        process.kill()
        process.wait(60)
        assert process.stdin is not None
        process.stdin.close()

    def briefs(self) -> list[GroupBrief]:
        """What each node says of each of its groups."""
        return [brief for status in ask.statuses(self.clients).values() for brief in status.groups]

    def leaders(self) -> dict[int, str]:
        """Group -> where it is led, as its leader says."""
        return {each.number: each.leader_endpoint for each in self.briefs() if each.role == "leader"}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    running = Nodes(tmp_path)
    yield running
    for process in running.processes:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def test_orders_of_all_groups_go_on_through_a_kill_and_leaders_come_back(nodes: Nodes) -> None:
    preferred = {group: members[0] for group, members in place(sorted_places(nodes), SHARDS, COPIES).items()}
    assert wait_for(lambda: nodes.leaders() == preferred)
    held = Counter(place for each in nodes.briefs() if each.role == "leader" for place in each.members)
    assert max(held.values()) - min(held.values()) <= 1
    symbols = [f"S{number}" for number in range(24)]
    assert {group_of(symbol, SHARDS) for symbol in symbols} == set(range(SHARDS))
    with Client(nodes.clients[:1], timeout_s=60) as client:
        for symbol in symbols:
            assert client.buy(symbol, 5, 100).status == Status.NEW
        nodes.kill(1)
        for symbol in symbols:
            assert client.sell(symbol, 5, 100, account=2).status == Status.FILLED
            assert client.book(symbol).bids == []
        assert nodes.places[1] not in nodes.leaders().values()
        nodes.processes[1] = nodes.start(1)
        assert wait_for(lambda: nodes.leaders() == preferred)
        for symbol in symbols:
            assert client.buy(symbol, 1, 90).status == Status.NEW


def sorted_places(nodes: Nodes) -> list[str]:
    return [place for _, place in sorted(zip(nodes.ports, nodes.places, strict=True))]
