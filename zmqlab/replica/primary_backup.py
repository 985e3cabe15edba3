"""A primary and its backups, with asynchronous copies and failover by a time-out, as many databases are run.

One node is the primary. It applies and answers a request as soon as it has stored it, and sends it on. A backup that
has heard no primary for its time-out takes over. It asks no other node.

*What is won.* Two nodes are enough, and one alone goes on serving. No answer waits for another node.

*What is lost.* The tail: what the dead primary had answered and not yet sent, or what reached only another backup than
the one that takes over. Under a partition both sides have a primary, and both answer. When the links are whole again
the later primary wins, and all that the other one has answered meanwhile is dropped.

How it is made from Raft: the log and its repair are Raft's (:mod:`zmqlab.raft.append_entries`), and so are the terms.
Three rules are different.

- *No votes.* A node takes over alone, in a later term. So that no two nodes take over in the same one, a term belongs
  to the node of its *rank*: term modulo :data:`TERMS_A_ROUND`.
- *No quorum.* The primary answers at once (:mod:`zmqlab.replica.leader_answers`), and it does not step down when no
  backup answers.
- *Nothing is final.* What a majority has stored may still be lost, because the node that takes over need not be of that
  majority. So a node that hears a new primary forgets which entries it took for committed, and keeps of its log and
  state only what the new primary has.

Left out: a witness, or any other way to find out that the primary is not dead but cut off.
"""

from __future__ import annotations

from zmqlab.errors import FrameError
from zmqlab.raft import (
    AppendEntries,
    InstallSnapshot,
    Message,
    RequestVote,
    RequestVoteResponse,
    Role,
    TimeoutNow,
    append_entries,
    election,
    reads,
)
from zmqlab.replica.leader_answers import LeaderAnswers
from zmqlab.replica.replication import MAX_MEMBERS

TERMS_A_ROUND = MAX_MEMBERS + 1
"""One for each member of the largest group."""


class PrimaryBackup(LeaderAnswers):
    """See the module. The primary is Raft's LEADER, a backup its FOLLOWER."""

    __slots__ = ()

    def tick(self) -> None:
        """One tick: a primary sends heartbeats, a backup takes over when it has heard none for its time-out."""
        self.ticks += 1
        if self.role is Role.LEADER:
            self.heartbeat_elapsed += 1
            if self.heartbeat_elapsed >= self.settings.heartbeat_ticks:
                self.heartbeat_elapsed = 0
                append_entries.heartbeat(self)
            election.tick_transfer(self)
        else:
            self.election_elapsed += 1
            if self.election_elapsed >= self.election_timeout:
                self._take_over()
        reads.tick(self)
        self._members.tick()

    def campaign(self) -> None:
        """Take over now."""
        self._take_over()

    def lose_leader(self) -> bool:
        """A closed connection is no proof: only the time-out counts."""
        return False

    def _take_over(self) -> None:
        """Be the primary of a term of this node's own, without a question to any other."""
        if self.role is Role.LEADER or not self.may_lead:
            return
        rank = sorted({*self.configuration.members, self.node_id}).index(self.node_id)
        self.enter_term((self.term // TERMS_A_ROUND + 1) * TERMS_A_ROUND + rank, self.node_id)
        election.become_leader(self)

    def expect(self, message: Message) -> None:
        """Refuse what no node says that keeps these rules; votes among it."""
        if isinstance(message, RequestVote | RequestVoteResponse):
            raise FrameError(f"{message.sender:#x} holds an election: do all nodes have the same --replication?")
        super().expect(message)

    def _expect_same_past(self, message: AppendEntries) -> None:
        """A new primary may have another past than this node, but for what this node can't take back."""
        base = self.snapshot
        covered = base.index - message.prev_index if base is not None else 0
        if base is not None and 0 < covered <= len(message.entries) and message.entries[covered - 1].term != base.term:
            raise FrameError(
                f"{message.sender:#x} has another entry {base.index} than the snapshot here: wipe this node"
            )

    def step(self, message: Message) -> None:
        """Handle one message. After the first one of a new primary nothing counts as committed that is not its own."""
        if isinstance(message, AppendEntries | InstallSnapshot) and message.term > self.term:
            self.commit_index = self.snapshot.index if self.snapshot is not None else 0
        if isinstance(message, TimeoutNow) and message.term == self.term:
            self._take_over()
        elif not isinstance(message, TimeoutNow):
            super().step(message)
