"""Terms, roles and elections: who leads, how a node comes to lead, and how it loses or hands over the lead.

Thesis, sections 3.3, 3.4, 3.6.1, 3.10, 4.2.2, 4.2.3, 6.2 and 9.6. The moves between the roles::

                     times out              pre-votes of a quorum           votes of a quorum
    FOLLOWER ------------------> PRE_CANDIDATE ----------> CANDIDATE ----------------> LEADER
        ^                             |                        |                          |
        +-----------------------------+------------------------+--------------------------+
          a higher term, or a leader of this term; refused by a quorum; a leader that hears no quorum

*Terms.* A message of a higher term makes its receiver a follower of that term (section 3.3), with two exceptions. A
pre-vote names a term that no node has entered yet. And a request for a vote is ignored while a leader is heard (section
4.2.3): so a node that was cut off, or removed, cannot depose a leader that the other nodes hear.

Ignoring such requests is a trap that etcd once fell into. A node that got ahead in term ignored its leader, and the
other nodes ignored its campaigns, for ever. So a message of a lower term is answered if its sender acts in that term,
and the answer carries the newer term.

*Winning.* A node that has heard no leader for its election time-out first asks whether it *would* be elected, without
entering a new term: the pre-vote. It campaigns in a new term only after a quorum said yes. So a node that is cut off,
or whose log is behind, keeps asking and disturbs no leader, and it comes back with the same term as the others.

*Early pre-votes.* A leader that is paused or cut off is only known by its silence. A leader whose process ends closes
its connections, and its followers see that within a millisecond. The driver tells of it by ``lose_leader``. The voter
then forgets its leader, which it no longer counts as heard, and holds its pre-vote without waiting for a time-out.

That is safe, because no rule of safety depends on time: the voter does what it may do after any time-out. It also does
not weaken the protection of a working leader. A pre-vote enters no term. Each voter that still hears the leader ignores
it, and the leader itself does. So a working leader is deposed only if the connections to it close at a majority of the
voters at about the same time. A single follower whose connection breaks asks in vain, and follows again at the next
heartbeat. A stranger that could cut the connections of a majority again and again could hold an election each time.
Therefore a voter believes the end of a process only once in ``EARLY_PAUSE`` election time-outs.

Two followers must not ask at once, or each votes for itself. So the voters wait by their *rank* among those that are
left: the first one asks at once, the next one ``EARLY_STAGGER_TICKS`` later, and so on. A voter that has just said yes
to another one begins its wait anew. The first one may ask before the others have seen the end. They ignore it, but
remember what it asked, and answer when they see the end, too. Its log may be behind, or a message may get lost. So each
asks again after a tick or a few, and gives up after ``EARLY_TRIES``. Then the election time-out is what is left, as if
nothing had been seen.

A vote is stored before it is sent (``send_stored``), and so is a candidate's vote for itself. Two votes of one node in
one term, one before a crash and one after it, would make two leaders. A repeated answer counts once.

*Losing.* A leader steps down if no quorum has answered for an election time-out (section 6.2), or if its own removal is
committed (section 4.2.2).

*Handing over.* A leader that transfers leadership takes no more proposals. It brings the target up to date and tells it
to campaign at once. The request of the target is ``forced``: nodes that still hear the old leader vote all the same. If
no new term has begun after an election time-out, the leader goes on as before.
"""

from __future__ import annotations

