"""AppendEntries from both sides: how a leader gets its log to the followers, and what they answer.

Thesis, sections 3.5, 3.6.2, 4.1 and 10.2.

*Sending.* A proposal is not sent at once. Once a Ready, all new entries go out as *one* broadcast to the followers in
step; their ``next_index`` moves on at once (section 10.2.2). Other followers are served by unicast: a probe, the
entries that are missing, or a chunk of a snapshot. The broadcast is made first. So its round is the lower one, and a
follower that rejects it before the unicast arrives is not repaired twice.

*Storing first, or sending first.* In a group of up to three voters a follower and the leader are a majority. There the
leader stores its entries and then sends them, and ``stored_index`` says so. The followers then commit by themselves
(below), and no notice of a commit is sent: it rides on the next message, a heartbeat at the latest. A leader sends
first and says nothing of its disk (section 10.2.1) where two copies are no majority, where it has no vote itself, and
where ``store_first`` is off because writes are slow. Then its followers can't count, and it tells those that wait.

*Telling those that wait.* A follower that has a client to answer waits for the commit (:func:`await_commit`) and gets a
*notice*: an empty message to it alone, after the last entry that it has accepted, with round 0, which asks for no
answer. All others learn of the commit with the next entries, or with a heartbeat. So a commit among five costs one
message and not eight. Nothing but time depends on it: a commit index may be told late, twice or never. A notice can't
be refused, because the follower has shown that both logs are alike up to there, and it takes no place among the rounds
by which a leader knows who hears it (:mod:`~zmqlab.raft.reads`). Told to all at once, by an empty broadcast if nothing
else is to be sent: the first commit of a term; a change of the members, because a leader that is removed stays until
its followers know it; and each commit while there is a learner, which can't count.

A broadcast also reaches followers that are not in step. The leader ignores their rejections (:meth:`Progress.rejects`).
A lost broadcast is noticed by the next one, or by the next heartbeat, which names the end of the log. A follower that
has not answered since the last heartbeat also gets one by unicast, because its subscription may not be up. A silent
follower gets empty messages only, so that the queue to a dead process does not fill up.

*Accepting.* An AppendEntries may come late, twice, or out of order, because broadcasts and unicasts are different
connections. So a follower keeps these rules:

* It drops an entry only if the message holds *another* entry for its place, and never because the message is shorter
  than the log.
* The commit index moves at most to the end of what this message verified. Beyond that the log may still diverge,
  whatever the leader has committed.
* The answer says what this message verified, not where the log ends.
* At or below the commit index nothing can conflict. A message that starts there is read from the commit index on. A
  message whose previous entry is compacted is never taken for a conflict.

*Committing by itself.* An entry is committed if a majority of the voters has stored it in the leader's term, and if it
is of that term (section 3.6.2). That is a fact about disks. It does not depend on which node knows of it, because the
proof of section 3.6.3 needs only this: each voter of the majority stored the entry before it voted in a later term. So
a follower may draw the same conclusion as its leader (:func:`commit_with_leader`), from what it can know:

* *The leader's copy.* ``stored_index`` is told by the leader of this term, of its own log, and after the write. It is
  the same promise that a follower's answer is, and ends with the term. It counts up to where a message has shown that
  both logs are alike.
* *Its own copy* counts only once it is stored, as that of a leader does.
* *The members* are those of the latest configuration in its log, as for a leader (section 4.1). The leader may have a
  later one by then. Until that is committed, any majority of either shares a voter with any majority of the other. Once
  it is committed, so is every entry before it.
* *The term.* Two copies of an entry of an older term commit nothing, here as in figure 3.7.

So a follower's commit index may be ahead of its leader's. Nothing relies on the contrary, with one exception: a read
index has to be ahead of both (:mod:`~zmqlab.raft.reads`).

*Learning.* Any answer shows the leader that the follower is alive and follows in this term: it keeps the leader in
office and confirms reads. An acceptance moves ``match_index``, and with it the commit index. A rejection with news
starts one probe where the follower's hint says. Every rejection that was under way at the same time is stale by then.
"""

from __future__ import annotations

from collections.abc import Iterator

from zmqlab.raft import reads, snapshots
from zmqlab.raft.configuration import quorum_size
from zmqlab.raft.election import follow, hand_over_if_caught_up
from zmqlab.raft.messages import (
    BROADCAST,
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    InstallSnapshotResponse,
)
from zmqlab.raft.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from zmqlab.raft.state import LEADER, RaftState

