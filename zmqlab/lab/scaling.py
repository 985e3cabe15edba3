"""The members of a cluster and its leader: nodes that come, go, are replaced or take over, while the cluster works.

A new node is started with ``--join`` and asks to be taken in by itself: the leader makes it a learner, sends it the log
and promotes it when it has caught up (:class:`zmqlab.replica.Members`). To remove a node, the leader is asked to commit
a configuration without it, and only then its process is ended; a leader that is to go hands over first. A node whose
disk is wiped has forgotten its votes: the old member is removed, and a new one, with an identity of its own, comes to
the same place under the same name.

With several Raft groups a node comes to the whole cluster, and leaves all of it. The groups follow by themselves, and
it is waited until they have (:mod:`~zmqlab.lab.placed_members`). Leadership of one group can be handed over, within its
members.

Everything here waits until it is committed. What is asked of the leader is asked again until it is done, whichever node
leads by then, so a change survives an election in its midst.

:class:`Scaling` changes the members of a :class:`~zmqlab.lab.cluster.Cluster`, whose processes it may start and end.
:class:`~zmqlab.lab.scaling_by_hand.ScalingByHand` does it for nodes that no object owns.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from zmqlab.client import ask
from zmqlab.client.roster import leader_of
from zmqlab.endpoints import client_endpoint_of
from zmqlab.errors import ClusterError, NoLeader, PortInUse, SettingsError
from zmqlab.lab.events import LabEvent
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.fleet import MAX_NODES, START_ATTEMPTS, Fleet, check_count
from zmqlab.lab.placed_members import (
    ANSWER_TIMEOUT_S,
    all_nodes,
    look,
    short_of,
    wait_until_placed,
    with_all_nodes,
)
from zmqlab.lab.turns import MEMBERS
from zmqlab.settings import NodeSettings, require_whole
from zmqlab.wire import control
from zmqlab.wire.node_status import Member

CHANGE_TIMEOUT_S = 30.0
"""For one change. A small log is copied in a second; an election in between takes a quarter of one."""
TRANSFER_TIMEOUT_S = 5.0
"""For one transfer of leadership: some ten milliseconds, and a leader gives up after an election time-out."""
REFUSAL_S = 0.5
"""A refusal counts when it has been repeated for so long, twice an election time-out: a leader that was elected just
now has not heard of any follower yet, and refuses every removal, as if it would leave no majority."""
POLL_S = 0.02
SEEN_S = 5.0
"""How long a new leader's own snapshot may take to arrive: it publishes ten a second."""


class Reached(NamedTuple):
    """The leader as it answered just now."""

    endpoint: str
    """Where clients reach it."""
    members: dict[str, Member]
    """By base endpoint."""
    cluster: str = ""
    """The name of the :class:`~zmqlab.lab.cluster.Cluster` that it belongs to; empty if it was started by hand."""
    shards: int = 1
    """How many Raft groups its nodes have."""

    @property
    def all_groups(self) -> str:
        """What a node that goes is out of, in words."""
        return "the group" if self.shards == 1 else "all groups"


