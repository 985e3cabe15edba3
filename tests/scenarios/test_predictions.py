"""What is wrong with a question is told with its place; captions are lines of the story."""

from __future__ import annotations

from typing import Any

import pytest

from zmqlab.errors import SettingsError
from zmqlab.scenarios.scenario_file import Scenario
from zmqlab.scenarios.scenario_run import Line

QUESTION = {"ask": "What now?", "choices": ["this", "that"], "right": 2, "because": "It is so."}


def scenario(**others: Any) -> Scenario:
    values = {"teaches": "Nothing.", "load": {"rate": 100, "duration": "1s"}, "expect": ["verdict passed"]}
    return Scenario.of({**values, **others}, "mine")


def test_a_question_and_a_caption_are_read() -> None:
    read = scenario(predict=QUESTION, steps=[{"at": "500ms", "caption": "Look."}])
    assert read.predict is not None
    assert (read.predict.choices, read.predict.right) == (("this", "that"), 1)
    assert read.steps[0].caption == "Look."
    assert scenario().predict is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"right": 3}, "3"),
        ({"choices": ["this"]}, "there are 1 choices: write 2 to 6"),
        ({"becuase": "typo"}, "becuase"),
        ({"ask": 7}, "7"),
    ],
)
def test_what_is_wrong_is_told(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        scenario(predict={**QUESTION, **change})


def test_a_question_needs_all_its_parts() -> None:
    with pytest.raises(SettingsError, match="'because' is missing"):
        scenario(predict={key: value for key, value in QUESTION.items() if key != "because"})


def test_a_caption_is_marked_in_the_story() -> None:
    assert str(Line(1.0, "Look.", is_caption=True)) == "   1.00 s  » Look."
    assert str(Line(1.0, "kill leader")) == "   1.00 s  kill leader"
