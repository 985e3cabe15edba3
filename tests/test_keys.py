"""Keys: folders of them, roles, who is let in at a locked socket, and which key is shown where."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from zmqlab import keys, net
from zmqlab.client import ask
from zmqlab.client.connections import ConnectedSession
from zmqlab.client.order_client import Client
from zmqlab.errors import SettingsError
from zmqlab.keys import Credentials, Keyring, Role

BOUNDS = net.SocketBounds(frame_bytes=1_000)
DOORS = {"peers": Role.MEMBER, "clients": Role.WATCHER}
IN_TIME_MS, NOT_IN_MS = 5_000, 250


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Keyring.new().save(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def context() -> Iterator[net.Context]:
    made = net.new_context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def open_door(context: net.Context) -> Iterator[MakeDoor]:
    made: list[Door] = []

    def make(ring: Keyring, name: str = "peers") -> Door:
        made.append(Door(context, ring, name))
        return made[-1]

    yield make
    for door in made:
        door.close()


@pytest.fixture(autouse=True)
def empty_wallet() -> Iterator[None]:
    yield
    keys._known.clear()
    keys.use(None)


def test_a_folder_of_keys_is_for_its_owner_alone(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert names == {f"{name}.secret": 0o600 for name in ("member", "operator", "trader", "watcher")} | {
        "allowed": 0o600
    }


def test_what_was_saved_is_read_again(folder: Path) -> None:
    ring = Keyring.read(folder)
    assert [sender.role for sender in ring.allowed.values()] == list(reversed(Role))
    member, client = ring.credentials(Role.MEMBER), ring.credentials()
    assert client.server == member.public
    assert ring.sender(client.public) == keys.Sender(Role.OPERATOR, "operator", keys.fingerprint_of(client.public))


def test_no_secret_is_shown(folder: Path) -> None:
    ring = Keyring.read(folder)
    credentials = ring.credentials()
    assert credentials.secret not in repr(credentials)
    assert credentials.secret not in repr(ring)


def test_keys_are_not_written_over(folder: Path) -> None:
    with pytest.raises(SettingsError, match="has keys already"):
        Keyring.new().save(folder)


def test_a_new_key_gets_a_folder_with_what_it_needs_and_no_more(folder: Path, tmp_path: Path) -> None:
    Keyring.read(folder).add(Role.TRADER, "alice", tmp_path / "alice")
    assert {path.name for path in (tmp_path / "alice").iterdir()} == {"allowed", "alice.secret"}
    own = Keyring.read(tmp_path / "alice")
    assert {sender.name for sender in own.allowed.values()} == {"member", "alice"}
    sender = Keyring.read(folder).sender(own.credentials().public)
    assert sender is not None
    assert (sender.role, sender.name) == (Role.TRADER, "alice")
    with pytest.raises(SettingsError, match="called alice already"):
        Keyring.read(folder).add(Role.WATCHER, "alice", tmp_path / "bob")
    for name in ("a b", "allowed", "operator.secret"):
        with pytest.raises(SettingsError, match="is no name of a key"):
            Keyring.read(folder).add(Role.WATCHER, name, tmp_path / "bob")


def test_a_key_is_let_in_only_when_its_secret_is_safe(folder: Path, tmp_path: Path) -> None:
    """The line came first: a folder that could not be written left a key that was let in and had no secret."""
    before = (folder / "allowed").read_text()
    (tmp_path / "file").write_text("a person's")
    (tmp_path / "file").chmod(0o640)
    with pytest.raises(SettingsError, match=r"can't be written to .*: Not a directory\. Name another folder"):
        Keyring.read(folder).add(Role.TRADER, "bob", tmp_path / "file")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640, "it is not ours"
    assert (folder / "allowed").read_text() == before
    Keyring.read(folder).add(Role.TRADER, "bob", tmp_path / "bob")
    assert Keyring.read(tmp_path / "bob").credentials().public in Keyring.read(folder).allowed


def test_a_folder_that_could_not_be_written_whole_is_left_as_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.open

    def full(path: Path, *more: int) -> int:
        if path.name == "bob.secret":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, *more)

    ring = Keyring.read(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(SettingsError, match="No space left"):
            ring.add(Role.TRADER, "bob", tmp_path / "bob")
    Keyring.read(folder).add(Role.TRADER, "bob", tmp_path / "bob")


def test_a_line_is_appended_to_a_file_whose_last_line_has_no_end(folder: Path, tmp_path: Path) -> None:
    (folder / "allowed").write_text((folder / "allowed").read_text().rstrip())
    Keyring.read(folder).add(Role.TRADER, "bob", tmp_path / "bob")
    assert [each.name for each in Keyring.read(folder).allowed.values()][-2:] == ["watcher", "bob"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "trader.secret").chmod(0o644), "others can read the secret key in .*: chmod 600"),
        (lambda folder: (folder / "trader.secret").write_text("short"), "holds no secret key of 40 characters"),
        (lambda folder: (folder / "trader.secret").write_text(" " * 40), "holds no secret key of 40 characters"),
        (lambda folder: (folder / "allowed").write_text("boss me key\n"), "line 1: write ROLE NAME PUBLIC-KEY"),
        (
            lambda folder: (folder / "allowed").write_text(f"member me {'#' * 40}\n"),
            "line 1: write ROLE NAME PUBLIC-KEY",
        ),
        (lambda folder: (folder / "x.secret").symlink_to("gone"), "x.secret can't be read: No such file"),
        (lambda folder: (folder / "allowed").write_bytes(b"\xff"), "can't be read: it is no text"),
        (lambda folder: (folder / "allowed").unlink(), "can't be read: No such file .*`zmqlab keys FOLDER --add NAME`"),
        (lambda folder: (folder / "allowed").write_text(""), "has no line for a member"),
        (lambda folder: [each.unlink() for each in folder.glob("*.secret")], "has no secret of a key that is operator"),
    ],
)
def test_a_folder_that_is_not_in_order_is_one_clear_line(folder: Path, damage: object, said: str) -> None:
    assert callable(damage)
    damage(folder)
    with pytest.raises(SettingsError, match=said) as raised:
        keys.use(folder)
    assert "\n" not in str(raised.value)


# The wallet.


def test_each_endpoint_is_shown_the_key_of_its_cluster(folder: Path) -> None:
    mine, others = Keyring.read(folder).credentials(), Keyring.new().credentials()
    assert keys.towards("tcp://127.0.0.1:5002") is None
    keys.trust(["tcp://127.0.0.1:5000"], mine)
    keys.trust(["tcp://127.0.0.1:6000"], others)
    assert [keys.towards(f"tcp://localhost:{port}") for port in (5_000, 5_002, 5_003, 6_001)] == [
        mine,
        mine,
        None,
        others,
    ]
    keys.use(folder)
    keys.trust(["tcp://127.0.0.1:6000"], None)
    assert keys.towards("tcp://127.0.0.1:5003") == mine
    assert keys.towards("tcp://127.0.0.1:6001") is None, "that cluster has no keys"
    keys.forget(["tcp://127.0.0.1:6000"])
    assert keys.towards("tcp://127.0.0.1:6001") == mine


def test_the_keys_of_one_client_are_not_those_of_another(folder: Path, tmp_path: Path) -> None:
    """The first key became the default of the process: nodes without keys were shown it, and no handshake succeeded. A
    host's name was trusted, while sockets go to addresses."""
    Keyring.new().save(tmp_path / "other")
    a, b = (Keyring.read(each).credentials() for each in (folder, tmp_path / "other"))
    first = Client(["tcp://localhost:5002"], keys=folder)
    second = Client(["tcp://127.0.0.1:6002"], keys=tmp_path / "other")
    assert "tcp://127.0.0.1:5002" in first._located()
    assert second._located() == ("tcp://127.0.0.1:6002",)
    assert [keys.towards(f"tcp://127.0.0.1:{port}") for port in (5_002, 6_002, 7_002)] == [a, b, None]


