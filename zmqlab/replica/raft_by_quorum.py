"""Raft, answered after a quorum: the replication of production.

:class:`RaftByQuorum` is :class:`zmqlab.raft.Raft` with three things that the seam (:mod:`zmqlab.replica.replication`)
asks for beside consensus: the moment of an answer, the refusal of impossible messages, and a policy of membership.

*When is an answer given?* When its entry is committed: a majority of the voters has stored it, an entry of the leader's
own term among them (thesis, 3.6.2). What is applied is committed, so an answer never waits once its entry is applied. A
node commits by its leader's word, or because it knows of enough copies itself (:mod:`zmqlab.raft.append_entries`).

*What is refused?* Raft takes a contradiction in a message for a broken invariant, and the node would stop. A
stranger's process must not be able to do that. So these are refused before Raft sees them: a second leader of a term,
an answer to a question that was not asked, a log that disagrees with what is committed, a term that no number of
elections explains.

*Who is a member?* Raft changes the members by one server, once the last change is committed
(:mod:`zmqlab.raft.configuration`). :class:`Members` adds the policy:

- *Learners first.* A new node joins as a learner. It is promoted when it has caught up, by the rounds of the thesis
  (section 4.2.1): in a round the leader sends what its log held when the round began. A learner whose last round took
  less than an election time-out does not leave the group without a quorum for longer than an election would.
- *Hand-over before removal.* A leader that is to go hands leadership over first. Clients then wait for a transfer and
  not for an election (sections 3.10, 4.2.2).
- *A quorum stays.* A removal is refused if it would leave so few voters in reach that nothing could be committed any
  more: then a dead node could neither be missed nor replaced. A voter is in reach if it has answered within an election
  time-out, as for CheckQuorum.
- *One member for an address.* A node whose disk was wiped is another member at the same address. The old member, whose
  votes are forgotten, is removed before the new one is added. A member may move to another address, also to one that
  another member has just left: hosts that get new addresses may exchange them. Which of the two it is, the identity
  says: a node that is no member comes in the place of one that is lost, and a member takes no other one's vote.
- *Bounds.* Any process that can reach a node may ask for a membership, for a node that need not exist. So there is one
  learner at a time, which makes room for the next one if it stays silent, and there are at most :data:`MAX_MEMBERS`: a
  flood of such requests costs a few entries a minute.

Each call of :class:`Members` states the wanted end and returns how far it is. The caller repeats it until it is done,
at the leader of that time. So a request can be lost, or a leader can fall, and nothing stays half done for long.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

from zmqlab.errors import FrameError
from zmqlab.raft import (
    NOBODY,
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    Progress,
    Raft,
    TimeoutNow,
    quorum_size,
)
from zmqlab.raft.state import LEADER
from zmqlab.replica.replication import MAX_MEMBERS, Change, Start

MAX_TERMS_AHEAD = 1 << 32
"""With an election every millisecond, so many terms take 49 days. A forged term can't use up the 64 bits of terms."""
SILENT_LEARNER_TIMEOUTS = 25
"""Election time-outs without a word, five seconds by default, after which a learner is in the way of others."""
SILENT_VOTER_TIMEOUTS = 5
"""The same for a voter that has the address of another node: one second by default."""

_NO_FOLLOWERS: Mapping[int, Progress] = {}


