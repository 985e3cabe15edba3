"""Lost so far, twice so far: counted right while a run goes on, and not claimed where it is not known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.judge.run_history import History, small_run
from tests.lab.fake_node import status_of
from zmqlab.judge import live_count
from zmqlab.judge.live_count import STEP_BACK, LiveCount, SoFar
from zmqlab.judge.replay import LogEntry
from zmqlab.load.order_flow import Rows
from zmqlab.load.run_record import RECORD, SEGMENTS, Ledger, LedgerTail, LedgerTails
from zmqlab.market.types import Command, Side
from zmqlab.wire import client, records
from zmqlab.wire.node_status import NodeStatus

S = 1_000_000_000
ORDER = records.pack_commands([Command.limit(Side.BUY, "AAPL", 1, 100, account=1)])
CLIENT = 2


def entry(index: int, number: int, term: int = 1, session: int = CLIENT) -> LogEntry:
    """A request with one order; number 0: an entry without any."""
    return LogEntry(index, term, 1, client.encode_request(session, number, 1, ORDER) if number else b"")


def log(count: int, first: int = 1, term: int = 1) -> list[LogEntry]:
    """Entries of which the one at index i holds request number i."""
    return [entry(index, index, term) for index in range(first, first + count)]


def told(*places: tuple[int, int], at_s: float = 1.0) -> Rows:
    """Acknowledgements of (request number, log index), of one order each."""
    rows = [(CLIENT, number, index, 0, round(at_s * S), 1, 0, 0, 0, 0, 0, 0) for number, index in places]
    return np.array(rows, RECORD)


def acks(numbers: Iterable[int], at_s: float = 1.0) -> Rows:
    return told(*((number, number) for number in numbers), at_s=at_s)


def status(applied_index: int, orders: int) -> NodeStatus:
    made = status_of("node0", 1, leads=False)
    made.applied_index, made.orders_applied = applied_index, orders
    return made


def looked(count: LiveCount, *statuses: NodeStatus, now_s: float = 2.0) -> SoFar:
    return count.look(statuses, round(now_s * S))


def test_an_honest_run_has_lost_nothing() -> None:
    run: History = small_run()
    count = LiveCount()
    count.told(run.entries, "tcp://n:1")
    count.acknowledged(np.array([(*ack[:5], 2, 0, 0, 0, 0, 0, 0) for ack in run.acknowledgements], RECORD))
    found = looked(count, status(run.machine.applied_index, run.machine.orders_applied))
    assert (found.acknowledged, found.looked_up, found.lost, found.misplaced, found.twice) == (60, 60, 0, 0, 0)
    assert str(found) == "of 60 orders acknowledged: 0 lost, 0 twice"


def test_what_the_log_has_not_reached_is_not_counted() -> None:
    count = LiveCount()
    count.told(log(10), "n")
    count.acknowledged(acks(range(1, 9), at_s=1))
    count.acknowledged(acks(range(9, 15), at_s=4))
    found = looked(count, now_s=7)
    assert (found.acknowledged, found.looked_up, found.lost, found.age_s) == (14, 10, 0, 3)
    assert str(found) == "of 10 orders acknowledged until 3 s ago: 0 lost, 0 twice"
    count.told(log(4, first=11), "n")
    assert str(looked(count, now_s=8)) == "of 14 orders acknowledged: 0 lost, 0 twice"


def test_a_lost_order_shows() -> None:
    count = LiveCount()
    count.acknowledged(told((1, 1), (2, 2), (7, 3)))
    count.told([*log(2), entry(3, 0), *log(2, first=4)], "n")
    found = looked(count)
    assert (found.looked_up, found.lost, found.misplaced) == (3, 1, 0)


def test_an_order_at_another_place_shows() -> None:
    count = LiveCount()
    count.told(log(6), "n")
    count.acknowledged(told((1, 1), (5, 2)))
    found = looked(count)
    assert (found.lost, found.misplaced) == (0, 1)
    assert "1 out of place" in str(found)


def test_what_a_node_applied_twice_shows() -> None:
    count = LiveCount()
    count.told([*log(3), entry(4, 3), *log(2, first=5)], "n")  # request 3 was retried
    assert looked(count, status(6, 5)).twice == 0, "a retry has no effect"
    assert looked(count, status(4, 4)).twice == 1
    assert looked(count, status(6, 5)).twice == 1, "it stays"


def test_a_node_that_is_ahead_of_the_log_waits() -> None:
    count = LiveCount()
    count.told(log(3), "n")
    assert looked(count, status(6, 7)).twice == 0
    count.told(log(3, first=4), "n")
    assert looked(count).twice == 1


def test_a_log_without_its_beginning_is_counted_from_where_it_begins() -> None:
    count = LiveCount()
    count.told(log(5, first=1_001), "n")
    assert looked(count).twice is None
    assert looked(count, status(1_003, 93)).twice == 0
    assert looked(count, status(1_005, 96)).twice == 1


def test_a_leader_that_answers_alone_loses_its_tail() -> None:
    """It told entries that its successor never had; the log of the later term counts."""
    count = LiveCount(one_log=False)
    count.told(log(10), "old")
    count.acknowledged(acks(range(1, 11)))
    assert looked(count).lost == 0
    count.told([*log(2, first=5), entry(7, 21, term=2), entry(8, 22, term=2)], "new")
    found = looked(count, now_s=9)
    assert (found.looked_up, found.lost, found.age_s) == (8, 2, 8), "the last two are not known any more"
    assert found.twice is None
    count.told([entry(index, 14 + index, term=2) for index in range(9, 13)], "new")
    found = looked(count)
    assert (found.looked_up, found.lost) == (10, 4)
    count.told(log(10), "old")
    assert looked(count).lost == 4, "an earlier term does not count any more"


def test_a_difference_at_the_first_entry_is_looked_at_from_further_before() -> None:
    count = LiveCount()
    count.told(log(5_000), "old")
    count.acknowledged(acks(range(1, 5_001)))
    count.told([entry(index, 9_000 + index, term=2) for index in range(4_000, 4_010)], "new")
    assert count.doubt == ("new", 4_000 - STEP_BACK)
    assert looked(count).lost == 10
    count.doubt = None
    again = [entry(index, 9_000 + index, term=2) for index in range(3_900, 4_010)]
    count.told([*log(4_000 - STEP_BACK, first=STEP_BACK - 148)[:10], *again[:0]], "new")
    assert looked(count).lost == 10, "what agrees changes nothing"
    count.told([*log(1, first=3_899), *again], "new")
    assert looked(count).lost == 110
    assert count.doubt is None


def test_nodes_without_one_sequence() -> None:
    """Broadcast: two nodes give one number to different requests, and each tells its client."""
    count = LiveCount(one_log=False)
    count.told([entry(1, 1), entry(2, 3)], "a")
    count.acknowledged(told((1, 1), (2, 2), (3, 2)))
    count.told([entry(1, 1), entry(2, 2), entry(3, 3)], "b")
    found = looked(count, status(2, 2))
    assert (found.looked_up, found.lost, found.twice) == (3, 1, None)
    assert "twice not counted" in str(found)


def test_memory_is_bounded_and_counts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    recent, step = 4_096, 600
    monkeypatch.setattr(live_count, "RECENT", recent)
    count = LiveCount()
    kept = 0
    for first in range(1, 3 * recent, step):
        count.told(log(step, first), "n")
        count.acknowledged(acks(range(first, first + step)))
        found = looked(count)
        kept = max(kept, len(count._batches))
    assert found.looked_up == found.acknowledged == first + step - 1
    assert (found.lost, found.missed) == (0, 0)
    assert kept <= recent // step + 2
    count.acknowledged(acks([5]))
    found = looked(count)
    assert found.missed == 1
    assert "1 order came too late" in found.how


def test_a_ledger_is_read_while_it_grows(tmp_path: Path) -> None:
    ledger, tail = Ledger(40, tmp_path), LedgerTail(tmp_path)
    assert len(tail.read()) == 0
    seen: list[int] = []
    for number in range(1, 101):
        ledger.append((CLIENT, number, number, 0, 0, 1, 0, 0, 0, 0, 0))
        if number % 7 == 0:
            ledger.flush()
            seen += tail.read()["request_number"].tolist()
    ledger.flush()
    seen += tail.read()["request_number"].tolist()
    ledger.close()
    assert seen == list(range(1, 101))


def test_the_ledgers_of_several_generators_are_read_as_one(tmp_path: Path) -> None:
    """A record of another machine has a time of another clock: it counts from when it came."""
    folders = [tmp_path / name for name in ("here", "elsewhere")]
    ledgers = []
    for folder in folders:
        folder.mkdir()
        ledgers.append(Ledger(40, folder))
    tails = LedgerTails({folders[0]: True, folders[1]: False})
    assert len(tails.read(7)) == 0
    for session, ledger in enumerate(ledgers, 1):
        for number in (1, 2):
            ledger.append((session, number, number, 4, 5, 1, 0, 0, 0, 0, 0))
        ledger.flush()
    rows = tails.read(9)
    assert rows[["client_id", "request_number", "completed_ns"]].tolist() == [
        (1, 1, 5),
        (1, 2, 5),
        (2, 1, 9),
        (2, 2, 9),
    ]
    assert len(tails.read(11)) == 0
    for ledger in ledgers:
        ledger.close()


def test_a_reader_that_is_slow_leaves_out_what_is_gone(tmp_path: Path) -> None:
    ledger, tail = Ledger(40, tmp_path), LedgerTail(tmp_path)
    for number in range(1, 101):
        ledger.append((CLIENT, number, number, 0, 0, 1, 0, 0, 0, 0, 0))
    ledger.close()
    seen = tail.read(7)["request_number"].tolist()
    while len(more := tail.read(7)):
        seen += more["request_number"].tolist()
    room = 40 // SEGMENTS
    assert seen == [*range(1, 2 * room + 1), *range(101 - 2 * room, 101)]
