"""A check passes only on evidence. One for which an ordinary run has none is left out, and the coverage says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.judge.run_history import History, small_run
from tests.judge.test_group_verdict import evidence_of, whole
from zmqlab.judge import log_checks, promises
from zmqlab.judge.promises import UNSEEN
from zmqlab.judge.replay import Replayed
from zmqlab.judge.run_evidence import RunEvidence
from zmqlab.judge.verdict import Verdict, pass_verdict

TOLD = {"one log": "no log entry read twice", "one leader a term": "no leader heard"}


def names(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks}


def without(taken: RunEvidence) -> RunEvidence:
    """No leader was heard, and what read the log along came to no entry twice."""
    return replace(taken, leaders={}, compared=0)


@pytest.mark.parametrize(
    "check",
    [
        log_checks.one_log((), 0),
        promises.one_leader({}),
        promises.answers_agree(small_run(3).acknowledgements, Replayed()),
        promises.answers_agree((), Replayed()),
    ],
    ids=lambda check: check.name,
)
def test_nothing_is_no_evidence(check: promises.Check) -> None:
    """Each of them passed."""
    assert check.ok is None
    assert check.name in UNSEEN


def test_what_was_not_seen_is_left_out_and_told(run: History) -> None:
    """The verdict had three checks that were "kept" on nothing."""
    verdict = pass_verdict(without(evidence_of(run, 0)), max_replayed_commands=0)
    assert verdict.outcome == "passed", verdict
    assert set(verdict.unseen) == set(UNSEEN)
    assert not names(verdict) & UNSEEN.keys()
    assert {"nothing lost", "nothing twice", "nodes agree", "order agrees"} <= names(verdict)
    for said in UNSEEN.values():
        assert said in verdict.coverage


def test_a_broken_promise_is_told_however_little_was_seen(run: History) -> None:
    taken = replace(without(evidence_of(run, 0)), conflicts=("entry 3 differs",), leaders={1: {"node0", "node1"}})
    verdict = pass_verdict(taken)
    assert {check.name for check in verdict.checks if check.ok is False} == {"one log", "one leader a term"}


@pytest.mark.parametrize("nodes", [0, 3])
def test_entries_that_differed_in_the_run_are_told_without_a_log_at_its_end(run: History, nodes: int) -> None:
    """It was NOT JUDGED, and the verdict did not name what the nodes had contradicted each other in."""
    whole = evidence_of(run, 0)
    taken = replace(whole, log=None, nodes=whole.nodes[:nodes], compared=9, conflicts=("entry 3 differs",))
    verdict = pass_verdict(taken)
    assert verdict.outcome == "failed", verdict
    assert "entry 3 differs" in repr(verdict)


def test_what_no_group_has_seen_is_told_of_all_of_them(run: History) -> None:
    groups = {group: without(evidence_of(run, group)) for group in range(2)}
    verdict = pass_verdict(whole(groups))
    assert verdict.outcome == "passed", verdict
    for name, said in TOLD.items():
        assert name not in names(verdict)
        assert said in verdict.coverage
    seen = pass_verdict(whole(groups | {1: evidence_of(run, 1)}))
    (led,) = (check for check in seen.checks if check.name == "one leader a term")
    assert led.detail == "1 of 2 groups; in group 1: leaders seen in 1 term"
    assert TOLD["one leader a term"] not in seen.coverage
