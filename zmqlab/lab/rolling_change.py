"""Other settings for the nodes of a cluster that goes on: each starts anew, one after the other, the leader last.

Two settings can be changed so.

- *durability*, from ``os`` to ``fsync`` and back. The journal is the same file in both, and they differ only in whether
  a write waits for the disk. A node that comes back with ``fsync`` flushes the whole file with its first write, and so
  also what it had left to the kernel before. The promise holds for the cluster once the last node is back, and until
  then only for the nodes that are. With ``memory`` there is no journal to come back from: that needs a new cluster.
- *reads*. A read is answered from what a node has applied, and changes nothing. So ``local`` risks stale answers while
  it lasts, and leaves nothing behind.

What nodes must have alike is not changed: how they copy the log, and what a session remembers. While some nodes have
the old setting and others the new one, they would differ (``docs/acknowledgements.md``).

A node is started anew only when all nodes run, and the next one not before the last one has applied what was committed
when it came back. So a majority that has caught up is there at all times, and serves.

Left out: clusters with shards, where a node would have to catch up in each of its groups.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from zmqlab.errors import ClusterError, NodeStartFailed, SettingsError
from zmqlab.lab.events import LabEvent
from zmqlab.lab.started_cluster import StartedCluster
from zmqlab.lab.turns import MEMBERS
from zmqlab.settings import Durability, Reads

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
        ClusterError: it needs a new cluster, or a node does not run. Nothing has changed then.
        NodeError: a node did not come back, or did not catch up. Nodes before it have the new settings.
    """
    fleet = cluster.fleet
    with fleet.turns.take(MEMBERS, "change"):
        _check(cluster, wanted)
        more = {name: value for name, value in wanted.items() if name == "reads"}
        durability = wanted.get("durability", fleet.plan.durability)
        fleet.plan = replace(fleet.plan, durability=durability, more={**fleet.plan.more, **more})
        leader = cluster.wait_for_leader(timeout_s)
        for name in sorted(fleet.names, key=lambda name: name == leader):
            if any(getattr(fleet.settings(name), setting) != value for setting, value in wanted.items()):
                _start_anew(cluster, name, wanted, timeout_s)


def _check(cluster: StartedCluster, wanted: Mapping[str, Any]) -> None:
    fleet = cluster.fleet
    if fleet.outside:
        raise ClusterError(fleet.outside)
    fleet.notice_deaths()
    if fleet.plan.shards > 1:
        raise ClusterError("with several Raft groups nodes keep their settings: start a new cluster for this one")
    for setting, values in (("durability", get_args(Durability)), ("reads", get_args(Reads))):
        if setting in wanted and wanted[setting] not in values:
            raise SettingsError(f"{setting} is {wanted[setting]!r}: choose {', '.join(values)}")
    durability = {fleet.plan.durability, wanted.get("durability", fleet.plan.durability)}
    if len(durability) > 1 and "memory" in durability:
        raise ClusterError("durability memory has no journal, so that no node could come back: start a new cluster")
    still = [name for name in fleet.names if name not in fleet.running]
    if still:
        raise ClusterError(f"{', '.join(still)} must run first: restart or resume, and try again")


def _start_anew(cluster: StartedCluster, name: str, wanted: Mapping[str, Any], timeout_s: float) -> None:
    """End a node in good order, and start it from its journal with other settings. A leader hands over."""
    fleet = cluster.fleet
    with fleet.turns.take(name, "change"):
        cluster.feed.note(LabEvent.TERMINATED, name)
        fleet.end(name, signal.SIGTERM)
        fleet.start(replace(fleet.settings(name), **wanted), LabEvent.RESTARTED)
        fleet.await_answer(name, timeout_s)
        cluster.faults.tell(name)
        _await_caught_up(cluster, name, timeout_s)


def _await_caught_up(cluster: StartedCluster, name: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    committed = max(
        (each.status.commit_index for each in cluster.status(STATUS_S) if each.status is not None), default=0
    )
    while (status := cluster.status(STATUS_S)[name].status) is None or status.applied_index < committed:
        cluster.fleet.raise_if_ended(name)
        if time.monotonic() > deadline:
            raise NodeStartFailed(
                f"{name} has come back, and not caught up within {timeout_s:g} s: are its links whole?"
            )
        time.sleep(CAUGHT_UP_POLL_S)
