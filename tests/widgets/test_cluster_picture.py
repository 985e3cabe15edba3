"""The live picture as a widget: what goes to a page and when, clicks, samples, and what is left of a closed one."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import numpy as np
import pytest

from tests.waiting import wait_for
from tests.widgets.fake_cluster import FakeCluster
from zmqlab.errors import RequestRefused, SettingsError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.load.load_messages import LoadCounters
from zmqlab.widgets import cluster_picture, readings
from zmqlab.widgets.cluster_picture import ASK_S, ClusterPicture
from zmqlab.widgets.picture_readings import Look
from zmqlab.widgets.sampler import Sampler
from zmqlab.wire.fault_queries import LinkFault

Sent = list[tuple[dict[str, Any], list[bytes]]]


class Rig:
    """A picture, and what it pushed. Time passes when the test says so."""

    def __init__(self, cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster, self.sampler = cluster, sampler
        self.wishes: list[tuple[float, float]] = []
        self.groups: list[int | None] = []
        """The one that each wish turns to."""
        self.refusal: Exception | None = None
        self.threads: set[str] = set()
        monkeypatch.setattr(cluster_picture, "trace", self._trace)
        self.picture = ClusterPicture(cast(Cluster, cluster))
        self.sent: Sent = []
        self.picture.send = lambda message, buffers=None: self.sent.append((message, buffers))  # type: ignore[method-assign]

    def _trace(
        self, feed: object, share: float, seconds: float, *, heartbeats: bool, records_per_s: int, group: int | None
    ) -> None:
        self.threads.add(threading.current_thread().name)
        self.groups.append(group)
        self.wishes.append((share, seconds))
        if self.refusal is not None:
            raise self.refusal

    def say(self, what: str, seq: int = 0) -> None:
        self.picture._on_message(None, {"push": what, "view": "page", "seq": seq}, [])

    def turn(self, news: bool = False) -> None:
        """A tick, a tenth of a second after the last push unless there is news."""
        if not news:
            self.picture._pushes.flow._pushed_s -= 1.0
        self.sampler.turn()
        self.picture._on_tick()

    def column(self, name: str) -> list[float]:
        """Of the rows of the last push."""
        names = next(message["streams"][0][1] for message, _ in reversed(self.sent) if message["key"])
        _, buffers = self.sent[-1]
        return np.frombuffer(buffers[0], "<f8").reshape(len(names), -1)[names.index(name)].tolist()


@pytest.fixture
def rig(cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(readings, "STALE_S", 600.0)  # the nodes speak once, and the machine may be slow
    for name in cluster.nodes:
        cluster.say(name)
    sampler.turn()
    return Rig(cluster, sampler, monkeypatch)


def test_a_new_page_gets_all_and_then_what_is_new(rig: Rig) -> None:
    rig.say("ready")
    rig.turn()
    rig.turn()
    (first, _), (second, _) = rig.sent
    assert (first["key"], second["key"]) == (True, False)
    assert first["tables"]["nodes"]["name"] == ["node0", "node1", "node2"]
    assert second["tables"] == {}
    assert (rig.column("look0"), rig.column("look1")) == ([Look.LEADER], [Look.FOLLOWER])


def test_a_death_and_a_cut_link_do_not_wait_for_the_next_tenth_of_a_second(rig: Rig) -> None:
    rig.say("ready")
    rig.turn()
    rig.turn(news=True)
    assert len(rig.sent) == 1, "nothing has happened"
    rig.cluster.running = ("node0", "node2")
    rig.turn(news=True)
    assert rig.column("look1") == [Look.DEAD]
    rig.cluster.links = {("node0", "node2"): LinkFault(cut=True)}
    rig.turn(news=True)
    assert len(rig.sent) == 3
    assert rig.sent[-1][0]["tables"]["links"]["words"] == ["cut"]


def test_what_a_click_did_is_pushed_when_it_is_done(rig: Rig) -> None:
    """The next row would come up to a tenth of a second later."""
    rig.say("ready")
    rig.turn()

    def end() -> None:
        rig.cluster.running = ("node0", "node2")

    rig.picture.act("kill -9:node1", end)
    assert wait_for(lambda: len(rig.sent) == 2)
    assert rig.column("look1") == [Look.DEAD]


def test_the_group_that_is_shown_is_pushed_whole_and_its_messages_are_sampled(rig: Rig) -> None:
    for group in range(2):
        for name in rig.cluster.nodes:
            rig.cluster.say(name, group=group, shards=2, role="leader" if name == f"node{group}" else "follower")
    rig.say("ready")
    rig.turn()
    assert wait_for(lambda: rig.groups == [None])
    before = len(rig.sent)
    rig.picture._on_message(None, {"do": "show", "group": 1}, [])
    rig.turn()
    message = rig.sent[before][0]
    assert message["key"], "rows of another group are no history of this one"
    assert ("picture", "group", 1) in message["set"]
    assert (rig.column("look0"), rig.column("look1")) == ([Look.FOLLOWER], [Look.LEADER])
    assert wait_for(lambda: rig.groups[1:] == [1])
    rig.picture._asked_s -= 2 * ASK_S
    rig.turn()
    assert wait_for(lambda: rig.groups[1:] == [1, None]), "a later choice in another picture stands"


def test_a_picture_of_a_group_that_is_not_traced_says_so_and_can_have_it_traced(rig: Rig) -> None:
    """Two pictures of one cluster share the group whose messages are sampled; one showed the other's messages."""
    for group in range(2):
        for name in rig.cluster.nodes:
            rig.cluster.say(name, group=group, shards=2)
    rig.say("ready")
    rig.picture.do_show(1)
    rig.turn()
    told = {name: value for message, _ in rig.sent for _, name, value in message["set"]}
    assert told["is_traced"] is False
    assert told["caption"] == "No messages are shown: those of group 0 are sampled now, one group at a time."
    assert wait_for(lambda: rig.groups[-1:] == [1])
    rig.cluster.feed.traces.turn_to(1)
    rig.turn()
    assert ("picture", "is_traced", True) in rig.sent[-1][0]["set"]
    assert "Samples of group 1's real frames" in str(rig.sent[-1][0]["set"])
    rig.cluster.feed.traces.turn_to(0)  # as another picture has it
    rig.turn()
    assert ("picture", "is_traced", False) in rig.sent[-1][0]["set"]
    before = len(rig.groups)
    rig.picture._on_message(None, {"do": "sample"}, [])
    rig.turn()
    assert wait_for(lambda: rig.groups[before:] == [1])


