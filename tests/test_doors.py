"""Every package's ``__init__`` is its door: it says what the package is, and lists its modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from pkgutil import resolve_name

import pytest

from tests.test_layers import LAYERS

PACKAGE = Path(__file__).parent.parent / "zmqlab"
DOCS = [PACKAGE.parent / "README.md", *sorted((PACKAGE.parent / "docs").glob("*.md"))]
PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
LISTED = re.compile(r"^\* :mod:`~zmqlab\.([a-z_.]+)`", re.MULTILINE)
REFERENCE = re.compile(r":[a-z]+:`(?:[^`<]*<)?~?(zmqlab[A-Za-z0-9_.]*)>?`")
"""A role of reStructuredText, as in ``:mod:`~zmqlab.raft``` or ``:mod:`the core <zmqlab.raft>```."""
IN_PROSE = re.compile(r"`(zmqlab(?:\.[A-Za-z0-9_]+)+)")
"""A dotted name in Markdown; what follows it, such as arguments, is not looked at."""
PATH_IN_PROSE = re.compile(r"\bzmqlab/[A-Za-z0-9_/]+\.py\b")
NOT_LISTED = {"__init__", "__main__"}
ROOMS_MAX = 265
"""Modules but for the doors and what ``python -m`` runs."""
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


def test_the_front_door_lists_the_layers_from_the_ground_up() -> None:
    door = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text())) or ""
    assert LISTED.findall(door) == LAYERS


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_opens_with_what_it_is_and_has_an_end(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "it opens with a docstring, so that help() shows it"
    assert text.count("\n") <= LINES_MAX


def test_there_are_not_too_many_rooms() -> None:
    assert sum(path.stem not in NOT_LISTED for path in MODULES) <= ROOMS_MAX


def test_module_names_can_be_said_aloud() -> None:
    """One name, one module; and each name says what the module holds."""
    stems = [path.stem for path in MODULES if path.stem not in NOT_LISTED]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    assert twice == set()
    assert NAMES_THAT_SAY_NOTHING.isdisjoint(stems)


def imports_at_import(body: list[ast.stmt]) -> Iterator[str]:
    """What a module imports while it is imported itself: not inside a function, and not for the type checker alone."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" not in ast.unparse(statement.test):
            yield from imports_at_import(statement.body + statement.orelse)
        elif isinstance(statement, ast.ClassDef | ast.With | ast.Try):
            yield from imports_at_import(statement.body)


def test_no_two_modules_import_each_other() -> None:
    """Not over any number of steps either: a sorter of the graph raises CycleError and names the circle."""
    paths = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in MODULES}
    by_name = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    graph = {}
    for name, path in by_name.items():
        wanted = set(imports_at_import(ast.parse(path.read_text()).body))
        graph[name] = {each if each in by_name else each.rpartition(".")[0] for each in wanted} & by_name.keys() - {
            name
        }
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def is_there(name: str) -> bool:
    """Whether a dotted name leads to a module, to what one holds, or to a field that a class declares."""
    try:
        resolve_name(name)
    except ImportError:
        return False
    except AttributeError:
        owner, _, field = name.rpartition(".")
        try:
            return field in getattr(resolve_name(owner), "__annotations__", {})
        except (ImportError, AttributeError):
            return False
    return True


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_a_docstring_refers_to_is_there(path: Path) -> None:
    assert [name for name in REFERENCE.findall(path.read_text()) if not is_there(name)] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_what_a_page_refers_to_is_there(path: Path) -> None:
    text = path.read_text()
    assert [name for name in IN_PROSE.findall(text) if not is_there(name)] == []
    assert [name for name in PATH_IN_PROSE.findall(text) if not (PACKAGE.parent / name).exists()] == []


@pytest.mark.parametrize("name", ["zmqlab.raft.roles", "zmqlab.raft.Raft.fly", "zmqlab.raft.core.Raft.tick.tock"])
def test_a_name_that_leads_nowhere_is_noticed(name: str) -> None:
    assert not is_there(name)
    assert REFERENCE.findall(f":mod:`~{name}` and :class:`this one <{name}>`") == [name, name]
