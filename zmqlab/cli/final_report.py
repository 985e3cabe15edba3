"""What a command says when a run is over, as lines that fit a width, with the verdict in the last one. Pure.

A report is a list of *blocks*: figures with their names, tables, checks, notes. :func:`lines_of` fits them to a width:
texts are wrapped between words and hang under their beginning, tables shrink (:func:`zmqlab.tables.text_table`).
Without a width, as in a pipe or a file, each figure and each row is one line.

PASSED, FAILED or NOT JUDGED is always the last line, so that it is on the screen when the command has ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmqlab.cli.styled_lines import Line, Span, as_lines, labelled, wrapped
from zmqlab.tables import text_table
from zmqlab.wording import counted

if TYPE_CHECKING:
    from zmqlab.judge.verdict import LoadResult
    from zmqlab.lab.sweep import Sweep
    from zmqlab.scenarios.scenario_run import ScenarioResult
    from zmqlab.scenarios.torture_report import TortureResult

NAMES = 15
"""The longest name of a figure, and a blank."""
MARKS = {True: ("ok", "good"), False: ("FAIL", "bad"), None: ("?", "warn")}
LIMITS = {True: ("ok", "good"), False: ("CROSSED", "bad"), None: ("?", "warn")}
EXPECTED = {True: ("met", "good"), False: ("NOT MET", "bad"), None: ("NOT KNOWN", "warn")}
BAR_MS, BAR_WIDTH = (0.1, 10_000.0), 40
"""The shortest and the longest latency that a bar can tell, and the length of the longest bar."""
OUTCOMES = {"passed": "good", "failed": "bad", "not judged": "warn"}


@dataclass(frozen=True, slots=True)
class Figure:
    """A name and a value."""

    name: str
    value: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """A table."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Checked:
    """Something that was checked, with a mark before it."""

    mark: tuple[str, str]
    """The word, and its style."""
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """A text; an empty one is a blank line."""

    text: str = ""
    style: str = ""


Block = Figure | Rows | Checked | Said


def lines_of(blocks: Iterable[Block], width: int | None) -> list[Line]:
    """The report, at most ``width`` wide; None: as wide as it likes."""
    lines: list[Line] = []
    for block in blocks:
        lines += _lines_of(block, width)
    return lines


def _lines_of(block: Block, width: int | None) -> list[Line]:
    match block:
        case Figure(name, value, style):
            return _hanging(Span(name, "dim"), Span(value, style), width, NAMES)
        case Checked(mark, text):
            word, style = mark
            return _hanging(Span(f"  {word}", style), Span(text), width, 4 + len(word) if len(word) > 4 else 7)
        case Rows(head, rows):
            title, *body = text_table(head, rows, width).split("\n")
            return [[Span(title, "dim")], *as_lines(body)]
        case Said(text, style):
            return as_lines([text] if width is None else wrapped(text, width, 2), style)


def _hanging(label: Span, text: Span, width: int | None, column: int) -> list[Line]:
    if width is None:
        return [[label._replace(text=label.text.ljust(column)), text]]
    return labelled(label, text, width, column)


# -- reports -------------------------------------------------------------------------------------------------------


def of_load(result: LoadResult, run_dir: str = "", kept: str = "") -> list[Block]:
    """Of ``quick`` and ``client``."""
    return [Said(), *_of_load(result), *_places(run_dir, kept), _verdict("verdict", result.verdict.outcome, result)]


def of_torture(result: TortureResult, per_group: bool = False) -> list[Block]:
    """Of ``torture``: the load's figures, how long no client was served under each kind of fault, the verdict.

    ``per_group``: also how long none was served by each of several Raft groups.
    """
    from zmqlab.scenarios.torture_report import GROUP_HEAD, HEAD

    rows = result.group_rows() if per_group else []
    of_groups: list[Block] = [Rows(GROUP_HEAD, rows), Said()] if rows else []
    return [
        Said(),
        *_of_load(result.load),
        Said(f"{counted(len(result.outcomes), 'fault')}, seed {result.settings.get('seed')}", "title"),
        Rows(HEAD, result.rows()),
        Said(),
        *of_groups,
        *(Said(f"PROBLEM: {problem}", "bad") for problem in result.problems),
        *_places(result.run_dir, result.kept),
        _verdict("torture", result.outcome, result.load),
    ]


