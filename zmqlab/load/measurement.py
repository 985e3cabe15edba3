"""What is known of a run so far: counts, latencies, acknowledged requests, gaps; and the snapshots cut from it.

The generator says what it sends and hands over what is answered, with the time of each. Answers are kept as they came
and counted together, every 20 ms or every 1,024 orders (:meth:`Tally.fold`): fifty calls of numpy cost the same for one
request as for a hundred. No socket is known here, and only :class:`Publisher` reads a clock: the wall's, and the
processor's.

- :class:`Tally` has all figures of a run. *Response time* runs from the intended send and is counted for every order.
  *Service time* runs from the moment at which the order's request was first handed to a socket; a retry does not
  restart it. A *gap* is a time in which acknowledgements were owed and none came. It begins with the last
  acknowledgement, or with the first request after a time in which none was owed.
- :class:`LatencyRecorder` counts latencies, a thousand at a time: the vectorised twin of
  :class:`zmqlab.histogram.Histogram`, with the same buckets in dense arrays. A value's bucket follows from its bit
  length, which ``frexp`` gives exactly for integers below 2**53.
- Each acknowledged request goes to the ledger (:class:`zmqlab.load.run_record.Ledger`), for the verdict. Times are of
  the monotonic clock, which all processes of a machine share. If the cluster is linearizable, the request took effect
  between ``invoked_ns``, when it was first handed to a socket, and ``completed_ns``. ``answer_crc`` is the CRC-32 of
  the report and fill records as they came: the verdict replays the log and compares. ``commands_crc`` is the CRC-32 of
  the commands as they were sent: the verdict looks whether the log has the same.
- :class:`Publisher` cuts a run into intervals of a tenth of a second, each of which belongs to one second. From them it
  makes the snapshots, the series of seconds and the result. Nothing is counted twice: the histograms of the intervals
  add up to the histogram of the run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np

from zmqlab.client.session import Completion
from zmqlab.histogram import BUCKET_COUNT, MAX_VALUE, SUB_BUCKET_BITS, Histogram
from zmqlab.load.load_messages import FINE_NS, LoadCounters, LoadMetrics, LoadResult, OpenOutcome, Second
from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.order_flow import COMMAND, FILL, REPORT, Ints, Rows
from zmqlab.load.run_record import NODE_MAX, Ledger, RunBegun, RunRecord
from zmqlab.load.session_pool import SessionPool
from zmqlab.market.types import Reason, Status
from zmqlab.wire.client import REPLAYED, ResponseStatus

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
INTERVAL_NS = NS_PER_S // 10
"""Between two snapshots: as often as a person sees a change, and as often as nodes publish their status."""
LATE_NS = 5_000_000
"""An order that is sent later than this after its intended time is late: five times the usual error of a wake-up."""
REASON_COUNT = max(Reason) + 1
_REJECTED = int(Status.REJECTED)
_OK = int(ResponseStatus.OK)


def bucket_indices(values: Ints) -> Ints:
    """The bucket of each value, as :func:`zmqlab.histogram.bucket_index` has it."""
    clamped = np.minimum(np.maximum(values, 0), MAX_VALUE)
    bit_lengths = np.frexp(clamped.astype(np.float64))[1].astype(np.int64)
    shifts = np.maximum(bit_lengths - (SUB_BUCKET_BITS + 1), 0)
    return (shifts << SUB_BUCKET_BITS) + (clamped >> shifts)


class LatencyRecorder:
    """Counts latencies of an interval and of the run. Every interval's counts are part of the run's."""

    def __init__(self) -> None:
        self._interval: Ints = np.zeros(BUCKET_COUNT, np.int64)
        """Counts since the last :meth:`take_interval`."""
        self._run: Ints = np.zeros(BUCKET_COUNT, np.int64)
        """Counts of all intervals taken; the current one is not in it yet."""
        self._interval_max_ns = 0
        self._run_max_ns = 0

    def record(self, values_ns: Ints) -> None:
        """Count each value once."""
        if values_ns.size:
            np.add.at(self._interval, bucket_indices(values_ns), 1)
            self._interval_max_ns = max(self._interval_max_ns, int(values_ns.max()))

    def record_weighted(self, values_ns: Ints, counts: Ints) -> None:
        """Count each value as often as ``counts`` says: all orders of one request share a service time."""
        if values_ns.size:
            np.add.at(self._interval, bucket_indices(values_ns), counts)
            self._interval_max_ns = max(self._interval_max_ns, int(values_ns.max()))

    def take_interval(self) -> Histogram:
        """The interval's histogram; a new interval begins."""
        taken = _histogram(self._interval, self._interval_max_ns)
        self._run += self._interval
        self._run_max_ns = max(self._run_max_ns, self._interval_max_ns)
        self._interval[:] = 0
        self._interval_max_ns = 0
        return taken

    def histogram(self) -> Histogram:
        """The whole run's, the current interval included."""
        return _histogram(self._run + self._interval, max(self._run_max_ns, self._interval_max_ns))


