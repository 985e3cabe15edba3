"""Getting in, moving, leaving: by nodes that are started like those of people, and by hand where time matters."""

from __future__ import annotations

import math
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from zmqlab.client import ask
from zmqlab.client.bare_client import BareClient
from zmqlab.errors import RequestError
from zmqlab.lab.hosts import free_base_ports
from zmqlab.lab.scaling import reach_leader, remove_member
from zmqlab.market.types import Command, Side
from zmqlab.wire.control import OkAnswer, TransferQuery
from zmqlab.wire.node_status import NodeStatus

pytestmark = pytest.mark.process

TIMEOUT_S = 60


class Group:
    """Nodes on this machine, each with a folder of its own."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self.ports = free_base_ports(count)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def base(self, number: int) -> str:
        return f"tcp://127.0.0.1:{self.ports[number]}"

    def client(self, number: int) -> str:
        return f"tcp://127.0.0.1:{self.ports[number] + 2}"

    def start(self, number: int, *flags: str, join: str = "") -> None:
        """Start a node that joins the others, or those in ``join``."""
        others = ",".join(self.base(other) for other in range(len(self.ports)) if other != number)
        own = ["--node", f"n{number}", "--port", str(self.ports[number]), "--run-dir", str(self._folder / str(number))]
        command = [sys.executable, "-m", "zmqlab.node", *own, "--join", join or others, "--watch-stdin", *flags]
        self.processes[number] = subprocess.Popen(command, stdin=subprocess.PIPE)

    def end(self, number: int, how: signal.Signals = signal.SIGTERM) -> int:
        process = self.processes.pop(number)
        process.send_signal(how)
        return self._ended(process)

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        assert process.stdin is not None
        status = process.wait(TIMEOUT_S)
        process.stdin.close()
        return status

    def form(self, *flags: str) -> None:
        """All of them, started at once; the first one is the seed."""
        self.start(0, "--bootstrap-ms", "500")
        for number in range(1, len(self.ports)):
            self.start(number, *flags)
        self.until_voters(*range(len(self.ports)))

    def statuses(self) -> dict[int, NodeStatus]:
        said = ask.statuses([self.client(number) for number in self.processes], 0.5)
        return {number: said[self.client(number)] for number in self.processes if self.client(number) in said}

    def until(self, condition: Callable[[dict[int, NodeStatus]], bool]) -> dict[int, NodeStatus]:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition(statuses := self.statuses()):
            assert time.monotonic() < deadline, statuses
            time.sleep(0.02)
        return statuses

    def until_voters(self, *numbers: int) -> dict[int, NodeStatus]:
        """These vote, at their addresses, as each of them knows."""
        ports = {self.ports[number] for number in numbers}

        def agreed(statuses: dict[int, NodeStatus]) -> bool:
            return all(
                number in statuses
                and statuses[number].leader_id
                and {member.port for member in statuses[number].members if member.voter} == ports
                and len(statuses[number].members) == len(ports)
                for number in numbers
            )

        return self.until(agreed)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            self._ended(process)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[int], Group]]:
    made: list[Group] = []

    def make(count: int) -> Group:
        made.append(Group(tmp_path, count))
        return made[-1]

    yield make
    for group in made:
        group.close()


Make = Callable[[int], Group]


def ids(statuses: dict[int, NodeStatus]) -> dict[int, int]:
    return {number: status.node_id for number, status in statuses.items()}


def test_a_seed_and_all_others_at_once_form_one_cluster(make: Make) -> None:
    group = make(3)
    group.form()
    assert len({status.leader_id for status in group.statuses().values()}) == 1
    assert len(set(ids(group.statuses()).values())) == 3


def test_two_that_wait_for_each_other_are_taken_in_when_a_third_can(make: Make) -> None:
    group = make(3)
    for number in (1, 2):
        group.start(number)
    group.until(lambda statuses: len(statuses) == 2)
    time.sleep(0.6)  # each has asked the other by now
    assert not any(status.members for status in group.statuses().values()), "nobody founds but the seed"
    group.start(0, "--bootstrap-ms", "500")
    group.until_voters(0, 1, 2)


def test_a_seed_without_its_journal_joins_the_cluster_that_there_is(make: Make, tmp_path: Path) -> None:
    group = make(3)
    group.form()
    before = ids(group.statuses())
    group.end(0, signal.SIGKILL)
    for path in sorted((tmp_path / "0" / "data" / "n0").iterdir()):
        path.unlink()
    group.start(0, "--bootstrap-ms", "20000")  # an answer ends that wait; a busy machine has time to give one
    after = ids(group.until_voters(0, 1, 2))
    assert after[0] != before[0]
    assert (after[1], after[2]) == (before[1], before[2])


def test_a_seed_is_stopped_while_it_asks(make: Make) -> None:
    group = make(2)
    group.start(0, "--bootstrap-ms", "60000")
    time.sleep(1)
    group.end(0)


def swap(group: Group, one: int, other: int, pause_s: float) -> None:
    """End two members, and start each of them at the other one's address, with a pause between the two starts."""
    for number in (one, other):
        group.end(number)
    group.ports[one], group.ports[other] = group.ports[other], group.ports[one]
    group.start(one)
    time.sleep(pause_s)
    group.start(other)


def addresses(status: NodeStatus) -> dict[int, int]:
    return {member.node_id: member.port for member in status.members}


def lead(group: Group, number: int) -> None:
    """Hand leadership to this member."""
    node_id = ids(group.until(lambda statuses: number in statuses))[number]

    def leads(statuses: dict[int, NodeStatus]) -> bool:
        return len(statuses) == len(group.ports) and all(each.leader_id == node_id for each in statuses.values())

    while not leads(statuses := group.statuses()):
        for each, status in statuses.items():
            if status.role == "leader" and each != number:
                with suppress(RequestError):
                    ask.ask_one(group.client(each), TransferQuery(ask.new_nonce(), node_id), OkAnswer)
        time.sleep(0.1)


