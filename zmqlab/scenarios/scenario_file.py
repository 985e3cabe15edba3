"""Scenario files: what a run is made of, read from YAML or Python and checked before anything is started.

::

    teaches: A leader that dies costs a moment and no order.
    cluster: {nodes: 3}
    load: {rate: 3000, duration: 6s}
    seed: 7
    steps:
      - at: 1s
        fault: kill leader
      - when: elected
        after: 2s
        undo: kill leader
    expect:
      - verdict passed
      - elections >= 2

``docs/scenarios.md`` explains every key. Three things are not listed here, because they are known elsewhere, and a
scenario may use what is added there: the keywords of :class:`~zmqlab.lab.cluster.Cluster` and
:class:`~zmqlab.lab.load_client.LoadClient`, the faults of the registry, and the metrics of thresholds.

*Checked* means: every key is known and has the right type, every fault, button and node is one, sizes are in range,
steps stand in the order of their time, and none lies after the end of the load. What is wrong is one line with its
place (:mod:`~zmqlab.scenarios.written`).

A Python file defines ``scenario``, a dictionary of the same keys. In it ``when`` and ``do`` may be functions of the
:class:`~zmqlab.scenarios.scenario_steps.Situation`. It is run, as any program that you start.

The scenarios that come with the package are data files in ``zmqlab/scenarios/shipped``, so that an installation has
them; the folder ``scenarios`` of the repository leads there.
"""

from __future__ import annotations

import inspect
import math
import re
import runpy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmqlab.errors import SettingsError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.fleet import MAX_NODES
from zmqlab.lab.load_client import LoadClient
from zmqlab.load.load_settings import FlowMix, LoadSettings
from zmqlab.scenarios import scenario_steps
from zmqlab.scenarios.expectations import SCOPE, Expectation, read_expectations
from zmqlab.scenarios.predictions import Prediction, read_prediction
from zmqlab.scenarios.scenario_conditions import Condition, read_condition
from zmqlab.scenarios.scenario_steps import Action
from zmqlab.scenarios.written import Source, Written, choices, read_yaml
from zmqlab.settings import ALIKE, reason_of

if TYPE_CHECKING:
    from zmqlab.scenarios.scenario_run import Line, ScenarioResult

