"""The files of deploy/ are what the tools of their makers call right."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.monitoring.fakes import a_status, a_view
from tests.monitoring.server import DEPLOY, RULES, needs_prometheus
from zmqlab.lab.scraping import LoadExporter, Targets
from zmqlab.lab.scraping import View as LoadView
from zmqlab.lab.scraping import figures as load_figures
from zmqlab.load.load_messages import LoadCounters, LoadMetrics
from zmqlab.load.load_settings import LoadSettings
from zmqlab.node.exposition import Distribution, Figure, family_of, render
from zmqlab.node.prometheus import figures
from zmqlab.settings import NodeSettings

HERE = Path(__file__).parent
GUIDE = (HERE.parent.parent / "docs" / "monitoring.md").read_text()
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "zmqlab.json"


def promtool(*arguments: str, text: bytes = b"") -> str:
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, cwd=HERE, timeout=60)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


@needs_prometheus
@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus.compose.yml"])
def test_promtool_takes_the_configuration(name: str) -> None:
    assert "7 rules found" in promtool("check", "config", str(DEPLOY / "prometheus" / name))


@needs_prometheus
def test_each_alert_at_its_true_threshold_and_duration() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")


def test_each_alert_has_such_a_test() -> None:
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert alerts == set(re.findall(r"alertname: (\w+)", (HERE / "alerts.test.yml").read_text()))


def a_load_snapshot() -> LoadMetrics:
    return LoadMetrics(
        name="load",
        pid=1,
        time_ns=0,
        elapsed_s=1.0,
        interval_s=0.1,
        state="running",
        rate=1.0,
        total=LoadCounters(offered=5, acknowledged=4),
        interval=LoadCounters(),
        response_time={"300": 2},
        response_time_max_ns=1,
        service_time={},
        service_time_max_ns=0,
        outstanding=0,
        resting=0,
        connected=[],
        orders_by_node=[],
        rejected_by_reason={},
        silence_ms=0.0,
        longest_gap_ms=2_000.0,
        cpu_percent=0.0,
    )


def all_figures() -> list[Figure]:
    load = LoadView(a_load_snapshot(), Distribution(), Distribution())
    return [*figures(a_view(a_status(role="leader"))), *load_figures(load)]


@needs_prometheus
def test_promtool_finds_nothing_to_say_about_the_metrics() -> None:
    assert promtool("check", "metrics", text=render(all_figures())) == ""


def test_the_dashboard_is_what_its_maker_makes() -> None:
    made = runpy.run_path(str(DEPLOY / "grafana" / "dashboard.py"))["dashboard"]()
    assert json.loads(DASHBOARD.read_text()) == made, "python deploy/grafana/dashboard.py > its dashboards/zmqlab.json"


def missing(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """What of ``ours`` is not in ``theirs``."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            found
            for key, value in ours.items()
            for found in (missing(value, theirs[key], f"{path}/{key}") if key in theirs else [f"{path}/{key}"])
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            found
            for number, pair in enumerate(zip(ours, theirs, strict=True))
            for found in missing(*pair, f"{path}[{number}]")
        ]
    return [] if ours == theirs else [path]


def through_grafanas_schema(dashboard: Any) -> Any:
    """What is left of a dashboard after Grafana's own types have read it and written it again."""
    plugins.register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))


def test_the_dashboard_fits_grafanas_schema() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert missing(dashboard, through_grafanas_schema(dashboard)) == []


def test_a_slip_would_not_fit_grafanas_schema() -> None:
    dashboard = json.loads(DASHBOARD.read_text().replace('"lineWidth"', '"lineWidht"', 1))
    assert [path.rsplit("/", 1)[1] for path in missing(dashboard, through_grafanas_schema(dashboard))] == ["lineWidht"]


def test_every_panel_has_a_place_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        taken |= cells


def test_the_datasource_is_the_one_that_panels_name() -> None:
    text = DASHBOARD.read_text()
    named = set(re.findall(r'"uid": "(zmqlab-\w+)"', text))
    provisioned = (DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    assert named == set(re.findall(r"uid: (\S+)", provisioned))


# -- the guide -----------------------------------------------------------------------------------------------


def metric_table() -> str:
    """The table of metrics, as docs/monitoring.md shows it."""
    rows = []
    for family in map(family_of, all_figures()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {key for sample in family.samples for key in sample.labels} - {"le"}
        shown = "".join(f", `{label}`" for label in sorted(labels))[2:]
        rows.append(f"| `{name}` | {family.type} | {shown} | {family.documentation} |")
    return "\n".join(["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows])


def test_the_guide_lists_every_metric() -> None:
    assert metric_table() in GUIDE, metric_table()


def test_the_guide_says_what_to_do_at_each_alert() -> None:
    for alert in re.findall(r"alert: (\w+)", RULES.read_text()):
        assert f"| `{alert}` |" in GUIDE


# -- discovery -----------------------------------------------------------------------------------------------


def groups(targets: Targets) -> dict[str, dict[str, str]]:
    return {each["targets"][0]: each["labels"] for each in json.loads(targets.path.read_text())}


def test_the_list_of_targets(tmp_path: Path) -> None:
    targets = Targets(tmp_path, "lab")
    assert groups(targets) == {}
    nodes = [NodeSettings(name=f"node{n}", port=5_000 + 100 * n, metrics_port=5_003 + 100 * n) for n in range(2)]
    targets.show_nodes(nodes)
    load = LoadExporter(LoadSettings(nodes=("tcp://127.0.0.1:5002",), name="mine"), "127.0.0.1", 0, targets)
    address = f"127.0.0.1:{load.port}"
    assert groups(targets) == {
        "127.0.0.1:5003": {"job": "zmqlab", "cluster": "lab", "node": "node0"},
        "127.0.0.1:5103": {"job": "zmqlab", "cluster": "lab", "node": "node1"},
        address: {"job": "zmqlab-load", "cluster": "lab", "client": "mine"},
    }
    targets.show_nodes(nodes[:1])
    load.close()
    assert list(groups(targets)) == ["127.0.0.1:5003"]
    targets.clear()
    assert groups(targets) == {}
    assert os.listdir(targets.path.parent) == [targets.path.name]


def test_a_load_client_shows_its_snapshots() -> None:
    load = LoadExporter(LoadSettings(nodes=("tcp://127.0.0.1:5002",)), "127.0.0.1", 0, None)
    try:
        for _ in range(3):
            load.take(a_load_snapshot())
        shown = load._metrics().decode()
    finally:
        load.close()
    assert "zmqlab_load_orders_offered_total 5\n" in shown
    assert "zmqlab_load_longest_gap_seconds 2.0" in shown
    assert "zmqlab_load_response_time_seconds_count 6\n" in shown


def test_the_targets_for_nodes_by_hand_are_those_of_the_guide() -> None:
    by_hand = json.loads((DEPLOY / "prometheus" / "by-hand.json").read_text())
    commands = re.findall(r"--metrics-port (\d+)", GUIDE)
    assert [each["targets"][0] for each in by_hand] == [f"localhost:{port}" for port in commands]


def test_a_missing_prometheus_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    reason = runpy.run_path(str(HERE / "server.py"))["needs_prometheus"].kwargs["reason"]
    assert "apt-get install prometheus" in reason
