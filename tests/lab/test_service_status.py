"""One line that says whether clients are served: what it says in each case, and what it does not say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.widgets.fake_cluster import MS, FakeCluster, snapshot
from zmqlab.lab.service_facts import Facts, NodeFacts, ServiceWatch
from zmqlab.lab.service_status import Level, duration, service_status
from zmqlab.load.load_messages import LoadCounters, LoadMetrics
from zmqlab.wire.control import Event
from zmqlab.wire.fault_queries import LinkFault, NodeFaults
from zmqlab.wire.node_status import Member, NodeStatus

NOW = 1_700_000_000_000_000_000
CUT = LinkFault(cut=True)
SO_FAR = LoadCounters(offered=41_000, sent=41_000, acknowledged=40_000)


def status(name: str, role: str = "follower", members: int = 0, **fields: Any) -> NodeStatus:
    values: dict[str, Any] = {
        "name": name,
        "node_id": 1,
        "pid": 100,
        "port": 5000,
        "time_ns": NOW,
        "uptime_ms": 1,
        "role": role,
        "term": 1,
        "leader_id": 1,
        "first_index": 1,
        "last_index": 9,
        "commit_index": 9,
        "applied_index": 9,
        "lag": 0,
        "replication": "raft",
    }
    known = [Member(node_id=each, name=f"node{each}", host="127.0.0.1", port=1) for each in range(members)]
    return NodeStatus(**values | {"members": known} | fields)


def node(
    number: int, role: str = "follower", process: Any = "running", silent_s: float = 0.1, **fields: Any
) -> NodeFacts:
    name = f"node{number}"
    if process == "stopped":
        return NodeFacts(name=name, process=process)
    return NodeFacts(name=name, process=process, status=status(name, role, **fields), silent_s=silent_s)


LEADER = node(0, "leader")
THREE = [LEADER, node(1), node(2)]
DEAD = [node(number, process="stopped") for number in range(5)]


def load(pid: int = 7, ago_ms: float = 0, **fields: Any) -> list[LoadMetrics]:
    """Two seconds of a load client's snapshots at 1,000 orders/s; ``fields`` are of all of them."""
    times_ns = [NOW - round(ago_ms * MS) - step * 100 * MS for step in reversed(range(20))]
    return [snapshot(time_ns=at_ns, pid=pid, **{"total": SO_FAR} | fields) for at_ns in times_ns]


def silent(silence_ms: float, pid: int = 7) -> list[LoadMetrics]:
    """The same of a client that waits for answers."""
    return (
        load(pid=pid, acknowledged=0, outstanding=40, silence_ms=silence_ms)[-9:]
        if silence_ms > 1_000
        else [
            *load(pid=pid)[:-1],
            snapshot(time_ns=NOW, pid=pid, acknowledged=0, outstanding=40, silence_ms=silence_ms, total=SO_FAR),
        ]
    )


def event(kind: str, name: str, ago_s: float) -> Event:
    return Event(time_ns=NOW - round(ago_s * 1e9), node=name, kind=kind)


def said(nodes: Any = THREE, snapshots: Any = (), silent_s: float = 0.05, **facts: Any) -> tuple[Level, str]:
    """Level and line."""
    pids = {each.pid for each in snapshots}
    known = {"silent_s": dict.fromkeys(pids, silent_s), "now_ns": NOW, "nodes": nodes, "snapshots": snapshots}
    found = service_status(Facts(**known | facts))
    return found.level, found.line(NOW)


# A run as it was before all died: a session that has been served, and is not any more.
DARK = [event("killed", "node0", 8.0), event("killed", "node1", 8.0), event("killed", "node2", 9.0)]
LOAD = load()

