"""A run of a scenario in virtual time, on a cluster without processes.

Time passes only when a run sleeps. So a moment is compared exactly, and no test waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from tests.judge.test_thresholds import result
from tests.widgets.fake_cluster import FakeCluster
from zmqlab import Scenario
from zmqlab.judge.verdict import LoadResult
from zmqlab.scenarios.scenario_run import _Run
from zmqlab.scenarios.scenario_steps import Served
from zmqlab.tables import NodeState, StatusTable


class Moments:
    """Stands for the module ``time``: sleeping passes the time, and what was planned happens meanwhile."""

    def __init__(self) -> None:
        self.now = 100.0
        self._plans: list[tuple[float, Callable[[], object]]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        while self._plans and self._plans[0][0] <= until:
            self.now, happen = self._plans.pop(0)
            happen()
        self.now = until

    def plan(self, at_s: float, happen: Callable[[], object]) -> None:
        self._plans.append((100.0 + at_s, happen))
        self._plans.sort(key=lambda plan: plan[0])


class MortalCluster(FakeCluster):
    """A cluster without processes whose nodes die, come back, and tell when."""

    def __init__(self, time: Moments) -> None:
        super().__init__()
        self._time = time
        self.told: list[tuple[float, str, str]] = []
        """When, what, and to whom."""

    def did(self, *action: Any) -> None:
        what, name = action[0], str(action[1])
        self.told.append((round(self._time.now - 100, 3), what, name))
        if what == "SIGKILL":
            self.running = tuple(each for each in self.running if each != name)
        if what == "restart":
            self.running = tuple(sorted({*self.running, name}))
        super().did(*action)

    def status(self) -> StatusTable:
        newest = self.feed.newest()
        return StatusTable(tuple(NodeState(name, "", "running", newest.get(name)) for name in self.running))


class Running:
    """Stands for a load client that runs until it is stopped."""

    def __init__(self, time: Moments, ends_s: float) -> None:
        self._time = time
        self._ends = 100 + ends_s
        self.settings = SimpleNamespace(rate_text="1,000 orders/s", duration_s=ends_s)

    def start(self) -> None:
        """It has begun."""

    def stop(self) -> None:
        self._ends = self._time.now

    @property
    def running(self) -> bool:
        return self._time.now < self._ends

    def wait(self) -> LoadResult:
        return result([])


def steps_taken(
    cluster: MortalCluster, time: Moments, /, *steps: Mapping[str, Any], seed: int = 1, **values: Any
) -> tuple[_Run, list[str]]:
    """The steps of a scenario, taken; and what went wrong. ``values``: its other entries."""
    scenario = {"teaches": "x.", "load": {"duration": "20s"}, "steps": steps, "expect": ["verdict passed"], **values}
    served = Served()
    cluster.feed.on_load_frame(served.take, at_once=True)
    loads = {"load": Running(time, 20)}
    run = _Run(Scenario.of(scenario), cluster, loads, served, lambda _: None, seed)  # type: ignore[arg-type]
    cluster.feed.on_event(run.hear, at_once=True)
    run.begin()
    return run, run.take_steps()
