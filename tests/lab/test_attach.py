"""Nodes that were started elsewhere: attached to, followed, loaded, harmed by query, judged, and let go."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from tests.lab.fake_node import status_of
from tests.waiting import wait_for
from zmqlab import Cluster, LoadClient
from zmqlab.errors import ClusterError, NotLetIn, RequestTimeout, SettingsError
from zmqlab.keys import Keyring, Role, is_known, make_private
from zmqlab.lab.events import spans_of
from zmqlab.lab.external_host import OUTSIDE, AttachedFleet, ExternalHost, members_told
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_table import FaultTable
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.fleet import NodePlan
from zmqlab.lab.hosts import SAME_CLOCK, free_base_ports, module_command, module_environment, node_arguments
from zmqlab.lab.service_facts import ServiceWatch
from zmqlab.settings import NodeSettings
from zmqlab.widgets.cluster_controls import states_of
from zmqlab.wire.control import Event, encode
from zmqlab.wire.frames import EVENT
from zmqlab.wire.node_status import Member, NodeStatus

# -- what nodes say, without nodes ---------------------------------------------------------------------------------


def member(number: int, host: str = "127.0.0.1", name: str | None = None) -> Member:
    return Member(node_id=number, name=f"node{number}" if name is None else name, host=host, port=5_000 + 100 * number)


def said(number: int, members: list[Member], **fields: Any) -> NodeStatus:
    status = status_of(f"node{number}", 5_000 + 100 * number, number == 1)
    return changed(status, node_id=number, members=members, **fields)


class Outside:
    """A fleet that was attached to, whose feed a test speaks into."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.members = [member(1), member(2), member(3)]
        self.now_s = 0.0
        self.feed = MetricsFeed()
        self.at_s: dict[str, float] = {}
        monkeypatch.setattr("zmqlab.lab.external_host.CLOCK_ANSWER_S", 0.0)
        monkeypatch.setattr(self.feed, "silent_s", lambda: {name: self.now_s - at for name, at in self.at_s.items()})
        host = ExternalHost(["tcp://127.0.0.1:5102"])
        self.fleet = AttachedFleet(host, self.feed, NodePlan(cluster="attached", run_dir=Path()), said(1, self.members))
        self.back: list[str] = []
        self.fleet.when_back = self.back.append
        self.say(1, 2, 3)
        self.fleet.found(0)

    def say(self, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            self.feed._take_status(said(number, self.members, **fields))
            self.at_s[f"node{number}"] = self.now_s
        self.fleet.notice_deaths()

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.kind, event.node) for event in self.feed.events() if event.kind != "attached"]


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    made = Outside(monkeypatch)
    yield made
    made.fleet.close()
    made.feed.close()


def test_the_members_are_those_that_the_nodes_name(outside: Outside) -> None:
    assert outside.fleet.names == outside.fleet.running == ("node1", "node2", "node3")
    assert outside.fleet.endpoint("node3") == "tcp://127.0.0.1:5302"
    assert [event.kind for event in outside.feed.events()] == 3 * ["attached"]


def test_a_node_that_is_not_heard_is_silent_and_not_dead(outside: Outside) -> None:
    outside.now_s = 1.5
    outside.say(1, 2)
    assert outside.fleet.running == ("node1", "node2")
    assert outside.told == [("fell_silent", "node3")]
    facts = {each.name: each for each in ServiceWatch(outside.feed, outside.fleet).facts().nodes}
    assert facts["node3"].process == "unknown"
    assert (facts["node3"].is_up, facts["node3"].is_down) == (False, False)
    outside.say(1)
    assert outside.told == [("fell_silent", "node3")], "told once"
    outside.say(3)
    assert outside.told == [("fell_silent", "node3"), ("heard_again", "node3")]
    assert wait_for(lambda: outside.back == ["node3"])
    (silence,) = [span for span in spans_of(outside.feed.events(), FAULTS.bands) if span.label == "node3 silent"]
    assert silence.end_ns is not None
    assert silence.end_ns - silence.start_ns >= 1_400_000_000, "from its last word on"


def test_a_restart_is_seen_by_a_shorter_uptime(outside: Outside) -> None:
    outside.say(2, uptime_ms=90_000)
    outside.say(2, uptime_ms=400, pid=77)
    assert outside.told == [("restarted", "node2")]
    assert wait_for(lambda: outside.back == ["node2"])


