"""A question that a scenario asks before it is played: what will happen? And how a class answered.

In a file::

    predict:
      ask: The leader is cut off. What does it tell its clients?
      choices: ["done, as before", "nothing", "an error at once"]
      right: 2
      because: It reaches no majority, so it can promise nothing.

``right`` counts from 1. Rules: pure. A show of hands is counted, and no answer is ever tied to a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zmqlab.scenarios.written import Written

KEYS = ("ask", "choices", "right", "because")
CHOICES_MAX = 6
"""More are not read from the back of a room."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The question of one scenario."""

    ask: str
    choices: tuple[str, ...]
    right: int
    """The place of the right choice, from 0."""
    because: str


@dataclass(slots=True)
class Show:
    """A show of hands."""

    prediction: Prediction
    counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [0] * len(self.prediction.choices)

    def result(self) -> str:
        """What was right, why, and how many had it."""
        right = self.prediction.right
        total, had = sum(self.counts), self.counts[right]
        said = f" {had} of {total} said so." if total else ""
        return f"{letter(right)}: {self.prediction.choices[right]}.{said} {self.prediction.because}"


def letter(place: int) -> str:
    """A, B, C, ..."""
    return chr(ord("A") + place)


def read_prediction(written: Written) -> Prediction:
    """The question of a file. Raises SettingsError."""
    entries = written.entries(KEYS)
    for key in KEYS:
        if key not in entries:
            raise written.wrong(f"{key!r} is missing: a question has {', '.join(KEYS)}")
    choices: Sequence[str] = [each.text() for each in entries["choices"].items()]
    if not 2 <= len(choices) <= CHOICES_MAX:
        raise entries["choices"].wrong(f"there are {len(choices)} choices: write 2 to {CHOICES_MAX}")
    right = entries["right"].whole(1, len(choices)) - 1
    return Prediction(entries["ask"].text(), tuple(choices), right, entries["because"].text())
