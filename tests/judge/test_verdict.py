"""The verdict can fail: each promise is broken on purpose, in the evidence, and the right check catches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.judge.run_history import FakeNode, History, failed
from zmqlab.errors import RequestError
from zmqlab.judge import evidence
from zmqlab.judge import promises as checks
from zmqlab.judge.replay import LogEntry, Replayed
from zmqlab.judge.verdict import Verdict, judge
from zmqlab.wire.node_status import Member


def judged(run: History, nodes: list[FakeNode], **arguments: Any) -> Verdict:
    return judge([node.endpoint for node in nodes], run.acknowledgements, settle_s=0.2, **arguments)


def only_a_minority_is_left(nodes: list[FakeNode], last_index: int) -> FakeNode:
    """One of three voters, which has heard of the log up to an index only."""
    (node, *_) = nodes
    node.entries = node.entries[:last_index]
    node.index = node.status.applied_index = last_index
    node.status.members = [Member(node_id=each, name="", host="127.0.0.1", port=1) for each in range(3)]
    return node


def test_what_a_minority_has_not_is_not_lost(run: History, nodes: list[FakeNode]) -> None:
    """Two of three nodes had the last requests, and died. The verdict was "failed", though their journals have all."""
    node = only_a_minority_is_left(nodes, len(run.entries) - 10)
    node.status.orders_applied -= 18
    totals = checks.RunTotals((2,), requests=30, acknowledged=60, unanswered=4, unsent=9, served_to_the_end=False)
    verdict = judged(run, [node], totals=totals)
    assert verdict.outcome == "not judged", verdict
    (unknown,) = (check for check in verdict.checks if check.name == "majority asked")
    assert "1 of 3 voters told its state" in unknown.detail
    assert "before 9 acknowledged requests that the others may have" in unknown.detail
    assert "Restart nodes until a majority runs" in unknown.detail


def test_learners_are_in_no_majority(run: History, nodes: list[FakeNode]) -> None:
    """One voter of three and a learner answered, and were taken for a majority: what the others had was called lost."""
    last_index = len(run.entries) - 10
    for number, node in enumerate(nodes[:2]):
        node.entries = node.entries[:last_index]
        node.index = node.status.applied_index = last_index
        node.status.orders_applied -= 18
        node.status.node_id = number
        node.status.members = [
            Member(node_id=each, name="", host="127.0.0.1", port=1, voter=each != 1) for each in range(4)
        ]
    verdict = judged(run, nodes[:2])
    assert verdict.outcome == "not judged", verdict
    assert "1 of 3 voters told its state" in repr(verdict)
    for node in nodes[:2]:
        node.status.members[1].voter = True
        node.status.members[2].voter = False
    assert "nothing lost" in failed(judged(run, nodes[:2])), "two voters of three are a majority"


def test_what_a_minority_has_otherwise_is_a_broken_promise(run: History, nodes: list[FakeNode]) -> None:
    node = only_a_minority_is_left(nodes, len(run.entries) - 10)
    node.entries[9] = LogEntry(10, 1, 1, node.entries[10].data)
    assert judged(run, [node]).outcome == "failed"


def test_in_a_mode_without_majorities_what_is_not_there_is_lost(run: History, nodes: list[FakeNode]) -> None:
    node = only_a_minority_is_left(nodes, len(run.entries) - 10)
    assert judged(run, [node], replication="primary-backup").outcome == "failed"


def test_an_honest_run_passes_every_check(run: History, nodes: list[FakeNode]) -> None:
    verdict = judged(run, nodes)
    assert verdict.ok, verdict
    assert [check.name for check in verdict.checks] == [
        "log complete",
        "nothing lost",
        "nothing twice",
        "nodes agree",
        "order agrees",
        "answers agree",
    ]
    assert "30 of 30 acknowledged requests" in verdict.coverage
    assert "60 of 60 commands replayed" in verdict.coverage
    assert "PASSED" in repr(verdict)
    assert "passed" in verdict._repr_html_()
    assert verdict.as_dict()["ok"] is True


def lose_an_entry(run: History, nodes: list[FakeNode]) -> None:
    """The log has another request where the acknowledged one should be."""
    for node in nodes:
        node.entries[9] = LogEntry(10, 1, 1, node.entries[10].data)


def tell_another_index(run: History, nodes: list[FakeNode]) -> None:
    run.acknowledgements[5] = run.acknowledgements[5]._replace(log_index=3)


def acknowledge_what_is_not_there(run: History, nodes: list[FakeNode]) -> None:
    run.acknowledgements.append(run.acknowledgements[-1]._replace(request_number=31))


def acknowledge_the_retry(run: History, nodes: list[FakeNode]) -> None:
    """The client was told the index of the copy that must not count."""
    run.acknowledgements[-1] = run.acknowledgements[-1]._replace(log_index=len(run.entries))


def acknowledge_twice(run: History, nodes: list[FakeNode]) -> None:
    run.acknowledgements.append(run.acknowledgements[-1]._replace(log_index=len(run.entries)))


def apply_twice(run: History, nodes: list[FakeNode]) -> None:
    """A node executed the retry as well: it has applied two orders more than the log's rules allow."""
    nodes[1].status.orders_applied += 2


