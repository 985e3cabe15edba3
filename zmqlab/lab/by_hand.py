"""Scaling a cluster whose nodes were started by hand on this machine: ``zmqlab scale``.

There is no :class:`~zmqlab.lab.cluster.Cluster` that owns such nodes; the members themselves say who they are. New
nodes are started in the background, in sessions of their own, with ``--join``; they belong to nobody, as if they had
been started in another terminal, and ``zmqlab ps`` shows them. Nodes that go are taken out of the group first and then
ended by SIGTERM; their journals stay where they are, and are of no more use.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from zmqlab.cluster import queries
from zmqlab.errors import ClusterError, SettingsError
from zmqlab.lab import processes
from zmqlab.lab.hosts import module_command, module_environment, node_arguments
from zmqlab.lab.ports import free_base_ports
from zmqlab.lab.scaling import CHANGE_TIMEOUT_S, Reached, reach_leader, remove_member
from zmqlab.lab.start import MAX_NODES, free_name, log_path, start_error
from zmqlab.settings import NodeSettings, is_loopback
from zmqlab.wire.control import Member

POLL_S = 0.05


class ByHand:
    """Changes the members of a cluster that is known by the client endpoints of some of its nodes."""

    def __init__(
        self,
        endpoints: Sequence[str],
        run_dir: Path,
        tell: Callable[[str], None],
        timeout_s: float = CHANGE_TIMEOUT_S,
    ) -> None:
        """``run_dir`` is where new nodes write; ``tell`` hears of each step; each change has ``timeout_s``."""
        self._seeds = tuple(endpoints)
        self._run_dir = run_dir
        self._tell = tell
        self._timeout_s = timeout_s

    def scale(self, count: int) -> list[Member]:
        """Add or remove nodes, one after the other, until there are ``count``; returns the members then.

        Raises:
            ClusterError: a change was not committed in time, or the cluster belongs to a Cluster object.
            NoLeader: no majority runs.
        """
        if not 1 <= count <= MAX_NODES:
            raise SettingsError(f"a cluster of {count} nodes: it must be from 1 to {MAX_NODES}")
        while len(members := self._members()) != count:
            if len(members) < count:
                self._add(members)
            else:
                self._remove(members)
        return list(members.values())

    def _members(self) -> dict[str, Member]:
        return self._reach().members

    def _reach(self) -> Reached:
        reached = reach_leader(self._seeds, time.monotonic() + self._timeout_s)
        if reached.cluster:
            raise ClusterError(
                f"these nodes belong to the cluster {reached.cluster} of another process: cluster.scale(n) there"
            )
        strange = [address for address, each in reached.members.items() if not is_loopback(each.host)]
        if strange:
            raise ClusterError(f"{strange[0]} is on another machine: start and stop nodes there (zmqlab node --join)")
        self._seeds = tuple(each.client_endpoint for each in reached.members.values())
        return reached

    def _add(self, members: dict[str, Member]) -> None:
        taken = {each.name for each in members.values()} | {
            status.name
            for status in queries.statuses(self._seeds).values()  # one that started just now has not told
        }
        name = free_name(taken)
        (port,) = free_base_ports(1, exclude=[each.port for each in members.values()])
        settings = NodeSettings(name=name, port=port, join=tuple(members), run_dir=self._run_dir)
        log = log_path(settings)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [*module_command("zmqlab.node"), *node_arguments(settings)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=module_environment(),
            start_new_session=True,
        )
        self._tell(f"{name} starts at {settings.endpoint}, pid {process.pid}")
        deadline = time.monotonic() + self._timeout_s
        while not ((member := self._members().get(settings.endpoint)) and member.voter):
            if (status := process.poll()) is not None:
                raise start_error(status, f"{name} ended with status {status} before it was taken in: see {log}")
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise ClusterError(f"{name} was not taken in within {self._timeout_s:g} s: see {log}")
            time.sleep(POLL_S)
        self._tell(f"{name} has caught up and votes")

    def _remove(self, members: dict[str, Member]) -> None:
        """The last by name that does not lead; the leader only if there is nobody else."""
        reached = self._reach()
        leader_port = int(reached.endpoint.rpartition(":")[2]) - 2
        address, member = max(members.items(), key=lambda item: (item[1].port != leader_port, item[1].name))
        name = member.name or address
        remove_member(lambda: self._seeds, member.node_id, time.monotonic() + self._timeout_s)
        self._seeds = tuple(seed for seed in self._seeds if seed != member.client_endpoint)
        self._tell(f"{name} is out of the group")
        processes.reap(each for each in processes.find() if each.kind == "node" and each.port == member.port)
        self._tell(f"{name} has ended")
