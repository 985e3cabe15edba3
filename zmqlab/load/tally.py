"""What is known of a run so far: counts, latencies, the ledger, gaps. Vectorised; knows no socket and no clock.

The generator says what it sends and hands over what is answered, always in batches, with the time of each.

Response time runs from the intended send and is counted for every order. Service time runs from the moment that the
order's request was first handed to a socket; a retry does not restart it.

A *gap* is a time in which acknowledgements were owed and none came. It begins with the last acknowledgement, or with
the first send after a time in which nothing was owed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np

from zmqlab.client.session import Completion
from zmqlab.histogram import Histogram
from zmqlab.load.layout import FILL, REPORT, Ints, Rows
from zmqlab.load.ledger import Ledger
from zmqlab.load.metrics import LoadCounters
from zmqlab.load.recorder import LatencyRecorder
from zmqlab.market.types import Reason, Status
from zmqlab.wire.client import REPLAYED, ResponseStatus

LATE_NS = 5_000_000
"""Sent later than this after its intended time an order is late: five times what a usual wake-up is off."""
REASON_COUNT = max(Reason) + 1
_REJECTED = int(Status.REJECTED)
_OK = int(ResponseStatus.OK)


class Sent(NamedTuple):
    """The orders of one request, kept until it is answered."""

    rows: Rows
    intended_ns: Ints


class Answered(NamedTuple):
    """Orders and what became of them: ``reports[i]`` belongs to ``rows[i]``."""

    rows: Rows
    reports: Rows
    fills: Rows


class Tally:
    """All figures of one run."""

    def __init__(self, ledger_limit: int) -> None:
        self.counters = LoadCounters()
        self.response_time = LatencyRecorder()
        self.service_time = LatencyRecorder()
        self.ledger = Ledger(ledger_limit)
        self.orders_by_node: list[int] = []
        """Orders acknowledged, by node index; as long as the largest index among them takes."""
        self.longest_gap_ns = 0
        self.longest_gap_at_ns = 0
        """When it began."""
        self._interval_gap_ns = 0
        self.last_acknowledged_ns = 0
        self._reasons: Ints = np.zeros(REASON_COUNT, np.int64)
        self._gap_from_ns = 0

    def sent(self, intended_ns: Ints, now_ns: int, held_back_until_ns: int, owed: bool) -> None:
        """Orders go out now. Those meant for ``held_back_until_ns`` or earlier had to wait for the cluster."""
        if not owed:
            self._gap_from_ns = now_ns
        self.counters.sent += len(intended_ns)
        if now_ns - int(intended_ns[0]) <= LATE_NS:
            return  # the oldest comes first
        late = intended_ns < now_ns - LATE_NS
        held_back = int(np.count_nonzero(late & (intended_ns <= held_back_until_ns)))
        self.counters.held_back += held_back
        self.counters.late += int(np.count_nonzero(late)) - held_back

    def acknowledged(self, completions: Sequence[Completion]) -> Answered | None:
        """Count answers; returns the orders that got reports, if any did."""
        good = [each for each in completions if self._is_good(each)]
        if not good:
            return None
        reports = np.frombuffer(b"".join([each.response.reports for each in good]), REPORT)
        fills = np.frombuffer(b"".join([each.response.fills for each in good]), FILL)
        self._measure(good)
        self._count(reports, fills)
        for each in good:
            self._remember(each)
        rows = good[0].token.rows if len(good) == 1 else np.concatenate([each.token.rows for each in good])
        return Answered(rows, reports, fills)

    def silence_ns(self, now_ns: int, owed: bool) -> int:
        """How long acknowledgements have been owed and none has come; part of the longest gap from now on."""
        if not owed:
            return 0
        silence_ns = now_ns - self._gap_from_ns
        self._note_gap(silence_ns)
        return silence_ns

    def take_gap_ns(self) -> int:
        """The longest time without an owed acknowledgement that ended, or went on, since the last call."""
        gap_ns, self._interval_gap_ns = self._interval_gap_ns, 0
        return gap_ns

    def rejected_by_reason(self) -> dict[str, int]:
        """Rejections since the start, by the name of their reason."""
        counts = self._reasons.tolist()
        return {Reason(code).name.lower(): count for code, count in enumerate(counts) if count}

    def take_interval(self) -> tuple[Histogram, Histogram]:
        """Response times and service times since the last call."""
        return self.response_time.take_interval(), self.service_time.take_interval()

    def _is_good(self, completion: Completion) -> bool:
        orders = len(completion.token.rows)
        good = completion.response.status == _OK and completion.response.report_count == orders
        self.counters.failed += 0 if good else orders
        return good

    def _measure(self, good: Sequence[Completion]) -> None:
        sizes = np.array([len(each.token.rows) for each in good])
        completed = np.array([each.completed_ns for each in good])
        intended = good[0].token.intended_ns
        if len(good) > 1:
            intended = np.concatenate([each.token.intended_ns for each in good])
        self.response_time.record(np.repeat(completed, sizes) - intended)
        self.service_time.record_weighted(completed - np.array([each.first_sent_ns for each in good]), sizes)

    def _count(self, reports: Rows, fills: Rows) -> None:
        counters = self.counters
        counters.acknowledged += len(reports)
        counters.filled += int(np.count_nonzero(reports["fill_count"]))
        counters.fills += len(fills)
        rejected = reports["reason"][reports["status"] == _REJECTED]
        if rejected.size:
            counters.rejected += len(rejected)
            self._reasons += np.bincount(np.minimum(rejected, REASON_COUNT - 1), minlength=REASON_COUNT)

    def _remember(self, each: Completion) -> None:
        response, orders, completed_ns = each.response, len(each.token.rows), each.completed_ns
        self._note_gap(completed_ns - self._gap_from_ns)
        self._gap_from_ns = self.last_acknowledged_ns = completed_ns
        self.counters.requests += 1
        self.counters.replayed += response.flags & REPLAYED
        if each.node >= len(self.orders_by_node):
            self.orders_by_node += [0] * (each.node + 1 - len(self.orders_by_node))
        self.orders_by_node[each.node] += orders
        crc = crc32(response.fills, crc32(response.reports))
        client_id, number, log_index = response[:3]
        times_ns = each.first_sent_ns, completed_ns
        self.ledger.append((client_id, number, log_index, *times_ns, orders, crc, each.node, response.flags))

    def _note_gap(self, gap_ns: int) -> None:
        self._interval_gap_ns = max(self._interval_gap_ns, gap_ns)
        if gap_ns > self.longest_gap_ns:
            self.longest_gap_ns = gap_ns
            self.longest_gap_at_ns = self._gap_from_ns
