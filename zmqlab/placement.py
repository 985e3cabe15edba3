"""Which Raft group a symbol belongs to, which nodes hold each group, and which of them should lead it.

A cluster with *shards* runs several Raft groups. Every symbol belongs to one of them for good (:func:`group_of`), and
so an order touches one group and nothing spans two. A node holds copies of some groups and leads some of those.

Rules: pure functions, without clock and chance. Every process gives the same answer for the same arguments, whatever
its version of Python, because founders place groups without asking each other.

*Symbols.* Python's ``hash`` differs from process to process. A remainder of the symbol's code would put symbols that
differ in one letter into few groups. So the code goes through the finalizer of MurmurHash3 (Austin Appleby, public
domain), in which each bit of the input changes each bit of the result with a chance of about one half.

*Groups.* A *placement* is a mapping from the number of a group to its members. The member that should lead stands
first: it is the *preferred leader*. A placement is balanced to within one in two ways: how many groups a node holds,
and how many it should lead. Members that already share few groups are put together, so that the groups of a node that
dies are spread over all others.

*Changes.* :func:`follow` goes from one placement to the next as nodes come and go. A member stays where it is unless
the balance demands that it goes, because a move costs a copy of a group's whole state. :func:`place` is the same
function, begun with no members anywhere.

*Rosters.* A :class:`Roster` is all of this as one value: the nodes of a cluster, and the placement of its groups on
them, by the nodes' addresses. Where founders placed the groups, version 0 is theirs. Each later version has one node
more, or one less, than the version before, and its placement follows from that one's. Or a node is at another address,
or another node at an address, and no replica moves. So the placement of a version is
the same whichever node has made it, as long as one log decides which version is the next.

Left out: how members are really changed, which is Raft's (:mod:`zmqlab.raft.configuration`), and which log decides
(:mod:`zmqlab.engine.placing`). Also weights: all groups and all nodes count alike.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from zmqlab.endpoints import is_address, parse_endpoint
from zmqlab.market.types import symbol_code
from zmqlab.settings import MAX_COPIES, MAX_SHARDS

Node = TypeVar("Node", bound=Hashable)

_BITS = (1 << 64) - 1
_FACTORS = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)
"""Of the 64-bit finalizer of MurmurHash3."""
_SHIFT = 33
PARTING_MAX = 4
"""Nodes that have left last and may still hold replicas. One leaves after the other, so that more are not needed."""
LEFT_MAX = 64
"""Nodes that have left and are known by their identities: several times as many as a cluster has."""


def group_of(symbol: str, shards: int) -> int:
    """The number of the group that the orders of ``symbol`` belong to.

    Raises:
        ValueError: ``symbol`` is not 1 to 8 characters of ``A-Z 0-9 . _ -``.
    """
    return group_of_code(symbol_code(symbol), shards)


@lru_cache(maxsize=4_096)
def group_of_code(code: int, shards: int) -> int:
    """:func:`group_of` for a symbol's code (:func:`zmqlab.market.types.symbol_code`), valid or not."""
    mixed = code & _BITS
    for factor in _FACTORS:
        mixed = (mixed ^ (mixed >> _SHIFT)) * factor & _BITS
    return (mixed ^ (mixed >> _SHIFT)) % shards


def place(nodes: Sequence[Node], shards: int, replication_factor: int = 0) -> dict[int, tuple[Node, ...]]:
    """The first placement of ``shards`` groups: the members of each, its preferred leader first.

    Args:
        nodes: in an order that all who place agree about; founders take that of their addresses.
        shards: how many groups there are.
        replication_factor: copies of each group; 0: every node holds every group.
    """
    return follow(dict.fromkeys(range(shards), ()), nodes, replication_factor)


