"""Nodes on workers that are played: where they go, what each death means, and that nothing is left running."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab.dask_processes import address_in
from tests.waiting import wait_for
from zmqlab.errors import ClusterError, SettingsError
from zmqlab.keys import ALLOWED, Keyring, make_private
from zmqlab.lab import run_folders, worker_nodes
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.dask_host import DaskHost, Worker
from zmqlab.lab.dask_links import RETRY_S, DaskPart, WorkerClock
from zmqlab.lab.events import LabEvent
from zmqlab.lab.hosts import SAME_CLOCK, LocalHost
from zmqlab.lab.worker_nodes import Keeper, LoadNews, Reply, Sealed, call_keeper
from zmqlab.settings import NodeSettings

FAKE = [sys.executable, str(Path(__file__).with_name("fake_node.py"))]
LEASE_S = 4.0
MS = 1_000_000


class FakeClient:
    """Runs calls in this process; its workers are names. One that is in ``silent`` does not answer, as if cut off, and
    one that is taken out of ``known`` is gone."""

    asynchronous = False

    def __init__(self, *hosts: str) -> None:
        self.known = {f"tcp://{host}:{1_000 + number}": (f"w{number}", host) for number, host in enumerate(hosts)}
        self.silent: set[str] = set()
        self.resources: dict[str, float] = {}

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        assert n_workers == -1
        named = {
            address: {"name": name, "host": host, "resources": self.resources}
            for address, (name, host) in self.known.items()
        }
        return {"workers": named}

    async def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.known, 1)

    async def run(self, function: Callable[..., Any], *arguments: Any, workers: list[str]) -> dict[str, Any]:
        (address,) = workers
        if address in self.silent or address not in self.known:
            raise OSError("closed")
        return {address: await function(*arguments)}

    def sync(self, function: Callable[[], Any], callback_timeout: float) -> Any:
        return asyncio.run(asyncio.wait_for(function(), callback_timeout))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeClient]:
    """Workers whose nodes are stand-ins."""
    monkeypatch.setattr(worker_nodes, "LocalHost", lambda: LocalHost(FAKE))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield FakeClient("127.0.0.1", "127.0.0.1", "127.0.0.1")
    worker_nodes._keepers.clear()


def host_of(client: FakeClient, **more: Any) -> DaskHost:
    return DaskHost(client, **more)  # type: ignore[arg-type]


def placed(host: DaskHost, count: int, others: tuple[NodeSettings, ...] = ()) -> list[NodeSettings]:
    places = host.places(count, others)
    return [NodeSettings(name=f"n{place.port}", port=place.port, bind=place.address) for place in places]


def test_no_machine_has_two_nodes_while_another_has_none() -> None:
    client = FakeClient("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1")
    host = host_of(client, machine=lambda worker: {"w0": "a", "w1": "a", "w2": "b", "w3": "b"}.get(worker.name, "c"))
    first = placed(host, 3)
    assert [host.machine(each) for each in first] == ["a", "b", "c"]
    second = placed(host, 2, tuple(first))
    assert {host.machine(each) for each in second} < {"a", "b", "c"}
    homes = Counter(host._homes[each.endpoint].name for each in (*first, *second))
    assert max(homes.values()) == 1, "a machine's second node goes to its other worker"
    (replacement,) = placed(host, 1, (first[0], first[2], *second))
    assert Counter(map(host.machine, (first[0], first[2], *second, replacement)))["b"] == 2


def test_a_resource_says_what_fails_together() -> None:
    client = FakeClient("127.0.0.1")
    client.resources = {"rack": 2.0}
    host = host_of(client, machine="rack")
    assert host.machine(placed(host, 1)[0]) == "rack 2"
    with pytest.raises(SettingsError, match=r'--resources "row=1"'):
        placed(host_of(client, machine="row"), 1)


def test_what_a_person_got_wrong_is_named(client: FakeClient) -> None:
    with pytest.raises(SettingsError, match=r"give a distributed\.Client"):
        DaskHost(None)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="lease_s"):
        host_of(client, lease_s=1)
    with pytest.raises(ClusterError, match=r"DaskHost\(workers=\.\.\.\)"):
        host_of(client, workers=["w7"]).places(1)
    with pytest.raises(SettingsError, match="no interface 'wlan7'"):
        host_of(client, interface="wlan7").places(1)
    assert host_of(client, interface="lo", workers=["w1"]).places(1)[0].address == "127.0.0.1"
    client.known = {"inproc://10.0.0.1/1/1": ("w0", "10.0.0.1")}
    with pytest.raises(SettingsError, match="processes=True"):
        host_of(client).places(1)


def test_a_cluster_lives_and_breaks_and_its_files_are_fetched(client: FakeClient, tmp_path: Path) -> None:
    host = host_of(client, machine=lambda worker: worker.name)
    with Cluster(3, host=host, keys=False, run_dir=tmp_path / "here") as cluster:
        assert cluster.machines == {"node0": "w0", "node1": "w1", "node2": "w2"}
        there = worker_nodes.folder_of("", cluster.name)
        cluster.pause("node1")
        assert cluster.paused == ("node1",)
        cluster.resume("node1")
        cluster.kill("node0")
        assert cluster.running == ("node1", "node2")
        assert not [event for event in cluster.events if event.kind == LabEvent.DIED]
        (there / "logs" / "node0.log").write_text("told")
        (there / "data" / "node0").mkdir(parents=True)
        (there / "data" / "node0" / "data.mdb").write_bytes(b"1" * 10)
        assert cluster.log_path("node0").read_text() == "told"
        cluster.restart("node0")
        os.kill(cluster.pid("node2"), signal.SIGKILL)
        assert wait_for(lambda: any(event.kind == LabEvent.DIED for event in cluster.events))
    assert (tmp_path / "here" / "data" / "node0" / "data.mdb").read_bytes() == b"1" * 10, "kept: all was fetched"
    assert there.exists(), "a folder that is kept here is kept there: the cluster can be opened again"
    later = host_of(client, machine=lambda worker: worker.name)
    with Cluster(3, host=later, keys=False, run_dir=tmp_path / "here") as again:
        assert again.name == cluster.name
        assert again.endpoints == cluster.endpoints
        assert set(again.machines.values()) == {"w0", "w1", "w2"}
    with Cluster(1, host=host, keys=False) as brief:
        there = worker_nodes.folder_of("", brief.name)
        assert there.exists()
    assert not there.exists()


def test_a_worker_that_is_gone_takes_its_nodes_along_and_nothing_is_repaired(client: FakeClient) -> None:
    host = host_of(client, machine=lambda worker: worker.name)
    with Cluster(3, host=host, keys=False) as cluster:
        (lost,) = (address for address, (name, _) in client.known.items() if name == "w1")
        known, gone_ns = client.known.pop(lost), time.time_ns()
        assert wait_for(lambda: cluster.running == ("node0", "node2"))
        assert wait_for(lambda: cluster.events[-1].kind == LabEvent.DIED)
        assert f": the Dask worker w1 ({lost}) is gone" in cluster.events[-1].text
        assert gone_ns <= cluster.events[-1].time_ns <= time.time_ns() - RETRY_S * 1e9, "not when it was sure"
        with pytest.raises(ClusterError, match="start one there, or remove the node and add another one"):
            cluster.restart("node1")
        client.known["tcp://127.0.0.1:2000"] = known
        os.kill(_pid_of("node1", cluster.name), signal.SIGKILL)  # what the end of a real worker would have done
        cluster.restart("node1")
        assert cluster.running == ("node0", "node1", "node2"), "another worker of the same machine, by a person's order"


def test_a_journal_on_a_machine_that_was_gone_is_not_that_of_a_new_node(client: FakeClient) -> None:
    host = host_of(client)
    (settings,) = (replace(each, cluster="c") for each in placed(host, 1))
    there = worker_nodes.folder_of("", settings.cluster) / "data" / settings.name
    make_private(there)
    known, client.known = client.known, {}
    host.wipe(settings)
    assert there.exists(), "no worker could delete it"
    client.known = known
    for is_new in (True, False):
        node = host.start(settings)
        assert there.exists() is not is_new, "and what the new one stores stays"
        there.mkdir(exist_ok=True)
        node.signal(signal.SIGKILL)
        node.close()
        assert node.wait(30) is not None
    host.close(settings.cluster, keep=False)


def _pid_of(name: str, cluster: str) -> int:
    (found,) = (
        each.process.pid
        for keeper in worker_nodes._keepers.values()
        for each in keeper._alive()
        if (each.name, each.cluster) == (name, cluster)
    )
    return found


def test_a_silent_worker_is_no_dead_one(client: FakeClient) -> None:
    with Cluster(1, host=host_of(client, workers=["w0"]), keys=False) as cluster:
        (address,) = (address for address, (name, _) in client.known.items() if name == "w0")
        client.silent.add(address)
        with pytest.raises(ClusterError, match=r"w0 .* does not answer"):
            cluster.kill("node0")
        client.silent.clear()
        assert cluster.running == ("node0",)
        cluster.kill("node0")
        assert not [event for event in cluster.events if event.kind == LabEvent.DIED]


def test_nodes_end_when_their_owner_is_not_heard_of(client: FakeClient, tmp_path: Path) -> None:
    keeper = Keeper("owner")
    keeper.renew(LEASE_S)
    running = keeper.start(NodeSettings(name="a", port=29_000, cluster="c"), "", {"allowed": "x"})
    paused = keeper.start(NodeSettings(name="b", port=29_010, cluster="c"), "", {})
    keeper.signal(paused, signal.SIGSTOP)
    there = worker_nodes.folder_of("", "c")
    assert (there / "keys" / "allowed").stat().st_mode & 0o077 == 0
    keeper._ticks_left = 1
    assert wait_for(lambda: not keeper._alive())
    (ended, _) = asyncio.run(keeper.hear([running, paused], [], {})).ended
    assert ended.error == "its owner was not heard of for 4 s"
    assert wait_for(lambda: not (there / "keys").exists())
    assert wait_for(lambda: there in run_folders.abandoned()), "for `zmqlab reap` on that machine"
    assert asyncio.run(keeper.hear([77], [], {})).ended == [(77, -signal.SIGKILL, "its Dask worker was restarted")]
    keeper.release("", "c", False)


def test_a_lease_that_is_renewed_ends_nothing(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each call, of which one comes back after 0.2 s; a busy machine may take half a minute for it."""
    monkeypatch.setattr(worker_nodes, "HEAR_S", 0.2)
    with Cluster(1, host=host_of(client, lease_s=60.0), keys=False) as cluster:
        (keeper,) = worker_nodes._keepers.values()
        whole = round(60.0 / worker_nodes.TICK_S)
        for _ in range(3):
            keeper._ticks_left -= whole // 2
            assert wait_for(lambda: keeper._ticks_left > whole - 5)
        assert cluster.running == ("node0",)


