"""Scenario files: what can be written, what is wrong with what was written, and where that stands."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from zmqlab import Scenario
from zmqlab.errors import SettingsError
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.scenarios.scenario_conditions import CONDITIONS, events
from zmqlab.scenarios.scenario_file import KEYS, SHIPPED, find, known_keys, load_keys, shipped
from zmqlab.scenarios.scenario_steps import ROLES
from zmqlab.scenarios.written import read_yaml

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "scenarios.md"

SMALL = """
teaches: A leader that dies costs little.
cluster: {nodes: 3}
load: {rate: 1000, duration: 6s}
steps:
  - at: 1s
    fault: kill leader
  - when: elected
    after: 500ms
    undo: kill leader
expect: [verdict passed]
"""


def read(tmp_path: Path, text: str) -> Scenario:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return Scenario.read(path)


def with_steps(*steps: Mapping[str, Any], **others: Any) -> Scenario:
    """A scenario as a Python file has it."""
    values = {"teaches": "Something.", "load": {"duration": "6s"}, "steps": steps, "expect": ["verdict passed"]}
    return Scenario.of(values | others)


def test_a_small_file_is_read(tmp_path: Path) -> None:
    scenario = read(tmp_path, SMALL)
    assert (scenario.name, scenario.teaches) == ("mine", "A leader that dies costs little.")
    assert (scenario.seed, scenario.ends_s, list(scenario.loads)) == (1, 6.0, ["load"])
    kill, undo = scenario.steps
    assert (kill.at_s, kill.name, kill.hold_s) == (1.0, "kill leader", None)
    assert undo.when is not None
    assert (undo.when.text, undo.after_s, undo.undo) == ("elected", 0.5, ("kill leader",))


@pytest.mark.parametrize(
    ("wrong", "place", "said"),
    [
        (("steps:", "stepps:"), "line 5, stepps", "there is no 'stepps': 'steps' perhaps; there is teaches, cluster"),
        (("teaches: A leader that dies costs little.\n", ""), "mine.yaml, line 2:", "'teaches' is missing"),
        (("expect: [verdict passed]", ""), "mine.yaml, line 2:", "'expect' is missing"),
        (("nodes: 3", "nodes: three"), "line 3, cluster", "nodes is 'three': it must be a whole number from 1 to 15"),
        (("nodes: 3", "node: 3"), "line 3, cluster, node", "there is no 'node': 'nodes' perhaps"),
        (("nodes: 3", "run_dir: /tmp"), "line 3, cluster, run_dir", "there is no 'run_dir'"),
        (
            ("nodes: 3", "settings: {port: 7}"),
            "line 3, cluster, settings, port",
            "there is no 'port': there is tick_ms",
        ),
        (("nodes: 3", "settings: {tick_ms: 0}"), "line 3, cluster", "tick_ms is 0"),
        (("rate: 1000", "rate: fast"), "line 4, load", "'fast' is not a rate"),
        (("rate: 1000", "rates: 1000"), "line 4, load, rates", "there is no 'rates': 'rate' perhaps"),
        (("rate: 1000", "mix: {pasive: 1}"), "line 4, load, mix, pasive", "'passive' perhaps"),
        (("rate: 1000", "mix: {cancel: -1}"), "line 4, load", "share cancel is -1"),
        (("rate: 1000", "stages: '1s:5'"), "line 4, load", "stages begin at 1 s"),
        (("duration: 6s", "duration: null"), "line 4, load", "it has no end: write a duration"),
        (("load:", "loads:"), "line 4, loads, rate", "it is 1000: write keys and values"),
        (
            ("fault: kill leader\n", "fault: kil leader\n"),
            "line 7, step 1, fault",
            "'kill leader' perhaps; there is kill",
        ),
        (("fault: kill leader\n", "fault: kill minority\n"), "line 7, step 1, fault", "needs 5 nodes, and the cluster"),
        (("fault: kill leader\n", "fault: delay leader\n"), "line 7, step 1, fault", "write amount, from 50 to 300"),
        (("    fault: kill leader", "    amount: 5\n    fault: kill leader"), "line 7, step 1, amount", "has no size"),
        (("    fault: kill leader", "    amount: 5\n    fault: delay all\n    fault: x"), "line 9", "stands twice"),
        (("    fault: kill leader", "    node: node0\n    fault: kill leader"), "step 1, node", "only a button"),
        (("fault: kill leader\n", "press: kil\n"), "line 7, step 1, press", "no button is called 'kil'"),
        (("fault: kill leader\n", "press: pause\n"), "line 7, step 1, press", "write node: NODE beside it"),
        (("fault: kill leader\n", "press: cut\n    node: node1\n"), "line 7, step 1", "write link: [NODE, NODE]"),
        (("    fault: kill leader", "    press: pause\n    node: node3"), "step 1, node", "no node is called 'node3'"),
        (("    fault: kill leader", "    press: pause\n    node: leeder"), "step 1, node", "'leader' perhaps"),
        (
            ("    fault: kill leader", "    press: make worse\n    link: [node0, node1]\n    delay_ms: 900"),
            "line 9, step 1, delay_ms",
            "it is 900: write a number from 0 to 500",
        ),
        (("    fault: kill leader", "    press: pause\n    node: node0\n    loss: 1"), "step 1, loss", "has no loss"),
        (("when: elected", "when: electd"), "line 8, step 2, when", "'elected' perhaps; there is leader, recovered"),
        (("when: elected", "when: elected node9"), "line 8, step 2, when", "no node is called 'node9'"),
        (("when: elected", "when: caught_up"), "line 8, step 2, when", "write 'caught_up NODE'"),
        (("when: elected", "when: recovered now"), "line 8, step 2, when", "write 'recovered'"),
        (("when: elected", "when: silent long"), "line 8, step 2, when", "'long' is not a duration"),
        (("when: elected", "when: 5"), "line 8, step 2, when", "it is 5: write text"),
        (("undo: kill leader", "undo: kill"), "line 10, step 2, undo", "called 'kill': there is all, kill leader"),
        (("    fault: kill leader", "    fault: kill leader\n    for: 1s"), "step 2, undo", "nothing is left to undo"),
        (("undo: kill leader", "node: node1"), "line 10, step 2, node", "node is for a fault"),
        (("undo: kill leader", "fault: kill leader\n    undo: all"), "step 2", "it has fault and undo"),
        (("  - at: 1s\n    fault: kill leader", "  - name: nothing"), "line 6, step 1", "it does nothing"),
        (("at: 1s", "at: soon"), "line 6, step 1, at", "'soon' is not a duration above zero"),
        (("at: 1s", "at: 7s"), "line 6, step 1", "it ends at 7 s at the earliest, and the load at 6 s"),
        (("after: 500ms", "after: 5.5s"), "line 8, step 2", "it ends at 6.5 s at the earliest"),
        (("when: elected", "at: 500ms"), "line 8, step 2, at", "the step before it ends at 1 s at the earliest"),
        (("when: elected", "within: 5s"), "line 8, step 2, within", "there is nothing to wait for"),
        (("    fault: kill leader", "    fault: kill leader\n    repeat: 3"), "step 1, repeat", "write for beside it"),
        (
            ("    fault: kill leader", "    fault: kill leader\n    for: 2s\n    repeat: 2\n    every: 1s"),
            "line 10, step 1, every",
            "it is shorter than for, 2 s",
        ),
        (("[verdict passed]", "[verdict great]"), "line 11, expect 1", "there is passed, failed, not judged"),
        (("[verdict passed]", "[p98 < 5ms]"), "line 11, expect 1", "nothing is measured as 'p98'"),
        (("[verdict passed]", "[gap < 5]"), "line 11, expect 1", "the unit of gap is us, ms or s"),
        (("[verdict passed]", "[fast]"), "line 11, expect 1", "'fast' expects nothing: write 'verdict passed'"),
        (("[verdict passed]", "[term == 1.5]"), "line 11, expect 1", "'term' is a count"),
        (("[verdict passed]", "verdict passed"), "line 11, expect", "write a list"),
        (("expect:", "seed: -1\nexpect:"), "line 11, seed", "it is -1: write a whole number"),
        (("{nodes: 3}", "&a {nodes: *a}"), "line 3", "an alias stands for another part of the file"),
        (("{nodes: 3}", "{nodes: 3"), "line 4", "it is not YAML"),
        (("{nodes: 3}", "!!python/object:os.system {}"), "line 3", "makes no plain value: leave the tag away"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(
    tmp_path: Path, wrong: tuple[str, str], place: str, said: str
) -> None:
    assert wrong[0] in SMALL
    with pytest.raises(SettingsError) as raised:
        read(tmp_path, SMALL.replace(*wrong, 1))
    text = str(raised.value)
    assert text.startswith(str(tmp_path / "mine.yaml"))
    assert place in text
    assert said in text
    assert "\n" not in text


ODD = [5, -1, 1.5, True, None, "x", "", [], {}, [1], {"a": 1}, [[]], float("nan"), float("inf"), "9" * 400, object()]
STEPS: list[dict[str, Any]] = [
    {},
    {"fault": "kill leader"},
    {"press": "make worse", "link": ["node0", "node1"]},
    {"when": "elected"},
]
"""To each of these an odd value is added."""


@pytest.mark.parametrize(
    "keys",
    [KEYS, ("nodes", "durability", "settings"), tuple(load_keys()), tuple(known_keys())],
    ids=lambda keys: keys[0],
)
def test_no_odd_value_is_more_than_an_error_of_settings(keys: tuple[str, ...]) -> None:
    """In every place of a file; a traceback would name a line of this package, and none of the file."""
    part = {"nodes": "cluster", "at": "steps"}.get(keys[0], "" if keys is KEYS else "load")
    whole = {"teaches": "x.", "load": {"duration": "6s"}, "expect": ["gap < 1s"]}
    for key, odd, beside in product(keys, ODD, STEPS if part == "steps" else [{}]):
        value: Any = beside | {key: odd}
        value = {part: [value] if part == "steps" else value} if part else value
        with contextlib.suppress(SettingsError):
            assert Scenario.of(whole | value).name == "scenario"


def test_files_that_are_none(tmp_path: Path) -> None:
    for text, said in [("", "the file is empty"), ("[1, 2]", "write keys and values"), ("a: \x07", "it is not YAML")]:
        with pytest.raises(SettingsError, match=said):
            read(tmp_path, text)
    (tmp_path / "mine.yaml").write_bytes(b"teaches: \xff")
    with pytest.raises(SettingsError, match="can't be read: it is not text in UTF-8"):
        Scenario.read(tmp_path / "mine.yaml")
    with pytest.raises(SettingsError, match=r"'kill-the-leadr' is no file.*'kill-the-leader' perhaps"):
        Scenario.read("kill-the-leadr")


def test_a_yaml_file_makes_no_objects() -> None:
    for text in ("!!python/object/apply:os.getcwd []", "a: !!python/name:os.system", "!!binary x"):
        with pytest.raises(SettingsError) as raised:
            read_yaml(text, "evil.yaml").entries(("a",))["a"].text()
        assert str(raised.value).startswith("evil.yaml")


def test_a_python_file_may_have_functions(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "def two_have_died(situation):\n    return len(situation.cluster.running) == 1\n\n"
        "scenario = dict(teaches='More.', load=dict(duration='3s'), expect=['verdict passed'], steps=[\n"
        "    dict(when=two_have_died, do=lambda situation: situation.cluster.restart('node1'))])\n"
    )
    step = Scenario.read(path).steps[0]
    assert step.when is not None
    assert step.when.text == "two have died"
    assert step.action is not None
    assert not step.action.is_held
    for text, said in [("1 / 0", "failed when it was read: ZeroDivisionError"), ("x = 1", "defines no scenario")]:
        path.write_text(text)
        with pytest.raises(SettingsError, match=said):
            Scenario.read(path)
    path.write_text("scenario = {'teaches': 'x', 'expect': [], 'load': {}, 'steps': [{'do': 'restart'}]}")
    with pytest.raises(SettingsError, match=r"mine\.py, step 1, do: do is a function"):
        Scenario.read(path)


def test_a_scenario_that_scales_may_name_nodes_that_come() -> None:
    scale = {"fault": "scale up", "amount": 1}
    assert len(with_steps(scale, {"press": "pause", "node": "node3", "for": "1s"}).steps) == 2
    with pytest.raises(SettingsError, match="no node is called 'node3'"):
        with_steps({"press": "pause", "node": "node3", "for": "1s"})


def test_several_loads_have_names() -> None:
    loads = {"open": {"rate": 100, "duration": "3s"}, "closed": {"rate": "max", "duration": "5s"}}
    values = {"teaches": "Two.", "loads": loads, "expect": ["closed.p99 < 5ms", "open.verdict passed"]}
    scenario = Scenario.of(values)
    assert scenario.ends_s == 5.0
    assert [(each.load, each.text) for each in scenario.expect] == [
        ("closed", "closed.p99 < 5ms"),
        ("open", "open.verdict passed"),
    ]
    for wrong, said in [
        ({"loads": {"Big": {}}}, "use small letters"),
        ({"loads": {}}, "there is no load"),
        ({"load": {}}, "and not both"),
        ({"loads": {"open": {"name": "x"}}}, "loads, open, name: there is no 'name'"),
    ]:
        with pytest.raises(SettingsError, match=said):
            Scenario.of(values | wrong)


def test_a_verdict_that_passes_is_expected_unless_another_one_is() -> None:
    assert [each.text for each in with_steps(expect=["gap < 1s"]).expect] == ["verdict passed", "gap < 1s"]
    assert [each.text for each in with_steps(expect=["verdict failed"]).expect] == ["verdict failed"]


@pytest.mark.parametrize("name", shipped())
def test_what_is_shipped_can_be_read_and_opens_with_what_it_teaches(name: str) -> None:
    scenario = Scenario.read(name)
    assert (SHIPPED / f"{name}.yaml").read_text().startswith("teaches: ")
    assert scenario.teaches.endswith(".")
    assert scenario.ends_s <= 12
    assert Scenario.read(ROOT / "scenarios" / f"{name}.yaml") is not None


def test_there_are_fourteen_and_a_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(shipped()) >= 14
    assert find("kill-the-leader") == find("kill-the-leader.yaml") == SHIPPED / "kill-the-leader.yaml"
    monkeypatch.chdir(tmp_path)
    Path("kill-the-leader.yaml").write_text(SMALL)
    assert Scenario.read("kill-the-leader.yaml").teaches == "A leader that dies costs little."


def test_all_that_is_registered_can_be_written() -> None:
    """A fault that another module registers is a fault of scenarios as well, by its own name."""
    for (kind, _), draw in FAULTS.draws.items():
        size = {"amount": draw.amount[0]} if draw.amount[1] else {}
        step = {"fault": f"{kind} {draw.name}", "for": "1s"} | size
        assert with_steps(step, cluster={"nodes": 5}).steps[0].name == f"{kind} {draw.name}"
    for control in FAULTS.controls:
        victims = {"node": {"node": "node1"}, "link": {"link": ["node1", "leader"]}, "leader": {}}[control.target]
        sizes = {each.name: each.high for each in control.parameters}
        assert with_steps({"press": control.button, "for": "1s"} | victims | sizes).steps[0].name == control.button


def test_the_examples_on_the_page_are_scenarios(tmp_path: Path) -> None:
    blocks = re.findall(r"```(yaml|python)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    whole, story, load, shards = (text for language, text in blocks if language == "yaml")
    assert read(tmp_path, whole).steps[0].name == "kill leader"
    told = read(tmp_path, f"teaches: A story.\nload: {{rate: 100, duration: 5s}}\n{story}expect: []\n")
    assert told.predict is not None
    assert told.steps[0].caption
    assert read(tmp_path, f"teaches: A load.\n{load}expect: []\n").ends_s == 9
    of_shards = "teaches: A group.\ncluster: {nodes: 3, shards: 4}\nload: {rate: 100, duration: 5s}\n"
    assert [step.group for step in read(tmp_path, of_shards + shards).steps] == [3, 3]
    program = tmp_path / "handover.py"
    program.write_text(next(text for language, text in blocks if language == "python" and "scenario = {" in text))
    step = Scenario.read(program).steps[0]
    assert (step.when and step.when.text, step.action and step.action.text) == ("half of them served", "hand over")


def test_the_page_explains_every_key() -> None:
    page = PAGE.read_text()
    missing = [word for word in (*known_keys(), *CONDITIONS, *ROLES, *events()) if f"`{word}" not in page]
    assert missing == []
    assert [key for key in load_keys() if f"`{key}`" not in page and key not in ("rate", "duration")] == []
    assert [name for name in shipped() if f"`{name}`" not in page] == []
