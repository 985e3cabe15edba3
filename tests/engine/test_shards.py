"""A node with many groups: founders place them, frames reach the right one, one turn is one transaction."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engine.fake_effects import Driven
from tests.engine.shard_cluster import ShardCluster, endpoint, responses, status_of
from zmqlab.engine import Group
from zmqlab.errors import JournalMismatch
from zmqlab.market.types import Command, CommandKind, OrderType, Side, TimeInForce, symbol_code
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.placement import group_of, place
from zmqlab.raft.messages import BROADCAST, AppendEntries
from zmqlab.replica import Change, Journal, MemoryJournal
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames, records
from zmqlab.wire.client import ResponseStatus
from zmqlab.wire.peer import Hello, decode_bundle, decode_message, encode_bundle, encode_hello

SHARDS = 4


def order(symbol: str) -> bytes:
    command = Command(CommandKind.NEW, Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 5, 0, symbol_code(symbol), 100, 1, 0)
    return records.pack_commands([command])


def symbol_of(group: int) -> str:
    return next(f"S{number}" for number in range(100) if group_of(f"S{number}", SHARDS) == group)


def founded(nodes: int = 3, copies: int = 0, ticks: int = 60, **fields: Any) -> ShardCluster:
    cluster = ShardCluster(nodes, SHARDS, copies, **fields)
    cluster.step(ticks)
    return cluster


def opened(cluster: ShardCluster, group: int, number: int, nonce: int = 5) -> int:
    """A session of a group, asked of a node."""
    cluster.ask(number, client_wire.encode_open_session(nonce, group))
    cluster.step(2)
    (response,) = responses(cluster.ask(number))
    return response.client_id


def test_founders_place_all_groups_alike_and_each_is_led() -> None:
    cluster = founded(nodes=5, copies=3)
    placement = place([endpoint(number) for number in range(5)], SHARDS, 3)
    for number in range(5):
        held = {group for group, members in placement.items() if endpoint(number) in members}
        assert cluster.groups(number).keys() == held
        for group in held:
            configuration = cluster.groups(number)[group].replica.replication.configuration
            assert sorted(at for _, at in configuration.addresses) == sorted(placement[group])
    assert cluster.leaders() == [int(placement[group][0][-4:]) // 10 % 100 for group in range(SHARDS)]


def test_leaders_are_spread_from_the_first_moment() -> None:
    assert sorted(Counter(founded().leaders()).values()) == [1, 1, 2]


def test_a_node_has_one_identity_in_all_its_groups_and_one_connection_to_each_peer() -> None:
    cluster = founded()
    effects = cluster.running[0].effects
    assert effects.connected == effects.subscribed == {endpoint(1), endpoint(2)}
    ids = {group.replica.replication.node_id for group in cluster.groups(0).values()}
    assert len(ids) == 1
    assert len({group.replica.journal.life for group in cluster.groups(0).values()}) == 1


def test_an_order_goes_to_the_group_of_its_symbol_and_to_no_other() -> None:
    cluster = founded()
    right, wrong = 1, 2
    session = opened(cluster, right, 0)
    frame = client_wire.encode_request(session, 1, 1, order(symbol_of(right)), right)
    cluster.ask(0, frame)
    cluster.step(2)
    (response,) = responses(cluster.ask(0))
    assert response.status == ResponseStatus.OK
    held = {group: cluster.groups(1)[group].replica.machine.orders_applied for group in range(SHARDS)}
    assert held == {0: 0, right: 1, wrong: 0, 3: 0}

    session = opened(cluster, wrong, 0)
    frame = client_wire.encode_request(session, 1, 1, order(symbol_of(right)), wrong)
    (response,) = responses(cluster.ask(0, frame))
    assert response.status == ResponseStatus.MALFORMED
    cluster.step(5)
    assert cluster.groups(0)[wrong].replica.machine.orders_applied == 0
    assert cluster.groups(0)[wrong].counters.bad_frames == 1


def test_a_session_of_one_group_is_unknown_to_the_others() -> None:
    cluster = founded()
    session = opened(cluster, 1, 0)
    opened(cluster, 2, 0), opened(cluster, 2, 0, nonce=6)
    frame = client_wire.encode_request(session + 1_000, 1, 1, order(symbol_of(2)), 2)
    cluster.ask(0, frame)
    cluster.step(2)
    (response,) = responses(cluster.ask(0))
    assert response.status == ResponseStatus.SESSION_EXPIRED


def test_a_group_that_nothing_comes_in_for_takes_no_part_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = founded()
    began: list[int] = []
    flush = Group.flush

    def noting(group: Group, now_ns: int) -> None:
        began.append(group.number)
        flush(group, now_ns)

    monkeypatch.setattr(Group, "flush", noting)
    cluster.ask(0, client_wire.encode_open_session(5, 1))
    assert began == [1]
    began.clear()
    cluster.running[0].turn()
    assert began == [], "no tick has passed"
    cluster.running[0].now_ns += 10_000_000
    cluster.running[0].turn()
    assert sorted(began) == list(range(SHARDS)), "a tick is for all"


def test_a_node_without_a_group_sends_its_clients_elsewhere_and_tells_what_it_has() -> None:
    cluster = founded(nodes=5, copies=3)
    number, group = next(
        (number, group) for number in range(5) for group in range(SHARDS) if group not in cluster.groups(number)
    )
    (response,) = responses(cluster.ask(number, client_wire.encode_open_session(9, group)))
    assert (response.request_number, response.status) == (9, ResponseStatus.ELSEWHERE)
    answer = status_of(cluster, number, group)
    assert isinstance(answer, control.StatusAnswer)
    assert answer.status.group in cluster.groups(number)
    assert [brief.number for brief in answer.status.groups] == sorted(cluster.groups(number))
    assert {brief.leader_endpoint for brief in answer.status.groups} <= {endpoint(each) for each in range(5)}
    (refused,) = cluster.ask(number, control.encode(frames.QUERY, control.LogQuery(3, 1), group))
    error = control.decode_answer(refused)
    assert isinstance(error, control.ErrorAnswer)
    assert error.code == control.ErrorCode.NO_GROUP
    (response,) = responses(cluster.ask(number, client_wire.encode_open_session(9, SHARDS)))
    assert response.status == ResponseStatus.MALFORMED, "there is no such group anywhere"


def test_a_frame_of_a_group_that_is_not_here_is_counted_and_changes_nothing() -> None:
    cluster = founded(nodes=5, copies=3)
    number, group = next(
        (number, group) for number in range(5) for group in range(SHARDS) if group not in cluster.groups(number)
    )
    before = cluster.groups(number).keys()
    cluster.running[number].turn(peers=[frames.header(frames.HELLO, group) + bytes(30)])
    assert cluster.groups(number).keys() == before
    assert {each.counters.bad_frames for each in cluster.groups(number).values()} == {1}


def test_a_question_about_a_symbol_of_another_group_is_refused() -> None:
    cluster = founded()
    (answer,) = cluster.ask(0, control.encode(frames.QUERY, control.BookQuery(4, symbol_of(1)), 2))
    error = control.decode_answer(answer)
    assert isinstance(error, control.ErrorAnswer)
    assert "is of group 1" in error.message


class CountingJournal(MemoryJournal):
    """Counts transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.transactions = 0

    def together(self) -> object:  # type: ignore[override]
        self.transactions += 1
        return super().together()


