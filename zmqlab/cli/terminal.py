"""What a person sees of a run while it goes on: the whole screen of a terminal, or a line a second.

:class:`LiveRun` shows a run. Where its stream is a terminal, it takes the whole screen, and gives it back as it was:
at the end, after Ctrl-C, after an exception, and while the command is suspended with Ctrl-Z. The size is asked for
before each picture, so that a terminal may be made larger or smaller at any time. Anywhere else, and with ``--plain``,
it prints a line a second. A terminal that can't move its cursor (``TERM=dumb``) or can't write the characters of the
charts gets lines, too. ``NO_COLOR`` is respected: rich leaves out the colours then.

What is drawn is decided by pure functions, in :mod:`~zmqlab.cli.live_view`. The status line is that of the panel
(:mod:`zmqlab.lab.service_status`).

Messages that arrive at standard error while the screen is taken wait until it is given back; they would be drawn over
otherwise.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from zmqlab.cli.live_view import FIGURES_OVER, Columns, Readings, Tick, figures_of, node_rows, one_line, screen
from zmqlab.cli.output import console_on, rich_text, size_of, width_of
from zmqlab.cli.styled_lines import shortened, wrapped
from zmqlab.errors import FrameError
from zmqlab.lab.events import Sort
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.incidents import title_of
from zmqlab.lab.service_facts import Facts, ServiceWatch
from zmqlab.lab.service_status import Level, service_status
from zmqlab.load.load_messages import LoadMetrics, decode_metrics

if TYPE_CHECKING:
    from zmqlab.judge.live_count import SoFar
    from zmqlab.lab.cluster import Cluster
    from zmqlab.lab.feed import MetricsFeed
    from zmqlab.wire.control import Event

REFRESH_S = 0.25
LINE_S = 1.0
POLL_S = 0.05
JOIN_S = 1.0
"""How long the end waits for the last picture or line."""
TICKS_KEPT = 500
"""More than any terminal is high."""
BANNERS = {
    Level.SERVING: "good banner",
    Level.DEGRADED: "warn banner",
    Level.UNSERVED: "bad banner",
    Level.NOT_JUDGED: "unknown banner",
    Level.NO_KERNEL: "unknown banner",
}
SORT_STYLES = {Sort.FAULT: "bad", Sort.CHANGE: "change", Sort.ELECTION: "title"}
ALL_SORTS = frozenset(Sort)
ENDING = "ending"
"""The phase behind all others: all is known, and what was started is ended."""
CHARACTERS = "▁●…"
"""A terminal that has these has all that are drawn."""


def is_drawn_on(stream: TextIO, plain_wanted: bool = False) -> bool:
    """Whether a whole screen can be drawn there, and is wanted."""
    if plain_wanted or not stream.isatty() or not os.environ.get("TERM"):
        return False
    try:
        CHARACTERS.encode(stream.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    console = console_on(stream)
    return console.is_terminal and not console.is_dumb_terminal


class _Display(Protocol):
    """One way to show a run."""

    period_s: float
    """How often it wants to show the newest readings."""

    def open(self) -> None:
        """Before anything is shown."""

    def show(self, readings: Readings) -> None:
        """The newest readings."""

    def tell(self, tick: Tick) -> None:
        """Something has happened."""

    def close(self) -> None:
        """Nothing more is shown. May be called again."""


class _Lines:
    """A line a second, and one for each thing that happens."""

    period_s = LINE_S

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = ""

    def open(self) -> None:
        """Nothing is to be done."""

    def show(self, readings: Readings) -> None:
        """One line, unless it is the same as before."""
        width = width_of(self._stream)
        line = one_line(readings) if width is None else shortened(one_line(readings), width)
        if line != self._last:
            self._last = line
            self._write(line)

    def tell(self, tick: Tick) -> None:
        """One line, or several in a terminal that is not wide enough."""
        line, width = f"{tick.at_s:7.2f} s  {tick.text}", width_of(self._stream)
        self._write(line if width is None else "\n".join(wrapped(line, width, hang=11)))

    def close(self) -> None:
        """Nothing is to be done."""

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")  # in one piece: several threads tell something
        self._stream.flush()


class _Screen:
    """The whole terminal, which is given back as it was."""

    period_s = REFRESH_S

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = console_on(stream)
        self._lock = threading.RLock()
        """Held while anything is written to the terminal."""
        self._held: tuple[TextIO, io.StringIO] | None = None
        """Standard error as it was, and what was written to it since."""
        self._is_taken = False
        self._is_over = False
        """The screen is being given back for good: a Ctrl-Z from now on does not take it again."""
        self._suspended_before: Any = None
        """What SIGTSTP did before."""

    def open(self) -> None:
        """Take the screen."""
        try:
            if sys.stderr is not None and sys.stderr.isatty():
                self._held = sys.stderr, io.StringIO()
                sys.stderr = self._held[1]
            if self._can_be_suspended():
                self._suspended_before = signal.signal(signal.SIGTSTP, self._suspend)
            self._take()
        except BaseException:
            self.close()
            raise

    def show(self, readings: Readings) -> None:
        """Draw all of it. After the end nothing is drawn."""
        with self._lock:
            if self._console.is_alt_screen:
                self._console.size = size = size_of(self._stream)
                self._console.update_screen(rich_text(screen(readings, size.width, size.height)))

    def tell(self, tick: Tick) -> None:
        """It stands in the readings."""

    def close(self) -> None:
        """Give the screen back, whatever happens meanwhile."""
        self._is_over = True
        try:
            self._give_back()
        except KeyboardInterrupt:  # pressed twice: the terminal comes first
            self._give_back()
            raise
        finally:
            if self._suspended_before is not None:
                signal.signal(signal.SIGTSTP, self._suspended_before)
                self._suspended_before = None
            if self._held is not None:
                (sys.stderr, said), self._held = self._held, None
                sys.stderr.write(said.getvalue())

    @staticmethod
    def _can_be_suspended() -> bool:
        """Not where a shell without jobs has started this process: it ignores the signal then."""
        in_main = threading.current_thread() is threading.main_thread()
        return in_main and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL

    def _take(self) -> None:
        with self._lock:
            self._is_taken = True  # first: Ctrl-C may come before the next line has ended
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)

    def _give_back(self) -> None:
        with self._lock:
            if self._is_taken:
                self._console.show_cursor(True)
                self._console.set_alt_screen(False)
                self._is_taken = False

    def _suspend(self, *_: object) -> None:
        """Ctrl-Z: the shell gets its screen, until it lets this process go on."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._suspend)
        if not self._is_over:
            self._take()


