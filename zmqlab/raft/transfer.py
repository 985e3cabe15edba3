"""Leadership transfer (thesis, section 3.10).

The leader takes no more proposals, brings the target up to date, and then tells it to campaign at once. The
target's request is ``forced``, so that nodes which hear the old leader vote all the same. If no new term has
begun after an election timeout, the leader goes on as if nothing had been asked."""

from __future__ import annotations

from zmqlab.raft import election
from zmqlab.raft.messages import NOBODY, TimeoutNow
from zmqlab.raft.roles import follow
from zmqlab.raft.state import RaftState, Role


def start(raft: RaftState, target: int) -> bool:
    """Hand leadership to ``target``, a voter. Returns whether that was begun."""
    if raft.role is not Role.LEADER or target == raft.node_id or target not in raft.configuration.voters:
        return False
    if raft.transfer_target != target:
        raft.transfer_target = target
        raft.transfer_elapsed = 0
        raft.due.add(target)
        send_if_caught_up(raft)
    return True


def send_if_caught_up(raft: RaftState) -> None:
    """Tell the target to campaign, if it has everything."""
    progress = raft.progress.get(raft.transfer_target)
    if progress is not None and progress.match_index == raft.log.last_index:
        raft.send_now.append(TimeoutNow(raft.node_id, progress.node_id, raft.term))


def tick(raft: RaftState) -> None:
    """Give up a transfer that takes too long."""
    if raft.transfer_target == NOBODY:
        return
    raft.transfer_elapsed += 1
    if raft.transfer_elapsed >= raft.settings.election_ticks or raft.transfer_target not in raft.progress:
        raft.transfer_target = NOBODY


def handle_timeout_now(raft: RaftState, message: TimeoutNow) -> None:
    """Our leader wants us to lead: no pre-vote, which would be refused while it is heard."""
    if raft.role is not Role.LEADER:
        follow(raft, message.sender)
        election.start_election(raft, forced=True)
