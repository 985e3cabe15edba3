"""The verdict, the feed and the tables on what real engines say of four groups: orders, a death, a return."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from zlib import crc32

import pytest

from tests.engine.shard_cluster import ShardCluster, responses
from zmqlab.judge.evidence import LogPiece
from zmqlab.judge.promises import Acknowledgement, NodeEvidence, RunTotals
from zmqlab.judge.replay import LogEntry
from zmqlab.judge.run_evidence import RunEvidence
from zmqlab.judge.verdict import pass_verdict
from zmqlab.lab.fleet import is_ready
from zmqlab.lab.group_facts import group_of_statuses
from zmqlab.lab.published import Published
from zmqlab.load.group_orders import Dealer
from zmqlab.load.load_settings import LoadSettings
from zmqlab.tables import NodeState, StatusTable
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.client import ResponseStatus
from zmqlab.wire.node_status import NodeStatus

SHARDS = 4
STEPS_OF_AN_ELECTION = 120


class Load:
    """One session with each group; each request is answered before the next is sent."""

    def __init__(self, cluster: ShardCluster) -> None:
        self._cluster = cluster
        self._dealer = Dealer(LoadSettings(nodes=("tcp://127.0.0.1:1",), shards=SHARDS, symbols=64, seed=3))
        self._clock = 0
        self.acknowledged: dict[int, list[Acknowledgement]] = {group: [] for group in range(SHARDS)}
        self.sessions = {group: self._open(group) for group in range(SHARDS)}

    def send(self, group: int, orders: int = 8) -> None:
        commands = self._dealer.of(group).rows(orders).tobytes()
        number = len(self.acknowledged[group]) + 1
        frame = client_wire.encode_request(self.sessions[group], number, number, commands, group)
        (response,) = self._answered(group, frame)
        assert response.status == ResponseStatus.OK
        told = response.client_id, response.request_number, response.log_index, self._clock, self._clock + 1
        crc = crc32(response.fills, crc32(response.reports))
        self.acknowledged[group].append(Acknowledgement(*told, crc, crc32(commands)))
        self._clock += 2

    def _open(self, group: int) -> int:
        (response,) = self._answered(group, client_wire.encode_open_session(5 + group, group))
        return response.client_id

    def _answered(self, group: int, frame: bytes) -> list[client_wire.Response]:
        leader = self._cluster.leader(group)
        assert leader is not None
        found = responses(self._cluster.ask(leader, frame))
        for _ in range(STEPS_OF_AN_ELECTION):
            if found:
                return found
            self._cluster.step()
            found = responses(self._cluster.ask(leader))
        raise AssertionError(f"group {group} does not answer")


def asked(cluster: ShardCluster, number: int, query: control.Query, group: int) -> Any:
    (answer,) = cluster.ask(number, control.encode(frames.QUERY, query, group))
    return control.decode_answer(answer)


def statuses(cluster: ShardCluster) -> Iterable[NodeStatus]:
    for number in cluster.running:
        for group in cluster.groups(number):
            yield asked(cluster, number, control.StatusQuery(7), group).status


def evidence_of(cluster: ShardCluster, load: Load, group: int) -> RunEvidence:
    hosts = [number for number in cluster.running if group in cluster.groups(number)]
    nodes = []
    for number in hosts:
        status = asked(cluster, number, control.StatusQuery(7), group).status
        hashes = asked(cluster, number, control.HashQuery(7), group)
        said = hashes.index, hashes.chain_hash, hashes.state_hash, status.orders_applied
        nodes.append(NodeEvidence(status.name, *said, sum(each.voter for each in status.members)))
    log = asked(cluster, hosts[0], control.LogQuery(7, 1, 1 << 20), group)
    entries = [LogEntry(*entry) for entry in log.entries]
    acknowledged = load.acknowledged[group]
    orders = 8 * len(acknowledged)
    totals = RunTotals((load.sessions[group],), len(acknowledged), orders, 0, 0, True)
    return RunEvidence(
        acknowledgements=acknowledged,
        asked=len(hosts),
        nodes=tuple(nodes),
        log=LogPiece(1, entries),
        totals=totals,
        group=group,
    )


@pytest.fixture
def cluster() -> ShardCluster:
    made = ShardCluster(5, SHARDS, 3)
    made.step(60)
    return made


def test_a_run_over_a_death_and_a_return_is_judged_group_by_group(cluster: ShardCluster) -> None:
    load = Load(cluster)
    for _ in range(10):
        for group in range(SHARDS):
            load.send(group)
    victim = cluster.leader(0)
    assert victim is not None
    led = [group for group in range(SHARDS) if cluster.leader(group) == victim]
    others = [group for group in range(SHARDS) if group not in led]
    cluster.stop(victim)
    for group in others:
        load.send(group)  # nothing has to wait for the groups that the dead node led
    cluster.step(STEPS_OF_AN_ELECTION)
    for group in range(SHARDS):
        load.send(group)
    cluster.start(victim)
    cluster.step(STEPS_OF_AN_ELECTION)
    groups = {group: evidence_of(cluster, load, group) for group in range(SHARDS)}
    acknowledged = [ack for acks in load.acknowledged.values() for ack in acks]
    totals = RunTotals(tuple(load.sessions.values()), len(acknowledged), 8 * len(acknowledged), 0, 0, True)
    taken = RunEvidence(acknowledgements=acknowledged, asked=5, nodes=(), log=None, totals=totals, groups=groups)
    verdict = pass_verdict(taken)
    assert verdict.outcome == "passed", verdict
    assert verdict.commands == (8 * len(acknowledged),) * 2
    assert all(len(each.nodes) == 3 for each in groups.values())


def test_the_feed_and_the_tables_know_who_leads_what(cluster: ShardCluster) -> None:
    published, newest = Published(), dict[str, NodeStatus]()
    for status in statuses(cluster):
        assert is_ready(status)
        published.take(status, 0.0)
        newest[status.name] = status
    assert published.shards == SHARDS
    names = [f"node{number}" for number in range(5)]
    facts = [group_of_statuses(group, published.newest(group), names, names) for group in range(SHARDS)]
    leaders = [f"node{leader}" for leader in cluster.leaders()]
    assert [each.leader for each in facts] == leaders
    assert [(each.voters, each.spare) for each in facts] == [(3, 1)] * SHARDS
    states = [NodeState(name, "", "running", newest[name]) for name in names if name in newest]
    table = StatusTable(tuple(states))
    assert [row[1] for row in table.group_rows()] == leaders
    assert sum(table.leads().values()) == SHARDS


def test_a_node_says_that_it_does_not_hold_a_group(cluster: ShardCluster) -> None:
    number, group = next(
        (number, group) for number in range(5) for group in range(SHARDS) if group not in cluster.groups(number)
    )
    answer = asked(cluster, number, control.LogQuery(7, 1), group)
    assert answer.code == control.ErrorCode.NO_GROUP
    assert asked(cluster, number, control.StatusQuery(7), group).status.group != group