from zmqlab.raft import reads
from zmqlab.raft.configuration import quorum_size
from zmqlab.raft.messages import (
    NO_OP,
    NOBODY,
    AppendEntries,
    AppendEntriesResponse,
    InstallSnapshot,
    Message,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from zmqlab.raft.progress import Progress
from zmqlab.raft.state import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, RaftState

EARLY_TRIES = 4
"""At a tick of 10 ms the last one comes 30 to 60 ms after the leader's end. By then the voter with the best log of five
has asked, too."""
EARLY_STAGGER_TICKS = 2
"""Between the first pre-votes of two voters: 10 to 20 ms. A pre-vote, the election and the first word of the new leader
take 2 to 5 ms."""
EARLY_PAUSE = 5
"""In election time-outs, one second by default: between two ends of a leader's process that a voter believes. If all
connections are cut that often, a group spends a hundredth of its time on elections."""


def become_follower(raft: RaftState, term: int, leader_id: int) -> None:
    """Follow ``leader_id`` in ``term``; with NOBODY no leader is known yet."""
    assert term >= raft.term
    if term > raft.term:
        raft.enter_term(term, NOBODY)
    leave_role(raft)
    raft.role = FOLLOWER
    raft.leader_id = leader_id
    raft.early_tries = 0
    raft.draw_election_timeout()


def leave_role(raft: RaftState) -> None:
    """Drop everything that belongs to the present role or to the present leader."""
    reads.fail_all(raft)
    raft.votes.clear()
    raft.unanswered.clear()
    raft.progress.clear()
    raft.due.clear()
    raft.waiting.clear()
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
            if message.pre_vote and raft.role is FOLLOWER and message.sender in raft.configuration.voters:
                raft.unanswered[message.sender] = raft.ticks, message
            return False
        if message.pre_vote:
            return True
    elif isinstance(message, RequestVoteResponse) and message.pre_vote and message.granted:
        return True
    leads = isinstance(message, (AppendEntries, InstallSnapshot))
    become_follower(raft, message.term, message.sender if leads else NOBODY)
    return True


def follow(raft: RaftState, leader_id: int) -> None:
    """The leader of this term was heard."""
    assert raft.role is not LEADER, f"nodes {raft.node_id} and {leader_id} both lead in term {raft.term}"
    if raft.role is not FOLLOWER or raft.leader_id != leader_id:
        assert raft.leader_id in (NOBODY, leader_id), f"{raft.leader_id} and {leader_id} both lead in {raft.term}"
        become_follower(raft, raft.term, leader_id)
    raft.election_elapsed = 0


def lose_leader(raft: RaftState) -> bool:
    """The leader's process has ended: ask for pre-votes now, or as soon as it is this voter's turn.

    Returns whether that is done. It is not if this node follows no leader or does not vote, or if it has believed
    another end within the last ``EARLY_PAUSE`` election time-outs.
    """
    if raft.role is not FOLLOWER or raft.leader_id == NOBODY or not raft.is_voter or raft.ticks < raft.early_due:
        return False
    rank = sorted({*raft.configuration.voters} - {raft.leader_id}).index(raft.node_id)
    asked = [request for tick, request in raft.unanswered.values() if raft.ticks - tick <= EARLY_STAGGER_TICKS]
    raft.early_due = raft.ticks + EARLY_PAUSE * raft.settings.election_ticks
    become_follower(raft, raft.term, NOBODY)
    raft.early_tries = EARLY_TRIES
    for request in asked:
        handle_request(raft, request)
    if rank == 0 and not asked:
        start_pre_vote(raft)
    else:
        raft.election_timeout = min(max(rank, 1) * EARLY_STAGGER_TICKS, raft.election_timeout)
    return True


def start_pre_vote(raft: RaftState) -> None:
    """Ask the voters whether a campaign would succeed. A node that may not lead does nothing."""
    if not _may_campaign(raft):
        return
    leave_role(raft)
    raft.role = PRE_CANDIDATE
    raft.leader_id = NOBODY
    raft.draw_election_timeout()
    if raft.early_tries:
        raft.early_tries -= 1
        if raft.early_tries:
            raft.election_timeout = 1 + raft.rng.randrange(EARLY_TRIES - raft.early_tries)
    _ask_for_votes(raft, raft.term + 1, pre_vote=True, forced=False)


def start_election(raft: RaftState, forced: bool) -> None:
    """Campaign in a new term, with this node's own vote. ``forced``: the leader asked for this election."""
    if not _may_campaign(raft):
        return
    leave_role(raft)
    raft.role = CANDIDATE
    raft.leader_id = NOBODY
    raft.early_tries = 0
    raft.enter_term(raft.term + 1, raft.node_id)
    raft.draw_election_timeout()
    _ask_for_votes(raft, raft.term, pre_vote=False, forced=forced)


def handle_request(raft: RaftState, message: RequestVote) -> None:
    """Vote, or answer a pre-vote. A refusal carries this node's term."""
    granted = cast_vote(raft, message)
    if granted and (raft.early_tries or not message.pre_vote):
        raft.election_elapsed = 0
    term = message.term if granted else raft.term
    response = RequestVoteResponse(raft.node_id, message.sender, term, granted, message.pre_vote)
    raft.send_stored.append(response)


def cast_vote(raft: RaftState, message: RequestVote) -> bool:
    """The vote rule (section 3.6.1): whether the candidate gets this node's vote, which is noted, or its pre-vote.

    This node has entered the term of ``message``, unless that is a pre-vote.
    """
    may_vote = raft.voted_for == message.sender or (raft.voted_for == NOBODY and raft.leader_id == NOBODY)
    if message.pre_vote and message.term > raft.term:
        may_vote = True
    granted = may_vote and raft.log.is_up_to_date(message.last_index, message.last_term)
    if granted and not message.pre_vote:
        raft.voted_for = message.sender
    return granted


def handle_response(raft: RaftState, message: RequestVoteResponse) -> None:
    """Count an answer, if it belongs to the campaign that is going on."""
    if message.pre_vote:
        asked = raft.role is PRE_CANDIDATE and (not message.granted or message.term == raft.term + 1)
    else:
        asked = raft.role is CANDIDATE
    if asked and message.sender in raft.configuration.voters:
        raft.votes.setdefault(message.sender, message.granted)
        _count_votes(raft)


def tick(raft: RaftState) -> None:
    """One tick of a node that does not lead."""
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.election_timeout:
        start_pre_vote(raft)


def check_quorum(raft: RaftState) -> None:
    """Step down if no quorum has answered for an election time-out (section 6.2)."""
    since = raft.ticks - raft.settings.election_ticks
    progress, own, voters = raft.progress, raft.node_id, raft.configuration.voters
    heard = sum(voter == own or progress[voter].heard_at > since for voter in voters)
    if heard < quorum_size(len(voters)):
        become_follower(raft, raft.term, NOBODY)


def step_down_if_removed(raft: RaftState) -> None:
    """Step down if this leader votes no more, and its followers were told that this is committed."""
    if raft.role is not LEADER or raft.is_voter:
        return
    if raft.broadcast_commit >= raft.configurations.current_index:
        become_follower(raft, raft.term, NOBODY)


def start_transfer(raft: RaftState, target: int) -> bool:
    """Begin to hand leadership to the voter ``target``. Returns whether the transfer was begun or goes on.

    A transfer to another voter is carried on until it is given up (:func:`tick_transfer`). Its target may have been
    told to campaign. Of two that campaign at once often none is elected: the group would wait for an election time-out.
    """
    if raft.role is not LEADER or target == raft.node_id or target not in raft.configuration.voters:
        return False
    if raft.transfer_target not in (NOBODY, target):
        return False
    if raft.transfer_target != target:
        raft.transfer_target = target
        raft.transfer_elapsed = 0
        raft.due.add(target)
        hand_over_if_caught_up(raft)
    return True


def tick_transfer(raft: RaftState) -> None:
    """Give up a transfer that takes longer than an election time-out, or whose target is no member any more.

    If the word to campaign has not left yet, it is taken back: the next transfer may be to another.
    """
    if raft.transfer_target == NOBODY:
        return
    raft.transfer_elapsed += 1
    if raft.transfer_elapsed >= raft.settings.election_ticks or raft.transfer_target not in raft.progress:
        raft.transfer_target = NOBODY
        raft.send_now = [message for message in raft.send_now if not isinstance(message, TimeoutNow)]


def hand_over_if_caught_up(raft: RaftState) -> None:
    """Tell the target of a leadership transfer to campaign, if it holds the whole log."""
    progress = raft.progress.get(raft.transfer_target)
    if progress is not None and progress.match_index == raft.log.last_index:
        raft.send_now.append(TimeoutNow(raft.node_id, progress.node_id, raft.term))


def handle_timeout_now(raft: RaftState, message: TimeoutNow) -> None:
    """The leader wants this node to lead. There is no pre-vote: nodes that hear the leader would refuse it."""
    if raft.role is not LEADER:
        follow(raft, message.sender)
        start_election(raft, forced=True)


def _hears_leader(raft: RaftState) -> bool:
    """Whether a leader was heard within the minimum election time-out. A leader hears itself."""
    if raft.role is LEADER:
        return True
    return raft.leader_id != NOBODY and raft.election_elapsed < raft.settings.election_ticks


def _answer_older(raft: RaftState, message: Message) -> None:
    """Tell a sender that acts in an older term which term it is.

    The answer carries the new term and round 0, because the round in the message belongs to the old term. A sender that
    leads again by then would take the old round for one of its new term, and serve a read that no quorum confirmed.
    """
    to, term = message.sender, raft.term
    if isinstance(message, (AppendEntries, InstallSnapshot)):
        answer = AppendEntriesResponse(raft.node_id, to, term, 0, False, 0, 0, 0)
        raft.send_stored.append(answer)
    elif isinstance(message, RequestVote):
        raft.send_stored.append(RequestVoteResponse(raft.node_id, to, term, False, message.pre_vote))


def _may_campaign(raft: RaftState) -> bool:
    """Whether a campaign makes sense: a leader need not campaign, and a node that may not lead must not."""
    return raft.role is not LEADER and raft.may_lead


def _ask_for_votes(raft: RaftState, term: int, pre_vote: bool, forced: bool) -> None:
    raft.votes[raft.node_id] = True
    log = raft.log
    for voter in raft.configuration.voters:
        if voter != raft.node_id:
            request = RequestVote(raft.node_id, voter, term, log.last_index, log.last_term, pre_vote, forced)
            raft.send_stored.append(request)
    _count_votes(raft)


def _count_votes(raft: RaftState) -> None:
    """Go on if a quorum granted; give up if a quorum is out of reach; else wait for more answers."""
    voters = raft.configuration.voters
    quorum = quorum_size(len(voters))
    granted = sum(raft.votes.get(voter) is True for voter in voters)
    refused = sum(raft.votes.get(voter) is False for voter in voters)
    if granted >= quorum:
        if raft.role is PRE_CANDIDATE:
            start_election(raft, forced=False)
        else:
            become_leader(raft)
    elif len(voters) - refused < quorum:
        become_follower(raft, raft.term, NOBODY)


def become_leader(raft: RaftState) -> None:
    """Lead: assume nothing about the followers, and open the term with a no-op (section 3.6.2)."""
    leave_role(raft)
    raft.role = LEADER
    raft.leader_id = raft.node_id
    raft.heartbeat_elapsed = raft.ticks % raft.settings.heartbeat_ticks if raft.settings.beats_in_step else 0
    next_index = raft.log.last_index + 1
    for member in raft.configuration.members:
        if member != raft.node_id:
            raft.progress[member] = Progress(member, next_index, raft.ticks)
            raft.due.add(member)
    raft.broadcast_index = raft.log.last_index
    raft.broadcast_commit = raft.commit_index
    raft.claimed_index = 0
    raft.term_start_index = raft.append_own([b""], NO_OP)
