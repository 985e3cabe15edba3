"""Strangers at the doors of a cluster with keys, and at those of a load: nothing read, nothing changed, no one deposed.

A stranger here is a process of this machine that knows every port, every node id, and the members' public key, and has
no secret. One that has a trader's secret is no stranger at the clients' port, and is one at the peers'.
"""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq

from tests.waiting import wait_for
from zmqlab import keys, net
from zmqlab.client import ask
from zmqlab.client.order_client import Client
from zmqlab.endpoints import parse_endpoint
from zmqlab.errors import RequestRefused
from zmqlab.keys import Credentials, Keyring, Role
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.load_client import LoadClient
from zmqlab.lab.scaling import remove_member
from zmqlab.load import load_messages
from zmqlab.raft.messages import BROADCAST, AppendEntries, InstallSnapshot, RequestVote, TimeoutNow
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.fault_queries import LinkFaultsQuery
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.peer import Hello, encode_forward, encode_hello, encode_message

pytestmark = pytest.mark.process
BOUNDS = net.SocketBounds(frame_bytes=1_000_000)
LISTEN_MS = 400
"""For what must not come: four times what passes between two snapshots that a node publishes, and ten times what an
answer takes."""
ANSWER_MS = 30_000
"""For what must come."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Patient nodes: who leads changes by a stranger's doing or not at all."""
    with Cluster(3, keys=True, settings={"election_ticks": 100}) as running:
        yield running


class Stranger:
    """A process that connects, for all that this process' own keys are concerned."""

    def __init__(self) -> None:
        self._context = net.new_context()
        self.sockets: list[net.Socket] = []

    def connect(self, kind: int, endpoint: str, credentials: Credentials | None) -> net.Socket:
        """A socket that shows this key, or none; a SUB hears all topics. Without an endpoint it is connected later."""
        socket = net.open_socket(self._context, kind, BOUNDS)
        self.sockets.append(socket)
        net.show(socket, credentials)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        if endpoint:
            socket.connect(endpoint)
        return socket

    def hears(self) -> bool:
        readable, _, _ = zmq.select(self.sockets, [], [], LISTEN_MS / 1000)
        return bool(readable)

    def close(self) -> None:
        for socket in self.sockets:
            socket.close(0)
        self._context.term()


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    made = Stranger()
    yield made
    made.close()


def ring_of(cluster: Cluster) -> Keyring:
    folder = cluster.fleet.plan.key_folder
    assert folder is not None
    return Keyring.read(folder)


def with_own_key(cluster: Cluster) -> Credentials:
    """A key that the stranger made, shown to the right member."""
    public, secret = keys.new_pair()
    return Credentials(public, secret, ring_of(cluster).credentials().server)


def statuses(cluster: Cluster) -> dict[str, NodeStatus]:
    found = ask.statuses(cluster.endpoints)
    return {status.name: status for status in found.values()}


def at_rest(cluster: Cluster) -> dict[str, NodeStatus]:
    """The statuses, once all nodes have applied as much: one may hear later than another what is committed."""
    seen: dict[str, NodeStatus] = {}

    def agree() -> bool:
        seen.update(statuses(cluster))
        return len(seen) == 3 and len({(each.last_index, each.applied_index, each.term) for each in seen.values()}) == 1

    assert wait_for(agree), seen
    return dict(seen)


def test_nothing_is_read_and_nothing_changed_at_the_ports_for_clients_and_watchers(
    cluster: Cluster, stranger: Stranger
) -> None:
    before = at_rest(cluster)
    victim = next(status.node_id for status in before.values() if status.role == "follower")
    for endpoint in cluster.endpoints:
        host, port = parse_endpoint(endpoint)
        for credentials in (None, with_own_key(cluster)):
            client = stranger.connect(zmq.DEALER, endpoint, credentials)
            for frame in (
                control.encode(frames.QUERY, control.StatusQuery(1)),
                control.encode(frames.QUERY, control.RemoveMemberQuery(1, victim)),
                control.encode(frames.QUERY, LinkFaultsQuery(1)),
                client_wire.encode_open_session(1),
            ):
                client.send(frame)
            stranger.connect(zmq.SUB, f"tcp://{host}:{port - 2}", credentials)
    assert not stranger.hears()
    after = at_rest(cluster)
    assert {name: status.term for name, status in after.items()} == {n: s.term for n, s in before.items()}
    assert {status.applied_index for status in after.values()} == {status.applied_index for status in before.values()}
    assert {len(status.members) for status in after.values()} == {3}


