"""What is promised of the log itself, and what can be judged by a part of it.

A log may lack its beginning, which every node has compacted away, or its end, whose only node has died since. Neither
is a broken promise. What lies in the part that is there is still judged: it may have lost what it should hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zmqlab.judge import promises
from zmqlab.judge.evidence import LogPiece
from zmqlab.judge.promises import Acknowledgement, Check, RunTotals
from zmqlab.judge.replay import LogEntry, replay
from zmqlab.wording import counted


def log_complete(log: LogPiece, last_index: int, allow_compacted: bool, problem: str) -> Check:
    """The log is there from its beginning to ``last_index`` without a gap. ``problem``: why it was not collected.

    A gap is a node's wrong answer. An end that is missing is none: the node that has it may have died since.
    """
    name = "log complete"
    first = log.first_index
    missing = max(0, last_index - first + 1) - len(log.entries)
    if missing < 0 or any(entry.log_index != first + offset for offset, entry in enumerate(log.entries)):
        return Check(name, False, f"{len(log.entries):,} entries where {first:,} to {last_index:,} were asked for")
    if missing:
        detail = f"the last {counted(missing, 'entry')} up to index {last_index:,} could not be read from any node"
        return Check(name, None, f"{detail}: judge again when all nodes answer")
    if first > 1:
        detail = f"entries below index {first:,} are compacted away on every node"
        if not allow_compacted:
            detail += (
                f". {problem or 'They were gone when the run began, or nothing collected the log while it went on'}"
            )
            detail += ". Judge what is left with --allow-compacted (allow_compacted=True), or begin on a new cluster"
        return Check(name, allow_compacted or None, detail + (": allowed" if allow_compacted else ""))
    return Check(name, True, counted(len(log.entries), "entry"))


def one_log(conflicts: Sequence[object], compared: int) -> Check:
    """Every node that was asked for a committed entry, at any time, gave the same one."""
    name = "one log"
    if conflicts:
        differ = counted(len(conflicts), "committed entry differs", "committed entries differ")
        return Check(name, False, f"{differ} between nodes: {conflicts[0]}")
    if not compared:
        return Check(name, None, "no committed entry was read more than once: the run was too short")
    return Check(name, True, f"{compared:,} committed entries were read more than once, from several nodes, and agreed")


def lost_in_part(
    known: Sequence[Acknowledgement], others: str, entries: Sequence[LogEntry], totals: RunTotals | None
) -> Iterator[Check]:
    """Nothing lost, for the acknowledgements that can be looked up in the part of the log that is there; and the
    totals, if the sessions were opened in that part, and it goes to the log's end.

    Args:
        known: those that can be looked up.
        others: how many these are of all, and where the others are; empty: they are all.
        entries: the part of the log.
        totals: what the client counted; None: not known, or the log's end is missing.
    """
    if not entries or not known:
        return
    replayed = replay(entries, 0)
    check = promises.nothing_lost(known, replayed)
    if check.ok and others:
        check = check._replace(detail=f"in the replicated log: {others}")
    yield check
    if totals is not None and min(totals.client_ids, default=0) >= entries[0].log_index:
        yield promises.totals_agree(totals, replayed)