def differ_in_state(run: History, nodes: list[FakeNode]) -> None:
    nodes[2].state_hash = "00" * 16


def differ_in_history(run: History, nodes: list[FakeNode]) -> None:
    nodes[2].chain_hash = "00" * 16


def lag_behind(run: History, nodes: list[FakeNode]) -> None:
    """By the retry and the request before it, which has two orders."""
    nodes[0].index -= 2
    nodes[0].status.applied_index -= 2
    nodes[0].status.orders_applied -= 2


def answer_before_it_is_ordered(run: History, nodes: list[FakeNode]) -> None:
    """Request 20 was answered before request 10 was sent, which stands before it in the log."""
    run.acknowledgements[9] = run.acknowledgements[9]._replace(invoked_ns=1_000, completed_ns=1_001)


def answer_wrongly(run: History, nodes: list[FakeNode]) -> None:
    ack = run.acknowledgements[20]
    run.acknowledgements[20] = ack._replace(answer_crc=ack.answer_crc ^ 1)


def order_in_the_name_of_another(run: History, nodes: list[FakeNode]) -> None:
    """A stranger used the session's next number first: the client got the answer to the stranger's order."""
    run.acknowledgements[20] = run.acknowledgements[20]._replace(commands_crc=1)


def lose_a_piece_of_the_log(run: History, nodes: list[FakeNode]) -> None:
    for node in nodes:
        del node.entries[15]


