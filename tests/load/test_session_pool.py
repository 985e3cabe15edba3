"""Several clients in one load process: each has its share, its numbers and its window, and one verdict covers all."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from tests.client.conftest import MakeNodes
from tests.client.fake_node import FakeLog
from tests.client.steering import ONE_ORDER
from tests.load.test_generator import ledger_agrees, run_while, settings_for
from zmqlab.load.generator import Generator
from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.order_flow import COMMAND, symbol_names
from zmqlab.load.run_record import read_ledger
from zmqlab.load.session_pool import SessionPool
from zmqlab.market.types import symbol_name
from zmqlab.placement import group_of
from zmqlab.wire.client import ResponseStatus

pytestmark = pytest.mark.clock


def pool_of(settings: LoadSettings) -> SessionPool:
    return SessionPool(settings.nodes, settings.session, clients=settings.clients, seed=settings.seed)


def test_each_client_has_an_even_share(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(3)
    result = Generator(settings_for(nodes, clients=5, rate=3_000)).run()
    ledger = read_ledger(result.ledger)
    assert len(set(result.client_ids)) == 5
    assert set(ledger["client_id"].tolist()) == set(result.client_ids)
    assert result.total.acknowledged == result.total.sent == result.total.offered
    for client_id in result.client_ids:
        own = ledger[ledger["client_id"] == client_id]
        assert len(own) == pytest.approx(len(ledger) / 5, abs=2), "requests go to the sessions in turn"
        assert sorted(own["request_number"].tolist()) == list(range(1, len(own) + 1)), "numbers of its own"
        assert int(own["orders"].sum()) > 300, "half of the mean; how many orders share a request is chance"
    assert sum(result.orders_by_node.values()) == result.total.acknowledged
    ledger_agrees(result, log)


def test_clients_overlap_in_time(make_nodes: MakeNodes, log: FakeLog) -> None:
    nodes = make_nodes(1)
    nodes[0].delay_s = 0.02
    result = Generator(settings_for(nodes, clients=4, rate=1_000)).run()
    ledger = read_ledger(result.ledger)

    def waiting(at_ns: int) -> int:
        """How many clients have an open request at this moment."""
        open_then = ledger[(ledger["invoked_ns"] <= at_ns) & (ledger["completed_ns"] > at_ns)]
        return len(set(open_then["client_id"].tolist()))

    assert max(map(waiting, ledger["invoked_ns"].tolist())) == 4


def test_a_client_without_room_does_not_hold_up_the_others(make_nodes: MakeNodes, log: FakeLog) -> None:
    (node,) = make_nodes(1)
    settings = settings_for([node], clients=3, window=2, timeout_ms=60_000, suspicion_ms=60_000)
    with pool_of(settings) as sessions:
        sessions.open(30_000)
        node.lose_requests = 1
        assert sessions.room == 6
        answered = 0
        for _ in range(20):
            sessions.submit(ONE_ORDER)
            answered += len(sessions.poll(500))
        deadline = time.monotonic() + 60
        while answered < 19 and time.monotonic() < deadline:
            answered += len(sessions.poll(50))
        assert answered == 19
        assert sessions.pending == 1
        assert sessions.room == 4, "of the client that lost one, nothing"
        ((client_id, request),) = sessions.open_requests()
        assert (client_id, request.number) == (sessions.client_ids[0], 1)
        while sessions.room:
            sessions.submit(ONE_ORDER)
        with pytest.raises(AssertionError, match="room"):
            sessions.submit(ONE_ORDER)


def test_the_pool_waits_for_the_sockets_of_new_nodes(make_nodes: MakeNodes, log: FakeLog) -> None:
    old, new = (nodes := make_nodes(2))
    for node in nodes:
        node.says(old, new, commit_index=5)
    with pool_of(settings_for([old], clients=2)) as sessions:
        sessions.open(30_000)
        deadline = time.monotonic() + 60
        while sessions.connected != [True, True] or not sessions.all_connected:
            assert time.monotonic() < deadline
            sessions.poll(5)
        for node in nodes:
            node.says(new, commit_index=6)
        while sessions.connected != [False, True] or not sessions.all_connected:
            assert time.monotonic() < deadline
            sessions.poll(5)
        sessions.poll(0)
        sessions.submit(ONE_ORDER)
        while not (done := sessions.poll(1_000)):
            assert time.monotonic() < deadline
        assert done[0].node == 1


def test_one_expired_session_ends_the_run_after_the_last_answers(make_nodes: MakeNodes, log: FakeLog) -> None:
    (node,) = make_nodes(1)

    def expire() -> None:
        time.sleep(0.3)
        node.refuse_status, node.refuse_count = ResponseStatus.SESSION_EXPIRED, 1

    result = run_while(Generator(settings_for([node], clients=3, duration_s=30)), expire)
    assert "unknown to the cluster" in result.problem
    assert len(result.open_requests) >= 1
    assert result.open_requests[0].client_id in result.client_ids
    assert result.total.acknowledged + sum(each.orders for each in result.open_requests) == result.total.sent
    ledger_agrees(result, log)


def test_rate_max_with_several(make_nodes: MakeNodes, log: FakeLog) -> None:
    settings = settings_for(make_nodes(2), rate=None, clients=3, duration_s=0.4, closed_requests=2, closed_batch=50)
    result = Generator(settings).run()
    assert result.total.sent == result.total.acknowledged > 1_000
    assert len(set(read_ledger(result.ledger)["client_id"].tolist())) == 3
    ledger_agrees(result, log)


def test_rate_max_fills_each_group_as_if_it_were_the_only_one(make_nodes: MakeNodes, log: FakeLog) -> None:
    (node,) = make_nodes(1)
    node.lose_requests = 1_000
    patient = {"timeout_ms": 60_000, "suspicion_ms": 60_000, "drain_ms": 10, "duration_s": 0.2}
    settings = settings_for([node], shards=4, symbols=64, rate=None, clients=2, closed_requests=3, **patient)
    result = Generator(settings).run()
    assert Counter(request.group for request in result.open_requests) == dict.fromkeys(range(4), 2 * 3)


def test_each_group_has_a_session_and_gets_its_own_symbols_alone(make_nodes: MakeNodes, log: FakeLog) -> None:
    """The fake nodes keep one log for all groups, and so the ids of sessions differ here."""
    settings = settings_for(make_nodes(3), shards=4, symbols=64, rate=4_000, clients=2)
    result = Generator(settings).run()
    assert result.total.acknowledged == result.total.sent == result.total.offered
    groups = sorted({group_of(name, 4) for name in symbol_names(64)})
    assert result.client_groups == [group for group in groups for _ in range(2)]
    ledger = read_ledger(result.ledger)
    for client_id, group in zip(result.client_ids, result.client_groups, strict=True):
        own = ledger[ledger["client_id"] == client_id]
        assert set(own["group"].tolist()) == {group}
        for number in own["request_number"].tolist():
            rows = np.frombuffer(log.bodies[client_id, number], COMMAND)
            assert {group_of(symbol_name(int(code)), 4) for code in rows["symbol"]} == {group}
    shares = {share.group: share for share in result.groups}
    assert sum(share.acknowledged for share in shares.values()) == result.total.acknowledged
    assert {group: share.requests for group, share in shares.items()} == {
        group: int((ledger["group"] == group).sum()) for group in groups
    }
    ledger_agrees(result, log)


def test_a_group_without_room_holds_up_no_other(make_nodes: MakeNodes) -> None:
    """Its orders wait, and count as held back by the cluster; the others are answered."""
    settings = settings_for(make_nodes(1), shards=4, symbols=64, rate=2_000, drain_ms=300)
    generator = Generator(settings)
    stuck = group_of(symbol_names(64)[0], 4)
    room_of = SessionPool.room_of

    def without_room(pool: SessionPool, group: int) -> int:
        return 0 if group == stuck else room_of(pool, group)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionPool, "room_of", without_room)
        result = generator.run()
    assert {share.group: share.acknowledged > 0 for share in result.groups} == {
        share.group: share.group != stuck for share in result.groups
    }
    waiting = result.total.offered - result.total.sent
    assert waiting == pytest.approx(result.total.offered / 4, rel=0.4)
    assert result.total.held_back >= 0.8 * waiting
    assert result.total.acknowledged == result.total.sent
