"""What of zmqlab runs on this machine: nodes and load clients, found by their command lines, and ending them.

Nothing is remembered in files, which could be stale: the system's process table is the only truth. A *launched* process
carries the process id of its launcher (``--owner``) and ends by itself when the launcher is gone. One that is still
there without its launcher is an *orphan*, which ``zmqlab reap`` ends. Processes that were started by hand have no owner
and are left alone unless all are asked for.

Only this user's processes are ever touched, each by its process id, and only after checking that the id still belongs
to the process that was found.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from zmqlab import keys
from zmqlab.client import ask
from zmqlab.endpoints import PORTS_PER_NODE, client_endpoint
from zmqlab.errors import SettingsError
from zmqlab.tables import html_table, text_table
from zmqlab.wire.node_status import NodeStatus

NODE_MODULE = "zmqlab.node"
LOAD_MODULE = "zmqlab.load.load_process"
CPU_SAMPLE_S = 0.1
"""How long CPU is measured."""
LOOPBACKS = ("127.0.0.1", "[::1]")
ANSWER_TIMEOUT_S = 0.3
"""How long a node may take to tell its role."""
GRACE_S = 2.0
"""Between SIGTERM and SIGKILL: a node closes its journal within milliseconds, and hands over within 2 s."""
CLOCK_STEP_S = 2.0
"""By how much two looks at one process may differ: its time of creation follows each correction of the system's clock.
No process id is given again so soon."""
HEAD = ("pid", "kind", "name", "cluster", "ports", "role", "owner", "cpu %", "memory MB", "age s")


@dataclass(frozen=True, slots=True)
class LabProcess:
    """One node or load client."""

    pid: int
    created: float
    """Seconds since the epoch; with the pid, this identifies the process for good."""
    kind: str
    """``node`` or ``load``."""
    name: str
    cluster: str
    port: int
    """A node's base port; 0 for a load client."""
    owner: int
    """The launcher's process id; 0: started by hand."""
    owner_alive: bool
    role: str = "-"
    cpu_percent: float = 0.0
    memory_bytes: int = 0
    keys: str = ""
    """The folder of keys that a node was told of; empty: it has none, or has it from elsewhere."""

    @property
    def orphan(self) -> bool:
        """Whether the process that launched it is gone."""
        return self.owner != 0 and not self.owner_alive

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"age_s": round(time.time() - self.created, 1), "orphan": self.orphan}

    def row(self) -> tuple[object, ...]:
        ports = f"{self.port}-{self.port + PORTS_PER_NODE - 1}" if self.port else "-"
        owner = f"{self.owner}{'' if self.owner_alive else ' gone'}" if self.owner else "by hand"
        memory = f"{self.memory_bytes / 1e6:.1f}"
        age = f"{time.time() - self.created:.0f}"
        cpu = f"{self.cpu_percent:.1f}"
        cluster = self.cluster or "-"
        return (self.pid, self.kind, self.name, cluster, ports, self.role, owner, cpu, memory, age)


class ProcessTable(list[LabProcess]):
    """Processes that show themselves as a table."""

    def text(self, width: int | None = None) -> str:
        """The table, no wider than ``width``."""
        return text_table(HEAD, (each.row() for each in self), width) if self else "nothing of zmqlab runs"

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return html_table(HEAD, (each.row() for each in self))


