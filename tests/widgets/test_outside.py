"""The panel of nodes that someone else has started: what can't be done from here is there, disabled, and says why."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.waiting import wait_for
from tests.widgets.fake_cluster import FakeCluster
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.external_host import OUTSIDE
from zmqlab.widgets.cluster_controls import NodeTable, PartitionMatrix
from zmqlab.widgets.picture_readings import Look, PictureReadings
from zmqlab.widgets.sampler import Sampler

NEED_A_PROCESS = {"kill -9", "kill the leader", "pause", "terminate", "restart", "fill disk", "wipe"}


@pytest.fixture
def outside(cluster: FakeCluster, sampler: Sampler) -> FakeCluster:
    cluster.fleet.outside = OUTSIDE
    for name in cluster.nodes:
        cluster.say(name)
    sampler.turn()
    return cluster


def why_not(panel: Any) -> dict[str, str]:
    return {each["button"]: each["why_not"] for each in panel._controls}


def test_buttons_that_need_a_process_say_why_they_are_disabled(outside: FakeCluster) -> None:
    told = why_not(NodeTable(cast(Cluster, outside)))
    assert {button for button, reason in told.items() if reason} == NEED_A_PROCESS
    assert {told[button] for button in NEED_A_PROCESS} == {OUTSIDE}
    assert set(why_not(PartitionMatrix(cast(Cluster, outside))).values()) == {""}, "links are cut by questions"


def test_of_its_own_nodes_no_button_is_disabled(cluster: FakeCluster, sampler: Sampler) -> None:
    assert set(why_not(NodeTable(cast(Cluster, cluster))).values()) == {""}


def test_a_node_that_is_not_heard_is_silent_and_is_not_started(outside: FakeCluster, sampler: Sampler) -> None:
    table = NodeTable(cast(Cluster, outside))
    outside.running = ("node0", "node1")
    state = table.make_state()
    assert [row["role"] for row in state["nodes"]] == ["leader", "follower", "silent"]
    assert state["outside"] == OUTSIDE
    assert PictureReadings(cast(Cluster, outside), sampler).look(0.0)["node2"] is Look.SILENT
    table._on_message(None, {"do": "heal"}, [])
    assert wait_for(lambda: not table._busy)
    assert outside.done == []
