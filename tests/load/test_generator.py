"""The open loop against fake nodes: honest accounting, nothing skipped, a ledger that holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from tests.client.conftest import MakeNodes
from tests.client.fake_node import FakeLog, FakeNode
from zmqlab.errors import NoLeader, SettingsError
from zmqlab.histogram import MAX_VALUE, Histogram
from zmqlab.load.generator import Generator
from zmqlab.load.load_messages import LoadMetrics, LoadResult
from zmqlab.load.load_report import LoadReport
from zmqlab.load.load_settings import FlowMix, LoadSettings
from zmqlab.load.run_record import read_ledger
from zmqlab.wire import client
from zmqlab.wire.records import COMMAND

pytestmark = pytest.mark.clock

NS_PER_MS = 1_000_000


def settings_for(nodes: list[FakeNode], **changes: object) -> LoadSettings:
    values: dict[str, object] = {"nodes": [node.endpoint for node in nodes], "rate": 2_000, "duration_s": 1.0}
    return LoadSettings.from_dict(values | changes)


def run_while(generator: Generator, action: Callable[[], None]) -> LoadResult:
    """Run the generator here while ``action`` runs in another thread."""
    thread = threading.Thread(target=action)
    thread.start()
    result = generator.run()
    thread.join()
    return result


def ledger_agrees(result: LoadResult, log: FakeLog) -> None:
    """Each acknowledged request is in the log once, with the answer that the client got."""
    ledger = read_ledger(result.ledger)
    assert len(ledger) == result.total.requests
    assert len(np.unique(ledger[["client_id", "request_number"]])) == len(ledger)
    assert (ledger["invoked_ns"] <= ledger["completed_ns"]).all()
    for row in ledger:
        body = log.answers[(int(row["client_id"]), int(row["request_number"]))]
        (response,) = client.iter_responses(client.encode_responses([body]))
        assert response.log_index == row["log_index"]
        assert response.report_count == row["orders"]
        assert crc32(bytes(response.reports) + bytes(response.fills)) == row["answer_crc"]


def test_a_calm_run_adds_up(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(3)
    seen: list[LoadMetrics] = []
    result = Generator(settings_for(nodes, rate=5_000), on_metrics=seen.append).run()
    report, total = LoadReport(result), result.total
    assert total.offered == total.sent == total.acknowledged == pytest.approx(5_000, rel=0.1)
    assert (total.held_back, total.retries, total.failed) == (0, 0, 0)
    assert report.warnings == [] or report.generator_limited, "a busy machine may make the generator late"
    assert report.throughput < 5_750
    assert report.response_histogram.count == report.service_histogram.count == total.acknowledged
    assert 0 < report.service_time.p50_ms <= report.response_time.p50_ms
    assert sum(result.orders_by_node.values()) == total.acknowledged
    assert min(result.orders_by_node.values()) > 500, "spread over the nodes"
    ledger_agrees(result, log)
    sent = sum(len(body) // COMMAND.size for body in log.bodies.values())
    assert sent == total.sent
    assert_intervals_add_up(seen, result)


def assert_intervals_add_up(seen: list[LoadMetrics], result: LoadResult) -> None:
    assert 2 <= len(seen) <= 13, "ten a second, and fewer of a busy machine"
    assert seen[-1].state == "ended"
    assert sum(each.interval.acknowledged for each in seen) == result.total.acknowledged
    merged = Histogram()
    for each in seen:
        merged.merge(Histogram.from_sparse(each.response_time, each.response_time_max_ns))
    assert merged == LoadReport(result).response_histogram
    by_second = Histogram()
    for second in result.seconds:
        by_second.merge(Histogram.from_sparse(second.response_time, second.response_time_max_ns))
    assert by_second == merged
    assert sum(second.counters.sent for second in result.seconds) == result.total.sent


def test_a_stall_shows_in_the_response_time_of_every_order_that_fell_due_in_it(
    make_nodes: MakeNodes, log: FakeLog
) -> None:
    """Coordinated omission: a small window stops the sending during a stall of 600 ms, and a closed loop would
    count eight slow requests. Here the 1,200 orders that fell due meanwhile all count what they waited."""
    (node,) = make_nodes(1)
    generator = Generator(
        settings_for([node], arrivals="constant", window=8, timeout_ms=30_000, suspicion_ms=30_000, duration_s=2.0)
    )

    def stall() -> None:
        time.sleep(0.6)
        node.paused = True
        time.sleep(0.6)
        node.paused = False

    result = run_while(generator, stall)
    report, total = LoadReport(result), result.total
    assert total.offered == total.sent == total.acknowledged == 4_000, "nothing is skipped"
    slow = [
        sum(count for edge, count in histogram.buckets() if edge > 20 * NS_PER_MS)
        for histogram in (report.response_histogram, report.service_histogram)
    ]
    assert slow[0] > 900, "those of 580 ms, and on a busy machine more"
    assert slow[1] < slow[0] / 2, "the few that were under way"
    assert report.response_time.max_ms > 500
    assert report.response_time.p90_ms > 150
    assert report.service_time.p90_ms < report.response_time.p90_ms / 2
    assert result.longest_gap_ms > 400
    assert total.held_back > 600
    ledger_agrees(result, log)
    calm = Generator(settings_for([node], arrivals="constant", duration_s=1.0)).run().total
    assert total.late < total.held_back + 4 * calm.late, "it was the cluster, but for what this machine makes late"


def test_a_dead_node_costs_nothing_but_a_retry(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(3)

    def kill_one() -> None:
        while nodes[1].requests < 20:
            time.sleep(0.01)
        nodes[1].delay_s = 0.02
        time.sleep(0.1)
        nodes[1].kill()

    result = run_while(Generator(settings_for(nodes, duration_s=2.0)), kill_one)
    assert result.total.acknowledged == result.total.sent
    assert result.total.failovers == 1
    assert result.total.retries >= 1
    assert result.total.replayed >= 1, "applied before the node died, answered by another"
    assert result.open_requests == []
    assert len(log.answers) == result.total.requests, "each applied once"
    ledger_agrees(result, log)
    nodes[1].start()


def test_the_report_counts_orders_that_were_never_answered(make_nodes: MakeNodes) -> None:
    (node,) = make_nodes(1)

    def pause() -> None:
        time.sleep(0.3)
        node.paused = True

    generator = Generator(settings_for([node], duration_s=0.5, drain_ms=200, window=4))
    result = run_while(generator, pause)
    report = LoadReport(result)
    assert report.unanswered > 0
    assert result.open_requests[0].orders > 0
    assert report.unsent > 0
    assert result.total.sent == result.total.acknowledged + report.unanswered
    assert any("never answered" in warning for warning in report.warnings)
    assert any("never sent" in warning for warning in report.warnings)
    assert result.longest_gap_ms > 300, "the silence at the end counts"


def test_orders_that_no_node_takes_are_held_back_and_not_sent(make_nodes: MakeNodes, log: FakeLog) -> None:
    """The first request after the node's death waited in the client and counted as sent; all behind it counted as held
    back only when they were sent, which they never were."""
    (node,) = make_nodes(1)
    generator = Generator(settings_for([node], duration_s=1.0, drain_ms=100, arrivals="constant"))

    def kill() -> None:
        time.sleep(0.4)
        node.kill()

    result = run_while(generator, kill)
    report, total = LoadReport(result), result.total
    arrived = sum(len(body) // COMMAND.size for body in log.bodies.values())
    assert total.sent == total.acknowledged + report.unanswered
    assert arrived <= total.sent <= arrived + 40, "some may have been under way when the node died"
    assert report.unsent == total.offered - total.sent > 500
    assert total.held_back == pytest.approx(report.unsent, rel=0.1), "all but the orders of the last 5 ms"
    assert total.late <= total.offered - total.held_back
    assert "orders due and never sent" in repr(report)
    node.start()


def test_orders_that_waited_for_a_node_are_counted_once(make_nodes: MakeNodes, log: FakeLog) -> None:
    (node,) = make_nodes(1)
    seen: list[LoadMetrics] = []
    generator = Generator(settings_for([node], duration_s=1.5, arrivals="constant"), on_metrics=seen.append)

    def restart() -> None:
        time.sleep(0.4)
        node.kill()
        time.sleep(0.4)
        node.start()

    result = run_while(generator, restart)
    total = result.total
    assert total.sent == total.offered == total.acknowledged == 3_000
    assert 600 < total.held_back < 2_600, "2,000 a second for 0.4 s and a reconnection"
    assert all(each.interval.held_back >= 0 and each.interval.sent >= 0 for each in seen)
    assert max(each.interval.held_back for each in seen[:-1]) > 100, "it shows while it lasts"
    ledger_agrees(result, log)


def test_rate_changes_pauses_and_stops(make_nodes: MakeNodes) -> None:
    nodes = make_nodes(1)
    generator = Generator(settings_for(nodes, rate=1_000, duration_s=60, arrivals="constant"))

    def steer() -> None:
        time.sleep(0.5)
        generator.set_rate(4_000)
        time.sleep(0.5)
        generator.set_rate(0)
        time.sleep(0.3)
        generator.stop()

    result = run_while(generator, steer)
    assert result.total.acknowledged == result.total.offered > 1_500
    assert result.elapsed_s < 30, "and not 60"
    with pytest.raises(SettingsError, match="rate"):
        generator.set_rate(-1)


def test_rate_max_keeps_a_bounded_number_outstanding(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(2)
    result = Generator(settings_for(nodes, rate=None, duration_s=0.5, closed_requests=4, closed_batch=100)).run()
    report = LoadReport(result)
    assert result.closed_loop
    assert result.total.sent == result.total.acknowledged > 5_000
    assert any("closed loop" in warning for warning in report.warnings)
    assert report.response_time.p50_ms == pytest.approx(report.service_time.p50_ms, abs=0.5, rel=0.2)
    ledger_agrees(result, log)
    with pytest.raises(SettingsError, match="max"):
        Generator(settings_for(nodes, rate=None)).set_rate(5)


def test_fills_and_rejections_are_counted(make_nodes: MakeNodes, log: FakeLog) -> None:
    log.fill = True
    result = Generator(settings_for(make_nodes(1), duration_s=0.3)).run()
    assert result.total.filled == result.total.fills == result.total.acknowledged > 300
    assert result.total.rejected == 0


def test_a_slow_generator_says_so(make_nodes: MakeNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(settings_for(make_nodes(1), duration_s=0.5), on_turn=lambda: time.sleep(0.03))
    report = LoadReport(generator.run())
    assert report.generator_limited
    assert "generator was the limit" in repr(report)


def test_the_ledger_is_bounded(make_nodes: MakeNodes) -> None:
    """It kept the first records only: that everything behind them was rolled back could not be seen."""
    result = Generator(settings_for(make_nodes(1), duration_s=1.0, ledger_limit=20)).run()
    numbers = read_ledger(result.ledger)["request_number"].tolist()
    assert numbers[:10] == list(range(1, 11))
    assert numbers[10:] == list(range(result.total.requests - len(numbers) + 11, result.total.requests + 1))
    assert 15 < len(numbers) <= 20
    assert result.unremembered == result.total.requests - len(numbers) > 20
    assert any("not in the ledger" in warning for warning in LoadReport(result).warnings)


def test_an_expired_session_ends_the_run_with_its_problem(make_nodes: MakeNodes) -> None:
    (node,) = make_nodes(1)

    def expire() -> None:
        time.sleep(0.3)
        node.refuse_status = client.ResponseStatus.SESSION_EXPIRED

    result = run_while(Generator(settings_for([node], duration_s=30)), expire)
    assert "unknown to the cluster" in result.problem
    assert result.total.acknowledged > 0
    assert result.elapsed_s < 30, "it did not go on to its end"


def test_aborting_while_the_session_is_being_opened(make_nodes: MakeNodes) -> None:
    (node,) = make_nodes(1)
    node.refuse_status = client.ResponseStatus.BUSY
    generator = Generator(settings_for([node]))
    threading.Timer(0.1, generator.abort).start()
    with pytest.raises(NoLeader):
        generator.run()


def test_the_report_reads_well_and_exports(make_nodes: MakeNodes, tmp_path: Path) -> None:
    result = Generator(settings_for(make_nodes(1), duration_s=0.4)).run()
    report = LoadReport(result)
    assert "throughput" in repr(report)
    assert "<table>" in report._repr_html_()
    told = report.to_dict()
    assert told["counters"]["sent"] == result.total.sent
    assert told["cpu_us_per_order"] * told["orders_per_request"] == pytest.approx(told["cpu_us_per_request"])
    assert 0 < told["cpu_us_per_order"] * result.total.acknowledged <= 1e6 * result.cpu_s + 1
    path = tmp_path / "run.hlog"
    report.export_hdr(path)
    reader = HistogramLogReader(str(path), HdrHistogram(1, MAX_VALUE, 2))
    counts = 0
    while (histogram := reader.get_next_interval_histogram()) is not None:
        counts += histogram.get_total_count()
    reader.input_file.close()
    assert counts == 2 * result.total.acknowledged


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": []}, "no node"),
        ({"nodes": ["localhost:5002"]}, "endpoint"),
        ({"nodes": ["tcp://a:1", "tcp://a:1"]}, "twice"),
        ({"rate": -5}, "rate is -5"),
        ({"rate": "fast"}, "rate is 'fast'"),
        ({"duration_s": 0}, "duration_s"),
        ({"node_choice": "nearest"}, "node_choice"),
        ({"arrivals": "bursts"}, "arrivals"),
        ({"mix": {"passive": "many"}}, "share passive"),
        ({"mix": {"nonsense": 1}}, "do not fit"),
        ({"window": 5_000}, "window"),
        ({"closed_requests": 0}, "closed_requests"),
        ({"clients": 0}, "clients is 0"),
        ({"clients": 1.5}, "whole number"),
        ({"colour": "red"}, "unknown load settings: colour"),
    ],
)
def test_settings_are_refused_with_one_clear_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        LoadSettings.from_dict({"nodes": ["tcp://127.0.0.1:5002"]} | changes)
    assert "\n" not in str(caught.value)


def test_settings_travel_as_json() -> None:
    settings = LoadSettings(nodes=("tcp://127.0.0.1:5002",), rate=None, mix=FlowMix(cancel=0.5))
    assert LoadSettings.from_json(settings.to_json()) == settings
    with pytest.raises(SettingsError, match="not JSON"):
        LoadSettings.from_json("{")


def test_nodes_come_and_go_under_load(make_nodes: MakeNodes, log: FakeLog) -> None:
    """Figures by node grow with the nodes, and stay with them."""
    nodes = make_nodes(4)
    first, rest = nodes[:2], nodes[2:]
    for node in nodes:
        node.says(*first, commit_index=1)
    seen: list[LoadMetrics] = []

    def change() -> None:
        time.sleep(0.4)
        for node in nodes:
            node.says(*nodes, commit_index=2)
        time.sleep(1.4)
        for node in nodes:
            node.says(*rest, commit_index=3)
        time.sleep(1.4)
        first[0].kill()
        first[1].kill()

    generator = Generator(settings_for(first, duration_s=4.0), on_metrics=seen.append)
    result = run_while(generator, change)
    total = result.total
    assert total.acknowledged == total.sent == total.offered
    assert total.failed == total.held_back == 0
    assert list(result.orders_by_node) == [node.endpoint for node in nodes]
    assert sum(result.orders_by_node.values()) == total.acknowledged
    assert min(result.orders_by_node.values()) > 300
    assert (len(seen[1].endpoints), len(seen[-1].endpoints)) == (2, 4)
    assert seen[-1].connected == [False, False, True, True]
    assert all(len(each.endpoints) == len(each.connected) == len(each.orders_by_node) for each in seen)
    ledger_agrees(result, log)
    for node in first:
        node.start()


def test_a_client_that_waits_for_nothing_sends_each_order_once(make_nodes: MakeNodes, log: FakeLog) -> None:
    """More requests than a session's window holds, some of them to a node that loses them."""
    nodes = make_nodes(3)
    nodes[1].lose_requests = 100
    result = Generator(settings_for(nodes, ack="none", duration_s=1.5, batch_interval_ms=0, window=64)).run()
    report, total = LoadReport(result), result.total
    assert total.offered == total.sent == pytest.approx(3_000, rel=0.1)
    assert (total.acknowledged, total.retries, total.failed, total.duplicates) == (0, 0, 0, 0)
    assert result.requests_sent[0] > 64
    assert report.response_histogram.count == total.sent
    assert "no answer was waited for (ack none)" in report.warnings[0]
    assert result.ledger == b""


def test_a_client_that_waits_for_nothing_needs_a_rate() -> None:
    with pytest.raises(SettingsError, match="with ack none, give a rate"):
        LoadSettings(nodes=("tcp://127.0.0.1:5002",), ack="none", rate=None)
