"""Five machines, each a network namespace: cables pulled, links made bad by tc, processes killed, under load.

The load is bounded: at most 5,000 orders/s, for seconds, between namespaces that nothing leads out of.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.machines import Machines
from tests.deploy.network import Machine, Network, needs_namespaces, why_no_queue
from tests.waiting import wait_for

pytestmark = [pytest.mark.process, needs_namespaces]

NETEM = ("netem", "delay", "20ms", "5ms", "loss", "2%")
NARROW = ("tbf", "rate", "400kbit", "burst", "8kb", "limit", "16kb")
"""A follower's share of 1,000 orders/s does not fit: it waits in a queue, and what that does not hold is lost."""


def where_there_is(queue: tuple[str, ...]) -> Any:
    """This queue as a parameter, skipped on a kernel that lacks it."""
    reason = why_no_queue(*queue)
    return pytest.param(queue, marks=pytest.mark.skipif(bool(reason), reason=reason), id=queue[0])


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with Machines(tmp_path, 5) as made:
        made.ask("attach", [made.hosts["host2"].client])
        made.until_all_are_well()
        yield made


@pytest.mark.long
def test_a_host_is_cut_off_and_comes_back_and_a_process_is_killed(machines: Machines) -> None:
    machines.ask("load", 2_000, [])
    time.sleep(1.5)

    cut_off = machines.ask("seen")["leader"]
    machines.network.cut(machines.hosts[cut_off])
    seen = machines.until(lambda seen: cut_off not in seen["heard"] and seen["leader"] not in ("", cut_off))
    assert cut_off not in seen["heard"]
    time.sleep(2)
    machines.until(lambda now: max(now["applied"].values()) > max(seen["applied"].values()))  # the others go on
    machines.network.restore(machines.hosts[cut_off])
    back = machines.until_all_are_well()
    assert ["fell_silent", cut_off] in back["events"]
    machines.until(lambda seen: ["heard_again", cut_off] in seen["events"])  # told a twentieth of a second later

    killed = next(name for name in machines.hosts if name not in (cut_off, back["leader"]))
    machines.hosts[killed].signal(signal.SIGKILL)
    machines.hosts[killed].wait()
    machines.until(lambda seen: killed not in seen["heard"])
    machines.start(killed)
    machines.until_all_are_well()
    machines.until(lambda seen: ["restarted", killed] in seen["events"])
    time.sleep(1)

    result = machines.ask("finish")
    print(json.dumps({name: value for name, value in result.items() if name != "verdict"}))
    assert result["ok"], result["verdict"]
    assert result["failed"] == 0
    made = [f"{cut_off} silent", f"{killed} silent"]
    told = [title for title, *_ in result["incidents"] if title in made]  # a busy machine may silence another one
    assert list(dict.fromkeys(told)) == made
    assert result["longest_gap_ms"] > 0


@pytest.mark.long
@pytest.mark.parametrize("queue", [where_there_is(NETEM), where_there_is(NARROW)])
def test_a_host_behind_a_bad_link_does_not_hold_up_the_others(machines: Machines, queue: tuple[str, ...]) -> None:
    leader = machines.ask("seen")["leader"]
    slow = machines.hosts[next(name for name in machines.hosts if name != leader)]
    machines.ask("load", 1_000, [machines.hosts[name].client for name in machines.hosts if name != slow.name])
    machines.network.impair(slow, *queue)
    time.sleep(2)
    assert wait_for(lambda: queued(machines.network, slow)["drops"] > 0), "packets are lost"
    passed = queued(machines.network, slow)
    machines.network.repair(slow)
    machines.until_all_are_well()
    result = machines.ask("finish")
    print(json.dumps(passed), json.dumps({name: value for name, value in result.items() if name != "verdict"}))
    assert result["ok"], result["verdict"]
    assert result["failed"] == 0


def queued(network: Network, machine: Machine) -> dict[str, int]:
    """What the queue before a machine has done."""
    command = ["tc", "-n", machine.namespace, "-s", "-j", "qdisc", "show", "dev", "eth0"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    (shown,) = [each for each in json.loads(said) if each.get("root")]
    return {name: int(shown[name]) for name in ("packets", "drops", "overlimits")}


def test_nothing_is_left_of_a_test_that_fails(tmp_path: Path) -> None:
    class Failed(Exception):
        pass

    def fail(machines: Machines) -> None:
        machines.network.cut(machines.hosts["host1"])
        raise Failed

    machines = Machines(tmp_path, 1)
    host = machines.hosts["host1"]
    stranger = subprocess.Popen(["ip", "netns", "exec", host.namespace, "sleep", "60"])
    pid = host.pid
    with pytest.raises(Failed), machines:
        fail(machines)
    assert stranger.wait(60) == -signal.SIGKILL, "also what else was started there"
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(f"/run/netns/{host.namespace}").exists()
    assert not Path(f"/etc/netns/{host.namespace}").exists()
