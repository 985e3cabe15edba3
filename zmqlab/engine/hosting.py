"""Which groups a node of a cluster with shards holds: opened and closed as the roster has it.

What a node holds stands in its journal (:class:`~zmqlab.replica.journal.Hosted`), and a later start opens that. With it
stands the newest roster that the node knew. Without it a node that is started again would know no others but the
founders, where they were, and the members that its logs name; and all of these may have moved or left.

While it runs, it opens a group that the roster gives it (:mod:`~zmqlab.engine.placing`), as a member that is to be
taken in, and closes one that the roster does not give it and that has let it go. Both are stored before they count.

A client that asks for a group which others hold is told so here. Here is also what a node asks of its cluster as a
whole: to have it again (:class:`~zmqlab.engine.group_founding.JoiningCluster`), at each start with ``--join``; and to
do without it (:class:`~zmqlab.engine.departure.Departing`), at an end with ``--leave``.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from zmqlab.engine.departure import Departing
from zmqlab.engine.design import Company
from zmqlab.engine.effects import Asking, Effects
from zmqlab.engine.first_start import NO_MEMBERS
from zmqlab.engine.group import Group
from zmqlab.engine.group_founding import Beginning, JoiningCluster
from zmqlab.engine.peers import OF_NODE, Connections
from zmqlab.engine.placing import GROUP_OF_ROSTER, Placing
from zmqlab.engine.status import REMOVED, early_status
from zmqlab.keys import Sender
from zmqlab.placement import Roster
from zmqlab.raft import Role
from zmqlab.replica import Hosted, Journal, Origin
from zmqlab.replica.driver import Route
from zmqlab.replica.replica import request_key
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.fault_queries import LinkFaultsQuery, NodeFaultsQuery
from zmqlab.wire.node_status import GroupBrief, NodeStatus

ALONE_TIMEOUTS = 50
"""In election time-outs, ten seconds by default: a node that hears no leader, and gets no answer for so long, says so.
It asks each node that it knows once in fifteen."""

OpenGroup = Callable[[int, Journal, Origin, int, tuple[str, ...]], None]
"""Make a group of its number, journal and origin, how many groups share the node's bounds, and who may know it."""


