"""The filter of a node's peer frames: what is lost, what waits and for how long, and whom a fault means."""

from __future__ import annotations

import math
import random

import pytest

from zmqlab.engine import link_faults as module
from zmqlab.engine.link_faults import LinkFaults
from zmqlab.errors import FrameError, SettingsError
from zmqlab.raft.messages import AppendEntriesResponse, TimeoutNow
from zmqlab.wire import frames
from zmqlab.wire.control import LinkFault
from zmqlab.wire.peer import Hello, encode_forward, encode_hello, encode_message

MS = 1_000_000
ONE, TWO = "tcp://127.0.0.1:5000", "tcp://127.0.0.1:5100"
MEMBERS = {1: ONE, 2: TWO}
OWN_ID = 9


def make(*faults: LinkFault, seed: int = 1) -> LinkFaults:
    links = LinkFaults(random.Random(seed), lambda node_id: MEMBERS.get(node_id, ""))
    links.replace(faults)
    return links


def frame_of(sender: int, number: int = 1) -> bytes:
    return encode_message(TimeoutNow(sender, OWN_ID, number))


def test_nothing_to_do_without_faults() -> None:
    links = make()
    assert not links.active
    assert links.next_due_ns is None
    links.replace([LinkFault(sender=ONE)])
    assert not links.active, "a whole link is no fault"


@pytest.mark.parametrize(
    "frame",
    [
        frame_of(1),
        encode_message(AppendEntriesResponse(1, OWN_ID, 1, 1, True, 1, 0, 0)),
        encode_forward(1, [b"request"]),
        encode_hello(Hello(1, OWN_ID, ONE, "node1")),
    ],
    ids=["a vote's kind", "an answer", "forwarded", "hello"],
)
def test_whatever_a_cut_sender_says_is_lost_and_the_others_are_heard(frame: bytes) -> None:
    links = make(LinkFault(sender=ONE, cut=True))
    assert links.active
    assert not links.admit(frame, 0)
    assert links.admit(frame_of(2), 0)
    assert links.lost == 1
    assert list(links.due(10**18)) == []


def test_a_table_replaces_the_one_before() -> None:
    links = make(LinkFault(sender=ONE, cut=True))
    links.replace([LinkFault(sender="tcp://localhost:5100", cut=True)])
    assert links.admit(frame_of(1), 0)
    assert not links.admit(frame_of(2), 0)
    links.replace([])
    assert not links.active


def test_delayed_frames_come_when_they_are_due_and_in_order() -> None:
    links = make(LinkFault(sender=ONE, delay_ms=20.0), LinkFault(sender=TWO, delay_ms=5.0))
    first, second, other = frame_of(1, 1), frame_of(1, 2), frame_of(2, 3)
    assert not any([links.admit(first, 0), links.admit(second, 0), links.admit(other, 10 * MS)])
    assert links.next_due_ns == 15 * MS
    assert list(links.due(15 * MS - 1)) == []
    assert list(links.due(15 * MS)) == [other]
    assert list(links.due(20 * MS)) == [first, second]
    assert links.next_due_ns is None


def test_what_waits_when_the_links_are_healed_still_comes() -> None:
    links = make(LinkFault(sender=ONE, delay_ms=20.0))
    links.admit(frame_of(1), 0)
    links.replace([])
    assert links.active, "or the node would not look"
    assert links.admit(frame_of(1, 2), 1)
    assert list(links.due(20 * MS)) == [frame_of(1)]
    assert not links.active


def test_a_share_is_lost() -> None:
    links = make(LinkFault(sender=ONE, loss=0.2))
    heard = sum(links.admit(frame_of(1), 0) for _ in range(5_000))
    assert 3_900 < heard < 4_100
    assert links.lost == 5_000 - heard
    assert not make(LinkFault(sender=ONE, loss=1.0)).admit(frame_of(1), 0)


def test_waiting_is_bounded_in_frames_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    links = make(LinkFault(sender=ONE, delay_ms=1.0))
    for _ in range(5):
        links.admit(frame_of(1), 0)
    assert links.lost == 2
    assert len(list(links.due(MS))) == 3
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 2 * len(frame_of(1)))
    for _ in range(5):
        links.admit(frame_of(1), 0)
    assert len(list(links.due(MS))) == 2


def test_a_stranger_is_known_by_the_address_in_its_hello() -> None:
    """A node whose disk was wiped is another member at the same place: the fault means it too."""
    links = make(LinkFault(sender=ONE, cut=True))
    assert links.admit(frame_of(77), 0), "who is that?"
    assert not links.admit(encode_hello(Hello(77, OWN_ID, ONE, "node1")), 0)
    assert not links.admit(frame_of(77), 0)
    for node_id in range(100, 100 + 2 * module.MAX_GUESTS):
        links.admit(encode_hello(Hello(node_id, OWN_ID, TWO, "x")), 0)
    assert links.admit(frame_of(77), 0), "remembered without bound"


def test_a_frame_that_is_too_short_is_refused() -> None:
    links = make(LinkFault(sender=ONE, cut=True))
    with pytest.raises(FrameError):
        links.admit(frames.header(frames.TIMEOUT_NOW) + b"1234567", 0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (LinkFault(sender="node1", cut=True), "not an endpoint"),
        (LinkFault(cut=True), "not an endpoint"),
        (LinkFault(sender=ONE, delay_ms=-1.0), "delay_ms is -1"),
        (LinkFault(sender=ONE, delay_ms=math.nan), "delay_ms is nan"),
        (LinkFault(sender=ONE, delay_ms=1e9), "delay_ms is"),
        (LinkFault(sender=ONE, loss=1.1), "loss is 1.1"),
        (LinkFault(sender=ONE, loss=math.nan), "loss is nan"),
    ],
)
def test_a_fault_that_makes_no_sense_changes_nothing(fault: LinkFault, said: str) -> None:
    links = make(LinkFault(sender=TWO, cut=True))
    with pytest.raises(SettingsError, match=said):
        links.replace([LinkFault(sender=ONE, cut=True), fault])
    assert links.admit(frame_of(1), 0)
    assert not links.admit(frame_of(2), 0)


def test_too_many_links() -> None:
    with pytest.raises(SettingsError, match="more than 64"):
        make(*(LinkFault(sender=f"tcp://127.0.0.1:{port}", cut=True) for port in range(1_000, 1_065)))
