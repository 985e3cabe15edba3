"""A run on a whole screen: what a person sees, and that the terminal is given back as it was, whatever happens."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("pyte", reason="pyte draws what a person would see: pip install 'zmqlab[test]'")

from tests.cli.readings import a_snapshot
from tests.cli.terminals import Terminal
from tests.waiting import wait_for
from tests.widgets.fake_cluster import FakeCluster
from zmqlab.cli.final_report import Checked, Figure, Rows, Said, lines_of, of_sweep
from zmqlab.cli.output import show_blocks, size_of
from zmqlab.cli.styled_lines import plain
from zmqlab.cli.terminal import LiveRun, is_drawn_on
from zmqlab.lab.events import LabEvent
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.sweep import Sweep, SweepStep
from zmqlab.load.load_messages import encode_metrics
from zmqlab.load.load_report import LatencySummary


@pytest.fixture(autouse=True)
def a_good_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as opened:
        yield opened


def a_run(terminal: Terminal, **other: bool) -> LiveRun:
    return LiveRun("zmqlab quick", ["3 nodes"], terminal.stream, duration_s=9.0, advice="Ctrl-C ends it", **other)


def test_a_run_from_its_start_to_its_end(terminal: Terminal) -> None:
    with MetricsFeed() as feed, a_run(terminal) as live:
        assert wait_for(lambda: "STARTING" in terminal.lines[1])
        live.watch(feed)
        live.begin()
        for tenth in range(20):
            feed._take_load_frame(0, encode_metrics(a_snapshot(100 + tenth / 10, 100, 100)))
        feed.note(LabEvent.KILLED, "node1")
        live.tell("something else")
        assert wait_for(lambda: any("node1 killed" in line for line in terminal.lines))
        assert wait_for(lambda: any(line.endswith(" 1,000") for line in terminal.lines))
        text = "\n".join(terminal.lines)
        assert "something else" in text
        assert "of 9 s" in terminal.lines[0]
        assert "Ctrl-C ends it" in terminal.lines[-1]
        live.phase = "judging"
        assert wait_for(lambda: "JUDGING" in terminal.lines[1])
        assert not terminal.is_as_it_was
    assert wait_for(lambda: terminal.is_as_it_was)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_the_terminal_is_given_back_whatever_ends_the_run(terminal: Terminal, error: type[BaseException]) -> None:
    def end() -> None:
        assert wait_for(lambda: "\x1b[?25l" in terminal.raw)
        raise error

    with pytest.raises(error), a_run(terminal):
        end()
    assert wait_for(lambda: terminal.is_as_it_was)
    assert "\x1b[?1049h" in terminal.raw


def test_a_second_ctrl_c_while_the_screen_is_given_back(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    live = a_run(terminal)
    console = live._display._console  # type: ignore[attr-defined]
    leave, pressed = console.set_alt_screen, []

    def press(enable: bool = True) -> bool:
        if not enable and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        return bool(leave(enable))

    monkeypatch.setattr(console, "set_alt_screen", press)
    with pytest.raises(KeyboardInterrupt), live:
        pass
    assert wait_for(lambda: "\x1b[?1049l" in terminal.raw)
    assert terminal.raw.endswith("\x1b[?1049l")


def test_ctrl_c_has_the_run_stop_and_a_second_one_ends_it(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = threading.Event()
    presses = iter([KeyboardInterrupt, KeyboardInterrupt])

    def runs() -> bool:
        with contextlib.suppress(StopIteration):
            raise next(presses)
        return False

    with pytest.raises(KeyboardInterrupt), a_run(terminal) as live:
        live.wait(runs, ended.set, "ending the load")
    assert ended.is_set()
    assert "interrupted: ending the load" in capsys.readouterr().err


def test_the_picture_follows_the_size_of_the_terminal(terminal: Terminal) -> None:
    with a_run(terminal) as live:
        live.tell("word " * 40)
        assert wait_for(lambda: "Ctrl-C ends it" in terminal.lines[23])
        terminal.resize(40, 14)
        assert wait_for(lambda: "Ctrl-C ends it" in terminal.lines[13])
        terminal.resize(120, 40)
        assert wait_for(lambda: "Ctrl-C ends it" in terminal.lines[39])
        assert size_of(terminal.stream) == (120, 40)
        assert not any("wor" in line.split() for line in terminal.lines)


def test_a_suspended_run_gives_the_terminal_back_until_it_goes_on(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[bool] = []
    monkeypatch.setattr(os, "kill", lambda *_: given_back.append(wait_for(lambda: terminal.is_as_it_was)))
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)  # also where the tests run without a terminal
    before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    with a_run(terminal):
        signal.raise_signal(signal.SIGTSTP)
        assert given_back == [True]
        assert wait_for(lambda: terminal.raw.count("\x1b[?1049h") == 2)
    assert wait_for(lambda: terminal.is_as_it_was)
    assert signal.signal(signal.SIGTSTP, before) is signal.SIG_DFL


def test_a_ctrl_z_while_the_screen_is_given_back_does_not_take_it_again(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: None)
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)  # also where the tests run without a terminal
    before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    live = a_run(terminal)
    display = live._display
    give_back, pressed = display._give_back, []  # type: ignore[attr-defined]

    def then_press() -> None:
        give_back()
        if not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGTSTP)

    monkeypatch.setattr(display, "_give_back", then_press)
    with live:
        pass
    assert pressed
    assert wait_for(lambda: "\x1b[?1049l" in terminal.raw)
    assert terminal.is_as_it_was
    assert terminal.raw.count("\x1b[?1049h") == 1
    assert signal.signal(signal.SIGTSTP, before) is signal.SIG_DFL


def test_what_is_said_while_the_screen_is_taken_comes_when_it_is_given_back(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    with a_run(terminal):
        print("a warning", file=sys.stderr)
        assert "a warning" not in terminal.raw
    assert wait_for(lambda: "a warning" in terminal.raw.rpartition("\x1b[?1049l")[2])
    assert sys.stderr is terminal.stream


def test_no_colour_where_none_is_wanted(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    report = [Figure("throughput", "5,000 orders/s"), Checked(("ok", "good"), "nothing lost"), Said("PASSED", "good")]
    show_blocks(report, terminal.stream)
    assert wait_for(lambda: "PASSED" in terminal.raw)
    assert "\x1b[1;32m" in terminal.raw
    monkeypatch.setenv("NO_COLOR", "1")
    coloured = terminal.raw
    with a_run(terminal) as live:
        live.tell("node1 killed", "bad")
        assert wait_for(lambda: "node1 killed" in terminal.raw)
    show_blocks(report, terminal.stream)
    assert wait_for(lambda: terminal.raw.count("PASSED") == 2)
    for colour in ("[1;32m", "[31m", "[1;31m", "[34m", "48;5"):
        assert colour not in terminal.raw[len(coloured) :]


@pytest.mark.parametrize(
    ("term", "plain", "encoding", "drawn"),
    [
        ("xterm", False, "utf-8", True),
        ("xterm", True, "utf-8", False),
        ("dumb", False, "utf-8", False),
        ("", False, "utf-8", False),
        ("xterm", False, "ascii", False),
    ],
)
def test_where_a_screen_is_drawn(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, term: str, plain: bool, encoding: str, drawn: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    with os.fdopen(os.dup(terminal.slave), "w", encoding=encoding) as stream:
        assert is_drawn_on(stream, plain) is drawn
    assert not is_drawn_on(io.StringIO())


def test_lines_where_there_is_no_screen() -> None:
    out = io.StringIO()
    with MetricsFeed() as feed, LiveRun("zmqlab quick", [], out) as live:
        live.watch(feed)
        live.begin()
        live.tell("node1 killed", at_s=1.5)
        feed._take_load_frame(0, encode_metrics(a_snapshot(100.0, 100, 100)))
        assert wait_for(lambda: "acknowledged 100" in out.getvalue())
    assert out.getvalue().splitlines()[0] == "starting"
    assert "   1.50 s  node1 killed" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_nothing_is_said_of_nodes_that_the_command_itself_has_ended() -> None:
    cluster = FakeCluster()
    live = LiveRun("zmqlab quick", [], io.StringIO())
    live.watch(cluster.feed, cluster)  # type: ignore[arg-type]
    try:
        cluster.say("node0")
        live.phase = "judging"
        assert [node.role for node in live.readings().nodes] == ["leader", "starting", "starting"]
        cluster.running = ()
        assert [node.role for node in live.readings().nodes] == ["dead", "dead", "dead"]
    finally:
        cluster.stop()
    assert live.readings().nodes == ()
    assert (live.readings().doing, live.readings().status[0]) == ("ending", "○ ENDING")


def test_nothing_is_said_of_nodes_when_the_command_has_stopped_listening() -> None:
    live = LiveRun("zmqlab client", [], io.StringIO())
    with MetricsFeed() as feed:
        live.watch(feed)
        assert live.readings().doing == "starting"
    assert (live.readings().doing, live.readings().nodes) == ("ending", ())


def test_lines_in_a_terminal_break_no_word(terminal: Terminal) -> None:
    with a_run(terminal, plain=True) as live:
        live.tell("kill leader: node0, " * 8, at_s=1.5)
        assert wait_for(lambda: terminal.raw.count("leader") == 8)
    words = {word for line in terminal.lines for word in line.split()}
    assert words == {"starting", "1.50", "s", "kill", "leader:", "node0,"}
    assert "\x1b" not in terminal.raw


class Full(io.StringIO):
    """A stream that takes nothing."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_output_that_can_not_be_written_ends_the_run() -> None:
    live = LiveRun("zmqlab quick", [], Full())
    with pytest.raises(OSError, match="No space left"), live:
        live.wait(lambda: True, lambda: None, "")


