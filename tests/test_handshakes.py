"""Who is not let in is told why, by what libzmq reports of handshakes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.waiting import wait_for
from zmqlab import handshakes, keys, net
from zmqlab.cli.command_line import carry_out
from zmqlab.client import ask
from zmqlab.client.bare_client import BareClient
from zmqlab.client.order_client import Client
from zmqlab.errors import NotLetIn, RequestTimeout
from zmqlab.handshakes import HUNG_UP_TIMES, Complaints, Report, mechanism_of, why_silent
from zmqlab.keys import Credentials, Keyring, Role
from zmqlab.lab.load_client import LoadClient

BOUNDS = net.SocketBounds(frame_bytes=1_000)


class Mute:
    """A socket that listens as a node does for its clients, with keys or without, and answers nothing."""

    def __init__(self, ring: Keyring | None) -> None:
        self._context = net.new_context()
        self._checker = net.KeyChecker(self._context, ring, {"clients": Role.WATCHER}) if ring else None
        self._router = net.open_socket(self._context, zmq.ROUTER, BOUNDS)
        if ring is not None:
            net.lock(self._router, ring.credentials(Role.MEMBER), "clients")
        self.endpoint = net.bind_to_free_port(self._router)
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over:
            if self._checker is not None:
                self._checker.wait(self._router, 10)
            else:
                time.sleep(0.01)
            with contextlib.suppress(zmq.Again):
                self._router.recv_multipart(zmq.NOBLOCK)

    def close(self) -> None:
        self._is_over = True
        self._thread.join()
        self._context.destroy(linger=0)


MakeMute = Callable[[Keyring | None], Mute]


@pytest.fixture
def mute() -> Iterator[MakeMute]:
    with contextlib.ExitStack() as stack:

        def make(ring: Keyring | None) -> Mute:
            made = Mute(ring)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture(autouse=True)
def empty_wallet() -> Iterator[None]:
    yield
    keys._known.clear()
    keys.use(None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Keyring.new().save(tmp_path / "keys")
    return tmp_path / "keys"


def stranger_to(folder: Path) -> Path:
    """A folder with a key that knows the nodes of ``folder``, and whose line they have deleted."""
    ring = Keyring.read(folder)
    ring.add(Role.TRADER, "alice", folder / "alice")
    lines = (folder / "allowed").read_text().splitlines(keepends=True)
    (folder / "allowed").write_text("".join(line for line in lines if "alice" not in line))
    return folder / "alice"


@pytest.mark.long
def test_each_way_in_which_keys_do_not_fit_is_told(mute: MakeMute, folder: Path, tmp_path: Path) -> None:
    alice = Keyring.read(stranger_to(folder)).credentials()
    locked, open_to_all = mute(Keyring.read(folder)), mute(None)

    def why(node: Mute, credentials: Credentials | None) -> str:
        return why_silent([node.endpoint], 30, credentials).get(node.endpoint, "")

    assert why(locked, Keyring.read(folder).credentials()) == ""
    assert why(open_to_all, None) == ""
    refused = why(locked, alice)
    assert refused.startswith(f"the key in {folder / 'alice'} is not let in by {locked.endpoint}: add this line")
    assert refused.endswith(f": trader alice {alice.public}")
    assert why(locked, None) == f"{locked.endpoint} asks for a key, and was shown none: name a folder of keys (--keys)"
    assert why(open_to_all, alice).startswith(f"{open_to_all.endpoint} has no keys, and was shown the key in {folder}")
    other = Keyring.new().credentials()
    assert f"it is a node whose keys are not those of the key {other.public}" in why(locked, other)


def test_a_greeting_names_the_mechanism(mute: MakeMute, folder: Path) -> None:
    """libzmq reads it too late where the other side hangs up first, on busy cores for many seconds in a row."""
    assert mechanism_of(mute(None).endpoint) == "NULL"
    assert mechanism_of(mute(Keyring.read(folder)).endpoint) == "CURVE"
    assert mechanism_of("tcp://127.0.0.1:9", 0.1) == ""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert mechanism_of(f"tcp://127.0.0.1:{listener.getsockname()[1]}", 0.1) == ""


def test_one_that_only_hangs_up_is_asked_for_its_mechanism(
    mute: MakeMute, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As libzmq has it on busy cores: each handshake ends without a word."""
    monkeypatch.setattr(handshakes, "FAILED", 0)
    monkeypatch.setattr(handshakes, "MISMATCH", 0)
    alice = Keyring.read(stranger_to(folder)).credentials()
    locked, open_to_all = mute(Keyring.read(folder)), mute(None)
    assert "has no keys, and was shown" in why_silent([open_to_all.endpoint], 1.0, alice)[open_to_all.endpoint]
    assert "asks for a key, and was shown none" in why_silent([locked.endpoint], 1.0)[locked.endpoint]


