"""What the panel's rows say of several Raft groups: the stack of leaders, and by how much a node is behind."""

from __future__ import annotations

from tests.lab.test_groups import NODES, PLACED, published
from zmqlab.widgets.group_readings import GroupReadings
from zmqlab.widgets.marks import moments_of
from zmqlab.widgets.readings import COLUMNS
from zmqlab.wire.control import Event

MS = 1_000_000
SLOTS = {name: slot for slot, name in enumerate(NODES)}


def readings(fresh: tuple[str, ...] = NODES) -> GroupReadings:
    told = published()
    return GroupReadings.of({group: told.newest(group) for group in PLACED}, fresh)


def test_the_stack_is_as_high_as_there_are_groups_with_a_leader() -> None:
    row = readings().columns(SLOTS)
    assert row["lead_low0"] == 0
    for slot in range(len(NODES) - 1):
        assert row[f"lead_top{slot}"] == row[f"lead_low{slot + 1}"]
    assert row["lead_top4"] == 8
    assert set(row) <= set(COLUMNS)
    without = readings(NODES[1:])
    led = sum(members[0] == "node0" for members in PLACED.values())
    assert without.columns(SLOTS)["lead_top4"] == 8 - led > 0
    assert "no leader: group" in without.said()


def test_a_node_is_as_far_behind_as_in_the_group_where_it_is_most() -> None:
    told = published()
    group = next(number for number, members in PLACED.items() if "node4" in members)
    told.newest(group)["node4"].applied_index = 2
    told.newest(group)["node4"].commit_index = 5
    found = GroupReadings.of({each: told.newest(each) for each in PLACED}, NODES)
    assert found.behind("node4") == (4, 7)
    assert found.behind("node0") == (0, 0)
    assert found.rows[group].lags["node4"] == 7


def elected(at_ms: int, group: int, text: str) -> Event:
    return Event(time_ns=at_ms * MS, node="node1", kind="elected", term=2, group=group, text=text)


def test_elections_of_several_groups_are_one_line() -> None:
    together = [elected(1_000 + 50 * group, group, f"group {group}") for group in range(3)]
    later = elected(9_000, 3, "group 3")
    assert [each.label for each in moments_of([*together, later])] == ["3 groups elect", "node1 leads, term 2, group 3"]
    assert len(moments_of([elected(1_000, 0, ""), elected(1_050, 0, "")])) == 2, "with one group each has its line"
