"""Torture: the schedule follows from its seed, gaps are measured right, and a short run of all kinds passes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from tests.client.virtual import status_of
from tests.widgets.fake_cluster import snapshot
from zmqlab import Cluster
from zmqlab.cli.fault_commands import strike_line
from zmqlab.errors import EXIT_FAILED, EXIT_NOT_JUDGED, ClusterError, SettingsError
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.load.history import read_history
from zmqlab.load.load_messages import GroupShare, encode_metrics
from zmqlab.scenarios.nemesis import (
    Deal,
    Nemesis,
    Progress,
    Strike,
    deals,
    kinds,
    parse_kinds,
)
from zmqlab.scenarios.recovery import Told
from zmqlab.scenarios.torture import Torture, TortureSettings
from zmqlab.scenarios.torture_report import Outcome, TortureResult, calm_gap_ms, longest_gap_ms, outcomes
from zmqlab.tables import NodeState, StatusTable
from zmqlab.wire.node_status import NodeStatus

MS = 1_000_000
ACKNOWLEDGED = np.array([10, 11, 12, 40, 41, 90, 91], np.int64) * MS


def fault_of(kind: str, variant: str, hold_s: float = 0.0, amount: float = 1.0) -> Deal:
    return Deal(1, kind, variant, hold_s, 0.0, amount, 7)


def test_a_seed_is_always_the_same_run() -> None:
    assert list(islice(deals(7, 3), 100)) == list(islice(deals(7, 3), 100))
    assert list(islice(deals(7, 3), 100)) != list(islice(deals(8, 3), 100))


@pytest.mark.parametrize("nodes", [3, 5])
def test_every_variant_comes_before_any_comes_again(nodes: int) -> None:
    fitting = [names for names, draw in FAULTS.draws.items() if draw.nodes <= nodes]
    dealt = list(islice(deals(1, nodes), 2 * len(fitting)))
    assert Counter((fault.kind, fault.variant) for fault in dealt) == dict.fromkeys(fitting, 2)
    assert len({(fault.kind, fault.variant) for fault in dealt[: len(fitting)]}) == len(fitting)
    assert [fault.number for fault in dealt] == list(range(1, len(dealt) + 1))


def test_sizes_are_within_their_bounds() -> None:
    for fault in islice(deals(3, 9), 500):
        draw = fault.draw
        assert draw.hold_s[0] <= fault.hold_s <= draw.hold_s[1]
        assert draw.amount[0] <= fault.amount <= draw.amount[1]


def test_only_the_kinds_that_are_wanted() -> None:
    assert {fault.kind for fault in islice(deals(1, 3, parse_kinds("wipe, kill")), 20)} == {"wipe", "kill"}
    assert parse_kinds("") == kinds()
    with pytest.raises(SettingsError, match="no fault is called 'flood'"):
        parse_kinds("kill,flood")
    with pytest.raises(SettingsError, match="from 3 to 9"):
        deals(1, 2)


def test_where_no_node_leads_nothing_is_dealt_that_a_leader_must_do() -> None:
    dealt = {(fault.kind, fault.variant) for fault in islice(deals(1, 5, replication="broadcast"), 200)}
    by_the_leader = {
        ("wipe", "follower"),
        ("wipe", "leader"),
        ("scale", "up"),
        ("scale", "down"),
        ("transfer", "follower"),
        ("mixed", "delay, follower wiped"),
        ("mixed", "scale up, leader killed"),
    }
    assert by_the_leader < FAULTS.draws.keys()
    assert dealt.isdisjoint(by_the_leader)
    assert dealt == {names for names, draw in FAULTS.draws.items() if not draw.asks_leader}
    assert list(islice(deals(7, 3, replication="primary-backup"), 50)) == list(islice(deals(7, 3), 50))


@pytest.mark.parametrize("groups", [(0,), (0, 1)], ids=["one group", "two groups"])
def test_nodes_that_lead_alone_have_recovered_when_each_has_applied_its_own(groups: tuple[int, ...]) -> None:
    def told(replication: str, behind: int = 0) -> Told:
        statuses = [
            msgspec.structs.replace(
                status_of(number),
                leader_id=number,
                term=number,
                replication=replication,
                commit_index=number * 1_000,
                applied_index=number * 1_000 - behind,
            )
            for number in (1, 2)
        ]
        return Told({group: {f"node{each.node_id}": each for each in statuses} for group in groups})

    assert told("broadcast").trouble == ""
    assert told("broadcast", behind=500).trouble == "far behind: node1 by 500, node2 by 500"
    assert "don't know one leader" in told("raft").trouble
    assert "don't know one leader" in told("mine:Own").trouble


@pytest.mark.parametrize(
    "value",
    [
        {"nodes": 2},
        {"durability": "memory"},
        {"duration_s": 0.0},
        {"duration_s": "5m"},
        {"rate": 0},
        {"seed": 1.5},
        {"kinds": ("flood",)},
        {"clients": 0},
        {"replication": "magic"},
        {"replication": "broadcast", "kinds": ("scale",)},
    ],
)
def test_settings_that_make_no_sense(value: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        TortureSettings(**value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "gap_ms"),
    [(11, 12, 1), (10.5, 11.5, 1), (20, 30, 28), (5, 95, 49), (41, 60, 49), (90.5, 200, 1), (100, 200, 0), (1, 2, 0)],
    ids=["touching", "inside", "within one gap", "all", "into a gap", "last", "after all", "before all"],
)
def test_the_gap_of_a_time_is_the_longest_that_overlaps_it(start_ms: float, end_ms: float, gap_ms: float) -> None:
    assert longest_gap_ms(ACKNOWLEDGED, round(start_ms * MS), round(end_ms * MS)) == gap_ms


def strike(began_ms: int, recovered_ms: int, fault: Deal, problem: str = "") -> Strike:
    return Strike(fault, "node0", began_ms * MS, began_ms * MS, recovered_ms * MS, problem)


def test_gaps_belong_to_faults_or_to_the_calm_between_them() -> None:
    kill = strike(11, 40, fault_of("kill", "leader"))
    assert [each.gap_ms for each in outcomes([kill], {0: ACKNOWLEDGED})] == [28.0]
    assert calm_gap_ms([kill], ACKNOWLEDGED) == 49.0
    assert calm_gap_ms([kill, strike(50, 60, fault_of("kill", "leader"))], ACKNOWLEDGED) == 1.0
    assert calm_gap_ms([], ACKNOWLEDGED[:1]) == 0.0


def test_a_time_that_no_client_remembers_is_no_gap() -> None:
    """In a run of many hours the ledger keeps the first requests and the newest ones."""
    kill = strike(41, 60, fault_of("kill", "leader"))
    early = strike(5, 20, fault_of("kill", "leader"))
    forgotten = (41 * MS, 90 * MS)
    assert [each.gap_ms for each in outcomes([early, kill], {0: ACKNOWLEDGED}, [{0: 1.0}, {0: 7.0}], forgotten)] == [
        28.0,
        7.0,
    ]
    assert calm_gap_ms([], ACKNOWLEDGED, forgotten) == 28.0


def test_what_makes_a_fault_a_problem() -> None:
    long_ms = {0: 10_001.0}
    assert Outcome(strike(0, 1, fault_of("kill", "leader")), long_ms).problem == "no client was served for 10,001 ms"
    assert not Outcome(strike(0, 1, fault_of("kill-all", "at once")), long_ms).problem
    assert Outcome(strike(0, 0, fault_of("kill", "leader"), "not recovered"), {0: 1.0}).problem == "not recovered"
    of_groups = Outcome(strike(0, 1, fault_of("kill", "leader")), {0: 5.0, 3: 10_001.0})
    assert of_groups.problem == "no client was served by group 3 for 10,001 ms"


def test_with_several_groups_the_gap_of_a_fault_is_that_of_the_group_that_waited_longest() -> None:
    """While a group elected a leader the others answered, and the gap was that of the whole run: some milliseconds."""
    waits = np.array([10, 41, 90], np.int64) * MS
    kill, cut = strike(11, 30, fault_of("kill", "leader")), strike(60, 70, fault_of("partition", "ring"))
    groups = {0: ACKNOWLEDGED, 3: waits}
    told = outcomes([kill, cut], groups)
    assert [dict(each.gaps_ms) for each in told] == [{0: 28.0, 3: 31.0}, {0: 49.0, 3: 49.0}]
    assert [(each.gap_ms, each.worst_group) for each in told] == [(31.0, 3), (49.0, 0)]
    assert told[0].as_dict(0)["gaps_ms"] == {"0": 28.0, "3": 31.0}
    assert "gaps_ms" not in outcomes([kill], {0: ACKNOWLEDGED})[0].as_dict(0)
    calm = {group: calm_gap_ms([kill, cut], times) for group, times in groups.items()}
    result = TortureResult({}, cast(Any, None), told, calm, 0)
    assert [row[:4] for row in result.rows()] == [
        ("kill leader", 1, "31", "31"),
        ("partition ring", 1, "49", "49"),
        ("calm", "-", "-", "1"),
    ]
    assert result.group_rows() == [(0, "38", "49", "partition ring", "1"), (3, "40", "49", "partition ring", "0")]
    alone = TortureResult({}, cast(Any, None), outcomes([kill], {0: ACKNOWLEDGED}), {0: 1.0}, 0)
    assert alone.group_rows() == []


def test_a_group_that_tells_nothing_after_what_is_forgotten_has_no_gap_there() -> None:
    """Its last acknowledgement may be older than that time: the place of the gap was behind the last one."""
    forgotten = (41 * MS, 90 * MS)
    assert calm_gap_ms([], ACKNOWLEDGED[:5], forgotten) == 28.0
    assert calm_gap_ms([], ACKNOWLEDGED[5:], forgotten) == 1.0


def test_what_is_seen_live_of_gaps_is_by_group() -> None:
    progress = Progress()
    shares = [GroupShare(group=0, gap_ms=3.0), GroupShare(group=3, gap_ms=210.0)]
    progress.take(encode_metrics(snapshot(gap_ms=1.0, groups=shares)))
    progress.take(encode_metrics(snapshot(gap_ms=1.0, groups=[GroupShare(group=0, gap_ms=9.0), shares[1]])))
    assert (progress.gaps_ms, progress.gap_ms) == ({0: 9.0, 3: 210.0}, 210.0)
    line = strike_line(strike(0, 40, fault_of("kill", "leader")), progress.gaps_ms)
    assert "longest gap 210 ms in group 3, recovered" in line
    progress.reset_gap()
    progress.take(encode_metrics(snapshot(gap_ms=7.0)))
    assert (progress.gaps_ms, progress.gap_ms) == ({0: 7.0}, 7.0)
    assert "longest gap 7 ms, " in strike_line(strike(0, 40, fault_of("kill", "leader")), progress.gaps_ms)


class Replaying:
    """A cluster of which one node replays its log, so many entries at each look."""

    nodes = running = ("node0", "node1")
    shards = 1

    def __init__(self, *distances: int) -> None:
        self._distances = iter(distances)

    def status(self) -> StatusTable:
        behind = {"node0": 0, "node1": next(self._distances)}
        rows = (NodeState(name, name, "running", self._status(behind[name])) for name in self.nodes)
        return StatusTable(tuple(rows))

    @staticmethod
    def _status(behind: int) -> NodeStatus:
        return msgspec.structs.replace(status_of(1), leader_id=1, commit_index=30_000, applied_index=30_000 - behind)


def test_a_node_that_comes_nearer_is_recovering(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two cores wanted by others, a node that replayed 30,000 entries in 25 s ended an hour's run."""
    now_s = 0.0

    def sleep(_: float) -> None:
        nonlocal now_s
        now_s += 15.0

    monkeypatch.setattr("zmqlab.scenarios.nemesis.time", SimpleNamespace(monotonic=lambda: now_s, sleep=sleep))

    def trouble(*distances: int) -> str:
        cluster: Any = Replaying(*distances)
        return Nemesis(cluster, Progress(), lambda _: None, lambda: False, recovery_s=20.0).await_recovery()

    assert "within 90.0 s: the client is not answered" in trouble(20_000, 15_000, 9_000, 4_000, 150, 150, 150)
    assert "within 30.0 s: far behind: node1 by 12,000" in trouble(20_000, 15_000, 12_000)
    assert "within 60.0 s: far behind: node1 by 5,000" in trouble(20_000, 15_000, 9_000, 8_000, 5_000)


