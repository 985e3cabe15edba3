"""Several Raft groups, on made-up statuses: who leads which, what is wrong with which, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tests.lab.test_service_status import NOW, load, node, status
from zmqlab import Cluster, LoadClient
from zmqlab.client import ask
from zmqlab.errors import ClusterError, RequestRefused, SettingsError
from zmqlab.lab.consistency import said_of_groups, strip_of_statuses
from zmqlab.lab.events import PLAIN_MARKS, group_named_in, naming_its_group
from zmqlab.lab.fleet import is_ready
from zmqlab.lab.group_facts import GroupFacts, findings_of_clients, findings_of_groups, group_of_statuses
from zmqlab.lab.node_plan import NodePlan
from zmqlab.lab.published import Mismatch, Published, over_groups
from zmqlab.lab.scaling import Scaling
from zmqlab.lab.scaling_by_hand import ScalingByHand
from zmqlab.lab.service_facts import Facts
from zmqlab.lab.service_status import Level, service_status
from zmqlab.load.load_messages import GroupShare
from zmqlab.placement import place
from zmqlab.tables import NodeState, StatusTable
from zmqlab.wire import control
from zmqlab.wire.control import Event, EventKind
from zmqlab.wire.node_status import GroupBrief, Member, NodeStatus

NODES = tuple(f"node{number}" for number in range(5))
PLACED = place(NODES, 8, 3)
"""Group -> the nodes that hold it, the preferred leader first."""


def endpoint(name: str) -> str:
    return f"tcp://127.0.0.1:{5_000 + 100 * NODES.index(name)}"


def briefs(name: str) -> list[GroupBrief]:
    return [
        GroupBrief(
            number=group,
            role="leader" if members[0] == name else "follower",
            term=2,
            leader_id=1 + NODES.index(members[0]),
            leader_endpoint=endpoint(members[0]),
            members=[endpoint(each) for each in members],
        )
        for group, members in PLACED.items()
        if name in members
    ]


def status_in(name: str, group: int, **fields: Any) -> NodeStatus:
    """What the node publishes of a group."""
    members = [Member(node_id=1 + NODES.index(each), name=each, host="127.0.0.1", port=5_000) for each in PLACED[group]]
    known = {"group": group, "shards": 8, "replication_factor": 3, "groups": briefs(name), "members": members}
    known |= {"term": 2, "node_id": 1 + NODES.index(name), "address": endpoint(name)}
    leads = PLACED[group][0] == name
    return msgspec.structs.replace(status(name, "leader" if leads else "follower"), **known | fields)


def published(**silent: Any) -> Published:
    found = Published()
    for group, members in PLACED.items():
        for name in members:
            found.take(status_in(name, group), 1.0)
    return found


def test_what_is_published_is_kept_by_group() -> None:
    found = published()
    assert found.shards == 8
    for group, members in PLACED.items():
        assert set(found.newest(group)) == set(members)
        assert found.leaders(group) == {2: frozenset(members[:1])}
        assert set(found.endpoints_of(group)) == set(members)
    assert found.newest(8) == {}
    assert set(found.newest()) == set(NODES)


def test_of_a_node_what_is_counted_is_added_up() -> None:
    one = status_in("node0", 0, orders_taken=5, lag=1, leader_id=1)
    other = status_in("node0", 1, orders_taken=7, lag=9, role="leader", leader_id=0)
    both = over_groups([one, other])
    assert (both.orders_taken, both.lag, both.role, both.term, both.leader_id) == (12, 9, "leader", 0, 0)
    assert over_groups([one]) is one


def test_a_group_that_a_node_does_not_hold_any_more_is_forgotten_with_it() -> None:
    found = published()
    held = [group for group, members in PLACED.items() if "node0" in members]
    moved = [brief for brief in briefs("node0") if brief.number != held[0]]
    found.take(status_in("node0", held[1], groups=moved), 2.0)
    assert "node0" not in found.newest(held[0])
    assert "node0" in found.newest(held[1])
    found.forget("node0")
    assert all("node0" not in found.newest(group) for group in PLACED)


def test_hashes_of_two_groups_are_not_compared() -> None:
    found = Published()
    assert found.take(status_in("node0", 0, hash_index=256, chain_hash="aa"), 1.0) is None
    assert found.take(status_in("node1", 1, hash_index=256, chain_hash="bb"), 1.0) is None
    mismatch = found.take(status_in("node1", 0, hash_index=256, chain_hash="cc"), 1.0)
    assert mismatch == Mismatch(256, {"node0": "aa", "node1": "cc"}, 0)
    assert list(found.mismatches) == [mismatch]


def test_two_leaders_of_one_term_are_seen_in_their_group_alone() -> None:
    found = Published()
    found.note_leader(1, 4, "node0")
    found.note_leader(2, 4, "node1")
    assert found.leaders(1) == {4: frozenset({"node0"})}
    found.note_leader(2, 4, "node3")
    assert found.leaders(2) == {4: frozenset({"node1", "node3"})}


# -- the status line -----------------------------------------------------------------------------------------------


def groups(down: tuple[str, ...] = ()) -> list[GroupFacts]:
    up = [name for name in NODES if name not in down]
    found = published()
    return [group_of_statuses(number, found.newest(number), up, up) for number in PLACED]


def facts(down: tuple[str, ...] = (), **fields: Any) -> Facts:
    nodes = [node(number, process="stopped" if name in down else "running") for number, name in enumerate(NODES)]
    return Facts(now_ns=NOW, nodes=nodes, groups=groups(down), **fields)


def test_a_group_is_out_if_its_own_majority_is() -> None:
    assert [each.leader for each in groups()] == [members[0] for members in PLACED.values()]
    assert not any(each.is_out for each in groups(("node0",)))
    down = ("node0", "node1")
    for each in groups(down):
        assert each.is_out == (len(set(PLACED[each.number]) & set(down)) >= 2)
        assert each.leader == ("" if PLACED[each.number][0] in down else PLACED[each.number][0])


def test_with_all_groups_served_the_line_says_how_many_have_a_leader() -> None:
    shares = [GroupShare(group=group, acknowledged=5) for group in PLACED]
    said = service_status(facts(snapshots=load(groups=shares), silent_s={7: 0.1}))
    assert said.level is Level.SERVING
    assert said.text.endswith("5 of 5 nodes run, all 8 groups have a leader")


def test_groups_that_wait_degrade_the_service_and_are_named() -> None:
    shares = [GroupShare(group=group, silence_ms=420.0 if group in (1, 6) else 0.0) for group in PLACED]
    said = service_status(facts(snapshots=load(groups=shares), silent_s={7: 0.1}))
    assert said.level is Level.DEGRADED
    assert said.text.startswith("groups 1, 6 give no answer for 420 ms")
    assert said.since_ns == NOW - 420_000_000


def test_a_group_without_a_majority_is_told_before_one_without_a_leader() -> None:
    out = [GroupFacts(0, "", 3, 1), GroupFacts(1, "", 3, 2), GroupFacts(2, "node0", 3, 3)]
    texts = [each.text for each in findings_of_groups(out)]
    assert texts == ["group 0 has no majority", "group 1 has no leader"]
    assert not [*findings_of_clients([load(groups=[GroupShare(group=1, silence_ms=100.0)])], [], 150.0)]


def test_groups_that_wait_for_a_silent_node_are_told_with_what_to_do() -> None:
    waiting = [GroupFacts(number, "node0", 3, 3, ("tcp://127.0.0.1:5030",)) for number in (1, 2)]
    (found,) = findings_of_groups([GroupFacts(0, "node0", 3, 3), *waiting])
    assert found.text == "groups 1, 2 wait for a node at 127.0.0.1:5030, which is silent"
    assert found.advice == "start or remove 127.0.0.1:5030"


def test_a_long_wait_of_groups_is_told_with_its_reason() -> None:
    """The line said "give no answer for 18,293 ms", and the reason was hidden in "and two more"."""
    down = ("node0", "node1")
    out = [each.number for each in groups(down) if each.is_out]
    shares = [GroupShare(group=group, silence_ms=18_293.0 if group in out else 0.0) for group in PLACED]
    (found,) = findings_of_clients([load(groups=shares)], groups(down), 150.0)
    assert found.text.endswith("give no answer for 18 s, without a majority")
    (found,) = findings_of_clients([load(groups=shares)], groups(), 150.0)
    assert found.text.endswith("give no answer for 18 s")


def test_only_when_all_groups_are_out_is_the_cluster_out() -> None:
    assert not facts(("node0", "node1")).is_out
    everything = facts(NODES)
    assert everything.is_out
    assert service_status(everything).level is Level.UNSERVED


def test_the_spare_nodes_are_those_of_the_weakest_group() -> None:
    assert facts().spare == 1, "each group has three copies"
    assert facts(("node0",)).spare == 0


# -- tables and words ----------------------------------------------------------------------------------------------


def table() -> StatusTable:
    held = {name: next(group for group, members in PLACED.items() if name in members) for name in NODES}
    states = [NodeState(name, endpoint(name), "running", status_in(name, held[name])) for name in NODES]
    return StatusTable(tuple(states))


def test_the_table_says_who_holds_and_leads_which_group() -> None:
    text = table().text()
    assert "holds" in text
    assert "knows no leader of" in text
    leads = table().leads()
    assert sum(leads.values()) == 8
    assert max(leads.values()) - min(leads.values()) <= 1
    rows = table().group_rows()
    assert [row[0] for row in rows] == list(range(8))
    assert [row[1] for row in rows] == [members[0] for members in PLACED.values()]
    assert [str(row[3]).split(", ") for row in rows] == [sorted(members) for members in PLACED.values()]


def test_of_a_group_that_no_asked_node_holds_the_table_does_not_say_that_it_has_no_leader() -> None:
    alone = StatusTable(table().nodes[:1])
    held = [group for group, members in PLACED.items() if NODES[0] in members]
    leaders = {row[0]: row[1] for row in alone.group_rows()}
    assert [group for group, leader in leaders.items() if leader != "not known"] == held


def test_with_one_group_the_table_is_as_it_was() -> None:
    text = StatusTable((NodeState("node0", "tcp://127.0.0.1:5002", "running", status("node0")),)).text()
    assert "chain hash" in text
    assert "holds" not in text


def test_a_node_is_ready_when_it_knows_a_leader_of_each_of_its_groups() -> None:
    one = status_in("node0", 0)
    assert is_ready(one)
    assert is_ready(status("node0"))
    lost = [msgspec.structs.replace(each, leader_id=0) for each in one.groups[:1]]
    assert not is_ready(msgspec.structs.replace(one, groups=[*lost, *one.groups[1:]]))


def test_an_election_says_of_which_group() -> None:
    (mark,) = (each for each in PLAIN_MARKS if each.kind == EventKind.ELECTED)
    event = Event(time_ns=NOW, node="node1", kind="elected", term=3, group=5)
    assert mark.label_of(event) == "node1 leads, term 3"
    assert mark.label_of(naming_its_group(event)) == "node1 leads, term 3, group 5"
    assert group_named_in(event) == ""
    told = msgspec.structs.replace(event, text="after 0.2 s")
    assert naming_its_group(told).text == "group 5: after 0.2 s"
    as_logged = msgspec.structs.replace(event, text="node1 is leader in term 3 group=5")
    assert naming_its_group(as_logged).text == "group 5: node1 is leader in term 3", "it stood there twice"


def test_states_are_compared_group_by_group() -> None:
    def strip(*hashes: str) -> Any:
        told = [status(f"node{each}", hash_index=256, chain_hash=value) for each, value in enumerate(hashes)]
        return strip_of_statuses(told)

    assert (
        said_of_groups({0: strip("a", "a"), 1: strip("b", "b")}) == "in each of 2 groups the nodes have the same state"
    )
    assert said_of_groups({0: strip("a", "a"), 1: strip("b", "c")}).startswith("in group 1 the nodes have parted")
    assert said_of_groups({0: strip("a", "a"), 1: strip("b")}).startswith("in 1 of 2 groups")


def test_leadership_is_handed_to_a_node_in_the_groups_that_it_holds() -> None:
    """The panel's button was for group 0 alone: with a node that does not hold it, it failed after five seconds."""
    plan = NodePlan(cluster="lab", run_dir=Path(), shards=8)
    found = published()
    feed, fleet = SimpleNamespace(newest=found.newest), SimpleNamespace(plan=plan)
    scaling = Scaling(cast(Any, fleet), cast(Any, feed))
    held = [group for group, members in PLACED.items() if "node0" in members]
    other = next(group for group in PLACED if group not in held)
    assert scaling.to_lead("node0", None) == held
    assert scaling.to_lead("node0", held[1]) == [held[1]]
    with pytest.raises(ClusterError, match=f"node0 holds no replica of group {other}.* group={held[0]} or {held[1]}"):
        scaling.to_lead("node0", other)
    with pytest.raises(SettingsError, match="group is 8"):
        scaling.to_lead("node0", 8)
    fleet.plan = NodePlan(cluster="lab", run_dir=Path())
    assert scaling.to_lead("node0", None) == scaling.to_lead("node0", 0) == [0]


