"""Solutions of the labs: the right ones stand in the notebooks, the wrong ones in files beside this module."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {path.name[0]: path for path in sorted((ROOT / "notebooks" / "labs").glob("[0-9]_*.ipynb"))}
"""Number of a lab -> its notebook."""
WRONG = sorted((Path(__file__).parent / "wrong").glob("*/*.py"))


def right_solution(number: int) -> str:
    """The code that the notebook of a lab folds out."""
    cells = nbformat.read(NOTEBOOKS[str(number)], as_version=4).cells
    (cell,) = [cell for cell in cells if cell.id == "solution"]
    (code,) = re.findall(r"```python\n(.*?)```", cell.source, re.DOTALL)
    return str(code)


def empty_cell(number: int) -> str:
    """The cell that a person fills in."""
    cells = nbformat.read(NOTEBOOKS[str(number)], as_version=4).cells
    return str(next(cell.source for cell in cells if cell.id == "yours"))