SHIPPED = Path(__file__).with_name("shipped")
KEYS = ("teaches", "cluster", "load", "loads", "seed", "steps", "expect", "predict")
WITHIN_S = 30.0
"""How long a condition is waited for by default. An election takes a quarter of a second and a recovery two;
on a machine with other work ten times as long."""
ALL = "all"
"""``undo: all`` is the undoing of everything."""
REPEAT_MAX = 1_000
THE_RUNS_OWN = ("self", "run_dir", "keep", "host", "fresh")
"""What a run of a scenario says of its cluster, and a file does not."""
THE_LOADS_OWN = ("self", "target", "collector", "keys", "metrics_port", "metrics_host", "fail_if", "settings")
NOT_OF_A_FILE = ("nodes", "shards", "duration_s", "name", "history")
"""Settings of a load that the run says, or that have another name in a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: first it waits, then it acts."""

    at_s: float | None = None
    """Not before this moment, counted from the first order."""
    when: Condition | None = None
    within_s: float = WITHIN_S
    after_s: float = 0.0
    """How long to wait after that, or after the step before."""
    action: Action | None = None
    hold_s: float | None = None
    """How long the fault is there before it is undone. None: until a later step undoes it, or to the end."""
    repeat: int = 1
    every_s: float = 0.0
    """From one repetition to the next; at least ``hold_s``."""
    undo: tuple[str, ...] = ()
    """The names of the faults that it undoes."""
    name: str = ""
    """What a later step calls the fault."""
    group: int | None = None
    """The Raft group that its condition and its fault are about, of several; None: all."""
    caption: str = ""
    """What a class is told when the step has waited, and before it acts."""

    @property
    def lasts_s(self) -> float:
        """How long it takes at least, from its action on."""
        return (self.repeat - 1) * self.every_s + (self.hold_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario, read and checked: :meth:`read`, then :meth:`run`."""

    name: str
    teaches: str
    """One or two sentences."""
    cluster: Mapping[str, Any]
    """Keywords of :class:`~zmqlab.lab.cluster.Cluster`."""
    loads: Mapping[str, Mapping[str, Any]]
    """By name: keywords of :class:`~zmqlab.lab.load_client.LoadClient`."""
    seed: int
    steps: tuple[Step, ...]
    expect: tuple[Expectation, ...]
    ends_s: float
    """When the last load ends."""
    predict: Prediction | None = None
    """What a class is asked before it is played."""

    @classmethod
    def read(cls, path: str | Path) -> Scenario:
        """The scenario in a file, or a shipped one by its name.

        Raises:
            SettingsError: there is no such file, or something in it is wrong; the message says where, and what is
                possible.
        """
        file = find(path)
        try:
            if file.suffix == ".py":
                return cls.of(_run_python(file), file.stem, str(path))
            return _scenario(read_yaml(file.read_text(), str(path)), file.stem)
        except (OSError, UnicodeError) as error:
            raise SettingsError(f"{path} can't be read: {_reason(error)}") from None

    @classmethod
    def of(cls, values: Mapping[str, Any], name: str = "scenario", source: str = "") -> Scenario:
        """The scenario that these values make, with the keys of a file. Raises SettingsError."""
        return _scenario(Written(values, Source(source or name, {})), name)

    def run(
        self,
        tell: Callable[[Line], None] = lambda _: None,
        *,
        seed: int | None = None,
        run_dir: str | Path | None = None,
        keep: str | Path | None = None,
        on_start: Callable[[Cluster], None] = lambda _: None,
    ) -> ScenarioResult:
        """Start the cluster and the load, take the steps, judge.

        Args:
            tell: called with each line of the story when it happens.
            seed: another one than the file's.
            run_dir: where logs and journals go. None: a temporary folder, which stays if an expectation was not met.
            keep: keep the run of each load in a new folder there (:mod:`zmqlab.runs`). None: keep none.
            on_start: called with the cluster when its nodes take orders, before the load begins.

        Raises:
            ZmqlabError: the cluster or a load did not start. What goes wrong later is in the result.
        """
        from zmqlab.scenarios.scenario_run import play  # it knows what a scenario is

        seed = self.seed if seed is None else seed
        return play(self, tell, seed, run_dir, None if keep is None else Path(keep), on_start)


def shipped() -> list[str]:
    """The names of the scenarios that come with the package, as :meth:`Scenario.read` takes them."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def stories() -> list[str]:
    """The names of those that ask a class first, and tell it what happens: see ``docs/teaching.md``."""
    return [name for name in shipped() if Scenario.read(name).predict is not None]


def find(path: str | Path) -> Path:
    """The file of a scenario that is called by its path or, if it is a shipped one, by its name.

    Raises:
        SettingsError: there is none.
    """
    file = Path(path)
    if file.is_file():
        return file
    if file.name == str(path) and file.stem in shipped() and file.suffix in ("", ".yaml"):
        return SHIPPED / f"{file.stem}.yaml"
    raise SettingsError(
        f"{str(path)!r} is no file, and no scenario of that name is shipped: {choices(file.stem, shipped())}"
    )


def _run_python(file: Path) -> Mapping[str, Any]:
    try:
        found = runpy.run_path(str(file)).get("scenario")
    except Exception as error:  # it is a program of its own
        raise SettingsError(f"{file} failed when it was read: {type(error).__name__}: {error}") from None
    if not isinstance(found, Mapping):
        raise SettingsError(f"{file} defines no scenario: write scenario = {{'teaches': ..., 'load': ..., ...}}")
    return found


def _reason(error: OSError | UnicodeError) -> str:
    return reason_of(error) if isinstance(error, OSError) else "it is not text in UTF-8"


# -- the whole -----------------------------------------------------------------------------------------------------


def _scenario(written: Written, name: str) -> Scenario:
    entries = written.entries(KEYS)
    for key in ("teaches", "expect"):
        if key not in entries:
            raise written.wrong(f"{key!r} is missing: every scenario says what it teaches, and what it expects")
    seed = entries["seed"].whole(0, 2**32) if "seed" in entries else 1
    cluster = _cluster(entries.get("cluster"))
    loads = _loads(written, entries)
    ends_s = max(_end_of(cluster, each, entries) for each in loads.items())
    planned = Cluster(**cluster)
    steps = _Steps(len(planned.nodes), ends_s, planned.shards).read(
        entries["steps"].items() if "steps" in entries else []
    )
    expect = read_expectations(entries["expect"].items(), loads, planned.shards)
    teaches = entries["teaches"].text()
    predict = read_prediction(entries["predict"]) if "predict" in entries else None
    return Scenario(
        name=name,
        teaches=teaches,
        cluster=cluster,
        loads=loads,
        seed=seed,
        steps=steps,
        expect=expect,
        ends_s=ends_s,
        predict=predict,
    )


def _cluster(written: Written | None) -> dict[str, Any]:
    if written is None:
        return {}
    known = [name for name in inspect.signature(Cluster.__init__).parameters if name not in THE_RUNS_OWN]
    entries = written.entries(known)
    if "settings" in entries:
        entries["settings"].entries(ALIKE)
    keywords = {key: entry.value for key, entry in entries.items()}
    try:
        Cluster(**keywords)
    except (SettingsError, TypeError, AttributeError) as error:
        raise written.wrong(error) from None
    return keywords


def _loads(written: Written, entries: Mapping[str, Written]) -> dict[str, dict[str, Any]]:
    """By name: what each load client is told."""
    if ("load" in entries) == ("loads" in entries):
        raise written.wrong("write 'load' for one load client, or 'loads' for several by name, and not both")
    if "load" in entries:
        return {"load": _load(entries["load"])}
    loads = {name: _load(entry) for name, entry in entries["loads"].entries().items()}
    for name in loads:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
            raise entries["loads"].wrong(f"a load is called {name!r}: use small letters, digits, - and _")
        if SCOPE.fullmatch(name):
            raise entries["loads"].wrong(
                f"a load is called {name!r}, as groups are in expectations: choose another name"
            )
    if not loads:
        raise entries["loads"].wrong("there is no load in it")
    return loads


def load_keys() -> list[str]:
    """The keys of a load: keywords of LoadClient, and settings of a load beyond them."""
    keywords = [name for name in inspect.signature(LoadClient.__init__).parameters if name not in THE_LOADS_OWN]
    settings = [each.name for each in fields(LoadSettings) if each.name not in (*keywords, *NOT_OF_A_FILE)]
    return [*keywords, *settings]


def _load(written: Written) -> dict[str, Any]:
    entries = written.entries(load_keys())
    keywords = {key: entry.value for key, entry in entries.items()}
    if "mix" in entries:
        shares = entries["mix"].entries([each.name for each in fields(FlowMix)])
        try:
            keywords["mix"] = FlowMix(**{name: share.value for name, share in shares.items()})
        except SettingsError as error:
            raise entries["mix"].wrong(error) from None
    return keywords


def _end_of(cluster: Mapping[str, Any], load: tuple[str, Mapping[str, Any]], entries: Mapping[str, Written]) -> float:
    """When a load ends; this is also where its settings are checked."""
    name, keywords = load
    written = entries.get("load") or entries["loads"].entries()[name]
    try:
        ends_s = LoadClient(Cluster(**cluster), name=name, **keywords).settings.duration_s
    except SettingsError as error:
        raise written.wrong(error) from None
    if math.isinf(ends_s):
        raise written.wrong("it has no end: write a duration, as in 8s")
    return ends_s


# -- steps ---------------------------------------------------------------------------------------------------------

WAITS = ("at", "when", "within", "after")
ACTS = ("fault", "press", "undo", "do")
OTHERS = ("amount", "node", "link", "for", "repeat", "every", "name")
GROUP = "group"


class _Steps:
    """Reads the steps one after the other, and knows what stood before."""

    def __init__(self, nodes: int, ends_s: float, shards: int) -> None:
        self._count = nodes
        self._shards = shards
        self._names = tuple(f"node{number}" for number in range(nodes))
        self._ends_s = ends_s
        self._earliest_s = 0.0
        """No step begins before."""
        self._held: list[str] = []
        """The names of faults that were not undone yet."""

    def read(self, steps: Sequence[Written]) -> tuple[Step, ...]:
        """All of them. Raises SettingsError."""
        if any("scale" in str(step.value) for step in steps):
            self._names = tuple(f"node{number}" for number in range(MAX_NODES))  # more nodes may come
        return tuple(map(self._step, steps))

    def _step(self, written: Written) -> Step:
        entries = written.entries(known_keys())
        acts = [key for key in ACTS if key in entries]
        if len(acts) > 1:
            raise written.wrong(f"it has {' and '.join(acts)}: a step does one thing, write two steps")
        if not acts and not any(key in entries for key in WAITS):
            raise written.wrong(f"it does nothing: write {', '.join(ACTS)}, or something to wait for")
        if "within" in entries and "when" not in entries:
            raise entries["within"].wrong("there is nothing to wait for: write when beside it")
        if acts in ([], ["undo"]):
            for key in (*OTHERS, *scenario_steps.parameters()):
                if key in entries:
                    raise entries[key].wrong(f"{key} is for a fault: write fault or press beside it")
        step = self._acting(written, entries, self._waiting(entries) | self._group(entries))
        self._follow(written, step)
        return step

    def _waiting(self, entries: Mapping[str, Written]) -> dict[str, Any]:
        at, when = entries.get("at"), entries.get("when")
        at_s = at.duration_s() if at is not None else None
        if at is not None and at_s is not None and at_s < self._earliest_s:
            raise at.wrong(f"the step before it ends at {self._earliest_s:g} s at the earliest: put them in order")
        return {
            "at_s": at_s,
            "when": read_condition(when, self._names) if when is not None else None,
            "within_s": _duration(entries, "within", WITHIN_S),
            "after_s": _duration(entries, "after", 0.0),
        }

    def _group(self, entries: Mapping[str, Written]) -> dict[str, Any]:
        written = entries.get(GROUP)
        if written is None:
            return {}
        if self._shards == 1:
            raise written.wrong("the cluster has one Raft group: leave it away, or write shards in cluster")
        if not {"when", "fault", "press", "do"}.intersection(entries):
            raise written.wrong("it is for a condition or a fault: write when, fault or press beside it")
        return {GROUP: written.whole(0, self._shards - 1)}

    def _acting(self, written: Written, entries: Mapping[str, Written], waiting: Mapping[str, Any]) -> Step:
        caption = entries["caption"].text() if "caption" in entries else ""
        waiting = {**waiting, "caption": caption}
        if "undo" in entries:
            return Step(**waiting, undo=self._undone(entries["undo"]))
        hold_s = entries["for"].duration_s() if "for" in entries else None
        action = self._action(entries, hold_s)
        if action is None:
            return Step(**waiting)
        repeat = entries["repeat"].whole(1, REPEAT_MAX) if "repeat" in entries else 1
        every_s = _duration(entries, "every", hold_s or 0.0)
        if repeat > 1 and action.is_held and hold_s is None:
            raise entries["repeat"].wrong("each time must end before the next one: write for beside it")
        if every_s < (hold_s or 0.0):
            raise entries["every"].wrong(f"it is shorter than for, {hold_s:g} s")
        name = entries["name"].text() if "name" in entries else action.text
        return Step(
            **waiting,
            action=action,
            hold_s=hold_s if action.is_held else None,
            repeat=repeat,
            every_s=every_s,
            name=name,
        )

    def _action(self, entries: Mapping[str, Written], hold_s: float | None) -> Action | None:
        sizes = {name: entries[name] for name in scenario_steps.parameters() if name in entries}
        victims = [entries["node"]] if "node" in entries else []
        victims += entries["link"].items() if "link" in entries else []
        if "press" in entries:
            return scenario_steps.pressed(entries["press"], victims, sizes, self._names)
        for odd in [*victims, *sizes.values()]:
            raise odd.wrong("only a button is told that: write press beside it, or leave it away")
        if "do" in entries:
            if not callable(entries["do"].value):
                raise entries["do"].wrong("do is a function of the situation, in a Python file")
            return scenario_steps.called(entries["do"].value)
        return (
            scenario_steps.drawn(entries["fault"], entries.get("amount"), hold_s, self._count)
            if "fault" in entries
            else None
        )

    def _undone(self, written: Written) -> tuple[str, ...]:
        name = written.text()
        if not self._held:
            raise written.wrong("nothing is left to undo here: a fault that has no 'for' must stand before it")
        if name != ALL and name not in self._held:
            raise written.unknown("there is no fault to undo called", (ALL, *dict.fromkeys(self._held)))
        names = tuple(dict.fromkeys(self._held)) if name == ALL else (name,)
        self._held = [each for each in self._held if each not in names]
        return names

    def _follow(self, written: Written, step: Step) -> None:
        """What this step leaves for those behind it."""
        begins_s = max(self._earliest_s, step.at_s or 0.0) + step.after_s
        self._earliest_s = begins_s + step.lasts_s
        if self._earliest_s > self._ends_s:
            raise written.wrong(
                f"it ends at {self._earliest_s:g} s at the earliest, and the load at {self._ends_s:g} s"
            )
        if step.action is not None and step.action.is_held and step.hold_s is None:
            self._held.append(step.name)


def _duration(entries: Mapping[str, Written], key: str, default_s: float) -> float:
    return entries[key].duration_s() if key in entries else default_s


def known_keys() -> Collection[str]:
    """All keys of a step, for the page that explains them."""
    return (*WAITS, *ACTS, *OTHERS, GROUP, "caption", *scenario_steps.parameters())
