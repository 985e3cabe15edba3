"""Which nodes a cluster with shards has, which groups each is to hold, and how a group's members follow that.

*Who decides.* Group 0. Its configuration carries the :class:`~zmqlab.placement.Roster` of the whole cluster: which
nodes there are, and which of them are to hold each group. A node that comes or goes asks the leader of group 0, which
proposes the next version, by the rules for any change of members: one at a time, and when the last one is committed.
So there is one sequence of versions, each of which follows from the one before, and no two nodes can decide for
different placements. A node acts on *committed* versions alone. Before the first change, version 0 is what the
founders placed, which each node works out by itself.

*How a node learns of it.* A member of group 0 reads it in its own log. Every node tells the newest version that it
knows to all nodes of it, a few times a second (ROSTER), and with its status. Versions count up, and a node takes
nothing older than what it has.

*How a group follows* (:class:`Following`). Where the roster has a node that is no member, that node opens the group and
asks to be taken in (:class:`~zmqlab.engine.lifecycle.Joining`): first as a learner, then as a voter. The leader takes
in no node that the roster does not have there. When all whom the roster wants vote, and that is committed, the leader
lets the others go, one after the other; if it must go itself, it hands leadership over first. So a group that changes
its members never has fewer voters than the roster wants for it. Two changes that cross do no harm: members that are
wanted are there before any other goes.

*When a replica is closed.* A node closes its replica of a group when the roster it knows does not have it there *and*
it is known to be no member, by a change that is committed: its own log says so, or the leader's word that is not older
than this node's log. The journal of the group stays on disk. With it the node is the same member, with its votes, if it
gets the group again; without it, it would have to be another one.

Left out: a node that has moved to another address. It stays a member of its groups, but the roster has it where it was.
"""

from __future__ import annotations

from zmqlab.engine.effects import Effects
from zmqlab.engine.lifecycle import Standing
from zmqlab.engine.peers import OF_NODE, Connections
from zmqlab.errors import FrameError
from zmqlab.placement import Roster
from zmqlab.raft import Configuration, Role
from zmqlab.replica import Change, Replication
from zmqlab.replica.replication import MAX_MEMBERS
from zmqlab.settings import NodeSettings
from zmqlab.wire.peer import RosterNews, decode_roster, encode_roster

TELLS = 0.8
"""In an election time-out: how often a node tells the roster, every 250 ms with the node's own settings."""
LOOKS = 2
"""In an election time-out: how often a leader looks whether a member must go."""
GROUP_OF_ROSTER = 0


class Placing:
    """What one node knows of the roster, and how it tells others. Owned by an engine with shards."""

    def __init__(
        self,
        settings: NodeSettings,
        effects: Effects,
        connections: Connections,
        founders: Configuration,
        node_id: int,
        known: Roster | None = None,
    ) -> None:
        """``known``: what this node was told at its first start."""
        self.roster = Roster.of_founders(
            [at for _, at in founders.addresses], settings.shards, settings.replication_factor
        )
        """The newest version that is known to be committed."""
        self.node_id = node_id
        self.copies = settings.replication_factor
        self.own_address = settings.endpoint
        self._settings = settings
        self._effects = effects
        self._connections = connections
        self._cluster = sum(node for node, _ in founders.addresses) % (1 << 64)
        self._tell_ticks = max(1, round(settings.election_ticks / TELLS))
        self._ticks = 0
        self._read = b""
        """The roster of the log that was read last."""
        if known is not None:
            self.learn(known)

    def learn(self, roster: Roster) -> None:
        """A committed version; an old one is ignored."""
        if roster.version > self.roster.version and len(roster.groups) == self._settings.shards:
            self.roster = roster
            others = [place for place in roster.places if place != self.own_address]
            self._connections.want(OF_NODE, others, ())
            held = ", ".join(map(str, roster.held_by(self.own_address))) or "none"
            self._effects.note(f"roster {roster.version}: {len(roster.nodes)} nodes; this one is to hold groups {held}")

    def read(self, committed: bytes) -> None:
        """What the log of group 0 says, up to its commit index."""
        if committed and committed != self._read:
            self._read = committed
            self.learn(Roster.decode(committed))

    def hear(self, frame: bytes) -> None:
        """Another node tells. Raises FrameError."""
        news = decode_roster(frame)
        if news.cluster != self._cluster:
            raise FrameError(f"{news.sender:#x} tells the roster of another cluster")
        self.learn(news.roster)

    def tick(self) -> None:
        """Tell it when it is time. Version 0 is known to all."""
        self._ticks += 1
        if self.roster.version and self._ticks % self._tell_ticks == 0:
            frame = encode_roster(RosterNews(self.node_id, self._cluster, self.own_address, self.roster))
            for place in self.roster.places:
                if place != self.own_address:
                    self._effects.send(place, frame)

    def is_last(self) -> bool:
        """Whether the cluster has no other node."""
        return self.roster.nodes == (self.own_address,)

    @property
    def wanted(self) -> tuple[int, ...]:
        """The groups that this node is to hold."""
        return self.roster.held_by(self.own_address)

    def places_in(self, group: int) -> tuple[str, ...]:
        """Where the members of a group are to be, the preferred leader first."""
        return self.roster.groups[group]


