"""The state machine: each request once, the same answers and hashes from the same entries, and a bounded memory."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqlab.errors import JournalCorrupt
from zmqlab.market import Command, Side, Status
from zmqlab.raft import Entry, EntryKind
from zmqlab.replica import Applied, StateMachine
from zmqlab.replica.machine import CHECKPOINT_INTERVAL, CHECKPOINTS_KEPT
from zmqlab.settings import SessionLimits
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames, records
from zmqlab.wire.client import Response, ResponseStatus

BUY = Command.limit(Side.BUY, "ACME", 5, 100, account=1)
SELL = Command.limit(Side.SELL, "ACME", 3, 100, account=2)
BAD = BUY._replace(quantity=0)


def request(client_id: int, number: int, *commands: Command, answered_below: int = 1) -> bytes:
    return client_wire.encode_request(client_id, number, answered_below, records.pack_commands(commands or (BUY,)))


def open_session(nonce: int = 77) -> bytes:
    return client_wire.encode_open_session(nonce)


def entries(*datas: bytes, first_index: int = 1, term: int = 1) -> list[Entry]:
    return [Entry(index, term, EntryKind.DATA, data) for index, data in enumerate(datas, start=first_index)]


def apply_all(machine: StateMachine, log: Iterable[Entry]) -> list[Applied | None]:
    return [machine.apply(entry) for entry in log]


def apply(machine: StateMachine, data: bytes) -> Response:
    """Apply one more entry that must have an answer."""
    applied = machine.apply(Entry(machine.applied_index + 1, 1, EntryKind.DATA, data))
    assert applied is not None
    (response,) = client_wire.iter_responses(client_wire.encode_responses([applied.body]))
    return response


@pytest.fixture
def machine() -> StateMachine:
    """With a session of client 1, whose registration is entry 1."""
    machine = StateMachine()
    apply(machine, open_session())
    return machine


def random_log(seed: int, length: int) -> list[Entry]:
    """Sessions, requests, retries and nonsense, as an unlucky network would leave them."""
    rng = random.Random(seed)
    datas = [open_session(1)]
    for number in range(1, length):
        commands = [
            Command.limit(rng.choice((Side.BUY, Side.SELL)), rng.choice(("A", "B")), rng.randint(0, 9),
                          rng.randint(95, 105), account=rng.randint(1, 4))
            for _ in range(rng.randint(1, 4))
        ]  # fmt: skip
        fresh = request(1, number, *commands, answered_below=max(1, number - rng.randint(3, 30)))
        datas.append(rng.choice((fresh, fresh, fresh, rng.choice(datas), open_session(number), b"nonsense")))
    return entries(*datas)


# Answers.


def test_a_session_s_id_is_the_index_of_its_entry() -> None:
    machine = StateMachine()
    machine.apply(Entry(1, 1, EntryKind.NO_OP, b""))
    response = apply(machine, open_session(nonce=99))
    assert response[:5] == (2, 99, 2, ResponseStatus.OK, 0)
    assert 2 in machine.sessions


def test_a_request_is_answered_with_reports_and_fills(machine: StateMachine) -> None:
    response = apply(machine, request(1, 1, BUY, SELL, BAD))
    assert response[:7] == (1, 1, 2, ResponseStatus.OK, 0, 3, 1)
    rests, filled, bad = client_wire.execution_reports(response)
    assert (rests.status, filled.status, bad.status) == (Status.NEW, Status.FILLED, Status.REJECTED)
    assert (machine.orders_applied, machine.rejected_total, machine.fills_total) == (3, 1, 1)


def test_a_replay_gets_the_first_answer_with_a_flag_and_the_first_index(machine: StateMachine) -> None:
    first = apply(machine, request(1, 1, BUY, SELL))
    books = machine.exchange.state_hash()
    again = apply(machine, request(1, 1, BUY, SELL))
    assert again.flags == client_wire.REPLAYED
    assert again._replace(flags=0) == first
    assert again.log_index == 2
    assert machine.exchange.state_hash() == books
    assert machine.orders_applied == 2


def test_a_replay_gives_nothing_to_publish(machine: StateMachine) -> None:
    once, again = apply_all(machine, entries(*[request(1, 1, BUY, SELL)] * 2, first_index=2))
    assert once is not None
    assert again is not None
    assert once.key == again.key == (1, 1)
    assert once.fills
    assert (again.reports, again.fills) == (b"", b"")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(1, 1, answered_below=1), ResponseStatus.STALE),
        (request(1, 4 + 3), ResponseStatus.WINDOW_FULL),
        (request(9, 1), ResponseStatus.SESSION_EXPIRED),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_a_session_refuses_is_not_applied(data: bytes, status: ResponseStatus) -> None:
    machine = StateMachine(SessionLimits(window_requests=4))
    apply(machine, open_session())
    apply(machine, request(1, 3, answered_below=3))
    books = machine.exchange.state_hash()
    response = apply(machine, data)
    assert response.status == status
    assert (response.log_index, response.report_count, response.fill_count) == (3, 0, 0)
    assert (machine.exchange.state_hash(), machine.orders_applied) == (books, 1)


def test_a_request_beyond_the_window_may_come_again_when_the_window_has_moved() -> None:
    machine = StateMachine(SessionLimits(window_requests=4))
    apply(machine, open_session())
    assert apply(machine, request(1, 5)).status == ResponseStatus.WINDOW_FULL
    assert apply(machine, request(1, 5, answered_below=2)).status == ResponseStatus.OK


def test_entries_that_are_not_data_have_no_answer(machine: StateMachine) -> None:
    state = machine.exchange.state_hash(), machine.sessions.snapshot()
    for kind in (EntryKind.NO_OP, EntryKind.CONFIGURATION):
        assert machine.apply(Entry(machine.applied_index + 1, 1, kind, request(1, 1))) is None
    assert (machine.exchange.state_hash(), machine.sessions.snapshot()) == state
    assert machine.applied_index == 3


@pytest.mark.parametrize("index", [1, 3])
def test_an_entry_out_of_turn_is_a_broken_invariant(machine: StateMachine, index: int) -> None:
    with pytest.raises(AssertionError, match="in order"):
        machine.apply(Entry(index, 1, EntryKind.DATA, request(1, 1)))


# Hashes.


def test_equal_entries_give_equal_chains_answers_and_states() -> None:
    log = random_log(seed=1, length=300)
    one, other = StateMachine(), StateMachine()
    assert apply_all(one, log) == apply_all(other, log)
    assert (one.chain, one.state_hash(), one.checkpoints) == (other.chain, other.state_hash(), other.checkpoints)
    assert one.snapshot() == other.snapshot()


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry._replace(term=2),
        lambda entry: entry._replace(kind=EntryKind.NO_OP, data=b""),
        lambda entry: entry._replace(data=request(1, 1, BUY._replace(quantity=6))),
        lambda entry: entry._replace(data=b"nonsense"),
    ],
    ids=["term", "kind", "data", "nonsense"],
)
def test_one_entry_that_differs_parts_the_chains_for_good(change: object) -> None:
    log = entries(open_session(), request(1, 1), request(1, 2), b"nonsense", request(1, 3))
    other_log = list(log)
    other_log[1] = change(log[1])  # type: ignore[operator]
    one, other = StateMachine(), StateMachine()
    for index, (entry, other_entry) in enumerate(zip(log, other_log, strict=True)):
        one.apply(entry)
        other.apply(other_entry)
        assert (one.chain == other.chain) is (index < 1)
    assert one.state_hash() != other.state_hash()


def test_the_chain_sees_the_state_through_the_answers() -> None:
    """Two machines whose books differ, though their chains don't, part at the first answer that shows it."""
    one, other = StateMachine(), StateMachine()
    for each in (one, other):
        apply(each, open_session())
    other.exchange.execute([BUY])
    assert one.chain == other.chain
    assert one.state_hash() != other.state_hash()
    for each in (one, other):
        apply(each, request(1, 1, SELL))
    assert one.chain != other.chain


