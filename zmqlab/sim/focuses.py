"""Plans aimed at one kind of bug, where such bugs are likely; and the plan of a seed, which may have such an aim.

Each function bends a plan that was drawn. A seed draws one of the focuses now and then; a person may name one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from zmqlab.replica import MakeReplication, RaftByQuorum
from zmqlab.sim.orders import QUIET_MARKET, draw_busy_market
from zmqlab.sim.plan import FOCUSES, MS, Plan, SimSettings, draw_plan

OUTAGES = 0.15
"""Share of runs in which a minority stays away before the end."""
LOST_SEEDS = 0.08
"""Share of the runs with no focus in which a seed loses its disk."""
BUSY_MARKETS = 0.4
"""Share of the runs, of those with no focus or with one of MAY_BE_BUSY, whose market is a busy one."""
ROUGH_LINKS = 0.2
"""Share of the runs in which a link that is made faulty is rough, too."""
SHARDED = 0.1
"""Share of the plain runs that have shards: those with no focus of their own, no changes of the members and no seed."""
WITH_SHARDS = (
    *("crash", "crash_in_effect", "pause", "freeze", "partition", "one_way", "isolate", "slow_link", "transfer"),
    *("power_cut", "terminate", "disk_full", "corrupt"),
)
"""Faults that a run with shards may have. A bit flips only where the operator can replace a node
(:meth:`~zmqlab.sim.placed_operator.PlacedOperator.may_lose`)."""
MEMBERS_STAY = 0.5
"""Share of the runs with shards in which no node comes or goes."""
MOVES_OF_SHARDS = ("add", "remove", "replace", "move", "exchange", "kill_newcomer")
"""What the operator may do in the others."""
MAY_BE_BUSY = ("", "snapshots", "sessions", "outage")


def plan_of(
    rng: random.Random,
    settings: SimSettings,
    make_replication: MakeReplication = RaftByQuorum,
    knows_shards: bool = True,
) -> Plan:
    """Everything that is decided beforehand, and what it is aimed at. What was added later is drawn last, so that most
    seeds keep their runs.

    ``knows_shards``: whether the clients of the run can have a session of any group.
    """
    plan = _aimed(rng, settings, make_replication)
    plan = replace(plan, rough_links=rng.random() < ROUGH_LINKS)
    chance = rng.random()
    is_plain = not settings.focus and not plan.operations and plan.durability != "memory" and not plan.begins_with_seed
    is_drawn = is_plain and not plan.outage and not plan.market.is_busy and chance < SHARDED
    is_drawn = is_drawn and make_replication is RaftByQuorum and knows_shards
    return _with_shards(rng, plan, settings) if settings.shards or is_drawn else plan


def _with_shards(rng: random.Random, plan: Plan, settings: SimSettings) -> Plan:
    """Several groups on the same nodes. In half of the runs nodes come, go, and lose their disks."""
    nodes = settings.nodes or rng.choice((3, 3, 4, 5, 5, 6))
    copies = rng.choice((0, 3, 3))
    faults = tuple(fault for fault in plan.faults if fault in WITH_SHARDS) or ("crash", "pause")
    sharded = replace(
        plan,
        shards=rng.choice((2, 3, 4, 6)),
        raft=replace(plan.raft, beats_in_step=True),
        node_count=nodes,
        replication_factor=copies if 0 < copies < nodes else 0,
        balance_timeouts=rng.choice((1, 1, 2, 5)),
        think_us=rng.choice((8, 30)) * MS,
        requests_open_max=12,
        durability="fsync" if "power_cut" in faults else "os" if plan.durability == "memory" else plan.durability,
        faults=faults,
        faults_ms=settings.faults_ms or max(plan.faults_ms, rng.choice((600, 600, 1_500))),
        operations=(),
        begins_with_seed=False,
        nodes_ask=True,
        leaves=False,
        outage=False,
        probes=False,
        market=QUIET_MARKET,
        unlucky_repair=0.0,
    )
    if rng.random() < MEMBERS_STAY:
        return sharded
    return replace(
        sharded,
        operations=tuple(name for name in MOVES_OF_SHARDS if rng.random() < 0.7),
        operations_gap_us=rng.choice((100, 300)) * MS,
        goals_max=rng.choice((1, 1, 2)),
        members_min=rng.choice((2, 3)),
        leaves=rng.random() < 0.3,
    )


def _aimed(rng: random.Random, settings: SimSettings, make_replication: MakeReplication) -> Plan:
    plan = draw_plan(rng, settings, make_replication)
    focus = settings.focus or rng.choice((*("",) * 16, *FOCUSES[:-3]))
    focused = FOCUSED[focus](plan, settings) if focus else plan
    focused = replace(focused, outage=focus == "outage" or rng.random() < OUTAGES)
    chance = 1.0 if settings.focus else rng.random()
    if not focus and chance < LOST_SEEDS:
        return _seeds(focused, settings)
    is_busy = focus == "market" or (focus in MAY_BE_BUSY and chance < LOST_SEEDS + BUSY_MARKETS)
    return _with_busy_market(rng, focused) if is_busy else focused


def _with_busy_market(rng: random.Random, plan: Plan) -> Plan:
    """Snapshots and hashes of a busy market take many turns, in which orders change."""
    return replace(
        plan,
        market=draw_busy_market(rng),
        faults_ms=max(plan.faults_ms, 300),
        think_us=rng.choice((4, 10)) * MS,
        requests_open_max=rng.choice((4, 12)),
        replica=replace(
            plan.replica,
            snapshot_log_bytes=min(plan.replica.snapshot_log_bytes, rng.choice((400, 1_500))),
            snapshot_slice_bytes=rng.choice((1, 100, 400, 65_536)),
        ),
    )


def _figure_8(plan: Plan, settings: SimSettings) -> Plan:
    """Five nodes, entries that travel one by one, and leaders that are lost again and again when they have begun to
    hand on what an older term left (thesis, figure 3.7)."""
    return replace(
        plan,
        node_count=settings.nodes or 5,
        faults_ms=settings.faults_ms or 1_200,
        durability="os",
        faults=("crash", "isolate"),
        fault_gap_us=200 * MS,
        operations=(),
        delay_us=2_000,
        loss=0.0,
        unlucky_leader=0.95,
        strike_ms_max=8,
        strikes_kill=0.3,
        unlucky_repair=0.7,
        unlucky_candidate=0.0,
        restart_ms_max=60,
        cuts_lose_all=True,
        raft=replace(plan.raft, election_ticks=3, heartbeat_ticks=1, max_append_bytes=60, max_inflight=1),
        replica=replace(plan.replica, snapshot_log_bytes=1_000_000),
    )


def _members(plan: Plan, settings: SimSettings) -> Plan:
    """Four nodes, an operator that wants many things at once of the leader, and leaders that are lost with a change
    that no other node heard of."""
    return replace(
        plan,
        node_count=settings.nodes or 4,
        faults_ms=settings.faults_ms or 1_500,
        durability="os",
        faults=("crash", "transfer"),
        fault_gap_us=200 * MS,
        delay_us=500,
        loss=0.0,
        operations=("add", "remove", "remove", "remove"),
        operations_gap_us=40 * MS,
        goals_max=3,
        members_min=min(plan.members_min, 2),
        changes_its_mind=0.5,
        patience=0.2,
        asks_everybody=True,
        unlucky_leader=0.8,
        strikes_at_once=0.9,
        strikes_kill=0.1,
        unlucky_change=0.8,
        restart_ms_max=60,
        strike_ms_max=8,
        cuts_lose_all=True,
        raft=replace(plan.raft, election_ticks=3, heartbeat_ticks=1),
    )


def _snapshots(plan: Plan, settings: SimSettings) -> Plan:
    """Small ones, made in many turns, sent often, and whose late copies arrive when the receiver is further on."""
    return replace(
        plan,
        faults=("crash", "isolate", "pause", "partition"),
        fault_gap_us=60 * MS,
        duplication=0.3,
        second_copy_us=200 * MS,
        loss=0.05,
        operations=("add", "replace") if plan.durability != "memory" else (),
        operations_gap_us=150 * MS,
        think_us=15 * MS,
        raft=replace(plan.raft, snapshot_chunk_bytes=min(262_144, plan.peer_frame_bytes // 4)),
        replica=replace(plan.replica, snapshot_log_bytes=400, snapshot_slice_bytes=200, keep_bytes=0),
    )


def _crashes(plan: Plan, settings: SimSettings) -> Plan:
    """Of leaders that were just elected and of those that hear them first, in the middle of what they do."""
    return replace(
        plan,
        durability="fsync",
        faults=("crash_in_effect", "crash_in_effect", "power_cut"),
        fault_gap_us=60 * MS,
        unlucky_leader=0.9,
        strikes_kill=1.0,
        restart_ms_max=60,
    )


def _reads(plan: Plan, settings: SimSettings) -> Plan:
    """Many, at leaders that are frozen or cut off while others go on, and at nodes that die and come back so fast that
    answers to their last life still arrive."""
    return replace(
        plan,
        node_count=settings.nodes or 3,
        durability="os",
        faults=("freeze", "isolate", "transfer_unheard", "crash", "crash", "crash"),
        fault_gap_us=60 * MS,
        duplication=0.3,
        second_copy_us=200 * MS,
        restart_ms_max=20,
        operations=(),
        unlucky_leader=0.0,
        unlucky_candidate=0.0,
        think_us=15 * MS,
        requests_open_max=12,
        reads=0.5,
    )


def _ahead(plan: Plan, settings: SimSettings) -> Plan:
    """Leadership is handed to nodes that are then not heard: they are ahead of all others in term."""
    return replace(
        plan,
        node_count=settings.nodes or 3,
        faults=("transfer", "transfer", "crash", "pause"),
        fault_gap_us=60 * MS,
        unlucky_leader=0.0,
        unlucky_candidate=0.7,
        cuts_lose_all=True,
    )


def _moves(plan: Plan, settings: SimSettings) -> Plan:
    """A seed and nodes that join it; they move, exchange addresses, leave and come back, and few other things
    happen."""
    return replace(
        plan,
        node_count=settings.nodes or 4,
        faults_ms=settings.faults_ms or 1_600,
        durability="os",
        faults=("terminate", "crash", "one_way"),
        fault_gap_us=400 * MS,
        loss=min(plan.loss, 0.05),
        operations=("move", "exchange", "exchange"),
        operations_gap_us=80 * MS,
        begins_with_seed=True,
        nodes_ask=True,
        unlucky_leader=0.0,
        unlucky_change=0.0,
        unlucky_candidate=0.0,
    )


def _forwards(plan: Plan, settings: SimSettings) -> Plan:
    """Many large requests at nodes that sleep or have no leader, and small frames, queues and sessions."""
    return replace(
        plan,
        node_count=settings.nodes or 3,
        faults=("pause", "freeze", "isolate", "faulty_links", "terminate"),
        durability="os",
        operations=(),
        fault_gap_us=60 * MS,
        think_us=15 * MS,
        requests_open_max=12,
        reads=0.1,
        large_requests=0.15,
        peer_frame_bytes=8_000,
        answer_frame_bytes=16_000,
        unlucky_leader=0.3,
        raft=replace(plan.raft, max_append_bytes=2_000, snapshot_chunk_bytes=1_000),
        replica=replace(plan.replica, forward_bytes=2_000, max_pending=1_000, max_pending_bytes=20_000, resend_ticks=8),
    )


def _outage(plan: Plan, settings: SimSettings) -> Plan:
    """A minority stays away at the end of every run, and no change of the members is in its way."""
    return replace(
        plan,
        node_count=settings.nodes or max(3, plan.node_count),
        faults_ms=settings.faults_ms or 400,
        operations=(),
    )


def _seeds(plan: Plan, settings: SimSettings) -> Plan:
    """A seed that loses its disk again and again, while the others may have no leader."""
    return replace(
        plan,
        node_count=settings.nodes or 3,
        faults_ms=settings.faults_ms or 1_500,
        durability="os",
        faults=("crash", "pause", "transfer"),
        fault_gap_us=200 * MS,
        loss=min(plan.loss, 0.05),
        operations=("wipe_seed",),
        operations_gap_us=30 * MS,
        goals_max=8,
        begins_with_seed=True,
        nodes_ask=True,
        leaves=False,
        unlucky_leader=0.3,
        unlucky_change=0.0,
        unlucky_candidate=0.0,
        think_us=30 * MS,
    )


def _market(plan: Plan, settings: SimSettings) -> Plan:
    """A busy market, and snapshots of it that are needed."""
    return replace(
        plan,
        faults=("crash", "isolate", "pause"),
        fault_gap_us=120 * MS,
        faults_ms=settings.faults_ms or 600,
        think_us=15 * MS,
        reads=0.1,
    )


def _sessions(plan: Plan, settings: SimSettings) -> Plan:
    """Fewer sessions than clients, so that they are evicted all the time, and late copies of what belongs to old
    ones."""
    return replace(
        plan,
        faults=("one_way", "crash", "isolate"),
        fault_gap_us=200 * MS,
        operations=(),
        duplication=0.3,
        second_copy_us=200 * MS,
        think_us=15 * MS,
        reads=0.1,
        limits=replace(plan.limits, max_sessions=max(1, settings.clients - 1)),
    )


FOCUSED: dict[str, Callable[[Plan, SimSettings], Plan]] = {
    "outage": _outage,
    "figure-8": _figure_8,
    "members": _members,
    "snapshots": _snapshots,
    "crashes": _crashes,
    "reads": _reads,
    "ahead": _ahead,
    "sessions": _sessions,
    "market": _market,
    "seeds": _seeds,
    "moves": _moves,
    "forwards": _forwards,
}
"""Focus -> how it bends a plan."""
