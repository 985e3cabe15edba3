"""Several Raft groups are judged one by one: a promise that one of them breaks fails the run, and names the group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.judge.run_history import FakeNode, History, small_run
from zmqlab.judge import promises
from zmqlab.judge.evidence import Acknowledgements, LogPiece
from zmqlab.judge.live_count import SoFar, over_groups
from zmqlab.judge.promises import NodeEvidence, RunTotals
from zmqlab.judge.run_evidence import RunEvidence, hosts_of_groups
from zmqlab.judge.verdict import Verdict, pass_verdict
from zmqlab.load.run_record import RECORD
from zmqlab.runs.kept_files import of_fields
from zmqlab.wire.node_status import GroupBrief

GROUPS = (0, 1, 2)


def nodes_of(history: History) -> list[NodeEvidence]:
    machine = history.machine
    said = machine.applied_index, machine.chain.hex(), machine.state_hash().hex(), machine.orders_applied
    return [NodeEvidence(f"node{number}", *said, 3) for number in range(3)]


def evidence_of(history: History, group: int) -> RunEvidence:
    return RunEvidence(
        acknowledgements=list(history.acknowledgements),
        asked=3,
        nodes=nodes_of(history),
        log=LogPiece(1, list(history.entries)),
        leaders={1: {"node0"}},
        group=group,
    )


@pytest.fixture
def histories() -> dict[int, History]:
    """Their sessions have the same ids, and their requests the same numbers: those are of a group."""
    return {group: small_run(seed=group + 1) for group in GROUPS}


def whole(groups: dict[int, RunEvidence]) -> RunEvidence:
    acknowledgements = [ack for each in groups.values() for ack in each.acknowledgements]
    totals = RunTotals((2,) * len(groups), len(acknowledgements), 2 * len(acknowledgements), 0, 0, True)
    return RunEvidence(acknowledgements=acknowledgements, asked=5, nodes=(), log=None, totals=totals, groups=groups)


def judged(histories: dict[int, History], **changed: RunEvidence) -> Verdict:
    groups = {group: evidence_of(history, group) for group, history in histories.items()}
    return pass_verdict(whole(groups | {int(name[1:]): each for name, each in changed.items()}))


def checks(verdict: Verdict) -> dict[str, tuple[bool | None, str]]:
    return {check.name: (check.ok, check.detail) for check in verdict.checks}


def test_an_honest_run_passes_in_all_groups(histories: dict[int, History]) -> None:
    verdict = judged(histories)
    assert verdict.outcome == "passed"
    assert list(verdict.groups) == [0, 1, 2]
    assert all(each.outcome == "passed" for each in verdict.groups.values())
    told = checks(verdict)
    assert told["nothing lost"][1].startswith("all 3 groups; in group 0: all 30 acknowledged requests")
    assert sum(name == "run complete" for name in (check.name for check in verdict.checks)) == 1
    assert "90 of 90 acknowledged requests" in verdict.coverage
    assert "of 3 groups" in verdict.coverage
    assert verdict.commands == (180, 180)


def test_an_order_that_one_group_lost_fails_the_run_and_names_the_group(histories: dict[int, History]) -> None:
    groups = {group: evidence_of(history, group) for group, history in histories.items()}
    ack = groups[2].acknowledgements[-1]._replace(request_number=99)
    broken = replace(groups[2], acknowledgements=[*groups[2].acknowledgements, ack])
    verdict = judged(histories, g2=broken)
    assert verdict.outcome == "failed"
    ok, detail = checks(verdict)["nothing lost"]
    assert ok is False
    assert detail.startswith("group 2: acknowledged requests 1 not in the log")
    assert verdict.lost == ((2, 99, ack.log_index, 2),)
    assert verdict.groups[1].outcome == "passed"


def test_lost_requests_of_two_groups_are_told_apart(
    histories: dict[int, History], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were joined without their group: client 2 had lost request 99 twice, and none knew of which group."""
    groups = {group: evidence_of(history, group) for group, history in histories.items()}
    lost = [each.acknowledgements[-1]._replace(request_number=99) for each in groups.values()]
    broken = {f"g{group}": replace(each, acknowledgements=[lost[group]]) for group, each in groups.items()}
    verdict = judged(histories, **broken)
    assert [each.group for each in verdict.lost] == [0, 1, 2]
    assert len(set(verdict.lost)) == 3
    assert verdict.groups[1].lost == (verdict.lost[1],)
    monkeypatch.setattr(promises, "LISTED", 2)
    assert len(judged(histories, **broken).lost) == 2


