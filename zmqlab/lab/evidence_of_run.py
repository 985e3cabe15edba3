"""How the evidence of a run is collected and taken: of one Raft group, or of each of several.

The judge knows neither a cluster nor a feed (:mod:`zmqlab.judge`). Here stands which nodes it asks for which group: of
a cluster those that run, and with several groups those that hold the group, as they last published.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from zmqlab.judge.evidence import acknowledgements_of, book_reads_of, totals_of
from zmqlab.judge.log_collector import Collectors, GroupCollectors, LogCollector, WatchedEndpoints
from zmqlab.judge.run_evidence import RunEvidence, take_evidence, take_evidence_of_groups
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.feed import MetricsFeed
from zmqlab.load.load_messages import LoadResult


def collectors_of(cluster: Cluster) -> Collectors:
    """What reads the logs of a started cluster along with a run; it keeps them in the cluster's folder.

    It does not keep the Cluster alive.
    """
    fleet = cluster.fleet
    if cluster.shards == 1:
        return LogCollector(WatchedEndpoints(lambda: fleet.living_endpoints), cluster.run_dir)
    return _of_groups(cluster.feed, cluster.shards, lambda: fleet.running, cluster.run_dir)


def collectors_of_endpoints(feed: MetricsFeed, endpoints: Callable[[], Sequence[str]], shards: int) -> Collectors:
    """The same for nodes that other processes have started.

    Args:
        feed: listens to them.
        endpoints: where clients reach them now.
        shards: how many groups they have.
    """
    if shards == 1:
        return LogCollector(WatchedEndpoints(endpoints))
    return _of_groups(feed, shards, None, None)


def _of_groups(
    feed: MetricsFeed,
    shards: int,
    running: Callable[[], Collection[str]] | None,
    folder: str | os.PathLike[str] | None,
) -> GroupCollectors:
    def endpoints_of(group: int) -> Sequence[str]:
        known = feed.endpoints_of(group)
        return [known[name] for name in known if running is None or name in running()]

    return GroupCollectors(endpoints_of, range(shards), folder)


def evidence_of(
    alive: Sequence[str], outcome: LoadResult, feed: MetricsFeed, replication: str, collectors: Collectors | None
) -> RunEvidence:
    """What a verdict is passed on.

    Args:
        alive: where clients reach the nodes that must account for the run.
        outcome: of the load client.
        feed: has listened to the nodes.
        replication: by which they agree.
        collectors: what read the logs along.
    """
    shards = outcome.settings.get("shards", 1)
    if shards > 1:
        return take_evidence_of_groups(
            alive,
            outcome,
            shards,
            collectors=collectors if isinstance(collectors, GroupCollectors) else None,
            mismatches=Counter(mismatch.group for mismatch in feed.mismatches()),
            leaders={group: feed.leaders(group) for group in range(shards)},
            replication=replication,
        )
    return take_evidence(
        alive,
        acknowledgements_of(outcome),
        collector=collectors if isinstance(collectors, LogCollector) else None,
        unremembered=outcome.unremembered,
        mismatches=len(feed.mismatches()),
        leaders=feed.leaders(),
        reads=book_reads_of(outcome),
        totals=totals_of(outcome),
        replication=replication,
    )
