"""Other settings for the nodes of a cluster that goes on: each starts anew, one after the other, leaders last.

Two settings can be changed so.

- *durability*, from ``os`` to ``fsync`` and back. The journal is the same file in both, and they differ only in whether
  a write waits for the disk. A node that comes back with ``fsync`` flushes the whole file with its first write, and so
  also what it had left to the kernel before. The promise holds for the cluster once the last node is back, and until
  then only for the nodes that are. With ``memory`` there is no journal to come back from: that needs a new cluster.
- *reads*. A read is answered from what a node has applied, and changes nothing. So ``local`` risks stale answers while
  it lasts, and leaves nothing behind.

What nodes must have alike is not changed: how they copy the log, and what a session remembers. While some nodes have
the old setting and others the new one, they would differ (``docs/acknowledgements.md``).

A node ends only when each Raft group has a leader that all its members know, and each member has applied what was
committed in that group when this was asked (:func:`lacking`). So each group with three members or more has a majority
that has caught up at all times, and serves. A group with one or two members waits while one of them starts anew.

A node that is told to end hands over the groups that it leads first (:class:`zmqlab.engine.departure.Closing`). The
nodes that lead the fewest groups go first, because the next ones get what they lead meanwhile.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zmqlab.client import ask
from zmqlab.client.roster import leader_of
from zmqlab.errors import ClusterError, NodeStartFailed
from zmqlab.lab.events import LabEvent
from zmqlab.lab.placed_members import VOTING
from zmqlab.lab.started_cluster import StartedCluster
from zmqlab.lab.turns import MEMBERS
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.settings import Durability, Reads, require_choice
from zmqlab.wire.node_status import NodeStatus

CAUGHT_UP_POLL_S = 0.05
"""A node catches up within some tens of milliseconds, unless it was away for long."""
STATUS_S = 1.0
"""A running node answers within a turn of its loop."""


def change_settings(cluster: StartedCluster, wanted: Mapping[str, Any], timeout_s: float) -> None:
    """Give all nodes, also those that are added later, these settings; returns when all of them have.

    Args:
        cluster: a cluster that has been started.
        wanted: ``durability``, ``reads``, or both.
        timeout_s: how long each node may take to come back and to catch up.

    Raises:
        SettingsError: a setting has no such value.
        ClusterError: it needs a new cluster, or a node does not run, or a link is cut, or a member of a group does not
            catch up. Nothing has changed then.
        NodeError: a node did not come back, or did not catch up. Nodes before it have the new settings.
    """
    fleet = cluster.fleet
    with fleet.turns.take(MEMBERS, "change"):
        _check(cluster, wanted)
        if missing := _wait_until_whole(cluster, timeout_s):
            raise ClusterError(f"no node can be started anew for now: {missing}")
        more = {name: value for name, value in wanted.items() if name == "reads"}
        durability = wanted.get("durability", fleet.plan.durability)
        fleet.plan = replace(fleet.plan, durability=durability, more={**fleet.plan.more, **more})
        leads = _leads(cluster)
        for name in sorted(fleet.names, key=lambda name: leads[name]):
            if any(getattr(fleet.settings(name), setting) != value for setting, value in wanted.items()):
                _start_anew(cluster, name, wanted, timeout_s)


def _check(cluster: StartedCluster, wanted: Mapping[str, Any]) -> None:
    fleet = cluster.fleet
    if fleet.outside:
        raise ClusterError(fleet.outside)
    fleet.notice_deaths()
    for setting, choices in (("durability", Durability), ("reads", Reads)):
        if setting in wanted:
            require_choice(setting, wanted[setting], choices)
    durability = {fleet.plan.durability, wanted.get("durability", fleet.plan.durability)}
    if len(durability) > 1 and "memory" in durability:
        raise ClusterError("durability memory has no journal, so that no node could come back: start a new cluster")
    still = [name for name in fleet.names if name not in fleet.running]
    if still:
        raise ClusterError(f"{', '.join(still)} must run first: restart or resume, and try again")
    bad = cluster.faults.faults.items()
    if cut := [f"{source} to {target}" for (source, target), fault in bad if fault.cut or fault.loss >= 1]:
        raise ClusterError(f"the link from {cut[0]} is cut, and a majority could be without it: heal the links first")


def _leads(cluster: StartedCluster) -> dict[str, int]:
    """Node -> how many groups it leads, as nodes last said. A cluster that has just begun has not been heard yet."""
    cluster.hear_leaders()
    fleet = cluster.fleet
    leaders = [cluster.feed.leader_among(fleet.running, group) for group in range(fleet.plan.shards)]
    return {name: leaders.count(name) for name in fleet.names}


def _start_anew(cluster: StartedCluster, name: str, wanted: Mapping[str, Any], timeout_s: float) -> None:
    """End a node in good order, and start it from its journal with other settings. A leader hands over."""
    fleet = cluster.fleet
    with fleet.turns.take(name, "change"):
        cluster.feed.note(LabEvent.TERMINATED, name)
        fleet.end(name, signal.SIGTERM)
        fleet.start(replace(fleet.settings(name), **wanted), LabEvent.RESTARTED)
        fleet.await_answer(name, timeout_s)
        cluster.faults.tell(name)
        if missing := _wait_until_whole(cluster, timeout_s, name):
            raise NodeStartFailed(f"{name} has come back, and after {timeout_s:g} s {missing}: are its links whole?")


def _wait_until_whole(cluster: StartedCluster, timeout_s: float, started: str = "") -> str:
    """Wait until each group can do without any one of its members; what a group lacks after ``timeout_s``, or nothing.

    Raises:
        NodeError: the node ``started`` has ended.
    """
    deadline = time.monotonic() + timeout_s
    committed: dict[int, int] = {}
    waiting = list(range(cluster.fleet.plan.shards))
    while True:
        missing = {}
        for group in waiting:
            told = ask.statuses_of_group(_holders(cluster, group), group, STATUS_S)
            committed.setdefault(group, max((status.commit_index for status in told.values()), default=0))
            if lacks := lacking(group, list(told.values()), committed[group]):
                missing[group] = lacks
        if not missing:
            return ""
        if started:
            cluster.fleet.raise_if_ended(started)
        if time.monotonic() > deadline:
            return next(iter(missing.values()))
        waiting = list(missing)
        time.sleep(CAUGHT_UP_POLL_S)


def _holders(cluster: StartedCluster, group: int) -> list[str]:
    """Where clients reach the nodes that hold a group, as nodes last said; all nodes, if there is one group."""
    fleet = cluster.fleet
    names = fleet.names if fleet.plan.shards == 1 else cluster.feed.newest(group)
    return [fleet.endpoint(name) for name in fleet.names if name in names]


def lacking(group: int, told: Sequence[NodeStatus], committed: int) -> str:
    """What a group lacks so that it can do without any one of its members; empty: nothing.

    Args:
        group: its number.
        told: its status at each node that holds it and has answered.
        committed: the log index up to which each must have applied the log.
    """
    kind = REPLICATIONS.known(told[0].replication) if told else None
    if kind is None or kind.needs != "node":  # else each node goes on by itself
        leader = told[leader_at] if (leader_at := leader_of(dict(enumerate(told)))) is not None else None
        if leader is None:
            return f"group {group} has no leader"
        members = {each.node_id: each for each in leader.members}
        told = [status for status in told if status.node_id in members] if members else told
        away = members.keys() - {status.node_id for status in told}
        if away:
            names = [members[each].name or members[each].endpoint for each in sorted(away)]
            return f"{', '.join(names)} of group {group} does not answer"
        others = [status.name for status in told if (status.term, status.leader_id) != (leader.term, leader.leader_id)]
        if others:
            return f"{others[0]} does not know the leader of group {group}"
    for status in told:
        if status.role not in VOTING or status.applied_index < committed:
            return f"{status.name} has not caught up in group {group}"
    return ""
