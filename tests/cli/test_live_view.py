"""What a screen says of a run: it fits every size, nothing is broken within a word, and the bars tell the truth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.cli.readings import FIGURES, a_snapshot, some_readings
from tests.lab.test_groups import NODES, PLACED, status_in
from zmqlab.cli.live_view import Columns, NodeRow, Tick, figures_of, node_rows, one_line, screen
from zmqlab.cli.styled_lines import Span, apart, bars, labelled, plain, round_up, shortened, wrapped
from zmqlab.histogram import Histogram
from zmqlab.lab.service_facts import NodeFacts


def shown(width: int, height: int, nodes: int = 3, **other: object) -> list[str]:
    """The lines of a screen, each of which fits."""
    lines = [plain(line) for line in screen(some_readings(nodes, **other), width, height)]
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize("width", [20, 33, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("height", [1, 5, 10, 16, 24, 40, 60])
def test_a_screen_fits_every_size_and_breaks_no_word(width: int, height: int) -> None:
    known = words_in(shown(300, 100, nodes=5)) | {"and", "more", "nodes"}
    assert words_in(shown(width, height, nodes=5)) <= known


def words_in(lines: Sequence[str]) -> set[str]:
    return {word for line in lines for word in re.findall("[A-Za-z]+", line)}


def test_a_terminal_of_80_by_24_shows_all_that_matters() -> None:
    text = "\n".join(shown(80, 24))
    for part in (
        "zmqlab torture  3 nodes, 10,000 orders/s, seed 1",
        "38 of 300 s",
        "● SERVING 10,012/s",
        "orders/s",
        "10,012",
        "acknowledged 381,204, p50 1.9 ms, 2 faults over, last gap 340 ms",
        "so far, of 381,000 orders acknowledged until 1 s ago: 0 lost, 0 twice",
        "node0  leader",
        "node1  dead",
        "node2 leads, term 3",
        "held 2.4 s, longest gap 340 ms",
        "now  kill leader: node0",
        "Ctrl-C ends the faults early",
    ):
        assert part in text, part


def test_fifteen_nodes_leave_room_for_what_happened() -> None:
    text = "\n".join(shown(80, 24, nodes=15))
    assert "and 7 nodes more" in text
    assert "now  kill leader: node0" in text
    assert "node14" in "\n".join(shown(80, 40, nodes=15))


def test_a_narrow_terminal_shows_figures_in_place_of_charts() -> None:
    text = "\n".join(shown(33, 24))
    assert "orders/s  10,012" in text
    assert "gap, ms   6" in text


def test_before_the_load_speaks_the_phase_is_told() -> None:
    lines = shown(80, 24, figures=None, bars=(), nodes=0, ticker=(), doing="starting", clock="", counters=())
    assert lines[0] == "zmqlab torture  0 nodes, 10,000 orders/s, seed 1"
    assert "now  starting" in "\n".join(lines)
    assert "acknowledged" not in "\n".join(lines)


def test_of_what_happened_the_newest_is_shown_last_and_whole() -> None:
    ticks = [Tick(float(number), f"number {number} " + "word " * 30) for number in range(20)]
    lines = shown(80, 24, ticker=ticks, doing="")
    firsts = [line for line in lines if " s  number" in line]
    assert firsts[-1].startswith("  19.0 s  number 19 word")
    assert sum(line.split().count("word") for line in lines) == 30 * len(firsts)


def test_a_dead_node_tells_nothing_and_a_silent_one_what_it_said_last() -> None:
    said = some_readings(3).nodes[0].status
    facts = [
        NodeFacts(name="c", process="stopped", status=said),
        NodeFacts(name="b", process="paused", status=said, silent_s=9.0),
        NodeFacts(name="a", process="unknown", status=said, silent_s=0.1),
        NodeFacts(name="d", process="running", status=said, silent_s=5.0),
        NodeFacts(name="e", process="running"),
    ]
    rows = node_rows(facts)
    assert [(row.name, row.role) for row in rows] == [
        ("a", "leader"),
        ("b", "paused"),
        ("c", "dead"),
        ("d", "silent"),
        ("e", "starting"),
    ]
    assert [row.status for row in rows] == [said, said, None, said, None]


def test_a_line_in_place_of_a_screen() -> None:
    line = one_line(some_readings(3))
    assert "38.2 s     10,012 orders/s  p50    1.90 ms  p99    4.10 ms  acknowledged 381,204" in line
    assert "node0:leader/3 node1:dead node2:follower/3" in line
    assert one_line(some_readings(0, figures=None, doing="starting")) == "starting"


def test_a_line_says_of_several_groups_how_many_each_node_leads() -> None:
    """It called each node the leader, in term 0."""
    rows = [NodeRow(name, "leader", status_in(name, 0)) for name in NODES[:1]]
    led = sum(members[0] == NODES[0] for members in PLACED.values())
    line = one_line(replace(some_readings(0), nodes=rows))
    assert f"node0:leads {led}" in line
    assert "node0:leader" not in line


# -- bars ----------------------------------------------------------------------------------------------------------


def test_a_bar_is_half_a_second_of_all_load_clients() -> None:
    columns = Columns()
    for tenth in range(10):
        columns.take(a_snapshot(100 + tenth / 10, offered=100, acknowledged=100))
        columns.take(a_snapshot(100 + tenth / 10, offered=50, acknowledged=0, gap_ms=tenth * 100.0, name="other"))
    first, *more = columns.bars
    assert not more, "the second one is not complete"
    assert first is not None
    assert (first.offered, first.acknowledged, first.gap_ms) == (1_500, 1_000, 400)
    assert first.p99_ms == pytest.approx(2.0, rel=0.02)


def test_a_time_in_which_no_client_speaks_is_no_bar_of_zero() -> None:
    columns = Columns()
    columns.take(a_snapshot(100.0, 10, 10))
    columns.take(a_snapshot(102.0, 10, 0))
    columns.take(a_snapshot(102.6, 10, 10))
    first, *unknown, zero = columns.bars
    assert first is not None
    assert unknown == [None] * 3
    assert zero is not None
    assert zero.acknowledged == 0


def test_the_figures_of_two_clients_are_added_and_their_times_merged() -> None:
    one = [a_snapshot(100.0, 100, 100)]
    assert figures_of({}) is None
    both = figures_of({"a": one, "b": [a_snapshot(100.0, 50, 40, name="b")]})
    assert both is not None
    assert (both.rate, both.acknowledged) == (1_400, 140)
    assert both.p99_ms == pytest.approx(2.0, rel=0.02)


def test_a_client_that_has_ended_counts_in_the_totals_alone() -> None:
    ended = a_snapshot(90.0, 900, 900, name="a")
    ended.state, slow = "ended", Histogram()
    slow.record_many([900_000_000] * 900)
    ended.response_time, ended.response_time_max_ns = slow.to_sparse(), slow.max
    figures = figures_of({"a": [ended], "b": [a_snapshot(100.0, 50, 40, name="b")]})
    assert figures is not None
    assert (figures.state, figures.rate, figures.acknowledged) == ("running", 400, 940)
    assert figures.p99_ms == pytest.approx(2.0, rel=0.02)
    over = figures_of({"a": [ended], "b": [ended]})
    assert over is not None
    assert (over.state, over.rate) == ("ended", 18_000), "the last second of the run"


def test_bars_have_a_height_for_every_value() -> None:
    assert bars([None, 0, 1, 50, 100, 300], 100, 8) == ["   ·▁▄██"]
    assert bars([100, 50, 0], 100, 3, height=2) == ["█  ", "██·"]
    assert bars([1, 2, 3], 3, 2) == ["▅█"], "the newest are kept"
    assert bars([5], 0, 1) == ["▁"]


def test_a_burst_does_not_flatten_what_was_before_it() -> None:
    """The axis follows the offered rate. Four times as much was acknowledged at once."""
    (line,) = [line for line in shown(80, 24, nodes=9) if line.startswith("orders/s")]
    drawn = line[19 : 19 + 51]
    assert "··█ " in drawn
    assert drawn.count("▅") > 40


def test_a_gap_has_the_colour_of_its_own_length() -> None:
    (line,) = [line for line in screen(some_readings(9), 80, 24) if line and line[0].text.startswith("gap")]
    assert [(len(span.text), span.style) for span in line[2:-1]] == [(41, "chart"), (3, "warn"), (7, "chart")]


def test_what_was_not_measured_is_a_dash() -> None:
    silent = FIGURES._replace(rate=0.0, p50_ms=0.0, p99_ms=0.0)
    text = "\n".join(shown(80, 24, figures=silent))
    assert "p50 -, " in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("p99, ms")] == ["-"]


@pytest.mark.parametrize(("value", "end"), [(0, 1), (1, 1), (1.01, 1.5), (12_000, 15_000), (60, 60), (99, 100)])
def test_an_axis_ends_at_a_round_number(value: float, end: float) -> None:
    assert round_up(value) == pytest.approx(end)


# -- texts ---------------------------------------------------------------------------------------------------------


def test_texts_are_cut_and_wrapped_between_words() -> None:
    assert shortened("one two three", 13) == "one two three"
    assert shortened("one two three", 12) == "one two …"
    assert shortened("one two three", 9) == "one two …"
    assert shortened("one two three", 8) == "one …"
    assert shortened("unbreakable", 6) == "unbre…"
    assert wrapped("one two three four five", 14, hang=2) == ["one two three", "  four five"]
    assert [plain(line) for line in labelled(Span("name"), Span("some words that are long"), 30, 15)] == [
        "name           some words that",
        "               are long",
    ]
    assert [plain(line) for line in labelled(Span("name"), Span("some more words"), 15, 10)] == [
        "name some more",
        "  words",
    ]


def test_what_does_not_fit_beside_the_clock_is_left_out() -> None:
    left = [Span("command"), Span("about it")]
    assert plain(apart(left, Span("9 s"), 30)) == "command  about it          9 s"
    assert plain(apart(left, Span("9 s"), 15)) == "command     9 s"
    assert plain(apart(left, Span("9 s"), 5)) == "9 s"
