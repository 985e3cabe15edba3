"""Copies of notebooks with smaller figures, so that all chapters together take a few minutes; and with nodes that wait
longer for their leader where a claim holds only if a pause of a busy machine elects none.

A cell's metadata says what is replaced in it::

    "metadata": {"zmqlab": {"quick": {"LENGTH_S = 10": "LENGTH_S = 5"}}}

Each text must be there exactly once, or a change of the chapter would leave a replacement behind that does nothing. A
reader sees none of this: the cells hold the figures for people, and no plumbing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat


def quick_copy(path: Path, folder: Path) -> Path:
    """Write the copy of a notebook into ``folder``."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = quick_source(cell)
    copy = folder / path.name
    nbformat.write(notebook, copy)
    return copy


def quick_source(cell: Any) -> str:
    """The cell with its smaller figures."""
    source = str(cell.source)
    for old, new in cell.metadata.get("zmqlab", {}).get("quick", {}).items():
        assert source.count(old) == 1, f"cell {cell.id} does not hold {old!r} exactly once any more"
        source = source.replace(old, new)
    return source
