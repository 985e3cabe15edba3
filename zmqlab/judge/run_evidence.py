"""All that a verdict is passed on, as one value, and how it is taken from a client's result and from the nodes.

:func:`take_evidence` asks the nodes about one Raft group. :func:`take_evidence_of_groups` does so for each of several:
a group has sessions, a log, hashes and leaders of its own, so each is judged alone. Only what the client counted over
all groups, and whether its run came to its end, is of the run as a whole.

Left out on purpose: nodes that are dead when the run ends are not asked. What a minority of journals holds beyond the
quorum's is not promised. If only a minority answers, what it lacks is not lost: the dead nodes may have it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zmqlab.client import ask
from zmqlab.errors import ZmqlabError
from zmqlab.judge import evidence, promises
from zmqlab.judge.evidence import LogPiece
from zmqlab.judge.log_collector import GroupCollectors, LogCollector
from zmqlab.judge.log_differences import where_logs_part
from zmqlab.judge.promises import Acknowledgement, BookRead, NodeEvidence, RunTotals
from zmqlab.load import load_messages as metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvidence:
    """All that a verdict is passed on. While it is kept the verdict can be passed again: :func:`pass_verdict`."""

    acknowledgements: Sequence[Acknowledgement]
    asked: int
    """Living nodes that were asked for their state."""
    nodes: Sequence[NodeEvidence]
    """What those said that answered."""
    log: LogPiece | None
    """None: there is none, and :attr:`log_problem` says why."""
    log_problem: str = ""
    """Why there is no log, or why it was not collected to its end."""
    conflicts: Sequence[object] = ()
    """Committed entries that differ between nodes; each shows itself in a sentence."""
    compared: int | None = None
    """Entries that were read more than once during the run. None: nothing read the log along."""
    unremembered: int = 0
    """Acknowledged requests that the client counted but had no room to remember."""
    mismatches: int = 0
    """Checkpoints at which the nodes' published hashes differed."""
    leaders: Mapping[int, Collection[str]] | None = None
    """Term -> the nodes that said that they led in it. None: that is not known, and not checked."""
    reads: Sequence[BookRead] | None = None
    """Books that were read during the run. None: none was asked for, and reads are not checked."""
    totals: RunTotals | None = None
    """What the client counted. None: only what it remembers is checked."""
    parting: str = ""
    """Where the logs of the nodes differ, if they do."""
    replication: str = ""
    """By which the nodes agreed; empty: not known."""
    group: int | None = None
    """Which of several Raft groups this is the evidence of; None: the only one, or all of them."""
    groups: Mapping[int, RunEvidence] = field(default_factory=dict)
    """Where there are several groups: the evidence of each, and then nothing is asked of all nodes together."""

    @property
    def last_index(self) -> int:
        """The end of the log, by the most advanced node."""
        return max((node.log_index for node in self.nodes), default=0)

    @property
    def is_to_the_end(self) -> bool:
        """Whether the log that was read goes to :attr:`last_index`."""
        return self.log is not None and self.log.end >= self.last_index

    def looked_up(self) -> Sequence[Acknowledgement]:
        """The acknowledgements that can be looked up in what was read of the log.

        One behind the end of the log can be: it is not there.
        """
        if self.log is None:
            return ()
        first, end, last = self.log.first_index, self.log.end, self.last_index
        if first <= 1 and self.is_to_the_end:
            return self.acknowledgements
        return [ack for ack in self.acknowledgements if first <= ack.log_index <= end or ack.log_index > last]

    def coverage(self) -> str:
        """How many acknowledged requests were looked up one by one, and where those are that were not."""
        known = len(self.acknowledgements)
        looked_up = sum(len(each.looked_up()) for each in self.groups.values() or (self,))
        which = " (the first ones and the newest)" if self.unremembered else ""
        told = f"{looked_up:,} of {known + self.unremembered:,} acknowledged requests{which}"
        return f"{told}; {self.where_others_lie()}" if looked_up < known else told

    def where_others_lie(self) -> str:
        """Where the acknowledged requests are that can't be looked up."""
        to_the_end = all(each.is_to_the_end for each in self.groups.values() or (self,))
        return "the others lie " + ("before the log" if to_the_end else "where the log could not be read")