@pytest.mark.process
def test_a_cluster_that_does_not_recover_is_told() -> None:
    with Cluster(3) as cluster:
        nemesis = Nemesis(cluster, Progress(), lambda _: None, lambda: False, recovery_s=0.5)
        assert "the client is not answered" in nemesis.await_recovery(), "there is none"
        cluster.kill("node0")
        assert "node0 does not run" in nemesis.await_recovery()
        assert not nemesis.try_to_mend()
        assert set(cluster.running) == set(cluster.nodes)


@pytest.mark.process
def test_what_is_broken_is_mended_although_the_fault_fails_midway(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(3) as cluster:
        nemesis = Nemesis(cluster, Progress(), lambda _: None, lambda: False, recovery_s=0.1)

        def fail(name: str) -> None:
            raise ClusterError(f"{name} can't be restarted")

        restart = cluster.restart
        monkeypatch.setattr(cluster, "restart", fail)
        problem = nemesis.strike(fault_of("kill", "follower")).problem
        assert "can't be restarted; can't be mended" in problem
        assert "does not run" in problem
        monkeypatch.setattr(cluster, "restart", restart)
        assert not nemesis.try_to_mend()
        assert set(cluster.running) == set(cluster.nodes)


SHORT = [dataclasses.replace(fault, hold_s=0.3, rest_s=0.1) for fault in islice(deals(1, 5), 30)]


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.long
def test_a_short_run_with_every_fault_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = {fault.name: fault for fault in SHORT}.values()
    monkeypatch.setattr("zmqlab.scenarios.nemesis.deals", lambda *_: iter(wanted))
    history = tmp_path / "history.jsonl"
    run = Torture(TortureSettings(duration_s=500, rate=1_000, nodes=5, clients=4, history=history)).start()
    result = run.result()
    assert result.ok, result
    assert len(result.outcomes) == len(wanted) >= 25
    assert {row[0] for row in result.rows()} == {fault.name for fault in wanted} | {"calm"}
    assert all(each.gap_ms > 0 for each in result.outcomes)
    assert result.as_dict()["ok"] is True
    (checked,) = (check for check in result.load.verdict.checks if check.name == "reads agree")
    reads = read_history(history).reads
    assert checked.detail.startswith(f"{len(reads):,} linearizable reads")
    assert len({read.node for read in reads}) >= 5
    assert len({read.symbol for read in reads}) == 16
    told = [request for request in read_history(history).requests if request.outcome == "ok"]
    assert sum(len(request.commands) for request in told) == result.load.total.acknowledged
    assert len({request.client for request in told}) == 4
    assert "torture: PASSED" in repr(result)
    assert "torture passed" in result._repr_html_()


@pytest.mark.process
def test_an_acknowledgement_that_the_cluster_forgot_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The client claims one request that is in no node's log."""
    from zmqlab.lab import evidence_of_run

    honest = evidence_of_run.acknowledgements_of

    def lie(outcome: object) -> list[object]:
        told = honest(outcome)  # type: ignore[arg-type]
        return [*told, told[-1]._replace(request_number=10**6)]

    monkeypatch.setattr(evidence_of_run, "acknowledgements_of", lie)
    run = Torture(TortureSettings(duration_s=1.0, rate=500, kinds=("pause",), run_dir=tmp_path)).start()
    result = run.result()
    assert not result.load.verdict.ok
    assert not result.ok
    assert "torture: FAILED" in repr(result)
    assert result.run_dir


@pytest.mark.process
@pytest.mark.parametrize("lies", [False, True], ids=["nothing broken", "an order was lost"])
def test_a_load_that_died_is_not_judged_unless_a_promise_was_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lies: bool
) -> None:
    """It was FAILED: "the load client gave up", "not recovered: the client is not answered"."""
    from zmqlab.lab import evidence_of_run
    from zmqlab.lab.load_client import LoadClient

    started: list[LoadClient] = []
    make, hold, honest = Torture._load, Nemesis.hold, evidence_of_run.acknowledgements_of

    def keep(run: Torture, collector: object) -> LoadClient:
        started.append(make(run, collector))  # type: ignore[arg-type]
        return started[0]

    def kill_and_hold(nemesis: Nemesis, seconds: float) -> None:
        assert started[0]._run is not None
        started[0]._run.process.kill()
        hold(nemesis, seconds)

    monkeypatch.setattr(Torture, "_load", keep)
    monkeypatch.setattr(Nemesis, "hold", kill_and_hold)
    if lies:
        monkeypatch.setattr(
            evidence_of_run,
            "acknowledgements_of",
            lambda outcome: [*(told := honest(outcome)), told[-1]._replace(request_number=10**6)],
        )
    result = Torture(TortureSettings(duration_s=30, rate=500, kinds=("pause",), run_dir=tmp_path)).start().result()
    assert result.outcome == ("failed" if lies else "not judged"), result
    assert result.exit_status == (EXIT_FAILED if lies else EXIT_NOT_JUDGED)
    assert result.problems == []
    assert "the load ended before its time: the load process was killed by SIGKILL" in repr(result)
    assert len(result.outcomes) == 1


