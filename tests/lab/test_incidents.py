"""What a fault cost, read off events and snapshots."""

from __future__ import annotations

import pytest

from tests.widgets.fake_cluster import MS, snapshot
from zmqlab.judge.promises import Check
from zmqlab.judge.verdict import Verdict
from zmqlab.lab.incidents import SETTLE_NS, Incidents, faults_of, measure
from zmqlab.load.load_messages import GroupShare, LoadMetrics
from zmqlab.wire.control import Event

START = 1_700_000_000_000_000_000


def event(at_ms: float, kind: str, node: str, text: str = "") -> Event:
    return Event(time_ns=START + round(at_ms * MS), node=node, kind=kind, text=text)


KILL = [
    event(0, "killed", "node0"),
    event(210, "role", "node2", "node2 is pre_candidate in term 1"),
    event(214, "elected", "node2", "node2 is leader in term 2"),
]


def led_by(name: str):  # type: ignore[no-untyped-def]
    return lambda time_ns: name


def test_the_death_of_a_leader() -> None:
    load = [snapshot(time_ns=START + step * 100 * MS, latency_ns=2 * MS) for step in range(-40, 1)]
    load += [snapshot(time_ns=START + 100 * MS, acknowledged=0, gap_ms=98.0, silence_ms=98.0)]
    load += [snapshot(time_ns=START + 300 * MS, latency_ns=250 * MS, gap_ms=231.0)]
    load += [snapshot(time_ns=START + step * 100 * MS, latency_ns=3 * MS) for step in range(4, 60)]
    incident = measure(KILL[0], KILL, load, led_by("node0"))
    assert incident.title == "node0 killed"
    assert incident.led
    assert (incident.detected_ms, incident.elected_ms, incident.new_leader) == (210, 214, "node2")
    assert incident.silence_ms == 231
    assert incident.p99_before_ms == pytest.approx(2, rel=0.01)
    assert incident.p99_during_ms == pytest.approx(250, rel=0.01)
    assert incident.lost == "", "unknown before the verdict"


def test_the_death_of_a_follower_costs_nothing() -> None:
    incident = measure(KILL[0], KILL[:1], [], led_by("node1"))
    assert not incident.led
    assert incident.detected_ms is incident.elected_ms is None
    assert incident.silence_ms is None, "no load ran"


def silence(from_ms: int, to_ms: int, since_ms: int) -> list[LoadMetrics]:
    """Snapshots in which nothing came."""
    return [
        snapshot(time_ns=START + at * MS, acknowledged=0, gap_ms=at - since_ms, silence_ms=at - since_ms)
        for at in range(from_ms, to_ms, 100)
    ]


def test_while_clients_are_not_served_there_is_no_p99() -> None:
    """Two of three are dead: what was answered in the last moment before says nothing of those that wait."""
    before = [snapshot(time_ns=START + at * MS, latency_ns=2 * MS) for at in range(-900, 1, 100)]
    last = snapshot(time_ns=START + 50 * MS, latency_ns=2 * MS)
    kill = KILL[:1]
    incidents = Incidents()
    dark = silence(150, 20_000, since_ms=40)
    incidents.follow(kill, [*before, last, *dark], START + 20_000 * MS, led_by("node0"))
    seen = incidents.newest[0]
    assert seen.unserved
    assert seen.p99_during_ms is None
    assert seen.silence_ms == pytest.approx(19_910)

    light = [snapshot(time_ns=START + 20_000 * MS, latency_ns=19_000 * MS, gap_ms=19_950.0)]
    light += [snapshot(time_ns=START + at * MS, latency_ns=2 * MS) for at in range(20_100, 40_000, 100)]
    incidents.follow(kill, [*dark[100:], *light], START + 40_000 * MS, led_by("node0"))
    seen = incidents.newest[0]
    assert not seen.unserved
    assert seen.silence_ms == 19_950
    assert seen.p99_during_ms == pytest.approx(19_000, rel=0.01)
    assert seen.p99_before_ms == pytest.approx(2, rel=0.01), "kept, though those snapshots are gone"