def test_members_that_come_move_and_go_are_followed(outside: Outside) -> None:
    outside.members = [*outside.members, member(4, name="")]
    outside.say(1, commit_index=2)
    assert len(outside.fleet.names) == 3, "one that is nameless for a moment is waited for"
    outside.members[-1] = member(4)
    outside.members[1] = member(2, host="127.0.0.7")
    outside.say(1, commit_index=3)
    assert outside.fleet.names == ("node1", "node3", "node2", "node4")
    assert outside.fleet.endpoint("node2") == "tcp://127.0.0.7:5202"
    del outside.members[2]
    outside.say(1, commit_index=4)
    assert outside.fleet.names == ("node1", "node2", "node4")
    assert outside.told == [("restarted", "node2"), ("removed", "node3")]


def test_a_member_that_was_removed_from_here_does_not_come_back_with_old_news(outside: Outside) -> None:
    outside.fleet.drop(["node3"])
    outside.say(1, 2)
    assert outside.fleet.names == ("node1", "node2"), "though both still name it"
    outside.members = outside.members[:2]
    outside.say(1, 2, commit_index=2)
    outside.members = [*outside.members, member(3)]
    outside.say(1, 2, commit_index=3)
    assert outside.fleet.names == ("node1", "node2", "node3"), "it has joined again"


def test_old_news_of_the_members_change_nothing(outside: Outside) -> None:
    new = [*outside.members, member(4)]
    outside.feed._take_status(said(1, new, commit_index=9))
    outside.say(2, commit_index=1)
    assert len(outside.fleet.names) == 4


def in_groups(**groups: list[int]) -> list[list[NodeStatus]]:
    """What the members of each group say; a group is the numbers of its members, the most advanced one first."""
    return [
        [
            said(number, [member(each) for each in numbers], group=group, shards=len(groups), commit_index=9 - place)
            for place, number in enumerate(numbers)
        ]
        for group, numbers in enumerate(groups.values())
    ]


def test_with_shards_the_nodes_are_the_members_of_all_groups() -> None:
    """By the members of one group most nodes would have been missing."""
    told = in_groups(a=[1, 2], b=[2, 3], c=[4, 1])
    assert sorted(each.name for each in members_told(told)) == ["node1", "node2", "node3", "node4"]
    told[1][0].members[1] = member(3, name="")
    assert sorted(each.name for each in members_told(told)) == ["node1", "node2", "node3", "node4"], "another knows it"
    told[1][1].members[1] = member(3, name="")
    assert "" in [each.name for each in members_told(told)], "nameless for a moment: it is waited for"


def test_a_node_that_has_moved_is_shown_where_it_speaks() -> None:
    """One group may not have followed yet, and names its old place; without its disk it is another member of the same
    name. Nothing was followed any more then."""
    told = in_groups(a=[1, 2], b=[1, 2])
    moved = member(2, host="127.0.0.7")
    told[1] = [said(2, [member(1), moved], group=1, shards=2, address=moved.endpoint, commit_index=9)]
    assert {each.name: each.host for each in members_told(told)} == {"node1": "127.0.0.1", "node2": "127.0.0.7"}


def test_with_shards_members_of_any_group_are_followed(outside: Outside) -> None:
    outside.fleet.plan = NodePlan(cluster="attached", run_dir=Path(), shards=2)
    for status in (each for told in in_groups(a=[1, 2], b=[3, 4]) for each in told):
        outside.feed._take_status(status)
    outside.fleet.notice_deaths()
    assert outside.fleet.names == ("node1", "node2", "node3", "node4")


def test_with_shards_a_group_that_is_closed_is_no_restart(outside: Outside) -> None:
    """A node's figures are of its first group. That of the next one was told a little earlier."""
    outside.fleet.plan = NodePlan(cluster="attached", run_dir=Path(), shards=2)
    outside.say(2, uptime_ms=90_000, shards=2)
    outside.say(2, uptime_ms=89_900, shards=2)
    assert outside.told == []
    outside.say(2, uptime_ms=400, shards=2)
    assert outside.told == [("restarted", "node2")]


def test_with_shards_a_node_that_had_just_started_and_is_another_process_was_restarted(outside: Outside) -> None:
    """It had run for a second, and its next process had run for half a second when it was heard."""
    outside.fleet.plan = NodePlan(cluster="attached", run_dir=Path(), shards=2)
    outside.say(2, uptime_ms=900, shards=2)
    outside.say(2, uptime_ms=600, shards=2, pid=77)
    assert outside.told == [("restarted", "node2")]


