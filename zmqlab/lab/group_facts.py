"""What is known of each of several Raft groups, and what is wrong with them: for the status line.

A cluster with *shards* is served group by group. While one elects a leader, the others answer: that is *degraded*, and
the line says which groups wait. A group is *out* if no majority of its voters runs.

Rules: values and pure functions, without clock and sockets, as all of :mod:`zmqlab.lab.service_status`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from zmqlab.client.roster import leader_of, newest_of
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wording import agreeing, numbered

SHOWN = 4
"""Groups that are named; of more only the count is told."""
LONG_MS = 10_000.0
"""A longer wait is told in seconds."""
NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    text: str
    since_ns: int = 0
    """On the wall clock; 0: not known."""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """One group."""

    number: int
    leader: str
    """The node that leads it, of those that run and are heard; empty: none does, as far as is known."""
    voters: int
    """0: no node has told of it yet."""
    up: int
    """Of the voters, those that run, as far as is known."""
    awaited: tuple[str, ...] = ()
    """The nodes for which it keeps old members, by its leader's word: base endpoints where none answers."""

    @property
    def spare(self) -> int:
        """How many more of its voters may fail; below 0: it has no majority."""
        return self.up - (self.voters // 2 + 1)

    @property
    def is_out(self) -> bool:
        """Whether it can acknowledge no order."""
        return self.voters > 0 and self.spare < 0


def group_of_statuses(
    number: int, told: Mapping[str, NodeStatus], up: Collection[str], heard: Collection[str]
) -> GroupFacts:
    """What is known of one group.

    Args:
        number: of the group.
        told: its newest status at each node that holds it, also of nodes that have died since, by name.
        up: the nodes that can take part, as far as is known.
        heard: the nodes whose statuses are not old.
    """
    newest = newest_of(told.values())
    voters = [member.name for member in newest.members if member.voter] if newest is not None else []
    if not all(voters):  # the node has not heard all names yet
        voters = list(told)
    leader = leader_of({name: status for name, status in told.items() if name in up and name in heard})
    briefs = told[leader].groups if leader else []
    awaited = tuple(place for brief in briefs if brief.number == number for place in brief.awaited)
    return GroupFacts(number, leader or "", len(voters), sum(name in up for name in voters), awaited)


def said_of_leaders(groups: Sequence[GroupFacts]) -> str:
    """``all 8 groups have a leader``."""
    led = sum(bool(each.leader) for each in groups)
    return how_many_are_led(led, len(groups))


def how_many_are_led(led: int, groups: int) -> str:
    """``all 8 groups have a leader``, ``7 of 8 groups have a leader``."""
    return f"all {led} groups have a leader" if led == groups else f"{led} of {groups} groups have a leader"


def findings_of_groups(groups: Sequence[GroupFacts]) -> Iterable[Finding]:
    """What is wrong with the groups by the nodes' word, the worst first."""
    out = [each.number for each in groups if each.is_out]
    if out:
        yield Finding(f"{_named(out)} {_has(out)} no majority", advice="restart its nodes")
    leaderless = [each.number for each in groups if not each.leader and not each.is_out and each.voters]
    if leaderless:
        yield Finding(f"{_named(leaderless)} {_has(leaderless)} no leader")
    for place in dict.fromkeys(place for each in groups for place in each.awaited):
        waiting = [each.number for each in groups if place in each.awaited]
        at = place.removeprefix("tcp://")
        waits = agreeing(len(waiting), "waits", "wait")
        yield Finding(f"{_named(waiting)} {waits} for a node at {at}, which is silent", advice=f"start or remove {at}")


def findings_of_clients(
    clients: Iterable[Sequence[LoadMetrics]], groups: Sequence[GroupFacts], patience_ms: float
) -> Iterable[Finding]:
    """Of which groups load clients are owed answers for longer than ``patience_ms``, while others answer."""
    waiting: dict[int, int] = {}
    longest_ms = 0.0
    for client in clients:
        newest = client[-1]
        for share in newest.groups:
            if share.silence_ms > patience_ms:
                since_ns = newest.time_ns - round(share.silence_ms * NS_PER_MS)
                waiting[share.group] = min(waiting.get(share.group, since_ns), since_ns)
                longest_ms = max(longest_ms, share.silence_ms)
    if waiting:
        numbers = sorted(waiting)
        verb = agreeing(len(numbers), "gives", "give")
        lasts = f"{longest_ms:,.0f} ms" if longest_ms < LONG_MS else f"{longest_ms / 1_000:,.0f} s"
        why = ", without a majority" if waiting.keys() <= {each.number for each in groups if each.is_out} else ""
        yield Finding(f"{_named(numbers)} {verb} no answer for {lasts}{why}", min(waiting.values()))


def _named(numbers: Sequence[int]) -> str:
    if len(numbers) > SHOWN:
        return f"{len(numbers)} groups"
    return numbered("group", numbers)


def _has(numbers: Sequence[int]) -> str:
    return agreeing(len(numbers), "has", "have")
