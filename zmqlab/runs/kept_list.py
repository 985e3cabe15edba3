"""What is kept in a folder: runs and sweeps, oldest first, as one table.

A sweep has no verdict. Its row has the figures of its knee, which a line below the table says. What looks like a kept
run or sweep and can't be read is named, and does not hide the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from zmqlab.errors import RunUnreadable, SettingsError
from zmqlab.runs.kept_run import ABOUT, RUNS, Run
from zmqlab.runs.kept_sweep import STEPS, KeptSweep
from zmqlab.settings import require_path
from zmqlab.tables import html_table, text_table

HEAD = ("when", "what", "orders", "orders/s", "p50 ms", "p99 ms", "verdict", "folder")
OF_SWEEPS = "A sweep has no verdict. Its orders/s and latencies are those at the knee."

Kept = Run | KeptSweep


class KeptList(list[Kept]):
    """Kept runs and sweeps, oldest first, that show themselves as a table; and what could not be read."""

    def __init__(self, kept: Sequence[Kept], problems: Sequence[str] = ()) -> None:
        super().__init__(kept)
        self.problems = list(problems)
        """A line for each folder that looks like a kept run or sweep and can't be read."""

    @property
    def runs(self) -> list[Run]:
        """Those with a verdict."""
        return [each for each in self if isinstance(each, Run)]

    @property
    def sweeps(self) -> list[KeptSweep]:
        """Those without one."""
        return [each for each in self if isinstance(each, KeptSweep)]

    def __repr__(self) -> str:
        table = text_table(HEAD, [each.row() for each in self]) if self else "no kept runs"
        return "\n".join([table, *self._notes(), *self.problems])

    def _repr_html_(self) -> str:
        return html_table(HEAD, [each.row() for each in self]) + "".join(f"<p>{note}</p>" for note in self._notes())

    def _notes(self) -> list[str]:
        return [OF_SWEEPS] if self.sweeps else []


def kept_in(folder: str | Path = RUNS) -> KeptList:
    """The kept runs and sweeps in a folder, by the time of the run, or of the sweep's end.

    Raises:
        SettingsError: there is no such folder.
    """
    parent = require_path("folder", folder)
    if not parent.is_dir():
        raise SettingsError(f"{parent} is no folder: name the one that was given as --keep")
    kept: list[Kept] = []
    problems: list[str] = []
    readers: dict[str, Callable[[Path], Kept]] = {ABOUT: Run.read, STEPS: KeptSweep.read}
    for name, read in readers.items():
        for path in sorted(each.parent for each in parent.glob(f"[!.]*/{name}")):
            try:
                kept.append(read(path))
            except RunUnreadable as error:
                problems.append(str(error))
    return KeptList(sorted(kept, key=_time_ns), problems)


def _time_ns(kept: Kept) -> int:
    return kept.about.began_ns if isinstance(kept, Run) else kept.about.ended_ns
