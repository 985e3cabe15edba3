"""The live picture of five real nodes under load, in JupyterLab: what is seen of a kill, and what it costs.

It prints figures, and asserts no time: kernel CPU, paints a second, the time from a click to the visible death, and
the time from the end of a backlog to the last segment of the film strip.
Screenshots are kept in the folder that ``ZMQLAB_SCREENSHOTS`` names, if it does. ``-s`` shows the figures.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("playwright", reason="playwright drives the browser: pip install 'zmqlab[lab,test]'")

from playwright.sync_api import Browser

from tests.widgets.browser import MARKS, keep, kernels_of
from tests.widgets.jupyter import FAILED, JupyterLab, LabVisit

pytestmark = [*MARKS, pytest.mark.soak]

CELL = """from IPython.display import display
from zmqlab import Cluster, LoadClient
from zmqlab.widgets import ClusterPicture, FilmStrip, LatencyChart, ThroughputChart
cluster = Cluster(5).start()
load = LoadClient(cluster, rate=2_000, duration=None).start()
strip = FilmStrip(cluster)
display(ClusterPicture(cluster), ThroughputChart(cluster), LatencyChart(cluster), strip)"""
KILLS = 3
MEASURED_S = 15
WATCH = """() => { window.whole = new Promise((done) => {
    const chips = () => [...document.querySelectorAll(".zl-film-chip")], began = performance.now();
    const isWhole = () => chips().some((each) => each.textContent.includes("backlog"));
    const isLate = () => performance.now() - began > 10_000;
    const end = () => isWhole() || isLate() ? done(isLate() ? null : Date.now()) : requestAnimationFrame(end);
    const begin = () => isWhole() && !isLate() ? requestAnimationFrame(begin) : end();
    begin();
}); }"""
"""Begins to watch the film strip. ``window.whole`` becomes the time of day, in milliseconds, of the paint that shows
the last segment of the next one; null if there is none for 10 s."""
CLICK = """(name) => new Promise((done) => {
    const clicked = performance.now(), node = document.querySelector(`.zl-picture-node[data-node=${name}]`);
    const look = () => node.dataset.look === "dead" ? done(performance.now() - clicked) : requestAnimationFrame(look);
    document.querySelector(".zl-menu .zl-danger").click();
    look();
})"""
"""Milliseconds from the click on *kill -9* to the paint that shows the node dead."""


@pytest.fixture
def visit(tmp_path: Path, browser: Browser) -> Iterator[tuple[LabVisit, psutil.Process]]:
    cell = {"cell_type": "code", "id": "start", "metadata": {}, "outputs": [], "execution_count": None, "source": CELL}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "picture.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": [cell]}))
    (tmp_path / "jupyter").mkdir()
    server = JupyterLab(tmp_path / "jupyter", path)
    opened = server.open(browser, 1400, 1300)
    opened.command("application:toggle-left-area")
    opened.page.evaluate("() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 0; }")
    opened.command("notebook:run-cell", {})
    opened.await_kernel()
    assert opened.page.evaluate(FAILED) == 0
    (pid,) = kernels_of(server.pid)
    yield opened, psutil.Process(pid)
    opened.page.close()
    server.close()


def paints(visit: LabVisit) -> int:
    return int(visit.page.locator(".zl-picture").get_attribute("data-paints") or 0)


def measure(visit: LabVisit, kernel: psutil.Process) -> None:
    """Print what a picture and two charts cost under load."""
    kernel.cpu_percent()
    before, began = paints(visit), time.monotonic()
    visit.page.wait_for_timeout(1000 * MEASURED_S)
    rate = (paints(visit) - before) / (time.monotonic() - began)
    print(f"\nkernel {kernel.cpu_percent():.1f} % of a core, picture painted {rate:.1f} times a second")


def kill_the_leader(visit: LabVisit) -> float:
    """By its menu; returns after how many milliseconds it was seen dead, when another node leads."""
    page = visit.page
    leader = page.locator(".zl-picture-node[data-look=leader]").get_attribute("data-node")
    node = page.locator(f".zl-picture-node[data-node={leader}]")
    node.click()
    took_ms: float = page.evaluate(CLICK, leader)
    page.wait_for_timeout(500)
    keep(visit, "picture-killed")
    page.wait_for_selector(f".zl-picture-node[data-look=leader]:not([data-node={leader}])", timeout=60_000)
    node.click()
    page.locator(".zl-menu").get_by_role("button", name="restart").click()
    page.wait_for_selector(f".zl-picture-node[data-node={leader}][data-look=follower]", timeout=60_000)
    return took_ms


def film_a_pause(visit: LabVisit, path: Path) -> float:
    """After how many milliseconds the film strip of a paused leader is whole; ``path`` is for a note of the kernel.

    The page watches before the leader is paused: on a quiet machine the strip is whole before the cell has ended.
    """
    visit.page.locator(".zl-film").scroll_into_view_if_needed()
    visit.page.evaluate(WATCH)
    visit.execute("cluster.pause(paused := cluster.leader)")
    shown_ms: float | None = visit.page.evaluate("() => window.whole")
    assert shown_ms is not None, "the film strip did not become whole"
    done_ms = "strip._filmed_ns / 1e6 + (strip._film.done_ms or 0)"
    visit.execute(f"import pathlib; pathlib.Path({str(path)!r}).write_text(str({done_ms})); cluster.resume(paused)")
    keep(visit, "film-strip")
    return shown_ms - float(path.read_text())


def test_a_kill_is_seen_and_seen_again_in_slow_motion(visit: tuple[LabVisit, psutil.Process], tmp_path: Path) -> None:
    lab, kernel = visit
    page = lab.page
    page.wait_for_selector(".zl-picture-node[data-look=leader]", timeout=60_000)
    page.locator(".zl-picture").scroll_into_view_if_needed()
    page.wait_for_timeout(3_000)
    measure(lab, kernel)
    keep(lab, "picture-load")
    took_ms = [kill_the_leader(lab) for _ in range(KILLS)]
    print(f"from click to visible death: median {statistics.median(took_ms):.0f} ms of {sorted(map(round, took_ms))}")
    filmed = [film_a_pause(lab, tmp_path / "done.txt") for _ in range(KILLS)]
    print(f"from the end of the backlog to the film strip's last segment: {sorted(map(round, filmed))} ms")
    page.locator(".zl-picture").scroll_into_view_if_needed()
    page.wait_for_timeout(3_000)  # what is out of sight keeps no moments to replay
    page.get_by_role("button", name="1/100", exact=True).click()
    page.get_by_text("REPLAY 1/100").wait_for()
    page.wait_for_timeout(1_500)
    keep(lab, "picture-replay")
    page.get_by_role("button", name="back to live").click()
    lab.execute("cluster.partition(cluster.nodes[:2], cluster.nodes[2:])")
    page.get_by_role("status").filter(has_text="links cut").wait_for(timeout=60_000)
    page.wait_for_timeout(2_000)
    keep(lab, "picture-partitioned")
    lab.execute("cluster.stop()")
    page.get_by_text("the cluster has stopped").wait_for(timeout=60_000)
    assert page.locator(".zl-picture-node:not(:disabled)").count() == 0
    assert lab.errors == []
    assert lab.outside == []