def test_output_that_can_not_be_written_ends_a_run_that_only_tells() -> None:
    """As ``zmqlab run`` with its story in a pipe that was closed. Threads that tell something go on."""
    live = LiveRun("zmqlab run", [], Full())
    went_on: list[str] = []

    def tell(who: str) -> None:
        live.tell(who)
        went_on.append(who)

    def tell_all() -> None:
        telling = threading.Thread(target=tell, args=("a thread",))
        telling.start()
        telling.join()
        tell("the command")

    with pytest.raises(OSError, match="No space left"), live:
        tell_all()
    assert went_on == ["a thread"]


def test_a_report_fits_the_terminal_and_ends_with_its_verdict() -> None:
    long = "a value of many words, which is longer than forty characters are wide"
    report = [Figure("name", long), Rows(("fault", "gap worst ms"), [("kill leader", 1)]), Said(long), Said("PASSED")]
    with Terminal(40, 20) as terminal:
        show_blocks(report, terminal.stream)
        assert wait_for(lambda: "PASSED" in terminal.raw)
        lines = [line for line in terminal.lines if line]
    assert lines[-1] == "PASSED"
    assert lines[0] == "name           a value of many words,"
    words = " ".join(lines).split()
    assert set(long.split()) <= set(words)
    out = io.StringIO()
    show_blocks(report, out)
    assert out.getvalue().splitlines()[0] == f"name           {long}"


def a_step(rate: float, acknowledged: float, p99_ms: float) -> SweepStep:
    times = LatencySummary(1.0, 2.0, p99_ms, 2 * p99_ms, 3 * p99_ms)
    return SweepStep(rate, rate, acknowledged, times, times, 0.0)


def test_a_sweep_ends_with_its_knee_and_fits_80_columns() -> None:
    found = Sweep([a_step(1_000, 1_000, 2.5), a_step(200_000, 198_000, 12.0), a_step(300_000, 210_000, 2_400.0)])
    lines = [plain(line) for line in lines_of(of_sweep(found), 80)]
    assert lines[-1] == "the knee: 198,000 orders/s, the most with which the cluster kept up"
    assert max(map(len, lines)) <= 80
    bars = [line.count("▇") for line in lines if "▇" in line]
    assert bars == sorted(bars)
    assert len(bars) == 3
    assert "with none of these rates" in plain(lines_of(of_sweep(Sweep([a_step(5, 0, 0.0)])), 80)[-1])