def _histogram(counts: Ints, max_ns: int) -> Histogram:
    hit = np.nonzero(counts)[0]
    sparse = {str(index): count for index, count in zip(hit.tolist(), counts[hit].tolist(), strict=True)}
    return Histogram.from_sparse(sparse, max_ns)


class Sent(NamedTuple):
    """The orders of one request, kept until it is answered."""

    commands: bytes
    intended_ns: Ints

    @property
    def orders(self) -> int:
        """How many."""
        return len(self.intended_ns)

    @property
    def rows(self) -> Rows:
        """As they were sent."""
        return np.frombuffer(self.commands, COMMAND)


class Answered(NamedTuple):
    """Orders and what became of them: ``reports[i]`` belongs to ``rows[i]``."""

    rows: Rows
    reports: Rows
    fills: Rows


class Tally:
    """All figures of one run."""

    def __init__(self, ledger: Ledger) -> None:
        self.counters = LoadCounters()
        self.response_time = LatencyRecorder()
        self.service_time = LatencyRecorder()
        self._ledger = ledger
        self.orders_by_node: list[int] = []
        """Orders acknowledged, by node index; as long as the largest index among them takes."""
        self.longest_gap_ns = 0
        self.longest_gap_at_ns = 0
        """When it began."""
        self._interval_gap_ns = 0
        self._sent_held_back = 0
        """Orders that were sent late because of the cluster."""
        self.last_acknowledged_ns = 0
        self.unfolded_orders = 0
        """Acknowledged orders that wait for :meth:`fold`."""
        self._unfolded: list[Completion] = []
        self._reasons: Ints = np.zeros(REASON_COUNT, np.int64)
        self._gap_from_ns = 0
        self._fine: dict[int, int] = {}
        """Orders acknowledged since the last :meth:`take_fine`, by the time of completion in units of FINE_NS."""

    def owes_from(self, now_ns: int) -> None:
        """The cluster owed nothing, and does from now on."""
        self._gap_from_ns = now_ns

    def sent(self, intended_ns: Ints, sent_ns: int, held_back_until_ns: int) -> None:
        """Orders were handed to a socket.

        Args:
            intended_ns: when they were meant to be sent, ascending.
            sent_ns: when their request was handed over.
            held_back_until_ns: orders that were meant for this time or earlier had to wait for the cluster.
        """
        self.counters.sent += len(intended_ns)
        if sent_ns - int(intended_ns[0]) <= LATE_NS:
            return  # the oldest comes first
        late = intended_ns < sent_ns - LATE_NS
        held_back = int(np.count_nonzero(late & (intended_ns <= held_back_until_ns)))
        self._sent_held_back += held_back
        self.counters.late += int(np.count_nonzero(late)) - held_back

    def unwaited(self, intended_ns: Ints, sent_ns: int) -> None:
        """Orders were handed to a socket, and that is all that will be known of them."""
        self.response_time.record(sent_ns - intended_ns)
        self.service_time.record_weighted(np.zeros(1, np.int64), np.array([len(intended_ns)]))

    def waiting(self, orders: int, held_back: int) -> None:
        """So many orders are due and not sent; ``held_back`` of them have waited for the cluster for long."""
        self.counters.offered = self.counters.sent + orders
        self.counters.held_back = self._sent_held_back + held_back

    def acknowledged(self, completions: Sequence[Completion]) -> None:
        """Take answers, in the order in which they came. They are counted by the next :meth:`fold`."""
        for each in completions:
            orders = len(each.token.intended_ns)
            if each.response.status != _OK or each.response.report_count != orders:
                self.counters.refused += orders
                self.counters.failed = self.counters.refused
                continue
            self._unfolded.append(each)
            self.unfolded_orders += orders
            self._note_gap(each.completed_ns - self._gap_from_ns)
            self._gap_from_ns = self.last_acknowledged_ns = each.completed_ns

    def fold(self) -> Answered | None:
        """Count what was acknowledged since the last call; returns the orders that got reports, if any did."""
        good, self._unfolded, self.unfolded_orders = self._unfolded, [], 0
        if not good:
            return None
        reports = np.frombuffer(b"".join([each.response.reports for each in good]), REPORT)
        fills = np.frombuffer(b"".join([each.response.fills for each in good]), FILL)
        rows = np.frombuffer(b"".join([each.token.commands for each in good]), COMMAND)
        self._measure(good)
        self._count(reports, fills)
        for each in good:
            self._remember(each)
        return Answered(rows, reports, fills)

    def silence_ns(self, now_ns: int, owed: bool) -> int:
        """How long acknowledgements have been owed and none has come; part of the longest gap from now on."""
        if not owed:
            return 0
        silence_ns = now_ns - self._gap_from_ns
        self._note_gap(silence_ns)
        return silence_ns

    def ended(self, unanswered: int) -> None:
        """So many orders were sent and have no answer, and none will come."""
        self.counters.failed = self.counters.refused + unanswered

    def take_gap_ns(self) -> int:
        """The longest time without an owed acknowledgement that ended, or went on, since the last call."""
        gap_ns, self._interval_gap_ns = self._interval_gap_ns, 0
        return gap_ns

    def take_fine(self) -> tuple[int, list[int]]:
        """When the first orders were acknowledged of those that were counted since the last call, in nanoseconds of the
        monotonic clock, and how many were in each FINE_NS from then on."""
        taken, self._fine = self._fine, {}
        if not taken:
            return 0, []
        first = min(taken)
        return first * FINE_NS, [taken.get(place, 0) for place in range(first, max(taken) + 1)]

    def rejected_by_reason(self) -> dict[str, int]:
        """Rejections since the start, by the name of their reason."""
        counts = self._reasons.tolist()
        return {Reason(code).name.lower(): count for code, count in enumerate(counts) if count}

    def take_interval(self) -> tuple[Histogram, Histogram]:
        """Response times and service times since the last call."""
        return self.response_time.take_interval(), self.service_time.take_interval()

    def _measure(self, good: Sequence[Completion]) -> None:
        sizes = [len(each.token.intended_ns) for each in good]
        completed = np.array([each.completed_ns for each in good])
        intended = np.concatenate([each.token.intended_ns for each in good])
        places = completed // FINE_NS
        for place, orders in enumerate(np.bincount(places - places.min(), weights=sizes).tolist(), int(places.min())):
            self._fine[place] = self._fine.get(place, 0) + int(orders)
        self.response_time.record(np.repeat(completed, sizes) - intended)
        self.service_time.record_weighted(completed - np.array([each.first_sent_ns for each in good]), np.array(sizes))

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
        response, sent = each.response, each.token
        orders = len(sent.intended_ns)
        self.counters.requests += 1
        self.counters.replayed += response.flags & REPLAYED
        if each.node >= len(self.orders_by_node):
            self.orders_by_node += [0] * (each.node + 1 - len(self.orders_by_node))
        self.orders_by_node[each.node] += orders
        crc = crc32(response.fills, crc32(response.reports))
        sent_crc = crc32(sent.commands)
        client_id, number, log_index = response[:3]
        times_ns = each.first_sent_ns, each.completed_ns
        node = min(each.node, NODE_MAX)
        self._ledger.append((client_id, number, log_index, *times_ns, orders, crc, sent_crc, node, response.flags))

    def _note_gap(self, gap_ns: int) -> None:
        if gap_ns > self._interval_gap_ns:
            self._interval_gap_ns = gap_ns
        if gap_ns > self.longest_gap_ns:
            self.longest_gap_ns = gap_ns
            self.longest_gap_at_ns = self._gap_from_ns