def test_the_election_that_ends_a_long_silence_belongs_to_its_fault() -> None:
    """Two of three were dead for 20 s. The one that a person restarted made a majority again."""
    kill = KILL[:1]
    back = [event(19_700, "started", "node1"), event(19_900, "elected", "node2"), event(26_000, "elected", "node1")]
    dark = silence(100, 20_000, since_ms=40)
    light = [snapshot(time_ns=START + 20_000 * MS, latency_ns=19_000 * MS, gap_ms=19_950.0)]
    light += [snapshot(time_ns=START + at * MS, latency_ns=2 * MS) for at in range(20_100, 40_000, 100)]
    incident = measure(kill[0], kill + back, dark + light, led_by("node0"))
    assert (incident.elected_ms, incident.new_leader) == (19_900, "node2")
    second = event(15_000, "killed", "node2")
    assert measure(kill[0], [*kill, second, *back], dark + light, led_by("node0")).elected_ms is None, "the second's"
    assert measure(kill[0], kill + back[2:], dark + light, led_by("node0")).elected_ms is None, "long after the answers"


def test_groups_that_still_wait_are_told_as_such() -> None:
    """Two groups of three had lost their majority. The third one answered, and the card stood at 3 s for ever."""
    answers = [
        snapshot(
            time_ns=START + at * MS,
            groups=[
                GroupShare(group=0),
                *(GroupShare(group=g, silence_ms=at - 40.0, gap_ms=at - 40.0) for g in (1, 2)),
            ],
        )
        for at in range(100, 20_000, 100)
    ]
    incidents = Incidents()
    incidents.follow(KILL[:1], answers, START + 20_000 * MS, led_by("node0"))
    seen = incidents.newest[0]
    assert seen.unserved
    assert seen.waited == (1, 2)
    assert seen.silence_ms == 19_860


def test_an_election_long_after_is_not_its_doing() -> None:
    late = event(SETTLE_NS / MS + 1, "elected", "node2")
    assert measure(KILL[0], [KILL[0], late], [], led_by("node0")).elected_ms is None


def test_an_election_after_the_next_fault_is_not_its_doing() -> None:
    """A report of three faults told the election of the last one twice: a pause that ended well had it, too."""
    paused = event(-5_000, "paused", "node1")
    assert measure(paused, [paused, *KILL], [], led_by("node0")).elected_ms is None
    assert measure(KILL[0], [paused, *KILL], [], led_by("node0")).elected_ms == 214


def test_cuts_in_a_row_are_one_fault() -> None:
    cuts = [event(step * 300, "cut", "node1", f"node{step} -> node1: cut") for step in range(3)]
    assert len(faults_of(cuts)) == 1
    assert len(faults_of([*cuts, event(5_000, "cut", "node1")])) == 2


def test_wiping_is_one_fault_with_its_kill() -> None:
    events = [event(0, "killed", "node1"), event(20, "wiped", "node1"), event(400, "restarted", "node1")]
    assert [fault.kind for fault in faults_of(events)] == ["killed"]


def test_the_verdict_completes_what_fell_into_its_run() -> None:
    incidents = Incidents()
    incidents.follow(KILL, [], START + SETTLE_NS + 1, led_by("node0"))
    incidents.judged(_verdict(True), START + 1)
    assert incidents.newest[0].lost == "", "that run began after the fault"
    incidents.judged(_verdict(True), START - 1)
    assert (incidents.newest[0].lost, incidents.newest[0].duplicated) == ("0", "0")
    incidents.judged(_verdict(False), START - 1)
    assert incidents.newest[0].lost == "2 requests"
    incidents.follow(KILL, [], START + 1, led_by("node0"))
    assert incidents.newest[0].lost == "2 requests", "what is measured again keeps it"


def test_what_was_not_checked_is_not_told_as_kept() -> None:
    incidents = Incidents()
    incidents.follow(KILL, [], START, led_by("node0"))
    incidents.judged(Verdict((Check("nothing lost", True, ""),), "a part"), START - 1)
    assert incidents.newest[0].duplicated == "not judged"


def _verdict(ok: bool) -> Verdict:
    return Verdict((Check("nothing lost", ok, "2 requests"), Check("nothing twice", True, "")), "all")
