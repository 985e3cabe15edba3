"""The charts as bokeh figures: complete, without a complaint of bokeh's, themed, and never empty without a word."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from bokeh.embed import file_html
from bokeh.models import GlyphRenderer, VArea
from bokeh.resources import INLINE

from tests.waiting import wait_for
from tests.widgets.fake_cluster import MS, FakeCluster
from zmqlab.lab.cluster import Cluster
from zmqlab.widgets.book_chart import TAPE_LINES, BookView, BookWatch
from zmqlab.widgets.chart_widgets import AllCharts, BookChart, LatencyChart, ReplicationChart, ThroughputChart
from zmqlab.widgets.live_figure import MAX_BEHIND
from zmqlab.widgets.palette import themed
from zmqlab.widgets.sampler import Sampler
from zmqlab.widgets.scene import steady_top

UNITS = {"throughput": "orders/s", "latency": "ms", "replication": "log entries"}
pytestmark = pytest.mark.usefixtures("quiet_book")


@pytest.fixture
def quiet_book(monkeypatch: pytest.MonkeyPatch) -> None:
    """The book is not asked for: there is no node."""
    monkeypatch.setattr(BookWatch, "_run", lambda self: None)


@pytest.fixture
def charts(cluster: FakeCluster, sampler: Sampler) -> Iterator[AllCharts]:
    sampler.turn()
    made = AllCharts(cast(Cluster, cluster))
    yield made
    made.close()


def models(charts: AllCharts, theme: Any = "light") -> dict[str, Any]:
    return {str(model.name): model for model in charts.static(theme).references() if getattr(model, "name", None)}


def busy(cluster: FakeCluster, sampler: Sampler) -> None:
    """A minute in two turns: load, a kill, an election."""
    now = time.time_ns()
    for name in cluster.nodes:
        cluster.say(name, now)
    cluster.load()
    sampler.turn()
    cluster.happen("killed", "node0", now + 10 * MS)
    cluster.happen("elected", "node1", now + 200 * MS, term=2)
    for name in cluster.nodes:
        cluster.say(name, now + 100 * MS, orders_taken=300)
    cluster.load(offered=400, gap_ms=200.0)
    sampler.turn()


def test_bokeh_has_nothing_to_say(
    cluster: FakeCluster, sampler: Sampler, charts: AllCharts, caplog: pytest.LogCaptureFixture
) -> None:
    busy(cluster, sampler)
    with caplog.at_level(logging.WARNING):
        for theme in ("light", "dark"):
            html = file_html(charts.static(theme), INLINE, "report")  # type: ignore[arg-type]
            assert "orders/s" in html
    assert caplog.records == []


def test_areas_have_no_unknown_values(
    cluster: FakeCluster, sampler: Sampler, charts: AllCharts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bokeh breaks a line at NaN, and draws an area across it as if it had seen what was there."""
    busy(cluster, sampler)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_000 * MS)
    busy(cluster, sampler)
    found = charts.static("light").references()
    areas = [each for each in found if isinstance(each, GlyphRenderer) and isinstance(each.glyph, VArea)]
    tops = [each.data_source.data[each.glyph.y2] for each in areas if "t" in each.data_source.data]
    assert len(tops) == 1
    assert len(tops[0]) > 4
    assert np.isfinite(tops[0]).all()
    assert np.isnan(models(charts)["series"].data["acknowledged"]).any()


def test_an_empty_chart_says_what_to_do(charts: AllCharts) -> None:
    found = models(charts)
    notes = [model for name, model in found.items() if name.endswith("_empty")]
    assert len(notes) == 7
    assert all(note.visible for note in notes)
    assert "start the load" in found["throughput_empty"].text


def test_the_words_go_when_there_is_something_to_see(cluster: FakeCluster, sampler: Sampler, charts: AllCharts) -> None:
    busy(cluster, sampler)
    charts._watch.view = BookView("AAPL", [(99, 5, 1)], [(101, 7, 2)], [(100, 3)])
    charts._watch.tape.listen(True)
    cluster.trade(100, 3)
    found = models(charts)
    assert [name for name, model in found.items() if name.endswith("_empty") and model.visible] == []
    assert found["series"].data["offered"][-1] == pytest.approx(4_000)
    own = found["series/1"].data
    assert np.array_equal(own["applied1"], found["series"].data["applied1"], equal_nan=True), "drawn of a node"
    assert len(own["taken1"]) == len(own["t"]) == len(found["series"].data["t"])
    assert np.isnan(found["series/9"].data["applied9"]).all(), "no such node"
    assert found["throughput_y"].end >= 4_000
    assert found["marks"].data["label"] == ["node0 killed", "node1 leads, term 2"]
    assert found["bands"].data["label"] == ["no acknowledgement for 200 ms"]
    assert found["bids"].data["price"] == [99]
    assert found["book_y"].start < 99 < 101 < found["book_y"].end


