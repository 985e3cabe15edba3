"""Whole commands in a terminal, with real processes: what a person sees while nodes die, and what is left then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

pytest.importorskip("pyte", reason="pyte draws what a person would see: pip install 'zmqlab[test]'")

from tests.cli.terminals import Terminal
from tests.waiting import wait_for
from zmqlab.lab import processes

pytestmark = [pytest.mark.process, pytest.mark.long]
ZMQLAB = [sys.executable, "-m", "zmqlab.cli"]


@contextmanager
def running(terminal: Terminal, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command whose terminal this is."""
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [*ZMQLAB, *arguments],
        stdin=terminal.slave,
        stdout=terminal.slave,
        stderr=terminal.slave,
        env={**environment, "TERM": "xterm-256color"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def node_pids(owner: int) -> dict[str, int]:
    """The nodes that this process has started, by name."""
    return {each.name: each.pid for each in processes.find() if each.kind == "node" and each.owner == owner}


def leader_on(terminal: Terminal) -> str:
    """The node that the screen calls the leader."""
    return next((line.split()[0] for line in terminal.lines if " leader " in f"{line} "), "")


def test_a_screen_from_the_first_order_over_two_deaths_to_the_verdict() -> None:
    with Terminal(80, 24) as terminal, running(terminal, "quick", "--rate", "500", "--duration", "60s") as command:
        assert wait_for(lambda: "SERVING" in terminal.lines[1] and leader_on(terminal)), terminal.lines
        nodes, first = node_pids(command.pid), leader_on(terminal)
        os.kill(nodes.pop(first), signal.SIGKILL)
        assert wait_for(lambda: any(line.split()[:2] == [first, "dead"] for line in terminal.lines))
        assert wait_for(lambda: any("leads, term" in line for line in terminal.lines)), terminal.lines
        assert wait_for(lambda: "DEGRADED" in terminal.lines[1]), terminal.lines
        os.kill(nodes.popitem()[1], signal.SIGKILL)
        assert wait_for(lambda: "NOBODY IS SERVED" in terminal.lines[1]), terminal.lines
        assert not terminal.is_as_it_was
        command.send_signal(signal.SIGINT)
        assert command.wait(60) in (1, 9), "orders of the last moments may never be answered"
        assert wait_for(lambda: terminal.is_as_it_was)
        last = [line for line in terminal.lines if line][-1]
        assert last.startswith("verdict: "), terminal.lines
        assert "interrupted: ending the load" in terminal.raw.rpartition("\x1b[?1049l")[2]


def test_a_command_that_is_killed_by_its_shell_gives_the_terminal_back() -> None:
    with Terminal(80, 24) as terminal, running(terminal, "quick", "--rate", "500", "--duration", "60s") as command:
        assert wait_for(lambda: "SERVING" in terminal.lines[1]), terminal.lines
        everything = psutil.Process(command.pid).children(recursive=True)
        command.send_signal(signal.SIGTERM)
        assert wait_for(lambda: "\x1b[?1049l" in terminal.raw or "JUDGING" in terminal.lines[1])
        command.wait(60)
        assert wait_for(lambda: terminal.is_as_it_was)
        _, alive = psutil.wait_procs(everything, timeout=60)
        assert alive == []
