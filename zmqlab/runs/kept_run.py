"""A run that is kept: a folder from which it can be shown, compared with others, and judged again.

::

    runs/20261127-034012-quick/
        run.json            what was run, when, with which settings, on which machine
        1/  2/  3/  ...     one folder for each repetition (zmqlab.runs.kept_files)

:meth:`Run.keep` writes one, :meth:`Run.add` adds a repetition, and :meth:`Run.read` reads it.
:mod:`~zmqlab.runs.kept_list` lists those in a folder. A :class:`Repetition` reads each of its files when it is asked
for.

Rules. A folder appears whole or not at all: it is written under a name that begins with a dot, which no list shows, and
then renamed. So is each further repetition. Folders are for their user alone (0700). What is read is checked, and what
does not fit raises :class:`~zmqlab.errors.RunUnreadable` with one line.

*Several repetitions* of one run are shown by their median, with the lowest and the highest. Their latencies are one
histogram: percentiles are never averaged. The verdict on a run is the worst one on its repetitions.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from zmqlab.errors import RunUnreadable, SettingsError
from zmqlab.histogram import Histogram
from zmqlab.judge.promises import Check, NodeEvidence, Outcome
from zmqlab.judge.thresholds import ThresholdCheck
from zmqlab.judge.verdict import Verdict, pass_verdict
from zmqlab.keys import make_private
from zmqlab.lab.load_client import JudgedRun, LoadClient
from zmqlab.lab.traced_parts import Part
from zmqlab.load.load_report import LatencySummary, LoadReport, text_of_ms
from zmqlab.machine_facts import these_versions, this_machine
from zmqlab.runs.kept_files import (
    EventRow,
    KeptFaults,
    KeptFiles,
    KeptResult,
    KeptVerdict,
    SecondRow,
    decoded,
    of_fields,
    write_json,
    write_repetition,
)
from zmqlab.settings import reason_of, require_path
from zmqlab.tables import date_and_time
from zmqlab.wording import counted

FORMAT = 1
"""Of the folder. A reader of a higher one reads all lower ones."""
ABOUT = "run.json"
RUNS = "runs"
"""The folder in which runs are kept and looked for if no other one is named."""
ROOM_BYTES = 1_000_000
"""Less than what a long run needs: a disk that has less is full."""
MAX_NAMES = 1_000
"""Runs of one kind that can begin in one second."""
WORD_LETTERS = 60
"""Of what was run, in a folder's name."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_NUMBER = re.compile(r"[1-9][0-9]*")
_WORST = ("failed", "not judged", "passed")


class About(msgspec.Struct, kw_only=True):
    """``run.json``."""

    format: int
    what: str
    """What was run, as ``quick``."""
    began_ns: int
    """On the wall clock; when the first order was due."""
    cluster: dict[str, Any]
    """The settings of the cluster; empty if other processes have started its nodes."""
    load: dict[str, Any]
    """The settings of the load client (:class:`~zmqlab.load.load_settings.LoadSettings`)."""
    machine: dict[str, Any]
    versions: dict[str, str]


class Spread(NamedTuple):
    """One figure over all repetitions."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value; the middle is the median."""
        return cls(median(values), min(values), max(values))


class Repetition:
    """One run under load, as it was kept.

    Raises:
        RunUnreadable: from each member; a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = int(folder.name)
        self._files = KeptFiles(folder)
        self._kept: KeptResult = self._files.result()
        self.report = LoadReport(self._kept.load)
        """The load client's figures."""

    @property
    def verdict(self) -> Verdict:
        """As it was passed when the run had ended."""
        return _verdict_of(self._kept.verdict)

    @property
    def thresholds(self) -> list[ThresholdCheck]:
        """The limits that the caller had set, each with the figure."""
        return [of_fields(ThresholdCheck, each) for each in self._kept.thresholds]

    @property
    def elections(self) -> int:
        """Terms in which a leader was seen; the first one, at a cluster's start, included."""
        return self._kept.elections

    @property
    def exchange(self) -> str:
        """What matched orders: ``compiled`` or ``python``."""
        return self._kept.exchange

    @cached_property
    def seconds(self) -> list[SecondRow]:
        """A row a second."""
        return self._files.seconds()

    @cached_property
    def events(self) -> list[EventRow]:
        """What happened, before the run and in it."""
        return self._files.events()

    @cached_property
    def faults(self) -> KeptFaults:
        """What each fault cost, and the bands of time in which something was broken."""
        return self._files.faults()

    @cached_property
    def traced(self) -> list[Part]:
        """The slowest traced requests, then the elections; empty if nothing was traced."""
        return self._files.traced()

    def judge(self) -> Verdict:
        """Pass the verdict again, on the evidence that was kept, as far as the first one went."""
        taken, limits = self._files.evidence()
        return pass_verdict(taken, **limits)

    def __repr__(self) -> str:
        return f"{self.report!r}\n{'elections':<14} {self.elections}\n\n{self.verdict!r}"


