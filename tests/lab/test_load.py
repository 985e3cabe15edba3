"""Load on real nodes: results, live figures, faults under load, and a verdict each time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import zmq

from tests.waiting import wait_for
from zmqlab.client import ask
from zmqlab.errors import ClusterError, RequestTimeout, SettingsError
from zmqlab.judge.evidence import acknowledgements_of
from zmqlab.judge.verdict import judge
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.hosts import node_arguments
from zmqlab.lab.load_client import LoadClient
from zmqlab.load import load_messages
from zmqlab.settings import NodeSettings
from zmqlab.wire import control
from zmqlab.wire.control import encode

pytestmark = pytest.mark.process


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(3, run_dir=tmp_path) as running:
        yield running


def test_stages_are_offered_as_they_are_written(cluster: Cluster) -> None:
    load = LoadClient(cluster, stages="0s:500, 1s:500, 1s:3000, 1.5s:3000, 1.5s:500, 2s:500", seed=5)
    assert (load.settings.rate, load.settings.duration_s) == (500, 2)
    result = load.start().wait()
    assert result.ok, result
    assert abs(result.total.offered - 2_250) < 5 * 2_250**0.5
    assert result.report.result.settings["stages"][2] == [1.0, 3_000.0]


def test_two_threads_that_wait_get_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Any] = []

    def judge_slowly(_: LoadClient, run: Any) -> Any:
        judged.append(run)
        time.sleep(0.2)
        return SimpleNamespace(result=len(judged))

    monkeypatch.setattr(LoadClient, "_judge", judge_slowly)
    load = LoadClient(["tcp://127.0.0.1:4002"])
    load._run = cast(Any, SimpleNamespace(ended=threading.Event()))
    load._run.ended.set()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: load.wait(), range(2))) == [1, 1]


def test_a_run_gives_figures_and_a_verdict(cluster: Cluster, tmp_path: Path) -> None:
    load = LoadClient(cluster, rate=2_000, duration="2s", seed=5)
    assert "not started" in repr(load)
    process = psutil.Process()
    open_before, threads_before = process.num_fds(), process.num_threads()
    load.start()
    assert wait_for(lambda: load.metrics is not None and load.metrics.rate > 0)
    assert "running" in repr(load)
    result = asyncio.run(load.result())
    assert result.verdict.ok, result.verdict
    assert result.total.acknowledged == result.total.sent == result.total.offered > 3_000
    assert 0 < result.response_time.p50_ms <= result.response_time.p99_ms <= result.response_time.max_ms
    assert 0 < result.throughput < 2_500
    assert result.elections >= 1
    assert "verdict: PASSED" in repr(result)
    assert "verdict: passed" in result._repr_html_()
    assert result.as_dict()["verdict"]["ok"] is True
    result.export_hdr(tmp_path / "latency.hlog")
    assert "Histogram log format" in (tmp_path / "latency.hlog").read_text()
    assert load.wait() is result
    # A client that is kept for its result kept a context with two sockets, two threads of ZeroMQ, a pipe and a file.
    assert wait_for(lambda: process.num_fds() <= open_before and process.num_threads() <= threads_before)


def test_the_leader_is_killed_under_load_and_everything_holds(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    load = LoadClient(cluster, rate=5_000, duration="4s").start()
    time.sleep(1)
    dead = cluster.leader
    cluster.kill(dead)
    time.sleep(1)
    cluster.restart(dead)
    result = load.wait()
    assert result.verdict.ok, result.verdict
    assert result.total.acknowledged == result.total.sent
    assert result.elections >= 2
    with capsys.disabled():
        print(f"\nleader killed at 5,000 orders/s: longest gap {result.longest_gap_ms:.0f} ms")


def test_all_are_killed_under_load_and_restarted_and_everything_holds(cluster: Cluster) -> None:
    load = LoadClient(cluster, rate=2_000, duration="4s", drain_ms=15_000).start()
    time.sleep(1)
    for name in cluster.nodes:
        os.kill(cluster.pid(name), signal.SIGKILL)
    assert wait_for(lambda: not cluster.running)
    for name in cluster.nodes:
        cluster.restart(name)
    result = load.wait()
    assert result.verdict.ok, result.verdict


def test_a_paused_follower_and_a_changed_rate(cluster: Cluster) -> None:
    load = LoadClient(cluster, rate=1_000, duration=None).start()
    follower = next(name for name in cluster.nodes if name != cluster.leader)
    cluster.pause(follower)
    load.set_rate(4_000)
    assert wait_for(lambda: load.metrics is not None and load.metrics.rate > 1_500)
    cluster.resume(follower)
    load.stop()
    result = load.wait(60)
    assert result.verdict.ok, result.verdict


def test_a_broken_promise_of_a_real_run_is_caught(cluster: Cluster) -> None:
    load = LoadClient(cluster, rate=1_000, duration="1s").start()
    assert load.wait().verdict.ok
    assert load._run is not None
    acknowledgements = acknowledgements_of(load._run.outcome())
    never_sent = acknowledgements[-1]._replace(request_number=1_000_000)
    verdict = judge(cluster.endpoints, [*acknowledgements, never_sent])
    assert [check.name for check in verdict.checks if not check.ok] == ["nothing lost"]


@pytest.mark.long
def test_a_run_is_judged_although_the_nodes_have_forgotten_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eleven minutes at 20,000 orders/s could not be judged. Here nodes keep next to nothing of their log."""

    def arguments(settings: NodeSettings) -> list[str]:
        return node_arguments(replace(settings, journal_retain_bytes=150_000, snapshot_log_bytes=100_000))

    monkeypatch.setattr("zmqlab.lab.hosts.node_arguments", arguments)
    with Cluster(3, run_dir=tmp_path) as cluster:
        load = LoadClient(cluster, rate=2_500, duration=None).start()
        assert wait_for(lambda: load.metrics is not None and load.metrics.acknowledged > 12_000)
        load.stop()
        result = load.wait(60)
        query = control.LogQuery(ask.new_nonce(), 1)
        kept = ask.ask_all(cluster.endpoints, lambda _: query, 3)
        assert len(kept) == 3
        assert all(isinstance(each, control.LogAnswer) and each.first_index > 100 for each in kept.values())
    assert result.verdict.ok, result.verdict
    assert "one log" in [check.name for check in result.verdict.checks]