class Publisher:
    """Cuts the run into intervals and seconds: snapshots while it goes on, the result at its end."""

    def __init__(
        self, settings: LoadSettings, tally: Tally, sessions: SessionPool, record: RunRecord, started_ns: int
    ) -> None:
        self._settings = settings
        self._tally = tally
        self._sessions = sessions
        self._record = record
        self._started_ns = started_ns
        """On the monotonic clock."""
        self._started_wall_ns = time.time_ns() - (time.monotonic_ns() - started_ns)
        self._interval_from_ns = started_ns
        self._interval_cpu_s = self._started_cpu_s = time.process_time()
        self._at_interval = LoadCounters()
        """The counters when the interval began."""
        self._second_from_ns = started_ns
        self._at_second = LoadCounters()
        self._second_response, self._second_service = Histogram(), Histogram()
        record.begin(
            RunBegun(settings.name, settings.to_dict(), sessions.client_ids, self._started_wall_ns, started_ns)
        )

    def is_due(self, now_ns: int) -> bool:
        """Whether the interval is over."""
        return now_ns - self._interval_from_ns >= INTERVAL_NS

    def snapshot(self, now_ns: int, state: str, rate: float | None, resting: int) -> LoadMetrics:
        """End the interval; returns what happened in it and since the start."""
        tally, owed = self._tally, self._sessions.pending > 0
        response_time, service_time = tally.take_interval()
        self._second_response.merge(response_time)
        self._second_service.merge(service_time)
        total = tally.counters.copy()
        interval_s = (now_ns - self._interval_from_ns) / NS_PER_S
        cpu_s = time.process_time()
        silence_ns = tally.silence_ns(now_ns, owed)
        fine_from_ns, fine = tally.take_fine()
        metrics = LoadMetrics(
            name=self._settings.name,
            pid=os.getpid(),
            time_ns=time.time_ns(),
            elapsed_s=(now_ns - self._started_ns) / NS_PER_S,
            interval_s=interval_s,
            state=state,
            rate=rate,
            total=total,
            interval=total.since(self._at_interval),
            response_time=response_time.to_sparse(),
            response_time_max_ns=response_time.max,
            service_time=service_time.to_sparse(),
            service_time_max_ns=service_time.max,
            outstanding=self._sessions.pending,
            resting=resting,
            endpoints=list(self._sessions.endpoints),
            connected=self._sessions.connected,
            orders_by_node=self._orders_by_node(),
            rejected_by_reason=tally.rejected_by_reason(),
            silence_ms=silence_ns / NS_PER_MS,
            gap_ms=tally.take_gap_ns() / NS_PER_MS,
            longest_gap_ms=tally.longest_gap_ns / NS_PER_MS,
            cpu_percent=100 * (cpu_s - self._interval_cpu_s) / max(interval_s, 1e-6),
            fine_from_ns=fine_from_ns + self._started_wall_ns - self._started_ns if fine else 0,
            fine=fine,
        )
        self._interval_from_ns, self._interval_cpu_s, self._at_interval = now_ns, cpu_s, total
        if now_ns - self._second_from_ns >= NS_PER_S or state == "ended":
            self._end_second(now_ns, total)
        return metrics

    def result(self, end_ns: int, open_requests: list[OpenOutcome], problem: str) -> LoadResult:
        """The result of the run, after the last snapshot.

        Args:
            end_ns: when the schedule ended.
            open_requests: what was sent and not answered.
            problem: why the run ended before its time, if it did.
        """
        tally, settings = self._tally, self._settings
        response_time, service_time = tally.response_time.histogram(), tally.service_time.histogram()
        last_ns = max(tally.last_acknowledged_ns, end_ns)
        by_node = zip(self._sessions.endpoints, self._orders_by_node(), strict=True)
        return LoadResult(
            name=settings.name,
            settings=settings.to_dict(),
            client_ids=self._sessions.client_ids,
            started_ns=self._started_wall_ns,
            started_monotonic_ns=self._started_ns,
            sending_s=(end_ns - self._started_ns) / NS_PER_S,
            elapsed_s=(last_ns - self._started_ns) / NS_PER_S,
            closed_loop=settings.rate is None,
            total=tally.counters.copy(),
            rejected_by_reason=tally.rejected_by_reason(),
            orders_by_node=dict(by_node),
            response_time=response_time.to_sparse(),
            response_time_max_ns=response_time.max,
            service_time=service_time.to_sparse(),
            service_time_max_ns=service_time.max,
            open_requests=open_requests,
            longest_gap_ms=tally.longest_gap_ns / NS_PER_MS,
            longest_gap_at_s=max(tally.longest_gap_at_ns - self._started_ns, 0) / NS_PER_S,
            cpu_s=time.process_time() - self._started_cpu_s,
            problem=problem,
        )

    def _orders_by_node(self) -> list[int]:
        """One figure for each endpoint, those without orders included."""
        counts = self._tally.orders_by_node
        return counts + [0] * (len(self._sessions.endpoints) - len(counts))

    def _end_second(self, now_ns: int, total: LoadCounters) -> None:
        self._record.second(
            Second(
                start_s=(self._second_from_ns - self._started_ns) / NS_PER_S,
                length_s=(now_ns - self._second_from_ns) / NS_PER_S,
                counters=total.since(self._at_second),
                response_time=self._second_response.to_sparse(),
                response_time_max_ns=self._second_response.max,
                service_time=self._second_service.to_sparse(),
                service_time_max_ns=self._second_service.max,
            )
        )
        self._second_from_ns, self._at_second = now_ns, total
        self._second_response.clear()
        self._second_service.clear()
