"""A verdict on books that were read: honest reads pass, and each way in which a read can be wrong is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.judge.run_history import FakeNode, History, failed
from zmqlab.judge import promises as checks
from zmqlab.judge.verdict import Verdict, judge
from zmqlab.load.load_messages import crc_of_book
from zmqlab.market.naive import NaiveExchange
from zmqlab.wire import client as wire


def reads_of(run: History) -> list[checks.BookRead]:
    """Each request of the run is followed by a read of the book; the naive exchange says what it saw."""
    exchange = NaiveExchange()
    acknowledged = {ack.log_index: ack for ack in run.acknowledgements}
    reads = []
    for entry in run.entries:
        ack = acknowledged.get(entry.log_index)
        if ack is None:
            continue
        exchange.execute(wire.request_commands(entry.data))
        depth = exchange.depth("AAPL", 10)
        crc = crc_of_book(depth.bids, depth.asks)
        invoked_ns = 10 * ack.completed_ns + 1
        reads.append(checks.BookRead("AAPL", 10, entry.log_index, invoked_ns, invoked_ns + 1, crc))
    run.acknowledgements[:] = [
        ack._replace(invoked_ns=10 * ack.invoked_ns, completed_ns=10 * ack.completed_ns) for ack in run.acknowledgements
    ]
    return reads


def read_the_book_before(run: History, reads: list[checks.BookRead]) -> None:
    """A node that lags answers from its own state and says so: the book is right, the index is old."""
    reads[20] = reads[19]._replace(invoked_ns=reads[20].invoked_ns, completed_ns=reads[20].completed_ns)


def read_less_than_a_read_before(run: History, reads: list[checks.BookRead]) -> None:
    """No client was told of the request at the first read's index, and yet the second read must not go back."""
    del run.acknowledgements[20:]
    last = reads[-1].completed_ns
    reads.append(reads[-2]._replace(invoked_ns=last + 1, completed_ns=last + 2))


def read_what_is_sent_later(run: History, reads: list[checks.BookRead]) -> None:
    reads[19] = reads[20]._replace(invoked_ns=reads[19].invoked_ns, completed_ns=reads[19].completed_ns)


def read_another_book(run: History, reads: list[checks.BookRead]) -> None:
    reads[20] = reads[20]._replace(book_crc=reads[20].book_crc ^ 1)


def read_the_old_book_at_the_new_index(run: History, reads: list[checks.BookRead]) -> None:
    old = next(read for read in reads if read.book_crc != reads[-1].book_crc)
    reads[-1] = reads[-1]._replace(book_crc=old.book_crc)


def read_beyond_the_log(run: History, reads: list[checks.BookRead]) -> None:
    reads[-1] = reads[-1]._replace(log_index=len(run.entries) + 1)


def read_nothing(run: History, reads: list[checks.BookRead]) -> None:
    reads.clear()


def judged_with_reads(run: History, nodes: list[FakeNode], reads: list[checks.BookRead], **options: object) -> Verdict:
    endpoints = [node.endpoint for node in nodes]
    return judge(endpoints, run.acknowledgements, reads=reads, settle_s=0.3, **options)  # type: ignore[arg-type]


def test_honest_reads_pass_and_are_compared(run: History, nodes: list[FakeNode]) -> None:
    verdict = judged_with_reads(run, nodes, reads_of(run))
    assert verdict.ok, verdict
    assert verdict.checks[-1].name == "reads agree"
    assert "30 linearizable reads" in verdict.checks[-1].detail
    assert "30 of them compared" in verdict.checks[-1].detail


def test_a_read_may_see_a_request_that_is_not_answered_yet(run: History, nodes: list[FakeNode]) -> None:
    reads = reads_of(run)
    ack = run.acknowledgements[20]
    reads[19] = reads[20]._replace(invoked_ns=ack.invoked_ns + 1, completed_ns=ack.invoked_ns + 2)
    assert judged_with_reads(run, nodes, reads).ok


@pytest.mark.parametrize(
    "tamper",
    [
        read_the_book_before,
        read_less_than_a_read_before,
        read_what_is_sent_later,
        read_another_book,
        read_the_old_book_at_the_new_index,
        read_beyond_the_log,
        read_nothing,
    ],
    ids=lambda value: value.__name__,
)
def test_a_wrong_read_is_found(
    run: History, nodes: list[FakeNode], tamper: Callable[[History, list[checks.BookRead]], None]
) -> None:
    reads = reads_of(run)
    tamper(run, reads)
    assert "reads agree" in failed(judged_with_reads(run, nodes, reads))


def test_a_stale_read_is_found_although_the_logs_beginning_is_gone(run: History, nodes: list[FakeNode]) -> None:
    reads = reads_of(run)
    for node in nodes:
        node.first_index = 11
    verdict = judged_with_reads(run, nodes, reads, allow_compacted=True)
    assert verdict.ok
    assert "0 of them compared" in repr(verdict)
    assert "no book compared" in verdict.coverage
    read_the_book_before(run, reads)
    assert failed(judged_with_reads(run, nodes, reads, allow_compacted=True)) == {"reads agree"}


def test_reads_beyond_the_replayed_commands_are_not_compared(run: History, nodes: list[FakeNode]) -> None:
    verdict = judged_with_reads(run, nodes, reads_of(run), max_replayed_commands=20)
    assert verdict.ok
    assert "10 of them compared" in repr(verdict)
    assert "no book compared" not in verdict.coverage
    none = judged_with_reads(run, nodes, reads_of(run)[10:], max_replayed_commands=2)
    assert none.ok, "their order in time is still evidence"
    assert "no book compared" in none.coverage
