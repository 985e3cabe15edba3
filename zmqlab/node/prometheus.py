"""What a node tells Prometheus, and when it calls itself alive and ready.

The loop hands a finished :class:`View` over ten times a second, with the snapshot that it publishes anyway; the threads
of :mod:`zmqlab.node.exposition` write it down at each scrape. The hand-over is one assignment. This module, with
prometheus-client, is imported only by a node that was given ``--metrics-port``.

Names follow Prometheus' conventions: base units, ``_total`` on what only grows, ``process_`` names for what every
process has. The role is one series a role, of which one is 1. Nothing carries the node's name: that is a label of the
target, which discovery sets, and ``zmqlab_node_info`` tells it to those who have no discovery.

*Several Raft groups.* A node with several has a series for each, with the label ``group``. Where there is one group no
series has that label, so that its dashboards stay as they are. Service time is of all groups together.

**Do the nodes agree?** Each publishes its hash chain at checkpoints, but Prometheus sees nodes at different moments,
when their newest checkpoints are different ones, and only hashes at equal indexes must be equal. A series for each
index would be exact, and a new one at every scrape. So each node shows its chain at *several* spacings: the newest
checkpoint whose index is a multiple of 256, of 1,024, and so on up to 262,144 entries. At some spacing two nodes that
were seen a few seconds apart stand at the same index, whatever the load; at rest they do at all of them. A chain that
has parted never meets again, so that one comparison is enough, whenever it comes. The value is the chain's first 48
bits, which a float holds exactly; two different chains have them in common once in 280,000,000,000,000.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from zmqlab.engine.status import REMOVED
from zmqlab.node.exposition import Distribution, Endpoint, Figure, Pages, Total, Writer, histogram
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.replica import Replica
from zmqlab.replica.machine import CHECKPOINT_INTERVAL
from zmqlab.settings import NodeSettings
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wording import counted

ROLES = ("leader", "follower", "candidate", "pre_candidate", "learner", "removed")
_ROLE = ("role",), [(role,) for role in ROLES]
_KIND = ("kind",), [("voter",), ("learner",)]
SPACINGS = tuple(CHECKPOINT_INTERVAL * 4**step for step in range(6))
"""Entries between the checkpoints that are shown."""
HASH_HEX_DIGITS = 12
"""48 bits, of the 53 that a float has."""
STALLED_S = 1.0
"""A loop that has not come round for so long is stuck: it turns at each tick, every 10 ms."""
READY_LAG_ENTRIES = 1_000
"""About a second's worth under load. More: answers here would be late, so clients should be sent elsewhere."""
LONGEST_TURN_OVER = 150
"""Snapshots over which the longest turn is told: 15 s, the usual scrape interval, so that none is missed."""


class View(NamedTuple):
    """Everything that a scrape or a probe needs of one group, made in the loop and never changed."""

    status: NodeStatus
    service_time: Distribution
    journal_write: Distribution | None
    """None: there is no journal on disk."""
    chain: Mapping[int, tuple[int, str]]
    """Spacing -> (index, chain hash in hex) of the newest checkpoint there, for those that were passed."""
    turn_s_max: float
    closing: bool
    made_at_s: float
    """Monotonic clock."""


class _Series(NamedTuple):
    """A metric without labels, read from the snapshot."""

    name: str
    help_text: str
    read: Callable[[NodeStatus], float]


_GAUGES = (
    _Series("zmqlab_term", "Raft's current term.", lambda s: s.term),
    _Series("zmqlab_leader_known", "1 if this node knows a leader, itself included.", lambda s: int(s.leader_id > 0)),
    _Series("zmqlab_last_index", "Index of the newest entry in this node's log.", lambda s: s.last_index),
    _Series("zmqlab_commit_index", "Index up to which a majority is known to have the log.", lambda s: s.commit_index),
    _Series("zmqlab_applied_index", "Index up to which this node has executed the log.", lambda s: s.applied_index),
    _Series("zmqlab_lag_entries", "Entries that this node knows of and has not applied.", lambda s: s.lag),
    _Series("zmqlab_open_orders", "Orders that rest in the books.", lambda s: s.open_orders),
    _Series("zmqlab_sessions", "Clients' sessions that are remembered.", lambda s: s.sessions),
    _Series("zmqlab_pending_requests", "Requests taken here and not answered yet.", lambda s: s.pending_requests),
    _Series("zmqlab_log_bytes", "Log entries in memory.", lambda s: s.log_bytes),
    _Series("zmqlab_journal_bytes", "Log entries on disk.", lambda s: s.journal_bytes),
    _Series("process_resident_memory_bytes", "Resident memory.", lambda s: s.rss_bytes),
    _Series("process_start_time_seconds", "Start, since the epoch.", lambda s: s.time_ns / 1e9 - s.uptime_ms / 1e3),
)
_COUNTERS = (
    _Series("zmqlab_orders_taken_total", "Orders that clients sent to this very node.", lambda s: s.orders_taken),
    _Series(
        "zmqlab_orders_applied_total",
        "Orders executed, in the cluster's whole life; the same on all nodes at the same index.",
        lambda s: s.orders_applied,
    ),
    _Series("zmqlab_orders_rejected_total", "Of the orders executed, those rejected.", lambda s: s.rejected_total),
    _Series("zmqlab_fills_total", "Fills, in the cluster's whole life.", lambda s: s.fills_total),
    _Series("zmqlab_bad_frames_total", "Bad or forbidden frames, refused handshakes.", lambda s: s.bad_frames_total),
    _Series("zmqlab_dropped_messages_total", "Messages that a queue had no room for.", lambda s: s.dropped_total),
    _Series(
        "zmqlab_connections_ended_total",
        "Connections that the node ended: too many, or bytes that became no message.",
        lambda s: s.connections_ended_total,
    ),
    _Series("zmqlab_elections_won_total", "Times that this node became leader.", lambda s: s.elections_total),
    _Series("zmqlab_snapshots_total", "Snapshots that this node took.", lambda s: s.snapshots_total),
    _Series("zmqlab_turns_total", "Turns of the node's loop.", lambda s: s.turns_total),
)


