"""What a node counts, and the snapshot that it publishes ten times a second.

Counters are plain integers that the loop adds to; nothing is computed until a snapshot is made. CPU and memory come
from the process itself. The service time (from a request's receipt at this node to its answer) is a histogram of the
interval, so that a reader can merge intervals and nodes: percentiles are never averaged.
"""

from __future__ import annotations

import os
import time

import psutil

from zmqlab.histogram import Histogram
from zmqlab.node.peers import Peers
from zmqlab.raft import Role
from zmqlab.replica import Replica
from zmqlab.settings import NodeSettings
from zmqlab.wire.control import NodeStatus

SNAPSHOT_INTERVAL_NS = 100_000_000
LOG_EVERY = 10
"""Snapshots between two ``metrics`` lines of the log: one a second."""

_ROLES = {
    Role.FOLLOWER: "follower",
    Role.PRE_CANDIDATE: "pre_candidate",
    Role.CANDIDATE: "candidate",
    Role.LEADER: "leader",
}


class Metrics:
    """The counters of one node."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the point that the second measures from
        self._started_ns = time.monotonic_ns()
        self._cpu_percent = 0.0
        self._service_time: dict[str, int] = {}
        self._histogram = Histogram()
        self.orders_taken = 0
        self.bad_frames = 0
        self.turns = 0
        self.turn_ns_max = 0

    def record_service(self, received_ns: list[int]) -> None:
        """Requests that were answered just now, by the times when they came."""
        now_ns = time.monotonic_ns()
        for received in received_ns:
            self._histogram.record(now_ns - received)

    def new_interval(self) -> None:
        """Close the interval: what :meth:`status` tells of it stays until the next call."""
        self._cpu_percent = self._process.cpu_percent()
        self._service_time = self._histogram.to_sparse()
        self._histogram = Histogram()

    def status(self, replica: Replica, peers: Peers, dropped: int) -> NodeStatus:
        """A snapshot of everything."""
        raft, machine, settings = replica.raft, replica.machine, self._settings
        hash_index, chain = next(reversed(machine.checkpoints.items()), (0, b""))
        return NodeStatus(
            name=settings.name,
            node_id=raft.node_id,
            pid=os.getpid(),
            port=settings.port,
            cluster=settings.cluster,
            time_ns=time.time_ns(),
            uptime_ms=(time.monotonic_ns() - self._started_ns) // 1_000_000,
            role="learner" if raft.role is Role.FOLLOWER and raft.is_learner else _ROLES[raft.role],
            term=raft.term,
            leader_id=raft.leader_id,
            leader_name=peers.name_of(raft.leader_id),
            first_index=replica.journal.first_index,
            last_index=raft.last_index,
            commit_index=raft.commit_index,
            applied_index=machine.applied_index,
            lag=max(raft.last_index, raft.commit_index) - machine.applied_index,
            hash_index=hash_index,
            chain_hash=chain.hex(),
            orders_taken=self.orders_taken,
            orders_applied=machine.orders_applied,
            rejected_total=machine.rejected_total,
            fills_total=machine.fills_total,
            bad_frames_total=self.bad_frames,
            dropped_total=dropped,
            elections_total=replica.elections_total,
            open_orders=machine.exchange.open_orders,
            sessions=len(machine.sessions),
            pending_requests=len(replica.pending),
            log_bytes=raft.log_bytes,
            journal_bytes=replica.journal.size_bytes,
            snapshots_total=replica.snapshots_total,
            cpu_percent=self._cpu_percent,
            rss_bytes=self._process.memory_info().rss,
            turns_total=self.turns,
            turn_ms_max=self.turn_ns_max / 1e6,
            service_time=self._service_time,
            members=peers.table(),
        )


def log_line(status: NodeStatus) -> str:
    """The ``metrics`` line of the log, for grep and awk: key=value, one line a second."""
    fields = {
        "role": status.role,
        "term": status.term,
        "commit": status.commit_index,
        "applied": status.applied_index,
        "lag": status.lag,
        "taken": status.orders_taken,
        "orders": status.orders_applied,
        "pending": status.pending_requests,
        "open_orders": status.open_orders,
        "bad_frames": status.bad_frames_total,
        "dropped": status.dropped_total,
        "snapshots": status.snapshots_total,
        "cpu_percent": round(status.cpu_percent, 1),
        "rss_mib": status.rss_bytes >> 20,
        "turn_ms_max": round(status.turn_ms_max, 1),
    }
    return "metrics " + " ".join(f"{key}={value}" for key, value in fields.items())