class FakeLoad:
    """A load generator of a keeper, whose record is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begun, self.ended = True, False
        self.how_it_ended = ""
        self.run = self
        self.told: list[bytes] = []

    def frames(self) -> list[bytes]:
        told, self.told = self.told, []
        return told


def test_a_record_follows_its_generator_and_its_end_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_nodes, "PIECE_BYTES", 4)
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    load, keeper = FakeLoad(there), Keeper("owner")
    keeper._loads["x"] = load  # type: ignore[assignment]
    part = DaskPart("x", None, here)  # type: ignore[arg-type]

    def hear() -> None:
        part.take(asyncio.run(keeper.hear([], [], {"x": part.has})).loads["x"])

    (there / "ledger-0").write_bytes(b"abcdef")
    load.told = [b"snapshot"]
    hear()
    assert (part.begun, part.ended, part.frames()) == (True, False, [b"snapshot"])
    assert (here / "ledger-0").read_bytes() == b"abcd", "a piece at a time"
    load.ended, load.how_it_ended = True, "was killed by SIGKILL"
    (there / "story").write_bytes(b"s")
    hear()
    assert not part.ended, "its end is told when all of its record is here"
    (there / "ledger-0").unlink()
    hear()
    assert part.ended
    assert {path.name: path.read_bytes() for path in here.iterdir()} == {"story": b"s"}
    with pytest.raises(ClusterError, match="was killed by SIGKILL"):
        part.outcome()


def test_a_generator_of_a_worker_that_was_restarted_is_lost(tmp_path: Path) -> None:
    part = DaskPart("x", None, tmp_path)  # type: ignore[arg-type]
    part.take(asyncio.run(Keeper("owner").hear([], [], {"x": {}})).loads["x"])
    assert part.ended
    with pytest.raises(ClusterError, match="its Dask worker was restarted"):
        part.outcome()


def test_a_full_disk_here_gives_the_generator_up_and_nothing_else(tmp_path: Path) -> None:
    part = DaskPart("x", None, tmp_path / "gone")  # type: ignore[arg-type]
    part.take(LoadNews(True, (), {"story": b"s"}, (), ""))
    assert part.ended
    with pytest.raises(ClusterError, match="can't be written here"):
        part.outcome()


def test_another_users_folder_is_not_used(client: FakeClient, tmp_path: Path) -> None:
    there = worker_nodes.folder_of("", "c")
    there.mkdir()
    there.chmod(0o755)
    with pytest.raises(ClusterError, match="name another folder"):
        Keeper("owner").start(NodeSettings(name="a", port=29_000, cluster="c"), "", {})


def test_keys_travel_sealed_and_only_those_that_a_node_needs(client: FakeClient, tmp_path: Path) -> None:
    Keyring.new().save(tmp_path / "keys")
    secret = (tmp_path / "keys" / "member.secret").read_text().strip()
    host = host_of(client)
    (place,) = host.places(1)
    settings = NodeSettings(name="a", port=place.port, cluster="c", keys=tmp_path / "keys")
    node = host.start(settings)
    there = worker_nodes.folder_of("", "c") / "keys"
    assert {path.name for path in there.iterdir()} == {ALLOWED, "member.secret"}
    assert (there / "member.secret").read_text().strip() == secret
    assert secret not in repr(Sealed(secret)) + str(Sealed(secret))
    node.signal(signal.SIGKILL)
    node.close()
    assert node.wait(30) is not None
    host.close("c", keep=True)
    assert not there.exists()


def test_a_call_that_fails_raises_nothing_in_the_worker() -> None:
    reply = asyncio.run(call_keeper("owner", LEASE_S, "start", Sealed("a secret")))
    assert isinstance(reply.error, ClusterError)
    assert "a secret" not in str(reply.error)
    worker_nodes._keepers.clear()


def test_an_offset_is_believed_beyond_its_uncertainty() -> None:
    clock = WorkerClock()
    assert clock.offset() == SAME_CLOCK
    clock.take(1_000 * MS, Reply(None, None, 1_510 * MS, 1_520 * MS), 1_030 * MS)  # 500 ms ahead, 10 ms each way
    offset = clock.offset()
    assert offset.offset_ns == 500 * MS
    assert 10 * MS <= offset.uncertainty_ns < 11 * MS
    clock.take(1_000 * MS, Reply(None, None, 1_502 * MS, 1_504 * MS), 1_006 * MS)  # a shorter way is a better sample
    assert clock.offset().offset_ns == 500 * MS
    assert clock.offset().uncertainty_ns < 3 * MS
    near = WorkerClock()
    near.take(1_000 * MS, Reply(None, None, 1_011 * MS, 1_011 * MS), 1_020 * MS)
    assert near.offset().offset_ns == 0, "1 ms, known within 10 ms, may be none"
    assert near.offset().uncertainty_ns >= 11 * MS


def test_a_scheduler_that_is_writing_where_it_is_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.touch()
    writer = threading.Timer(0.05, file.write_text, ['{"address": "tcp://127.0.0.1:8786"}'])
    writer.start()
    assert address_in(file) == "tcp://127.0.0.1:8786"
    writer.join()


def test_a_worker_shows_itself() -> None:
    assert Worker("tcp://10.0.0.5:1", "w1", "10.0.0.5", {}).host == "10.0.0.5"
    assert repr(host_of(FakeClient("127.0.0.1", "127.0.0.1"))) == "<DaskHost of 2 workers on 1 machines>"
