"""Where nodes run: the interface that a cluster needs of machines, and this machine as the usual implementation.

A :class:`Host` starts nodes, and knows the places at which they can run, their logs, journals and clocks. What it
starts is a :class:`NodeProcess`, which can be signalled and waited for. A cluster knows nothing else about machines.

Rules:

- A host decides nothing about the cluster: its callers know the members, and when a node is ready.
- **No orphans.** A node ends with the process that started it, even if that process is killed by SIGKILL and can clean
  up nothing. :class:`LocalHost` holds the writing end of a pipe that is the node's standard input. The node, started
  with ``--watch-stdin``, ends when it reads the pipe's end: the system closes a dead process' descriptors whatever
  killed it, on Linux and on macOS. (Linux' PR_SET_PDEATHSIG looks made for this, but it fires when the *thread* that
  started the child ends.)
- A paused node reads nothing. So for as long as it is paused a *sentinel* holds a pipe of its own: a shell that waits
  for the end of that pipe and then continues the node. The node reads its own pipe's end next, and ends.
- Nodes run in sessions of their own, so that Ctrl-C in a terminal reaches the cluster's process and not the nodes.

Pipes are not inherited by children that *exec*. A child made by a bare ``os.fork()`` keeps them open, and with them the
nodes, until it ends too.

**Ports.** A node needs three consecutive ports, and one more if it shows metrics. All nodes must know each other's
ports before the first one starts, so binding to port 0 and looking is no way. Candidates are tried by binding them for
a moment. They lie below the range from which the system hands out ports by itself (from 32768 on Linux, from 49152 on
macOS): above it, any outgoing connection could take one in between. Between the probe and the node's own bind another
process may still take a port. The node then ends with the exit status of :class:`~zmqlab.errors.PortInUse`, and
:mod:`~zmqlab.lab.fleet` draws other ports.

A host elsewhere copies the keys from the run folder before it starts a node, fetches logs and journals into it when
they are asked for, and knows how far the clocks of its machines are from the one here.

Left out on purpose: processes that this process did not start (:mod:`zmqlab.lab.processes` finds them on this
machine, :mod:`zmqlab.lab.external_host` attaches to nodes anywhere).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Collection
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

import zmqlab
from zmqlab.endpoints import PORTS_PER_NODE, spelled
from zmqlab.errors import ClusterError
from zmqlab.keys import PRIVATE_FILE, make_private
from zmqlab.settings import NodeSettings, journals_in, require

if TYPE_CHECKING:
    from zmqlab.lab.load_parts import LoadPart
    from zmqlab.load.load_settings import LoadSettings

STDERR_TAIL_BYTES = 4_096
"""So much of what a node wrote on standard error is read: it writes one line if it can't start."""
FIRST_PORT, LAST_PORT = 20_000, 32_000
"""Below every system's ephemeral range, and above what well-known services use."""
PORTS_VARIABLE = "ZMQLAB_PORTS"
"""Names another range for this process and all that it starts, as in 20000-26000: others draw elsewhere."""
KILLED_S = 3.0
"""A process that gets SIGKILL is gone as soon as the system has freed its memory; one that waits for a disk stays."""
METRICS_OFFSET = 3
"""A node that shows metrics does so on the port behind its own three."""
PORT_STEP = 10
"""Base ports are round numbers, which are easier to read in a table of nodes."""


class NodeProcess(Protocol):
    """One started node."""

    @property
    def pid(self) -> int:
        """Its process id on its machine."""

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that ended it), or None while it runs."""

    def wait(self, timeout_s: float) -> int | None:
        """Like :meth:`poll`, after waiting for at most ``timeout_s``."""

    def signal(self, number: int) -> None:
        """Send it a signal; SIGSTOP and SIGCONT pause and resume it. Nothing happens if it has ended."""

    def error_text(self) -> str:
        """What it wrote on standard error: one line if it could not start."""

    def close(self) -> None:
        """Free what is held for it; a node that still runs is told to end by that."""


class Place(NamedTuple):
    """Where a node runs, or will."""

    address: str
    """What it listens on, and what peers and clients reach it at."""
    port: int
    """Its base port."""

    @property
    def endpoint(self) -> str:
        """Its base endpoint."""
        return f"tcp://{spelled(self.address)}:{self.port}"


class ClockOffset(NamedTuple):
    """How far the wall clock of a node's machine is ahead of the one here."""

    offset_ns: int
    """Negative: it is behind."""
    uncertainty_ns: int
    """The true offset is within so much of it."""

    def __str__(self) -> str:
        return f"{self.offset_ns / 1e6:+.1f} ms ± {self.uncertainty_ns / 1e6:.1f} ms"


SAME_CLOCK = ClockOffset(0, 0)