def test_a_load_process_that_is_killed_is_judged_by_what_it_wrote(cluster: Cluster, tmp_path: Path) -> None:
    """It took all evidence along, and there was an error instead of a verdict."""
    load = LoadClient(cluster, rate=1_000, duration=None, fail_if=["unserved>90%", "p99>100s"]).start()
    assert wait_for(lambda: load.metrics is not None and load.metrics.acknowledged > 2_000)
    assert load._run is not None
    load._run.process.kill()
    result = load.wait(60)
    assert result.verdict.outcome == "not judged"
    assert "the load process was killed by SIGKILL" in repr(result.verdict)
    assert result.total.acknowledged > 2_000
    assert [check.name for check in result.verdict.checks if not check.ok] == ["run complete"]
    assert [check.ok for check in result.thresholds] == [True, True]
    assert cluster.keep
    assert list(tmp_path.glob("load-*/ledger-0")), "the evidence stays"


def forge_a_start_in_its_name(load: LoadClient) -> None:
    """A stranger finds the parent's socket and says what the load process said; then that it has ended."""
    assert load._run is not None
    command = psutil.Process(load._run.process.pid).cmdline()
    config = json.loads(command[command.index("--config") + 1])
    started = load_messages.LoadStarted("load", load._run.process.pid, [1])
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.connect(config["control"])
        stranger.send(load_messages.encode_control(started))
        stranger.send(encode(load_messages.LOAD_CONTROL, {"op": "ended", "result": {}}))
        stranger.send(encode(load_messages.LOAD_CONTROL, {"op": "failed", "kind": "NoLeader", "message": "no"}))
        stranger.close(linger=500)
    time.sleep(0.2)
    assert load.running


def test_a_load_that_another_process_ended_early_does_not_pass(cluster: Cluster) -> None:
    load = LoadClient(cluster, rate=1_000, duration="20s").start()
    assert load._run is not None
    collector = load._run.evidence.collector
    assert collector is not None, "it is a long run"
    forge_a_start_in_its_name(load)
    load.set_rate(2_000)
    assert wait_for(lambda: load.newest is not None and load.newest.rate == 2_000), "orders go to the process itself"
    load._run.process.terminate()
    result = load.wait(60)
    assert result.verdict.outcome == "not judged"
    assert "another process told the load to stop" in repr(result.verdict)
    assert not collector._thread.is_alive(), "nothing is collected after the verdict"
    assert len(collector.log), "and what was collected is there, for a run that is kept"
    load.close()
    assert load._run.evidence.collector is None


def test_a_load_client_ends_with_its_cluster(tmp_path: Path) -> None:
    with Cluster(1, run_dir=tmp_path) as cluster:
        load = LoadClient(cluster, rate=100, duration=None).start()
        assert load._run is not None
        pid = load._run.process.pid
    assert not psutil.pid_exists(pid)


SCRIPT = """
import sys, time
from zmqlab import Cluster, LoadClient
cluster = Cluster(1, run_dir=sys.argv[1]).start()
load = LoadClient(cluster, rate=100, duration=None).start()
print(cluster.pid("node0"), load._run.process.pid, flush=True)
time.sleep(60)
"""


def test_neither_load_nor_nodes_outlive_a_python_process_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
        parent.wait()
    assert wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_says_when_no_node_can_be_reached() -> None:
    with LoadClient(["tcp://127.0.0.1:9"], rate=100) as load, pytest.raises(RequestTimeout, match="base port"):
        load.start()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rate": "fast"}, "'fast' is not a rate"),
        ({"duration": "0s"}, "not a duration above zero"),
        ({"node_choice": "best"}, "node_choice is 'best'"),
        ({"colour": "red"}, "no such setting"),
        ({"symbols": 0}, "symbols"),
        ({"seed": 1.5}, "seed is 1.5: it must be a whole number"),
        ({"metrics_port": 70_000}, "metrics_port is 70000: it must be a whole number from 0 to 65535"),
        ({"metrics_port": "http"}, "metrics_port"),
        ({"metrics_port": 9_000, "metrics_host": 5}, "metrics_host is 5: give an address"),
    ],
)
def test_a_bad_argument_is_told_by_name(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        LoadClient(["tcp://127.0.0.1:9"], **arguments)


@pytest.mark.parametrize("target", ["tcp://127.0.0.1:9", [], [5], 7])
def test_a_bad_target_is_refused(target: object) -> None:
    with pytest.raises(SettingsError):
        LoadClient(target)  # type: ignore[arg-type]


def test_what_was_not_started_says_so() -> None:
    with pytest.raises(ClusterError, match=r"load\.start\(\)"):
        LoadClient(["tcp://127.0.0.1:9"]).wait()