def test_the_key_is_shown_to_members_that_a_client_learns_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(["tcp://127.0.0.1:5002"], keys=folder)
    monkeypatch.setattr(ask, "follow_members", lambda *_: ("tcp://127.0.0.2:5002",))
    client._look()
    assert keys.towards("tcp://127.0.0.2:5002") == Keyring.read(folder).credentials()


def test_a_session_shows_its_key_to_nodes_that_it_learns_of(folder: Path, context: net.Context) -> None:
    key = Keyring.read(folder).credentials()
    with ConnectedSession(["tcp://127.0.0.1:5002"], context=context, credentials=key) as session:
        assert [socket.getsockopt(zmq.MECHANISM) for socket in session.sockets] == [zmq.CURVE]


# Doors.


MakeDoor = Callable[..., "Door"]


class Door:
    """A locked ROUTER, and who decides about it."""

    def __init__(self, context: net.Context, ring: Keyring, name: str = "peers") -> None:
        self._context = context
        self.keeper = net.KeyChecker(context, ring, DOORS)
        self.router = net.open_socket(context, zmq.ROUTER, BOUNDS)
        net.lock(self.router, ring.credentials(Role.MEMBER), name)
        self.endpoint = net.bind_to_free_port(self.router)

    def close(self) -> None:
        self.router.close(0)
        self.keeper.socket.close(0)

    def hears(self, credentials: Credentials | None) -> zmq.Frame | None:
        """The frame that one who shows this key sends, if it comes in."""
        dealer = net.connect(self._context, zmq.DEALER, self.endpoint, BOUNDS, credentials=credentials)
        dealer.send(b"hello")
        waits_ms, refused = 0, self.keeper.refused
        while waits_ms < IN_TIME_MS and self.keeper.refused == refused:
            if self.keeper.wait(self.router, 10):
                _, frame = self.router.recv_multipart(copy=False)
                dealer.close(0)
                return frame
            waits_ms += 10
            if credentials is None and waits_ms >= NOT_IN_MS:
                break
        dealer.close(0)
        return None