def test_what_all_groups_store_in_a_turn_is_one_transaction() -> None:
    journal = CountingJournal()
    alone = Driven(NodeSettings(name="node0", port=5_000, shards=SHARDS), journal)
    alone.pass_time(5)
    sessions = [client_wire.encode_open_session(9, group) for group in range(SHARDS)]
    before = journal.transactions
    alone.turn(clients=sessions)
    assert journal.transactions == before + 1
    assert len(responses([frame for _, frame in alone.effects.replies])) == SHARDS


def beats_of(frame: bytes) -> list[int]:
    """The groups whose heartbeats are in a frame."""
    parts = decode_bundle(frame) if frame[3] == frames.BUNDLE else [frame]
    appends = [part for part in parts if part[3] == frames.APPEND_ENTRIES]
    return [frames.parse_header(part)[1] for part in appends if not decode_message(part[3], part).entries]


def sent_in(cluster: ShardCluster, ticks: int) -> tuple[list[tuple[int, str, bytes]], list[tuple[int, bytes]]]:
    """What all nodes have sent to one peer, and what they have published for Raft."""
    sent: list[tuple[int, str, bytes]] = []
    published: list[tuple[int, bytes]] = []
    cluster.watch = lambda number, effects: (
        sent.extend((number, address, frame) for address, frame in effects.sent),
        published.extend((number, frame) for frame in effects.published if frame[3] == frames.APPEND_ENTRIES),
    )
    cluster.step(ticks)
    return sent, published


