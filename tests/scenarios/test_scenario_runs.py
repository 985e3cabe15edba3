"""Runs of scenarios: steps in virtual time on a cluster without processes, expectations, and the shipped ones for real.

Time passes only when a run sleeps. So a moment is compared exactly, and no test waits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.judge.test_thresholds import FAILED, NOT_JUDGED, PASSED, result
from tests.scenarios.virtual_run import Moments, MortalCluster, steps_taken
from tests.widgets.fake_cluster import snapshot
from zmqlab import Scenario
from zmqlab.cli import run as zmqlab
from zmqlab.errors import EXIT_FAILED, EXIT_NOT_JUDGED, EXIT_OK, EXIT_USAGE
from zmqlab.judge.verdict import LoadResult, Verdict
from zmqlab.load.load_messages import encode_metrics
from zmqlab.runs.kept_run import Run
from zmqlab.scenarios.expectations import Met, read_expectations
from zmqlab.scenarios.scenario_file import shipped
from zmqlab.scenarios.scenario_run import Line, ScenarioResult
from zmqlab.scenarios.scenario_steps import Situation
from zmqlab.scenarios.written import Source, Written
from zmqlab.tables import NodeState, StatusTable

QUICK = ("kill-the-leader", "power-cut")
"""One that passes and one that must fail; the others take their time in ``make test-long``."""


@pytest.fixture
def cluster(time: Moments) -> Iterator[MortalCluster]:
    made = MortalCluster(time)
    yield made
    made.stop()


def test_steps_are_taken_at_their_moments_one_after_the_other(cluster: MortalCluster, time: Moments) -> None:
    run, problems = steps_taken(
        cluster,
        time,
        {"at": "1s", "press": "kill -9", "node": "node1"},
        {"after": "500ms", "press": "pause", "node": "node2", "for": "2s"},
        {"at": "5s", "undo": "kill -9"},
    )
    assert problems == []
    assert cluster.told == [
        (1.0, "SIGKILL", "node1"),
        (1.5, "SIGSTOP", "node2"),
        (5.0, "restart", "node1"),
    ]
    assert [(round(line.at_s, 3), line.text) for line in run.story] == [
        (0.0, "3 nodes run, none leads; load offers 1,000 orders/s for 20 s"),
        (1.0, "kill -9: node1"),
        (1.5, "pause: node2"),
        (3.5, "over: pause"),
        (5.0, "undo: kill -9"),
    ]


def test_a_condition_is_waited_for_and_then_the_delay(cluster: MortalCluster, time: Moments) -> None:
    """Three seconds after the first election behind the fault; the election before it does not count."""
    time.plan(0.5, lambda: cluster.happen("elected", "node0", term=1))
    time.plan(2.01, lambda: cluster.happen("elected", "node2", term=2))
    run, problems = steps_taken(
        cluster,
        time,
        {"at": "1s", "fault": "kill leader"},
        {"when": "elected", "after": "3s", "press": "kill -9", "node": "node1"},
    )
    assert problems == []
    assert cluster.told == [(1.0, "SIGKILL", "node0"), (5.02, "SIGKILL", "node1")]
    assert [line.text for line in run.story[1:]] == [
        "node0 leads, term 1",
        "kill leader: node0",
        "node2 leads, term 2",
        "elected: node2, term 2, after 1.02 s",
        "kill -9: node1",
    ]


def test_what_no_step_asked_for_is_told_and_differing_states_once(cluster: MortalCluster, time: Moments) -> None:
    for at_s, kind, text in [
        (1.0, "hash_mismatch", "at 256"),
        (1.5, "died", "SIGSEGV"),
        (2.0, "hash_mismatch", "at 512"),
    ]:
        time.plan(at_s, lambda kind=kind, text=text: cluster.happen(kind, "node1", text=text))  # type: ignore[misc]
    run, _ = steps_taken(cluster, time, {"at": "3s", "press": "kill -9", "node": "node0"})
    assert [line.text for line in run.story[1:]] == ["at 256", "node1 died: SIGSEGV", "kill -9: node0"]


def test_what_does_not_come_within_its_bound_is_a_problem(cluster: MortalCluster, time: Moments) -> None:
    run, problems = steps_taken(
        cluster,
        time,
        {"at": "1s", "fault": "kill leader"},
        {"when": "elected", "within": "2s"},
        {"press": "kill -9", "node": "node1"},
    )
    assert problems == ["step 2: 'elected' was waited for, and did not come within 2 s"]
    assert cluster.told == [(1.0, "SIGKILL", "node0")]
    assert run.story[-1].text.startswith("step 2 failed")
    assert list(run.judge()) == ["load"]
    assert time.now < 104, "the load was stopped, and not waited for"


def test_a_fault_that_can_not_strike_is_a_problem(cluster: MortalCluster, time: Moments) -> None:
    cluster.broken = True
    _, problems = steps_taken(cluster, time, {"press": "kill -9", "node": "node1"})
    assert problems == ["step 1: node1 is not running: cluster.restart('node1') starts it"]


def test_repeats_begin_at_even_distances(cluster: MortalCluster, time: Moments) -> None:
    step = {"at": "1s", "press": "kill -9", "node": "node2", "for": "200ms", "repeat": 3, "every": "1s"}
    run, problems = steps_taken(cluster, time, step)
    assert problems == []
    assert [(at, what) for at, what, _ in cluster.told] == [
        (1.0, "SIGKILL"),
        (1.2, "restart"),
        (2.0, "SIGKILL"),
        (2.2, "restart"),
        (3.0, "SIGKILL"),
        (3.2, "restart"),
    ]
    assert [line.text for line in run.story[1:]] == [f"kill -9: node2 ({turn} of 3)" for turn in (1, 2, 3)]


def test_a_late_step_acts_at_once(cluster: MortalCluster, time: Moments) -> None:
    time.plan(4.0, lambda: cluster.happen("promoted", "node1"))
    _, problems = steps_taken(
        cluster, time, {"when": "promoted node1"}, {"at": "2s", "press": "kill -9", "node": "victim", "name": "x"}
    )
    assert problems == ["step 2: there is no victim now: node0, node1, node2 run"]
    assert time.now == pytest.approx(104.0, abs=0.03)


def test_roles_are_what_nodes_are_at_the_moment_of_the_strike(cluster: MortalCluster, time: Moments) -> None:
    time.plan(2.0, lambda: setattr(cluster, "leader", "node1"))
    _, problems = steps_taken(
        cluster,
        time,
        {"at": "1s", "press": "kill -9", "node": "leader"},
        {"at": "3s", "press": "kill -9", "node": "followers", "name": "rest"},
        {"undo": "all"},
        {"press": "cut", "link": ["leader", "all"], "name": "cut"},
    )
    assert problems == []
    assert [(what, name) for _, what, name in cluster.told[:2]] == [("SIGKILL", "node0"), ("SIGKILL", "node2")]
    assert sorted((what, name) for _, what, name in cluster.told[2:]) == [("restart", "node0"), ("restart", "node2")]
    assert set(cluster.links) == {("node1", "node0"), ("node1", "node2")}


@pytest.mark.parametrize("seed", range(4))
def test_a_seed_always_chooses_the_same_follower(cluster: MortalCluster, time: Moments, seed: int) -> None:
    step = {"press": "pause", "node": "follower"}
    for _ in range(2):
        steps_taken(cluster, time, step, seed=seed)
    (_, _, one), (_, _, other) = cluster.told
    assert one == other in ("node1", "node2")


def test_functions_of_a_python_scenario(cluster: MortalCluster, time: Moments) -> None:
    def at_four(situation: Situation) -> bool:
        return time.now >= 104

    run, problems = steps_taken(
        cluster, time, {"when": at_four, "do": lambda situation: situation.cluster.restart("node2")}
    )
    assert problems == []
    assert [(what, name) for _, what, name in cluster.told] == [("restart", "node2")]
    assert [line.text for line in run.story[1:]] == [run.story[1].text, "a function"]
    assert run.story[1].text.startswith("at four: so it is, after 4.0")


@pytest.mark.parametrize(
    ("condition", "before", "then"),
    [
        ("leader", {}, {"say": [("node0", {})]}),
        ("caught_up node2", {"say": [("node0", {}), ("node2", {"applied_index": 1, "commit_index": 900})]},
         {"say": [("node2", {"applied_index": 800, "commit_index": 900})]}),
        ("needs_snapshot node2", {"say": [("node0", {"first_index": 11}), ("node2", {"last_index": 10})]},
         {"say": [("node0", {"first_index": 12})]}),
        ("recovered", {"say": [("node0", {}), ("node1", {}), ("node2", {"leader_id": 0})]},
         {"say": [("node2", {})], "load": [{"acknowledged": 200}]}),
        ("recovered", {"say": [("node0", {}), ("node1", {}), ("node2", {})]}, {"load": [{"acknowledged": 200}]}),
        ("acknowledged 1k", {"load": [{"acknowledged": 900}]}, {"load": [{"acknowledged": 100, "name": "b"}]}),
        ("silent 1s", {"load": [{"silence_ms": 3e3}, {"silence_ms": 10.0, "name": "b"}]},
         {"load": [{"silence_ms": 1e3, "name": "b"}]}),
        ("killed", {}, {"happen": [("killed", "node0")]}),
        ("died node1", {"happen": [("died", "node0")]}, {"happen": [("died", "node1")]}),
    ],
)  # fmt: skip
def test_each_condition_holds_when_it_does_and_not_before(
    cluster: MortalCluster, time: Moments, condition: str, before: dict[str, Any], then: dict[str, Any]
) -> None:
    def tell(news: dict[str, Any]) -> None:
        for name, fields in news.get("say", ()):
            cluster.say(name, **fields)
        for fields in news.get("load", ()):
            cluster.feed._take_load_frame(0, encode_metrics(snapshot(**fields)))
        for kind, node in news.get("happen", ()):
            cluster.happen(kind, node)

    time.plan(1.0, lambda: tell(before))
    time.plan(3.0, lambda: tell(then))
    run, problems = steps_taken(cluster, time, {"when": condition})
    assert problems == []
    assert run.story[-1].at_s == pytest.approx(3.0, abs=0.03), run.story


# -- expectations --------------------------------------------------------------------------------------------------


def met(text: str, *results: LoadResult) -> bool | None:
    names = [f"load{number}" for number in range(len(results))]
    (expectation,) = read_expectations([Written(text, Source("x", {}))], names)[-1:]
    return expectation.check(dict(zip(names, results, strict=True))).ok


@pytest.mark.parametrize(
    ("text", "verdict", "ok"),
    [
        ("verdict passed", PASSED, True),
        ("verdict passed", FAILED, False),
        ("verdict passed", NOT_JUDGED, None),
        ("verdict failed", FAILED, True),
        ("verdict failed", PASSED, False),
        ("verdict not judged", NOT_JUDGED, True),
        ("broken nothing lost", FAILED, True),
        ("broken nothing lost", PASSED, False),
        ("broken nothing twice", FAILED, None),
        ("p99 > 10ms", PASSED, True),
        ("p99 < 10ms", PASSED, False),
        ("gap <= 120ms", PASSED, True),
        ("gap < 120ms", PASSED, False),
        ("gap == 0.12s", PASSED, True),
        ("elections == 1", PASSED, True),
        ("elections == 2", PASSED, False),
        ("elections>=1", PASSED, True),
        ("unserved < 3%", PASSED, True),
        ("unserved == 20", PASSED, True),
        ("throughput > 1k", PASSED, False),
        ("term == 1", PASSED, None),
    ],
)
def test_an_expectation_is_met_or_not(text: str, verdict: Verdict, ok: bool | None) -> None:
    assert met(text, result([], verdict)) is ok


def test_nothing_measured_is_not_known() -> None:
    assert met("p99 < 10ms", result([], answered=False)) is None


def test_several_loads_must_all_be_as_expected_unless_one_is_named() -> None:
    good, bad, unknown = result([]), result([], FAILED), result([], NOT_JUDGED)
    assert met("verdict passed", good, good) is True
    assert met("verdict passed", good, unknown) is None
    assert met("verdict passed", unknown, bad) is False
    assert met("load1.verdict failed", good, bad) is True


def test_the_figures_of_the_nodes() -> None:
    from tests.client.virtual import status_of

    nodes = StatusTable(
        (
            NodeState("n1", "", "running", status_of(1, "leader", 3, members=(1, 2, 3), learners=(4,))),
            NodeState("n2", "", "running", status_of(2, term=4)),
            NodeState("n3", "", "stopped"),
        )
    )
    told = result([])
    told.nodes = nodes
    for text, ok in [("term == 4", True), ("members == 3", True), ("nodes < 3", True), ("snapshots > 0", False)]:
        assert met(text, told) is ok


def outcome_of(*oks: bool | None, problems: tuple[str, ...] = ()) -> ScenarioResult:
    expectations = [Met(f"expected {number}", ok, "a figure") for number, ok in enumerate(oks)]
    return ScenarioResult(
        "mine", "It teaches.", 7, [Line(1.0, "kill <b>")], expectations, {}, problems, "folder/of/run"
    )


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (outcome_of(True, True), EXIT_OK),
        (outcome_of(True, False), EXIT_FAILED),
        (outcome_of(True, None), EXIT_NOT_JUDGED),
        (outcome_of(False, None), EXIT_FAILED),
        (outcome_of(True, problems=("step 1: it broke",)), EXIT_FAILED),
        (outcome_of(None, problems=("step 1: it broke",)), EXIT_FAILED),
    ],
)
def test_what_a_run_ends_with(outcome: ScenarioResult, status: int) -> None:
    assert outcome.exit_status == status
    assert outcome.ok is (status == EXIT_OK)
    assert json.loads(json.dumps(outcome.as_dict()))["ok"] is outcome.ok
    assert ("as expected" if outcome.ok else "NOT AS EXPECTED") in repr(outcome)
    assert "kill &lt;b&gt;" in outcome._repr_html_()
    assert ("PROBLEM: step 1" in repr(outcome)) is bool(outcome.problems)


# -- the command, and runs for real --------------------------------------------------------------------------------


def test_the_command_lists_and_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert zmqlab(["run", "--list"]) == EXIT_OK
    listed = capsys.readouterr().out
    assert all(name in listed for name in shipped())
    assert zmqlab(["run", "--list", "--json"]) == EXIT_OK
    assert [each["scenario"] for each in json.loads(capsys.readouterr().out)] == shipped()
    for arguments, said in ([], "name a scenario"), (["kill-the-leadr"], "'kill-the-leader' perhaps"):
        assert zmqlab(["run", *arguments]) == EXIT_USAGE
        assert said in capsys.readouterr().err


SPEED = re.compile(r"\b(gap|max|p[\d.]+|groups_waited) *<")
"""What is expected of a machine that has little else to do: no test says how fast this one is."""


def surprises(outcome: ScenarioResult) -> list[object]:
    """What went otherwise than expected, but for how long it took."""
    return [*outcome.problems, *(met for met in outcome.expectations if not met.ok and not SPEED.search(met.text))]


@pytest.mark.parametrize(
    ("text", "ok", "is_surprise"),
    [
        ("gap < 2s", False, False),
        ("closed.p99 < 100ms", False, False),
        ("gap >= 1s", False, True),
        ("unserved == 0", None, True),
        ("verdict passed", False, True),
        ("verdict passed", True, False),
    ],
)
def test_only_speed_is_no_surprise(text: str, ok: bool | None, is_surprise: bool) -> None:
    outcome = ScenarioResult("mine", "", 7, [], [Met(text, ok, "a figure")], {}, (), "")
    assert bool(surprises(outcome)) is is_surprise


@pytest.mark.process
@pytest.mark.parametrize("path", QUICK)
def test_two_shipped_ones_are_as_expected(path: str) -> None:
    outcome = Scenario.read(path).run()
    assert surprises(outcome) == [], outcome
    assert not outcome.run_dir or not outcome.ok


@pytest.mark.long
@pytest.mark.process
@pytest.mark.parametrize("path", [name for name in shipped() if name not in QUICK])
def test_every_shipped_one_is_as_expected(path: str) -> None:
    outcome = Scenario.read(path).run()
    assert surprises(outcome) == [], outcome


@pytest.mark.process
def test_a_run_that_is_not_as_expected_keeps_its_folder_and_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "teaches: Nothing.\nload: {rate: 500, duration: 1s}\nsteps:\n"
        "  - {at: 200ms, press: make it lead, node: node2}\nexpect: [elections == 7]\n"
    )
    folders = ["--run-dir", str(tmp_path / "run"), "--keep", str(tmp_path / "kept")]
    assert zmqlab(["run", str(file), *folders, "--json"]) == EXIT_FAILED
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["run_dir"] == str(tmp_path / "run")
    assert [Run.read(each).about.what for each in told["kept"]] == ["mine"]
    assert [(each["text"], each["ok"]) for each in told["expectations"]] == [
        ("verdict passed", True),
        ("elections == 7", False),
    ]
    assert "make it lead: node2" in captured.err
    assert (tmp_path / "run" / "logs" / "node2.log").exists()
