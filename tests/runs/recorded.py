"""A judged run that was never run: a small history, its nodes' words, a kill in the middle, figures for each second."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from tests.judge.run_history import History, small_run
from zmqlab.histogram import Histogram
from zmqlab.judge.evidence import Acknowledgements, LogPiece, totals_of
from zmqlab.judge.promises import NodeEvidence
from zmqlab.judge.run_evidence import RunEvidence
from zmqlab.judge.thresholds import parse_thresholds
from zmqlab.judge.verdict import LoadResult, pass_verdict
from zmqlab.lab.incidents import IncidentsOfRun
from zmqlab.lab.load_client import JudgedRun
from zmqlab.load import load_messages as wire
from zmqlab.load.load_settings import LoadSettings
from zmqlab.tables import StatusTable
from zmqlab.wire.control import Event

START_NS = 1_790_000_000_000_000_000
MONOTONIC_NS = 5_000_000_000
MS, S = 1_000_000, 1_000_000_000
RECORD = struct.Struct("<QQQqqIIIHH")


def judged_run(
    seconds: int = 6,
    rate: int = 500,
    kill_at_s: float | None = 2.5,
    slow: float = 1.0,
    history: History | None = None,
    fail_if: Sequence[str] = ("p99>1s",),
    seed: int = 1,
) -> JudgedRun:
    """Half a second without answers after a kill; response times ``slow`` times two milliseconds."""
    history, rng = history or small_run(), random.Random(seed)
    series = [_second(at, rate, kill_at_s, slow, rng) for at in range(seconds)]
    response, total = Histogram(), wire.LoadCounters()
    for each in series:
        response.merge(Histogram.from_sparse(each.response_time, each.response_time_max_ns))
        total = total.plus(each.counters)
    total.requests = len(history.acknowledgements)
    total.acknowledged = 2 * total.requests  # as many as the small history has
    total.offered = total.sent = total.acknowledged
    outcome = wire.LoadResult(
        name="load",
        settings=LoadSettings(nodes=("tcp://127.0.0.1:4002",), rate=float(rate), duration_s=seconds).to_dict(),
        client_ids=[2],
        started_ns=START_NS,
        started_monotonic_ns=MONOTONIC_NS,
        sending_s=float(seconds),
        elapsed_s=float(seconds),
        closed_loop=False,
        total=total,
        response_time=response.to_sparse(),
        response_time_max_ns=response.max,
        service_time=response.to_sparse(),
        service_time_max_ns=response.max,
        seconds=series,
        ledger=_ledger(history, seconds, kill_at_s),
        longest_gap_ms=500.0,
        longest_gap_at_s=kill_at_s or 0.0,
    )
    taken = RunEvidence(
        acknowledgements=Acknowledgements(outcome.ledger),
        asked=3,
        nodes=tuple(_said_by(f"node{number}", history) for number in range(3)),
        log=LogPiece(1, history.entries),
        leaders={1: {"node0"}, 2: {"node1"}},
        totals=totals_of(outcome),
    )
    limits = {"max_replayed_commands": 1_000, "max_replay_s": 5.0, "allow_compacted": False}
    verdict = pass_verdict(taken, **limits)
    result = LoadResult(outcome, verdict, StatusTable(), 2, parse_thresholds(fail_if))
    events = _events(kill_at_s)
    incidents = IncidentsOfRun().judged(events, verdict, START_NS, START_NS + seconds * S)
    cluster = {"nodes": 3, "durability": "os", "keys": False}
    return JudgedRun(result, taken, limits, events, incidents, cluster)


def _second(at: int, rate: int, kill_at_s: float | None, slow: float, rng: random.Random) -> wire.Second:
    hit = kill_at_s is not None and at == int(kill_at_s)
    values = Histogram()
    values.record_many(
        round(slow * (2 + rng.expovariate(1) + (300 * rng.random() if hit else 0)) * MS) for _ in range(200)
    )
    done = rate // 2 if hit else rate
    return wire.Second(
        start_s=float(at),
        length_s=1.0,
        counters=wire.LoadCounters(offered=rate, sent=rate, acknowledged=done),
        response_time=values.to_sparse(),
        response_time_max_ns=values.max,
        service_time=values.to_sparse(),
        service_time_max_ns=values.max,
    )


def _ledger(history: History, seconds: int, kill_at_s: float | None) -> bytes:
    """The acknowledgements, spread over the run; none comes in the half second after the kill."""
    step = seconds * S // len(history.acknowledgements)
    records = b""
    for number, ack in enumerate(history.acknowledgements):
        invoked = MONOTONIC_NS + number * step
        completed = invoked + 2 * MS
        if kill_at_s is not None and 0 <= invoked - MONOTONIC_NS - kill_at_s * S < S // 2:
            completed = MONOTONIC_NS + round((kill_at_s + 0.5) * S) + number * MS
        told = (ack.client_id, ack.request_number, ack.log_index, invoked, completed, 2, ack.answer_crc)
        records += RECORD.pack(*told, ack.commands_crc, 0, 0)
    return records


def _said_by(name: str, history: History) -> NodeEvidence:
    machine = history.machine
    hashes = machine.chain.hex(), machine.state_hash().hex()
    return NodeEvidence(name, machine.applied_index, *hashes, machine.orders_applied, voters=3)


def _events(kill_at_s: float | None) -> list[Event]:
    def event(at_s: float, kind: str, node: str, term: int, text: str) -> Event:
        return Event(time_ns=START_NS + round(at_s * S), node=node, kind=kind, term=term, text=text)

    begun = [event(-1.0, "elected", "node0", 1, "node0 is leader in term 1")]
    if kill_at_s is None:
        return begun
    return [
        *begun,
        event(kill_at_s, "killed", "node0", 0, "SIGKILL"),
        event(kill_at_s + 0.21, "role", "node1", 1, "node1 is pre_candidate in term 1"),
        event(kill_at_s + 0.22, "elected", "node1", 2, "node1 is leader in term 2"),
        event(kill_at_s + 1.5, "restarted", "node0", 0, ""),
    ]
