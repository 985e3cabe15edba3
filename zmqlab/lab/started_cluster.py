"""All that a started cluster has: how it is made, how its nodes begin, and how everything ends.

It does not know its :class:`~zmqlab.lab.cluster.Cluster`. So the register can end it when the Cluster is forgotten: a
function that referred to the Cluster would keep it alive.

*Making* opens the run folder first, because a cluster that has run there gives its name and its ports. *Beginning*
starts the nodes, new ones or those. *Ending* goes backwards: what works with the nodes, the nodes, the feed, the
folder. If any step of this fails, the others are done all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zmqlab.client import ask
from zmqlab.errors import ClusterError, NoLeader, SettingsError
from zmqlab.keys import ALLOWED
from zmqlab.lab.external_host import AttachedFleet, ExternalHost
from zmqlab.lab.fault_table import FaultTable
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.fleet import Fleet
from zmqlab.lab.hosts import Host, Place
from zmqlab.lab.node_plan import KEY_FOLDER, NodePlan
from zmqlab.lab.register import Ending
from zmqlab.lab.run_folders import KnownCluster, RunFolder
from zmqlab.lab.scaling import Scaling
from zmqlab.settings import NodeSettings, require_whole
from zmqlab.tables import NodeState, StatusTable

if TYPE_CHECKING:
    from zmqlab.lab.scraping import Targets

ATTACHED = "attached"
"""The name of a cluster whose nodes name none."""


HEARD_S = 5.0
"""How long what nodes publish may take to be heard. They do it ten times a second, and less often on a machine that
others want as well."""


@dataclass(eq=False, slots=True)
class StartedCluster:
    """See the module. Made by :func:`make`."""

    name: str
    folder: RunFolder
    feed: MetricsFeed
    fleet: Fleet
    faults: FaultTable
    scaling: Scaling
    targets: Targets | None
    known: KnownCluster | None
    """The cluster that has run in the folder before; None: it is new."""
    end: Ending
    """Ends all."""

    def begin(self, count: int) -> None:
        """Start the nodes, ``count`` of them if the cluster is new; return when they take orders.

        Raises:
            NodeError: a node could not start.
        """
        if self.known is None:
            self.fleet.found(count)
        else:
            plan = self.fleet.plan
            self.fleet.reopen(
                [
                    plan.settings(each.name, Place(each.address, each.port), peers=each.peers, join=each.join)
                    for each in self.known.nodes
                ]
            )
        self.feed.on_turn(self.fleet.notice_deaths, at_once=True)
        if self.fleet.plan.shards > 1:  # the nodes are ready, and will say so in a tenth of a second
            self.hear_leaders()

    def hear_all(self) -> bool:
        """Wait until the feed has heard each node that runs, for at most :data:`HEARD_S`; whether it has."""
        return self.feed.wait_until(lambda: self.feed.newest().keys() >= set(self.fleet.running), HEARD_S)

    def hear_leaders(self) -> bool:
        """Wait until the feed has heard a leader of each group, for at most :data:`HEARD_S`; whether it has."""
        groups = range(self.fleet.plan.shards)
        return self.feed.wait_until(
            lambda: all(self.feed.leader_among(self.fleet.running, group) for group in groups), HEARD_S
        )

    def wait_for_leader(self, timeout_s: float, group: int | None = 0) -> str:
        """The name of the leader among the running nodes, of one of the groups, as soon as there is one; ``group``
        None: the node that leads the most groups, as soon as any leads one.

        Raises:
            NoLeader: not within ``timeout_s``.
            SettingsError: there is no such group.
            ClusterError: the cluster has been stopped.
        """
        if group is not None:
            require_whole("group", group, 0, self.fleet.plan.shards - 1)
        found: list[str] = []

        def look() -> bool:
            self.fleet.turns.require_open()
            running, feed = self.fleet.running, self.feed
            found[:] = [feed.leading_most(running) if group is None else feed.leader_among(running, group)]
            return bool(found[0])

        if not self.feed.wait_until(look, timeout_s):
            run, advice = "run", "cluster.restart(name) starts one"
            if self.fleet.outside:
                run, advice = "are heard", self.fleet.outside
            of_group, members = (f" of group {group}", " of its members") if self.fleet.plan.shards > 1 else ("", "")
            if group is None and of_group:
                of_group, members = " of any group", " of a group's members"
            raise NoLeader(
                f"no leader{of_group} within {timeout_s:g} s: {len(self.fleet.running)} of {len(self.fleet.names)}"
                f" nodes {run}, and a majority{members} must: {advice}, cluster.status() shows all"
            )
        return found[0]

    def status(self, timeout_s: float) -> StatusTable:
        """Ask every running node how it is; of nodes that others have started, every one."""
        running, paused = self.fleet.running, self.fleet.paused
        nodes = {each.name: each.client_endpoint for each in self.fleet.nodes}  # one may be let go while all are asked
        asked = {name: endpoint for name, endpoint in nodes.items() if self.fleet.outside or name in running}
        answers = ask.statuses(asked.values(), timeout_s)

        def state(name: str, endpoint: str) -> NodeState:
            if name not in asked:
                return NodeState(name, endpoint, "paused" if name in paused else "stopped")
            status = answers.get(endpoint)
            return NodeState(name, endpoint, "running" if status else "silent", status)

        return StatusTable(tuple(state(name, endpoint) for name, endpoint in nodes.items()))


def make(name: str, count: int, plan: NodePlan, host: Host, folder: RunFolder) -> StartedCluster:
    """Open the folder and make all but the processes.

    Args:
        name: of a new cluster.
        count: how many nodes it begins with.
        plan: what they have in common; its name and folder are given here.
        host: where they run.
        folder: of the run.

    Raises:
        ClusterError: another cluster uses the folder, or what is in it can't be started.
        SettingsError: the folder can't be used, or holds a cluster of another size.
        RequestTimeout: the nodes that are to be attached to do not answer.
    """
    end = Ending()
    try:
        end.also(folder.leave)
        folder.open()
        if isinstance(host, ExternalHost):
            return _attach(plan, host, folder, end)
        known = _known_in(folder, count, plan)
        name = known.name if known is not None else name
        plan = replace(plan, cluster=name, run_dir=folder.path, keys=plan.keys or _has_keys(folder.path))
        targets = None
        if plan.metrics:
            from zmqlab.lab.scraping import Targets  # it brings the Prometheus client along

            targets = Targets(folder.path, name)
            end.also(targets.clear)
        feed = MetricsFeed(plan.shards)
        end.also(feed.close)

        def changed(nodes: Iterable[NodeSettings]) -> None:
            folder.remember(name, count, nodes)
            if targets is not None:
                targets.show_nodes(nodes)

        fleet = Fleet(host, feed, plan, folder.keep_evidence, changed)
        feed.clock = fleet.clock
        end.also(lambda: fleet.leave_host(folder.keep))
        end.also(fleet.end_all)
        end.first = fleet.close  # what waits for a node ends at once
        faults = FaultTable(fleet)
        scaling = Scaling(fleet, feed, faults.tell_again)
        return StartedCluster(name, folder, feed, fleet, faults, scaling, targets, known, end)
    except BaseException:
        end()
        raise


def _attach(plan: NodePlan, host: ExternalHost, folder: RunFolder, end: Ending) -> StartedCluster:
    """The same for nodes that were started elsewhere. What they have in common, they say."""
    seen = host.look()
    name = seen.cluster or ATTACHED
    plan = replace(
        plan,
        cluster=name,
        run_dir=folder.path,
        replication=seen.replication or plan.replication,
        shards=seen.shards,
        replication_factor=seen.replication_factor,
    )
    feed = MetricsFeed(seen.shards)
    end.also(feed.close)
    fleet = AttachedFleet(host, feed, plan, seen)
    feed.clock = fleet.clock
    end.also(fleet.end_all)
    end.first = fleet.close
    faults = FaultTable(fleet)
    fleet.when_back = faults.tell_again
    return StartedCluster(name, folder, feed, fleet, faults, Scaling(fleet, feed), None, None, end)


def _has_keys(run_dir: Path) -> bool:
    """Whether the cluster that ran in this folder had keys. Then it has them again: its sessions belong to keys."""
    return (run_dir / KEY_FOLDER / ALLOWED).exists()


def _known_in(folder: RunFolder, count: int, plan: NodePlan) -> KnownCluster | None:
    known = folder.known()
    if known is None:
        return None
    anew = "or begin anew there with fresh=True, or --fresh"
    if plan.durability == "memory":
        raise ClusterError(
            f"{folder.path} has journals, which nodes with durability memory do not read: leave it, {anew}"
        )
    if known.replication != plan.replication:
        raise SettingsError(
            f"the nodes in {folder.path} copy their log by {known.replication}, and not by {plan.replication}: say"
            f" replication={known.replication!r} to go on with them, {anew}"
        )
    if (known.shards, known.replication_factor) != (plan.shards, plan.replication_factor):
        raise SettingsError(
            f"the nodes in {folder.path} have {known.shards} groups with replication factor {known.replication_factor}:"
            f" say shards={known.shards}, replication_factor={known.replication_factor} to go on with them, {anew}"
        )
    if known.founded_with != count:
        raise SettingsError(
            f"the cluster in {folder.path} began with {known.founded_with} nodes, not {count}: say"
            f" nodes={known.founded_with} to go on with it, {anew}"
        )
    return known
