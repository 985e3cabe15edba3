"""The bands of a kept run: the times in which something was broken, and those in which answers were owed and none came.

The second kind is read off the ledger of acknowledged requests, and off the requests that were never answered: their
answers are owed to the end of the run. Where the nodes hold several Raft groups, each has silences of its own: while
one elects a leader, the others answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from zmqlab.lab.events import Sort, Span, spans_of
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.load.load_messages import LoadResult, OpenOutcome
from zmqlab.load.order_flow import Rows
from zmqlab.load.run_record import read_ledger
from zmqlab.wire.control import Event

NS_PER_S = 1_000_000_000
SILENCE_MS = 150.0
"""A longer time in which answers were owed and none came is a band, as in the panel."""
SILENCES_MAX = 200
NO_ANSWER = "no answer"
"""What the label of a silence begins with."""


def bands_of(events: Sequence[Event], outcome: LoadResult) -> Iterator[Span]:
    """The bands of faults that reach into the run."""
    first_ns, last_ns = outcome.started_ns, outcome.started_ns + round(outcome.elapsed_s * NS_PER_S)
    for span in spans_of(events, FAULTS.bands):
        if span.start_ns < last_ns and (span.end_ns is None or span.end_ns > first_ns):
            yield span


def is_silence(band: Span) -> bool:
    """Whether in this band answers were owed and none came, from anywhere or from one of several Raft groups."""
    return band.label.startswith(NO_ANSWER)


def silences_of(outcome: LoadResult) -> list[Span]:
    """The times in which answers were owed and none came; none if the ledger does not have all requests that were
    answered. Where there are several Raft groups, of each."""
    rows = read_ledger(outcome.ledger)
    if outcome.unremembered:
        return []
    groups = sorted(set(outcome.client_groups))
    if len(groups) < 2:
        return _silences_in(rows, outcome.open_requests, outcome, NO_ANSWER)
    spans: list[Span] = []
    for group in groups:
        still_open = [each for each in outcome.open_requests if each.group == group]
        label = f"{NO_ANSWER} of group {group}"
        spans += _silences_in(rows[rows["group"] == group], still_open, outcome, label)
    return spans


def _silences_in(rows: Rows, still_open: Sequence[OpenOutcome], outcome: LoadResult, label: str) -> list[Span]:
    end_ns = outcome.started_monotonic_ns + round(outcome.elapsed_s * NS_PER_S)
    sent = np.append(rows["invoked_ns"], np.array([each.invoked_ns for each in still_open], np.int64))
    done = np.append(rows["completed_ns"], np.full(len(still_open), end_ns, np.int64))
    order = np.argsort(done, kind="stable")
    # before each answer: the first sent of all that were not answered yet
    owed_since = np.minimum.accumulate(sent[order][::-1])[::-1]
    ends = done[order]
    starts = np.maximum(np.append(owed_since[:1], ends[:-1]), owed_since)
    long = np.flatnonzero(ends - starts >= SILENCE_MS * 1e6)[:SILENCES_MAX]
    offset = outcome.started_ns - outcome.started_monotonic_ns
    return [Span(label, int(starts[at]) + offset, int(ends[at]) + offset, Sort.FAULT) for at in long]