class Scaling:
    """Changes the members of the cluster whose processes are ``fleet``; one change at a time.

    Args:
        fleet: the nodes' processes.
        feed: keeps the events.
        when_started: called with the name of each node that was started, before it is taken in.
    """

    def __init__(self, fleet: Fleet, feed: MetricsFeed, when_started: Callable[[str], None] = lambda _: None) -> None:
        self._fleet = fleet
        self._feed = feed
        self._when_started = when_started

    @contextmanager
    def turn(self, name: str, verb: str) -> Iterator[None]:
        """Have the members, and a node, for this thread alone; see :class:`~zmqlab.lab.turns.Turns`."""
        with self._fleet.turns.take(MEMBERS, verb), self._fleet.turns.take(name, verb):
            yield

    def add(self, timeout_s: float = CHANGE_TIMEOUT_S) -> str:
        """Start one more node, and return its name once it votes."""
        with self._fleet.turns.take(MEMBERS, "add"):
            fleet = self._fleet
            if len(fleet.names) >= self.nodes_max:
                raise ClusterError(f"{len(fleet.names)} nodes run already: {self.nodes_max} are the most")
            name = fleet.free_name()
            refused: PortInUse | None = None
            tried: set[int] = set()
            for _ in range(START_ATTEMPTS):
                (place,) = fleet.host.places(1, fleet.nodes, tried)
                tried.add(place.port)
                settings = fleet.plan.settings(name, place, join=self._to_join(name))
                try:
                    self._bring_in(settings, LabEvent.ADDED, timeout_s)
                except PortInUse as error:
                    refused = error
                    fleet.drop([name])
                except BaseException:
                    self._give_up(settings)
                    raise
                else:
                    return name
            raise refused or ClusterError(f"{name} did not start")

    def remove(self, name: str, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Let ``name`` go: out of its groups, then ended; its journal is deleted."""
        with self._fleet.turns.take(MEMBERS, "remove"):
            settings = self._fleet.settings(name)
            if len(self._fleet.names) == 1:
                raise ClusterError(f"{name} is the last node: cluster.stop() ends the cluster")
            self._leave(settings, timeout_s)
            with self._fleet.turns.take(name, "remove"):
                self._fleet.drop([name])
            self._feed.note(LabEvent.REMOVED, name)

    def scale(self, count: int, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Add or remove nodes, one after the other, until there are ``count``. Of those that go, stopped ones go first
        and the leader goes last."""
        check_count(count)
        if count > self.nodes_max:
            raise SettingsError(no_room(count, self.nodes_max))
        if self._fleet.outside:
            raise ClusterError(f"no size can be set from here: {self._fleet.outside}")
        with self._fleet.turns.take(MEMBERS, "scale"):
            while len(self._fleet.names) < count:
                self.add(timeout_s)
            while len(self._fleet.names) > count:
                running, leader = self._fleet.running, self._feed.leader_among(self._fleet.running)
                names = self._fleet.names
                order = {name: (name in running, name == leader, -names.index(name)) for name in names}
                self.remove(min(names, key=lambda name: order[name]), timeout_s)

    def check_replaceable(self, name: str) -> None:
        """Raise ClusterError unless the other nodes can take a new one in place of ``name``."""
        settings = self._fleet.settings(name)
        if self._fleet.outside:
            raise ClusterError(f"{name}: {self._fleet.outside}")
        others = [other for other in self._fleet.running if other != name]
        if len(others) <= len(self._fleet.names) // 2:
            raise ClusterError(
                f"{name} can't be replaced: only {len(others)} of {len(self._fleet.names)} nodes would run without"
                " it, and a majority must take the new one in"
            )
        placed = look(self._endpoints()) if self._has_shards else None
        running = [self._fleet.settings(other).endpoint for other in others]
        if placed is not None and (short := short_of(placed, settings.endpoint, running)):
            raise ClusterError(f"{name} can't be replaced: {short}, and a majority must take the new one in")

    def replace(self, name: str, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Kill a node, delete its journal, and let it come back as a new member in the old one's place."""
        with self.turn(name, "wipe"):
            self.check_replaceable(name)
            settings = self._fleet.settings(name)
            if name in (*self._fleet.running, *self._fleet.paused):
                self._fleet.end(name, signal.SIGKILL)
            self._fleet.host.wipe(settings)
            if not self._has_shards:  # else its place stays, and the new one takes it
                self._leave(settings, timeout_s)
            new = replace(settings, peers=(), join=self._to_join(name), leader=False)
            self._bring_in(new, LabEvent.RESTARTED, timeout_s)

    def to_lead(self, name: str, group: int | None) -> Sequence[int]:
        """The groups whose leadership is meant: this one; None: all that ``name`` holds.

        Raises:
            SettingsError: there is no such group.
            ClusterError: ``name`` does not hold it.
        """
        require_whole("group", group or 0, 0, self._fleet.plan.shards - 1)
        told = self._feed.newest().get(name)
        held = [each.number for each in told.groups] if told is not None and self._has_shards else []
        if group is None:
            return held or [0]
        if held and group not in held:
            raise ClusterError(
                f"{name} holds no replica of group {group}, and so it can't lead it: group="
                f"{' or '.join(map(str, held))} can be handed to it"
            )
        return [group]

    def hand_over(self, name: str, timeout_s: float = TRANSFER_TIMEOUT_S, group: int = 0) -> None:
        """Have the leader of a group hand leadership to ``name``; returns when ``name`` leads, and the feed knows it.

        Raises:
            NoLeader: no node leads.
            ClusterError: ``name`` did not take over in time; the message says why.
        """
        settings = self._fleet.settings(name)
        deadline = time.monotonic() + timeout_s
        while True:
            reached = reach_leader(self._endpoints, deadline, group)
            if reached.endpoint == settings.client_endpoint:
                self._feed.wait_until(lambda: self._feed.leader_among(self._fleet.running, group) == name, SEEN_S)
                return
            why_not = _ask_to_transfer(reached, settings.endpoint, group)
            if time.monotonic() > deadline:
                raise ClusterError(f"{name} did not take over within {timeout_s:g} s: {why_not}")
            time.sleep(POLL_S)

    # -- inside --------------------------------------------------------------------------------------------

    def _to_join(self, name: str) -> tuple[str, ...]:
        """The base endpoints that a new node may ask."""
        running = [self._fleet.settings(other).endpoint for other in self._fleet.running if other != name]
        if not running:
            raise NoLeader("no node runs that could take another one in: cluster.restart(name) starts one")
        return tuple(running)

    def _bring_in(self, settings: NodeSettings, kind: LabEvent, timeout_s: float) -> None:
        name = settings.name
        self._fleet.start(settings, kind)
        self._when_started(name)
        deadline = time.monotonic() + timeout_s
        if self._has_shards:
            wait_until_placed(
                self._endpoints, settings.endpoint, True, deadline, lambda: self._fleet.raise_if_ended(name)
            )
            return
        while True:
            member = reach_leader(self._endpoints, deadline).members.get(settings.endpoint)
            if member is not None and member.voter:
                return
            self._fleet.raise_if_ended(name)
            if time.monotonic() > deadline:
                how_far = "is a learner, and was not promoted" if member else "was not taken in"
                log = self._fleet.log_path(name)
                raise ClusterError(f"{name} {how_far} within {timeout_s:g} s: its log is {log}")
            time.sleep(POLL_S)

    def _give_up(self, settings: NodeSettings) -> None:
        """A node that did not get in leaves nothing behind, not even as a learner."""
        self._fleet.drop([settings.name])
        try:
            self._leave(settings, CHANGE_TIMEOUT_S / 10)
        except ClusterError:
            return  # no leader: then it was not taken in either, or the next change finds it

    def _leave(self, settings: NodeSettings, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        if self._has_shards:
            remove_node(self._endpoints, settings.endpoint, deadline)
            return
        member = reach_leader(self._endpoints, deadline).members.get(settings.endpoint)
        if member is not None:
            remove_member(self._endpoints, member.node_id, deadline)

    @property
    def nodes_max(self) -> int:
        """The most nodes that can have a group each."""
        plan = self._fleet.plan
        return min(MAX_NODES, plan.shards * plan.replication_factor or MAX_NODES)

    @property
    def _has_shards(self) -> bool:
        return self._fleet.plan.shards > 1

    def _endpoints(self) -> list[str]:
        """Where the nodes are that run now. Raises ClusterError if the cluster has been stopped: no wait goes on."""
        self._fleet.turns.require_open()
        return list(self._fleet.living_endpoints)


def no_room(count: int, copies: int) -> str:
    """Why a cluster with shards can't have so many nodes."""
    return (
        f"{count} nodes are more than the {copies} copies of groups that there are to hold: found a cluster with more"
        " shards, or with a larger replication factor"
    )


# -- the leader and its members ----------------------------------------------------------------------------------


def reach_leader(endpoints: Callable[[], Sequence[str]], deadline: float, group: int = 0) -> Reached:
    """The leader of a group among the nodes at these client endpoints, and the members as it knows them.

    Args:
        endpoints: where clients reach the nodes, asked for anew at each try.
        deadline: on the monotonic clock, in seconds.
        group: the Raft group.

    Raises:
        NoLeader: no node led until ``deadline``.
    """
    while True:
        asked = endpoints()
        statuses = ask.statuses_of_group(asked, group, ANSWER_TIMEOUT_S)
        endpoint = leader_of(statuses)
        if endpoint is not None:
            leader = statuses[endpoint]
            members = {each.endpoint: each for each in leader.members}
            return Reached(endpoint, members, leader.cluster, leader.shards)
        if time.monotonic() > deadline:
            raise NoLeader(
                f"no leader: {len(statuses)} of {len(asked)} nodes answer, and a majority of the members must run"
            )
        time.sleep(POLL_S)


def reach_cluster(endpoints: Sequence[str], deadline: float) -> Reached:
    """The leader, of group 0 if there are several, and all nodes of the cluster as its members; nodes that hold no
    replica of group 0 are among them.

    Raises:
        ClusterError: none of the nodes at these client endpoints answers.
        NoLeader: no node led until ``deadline``.
    """
    asked = with_all_nodes(endpoints)
    reached = reach_leader(lambda: asked, deadline)
    return reached if reached.shards == 1 else reached._replace(members=all_nodes(asked))


def let_go(reached: Reached, member: Member, endpoints: Callable[[], Sequence[str]], deadline: float) -> None:
    """Have a member leave its group, or with shards the cluster. ``endpoints``, raises: as :func:`remove_member`."""
    if reached.shards > 1:
        remove_node(endpoints, member.endpoint, deadline)
    else:
        remove_member(endpoints, member.node_id, deadline)


def member_called(name: str, reached: Reached) -> Member:
    """The member at this base endpoint, or the only one of this name.

    Raises:
        ClusterError: there is none, or there are several.
    """
    address = name if name.startswith("tcp://") else f"tcp://{name}"
    if address in reached.members:
        return reached.members[address]
    called = [member for member in reached.members.values() if name and member.name == name]
    if len(called) == 1:
        return called[0]
    listed = ", ".join(f"{each.name or 'nameless'} at {each.host}:{each.port}" for each in reached.members.values())
    raise ClusterError(f"{len(called) or 'no'} members are called {name}: there are {listed}")


def remove_member(endpoints: Callable[[], Sequence[str]], node_id: int, deadline: float, address: str = "") -> None:
    """Ask the leader, whichever node that is by then, until the group is without ``node_id``.

    Args:
        endpoints: where clients reach the members, asked for anew at each try.
        node_id: the member that is to go.
        deadline: on the monotonic clock, in seconds.
        address: with shards: the base endpoint of the node that is to leave the cluster; ``node_id`` may be 0 then.

    Raises:
        ClusterError: the leader refuses; the message says why.
        RequestRefused: that needs a key of a higher role.
        NoLeader: no node leads.
    """

    def make_query(_: str) -> control.Query:
        return control.RemoveMemberQuery(ask.new_nonce(), node_id, address=address)

    target, refused_since = "", 0.0
    while True:
        target = target or reach_leader(endpoints, deadline).endpoint
        answer = ask.ask_all([target], make_query, ANSWER_TIMEOUT_S).get(target)
        if isinstance(answer, control.OkAnswer):
            return
        error = answer if isinstance(answer, control.ErrorAnswer) else None
        if error and error.code == control.ErrorCode.FORBIDDEN:
            raise ask.error_of(error)
        refused_since = (
            (refused_since or time.monotonic()) if error and error.code == control.ErrorCode.REFUSED else 0.0
        )
        if error and refused_since and time.monotonic() - refused_since >= REFUSAL_S:
            raise ClusterError(f"the leader does not remove that node: {error.message}")
        if time.monotonic() > deadline:
            raise ClusterError("the change of the members was not committed in time: does a majority run?")
        if error is None or error.code != control.ErrorCode.BUSY:
            target = client_endpoint_of(error.leader) if error and error.leader else ""
        time.sleep(POLL_S)


def remove_node(endpoints: Callable[[], Sequence[str]], address: str, deadline: float) -> None:
    """With shards: have the node at a base endpoint leave the cluster; returns when other nodes have its replicas.

    It is named by its identity, too, so that a question that is asked again takes out no other node that has come to
    that address. If it answers, the identity is its own, and the roster may have it at another address still.

    Raises:
        ClusterError, RequestRefused, NoLeader: as :func:`remove_member`, or it takes too long.
    """
    placed = look(endpoints())
    status = placed.told.get(address) if placed is not None else None
    known = placed.roster.id_at(address) if placed is not None else 0
    if status is not None and placed is not None and known and placed.roster.has_left(status.node_id):
        raise ClusterError(
            f"{status.name} runs at {address} and has no place in this cluster, and the place there is that of another"
            f" node: end {status.name} first, and remove the place then"
        )
    remove_member(endpoints, status.node_id if status is not None else known, deadline, address)
    wait_until_placed(endpoints, address, False, deadline)


def _ask_to_transfer(reached: Reached, address: str, group: int) -> str:
    """Ask the leader to hand over to the member at this base endpoint; why that may take longer."""
    member = reached.members.get(address)
    if member is None:
        return "it is no member of the group"
    if not member.voter:
        return "it is a learner, which can't lead"
    query = control.TransferQuery(ask.new_nonce(), member.node_id)
    answer = ask.ask_all([reached.endpoint], lambda _: query, ANSWER_TIMEOUT_S, group=group).get(reached.endpoint)
    if isinstance(answer, control.ErrorAnswer):
        return answer.message
    return "the leader tries, and the node does not take over: does it run, and does it hear the leader?"
