"""Whether replicas are where they belong, by what the nodes of a cluster with shards say."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from zmqlab.client import ask
from zmqlab.endpoints import client_endpoint_of, parse_endpoint
from zmqlab.errors import ClusterError
from zmqlab.lab import scaling
from zmqlab.lab.placed_members import Placed, all_nodes, look, short_of, wait_until_placed, with_all_nodes
from zmqlab.placement import Roster
from zmqlab.tables import NodeState, StatusTable
from zmqlab.wire import control
from zmqlab.wire.node_status import GroupBrief, NodeStatus

PLACES = [f"tcp://127.0.0.1:{5_000 + 10 * number}" for number in range(4)]
ROSTER = Roster.of_founders(PLACES[:3], 3, 2)
GROWN = ROSTER.with_node(PLACES[3], 2)


def status(place: str, roster: Roster, groups: list[GroupBrief]) -> NodeStatus:
    numbers = dict.fromkeys(("time_ns", "uptime_ms", "term", "leader_id", "first_index", "last_index"), 1)
    more = dict.fromkeys(("commit_index", "applied_index", "lag"), 0)
    port = parse_endpoint(place)[1]
    return NodeStatus(
        name=f"node{PLACES.index(place)}",
        node_id=port,
        pid=1,
        port=port,
        address=place,
        role="leader",
        groups=groups,
        roster=roster.encode(),
        shards=3,
        **numbers,
        **more,
    )


def told(roster: Roster, **other_roles: str) -> dict[str, NodeStatus]:
    """What all nodes say where all is as the roster has it, but for the role of a node in all its groups."""
    found = {}
    for place in roster.nodes:
        briefs = []
        for group in roster.held_by(place):
            members = list(roster.groups[group])
            role = other_roles.get(f"node{PLACES.index(place)}", "leader" if members[0] == place else "follower")
            briefs.append(GroupBrief(number=group, role=role, term=1, leader_id=1, members=members))
        found[place] = status(place, roster, briefs)
    return found


def test_all_is_placed_when_leaders_name_whom_the_roster_wants_and_all_vote() -> None:
    assert Placed(GROWN, told(GROWN)).missing() == ""


def test_a_group_that_waits_for_a_node_which_has_died_says_so_and_what_to_do() -> None:
    answers = told(ROSTER)
    moved = next(group for group in range(3) if PLACES[3] in GROWN.groups[group])
    for brief in (brief for each in answers.values() for brief in each.groups if brief.number == moved):
        brief.awaited = [PLACES[3]] if brief.role == "leader" else []
    said = Placed(GROWN, answers)
    assert "no node answers at 127.0.0.1:5030: start it again, or take it out (zmqlab remove 127.0.0.1:5030)" in (
        said.missing()
    )
    table = StatusTable(tuple(NodeState(each.name, "", "running", each) for each in answers.values()))
    assert f"no node answers at 127.0.0.1:5030, which is to hold group {moved}: " in table.text()


def test_a_group_that_has_not_followed_yet_is_named() -> None:
    moved = next(group for group in range(3) if GROWN.groups[group] != ROSTER.groups[group])
    assert f"group {moved} is at" in Placed(GROWN, told(ROSTER)).missing()


def test_a_member_that_learns_does_not_vote_yet() -> None:
    assert "127.0.0.1:5030 does not vote in group" in Placed(GROWN, told(GROWN, node3="learner")).missing()


def test_a_group_without_a_leader_is_named() -> None:
    assert Placed(ROSTER, told(ROSTER, node0="candidate")).missing().endswith("has no leader")


def test_a_node_is_missed_if_a_group_has_no_majority_of_its_replicas_without_it() -> None:
    placed = Placed(ROSTER, told(ROSTER))
    assert "would have 1 of its 2 replicas" in short_of(placed, PLACES[0], PLACES[:3])
    three = Roster.of_founders(PLACES[:3], 3, 3)
    assert short_of(Placed(three, told(three)), PLACES[0], PLACES[:3]) == ""
    assert "would have 1 of its 3 replicas" in short_of(Placed(three, told(three)), PLACES[0], PLACES[:2])


def test_it_is_waited_until_the_newest_roster_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [{}, told(ROSTER), told(ROSTER) | {PLACES[0]: status(PLACES[0], GROWN, [])}, told(GROWN)]
    answers = iter(rounds)

    def statuses(endpoints: object, timeout_s: float = 0.0) -> dict[str, NodeStatus]:
        return {client_endpoint_of(place): each for place, each in next(answers).items()}

    monkeypatch.setattr(ask, "statuses", statuses)
    placed = wait_until_placed(list, PLACES[3], True, time.monotonic() + 60)
    assert placed.roster == GROWN

    answers = iter([told(GROWN)] * 2)
    with pytest.raises(ClusterError, match="the cluster has still the node at"):
        wait_until_placed(list, PLACES[3], False, time.monotonic() - 1)

    answers = iter([told(GROWN)])
    known = "tcp://127.0.0.1:5002"
    assert with_all_nodes([known]) == (known, "tcp://127.0.0.1:5012", "tcp://127.0.0.1:5022", "tcp://127.0.0.1:5032")

    answers = iter([{}, {}, {}])
    assert with_all_nodes([known]) == (known,)
    assert look([]) is None
    with pytest.raises(ClusterError, match="no node tells which nodes"):
        all_nodes([])


@pytest.mark.parametrize(("place", "known_as"), [(PLACES[1], 5_010), (PLACES[3], 0)])
def test_a_node_that_answers_is_removed_by_its_identity(
    monkeypatch: pytest.MonkeyPatch, place: str, known_as: int
) -> None:
    """It may be at another address than the roster has it, and another node may have its place there."""
    queries: list[control.Query] = []

    def ask_all(endpoints: list[str], make_query: Any, timeout_s: float) -> dict[str, control.Answer]:
        queries.append(make_query(""))
        return {endpoints[0]: control.OkAnswer(1, "done")}

    monkeypatch.setattr(ask, "statuses", lambda *_: {client_endpoint_of(at): each for at, each in told(ROSTER).items()})
    monkeypatch.setattr(ask, "ask_all", ask_all)
    monkeypatch.setattr(scaling, "reach_leader", lambda *_: SimpleNamespace(endpoint="tcp://127.0.0.1:5002"))
    monkeypatch.setattr(scaling, "wait_until_placed", lambda *_: None)
    scaling.remove_node(lambda: ["tcp://127.0.0.1:5002"], place, time.monotonic() + 60)
    assert [(each.node_id, each.address) for each in queries] == [(known_as, place)]  # type: ignore[union-attr]