class Run:
    """A kept run with its repetitions. It shows itself: as text, and in a notebook as its report.

    Made by :meth:`keep` or :meth:`read`.
    """

    def __init__(self, folder: Path, about: About, repetitions: Sequence[Repetition]) -> None:
        self.folder = folder
        self.about = about
        self.repetitions = list(repetitions)
        """At least one."""

    # -- writing and reading -----------------------------------------------------------------------------------

    @classmethod
    def keep(cls, load: LoadClient | JudgedRun, folder: str | Path = RUNS, what: str = "load") -> Run:
        """Keep a run that was waited for, in a new folder in ``folder``.

        Args:
            load: the load client, before it is closed and before its cluster stops; or what it has judged.
            folder: where runs are kept; it is made if need be.
            what: what was run, in a word: letters, digits, and ``-``. It becomes part of the folder's name.

        Raises:
            ClusterError: the run was not waited for, or its evidence is gone.
            SettingsError: the folder can't be written.
        """
        if not _WORD.fullmatch(what) or len(what) > WORD_LETTERS:
            raise SettingsError(f"what was run is {what!r}: name it with letters, digits and -, {WORD_LETTERS} at most")
        run, parent = _judged(load), require_path("folder", folder)
        about = _about(run, what)
        return cls.read(new_folder(parent, about.began_ns, what, lambda new: _fill(new, about, run)))

    def add(self, load: LoadClient | JudgedRun) -> Repetition:
        """Keep one more repetition of this run; arguments and errors as in :meth:`keep`."""
        run, number = _judged(load), self.repetitions[-1].number + 1
        with _written_to(self.folder, lambda new: write_repetition(new / "new", run)) as new:
            self.repetitions.append(Repetition(_renamed(new / "new", [self.folder / str(number)])))
        return self.repetitions[-1]

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Read a kept run.

        Raises:
            RunUnreadable: it is none, or it is damaged.
        """
        path = require_path("folder", folder)
        if not (path / ABOUT).is_file():
            raise RunUnreadable(
                f"{path} is no kept run: it has no {ABOUT}. `zmqlab runs DIR` lists the runs in a folder"
            )
        about = decoded(path / ABOUT, (path / ABOUT).read_bytes(), About)
        if about.format > FORMAT:
            raise RunUnreadable(
                f"{path} is of a newer zmqlab: its format is {about.format}, and this one reads {FORMAT}"
            )
        numbers = sorted(int(each.name) for each in path.iterdir() if _NUMBER.fullmatch(each.name))
        if not numbers:
            raise RunUnreadable(f"{path} is damaged: it has no repetition, as in {path / '1'}")
        return cls(path, about, [Repetition(path / str(number)) for number in numbers])

    # -- figures -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.name

    @property
    def outcome(self) -> Outcome:
        """The worst of the repetitions' verdicts."""
        return min((each.verdict.outcome for each in self.repetitions), key=_WORST.index)

    @property
    def response_histogram(self) -> Histogram:
        """Response time over all repetitions."""
        return Histogram.merged(each.report.response_histogram for each in self.repetitions)

    @property
    def response_time(self) -> LatencySummary:
        """Percentiles of :attr:`response_histogram`."""
        return LatencySummary.of(self.response_histogram)

    @property
    def acknowledged(self) -> int:
        """Orders, over all repetitions."""
        return sum(each.report.result.total.acknowledged for each in self.repetitions)

    def spread(self, figure: Callable[[Repetition], float]) -> Spread:
        """A figure over all repetitions."""
        return Spread.of([figure(each) for each in self.repetitions])

    @property
    def throughput(self) -> Spread:
        """Orders acknowledged a second."""
        return self.spread(lambda each: each.report.throughput)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of cluster and load by name, as ``cluster.nodes`` and ``load.rate``."""
        named = {"cluster": self.about.cluster, "load": self.about.load}
        return {f"{group}.{name}": value for group, values in named.items() for name, value in values.items()}

    @property
    def when(self) -> str:
        """When the run began, in local time."""
        return date_and_time(self.about.began_ns)

    @property
    def title(self) -> str:
        """What was run, in one line."""
        nodes, rate = self.about.cluster.get("nodes"), self.about.load.get("rate")
        endpoints = counted(len(self.about.load.get("nodes", ())), "endpoint")
        words = [self.about.what, counted(nodes, "node") if nodes else endpoints]
        if self.about.load.get("stages"):
            words.append("rate in stages")
        else:
            words.append("as fast as possible" if rate is None else f"{rate:,.0f} orders/s offered")
        if len(self.repetitions) > 1:
            words.append(f"{len(self.repetitions)} repetitions")
        return ", ".join(words)

    def row(self) -> tuple[object, ...]:
        """Cells of a list of what was kept (:data:`zmqlab.runs.kept_list.HEAD`)."""
        times = self.response_time
        return (
            self.when,
            self.about.what if len(self.repetitions) == 1 else f"{self.about.what}, {len(self.repetitions)} times",
            f"{self.acknowledged:,}",
            f"{self.throughput.middle:,.0f}",
            text_of_ms(times.p50_ms),
            text_of_ms(times.p99_ms),
            self.outcome,
            self.folder,
        )

    # -- showing -----------------------------------------------------------------------------------------------

    def report(self, out: str | Path) -> Path:
        """Write the run as one HTML page that opens offline, and return its path. Raises SettingsError."""
        from zmqlab.runs.page_shell import write_page
        from zmqlab.runs.run_pages import run_page

        return write_page(out, run_page(self))

    def __repr__(self) -> str:
        told = [f"{self.title}, {self.when}"]
        for each in self.repetitions:
            told += [f"\nrepetition {each.number}" if len(self.repetitions) > 1 else "", repr(each)]
        return "\n".join(told)

    def _repr_html_(self) -> str:
        from zmqlab.runs.run_pages import run_in_notebook

        return run_in_notebook(self)


def as_word(name: str) -> str:
    """A name, as :meth:`Run.keep` takes it; empty if nothing of it is left."""
    return re.sub("[^A-Za-z0-9]+", "-", name).strip("-")[:WORD_LETTERS]


# -- inside --------------------------------------------------------------------------------------------------------


def _verdict_of(kept: KeptVerdict) -> Verdict:
    return Verdict(
        tuple(of_fields(Check, each) for each in kept.checks),
        kept.coverage,
        tuple(of_fields(NodeEvidence, each) for each in kept.nodes),
        kept.commands,
        {group: _verdict_of(each) for group, each in kept.groups.items()},
    )


def _judged(load: LoadClient | JudgedRun) -> JudgedRun:
    return load if isinstance(load, JudgedRun) else load.judged


def _about(run: JudgedRun, what: str) -> About:
    outcome = run.result.report.result
    return About(
        format=FORMAT,
        what=what,
        began_ns=outcome.started_ns,
        cluster=run.cluster,
        load=outcome.settings,
        machine=this_machine(),
        versions=these_versions(),
    )


def _fill(folder: Path, about: About, run: JudgedRun) -> None:
    write_json(folder / ABOUT, about)
    write_repetition(folder / "1", run)


def new_folder(parent: Path, time_ns: int, what: str, fill: Callable[[Path], None]) -> Path:
    """A new folder in ``parent``, filled, and named by a moment of the wall clock and by what it holds.

    Raises:
        SettingsError: it can't be written.
    """
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(time_ns / 1e9))}-{what}"
    with _written_to(parent, fill) as new:
        return _renamed(new, (parent / f"{name}{more}" for more in ("", *(f"-{n}" for n in range(2, MAX_NAMES)))))


@contextmanager
def _written_to(parent: Path, fill: Callable[[Path], None]) -> Iterator[Path]:
    """A folder in ``parent`` that no list shows, filled; what is left of it at the end is removed."""
    new: Path | None = None
    try:
        make_private(parent)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
        fill(new)
        yield new
    except OSError as error:
        raise SettingsError(f"the run can't be kept in {parent}: {reason_of(error)}. Name another folder") from None
    finally:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)


def expect_room(parent: Path) -> None:
    """Raise SettingsError if no run can be kept in ``parent``, for want of room, too; it is made if it is missing."""

    def fill(new: Path) -> None:
        (new / "room").write_bytes(bytes(ROOM_BYTES))

    with _written_to(parent, fill):
        pass


def _renamed(new: Path, names: Iterable[Path]) -> Path:
    """Give ``new`` the first of the names that is free."""
    for path in names:
        try:
            return new.rename(path)
        except OSError:
            if not path.exists():
                raise
    raise FileExistsError(f"{path} is there already")
