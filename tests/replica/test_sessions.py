"""Sessions: a request is applied once, its answer is kept as long as it may be asked for, and no longer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zmqlab.replica.sessions import SessionTable, Verdict
from zmqlab.settings import SessionLimits

LIMITS = SessionLimits(max_sessions=3, window_requests=4, session_bytes=65_536, total_bytes=100_000)


def table_with(*clients: int) -> SessionTable:
    table = SessionTable(LIMITS)
    for client in clients:
        table.open(client)
    return table


def test_a_retry_gets_the_first_answer_and_is_not_applied_again() -> None:
    table = table_with(7)
    assert table.admit(7, 1, 1) == (Verdict.APPLY, b"")
    table.store(7, 1, b"answer")
    assert table.admit(7, 1, 1) == (Verdict.REPLAY, b"answer")


def test_requests_may_arrive_out_of_order() -> None:
    table = table_with(7)
    for number in (3, 1, 2):
        assert table.admit(7, number, 1)[0] is Verdict.APPLY
        table.store(7, number, b"%d" % number)
    assert table.admit(7, 1, 1) == (Verdict.REPLAY, b"1")


def test_an_acknowledged_answer_is_forgotten_and_its_request_is_stale() -> None:
    table = table_with(7)
    table.admit(7, 1, 1)
    table.store(7, 1, b"answer")
    assert table.admit(7, 2, 2)[0] is Verdict.APPLY
    assert table.stored_bytes == 0
    assert table.admit(7, 1, 1)[0] is Verdict.STALE


def test_a_request_cannot_declare_itself_answered() -> None:
    table = table_with(7)
    assert table.admit(7, 1, 99)[0] is Verdict.APPLY


def test_a_request_too_far_ahead_is_refused_and_may_come_again() -> None:
    table = table_with(7)
    assert table.admit(7, 5, 1)[0] is Verdict.WINDOW_FULL
    assert table.admit(7, 5, 2)[0] is Verdict.APPLY


def test_a_session_full_of_answers_refuses_until_some_are_acknowledged() -> None:
    table = table_with(7)
    table.admit(7, 1, 1)
    table.store(7, 1, bytes(LIMITS.session_bytes))
    assert table.admit(7, 2, 1)[0] is Verdict.WINDOW_FULL
    assert table.admit(7, 2, 2)[0] is Verdict.APPLY


def test_the_least_recently_used_session_is_evicted() -> None:
    table = table_with(1, 2, 3)
    table.admit(1, 1, 1)
    table.open(4)
    assert table.admit(2, 1, 1)[0] is Verdict.EXPIRED
    assert 1 in table
    assert 3 in table


def test_all_answers_together_are_bounded() -> None:
    table = table_with(1, 2, 3)
    for client in (1, 2, 3):
        table.admit(client, 1, 1)
        table.store(client, 1, bytes(40_000))
    assert table.stored_bytes <= LIMITS.total_bytes
    assert 1 not in table


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)), max_size=80))
def test_memory_stays_bounded_and_a_snapshot_decides_alike(requests: list[tuple[int, int, int]]) -> None:
    table = SessionTable(LIMITS)
    for step, (client, number, answered_below) in enumerate(requests):
        if client not in table:
            table.open(client)
        twin = SessionTable(LIMITS)
        twin.restore(table.snapshot())
        decision = table.admit(client, number, answered_below)
        assert twin.admit(client, number, answered_below) == decision
        if decision[0] is Verdict.APPLY:
            for one in (table, twin):
                one.store(client, number, bytes(step * 1_000))
        assert twin.snapshot() == table.snapshot()
        assert len(table) <= LIMITS.max_sessions
        assert table.stored_bytes <= LIMITS.total_bytes + step * 1_000
