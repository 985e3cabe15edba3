"""Where the replicas of a cluster with shards are, and whether that is where they are to be; as its nodes say.

Nodes come and go by one agreed roster (:mod:`zmqlab.engine.placing`), and each group follows by itself. So a change of
the nodes is done when the newest roster that any node tells has it, and every group's leader names the members that
this roster wants, all of which take part. One question to each node tells all of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from zmqlab.client import ask
from zmqlab.endpoints import client_endpoint_of, parse_endpoint
from zmqlab.errors import ClusterError
from zmqlab.placement import Roster
from zmqlab.wire.node_status import GroupBrief, Member, NodeStatus

ANSWER_TIMEOUT_S = 0.5
POLL_S = 0.05
VOTING = ("leader", "follower", "candidate", "pre_candidate")


class Placed(NamedTuple):
    """What the nodes have told just now."""

    roster: Roster
    """The newest that one of them knows."""
    told: Mapping[str, NodeStatus]
    """By base endpoint."""

    def members(self) -> dict[str, Member]:
        """All nodes of the roster, by base endpoint. One that does not answer has no name."""
        found = {}
        for address in self.roster.nodes:
            host, port = parse_endpoint(address)
            status = self.told.get(address)
            node_id, name = (status.node_id, status.name) if status is not None else (0, "")
            found[address] = Member(node_id=node_id, name=name, host=host, port=port)
        return found

    def missing(self) -> str:
        """What a group lacks of the members that the roster wants; empty if all have them."""
        for group, places in enumerate(self.roster.groups):
            briefs = dict(self._briefs(group))
            leaders = [brief for brief in briefs.values() if brief.role == "leader"]
            if not leaders:
                return f"group {group} has no leader"
            leader = max(leaders, key=lambda brief: brief.term)
            learning = [at for at in places if at in self.told and (at not in briefs or briefs[at].role not in VOTING)]
            if sorted(leader.members) != sorted(places):
                said = f"group {group} is at {_listed(leader.members)}, and is to be at {_listed(places)}"
                return said + waits_for(leader)
            if learning:
                return f"{_listed(learning)} does not vote in group {group} yet"
        return ""

    def _briefs(self, group: int) -> Iterable[tuple[str, GroupBrief]]:
        return ((at, each) for at, status in self.told.items() for each in status.groups if each.number == group)


def waits_for(leader: GroupBrief) -> str:
    """What else a message says of a group whose leader waits for nodes that are silent; empty if it waits for none."""
    if not leader.awaited:
        return ""
    silent = _listed(leader.awaited)
    return f", but no node answers at {silent}: start it again, or take it out (zmqlab remove {silent})"


def _listed(places: Iterable[str]) -> str:
    return ", ".join(place.removeprefix("tcp://") for place in sorted(places, key=parse_endpoint))


def look(endpoints: Iterable[str]) -> Placed | None:
    """Ask the nodes at these client endpoints; None: none tells of a roster."""
    told = {status.address: status for status in ask.statuses(endpoints, ANSWER_TIMEOUT_S).values() if status.roster}
    rosters = [Roster.decode(status.roster) for status in told.values()]
    return Placed(max(rosters, key=lambda each: each.version), told) if rosters else None


def with_all_nodes(endpoints: Sequence[str]) -> tuple[str, ...]:
    """These client endpoints, and those of all other nodes of their cluster, if it has shards: some of them may hold no
    replica of the group that is asked for."""
    placed = look(endpoints)
    others = map(client_endpoint_of, placed.roster.places) if placed is not None else ()
    return tuple(dict.fromkeys((*endpoints, *others)))


def all_nodes(endpoints: Iterable[str]) -> dict[str, Member]:
    """All nodes of the cluster with shards to which the nodes at these client endpoints belong, by base endpoint.

    Raises:
        ClusterError: none of them answers.
    """
    placed = look(endpoints)
    placed = look(map(client_endpoint_of, placed.roster.nodes)) if placed is not None else None
    if placed is None:
        raise ClusterError("no node tells which nodes its cluster has: does one run at these endpoints?")
    return placed.members()


def wait_until_placed(
    endpoints: Callable[[], Sequence[str]],
    address: str,
    is_there: bool,
    deadline: float,
    check: Callable[[], None] = lambda: None,
) -> Placed:
    """Return when the cluster has a node at ``address``, or has none there, and all replicas are where they belong.

    Args:
        endpoints: where clients reach the nodes, asked for anew at each try.
        address: a base endpoint.
        is_there: whether a node is to be there. Without one, its replicas are closed, too, if it still runs.
        deadline: on the monotonic clock, in seconds.
        check: called between two tries; may raise.

    Raises:
        ClusterError: it takes too long; the message says what is missing.
    """
    missing = "no node answers"
    while True:
        placed = look(endpoints())
        if placed is not None:
            missing = placed.missing()
            if (address in placed.roster.nodes) != is_there:
                missing = f"the cluster has {'not taken in' if is_there else 'still'} the node at {address}"
            elif is_there and address not in placed.told:
                missing = f"the node at {address} does not answer"
            elif not is_there and address in placed.told and placed.told[address].groups:
                missing = f"the node at {address} still holds replicas"
            if not missing:
                return placed
        check()
        if time.monotonic() > deadline:
            raise ClusterError(
                f"the change of the nodes is not done in time: {missing}. zmqlab status shows all groups"
            )
        time.sleep(POLL_S)


def short_of(placed: Placed, address: str, running: Iterable[str]) -> str:
    """Which group would have no majority without the node at ``address``; empty: none.

    ``running``: base endpoints of the nodes that run.
    """
    others = set(running) - {address}
    for group in placed.roster.held_by(address):
        places = placed.roster.groups[group]
        left = sum(place in others for place in places)
        if left <= len(places) // 2:
            return f"group {group} would have {left} of its {len(places)} replicas"
    return ""
