"""Which nodes a client talks to and which one leads: a pure state machine, fed with the nodes' own statuses.

Each :class:`~zmqlab.wire.node_status.NodeStatus` lists the members of the cluster as that node knows them. A node that
is behind, cut off or removed knows an old membership. Therefore:

- The membership of the most advanced status counts, by (commit index, term). A membership is an entry of the log, and a
  commit index never falls, so the node with the higher commit index knows the later membership. The term decides only
  between equal commit indexes. It can't come first: a learner that has just been told of a term has not received the
  entries of that term yet.
- A status of a node that is not a member by its own account is ignored.

The roster wants a connection to every voter. It wants none to learners: they answer late, because they still apply the
log. A voter is recognized by its endpoint, or by its node id where the caller spelled the endpoint differently
(``localhost``, a forwarded port). An endpoint that the caller gave is therefore kept while no node has answered there
and no member has named it: it may be such another spelling.

A client must not lose its last good connection, and must not be left with a stale node alone. So the roster connects to
a new node as soon as one status names it, but leaves a node only when a majority of the latest voters is connected and
has told its status. Members change one at a time (Raft thesis, 4.1). Such a majority therefore shares a node with every
majority that agreed on a later membership, and that shared node would have told of it.

A client can lose track of the cluster nevertheless: all nodes that it knows are gone or removed, or all of them are cut
off and know only each other. So the roster looks further in three cases:

- For ``FALLBACK_MS`` no connected node has been a member by its own account.
- For ``LEADERLESS_MS`` no connected node has been served: a *served* node is a voter by its own account and knows a
  leader. A node that was removed while it was cut off still takes itself for a voter. It stands for election in vain,
  so it knows no leader. Two kinds of nodes do not count, because they never stand for election and so remember a
  leader that has removed them: learners, and nodes that were told of their removal by others (role ``removed``).
- The owner says that the client is lost: it asked and got no answer. The second case is for a client that has nothing
  to ask.

It then tries the endpoints that the caller gave, and all members that any connected node names. Learners are among them
here: a node that missed its own removal may name the nodes that took over as learners only.

*Shards.* A roster is of one group: it asks for the status of that group, and a status of another one does not count
here, neither for who leads nor for the members. A node that answers with one does not hold the group. It still knows
other nodes: those of its cluster's roster (:class:`zmqlab.placement.Roster`), and the members of its own groups. All of
those are tried until the group's members are found.

All connected nodes are asked for their status once a second. They are asked sooner when a connection comes or goes,
when no leader is known to a client that sends to the leader, when at most half of the nodes can be reached, and when
:meth:`Roster.hurry` asks for it.

A node's *index* belongs to its endpoint for good. Indexes only grow, so that arrays by node only grow; several rosters
may share one :class:`Numbering`.

Rules: no socket and no clock. Connections are made by a function that the owner hands in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from zmqlab import placement
from zmqlab.endpoints import client_endpoint_of
from zmqlab.wire import control
from zmqlab.wire.frames import QUERY
from zmqlab.wire.node_status import NodeStatus

if TYPE_CHECKING:
    from zmqlab.client.retries import OpenRequest, ResponseClock

K = TypeVar("K")

NS_PER_MS = 1_000_000
FALLBACK_MS = 500
"""Twice the longest pause between two attempts to connect: a cluster that restarts is found where it was."""
LEADERLESS_MS = 2_000
"""Several times a failover, and two rounds of questions: one election in between is not taken for a loss."""
WIDEN_MS = 1_000
"""Between two looks further: what was found needs a connection and an answer first."""
STATUS_MS = 1_000
"""Between two rounds of status questions when nothing happens."""
STATUS_MINORITY_MS = 250
"""The same while at most half of the nodes are connected: other nodes may have taken their places."""
STATUS_SOON_MS = 50
"""The shortest pause between two rounds: a quarter of an election."""


def leader_of(statuses: Mapping[K, NodeStatus]) -> K | None:
    """The one rule that says which node leads: of the nodes that say that they lead, the node with the highest term.

    A deposed leader that is cut off still says that it leads, but in a lower term. What a status says about *another*
    node (``leader_id``) does not count.

    Args:
        statuses: the statuses by any key: a name, an endpoint, an index.

    Returns:
        The key of the leader's status, or None if no node says that it leads.
    """
    leaders = {key: status.term for key, status in statuses.items() if status.role == "leader"}
    return max(leaders, key=leaders.__getitem__) if leaders else None


def progress_of(status: NodeStatus) -> tuple[int, int]:
    """How far a node is, comparable: (commit index, term)."""
    return status.commit_index, status.term


def is_member(status: NodeStatus) -> bool:
    """Whether the node belongs to the cluster by its own account."""
    return status.node_id in [member.node_id for member in status.members]


def is_served(status: NodeStatus) -> bool:
    """Whether the node votes by its own account and knows a leader, itself included; see the module."""
    knows_leader = status.leader_id != 0 and status.role != "removed"
    return knows_leader and any(each.voter and each.node_id == status.node_id for each in status.members)


def newest_of(statuses: Iterable[NodeStatus]) -> NodeStatus | None:
    """The status whose membership counts; one of a node that is no member only if there is no other."""
    return max(statuses, key=lambda status: (is_member(status), progress_of(status)), default=None)


def nodes_told(status: NodeStatus) -> tuple[str, ...]:
    """Where clients reach all nodes that a status of a cluster with shards names, whichever groups they hold.

    The founders are named where it has no roster: some of them may have gone since.
    """
    nodes: Iterable[str] = (
        placement.Roster.decode(status.roster).nodes if status.roster else [at for _, at in status.founders]
    )
    places = [*nodes, *(at for brief in status.groups for at in brief.members)]
    return tuple(client_endpoint_of(at) for at in dict.fromkeys(places))


class Wire(Protocol):
    """One connection to one node, as the session sees it. Neither method blocks."""

    def send(self, frame: bytes) -> bool:
        """Hand over a frame; False if there is no connection or its queue is full."""

    def close(self) -> None:
        """Close the connection; what is queued may get lost."""


@dataclass(slots=True, eq=False, repr=False)
class Contact:
    """One node that a client talks to, and all that the client knows of it."""

    index: int
    endpoint: str
    """Where the node listens for clients, as in ``tcp://127.0.0.1:5002``."""
    may_be_alias: bool
    """Whether the caller gave this endpoint and no member has named it."""
    wire: Wire = field(init=False)
    clock: ResponseClock = field(init=False)
    """Its response time and the retry time-out that follows from it."""
    connected: bool = False
    """Whether the connection stands, as its owner last said."""
    status: NodeStatus | None = None
    """The latest answer to a status question over the present connection."""
    is_served: bool = False
    """Whether the node votes by that answer and knows a leader (:func:`is_served`)."""
    node_id: int = 0
    """The node's id by its own word, kept over disconnections; 0 until it has said so."""
    outstanding: dict[int, OpenRequest] = field(default_factory=dict)
    """Open requests that were last sent here, by number, in the order of their sending."""
    heard_ns: int = 0
    """When a frame of this node last came in."""
    progress_ns: int = 0
    """When this node last answered a request of ours."""
    answered_sent_ns: int = 0
    """The latest time of sending among the requests whose first copy this node answered."""
    avoided_until_ns: int = 0
    """No request is sent to it before, if another node takes requests: it was silent or stuck."""
    is_stuck: bool = False
    """Why it is avoided: it talks but does not answer requests. Then only an answer to a request ends that."""
    busy_until_ns: int = 0
    """It said BUSY or CLOSING, or its queue is full: no request is sent to it before."""
    holds_group: bool = True
    """False: it has said that it does not hold the group that the client wants."""
    busy_level: int = 0
    """How many times in a row it said BUSY; 0 after any other answer."""


