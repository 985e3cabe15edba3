"""How the members of one group follow the roster of a cluster with shards (:mod:`~zmqlab.engine.placing`).

Where the roster has a node that is no member, that node opens the group and asks to be taken in
(:class:`~zmqlab.engine.lifecycle.Joining`): first as a learner, then as a voter. The leader takes in no node that the
roster does not have there. When all whom the roster wants vote, and that is committed, the leader lets the others go,
one after the other; if it must go itself, it hands leadership over first. So a group that changes its members never has
fewer voters than the roster wants for it. Two changes that cross do no harm: members that are wanted are there before
any other goes.

*A precaution.* What is committed says who votes, and not who still runs. So a leader lets a member go only when each
voter that the roster wants has gone on answering it for an election time-out. That is no agreement: such a voter may
die in the next moment. Then the group has a voter less than it is to have, as after any death. It only rules out that a
leader gives up a copy for one that it could know to be dead, as one that has died right after it was promoted. Where a
place stays silent, the group keeps its old members, and its leader says for whom it waits (:attr:`Following.awaited`).
"""

from __future__ import annotations

from collections.abc import Collection

from zmqlab.engine.lifecycle import Standing, is_left_out
from zmqlab.engine.placing import GROUP_OF_ROSTER, Placing
from zmqlab.placement import Gone, Roster
from zmqlab.raft import Configuration, Role
from zmqlab.replica import Change, Replication
from zmqlab.replica.replication import MAX_MEMBERS

LOOKS = 2
"""In an election time-out: how often a leader looks whether a member must go."""
AWAITED_TIMEOUTS = 25
"""In election time-outs, five seconds by default: a leader that has waited for a node for so long says so. To be taken
in takes two or three, and a node that catches up answers all the time."""


