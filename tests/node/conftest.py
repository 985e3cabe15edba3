"""A node as a real process, alone in its cluster, and the means to talk to it by hand."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tests.waiting import PATIENCE_S
from zmqlab.lab.hosts import free_base_ports
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames, records
from zmqlab.wire.control import StatusAnswer
from zmqlab.wire.node_status import NodeStatus


class LiveNode:
    """One running node and a DEALER to its client port."""

    def __init__(self, port: int, run_dir: Path, descriptors: int | None = None) -> None:
        """``descriptors``: how many files the process may have open, if not as many as usual."""
        self.port, self.run_dir, self._descriptors = port, run_dir, descriptors
        self.context = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []
        self.client = self.dealer(2)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        arguments = ["--node", "node0", "--port", str(self.port), "--run-dir", str(self.run_dir), "--watch-stdin"]
        limit = [] if self._descriptors is None else ["sh", "-c", f'ulimit -n {self._descriptors}; exec "$@"', "sh"]
        command = [*limit, sys.executable, "-m", "zmqlab.node", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        deadline = time.monotonic() + PATIENCE_S
        while (status := self.status()).role != "leader" or status.lag or not status.applied_index:
            assert time.monotonic() < deadline, "the node does not lead itself"
            time.sleep(0.01)
        return process

    def kill_and_restart(self) -> None:
        self.process.kill()
        self._end()
        self.process = self._start()

    def _end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def dealer(self, offset: int, identity: bytes = b"", receive_queue: int = 1_000) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.DEALER)
        self._sockets.append(socket)
        socket.setsockopt(zmq.RCVHWM, receive_queue)
        if identity:
            socket.setsockopt(zmq.IDENTITY, identity)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.connect(f"tcp://127.0.0.1:{self.port + offset}")
        return socket

    def subscriber(self, receive_queue: int) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.SUB)
        self._sockets.append(socket)
        socket.setsockopt(zmq.RCVHWM, receive_queue)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(f"tcp://127.0.0.1:{self.port}")
        return socket

    def receive(self, timeout_ms: int = round(1_000 * PATIENCE_S)) -> bytes:
        assert self.client.poll(timeout_ms), "the node did not answer"
        return self.client.recv()

    def ask(self, query: control.Query) -> control.Answer:
        self.client.send(control.encode(frames.QUERY, query))
        return control.decode_answer(self.receive())

    def status(self) -> NodeStatus:
        answer = self.ask(control.StatusQuery(1))
        assert isinstance(answer, StatusAnswer)
        return answer.status

    def open_session(self, nonce: int = 99) -> int:
        self.client.send(client_wire.encode_open_session(nonce))
        (response,) = client_wire.iter_responses(self.receive())
        assert response.request_number == nonce
        return response.client_id

    def request(self, client_id: int, number: int, *commands: tuple[int, ...]) -> client_wire.Response:
        frame = client_wire.encode_request(client_id, number, number, records.pack_commands(commands))
        self.client.send(frame)
        (response,) = client_wire.iter_responses(self.receive())
        return response

    def close(self) -> None:
        for socket in self._sockets:
            socket.close(linger=0)
        self.context.term()
        self._end()
        assert self.process.returncode == 0


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LiveNode]:
    """A cluster of one that leads itself."""
    live = LiveNode(free_base_ports(1)[0], tmp_path)
    yield live
    live.close()
