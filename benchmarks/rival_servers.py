"""How ``rivals.py`` starts PySyncObj, Redis, etcd and NATS: three processes each, on loopback, in temporary folders.

Options that differ from a program's default stand beside its start, with the reason. Each server ends with the block
that has started it, and is killed by the kernel if this process dies first.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from machine import cpu_s
from targets import END_S, HERE, TREE, Load, Running, environment, figures_of, run_load

from zmqlab.lab.hosts import free_base_ports

MEMBERS = 3
READY_S = 30.0
SBIN = "/usr/sbin:/usr/local/sbin"
"""Debian puts nats-server there, which is not on every user's path."""
DEBIAN = {"etcd": "etcd-server"}
"""Program -> its package in Debian, if that has another name."""
PYPI = {"grpc": "grpcio"}
"""Module -> its distribution, if that has another name."""
LOOPBACK = "127.0.0.1"
STREAM = {"name": "orders", "subjects": ["orders"], "num_replicas": MEMBERS, "storage": "file"}


class Served:
    """A rival whose servers run."""

    def __init__(
        self, kind: str, endpoints: list[tuple[str, int]], processes: Sequence[subprocess.Popen[bytes]]
    ) -> None:
        self._kind = kind
        self._endpoints = endpoints
        self._processes = [psutil.Process(process.pid) for process in processes]

    def load(self, rate: float | None, seconds: float) -> Load:
        """One load, from a process of its own."""
        values = json.dumps({"endpoints": self._endpoints, "rate": rate, "duration_s": seconds})
        command = [sys.executable, str(HERE / "rival_load.py"), self._kind, values]
        told, (spent_s,) = run_load(command, TREE, seconds, lambda: (cpu_s(self._processes),))
        return figures_of(told, rate, spent_s, 0)


@contextlib.contextmanager
def server(*command: str, stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, and that the kernel kills if this process dies first."""
    bound = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    process = subprocess.Popen(
        [*bound, *command],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env=environment(TREE),
        start_new_session=True,  # Ctrl-C ends this process, which ends them
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def members(
    command: Sequence[str], options: Callable[[Path, list[int], int], Sequence[str]], stdout: int = subprocess.DEVNULL
) -> Iterator[tuple[list[int], list[subprocess.Popen[bytes]]]]:
    """The processes of a rival, and their ports.

    Args:
        command: what each of them runs.
        options: for one of them: of an empty folder of its own, the ports of all, and its number.
        stdout: where their standard output goes.
    """
    with (
        tempfile.TemporaryDirectory(prefix="zmqlab-rivals-", ignore_cleanup_errors=True) as where,
        ExitStack() as stack,
    ):
        ports = free_base_ports(MEMBERS)
        processes = []
        for number in range(MEMBERS):
            own = Path(where, str(number))
            own.mkdir()
            run = server(*command, *options(own, ports, number), stdout=stdout)
            processes.append(stack.enter_context(run))
        yield ports, processes


def await_(what: str, look: Callable[[], Any]) -> Any:
    """The first true answer of ``look``. Raises TimeoutError."""
    deadline = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(OSError, ValueError):
            if found := look():
                return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was not ready within {READY_S:g} s")
        time.sleep(0.1)


def program(name: str) -> str:
    """Where it is; empty: nowhere."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}") or ""


def needs(*, programs: Sequence[str] = (), packages: Sequence[str] = ()) -> Callable[[], str]:
    """Says what is missing, with the command that installs it."""

    def missing() -> str:
        lacking = [name for name in programs if not program(name)]
        if lacking:
            return f"{lacking[0]} is not installed (apt-get install {DEBIAN.get(lacking[0], lacking[0])})"
        lacking = [name for name in packages if find_spec(name) is None]
        return f"{lacking[0]} is not installed (pip install {PYPI.get(lacking[0], lacking[0])})" if lacking else ""

    return missing


# Redis. Its own append-only file is written once a second: a second of answers is lost if the power fails everywhere.
# --save "" because a snapshot has no part in the promise and takes a core.


@contextlib.contextmanager
def redis() -> Iterator[Served]:
    """A primary and two replicas."""

    def options(own: Path, ports: list[int], number: int) -> list[str]:
        given = ["--port", str(ports[number]), "--bind", LOOPBACK, "--dir", str(own), "--appendonly", "yes"]
        given += ["--save", "", "--appendfsync", "everysec"]
        given += ["--repl-diskless-sync-delay", "0"]  # no wait for more replicas
        return given + (["--replicaof", f"{LOOPBACK} {ports[0]}"] if number else [])

    with members([program("redis-server")], options) as (ports, processes):
        await_("Redis", lambda: said_by(ports[0], b"INFO replication\r\n").count(b"state=online") == MEMBERS - 1)
        yield Served("redis", [(LOOPBACK, ports[0])], processes)