def leader_of(group: Group) -> int:
    """Which one leads. The last leader may not know yet that it does not."""
    said = group.until(lambda statuses: any(each.role == "leader" for each in statuses.values()))
    return max((each.term, number) for number, each in said.items() if each.role == "leader")[1]


def soonest_median_ms(group: Group, until_ms: float = 0.0) -> float:
    """The smallest of a few medians over all members, measured until one is below ``until_ms``: a busy machine is busy
    for a while, and a member that does not hear is deaf each time."""
    found_ms = math.inf
    for _ in range(5):
        found_ms = min(found_ms, max(median_ms(group, number) for number in range(3)))
        if found_ms < until_ms:
            break
    return found_ms


def median_ms(group: Group, number: int) -> float:
    """How long an order takes that is sent to this member, which must hear that it is committed before it answers."""
    times = []
    with BareClient({"node": group.client(number)}) as client:
        client.open("node")
        for request in range(1, 22):
            began = time.monotonic()
            client.ask("node", client.request(request, Command.limit(Side.BUY, "AAPL", 1, 1)), TIMEOUT_S)
            times.append(1_000 * (time.monotonic() - began))
    return statistics.median(times)


@pytest.mark.parametrize("pause_s", [0.0, 1.0])
def test_two_members_that_exchange_addresses_hear_every_member(make: Make, pause_s: float) -> None:
    """While their HELLOs came one by one, both stood at one address, and a node ended its only connection to one."""
    group = make(3)
    group.form()
    leader = leader_of(group)
    one, other = (number for number in range(3) if number != leader)
    calm_ms = max(median_ms(group, number) for number in range(3))
    swap(group, one, other, pause_s)
    statuses = group.until_voters(0, 1, 2)
    wanted = {node_id: group.ports[number] for number, node_id in ids(statuses).items()}
    group.until(lambda said: len(said) == 3 and all(addresses(each) == wanted for each in said.values()))
    for number in range(3):
        lead(group, number)
        most_ms = max(3 * calm_ms + 10, 50)
        assert soonest_median_ms(group, most_ms) < most_ms, f"a member is deaf to n{number}: 74 ms were seen"


def hand_over(group: Group) -> None:
    leader = leader_of(group)
    term = group.until(lambda statuses: leader in statuses)[leader].term

    def is_done(statuses: dict[int, NodeStatus]) -> bool:
        if any(each.role == "leader" and each.term > term for each in statuses.values()):
            return True
        with suppress(RequestError):  # a leader that was elected just now has heard of no successor yet
            ask.ask_one(group.client(leader), TransferQuery(ask.new_nonce(), 0), OkAnswer)
        return False

    group.until(is_done)


def test_a_member_that_was_removed_while_it_was_away_comes_back(make: Make) -> None:
    group = make(3)
    group.form()
    before = ids(group.statuses())
    for _ in range(3):  # each new leader's entry brings along, to disk, that the last ones are committed
        hand_over(group)
    group.end(2)
    clients = [group.client(0), group.client(1)]
    deadline = time.monotonic() + TIMEOUT_S
    reach_leader(lambda: clients, deadline)
    remove_member(lambda: clients, before[2], deadline)
    group.until_voters(0, 1)
    group.start(2)
    assert ids(group.until_voters(0, 1, 2)) == before


def test_all_come_back_at_each_others_addresses(make: Make, tmp_path: Path) -> None:
    group = make(3)
    group.form()
    before = ids(group.statuses())
    for number in range(3):
        group.end(number, signal.SIGKILL)
    group.ports = [group.ports[1], group.ports[2], group.ports[0]]
    for number in range(3):
        group.start(number)
    assert ids(group.until_voters(0, 1, 2)) == before


def test_those_that_leave_are_missed_by_nobody(make: Make) -> None:
    group = make(5)
    group.form("--leave", "--drain-ms", "20000")
    for number in (2, 3, 4):
        group.processes[number].send_signal(signal.SIGTERM)
    assert [group.end(number, signal.SIGCONT) for number in (2, 3, 4)] == [0, 0, 0]
    group.until_voters(0, 1)
    group.start(3, "--leave")
    group.until_voters(0, 1, 3)


def test_the_last_one_does_not_wait_to_leave(make: Make) -> None:
    group = make(2)
    group.start(0, "--bootstrap-ms", "200", "--leave", "--drain-ms", "60000")
    group.until_voters(0)
    assert group.end(0) == 0


def test_leaving_and_founding_are_for_those_that_join(capsys: pytest.CaptureFixture[str]) -> None:
    from zmqlab.cli import run

    flags: Any
    for flags in (["--leave"], ["--bootstrap-ms", "5"]):
        assert run(["node", "--node", "n", "--port", "5000", *flags]) == 2
        assert "name its members with --join" in capsys.readouterr().err


def test_a_dead_member_is_taken_out_by_name(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    from zmqlab.cli import run

    group = make(3)
    group.form()
    group.end(2, signal.SIGKILL)
    nodes = ",".join(group.client(number) for number in (0, 1))
    assert run(["remove", "n7", "--nodes", nodes]) == 1
    assert "no members are called n7: there are n0 at 127.0.0.1:" in capsys.readouterr().err
    assert run(["remove", "n2", "--nodes", nodes]) == 0
    assert capsys.readouterr().out == f"n2 at 127.0.0.1:{group.ports[2]} is out of the group\n"
    group.until_voters(0, 1)
    leader = leader_of(group)
    assert run(["remove", f"127.0.0.1:{group.ports[leader]}", "--nodes", nodes]) == 0
    group.until_voters(1 - leader)