CASES: dict[str, tuple[dict[str, Any], Level, str]] = {
    "all is well": (
        {"snapshots": LOAD},
        Level.SERVING,
        "SERVING 1,000/s, p99 2.0 ms · 3 of 3 nodes run, node0 leads",
    ),
    "all dead": (
        {"nodes": DEAD[:3], "snapshots": silent(8_100), "events": DARK},
        Level.UNSERVED,
        "NOBODY IS SERVED for 8 s: 0 of 3 nodes run, a majority is 2: restart two",
    ),
    "a majority dead": (
        {"nodes": [node(0), *DEAD[1:3]], "snapshots": silent(8_100)},
        Level.UNSERVED,
        "NOBODY IS SERVED for 8 s: 1 of 3 nodes runs, a majority is 2: restart one",
    ),
    "all dead, a moment ago": (
        {"nodes": DEAD[:3], "snapshots": silent(400)},
        Level.UNSERVED,
        "NOBODY IS SERVED for 0.4 s: 0 of 3 nodes run, a majority is 2: restart two",
    ),
    "all dead, and the load process too": (
        {"nodes": DEAD[:3], "snapshots": silent(2_000), "silent_s": 5.0, "dead_clients": [7], "events": DARK},
        Level.UNSERVED,
        "OUT OF SERVICE for 8 s: 0 of 3 nodes run, a majority is 2; no load, so no order waits: restart two",
    ),
    "all dead, no load": (
        {"nodes": DEAD[:3], "events": DARK},
        Level.UNSERVED,
        "OUT OF SERVICE for 8 s: 0 of 3 nodes run, a majority is 2; no load, so no order waits: restart two",
    ),
    "the leader dead, an election under way": (
        {"nodes": [DEAD[0], node(1, "candidate"), node(2)], "snapshots": silent(300)},
        Level.DEGRADED,
        "DEGRADED for 0.3 s: no acknowledgement for 300 ms, no node leads, node1 campaigns, node0 is dead, with no "
        "node to spare · 900/s, p99 2.0 ms: restart it",
    ),
    "the leader dead, another one leads": (
        {"nodes": [DEAD[0], node(1, "leader"), node(2)], "snapshots": LOAD, "events": DARK[:1]},
        Level.DEGRADED,
        "DEGRADED for 8 s: node0 is dead, with no node to spare · 1,000/s, p99 2.0 ms: restart it",
    ),
    "the leader paused": (
        {"nodes": [node(0, "leader", "paused"), node(1), node(2)], "snapshots": silent(1_500)},
        Level.UNSERVED,
        "NOBODY IS SERVED for 1 s: 2 of 3 nodes run, no node leads: look at the event log",
    ),
    "a follower paused": (
        {
            "nodes": [LEADER, node(1), node(2, process="paused")],
            "snapshots": LOAD,
            "events": [event("paused", "node2", 65)],
        },
        Level.DEGRADED,
        "DEGRADED for 1 min 5 s: node2 is paused, with no node to spare · 1,000/s, p99 2.0 ms: resume it",
    ),
    "two of three paused": (
        {"nodes": [LEADER, node(1, process="paused"), node(2, process="paused")], "snapshots": silent(4_000)},
        Level.UNSERVED,
        "NOBODY IS SERVED for 4 s: 1 of 3 nodes runs, a majority is 2: resume one",
    ),
    "a partition with a client on either side": (
        {
            "snapshots": [*load(pid=7), *silent(3_000, pid=8)],
            "links": {
                ("node0", "node1"): CUT,
                ("node1", "node0"): CUT,
                ("node0", "node2"): CUT,
                ("node2", "node0"): CUT,
            },
            "nodes": [node(0, "leader"), node(1, "leader", term=2), node(2)],
            "events": [event("partitioned", "", 3.2)],
        },
        Level.DEGRADED,
        "DEGRADED for 3 s: 1 of 2 load clients gets no answer, 4 links are cut · 1,000/s, p99 2.0 ms: heal the links",
    ),
    "every link cut": (
        {
            "links": {(f"node{a}", f"node{b}"): CUT for a in range(3) for b in range(3) if a != b},
            "nodes": [node(0), node(1), node(2)],
            "snapshots": silent(2_200),
        },
        Level.UNSERVED,
        "NOBODY IS SERVED for 2 s: 3 of 3 nodes run, and no node hears a majority: links are cut: heal the links",
    ),
    "a slow link": (
        {"links": {("node0", "node1"): LinkFault(delay_ms=80)}, "snapshots": LOAD},
        Level.DEGRADED,
        "DEGRADED: 1 link is bad · 1,000/s, p99 2.0 ms: heal the links",
    ),
    "a slow disk": (
        {
            "suffering": {"node1": NodeFaults(write_ms=20)},
            "snapshots": LOAD,
            "events": [event("disk_slow", "node1", 4.5)],
        },
        Level.DEGRADED,
        "DEGRADED for 4 s: node1 suffers: each write takes 20 ms · 1,000/s, p99 2.0 ms: mend node1",
    ),
    "no load": (
        {},
        Level.NOT_JUDGED,
        "NO LOAD: 3 of 3 nodes run, node0 leads, and no order is tried: start a load",
    ),
    "no load any more": (
        {"snapshots": [*LOAD, *load(state="ended")[-1:]], "outcome": "passed"},
        Level.NOT_JUDGED,
        "NO LOAD: 3 of 3 nodes run, node0 leads, and no order is tried; every promise of the last run was kept: "
        "start a load",
    ),
    "the load is paused": (
        {"snapshots": load(rate=0.0, offered=0, acknowledged=0, outstanding=0)},
        Level.NOT_JUDGED,
        "LOAD PAUSED: 3 of 3 nodes run, node0 leads, and no order is tried: raise the rate",
    ),
    "the load process dead": (
        {"snapshots": LOAD, "silent_s": 5.0, "dead_clients": [7]},
        Level.NOT_JUDGED,
        "NOT JUDGED for 5 s: the load process has died, so no order is tried; 3 of 3 nodes run, node0 leads: "
        "judge its run, and start another load",
    ),
    "the load process stopped": (
        {"snapshots": LOAD, "silent_s": 5.0},
        Level.NOT_JUDGED,
        "NOT JUDGED for 5 s: the load client says nothing, so its figures are old; 3 of 3 nodes run, node0 leads: "
        "is its process stopped, or starved?",
    ),
    "a dead client, and one that was started later": (
        {"snapshots": [*load(pid=6, ago_ms=900), *LOAD], "silent_s": 0.1, "dead_clients": [6]},
        Level.SERVING,
        "SERVING 2,000/s, p99 2.0 ms · 3 of 3 nodes run, node0 leads",
    ),
    "the feed is silent, the load is served": (
        {"nodes": [node(0, "leader", silent_s=6.0), node(1, silent_s=6.0), node(2, silent_s=6.0)], "snapshots": LOAD},
        Level.DEGRADED,
        "DEGRADED for 6 s: node0, node1 and node2 are silent · 1,000/s, p99 2.0 ms",
    ),
    "the feed is silent, and there is no load": (
        {"nodes": [node(0, "leader", silent_s=6.0), node(1, silent_s=6.0), node(2, silent_s=6.0)]},
        Level.NOT_JUDGED,
        "NO NEWS for 6 s: no node has been heard, though three of them run: what is shown of them is old: "
        "look at the nodes' logs",
    ),
    "nodes of another process fall silent": (
        {"nodes": [node(number, "follower", "unknown", 6.0) for number in range(3)]},
        Level.NOT_JUDGED,
        "NO NEWS for 6 s: no node has been heard: what is shown of them is old: do they run?",
    ),
    "nodes of another process, one is silent": (
        {"nodes": [node(0, "leader", "unknown"), node(1, process="unknown"), node(2, "follower", "unknown", 6.0)]},
        Level.DEGRADED,
        "DEGRADED for 6 s: node2 is silent · no load",
    ),
    "not started": (
        {"life": "not started", "nodes": ()},
        Level.NOT_JUDGED,
        "NOTHING RUNS: the cluster has not been started: cluster.start() starts it",
    ),
    "closed": (
        {"life": "stopped", "nodes": DEAD[:3], "outcome": "failed"},
        Level.NOT_JUDGED,
        "NOTHING RUNS: the cluster has been stopped; a promise of the last run was broken: start a new one",
    ),
    "the figures have stopped": (
        {"problem": "ValueError('x')", "snapshots": LOAD},
        Level.NOT_JUDGED,
        "NOT JUDGED: the figures have stopped: ValueError('x'): run the cell again",
    ),
    "five nodes, two dead": (
        {"nodes": [LEADER, node(1), node(2), *DEAD[3:]], "snapshots": LOAD},
        Level.DEGRADED,
        "DEGRADED: node3 and node4 are dead, with no node to spare · 1,000/s, p99 2.0 ms: restart them",
    ),
    "five nodes, one dead": (
        {"nodes": [LEADER, node(1), node(2), node(3), DEAD[4]], "snapshots": LOAD},
        Level.DEGRADED,
        "DEGRADED: node4 is dead · 1,000/s, p99 2.0 ms: restart it",
    ),
    "a member being added": (
        {"nodes": [node(0, "leader", members=3), node(1), node(2), node(3, "learner", lag=90_000)], "snapshots": LOAD},
        Level.SERVING,
        "SERVING 1,000/s, p99 2.0 ms · 3 of 3 nodes run, node0 leads, node3 joins",
    ),
    "a member being added does not count yet": (
        {"nodes": [node(0, members=3), DEAD[1], DEAD[2], node(3, "learner")], "snapshots": silent(5_000)},
        Level.UNSERVED,
        "NOBODY IS SERVED for 5 s: 1 of 3 nodes runs, a majority is 2: restart one",
    ),
    "a node that has just been started": (
        {
            "nodes": [LEADER, node(1), NodeFacts(name="node2", process="running")],
            "events": [event("restarted", "node2", 0.3)],
            "snapshots": LOAD,
        },
        Level.SERVING,
        "SERVING 1,000/s, p99 2.0 ms · 3 of 3 nodes run, node0 leads",
    ),
    "a node that catches up": (
        {
            "nodes": [LEADER, node(1), node(2, lag=12_000)],
            "events": [event("restarted", "node2", 2.5)],
            "snapshots": LOAD,
        },
        Level.DEGRADED,
        "DEGRADED for 2 s: node2 catches up, 12,000 entries to apply · 1,000/s, p99 2.0 ms",
    ),
    "no leader, no load": (
        {"nodes": [node(0), node(1, "pre_candidate"), node(2)]},
        Level.DEGRADED,
        "DEGRADED: no node leads, node1 campaigns · no load",
    ),
    "orders wait": (
        {"snapshots": load(offered=200, held_back=100)},
        Level.DEGRADED,
        "DEGRADED: orders are held back, 2,000 orders/s offered, 1,000 acknowledged · 1,000/s, p99 2.0 ms",
    ),
    "the generator is late": (
        {"snapshots": load(late=5)},
        Level.SERVING,
        "SERVING 1,000/s, p99 2.0 ms · 3 of 3 nodes run, node0 leads · the load client itself sends 5% late",
    ),
    "broadcast: one node is enough": (
        {"nodes": [node(0, replication="broadcast"), *DEAD[1:3]], "snapshots": LOAD},
        Level.DEGRADED,
        "DEGRADED: node1 and node2 are dead · 1,000/s, p99 2.0 ms: restart them",
    ),
    "broadcast: the states part": (
        {"nodes": [node(number, replication="broadcast") for number in range(3)], "parted_at": 256, "snapshots": LOAD},
        Level.DEGRADED,
        "DEGRADED: the nodes' states differ from index 256 on · 1,000/s, p99 2.0 ms: judge the run",
    ),
    "a replication of one's own": (
        {
            "nodes": [node(0, replication="mine:Mine"), *DEAD[1:3]],
            "replication": "mine:Mine",
            "snapshots": silent(3_000),
        },
        Level.UNSERVED,
        "NOBODY IS SERVED for 3 s: 1 of 3 nodes runs: look at the event log",
    ),
    "leader-ack needs a majority all the same": (
        {"nodes": [node(0), *DEAD[1:3]], "replication": "leader-ack", "snapshots": silent(3_000)},
        Level.UNSERVED,
        "NOBODY IS SERVED for 3 s: 1 of 3 nodes runs, a majority is 2: restart one",
    ),
    "a leader, and yet no answer": (
        {"snapshots": silent(3_000)},
        Level.UNSERVED,
        "NOBODY IS SERVED for 3 s: 3 of 3 nodes run and node0 leads, yet no answer comes: look at the event log",
    ),
    "nodes that are not known": (
        {"nodes": (), "snapshots": silent(3_000)},
        Level.UNSERVED,
        "NOBODY IS SERVED for 3 s: answers are owed, and none comes; of the nodes nothing is known: do they run?",
    ),
    "nodes of another process, most of them silent": (
        {
            "nodes": [node(0, process="unknown"), *(node(each, "follower", "unknown", 6.0) for each in (1, 2))],
            "snapshots": silent(3_000),
        },
        Level.UNSERVED,
        "NOBODY IS SERVED for 3 s: 1 of 3 nodes is heard, a majority is 2: do the others run?",
    ),
    "no node was ever heard": (
        {"nodes": ()},
        Level.NOT_JUDGED,
        "NOT JUDGED: no node has been heard yet: are the nodes' addresses right?",
    ),
}


