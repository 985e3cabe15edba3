"""When a page may be sent more."""

from __future__ import annotations

import pytest

from zmqlab.widgets.live_figure import FORGET_S, KEY_S, MAX_BEHIND, NEWBORN_S, Flow


def pushes(flow: Flow, from_s: float, to_s: float, sequence: int = 0, busy: bool = False) -> list[float]:
    """The times of all pushes when one is tried every 100 ms."""
    times = []
    for step in range(round((to_s - from_s) * 10)):
        now_s = from_s + step / 10
        if flow.may_push(sequence + len(times) + 1, now_s, busy):
            flow.pushed(now_s)
            times.append(now_s)
    return times


def ready(now_s: float = 0.0) -> Flow:
    flow = Flow(now_s)
    flow.heard("page", "ready", 0, now_s)
    return flow


def test_ten_a_second_and_no_more() -> None:
    flow, sent = ready(), 0
    for step in range(200):
        now_s = step / 100
        flow.heard("page", "painted", sent, now_s)
        if flow.may_push(sent + 1, now_s, False):
            flow.pushed(now_s)
            sent += 1
    assert 18 <= sent <= 24


def test_news_does_not_wait_but_for_a_slow_page() -> None:
    flow = ready()
    assert flow.may_push(1, 0.0, False)
    flow.pushed(0.0)
    assert not flow.may_push(2, 0.03, False)
    assert flow.may_push(2, 0.03, False, news=True)
    assert not flow.may_push(MAX_BEHIND + 1, 0.03, False, news=True)


def test_a_slow_page_gets_two_a_second() -> None:
    flow = ready()
    assert len(pushes(flow, 0, 1.2)) == MAX_BEHIND
    assert len(pushes(flow, 1.2, 11.2, sequence=MAX_BEHIND)) == pytest.approx(20, abs=2)


def test_the_slowest_view_counts() -> None:
    flow = ready()
    flow.heard("other", "ready", 0, 0.0)
    flow.heard("page", "painted", 100, 0.0)
    assert len(pushes(flow, 0.1, 10.1, 100)) == pytest.approx(20, abs=2), "one has painted all, the other nothing"


def test_a_hidden_page_gets_nothing() -> None:
    flow = ready()
    flow.heard("page", "hidden", 0, 0.0)
    assert pushes(flow, 0, 5) == []
    flow.heard("page", "visible", 0, 5.0)
    assert flow.may_push(1, 5.0, False)
    assert flow.pushed(5.0), "what was missed comes as a key frame"
    flow.heard("page", "gone", 0, 5.0)
    assert pushes(flow, 5.1, 10) == []


def test_a_page_that_went_without_a_word_is_forgotten() -> None:
    flow = ready()
    assert pushes(flow, 0, FORGET_S)
    assert pushes(flow, FORGET_S + 1, FORGET_S + 5) == []


def test_a_long_cell_is_no_silence() -> None:
    """While a cell runs nothing can be heard: the charts go on, at the slow rate."""
    flow = ready()
    times = pushes(flow, 0, 3 * FORGET_S, busy=True)
    assert times[-1] > 3 * FORGET_S - 1


def test_before_the_first_page_has_spoken() -> None:
    """A page that comes in the middle of Run All can't say that it is there; a key frame comes by."""
    flow, keys = Flow(0.0), 0
    for step in range(100):
        if flow.may_push(step + 1, step / 10, True):
            keys += flow.pushed(step / 10)
    assert keys == pytest.approx(10 / KEY_S, abs=1)
    assert flow.may_push(200, NEWBORN_S + 5, True)
    assert not flow.may_push(200, NEWBORN_S + 5, False)


def test_a_key_frame_is_sent_when_asked_for_and_then_not_again() -> None:
    flow = ready()
    assert flow.pushed(0.0)
    assert not flow.pushed(0.1)
    flow.heard("page", "gap", 1, 0.2)
    assert flow.pushed(0.2)
    assert not flow.pushed(0.3)
    flow.want_key()
    assert flow.pushed(0.4)
