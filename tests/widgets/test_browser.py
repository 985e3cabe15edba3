"""The panel as a person uses it: JupyterLab in a headless Chromium, one story from *Run All* to the kernel's restart.

Screenshots of each step are kept in the folder that ``ZMQLAB_SCREENSHOTS`` names, if it does.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="playwright drives the browser: pip install 'zmqlab[lab,test]'")

from playwright.sync_api import Browser, Locator

from tests.waiting import seconds_until, wait_for
from tests.widgets.browser import MARKS, keep, kernels_of, living, nodes_of, processes_of, run_folders
from tests.widgets.jupyter import FAILED, JupyterLab, LabVisit

pytestmark = MARKS

CHAPTER = Path(__file__).parents[2] / "notebooks" / "01_start_a_cluster.ipynb"
STAGED = ', layout=\\"stage\\"'
"""In the chapter's first cell."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[JupyterLab]:
    """The chapter with the panel in its cell, in place of the stage."""
    text = CHAPTER.read_text()
    assert STAGED in text
    (tmp_path / "chapter.ipynb").write_text(text.replace(STAGED, ""))
    (tmp_path / "jupyter").mkdir()
    server = JupyterLab(tmp_path / "jupyter", tmp_path / "chapter.ipynb")
    yield server
    server.close()


SMALL = """from IPython.display import display
from zmqlab import Cluster, LoadClient
from zmqlab.widgets import Lab
cluster = Cluster(3).start()
load = LoadClient(cluster, rate=100, duration=None).start()
display(Lab(cluster, load))"""
"""The only cell of a notebook."""
ALL_OLD = "() => document.querySelectorAll('.zl-old').length === 9"
"""Each part of the panel is dimmed."""
ALL_OFF = """() => [...document.querySelectorAll('.zl-lab button')].every((each) =>
  !each.checkVisibility() || each.closest('[inert]'))"""
"""Nothing that is shown can be clicked."""


@pytest.fixture
def small_lab(tmp_path: Path) -> Iterator[JupyterLab]:
    cell = {"cell_type": "code", "id": "start", "metadata": {}, "outputs": [], "execution_count": None, "source": SMALL}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": [cell]}
    path = tmp_path / "small.ipynb"
    path.write_text(json.dumps(notebook))
    (tmp_path / "jupyter").mkdir()
    server = JupyterLab(tmp_path / "jupyter", path)
    yield server
    server.close()


@pytest.fixture
def visit(lab: JupyterLab, browser: Browser) -> Iterator[LabVisit]:
    opened = lab.open(browser, 1400, 1900)
    opened.command("application:toggle-left-area")
    yield opened
    keep(opened, "last")
    opened.page.close()


def await_rest(part: Locator) -> None:
    """Until it stays where it is. JupyterLab scrolls to the last cell that has run, and a click beside a button does
    nothing."""
    last = None
    for _ in range(60):
        part.scroll_into_view_if_needed()
        last, before = part.bounding_box(), last
        if last == before:
            return
        part.page.wait_for_timeout(500)


