"""How a leader gets its log to the others, and what it may call committed (thesis, sections 3.5, 3.6.2 and
10.2).

Nothing is sent when it is proposed. Once a Ready, all that is new goes out as *one* broadcast to the
followers in step, before the leader has even stored it (section 10.2.1); their ``next_index`` moves on at
once (10.2.2). If nothing is new but the commit index moved, an empty broadcast says so. Everybody else is
served by unicast: a probe, the entries that are missing, or a chunk of a snapshot. The broadcast is made
first, so that its round is the lower one and a follower that rejects it before the unicast arrives is not
repaired twice.

A broadcast is heard by followers that it is not for; what they reject is ignored (:meth:`Progress.rejects`).
One that gets lost shows in the next, or in the next heartbeat, which names the end of the log. A follower
that has not answered since the last heartbeat gets one by unicast too: its subscription may not have come up.
To a silent follower only empty messages go, so that a dead process does not fill queues."""

from __future__ import annotations

from collections.abc import Iterable

from zmqlab.raft import snapshots
from zmqlab.raft.configuration import quorum_value
from zmqlab.raft.messages import BROADCAST, AppendEntries, Entry, EntryKind
from zmqlab.raft.progress import Progress, ProgressState
from zmqlab.raft.state import RaftState


def append(raft: RaftState, datas: Iterable[bytes], kind: EntryKind) -> int:
    """Add entries of our own term to our log. Returns the index of the first."""
    term = raft.term
    first_index = raft.log.last_index + 1
    raft.log.append([Entry(index, term, kind, data) for index, data in enumerate(datas, first_index)])
    return first_index


def commit_by_counting(raft: RaftState) -> None:
    """Commit what a quorum has stored, if it is of our own term; older entries commit with it (section
    3.6.2).

    Our own copy counts only as far as it is stored.
    """
    progress, own = raft.progress, raft.node_id
    index = quorum_value(
        raft.log.stored_index if voter == own else progress[voter].match_index for voter in raft.configuration.voters
    )
    if index > raft.commit_index and raft.log.term_at(index) == raft.term:
        raft.commit_index = index


def has_appends(raft: RaftState) -> bool:
    """Whether a leader has anything to send to followers."""
    if raft.broadcast_due or raft.due:
        return True
    behind = raft.broadcast_index < raft.log.last_index or raft.broadcast_commit < raft.commit_index
    return behind and bool(raft.progress)


def send_appends(raft: RaftState) -> None:
    """Say all that is to be said to followers now."""
    if raft.progress:
        _broadcast(raft)
    due, raft.due = raft.due, set()
    for node_id in sorted(due):
        if node_id in raft.progress:
            _send_to(raft, raft.progress[node_id])
    raft.broadcast_index = raft.log.last_index
    raft.broadcast_commit = raft.commit_index
    raft.broadcast_due = False


def heartbeat(raft: RaftState) -> None:
    """The time for a heartbeat has come: broadcast, and see to those who did not answer the last one."""
    raft.broadcast_due = True
    interval = raft.settings.heartbeat_ticks
    for progress in raft.progress.values():
        if raft.ticks - progress.heard_at > interval or progress.inflight:
            _send_ping(raft, progress)
        elif progress.state is not ProgressState.REPLICATE and raft.ticks - progress.sent_at >= interval:
            progress.awaiting = False
            raft.due.add(progress.node_id)


def _broadcast(raft: RaftState) -> None:
    """New entries for the followers in step, else an empty message if one is called for."""
    start, last_index = raft.broadcast_index + 1, raft.log.last_index
    in_step = [
        progress
        for progress in raft.progress.values()
        if progress.next_index == start and progress.state is ProgressState.REPLICATE
    ]
    if in_step and start <= last_index:
        _send_entries(raft, start)
        for progress in in_step:
            progress.next_index = last_index + 1
    elif raft.broadcast_due or raft.broadcast_commit < raft.commit_index:
        _send_append(raft, BROADCAST, last_index, ())


def _send_entries(raft: RaftState, start: int) -> None:
    """Broadcast the entries from ``start`` on, in as few messages as their size allows."""
    while start <= raft.log.last_index:
        entries = raft.log.slice(start, raft.log.last_index, raft.settings.max_append_bytes)
        _send_append(raft, BROADCAST, start - 1, tuple(entries))
        start += len(entries)


def _send_to(raft: RaftState, progress: Progress) -> None:
    """Send to one follower what its state allows."""
    if progress.state is ProgressState.REPLICATE:
        _send_pipelined(raft, progress)
    elif not progress.awaiting:
        if progress.state is ProgressState.PROBE and progress.next_index > raft.log.base_index:
            _send_probe(raft, progress)
        else:
            _send_chunk(raft, progress)


def _send_pipelined(raft: RaftState, progress: Progress) -> None:
    """Send what a follower lacks until it is in step or enough is under way."""
    log, settings = raft.log, raft.settings
    if progress.next_index <= log.base_index:
        _send_chunk(raft, progress)
        return
    while progress.next_index <= log.last_index and len(progress.inflight) < settings.max_inflight:
        entries = log.slice(progress.next_index, log.last_index, settings.max_append_bytes)
        _send_append(raft, progress.node_id, progress.next_index - 1, tuple(entries))
        progress.unicast_round = raft.round
        progress.next_index += len(entries)
        progress.inflight.append(progress.next_index - 1)


def _send_probe(raft: RaftState, progress: Progress) -> None:
    """Try whether the logs agree before ``next_index``, and send what follows if they do."""
    entries = raft.log.slice(progress.next_index, raft.log.last_index, raft.settings.max_append_bytes)
    _send_append(raft, progress.node_id, progress.next_index - 1, tuple(entries))
    progress.sent(raft.ticks, raft.round)


def _send_chunk(raft: RaftState, progress: Progress) -> None:
    """Go on with a snapshot, or begin with the latest."""
    if progress.state is not ProgressState.SNAPSHOT:
        assert raft.snapshot is not None, "the log is compacted without a snapshot"
        progress.start_snapshot(raft.snapshot)
    snapshots.send_chunk(raft, progress)


def _send_ping(raft: RaftState, progress: Progress) -> None:
    """A unicast heartbeat.

    Where the previous entry is compacted, one that will be rejected does as well: an answer is all that is
    wanted, and the next heartbeat then begins a snapshot. What was pipelined up to there is given up."""
    prev_index = progress.next_index - 1
    if prev_index < raft.log.base_index and progress.state is ProgressState.REPLICATE:
        progress.start_probe(progress.match_index + 1)
    if prev_index < raft.log.base_index or progress.state is ProgressState.SNAPSHOT:
        prev_index = raft.log.last_index
    _send_append(raft, progress.node_id, prev_index, ())


def _send_append(raft: RaftState, to: int, prev_index: int, entries: tuple[Entry, ...]) -> None:
    prev_term = raft.log.term_at(prev_index)
    assert prev_term is not None, f"entry {prev_index} is not in the log"
    round_ = raft.next_round()
    message = AppendEntries(raft.node_id, to, raft.term, prev_index, prev_term, raft.commit_index, round_, entries)
    raft.send_now.append(message)
