"""Which groups a node of a cluster with shards holds, found out once, at its first start.

The founders meet as those of one group do (:class:`~zmqlab.engine.first_start.Assembly`). When all have met, each of
them knows all identities and addresses, and places the groups by itself (:func:`zmqlab.placement.place`), in the order
of the addresses. The result is the same at each, so it need not be agreed on. A node holds the groups that the
placement gives it and no others. What it holds is stored with its journal in the transaction that founds its groups
(:class:`~zmqlab.replica.journal.Hosted`); a later start reads it there.

*A founder that comes late.* It finds that others have founded: it was slow or died just then, or it has lost its disk.
Each node knows the founders for good, and tells them with its status (``founders`` of
:class:`~zmqlab.wire.node_status.NodeStatus`). If this node is one of them, it founds its groups as they did: the same
members stand at the beginning of each log, whatever has become of them since, and with an empty log it is elected by no
node that has more. If it is none of them, it has lost its disk. By its address it knows which groups were its own, and
it joins each of them as a new member, in the place of the one that had its address. First it asks a node that shares
one of them: where the founder of this address has moved, its place is taken, and this node waits. (To ask the members
of each group is not enough: where one founder has begun and all others see that, a group without that founder has no
member yet that could be asked, and all wait for ever.)

Left out: nodes that join a cluster with shards, for which the placement would have to change.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from zmqlab.engine.effects import Effects
from zmqlab.engine.first_start import NO_MEMBERS, Assembly, FirstStart
from zmqlab.errors import JournalMismatch
from zmqlab.placement import place
from zmqlab.raft import Configuration
from zmqlab.replica import Hosted, Journal, Origin
from zmqlab.settings import NodeSettings, parse_endpoint
from zmqlab.wire.node_status import NodeStatus

ONLY_GROUP = 0


def founded(origin: Origin, settings: NodeSettings) -> dict[int, Configuration]:
    """The groups of one of the founders in ``origin``, with the founding members of each."""
    if settings.shards == 1:
        return {ONLY_GROUP: origin.configuration}
    addresses = dict(origin.configuration.addresses)
    ids = sorted(addresses, key=lambda node_id: parse_endpoint(addresses[node_id]))
    placement = place(ids, settings.shards, settings.replication_factor)
    return {
        group: Configuration(members, addresses=tuple(addresses.items()))
        for group, members in placement.items()
        if origin.node_id in members
    }


def came_back(founders: Configuration, settings: NodeSettings) -> dict[int, Configuration]:
    """The groups that a founder has lost, which it joins as a new member of each."""
    addresses = sorted((at for _, at in founders.addresses), key=parse_endpoint)
    placement = place(addresses, settings.shards, settings.replication_factor)
    return {group: NO_MEMBERS for group, members in placement.items() if settings.endpoint in members}


def taken_by_another(
    groups: Iterable[int], founders: Configuration, status: NodeStatus, settings: NodeSettings
) -> bool:
    """Whether one of these groups, by a node that holds it, has all its copies, and none at this node's address."""
    copies = settings.replication_factor or len(founders.members)
    own = [brief.members for brief in status.groups if brief.number in groups]
    return any(len(places) >= copies and settings.endpoint not in places for places in own)


def preferred_places(founders: Configuration, settings: NodeSettings) -> dict[int, str]:
    """The address of the member that should lead each group (:mod:`zmqlab.engine.leader_balance`)."""
    addresses = sorted((at for _, at in founders.addresses), key=parse_endpoint)
    placement = place(addresses, settings.shards, settings.replication_factor) if addresses else {}
    return {group: members[0] for group, members in placement.items()}


class Beginning(NamedTuple):
    """What a node is, if it is so from now on."""

    node_id: int
    groups: Mapping[int, Configuration]
    """With the members to begin with."""
    founders: Configuration
    """Of the whole cluster."""


class Opened(NamedTuple):
    """A node's groups, as its journal has them."""

    groups: dict[int, tuple[Journal, Origin]]
    founders: Configuration
    """Of a cluster with shards; else without members."""


