"""A node does not wait for whatever reads its standard error (``test_log.py`` has what it does instead)."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_for
from zmqlab.client import ask
from zmqlab.lab.hosts import free_base_ports
from zmqlab.settings import client_endpoint


@pytest.fixture
def full() -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe that takes nothing more."""
    reading, writing = os.pipe()
    flags = fcntl.fcntl(writing, fcntl.F_GETFL)
    fcntl.fcntl(writing, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        while os.write(writing, b"." * 4_096):
            pass
    except BlockingIOError:
        fcntl.fcntl(writing, fcntl.F_SETFL, flags)
    yield reading, writing
    os.close(reading)
    os.close(writing)


@pytest.mark.process
def test_a_node_serves_while_the_reader_of_its_standard_error_is_paused(tmp_path: Path, full: tuple[int, int]) -> None:
    """It hung at its first line, which it logs before it listens."""
    (port,) = free_base_ports(1)
    flags = ["--node", "node0", "--port", str(port), "--run-dir", str(tmp_path), "--log-to", "stderr"]
    with subprocess.Popen([sys.executable, "-m", "zmqlab.node", *flags], stderr=full[1]) as node:
        try:
            endpoint = client_endpoint("127.0.0.1", port)
            assert wait_for(lambda: ask.statuses([endpoint], 0.5), 10)
        finally:
            node.terminate()
        assert node.wait(10) == 0
