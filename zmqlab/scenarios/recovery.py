"""Whether a cluster has recovered: what is wrong with nodes that all run, and how far the last one is behind.

:func:`told_by` gathers what the nodes say of themselves, and all else judges by that alone. The sources differ: with
one Raft group the nodes are asked, and so all statuses are of one moment. With several, a status is of one group, and
to ask for each of them would cost a round trip a group; then what the nodes have published counts.

Rules: nothing is changed here, and nothing waited for (:mod:`~zmqlab.scenarios.nemesis` does that).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from zmqlab.lab.cluster import Cluster
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.wire.node_status import NodeStatus

NEAR = 200
"""Entries behind the leader that do not count as far: a tenth of a second of ten clients at full rate. With more, the
next fault may leave a majority of which one must catch up before any client is served."""
HEARD_S = 0.5
"""A node that has published nothing for longer is not heard: it speaks ten times a second."""

Statuses = Mapping[int, Mapping[str, NodeStatus]]
"""Group -> node -> what the node says of itself in that group; of nodes that hold it."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the nodes of a cluster say now."""

    statuses: Statuses
    silent: Sequence[str] = ()
    """Nodes that say nothing."""

    @property
    def trouble(self) -> str:
        """What is wrong with the nodes; empty if nothing is."""
        if self.silent:
            return f"{', '.join(self.silent)} does not answer"
        for group, told in self.statuses.items():
            leaders = {(status.term, status.leader_id) for status in told.values()}
            if _is_led(told) and (len(leaders) != 1 or 0 in {leader for _, leader in leaders}):
                of_group = f" of group {group}" if len(self.statuses) > 1 else ""
                return f"the nodes don't know one leader{of_group}: {sorted(leaders)}"
        far = [f"{name} by {entries:,}" for name, entries in self.behind.items() if entries > NEAR]
        return f"far behind: {', '.join(far)}" if far else ""

    @property
    def behind(self) -> dict[str, int]:
        """As :func:`behind_in` says."""
        return behind_in(self.statuses)


def told_by(cluster: Cluster) -> Told:
    """What the nodes of the cluster say now; see the module for how they are asked."""
    if cluster.shards == 1:
        table = cluster.status()
        told = {node.name: node.status for node in table if node.status is not None}
        return Told({0: told}, [node.name for node in table if node.status is None])
    feed = cluster.feed
    silent_s = feed.silent_s()
    silent = [name for name in cluster.nodes if silent_s.get(name, inf) > HEARD_S]
    return Told({group: feed.newest(group) for group in range(cluster.shards)}, silent)


def behind_in(statuses: Statuses) -> dict[str, int]:
    """By node: how many committed entries it has not applied, in that of the groups in which these are most.

    Where no node leads, each has a sequence of its own and is behind no other one.
    """
    behind: dict[str, int] = {}
    for told in statuses.values():
        led = _is_led(told)
        end = max((status.commit_index for status in told.values()), default=0)
        for name, status in told.items():
            committed = end if led else status.commit_index
            behind[name] = max(behind.get(name, 0), committed - status.applied_index)
    return behind


def has_leader(replication: str) -> bool:
    """Whether nodes that copy the log in this way agree on a leader; of a class of a person's own that is assumed."""
    kind = REPLICATIONS.known(replication)
    return kind is None or kind.needs != "node"


def _is_led(told: Mapping[str, NodeStatus]) -> bool:
    """Whether one of these nodes is to lead, by what they say of how they copy the log."""
    return all(has_leader(status.replication) for status in told.values())