def test_checkpoints_are_multiples_and_bounded(machine: StateMachine) -> None:
    for index in range(2, CHECKPOINT_INTERVAL * (CHECKPOINTS_KEPT + 5) + 10):
        machine.apply(Entry(index, 1, EntryKind.NO_OP, b""))
        if index % CHECKPOINT_INTERVAL == 0:
            assert machine.checkpoints[index] == machine.chain
    kept = list(machine.checkpoints)
    assert kept == [CHECKPOINT_INTERVAL * number for number in range(6, CHECKPOINTS_KEPT + 6)]


@given(st.one_of(st.binary(max_size=80), st.builds(bytes.__add__, st.builds(frames.header, st.integers(0, 40)),
                                                   st.binary(max_size=80))))  # fmt: skip
def test_nonsense_changes_nothing_but_the_chain(data: bytes) -> None:
    machine = StateMachine()
    apply_all(machine, entries(open_session(), request(1, 1, BUY)))
    before = machine.exchange.snapshot(), machine.sessions.snapshot(), machine.orders_applied, machine.chain
    applied = machine.apply(Entry(3, 1, EntryKind.DATA, data))
    if applied is None:
        after = machine.exchange.snapshot(), machine.sessions.snapshot(), machine.orders_applied
        assert after == before[:3]
    assert machine.applied_index == 3
    assert machine.chain != before[3]