def test_a_group_that_is_not_there_is_refused_in_words(rig: Rig) -> None:
    with pytest.raises(SettingsError, match="group is 3"):
        rig.picture.do_show(3)
    rig.picture._on_message(None, {"do": "show", "group": "all"}, [])
    assert "group is 'all'" in rig.picture._problem


def test_nobody_looks(rig: Rig) -> None:
    rig.say("ready")
    rig.turn()
    assert wait_for(lambda: len(rig.wishes) == 1)
    rig.say("hidden")
    for _ in range(5):
        rig.picture._asked_s -= 2 * ASK_S
        rig.turn()
    rows = rig.picture._readings._rows.total  # type: ignore[union-attr]
    assert (len(rig.sent), rows, len(rig.wishes)) == (1, 1, 1), "a hidden page costs nothing"
    rig.say("visible", seq=1)
    rig.turn()
    assert rig.sent[-1][0]["key"]
    assert wait_for(lambda: len(rig.wishes) == 2)


def test_samples_are_asked_for_now_and_then_by_a_thread_of_its_own(rig: Rig) -> None:
    rig.say("ready")
    for _ in range(5):
        rig.turn()
    assert wait_for(lambda: rig.wishes == [(1.0, cluster_picture.LEASE_S)])
    assert rig.threads == {"zmqlab-samples"}
    time.sleep(0.05)
    assert len(rig.wishes) == 1