@pytest.mark.long
def test_the_panel_from_run_all_to_the_kernels_end(lab: JupyterLab, visit: LabVisit) -> None:
    page = visit.page

    # Run All: charts move, in their data and in their pixels.
    visit.begin("notebook:run-all-cells")
    visit.await_model("series", "m.data.t.length > 3", timeout_ms=180_000)
    visit.await_model("series", "m.data.acknowledged.at(-1) > 200", timeout_ms=60_000)
    assert page.evaluate(FAILED) == 0
    charts = page.locator(".zl-live-figures").first
    one = charts.screenshot()
    seconds_until(lambda: charts.screenshot() != one, 60)
    keep(visit, "load")

    # The chapter's own story, to its end: it kills the leader, and starts it again.
    visit.await_cells()
    panel = page.locator(".zl-lab")
    panel.scroll_into_view_if_needed()
    await_rest(panel)

    # Kill the leader: a process is dead, another node leads, the line and the card appear, the charts go on.
    nodes = nodes_of(lab.pid)
    assert len(nodes) == 3
    leader = page.locator("tr.zl-leads").get_attribute("data-node")
    page.get_by_role("button", name="kill the leader").click()
    assert wait_for(lambda: len(living(nodes)) < 3), page.locator(".zl-problem").all_inner_texts()
    visit.await_model("marks", f"m.data.label.includes('{leader} killed')", timeout_ms=60_000)
    page.wait_for_selector(f"tr.zl-leads:not([data-node='{leader}'])", timeout=60_000)
    page.wait_for_selector(f".zl-card-title:has-text('{leader} killed (it led)')", timeout=60_000)
    page.wait_for_function("() => /\\d ms/.test(document.querySelectorAll('.zl-figure b')[1].textContent)")
    page.wait_for_selector(".zl-film-legend:has-text('elected')")
    visit.await_model("series", "m.data.acknowledged.at(-1) > 200")
    page.wait_for_timeout(1_500)
    keep(visit, "kill")

    # All whole again, then scale to five.
    page.get_by_role("button", name="heal all", exact=True).click()
    page.wait_for_function("() => !document.querySelector('tr.zl-down')", timeout=60_000)
    page.locator(".zl-stepper [data-count='5']").click()
    page.wait_for_selector("tr[data-node='node4']", timeout=60_000)
    page.wait_for_function("() => document.querySelectorAll('tr[data-node] .zl-agree').length === 5", timeout=60_000)
    nodes |= nodes_of(lab.pid)
    assert len(living(nodes)) == 5
    keep(visit, "five")

    # Cut a link by the grid, and heal it by the same click.
    link = page.locator("[data-link='node1 node2']")
    link.click()
    page.wait_for_selector("[data-link='node1 node2'].zl-cut", timeout=60_000)
    visit.await_model("marks", "m.data.label.some((label) => label.includes('node1 → node2 cut') || !label)")
    keep(visit, "cut")
    link.click()
    page.wait_for_function("() => !document.querySelector('.zl-cut')", timeout=60_000)

    # A pause to look, in the dark: back beyond what is shown otherwise.
    visit.await_model("series", "m.data.t.length > 330", timeout_ms=120_000)
    page.locator(".zl-live-options select").first.select_option("30 s")
    visit.await_model("series", "m.data.t.length < 320")
    visit.command("apputils:change-theme", {"theme": "JupyterLab Dark"})
    page.get_by_role("button", name="pause to look").click()
    page.get_by_role("button", name="go on").wait_for()
    still = visit.model("time", "end")
    page.wait_for_timeout(500)
    assert visit.model("time", "end") == still
    assert visit.model("series", "data.t.length") > 330
    keep(visit, "dark")
    page.get_by_role("button", name="go on").click()
    visit.await_model("time", f"m.end > {still}")

    # A reload of the page: the panel lives, with its history.
    visit.command("docmanager:save")
    page.reload()
    visit.await_kernel()
    visit.await_model("series", "m.data.t.length > 20", timeout_ms=60_000)
    newest = visit.model("series", "data.t.at(-1)")
    visit.await_model("series", f"m.data.t.at(-1) > {newest}")

    # Stop the load: it is judged, and the card says so.
    page.get_by_role("button", name="stop and judge").click()
    page.wait_for_selector("text=Every promise was kept", timeout=60_000)
    page.locator("summary").click()
    page.wait_for_function("() => /killed.*0\\s*0/s.test(document.querySelector('.zl-panel details').innerText)")
    keep(visit, "judged")

    # The kernel restarts: no process is left.
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    seconds_until(lambda: not living(nodes | nodes_of(lab.pid)), 60)
    assert visit.outside == []
    assert visit.errors == []


BOXES = """() => {
    const box = (each) => {
        const { left, right, top, bottom } = each.getBoundingClientRect();
        return { left, right, top, bottom };
    };
    const cells = [...document.querySelectorAll(".jp-Cell")].map(box);
    const code = [...document.querySelectorAll(".jp-CodeCell .cm-scroller")].filter((each) => each.checkVisibility());
    return { stage: box(document.querySelector(".zl-stage")), cells, height: innerHeight, width: innerWidth,
        cut: code.map((each) => each.scrollWidth - each.clientWidth), code: code.map((each) => each.clientWidth),
        kill: box(document.querySelector(".zl-place-actions .zl-danger")),
        parts: [...document.querySelectorAll(".zl-stage-grid > .zl-place")].map(box) };
}"""
"""Where things stand on the page."""
CELLS = "() => jupyterapp.shell.currentWidget.content.model.cells.length"


