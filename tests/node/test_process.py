"""How a node starts, refuses to start, and ends: one clear line, and an exit status for each reason."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import lmdb
import pytest

from tests.node.conftest import LiveNode
from tests.waiting import wait_for
from zmqlab.client.order_client import Client
from zmqlab.errors import JournalDenied, RequestError
from zmqlab.lab import processes
from zmqlab.lab.hosts import free_base_ports
from zmqlab.node import process
from zmqlab.node.__main__ import parse_arguments
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.settings import NodeSettings
from zmqlab.wire.client import ResponseStatus

pytestmark = pytest.mark.process

BUY = (1, 1, 1, 1, 10, 0, 0x4C504141, 100, 1, 0)


def run_node(*arguments: str, shell_prefix: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zmqlab.node", *arguments]
    if shell_prefix:
        command = ["/bin/sh", "-c", f'{shell_prefix}; exec "$@"', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def one_line(finished: subprocess.CompletedProcess[str]) -> str:
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--node", "a b", "--port", "5000"], "node name 'a b'"),
        (["--node", "a", "--port", "70000"], "port is 70000: it must be a whole number from 1 to 65533"),
        (["--node", "a", "--port", "5000", "--peers", "localhost:1"], "'localhost:1' is not an endpoint"),
        (["--node", "a", "--port", "5000", "--peers", "tcp://localhost:5000"], "is this node itself"),
        (["--node", "a", "--port", "5000", "--bind", "0.0.0.0"], "lets others in: give --keys DIR"),
        (["--node", "a", "--port", "5000", "--bind", "0.0.0.0", "--insecure"], "--advertise"),
        (["--node", "a", "--port", "5000", "--election-ticks", "3"], "election_ticks is 3"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(arguments: list[str], words: str) -> None:
    finished = run_node(*arguments)
    assert finished.returncode == 2
    assert words in one_line(finished)


def test_settings_come_from_flags() -> None:
    flags = "--node n --port 5000 --peers tcp://localhost:5100 --leader --durability fsync --tick-ms 20"
    expected = NodeSettings(
        name="n", port=5_000, peers=("tcp://127.0.0.1:5100",), leader=True, durability="fsync", tick_ms=20
    )
    assert parse_arguments(flags.split()) == expected


def test_a_name_of_this_node_without_an_address_is_one_line_and_status_2(tmp_path: Path) -> None:
    """The others were told the name, and each of them waited for its name server in the thread that moves all data."""
    finished = run_node("--node", "a", "--port", "5000", "--advertise", "none.invalid", "--run-dir", str(tmp_path))
    assert finished.returncode == 2
    assert "no address is known for none.invalid: is the name right" in one_line(finished)


def test_the_names_of_a_node_become_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "own_address_of", {"node7": "10.0.0.7", "lo": "[::1]"}.__getitem__)
    named = NodeSettings(name="n", port=5_000, bind="0.0.0.0", insecure=True, advertise="node7")
    assert process._with_addresses(named).endpoint == "tcp://10.0.0.7:5000"
    for bind in ("127.0.0.1", "::1", "[::1]", "localhost"):
        plain = NodeSettings(name="n", port=5_000, bind=bind)
        assert process._with_addresses(plain) == plain
    monkeypatch.setattr("zmqlab.settings.is_loopback", lambda host: host in ("lo", "[::1]"))
    assert process._with_addresses(NodeSettings(name="n", port=5_000, bind="lo")).endpoint == "tcp://[::1]:5000"


def test_a_node_on_ipv6(tmp_path: Path) -> None:
    """It could not be bound: libzmq speaks IPv6 only where a socket asks for it."""
    port, metrics_port = free_base_ports(2)
    arguments = ["--port", str(port), "--bind", "::1", "--metrics-port", str(metrics_port), "--watch-stdin"]
    command = [sys.executable, "-m", "zmqlab.node", "--node", "six", "--run-dir", str(tmp_path), *arguments]
    running = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        with Client([f"tcp://[::1]:{port + 2}"], timeout_s=30) as client:
            assert client.buy("A", 1, 1).order_id
            assert client.endpoints == (f"tcp://[::1]:{port + 2}",)
            assert client.book("A").bids == [(1, 1, 1)]
        with urllib.request.urlopen(f"http://[::1]:{metrics_port}/readyz", timeout=60) as page:
            assert page.status == 200
        assert next(each for each in processes.ps() if each.pid == running.pid).role == "leader"
    finally:
        running.communicate(timeout=60)


def test_a_taken_port_is_status_3_and_names_who_has_it(tmp_path: Path) -> None:
    port = free_base_ports(1)[0]
    with socket.create_server(("127.0.0.1", port + 1)):
        finished = run_node("--node", "node0", "--port", str(port), "--run-dir", str(tmp_path))
    assert finished.returncode == 3
    line = one_line(finished)
    assert f"can't listen on 127.0.0.1:{port + 1}" in line
    assert f"(pid {os.getpid()})" in line or "another process" in line


def test_an_address_that_is_not_here_is_status_7(tmp_path: Path) -> None:
    flags = ("--node", "node0", "--port", str(free_base_ports(1)[0]), "--run-dir", str(tmp_path))
    finished = run_node(*flags, "--bind", "192.0.2.1", "--insecure")
    assert finished.returncode == 7
    assert "no interface of this machine has the address 192.0.2.1" in one_line(finished)


def test_a_log_that_cant_be_written_is_status_8(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file in its place")
    finished = run_node("--node", "node0", "--port", str(free_base_ports(1)[0]), "--run-dir", str(tmp_path))
    assert finished.returncode == 8
    assert f"the log below {tmp_path}/logs can't be written: File exists. Give" in one_line(finished)


def test_another_nodes_journal_is_status_4(tmp_path: Path) -> None:
    LmdbJournal(tmp_path / "data" / "node0", identity="node0 at tcp://127.0.0.1:1").close()
    port = free_base_ports(1)[0]
    finished = run_node("--node", "node0", "--port", str(port), "--run-dir", str(tmp_path))
    assert finished.returncode == 4
    assert "was written by 'node0 at tcp://127.0.0.1:1'" in one_line(finished)


def test_a_founder_of_shards_may_come_back_at_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a pod does. Its groups follow it; but the journal that it founded with was refused."""
    written_by: list[str] = []
    monkeypatch.setattr(process, "LmdbJournal", lambda _folder, *, identity, **_: written_by.append(identity))
    settings = NodeSettings(name="a", port=5_000, peers=("tcp://10.0.0.2:5000", "tcp://10.0.0.3:5000"))
    for place in ("tcp://10.0.0.1:5000", "tcp://10.0.0.9:5000"):
        process._open_journal(dataclasses.replace(settings, shards=8), place)
        process._open_journal(settings, place)
    assert written_by == ["a", "a at tcp://10.0.0.1:5000", "a", "a at tcp://10.0.0.9:5000"]