def find() -> ProcessTable:
    """This user's nodes and load clients, oldest first. Cheap: no node is asked, no CPU is measured."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == os.getuid():
                described = describe(process.pid, process.create_time(), process.cmdline(), process.ppid())
                if described is not None:
                    found.append(described)
    return ProcessTable(sorted(found, key=lambda each: (each.created, each.pid)))


def ps() -> ProcessTable:
    """Like :func:`find`, with CPU, memory, and the role that each node gives itself."""
    found = find()
    handles: dict[int, psutil.Process] = {}
    for each in found:
        with contextlib.suppress(psutil.Error):
            handles[each.pid] = psutil.Process(each.pid)
            handles[each.pid].cpu_percent()
    roles = _roles(found)
    time.sleep(CPU_SAMPLE_S)
    return ProcessTable(_measured(each, handles.get(each.pid), roles.get(each.port, "-")) for each in found)


class ClusterHere(NamedTuple):
    """The nodes of one cluster that run on this machine."""

    name: str
    """As its :class:`~zmqlab.lab.cluster.Cluster` is called; empty: its nodes were started by hand."""
    nodes: tuple[str, ...]
    endpoints: tuple[str, ...]
    """Where clients reach them."""

    def __str__(self) -> str:
        return f"{self.name or 'started by hand'}: {', '.join(self.nodes)}"


def clusters_here() -> list[ClusterHere]:
    """This user's clusters on this machine, the oldest first. Nodes that do not answer count, too.

    Nodes that a Cluster started carry its name. Of those started by hand, the ones belong together of which one names
    the others as members.
    """
    found = [each for each in find() if each.kind == "node" and each.port]
    told = _statuses_by_port(found)
    members = {port: {member.port for member in status.members} for port, (_, status) in told.items()}
    groups: dict[tuple[str, int], list[LabProcess]] = {}
    for each in found:
        by_hand = min([each.port, *(port for port, known in members.items() if each.port in known)])
        groups.setdefault((each.cluster, 0 if each.cluster else by_hand), []).append(each)
    silent = LOOPBACKS[0]
    return [
        ClusterHere(
            name,
            tuple(each.name for each in nodes),
            tuple(told[each.port][0] if each.port in told else client_endpoint(silent, each.port) for each in nodes),
        )
        for (name, _), nodes in groups.items()
    ]


def reap(processes: Iterable[LabProcess], grace_s: float = GRACE_S) -> list[LabProcess]:
    """End the given processes: SIGTERM, then SIGKILL for what is left after ``grace_s``; returns those ended."""
    handles = []
    for each in processes:
        with contextlib.suppress(psutil.Error):
            handle = psutil.Process(each.pid)
            # Otherwise the id was given to another process meanwhile.
            if abs(handle.create_time() - each.created) < CLOCK_STEP_S:
                handle.terminate()
                handle.resume()  # a stopped process sees a signal only when it is continued
                handles.append((handle, each))
    _, alive = psutil.wait_procs([handle for handle, _ in handles], timeout=grace_s)
    for handle in alive:
        with contextlib.suppress(psutil.Error):
            handle.kill()
    _, immortal = psutil.wait_procs(alive, timeout=grace_s)
    return [each for handle, each in handles if handle not in immortal]


def describe(pid: int, created: float, command_line: Sequence[str], parent: int = 0) -> LabProcess | None:
    """What a command line says of a node or a load client; None if it is neither.

    A load client does not tell its owner: that is always its parent, and orphans get process 1 as their parent.

    Args:
        pid: of the process.
        created: when it was created, in seconds since the epoch.
        command_line: as the process table shows it.
        parent: the process id of its parent.
    """
    arguments = list(command_line)
    kind, rest = _kind(arguments)
    if not kind:
        return None
    flags = _flags(rest)
    if kind == "load":
        return LabProcess(pid, created, kind, _load_name(flags.get("config", "")), "", 0, parent, parent > 1)
    owner = int(flags["owner"]) if flags.get("owner", "").isdigit() else 0
    port = int(flags["port"]) if flags.get("port", "").isdigit() else 0
    name = flags.get("node") or kind
    alive = owner != 0 and psutil.pid_exists(owner)
    return LabProcess(
        pid, created, kind, name, flags.get("cluster", ""), port, owner, alive, keys=flags.get("keys", "")
    )


def _kind(arguments: list[str]) -> tuple[str, list[str]]:
    """``node`` or ``load`` and the arguments behind the command; empty for anything else."""
    for position, argument in enumerate(arguments[:-1]):
        following = arguments[position + 1]
        if argument == "-m" and following in (NODE_MODULE, LOAD_MODULE):
            return ("node" if following == NODE_MODULE else "load"), arguments[position + 2 :]
        if os.path.basename(argument) == "zmqlab" and following == "node":
            return "node", arguments[position + 2 :]
        if argument == "-m" and following == "zmqlab.cli" and arguments[position + 2 : position + 3] == ["node"]:
            return "node", arguments[position + 3 :]
        if not argument.startswith("-") and position >= 1:
            break  # the command's own arguments begin here: a mention of zmqlab among them means nothing
    return "", []


def _load_name(config: str) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(config)["settings"]["name"])
    return "load"


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    """``--name value`` and ``--name=value`` as a dictionary; a flag without a value maps to an empty string."""
    flags: dict[str, str] = {}
    for position, argument in enumerate(arguments):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            following = arguments[position + 1] if position + 1 < len(arguments) else ""
            flags[name] = value if equals else ("" if following.startswith("--") else following)
    return flags


def _roles(found: Iterable[LabProcess]) -> dict[int, str]:
    """Base port -> role of every node that answers."""
    return {port: status.role for port, (_, status) in _statuses_by_port(found).items()}


def _statuses_by_port(found: Iterable[LabProcess]) -> dict[int, tuple[str, NodeStatus]]:
    """Base port -> endpoint and status of every node that answers on loopback, IPv4 or IPv6."""
    ports = {each.port for each in found if each.port}
    endpoints = {client_endpoint(host, port): port for port in ports for host in LOOPBACKS}
    shown = show_own_keys(found)
    try:
        answered = ask.statuses(
            endpoints, ANSWER_TIMEOUT_S, lambda answers: {endpoints[each] for each in answers} == ports
        )
    finally:
        keys.forget(shown)  # another process, without keys, may listen there later
    return {endpoints[endpoint]: (endpoint, status) for endpoint, status in answered.items()}


def show_own_keys(found: Iterable[LabProcess]) -> list[str]:
    """Show to each of these nodes the key that lies beside its own: who may read that folder may ask the node.

    Returns:
        The base endpoints of those for which this process had no key before, for :func:`zmqlab.keys.forget`.
    """
    shown: list[str] = []
    for each in found:
        if each.keys and (folder := key_folder(each)):
            with contextlib.suppress(SettingsError):
                bases = [base for host in LOOPBACKS if not keys.is_known(base := f"tcp://{host}:{each.port}")]
                keys.trust(bases, keys.of_client(folder))
                shown += bases
    return shown


def key_folder(node: LabProcess) -> Path | None:
    """Where the keys of a node are that was told of them; None if it has ended."""
    with contextlib.suppress(psutil.Error):
        return Path(psutil.Process(node.pid).cwd(), node.keys)
    return None


def _measured(each: LabProcess, handle: psutil.Process | None, role: str) -> LabProcess:
    values = asdict(each) | {"role": role}
    if handle is not None:
        with contextlib.suppress(psutil.Error):
            values |= {"cpu_percent": handle.cpu_percent(), "memory_bytes": handle.memory_info().rss}
    return LabProcess(**values)
