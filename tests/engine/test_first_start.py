"""What a node without a journal is: all founders meet first, and a member without its journal is another node."""

from __future__ import annotations

import pytest

from tests.engine.fake_effects import MS, Driven, founder_id
from zmqlab import keys
from zmqlab.engine.first_start import CALLERS_MAX, FOUNDER
from zmqlab.engine.status import early_status
from zmqlab.keys import Sender
from zmqlab.placement import Roster
from zmqlab.raft import Configuration, Role
from zmqlab.replica import Journal, MemoryJournal
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.node_status import Member
from zmqlab.wire.peer import Hello, RosterNews, encode_bundle, encode_hello, encode_roster

A, B, C, D = "tcp://127.0.0.1:5000", "tcp://127.0.0.1:5100", "tcp://127.0.0.1:5200", "tcp://127.0.0.1:5300"
ID_A, ID_B, ID_C = map(founder_id, (A, B, C))


def member(endpoint: str, node_id: int = 0, voter: bool = True) -> Member:
    port = founder_id(endpoint)
    return Member(node_id=node_id or port, name="", host="127.0.0.1", port=port, voter=voter)


def founder(journal: Journal | None = None) -> Driven:
    """Node A of three, at its first start; the others are not there yet."""
    driven = Driven(NodeSettings(name="node0", port=5_000, peers=(B, C)), journal, is_met=False)
    driven.pass_time(1)
    return driven


def asked(driven: Driven) -> list[control.Query]:
    queries = [control.decode_query(frame) for _, frame in driven.effects.asked]
    driven.effects.asked.clear()
    return queries


# Founders.


def test_founders_begin_when_all_have_met() -> None:
    driven = founder()
    driven.meet(B)
    driven.pass_time(600)
    assert not driven.engine.groups, "two of three are a majority, and not all"
    driven.meet(B)
    driven.meet(C)
    (group,) = driven.engine.groups.values()
    configuration = group.replica.replication.configuration
    assert configuration.voters == (ID_A, ID_B, ID_C)
    assert configuration.addresses == ((ID_A, A), (ID_B, B), (ID_C, C))
    asked(driven)
    driven.pass_time(100)
    assert asked(driven) == [], "a founder asks for nothing more"


def test_a_founder_that_has_fallen_silent_is_not_met_any_more() -> None:
    """B and C may have founded with this node's identity, and B ended; C has lost its disk, and is another node now.
    This node took B's old word, and founded a second cluster with the new C: orders of the first were gone."""
    driven = founder()
    met = [(ID_A, A), (ID_B, B), (77, C)]
    driven.meet(B, founders=met)
    driven.pass_time(200)
    driven.meet(C, node_id=77, founders=met)
    assert not driven.engine.groups
    driven.pass_time(100)
    driven.meet(B, member(A), member(B), member(C))
    (group,) = driven.engine.groups.values()
    assert group.replica.replication.configuration.voters == (ID_A, ID_B, ID_C)


def test_founders_that_have_met_another_at_two_addresses_do_not_begin_with_both() -> None:
    """B had met C before it moved, and begun with that. This node, which had been paused, had B's last word from before
    still, met C where it is now, and began with that: with shards they placed the groups differently."""
    driven = founder()
    driven.meet(B, founders=[(ID_A, A), (ID_B, B), (ID_C, D)])
    driven.meet(C)
    assert not driven.engine.groups
    driven.meet(B, founders=[(ID_A, A), (ID_B, B), (ID_C, C)])
    assert driven.engine.groups


def test_founders_begin_when_each_has_met_all() -> None:
    driven = founder()
    driven.meet(B, founders=[(ID_B, B), (ID_A, A)])
    driven.meet(C, founders=[(ID_C, C)])
    assert not driven.engine.groups, "B has not met C"
    question = control.encode(frames.QUERY, control.StatusQuery(3))
    driven.turn(clients=[question])
    ((_, answer),) = driven.effects.replies
    told = control.decode_answer(answer)
    assert isinstance(told, control.StatusAnswer)
    assert sorted(told.status.founders) == [(ID_A, A), (ID_B, B), (ID_C, C)]


