"""A load client in a process of its own: metrics, control, the result, and never outliving its parent."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import zmq

from tests.client.conftest import MakeNodes
from tests.load.test_generator import settings_for
from zmqlab.errors import FrameError
from zmqlab.load import load_messages
from zmqlab.load.load_process import command_line, passes_of
from zmqlab.load.load_settings import LoadSettings

pytestmark = pytest.mark.process


class Parent:
    """What LoadClient does, in a few lines."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.sub: zmq.Socket[bytes] = self.context.socket(zmq.SUB)
        self.sub.subscribe(b"")
        self.router: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.MAXMSGSIZE, load_messages.MAX_RESULT_BYTES)
        ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (self.sub, self.router)]
        self.endpoints = [f"tcp://127.0.0.1:{port}" for port in ports]
        self.process: subprocess.Popen[bytes] | None = None
        self.route = b""

    def start(self, settings: LoadSettings) -> subprocess.Popen[bytes]:
        command = command_line(settings, *self.endpoints)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdin is not None
        self.process.stdin.write(passes_of(None, None))
        self.process.stdin.flush()
        return self.process

    def hear(self, timeout_s: float = 10) -> load_messages.ToParent:
        assert self.router.poll(int(timeout_s * 1000)), "the load process says nothing"
        self.route, frame = self.router.recv_multipart()
        return load_messages.decode_to_parent(frame)

    def say(self, message: load_messages.ToLoad) -> None:
        self.router.send_multipart([self.route, load_messages.encode_control(message)])

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(5)
            for pipe in (self.process.stdin, self.process.stderr):
                assert pipe is not None
                pipe.close()
        self.context.destroy(linger=0)


@pytest.fixture
def parent() -> Iterator[Parent]:
    made = Parent()
    yield made
    made.close()


def test_it_starts_obeys_and_tells_its_result(make_nodes: MakeNodes, parent: Parent) -> None:
    settings = settings_for(make_nodes(1), rate=500, duration_s=30, name="load-a")
    process = parent.start(settings)
    started = parent.hear()
    assert isinstance(started, load_messages.LoadStarted)
    assert (started.name, started.pid) == ("load-a", process.pid)
    parent.say(load_messages.SetRate(2_000))
    rates = set()
    for _ in range(8):
        assert parent.sub.poll(2_000)
        rates.add(load_messages.decode_metrics(parent.sub.recv()).rate)
    assert 2_000 in rates
    parent.say(load_messages.Stop())
    ended = parent.hear()
    assert isinstance(ended, load_messages.LoadEnded)
    result = ended.result
    assert result.client_ids == started.client_ids
    assert result.total.acknowledged == result.total.offered > 300
    assert LoadSettings.from_dict(result.settings) == settings
    assert process.wait(5) == 0


def test_it_ends_when_its_parent_is_gone(make_nodes: MakeNodes, parent: Parent) -> None:
    process = parent.start(settings_for(make_nodes(1), duration_s=60))
    assert isinstance(parent.hear(), load_messages.LoadStarted)
    assert process.stdin is not None
    process.stdin.close()
    begun = time.monotonic()
    process.wait(5)
    assert time.monotonic() - begun < 3


def test_sigterm_stops_it_in_good_order(make_nodes: MakeNodes, parent: Parent) -> None:
    process = parent.start(settings_for(make_nodes(1), duration_s=60))
    parent.hear()
    process.send_signal(signal.SIGINT)  # a Ctrl-C in the terminal is the parent's to handle
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert isinstance(parent.hear(), load_messages.LoadEnded)
    assert process.wait(5) == 0


def test_wrong_settings_fail_at_once(make_nodes: MakeNodes, parent: Parent) -> None:
    settings = settings_for(make_nodes(1))
    command = command_line(replace(settings, name="x"), *parent.endpoints)
    command[-1] = command[-1].replace('"rate":2000', '"rate":-1')
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=20, check=False)
    assert done.returncode == 2
    assert b"rate is -1" in done.stderr


def test_garbage_is_refused() -> None:
    for decode in (load_messages.decode_metrics, load_messages.decode_to_load, load_messages.decode_to_parent):
        for frame in (b"", b"ZL\x01\x30\0\0\0\0", b"ZL\x01\x31\0\0\0\0garbage"):
            with pytest.raises(FrameError):
                decode(frame)
