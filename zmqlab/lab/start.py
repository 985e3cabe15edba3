"""How a cluster's nodes are planned, waited for, and what it means when one ends before it is ready."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import get_args

from zmqlab import errors
from zmqlab.cluster import queries
from zmqlab.errors import NodeError, NodeStartFailed, SettingsError
from zmqlab.lab.hosts import NodeProcess
from zmqlab.lab.ports import METRICS_OFFSET
from zmqlab.settings import Durability, LogLevel, NodeSettings
from zmqlab.wire import control

MAX_NODES = 15
"""More on one machine teaches nothing and only takes turns on its cores."""
START_TIMEOUT_S = 15.0
"""Ten times what a start takes on a small machine."""
POLL_S = 0.01
ANSWER_TIMEOUT_S = 0.04
"""Short, so that a node that just came up is asked again soon; it answers in well under a millisecond."""


def check_arguments(nodes: int, durability: str, log_level: str) -> None:
    """Raise SettingsError unless a cluster can be made of these."""
    if isinstance(nodes, bool) or not isinstance(nodes, int) or not 1 <= nodes <= MAX_NODES:
        raise SettingsError(f"nodes is {nodes!r}: it must be a whole number from 1 to {MAX_NODES}")
    for name, value, choices in (("durability", durability, Durability), ("log_level", log_level, LogLevel)):
        if value not in get_args(choices):
            raise SettingsError(f"{name} is {value!r}: choose {', '.join(get_args(choices))}")


def plan_nodes(
    ports: list[int],
    *,
    cluster: str,
    run_dir: Path,
    durability: Durability,
    log_level: LogLevel,
    metrics: bool = False,
) -> dict[str, NodeSettings]:
    """Settings of ``node0``, ``node1``, ... on loopback; node0 campaigns first."""
    endpoints = [f"tcp://127.0.0.1:{port}" for port in ports]
    planned = (
        NodeSettings(
            name=f"node{number}",
            port=port,
            peers=tuple(endpoint for endpoint in endpoints if endpoint != endpoints[number]),
            leader=number == 0,
            run_dir=run_dir,
            durability=durability,
            cluster=cluster,
            owner=os.getpid(),
            watch_stdin=True,
            allow_faults=True,
            log_level=log_level,
            metrics_port=port + METRICS_OFFSET if metrics else 0,
        )
        for number, port in enumerate(ports)
    )
    return {settings.name: settings for settings in planned}


def free_name(taken: Collection[str]) -> str:
    """The first of ``node0``, ``node1``, ... that nobody has."""
    return next(name for number in range(len(taken) + 1) if (name := f"node{number}") not in taken)


def log_path(settings: NodeSettings) -> Path:
    """The log file of a node."""
    return settings.run_dir / "logs" / f"{settings.name}.log"


def await_cluster(
    settings: Mapping[str, NodeSettings],
    processes: Mapping[str, NodeProcess],
    timeout_s: float = START_TIMEOUT_S,
) -> None:
    """Return when every node answers, knows a leader, and has applied the first entry of its term.

    Raises:
        NodeError: a node ended, or is not ready in time.
    """
    deadline = time.monotonic() + timeout_s
    waiting = {node.client_endpoint: name for name, node in settings.items()}
    while True:
        for endpoint, status in queries.statuses(waiting, ANSWER_TIMEOUT_S).items():
            if _is(settings[waiting[endpoint]], status) and status.leader_id and status.applied_index >= 1:
                del waiting[endpoint]
        for name, process in processes.items():
            raise_if_ended(settings[name], process)
        if not waiting:
            return
        if time.monotonic() > deadline:
            names = ", ".join(waiting.values())
            first = log_path(settings[next(iter(waiting.values()))])
            raise NodeStartFailed(f"not ready within {timeout_s:g} s: {names}; see the logs in {first.parent}")
        time.sleep(POLL_S)


def await_answer(settings: NodeSettings, process: NodeProcess, timeout_s: float = START_TIMEOUT_S) -> None:
    """Return when the node answers a question, whatever its role. Raises NodeError."""
    deadline = time.monotonic() + timeout_s
    endpoint = settings.client_endpoint
    while not any(_is(settings, status) for status in queries.statuses([endpoint], ANSWER_TIMEOUT_S).values()):
        raise_if_ended(settings, process)
        if time.monotonic() > deadline:
            raise NodeStartFailed(f"{settings.name} did not answer within {timeout_s:g} s: see {log_path(settings)}")


def _is(settings: NodeSettings, status: control.NodeStatus) -> bool:
    """Whether the answer is this node's: another process may have come first to its ports and answer there."""
    return (status.name, status.cluster) == (settings.name, settings.cluster)


def raise_if_ended(settings: NodeSettings, process: NodeProcess) -> None:
    """Raise the error that a node ended with, if it has ended."""
    status = process.poll()
    if status is None:
        return
    said = process.error_text().splitlines()
    reason = said[-1] if said else f"it said nothing; see {log_path(settings)}"
    raise start_error(status, f"{settings.name} ended with status {status} before it was ready: {reason}")


def start_error(status: int, message: str) -> NodeError:
    """The NodeError whose exit status a node ended with; NodeStartFailed for any other."""
    for kind in (errors.PortInUse, errors.JournalMismatch, errors.JournalFull, errors.JournalCorrupt):
        if kind.exit_status == status:
            return kind(message)
    return NodeStartFailed(message)
