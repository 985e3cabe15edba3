"""Sweeps that are kept: read again as they were, drawn with their knee, and compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.runs.recorded import judged_run
from zmqlab import Run
from zmqlab.cli import run as zmqlab
from zmqlab.cli.final_report import lines_of, of_sweep
from zmqlab.cli.styled_lines import plain
from zmqlab.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, RunUnreadable, SettingsError
from zmqlab.lab.sweep import Sweep, SweepStep
from zmqlab.load.load_report import LatencySummary
from zmqlab.runs.kept_list import OF_SWEEPS, KeptList, kept_in
from zmqlab.runs.kept_sweep import STEPS, KeptSweep, SweepComparison


def made_up(knee: float = 8_000, slow: float = 1.0) -> Sweep:
    """Flat up to the knee, and then a queue."""
    steps = Sweep()
    for rate in (1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0):
        done, wait = min(rate, knee), slow * (2 + (400 if rate > knee else rate / 4_000))
        times = LatencySummary(wait, 1.5 * wait, 3 * wait, 4 * wait, 9 * wait)
        steps.append(SweepStep(rate, rate, done, times, times, 0.0))
    return steps


def test_it_is_read_again_as_it_was_measured(tmp_path: Path) -> None:
    kept = KeptSweep.keep(made_up(), tmp_path, step_s=2)
    again = KeptSweep.read(kept.folder)
    assert list(again.sweep) == list(made_up())
    assert again.about.settings == {"step_s": 2}
    assert kept.folder.name.endswith("-sweep")
    assert "The cluster kept up with 8,000 orders/s (p50 4.0 ms, p99 12.0 ms)" in repr(again)
    assert KeptSweep.keep(made_up(), tmp_path).folder != kept.folder


def test_its_page_draws_both_curves_and_the_knee(tmp_path: Path) -> None:
    kept = KeptSweep.keep(made_up(), tmp_path)
    page = kept.report(tmp_path / "page.html").read_text()
    assert not re.search(r"(src|href)=|@import|url\(|<script", page)
    assert page.count("knee 8,000/s</text>") == 4, "two charts, in two widths"
    assert page.count(">orders a second offered</text>") == 4
    assert ">ms</text>" in page
    assert ">orders/s</text>" in page
    assert re.search(r"<td>memory</td><td>[\d.,]+ GiB</td>", page), "and says what it was measured on"


def test_a_knee_that_was_not_reached_is_not_named(tmp_path: Path) -> None:
    kept = KeptSweep.keep(made_up(knee=100_000), tmp_path)
    assert "all of these rates, and the knee lies beyond" in repr(kept)
    assert "knee 16,000" not in kept.report(tmp_path / "page.html").read_text()
    assert SweepComparison([kept, kept]).rows()[0][2] == "> 16,000"
    none = KeptSweep.keep(made_up(knee=10), tmp_path)
    assert none.knee is None
    assert "kept up with none of these rates" in repr(none)
    assert "-" in SweepComparison([kept, none]).rows()[1]


def test_the_command_and_the_report_name_the_same_knee_where_the_generator_was_the_limit(tmp_path: Path) -> None:
    steps = Sweep(step._replace(late_share=0.5) if step.rate > 2_000 else step for step in made_up(knee=100_000))
    kept = KeptSweep.keep(steps, tmp_path)
    last = plain(lines_of(of_sweep(steps), None)[-1])
    assert last == "the cluster kept up with 2,000 orders/s, and the generator with no more: the knee lies beyond"
    assert "kept up with 2,000 orders/s (p50 2.5 ms, p99 7.5 ms). Of higher rates the load generator was" in repr(kept)
    assert "knee 2,000" not in kept.report(tmp_path / "page.html").read_text()
    assert SweepComparison([kept, kept]).rows()[0][2] == "> 2,000"
    none = Sweep(steps[2:])
    assert plain(lines_of(of_sweep(none), None)[-1]).startswith("the generator was the limit of all of these rates")
    assert "The load generator was the limit of all of these rates" in repr(KeptSweep.keep(none, tmp_path))


def test_two_sweeps_are_compared_with_both_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = KeptSweep.keep(made_up(), tmp_path)
    second = KeptSweep.keep(made_up(knee=4_000, slow=2), tmp_path)
    out = tmp_path / "both.html"
    assert zmqlab(["compare", str(first.folder), str(second.folder), "--out", str(out)]) == EXIT_OK
    said = capsys.readouterr().out
    assert re.search(r"A +\S+-sweep +8,000 +4.0 +12.0 +1.00", said)
    assert re.search(r"B +\S+ +4,000 +6.0 +18.0 +0.50", said)
    page = out.read_text()
    assert "A: knee 8,000/s" in page
    assert "B: knee 4,000/s" in page
    assert zmqlab(["report", str(first.folder)]) == EXIT_OK
    assert (first.folder / "report.html").exists()


def test_sweeps_are_listed_beside_runs_and_judged_by_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.keep(judged_run(), tmp_path, "quick")
    sweep, none = KeptSweep.keep(made_up(), tmp_path), KeptSweep.keep(made_up(knee=10), tmp_path)
    damaged = KeptSweep.keep(made_up(), tmp_path)
    (damaged.folder / STEPS).write_text("{}")
    found = kept_in(tmp_path)
    assert [each.folder for each in found] == [run.folder, sweep.folder, none.folder], "by time"
    assert (len(found.runs), len(found.sweeps), len(found.problems)) == (1, 2, 1)
    assert "at the knee" in found._repr_html_()
    assert zmqlab(["runs", str(tmp_path)]) == EXIT_FAILED, "one can't be read"
    said = capsys.readouterr().out
    assert re.search(rf"quick .* passed +{run.folder}", said)
    assert re.search(rf"sweep +- +8,000 +4.00 +12.00 +- +{sweep.folder}", said)
    assert re.search(rf"sweep +- +- +- +- +- +{none.folder}", said)
    assert "A sweep has no verdict. Its orders/s and latencies are those at the knee.\n" in said
    assert f"{damaged.folder / STEPS}" in said
    assert zmqlab(["judge", str(sweep.folder)]) == EXIT_USAGE
    assert "is a sweep, which has no verdict: zmqlab report shows it" in capsys.readouterr().err
    assert OF_SWEEPS not in repr(KeptList([run]))


def test_what_makes_no_sense_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = KeptSweep.keep(made_up(), tmp_path)
    with pytest.raises(SettingsError, match="the sweep has no steps"):
        KeptSweep.keep(Sweep(), tmp_path)
    with pytest.raises(RunUnreadable, match="Name the folder of a kept sweep"):
        KeptSweep.read(tmp_path)
    assert zmqlab(["compare", str(kept.folder), str(tmp_path)]) == EXIT_USAGE
    assert "a sweep can't be compared with a run" in capsys.readouterr().err
    assert zmqlab(["sweep", "--rates", "1k,max"]) == EXIT_USAGE
    assert "--rates says max" in capsys.readouterr().err
    (kept.folder / STEPS).write_text("{}")
    with pytest.raises(RunUnreadable, match="can't be read"):
        KeptSweep.read(kept.folder)
