"""What a user would pick instead, under the same load: PySyncObj, Redis, etcd and NATS JetStream, three processes each.

Each is started on loopback with a temporary folder, is loaded and is ended, one after the other, for several rounds. A
table says what each promises before it answers, and another one what it costs. What is not installed is left out, with
the reason. The latency of an order counts from when it was due, and the rates are those of an open loop.

``zmqlab`` and ``PySyncObj`` match the orders; the same exchange runs in both. Redis, etcd and NATS store the bytes of
the orders as a log and do nothing with them: their readers would have to match. ``zmqlab pipeline`` does the same for
this project. So each of the three has an advantage over ``zmqlab``, and none over ``zmqlab pipeline``.

    apt-get install redis-server etcd-server nats-server; pip install -e '.[bench]'
    python benchmarks/rivals.py [--rate 5000,30000] [--seconds 5] [--rounds 3] [--only zmqlab,redis] [--json FILE]

The highest rate is found by doubling from 5,000 orders/s: the last one at which all orders were answered, the rate was
kept, and p99 was under 50 ms. ``saturation`` is closed-loop: 16 batches of 256 orders are outstanding all the time.

Not tuned: the kernel, the schedulers, cores, the garbage collectors of Go, file systems. Options that differ from each
program's default stand beside its start, with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import machine
import psutil
from tables import markdown, short
from targets import END_S, HERE, TREE, Load, Running, environment, figures_of, run_load, running

from zmqlab.lab.hosts import free_base_ports

MEMBERS = 3
READY_S = 30.0
FIRST_RATE = 5_000
CARRIED_P99_MS = 50.0
RATE_MAX = 2_000_000
SBIN = "/usr/sbin:/usr/local/sbin"
"""Debian puts nats-server there, which is not on every user's path."""
LOOPBACK = "127.0.0.1"
STREAM = {"name": "orders", "subjects": ["orders"], "num_replicas": MEMBERS, "storage": "file"}


class Promise(NamedTuple):
    """What holds when an order is answered, by the program's documents and its default time-outs of elections."""

    majority: str
    survives: str
    synced: str
    order: str
    does: str


class Rival(NamedTuple):
    """One line of the tables."""

    name: str
    missing: Callable[[], str]
    """Why it can't be run here; empty: it can."""
    start: Callable[[], AbstractContextManager[Any]]
    """Gives something with a method ``load(rate, seconds)``."""
    promise: Promise


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
        told, (spent_s,) = run_load(command, TREE, seconds, lambda: (self._cpu_s(),))
        return figures_of(told, rate, spent_s, 0)

    def _cpu_s(self) -> float:
        times = [process.cpu_times() for process in self._processes]
        return float(sum(each.user + each.system for each in times))


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
            debian = {"etcd": "etcd-server"}
            return f"{lacking[0]} is not installed (apt-get install {debian.get(lacking[0], lacking[0])})"
        lacking = [name for name in packages if find_spec(name) is None]
        pypi = {"grpc": "grpcio"}
        return f"{lacking[0]} is not installed (pip install {pypi.get(lacking[0], lacking[0])})" if lacking else ""

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


def own(kind: str, durability: str = "os", **settings: Any) -> Callable[[], AbstractContextManager[Any]]:
    """This project."""

    @contextlib.contextmanager
    def start() -> Iterator[Any]:
        with running(kind, MEMBERS, durability=durability) as target:
            yield _Chosen(target, settings)

    return start


class _Chosen:
    """A target with settings for its load client."""

    def __init__(self, target: Running, settings: dict[str, Any]) -> None:
        self._target = target
        self._settings = settings

    def load(self, rate: float | None, seconds: float) -> Load:
        """One load."""
        return self._target.load(rate, seconds, **self._settings)


ONE_LOG = "one log for all; an order is applied once, even if it is sent again"
RAFT = Promise("yes", "yes, a new leader within half a second", "no", ONE_LOG, "matches")
RIVALS = [
    Rival("zmqlab", needs(), own("cluster"), RAFT),
    Rival("zmqlab, leader only", needs(), own("cluster", node_choice="leader"), RAFT),
    Rival("zmqlab pipeline", needs(), own("pipeline"), RAFT._replace(does="stores")),
    Rival("zmqlab, fsync", needs(), own("cluster", durability="fsync"), RAFT._replace(synced="yes")),
    Rival(
        "PySyncObj",
        needs(packages=["pysyncobj"]),
        pysyncobj,
        Promise(
            "yes",
            "yes, a new leader after 0.4 to 1.4 s; its vote is on disk up to a second late",
            "no",
            "one log for all",
            "matches",
        ),
    ),
    Rival(
        "Redis, WAIT 1",
        needs(programs=["redis-server"]),
        redis,
        Promise(
            "2 of 3 have it in memory",
            "its data; no new primary without Sentinel",
            "no",
            "that of the primary",
            "stores",
        ),
    ),
    Rival(
        "etcd, no fsync",
        needs(programs=["etcd"], packages=["grpc"]),
        etcd("--unsafe-no-fsync"),
        Promise("yes", "yes, a new leader after 1 to 2 s", "no", "one log for all", "stores"),
    ),
    Rival(
        "etcd",
        needs(programs=["etcd"], packages=["grpc"]),
        etcd(),
        Promise("yes", "yes, a new leader after 1 to 2 s", "yes", "one log for all", "stores"),
    ),
    Rival(
        "NATS JetStream R3",
        needs(programs=["nats-server"]),
        nats,
        Promise("yes", "yes, a new leader after 4 to 9 s", "no", "one log for each stream", "stores"),
    ),
]