class Host(Protocol):
    """What runs nodes. The methods with a body are those of nodes on this machine."""

    def places(self, count: int, others: Collection[NodeSettings] = (), exclude: Collection[int] = ()) -> list[Place]:
        """Where ``count`` more nodes can run: ports that can be bound there now, with the three behind each.

        Args:
            count: how many.
            others: the nodes that the cluster has. Nodes are spread over machines, so that one machine takes along as
                few of them as possible.
            exclude: base ports that are not wanted.

        Raises:
            ClusterError: there are not that many.
        """

    def start(self, settings: NodeSettings) -> NodeProcess:
        """Start a node where its settings say. It is not ready when this returns, and may even end at once.

        Raises:
            ClusterError: nothing can be started there (any more).
        """

    def log_path(self, settings: NodeSettings) -> Path:
        """The node's log file on this machine; one that is elsewhere is fetched."""

    def wipe(self, settings: NodeSettings) -> None:
        """Delete all that the node has stored. It must not run."""

    def fetch(self, settings: NodeSettings) -> None:
        """Bring the node's log and its journal into the run folder on this machine.

        Raises:
            ClusterError: they can't be had.
        """
        return  # they are there

    def machine(self, settings: NodeSettings) -> str:
        """What fails together: nodes of one name share a machine, or whatever the host takes for one."""
        return settings.host

    def clock(self, settings: NodeSettings) -> ClockOffset:
        """What is known of the clock of the node's machine. Never waits."""
        return SAME_CLOCK

    def start_load(
        self, settings: LoadSettings, number: int, folder: Path, nodes: Collection[NodeSettings]
    ) -> LoadPart | None:
        """Start load generator ``number`` of a load on some machine. None: here, which the caller does.

        Args:
            settings: its share of the load.
            number: from 0 on.
            folder: on this machine; the record of the run comes here as it is written.
            nodes: those of the cluster. Generators are spread over machines, those without nodes first.

        Raises:
            ClusterError: it can't be started.
        """
        return None

    def close(self, cluster: str, keep: bool) -> None:
        """The nodes of the cluster of this name have ended for good. Free what it has elsewhere; its files stay there
        if they are to be kept."""
        return  # it has nothing elsewhere


class LocalHost(Host):
    """Nodes as child processes on this machine's loopback interface.

    Args:
        command: what is run for a node, to which the node's flags are added; ``python -m zmqlab.node`` by default.
    """

    address = "127.0.0.1"

    def __init__(self, command: list[str] | None = None) -> None:
        self._command = command or module_command("zmqlab.node")

    def free_ports(self, count: int, exclude: Collection[int] = ()) -> list[int]:
        """``count`` base ports, none of them in ``exclude``, that a node can bind now with the three behind each."""
        return free_base_ports(count, exclude=exclude, host=self.address)

    def places(self, count: int, others: Collection[NodeSettings] = (), exclude: Collection[int] = ()) -> list[Place]:
        """See :class:`Host`."""
        taken = {*exclude, *(each.port for each in others)}
        return [Place(self.address, port) for port in self.free_ports(count, taken)]

    def start(self, settings: NodeSettings) -> LocalNode:
        """See :class:`Host`. The node is told this process' id, and to end when this process ends."""
        settings = replace(settings, owner=os.getpid(), watch_stdin=True)
        stderr_path = self.log_path(settings).with_suffix(".stderr")
        make_private(stderr_path.parent)
        return LocalNode([*self._command, *node_arguments(settings)], stderr_path)

    def log_path(self, settings: NodeSettings) -> Path:
        """See :class:`Host`."""
        return settings.run_dir / "logs" / f"{settings.name}.log"

    def wipe(self, settings: NodeSettings) -> None:
        """See :class:`Host`."""
        shutil.rmtree(journals_in(settings.run_dir) / settings.name, ignore_errors=True)


def _for_this_user(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)


_pipes: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()
"""Standard inputs of children that end when theirs does."""


def keep_to_this_process(pipe: IO[bytes] | None) -> None:
    """The standard input of a child that is to end with this process: a forked child must not keep it open."""
    if pipe is not None:
        _pipes.add(pipe)


def _close_pipes() -> None:
    for pipe in tuple(_pipes):
        pipe.close()


os.register_at_fork(after_in_child=_close_pipes)


