"""JupyterLab as a new user has it: a server with folders of its own, and a page of it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.widgets.browser import Visit, await_answer, environment
from zmqlab.lab.hosts import free_base_ports

READY = """() => {
    const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
    return kernel?.connectionStatus === 'connected' && kernel?.status === 'idle';
}"""
"""The toolbar says idle earlier, and then Run All does nothing."""
FAILED = """() => [...jupyterapp.shell.currentWidget.content.model.cells].filter((cell) =>
    [...Array(cell.outputs?.length ?? 0).keys()].some((i) => cell.outputs.get(i).type === 'error')).length"""
"""How many cells ended in an error."""
CELLS_DONE = f"""() => ({FAILED})() > 0 || [...jupyterapp.shell.currentWidget.content.model.cells].every((cell) =>
    cell.type !== 'code' || (cell.executionCount > 0 && cell.executionState !== 'running'))"""
"""Whether all cells have ended, or one of them in an error. JupyterLab numbers a cell when it has ended."""

LATE_OBSERVER = """
    const Real = window.IntersectionObserver;
    window.IntersectionObserver = class extends Real {
        constructor(told, options) {
            const late = (entries) => entries.filter(({ target }) => target.classList.contains("zl-live"))
                .map(({ target, isIntersecting }) => ({ target, isIntersecting: !isIntersecting }));
            super((entries, self) => told([...late(entries), ...entries], self), options);
        }
    };"""
"""As on a busy machine: what watches whether figures are in sight is told of an older state before the newest one."""


class LabVisit(Visit):
    """A page of JupyterLab with one notebook open."""

    def await_kernel(self) -> None:
        """Until the kernel is connected and idle."""
        self.page.wait_for_function(READY, timeout=120_000)

    def await_cells(self) -> None:
        """Until all cells of the notebook have run, none of them in vain: between two cells a kernel is idle, too."""
        self.page.wait_for_function(CELLS_DONE, timeout=300_000)
        assert self.page.evaluate(FAILED) == 0

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Carry out a command of JupyterLab's, and wait for it."""
        self.page.evaluate(
            "([name, args]) => jupyterapp.commands.execute(name, args).then(() => null)", [name, arguments]
        )

    def execute(self, code: str) -> None:
        """Run code in the kernel beside the notebook's cells."""
        self.page.evaluate(
            "(code) => jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code})"
            ".done.then(() => null)",
            code,
        )

    def begin(self, name: str) -> None:
        """Carry out a command without waiting."""
        self.page.evaluate("(name) => { jupyterapp.commands.execute(name); }", name)


class JupyterLab:
    """A server on a free port, with a copy of ``notebook`` as its only file."""

    def __init__(self, folder: Path, notebook: Path) -> None:
        self.folder = folder
        root, settings = folder / "root", folder / "settings"
        root.mkdir()
        shutil.copy(notebook, root / "lab.ipynb")
        news = settings / "@jupyterlab" / "apputils-extension"
        news.mkdir(parents=True)
        (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
        (port,) = free_base_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        options = [
            *("--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
            *("--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={root}"),
            *("--expose-app-in-browser", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
            "--LabApp.extension_manager=readonly",
        ]
        with self._log.open("w") as log:
            command = [sys.executable, "-m", "jupyterlab", *options]
            self._process = subprocess.Popen(command, env=environment(folder), stdout=log, stderr=log)
        await_answer(f"{self.url}/api/status", self._process, self._log)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    @property
    def _log(self) -> Path:
        return self.folder / "jupyter.log"

    def open(self, browser: Browser, width: int, height: int) -> LabVisit:
        """A page with the notebook open and its kernel ready."""
        visit = LabVisit(browser.new_page(viewport={"width": width, "height": height}), self.url)
        visit.page.add_init_script(LATE_OBSERVER)
        visit.page.goto(f"{self.url}/lab/tree/lab.ipynb")
        visit.await_kernel()
        return visit

    def close(self) -> None:
        """End the server and its kernels. It may end all kernels, and then wait for a thread of its own for ever."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
