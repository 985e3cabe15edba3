"""A Dask cluster as a person starts one in a shell: a scheduler and workers as processes, here on loopback.

Each worker listens at a loopback address of its own, where the system has several, and so is a machine to Dask. All of
it is bounded: the scheduler ends by itself when it has been idle for :data:`IDLE_S`, and a worker with its scheduler.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.waiting import wait_for
from zmqlab.lab.hosts import module_environment

IDLE_S = 120
START_S = 180


def address_in(scheduler_file: Path) -> str:
    """Where the scheduler is that writes this file. Dask writes it in place: it is empty for a moment."""

    def told() -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return dict(json.loads(scheduler_file.read_text()))
        return {}

    assert wait_for(told, START_S)
    return str(told()["address"])


class DaskProcesses:
    """A scheduler and ``count`` workers ``w0``, ``w1``, ..., without nannies."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self._scheduler_file = folder / "scheduler.json"
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.scheduler = self._start(
            "scheduler",
            *("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--idle-timeout", f"{IDLE_S}s"),
        )
        for number in range(count):
            self.start_worker(number)

    def __enter__(self) -> DaskProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in (*self.workers.values(), self.scheduler):
            process.kill()
            process.wait()

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return address_in(self._scheduler_file)

    def start_worker(self, number: int, *more: str) -> None:
        """Start worker ``number``, also after it was killed."""
        host = f"127.0.0.{number + 1}" if sys.platform == "linux" else "127.0.0.1"
        self.workers[f"w{number}"] = self._start(
            f"w{number}",
            *("worker", "--host", host, "--name", f"w{number}", "--no-nanny", "--no-dashboard", "--nthreads", "1"),
            *("--death-timeout", str(START_S), "--local-directory", str(self.folder), *more),
        )

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.folder / f"{name}.log").read_text()

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(self._scheduler_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=module_environment(),
                start_new_session=True,
            )
