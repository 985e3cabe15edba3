"""The members of one group as this node sees them: where they are, how they are called, which of them are heard.

The members' addresses stand in the configuration (:class:`zmqlab.raft.Configuration`), so that every node learns of a
change from the log itself. Three things can't come from the log:

- *A leader that this node does not know yet.* A node that was away may have a log from before its leader was taken in.
  It can't answer such a leader, and the leader can't repair a log without answers. So each node says HELLO to every
  member now and then, with its address, and a node connects to a node that introduces itself. Such a node is a
  *guest*; the number of guests is bounded.
- *Names*, which are for people: HELLO carries them too. So it does with the word that a node is about to end, which
  must be given no leadership any more.
- *A member that has moved.* To commit its new address takes a leader, to elect one takes connections, and to be
  repaired by one takes a connection to where the leader is now. So what a member says of its own address, by HELLO or
  by asking to be moved, is *claimed*: frames for it go to both addresses, and broadcasts are heard from both, until
  the log says where it is. At the wrong address they are refused, since each frame names the node that it is for.

*Which frames count.* A broadcast counts only if a member sent it: a subscription is to an address, and a stranger's
process might listen there by now. A message to this node alone carries the node's id of 64 bits, which only its
cluster knows, and is handed to the replication whichever node sent it: Raft's own rules (terms, pre-votes) make
messages of former members harmless. What no node can say that keeps the rules is refused by
:meth:`zmqlab.replica.replication.Replication.expect`.

*Connections* go by address, not by member (:class:`Connections`). While two members exchange their addresses, both
stand at one address for a moment; the connection and the subscription to it stay when one of them leaves it.

*Several groups of a node share frames.* What they send to one peer in the same step of a turn goes there as one frame,
a BUNDLE, because a message costs its sender, its receiver and ZeroMQ's threads the same whatever is in it. The engine
says when (:meth:`Connections.flush`): before it stores, and right after it has stored. A frame is handed in when it may
leave, so no promise is made earlier than it would be alone. Heartbeats of all groups of a node are due in one tick
(:attr:`zmqlab.raft.RaftSettings.beats_in_step`). They are published, each for itself, if no two of them go to the same
peer, and else they go into the bundles. But publishing reaches more than the members: also a node that was let go, and
is to learn of it from the commit of that change. So as long as the commit of the latest members was not published, all
is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zmqlab.endpoints import is_address, parse_endpoint
from zmqlab.engine.effects import Asking, Effects
from zmqlab.errors import FrameError
from zmqlab.raft import Configuration
from zmqlab.raft.messages import BROADCAST, AppendEntries, Message
from zmqlab.replica.replication import Replication
from zmqlab.settings import NodeSettings
from zmqlab.wire.frames import slices
from zmqlab.wire.node_status import Member
from zmqlab.wire.peer import Hello, encode_bundle, encode_hello

HELLOS = 0.8
"""In an election time-out: one every 250 ms with the node's own settings."""
FIRST_HELLO = 0.25
"""Of an election time-out after the start: when connections have had the time to be made."""
MAX_GUESTS = 16
"""Nodes that introduced themselves and are no members, to which a connection is kept; and whose names are kept."""
MAX_NAME = 32
BUNDLE_BYTES = 4_096
"""About so much is sent in one bundle; a larger frame goes alone. To join frames saves what a message costs, and copies
their bytes."""
OF_NODE = -1
"""In the place of a group: connections and questions of the node as a whole."""