def test_the_heartbeats_of_all_groups_to_one_peer_share_a_frame_and_so_do_the_answers() -> None:
    cluster = founded(ticks=300)
    leaders = Counter(cluster.leaders())
    (busy,) = (number for number, groups in leaders.items() if groups == 2)
    led = sorted(group for group, leader in enumerate(cluster.leaders()) if leader == busy)
    sent, published = sent_in(cluster, 4)
    beats = [(address, beats_of(frame)) for number, address, frame in sent if number == busy and beats_of(frame)]
    others = [endpoint(number) for number in range(3) if number != busy]
    assert sorted(beats) == [(address, led) for address in others], "one frame for each peer, with both groups in it"
    assert not [frame for number, frame in published if number == busy]
    assert len(published) == 2, "a heartbeat that has no company is published"
    to_busy = [frame for _, address, frame in sent if address == endpoint(busy)]
    answers = [frame for frame in to_busy if frame[3] in (frames.BUNDLE, frames.APPEND_ENTRIES_RESPONSE)]
    assert [len(decode_bundle(frame)) for frame in answers] == [2, 2], "each follower answers both in one frame"


def test_heartbeats_are_due_in_one_tick_whenever_a_group_was_opened_or_its_leader_elected() -> None:
    cluster = founded(nodes=5, copies=3, ticks=101)
    cluster.dismiss(4)
    cluster.step_until(lambda: cluster.roster().version > 0 and cluster.is_placed())
    for number in range(4):
        replications = [group.replica.replication for group in cluster.groups(number).values()]
        assert len(replications) > 1
        assert len({each.ticks % each.settings.heartbeat_ticks for each in replications}) == 1  # type: ignore[attr-defined]
    cluster = founded(nodes=3, copies=0, ticks=100)
    for group in cluster.groups(0).values():
        raft = group.replica.replication
        assert raft.settings.beats_in_step  # type: ignore[attr-defined]
    led = [group for group, leader in enumerate(cluster.leaders()) if leader == 0]
    cluster.step(7)
    for group in led:
        assert cluster.groups(0)[group].replica.replication.hand_over()
    cluster.step(60)
    elapsed: dict[int | None, set[int]] = {}
    for group, leader in enumerate(cluster.leaders()):
        assert leader is not None
        raft = cluster.groups(leader)[group].replica.replication
        elapsed.setdefault(leader, set()).add(raft.heartbeat_elapsed)  # type: ignore[attr-defined]
    assert all(len(each) == 1 for each in elapsed.values()), "whenever they were elected"


def test_the_commit_of_a_change_of_members_is_published_and_not_only_told_to_the_members() -> None:
    """A node that is let go is no member, and is to learn of it from its own log."""
    cluster = founded(ticks=300)
    (busy,) = (number for number, groups in Counter(cluster.leaders()).items() if groups == 2)
    group = next(group for group, leader in enumerate(cluster.leaders()) if leader == busy)
    replication = cluster.groups(busy)[group].replica.replication
    gone = next(each for each in range(3) if each != busy)
    gone_id = cluster.groups(gone)[group].replica.replication.node_id
    published: list[bytes] = []
    cluster.watch = lambda number, effects: published.extend(effects.published if number == busy else ())
    while replication.remove_member(gone_id) is not Change.DONE:
        cluster.step(1)
    cluster.step(8)
    index = replication.configuration_index
    told = [decode_message(frame[3], frame) for frame in published if beats_of(frame) == [group]]
    assert any(message.commit_index >= index for message in told)  # type: ignore[union-attr]
    in_its_log = cluster.groups(gone)[group].replica.replication
    assert gone_id not in in_its_log.configuration.members
    assert in_its_log.commit_index >= index


