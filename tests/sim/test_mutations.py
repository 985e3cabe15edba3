"""The simulator finds what is there: every planted bug within its stated number of seeds, and by the checker meant."""

from __future__ import annotations

import pytest

from zmqlab.sim import run
from zmqlab.sim.mutations import MUTATIONS, Mutation, planted

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
    "11 a snapshot without the membership": ("final state", "membership", *SAFETY),
    "12 a compacted previous entry taken for a conflict": ("log matching",),
    "12 an old snapshot over newer state": ("falls back",),
    "12 the sessions missing from a snapshot": ("state-machine safety", "answers"),
    "a snapshot that forgets in which order sessions were used": ("state-machine safety", "answers", "final state"),
    "half the voters taken for a quorum": SAFETY,
    "a vote for a log that is not up to date": SAFETY,
    "an answered request carried out again": ("AssertionError in sessions.py",),
    "a session that is used does not become the most recently used one": ("answers",),
    "the journal's transaction torn: entries without the term": ("AssertionError in invariants.py",),
    "a record whose checksum nobody looks at": ("journal", "AssertionError in invariants.py", *SAFETY),
    "a disk that says it has flushed and has not": ("falls back", "one vote a term", *SAFETY),
    "the trades missing from a restored book": ("final state",),
}
"""What a failing run may say: the checkers, or assertions of the code itself, that such a bug breaks."""


def test_each_planted_bug_has_its_checkers() -> None:
    assert [mutation.name for mutation in MUTATIONS if mutation.name not in BY_CHECKER] == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_bug_is_found(mutation: Mutation) -> None:
    """Any seed of the window will do, as long as the right checker speaks; the sound code has no failing seed."""
    with planted(mutation):
        seeds = range(1, 1 + mutation.seeds_max)
        failures = (run(seed, mutation.settings).failure for seed in seeds)
        found = next((failure for failure in failures if failure), "")
    assert found, f"not found within {mutation.seeds_max} seeds"
    assert any(checker in found for checker in BY_CHECKER[mutation.name]), found


def test_a_planted_bug_is_gone_afterwards() -> None:
    mutation = next(each for each in MUTATIONS if each.name.startswith("an answered request"))
    with planted(mutation):
        failing = next(seed for seed in range(1, 1 + mutation.seeds_max) if not run(seed).ok)
    assert run(failing).ok
