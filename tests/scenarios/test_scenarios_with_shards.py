"""Scenarios of clusters with several Raft groups: who the leader is, what a step's group means, expectations per group.

Three nodes and four groups in virtual time: node1 leads groups 1 and 2, node0 leads group 0, node2 leads group 3. Group
3 is held by node0 and node2 alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.client.virtual import status_of
from tests.judge.test_thresholds import outcome, result
from tests.scenarios.virtual_run import Moments, MortalCluster, steps_taken
from tests.widgets.fake_cluster import snapshot
from zmqlab import Scenario
from zmqlab.cli.final_report import lines_of, of_scenario
from zmqlab.errors import NoLeader, SettingsError
from zmqlab.judge.promises import Check
from zmqlab.judge.verdict import LoadResult, Verdict
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_registry import Aim
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.started_cluster import StartedCluster
from zmqlab.load.load_messages import GroupShare, encode_metrics
from zmqlab.load.load_report import LoadReport
from zmqlab.scenarios.expectations import Met, read_expectations
from zmqlab.scenarios.recovery import told_by
from zmqlab.scenarios.scenario_run import ScenarioResult, _Run
from zmqlab.scenarios.written import Source, Written
from zmqlab.tables import NodeState, StatusTable
from zmqlab.wire.control import Event
from zmqlab.wire.node_status import GroupBrief

SHARDS = 4
LEADERS = {0: "node0", 1: "node1", 2: "node1", 3: "node2"}
HOLDERS = {0: (0, 1, 2), 1: (0, 1, 2), 2: (0, 1, 2), 3: (0, 2)}


def say(cluster: MortalCluster, group: int, leader: str, **fields: Any) -> None:
    """Every holder of a group publishes it."""
    for number in HOLDERS[group]:
        name = f"node{number}"
        role = "leader" if name == leader else "follower"
        known = {"group": group, "shards": SHARDS, "role": role, "leader_id": 1 + int(leader[4:] or -1)}
        cluster.say(name, **known | fields)


@pytest.fixture
def cluster(time: Moments) -> Iterator[MortalCluster]:
    made = MortalCluster(time)
    made.shards = SHARDS
    for group, leader in LEADERS.items():
        say(made, group, leader)
    yield made
    made.stop()


def taken(cluster: MortalCluster, time: Moments, *steps: Mapping[str, Any]) -> tuple[_Run, list[str]]:
    """The steps of a scenario with shards, taken; and what went wrong."""
    planned = {"nodes": 3, "shards": SHARDS, "replication_factor": 2}
    return steps_taken(cluster, time, *steps, cluster=planned)


# -- who the leader is ---------------------------------------------------------------------------------------------


def test_the_leader_is_the_node_that_leads_the_most_groups(cluster: MortalCluster, time: Moments) -> None:
    run, problems = taken(cluster, time, {"at": "1s", "fault": "kill leader"})
    assert problems == []
    assert cluster.told == [(1.0, "SIGKILL", "node1")]
    assert run.struck == {1, 2}
    assert [line.text for line in run.story] == [
        "3 nodes run, all 4 groups have a leader; load offers 1,000 orders/s for 20 s",
        "kill leader: node1, leading groups 1, 2",
    ]


def test_a_button_for_the_leader_means_the_same_node(cluster: MortalCluster, time: Moments) -> None:
    _, problems = taken(cluster, time, {"press": "kill the leader"})
    assert (problems, cluster.told) == ([], [(0.0, "SIGKILL", "node1")])


@pytest.mark.parametrize(
    ("step", "victims"),
    [
        ({"fault": "kill leader", "group": 3}, ["node2"]),
        ({"fault": "kill follower", "group": 3}, ["node0"]),
        ({"press": "kill -9", "node": "leader", "group": 0}, ["node0"]),
        ({"press": "kill -9", "node": "follower", "group": 3}, ["node0"]),
        ({"press": "kill -9", "node": "followers"}, ["node0", "node2"]),
        ({"press": "kill -9", "node": "all", "group": 3}, ["node0", "node2"]),
    ],
)
def test_a_step_that_names_a_group_means_its_leader_and_its_members(
    cluster: MortalCluster, time: Moments, step: Mapping[str, Any], victims: list[str]
) -> None:
    _, problems = taken(cluster, time, step)
    assert (problems, [name for _, _, name in cluster.told]) == ([], victims)


def test_of_equals_the_first_leads_the_most_and_without_any_leader_none_does() -> None:
    feed = MetricsFeed()
    try:
        cluster = MortalCluster(Moments())
        cluster.feed, cluster.shards = feed, 2
        assert feed.leading_most(("node0", "node1")) == ""
        for group, leader in enumerate(("node1", "node0")):
            cluster.say(leader, group=group, shards=2, role="leader")
        assert feed.leading_most(("node0", "node1", "node2")) == "node0"
        assert feed.leading_most(("node1", "node2")) == "node1"
    finally:
        feed.close()


def test_a_cluster_in_which_no_group_has_a_leader_says_so() -> None:
    feed = MetricsFeed()
    try:
        plan, turns = SimpleNamespace(shards=SHARDS), SimpleNamespace(require_open=lambda: None)
        fleet = SimpleNamespace(plan=plan, turns=turns, running=("node0",), names=("node0", "node1"), outside="")
        started: Any = SimpleNamespace(feed=feed, fleet=fleet)
        with pytest.raises(NoLeader, match=r"no leader of any group within .* a majority of a group's members must"):
            StartedCluster.wait_for_leader(started, 0.0, None)
    finally:
        feed.close()


def test_torture_hands_over_a_group_to_one_of_its_own_members(cluster: MortalCluster) -> None:
    """The node that leads most groups may hold no replica of group 0, and then can't hand it over."""
    draw = FAULTS.draws["transfer", "follower"].aim
    assert draw is not None
    for seed in range(5):
        fault: Any = draw(Aim(cluster, random.Random(seed), 0.0))  # type: ignore[arg-type]
        assert (fault.group, fault.node in ("node1", "node2")) == (0, True)
        fault = draw(Aim(cluster, random.Random(seed), 0.0, 3))  # type: ignore[arg-type]
        assert (fault.group, fault.node) == (3, "node0")