def test_a_founders_late_word_does_not_count_as_a_new_one() -> None:
    driven = founder()
    *_, old = (frame for address, frame in driven.effects.asked if address == B)
    driven.pass_time(200)
    driven.meet(C)
    status = early_status(driven.settings, FOUNDER, ID_B, driven.effects.vitals())
    status.address, status.founders = B, [(ID_A, A), (ID_B, B), (ID_C, C)]
    late = control.StatusAnswer(control.decode_query(old).nonce, status)
    driven.engine.begin_turn()
    driven.engine.on_answer(B, control.encode(frames.ANSWER, late))
    driven.engine.turn()
    assert not driven.engine.groups
    driven.meet(B)
    assert driven.engine.groups


def test_a_founder_that_has_decided_keeps_no_connection_for_questions() -> None:
    """If the last answer came in a turn with a tick, that tick asked all of them again. From then on each turn of the
    node looked for answers over those connections. No test let time pass between two answers."""
    driven = founder()
    driven.meet(B)
    driven.meet(C, late_ns=40 * MS)
    assert driven.engine.groups
    assert driven.effects.questioned == set()


def test_a_founder_that_waits_says_for_which_others() -> None:
    driven = founder()
    for _ in range(500):  # ticks; the reminder comes every 300
        driven.meet(C)
        driven.pass_time(1)
    assert f"still waiting for founders: {B}." in driven.effects.notes[-1]


def test_a_founder_that_died_in_between_keeps_its_identity() -> None:
    journal = MemoryJournal()
    founder(journal)
    assert journal.is_new
    assert journal.draw(77) == ID_A


def test_a_founder_that_was_slow_finds_itself_among_the_members() -> None:
    driven = founder()
    driven.meet(B, member(A), member(B), member(C))
    (group,) = driven.engine.groups.values()
    assert group.replica.replication.configuration.voters == (ID_A, ID_B, ID_C)


def calls(driven: Driven, node_id: int, address: str) -> None:
    """The node at ``address`` asks this one to be taken in, and this one asks all whom it asks."""
    driven.turn(clients=[control.encode(frames.QUERY, control.AddMemberQuery(3, node_id, address, "node1", 2))])
    driven.effects.asked.clear()
    driven.pass_time(10)


def test_a_founder_asks_one_that_has_decided_and_gone_to_another_address() -> None:
    """Seeds 60000755 and 60001275 with shards: it looked for that one at its old address, and no group got a leader."""
    driven = founder()
    driven.meet(B)
    calls(driven, ID_B, D)
    driven.meet(D, member(A), member(B), member(C))
    (group,) = driven.engine.groups.values()
    assert group.replica.replication.configuration.voters == (ID_A, ID_B, ID_C)
    assert driven.effects.questioned == set()


def hello(sender: int, to: int, address: str) -> bytes:
    return encode_hello(Hello(sender, to, address, "node1"), 0)


def told(*ids: int, at: str) -> bytes:
    """A ROSTER frame of the node at ``at``: the cluster has these nodes."""
    places = {f"tcp://127.0.0.1:{6_000 + number}": node_id for number, node_id in enumerate(ids)}
    return encode_roster(RosterNews(ids[0], 9, at, Roster.of_founders(list(places), 2, 1, places)))


INTRODUCTIONS = [hello(ID_B, ID_A, D), encode_bundle([hello(ID_B, ID_A, D), hello(ID_B, ID_A, D)])]
INTRODUCTIONS += [told(ID_B, ID_A, at=D), encode_bundle([told(ID_B, ID_A, at=D), hello(ID_B, ID_A, D)])]


