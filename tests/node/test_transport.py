"""The sockets of two nodes in one process, with keys and without."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from zmqlab.handshakes import Report
from zmqlab.keys import Keyring
from zmqlab.lab.hosts import free_base_ports
from zmqlab.node.transport import Transport
from zmqlab.settings import NodeSettings
from zmqlab.wire import frames
from zmqlab.wire.frames import APPEND_ENTRIES, topic

BROADCAST = topic(APPEND_ENTRIES) + b"entries"


@dataclass
class Pair:
    """Two nodes that are connected to each other."""

    one: Transport
    other: Transport
    address: str
    """Of the other one."""
    own_address: str = ""
    """Of the one, if the other one hears it."""

    def turn(self) -> None:
        for transport in (self.one, self.other):
            if transport.key_checker is not None:
                transport.key_checker.admit()
        time.sleep(0.005)

    def wait_for_complaint(self, *of: str) -> str:
        """Until the one complains of the other, beginning with one of these words; returns which.

        Where only one end has keys, the end that notices first hangs up. On busy cores that may be the other one for as
        long as the test lasts, and then libzmq does not know why (:mod:`zmqlab.handshakes`).
        """
        deadline = time.monotonic() + 60
        while True:
            for complaint in self.one.complaints():
                if said := [each for each in of if complaint.startswith(each)]:
                    return said[0]
            assert time.monotonic() < deadline
            self.turn()

    def comes(self, send: bytes, to_all: bool) -> list[bytes]:
        """What the other node hears first, if one sends this again and again; nothing if that takes a minute."""
        deadline = time.monotonic() + 60
        heard: list[bytes] = []
        while not heard and time.monotonic() < deadline:
            if to_all:
                self.one.publish(send)
            else:
                self.one.send_to(self.address, send)
            self.turn()
            heard += self.other.receive_broadcasts(10) if to_all else self.other.receive_from_peers(10)
        return heard


@pytest.fixture(params=[False, True], ids=["without keys", "with keys"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    keys = tmp_path / "keys" if request.param else None
    if keys is not None:
        Keyring.new().save(keys)
    ports = free_base_ports(2)
    one, other = (
        Transport(NodeSettings(name=f"node{port}", port=port, run_dir=tmp_path, keys=keys), 1_024) for port in ports
    )
    addresses = [f"tcp://127.0.0.1:{port}" for port in ports]
    other.subscribe(addresses[0])
    one.connect(addresses[1])
    yield Pair(one, other, addresses[1], addresses[0])
    one.close()
    other.close()


def test_a_broadcast_is_heard(pair: Pair) -> None:
    """With keys it was not: the connection showed none. Raft repaired each entry apart, in 86 ms an order."""
    assert pair.comes(BROADCAST, to_all=True)[0] == BROADCAST


def test_what_is_sent_to_one_node_alone(pair: Pair) -> None:
    assert pair.comes(frames.header(frames.HELLO) + b"hello", to_all=False)


def closings(transport: Transport, seconds: float) -> list[str]:
    """What is told within so long of connections that have closed; returns at once when something is."""
    deadline = time.monotonic() + seconds
    closed: list[str] = []
    while not closed and time.monotonic() < deadline:
        closed += transport.closed_connections()
        time.sleep(0.005)
    return closed


def test_the_end_of_a_peer_is_seen_once(pair: Pair) -> None:
    """No time is asserted: without the monitor it would never be seen."""
    pair.comes(BROADCAST, to_all=True)
    assert pair.other.closed_connections() == []
    pair.one.close()
    assert closings(pair.other, 60) == [pair.own_address]
    assert closings(pair.other, 0.2) == []


def test_what_came_before_the_end_is_there_when_the_end_is_told(pair: Pair) -> None:
    pair.comes(BROADCAST, to_all=True)
    for _ in range(50):
        pair.one.publish(BROADCAST)
    pair.comes(frames.header(frames.HELLO), to_all=False)  # by then the fifty have left, too
    pair.one.close()
    assert closings(pair.other, 60) == [pair.own_address]
    assert len(list(pair.other.receive_broadcasts(100))) >= 49


def test_a_process_that_speaks_no_zmtp_is_no_peer_that_ends(pair: Pair) -> None:
    """Where a node has been, any process may listen and close what comes in."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(10)
        pair.other.subscribe(f"tcp://127.0.0.1:{stranger.getsockname()[1]}")
        for _ in range(3):
            stranger.accept()[0].close()
        assert closings(pair.other, 0.2) == []


