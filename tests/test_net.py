"""ZeroMQ sockets are made in one module; what it makes is bounded, and what it can't bind is explained."""

from __future__ import annotations

import ast
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from zmqlab import net
from zmqlab.errors import ListenFailed, PortInUse, SettingsError

PACKAGE = Path(__file__).parent.parent / "zmqlab"
BOUNDS = net.SocketBounds(frame_bytes=1_000, send_messages=7, receive_messages=9, reconnect_ms=11, heartbeat_ms=50)
MAKERS = {"Context", "socket", "get_monitor_socket", "monitor", "instance", "shadow"}
"""Names that make a context or a socket when they are called on something of ZeroMQ."""


def makes_sockets(tree: ast.AST) -> list[int]:
    """The lines in which a ZeroMQ context or socket is made. Python's own ``socket.socket(...)`` is none."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in MAKERS:
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        is_python_socket = name == "socket" and not any("zmq." in ast.unparse(each) for each in node.args)
        is_monitor = name == "get_monitor_socket" or (name == "monitor" and owner != "net")
        is_of_zmq = owner == "zmq" or "context" in owner.lower() or is_monitor
        if is_of_zmq and not is_python_socket:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_net_makes_sockets(path: Path) -> None:
    lines = makes_sockets(ast.parse(path.read_text()))
    if path == PACKAGE / "net.py":
        assert lines, "this test finds what it looks for"
    else:
        assert lines == [], "make sockets in zmqlab/net.py, which bounds them"


def test_the_rule_sees_what_it_forbids() -> None:
    for code in (
        "zmq.Context()",
        "zmq.Context.instance()",
        "context.socket(zmq.SUB)",
        "self._context.socket(zmq.DEALER)",
        "sock.get_monitor_socket(1)",
        "sock.monitor('inproc://x', 1)",
    ):
        assert makes_sockets(ast.parse(code)) == [1], code
    assert makes_sockets(ast.parse("socket.socket(socket.AF_INET, socket.SOCK_STREAM)")) == []


def connects(tree: ast.AST) -> list[int]:
    """The lines in which a socket of ZeroMQ is connected: what is called a socket, or made of one kind of it."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    owners = [(node.lineno, ast.unparse(node.func.value)) for node in calls if node.func.attr == "connect"]  # type: ignore[attr-defined]
    kinds = ("socket", "dealer", "router", "subscriber", "publisher", "broadcasts")
    return [line for line, owner in owners if any(kind in owner.lower() for kind in kinds)]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_net_connects_them(path: Path) -> None:
    """libzmq looks names of hosts up in the thread that moves all data: only ``net`` may hand it an endpoint."""
    lines = connects(ast.parse(path.read_text()))
    assert bool(lines) == (path == PACKAGE / "net.py"), "connect sockets with net.attach, which refuses names"


@pytest.fixture
def context() -> Iterator[net.Context]:
    made = net.new_context()
    yield made
    made.destroy(linger=0)


def test_a_socket_has_the_bounds_that_it_was_given(context: net.Context) -> None:
    made = net.open_socket(context, zmq.DEALER, BOUNDS)
    values = {
        zmq.LINGER: 0,
        zmq.MAXMSGSIZE: 1_000,
        zmq.SNDHWM: 7,
        zmq.RCVHWM: 9,
        zmq.RECONNECT_IVL: 11,
        zmq.HEARTBEAT_IVL: 50,
        zmq.IMMEDIATE: 0,
    }
    with made:
        assert {option: made.getsockopt(option) for option in values} == values


def test_a_port_that_is_taken_names_the_process_that_has_it(context: net.Context) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = rf"node7 can't listen on 127.0.0.1:{port}: .* does\. Choose another --port"
        made = net.open_socket(context, zmq.ROUTER, BOUNDS)
        with pytest.raises(PortInUse, match=said):
            net.bind(made, "127.0.0.1", port, "node7")
        made.close(0)


def test_an_address_of_another_machine_is_no_port_in_use(context: net.Context) -> None:
    """Any failure to bind was reported as a port in use."""
    said = r"no interface of this machine has the address 192\.0\.2\.1"
    made = net.open_socket(context, zmq.ROUTER, BOUNDS)
    with pytest.raises(ListenFailed, match=said):
        net.bind(made, "192.0.2.1", 5_000, "node7")
    made.close(0)


def test_libzmq_is_given_no_name(context: net.Context) -> None:
    """It looked ``silent.example`` up in its I/O thread: 30 s in which nothing else of the context moved."""
    for endpoint in ("tcp://silent.example:5000", "tcp://127.1:5000", "tcp://localhost.lan:5000"):
        with pytest.raises(SettingsError, match="names a host"):
            net.connect(context, zmq.DEALER, endpoint, BOUNDS)


@pytest.mark.parametrize("host", ["::1", "[::1]", "::"])
def test_ipv6(context: net.Context, host: str) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    with net.open_socket(context, zmq.ROUTER, BOUNDS) as listening:
        net.bind(listening, host, port, "node7")
        for endpoint in [f"tcp://[::1]:{port}", f"tcp://127.0.0.1:{port}"][: 2 if host == "::" else 1]:
            with net.connect(context, zmq.DEALER, endpoint, BOUNDS) as asking:
                asking.send(b"hello")
                assert listening.poll(30_000)
                assert listening.recv_multipart()[1] == b"hello"


class Reader:
    """A ROUTER that is read through inlets, and a DEALER that talks to it."""

    def __init__(self, context: net.Context) -> None:
        self.router = net.open_socket(context, zmq.ROUTER, BOUNDS)
        self.dealer = net.connect(context, zmq.DEALER, net.bind_to_free_port(self.router), BOUNDS)
        self.inlets = net.Inlets([self.router])
        self.dealer.send(b"hello")
        assert self.inlets.wait(30_000) == {self.router}
        self.route, _ = self.router.recv_multipart()
        assert not self.inlets.has_more(self.router)
        assert self.inlets.wait(0) == set()

    def close(self) -> None:
        self.dealer.close(0)
        self.router.close(0)

    def say(self, text: bytes) -> None:
        """Sends it, and waits until it has arrived, without a look at the reading socket."""
        self.dealer.send(text)
        time.sleep(0.5)


@pytest.fixture
def reader(context: net.Context) -> Iterator[Reader]:
    made = Reader(context)
    yield made
    made.close()


def test_a_socket_that_was_not_emptied_comes_again_at_once(reader: Reader) -> None:
    reader.say(b"one")
    reader.dealer.send(b"two")
    assert reader.inlets.wait(30_000) == {reader.router}
    assert reader.router.recv_multipart() == [reader.route, b"one"]
    assert reader.inlets.wait(30_000) == {reader.router}
    assert reader.router.recv_multipart() == [reader.route, b"two"]
    assert not reader.inlets.has_more(reader.router)
    assert reader.inlets.wait(0) == set()


@pytest.mark.parametrize("is_told", [True, False])
def test_what_has_arrived_while_the_owner_sent_is_found_if_the_inlets_are_told(reader: Reader, is_told: bool) -> None:
    """libzmq takes note of it in the send, and the descriptor tells nothing more."""
    reader.say(b"question")
    reader.router.send_multipart([reader.route, b"answer"])
    if is_told:
        reader.inlets.written.add(reader.router)
    assert reader.inlets.wait(0) == ({reader.router} if is_told else set())


def test_inlets_wait_for_a_plain_descriptor_too(reader: Reader) -> None:
    one, other = socket.socketpair()
    with one, other:
        reader.inlets.add_descriptor(one.fileno())
        other.send(b"x")
        assert reader.inlets.wait(30_000) == {one.fileno()}
