"""What a grader says of code that can't be run, that never ends, or that is not written yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.course.solutions import NOTEBOOKS, empty_cell, right_solution
from zmqlab.cli import run
from zmqlab.course.grading import grade
from zmqlab.course.labs import LABS, find_lab
from zmqlab.course.submission import Submission, Unusable, Watch
from zmqlab.errors import SettingsError

LABEL = "my_vote.py"
NO_METHODS = "class RetryingClient:\n    def __init__(self, nodes, send, done):\n        pass\n"


def problem_of(lab: str, source: str) -> str:
    with pytest.raises(Unusable) as caught:
        find_lab(lab).judge(Submission(source, LABEL), lambda done, of: None, True)
    return str(caught.value)


@pytest.mark.parametrize(
    ("lab", "source", "words"),
    [
        ("vote", "x = 1\ndef grant_vote(me, request)\n    return True\n", "line 2: expected ':'"),
        ("vote", "\n\nimport nothing_like_it\n", "line 3: ModuleNotFoundError: No module named 'nothing_like_it'"),
        (
            "vote",
            "def vote(me, request):\n    return True\n",
            "no function grant_vote: the grader looks for it, and finds vote",
        ),
        ("vote", "grant_vote = 7\n", "grant_vote is no function: it is 7"),
        ("vote", "def grant_vote(me):\n    return 1\n", "grant_vote(me) can't be called as grant_vote(me, request)"),
        ("vote", "def grant_vote(me, request):\n    return me.terms\n", "line 2, in grant_vote: AttributeError"),
        ("vote", "def grant_vote(me, request):\n    return 1\n", "returns 1: it has to return True or False"),
        ("commit", "def commit_index(leader):\n    return True\n", "returns True: it has to return a whole number"),
        ("client", NO_METHODS, "RetryingClient has no method submit(self, order)"),
        ("client", right_solution(1).replace("number, order)", "order, number)", 1), "order): number is 'order 1"),
        ("book", right_solution(4).replace("return fills", "return 5"), "limit returns 5: it has to be a list of"),
        ("ack", "class InSync:\n    pass\n", "InSync has to be a subclass of RaftByQuorum"),
        ("ack", right_solution(5).replace("follower.heard_at", "follower.heard"), "in stored_by_enough: Attribute"),
    ],
)
def test_wrong_input_is_told_in_words_and_with_its_line(lab: str, source: str, words: str) -> None:
    assert words in problem_of(lab, source)


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_an_empty_cell_is_told_as_one(lab: object) -> None:
    number = LABS.index(lab) + 1  # type: ignore[arg-type]
    source = empty_cell(number).partition("\n")[2]
    finding_or_problem = ""
    try:
        finding = LABS[number - 1].judge(Submission(source, LABEL), lambda done, of: None, True)
        finding_or_problem = finding.failure
    except Unusable as problem:
        finding_or_problem = str(problem)
    assert "returns nothing" in finding_or_problem or "clients [101, 102, 103] wait" in finding_or_problem


def test_a_loop_without_an_end_is_stopped_at_its_line() -> None:
    source = "def grant_vote(me, request):\n    while True:\n        pass\n"
    with pytest.raises(Unusable, match=r"line [23], in grant_vote: it does not come back"), Watch(LABEL):
        find_lab("vote").judge(Submission(source, LABEL), lambda done, of: None, True)


def test_an_unknown_lab() -> None:
    with pytest.raises(SettingsError, match="no lab 'votes': choose 1 or client, 2 or vote"):
        find_lab("votes")


def test_each_lab_has_a_notebook_that_grades_it() -> None:
    for lab in LABS:
        assert empty_cell(lab.number).startswith(f"%%grade {lab.name}\n")
    assert len(NOTEBOOKS) == len(LABS)


@pytest.mark.process
def test_a_grade_comes_from_a_process_of_its_own() -> None:
    told: list[tuple[int, int]] = []
    source = "print('here I am')\n" + right_solution(4)
    made = grade("4", source, report=lambda done, of: told.append((done, of)), quick=True)
    assert made.passed
    assert made.printed == ["here I am"]
    assert told[-1][0] == told[-1][1]
    assert repr(made).startswith("PASSED  lab 4, book: ")


@pytest.mark.process
def test_code_that_says_nothing_is_ended() -> None:
    made = grade("book", "import time\ntime.sleep(100)\n", silent_s=3.0)
    assert (made.outcome, made.problem) == ("not judged", "it has said nothing for 3 s, and was ended")


@pytest.mark.process
def test_code_that_ends_the_grader() -> None:
    made = grade("book", "import os\nos._exit(0)\n")
    assert (made.outcome, made.problem) == ("not judged", "it ended the process of the grader")


@pytest.mark.process
def test_the_command_tells_the_story_and_draws_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZMQLAB_QUICK", "1")
    path = tmp_path / "my_vote.py"
    path.write_text("def grant_vote(me, request):\n    me.voted_for = request.candidate\n    return True\n")
    assert run(["grade", "2", str(path)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("FAILED  lab 2, vote: seed ")
    assert "FAILED: " in said.splitlines()[-2]
    assert (tmp_path / "my_vote-failed.html").read_text().count("<svg") == 1
    assert run(["grade", "vote", str(path), "--json", "--picture", str(tmp_path / "a.html")]) == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "failed"


def test_the_command_lists_the_labs_and_asks_for_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["grade"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(LABS)
    assert run(["grade", "vote"]) == 2
    assert "name the file with your code, as in zmqlab grade vote my_vote.py" in capsys.readouterr().err