def _said_of(so_far: SoFar | None) -> tuple[str, str]:
    """What was lost so far, for people, and its style."""
    if so_far is None:
        return "", ""
    return str(so_far), "bad" if so_far.lost or so_far.misplaced or so_far.twice else "dim"


class LiveRun:
    """A run, shown while it goes on. Use it as a context manager around all of the run.

    Args:
        command: what was typed.
        about: what runs, the most important first.
        stream: where it is shown.
        plain: lines also in a terminal.
        duration_s: how long the load goes on; infinite: that is not known.
        advice: what Ctrl-C does.
        sorts: which events of the cluster are told.
    """

    def __init__(
        self,
        command: str,
        about: Sequence[str],
        stream: TextIO,
        *,
        plain: bool = False,
        duration_s: float = math.inf,
        advice: str = "",
        sorts: frozenset[Sort] = ALL_SORTS,
    ) -> None:
        self.phase = "starting"
        """What goes on beside the load; empty: the load alone."""
        self.doing: Callable[[], str] = lambda: ""
        """Says what is done to the cluster now."""
        self.counters: Callable[[], Sequence[str]] = tuple
        """Further figures, for people."""
        self.so_far: Callable[[], SoFar | None] = lambda: None
        """What was lost so far; None: that is not counted."""
        self._command, self._about, self._advice, self._sorts = command, about, advice, sorts
        self._duration_s = duration_s
        self._began_s = time.monotonic()
        self._began_ns = time.time_ns()
        """The same moment on the wall clock, by which events are told."""
        self._feed: MetricsFeed | None = None
        self._watch: ServiceWatch | None = None
        self._columns = Columns()
        self._recent: dict[str, deque[LoadMetrics]] = {}
        self._ticks: deque[Tick] = deque(maxlen=TICKS_KEPT)
        """With times on the monotonic clock."""
        self._ends: list[Callable[[], None]] = []
        """What is to be done when nothing more is shown."""
        self._display: _Display = _Screen(stream) if is_drawn_on(stream, plain) else _Lines(stream)
        self._error: OSError | None = None
        """The output can't be written any more."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show_again_and_again, name="zmqlab-terminal", daemon=True)

    def __enter__(self) -> LiveRun:
        self._display.open()
        try:
            self._show()
            self._thread.start()
        except BaseException:
            self._display.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        try:
            for end in self._ends:
                end()
            self._thread.join(JOIN_S)
        finally:
            self._display.close()
        self.check()

    # -- what is told ----------------------------------------------------------------------------------------------

    def watch(self, feed: MetricsFeed, cluster: Cluster | None = None) -> None:
        """Show what the nodes and load clients of this feed publish, and what is known of this cluster's processes."""
        self._feed = feed
        self._watch = watch = ServiceWatch.of(cluster) if cluster is not None else ServiceWatch(feed)
        self._ends += [
            watch.close,
            feed.on_load_frame(self._take, at_once=True),
            feed.on_event(self._hear, at_once=True),
        ]

    def begin(self) -> None:
        """The first order is sent: time counts from here."""
        self._began_s, self._began_ns, self.phase = time.monotonic(), time.time_ns(), ""

    def tell(self, text: str, style: str = "", at_s: float | None = None) -> None:
        """Something has happened: just now, or so long after the first order.

        Raises:
            OSError: in the main thread only: the output can't be written, so that the command need not go on.
        """
        tick = Tick(time.monotonic() if at_s is None else self._began_s + at_s, text, style)
        self._ticks.append(tick)
        try:
            self._display.tell(self._since_begin(tick))
        except OSError as error:
            self._error = error
        if threading.current_thread() is threading.main_thread():
            self.check()

    def wait(self, is_running: Callable[[], bool], stop: Callable[[], None], said: str) -> None:
        """Until it has ended. Ctrl-C has it stop, and a second one ends the command.

        Raises:
            OSError: the output can't be written.
        """
        try:
            self._wait(is_running)
        except KeyboardInterrupt:
            told = f"interrupted: {said}"
            print(told, file=sys.stderr)
            self._ticks.append(Tick(time.monotonic(), told, "warn"))
            stop()
            self._wait(is_running)

    def check(self) -> None:
        """Raise OSError if the output can't be written."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _wait(self, is_running: Callable[[], bool]) -> None:
        while is_running():
            self.check()
            time.sleep(POLL_S)

    # -- what is shown ---------------------------------------------------------------------------------------------

    def readings(self) -> Readings:
        """All of it, now."""
        facts = self._watch.facts() if self._watch is not None else None
        phase = self._phase(facts)
        figures = figures_of({name: list(recent) for name, recent in list(self._recent.items())})
        return Readings(
            command=self._command,
            about=self._about,
            clock="" if phase else self._clock(),
            status=self._status(facts, phase),
            counters=self.counters(),
            lost=_said_of(self.so_far()),
            bars=self._columns.bars,
            figures=figures,
            nodes=node_rows(facts.nodes) if facts is not None and phase != ENDING else (),
            ticker=[self._since_begin(tick) for tick in list(self._ticks)],
            doing=phase or self.doing(),
            advice=self._advice,
        )

    def _since_begin(self, tick: Tick) -> Tick:
        return tick._replace(at_s=tick.at_s - self._began_s)

    def _phase(self, facts: Facts | None) -> str:
        """What goes on beside the load. This command ends the nodes itself, or listens no longer: then nothing is said
        of them, for none of them has failed."""
        is_deaf = self._feed is not None and self._feed.closed
        is_over = is_deaf or (facts is not None and facts.life == "stopped")
        return ENDING if is_over else self.phase

    def _clock(self) -> str:
        passed_s = max(0.0, time.monotonic() - self._began_s)
        return f"{passed_s:.0f} s" if math.isinf(self._duration_s) else f"{passed_s:.0f} of {self._duration_s:g} s"

    def _status(self, facts: Facts | None, phase: str) -> tuple[str, str]:
        if phase or facts is None:
            return f"{Level.NOT_JUDGED.symbol} {phase.upper()}", BANNERS[Level.NOT_JUDGED]
        status = service_status(facts)
        return f"{status.level.symbol} {status.line(facts.now_ns)}", BANNERS[status.level]

    def _show_again_and_again(self) -> None:
        while not self._over.wait(self._display.period_s):
            self._show()

    def _show(self) -> None:
        try:
            self._display.show(self.readings())
        except OSError as error:
            self._error = error
            self._over.set()

    # -- what comes in, in the feed's thread -----------------------------------------------------------------------

    def _take(self, frame: bytes) -> None:
        with contextlib.suppress(FrameError):
            snapshot = decode_metrics(frame)
            self._columns.take(snapshot)
            self._recent.setdefault(snapshot.name, deque(maxlen=FIGURES_OVER)).append(snapshot)

    def _hear(self, event: Event) -> None:
        mark = FAULTS.marks.get(event.kind)
        if mark is not None and mark.sort in self._sorts:
            text = title_of(event) if mark.sort is Sort.FAULT else mark.label_of(event)
            self.tell(text, SORT_STYLES[mark.sort], (event.time_ns - self._began_ns) / 1e9)