def test_all_time_charts_share_range_and_marks(charts: AllCharts) -> None:
    layout = charts.static()
    figures = [model for model in layout.references() if type(model).__name__ == "figure"]
    timed = [each for each in figures if each.x_range.name == "time"]
    assert {each.name for each in timed} == {"throughput", "latency", "replication", "leaders"}
    assert len({id(each.x_range) for each in timed}) == 1
    for each in timed:
        sources = [getattr(renderer.data_source, "name", None) for renderer in each.renderers]
        assert sources.count("marks") == 2, "the line and its label"
        assert sources.count("bands") == 1
        assert each.yaxis[0].axis_label == UNITS.get(each.name)


def test_the_nodes_of_now_are_shown(cluster: FakeCluster, sampler: Sampler, charts: AllCharts) -> None:
    cluster.nodes = cluster.running = ("node0", "node1", "node2", "node3", "node4")
    sampler.turn()
    found = models(charts)
    shown = [slot for slot in range(15) if found[f"throughput_key{slot}"].visible]
    assert shown == [0, 1, 2, 3, 4]
    assert found["throughput_taken4"].visible
    assert not found["throughput_taken5"].visible
    assert ["node4", "@taken4{0,0} orders/s"] in [list(each) for each in found["throughput_hover"].tooltips]


def test_a_burst_does_not_flatten_the_throughput(cluster: FakeCluster, sampler: Sampler, charts: AllCharts) -> None:
    """After an outage 50,000 orders/s were acknowledged for a moment, and 2,000/s became a line at the bottom."""
    for acknowledged in (200, 5_000, 200):
        cluster.load(offered=200, acknowledged=acknowledged)
        sampler.turn()
    drawn = models(charts)
    assert 2_000 < drawn["throughput_y"].end <= 5_000, "the axis follows the offered rate"
    burst = drawn["throughput_burst"]
    assert (burst.visible, burst.text) == (True, "▲ 50k/s")
    assert burst.x == sampler.ring.newest(("t",), 2)["t"][0]
    assert (burst.text_align, burst.x_offset) == ("right", -6), "it stands at the right edge, which would cut it off"
    assert burst.y < 0.4 * drawn["throughput_y"].end, "labels of marks stand above"


def test_a_rate_that_was_measured_just_before_does_not_flatten_the_load(
    cluster: FakeCluster, sampler: Sampler, charts: AllCharts
) -> None:
    """The first chapter asks what the machine can do, and begins a load of a tenth of it."""
    for _ in range(5):
        cluster.load(offered=6_000, acknowledged=6_000)
        sampler.turn()
    assert models(charts)["throughput_y"].end > 60_000, "a new rate is in sight at once"
    for _ in range(12):
        cluster.load(offered=500, acknowledged=500)
        sampler.turn()
    drawn = models(charts)
    assert 5_000 < drawn["throughput_y"].end <= 10_000
    assert drawn["throughput_burst"].text == "▲ 60k/s"
    for _ in range(12):
        cluster.load(offered=6_000, acknowledged=6_000)
        sampler.turn()
    cluster.load(offered=500, acknowledged=500)
    sampler.turn()
    assert models(charts)["throughput_y"].end > 60_000, "a rate that lasted is shown"


def test_without_a_burst_nothing_is_cut_off(cluster: FakeCluster, sampler: Sampler, charts: AllCharts) -> None:
    for acknowledged in (200, 250, 200):
        cluster.load(offered=200, acknowledged=acknowledged)
        sampler.turn()
    assert not models(charts)["throughput_burst"].visible


def test_service_time_comes_on_demand(cluster: FakeCluster, sampler: Sampler, charts: AllCharts) -> None:
    busy(cluster, sampler)
    assert not models(charts)["latency_service_p50"].visible
    charts.set_option("service", True)
    assert models(charts)["latency_service_p50"].visible


def test_themes_differ_in_what_depends_on_them(charts: AllCharts) -> None:
    layout = charts.static()
    light, dark = themed(layout, "light"), themed(layout, "dark")
    assert [each[:2] for each in light] == [each[:2] for each in dark]
    assert all(one[2] != other[2] for one, other in zip(light, dark, strict=True))
    assert models(charts, "dark")["throughput"].background_fill_color == "#111111"


@pytest.mark.parametrize(
    ("before", "wanted", "top"),
    [(0, 95, 100), (100, 50, 100), (100, 101, 150), (100, 30, 30), (6_000, 5_500, 6_000), (0, 0.7, 0.8)],
)
def test_an_axis_ends_at_a_round_number_and_does_not_jump(before: float, wanted: float, top: float) -> None:
    assert steady_top(before, wanted) == pytest.approx(top)


def test_without_widgets_there_are_words(cluster: FakeCluster, sampler: Sampler, charts: AllCharts) -> None:
    busy(cluster, sampler)
    bundle = charts._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "4,000 orders/s offered" in bundle["text/html"] or "orders/s offered" in bundle["text/html"]
    assert bundle["text/plain"] == "AllCharts()"


def test_the_parts_stand_alone(cluster: FakeCluster, sampler: Sampler) -> None:
    for part in (ThroughputChart, LatencyChart, ReplicationChart, BookChart):
        made = part(cast(Cluster, cluster))
        assert made.static() is not None
        assert made._repr_html_()
        made.close()


