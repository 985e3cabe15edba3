"""Several load generators as one: their snapshots, and their results.

Each generator measures on its own clock, and its latencies are differences of that clock alone. So counters are added,
and histograms are merged; no percentile is averaged, and no time of one generator is subtracted from one of another.

*When* something happened is told on the wall clock of the reader. The clock of a generator's machine is ahead by an
offset that was measured, with an uncertainty (:class:`zmqlab.lab.hosts.ClockOffset`). By that the ledgers are put on
one axis: that of the reader's wall clock, in nanoseconds. The axis is for charts. Each record keeps the number of its
clock (:data:`~zmqlab.load.run_record.RECORD`), and the verdict compares times of one clock only.

The longest gap is the longest one of a generator. A gap of all of them would compare clocks.

Rules: pure. Left out on purpose: where the generators run (:mod:`zmqlab.lab.load_team`).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from zmqlab.errors import SettingsError
from zmqlab.histogram import Histogram
from zmqlab.load.load_messages import FINE_NS, GroupShare, LoadCounters, LoadMetrics, LoadResult, ReadOutcome, Second
from zmqlab.load.load_report import response_time_of, service_time_of
from zmqlab.load.load_settings import LoadSettings, Stage
from zmqlab.load.run_record import RECORD, read_ledger

NS_PER_S = 1_000_000_000
STATES = ("running", "draining", "ended")
"""Of a snapshot. All together are in the first of these that one of them is in."""


def share_of(settings: LoadSettings, number: int, count: int) -> LoadSettings:
    """What generator ``number`` of ``count`` is told: an equal share of the rate and of the ledger, and a seed of its
    own. The first one reads books, if any are to be read: a read has no session by which to know its clock.

    Raises:
        SettingsError: a history is to be written, which has one clock.
    """
    if settings.history is not None and count > 1:
        raise SettingsError("a history is written by one load generator: leave history away, or generators")
    return replace(
        settings,
        name=f"{settings.name}-{number}" if count > 1 else settings.name,
        rate=None if settings.rate is None else settings.rate / count,
        stages=tuple(Stage(stage.at_s, stage.rate / count) for stage in settings.stages),
        seed=settings.seed + number,
        book_reads=settings.book_reads if number == 0 else 0.0,
        ledger_limit=settings.ledger_limit // count,
    )


def merged_metrics(
    newest: Sequence[LoadMetrics],
    fresh: Sequence[LoadMetrics],
    *,
    name: str,
    pid: int,
    time_ns: int,
    interval_s: float,
) -> LoadMetrics:
    """One snapshot of several generators.

    Args:
        newest: the last snapshot of each, on the reader's clock (:func:`placed`).
        fresh: all that have come since the last merged one.
        name: of the load.
        pid: what stands for the process of a load client.
        time_ns: wall clock of the reader.
        interval_s: since the last merged one.
    """
    response, service = response_time_of(fresh), service_time_of(fresh)
    endpoints = list(dict.fromkeys(endpoint for each in newest for endpoint in each.endpoints))
    orders: Counter[str] = Counter()
    connected: set[str] = set()
    for each in newest:
        orders.update(dict(zip(each.endpoints, each.orders_by_node, strict=True)))
        connected.update(itertools.compress(each.endpoints, each.connected))
    fine_from_ns, fine = _merged_fine(fresh)
    rates = [each.rate for each in newest]
    return LoadMetrics(
        name=name,
        pid=pid,
        time_ns=time_ns,
        elapsed_s=max(each.elapsed_s for each in newest),
        interval_s=interval_s,
        state=min((each.state for each in newest), key=STATES.index),
        rate=None if None in rates else sum(rate for rate in rates if rate is not None),
        total=_sum(each.total for each in newest),
        interval=_sum(each.interval for each in fresh),
        response_time=response.to_sparse(),
        response_time_max_ns=response.max,
        service_time=service.to_sparse(),
        service_time_max_ns=service.max,
        outstanding=sum(each.outstanding for each in newest),
        resting=sum(each.resting for each in newest),
        endpoints=endpoints,
        connected=[endpoint in connected for endpoint in endpoints],
        orders_by_node=[orders[endpoint] for endpoint in endpoints],
        rejected_by_reason=dict(_added(each.rejected_by_reason for each in newest)),
        silence_ms=max(each.silence_ms for each in newest),
        gap_ms=max((each.gap_ms for each in fresh), default=0.0),
        longest_gap_ms=max(each.longest_gap_ms for each in newest),
        cpu_percent=max(each.cpu_percent for each in newest),
        groups=_merged_shares([each.groups for each in newest], [each.groups for each in fresh]),
        fine_from_ns=fine_from_ns,
        fine=fine,
    )


def placed(snapshot: LoadMetrics, offset_ns: int) -> LoadMetrics:
    """The snapshot with its times on the wall clock of the reader, which is ``offset_ns`` behind."""
    snapshot.time_ns -= offset_ns
    if snapshot.fine:
        snapshot.fine_from_ns -= offset_ns
    return snapshot


class Part(NamedTuple):
    """The result of one generator."""

    result: LoadResult
    offset_ns: int
    """By how much the wall clock of its machine is ahead of the reader's."""
    machine: str
    """For messages."""

    @property
    def started_ns(self) -> int:
        """Its first intended time, on the wall clock of the reader."""
        return self.result.started_ns - self.offset_ns

    @property
    def shift_ns(self) -> int:
        """From the clock of its ledger to the wall clock of the reader."""
        return self.started_ns - self.result.started_monotonic_ns


