"""The sockets of two nodes in one process, with keys and without."""

from __future__ import annotations

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
    one.connect(addresses[1])
    other.subscribe(addresses[0])
    yield Pair(one, other, addresses[1])
    one.close()
    other.close()


def test_a_broadcast_is_heard(pair: Pair) -> None:
    """With keys it was not: the connection showed none. Raft repaired each entry apart, in 86 ms an order."""
    assert pair.comes(BROADCAST, to_all=True)[0] == BROADCAST


def test_what_is_sent_to_one_node_alone(pair: Pair) -> None:
    assert pair.comes(frames.header(frames.HELLO) + b"hello", to_all=False)
