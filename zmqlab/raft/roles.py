"""Terms and roles: the moves between follower, candidate and leader, and what a message's term means.

::

                     times out              pre-votes of a quorum           votes of a quorum
    FOLLOWER ------------------> PRE_CANDIDATE ----------> CANDIDATE ----------------> LEADER
        ^                             |                        |                          |
        +-----------------------------+------------------------+--------------------------+
          a higher term, or a leader of this term; refused by a quorum; a leader that hears no quorum

A message of a higher term makes its receiver a follower of that term (section 3.3), with two exceptions. A pre-vote
names a term that no node has entered yet. And a request for a vote is ignored while a leader is heard (section 4.2.3):
so a node that was cut off, or removed, cannot depose a leader that the other nodes hear.

Ignoring such requests is a trap that etcd once fell into. A node that got ahead in term ignored its leader, and the
other nodes ignored its campaigns, for ever. So a message of a lower term is answered if its sender acts in that term,
and the answer carries the newer term.
"""

from __future__ import annotations

from zmqlab.raft import reads
from zmqlab.raft.messages import (
    NOBODY,
    AppendEntries,
    AppendEntriesResponse,
    InstallSnapshot,
    Message,
    RequestVote,
    RequestVoteResponse,
)
from zmqlab.raft.state import RaftState, Role


def become_follower(raft: RaftState, term: int, leader_id: int) -> None:
    """Follow ``leader_id`` in ``term``; with NOBODY no leader is known yet."""
    assert term >= raft.term
    if term > raft.term:
        raft.term = term
        raft.voted_for = NOBODY
    leave_role(raft)
    raft.role = Role.FOLLOWER
    raft.leader_id = leader_id
    raft.draw_election_timeout()


def leave_role(raft: RaftState) -> None:
    """Drop everything that belongs to the present role or to the present leader."""
    reads.fail_all(raft)
    raft.votes.clear()
    raft.progress.clear()
    raft.due.clear()
    raft.incoming = None
    raft.broadcast_due = False
    raft.transfer_target = NOBODY


def admit(raft: RaftState, message: Message) -> bool:
    """Whether to handle ``message``, which is of another term. Enters that term if need be."""
    if message.term < raft.term:
        _answer_older(raft, message)
        return False
    if isinstance(message, RequestVote):
        if _hears_leader(raft) and not message.forced:
            return False
        if message.pre_vote:
            return True
    elif isinstance(message, RequestVoteResponse) and message.pre_vote and message.granted:
        return True
    leads = isinstance(message, AppendEntries | InstallSnapshot)
    become_follower(raft, message.term, message.sender if leads else NOBODY)
    return True


def follow(raft: RaftState, leader_id: int) -> None:
    """The leader of this term was heard."""
    assert raft.role is not Role.LEADER, f"nodes {raft.node_id} and {leader_id} both lead in term {raft.term}"
    if raft.role is not Role.FOLLOWER or raft.leader_id != leader_id:
        assert raft.leader_id in (NOBODY, leader_id), f"{raft.leader_id} and {leader_id} both lead in {raft.term}"
        become_follower(raft, raft.term, leader_id)
    raft.election_elapsed = 0


def _hears_leader(raft: RaftState) -> bool:
    """Whether a leader was heard within the minimum election time-out. A leader hears itself."""
    if raft.role is Role.LEADER:
        return True
    return raft.leader_id != NOBODY and raft.election_elapsed < raft.settings.election_ticks


def _answer_older(raft: RaftState, message: Message) -> None:
    """Tell a sender that acts in an older term which term it is.

    The answer carries the new term and round 0, because the round in the message belongs to the old term. A sender that
    leads again by then would take the old round for one of its new term, and serve a read that no quorum confirmed.
    """
    to, term = message.sender, raft.term
    if isinstance(message, AppendEntries | InstallSnapshot):
        answer = AppendEntriesResponse(raft.node_id, to, term, 0, False, 0, 0, 0)
        raft.send_stored.append(answer)
    elif isinstance(message, RequestVote):
        raft.send_stored.append(RequestVoteResponse(raft.node_id, to, term, False, message.pre_vote))
