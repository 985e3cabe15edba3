"""Which groups a node of a cluster with shards holds from its first start on.

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
it joins each of them as a new member, in the place of the one that had its address. If nodes have come and gone since
the founding, the roster says which groups these are. First it asks a node that shares one of them: where the founder of
this address has moved, its place is taken, and this node waits. (To ask the members of each group is not enough: where
one founder has begun and all others see that, a group without that founder has no member yet that could be asked, and
all wait for ever.)

*A node that comes later* (:class:`JoiningCluster`) asks to be taken into the cluster, until the roster
(:mod:`~zmqlab.engine.placing`) has it. Then it opens the groups that the roster gives it, and asks each of them to be
taken in. Which groups it holds may change from then on, with the roster.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from zmqlab.engine.effects import Asking, Effects
from zmqlab.engine.first_start import ASKS, NEWCOMER, NO_MEMBERS, REMIND_TIMEOUTS, Assembly, FirstStart, first_start
from zmqlab.engine.placing import GROUP_OF_ROSTER
from zmqlab.errors import JournalMismatch
from zmqlab.placement import Roster
from zmqlab.raft import Configuration
from zmqlab.replica import Hosted, Journal, Origin
from zmqlab.settings import NodeSettings
from zmqlab.wire import control, frames
from zmqlab.wire.node_status import NodeStatus

ONLY_GROUP = 0


def founded(origin: Origin, settings: NodeSettings) -> dict[int, Configuration]:
    """The groups of one of the founders in ``origin``, with the founding members of each."""
    if settings.shards == 1:
        return {ONLY_GROUP: origin.configuration}
    addresses = origin.configuration.addresses
    id_at = {at: node_id for node_id, at in addresses}
    placed = Roster.of_founders(list(id_at), settings.shards, settings.replication_factor)
    return {
        group: Configuration(tuple(id_at[at] for at in placed.groups[group]), addresses=addresses)
        for group in placed.held_by(dict(addresses)[origin.node_id])
    }


def roster_in(status: NodeStatus, settings: NodeSettings) -> Roster:
    """What a node that has founders tells of the nodes of its cluster."""
    if status.roster:
        return Roster.decode(status.roster)
    return Roster.of_founders([at for _, at in status.founders], settings.shards, settings.replication_factor)


def taken_by_another(
    groups: Iterable[int], founders: Configuration, status: NodeStatus, settings: NodeSettings
) -> bool:
    """Whether one of these groups, by a node that holds it, has all its copies, and none at this node's address."""
    copies = settings.replication_factor or len(founders.members)
    own = [brief.members for brief in status.groups if brief.number in groups]
    return any(len(places) >= copies and settings.endpoint not in places for places in own)


class Beginning(NamedTuple):
    """What a node is, if it is so from now on."""

    node_id: int
    groups: Mapping[int, Configuration]
    """With the members to begin with."""
    founders: Configuration
    """Of the whole cluster."""
    roster: Roster | None = None
    """What a node that is no founder was told of the nodes that there are."""


def what_begins(
    settings: NodeSettings, effects: Effects, rng: random.Random, own_id: int, life: int
) -> FirstStart | Origin:
    """What a node without a journal has to find out; or what it is, if there is nothing to find out.

    ``life``: counts this node's starts (:attr:`zmqlab.replica.Journal.life`).
    """
    if settings.shards == 1:
        return first_start(settings, effects, rng, own_id, Assembly)
    if settings.join:
        return JoiningCluster(settings, effects, rng, own_id, life)
    return first_start(settings, effects, rng, own_id, AssemblyOfShards)


class Opened(NamedTuple):
    """A node's groups, as its journal has them."""

    groups: dict[int, tuple[Journal, Origin]]
    hosted: Hosted | None
    """The record of which groups these are; None: the cluster has no shards."""


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
    return Opened({number: (each, origins[number]) for number, each in journals.items()}, hosted)


def _hosted(settings: NodeSettings, new: Beginning) -> Hosted:
    roster = new.roster.encode() if new.roster is not None and new.roster.version else b""
    return Hosted(settings.shards, settings.replication_factor, tuple(new.groups), new.founders, roster)


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

    def __init__(self, settings: NodeSettings, effects: Asking, rng: random.Random, own_id: int) -> None:
        super().__init__(settings, effects, rng, own_id)
        self.founders = NO_MEMBERS
        """Of a founder that has lost its disk: those that it was told of."""
        self.roster: Roster | None = None
        """The same of the nodes that there are by now."""

    def _founders_in(self, status: NodeStatus) -> Configuration:
        return Configuration(tuple(node_id for node_id, _ in status.founders), addresses=tuple(status.founders))

    def _come_back(self, founder: str, founders: Configuration, status: NodeStatus) -> None:
        """Join the groups of the founder that this node was before it lost its disk, if it was one."""
        roster = roster_in(status, self._settings)
        groups = roster.held_by(self._settings.endpoint)
        if not groups:
            self._note_stranger(
                founder,
                "of a cluster without a node at this address: start this node where one was, or have it taken in with"
                " --join in the place of --peers",
            )
        elif not roster.version and taken_by_another(groups, founders, status, self._settings):
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
            self.founders, self.roster = founders, roster
            self._decide(NO_MEMBERS)
        else:  # those with its groups may have come, or have moved, since the founding
            self._named = tuple(dict.fromkeys((*self._settings.peers, *roster.places)))


