"""A named run folder works again and again, one cluster at a time; and what crashes left is told from all else."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.waiting import wait_for
from zmqlab.endpoints import CLIENT_PORT, parse_endpoint
from zmqlab.errors import ClusterError, NodeError, PortInUse, SettingsError, ZmqlabError
from zmqlab.lab import fleet, hosts, run_folders
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.hosts import LocalHost
from zmqlab.lab.load_run import Evidence

FAKE = [sys.executable, str(Path(__file__).with_name("fake_node.py"))]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made during the test, here and in child processes."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def fake(path: Path | None, nodes: int = 2, **more: object) -> Cluster:
    return Cluster(nodes, run_dir=path, host=LocalHost(FAKE), **{"keys": False, **more})  # type: ignore[arg-type]


def test_a_second_run_is_the_same_cluster(tmp_path: Path) -> None:
    """Ports were drawn anew, and the founders' journals refused them."""
    with fake(tmp_path) as first:
        seen = (first.name, first.nodes, first.endpoints)
    for _ in range(2):
        with fake(tmp_path) as again:
            assert (again.name, again.nodes, again.endpoints) == seen


def test_folders_above_a_run_folder_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    folder = run_folders.RunFolder(tmp_path / "a" / "b" / "run")
    folder.open()
    folder.leave()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/run")} == {
        0o700
    }


def test_a_folder_that_can_not_be_used_is_one_clear_line(tmp_path: Path) -> None:
    """It gave the number of the error, and its path twice."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"the run folder can't be used: Not a directory\. Name another"):
        run_folders.RunFolder(tmp_path / "file" / "run").open()


def test_a_folder_whose_files_can_not_be_locked_is_not_called_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(SettingsError, match="the run folder can't be used: No locks available"):
        run_folders.RunFolder(tmp_path).open()


def test_the_record_of_a_load_without_a_cluster_is_removed_after_a_crash(temporary: Path) -> None:
    """Its folder had no mark, and stayed for ever."""
    evidence = Evidence(None)
    assert run_folders.abandoned() == [], "it is in use"
    assert evidence._own is not None
    assert evidence._own._lock is not None
    evidence._own._lock.close()  # as the system does when the process ends
    (left,) = run_folders.abandoned()
    assert evidence.folder.parent == left
    assert run_folders.remove(left)
    Evidence(None).forget()
    assert list(temporary.iterdir()) == []


def test_fresh_begins_anew_and_deletes_only_what_a_cluster_wrote(tmp_path: Path) -> None:
    with fake(tmp_path) as first:
        pass
    for own in ("data/node0/data.mdb", "logs/node0.log", "logs/node0.stderr"):
        (tmp_path / own).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / own).write_text("ours")
    for other in ("data/prices.csv", "data/raw/prices.csv", "logs/other.log", "thesis.tex"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text("a person's")
    with fake(tmp_path, nodes=3, fresh=True) as again:
        assert len(again.nodes) == 3
        assert again.name != first.name
    assert not (tmp_path / "data/node0").exists()
    assert "ours" not in [path.read_text() for path in (tmp_path / "logs").iterdir()]
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"data/prices.csv", "data/raw/prices.csv", "logs/other.log", "thesis.tex"} <= left


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (
            {"nodes": 3},
            SettingsError,
            "began with 2 nodes, not 3: say nodes=2 to go on with it, or begin anew there with",
        ),
        ({"durability": "memory"}, ClusterError, "durability memory do not read.*--fresh"),
        ({"replication": "broadcast"}, SettingsError, "copy their log by raft, and not by broadcast: say replication="),
    ],
)
def test_another_kind_of_cluster_is_refused(
    tmp_path: Path, more: dict[str, object], error: type[Exception], message: str
) -> None:
    with fake(tmp_path):
        pass
    with pytest.raises(error, match=message):
        fake(tmp_path, **more).start()  # type: ignore[arg-type]
    with fake(tmp_path):
        pass


def test_with_durability_memory_each_run_is_new(tmp_path: Path) -> None:
    names = set()
    for nodes in (1, 2):
        with fake(tmp_path, nodes, durability="memory") as cluster:
            names.add(cluster.name)
    assert len(names) == 2


@pytest.mark.parametrize("record", [None, "{", json.dumps({"name": "lab", "founded_with": 1})])
def test_journals_that_no_record_explains_are_refused(tmp_path: Path, record: str | None) -> None:
    (tmp_path / "data" / "node0").mkdir(parents=True)
    if record is not None:
        (tmp_path / "cluster.json").write_text(record)
    with pytest.raises(ClusterError, match="or begin anew there with fresh=True, or --fresh"):
        fake(tmp_path).start()
    with fake(tmp_path, fresh=True):
        pass


def test_two_clusters_do_not_share_a_folder(tmp_path: Path) -> None:
    with fake(tmp_path):
        with pytest.raises(ClusterError, match="a cluster that runs uses"):
            fake(tmp_path).start()
        with pytest.raises(ClusterError, match="a cluster that runs uses"):
            fake(tmp_path, fresh=True).start()


@pytest.mark.parametrize("what", ["a file", "a folder that no user may write"])
def test_a_folder_that_can_not_be_used_is_one_line(tmp_path: Path, what: str) -> None:
    path = tmp_path / "there"
    if what == "a file":
        path.touch()
    else:
        path = Path("/proc/zmqlab")
    with pytest.raises(SettingsError, match=r"the run folder can't be used: .*Name another one with run_dir"):
        fake(path).start()


def test_folders_are_for_their_user_alone(temporary: Path, tmp_path: Path) -> None:
    for path in (None, tmp_path / "named"):
        with Cluster(1, run_dir=path, host=LocalHost(FAKE), keys=False) as cluster:
            assert cluster.run_dir.stat().st_mode & 0o777 == 0o700
            assert (cluster.run_dir / "owner").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("ports", ["20000-20000", "nonsense"])
def test_a_start_that_failed_before_there_was_a_log_keeps_no_empty_folder(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, ports: str
) -> None:
    """Its folder was kept as evidence, and held nothing but its own mark."""
    monkeypatch.setenv(hosts.PORTS_VARIABLE, ports)
    with pytest.raises(ZmqlabError):
        fake(None).start()
    assert list(temporary.iterdir()) == []


def test_a_start_that_failed_names_the_folder_with_its_logs(temporary: Path, tmp_path: Path) -> None:
    """It was kept, and the person was not told: it stayed in the temporary folder for ever."""
    fails = LocalHost([sys.executable, "-c", "raise SystemExit('zmqlab node: no')"])
    with pytest.raises(NodeError) as raised:
        Cluster(1, host=fails, keys=False).start()
    (left,) = temporary.iterdir()
    assert str(raised.value).endswith(f"zmqlab node: no. The logs are in {left}")
    assert (left / "logs" / "node0.stderr").is_file()
    with pytest.raises(NodeError, match=r"zmqlab node: no$"):
        Cluster(1, run_dir=tmp_path / "named", host=fails, keys=False).start()


# -- what crashes left -----------------------------------------------------------------------------------------------

CRASHES = """
import os, sys
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.hosts import LocalHost
from zmqlab.lab.load_run import Evidence
from zmqlab.endpoints import CLIENT_PORT, parse_endpoint
cluster = Cluster(1, keep=sys.argv[1] == "kept", host=LocalHost(sys.argv[2:]), keys=False).start()
if sys.argv[1] == "failed":
    cluster.keep = True