def test_a_node_that_is_dead_or_mute_is_not_told_from_one_that_is_slow() -> None:
    """Nothing listens at one, nothing answers at the other: no key is to blame."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        start = time.monotonic()
        assert why_silent(["tcp://127.0.0.1:9"], 60) == {}
        assert time.monotonic() - start < 60, "that nothing listens there is known at once"
        assert why_silent([endpoint, "tcp://db.example:5002"], 0.1) == {}


def test_what_is_no_node_is_told_too(mute: MakeMute) -> None:
    context = net.new_context()
    with net.open_socket(context, zmq.PUB, BOUNDS) as publisher:
        endpoint = net.bind_to_free_port(publisher)
        assert "a wrong port (for clients: base port + 2)" in why_silent([endpoint], 30)[endpoint]
    context.term()


def test_a_client_is_told_that_its_key_is_refused(
    mute: MakeMute, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of these said that nothing had answered in time."""
    alice = stranger_to(folder)
    node = mute(Keyring.read(folder))
    said = f"the key in {alice} is not let in by {node.endpoint}"

    def is_told(action: Callable[[], object]) -> bool:
        """On a busy machine a refusal may come later than in the quarter of a second in which it is looked for."""
        with pytest.raises(RequestTimeout) as caught:
            action()
        return isinstance(caught.value, NotLetIn) and said in str(caught.value)

    def is_said(*command: str) -> bool:
        assert carry_out([*command, "--nodes", node.endpoint, "--keys", str(alice), "--timeout", "100ms"]) == 1
        return said in "".join(capsys.readouterr())

    with Client([node.endpoint], timeout_s=0.3, keys=alice) as client:
        assert wait_for(lambda: is_told(lambda: client.buy("A", 1, 100)))
        assert wait_for(lambda: is_told(lambda: client.book("A")))
        assert wait_for(lambda: client.status(timeout_s=0.1)[0].state == "refused")
        assert wait_for(lambda: client.status(timeout_s=0.1)[0].why.startswith(said))
        assert wait_for(lambda: said in repr(client.status(timeout_s=0.1)))
        assert wait_for(lambda: said in client.status(timeout_s=0.1)._repr_html_())
    with LoadClient([node.endpoint], keys=alice) as load:
        assert wait_for(lambda: is_told(load.start))
    assert wait_for(lambda: is_said("status"))
    assert wait_for(lambda: is_said("book", "A"))


def test_a_question_to_a_node_that_has_refused_its_key_does_not_wait(
    mute: MakeMute, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal ends the connection and its queue. One that came before the question was sent held the send up."""
    node = mute(Keyring.read(folder))
    connect = net.connect

    def connect_and_be_refused(*arguments: Any) -> net.Socket:
        made = connect(*arguments)
        made.setsockopt(zmq.SNDTIMEO, 1_000)
        assert wait_for(lambda: not made.poll(0, zmq.POLLOUT))
        return made

    monkeypatch.setattr(net, "connect", connect_and_be_refused)
    keys.use(stranger_to(folder))
    assert ask.statuses([node.endpoint], timeout_s=0.1) == {}
    with BareClient({"node0": node.endpoint}) as client:
        client.send("node0", b"an order")


def test_a_client_of_a_mute_node_is_told_of_no_key(mute: MakeMute) -> None:
    node = mute(None)
    with Client([node.endpoint], timeout_s=0.3) as client:
        with pytest.raises(RequestTimeout, match="did not answer within") as caught:
            client.book("A")
        assert not isinstance(caught.value, NotLetIn)
        assert client.status(timeout_s=0.1)[0].state == "silent"


def test_a_complaint_is_made_once_until_the_node_has_let_us_in() -> None:
    complaints = Complaints()
    refused, hung_up, let_in = Report("a", "no", True), Report("b", "gone"), Report("a", "", is_in=True)
    assert [complaints.take(refused) for _ in range(3)] == ["no", "", ""]
    assert complaints.take(let_in) == ""
    assert complaints.take(refused) == "no"
    assert [complaints.take(hung_up) for _ in range(HUNG_UP_TIMES + 1)] == [""] * (HUNG_UP_TIMES - 1) + ["gone", ""]