class JoiningCluster(FirstStart):
    """A node asks to be taken into a cluster with shards, until its roster has it; see the module.

    It asks all nodes that it was told of, and all that they tell of. The leader of group 0 takes it in, and tells when
    the roster has it; the others tell where to ask. Their word, and what this node's own journal says, may be older
    than the version that let the node at this address go: it would stay outside, and ask no more. It asks at each
    start, as a node without shards does that was started with ``--join``: it may have been removed while it was away.

    If it is told that it is one of the founders, it was started again with ``--join`` before it had decided. It founds
    its groups as the others did, because these may have no majority, and so no leader that takes it in, without it.
    """

    role = NEWCOMER

    def __init__(
        self,
        settings: NodeSettings,
        effects: Asking,
        rng: random.Random,
        own_id: int,
        life: int,
        named: tuple[str, ...] = (),
        known_as: int = 0,
    ) -> None:
        """
        Args:
            life: counts this node's starts (:attr:`zmqlab.replica.Journal.life`).
            named: base endpoints of nodes to ask; by default those that it was told to join.
            known_as: the identity by which the roster must have this node. 0: it may be that of another one, which had
                this address before it lost its disk: at a first start the groups need not wait for that.
        """
        self._first_named = named or settings.join
        self._known_as = known_as
        super().__init__(settings, effects, rng, own_id, self._first_named, max(1, settings.election_ticks // ASKS))
        self.founders = NO_MEMBERS
        """Of the cluster, as it was told."""
        self.roster: Roster | None = None
        """The newest that it was told."""
        self._life = life
        self._said = ""
        """Why it was refused last."""
        self._answered_at = 0
        """The tick of the last answer."""

    def tick(self, known: Sequence[str] = ()) -> None:
        """Ask all whether this node is in, and the one that leads group 0 to take it in.

        ``known``: base endpoints of nodes that this node knows of otherwise; they are asked, too.
        """
        told = self.roster.places if self.roster is not None else ()
        self._named = tuple(dict.fromkeys((*self._first_named, *told, *known)))
        for address in [at for at, name in self._asked.items() if name not in self._named and at not in self.callers]:
            del self._asked[address]  # a node that has left, or has moved
            self._effects.hang_up(address)
        rounds = self._rounds
        super().tick()
        if self._rounds > rounds:
            settings = self._settings
            query = control.AddMemberQuery(self._nonce, self.own_id, settings.endpoint, settings.name, self._life)
            for address in self._asked:
                self._effects.ask(address, control.encode(frames.QUERY, query))
        if (self._ticks - self._answered_at) % (REMIND_TIMEOUTS * self._settings.election_ticks) == 0:
            self._effects.note(f"still waiting to join: no node answers at {', '.join(self._named)}", is_warning=True)

    def take(self, address: str, answer: control.Answer) -> None:
        """An answer from the node at ``address``."""
        self._answered_at = self._ticks
        super().take(address, answer)
        refused = isinstance(answer, control.ErrorAnswer) and answer.code == control.ErrorCode.REFUSED
        if isinstance(answer, control.ErrorAnswer) and refused and answer.message != self._said:
            self._said = answer.message
            self._effects.note(f"{address} does not take this node in: {answer.message}", is_warning=True)

    def end(self) -> None:
        """Ask no more: this node knows by itself, or ends."""
        self._decide(NO_MEMBERS)

    def _meet(self, address: str, status: NodeStatus, asked_in: int) -> None:
        settings = self._settings
        told = status.cluster, status.shards, status.replication_factor
        if told != (settings.cluster, settings.shards, settings.replication_factor):
            self._refuse_cluster(address, status)
        elif status.roster:
            roster = roster_in(status, settings)
            if self.roster is None or roster.version >= self.roster.version:
                self.founders = Configuration(
                    tuple(node_id for node_id, _ in status.founders), addresses=tuple(status.founders)
                )
                self.roster = roster
            if not self._known_as and self.own_id in self.founders.members:
                self._decide(self.founders)
                return
            leads = status.role == "leader" and status.group == GROUP_OF_ROSTER
            is_here = roster.place_of(self.own_id, settings.endpoint) == settings.endpoint
            is_as_known = is_here and self._known_as in (0, roster.id_at(settings.endpoint))
            if leads and settings.endpoint in roster.nodes and is_as_known and roster == self.roster:
                self._decide(NO_MEMBERS)

    def _refuse_cluster(self, address: str, status: NodeStatus) -> None:
        said = (
            f"{address} is a node of the cluster {status.cluster!r} with {status.shards} shards and"
            f" {status.replication_factor or 'all'} copies, and this one was told otherwise: start it with the same"
            " --shards and --replication-factor"
        )
        if said != self._said:
            self._said = said
            self._effects.note(said, is_warning=True)


def beginning_of(start: FirstStart | Origin, origin: Origin, settings: NodeSettings) -> Beginning:
    """What a node is that has found out.

    Args:
        start: by what it has; any other way than the assembly gives its origin.
        origin: its identity, and all founders if it is one of them.
    """
    roster = start.roster if isinstance(start, AssemblyOfShards | JoiningCluster) else None
    if roster is not None and not origin.is_founder:
        groups = dict.fromkeys(roster.held_by(settings.endpoint), NO_MEMBERS)
        return Beginning(origin.node_id, groups, start.founders, roster)  # type: ignore[union-attr]
    return Beginning(origin.node_id, founded(origin, settings), origin.configuration)
