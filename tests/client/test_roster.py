"""Which node leads and which nodes belong to the cluster, from statuses alone."""

from __future__ import annotations

import random

import pytest

from tests.client.virtual import MS, endpoint_of, status_of
from zmqlab.client.retries import ResponseClock
from zmqlab.client.roster import Contact, Numbering, Roster, leader_of, newest_of, wanted
from zmqlab.wire import control, frames
from zmqlab.wire.node_status import NodeStatus


class Wire:
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, frame: bytes) -> bool:
        self.sent.append(frame)
        return True

    def close(self) -> None:
        pass


def roster_of(*node_ids: int, wants_leader: bool = False, fallbacks: tuple[str, ...] = ()) -> Roster:
    def welcome(contact: Contact) -> None:
        contact.wire = Wire()
        contact.clock = ResponseClock(MS)

    endpoints = [endpoint_of(node_id) for node_id in node_ids]
    nonces = random.Random(1)
    return Roster(welcome, endpoints, nonces=nonces, wants_leader=wants_leader, fallbacks=fallbacks)


def answer(roster: Roster, index: int, status: NodeStatus) -> None:
    """The node answers the last question that it was asked."""
    contact = next(each for each in roster.contacts if each.index == index)
    assert isinstance(contact.wire, Wire)
    query = control.decode_query(contact.wire.sent[-1])
    roster.take_answer(contact, control.StatusAnswer(query.nonce, status))


def connect_all(roster: Roster) -> None:
    for contact in roster.contacts:
        roster.note_connected(contact)


def test_the_leader_is_the_node_of_the_highest_term_that_says_so() -> None:
    old, new = status_of(1, "leader", term=3), status_of(2, "leader", term=4)
    assert leader_of({"old": old, "new": new, "follower": status_of(3, term=9)}) == "new"
    assert leader_of({"old": old}) == "old"
    assert leader_of({"a": status_of(1, "candidate", term=5)}) is None
    assert leader_of({}) is None


def test_what_a_node_says_of_another_does_not_make_a_leader() -> None:
    follower = status_of(1)
    follower.leader_id = 2
    assert leader_of({1: follower}) is None


def test_the_newest_status_is_that_of_the_member_that_is_furthest() -> None:
    behind = status_of(1, term=9, commit_index=4, members=(1,))
    ahead = status_of(2, term=5, commit_index=7, members=(1, 2))
    equal = status_of(1, term=6, commit_index=7, members=(1, 2))
    removed = status_of(3, term=6, commit_index=8, members=(1, 2))
    assert newest_of([behind, ahead]) is ahead
    assert newest_of([ahead, equal]) is equal, "the term decides between equal indexes"
    assert newest_of([removed, ahead]) is ahead, "no member by its own account"
    assert newest_of([removed]) is removed, "better than nothing"
    assert newest_of([]) is None


def test_a_roster_follows_the_leader_and_forgets_it_with_its_connection() -> None:
    roster = roster_of(1, 2, wants_leader=True)
    connect_all(roster)
    roster.ask(MS)
    answer(roster, 0, status_of(1, "leader", term=2))
    assert roster.leader == 0
    answer(roster, 1, status_of(2, "leader", term=1))
    assert roster.leader == 0, "a deposed leader that has not heard of it"
    roster.note_disconnected(roster.contacts[0])
    assert roster.leader is None, "what led in term 1 is out of date"
    roster.ask(1_000 * MS)
    answer(roster, 1, status_of(2, "leader", term=3))
    assert roster.leader == 1
    answer(roster, 1, status_of(2, term=3))
    assert roster.leader is None, "it says so itself"


def test_answers_to_the_questions_of_others_are_ignored() -> None:
    roster = roster_of(1)
    connect_all(roster)
    roster.ask(MS)
    roster.take_answer(roster.contacts[0], control.StatusAnswer(12345, status_of(1, "leader")))
    roster.take_answer(roster.contacts[0], control.OkAnswer(12345))
    assert roster.leader is None
    assert roster.contacts[0].node_id == 0


