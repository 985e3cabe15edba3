"""Compaction, and snapshots for followers whose next entry is gone (thesis, chapter 5).

The driver takes a snapshot of its state machine at an applied index and hands it to ``compact``, at once or some turns
later. The core keeps the snapshot. It drops the log before it, except a few entries that slow followers may still need,
and sends the snapshot in chunks to followers that need more.

One chunk is under way at a time. The follower answers with the offset that it wants next. This one answer acknowledges
a chunk, asks for a lost chunk again, and starts anew after a restart. Chunks of different leaders or of different
snapshots are never joined. A complete snapshot replaces log and state together, in one Ready, with two exceptions. A
snapshot of entries that are already committed here replaces nothing. A snapshot that lies within the follower's log
(section 5.3) only moves the commit index.

The driver may look at each chunk before the core gets it, and refuse what can't be restored. It then lets the core
forget the chunks before that one, and the transfer begins anew.

Left out: disks. The driver writes chunks ahead as they arrive (:mod:`zmqlab.replica.snapshotting`); the core collects
them in memory, where the snapshot of an exchange fits, as its state does.
"""

from __future__ import annotations

from zmqlab.raft.configuration import Configuration, ConfigurationHistory
from zmqlab.raft.election import follow
from zmqlab.raft.log import Log
from zmqlab.raft.messages import InstallSnapshot, InstallSnapshotResponse, Snapshot
from zmqlab.raft.progress import Progress
from zmqlab.raft.state import IncomingSnapshot, RaftState


def make(raft: RaftState, data: bytes) -> Snapshot:
    """A snapshot at ``applied_index``; ``data`` is the state of the state machine there."""
    index = raft.applied_index
    term = raft.log.term_at(index)
    assert term is not None
    return Snapshot(index, term, raft.configurations.at(index), data)


def compact(raft: RaftState, snapshot: Snapshot, keep_entries: int) -> None:
    """Keep ``snapshot``, and only ``keep_entries`` of the entries before it. An older snapshot changes nothing.

    A replication that applies before the commit makes snapshots ahead of it. The members by what is committed stay
    known then, since a status tells them.
    """
    if raft.snapshot is not None and snapshot.index <= raft.snapshot.index:
        return
    assert snapshot.index <= raft.applied_index, "a snapshot of what was not applied"
    assert raft.log.matches(snapshot.index, snapshot.term), "a snapshot of another log"
    assert keep_entries >= 0
    raft.snapshot = snapshot
    raft.log.compact(min(snapshot.index - keep_entries, raft.log.stored_index))
    raft.configurations.compact(min(snapshot.index, raft.commit_index))


def send_chunk(raft: RaftState, progress: Progress) -> None:
    """Send the chunk that the follower wants next."""
    snapshot, offset = progress.snapshot, progress.snapshot_offset
    assert snapshot is not None
    data = snapshot.data[offset : offset + raft.settings.snapshot_chunk_bytes]
    progress.sent(raft.ticks, raft.next_round())
    raft.send_now.append(
        InstallSnapshot(
            sender=raft.node_id,
            to=progress.node_id,
            term=raft.term,
            round=raft.round,
            snapshot_index=snapshot.index,
            snapshot_term=snapshot.term,
            offset=offset,
            done=offset + len(data) == len(snapshot.data),
            data=data,
            configuration=snapshot.configuration.encode(),
        )
    )


def handle_response(raft: RaftState, progress: Progress, message: InstallSnapshotResponse) -> None:
    """A follower took a chunk, or needs no more. An answer to any but the last chunk sent is stale."""
    snapshot = progress.snapshot
    if snapshot is None or snapshot.index != message.snapshot_index or message.round != progress.unicast_round:
        return
    if message.done:
        progress.acknowledge(snapshot.index)
        progress.start_replicate()
    else:
        assert message.offset <= len(snapshot.data)
        progress.snapshot_offset = message.offset
        progress.awaiting = False
    raft.due.add(progress.node_id)


def handle_install(raft: RaftState, message: InstallSnapshot) -> None:
    """Take a chunk from the leader."""
    follow(raft, message.sender)
    raft.accepted_at = raft.ticks
    if message.snapshot_index <= raft.commit_index:
        raft.incoming = None
        _answer(raft, message, len(message.data), done=True)
    elif raft.log.matches(message.snapshot_index, message.snapshot_term):
        raft.commit_index = message.snapshot_index
        _answer(raft, message, len(message.data), done=True)
    else:
        _collect(raft, message)


def _collect(raft: RaftState, message: InstallSnapshot) -> None:
    """Join the chunk to the earlier ones, if it is the next, and ask for the chunk after it."""
    source = (message.sender, message.term, message.snapshot_index, message.snapshot_term)
    incoming = raft.incoming
    if incoming is None or incoming.source != source:
        incoming = raft.incoming = IncomingSnapshot(source)
    if message.offset == incoming.offset:
        incoming.data.write(message.data)
        if message.done:
            _restore(raft, message, incoming.data.getvalue())
            _answer(raft, message, incoming.offset, done=True)
            return
    _answer(raft, message, incoming.offset, done=False)


def _restore(raft: RaftState, message: InstallSnapshot, data: bytes) -> None:
    """Begin anew from a snapshot that is ahead of this node."""
    configuration = Configuration.decode(message.configuration)
    snapshot = Snapshot(message.snapshot_index, message.snapshot_term, configuration, data)
    raft.snapshot = raft.restored = snapshot
    raft.log = Log(snapshot.index, snapshot.term)
    raft.commit_index = snapshot.index
    raft.configurations = ConfigurationHistory(snapshot.index, configuration)
    raft.incoming = None


def _answer(raft: RaftState, message: InstallSnapshot, offset: int, done: bool) -> None:
    index, round_ = message.snapshot_index, message.round
    answer = InstallSnapshotResponse(raft.node_id, message.sender, raft.term, round_, index, offset, done)
    raft.send_stored.append(answer)
