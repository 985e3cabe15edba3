"""How many clients fit into the file descriptors of a load process."""

from __future__ import annotations

import errno
import subprocess
import sys

import psutil
import pytest
import zmq

from tests.client.conftest import MakeNodes
from tests.client.fake_node import FakeLog
from tests.client.steering import ONE_ORDER, collect, connect
from tests.load.test_generator import settings_for
from zmqlab import net
from zmqlab.client import ask
from zmqlab.errors import RequestError, SettingsError
from zmqlab.load.generator import Generator
from zmqlab.load.session_pool import DESCRIPTORS_A_CONNECTION, OWN_DESCRIPTORS, SessionPool

LIMITED = """
import resource, sys
from dataclasses import replace
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))
from zmqlab.load.generator import run_load
from zmqlab.load.load_settings import LoadSettings
result = run_load(LoadSettings.from_json(sys.argv[1]))
print(result.total.acknowledged == result.total.offered > 0)
"""


@pytest.fixture
def out_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """``[True]``: no socket can be made."""
    real, is_out = net.connect, [False]

    def connect(*arguments: object) -> net.Socket:
        if is_out[0]:
            raise zmq.ZMQError(errno.EMFILE)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(net, "connect", connect)
    return is_out


def test_a_connection_takes_no_more_descriptors_than_are_counted(make_nodes: MakeNodes) -> None:
    """It took four, and the process died at 100 clients of three nodes."""
    settings = settings_for(make_nodes(3), clients=20)
    process = psutil.Process()
    before = process.num_fds()
    with SessionPool(settings.nodes, settings.session, clients=20) as pool:
        pool.open(5_000)
        while not pool.all_connected:
            pool.poll(5)
        taken = process.num_fds() - before - 20 * 3  # the fake nodes' ends are in this process
        assert taken <= 20 * 3 * DESCRIPTORS_A_CONNECTION + OWN_DESCRIPTORS


def test_clients_that_do_not_fit_are_refused(make_nodes: MakeNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "raise_descriptor_limit", lambda: 256)
    said = "100 clients of 3 nodes need 648 file descriptors, and this process may have 256: 34 clients fit, or raise"
    with pytest.raises(SettingsError, match=said):
        Generator(settings_for(make_nodes(3), clients=100)).run()


def test_ten_clients_of_seven_nodes_are_served_with_256_descriptors(make_nodes: MakeNodes) -> None:
    """They needed 290; and the soft limit stayed where it was."""
    settings = settings_for(make_nodes(7), clients=10, rate=1_000, duration_s=0.5)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, settings.to_json()], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_node_for_which_no_descriptor_is_left_is_connected_later(
    make_nodes: MakeNodes, log: FakeLog, out_of_descriptors: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load process died when its cluster grew."""
    monkeypatch.setattr("zmqlab.client.connections.REOPEN_NS", 50_000_000)
    nodes = make_nodes(2)
    with connect(nodes[:1]) as session:
        out_of_descriptors[0] = True
        for node in nodes:
            node.says(*nodes, commit_index=5)
        while len(session.endpoints) < 2:
            session.poll(5)
        session.submit(ONE_ORDER)
        assert [each.node for each in collect(session, 1)] == [0]
        before = session.changes
        out_of_descriptors[0] = False
        while not all(session.connected):
            session.poll(5)
        assert session.changes > before
        assert len(session.sockets) == 2


def test_a_question_without_a_descriptor_says_so(out_of_descriptors: list[bool]) -> None:
    out_of_descriptors[0] = True
    with pytest.raises(RequestError, match="no file descriptor left"):
        ask.statuses(["tcp://127.0.0.1:5002"])