print(cluster.run_dir, flush=True)
os.kill(os.getpid(), 9)
"""


def crash(how: str) -> Path:
    """The folder of a cluster whose process was killed."""
    command = [sys.executable, "-c", CRASHES, how, *FAKE]
    return Path(subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip())


def test_reap_removes_what_a_crash_left_and_nothing_else(temporary: Path) -> None:
    left = crash("forgotten")
    kept = [crash("kept"), crash("failed")]
    stranger = temporary / "zmqlab-notes"
    stranger.mkdir()
    link = temporary / "zmqlab-link"
    link.symlink_to(kept[0])
    with Cluster(1, host=LocalHost(FAKE), keys=False) as running:
        assert run_folders.abandoned() == [left]
        assert run_folders.remove(left)
        for path in (*kept, stranger, link, running.run_dir):
            assert not run_folders.remove(path)
            assert path.exists()
    assert run_folders.abandoned() == []
    assert not left.exists()


def test_a_folder_of_another_user_is_not_ours(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = crash("forgotten")
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert run_folders.abandoned() == []
    assert not run_folders.remove(left)


def test_a_forked_child_keeps_no_folder_in_use(temporary: Path) -> None:
    """The lock belongs to an open file, of which a fork makes a second holder."""
    child_goes_on = CRASHES.replace("print(", "if os.fork() == 0:\n    os.read(0, 1)\n    os._exit(0)\nprint(")
    command = [sys.executable, "-W", "ignore", "-c", child_goes_on, "forgotten", *FAKE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        process.wait(60)
        assert wait_for(lambda: run_folders.abandoned() == [left]), "the child has closed its end of the lock"
        assert process.stdin is not None
        process.stdin.close()
    shutil.rmtree(left)


@pytest.mark.process
def test_orders_of_the_first_run_are_there_in_the_second(tmp_path: Path) -> None:
    """With a node that joined, one that was removed, and nodes whose owner has just been killed."""
    program = (
        "import os, sys; from zmqlab import Cluster; cluster = Cluster(3, run_dir=sys.argv[1]).start()\n"
        "with cluster.client() as client: client.buy('ACME', 5, 100)\n"
        "cluster.add(); cluster.remove('node1'); print(*cluster.nodes, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, timeout=180, check=False)
    assert done.stdout.split() == [b"node0", b"node2", b"node3"], done.stderr
    with Cluster(3, run_dir=tmp_path) as cluster, cluster.client() as client:
        assert cluster.nodes == ("node0", "node2", "node3")
        assert list(client.book("ACME").bids) == [(100, 5, 1)]
        assert cluster.add() == "node1"


@pytest.mark.process
def test_a_port_that_another_process_took_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line said "choose another --port", which quick does not have, and not that --fresh deletes the orders."""
    monkeypatch.setattr(fleet, "STOP_GRACE_S", 0.0)
    with Cluster(1, run_dir=tmp_path) as cluster:
        port = parse_endpoint(cluster.endpoints[0])[1] - CLIENT_PORT
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortInUse) as caught:
        Cluster(1, run_dir=tmp_path).start()
    said = str(caught.value)
    assert f"node0 can't listen on 127.0.0.1:{port}: " in said
    assert f"does. The cluster in {tmp_path} comes back only at the ports that it had" in said
    assert "Choose another" not in said
    assert "delete the orders" in said
    with Cluster(1, run_dir=tmp_path) as cluster:
        assert cluster.leader == "node0", "it comes back when the port is free"
