"""The client's core in virtual time: retries that do not flood a slow cluster, and failover that stays fast."""

from __future__ import annotations

import pytest

from tests.client.virtual import MS, VirtualCluster
from zmqlab.client.retries import TIMEOUT_GROWTH, ResponseClock
from zmqlab.client.session import SessionSettings
from zmqlab.wire import client
from zmqlab.wire.client import ResponseStatus


@pytest.fixture
def cluster() -> VirtualCluster:
    made = VirtualCluster()
    made.open()
    return made


def copies_a_request(cluster: VirtualCluster) -> float:
    return cluster.arrivals.total() / len(cluster.arrivals)


def test_a_calm_cluster_gets_each_request_once(cluster: VirtualCluster) -> None:
    cluster.run(2_000, every_ms=5)
    cluster.run(100)
    assert len(cluster.done) == len(cluster.arrivals) == pytest.approx(400, abs=2)
    assert set(cluster.arrivals.values()) == {1}


@pytest.mark.parametrize("delay_ms", [1_200, 3_000])
def test_a_cluster_that_becomes_slow_is_not_flooded(cluster: VirtualCluster, delay_ms: float) -> None:
    """The old client sent each request again after one second, then after two more: three copies of each."""
    cluster.run(2_000, every_ms=5)
    for node in cluster.nodes.values():
        node.delay_ms = delay_ms
    cluster.run(15_000, every_ms=20)
    assert copies_a_request(cluster) < 1.02
    cluster.run(4_000)
    assert cluster.session.pending == 0


def test_a_follower_twice_as_slow_as_the_leader_costs_one_window_at_most(cluster: VirtualCluster) -> None:
    """With 600 ms between nodes, the leader answers after 1.2 s and the followers, which forward, after 2.4 s."""
    cluster.run(2_000, every_ms=5)
    for node_id, delay_ms in ((1, 1_200), (2, 2_400), (3, 2_400)):
        cluster.nodes[node_id].delay_ms = delay_ms
    cluster.run(20_000, every_ms=10)
    assert copies_a_request(cluster) < 1.15
    before = cluster.arrivals.total(), len(cluster.arrivals)
    cluster.run(10_000, every_ms=10)
    assert (cluster.arrivals.total() - before[0]) / (len(cluster.arrivals) - before[1]) < 1.02, "it has learned"


def test_a_cluster_that_stands_still_gets_a_few_probes(cluster: VirtualCluster) -> None:
    cluster.run(2_000, every_ms=5)
    answered = cluster.arrivals.total()
    for node in cluster.nodes.values():
        node.answers_requests = False
    cluster.run(6_000, submit=300)
    assert cluster.arrivals.total() - answered - 300 <= 9, "each of three nodes: after 1 s, 3 s and perhaps 7 s"
    assert cluster.session.counters.failovers == 0, "all nodes answer questions: none of them is silent"


def test_a_silent_node_is_left_after_the_suspicion_time(cluster: VirtualCluster) -> None:
    cluster.run(500, every_ms=5)
    cluster.nodes[2].answers_queries = cluster.nodes[2].answers_requests = False
    cluster.done.clear()
    cluster.run(320, submit=30)
    assert len(cluster.done) >= 20
    cluster.run(20)
    assert len(cluster.done) == 30, "the suspicion time and a few round trips, not a time-out"
    asked = cluster.nodes[2].requests
    cluster.run(1_000, every_ms=5)
    assert cluster.nodes[2].requests == asked, "it is avoided"
    cluster.nodes[2].answers_queries = cluster.nodes[2].answers_requests = True
    cluster.run(2_000, every_ms=5)
    assert cluster.nodes[2].requests > asked, "and used again when it speaks"


def test_a_slow_cluster_makes_no_node_suspect() -> None:
    """All requests take longer than the suspicion time: the old client moved all of them, twice."""
    cluster = VirtualCluster(SessionSettings(node_choice="round-robin", timeout_ms=10_000))
    cluster.open()
    for node in cluster.nodes.values():
        node.delay_ms = 900
    cluster.run(3_000, every_ms=5)
    assert cluster.session.counters.retries == 0


def test_when_all_nodes_fall_silent_none_is_suspect(cluster: VirtualCluster) -> None:
    """For example because this machine, and not a node, was paused."""
    cluster.run(500, every_ms=5)
    for node in cluster.nodes.values():
        node.answers_queries = node.answers_requests = False
    cluster.run(900, submit=30)
    assert cluster.session.counters.retries == 0


