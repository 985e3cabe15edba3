"""A node's part in one of several groups, as the checkers see it: a process of its own, which shares its life with
others.

The rules of Raft, of sessions and of answers hold for each group alone. So each group of a run with shards has a
:class:`~zmqlab.sim.world.World` of its own: its checkers, its ledger, its members. What is one for all groups of a node
(the process, its disk, its clock, its sockets) is looked at through :class:`Seat`, which passes on whatever it is not
asked about its group. A run without shards has no seats: there the process itself is what the checkers see.

:func:`worlds_of` makes the worlds. As nodes come and go (:mod:`~zmqlab.sim.placed_operator`) a process gets seats and
loses them; one that is empty stays, since the journal of its group does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from zmqlab.engine import Engine, Group
from zmqlab.engine.group_founding import founded
from zmqlab.placement import Roster
from zmqlab.raft import Configuration
from zmqlab.raft.state import LEADER
from zmqlab.replica import Origin, RaftByQuorum, Replica
from zmqlab.settings import NodeSettings
from zmqlab.sim.causes import Causes
from zmqlab.sim.checkers import Configurations, Elections, Histories, Ledger, Logs, Violation
from zmqlab.sim.disk import Stored
from zmqlab.sim.node_rules import Duties
from zmqlab.sim.placement_rules import PlacementRules
from zmqlab.sim.watchers import Watcher
from zmqlab.sim.world import World

if TYPE_CHECKING:
    from zmqlab.sim.node_process import Process


class Seat:
    """See the module. It looks like a :class:`~zmqlab.sim.node_process.Process` of one group."""

    def __init__(self, process: Process, number: int, world: World) -> None:
        self.process = process
        self.number = number
        self.world = world
        self.replica: Replica | None = None
        self.duties: Duties | None = None
        self.watcher = Watcher(cast("Process", self))
        self.hand_overs = 0
        """By which the group went to its preferred leader, of all lives."""
        self.last_configurations: list[Configuration] = []
        """In effect and committed, as known when it was last open; empty if the node has closed it since."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.process, name)

    @property
    def running(self) -> Replica:
        """Of a process that runs."""
        assert self.replica is not None, "the process is down"
        return self.replica

    @property
    def raft(self) -> RaftByQuorum:
        """Of a process that runs."""
        return cast(RaftByQuorum, self.running.replication)

    @property
    def term(self) -> int:
        """Of a process that runs; otherwise 0."""
        return self.replica.replication.term if self.replica else 0

    @property
    def leads(self) -> bool:
        """Whether it runs and leads this group."""
        return self.replica is not None and self.replica.replication.role is LEADER

    @property
    def roster(self) -> Roster:
        """As its process knows it. Of one that runs."""
        hosting = self.process.engine.hosting if self.process.engine is not None else None
        assert hosting is not None
        return hosting.placing.roster

    def opened(self, replica: Replica, duties: Duties) -> None:
        """The engine has opened this group."""
        self.replica, self.duties = replica, duties
        replication = replica.replication
        if replication.node_id != self.process.node_id:
            raise Violation(f"journal: node {self.process.node_id} is {replication.node_id} in group {self.number}")
        configuration = replication.configuration
        if configuration.members and not self.world.configurations.were_ever(configuration):
            raise Violation(f"founding: node {self.process.node_id} founds {replication.configuration}")
        self.process.opened_seat(self)

    def read_whole_log(self) -> None:
        """As the process does, of this group."""
        type(self.process).read_whole_log(cast("Process", self))

    def configurations(self) -> list[Configuration]:
        """As the process does, of this group."""
        return type(self.process).configurations(cast("Process", self))

    def closed(self) -> None:
        """The process has ended, or closes this replica."""
        self.configurations()
        self.replica = self.duties = None

    def closes(self) -> None:
        """The process closes this replica, and goes on. Another node may have the group only if this one is let go.

        A learner may close it: it counts for nothing, and the leader's last word may be older than its admission.
        """
        (index, newest), causes = self.world.configurations.history[-1], self.world.causes
        is_in = self.process.node_id in newest.voters
        if is_in and causes is not None and not causes.commitment.is_out(self.process.node_id, index):
            raise Violation(
                f"closing: node {self.process.node_id} closes its replica of group {self.number}, but the voters by "
                f"all that is committed are {newest.voters}"
            )
        replica = self.replica
        self.closed()
        self.last_configurations = []
        self.process.closed_seat(replica)