class LocalNode:
    """One node as a child process."""

    def __init__(self, command: list[str], stderr_path: Path) -> None:
        self._stderr_path = stderr_path
        self._sentinel: subprocess.Popen[bytes] | None = None
        """Runs exactly as long as the node is paused."""
        with open(stderr_path, "wb", opener=_for_this_user) as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=module_environment(),
                close_fds=True,
                start_new_session=True,
            )
        keep_to_this_process(self._process.stdin)

    @property
    def pid(self) -> int:
        """See :class:`NodeProcess`."""
        return self._process.pid

    def poll(self) -> int | None:
        """See :class:`NodeProcess`."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """See :class:`NodeProcess`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: int) -> None:
        """See :class:`NodeProcess`."""
        if self.poll() is not None:
            return
        if number == signal.SIGSTOP:
            self._start_sentinel()
        self._process.send_signal(number)
        if number in (signal.SIGCONT, signal.SIGKILL):
            self._end_sentinel()

    def error_text(self) -> str:
        """See :class:`NodeProcess`."""
        try:
            return self._stderr_path.read_bytes()[-STDERR_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""

    def close(self) -> None:
        """See :class:`NodeProcess`."""
        self._end_sentinel()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self.poll() is not None:
            with contextlib.suppress(OSError):
                if self._stderr_path.stat().st_size == 0:
                    self._stderr_path.unlink()

    def _start_sentinel(self) -> None:
        if self._sentinel is None:
            self._sentinel = subprocess.Popen(
                ["/bin/sh", "-c", f"read _; kill -CONT {self.pid}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                close_fds=True,
                start_new_session=True,
            )

    def _end_sentinel(self) -> None:
        if self._sentinel is None:
            return
        self._sentinel.kill()
        self._sentinel.wait()
        if self._sentinel.stdin is not None:
            self._sentinel.stdin.close()
        self._sentinel = None


def end_all(processes: list[NodeProcess], grace_s: float) -> None:
    """End every process at once, with SIGKILL for those that are still there after ``grace_s``.

    SIGTERM alone would let each node look for a successor among the others, which end as well. Closing its pipe makes
    it end after its turn.
    """
    for process in processes:
        with contextlib.suppress(ClusterError):  # its machine does not answer; the others end all the same
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGCONT)
        process.close()
    deadline = time.monotonic() + grace_s
    for process in processes:
        kill_late(process, deadline - time.monotonic())
        process.close()


def kill_late(process: NodeProcess, grace_s: float) -> None:
    """Wait for a process that was told to end, and end it by SIGKILL if it is still there after ``grace_s``."""
    if process.wait(max(0.0, grace_s)) is None:
        with contextlib.suppress(ClusterError):  # its machine does not answer
            process.signal(signal.SIGKILL)
        process.wait(KILLED_S)


# -- command lines -------------------------------------------------------------------------------------------------


def node_arguments(settings: NodeSettings) -> list[str]:
    """The flags (behind ``python -m zmqlab.node``) that make exactly ``settings``."""
    arguments: list[str] = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        flag = "--node" if field.name == "name" else "--" + field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            arguments.append(flag)  # all switches are off by default
        elif isinstance(value, tuple):
            arguments += [flag, ",".join(value)]
        else:
            arguments += [flag, str(value)]
    return arguments


def module_command(module: str) -> list[str]:
    """How to run ``module`` of this very package with this interpreter, whatever the current folder holds."""
    return [sys.executable, "-P", "-m", module]


def module_environment() -> dict[str, str]:
    """The environment for :func:`module_command`: the child imports the zmqlab that this process imported."""
    root = str(Path(zmqlab.__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in (root, inherited) if part)}


def start_in_background(settings: NodeSettings) -> subprocess.Popen[bytes]:
    """Start a node on this machine that outlives this process, as if it had been started in another terminal."""
    make_private(settings.run_dir / "logs")
    return subprocess.Popen(
        [*module_command("zmqlab.node"), *node_arguments(settings)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=module_environment(),
        start_new_session=True,
    )


# -- ports ---------------------------------------------------------------------------------------------------------


def is_free(base: int, host: str = LocalHost.address) -> bool:
    """Whether all ports of a node with base port ``base`` can be bound now, that of its metrics among them."""
    return all(_can_bind(host, base + offset) for offset in (*range(PORTS_PER_NODE), METRICS_OFFSET))


def free_base_ports(
    count: int, rng: random.Random | None = None, exclude: Collection[int] = (), host: str = LocalHost.address
) -> list[int]:
    """``count`` base ports that are free now, drawn at random so that clusters do not collide; lowest first.

    Args:
        count: how many.
        rng: what draws them; a generator of its own by default.
        exclude: base ports that are not wanted.
        host: the address on which they must be free.

    Raises:
        ClusterError: there are not that many.
        SettingsError: :data:`PORTS_VARIABLE` names no range.
    """
    said = os.environ.get(PORTS_VARIABLE, f"{FIRST_PORT}-{LAST_PORT}")
    first, _, last = said.partition("-")
    require(first.isdigit() and last.isdigit(), f"{PORTS_VARIABLE} is {said!r}: write FIRST-LAST")
    candidates = [base for base in range(int(first), int(last), PORT_STEP) if base not in exclude]
    (rng or random.Random()).shuffle(candidates)
    found = list(islice((base for base in candidates if is_free(base, host)), count))
    if len(found) < count:
        raise ClusterError(
            f"only {len(found)} of {count} nodes find free ports between {first} and {last}: "
            "`zmqlab ps` shows what runs, `zmqlab reap` ends what a crash left behind"
        )
    return sorted(found)


def _can_bind(host: str, port: int) -> bool:
    """As a node does: a port is free whose connections have been closed a moment ago (TIME_WAIT)."""
    with contextlib.suppress(OSError), socket.create_server((host, port)):
        return True
    return False
