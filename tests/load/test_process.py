"""A load client in a process of its own: metrics, control, the result, and never outliving its parent."""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from tests.client.conftest import MakeNodes
from tests.load.test_generator import settings_for
from tests.waiting import PATIENCE_S, wait_for
from zmqlab.errors import FrameError
from zmqlab.load import load_messages
from zmqlab.load.load_messages import LoadResult
from zmqlab.load.load_process import command_line, passes_of
from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.run_record import read_ledger, read_run

pytestmark = pytest.mark.process


class Parent:
    """What LoadClient does, in a few lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.sub: zmq.Socket[bytes] = self.context.socket(zmq.SUB)
        self.sub.subscribe(b"")
        self.router: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (self.sub, self.router)]
        self.endpoints = [f"tcp://127.0.0.1:{port}" for port in ports]
        self.process: subprocess.Popen[bytes] | None = None
        self.route = b""

    def start(self, settings: LoadSettings) -> subprocess.Popen[bytes]:
        command = command_line(settings, *self.endpoints, self.folder)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdin is not None
        self.process.stdin.write(passes_of(None, None))
        self.process.stdin.flush()
        return self.process

    def hear(self, timeout_s: float = PATIENCE_S) -> load_messages.ToParent:
        assert self.router.poll(int(timeout_s * 1000)), "the load process says nothing"
        self.route, frame = self.router.recv_multipart()
        return load_messages.decode_to_parent(frame)

    def figures(self) -> load_messages.LoadMetrics:
        """Its next snapshot."""
        assert self.sub.poll(round(1_000 * PATIENCE_S)), "the load process publishes nothing"
        return load_messages.decode_metrics(self.sub.recv())

    def say(self, message: load_messages.ToLoad) -> None:
        self.router.send_multipart([self.route, load_messages.encode_control(message)])

    def result(self, cause: str = "") -> LoadResult:
        assert self.process is not None
        self.process.wait(PATIENCE_S)
        read = read_run(self.folder, cause)
        assert isinstance(read, LoadResult)
        return read

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            for pipe in (self.process.stdin, self.process.stderr):
                assert pipe is not None
                pipe.close()
        self.context.destroy(linger=0)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Parent]:
    made = Parent(tmp_path)
    yield made
    made.close()


def test_it_starts_obeys_and_tells_its_result(make_nodes: MakeNodes, parent: Parent) -> None:
    settings = settings_for(make_nodes(1), rate=500, duration_s=30, name="load-a")
    process = parent.start(settings)
    started = parent.hear()
    assert isinstance(started, load_messages.LoadStarted)
    assert (started.name, started.pid) == ("load-a", process.pid)
    parent.say(load_messages.SetRate(2_000))
    assert wait_for(lambda: parent.figures().rate == 2_000)
    assert wait_for(lambda: parent.figures().total.acknowledged > 300)
    parent.say(load_messages.Stop())
    result = parent.result()
    assert result.steered == 2
    assert result.problem == ""
    assert result.client_ids == started.client_ids
    assert result.total.acknowledged == result.total.offered > 300
    assert LoadSettings.from_dict(result.settings) == settings
    assert process.wait(PATIENCE_S) == 0


def test_it_ends_when_its_parent_is_gone(make_nodes: MakeNodes, parent: Parent) -> None:
    process = parent.start(settings_for(make_nodes(1), duration_s=60))
    assert isinstance(parent.hear(), load_messages.LoadStarted)
    assert process.stdin is not None
    process.stdin.close()
    process.wait(PATIENCE_S)


def test_sigterm_stops_it_in_good_order(make_nodes: MakeNodes, parent: Parent) -> None:
    process = parent.start(settings_for(make_nodes(1), duration_s=60))
    parent.hear()
    process.send_signal(signal.SIGINT)  # a Ctrl-C in the terminal is the parent's to handle
    assert wait_for(lambda: parent.figures().total.acknowledged > 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert parent.result().total.acknowledged > 0
    assert parent.result().steered == 1, "its parent knows that it did not ask for that"


def test_what_was_acknowledged_outlives_a_load_process_that_is_killed(make_nodes: MakeNodes, parent: Parent) -> None:
    """Its result was a message at its end: all evidence died with it."""
    process = parent.start(settings_for(make_nodes(1), rate=1_000, duration_s=60))
    parent.hear()
    seen = 0
    while seen < 1_500:
        seen = parent.figures().total.acknowledged
    process.kill()
    result = parent.result("it was killed")
    assert result.total.acknowledged >= seen
    assert result.problem.startswith("it was killed, ")
    assert len(read_ledger(result.ledger)) == result.total.requests


def test_a_record_that_cannot_be_written_for_a_while_ends_no_run(make_nodes: MakeNodes, parent: Parent) -> None:
    process = parent.start(settings_for(make_nodes(1), rate=1_000, duration_s=60))
    parent.hear()
    assert wait_for(lambda: parent.figures().total.acknowledged >= 500)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    told_s = parent.figures().elapsed_s
    assert wait_for(lambda: parent.figures().elapsed_s > told_s + 0.35), "it writes whenever it publishes"
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    process.send_signal(signal.SIGTERM)
    result = parent.result("it ended")  # if a second of the run was over meanwhile, its end is not told either
    assert process.returncode == 0
    assert process.stderr is not None
    assert "can't be written" in result.problem + process.stderr.read().decode()
    assert result.total.acknowledged >= 400, "what was written before"


def test_wrong_settings_fail_at_once(make_nodes: MakeNodes, parent: Parent) -> None:
    settings = settings_for(make_nodes(1))
    command = command_line(replace(settings, name="x"), *parent.endpoints, parent.folder)
    command[-1] = command[-1].replace('"rate":2000', '"rate":-1')
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert b"rate is -1" in done.stderr


def test_garbage_is_refused() -> None:
    for decode in (load_messages.decode_metrics, load_messages.decode_to_load, load_messages.decode_to_parent):
        for frame in (b"", b"ZL\x01\x30\0\0\0\0", b"ZL\x01\x31\0\0\0\0garbage"):
            with pytest.raises(FrameError):
                decode(frame)
