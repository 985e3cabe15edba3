"""A session is of one group: it takes no other group's answers, finds its members, and knows which of them leads."""

from __future__ import annotations

import random

import msgspec

from tests.engine.shard_cluster import ShardCluster, endpoint
from zmqlab.client.roster import Contact, Roster, nodes_told
from zmqlab.client.session import Session, SessionSettings
from zmqlab.endpoints import client_endpoint_of, parse_endpoint
from zmqlab.placement import place
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.client import ResponseStatus

SHARDS = 4


class Way:
    """A wire that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, frame: bytes) -> bool:
        self.sent.append(frame)
        return True

    def close(self) -> None:
        self.sent.clear()


class OnWires:
    """A session of one group whose nodes are the engines of a cluster."""

    def __init__(self, cluster: ShardCluster, group: int, known: list[int]) -> None:
        self.cluster = cluster
        self.now_ns = 1
        places = [client_endpoint_of(endpoint(number)) for number in known]
        chance = random.Random(group)
        self.session = Session(SessionSettings(group=group), lambda _: Way(), places, rng=chance, nonces=chance)
        self.session.begin(self.now_ns)

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self.now_ns += 20_000_000
            for contact in list(self.session.roster.contacts):
                if not contact.connected:
                    self.session.on_connected(contact)
            self.session.on_time(self.now_ns)
            for contact in list(self.session.roster.contacts):
                self._carry(contact)
            self.cluster.step(1)

    def _carry(self, contact: Contact) -> None:
        way, number = contact.wire, (parse_endpoint(contact.endpoint)[1] - 5_002) // 10
        assert isinstance(way, Way)
        sent, way.sent = way.sent, []
        for answer in self.cluster.ask(number, *sent):
            self.session.on_frame(contact, answer, self.now_ns)


def founded() -> ShardCluster:
    cluster = ShardCluster(5, SHARDS, 3)
    cluster.step(60)
    return cluster


def members(group: int) -> list[str]:
    placement = place([endpoint(number) for number in range(5)], SHARDS, 3)
    return sorted(client_endpoint_of(at) for at in placement[group])


def test_a_client_that_knows_only_strangers_to_a_group_finds_its_members() -> None:
    cluster = founded()
    for group in range(SHARDS):
        number = next(number for number in range(5) if group not in cluster.groups(number))
        client = OnWires(cluster, group, [number])
        client.run(40)
        assert client.session.client_id, f"a session of group {group}, asked for at node {number}"
        assert sorted(client.session.roster.endpoints) == members(group)


def test_who_leads_another_group_is_not_who_leads_this_one() -> None:
    cluster = founded()
    leaders = cluster.leaders()
    for group in range(SHARDS):
        client = OnWires(cluster, group, list(range(5)))
        client.run(40)
        roster = client.session.roster
        assert roster.leader is not None
        leader = next(each for each in roster.contacts if each.index == roster.leader)
        assert leader.endpoint == client_endpoint_of(endpoint(leaders[group] or 0))


def test_a_response_of_another_group_is_a_bad_frame() -> None:
    session = OnWires(founded(), 1, [0, 1, 2]).session
    contact = session.roster.contacts[0]
    body = client_wire.encode_response(9, session.nonce, 9)
    session.on_frame(contact, client_wire.encode_responses([body], 2), 2)
    assert (session.client_id, session.counters.bad_frames) == (0, 1)
    session.on_frame(contact, client_wire.encode_responses([body], 1), 2)
    assert session.client_id == 9


def test_elsewhere_sends_a_request_to_another_node() -> None:
    session = OnWires(founded(), 1, [0, 1]).session
    first, second = session.roster.contacts
    session.on_connected(first)
    session.on_connected(second)
    body = client_wire.encode_response(9, session.nonce, 9)
    session.on_frame(first, client_wire.encode_responses([body], 1), 2)
    request = session.submit(bytes(40), 3)
    node = request.node
    assert node is not None
    body = client_wire.encode_response(9, 1, 0, ResponseStatus.ELSEWHERE)
    assert session.on_frame(node, client_wire.encode_responses([body], 1), 4) == []
    session.on_time(5)
    assert request.node is not node
    assert frames.parse_header(request.frame) == (frames.REQUEST, 1)


def test_a_status_of_another_group_tells_of_nodes_and_of_nothing_else() -> None:
    cluster = founded()
    answer = cluster.ask(0, control.encode(frames.QUERY, control.StatusQuery(1), 3))[0]
    decoded = control.decode_answer(answer)
    assert isinstance(decoded, control.StatusAnswer)
    foreign = msgspec.structs.replace(decoded.status, group=0, role="leader", term=99)
    joined: list[str] = []

    def welcome(contact: Contact) -> None:
        joined.append(contact.endpoint)
        contact.wire = Way()

    roster = Roster(welcome, ["tcp://127.0.0.1:5002"], nonces=random.Random(1), group=3)
    (contact,) = roster.contacts
    roster.note_connected(contact)
    roster.ask(10**9)
    roster.take_answer(contact, control.StatusAnswer(roster._first_nonce + 1, foreign))
    assert (roster.leader, contact.status, contact.holds_group) == (None, None, False)
    roster.follow(2 * 10**9)
    assert set(joined) == set(nodes_told(foreign)) | {"tcp://127.0.0.1:5002"}
