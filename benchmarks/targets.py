"""What a benchmark loads: an echo, nodes without books, or a cluster; of this checkout or of another one.

``running`` starts the processes of a target on loopback, with a temporary run folder, and ends them. (If the benchmark
is killed outright, its nodes end by themselves, and `zmqlab reap` removes the folder.) ``Running.load`` runs
one load against it (``load_once.py``) and counts the processor time of both sides. Every process gets the
``PYTHONPATH`` of the checkout that is measured. To compare this one with an older commit:
``git worktree add ../old COMMIT``.

- ``echo``: a bare pyzmq ROUTER that answers at once.
- ``pipeline``: nodes with Raft and journal, whose books do nothing.
- ``stamped``: nodes that note when each step of their turns begins and ends (``stamped_node.py``).
- ``cluster``: nodes. ``cluster+keys``: nodes that encrypt all traffic and let in only who has a key.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from machine import cpu_s

from zmqlab import keys
from zmqlab.client import ask
from zmqlab.lab.hosts import free_base_ports
from zmqlab.lab.run_folders import RunFolder
from zmqlab.wire.node_status import NodeStatus

HERE = Path(__file__).resolve().parent
TREE = HERE.parent
"""This checkout."""
READY_S = 60.0
LOAD_GRACE_S = 60.0
"""Beyond its duration a load is stuck."""
END_S = 15.0
SETTLE_S = 0.3
KEYS = "+keys"


class Load(NamedTuple):
    """The figures of one load. Latencies are response times, from when an order was due."""

    rate: float | None
    """Orders a second; None: closed loop."""
    orders: int
    """Acknowledged."""
    offered_per_s: float
    """Orders that fell due a second, as drawn; 0 in a closed loop."""
    unserved: int
    requests: int
    throughput: float
    """Orders acknowledged a second."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    nodes_us: float
    """CPU microseconds of all nodes for an order."""
    load_us: float
    """CPU microseconds of the load process for an order."""
    batch: float
    """Orders for each request."""
    turns: float
    """Turns of the loops of all nodes for each request; 0 where there is no node."""
    late: bool
    """The generator was the limit."""

    @property
    def keeps_up(self) -> bool:
        """Whether what was offered was done: nothing is unserved, and the rate was kept within 5 %."""
        return not self.unserved and self.throughput >= 0.95 * self.offered_per_s


class Running:
    """A target whose processes run."""

    def __init__(self, kind: str, tree: Path, endpoints: Sequence[str], pids: Sequence[int], folder: Path) -> None:
        self.kind = kind
        self.tree = tree
        self.endpoints = list(endpoints)
        self.processes = [psutil.Process(pid) for pid in pids]
        self.keys = str(folder / "keys") if kind.endswith(KEYS) else None

    @property
    def is_cluster(self) -> bool:
        """Whether its processes are nodes, which answer questions about their state."""
        return self.kind.partition("+")[0] in ("cluster", "pipeline", "stamped")

    def statuses(self) -> list[NodeStatus]:
        """What the nodes say of themselves; nothing for an echo."""
        if not self.is_cluster:
            return []
        keys.use(self.keys)
        try:
            return list(ask.statuses(self.endpoints, 1.0).values())
        finally:
            keys.use(None)

    def await_leader(self) -> list[NodeStatus]:
        """Wait until all nodes answer, know the leader, and one leads; what they say then. Raises TimeoutError."""
        deadline = time.monotonic() + READY_S
        while self.is_cluster:
            told = self.statuses()
            is_led = all(status.leader_id for status in told) and any(status.role == "leader" for status in told)
            if len(told) == len(self.endpoints) and is_led:
                return told
            if time.monotonic() > deadline:
                raise TimeoutError(f"the {self.kind} of {self.tree} was not ready within {READY_S:g} s")
            time.sleep(0.05)
        return []

    def load(self, rate: float | None, seconds: float, tree: Path | None = None, **settings: Any) -> Load:
        """Load it once.

        Args:
            rate: orders a second; None finds saturation.
            seconds: for how long.
            tree: whose generator sends; by default that of the target's own checkout.
            settings: anything else that LoadSettings takes.
        """
        values = {"nodes": self.endpoints, "rate": rate, "duration_s": seconds, **settings}
        command = [sys.executable, str(HERE / "load_once.py"), json.dumps(values), *([self.keys] if self.keys else [])]
        told, (spent_s, turns) = run_load(command, tree or self.tree, seconds, self._counters)
        return figures_of(told, rate, spent_s, turns)

    def _counters(self) -> tuple[float, float]:
        """CPU seconds of all processes, and turns of all nodes, since they began."""
        return cpu_s(self.processes), sum(status.turns_total for status in self.statuses())


