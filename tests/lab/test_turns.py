"""Check and act are one step, also with two threads; and a cluster that was stopped starts nothing."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from zmqlab.errors import ClusterError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.hosts import LocalHost, LocalNode
from zmqlab.lab.load_client import LoadClient
from zmqlab.lab.turns import Turns
from zmqlab.settings import NodeSettings

FAKE = [sys.executable, str(Path(__file__).with_name("fake_node.py"))]
STOPPED = "has been stopped: make another Cluster"


class SlowHost(LocalHost):
    """Two starts at once overlap for sure."""

    def start(self, settings: NodeSettings) -> LocalNode:
        time.sleep(0.1)
        return super().start(settings)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(2, run_dir=tmp_path, host=SlowHost(FAKE), keys=False) as running:
        yield running


def processes_of(name: str) -> list[int]:
    """Those of the cluster's nodes with this name."""
    children = psutil.Process().children(recursive=True)
    found = []
    for child in children:
        with contextlib.suppress(psutil.Error):  # it has just ended
            command = child.cmdline()
            found += [child.pid] if name in command and FAKE[1] in command else []
    return found


def at_once(*verbs: Callable[[], object]) -> list[str]:
    """The errors of verbs that different threads call at the same time."""
    together = threading.Barrier(len(verbs))

    def call(verb: Callable[[], object]) -> str:
        together.wait()
        try:
            verb()
        except ClusterError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(verbs)) as pool:
        return list(pool.map(call, verbs))


def test_two_restarts_at_once_give_one_process(cluster: Cluster) -> None:
    """Both saw that it does not run, both started it, and one process was known to no object."""
    cluster.kill("node1")
    assert at_once(*[lambda: cluster.restart("node1")] * 2) == ["", ""]
    assert processes_of("node1") == [cluster.pid("node1")]


def test_two_kills_at_once_are_one_event(cluster: Cluster) -> None:
    errors = at_once(*[lambda: cluster.kill("node1")] * 2)
    assert sorted(errors)[0] == ""
    assert "node1 is not running" in sorted(errors)[1]
    assert sum(event.kind == "killed" for event in cluster.events) == 1


def test_two_pauses_at_once_are_one(cluster: Cluster) -> None:
    assert ["is paused already" in error for error in sorted(at_once(*[lambda: cluster.pause("node1")] * 2))] == [
        False,
        True,
    ]
    assert ["is not paused" in error for error in sorted(at_once(*[lambda: cluster.resume("node1")] * 2))] == [
        False,
        True,
    ]


def test_two_starts_at_once_make_one_cluster(tmp_path: Path) -> None:
    cluster = Cluster(2, run_dir=tmp_path, host=SlowHost(FAKE), keys=False)
    errors = at_once(*[lambda: cluster.start()] * 2)
    assert sorted(errors)[0] == ""
    assert "started already" in sorted(errors)[1]
    assert processes_of("node1") == [cluster.pid("node1")]
    assert at_once(cluster.stop, cluster.stop) == ["", ""]
    assert processes_of("node1") == []


@pytest.mark.parametrize(
    "verb",
    [
        lambda c: c.start(),
        lambda c: c.kill("node0"),
        lambda c: c.terminate("node0"),
        lambda c: c.pause("node0"),
        lambda c: c.resume("node0"),
        lambda c: c.restart("node0"),
        lambda c: c.wipe("node0"),
        lambda c: c.cut("node0", "node1"),
        lambda c: c.partition(["node0"], ["node1"]),
        lambda c: c.heal(),
        lambda c: c.add(),
        lambda c: c.remove("node0"),
        lambda c: c.scale(3),
        lambda c: c.transfer("node1"),
        lambda c: c.leader,
        lambda c: c.client(),
        lambda c: c.pid("node0"),
        lambda c: c.at_stop(print),
        lambda c: LoadClient(c).start(),
    ],
)
def test_after_stop_every_verb_says_so_at_once(tmp_path: Path, verb: Callable[[Cluster], object]) -> None:
    """``restart``, ``add`` and ``scale`` started processes, and waited for half a minute."""
    with Cluster(2, run_dir=tmp_path, host=LocalHost(FAKE), keys=False) as cluster:
        pass
    with pytest.raises(ClusterError, match=STOPPED):
        verb(cluster)
    assert processes_of("node0") == processes_of("node1") == processes_of("node2") == []


def test_what_was_seen_can_be_read_after_stop(tmp_path: Path) -> None:
    with Cluster(2, run_dir=tmp_path, host=LocalHost(FAKE), keys=False) as cluster:
        pass
    assert {row.state for row in cluster.status()} == {"stopped"}
    assert [event.kind for event in cluster.events] == ["started", "started"]
    assert cluster.nodes == ("node0", "node1")
    assert cluster.log_path("node0") == tmp_path / "logs" / "node0.log"
    assert "0 of 2 nodes run" in repr(cluster)


def test_stop_ends_a_verb_that_waits(cluster: Cluster) -> None:
    """Stand-ins take no node in: this add would wait for its full time."""
    errors: list[str] = []
    adding = threading.Thread(target=lambda: errors.extend(at_once(cluster.add)))
    adding.start()
    while len(cluster.nodes) < 3:
        time.sleep(0.01)
    cluster.stop()
    adding.join(30)
    assert not adding.is_alive()
    assert STOPPED in errors[0]
    assert processes_of("node2") == []


def test_a_verb_waits_for_another_one_and_names_it_if_that_takes_too_long() -> None:
    turns, inside, done = Turns(timeout_s=0.05), threading.Event(), threading.Event()

    def work() -> None:
        with turns.take("node1", "wipe"), turns.take("node1", "restart"):
            inside.set()
            done.wait(5)

    worker = threading.Thread(target=work)
    worker.start()
    inside.wait(30)
    with turns.take("node2", "kill"):
        pass
    with pytest.raises(ClusterError, match="kill node1: wipe is under way there"), turns.take("node1", "kill"):
        pass
    done.set()
    worker.join()
    with turns.take("node1", "kill"):
        pass


def test_a_turn_that_fails_is_over() -> None:
    turns = Turns(timeout_s=0.05)
    with pytest.raises(ZeroDivisionError), turns.take("node1", "kill"):
        raise ZeroDivisionError
    assert at_once(lambda: turns.take("node1", "kill").__enter__()) == [""]
