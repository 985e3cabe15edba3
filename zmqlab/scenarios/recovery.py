"""Whether a cluster has recovered: what is wrong with nodes that all run, and how far the last one is behind.

With one Raft group the nodes' answers tell (:func:`trouble_of`). With several, a status is of one group, and so what
nodes publish of each group is looked at (:func:`trouble_of_groups`).

Rules: nothing is changed here, and nothing waited for (:mod:`~zmqlab.scenarios.nemesis` does that).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from zmqlab.lab.cluster import Cluster
from zmqlab.lab.feed import MetricsFeed
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.tables import StatusTable

NEAR = 200
"""Entries behind the leader that do not count as far: a tenth of a second of ten clients at full rate. With more, the
next fault may leave a majority of which one must catch up before any client is served."""
HEARD_S = 0.5
"""A node that has published nothing for longer is not heard: it speaks ten times a second."""


def has_leader(replication: str) -> bool:
    """Whether the nodes agree on a leader; of a class of a person's own that is assumed."""
    kind = REPLICATIONS.known(replication)
    return kind is None or kind.needs != "node"


def trouble_of(table: StatusTable) -> str:
    """What is wrong with nodes that all run; empty if nothing is."""
    silent = [node.name for node in table if node.status is None]
    if silent:
        return f"{', '.join(silent)} does not answer"
    told = {node.name: node.status for node in table if node.status is not None}
    leaders = {(status.term, status.leader_id) for status in told.values()}
    if has_leader(table.replication) and (len(leaders) > 1 or 0 in {leader for _, leader in leaders}):
        return f"the nodes don't know one leader: {sorted(leaders)}"
    far = [f"{name} by {entries:,}" for name, entries in behind_in(table).items() if entries > NEAR]
    return f"far behind: {', '.join(far)}" if far else ""


def behind_in(table: StatusTable) -> dict[str, int]:
    """By node that answers: how many committed entries it has not applied, as far as the table shows.

    Where no node leads, each has a sequence of its own and is behind no other one.
    """
    told = {node.name: node.status for node in table if node.status is not None}
    end = max((status.commit_index for status in told.values()), default=0)
    if not has_leader(table.replication):
        return {name: status.commit_index - status.applied_index for name, status in told.items()}
    return {name: end - status.applied_index for name, status in told.items()}


def trouble_of_groups(cluster: Cluster) -> str:
    """The same for a cluster with several Raft groups, by what its nodes publish."""
    feed = cluster.feed
    silent_s = feed.silent_s()
    silent = [name for name in cluster.nodes if silent_s.get(name, inf) > HEARD_S]
    if silent:
        return f"{', '.join(silent)} is not heard"
    for group in range(cluster.shards):
        leaders = {(status.term, status.leader_id) for status in feed.newest(group).values()}
        if len(leaders) != 1 or 0 in {leader for _, leader in leaders}:
            return f"the nodes don't know one leader of group {group}: {sorted(leaders)}"
    far = [f"{name} by {entries:,}" for name, entries in behind_in_groups(feed).items() if entries > NEAR]
    return f"far behind: {', '.join(far)}" if far else ""


def behind_in_groups(feed: MetricsFeed, groups: Iterable[int] | None = None) -> dict[str, int]:
    """By node: how many committed entries it has not applied, in that of the ``groups`` (None: of all) in which these
    are most."""
    behind: dict[str, int] = {}
    for group in range(feed.shards) if groups is None else groups:
        told = feed.newest(group)
        end = max((status.commit_index for status in told.values()), default=0)
        for name, status in told.items():
            behind[name] = max(behind.get(name, 0), end - status.applied_index)
    return behind