class Following:
    """Has the members of one group follow the roster. Has effects only while the group's replication leads."""

    def __init__(self, number: int, placing: Placing, replication: Replication) -> None:
        self._number = number
        self._placing = placing
        self._replication = replication
        self._look_ticks = max(1, replication.election_ticks // LOOKS)
        self._silent_since: dict[str, int] = {}
        """Of a leader: where the roster wants a member, and none answers -> the tick at which that was seen first."""
        self._places: tuple[str, ...] = ()
        self._complete_since = 0
        """Of a leader: the tick since when a voter is at each of ``_places``, where the roster wants them, and all of
        these answer; 0: they do not."""
        self._told: tuple[str, ...] = ()
        """For whom the log says that the group waits."""
        self._placed_by: tuple[Configuration, Roster] | None = None
        """The members and the roster that the next two follow from."""
        self._place_of: dict[int, str] = {}
        """Member -> where it has its place, wherever it is; empty: it has none, or has not said where it is."""
        self._member_at: dict[str, int] = {}
        """Place -> the member whose it is."""

    @property
    def preferred(self) -> str:
        """The address of the member that should lead; empty: none more than the others."""
        return next(iter(self._placing.places_in(self._number)), "")

    @property
    def preferred_member(self) -> int:
        """The member that should lead: the one whose place that is, wherever it is; 0: there is none."""
        self._place_members()
        return self._member_at.get(self.preferred, 0)

    def is_away(self) -> bool:
        """Whether the roster does not want this node in the group, wherever it is. It asks only if it was let go."""
        placing = self._placing
        is_here = self._number in placing.wanted
        return bool(placing.roster.version) and not is_here and not placing.has_moved

    @property
    def awaited(self) -> tuple[str, ...]:
        """Of a leader: where the nodes are to be for which its group waits, and which have said nothing for so long
        (:data:`AWAITED_TIMEOUTS`) that a person should know. Its old members stay until they answer, or until the
        roster is without them."""
        now, patience = self._replication.ticks, AWAITED_TIMEOUTS * self._replication.election_ticks
        return tuple(place for place, since in self._silent_since.items() if now - since >= patience)

    def tick(self) -> None:
        """Let a member go that is to go, if it is time."""
        replication = self._replication
        if replication.role is not Role.LEADER or not self._roster.version:
            self._silent_since, self._told, self._complete_since = {}, (), 0
            return
        if replication.ticks % self._look_ticks:
            return
        self._look_who_answers()
        configuration = replication.configuration
        if replication.commit_index < replication.configuration_index:
            return
        surplus = [member for member in configuration.members if not self._is_wanted(member)]
        learners = [member for member in surplus if member in configuration.learners]
        if learners:
            replication.remove_member(learners[0])
        elif surplus and self._is_complete():
            first = min(surplus, key=lambda member: member == replication.node_id)
            if first != replication.node_id:
                replication.remove_member(first)
            elif not replication.hand_over(self.preferred_member):
                replication.hand_over()

    def admit(self, node_id: int, address: str) -> Change | None:
        """A node at ``address`` asks to be taken in; None: it may be, as far as the roster goes."""
        replication, roster = self._replication, self._roster
        if replication.role is not Role.LEADER:
            return None
        if self._was_let_go(node_id) and self._latest().id_at(address):
            return Change.ADDRESS_TAKEN
        if self._number == GROUP_OF_ROSTER and (change := self._have_follow(node_id, address)) is not None:
            return change
        is_out_of_roster = self._number == GROUP_OF_ROSTER and self._was_let_go(node_id)
        if self._is_due(node_id, address) and not is_out_of_roster:  # it may still be a member of this group
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
        return self._propose(latest.with_node(address, self._placing.copies, node_id))

    def _have_follow(self, node_id: int, address: str) -> Change | None:
        """Have the roster follow a node that has moved, or that has lost its disk and is another one. None: no need."""
        latest = self._latest()
        former = latest.address_of(node_id)
        if former == address or not (former or address in latest.nodes):
            return None
        change = self._propose(latest.moved(node_id, address) if former else latest.identified(node_id, address))
        return None if self._is_due(node_id, address) else change

    def _is_due(self, node_id: int, address: str) -> bool:
        """Whether the group may take in a node at ``address``, or has it and may note where it is.

        One whose place is elsewhere by the roster waits until that follows it: at its address may be another's place.
        """
        is_placed = address in self._placing.places_in(self._number)
        is_its_own = self._roster.place_of(node_id, address) == address
        return node_id in self._replication.configuration.members or (is_placed and is_its_own)

    def elsewhere(self, address: str) -> frozenset[int]:
        """The members that have their place at another address by the roster, whatever the group's log says."""
        members = self._replication.configuration.members
        return frozenset(each for each in members if self._roster.address_of(each) not in ("", address))

    def release(self, node_id: int, address: str, life: int = 0) -> Change | None:
        """The member ``node_id`` is to be removed, or, with an ``address``, to leave the cluster.

        If its identity is not known (0), it is the node whose place is at that address that leaves. ``life``: the one
        in which it asks for that itself; 0: a person does.

        None: it may be removed, as far as the roster goes.
        """
        replication = self._replication
        if replication.role is not Role.LEADER:
            return Change.NOT_LEADER if address else None
        if address:
            return self._dismiss(node_id, address, life)
        if node_id not in replication.configuration.members:
            return None
        if self._is_wanted(node_id):
            return Change.UNDER_WAY if life else Change.PLACED
        return None if node_id in replication.configuration.learners or self._is_complete() else Change.UNDER_WAY

    @property
    def left(self) -> tuple[Gone, ...]:
        """The nodes that were let go, by what is committed."""
        return self._roster.left

    def last_life_of(self, node_id: int) -> int:
        """The life in which a node has asked to be let go, and was, by what is committed; 0: in none."""
        return self._roster.last_life_of(node_id)

    def has(self, node_id: int) -> bool:
        """Whether a node has a place, by what the log of group 0 has, committed or not."""
        return node_id in self._latest().ids

    def is_out(self, standing: Standing) -> bool:
        """Whether it is known that this node is no member, by a change that is committed."""
        in_effect = self._replication.configuration_index
        if is_left_out(self._replication):
            return True
        return standing.let_go_at >= max(1, in_effect)

    @property
    def _roster(self) -> Roster:
        return self._placing.roster

    def _latest(self) -> Roster:
        """What the log of group 0 has, committed or not: a change goes on from it, and waits until it is. A log that a
        power cut has shortened may have an older version than nodes have been told of."""
        encoded = self._replication.configuration.roster
        logged = Roster.decode(encoded) if encoded else self._roster
        return max(logged, self._roster, key=lambda roster: roster.version)

    def _propose(self, roster: Roster) -> Change:
        change = self._replication.set_roster(roster.encode())
        return Change.UNDER_WAY if change is Change.DONE else change

    def _was_let_go(self, node_id: int) -> bool:
        """Whether it had a place, and has none by what the log of group 0 has, committed or not."""
        return self._latest().has_left(node_id)

    def _dismiss(self, node_id: int, address: str, life: int) -> Change:
        latest = self._latest()
        own = latest.address_of(node_id) if node_id else ""
        place = own or ("" if self._was_let_go(node_id) else address)
        if place in latest.nodes and len(latest.nodes) == 1:
            return Change.LAST_VOTER
        if place in latest.nodes:
            return self._propose(latest.without_node(place, self._placing.copies, address, life))
        if not life and latest.last_life_of(node_id):
            return self._propose(latest.without_return(node_id))
        replication = self._replication
        return Change.DONE if replication.commit_index >= replication.configuration_index else Change.UNDER_WAY

    def _is_wanted(self, member: int) -> bool:
        """Whether a member's place is one where the roster wants a member; it may be elsewhere for now.

        One that the roster does not know, and that has no address, has moved, and another has the one that it had. It
        will say where it is, and is left alone until then, or until the group has all whom the roster wants without it.
        """
        self._place_members()
        place = self._place_of.get(member, "")
        if not place and not self._roster.has_left(member):
            return not self._is_complete()
        return place in self._placing.places_in(self._number)

    def _is_complete(self) -> bool:
        """Whether a voter is at each place where the roster wants one, and has answered for an election time-out."""
        voters, replication = self._at(self._replication.configuration.voters), self._replication
        is_lasting = self._complete_since and replication.ticks - self._complete_since >= replication.election_ticks
        places = self._placing.places_in(self._number)
        return bool(is_lasting) and all(self._answers(voters.get(place, 0)) for place in places)

    def _answers(self, member: int) -> bool:
        """Whether a member has answered within an election time-out, as for CheckQuorum; this leader itself has."""
        replication = self._replication
        if member == replication.node_id:
            return True
        progress = replication.followers.get(member)
        if progress is None or not progress.acked_round:
            return False
        return replication.ticks - progress.heard_at < replication.election_ticks

    def _look_who_answers(self) -> None:
        """Note since when all are there, or which nodes the group waits for; tell the log of those that are silent for
        long."""
        configuration, places = self._replication.configuration, self._placing.places_in(self._number)
        members, voters = self._at(configuration.members), self._at(configuration.voters)
        is_placed = all(map(self._is_wanted, configuration.members)) and voters.keys() >= set(places)
        silent = [place for place in places if not self._answers(members.get(place, 0))]
        awaited = () if is_placed else silent
        self._silent_since = {place: self._silent_since.get(place, self._replication.ticks) for place in awaited}
        is_complete = not silent and voters.keys() >= set(places)
        since = self._complete_since if places == self._places else 0
        self._places, self._complete_since = places, (since or self._replication.ticks) if is_complete else 0
        if self.awaited != self._told:
            self._told = self.awaited
            self._placing.note_awaited(self._number, self._told)

    def _at(self, members: Collection[int]) -> dict[str, int]:
        """Place -> which of these members has it."""
        self._place_members()
        return {place: member for place, member in self._member_at.items() if member in members}

    def _place_members(self) -> None:
        """Work out whose place is where, if the members or the roster have changed.

        Two have one place if one of them has come there without its disk. The one that is there counts. One that the
        roster does not know has none where it has another member: its disk is lost, or it has moved and not said so.
        """
        configuration, roster = self._replication.configuration, self._roster
        if self._placed_by is not None and self._placed_by[0] is configuration and self._placed_by[1] is roster:
            return
        self._placed_by = configuration, roster
        at = dict(configuration.addresses)
        places = {member: roster.place_of(member, at.get(member, "")) for member in configuration.members}
        self._place_of = {
            member: "" if roster.id_at(place) != member and roster.id_at(place) in places else place
            for member, place in places.items()
        }
        is_there = sorted(self._place_of, key=lambda member: self._place_of[member] == at.get(member))
        self._member_at = {self._place_of[member]: member for member in is_there if self._place_of[member]}