@pytest.mark.parametrize(("facts", "level", "line"), CASES.values(), ids=CASES)
def test_what_the_line_says(facts: dict[str, Any], level: Level, line: str) -> None:
    assert said(**facts) == (level, line)


def test_a_load_that_waits_for_no_answer_tells_nothing() -> None:
    sent = load(acknowledged=0, outstanding=0, total=LoadCounters(offered=9, sent=9))
    level, line = said(snapshots=sent)
    assert level is Level.NOT_JUDGED
    assert "waits for no answer" in line


def test_the_first_orders_are_on_their_way() -> None:
    level, line = said(snapshots=[snapshot(time_ns=NOW, acknowledged=0, outstanding=3, silence_ms=40.0)])
    assert (level, line[:9]) == (Level.NOT_JUDGED, "STARTING:")


def test_each_level_has_a_shape_and_a_colour_of_its_own() -> None:
    assert len({each.symbol for each in Level}) == len({each.colour for each in Level}) == len(Level) == 5


def test_how_times_are_said() -> None:
    assert list(map(duration, (0, 3e8, 8.9e9, 65e9, 3_780e9))) == ["0.0 s", "0.3 s", "8 s", "1 min 5 s", "1 h 3 min"]


def test_the_watch_collects_what_the_feed_hears() -> None:
    cluster = FakeCluster()
    watch = ServiceWatch.of(cluster)  # type: ignore[arg-type]
    try:
        for name in cluster.nodes:
            cluster.say(name)
        for _ in range(5):
            cluster.load()
        found = service_status(watch.facts())
        assert (found.level, found.headline) == (Level.SERVING, "SERVING")
        cluster.load(state="ended")
        assert service_status(watch.facts()).headline == "NO LOAD"
        cluster.running, cluster.paused = ("node0",), ("node1",)
        assert [each.process for each in watch.facts().nodes] == ["running", "paused", "stopped"]
    finally:
        cluster.stop()
    assert service_status(watch.facts()).headline == "NOTHING RUNS"


def test_the_watch_of_nodes_that_others_run_knows_no_processes() -> None:
    cluster = FakeCluster()
    try:
        cluster.say("node0")
        assert [each.process for each in ServiceWatch(cluster.feed).facts().nodes] == ["unknown"]
    finally:
        cluster.stop()
