"""The registry of faults: a new kind in one file, and what every kind must have."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from zmqlab.errors import SettingsError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.events import Band, LabEvent, Mark, Sort, Span, spans_of
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_registry import Control, Draw, FaultKind, Parameter, Target, Undo
from zmqlab.lab.fault_table import WHOLE, Link
from zmqlab.lab.faults import Breakable, Fault, News
from zmqlab.lab.hosts import LocalHost
from zmqlab.scenarios.nemesis import PROCEDURES, Nemesis, Progress, deals, kinds, parse_kinds
from zmqlab.scenarios.torture import TortureSettings
from zmqlab.wire.control import Event, EventKind
from zmqlab.wire.fault_queries import LinkFault

FAKE = [sys.executable, str(Path(__file__).with_name("fake_node.py"))]

# A new kind of fault takes one file, of which everything that follows is all. The bound is four.

SLOWED, SPED_UP = "slowed", "sped_up"


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """One node hears every other one late."""

    node: str
    delay_ms: float = 20.0

    def check(self, cluster: Breakable) -> None:
        cluster.fleet.process(self.node)

    def news(self) -> Iterable[News]:
        return (News(SLOWED, self.node, f"by {self.delay_ms:g} ms"),)

    def inflict(self, cluster: Breakable) -> None:
        cluster.fault_table.change(self._links(cluster), LinkFault(delay_ms=self.delay_ms))

    def undo(self, cluster: Breakable) -> None:
        cluster.feed.note(SPED_UP, self.node)
        cluster.fault_table.change(self._links(cluster), WHOLE)

    @property
    def victims(self) -> str:
        return self.node

    def _links(self, cluster: Breakable) -> list[Link]:
        return [(other, self.node) for other in cluster.nodes if other != self.node]


SLOW = FaultKind(
    name="slow",
    marks=(Mark(SLOWED, "{node} slow", Sort.FAULT), Mark(SPED_UP, "{node} fast again", Sort.CHANGE)),
    bands=(Band("{node} slow", frozenset({SLOWED}), frozenset({SPED_UP})),),
    controls=(
        Control(
            "slow down",
            "it hears every other node late",
            Target.NODE,
            Slow,
            undo=Undo("speed up", "it hears them at once", ("running",)),
            parameters=(Parameter("delay_ms", 1, 500, "delay, ms"),),
        ),
    ),
    draws=(Draw("follower", (0.1, 0.2), lambda aim: Slow(aim.followers()[0], aim.amount), (5, 50)),),
)


@pytest.fixture
def slow() -> Iterator[FaultKind]:
    yield FAULTS.register(SLOW)
    FAULTS.remove(SLOW.name)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(3, run_dir=tmp_path, host=LocalHost(FAKE), keys=False) as running:
        yield running


def test_a_new_kind_is_known_to_torture(slow: FaultKind) -> None:
    assert "slow" in kinds()
    assert parse_kinds("slow") == ("slow",)
    (deal,) = islice(deals(1, 3, ["slow"]), 1)
    assert deal.name == "slow follower"
    assert 5 <= deal.amount <= 50
    assert TortureSettings(kinds=("slow",)).kinds == ("slow",)


def test_a_new_kind_strikes_from_a_button_and_is_a_band(slow: FaultKind, cluster: Cluster) -> None:
    (control,) = (each for each in FAULTS.controls if each.button == "slow down")
    assert (control.target, control.undo) == (Target.NODE, SLOW.controls[0].undo)
    with pytest.raises(SettingsError, match="slow down: delay_ms is 900: it must be from 1 to 500"):
        control.fault(cluster, "node1", delay_ms=900)
    with pytest.raises(SettingsError, match="loss is 1: no such size"):
        control.fault(cluster, "node1", loss=1)
    fault = control.fault(cluster, "node1", delay_ms=30)
    fault.strike(cluster)
    assert cluster.links == dict.fromkeys([("node0", "node1"), ("node2", "node1")], LinkFault(delay_ms=30))
    (span,) = spans_of(cluster.events, FAULTS.bands)
    assert (span.label, span.end_ns) == ("node1 slow", None)
    fault.undo(cluster)
    assert not cluster.links
    (span,) = spans_of(cluster.events, FAULTS.bands)
    assert span.end_ns == cluster.events[-1].time_ns
    assert FAULTS.marks[SLOWED].label_of(cluster.events[-2]) == "node1 slow"
    assert FAULTS.is_fault(SLOWED)
    assert not FAULTS.is_fault(SPED_UP)


def test_a_new_kind_is_struck_by_the_nemesis(slow: FaultKind, cluster: Cluster) -> None:
    (deal,) = islice(deals(1, 3, ["slow"]), 1)
    nemesis = Nemesis(cluster, Progress(), lambda _: None, lambda: False, recovery_s=0.0)
    strike = nemesis.strike(deal)
    assert strike.what in ("node1", "node2")
    assert "the client is not answered" in strike.problem, "there is none; all else is well"
    assert [event.kind for event in cluster.events if event.node == strike.what][-2:] == [SLOWED, SPED_UP]


# -- the kinds that there are --------------------------------------------------------------------------------------


def test_a_name_is_taken_once(slow: FaultKind) -> None:
    with pytest.raises(ValueError, match="called 'slow' already"):
        FAULTS.register(SLOW)


def test_each_draw_has_an_aim_or_a_procedure_and_no_procedure_is_without_its_draw() -> None:
    assert {names for names, draw in FAULTS.draws.items() if draw.aim is None} == set(PROCEDURES)


@pytest.mark.parametrize("kind", list(FAULTS), ids=lambda kind: kind.name)
def test_each_event_that_begins_or_ends_a_band_has_a_mark(kind: FaultKind) -> None:
    for band in kind.bands:
        assert band.begins <= {mark.kind for mark in kind.marks}
        assert band.ends <= set(FAULTS.marks)


def test_every_button_says_something_else() -> None:
    buttons = [control.button for control in FAULTS.controls]
    assert len(set(buttons)) == len(buttons)


@pytest.mark.parametrize("control", FAULTS.controls, ids=lambda control: control.button)
def test_every_button_makes_a_fault_that_can_strike(cluster: Cluster, control: Control) -> None:
    names = {Target.NODE: ("node1",), Target.LINK: ("node0", "node1"), Target.LEADER: ()}[control.target]
    sizes = {parameter.name: parameter.low for parameter in control.parameters}
    fault = control.fault(cluster, *names, **sizes)
    fault.check(cluster)
    assert ("node0" if control.target is Target.LEADER else names[0]) in fault.victims


def test_a_slider_that_is_put_back_makes_the_link_whole(cluster: Cluster) -> None:
    (worse,) = (control for control in FAULTS.controls if control.button == "make worse")
    worse.fault(cluster, "node0", "node1", delay_ms=50).strike(cluster)
    assert cluster.links == {("node0", "node1"): LinkFault(delay_ms=50)}, "a size that is left out is at its lowest"
    worse.fault(cluster, "node0", "node1", delay_ms=0, loss=0).strike(cluster)
    assert not cluster.links
    assert [event.kind for event in cluster.events][-2:] == [LabEvent.LINK, LabEvent.HEALED]


def test_buttons_of_links_are_told_from_buttons_of_nodes() -> None:
    assert [control.button for control in FAULTS.controls if control.is_about_links] == [
        *("cut", "isolate", "isolate the leader"),
        "make worse",
    ]


# -- bands ---------------------------------------------------------------------------------------------------------


def at(time_ns: int, kind: str, node: str = "", text: str = "") -> Event:
    return Event(time_ns=time_ns, node=node, kind=kind, text=text)


def spans(*events: Event) -> list[tuple[str, int, int | None]]:
    return [(span.label, span.start_ns, span.end_ns) for span in spans_of(events, FAULTS.bands)]


def test_a_pause_ends_with_whatever_ends_it() -> None:
    assert spans(
        at(5, LabEvent.PAUSED, "node1"),
        at(6, LabEvent.PAUSED, "node0"),
        at(7, EventKind.ELECTED, "node2"),
        at(8, LabEvent.KILLED, "node0"),
        at(9, LabEvent.RESUMED, "node0"),
    ) == [("node0 paused", 6, 8), ("node1 paused", 5, None)]


def test_links_are_one_band_from_the_first_that_is_cut_until_none_is() -> None:
    assert spans(
        at(1, LabEvent.CUT, "node1", "node0 -> node1: cut"),
        at(2, LabEvent.CUT, "node2", "node0 -> node2: cut"),
        at(3, LabEvent.HEALED, "node1", "node0 -> node1: whole"),
        at(4, LabEvent.HEALED, "node2", "node0 -> node2: whole"),
        at(5, LabEvent.PARTITIONED, "", "node0 | node1, node2"),
        at(6, LabEvent.HEALED, "", "all links are whole"),
        at(7, LabEvent.PARTITIONED, "", "node0 | node1, node2"),
        at(8, LabEvent.HEALED, "node1", "node0 -> node1: whole"),
    ) == [("links bad", 1, 4), ("links bad", 5, 6), ("links bad", 7, None)]


def test_events_may_come_in_any_order() -> None:
    pause, resume = at(5, LabEvent.PAUSED, "node1"), at(9, LabEvent.RESUMED, "node1")
    assert spans_of([resume, pause], FAULTS.bands) == [Span("node1 paused", 5, 9, Sort.FAULT)]