def test_questions_are_asked_once_a_second_and_sooner_for_a_reason() -> None:
    roster = roster_of(1, 2, 3)
    connect_all(roster)
    wire = roster.contacts[0].wire
    assert isinstance(wire, Wire)
    for ms in range(0, 2_900, 10):
        roster.ask((1_000 + ms) * MS)
    assert len(wire.sent) == 3
    roster.hurry(50)
    roster.ask(3_890 * MS)
    assert len(wire.sent) == 4
    roster.hurry(0)
    roster.ask(3_900 * MS)
    assert len(wire.sent) == 4, "at least 50 ms lie between two rounds"
    assert frames.parse_header(wire.sent[-1])[0] == frames.QUERY


def test_without_any_connection_the_fallbacks_are_tried() -> None:
    roster = roster_of(1, fallbacks=(endpoint_of(5),))
    assert roster.follow(MS) == []
    roster.follow(400 * MS)
    assert roster.endpoints == (endpoint_of(1),)
    roster.follow(502 * MS)
    assert roster.endpoints == (endpoint_of(1), endpoint_of(5))
    assert roster.changes == 1


def test_a_client_whose_nodes_were_all_removed_looks_further() -> None:
    """The only node that still runs was removed: it takes requests and answers none. Its connection stood, and that was
    enough for the roster. The simulator found it: seed 124 with a planted bug in the membership."""
    roster = roster_of(1, 2, fallbacks=(endpoint_of(5),))
    roster.note_connected(roster.contacts[0])
    roster.ask(MS)
    answer(roster, 0, status_of(1, commit_index=9, members=(3,)))
    roster.follow(2 * MS)
    assert roster.endpoints == (endpoint_of(1), endpoint_of(2)), "not at once"
    roster.follow(600 * MS)
    assert roster.endpoints == tuple(endpoint_of(node_id) for node_id in (1, 2, 5, 3))


def test_a_client_with_nothing_to_ask_leaves_nodes_that_missed_their_own_removal() -> None:
    """Node 1 was cut off while node 6 took over from it and from node 2, which is gone. It takes itself for a voter for
    ever. That was enough for the roster of a client that misses no answer (``zmqlab.sim``, focus members, seed 225)."""
    roster = roster_of(1, 2)
    roster.note_connected(roster.contacts[0])
    roster.ask(MS)
    answer(roster, 0, status_of(1, "pre_candidate", commit_index=9, members=(1, 2), learners=(6,)))
    assert [roster.follow(ms * MS) for ms in (1, 600, 2_000)] == [[], [], []]
    assert roster.endpoints == (endpoint_of(1), endpoint_of(2)), "an election may take this long"
    roster.follow(2_002 * MS)
    assert roster.endpoints == tuple(endpoint_of(node_id) for node_id in (1, 2, 6))
    roster.note_connected(roster.contacts[2])
    roster.ask(2_100 * MS)
    answer(roster, 2, status_of(6, "leader", term=2, commit_index=12, members=(6,), leader_id=6))
    assert [left.endpoint for left in roster.follow(2_101 * MS)] == [endpoint_of(1), endpoint_of(2)]
    assert roster.endpoints == (endpoint_of(6),)


def test_a_client_of_a_node_that_is_served_looks_no_further() -> None:
    """Also when most nodes are out of its reach, and when an election takes a while."""
    roster = roster_of(1, fallbacks=(endpoint_of(5),))
    connect_all(roster)
    for second in range(20):
        roster.ask((1 + 1_000 * second) * MS)
        leader_id = 2 if second % 3 else 0  # none is known now and then, for a second
        answer(roster, 0, status_of(1, term=second, commit_index=9, members=(1, 2, 3), leader_id=leader_id))
        roster.follow((2 + 1_000 * second) * MS)
        roster.follow((900 + 1_000 * second) * MS)
    assert roster.endpoints == tuple(endpoint_of(node_id) for node_id in (1, 2, 3))


