"""The load's buttons on a cluster of real processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from zmqlab import Cluster, LoadClient
from zmqlab.widgets import LoadControls

pytestmark = pytest.mark.process


@pytest.fixture
def controls() -> Iterator[LoadControls]:
    with Cluster(1) as cluster:
        made = LoadControls(cluster, LoadClient(cluster, rate=1_000))
        yield made
        made.close()


def await_true(condition: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_start_stop_and_judge(controls: LoadControls) -> None:
    controls.do_start()
    await_true(lambda: controls.load is not None and controls.load.metrics)
    controls.do_calibrate()
    await_true(lambda: "a load is running" in controls._problem)
    controls.do_stop()
    await_true(lambda: controls.result)
    assert controls.result is not None
    assert controls.result.verdict.ok
    assert controls.make_state()["verdict"]["ok"]


def test_what_this_machine_can_do(controls: LoadControls) -> None:
    top = controls.make_state()["rate_max"]
    controls.do_calibrate()
    await_true(lambda: controls.make_state()["phase"] == "measuring")
    await_true(lambda: not controls._busy)
    state = controls.make_state()
    assert controls._problem == ""
    assert "This machine, with 1 node: about" in state["machine"]
    assert state["saturation"] > 1_000
    assert state["rate_max"] != top
    assert not state["running"]
