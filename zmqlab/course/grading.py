"""One grade: the process in which a person's code runs, what it says meanwhile, and what is shown at the end.

Theory of operation. :func:`grade` starts ``python -m zmqlab.course`` and hands it the code on standard input. The
process answers with lines of JSON: how far it is, and at the end the grade. What the code prints itself goes into the
grade, up to :data:`PRINTED_MAX` lines. The process stops code that loops (:class:`~zmqlab.course.submission.Watch`). If
it says nothing for :data:`SILENT_S`, for example because the code sleeps or catches everything, it is ended.

Three outcomes are kept apart: *passed*; *failed*, with a seed and its story; *not judged*, because the code can't be
run, with the line.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from zmqlab.course.labs import Lab, find_lab
from zmqlab.course.seeds import Finding
from zmqlab.errors import EXIT_FAILED, EXIT_NOT_JUDGED, EXIT_OK, SettingsError
from zmqlab.lesson import is_quick
from zmqlab.runs.page_shell import in_notebook
from zmqlab.runs.run_pages import headline
from zmqlab.settings import reason_of

SILENT_S = 60.0
"""A run takes a tenth of a second; this is for machines that others use as well."""
STORY_LINES = 30
"""Of a story, the end of it: what led to the failure."""
PRINTED_MAX = 20
CELL = "your cell"
Report = Callable[[int, int], None]


@dataclass(slots=True, kw_only=True)
class Grade:
    """What became of one solution. Its text, and its look in a notebook, say all that there is to know."""

    lab: str
    outcome: str
    """``passed``, ``failed`` or ``not judged``, as of a verdict."""
    finding: Finding = field(default_factory=Finding)
    problem: str = ""
    """Why it is not judged."""
    printed: list[str] = field(default_factory=list)
    """What the code printed, the first lines of it."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.outcome == "passed"

    @property
    def exit_status(self) -> int:
        """0, 1 or 9, as of a verdict."""
        return {"passed": EXIT_OK, "failed": EXIT_FAILED}.get(self.outcome, EXIT_NOT_JUDGED)

    @property
    def reason(self) -> str:
        """In a sentence: what was tried, what failed and where, or what is wrong with the code."""
        if self.problem:
            return self.problem
        return f"{self.finding.where}: {self.finding.failure}" if self.finding.failure else self.finding.tried

    def __repr__(self) -> str:
        lines = [f"{self.outcome.upper()}  lab {self.lab}: {self.reason}", *self._story()]
        return "\n".join([*lines, *(f"  it printed: {line}" for line in self.printed)])

    def _story(self) -> list[str]:
        story = self.finding.story
        cut = [f"     (the first {len(story) - STORY_LINES} lines are left out)"] if len(story) > STORY_LINES else []
        return [*cut, *story[-STORY_LINES:]]

    def _repr_html_(self) -> str:
        parts = [headline(self.outcome, f"Lab {self.lab}", "")]
        parts.append(f'<pre style="white-space: pre-wrap">{escape(self.reason)}</pre>')
        if self.finding.story:
            story = escape("\n".join(self._story()))
            parts.append(
                f'<details open><summary>The story</summary><pre style="white-space: pre-wrap">{story}</pre></details>'
            )
        if self.finding.diagram:
            page = escape(self.finding.diagram)
            frame = f'<iframe sandbox="" srcdoc="{page}" style="{_FRAME}" title="Lamport diagram"></iframe>'
            parts.append(f"<details open><summary>Who sent what to whom</summary>{frame}</details>")
        if self.printed:
            parts.append(f"<p>Your code printed:</p><pre>{escape(chr(10).join(self.printed))}</pre>")
        return in_notebook("".join(parts))


_FRAME = "width: 100%; height: 520px; border: 1px solid var(--grid); border-radius: 8px"


def grade(
    which: str,
    source: str,
    label: str = CELL,
    report: Report | None = None,
    quick: bool = False,
    silent_s: float = SILENT_S,
) -> Grade:
    """Grade a solution of the lab ``which`` (a number or a name).

    Args:
        which: the lab.
        source: the code.
        label: what the code is called in messages, such as the name of its file.
        report: is told how far the grader is: (done, of).
        quick: try an eighth of the seeds.
        silent_s: after so long without a word the code counts as one that never ends.

    Raises:
        SettingsError: there is no such lab.
    """
    lab = find_lab(which)
    task = {"lab": lab.name, "source": source, "label": label, "quick": quick}
    process = subprocess.Popen([sys.executable, "-m", "zmqlab.course"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        return _grade_of(lab, process, json.dumps(task).encode(), report or (lambda done, of: None), silent_s)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _grade_of(lab: Lab, process: subprocess.Popen[bytes], task: bytes, report: Report, silent_s: float) -> Grade:
    assert process.stdin is not None
    process.stdin.write(task)
    process.stdin.close()
    process.stdin = None
    for word in _words(process, silent_s):
        if "grade" in word:
            told = word["grade"]
            return Grade(**{**told, "finding": Finding(**told["finding"])})
        report(word["done"], word["of"])
    is_over = process.poll() is not None
    problem = (
        "it ended the process of the grader" if is_over else f"it has said nothing for {silent_s:g} s, and was ended"
    )
    return Grade(lab=title_of(lab), outcome="not judged", problem=problem)


def _words(process: subprocess.Popen[bytes], silent_s: float) -> Iterator[dict[str, Any]]:
    """What the process says, line by line, until it ends or is silent for too long."""
    assert process.stdout is not None
    descriptor, rest = process.stdout.fileno(), b""
    while select.select([descriptor], [], [], silent_s)[0]:
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            process.wait(silent_s)
            return
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield json.loads(line)


def title_of(lab: Lab) -> str:
    """As in ``2, vote``."""
    return f"{lab.number}, {lab.name}"


def grade_file(which: str, path: Path, report: Report | None = None) -> Grade:
    """Grade the solution in a file. Raises SettingsError."""
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"{path} can't be read: {reason}") from None
    return grade(which, source, path.name, report, quick=is_quick())


def grade_as_dict(made: Grade) -> dict[str, Any]:
    """The grade as it travels."""
    return asdict(made)


def grade_cell(shell: Any) -> Callable[[str, str], None]:
    """The cell magic ``%%grade LAB``. It shows how far it is, then the grade, and leaves the grade as ``grade``."""

    def magic(line: str, cell: str) -> None:
        """Grade this cell: %%grade vote, or %%grade 2."""
        from IPython.display import HTML, display

        show: Callable[[str], object] = HTML

        if not line.strip():
            raise SettingsError("name a lab, as in %%grade vote")
        handle: Any = display(show("<p>the grader starts ...</p>"), display_id=True)  # type: ignore[no-untyped-call]
        shown_at = 0.0

        def report(done: int, of: int) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at > 0.2:
                shown_at = time.monotonic()
                handle.update(show(f'<p><progress value="{done}" max="{of}"></progress> {done} of {of}</p>'))

        made = grade(line.strip(), cell, report=report, quick=is_quick())
        handle.update(made)
        shell.user_ns["grade"] = made

    return magic
