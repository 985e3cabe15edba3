"""A kind of fault that is registered here gets its button, its line, its band and its card: no widget is changed.

Together with ``tests/lab/test_fault_kinds.py`` this shows that a new kind of fault takes one file.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import pytest

from tests.waiting import wait_for
from tests.widgets.fake_cluster import MS, FakeCluster
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.events import Band, Mark, Sort
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_registry import Control, FaultKind, Parameter, Target, Undo
from zmqlab.lab.faults import Breakable, Fault, News
from zmqlab.widgets.cluster_controls import FaultPanel, NodeTable, PartitionMatrix
from zmqlab.widgets.fault_cards import EventLog, FaultCards
from zmqlab.widgets.marks import clock_ms
from zmqlab.widgets.palette import CHANGE_COLOUR, FAULT_COLOUR
from zmqlab.widgets.sampler import Sampler

HOT, COOL = "overheated", "cooled_down"


@dataclass(frozen=True, slots=True)
class Overheat(Fault):
    """One node becomes too hot."""

    node: str
    degrees: float

    def check(self, cluster: Breakable) -> None:
        cluster.fleet.process(self.node)

    def news(self) -> Iterable[News]:
        return (News(HOT, self.node, f"{self.degrees:g} degrees"),)

    def inflict(self, cluster: Breakable) -> None:
        cast(FakeCluster, cluster).did("heat", self.node, self.degrees)

    def undo(self, cluster: Breakable) -> None:
        cluster.feed.note(COOL, self.node)
        cast(FakeCluster, cluster).did("cool", self.node)

    @property
    def victims(self) -> str:
        return self.node


def control(button: str, undo: Undo | None, target: Target = Target.NODE) -> Control:
    return Control(
        button,
        "its fan stops",
        target,
        Overheat,
        undo=undo,
        parameters=(Parameter("degrees", 60, 120, "temperature, °C"),),
    )


HEAT = FaultKind(
    name="heat",
    marks=(Mark(HOT, "{node} too hot", Sort.FAULT), Mark(COOL, "{node} cool again", Sort.CHANGE)),
    bands=(Band("{node} hot", frozenset({HOT}), frozenset({COOL})),),
    controls=(
        control("overheat", Undo("cool down", "its fan turns again", ("running",))),
        control("overheat the leader", None, Target.LEADER),
        control("overheat the cable", Undo("cool the cables", "all of them")),
    ),
)


@pytest.fixture
def heat() -> Iterator[FaultKind]:
    yield FAULTS.register(HEAT)
    FAULTS.remove(HEAT.name)


def buttons(panel: FaultPanel) -> list[str]:
    return [each["button"] for each in panel._controls]


def test_it_strikes_and_is_undone_from_its_button(cluster: FakeCluster, sampler: Sampler, heat: FaultKind) -> None:
    table = NodeTable(cast(Cluster, cluster))
    (drawn,) = (each for each in table._controls if each["button"] == "overheat")
    assert drawn["parameters"] == [{"name": "degrees", "low": 60, "high": 120, "label": "temperature, °C"}]
    assert drawn["undo"] == {"button": "cool down", "hint": "its fan turns again", "states": ("running",)}
    click = {"do": "strike", "button": "overheat", "target": ["node1"], "sizes": {"degrees": 95}}
    table._on_message(None, click, [])
    assert wait_for(lambda: cluster.done == [("heat", "node1", 95.0)])
    table._on_message(None, click | {"sizes": {"degrees": 500}}, [])
    assert wait_for(lambda: "overheat: degrees is 500.0: it must be from 60 to 120" in table._problem)
    table._on_message(None, {"do": "strike", "button": "overheat the leader"}, [])
    assert wait_for(lambda: cluster.done[-1] == ("heat", "node0", 60.0))
    table._on_message(None, {"do": "undo", "button": "overheat", "target": ["node1"]}, [])
    assert wait_for(lambda: cluster.done[-1] == ("cool", "node1"))
    assert table._problem == ""


def test_an_open_panel_shows_its_button_as_soon_as_it_is_registered(cluster: FakeCluster, sampler: Sampler) -> None:
    panels = NodeTable(cast(Cluster, cluster)), PartitionMatrix(cast(Cluster, cluster))
    before = [buttons(panel) for panel in panels]
    FAULTS.register(HEAT)
    try:
        for panel in panels:
            panel._tick()
        new = [
            [button for button in buttons(panel) if button not in known]
            for panel, known in zip(panels, before, strict=True)
        ]
    finally:
        FAULTS.remove(HEAT.name)
    assert new == [["overheat", "overheat the leader"], ["overheat the cable"]]


def test_it_is_a_line_a_band_and_a_card(cluster: FakeCluster, sampler: Sampler, heat: FaultKind) -> None:
    start = time.time_ns()
    cluster.happen(HOT, "node1", start, text="95 degrees")
    cluster.happen(COOL, "node1", start + 300 * MS)
    sampler.turn()
    assert [(moment.label, moment.colour) for moment in sampler.timeline.marks] == [
        ("node1 too hot", FAULT_COLOUR),
        ("node1 cool again", CHANGE_COLOUR),
    ]
    (stretch,) = sampler.timeline.bands
    assert (stretch.label, stretch.colour) == ("node1 hot", FAULT_COLOUR)
    assert (stretch.start_ms, stretch.end_ms) == (clock_ms(start), clock_ms(start + 300 * MS))
    (card,) = FaultCards(cast(Cluster, cluster))._state["cards"]
    assert card["title"] == "node1 too hot"
    log = EventLog(cast(Cluster, cluster))
    assert [(event["what"], event["sort"]) for event in log._state["events"]] == [
        ("cooled down", "change"),
        ("overheated", "fault"),
    ]