class Numbering:
    """Endpoints by index, in the order in which they became known."""

    def __init__(self) -> None:
        self.endpoints: list[str] = []
        self._indexes: dict[str, int] = {}

    def index_of(self, endpoint: str) -> int:
        """The endpoint's index; a new endpoint gets the next one."""
        index = self._indexes.setdefault(endpoint, len(self.endpoints))
        if index == len(self.endpoints):
            self.endpoints.append(endpoint)
        return index


class Roster:
    """The nodes that one client talks to."""

    def __init__(
        self,
        welcome: Callable[[Contact], None],
        endpoints: Sequence[str],
        *,
        nonces: random.Random,
        fallbacks: Sequence[str] = (),
        numbering: Numbering | None = None,
        wants_leader: bool = False,
        group: int = 0,
    ) -> None:
        """Begin with the nodes at ``endpoints``.

        Args:
            welcome: called with each new contact; it connects, and sets ``wire`` and ``clock``.
            endpoints: where the caller knows nodes; at least one.
            nonces: draws the numbers by which answers to our own questions are recognized.
            fallbacks: further endpoints, tried when the client has lost track of the cluster.
            numbering: gives nodes their indexes; rosters that share one agree about them.
            wants_leader: whether to ask often while no leader is known.
            group: the Raft group whose members are wanted.
        """
        assert endpoints, "at least one endpoint"
        self.numbering = numbering or Numbering()
        self.contacts: list[Contact] = []
        """The nodes that are talked to; their endpoints differ."""
        self.changes = 0
        """How often :attr:`contacts` has changed; never falls."""
        self.leader: int | None = None
        """Index of the node that leads, by :func:`leader_of`; None while none is known."""
        self._welcome = welcome
        self._group = group
        self._hints: tuple[str, ...] = ()
        """Where nodes are that may hold the group, by the word of nodes that do not."""
        self._given = tuple(dict.fromkeys([*endpoints, *fallbacks]))
        self._newest = (-1, -1)
        """:func:`progress_of` the status that the membership is from; never falls."""
        self._voters: dict[int, str] = {}
        """Node id -> endpoint of each voter of that membership; empty until one is known."""
        self._unsettled = False
        """Whether :attr:`contacts` may differ from what is wanted."""
        self._alone_since_ns = 0
        """Since when no connected node has been a member, as far as is known; 0 while one is."""
        self._unserved_since_ns = 0
        """Since when no connected node has been served, as far as is known; 0 while one is."""
        self._widen_due_ns = 0
        """No look further before."""
        self._wants_leader = wants_leader
        self._leader_term = -1
        """The highest term in which a node said that it leads; statuses of earlier terms name no leader."""
        self._first_nonce = nonces.getrandbits(62)
        self._asked = 0
        """Rounds of questions so far; the nonce of a round is ``_first_nonce`` plus its number."""
        self._asked_ns = 0
        self._due_ns = 0
        """When the next round is due; at most STATUS_MS after the last one."""
        for endpoint in dict.fromkeys(endpoints):
            self._join(endpoint)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where the nodes are that are talked to."""
        return tuple(contact.endpoint for contact in self.contacts)

    @property
    def connected(self) -> list[bool]:
        """By index: whether a connection stands. False for a node that was left."""
        flags = [False] * len(self.numbering.endpoints)
        for contact in self.contacts:
            flags[contact.index] = contact.connected
        return flags

    # Connections.

    def note_connected(self, contact: Contact) -> None:
        """The connection to this node stands."""
        contact.connected = True
        self.hurry(STATUS_SOON_MS)

    def note_disconnected(self, contact: Contact) -> None:
        """The connection to this node is lost, so that its last status may be out of date.

        A node that is known to be elsewhere was kept as a voter under another spelling. It is so no more: it has moved.
        """
        contact.connected = contact.is_served = False
        contact.status = None
        if contact.endpoint not in self._voters.values():
            self._unsettled = True
        self._follow_leader()
        self.hurry(STATUS_SOON_MS)

    # Questions and their answers.

    def hurry(self, pause_ms: float) -> None:
        """Ask again at the latest so long after the last round."""
        self._due_ns = min(self._due_ns, self._asked_ns + round(max(pause_ms, STATUS_SOON_MS) * NS_PER_MS))

    def ask(self, now_ns: int) -> None:
        """Ask all connected nodes for their status, if it is time to."""
        if now_ns < self._due_ns:
            return
        connected = [contact for contact in self.contacts if contact.connected]
        if not connected:
            return
        self._asked += 1
        frame = control.encode(QUERY, control.StatusQuery(self._first_nonce + self._asked), self._group)
        for contact in connected:
            contact.wire.send(frame)  # a question that gets lost is asked again
        self._asked_ns = now_ns
        self._due_ns = now_ns + STATUS_MS * NS_PER_MS
        if 2 * len(connected) <= len(self.contacts):
            self.hurry(STATUS_MINORITY_MS)
        if self._wants_leader and self.leader is None:
            self.hurry(STATUS_SOON_MS)

    def take_answer(self, contact: Contact, answer: control.Answer) -> None:
        """A node's answer to a question; an answer to a question that this roster did not ask is ignored."""
        if isinstance(answer, control.StatusAnswer) and 0 < answer.nonce - self._first_nonce <= self._asked:
            self._take_status(contact, answer.status)

    def _take_status(self, contact: Contact, status: NodeStatus) -> None:
        self._unsettled = self._unsettled or contact.node_id != status.node_id
        contact.node_id = status.node_id
        contact.holds_group = status.group == self._group
        contact.status = status if contact.holds_group else None
        contact.is_served = contact.holds_group and is_served(status)
        if not contact.holds_group:
            self._hints = nodes_told(status) if not self._voters else ()
            return
        self._follow_leader()
        progress = progress_of(status)
        if progress < self._newest or not is_member(status):
            return
        voters = {each.node_id: each.client_endpoint for each in status.members if each.voter}
        if voters:
            self._newest = progress
            self._unsettled = self._unsettled or voters != self._voters
            self._voters = voters

    def _follow_leader(self) -> None:
        statuses = {each.index: each.status for each in self.contacts if each.status is not None}
        found = leader_of({key: status for key, status in statuses.items() if status.term >= self._leader_term})
        if found is not None:
            self._leader_term = statuses[found].term
        elif self._wants_leader and self.leader is not None:
            self.hurry(STATUS_SOON_MS)
        self.leader = found

    # Members.

    def follow(self, now_ns: int, is_lost: bool = False) -> list[Contact]:
        """Connect to new nodes.

        Args:
            now_ns: the time.
            is_lost: whether the nodes that are talked to do not answer requests.

        Returns:
            The contacts that were left, for the caller to close.
        """
        before = len(self.contacts)
        if self._has_lost_track(now_ns) or is_lost:
            self._widen(now_ns)
        for endpoint in self._hints:
            self._join(endpoint)
        self._hints = ()
        left = self._settle() if self._unsettled and self._voters else []
        if left:
            self._follow_leader()
        if left or len(self.contacts) != before:
            self.changes += 1
        return left

    def _has_lost_track(self, now_ns: int) -> bool:
        """Whether no connected node has been a member for a while, or none has been served for a longer one."""
        is_alone = is_unserved = True
        for contact in self.contacts:
            status = contact.status
            if not contact.connected or not contact.holds_group:
                continue
            if contact.is_served:  # a voter is a member
                is_alone = is_unserved = False
                break
            if status is None or is_member(status):
                is_alone = False  # a node that has not told counts as a member
        self._alone_since_ns = (self._alone_since_ns or now_ns) if is_alone else 0
        self._unserved_since_ns = (self._unserved_since_ns or now_ns) if is_unserved else 0
        return (is_alone and now_ns - self._alone_since_ns > FALLBACK_MS * NS_PER_MS) or (
            is_unserved and now_ns - self._unserved_since_ns > LEADERLESS_MS * NS_PER_MS
        )

    def _widen(self, now_ns: int) -> None:
        """Connect to everything that may be a node."""
        if now_ns < self._widen_due_ns:
            return
        self._widen_due_ns = now_ns + WIDEN_MS * NS_PER_MS
        told = [member for each in self.contacts if each.status is not None for member in each.status.members]
        for endpoint in (*self._given, *(member.client_endpoint for member in told)):
            self._join(endpoint)

    def _join(self, endpoint: str) -> None:
        if endpoint not in self.endpoints:
            contact = Contact(self.numbering.index_of(endpoint), endpoint, endpoint in self._given)
            self._welcome(contact)
            self.contacts.append(contact)

    def _settle(self) -> list[Contact]:
        for contact in self.contacts:
            contact.may_be_alias = contact.may_be_alias and contact.endpoint not in self._voters.values()
        kept = wanted(self.contacts, self._voters)
        left = [contact for contact in self.contacts if contact not in kept]
        found = {contact.node_id for contact in kept if contact.connected}
        self._unsettled = bool(left) and 2 * len(found & self._voters.keys()) <= len(self._voters)
        if self._unsettled:
            left = []  # a majority has yet to confirm this membership; the next call looks again
        self.contacts = [contact for contact in self.contacts if contact not in left]
        for node_id, endpoint in self._voters.items():  # also where a node was that is left
            if node_id not in found:
                self._join(endpoint)
        return left


def wanted(contacts: Sequence[Contact], voters: Mapping[int, str]) -> list[Contact]:
    """The contacts to keep when ``voters`` (node id -> endpoint) make up the cluster; see the module."""
    endpoints = set(voters.values())
    kept: list[Contact] = []
    found: set[int] = set()
    for contact in contacts:
        if contact.connected and contact.node_id in found:
            continue  # the same node under another spelling
        unheard = contact.may_be_alias and not contact.node_id
        same_node = contact.node_id in voters and (contact.connected or contact.may_be_alias)
        if contact.endpoint in endpoints or same_node or unheard:
            kept.append(contact)
            if contact.connected and contact.node_id:
                found.add(contact.node_id)
    return kept