OF_THE_NODE = frozenset(
    (
        *("process_resident_memory_bytes", "process_start_time_seconds", "zmqlab_turns_total"),
        *("zmqlab_dropped_messages_total", "zmqlab_connections_ended_total"),
    )
)
"""Series that are the same in the statuses of all groups of a node."""


def figures(*views: View) -> Iterator[Figure]:
    """The whole of ``/metrics``; ``views``: of each Raft group, in the order of their numbers."""
    status, statuses = views[0].status, [view.status for view in views]
    who = (status.name, status.cluster, f"{status.node_id:#x}")
    yield Figure("gauge", "zmqlab_node_info", "Who this is; always 1.", [1], ("node", "cluster", "node_id"), [who])
    (label,), keys = _ROLE
    roles = [int(each.role == role) for each in statuses for role in ROLES]
    labels, all_keys = _by_group((label,), [keys] * len(statuses), statuses)
    yield Figure(
        "gauge", "zmqlab_role", "1 for the role that this node has, 0 for the others.", roles, labels, all_keys
    )
    for name, help_text, read in _GAUGES:
        yield _figure("gauge", name, help_text, read, statuses)
    for name, help_text, read in _COUNTERS:
        yield _figure("counter", name, help_text, read, statuses)
    yield Figure("counter", "process_cpu_seconds_total", "Processor time, user and system.", [time.process_time()])
    longest_s = max(view.turn_s_max for view in views)
    yield Figure("gauge", "zmqlab_turn_max_seconds", "Longest turn of the loop in the last 15 s.", [longest_s])
    yield from _members(statuses)
    yield from _chain(views)
    text = "From a request's receipt here to its answer, by request."
    yield histogram("zmqlab_service_time_seconds", text, views[-1].service_time)
    if views[-1].journal_write is not None:
        text = "One transaction of the journal: a turn's entries."
        yield histogram("zmqlab_journal_write_seconds", text, views[-1].journal_write)


def _figure(
    kind: Literal["gauge", "counter"],
    name: str,
    help_text: str,
    read: Callable[[NodeStatus], float],
    statuses: Sequence[NodeStatus],
) -> Figure:
    if name in OF_THE_NODE:
        return Figure(kind, name, help_text, [max(map(read, statuses))])
    labels, keys = _by_group((), [[()]] * len(statuses), statuses)
    return Figure(kind, name, help_text, [read(each) for each in statuses], labels, keys)


