"""Events become marks and bands; labels don't cover each other."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import pytest

from zmqlab.lab.incidents import is_fault
from zmqlab.widgets import marks
from zmqlab.widgets.marks import (
    CHARACTER_SHARE,
    LANES,
    clock_ms,
    lanes_of,
    mark_columns,
    moments_of,
    stretches_of,
)
from zmqlab.widgets.palette import ELECTION_COLOUR, FAULT_COLOUR
from zmqlab.wire.control import Event

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def event(at_s: float, kind: str, node: str = "node1", term: int = 0, text: str = "") -> Event:
    return Event(time_ns=START + round(at_s * SECOND), node=node, kind=kind, term=term, text=text)


def test_what_is_marked() -> None:
    marks = moments_of([event(0, "killed"), event(0.2, "role"), event(0.3, "elected", "node2", 4)])
    assert [(mark.label, mark.colour) for mark in marks] == [
        ("node1 killed", FAULT_COLOUR),
        ("node2 leads, term 4", ELECTION_COLOUR),
    ]
    assert marks[0].at_ms == clock_ms(START), "at the moment when it happened"


@pytest.mark.parametrize("window_ms", [30_000, 120_000])
def test_labels_of_one_lane_do_not_touch(window_ms: float) -> None:
    marks = moments_of([event(step * 0.7, "killed" if step % 2 else "restarted", f"node{step}") for step in range(40)])
    lanes = lanes_of(marks, window_ms)
    for lane in range(LANES):
        row = [mark for mark, own in zip(marks, lanes, strict=True) if own == lane]
        for before, after in pairwise(row):
            assert after.at_ms - before.at_ms >= len(after.label) * CHARACTER_SHARE * window_ms
    labels = mark_columns(marks, window_ms)["label"]
    assert [bool(label) for label in labels] == [lane < LANES for lane in lanes]
    assert LANES in lanes, "a full house: an old line stands without its label"
    assert LANES not in lanes[-LANES:], "the newest marks have their labels"


def test_events_may_come_in_any_order() -> None:
    events = [event(2, "restarted"), event(0, "killed")]
    assert [mark.label for mark in moments_of(events)] == ["node1 killed", "node1 restarted"]


def test_a_pause_is_a_band_until_it_ends() -> None:
    (band,) = stretches_of([event(0, "paused")])
    assert band.end_ms is None
    (band,) = stretches_of([event(0, "paused"), event(3, "resumed")])
    assert band.end_ms == clock_ms(START + 3 * SECOND)
    (band,) = stretches_of([event(0, "paused"), event(1, "killed"), event(3, "restarted")])
    assert band.end_ms == clock_ms(START + SECOND)


def test_cut_links_are_one_band_until_the_last_is_whole() -> None:
    cuts = [event(0, "cut", text="node0 -> node1: cut"), event(1, "cut", "node2", text="node0 -> node2: cut")]
    one_left = [*cuts, event(2, "healed", text="node0 -> node1: whole")]
    assert [band.end_ms for band in stretches_of(one_left)] == [None]
    whole = [*one_left, event(3, "healed", "node2", text="node0 -> node2: whole")]
    assert [band.end_ms for band in stretches_of(whole)] == [clock_ms(START + 3 * SECOND)]
    healed = [event(0, "partitioned", ""), *cuts, event(4, "healed", "", text="all links are whole")]
    assert [band.end_ms for band in stretches_of(healed)] == [clock_ms(START + 4 * SECOND)]


def test_a_link_is_named_by_its_ends() -> None:
    (mark,) = moments_of([event(0, "cut", text="node0 -> node1: cut")])
    assert mark.label == "node0 → node1 cut"


def test_which_kinds_are_faults() -> None:
    assert all(is_fault(event(0, kind)) for kind in ("killed", "died", "paused", "partitioned", "hash_mismatch"))
    assert not any(is_fault(event(0, kind)) for kind in ("elected", "restarted", "healed", "promoted"))


def test_no_other_module_asks_for_an_events_kind() -> None:
    """A new kind of event or fault is a change of one module of the panel."""
    readers = {
        path.name
        for path in Path(marks.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "kind"
    }
    assert readers == {"marks.py", "travelling_messages.py"}, "the latter asks for the kind of a message"


def test_a_narrow_figure_leaves_out_labels_that_would_cover_newer_ones() -> None:
    """On a stage above a notebook's text two texts stood on each other in one lane, and four lanes hid the curve."""
    pytest.importorskip("playwright", reason="playwright brings Node.js along: pip install 'zmqlab[lab,test]'")
    from tests.widgets.javascript import JavaScript

    columns = {
        "t": [1_000, 3_000, 3_100, 4_000],
        "y": [0, -1, -2, 0],
        "label": ["old one", "second", "third", "newest"],
    }
    js = JavaScript("mark_labels.js")
    try:
        labels = "roomy(marks, pxPerMs, heightPx, 12, (text) => 6 * text.length).label"
        assert js(labels, marks=columns, pxPerMs=0.1, heightPx=200) == columns["label"]
        assert js(labels, marks=columns, pxPerMs=0.01, heightPx=200) == ["", "second", "third", "newest"]
        assert js(labels, marks=columns, pxPerMs=0.1, heightPx=60) == ["old one", "second", "", "newest"]
        assert js(labels, marks=columns, pxPerMs=0.1, heightPx=5) == ["old one", "", "", "newest"], "never none at all"
        assert js("lit('#CF222E')") == "#e5858c", "as text on a dark page, where it was hardly to be read"
        cut = labels.replace("text.length)", "text.length, 3000 - 100)")
        assert js(cut, marks=columns, pxPerMs=0.1, heightPx=200) == ["", "", "", "newest"], (
            "the edge would cut them off"
        )
    finally:
        js.close()


def test_a_gap_after_the_first_answers_is_not_told_as_the_wait_for_the_first_one() -> None:
    """A leader was elected after 70 ms and answered; a pause from 260 to 390 ms was shown as no answer since 70 ms."""
    pytest.importorskip("playwright", reason="playwright brings Node.js along: pip install 'zmqlab[lab,test]'")
    from tests.widgets.javascript import JavaScript

    js = JavaScript("film_strip.js")
    film = {"noticed_ms": 54, "elected_ms": 70, "silent_ms": 260, "answered_ms": 390, "done_ms": 415}
    phases = "phasesOf(film).map((each) => [each.name, each.from, each.to])"
    try:
        told = js(phases, film=film)
        assert told[1:3] == [["elected", 54, 70], ["answers again", 260, 390]]
        told = js(phases, film=film | {"silent_ms": 10})
        assert told[2] == ["first answer", 70, 390], "no answer had come since the fault"
        assert len(js(phases, film=film | {"silent_ms": None, "answered_ms": None, "done_ms": None})) == 2
        quick = {"noticed_ms": 215, "elected_ms": 224, "silent_ms": 0, "answered_ms": 220, "done_ms": 220}
        told = js(phases, film=quick)
        assert told[2:] == [["first answer", 224, 224], ["backlog done", 224, 224]], "answers are known to 10 ms only"
    finally:
        js.close()
