"""Three pieces of consensus that a person writes, and the places where they stand in the real node.

* *The vote rule*, ``grant_vote(me, request)``, stands for :func:`zmqlab.raft.election.cast_vote`. The node has entered
  the term of the request before, and it has refused requests of older terms and those that come while it hears a
  leader. A pre-vote asks "would you": the rule is asked with the next term and no vote in it, and nothing is noted.
* *The commit rule*, ``commit_index(leader)``, stands for :func:`zmqlab.raft.append_entries.commit_by_counting`. A
  follower's own counting stays as it is.
* *The mode of acknowledgement*, a class ``InSync``, is a replication of its own: a subclass of
  :class:`~zmqlab.replica.raft_by_quorum.RaftByQuorum` that says by ``stored_by_enough`` how many copies are enough.
  The grader also asks whether the class keeps the promise that its lab states: an order is not done while a voter that
  answers lacks it.

Left out: judging. The checkers of :mod:`zmqlab.sim` do that, and know nothing of a lab.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from zmqlab.course.seeds import Piece, in_place
from zmqlab.course.submission import Submission, Unusable
from zmqlab.raft import RequestVote, append_entries, election
from zmqlab.raft.messages import NOBODY
from zmqlab.raft.state import RaftState
from zmqlab.replica import RaftByQuorum
from zmqlab.replica.replication import Replication, Start
from zmqlab.sim.checkers import Violation

# -- the vote rule -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Voter:
    """The node that is asked for its vote."""

    node: int
    term: int
    """The term that it is in, which is that of the request."""
    voted_for: int | None
    """Who has its vote in this term; None: no node yet. What is set here is on the disk before the answer leaves."""
    last_term: int
    """The term of the last entry in its log; 0 if the log is empty."""
    last_index: int
    """The index of that entry."""


class VoteRequest(NamedTuple):
    """What a candidate says of itself."""

    candidate: int
    term: int
    last_term: int
    last_index: int


def vote_piece(submission: Submission) -> Piece:
    """``grant_vote`` in the place of the real rule."""
    grant_vote = submission.find("grant_vote", "function")
    submission.expect_parameters("grant_vote", grant_vote, ("me", "request"))

    def ask(me: Voter, request: VoteRequest) -> bool:
        granted: bool = submission.returned("grant_vote", submission.call(grant_vote, me, request), bool)
        if me.voted_for is not None and not isinstance(me.voted_for, int):
            raise Unusable(f"grant_vote sets me.voted_for to {me.voted_for!r:.60}: it has to be the number of a node")
        return granted

    def cast_vote(raft: RaftState, message: RequestVote) -> bool:
        request = VoteRequest(message.sender, message.term, message.last_term, message.last_index)
        asks_ahead = message.pre_vote and message.term > raft.term
        if not asks_ahead and raft.leader_id != NOBODY and raft.voted_for != message.sender:
            return False
        voted_for = None if asks_ahead else raft.voted_for or None
        me = Voter(raft.node_id, message.term, voted_for, raft.log.last_term, raft.log.last_index)
        granted = ask(me, request)
        if not message.pre_vote:
            raft.voted_for = me.voted_for or NOBODY
        return granted

    return Piece(place=lambda: in_place(election, "cast_vote", cast_vote))


# -- the commit rule -----------------------------------------------------------------------------------------------


class Leader(NamedTuple):
    """What a leader knows when it asks how far its log is committed."""

    node: int
    """The leader itself."""
    term: int
    """Its term."""
    commit_index: int
    """Up to here all is committed already."""
    voters: tuple[int, ...]
    """The members that count. The leader is one of them, unless it is about to be removed."""
    stored: Mapping[int, int]
    """Member -> the last index up to which it has stored the leader's log; the leader and learners stand here, too."""
    term_at: Callable[[int], int | None]
    """The term of the entry at an index; None if the log holds none there."""


def commit_piece(submission: Submission) -> Piece:
    """``commit_index`` in the place of the real rule."""
    rule = submission.find("commit_index", "function")
    submission.expect_parameters("commit_index", rule, ("leader",))

    def commit_by_counting(raft: RaftState) -> None:
        stored = {raft.node_id: raft.log.stored_index}
        stored |= {node_id: progress.match_index for node_id, progress in raft.progress.items()}
        voters = raft.configuration.voters
        leader = Leader(
            raft.node_id, raft.term, raft.commit_index, voters, dict(sorted(stored.items())), raft.log.term_at
        )
        index = submission.returned("commit_index", submission.call(rule, leader), int)
        if index < raft.commit_index:
            raise Violation(f"commit rule: leader {raft.node_id} falls from {raft.commit_index} back to {index}")
        if index > raft.log.last_index:
            raise Violation(
                f"commit rule: leader {raft.node_id} commits {index}, beyond {raft.log.last_index}, its end"
            )
        raft.commit_index = index

    return Piece(place=lambda: in_place(append_entries, "commit_by_counting", commit_by_counting))


# -- the mode of acknowledgement -----------------------------------------------------------------------------------


def ack_piece(submission: Submission) -> Piece:
    """The class ``InSync`` as the replication of all nodes."""
    written = submission.find("InSync", "class")
    if not issubclass(written, RaftByQuorum):
        raise Unusable("InSync has to be a subclass of RaftByQuorum: class InSync(RaftByQuorum)")
    if written.stored_by_enough is RaftByQuorum.stored_by_enough:
        raise Unusable("InSync says nothing of its own: it needs a method stored_by_enough(self)")
    ask: Callable[[Any], Any] = written.stored_by_enough

    class Graded(written):  # type: ignore[misc, valid-type]  # a class that is known only now
        """The person's class; each word of it is compared with what its lab promises."""

        def stored_by_enough(self) -> int:
            index: int = submission.returned("stored_by_enough", submission.call(ask, self), int)
            _expect_in_sync(self, index)
            return index

    def make(start: Start) -> Replication:
        made: Replication = Graded(start)
        return made

    return Piece(make_replication=make, label=submission.label)


def _expect_in_sync(raft: RaftByQuorum, index: int) -> None:
    """An entry that is about to be committed is stored at each voter that the leader hears."""
    if index <= raft.commit_index or raft.log.term_at(index) != raft.term:
        return
    for voter in raft.configuration.voters:
        progress = raft.progress.get(voter)
        if progress is not None and is_heard(raft, voter) and progress.match_index < index:
            ago = raft.ticks - progress.heard_at
            raise Violation(
                f"in sync: leader {raft.node_id} calls {index} done, but node {voter}, which answered"
                f" {ago} tick{'' if ago == 1 else 's'} ago, has stored only {progress.match_index}"
            )


def is_heard(raft: RaftByQuorum, voter: int) -> bool:
    """Of a leader: whether another voter has answered within the time between two heartbeats."""
    return raft.ticks - raft.progress[voter].heard_at <= raft.settings.heartbeat_ticks