def test_a_partition_strikes_the_groups_of_its_smaller_side(cluster: MortalCluster, time: Moments) -> None:
    run, problems = taken(cluster, time, {"fault": "partition leader cut off", "group": 3})
    assert problems == []
    assert run.struck == {3}


def test_a_cluster_has_recovered_when_each_group_has(cluster: MortalCluster) -> None:
    fellows: Any = cluster
    assert told_by(fellows).trouble == ""
    say(cluster, 2, "node1", commit_index=900, applied_index=100)
    assert told_by(fellows).trouble == "far behind: node0 by 800, node1 by 800, node2 by 800"
    cluster.say("node2", group=3, shards=SHARDS, term=2, leader_id=0)
    assert told_by(fellows).trouble == "the nodes don't know one leader of group 3: [(1, 3), (2, 0)]"
    cluster.feed.forget("node2")
    assert told_by(fellows).trouble == "node2 does not answer"


# -- conditions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "then"),
    [
        ({"when": "leader"}, {"say": (2, "node0", {})}),
        ({"when": "leader", "group": 2}, {"say": (2, "node0", {})}),
        ({"when": "elected", "group": 2}, {"elected": 2}),
        ({"when": "acknowledged 50", "group": 2}, {"share": {"acknowledged": 50}}),
        ({"when": "silent 1s", "group": 2}, {"share": {"silence_ms": 1_000.0}}),
        ({"when": "caught_up node2", "group": 2}, {"say": (2, "node1", {})}),
        ({"when": "needs_snapshot node2"}, {"say": (3, "node0", {"first_index": 30, "commit_index": 30})}),
        ({"when": "died node1", "group": 2}, {"died": "node1"}),
    ],
    ids=lambda value: str(value.get("when", "")),
)
def test_a_condition_is_about_the_group_that_its_step_names_or_about_all(
    cluster: MortalCluster, time: Moments, step: Mapping[str, Any], then: Mapping[str, Any]
) -> None:
    """Something like it happens in group 1 at second 1, and in the group that is meant at second 3."""
    say(cluster, 2, "", last_index=900, commit_index=900, applied_index=10)

    def elected(group: int) -> None:
        cluster.feed.record(Event(time_ns=0, node="node1", kind="elected", term=2, text="", group=group))

    def tell(share: Mapping[str, Any], group: int) -> None:
        cluster.feed._take_load_frame(0, encode_metrics(snapshot(groups=[GroupShare(group=group, **share)])))

    def before() -> None:
        elected(1)
        tell({"acknowledged": 90, "silence_ms": 5_000.0}, 1)

    def happen() -> None:
        if "say" in then:
            group, leader, fields = then["say"]
            applied = {"last_index": 900, "commit_index": 900, "applied_index": 900}
            if "first_index" in fields:  # the follower's status stays as it was
                cluster.say(leader, group=group, shards=SHARDS, role="leader", term=2, **fields)
            else:
                say(cluster, group, leader, term=2, **applied | fields)
        if "elected" in then:
            elected(then["elected"])
        if "share" in then:
            tell(then["share"], 2)
        if "died" in then:
            cluster.happen("died", then["died"])

    time.plan(1.0, before)
    time.plan(3.0, happen)
    run, problems = taken(cluster, time, step)
    assert problems == []
    assert run.story[-1].at_s == pytest.approx(3.0, abs=0.03), run.story


