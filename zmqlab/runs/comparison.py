"""Several kept runs side by side: figures, their ratios, and what differs in settings and machine.

The first run is the base: every other one is shown as a ratio to it. A figure of a run with several repetitions is the
median of its repetitions, with the lowest and the highest. The spread of a ratio reaches from the lowest of one run
over the highest of the base to the highest over the lowest. So it is as wide as the repetitions allow: if 1 lies within
it, the runs do not tell the two apart. Percentile curves are of the histogram of all repetitions.

A comparison shows itself as text, in a notebook, and as an HTML page (:meth:`Comparison.report`).

Left out on purpose: tests of significance. Five repetitions on one machine are no sample of machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

from zmqlab.errors import SettingsError
from zmqlab.load.load_report import LatencySummary
from zmqlab.runs import run_pages as pages
from zmqlab.runs.kept_files import NS_PER_S, SecondRow
from zmqlab.runs.kept_run import Repetition, Run, Spread
from zmqlab.runs.page_shell import in_notebook, page, write_page
from zmqlab.runs.run_charts import Backdrop, Curve, percentile_chart, series_style, time_chart
from zmqlab.tables import text_table

RUNS_MAX = len(ascii_uppercase)
"""Runs have letters for names."""
ENDPOINTS = "load.nodes"
"""A setting that differs each time: clusters take free ports."""


class Figure(NamedTuple):
    """One row of a comparison."""

    name: str
    unit: str
    of: Callable[[Repetition], float]
    digits: int = 0
    """Behind the decimal point."""


def _time(name: str, label: str) -> Figure:
    return Figure(f"response time {label}", "ms", lambda each: _latency(each.report.response_time, name), 2)


def _latency(summary: LatencySummary, name: str) -> float:
    value: float = getattr(summary, name)
    return value


FIGURES = (
    Figure("throughput", "orders/s", lambda each: each.report.throughput),
    _time("p50_ms", "p50"),
    _time("p90_ms", "p90"),
    _time("p99_ms", "p99"),
    _time("p99_9_ms", "p99.9"),
    _time("max_ms", "max"),
    Figure("service time p50", "ms", lambda each: each.report.service_time.p50_ms, 2),
    Figure("service time p99", "ms", lambda each: each.report.service_time.p99_ms, 2),
    Figure("longest gap", "ms", lambda each: each.report.result.longest_gap_ms),
    Figure("acknowledged", "orders", lambda each: each.report.result.total.acknowledged),
    Figure("unserved", "orders", lambda each: each.report.unserved),
    Figure("retries", "", lambda each: each.report.result.total.retries),
    Figure("elections", "", lambda each: each.elections),
)


def ratio(of: Spread, base: Spread) -> Spread | None:
    """How many times ``base`` one figure is, with the widest spread that the repetitions allow; None: base is zero."""
    if base.low <= 0:
        return None
    return Spread(of.middle / base.middle, of.low / base.high, of.high / base.low)


class Difference(NamedTuple):
    """A setting, or a fact of the machine, that is not the same in all runs."""

    name: str
    values: tuple[str, ...]
    """One for each run."""


class Comparison:
    """Two runs or more, the first of which is the base.

    Raises:
        SettingsError: there is only one run, or there are more than letters.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        if not 2 <= len(runs) <= RUNS_MAX:
            raise SettingsError(f"{len(runs)} runs can't be compared: name 2 to {RUNS_MAX} folders of kept runs")
        self.runs = list(runs)
        self.letters = ascii_uppercase[: len(runs)]

    @classmethod
    def of(cls, *folders: str | Path) -> Comparison:
        """Read runs, and compare them. Raises SettingsError, or RunUnreadable for a folder that is no kept run."""
        return cls([Run.read(folder) for folder in folders])

    @property
    def differences(self) -> list[Difference]:
        """What is not the same in all runs: settings, machine, versions."""
        told = [_told_of(run) for run in self.runs]
        names = dict.fromkeys(name for each in told for name in each)
        rows = [Difference(name, tuple(each.get(name, "-") for each in told)) for name in names]
        return [row for row in rows if len(set(row.values)) > 1]

    @property
    def head(self) -> tuple[str, ...]:
        """Of :meth:`rows`."""
        base, *others = list(self.letters)
        return ("figure", base, *(cell for each in others for cell in (each, f"{each} / {base}")))

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A row for each figure: its value in each run, and its ratio to the base."""
        for figure in FIGURES:
            base, *others = (run.spread(figure.of) for run in self.runs)
            cells = [_cell(base, figure.digits)]
            for each in others:
                cells += [_cell(each, figure.digits), _ratio_cell(ratio(each, base))]
            yield (f"{figure.name}, {figure.unit}" if figure.unit else figure.name, *cells)

    def report(self, out: str | Path) -> Path:
        """Write the comparison as one HTML page that opens offline, and return its path. Raises SettingsError."""
        return write_page(out, page(f"Comparison of {len(self.runs)} runs", self._body()))

    def __repr__(self) -> str:
        named = zip(self.letters, self.runs, strict=True)
        told = [f"{letter}  {run.folder}: {run.title}, {run.when}, {run.outcome}" for letter, run in named]
        told += ["", text_table(self.head, self.rows()), ""]
        differences = self.differences
        if differences:
            told.append(text_table(("differs", *self.letters), [(each.name, *each.values) for each in differences]))
        else:
            told.append("Settings, machine and versions are the same.")
        cards = [row for letter, run in zip(self.letters, self.runs, strict=True) for row in _card_rows(letter, run)]
        return "\n".join([*told, *(["", text_table(CARD_HEAD, cards)] if cards else [])])

    def _repr_html_(self) -> str:
        return in_notebook(self._body())

    # -- the page ----------------------------------------------------------------------------------------------

    def _body(self) -> str:
        named = list(zip(self.letters, self.runs, strict=True))
        keys = [(series_style(number), letter) for number, letter in enumerate(self.letters)]
        cards = [row for letter, run in named for row in _card_rows(letter, run)]
        rows = [(each.name, *each.values) for each in self.differences]
        parts = [
            "<h1>Comparison of runs</h1>",
            '<div class="cards">' + "".join(map(_run_card, range(len(named)), self.letters, self.runs)) + "</div>",
            pages.section("Figures", pages.table(self.head, self.rows(), "numbers") + self._how_to_read()),
            pages.figure(
                "Response time by percentile",
                keys,
                percentile_chart(
                    [(letter, key[0], run.response_histogram) for key, (letter, run) in zip(keys, named, strict=True)]
                ),
            ),
            pages.figure("Throughput", keys, time_chart("orders/s", *self._over_time(_rates))),
            pages.figure("Response time p99, each second", keys, time_chart("ms", *self._over_time(_p99s), log=True)),
            pages.section("What each fault cost", pages.table(CARD_HEAD, cards) if cards else ""),
            pages.section(
                "What differs",
                pages.table(("", *self.letters), rows)
                if rows
                else "<p>Settings, machine and versions are the same.</p>",
            ),
            *(_verdicts(letter, run) for letter, run in named),
        ]
        return "\n".join(parts)

    def _how_to_read(self) -> str:
        base = self.letters[0]
        told = f"Each ratio is to {base}."
        if any(len(run.repetitions) > 1 for run in self.runs):
            told += (
                " A figure is the median of its repetitions, with the lowest and the highest. The spread of a ratio is"
                " the widest that they allow: if 1 lies within it, the repetitions do not tell the runs apart."
            )
        else:
            told += " There is one repetition of each run, so chance has no measure here: see --repeat."
        return f'<p class="faint">{told}</p>'

    def _over_time(
        self, points: Callable[[Repetition], list[tuple[float, float | None]]]
    ) -> tuple[list[Curve], Backdrop]:
        curves = [
            Curve(letter, series_style(number), points(each))
            for number, (letter, run) in enumerate(zip(self.letters, self.runs, strict=True))
            for each in run.repetitions
        ]
        return curves, Backdrop(max(pages.backdrop(each).end for run in self.runs for each in run.repetitions))


def _rates(each: Repetition) -> list[tuple[float, float | None]]:
    def acknowledged(row: SecondRow) -> int:
        return row.acknowledged

    return pages.rate_points(pages.grouped(each.seconds), acknowledged)


def _p99s(each: Repetition) -> list[tuple[float, float | None]]:
    return pages.points_of(pages.grouped(each.seconds), lambda row: row.response_p99_ms)


def _run_card(number: int, letter: str, run: Run) -> str:
    rows = [
        ("verdict", run.outcome),
        ("when", run.when),
        ("folder", run.name),
        ("machine", f"{run.about.machine.get('cores')} cores, Python {run.about.versions.get('python')}"),
    ]
    told = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in rows)
    key = f'<i class="key {series_style(number)}"></i>'
    return f'<div class="card"><h3><b>{key}{letter}</b><span>{escape(run.title)}</span></h3><dl>{told}</dl></div>'


def _verdicts(letter: str, run: Run) -> str:
    parts = []
    for each in run.repetitions:
        which = f", repetition {each.number}" if len(run.repetitions) > 1 else ""
        summary = f"{letter}{which}: verdict {each.verdict.outcome}"
        parts.append(f"<details><summary>{summary}</summary>{pages.verdict_table(each.verdict)}</details>")
    return "".join(parts)


# -- cells ---------------------------------------------------------------------------------------------------------

CARD_HEAD = ("run", "second", "fault", "detected ms", "elected ms", "no answer ms", "p99 during ms", "lost", "twice")


def _card_rows(letter: str, run: Run) -> Iterator[tuple[str, ...]]:
    for each in run.repetitions:
        began_ns = each.report.result.started_ns
        for card in each.faults.cards:
            times = (card.detected_ms, card.elected_ms, card.silence_ms, card.p99_during_ms)
            told = ["-" if value is None else f"{value:,.1f}" for value in times]
            at = f"{(card.time_ns - began_ns) / NS_PER_S:.1f}"
            name = f"{letter}{each.number}" if len(run.repetitions) > 1 else letter
            yield (name, at, card.title, *told, card.lost or "not judged", card.duplicated or "not judged")


def _cell(value: Spread, digits: int) -> str:
    middle = f"{value.middle:,.{digits}f}"
    return middle if value.low == value.high else f"{middle} ({value.low:,.{digits}f} to {value.high:,.{digits}f})"


def _ratio_cell(value: Spread | None) -> str:
    if value is None:
        return "-"
    spread = "" if value.low == value.high else f" ({value.low:.2f} to {value.high:.2f})"
    return f"{value.middle:.2f}{spread}"


def _told_of(run: Run) -> dict[str, str]:
    settings: dict[str, Any] = {
        name: value for name, value in run.settings.items() if not (name == ENDPOINTS and run.about.cluster)
    }
    groups: Iterable[tuple[str, dict[str, Any]]] = (
        ("", settings),
        ("machine.", run.about.machine),
        ("version.", run.about.versions),
    )
    told = {f"{prefix}{name}": pages.setting_text(value) for prefix, values in groups for name, value in values.items()}
    return told | {
        "exchange": ", ".join(sorted({each.exchange for each in run.repetitions})),
        "repetitions": str(len(run.repetitions)),
    }