def test_a_load_that_begins_gets_a_share_of_its_own_and_the_old_one_ends(rig: Rig) -> None:
    """Nothing was known of a load that had just begun: all of its requests were sampled for five seconds."""
    rig.say("ready")
    rig.turn()
    assert wait_for(lambda: len(rig.wishes) == 1)
    counters = LoadCounters(acknowledged=500, requests=100)
    rig.cluster.load(interval=counters)
    rig.picture._asked_s -= ASK_S / 2
    rig.turn()
    assert wait_for(lambda: len(rig.wishes) == 3)
    (_, new, old) = rig.wishes
    assert new == (1 / 256, cluster_picture.LEASE_S)
    assert old == (1.0, 0.0)


def test_a_picture_without_samples_says_why(rig: Rig) -> None:
    rig.refusal = RequestRefused("node0 is not traced: the key is none of an operator")
    rig.say("ready")
    rig.turn()
    assert wait_for(lambda: rig.picture._unsampled != "")
    rig.turn()
    captions = [value for message, _ in rig.sent for _, name, value in message["set"] if name == "caption"]
    assert "the key is none of an operator" in captions[-1]


def test_all_buttons_of_the_registry_are_in_its_menus(rig: Rig) -> None:
    assert [each["button"] for each in rig.picture._controls] == [control.button for control in FAULTS.controls]


def test_a_click_strikes_as_that_of_a_table_does(rig: Rig) -> None:
    def click(do: str, **arguments: Any) -> None:
        rig.picture._on_message(None, {"do": do, **arguments}, [])

    click("strike", button="kill -9", target=["node1"])
    assert wait_for(lambda: rig.cluster.done == [("SIGKILL", "node1")])
    click("strike", button="cut", target=["node0", "node2"])
    assert wait_for(lambda: rig.cluster.links == {("node0", "node2"): LinkFault(cut=True)})
    click("undo", button="cut", target=["node0", "node2"])
    assert wait_for(lambda: rig.cluster.links == {})
    click("strike", button="make worse", target=["node0", "node2"], sizes={"delay_ms": 200.0, "loss": 0.0})
    assert wait_for(lambda: rig.cluster.links == {("node0", "node2"): LinkFault(delay_ms=200)})


def test_a_page_can_only_say_what_a_page_says(rig: Rig) -> None:
    rig.say("nonsense")
    assert rig.picture._pushes.flow.views == {}


def test_where_there_are_no_widgets_it_is_a_table_of_words(rig: Rig) -> None:
    rig.cluster.running = ("node0", "node1")
    text = rig.picture.html()
    assert "leader" in text
    assert "dead" in text


def test_the_last_frame_of_a_cluster_that_stops(rig: Rig) -> None:
    rig.say("ready")
    rig.turn()
    rig.cluster.running = ("node0", "node1")
    rig.picture._pushes.flow._pushed_s -= 1.0
    rig.turn()
    rig.cluster.stop()
    rig.picture._pushes.flow._pushed_s -= 1.0
    rig.sampler._tell()
    assert rig.column("look0") == [Look.ENDED], "it has not failed"
    assert rig.column("look2") == [Look.DEAD], "it had"
    assert rig.picture._beat == -1
    assert rig.picture._state == {"alive": False, "ended": True}


def test_a_picture_that_was_out_of_sight_shows_how_a_cluster_has_ended(rig: Rig) -> None:
    rig.say("ready")
    rig.turn()
    rig.say("hidden")
    rig.cluster.stop()
    rig.sampler._tell()
    assert len(rig.sent) == 1
    rig.say("visible", 1)
    assert rig.sent[-1][0]["key"]
    assert rig.column("look0")[-1] == Look.ENDED
