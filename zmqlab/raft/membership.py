"""Changing the members, one server at a time (thesis, chapter 4).

A configuration is an entry. Each node follows it from the moment it is appended there (section 4.1), and goes back to
the old one if the entry is truncated. The next change must wait until the entry is committed. And any change must wait
until the leader has committed an entry of its own term. Without that second rule, changes by different leaders could
have quorums that share no member: this is the bug found in 2015, and one reason for the no-op.

A new server should join as a learner (section 4.2.1), be watched in ``progress`` until it has caught up, and then be
promoted. A leader that removes itself leads until that is committed, without counting itself, and then steps down
(section 4.2.2). A removed server is not told. Pre-votes and refused votes keep it harmless (section 4.2.3).

Left out: arbitrary changes by joint consensus (section 4.3), and the judgement of when a learner has caught up, which
:mod:`zmqlab.replica` makes.
"""

from __future__ import annotations

from collections.abc import Iterable

from zmqlab.raft import replication
from zmqlab.raft.configuration import Configuration
from zmqlab.raft.messages import NOBODY, Entry, EntryKind
from zmqlab.raft.progress import Progress
from zmqlab.raft.roles import become_follower
from zmqlab.raft.state import RaftState, Role


def propose(raft: RaftState, configuration: Configuration) -> int:
    """Append ``configuration`` and follow it. Returns its index; 0 if this node may not make that change now."""
    if not _may_change_to(raft, configuration):
        return 0
    index = replication.append(raft, [configuration.encode()], EntryKind.CONFIGURATION)
    raft.configurations.append(index, configuration)
    _follow_members(raft)
    return index


def note_appended(raft: RaftState, entries: Iterable[Entry]) -> None:
    """A follower appended ``entries``. The last configuration among them takes effect."""
    for entry in entries:
        if entry.kind == EntryKind.CONFIGURATION:
            raft.configurations.append(entry.index, Configuration.decode(entry.data))


def step_down_if_removed(raft: RaftState) -> None:
    """Step down if this leader votes no more, and its followers were told that this is committed."""
    if raft.role is not Role.LEADER or raft.is_voter:
        return
    if raft.broadcast_commit >= raft.configurations.current_index:
        become_follower(raft, raft.term, NOBODY)


def _may_change_to(raft: RaftState, configuration: Configuration) -> bool:
    if raft.role is not Role.LEADER or raft.transfer_target != NOBODY or not configuration.voters:
        return False
    settled = raft.has_committed_in_term and raft.commit_index >= raft.configurations.current_index
    return settled and raft.configuration.differs_by_one(configuration)


def _follow_members(raft: RaftState) -> None:
    """Track members that are new, and forget members that are gone."""
    members = raft.configuration.members
    for member in members:
        if member != raft.node_id and member not in raft.progress:
            raft.progress[member] = Progress(member, raft.log.last_index + 1, raft.ticks)
            raft.due.add(member)
    for gone in set(raft.progress) - set(members):
        del raft.progress[gone]
        raft.due.discard(gone)
    replication.commit_by_counting(raft)
