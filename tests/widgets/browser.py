"""A headless Chromium, and what a test wants to know of a page and of the servers behind it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page

from tests.jupyter_folders import own_folders
from zmqlab.lab.processes import find
from zmqlab.lab.run_folders import PREFIX

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
START_TIMEOUT_S = 180
PATIENCE_MS = 60_000
"""For what a page is to show: it only ends a test that fails."""
NEEDS_CHROMIUM = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium")
MARKS = [pytest.mark.browser, pytest.mark.process, pytest.mark.timeout(600), NEEDS_CHROMIUM]
PAGE_MARKS = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(300), NEEDS_CHROMIUM]
"""Of tests of a page without Jupyter and without nodes."""


class Visit:
    """One page of a server at ``url``, and what it did that it should not have."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.set_default_timeout(PATIENCE_MS)
        self.outside: list[str] = []
        """Requests that would have left the machine."""
        self.errors: list[str] = []
        page.on("request", lambda request: self._asked(request.url, url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._said(message.type, message.text))

    def model(self, name: str, path: str) -> Any:
        """A value of one of the figures' models, as in ``model("series", "data.t.length")``."""
        return self.page.evaluate(f"() => Bokeh.documents[0].get_model_by_name({name!r}).{path}")

    def await_model(self, name: str, condition: str, timeout_ms: float = PATIENCE_MS) -> None:
        """Until a condition on a model ``m`` holds."""
        script = (
            f"() => {{ const m = window.Bokeh?.documents[0]?.get_model_by_name({name!r}); return m && ({condition}); }}"
        )
        self.page.wait_for_function(script, timeout=timeout_ms)

    def _asked(self, url: str, own: str) -> None:
        if not url.startswith((own, own.replace("http", "ws"), "data:", "blob:")):
            self.outside.append(url)

    def _said(self, kind: str, text: str) -> None:
        if kind == "error":
            self.errors.append(text)


def environment(folder: Path) -> dict[str, str]:
    """Of a new user, whose first Python is the one that runs this."""
    own = own_folders(
        folder, JUPYTERLAB_SETTINGS_DIR="settings", JUPYTERLAB_WORKSPACES_DIR="workspaces", TMPDIR="temporary"
    )
    return own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"}


def await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a server that was just started answers."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=START_TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            alive = process.poll() is None and time.monotonic() < deadline
            assert alive, f"it did not start: {log.read_text()[-2_000:]}"
            time.sleep(0.1)


def nodes_of(server: int) -> set[int]:
    """The nodes that the kernels of a server, by its pid, run now."""
    below = {process.pid for process in psutil.Process(server).children(recursive=True)}
    return below & {process.pid for process in find() if process.kind == "node"}


def processes_of(server: int) -> set[int]:
    """The nodes and load clients that the kernels of a server run now."""
    below = {process.pid for process in psutil.Process(server).children(recursive=True)}
    return below & {process.pid for process in find()}


def kernels_of(server: int) -> set[int]:
    """The kernels of a server, by its pid."""
    below = psutil.Process(server).children(recursive=True)
    return {process.pid for process in below if "ipykernel_launcher" in " ".join(_command(process))}


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def run_folders(folder: Path) -> list[Path]:
    """The run folders that stand in the temporary folder of :func:`environment`."""
    return sorted((folder / "temporary").glob(f"{PREFIX}*"))


def living(pids: set[int]) -> set[int]:
    """Those that still run."""
    found = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.add(pid)
    return found


def keep(visit: Visit, name: str) -> None:
    """Keep a screenshot in the folder that ``ZMQLAB_SCREENSHOTS`` names, if it is set."""
    folder = os.environ.get("ZMQLAB_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        visit.page.screenshot(path=f"{folder}/{name}.png")
