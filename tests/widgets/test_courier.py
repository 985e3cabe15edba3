"""One message for all pushes of a tick: what travels together, in which order, and what a page says back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
from ipywidgets.widgets.widget import _instances as all_widgets

from tests.widgets.fake_cluster import FakeCluster
from tests.widgets.javascript import JavaScript
from zmqlab.lab.cluster import Cluster
from zmqlab.widgets.bokeh_library import bokeh_library
from zmqlab.widgets.chart_widgets import LatencyChart, ThroughputChart
from zmqlab.widgets.cluster_picture import ClusterPicture
from zmqlab.widgets.courier import Courier, box_with
from zmqlab.widgets.sampler import Sampler

Sent = list[tuple[str, dict[str, Any], list[bytes]]]


class Rig:
    """A courier, and what it and the widgets of its boxes have sent: by whom, the message, its buffers."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.painted: list[tuple[int, str, str, int]] = []
        self.sent: Sent = []
        self.courier, self.one = box_with(sampler, lambda *said: self.painted.append((1, *said)))
        _, self.other = box_with(sampler, lambda *said: self.painted.append((2, *said)))
        self.courier.send = lambda message, buffers=None: self.sent.append(("courier", message, buffers))  # type: ignore[method-assign]

    def post(self, box: int, sequence: int, *buffers: bytes) -> None:
        self.courier.post(
            box, lambda message, own: self.sent.append((f"box {box}", message, own)), {"seq": sequence}, list(buffers)
        )


@pytest.fixture
def rig(sampler: Sampler) -> Iterator[Rig]:
    made = Rig(sampler)
    yield made
    for box in (made.one, made.other):
        made.courier.close_box(box)


def test_pushes_of_a_tick_leave_together(rig: Rig) -> None:
    rig.sampler.on_tick(lambda: rig.post(rig.one, 1, b"a", b"b"))
    rig.sampler.on_tick(lambda: rig.post(rig.other, 7, b"c"))
    rig.sampler._tell()
    parts = [[rig.one, 2, {"seq": 1}], [rig.other, 1, {"seq": 7}]]
    assert rig.sent == [("courier", {"parts": parts}, [b"a", b"b", b"c"])]


def test_one_push_of_a_tick_leaves_by_its_own_widget(rig: Rig) -> None:
    rig.sampler.on_tick(lambda: rig.post(rig.one, 1, b"a"))
    rig.sampler._tell()
    rig.sampler._tell()
    assert rig.sent == [(f"box {rig.one}", {"seq": 1}, [b"a"])] * 2


def test_a_push_between_two_ticks_does_not_wait(rig: Rig) -> None:
    rig.sampler._tell()
    rig.post(rig.one, 1)
    rig.post(rig.other, 1)
    assert [sender for sender, *_ in rig.sent] == [f"box {rig.one}", f"box {rig.other}"]


def test_a_push_of_another_thread_does_not_overtake_those_that_wait(rig: Rig) -> None:
    """A click's push, while the sampler tells its watchers, would reach the page before an older one of its widget."""

    def tick() -> None:
        rig.post(rig.one, 1)
        clicked = threading.Thread(target=rig.post, args=(rig.one, 2))
        clicked.start()
        clicked.join(10)

    rig.sampler.on_tick(tick)
    rig.sampler._tell()
    assert [[message["seq"] for _, _, message in each["parts"]] for _, each, _ in rig.sent] == [[1, 2]]


def test_a_watcher_that_fails_holds_nothing_up(rig: Rig) -> None:
    def fail() -> None:
        raise ValueError("a chart")

    rig.sampler.on_tick(lambda: rig.post(rig.one, 1))
    rig.sampler.on_tick(fail)
    rig.sampler._tell()
    rig.post(rig.one, 2)
    assert [message["seq"] for _, message, _ in rig.sent] == [1, 2]
    rig.sampler.failure = None


