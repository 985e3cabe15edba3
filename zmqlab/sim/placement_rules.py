"""What must hold while the nodes of a cluster with shards come and go: one roster, and no group short of voters.

A node's *place* is where the roster has its identity, wherever it is. One that the roster does not know has its place
where it is, and one that was let go has none.

*One roster.* Each version has one content, whichever node knows it, and it is the one that group 0 has committed. When
the first node knows it, it is on the disks of a majority.

*No replica in another's place.* A node opens only groups that the roster gives to its place. Two that exchange their
addresses do not take over each other's groups. One that starts again opens those that it held, and no others but what a
version has given it since: what it has closed stays closed.

*No group short of voters.* A voter that still has its journal is removed only if as many voters stay as the roster
wants for the group. (One that has lost its journal is in the way of the one that comes to its place, and counts for
nothing. One that has moved is taken for lost if a node that is no member comes to where it was before the leader has
heard of it; it comes back when it says where it is.) The roster may have changed just now, so that of the two newest
versions the one that wants less counts.

*No copy given up for a dead one.* A leader lets a voter go that still has its journal, and that the roster does not
have in the group, wherever it is, only if all voters that the roster wants have answered it. One that has been silent
for two election time-outs is known to be dead, or cut off. One that this leader has promoted is not known to be alive
before an election time-out is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmqlab.engine.engine import MAX_TICKS_PER_TURN
from zmqlab.placement import Roster
from zmqlab.raft import Configuration, Raft
from zmqlab.raft.messages import Entry
from zmqlab.sim.checkers import Violation

if TYPE_CHECKING:
    from zmqlab.sim.node_process import Process
    from zmqlab.sim.world import World

SILENT_TIMEOUTS = 2


class PlacementRules:
    """Of one run. See the module."""

    group_0: World
    """Set when the worlds of all groups are made."""

    def __init__(self) -> None:
        self._known: dict[int, Roster] = {}
        """By version, as the first node knew it."""
        self._promoted: dict[tuple[int, int, int, int], int] = {}
        """(group, leader, term, voter) -> the leader's tick when it had stored that this one votes."""
        self._committed: list[Roster] = []
        """As group 0 has them, in order."""
        self._holds: dict[int, tuple[int, set[int], int]] = {}
        """Node -> its life, the groups that it held in it when its last turn was over, and the version that it knew."""

    def knows(self, process: Process) -> None:
        """A node's turn is over."""
        hosting = process.engine.hosting if process.engine is not None else None
        if hosting is None:
            return
        roster = hosting.placing.roster
        if roster.version and roster.version not in self._known and not self._is_agreed(roster.encode()):
            raise Violation(f"roster: node {process.node_id} follows version {roster.version}, which is not agreed on")
        self._is_one(roster, f"node {process.node_id} knows")
        self._opens(process, roster)

    def _opens(self, process: Process, roster: Roster) -> None:
        held = {group.number for group in process.own_groups()}
        life, before, version = self._holds.get(process.node_id, (process.life, held, 0))
        self._holds[process.node_id] = process.life, held, roster.version
        if held <= before:
            return
        given = set(roster.held_by(_place(roster, process.node_id, process.address)))
        if life != process.life:  # it may have ended in the turn in which it opened one
            since = [each for each in self._known.values() if each.version >= version]
            given.update(*(each.held_by(_place(each, process.node_id, process.address)) for each in since))
        if strange := sorted(held - before - given):
            raise Violation(f"places: node {process.node_id} opens groups {strange}, and its place has {sorted(given)}")

    def _is_agreed(self, roster: bytes) -> bool:
        causes = self.group_0.causes
        return causes is None or causes.commitment.agrees(0, lambda change: change.roster == roster)

    def changed(self, world: World, before: Configuration, after: Configuration) -> None:
        """A group has other members now, by what is committed."""
        if after.roster != before.roster:
            self._committed.append(Roster.decode(after.roster))
            self._is_one(self._committed[-1], "group 0 has committed")
        gone = [voter for voter in before.voters if voter not in after.members]
        wanted = min((len(roster.groups[world.group]) for roster in self._committed[-2:]), default=0)
        is_there = gone and world.processes[gone[0]].address == dict(before.addresses).get(gone[0])
        if is_there and not world.processes[gone[0]].is_gone and len(after.voters) < wanted:
            raise Violation(
                f"voters: group {world.group} lets node {gone[0]} go, which has its journal, and keeps the voters "
                f"{after.voters}, of {wanted} that the roster wants"
            )

    def lets_go(self, world: World, roster: Roster, raft: Raft, entry: Entry) -> None:
        """A leader that knows this roster has stored a change of its group's members."""
        if raft.configurations.oldest_index >= entry.index or world.causes is None:
            return
        before, after = raft.configurations.at(entry.index - 1), Configuration.decode(entry.data)
        places, at = roster.groups[world.group], dict(before.addresses)
        place_of = {each: _place(roster, each, at.get(each, "")) for each in (*before.members, *after.members)}
        gone = [voter for voter in before.voters if voter not in after.members and place_of[voter] not in places]
        wanted = [voter for voter in after.voters if place_of[voter] in places]
        office = world.group, raft.node_id, raft.term
        for voter in set(after.voters) - set(before.voters):
            self._promoted[*office, voter] = raft.ticks
        since = raft.ticks - raft.settings.election_ticks + MAX_TICKS_PER_TURN
        heard = world.causes.hearing.in_reach(raft, wanted, SILENT_TIMEOUTS)
        silent = [each for each in wanted if each not in heard or self._promoted.get((*office, each), since) > since]
        if silent and gone and not world.processes[gone[0]].is_gone:
            raise Violation(
                f"voters: node {raft.node_id} lets node {gone[0]} of group {world.group} go, though {silent} are to"
                " take over, and have not answered for two election time-outs, or were promoted in this one"
            )

    def _is_one(self, roster: Roster, who: str) -> None:
        known = self._known.setdefault(roster.version, roster)
        if known != roster:
            raise Violation(f"roster: {who} version {roster.version} as {roster}, which was {known}")


def _place(roster: Roster, node_id: int, address: str) -> str:
    """Of a node that is at ``address``; empty if it was let go."""
    return roster.address_of(node_id) or ("" if roster.has_left(node_id) else address)