@pytest.mark.long
def test_the_stage_stands_beside_the_text(tmp_path: Path, browser: Browser) -> None:
    (tmp_path / "jupyter").mkdir()
    server = JupyterLab(tmp_path / "jupyter", CHAPTER)
    try:
        visit = server.open(browser, 1400, 900)
        tell_the_stages_story(server, visit)
        visit.page.close()
    finally:
        server.close()


def width_of(box: dict[str, float]) -> float:
    return box["right"] - box["left"]


def tell_the_stages_story(server: JupyterLab, visit: LabVisit) -> None:
    page = visit.page
    actions, cards = page.locator(".zl-place-actions"), page.locator(".zl-place-cards")

    # Run All ends at the last cell, and the stage is in sight beside it; no cell is under it.
    visit.begin("notebook:run-all-cells")
    visit.await_model("series", "m.data.acknowledged.at(-1) > 200", timeout_ms=180_000)
    visit.await_cells()
    cards.get_by_text("killed (it led)").wait_for(timeout=60_000)
    now = page.evaluate(BOXES)
    assert now["stage"]["right"] <= now["width"]
    assert now["stage"]["top"] >= 0
    assert now["stage"]["bottom"] <= now["height"]
    assert max(cell["right"] for cell in now["cells"]) <= now["stage"]["left"] + 1
    assert max(now["cut"]) <= 1, "each line of code is in sight as a whole"
    assert min(now["code"]) > 450, "and most of them in one piece"
    keep(visit, "stage")

    # Keys that are pressed on the stage are none of the notebook's; its edge can be moved by them.
    cells = page.evaluate(CELLS)
    page.locator(".zl-tabs button").first.focus()
    page.keyboard.press("b")
    page.keyboard.press("x")
    assert page.evaluate(CELLS) == cells
    page.locator(".zl-edge").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(BOXES)["stage"]["left"] > now["stage"]["left"] + 5
    page.keyboard.press("ArrowLeft")

    # A click kills, and the card of that kill comes.
    nodes = nodes_of(server.pid)
    leader = page.locator(".zl-pop-row.zl-leads").get_attribute("data-node")
    actions.get_by_role("button", name="kill the leader").click()
    seconds_until(lambda: len(living(nodes)) < 3, 60)
    cards.get_by_text(f"{leader} killed (it led)").wait_for(timeout=60_000)

    # The menu of a node, on top of everything.
    actions.get_by_role("button", name="a node ▾").click()
    row = page.locator(f".zl-pop-row[data-node='{leader}']")
    row.get_by_role("button", name="restart").click()
    page.keyboard.press("Escape")
    page.wait_for_selector(".zl-pop-row.zl-leads", state="attached", timeout=60_000)

    # A link is made slow without being cut first, and has its card.
    page.locator(".zl-tabs").get_by_role("button", name="links").click()
    page.locator(".zl-brushes").get_by_role("button", name="make worse").click()
    link = page.locator("[data-link='node1 node2']")
    link.click()
    page.wait_for_selector("[data-link='node1 node2'].zl-ill", timeout=60_000)
    assert "100 ms" in link.inner_text()
    assert page.locator(".zl-cell.zl-cut").count() == 0
    cards.get_by_text("node1 → node2 bad").wait_for(timeout=60_000)
    link.click()
    page.wait_for_function("() => !document.querySelector('.zl-ill')", timeout=60_000)
    page.locator(".zl-tabs").get_by_role("button", name="links").click()

    # On a narrow page it stands above the text, its buttons in sight.
    for width in (1000, 800):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_selector(".zl-stage.zl-top")
        now = page.evaluate(BOXES)
        assert now["kill"]["right"] <= now["stage"]["right"] <= now["width"]
        assert now["kill"]["bottom"] <= now["stage"]["bottom"] < now["height"] - 100, "there is text below"
        assert max(part["bottom"] for part in now["parts"]) <= now["stage"]["bottom"], (
            "the card of the fault is in sight"
        )
        figures, picture, chart, *_ = now["parts"]
        assert width_of(figures) > 0.9 * width_of(now["stage"]), "each part has its width"
        assert min(width_of(picture), width_of(chart)) > 0.4 * width_of(now["stage"])
        keep(visit, f"stage-{width}")
    page.set_viewport_size({"width": 1400, "height": 900})
    page.wait_for_selector(".zl-stage.zl-right")

    # Back into its cell, and out again. The cell runs again: there is one stage, of the new cluster.
    page.get_by_role("button", name="back into the cell").click()
    page.wait_for_selector(".jp-OutputArea .zl-stage:not(.zl-docked)")
    page.get_by_role("button", name="beside the text").click()
    page.wait_for_selector(".jp-NotebookPanel > .zl-stage.zl-docked")
    page.evaluate("() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 1; }")
    visit.command("notebook:run-cell", {})
    page.wait_for_function("() => document.querySelectorAll('.zl-stage').length === 1", timeout=60_000)
    page.wait_for_selector(".zl-pop-row.zl-leads", state="attached", timeout=60_000)

    # The kernel restarts: nothing can be pressed, and one line says why.
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_selector(".zl-stage .zl-status[data-level='no kernel']", timeout=60_000)
    assert page.locator(".zl-stage .zl-age:visible").count() == 0, "one line says it for all"
    assert page.locator(".zl-place-actions > .zl-panel").evaluate("(panel) => panel.inert")
    assert page.locator(".zl-tabs").evaluate("(tabs) => tabs.inert")
    keep(visit, "stage-gone")
    assert visit.outside == []
    assert visit.errors == []