def test_a_courier_that_fails_is_not_waited_for(rig: Rig) -> None:
    """Its pushes would be kept for ever."""

    def fail(*_: object) -> None:
        raise ValueError("no way out")

    unregister = rig.sampler.on_tick(lambda: rig.courier.post(rig.one, fail, {}, []))
    rig.sampler._tell()
    unregister()
    assert isinstance(rig.sampler.failure, ValueError)
    rig.sampler.failure = None
    rig.sampler.on_tick(lambda: rig.post(rig.one, 2))
    rig.sampler._tell()
    assert [message["seq"] for _, message, _ in rig.sent] == [2]


def test_each_widget_hears_what_was_painted_of_it(rig: Rig) -> None:
    painted = [[rig.one, "page", 4], [rig.other, "page", 9], [99, "page", 1]]
    rig.courier._on_message(None, {"painted": painted}, [])
    assert rig.painted == [(1, "page", "painted", 4), (2, "page", "painted", 9)]
    rig.courier._on_message(None, {"nonsense": 1}, [])


def test_the_widgets_of_a_cluster_have_one_courier_until_the_last_is_closed(
    cluster: FakeCluster, sampler: Sampler
) -> None:
    bokeh_library()
    before = set(all_widgets)
    chart, picture = ThroughputChart(cast(Cluster, cluster)), ClusterPicture(cast(Cluster, cluster))
    courier = chart._courier
    assert courier is picture._courier
    assert chart._box != picture._box
    chart.close()
    assert courier is not None
    assert courier.comm is not None
    picture.close()
    assert set(all_widgets) == before
    later = LatencyChart(cast(Cluster, cluster))
    assert later._courier is not courier
    later.close()
    assert not sampler._around


