"""Tables and buttons: what they show, what a click does, where an error is told."""

from __future__ import annotations

import gc
import operator
import threading
import time
import weakref
from types import SimpleNamespace
from typing import Any, cast

import comm
import psutil
import pytest
from ipywidgets.widgets.widget import _instances as all_widgets

from tests.waiting import wait_for
from tests.widgets.fake_cluster import MS, FakeCluster, snapshot
from zmqlab.client.order_client import Client
from zmqlab.judge.live_count import SoFar
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.events import LabEvent
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.fleet import Fleet
from zmqlab.replica.replications import REPLICATIONS, ReplicationKind
from zmqlab.widgets.bokeh_library import bokeh_library
from zmqlab.widgets.book_chart import BookWatch
from zmqlab.widgets.chart_widgets import ThroughputChart
from zmqlab.widgets.cluster_controls import FaultPanel, NodeTable, PartitionMatrix, agreement
from zmqlab.widgets.consistency_strip import ConsistencyStrip
from zmqlab.widgets.fault_cards import EventLog, FaultCards, FilmStrip
from zmqlab.widgets.lab_panel import Lab
from zmqlab.widgets.live_figure import LiveFigure
from zmqlab.widgets.load_controls import ANSWER, NOTHING, PRICES, LoadControls, keeps_up, warning_of
from zmqlab.widgets.panel import BEAT_S, Panel
from zmqlab.widgets.sampler import Sampler
from zmqlab.wire.fault_queries import LinkFault, NodeFaults


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


@pytest.mark.parametrize(
    ("button", "done"),
    [
        ("kill -9", "SIGKILL"),
        ("pause", "SIGSTOP"),
        ("terminate", "SIGTERM"),
        ("restart", "restart"),
        ("wipe", "replace"),
        ("make it lead", "hand over"),
    ],
)
def test_buttons_of_a_node(cluster: FakeCluster, table: NodeTable, button: str, done: str) -> None:
    cluster.say("node1", role="leader", term=2)
    click(table, "strike", button=button, target=["node1"])
    assert wait_for(lambda: cluster.done == [(done, "node1")] and not table._busy)
    assert table._problem == ""


def test_what_a_line_of_code_did_is_undone_by_a_button(cluster: FakeCluster, table: NodeTable) -> None:
    cluster.paused = ("node1",)
    click(table, "undo", button="pause", target=["node1"])
    assert wait_for(lambda: cluster.done == [("SIGCONT", "node1")] and not table._busy)
    assert [event.kind for event in cluster.feed.events()] == [LabEvent.RESUMED]
    click(table, "undo", button="restart", target=["node1"])
    assert "'restart' has nothing that undoes it" in table._problem


def shown(panel: FaultPanel, target: str, state: str, is_rare: bool = False) -> list[str]:
    """What the buttons say for a node in this state, in its row or behind "more"; as the page chooses them."""
    said = []
    for each in (each for each in panel._controls if each["target"] == target and each["is_rare"] == is_rare):
        said += [each["button"]] if state in each["states"] else []
        said += [each["undo"]["button"]] if each["undo"] and state in each["undo"]["states"] else []
    return said


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("running", ["kill -9", "pause", "terminate", "restart", "wipe", "make it lead"]),
        ("paused", ["kill -9", "resume", "terminate", "restart", "wipe"]),
        ("stopped", ["restart", "wipe"]),
    ],
)
def test_a_node_has_the_buttons_of_its_state(table: NodeTable, state: str, names: list[str]) -> None:
    assert shown(table, "node", state) == names


def test_what_is_wanted_seldom_stands_behind_more(table: NodeTable) -> None:
    both = ["slow disk", "quick disk", "fill disk", "make room", "skew clock", "set clock", "harm clients"]
    assert shown(table, "node", "running", is_rare=True) == [*both, "heal clients"]
    assert shown(table, "node", "stopped", is_rare=True) == ["make room"]


def test_what_a_node_suffers_stands_in_its_row_until_all_is_healed(cluster: FakeCluster, table: NodeTable) -> None:
    click(table, "strike", button="slow disk", target=["node1"], sizes={"write_ms": 20})
    assert wait_for(lambda: cluster.node_faults == {"node1": NodeFaults(write_ms=20)} and not table._busy)
    assert [row["suffers"] for row in table.make_state()["nodes"]] == ["", "each write takes 20 ms", ""]
    click(table, "strike", button="skew clock", target=["node1"], sizes={"clock_rate": 2})
    assert wait_for(lambda: cluster.node_faults == {"node1": NodeFaults(write_ms=20, clock_rate=2)})
    click(table, "undo", button="slow disk", target=["node1"])
    assert wait_for(lambda: cluster.node_faults == {"node1": NodeFaults(clock_rate=2)} and not table._busy)
    table._on_message(None, {"do": "heal"}, [])
    assert wait_for(lambda: not cluster.node_faults)


