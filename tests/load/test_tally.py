"""The figures of a run: the same however many answers are counted at a time."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest

from tests.client.fake_node import answer_rows
from zmqlab.client.session import Completion
from zmqlab.load.load_messages import FINE_NS
from zmqlab.load.measurement import Answered, Sent, Tally
from zmqlab.load.order_flow import FILL, OrderFlow
from zmqlab.load.run_record import Ledger, read_ledger
from zmqlab.market.types import Reason, Status
from zmqlab.wire.client import REPLAYED, Response, ResponseStatus


def completions(count: int) -> list[Completion]:
    """Answers of all kinds: of any size, with fills and rejections, replayed, refused."""
    rng, flow = np.random.default_rng(5), OrderFlow(seed=5)
    made, now_ns = [], 10**9
    for number in range(1, count + 1):
        now_ns += int(rng.integers(1, 3_000_000))
        rows = flow.take(int(rng.integers(1, 40)))
        sent_ns = now_ns - int(rng.integers(10**5, 10**7))
        reports = answer_rows(rows, 1_000 * number)
        rejected = rng.random(len(rows)) < 0.1
        reports["status"][rejected] = Status.REJECTED
        reports["reason"][rejected] = Reason.UNKNOWN_ORDER
        fills = np.zeros(int(rng.integers(0, 3)), FILL)
        reports["fill_count"][: len(fills)] = 1
        status = ResponseStatus.STALE if number % 17 == 0 else ResponseStatus.OK
        head = (7, number, 3 * number, int(status), REPLAYED * (number % 5 == 0), len(rows), len(fills))
        response = Response(*head, memoryview(reports.tobytes()), memoryview(fills.tobytes()))
        sent = Sent(rows.tobytes(), sent_ns - np.arange(len(rows))[::-1] * 10_000)
        made.append(Completion(number, sent, response, number % 3, 1, sent_ns, now_ns))
    return made


def told(made: list[Completion], at_a_time: int) -> tuple[Tally, Ledger, list[Answered]]:
    ledger = Ledger(10_000)
    tally, answered = Tally(ledger), []
    tally.gaps.owes_from(made[0].first_sent_ns)
    for first in range(0, len(made), at_a_time):
        tally.acknowledged(made[first : first + at_a_time])
        folded = tally.fold()
        answered += folded
    return tally, ledger, answered


@pytest.mark.parametrize("at_a_time", [2, 7, 100])
def test_it_makes_no_difference_how_many_answers_are_counted_together(at_a_time: int) -> None:
    made = completions(100)
    (one, one_ledger, one_answered), (many, many_ledger, many_answered) = told(made, 1), told(made, at_a_time)
    assert one.counters == many.counters
    assert one.rejected_by_reason() == many.rejected_by_reason() != {}
    assert one.orders_by_node == many.orders_by_node
    assert (one.gaps.longest_ns, one.gaps.longest_at_ns) == (many.gaps.longest_ns, many.gaps.longest_at_ns)
    assert one.take_fine() == many.take_fine()
    assert one.last_acknowledged_ns == many.last_acknowledged_ns
    assert one.response_time.histogram() == many.response_time.histogram()
    assert one.service_time.histogram() == many.service_time.histogram()
    assert one_ledger.to_bytes() == many_ledger.to_bytes()
    for place in range(3):
        parts = [np.concatenate([each[place] for each in each_way]) for each_way in (one_answered, many_answered)]
        assert parts[0].tobytes() == parts[1].tobytes()


def test_the_figures_are_those_of_the_answers() -> None:
    made = completions(50)
    tally, ledger, _ = told(made, 50)
    good = [each for each in made if each.response.status == ResponseStatus.OK]
    assert tally.counters.requests == len(good) < 50
    assert tally.counters.acknowledged == sum(each.token.orders for each in good)
    assert tally.counters.refused == sum(each.token.orders for each in made) - tally.counters.acknowledged
    assert tally.counters.replayed == sum(bool(each.response.flags & REPLAYED) for each in good)
    assert tally.response_time.histogram().count == tally.counters.acknowledged
    waits = [each.completed_ns - int(each.token.intended_ns[0]) for each in good]
    assert tally.response_time.histogram().max == max(waits)
    assert tally.service_time.histogram().max == max(each.completed_ns - each.first_sent_ns for each in good)
    rows = read_ledger(ledger.to_bytes())
    assert rows["request_number"].tolist() == [each.request_number for each in good]
    assert rows["commands_crc"].tolist() == [crc32(each.token.commands) for each in good]
    assert rows["invoked_ns"].tolist() == [each.first_sent_ns for each in good]
    assert rows["completed_ns"].tolist() == [each.completed_ns for each in good]


def test_what_is_not_counted_yet_still_ends_a_gap() -> None:
    made = completions(3)
    tally = Tally(Ledger(0))
    tally.gaps.owes_from(made[0].first_sent_ns)
    tally.acknowledged(made)
    assert tally.counters.acknowledged == 0 < tally.unfolded_orders
    assert tally.gaps.silence_ns(made[-1].completed_ns + 5, owed=True) == 5


def test_the_fine_series_has_each_acknowledged_order_once() -> None:
    made = completions(60)
    tally = Tally(Ledger(10_000))
    found: dict[int, int] = {}
    for each in made:
        tally.acknowledged([each])
        tally.fold()
        from_ns, fine = tally.take_fine()
        assert from_ns % FINE_NS == 0
        for place, orders in enumerate(fine, from_ns // FINE_NS):
            found[place] = found.get(place, 0) + orders
    good = [each for each in made if each.response.status == ResponseStatus.OK]
    assert sum(found.values()) == tally.counters.acknowledged == sum(each.token.orders for each in good)
    assert min(found) == good[0].completed_ns // FINE_NS
    assert max(found) == good[-1].completed_ns // FINE_NS
    assert tally.take_fine() == (0, [])
