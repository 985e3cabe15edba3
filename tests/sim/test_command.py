"""``zmqlab sim`` and ``python -m zmqlab.sim``: stories, many seeds on all cores, traces, failures, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from zmqlab.cli import run as zmqlab
from zmqlab.sim.__main__ import main
from zmqlab.sim.many import Result, run_many
from zmqlab.sim.mutations import MUTATIONS, planted
from zmqlab.sim.plan import SimSettings

QUICK = SimSettings(faults_ms=100)


def typer_main(arguments: list[str]) -> int:
    return zmqlab(["sim", *arguments])


both = pytest.mark.parametrize("command", [main, typer_main], ids=["python -m zmqlab.sim", "zmqlab sim"])


@both
def test_a_seed_tells_its_story(command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--seed", "7", "--nodes", "3"]) == 0
    told = capsys.readouterr().out
    assert "3 nodes, durability " in told
    assert "leads term" in told
    assert "at rest" in told


@both
def test_many_seeds_are_counted(command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--runs", "3", "--first-seed", "4", "--faults-ms", "100", "--jobs", "1"]) == 0
    assert "3 runs, 0 failed" in capsys.readouterr().out


@both
def test_a_bad_setting_is_one_line(command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--nodes", "40"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert "nodes" in told
    assert "9" in told, "the most that there can be"


@both
def test_a_failing_seed_is_printed_and_is_status_1(
    command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    mutation = next(each for each in MUTATIONS if each.name.startswith("an answered request"))
    with planted(mutation):
        assert command(["--runs", "9", "--jobs", "1"]) == 1
    told = capsys.readouterr().out
    assert re.search(r"^seed \d failed: .+", told, re.MULTILINE)
    assert "9 runs, " in told


def test_a_trace_holds_what_happened(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    assert zmqlab(["sim", "--seed", "7", "--trace", str(path)]) == 0
    trace = json.loads(path.read_text())
    assert (trace["format"], trace["version"], trace["seed"], trace["ok"]) == ("zmqlab sim trace", 1, 7, True)
    times = [event["at_us"] for event in trace["events"]]
    assert times == sorted(times)
    kinds = {event["event"] for event in trace["events"]}
    assert kinds >= {"story", "frame", "started", "leads", "stored", "applied", "invoked", "answered"}
    assert trace["figures"]["lost"] == sum(
        event["event"] == "lost" or (event["event"] == "frame" and not event["arrives_us"]) for event in trace["events"]
    )
    leads = [event for event in trace["events"] if event["event"] == "leads"]
    assert len(leads) == trace["figures"]["elections"]


def test_a_trace_is_of_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert zmqlab(["sim", "--runs", "2", "--trace", "out.json"]) == 2
    assert "--trace and --picture are of one run" in capsys.readouterr().err


def test_all_cores_give_the_same_results_as_one() -> None:
    def by_seed(results: list[Result]) -> list[Result]:
        return sorted(results, key=lambda result: result.seed)

    here, there = (by_seed(list(run_many(3, 12, QUICK, jobs))) for jobs in (1, 2))
    assert here == there
    assert [result.seed for result in here] == list(range(3, 15))


def wait_for_workers(pid: int, count: int) -> None:
    """Until the processes are there: Python itself is rough with an interrupt while it imports."""
    end = time.monotonic() + 120
    while sum("spawn_main" in str(child.cmdline()) for child in psutil.Process(pid).children()) < count:
        assert time.monotonic() < end, "no workers within two minutes"
        time.sleep(0.05)
    time.sleep(0.2)


def test_an_interrupt_ends_all_processes_and_tells_how_far_it_was() -> None:
    command = [sys.executable, "-m", "zmqlab.cli", "sim", "--runs", "100000", "--jobs", "2"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
    try:
        wait_for_workers(running.pid, 2)
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 130
    assert "runs/s" in out
    assert "Traceback" not in err
