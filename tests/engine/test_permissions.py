"""Who may send what: the table is complete, a refusal is answered and counted, and a session belongs to its key."""

from __future__ import annotations

import pytest

from tests.engine.fake_effects import Driven
from zmqlab.engine.permissions import NEEDED
from zmqlab.keys import ANYONE, Role, Sender
from zmqlab.market.types import Command, Side
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames, records
from zmqlab.wire.client import ResponseStatus
from zmqlab.wire.traces import TraceQuery

ALICE, BOB = Sender(Role.TRADER, "alice", 17), Sender(Role.TRADER, "bob", 18)
WATCHER, OPERATOR = Sender(Role.WATCHER, "eve", 19), Sender(Role.OPERATOR, "olga", 20)
SENT_BY_NODES = {"RESPONSES", "ANSWER", "METRICS", "TRADE", "EVENT", "TRACE"}
QUERIES: dict[type[control.Query], control.Query] = {
    type(query): query
    for query in (
        control.StatusQuery(1),
        control.BookQuery(1, "A", linearizable=False),
        control.TradesQuery(1, "A", linearizable=False),
        control.LogQuery(1, 1),
        control.HashQuery(1),
        control.TransferQuery(1),
        control.AddMemberQuery(1, 7, "tcp://127.0.0.1:7000"),
        control.RemoveMemberQuery(1, 7),
        control.LinkFaultsQuery(1),
        TraceQuery(1),
    )
}


@pytest.fixture
def driven() -> Driven:
    made = Driven(NodeSettings(name="node0", port=5_000, allow_faults=True))
    made.pass_time(1)
    return made


def send(driven: Driven, frame: bytes, sender: Sender) -> bytes:
    """The answer to what ``sender`` sent."""
    driven.effects.replies.clear()
    driven.engine.begin_turn()
    driven.engine.on_client_frame(b"client", frame, sender)
    while driven.engine.turn():
        driven.engine.begin_turn()
    ((_, answer),) = driven.effects.replies
    return answer


def response(driven: Driven, frame: bytes, sender: Sender) -> client_wire.Response:
    (found,) = client_wire.iter_responses(send(driven, frame, sender))
    return found


def open_session(driven: Driven, sender: Sender) -> int:
    return response(driven, client_wire.encode_open_session(5), sender).client_id


def order(client_id: int, number: int = 1) -> bytes:
    packed = records.pack_commands([Command.limit(Side.BUY, "A", 1, 100)])
    return client_wire.encode_request(client_id, number, 1, packed)


def bad_frames(driven: Driven) -> int:
    return driven.engine.groups[0].counters.bad_frames


def test_every_frame_and_every_query_needs_a_role() -> None:
    types = {name: value for name, value in vars(frames).items() if name.isupper() and isinstance(value, int)}
    types = {name: value for name, value in types.items() if value <= frames.EVENT and name not in ("VERSION",)}
    types = {name: value for name, value in types.items() if name != "HEADER_BYTES"}
    received = {value for name, value in types.items() if name not in SENT_BY_NODES | {"QUERY"}}
    assert set(NEEDED) == received | set(control.Query.__args__)  # type: ignore[attr-defined]
    assert set(QUERIES) == set(control.Query.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", QUERIES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("role", Role)
def test_a_query_is_answered_to_those_who_may_ask_it(driven: Driven, kind: type[control.Query], role: Role) -> None:
    sender = Sender(role, "someone", 17)
    answer = control.decode_answer(send(driven, control.encode(frames.QUERY, QUERIES[kind]), sender))
    forbidden = isinstance(answer, control.ErrorAnswer) and answer.code == "forbidden"
    assert forbidden == (role < NEEDED[kind])
    assert bad_frames(driven) == int(forbidden), "a refusal is counted"
    assert any("someone has the role" in note for note in driven.effects.notes) == forbidden, "and noted in the log"


def test_a_watcher_opens_no_session_and_sends_no_order(driven: Driven) -> None:
    client_id = open_session(driven, ALICE)
    before = driven.engine.groups[0].replica.machine.applied_index
    assert response(driven, client_wire.encode_open_session(6), WATCHER).status == ResponseStatus.FORBIDDEN
    assert response(driven, order(client_id), WATCHER).status == ResponseStatus.FORBIDDEN
    assert driven.engine.groups[0].replica.machine.applied_index == before


@pytest.mark.parametrize("stranger", [BOB, OPERATOR], ids=lambda sender: sender.name)
def test_a_session_belongs_to_the_key_that_opened_it(driven: Driven, stranger: Sender) -> None:
    client_id = open_session(driven, ALICE)
    assert response(driven, order(client_id), stranger).status == ResponseStatus.FORBIDDEN
    first = response(driven, order(client_id), ALICE)
    assert first.status == ResponseStatus.OK
    assert response(driven, order(client_id), stranger).status == ResponseStatus.FORBIDDEN, "a stored answer neither"
    assert response(driven, order(client_id, 2), ALICE).status == ResponseStatus.OK
    assert driven.engine.groups[0].replica.machine.orders_applied == 2


def test_a_session_of_the_future_is_another_nodes_business(driven: Driven) -> None:
    """This node has not applied its opening yet, and does not know whose it is."""
    assert response(driven, order(1_000), ALICE).status == ResponseStatus.BUSY
    assert bad_frames(driven) == 0


def test_a_client_does_not_name_an_owner(driven: Driven) -> None:
    driven.engine.on_client_frame(b"client", client_wire.encode_open_session(5, owner=BOB.fingerprint), ALICE)
    driven.engine.turn()
    ((_, answer),) = driven.effects.replies
    assert next(client_wire.iter_responses(answer)).status == ResponseStatus.MALFORMED
    assert bad_frames(driven) == 1
    assert driven.engine.groups[0].replica.pending == {}


def test_the_owner_outlives_a_snapshot(driven: Driven) -> None:
    client_id = open_session(driven, ALICE)
    open_session(driven, ANYONE)
    machine = driven.engine.groups[0].replica.machine
    before = machine.state_hash()
    machine.restore(machine.snapshot())
    assert machine.state_hash() == before
    assert machine.sessions.owner_of(client_id) == ALICE.fingerprint
    assert response(driven, order(client_id), ALICE).status == ResponseStatus.OK
    machine.snapshot()
    assert response(driven, order(client_id, 2), ALICE).status == ResponseStatus.OK
    assert response(driven, order(client_id, 3), BOB).status == ResponseStatus.FORBIDDEN


def test_without_keys_a_session_is_anyones(driven: Driven) -> None:
    client_id = open_session(driven, ANYONE)
    assert response(driven, order(client_id), ANYONE).status == ResponseStatus.OK
    assert bad_frames(driven) == 0
