"""Readings of runs that never were, for tests of what is shown of them."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec

from tests.monitoring.fakes import a_status
from zmqlab.cli.live_view import Bar, NodeRow, Readings, Tick
from zmqlab.histogram import Histogram
from zmqlab.load.load_messages import LoadCounters, LoadMetrics
from zmqlab.load.load_report import LoadFigures

FIGURES = LoadFigures("running", 38.2, 10_012.4, 1.9, 4.1, 382_000, 381_204, 3)
MIXED = "2. mixed scale up, leader killed: 3 -> 4 -> 3, node1 after 0.42 s, held 2.4 s, longest gap 340 ms"
TICKS = (
    Tick(3.2, "1. kill follower: node1, held 1.2 s, longest gap 34 ms, recovered in 0.4 s"),
    Tick(9.1, "node2 leads, term 3", "title"),
    Tick(12.1, MIXED),
)


def a_node(number: int, role: str) -> NodeRow:
    """One that has taken a million orders; a dead one tells nothing."""
    status = msgspec.structs.replace(
        a_status(), name=f"node{number}", role=role, term=3, orders_taken=1_234_567, applied_index=234_567
    )
    return NodeRow(f"node{number}", role, None if role == "dead" else status)


def some_bars(count: int = 60, rate: float = 10_000) -> list[Bar | None]:
    """An election in the midst of them, and the burst of orders that had waited."""
    rng = random.Random(1)
    calm = [Bar(rate, rate * rng.uniform(0.98, 1.02), rng.uniform(4, 5), 6.0) for _ in range(count - 10)]
    return [*calm, *[Bar(rate, 0.0, 0.0, 900.0)] * 2, Bar(rate, 3.8 * rate, 1_200.0, 800.0), None, *calm[:6]]


def some_readings(nodes: int = 3, **other: object) -> Readings:
    """A torture run with so many nodes, of which one is dead."""
    roles = ["leader", "dead", *["follower"] * nodes][:nodes]
    readings = Readings(
        command="zmqlab torture",
        about=(f"{nodes} nodes", "10,000 orders/s", "seed 1"),
        clock="38 of 300 s",
        status=("● SERVING 10,012/s, p99 4.1 ms · 3 of 3 nodes run, node0 leads", "good banner"),
        counters=("2 faults over", "last gap 340 ms"),
        lost=("of 381,000 orders acknowledged until 1 s ago: 0 lost, 0 twice", "dim"),
        bars=some_bars(),
        figures=FIGURES,
        nodes=[a_node(number, role) for number, role in enumerate(roles)],
        ticker=TICKS,
        doing="kill leader: node0",
        advice="Ctrl-C ends the faults early; then all is mended and judged",
    )
    return replace(readings, **other)  # type: ignore[arg-type]


def a_snapshot(time_s: float, offered: int, acknowledged: int, gap_ms: float = 0.0, name: str = "load") -> LoadMetrics:
    """A tenth of a second of a load client, which was answered within 2 ms each time."""
    times = Histogram()
    for _ in range(acknowledged):
        times.record(2_000_000)
    counters = LoadCounters(offered=offered, sent=offered, acknowledged=acknowledged)
    return LoadMetrics(
        name=name,
        pid=1,
        time_ns=round(time_s * 1e9),
        elapsed_s=time_s,
        interval_s=0.1,
        state="running",
        rate=float(offered * 10),
        total=counters,
        interval=counters,
        response_time=times.to_sparse(),
        response_time_max_ns=times.max,
        service_time=times.to_sparse(),
        service_time_max_ns=times.max,
        outstanding=0,
        resting=0,
        connected=[],
        orders_by_node=[],
        rejected_by_reason={},
        silence_ms=0.0,
        gap_ms=gap_ms,
        longest_gap_ms=gap_ms,
        cpu_percent=1.0,
    )