def test_a_member_that_was_started_without_its_keys_is_reached_when_it_has_them(tmp_path: Path) -> None:
    """libzmq gives a connection up for good when only one end has keys. The others could neither send to the member nor
    hear it, until they were started again themselves; and no log said why."""
    folder = tmp_path / "keys"
    Keyring.new().save(folder)
    ports = free_base_ports(2)
    (settings, wrong, right) = (
        NodeSettings(name=f"node{port}", port=port, run_dir=tmp_path, keys=keys)
        for port, keys in ((ports[0], folder), (ports[1], None), (ports[1], folder))
    )
    address = f"tcp://127.0.0.1:{ports[1]}"
    one, other = Transport(settings, 1_024), Transport(wrong, 1_024)
    try:
        one.connect(address)
        one.subscribe(address)
        pair = Pair(one, other, address)
        precise = (
            f"{address} has no keys, and was shown the key in {folder}:"
            " leave --keys out, or start that node with --keys"
        )
        unknown = (
            f"{address} hung up at once: it is a node whose keys are not those of the key in {folder}, or that has none"
        )
        pair.wait_for_complaint(precise, unknown)
        other.close()
        other = pair.other = Transport(right, 1_024)
        deadline = time.monotonic() + 60
        heard: list[bytes] = []
        while not heard and time.monotonic() < deadline:
            assert set(one.complaints()) <= {precise}
            other.publish(BROADCAST)
            pair.turn()
            heard += one.receive_broadcasts(10)
        assert heard, "its broadcasts are heard again"
        assert pair.comes(frames.header(frames.HELLO) + b"hello", to_all=False), "and it can be written to"
    finally:
        one.close()
        other.close()


def test_a_member_that_lets_us_in_after_a_refusal_is_connected_to_anew(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two connections libzmq gave up the one for messages for good, and only hung up and went on at the other: the
    member heard broadcasts and never a message."""
    address, reports = pair.address, [Report(pair.address, "hung up at once")]
    pair.comes(frames.header(frames.HELLO), to_all=False)
    monkeypatch.setattr(pair.one._heard, "reports", lambda: [reports.pop()] if reports else [])
    dealer = pair.one._dealers[address]
    pair.one.complaints()
    assert pair.one._dealers[address] is dealer
    reports.append(Report(address, "", is_in=True))
    pair.one.complaints()
    assert pair.one._dealers[address] is not dealer
    assert pair.comes(frames.header(frames.HELLO) + b"hello", to_all=False)
    again = pair.one._dealers[address]
    reports.append(Report(address, "", is_in=True))
    pair.one.complaints()
    assert pair.one._dealers[address] is again, "once is enough"


def test_a_question_to_a_node_that_wants_a_key_is_complained_of(tmp_path: Path) -> None:
    """A node with ``--join`` and the wrong keys, or none, waited for ever and said nothing."""
    folder = tmp_path / "keys"
    Keyring.new().save(folder)
    ports = free_base_ports(2)
    one, other = (
        Transport(NodeSettings(name=f"node{port}", port=port, run_dir=tmp_path, keys=keys), 1_024)
        for port, keys in zip(ports, (None, folder), strict=True)
    )
    address = f"tcp://127.0.0.1:{ports[1]}"
    try:
        one.ask(address, b"hello")
        pair = Pair(one, other, address)
        asked = f"tcp://127.0.0.1:{ports[1] + 2}"
        precise = f"{asked} asks for a key, and was shown none: name a folder of keys (--keys)"
        said = pair.wait_for_complaint(precise, f"{asked} hung up at once: it is a node that asks for a key, ")
        assert said != precise or not one._questions, "so that the next question opens a connection anew"
    finally:
        one.close()
        other.close()