class Seated:
    """What a process knows of its seats; of a run without shards there are none."""

    node_id: int
    engine: Engine | None
    replica: Replica | None
    duties: Duties | None
    _raft: RaftByQuorum | None
    newest_life: int
    has_met: bool
    snapshots: int
    hand_overs: int

    def __init__(self) -> None:
        self.seats: dict[int, Seat] = {}
        """By group, of those that it holds or has held."""
        self._worlds: Mapping[int, World] = {}
        """By group; of a run without shards there are none."""

    @property
    def leads(self) -> bool:
        """Whether it runs and leads; with shards, any group."""
        replica = self.replica
        if self._worlds:
            return any(seat.leads for seat in self.seats.values())
        return replica is not None and replica.replication.role is LEADER

    def take_seats(self, worlds: Mapping[int, World], is_founder: bool = True) -> None:
        """It is a node of a cluster with shards: one of the founders, or it is to be taken in."""
        self._worlds = worlds
        if not is_founder:
            return
        self.seats = {
            number: Seat(cast("Process", self), number, world)
            for number, world in worlds.items()
            if self.node_id in world.members
        }

    def seat(self, number: int) -> Process:
        """What the checkers of a group see of it."""
        if not self._worlds:
            return cast("Process", self)
        if number not in self.seats:
            self.seats[number] = Seat(cast("Process", self), number, self._worlds[number])
        return cast("Process", self.seats[number])

    def watch_of(self, number: int) -> Stored:
        """What is told what a group stores. With shards, group 0 may at first only hold who the node is."""
        return lambda *what: self.seat(number).watcher.stored(*what)

    def all_seats(self) -> list[Process]:
        """The same for all groups."""
        return cast("list[Process]", [*self.seats.values()] if self._worlds else [self])

    def transfer_leadership(self, target: int) -> bool:
        """Begin to hand over what it leads; False: not possible. No frame asks for it, as a person's would, and so the
        engine is told that there is something to do. Others want another node to lead at the same time, in vain."""
        assert self.engine is not None, "the process is down"
        self.engine._wake_all()
        raft = cast("Process", self).raft
        has_begun = raft.transfer_leadership(target)
        for other in raft.configuration.voters if has_begun else ():
            raft.transfer_leadership(other)
        return has_begun

    def own_groups(self) -> Iterable[Group]:
        """The groups that its engine has opened."""
        return self.engine.groups.values() if self.engine is not None else ()

    def opened_seat(self, seat: Seat) -> None:
        """The engine has opened one of several groups. The process goes by the first one, or one that it leads."""
        self.has_met = True
        if self.replica is None:
            self.replica, self.duties = seat.replica, seat.duties
            self._raft, self.newest_life = seat.raft, seat.running.journal.life

    @property
    def has_unread(self) -> bool:
        """Whether its disk has the log of a group that it holds no more, which nothing reads."""
        return any(seat.replica is None for seat in self.seats.values())

    def closed_seat(self, replica: Replica | None) -> None:
        """The engine has closed one of several groups. The process goes by another one, if it has any."""
        if self.replica is replica:
            self.replica = self.duties = self._raft = None
        for other in self.seats.values():
            if other.replica is not None and self.replica is None:
                self.replica, self.duties, self._raft = other.replica, other.duties, other.raft

    @property
    def snapshots_total(self) -> int:
        """Snapshots that it made, in all lives."""
        return self.snapshots + sum(seat.replica.snapshots_total for seat in self.all_seats() if seat.replica)


def worlds_of(world: World, founders: Configuration, settings: Callable[[int], NodeSettings]) -> dict[int, World]:
    """A world for each group of a run with shards, in which the founders have taken their seats.

    Args:
        world: what all groups share.
        founders: all nodes.
        settings: of a node.
    """
    world.placed = PlacementRules()
    members: dict[int, Configuration] = {}
    for node_id in founders.members:
        members |= founded(Origin(node_id, founders), settings(node_id))
    worlds = {number: _world_of(number, world, members[number]) for number in sorted(members)}
    world.placed.group_0 = worlds[0]
    for process in world.processes.values():
        process.take_seats(worlds)
    return worlds


def _world_of(number: int, world: World, members: Configuration) -> World:
    plan = world.plan
    ledger = Ledger(plan.limits, plan.market.limits)
    elections, configurations = Elections(ledger), Configurations(members)
    own = replace(
        world,
        elections=elections,
        logs=Logs(),
        ledger=ledger,
        configurations=configurations,
        causes=Causes(elections, ledger, configurations),
        tell=lambda line: world.tell(f"group {number}: {line}"),
        on_leader=lambda seat: world.on_leader(process_of(seat)),
        on_repair=lambda seat: world.on_repair(process_of(seat)),
        on_change=lambda seat: world.on_change(process_of(seat)),
        on_candidate=lambda seat: world.on_candidate(process_of(seat)),
        members=list(members.members),
        histories=Histories(ledger),
        group=number,
    )
    own.closings = world.closings
    return own


def process_of(seat: Any) -> Process:
    """The process behind a seat, or the process itself."""
    return cast("Process", seat.process if isinstance(seat, Seat) else seat)
