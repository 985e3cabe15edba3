"""The consistency strip: it is red from the first checkpoint that differs on, and never says what no node has told."""

from __future__ import annotations

import msgspec

from tests.wire.test_control import STATUS
from zmqlab.judge.log_differences import Parting
from zmqlab.judge.replay import LogEntry
from zmqlab.lab.consistency import COLUMNS, Cell, Strip, strip_of, strip_of_statuses
from zmqlab.wire.node_status import NodeStatus

NODES = ("node0", "node1", "node2")


def status(name: str, applied: int, hash_index: int = 0, chain: str = "") -> NodeStatus:
    return msgspec.structs.replace(STATUS, name=name, applied_index=applied, hash_index=hash_index, chain_hash=chain)


def strip(checkpoints: dict[int, str], applied: int = 1_100, nodes: tuple[str, ...] = NODES) -> Strip:
    """``checkpoints``: log index -> a letter for each node's hash, ``-`` for one that told nothing."""
    told = {
        index: {name: letter for name, letter in zip(nodes, letters, strict=True) if letter != "-"}
        for index, letters in checkpoints.items()
    }
    return strip_of(nodes, {name: status(name, applied) for name in nodes}, told)


def signs(shown: Strip) -> list[str]:
    return repr(shown).splitlines()[1:]


def test_nodes_that_agree() -> None:
    shown = strip({256: "aaa", 512: "bbb", 768: "ccc"})
    assert shown.agrees is True
    assert shown.said == "all 3 nodes have the same state at index 768"
    assert signs(shown) == ["node0  ===", "node1  ===", "node2  ==="]


def test_a_node_that_parts_is_red_from_there_on() -> None:
    shown = strip({256: "aaa", 512: "bbx", 768: "ccy"})
    assert shown.agrees is False
    assert (shown.agreed_index, shown.parted_index) == (256, 512)
    assert shown.said == "the nodes have parted after index 256, and at 512 or before: there their hashes differ"
    assert signs(shown) == ["node0  ===", "node1  ===", "node2  =XX"]


def test_without_a_largest_group_no_node_is_called_right() -> None:
    assert signs(strip({256: "aaa", 512: "bcd"})) == ["node0  =X", "node1  =X", "node2  =X"]
    assert signs(strip({256: "ab"}, nodes=NODES[:2])) == ["node0  X", "node1  X"]


def test_a_node_that_told_nothing_is_not_judged() -> None:
    shown = strip({256: "aaa", 512: "b-b"})
    assert shown.rows[1].cells == (Cell.SAME, Cell.UNKNOWN)
    assert shown.said == "all 3 nodes have the same state at index 256", "the one that most nodes told of"
    assert strip({256: "aa-"}).said == "2 of 3 nodes have the same state at index 256"
    behind = strip_of(
        NODES, {"node1": status("node1", 300)}, {256: dict.fromkeys(NODES, "a"), 512: {"node0": "b", "node2": "b"}}
    )
    assert behind.rows[1].cells == (Cell.SAME, Cell.BEHIND)
    assert [row.applied_index for row in behind.rows] == [None, 300, None]


def test_a_node_that_was_away_is_not_said_to_have_agreed_in_between() -> None:
    """node2 told nothing of 512: it may have parted before it."""
    shown = strip({256: "aaa", 512: "bb-", 768: "ccx"})
    assert (shown.agreed_index, shown.parted_index) == (256, 768)


def test_nothing_is_known_before_two_nodes_told_of_one_checkpoint() -> None:
    for checkpoints in ({}, {256: "a--", 512: "-b-"}):
        shown = strip(checkpoints)
        assert shown.agrees is None
        assert shown.said.startswith("not known whether the nodes agree")
        assert shown.columns == ()


def test_the_strip_is_as_long_as_fits_and_remembers_what_parted_before() -> None:
    letters = {256 * number: "aax" if number > 3 else "aaa" for number in range(1, 60)}
    shown = strip(letters, applied=20_000)
    assert len(shown.columns) == COLUMNS
    assert shown.parted_index == 1_024
    assert set(shown.rows[2].cells) == {Cell.DIFFERS}


def test_the_logs_say_the_index() -> None:
    parting = Parting(300, {"node0": LogEntry(300, 1, 0, b""), "node2": LogEntry(300, 2, 0, b"")})
    shown = strip({256: "aaa", 512: "bbx"})._replace(parting=parting)
    assert "the logs differ from index 300 on: there node0 has no-op of term 1, node2 has no-op of term 2" in shown.said
    assert "<pre>" in shown._repr_html_()
    assert "300" in shown._repr_html_()


def test_nodes_that_part_later_than_a_dead_one_did_are_told_apart() -> None:
    """A killed node differed at 256, and its log can't be read. The line called 298 the first index that differs."""
    parting = Parting(298, {"node0": LogEntry(298, 1, 0, b""), "node1": LogEntry(298, 2, 0, b"")})
    shown = strip({256: "aab"})._replace(parting=parting)
    assert shown.said.startswith("the nodes have parted at 256 or before: there their hashes differ; of the nodes that")
    assert "answer now, the logs differ from index 298 on: there node0 has no-op of term 1" in shown.said


def test_a_single_look_compares_what_stands_at_one_index() -> None:
    agree = [status(name, 600, 512, "a") for name in NODES]
    assert strip_of_statuses(agree).said == "all 3 nodes have the same state at index 512"
    agree[1] = status("node1", 800, 768, "b")
    assert strip_of_statuses(agree).said == "2 of 3 nodes have the same state at index 512"
    agree[1] = status("node1", 600, 512, "b")
    assert strip_of_statuses(agree).agrees is False
    assert strip_of_statuses([status("node0", 10), status("node1", 10)]).agrees is None
