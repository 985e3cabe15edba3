"""Bad arguments of every command: one clear line on standard error, exit status 2; help that a person understands."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from zmqlab.cli import fault_commands, load_commands, run
from zmqlab.errors import ClusterError
from zmqlab.lab import processes
from zmqlab.sim import plan

NODES = "tcp://localhost:5002"
KEEPERS = ("quick", f"client --nodes {NODES}", "sweep", "torture", "run kill-the-leader")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("nonsense", "No such command 'nonsense'. (zmqlab --help explains)"),
        ("--nonsense", "No such option"),
        ("quick --nodes 0", "nodes is 0: it must be a whole number from 1 to 15"),
        (
            "quick --nodes three",
            "Invalid value for '--nodes': it must be a whole number (zmqlab quick --help explains)",
        ),
        ("quick --trace much", "Invalid value for '--trace': it must be a number (zmqlab quick"),
        ("client --metrics-port 70000", "Invalid value for '--metrics-port': it must be at most 65535 (zmqlab client"),
        ("quick --rate fast", "'fast' is not a rate"),
        ("quick --rate -5", "'-5' is not a rate"),
        ("quick --duration 0s", "'0s' is not a duration above zero"),
        ("quick --stages 1s:1000", "stages begin at 1 s"),
        ("quick --stages 0s:1000 --rate 7k", "leave the rate away"),
        (f"client --nodes {NODES} --stages 0s:fast", "'fast' is not a rate"),
        ("quick --durability ram", "durability is 'ram': choose os, fsync or memory"),
        ("quick --node-choice best", "node_choice is 'best'"),
        ("quick --seed -1", "seed is -1"),
        ("quick extra", "extra"),
        ("quick --fail-if p99", "threshold 'p99' can't be read: it is not METRIC>NUMBER"),
        ("quick --fail-if p98>5ms", "there is no metric p98. Metrics: p50, p90, p99"),
        (f"client --nodes {NODES} --fail-if p99>5", "the unit of p99 is us, ms or s"),
        ("torture --fail-if unserved>5ms", "the unit of unserved is a number, or a share in %"),
        ("node", "Missing option '--node'"),
        ("node --node n --port 70000", "port is 70000"),
        ("node --node n --port x", "Invalid value for '--port'"),
        ("node --node a/b --port 5000", "node name 'a/b'"),
        ("node --node n --port 5000 --peers localhost:5100", "'localhost:5100' is not an endpoint"),
        ("node --node n --port 5000 --peers tcp://localhost:5000", "leave it out of the peers"),
        ("node --node n --port 5000 --bind 0.0.0.0", "--insecure"),
        ("node --node n --port 5000 --bind 0.0.0.0", "give --keys DIR (`zmqlab keys DIR` makes them)"),
        ("node --node n --port 5000 --keys keys --insecure", "choose one of them"),
        ("node --node n --port 5000 --run-dir /tmp --keys nowhere", "nowhere/allowed can't be read: No such file"),
        ("keys", "Missing argument 'FOLDER'"),
        ("keys nowhere --role boss", "role 'boss': choose watcher, trader, operator or member"),
        ("keys /proc/keys", "keys can't be written to /proc/keys"),
        (f"status --nodes {NODES} --keys nowhere", "nowhere/allowed can't be read: No such file"),
        (f"client --nodes {NODES} --keys nowhere", "nowhere/allowed can't be read: No such file"),
        ("node --node n --port 5000 --durability ram", "durability is 'ram'"),
        ("node --node n --port 5000 --log-level loud", "log_level is 'loud': choose debug, info, warning or error"),
        ("client --nodes 5002", "'5002' is not an endpoint"),
        (f"client --nodes {NODES} --rate 0", "'0' is not a rate"),
        (f"client --nodes {NODES} --duration soon", "'soon' is not a duration"),
        (f"client --nodes {NODES} --symbols 0", "symbols"),
        ("quick --generators 0", "Invalid value for '--generators': it must be at least 1"),
        ("quick --generators 65", "generators is 65: it must be a whole number from 0 to 64"),
        ("quick --repeat 0", "Invalid value for '--repeat': it must be at least 1 (zmqlab quick --help explains)"),
        *((f"{command} --keep /proc/kept", "the run can't be kept in /proc/kept: ") for command in KEEPERS),
        (f"client --nodes {NODES} --history /proc/history", "--history '/proc/history' can't be written: "),
        ("torture --history .", "--history '.' can't be written: Is a directory"),
        ("runs nowhere", "nowhere is no folder: name the one that was given as --keep"),
        ("report", "Missing argument 'RUN'"),
        ("status --nodes ,", "names no node"),
        (f"status --nodes {NODES},{NODES}", "names a node twice"),
        (f"status --nodes {NODES} --timeout never", "'never' is not a duration"),
        (f"book --nodes {NODES}", "Missing argument"),
        (f"book aapl --nodes {NODES}", "not 'aapl'"),
        (f"book AAPL --nodes {NODES} --levels 0", "Invalid value for '--levels'"),
        ("run", "name a scenario, as in zmqlab run kill-the-leader"),
        ("run kill-the-leadr", "'kill-the-leader' perhaps; there is coordinated-omission"),
        ("run pyproject.toml", "pyproject.toml, line"),
        ("run kill-the-leader --seed -1", "Invalid value for '--seed'"),
        ("sweep --rates 1k,fast", "'fast' is not a rate"),
        ("sweep --rates max", "--rates says max: name numbers"),
        ("sweep --shards 0", "shards is 0"),
        ("sweep --nodes 3 --replication-factor 2", "every node holds the one group: say shards, too"),
        ("sweep --step soon", "'soon' is not a duration"),
        ("torture --nodes 2", "nodes is 2: it must be from 3 to 9"),
        ("torture --faults kill,flood", "no fault is called 'flood'"),
        ("torture --rate max", "write orders a second"),
        ("torture --duration soon", "'soon' is not a duration"),
        ("torture --durability memory", "survives nothing"),
        ("torture --replication magic", "replication 'magic': choose raft, leader-ack"),
        ("torture --replication broadcast --faults wipe", "broadcast has no leader that could do that"),
        ("sim --trace .", "--trace '.' can't be written: Is a directory"),
        ("sim --trace nowhere/trace.json", "can't be written: No such file or directory"),
        ("sim --runs 0", "Invalid value for '--runs': it must be at least 1"),
        ("sim --nodes 0", "Invalid value for '--nodes': it must be at least 1"),
        ("sim --nodes 10", "Invalid value for '--nodes': it must be at most 9"),
        ("sim --faults-ms 0", "Invalid value for '--faults-ms': it must be at least 1"),
        ("sim --runs 1 --jobs 0", "Invalid value for '--jobs': it must be at least 1"),
        ("sim --seed -1", "Invalid value for '--seed': it must be at least 0"),
        ("sim --runs 1 --first-seed -1", "Invalid value for '--first-seed': it must be at least 0"),
        ("sim --first-seed 7", "--first-seed and --jobs are of many runs: say how many with --runs"),
        ("sim --window 1-2", "--window is what --picture FILE shows"),
        (
            "sim --picture page.html --window 2-1",
            "--window is '2-1': write two times in milliseconds, the earlier first",
        ),
        ("sim --picture .", "the page can't be written to .: Is a directory. Name another file"),
        ("sim --picture /proc/page.html", "the page can't be written to /proc/page.html: "),
        (f"trace --nodes {NODES} --out /proc/page.html", "the page can't be written to /proc/page.html: "),
        (f"trace --nodes {NODES} --share 2", "Invalid value for '--share': it must be at most 1"),
        (f"trace --nodes {NODES} --share nan", "'--share'"),
        (f"trace --nodes {NODES} --group -1", "Invalid value for '--group': it must be at least 0"),
        ("grade 2 pyproject.toml --picture /proc/page.html", "the page can't be written to /proc/page.html: "),
        ("lab chapters", "lab takes no 'chapters': --to DIR says where your copy of the chapters is"),
        ("demo chapters", "demo takes no 'chapters': it shows the panel, and no other page"),
        ("ps --loud", "No such option: --loud"),
        ("reap --loud", "No such option: --loud"),
    ],
)
def test_a_bad_argument_is_one_line_and_status_2(command: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(command.split()) == 2
    captured = capfd.readouterr()  # a node writes to the descriptor
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1, captured.err
    assert said in captured.err
    assert captured.err.startswith("zmqlab")


HERE = [
    processes.ClusterHere("lab-1", ("node0", "node1"), ("tcp://127.0.0.1:5002", "tcp://127.0.0.1:5102")),
    processes.ClusterHere("", ("a",), ("tcp://[::1]:7002",)),
]


@pytest.mark.parametrize("command", ["status", "book AAPL", "scale 3", "remove node1", "client"])
def test_several_clusters_here_are_named_with_what_to_type(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "clusters_here", lambda: HERE)
    assert run(command.split()) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "2 clusters run on this machine; say which one is meant" in said
    assert "--nodes tcp://127.0.0.1:5002,tcp://127.0.0.1:5102 (lab-1: node0, node1)" in said
    assert "--nodes tcp://[::1]:7002 (started by hand: a)" in said


def test_without_a_cluster_here_nodes_must_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "clusters_here", list)
    assert run(["status"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "no node of yours runs on this machine: start some (zmqlab quick, zmqlab node)" in said


def test_the_one_cluster_here_is_meant(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With its members that are dead: what none of them answers is asked at the endpoints that are known."""
    silent = processes.ClusterHere("lab-1", ("node0",), ("tcp://127.0.0.1:9",))
    monkeypatch.setattr(processes, "clusters_here", lambda: [silent])
    assert run(["status", "--timeout", "50ms", "--json"]) == 1
    assert [each["endpoint"] for each in json.loads(capsys.readouterr().out)] == ["tcp://127.0.0.1:9"]


