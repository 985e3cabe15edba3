"""What a leader learns from its followers' answers.

Any answer shows that the follower is alive and follows in this term: that keeps the leader in office and
confirms reads. An acceptance moves ``match_index`` and with it the commit index. A rejection that tells
something new starts one probe where the follower's hint says; all that were under way at the same time are
stale by then, so that one lost broadcast costs one repair, however many broadcasts followed it."""

from __future__ import annotations

from zmqlab.raft import reads, replication, snapshots, transfer
from zmqlab.raft.configuration import quorum_size
from zmqlab.raft.messages import NOBODY, AppendEntriesResponse, InstallSnapshotResponse
from zmqlab.raft.progress import Progress, ProgressState
from zmqlab.raft.roles import become_follower
from zmqlab.raft.state import RaftState, Role


def handle_append_response(raft: RaftState, message: AppendEntriesResponse) -> None:
    """A follower accepts or rejects entries."""
    progress = _note_heard(raft, message)
    if progress is None:
        return
    if message.success:
        _accept(raft, progress, message.index)
    elif progress.rejects(message.rejected_index, message.round):
        _fall_back(raft, progress, message)


def handle_snapshot_response(raft: RaftState, message: InstallSnapshotResponse) -> None:
    """A follower has a chunk of a snapshot, or has no need of more."""
    progress = _note_heard(raft, message)
    if progress is not None:
        snapshots.handle_response(raft, progress, message)
        replication.commit_by_counting(raft)


def report_unreachable(raft: RaftState, node_id: int) -> None:
    """The driver could not send to a follower: probe it at heartbeats until it answers."""
    progress = raft.progress.get(node_id)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.start_probe(progress.match_index + 1)


def check_quorum(raft: RaftState) -> None:
    """A leader that has not heard a quorum for an election timeout leads nobody and steps down (section
    6.2)."""
    since = raft.ticks - raft.settings.election_ticks
    progress, own, voters = raft.progress, raft.node_id, raft.configuration.voters
    heard = sum(voter == own or progress[voter].heard_at > since for voter in voters)
    if heard < quorum_size(len(voters)):
        become_follower(raft, raft.term, NOBODY)


def _note_heard(raft: RaftState, message: AppendEntriesResponse | InstallSnapshotResponse) -> Progress | None:
    """The follower that answered; None if that is no business of ours."""
    progress = raft.progress.get(message.sender)
    if progress is None or raft.role is not Role.LEADER:
        return None
    progress.heard_at = raft.ticks
    if message.round > progress.acked_round:
        assert message.round <= raft.round, f"round {message.round} is answered before it was begun"
        progress.acked_round = message.round
        if raft.read_batches:
            reads.confirm(raft)
    return progress


def _accept(raft: RaftState, progress: Progress, index: int) -> None:
    """The follower's log agrees with ours up to ``index``."""
    assert index <= raft.log.last_index, f"{progress.node_id} accepts {index}, our log ends at {raft.log.last_index}"
    is_news = progress.acknowledge(index)
    if progress.state is not ProgressState.REPLICATE and _has_caught_on(raft, progress, index):
        progress.start_replicate()
    if progress.next_index <= raft.log.last_index:
        raft.due.add(progress.node_id)
    if is_news and index > raft.commit_index:
        replication.commit_by_counting(raft)
    if raft.transfer_target == progress.node_id:
        transfer.send_if_caught_up(raft)


def _has_caught_on(raft: RaftState, progress: Progress, index: int) -> bool:
    """Whether an acceptance up to ``index`` ends a probe or makes a snapshot needless. A stale one does
    neither."""
    return index == progress.match_index and index >= raft.log.base_index


def _fall_back(raft: RaftState, progress: Progress, message: AppendEntriesResponse) -> None:
    """Probe after the last place where, by the follower's hint, the logs may agree."""
    agreed = raft.log.last_index_with_term_at_most(message.hint_term, message.index)
    progress.start_probe(min(message.rejected_index, agreed + 1))
    raft.due.add(progress.node_id)