@pytest.mark.parametrize("frame", INTRODUCTIONS, ids=["hello", "hellos", "roster", "both"])
def test_a_founder_asks_one_that_introduces_itself(frame: bytes) -> None:
    """B and C have founded with it while it died, and both are at other addresses since. It heard them, at the address
    that they know, and looked for them at the old ones for ever."""
    driven = founder()
    driven.turn(peers=[frame])
    driven.effects.asked.clear()
    driven.pass_time(10)
    driven.meet(D, member(A), member(B), member(C))
    (group,) = driven.engine.groups.values()
    assert group.replica.replication.configuration.voters == (ID_A, ID_B, ID_C)
    assert driven.effects.questioned == set()


def test_a_founder_asks_no_node_whose_frame_does_not_name_it() -> None:
    driven = founder()
    strange = [hello(ID_B, 77, D), told(ID_B, 77, at=D), encode_bundle([told(ID_B, at=D)] * 2), hello(ID_B, ID_A, A)]
    driven.turn(peers=[*strange, b"nonsense", strange[0][:-1]])
    driven.pass_time(10)
    assert driven.effects.questioned == {B, C}
    assert sum("bad frame" in note for note in driven.effects.notes) == 2


def test_a_node_that_was_not_named_does_not_draw_a_founder_into_its_cluster() -> None:
    driven = founder()
    calls(driven, 77, D)
    driven.meet(D, member(A, node_id=99), member(D))
    driven.meet(D, founders=[(ID_A, A), (ID_B, B), (ID_C, C)])
    assert not driven.engine.groups
    assert {address for address, _ in driven.effects.asked} == {B, C, D}


def test_a_founder_asks_few_nodes_that_were_not_named() -> None:
    driven = founder()
    for port in range(6_000, 6_100):
        calls(driven, 77, f"tcp://127.0.0.1:{port}")
    assert len(driven.effects.questioned) == 2 + CALLERS_MAX
    assert f"tcp://127.0.0.1:{port}" in driven.effects.questioned, "the latest is among them"


def test_a_founder_asks_no_node_because_a_trader_says_so() -> None:
    driven = founder()
    call = control.encode(frames.QUERY, control.AddMemberQuery(3, ID_B, D, "node1", 2))
    driven.engine.on_client_frame(b"client", call, Sender(keys.Role.TRADER, "alice", 1))
    driven.pass_time(10)
    assert driven.effects.questioned == {B, C}


def test_a_founder_that_was_slow_takes_over_committed_members_only() -> None:
    """Seed 15019093: a founder began with a learner whose entry was lost. Its snapshots named that learner, since
    nothing in the log took it back. Here a voter's address is unknown as well: it went missing from the quorum."""
    committed = Configuration((ID_A, ID_B, ID_C), addresses=((ID_A, A), (ID_B, B)))
    driven = founder()
    driven.meet(B, member(A), member(B), member(C, node_id=99, voter=False), committed_members=committed.encode())
    (group,) = driven.engine.groups.values()
    assert group.replica.replication.configuration == committed


def test_a_node_that_knows_no_committed_members_is_no_cluster_yet() -> None:
    """It was told to join one, and has heard of members whose entry may still be lost."""
    driven = founder()
    driven.meet(B, member(B), member(C), committed_members=Configuration(()).encode())
    assert not driven.engine.groups
    driven.meet(B, member(A), member(B), member(C))
    assert driven.engine.groups


def test_a_founder_without_its_journal_is_a_new_member() -> None:
    """Under its old identity it would vote again, and an order that a majority had stored could be lost."""
    driven = founder()
    driven.meet(B, member(A, node_id=99), member(B), member(C))
    (group,) = driven.engine.groups.values()
    replication = group.replica.replication
    assert replication.node_id == ID_A
    assert replication.configuration.members == ()
    assert any("its journal was lost" in note for note in driven.effects.notes)
    driven.pass_time(200)
    assert replication.role is Role.FOLLOWER
    assert replication.term == 0, "it does not stand for election"
    added = [query for query in asked(driven) if isinstance(query, control.AddMemberQuery)]
    assert {(query.node_id, query.address) for query in added} == {(ID_A, A)}