def test_keys_are_made_shown_and_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "keys")
    assert run(["keys", folder, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [each["role"] for each in made] == ["member", "operator", "trader", "watcher"]
    assert run(["keys", folder, "--add", "eve", "--role", "watcher"]) == 0
    shown = capsys.readouterr().out
    assert all(each["public_key"] in shown for each in made)
    assert "watcher   eve" in shown
    assert [path.name for path in (tmp_path / "keys" / "eve").glob("*.secret")] == ["eve.secret"]
    secrets = [path.read_text().strip() for path in tmp_path.rglob("*.secret")]
    assert not any(secret in shown for secret in secrets)
    assert run(["keys", folder, "--add", "eve", "--to", str(tmp_path / "again")]) == 2
    assert "called eve already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["", "quick", "node", "keys", "client", "status", "book", "run", "torture", "sweep", "ps", "reap", "lab", "demo"],
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    assert "Usage: " in capsys.readouterr().out


def test_without_arguments_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Start here: zmqlab quick" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("zmqlab ")


def test_nodes_that_do_not_answer_are_shown_and_fail(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["status", "--nodes", "tcp://127.0.0.1:9", "--timeout", "50ms"]
    assert run(arguments) == 1
    assert "silent" in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["state"] == "silent"


def test_a_book_that_no_node_gives_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["book", "AAPL", "--nodes", "tcp://127.0.0.1:9", "--timeout", "50ms"]) == 1
    assert "did not answer within" in capsys.readouterr().err


def test_the_installed_command_is_the_same() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "zmqlab.cli", "quick", "--rate", "fast"], capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert "is not a rate" in result.stderr


def test_a_fork_that_fails_is_none_of_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fork(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(load_commands, "cluster_of", fork)
    assert run(["quick"]) == 1
    said = capsys.readouterr().err
    assert said == "zmqlab quick: the system refuses what this needs: Resource temporarily unavailable\n"


def test_the_help_names_every_focus() -> None:
    assert re.findall(r"[\w-]+", fault_commands.FOCUSES) == [*plan.FOCUSES[:-1], "or", plan.FOCUSES[-1]]


@pytest.mark.parametrize(("repeat", "fails_at", "said"), [(1, 9, {"run": 1}), (3, 9, 3), (3, 3, 2)])
def test_repetitions_are_one_json_document(
    repeat: int, fails_at: int, said: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There was one for each. Those before one that fails are told."""
    runs: list[int] = []

    def watched(*_: object) -> SimpleNamespace:
        runs.append(len(runs) + 1)
        if len(runs) == fails_at:
            raise ClusterError("no leader")
        return SimpleNamespace(exit_status=10 if len(runs) == 2 else 0, as_dict=lambda: {"run": len(runs)})

    monkeypatch.setattr("zmqlab.lab.load_client.LoadClient", MagicMock())
    monkeypatch.setattr(load_commands, "cluster_of", MagicMock())
    monkeypatch.setattr(load_commands, "shown", MagicMock())
    monkeypatch.setattr(load_commands, "keep_run", lambda *_: None)
    monkeypatch.setattr(load_commands, "watched_to_its_end", watched)
    status = run(["quick", "--json", "--repeat", str(repeat)])
    told = json.loads(capsys.readouterr().out)
    assert (len(told) if repeat > 1 else {"run": told["run"]}) == said
    assert status == (1 if fails_at <= repeat else 10 if repeat > 1 else 0)


@pytest.mark.parametrize("arguments", ["--version", "sim --seed 1", "ps --json", "ps"])
def test_output_that_can_not_be_written_is_one_line_and_status_1(arguments: str) -> None:
    """A full disk behind ``>`` was a traceback."""
    with open("/dev/full", "w") as full:
        result = _zmqlab(arguments, stdout=full)
    assert result.returncode == 1
    assert "can't be written to standard output: No space left on device" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_output_that_the_shell_has_closed() -> None:
    result = subprocess.run(
        f"{sys.executable} -m zmqlab.cli ps --json >&-", shell=True, capture_output=True, text=True, timeout=30
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_names_that_the_locale_can_not_write() -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = _zmqlab("sim --trace nowhere/grün.json", env={**os.environ, **ascii_only})
    assert result.returncode == 2
    assert "can't be written: No such file or directory" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def _zmqlab(arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    more = {"stdout": subprocess.PIPE, **more}
    command = [sys.executable, "-m", "zmqlab.cli", *arguments.split()]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=30, check=False, **more)


def test_help_comes_without_loading_what_only_a_run_needs() -> None:
    script = "import sys; import zmqlab.cli; print(*[m for m in ('numpy', 'zmq', 'lmdb', 'hdrh') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.strip() == ""
