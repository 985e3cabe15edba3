"""The filters of a node's frames: what is lost, what waits and for how long, whom a fault means; and no filter."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tests.engine.fake_effects import Driven
from zmqlab.engine import link_faults as module
from zmqlab.engine.link_faults import QUEUE_BYTES, Held, LinkFaults
from zmqlab.errors import FrameError, SettingsError
from zmqlab.raft.messages import AppendEntriesResponse, TimeoutNow
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.fault_queries import LinkFault, NodeFaults, NodeFaultsQuery
from zmqlab.wire.peer import Hello, encode_forward, encode_hello, encode_message

MS = 1_000_000
ONE, TWO = "tcp://127.0.0.1:5000", "tcp://127.0.0.1:5100"
MEMBERS = {1: ONE, 2: TWO}
OWN_ID = 9


class Links(LinkFaults):
    """With a heap of its own, whose frames are kept when they are due."""

    def __init__(self, seed: int) -> None:
        self.held = Held()
        super().__init__(random.Random(seed), lambda node_id: MEMBERS.get(node_id, ""), self.held, lambda _: None)

    def due(self, now_ns: int) -> list[bytes]:
        return [frame for frame, _ in self.held.due(now_ns)]


def make(*faults: LinkFault, seed: int = 1) -> Links:
    links = Links(seed)
    links.replace(faults)
    return links


def frame_of(sender: int, number: int = 1) -> bytes:
    return encode_message(TimeoutNow(sender, OWN_ID, number))


def test_nothing_to_do_without_faults() -> None:
    links = make()
    assert not links.active
    assert links.held.next_due_ns is None
    links.replace([LinkFault(sender=ONE)])
    assert not links.active, "a whole link is no fault"


@pytest.mark.parametrize(
    "frame",
    [
        frame_of(1),
        encode_message(AppendEntriesResponse(1, OWN_ID, 1, 1, True, 1, 0, 0)),
        encode_forward(1, [b"request"]),
        encode_hello(Hello(1, OWN_ID, ONE, "node1")),
    ],
    ids=["a vote's kind", "an answer", "forwarded", "hello"],
)
def test_whatever_a_cut_sender_says_is_lost_and_the_others_are_heard(frame: bytes) -> None:
    links = make(LinkFault(sender=ONE, cut=True))
    assert links.active
    assert not links.admit(frame, 0)
    assert links.admit(frame_of(2), 0)
    assert links.lost == 1
    assert links.due(10**18) == []


def test_a_table_replaces_the_one_before() -> None:
    links = make(LinkFault(sender=ONE, cut=True))
    links.replace([LinkFault(sender="tcp://localhost:5100", cut=True)])
    assert links.admit(frame_of(1), 0)
    assert not links.admit(frame_of(2), 0)
    links.replace([])
    assert not links.active


def test_delayed_frames_come_when_they_are_due_and_in_order() -> None:
    links = make(LinkFault(sender=ONE, delay_ms=20.0), LinkFault(sender=TWO, delay_ms=5.0))
    first, second, other = frame_of(1, 1), frame_of(1, 2), frame_of(2, 3)
    assert not any([links.admit(first, 0), links.admit(second, 0), links.admit(other, 10 * MS)])
    assert links.held.next_due_ns == 15 * MS
    assert links.due(15 * MS - 1) == []
    assert links.due(15 * MS) == [other]
    assert links.due(20 * MS) == [first, second]
    assert links.held.next_due_ns is None


def test_what_waits_when_the_links_are_healed_still_comes() -> None:
    links = make(LinkFault(sender=ONE, delay_ms=20.0))
    links.admit(frame_of(1), 0)
    links.replace([])
    assert not links.active, "nothing passes through the filter any more"
    assert links.admit(frame_of(1, 2), 1)
    assert links.due(20 * MS) == [frame_of(1)]
    assert links.held.next_due_ns is None


def test_a_share_is_lost() -> None:
    links = make(LinkFault(sender=ONE, loss=0.2))
    heard = sum(links.admit(frame_of(1), 0) for _ in range(5_000))
    assert 3_900 < heard < 4_100
    assert links.lost == 5_000 - heard
    assert not make(LinkFault(sender=ONE, loss=1.0)).admit(frame_of(1), 0)


def test_waiting_is_bounded_in_frames_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    links = make(LinkFault(sender=ONE, delay_ms=1.0))
    for _ in range(5):
        links.admit(frame_of(1), 0)
    assert links.lost == 2
    assert len(links.due(MS)) == 3
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 2 * len(frame_of(1)))
    for _ in range(5):
        links.admit(frame_of(1), 0)
    assert len(links.due(MS)) == 2


def test_a_stranger_is_known_by_the_address_in_its_hello() -> None:
    """A node whose disk was wiped is another member at the same place: the fault means it too."""
    links = make(LinkFault(sender=ONE, cut=True))
    assert links.admit(frame_of(77), 0), "who is that?"
    assert not links.admit(encode_hello(Hello(77, OWN_ID, ONE, "node1")), 0)
    assert not links.admit(frame_of(77), 0)
    for node_id in range(100, 100 + 2 * module.MAX_GUESTS):
        links.admit(encode_hello(Hello(node_id, OWN_ID, TWO, "x")), 0)
    assert links.admit(frame_of(77), 0), "remembered without bound"


def test_a_frame_that_is_too_short_is_refused() -> None:
    links = make(LinkFault(sender=ONE, cut=True))
    with pytest.raises(FrameError):
        links.admit(frames.header(frames.TIMEOUT_NOW) + b"1234567", 0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (LinkFault(sender="node1", cut=True), "not an endpoint"),
        (LinkFault(cut=True), "not an endpoint"),
        (LinkFault(sender=ONE, delay_ms=-1.0), "delay_ms is -1"),
        (LinkFault(sender=ONE, delay_ms=math.nan), "delay_ms is nan"),
        (LinkFault(sender=ONE, delay_ms=1e9), "delay_ms is"),
        (LinkFault(sender=ONE, loss=1.1), "loss is 1.1"),
        (LinkFault(sender=ONE, loss=math.nan), "loss is nan"),
        (LinkFault(sender=ONE, bytes_per_s=-1.0), "bytes_per_s is -1"),
        (LinkFault(sender=ONE, bytes_per_s=0.5), "1 is least"),
        (LinkFault(sender=ONE, duplication=2.0), "duplication is 2"),
        (LinkFault(sender=ONE, reordering=-0.1), "reordering is -0.1"),
        (LinkFault(sender=ONE, reordering=0.1, reordering_ms=1e9), "reordering_ms is"),
    ],
)
def test_a_fault_that_makes_no_sense_changes_nothing(fault: LinkFault, said: str) -> None:
    links = make(LinkFault(sender=TWO, cut=True))
    with pytest.raises(SettingsError, match=said):
        links.replace([LinkFault(sender=ONE, cut=True), fault])
    assert links.admit(frame_of(1), 0)
    assert not links.admit(frame_of(2), 0)


def test_too_many_links() -> None:
    with pytest.raises(SettingsError, match="more than 64"):
        make(*(LinkFault(sender=f"tcp://127.0.0.1:{port}", cut=True) for port in range(1_000, 1_065)))


# -- bandwidth, copies, order --------------------------------------------------------------------------------------


def test_a_link_with_a_bandwidth_lets_one_frame_through_after_the_other() -> None:
    size = len(frame_of(1))
    links = make(LinkFault(sender=ONE, bytes_per_s=1_000.0 * size))
    assert not any(links.admit(frame_of(1, number), 0) for number in (1, 2))
    assert links.admit(frame_of(2), 0), "the other link has no bound"
    assert links.due(MS - 1) == []
    assert links.due(MS) == [frame_of(1, 1)], "a frame is there when its last byte is"
    assert links.due(2 * MS) == [frame_of(1, 2)]
    links.admit(frame_of(1, 3), 10 * MS)
    assert links.held.next_due_ns == 11 * MS, "a link that was idle has no credit"


def test_what_finds_the_queue_full_is_lost_and_an_empty_one_takes_any_frame() -> None:
    links = make(LinkFault(sender=ONE, bytes_per_s=1_000.0))
    large = encode_forward(1, [bytes(2 * QUEUE_BYTES)])
    links.admit(large, 0)
    links.admit(frame_of(1), 0)
    assert links.lost == 1
    through_ns = round(len(large) * 1e6)
    links.admit(frame_of(1), through_ns - 60 * 1_000_000_000)
    assert links.lost == 1, "60,000 bytes wait before it, and the queue takes more"
    assert links.due(through_ns) == [large]


def test_a_bandwidth_comes_before_the_delay() -> None:
    links = make(LinkFault(sender=ONE, bytes_per_s=1_000.0 * len(frame_of(1)), delay_ms=5.0))
    links.admit(frame_of(1), 0)
    assert links.held.next_due_ns == 6 * MS


def test_a_share_comes_twice_and_the_second_copy_right_behind() -> None:
    links = make(LinkFault(sender=ONE, duplication=0.25))
    assert all(links.admit(frame_of(1), 0) for _ in range(4_000)), "the first copy is on time"
    assert 900 < len(links.due(0)) < 1_100
    links = make(LinkFault(sender=ONE, duplication=1.0, delay_ms=1.0))
    links.admit(frame_of(1), 0)
    assert links.due(MS) == [frame_of(1)] * 2


def test_a_share_comes_out_of_turn_and_not_later_than_it_may() -> None:
    links = make(LinkFault(sender=ONE, reordering=0.5, reordering_ms=10.0))
    on_time = [number for number in range(1_000) if links.admit(frame_of(1, number), 0)]
    late = links.due(10 * MS)
    assert 400 < len(on_time) < 600
    assert len(on_time) + len(late) == 1_000
    assert late != sorted(late)
    assert not make(LinkFault(sender=ONE, reordering=1.0)).active, "by no time at all"


def test_a_fault_says_what_it_is() -> None:
    fault = LinkFault(delay_ms=5, loss=0.1, bytes_per_s=50_000, duplication=0.2, reordering=0.3, reordering_ms=9)
    assert str(fault) == "5 ms late, 10% lost, 50 kB/s, 20% twice, 30% out of turn by up to 9 ms"
    assert str(LinkFault(cut=True, delay_ms=5)) == "cut"
    assert str(LinkFault()) == str(LinkFault(reordering=1)) == "whole"


# -- what a node suffers by itself ---------------------------------------------------------------------------------

ALICE = b"client"
EVERYTHING_ELSE = [control.BookQuery(3, "A"), control.StatusQuery(4)]


def alone(**settings: Any) -> Driven:
    """A node that leads, and obeys."""
    driven = Driven(NodeSettings(name="node0", port=5_000, allow_faults=True, **settings))
    driven.pass_time(1)
    driven.turn()
    return driven


def suffer(driven: Driven, **faults: Any) -> control.Answer:
    driven.effects.replies.clear()
    driven.turn(clients=[control.encode(frames.QUERY, NodeFaultsQuery(1, NodeFaults(**faults)))])
    ((_, answer),) = driven.effects.replies
    driven.effects.replies.clear()
    return control.decode_answer(answer)


def opened(driven: Driven) -> list[int]:
    """The nonces of the sessions whose opening was answered."""
    found = [frame for _, frame in driven.effects.replies if frame[3] == frames.RESPONSES]
    return [response.request_number for frame in found for response in client_wire.iter_responses(frame)]


def wait(driven: Driven, ms: float) -> None:
    driven.now_ns += round(ms * MS)
    driven.turn()


def test_requests_that_are_lost_never_arrive_and_queries_do() -> None:
    driven = alone()
    assert isinstance(suffer(driven, request_loss=1.0), control.OkAnswer)
    queries = [control.encode(frames.QUERY, query) for query in EVERYTHING_ELSE]
    driven.turn(clients=[client_wire.encode_open_session(7), *queries])
    assert opened(driven) == []
    assert len(driven.effects.replies) == len(queries)
    assert driven.engine.clients.lost == 1
    suffer(driven)
    driven.turn(clients=[client_wire.encode_open_session(8)])
    assert opened(driven) == [8]


def test_an_answer_that_is_lost_is_given_again_to_the_same_request() -> None:
    """Exactly once: the request was applied, and its answer stands in the log."""
    driven = alone()
    suffer(driven, answer_loss=1.0)
    driven.turn(clients=[client_wire.encode_open_session(7)])
    applied = driven.engine.groups[0].replica.machine.applied_index
    assert opened(driven) == []
    suffer(driven)
    driven.turn(clients=[client_wire.encode_open_session(7)])
    assert opened(driven) == [7]
    assert driven.engine.groups[0].replica.machine.sessions.owner_of(applied) == 0, "a session of the first time"


def test_requests_and_answers_can_be_late() -> None:
    driven = alone()
    suffer(driven, request_delay_ms=30.0)
    driven.turn(clients=[client_wire.encode_open_session(7)])
    wait(driven, 29)
    assert opened(driven) == []
    assert driven.engine.wake_ns <= driven.now_ns + MS
    wait(driven, 1)
    assert opened(driven) == [7]
    suffer(driven, answer_delay_ms=30.0)
    driven.turn(clients=[client_wire.encode_open_session(8)])
    wait(driven, 29)
    assert opened(driven) == []
    wait(driven, 1)
    assert opened(driven) == [8]


def test_a_late_request_that_makes_no_sense_is_refused_and_counted() -> None:
    driven = alone()
    suffer(driven, request_delay_ms=5.0)
    driven.turn(clients=[client_wire.encode_open_session(7) + b"x"])
    assert driven.engine.groups[0].counters.bad_frames == 0
    wait(driven, 5)
    assert driven.engine.groups[0].counters.bad_frames == 1


@pytest.mark.parametrize(("rate", "ticks"), [(2.0, 20), (0.5, 5), (1.0, 10)])
def test_a_clock_that_goes_wrong_passes_more_or_fewer_ticks(rate: float, ticks: int) -> None:
    driven = alone()
    suffer(driven, clock_rate=rate)
    driven.pass_time(1)  # the next tick was due by the old clock
    replica, began_ns = driven.engine.groups[0].replica, driven.now_ns
    before = replica._tick
    while driven.engine.wake_ns <= began_ns + 100 * MS:
        driven.pass_time(1)
    assert replica._tick - before == ticks


def test_the_disk_is_the_process_own() -> None:
    driven = alone()
    suffer(driven, write_ms=20.0)
    assert driven.effects.disk == (20.0, False)
    suffer(driven, disk_full=True)
    assert driven.effects.disk == (0.0, True)
    suffer(driven)
    assert driven.effects.disk == (0.0, False)


def test_what_a_node_can_not_suffer_changes_nothing() -> None:
    driven = alone()
    for faults in ({"clock_rate": 0.0}, {"write_ms": -1.0}, {"answer_loss": 1.5}, {"request_delay_ms": 1e9}):
        answer = suffer(driven, request_loss=0.0, **{"write_ms": 5.0} | faults)
        assert isinstance(answer, control.ErrorAnswer)
        assert answer.code == control.ErrorCode.BAD_QUERY
        assert driven.effects.disk == (0.0, False)
    with pytest.raises(SettingsError, match="for labs, with --allow-faults"):
        NodeSettings(name="node0", port=5_000, reads="local")


def test_a_node_that_was_not_told_to_obey_does_not() -> None:
    driven = Driven(NodeSettings(name="node0", port=5_000))
    driven.pass_time(1)
    answer = suffer(driven, clock_rate=2.0)
    assert isinstance(answer, control.ErrorAnswer)
    assert answer.code == control.ErrorCode.NOT_ALLOWED


def test_local_reads_wait_for_no_leader() -> None:
    """The node knows no leader, so that it can't answer a linearizable read."""
    peers = ("tcp://127.0.0.1:5100", "tcp://127.0.0.1:5200")
    answers = {}
    for reads in ("linearizable", "local"):
        settings = NodeSettings(name="node0", port=5_000, peers=peers, allow_faults=True, reads=reads)  # type: ignore[arg-type]
        driven = Driven(settings)
        driven.turn(clients=[control.encode(frames.QUERY, control.BookQuery(3, "A"))])
        answers[reads] = [control.decode_answer(frame) for _, frame in driven.effects.replies]
    assert isinstance(answers["linearizable"][0], control.ErrorAnswer)
    assert isinstance(answers["local"][0], control.BookAnswer)