def follow(
    placement: Mapping[int, Sequence[Node]], nodes: Sequence[Node], replication_factor: int = 0
) -> dict[int, tuple[Node, ...]]:
    """The placement for these ``nodes`` that differs little from ``placement``; see the module."""
    copies = min(replication_factor or len(nodes), len(nodes))
    there = set(nodes)
    members = {group: [node for node in kept if node in there][:copies] for group, kept in sorted(placement.items())}
    leaders = {group: kept[0] for group, kept in placement.items() if kept and kept[0] in members[group]}
    for group, kept in members.items():
        while len(kept) < copies:
            kept.append(_emptiest(nodes, members, group))
    _even_out(nodes, members, leaders)
    _share_leads(nodes, members, leaders)
    return {
        group: (leaders[group], *(node for node in kept if node != leaders[group])) if kept else ()
        for group, kept in members.items()
    }


def _emptiest(nodes: Sequence[Node], members: Mapping[int, Sequence[Node]], group: int) -> Node:
    """The node to take in next: it holds the fewest groups, then shares the fewest with those that are in."""

    def weight(node: Node) -> tuple[int, int, int]:
        held = [kept for kept in members.values() if node in kept]
        shared = sum(other in kept for kept in held for other in members[group])
        return len(held), shared, (nodes.index(node) - group) % len(nodes)

    return min((node for node in nodes if node not in members[group]), key=weight)


def _even_out(nodes: Sequence[Node], members: dict[int, list[Node]], leaders: dict[int, Node]) -> None:
    """Move copies from full nodes to empty ones until no two differ by more than one; led groups go last."""
    while nodes:
        held = {node: sum(node in kept for kept in members.values()) for node in nodes}
        full, empty = max(nodes, key=held.__getitem__), min(nodes, key=held.__getitem__)
        if held[full] - held[empty] <= 1:
            return
        movable = [group for group, kept in members.items() if full in kept and empty not in kept]
        group = min(movable, key=lambda each: leaders.get(each) == full)
        members[group][members[group].index(full)] = empty
        if leaders.get(group) == full:
            del leaders[group]


def _share_leads(nodes: Sequence[Node], members: Mapping[int, Sequence[Node]], leaders: dict[int, Node]) -> None:
    """Give every group a leader, and hand leads on until no two nodes differ by more than one."""

    def leads(node: Node) -> int:
        return sum(leader == node for leader in leaders.values())

    for group, kept in members.items():
        if kept and group not in leaders:
            leaders[group] = min(kept, key=lambda node: (leads(node), (nodes.index(node) - group) % len(nodes)))
    while True:
        busiest = max(nodes, key=leads, default=None)
        if busiest is None or not (chain := _chain(busiest, leads(busiest) - 2, members, leaders)):
            return
        leaders.update(chain)


def _chain(
    busiest: Node, leads_max: int, members: Mapping[int, Sequence[Node]], leaders: Mapping[int, Node]
) -> list[tuple[int, Node]]:
    """The shortest chain of handing on by which ``busiest`` leads one group less, and a node with at most ``leads_max``
    one more: (group, its new leader). Empty if there is none, or no need. A breadth-first search for an augmenting
    path, as in bipartite matching: nodes in between give one lead and get one."""
    came: dict[Node, list[tuple[int, Node]]] = {busiest: []}
    queue = [busiest]
    for giver in queue:
        for group, leader in leaders.items():
            for taker in members[group] if leader == giver else ():
                if taker not in came:
                    came[taker] = [*came[giver], (group, taker)]
                    queue.append(taker)
                    if sum(each == taker for each in leaders.values()) <= leads_max:
                        return came[taker]
    return []


def _ids_of(nodes: Sequence[str], known: Mapping[str, int]) -> tuple[int, ...]:
    ids = tuple(known.get(each, 0) for each in nodes)
    return ids if any(ids) else ()


class Gone(NamedTuple):
    """A node that was let go."""

    node_id: int
    life: int = 0
    """The life in which it asked for that itself, counted by its starts; 0: a person has had it removed. In a later
    life it may ask to come back, while the question of the former one is still under way."""


