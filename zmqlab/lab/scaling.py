"""Who belongs to a cluster: adding, removing and replacing nodes, one at a time, while it works.

A new node is started with ``--join`` and asks to be taken in by itself: the leader makes it a learner, sends it the log
and promotes it when it has caught up (:mod:`zmqlab.replica.members`). To remove one, the leader is asked to commit a
configuration without it, and only then its process is ended; a leader that is to go hands over first. A node whose disk
is wiped has forgotten its votes: the old member is removed, and a new one, with an identity of its own, comes to the
same place under the same name.

Everything here waits until it is committed. What is asked of the leader is asked again until it is done, whoever leads
by then, so that a change survives an election in its midst.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from zmqlab.cluster import queries
from zmqlab.errors import ClusterError, NoLeader, PortInUse, SettingsError
from zmqlab.lab.fleet import Nodes, wipe_journal
from zmqlab.lab.hosts import NodeProcess
from zmqlab.lab.ports import METRICS_OFFSET, free_base_ports
from zmqlab.lab.start import MAX_NODES, free_name, raise_if_ended
from zmqlab.settings import NodeSettings, client_endpoint, parse_endpoint
from zmqlab.wire import control

CHANGE_TIMEOUT_S = 30.0
"""Of one change. A small log is copied in a second; an election in between takes a quarter of one."""
ANSWER_TIMEOUT_S = 0.5
POLL_S = 0.02
START_ATTEMPTS = 5


class Reached(NamedTuple):
    """The leader as it answered just now."""

    endpoint: str
    """Where clients reach it."""
    members: dict[str, control.Member]
    """By base endpoint."""
    cluster: str = ""
    """The name of the :class:`~zmqlab.lab.cluster.Cluster` that it belongs to; empty if it was started by hand."""


class Membership:
    """Changes the members of the cluster that ``nodes`` are the processes of; one change at a time."""

    def __init__(
        self, nodes: Nodes, when_started: Callable[[NodeSettings, NodeProcess], None] = lambda _settings, _process: None
    ) -> None:
        """``when_started`` is called with each node that is started, before it is taken in."""
        self._nodes = nodes
        self._when_started = when_started
        self._one_at_a_time = threading.RLock()

    def add(self, like: NodeSettings, timeout_s: float) -> str:
        """Start one more node with settings like ``like``, and return its name once it votes."""
        with self._one_at_a_time:
            if len(self._nodes.names) >= MAX_NODES:
                raise ClusterError(f"{len(self._nodes.names)} nodes run already: {MAX_NODES} are the most")
            name = free_name(self._nodes.names)
            refused: PortInUse | None = None
            tried = set(self._nodes.ports)
            for _ in range(START_ATTEMPTS):
                (port,) = free_base_ports(1, exclude=tried)
                tried.add(port)
                metrics_port = port + METRICS_OFFSET if like.metrics_port else 0
                join = self._to_join(name)
                settings = replace(
                    like, name=name, port=port, peers=(), join=join, leader=False, metrics_port=metrics_port
                )
                try:
                    self._bring_in(settings, "added", timeout_s)
                except PortInUse as error:
                    refused = error
                    self._nodes.drop([name])
                except BaseException:
                    self._give_up(settings)
                    raise
                else:
                    return name
            raise refused or ClusterError(f"{name} did not start")

    def remove(self, name: str, timeout_s: float) -> None:
        """Let ``name`` go: out of the group, then ended; its journal is deleted."""
        with self._one_at_a_time:
            settings = self._nodes.settings(name)
            if len(self._nodes.names) == 1:
                raise ClusterError(f"{name} is the last node: cluster.stop() ends the cluster")
            self._leave(settings, timeout_s)
            self._nodes.drop([name])
            self._nodes.record(name, "removed")

    def scale(self, like: NodeSettings, count: int, leader: Callable[[], str], timeout_s: float) -> None:
        """Add or remove nodes, one after the other, until there are ``count``. Of those that go, stopped ones go first,
        the leader goes last."""
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_NODES:
            raise SettingsError(f"a cluster of {count!r} nodes: it must be a whole number from 1 to {MAX_NODES}")
        with self._one_at_a_time:
            while len(self._nodes.names) < count:
                self.add(like, timeout_s)
            while len(self._nodes.names) > count:
                running, leads = self._nodes.running, leader()
                names = self._nodes.names
                order = {name: (name in running, name == leads, -names.index(name)) for name in names}
                self.remove(min(names, key=lambda name: order[name]), timeout_s)

    def wipe(self, name: str, timeout_s: float) -> None:
        """Kill a node, delete its journal, and let it come back as a new member in the old one's place."""
        with self._one_at_a_time:
            settings = self._nodes.settings(name)
            others = [other for other in self._nodes.running if other != name]
            if len(others) <= len(self._nodes.names) // 2:
                raise ClusterError(
                    f"{name} can't be replaced: only {len(others)} of {len(self._nodes.names)} nodes would run without"
                    " it, and a majority must take the new one in"
                )
            if name in (*self._nodes.running, *self._nodes.paused):
                self._nodes.end(name, signal.SIGKILL, "killed")
            wipe_journal(settings)
            self._nodes.record(name, "wiped")
            self._leave(settings, timeout_s)
            self._bring_in(replace(settings, peers=(), join=self._to_join(name), leader=False), "restarted", timeout_s)

    # -- inside ------------------------------------------------------------------------------------------

    def _to_join(self, name: str) -> tuple[str, ...]:
        """The base endpoints that a new node may ask."""
        running = [self._nodes.settings(other).endpoint for other in self._nodes.running if other != name]
        if not running:
            raise NoLeader("no node runs that could take another one in: cluster.restart(name) starts one")
        return tuple(running)

    def _bring_in(self, settings: NodeSettings, kind: str, timeout_s: float) -> None:
        process = self._nodes.start(settings, kind)
        self._when_started(settings, process)
        deadline = time.monotonic() + timeout_s
        while True:
            reached = reach_leader(self._endpoints(), deadline)
            member = reached.members.get(settings.endpoint)
            if member is not None and member.voter:
                return
            raise_if_ended(settings, process)
            if time.monotonic() > deadline:
                how_far = "is a learner, and was not promoted" if member else "was not taken in"
                raise ClusterError(f"{settings.name} {how_far} within {timeout_s:g} s: see cluster.log_path(name)")
            time.sleep(POLL_S)

    def _give_up(self, settings: NodeSettings) -> None:
        """A node that did not get in leaves nothing behind, not even as a learner."""
        self._nodes.drop([settings.name])
        try:
            self._leave(settings, CHANGE_TIMEOUT_S / 10)
        except ClusterError:
            return  # no leader: then it was not taken in either, or the next change finds it

    def _leave(self, settings: NodeSettings, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        member = reach_leader(self._endpoints(), deadline).members.get(settings.endpoint)
        if member is not None:
            remove_member(self._endpoints, member.node_id, deadline)

    def _endpoints(self) -> list[str]:
        return [self._nodes.endpoint(name) for name in self._nodes.running]


def reach_leader(endpoints: Sequence[str], deadline: float) -> Reached:
    """The leader among the nodes at these client endpoints, and the members as it knows them.

    Raises:
        NoLeader: nobody led until ``deadline`` (monotonic clock, seconds).
    """
    while True:
        statuses = queries.statuses(endpoints, ANSWER_TIMEOUT_S)
        leaders = {endpoint: status for endpoint, status in statuses.items() if status.role == "leader"}
        if leaders:
            endpoint, status = max(leaders.items(), key=lambda item: item[1].term)
            members = {f"tcp://{each.host}:{each.port}": each for each in status.members}
            return Reached(endpoint, members, status.cluster)
        if time.monotonic() > deadline:
            raise NoLeader(
                f"no leader: {len(statuses)} of {len(endpoints)} nodes answer, and a majority of the members must run"
            )
        time.sleep(POLL_S)


def member_called(name: str, reached: Reached) -> control.Member:
    """The member of that name or, where several share it or it has told none, at that base endpoint.

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


def remove_member(endpoints: Callable[[], Sequence[str]], node_id: int, deadline: float) -> None:
    """Ask whoever leads until the group is without ``node_id``.

    Args:
        endpoints: where clients reach the members, asked for anew at each try.
        deadline: on the monotonic clock, in seconds.

    Raises:
        ClusterError: the leader refuses; the message says why. NoLeader: nobody leads.
    """

    def make_query(_: str) -> control.Query:
        return control.RemoveMemberQuery(queries.new_nonce(), node_id)

    target = ""
    while True:
        target = target or reach_leader(endpoints(), deadline).endpoint
        answer = queries.ask_all([target], make_query, ANSWER_TIMEOUT_S).get(target)
        if isinstance(answer, control.OkAnswer):
            return
        if isinstance(answer, control.ErrorAnswer) and answer.code == "refused":
            raise ClusterError(f"the leader does not remove that node: {answer.message}")
        if time.monotonic() > deadline:
            raise ClusterError("the change of the members was not committed in time: does a majority run?")
        if not isinstance(answer, control.ErrorAnswer) or answer.code != "busy":
            leader = answer.leader if isinstance(answer, control.ErrorAnswer) else ""
            target = client_endpoint(*parse_endpoint(leader)) if leader else ""
        time.sleep(POLL_S)
