"""The sockets of two nodes in one process, with keys and without."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

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
    own_address: str
    """Of the one that the other one hears."""

    def turn(self) -> None:
        for transport in (self.one, self.other):
            if transport.key_checker is not None:
                transport.key_checker.admit()
        time.sleep(0.005)

    def comes(self, send: bytes, to_all: bool) -> list[bytes]:
        """What the other node hears within two seconds, if one sends this again and again."""
        deadline = time.monotonic() + 2
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
    assert closings(pair.other, 10) == [pair.own_address]
    assert closings(pair.other, 0.2) == []


def test_what_came_before_the_end_is_there_when_the_end_is_told(pair: Pair) -> None:
    pair.comes(BROADCAST, to_all=True)
    for _ in range(50):
        pair.one.publish(BROADCAST)
    pair.comes(frames.header(frames.HELLO), to_all=False)  # by then the fifty have left, too
    pair.one.close()
    assert closings(pair.other, 10) == [pair.own_address]
    assert len(list(pair.other.receive_broadcasts(100))) >= 49


def test_a_process_that_speaks_no_zmtp_is_no_peer_that_ends(pair: Pair) -> None:
    """Where a node has been, any process may listen and close what comes in."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(10)
        pair.other.subscribe(f"tcp://127.0.0.1:{stranger.getsockname()[1]}")
        for _ in range(3):
            stranger.accept()[0].close()
        assert closings(pair.other, 0.2) == []
