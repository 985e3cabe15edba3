"""Which nodes there are: a client learns of new ones and forgets those that are gone, by itself.

Nodes say in each :class:`~zmqlab.wire.control.NodeStatus` who belongs to the cluster as they know it. A node that is
behind, cut off or removed knows an old membership, so that not every answer counts:

- The latest counts, by (commit index, term). A membership is an entry of the log, and a commit index never goes back:
  who knows of more committed entries knows the later membership. The term decides between equals only. It can't come
  first: a learner that has just been told of the term has yet to be told of the entries.
- A node that is no member by its own account has no say about the others.

Members that vote are wanted. Learners are not: they answer late, since they have the log yet to apply. A member is
known by its endpoint or, if the caller spelled that differently (``localhost``, a forwarded port), by its node id. What
the caller gave, nobody has answered at and no member has had as its endpoint stays, for it may be such a spelling.

It must never end up with nobody to talk to, nor with a stale node alone. Nodes are connected to on anybody's word, but
left only when a majority of the voters of the latest membership is connected and has told its status. Members change
one at a time, so that this majority shares a node with any that agreed on a later membership (Raft thesis, 4.1), which
would have told of it. When no connection stands for ``FALLBACK_MS``, the endpoints that the caller gave are
tried again beside those that are known.

A node's *index* belongs to its endpoint for good. Indexes only grow, so that arrays by node only grow; several rosters
may share one numbering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import zmq

from zmqlab.load.connection import Configure, Connection
from zmqlab.load.waiting import Waiter
from zmqlab.wire import control

NS_PER_MS = 1_000_000
FALLBACK_MS = 500
"""Twice the longest pause between two tries of a connection: a cluster that is restarted is found where it was."""


class Numbering:
    """Endpoints by index, in the order in which they became known."""

    def __init__(self) -> None:
        self.endpoints: list[str] = []
        self._indexes: dict[str, int] = {}

    def index_of(self, endpoint: str) -> int:
        """Its index, given to it now if it has none."""
        index = self._indexes.setdefault(endpoint, len(self.endpoints))
        if index == len(self.endpoints):
            self.endpoints.append(endpoint)
        return index


class Roster:
    """The connections of one client. Owned by one thread."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoints: Sequence[str],
        configure: Configure | None = None,
        numbering: Numbering | None = None,
        fallbacks: Sequence[str] = (),
    ) -> None:
        """``fallbacks`` are tried when none of ``endpoints`` is there, nor any node that was learned of."""
        self._context = context
        self._configure = configure
        self.numbering = numbering or Numbering()
        self._given = tuple(dict.fromkeys([*endpoints, *fallbacks]))
        self.nodes: list[Connection] = []
        """To talk to; their endpoints differ."""
        self._newest = (-1, -1)
        """(commit index, term) of the status that the membership is from."""
        self._voters: dict[int, str] = {}
        """Node id -> endpoint of each voter of that membership; empty until one is known."""
        self._unsettled = False
        """Whether :attr:`nodes` may differ from what is wanted."""
        self._alone_since_ns = 0
        """Since when no connection has stood; 0 while one does."""
        for endpoint in endpoints:
            self._join(endpoint)
        self.waiter = Waiter([socket for node in self.nodes for socket in node.sockets])
        """Waits for any of :attr:`nodes`."""
        self.changes = 0
        """How often :attr:`nodes` has changed."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where the nodes are that are talked to."""
        return tuple(node.endpoint for node in self.nodes)

    @property
    def connected(self) -> list[bool]:
        """By index: whether a connection stands. False for a node that was left."""
        flags = [False] * len(self.numbering.endpoints)
        for node in self.nodes:
            flags[node.index] = node.connected
        return flags

    def find(self, index: int) -> Connection | None:
        """The node of that index, if it is still talked to."""
        return next((node for node in self.nodes if node.index == index), None)

    def take_status(self, node: Connection, status: control.NodeStatus) -> None:
        """What ``node`` says of the cluster; :meth:`follow` acts on it."""
        self._unsettled = self._unsettled or node.node_id != status.node_id
        node.node_id = status.node_id
        progress = (status.commit_index, status.term)
        if progress < self._newest or all(member.node_id != status.node_id for member in status.members):
            return
        voters = {each.node_id: each.client_endpoint for each in status.members if each.voter}
        if voters:
            self._newest = progress
            self._unsettled = self._unsettled or voters != self._voters
            self._voters = voters

    def follow(self, now_ns: int) -> list[Connection]:
        """Connect to nodes that are new; those that are no longer talked to are returned, for the caller to close."""
        before = len(self.nodes)
        if any(node.connected for node in self.nodes):
            self._alone_since_ns = 0
        elif not self._alone_since_ns:
            self._alone_since_ns = now_ns
        elif now_ns - self._alone_since_ns > FALLBACK_MS * NS_PER_MS:
            for endpoint in self._given:
                self._join(endpoint)
        left = self._settle() if self._unsettled and self._voters else []
        if left or len(self.nodes) != before:
            self.waiter = Waiter([socket for node in self.nodes for socket in node.sockets])
            self.changes += 1
        return left

    def close(self) -> None:
        """Close all connections."""
        for node in self.nodes:
            node.close()

    def _join(self, endpoint: str) -> None:
        if endpoint not in self.endpoints:
            index, given = self.numbering.index_of(endpoint), endpoint in self._given
            self.nodes.append(Connection(self._context, index, endpoint, self._configure, may_be_alias=given))

    def _settle(self) -> list[Connection]:
        for node in self.nodes:
            node.may_be_alias = node.may_be_alias and node.endpoint not in self._voters.values()
        kept = wanted(self.nodes, self._voters)
        left = [node for node in self.nodes if node not in kept]
        spoken_for = {node.node_id for node in kept if node.connected}
        for node_id, endpoint in self._voters.items():
            if node_id not in spoken_for:
                self._join(endpoint)
        self._unsettled = bool(left) and 2 * len(spoken_for & self._voters.keys()) <= len(self._voters)
        if self._unsettled:
            return []  # a majority has yet to agree; looked at again with the next turn
        self.nodes = [node for node in self.nodes if node not in left]
        return left


def wanted(nodes: Sequence[Connection], voters: Mapping[int, str]) -> list[Connection]:
    """Those of ``nodes`` that are worth keeping when ``voters`` make up the cluster; see the module."""
    endpoints = set(voters.values())
    kept: list[Connection] = []
    spoken_for: set[int] = set()
    for node in nodes:
        if node.connected and node.node_id in spoken_for:
            continue  # the same node under another spelling
        unheard = node.may_be_alias and not node.node_id
        same_node = node.node_id in voters and (node.connected or node.may_be_alias)
        if node.endpoint in endpoints or same_node or unheard:
            kept.append(node)
            if node.connected and node.node_id:
                spoken_for.add(node.node_id)
    return kept
