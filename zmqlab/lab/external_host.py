"""Nodes that were started elsewhere: attached to with a key, watched, loaded, harmed, judged, and left running.

:class:`ExternalHost` is the :class:`~zmqlab.lab.hosts.Host` of such nodes, and
:meth:`Cluster.attach <zmqlab.lab.cluster.Cluster.attach>` its door. Compose, Kubernetes, a supervisor or a person has
started the nodes, on whatever machines. This process knows some of their client endpoints and may have a key.

*What works* is what travels over the nodes' own sockets: live figures and events, load, books, traces (of nodes
on this machine), the verdict, faults of links, disks, clocks and clients (of nodes that run with ``--allow-faults``,
for a key of an operator), a transfer of leadership, and the removal of a member.

*What does not work* is what needs a process or a disk: kill, pause, start, wipe, logs. Each such call raises one line
that says who can do it (:data:`OUTSIDE`), and a display keeps its button and disables it.

*Which nodes there are* is what the nodes say: the members of the newest membership (:mod:`zmqlab.client.roster`).
:class:`AttachedFleet` reads it from the feed, ten to twenty times a second. So nodes that join, leave or move are
followed, and nothing has to be told here. With several Raft groups it is the members of all of them
(:func:`members_told`), because no node knows more than its own groups' members. Which groups there are is asked once:
their number stays for good.

*Whether a node runs* can't be known from outside. A node is *heard* or not. One that has published nothing for
:data:`HEARD_S` is silent: it may be dead, paused, cut off from this process or from all. The fleet calls the nodes that
are heard *running*, because all that its callers want of a running node is that it answers. Displays read
:attr:`~zmqlab.lab.fleet.Fleet.outside`, and say *silent*.

*Times.* A silence is measured on the clock of this process, from when a snapshot came. A restart is seen by the node's
uptime, which has become shorter. Events of nodes bear the clocks of their machines: each is asked every few seconds
(:mod:`~zmqlab.lab.clock_samples`), and the feed places its events by that.

Left out on purpose: stopping what is attached to. :meth:`Cluster.stop <zmqlab.lab.cluster.Cluster.stop>` lets go of the
nodes, and they go on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from zmqlab.client import ask
from zmqlab.client.roster import newest_of, nodes_told
from zmqlab.endpoints import CLIENT_PORT, parse_endpoint
from zmqlab.errors import ClusterError, NotLetIn, SettingsError
from zmqlab.keys import forget, of_client, trust, trust_clients_ports
from zmqlab.lab.clock_samples import ClockSamples
from zmqlab.lab.events import LabEvent
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.fleet import Fleet
from zmqlab.lab.hosts import SAME_CLOCK, ClockOffset, Host, NodeProcess, Place
from zmqlab.lab.node_plan import NodePlan
from zmqlab.names import known_endpoints, numeric
from zmqlab.settings import NodeSettings
from zmqlab.wire.node_status import Member, NodeStatus

ATTACH_S = 5.0
"""How long nodes may take to answer and to know their members: an election, and a round trip or two."""
ASK_S, POLL_S = 1.0, 0.1
HEARD_S = 1.0
"""A node publishes ten times a second. After so long without a word it is silent."""
GROUPS_MS = 500
"""A node with several groups tells of each ten times a second. When it closes the first, what it told of the next one
is a little older, and no restart."""
CLOCK_S = 5.0
"""Between two questions for a node's clock. A disciplined clock parts from another by 75 µs in that time."""
CLOCK_ANSWER_S = 0.5
OUTSIDE = "these nodes were started elsewhere: start, end or pause them where they run (kill, docker, kubectl)"
"""Why no process can be touched."""