class RaftByQuorum(Raft):
    """One node's part in one group, as a :class:`~zmqlab.replica.replication.Replication`."""

    __slots__ = ("_members",)

    def __init__(self, start: Start) -> None:
        stored, settings = start.stored, start.settings
        if type(self).stored_by_enough is not Raft.stored_by_enough:
            settings = replace(settings, store_first=False)  # a follower counts a quorum, which is not enough here
        super().__init__(
            start.node_id,
            stored.snapshot.configuration if stored.snapshot else start.founders,
            settings,
            start.rng,
            hard_state=stored.hard_state,
            snapshot=stored.snapshot,
            entries=stored.entries,
        )
        self._members = Members(self)

    @property
    def answerable_index(self) -> int:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self.commit_index

    @property
    def election_ticks(self) -> int:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self.settings.election_ticks

    @property
    def election_timer(self) -> tuple[int, int]:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        if self.role is LEADER or not self.is_voter:
            return 0, 0
        return max(0, self.election_timeout - self.election_elapsed), self.election_timeout

    @property
    def configuration_index(self) -> int:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self.configurations.current_index

    @property
    def followers(self) -> Mapping[int, Progress]:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self.progress if self.role is LEADER else _NO_FOLLOWERS

    def members_at(self, index: int) -> Configuration:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self.configurations.at(index)

    def tick(self) -> None:
        """One tick of Raft, and a look at the learners."""
        super().tick()
        self._members.tick()

    def add_member(self, node_id: int, address: str, elsewhere: Collection[int] = ()) -> Change:
        """See :meth:`Members.add`."""
        return self._members.add(node_id, address, elsewhere)

    def remove_member(self, node_id: int) -> Change:
        """See :meth:`Members.remove`."""
        return self._members.remove(node_id)

    def set_roster(self, roster: bytes) -> Change:
        """See :class:`~zmqlab.replica.replication.Replication`."""
        return self._members.set_roster(roster)

    def hand_over(self, target: int = NOBODY) -> bool:
        """See :meth:`Members.hand_over`."""
        return self._members.hand_over(target)

    def expect(self, message: Message) -> None:
        """Raise FrameError for a message that no node that keeps Raft's rules can have sent; see the module."""
        sender, term = message.sender, message.term
        if sender in (NOBODY, self.node_id):
            raise FrameError(f"a message from {sender:#x} came here")
        if term > self.term + MAX_TERMS_AHEAD:
            raise FrameError(f"term {term} is too far from {self.term}")
        if isinstance(message, (AppendEntries, InstallSnapshot, TimeoutNow)):
            if term == self.term and self.leader_id not in (NOBODY, sender):
                raise FrameError(f"{sender:#x} says that it leads in term {term}, but {self.leader_id:#x} does")
            if isinstance(message, AppendEntries):
                self._expect_same_past(message)
        elif isinstance(message, (AppendEntriesResponse, InstallSnapshotResponse)) and term == self.term:
            self._expect_asked(message)

    def _expect_same_past(self, message: AppendEntries) -> None:
        """Every later leader has what is committed here in its log (thesis, 3.6.3)."""
        covered = self.commit_index - message.prev_index
        if message.term < self.term or not 0 < covered <= len(message.entries):
            return
        entry = message.entries[covered - 1]
        if not self.log.matches(entry.index, entry.term):
            raise FrameError(f"{message.sender:#x} has another entry {entry.index} than the one that is committed")

    def _expect_asked(self, message: AppendEntriesResponse | InstallSnapshotResponse) -> None:
        """An answer belongs to a message of this leader, and claims nothing that this leader does not have."""
        progress = self.progress.get(message.sender)
        if progress is None:
            return
        if message.round > self.round:
            raise FrameError(f"round {message.round} is answered before it was begun")
        if isinstance(message, AppendEntriesResponse):
            is_beyond = message.success and message.index > self.last_index
        else:
            snapshot = progress.snapshot
            is_beyond = snapshot is not None and message.offset > len(snapshot.data)
        if is_beyond:
            raise FrameError(f"{message.sender:#x} claims more than this leader has")


class _Round(NamedTuple):
    """A learner's catching up, as its leader measures it."""

    target: int
    """The end of the log when the round began."""
    began_at: int
    """In ticks."""