def test_a_heartbeat_for_which_no_address_is_known_is_published() -> None:
    """One of a node that does not lead: another replication may send it."""
    cluster = founded(ticks=300)
    (busy,) = (number for number, groups in Counter(cluster.leaders()).items() if groups == 2)
    follows = next(group for group, leader in enumerate(cluster.leaders()) if leader != busy)
    group = cluster.groups(busy)[follows]
    node_id, index = group.replica.replication.node_id, group.replica.replication.commit_index
    group.peers._published_commit = index
    published: list[bytes] = []
    cluster.watch = lambda number, effects: published.extend(effects.published if number == busy else ())
    for _ in range(4):
        group.send([AppendEntries(node_id, BROADCAST, 1, index, 1, index, 1, ())])
        cluster.step(1)
    assert sum(beats_of(frame) == [follows] for frame in published if frame[3] == frames.APPEND_ENTRIES) == 4


def test_what_answers_of_several_groups_promise_is_stored_before_they_leave_together() -> None:
    cluster = founded(ticks=300)
    follower = cluster.running[0]
    others = [group for group, leader in enumerate(cluster.leaders()) if leader != 0]
    leader = cluster.leaders()[others[0]]
    for group in others:
        at = cluster.leaders()[group]
        assert at is not None
        cluster.ask(at, client_wire.encode_open_session(70 + group, group))
    appends = [frame for number in (1, 2) for frame in cluster.running[number].effects.published]
    appends = [frame for frame in appends if frame[3] == frames.APPEND_ENTRIES]
    assert len(appends) == len(others)
    assert leader is not None
    journal = follower.engine._journal
    steps: list[str] = []

    @contextlib.contextmanager
    def together() -> Iterator[None]:
        with MemoryJournal.together(journal):  # type: ignore[arg-type]
            yield
        steps.append("stored")

    journal.together = together  # type: ignore[assignment, method-assign]
    send = follower.effects.send
    follower.effects.send = lambda address, frame: (steps.append("sent"), send(address, frame))[1]  # type: ignore[method-assign,assignment,func-returns-value]
    follower.turn(peers=appends)
    assert steps == ["stored", "sent", "sent"], "one frame for each of the two leaders"


def test_a_frame_of_a_bundle_that_makes_no_sense_takes_no_other_along() -> None:
    cluster = founded(nodes=5, copies=3, ticks=300)
    number, group = next(
        (number, group) for number in range(5) for group in range(SHARDS) if group not in cluster.groups(number)
    )
    held, leader = next(
        (held, leader)
        for held, leader in enumerate(cluster.leaders())
        if held in cluster.groups(number) and leader != number
    )
    assert leader is not None
    cluster.ask(leader, client_wire.encode_open_session(77, held))
    (append,) = (
        frame
        for frame in cluster.running[leader].effects.published
        if beats_of(frame) == [] and frame[3] == frames.APPEND_ENTRIES
    )
    elsewhere = append[:4] + group.to_bytes(4, "little") + append[8:]
    replication = cluster.groups(number)[held].replica.replication
    before = replication.last_index
    cluster.running[number].turn(peers=[encode_bundle([elsewhere, append])])
    assert replication.last_index == before + 1
    assert {each.counters.bad_frames for each in cluster.groups(number).values()} == {1}


def test_a_node_of_one_group_takes_no_bundle() -> None:
    alone = Driven(NodeSettings(name="node0", port=5_000, peers=(endpoint(1),)))
    hello = encode_hello(Hello(5_010, 5_000, endpoint(1), "node1"))
    alone.turn(peers=[encode_bundle([hello, hello])])
    assert alone.engine.groups[0].counters.bad_frames == 1


def test_groups_come_back_from_one_journal(tmp_path: Path) -> None:
    def open_journal(_: int) -> Journal:
        return LmdbJournal(tmp_path, identity="me", groups_max=SHARDS)

    def start(journal: Journal, shards: int = SHARDS) -> Driven:
        return Driven(NodeSettings(name="node0", port=5_000, shards=shards), journal)

    alone = start(open_journal(0))
    alone.pass_time(5)
    alone.turn(clients=[client_wire.encode_open_session(9, group) for group in (1, 1, 3)])
    alone.turn()
    last = {number: group.replica.replication.last_index for number, group in alone.engine.groups.items()}
    assert len(set(last.values())) > 1, "each group has a log of its own"
    alone.engine._journal.close()

    journal = open_journal(0)
    assert journal.life == 2
    again = start(journal)
    assert {number: group.replica.machine.applied_index for number, group in again.engine.groups.items()} != {}
    again.pass_time(1)
    found = {number: group.replica.replication.last_index for number, group in again.engine.groups.items()}
    assert all(found[number] >= last[number] for number in last)
    journal.close()

    for shards in (1, 2):
        journal = LmdbJournal(tmp_path, identity="me", groups_max=SHARDS)
        with pytest.raises(JournalMismatch, match=f"with 4 shards, and this node was told {shards}"):
            start(journal, shards)
        journal.close()


