"""The log read a second time: which copy of a request counts, how many fills an answer has, and a table of requests."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.judge.run_history import History
from zmqlab.judge.promises import answers_agree
from zmqlab.judge.replay import MAX_GAP, RequestTable, SessionModel, replay
from zmqlab.market.types import Command, Side
from zmqlab.replica.machine import StateMachine
from zmqlab.settings import SessionLimits

NUMBERS = st.one_of(st.integers(0, 50), st.integers(MAX_GAP - 2, MAX_GAP + 60), st.integers(0, 2**64 - 1))


def test_the_session_model_agrees_with_production_when_windows_and_sessions_run_out() -> None:
    """The model's decisions against the state machine's, with limits so small that every rule takes effect."""
    limits = SessionLimits(max_sessions=3, window_requests=4)
    rng = random.Random(3)
    history = History(machine=StateMachine(limits))
    clients = [history.open() for _ in range(5)]
    for _ in range(400):
        number, client_id = rng.randint(1, 12), rng.choice(clients)
        order = Command.limit(Side.BUY, "A", 1, rng.randint(1, 9))
        history.request(client_id, number, [order], rng.randint(1, number))
        if rng.random() < 0.05:
            clients.append(history.open())
    followed = replay(history.entries, 1_000, limits)
    assert followed.commands_applied == history.machine.orders_applied
    assert 0 < followed.commands_applied < 400
    assert not followed.applied_twice


def test_the_first_unanswered_request_counts_though_the_answers_fill_their_room() -> None:
    """It was refused for bytes like any other: an acknowledged request counted nowhere, and its orders were missing."""
    limits = SessionLimits(session_bytes=1_024)
    history = History(machine=StateMachine(limits))
    client_id, order = history.open(), Command.limit(Side.BUY, "A", 1, 5)
    history.request(client_id, 2, [order] * 40)
    history.request(client_id, 3, [order])
    assert history.machine.orders_applied == 40, "request 3 has no room"
    history.request(client_id, 1, [order])
    assert history.machine.orders_applied == 41
    followed = replay(history.entries, 1_000, limits)
    assert followed.commands_applied == 41
    assert [number for number in (1, 2, 3) if (client_id, number) in followed.applied] == [1, 2]


def test_the_session_model_agrees_with_production_when_bytes_run_out() -> None:
    limits = SessionLimits(window_requests=8, session_bytes=1_024, total_bytes=4_000)
    rng = random.Random(5)
    history = History(machine=StateMachine(limits))
    clients = [history.open() for _ in range(4)]
    below = dict.fromkeys(clients, 1)
    for _ in range(600):
        client_id = rng.choice(clients)
        number = below[client_id] + rng.randint(0, 6)
        order = Command.limit(Side.BUY, "A", 1, rng.randint(1, 9))
        history.request(client_id, number, [order] * rng.randint(1, 15), below[client_id])
        below[client_id] += rng.random() < 0.3
    followed = replay(history.entries, 10_000, limits)
    assert followed.commands_applied == history.machine.orders_applied
    assert not followed.applied_twice


def test_the_session_model_evicts_the_least_recently_used() -> None:
    model = SessionModel(SessionLimits(max_sessions=2))
    model.open(1)
    model.open(2)
    assert model.counts(1, 1, 1)
    model.open(3)
    assert not model.counts(2, 1, 1)
    assert model.counts(1, 1, 1)


def test_an_answer_that_was_cut_is_no_wrong_answer() -> None:
    limits = SessionLimits(answer_fills=3)
    run = History(machine=StateMachine(limits))
    client_id = run.open()
    run.request(client_id, 1, [Command.limit(Side.SELL, "AAPL", 1, 100, account=1)] * 9)
    run.request(client_id, 2, [Command.limit(Side.BUY, "AAPL", 2, 100, account=2)] * 4)
    log = replay(run.entries, 100, limits)
    assert answers_agree(run.acknowledgements, log).ok
    assert not answers_agree(run.acknowledgements, replay(run.entries, 100)).ok


@given(st.lists(st.tuples(st.integers(1, 3), NUMBERS, st.sampled_from([0, 1, 2**32 - 1, 2**64 - 2]))))
def test_a_table_is_a_dictionary(assignments: list[tuple[int, int, int]]) -> None:
    table, twin = RequestTable(), dict[tuple[int, int], int]()
    for client_id, number, value in assignments:
        table[client_id, number] = twin[client_id, number] = value
    assert len(table) == len(twin)
    for key in [*twin, *((client_id, number + 1) for client_id, number in twin), (9, 9)]:
        assert table.get(key) == twin.get(key)
        assert (key in table) is (key in twin)
    for client_id in (1, 2, 3, 9):
        assert table.of(client_id) == sum(each == client_id for each, _ in twin)


def test_a_number_that_was_far_away_is_found_when_the_others_have_come_near() -> None:
    table = RequestTable()
    table[1, MAX_GAP + 10] = 7
    for number in range(1, MAX_GAP + 100):
        table[1, number] = number
    assert table.get((1, MAX_GAP + 10)) == MAX_GAP + 10
    assert table.of(1) == len(table) == MAX_GAP + 99
