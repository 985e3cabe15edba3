"""Every chapter runs from top to bottom, with smaller figures (:mod:`tests.notebooks.quick_copies`), one by one.

What checks what:

- nbval runs the cells in a fresh kernel. It fails on a cell that raises, and so on each claim: chapters are saved
  without outputs, so what they claim stands in an ``assert`` in the cell that shows it, not in a stored output. Outputs
  themselves are not compared (``--nbval-lax``), since times and process ids differ.
- ``--nbval-cell-timeout`` fails a cell that hangs; :data:`CHAPTER_S` bounds the whole.
- A thread behind the charts that dies raises in the last cell: ``zmqlab.lesson.finish``.
- Afterwards no process of the chapter may be left, and no folder of a cluster: that is kept only if a node died by
  itself or a verdict failed.

The last tests break each of these on purpose.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.jupyter_folders import own_folders
from tests.notebooks.quick_copies import quick_copy
from tests.notebooks.test_saved import CHAPTERS, NOTEBOOKS, name_of
from zmqlab.lab.processes import LabProcess, find, reap
from zmqlab.lesson import QUICK_VARIABLE

pytest.importorskip("nbval", reason="nbval runs the chapters: pip install 'zmqlab[lab,test]'")

pytestmark = pytest.mark.process

CELL_S = 120.0
"""Ends a cell that hangs. On two cores the slowest one takes 5 s; how fast a machine is no test says."""
CHAPTER_S = 600.0
"""Ends a chapter that hangs. With small figures one takes about 20 s on two cores."""
LINGER_S = 20.0
"""A node sees the end of its owner at once; a busy machine takes a moment to end it."""
QUICK = ("01", "02")
"""The first chapters; the others run with the long tests."""
MARK = "ZMQLAB_TEST_CHAPTER"
"""A variable that all processes of a run inherit, so that its own are told from others'."""


class Outcome(NamedTuple):
    """How one notebook ran."""

    ok: bool
    said: str
    left_processes: list[LabProcess]
    left_folders: list[Path]


def run(notebook: Path, folder: Path, cell_s: float = CELL_S, linger_s: float = LINGER_S) -> Outcome:
    """Run a notebook with nbval; ``folder`` becomes its home, its Jupyter's, and the place of its temporary files."""
    mark = uuid.uuid4().hex
    options = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={cell_s:g}", "-x", "-q", "--durations=3"]
    completed = subprocess.run(
        # Its own configuration: this project's makes errors of warnings that are nbval's.
        [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", *options, str(notebook)],
        env=environment(folder) | {MARK: mark},
        cwd=NOTEBOOKS,
        capture_output=True,
        text=True,
        timeout=CHAPTER_S + 30,
    )
    folders = sorted((folder / "tmp").glob("zmqlab-*"))
    return Outcome(completed.returncode == 0, completed.stdout + completed.stderr, lingering(mark, linger_s), folders)


def environment(folder: Path) -> dict[str, str]:
    return own_folders(folder, HOME="home", TMPDIR="tmp") | {QUICK_VARIABLE: "1"}


def lingering(mark: str, linger_s: float) -> list[LabProcess]:
    """The nodes and load clients of the run that bears ``mark`` that are still there after a moment."""
    deadline = time.monotonic() + linger_s
    while left := [process for process in find() if bears(process, mark)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return left


def bears(process: LabProcess, mark: str) -> bool:
    try:
        return psutil.Process(process.pid).environ().get(MARK) == mark
    except psutil.Error:
        return False


def with_mark(chapter: Path) -> Any:
    marks = [] if chapter.name.startswith(QUICK) else [pytest.mark.long]
    return pytest.param(chapter, id=name_of(chapter), marks=marks)


@pytest.mark.timeout(CHAPTER_S + 60)
@pytest.mark.parametrize("chapter", [with_mark(chapter) for chapter in CHAPTERS])
def test_a_chapter_runs(chapter: Path, tmp_path: Path) -> None:
    outcome = run(quick_copy(chapter, tmp_path), tmp_path)
    assert outcome.ok, outcome.said
    assert outcome.left_processes == []
    assert outcome.left_folders == []


def written(folder: Path, *cells: str) -> Path:
    path = folder / "made.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
    return path


@pytest.mark.long
def test_a_false_claim_fails(tmp_path: Path) -> None:
    outcome = run(written(tmp_path, "x = 1", "assert x == 2, 'the claim is false'"), tmp_path)
    assert not outcome.ok
    assert "the claim is false" in outcome.said


@pytest.mark.long
def test_a_slow_cell_fails(tmp_path: Path) -> None:
    outcome = run(written(tmp_path, "import time; time.sleep(30)"), tmp_path, cell_s=1)
    assert not outcome.ok
    assert "timeout" in outcome.said.lower()


@pytest.mark.long
def test_a_process_that_is_left_is_seen(tmp_path: Path) -> None:
    cell = (
        "import subprocess, sys, tempfile\n"
        "from zmqlab.lab.hosts import free_base_ports\n"
        "command = [sys.executable, '-m', 'zmqlab.node', '--node', 'left', '--port', str(free_base_ports(1)[0])]\n"
        "run_dir = tempfile.mkdtemp(prefix='zmqlab-')\n"
        "subprocess.Popen([*command, '--run-dir', run_dir], start_new_session=True)\n"
    )
    outcome = run(written(tmp_path, cell), tmp_path, linger_s=1.0)
    try:
        assert [process.name for process in outcome.left_processes] == ["left"]
        assert len(outcome.left_folders) == 1
    finally:
        reap(outcome.left_processes)