def test_a_node_that_does_not_hold_the_group_is_not_said_to_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """`zmqlab book` with one node of three asked whether it runs, though it had answered."""
    refusal = control.ErrorAnswer(1, control.ErrorCode.NO_GROUP, "not here")
    monkeypatch.setattr(ask, "ask_all", lambda endpoints, *_, **__: dict.fromkeys(endpoints, refusal))
    with pytest.raises(RequestRefused, match=r"tcp://127.0.0.1:5002 does not hold group 2: name all nodes"):
        ask.ask_any(
            ["tcp://127.0.0.1:5002"], lambda: control.StatusQuery(1), control.StatusAnswer, timeout_s=0.05, group=2
        )


def test_no_node_is_started_by_hand_that_would_hold_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was started, and was not taken in until the time was up."""
    few = msgspec.structs.replace(status_in("node0", 0), shards=3, replication_factor=2)
    monkeypatch.setattr(ask, "statuses", lambda *_: {"tcp://127.0.0.1:5002": few})
    with pytest.raises(SettingsError, match="7 nodes are more than the 6 copies of groups"):
        ScalingByHand(["tcp://127.0.0.1:5002"], tmp_path, print).scale(7)


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ({"shards": 0}, "shards"),
        ({"shards": 65}, "shards"),
        ({"shards": 4, "replication_factor": 4}, "replication_factor"),
        ({"replication_factor": 3}, "the one group"),
        ({"shards": 2, "replication_factor": 1}, "2 shards, 1 copy each, are too few for 3 nodes"),
    ],
)
def test_a_cluster_refuses_groups_that_its_nodes_can_not_hold(words: dict[str, Any], wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong):
        Cluster(3, **words)


def test_with_groups_orders_go_to_their_leaders_unless_the_caller_says_otherwise() -> None:
    cluster = Cluster(5, shards=8, replication_factor=3)
    assert LoadClient(cluster).settings.node_choice == "leader"
    assert LoadClient(cluster, node_choice="random").settings.node_choice == "random"
    assert LoadClient(Cluster(3)).settings.node_choice == "random"