def test_events_are_placed_by_the_clock_of_their_machine(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    def statuses(endpoints: list[str], timeout_s: float) -> dict[str, NodeStatus]:
        ahead_ns = 2_000_000_000 if endpoints == ["tcp://127.0.0.1:5202"] else 0
        return {endpoints[0]: said(2, [], time_ns=time.time_ns() + ahead_ns)}

    monkeypatch.setattr("zmqlab.client.ask.statuses", statuses)
    assert outside.fleet.clock("node2") == SAME_CLOCK, "nothing is known"
    outside.fleet._ask_for_clocks()
    ahead = outside.fleet.clock("node2")
    assert abs(ahead.offset_ns - 2_000_000_000) <= ahead.uncertainty_ns < 500_000_000
    assert outside.fleet.clock("node1").offset_ns == 0
    outside.feed.clock = outside.fleet.clock
    now_ns = time.time_ns()
    event = Event(time_ns=now_ns + ahead.offset_ns, node="node2", kind="elected", term=2)
    outside.feed._take_node_frame(EVENT, encode(EVENT, event))
    placed = outside.feed.events()[-1]
    assert abs(placed.time_ns - now_ns) <= ahead.uncertainty_ns
    assert placed.text.startswith("±")


def test_faults_are_told_again_to_a_node_that_is_back(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has forgotten them with its process."""
    table = FaultTable(outside.fleet)
    outside.fleet.when_back = table.tell_again
    told: list[set[str]] = []
    for part in (table._about_links, table._about_nodes):
        monkeypatch.setattr(part, "tell", lambda names: told.append(set(names)))
    monkeypatch.setattr(outside.fleet, "await_answer", lambda name: None)
    table.change_node("node2", clock_rate=2.0)
    outside.say(2, uptime_ms=90_000)
    outside.say(2, uptime_ms=400)
    assert wait_for(lambda: told == [{"node2"}, {"node2"}])


@pytest.mark.parametrize("endpoints", ["tcp://127.0.0.1:5002", [], ["node0:5002"]])
def test_refuses_what_names_no_node(endpoints: Any) -> None:
    with pytest.raises(SettingsError):
        Cluster.attach(endpoints)


# -- real nodes, started by someone else ---------------------------------------------------------------------------


class Theirs:
    """Nodes as processes of someone else: this lab knows nothing of them."""

    def __init__(self, folder: Path, count: int = 3, **settings: Any) -> None:
        self.keys = folder / "keys"
        Keyring.new().save(self.keys)
        ports = free_base_ports(count)
        places = [f"tcp://127.0.0.1:{port}" for port in ports]
        self.settings = {
            f"node{number}": NodeSettings(
                name=f"node{number}",
                port=port,
                peers=tuple(each for each in places if each != places[number]),
                leader=number == 0,
                run_dir=folder,
                keys=self.keys,
                allow_faults=number != 2,
                watch_stdin=True,
                **settings,
            )
            for number, port in enumerate(ports)
        }
        make_private(folder / "logs")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in self.settings:
            self.start(name)

    def start(self, name: str) -> None:
        command = [*module_command("zmqlab.node"), *node_arguments(self.settings[name])]
        self.processes[name] = subprocess.Popen(command, stdin=subprocess.PIPE, env=module_environment())

    @property
    def endpoints(self) -> list[str]:
        return [settings.client_endpoint for settings in self.settings.values()]

    def kill(self, name: str) -> None:
        process = self.processes[name]
        process.kill()
        process.communicate(timeout=30)

    def close(self) -> None:
        for name in self.processes:
            self.kill(name)


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Theirs]:
    made = Theirs(tmp_path, election_ticks=100)
    yield made
    made.close()


CANT: dict[str, Callable[[Cluster, str], object]] = {
    "kill": Cluster.kill,
    "terminate": Cluster.terminate,
    "pause": Cluster.pause,
    "restart": Cluster.restart,
    "wipe": Cluster.wipe,
    "pid": Cluster.pid,
    "scale": lambda cluster, _: cluster.scale(5),
    "change": lambda cluster, _: cluster.change(durability="fsync"),
}


@pytest.mark.process
def test_attached_to_loaded_harmed_judged_and_let_go(theirs: Theirs, tmp_path: Path) -> None:
    with Cluster.attach(theirs.endpoints[:1], keys=theirs.keys) as cluster:
        assert cluster.nodes == ("node0", "node1", "node2"), "by the word of one"
        assert wait_for(lambda: len(cluster.running) == 3)
        assert re.match("<Cluster attached, started elsewhere: 3 of 3 nodes are heard, leader node0>", repr(cluster))
        before = len(cluster.events)
        for verb, act in CANT.items():
            with pytest.raises(ClusterError, match=re.escape(OUTSIDE)):
                act(cluster, "node1")
            assert len(cluster.events) == before, f"{verb} tells of nothing"
        with pytest.raises(ClusterError, match=r"the log of node1 is where it runs: logs/node1\.log there"):
            cluster.log_path("node1")
        with pytest.raises(ClusterError, match=f"zmqlab node --join {theirs.settings['node0'].endpoint}"):
            cluster.add()
        with pytest.raises(ClusterError, match="node2 takes no faults: faults are for nodes"):
            cluster.skew_clock("node2", 2.0)

        with LoadClient(cluster, rate=500, duration=None) as load:
            load.start()
            cluster.partition(["node0"], ["node1"])
            cluster.heal()
            cluster.transfer("node1")
            theirs.kill("node2")
            assert wait_for(lambda: cluster.running == ("node0", "node1"))
            assert states_of(cluster, cluster.nodes, False)["node2"] == "silent"
            assert [each.state for each in cluster.status()] == ["running", "running", "silent"]
            theirs.start("node2")
            assert wait_for(lambda: len(cluster.running) == 3)
            load.stop()
            result = load.wait(60)
            assert result.verdict.ok, result
            assert result.as_dict()["verdict"]["outcome"] == "passed"
            assert load.judged.cluster == {"nodes": 3, "replication": "raft"}, "no more is known of them"
        assert wait_for(lambda: ("node2", "restarted") in [(each.node, each.kind) for each in cluster.events])
        cluster.remove("node2")
        assert cluster.nodes == ("node0", "node1")
        assert theirs.processes["node2"].poll() is None, "out of the group, and its process goes on"
    assert all(process.poll() is None for process in theirs.processes.values()), "let go"
    assert not is_known(theirs.settings["node0"].endpoint), "and its key is shown there no longer"


@pytest.mark.process
def test_with_shards_attached_to_loaded_harmed_and_judged_in_each_group(tmp_path: Path) -> None:
    theirs = Theirs(tmp_path, 4, shards=4, replication_factor=3)
    try:
        with Cluster.attach(theirs.endpoints[1:2], keys=theirs.keys) as cluster:
            assert cluster.nodes == ("node0", "node1", "node2", "node3"), "of all groups, by the word of one node"
            assert wait_for(lambda: len(cluster.running) == 4 and all(cluster.leaders.values()))
            assert repr(cluster).endswith("4 of 4 nodes are heard, all 4 groups have a leader>")
            with pytest.raises(ClusterError, match=re.escape(OUTSIDE)):
                cluster.change(durability="fsync")
            with LoadClient(cluster, rate=300, duration=None) as load:
                load.start()
                cluster.partition(["node0"], ["node1"])
                cluster.heal()
                (group, leader) = next((group, name) for group, name in cluster.leaders.items() if name != "node3")
                heir = next(name for name in cluster.feed.newest(group) if name != leader)
                cluster.transfer(heir, group=group)
                theirs.kill("node3")
                assert wait_for(lambda: "node3" not in cluster.running)
                theirs.start("node3")
                assert wait_for(lambda: "node3" in cluster.running)
                load.stop()
                result = load.wait(60)
            assert result.verdict.ok, result
            assert sorted(result.verdict.groups) == [0, 1, 2, 3]
            assert all(each["acknowledged"] for each in result.as_dict()["groups"]), "orders went to each group"
            assert ("node3", "restarted") in [(each.node, each.kind) for each in cluster.events]
            cluster.remove("node3")
            assert cluster.nodes == ("node0", "node1", "node2")
        assert all(process.poll() is None for process in theirs.processes.values()), "let go"
    finally:
        theirs.close()


@pytest.mark.process
def test_the_key_decides_who_attaches(theirs: Theirs, tmp_path: Path) -> None:
    trader = tmp_path / "trader"
    Keyring.read(theirs.keys).add(Role.TRADER, "guest", trader)
    with Cluster.attach(theirs.endpoints, keys=trader) as cluster:
        assert cluster.wait_for_leader(60)
        with pytest.raises(ClusterError, match="node1 takes no faults"):
            cluster.skew_clock("node1", 2.0)
    Keyring.new().save(tmp_path / "others")
    with pytest.raises(NotLetIn):
        Cluster.attach(theirs.endpoints, keys=tmp_path / "others")


def test_no_node_there_is_said() -> None:
    (port,) = free_base_ports(1)
    host = ExternalHost([f"tcp://127.0.0.1:{port + 2}"])
    with pytest.raises(RequestTimeout, match=r"do they run, is this base port \+ 2\?"):
        host.look(0.0)
