"""The operator of a cluster with shards: adds, removes and moves whole nodes, and replaces those that have lost their
disks. Now and then a node that it adds is killed while it is taken in.

What it asks for is one roster (:mod:`zmqlab.engine.placing`), at the leader of group 0; each group follows by itself.
So an addition is reached when the new node votes in each group that the roster gives it, and a removal when no group
has the node any more. Only then it is switched off. A node that has lost its disk comes back at its address, as another
member of the same groups, and no person asks for that. So it is with a node that comes back at another address.

A journal may be lost only while nothing else goes on, and if each group keeps a majority without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from random import Random

from zmqlab.placement import Roster
from zmqlab.raft import Configuration, quorum_size
from zmqlab.sim.node_process import Process
from zmqlab.sim.operator import Goal, Operator
from zmqlab.sim.world import World
from zmqlab.wire import control


class PlacedOperator(Operator):
    """See the module."""

    def __init__(self, worlds: Mapping[int, World], join: Callable[..., Process], world: World, rng: Random) -> None:
        """``worlds``: of the groups."""
        super().__init__(join, world, rng)
        self.worlds = worlds

    def missing(self) -> str:
        return super().missing() or self.misplaced()

    @property
    def roster(self) -> Roster:
        """The newest that any node has applied."""
        encoded = self._newest(0).roster
        if encoded:
            return Roster.decode(encoded)
        plan, (_, founders) = self._world.plan, self._world.configurations.history[0]
        return Roster.of_founders([at for _, at in founders.addresses], plan.shards, plan.replication_factor)

    def _newest(self, group: int) -> Configuration:
        return self.worlds[group].configurations.history[-1][1]

    def misplaced(self) -> str:
        """Where replicas are not where they shall be, when all is done; empty if all are."""
        roster, processes = self.roster, self._world.processes
        wanted = sorted(processes[node_id].address for node_id in self.members)
        if sorted(roster.nodes) != wanted:
            return f"the roster has {sorted(roster.nodes)}, but the nodes are {wanted}"
        for group, places in enumerate(roster.groups):
            there = sorted(at for _, at in self._newest(group).addresses)
            if there != sorted(places):
                return f"the members of group {group} are at {there}, and not at {sorted(places)}"
        for node_id in self.members:
            process = processes[node_id]
            held = sorted(group.number for group in process.own_groups())
            if held != list(roster.held_by(process.address)):
                return f"node {node_id} holds groups {held}, and not {roster.held_by(process.address)}"
        return ""

    # Wanting.

    def _add(self) -> None:
        """Not more nodes than can have a group each, a removal among them that is not reached yet."""
        copies = self._world.plan.replication_factor
        if not copies or copies * self._world.plan.shards > len(self.members) + self.wishes:
            super()._add()

    def _kill_newcomer(self) -> None:
        """The node that came last ends while it is taken in, and is back later."""
        coming = [self._world.processes[goal.node_id] for goal in self._goals if goal.is_addition]
        if coming and coming[-1].engine is not None and not coming[-1].is_gone:
            coming[-1].crash("while it is taken in")
            self._world.at(self._gap_us(), self._start_again, coming[-1])

    def _start_again(self, process: Process) -> None:
        if process.engine is None and not process.is_gone:
            process.start()

    def _pick_movable(self) -> Process | None:
        """Any node may come back elsewhere: founders too."""
        at_home = [each for each in self._world.running() if each.node_id not in self._moving]
        movable = [each for each in at_home if each.node_id in self.members and not each.is_closing]
        return self._rng.choice(movable) if movable else None

    def _is_settled(self) -> bool:
        """Whether the roster has each node where it is, and none is about to come or to go. If one more moved before,
        the two might look for each other where they were."""
        processes = [self._world.processes[member] for member in self.members]
        is_quiet = not self._goals and not any(each.is_closing for each in processes)
        return is_quiet and sorted(self.roster.nodes) == sorted(each.address for each in processes)

    def lost(self, process: Process) -> None:
        """A process has lost its journal: another node comes to its place, which the roster has still."""
        super().lost(process)
        self._goals = type(self._goals)(
            goal for goal in self._goals if goal.is_addition or goal.node_id != process.node_id
        )

    def may_lose(self, process: Process) -> bool:
        if process.is_gone or process.crash_in or not process.replica or self._goals or self._was_removing:
            return False
        if any(each.is_closing for each in self._world.reachable()) or self.misplaced():
            return False
        return self._leaves_majorities([process], spare=0)

    def _leaves_majorities(self, lost: Collection[Process], spare: int) -> bool:
        lost_ids = {process.node_id for process in lost}
        for process in self._world.reachable():
            for seat in process.seats.values():
                for configuration in seat.configurations():
                    kept = [self._keeps(voter) and voter not in lost_ids for voter in configuration.voters]
                    if kept and (configuration.learners or kept.count(True) < quorum_size(len(kept))):
                        return False
        return True

    # Asking.

    def _ask(self) -> None:
        for goal in [each for each in self._goals if each.is_addition and self.is_voter(each.node_id)]:
            self._reached(goal)
        super()._ask()

    def _ask_for(self, goal: Goal) -> None:
        listening, address = self._world.listening, self._world.processes[goal.node_id].address
        targets = [listening[place].node_id for place in self.roster.groups[0] if place in listening]
        if not targets:
            return
        self._next_nonce += 1
        self._nonces[self._next_nonce] = goal
        query: control.Query = control.RemoveMemberQuery(self._next_nonce, goal.node_id, address=address)
        if goal.is_addition:
            query = control.AddMemberQuery(self._next_nonce, goal.node_id, address)
        self._send(self._rng.choice(targets), query)

    def is_voter(self, node_id: int) -> bool:
        """Whether the roster has the node, and it votes in each group that the roster gives it."""
        address, roster = self._world.processes[node_id].address, self.roster
        return address in roster.nodes and all(
            node_id in self._newest(group).voters for group in roster.held_by(address)
        )

    def _reached(self, goal: Goal) -> None:
        """A removal is reached when no group has the node, and none may have it again."""
        if goal.is_addition or not self._is_in_any(goal.node_id):
            super()._reached(goal)

    def _is_in_any(self, node_id: int) -> bool:
        known = [self._newest(group) for group in self.worlds]
        for process in self._world.reachable():
            known += [each for seat in process.seats.values() for each in seat.configurations()]
        process = self._world.processes[node_id]
        return not process.is_gone and any(node_id in configuration.members for configuration in known)

    def look_after(self, but: Collection[Process] = ()) -> None:
        super().look_after(but)
        for process in self._world.reachable():
            is_new = process.engine is not None and process.engine.hosting is None
            if is_new and process.node_id in self.members and not self._asks_itself(process.node_id):
                places = [self._world.processes[member].address for member in self.members]
                if not {*places} <= {process.address, *process.settings.join}:  # else it was told of them
                    process.join(places)

    def reconcile(self) -> None:
        """Another change waits for a node that was switched off and is in the roster still: leaders say so."""
        processes, roster = self._world.processes, self.roster
        for node_id in roster.ids:
            if node_id and processes[node_id].is_gone and all(goal.node_id != node_id for goal in self._goals):
                self._goals.append(Goal(node_id, is_addition=False))
        if self._goals:
            return
        wanted = {processes[node_id].address: node_id for node_id in self.members}
        for address, node_id in roster.identities.items():
            if address not in wanted and node_id not in self.members:  # a member has moved: the roster will follow it
                self._goals.append(Goal(node_id, is_addition=False))
        for address, node_id in wanted.items():
            if address not in roster.nodes:
                self._goals.append(Goal(node_id, is_addition=True))