def take_evidence(
    endpoints: Sequence[str],
    acknowledgements: Sequence[Acknowledgement],
    *,
    settle_s: float = evidence.SETTLE_S,
    collector: LogCollector | None = None,
    **of_the_client: Any,
) -> RunEvidence:
    """Ask the nodes for all that a verdict needs; ``of_the_client`` are further fields of :class:`RunEvidence`."""
    group = of_the_client.get("group") or 0
    nodes = evidence.settle(endpoints, settle_s, group)
    log: LogPiece | None = None
    problem = "no node answered"
    if nodes:
        try:
            log = evidence.pull_log(endpoints, max(node.log_index for node in nodes), collector, group)
            problem = "" if collector is None else collector.log.problem
        except ZmqlabError as error:
            problem = f"no node gave its log: {error}. Judge again"
    parting = None
    if not promises.nodes_agree(nodes, of_the_client.get("mismatches", 0)).ok:
        parting = where_logs_part(endpoints, group=group)
    return RunEvidence(
        acknowledgements=acknowledgements,
        asked=len(endpoints),
        nodes=tuple(nodes),
        log=log,
        log_problem=problem,
        conflicts=() if collector is None else tuple(collector.conflicts),
        compared=None if collector is None else collector.compared,
        parting="" if parting is None else str(parting),
        **of_the_client,
    )


def take_evidence_of_groups(
    endpoints: Sequence[str],
    outcome: metrics.LoadResult,
    shards: int,
    *,
    collectors: GroupCollectors | None = None,
    mismatches: Mapping[int, int],
    leaders: Mapping[int, Mapping[int, Collection[str]]],
    replication: str = "",
    settle_s: float = evidence.SETTLE_S,
) -> RunEvidence:
    """Ask the nodes for what a verdict on ``shards`` Raft groups needs.

    Args:
        endpoints: of all living nodes, whichever groups they hold.
        outcome: of the load client.
        shards: how many groups there are.
        collectors: what read the logs along.
        mismatches: of each group, at how many checkpoints the published hashes differed.
        leaders: of each group, term -> the nodes that said that they led in it.
        replication: by which the nodes agree.
        settle_s: how long each group may take to come to rest.
    """
    reads = evidence.book_reads_of(outcome)
    return RunEvidence(
        acknowledgements=evidence.acknowledgements_of(outcome),
        asked=len(endpoints),
        nodes=(),
        log=None,
        unremembered=outcome.unremembered,
        reads=None if reads is None else (),
        totals=evidence.totals_of(outcome),
        replication=replication,
        groups={
            group: take_evidence(
                hosts,
                evidence.Acknowledgements(outcome.ledger, group),
                settle_s=settle_s,
                collector=collectors.of_group.get(group) if collectors is not None else None,
                group=group,
                unremembered=_unremembered(outcome, group),
                mismatches=mismatches.get(group, 0),
                leaders=leaders.get(group, {}),
                reads=evidence.book_reads_of(outcome, group) or None,
                totals=evidence.totals_of_group(outcome, group),
                replication=replication,
            )
            for group, hosts in hosts_of_groups(endpoints, shards).items()
        },
    )


def hosts_of_groups(endpoints: Sequence[str], shards: int) -> dict[int, list[str]]:
    """Group -> the endpoints of the nodes that hold it, by their own word. A node that does not answer may hold any."""
    told = ask.statuses(endpoints, evidence.ASK_TIMEOUT_S)
    held = {endpoint: {brief.number for brief in status.groups} for endpoint, status in told.items()}
    return {group: [each for each in endpoints if group in held.get(each, (group,))] for group in range(shards)}


def _unremembered(outcome: metrics.LoadResult, group: int) -> int:
    known = len(evidence.Acknowledgements(outcome.ledger, group))
    return max(0, evidence.totals_of_group(outcome, group).requests - known)