def test_a_hiccup_of_a_slow_cluster_is_waited_for(cluster: VirtualCluster) -> None:
    """The time-out is little above a steady response time, but its clock starts again with each answer."""
    for node in cluster.nodes.values():
        node.delay_ms = 2_000
    cluster.run(12_000, every_ms=10)
    before = cluster.session.counters.retries
    for node in cluster.nodes.values():
        node.delay_ms = 2_600
    cluster.run(5_000, every_ms=10)
    assert cluster.session.counters.retries == before


def test_small_differences_between_nodes_do_not_make_one_stuck(cluster: VirtualCluster) -> None:
    cluster.run(500, every_ms=5)
    cluster.nodes[3].answers_requests = False
    cluster.run(50, every_ms=5)
    for node in cluster.nodes.values():
        node.answers_requests = False
    cluster.run(2_000, submit=100)
    assert cluster.session.counters.failovers == 0
    assert cluster.session.counters.retries <= 3


def test_a_node_that_talks_but_answers_no_request_is_left_at_the_time_out(cluster: VirtualCluster) -> None:
    """It is cut off from the leader, and its connection to the client stands."""
    cluster.run(2_000, every_ms=5)
    stuck = cluster.nodes[3]
    stuck.answers_requests = False
    cluster.run(1_050, every_ms=5)
    outstanding = len(cluster.contact(3).outstanding)
    assert outstanding == 0, "all of them moved, not only those that had timed out"
    asked = stuck.requests
    cluster.run(1_500, every_ms=5)
    assert stuck.requests == asked, "its answers to questions do not bring it back"
    cluster.run(60)
    assert cluster.session.pending == 0
    stuck.answers_requests = True
    cluster.run(8_000, every_ms=5)
    assert stuck.requests > asked + 100, "an answer does"


def test_a_request_waits_at_each_stuck_node_once() -> None:
    """Found by the simulator (seed 2394): two of five nodes were cut off, and a request went from one to the other and
    back, each time with twice the time-out."""
    for seed in range(40):
        cluster = VirtualCluster(SessionSettings(node_choice="random"), count=5, seed=seed)
        cluster.open()
        for node_id in (4, 5):
            cluster.nodes[node_id].answers_requests = False
        for _ in range(20):
            cluster.submit()
            cluster.run(4_000)
            assert cluster.session.pending == 0, "two time-outs of a second, the second one doubled"


def test_a_session_asks_every_node_before_it_asks_one_again() -> None:
    """Found by the simulator (seed 3001337): it asked the two of five nodes that were cut off, in turn."""
    for seed in range(100):
        cluster = VirtualCluster(SessionSettings(node_choice="random"), count=5, seed=seed)
        for node_id in (4, 5):
            cluster.nodes[node_id].answers_requests = False
        cluster.session.begin(cluster.now_ns)
        cluster.run(1_600)
        assert cluster.session.client_id, "the third try is 1.5 s after the first"


def test_a_node_that_goes_on_answering_no_request_gets_a_few_of_them(cluster: VirtualCluster) -> None:
    """It was avoided once and never again: when it had been tried once more, every later request went there first."""
    cluster.run(2_000, every_ms=5)
    cluster.nodes[3].answers_requests = False
    cluster.run(10_000, every_ms=5)
    asked = cluster.nodes[3].requests
    cluster.run(10_000, every_ms=5)
    assert 0 < cluster.nodes[3].requests - asked < 100, "of 2,000"


def test_what_is_answered_while_it_waits_takes_no_room(cluster: VirtualCluster) -> None:
    """An earlier copy is answered while the request waits out a full window."""
    number = cluster.submit()
    (request,) = cluster.session.open_requests()
    asked = request.node
    assert asked is not None
    request.windows_full = 4  # its next pause is a long one
    for status in (ResponseStatus.WINDOW_FULL, ResponseStatus.OK):
        body = client.encode_response(cluster.session.client_id, number, 99, status)
        cluster.session.on_frame(asked, client.encode_responses([body]), cluster.now_ns)
        assert (cluster.session.room > 0) is (status == ResponseStatus.OK)


def test_being_refused_does_not_make_a_request_wait_longer_for_its_answer(cluster: VirtualCluster) -> None:
    """Found by the simulator (seed 204): eight times BUSY, then a lost request, and eight time-outs
    long nothing happened."""
    for node in cluster.nodes.values():
        node.status = ResponseStatus.BUSY
    cluster.run(500, submit=1)
    assert cluster.arrivals[1] > 5
    for node in cluster.nodes.values():
        node.status, node.answers_requests = ResponseStatus.OK, False
    cluster.run(200)
    for node in cluster.nodes.values():
        node.answers_requests = True
    cluster.run(1_050)
    assert cluster.session.pending == 0, "one time-out"