def test_no_room_is_status_5(tmp_path: Path) -> None:
    port = free_base_ports(1)[0]
    arguments = ("--node", "node0", "--port", str(port), "--run-dir", str(tmp_path))
    finished = run_node(*arguments, shell_prefix="ulimit -f 1")
    assert finished.returncode == 5
    assert "can't be written" in one_line(finished)
    assert "nothing that was promised is lost" in one_line(finished)


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    """LMDB's binding encodes a text strictly, and the node ended in a broken invariant."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    LmdbJournal(folder, identity="node0").close()
    assert (folder / "data.mdb").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_somebody_else_is_status_6(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.seteuid(10001)
    try:
        with pytest.raises(JournalDenied, match=r"this user \(10001\) may not"):
            LmdbJournal(tmp_path / "data" / "node0", identity="node0")
    finally:
        os.seteuid(0)


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=600k tmpfs "$1" && cd "$1" && shift || exit 99
"$@" --run-dir . 2>why
status=$?
cat why >&2
cat logs/node0.log
exit $status
"""
"""Runs a node in a file system of its own, which is gone with it; then gives out what it wrote there."""


def test_on_one_full_disk_log_and_standard_error_say_why(tmp_path: Path) -> None:
    """A cluster keeps both beside the journals. The line was lost, and with it the exit status."""
    port = free_base_ports(1)[0]
    mounts = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    node = [sys.executable, "-P", "-m", "zmqlab.node", "--node", "node0", "--port", str(port), "--watch-stdin"]
    command = [*mounts, "/bin/sh", "-c", ON_A_SMALL_DISK, "sh", str(tmp_path), *node]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        with Client([f"tcp://127.0.0.1:{port + 2}"], timeout_s=2) as client:
            while process.poll() is None:  # at first it is not there yet, and at last it answers no more
                with suppress(RequestError):
                    client.buy("ACME", 1, 100)
        output, errors = process.communicate(timeout=60)
    why = "No space left on device); 0 MiB are free on that disk. Make room and start the node again"
    assert process.returncode == 5, errors
    assert why in output.splitlines()[-1]
    assert len(errors.splitlines()) == 1
    assert why in errors