NO_ROUND = 0
"""The round of a message that is not to be answered: the others begin at 1."""


def has_appends(raft: RaftState) -> bool:
    """Whether a leader has messages for followers."""
    if raft.broadcast_due or raft.due:
        return True
    if raft.progress and (
        raft.broadcast_index < raft.log.last_index or (raft.broadcast_commit < raft.commit_index and _owes_notice(raft))
    ):
        return True
    return bool(raft.waiting) and any(True for _ in _to_tell(raft))


def send_appends(raft: RaftState) -> None:
    """Send everything that followers should get now."""
    if _stores_first(raft):
        raft.claimed_index = raft.log.last_index
    if raft.progress:
        _broadcast(raft)
    else:
        raft.broadcast_commit = raft.commit_index
    if raft.waiting:
        _tell_waiting(raft)
    if raft.due:
        due, raft.due = raft.due, set()
        for node_id in sorted(due):
            if node_id in raft.progress:
                _send_to(raft, raft.progress[node_id])
    raft.broadcast_index = raft.log.last_index
    raft.broadcast_due = False


def heartbeat(raft: RaftState) -> None:
    """Broadcast a heartbeat, and see to the followers that did not answer the last one."""
    raft.broadcast_due = True
    interval = raft.settings.heartbeat_ticks
    for progress in raft.progress.values():
        if raft.ticks - progress.heard_at > interval or progress.inflight:
            _send_ping(raft, progress)
        elif progress.state is not REPLICATE and raft.ticks - progress.sent_at >= interval:
            progress.awaiting = False
            raft.due.add(progress.node_id)


def handle_append(raft: RaftState, message: AppendEntries) -> None:
    """Accept or reject a leader's message of this term."""
    follow(raft, message.sender)
    prev_index, entries = message.prev_index, message.entries
    if prev_index < raft.commit_index:
        entries = entries[raft.commit_index - prev_index :]
        prev_index = raft.commit_index
    elif not raft.log.matches(prev_index, message.prev_term):
        _reject(raft, message)
        return
    raft.accepted_at = raft.ticks
    verified = prev_index + len(entries)
    if entries:
        _append(raft, prev_index, entries)
    if raft.commit_index < message.commit_index:
        raft.commit_index = max(raft.commit_index, min(message.commit_index, verified))
    if raft.countable_index < message.stored_index:
        raft.countable_index = max(raft.countable_index, min(message.stored_index, verified))
    if message.round == NO_ROUND:
        return
    answer = AppendEntriesResponse(raft.node_id, message.sender, raft.term, message.round, True, verified, 0, 0)
    raft.send_stored.append(answer)


def handle_append_response(raft: RaftState, message: AppendEntriesResponse) -> None:
    """A follower accepted or rejected entries."""
    progress = _note_heard(raft, message)
    if progress is None:
        return
    if message.success:
        _accept(raft, progress, message.index)
    elif progress.rejects(message.rejected_index, message.round):
        _fall_back(raft, progress, message)


def handle_snapshot_response(raft: RaftState, message: InstallSnapshotResponse) -> None:
    """A follower took a chunk of a snapshot, or needs no more of it."""
    progress = _note_heard(raft, message)
    if progress is not None:
        snapshots.handle_response(raft, progress, message)
        commit_by_counting(raft)


def commit_by_counting(raft: RaftState) -> None:
    """Commit what enough nodes have stored, if it is of the leader's own term; older entries commit with it (section
    3.6.2)."""
    if raft.commit_index == raft.log.last_index:
        return  # there is no more to commit
    index = raft.stored_by_enough()
    if index > raft.commit_index and raft.log.term_at(index) == raft.term:
        raft.commit_index = index


def commit_with_leader(raft: RaftState) -> None:
    """Of a follower: commit what the leader and this node have stored, if the two are a quorum (see the module).

    An entry of the leader's term stands there. So all that this node has is the leader's log, as it was at some moment
    of this term, and the latest configuration in it is the one that the leader counted by then.
    """
    index = min(raft.countable_index, raft.log.stored_index)
    if index <= raft.commit_index or raft.log.term_at(index) != raft.term:
        return
    voters = raft.configuration.voters
    copies = (raft.node_id in voters) + (raft.leader_id in voters)
    if copies >= quorum_size(len(voters)):
        raft.commit_index = index


