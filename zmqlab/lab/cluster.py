"""A cluster of real node processes: started, broken, mended, scaled and watched from Python.

This class is the front, one method for each thing that a person does. The rooms behind it:

- :mod:`~zmqlab.lab.fleet`: the nodes' processes, on a :mod:`host <zmqlab.lab.hosts>`;
- :mod:`~zmqlab.lab.faults`, :mod:`~zmqlab.lab.node_faults`: what can be broken, and how it is undone; its verbs
  (``kill``, ``cut``, ``slow_disk`` and so on) are inherited from :mod:`~zmqlab.lab.fault_verbs`;
- :mod:`~zmqlab.lab.fault_table`: the links that are bad, and what nodes suffer;
- :mod:`~zmqlab.lab.scaling`: the members of the groups, and their leaders;
- :mod:`~zmqlab.lab.feed`: what the nodes publish, and the events;
- :mod:`~zmqlab.lab.run_folders`: the folder with logs and journals;
- :mod:`~zmqlab.lab.started_cluster`: all of these together, made and ended;
- :mod:`~zmqlab.lab.register`: what ends a cluster that its maker has lost sight of.

The object owns its processes. They end with :meth:`Cluster.stop`, with the ``with`` block, when nothing refers to the
object any more, when the notebook's cell that made it runs again, at the interpreter's exit, and, if this process is
killed outright, by the end of a pipe that the host holds.

Every method may be called from any thread, and verbs on one node take turns. After :meth:`Cluster.stop` all verbs raise
ClusterError; what was seen (``events``, ``status()``, ``nodes``, ``log_path()``) can still be read. Times in events are
the wall clock of this machine in nanoseconds.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmqlab.errors import ClusterError, ZmqlabError
from zmqlab.lab import register
from zmqlab.lab.external_host import ExternalHost
from zmqlab.lab.fault_table import FaultTable
from zmqlab.lab.fault_verbs import FaultVerbs
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.fleet import Fleet, check_count
from zmqlab.lab.group_facts import how_many_are_led
from zmqlab.lab.hosts import ClockOffset, Host, LocalHost
from zmqlab.lab.node_plan import NodePlan, check_shards
from zmqlab.lab.rolling_change import change_settings
from zmqlab.lab.run_folders import RunFolder
from zmqlab.lab.sampled_traces import Traces
from zmqlab.lab.scaling import CHANGE_TIMEOUT_S, Scaling
from zmqlab.lab.started_cluster import StartedCluster, make
from zmqlab.lab.trace_leases import trace
from zmqlab.replica.replications import replication_of
from zmqlab.settings import DEFAULT_REPLICATION, Ack, Durability, LogLevel, Reads, require_path
from zmqlab.tables import EventTable, StatusTable
from zmqlab.wire.fault_queries import LinkFault
from zmqlab.wording import counted

if TYPE_CHECKING:
    from zmqlab.client.order_client import Client
    from zmqlab.lab.scraping import Targets


class Cluster(FaultVerbs):
    """Nodes ``node0``, ``node1``, ... on free ports, as processes of their own.

    Args:
        nodes: how many, 1 to 15.
        shards: how many Raft groups share the symbols, 1 to 64. Each order touches one group.
        replication_factor: how many nodes hold each group; 0: all.
        durability: ``os`` survives the death of every process, ``fsync`` a power cut, ``memory`` nothing.
        replication: how the nodes copy the log, by name (:mod:`zmqlab.replica.replications`) or as ``module:Class``.
        ack: ``quorum``, or ``leader``: Raft's leader answers before the quorum. ``none`` is for the load client, too.
        run_dir: where logs and journals go. If a cluster has run there, this is that cluster again, at the same ports
            and with its orders. None: a temporary folder, which is removed at the end unless a node died by itself or
            a verdict failed.
        keep: keep the temporary folder in any case.
        log_level: of the nodes' log files: ``debug``, ``info``, ``warning`` or ``error``.
        metrics: every node shows metrics; ``prometheus/targets.json`` in the run folder tells Prometheus where.
        keys: nodes let in only who has a key, and encrypt all traffic. The keys are made in ``keys`` in the run folder;
            a folder that has keys keeps them. Without keys every process on this machine may speak to the nodes.
        host: where nodes run; processes on this machine by default. ``DaskHost(client)``: on the workers of a Dask
            cluster (:mod:`zmqlab.lab.dask_host`). Nodes that run already: :meth:`attach`.
        settings: settings of the nodes beyond these, as ``{"election_ticks": 40}`` or ``{"snapshot_log_bytes": 65536}``
            (docs/settings.md).
        fresh: begin anew in ``run_dir``: the journals and logs of the cluster that has run there are deleted.

    Raises:
        SettingsError: an argument is none of these; the message names it.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        shards: int = 1,
        replication_factor: int = 0,
        durability: Durability = "os",
        replication: str = DEFAULT_REPLICATION,
        ack: Ack = "quorum",
        run_dir: str | Path | None = None,
        keep: bool = False,
        log_level: LogLevel = "info",
        metrics: bool = False,
        keys: bool = False,
        host: Host | None = None,
        fresh: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        check_count(nodes)
        check_shards(nodes, shards, replication_factor)
        self.shards = shards
        """How many Raft groups share the symbols; of nodes that were attached to, as they say."""
        self.name = f"lab-{secrets.token_hex(3)}"
        self._folder = RunFolder(require_path("run_dir", run_dir) if run_dir is not None else None, keep, fresh)
        self._count = nodes
        where = Path()  # start() knows it
        self.ack = ack
        """What its load clients wait for, unless they are told otherwise."""
        self._plan = NodePlan(
            cluster=self.name,
            run_dir=where,
            durability=durability,
            replication=replication_of(replication, ack),
            shards=shards,
            replication_factor=replication_factor,
            log_level=log_level,
            metrics=metrics,
            keys=keys,
            more=settings or {},
        )
        self._host = host or LocalHost()
        self._rooms: StartedCluster | None = None
        """None until :meth:`start`; stays after :meth:`stop`, so that events can still be read."""
        self._starting = threading.RLock()

    @classmethod
    def attach(
        cls,
        endpoints: Sequence[str],
        *,
        keys: str | Path | None = None,
        ack: Ack = "quorum",
        run_dir: str | Path | None = None,
    ) -> Cluster:
        """The cluster of nodes that were started elsewhere, on whatever machines (:mod:`~zmqlab.lab.external_host`).

        What travels over the nodes' sockets works as ever: load, figures, faults by query, verdict, panel. What needs
        their processes or disks (kill, pause, start, wipe, logs) raises ClusterError, and the message says who can.
        :meth:`stop` lets go of the nodes, and they go on.

        Args:
            endpoints: where clients reach some of the nodes (base port + 2); the others are found by them.
            keys: the folder with a key of an operator, if the nodes ask for keys.
            ack: what load clients wait for; as the nodes were started.
            run_dir: where this side's record of a run goes; None: a temporary folder.

        Raises:
            RequestTimeout: no node answers; NotLetIn if the key is the reason.
            ClusterError: the nodes that answer belong to no cluster yet.
            SettingsError: they are no endpoints, or there is no such key.
        """
        return cls(host=ExternalHost(endpoints, keys), ack=ack, run_dir=run_dir).start()

    # -- life ----------------------------------------------------------------------------------------------

    def start(self) -> Cluster:
        """Start all nodes and return when they take orders.

        Raises:
            NodeError: a node could not start; the message is what it said.
            ClusterError: it was started before, no ports are free, or another cluster uses the folder.
            SettingsError: the folder can't be used, or holds a cluster of another size.
        """
        with self._starting:
            if self._rooms is not None:
                self._rooms.fleet.turns.require_open()
                raise ClusterError("this cluster has been started already: make another Cluster")
            register.replace_earlier()
            self._rooms = rooms = make(self.name, self._count, self._plan, self._host, self._folder)
            self.name, self.shards = rooms.name, rooms.fleet.plan.shards
            try:
                register.enter(self, rooms.end)
                rooms.begin(self._count)
            except BaseException as error:
                self.keep = self.keep or isinstance(error, ZmqlabError)  # then the logs say why
                rooms.end()
                self._folder.name_in(error)
                raise
        return self

    def stop(self) -> None:
        """End all nodes and the feed; remove the temporary folder. Calling it twice is fine.

        In a forked child it does nothing: the cluster belongs to the process that started it.
        """
        if self._rooms is not None:
            self._rooms.end()

    def __enter__(self) -> Cluster:
        return self if self._rooms is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def at_stop(self, close: Callable[[], None]) -> Callable[[], object]:
        """Call ``close`` before the nodes are ended: what works with them ends first.

        A ``close`` that refers to this object keeps it from being forgotten.

        Returns:
            A function that takes this back: what ``close`` ends has ended already.

        Raises:
            ClusterError: the cluster has not been started, or has been stopped.
        """
        self.fleet.turns.require_open()
        return self._started.end.also(close)

    @property
    def keep(self) -> bool:
        """Whether the run folder stays when the cluster stops."""
        return self._folder.keep

    @keep.setter
    def keep(self, keep: bool) -> None:
        self._folder.keep = keep

    # -- faults are in the base class ------------------------------------------------------------------------

    def change(
        self, *, durability: Durability | None = None, reads: Reads | None = None, timeout_s: float = CHANGE_TIMEOUT_S
    ) -> None:
        """Give all nodes another setting while the cluster goes on: each starts anew from its journal, one after the
        other, leaders last. Each group that has three members or more is served all the time.
        :mod:`~zmqlab.lab.rolling_change` says why these two can be changed, and no others.

        Args:
            durability: ``os`` or ``fsync``.
            reads: ``linearizable``; or ``local``, with which reads may be stale.
            timeout_s: how long each node may take to come back and to catch up, in each group that it holds.

        Raises:
            SettingsError: a setting has no such value.
            ClusterError: it needs a new cluster, or a node does not run or catch up, or a link is cut. Nothing has
                changed then.
            NodeError: a node did not come back, or did not catch up. Nodes before it have the new settings.
        """
        wanted = {"durability": durability, "reads": reads}
        change_settings(self._started, {name: value for name, value in wanted.items() if value is not None}, timeout_s)

    @property
    def links(self) -> dict[tuple[str, str], LinkFault]:
        """``(source, target)`` -> what is wrong, for the links that are not whole."""
        return self._rooms.faults.faults if self._rooms else {}

    # -- members and leadership ----------------------------------------------------------------------------

    def add(self, timeout_s: float = CHANGE_TIMEOUT_S) -> str:
        """Start one more node; returns its name once it has caught up and votes.

        Raises:
            NodeError: it could not start.
            ClusterError: it was not taken in, or not promoted, in time; with shards also: no copy is left for it.
        """
        return self.scaling.add(timeout_s)

    def remove(self, name: str, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Let a node go for good: the group is told first, a leader hands over, then it ends, and its journal with it.

        Raises:
            ClusterError: it is the last one, or the others would have no majority, or that was not committed in time.
        """
        self.scaling.remove(name, timeout_s)

    def scale(self, count: int, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Add or remove nodes, one after the other, until there are ``count``; each change has ``timeout_s``.

        Raises:
            SettingsError: a cluster can't have so many.
            ClusterError: a change was not committed in time.
        """
        self.scaling.scale(count, timeout_s)

    @property
    def leader(self) -> str:
        """The name of the leader, of group 0 if there are several; waits up to 5 s for one. Raises NoLeader."""
        return self.wait_for_leader(5.0)

    @property
    def leaders(self) -> dict[int, str]:
        """Group -> the node that leads it, as nodes last said; empty: none does."""
        running = self.running
        return {group: self.feed.leader_among(running, group) for group in range(self.shards)}

    def wait_for_leader(self, timeout_s: float = 5.0, group: int | None = 0) -> str:
        """The name of the leader among the running nodes, of one of the groups, as soon as there is one; ``group``
        None: the node that leads the most groups (of equals the first), as soon as any leads one.

        Raises:
            NoLeader: not within ``timeout_s``.
            SettingsError: there is no such group.
            ClusterError: the cluster has been stopped.
        """
        return self._started.wait_for_leader(timeout_s, group)

    # -- views ---------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all nodes, running or not."""
        return self._rooms.fleet.names if self._rooms else tuple(f"node{number}" for number in range(self._count))

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the nodes whose processes run and are not paused."""
        return self._rooms.fleet.running if self._rooms else ()

    @property
    def paused(self) -> tuple[str, ...]:
        """The names of the paused nodes."""
        return self._rooms.fleet.paused if self._rooms else ()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where clients connect: one endpoint a node, running or not."""
        return tuple(each.client_endpoint for each in self.fleet.nodes)

    @property
    def living_endpoints(self) -> tuple[str, ...]:
        """Where clients reach the nodes that run and are not paused."""
        return self.fleet.living_endpoints

    @property
    def machines(self) -> dict[str, str]:
        """Node -> the machine that it is on: what fails together, by the word of the host."""
        fleet = self.fleet
        return {each.name: fleet.host.machine(each) for each in fleet.nodes}

    @property
    def clocks(self) -> dict[str, ClockOffset]:
        """Node -> how far the clock of its machine is ahead of the one here, as far as the host has measured it."""
        return {name: self.fleet.clock(name) for name in self.fleet.names}

    @property
    def events(self) -> EventTable:
        """What happened, oldest first: elections, faults, deaths, changes of the members."""
        return EventTable(sorted(self.feed.events(), key=lambda event: event.time_ns))

    def status(self, timeout_s: float = 1.0) -> StatusTable:
        """Ask every running node how it is; a table."""
        return self._started.status(timeout_s)

    def client(self, timeout_s: float = 5.0) -> Client:
        """A client of all nodes, for single orders and questions. Close it, or use it in a ``with`` block."""
        from zmqlab.client.order_client import Client  # a cluster without clients loads nothing of them

        self.fleet.turns.require_open()
        return Client(self.endpoints, timeout_s=timeout_s, watch=self.feed.traces)

    def trace(
        self, share: float = 0.01, seconds: float = 30.0, *, heartbeats: bool = False, group: int | None = None
    ) -> Traces:
        """Have nodes and clients tell what they send, receive and do, for the next ``seconds``; returns what is told.

        What is sent after it has returned is seen by all nodes that run.

        Args:
            share: of the requests, from 0 to 1. Elections are traced in any case.
            seconds: at most an hour; 0 ends a trace with the same ``share``.
            heartbeats: whether a leader's empty messages are traced, too.
            group: which of several Raft groups; one is traced at a time. None: the same as before, at first 0.

        Raises:
            SettingsError: a value is out of its range.
            ClusterError: the cluster has not been started, or has been stopped.
        """
        self.fleet.turns.require_open()
        self._started.hear_all()
        return trace(self.feed, share, seconds, heartbeats=heartbeats, group=group)

    @property
    def traces(self) -> Traces:
        """What was told while :meth:`trace` was on: ``request()``, ``election()``, and all messages."""
        return self.feed.traces

    @property
    def run_dir(self) -> Path:
        """Where the logs and journals are."""
        return self._folder.path

    def log_path(self, name: str) -> Path:
        """The log file of a node."""
        return self.fleet.log_path(name)

    def pid(self, name: str) -> int:
        """The process id of a running or paused node."""
        return self.fleet.process(name).pid

    def __repr__(self) -> str:
        if self._rooms is None:
            return f"<Cluster {self.name} of {counted(self._count, 'node')}, not started>"
        led = sum(map(bool, self.leaders.values()))
        leader = f"leader {self.feed.leader_among(self.running) or 'none'}"
        leads = how_many_are_led(led, self.shards) if self.shards > 1 else leader
        if self.fleet.outside:
            heard = f"{len(self.running)} of {len(self.nodes)} nodes are heard"
            return f"<Cluster {self.name}, started elsewhere: {heard}, {leads}>"
        paused = f", {len(self.paused)} paused" if self.paused else ""
        return (
            f"<Cluster {self.name}: {len(self.running)} of {len(self.nodes)} nodes run{paused}, "
            f"{leads}, in {self.run_dir}>"
        )

    def _repr_html_(self) -> str:
        if self._rooms is None:
            return f"<p>Cluster {self.name} of {counted(self._count, 'node')}, not started</p>"
        return f"<p>Cluster {self.name}</p>{self.status(0.5)._repr_html_()}"

    # -- the rooms behind ----------------------------------------------------------------------------------

    @property
    def feed(self) -> MetricsFeed:
        """The live figures and the events."""
        return self._started.feed

    @property
    def fleet(self) -> Fleet:
        """The nodes' processes."""
        return self._started.fleet

    @property
    def fault_table(self) -> FaultTable:
        """What the nodes suffer: bad links, disks, clocks and clients."""
        return self._started.faults

    @property
    def scaling(self) -> Scaling:
        """The members and the leadership."""
        return self._started.scaling

    @property
    def targets(self) -> Targets | None:
        """What Prometheus is told, with ``metrics``."""
        return self._rooms.targets if self._rooms else None

    @property
    def _started(self) -> StartedCluster:
        if self._rooms is None:
            raise ClusterError("the cluster has not been started: use `with Cluster() as cluster:` or cluster.start()")
        owner = self._rooms.end.owner
        if os.getpid() != owner:
            raise ClusterError(f"this cluster belongs to process {owner}, from which this one was forked")
        return self._rooms
