"""What a driver relies on: the contents and the order of Ready; a call that is not legal changes nothing."""

from __future__ import annotations

import inspect
import random

import pytest

from zmqlab.raft import (
    BROADCAST,
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    InstallSnapshot,
    ProgressState,
    Raft,
    RaftSettings,
    RequestVote,
    RequestVoteResponse,
    Role,
    Snapshot,
)

from .harness import Network, appends


def make(node_id: int = 1, members: int = 3, **stored: object) -> Raft:
    configuration = Configuration(tuple(range(1, members + 1)))
    return Raft(node_id, configuration, RaftSettings(), random.Random(node_id), **stored)


def lead(members: int = 3, store_first: bool = True) -> tuple[Network, Raft]:
    network = Network(range(1, members + 1), RaftSettings(store_first=store_first))
    network.nodes[1].raft.campaign()
    network.turn(network.nodes[1])
    network.settle()
    return network, network.nodes[1].raft


def data_entries(*terms: int, first_index: int = 1) -> list[Entry]:
    return [Entry(index, term, EntryKind.DATA, b"") for index, term in enumerate(terms, first_index)]


def test_a_core_names_what_it_is_made_from() -> None:
    parameters = inspect.signature(Raft).parameters
    wanted = ["node_id", "configuration", "settings", "rng", "hard_state", "snapshot", "entries", "applied_index"]
    assert list(parameters) == wanted
    assert [name for name, each in parameters.items() if each.default is each.empty] == wanted[:4]


def test_a_core_has_no_other_fields_than_those_it_declares() -> None:
    with pytest.raises(AttributeError):
        make().comit_index = 1  # type: ignore[attr-defined]


def test_a_core_at_rest_is_not_ready() -> None:
    network, raft = lead()
    assert not any(node.raft.is_ready() for node in network.nodes.values())
    assert raft.commit_index == raft.applied_index == 1


def test_a_vote_is_stored_in_the_turn_that_sends_it() -> None:
    raft = make()
    raft.step(RequestVote(2, 1, 5, 0, 0, pre_vote=False, forced=False))
    ready = raft.ready()
    assert ready.hard_state == HardState(5, 2, 0)
    assert not ready.send_now
    assert len(ready.send_stored) == 1


def test_a_vote_in_a_term_that_is_stored_already_is_stored_too() -> None:
    raft = make(hard_state=HardState(5, 0, 0))
    raft.step(RequestVote(2, 1, 5, 0, 0, pre_vote=False, forced=False))
    assert raft.ready().hard_state == HardState(5, 2, 0)


@pytest.mark.parametrize(
    ("members", "store_first", "stored_index"), [(3, True, 4), (2, True, 4), (3, False, 0), (4, True, 0), (5, True, 0)]
)
def test_entries_leave_in_one_message_and_as_a_promise_where_two_copies_are_a_majority(
    members: int, store_first: bool, stored_index: int
) -> None:
    _, raft = lead(members, store_first)
    raft.propose([b"a", b"b"])
    raft.propose([b"c"])
    ready = raft.ready()
    (message,) = ready.send_stored if stored_index else ready.send_now
    assert len([*ready.send_now, *ready.send_stored]) == 1
    assert isinstance(message, AppendEntries)
    assert message.to == BROADCAST
    assert message.stored_index == stored_index
    assert [entry.data for entry in message.entries] == [b"a", b"b", b"c"]
    assert list(message.entries) == ready.entries


def told(stored_index: int, first_index: int, *terms: int, term: int = 1) -> AppendEntries:
    """Node 1, which leads, sends entries and says what it has stored."""
    entries = tuple(data_entries(*terms, first_index=first_index))
    return AppendEntries(1, BROADCAST, term, first_index - 1, int(first_index > 1), 0, 1, entries, stored_index)


def carry_out(raft: Raft) -> None:
    while raft.is_ready():
        raft.advance(raft.ready())
        raft.check_invariants()


@pytest.mark.parametrize(
    ("voters", "learners", "expected"),
    [
        ((1, 2), (), 2),
        ((1, 2, 3), (), 2),
        ((1, 2, 3, 4), (), 0),
        ((1, 2, 3, 4, 5), (), 0),
        ((1,), (2,), 2),
        ((1, 3), (2,), 0),
        ((1, 3, 4), (2,), 0),
        ((2,), (), 2),
        ((2, 3), (1,), 0),
        ((2, 3, 4), (), 0),
    ],
)
def test_a_follower_commits_what_it_and_the_leader_have_stored_if_they_are_a_majority(
    voters: tuple[int, ...], learners: tuple[int, ...], expected: int
) -> None:
    raft = Raft(2, Configuration(voters, learners), RaftSettings(), random.Random(2))
    raft.step(told(2, 1, 1, 1))
    ready = raft.ready()
    assert (raft.commit_index, ready.committed) == (0, []), "its own copy is not stored yet"
    raft.advance(ready)
    assert raft.commit_index == expected
    carry_out(raft)
    assert raft.applied_index == expected