def _stores_first(raft: RaftState) -> bool:
    """Whether this leader stores its entries before it sends them: where a follower is a quorum together with it."""
    voters = raft.configuration.voters
    return raft.settings.store_first and raft.node_id in voters and quorum_size(len(voters)) <= 2


def _owes_notice(raft: RaftState) -> bool:
    """Whether all followers must be told of the commit, because some of them can't count it themselves."""
    if raft.broadcast_commit >= raft.commit_index:
        return False
    if raft.configuration.learners:
        return True
    return not _stores_first(raft) and _concerns_all(raft)


def _concerns_all(raft: RaftState) -> bool:
    """Whether what is committed, and was not told to all, begins the term or changes the members."""
    index = max(raft.term_start_index, raft.configurations.current_index)
    return raft.broadcast_commit < index <= raft.commit_index


def await_commit(raft: RaftState, node_id: int) -> None:
    """See :meth:`~zmqlab.raft.core.Raft.await_commit`. A follower that counts by itself waits for no notice."""
    if node_id in raft.progress and not _stores_first(raft):
        raft.waiting[node_id] = raft.log.last_index


def _to_tell(raft: RaftState) -> Iterator[Progress]:
    """The followers that wait, and can be told more than they were."""
    for node_id in raft.waiting:
        progress = raft.progress.get(node_id)
        if progress is None or progress.match_index < raft.log.base_index:
            continue
        told = max(raft.broadcast_commit, progress.told_commit)
        if told < raft.waiting[node_id] and told < min(raft.commit_index, progress.match_index):
            yield progress


def _tell_waiting(raft: RaftState) -> None:
    """Send the notices that are due, and forget who waits no more."""
    for progress in _to_tell(raft):
        _send_append(raft, progress.node_id, progress.match_index, (), NO_ROUND)
        progress.told_commit = min(raft.commit_index, progress.match_index)
    raft.waiting = {node_id: index for node_id, index in raft.waiting.items() if _waits(raft, node_id, index)}


def _waits(raft: RaftState, node_id: int, index: int) -> bool:
    progress = raft.progress.get(node_id)
    return progress is not None and index > max(raft.broadcast_commit, progress.told_commit)


def _broadcast(raft: RaftState) -> None:
    """Broadcast new entries to the followers in step, or an empty message if one is due."""
    start, last_index = raft.broadcast_index + 1, raft.log.last_index
    in_step = [
        progress for progress in raft.progress.values() if progress.next_index == start and progress.state is REPLICATE
    ]
    if in_step and start <= last_index:
        _send_entries(raft, start)
        for progress in in_step:
            progress.next_index = last_index + 1
    elif raft.broadcast_due or _owes_notice(raft):
        _send_append(raft, BROADCAST, last_index, ())


def _send_entries(raft: RaftState, start: int) -> None:
    """Broadcast the entries from ``start`` on, in as few messages as their size allows."""
    while start <= raft.log.last_index:
        entries = raft.log.slice(start, raft.log.last_index, raft.settings.max_append_bytes)
        _send_append(raft, BROADCAST, start - 1, tuple(entries))
        start += len(entries)


def _send_to(raft: RaftState, progress: Progress) -> None:
    """Send to one follower what its state allows."""
    if progress.state is REPLICATE:
        _send_pipelined(raft, progress)
    elif not progress.awaiting:
        if progress.state is PROBE and progress.next_index > raft.log.base_index:
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
    """Ask whether the logs agree before ``next_index``, and send the entries from there on along with it."""
    entries = raft.log.slice(progress.next_index, raft.log.last_index, raft.settings.max_append_bytes)
    _send_append(raft, progress.node_id, progress.next_index - 1, tuple(entries))
    progress.sent(raft.ticks, raft.round)


def _send_chunk(raft: RaftState, progress: Progress) -> None:
    """Send the next chunk of a snapshot, or begin with the latest one."""
    if progress.state is not SNAPSHOT:
        assert raft.snapshot is not None, "the log is compacted without a snapshot"
        progress.start_snapshot(raft.snapshot)
    snapshots.send_chunk(raft, progress)


def _send_ping(raft: RaftState, progress: Progress) -> None:
    """Send a heartbeat by unicast.

    If the previous entry is compacted, the message names the end of the log and will be rejected. That does no harm:
    the leader wants an answer of any kind, and the next heartbeat begins a snapshot. The pipelined entries are given
    up.
    """
    prev_index = progress.next_index - 1
    if prev_index < raft.log.base_index and progress.state is REPLICATE:
        progress.start_probe(progress.match_index + 1)
    if prev_index < raft.log.base_index or progress.state is SNAPSHOT:
        prev_index = raft.log.last_index
    _send_append(raft, progress.node_id, prev_index, ())