def test_the_tape_tells_the_newest_trade_first(cluster: FakeCluster, sampler: Sampler, charts: AllCharts) -> None:
    charts._watch.tape.listen(True)
    for price, quantity in ((10_000, 5), (10_002, 1_200), (10_002, 7), (9_999, 40)):
        cluster.trade(price, quantity)
    cluster.trade(1, 1, symbol="MSFT")
    tape = models(charts)["tape_lines"].data
    assert tape["price"] == ["9,999", "10,002", "10,002", "10,000"]
    assert tape["quantity"] == ["40", "7", "1,200", "5"]
    assert tape["arrow"] == ["▼", "•", "▲", "•"], "against the trade before; the first one has none"
    assert tape["row"] == [0, 1, 2, 3]


def test_the_tape_is_short_and_its_oldest_line_has_an_arrow(cluster: FakeCluster, charts: AllCharts) -> None:
    charts._watch.tape.listen(True)
    for price in range(TAPE_LINES + 30):
        cluster.trade(price, 1)
    tape = models(charts)["tape_lines"].data
    assert tape["price"] == [str(price) for price in range(TAPE_LINES + 29, 29, -1)]
    assert set(tape["arrow"]) == {"▲"}


def test_another_symbol_has_another_tape(cluster: FakeCluster, charts: AllCharts) -> None:
    charts._watch.tape.listen(True)
    cluster.trade(100, 1)
    charts.set_option("symbol", "MSFT")
    cluster.trade(100, 1)
    cluster.trade(300, 2, symbol="MSFT")
    assert models(charts)["tape_lines"].data["price"] == ["300"]


def test_a_book_that_no_node_answers_for_says_so(
    cluster: FakeCluster, charts: AllCharts, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = iter([BookView("AAPL", [(99, 5, 1)]), None, BookView("AAPL", [(98, 5, 1)])])
    monkeypatch.setattr("zmqlab.widgets.book_chart._ask", lambda *_: next(views))
    cluster.living_endpoints = ("tcp://127.0.0.1:1",)
    said = []
    for _ in range(3):
        charts._watch._look()
        found = models(charts)
        said.append((found["book_title"].text, found["bids"].data["price"]))
    assert said == [
        ("Order book of AAPL", [99]),
        ("Order book of AAPL, as last seen: no node answers", [99]),
        ("Order book of AAPL", [98]),
    ]


def test_trades_are_heard_only_while_a_page_shows_them(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the watch's own thread runs
    shown = threading.Event()
    watch = BookWatch(cast(Cluster, cluster), "AAPL", shown.is_set)
    assert cluster.feed._trade_callbacks == []
    shown.set()
    assert wait_for(lambda: len(cluster.feed._trade_callbacks) == 1)
    cluster.trade(100, 1)
    assert [trade.price for trade in watch.tape.trades()] == [100]
    shown.clear()
    assert wait_for(lambda: cluster.feed._trade_callbacks == [])
    shown.set()
    assert wait_for(lambda: len(cluster.feed._trade_callbacks) == 1)
    watch.stop()
    watch.stop()
    assert cluster.feed._trade_callbacks == []


def test_a_chart_that_was_out_of_sight_shows_what_there_was_when_all_has_ended(
    cluster: FakeCluster, sampler: Sampler
) -> None:
    """After *Run All* the reader came back to a chart of a stopped cluster, and it said: no orders yet."""
    chart = ThroughputChart(cast(Cluster, cluster))
    sent: list[dict[str, Any]] = []
    chart.send = lambda message, buffers=None: sent.append(message)  # type: ignore[method-assign]

    def say(what: str) -> None:
        chart._on_message(None, {"say": what, "view": "page", "seq": len(sent)}, [])

    say("ready")
    chart._tick()
    assert ["throughput_empty", "visible", True] in [list(each) for each in sent[-1]["set"]]
    say("hidden")
    busy(cluster, sampler)
    cluster.stop()
    sampler._tell()  # as its thread does at its end
    assert len(sent) == 1
    say("visible")
    assert sent[-1]["key"]
    assert ["throughput_empty", "visible", False] in [list(each) for each in sent[-1]["set"]]
    chart.close()


def test_a_page_that_was_too_slow_gets_the_end_when_it_has_caught_up(cluster: FakeCluster, sampler: Sampler) -> None:
    """The last push was refused, because the page had not painted the last dozen. No later one came."""
    chart = ThroughputChart(cast(Cluster, cluster))
    sent: list[dict[str, Any]] = []
    chart.send = lambda message, buffers=None: sent.append(message)  # type: ignore[method-assign]
    chart._on_message(None, {"say": "ready", "view": "page", "seq": 0}, [])
    for _ in range(MAX_BEHIND):
        chart._pushes.flow._pushed_s = float("-inf")
        chart._tick()
    assert len(sent) == MAX_BEHIND
    cluster.stop()
    sampler._tell()
    assert len(sent) == MAX_BEHIND
    assert chart._courier is not None
    for _ in range(3):
        chart._courier._on_message(None, {"painted": [[chart._box, "page", len(sent)]]}, [])
    assert len(sent) == MAX_BEHIND + 1, "once: what is owed, and not an answer to each word of the page"
    chart.close()
