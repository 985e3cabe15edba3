"""The simulator finds what is there: every planted bug within its stated number of seeds, and by the checker meant."""

from __future__ import annotations

import pytest

from zmqlab.sim import run
from zmqlab.sim.causes import Causes
from zmqlab.sim.mutations import MUTATIONS, planted
from zmqlab.sim.node_mutations import NODE_MUTATIONS
from zmqlab.sim.raft_rules import Commitment

pytestmark = pytest.mark.long

ALL = (*MUTATIONS, *NODE_MUTATIONS)

SAFETY = (
    "leader completeness",
    "state-machine safety",
    "election safety",
    "both lead",
    "log matching",
    "linearizable reads",
)
"""Whichever of these sees a broken log first."""
BY_CHECKER = {
    "1 an older term's entries counted as committed": SAFETY,
    "2 commit index moved past what the message verified": SAFETY,
    "3 a stale AppendEntries truncates good entries": ("progress", "AssertionError in follower", *SAFETY),
    "4 the conflicting entry replaced, its tail kept": ("AssertionError in log.py",),
    "5 the vote not stored": ("one vote a term",),
    "5 term and vote stored only along with entries": ("one vote a term", "log matching"),
    "5 term and entries stored one after the other": ("AssertionError in invariants.py",),
    "6 the vote cleared within the same term": ("one vote a term",),
    "7 a repeated vote counted twice": SAFETY,
    "8 acknowledged before one's own journal write": ("one vote a term", *SAFETY),
    "9 a read served without asking whether one still leads": ("linearizable reads",),
    "9 a read served before the leader has committed in its term": ("linearizable reads",),
    "9 a read served before the read index is applied": ("linearizable reads",),
    "9 a read served by the answer to a read of an earlier life": ("linearizable reads",),
    "10 a message of an older term left without an answer": ("progress",),
    "10 no pre-vote: a node that comes back disrupts": ("disruption",),
    "11 a membership change before the leader's own term committed": SAFETY,
    "11 a snapshot without the membership": ("the log does not say so", "final state", "membership", *SAFETY),
    "12 a compacted previous entry taken for a conflict": ("log matching",),
    "12 an old snapshot over newer state": ("falls back",),
    "12 the sessions missing from a snapshot": ("state: ", "state-machine safety", "answers"),
    "a frozen state whose quantities change": ("snapshot: ", "state: ", "linearizable reads", "hashes: ", *SAFETY),
    "a session that is changed while it is frozen": ("hashes: ", "takes its sound journal", "snapshot: ", *SAFETY),
    "a part of a snapshot that is written twice": ("takes its sound journal",),
    "a snapshot that forgets in which order sessions were used": ("state: ", "state-machine safety", "answers"),
    "half the voters taken for a quorum": SAFETY,
    "a vote for a log that is not up to date": SAFETY,
    "an answered request carried out again": ("AssertionError in sessions.py",),
    "a session that is used does not become the most recently used one": ("answers",),
    "the journal's transaction torn: entries without the term": ("AssertionError in invariants.py",),
    "a record whose checksum is not looked at": ("journal", "AssertionError in invariants.py", *SAFETY),
    "a disk that says it has flushed and has not": ("falls back", "one vote a term", *SAFETY),
    "the trades missing from a restored book": ("state: ", "final state"),
    "a read index that followers may be ahead of": ("linearizable reads",),
    "two copies of an older term's entry counted by a follower": SAFETY,
    "what an earlier leader had stored counted as the copy of the next one": ("AssertionError in invariants.py",),
    "a deaf leader that stays in office": ("stay deaf",),
    "a leader counts itself twice among those it has heard": ("stay deaf",),
    "a read that waits for all followers": ("progress: ",),
    "a transfer to a node that is gone never given up": ("progress: ",),
    "a late request not sent again": ("owes the answers",),
    "requests that a snapshot answers left waiting": ("at once: ",),
    "answers that came within a snapshot given later": ("at once: ",),
    "a read that fails and is not answered": ("queries: ",),
    "the hash of an old state told for a new one": ("hashes: ",),
    "a removal called done before it is committed": ("closing: ", "progress: "),
    "a node that ends without the answers that it owes": ("closing: ",),
    "the bytes of a request that comes again counted twice": ("busy: ",),
    "a cut link that lets strangers through": ("links: ",),
    "founders that begin when a majority of them has met": ("founding: ",),
    "an address subscribed to again at each change of the members": ("subscribes to",),
    "a log that is told up to its end": ("log: ",),
    "frames kept again and again while there is no leader": ("bounds: ",),
    "a follower left alone with what got lost on the way to it": ("progress: ",),
    "a node that can not answer a leader that it does not know": ("progress: ",),
    "a campaign without a pre-vote when the leader's process ends": ("disruption: ",),
    "the end of any peer taken for that of the leader": ("disruption: ",),
    "a replaced order counted twice": ("answers: ",),
    "a transfer that was broken off counts as under way for ever": ("upkeep: ",),
    "questions for a hash that come late dropped": ("owes the answers to",),
    "a seed that joins only a cluster that has a leader": ("founding: ",),
    "a tick that passes after it is decided what a node is": ("founding: ", "which it has nothing to ask"),
    "a node that is in keeps its question open": ("which it has nothing to ask",),
}
"""By damage: the checkers, or assertions of the code itself, that a bug breaks when no checker looks at causes."""
BY_CAUSE = {
    "a snapshot said to be of the index at which it was finished": ("with the state at",),
    "1 an older term's entries counted as committed": ("commit rule",),
    "3 a stale AppendEntries truncates good entries": ("stored before sent", "AssertionError in follower"),
    "5 the vote not stored": ("stored before sent",),
    "5 term and vote stored only along with entries": ("stored before sent",),
    "7 a repeated vote counted twice": ("election by majority",),
    "8 acknowledged before one's own journal write": ("stored before sent",),
    "9 a read served without asking whether one still leads": ("read confirmed: ", "read index"),
    "9 a read served before the leader has committed in its term": ("read index",),
    "9 a read served before the read index is applied": ("read index",),
    "9 a read served by the answer to a read of an earlier life": ("numbers: ",),
    "11 a membership change before the leader's own term committed": ("membership: ",),
    "11 a snapshot without the membership": ("snapshot: ",),
    "12 the sessions missing from a snapshot": ("snapshot: ", "state: "),
    "half the voters taken for a quorum": ("commit rule", "election by majority"),
    "a vote for a log that is not up to date": ("up-to-date vote",),
    "the journal's transaction torn: entries without the term": ("stored before sent",),
    "the trades missing from a restored book": ("snapshot: ", "state: "),
    "a vote without a look at the log": ("up-to-date vote",),
    "a pre-vote without a look at the log": ("up-to-date vote",),
    "logs compared by their length alone": ("up-to-date vote",),
    "learners counted among those that commit": ("commit rule",),
    "a snapshot that names members who are not committed at its index": ("snapshot: ",),
    "an acknowledgement that does not wait for the disk": ("stored before sent",),
    "a chunk of a snapshot acknowledged before it is stored": ("stored before sent",),
    "an acknowledgement up to the end of the log, verified or not": ("acknowledgement: ", "AssertionError in ack"),
    "a term that leaves before it is stored": ("stored before sent", "election by majority"),
    "a leader that tells two nodes to campaign": ("transfer: ",),
    "leadership handed to a node that lacks entries": ("transfer: ",),
    "the members changed before the last change is committed": ("membership: ",),
    "a read index that is applied and not committed": ("read index",),
    "a read index that followers may be ahead of": ("read index",),
    "two copies of an older term's entry counted by a follower": ("commit rule",),
    "a leader that says it has stored what it is about to store": ("claim: ",),
    "a learner that counts its own copy": ("commit rule",),
    "a follower that waits for its leader to say what it could count": ("promptness: ",),
    "a learner that is told of a commit by the next heartbeat": ("promptness: ",),
    "a change of the members that only those are told who wait": ("promptness: ",),
    "a follower with a client to answer that is told of a commit by the next heartbeat": ("promptness: ",),
    "learners that keep a leader in office": ("check quorum",),
    "learners that raise the quorum of an election": ("promptness: ",),
    "an election lost for want of one more vote than a majority": ("promptness: ",),
    "a leader that commits what all have stored": ("promptness: ",),
    "a node that never campaigns once it has its own removal": ("promptness: ",),
    "a promotion that may still be taken back ends the asking to be taken in": ("joining: ",),
    "a second learner taken in": ("membership: ",),
    "a copy proposed while the first one stands in the log": ("copies: ",),
    "an applied copy of an older term taken for the one of this term": ("copies: ",),
    "a read confirmed by words that are older than it": ("read confirmed: ",),
    "a refused pre-vote that tells no term": ("terms: ",),
    "a new leader that takes all voters for living": ("removal: ",),
    "a removal called done before it is committed": ("word: ",),
    "a removal called done as soon as it is in the log": ("word: ",),
    "a node that believes the log that it had when it started": ("joining: ",),
    "the first life that was heard of counts": ("refusal: ",),
    "a truncated change of the members that stays in effect": ("snapshot: ", "membership: ", "commit rule"),
    "the own vote of a node that is no voter": ("election by majority",),
    "the end of a leader's process believed again and again": ("endings: ",),
    "a learner that acts on the end of its leader's process": ("endings: ",),
    "a voter that has seen one end, and refuses no vote for the sake of a leader any more": ("up-to-date vote",),
    "the symbol that became idle last is delisted": ("state: ", "snapshot: "),
    "an order that changes twice while a state is frozen": ("snapshot: ", "hashes: "),
    "idle symbols sorted in a snapshot": ("state: ",),
    "a copied session that shares its answers": ("snapshot: ", "hashes: "),
}
"""By cause: the rule whose breach is seen as it happens. The first ones do damage too, and stand above as well."""


