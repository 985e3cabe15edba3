"""The load's buttons on a cluster of real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_for
from zmqlab import Cluster, LoadClient
from zmqlab.runs.kept_list import kept_in
from zmqlab.widgets import LoadControls

pytestmark = pytest.mark.process


@pytest.fixture
def controls() -> Iterator[LoadControls]:
    with Cluster(1) as cluster:
        made = LoadControls(cluster, LoadClient(cluster, stages="0s:1000, 5s:2000"))
        yield made
        made.close()


def test_start_stop_judge_and_keep(controls: LoadControls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    controls.do_start()
    assert wait_for(lambda: controls.load is not None and controls.load.metrics)
    controls.do_calibrate()
    assert wait_for(lambda: "a load is running" in controls._problem)
    controls.do_stop()
    assert wait_for(lambda: controls.result)
    assert controls.result is not None
    assert controls.result.verdict.ok
    assert controls.make_state()["verdict"]["outcome"] == "passed"
    controls.do_keep()
    assert wait_for(lambda: controls.make_state()["kept"]), controls._problem
    [run] = kept_in("runs").runs
    assert run.repetitions[0].judge().as_dict() == controls.result.verdict.as_dict()
    controls.do_keep()
    assert wait_for(lambda: "there is no judged run to keep" in controls._problem)


@pytest.mark.long
def test_what_this_machine_can_do(controls: LoadControls) -> None:
    top = controls.make_state()["rate_max"]
    controls.do_calibrate()
    assert wait_for(lambda: controls.make_state()["phase"] == "measuring")
    assert wait_for(lambda: not controls._busy)
    state = controls.make_state()
    assert controls._problem == ""
    assert "This machine, with 1 node: about" in state["machine"]
    assert state["saturation"] > 1_000
    assert state["rate_max"] != top
    assert not state["running"]
