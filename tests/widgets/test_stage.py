"""The stage: what it is made of, what its figures claim, and that errors speak of buttons."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.waiting import wait_for
from tests.widgets.fake_cluster import FakeCluster
from zmqlab.judge.live_count import SoFar
from zmqlab.judge.verdict import LoadResult
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.load_client import LoadClient
from zmqlab.widgets import panel
from zmqlab.widgets.book_chart import BookWatch
from zmqlab.widgets.chart_widgets import enlarge
from zmqlab.widgets.lab_panel import TABS, Lab
from zmqlab.widgets.panel import in_buttons
from zmqlab.widgets.sampler import Sampler
from zmqlab.widgets.stage import Stage, StageActions, StageChart, StageFigures
from zmqlab.widgets.status_line import StatusLine

LAB = Path(__file__).parents[2] / "zmqlab" / "lab"


@pytest.fixture
def lab(cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(BookWatch, "_run", lambda self: None)
    for name in cluster.nodes:
        cluster.say(name)
    sampler.turn()
    return Lab(cast(Cluster, cluster), layout="stage", title="A <title>", base_px=18)


def test_a_stage_has_all_parts_of_the_panel(lab: Lab) -> None:
    (stage,) = lab.children
    assert isinstance(stage, Stage)
    places = {"status", "figures", "picture", "chart", "cards", "actions"}
    tabbed = {name for _, names in TABS for name in names} - {"groups"}
    assert set(stage._parts) == places | tabbed
    assert set(lab._parts) <= set(stage._parts.values())
    assert stage._base_px == 18
    html = lab._repr_mimebundle_()
    html = html[0] if isinstance(html, tuple) else html
    assert "node2" in html["text/html"]
    lab.close()
    assert not [each for each in (stage, *stage._parts.values()) if each.comm is not None]


def test_the_stage_of_a_cluster_with_shards_has_the_table_of_groups(cluster: FakeCluster, sampler: Sampler) -> None:
    """The panel had it, and the stage did not."""
    cluster.shards = 3
    lab = Lab(cast(Cluster, cluster), layout="stage")
    (stage,) = lab.children
    assert stage._parts["groups"] is lab.groups
    assert stage._tabs[0] == {"label": "nodes", "parts": ["nodes", "groups", "consistency"]}
    lab.close()


def test_a_layout_that_there_is_not(cluster: FakeCluster, sampler: Sampler) -> None:
    with pytest.raises(ValueError, match="take 'panel' or 'stage'"):
        Lab(cast(Cluster, cluster), layout=cast(Any, "wall"))


def test_a_verdict_that_a_cell_asked_for_is_shown_by_all_parts(lab: Lab) -> None:
    check = SimpleNamespace(name="nothing lost", ok=False, detail="3 orders are missing")
    verdict = SimpleNamespace(checks=[check], outcome="failed")
    report = SimpleNamespace(result=SimpleNamespace(started_ns=0))
    lab.judged(cast(LoadResult, SimpleNamespace(verdict=verdict, report=report)))
    assert lab._figures is not None
    assert lab._figures._state["lost"] == "3 orders are missing"
    assert lab.status._watch.outcome == "failed"


def test_a_title_is_text_and_not_html(lab: Lab) -> None:
    (stage,) = lab.children
    assert "A &lt;title&gt;" in stage._repr_html_()


def test_figures_claim_nothing_without_a_load(cluster: FakeCluster, sampler: Sampler) -> None:
    sampler.turn()
    figures = StageFigures(cast(Cluster, cluster))
    state = figures.make_state()
    assert (state["acknowledged"], state["p99_ms"], state["lost"], state["runs"]) == (None, None, "", False)
    cluster.load(offered=200, acknowledged=150)
    sampler.turn()
    state = figures.make_state()
    assert (state["acknowledged"], state["offered"], state["runs"]) == (1_500, 2_000, True)
    assert state["p99_ms"] == pytest.approx(2.0, rel=0.1)
    cluster.load(offered=200, acknowledged=250)
    sampler.turn()
    assert figures.make_state()["acknowledged"] == 2_000, "a tenth of a second is no figure: it jumps"
    figures.refresh(now=True)
    assert "2000.0" in figures.html()


def test_lost_orders_are_the_verdicts_word(cluster: FakeCluster, sampler: Sampler) -> None:
    sampler.turn()
    figures = StageFigures(cast(Cluster, cluster))
    check = SimpleNamespace(name="nothing lost", ok=None, detail="")
    figures.judged(cast(LoadResult, SimpleNamespace(verdict=SimpleNamespace(checks=[check]))))
    assert figures.make_state()["lost"] == "not judged"
    check.ok, check.detail = False, "3 orders are missing"
    figures.judged(cast(LoadResult, SimpleNamespace(verdict=SimpleNamespace(checks=[check]))))
    assert figures.make_state()["lost"] == "3 orders are missing"
    cluster.load()
    sampler.turn()
    assert figures.make_state()["lost"] == "", "that was of another run"


def test_lost_so_far_is_of_the_load_that_runs(cluster: FakeCluster, sampler: Sampler) -> None:
    cluster.load()
    sampler.turn()
    load = SimpleNamespace(running=True, so_far=SoFar(acknowledged=120, looked_up=100, lost=2, age_s=3.4))
    figures = StageFigures(cast(Cluster, cluster), lambda: cast(LoadClient, load))
    counted = figures.make_state()["so_far"]
    assert (counted["lost"], counted["looked_up"], counted["age_s"]) == (2, 100, 3)
    load.so_far = None
    assert figures.make_state()["so_far"] is None, "it is not counted, or not yet"
    load.so_far, load.running = SoFar(), False
    assert figures.make_state()["so_far"] is None
    assert not figures.make_state()["silent"]


def test_a_load_that_is_not_heard_is_not_said_to_have_ended(cluster: FakeCluster, sampler: Sampler) -> None:
    sampler.turn()
    load = SimpleNamespace(running=True, so_far=None)
    figures = StageFigures(cast(Cluster, cluster), lambda: cast(LoadClient, load))
    assert (figures.make_state()["runs"], figures.make_state()["silent"]) == (False, True)


def test_one_row_of_actions_has_every_fault(cluster: FakeCluster, sampler: Sampler) -> None:
    sampler.turn()
    actions = StageActions(cast(Cluster, cluster))
    assert [each["button"] for each in actions._controls] == [control.button for control in FAULTS.controls]
    actions.do_strike("isolate the leader")
    assert wait_for(lambda: {name for link in cluster.links for name in link} == set(cluster.nodes))
    assert actions.make_state()["links_of"] == ["node0", "node1", "node2"]


def test_text_on_a_stage_is_larger(cluster: FakeCluster, sampler: Sampler) -> None:
    sampler.turn()
    small, large = (StageChart(cast(Cluster, cluster), base).static() for base in (12, 18))
    assert [each.title.text_font_size for each in (small.children[0], large.children[0])] == ["13px", "13px"]
    enlarge(large, 1.5)
    chart = large.children[0]
    assert (chart.title.text_font_size, chart.min_border_left, chart.legend[0].label_text_font_size) == (
        "20px",
        93,
        "15px",
    )


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("node1 is not running: cluster.restart('node1') starts it", "the button “restart” beside node1 starts it"),
        ("a majority must: cluster.restart(name) starts one, cluster.status() shows all", "beside a node starts one"),
        ("the load client has not ended in time: load.stop() ends it, load.close() kills it", "press “stop and judge”"),
    ],
)
def test_advice_names_the_button(said: str, shown: str) -> None:
    assert in_buttons(said).endswith(shown)


FOR_PYTHON = ("has not been started", "of another process")
"""Errors that no button of a panel can cause: without a started cluster, and without one's own, there is no panel."""
NO_BUTTON = {"sampled_traces.py"}
"""Only code asks for the diagram of a trace."""


