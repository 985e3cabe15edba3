"""``zmqlab scale``: changes the nodes of a cluster that was started by hand on this machine, and that no object owns.

The nodes' statuses name the members; with several Raft groups they tell the roster, which names the nodes. New nodes
are started in the background and belong to no process, as if they had been started in another terminal. Nodes that go
are taken out of the group first, or out of all groups, and then ended by SIGTERM; their journals stay where they are,
and are of no more use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from zmqlab.client import ask
from zmqlab.endpoints import CLIENT_PORT, is_loopback, parse_endpoint
from zmqlab.errors import ClusterError, SettingsError, start_error
from zmqlab.keys import Keyring, Role
from zmqlab.lab import processes
from zmqlab.lab.fleet import check_count, free_name
from zmqlab.lab.hosts import LocalHost, start_in_background
from zmqlab.lab.placed_members import look
from zmqlab.lab.scaling import CHANGE_TIMEOUT_S, Reached, let_go, no_room, reach_cluster
from zmqlab.settings import DEFAULT_REPLICATION, NodeSettings
from zmqlab.wire.node_status import Member

BACKGROUND_POLL_S = 0.05
"""A node by hand is a new Python process, which takes half a second to come up."""


class ScalingByHand:
    """Changes the members of a cluster that is known by the client endpoints of some of its nodes.

    Args:
        endpoints: where clients reach some of the nodes.
        run_dir: where new nodes write.
        tell: called with a line for each step.
        timeout_s: how long each change may take.
        keys: the folder of keys for new nodes; else the one that the command lines of the members name.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        run_dir: Path,
        tell: Callable[[str], None],
        timeout_s: float = CHANGE_TIMEOUT_S,
        keys: Path | None = None,
    ) -> None:
        self._seeds = tuple(endpoints)
        self._run_dir = run_dir
        self._tell = tell
        self._timeout_s = timeout_s
        self._keys = keys.absolute() if keys is not None else None
        self._host = LocalHost()

    def scale(self, count: int) -> list[Member]:
        """Add or remove nodes, one after the other, until there are ``count``; returns the members then.

        Raises:
            SettingsError: a cluster can't have so many nodes, or no member's secret is in the folder of keys.
            ClusterError: a change was not committed in time, or the cluster belongs to a Cluster object.
            NoLeader: no majority runs.
        """
        check_count(count)
        copies = max((each.shards * each.replication_factor for each in ask.statuses(self._seeds).values()), default=0)
        if copies and count > copies:
            raise SettingsError(no_room(count, copies))
        while len(members := self._reach().members) != count:
            if len(members) < count:
                self._add(members)
            else:
                self._remove(members)
        return list(members.values())

    def _reach(self) -> Reached:
        reached = reach_cluster(self._seeds, time.monotonic() + self._timeout_s)
        if reached.cluster:
            raise ClusterError(
                f"these nodes belong to the cluster {reached.cluster} of another process: call cluster.scale(n) there"
            )
        away = [address for address, each in reached.members.items() if not is_loopback(each.host)]
        if away:
            raise ClusterError(f"{away[0]} is on another machine: start and stop nodes there (zmqlab node --join)")
        self._seeds = tuple(each.client_endpoint for each in reached.members.values())
        return reached

    def _add(self, members: dict[str, Member]) -> None:
        told = list(ask.statuses(self._seeds).values())
        names = {status.name for status in told}
        name = free_name({each.name for each in members.values()} | names)  # a node that just started is no member yet
        replication = next((status.replication for status in told if status.replication), DEFAULT_REPLICATION)
        (port,) = self._host.free_ports(1, [each.port for each in members.values()])
        keys = self._member_keys({each.port for each in members.values()})
        shards = max((status.shards for status in told), default=1)
        settings = NodeSettings(
            name=name,
            port=port,
            join=tuple(members),
            run_dir=self._run_dir,
            keys=keys,
            replication=replication,
            shards=shards,
            replication_factor=max((status.replication_factor for status in told), default=0),
        )
        log = self._host.log_path(settings)
        process = start_in_background(settings)
        self._tell(f"{name} starts at {settings.endpoint}, pid {process.pid}")
        deadline = time.monotonic() + self._timeout_s
        while not self._votes(settings, shards):
            if (status := process.poll()) is not None:
                raise start_error(status, f"{name} ended with status {status} before it was taken in: see {log}")
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise ClusterError(f"{name} was not taken in within {self._timeout_s:g} s: see {log}")
            time.sleep(BACKGROUND_POLL_S)
        self._tell(f"{name} has caught up and votes")

    def _votes(self, settings: NodeSettings, shards: int) -> bool:
        """Whether a new node votes; with shards, whether all replicas are where they belong."""
        if shards == 1:
            member = self._reach().members.get(settings.endpoint)
            return member is not None and member.voter
        placed = look((*self._seeds, settings.client_endpoint))
        is_in = placed is not None and settings.endpoint in placed.roster.nodes and settings.endpoint in placed.told
        return placed is not None and is_in and not placed.missing()

    def _member_keys(self, ports: Collection[int]) -> Path | None:
        """The keys for a new node of the group on these base ports. Raises SettingsError if they are no member's."""
        of_members = (processes.key_folder(each) for each in processes.find() if each.port in ports and each.keys)
        folder = self._keys or next(filter(None, of_members), None)
        if folder is not None:
            Keyring.read(folder).credentials(Role.MEMBER)  # without it the new node could never join
        return folder

    def _remove(self, members: dict[str, Member]) -> None:
        """Remove the last by name of those that do not lead; the leader only if there is no other node."""
        reached, deadline = self._reach(), time.monotonic() + self._timeout_s
        leader_port = parse_endpoint(reached.endpoint)[1] - CLIENT_PORT
        address, member = max(members.items(), key=lambda item: (item[1].port != leader_port, item[1].name))
        name = member.name or address
        let_go(reached, member, lambda: self._seeds, deadline)
        self._seeds = tuple(seed for seed in self._seeds if seed != member.client_endpoint)
        self._tell(f"{name} is out of {reached.all_groups}")
        processes.reap(each for each in processes.find() if each.kind == "node" and each.port == member.port)
        self._tell(f"{name} has ended")