class Following:
    """Has the members of one group follow the roster. Has effects only while the group's replication leads."""

    def __init__(self, number: int, placing: Placing, replication: Replication) -> None:
        self._number = number
        self._placing = placing
        self._replication = replication
        self._look_ticks = max(1, replication.election_ticks // LOOKS)

    @property
    def preferred(self) -> str:
        """The address of the member that should lead; empty: none more than the others."""
        return next(iter(self._placing.places_in(self._number)), "")

    def is_away(self) -> bool:
        """Whether the roster has this node in other groups alone: it asks this one only whether it was let go."""
        placing = self._placing
        own, roster = placing.own_address, placing.roster
        return bool(roster.version) and own in roster.nodes and own not in placing.places_in(self._number)

    def tick(self) -> None:
        """Let a member go that is to go, if it is time."""
        replication = self._replication
        if replication.role is not Role.LEADER or replication.ticks % self._look_ticks or not self._roster.version:
            return
        configuration = replication.configuration
        if replication.commit_index < replication.configuration_index:
            return
        surplus = [member for member in configuration.members if not self._is_wanted(member)]
        learners = [member for member in surplus if member in configuration.learners]
        if learners:
            replication.remove_member(learners[0])
        elif surplus and self._all_vote():
            first = min(surplus, key=lambda member: member == replication.node_id)
            if first == replication.node_id:
                replication.hand_over(self._member_at(self.preferred))
            replication.remove_member(first)

    def admit(self, node_id: int, address: str) -> Change | None:
        """A node at ``address`` asks to be taken in; None: it may be, as far as the roster goes."""
        replication, roster = self._replication, self._roster
        if replication.role is not Role.LEADER or node_id in replication.configuration.members:
            return None
        if address in self._placing.places_in(self._number):
            return None
        if self._number != GROUP_OF_ROSTER or address in roster.nodes:
            return Change.UNDER_WAY
        latest = self._latest()
        if address in latest.nodes:
            return Change.UNDER_WAY
        if len(latest.nodes) >= MAX_MEMBERS:
            return Change.FULL
        copies = self._placing.copies or len(latest.nodes) + 1
        if copies * len(latest.groups) <= len(latest.nodes):
            return Change.TOO_FEW_COPIES
        return self._propose(latest.with_node(address, self._placing.copies))

    def release(self, node_id: int, address: str, asks_itself: bool) -> Change | None:
        """The member ``node_id`` is to be removed, or, with an ``address``, the node there is to leave the cluster.

        None: it may be removed, as far as the roster goes.
        """
        replication = self._replication
        if replication.role is not Role.LEADER:
            return Change.NOT_LEADER if address else None
        if address:
            return self._dismiss(address)
        if node_id not in replication.configuration.members:
            return None
        if self._is_wanted(node_id):
            return Change.UNDER_WAY if asks_itself else Change.PLACED
        return None if node_id in replication.configuration.learners or self._all_vote() else Change.UNDER_WAY

    def is_out(self, standing: Standing) -> bool:
        """Whether it is known that this node is no member, by a change that is committed.

        A log that has no members yet says nothing: the node may have been taken in since.
        """
        replication = self._replication
        in_effect, members = replication.configuration_index, replication.configuration.members
        if members and replication.commit_index >= in_effect and replication.node_id not in members:
            return True
        return standing.let_go_at >= max(1, in_effect)

    @property
    def _roster(self) -> Roster:
        return self._placing.roster

    def _latest(self) -> Roster:
        """What the log of group 0 has, committed or not: a change goes on from it, and waits until it is."""
        encoded = self._replication.configuration.roster
        return Roster.decode(encoded) if encoded else self._roster

    def _propose(self, roster: Roster) -> Change:
        change = self._replication.set_roster(roster.encode())
        return Change.UNDER_WAY if change is Change.DONE else change

    def _dismiss(self, address: str) -> Change:
        latest = self._latest()
        if address in latest.nodes and len(latest.nodes) == 1:
            return Change.LAST_VOTER
        if address in latest.nodes:
            return self._propose(latest.without_node(address, self._placing.copies))
        replication = self._replication
        return Change.DONE if replication.commit_index >= replication.configuration_index else Change.UNDER_WAY

    def _is_wanted(self, member: int) -> bool:
        """Whether a member is where the roster wants one. One that has no address is left alone."""
        address = dict(self._replication.configuration.addresses).get(member, "")
        return not address or address in self._placing.places_in(self._number)

    def _all_vote(self) -> bool:
        """Whether a voter is at each place where the roster wants one."""
        configuration = self._replication.configuration
        there = {address for member, address in configuration.addresses if member in configuration.voters}
        return there.issuperset(self._placing.places_in(self._number))

    def _member_at(self, address: str) -> int:
        return next((member for member, at in self._replication.configuration.addresses if at == address), 0)