def messages() -> list[str]:
    """What the errors of the lab say, with a node's name wherever something is filled in."""
    found = []
    for path in (each for each in sorted(LAB.glob("*.py")) if each.name not in NO_BUTTON):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                found += [_text(each) for each in node.exc.args]
    return found


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(each) for each in node.values)
    if isinstance(node, ast.FormattedValue):
        return "'node1'" if node.conversion == ord("r") else "node1"
    return str(node.value) if isinstance(node, ast.Constant) else ""


def test_no_error_of_the_lab_asks_a_person_at_the_page_for_python() -> None:
    calls = re.compile(r"\b(cluster|load)\.\w+\(")
    advising = [text for text in messages() if calls.search(text)]
    assert len(advising) > 8
    shown = [in_buttons(text) for text in advising if not any(part in text for part in FOR_PYTHON)]
    assert [text for text in shown if calls.search(text)] == []


def test_the_status_line_and_the_large_figures_change_together(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each counted half a second from its own last refresh: two rates on one page were of two moments."""
    sampler.turn()
    now_s = 100.0
    monkeypatch.setattr(panel, "time", SimpleNamespace(monotonic=lambda: now_s))
    line, figures = StatusLine(cast(Cluster, cluster)), StageFigures(cast(Cluster, cluster))
    line.refresh(now=True)
    now_s = 100.3  # an event comes, which the figures show at once
    figures.refresh(now=True)
    now_s = 100.4
    assert not line.is_due()
    assert not figures.is_due()
    now_s = 100.5
    assert line.is_due()
    assert figures.is_due()
