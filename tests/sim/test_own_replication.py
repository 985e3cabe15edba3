"""The example of docs/write-your-own.md: its naive rules are found out with a story, and its right one passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zmqlab.sim import Outcome, SimSettings, run
from zmqlab.sim.many import run_many

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "write-your-own.md"
SEEDS = {"TwoCopies": (87, 5), "Majority": (189, 3)}
"""Seed and nodes that the page shows, with the focus figure-8."""


@pytest.fixture(autouse=True)
def in_the_folder_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def outcome_of(name: str, seed: int, nodes: int) -> Outcome:
    return run(seed, SimSettings(replication=f"examples.own_replication:{name}", nodes=nodes, focus="figure-8"))


@pytest.mark.parametrize("name", SEEDS)
def test_a_naive_rule_loses_an_order_and_its_page_tells_the_story(name: str) -> None:
    outcome = outcome_of(name, *SEEDS[name])
    assert outcome.failure.startswith("lost order"), outcome.failure
    assert outcome.failure in PAGE.read_text()
    assert outcome_of("MajorityOfTheTerm", *SEEDS[name]).failure == ""


@pytest.mark.parametrize("nodes", [3, 5])
def test_the_right_rule_passes(nodes: int) -> None:
    assert [outcome_of("MajorityOfTheTerm", seed, nodes).failure for seed in range(1, 11)] == [""] * 10


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "fails"), [("TwoCopies", True), ("MajorityOfTheTerm", False)])
def test_a_thousand_seeds(name: str, fails: bool) -> None:
    """The rule that forgets the term passes them: its accident needs a focus."""
    settings = SimSettings(replication=f"examples.own_replication:{name}")
    failures = [result.failure for result in run_many(1, 1_000, settings) if result.failure]
    assert bool(failures) == fails, failures[:3]


def test_the_page_shows_the_example_as_it_is() -> None:
    """Each class of the example stands on the page, word by word."""
    source = (ROOT / "examples" / "own_replication.py").read_text()
    shown = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    for each in re.split(r"\n\n\n", source)[1:]:
        assert each.strip() in shown
