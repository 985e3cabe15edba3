"""What a node counts, and the snapshot of itself that it publishes.

Counters are plain integers that the turn adds to; nothing is computed until a snapshot is made. The service time (from
a request's receipt at this node to its answer) is a histogram of the interval, so that a reader can merge intervals
and nodes: percentiles are never averaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from zmqlab.engine.effects import Vitals
from zmqlab.engine.following import Following
from zmqlab.engine.peers import Peers
from zmqlab.histogram import Histogram
from zmqlab.market.types import Command, symbol_name
from zmqlab.raft import Role
from zmqlab.raft.messages import Entry
from zmqlab.replica import Applied, Replica, Replication
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control
from zmqlab.wire.node_status import GroupBrief, NodeStatus
from zmqlab.wire.records import unpack_fills, unpack_reports

_ROLES = {
    Role.FOLLOWER: "follower",
    Role.PRE_CANDIDATE: "pre_candidate",
    Role.CANDIDATE: "candidate",
    Role.LEADER: "leader",
}
REMOVED = "removed"
"""The role of a node that was told that it is no member any more."""


class Counters:
    """What has happened at one node since it started, and in the present interval."""

    def __init__(self) -> None:
        self.orders_taken = 0
        """Commands in requests that clients sent to this node."""
        self.bad_frames = 0
        """Frames that were refused; for whatever reason."""
        self.turns = 0
        self.turn_ns_max = 0
        """Of the turns since the last ``metrics`` line of the log."""
        self.service_time: dict[str, int] = {}
        """The histogram of the last interval that was closed."""
        self._histogram = Histogram()

    def record_service(self, received_ns: list[int], now_ns: int) -> None:
        """Requests that were answered just now, by the times when they came."""
        for received in received_ns:
            self._histogram.record(now_ns - received)

    def close_interval(self) -> None:
        """Begin a new interval; :attr:`service_time` tells of the one that ends here."""
        self.service_time = self._histogram.to_sparse()
        self._histogram = Histogram()


def status_of(
    settings: NodeSettings, group: int, replica: Replica, peers: Peers, counters: Counters, vitals: Vitals
) -> NodeStatus:
    """A snapshot of everything."""
    replication, machine = replica.replication, replica.machine
    hash_index, chain = next(reversed(machine.checkpoints.items()), (0, b""))
    due_ticks, wait_ticks = replication.election_timer
    return NodeStatus(
        name=settings.name,
        node_id=replication.node_id,
        group=group,
        pid=vitals.pid,
        port=settings.port,
        address=settings.endpoint,
        cluster=settings.cluster,
        time_ns=vitals.time_ns,
        uptime_ms=vitals.uptime_ms,
        role=_role_of(replication),
        term=replication.term,
        leader_id=replication.leader_id,
        leader_name=peers.name_of(replication.leader_id),
        first_index=replica.journal.first_index,
        last_index=replication.last_index,
        commit_index=replication.commit_index,
        applied_index=machine.applied_index,
        lag=max(replication.last_index, replication.commit_index) - machine.applied_index,
        hash_index=hash_index,
        chain_hash=chain.hex(),
        orders_taken=counters.orders_taken,
        orders_applied=machine.orders_applied,
        rejected_total=machine.rejected_total,
        fills_total=machine.fills_total,
        bad_frames_total=counters.bad_frames + vitals.bad_messages,
        dropped_total=vitals.dropped,
        connections_ended_total=vitals.connections_ended,
        elections_total=replica.elections_total,
        election_due_ms=due_ticks * settings.tick_ms,
        election_timeout_ms=wait_ticks * settings.tick_ms,
        open_orders=machine.exchange.open_orders,
        exchange=machine.exchange.name,
        replication=settings.replication,
        sessions=len(machine.sessions),
        pending_requests=len(replica.pending),
        log_bytes=replication.log_bytes,
        journal_bytes=replica.journal.size_bytes,
        snapshots_total=replica.snapshots_total,
        cpu_percent=vitals.cpu_percent,
        rss_bytes=vitals.rss_bytes,
        turns_total=counters.turns,
        turn_ms_max=counters.turn_ns_max / 1e6,
        service_time=counters.service_time,
        members=peers.table(),
        committed_members=replication.members_at(replication.commit_index).encode(),
        shards=settings.shards,
        replication_factor=settings.replication_factor,
    )


def brief_of(
    number: int,
    replication: Replication,
    peers: Peers,
    following: Following | None,
    was_removed: bool,
) -> GroupBrief:
    """The essentials of one group here."""
    return GroupBrief(
        number=number,
        role=REMOVED if was_removed else _role_of(replication),
        term=replication.term,
        leader_id=replication.leader_id,
        leader_endpoint=peers.address_of(replication.leader_id),
        preferred_endpoint=following.preferred if following is not None else "",
        members=peers.addresses(),
        awaited=list(following.awaited) if following is not None else [],
    )


def _role_of(replication: Replication) -> str:
    is_voter = replication.node_id in replication.configuration.voters
    return "learner" if replication.role is Role.FOLLOWER and not is_voter else _ROLES[replication.role]


def early_status(settings: NodeSettings, role: str, node_id: int, vitals: Vitals) -> NodeStatus:
    """Of a node that does not know its cluster yet."""
    return NodeStatus(
        name=settings.name,
        node_id=node_id,
        pid=vitals.pid,
        port=settings.port,
        address=settings.endpoint,
        cluster=settings.cluster,
        time_ns=vitals.time_ns,
        uptime_ms=vitals.uptime_ms,
        role=role,
        term=0,
        leader_id=0,
        first_index=1,
        last_index=0,
        commit_index=0,
        applied_index=0,
        lag=0,
        shards=settings.shards,
        replication_factor=settings.replication_factor,
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
        "exchange": status.exchange,
        "bad_frames": status.bad_frames_total,
        "dropped": status.dropped_total,
        "snapshots": status.snapshots_total,
        "cpu_percent": round(status.cpu_percent, 1),
        "rss_mib": status.rss_bytes >> 20,
        "turn_ms_max": round(status.turn_ms_max, 1),
    }
    group = f"group={status.group} " if status.shards > 1 else ""
    return f"metrics {group}" + " ".join(f"{key}={value}" for key, value in fields.items())


def trades_of(entry: Entry, applied: Applied) -> Iterator[control.TradeEvent]:
    """The trades of one applied request, in the order in which they happened."""
    fills = iter(unpack_fills(applied.fills))
    commands = map(Command._make, client_wire.request_commands(entry.data))
    for command, report in zip(commands, unpack_reports(applied.reports), strict=True):
        for fill in islice(fills, report.fill_count):
            yield control.TradeEvent(
                symbol=symbol_name(command.symbol),
                price=fill.price,
                quantity=fill.quantity,
                log_index=entry.index,
                maker_order_id=fill.maker_order_id,
                taker_order_id=report.order_id,
            )