class Members:
    """Changes the members of the group that ``raft`` belongs to. Has effects only while ``raft`` leads."""

    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        self._rounds: dict[int, _Round] = {}
        """By learner; only while leading."""

    def add(self, node_id: int, address: str, elsewhere: Collection[int] = ()) -> Change:
        """Take ``node_id`` in, first as a learner; DONE once it votes. A member that is somewhere else now has moved.

        A member that had the address before and stays silent is removed if ``node_id`` is no member: its place is
        taken. If it is one, the two may have exchanged their addresses: the silent one gets that which ``node_id`` had,
        and keeps its vote. A member in ``elsewhere``, which is known to be at another address by now, only loses its
        claim to this one; it will ask to be moved itself.
        """
        raft = self._raft
        if raft.role is not LEADER:
            return Change.NOT_LEADER
        configuration = raft.configuration
        if node_id == raft.node_id and node_id not in configuration.members:
            return Change.NOT_LEADER  # its removal is committed or will be: the next leader may take it in again
        holders = [member for member, where in configuration.addresses if where == address and member != node_id]
        if address and holders and holders[0] in elsewhere:
            raft.propose_configuration(configuration.with_address(holders[0], ""))
            return Change.UNDER_WAY
        if address and holders:
            holder = holders[0]
            return Change.ADDRESS_TAKEN if self._is_in_reach(holder) else self._replace(holder, node_id, address)
        if node_id not in configuration.members:
            return self._take_in(node_id, address)
        if dict(configuration.addresses).get(node_id, "") != address:
            raft.propose_configuration(configuration.with_address(node_id, address))
        elif node_id in configuration.voters and self._is_settled:
            return Change.DONE
        return Change.UNDER_WAY

    def _take_in(self, node_id: int, address: str) -> Change:
        """A new learner, as soon as there is no other."""
        raft, configuration = self._raft, self._raft.configuration
        if configuration.learners:
            return self._make_room(configuration.learners[0])
        if len(configuration.members) >= MAX_MEMBERS:
            return Change.FULL
        raft.propose_configuration(configuration.with_learner(node_id, address))
        return Change.UNDER_WAY

    def _replace(self, holder: int, node_id: int, address: str) -> Change:
        """The member ``holder`` has the ``address`` at which ``node_id`` is, and does not answer."""
        raft, configuration = self._raft, self._raft.configuration
        if node_id not in configuration.members:
            return self._make_room(holder)
        if self._is_silent(holder):
            former = dict(configuration.addresses).get(node_id, "")
            raft.propose_configuration(configuration.with_address(holder, former if former != address else ""))
        return Change.UNDER_WAY

    def _make_room(self, member: int) -> Change:
        """Remove a member that is in the way of another, once it has said nothing for long enough."""
        return self.remove(member, Change.UNDER_WAY) if self._is_silent(member) else Change.UNDER_WAY

    def _is_silent(self, member: int) -> bool:
        """Whether another member has said nothing for so long that it may be taken for lost.

        To a leader that has just been elected, its election counts as a word: it does not know the living yet.
        """
        raft = self._raft
        timeouts = SILENT_LEARNER_TIMEOUTS if member in raft.configuration.learners else SILENT_VOTER_TIMEOUTS
        return raft.ticks - raft.progress[member].heard_at > timeouts * raft.settings.election_ticks

    def remove(self, node_id: int, done: Change = Change.DONE) -> Change:
        """Let ``node_id`` go; ``done`` once the group is without it."""
        raft = self._raft
        if raft.role is not LEADER:
            return Change.NOT_LEADER
        configuration = raft.configuration
        if node_id not in configuration.members:
            return done if self._is_settled else Change.UNDER_WAY
        if node_id in configuration.voters:
            if len(configuration.voters) == 1:
                return Change.LAST_VOTER
            if not self._leaves_a_quorum(node_id):
                return Change.NO_QUORUM
            if node_id == raft.node_id:
                self.hand_over()
                return Change.UNDER_WAY
        raft.propose_configuration(configuration.without(node_id))
        return Change.UNDER_WAY

    def set_roster(self, roster: bytes) -> Change:
        """Have the group agree on ``roster``; DONE once that is committed."""
        raft = self._raft
        if raft.role is not LEADER:
            return Change.NOT_LEADER
        if raft.configuration.roster == roster:
            return Change.DONE if self._is_settled else Change.UNDER_WAY
        raft.propose_configuration(replace(raft.configuration, roster=roster))
        return Change.UNDER_WAY

    def hand_over(self, target: int = NOBODY) -> bool:
        """Begin to transfer leadership to ``target``, or to the voter that has most of the log.

        False: not possible, or not to ``target`` while a transfer to another goes on. Without a target, one that goes
        on is what is wanted.
        """
        raft = self._raft
        if raft.role is not LEADER:
            return False
        if not target and raft.transfer_target:
            return True
        others = [voter for voter in raft.configuration.voters if voter != raft.node_id]
        best = max(
            others, key=lambda voter: (self._is_in_reach(voter), raft.progress[voter].match_index), default=NOBODY
        )
        return raft.transfer_leadership(target or best)

    def tick(self) -> None:
        """Watch the learners, and promote one that has caught up. To be called once a tick."""
        raft = self._raft
        if raft.role is not LEADER or not raft.configuration.learners:
            self._rounds.clear()
            return
        for learner in raft.configuration.learners:
            round_ = self._rounds.setdefault(learner, _Round(raft.last_index, raft.ticks))
            if raft.progress[learner].match_index < round_.target:
                continue
            is_short = raft.ticks - round_.began_at < raft.settings.election_ticks
            if is_short and raft.propose_configuration(raft.configuration.with_voter(learner)):
                return
            self._rounds[learner] = _Round(raft.last_index, raft.ticks)

    @property
    def _is_settled(self) -> bool:
        """Whether the configuration in effect is committed."""
        return self._raft.commit_index >= self._raft.configurations.current_index

    def _is_in_reach(self, voter: int) -> bool:
        raft = self._raft
        if voter == raft.node_id:
            return True
        progress = raft.progress[voter]
        return progress.acked_round > 0 and raft.ticks - progress.heard_at < raft.settings.election_ticks

    def _leaves_a_quorum(self, node_id: int) -> bool:
        rest = [voter for voter in self._raft.configuration.voters if voter != node_id]
        return sum(map(self._is_in_reach, rest)) >= quorum_size(len(rest))