def test_an_exit_status_stays_where_standard_error_can_not_be_written(tmp_path: Path) -> None:
    LmdbJournal(tmp_path / "data" / "node0", identity="node0 at tcp://127.0.0.1:1").close()
    flags = ("--node", "node0", "--port", str(free_base_ports(1)[0]), "--run-dir", str(tmp_path))
    for place in ("file", "stderr"):
        assert run_node(*flags, "--log-to", place, shell_prefix="exec 2>/dev/full").returncode == 4


def test_a_node_starts_where_addresses_are_limited(tmp_path: Path) -> None:
    """``ulimit -v`` counts what is mapped: 64 GiB did not fit, and the node asked for room on the disk."""
    port = free_base_ports(1)[0]
    flags = ("--node", "node0", "--port", str(port), "--run-dir", str(tmp_path), "--watch-stdin")
    finished = run_node(*flags, shell_prefix="ulimit -v 4000000; exec </dev/null")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "addresses are limited (ulimit -v): the journal may grow to" in (tmp_path / "logs/node0.log").read_text()


def test_in_a_container_an_error_is_said_once(tmp_path: Path) -> None:
    LmdbJournal(tmp_path / "data" / "node0", identity="node0 at tcp://127.0.0.1:1").close()
    port = free_base_ports(1)[0]
    flags = ("--node", "node0", "--port", str(port), "--run-dir", str(tmp_path))
    finished = run_node(*flags, "--log-to", "stderr", "--log-format", "json")
    assert finished.returncode == 4
    assert json.loads(one_line(finished))["level"] == "error"
    assert not (tmp_path / "logs").exists()


def test_a_damaged_journal_is_status_6(tmp_path: Path) -> None:
    port = free_base_ports(1)[0]
    folder = tmp_path / "data" / "node0"
    journal = LmdbJournal(folder, identity=f"node0 at tcp://127.0.0.1:{port}")
    journal.store(None, [Entry(1, 1, EntryKind.DATA, b"x")], None)
    journal.close()
    with lmdb.open(str(folder), max_dbs=3) as environment:
        database = environment.open_db(b"entries")
        with environment.begin(write=True, db=database) as transaction:
            transaction.put((1).to_bytes(8, "big"), b"not what was written")
    finished = run_node("--node", "node0", "--port", str(port), "--run-dir", str(tmp_path))
    assert finished.returncode == 6
    assert "entry 1 fails its checksum" in one_line(finished)


def test_a_node_ends_with_its_standard_input_and_on_sigterm(node: LiveNode) -> None:
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(60) == 0
    assert "stop: signal SIGTERM" in (node.run_dir / "logs" / "node0.log").read_text()


def test_what_was_answered_survives_a_kill(node: LiveNode) -> None:
    client_id = node.open_session()
    for number in range(1, 51):
        assert node.request(client_id, number, BUY).status == ResponseStatus.OK
    before = node.status()
    node.kill_and_restart()
    after = node.status()
    assert after.orders_applied == before.orders_applied == 50
    assert after.open_orders == 50
    again = node.request(client_id, 50, BUY)
    assert again.flags == 1, "a retry across the restart gets the first answer"
    assert node.status().orders_applied == 50


def test_a_metrics_line_a_second_is_in_the_log(node: LiveNode) -> None:
    def lines() -> list[str]:
        return [line for line in (node.run_dir / "logs" / "node0.log").read_text().splitlines() if " metrics " in line]

    assert wait_for(lambda: " role=leader term=1 " in "".join(lines()[-1:]))
