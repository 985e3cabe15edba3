"""Linearizable reads without a log entry: ReadIndex (thesis, section 6.4).

A leader may answer a read at its commit index under two conditions. It has committed an entry of its own term; before
that the index may be stale. And it still led when the read came in.

One thing is different here. Followers commit by themselves what the leader says that it has stored
(:mod:`~zmqlab.raft.append_entries`). They may have answered a client before the leader knows of the commit, but they
commit nothing beyond that. So the read index is the last index that the leader has *claimed* to be stored, if that is
ahead of its commit index. What followers committed in an earlier term is in the leader's log before its own no-op
(section 3.6.3), and so below any index that a read gets. The read waits until its index is applied, and thus committed.

To show that it still led, a leader makes all reads of a turn one *batch* with a *round*. Once a quorum has answered
that round or a later one, no other leader can have been elected before the reads began. Every message that
followers answer carries a round, so a busy leader sends nothing extra.

A follower asks its leader for the index and waits until it has applied it. The outcome of a read is always reported:
done, or failed, because no leader is known, the leader changed, or no answer came in time.

Left out: reads by the leader's clock alone (section 6.4.1), which clock drift would make wrong.
"""

from __future__ import annotations

from zmqlab.raft.configuration import quorum_value
from zmqlab.raft.messages import NOBODY, ReadIndex, ReadIndexResponse
from zmqlab.raft.state import LEADER, RaftState, ReadBatch


def request(raft: RaftState, context: int) -> None:
    """The driver of this node wants to read."""
    if raft.role is LEADER:
        raft.requested_reads.append((raft.node_id, context))
    elif raft.leader_id == NOBODY:
        raft.failed_reads.append(context)
    else:
        raft.forwarded_reads[context] = raft.ticks
        raft.send_now.append(ReadIndex(raft.node_id, raft.leader_id, raft.term, context))


def handle_request(raft: RaftState, message: ReadIndex) -> None:
    """A follower asks. A node that does not lead stays silent: the follower will hear of a new leader, or give up."""
    if raft.role is LEADER:
        raft.requested_reads.append((message.sender, message.context))


def handle_response(raft: RaftState, message: ReadIndexResponse) -> None:
    """The leader answered. A second answer, or a late one, changes nothing."""
    if raft.forwarded_reads.pop(message.context, None) is not None:
        raft.done_reads.append((message.context, message.index))


def are_startable(raft: RaftState) -> bool:
    """Whether a leader has reads, and may start a round for them."""
    return bool(raft.requested_reads) and raft.has_committed_in_term


def start_batch(raft: RaftState) -> None:
    """Assign all reads that came in so far to the next round."""
    if not are_startable(raft):
        return
    index = max(raft.commit_index, raft.claimed_index)
    raft.read_batches.append(ReadBatch(raft.round + 1, index, raft.requested_reads))
    raft.requested_reads = []
    raft.broadcast_due = True
    confirm(raft)


def confirm(raft: RaftState) -> None:
    """Finish the batches whose round a quorum has answered. The leader itself counts without a message."""
    progress, own = raft.progress, raft.node_id
    confirmed = quorum_value(
        raft.round + 1 if voter == own else progress[voter].acked_round for voter in raft.configuration.voters
    )
    while raft.read_batches and raft.read_batches[0].round <= confirmed:
        _finish(raft, raft.read_batches.popleft())


def tick(raft: RaftState) -> None:
    """Give up reads whose answer is overdue."""
    overdue = raft.ticks - raft.settings.election_ticks
    for context, asked_at in list(raft.forwarded_reads.items()):
        if asked_at > overdue:
            break
        del raft.forwarded_reads[context]
        raft.failed_reads.append(context)


def fail_all(raft: RaftState) -> None:
    """The leader changed: reads that the old one was asked for fail."""
    own = raft.node_id
    batches = [raft.requested_reads, *(batch.reads for batch in raft.read_batches)]
    raft.failed_reads += [context for batch in batches for asker, context in batch if asker == own]
    raft.failed_reads += raft.forwarded_reads
    raft.requested_reads = []
    raft.read_batches.clear()
    raft.forwarded_reads.clear()


def _finish(raft: RaftState, batch: ReadBatch) -> None:
    for asker, context in batch.reads:
        if asker == raft.node_id:
            raft.done_reads.append((context, batch.read_index))
        else:
            raft.send_now.append(ReadIndexResponse(raft.node_id, asker, raft.term, context, batch.read_index))
