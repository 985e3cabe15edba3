"""When a request leaves: at once while there is room, seldom when answers are slow, and never later than a bound."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from tests.client.conftest import MakeNodes
from tests.load.test_generator import settings_for
from zmqlab.client.session import Completion
from zmqlab.load.generator import PAUSE_MAX_NS, PAUSE_MIN_NS, UNDER_WAY, Generator, Pace
from zmqlab.load.measurement import Sent
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
        pace.sent(now_ns, len(under_way))
        sent.append(now_ns)
        heapq.heappush(under_way, (now_ns + (answer_ns if now_ns < silent_from_ns else 1 << 62), now_ns))
        crowd.append(len(under_way))
    return sent, crowd


@pytest.mark.parametrize("answer_ms", [0.7, 1.6, 2.9])
def test_about_three_requests_are_under_way(answer_ms: float) -> None:
    sent, crowd = play(Pace(), round(answer_ms * NS_PER_MS), 200 * NS_PER_MS)
    assert max(crowd[20:]) <= UNDER_WAY + 1, "once it has learnt how long answers take"
    assert np.median(np.diff(sent)) == pytest.approx(answer_ms * NS_PER_MS / UNDER_WAY, rel=0.02)


def test_the_pause_has_bounds() -> None:
    quick, _ = play(Pace(), 50_000, 100 * NS_PER_MS)
    slow, crowd = play(Pace(), 20 * NS_PER_MS, 200 * NS_PER_MS)
    assert set(np.diff(quick[1:])) == {PAUSE_MIN_NS}
    assert np.median(np.diff(slow)) == PAUSE_MAX_NS
    assert np.median(crowd) == pytest.approx(20, abs=2), "it is an open loop: slow answers do not stop it"


def test_silence_stretches_the_pause_at_once() -> None:
    """Answers took 1 ms. Without the silence the pause would stay a third of that, until an answer says otherwise."""
    sent, crowd = play(Pace(), NS_PER_MS, 100 * NS_PER_MS, silent_from_ns=50 * NS_PER_MS)
    late = [time_ns for time_ns in sent if time_ns >= 50 * NS_PER_MS]
    assert np.diff(late)[-1] == PAUSE_MAX_NS
    assert crowd[-1] < 50 + 12, "not the 150 that it would have been"


def test_a_time_without_orders_is_no_silence() -> None:
    pace = Pace()
    pace.sent(0, 0)
    pace.answered([answer(0, NS_PER_MS)])
    pace.sent(900 * NS_PER_MS, 0)
    assert pace.next_ns(1) == 900 * NS_PER_MS + NS_PER_MS // UNDER_WAY


def test_a_fixed_pause_follows_nothing() -> None:
    sent, _ = play(Pace(5.0), NS_PER_MS, 100 * NS_PER_MS)
    assert set(np.diff(sent)) == {5 * NS_PER_MS}


def test_with_few_orders_each_has_a_request_of_its_own(make_nodes: MakeNodes) -> None:
    total = Generator(settings_for(make_nodes(1), rate=40, arrivals="constant")).run().total
    assert total.acknowledged == total.requests == 40
