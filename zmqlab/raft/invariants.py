"""What must hold between the fields of one core after every call.

A driver may check it after each call; the tests and the simulator do. It walks the whole log. What must hold *between*
nodes is checked elsewhere: by ``tests/raft`` and by :mod:`zmqlab.sim`.
"""

from __future__ import annotations

from zmqlab.raft.configuration import Configuration
from zmqlab.raft.messages import NOBODY, EntryKind
from zmqlab.raft.progress import Progress, ProgressState
from zmqlab.raft.state import RaftState, Role


def check(raft: RaftState) -> None:
    """Assert every invariant of one core.

    Raises:
        AssertionError: an invariant is broken; the node must stop.
    """
    _check_indexes(raft)
    _check_log(raft)
    _check_role(raft)
    _check_configuration(raft)
    _check_reads(raft)
    for node_id, progress in raft.progress.items():
        assert node_id == progress.node_id != raft.node_id
        _check_progress(raft, progress)


def _check_indexes(raft: RaftState) -> None:
    log = raft.log
    assert 0 <= log.base_index <= log.stored_index <= log.last_index
    assert raft.applied_index <= raft.commit_index <= log.last_index
    assert log.base_index <= raft.commit_index
    assert raft.stored_commit <= raft.commit_index
    assert raft.countable_index <= log.last_index
    assert raft.claimed_index <= log.last_index or raft.role is not Role.LEADER
    assert raft.role is not Role.LEADER or not raft.countable_index
    if raft.snapshot is None:
        assert log.base_index == 0
    else:
        assert log.base_index <= raft.snapshot.index <= raft.commit_index
    if raft.restored is None:
        assert log.base_index <= raft.applied_index, "entries are gone that were not applied"


def _check_log(raft: RaftState) -> None:
    log = raft.log
    entries = log.slice(log.base_index + 1, log.last_index, 1 << 62)
    assert len(entries) == log.last_index - log.base_index
    terms = [log.base_term, *(entry.term for entry in entries)]
    assert terms == sorted(terms), "terms fall along the log"
    assert terms[-1] == log.last_term <= raft.term
    assert [entry.index for entry in entries] == list(range(log.base_index + 1, log.last_index + 1))


def _check_role(raft: RaftState) -> None:
    assert (raft.role is Role.LEADER) == (raft.leader_id == raft.node_id)
    if raft.role in (Role.CANDIDATE, Role.LEADER):
        assert raft.voted_for == raft.node_id
    if raft.role in (Role.CANDIDATE, Role.PRE_CANDIDATE):
        assert raft.votes[raft.node_id]
        assert raft.leader_id == NOBODY
    else:
        assert not raft.votes
    if raft.role is not Role.LEADER:
        assert not raft.progress
        assert not raft.due
        assert not raft.waiting
        assert raft.transfer_target == NOBODY
        assert raft.election_elapsed < raft.election_timeout or raft.is_learner
    ticks = raft.settings.election_ticks
    assert (1 if raft.early_tries else ticks) <= raft.election_timeout < 2 * ticks
    assert raft.role is Role.FOLLOWER or not raft.unanswered
    if raft.early_tries:
        assert raft.role in (Role.FOLLOWER, Role.PRE_CANDIDATE)
        assert raft.leader_id == NOBODY


def _check_configuration(raft: RaftState) -> None:
    log = raft.log
    for entry in log.slice(log.base_index + 1, log.last_index, 1 << 62):
        if entry.kind == EntryKind.CONFIGURATION and entry.index > raft.configurations.oldest_index:
            assert raft.configurations.at(entry.index) == Configuration.decode(entry.data)
    assert raft.configurations.current_index <= log.last_index
    if raft.role is Role.LEADER:
        assert set(raft.progress) == set(raft.configuration.members) - {raft.node_id}


def _check_progress(raft: RaftState, progress: Progress) -> None:
    assert 0 <= progress.match_index < progress.next_index <= raft.log.last_index + 1
    assert progress.match_index <= raft.log.last_index
    assert progress.acked_round <= raft.round
    assert progress.unicast_round <= raft.round
    assert progress.heard_at <= raft.ticks
    assert (progress.snapshot is not None) == (progress.state is ProgressState.SNAPSHOT)
    assert len(progress.inflight) <= raft.settings.max_inflight
    if progress.state is not ProgressState.REPLICATE:
        assert not progress.inflight


def _check_reads(raft: RaftState) -> None:
    rounds = [batch.round for batch in raft.read_batches]
    assert rounds == sorted(rounds)
    if raft.role is not Role.LEADER:
        assert not raft.read_batches
        assert not raft.requested_reads