class Roster(NamedTuple):
    """Which nodes a cluster with shards has, and which groups each of them is to hold. See the module."""

    version: int
    """How many nodes have come, gone and moved since the founding."""
    nodes: tuple[str, ...]
    """Their base endpoints, in the order of :func:`zmqlab.endpoints.parse_endpoint`."""
    groups: tuple[tuple[str, ...], ...]
    """By number: where the members of each group are to be, its preferred leader first."""
    parting: tuple[str, ...] = ()
    """The last nodes that left, at most :data:`PARTING_MAX`, the newest last: they may still hold replicas."""
    ids: tuple[int, ...] = ()
    """The identity of each of ``nodes``, 0 where it is not known; empty: none is. By it a node that has moved keeps its
    place."""
    left: tuple[Gone, ...] = ()
    """The nodes that were let go and have not come back, at most :data:`LEFT_MAX`, the newest last; none of ``ids``. By
    it a node that was let go takes no other one's place."""

    @classmethod
    def of_founders(
        cls,
        addresses: Sequence[str],
        shards: int,
        replication_factor: int,
        ids: Mapping[str, int] = MappingProxyType({}),
    ) -> Roster:
        """Version 0. ``ids``: address -> identity, as far as they are known."""
        nodes = tuple(sorted(addresses, key=parse_endpoint))
        placement = place(nodes, shards, replication_factor)
        return cls(0, nodes, tuple(placement[group] for group in range(shards)), ids=_ids_of(nodes, ids))

    def with_node(self, address: str, replication_factor: int, node_id: int = 0) -> Roster:
        """The next version, with one node more."""
        parting = tuple(each for each in self.parting if each != address)
        return self._next((*self.nodes, address), parting, replication_factor, {address: node_id})

    def without_node(self, address: str, replication_factor: int, now_at: str = "", life: int = 0) -> Roster:
        """The next version, with one node less: the one whose place is at ``address``.

        Args:
            now_at: where it is, if that is elsewhere. Another node may have its place there, and is told then.
            life: see :class:`Gone`.
        """
        is_at, nodes = now_at or address, tuple(each for each in self.nodes if each != address)
        parting = (*(each for each in self.parting if each != is_at), *({is_at} - {*nodes}))[-PARTING_MAX:]
        gone = self.id_at(address)
        left = (*self.left, Gone(gone, life))[-LEFT_MAX:] if gone else self.left
        return self._replace(left=left)._next(nodes, parting, replication_factor, {})

    def moved(self, node_id: int, address: str) -> Roster:
        """The next version, in which the node ``node_id`` keeps its place, and that is at ``address``.

        The node that had this address has the other one: the two may have exchanged theirs. If it is at a third one, it
        will be moved there.
        """
        former = self.address_of(node_id)
        swap = {former: address, address: former}
        nodes = tuple(sorted((swap.get(each, each) for each in self.nodes), key=parse_endpoint))
        groups = tuple(tuple(swap.get(each, each) for each in members) for members in self.groups)
        ids = {swap.get(at, at): each for at, each in self.identities.items()}
        parting = tuple(each for each in self.parting if each != address)
        return Roster(self.version + 1, nodes, groups, parting, _ids_of(nodes, ids), self.left)

    def identified(self, node_id: int, address: str) -> Roster:
        """The next version, in which the node at ``address`` is another one, as after the loss of its disk."""
        ids = _ids_of(self.nodes, {**self.identities, address: node_id})
        left = tuple(each for each in self.left if each.node_id != node_id)
        return self._replace(version=self.version + 1, ids=ids, left=left)

    def without_return(self, node_id: int) -> Roster:
        """The next version, in which a person has had a node removed that asked for that itself before."""
        left = tuple(Gone(node_id) if each.node_id == node_id else each for each in self.left)
        return self._replace(version=self.version + 1, left=left)

    def _next(
        self, nodes: Sequence[str], parting: tuple[str, ...], replication_factor: int, ids: Mapping[str, int]
    ) -> Roster:
        nodes = tuple(sorted(nodes, key=parse_endpoint))
        placement = follow(dict(enumerate(self.groups)), nodes, replication_factor)
        groups = tuple(placement[group] for group in range(len(self.groups)))
        known = _ids_of(nodes, {**self.identities, **ids})
        left = tuple(each for each in self.left if each.node_id not in known)
        return Roster(self.version + 1, nodes, groups, parting, known, left)

    @property
    def identities(self) -> dict[str, int]:
        """Place -> the node there, as far as it is known."""
        return dict(zip(self.nodes, self.ids, strict=False))

    def address_of(self, node_id: int) -> str:
        """Where the node ``node_id`` has its place; empty: it has none, as far as identities are known."""
        return self.nodes[self.ids.index(node_id)] if node_id in self.ids else ""

    def place_of(self, node_id: int, address: str) -> str:
        """Where the node ``node_id``, which is at ``address``, has its place: there, if this version does not know it;
        empty if it was let go."""
        return self.address_of(node_id) or ("" if self.has_left(node_id) else address)

    def has_left(self, node_id: int) -> bool:
        """Whether the node ``node_id`` was let go, and has not come back."""
        return any(each.node_id == node_id for each in self.left)

    def last_life_of(self, node_id: int) -> int:
        """The life in which the node ``node_id`` has asked to be let go, and was; 0: in none, or it has come back."""
        return next((each.life for each in self.left if each.node_id == node_id), 0)

    def id_at(self, address: str) -> int:
        """The identity of the node whose place is at ``address``; 0: it is not known."""
        return self.identities.get(address, 0)

    def held_by(self, address: str) -> tuple[int, ...]:
        """The groups that the node at ``address`` is to hold."""
        return tuple([group for group, members in enumerate(self.groups) if address in members])

    @property
    def places(self) -> tuple[str, ...]:
        """Where replicas may be: at the nodes, and at those that have left last."""
        return (*self.nodes, *self.parting)

    @lru_cache(maxsize=64)  # noqa: B019 - a roster is a value, told again and again
    def encode(self) -> bytes:
        """Bytes that are the same for equal rosters: JSON, in which a node of a group is its place in ``nodes``."""
        groups = [[self.nodes.index(member) for member in members] for members in self.groups]
        known = (self.ids, self.left) if self.left else (self.ids,) if self.ids else ()
        parts = [self.version, self.nodes, groups, self.parting, *known]
        return json.dumps(parts, separators=(",", ":")).encode()

    @classmethod
    @lru_cache(maxsize=64)
    def decode(cls, data: bytes) -> Roster:
        """The roster in the bytes of :meth:`encode`.

        Raises:
            ValueError: these bytes are no roster.
        """
        try:
            version, nodes, groups, parting, *known = json.loads(data)
            members = tuple(tuple(nodes[at] for at in each) for each in groups)
            ids, left = [*known, [], []][:2]
            gone = tuple(Gone(*each) for each in left)
            roster = cls(version, tuple(nodes), members, tuple(parting), tuple(ids), gone)
            if type(version) is not int or not 0 <= version < 1 << 63 or not all(map(is_address, roster.places)):
                raise ValueError("its version or an address is none")
            in_order = sorted(set(roster.nodes), key=parse_endpoint)
            if not 0 < len(nodes) <= MAX_COPIES or list(roster.nodes) != in_order or len(roster.parting) > PARTING_MAX:
                raise ValueError("its nodes are too few, too many or out of order")
            known = [*(each for each in roster.ids if each), *(each.node_id for each in roster.left)]
            if len(roster.ids) not in (0, len(nodes)) or len(set(known)) < len(known) or len(roster.left) > LEFT_MAX:
                raise ValueError("its identities are not one for each node, or too many have left")
            numbers = (*roster.ids, *known, *(each.life for each in roster.left))
            if not all(type(each) is int and 0 <= each < 1 << 64 for each in numbers) or not all(known):
                raise ValueError("an identity or a life is none")
            if not 0 < len(groups) <= MAX_SHARDS or not all(0 < len({*each}) == len(each) for each in roster.groups):
                raise ValueError("a group has no member, or has one twice")
            if roster.encode() != data:
                raise ValueError("it is spelled in another way than a node does")
            return roster
        except (TypeError, LookupError, AttributeError, RecursionError, ValueError) as error:
            raise ValueError(f"{len(data)} bytes are no roster: {error}") from error
