"""A simulated run as a picture: what is shown of it, and that each arrow and each mark is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from zmqlab.cli import run as zmqlab
from zmqlab.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, SettingsError
from zmqlab.runs.lamport import FRAMES, FRAMES_MAX, _drawing, diagram_page, stretch_of
from zmqlab.sim import SimSettings, run

SIGNS_OF_GROUPS = ("leads", "stored", "applied")


@pytest.fixture(scope="module")
def passed() -> dict[str, Any]:
    return run(1, trace=True).trace


@pytest.fixture(scope="module")
def failed() -> dict[str, Any]:
    return run(494, SimSettings(replication="leader-ack"), trace=True).trace


def marks(page: str, style: str) -> int:
    return len(re.findall(rf'class="{style}[" ]', page))


def test_a_run_that_passed_shows_its_first_election(passed: dict[str, Any]) -> None:
    shown = stretch_of(passed)
    elected_us = next(event["at_us"] for event in passed["events"] if event["event"] == "leads")
    assert shown.start_us <= elected_us < shown.end_us
    assert len(shown.flights) >= FRAMES
    page = diagram_page(passed)
    assert "leads term 1" in page
    assert page.count("<title>append entries, ") == sum(each.kind == "append_entries" for each in shown.flights)
    assert marks(page, "flight lost") == 2 * sum(each.arrives_us is None for each in shown.flights) > 0
    assert marks(page, "did applied") == sum(event["event"] == "applied" for event in shown.did) > 0
    assert "hello" not in page, "greetings are left out"


def test_a_run_that_failed_shows_its_end(failed: dict[str, Any]) -> None:
    assert stretch_of(failed).end_us == failed["events"][-1]["at_us"]
    page = diagram_page(failed)
    assert "FAILED: lost order" in page
    assert page.count(">down</text>") == 2
    assert marks(page, "life leads") == 1
    assert marks(page, "life down") == 2


def made_up(*events: dict[str, Any]) -> dict[str, Any]:
    return {"seed": 1, "failure": "", "events": list(events)}


def test_a_frame_that_went_with_its_link_is_drawn_as_lost() -> None:
    frame = {"event": "frame", "sender": 1, "to": 2, "bytes": 9}
    shown = stretch_of(
        made_up(
            frame | {"at_us": 100, "type": "append_entries", "arrives_us": [900, 700]},
            frame | {"at_us": 200, "type": "hello", "arrives_us": [800]},
            {"at_us": 700, "event": "lost", "sender": 1, "to": 2},
            {"at_us": 800, "event": "lost", "sender": 1, "to": 2},
            frame | {"at_us": 850, "type": "pre_vote", "arrives_us": [950]},
        )
    )
    assert [(each.kind, each.arrives_us) for each in shown.flights] == [
        ("append_entries", 900),
        ("append_entries", None),
        ("pre_vote", 950),
    ]


def test_a_leader_of_one_group_leads_on_when_another_node_leads_another_group() -> None:
    def leads(at_us: int, node: int, group: int) -> dict[str, Any]:
        return {"at_us": at_us, "event": "leads", "node": node, "term": 1, "group": group}

    crash = {"at_us": 5_000, "event": "crashed", "node": 2, "why": ""}
    trace = made_up(leads(1_000, 1, 0), leads(2_000, 2, 1), leads(3_000, 1, 1), leads(4_000, 2, 0), crash)
    drawing = _drawing(stretch_of(trace, (0, 6)), trace)
    assert [list(life.states) for life in drawing.lives] == [
        [(0, ""), (1_000, "leads")],
        [(0, ""), (2_000, "leads"), (3_000, ""), (4_000, "leads"), (5_000, "down")],
    ]
    assert [mark.said for mark in drawing.marks][:2] == ["leads term 1 in group 0", "leads term 1 in group 1"]


def test_a_run_with_shards_says_of_which_group_an_event_is() -> None:
    trace = run(1, SimSettings(shards=True), trace=True).trace
    groups = {name: {each["group"] for each in trace["events"] if each["event"] == name} for name in SIGNS_OF_GROUPS}
    assert all(len(each) > 1 for each in groups.values()), groups


def test_a_window_is_shown_as_it_was_asked_for(passed: dict[str, Any]) -> None:
    shown = stretch_of(passed, (300, 320))
    assert (shown.start_us, shown.end_us) == (300_000, 320_000)
    assert all(300_000 <= each.sent_us <= 320_000 for each in shown.flights)
    assert "client 101" in diagram_page(passed, (300, 320))


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ((5, 5), "a window from 5 to 5 ms: write it as in 120-180"),
        ((90_000, 90_001), "nothing happens from 90000 to 90001 ms: the run ends at 1340"),
    ],
)
def test_a_wrong_window_is_told(passed: dict[str, Any], window: tuple[float, float], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        diagram_page(passed, window)


def test_more_than_a_picture_holds_is_told() -> None:
    trace = run(9, SimSettings(faults_ms=2_000), trace=True).trace
    with pytest.raises(SettingsError, match=f"frames are no picture: choose a window with {FRAMES_MAX} at most"):
        diagram_page(trace, (0, 60_000))


def test_the_command_draws_and_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.html"
    assert zmqlab(["sim", "--seed", "1", "--picture", str(file), "--window", "300-320.5"]) == EXIT_OK
    assert f"picture: {file}" in capsys.readouterr().out
    assert file.read_text().startswith("<!doctype html>")
    assert zmqlab(["sim", "--seed", "494", "--replication", "leader-ack", "--picture", str(file)]) == EXIT_FAILED
    capsys.readouterr()
    for wrong, said in (
        (["--picture", str(file), "--window", "now"], "--window is 'now': write two times in milliseconds"),
        (["--picture", str(file), "--runs", "3"], "--trace and --picture are of one run"),
        (["--picture", str(tmp_path)], "the page can't be written to"),
    ):
        assert zmqlab(["sim", "--seed", "1", *wrong]) == EXIT_USAGE
        assert said in capsys.readouterr().err