@pytest.mark.parametrize(("role", "enters"), [(Role.MEMBER, True), (Role.OPERATOR, False), (Role.TRADER, False)])
def test_the_peers_door_is_for_members(open_door: MakeDoor, role: Role, enters: bool) -> None:
    ring = Keyring.new()
    door = open_door(ring)
    frame = door.hears(ring.credentials(role))
    assert (frame is not None) == enters
    assert door.keeper.refused == (0 if enters else 1)
    if frame is not None:
        sender = door.keeper.sender(frame)
        assert sender is not None
        assert sender.role is role


def test_a_stranger_does_not_enter_at_any_door(open_door: MakeDoor) -> None:
    """In plain text, with keys of its own, and with a key of its own towards the right member."""
    ring, other = Keyring.new(), Keyring.new()
    server = ring.credentials(Role.MEMBER).public
    own = other.credentials()
    door = open_door(ring, "clients")
    assert door.hears(None) is None
    assert door.hears(Credentials(own.public, own.secret, server)) is None
    assert door.keeper.refused == 1
    assert door.hears(ring.credentials(Role.WATCHER)) is not None


def test_without_a_checker_a_locked_socket_is_closed(context: net.Context) -> None:
    """libzmq lets every key in at a CURVE socket if no handler answers, unless it is told to enforce the domain."""
    ring = Keyring.new()
    member = ring.credentials(Role.MEMBER)
    with net.open_socket(context, zmq.ROUTER, BOUNDS) as router:
        net.lock(router, member, "peers")
        endpoint = net.bind_to_free_port(router)
        with net.connect(context, zmq.DEALER, endpoint, BOUNDS, credentials=member) as dealer:
            dealer.send(b"hello")
            assert not router.poll(NOT_IN_MS)


def test_a_key_is_let_in_and_put_out_while_the_node_runs(open_door: MakeDoor, folder: Path) -> None:
    door = open_door(Keyring.read(folder), "clients")
    Keyring.read(folder).add(Role.TRADER, "alice", folder / "alice")
    alice = Keyring.read(folder / "alice").credentials()
    frame = door.hears(alice)
    assert frame is not None
    assert door.keeper.sender(frame) == keys.Sender(Role.TRADER, "alice", keys.fingerprint_of(alice.public))
    lines = (folder / "allowed").read_text().splitlines(keepends=True)
    (folder / "allowed").write_text("".join(line for line in lines if "alice" not in line))
    door.keeper.refresh()
    assert door.keeper.sender(frame) is None, "on a connection that stands"
    assert door.hears(alice) is None


def test_a_socket_goes_from_one_key_to_another_and_to_none(context: net.Context) -> None:
    """A SUB of the lab hears clusters with keys, with other keys, and without."""
    socket = net.open_socket(context, zmq.SUB, BOUNDS)
    with socket:
        net.show(socket, Keyring.new().credentials())
        assert socket.getsockopt(zmq.MECHANISM) == zmq.CURVE
        net.show(socket, None)
        assert socket.getsockopt(zmq.MECHANISM) == zmq.NULL
