"""When a request leaves: at once while there is room, seldom when answers are slow, and never later than a bound."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from tests.client.conftest import MakeNodes
from tests.load.test_generator import settings_for
from zmqlab.client.session import Completion
from zmqlab.load.generator import Generator
from zmqlab.load.measurement import Sent
from zmqlab.load.pace import PAUSE_MAX_NS, PAUSE_MIN_NS, Pace
from zmqlab.wire.client import Response

NS_PER_MS = 1_000_000
RESPONSE = Response(1, 1, 1, 0, 0, 1, 0, memoryview(b""), memoryview(b""))


def answer(sent_ns: int, completed_ns: int) -> Completion:
    return Completion(1, Sent(b"", np.zeros(1, np.int64)), RESPONSE, 0, 1, sent_ns, completed_ns)


def play(pace: Pace, answer_ns: int, lasting_ns: int, silent_from_ns: int = 1 << 62) -> tuple[list[int], list[int]]:
    """Orders are always due; each request is answered after ``answer_ns``, unless it is sent in the silence.

    Returns when requests were sent, and how many were under way then.
    """
    under_way: list[tuple[int, int]] = []
    now_ns, sent, crowd = 0, [], []
    while now_ns < lasting_ns:
        next_ns = max(pace.next_ns(len(under_way)), now_ns)
        if under_way and under_way[0][0] <= next_ns:
            now_ns, sent_ns = heapq.heappop(under_way)
            pace.answered([answer(sent_ns, now_ns)])
            continue
        now_ns = next_ns
        pace.sent(now_ns)
        sent.append(now_ns)
        heapq.heappush(under_way, (now_ns + (answer_ns if now_ns < silent_from_ns else 1 << 62), now_ns))
        crowd.append(len(under_way))
    return sent, crowd


@pytest.mark.parametrize("answer_ms", [0.7, 1.2, 1.9])
def test_about_one_request_is_under_way(answer_ms: float) -> None:
    sent, crowd = play(Pace(), round(answer_ms * NS_PER_MS), 200 * NS_PER_MS)
    assert max(crowd[20:]) <= 2, "once it has learnt how long answers take"
    assert np.median(np.diff(sent)) == pytest.approx(answer_ms * NS_PER_MS, rel=0.02)


def test_the_pause_has_bounds() -> None:
    quick, _ = play(Pace(), 50_000, 100 * NS_PER_MS)
    slow, crowd = play(Pace(), 20 * NS_PER_MS, 200 * NS_PER_MS)
    assert set(np.diff(quick[1:])) == {PAUSE_MIN_NS}
    assert np.median(np.diff(slow)) == PAUSE_MAX_NS
    assert np.median(crowd) == pytest.approx(10, abs=2), "it is an open loop: slow answers do not stop it"


def test_a_cluster_that_stands_still_is_sent_one_request_in_a_pause() -> None:
    sent, _ = play(Pace(), NS_PER_MS, 100 * NS_PER_MS, silent_from_ns=50 * NS_PER_MS)
    silent = [time_ns for time_ns in sent if time_ns >= 50 * NS_PER_MS]
    assert len(silent) == pytest.approx(50, abs=2), "answers took 1 ms; the open loop goes on at that pace"


def test_a_fixed_pause_follows_nothing() -> None:
    sent, _ = play(Pace(5.0), NS_PER_MS, 100 * NS_PER_MS)
    assert set(np.diff(sent)) == {5 * NS_PER_MS}


def test_with_few_orders_each_has_a_request_of_its_own(make_nodes: MakeNodes) -> None:
    total = Generator(settings_for(make_nodes(1), rate=40, arrivals="constant")).run().total
    assert total.acknowledged == 40
    assert total.requests >= 40 - total.late, "only orders that a stall of the machine made late share a request"