def test_each_planted_bug_has_its_checkers() -> None:
    assert [mutation.name for mutation in ALL if mutation.name not in {**BY_CHECKER, **BY_CAUSE}] == []


@pytest.mark.parametrize("name", BY_CHECKER)
def test_a_planted_bug_does_damage_that_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any seed of the window will do, as long as the right checker speaks; the sound code has no failing seed."""
    for method in (
        "heard",
        "forgot",
        "sent",
        "stored",
        "loaded",
        "applied",
        "led",
        "took_turn",
        "keeps",
        "has",
        "read_begins",
        "read_served",
    ):
        monkeypatch.setattr(Causes, method, lambda *_: None)
    monkeypatch.setattr(Commitment, "agrees", lambda *_: True)  # it knows only what the causes are told
    assert_seen(name, BY_CHECKER[name])


@pytest.mark.parametrize("name", BY_CAUSE)
def test_a_planted_bug_is_seen_at_its_cause(name: str) -> None:
    assert_seen(name, BY_CAUSE[name])


def assert_seen(name: str, checkers: tuple[str, ...]) -> None:
    """Within the bug's window a run fails, and one of ``checkers`` says why. Others may speak in other runs."""
    mutation = next(each for each in ALL if each.name == name)
    said = set()
    with planted(mutation):
        for seed in range(1, 1 + mutation.seeds_max):
            failure = run(seed, mutation.settings).failure
            if any(checker in failure for checker in checkers):
                return
            said.add(failure)
    raise AssertionError(f"within {mutation.seeds_max} seeds none of {checkers} has spoken, but {said - {''}}")


def test_a_planted_bug_is_gone_afterwards() -> None:
    mutation = next(each for each in ALL if each.name.startswith("an answered request"))
    with planted(mutation):
        failing = next(seed for seed in range(1, 1 + mutation.seeds_max) if not run(seed).ok)
    assert run(failing).ok
