"""Every package's ``__init__`` is its door: it says what the package is, and lists its modules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "zmqlab"
PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
LISTED = re.compile(r"^\* :mod:`~zmqlab\.([a-z_.]+)`", re.MULTILINE)
NOT_LISTED = {"__init__", "__main__"}
MODULES_MAX = 135
LINES_MAX = 450
LINES_OF_A_DOOR = range(8, 201)
NAMES_THAT_SAY_NOTHING = {"looking", "by_hand", "data", "frame", "surroundings", "utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_a_door_lists_the_modules_behind_it(folder: Path) -> None:
    door = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    name = ".".join(folder.relative_to(PACKAGE).parts)
    listed = [each.removeprefix(f"{name}.") for each in LISTED.findall(door) if each.startswith(f"{name}.")]
    there = {path.stem for path in folder.glob("*.py")} - NOT_LISTED
    assert sorted(listed) == sorted(there)
    assert len(door.splitlines()) in LINES_OF_A_DOOR


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_opens_with_what_it_is_and_has_an_end(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "it opens with a docstring, so that help() shows it"
    assert text.count("\n") <= LINES_MAX


def test_there_are_not_too_many_rooms() -> None:
    assert len(MODULES) <= MODULES_MAX


def test_module_names_can_be_said_aloud() -> None:
    """One name, one module; and each name says what the module holds."""
    stems = [path.stem for path in MODULES if path.stem not in NOT_LISTED]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    assert twice == set()
    assert NAMES_THAT_SAY_NOTHING.isdisjoint(stems)
