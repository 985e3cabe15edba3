"""Starting one node, signalling it, waiting for it, reading what it said: locally by default.

A :class:`Launcher` is all that :class:`~zmqlab.lab.cluster.Cluster` knows about where nodes run. It is
small so that another one (many machines, containers) is little work.

**No orphans.** A node must end with its cluster, also when the process that started it is killed by SIGKILL
and can clean up nothing. The launcher holds the writing end of a pipe that is the node's standard input,
and the node, started with ``--watch-stdin``, ends when it reads the end of it: the system closes a dead
process' descriptors whatever killed it, on Linux and on macOS. (Linux' PR_SET_PDEATHSIG looks made for
this, but fires when the *thread* that started the child ends.) A stopped node reads nothing, so for as long
as a node is paused a *sentinel* holds a pipe of its own: a shell that waits for the end of that pipe and
then continues the node, which sees its own pipe's end and goes.

Pipes are not inherited by children that *exec*. A child made by a bare ``os.fork()`` keeps them open, and
with them the nodes, until it ends too.

Nodes run in a session of their own, so that Ctrl-C in a terminal reaches the cluster's process and not the
nodes behind its back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Protocol

import zmqlab
from zmqlab.settings import NodeSettings

STDERR_TAIL_BYTES = 4_096


class NodeProcess(Protocol):
    """One started node."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that ended it), or None while it runs."""

    def wait(self, timeout_s: float) -> int | None:
        """Like :meth:`poll`, after waiting for at most ``timeout_s``."""

    def signal(self, number: int) -> None:
        """Send it a signal; SIGSTOP and SIGCONT pause and resume it. Nothing happens if it has ended."""

    def error_text(self) -> str:
        """What it wrote on standard error: one line if it could not start."""

    def close(self) -> None:
        """Give up what is held for it; a node that still runs is told to end by that."""


class Launcher(Protocol):
    """Where nodes run."""

    def start(self, settings: NodeSettings) -> NodeProcess:
        """Start a node; it is not ready when this returns, and may even end at once."""


def node_arguments(settings: NodeSettings) -> list[str]:
    """The command line (behind ``python -m zmqlab.node``) that makes exactly ``settings``."""
    arguments: list[str] = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        flag = "--node" if field.name == "name" else "--" + field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            arguments.append(flag)  # all switches are off by default
        elif isinstance(value, tuple):
            arguments += [flag, ",".join(value)]
        else:
            arguments += [flag, str(value)]
    return arguments


def module_command(module: str) -> list[str]:
    """How to run ``module`` of this very package with this interpreter, whatever the current folder holds."""
    return [sys.executable, "-P", "-m", module]


def module_environment() -> dict[str, str]:
    """The environment for :func:`module_command`: the child imports the zmqlab that this process imported."""
    root = str(Path(zmqlab.__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in (root, inherited) if part)}


class LocalLauncher:
    """Nodes as child processes on this machine."""

    def __init__(self, command: list[str] | None = None) -> None:
        self._command = command or module_command("zmqlab.node")

    def start(self, settings: NodeSettings) -> LocalNode:
        logs = settings.run_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        stderr_path = logs / f"{settings.name}.stderr"
        return LocalNode([*self._command, *node_arguments(settings)], stderr_path)


class LocalNode:
    """One node as a child process."""

    def __init__(self, command: list[str], stderr_path: Path) -> None:
        self._stderr_path = stderr_path
        self._sentinel: subprocess.Popen[bytes] | None = None
        with stderr_path.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=module_environment(),
                close_fds=True,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: int) -> None:
        if self.poll() is not None:
            return
        if number == signal.SIGSTOP:
            self._start_sentinel()
        self._process.send_signal(number)
        if number in (signal.SIGCONT, signal.SIGKILL):
            self._end_sentinel()

    def error_text(self) -> str:
        try:
            return self._stderr_path.read_bytes()[-STDERR_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""

    def close(self) -> None:
        self._end_sentinel()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self.poll() is not None:
            with contextlib.suppress(OSError):
                if self._stderr_path.stat().st_size == 0:
                    self._stderr_path.unlink()

    def _start_sentinel(self) -> None:
        if self._sentinel is None:
            self._sentinel = subprocess.Popen(
                ["/bin/sh", "-c", f"read _; kill -CONT {self.pid}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                close_fds=True,
                start_new_session=True,
            )

    def _end_sentinel(self) -> None:
        if self._sentinel is None:
            return
        self._sentinel.kill()
        self._sentinel.wait()
        if self._sentinel.stdin is not None:
            self._sentinel.stdin.close()
        self._sentinel = None


def end_all(processes: list[NodeProcess], grace_s: float) -> None:
    """End every process at once, SIGKILL to what is still there after ``grace_s``.

    SIGTERM alone would let each node look for a successor among the others that end; that its launcher has gone makes
    it end after its turn."""
    for process in processes:
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)
        process.close()
    deadline = time.monotonic() + grace_s
    for process in processes:
        if process.wait(max(0.0, deadline - time.monotonic())) is None:
            process.signal(signal.SIGKILL)
            process.wait(grace_s)
        process.close()
