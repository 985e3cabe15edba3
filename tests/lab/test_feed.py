"""The feed: newest snapshots, events, trades, the leader, checkpoints that disagree, and callbacks that fail."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from tests.lab.fake_node import status_of
from tests.waiting import wait_for
from zmqlab.cli.live_view import node_rows
from zmqlab.errors import SettingsError
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.listeners import Listener
from zmqlab.lab.service_facts import ServiceWatch
from zmqlab.wire import control, frames

Publish = Callable[..., None]


@pytest.fixture
def feed() -> Iterator[MetricsFeed]:
    with MetricsFeed() as feed:
        yield feed


@pytest.fixture
def publish(feed: MetricsFeed) -> Iterator[Publish]:
    """Publishes a node's status, with some fields changed, once the feed listens."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    publisher = context.socket(zmq.XPUB)
    publisher.linger = 0
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    feed.connect(f"tcp://127.0.0.1:{port}")
    for _ in range(2):  # one subscription a topic
        assert publisher.poll(30_000)
        publisher.recv()

    def send(name: str, **fields: object) -> None:
        status = status_of(name, 1, leads=False)
        for field, value in fields.items():
            setattr(status, field, value)
        publisher.send(control.encode(frames.METRICS, status))

    def next_subscription() -> bytes:
        assert publisher.poll(30_000)
        return publisher.recv()

    send.raw = publisher.send  # type: ignore[attr-defined]
    send.next_subscription = next_subscription  # type: ignore[attr-defined]
    yield send
    publisher.close(0)
    context.term()


def test_keeps_the_newest_snapshot_of_each_node(feed: MetricsFeed, publish: Publish) -> None:
    for index in range(5):
        publish("node0", applied_index=index)
    publish("node1", applied_index=9)
    assert wait_for(lambda: "node1" in feed.newest())
    assert feed.newest()["node0"].applied_index == 4
    assert "node0, node1" in repr(feed)
    feed.forget("node0")
    assert set(feed.newest()) == {"node1"}


def test_of_several_that_say_they_lead_the_highest_term_does(feed: MetricsFeed, publish: Publish) -> None:
    publish("node0", role="leader", term=7)
    publish("node1", role="leader", term=9)
    publish("node2", role="follower", term=12)
    assert wait_for(lambda: "node2" in feed.newest())
    assert feed.leader_among(("node0", "node1", "node2")) == "node1"
    assert feed.leader_among(("node0", "node2")) == "node0"
    assert feed.leader_among(("node2",)) == ""


def test_equal_checkpoints_agree_and_different_ones_are_told_once(feed: MetricsFeed, publish: Publish) -> None:
    for name in ("node0", "node1"):
        publish(name, hash_index=256, chain_hash="aa")
    publish("node0", hash_index=512, chain_hash="bb")
    for _ in range(3):
        publish("node1", hash_index=512, chain_hash="cc")
    publish("node2")
    assert wait_for(lambda: "node2" in feed.newest())
    assert feed.mismatches() == [(512, {"node0": "bb", "node1": "cc"}, 0)]
    assert [event.kind for event in feed.events()] == ["hash_mismatch"]
    assert feed.checkpoints()[256] == {"node0": "aa", "node1": "aa"}


def test_remembers_who_led_in_which_term(feed: MetricsFeed, publish: Publish) -> None:
    publish("node0", role="leader", term=1)
    publish("node1", role="leader", term=2)
    publish("node2", role="leader", term=2)
    assert wait_for(lambda: "node2" in feed.newest())
    assert feed.leaders() == {1: {"node0"}, 2: {"node1", "node2"}}


