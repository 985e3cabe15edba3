"""Names of hosts end at the engine's door: what it connects to, commits and tells are addresses."""

from __future__ import annotations

import msgspec
import pytest

from tests.engine.fake_effects import Driven, founder_id
from zmqlab.engine.first_start import FOUNDER
from zmqlab.engine.status import early_status
from zmqlab.errors import FrameError
from zmqlab.raft import Configuration
from zmqlab.replica import MemoryJournal, Origin
from zmqlab.settings import NodeSettings
from zmqlab.wire import control, frames
from zmqlab.wire.control import ErrorAnswer
from zmqlab.wire.node_status import Member
from zmqlab.wire.peer import Hello, encode_hello

SILENT = "tcp://silent.example:5000"
B, C = "tcp://10.0.0.2:5000", "tcp://10.0.0.3:5000"
NAMED = NodeSettings(name="node0", port=5_000, peers=("tcp://b.lan:5000", "tcp://c.lan:5000"))
ID_B, ID_C = 0xB, 0xC


ALL = [(5_000, NAMED.endpoint), (ID_B, B), (ID_C, C)]
"""What each of the founders has met, in the end."""


def alone() -> Driven:
    driven = Driven(NodeSettings(name="node0", port=5_000))
    driven.turn()
    return driven


def addresses(driven: Driven) -> dict[int, str]:
    return dict(driven.engine.groups[0].replica.replication.configuration.addresses)


def founded() -> Driven:
    """A founder whose peers were given by their names, when it has met them."""
    driven = Driven(NAMED, MemoryJournal(), is_met=False)
    driven.effects.hosts = {"b.lan": "10.0.0.2", "c.lan": "10.0.0.3"}
    driven.pass_time(1)
    driven.meet(B, node_id=ID_B, founders=ALL)
    driven.meet(C, node_id=ID_C, founders=ALL)
    driven.effects.asked.clear()
    return driven


def test_a_query_that_names_a_host_is_refused() -> None:
    """It was committed: the node and each restart of it stood still for 30 s, while libzmq looked the name up."""
    driven = alone()
    before = addresses(driven)
    query = control.AddMemberQuery(7, 99, SILENT, "node9", 1)
    driven.turn(clients=[control.encode(frames.QUERY, query)])
    driven.pass_time(50)
    (answer,) = (control.decode_answer(frame) for _, frame in driven.effects.replies)
    assert isinstance(answer, ErrorAnswer)
    assert (answer.code, answer.message) == (
        "bad_query",
        f"'{SILENT}' names a host: nodes tell each other addresses, as in tcp://10.0.0.1:5000",
    )
    assert addresses(driven) == before
    assert driven.effects.connected == set()


def test_a_hello_that_names_a_host_is_a_bad_frame() -> None:
    driven = alone()
    own_id = driven.engine.groups[0].replica.replication.node_id
    driven.turn(peers=[encode_hello(Hello(99, own_id, SILENT, "node9"))])
    assert driven.engine.groups[0].counters.bad_frames == 1
    assert driven.effects.connected == set()


def test_founders_that_are_named_know_each_other_by_their_addresses() -> None:
    """The names got into the first configuration, and from there to libzmq at each start."""
    driven = founded()
    assert addresses(driven) == {founder_id(NAMED.endpoint): NAMED.endpoint, ID_B: B, ID_C: C}
    assert driven.effects.connected == {B, C}


def test_a_founder_is_where_it_says() -> None:
    """All founders have to agree, whichever of its addresses each of them has reached it at."""
    driven = Driven(NAMED, MemoryJournal(), is_met=False)
    driven.effects.hosts = {"b.lan": "10.0.0.2", "c.lan": "10.0.0.3"}
    driven.pass_time(1)
    there = "tcp://[2001:db8::2]:5000"
    met = [(5_000, NAMED.endpoint), (ID_B, there), (ID_C, C)]
    driven.meet(B, node_id=ID_B, address=there, founders=met)
    driven.meet(C, node_id=ID_C, address=SILENT, founders=met)
    assert set(addresses(driven).values()) == {NAMED.endpoint, there, C}


def test_two_names_of_one_founder_are_one() -> None:
    driven = Driven(NAMED, MemoryJournal(), is_met=False)
    driven.effects.hosts = {"b.lan": "10.0.0.2", "c.lan": "10.0.0.3"}
    driven.pass_time(1)
    driven.meet(B, node_id=ID_B, founders=ALL[:2])
    driven.meet(C, node_id=ID_B, founders=ALL[:2])
    assert not driven.engine.groups


def test_a_founder_that_has_moved_finds_the_others_by_their_names() -> None:
    """With names in the log libzmq looked them up at each attempt; with addresses the node does."""
    journal = MemoryJournal()
    own_id = journal.draw(5)
    journal.origin(
        Origin(own_id, Configuration((own_id, ID_B), addresses=((own_id, "tcp://10.0.0.9:5000"), (ID_B, B))))
    )
    driven = Driven(NAMED, journal, is_met=False)
    driven.effects.hosts = {"b.lan": "10.0.0.22", "c.lan": "10.0.0.23"}
    driven.pass_time(100)
    assert "tcp://10.0.0.22:5000" in {address for address, _ in driven.effects.asked}


def test_a_member_that_an_old_log_places_at_a_name_is_nowhere_until_it_speaks() -> None:
    journal = MemoryJournal()
    own_id = journal.draw(5)
    here = NodeSettings(name="node0", port=5_000)
    origin = Origin(own_id, Configuration((own_id, ID_B), addresses=((own_id, here.endpoint), (ID_B, SILENT))))
    journal.origin(origin)
    driven = Driven(here, journal)
    driven.pass_time(30)
    assert driven.effects.connected == set()
    driven.turn(peers=[encode_hello(Hello(ID_B, own_id, B, "node1"))])
    assert driven.effects.connected == {B}


def test_a_status_that_places_a_member_at_a_name_does_not_decode() -> None:
    """Who reads a status connects to the members in it: a client, a founder, the lab."""
    vitals = alone().effects.vitals()
    member = Member(node_id=9, name="", host="silent.example", port=5_000)
    status = msgspec.structs.replace(early_status(NAMED, FOUNDER, 5, vitals), members=[member])
    with pytest.raises(FrameError, match="no address"):
        control.decode_answer(control.encode(frames.ANSWER, control.StatusAnswer(1, status)))
    with pytest.raises(FrameError, match="no address"):
        control.decode_status(control.encode(frames.METRICS, status))
