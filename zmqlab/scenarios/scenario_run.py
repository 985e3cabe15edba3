"""One run of a scenario: cluster, loads, steps one after the other, the verdict, and what was expected.

Time counts from the moment at which all loads are about to send their first order. A step waits until its moment
(``at``), then for its condition (``when``), then for its delay (``after``), and then it acts. It ends when its fault is
undone, or, without ``for``, when the fault has struck. A step that comes too late, because a condition took long, acts
at once. So steps never overlap, and the story reads from top to bottom.

A condition that does not come within its bound, and a fault that can't strike, are *problems*: the steps behind it are
left out, the loads are stopped and judged, and the run has not met what was expected. At the end nothing is mended: the
nodes that run then are judged.

The loads are judged when all of them have ended, because the verdict waits for nodes that stand at one index. Where
nodes forget their log early (``journal_retain_bytes``), it is collected while the run goes on.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from zmqlab.errors import EXIT_FAILED, EXIT_NOT_JUDGED, EXIT_OK, ClusterError, ZmqlabError
from zmqlab.judge.log_collector import Collectors
from zmqlab.judge.verdict import LoadResult
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.events import LabEvent, Sort
from zmqlab.lab.evidence_of_run import collectors_of
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.group_facts import how_many_are_led
from zmqlab.lab.load_client import LoadClient
from zmqlab.runs.kept_run import Run, as_word
from zmqlab.scenarios.expectations import Met
from zmqlab.scenarios.nemesis import Nemesis
from zmqlab.scenarios.scenario_conditions import Condition
from zmqlab.scenarios.scenario_file import Scenario, Step
from zmqlab.scenarios.scenario_steps import Served, Situation, undone
from zmqlab.tables import GAPS_HEAD, html_table, text_table
from zmqlab.wire.control import Event
from zmqlab.wording import counted

POLL_S = 0.02
"""How often a condition is looked at: an election takes ten times as long."""
_WORDS = {True: "met", False: "NOT MET", None: "NOT KNOWN"}
HEAD = ("", "expected", "was")


class Line(NamedTuple):
    """One line of the story."""

    at_s: float
    """Since the first order; negative before."""
    text: str
    is_caption: bool = False
    """It is for a class, and tells what is to be seen."""

    def __str__(self) -> str:
        return f"{self.at_s:7.2f} s  {'» ' * self.is_caption}{self.text}"


@dataclass(frozen=True, slots=True, repr=False)
class ScenarioResult:
    """What became of a run; shows itself as text and as HTML."""

    name: str
    teaches: str
    seed: int
    story: Sequence[Line]
    expectations: Sequence[Met]
    results: Mapping[str, LoadResult]
    """By the name of the load: its figures and its verdict."""
    problems: Sequence[str] = field(default_factory=tuple)
    """Why the steps were not all taken, if so."""
    run_dir: str = ""
    """Where logs and journals are, if they were kept."""
    kept: Sequence[str] = field(default_factory=tuple)
    """The folders of the kept runs, one for each load."""
    struck: Sequence[int] = ()
    """With several Raft groups: those that a node led when a fault hit it."""

    @property
    def ok(self) -> bool:
        """Whether all steps were taken and every expectation was met."""
        return not self.problems and all(met.ok for met in self.expectations)

    @property
    def exit_status(self) -> int:
        """What the command ends with: 0 if all is as expected, 9 if the rest is not known, otherwise 1."""
        if self.ok:
            return EXIT_OK
        unknown = not self.problems and all(met.ok is not False for met in self.expectations)
        return EXIT_NOT_JUDGED if unknown else EXIT_FAILED

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ok": self.ok,
            "scenario": self.name,
            "teaches": self.teaches,
            "seed": self.seed,
            "story": [line._asdict() for line in self.story],
            "expectations": [met._asdict() for met in self.expectations],
            "problems": list(self.problems),
            "loads": {name: result.as_dict() for name, result in self.results.items()},
            "run_dir": self.run_dir or None,
            "kept": list(self.kept),
            "struck": list(self.struck),
        }

    def summary(self) -> str:
        """What was expected and what was, and whether that is the same: the end of the story."""
        return "\n".join(
            [
                text_table(HEAD, self._rows()),
                *(f"\n{text_table(head, rows)}" for head, rows in self.group_tables()),
                *(f"PROBLEM: {problem}" for problem in self.problems),
                self.title,
                *([f"logs and journals: {self.run_dir}"] if self.run_dir else []),
                *(f"kept: {folder}" for folder in self.kept),
            ]
        )

    def __repr__(self) -> str:
        return "\n".join([f"{self.name}: {self.teaches}", "", *map(str, self.story), "", self.summary()])

    def _repr_html_(self) -> str:
        story = html_table(("time, s", "what happened"), [(f"{line.at_s:.2f}", line.text) for line in self.story])
        groups = "".join(html_table(head, rows) for head, rows in self.group_tables())
        problems = "".join(f"<p>PROBLEM: {escape(problem)}</p>" for problem in self.problems)
        return (
            f"<p>{escape(self.teaches)}</p>{story}{html_table(HEAD, self._rows())}{groups}{problems}"
            f"<p><b>{escape(self.title)}</b></p>"
        )

    @property
    def title(self) -> str:
        """Whether it went as expected, in one line."""
        met = sum(each.ok is True for each in self.expectations)
        verdict = "as expected" if self.ok else "NOT AS EXPECTED"
        return f"{self.name}: {verdict}, {met} of {len(self.expectations)} expectations met, seed {self.seed}"

    def _rows(self) -> list[tuple[object, ...]]:
        return [(_WORDS[met.ok], met.text, met.detail) for met in self.expectations]

    def group_tables(self) -> list[tuple[Sequence[str], list[tuple[object, ...]]]]:
        """For each load head and rows of a table, with a row for each of several Raft groups that says whether it was
        struck; none where there is one group."""
        return [
            (
                (*GAPS_HEAD, f"in {name}" if len(self.results) > 1 else ""),
                [(*row, "struck" if row[0] in self.struck else "") for row in result.group_rows()],
            )
            for name, result in self.results.items()
            if result.report.result.groups
        ]


def play(
    scenario: Scenario,
    tell: Callable[[Line], None],
    seed: int,
    run_dir: str | Path | None,
    keep: Path | None,
    on_start: Callable[[Cluster], None] = lambda _: None,
) -> ScenarioResult:
    """Run a scenario; see :meth:`Scenario.run <zmqlab.scenarios.scenario_file.Scenario.run>`."""
    with Cluster(**scenario.cluster, run_dir=run_dir) as cluster, ExitStack() as ends:
        served = Served()
        cluster.feed.on_load_frame(served.take, at_once=True)
        on_start(cluster)
        collector = _collector(scenario, cluster, ends)
        loads = {name: _load(scenario, name, cluster, seed, collector) for name in scenario.loads}
        for load in loads.values():
            ends.enter_context(load)
        run = _Run(scenario, cluster, loads, served, tell, seed)
        ends.callback(cluster.feed.on_event(run.hear, at_once=True))
        run.begin()
        problems = run.take_steps()
        results = run.judge()
        struck = tuple(sorted(run.struck))
        expectations = [each.check(results, struck) for each in scenario.expect]
        what = as_word(scenario.name) or "scenario"
        kept = [] if keep is None else [str(Run.keep(loads[name], keep, what).folder) for name in results]
        where = str(cluster.run_dir)
        result = ScenarioResult(
            scenario.name, scenario.teaches, seed, run.story, expectations, results, problems, where, kept, struck
        )
        cluster.keep = not result.ok  # a verdict that fails as expected leaves nothing to look at
        return result if cluster.keep or run_dir is not None else replace(result, run_dir="")


def _collector(scenario: Scenario, cluster: Cluster, ends: ExitStack) -> Collectors | None:
    if "journal_retain_bytes" not in (scenario.cluster.get("settings") or {}):
        return None
    collectors: Collectors = collectors_of(cluster)
    ends.callback(collectors.close)
    collectors.start()
    return collectors


def _load(scenario: Scenario, name: str, cluster: Cluster, seed: int, collector: Collectors | None) -> LoadClient:
    """A load client; with several loads each has a seed of its own."""
    own = {"seed": seed + list(scenario.loads).index(name)} | dict(scenario.loads[name])
    return LoadClient(cluster, name=name, collector=collector, **own)


class _Run:
    """The steps of a run, and its story."""

    def __init__(
        self,
        scenario: Scenario,
        cluster: Cluster,
        loads: Mapping[str, LoadClient],
        served: Served,
        tell: Callable[[Line], None],
        seed: int,
    ) -> None:
        self._scenario = scenario
        self._cluster = cluster
        self._loads = loads
        self._tell_line = tell
        self._seed = seed
        self._telling = threading.Lock()
        self._began = time.monotonic()
        self.story: list[Line] = []
        self._states_differ = False
        """Whether that was told."""
        nemesis = Nemesis(cluster, served, self._tell, lambda: False, has_client=lambda: self._is_loaded)
        self._situation = Situation(cluster, served, nemesis)

    # -- the story -------------------------------------------------------------------------------------------

    def _tell(self, text: str, is_caption: bool = False) -> None:
        with self._telling:
            line = Line(time.monotonic() - self._began, text, is_caption)
            self.story.append(line)
            self._tell_line(line)

    def hear(self, event: Event) -> None:
        """An event of the cluster: elections are told, deaths, and that states differ, the first time."""
        mark = FAULTS.marks.get(event.kind)
        if event.kind == LabEvent.HASH_MISMATCH and not self._states_differ:
            self._states_differ = True
            self._tell(event.text)
        elif mark is not None and event.kind == LabEvent.DIED:
            self._tell(f"{mark.label_of(event)}: {event.text}")
        elif mark is not None and mark.sort is Sort.ELECTION:
            self._tell(mark.label_of(event))

    # -- the run ---------------------------------------------------------------------------------------------

    @property
    def struck(self) -> set[int]:
        """See :attr:`Situation.struck <zmqlab.scenarios.scenario_steps.Situation.struck>`."""
        return self._situation.struck

    @property
    def _is_loaded(self) -> bool:
        return any(load.running for load in self._loads.values())

    def begin(self) -> None:
        """Start the loads; time counts from here."""
        for load in self._loads.values():
            load.start()
        self._began = time.monotonic()
        self._situation.begin()
        running = self._cluster.running
        leads = f"{self._cluster.feed.leader_among(running) or 'none'} leads"
        if self._cluster.shards > 1:
            leads = how_many_are_led(sum(map(bool, self._cluster.leaders.values())), self._cluster.shards)
        told = {name: load.settings for name, load in self._loads.items()}
        offered = ", ".join(f"{name} offers {each.rate_text} for {each.duration_s:g} s" for name, each in told.items())
        self._tell(f"{counted(len(running), 'node runs', 'nodes run')}, {leads}; {offered}")

    def take_steps(self) -> list[str]:
        """One after the other; what went wrong."""
        for number, step in enumerate(self._scenario.steps, 1):
            try:
                self._take(step, random.Random(f"scenario {self._seed} {number}"))
            except ZmqlabError as error:
                self._tell(f"step {number} failed: {error}")
                for load in self._loads.values():
                    load.stop()
                return [f"step {number}: {error}"]
        return []

    def judge(self) -> dict[str, LoadResult]:
        """Wait until all loads have ended, and judge each."""
        while self._is_loaded:
            time.sleep(POLL_S)
        self._tell("the load has ended; judging")
        return {name: load.wait() for name, load in self._loads.items()}

    def _take(self, step: Step, rng: random.Random) -> None:
        self._situation.group = step.group
        if step.at_s is not None:
            _sleep_until(self._began + step.at_s)
        if step.when is not None:
            self._await(step.when, step.within_s)
        _sleep_until(time.monotonic() + step.after_s)
        if step.caption:
            self._tell(step.caption, is_caption=True)
        if step.undo:
            self._undo(step)
        elif step.action is not None:
            for turn in range(step.repeat):
                self._act(step, rng, turn)

    def _await(self, condition: Condition, within_s: float) -> None:
        began = time.monotonic()
        while not (seen := condition.look(self._situation)):
            if time.monotonic() - began > within_s:
                raise ClusterError(f"{condition.text!r} was waited for, and did not come within {within_s:g} s")
            time.sleep(POLL_S)
        self._tell(f"{condition.text}: {seen}, after {time.monotonic() - began:.2f} s")

    def _act(self, step: Step, rng: random.Random, turn: int) -> None:
        """Strike once; hold the fault and undo it, if the step says for how long."""
        assert step.action is not None
        situation, began = self._situation, time.monotonic()
        fault = step.action.make(situation, rng)
        count = f" ({turn + 1} of {step.repeat})" if step.repeat > 1 else ""
        victims = f": {fault.victims}" if fault.victims else ""
        self._tell(f"{step.action.text}{victims}{situation.said_of_led(fault)}{count}")
        situation.begin()
        situation.hit(fault)
        fault.strike(self._cluster)
        if step.hold_s is not None:
            _sleep_until(began + step.hold_s)
            situation.begin()
            fault.undo(self._cluster)
            if step.repeat == 1:
                self._tell(f"over: {step.name}")
        elif step.action.is_held:
            situation.held.setdefault(step.name, []).append(fault)
        if turn + 1 < step.repeat:
            _sleep_until(began + step.every_s)

    def _undo(self, step: Step) -> None:
        faults = [fault for name in step.undo for fault in self._situation.held.pop(name, [])]
        self._tell(f"undo: {', '.join(step.undo)}")
        self._situation.begin()
        undone(reversed(faults), self._cluster)


def _sleep_until(moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        time.sleep(left)