class Outcome(NamedTuple):
    """One rival in one round."""

    paced: list[Load]
    """In the order of the rates."""
    carried: float
    """The highest rate of the doubling that was kept; 0: not even the first."""
    flooded: Load


def measure(rival: Rival, rates: Sequence[float], seconds: float, highest: float) -> Outcome:
    """One round of one rival."""
    with rival.start() as target:
        paced = [target.load(rate, seconds) for rate in rates]
        carried, rate = 0.0, float(FIRST_RATE)
        while rate <= highest and carries(target.load(rate, seconds)):
            carried, rate = rate, 2 * rate
    with rival.start() as target:  # the queue of the rate that was too much is not part of this
        return Outcome(paced, carried, target.load(None, seconds))


def carries(load: Load) -> bool:
    """Whether the rate was kept, with a p99 that a user would call an answer."""
    return load.keeps_up and load.p99_ms < CARRIED_P99_MS


def row(name: str, outcomes: Sequence[Outcome], rates: Sequence[float]) -> list[str]:
    """Medians of the rounds. At a rate that was not kept there is no latency to tell of."""
    cells = []
    for at in range(len(rates)):
        loads = [one.paced[at] for one in outcomes]
        if not all(load.keeps_up for load in loads):
            cells += ["not kept", ""]
        else:
            cells += [
                f"{statistics.median(getattr(load, each) for load in loads):.2f}" for each in ("p50_ms", "p99_ms")
            ]
    last = [one.paced[-1] for one in outcomes]
    flooded = [one.flooded for one in outcomes]
    cells.append(short(statistics.median(one.carried for one in outcomes)))
    cells.append(short(statistics.median(load.throughput for load in flooded)))
    for name_of in ("nodes_us", "load_us"):
        cells.append(short(statistics.median(getattr(load, name_of) for load in last)))
    return [name, *cells]


def promises(rivals: Sequence[Rival]) -> str:
    """The table of promises."""
    head = [
        "when an order is answered",
        "a majority has it",
        "outlives a kill of one",
        "synced to disk",
        "order",
        "does",
    ]
    return markdown(head, [[rival.name, *rival.promise] for rival in rivals], text=len(head))


def chosen(only: str) -> list[Rival]:
    """Those whose name begins with one of the given words, and that can be run; says which are left out."""
    words = [word.strip().lower() for word in only.split(",") if word]
    found = []
    for rival in RIVALS:
        if words and not any(rival.name.lower().startswith(word) for word in words):
            continue
        if reason := rival.missing():
            print(f"{rival.name} is left out: {reason}.")
        else:
            found.append(rival)
    return found


def main() -> int:
    """Measure and print; fail if nothing could be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", default="5000,30000", help="orders a second, with commas")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--highest", type=float, default=RATE_MAX, help="where the doubling of the rate ends")
    parser.add_argument("--only", default="", help="beginnings of names, with commas")
    parser.add_argument("--json", type=Path, help="write all figures of all rounds to this file")
    arguments = parser.parse_args()
    machine.unwind_at_sigterm()
    rates = [float(rate) for rate in arguments.rate.split(",")]
    print(f"{machine.line()}.")
    rivals = chosen(arguments.only)
    outcomes: dict[str, list[Outcome]] = {rival.name: [] for rival in rivals}
    for number in range(arguments.rounds):
        for rival in rivals if number % 2 == 0 else reversed(rivals):
            one = measure(rival, rates, arguments.seconds, arguments.highest)
            outcomes[rival.name].append(one)
            said = ", ".join(f"p99 {load.p99_ms:.1f} ms" for load in one.paced)
            print(f"  {rival.name:20} {said}, carries {one.carried:,.0f}", file=sys.stderr, flush=True)
    if not rivals:
        print("Nothing to run.")
        return 1
    print(f"Medians of {arguments.rounds} rounds of {arguments.seconds:g} s each; {MEMBERS} processes of each.\n")
    head = [""]
    for rate in rates:
        head += [f"p50 ms at {rate:,.0f}/s", "p99 ms"]
    last = f"{rates[-1]:,.0f}/s"
    head += ["highest rate by doubling", "saturation", f"CPU of servers, µs/order at {last}", "of load"]
    print(markdown(head, [row(name, each, rates) for name, each in outcomes.items()]))
    print(f"\n{promises(rivals)}")
    if arguments.json:
        values = {name: [one._asdict() for one in each] for name, each in outcomes.items()}
        arguments.json.write_text(json.dumps({"machine": machine.facts(), "rates": rates, "rivals": values}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
