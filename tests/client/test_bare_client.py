"""The client without a safety net, and what it lets one see: answers again, answers lost, the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.waiting import wait_for
from zmqlab import Cluster, Command, Side
from zmqlab.client.bare_client import BareAnswer, BareClient
from zmqlab.errors import RequestTimeout
from zmqlab.lesson import anatomy, log_of

pytestmark = pytest.mark.process

ORDER = Command.limit(Side.BUY, "BARE", 100, 2_500, account=1)


def test_an_answer_that_stands_nowhere_in_the_log_names_no_place_there() -> None:
    assert repr(BareAnswer("STALE", 0, False, (), b"")) == "<STALE>"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(3) as running:
        yield running


@pytest.fixture
def bare(cluster: Cluster) -> Iterator[BareClient]:
    with BareClient(cluster) as client:
        client.open(cluster.leader)
        yield client


def test_a_number_used_again_gives_the_first_answer_from_any_node(cluster: Cluster, bare: BareClient) -> None:
    frame = bare.request(1, ORDER)
    first = bare.ask("node0", frame)
    assert first.status == "OK"
    assert not first.replayed
    for name in cluster.nodes:
        again = bare.ask(name, frame)
        assert (again.log_index, again.reports) == (first.log_index, first.reports)
    assert bare.ask("node0", frame).replayed
    assert "the first answer again" in repr(bare.ask("node0", frame))


def test_an_answer_that_is_lost_is_lost(cluster: Cluster, bare: BareClient) -> None:
    frame = bare.request(1, ORDER)
    bare.send("node1", frame)
    assert wait_for(lambda: any(line.data == frame for line in log_of(cluster.endpoints[0])))
    bare.drop("node1")
    assert bare.receive("node1", 0.2) is None
    assert bare.ask("node1", frame).replayed


def test_a_paused_node_gives_no_answer(cluster: Cluster, bare: BareClient) -> None:
    follower = next(name for name in cluster.nodes if name != cluster.leader)
    cluster.pause(follower)
    try:
        with pytest.raises(RequestTimeout, match="unknown whether the request was applied"):
            bare.ask(follower, bare.request(1, ORDER), timeout_s=0.2)
        with pytest.raises(RequestTimeout, match="opened no session"):
            bare.open(follower, timeout_s=0.2)
    finally:
        cluster.resume(follower)
    answer = bare.receive(follower, 60)
    assert answer is not None
    assert answer.status == "OK"


def test_a_session_that_was_never_opened_is_unknown(bare: BareClient) -> None:
    """No session has the index of the first entry. With keys a node says BUSY of one of the future, which may be opened
    yet (tests/engine/test_permissions.py)."""
    assert bare.ask("node0", bare.request(1, ORDER, session=1)).status == "SESSION_EXPIRED"
    assert bare.ask("node0", bare.request(1, ORDER, session=999_999)).status == "SESSION_EXPIRED"


def test_the_log_and_the_frames_show_themselves(cluster: Cluster, bare: BareClient) -> None:
    frame = bare.request(1, ORDER)
    answer = bare.ask(cluster.leader, frame)
    assert wait_for(lambda: log_of(cluster.endpoints[0])[-1].log_index >= answer.log_index), "a follower knows it later"
    lines = log_of(cluster.endpoints[0])
    assert lines[0].what.startswith("no-op")
    ours = next(line for line in lines if line.log_index == answer.log_index)
    assert ours.data == frame
    assert ours.what == f"request 1 of session {bare.session}: 1 command"
    assert "a session is opened" in repr(lines)
    assert "BARE" in repr(anatomy(frame))
    assert "<table>" in anatomy(answer.frame)._repr_html_()
    assert "<table>" in lines._repr_html_()
    assert f"session {bare.session}" in repr(bare)
