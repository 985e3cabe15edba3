"""The verdict on a run: was an acknowledged order lost, was one applied twice, do all nodes agree?

:mod:`~zmqlab.judge.run_evidence` takes what a load client was told and asks the living nodes for the rest;
:func:`pass_verdict` judges by that alone, so that kept evidence can be judged again. :func:`judge` does both. There are
three outcomes:

- *PASSED*: every promise (:mod:`~zmqlab.judge.promises`) was kept, and all that can be known was looked at. The verdict
  says how much was covered: answers are compared with those of a naive book for a bounded number of commands.
- *FAILED*: a promise was broken; the check says which, with evidence.
- *NOT JUDGED*: something that must be known is not, and the check says why, and what to do. No majority runs, the load
  ended early, the log's end could not be read, or its beginning is compacted away on every node, and the caller did
  not allow that.

:class:`LoadResult` is what a run under load gives back: the verdict, the client's figures, and the nodes at the end. It
computes nothing. Beside the verdict it has the thresholds that its caller set (:mod:`~zmqlab.judge.thresholds`).

*Several Raft groups* are judged one by one, since nothing spans two of them. A promise is kept if each has kept it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zmqlab.errors import EXIT_FAILED, EXIT_NOT_JUDGED, EXIT_OK, EXIT_THRESHOLD
from zmqlab.judge import log_checks, promises
from zmqlab.judge.evidence import LogPiece
from zmqlab.judge.promises import Acknowledgement, Check, LostRequest, NodeEvidence, Outcome
from zmqlab.judge.replay import Replayed, replay
from zmqlab.judge.run_evidence import RunEvidence, take_evidence
from zmqlab.judge.thresholds import Threshold, crossed
from zmqlab.load import load_messages as metrics
from zmqlab.load.load_report import LatencySummary, LoadReport
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.settings import DEFAULT_REPLICATION
from zmqlab.tables import GAPS_HEAD, HOLDS_HEAD, StatusTable, html_table, text_table
from zmqlab.wording import counted

MAX_REPLAYED_COMMANDS = 1_000_000
"""Some ten seconds of the naive book's time."""
MAX_REPLAY_S = 10.0
"""A person does not like to wait longer for a verdict. It says how far it came."""
GROUPS_SHOWN = 2
"""Of the groups in which a promise was broken: those whose evidence stands in its line."""
NO_BOOK = "; no book compared"
_MARKS = {True: "ok  ", False: "FAIL", None: "?   "}
_WORDS = {True: "kept", False: "BROKEN", None: "not known"}
_LIMIT_MARKS = {True: "ok     ", False: "CROSSED", None: "?      "}
_LIMIT_WORDS = {True: "kept", False: "CROSSED", None: "not known"}
NODE_HEAD = ("node", "state", "role", "term", "orders taken", "applied index", "state hash")


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """Every promise, whether it was kept, and how much was looked at."""

    checks: tuple[Check, ...]
    coverage: str
    nodes: tuple[NodeEvidence, ...] = ()
    commands: tuple[int, int] = (0, 0)
    """How many were replayed on the naive book, and how many are in the log."""
    groups: Mapping[int, Verdict] = field(default_factory=dict)
    """Where there are several Raft groups: the verdict on each."""
    unseen: tuple[str, ...] = ()
    """The checks of :data:`~zmqlab.judge.promises.UNSEEN` that were left out, because there was no evidence at all."""

    @property
    def outcome(self) -> Outcome:
        """``passed``, ``failed`` or ``not judged``."""
        return promises.outcome_of(self.checks)

    @property
    def ok(self) -> bool:
        """Whether it passed: every promise was kept, as far as can be known."""
        return self.outcome == "passed"

    @property
    def group_outcomes(self) -> dict[int, Outcome]:
        """The outcome of each of several groups."""
        return {group: verdict.outcome for group, verdict in self.groups.items()}

    @property
    def lost(self) -> tuple[LostRequest, ...]:
        """Each acknowledged request that is lost, up to 10,000 of them.

        Of a client that waited for no answer: of each request that was sent and is not applied, with index 0.
        """
        return next((check.requests for check in self.checks if check.requests), ())

    def of_replication(self, name: str) -> Verdict:
        """The same verdict, which says of each broken promise whether the nodes' replication ever made it.

        A promise that was never made is broken all the same.
        """
        kind = REPLICATIONS.known(name)
        never = kind.not_promised if kind is not None else ()
        told = f" (replication {name} does not promise this)"
        checks = (
            each._replace(detail=each.detail + told) if each.ok is False and each.name in never else each
            for each in self.checks
        )
        return replace(self, checks=tuple(checks))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ok": self.ok,
            "outcome": self.outcome,
            "checks": [check._asdict() for check in self.checks],
            "coverage": self.coverage,
            "nodes": [node._asdict() for node in self.nodes],
            "commands": list(self.commands),
            "groups": {str(group): verdict.as_dict() for group, verdict in self.groups.items()},
        }

    def __repr__(self) -> str:
        checks = [f"  {_MARKS[check.ok]} {check.name}: {check.detail}" for check in self.checks]
        groups = [f"  groups: {promises.outcomes_text(self.group_outcomes)}"] if self.groups else []
        return "\n".join([f"verdict: {self.outcome.upper()}", *checks, *groups, f"  covered: {self.coverage}"])

    def _repr_html_(self) -> str:
        rows = [(_WORDS[check.ok], check.name, check.detail) for check in self.checks]
        title = self.outcome if self.ok else self.outcome.upper()
        table = html_table(("", "promise", "evidence"), rows)
        return f"<p><b>verdict: {title}</b></p>{table}<p>covered: {html.escape(self.coverage)}</p>"


