"""What a node owes to its clients and peers: each rule objects to the node that breaks it, without a cluster."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zmqlab.client import roster as client_roster
from zmqlab.engine.effects import Vitals
from zmqlab.engine.lifecycle import Joining
from zmqlab.engine.link_faults import Held, LinkFaults
from zmqlab.engine.peers import Peers
from zmqlab.placement import Roster
from zmqlab.raft import AppendEntries, Configuration, RequestVote, Role
from zmqlab.raft.messages import BROADCAST
from zmqlab.replica import Replica
from zmqlab.sim.checkers import Violation
from zmqlab.sim.node_process import Process
from zmqlab.sim.node_rules import Duties, crowds, late_snapshot
from zmqlab.wire import control
from zmqlab.wire.client import ResponseStatus, encode_response
from zmqlab.wire.fault_queries import LinkFault
from zmqlab.wire.peer import Hello, encode_hello, encode_message

THREE = Configuration((1, 2, 3))
VITALS = Vitals(pid=1, time_ns=0, uptime_ms=0, cpu_percent=0.0, rss_bytes=0, dropped=0, bad_messages=0)
READ_TICKS, DRAIN_TICKS = 20, 10
MAX_PENDING, MAX_BYTES = 3, 1_000


class Node:
    """Node 1 of three, as a process and its replica look to the rules."""

    def __init__(self, leaves: bool = False, began_at: int = 0) -> None:
        self.replication = SimpleNamespace(
            node_id=1,
            configuration=THREE,
            configuration_index=0,
            last_index=began_at,
            commit_index=0,
            ticks=5,
            role=Role.FOLLOWER,
        )
        self.joining = SimpleNamespace(was_in=False, is_told=False)
        self.stored: dict[tuple[int, int], bytes] = {}
        """Answers, by the keys of their requests."""
        self.votes = False
        self.pending: dict[Any, Any] = {}
        self.is_out = self.agreed = False
        limits = SimpleNamespace(
            read_ticks=READ_TICKS, max_pending=MAX_PENDING, max_pending_bytes=MAX_BYTES, max_behind=4
        )
        sessions = SimpleNamespace(peek=lambda *key: self.stored.get(key))
        machine = self.machine = SimpleNamespace(sessions=sessions, applied_index=7)
        self.to_propose: list[bytes] = []
        self.newest = THREE
        """The newest members that are committed; at their index, and behind it."""
        self.in_reach: list[int] = []
        """Of the voters, as their leader has heard them."""
        replica = SimpleNamespace(
            replication=self.replication,
            pending=self.pending,
            settings=limits,
            machine=machine,
            _to_propose=self.to_propose,
        )
        commitment = SimpleNamespace(
            is_out=lambda node_id, since: self.is_out,
            votes=lambda node_id, since: self.votes,
            agrees=lambda since, fits: self.agreed,
        )
        self.world = SimpleNamespace(
            placed=None,
            ledger=SimpleNamespace(last_index=7),
            configurations=SimpleNamespace(at=lambda index: self.newest if index >= 7 else THREE),
            causes=SimpleNamespace(
                claims=SimpleNamespace(told=0),
                commitment=commitment,
                hearing=SimpleNamespace(in_reach=lambda raft, voters: self.in_reach),
            ),
            processes={node_id: SimpleNamespace(address=f"at {node_id}", newest_life=2) for node_id in (1, 2, 3, 4)},
        )
        self.sockets = SimpleNamespace(connected={"at 2", "at 3"}, subscribed={"at 2", "at 3"})
        settings = SimpleNamespace(drain_ms=DRAIN_TICKS * 20, tick_ms=20, leave=leaves)
        process = SimpleNamespace(node_id=1, world=self.world, settings=settings, sockets=self.sockets, address="at 1")
        addresses = {2: "tcp://10.0.0.1:2"}
        self.peers = SimpleNamespace(elsewhere=frozenset(), address_of=lambda node_id: addresses.get(node_id, ""))
        self.duties = Duties(
            cast(Process, process), cast(Replica, replica), cast(Peers, self.peers), cast(Joining, self.joining)
        )

    def missing(self) -> str:
        members = [self.world.processes[node_id] for node_id in (1, 2, 3)]
        return self.duties.missing(cast("list[Process]", members))


def broadcast(sender: int) -> AppendEntries:
    return AppendEntries(sender, BROADCAST, 4, 0, 0, 0, 1, ())


def test_a_broadcast_of_a_stranger() -> None:
    node = Node()
    node.duties.heard(broadcast(2))
    node.duties.heard(AppendEntries(9, 1, 4, 0, 0, 0, 1, ()))  # to this node alone: Raft's own rules judge it
    with pytest.raises(Violation, match="strangers: node 1 listens to a broadcast of node 9"):
        node.duties.heard(broadcast(9))


def test_a_broadcast_of_a_member_that_this_turn_removes() -> None:
    node = Node()
    node.replication.configuration = Configuration((1, 2))
    node.duties.heard(broadcast(3))
    node.duties.took_turn()
    with pytest.raises(Violation, match="strangers"):
        node.duties.heard(broadcast(3))


def test_a_link_that_is_cut() -> None:
    links = LinkFaults(random.Random(1), lambda _: "", Held(), lambda _: None)
    node, frame = Node(), encode_message(RequestVote(2, 1, 4, 0, 0, False, False))

    def is_cut(sender: int, frame: bytes) -> bool:
        return node.duties.is_cut(links, cast(Process, SimpleNamespace(node_id=sender)), frame)

    assert not is_cut(2, frame)
    links.replace([LinkFault(sender=f"tcp://10.0.0.1:{number}", cut=True) for number in (2, 4)])
    assert is_cut(2, frame)
    assert not is_cut(3, frame)
    assert not is_cut(4, frame), "a stranger that has not said yet where it is"
    assert is_cut(4, encode_hello(Hello(4, 1, "tcp://10.0.0.1:4", "four")))
    assert is_cut(4, frame)


def test_a_query_that_hangs_or_is_answered_twice() -> None:
    node = Node()
    first, second = node.duties.query_begins(), node.duties.query_begins()
    node.duties.query_ends(first)
    with pytest.raises(Violation, match="queries: node 1 answers a query twice"):
        node.duties.query_ends(first)
    node.replication.ticks += READ_TICKS
    node.duties.took_turn()
    node.replication.ticks += 1
    with pytest.raises(Violation, match="queries: node 1 lets a query wait for 21 ticks"):
        node.duties.took_turn()
    node.duties.query_ends(second)
    node.duties.took_turn()


def test_a_request_that_is_refused_although_there_is_room() -> None:
    node, frame = Node(), bytes(40)
    busy = encode_response(7, 1, 0, ResponseStatus.BUSY, 0, b"", b"")
    for number in range(2):
        node.pending[7, number] = SimpleNamespace(frame=frame)
    node.duties.answered_at_once(bytes(MAX_BYTES - 79), busy)
    with pytest.raises(Violation, match="busy: node 1 refuses 40 bytes as too many, while 2 requests wait"):
        node.duties.answered_at_once(frame, busy)
    node.duties.answered_at_once(frame, encode_response(7, 1, 3))
    node.machine.applied_index = 4
    node.duties.answered_at_once(frame, busy)
    node.machine.applied_index = 7
    node.pending[7, 2] = SimpleNamespace(frame=frame)
    node.duties.answered_at_once(frame, busy)


def test_an_answer_that_is_there_and_is_not_given() -> None:
    node = Node()
    node.pending[7, 1] = "request"
    node.duties.took_request()
    node.duties.took_turn()
    node.stored[7, 1] = b"answer"
    node.machine.applied_index = 8
    with pytest.raises(Violation, match=r"at once: node 1 has the answer to \(7, 1\)"):
        node.duties.took_turn()


def test_a_request_that_waits_although_its_answer_is_there() -> None:
    node = Node()
    node.stored[7, 1] = b"answer"
    node.duties.took_turn()
    node.pending[7, 1] = "request"
    node.duties.took_request()
    with pytest.raises(Violation, match=r"at once: node 1 has the answer to \(7, 1\)"):
        node.duties.took_turn()


@pytest.mark.parametrize("reason", ["the leader says so", "it leads", "it is committed", "a majority has stored it"])
def test_a_node_that_votes_for_sure(reason: str) -> None:
    node = Node()
    node.replication.configuration_index = 7 if reason == "it is committed" else 8
    node.joining.is_told = reason == "the leader says so"
    node.votes = reason == "a majority has stored it"
    if reason == "it leads":
        node.replication.role = Role.LEADER
    node.joining.was_in = True
    node.duties.took_turn()


def test_a_node_that_takes_itself_for_a_voter_too_early() -> None:
    node = Node()
    node.replication.configuration_index = 8  # 7 is committed
    node.duties.took_turn()
    node.joining.was_in = True
    with pytest.raises(Violation, match="joining: node 1 asks no more to be taken in, but its being a voter at 8"):
        node.duties.took_turn()


def test_a_node_that_believes_an_old_log() -> None:
    """It was a voter by what it had when it started; whether it was removed since, it does not know."""
    node = Node(began_at=6)
    node.replication.configuration_index = 5
    node.joining.was_in = True
    with pytest.raises(Violation, match="joining: node 1 asks no more to be taken in, by its log alone"):
        node.duties.took_turn()


def test_more_frames_than_requests_at_a_node_that_does_not_lead() -> None:
    node = Node()
    node.pending[1, 1] = "request"
    node.to_propose.append(b"frame")
    node.duties.took_turn()
    node.to_propose.append(b"frame")
    with pytest.raises(Violation, match="bounds: node 1 keeps 2 frames to hand on, while 1 requests wait"):
        node.duties.took_turn()
    node.replication.role = Role.LEADER
    node.duties.took_turn()


def test_a_log_that_tells_what_is_not_committed() -> None:
    node = Node()
    for last in (7, 8):
        answer = control.LogAnswer(1, 1, last, [(index, 1, 0, b"") for index in range(1, last + 1)])
        if last == 7:
            node.duties.answers(control.LogQuery(1, 1), answer)
        else:
            with pytest.raises(Violation, match="log: node 1 tells entry 8, but only 7 is applied"):
                node.duties.answers(control.LogQuery(1, 1), answer)
    node.duties.answers(control.LogQuery(1, 1), control.LogAnswer(1, 1, 0, []))


@pytest.mark.parametrize("query", [control.AddMemberQuery(1, 3, "tcp://10.0.0.3:1"), control.RemoveMemberQuery(1, 9)])
def test_a_change_that_is_called_done(query: control.AddMemberQuery | control.RemoveMemberQuery) -> None:
    node = Node()
    node.replication.configuration_index = 7
    node.duties.answers(query, control.OkAnswer(1, "done"))
    node.duties.answers(query, control.ErrorAnswer(1, control.ErrorCode.BUSY, "under way"))
    node.newest = Configuration((1, 2, 9))
    with pytest.raises(Violation, match=r"word: node 1 says that .* is done, but the change at 7 is not committed"):
        node.duties.answers(query, control.OkAnswer(1, "done"))
    node.replication.configuration_index = 8  # a majority has it, and no node has applied it
    with pytest.raises(Violation, match="word"):
        node.duties.answers(query, control.OkAnswer(1, "done"))
    node.agreed = True
    node.duties.answers(query, control.OkAnswer(1, "done"))


def test_a_node_that_left_the_cluster_may_be_a_member_of_its_group_for_a_while() -> None:
    node, leaver, other = Node(), "tcp://10.0.0.3:1", "tcp://10.0.0.2:1"
    node.world.placed = object()
    node.replication.configuration_index = 7
    query, done = control.RemoveMemberQuery(1, 3, address=leaver), control.OkAnswer(1, "done")
    node.newest = Configuration((1, 2, 3), roster=Roster(2, (other,), ((other,),)).encode())
    node.duties.answers(query, done)
    node.newest = Configuration((1, 2), roster=Roster(1, (other, leaver), ((other, leaver),), ids=(1, 2)).encode())
    node.duties.answers(query, done)  # node 2 has its place at that address
    with pytest.raises(Violation, match="word: node 1 says that the removal of node 0 is done"):
        node.duties.answers(control.RemoveMemberQuery(1, 0, address=leaver), done)
    node.newest = Configuration((1, 2), roster=Roster(1, (other, leaver), ((other, leaver),), ids=(3, 2)).encode())
    with pytest.raises(Violation, match="word: node 1 says that the removal of node 3 is done"):
        node.duties.answers(query, done)


def test_a_removal_that_is_refused_for_no_reason() -> None:
    refusal = control.ErrorAnswer(1, control.ErrorCode.REFUSED, "why")
    node = Node()
    node.duties.answers(control.RemoveMemberQuery(1, 3), refusal)  # too few are in reach
    node.in_reach = [1, 2]
    node.duties.answers(control.RemoveMemberQuery(1, 3, life=1), refusal)
    node.duties.answers(control.RemoveMemberQuery(1, 3), control.ErrorAnswer(1, control.ErrorCode.NOT_LEADER, ""))
    for life in (0, 2):
        with pytest.raises(Violation, match=r"refusal: node 1 does not remove node 3 \(why\), but of \[1, 2\]"):
            node.duties.answers(control.RemoveMemberQuery(1, 3, life), refusal)
    node.replication.configuration = Configuration((3,))
    node.duties.answers(control.RemoveMemberQuery(1, 3), refusal)


def closing(leaves: bool = False, ticks: int = 4) -> Node:
    node = Node(leaves)
    node.duties.signalled()
    node.replication.ticks += ticks
    return node


def test_a_node_that_ends_with_nothing_left_to_do_or_when_its_time_is_up() -> None:
    closing().duties.ended()
    late = closing(ticks=DRAIN_TICKS)
    late.pending[1, 1] = "request"
    late.duties.ended()


def test_a_node_that_ends_at_the_second_signal() -> None:
    node = closing()
    node.pending[1, 1] = "request"
    node.duties.signalled()
    node.duties.ended()


def test_a_node_that_ends_too_early() -> None:
    owes = closing()
    owes.pending[1, 1] = "request"
    with pytest.raises(Violation, match=r"closing: node 1 ends 6 ticks .* owes the answers to 1 requests"):
        owes.duties.ended()
    leads = closing()
    leads.replication.role = Role.LEADER
    with pytest.raises(Violation, match=r"closing: .* leads"):
        leads.duties.ended()
    leads.replication.configuration = Configuration((1,))
    leads.duties.ended()


def test_a_node_that_was_to_leave_and_is_still_a_member() -> None:
    node = closing(leaves=True)
    with pytest.raises(Violation, match=r"closing: .* its removal is not committed"):
        node.duties.ended()
    node.is_out = True
    node.duties.ended()


def test_a_request_that_is_never_answered() -> None:
    node = Node()
    assert node.missing() == ""
    node.pending[1, 1] = "request"
    assert node.missing() == "node 1 owes the answers to 1 requests"


def test_a_member_that_is_taken_to_be_elsewhere() -> None:
    node = Node()
    node.peers.elsewhere = frozenset({2})
    assert node.missing() == "node 1 takes [2] to be elsewhere than the log says"


def test_connections_to_the_members_and_to_no_other_node() -> None:
    for connected, subscribed in (("2", "23"), ("23", "2"), ("239", "23"), ("23", "234"), ("123", "23")):
        node = Node()
        node.sockets.connected = {f"at {number}" for number in connected}
        node.sockets.subscribed = {f"at {number}" for number in subscribed}
        assert "is connected to" in node.missing()
    node = Node()
    node.sockets.connected.add("at 4")  # it is no member, and has introduced itself
    assert node.missing() == ""


def test_a_query_that_is_never_answered_or_twice() -> None:
    node = Node()
    node.duties.asked()
    assert node.missing() == "node 1 owes the answers to 1 queries"
    node.duties.replied()
    assert node.missing() == ""
    with pytest.raises(Violation, match="queries: node 1 answers a query twice"):
        node.duties.replied()


def test_what_piles_up() -> None:
    endpoints = [f"tcp://10.0.0.{place}:5002" for place in range(1, 6)]
    roster = client_roster.Roster(lambda contact: None, endpoints, nonces=random.Random(1))
    assert list(crowds(roster, 5)) == []
    assert sorted(crowds(roster, 4)) == [
        "Roster.contacts has 5 in it",
        "Roster.numbering._indexes has 5 in it",
        "Roster.numbering.endpoints has 5 in it",
    ]


def test_a_snapshot_that_is_due_and_not_begun() -> None:
    work = SimpleNamespace(applied_bytes=400, _making=None, _receiving=None)
    replication = SimpleNamespace(node_id=1, members_at=lambda index: THREE)
    machine, settings = SimpleNamespace(applied_index=7), SimpleNamespace(snapshot_log_bytes=400)
    replica = SimpleNamespace(_snapshotting=work, replication=replication, machine=machine, settings=settings)
    assert late_snapshot(cast(Replica, replica)).startswith("node 1 has applied 400 bytes since its snapshot")
    for source, is_late in ((8, False), (7, True)):  # a transfer that the log has overtaken does not count
        work._receiving = SimpleNamespace(source=(2, 1, source, 1))
        assert bool(late_snapshot(cast(Replica, replica))) is is_late
    work.applied_bytes = 399
    assert not late_snapshot(cast(Replica, replica))
