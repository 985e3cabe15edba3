"""What a follower does with the entries and the commit index of its leader (thesis, sections 3.5 and 3.6).

An AppendEntries may come late, twice, or out of order, because broadcasts and unicasts are different connections. So:

* A follower drops an entry only if the message holds *another* entry for its place, and never because the message is
  shorter than the log.
* The commit index moves at most to the end of what this message verified. Beyond that the log may still diverge,
  whatever the leader has committed.
* The answer says what this message verified, not where the log ends.
* At or below the commit index nothing can conflict. A message that starts there is read from the commit index on. A
  message whose previous entry is compacted is never taken for a conflict.
"""

from __future__ import annotations

from zmqlab.raft import membership
from zmqlab.raft.messages import AppendEntries, AppendEntriesResponse, Entry
from zmqlab.raft.roles import follow
from zmqlab.raft.state import RaftState


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
    verified = prev_index + len(entries)
    if entries:
        _append(raft, prev_index, entries)
    raft.commit_index = max(raft.commit_index, min(message.commit_index, verified))
    answer = AppendEntriesResponse(raft.node_id, message.sender, raft.term, message.round, True, verified, 0, 0)
    raft.send_stored.append(answer)


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
    membership.note_appended(raft, new)


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