def test_a_lost_connection_moves_requests_at_once(cluster: VirtualCluster) -> None:
    cluster.nodes[1].answers_requests = False
    cluster.run(5, submit=30)
    cluster.session.on_disconnected(cluster.contact(1), cluster.now_ns)
    cluster.run(20)
    assert len(cluster.done) == 30
    assert cluster.session.counters.retries == 10
    assert cluster.session.counters.failovers == 1


def test_a_request_that_was_overtaken_is_sent_again_at_once(cluster: VirtualCluster) -> None:
    cluster.nodes[1].answers_requests = False
    lost = [cluster.submit() for _ in range(3)]
    cluster.nodes[1].answers_requests = True
    cluster.run(150)
    assert cluster.session.pending == 1
    cluster.run(50, submit=3)
    assert cluster.session.pending == 0
    assert cluster.session.counters.overtaken == 1
    assert sorted(cluster.arrivals[number] for number in lost) == [1, 1, 2]


def test_a_session_asks_for_itself_less_and_less_often() -> None:
    """Each OPEN_SESSION that is applied makes another session: a slow cluster must not get one every half second."""
    cluster = VirtualCluster()
    for node in cluster.nodes.values():
        node.delay_ms = 6_000
    cluster.session.begin(cluster.now_ns)
    cluster.run(6_050)
    assert cluster.session.client_id == 77
    assert cluster.opens == 5, "after 0, 0.5, 1.5, 3.5 and 5.5 s"
    cluster.run(8_000)
    assert cluster.opens == 5
    assert cluster.session.opened_ns[1] - cluster.session.opened_ns[0] == pytest.approx(6_000 * MS, abs=20 * MS)


def test_a_request_that_no_node_takes_is_not_sent() -> None:
    cluster = VirtualCluster()
    cluster.open()
    for contact in cluster.session.roster.contacts:
        cluster.session.on_disconnected(contact, cluster.now_ns)
    cluster.submit()
    cluster.run(100)
    assert [each.number for each in cluster.session.unsent_requests()] == [1]
    assert cluster.session.room == 0
    cluster.session.on_connected(cluster.contact(2))
    cluster.run(20)
    assert list(cluster.session.unsent_requests()) == []
    assert len(cluster.done) == 1
    assert cluster.done[0].attempts == 1


def test_an_expired_session_is_over(cluster: VirtualCluster) -> None:
    for node in cluster.nodes.values():
        node.status = ResponseStatus.SESSION_EXPIRED
    cluster.run(20, submit=2)
    assert cluster.session.expired
    assert cluster.session.pending == 2


def test_an_answer_after_a_retry_is_no_sample_of_the_response_time() -> None:
    """It would hold the time-out, and the next time-out would be longer still."""
    cluster = VirtualCluster(count=1)
    cluster.open()
    cluster.run(500, every_ms=5)
    cluster.nodes[1].answers_requests = False
    cluster.run(100, submit=1)
    cluster.nodes[1].answers_requests = True
    cluster.run(1_200)
    assert cluster.session.pending == 0
    assert cluster.session.counters.timeouts == 1
    assert cluster.contact(1).clock.srtt_ns < 20 * MS


def test_the_time_out_follows_the_response_time() -> None:
    clock = ResponseClock(1_000 * MS)
    assert clock.timeout_ns() == 1_000 * MS, "the floor, before any sample"
    for _ in range(100):
        clock.observe(2 * MS)
    assert clock.timeout_ns() == 1_000 * MS, "the floor, for a quick cluster"
    for _ in range(100):
        clock.observe(3_000 * MS)
    assert 3_000 * MS <= clock.timeout_ns() < 3_200 * MS, "little above a steady response time"
    assert clock.timeout_ns(expiries=2) == 4 * clock.timeout_ns(), "doubled with each expiry of the request"
    steady_ns = clock.timeout_ns()
    clock.note_expiry()
    assert clock.timeout_ns() == 2 * steady_ns
    for _ in range(5):
        clock.note_expiry()
    assert clock.timeout_ns() == 8 * steady_ns, "up to eightfold"
    clock.observe(3_000 * MS)
    assert clock.timeout_ns() == pytest.approx(steady_ns, rel=0.01), "an answer without a retry ends it"
    clock.observe(100_000 * MS)
    assert clock.timeout_ns() == TIMEOUT_GROWTH * 1_000 * MS
    assert clock.timeout_ns(expiries=3) == 8 * TIMEOUT_GROWTH * 1_000 * MS
    assert ResponseClock(600_000 * MS).timeout_ns() == 600_000 * MS, "the caller's floor may be above that"
