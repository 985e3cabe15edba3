"""What its maker has lost sight of ends: forgotten, made by a cell that runs again, or interrupted at its start."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import zmqlab
from tests.waiting import wait_for
from zmqlab.errors import ClusterError
from zmqlab.lab import register
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.hosts import LocalHost
from zmqlab.lab.load_client import LoadClient
from zmqlab.lab.load_run import LoadRun

FAKE = [sys.executable, str(Path(__file__).with_name("fake_node.py"))]


@pytest.fixture
def run_cell(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Pretends that a cell of this id runs now, in a kernel."""
    runs: list[str] = []
    message: dict[str, dict[str, str]] = {}
    shell = SimpleNamespace(get_parent=lambda: message)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    def run(cell: str) -> None:
        runs.append(cell)
        message.update(metadata={"cellId": cell} if cell else {}, header={"msg_id": str(len(runs))})

    return run


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    zmqlab.stop_all()
    assert zmqlab.clusters() == []


def started() -> Cluster:
    return Cluster(1, host=LocalHost(FAKE), keys=False).start()


def pids(cluster: Cluster) -> list[int]:
    return [cluster.pid(name) for name in cluster.nodes]


def test_an_ending_that_fails_holds_up_no_other() -> None:
    """All older clusters stayed, also at the end of the process, and each later call failed in the same way."""
    done: list[str] = []
    endings = [register.Ending() for _ in range(4)]
    for number, end in enumerate(endings):
        register.enter(end, end)
        end.also(lambda number=number: done.append(str(number)))  # type: ignore[misc]
    endings[2].also(lambda: [][0])
    endings[1].first = lambda: {}["first"]
    with pytest.raises(IndexError):
        zmqlab.stop_all()
    assert done == ["3", "2", "1", "0"]
    zmqlab.stop_all()
    assert done == ["3", "2", "1", "0"]


def test_a_step_that_comes_after_the_ending_is_done_at_once() -> None:
    done: list[int] = []
    end = register.Ending()
    end.also(lambda: end.also(lambda: done.append(1)))
    end()
    end.also(lambda: done.append(2))
    assert done == [1, 2]


def test_a_step_that_is_not_needed_any_more_is_not_kept() -> None:
    """A cluster kept every load and every panel that it was to end, long after they had ended by themselves."""
    done: list[int] = []
    end = register.Ending()
    forget = end.also(lambda: done.append(1))
    end.also(lambda: done.append(2))
    forget()
    forget()
    assert len(end._steps) == 1
    end()
    forget()
    assert done == [2]


def gone(processes: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in processes)


def test_a_cluster_that_nothing_refers_to_ends() -> None:
    cluster = started()
    processes, folder = pids(cluster), cluster.run_dir
    del cluster
    gc.collect()
    assert wait_for(lambda: gone(processes) and not folder.exists())
    assert zmqlab.clusters() == []


def test_a_cell_that_runs_again_replaces_what_it_made(run_cell: Callable[[str], None]) -> None:
    """Each run of a first cell left three nodes that no name led to."""
    run_cell("first")
    one, another = started(), started()
    run_cell("second")
    other = started()
    assert zmqlab.clusters() == [one, another, other]
    run_cell("first")
    again = started()
    assert zmqlab.clusters() == [other, again]
    with pytest.raises(ClusterError, match="has been stopped"):
        one.kill("node0")


def test_outside_a_known_cell_nothing_is_replaced(run_cell: Callable[[str], None]) -> None:
    run_cell("")
    one = started()
    run_cell("")
    another = started()
    assert zmqlab.clusters() == [one, another]


def test_a_thread_of_a_cell_is_no_run_of_it(run_cell: Callable[[str], None]) -> None:
    """It may go on while other cells run, and whichever runs then has made nothing of it."""
    run_cell("first")
    cells: list[register.Cell] = []
    thread = threading.Thread(target=lambda: cells.append(register.this_cell()))
    thread.start()
    thread.join()
    assert cells == [register.Cell("", "")]
    assert register.this_cell() == register.Cell("first", "1")


def test_lists_and_stops_all() -> None:
    assert repr(zmqlab.clusters()) == "no cluster runs in this process"
    clusters = [started(), started()]
    listed = zmqlab.clusters()
    assert listed == clusters
    assert all(cluster.name in repr(listed) and cluster.name in listed._repr_html_() for cluster in clusters)
    processes = [pid for cluster in clusters for pid in pids(cluster)]
    zmqlab.stop_all()
    assert zmqlab.clusters() == []
    assert gone(processes)


def test_an_interrupted_start_leaves_neither_nodes_nor_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def interrupt(fleet: object) -> None:
        cluster = zmqlab.clusters()[0]
        seen.extend(pids(cluster))
        raise KeyboardInterrupt

    cluster = Cluster(2, host=LocalHost(FAKE), keys=False)
    monkeypatch.setattr("zmqlab.lab.fleet.Fleet._await_cluster", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cluster.start()
    assert len(seen) == 2
    assert gone(seen)
    assert not cluster.run_dir.exists()


# -- load clients, which need real nodes -----------------------------------------------------------------------------


def load_processes() -> list[int]:
    return [child.pid for child in psutil.Process().children() if "zmqlab.load.load_process" in _command_of(child)]


def _command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []


@pytest.mark.process
def test_a_load_client_that_nothing_refers_to_ends() -> None:
    with Cluster(1) as cluster:
        load = LoadClient(cluster, rate=100, duration=None).start()
        assert len(load_processes()) == 1
        del load
        gc.collect()
        assert wait_for(lambda: load_processes() == [])


@pytest.mark.process
def test_an_interrupted_start_of_a_load_trades_never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C came while the process opened its session; half a second later it began to send."""
    with Cluster(1) as cluster:
        load = LoadClient(cluster, rate=100, duration=None)

        def interrupt(_: LoadRun, _timeout_s: float) -> None:
            assert len(load_processes()) == 1
            raise KeyboardInterrupt

        monkeypatch.setattr(LoadRun, "await_start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load.start()
        assert load_processes() == []


@pytest.mark.process
def test_two_starts_and_stops_of_a_load_at_once_are_one(run_cell: Callable[[str], None]) -> None:
    from tests.lab.test_turns import at_once

    with Cluster(1) as cluster:
        load = LoadClient(cluster, rate=100, duration=None)
        assert "started already" in sorted(at_once(load.start, load.start))[1]
        assert len(load_processes()) == 1
        assert at_once(load.close, load.close) == ["", ""]
        assert load_processes() == []
        run_cell("load")
        first = LoadClient(cluster, rate=100, duration=None).start()
        run_cell("load")
        second = LoadClient(cluster, rate=100, duration=None).start()
        assert (first.running, second.running) == (False, True)
        assert len(load_processes()) == 1