# Snapshots.


@pytest.mark.parametrize("cut", [0, 1, 2, 50, 150, 299])
def test_a_restored_machine_goes_on_as_the_original(cut: int) -> None:
    """Sessions too: the log after the cut has retries of requests before it."""
    log = random_log(seed=2, length=300)
    original, restored = StateMachine(), StateMachine()
    apply_all(original, log[:cut])
    apply_all(restored, random_log(seed=3, length=40))
    restored.restore(original.snapshot())
    assert restored.state_hash() == original.state_hash()
    assert apply_all(restored, log[cut:]) == apply_all(original, log[cut:])
    assert (restored.chain, restored.state_hash()) == (original.chain, original.state_hash())
    assert restored.snapshot() == original.snapshot()
    totals = [(each.orders_applied, each.rejected_total, each.fills_total) for each in (restored, original)]
    assert totals[0] == totals[1]


def test_a_snapshot_that_the_exchange_refuses_is_a_corrupt_journal(machine: StateMachine) -> None:
    with pytest.raises(JournalCorrupt, match="can't be restored: the state ends 1 bytes before"):
        machine.restore(machine.snapshot() + b"\0")


def test_a_retry_across_a_snapshot_is_still_a_replay(machine: StateMachine) -> None:
    first = apply(machine, request(1, 1, BUY, SELL))
    restored = StateMachine()
    restored.restore(machine.snapshot())
    again = apply(restored, request(1, 1, BUY, SELL))
    assert again == first._replace(flags=client_wire.REPLAYED)


# Memory.


def test_a_client_that_acknowledges_costs_no_more_after_20_000_requests(machine: StateMachine) -> None:
    commands = Command.limit(Side.BUY, "ACME", 1, 100, account=1), Command.limit(Side.SELL, "ACME", 1, 100, account=2)
    most = 0
    for number in range(1, 20_001):
        apply(machine, request(1, number, *commands, answered_below=max(1, number - 3)))
        most = max(most, machine.sessions.stored_bytes)
    assert most <= 4 * (32 + 2 * 32 + 24)
    assert machine.orders_applied == 40_000
    assert machine.exchange.open_orders == 0


def test_a_client_that_never_acknowledges_is_stopped_by_its_window(machine: StateMachine) -> None:
    window = machine.sessions.limits.window_requests
    statuses = [apply(machine, request(1, number)).status for number in range(1, window + 100)]
    assert statuses == [ResponseStatus.OK] * window + [ResponseStatus.WINDOW_FULL] * 99


def test_sessions_that_are_never_used_are_bounded() -> None:
    machine = StateMachine(SessionLimits(max_sessions=10))
    for nonce in range(100):
        apply(machine, open_session(nonce))
    assert len(machine.sessions) == 10
    assert apply(machine, request(90, 1)).status == ResponseStatus.SESSION_EXPIRED
    assert apply(machine, request(91, 1)).status == ResponseStatus.OK
