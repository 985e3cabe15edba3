"""What one connection, and all of them together, may cost a node: sockets in this process, no engine."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from tests.node.raw_connection import EMPTY_PART, RawConnection
from zmqlab import net
from zmqlab.lab.hosts import free_base_ports
from zmqlab.node.doorkeeper import CONNECTIONS_MAX, CONNECTIONS_MIN, Door, shares
from zmqlab.node.transport import HOSTILE_PARTS, SKIPPED_PARTS, Transport
from zmqlab.settings import NodeSettings
from zmqlab.wire import frames

SUBSCRIBER, PEER, CLIENT = 0, 1, 2
DESCRIPTORS = 64
"""Room for 32 connections, 16 of them clients."""
QUERY = frames.header(frames.QUERY)


class Doors:
    """A node's sockets, and a loop that does nothing but read."""

    def __init__(self) -> None:
        self.port = free_base_ports(1)[0]
        self.transport = Transport(NodeSettings(name="node0", port=self.port), DESCRIPTORS)
        self.frames: list[bytes] = []

    def door(self, offset: int) -> Door:
        assert self.transport._doorkeeper is not None
        return self.transport._doorkeeper._doors[offset]

    def read(self) -> None:
        self.frames += self.transport.receive_from_peers(256)
        self.frames += (frame for _, frame, _ in self.transport.receive_from_clients(256))

    def read_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, [(door.connections, door.ended) for door in map(self.door, range(3))]
            self.read()
            time.sleep(0.005)


@pytest.fixture
def doors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    """Connections that a test forgets are closed with it."""
    made, opened = Doors(), list[RawConnection]()
    greet = RawConnection.__init__

    def keep(self: RawConnection, *arguments: Any, **options: Any) -> None:
        opened.append(self)
        greet(self, *arguments, **options)

    monkeypatch.setattr(RawConnection, "__init__", keep)
    yield made
    for each in opened:
        each.close()
    made.transport.close()


