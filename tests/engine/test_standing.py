"""A node that was removed, while it was away or while it ran, finds out and says so."""

from __future__ import annotations

import pytest

from tests.engine.fake_effects import Driven, founder_id
from zmqlab.raft import Configuration
from zmqlab.raft.messages import BROADCAST, AppendEntries, Entry, EntryKind
from zmqlab.replica import MemoryJournal
from zmqlab.settings import NodeSettings
from zmqlab.wire.node_status import Member
from zmqlab.wire.peer import encode_message

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


class Follower:
    """Node A of three, which follows node B in term 9."""

    def __init__(self, settings: NodeSettings) -> None:
        self.driven = Driven(settings)
        self.round = self.last = self.last_term = 0

    def hear(
        self, *datas: bytes, kind: EntryKind = EntryKind.DATA, prev: int | None = None, to: int = BROADCAST
    ) -> None:
        """B broadcasts, or sends to this node alone: a heartbeat, or entries that it has committed."""
        self.round += 1
        prev = self.last if prev is None else prev
        entries = tuple(Entry(index, 9, kind, data) for index, data in enumerate(datas, prev + 1))
        end = prev + len(entries)
        message = AppendEntries(founder_id(B), to, 9, prev, 9 if prev else 0, end, self.round, entries)
        self.driven.turn(peers=[encode_message(message, 0)])
        self.last = max(self.last, end if entries else 0)

    def follow(self, ticks: int, prev: int | None = None) -> None:
        """B leads for so long, and has nothing to say but heartbeats."""
        for _ in range(ticks // 4):
            self.driven.pass_time(4)
            self.hear(prev=prev)


@pytest.fixture
def follower() -> Follower:
    follower = Follower(NodeSettings(name="node0", port=5_000, peers=(B, C)))
    follower.hear(b"", kind=EntryKind.NO_OP)
    return follower


def removals(driven: Driven) -> list[str]:
    return [note for note in driven.effects.notes if "was removed from its group" in note]


def test_a_follower_in_touch_asks_nothing_however_idle_its_group_is(follower: Follower) -> None:
    follower.follow(4 * PATIENCE)
    assert follower.driven.effects.asked == []
    assert role(follower.driven) == "follower"


@pytest.mark.parametrize("hears", [False, True], ids=["it hears no leader", "it hears a leader that is ahead"])
def test_one_that_was_cut_off_while_it_was_removed_asks_and_says_so(follower: Follower, hears: bool) -> None:
    """It was a follower for minutes before. Only a founder that had just been started asked, and it believed what came
    in since its start for ever."""
    driven = follower.driven
    follower.follow(PATIENCE)
    if hears:
        follower.follow(PATIENCE + 8, prev=7)
    else:
        driven.pass_time(PATIENCE + 8)
    assert [address for address, _ in driven.effects.asked] == [B, C], "each once"
    driven.meet(B, member(B), member(C), role="leader", term=9, name="node1")
    assert role(driven) == "removed"
    assert len(removals(driven)) == 1
    follower.follow(8)
    assert role(driven) == "follower", "the change was not committed, or it was taken in again"


def test_one_whose_log_has_its_removal_asks_no_other_node(follower: Follower) -> None:
    follower.hear(Configuration((founder_id(B), founder_id(C))).encode(), kind=EntryKind.CONFIGURATION)
    follower.driven.pass_time(2 * PATIENCE)
    assert role(follower.driven) == "removed"
    (said,) = removals(follower.driven)
    assert "says its own log" in said
    assert "delete its journal" in said
    assert follower.driven.effects.asked == []


def test_a_node_that_has_joined_asks_the_nodes_that_it_was_given_too() -> None:
    """A node with ``--join`` never asked again once it had been in."""
    follower = Follower(NodeSettings(name="node0", port=5_000, join=("tcp://127.0.0.1:5900",)))
    driven = follower.driven
    driven.pass_time(1)
    own_id = founder_id(A)
    addresses = ((own_id, A), (founder_id(B), B))
    for configuration in (
        Configuration((founder_id(B),), (own_id,), addresses),
        Configuration((founder_id(B), own_id), (), addresses),
    ):
        follower.hear(configuration.encode(), kind=EntryKind.CONFIGURATION, to=own_id)
    follower.follow(PATIENCE)
    driven.effects.asked.clear()
    driven.pass_time(PATIENCE + 8)
    assert {address for address, _ in driven.effects.asked} == {B, "tcp://127.0.0.1:5900"}
    driven.meet(B, member(B), role="leader", term=9, name="node1")
    assert role(driven) == "removed"
    (said,) = removals(driven)
    assert said.endswith("to have it back as a member, start it again")