def test_a_follower_counts_no_more_than_the_leader_has_stored_and_no_more_than_agrees_with_it() -> None:
    raft = make(2)
    raft.step(told(1, 1, 1, 1, 1))
    carry_out(raft)
    assert raft.commit_index == 1
    raft.step(told(9, 3))
    carry_out(raft)
    assert (raft.commit_index, raft.last_index) == (2, 3), "the message verified 2, and 3 may be of another leader"
    raft.step(told(9, 4))
    carry_out(raft)
    assert raft.commit_index == 3


def test_a_follower_counts_no_entry_of_an_older_term() -> None:
    """Figure 3.7: two copies of it commit nothing before an entry of the leader's own term is stored as often."""
    raft = make(2, hard_state=HardState(3, 0, 0), entries=data_entries(1, 2))
    raft.step(told(3, 3, term=3)._replace(prev_term=2))
    carry_out(raft)
    assert raft.commit_index == 0
    raft.step(told(3, 3, 3, term=3)._replace(prev_term=2))
    carry_out(raft)
    assert raft.commit_index == 3


def test_what_a_leader_has_stored_counts_in_its_term_only() -> None:
    raft = make(2)
    raft.step(told(2, 1, 1, 1))
    ready = raft.ready()
    raft.step(RequestVote(3, 2, 2, 2, 1, pre_vote=False, forced=True))
    raft.advance(ready)
    carry_out(raft)
    assert (raft.term, raft.commit_index, raft.countable_index) == (2, 0, 0)


def test_a_follower_counts_by_the_latest_configuration_of_its_leader() -> None:
    """Four voters; the end of this log, of a leader that is gone, removes one. Two copies are no majority of four."""
    stored = [*data_entries(1), Entry(2, 1, EntryKind.CONFIGURATION, Configuration((1, 2, 3)).encode())]
    raft = make(2, members=4, hard_state=HardState(1, 0, 0), entries=stored)
    assert raft.configuration.voters == (1, 2, 3)
    raft.step(told(1, 2, term=2)._replace(prev_term=1))
    carry_out(raft)
    assert raft.commit_index == 0, "an entry of an older term, which the removal may follow or not"
    raft.step(told(2, 2, 2, term=2)._replace(prev_term=1))
    carry_out(raft)
    assert (raft.commit_index, raft.configuration.voters) == (0, (1, 2, 3, 4))
    removal = Entry(3, 2, EntryKind.CONFIGURATION, stored[1].data)
    raft.step(AppendEntries(1, BROADCAST, 2, 2, 2, 0, 2, (removal,), 3))
    carry_out(raft)
    assert (raft.commit_index, raft.configuration.voters) == (3, (1, 2, 3))


def test_a_read_of_a_leader_sees_what_a_follower_may_have_committed() -> None:
    network, raft = lead()
    raft.propose([b"a"])
    network.turn(network.nodes[1])
    assert (raft.commit_index, raft.claimed_index) == (1, 2)
    raft.read_index(7)
    network.turn(network.nodes[1])
    raft.step(AppendEntriesResponse(2, 1, raft.term, raft.round, True, 1, 0, 0))
    assert raft.ready().reads == [(7, 2)]


def test_a_leader_tells_what_it_has_stored_only_of_the_log_that_it_has_stored() -> None:
    """A heartbeat is made between two Readies, and the leader may lose its office before the next one."""
    _, raft = lead()
    raft.propose([b"a"])
    for _ in range(2 * raft.settings.heartbeat_ticks):
        raft.tick()
    raft.step(AppendEntries(2, BROADCAST, raft.term + 1, 1, 1, 0, 1, tuple(data_entries(2, first_index=2))))
    ready = raft.ready()
    claims = [each.stored_index for each in [*ready.send_now, *ready.send_stored] if isinstance(each, AppendEntries)]
    assert claims
    assert max(claims) == 1


def test_a_notice_is_sent_only_to_followers_that_wait_and_can_not_count() -> None:
    """Among five a follower that waits is told, and gets the commit by a message of no round."""
    for members, told in ((3, {1, 2, 3}), (5, {1, 2})):
        network, raft = lead(members)
        raft.propose([b"a"])
        raft.await_commit(2)
        before = raft.round
        network.turn(network.nodes[1])
        network.settle()
        assert {node_id for node_id, node in network.nodes.items() if node.raft.applied_index == 2} == told
        assert raft.round - before == 1


