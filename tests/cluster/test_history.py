"""The history of clients on real nodes: a checker that knows nothing but the file finds nothing wrong, and would.

The second check is the worked example of docs/history-format.md: it splits the history by symbol, as a general checker
of linearizability would be given it, and takes the order ids from the answers.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest

from tests.load.test_history import answer_of, check_against_ledger, commands_of
from tests.waiting import wait_for
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.load_client import LoadClient
from zmqlab.load.history import BookRead, Command, History, Report, Request, read_history
from zmqlab.market.naive import NaiveExchange
from zmqlab.market.types import fills_in, reports_in

pytestmark = pytest.mark.process
UNKNOWN_ID = 1 << 60


def await_orders(load: LoadClient, count: int) -> None:
    """Until so many more orders are acknowledged, or the load is over."""

    def acknowledged() -> int:
        return load.newest.total.acknowledged if load.newest is not None else 0

    wanted = acknowledged() + count
    assert wait_for(lambda: acknowledged() >= wanted or not load.running)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("history")
    path = folder / "run.jsonl"
    with Cluster(3, run_dir=folder / "cluster") as cluster:
        load = LoadClient(cluster, rate=1_000, duration="15s", clients=10, symbols=16, history=path, book_reads=20)
        load.start()
        await_orders(load, 1_000)
        cluster.kill(cluster.leader)
        time.sleep(0.8)
        cluster.restart(next(name for name in cluster.nodes if name not in cluster.running))
        cluster.pause(cluster.leader)
        time.sleep(0.7)
        for name in cluster.paused:
            cluster.resume(name)
        await_orders(load, 1_000)
        load.stop()
        result = load.wait()
        assert result.verdict.ok, result.verdict
    read = read_history(path)
    check_against_ledger(read, result.report.result)
    assert read.end is not None
    assert read.end.unknown == 0
    assert any(each.attempts > 1 for each in read.requests), "the faults were felt"
    assert len(read.reads) > 20
    assert len({each.node for each in read.reads}) == 3
    return read


def violations(requests: list[Request]) -> Iterator[str]:
    """What is wrong with the order that the log indexes claim: real time, every answer, the order ids."""
    ordered = sorted((each for each in requests if each.outcome == "ok"), key=lambda each: each.log_index)
    earliest_ns = 1 << 63
    for each in reversed(ordered):
        if each.invoked_ns > earliest_ns:
            yield f"log index {each.log_index} was sent after a later one had been answered"
        earliest_ns = min(earliest_ns, each.completed_ns)
    exchange = NaiveExchange()
    for each in ordered:
        if exchange.execute(commands_of(each)) != answer_of(each):
            yield f"log index {each.log_index} was answered otherwise than the naive book does"


def test_the_whole_is_linearizable_in_the_order_of_the_log(history: History) -> None:
    assert list(violations(history.requests)) == []


def test_what_is_wrong_is_found(history: History) -> None:
    requests = [each for each in history.requests if each.outcome == "ok"]
    first, last = min(requests, key=lambda each: each.log_index), max(requests, key=lambda each: each.log_index)
    for one, changes in (
        (first, {"invoked_ns": last.completed_ns + 1, "completed_ns": last.completed_ns + 2}),
        (last, {"reports": []}),
        (first, {"log_index": last.log_index + 1}),
    ):
        before = {name: getattr(one, name) for name in changes}
        for name, value in changes.items():
            setattr(one, name, value)
        assert list(violations(requests)), changes
        for name, value in before.items():
            setattr(one, name, value)


def wrong_reads(history: History) -> Iterator[str]:
    """What is wrong with the books that were read: stale, early, or another book than the naive one."""
    ordered = sorted((each for each in history.requests if each.outcome == "ok"), key=lambda each: each.log_index)
    exchange, done = NaiveExchange(), 0
    for read in sorted(history.reads, key=lambda each: each.log_index):
        while done < len(ordered) and ordered[done].log_index <= read.log_index:
            exchange.execute(commands_of(ordered[done]))
            done += 1
        depth = exchange.depth(read.symbol, read.levels)
        if (depth.bids, depth.asks) != (read.bids, read.asks):
            yield f"{read.symbol} at {read.log_index} is another book"
        before = [each.log_index for each in ordered if each.completed_ns < read.invoked_ns]
        before += [each.log_index for each in history.reads if each.completed_ns < read.invoked_ns]
        if read.log_index < max(before, default=0):
            yield f"{read.symbol} at {read.log_index} is stale"
        if any(each.invoked_ns > read.completed_ns for each in ordered[:done]):
            yield f"{read.symbol} at {read.log_index} is early"


def test_the_books_that_were_read_are_linearizable(history: History) -> None:
    assert list(wrong_reads(history)) == []


def test_a_wrong_read_is_found(history: History) -> None:
    first, last = history.reads[0], max(history.reads, key=lambda each: each.log_index)

    def found(read: BookRead) -> str:
        return " ".join(wrong_reads(history._replace(reads=[*history.reads, read])))

    stale = BookRead(**{name: getattr(first, name) for name in first.__struct_fields__})
    stale.invoked_ns, stale.completed_ns = last.completed_ns + 1, last.completed_ns + 2
    assert "stale" in found(stale)
    early = BookRead(**{name: getattr(last, name) for name in last.__struct_fields__})
    early.invoked_ns, early.completed_ns = first.invoked_ns, first.completed_ns
    assert "early" in found(early)
    other = BookRead(**{name: getattr(last, name) for name in last.__struct_fields__})
    other.bids = [*other.bids, (1, 1, 1)]
    assert "another book" in found(other)


class SymbolModel:
    """One symbol's book, for a checker that is given the commands of this symbol alone.

    The order ids are given by one counter for all symbols, so that this book can't compute the next one. But the ids of
    this symbol come in rising order: a new order takes the smallest one that the answers know and that is not used yet.
    """

    def __init__(self, reports: Iterable[Report]) -> None:
        """``reports``: all answers to new orders of this symbol."""
        self._exchange = NaiveExchange()
        self._own_ids: dict[int, int] = {}
        """Order id of the history -> of this book."""
        self._ids: dict[int, int] = {}
        """The other way round."""
        self._unused = sorted((report.order_id for report in reports if report.order_id), reverse=True)

    def accepts(self, command: Command, report: Report) -> bool:
        """Apply a command; whether ``report`` is what becomes of it."""
        (row,) = commands_of(Request(client=1, number=1, outcome="ok", attempts=1, commands=[command]))
        row = row._replace(order_id=self._own_ids.get(command.order_id, UNKNOWN_ID) if command.order_id else 0)
        reports, fills = self._exchange.execute([row])
        (own,) = reports_in(reports)
        own_id = own.order_id
        if command.kind == "new" and own_id:
            if not self._unused or self._unused.pop() != report.order_id:
                return False
            self._own_ids[report.order_id], self._ids[own_id] = own_id, report.order_id
        theirs = command.order_id if command.kind != "new" else self._ids.get(own_id, 0)
        reports = list(own._replace(order_id=theirs))
        renamed = [each._replace(maker_order_id=self._ids[each.maker_order_id]) for each in fills_in(fills)]
        fills = [value for each in renamed for value in each]
        told = answer_of(Request(client=1, number=1, outcome="ok", attempts=1, commands=[command], reports=[report]))
        return (reports, fills) == told


def test_each_symbol_is_linearizable_by_itself(history: History) -> None:
    by_symbol: dict[str, list[tuple[Command, Report]]] = defaultdict(list)
    ids = []
    for each in sorted(history.requests, key=lambda each: each.log_index):
        for command, report in zip(each.commands, each.reports, strict=True):
            by_symbol[command.symbol].append((command, report))
            if command.kind == "new" and report.order_id:
                ids.append(report.order_id)
    assert len(by_symbol) == 16
    assert ids == list(range(1, len(ids) + 1)), "one counter for all, without a gap"
    for operations in by_symbol.values():
        model = SymbolModel(report for command, report in operations if command.kind == "new")
        assert all(model.accepts(command, report) for command, report in operations)


def test_a_wrong_answer_is_found_within_its_symbol(history: History) -> None:
    operations = [
        (command, report)
        for each in sorted(history.requests, key=lambda each: each.log_index)
        for command, report in zip(each.commands, each.reports, strict=True)
        if command.symbol == "AAPL"
    ]
    model = SymbolModel(report for command, report in operations if command.kind == "new")
    operations[0], operations[-1] = operations[-1], operations[0]
    assert not all(model.accepts(command, report) for command, report in operations)
