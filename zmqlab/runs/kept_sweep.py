"""Sweeps that are kept: response time over a rising rate, as a folder, a page with the knee, and side by side.

::

    runs/20261127-051200-sweep/
        sweep.json          the steps, with settings, machine and versions

A sweep is measured by :func:`zmqlab.lab.sweep.sweep`. It has no verdict: it asks how fast, not whether. So its folder
is none of a run, and ``zmqlab judge`` refuses it. ``zmqlab runs``, ``zmqlab report`` and ``zmqlab compare`` take both
kinds.

*The knee* is the highest rate that the cluster kept up with (:attr:`~zmqlab.lab.sweep.Sweep.knee_step`). It lies
between that step and the next one, which the chart shows. Where no higher rate was tried, or the load generator was the
limit of all higher ones, the knee lies beyond, and the chart shows none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import msgspec

from zmqlab.errors import RunUnreadable, SettingsError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.load_client import settings_of
from zmqlab.lab.sweep import HEAD, Sweep, SweepStep
from zmqlab.load.load_report import LatencySummary, text_of_ms
from zmqlab.machine_facts import these_versions, this_machine
from zmqlab.runs.kept_files import decoded, write_json
from zmqlab.runs.kept_run import RUNS, new_folder
from zmqlab.runs.page_shell import in_notebook, page, write_page
from zmqlab.runs.run_charts import Backdrop, Curve, Line, series_style, time_chart
from zmqlab.runs.run_pages import figure, section, settings_and_machine, table
from zmqlab.settings import reason_of, require_path
from zmqlab.tables import date_and_time, text_table
from zmqlab.wording import counted

FORMAT = 1
"""Of the file. A reader of a higher one reads all lower ones."""
STEPS = "sweep.json"
COMPARED_HEAD = ("", "sweep", "knee, orders/s", "p50 ms there", "p99 ms there", "against A")


class KeptStep(msgspec.Struct, kw_only=True):
    """One rate, as :class:`~zmqlab.lab.sweep.SweepStep` has it; latencies in milliseconds."""

    rate: float
    offered: float
    acknowledged: float
    response_ms: list[float]
    """p50, p90, p99, p99.9 and the maximum."""
    service_ms: list[float]
    late_share: float

    @classmethod
    def of(cls, step: SweepStep) -> KeptStep:
        """The same."""
        return cls(
            rate=step.rate,
            offered=step.offered,
            acknowledged=step.acknowledged,
            response_ms=[*step.response_time],
            service_ms=[*step.service_time],
            late_share=step.late_share,
        )

    def step(self) -> SweepStep:
        """The same."""
        response, service = LatencySummary(*self.response_ms), LatencySummary(*self.service_ms)
        return SweepStep(self.rate, self.offered, self.acknowledged, response, service, self.late_share)


class AboutSweep(msgspec.Struct, kw_only=True):
    """``sweep.json``."""

    format: int
    ended_ns: int
    """On the wall clock."""
    cluster: dict[str, Any]
    settings: dict[str, Any]
    """Of the sweep: how long each step was, and what the load client was told."""
    machine: dict[str, Any]
    versions: dict[str, str]
    steps: list[KeptStep]


class KeptSweep:
    """A sweep in its folder. It shows itself: as text, and in a notebook as its report."""

    def __init__(self, folder: Path, about: AboutSweep) -> None:
        self.folder = folder
        self.about = about
        self.sweep = Sweep(each.step() for each in about.steps)

    @classmethod
    def keep(
        cls, sweep: Sweep, folder: str | Path = RUNS, cluster: Cluster | None = None, **settings: Any
    ) -> KeptSweep:
        """Keep a sweep in a new folder in ``folder``.

        Args:
            sweep: what was measured; not empty.
            folder: where runs are kept; it is made if need be.
            cluster: what it was measured on, if this process has started that.
            settings: what else is worth telling, as ``step_s=2``.

        Raises:
            SettingsError: there is nothing to keep, or the folder can't be written.
        """
        if not sweep:
            raise SettingsError("the sweep has no steps: there is nothing to keep")
        parent, now_ns = require_path("folder", folder), time.time_ns()
        about = AboutSweep(
            format=FORMAT,
            ended_ns=now_ns,
            cluster=settings_of(cluster),
            settings=settings,
            machine=this_machine(),
            versions=these_versions(),
            steps=[KeptStep.of(step) for step in sweep],
        )
        return cls.read(new_folder(parent, now_ns, "sweep", lambda new: write_json(new / STEPS, about)))

    @classmethod
    def read(cls, folder: str | Path) -> KeptSweep:
        """Raises RunUnreadable if there is no kept sweep that this version can read."""
        path = require_path("folder", folder) / STEPS
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RunUnreadable(f"{path} can't be read: {reason_of(error)}. Name the folder of a kept sweep") from None
        about = decoded(path, data, AboutSweep)
        if about.format > FORMAT:
            raise RunUnreadable(f"{path} has format {about.format}: this zmqlab reads {FORMAT}; install a newer one")
        if not about.steps or any(len(each.response_ms) != 5 or len(each.service_ms) != 5 for each in about.steps):
            raise RunUnreadable(f"{path} can't be read: it has no steps, or a step without its latencies")
        return cls(path.parent, about)

    @staticmethod
    def is_at(folder: Path) -> bool:
        """Whether ``folder`` is that of a kept sweep."""
        return (folder / STEPS).exists()

    @property
    def title(self) -> str:
        """What was swept, in a few words."""
        said = [counted(self.about.cluster["nodes"], "node")] if "nodes" in self.about.cluster else []
        said += [str(self.about.cluster[name]) for name in ("durability", "replication") if name in self.about.cluster]
        return "Sweep: " + (", ".join(said) or "nodes of other processes")

    @property
    def when(self) -> str:
        """The local time at which it ended."""
        return date_and_time(self.about.ended_ns)

    @property
    def knee(self) -> SweepStep | None:
        """The last step that the cluster kept up with; None if there is none."""
        return self.sweep.knee_step

    @property
    def is_beyond(self) -> bool:
        """Whether the cluster was the limit of no rate. Then the knee was not reached."""
        return self.knee is not None and self.sweep.limit != "cluster"

    def row(self) -> tuple[object, ...]:
        """Cells of a list of what was kept (:data:`zmqlab.runs.kept_list.HEAD`): throughput and latencies are those of
        the knee, and there is no verdict."""
        return (self.when, "sweep", "-", *_knee_cells(self, text_of_ms), "-", self.folder)

    def report(self, out: str | Path) -> Path:
        """Write its page, which opens offline, and return its path. Raises SettingsError."""
        return write_page(out, page(self.title, self._body()))

    def __repr__(self) -> str:
        return f"{self.title}, {self.when}\n{self.sweep!r}\n{_knee_text(self)}"

    def _repr_html_(self) -> str:
        return in_notebook(self._body())

    def _body(self) -> str:
        rows = [step.row() for step in self.sweep]
        return (
            f'<div class="head"><h1>{escape(self.title)}</h1></div>'
            f'<p class="faint">{self.when} \N{MIDDLE DOT} {escape(self.folder.name)}</p>'
            f"<p>{escape(_knee_text(self))}</p>"
            + charts([("", self)])
            + section("Steps", table(HEAD, rows, "numbers"))
            + settings_and_machine(self.about.cluster | self.about.settings, self.about.machine, self.about.versions)
        )


class SweepComparison:
    """Several sweeps side by side: both curves, and their knees. Shows itself."""

    def __init__(self, sweeps: Sequence[KeptSweep]) -> None:
        """At least two, of which the first is the base."""
        most = len(ascii_uppercase)
        if not 2 <= len(sweeps) <= most:
            raise SettingsError(f"{len(sweeps)} sweeps can't be compared: name 2 to {most} folders of kept sweeps")
        self.sweeps = list(zip(ascii_uppercase, sweeps, strict=False))

    @classmethod
    def of(cls, *folders: str | Path) -> SweepComparison:
        """Of kept sweeps. Raises RunUnreadable."""
        return cls([KeptSweep.read(each) for each in folders])

    def rows(self) -> list[tuple[str, ...]]:
        """A line each, under :data:`COMPARED_HEAD`."""
        base = self.sweeps[0][1].knee
        return [_row(letter, each, base) for letter, each in self.sweeps]

    def report(self, out: str | Path) -> Path:
        """Write the page, which opens offline, and return its path. Raises SettingsError."""
        title = f"{len(self.sweeps)} sweeps"
        body = f'<div class="head"><h1>{title}</h1></div>' + charts(self.sweeps)
        return write_page(out, page(title, body + section("Knees", table(COMPARED_HEAD, self.rows(), "numbers"))))

    def __repr__(self) -> str:
        named = [f"{letter}  {each.folder}: {each.title}, {each.when}" for letter, each in self.sweeps]
        return "\n".join([*named, "", text_table(COMPARED_HEAD, self.rows())])


def charts(sweeps: Iterable[tuple[str, KeptSweep]]) -> str:
    """Response time and throughput over the offered rate, a line of its own for each sweep, with its knee."""
    times, rates, lines = [], [], []
    named = list(sweeps)
    end = max(step.offered for _, each in named for step in each.sweep) * 1.05
    for number, (letter, each) in enumerate(named):
        style, before = series_style(number), f"{letter}: " if letter else ""
        steps = [step for step in each.sweep if step.response_time.measured]
        if len(named) == 1:
            times.append(Curve("p50", "c0", [(step.offered, step.response_time.p50_ms) for step in steps]))
            times.append(Curve("p99", "c1", [(step.offered, step.response_time.p99_ms) for step in steps]))
        else:
            times.append(Curve(f"{before}p99", style, [(step.offered, step.response_time.p99_ms) for step in steps]))
        rates.append(Curve(f"{before}acknowledged", style, [(step.offered, step.acknowledged) for step in each.sweep]))
        if each.knee is not None and not each.is_beyond:
            lines.append(Line(each.knee.offered, f"{before}knee {each.knee.acknowledged:,.0f}/s", "change"))
    rates.append(Curve("offered", "offered", [(0.0, 0.0), (end, end)]))
    behind = Backdrop(end, sorted(lines, key=lambda line: line.at), axis="orders a second offered", unit="orders/s")
    return _chart("Response time", times, "ms", behind, True) + _chart("Throughput", rates, "orders/s", behind, False)


def _chart(title: str, curves: Sequence[Curve], unit: str, behind: Backdrop, log: bool) -> str:
    keys = [(curve.style, curve.name) for curve in curves]
    return figure(title, keys, time_chart(unit, curves, behind, log=log))


def _knee_text(kept: KeptSweep) -> str:
    knee, limit = kept.knee, kept.sweep.limit
    if knee is None:
        if limit == "generator":
            return "The load generator was the limit of all of these rates: they say little of the cluster."
        return "The cluster kept up with none of these rates."
    times = f"p50 {knee.response_time.p50_ms:.1f} ms, p99 {knee.response_time.p99_ms:.1f} ms"
    known = f"The cluster kept up with {knee.acknowledged:,.0f} orders/s ({times})"
    if limit == "generator":
        return f"{known}. Of higher rates the load generator was the limit, and the knee lies beyond."
    where = "no higher one of these rates" if limit else "all of these rates, and the knee lies beyond"
    return f"{known}, and with {where}."


def _knee_cells(each: KeptSweep, in_ms: Callable[[float], str]) -> tuple[str, str, str]:
    """What is known of the knee: orders a second, p50 and p99; dashes if there is none."""
    if each.knee is None:
        return "-", "-", "-"
    times = each.knee.response_time
    return f"{'> ' * each.is_beyond}{each.knee.acknowledged:,.0f}", in_ms(times.p50_ms), in_ms(times.p99_ms)


def _row(letter: str, each: KeptSweep, base: SweepStep | None) -> tuple[str, ...]:
    ratio = f"{each.knee.acknowledged / base.acknowledged:.2f}" if each.knee and base and not each.is_beyond else "-"
    return (letter, each.folder.name, *_knee_cells(each, lambda latency_ms: f"{latency_ms:.1f}"), ratio)