def test_nothing_leaves_before_the_term_that_it_is_of_is_stored() -> None:
    """Otherwise a sole voter could lead one term twice, with different entries, and a learner would hold both."""
    raft = Raft(1, Configuration((1,), (2,)), RaftSettings(), random.Random(1))
    raft.campaign()
    ready = raft.ready()
    assert ready.hard_state is not None
    assert not ready.send_now
    assert any(isinstance(message, AppendEntries) for message in ready.send_stored)


def test_a_leader_counts_its_own_copy_only_when_it_is_stored() -> None:
    _, raft = lead(members=2)
    raft.propose([b"a"])
    ready = raft.ready()
    raft.step(AppendEntriesResponse(2, 1, raft.term, raft.round, True, 2, 0, 0))
    assert raft.commit_index == 1
    raft.advance(ready)
    assert raft.commit_index == 2


def test_a_commit_is_not_stored_by_itself() -> None:
    network, raft = lead()
    raft.propose([b"a"])
    network.turn(network.nodes[1])
    states: list[HardState | None] = []
    network.on_ready = lambda node, ready: states.append(ready.hard_state) if not ready.entries else None
    network.settle()
    assert raft.commit_index == 2
    assert states
    assert not any(states)


def test_a_proposal_after_a_commit_carries_it() -> None:
    network, raft = lead()
    raft.propose([b"a"])
    network.turn(network.nodes[1])
    for follower in (2, 3):
        raft.step(AppendEntriesResponse(follower, 1, raft.term, raft.round, True, 2, 0, 0))
    raft.propose([b"b"])
    network.in_flight.clear()
    network.turn(network.nodes[1])
    (message,) = appends(network, 2)
    assert message.commit_index == 2
    assert len(message.entries) == 1


def test_two_readies_at_once_are_an_error_of_the_driver() -> None:
    raft = make()
    raft.ready()
    with pytest.raises(AssertionError, match="not advanced"):
        raft.ready()


def test_between_ready_and_advance_messages_may_come() -> None:
    """Entries are handed out to be stored and overwritten before ``advance``. Their successors are not stored."""
    raft = make(2)
    raft.step(AppendEntries(1, 2, 1, 0, 0, 0, 1, tuple(data_entries(1, 1))))
    ready = raft.ready()
    raft.step(AppendEntries(3, 2, 2, 1, 1, 0, 1, tuple(data_entries(2, first_index=2))))
    raft.advance(ready)
    raft.check_invariants()
    assert raft.log.stored_index == 0 or raft.log.stored_index == 1
    again = raft.ready()
    assert again.entries[-1].term == 2
    raft.advance(again)
    assert raft.log.stored_index == 2


def test_illegal_calls_change_nothing() -> None:
    raft = make()
    assert raft.propose([b"a"]) == 0
    assert raft.propose_configuration(Configuration((1, 2))) == 0
    assert not raft.transfer_leadership(2)
    assert not raft.is_ready()
    _, leader = lead()
    assert leader.propose([]) == 0
    assert not leader.transfer_leadership(1)
    assert not leader.transfer_leadership(9)
    assert leader.propose_configuration(Configuration((1, 4, 5))) == 0
    assert not leader.is_ready()


def test_messages_for_others_and_our_own_broadcast_are_ignored() -> None:
    _, raft = lead()
    raft.step(RequestVote(2, 3, 99, 9, 9, pre_vote=False, forced=True))
    raft.step(AppendEntries(1, BROADCAST, raft.term, 0, 0, 0, 9, ()))
    assert not raft.is_ready()
    assert raft.role is Role.LEADER


def test_an_answer_to_an_older_term_answers_no_round() -> None:
    raft = make(2, hard_state=HardState(3, 0, 0))
    raft.step(AppendEntries(1, 2, 2, 0, 0, 0, 34, ()))
    (answer,) = raft.ready().send_stored
    assert isinstance(answer, AppendEntriesResponse)
    assert (answer.term, answer.success, answer.round) == (3, False, 0)


def test_two_leaders_in_one_term_stop_a_node() -> None:
    _, raft = lead()
    with pytest.raises(AssertionError, match="both lead"):
        raft.step(AppendEntries(2, 1, raft.term, 0, 0, 0, 9, ()))


def test_a_restart_with_entries_from_before_the_snapshot_keeps_them() -> None:
    snapshot = Snapshot(4, 2, Configuration((1, 2, 3)), b"")
    stored = {"hard_state": HardState(3, 0, 5), "snapshot": snapshot}
    raft = make(entries=data_entries(1, 2, 2, 3, first_index=2), **stored)
    assert (raft.log.base_index, raft.log.base_term, raft.last_index) == (2, 1, 5)
    assert (raft.applied_index, raft.commit_index) == (4, 5)
    assert [entry.index for entry in raft.ready().committed] == [5]
    assert make(entries=data_entries(2, 3, first_index=4), **stored).first_index == 5
    assert make(entries=data_entries(3, first_index=5), **stored).first_index == 5
    assert make(entries=[], hard_state=HardState(3, 0, 4), snapshot=snapshot).last_index == 4
    with pytest.raises(AssertionError, match="gap"):
        make(entries=data_entries(3, first_index=6), **stored)