def of_scenario(result: ScenarioResult, with_story: bool) -> list[Block]:
    """Of ``run``: the story, unless it has been told already; what was expected, and what was."""
    story = [Figure(f"{line.at_s:7.2f} s", line.text) for line in result.story] if with_story else []
    style = "good" if result.ok else "bad" if result.exit_status == 1 else "warn"
    return [
        *story,
        Said(),
        *(Checked(EXPECTED[each.ok], f"{each.text}: {each.detail}") for each in result.expectations),
        *(block for head, rows in result.group_tables() for block in (Said(), Rows(head, rows))),
        *(Said(f"PROBLEM: {problem}", "bad") for problem in result.problems),
        *_places(result.run_dir, ", ".join(result.kept)),
        Said(),
        Said(result.title, style),
    ]


def of_sweep(sweep: Sweep, kept: str = "") -> list[Block]:
    """Of ``sweep``: the table, p99 as bars, and the knee."""
    from zmqlab.lab.sweep import HEAD

    limit = sweep.limit
    if limit == "generator" and sweep.knee:
        told = (
            f"the cluster kept up with {sweep.knee:,.0f} orders/s, and the generator with no more: the knee lies beyond"
        )
        last = Said(told, "warn")
    elif limit == "generator":
        last = Said("the generator was the limit of all of these rates: begin with a lower one", "bad")
    elif sweep.knee and not limit:
        last = Said(f"the cluster kept up with all of them: the knee lies beyond {sweep.knee:,.0f} orders/s", "good")
    elif sweep.knee:
        last = Said(f"the knee: {sweep.knee:,.0f} orders/s, the most with which the cluster kept up", "good")
    else:
        last = Said("the cluster kept up with none of these rates: begin with a lower one", "bad")
    return [
        Said(),
        Rows(HEAD, [step.row() for step in sweep]),
        Said(),
        Said("p99, on a logarithmic scale", "title"),
        *(
            Figure(f"{step.offered:,.0f}/s", log_bar(step.response_time.p99_ms), "good" if step.keeps_up else "bad")
            for step in sweep
        ),
        *_places("", kept),
        Said(),
        last,
    ]


def log_bar(latency_ms: float) -> str:
    """A bar whose length is the logarithm of a latency from 0.1 ms to 10 s, and the figure."""
    if not latency_ms:
        return "nothing was answered"
    share = math.log10(min(max(latency_ms, BAR_MS[0]), BAR_MS[1]) / BAR_MS[0]) / math.log10(BAR_MS[1] / BAR_MS[0])
    return f"{'▇' * max(1, round(share * BAR_WIDTH))} {latency_ms:,.1f} ms"


def _of_load(result: LoadResult) -> list[Block]:
    """All but the last line."""
    tables = [block for head, rows in result.tables() for block in (Rows(head, rows), Said())]
    return [
        *(Figure(name, value) for name, value in result.report.figures()),
        Figure("elections", f"{result.elections:,}"),
        Figure("exchange", result.nodes.exchange or "not known"),
        Figure("replication", result.replication()),
        *(Said(f"note: {warning}", "warn") for warning in result.warnings),
        Said(),
        *tables,
        *([Said("thresholds", "title")] if result.thresholds else []),
        *(Checked(LIMITS[each.ok], f"{each.expression}: {each.detail}") for each in result.thresholds),
        Said("promises", "title"),
        *(Checked(MARKS[each.ok], f"{each.name}: {each.detail}") for each in result.verdict.checks),
        Checked(("", ""), f"covered: {result.verdict.coverage}"),
        Said(),
    ]


def _places(run_dir: str, kept: str) -> list[Block]:
    places = [Figure("logs, journals", run_dir)] if run_dir else []
    return [*places, *([Figure("kept", kept)] if kept else [])]


def _verdict(what: str, outcome: str, load: LoadResult) -> Said:
    """The last line. A threshold that was crossed breaks no promise, and is told beside it."""
    crossed = sum(check.ok is False for check in load.thresholds)
    count = counted(crossed, "threshold was", "thresholds were")
    style = "warn" if crossed and outcome == "passed" else OUTCOMES[outcome]
    return Said(f"{what}: {outcome.upper()}" + (f", but {count} crossed" if crossed else ""), style)
