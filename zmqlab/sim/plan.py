"""What a simulated run is told, and what its seed makes of it.

:class:`SimSettings` are a person's wishes and the same for all seeds. A :class:`Plan` is drawn from the seed: how many
nodes, how bad the network, which faults at all, how small the limits. Not every run has every fault ("swarm testing"):
a bug that needs long partitions is found sooner where crashes do not keep resolving them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from zmqlab.errors import SettingsError
from zmqlab.raft import RaftSettings
from zmqlab.replica import MakeReplication, RaftByQuorum, ReplicaSettings
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.settings import DEFAULT_REPLICATION, SessionLimits, require_whole
from zmqlab.sim.orders import QUIET_MARKET, MarketPlan

MS = 1_000
"""Microseconds. All virtual time is in whole microseconds."""
TICK_US = 20 * MS
"""A node's tick on a clock that goes right. Twice the node's own default: half the events, the same ratios."""
FAULTS = (
    "crash",
    "crash_in_effect",
    "pause",
    "freeze",
    "partition",
    "one_way",
    "isolate",
    "slow_link",
    "disk_full",
    "transfer",
    "transfer_unheard",
    "power_cut",
    "corrupt",
    "terminate",
    "faulty_links",
    "stranger",
)
OPERATIONS = ("add", "remove", "replace", "read_log", "move", "exchange")
"""What the operator may do beside replacing lost nodes."""
NEEDS_DISK = ("corrupt", "disk_full", "terminate")
"""Faults that make no sense, or lose a journal, with durability "memory"."""
NODES_MAX = 9
FOCUSES = (
    *("figure-8", "members", "ahead", "snapshots", "crashes", "reads", "moves", "forwards", "sessions"),
    *("seeds", "market", "outage"),
)
"""Plans aimed at one kind of bug; see :mod:`zmqlab.sim.focuses`. A seed draws one of all but the last three: lost
seeds, busy markets and outages have shares of their own."""


FAULTS_MS = (150,) * 8 + (300,) * 6 + (600,) * 4 + (1_500,) * 2 + (3_000,)
"""Lengths of the first phase, by their weights. Many short runs find more than few long ones, but for bugs that need a
long past. Shorter ones were tried (docs/simulation.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSettings:
    """The same for every seed. Raises SettingsError."""

    nodes: int = 0
    """From 1 to 9 founding members; 0 lets the seed choose."""
    faults_ms: int = 0
    """How long the first phase lasts; 0 lets the seed choose."""
    heal_ms_max: int = 10_000
    """Within this time after the last fault everything must be answered and all nodes agree. An election takes
    up to 240 ms, a client asks again after at most 400; of 7,642 runs the median took 0.4 s, the slowest 2.4 s."""
    clients: int = 3
    focus: str = ""
    """One of FOCUSES; empty lets the seed choose, which mostly chooses none."""
    shards: bool = False
    """Every run has several groups; else a seed decides that, for a few plain runs."""
    replication: str = DEFAULT_REPLICATION
    """How the nodes copy their log (:mod:`zmqlab.replica.replications`). A seed draws the same for all of them."""

    def __post_init__(self) -> None:
        if self.focus not in ("", *FOCUSES):
            raise SettingsError(f"focus is {self.focus!r}: choose one of {', '.join(FOCUSES)}")
        REPLICATIONS.find(self.replication)
        limits = (
            ("nodes", 0, NODES_MAX),
            ("faults_ms", 0, 600_000),
            ("heal_ms_max", 1_000, 600_000),
            ("clients", 1, 64),
        )
        for name, low, high in limits:
            require_whole(name, getattr(self, name), low, high)

    @property
    def make_replication(self) -> MakeReplication:
        """Makes the replication of that name."""
        return REPLICATIONS.find(self.replication).make


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the seed decided before anything happened."""

    node_count: int
    """Founding members."""
    faults_ms: int
    """Length of the first phase."""
    durability: str
    """As of the node: "fsync" with power cuts, "os" with deaths of processes only, "memory" with nothing that stays."""
    faults: tuple[str, ...]
    """Names from FAULTS that may strike; some twice, to be likelier."""
    fault_gap_us: int
    """Mean time between two faults."""
    delay_us: int
    """Most messages take up to this long, some ten times as long."""
    loss: float
    duplication: float
    second_copy_us: int
    """The second copy of a frame comes up to so much later."""
    unlucky_leader: float
    """How likely a leader that was just elected is struck, at once or when it has begun to work."""
    strikes_at_once: float
    """How many of these leaders are struck before they have sent anything more."""
    strike_ms_max: int
    """How long the others may work before."""
    strikes_kill: float
    """How many of them die; the others are cut off from half of the nodes or more."""
    unlucky_repair: float
    """How likely a leader is lost when a majority holds what it handed on of older terms, and nothing of its own."""
    unlucky_change: float
    """How likely a leader that has just appended a change of the members is not heard any more."""
    unlucky_candidate: float
    """How likely a node that has just stored its vote for itself is cut off: its term is ahead of all others."""
    restart_ms_max: int
    """A dead process is back after up to so long."""
    cuts_lose_all: bool
    """A link that is cut loses also what is under way on it."""
    operations: tuple[str, ...]
    """Names from OPERATIONS; none in some runs."""
    operations_gap_us: int
    """Mean time between two of the operator's wishes."""
    goals_max: int
    """How many wishes the operator has at a time."""
    members_min: int
    """No node is removed from fewer members."""
    changes_its_mind: float
    """How likely the operator asks for something else before it has what it asked for."""
    asks_everybody: bool
    """Whether the operator asks all nodes at once, and not only whom it takes for the leader."""
    patience: float
    """Time between two questions, as a multiple of the ordinary."""
    outage: bool
    """Before everything is healed, a minority stays away, and the others must serve."""
    probes: bool
    """After the end, a node is cut off and comes back, and no other may be disturbed."""
    turn_us: int
    """A node takes its turn up to this long after a frame came, with all that came meanwhile."""
    clock_rates: tuple[float, ...]
    """A node's ticks per true tick."""
    think_us: int
    """Mean time between two operations of a client."""
    requests_open_max: int
    reads: float
    """Share of reads among the operations."""
    raft: RaftSettings
    replica: ReplicaSettings
    limits: SessionLimits
    retain_bytes: int
    begins_with_seed: bool
    """The cluster begins with a seed, which asks first and founds; all others join it. Otherwise with founders."""
    nodes_ask: bool
    """Nodes that join ask for it themselves, as in production; otherwise the operator asks for them."""
    leaves: bool
    """A node that joined leaves the group when it is terminated, and asks to come back when it is started again."""
    drain_ms: int
    """How long a node that is terminated tries to end in order."""
    peer_frame_bytes: int
    """What a node accepts of a peer in one frame; at least four times ``replica.forward_bytes``, as in production."""
    answer_frame_bytes: int
    """What a client accepts of a node in one frame; room for the largest answer of one request."""
    queue_frames: int
    """Frames of one sender that wait at a node; more are lost."""
    large_requests: float
    """Share of requests with more than 128 commands, which are packed in pieces."""
    market: MarketPlan
    make_replication: MakeReplication
    """How groups copy their logs."""
    shards: int = 1
    """Groups that share the symbols."""
    replication_factor: int = 0
    """Nodes that hold each of them; 0: all."""
    balance_timeouts: int = 10
    """Election time-outs for which a group's preferred leader must have been well before it gets the group."""
    rough_links: bool = False
    """Whether links that are made faulty are also narrow, and their frames come twice and out of turn."""


def draw_plan(rng: random.Random, settings: SimSettings, make_replication: MakeReplication = RaftByQuorum) -> Plan:
    """Everything that is decided beforehand; small limits, so that every boundary is met."""
    count = settings.nodes or rng.choice((3, 3, 3, 3, 3, 3, 5, 5, 5, 4, 2, 1, rng.randint(6, NODES_MAX)))
    durability = rng.choice(("os", "os", "os", "fsync", "fsync", "fsync", "memory"))
    chosen = [fault for fault in FAULTS if rng.random() < 0.5] or ["crash"]
    if durability != "fsync":
        chosen = [fault for fault in chosen if fault != "power_cut"] or ["pause"]
    if durability == "memory":
        chosen = [fault for fault in chosen if fault not in NEEDS_DISK] or ["pause"]
    operations = tuple(name for name in OPERATIONS if rng.random() < 0.6) if rng.random() < 0.4 else ()
    if durability == "memory":  # a node that is removed leaves fewer to survive the next crash, which is not foreseen
        operations = tuple(name for name in operations if name not in ("remove", "move", "exchange"))
    small_frames = rng.random() < 0.3
    begins_with_seed = rng.random() < 0.3
    return Plan(
        node_count=count,
        faults_ms=_faults_ms(rng, settings),
        durability=durability,
        faults=(*chosen, rng.choice(chosen)),
        fault_gap_us=rng.choice((30, 60, 120, 200)) * MS,
        delay_us=rng.choice((500, 2_000, 2_000, 10_000)),
        loss=rng.choice((0.0, 0.01, 0.05, 0.2)),
        duplication=rng.choice((0.0, 0.05, 0.3)),
        second_copy_us=rng.choice((0, 200 * MS)),
        unlucky_leader=rng.choice((0.0, 0.3, 0.7, 0.9)),
        strikes_at_once=0.6,
        strike_ms_max=60,
        strikes_kill=0.5,
        unlucky_repair=0.0,
        unlucky_change=rng.choice((0.0, 0.3)),
        unlucky_candidate=rng.choice((0.0, 0.0, 0.3)),
        restart_ms_max=rng.choice((60, 400)),
        cuts_lose_all=rng.random() < 0.5,
        operations=operations,
        operations_gap_us=rng.choice((40, 150, 400)) * MS,
        goals_max=rng.choice((1, 2, 4)),
        members_min=rng.choice((1, 3)),
        changes_its_mind=rng.choice((0.0, 0.1, 0.5)),
        asks_everybody=rng.random() < 0.2,
        patience=rng.choice((0.3, 1.0, 1.0)),
        outage=False,
        probes=rng.random() < 0.1,
        turn_us=rng.choice((0, 3_000, 10_000)),
        clock_rates=tuple(rng.choice((1.0, rng.uniform(0.8, 1.25))) for _ in range(NODES_MAX)),
        think_us=rng.choice((15, 30, 80)) * MS,
        requests_open_max=rng.choice((1, 4, 12)),
        reads=rng.choice((0.1, 0.5)),
        raft=_raft_settings(rng, small_frames),
        replica=ReplicaSettings(
            max_pending=rng.choice((3, 1_000)),
            max_pending_bytes=(pending_bytes := rng.choice((8_000, 20_000, 67_108_864))),
            max_behind=8 if pending_bytes == 8_000 else 512,
            forward_bytes=rng.choice((300, 2_000)) if small_frames else 1_048_576,
            read_ticks=20,
            snapshot_log_bytes=rng.choice((400, 1_500, 6_000, 1_000_000)),
            keep_bytes=rng.choice((0, 300, 2_000)),
            resend_ticks=rng.choice((8, 30)),
        ),
        limits=_session_limits(rng, settings.clients),
        retain_bytes=rng.choice((0, 1_000, 1_000_000)),
        begins_with_seed=begins_with_seed,
        nodes_ask=begins_with_seed or rng.random() < 0.7,
        leaves=durability != "memory" and rng.random() < 0.3,
        drain_ms=rng.choice((40, 400)),
        peer_frame_bytes=8_000 if small_frames else 4_194_304,
        answer_frame_bytes=16_000 if small_frames else 4_194_304,
        queue_frames=rng.choice((30, 256, 1_280)),
        large_requests=rng.choice((0.0, 0.0, 0.0, 0.02)),
        market=QUIET_MARKET,
        make_replication=make_replication,
    )


def _faults_ms(rng: random.Random, settings: SimSettings) -> int:
    """It is drawn in any case: a person who wants another length gets the rest of the plan as it was."""
    drawn = rng.choice(FAULTS_MS)
    return settings.faults_ms or drawn


def _session_limits(rng: random.Random, clients: int) -> SessionLimits:
    session_bytes = rng.choice((1_500, 4_194_304))
    return SessionLimits(
        max_sessions=rng.choice((clients, 100, 100)),
        window_requests=rng.choice((3, 64)),
        session_bytes=session_bytes,
        total_bytes=max(session_bytes, rng.choice((4_000, 33_554_432, 33_554_432))),
        answer_fills=rng.choice((2, 40_000)),
    )


def _raft_settings(rng: random.Random, small_frames: bool) -> RaftSettings:
    ticks = rng.choice((3, 6))
    return RaftSettings(
        election_ticks=ticks,
        heartbeat_ticks=ticks // 3,
        max_append_bytes=rng.choice((60, 300, 2_000 if small_frames else 1_048_576)),
        max_inflight=rng.choice((1, 8)),
        max_apply_bytes=rng.choice((200, 4_194_304)),
        snapshot_chunk_bytes=rng.choice((150, 1_000, 2_000 if small_frames else 262_144)),
        store_first=rng.random() < 0.75,
    )