def test_each_button_is_in_one_panel(cluster: FakeCluster, table: NodeTable) -> None:
    matrix = PartitionMatrix(cast(Cluster, cluster))
    said = [each["button"] for each in (*table._controls, *matrix._controls)]
    assert sorted(said) == sorted(control.button for control in FAULTS.controls)
    click(table, "strike", button="isolate", target=["node1"])
    assert "no button says 'isolate'" in table._problem


def test_buttons_of_the_cluster(cluster: FakeCluster, table: NodeTable) -> None:
    click(table, "strike", button="kill the leader", target=[])
    assert wait_for(lambda: cluster.done == [("SIGKILL", "node0")])
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
    click(table, "strike", button="kill -9", target=["node1"])
    assert wait_for(lambda: "kill -9 node1: node1 is not running" in table._problem)
    assert not table._busy
    click(table, "dismiss")
    assert table._problem == ""
    click(table, "strike", wrong="arguments")
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
    cut, late = LinkFault(cut=True), LinkFault(delay_ms=50, loss=0.1)
    click(matrix, "strike", button="cut", target=["node0", "node1"])
    assert wait_for(lambda: cluster.links == {("node0", "node1"): cut} and not matrix._busy)
    click(matrix, "strike", button="make worse", target=["node1", "node2"], sizes={"delay_ms": 50, "loss": 0.1})
    assert wait_for(lambda: cluster.links == {("node0", "node1"): cut, ("node1", "node2"): late})
    assert [link["cut"] for link in matrix.make_state()["links"]] == [True, False]
    assert "50 ms late, 10% lost" in matrix.html()
    click(matrix, "undo", button="cut", target=["node0", "node1"])
    assert wait_for(lambda: cluster.links == {("node1", "node2"): late})
    click(matrix, "strike", button="make worse", target=["node1", "node2"], sizes={"delay_ms": 0, "loss": 0})
    assert wait_for(lambda: not cluster.links)
    click(matrix, "strike", button="isolate", target=["node2"])
    assert wait_for(lambda: {link for link in cluster.links if "node2" in link} == set(cluster.links) != set())
    click(matrix, "undo", button="isolate", target=["node2"])
    assert wait_for(lambda: not cluster.links)
    click(matrix, "strike", button="isolate the leader", target=[])
    assert wait_for(lambda: {link for link in cluster.links if "node0" in link} == set(cluster.links) != set())
    click(matrix, "strike", button="make worse", target=["node0", "node1"], sizes={"delay_ms": 9_000})
    assert wait_for(lambda: "it must be from 0 to 500" in matrix._problem)
    click(matrix, "heal")
    assert wait_for(lambda: cluster.done == [("heal",)])


