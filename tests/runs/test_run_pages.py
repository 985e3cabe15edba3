"""Reports and comparisons: nothing from outside, nothing unescaped, a unit on every axis, ratios with their spread."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.runs.recorded import judged_run
from tests.widgets.browser import CHROMIUM, FLAGS, NEEDS_CHROMIUM
from zmqlab import Run
from zmqlab.cli import run as zmqlab
from zmqlab.errors import SettingsError
from zmqlab.runs.comparison import Comparison, ratio
from zmqlab.runs.kept_run import Spread
from zmqlab.runs.run_charts import LANES, Line, lanes_of, log_ticks, round_ticks, tick_text
from zmqlab.runs.run_pages import grouped, run_page

LAYOUT = """() => {
  const found = [], root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(`the page is ${root.scrollWidth} wide`);
  for (const picture of document.querySelectorAll("svg")) {
    const frame = picture.getBoundingClientRect();
    const texts = [...picture.querySelectorAll("text")].map((each) => [each.textContent, each.getBoundingClientRect()]);
    for (const [text, box] of frame.width ? texts : [])
      if (box.left < frame.left - 1 || box.right > frame.right + 1) found.push(`${text} is cut`);
    texts.forEach(([text, a], at) => texts.slice(at + 1).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 3) found.push(`${text} covers ${other}`);
    }));
  }
  return found;
}"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """A calm run of two repetitions, and a slower one with a kill."""
    folder = tmp_path_factory.mktemp("runs")
    calm = Run.keep(judged_run(kill_at_s=None), folder, "calm")
    calm.add(judged_run(kill_at_s=None, slow=1.1, seed=2))
    return [calm, Run.keep(judged_run(slow=3, fail_if=["p99>1ms"]), folder, "killed")]


def test_a_report_needs_nothing_from_outside(runs: list[Run], tmp_path: Path) -> None:
    for run in runs:
        page = run.report(tmp_path / "pages" / "report.html").read_text()
        assert not re.search(r"(src|href)=|@import|url\(|<script", page)
        assert page.startswith("<!doctype html>")
        assert "prefers-color-scheme: dark" in page
    assert list((tmp_path / "pages").iterdir()) == [tmp_path / "pages" / "report.html"]


def test_a_report_says_what_happened(runs: list[Run]) -> None:
    page = run_page(runs[1])
    for words in (
        ">PASSED<",
        "threshold p99&gt;1ms was crossed",
        "node0 killed (it led)",
        "node1 leads after",
        "node1 leads, term 2",
        "no answer: 0.4",
        "all 30 acknowledged requests are in the replicated log",
        "load.rate",
        "processor",
    ):
        assert words in page, words
    for picture in re.findall(r"<svg.*?</svg>", page):
        assert re.search(">(orders/s|ms)</text>", picture)
        assert "seconds since the first order was due" in picture or "share of the orders (%)" in picture


def test_a_silence_of_one_of_several_groups_is_drawn_as_a_silence(tmp_path: Path) -> None:
    """Its label names the group."""
    judged = judged_run()
    judged.result.report.result.client_groups = [0, 1]
    page = run_page(Run.keep(judged, tmp_path))
    assert re.search(r'<rect class="silent"[^>]*><title>no answer of group 0', page)
    assert '<i class="silent">no answer came</i>' in page


def test_a_report_of_repetitions_shows_them_together_first(runs: list[Run]) -> None:
    page = run_page(runs[0])
    assert page.count("<details open>") == 1
    assert page.index("Response time by percentile") < page.index("Repetition 1: passed") < page.index("Repetition 2")


def test_a_threshold_that_a_later_repetition_crossed_is_told_first(tmp_path: Path) -> None:
    run = Run.keep(judged_run(fail_if=["p99>10ms"], kill_at_s=None), tmp_path)
    for slow in (9, 12):
        run.add(judged_run(fail_if=["p99>10ms"], kill_at_s=None, slow=slow))
    before_the_figures = run_page(run).partition('<div class="tiles">')[0]
    [told] = re.findall("threshold p99&gt;10ms was crossed([^<]*)<", before_the_figures)
    assert re.fullmatch(r" in 2 of 3 repetitions, first in repetition 2: .*ms.*", told), told


def test_what_a_node_says_is_no_markup(tmp_path: Path) -> None:
    judged = judged_run()
    for event in judged.events:
        event.node, event.text = "<b>node0</b>", "<script>alert(1)</script>"
    run = Run.keep(judged, tmp_path)
    for page in (run_page(run), run._repr_html_()):
        assert "<script" not in page
        assert "<b>node0" not in page


def test_a_long_run_has_fewer_points_and_the_highest_percentiles(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmqlab.runs.run_pages.POINTS_MAX", 3)
    rows = runs[1].repetitions[0].seconds
    few = grouped(rows)
    assert [row.at_s for row in few] == [0, 2, 4]
    assert sum(row.acknowledged for row in few) == sum(row.acknowledged for row in rows)
    assert few[1].response_p99_ms == max(rows[2].response_p99_ms, rows[3].response_p99_ms)  # type: ignore[type-var]
    assert "highest of 2 s" in run_page(runs[1])


def test_a_comparison_tells_what_differs_and_by_how_much(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    told = repr(Comparison(runs))
    assert "A  " in told
    assert "B / A" in told
    [line] = [line for line in told.splitlines() if line.startswith("response time p50")]
    assert re.search(r"\d\.\d\d \(\d\.\d\d to \d\.\d\d\) +\d\.\d\d +3\.\d\d \(2\.\d\d to \d\.\d\d\)", line), line
    assert "node0 killed" in told
    assert re.search("repetitions +2 +1", told)
    assert "load.nodes" not in told
    with pytest.raises(SettingsError, match="1 runs can't be compared"):
        Comparison(runs[:1])


def test_the_spread_of_a_ratio_is_the_widest() -> None:
    assert ratio(Spread(20, 18, 22), Spread(10, 9, 11)) == (2, 18 / 11, 22 / 9)
    assert ratio(Spread(20, 18, 22), Spread(0, 0, 1)) is None


def test_the_commands(runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calm, killed = (str(run.folder) for run in runs)
    assert zmqlab(["runs", str(runs[0].folder.parent), "--json"]) == 0
    assert [run["folder"] for run in json.loads(capsys.readouterr().out)["runs"]] == [calm, killed]
    assert zmqlab(["judge", killed]) == 0
    assert "verdict: PASSED" in capsys.readouterr().out
    assert zmqlab(["report", calm, "--out", str(tmp_path / "report.html")]) == 0
    assert zmqlab(["compare", calm, killed, "--out", str(tmp_path / "compare.html")]) == 0
    assert "B / A" in capsys.readouterr().out
    assert "What differs" in (tmp_path / "compare.html").read_text()
    assert zmqlab(["report", str(tmp_path)]) == 1
    assert "is no kept run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("high", "ticks"), [(1, [0, 0.5, 1]), (950, [0, 500, 1000]), (5_000, [0, 2_000, 4_000, 6_000])]
)
def test_ticks_are_round_numbers(high: float, ticks: list[float]) -> None:
    assert round_ticks(high, 3) == pytest.approx(ticks)


def test_a_logarithmic_axis_has_two_decades_at_least() -> None:
    assert [tick_text(tick) for tick in log_ticks(2.4, 2.6)] == ["1", "3", "10", "30", "100"]
    assert [tick_text(tick) for tick in log_ticks(0.2, 40_000)][-1] == "100,000"


def test_labels_do_not_cover_each_other() -> None:
    lines = [Line(10 + number / 10, f"node{number} killed", "fault") for number in range(LANES + 2)]
    assert lanes_of(lines, 1_000, 60) == [*range(LANES), None, None]
    assert lanes_of([Line(5, "a", "fault"), Line(40, "b", "fault")], 1_000, 60) == [0, 0]


@pytest.mark.browser
@pytest.mark.long
@NEEDS_CHROMIUM
def test_nothing_is_cut_and_nothing_covers_another_thing(runs: list[Run], tmp_path: Path) -> None:
    long = Run.keep(judged_run(seconds=600, rate=20_000, kill_at_s=200.5), tmp_path, "ten-minutes")
    pages = [run.report(tmp_path / f"{run.about.what}.html") for run in (*runs, long)]
    assert pages[-1].stat().st_size < 5_000_000
    pages.append(Comparison(runs).report(tmp_path / "comparison.html"))
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser:
        for width in (1280, 800):
            tab = browser.new_page(viewport={"width": width, "height": 900}, offline=True)
            for page in pages:
                tab.goto(page.as_uri())
                assert tab.evaluate(LAYOUT) == [], f"{page.name} at {width} px"
