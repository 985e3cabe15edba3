"""The notebooks as files: saved clean, complete, linked, and readable in a diff. Nothing is run here."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebooks.quick_copies import quick_source

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
LABS = sorted((NOTEBOOKS / "labs").glob("[0-9]_*.ipynb"))
FILES = [*sorted(NOTEBOOKS.glob("*.ipynb")), *LABS]
CLEAR = "jupyter nbconvert --clear-output --inplace notebooks/*.ipynb notebooks/labs/*.ipynb"
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
READABLE_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}.*)?")
MAX_CODE_COLUMNS = 100
"""What JupyterLab shows at a width of 1,300 pixels, with its side bar closed; about 75 with it open."""


def name_of(path: Path) -> str:
    return path.name


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def prose(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def without_magics(source: str) -> str:
    """A cell without the lines that IPython reads."""
    return "\n".join(line for line in source.splitlines() if not line.startswith("%"))


def is_code(cell: Any) -> bool:
    return bool(cell.cell_type == "code")


def dead_links(text: str, folder: Path) -> list[str]:
    """Relative links in ``text`` that lead nowhere."""
    targets = [link for link in LINK.findall(text) if "://" not in link]
    return [target for target in targets if not (folder / target).exists()]


def test_there_are_ten_chapters_and_the_panel() -> None:
    assert [int(path.name[:2]) for path in CHAPTERS] == list(range(1, 11))
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} - {path.name for path in CHAPTERS} == {
        "panel.ipynb",
        "stories.ipynb",
    }
    assert {path.name for path in (NOTEBOOKS / "labs").glob("*.ipynb")} == {path.name for path in LABS}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_notebook_is_saved_without_outputs(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), CLEAR
    assert "widgets" not in notebook.metadata, CLEAR
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_cells_keep_their_ids(path: Path) -> None:
    """Ids are words, given once by hand: a tool that rewrites them, or a new cell without one, shows here."""
    ids = [cell.id for cell in read(path).cells]
    assert len(set(ids)) == len(ids)
    for cell_id in ids:
        assert READABLE_ID.fullmatch(cell_id), f"{path.name}: name this cell: {cell_id}"
        assert not RANDOM_ID.fullmatch(cell_id), f"{path.name}: name this cell: {cell_id}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_code_is_python_and_fits_a_page(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type == "code":
            compile(without_magics(cell.source), f"{path.name}:{cell.id}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            widest = max(map(len, cell.source.splitlines()))
            assert widest <= MAX_CODE_COLUMNS, f"{path.name}:{cell.id} has a line of {widest} characters"


@pytest.mark.parametrize("path", CHAPTERS, ids=name_of)
def test_smaller_figures_stand_for_what_is_there(path: Path) -> None:
    """And no cell that a reader runs holds plumbing for tests; chapter 1 asks whether a person is there."""
    for cell in read(path).cells:
        if not is_code(cell):
            continue
        compile(quick_source(cell), path.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if path.name[:2] != "01":
            assert not re.search(r"\b(pick|is_quick|finish)\b", cell.source), f"{path.name}:{cell.id}"


@pytest.mark.parametrize("path", [path for path in CHAPTERS if path.name[:2] != "01"], ids=name_of)
def test_each_exercise_has_an_answer_that_folds_out(path: Path) -> None:
    (cell,) = [cell for cell in read(path).cells if cell.id == "exercises"]
    asked, answered = re.findall(r"^(\d)\. ", cell.source, re.M), re.findall(r"<summary>Answer (\d)<", cell.source)
    assert asked == answered
    assert cell.source.count("<details>") == cell.source.count("</details>")


@pytest.mark.parametrize("path", CHAPTERS, ids=name_of)
def test_a_chapter_has_its_parts(path: Path) -> None:
    number, text = int(path.name[:2]), prose(path)
    assert text.startswith(f"# {number}. "), "its title says its number"
    assert "**The claim.**" in text
    assert "## Exercises" in text or "## Your turn" in text
    sources = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    assert any("assert " in source for source in sources), "it checks nothing"
    following = [each.name for each in CHAPTERS if each.name[:2] == f"{number + 1:02}"] or ["README.md"]
    assert f"({following[0]})" in text, "it leads on"


def test_the_table_of_contents_has_every_chapter_in_order() -> None:
    listed = [link for link in LINK.findall(prose(NOTEBOOKS / "README.md")) if re.match(r"\d\d_", link)]
    assert listed == [path.name for path in CHAPTERS]
    for path in CHAPTERS:
        title = read(path).cells[0].source.splitlines()[0].removeprefix("# ")
        assert f"[{title}]({path.name})" in prose(NOTEBOOKS / "README.md")


@pytest.mark.parametrize("path", [*FILES, NOTEBOOKS / "README.md"], ids=name_of)
def test_no_link_leads_nowhere(path: Path) -> None:
    assert dead_links(prose(path), path.parent) == []


def test_a_dead_link_would_be_seen() -> None:
    assert dead_links("[a](README.md) [b](gone.md#part) [c](https://example.org/x)", NOTEBOOKS) == ["gone.md"]
