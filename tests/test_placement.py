"""Symbols spread over groups, groups over nodes, and little moves when nodes come and go."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from zmqlab.placement import LEFT_MAX, PARTING_MAX, Gone, Roster, follow, group_of, place

SIZES = [
    (nodes, shards, copies) for nodes in range(1, 10) for shards in (1, 2, 3, 7, 8, 16) for copies in (0, 1, 2, 3, 5)
]


def names(count: int) -> list[str]:
    return [f"node{number}" for number in range(count)]


def spread(counts: Counter[str], nodes: list[str]) -> int:
    found = [counts[node] for node in nodes]
    return max(found) - min(found)


def expect_balanced(placement: dict[int, tuple[str, ...]], nodes: list[str], copies: int) -> None:
    assert {len(set(members)) for members in placement.values()} == {min(copies or len(nodes), len(nodes))}
    assert spread(Counter(node for members in placement.values() for node in members), nodes) <= 1
    assert spread(Counter(members[0] for members in placement.values()), nodes) <= 1


def test_a_symbol_has_one_group_in_every_process() -> None:
    assert [group_of(symbol, 8) for symbol in ("SYM00", "SYM01", "SYM02", "AAPL", "X")] == [3, 2, 4, 1, 2]
    code = "from zmqlab.placement import group_of; print([group_of(f'SYM{n:02}', 8) for n in range(50)])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert eval(told) == [group_of(f"SYM{number:02}", 8) for number in range(50)]


@pytest.mark.parametrize("shards", [2, 3, 8, 16])
def test_symbols_that_count_up_spread_well(shards: int) -> None:
    counts = Counter(group_of(f"SYM{number:03}", shards) for number in range(1_000))
    assert set(counts) == set(range(shards))
    mean = 1_000 / shards
    assert max(abs(count - mean) for count in counts.values()) < 4 * mean**0.5


def test_one_shard_takes_every_symbol_on_every_node() -> None:
    assert {group_of(symbol, 1) for symbol in ("A", "B", "ZZZZZZZZ")} == {0}
    assert place(names(3), 1) == {0: ("node0", "node1", "node2")}


@pytest.mark.parametrize(("nodes", "shards", "copies"), SIZES)
def test_a_placement_is_balanced_to_within_one(nodes: int, shards: int, copies: int) -> None:
    expect_balanced(place(names(nodes), shards, copies), names(nodes), copies)


@pytest.mark.parametrize(("nodes", "shards", "copies"), [size for size in SIZES if size[0] > 1])
def test_it_stays_balanced_as_nodes_come_and_go(nodes: int, shards: int, copies: int) -> None:
    everyone = names(nodes)
    steps = [everyone, everyone[1:], [*everyone[1:], "late"], ["late", *everyone[2:]], everyone]
    placement = place(everyone, shards, copies)
    for before, after in pairwise(steps):
        moved = follow(placement, after, copies)
        expect_balanced(moved, after, copies)
        gone, new = set(before) - set(after), set(after) - set(before)
        held = sum(node in gone for members in placement.values() for node in members)
        taken = sum(len(set(moved[group]) - set(placement[group])) for group in placement)
        room = sum(node in new for members in moved.values() for node in members)
        assert taken <= held + room + len(after), "copies were made that no balance needs"
        placement = moved


def test_nothing_moves_while_the_nodes_stay() -> None:
    placement = place(names(5), 8, 3)
    assert follow(placement, names(5), 3) == placement


def test_the_groups_of_a_dead_node_are_spread_over_all_others() -> None:
    placement = place(names(6), 12, 3)
    partners = {other for members in placement.values() if "node0" in members for other in members}
    assert partners == set(names(6))


def endpoints(count: int) -> list[str]:
    return [f"tcp://127.0.0.1:{5_000 + 10 * number}" for number in range(count)]


def test_a_roster_survives_its_bytes_and_follows_from_the_one_before() -> None:
    first = Roster.of_founders(endpoints(3), 4, 3)
    second = first.with_node(endpoints(4)[3], 3)
    third = second.without_node(endpoints(1)[0], 3)
    for roster in (first, second, third):
        assert Roster.decode(roster.encode()) == roster
        expect_balanced(dict(enumerate(roster.groups)), list(roster.nodes), 3)
    assert [roster.version for roster in (first, second, third)] == [0, 1, 2]
    assert third.parting == (endpoints(1)[0],)
    assert set(third.places) == set(endpoints(4))
    assert third.with_node(endpoints(1)[0], 3).parting == ()


def test_a_node_that_moves_keeps_its_place_and_one_that_was_there_has_the_other() -> None:
    ids = {at: 70 + number for number, at in enumerate(endpoints(5))}
    roster = Roster.of_founders(endpoints(5), 6, 3, ids)
    away = roster.moved(71, "tcp://10.0.0.1:5000")
    assert (away.version, away.address_of(71)) == (1, "tcp://10.0.0.1:5000")
    assert away.held_by("tcp://10.0.0.1:5000") == roster.held_by(endpoints(5)[1])
    assert len(away.nodes) == 5
    exchanged = roster.moved(71, endpoints(5)[3])
    assert exchanged.held_by(endpoints(5)[3]) == roster.held_by(endpoints(5)[1])
    assert exchanged.held_by(endpoints(5)[1]) == roster.held_by(endpoints(5)[3])
    assert (exchanged.address_of(71), exchanged.address_of(73)) == (endpoints(5)[3], endpoints(5)[1])
    again = away.identified(99, endpoints(5)[0])
    assert (again.address_of(99), again.address_of(70)) == (endpoints(5)[0], "")
    assert again.groups == away.groups
    for each in (away, exchanged, again, again.with_node(endpoints(6)[5], 3, 88), again.with_node(endpoints(6)[5], 3)):
        assert Roster.decode(each.encode()) == each


def test_a_node_that_left_is_known_where_it_is_and_not_where_its_place_was() -> None:
    """Seed 109: nodes stayed connected to an address at which none was, and not to the node that had to close."""
    roster = Roster.of_founders(endpoints(5), 6, 3)
    assert roster.without_node(endpoints(5)[1], 3, "tcp://10.0.0.1:5000").parting == ("tcp://10.0.0.1:5000",)
    assert roster.without_node(endpoints(5)[1], 3, endpoints(5)[2]).parting == (), (
        "another one's place: it is told there"
    )


def test_a_roster_knows_who_was_let_go_until_they_come_back() -> None:
    ids = {at: 70 + number for number, at in enumerate(endpoints(5))}
    roster = Roster.of_founders(endpoints(5), 6, 3, ids)
    left = roster.without_node(endpoints(5)[1], 3)
    assert left.left == (Gone(71),)
    taken = left.moved(74, endpoints(5)[1])
    assert taken.left == (Gone(71),), "another one is at its place now"
    assert [taken.place_of(each, endpoints(5)[1]) for each in (71, 74, 99)] == ["", endpoints(5)[1], endpoints(5)[1]]
    assert left.with_node(endpoints(6)[5], 3, 71).left == (), "it is back, elsewhere"
    assert left.identified(71, endpoints(5)[2]).left == (), "it has taken the place of one that lost its disk"
    assert roster.moved(71, endpoints(5)[3]).left == ()
    assert roster.identified(99, endpoints(5)[1]).left == (), "the other one has lost its disk"
    assert Roster.of_founders(endpoints(5), 6, 3).without_node(endpoints(5)[1], 3).left == (), "no identity is known"
    for each in (left, taken, left.without_node(endpoints(5)[0], 3)):
        assert Roster.decode(each.encode()) == each


def test_a_roster_knows_in_which_life_a_node_asked_to_be_let_go() -> None:
    ids = {at: 70 + number for number, at in enumerate(endpoints(5))}
    roster = Roster.of_founders(endpoints(5), 6, 3, ids)
    left = roster.without_node(endpoints(5)[1], 3, life=4).without_node(endpoints(5)[2], 3)
    assert left.left == (Gone(71, 4), Gone(72, 0))
    assert [left.last_life_of(each) for each in (71, 72, 73)] == [4, 0, 0]
    assert [left.has_left(each) for each in (71, 72, 73)] == [True, True, False]
    assert Roster.decode(left.encode()) == left
    for wrong in ("[71,-4]", "[71,4.0]", "[71]", "71", "[71,4,0]", "[0,4]"):
        with pytest.raises(ValueError, match="are no roster"):
            Roster.decode(left.encode().replace(b"[71,4]", wrong.encode()))


def test_a_person_can_have_a_node_removed_that_has_asked_for_that_itself() -> None:
    ids = {at: 70 + number for number, at in enumerate(endpoints(5))}
    left = Roster.of_founders(endpoints(5), 6, 3, ids).without_node(endpoints(5)[1], 3, life=4)
    removed = left.without_return(71)
    assert removed.left == (Gone(71),)
    assert removed._replace(left=left.left, version=left.version) == left


def test_a_roster_knows_as_many_that_left_as_will_be_asked_for() -> None:
    roster = Roster.of_founders(endpoints(1), 4, 3, {endpoints(1)[0]: 7})
    for number in range(100, 200):
        roster = roster.with_node(endpoints(2)[1], 3, number).without_node(endpoints(2)[1], 3)
    assert [each.node_id for each in roster.left] == list(range(200 - LEFT_MAX, 200))
    assert Roster.decode(roster.encode()) == roster


def test_a_roster_without_identities_is_spelled_as_it_always_was() -> None:
    roster = Roster.of_founders(endpoints(2), 1, 1).with_node(endpoints(3)[2], 1)
    data = roster.encode()
    assert data.count(b"[") == 5
    assert Roster.decode(data) == roster


def test_a_roster_knows_the_last_nodes_that_left() -> None:
    roster = Roster.of_founders(endpoints(9), 8, 3)
    for gone in endpoints(6):
        roster = roster.without_node(gone, 3)
    assert roster.parting == tuple(endpoints(6)[-PARTING_MAX:])


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", b"[]", b"[1,2,3,4]", b'[1,["host:1"],[[0]],[]]', b'[-1,["tcp://1.2.3.4:5"],[[0]],[]]'),
        *(
            b'[1,{"tcp://1.2.3.4:5":5},[["tcp://1.2.3.4:5"]],[]]',
            b"[7,[],[[],[]],[]]",
            b'[1,["tcp://1.2.3.4:5"],[[]],[]]',
        ),
        *(
            b'[true,["tcp://1.2.3.4:5"],[[0]],[]]',
            b'[1,["tcp://1.2.3.4:5"],[[-1]],[]]',
            b'[1,["tcp://1.2.3.4:5"],[],[]]',
        ),
        *(b'[1,["tcp://1.2.3.4:5"],[[0]],[],[7,8]]', b'[1,["tcp://1.2.3.4:5"],[[0]],[],[-7]]'),
        *(b'[1,["tcp://1.2.3.4:5"],[[0]],[],[]]', b'[1,["tcp://1.2.3.4:5"],[[0]],[],[7],[[7,0]]]'),
        *(b'[1,["tcp://1.2.3.4:5"],[[0]],[],[7],[]]', b'[1,["tcp://1.2.3.4:5"],[[0]],[],[7],[[8,0],[8,0]]]'),
        *(b'[1,["tcp://1.2.3.4:5"],[[0]],[],[7],[[0,0]]]', b'[1,["tcp://1.2.3.4:5"],[[0]],[],[7],[["8",0]]]'),
        *(b'[1,["tcp://1.2.3.4:5"],[[0]],[],[7],[[8,0]],[9]]', b'[1,["tcp://1.2.3.4:5"],[[0]],[],[],[[-8,0]]]'),
        b'[1,["tcp://1.2.3.4:5"],[[0]],[],[7],[%s]]' % b",".join(b"[%d,0]" % each for each in range(8, 73)),
        *(b'[1,["tcp://1.2.3.4:5"],[[0,0]],[]]', b'[1,["tcp://1.2.3.4:6","tcp://1.2.3.4:5"],[[0]],[]]'),
        b"[1,[%s],[[0]],[]]" % b",".join(b'"tcp://1.2.3.4:%d"' % port for port in range(5_000, 5_016)),
        *(b'[1,["tcp://1.2.3.4:5"],[[7]],[]]', b'[1,["tcp://1.2.3.4:5"],[[0]],["x"]]', b"\xff", b"[" * 9_000),
        b'[0,{"x":1},[[0]],[]]',
    ],
)
def test_bytes_that_are_no_roster(data: bytes) -> None:
    with pytest.raises(ValueError, match="are no roster"):
        Roster.decode(data)