@pytest.mark.process
@pytest.mark.long
def test_a_weak_replication_is_tortured_and_fails_for_what_it_loses(tmp_path: Path) -> None:
    """Not because its nodes know no leader: they recover from every fault."""
    for number in range(5):
        phases: list[str] = []
        settings = TortureSettings(
            duration_s=3.0,
            rate=1_000,
            clients=3,
            kinds=("partition", "delay"),
            replication="broadcast",
            run_dir=tmp_path / str(number),
        )
        result = Torture(settings, on_phase=phases.append).start().result()
        problem = result.load.report.result.problem
        if not problem:
            break  # else a node got a request before it had heard of the session; that is not promised either
        assert "is unknown to the cluster" in problem
    assert result.outcome == "failed"
    assert result.exit_status == EXIT_FAILED
    assert not any("recovered" in problem for problem in result.problems), result.problems
    broken = {check.name: check.detail for check in result.load.verdict.checks if check.ok is False}
    assert "replication broadcast does not promise this" in broken["nodes agree"]
    assert result.outcomes
    assert phases == ["breaking", "mending", "judging", "ended"]


@pytest.mark.process
def test_a_stale_read_fails_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last book that a client was given is the one that was read first."""
    from zmqlab.lab import evidence_of_run

    honest = evidence_of_run.book_reads_of

    def lie(outcome: object) -> list[object]:
        reads = honest(outcome)  # type: ignore[arg-type]
        assert reads
        times = {"invoked_ns": reads[-1].invoked_ns, "completed_ns": reads[-1].completed_ns}
        return [*reads[:-1], reads[0]._replace(**times)]

    monkeypatch.setattr(evidence_of_run, "book_reads_of", lie)
    result = Torture(TortureSettings(duration_s=1.0, rate=500, kinds=("pause",), run_dir=tmp_path)).start().result()
    assert {check.name for check in result.load.verdict.checks if not check.ok} == {"reads agree"}
    assert not result.ok