@pytest.mark.parametrize(
    ("tamper", "caught_by"),
    [
        (lose_an_entry, "nothing lost"),
        (tell_another_index, "nothing lost"),
        (acknowledge_what_is_not_there, "nothing lost"),
        (acknowledge_the_retry, "nothing twice"),
        (acknowledge_twice, "nothing twice"),
        (apply_twice, "nothing twice"),
        (differ_in_state, "nodes agree"),
        (differ_in_history, "nodes agree"),
        (lag_behind, "nodes agree"),
        (answer_before_it_is_ordered, "order agrees"),
        (answer_wrongly, "answers agree"),
        (order_in_the_name_of_another, "nothing lost"),
        (lose_a_piece_of_the_log, "log complete"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_broken_promise_is_caught(
    run: History, nodes: list[FakeNode], tamper: Callable[[History, list[FakeNode]], None], caught_by: str
) -> None:
    tamper(run, nodes)
    verdict = judged(run, nodes)
    assert not verdict.ok
    assert caught_by in failed(verdict), verdict
    assert verdict.outcome == ("not judged" if tamper is lag_behind else "failed")


def test_a_node_that_lags_is_not_asked_how_many_orders_the_whole_log_has(run: History, nodes: list[FakeNode]) -> None:
    """One node that was still catching up made the verdict "failed": it had applied fewer orders than the log has."""
    lag_behind(run, nodes)
    verdict = judged(run, nodes)
    assert failed(verdict) == {"nodes agree"}
    assert "60 orders applied on 2 of 3 nodes, the rest lag" in repr(verdict)
    apply_twice(run, nodes)
    assert "nothing twice" in failed(judged(run, nodes)), "the others are still compared"


def test_orders_that_no_node_counted_up_to_the_logs_end_are_not_judged(run: History) -> None:
    log = Replayed()
    behind = checks.NodeEvidence("node0", 5, "", "", 0)
    assert checks.nothing_twice((), log, [behind], 6).ok is None
    assert checks.nothing_twice((), log, [behind], 5).ok


def test_hashes_that_differed_during_the_run_fail_it(run: History, nodes: list[FakeNode]) -> None:
    assert failed(judged(run, nodes, mismatches=1)) == {"nodes agree"}


def test_two_leaders_in_one_term_fail_it(run: History, nodes: list[FakeNode]) -> None:
    endpoints = [node.endpoint for node in nodes]
    honest = judge(endpoints, run.acknowledgements, leaders={1: {"node0"}, 2: {"node1"}})
    assert honest.ok
    assert "leaders seen in 2 terms" in repr(honest)
    assert "leaders seen in 1 term\n" in repr(judge(endpoints, run.acknowledgements, leaders={1: {"node0"}}))
    verdict = judge(endpoints, run.acknowledgements, leaders={1: {"node0"}, 2: {"node1", "node2"}})
    assert failed(verdict) == {"one leader a term"}
    assert "in term 2 node1 and node2 led" in repr(verdict)


def test_a_node_that_does_not_answer_fails_the_run(
    run: History, nodes: list[FakeNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmqlab.judge.evidence.ASK_TIMEOUT_S", 0.2)
    endpoints = [nodes[0].endpoint, "tcp://127.0.0.1:9"]
    verdict = judge(endpoints, run.acknowledgements, settle_s=0.1)
    assert "nodes agree" in failed(verdict)
    assert verdict.outcome == "not judged", "silence is no broken promise"


def test_no_node_at_all_is_not_judged(run: History) -> None:
    """It said that a promise was broken."""
    verdict = judge([], run.acknowledgements, settle_s=0.1)
    assert verdict.outcome == "not judged"
    assert "restart nodes until a majority runs" in repr(verdict)
    assert "NOT JUDGED" in repr(verdict)
    assert "NOT JUDGED" in verdict._repr_html_()
    assert not verdict.ok


def test_where_no_node_runs_none_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group without a living host cost the verdict ten seconds."""
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waits"))
    assert evidence.settle([]) == []


TOTALS = checks.RunTotals(
    client_ids=(1, 2), requests=30, acknowledged=60, unanswered=0, unsent=0, served_to_the_end=True
)


def test_a_run_that_was_served_to_its_end_passes(run: History, nodes: list[FakeNode]) -> None:
    totals = TOTALS._replace(client_ids=tuple({ack.client_id for ack in run.acknowledgements}))
    verdict = judged(run, nodes, totals=totals)
    assert verdict.ok, verdict
    assert {"run complete", "totals agree"} <= {check.name for check in verdict.checks}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"acknowledged": 0, "requests": 0, "unanswered": 60, "open_requests": 30}, "no order was acknowledged"),
        ({"unanswered": 12}, "12 orders sent and not answered"),
        ({"unsent": 8_891, "served_to_the_end": False}, "8,891 due and never sent"),
        ({"problem": "the session is gone"}, "the load ended before its time: the session is gone"),
        (
            {"refused": 5},
            "5 orders refused as stale, malformed or forbidden: does another process use the session, or",
        ),
    ],
)
def test_a_run_that_shows_nothing_is_not_judged(
    run: History, nodes: list[FakeNode], changes: dict[str, Any], said: str
) -> None:
    """Each of them passed."""
    totals = TOTALS._replace(client_ids=tuple({ack.client_id for ack in run.acknowledgements}), **changes)
    verdict = judged(run, nodes, totals=totals)
    assert verdict.outcome == "not judged"
    assert said in repr(verdict)


def test_a_load_above_what_the_cluster_can_do_is_judged() -> None:
    assert checks.run_complete(TOTALS._replace(unsent=500)).ok


def test_a_rollback_of_what_no_client_remembers_fails_the_run(run: History, nodes: list[FakeNode]) -> None:
    """The ledger keeps a part of a long run; only the totals tell that the rest is gone."""
    sessions = tuple({ack.client_id for ack in run.acknowledgements})
    verdict = judged(run, nodes, totals=TOTALS._replace(client_ids=sessions, requests=31))
    assert verdict.outcome == "failed"
    assert "31 requests acknowledged, and only 30 applied" in repr(verdict)


def test_orders_that_a_stranger_placed_in_a_session_fail_the_run(run: History, nodes: list[FakeNode]) -> None:
    """It passed: the stranger's numbers were above those of the client."""
    sessions = tuple({ack.client_id for ack in run.acknowledgements})
    totals = TOTALS._replace(client_ids=sessions, requests=28)
    verdict = judge([node.endpoint for node in nodes], run.acknowledgements[:28], settle_s=0.2, totals=totals)
    assert verdict.outcome == "failed"
    assert "30 requests of these sessions applied, and their client sent only 28" in repr(verdict)
    unanswered = judged(run, nodes, totals=totals._replace(open_requests=2))
    assert unanswered.ok, "a request without an answer may be applied"
    dead = judged(run, nodes, totals=totals._replace(problem="it was killed"))
    assert dead.outcome == "not judged", "how many requests a dead client sent is not known"


def test_a_broken_promise_is_more_than_an_unknown_one() -> None:
    broken, unknown = checks.Check("a", False, ""), checks.Check("b", None, "")
    assert checks.outcome_of([broken, unknown]) == "failed"
    assert checks.outcome_of([]) == "not judged"


def test_a_compacted_beginning_is_not_judged_unless_it_is_allowed(run: History, nodes: list[FakeNode]) -> None:
    for node in nodes:
        node.first_index = 11
    verdict = judged(run, nodes)
    assert failed(verdict) == {"log complete"}
    assert verdict.outcome == "not judged"
    assert "below index 11 are compacted away" in repr(verdict)
    allowed = judged(run, nodes, allow_compacted=True)
    assert allowed.ok
    assert "answers and orders applied not compared" in allowed.coverage
    assert allowed.coverage.startswith("22 of 30 acknowledged requests; the others lie before the log"), "it said 30"
    assert "nothing lost: in the replicated log: 22 of 30 acknowledged requests; the others lie" in repr(allowed)


def test_a_log_whose_end_can_not_be_read_is_not_judged(
    run: History, nodes: list[FakeNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most advanced node told its state and died: the verdict was FAILED, though no node had told a lie."""
    last_index = len(run.entries) - 10
    for node in nodes[1:]:
        node.entries = node.entries[:last_index]
        node.index = node.status.applied_index = last_index
    ask = evidence.ask_for_log

    def dead(endpoint: str, *told: Any) -> evidence.LogPiece:
        if endpoint == nodes[0].endpoint:
            raise RequestError("it does not answer")
        return ask(endpoint, *told)

    monkeypatch.setattr(evidence, "ask_for_log", dead)
    totals = TOTALS._replace(client_ids=(2,))
    verdict = judged(run, nodes, totals=totals)
    assert verdict.outcome == "not judged", verdict
    assert failed(verdict) == {"log complete", "nodes agree"}
    assert "the last 10 entries up to index 33 could not be read from any node: judge again" in repr(verdict)
    assert verdict.coverage.startswith("21 of 30 acknowledged requests; the others lie where the log could not be read")
    run.acknowledgements[5] = run.acknowledgements[5]._replace(log_index=3)
    assert "nothing lost" in failed(judged(run, nodes, totals=totals)), "what can be read is still judged"
    acknowledge_what_is_not_there(run, nodes)
    run.acknowledgements[:] = [run.acknowledgements[-1]._replace(log_index=len(run.entries) + 1)]
    assert "nothing lost" in failed(judged(run, nodes, totals=totals)), "it is behind the end of every log"


def test_a_log_that_is_compacted_while_it_is_read_is_not_judged(
    run: History, nodes: list[FakeNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries before and after the gap were taken for a wrong log: the verdict was "failed"."""
    ask = evidence.ask_for_log

    def compacting(*told: Any) -> evidence.LogPiece:
        piece = ask(*told)
        for node in nodes:
            node.first_index = 15
        return piece

    monkeypatch.setattr(evidence, "ask_for_log", compacting)
    verdict = judged(run, nodes)
    assert verdict.outcome == "not judged", verdict
    assert "below index 15 are compacted away" in repr(verdict)


def test_a_log_without_an_entry_is_complete(nodes: list[FakeNode]) -> None:
    """It was said that 0 entries were there where 0 to 0 were asked for."""
    for node in nodes:
        node.entries, node.index = [], 0
        node.status.applied_index = node.status.orders_applied = 0
    verdict = judged(History(), nodes)
    assert "log complete" not in failed(verdict), verdict


def test_a_loss_behind_a_compacted_beginning_is_still_seen(run: History, nodes: list[FakeNode]) -> None:
    acknowledge_what_is_not_there(run, nodes)
    for node in nodes:
        node.first_index = 11
    assert "nothing lost" in failed(judged(run, nodes, allow_compacted=True))


def test_totals_are_compared_if_the_sessions_are_newer_than_what_is_left_of_the_log(
    run: History, nodes: list[FakeNode]
) -> None:
    for node in nodes:
        node.first_index = 2
    sessions = tuple({ack.client_id for ack in run.acknowledgements})
    totals = TOTALS._replace(client_ids=sessions)
    assert judged(run, nodes, allow_compacted=True, totals=totals).ok
    more = judged(run, nodes, allow_compacted=True, totals=totals._replace(requests=31))
    assert failed(more) == {"totals agree"}


def test_the_log_comes_from_a_node_that_still_has_its_beginning(run: History, nodes: list[FakeNode]) -> None:
    nodes[0].first_index = 11
    assert judged(run, nodes).ok


def test_says_how_far_answers_were_compared(run: History, nodes: list[FakeNode]) -> None:
    verdict = judged(run, nodes, max_replayed_commands=20)
    assert verdict.ok
    assert "10 of 30 answers compared" in verdict.checks[-1].detail
    assert "20 of 60 commands replayed" in verdict.coverage


def test_order_is_checked_against_every_earlier_answer_not_only_the_last() -> None:
    def ack(index: int, start: int, end: int) -> checks.Acknowledgement:
        return checks.Acknowledgement(1, index, index, start, end, 0)

    concurrent = [ack(5, 0, 10), ack(3, 2, 12), ack(9, 4, 6), ack(10, 7, 20)]
    assert checks.order_agrees(concurrent).ok
    assert not checks.order_agrees([*concurrent, ack(8, 7, 30)]).ok


def test_times_of_two_clocks_are_not_compared() -> None:
    def ack(clock: int, index: int, start: int, end: int) -> checks.Acknowledgement:
        return checks.Acknowledgement(1, index, index, start, end, 0, clock=clock)

    apart = [ack(0, 5, 0, 10), ack(1, 3, 20, 30), ack(1, 4, 40, 50)]  # on one clock, 3 would have to follow 5
    assert checks.order_agrees(apart).ok
    assert "on each of 2 clocks by itself" in checks.order_agrees(apart).detail
    assert not checks.order_agrees([each._replace(clock=0) for each in apart]).ok
    swapped = checks.order_agrees([*apart, ack(1, 2, 60, 70)])
    assert not swapped.ok, "within one clock they are"
    assert "(1, 4)" in swapped.detail
    read = checks.BookRead("A", 1, 3, 100, 110, 0)  # on clock 0: request 5 was answered before it
    assert not checks.reads_agree([read], apart, Replayed(), 9).ok
    assert checks.reads_agree([read], [each._replace(clock=1) for each in apart], Replayed(), 9).ok
