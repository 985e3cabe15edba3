"""Which nodes a cluster with shards has, and which groups each is to hold, as a node knows it.

*Who decides.* Group 0. Its configuration carries the :class:`~zmqlab.placement.Roster` of the whole cluster: which
nodes there are, and which of them are to hold each group. A node that comes or goes asks the leader of group 0, which
proposes the next version, by the rules for any change of members: one at a time, and when the last one is committed.
So there is one sequence of versions, each of which follows from the one before, and no two nodes can decide for
different placements. A node acts on *committed* versions alone. Before the first change, version 0 is what the
founders placed, which each node works out by itself.

*How a node learns of it.* A member of group 0 reads it in its own log. Every node tells the newest version that it
knows to all nodes of it, and to all others that are members of its groups still, a few times a second (ROSTER), and
with its status. Versions count up, and a node takes nothing older than what it has.

*When a replica is closed.* A node closes its replica of a group when the roster it knows does not have it there *and*
it is known to be no member, by a change that is committed: its own log says so, or the leader's word that is not older
than this node's log. A log without members says nothing. The journal of the group stays on disk. With it the node is
the same member, with its votes, if it gets the group again; without it, it would have to be another one.

*A node at another address.* The roster knows its nodes by their identities. A node that finds itself elsewhere than the
roster has it asks the leader of group 0, which proposes a version with the node's place at its address; each of its
groups then notes the address, as a group alone does. Until then its place is where the roster has it: it holds the
groups of that place, and a group that wants a member there wants this one. The same goes for a node that has lost its
disk: it is another one at its place, and the roster notes its identity. So a person's wish that a node leaves names it
by its identity, too, where that is known: while two nodes exchange their addresses, each is at the other's place by the
roster. And a node that was let go takes the place of no other one, although it may be where that one's place is still.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zmqlab.engine.effects import Effects
from zmqlab.engine.peers import OF_NODE, Connections
from zmqlab.errors import FrameError
from zmqlab.placement import Roster
from zmqlab.raft import Configuration
from zmqlab.settings import NodeSettings
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.peer import RosterNews, decode_roster, encode_roster

TELLS = 0.8
"""In an election time-out: how often a node tells the roster, every 250 ms with the node's own settings."""
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
        """``known``: the newest version that this node knew before."""
        ids = {at: founder for founder, at in founders.addresses}
        self.roster = Roster.of_founders(list(ids), settings.shards, settings.replication_factor, ids)
        """The newest version that is known to be committed."""
        self.node_id = node_id
        self.copies = settings.replication_factor
        self.own_address = settings.endpoint
        self._settings = settings
        self._effects = effects
        self._connections = connections
        self._cluster = _number_of(founders.addresses)
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
            held = ", ".join(map(str, self.wanted)) or "none"
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

    def hear_status(self, status: NodeStatus) -> bool:
        """A node that was asked for its status tells. A node that was away while others came and went may be unknown to
        those that tell of themselves; it asks for statuses when it hears no leader.

        Returns whether it may be a node of this cluster. One that has not decided what it is tells no roster.
        """
        told, own = (status.cluster, status.shards), (self._settings.cluster, self._settings.shards)
        if not status.roster or told != own:
            return told == own
        is_own = _number_of(status.founders) == self._cluster
        if is_own:
            self.learn(Roster.decode(status.roster))
        return is_own

    def tick(self) -> None:
        """Tell it when it is time. Version 0 is known to all."""
        self._ticks += 1
        if self.roster.version and self._ticks % self._tell_ticks == 0:
            frame = encode_roster(RosterNews(self.node_id, self._cluster, self.own_address, self.roster))
            for address in self._connections.addresses:
                self._effects.send(address, frame)

    def note_awaited(self, group: int, places: Sequence[str]) -> None:
        """A group that this node leads waits for the nodes at ``places``, or for none any more."""
        said = f"group {group} has all the members that the roster wants, or they answer"
        if places:
            said = (
                f"group {group} keeps its old members and waits for {', '.join(places)}, where the roster wants a"
                " member and none answers: start that node again, or take it out of the cluster with zmqlab remove"
            )
        self._effects.note(said, is_warning=bool(places))

    @property
    def is_misplaced(self) -> bool:
        """Whether the roster has this node at another address, or has another node at this one: it must be told. A node
        that it does not have at all asks for its place at its start, and not while it runs: it may have been sent away.
        """
        return not self.is_in and self.place in self.roster.nodes

    def has_left_before(self, life: int) -> bool:
        """Whether this node, in its ``life``, is without a place because it asked for that in a former one."""
        return 0 < self.roster.last_life_of(self.node_id) < life

    @property
    def is_in(self) -> bool:
        """Whether the roster has this node where it is."""
        return self.roster.address_of(self.node_id) == self.own_address

    @property
    def has_moved(self) -> bool:
        """Whether the roster has this node at another address."""
        return self.roster.address_of(self.node_id) not in ("", self.own_address)

    @property
    def place(self) -> str:
        """Where the roster has this node; where it is, if the roster does not know it; empty if it was let go."""
        return self.roster.place_of(self.node_id, self.own_address)

    def is_last(self) -> bool:
        """Whether the cluster has no other node."""
        return self.roster.nodes == (self.place,)

    @property
    def wanted(self) -> tuple[int, ...]:
        """The groups that this node is to hold, wherever it is."""
        return self.roster.held_by(self.place)

    def places_in(self, group: int) -> tuple[str, ...]:
        """Where the members of a group are to be, the preferred leader first."""
        return self.roster.groups[group]


def _number_of(founders: Iterable[tuple[int, str]]) -> int:
    """By which a cluster is told from others: 64 bits that follow from the identities of its founders."""
    return sum(founder for founder, _ in founders) % (1 << 64)
