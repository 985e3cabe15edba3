"""JupyterLab as a person has it, with folders of its own, and a headless Chromium that looks at it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
START_TIMEOUT_S = 60
READY = """() => {
    const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
    return kernel?.connectionStatus === 'connected' && kernel?.status === 'idle';
}"""
"""The toolbar says idle earlier, and then Run All does nothing."""
FAILED = """() => [...jupyterapp.shell.currentWidget.content.model.cells].filter((cell) =>
    [...Array(cell.outputs?.length ?? 0).keys()].some((i) => cell.outputs.get(i).type === 'error')).length"""


class JupyterLab:
    """A server on a free port, with ``cells`` as its only notebook."""

    def __init__(self, folder: Path, cells: list[str]) -> None:
        self._folder = folder
        root, settings = folder / "root", folder / "settings"
        root.mkdir()
        (root / "lab.ipynb").write_text(json.dumps(notebook(cells)))
        news = settings / "@jupyterlab" / "apputils-extension"
        news.mkdir(parents=True)
        (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        own = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "IPYTHONDIR": "ipython",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        environment = os.environ | {name: str(folder / each) for name, each in own.items()}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        options = [
            *("--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
            *("--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={root}"),
            *("--expose-app-in-browser", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
            "--LabApp.extension_manager=readonly",
        ]
        with self._log.open("w") as log:
            command = [sys.executable, "-m", "jupyterlab", *options]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._await_answer()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    @property
    def _log(self) -> Path:
        return self._folder / "jupyter.log"

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/api/status", timeout=1):
                    return
            except OSError:
                alive = self._process.poll() is None and time.monotonic() < deadline
                assert alive, f"JupyterLab did not start: {self._log.read_text()[-2_000:]}"
                time.sleep(0.1)

    def open(self, browser: Browser, width: int, height: int) -> Visit:
        """A page with the notebook open and its kernel ready."""
        return Visit(browser.new_page(viewport={"width": width, "height": height}), self.url)

    def close(self) -> None:
        """End the server and its kernels."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)


class Visit:
    """One page, and what it did that it should not have."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.outside: list[str] = []
        """Requests that would have left the machine."""
        self.errors: list[str] = []
        page.on("request", lambda request: self._asked(request.url, url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._said(message.type, message.text))
        page.goto(f"{url}/lab/tree/lab.ipynb")
        self.await_kernel()

    def await_kernel(self) -> None:
        """Until the kernel is connected and idle."""
        self.page.wait_for_function(READY, timeout=60_000)

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Carry out a command of JupyterLab's, and wait for it."""
        self.page.evaluate(
            "([name, args]) => jupyterapp.commands.execute(name, args).then(() => null)", [name, arguments]
        )

    def begin(self, name: str) -> None:
        """Carry out a command without waiting."""
        self.page.evaluate("(name) => { jupyterapp.commands.execute(name); }", name)

    def model(self, name: str, path: str) -> Any:
        """A value of one of the figures' models, as in ``model("series", "data.t.length")``."""
        return self.page.evaluate(f"() => Bokeh.documents[0].get_model_by_name({name!r}).{path}")

    def await_model(self, name: str, condition: str, timeout_ms: float = 10_000) -> None:
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


def notebook(cells: list[str]) -> dict[str, Any]:
    """A notebook of code cells."""
    empty: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return {
        "cells": [{"id": f"cell{number}", "source": cell} | empty for number, cell in enumerate(cells)],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