def open_journals(journal: Journal, settings: NodeSettings, new: Beginning | None) -> Opened:
    """The journal and the origin of each group that this node holds.

    Args:
        new: what this node is, at its first start. It is stored in one transaction, or not at all.

    Raises:
        JournalMismatch: the journal is of a cluster with another number of shards, or of copies.
        JournalCorrupt, JournalFull: as of any journal.
    """
    journals = {number: journal.group(number) for number in new.groups} if new is not None else {}
    origins = {}
    with journal.together():
        hosted = journal.hosted(_hosted(settings, new) if new is not None and settings.shards > 1 else None)
        _expect_shards(settings, hosted)
        if new is not None:
            for number, members in new.groups.items():
                origins[number] = journals[number].origin(Origin(new.node_id, members))
    if new is None:
        journals = {
            number: journal.group(number) for number in (hosted.groups if hosted is not None else (ONLY_GROUP,))
        }
        origins = {number: each.origin(Origin(0, NO_MEMBERS)) for number, each in journals.items()}
    founders = hosted.founders if hosted is not None else NO_MEMBERS
    return Opened({number: (each, origins[number]) for number, each in journals.items()}, founders)


def _hosted(settings: NodeSettings, new: Beginning) -> Hosted:
    return Hosted(settings.shards, settings.replication_factor, tuple(new.groups), new.founders)


def _expect_shards(settings: NodeSettings, hosted: Hosted | None) -> None:
    """With other figures this node would place the groups otherwise than the others, and prefer other leaders."""
    shards, copies = (hosted.shards, hosted.replication_factor) if hosted is not None else (1, 0)
    if shards != settings.shards:
        raise JournalMismatch(
            f"the journal of {settings.name} is of a cluster with {shards} shards, and this node was told"
            f" {settings.shards}: start it with --shards {shards}"
        )
    if copies != settings.replication_factor:
        raise JournalMismatch(
            f"the journal of {settings.name} is of a cluster with {copies or 'all'} copies of each shard, and this node"
            f" was told {settings.replication_factor or 'all'}: start it with --replication-factor {copies}"
        )


class AssemblyOfShards(Assembly):
    """The founders of a cluster with shards meet; see the module."""

    def __init__(self, settings: NodeSettings, effects: Effects, rng: random.Random, own_id: int) -> None:
        super().__init__(settings, effects, rng, own_id)
        self.founders = NO_MEMBERS
        """Of a founder that has lost its disk: those that it was told of."""

    def _meet_status(self, founder: str, status: NodeStatus) -> None:
        founders = Configuration(tuple(node_id for node_id, _ in status.founders), addresses=tuple(status.founders))
        if self.own_id in founders.members:
            self._decide(founders)
        elif founders.members:
            self._come_back(founder, founders, status)

    def _come_back(self, founder: str, founders: Configuration, status: NodeStatus) -> None:
        """Join the groups of the founder that this node was before it lost its disk, if it was one."""
        groups = came_back(founders, self._settings)
        if not groups:
            self._note_stranger(
                founder, "of a cluster without a founder at this address: start this node where one was"
            )
        elif taken_by_another(groups, founders, status, self._settings):
            self._note_stranger(
                founder,
                "of a cluster whose founder of this address has moved: start this node where the one was that lost its"
                " disk",
            )
        elif any(brief.number in groups for brief in status.groups):
            self._effects.note(
                f"{founder} belongs to a cluster that does not know this node: its journal was lost. It joins each of"
                " its groups as a new member, in the place of the member that had its address",
                is_warning=True,
            )
            self.founders = founders
            self._decide(NO_MEMBERS)


def beginning_of(start: FirstStart | Origin, origin: Origin, settings: NodeSettings) -> Beginning:
    """What a node is that has found out.

    Args:
        start: by what it has; any other way than the assembly gives its origin.
        origin: its identity, and all founders if it is one of them.
    """
    if isinstance(start, AssemblyOfShards) and not origin.is_founder:
        return Beginning(origin.node_id, came_back(start.founders, settings), start.founders)
    return Beginning(origin.node_id, founded(origin, settings), origin.configuration)
