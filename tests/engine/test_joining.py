"""When a node asks to be taken in, and when it has been told enough: without sockets, by what its log says."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from tests.engine.fake_effects import FakeEffects
from tests.engine.shard_cluster import ShardCluster
from zmqlab.engine.answers import Answers
from zmqlab.engine.lifecycle import Joining
from zmqlab.raft import AppendEntries, Configuration, HardState, RaftSettings, Role
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica import Change, RaftByQuorum, Start, StoredState
from zmqlab.settings import NodeSettings
from zmqlab.wire import control, frames

OWN, LEADER = 4, 1
SETTINGS = NodeSettings(name="node3", port=5_300, join=("tcp://127.0.0.1:5000",))
ALONE = Configuration((LEADER,))
LEARNER = ALONE.with_learner(OWN, SETTINGS.endpoint)
VOTER = LEARNER.with_voter(OWN)


def log_of(*configurations: Configuration) -> tuple[Entry, ...]:
    return tuple(
        Entry(index, 1, EntryKind.CONFIGURATION, each.encode()) for index, each in enumerate(configurations, start=1)
    )


def node(*stored: Configuration) -> tuple[RaftByQuorum, Joining]:
    entries = list(log_of(*stored))
    known = HardState(1, 0, len(entries)) if entries else None
    rng = random.Random(1)
    raft = RaftByQuorum(Start(OWN, Configuration(()), StoredState(known, None, entries), RaftSettings(), rng))
    return raft, Joining(SETTINGS, FakeEffects(), rng, raft, frozenset, SETTINGS.join, 1)


def hear(raft: RaftByQuorum, joining: Joining, *configurations: Configuration) -> list[bool]:
    """The log grows to these, one at a time, each committed; whether the node would ask after each."""
    wanted = []
    for index, entry in enumerate(log_of(*configurations), start=1):
        if index > raft.last_index:
            raft.step(AppendEntries(LEADER, OWN, 1, index - 1, int(index > 1), index, index, (entry,)))
            while raft.is_ready():
                raft.advance(raft.ready())
            wanted.append(joining.is_wanted())
    return wanted


def test_one_that_was_promoted_and_then_removed_does_not_ask_to_come_back() -> None:
    """It saw its promotion in its log, and was removed before the leader had answered its question."""
    raft, joining = node()
    joining.tick()
    assert hear(raft, joining, ALONE, LEARNER, VOTER, ALONE) == [True, True, False, False]


def test_one_that_was_promoted_before_it_has_asked_asks_once() -> None:
    raft, joining = node(ALONE, LEARNER)
    assert hear(raft, joining, ALONE, LEARNER, VOTER) == [True]
    joining.tick()
    assert not joining.is_wanted()


def test_one_whose_old_log_says_that_it_votes_asks_all_the_same() -> None:
    """It may have been removed while it was away."""
    raft, joining = node(ALONE, LEARNER, VOTER)
    assert joining.is_wanted()
    assert hear(raft, joining, ALONE, LEARNER, VOTER, ALONE) == [True]


def test_one_that_was_let_go_as_it_came_does_not_ask_the_next_leader() -> None:
    """Only the leader that a person had asked knew that it was let go. It asked on, and the next leader took it in."""
    cluster = ShardCluster(3, shards=1)
    cluster.step(60)
    leader = cluster.leader(0)
    assert leader is not None
    coming = cluster.join(3, seeds=[leader, *(each for each in range(3) if each != leader)])
    coming.engine.on_peer_frame = lambda frame: None  # type: ignore[method-assign]
    cluster.step(10)
    (own_id,) = members(cluster) - {5_000, 5_010, 5_020}
    cluster.ask(leader, control.encode(frames.QUERY, control.RemoveMemberQuery(9, own_id)))
    cluster.step(60)
    assert own_id not in members(cluster)
    assert [note for note in coming.effects.notes if "start it again to have it back" in note]
    cluster.stop(leader)
    cluster.step_until(lambda: cluster.leader(0) not in (None, leader))
    cluster.step(200)
    assert own_id not in members(cluster)
    cluster.running.pop(3)
    cluster.join(3)
    cluster.step_until(lambda: own_id in members(cluster))


def members(cluster: ShardCluster) -> set[int]:
    leader = cluster.leader(0)
    assert leader is not None
    return set(cluster.groups(leader)[0].replica.replication.configuration.members)


def test_only_a_leader_without_it_tells_a_node_that_it_was_let_go() -> None:
    """That ends its questions for good. The removal that another leader began may have been lost."""
    configuration = SimpleNamespace(members=(OWN,))
    replication: Any = SimpleNamespace(role=Role.LEADER, configuration=configuration)
    replication.add_member = lambda *_: Change.UNDER_WAY
    replication.remove_member = lambda *_: Change.UNDER_WAY
    replica: Any = SimpleNamespace(replication=replication)
    peers: Any = SimpleNamespace(elsewhere=frozenset(), note_address=lambda *_: None)
    unused: Any = None
    answers = Answers(replica, peers, unused, unused, None)
    said: list[Any] = []
    question = control.AddMemberQuery(1, OWN, SETTINGS.endpoint, life=5)
    answers.handle(question, said.append)
    answers.handle(control.RemoveMemberQuery(2, OWN), said.append)
    replication.role = Role.FOLLOWER
    answers.handle(question, said.append)
    replication.role = Role.LEADER
    answers.handle(question, said.append)
    configuration.members = ()
    answers.handle(question, said.append)
    code = control.ErrorCode
    assert [each.code for each in said] == [code.BUSY, code.BUSY, code.REFUSED, code.REFUSED, code.LET_GO]