class ExternalHost(Host):
    """The machines of nodes that are attached to.

    Args:
        endpoints: where clients reach some of the nodes (base port + 2). A name stands for all its addresses.
        keys: the folder of keys for nodes that ask for one; for faults it needs a key of an operator.

    Raises:
        SettingsError: they are no endpoints, or the folder has no key for a client.
    """

    def __init__(self, endpoints: Sequence[str], keys: str | os.PathLike[str] | None = None) -> None:
        if isinstance(endpoints, str) or not endpoints:
            raise SettingsError(f"endpoints is {endpoints!r}: give a list, as in ['tcp://10.0.0.1:5002']")
        for endpoint in endpoints:
            parse_endpoint(endpoint)
        self.endpoints = tuple(endpoints)
        self.credentials = of_client(keys)
        """What is shown to the nodes; None: what this process shows everywhere."""

    def look(self, timeout_s: float = ATTACH_S) -> NodeStatus:
        """The status of the most advanced node, which names the members; with several Raft groups, of all of them.

        Raises:
            RequestTimeout: no node answers in time; NotLetIn if the key is the reason.
            ClusterError: those that answer belong to no cluster yet.
        """
        endpoints = numeric(known_endpoints(self.endpoints))
        trust_clients_ports(endpoints, self.credentials)
        deadline = time.monotonic() + timeout_s
        while True:
            told = ask.statuses(endpoints, ASK_S)
            newest = newest_of(told.values())
            if newest is not None and newest.shards > 1:
                newest = self._with_all_groups(newest, told)
            if newest is not None and len(_places_of(newest.members)) == max(1, len(newest.members)):
                return newest
            is_late = time.monotonic() > deadline
            if newest is None:
                said = f"no node answers at {', '.join(endpoints)}: do they run, is this base port + 2?"
                silence = ask.silence_of(endpoints, said)
                if is_late or isinstance(silence, NotLetIn):
                    raise silence
            elif is_late:
                raise ClusterError(
                    f"{newest.name} is {newest.role} and knows no members by name yet: start the other nodes, then"
                    " attach again"
                )
            time.sleep(POLL_S)

    def _with_all_groups(self, newest: NodeStatus, told: Mapping[str, NodeStatus]) -> NodeStatus:
        """The status with the members of all groups as its members: asks each node that is told of."""
        named = [at for status in told.values() for at in nodes_told(status)]
        endpoints = list(dict.fromkeys([*told, *named]))
        trust_clients_ports(named, self.credentials)
        groups = [ask.statuses_of_group(endpoints, group, ASK_S).values() for group in range(newest.shards)]
        return replace(newest, members=members_told(groups))

    # -- what can't be done from here ------------------------------------------------------------------------

    def places(self, count: int, others: Collection[NodeSettings] = (), exclude: Collection[int] = ()) -> list[Place]:
        """Raises ClusterError: a node is started where it is to run."""
        raise ClusterError(
            f"no node can be added from here: start one where it is to run, with zmqlab node --join {self._base}"
        )

    def start(self, settings: NodeSettings) -> NodeProcess:
        """Raises ClusterError."""
        raise ClusterError(f"{settings.name}: {OUTSIDE}")

    def log_path(self, settings: NodeSettings) -> Path:
        """Raises ClusterError."""
        raise ClusterError(
            f"the log of {settings.name} is where it runs: logs/{settings.name}.log there, docker logs, kubectl logs"
        )

    def wipe(self, settings: NodeSettings) -> None:
        """Raises ClusterError."""
        raise ClusterError(f"{settings.name}: {OUTSIDE}")

    def fetch(self, settings: NodeSettings) -> None:
        """Raises ClusterError."""
        self.log_path(settings)

    @property
    def _base(self) -> str:
        host, port = parse_endpoint(self.endpoints[0])
        return f"tcp://{host}:{port - CLIENT_PORT}"