@pytest.mark.parametrize("descriptors", [64, 256, 1_024, 20_000, 1 << 40])
def test_the_doors_share_what_descriptors_there_are(descriptors: int) -> None:
    taken = shares(descriptors)
    assert min(taken) >= CONNECTIONS_MIN
    assert sum(taken) <= min(CONNECTIONS_MAX, descriptors // 2 if descriptors <= 256 else descriptors - 128)


def test_a_full_door_ends_those_that_never_spoke(doors: Doors) -> None:
    """Idle strangers took every descriptor: the node ended, and before that no client got in any more."""
    door = doors.door(CLIENT)
    honest = RawConnection(doors.port + CLIENT)
    honest.message(QUERY)
    doors.read_until(lambda: len(doors.frames) == 1)
    idle = [RawConnection(doors.port + CLIENT) for _ in range(3 * door.connections_max)]
    late = RawConnection(doors.port + CLIENT)
    late.message(QUERY)
    doors.read_until(lambda: len(doors.frames) == 2)
    doors.read_until(lambda: door.ended >= 2 * door.connections_max)
    assert doors.transport.connections_ended == door.ended, "for the status and for Prometheus"
    assert door.connections <= door.connections_max
    assert sum(each.is_ended(0.01) for each in idle) >= 2 * door.connections_max
    for each in (honest, late):
        each.message(QUERY)
    doors.read_until(lambda: len(doors.frames) == 4)
    for each in (honest, late, *idle):
        each.close()
    doors.read_until(lambda: door.connections == 0)


def test_a_full_door_keeps_those_that_speak(doors: Doors) -> None:
    """Where all speak the newcomer goes, or they would push each other out for ever."""
    door = doors.door(CLIENT)
    speakers = [RawConnection(doors.port + CLIENT) for _ in range(door.connections_max)]
    for each in speakers:
        each.message(QUERY)
    doors.read_until(lambda: len(doors.frames) == len(speakers) and not door.heard)
    with RawConnection(doors.port + CLIENT, is_greeted=False) as newcomer:
        assert newcomer.is_ended()
    assert not any(each.is_ended(0.01) for each in speakers)
    for each in speakers:
        each.close()


@pytest.mark.parametrize("at_once", [False, True])
def test_a_full_door_of_subscribers_keeps_those_that_were_first(
    at_once: bool, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower hears its leader there, and never says a word.

    ``at_once``: as on a slow machine, where the doorkeeper learns of many connections at one look."""
    if at_once:
        monkeypatch.setattr("zmqlab.node.doorkeeper.time", SimpleNamespace(monotonic=lambda: 7.0))
    most = doors.door(SUBSCRIBER).connections_max
    first = [RawConnection(doors.port, b"SUB") for _ in range(most)]
    for _ in range(3 * most):
        with RawConnection(doors.port, is_greeted=False) as newcomer:
            assert newcomer.is_ended()
    assert not any(each.is_ended(0.01) for each in first)
    for each in first:
        each.close()


@pytest.mark.parametrize("part", [EMPTY_PART, b"\x03" + (200_000).to_bytes(8, "big") + bytes(200_000)])
@pytest.mark.parametrize("offset", [PEER, CLIENT])
def test_a_message_without_an_end_ends_its_connection(doors: Doors, offset: int, part: bytes) -> None:
    """libzmq kept all parts: 1 GiB a second, and 1.7 GiB for 57 MiB of empty ones. Only complete messages were looked
    at."""
    with RawConnection(doors.port + offset) as stranger, RawConnection(doors.port + offset) as honest:
        while doors.door(offset).ended == 0:
            stranger.send(part * max(1, 200_000 // len(part)))
            honest.message(QUERY)
            doors.read()
        honest.message(QUERY + b"last")
        doors.read_until(lambda: doors.frames[-1:] == [QUERY + b"last"])
        assert doors.door(offset).ended == 1


def test_a_message_of_many_parts_is_read_over_several_turns(doors: Doors) -> None:
    """One of a million parts was read in one turn, which took a second: a leader lost its office."""
    with RawConnection(doors.port + CLIENT) as stranger, RawConnection(doors.port + CLIENT) as honest:
        stranger.send(EMPTY_PART * (5 * SKIPPED_PARTS) + b"\x00\x00")
        stranger.send(EMPTY_PART * HOSTILE_PARTS)
        doors.read_until(lambda: doors.door(CLIENT).ended == 1)
        assert doors.transport._skipping
        doors.read_until(lambda: doors.transport.bad_messages == 1)
        assert not doors.transport._skipping
        honest.message(QUERY)
        doors.read_until(lambda: doors.frames == [QUERY])


def test_a_message_of_an_old_protocol_has_no_descriptor(doors: Doors) -> None:
    """ZMTP 1.0: a length, which counts the flags, then the flags. libzmq says of no such message where it came from."""
    with RawConnection(doors.port + CLIENT, is_greeted=False) as old, RawConnection(doors.port + CLIENT) as honest:
        old.send(b"\x01\x00" + b"\x01\x01" * (2 * HOSTILE_PARTS) + b"\x01\x00" + b"\x09\x00" + QUERY)
        doors.read_until(lambda: doors.transport.bad_messages == 1 and doors.frames == [QUERY])
        honest.message(QUERY)
        doors.read_until(lambda: len(doors.frames) == 2)
        assert doors.door(CLIENT).ended == 0


def test_subscriptions_without_end_end_their_connection(doors: Doors) -> None:
    """libzmq kept 50 bytes for each of 24 MB of them, and deposed the leader: it adds them in the loop's thread."""
    with RawConnection(doors.port, b"SUB") as stranger, RawConnection(doors.port, b"SUB") as honest:
        honest.send(b"\x00\x05\x01" + frames.topic(frames.METRICS))
        while doors.door(SUBSCRIBER).ended == 0:
            stranger.send(b"".join(b"\x00\x15\x01" + os.urandom(20) for _ in range(100)))
            doors.transport.publish(b"")
        assert stranger.is_ended()
        doors.transport.publish(frames.header(frames.METRICS))
        assert not honest.is_ended(0.2)


def test_large_requests_are_messages(doors: Doors) -> None:
    """Bytes count only until a message has come of them."""
    with RawConnection(doors.port + CLIENT) as honest:
        for number in range(1, 61):
            assert honest.message(QUERY + bytes(40_000))
            doors.read_until(lambda expected=number: len(doors.frames) == expected)  # type: ignore[misc]
        time.sleep(0.2)
        assert doors.door(CLIENT).ended == 0


def test_what_a_loop_that_stands_still_has_not_read_is_nobodys_fault(doors: Doors) -> None:
    door = doors.door(CLIENT)
    with RawConnection(doors.port + CLIENT) as honest:
        for _ in range(40):
            assert honest.message(QUERY + bytes(40_000))
        time.sleep(0.3)
        assert door.ended == 0
        doors.read_until(lambda: len(doors.frames) == 40)
        time.sleep(0.1)
        assert door.ended == 0


def test_without_a_descriptor_a_connection_is_made_later(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them was an error that ended the node."""
    real, free = net.connect, [False]

    def connect(*arguments: Any, **named: Any) -> net.Socket:
        if not free[0]:
            raise zmq.ZMQError(errno.EMFILE)
        return real(*arguments, **named)

    monkeypatch.setattr(net, "connect", connect)
    address = f"tcp://127.0.0.1:{doors.port}"
    doors.transport.connect(address)
    doors.transport.send_to(address, QUERY)
    doors.transport.ask(address, QUERY)
    free[0] = True

    def try_again() -> bool:
        doors.transport.send_to(address, QUERY + b"1")
        doors.transport.ask(address, QUERY + b"2")
        return {QUERY + b"1", QUERY + b"2"} <= set(doors.frames)

    doors.read_until(try_again)
    doors.transport.disconnect(address)
    free[0] = False
    doors.transport.connect(address)
    doors.transport.disconnect(address)
