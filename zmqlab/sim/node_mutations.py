"""Bugs to plant in what a node decides outside of consensus: members, requests, answers, closing, links, connections,
and snapshots that are made in many turns; and in followers that commit by themselves.

Each stands for a kind of bug that the simulator had not found, and for which a checker was added since.
"""

from __future__ import annotations

from zmqlab.engine import answers, departure, engine, first_start, group, lifecycle, link_faults, peers
from zmqlab.market import exchange, market_state
from zmqlab.raft import append_entries, configuration, election, reads, state
from zmqlab.replica import raft_by_quorum, record_journal, replica, sessions, snapshotting, waiting_reads
from zmqlab.sim.mutations import Mutation
from zmqlab.sim.plan import SimSettings

NODE_MUTATIONS = (
    Mutation(
        "learners that keep a leader in office",
        election.check_quorum,
        (
            (
                "heard = sum(voter == own or progress[voter].heard_at > since for voter in voters)",
                "heard = 1 + sum(each.heard_at > since for each in progress.values())",
            ),
        ),
        120,
    ),
    Mutation(
        "learners that raise the quorum of an election",
        election._count_votes,
        (
            (
                "quorum = quorum_size(len(voters))",
                "quorum = min(len(voters), quorum_size(len(raft.configuration.members)))",
            ),
        ),
        120,
    ),
    Mutation(
        "an election lost for want of one more vote than a majority",
        election._count_votes,
        (("if granted >= quorum:", "if granted > quorum or granted == len(voters):"),),
        20,
    ),
    Mutation(
        "a leader that commits what all have stored",
        state.RaftState.stored_by_enough,
        (("return quorum_value(", "return min("),),
        20,
    ),
    Mutation(
        "a node that never campaigns once it has its own removal",
        election._may_campaign,
        (("raft.may_lead", "raft.is_voter"),),
        60,
        SimSettings(focus="members"),
    ),
    Mutation(
        "a promotion that may still be taken back ends the asking to be taken in",
        lifecycle.Joining.is_wanted,
        (("in_for_sure = is_here and settled and told", "in_for_sure = is_here and told"),),
        60,
    ),
    Mutation(
        "answers that came within a snapshot given later",
        replica.Replica.follow_up,
        (("self._settle_pending()", "pass"),),
        60,
    ),
    Mutation(
        "founders that begin when a majority of them has met",
        first_start.Assembly._meet,
        (
            (
                "is_complete = len(founders) == len(self._settings.peers) + 1",
                "is_complete = 2 * len(founders) > len(self._settings.peers) + 1",
            ),
            ("if is_complete and all(dict(met) == founders for *_, met in there):", "if is_complete:"),
        ),
        20,
    ),
    Mutation(
        "a second learner taken in",
        raft_by_quorum.Members._take_in,
        (("if configuration.learners:", "if False:"),),
        60,
    ),
    Mutation(
        "a copy proposed while the first one stands in the log",
        replica.Replica._propose_as_leader,
        (("if key not in proposed and not (key[0] and is_done(*key))}", "}"),),
        10,
    ),
    Mutation(
        "an applied copy of an older term taken for the one of this term",
        replica.Replica._apply,
        (("if entry.term == self._proposed_in:", "if True:"),),
        300,
        SimSettings(focus="sessions"),
    ),
    Mutation(
        "a late request not sent again",
        replica.Replica._resend_late,
        ((">= min(", ">= 1e9 * min("),),
        240,
    ),
    Mutation(
        "requests that a snapshot answers left waiting",
        replica.Replica._settle_pending,
        (("sessions.is_done(*key)]", "sessions.is_over(*key)]"),),
        120,
    ),
    Mutation(
        "a read that fails and is not answered",
        waiting_reads.WaitingReads.take,
        (("read.finish(False)", "pass"),),
        10,
    ),
    Mutation(
        "the hash of an old state told for a new one",
        snapshotting.Snapshotting.hash_state,
        (
            ("log_index == self._machine.applied_index", "log_index >= self._machine.applied_index - 16"),
            (
                "finish(self._hashed)",
                "finish(HashedState(self._machine.applied_index, self._machine.chain, self._hashed.state_hash))",
            ),
        ),
        20,
    ),
    Mutation(
        "a removal called done before it is committed",
        answers.Answers._outcome,
        (("if change is Change.DONE:", "if change in (Change.DONE, Change.UNDER_WAY):"),),
        300,
    ),
    Mutation(
        "a node that ends without the answers that it owes",
        departure.Closing.begin,
        (("self._ticks_left = self._drain_ticks", "self._ticks_left = 0"),),
        20,
    ),
    Mutation(
        "the bytes of a request that comes again counted twice",
        replica.Replica.take_request,
        (("self._forget(key)", "self.pending.pop(key, None)"),),
        100,
        SimSettings(focus="forwards"),
    ),
    Mutation(
        "a cut link that lets strangers through",
        link_faults.LinkFaults._address,
        ((' or self._guests.get(sender, "")', ""),),
        450,
    ),
    Mutation(
        "an address subscribed to again at each change of the members",
        peers.Connections.want,
        (("for address in sorted(heard - self._subscribed):", "for address in sorted(heard):"),),
        10,
    ),
    Mutation(
        "a read confirmed by words that are older than it",
        reads.start_batch,
        (("ReadBatch(raft.round + 1,", "ReadBatch(raft.round,"),),
        10,
    ),
    Mutation(
        "a refused pre-vote that tells no term",
        election.admit,
        (("message.pre_vote and message.granted:", "message.pre_vote:"),),
        20,
    ),
    Mutation(
        "a new leader that takes all voters for living",
        raft_by_quorum.Members._is_in_reach,
        (("progress.acked_round > 0 and ", ""),),
        50,
        SimSettings(focus="members"),
    ),
    Mutation(
        "a removal called done as soon as it is in the log",
        raft_by_quorum.Members.remove,
        (("return done if self._is_settled else Change.UNDER_WAY", "return done"),),
        10,
        SimSettings(focus="members"),
    ),
    Mutation(
        "frames kept again and again while there is no leader",
        replica.Replica._propose,
        (("self._to_propose = self._pending_frames()", "pass"),),
        10,
    ),
    Mutation(
        "a node that believes the log that it had when it started",
        lifecycle.Joining.is_wanted,
        ((" and replication.configuration_index > self._began_at", ""),),
        100,
        SimSettings(focus="moves", nodes=3),
    ),
    Mutation(
        "a log that is told up to its end",
        answers.Answers._log,
        (("replica.machine.applied_index, most", "replica.replication.last_index, most"),),
        10,
    ),
    Mutation(
        "the first life that was heard of counts",
        answers.Answers._is_late,
        (
            (
                "newest = max(wish, self._wishes.pop(query.node_id, wish))",
                "newest = self._wishes.pop(query.node_id, wish)",
            ),
            ("return wish < newest", "return leaves and wish[0] != newest[0]"),
        ),
        100,
        SimSettings(focus="moves"),
    ),
    Mutation(
        "a truncated change of the members that stays in effect",
        configuration.ConfigurationHistory.truncate,
        (("self._stack[-1][0] >= from_index", "self._stack[-1][0] > from_index"),),
        30,
        SimSettings(focus="members"),
    ),
    Mutation(
        "the own vote of a node that is no voter",
        election._count_votes,
        (("granted = sum(raft.votes.get(voter) is True for voter in voters)", "granted = sum(raft.votes.values())"),),
        600,
        SimSettings(focus="members", nodes=3),
    ),
    Mutation(
        "a follower left alone with what got lost on the way to it",
        append_entries.heartbeat,
        ((" or progress.inflight:", ":"),),
        200,
    ),
    Mutation(
        "a node that can not answer a leader that it does not know",
        peers.Peers._connect,
        ((", *self._guests.items())", ")"),),
        10,
    ),
    Mutation(
        "a frozen state whose quantities change",
        market_state.MarketState._note_quantity,
        (("changed.setdefault(id(order), order[QUANTITY])", "pass"),),
        200,
        SimSettings(focus="snapshots"),
    ),
    Mutation(
        "a session that is changed while it is frozen",
        sessions.SessionTable.admit,
        (("session = session.copy(self._generation)", "session.generation = self._generation"),),
        200,
        SimSettings(focus="snapshots"),
    ),
    Mutation(
        "a snapshot said to be of the index at which it was finished",
        snapshotting.Snapshotting._make_some,
        (("replace(head, data=making.data.getvalue())", "self._replication.make_snapshot(making.data.getvalue())"),),
        20,
        SimSettings(focus="snapshots"),
    ),
    Mutation(
        "a part of a snapshot that is written twice",
        record_journal.RecordJournal.stage_snapshot,
        (("staged.rest = bytearray()", "pass"),),
        100,
        SimSettings(focus="snapshots"),
    ),
    Mutation(
        "a read index that followers may be ahead of",
        reads.start_batch,
        (("max(raft.commit_index, raft.claimed_index)", "raft.commit_index"),),
        200,
        SimSettings(focus="reads"),
    ),
    Mutation(
        "two copies of an older term's entry counted by a follower",
        append_entries.commit_with_leader,
        ((" or raft.log.term_at(index) != raft.term", ""),),
        200,
        SimSettings(focus="figure-8", nodes=3),
    ),
    Mutation(
        "a leader that says it has stored what it is about to store",
        append_entries._send_append,
        (("(raft.send_stored if claim > raft.log.stored_index else raft.send_now)", "raft.send_now"),),
        200,
    ),
    Mutation(
        "a learner that counts its own copy",
        append_entries.commit_with_leader,
        (("(raft.node_id in voters)", "1"),),
        200,
        SimSettings(focus="members"),
    ),
    Mutation(
        "a follower that waits for its leader to say what it could count",
        append_entries.commit_with_leader,
        (("copies >= quorum_size(len(voters))", "copies > quorum_size(len(voters))"),),
        20,
    ),
    Mutation(
        "a learner that is told of a commit by the next heartbeat",
        append_entries._owes_notice,
        (("raft.configuration.learners", "False"),),
        200,
    ),
    Mutation(
        "a change of the members that only those are told who wait",
        append_entries._concerns_all,
        (("max(raft.term_start_index, raft.configurations.current_index)", "raft.term_start_index"),),
        200,
    ),
    Mutation(
        "a follower with a client to answer that is told of a commit by the next heartbeat",
        append_entries._to_tell,
        (("told < raft.waiting[node_id] and ", "False and "),),
        200,
    ),
    Mutation(
        "what an earlier leader had stored counted as the copy of the next one",
        state.RaftState.enter_term,
        (("self.countable_index = 0", "pass"),),
        200,
        SimSettings(focus="figure-8", nodes=3),
    ),
    Mutation(
        "a campaign without a pre-vote when the leader's process ends",
        election.lose_leader,
        (("start_pre_vote(raft)", "start_election(raft, forced=False)"),),
        60,
    ),
    Mutation(
        "the end of any peer taken for that of the leader",
        group.Group.on_peer_gone,
        (("if is_leader_there and", "if"),),
        250,
    ),
    Mutation(
        "the end of a leader's process believed again and again",
        election.lose_leader,
        ((" or raft.ticks < raft.early_due", ""),),
        60,
    ),
    Mutation(
        "a learner that acts on the end of its leader's process",
        election.lose_leader,
        ((" or not raft.is_voter", ""), ("{*raft.configuration.voters}", "{*raft.configuration.members}")),
        120,
        SimSettings(focus="members"),
    ),
    Mutation(
        "a voter that has seen one end, and refuses no vote for the sake of a leader any more",
        election._hears_leader,
        (("raft.leader_id != NOBODY and", "raft.leader_id != NOBODY and not raft.early_due and"),),
        60,
    ),
    Mutation(
        "the symbol that became idle last is delisted",
        market_state.MarketState._hold,
        (("next(iter(self._idle))", "next(reversed(self._idle))"),),
        60,
        SimSettings(focus="market"),
    ),
    Mutation(
        "an order that changes twice while a state is frozen",
        market_state.MarketState._note_quantity,
        (("changed.setdefault(id(order), order[QUANTITY])", "changed[id(order)] = order[QUANTITY]"),),
        150,
        SimSettings(focus="market"),
    ),
    Mutation(
        "a replaced order counted twice",
        exchange.Exchange._replace,
        (("    self._uncount(order)", "    pass"),),
        60,
        SimSettings(focus="market"),
    ),
    Mutation(
        "idle symbols sorted in a snapshot",
        market_state.MarketState.freeze,
        (("in self._idle.items()]", "in sorted(self._idle.items())]"),),
        60,
        SimSettings(focus="market"),
    ),
    Mutation(
        "a copied session that shares its answers",
        sessions.Session.copy,
        (("responses=dict(self.responses), ", ""),),
        60,
    ),
    Mutation(
        "a transfer that was broken off counts as under way for ever",
        snapshotting.Snapshotting._is_receiving,
        (("self._receiving = None", "pass"),),
        120,
        SimSettings(focus="moves"),
    ),
    Mutation(
        "questions for a hash that come late dropped",
        snapshotting.Snapshotting._hash_some,
        (("if waiting:", "if False:"),),
        60,
        SimSettings(focus="market"),
    ),
    Mutation(
        "a seed that joins only a cluster that has a leader",
        first_start.Founding._meet,
        (("if status.members:", "if status.members and status.leader_id:"),),
        60,
        SimSettings(focus="seeds"),
    ),
    Mutation(
        "a tick that passes after it is decided what a node is",
        engine.Engine._tick,
        (("if self._first_start.origin is None:", "if True:"),),
        60,
    ),
    Mutation(
        "a node that is in keeps its question open",
        lifecycle.Joining.tick,
        (("self._asker.close()", "pass"),),
        30,
    ),
)
"""All of them, each found within its ``seeds_max``."""
