"""What must be so when all is healed and at rest, for one group of a run: one leader, all members alike, nothing owed.

A run without shards has one group, whose members are its processes. With shards each group is looked at for itself,
through the seats of its members (:mod:`~zmqlab.sim.seats`), and nothing is said about two groups.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zmqlab.raft import Role
from zmqlab.sim.checkers import Violation
from zmqlab.sim.clients import Client
from zmqlab.sim.node_process import Process
from zmqlab.sim.node_rules import crowds, upkeep
from zmqlab.sim.world import World

CROWD = 16
"""How much more than nodes and clients may be in a container at rest."""


def what_is_missing(members: Sequence[Process], world: World) -> str:
    """What the members of a group have not reached yet; empty if nothing."""
    if any(process.replica is None for process in members):
        return "members are down"
    rafts = [process.raft for process in members]
    leaders = [raft.node_id for raft in rafts if raft.role is Role.LEADER]
    if len(leaders) != 1 or any(raft.leader_id != leaders[0] for raft in rafts):
        return f"nodes {leaders} lead, and {[raft.leader_id for raft in rafts]} are followed"
    addresses = {process.node_id: process.address for process in members}
    if any(dict(raft.configuration.addresses) != addresses for raft in rafts):
        return f"members are at {addresses}, and the log does not say so"
    if learners := [raft.configuration.learners for raft in rafts if raft.configuration.learners]:
        return f"{learners[0]} are learners, and no voters yet"
    applied = [raft.applied_index for raft in rafts]
    if min(applied) < world.ledger.last_index:
        return f"the nodes have applied up to {applied} of {world.ledger.last_index}"
    return ""


def what_is_owed(members: Sequence[Process], world: World) -> str:
    """What a member still has to do."""
    for process in members:
        if process.duties is not None and (missing := process.duties.missing(_neighbours(process, members))):
            return missing
    return next((missing for each in members if (missing := _upkeep(each, world))), "")


def _neighbours(process: Process, members: Sequence[Process]) -> Sequence[Process]:
    """All nodes that share a group with this one."""
    if not process.seats:
        return members
    ids = {node_id for seat in process.seats.values() if seat.replica for node_id in seat.world.members}
    return [process.world.processes[node_id] for node_id in sorted(ids)]


def _upkeep(process: Process, world: World) -> str:
    snapshot = process.raft.snapshot
    at = snapshot.index if snapshot is not None else 0
    groups = [group for group in process.own_groups() if group.replica is process.replica]
    if missing := next((missing for each in groups if (missing := upkeep(each, at, world.ledger))), ""):
        return missing
    asked = sorted(process.sockets.asked.values())
    return f"node {process.node_id} keeps connections to {asked}, which it has nothing to ask" if asked else ""


def check_crowds(members: Sequence[Process], clients: Sequence[Client], world: World, draw: int) -> None:
    """Nothing piles up in a node, or in a client's session. One run of three looks at one of each and at who leads.

    ``draw``: a number by which the run, the member and the client are chosen."""
    if draw % 3:
        return
    most = CROWD + 2 * len(world.processes) + len(clients)
    looked_at: list[object] = [process.engine for process in members if process.leads]
    looked_at += [members[draw % len(members)].engine, clients[draw % len(clients)].session]
    for crowd in (crowd for each in looked_at for crowd in crowds(each, most)):
        raise Violation(f"upkeep: at rest {crowd}")


def check_states(members: Sequence[Process], wanted: Collection[int], world: World) -> None:
    """All members have the same books, sessions, log and members; ``wanted``: who the members shall be."""
    books = world.ledger.books_hash()
    states = set()
    for process in members:
        replica = process.running
        if world.causes is not None:  # a weak replication applies ahead of the commit, which is one of them
            process.raft.check_invariants()
        states.add(replica.machine.state_hash())
        if replica.machine.exchange.state_hash() != books:
            raise Violation(f"final state: node {process.node_id} has other books than the naive exchange")
        _check_configuration(process, wanted)
        process.read_whole_log()
    if len(states) != 1:
        raise Violation(f"final state: the nodes end in {len(states)} different states")


def _check_configuration(process: Process, wanted: Collection[int]) -> None:
    configuration = process.raft.configuration
    if configuration.learners or set(configuration.voters) != set(wanted):
        raise Violation(
            f"final state: node {process.node_id} ends with {configuration}, but the members are {sorted(wanted)}"
        )
