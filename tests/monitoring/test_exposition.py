"""What is shown, to whom, and at which cost to the one who works: without a node, without Prometheus' server."""

from __future__ import annotations

import contextlib
import gc
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.monitoring.fakes import a_status, a_view
from zmqlab.errors import PortInUse, SettingsError
from zmqlab.histogram import Histogram, bucket_high
from zmqlab.node.exposition import (
    BOUNDS_S,
    MAX_CONNECTIONS,
    Endpoint,
    Pages,
    Total,
    Writer,
    family_of,
    histogram,
    render,
)
from zmqlab.node.prometheus import SPACINGS, NodeExporter, View, figures, why_not_ready
from zmqlab.replica import Replica
from zmqlab.settings import NodeSettings
from zmqlab.wire.node_status import Member, NodeStatus


def get(port: int, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    view = a_view(a_status())
    with closing(
        Endpoint("127.0.0.1", 0, Pages(lambda: render(figures(view)), str, lambda: "it rains"), "a test")
    ) as served:
        yield served


# -- histograms ----------------------------------------------------------------------------------------------


def buckets_of(total: Total) -> dict[float, float]:
    (family,) = text_string_to_metric_families(render([histogram("t_seconds", "T.", total.view())]).decode())
    return {float(each.labels["le"]): each.value for each in family.samples if "le" in each.labels}


@pytest.mark.parametrize("value_ns", [1, 20_000, 149_999, 150_001, 200_000, 9_900_000, 10_000_000_000, 60_000_000_000])
def test_a_value_is_never_shown_smaller_and_hardly_larger(value_ns: int) -> None:
    histogram, total = Histogram(), Total()
    histogram.record(value_ns, 3)
    total.add(histogram.to_sparse())
    shown = buckets_of(total)
    assert list(shown) == [*BOUNDS_S, float("inf")]
    for bound, count in shown.items():
        if value_ns > bound * 1e9:
            assert count == 0
        elif value_ns * 1.008 + 1 <= bound * 1e9:
            assert count == 3


def test_intervals_add_up_and_the_sum_is_close() -> None:
    total, values = Total(), [200_000, 210_000, 10_000_000, 7]
    for value in values:
        histogram = Histogram()
        histogram.record(value)
        total.add(histogram.to_sparse())
    view = total.view()
    assert sum(view.counts) == len(values)
    assert view.sum_ns == pytest.approx(sum(values), rel=0.004)


def test_the_median_and_p99_of_a_lab_have_buckets_near_them() -> None:
    for at_s in (0.000_2, 0.01):
        above = next(bound for bound in BOUNDS_S if bound > at_s)
        below = max(bound for bound in BOUNDS_S if bound < at_s)
        assert above <= 1.5 * at_s
        assert below >= 0.7 * at_s
    assert bucket_high(0) < BOUNDS_S[0] * 1e9


# -- the text ------------------------------------------------------------------------------------------------


def parsed(text: bytes) -> list[Any]:
    return [
        (each.name, each.type, each.documentation, each.samples)
        for each in text_string_to_metric_families(text.decode())
    ]


def test_the_quick_writer_says_what_prometheus_client_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after values, roles and members have changed; the numbers may be written in another way."""
    monkeypatch.setattr("time.process_time", lambda: 1.25)
    writer = Writer()
    total = Total()
    for turn, role in enumerate(("follower", "leader", "leader", "learner", "leader")):
        status = a_status(role, term=10**turn, lag=turn)
        status.members = [
            *status.members[:turn],
            Member(node_id=9, name=f'100 %s "\\\u2028{turn // 2}"', host="h", port=1),
        ]
        total.add({str(index): 1 + turn for index in range(0, 4_000, 37)})
        view = a_view(status, chain="0123456789ab" + "f" * 20)._replace(service_time=total.view(), turn_s_max=1e-7)
        assert parsed(writer.write(figures(view))) == parsed(render(figures(view)))


def test_the_pattern_is_kept_while_only_values_change(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer()
    writer.write(figures(a_view(a_status())))
    monkeypatch.setattr("zmqlab.node.exposition.render", lambda _: pytest.fail("written anew"))
    text = writer.write(figures(a_view(a_status("candidate", term=8, leader_id=0), chain="a" * 32)))
    assert b"\nzmqlab_term 8\n" in text


# -- the endpoint --------------------------------------------------------------------------------------------


def test_pages(endpoint: Endpoint) -> None:
    status, text = get(endpoint.port, "/metrics?x=1")
    assert status == 200
    assert "zmqlab_term 7.0" in text
    assert get(endpoint.port, "/healthz") == (200, "ok\n")
    assert get(endpoint.port, "/readyz") == (503, "it rains\n")
    assert get(endpoint.port, "/")[0] == 404


def test_a_connection_serves_many_scrapes(endpoint: Endpoint) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)) as connection:
        for _ in range(3):
            connection.request("GET", "/metrics")
            assert b"zmqlab_role" in connection.getresponse().read()
            assert connection.sock is not None  # kept open


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"200 OK"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"HEAD /metrics HTTP/1.1\nConnection: close\n\n", b"200 OK"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"431 "),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n\r\n", b"400 "),
        (b"\x00\xff\x01\r\n", b"400 "),
        (b"GET /metrics\r\n", b"400 "),
        (b"GET /\xff%2e HTTP/1.1\r\n\r\n", b"404 "),
    ],
)
def test_whatever_is_sent_gets_an_answer(endpoint: Endpoint, sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=30) as connection:
        connection.sendall(sent)
        with contextlib.suppress(OSError):  # it may have been answered and closed by now
            connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 " + status)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (b"HEAD" in sent) == (not body)
    assert (b"keep-alive" in head) == (b"HTTP/1.1" in sent and status in (b"200 OK", b"404 ") and b"close" not in sent)


def test_half_open_connections_keep_no_probe_out(endpoint: Endpoint) -> None:
    """Sixteen of them had each probe refused for 75 s: a node that is well would be restarted."""
    before = threading.active_count()
    half_open = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(3 * MAX_CONNECTIONS)]
    try:
        for each in half_open[-3:]:
            each.send(b"GET /met")
        for _ in range(3):
            assert get(endpoint.port, "/healthz")[0] == 200
        assert threading.active_count() - before <= MAX_CONNECTIONS, "strangers can't make threads at will"
    finally:
        for each in half_open:
            each.close()


def test_a_scraper_that_has_asked_stays_longer_than_one_that_has_not(endpoint: Endpoint) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)) as scraper:
        scraper.request("GET", "/metrics")
        scraper.getresponse().read()
        half_open = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(2 * MAX_CONNECTIONS)]
        assert get(endpoint.port, "/healthz")[0] == 200
        scraper.request("GET", "/metrics")  # it would raise, were its connection closed
        assert scraper.getresponse().read()
        for each in half_open:
            each.close()


def test_scrapes_leave_no_cycles_behind(endpoint: Endpoint) -> None:
    """A node runs without the cycle collector: what only it could free would stay for ever."""
    get(endpoint.port, "/metrics")
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            get(endpoint.port, "/metrics")
        deadline = time.monotonic() + 5
        while (left := gc.collect()) and time.monotonic() < deadline:
            for _ in range(20):
                get(endpoint.port, "/metrics")
        assert left == 0
    finally:
        gc.enable()


def test_a_port_that_is_taken(endpoint: Endpoint) -> None:
    settings = NodeSettings(name="node7", port=5_000, metrics_port=endpoint.port)
    with pytest.raises(PortInUse, match=rf"node7 can't show its metrics on 127.0.0.1:{endpoint.port}: Address already"):
        NodeExporter(settings)


def test_a_port_that_the_node_needs_itself() -> None:
    with pytest.raises(SettingsError, match="metrics_port is 5002: port 5000 and the next two"):
        NodeSettings(name="node0", port=5_000, metrics_port=5_002)


def test_beyond_this_machine_only_if_that_was_said() -> None:
    with pytest.raises(SettingsError, match="--insecure"):
        NodeSettings(name="node0", port=5_000, metrics_port=5_003, bind="0.0.0.0", advertise="here")


def test_a_node_without_metrics_does_not_load_what_they_need() -> None:
    code = "import sys, zmqlab.node.process; print([m for m in sys.modules if m.startswith(('prometheus', 'http'))])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# -- alive and ready -----------------------------------------------------------------------------------------


class Machine:
    """As much of a replica as the exporter looks at."""

    journal = None

    def __init__(self, indexes: dict[int, bytes]) -> None:
        self.machine = self
        self.checkpoints = indexes


def observe(exporter: NodeExporter, status: NodeStatus, indexes: dict[int, bytes] | None = None) -> None:
    exporter.observe(status, cast(Replica, Machine(indexes or {})), False)


@pytest.fixture
def exporter() -> Iterator[NodeExporter]:
    with closing(Endpoint("127.0.0.1", 0, Pages(bytes, str, str), "a test")) as probe:
        port = probe.port
    made = NodeExporter(NodeSettings(name="node1", port=5_000, metrics_port=port))
    yield made
    made._endpoint.close()


def test_alive_while_the_loop_turns(exporter: NodeExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    port = exporter._endpoint.port
    assert get(port, "/healthz") == (503, "starting: the loop has not begun\n")
    assert get(port, "/metrics")[0] == 503
    observe(exporter, a_status())
    assert get(port, "/healthz")[0] == 200
    assert get(port, "/readyz")[0] == 200
    monkeypatch.setattr("zmqlab.node.prometheus.STALLED_S", -1.0)
    for page in ("/healthz", "/readyz"):
        status, reason = get(port, page)
        assert status == 503
        assert reason.startswith("the loop has not turned for 0.")


LEARNER = [Member(node_id=1, name="node1", host="h", port=1, voter=False)]
STRANGERS = [Member(node_id=3, name="node3", host="h", port=1)]


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (a_view(a_status()), ""),
        (a_view(a_status(lag=1_000)), ""),
        (a_view(a_status(lag=1_001)), "1,001 entries behind"),
        (a_view(a_status(leader_id=0)), "no leader known in term 7"),
        (a_view(a_status(), closing=True), "closing: requests are refused"),
        (a_view(a_status(role="removed")), "it was removed from its group"),
    ],
)
def test_ready_or_why_not(view: View, reason: str) -> None:
    assert why_not_ready(view) == reason


@pytest.mark.parametrize(("members", "reason"), [(LEARNER, "learner"), (STRANGERS, "no member"), ([], "no member")])
def test_not_ready_before_it_votes(members: list[Member], reason: str) -> None:
    status = a_status()
    status.members = members
    assert reason in why_not_ready(a_view(status))


# -- the chain of hashes -------------------------------------------------------------------------------------


def chain_of(exporter: NodeExporter) -> dict[int, int]:
    (view,) = exporter._views
    return {spacing: index for spacing, (index, _) in view.chain.items()}


def test_the_chain_is_shown_at_several_spacings(exporter: NodeExporter) -> None:
    every = SPACINGS[0]

    def reach(index: int) -> None:
        first = max(every, index // every * every - 63 * every)  # a machine keeps 64
        kept = {each: each.to_bytes(16) for each in range(first, index + 1, every)}
        observe(exporter, a_status(), kept)

    reach(0)
    assert chain_of(exporter) == {}
    reach(every)
    assert chain_of(exporter) == {256: 256}
    reach(5 * every)
    assert chain_of(exporter) == {256: 1_280, 1_024: 1_024}
    reach(17 * every)
    assert chain_of(exporter) == {256: 4_352, 1_024: 4_096, 4_096: 4_096}
    reach(17 * every)
    assert chain_of(exporter) == {256: 4_352, 1_024: 4_096, 4_096: 4_096}
    (view,) = exporter._views
    assert view.chain[1_024] == (4_096, (4_096).to_bytes(16).hex())


def test_a_hash_survives_the_text_format() -> None:
    view = a_view(a_status(), chain="fffffffffffe" + "0" * 20)
    shown = {
        sample.name: sample.value
        for family in text_string_to_metric_families(render(figures(view)).decode())
        for sample in family.samples
    }
    assert shown["zmqlab_chain_hash"] == 0xFFFFFFFFFFFE


# -- names ---------------------------------------------------------------------------------------------------


def all_families() -> list[Any]:
    status = a_status(role="leader")
    return [family_of(each) for each in figures(a_view(status))]


def test_names_follow_the_conventions() -> None:
    for family in all_families():
        assert family.name.startswith(("zmqlab_", "process_"))
        assert family.documentation.endswith(".")
        assert not any(unit in family.name for unit in ("_ms", "_ns", "_mib", "percent"))
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_the_role_is_one_of_all() -> None:
    (roles,) = [family for family in all_families() if family.name == "zmqlab_role"]
    assert {sample.labels["role"]: sample.value for sample in roles.samples} == {
        "leader": 1,
        "follower": 0,
        "candidate": 0,
        "pre_candidate": 0,
        "learner": 0,
        "removed": 0,
    }


def test_the_settings_reach_the_process(tmp_path: Path) -> None:
    from zmqlab.lab.hosts import node_arguments
    from zmqlab.node.__main__ import parse_arguments

    settings = NodeSettings(name="node0", port=5_000, metrics_port=5_003, run_dir=tmp_path)
    assert parse_arguments(node_arguments(settings)) == settings


def test_with_several_groups_their_series_have_a_label_and_those_of_the_node_have_none() -> None:
    views = [a_view(msgspec.structs.replace(a_status(), group=group, shards=2)) for group in (0, 1)]
    samples = [
        (sample.name, sample.labels)
        for family in text_string_to_metric_families(render(figures(*views)).decode())
        for sample in family.samples
    ]
    terms = [labels for name, labels in samples if name == "zmqlab_term"]
    assert terms == [{"group": "0"}, {"group": "1"}]
    assert [labels for name, labels in samples if name == "process_resident_memory_bytes"] == [{}]
    assert len([labels for name, labels in samples if name == "zmqlab_role"]) == 12
    chains = [labels for name, labels in samples if name == "zmqlab_chain_hash"]
    assert chains == [{"every": "256", "group": "0"}, {"every": "256", "group": "1"}]
    alone = text_string_to_metric_families(render(figures(a_view(a_status()))).decode())
    assert not any("group" in sample.labels for family in alone for sample in family.samples)
