"""Each wrong solution that people really write is caught, and each right one passes with every seed of its grader."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.course.solutions import WRONG, right_solution
from zmqlab.course.labs import LABS, Lab
from zmqlab.course.seeds import Finding
from zmqlab.course.submission import Submission

SOON = {
    "a_new_number_on_each_retry",
    "lengths_before_terms",
    "entries_of_older_terms",
    "the_latest_first",
    "no_majority",
}
"""One a lab is caught in the short tests as well."""
OBJECTIONS = {
    "client": ("exactly once: ", "told twice: ", "wrong answer: ", "progress: "),
    "vote": ("up-to-date vote: ", "stored before sent: ", "one vote a term: ", "progress: "),
    "commit": ("commit rule: ", "promptness: ", "progress: "),
    "book": ("returns something else", "leaves another book"),
    "ack": ("in sync: ", "lost order: ", "progress: ", "state-machine safety: ", "real time: "),
}
"""What a checker says that is meant to see it: a wrong solution must not be found by an accident of the grader."""


def lab_called(name: str) -> Lab:
    return next(lab for lab in LABS if lab.name == name)


def found_in(lab: Lab, source: str, label: str, quick: bool = False) -> Finding:
    return lab.judge(Submission(source, label), lambda done, of: None, quick)


def with_mark(path: Path) -> object:
    marks = [] if path.stem in SOON else [pytest.mark.long]
    return pytest.param(path, id=f"{path.parent.name}-{path.stem}", marks=marks)


@pytest.mark.parametrize("path", [with_mark(path) for path in WRONG])
def test_a_wrong_solution_is_caught_and_told(path: Path) -> None:
    lab = lab_called(path.parent.name)
    finding = found_in(lab, path.read_text(encoding="utf-8"), path.name)
    assert any(words in finding.failure for words in OBJECTIONS[lab.name]), finding.failure or "it passed"
    assert finding.where
    assert finding.story
    assert ("<svg" in finding.diagram) == (lab.name != "book")


def test_there_are_at_least_four_wrong_ones_for_each_lab() -> None:
    counts = {lab.name: sum(path.parent.name == lab.name for path in WRONG) for lab in LABS}
    assert min(counts.values()) >= 4
    assert sum(counts.values()) == len(WRONG)


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_the_right_solution_passes_some_seeds(lab: Lab) -> None:
    finding = found_in(lab, right_solution(lab.number), "right.py", quick=True)
    assert finding.failure == ""
    assert finding.tried


@pytest.mark.long
@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_the_right_solution_passes_with_every_seed(lab: Lab) -> None:
    assert found_in(lab, right_solution(lab.number), "right.py").failure == ""


def test_the_real_rule_is_back_after_a_grade() -> None:
    from zmqlab.raft import append_entries, election

    rules = election.cast_vote, append_entries.commit_by_counting
    for name in ("vote", "commit"):
        path = next(path for path in WRONG if path.parent.name == name)
        assert found_in(lab_called(name), path.read_text(encoding="utf-8"), path.name, quick=True).failure
    assert rules == (election.cast_vote, append_entries.commit_by_counting)


def test_a_sequence_is_as_short_as_it_can_be() -> None:
    path = next(path for path in WRONG if path.stem == "equal_prices_do_not_meet")
    finding = found_in(lab_called("book"), path.read_text(encoding="utf-8"), path.name)
    steps = [line for line in finding.story if line[0].isdigit()]
    assert len(steps) == 2  # one order that rests, and one of the same price
    assert all(" 1 at " in step for step in steps)