def said_by(port: int, question: bytes) -> bytes:
    """The first words of an answer."""
    with socket.create_connection((LOOPBACK, port), 1) as connection:
        connection.sendall(question)
        time.sleep(0.05)
        return connection.recv(65_536)


# etcd. --snapshot-count is its default. --unsafe-no-fsync makes its promise that of durability `os`.


def etcd(*extra: str) -> Callable[[], AbstractContextManager[Served]]:
    """Three members; the load goes to the leader."""

    def options(folder: Path, ports: list[int], number: int) -> list[str]:
        own, peer = (f"http://{LOOPBACK}:{ports[number] + offset}" for offset in (0, 1))
        peers = ",".join(f"m{port}=http://{LOOPBACK}:{port + 1}" for port in ports)
        given = ["--name", f"m{ports[number]}", "--data-dir", str(folder / "data"), "--initial-cluster", peers]
        given += ["--listen-client-urls", own, "--advertise-client-urls", own]
        given += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        return [*given, "--quota-backend-bytes", str(8 << 30), "--log-level", "error", "--logger", "zap", *extra]

    @contextlib.contextmanager
    def start() -> Iterator[Served]:
        with members([program("etcd")], options) as (ports, processes):
            leader = await_("etcd", lambda: next((port for port in ports if leads(port)), 0))
            yield Served("etcd", [(LOOPBACK, leader)], processes)

    return start


def leads(port: int) -> bool:
    """Whether this member of etcd is the leader, by its own metrics."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=1) as answer:
        return b"\netcd_server_is_leader 1\n" in answer.read()


# NATS. JetStream syncs its files every two minutes by default, so its promise is that of durability `os`.


@contextlib.contextmanager
def nats() -> Iterator[Served]:
    """Three servers, one stream with three replicas; the load goes to the leader of the stream."""

    def options(own: Path, ports: list[int], number: int) -> list[str]:
        port, config = ports[number], own / "server.conf"
        routes = ", ".join(f'"nats-route://{LOOPBACK}:{each + 1}"' for each in ports)
        config.write_text(
            f'server_name: "s{port}"\nlisten: "{LOOPBACK}:{port}"\n'
            f'jetstream {{ store_dir: "{own}", max_file_store: 20G }}\n'
            f'cluster {{ name: "rivals", listen: "{LOOPBACK}:{port + 1}", routes: [{routes}] }}\n'
        )
        return ["-c", str(config)]

    with members([program("nats-server")], options) as (ports, processes):
        made = await_("NATS", lambda: stream_on(ports[0]))
        leader = int(made["cluster"]["leader"].removeprefix("s"))
        yield Served("nats", [(LOOPBACK, leader)], processes)


def stream_on(port: int) -> dict[str, Any] | None:
    """Make the stream; None while the servers have not agreed."""
    body = json.dumps(STREAM).encode()
    request = b"CONNECT {}\r\nSUB made 1\r\nPUB $JS.API.STREAM.CREATE.orders made %d\r\n%s\r\n" % (len(body), body)
    said = b""
    with socket.create_connection((LOOPBACK, port), 1) as connection:
        connection.settimeout(1)
        connection.sendall(request)
        while b"\r\nMSG made" not in said or not said.endswith(b"}\r\n"):
            said += connection.recv(65_536)
    told: dict[str, Any] = json.loads(said[said.index(b"MSG made") :].split(b"\r\n", 2)[1])
    return told if told.get("cluster", {}).get("leader") else None


# PySyncObj: rival_pysyncobj.py says what was chosen.


@contextlib.contextmanager
def pysyncobj() -> Iterator[Running]:
    """Three members; the load goes to all of them, as with this project."""

    def options(own: Path, ports: list[int], number: int) -> list[str]:
        addresses = [f"{LOOPBACK}:{port}" for port in ports]
        others = [address for address in addresses if address != addresses[number]]
        return [str(ports[number] + 2), str(own), addresses[number], *others]

    script = str(HERE / "rival_pysyncobj.py")
    with members([sys.executable, script], options, subprocess.PIPE) as (ports, processes):
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError("a member of PySyncObj did not come up")
        endpoints = [f"tcp://{LOOPBACK}:{port + 2}" for port in ports]
        yield Running("pysyncobj", TREE, endpoints, [process.pid for process in processes], HERE)