def _by_group(
    labels: tuple[str, ...], keys: Sequence[Sequence[tuple[str, ...]]], statuses: Sequence[NodeStatus]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Labels and keys of all groups' samples, with the group's number if there are several. ``keys``: of each group."""
    if statuses[0].shards == 1:
        return labels, [*keys[0]]
    found = [(*key, str(each.group)) for each, own in zip(statuses, keys, strict=True) for key in own]
    return (*labels, "group"), found


def _members(statuses: Sequence[NodeStatus]) -> Iterator[Figure]:
    (label,), keys = _KIND
    voters = [sum(member.voter for member in each.members) for each in statuses]
    counts = [
        count for each, known in zip(statuses, voters, strict=True) for count in (known, len(each.members) - known)
    ]
    labels, all_keys = _by_group((label,), [keys] * len(statuses), statuses)
    text = "Members of the cluster, as this node knows them."
    yield Figure("gauge", "zmqlab_members", text, counts, labels, all_keys)
    others = [
        [member for member in each.members if each.role == "leader" and member.node_id != each.node_id]
        for each in statuses
    ]
    names = [[(member.name or f"{member.host}:{member.port}",) for member in own] for own in others]
    labels, all_keys = _by_group(("member",), names, statuses)
    yield Figure(
        "gauge",
        "zmqlab_member_lag_entries",
        "On the leader only: entries that it has and the other member is not known to have stored.",
        [
            max(0, each.last_index - member.match_index)
            for each, own in zip(statuses, others, strict=True)
            for member in own
        ],
        labels,
        all_keys,
    )


def _chain(views: Sequence[View]) -> Iterator[Figure]:
    statuses = [view.status for view in views]
    labels, keys = _by_group(("every",), [[(str(spacing),) for spacing in view.chain] for view in views], statuses)
    indexes = [index for view in views for index, _ in view.chain.values()]
    hashes = [int(text[:HASH_HEX_DIGITS], 16) for view in views for _, text in view.chain.values()]
    text = "Index of the newest checkpoint that is a multiple of `every`."
    yield Figure("gauge", "zmqlab_chain_index", text, indexes, labels, keys)
    text = "First 48 bits of the hash chain at that checkpoint; equal on all nodes at the same index."
    yield Figure("gauge", "zmqlab_chain_hash", text, hashes, labels, keys)


class NodeExporter:
    """Takes what the loop hands over, and shows it. Raises PortInUse."""

    def __init__(self, settings: NodeSettings) -> None:
        self._views: tuple[View, ...] = ()
        """Of each group, in the order of their numbers; replaced as a whole."""
        self._writer = Writer()
        self._service_time = Total()
        self._journal_write = Total()
        self._chains: dict[int, dict[int, tuple[int, str]]] = {}
        """By group: what :attr:`View.chain` shows."""
        self._turns_s: deque[float] = deque(maxlen=LONGEST_TURN_OVER)
        pages = Pages(self._metrics, self._why_not_alive, self._why_not_ready)
        self._endpoint = Endpoint(settings.bind, settings.metrics_port, pages, settings.name)

    def observe(self, status: NodeStatus, replica: Replica, closing: bool) -> None:
        """In the loop's thread, once for each group and interval of ``status.service_time``."""
        self._service_time.add(status.service_time)
        chain = self._chains.setdefault(status.group, {})
        _follow_chain(chain, replica.machine.checkpoints)
        self._turns_s.append(status.turn_ms_max / 1e3)
        view = View(
            status=status,
            service_time=self._service_time.view(),
            journal_write=self._take_writes(replica),
            chain=dict(chain),
            turn_s_max=max(self._turns_s),
            closing=closing,
            made_at_s=time.monotonic(),
        )
        held = {brief.number for brief in status.groups} or {status.group}
        others = [each for each in self._views if each.status.group in held - {status.group}]
        self._views = tuple(sorted((*others, view), key=lambda each: each.status.group))

    def _take_writes(self, replica: Replica) -> Distribution | None:
        journal = replica.journal
        if not isinstance(journal, LmdbJournal):
            return None
        self._journal_write.add(journal.write_time.to_sparse())
        journal.write_time.clear()
        return self._journal_write.view()

    # What follows runs in the endpoint's threads.

    def _metrics(self) -> bytes:
        views = self._views
        return self._writer.write(figures(*views)) if views else b""

    def _why_not_alive(self) -> str:
        views = self._views
        if not views:
            return "starting: the loop has not begun"
        silent_s = time.monotonic() - max(view.made_at_s for view in views)
        return f"the loop has not turned for {silent_s:.1f} s" if silent_s > STALLED_S else ""

    def _why_not_ready(self) -> str:
        reasons = [self._why_not_alive(), *map(_why_not_ready_in, self._views)]
        return next(filter(None, reasons), "")


def _follow_chain(chain: dict[int, tuple[int, str]], checkpoints: Mapping[int, bytes]) -> None:
    """Take the checkpoints that are new into the chain that is shown."""
    newest_seen = chain.get(CHECKPOINT_INTERVAL, (0, ""))[0]
    passed = []
    for index, value in reversed(list(checkpoints.items())):
        if index <= newest_seen:
            break
        passed.append((index, value))
    for index, value in reversed(passed):
        for spacing in SPACINGS:
            if index % spacing:
                break
            chain[spacing] = (index, value.hex())


def _why_not_ready_in(view: View) -> str:
    """The same with the number of the group, if there are several. A node that can't serve one of them is not ready."""
    reason = why_not_ready(view)
    return f"group {view.status.group}: {reason}" if reason and view.status.shards > 1 else reason


def why_not_ready(view: View) -> str:
    """Why clients should be sent to other nodes; empty if they need not be.

    A learner is not ready: it is promoted as soon as it has caught up (:class:`zmqlab.replica.Members`).
    """
    status = view.status
    if view.closing:
        return "closing: requests are refused"
    if status.role == REMOVED:
        return "it was removed from its group"
    itself = next((member for member in status.members if member.node_id == status.node_id), None)
    if itself is None:
        return "no member of the cluster, or not taken in yet"
    if not itself.voter:
        return "a learner that has not caught up"
    if not status.leader_id:
        return f"no leader known in term {status.term}"
    if status.lag > READY_LAG_ENTRIES:
        return f"{counted(status.lag, 'entry')} behind"
    return ""