def test_a_lost_request_that_was_kept_without_its_group_is_read() -> None:
    kept = {"name": "nothing lost", "ok": False, "detail": "", "requests": [[2, 99, 7]]}
    assert of_fields(promises.Check, kept).requests == (promises.LostRequest(2, 99, 7, group=0),)


def test_evidence_of_another_group_does_not_count(histories: dict[int, History]) -> None:
    """Same session id, same number, same index: and not the same order."""
    groups = {group: evidence_of(history, group) for group, history in histories.items()}
    mixed = replace(groups[1], acknowledgements=groups[0].acknowledgements)
    told = checks(judged(histories, g1=mixed))
    assert told["nothing lost"][0] is False
    assert "group 1" in told["nothing lost"][1]


def test_two_leaders_of_a_term_in_two_groups_are_no_broken_promise(histories: dict[int, History]) -> None:
    groups = {group: evidence_of(history, group) for group, history in histories.items()}
    other = replace(groups[1], leaders={1: {"node2"}})
    assert judged(histories, g1=other).ok
    both = replace(groups[1], leaders={1: {"node1", "node2"}})
    assert checks(judged(histories, g1=both))["one leader a term"] == (False, "group 1: in term 1 node1 and node2 led")


def test_a_group_that_no_node_answers_for_is_not_judged(histories: dict[int, History]) -> None:
    silent = RunEvidence(acknowledgements=[], asked=1, nodes=(), log=None, log_problem="no node answered", group=1)
    verdict = judged(histories, g1=silent)
    assert verdict.outcome == "not judged"
    assert checks(verdict)["nodes agree"][1].startswith("group 1: ")


def test_what_lies_before_the_logs_of_groups_is_not_said_to_be_covered(histories: dict[int, History]) -> None:
    groups = {group: evidence_of(history, group) for group, history in histories.items()}
    shorter = replace(groups[1], log=LogPiece(11, histories[1].entries[10:]))
    verdict = judged(histories, g1=shorter)
    assert verdict.coverage.startswith("82 of 90 acknowledged requests; the others lie before the log"), "it said 90"


def test_states_that_differ_in_many_groups_are_told_in_one_line(histories: dict[int, History]) -> None:
    groups = {group: evidence_of(history, group) for group, history in histories.items()}
    broken = {f"g{group}": replace(each, mismatches=1) for group, each in groups.items()}
    ok, detail = checks(judged(histories, **broken))["nodes agree"]
    assert ok is False
    assert detail.endswith("and 1 more group")


def test_the_ledger_is_read_by_group() -> None:
    rows = [(2, number, number + 2, 0, 1, 1, 7, 8, 0, 0, 0, group) for group in (0, 5) for number in (1, 2, 3)]
    ledger = np.array(rows, RECORD).tobytes()
    assert len(Acknowledgements(ledger)) == 6
    assert [ack.request_number for ack in Acknowledgements(ledger, 5)] == [1, 2, 3]
    assert not len(Acknowledgements(ledger, 1))


def test_an_old_ledger_is_of_group_0() -> None:
    """The record is as long as it was: the high bytes of node and flags, which were 0, are clock and group."""
    kinds = {"node": "<u2", "flags": "<u2"}
    old = np.dtype([(name, kinds.get(name, kind)) for name, kind in RECORD.descr if name not in ("clock", "group")])
    assert old.itemsize == RECORD.itemsize == 56
    kept = np.array([(2, 1, 3, 0, 1, 1, 7, 8, 4, 1)], old).tobytes()
    (row,) = np.frombuffer(kept, RECORD)
    assert (row["node"], row["flags"], row["group"]) == (4, 1, 0)


def test_a_node_that_does_not_answer_may_hold_any_group() -> None:
    with FakeNode("node0", small_run(3)) as node:
        node.status.groups = [GroupBrief(number=number, role="follower", term=1, leader_id=1) for number in (0, 2)]
        silent = "tcp://127.0.0.1:1"
        assert hosts_of_groups([node.endpoint], 3) == {0: [node.endpoint], 1: [], 2: [node.endpoint]}
        assert hosts_of_groups([node.endpoint, silent], 2)[1] == [silent]


def test_what_is_lost_so_far_adds_up_over_groups() -> None:
    found = over_groups([SoFar(acknowledged=5, looked_up=4, lost=1, twice=0, age_s=2.0), SoFar(looked_up=3, twice=2)])
    assert (found.acknowledged, found.looked_up, found.lost, found.twice, found.age_s) == (5, 7, 1, 2, 2.0)
    assert over_groups([SoFar(twice=1), SoFar(twice=None)]).twice is None