def test_a_new_member_in_a_founders_place_asks_again_after_a_restart() -> None:
    journal = MemoryJournal()
    driven = founder(journal)
    driven.meet(B, member(A, node_id=99), member(B), member(C))
    again = Driven(driven.settings, journal, is_met=False)
    again.pass_time(50)
    assert any(isinstance(query, control.AddMemberQuery) for query in asked(again))


@pytest.mark.parametrize(
    "fields", [{"cluster": "another"}, {"role": "seed"}, {"role": "learner"}, {"node_id": ID_A}], ids=str
)
def test_a_node_that_is_no_founder_of_this_cluster_is_not_met(fields: dict[str, object]) -> None:
    driven = founder()
    driven.meet(B)
    driven.meet(C, **fields)
    driven.meet(C, **fields)
    assert not driven.engine.groups
    said = [note for note in driven.effects.notes if "is a node of the cluster 'another', not of ''" in note]
    assert len(said) == ("cluster" in fields)


def test_a_founder_that_waits_answers_for_its_status_and_refuses_the_rest() -> None:
    driven = founder()
    questions: list[control.Query] = [control.StatusQuery(1), control.BookQuery(2, "ACME")]
    driven.turn(clients=[control.encode(frames.QUERY, question) for question in questions])
    driven.turn(clients=[client_wire.encode_open_session(3), b"ZL"], peers=[b"nonsense"])
    (_, status), (_, book), (_, refused) = driven.effects.replies
    told = control.decode_answer(status)
    assert isinstance(told, control.StatusAnswer)
    assert (told.status.role, told.status.node_id, told.status.members) == ("founder", ID_A, [])
    error = control.decode_answer(book)
    assert isinstance(error, control.ErrorAnswer)
    assert error.code == "not_leader"
    (response,) = client_wire.iter_responses(refused)
    assert (response.request_number, response.status) == (3, client_wire.ResponseStatus.BUSY)


def test_a_signal_ends_a_founder_that_waits() -> None:
    driven = founder()
    driven.engine.on_signal()
    assert driven.engine.is_over


# Seeds.


def seed() -> Driven:
    return Driven(NodeSettings(name="node1", port=5_100, join=(A,), bootstrap_ms=500))


def test_a_seed_asks_first_and_founds_a_cluster_of_its_own() -> None:
    driven = seed()
    driven.pass_time(40)
    assert {address for address, _ in driven.effects.asked} == {A}
    assert not driven.engine.groups
    driven.pass_time(20)
    (group,) = driven.engine.groups.values()
    assert group.replica.replication.role is Role.LEADER
    assert group.replica.replication.configuration.addresses == ((ID_B, B),)


def test_a_seed_that_finds_a_cluster_joins_it() -> None:
    driven = seed()
    driven.pass_time(1)
    driven.meet(A, member(A))
    driven.pass_time(30)
    (group,) = driven.engine.groups.values()
    assert group.replica.replication.configuration.members == ()
    assert isinstance(asked(driven)[-1], control.AddMemberQuery)


def test_a_seed_that_meets_a_node_without_a_cluster_goes_on_waiting() -> None:
    driven = seed()
    driven.pass_time(1)
    driven.meet(A)
    assert not driven.engine.groups


def test_a_seed_that_is_told_of_a_cluster_in_its_last_turn_joins_it() -> None:
    """The answer is handed in first, and then the tick passes with which the seed's time is over."""
    driven = seed()
    driven.pass_time(50)
    asked_before = len(driven.effects.asked)
    driven.now_ns = driven.engine.wake_ns
    driven.meet(A, member(A))
    (group,) = driven.engine.groups.values()
    assert group.replica.replication.configuration.members == (), "it would have founded a second cluster"
    assert len(driven.effects.asked) == asked_before, (
        "it asks, and so connects to, no more nodes than it has hung up on"
    )
