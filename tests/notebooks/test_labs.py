"""Each lab runs as it is saved, with its empty cell, and passes with the solution that it folds out.

The grader tries an eighth of its seeds here (``ZMQLAB_QUICK=1``); ``tests/course`` tries all of them. A saved notebook
holds no trace of the solution but the folded one: the test writes a copy with the solution in the cell, and a claim
after it.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from tests.course.solutions import right_solution
from tests.notebooks.test_chapters import run
from tests.notebooks.test_saved import LABS, name_of

pytest.importorskip("nbval", reason="nbval runs the labs: pip install 'zmqlab[lab,test]'")

pytestmark = [pytest.mark.process, pytest.mark.long]


def solved(path: Path, folder: Path, outcome: str, is_solved: bool) -> Path:
    """A copy that claims to end with ``outcome``."""
    notebook = nbformat.read(path, as_version=4)
    place = next(number for number, cell in enumerate(notebook.cells) if cell.id == "yours")
    cell = notebook.cells[place]
    if is_solved:
        cell.source = f"{cell.source.splitlines()[0]}\n{right_solution(int(path.name[0]))}"
    claim = new_code_cell(f"assert grade.outcome in {outcome!r}, grade", id="claim")
    notebook.cells.insert(place + 1, claim)
    copy = folder / path.name
    nbformat.write(notebook, copy)
    return copy


@pytest.mark.parametrize("path", LABS, ids=name_of)
def test_a_lab_passes_with_its_solution(path: Path, tmp_path: Path) -> None:
    outcome = run(solved(path, tmp_path, "passed", is_solved=True), tmp_path)
    assert outcome.ok, outcome.said
    assert (outcome.left_processes, outcome.left_folders) == ([], [])


def test_an_empty_cell_raises_nothing_and_does_not_pass(tmp_path: Path) -> None:
    path = next(path for path in LABS if path.name.startswith("2"))
    outcome = run(solved(path, tmp_path, "failed, not judged", is_solved=False), tmp_path)
    assert outcome.ok, outcome.said
