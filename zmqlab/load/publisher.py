"""Snapshots of a running load, the series of its seconds, and its result: all cut from one tally.

The run is cut into intervals of a tenth of a second, and into seconds. Each interval belongs to one second, and nothing
is counted twice. The histograms of the intervals add up to the histogram of the run.
"""

from __future__ import annotations

import os
import time

from zmqlab.histogram import Histogram
from zmqlab.load.load_messages import LoadCounters, LoadMetrics, LoadResult, OpenOutcome, Second
from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.measurement import Tally
from zmqlab.load.session_pool import SessionPool

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
INTERVAL_NS = NS_PER_S // 10
"""Between two snapshots: as often as a person sees a change, and as often as nodes publish their status."""


class Publisher:
    """Cuts the run into intervals and seconds; see the module."""

    def __init__(self, settings: LoadSettings, tally: Tally, sessions: SessionPool, started_ns: int) -> None:
        self._settings = settings
        self._tally = tally
        self._sessions = sessions
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
        self._seconds: list[Second] = []

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
            seconds=self._seconds,
            ledger=tally.ledger.to_bytes(),
            unremembered=tally.ledger.unremembered,
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
        self._seconds.append(
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