def test_a_journal_with_other_copies_is_refused(tmp_path: Path) -> None:
    """With another number of copies the node preferred other leaders than the others: leadership went to and fro."""
    settings = NodeSettings(name="node0", port=5_000, shards=SHARDS)
    journal = LmdbJournal(tmp_path, identity="me", groups_max=SHARDS)
    Driven(settings, journal)
    journal.close()
    journal = LmdbJournal(tmp_path, identity="me", groups_max=SHARDS)
    with pytest.raises(JournalMismatch, match="with all copies of each shard, and this node was told 1"):
        Driven(replace(settings, replication_factor=1), journal)
    journal.close()


def test_a_journal_of_one_group_is_none_of_many(tmp_path: Path) -> None:
    journal = LmdbJournal(tmp_path, identity="me")
    Driven(NodeSettings(name="node0", port=5_000), journal)
    journal.close()
    journal = LmdbJournal(tmp_path, identity="me", groups_max=SHARDS)
    with pytest.raises(JournalMismatch, match="with 1 shards"):
        Driven(NodeSettings(name="node0", port=5_000, shards=SHARDS), journal)
    journal.close()


def test_a_founder_that_lost_its_disk_comes_back_in_all_its_groups() -> None:
    cluster = founded(nodes=5, copies=3)
    before = cluster.groups(2).keys()
    cluster.stop(2)
    cluster.step(60)
    cluster.journals[2] = MemoryJournal()
    cluster.start(2)
    fresh = cluster.running[2].engine
    fresh._first_start.own_id = 77  # type: ignore[union-attr]
    cluster.step(400)
    assert cluster.groups(2).keys() == before
    for group in before:
        replication = cluster.groups(2)[group].replica.replication
        assert 77 in replication.configuration.voters
        assert len(replication.configuration.members) == 3


def test_a_founder_without_its_disk_at_another_address_waits() -> None:
    """It took over no group, and ended with an error at each start."""
    cluster = founded(nodes=5, copies=3)
    cluster.stop(2)
    peers = tuple(endpoint(other) for other in range(5) if other != 2)
    settings = NodeSettings(name="node2", port=6_000, peers=peers, shards=SHARDS, replication_factor=3)
    moved = cluster.running[2] = Driven(settings, MemoryJournal(), is_met=False)
    moved.now_ns = cluster.now_ns
    moved.engine._first_start.own_id = 77  # type: ignore[union-attr]
    cluster.step(100)
    assert not cluster.groups(2)
    assert any("without a node at this address: start this node where one was" in note for note in moved.effects.notes)


def test_a_founder_without_its_disk_does_not_take_the_place_of_one_that_has_moved() -> None:
    """It took over that one's groups, each of which had a member too many; its own groups stayed without it."""
    cluster = founded(nodes=5, copies=3)
    held = cluster.groups(2).keys()
    cluster.stop(2)
    peers = tuple(endpoint(other) for other in range(5) if other != 2)
    settings = NodeSettings(name="node2", port=6_000, peers=peers, shards=SHARDS, replication_factor=3)
    cluster.running[2] = Driven(settings, cluster.journals[2], is_met=False)
    cluster.running[2].now_ns = cluster.now_ns
    cluster.step(100)
    assert all(settings.endpoint in group.peers.addresses() for group in cluster.groups(2).values())
    cluster.stop(4)
    settings = replace(settings, name="node4", port=5_020)
    lost = cluster.running[4] = Driven(settings, MemoryJournal(), is_met=False)
    lost.now_ns = cluster.now_ns
    lost.engine._first_start.own_id = 77  # type: ignore[union-attr]
    cluster.step(200)
    assert not lost.engine.groups
    assert any("of a cluster without a node at this address" in note for note in lost.effects.notes)
    for group in held:
        leader = cluster.leader(group)
        assert leader is not None
        assert 77 not in cluster.groups(leader)[group].replica.replication.configuration.members


