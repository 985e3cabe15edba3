"""Tracing decides nothing: a simulated run with all of its nodes traced is the run that it is without."""

from __future__ import annotations

from typing import Any

import pytest

from zmqlab.sim import SimSettings, node_process, run
from zmqlab.sim.watchers import WatchedGroup
from zmqlab.wire.traces import Direction, TraceKind, TraceQuery, TraceRecord

OF_NODES = {
    TraceKind.APPEND_ENTRIES,
    TraceKind.APPEND_ENTRIES_RESPONSE,
    TraceKind.REQUEST_VOTE,
    TraceKind.REQUEST_VOTE_RESPONSE,
    TraceKind.PRE_VOTE,
    TraceKind.PRE_VOTE_RESPONSE,
    TraceKind.INSTALL_SNAPSHOT,
    TraceKind.INSTALL_SNAPSHOT_RESPONSE,
    TraceKind.TIMEOUT_NOW,
    TraceKind.FORWARD,
}


def traced_groups(told: list[tuple[int, TraceRecord]]) -> type[WatchedGroup]:
    class TracedGroup(WatchedGroup):
        """Is traced from the beginning, and publishes nothing of it: a frame more is an effect more, and a simulated
        crash strikes at the n-th effect."""

        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            self.trace(TraceQuery(1, 1.0, 60.0, 20_000, heartbeats=True))
            assert self.tracing is not None
            node_id = self.replica.replication.node_id
            self.tracing._buffer.add = lambda record: told.append((node_id, record))  # type: ignore[method-assign]

        def _publish_trace(self, *_: object) -> None:
            """Nothing."""

    return TracedGroup


@pytest.mark.parametrize(("seed", "focus"), [(1, ""), (2, ""), (7, ""), (3, "crashes"), (2, "snapshots")])
def test_a_traced_run_is_the_same_run(seed: int, focus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimSettings(focus=focus) if focus else SimSettings()
    plain = run(seed, settings)
    told: list[tuple[int, TraceRecord]] = []
    monkeypatch.setattr(node_process, "WatchedGroup", traced_groups(told))
    traced = run(seed, settings)
    assert (traced.story, traced.figures, traced.ok) == (plain.story, plain.figures, plain.ok)
    assert {record.kind for _, record in told} > {TraceKind.LEADER, TraceKind.STORED, TraceKind.APPLIED}
    assert no_sender_is_missing(told)


def no_sender_is_missing(told: list[tuple[int, TraceRecord]]) -> bool:
    """Whether all that was received had been sent before: the two ends of a message describe it alike."""
    sent: set[tuple[object, ...]] = set()
    received = 0
    for node_id, record in told:
        if record.kind in OF_NODES:
            said = (record.kind, record.term, record.round, record.first_index, record.last_index, record.accepted)
            mine = (*said, record.client, record.number)
            if record.direction is Direction.OUT:
                sent.add((node_id, *mine))
            else:
                received += 1
                assert (record.peer, *mine) in sent, (node_id, record)
    return received > 20