class Hosting:
    """See the module. Owned by one engine."""

    def __init__(
        self,
        settings: NodeSettings,
        journal: Journal,
        effects: Effects,
        asking: Asking,
        rng: random.Random,
        groups: dict[int, Group],
        hosted: Hosted,
        placing: Placing,
        open_group: OpenGroup,
        asks: bool,
    ) -> None:
        """
        Args:
            asking: of the node as a whole, beside what its groups ask.
            groups: of the engine.
            asks: whether it is to ask if the cluster still has this node.
        """
        self.hosted = hosted
        """As the journal has it."""
        self._stored = placing.roster
        """The roster in it, or that of the founders."""
        self.placing = placing
        self._settings = settings
        self._journal = journal
        self._effects = effects
        self._asking = asking
        self._rng = rng
        self._groups = groups
        self._open_group = open_group
        self._joining = self._make_joining() if asks else None
        self._asks_at_start = asks
        """Only another node's word ends this question: this node's own log may be from before it was sent away."""
        self._departing: Departing | None = None
        self._pointed_out: dict[int, int] = {}
        """Group -> the version of the roster by which it looks for its members."""
        self._ticks = 0
        self._answered_at = 0
        """The tick of the last answer of a node of this cluster, or when a group had a leader last."""
        self._strangers: set[str] = set()
        """Addresses at which nodes of other clusters have answered last."""
        self._is_closing = False

    def _make_joining(self) -> JoiningCluster:
        """What asks for a place in the roster: those that the command names, who may have left, and the founders."""
        founders = (at for _, at in self.hosted.founders.addresses)
        named = tuple(dict.fromkeys((*self._settings.join, *self._settings.peers, *founders)))
        parts = self._settings, self._asking, self._rng, self.placing.node_id, self._journal.life
        return JoiningCluster(*parts, named, self.placing.node_id)

    @property
    def departs(self) -> bool:
        """Whether the cluster has not agreed yet to do without this node, which leaves it."""
        return self._departing is not None and not self._departing.is_over

    def begin_to_close(self) -> None:
        """The node was told to end."""
        self._is_closing = True
        if self._settings.leave and self._departing is None:
            life = self._journal.life
            self._departing = Departing(self._settings, self._asking, self._rng, self.placing, life)

    def company(self, size: int, briefs: Callable[[], list[GroupBrief]], seeds: tuple[str, ...]) -> Company:
        """What a group is told; ``seeds``: nodes that may know it."""
        return Company(size, briefs, self.hosted.founders.addresses, self.placing, seeds)

    def take(self, address: str, answer: control.Answer) -> bool:
        """An answer from the node at ``address``. Returns whether it counts: that node is of no other cluster."""
        if isinstance(answer, control.StatusAnswer):
            self._strangers.discard(address)
            if not self.placing.hear_status(answer.status):
                self._strangers.add(address)
        if address in self._strangers:
            return False
        self._answered_at = self._ticks
        if self._joining is not None:
            self._joining.take(address, answer)
        if self._departing is not None:
            self._departing.take(address, answer)
        return True

    def tick(self, now_ns: int) -> None:
        """Learn, tell, and follow; see the module."""
        self._ticks += 1
        placing, group = self.placing, self._groups.get(GROUP_OF_ROSTER)
        if group is not None:
            replication = group.replica.replication
            placing.read(replication.members_at(replication.commit_index).roster)
        placing.tick()
        self._ask_to_stay(is_leader=group is not None and group.replica.replication.role is Role.LEADER)
        if self._departing is not None:
            self._departing.tick(group.following if group is not None else None)
        if placing.roster.version:
            if placing.roster is not self._stored:
                self._store([*self._groups])
            self._follow(now_ns)
            self._point_out()
        self._look_for_others()

    def _look_for_others(self) -> None:
        """Say it, again and again, if no other node is there. They may have left while this one was away."""
        groups = self._groups.values()
        if not groups or self.placing.is_last() or any(group.replica.replication.leader_id for group in groups):
            self._answered_at = self._ticks
        silent_ticks = self._ticks - self._answered_at
        if silent_ticks and silent_ticks % (ALONE_TIMEOUTS * self._settings.election_ticks) == 0:
            others = ", ".join(place for place in self.placing.roster.nodes if place != self.placing.own_address)
            self._effects.note(
                f"no node that this one knows answers ({others}), and it waits for them. If they have left the cluster,"
                " start this node again with --join and a node that is there now, or end it",
                is_warning=True,
            )

    def _ask_to_stay(self, is_leader: bool) -> None:
        """``is_leader``: of group 0, so that it is this node which takes others in."""
        placing, group = self.placing, self._groups.get(GROUP_OF_ROSTER)
        is_to_ask = placing.is_misplaced or self._has_left_before
        if self._joining is None and is_to_ask and not self._is_closing:
            self._joining = self._make_joining()
        joining = self._joining
        if joining is None:
            return
        is_needless = not self._asks_at_start and not is_to_ask
        if self._is_closing or is_needless or (is_leader and placing.is_in):
            joining.end()
        if joining.origin is None:
            joining.tick(placing.roster.places)
            if group is not None and group.following is not None:  # it may lead, and asks no other node then
                group.following.admit(placing.node_id, placing.own_address)
            return
        self._joining, self._asks_at_start = None, False
        if joining.roster is not None:
            placing.learn(joining.roster)

    @property
    def _has_left_before(self) -> bool:
        """Whether this node was let go because it asked for that in its last life, and is to be in again. It may have
        been told in this life that it is in, before that was committed."""
        return bool(self._settings.join) and self.placing.has_left_before(self._journal.life)

    def _point_out(self) -> None:
        """Have each group look for its members where the roster has them.

        If all members of a group move at once, none is where its log says, and each has the address of no other.
        """
        roster = self.placing.roster
        for number, group in self._groups.items():
            if self._pointed_out.get(number) != roster.version:
                self._pointed_out[number] = roster.version
                group.peers.look_for(roster.identities)

    def _follow(self, now_ns: int) -> None:
        wanted = self.placing.wanted
        is_in_step = self._ticks % self._settings.heartbeat_ticks == 0
        """Whether the heartbeats of a group that is opened now will be due with those of the others."""
        for number in wanted:
            if number in self._groups and self._groups[number].is_out:
                self._groups[number].joining.ask_again(self.placing.roster.places)
            elif number not in self._groups and is_in_step and not self._is_closing:
                self._open(number)
        for number in [each for each, group in self._groups.items() if each not in wanted and group.is_out]:
            self._store([each for each in self._groups if each != number])
            self._groups.pop(number).close(now_ns)
            self._pointed_out.pop(number, None)
            self._share_bounds()
            self._effects.hear_groups(tuple(self._groups))

    def _open(self, number: int) -> None:
        journal = self._journal.group(number)
        with self._journal.together():
            self._store([*self._groups, number])
            origin = journal.origin(Origin(self.placing.node_id, NO_MEMBERS))
        self._open_group(number, journal, origin, len(self._groups) + 1, self.placing.roster.places)
        self._share_bounds()
        self._effects.hear_groups(tuple(self._groups))

    def _share_bounds(self) -> None:
        for group in self._groups.values():
            group.share(len(self._groups))

    def _store(self, numbers: list[int]) -> None:
        self._stored = self.placing.roster
        self.hosted = self.hosted._replace(groups=tuple(sorted(numbers)), roster=self._stored.encode())
        self._journal.host(self.hosted)

    def answer_elsewhere(
        self, frame_type: int, number: int, route: Route, frame: bytes, now_ns: int, sender: Sender
    ) -> None:
        """A frame of a client for a group that other nodes hold. Raises FrameError, Forbidden.

        What concerns the whole node is answered by the first of its groups.
        """
        if frame_type != frames.QUERY:
            body = client_wire.encode_response(*request_key(frame), 0, client_wire.ResponseStatus.ELSEWHERE)
            self._effects.reply(route, client_wire.encode_responses([body], number))
            return
        query = control.decode_query(frame)
        if isinstance(query, control.StatusQuery) and not self._groups:
            answer = control.StatusAnswer(query.nonce, self._status())
            self._effects.reply(route, control.encode(frames.ANSWER, answer, number))
        elif isinstance(query, control.StatusQuery | LinkFaultsQuery | NodeFaultsQuery) and self._groups:
            next(iter(self._groups.values())).on_client_frame(frame_type, route, frame, now_ns, sender)
        else:
            said = f"this node does not hold group {number}: ask one that a status names"
            refused = control.ErrorAnswer(query.nonce, control.ErrorCode.NO_GROUP, said)
            self._effects.reply(route, control.encode(frames.ANSWER, refused, number))

    def _status(self) -> NodeStatus:
        """Of a node that holds no group."""
        status = early_status(self._settings, REMOVED, self.placing.node_id, self._effects.vitals())
        status.founders = list(self.hosted.founders.addresses)
        status.roster = self.placing.roster.encode()
        return status


def hosting_of(
    settings: NodeSettings,
    journal: Journal,
    effects: Effects,
    connections: Connections,
    rng: random.Random,
    groups: dict[int, Group],
    hosted: Hosted,
    new: Beginning | None,
    open_group: OpenGroup,
) -> Hosting:
    """Of a node that knows what it is; ``new``: since just now."""
    own_id = new.node_id if new is not None else journal.draw(0)
    known = Roster.decode(hosted.roster) if hosted.roster else None
    placing = Placing(settings, effects, connections, hosted.founders, own_id, known)
    asking = connections.questions_of(OF_NODE)
    asks = new is None and bool(settings.join)
    return Hosting(settings, journal, effects, asking, rng, groups, hosted, placing, open_group, asks)
