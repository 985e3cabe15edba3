"""Scenarios on a page: one to choose, a button that runs it, its story as it happens, and whether it was as expected.

A run has a cluster of its own (:mod:`zmqlab.scenarios.scenario_run`), which ends with it. It takes place in a thread,
so that the page goes on. While it runs the button is off: two runs at once would disturb each other on one machine.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets

from zmqlab.errors import ZmqlabError
from zmqlab.scenarios.scenario_file import Scenario, shipped
from zmqlab.scenarios.scenario_run import Line, ScenarioResult
from zmqlab.tables import html_table
from zmqlab.widgets.courier import close_rest
from zmqlab.widgets.live_figure import with_html


class ScenarioRunner(ipywidgets.VBox):
    """A button for scenarios: ``ScenarioRunner()`` as a cell's last line.

    Args:
        paths: files or names to choose from; by default all that come with the package.

    Raises:
        SettingsError: one of them is no scenario; the message says what is wrong with it.
    """

    def __init__(self, paths: Sequence[str | Path] | str | Path = ()) -> None:
        self._parts: tuple[Any, ...] = ()
        """What is closed with it; empty while it is not whole, as when a file is wrong."""
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        self._scenarios = {each.name: each for each in map(Scenario.read, given or shipped())}
        self.result: ScenarioResult | None = None
        """Of the last run that has ended."""
        self._story: list[Line] = []
        self._choice = ipywidgets.Dropdown(options=list(self._scenarios), description="scenario")
        self._button = ipywidgets.Button(description="run", button_style="primary")
        self._teaches, self._told = ipywidgets.HTML(), ipywidgets.HTML()
        self._choice.observe(self._chosen, "value")
        self._button.on_click(lambda _: self.run())
        self._bar = ipywidgets.HBox([self._choice, self._button])
        self._parts = (self._choice, self._button, self._teaches, self._told, self._bar)
        super().__init__(children=[self._bar, self._teaches, self._told])
        self._chosen()

    def run(self) -> threading.Thread:
        """Run what is chosen, in a thread; what a click on the button does."""
        self._button.disabled = self._choice.disabled = True
        self._story, self.result = [], None
        thread = threading.Thread(target=self._run, args=(self._scenarios[self._choice.value],), daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Take it from the page; a run that is under way goes on to its end."""
        for part in self._parts:
            part.close()
            close_rest(part)
        super().close()
        close_rest(self)

    def _run(self, scenario: Scenario) -> None:
        try:
            self.result = scenario.run(self._hear)
            self._told.value = self.result._repr_html_()
        except ZmqlabError as error:
            self._told.value = f"<p>{escape(scenario.name)} did not run: {escape(str(error))}</p>"
        finally:
            self._button.disabled = self._choice.disabled = False

    def _hear(self, line: Line) -> None:
        self._story.append(line)
        self._told.value = html_table(
            ("time, s", "what happened"), [(f"{each.at_s:.2f}", each.text) for each in self._story]
        )

    def _chosen(self, _change: object = None) -> None:
        self._teaches.value = f"<p>{escape(self._scenarios[self._choice.value].teaches)}</p>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_html(super()._repr_mimebundle_(**kwargs), self._repr_html_())

    def _repr_html_(self) -> str:
        return self.result._repr_html_() if self.result is not None else str(self._teaches.value)

    def __repr__(self) -> str:
        return f"ScenarioRunner({self._choice.value!r})"
