"""How the tests drive a session on sockets: connect, send to one node, collect answers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.client.fake_node import FakeNode
from zmqlab.client.connections import ConnectedSession
from zmqlab.client.session import Completion, SessionSettings
from zmqlab.load.order_flow import OrderFlow

ONE_ORDER = OrderFlow(seed=1).take(1).tobytes()
FAR_NS = 1 << 62


def connect(nodes: Sequence[FakeNode], **options: Any) -> ConnectedSession:
    """An open session with connections to all of ``nodes``."""
    settings = SessionSettings(**options)
    session = ConnectedSession([node.endpoint for node in nodes], settings, rng=random.Random(1))
    session.open(timeout_ms=30_000)
    while not all(session.connected):
        session.poll(5)
    return session


def collect(session: ConnectedSession, count: int, timeout_s: float = 60.0) -> list[Completion]:
    """The next ``count`` answers."""
    done: list[Completion] = []
    deadline = time.monotonic() + timeout_s
    while len(done) < count and time.monotonic() < deadline:
        done += session.poll(20)
    assert len(done) == count, f"{len(done)} of {count} answered, {session.counters}"
    return done


def submit_to(session: ConnectedSession, index: int, commands: bytes = ONE_ORDER) -> int:
    """The next request, to the node of that index if the session may use it."""
    contacts = session.session.roster.contacts
    wanted = next((each for each in contacts if each.index == index), None)
    now_ns = time.monotonic_ns()
    usable = wanted is not None and wanted.connected and max(wanted.busy_until_ns, wanted.avoided_until_ns) <= now_ns
    others = [each for each in contacts if each is not wanted] if usable else []
    before = [each.busy_until_ns for each in others]
    for each in others:
        each.busy_until_ns = FAR_NS
    number = session.submit(commands).number
    for each, until_ns in zip(others, before, strict=True):
        each.busy_until_ns = until_ns
    return number


def poll_until(session: ConnectedSession, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Poll until ``condition`` holds; nothing may be answered meanwhile."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{session.endpoints}, connected {session.connected}"
        assert session.poll(5) == []


def poll_for(session: ConnectedSession, seconds: float) -> None:
    """Poll for so long; nothing may be answered meanwhile."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert session.poll(5) == []
