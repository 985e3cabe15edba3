"""A founder that was removed while it was away finds out, and says so."""

from __future__ import annotations

import pytest

from tests.engine.fake_effects import Driven, founder_id
from zmqlab.replica import MemoryJournal
from zmqlab.settings import NodeSettings
from zmqlab.wire.control import Member

A, B, C = "tcp://127.0.0.1:5000", "tcp://127.0.0.1:5100", "tcp://127.0.0.1:5200"
PATIENCE = 15 * 20
"""Ticks until it asks, with the election time-out of the settings."""


def member(endpoint: str) -> Member:
    port = founder_id(endpoint)
    return Member(node_id=port, name="", host="127.0.0.1", port=port, voter=True)


@pytest.fixture
def again() -> Driven:
    """Node A of three, started again by its own line after its clock, its peers and its leader have gone on."""
    settings, journal = NodeSettings(name="node0", port=5_000, peers=(B, C)), MemoryJournal()
    Driven(settings, journal)
    driven = Driven(settings, journal, is_met=False)
    driven.pass_time(PATIENCE - 5)
    assert driven.effects.asked == [], "a leader may still be on its way"
    driven.pass_time(10)
    assert {address for address, _ in driven.effects.asked} == {B, C}
    return driven


def role(driven: Driven) -> str:
    (group,) = driven.engine.groups.values()
    return group.status().role


def test_a_removed_founder_says_so_in_its_log_and_its_status(again: Driven) -> None:
    """It looked like a follower for ever: it hears the leader, and is sent nothing."""
    assert role(again) != "removed"
    again.meet(B, member(B), member(C), role="leader", term=9, name="node1")
    assert role(again) == "removed"
    said = [note for note in again.effects.notes if "was removed from its group, says node1" in note]
    assert len(said) == 1
    again.effects.asked.clear()
    again.pass_time(PATIENCE + 1)
    again.meet(B, member(B), member(C), role="leader", term=9, name="node1")
    assert [note for note in again.effects.notes if "was removed from" in note] == said, "once is enough"
    again.effects.asked.clear()
    again.pass_time(PATIENCE + 1)
    again.meet(B, member(A), member(B), member(C), role="leader", term=9, name="node1")
    assert role(again) != "removed", "the change was not committed, or it was taken in again"


@pytest.mark.parametrize(
    "fields", [{"role": "follower", "term": 9}, {"role": "leader", "term": -1}], ids=["a follower", "a former leader"]
)
def test_only_a_leader_of_now_is_believed(again: Driven, fields: dict[str, object]) -> None:
    again.meet(B, member(B), member(C), **fields)
    assert role(again) != "removed"


def test_a_node_that_leads_asks_nothing() -> None:
    driven = Driven(NodeSettings(name="node0", port=5_000))
    driven.pass_time(2 * PATIENCE)
    assert role(driven) == "leader"
    assert driven.effects.asked == []