class LoadResult:
    """The result of one :class:`~zmqlab.lab.load_client.LoadClient`.

    Every figure is explained in docs/measuring.md; ``report`` has all of the load client's.
    """

    def __init__(
        self,
        result: metrics.LoadResult,
        verdict: Verdict,
        nodes: StatusTable,
        elections: int,
        thresholds: Sequence[Threshold] = (),
    ) -> None:
        self.report = LoadReport(result)
        self.verdict = verdict
        self.nodes = nodes
        """All nodes as they were after the run."""
        self.elections = elections
        """Terms in which a leader was seen; the first one, at a cluster's start, included."""
        self.thresholds = [each.check(self.report, elections) for each in thresholds]
        """Those that the caller set, each with the figure."""

    @property
    def ok(self) -> bool:
        """Whether the verdict passed and every threshold was kept."""
        return self.verdict.ok and all(check.ok for check in self.thresholds)

    @property
    def exit_status(self) -> int:
        """What a command ends with: a broken promise counts more than a crossed threshold, and that more than what is
        not known."""
        if self.verdict.outcome == "failed":
            return EXIT_FAILED
        if crossed(self.thresholds):
            return EXIT_THRESHOLD
        return EXIT_OK if self.ok else EXIT_NOT_JUDGED

    @property
    def throughput(self) -> float:
        """Orders acknowledged a second."""
        return self.report.throughput

    @property
    def response_time(self) -> LatencySummary:
        """From the intended send to the answer."""
        return self.report.response_time

    @property
    def service_time(self) -> LatencySummary:
        """From the actual send to the answer."""
        return self.report.service_time

    @property
    def total(self) -> metrics.LoadCounters:
        """Orders offered, sent, acknowledged, rejected, filled, and the rest of the counters."""
        return self.report.result.total

    @property
    def longest_gap_ms(self) -> float:
        """The longest time in which a client waited for answers and none came."""
        return self.report.result.longest_gap_ms

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before believing the figures."""
        return self.report.warnings

    def export_hdr(self, path: str | Path) -> None:
        """Write the latencies, second by second, as an HdrHistogram V2 log."""
        self.report.export_hdr(path)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.report.to_dict() | {
            "elections": self.elections,
            "exchange": self.nodes.exchange,
            "replication": self.nodes.replication,
            "thresholds": [check._asdict() for check in self.thresholds],
            "nodes": [node.as_dict() for node in self.nodes],
            "verdict": self.verdict.as_dict(),
        }

    def __repr__(self) -> str:
        nodes = "\n\n".join(text_table(head, rows) for head, rows in self.tables())
        known = (
            ("elections", self.elections),
            ("exchange", self.nodes.exchange or "not known"),
            ("replication", self.replication()),
        )
        elections = "\n".join(f"{name:<14} {value}" for name, value in known)
        limits = [f"  {_LIMIT_MARKS[check.ok]} {check.expression}: {check.detail}" for check in self.thresholds]
        thresholds = "\n".join(["thresholds:", *limits, "", ""]) if limits else ""
        return f"{self.report!r}\n{elections}\n\n{nodes}\n\n{thresholds}{self.verdict!r}"

    def _repr_html_(self) -> str:
        nodes = "".join(html_table(head, rows) for head, rows in self.tables())
        rows = [(_LIMIT_WORDS[check.ok], check.expression, check.detail) for check in self.thresholds]
        thresholds = html_table(("", "threshold", "figure"), rows) if rows else ""
        exchange = html.escape(self.nodes.exchange or "not known")
        replication = html.escape(self.replication())
        elections = f"<p>elections: {self.elections}; exchange: {exchange}; replication: {replication}</p>"
        return f"{self.report._repr_html_()}{elections}{nodes}{thresholds}{self.verdict._repr_html_()}"

    def replication(self) -> str:
        """Its name, and what it says an answer means."""
        kind = REPLICATIONS.known(self.nodes.replication)
        return f"{kind.name}: {kind.promises}" if kind is not None else self.nodes.replication or "not known"

    def tables(self) -> list[tuple[Sequence[str], list[tuple[object, ...]]]]:
        """Head and rows of each table: the nodes, and with several Raft groups what each of those did."""
        if self.nodes.shards == 1:
            return [(NODE_HEAD, self.node_rows())]
        return [(HOLDS_HEAD, [node.row_of_groups() for node in self.nodes]), (GAPS_HEAD, self.group_rows())]

    def group_rows(self) -> list[tuple[object, ...]]:
        """A row for each of several groups; one to which no symbol of the client belongs has no figures."""
        cells, rows = self.report.group_cells(), self.nodes.group_rows()
        return [(*row[:3], *cells.get(str(row[0]), ("-", "-", "-"))) for row in rows]

    def node_rows(self) -> list[tuple[object, ...]]:
        hashes = {node.name: node.state_hash[:12] for node in self.verdict.nodes}
        rows: list[tuple[object, ...]] = []
        for node in self.nodes:
            status = node.status
            if status is None:
                rows.append((node.name, node.state, *("-",) * 5))
            else:
                taken, applied = f"{status.orders_taken:,}", f"{status.applied_index:,}"
                rows.append(
                    (node.name, node.state, status.role, status.term, taken, applied, hashes.get(node.name, "-"))
                )
        return rows


def judge(
    endpoints: Sequence[str],
    acknowledgements: Sequence[Acknowledgement],
    *,
    max_replayed_commands: int = MAX_REPLAYED_COMMANDS,
    max_replay_s: float = MAX_REPLAY_S,
    allow_compacted: bool = False,
    **evidence_and_how_to_take_it: Any,
) -> Verdict:
    """Judge a run by the nodes at ``endpoints``, all of which must answer."""
    return pass_verdict(
        take_evidence(endpoints, acknowledgements, **evidence_and_how_to_take_it),
        max_replayed_commands=max_replayed_commands,
        max_replay_s=max_replay_s,
        allow_compacted=allow_compacted,
    )


def pass_verdict(
    taken: RunEvidence,
    *,
    max_replayed_commands: int = MAX_REPLAYED_COMMANDS,
    max_replay_s: float = MAX_REPLAY_S,
    allow_compacted: bool = False,
) -> Verdict:
    """Judge a run by its evidence alone; each broken promise is told with whether its replication ever made it.

    Args:
        taken: the evidence.
        max_replayed_commands: how many commands the naive book follows, at most.
        max_replay_s: for how long it follows them, at most.
        allow_compacted: pass even if the log's beginning is gone on every node; the checks that need it are left out.
    """
    if taken.groups:
        return _of_groups(taken, max_replayed_commands, max_replay_s, allow_compacted)
    within, beyond = _within_reach(taken)
    verdict = _verdict_on(within, max_replayed_commands, max_replay_s, allow_compacted)
    unseen = tuple(check.name for check in verdict.checks if check.ok is None and check.name in promises.UNSEEN)
    seen = (check.of_group(taken.group or 0) for check in verdict.checks if check.name not in unseen)
    coverage = _with_unseen(verdict.coverage, unseen)
    told = replace(verdict, checks=(*beyond, *seen), coverage=coverage, unseen=unseen)
    return told.of_replication(taken.replication)


def _with_unseen(coverage: str, unseen: Iterable[str]) -> str:
    return "; ".join([coverage, *(promises.UNSEEN[name] for name in unseen)])


def _within_reach(taken: RunEvidence) -> tuple[RunEvidence, tuple[Check, ...]]:
    """What can be judged by the nodes that answered, and why that is not all, if it is not; see the module."""
    kind = REPLICATIONS.known(taken.replication or DEFAULT_REPLICATION)
    voters = max((node.voters for node in taken.nodes), default=0)
    told = sum(node.votes for node in taken.nodes)
    if kind is None or kind.needs != "majority" or not taken.nodes or 2 * told > voters:
        return taken, ()
    last_index = taken.last_index
    known = [ack for ack in taken.acknowledgements if ack.log_index <= last_index]
    reads = None if taken.reads is None else [read for read in taken.reads if read.log_index <= last_index]
    unknown = len(taken.acknowledgements) - len(known)
    check = promises.majority_told(told, voters, unknown, last_index)
    return replace(taken, acknowledgements=known, reads=reads, totals=None), (check,)


def _verdict_on(taken: RunEvidence, max_replayed_commands: int, max_replay_s: float, allow_compacted: bool) -> Verdict:
    """By the whole log, by what is left of it, or without one."""
    nodes, log, watched = tuple(taken.nodes), taken.log, _watched(taken)
    if not nodes:
        return Verdict(watched, "nothing: no node answered")
    if log is None:
        return Verdict((*watched, Check("log", None, taken.log_problem)), "hashes only", nodes)
    last_index, books = taken.last_index, [read.key for read in taken.reads or ()]
    complete = log_checks.log_complete(log, last_index, allow_compacted, taken.log_problem)
    if log.first_index > 1 or not complete.ok:
        return Verdict(
            (complete, *watched, *_from_a_part(taken, log)),
            f"{taken.coverage()}; the log from index {log.first_index:,} to {log.end:,}, answers and orders applied not"
            f" compared{NO_BOOK if books else ''}",
            nodes,
        )
    replayed = replay(log.entries, max_replayed_commands, max_s=max_replay_s, books=books)
    entries = counted(len(log.entries), "log entry")
    return Verdict(
        (complete, *_from_the_log(taken, replayed, watched, last_index)),
        f"{taken.coverage()}; {entries}; {replayed.commands_replayed:,} of {replayed.commands_applied:,} commands"
        f" replayed on the naive book{NO_BOOK if books and not replayed.books else ''}",
        nodes,
        (replayed.commands_replayed, replayed.commands_applied),
    )


def _of_groups(taken: RunEvidence, max_replayed_commands: int, max_replay_s: float, allow_compacted: bool) -> Verdict:
    """The verdict on several groups: each has an even share of what is replayed."""
    count = len(taken.groups)
    verdicts = {
        group: pass_verdict(
            each,
            max_replayed_commands=max_replayed_commands // count,
            max_replay_s=max_replay_s / count,
            allow_compacted=allow_compacted,
        )
        for group, each in taken.groups.items()
    }
    names = dict.fromkeys(check.name for verdict in verdicts.values() for check in verdict.checks)
    whole = [] if taken.totals is None else [promises.run_complete(taken.totals)]
    if taken.reads is not None and not any(each.reads for each in taken.groups.values()):
        whole.append(promises.reads_agree((), (), Replayed(), 0))
    entries = sum(len(each.log.entries) for each in taken.groups.values() if each.log)
    unseen = tuple(name for name in promises.UNSEEN if all(name in each.unseen for each in verdicts.values()))
    replayed, applied = (sum(figures) for figures in zip(*(each.commands for each in verdicts.values()), strict=True))
    return Verdict(
        (*whole, *(_over_groups(name, verdicts) for name in names)),
        _with_unseen(
            f"{taken.coverage()}; {entries:,} log entries of {count} groups; "
            f"{replayed:,} of {applied:,} commands replayed on the naive books",
            unseen,
        ),
        commands=(replayed, applied),
        groups=verdicts,
        unseen=unseen,
    )


def _over_groups(name: str, verdicts: Mapping[int, Verdict]) -> Check:
    """One promise over all groups."""
    told = {group: check for group, verdict in verdicts.items() for check in verdict.checks if check.name == name}
    for ok in (False, None):
        bad = [f"group {group}: {check.detail}" for group, check in told.items() if check.ok is ok]
        if bad:
            more = [f"and {counted(len(bad) - GROUPS_SHOWN, 'more group')}"] if len(bad) > GROUPS_SHOWN else []
            requests = tuple(each for check in told.values() for each in check.requests)
            return Check(name, ok, "; ".join([*bad[:GROUPS_SHOWN], *more]), requests[: promises.LISTED])
    first = min(told)
    where = f"all {len(told)} groups" if len(told) == len(verdicts) else f"{len(told)} of {len(verdicts)} groups"
    return Check(name, True, f"{where}; in group {first}: {told[first].detail}")


def _watched(taken: RunEvidence) -> tuple[Check, ...]:
    """The promises that need no log at the end of the run."""
    agree = promises.nodes_agree(taken.nodes, taken.mismatches, taken.parting)
    silent = taken.asked - len(taken.nodes)
    if silent and agree.ok:
        detail = f"{silent} of {taken.asked} living nodes did not tell their state in time: judge again"
        agree = Check(agree.name, None, detail)
    ran = () if taken.totals is None or taken.group is not None else (promises.run_complete(taken.totals),)
    led = () if taken.leaders is None else (promises.one_leader(taken.leaders),)
    same = () if taken.compared is None else (log_checks.one_log(taken.conflicts, taken.compared),)
    return (*ran, agree, *led, *same)


def _from_the_log(taken: RunEvidence, replayed: Replayed, watched: Sequence[Check], last_index: int) -> Iterator[Check]:
    """All promises, in the order in which they are shown, for a log that is complete."""
    acknowledgements = taken.acknowledgements
    yield promises.nothing_lost(acknowledgements, replayed)
    yield promises.nothing_twice(acknowledgements, replayed, taken.nodes, last_index)
    yield from watched
    yield promises.order_agrees(acknowledgements)
    yield promises.answers_agree(acknowledgements, replayed)
    if taken.totals is not None:
        yield promises.totals_agree(taken.totals, replayed)
    if taken.reads is not None:
        yield promises.reads_agree(taken.reads, acknowledgements, replayed, last_index)


def _from_a_part(taken: RunEvidence, log: LogPiece) -> Iterator[Check]:
    """What can be checked if the log's beginning is gone, or its end could not be read."""
    acknowledgements = taken.acknowledgements
    yield promises.order_agrees(acknowledgements)
    if taken.reads is not None:
        yield promises.reads_agree(taken.reads, acknowledgements, Replayed(), taken.last_index)
    known = taken.looked_up()
    others = f"{len(known):,} of {len(acknowledgements):,} acknowledged requests; {taken.where_others_lie()}"
    yield from log_checks.lost_in_part(
        known,
        others if len(known) < len(acknowledgements) else "",
        log.entries,
        taken.totals if taken.is_to_the_end else None,
    )
