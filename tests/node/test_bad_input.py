"""Whatever a stranger sends: counted, dropped, state unchanged, and a good client beside it is served."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.node.conftest import LiveNode
from tests.node.raw_connection import EMPTY_PART, RawConnection
from tests.waiting import PATIENCE_S, wait_for
from zmqlab import net
from zmqlab.client.order_client import Client
from zmqlab.endpoints import CLIENT_PORT
from zmqlab.lab.hosts import free_base_ports
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames, records
from zmqlab.wire.control import HashAnswer, HashQuery
from zmqlab.wire.fault_queries import LinkFault, LinkFaultsQuery
from zmqlab.wire.peer import Hello, encode_hello

pytestmark = pytest.mark.process

RNG = random.Random(20)
BUY = (1, 1, 1, 1, 10, 0, 0x4C504141, 100, 1, 0)  # 10 AAPL at 100
REQUEST = client_wire.encode_request(1, 1, 1, records.pack_commands([BUY]))

BAD_FRAMES = {
    "a long address": [encode_hello(Hello(1, 2, "tcp://" + "a" * 50_000, "x"))],
    "random bytes": [RNG.randbytes(size) for size in (1, 7, 8, 40, 1_000)],
    "empty": [b""],
    "truncated": [REQUEST[:size] for size in range(0, len(REQUEST), 9)],
    "too long": [REQUEST + b"x"],
    "oversized": [frames.header(frames.REQUEST) + bytes(frames.MAX_PEER_FRAME_BYTES * 2)],
    "unknown version": [REQUEST[:2] + b"\x09" + REQUEST[3:]],
    "unknown group": [REQUEST[:4] + b"\x07" + REQUEST[5:]],
    "wrong type": [frames.header(kind) + bytes(64) for kind in (0x00, 0x02, 0x06, 0x20, 0xFF)],
    "broken msgpack": [frames.header(frames.QUERY) + b"\xc1\xc1", frames.header(frames.QUERY) + b"\x91" * 5_000],
    "stranger's raft": [frames.header(kind) + RNG.randbytes(58) for kind in range(0x10, 0x1B)],
}


def state_of(node: LiveNode) -> tuple[int, str]:
    answer = node.ask(HashQuery(5))
    assert isinstance(answer, HashAnswer)
    return answer.index, answer.state_hash


@pytest.mark.parametrize("offset", [1, 2], ids=["peers", "clients"])
def test_bad_frames_change_nothing(node: LiveNode, offset: int) -> None:
    client_id = node.open_session()
    before = state_of(node)
    stranger = node.dealer(offset)
    sent = 0
    for bad_frames in BAD_FRAMES.values():
        for frame in bad_frames:
            stranger.send(frame)
            sent += 1
    stranger.send_multipart([REQUEST] * 50)
    stranger.send_multipart([RNG.randbytes(60_000)] * 200)
    deadline = time.monotonic() + PATIENCE_S
    while node.status().bad_frames_total < sent + 2 - 1:  # libzmq itself refuses the oversized one
        assert time.monotonic() < deadline, f"{node.status().bad_frames_total} of {sent} were counted"
        time.sleep(0.02)
    assert state_of(node) == before
    assert node.request(client_id, 1, BUY).status == client_wire.ResponseStatus.OK
    log_text = (node.run_dir / "logs" / "node0.log").read_text()
    assert log_text.count("bad frame from") < sent, "the log's rate is bounded"
    assert max(map(len, log_text.splitlines())) < 400, "and so are its lines"


@pytest.mark.parametrize("offset", [0, 1, 2], ids=["publisher", "peers", "clients"])
def test_plain_tcp_garbage_changes_nothing(node: LiveNode, offset: int) -> None:
    client_id = node.open_session()
    before = state_of(node)
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00" * 500, b"\xff" + bytes(63), RNG.randbytes(4_000)):
        with socket.create_connection(("127.0.0.1", node.port + offset)) as stranger:
            stranger.settimeout(0.05)
            stranger.sendall(garbage)
            with contextlib.suppress(TimeoutError, ConnectionError):  # it hangs, or it is thrown out: both are fine
                stranger.recv(100)
    assert state_of(node) == before
    assert node.request(client_id, 1, BUY).status == client_wire.ResponseStatus.OK


def test_a_client_that_never_reads_costs_bounded_memory(node: LiveNode) -> None:
    client_id = node.open_session()
    deaf = node.dealer(2, receive_queue=1)
    query = control.encode(frames.QUERY, control.LogQuery(1, 1, 1 << 20))
    before = node.status().rss_bytes
    node.request(client_id, 1, *[BUY] * 1_000)
    for _ in range(2_000):
        deaf.send(query)
    deadline = time.monotonic() + PATIENCE_S
    while node.status().dropped_total == 0:
        assert time.monotonic() < deadline, "answers to the deaf client were not dropped"
        time.sleep(0.02)
    assert node.request(client_id, 2, BUY).status == client_wire.ResponseStatus.OK
    assert node.status().rss_bytes - before < 64 << 20


def test_a_client_that_never_reads_long_answers_costs_bounded_memory(node: LiveNode) -> None:
    client_id = node.open_session()
    for number in range(1, 41):  # 1.6 MB of log
        node.request(client_id, number, *[BUY] * 1_000)
    deaf = node.dealer(2, receive_queue=1)
    before = node.status().rss_bytes
    query = control.encode(frames.QUERY, control.LogQuery(1, 1, 1 << 30))
    for _ in range(1_000):
        deaf.send(query)
    deadline = time.monotonic() + PATIENCE_S
    while node.status().dropped_total == 0:
        assert time.monotonic() < deadline, "answers to the deaf client were not dropped"
        time.sleep(0.02)
    assert node.status().rss_bytes - before < 192 << 20


def test_costly_questions_without_end_hold_nobody_up(node: LiveNode) -> None:
    """The whole state is hashed only when it has changed, and the turn ends when it has taken long enough."""
    client_id = node.open_session()
    for number in range(1, 51):
        orders = [(1, 1, 1, 1, 10, 0, 0x4C504141, 1_000 - price % 500, 1, 0) for price in range(1_000)]
        assert node.request(client_id, number, *orders).status == client_wire.ResponseStatus.OK
    stranger = node.dealer(2)
    for _ in range(200):
        stranger.send(control.encode(frames.QUERY, HashQuery(1)))
        stranger.send(control.encode(frames.QUERY, control.LogQuery(1, 1, 1 << 30)))
    process, slowest_s = psutil.Process(node.process.pid), 0.0
    for number in range(51, 101):
        before_s = sum(process.cpu_times()[:2])
        assert node.request(client_id, number, BUY).status == client_wire.ResponseStatus.OK
        slowest_s = max(slowest_s, sum(process.cpu_times()[:2]) - before_s)
    assert slowest_s < 1.0, "what the node did before it answered: a busy machine adds nothing to that"


def test_a_client_that_comes_back_under_its_identity_is_heard(node: LiveNode) -> None:
    query = control.encode(frames.QUERY, control.StatusQuery(1))
    for _ in range(3):
        again = node.dealer(2, identity=b"the same")
        again.send(query)
        assert again.poll(30_000), "a second connection under a known identity was ignored"


def test_a_subscriber_that_never_reads_costs_bounded_memory_and_slows_nobody(node: LiveNode) -> None:
    client_id = node.open_session()
    deaf = node.subscriber(receive_queue=1)
    before = node.status().rss_bytes
    sell = (1, 2, 1, 1, 10, 0, 0x4C504141, 100, 2, 0)
    for number in range(1, 201):  # each a thousand trades, of which some are published
        response = node.request(client_id, number, *[BUY, sell] * 500)
        assert response.status == client_wire.ResponseStatus.OK
    assert node.status().rss_bytes - before < 64 << 20
    assert deaf.poll(30_000), "it did subscribe"


def test_a_node_that_was_not_told_to_allows_no_faults(node: LiveNode) -> None:
    answer = node.ask(LinkFaultsQuery(3, [LinkFault(sender="tcp://127.0.0.1:5000", cut=True)]))
    assert isinstance(answer, control.ErrorAnswer)
    assert (answer.nonce, answer.code) == (3, "not_allowed")


@pytest.mark.long
def test_1200_idle_connections_where_1024_files_may_be_open(tmp_path: Path) -> None:
    """The node ended with "a broken invariant": there was no descriptor to read its own memory figure. Tests had a few
    strangers at a time."""
    net.raise_descriptor_limit()  # of this process
    with contextlib.ExitStack() as opened:
        node = LiveNode(free_base_ports(1)[0], tmp_path, descriptors=1_024)
        opened.callback(node.close)
        client_id = node.open_session()
        for _ in range(1_200):
            opened.enter_context(RawConnection(node.port + CLIENT_PORT))
        assert node.request(client_id, 1, BUY).status == client_wire.ResponseStatus.OK
        with Client([f"tcp://127.0.0.1:{node.port + CLIENT_PORT}"], timeout_s=30) as late:
            assert late.buy("A", 1, 1).order_id
        for offset in range(CLIENT_PORT):
            for _ in range(500):
                opened.enter_context(RawConnection(node.port + offset, is_greeted=False))
        assert node.status().dropped_total == 0
        process = psutil.Process(node.process.pid)
        assert wait_for(lambda: process.num_fds() < 1_024), "the doorkeeper looks 20 times a second"


def test_what_never_becomes_a_message_takes_no_memory(node: LiveNode) -> None:
    """57 MiB of empty parts took 1.8 GiB, 24 MB of subscriptions 1.2 GiB."""
    process = psutil.Process(node.process.pid)
    before = process.memory_info().rss
    with RawConnection(node.port + CLIENT_PORT) as stranger, RawConnection(node.port, b"SUB") as subscriber:
        for _ in range(800):
            still = stranger.send(EMPTY_PART * 32_768)
            still |= subscriber.send(b"".join(b"\x00\x15\x01" + RNG.randbytes(20) for _ in range(1_000)))
            if not still:
                break
            node.status()
        assert process.memory_info().rss - before < 400 << 20
    assert node.status().role == "leader"