def _send_append(
    raft: RaftState, to: int, prev_index: int, entries: tuple[Entry, ...], round_: int | None = None
) -> None:
    """``round_``: :data:`NO_ROUND` for a message that is not to be answered."""
    prev_term = raft.log.term_at(prev_index)
    assert prev_term is not None, f"entry {prev_index} is not in the log"
    commit_index, claim = raft.commit_index, raft.claimed_index
    if round_ is None:
        round_ = raft.next_round()
    message = AppendEntries(raft.node_id, to, raft.term, prev_index, prev_term, commit_index, round_, entries, claim)
    (raft.send_stored if claim > raft.log.stored_index else raft.send_now).append(message)
    if to == BROADCAST:
        raft.broadcast_commit = commit_index


def _append(raft: RaftState, prev_index: int, entries: tuple[Entry, ...]) -> None:
    """Take over the new ones of ``entries``, which follow ``prev_index``."""
    log = raft.log
    if prev_index == log.last_index:
        new: tuple[Entry, ...] = entries
    else:
        new = _skip_known(raft, entries)
        if new and new[0].index <= log.last_index:
            _truncate(raft, new[0].index)
    log.append(new)
    raft.follow_configurations(new)


def _skip_known(raft: RaftState, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The part of ``entries`` from the first entry on that the log lacks or contradicts."""
    for position, entry in enumerate(entries):
        if not raft.log.matches(entry.index, entry.term):
            return entries[position:]
    return ()


def _truncate(raft: RaftState, from_index: int) -> None:
    """Drop entries of an older leader that were never committed."""
    assert from_index > raft.commit_index, f"entry {from_index} is committed and would be truncated"
    raft.log.truncate(from_index)
    raft.configurations.truncate(from_index)


def _reject(raft: RaftState, message: AppendEntries) -> None:
    """Say where the logs may agree: not after an entry of a higher term than the leader has there (section 3.5)."""
    if message.round == NO_ROUND:
        return
    log = raft.log
    hint = log.last_index_with_term_at_most(message.prev_term, min(message.prev_index, log.last_index))
    hint = max(hint, raft.commit_index)
    raft.send_stored.append(
        AppendEntriesResponse(
            sender=raft.node_id,
            to=message.sender,
            term=raft.term,
            round=message.round,
            success=False,
            index=hint,
            hint_term=log.term_at(hint) or 0,
            rejected_index=message.prev_index,
        )
    )


def _note_heard(raft: RaftState, message: AppendEntriesResponse | InstallSnapshotResponse) -> Progress | None:
    """The follower that answered; None if this node does not lead, or the sender is no member."""
    progress = raft.progress.get(message.sender)
    if progress is None or raft.role is not LEADER:
        return None
    progress.heard_at = raft.ticks
    if message.round > progress.acked_round:
        assert message.round <= raft.round, f"round {message.round} is answered before it was begun"
        progress.acked_round = message.round
        if raft.read_batches:
            reads.confirm(raft)
    return progress


def _accept(raft: RaftState, progress: Progress, index: int) -> None:
    """The follower's log agrees with the leader's up to ``index``."""
    assert index <= raft.log.last_index, (
        f"{progress.node_id} accepts {index}, the leader's log ends at {raft.log.last_index}"
    )
    is_news = progress.acknowledge(index)
    if progress.state is not REPLICATE and _has_caught_on(raft, progress, index):
        progress.start_replicate()
    if progress.next_index <= raft.log.last_index:
        raft.due.add(progress.node_id)
    if is_news and index > raft.commit_index:
        commit_by_counting(raft)
    if raft.transfer_target == progress.node_id:
        hand_over_if_caught_up(raft)


def _has_caught_on(raft: RaftState, progress: Progress, index: int) -> bool:
    """Whether an acceptance up to ``index`` ends a probe, or makes a snapshot needless. A stale one does neither."""
    return index == progress.match_index and index >= raft.log.base_index


def _fall_back(raft: RaftState, progress: Progress, message: AppendEntriesResponse) -> None:
    """Probe after the last place where the logs may agree, as the follower's hint has it."""
    agreed = raft.log.last_index_with_term_at_most(message.hint_term, message.index)
    progress.start_probe(min(message.rejected_index, agreed + 1))
    raft.due.add(progress.node_id)
