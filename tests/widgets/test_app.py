"""``make app``: the panel as a page without code, by Voilà, for a demo in front of a class that has no network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("playwright", reason="playwright drives the browser: pip install 'zmqlab[lab,test]'")

from playwright.sync_api import Browser

from tests.waiting import seconds_until
from tests.widgets.browser import (
    MARKS,
    Visit,
    await_answer,
    environment,
    keep,
    kernels_of,
    living,
    nodes_of,
    processes_of,
    run_folders,
)
from zmqlab.lab.hosts import free_base_ports

pytestmark = [*MARKS, pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")]

ROOT = Path(__file__).parents[2]
TOKEN = "of-this-test"
"""Without one, Voilà draws a token and prints the address that has it."""
LEADS = ".zl-pop-row.zl-leads"
"""The leader's row in the menu of nodes."""
FILLS = """() => {
    const stage = document.querySelector(".zl-stage").getBoundingClientRect();
    const chart = document.querySelector(".zl-place-chart .zl-live-figures > *").getBoundingClientRect();
    return stage.width === innerWidth && stage.height === innerHeight && chart.height > innerHeight / 4;
}"""
RELOADS = 10
LEFT_S = 60
"""A page that is left ends its kernel, and that its cluster, in order."""
CULLED_S = 75
"""A kernel that no page ended, and that no page uses, ends when it is a minute old; Voilà looks every ten seconds."""


class App:
    """The server that the Makefile's rule starts, in the environment that runs this test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (port,), log = free_base_ports(1), folder / "voila.log"
        self.url = f"http://127.0.0.1:{port}"
        installed = f"{sys.prefix}/.installed-lab"
        command = [
            "make",
            "app",
            f"VENV={sys.prefix}",
            "-o",
            installed,
            f"LAB_ARGS=--no-browser --port={port} --Voila.token={TOKEN}",
        ]
        with log.open("w") as out:
            own = environment(folder)
            self._make = subprocess.Popen(command, cwd=ROOT, env=own, stdout=out, stderr=out, start_new_session=True)
        await_answer(f"{self.url}/static/none", self._make, log)

    @property
    def pid(self) -> int:
        """What all else descends from."""
        return self._make.pid

    def close(self) -> None:
        """As Ctrl-C does: the signal goes to make and to the server."""
        if self._make.poll() is None:
            os.killpg(self._make.pid, signal.SIGINT)
            self._make.wait(30)

    def end(self) -> None:
        """Whatever became of the test, nothing of the server goes on and slows the tests that follow."""
        everything = psutil.Process(self._make.pid).children(recursive=True) if self._make.poll() is None else []
        try:
            self.close()
        finally:
            _, alive = psutil.wait_procs(everything, timeout=60)
            for process in alive:
                process.kill()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    server = App(tmp_path)
    yield server
    server.end()


@pytest.mark.long
def test_the_panel_as_a_page(app: App, browser: Browser) -> None:
    """At the end: a page that was loaded again, or closed, left its cluster running for as long as the server."""
    visit = Visit(browser.new_page(viewport={"width": 1400, "height": 1500}), app.url)
    page = visit.page
    page.goto(app.url)
    assert "/login" in page.url, "without the token there is no panel"
    page.goto(f"{app.url}/?token={TOKEN}")
    visit.await_model("series", "m.data.acknowledged.at(-1) > 200", timeout_ms=180_000)
    assert "LoadClient(" not in page.inner_text("body"), "the code is not shown"
    nodes = nodes_of(app.pid)
    assert len(nodes) == 3
    leader = page.locator(LEADS).get_attribute("data-node")
    assert page.evaluate(FILLS), "the stage has the whole window, and the chart fills its place"
    page.get_by_role("button", name="kill the leader").click()
    page.wait_for_selector(f".zl-card-title:has-text('{leader} killed (it led)')", timeout=60_000)
    page.wait_for_selector(f"{LEADS}:not([data-node='{leader}'])", state="attached", timeout=60_000)
    visit.await_model("series", "m.data.acknowledged.at(-1) > 200")
    keep(visit, "app")
    assert visit.outside == []
    assert visit.errors == []
    page.reload()
    seconds_until(lambda: not living(nodes), 60)
    page.wait_for_selector(LEADS, state="attached", timeout=60_000)
    nodes = nodes_of(app.pid)
    assert len(nodes) == 3
    page.goto("about:blank")  # to close it would end its whole browser context, and with it what it sends at its end
    seconds_until(lambda: not living(nodes), 60)
    app.close()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_page_that_is_loaded_ten_times_and_left(app: App, browser: Browser) -> None:
    """Each load is a kernel with a cluster of its own. The first page is left before it can say that it leaves, and so
    its kernel ends like that of a browser that died."""
    page = browser.new_page(viewport={"width": 1400, "height": 1500})
    page.goto(f"{app.url}/?token={TOKEN}", wait_until="commit")
    seconds_until(lambda: processes_of(app.pid), 30)
    early = kernels_of(app.pid)
    seen, before = processes_of(app.pid), early
    for _ in range(RELOADS):
        page.reload(wait_until="commit")
        page.wait_for_selector(LEADS, state="attached", timeout=60_000)
        kernels = kernels_of(app.pid)
        assert len(kernels - before) == 1
        assert len(kernels - early) == 1, "the page before ended its kernel when it was left"
        seen, before = seen | processes_of(app.pid), before | kernels
    assert len(seen) > 4 * RELOADS, "three nodes and a load each, and what the first page had begun"
    page.goto("about:blank")
    seconds_until(lambda: not kernels_of(app.pid) - early, LEFT_S)
    seconds_until(lambda: not kernels_of(app.pid) and not living(seen), CULLED_S)
    seconds_until(lambda: not run_folders(app.folder), LEFT_S)