def test_the_log_of_events(cluster: FakeCluster, sampler: Sampler) -> None:
    now = time.time_ns()
    cluster.happen("elected", "node1", now + 5, term=2, text="<b>")
    cluster.happen("killed", "node0", now)
    sampler.turn()
    log = EventLog(cast(Cluster, cluster))
    assert [(event["what"], event["sort"]) for event in log.make_state()["events"]] == [
        ("elected", "election"),
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


def test_a_cluster_that_acknowledges_nothing_is_not_said_to_keep_up() -> None:
    """It takes nothing new after a while: then no order is sent late, and none is held back."""
    dark = [snapshot(offered=0, acknowledged=0, outstanding=512, silence_ms=ms) for ms in range(1_100, 3_100, 100)]
    assert warning_of(dark).startswith("The cluster acknowledges nothing, and 512 requests wait")
    assert warning_of([snapshot(acknowledged=0, outstanding=5, silence_ms=300.0)]) == "", "an election"


def test_a_cluster_is_said_to_keep_up_only_while_it_answers() -> None:
    """In the first second of an outage, and with a load that waits for no answer, the page said that it keeps up."""
    well = [snapshot()] * 20
    assert keeps_up(well)
    assert not keeps_up([*well[:-2], *[snapshot(acknowledged=0, outstanding=40, silence_ms=200.0)] * 2])
    assert not keeps_up([snapshot(acknowledged=0, outstanding=0)] * 20)
    assert not keeps_up([snapshot(acknowledged=80)] * 20)
    assert not keeps_up([snapshot(offered=0, acknowledged=0, outstanding=0, rate=0.0)] * 20)
    assert not keeps_up([])


def test_the_slider_stands_at_the_rate_that_is_offered(cluster: FakeCluster, sampler: Sampler) -> None:
    """A cell had set another rate, and the slider said the one that was chosen on the page."""
    controls = LoadControls(cast(Cluster, cluster))
    newest = snapshot(rate=1_200.0)
    settings = SimpleNamespace(rate=5_000.0, ack="quorum")
    controls.load = cast(Any, SimpleNamespace(running=True, newest=newest, settings=settings))
    controls._shown_s = 0.0
    controls._tick()
    assert controls._state["rate"] == 1_200.0
    controls.load.newest.rate = 0.0  # type: ignore[union-attr]
    controls._tick()
    assert controls.make_state()["rate"] == 1_200.0, "a pause is not on the slider"


def test_what_an_acknowledgement_means_stands_beside_the_load(
    cluster: FakeCluster, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("zmqlab.widgets.load_controls.LoadClient", lambda *_, **settings: made.append(settings))
    controls = LoadControls(cast(Cluster, cluster))
    state = controls.make_state()
    assert state["means"]["promise"] == "A majority has stored what is acknowledged."
    assert state["means"]["risk"] == "Nothing, while a majority of journals survives."
    controls._new_client(100, None)
    click(controls, "choose", waits=NOTHING)
    assert "no client learns of it" in controls.make_state()["means"]["risk"]
    controls._new_client(100, None)
    controls._new_client("max", 3.0, waits=ANSWER)
    assert [each["ack"] for each in made] == ["quorum", "none", "quorum"], "what a machine can do is asked with answers"
    settings = SimpleNamespace(rate=100.0, ack="quorum")
    controls.load = cast(Any, SimpleNamespace(running=True, newest=None, settings=settings))
    assert "majority" in controls.make_state()["means"]["promise"], "the load that runs waits for answers"
    controls.load = None
    click(controls, "choose", waits=ANSWER)
    cluster.fleet.plan.replication = "leader-ack"
    assert "half the time" in controls.make_state()["means"]["price"]
    cluster.fleet.plan.replication = "mine:Own"
    assert controls.make_state()["means"]["promise"] == "The class of the replication says what it promises."


def test_journals_are_flushed_or_not_while_the_cluster_goes_on(cluster: FakeCluster, sampler: Sampler) -> None:
    controls = LoadControls(cast(Cluster, cluster))
    assert "and no power cut" in controls.make_state()["disk"]
    click(controls, "change", durability="fsync")
    assert wait_for(lambda: cluster.done == [("change", "fsync")])
    assert wait_for(lambda: controls._state["durability"] == "fsync")
    assert "three times as long" in controls._state["disk"]


@pytest.mark.parametrize("kind", list(REPLICATIONS), ids=lambda kind: kind.name)
def test_each_replication_has_its_price(kind: ReplicationKind) -> None:
    assert PRICES[kind.name]


def test_a_card_has_a_film_and_what_is_lost_so_far(cluster: FakeCluster, sampler: Sampler) -> None:
    class Load:
        so_far = SoFar(acknowledged=41_300, looked_up=41_200, lost=2, misplaced=1, twice=0, age_s=2.0)

    now_ns = time.time_ns()
    for step in range(20, 0, -1):
        fine = [0 if step < 6 else 20] * 10
        cluster.load(time_ns=now_ns - (step - 1) * 100 * MS, fine_from_ns=now_ns - step * 100 * MS, fine=fine)
    sampler.turn()
    cards = FaultCards(cast(Cluster, cluster), Load())
    assert cards._state["film"] is None
    cluster.happen("killed", "node0", time_ns=now_ns - 600 * MS)
    cards._shown_s = 0.0
    sampler.turn()
    cards._tick()
    film = cards._state["film"]
    assert film["silent_ms"] == pytest.approx(100, abs=10)
    assert (film["answered_ms"], film["complete"]) == (None, False)
    assert len(film["bins"]) == 160
    assert cards._state["so_far"]["text"] == (
        "of 41,200 orders acknowledged until 2 s ago: 2 lost, 1 out of place, 0 twice"
    )
    strip = FilmStrip(cast(Cluster, cluster))
    cluster.happen("killed", "node1", time_ns=now_ns + 2_000 * MS)
    sampler.turn()
    strip._follow()
    strip.refresh(now=True)
    assert [card["title"] for card in strip._state["cards"]] == ["node1 killed"]
    assert strip._state["so_far"] is None


def test_a_rate_counts_at_once(cluster: FakeCluster, sampler: Sampler) -> None:
    class Load:
        running = True
        rates: list[float] = []  # noqa: RUF012
        newest = None

        class settings:  # noqa: N801
            rate = 5_000.0
            ack = "quorum"

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
    assert not [child for child in lab.children if child.comm is not None], "ipywidgets keeps what is not closed"
    sampler.error = None


def test_nothing_keeps_a_closed_panel(cluster: FakeCluster, sampler: Sampler) -> None:
    """anywidget watched the style sheets, and its watch kept each widget that there ever was, with its cluster."""
    bokeh_library()
    open_before, steps_before = set(all_widgets), len(cluster.ending)
    lab = Lab(cast(Cluster, cluster), None)
    kept = [weakref.ref(widget) for widget in (lab, *lab._parts)]
    watch = weakref.ref(lab.charts._watch)
    lab.close()
    del lab
    gc.collect()
    assert [widget() for widget in kept] == [None] * len(kept)
    assert set(all_widgets) == open_before, "each layout is a widget of its own, and stayed open"
    assert (watch(), len(cluster.ending)) == (None, steps_before), "the cluster kept what it was to stop at its end"


def test_a_beat_tells_that_the_panel_lives(cluster: FakeCluster, sampler: Sampler, table: NodeTable) -> None:
    """Figures may stay the same for an hour; a page that hears no beat says that what it shows is old."""

    def beats(ticks: int) -> int:
        before = table._beat
        for _ in range(ticks):
            table._beaten_s -= BEAT_S
            table._on_tick()
        return table._beat - before

    assert beats(3) == 3
    table._on_tick()
    assert beats(0) == 0, "not at each tick"
    table._on_message(None, {"say": "hidden", "view": "a"}, [])
    assert beats(3) == 0
    table._on_message(None, {"say": "visible", "view": "a"}, [])
    assert beats(1) == 1


def test_the_last_state_of_a_cluster_that_stops(cluster: FakeCluster, sampler: Sampler) -> None:
    """What works with the nodes ends before they do. The panel showed them running, and one leading, for ever."""
    charts = ThroughputChart(cast(Cluster, cluster))
    for name in cluster.nodes:
        cluster.say(name)
    cluster.load()
    sampler.turn()
    controls, table = LoadControls(cast(Cluster, cluster)), NodeTable(cast(Cluster, cluster))
    controls.load = cast(
        Any, SimpleNamespace(running=True, newest=None, settings=SimpleNamespace(rate=100, ack="quorum"))
    )
    assert (table.make_state()["leader"], controls.make_state()["running"]) == ("node0", True)
    assert controls.make_state()["figures"] is not None
    cluster.stop()
    sampler._tell()  # as its thread does at its end
    state = table._state
    assert ({node["state"] for node in state["nodes"]}, state["leader"], state["ended"]) == ({"stopped"}, "", True)
    assert (controls._state["running"], controls._state["figures"], controls._state["alive"]) == (False, None, False)
    assert (table._beat, controls._beat, charts._ended) == (-1, -1, True)


@pytest.mark.process
def test_a_cluster_that_only_a_closed_panel_knew_ends() -> None:
    cluster = Cluster(1).start()
    pid = cluster.fleet.process("node0").pid
    lab = Lab(cluster)
    del cluster
    gc.collect()
    assert psutil.pid_exists(pid), "the panel keeps its cluster while it is open"
    lab.close()
    del lab
    assert wait_for(lambda: (gc.collect(), not psutil.pid_exists(pid))[1])


OURS = (Cluster, Fleet, MetricsFeed, Client, Sampler, Panel, LiveFigure, BookWatch)


@pytest.mark.process
@pytest.mark.long
def test_rounds_of_start_show_and_stop_leave_nothing() -> None:
    process = psutil.Process()

    def play() -> None:
        cluster = Cluster(1).start()
        lab = Lab(cluster)
        with Client(cluster.endpoints) as client:
            client.buy("AAPL", 1, 100)
        lab.close()
        cluster.stop()

    def left() -> tuple[int, ...]:
        gc.collect()
        kept = sum(issubclass(type(each), OURS) for each in gc.get_objects())
        comms = comm.get_comm_manager().comms
        return process.num_fds(), process.num_threads(), len(process.children()), len(all_widgets), len(comms), kept

    play()  # what is made once for the process stays: the library of the charts, for one
    before = left()
    for _ in range(3):
        play()
    assert wait_for(lambda: all(map(operator.le, left(), before))), (before, left())


def test_the_strip_says_what_is_known_and_asks_for_the_index_once(cluster: FakeCluster, sampler: Sampler) -> None:
    asked: list[int] = []
    strip = ConsistencyStrip(cast(Cluster, cluster))
    strip._find = lambda shown: asked.append(shown.parted_index)  # type: ignore[method-assign]
    assert strip._state["agrees"] is None
    assert "not known" in strip.html()
    for index, letters in ((256, "aaa"), (512, "bbc")):
        for name, letter in zip(cluster.nodes, letters, strict=True):
            cluster.say(name, applied_index=600, hash_index=index, chain_hash=32 * letter)
    sampler.turn()
    for _ in range(3):
        strip.refresh(now=True)
        strip._tick()
    state = strip.make_state()
    assert state["agrees"] is False
    assert state["columns"] == [256, 512]
    assert [node["cells"] for node in state["nodes"]] == [["same", "same"], ["same", "same"], ["same", "differs"]]
    assert wait_for(lambda: asked == [512])
