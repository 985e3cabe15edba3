"""What a node says of itself in figures: :class:`NodeStatus`, and :class:`Member` and :class:`GroupBrief` in it.

A status is of one Raft group on one node. A node with several groups publishes one of each, with the figures of its
process in all of them.

A status travels ten times a second as a METRICS frame, and as the answer to a status query
(:mod:`zmqlab.wire.control`). All who watch a cluster read it: the lab, the panel, Prometheus, the clients that look for
the leader.

Left out: how it is encoded, which is control's, and how it is made, which is the engine's.
"""

from __future__ import annotations

import msgspec

from zmqlab.endpoints import client_endpoint, client_endpoint_of


class NodeStatus(msgspec.Struct, kw_only=True):
    """The state of one node in figures, published about ten times a second and given to a status query.

    Counters run from the start of the process. Times are nanoseconds of the wall clock, or what the name says."""

    name: str
    """Of the node."""
    node_id: int
    """The node's identity: 64 bits that it drew at its first start."""
    group: int = 0
    """The Raft group that the figures are of."""
    pid: int
    """Of the node's process."""
    port: int
    """The base port."""
    address: str = ""
    """The base endpoint at which other nodes reach it, by its own word."""
    cluster: str = ""
    """The name that its launcher gave it; mostly empty."""
    time_ns: int
    """Wall clock of the node."""
    uptime_ms: int
    """Since the process began."""
    role: str
    """``leader``, ``follower``, ``candidate``, ``pre_candidate``, ``learner``, or ``removed`` from its group. At
    the first start, until it is decided what the node is: ``founder``, ``seed`` or ``newcomer``."""
    term: int
    """Of Raft; at most one node leads in a term."""
    leader_id: int
    """0: this node knows no leader."""
    leader_name: str = ""
    """Empty: it knows no leader, or not its name."""
    first_index: int
    """The oldest entry that the journal still keeps."""
    last_index: int
    """The newest entry that is stored here, committed or not."""
    commit_index: int
    """Up to here a majority has stored the log, as far as this node knows."""
    applied_index: int
    """Up to here this node has executed the log."""
    lag: int
    """How many entries this node knows to exist and has not applied."""
    hash_index: int = 0
    """The log index of a checkpoint: a multiple of the checkpoint interval, so that nodes can be compared."""
    chain_hash: str = ""
    """The hash chain over all entries and answers up to ``hash_index``, in hex. Equal on nodes that agree."""
    orders_taken: int = 0
    """Commands in the requests that clients sent to this node."""
    orders_applied: int = 0
    """Commands executed, in the cluster's whole life."""
    rejected_total: int = 0
    """Of those, the rejected ones."""
    fills_total: int = 0
    """In the cluster's whole life."""
    bad_frames_total: int = 0
    """Frames that made no sense or were forbidden, and refused handshakes, of clients and of peers."""
    dropped_total: int = 0
    """Messages of this node that a full queue did not take, or whose receiver had gone."""
    connections_ended_total: int = 0
    """Connections that this node ended: too many at one port, or bytes that became no message."""
    elections_total: int = 0
    """How often this node became leader."""
    election_due_ms: int = 0
    """After so much more silence of the leader this node tries to lead. It is reset by each word of the leader. By the
    node's own clock: one that ticks at another rate (``clock_rate`` of its faults) waits longer or less long."""
    election_timeout_ms: int = 0
    """How long that wait is in all: a random length, drawn anew for each. 0: this node leads, or may not lead."""
    open_orders: int = 0
    """Orders that rest in the books."""
    exchange: str = ""
    """What matches orders on this node: ``compiled`` or ``python``. Both give the same answers."""
    replication: str = ""
    """How this node copies the log: what ``--replication`` said."""
    sessions: int = 0
    """Sessions that are remembered."""
    pending_requests: int = 0
    """Requests that this node took and has not answered."""
    log_bytes: int = 0
    """Entries in memory."""
    journal_bytes: int = 0
    """Entries on disk."""
    snapshots_total: int = 0
    """Snapshots that this node took."""
    cpu_percent: float = 0.0
    """Of one core, since the last message or somewhat longer."""
    rss_bytes: int = 0
    """Resident memory of the process."""
    turns_total: int = 0
    """Turns of the node's loop."""
    turn_ms_max: float = 0.0
    """The longest turn since the node last wrote its figures to its log, once a second."""
    service_time: dict[str, int] = {}
    """From a request's receipt here to its answer, in the interval: bucket -> count (:mod:`zmqlab.histogram`)."""
    members: list[Member] = []
    """The members of the group, as this node knows them; itself among them. A change of them may be under way."""
    committed_members: bytes = b""
    """The members by the log up to ``commit_index``: an encoded :class:`~zmqlab.raft.Configuration`, with the voters
    whose addresses are not known. Empty: this node does not know its group's members yet."""
    shards: int = 1
    """How many groups share the symbols of this cluster."""
    replication_factor: int = 0
    """How many nodes hold each group; 0: all."""
    groups: list[GroupBrief] = []
    """Of each group that this node holds the essentials. Empty where there is one group."""
    founders: list[tuple[int, str]] = []
    """Identity and base endpoint of each founder of a cluster with shards, or of each that a founder has met which has
    not decided yet; only in the answer to a query."""
    roster: bytes = b""
    """Which nodes a cluster with shards has, and which groups each is to hold, as far as this node knows: an encoded
    :class:`~zmqlab.placement.Roster`; only in the answer to a query."""

    @property
    def client_endpoint(self) -> str:
        """The endpoint at which clients reach the node."""
        return client_endpoint_of(self.address)


class GroupBrief(msgspec.Struct, kw_only=True):
    """One of the groups that a node holds, as that node sees it, in few words."""

    number: int
    """Of the group, from 0."""
    role: str
    """Of the reporting node, as in a status."""
    term: int
    """Of this group: terms of two groups have nothing to do with each other."""
    leader_id: int
    """0: the node knows no leader of this group."""
    leader_endpoint: str = ""
    """The leader's base endpoint; empty: the node knows no leader, or not where it is."""
    preferred_endpoint: str = ""
    """The base endpoint of the member that should lead this group; empty: none should more than the others."""
    members: list[str] = []
    """The base endpoints of the members."""
    awaited: list[str] = []
    """Of the leader: base endpoints where the roster wants a member, and none has answered for five seconds. The group
    keeps its old members for that long."""


class Member(msgspec.Struct, kw_only=True):
    """One member of the cluster, as the node that reports it knows it."""

    node_id: int
    """The member's identity, of 64 bits."""
    name: str
    """Empty: this node has not heard it yet."""
    host: str
    """Of its base endpoint: an address; IPv6 in brackets. A status with a name of a host here does not decode."""
    port: int
    """Its base port; clients go to the port + 2."""
    match_index: int = 0
    """On the leader: the index up to which this member is known to have stored the log. Elsewhere 0."""
    state: str = ""
    """On the leader: ``probe``, ``replicate`` or ``snapshot``. Elsewhere empty."""
    voter: bool = True
    """False for a learner: it receives the log and does not vote yet."""

    @property
    def endpoint(self) -> str:
        """Its base endpoint, as in the configuration."""
        return f"tcp://{self.host}:{self.port}"

    @property
    def client_endpoint(self) -> str:
        """The endpoint at which clients reach it."""
        return client_endpoint(self.host, self.port)
