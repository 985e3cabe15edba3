"""Diagrams of real frames: an order and an election as pictures, kept with a run and shown in its report."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.lab.test_sampled_traces import MS, Told
from tests.runs.recorded import START_NS, judged_run
from tests.runs.test_run_pages import LAYOUT
from tests.widgets.browser import CHROMIUM, FLAGS
from zmqlab import Run
from zmqlab.lab.traced_parts import Part
from zmqlab.runs.run_pages import run_page
from zmqlab.runs.trace_diagrams import Diagram, diagrams_page
from zmqlab.wire.control import Event


@pytest.fixture
def told() -> Told:
    told = Told()
    told.order(1, 2.0)
    told.election(5, start_ms=100)
    return told


def killed(part: Part, before_ms: float = 20.0) -> Event:
    time_ns = part.start_wall_ns - round(before_ms * MS)
    return Event(time_ns=time_ns, node="node0", kind="killed", text="node0 is killed")


def shown(page: str, style: str) -> int:
    """How many marks of a kind the first of the two widths has."""
    return page.split('class="w700')[0].count(f'class="{style}"')


def test_an_order_is_drawn_with_its_way_and_its_time(told: Told) -> None:
    diagram = Diagram.of_request(told.traces)
    page = diagram.figure()
    for words in (
        "Request 1 of client 9, entry 11 of the log",
        "The client sends it to node0.",
        "node0 has it in its journal.",
        "node0 knows that enough nodes have it.",
        "node0 answers.",
        "The client has its answer: 2.00\N{NO-BREAK SPACE}ms.",
        "append entries from node0 to node1, term 4, entries 11 to 11",
        "100 us under way",
        "0 \N{MICRO SIGN}s</text>",
    ):
        assert words in page, words
    assert shown(page, "did") == shown(page, "did committed") == shown(page, "did applied") == 1
    assert shown(page, "life leads") == 1, "the node whose log it is"


def test_a_message_of_which_no_arrival_is_known_ends_in_a_question_mark(told: Told) -> None:
    page = Diagram.of_request(told.traces).figure()
    assert shown(page, "flight unknown") == 1, "the append to node2"
    assert shown(page, "flight lost") == 0
    assert "whether it arrived is not known" in page


def test_an_election_begins_with_the_kill_and_the_dead_hear_nothing(told: Told) -> None:
    part = told.traces.election()
    late = killed(part, before_ms=-90_000)
    diagram = Diagram(part, [killed(part), late])
    page = diagram.figure()
    for words in (
        "Election of node1 in term 5",
        "node0 is killed",
        "node1 misses its leader, and asks",
        "node2 gives node1 its vote.",
        "node1 leads term 5: a majority has",
        "leads term 5</text>",
        ">killed</text>",
        "20.0 ms</text>",
    ):
        assert words in page, words
    assert shown(page, "life down") == 1
    assert shown(page, "flight unknown") == 0, "what is sent to node0 is known to be lost"
    assert page.count("node0 is killed") == 2, "once in each width, and not the later one"


def test_it_reads_as_a_list_in_a_terminal(told: Told) -> None:
    lines = repr(Diagram.of_request(told.traces)).splitlines()
    assert lines[0] == "Request 1 of client 9, entry 11 of the log"
    times = [int(line.split()[0].replace(",", "")) for line in lines[2:]]
    assert times == sorted(times)
    assert "node0 has applied entry 11" in "\n".join(lines)


def test_a_notebook_shows_it_and_a_page_opens_offline(told: Told, tmp_path: Path) -> None:
    diagram = Diagram.of_election(told.traces)
    assert "<svg" in diagram._repr_html_()
    page = diagram.save(tmp_path / "election.html").read_text()
    assert page.startswith("<!doctype html>")
    assert not re.search(r"(src|href)=|@import|url\(|<script", page)


def test_names_from_the_wire_are_escaped(told: Told) -> None:
    part = replace(told.traces.election(), title="<b>", names=((1, "<i>"), (2, "<i>"), (3, "node2")))
    assert "<b>" not in Diagram(part)._repr_html_().replace("<figcaption><b>", "")
    assert "<i>" not in Diagram(part)._repr_html_()


def test_a_kept_run_keeps_what_was_traced_and_its_report_shows_it(told: Told, tmp_path: Path) -> None:
    parts = [told.traces.request(), told.traces.election()]
    parts = [replace(each, start_wall_ns=START_NS + 1_000 * MS) for each in parts]
    run = Run.keep(replace(judged_run(), traced=parts), tmp_path, "traced")
    again = Run.read(run.folder).repetitions[0].traced
    assert again == parts
    page = run_page(run)
    assert "The slowest traced request" in page
    assert "<summary>Election of node1 in term 5</summary>" in page
    untraced = Run.keep(judged_run(), tmp_path, "untraced")
    assert untraced.repetitions[0].traced == []
    assert "traced request" not in run_page(untraced)


@pytest.mark.process
def test_nothing_is_cut_off_and_nothing_covers_another(told: Told, tmp_path: Path) -> None:
    part = told.traces.election()
    file = tmp_path / "both.html"
    file.write_text(diagrams_page([Diagram.of_request(told.traces), Diagram(part, [killed(part)])], "Both"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for width in (1280, 800):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(file.as_uri())
            assert page.evaluate(LAYOUT) == []
        browser.close()
