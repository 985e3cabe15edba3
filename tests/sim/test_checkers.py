"""Each checker objects to the contradiction that it is there for, shown without a cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from zmqlab.market.types import symbol_code
from zmqlab.placement import Roster
from zmqlab.raft import AppendEntries, AppendEntriesResponse, Configuration, HardState, RequestVoteResponse
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica import Applied, StateMachine
from zmqlab.settings import SessionLimits
from zmqlab.sim.checkers import Configurations, Elections, Histories, Ledger, Logs, Violation
from zmqlab.sim.placement_rules import PlacementRules
from zmqlab.wire import client as client_wire
from zmqlab.wire import records

ORDER = records.pack_commands([(1, 1, 1, 1, 5, 0, symbol_code("AAA"), 100, 7, 0)])
OPEN = Entry(1, 1, EntryKind.DATA, client_wire.encode_open_session(9))
REQUEST = Entry(2, 1, EntryKind.DATA, client_wire.encode_request(1, 1, 1, ORDER))
LIMITS = SessionLimits()


def filled() -> tuple[Ledger, StateMachine]:
    """A ledger that has seen node 1 apply two entries."""
    ledger, machine = Ledger(LIMITS), StateMachine(LIMITS)
    for entry in (OPEN, REQUEST):
        ledger.applied(1, 1, entry, machine.apply(entry), machine.chain)
    return ledger, machine


def test_two_leaders_of_one_term() -> None:
    elections = Elections(Ledger(LIMITS))
    elections.sent(AppendEntries(1, 0, 4, 0, 0, 0, 1, ()))
    with pytest.raises(Violation, match="election safety: nodes 1 and 2 both lead term 4"):
        elections.sent(AppendEntries(2, 0, 4, 0, 0, 0, 1, ()))


def test_two_votes_and_a_term_that_falls() -> None:
    elections = Elections(Ledger(LIMITS))
    elections.stored(1, HardState(4, 2, 0))
    with pytest.raises(Violation, match="one vote a term"):
        elections.sent(RequestVoteResponse(1, 3, 4, True, False))
    with pytest.raises(Violation, match="falls back"):
        elections.stored(1, HardState(3, 0, 0))


def test_one_place_with_two_contents_or_two_histories() -> None:
    for other in (REQUEST._replace(data=b"other"), REQUEST):
        logs = Logs()
        logs.saw(1, [REQUEST])
        with pytest.raises(Violation, match="log matching"):
            logs.saw(0 if other is REQUEST else 1, [other])


def test_a_rejection_of_what_is_applied() -> None:
    def rejection(index: int, round_: int) -> AppendEntriesResponse:
        return AppendEntriesResponse(2, 1, 4, round_, False, 9, 3, index)

    logs = Logs()
    logs.answered(rejection(8, 5), applied_index=7)
    logs.answered(rejection(0, 0), applied_index=7)  # says that the sender's term is over
    with pytest.raises(Violation, match="log matching: node 2 has applied 7 and rejects what follows 7"):
        logs.answered(rejection(7, 5), applied_index=7)


def test_two_members_more_at_once() -> None:
    configurations = Configurations(Configuration((1, 2, 3)))
    configurations.applied(Entry(4, 1, EntryKind.CONFIGURATION, Configuration((1, 2, 3), (4,)).encode()))
    five = Entry(6, 1, EntryKind.CONFIGURATION, Configuration((1, 2, 3, 4, 5)).encode())
    with pytest.raises(Violation, match=r"membership: .* differ by more than one member"):
        configurations.applied(five)


def test_another_entry_another_answer_another_chain() -> None:
    ledger, machine = filled()
    body = ledger.body(2)
    applied = Applied((1, 1), body, [], [])
    with pytest.raises(Violation, match="of term 2, others applied one of term 1"):
        ledger.applied(2, 2, REQUEST._replace(term=2), applied, machine.chain)
    with pytest.raises(Violation, match="another answer"):
        ledger.applied(2, 1, REQUEST, applied._replace(body=b"x"), machine.chain)
    with pytest.raises(Violation, match="another chain hash"):
        ledger.applied(2, 1, REQUEST, applied, b"other")


def test_a_request_that_is_carried_out_twice() -> None:
    """The answer that would pass as a replay is not taken for one when the exchange was moved."""
    ledger, machine = filled()
    again = Applied((1, 1), client_wire.replayed(ledger.body(2)), [1] * 8, [])
    with pytest.raises(Violation, match="exactly once"):
        ledger.applied(1, 1, REQUEST._replace(index=3), again, machine.chain)


def test_an_answer_that_the_naive_exchange_does_not_give() -> None:
    ledger, machine = filled()
    entry = Entry(3, 1, EntryKind.DATA, client_wire.encode_request(1, 2, 1, ORDER))
    applied = machine.apply(entry)
    assert applied is not None
    wrong = bytearray(applied.body)
    wrong[-1] ^= 1
    with pytest.raises(Violation, match="answers: at 3"):
        ledger.applied(1, 1, entry, applied._replace(body=bytes(wrong)), machine.chain)


def test_an_answer_from_before_the_question() -> None:
    ledger, _ = filled()
    histories = Histories(ledger)
    earlier = histories.invoke(101, 1, ORDER)
    response = next(client_wire.iter_responses(client_wire.encode_responses([ledger.body(2)])))
    histories.answer(earlier, response)
    with pytest.raises(Violation, match="real time"):
        histories.answer(histories.invoke(101, 1, ORDER), response)


def test_a_stale_and_a_wrong_read() -> None:
    ledger, _ = filled()
    histories = Histories(ledger)
    with pytest.raises(Violation, match="reads at 1, though 2 was applied"):
        histories.read(histories.invoke(101, 1, b""), "AAA", [], [], 1)
    with pytest.raises(Violation, match="but should be"):
        histories.read(histories.invoke(101, 1, b""), "AAA", [], [], 2)
    histories.read(histories.invoke(101, 1, b""), "AAA", [(100, 5, 1)], [], 2)


ONE, OTHER = "tcp://127.0.0.1:5000", "tcp://127.0.0.1:5100"
FOUNDED = Roster.of_founders([ONE, OTHER], 4, 1, {ONE: 1, OTHER: 2})
FIRST, *FURTHER = FOUNDED.held_by(ONE)
"""The groups of node 1."""
FEWER = FOUNDED._replace(
    version=1, groups=tuple((OTHER,) if group == FIRST else places for group, places in enumerate(FOUNDED.groups))
)
"""Node 1 is to hold the first one no more."""


def holds(rules: PlacementRules, roster: Roster, life: int, *groups: int) -> None:
    """Node 1, where it was at the founding, has ended a turn."""
    held = [SimpleNamespace(number=number) for number in groups]
    process: Any = SimpleNamespace(node_id=1, life=life, address=ONE, own_groups=lambda: held)
    rules._is_one(roster, "node 1 knows")
    rules._opens(process, roster)


def test_a_node_that_starts_again_with_a_group_that_it_had_closed() -> None:
    """What a node held at the first look of a life was taken for right."""
    rules = PlacementRules()
    holds(rules, FOUNDED, 1, FIRST, *FURTHER)
    holds(rules, FEWER, 1, FIRST, *FURTHER)
    holds(rules, FEWER, 2, FIRST, *FURTHER)
    holds(rules, FEWER, 2, *FURTHER)
    with pytest.raises(Violation, match=rf"places: node 1 opens groups \[{FIRST}\]"):
        holds(rules, FEWER, 3, FIRST, *FURTHER)


def test_a_node_may_start_again_with_a_group_that_was_given_to_it_in_the_turn_in_which_it_ended() -> None:
    rules = PlacementRules()
    holds(rules, FEWER, 1, *FURTHER)
    rules._is_one(FOUNDED._replace(version=2), "node 2 knows")
    holds(rules, FEWER._replace(version=3), 2, FIRST, *FURTHER)


def test_a_node_that_was_let_go_opens_groups_of_the_place_that_another_has_at_its_address() -> None:
    rules, roster = PlacementRules(), FOUNDED.without_node(ONE, 1).moved(2, ONE)
    assert roster.has_left(1)
    holds(rules, roster, 1)
    with pytest.raises(Violation, match="places: node 1 opens groups"):
        holds(rules, roster, 1, FIRST)
