"""The button for scenarios: what it offers, what it tells while one runs, and what it shows in the end."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from ipywidgets.widgets.widget import _instances as all_widgets

from zmqlab.errors import ClusterError, SettingsError
from zmqlab.scenarios.expectations import Met
from zmqlab.scenarios.scenario_file import Scenario, shipped
from zmqlab.scenarios.scenario_run import Line, ScenarioResult
from zmqlab.widgets import ScenarioRunner


def test_it_offers_what_is_shipped_and_tells_a_run_as_it_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    half_way, goes_on = threading.Event(), threading.Event()

    def run(scenario: Scenario, tell: Any) -> ScenarioResult:
        tell(Line(1.0, "kill <leader>"))
        half_way.set()
        goes_on.wait(60)
        return ScenarioResult(scenario.name, scenario.teaches, 1, [], [Met("gap < 1s", True, "gap 3 ms")], {})

    monkeypatch.setattr(Scenario, "run", run)
    button = ScenarioRunner()
    assert list(button._choice.options) == shipped()
    button._choice.value = "kill-the-leader"
    assert "A leader that dies" in button._teaches.value
    thread = button.run()
    assert half_way.wait(60)
    assert button._button.disabled
    assert "kill &lt;leader&gt;" in button._told.value
    goes_on.set()
    thread.join(60)
    assert button.result is not None
    assert "1 of 1 expectations met" in button._told.value
    assert "1 of 1 expectations met" in button._repr_html_()
    assert not button._button.disabled
    button.close()


def test_a_button_that_is_closed_leaves_no_widget_open() -> None:
    """Five parts, each with a layout and a style of its own, stayed with the kernel."""
    before = dict(all_widgets)
    ScenarioRunner("power-cut").close()
    assert all_widgets == before


def test_what_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(scenario: Scenario, tell: Any) -> ScenarioResult:
        raise ClusterError("no ports are free")

    monkeypatch.setattr(Scenario, "run", run)
    button = ScenarioRunner("power-cut")
    button.run().join(60)
    assert "power-cut did not run: no ports are free" in button._told.value
    assert not button._button.disabled
    button.close()
    with pytest.raises(SettingsError, match="is no file"):
        ScenarioRunner(tmp_path / "none.yaml")