def test_no_one_but_a_member_speaks_as_one(cluster: Cluster, stranger: Stranger) -> None:
    """Three forged snapshots replaced all state, inflated terms held elections for ever, HELLOs redirected traffic."""
    before = at_rest(cluster)
    ids = [status.node_id for status in before.values()]
    term = max(status.term for status in before.values()) + 1_000_000
    trader = ring_of(cluster).credentials(Role.TRADER)
    operator = ring_of(cluster).credentials()
    for status in before.values():
        other = next(node_id for node_id in ids if node_id != status.node_id)
        forged = [
            encode_message(RequestVote(other, status.node_id, term, 1 << 40, term, False, True)),
            encode_message(InstallSnapshot(other, status.node_id, term, 1, 1 << 40, term, 0, True, b"junk", b"")),
            encode_message(TimeoutNow(other, status.node_id, term)),
            encode_message(AppendEntries(other, status.node_id, term, 0, 0, 0, 1, ())),
            encode_message(AppendEntries(other, BROADCAST, term, 0, 0, 0, 1, ())),
            encode_forward(other, [client_wire.encode_open_session(3)]),
            encode_hello(Hello(other, status.node_id, "tcp://127.0.0.1:9", "evil")),
        ]
        for credentials in (None, with_own_key(cluster), trader, operator):
            peer = stranger.connect(zmq.DEALER, f"tcp://127.0.0.1:{status.port + 1}", credentials)
            for frame in forged:
                peer.send(frame)
    time.sleep(LISTEN_MS / 1000)

    def refused(name: str, status: NodeStatus) -> bool:
        return status.bad_frames_total >= before[name].bad_frames_total + 3

    assert wait_for(lambda: all(refused(*each) for each in statuses(cluster).items())), "three each"
    after = at_rest(cluster)
    assert {name: (status.term, status.role, status.applied_index) for name, status in after.items()} == {
        name: (status.term, status.role, status.applied_index) for name, status in before.items()
    }


def test_a_trader_trades_and_does_not_operate(cluster: Cluster, tmp_path: Path) -> None:
    ring_of(cluster).only("trader").save(tmp_path / "trader")
    victim = next(status.node_id for status in statuses(cluster).values() if status.role == "follower")
    bases = [f"tcp://127.0.0.1:{status.port}" for status in statuses(cluster).values()]
    try:
        with Client(cluster.endpoints, keys=tmp_path / "trader") as client:
            assert client.buy("A", 1, 100).order_id > 0
            assert client.book("A").bids == [(100, 1, 1)]
            with pytest.raises(RequestRefused, match="trader has the role trader, and that needs the role operator"):
                remove_member(lambda: cluster.endpoints, victim, time.monotonic() + 5)
    finally:
        keys.use(None)
        keys.trust(bases, ring_of(cluster).credentials())
    assert len(cluster.status()) == 3


def test_a_watcher_does_not_take_a_traders_route(cluster: Cluster, stranger: Stranger) -> None:
    """ZeroMQ lets a client choose by which name the node's socket knows it, and a ROUTER may give it another's."""
    question = control.encode(frames.QUERY, control.StatusQuery(1))
    trader, watcher = (
        stranger.connect(zmq.DEALER, "", ring_of(cluster).credentials(role)) for role in (Role.TRADER, Role.WATCHER)
    )
    for socket in (trader, watcher):
        socket.setsockopt(zmq.ROUTING_ID, b"alice")
        socket.connect(cluster.endpoints[0])
        socket.send(question)
        socket.poll(ANSWER_MS if socket is trader else LISTEN_MS)
    assert trader.recv(zmq.NOBLOCK)
    trader.send(question)
    assert trader.poll(ANSWER_MS)
    assert not watcher.poll(0)


def test_a_node_that_is_added_needs_nothing_more(cluster: Cluster) -> None:
    name = cluster.add()
    assert name in cluster.running
    cluster.kill(name)
    cluster.restart(name)
    cluster.remove(name)
    assert len(cluster.nodes) == 3


def test_what_a_run_leaves_is_for_its_owner_alone(cluster: Cluster) -> None:
    paths = [cluster.run_dir, *cluster.run_dir.rglob("*")]
    open_to_others = [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert open_to_others == []


def test_a_cluster_that_had_keys_has_them_again(tmp_path: Path, stranger: Stranger) -> None:
    """Keys are not the default: the second run would have let in every process of the machine."""
    with Cluster(1, run_dir=tmp_path, keys=True):
        pass
    with Cluster(1, run_dir=tmp_path) as again:
        heard = stranger.connect(zmq.SUB, again.endpoints[0], None)
        assert heard.poll(LISTEN_MS) == 0
        assert again.client().buy("AAPL", 1, 100).status


@pytest.mark.parametrize("keyed", [True, False], ids=["with_keys", "without"])
def test_a_forged_message_does_not_end_a_load(keyed: bool, stranger: Stranger) -> None:
    """It ended, and what it had sent so far passed. The endpoints stand in the process table for all to read."""
    with Cluster(1, keys=keyed) as cluster:
        load = LoadClient(cluster, rate=500, duration="3s").start()
        assert load._run is not None
        child = psutil.Process(load._run.process.pid)
        config = json.loads(child.cmdline()[-1])
        assert "secret" not in json.dumps(config)
        pid = child.pid
        forged = [
            load_messages.encode_control(load_messages.LoadStarted("load", pid, [1])),
            control.encode(load_messages.LOAD_CONTROL, {"op": "failed", "kind": "ClusterError", "message": "forged"}),
        ]
        public, secret = keys.new_pair()
        guess = Credentials(public, secret, load.feed.load_keys.credentials().server)
        for credentials in (None, guess):
            to_parent = stranger.connect(zmq.DEALER, config["control"], credentials)
            for frame in forged:
                to_parent.send(frame)
            stranger.connect(zmq.PUB, config["metrics"], credentials)
        result = load.wait()
        assert result.verdict.ok, result.verdict
        assert result.total.acknowledged > 1_000
