"""What the verdict says of weak modes: which requests are lost, where logs part, which promises were never made."""

from __future__ import annotations

import pytest

from tests.judge.run_history import FakeNode, History, small_run
from zmqlab.judge import promises
from zmqlab.judge.log_differences import describe, where_logs_part
from zmqlab.judge.promises import Acknowledgement, RunTotals
from zmqlab.judge.replay import LogEntry, Replayed, replay
from zmqlab.judge.verdict import judge
from zmqlab.replica.replications import REPLICATIONS


def test_lost_requests_are_named_in_runs_and_listed_one_by_one(run: History) -> None:
    kept = [entry for entry in run.entries if entry.log_index <= 12 or entry.log_index in (20, 21)]
    check = promises.nothing_lost(run.acknowledgements[:-1], replay(kept, 0))
    client_id = run.acknowledgements[0].client_id
    assert not check.ok
    assert f"requests 11 to 17 of client {client_id} (index 13 to 19)" in check.detail
    assert len(check.requests) == 17
    assert check.requests[0] == (client_id, 11, 13, 0)


def test_a_single_lost_request_is_named_with_its_index() -> None:
    check = promises.nothing_lost([Acknowledgement(7, 3, 9, 0, 1, 0)], Replayed())
    assert check.detail == "acknowledged requests 1 not in the log: request 3 of client 7 (index 9)"


def test_nodes_whose_logs_part_are_told_from_which_index_on(run: History, nodes: list[FakeNode]) -> None:
    """However far apart they end: no rest at one index is waited for in vain."""
    other = nodes[2].entries[24]
    nodes[2].entries[14:] = [other._replace(log_index=15)]
    nodes[2].index = nodes[2].status.applied_index = 15
    nodes[2].chain_hash = "00" * 16
    verdict = judge([node.endpoint for node in nodes], run.acknowledgements, settle_s=0.2, mismatches=2)
    (agree,) = [check for check in verdict.checks if check.name == "nodes agree"]
    assert agree.ok is False
    assert "the logs differ from index 15 on: there node0 has request 13 of client 2, node1 has" in agree.detail
    assert "node2 has request 23 of client 2; hashes differed at 2 checkpoints" in agree.detail


def test_nodes_that_only_lag_have_not_parted(nodes: list[FakeNode]) -> None:
    del nodes[1].entries[14:]
    assert where_logs_part([node.endpoint for node in nodes]) is None


def test_logs_are_compared_from_where_all_of_them_begin(nodes: list[FakeNode]) -> None:
    nodes[0].first_index = 13
    nodes[1].entries[20] = nodes[1].entries[20]._replace(term=2)
    parting = where_logs_part([node.endpoint for node in nodes])
    assert parting is not None
    assert parting.log_index == 21


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (LogEntry(1, 3, 0, b""), "no-op of term 3"),
        (LogEntry(1, 3, 1, b"junk"), "bytes that are no request"),
        (small_run(1).entries[1], "a new session"),
        (small_run(1).entries[2], "request 1 of client 2"),
    ],
)
def test_an_entry_is_described_to_people(entry: LogEntry, said: str) -> None:
    assert describe(entry) == said


def test_a_promise_that_was_never_made_is_broken_all_the_same(run: History, nodes: list[FakeNode]) -> None:
    run.acknowledgements.append(run.acknowledgements[-1]._replace(request_number=31))
    verdict = judge([node.endpoint for node in nodes], run.acknowledgements, settle_s=0.2)
    weak = verdict.of_replication("leader-ack")
    assert weak.outcome == verdict.outcome == "failed"
    assert verdict.lost == ((2, 31, run.acknowledgements[-1].log_index, 0),)
    lost = {check.name: check.detail for check in weak.checks}["nothing lost"]
    assert lost.endswith("(replication leader-ack does not promise this)")
    assert verdict.of_replication("raft") == verdict == verdict.of_replication("mymodule:Mine")


def test_only_raft_promises_all() -> None:
    names = {kind.name for kind in REPLICATIONS if not kind.not_promised}
    assert names == {"raft"}


def test_of_requests_that_no_client_waits_for_those_are_named_that_are_not_applied(run: History) -> None:
    totals = RunTotals((2,), 0, 0, 0, 0, False, unwaited=(30,))
    assert promises.run_complete(totals).ok
    assert promises.totals_agree(totals, replay(run.entries, 0)).ok
    more = totals._replace(unwaited=(33,))
    check = promises.totals_agree(more, replay(run.entries, 0))
    assert check.name == "sent is applied"
    assert not check.ok
    assert "3 of 33 requests were sent and are not applied" in check.detail
    assert "requests 31 to 33 of client 2" in check.detail