def test_leadership_goes_back_to_a_node_that_came_back_and_then_stays() -> None:
    cluster = founded()
    first = cluster.leaders()
    cluster.stop(1)
    cluster.step(150)
    assert 1 not in cluster.leaders()
    cluster.start(1)
    moves, seen = 0, cluster.leaders()
    for _ in range(900):
        cluster.step()
        now = cluster.leaders()
        moves += now != seen
        seen = now
    assert seen == first
    assert moves <= first.count(1) * 2, "each group of the node moves once, by way of no leader at most"


def test_a_leader_hands_over_only_when_all_that_it_has_is_committed() -> None:
    """Requests come in every turn, so that there is always something on its way. The leader stops to propose."""
    cluster = founded()
    group = cluster.leaders().index(1)
    cluster.stop(1)
    cluster.step(150)
    leader = cluster.leader(group)
    assert leader is not None
    session = opened(cluster, group, leader)
    cluster.start(1)
    number, told = 0, []
    replica = cluster.groups(leader)[group].replica
    hand_over = type(replica.replication).hand_over

    def watched(replication: object, target: int = 0) -> bool:
        told.append((replica.replication.commit_index, replica.replication.last_index))
        return hand_over(replication, target)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(replica.replication), "hand_over", watched)
        for _ in range(600):
            number += 1
            frame = client_wire.encode_request(session, number, number, order(symbol_of(group)), group)
            cluster.ask(leader, frame)
            cluster.step()
    assert cluster.leader(group) == 1
    assert told
    assert all(commit == last for commit, last in told)
    assert cluster.groups(1)[group].replica.machine.orders_applied == number, "no request is lost or carried out twice"


def test_a_node_that_is_told_to_end_gets_no_group_back() -> None:
    """It waited for a group without a majority, and was well all the time: after two seconds the other groups went back
    to it. It sent their clients on with every request, until it had given the groups away once more."""
    cluster = founded(nodes=5, copies=3, drain_ms=60_000)
    assert cluster.leader(0) == 0
    for number in (3, 4):
        cluster.stop(number)
    cluster.ask(0, client_wire.encode_open_session(9, 3))
    cluster.terminate(0)
    cluster.step(50)
    for _ in range(400):
        cluster.step()
        assert not cluster.running[0].engine.is_over
        assert cluster.leader(0) in (1, 2)
    cluster.stop(0)
    cluster.start(0)
    cluster.step(900)
    assert cluster.leader(0) == 0, "its next life may lead"


def test_a_group_that_hangs_up_leaves_the_connection_to_the_others() -> None:
    """Two groups that had lost their leaders asked the same nodes in one tick. The second one hung up first, as it does
    before each round, and the questions of the first one were gone, in each round."""
    cluster = founded()
    for number in (1, 2):
        cluster.stop(number)
    effects, groups = cluster.running[0].effects, cluster.groups(0)
    effects.asked.clear()
    cluster.running[0].pass_time(400)
    asked = {frames.parse_header(frame)[1] for _, frame in effects.asked}
    assert asked == set(range(SHARDS)), "no leader reaches any of them"
    assert effects.questioned == {endpoint(1), endpoint(2)}
    for number in range(SHARDS):
        assert effects.questioned == {endpoint(1), endpoint(2)}
        groups[number].standing.close()
    assert not effects.questioned


def test_people_are_told_that_a_whole_node_is_let_go_and_not_one_of_its_replicas() -> None:
    cluster = founded()
    own_id = cluster.groups(1)[0].replica.replication.node_id
    leader = cluster.leader(0) or 0
    (answer,) = cluster.ask(leader, control.encode(frames.QUERY, control.RemoveMemberQuery(4, own_id), 0))
    error = control.decode_answer(answer)
    assert isinstance(error, control.ErrorAnswer)
    assert error.code == control.ErrorCode.REFUSED
    assert "let the whole node go, by cluster.remove(name) or zmqlab remove" in error.message