# -- what can be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shards", "values", "said"),
    [
        (1, {"steps": [{"fault": "kill leader", "group": 0}]}, "step 1, group: the cluster has one Raft group"),
        (4, {"steps": [{"fault": "kill leader", "group": 4}]}, "step 1, group: it is 4: write a whole number from 0"),
        (4, {"steps": [{"at": "1s", "group": 1}]}, "it is for a condition or a fault"),
        (1, {"expect": ["group0.gap < 1s"]}, "the cluster has one Raft group: leave 'group0' away"),
        (1, {"expect": ["others.gap < 1s"]}, "the cluster has one Raft group: leave 'others' away"),
        (4, {"expect": ["group4.gap < 1s"]}, "there is no group 4: the last of 4 is group 3"),
        (4, {"expect": ["group3.p99 < 1s"]}, "write group3.gap < 1s or group3.verdict passed"),
        (4, {"expect": ["struck.verdict passed"]}, "write struck.gap < 1s"),
        (4, {"expect": ["struck.gap < 1"]}, "the unit of gap is us, ms or s"),
        (4, {"expect": ["group1.term == 1.5"]}, "'term' is a count"),
        (4, {"load": None, "loads": {"group1": {"duration": "2s"}}}, "as groups are in expectations"),
        (99, {}, "line 1, cluster: shards is 99"),
    ],
)
def test_what_is_wrong_with_a_group_is_said(shards: int, values: Mapping[str, Any], said: str) -> None:
    whole = {
        "teaches": "x.",
        "cluster": {"nodes": 3, "shards": shards},
        "load": {"duration": "2s"},
        "expect": ["verdict passed"],
    } | values
    with pytest.raises(SettingsError) as error:
        Scenario.of({key: value for key, value in whole.items() if value is not None})
    assert said.removeprefix("line 1, ") in str(error.value)


# -- expectations per group ----------------------------------------------------------------------------------------


def result_of_groups(gaps_ms: Mapping[int, float]) -> LoadResult:
    shares = [GroupShare(group=group, longest_gap_ms=gap_ms) for group, gap_ms in gaps_ms.items()]
    told = result([])
    told.report = LoadReport(msgspec.structs.replace(outcome(), groups=shares))
    broken = Verdict((Check("nothing lost", False, "3 orders"),), "all")
    kept = Verdict((Check("nothing lost", True, "none"),), "all")
    told.verdict = Verdict(broken.checks, "all", groups={0: kept, 1: broken, 2: kept})
    briefs = [
        GroupBrief(number=number, role="leader", term=term, leader_id=1, members=["a", "b"])
        for number, term in ((0, 1), (1, 4))
    ]
    status = msgspec.structs.replace(status_of(1, "leader", 1), shards=SHARDS, groups=briefs)
    told.nodes = StatusTable((NodeState("n1", "", "running", status),))
    return told


@pytest.mark.parametrize(
    ("text", "ok", "detail"),
    [
        ("struck.gap > 500ms", True, "gap 900 ms in group 1"),
        ("struck.gap < 500ms", False, "gap 900 ms in group 1"),
        ("others.gap <= 40ms", True, "gap 40 ms in group 2"),
        ("others.gap < 40ms", False, "gap 40 ms in group 2"),
        ("group0.gap < 0.02s", True, "gap 10 ms"),
        ("group3.gap < 1s", None, "no order of the load belongs to group3"),
        ("group0.verdict passed", True, "passed"),
        ("group1.verdict passed", False, "failed (nothing lost: 3 orders)"),
        ("group3.verdict passed", None, "the verdict has no group 3"),
        ("group1.broken nothing lost", True, "3 orders"),
        ("group0.broken nothing lost", False, "none"),
        ("group1.term == 4", True, "term 4"),
        ("group0.members == 3", False, "members 2"),
        ("group2.term == 1", None, "no node that answered at the end holds group 2"),
        ("term == 4", True, "term 4"),
        ("load.others.gap < 1s", True, "gap 40 ms in group 2"),
    ],
)
def test_an_expectation_is_about_one_group_or_about_the_struck_ones(text: str, ok: bool | None, detail: str) -> None:
    (expectation,) = read_expectations([Written(text, Source("x", {}))], ["load"], SHARDS)[-1:]
    met = expectation.check({"load": result_of_groups({0: 10.0, 1: 900.0, 2: 40.0})}, struck=[1])
    assert met == Met(text, ok, detail)


def test_where_no_fault_struck_a_leader_nothing_is_known_of_struck_and_others() -> None:
    for text in ("struck.gap > 1ms", "others.gap < 1s"):
        (expectation,) = read_expectations([Written(text, Source("x", {}))], ["load"], SHARDS)[-1:]
        met = expectation.check({"load": result_of_groups({0: 10.0})})
        assert (met.ok, met.detail) == (None, "no fault hit a node that led a group")


def test_the_result_shows_the_gap_of_each_group_and_which_were_struck() -> None:
    told = result_of_groups({0: 10.0, 1: 900.0, 2: 40.0})
    whole = ScenarioResult("mine", "It teaches.", 7, [], [], {"load": told}, struck=(1,))
    rows = {line.split()[0]: line for line in whole.summary().splitlines() if line.strip()[:1].isdigit()}
    assert ["struck" in rows[str(group)] for group in (0, 1, 2)] == [False, True, False]
    assert "900.0" in rows["1"]
    assert whole._repr_html_().count("struck") == 1
    printed = ["".join(span.text for span in line) for line in lines_of(of_scenario(whole, with_story=False), 100)]
    assert [line.split()[0] for line in printed if line.rstrip().endswith("struck")] == ["1"]
    assert whole.as_dict()["struck"] == [1]
    plain = ScenarioResult("mine", "It teaches.", 7, [], [], {"load": result([])})
    assert "group" not in plain.summary()