def merged_result(settings: LoadSettings, parts: Sequence[Part], missing: Sequence[str] = ()) -> LoadResult:
    """One result of several generators; ``missing`` says why others left none."""
    results = [part.result for part in parts]
    response = _merged([(each.response_time, each.response_time_max_ns) for each in results])
    service = _merged([(each.service_time, each.service_time_max_ns) for each in results])
    started_ns = min(part.started_ns for part in parts)
    late_s = [(part.started_ns - started_ns) / NS_PER_S for part in parts]
    worst = max(range(len(parts)), key=lambda number: results[number].longest_gap_ms)
    problems = [f"on {part.machine}: {part.result.problem}" for part in parts if part.result.problem]
    return LoadResult(
        name=settings.name,
        settings=settings.to_dict(),
        client_ids=[client for each in results for client in each.client_ids],
        client_groups=[group for each in results for group in each.client_groups],
        groups=_merged_shares([each.groups for each in results]),
        started_ns=started_ns,
        started_monotonic_ns=started_ns,
        sending_s=max(late + each.sending_s for late, each in zip(late_s, results, strict=True)),
        elapsed_s=max(late + each.elapsed_s for late, each in zip(late_s, results, strict=True)),
        closed_loop=any(each.closed_loop for each in results),
        total=_sum(each.total for each in results),
        rejected_by_reason=dict(_added(each.rejected_by_reason for each in results)),
        orders_by_node=dict(_added(each.orders_by_node for each in results)),
        response_time=response.to_sparse(),
        response_time_max_ns=response.max,
        service_time=service.to_sparse(),
        service_time_max_ns=service.max,
        seconds=[_merged_second(of_all) for of_all in itertools.zip_longest(*(each.seconds for each in results))],
        ledger=b"".join(_shifted_ledger(part, clock) for clock, part in enumerate(parts)),
        unremembered=sum(each.unremembered for each in results),
        open_requests=[
            msgspec.structs.replace(each, invoked_ns=each.invoked_ns + part.shift_ns)
            for part in parts
            for each in part.result.open_requests
        ],
        requests_sent=[count for each in results for count in each.requests_sent],
        book_reads=[_shifted_read(each, part.shift_ns) for part in parts for each in part.result.book_reads],
        longest_gap_ms=results[worst].longest_gap_ms,
        longest_gap_at_s=late_s[worst] + results[worst].longest_gap_at_s,
        cpu_s=sum(each.cpu_s for each in results),
        steered=sum(each.steered for each in results),
        problem="; ".join([*missing, *problems]),
    )


def _merged_shares(
    of_all: Iterable[Sequence[GroupShare]], fresh: Iterable[Sequence[GroupShare]] = ()
) -> list[GroupShare]:
    """What each Raft group did of the whole load. The longest gap is that of one generator, on its own clock.

    ``fresh``: of the generators that have told something new; the gap of the interval is the longest of theirs.
    """
    merged: dict[int, GroupShare] = {}
    gaps_ms: dict[int, float] = {}
    for each in itertools.chain.from_iterable(fresh):
        gaps_ms[each.group] = max(each.gap_ms, gaps_ms.get(each.group, 0.0))
    for each in itertools.chain.from_iterable(of_all):
        so_far = merged.get(each.group, GroupShare(group=each.group))
        worse = max(so_far, each, key=lambda share: share.longest_gap_ms)
        merged[each.group] = GroupShare(
            group=each.group,
            requests=so_far.requests + each.requests,
            acknowledged=so_far.acknowledged + each.acknowledged,
            outstanding=so_far.outstanding + each.outstanding,
            silence_ms=max(so_far.silence_ms, each.silence_ms),
            gap_ms=gaps_ms.get(each.group, 0.0),
            longest_gap_ms=worse.longest_gap_ms,
            longest_gap_at_s=worse.longest_gap_at_s,
        )
    return [merged[group] for group in sorted(merged)]


def _sum(counters: Iterable[LoadCounters]) -> LoadCounters:
    total = LoadCounters()
    for each in counters:
        total = total.plus(each)
    return total


def _added(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def _merged(sparse: Iterable[tuple[dict[str, int], int]]) -> Histogram:
    return Histogram.merged(Histogram.from_sparse(*each) for each in sparse)


def _merged_second(of_all: Sequence[Second | None]) -> Second:
    """The n-th second of each run. They began within the time that it takes to open a session."""
    seconds = [each for each in of_all if each is not None]
    response, service = response_time_of(seconds), service_time_of(seconds)
    return Second(
        start_s=min(each.start_s for each in seconds),
        length_s=max(each.length_s for each in seconds),
        counters=_sum(each.counters for each in seconds),
        response_time=response.to_sparse(),
        response_time_max_ns=response.max,
        service_time=service.to_sparse(),
        service_time_max_ns=service.max,
    )


def _merged_fine(fresh: Sequence[LoadMetrics]) -> tuple[int, list[int]]:
    """The figures of all in steps of :data:`FINE_NS`, of which one begins at each multiple of that."""
    counts: Counter[int] = Counter()
    for each in fresh:
        first = math.floor(each.fine_from_ns / FINE_NS)
        counts.update({first + step: count for step, count in enumerate(each.fine)})
    if not counts:
        return 0, []
    first, last = min(counts), max(counts)
    return first * FINE_NS, [counts[step] for step in range(first, last + 1)]


def _shifted_ledger(part: Part, clock: int) -> bytes:
    rows = read_ledger(part.result.ledger).astype(RECORD, copy=True)
    rows["clock"] = clock
    rows["invoked_ns"] += part.shift_ns
    rows["completed_ns"] += part.shift_ns
    return rows.tobytes()


def _shifted_read(read: ReadOutcome, shift_ns: int) -> ReadOutcome:
    times = read.invoked_ns + shift_ns, read.completed_ns + shift_ns
    return ReadOutcome(read.symbol, read.levels, read.log_index, *times, read.crc)
