"""Commands on runs that were kept with ``--keep``: ``runs``, ``report``, ``compare`` and ``judge``."""

from __future__ import annotations

from pathlib import Path

import typer

from zmqlab.cli.output import JSON_OPTION, print_json
from zmqlab.errors import EXIT_FAILED, EXIT_NOT_JUDGED, EXIT_OK, SettingsError

RUN_ARGUMENT = typer.Argument(help="The folder of a kept run.", metavar="RUN")
RUNS_ARGUMENT = typer.Argument(Path("runs"), help="Where runs were kept: the DIR of --keep.", metavar="[DIR]")
FOLDERS_ARGUMENT = typer.Argument(help="Folders of kept runs; the first one is the base.", metavar="A B [C...]")
OUT_OPTION = typer.Option(None, "--out", help="The HTML page to write.", metavar="FILE")
REPORT_PAGE = "report.html"
"""In the folder of the run, unless --out names another page."""


def runs(
    folder: Path = RUNS_ARGUMENT,
    as_json: bool = JSON_OPTION,
) -> int:
    """List the kept runs and sweeps in a folder: when, what, how many orders, how fast, and the verdict.

    A sweep's figures are those of its knee. The exit status is 1 if a folder there can't be read.
    """
    from zmqlab.runs.kept_list import HEAD, kept_in

    found = kept_in(folder)
    if as_json:
        runs, sweeps = (
            [dict(zip(HEAD, map(str, each.row()), strict=True)) for each in kept] for kept in (found.runs, found.sweeps)
        )
        print_json({"runs": runs, "sweeps": sweeps, "problems": found.problems})
    else:
        typer.echo(repr(found))
    return EXIT_FAILED if found.problems else EXIT_OK


def report(run: Path = RUN_ARGUMENT, out: Path | None = OUT_OPTION) -> None:
    """Make one HTML page of a kept run: verdict, charts with faults, evidence, settings, machine. It opens offline.

    Of a kept sweep: response time and throughput over the rate, with the knee.
    """
    from zmqlab.runs.kept_run import Run
    from zmqlab.runs.kept_sweep import KeptSweep

    kept = KeptSweep.read(run) if KeptSweep.is_at(run) else Run.read(run)
    typer.echo(kept.report(out or run / REPORT_PAGE))


def compare(
    runs: list[Path] = FOLDERS_ARGUMENT,
    out: Path | None = OUT_OPTION,
) -> None:
    """Put kept runs side by side: figures, ratios with their spread, what each fault cost, what differs.

    With --out also as an HTML page with percentile curves. Kept sweeps are compared by their curves and knees.
    """
    from zmqlab.runs.comparison import Comparison
    from zmqlab.runs.kept_sweep import KeptSweep, SweepComparison

    are_sweeps = [KeptSweep.is_at(each) for each in runs]
    if any(are_sweeps) and not all(are_sweeps):
        raise SettingsError("a sweep can't be compared with a run: name folders of one kind")
    comparison = SweepComparison.of(*runs) if all(are_sweeps) else Comparison.of(*runs)
    typer.echo(repr(comparison))
    if out is not None:
        typer.echo(f"\n{comparison.report(out)}")


def judge(run: Path = RUN_ARGUMENT, as_json: bool = JSON_OPTION) -> int:
    """Pass the verdict on a kept run again, on the evidence in its folder. The folder stays as it is.

    The exit status is 0 only if the verdict passes for every repetition.
    """
    from zmqlab.runs.kept_run import Run
    from zmqlab.runs.kept_sweep import KeptSweep

    if KeptSweep.is_at(run):
        raise SettingsError(f"{run} is a sweep, which has no verdict: zmqlab report shows it")
    verdicts = {each.number: each.judge() for each in Run.read(run).repetitions}
    if as_json:
        print_json({str(number): verdict.as_dict() for number, verdict in verdicts.items()})
    else:
        told = [
            repr(verdict) if len(verdicts) == 1 else f"repetition {number}, {verdict!r}"
            for number, verdict in verdicts.items()
        ]
        typer.echo("\n".join(told))
    outcomes = {verdict.outcome for verdict in verdicts.values()}
    return EXIT_FAILED if "failed" in outcomes else EXIT_NOT_JUDGED if "not judged" in outcomes else EXIT_OK
