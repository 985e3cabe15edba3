"""A connection closes: when the engine takes that for the end of its leader's process, and what it does then."""

from __future__ import annotations

from tests.engine.fake_effects import Driven, founder_id
from zmqlab.raft import AppendEntries, Message, RequestVote, RequestVoteResponse, Role
from zmqlab.raft.messages import BROADCAST, NOBODY
from zmqlab.settings import NodeSettings
from zmqlab.wire import frames
from zmqlab.wire.peer import Hello, decode_message, encode_hello, encode_message

A, B, C, D = (f"tcp://127.0.0.1:{port}" for port in (5_000, 5_100, 5_200, 5_300))
ID_A, ID_B, ID_C = map(founder_id, (A, B, C))


def follower(port: int = 5_000) -> Driven:
    """The node at this port of three; it follows the one at 5100."""
    peers = tuple(peer for peer in (A, B, C) if not peer.endswith(str(port)))
    driven = Driven(NodeSettings(name="node0", port=port, peers=peers))
    hear_leader(driven)
    return driven


def hear_leader(driven: Driven) -> None:
    driven.turn(peers=[encode_message(AppendEntries(ID_B, BROADCAST, 1, 0, 0, 0, 1, ()))])
    assert driven.engine.groups[0].replica.replication.leader_id == ID_B
    driven.effects.sent.clear()


def said(driven: Driven) -> list[tuple[str, Message]]:
    """What has been sent about votes since the last call, and whereto."""
    about = (frames.REQUEST_VOTE, frames.REQUEST_VOTE_RESPONSE)
    found = [(to, decode_message(frame[3], frame)) for to, frame in driven.effects.sent if frame[3] in about]
    driven.effects.sent.clear()
    return found


def pre_vote(sender: int, to: int) -> RequestVote:
    return RequestVote(sender, to, 2, 0, 0, pre_vote=True, forced=False)


def test_the_first_voter_that_is_left_asks_at_once() -> None:
    driven = follower()
    driven.close(B)
    assert said(driven) == [(B, pre_vote(ID_A, ID_B)), (C, pre_vote(ID_A, ID_C))]
    assert driven.engine.groups[0].replica.replication.role is Role.PRE_CANDIDATE


def test_the_next_voter_grants_what_the_first_one_asked_too_early() -> None:
    """The first one was ignored by a voter that saw the end a moment later, and had to ask again: 10 ms. On a busy
    machine the voter saw the end when the four tries were over: one time-out."""
    driven = follower(5_200)
    driven.turn(peers=[encode_message(pre_vote(ID_A, ID_C))])
    assert said(driven) == []
    driven.close(B)
    assert said(driven) == [(A, RequestVoteResponse(ID_C, ID_A, 2, True, True))]


def test_what_was_asked_long_ago_is_not_granted() -> None:
    driven = follower(5_200)
    driven.turn(peers=[encode_message(pre_vote(ID_A, ID_C))])
    driven.pass_time(3)
    hear_leader(driven)
    driven.close(B)
    assert said(driven) == []


def test_the_next_voter_asks_two_ticks_later_or_two_ticks_after_its_last_yes() -> None:
    driven = follower(5_200)
    driven.close(B)
    driven.pass_time(1)
    driven.turn(peers=[encode_message(pre_vote(ID_A, ID_C))])
    assert said(driven) == [(A, RequestVoteResponse(ID_C, ID_A, 2, True, True))]
    driven.pass_time(1)
    assert said(driven) == []
    driven.pass_time(1)
    assert said(driven) == [(A, pre_vote(ID_C, ID_A)), (B, pre_vote(ID_C, ID_B))]


def test_a_leader_that_lives_is_followed_again() -> None:
    driven = follower(5_200)
    driven.close(B)
    assert driven.engine.groups[0].replica.replication.leader_id == NOBODY
    hear_leader(driven)
    driven.pass_time(10)
    assert said(driven) == []


def test_a_node_asks_a_few_times_and_then_waits_for_its_time_out() -> None:
    driven = follower()
    driven.close(B)
    asked = len(said(driven)) // 2
    driven.pass_time(15)
    assert asked + len(said(driven)) // 2 == 4


def test_the_end_of_another_peer_is_nothing_to_a_follower() -> None:
    driven = follower()
    driven.close(C)
    driven.close(D)
    assert said(driven) == []


def test_a_node_without_a_leader_goes_on_as_before() -> None:
    driven = Driven(NodeSettings(name="node0", port=5_000, peers=(B, C)))
    driven.close(B)
    assert said(driven) == []


def test_a_node_that_closes_does_not_ask_for_votes() -> None:
    driven = follower()
    driven.engine.on_signal()
    driven.close(B)
    assert said(driven) == []


def test_one_of_two_addresses_of_a_leader_proves_nothing() -> None:
    """It has moved: at one of them another process may have listened, and ended."""
    driven = follower()
    driven.pass_time(1)
    driven.turn(peers=[encode_hello(Hello(ID_B, ID_A, D, "node1"))])
    driven.close(B)
    driven.close(D)
    assert said(driven) == []