class AttachedFleet(Fleet):
    """The nodes of a cluster that was attached to; see the module.

    Args:
        host: the endpoints and the key.
        feed: listens to the nodes, and keeps their events.
        plan: what is known of all of them.
        seen: what :meth:`ExternalHost.look` returned.
    """

    outside = OUTSIDE

    def __init__(self, host: ExternalHost, feed: MetricsFeed, plan: NodePlan, seen: NodeStatus) -> None:
        super().__init__(host, feed, plan, on_failure=lambda: None)
        self._key = host.credentials
        self._seen = seen
        self._silent: set[str] = set()
        """Nodes of which an event tells that they are not heard."""
        self._last_told: dict[str, tuple[int, int]] = {}
        """Node -> the process id and the uptime, in milliseconds, that it told last."""
        self._clocks: dict[str, ClockSamples] = {}
        self._closing = threading.Event()
        self._dropped: set[str] = set()
        """Nodes that are to be forgotten, while the newest membership that was heard still has them."""
        self.when_back: Callable[[str], None] = lambda _: None
        """Called in a thread of its own with a node that is heard again, or was restarted: it has forgotten its
        faults."""

    @property
    def running(self) -> tuple[str, ...]:
        """The nodes that are heard."""
        silent_s = self._feed.silent_s()
        return tuple(name for name in self.names if silent_s.get(name, HEARD_S) < HEARD_S)

    def process(self, name: str) -> NodeProcess:
        """Raises ClusterError: no process can be touched from here."""
        self.turns.require_open()
        self.settings(name)
        raise ClusterError(f"{name}: {OUTSIDE}")

    def found(self, count: int) -> None:
        """Listen to all members, and return when they are heard; after a while also if some, or all, are silent: a
        cluster that is out of service can be attached to as well."""
        self._follow_members(self._seen.members)
        if not self._feed.wait_until(lambda: self.running == self.names, HEARD_S):
            self._feed.wait_until(lambda: bool(self.running), ATTACH_S)
        self._ask_for_clocks()
        threading.Thread(target=self._follow_clocks, name="zmqlab-clocks", daemon=True).start()

    def clock(self, name: str) -> ClockOffset:
        """How far the clock of a node's machine is ahead, as far as that is known."""
        samples = self._clocks.get(name)
        return samples.offset() if samples is not None else SAME_CLOCK

    def close(self) -> None:
        """Refuse all verbs, and let those that wait end with an error."""
        self._closing.set()
        super().close()

    def raise_if_ended(self, name: str) -> None:
        """A node that does not answer may be anywhere. Raises ClusterError if this process has let go of it."""
        self.turns.require_open()

    def drop(self, names: Collection[str]) -> None:
        """Listen to these nodes no longer. Their processes go on."""
        with self._lock:
            self._dropped.update(names)
            self._forget(names)

    def notice_deaths(self) -> None:
        """Follow the members, and record which nodes fell silent or came back. The feed's thread calls this."""
        told = self._feed.newest()
        shards = self.plan.shards
        members = members_told(self._feed.newest(group if shards > 1 else None).values() for group in range(shards))
        if members:
            self._follow_members(members)
        silent_s = self._feed.silent_s()
        for name in self.names:
            status, age_s = told.get(name), silent_s.get(name, HEARD_S)
            if status is not None:
                self._follow_node(name, status, age_s)

    # -- inside ----------------------------------------------------------------------------------------------

    def _follow_clocks(self) -> None:
        """A thread of its own: a silent node takes its time."""
        while not self._closing.wait(CLOCK_S):
            self._ask_for_clocks()

    def _ask_for_clocks(self) -> None:
        for name in self.running:
            settings = self._settings.get(name)
            if settings is None:
                continue  # it has left just now
            sent_ns = time.time_ns()
            answer = ask.statuses([settings.client_endpoint], CLOCK_ANSWER_S).get(settings.client_endpoint)
            if answer is not None:
                samples = self._clocks.setdefault(name, ClockSamples())
                samples.sample(sent_ns, answer.time_ns, answer.time_ns, time.time_ns())

    def _follow_members(self, members: Sequence[Member]) -> None:
        places = _places_of(members)
        if len(places) < len(members):
            return  # a node that has just joined is nameless for a moment
        with self._lock:
            self._dropped &= places.keys()
            wanted = {name: place for name, place in places.items() if name not in self._dropped}
            known = {name: settings.endpoint for name, settings in self._settings.items()}
            gone = [name for name in known if name not in wanted]
            new = [each for each in members if each.name in wanted and known.get(each.name) != each.endpoint]
            self._forget([*gone, *(each.name for each in new)])
            self._settings.update((each.name, self._settings_of(each)) for each in new)
        for name in gone:
            self._feed.note(LabEvent.REMOVED, name)
        for each in new:
            if self._key is not None:
                trust([each.endpoint], self._key)
            self._feed.connect(each.endpoint)
            kind = LabEvent.RESTARTED if each.name in known else LabEvent.ATTACHED  # no process changes its address
            self._feed.note(kind, each.name, each.endpoint)

    def _settings_of(self, member: Member) -> NodeSettings:
        """What is known of a member. It was started elsewhere, so the rest says nothing."""
        return NodeSettings(
            name=member.name,
            port=member.port,
            bind=member.host,
            insecure=True,
            cluster=self._seen.cluster,
            replication=self.plan.replication,
        )

    def _forget(self, names: Collection[str]) -> None:
        for settings in [self._settings.pop(name) for name in names if name in self._settings]:
            self._feed.disconnect(settings.endpoint)
            self._feed.forget(settings.name)
            self._silent.discard(settings.name)
            self._last_told.pop(settings.name, None)
            self._clocks.pop(settings.name, None)
            forget([settings.endpoint])

    def _follow_node(self, name: str, status: NodeStatus, age_s: float) -> None:
        if age_s >= HEARD_S:
            if name not in self._silent:
                self._silent.add(name)
                self._feed.note(LabEvent.SILENT, name, "", time.time_ns() - round(age_s * 1e9))
            return
        slack_ms = GROUPS_MS if self.plan.shards > 1 else 0
        pid, uptime_ms = self._last_told.get(name, (status.pid, 0))
        restarted = status.pid != pid or status.uptime_ms + slack_ms < uptime_ms  # in a container it may be pid 1 again
        self._last_told[name] = status.pid, status.uptime_ms
        if restarted:
            self._feed.note(LabEvent.RESTARTED, name, f"pid {status.pid}")
        elif name in self._silent:
            self._feed.note(LabEvent.HEARD, name)
        if restarted or name in self._silent:
            self._silent.discard(name)
            threading.Thread(target=self._tell_again, args=(name,), name="zmqlab-tell", daemon=True).start()

    def _tell_again(self, name: str) -> None:
        try:
            self.when_back(name)
        except ClusterError:
            return  # it is gone again, or it takes no faults: then it has none


def members_told(groups: Iterable[Iterable[NodeStatus]]) -> list[Member]:
    """The members of all groups, each node once, by the newest status in each group.

    A name that this status does not tell is taken from any other one: the newest may be of a node that has just
    started, and has not heard all names yet. Of two members of one name that one counts which speaks there: with
    several groups, a node that comes back elsewhere without its disk is taken in beside its old place.

    Args:
        groups: for each group its statuses at the nodes that hold it.
    """
    statuses = [list(each) for each in groups]
    names = {each.node_id: each.name for told in statuses for one in told for each in one.members if each.name}
    newest = [found for told in statuses if (found := newest_of(told)) is not None]
    members = {
        each.endpoint: replace(each, name=each.name or names.get(each.node_id, ""))
        for found in newest
        for each in found.members
    }
    homes = {one.name: one.address for told in statuses for one in told if one.address in members}
    return [each for at, each in members.items() if homes.get(each.name, at) == at]


def _places_of(members: Sequence[Member]) -> dict[str, str]:
    """Name -> base endpoint, of the members that have a name."""
    return {each.name: each.endpoint for each in members if each.name}