@pytest.mark.parametrize(
    "status",
    [
        status_of(1, "learner", commit_index=9, members=(2,), learners=(1,), leader_id=2),
        status_of(1, "removed", commit_index=9, members=(1, 2), leader_id=2),  # zmqlab.sim, focus members, seed 762
    ],
    ids=lambda status: status.role,
)
def test_a_node_that_never_stands_for_election_and_remembers_a_leader_is_not_served(
    status: NodeStatus,
) -> None:
    roster = roster_of(1, fallbacks=(endpoint_of(5),))
    connect_all(roster)
    roster.ask(MS)
    answer(roster, 0, status)
    roster.follow(2 * MS)
    assert roster.endpoints == (endpoint_of(1), endpoint_of(2))
    roster.follow(2_003 * MS)
    assert roster.endpoints == tuple(endpoint_of(node_id) for node_id in (1, 2, 5))


def test_a_client_that_is_lost_looks_further() -> None:
    """All nodes that it knows are cut off and take each other for the cluster."""
    roster = roster_of(1, fallbacks=(endpoint_of(5),))
    connect_all(roster)
    roster.ask(MS)
    answer(roster, 0, status_of(1, commit_index=9, members=(1,)))
    roster.follow(5_000 * MS)
    assert roster.endpoints == (endpoint_of(1),)
    roster.follow(5_001 * MS, is_lost=True)
    assert roster.endpoints == (endpoint_of(1), endpoint_of(5))


def test_a_node_is_left_only_when_a_majority_confirms_the_membership() -> None:
    roster = roster_of(1, 2, 3, 4)
    connect_all(roster)
    roster.ask(MS)
    answer(roster, 3, status_of(4, commit_index=5, members=(1, 2, 3, 4)))
    answer(roster, 0, status_of(1, commit_index=9, members=(1, 2, 3)))
    assert roster.follow(MS) == [], "one node alone may be the one that is wrong"
    answer(roster, 1, status_of(2, commit_index=9, members=(1, 2, 3)))
    (left,) = roster.follow(MS)
    assert left.endpoint == endpoint_of(4)
    assert roster.endpoints == tuple(endpoint_of(node_id) for node_id in (1, 2, 3))


def test_where_a_node_was_its_successor_is_looked_for() -> None:
    """Node 1 has moved to another address, and node 2 will be where it was. The connection there still stands, and all
    that was heard over it is node 1 (found by ``zmqlab.sim``, seed 6118)."""
    roster = roster_of(1, 2, 3)
    connect_all(roster)
    roster.ask(1)
    for index, node_id in enumerate((1, 1, 3)):
        answer(roster, index, status_of(node_id, commit_index=5, members=(1, 2, 3)))
    (before,) = [each for each in roster.contacts if each.endpoint == endpoint_of(2)]
    assert roster.follow(2) == [before]
    (after,) = [each for each in roster.contacts if each.endpoint == endpoint_of(2)]
    assert after is not before


def test_a_node_that_has_moved_is_looked_for_when_its_old_connection_is_lost() -> None:
    """The others tell of the move before that, and until then it is taken for the same node under another spelling
    (found by ``zmqlab.sim``, seed 14000251)."""
    roster = roster_of(1, 2, 3)
    connect_all(roster)
    roster.ask(1)
    for index, node_id in enumerate((1, 2, 3)):
        answer(roster, index, status_of(node_id, commit_index=5, members=(1, 2, 3)))
    assert roster.follow(2) == []
    for index, node_id in ((1, 2), (2, 3)):
        status = status_of(node_id, commit_index=6, members=(1, 2, 3))
        status.members[0].host = "10.0.0.5"
        answer(roster, index, status)
    assert roster.follow(3) == []
    moved = roster.contacts[0]
    roster.note_disconnected(moved)
    assert roster.follow(4) == [moved]
    assert roster.endpoints == (endpoint_of(2), endpoint_of(3), endpoint_of(5))


def test_the_same_node_under_two_spellings_is_kept_once() -> None:
    numbering = Numbering()
    contacts = [Contact(numbering.index_of(each), each, True) for each in ("tcp://localhost:5002", endpoint_of(1))]
    for contact in contacts:
        contact.connected, contact.node_id = True, 1
    assert wanted(contacts, {1: endpoint_of(1)}) == contacts[:1]