def run_cell(visit: LabVisit, server: int) -> set[int]:
    """Run the only cell, and wait for its end; the processes that the server, by its pid, then has."""
    visit.page.evaluate("() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 0; }")
    visit.command("notebook:run-cell", {})
    visit.await_kernel()
    assert visit.page.evaluate(FAILED) == 0
    return processes_of(server)


@pytest.mark.long
def test_what_a_cell_started_ends_with_its_next_run(small_lab: JupyterLab, browser: Browser) -> None:
    """By the processes of the machine, not by the register: JupyterLab itself names the cells and keeps the outputs."""
    visit = small_lab.open(browser, 1400, 1200)
    seen: set[int] = set()
    for _ in range(3):
        now = run_cell(visit, small_lab.pid)
        assert len(now) == 4, "three nodes and the load"
        assert not now & seen
        assert not living(seen), "the next run of the cell ends what the last one started"
        assert len(run_folders(small_lab.folder)) == 1
        seen |= now
    visit.page.wait_for_selector("tr.zl-leads")
    assert visit.page.locator(".zl-lab").count() == 1
    visit.page.close()


@pytest.mark.long
def test_a_kernel_that_ends_leaves_nothing(small_lab: JupyterLab, browser: Browser) -> None:
    visit = small_lab.open(browser, 1400, 1200)

    def is_all_gone(pids: set[int]) -> bool:
        return not living(pids) and not run_folders(small_lab.folder)

    # It restarts.
    first = run_cell(visit, small_lab.pid)
    assert len(first) == 4
    visit.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    seconds_until(lambda: is_all_gone(first), 60)

    # The browser's tab is closed. JupyterLab keeps the kernel, and so the cluster goes on until that is shut down.
    visit.await_kernel()
    second = run_cell(visit, small_lab.pid)
    visit.page.wait_for_selector("tr.zl-leads")
    visit.page.close()
    assert len(living(second)) == 4
    other = browser.new_page()
    other.goto(f"{small_lab.url}/lab/workspaces/other")
    other.wait_for_function("() => window.jupyterapp?.serviceManager.isReady")
    other.evaluate("() => jupyterapp.serviceManager.sessions.shutdownAll()")
    seconds_until(lambda: is_all_gone(second), 60)
    assert not processes_of(small_lab.pid)
    other.close()


