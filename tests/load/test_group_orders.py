"""Orders by Raft group: each due order goes to one group, and a group that can't take any holds up no other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from zmqlab.load.gaps import Gaps, GroupTally
from zmqlab.load.group_orders import Dealer
from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.measurement import LATE_NS
from zmqlab.load.order_flow import OrderFlow, symbol_names
from zmqlab.load.pace import PAUSE_MAX_NS, Pace
from zmqlab.load.schedule import Schedule
from zmqlab.market.types import symbol_name
from zmqlab.placement import group_of
from zmqlab.wire.client import MAX_COMMANDS_PER_REQUEST

S = 1_000_000_000


def settings(shards: int = 4, **changes: object) -> LoadSettings:
    return LoadSettings.from_dict({"nodes": ("tcp://127.0.0.1:1",), "shards": shards, "symbols": 64} | changes)


def test_each_group_gets_rows_of_its_own_symbols_alone() -> None:
    dealer = Dealer(settings())
    assert {each.group for each in dealer} == {group_of(name, 4) for name in symbol_names(64)}
    for orders in dealer:
        rows = orders.rows(3_000)
        named = {symbol_name(int(code)) for code in np.unique(rows["symbol"])}
        assert named == set(orders.symbols)
        assert {group_of(name, 4) for name in named} == {orders.group}


def test_with_one_group_the_rows_are_those_of_one_flow() -> None:
    (orders,) = Dealer(settings(shards=1, seed=7))
    assert orders.rows(5_000).tobytes() == OrderFlow(symbols=64, seed=7).take(5_000).tobytes()


def test_all_due_orders_are_dealt_once_in_proportion_to_the_symbols() -> None:
    dealer, schedule = Dealer(settings()), Schedule(100_000, arrivals="constant")
    taken: dict[int, list[int]] = {each.group: [] for each in dealer}
    for now_ns in range(0, S, S // 100):
        dealer.deal(schedule, now_ns)
        for orders in dealer:
            while orders.due:
                taken[orders.group] += orders.take().tolist()
    everything = sorted(time_ns for times in taken.values() for time_ns in times)
    twin = Schedule(100_000, arrivals="constant").take(99 * S // 100, S)
    assert everything == twin.tolist(), "each intended time once"
    for orders in dealer:
        assert taken[orders.group] == sorted(taken[orders.group])
        assert len(taken[orders.group]) / len(everything) == pytest.approx(len(orders.symbols) / 64, rel=0.1)


def test_a_group_that_is_not_sent_keeps_its_orders_in_order() -> None:
    dealer, schedule = Dealer(settings()), Schedule(100_000, arrivals="constant")
    for now_ns in (0, S // 10, S // 5):
        dealer.deal(schedule, now_ns)
    stuck = dealer.groups[0]
    before, due = stuck.due_before(S // 20), stuck.due
    assert 0 < before < due == dealer.due - sum(each.due for each in dealer.groups[1:])
    first = stuck.take()
    assert len(first) == min(due, MAX_COMMANDS_PER_REQUEST)
    assert (np.diff(first) > 0).all()
    assert stuck.due == due - len(first)


def test_the_pause_of_groups_is_longer_and_makes_no_order_late() -> None:
    assert Pace(groups=8).next_ns(1) == PAUSE_MAX_NS, "before the first answer"
    slow = Pace(groups=8)
    slow._answer_ns = 100 * PAUSE_MAX_NS
    assert PAUSE_MAX_NS < slow.next_ns(1) < LATE_NS


def shares(tally: GroupTally, now_ns: int, pending: Sequence[int]) -> dict[int, tuple[float, float]]:
    told = tally.shares(now_ns, 0, lambda group: int(group in pending))
    return {share.group: (share.silence_ms, share.longest_gap_ms) for share in told}


def test_a_group_has_gaps_of_its_own_while_the_run_has_none() -> None:
    whole, tally = Gaps(), GroupTally((0, 3))
    for each in (0, 3):
        tally.owes_from(each, 0)
    whole.owes_from(0)
    for time_ms in range(10, 501, 10):
        whole.acknowledged(time_ms * 1_000_000)
        tally.acknowledged(0, 5, time_ms * 1_000_000)
    assert whole.longest_ns == 10_000_000
    assert shares(tally, 500_000_000, (3,)) == {0: (0.0, 10.0), 3: (500.0, 500.0)}
    tally.acknowledged(3, 7, 510_000_000)
    assert shares(tally, 520_000_000, ()) == {0: (0.0, 10.0), 3: (0.0, 510.0)}
    told = {share.group: (share.requests, share.acknowledged) for share in tally.shares(520_000_000, 0, lambda _: 0)}
    assert told == {0: (50, 250), 3: (1, 7)}