class Connections:
    """The connections of one node, for all its groups: each address once, for as long as any group wants it."""

    def __init__(self, effects: Effects, are_shared: bool) -> None:
        """``are_shared``: between groups. Then frames wait for :meth:`flush`."""
        self.are_shared = are_shared
        self._gathered: dict[str, list[bytes]] = {}
        """By address: frames that may leave."""
        self._beats: list[tuple[list[str], bytes]] = []
        """Heartbeats that may leave, and where their hearers are."""
        self._effects = effects
        self._wanted: dict[int, tuple[frozenset[str], frozenset[str]]] = {}
        """Group -> the addresses that it sends to, and those whose broadcasts it hears."""
        self._connected: frozenset[str] = frozenset()
        self._subscribed: frozenset[str] = frozenset()
        self._asking: dict[str, set[int]] = {}
        """Address -> the groups that ask the node there something."""

    @property
    def addresses(self) -> list[str]:
        """Where this node is connected to, for whichever group."""
        return sorted(self._connected)

    def want(self, group: int, connected: Iterable[str], subscribed: Iterable[str]) -> None:
        """``group`` sends to the nodes at ``connected``, and hears those at ``subscribed``, and no others."""
        self._wanted[group] = frozenset(connected), frozenset(subscribed)
        wanted = frozenset().union(*(each for each, _ in self._wanted.values()))
        heard = frozenset().union(*(each for _, each in self._wanted.values()))
        if not self._connected <= wanted:
            self.flush()
        for address in sorted(self._subscribed - heard):
            self._effects.unsubscribe(address)
        for address in sorted(self._connected - wanted):
            self._effects.disconnect(address)
        for address in sorted(wanted - self._connected):
            self._effects.connect(address)
        for address in sorted(heard - self._subscribed):
            self._effects.subscribe(address)
        self._connected, self._subscribed = wanted, heard

    def send(self, address: str, frame: bytes) -> None:
        """To the node at an address that a group wants to be connected to."""
        if self.are_shared:
            self._gathered.setdefault(address, []).append(frame)
        else:
            self._effects.send(address, frame)

    def beat(self, addresses: list[str], frame: bytes) -> None:
        """A heartbeat of one of several groups, for the nodes at ``addresses``."""
        self._beats.append((addresses, frame))

    def flush(self) -> None:
        """Send what was gathered."""
        if self._beats:
            beats, self._beats = self._beats, []
            hearers = [address for addresses, _ in beats for address in addresses]
            is_shared = len(set(hearers)) < len(hearers)
            for addresses, frame in beats:
                if is_shared:
                    for address in addresses:
                        self._gathered.setdefault(address, []).append(frame)
                else:
                    self._effects.publish(frame)
        if self._gathered:
            gathered, self._gathered = self._gathered, {}
            for address, parts in gathered.items():
                for few in slices(parts, BUNDLE_BYTES):
                    self._effects.send(address, encode_bundle(few) if len(few) > 1 else few[0])

    def questions_of(self, group: int) -> Asking:
        """For ``group`` to ask other nodes, over connections that it shares with the other groups."""
        return _QuestionsOfGroup(group, self._effects, self._asking)


class _QuestionsOfGroup:
    """Implements :class:`~zmqlab.engine.effects.Asking` for one of a node's groups.

    A connection for questions ends when the last group that asks over it hangs up.
    """

    def __init__(self, group: int, effects: Effects, asking: dict[str, set[int]]) -> None:
        self._group = group
        self._asking = asking
        self._effects = effects
        self.resolve = effects.resolve
        self.note = effects.note

    def ask(self, address: str, frame: bytes) -> None:
        self._asking.setdefault(address, set()).add(self._group)
        self._effects.ask(address, frame)

    def hang_up(self, address: str) -> None:
        groups = self._asking.get(address, set())
        groups.discard(self._group)
        if not groups:
            self._asking.pop(address, None)
            self._effects.hang_up(address)