@pytest.mark.long
def test_what_the_panel_says_when_little_is_known(small_lab: JupyterLab, browser: Browser) -> None:
    """A display never claims what it does not know: an outage, a kernel that hangs or restarts, a stopped cluster."""
    visit = small_lab.open(browser, 1400, 1900)
    visit.command("application:toggle-left-area")
    page, load = visit.page, visit.page.locator(".zl-figures")
    head = page.locator(".zl-panel:has(.zl-nodes) > .zl-head")

    def press(name: str) -> None:
        for node in ("node0", "node1", "node2"):
            page.locator(f"tr[data-node='{node}']").get_by_role("button", name=name, exact=True).click()

    # All nodes are dead, then all are paused.
    processes = run_cell(visit, small_lab.pid)
    page.wait_for_selector("tr.zl-leads")
    press("kill -9")
    head.get_by_text("no node runs: heal all starts them").wait_for()
    page.wait_for_selector("text=The cluster acknowledges nothing", timeout=60_000)
    page.wait_for_selector("text=clients wait", timeout=60_000)
    status = page.locator(".zl-status-line")
    status.get_by_text("NOBODY IS SERVED").wait_for()
    assert "0 of 3 nodes run, a majority is 2" in status.inner_text()
    page.wait_for_selector(".zl-film-legend:has-text('no answer yet')")
    assert page.locator("tr.zl-leads").count() == 0
    keep(visit, "outage")
    page.get_by_role("button", name="heal all", exact=True).click()
    page.wait_for_selector("tr.zl-leads", timeout=60_000)
    visit.await_model("series", "m.data.acknowledged.at(-1) > 50")
    press("pause")
    head.get_by_text("no node leads: all nodes are paused, and heal all brings them back").wait_for()
    page.wait_for_timeout(3_000)
    assert page.locator("tr.zl-leads").count() == 0
    keep(visit, "paused")
    page.get_by_role("button", name="heal all", exact=True).click()
    page.wait_for_selector("tr.zl-leads", timeout=60_000)

    # No load.
    page.get_by_role("button", name="stop and judge").click()
    page.wait_for_selector("text=Every promise was kept", timeout=60_000)
    load.wait_for(state="hidden")
    keep(visit, "no-load")

    # The kernel hangs, then goes on.
    (kernel,) = kernels_of(small_lab.pid)
    os.kill(kernel, signal.SIGSTOP)
    page.wait_for_selector(".zl-status-text:has-text('no news from the kernel for')", timeout=60_000)
    page.wait_for_function(ALL_OLD, timeout=60_000)  # each part looks once a second, at a moment of its own
    assert page.evaluate(ALL_OFF), "a click would act on something else than the person sees"
    keep(visit, "silent")
    os.kill(kernel, signal.SIGCONT)
    page.wait_for_function("() => !document.querySelector('.zl-old')", timeout=60_000)

    # The cluster stops, and the kernel lives on.
    visit.execute("cluster.stop()")
    head.get_by_text("the cluster has stopped").wait_for()
    status.get_by_text("NOTHING RUNS").wait_for()
    page.wait_for_function("() => document.querySelectorAll('tr.zl-down').length === 3")
    assert page.locator(".zl-panel button:not(:disabled):not(.zl-close)").count() == 0, "nothing can be done any more"
    page.wait_for_timeout(8_000)
    assert page.locator(".zl-old").count() == 0, "what stands here is how it ended"
    keep(visit, "stopped")

    # The kernel restarts under a cluster that runs.
    processes |= run_cell(visit, small_lab.pid)
    page.wait_for_selector("tr.zl-leads")
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    status.get_by_text("the kernel restarts, and its cluster has ended with it").wait_for(timeout=60_000)
    assert "run the cells again" in status.inner_text()
    page.wait_for_function(ALL_OLD, timeout=60_000)
    assert page.evaluate(ALL_OFF)
    seconds_until(lambda: not living(processes), 60)
    keep(visit, "restarted")
    assert visit.errors == []
    page.close()