def test_a_callback_that_fails_stops_nothing(feed: MetricsFeed, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def fail(event: control.Event) -> None:
        raise ValueError(event.node)

    feed.on_event(fail)
    unregister = feed.on_event(lambda event: seen.append(event.node))
    feed.note("sang", "node0")
    assert wait_for(lambda: seen == ["node0"])
    assert wait_for(lambda: "a callback of the metrics feed failed" in caplog.text)
    unregister()
    feed.note("sang", "node1")
    assert not wait_for(lambda: seen != ["node0"], 0.1)
    assert [event.node for event in feed.events()] == ["node0", "node1"]


@pytest.mark.parametrize("how", ["on_event", "on_load_frame", "on_turn"])
@pytest.mark.parametrize("slowly", [True, False])
def test_a_callback_that_is_slow_or_gives_up_delays_no_other(
    feed: MetricsFeed, publish: Publish, caplog: pytest.LogCaptureFixture, how: str, slowly: bool
) -> None:
    """It ran in the feed's thread: while it slept, all nodes seemed silent, and no death was noticed."""
    called, go_on = threading.Event(), threading.Event()

    def misbehave(*_: object) -> None:
        called.set()
        if slowly:
            go_on.wait(10)
        sys.exit("given up")

    seen: list[str] = []
    getattr(feed, how)(misbehave)
    feed.on_event(lambda event: seen.append(event.node))
    feed.note("sang", "node0")
    feed._take_load_frame(0, b"frame")
    assert called.wait(30)
    publish("node1")
    assert wait_for(lambda: "node1" in feed.newest())
    feed.note("sang", "node1")
    assert wait_for(lambda: seen == ["node0", "node1"])
    go_on.set()
    assert wait_for(lambda: "a callback of the metrics feed failed" in caplog.text)


def test_a_callback_that_never_comes_to_an_end_misses_what_is_too_much(caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()
    seen: list[str] = []

    def wait(event: control.Event) -> None:
        go_on.wait(10)
        seen.append(event.node)

    listener = Listener(wait, 3, lambda: False)
    for number in range(6):
        listener(control.Event(time_ns=1, node=f"node{number}", kind="sang"))
    assert "is slower than the news" in caplog.text
    go_on.set()
    assert wait_for(lambda: len(seen) >= 3)
    assert seen[0] == "node0"
    listener.stop()


def test_a_node_whose_clock_is_behind_is_not_silent(
    feed: MetricsFeed, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshots were an hour old as they came, by its own account."""
    monkeypatch.setattr("zmqlab.lab.service_facts.OLD_S", 60.0)
    publish("node0", time_ns=time.time_ns() - 3_600_000_000_000)
    assert wait_for(lambda: "node0" in feed.newest())
    (row,) = node_rows(ServiceWatch(feed).facts().nodes)
    assert row.role == "follower"
    assert feed.silent_s()["node0"] < 60
    feed._published.heard_s["node0"] -= 61
    (row,) = node_rows(ServiceWatch(feed).facts().nodes)
    assert row.role == "silent"
    feed.forget("node0")
    assert feed.silent_s() == {}


def test_trades_are_subscribed_to_only_while_a_callback_wants_them(feed: MetricsFeed, publish: Publish) -> None:
    seen: list[control.TradeEvent] = []
    trade = control.TradeEvent(symbol="ACME", price=5, quantity=2, log_index=9, maker_order_id=1, taker_order_id=2)
    unregister = feed.on_trade(seen.append)
    assert publish.next_subscription() == b"\x01" + frames.topic(frames.TRADE)  # type: ignore[attr-defined]
    publish.raw(control.encode(frames.TRADE, trade))  # type: ignore[attr-defined]
    assert wait_for(lambda: seen == [trade])
    unregister()
    assert publish.next_subscription() == b"\x00" + frames.topic(frames.TRADE)  # type: ignore[attr-defined]


def test_garbage_is_dropped(feed: MetricsFeed, publish: Publish) -> None:
    publish.raw(frames.header(frames.METRICS) + b"\xff garbage")  # type: ignore[attr-defined]
    publish.raw(frames.topic(frames.EVENT))  # type: ignore[attr-defined]
    publish("node0")
    assert wait_for(lambda: "node0" in feed.newest())


def test_waits_until_a_condition_holds_or_time_is_up(feed: MetricsFeed, publish: Publish) -> None:
    assert not feed.wait_until(lambda: False, 0.1)
    publish("node0")
    assert feed.wait_until(lambda: "node0" in feed.newest(), 30)


def test_a_name_is_refused_where_the_caller_hears_of_it(feed: MetricsFeed) -> None:
    """In the feed's thread no caller would, and the thread would end."""
    with pytest.raises(SettingsError, match="names a host"):
        feed.connect("tcp://silent.example:5000")
