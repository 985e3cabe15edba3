"""Tables and buttons: what they show, what a click does, where an error is told."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest

from tests.waiting import wait_for
from tests.widgets.fake_cluster import FakeCluster, snapshot
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.link_table import LinkFault
from zmqlab.widgets.book_chart import BookWatch
from zmqlab.widgets.cluster_controls import NodeTable, PartitionMatrix, agreement
from zmqlab.widgets.incidents import EventLog, FaultCards
from zmqlab.widgets.lab_panel import Lab
from zmqlab.widgets.load_controls import LoadControls, warning_of
from zmqlab.widgets.marks import NODE_ACTIONS
from zmqlab.widgets.panel import Panel
from zmqlab.widgets.sampler import Sampler


def click(panel: Panel, do: str, **arguments: Any) -> None:
    panel._on_message(None, {"do": do, **arguments}, [])


@pytest.fixture
def table(cluster: FakeCluster, sampler: Sampler) -> NodeTable:
    for name in cluster.nodes:
        cluster.say(name, hash_index=256, chain_hash="ab" * 16)
    sampler.turn()
    return NodeTable(cast(Cluster, cluster))


def rows(table: NodeTable) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in table.make_state()["nodes"]}


def test_a_row_says_what_the_node_is(table: NodeTable) -> None:
    row = rows(table)["node0"]
    assert (row["role"], row["leads"], row["applied"], row["term"]) == ("leader", True, 10, 1)
    assert (row["hash"], row["agrees"]) == ("abababab", True)
    assert not rows(table)["node1"]["leads"]


def test_nodes_that_part_are_told(cluster: FakeCluster, table: NodeTable) -> None:
    cluster.say("node1", hash_index=512, chain_hash="cd" * 16)
    for name in ("node0", "node2"):
        cluster.say(name, hash_index=512, chain_hash="ef" * 16)
    state = table.make_state()
    assert state["parted"] == [512]
    assert not any(row["agrees"] for row in state["nodes"])


def test_agreement_waits_for_all_that_run(cluster: FakeCluster, table: NodeTable) -> None:
    cluster.say("node0", hash_index=512, chain_hash="ef" * 16)
    assert agreement(cluster.feed, {"node0", "node1", "node2"})[0] == 256
    assert agreement(cluster.feed, {"node0"})[0] == 512


def test_stopped_and_paused_nodes(cluster: FakeCluster, table: NodeTable) -> None:
    cluster.running, cluster.paused = ("node0",), ("node1",)
    assert [row["state"] for row in table.make_state()["nodes"]] == ["running", "paused", "stopped"]
    assert rows(table)["node2"]["orders"] is None


@pytest.mark.parametrize("action", ["kill", "terminate", "pause", "resume", "restart", "wipe"])
def test_buttons_of_a_node(cluster: FakeCluster, table: NodeTable, action: str) -> None:
    click(table, action, node="node1")
    assert wait_for(lambda: cluster.done == [(action, "node1")] and not table._busy)


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("running", ["kill", "terminate", "pause", "restart", "wipe"]),
        ("paused", ["kill", "terminate", "resume", "restart", "wipe"]),
        ("stopped", ["restart", "wipe"]),
    ],
)
def test_a_node_has_the_buttons_of_its_state(table: NodeTable, state: str, names: list[str]) -> None:
    assert [each["name"] for each in table._actions if state in each["states"]] == names


def test_every_button_of_a_node_is_a_method_of_the_cluster() -> None:
    assert all(callable(getattr(Cluster, action.name)) for action in NODE_ACTIONS)


def test_buttons_of_the_cluster(cluster: FakeCluster, table: NodeTable) -> None:
    click(table, "kill_leader")
    assert wait_for(lambda: cluster.done == [("kill", "node0")])
    click(table, "scale", count=5)
    assert wait_for(lambda: cluster.done[-1] == ("scale", 5))
    cluster.running, cluster.paused = ("node0",), ("node1",)
    cluster.links = {("node0", "node1"): LinkFault(cut=True)}
    click(table, "heal")
    assert wait_for(lambda: len(cluster.done) == 6)
    assert cluster.done[2:] == [("heal",), ("resume", "node1"), ("restart", "node1"), ("restart", "node2")]


def test_a_click_returns_at_once_and_its_button_works_meanwhile(table: NodeTable) -> None:
    go_on = threading.Event()
    table.act("slow", lambda: go_on.wait(5))
    assert table._busy == ["slow"]
    go_on.set()
    assert wait_for(lambda: table._busy == [])


def test_an_error_is_told_in_the_panel(cluster: FakeCluster, table: NodeTable) -> None:
    cluster.broken = True
    click(table, "kill", node="node1")
    assert wait_for(lambda: "node1 is not running" in table._problem)
    assert not table._busy
    click(table, "dismiss")
    assert table._problem == ""
    click(table, "kill", wrong="arguments")
    assert "TypeError" in table._problem


def test_a_page_can_only_ask_for_actions(cluster: FakeCluster, table: NodeTable) -> None:
    for nonsense in ("close", "__init__", "html", None):
        click(table, str(nonsense))
    assert cluster.done == []
    assert table._problem == ""


def test_a_hidden_page_is_shown_only_what_changes_a_state(cluster: FakeCluster, table: NodeTable) -> None:
    def shown() -> int:
        table._shown_s = 0.0
        cluster.say("node1", applied_index=next(numbers))
        table._sampler.turn()
        table._tick()
        return int(table._state["nodes"][1]["applied"])

    numbers = iter(range(100, 200))
    assert shown() == 100, "before any page has spoken"
    table._on_message(None, {"say": "visible", "view": "a"}, [])
    assert shown() == 101
    table._on_message(None, {"say": "hidden", "view": "a"}, [])
    assert shown() == 101
    cluster.running = ("node0", "node1")
    assert shown() == 103, "a node has died"
    table._on_message(None, {"say": "visible", "view": "b"}, [])
    assert shown() == 104


def test_the_grid_of_links(cluster: FakeCluster, sampler: Sampler) -> None:
    sampler.turn()
    matrix = PartitionMatrix(cast(Cluster, cluster))
    click(matrix, "toggle", source="node0", target="node1")
    assert wait_for(lambda: cluster.done == [("link", "node0", "node1", ("cut", True))] and not matrix._busy)
    cluster.links = {("node0", "node1"): LinkFault(cut=True), ("node1", "node2"): LinkFault(delay_ms=50, loss=0.1)}
    click(matrix, "toggle", source="node0", target="node1")
    assert wait_for(lambda: cluster.done[-1] == ("link", "node0", "node1", ("cut", False)))
    click(matrix, "set", source="node1", target="node0", delay_ms=20, loss=0.5)
    assert wait_for(lambda: cluster.done[-1] == ("link", "node1", "node0", ("delay_ms", 20.0), ("loss", 0.5)))
    click(matrix, "isolate", node="node2")
    assert wait_for(lambda: cluster.done[-1] == ("partition", ["node2"], ["node0", "node1"]))
    click(matrix, "isolate_leader")
    assert wait_for(lambda: cluster.done[-1] == ("partition", ["node0"], ["node1", "node2"]))
    assert [link["cut"] for link in matrix.make_state()["links"]] == [True, False]
    assert "50 ms late, 10% lost" in matrix.html()


def test_the_log_of_events(cluster: FakeCluster, sampler: Sampler) -> None:
    now = time.time_ns()
    cluster.happen("elected", "node1", now + 5, term=2, text="<b>")
    cluster.happen("killed", "node0", now)
    sampler.turn()
    log = EventLog(cast(Cluster, cluster))
    assert [(event["what"], event["sort"]) for event in log.make_state()["events"]] == [
        ("elected", "elected"),
        ("killed", "fault"),
    ]
    assert "&lt;b&gt;" in log.html()


def test_a_fault_gets_its_card(cluster: FakeCluster, sampler: Sampler) -> None:
    sampler.turn()
    cards = FaultCards(cast(Cluster, cluster))
    assert "kill a node" in cards.html()
    cluster.happen("killed", "node2")
    cards._shown_s = 0.0
    sampler.turn()
    cards._tick()
    (card,) = cards._state["cards"]
    assert (card["title"], card["lost"]) == ("node2 killed", "")
    assert "judged at the end" in cards.html()


def test_the_limit_is_named() -> None:
    assert warning_of([snapshot()] * 20) == ""
    assert "The generator, not the cluster" in warning_of([snapshot(late=5)] * 20)
    assert "The cluster is the limit: 2,000 orders/s" in warning_of([snapshot(offered=200, held_back=100)] * 20)
    assert warning_of([]) == ""


def test_a_rate_counts_at_once(cluster: FakeCluster, sampler: Sampler) -> None:
    class Load:
        running = True
        rates: list[float] = []  # noqa: RUF012
        newest = None

        class settings:  # noqa: N801
            rate = 5_000.0

        def set_rate(self, rate: float) -> None:
            self.rates.append(rate)

    controls = LoadControls(cast(Cluster, cluster))
    controls.load = cast(Any, Load())
    click(controls, "choose", rate=7_000)
    assert Load.rates == [7_000]
    assert controls.make_state()["rate"] == 7_000
    click(controls, "choose", mix="many trades", nonsense=1)
    assert controls.make_state()["mix"] == "many trades"
    click(controls, "start")
    assert wait_for(lambda: "running already" in controls._problem)


def test_the_whole(cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BookWatch, "_run", lambda self: None)
    for name in cluster.nodes:
        cluster.say(name)
    sampler.turn()
    lab = Lab(cast(Cluster, cluster))
    bundle = lab._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "node2" in bundle["text/html"]
    assert repr(lab) == "Lab()"
    sampler.error = RuntimeError("a thread died")
    with pytest.raises(RuntimeError, match="a thread died"):
        lab.close()
    sampler.error = None
