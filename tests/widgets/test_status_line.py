"""The line on top of the panel: that it says what is known, at once, and how it ends."""

from __future__ import annotations

from typing import cast

import pytest

from tests.lab.test_service_status import SO_FAR
from tests.widgets.fake_cluster import FakeCluster
from zmqlab.lab.cluster import Cluster
from zmqlab.widgets.sampler import Sampler
from zmqlab.widgets.status_line import StatusLine


@pytest.fixture
def line(cluster: FakeCluster, sampler: Sampler) -> StatusLine:
    for name in cluster.nodes:
        cluster.say(name)
    return StatusLine(cast(Cluster, cluster))


def test_the_line_is_a_widget_and_a_paragraph(cluster: FakeCluster, line: StatusLine) -> None:
    assert line._state["headline"] == "NO LOAD"
    for _ in range(3):
        cluster.load()
    line.refresh(now=True)
    assert (line._state["level"], line._state["headline"]) == ("serving", "SERVING")
    assert "3 of 3 nodes run, node0 leads" in line._state["text"]
    assert line.html().startswith("<p>● SERVING 1,000/s")


def test_an_event_does_not_wait_for_its_turn(cluster: FakeCluster, sampler: Sampler, line: StatusLine) -> None:
    cluster.running = ("node0", "node1")
    cluster.happen("killed", "node2")
    sampler.turn()
    line._tick()
    assert line._state["level"] == "degraded"
    assert line._state["lasts"] == "0.0 s"
    assert line._state["advice"] == "restart it"


def test_a_pause_in_the_answers_does_not_wait_either(cluster: FakeCluster, sampler: Sampler, line: StatusLine) -> None:
    cluster.load(total=SO_FAR)
    sampler.turn()
    line.refresh(now=True)
    assert line._state["level"] == "serving"
    cluster.load(acknowledged=0, outstanding=40, silence_ms=200.0, total=SO_FAR)
    sampler.turn()
    line._tick()
    assert line._state["level"] == "degraded"
    assert "no acknowledgement for 200 ms" in line._state["text"]


def test_a_stopped_cluster_is_not_said_to_serve(cluster: FakeCluster, sampler: Sampler, line: StatusLine) -> None:
    """The sampler ends before the nodes do: their last figures still look as if they served."""
    cluster.load()
    line.refresh(now=True)
    assert line._state["level"] == "serving"
    sampler.stop()
    line._on_tick()
    assert (line._state["level"], line._state["headline"]) == ("not judged", "NOTHING RUNS")


def test_figures_that_have_stopped_are_not_shown_as_new(sampler: Sampler, line: StatusLine) -> None:
    sampler.error = ValueError("a thread died")
    line.refresh(now=True)
    sampler.error = None
    assert line._state["level"] == "not judged"
    assert "a thread died" in line._state["text"]


def test_the_verdict_is_told_while_no_load_runs(line: StatusLine) -> None:
    line.judged("failed")
    assert "a promise of the last run was broken" in line._state["text"]


def test_a_closed_line_is_forgotten_by_the_cluster(cluster: FakeCluster, sampler: Sampler) -> None:
    before = len(cluster.ending)
    line = StatusLine(cast(Cluster, cluster))
    line.close()
    assert len(cluster.ending) == before