def test_an_append_from_before_the_compacted_base_is_no_conflict() -> None:
    snapshot = Snapshot(4, 2, Configuration((1, 2, 3)), b"")
    raft = make(2, hard_state=HardState(2, 0, 4), snapshot=snapshot)
    raft.step(AppendEntries(1, 2, 2, 1, 1, 5, 1, tuple(data_entries(1, 2, 2, 2, first_index=2))))
    (answer,) = raft.ready().send_stored
    assert isinstance(answer, AppendEntriesResponse)
    assert (answer.success, answer.index) == (True, 5)
    assert raft.last_index == raft.commit_index == 5


def chunk(sender: int, offset: int, data: bytes, done: bool) -> InstallSnapshot:
    members = Configuration((1, 2, 3)).encode()
    return InstallSnapshot(sender, 2, 1 + sender // 3, 1, 9, 1, offset, done, data, members)


def test_chunks_of_different_leaders_are_not_joined() -> None:
    raft = make(2)
    raft.step(chunk(1, 0, b"abc", done=False))
    raft.step(chunk(3, 3, b"def", done=True))
    assert raft.snapshot is None
    raft.step(chunk(3, 0, b"uvw", done=False))
    raft.step(chunk(3, 3, b"xyz", done=True))
    assert raft.snapshot is not None
    assert raft.snapshot.data == b"uvwxyz"
    raft.advance(raft.ready())
    raft.check_invariants()
    assert raft.applied_index == 9


def test_members_change_only_once_the_term_has_committed_something() -> None:
    raft = make(hard_state=HardState(1, 0, 1), entries=data_entries(1))
    raft.campaign()
    raft.step(RequestVoteResponse(2, 1, 2, True, True))
    raft.step(RequestVoteResponse(2, 1, 2, True, False))
    assert raft.role is Role.LEADER
    raft.advance(raft.ready())
    assert raft.propose_configuration(Configuration((1, 2))) == 0
    raft.step(AppendEntriesResponse(2, 1, 2, 1, True, 2, 0, 0))
    assert raft.propose_configuration(Configuration((1, 2))) == 3


def test_answers_that_come_late_move_a_probe_neither_back_nor_on() -> None:
    network, raft = lead()
    raft.propose([b"a", b"b"])
    network.turn(network.nodes[1])
    raft.step(AppendEntriesResponse(2, 1, raft.term, raft.round, True, 3, 0, 0))
    progress = raft.progress[2]
    progress.start_probe(progress.match_index + 1)
    raft.step(AppendEntriesResponse(2, 1, raft.term, raft.round, True, 2, 0, 0))
    assert progress.state is ProgressState.PROBE
    raft.step(AppendEntriesResponse(2, 1, raft.term, raft.round, False, 1, 1, 3))
    assert (progress.match_index, progress.next_index) == (3, 4)
    assert not raft.due
    raft.step(AppendEntriesResponse(2, 1, raft.term, raft.round, True, 3, 0, 0))
    assert progress.state is ProgressState.REPLICATE


def test_a_dead_follower_is_sent_nothing_but_empty_messages() -> None:
    network, raft = lead()
    network.cuts = {(1, 3), (3, 1)}
    raft.propose([b"x" * 1000])
    network.turn(network.nodes[1])
    network.settle()
    raft.progress[3].start_probe(raft.progress[3].match_index + 1)
    lost: list[AppendEntries] = []
    network.on_lost = lambda sender, to, message: lost.append(message)  # type: ignore[arg-type]
    for _ in range(40):
        raft.tick()
        network.turn(network.nodes[1])
        network.settle()
    assert lost
    assert sum(len(message.entries) for message in lost) <= 1


def test_a_steady_group_sends_heartbeats_and_nothing_else() -> None:
    network, raft = lead()
    broadcasts = 0
    for _ in range(40):
        raft.tick()
        network.turn(network.nodes[1])
        broadcasts += len(appends(network, 2))
        assert all(not message.entries for message in appends(network, 2))
        network.settle()
    assert broadcasts == 40 // RaftSettings().heartbeat_ticks
    assert raft.term == 1


def test_the_same_calls_give_the_same_answers() -> None:
    def history() -> list[str]:
        network = Network((1, 2, 3), RaftSettings(), seed=7)
        seen: list[str] = []
        network.on_ready = lambda node, ready: seen.append(f"{node.node_id} {ready}")
        network.tick_all(60)
        leader = network.leader()
        assert leader is not None
        leader.raft.propose([b"a", b"b"])
        network.tick_all(5)
        return seen

    assert history() == history()
