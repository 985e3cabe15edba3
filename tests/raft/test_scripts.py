"""Every script in ``scripts/`` prints its transcript."""

from __future__ import annotations

from pathlib import Path

import pytest

from .script import run

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, request: pytest.FixtureRequest) -> None:
    expected = path.read_text()
    printed = run(expected)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(printed)
        return
    assert printed == expected


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_states_its_scenario(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 15