@pytest.mark.parametrize("kind", [ThroughputChart, ClusterPicture])
def test_a_widget_gives_its_box_back_once(
    kind: type[ThroughputChart | ClusterPicture], cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed widget is closed again when it is collected as garbage, in any thread. That waited for a lock whose
    owner waited for one of that thread."""
    shown = kind(cast(Cluster, cluster))
    closed: list[int] = []
    close_box = Courier.close_box
    monkeypatch.setattr(Courier, "close_box", lambda self, box: (closed.append(box), close_box(self, box)))
    for _ in range(2):
        shown.close()
    assert closed == [shown._box]


def test_a_tick_of_a_picture_and_two_charts_is_one_message(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[object, dict[str, Any]]] = []
    for kind in (Courier, ThroughputChart, LatencyChart, ClusterPicture):
        monkeypatch.setattr(kind, "send", lambda self, message, buffers=None: sent.append((self, message)))
    monkeypatch.setattr(ClusterPicture, "_ask_for_samples", lambda *_: None)
    for name in cluster.nodes:
        cluster.say(name)
    shown = [kind(cast(Cluster, cluster)) for kind in (ThroughputChart, LatencyChart, ClusterPicture)]
    sampler.turn()
    sampler._tell()
    ((sender, message),) = sent
    assert sender is shown[0]._courier
    assert [box for box, _, _ in message["parts"]] == [each._box for each in shown]
    assert all(part["seq"] == 1 and part["key"] for _, _, part in message["parts"])
    for each in shown:
        each.close()


# -- the page's end ----------------------------------------------------------------------------------------------------

PAGE = """(() => {
    const emitter = () => {
        const heard = {};
        return { sent: [], heard, on: (name, told) => (heard[name] ??= []).push(told),
            send(message) { this.sent.push(message); },
            off: (name, told) => { heard[name] = (heard[name] ?? []).filter((each) => each !== told); },
            call: (name, ...all) => { for (const each of heard[name] ?? []) each(...all); } };
    };
    const courier = emitter();
    const widget = (box) => {
        const model = Object.assign(emitter(), { get: (name) => ({ _box: box, _courier: "IPY_MODEL_7" })[name],
            widget_manager: { get_model: async (name) => name === "7" ? courier : null } });
        const made = { model, taken: [], said: [], state: { seq: NaN, saidAt: -1e9 } };
        made.pushes = hearPushes(model, `view of ${box}`, (message, buffers) => {
            made.state.seq = message.seq;
            made.taken.push([message.seq, buffers]);
        });
        made.paint = () => made.pushes.painted(made.state, (what) => made.said.push(what));
        return made;
    };
    performance = { now: () => page.at };
    globalThis.page = { at: 1000, courier, one: widget(1), other: widget(2), alone: widget(0) };
    return true;
})()"""


@pytest.fixture
def js() -> Iterator[JavaScript]:
    made = JavaScript("pushes.js")
    made(PAGE)  # what is awaited there is done before the next line is read
    yield made
    made.close()


def test_a_page_gives_each_widget_its_parts(js: JavaScript) -> None:
    parts = [[1, 2, {"seq": 3}], [2, 1, {"seq": 8}], [1, 0, {"seq": 4}]]
    js("page.courier.call('msg:custom', {parts}, ['a', 'b', 'c'])", parts=parts)
    js("page.one.model.call('msg:custom', {seq: 5}, ['d'])")
    assert js("page.one.taken") == [[3, ["a", "b"]], [4, []], [5, ["d"]]]
    assert js("page.other.taken") == [[8, ["c"]]]
    js("page.courier.call('msg:custom', {other: 1}, [])")
    js("[page.one.pushes.close(), page.other.pushes.close()]")
    js("page.courier.call('msg:custom', {parts}, ['a', 'b', 'c'])", parts=parts)
    assert js("page.one.taken.length + page.other.taken.length") == 4, "what has left the page hears nothing"


def test_a_page_says_once_what_all_its_figures_have_painted(js: JavaScript) -> None:
    js("page.courier.call('msg:custom', {parts: [[1, 0, {seq: 3}], [2, 0, {seq: 8}]]}, [])")
    js("[page.one.paint(), page.other.paint()]")
    assert js("page.courier.sent") == [{"painted": [[1, "view of 1", 3]]}]
    js("page.courier.call('msg:custom', {parts: [[1, 0, {seq: 4}], [2, 0, {seq: 9}]]}, [])")
    js("[page.other.paint(), page.one.paint()]")
    assert js("page.courier.sent.length") == 1, "twice a second, all of them together"
    js("page.at = 1600")
    js("page.one.paint()")
    assert js("page.courier.sent[1].painted") == [[2, "view of 2", 9], [1, "view of 1", 4]]
    assert js("[page.one.said, page.other.said]") == [[], []]


def test_a_page_that_has_got_no_push_yet_has_painted_none(js: JavaScript) -> None:
    """It said that it had painted no number. The kernel could not read that, and dropped the rest of the message."""
    js("page.courier.call('msg:custom', {parts: [[2, 0, {seq: 8}]]}, [])")
    js("[page.one.paint(), page.other.paint()]")
    assert js("page.courier.sent") == [{"painted": [[2, "view of 2", 8]]}]


def test_a_view_that_has_gone_is_not_brought_back_by_what_it_painted(js: JavaScript) -> None:
    """What a view has painted waits for its half second. Told after the view had gone, it made a view that no page has,
    and for a minute its widget was pushed twice a second."""
    js("page.courier.call('msg:custom', {parts: [[1, 0, {seq: 3}], [2, 0, {seq: 8}]]}, [])")
    js("[page.one.paint(), page.other.paint(), page.other.pushes.close()]")
    js("page.at = 1600")
    js("page.one.paint()")
    assert js("page.courier.sent[1].painted") == [[1, "view of 1", 3]]


def test_a_widget_without_a_courier_speaks_for_itself(js: JavaScript) -> None:
    js("page.alone.model.call('msg:custom', {seq: 3}, [])")
    js("[page.alone.paint(), page.alone.paint()]")
    assert js("page.alone.said") == ["painted"]
    assert js("page.courier.sent") == []