class Peers:
    """The other members of one node's group."""

    def __init__(
        self,
        group: int,
        settings: NodeSettings,
        effects: Effects,
        connections: Connections,
        replication: Replication,
    ) -> None:
        self._group = group
        self._own_name, self._own_address = settings.name, settings.endpoint
        self._effects = effects
        self._connections = connections
        self._replication = replication
        self._names = {replication.node_id: settings.name}
        self._is_closing = False
        """Whether this node is about to end."""
        self._closing: frozenset[int] = frozenset()
        """Other members that said last that they are about to end."""
        self._followed: Configuration | None = None
        self._known_by: Configuration | None = None
        """The configuration that ``_addresses`` are of."""
        self._addresses: dict[int, str] = {}
        """In the order of the addresses."""
        self._members: frozenset[int] = frozenset()
        self._published_commit = 0
        """All who subscribe to this node were told of the commit of the group's log up to here."""
        self._claimed: dict[int, str] = {}
        """Other members that last said of themselves that they are elsewhere than the configuration says, and where."""
        self._placed: dict[int, str] = {}
        """Nodes, and where the roster has them; empty without shards."""
        self._guests: dict[int, str] = {}
        """Nodes that are no members and have introduced themselves, and where they are; the latest last."""
        self._routes: dict[int, tuple[str, ...]] = {}
        """Node -> the addresses that frames for it go to; members and guests, never this node."""
        self._introduced_at = -1
        """The tick at which connections were last changed on the word of a node."""
        self._hello_ticks = max(1, round(replication.election_ticks / HELLOS))
        self._first_hello = min(round(replication.election_ticks * FIRST_HELLO), self._hello_ticks - 1)
        self.follow()

    # Connections.

    def follow(self) -> tuple[int, ...]:
        """Connect to new members and leave those that are gone; to be called once a turn.

        Returns the members that were promoted since the last call.
        """
        configuration = self._replication.configuration
        if configuration is self._followed:
            return ()
        before, self._followed = self._followed, configuration
        self._members = frozenset(configuration.members)
        self._closing &= self._members
        known = self._known()
        claimed = {member: at for member, at in self._claimed.items() if member in self._members}
        self._claimed = {member: at for member, at in claimed.items() if known.get(member) != at}
        self._guests = {guest: at for guest, at in self._guests.items() if guest not in self._members}
        self._connect()
        return tuple(voter for voter in configuration.voters if before and voter in before.learners)

    def leave(self) -> None:
        """Be connected to no member any more."""
        self._connections.want(self._group, (), ())

    def _connect(self) -> None:
        """Be connected to where members and guests are, and say they are."""
        own_id, own_address = self._replication.node_id, self._own_address
        known = self._known()
        former = known.get(own_id, "")
        """Of this node, if it has moved. A member that the log has at this node's address may be there: an exchange."""
        routes: dict[int, tuple[str, ...]] = {}
        placed = ((node_id, at) for node_id, at in self._placed.items() if node_id in self._members)
        for node_id, address in (*known.items(), *self._claimed.items(), *placed, *self._guests.items()):
            place, so_far = former if address == own_address else address, routes.get(node_id, ())
            if node_id != own_id and place and place != own_address and place not in so_far:
                routes[node_id] = (*so_far, place)
        self._routes = routes
        heard = (address for node_id in self._members for address in routes.get(node_id, ()))
        self._connections.want(self._group, (each for route in routes.values() for each in route), heard)

    def _known(self) -> Mapping[int, str]:
        """Member -> its address in the configuration. An old log may name a host: that member is nowhere until it says
        where it is."""
        configuration = self._replication.configuration
        if configuration is not self._known_by:
            self._known_by = configuration
            known = [(node_id, at) for node_id, at in configuration.addresses if is_address(at)]
            self._addresses = dict(sorted(known, key=lambda pair: parse_endpoint(pair[1])))
        return self._addresses

    def send(self, node_id: int, frame: bytes) -> None:
        """To a member or a guest; lost if its address is not known."""
        for address in self._routes.get(node_id, ()):
            self._connections.send(address, frame)

    def broadcast(self, message: Message, frame: bytes) -> None:
        """To all members, and to all others who subscribe to this node; a heartbeat perhaps to the members alone."""
        if self._connections.are_shared and isinstance(message, AppendEntries):
            replication = self._replication
            if not message.entries and replication.configuration_index <= self._published_commit:
                hearers = [at for follower in replication.followers for at in self._routes.get(follower, ())]
                if hearers:  # else this node does not lead, or does not know where its followers are
                    self._connections.beat(hearers, frame)
                    return
            self._published_commit = message.commit_index
        self._effects.publish(frame)

    def is_only_at(self, node_id: int, address: str) -> bool:
        """Whether frames for a member or a guest go to ``address`` and nowhere else.

        At one of two addresses of a member that has moved another process may listen.
        """
        return self._routes.get(node_id) == (address,)

    # Introductions and moves.

    def tick(self) -> None:
        """Say HELLO when it is time."""
        if self._replication.ticks % self._hello_ticks == self._first_hello:
            self._say_hello()

    def close(self) -> None:
        """This node is about to end: tell the others at once, and from now on."""
        self._is_closing = True
        self._say_hello()

    def _say_hello(self) -> None:
        own_id = self._replication.node_id
        for member in sorted(self._members - {own_id}):
            hello = Hello(own_id, member, self._own_address, self._own_name, self._is_closing)
            self.send(member, encode_hello(hello, self._group))

    def take_hello(self, hello: Hello) -> None:
        """A node introduces itself. Raises FrameError if the HELLO is meant neither for this node nor for its place.

        Members that have exchanged their addresses get each other's HELLOs. Those say where their senders are, and
        that is how each finds the others again.
        """
        own_id = self._replication.node_id
        is_for_its_place = hello.to in self._members and hello.sender in self._members
        if hello.sender in (0, own_id, hello.to) or not (hello.to == own_id or is_for_its_place):
            raise FrameError(f"a hello to {hello.to:#x} came here")
        if hello.sender in self._members:
            self.note_name(hello.sender, hello.name)
            self.note_address(hello.sender, hello.address)
            self._closing = self._closing | {hello.sender} if hello.is_closing else self._closing - {hello.sender}
        elif self._guests.get(hello.sender) != hello.address and self._may_change():
            self._guests.pop(hello.sender, None)
            if len(self._guests) >= MAX_GUESTS:
                del self._guests[next(iter(self._guests))]
            self._guests[hello.sender] = hello.address
            self._connect()

    def note_address(self, node_id: int, address: str) -> None:
        """A node says where it is; its word counts if it is another member."""
        if node_id not in self._members or node_id == self._replication.node_id:
            return
        known = self._known().get(node_id, "")
        claim = "" if address == known else address
        if self._claimed.get(node_id, "") != claim and self._may_change():
            self._claimed.pop(node_id, None)
            if claim:
                self._claimed[node_id] = claim
            self._connect()

    def look_for(self, places: Mapping[str, int]) -> None:
        """Base endpoint -> the node there, by the roster of a cluster with shards: members are also sent to there.

        A node that introduced itself to this group, and has moved since, need not do so again where it is now.
        """
        self._placed = {node_id: at for at, node_id in places.items()}
        self._guests = {guest: at for guest, at in self._guests.items() if self._placed.get(guest, at) == at}
        self._connect()

    def _may_change(self) -> bool:
        """Whether connections may change on a node's word now: once a tick, since libzmq gives sockets back late."""
        if self._replication.ticks == self._introduced_at:
            return False
        self._introduced_at = self._replication.ticks
        return True

    @property
    def elsewhere(self) -> frozenset[int]:
        """Members that say they are not where the configuration says, this node among them.

        A leader must know them: two members that exchanged their addresses are each in the other's way.
        """
        own_id = self._replication.node_id
        own = self._known().get(own_id, self._own_address)
        return frozenset(self._claimed) | ({own_id} if own != self._own_address else set())

    # Which frames count.

    def expect_message(self, message: Message) -> None:
        """Raise FrameError unless ``message`` may be handed to the replication; see the module."""
        if message.to == BROADCAST:
            self.expect_member(message.sender)
        elif message.to != self._replication.node_id:
            raise FrameError(f"a message to {message.to:#x} came here")
        self._replication.expect(message)

    def expect_member(self, sender: int) -> None:
        """Raise FrameError unless ``sender`` is another member."""
        if sender not in self._members or sender == self._replication.node_id:
            raise FrameError(f"{sender:#x} is no other member of this cluster: do all nodes have the same --peers?")

    # Names and addresses.

    def note_name(self, node_id: int, name: str) -> None:
        """A node has said what it is called; the names of a few that are no members yet are kept."""
        own_id = self._replication.node_id
        strangers = [known for known in self._names if known not in self._members and known != own_id]
        if len(strangers) >= MAX_GUESTS:
            del self._names[strangers[0]]
        self._names[node_id] = name[:MAX_NAME]

    def name_of(self, node_id: int) -> str:
        """The name of a member that has introduced itself; else empty."""
        return self._names.get(node_id, "") if node_id in self._members else ""

    def address_of(self, node_id: int) -> str:
        """The base endpoint of a member; empty for any other node."""
        return self._claimed.get(node_id) or self._known().get(node_id, "")

    def is_closing(self, node_id: int) -> bool:
        """Whether another member has said that it is about to end."""
        return node_id in self._closing

    def addresses(self) -> list[str]:
        """The base endpoints of all members by the configuration, in their order."""
        return list(self._known().values())

    def table(self) -> list[Member]:
        """All members with what a leader knows of each, in the order of their addresses."""
        return list(self._rows())

    def _rows(self) -> Iterable[Member]:
        replication = self._replication
        followers = replication.followers
        configuration = replication.configuration
        for node_id, address in self._known().items():
            host, port = parse_endpoint(address)
            known = followers.get(node_id)
            yield Member(
                node_id=node_id,
                name=self.name_of(node_id),
                host=host,
                port=port,
                match_index=known.match_index if known else 0,
                state=known.state.name.lower() if known else "",
                voter=node_id in configuration.voters,
            )