def run_load(
    command: Sequence[str], tree: Path, seconds: float, count: Callable[[], Sequence[float]]
) -> tuple[dict[str, Any], list[float]]:
    """Run a load in a process of its own; returns its figures, and by how much each counter grew while it sent.

    Args:
        command: what prints ``started`` and then the figures; it ends when its standard input ends.
        tree: the checkout whose ``zmqlab`` it imports.
        seconds: how long it sends.
        count: counters of the target.

    Raises:
        RuntimeError: it failed; what it said is on standard error.
        TimeoutError: it did not end in time.
    """
    process = subprocess.Popen(
        command,
        env=environment(tree),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches this process alone, which ends it
    )
    with process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "started\n":
                raise RuntimeError(f"no load came up: {' '.join(command)}")
            before = count()
            if not select.select([process.stdout], (), (), seconds + LOAD_GRACE_S)[0]:
                raise TimeoutError(f"a load of {seconds:g} s did not end: {' '.join(command)}")
            said = process.stdout.readline()
            grown = [late - early for late, early in zip(count(), before, strict=True)]
        finally:
            process.kill()
    if not said:
        raise RuntimeError(f"a load ended without figures: {' '.join(command)}")
    return json.loads(said), grown


def figures_of(told: dict[str, Any], rate: float | None, nodes_s: float, turns: float) -> Load:
    """What ``load_once.py`` told, with what was counted here."""
    orders, requests = max(told["orders"], 1), max(told["requests"], 1)
    return Load(
        rate=rate,
        orders=told["orders"],
        offered_per_s=told["offered_per_s"] if rate is not None else 0.0,
        unserved=told["unserved"],
        requests=told["requests"],
        throughput=told["throughput"],
        p50_ms=told["p50_ms"] or 0.0,
        p99_ms=told["p99_ms"] or 0.0,
        max_ms=told["max_ms"] or 0.0,
        nodes_us=1e6 * nodes_s / orders,
        load_us=1e6 * told["cpu_s"] / orders,
        batch=orders / requests,
        turns=turns / requests,
        late=told["late"],
    )


def environment(tree: Path) -> dict[str, str]:
    """The environment in which ``zmqlab`` is that of ``tree``."""
    return {**os.environ, "PYTHONPATH": str(tree)}


@contextlib.contextmanager
def running(
    kind: str, nodes: int = 3, *, tree: Path = TREE, durability: str = "os", options: Sequence[str] = ()
) -> Iterator[Running]:
    """Start a target; it is ready inside the block, and ends with it.

    Args:
        kind: ``echo``, ``pipeline``, ``stamped``, ``cluster`` or ``cluster+keys``.
        nodes: how many processes; an echo is one.
        tree: the checkout that is run.
        durability: of the nodes.
        options: more flags for the nodes.

    Raises:
        TimeoutError: the nodes were not ready in time.
    """
    run_folder = RunFolder(None)
    with contextlib.ExitStack() as stack:
        stack.callback(run_folder.leave)
        run_folder.open()
        folder = run_folder.path
        ports = free_base_ports(1 if kind == "echo" else nodes)
        if kind.endswith(KEYS):
            keys.Keyring.new().save(folder / "keys")
            options = [*options, "--keys", f"{folder}/keys"]
        options = [*options, "--durability", durability]
        commands = [command_line(kind, tree, number, ports, folder, options) for number in range(len(ports))]
        processes = [stack.enter_context(started(command, environment(tree))) for command in commands]
        endpoints = [f"tcp://127.0.0.1:{port + 2}" for port in ports]
        target = Running(kind, tree, endpoints, [process.pid for process in processes], folder)
        target.await_leader()
        time.sleep(SETTLE_S)
        yield target


@contextlib.contextmanager
def started(command: Sequence[str], env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when its standard input ends, or is killed then if it does not."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=env, start_new_session=True)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def command_line(
    kind: str, tree: Path, number: int, ports: Sequence[int], folder: Path, options: Sequence[str]
) -> list[str]:
    """The command that starts one process of a target."""
    bare_node = str(tree / "benchmarks" / "bare_node.py")
    if kind == "echo":
        return [sys.executable, bare_node, "echo", str(ports[0])]
    start = [bare_node, "pipeline"] if kind == "pipeline" else ["-P", "-m", "zmqlab.node"]
    if kind == "stamped":
        start = [str(tree / "benchmarks" / "stamped_node.py")]
    peers = ",".join(f"tcp://127.0.0.1:{port}" for port in ports if port != ports[number])
    flags = ["--node", f"node{number}", "--port", str(ports[number]), "--run-dir", str(folder), "--watch-stdin"]
    flags += ["--peers", peers] if peers else []
    return [sys.executable, *start, *flags, *(["--leader"] if number == 0 else []), *options]
