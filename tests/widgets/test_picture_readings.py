"""What the live picture is told: looks, tables, and which messages travel."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any, cast

import msgspec
import pytest

from tests.widgets.fake_cluster import MS, FakeCluster, snapshot
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.message_matching import Fate, Message
from zmqlab.widgets.group_readings import GroupReadings, GroupRow
from zmqlab.widgets.picture_readings import (
    CLIENT,
    Look,
    PictureReadings,
    clients_table,
    links_table,
    look_of,
    marks_table,
)
from zmqlab.widgets.readings import NodeTrack
from zmqlab.widgets.sampler import Sampler
from zmqlab.widgets.travelling_messages import (
    HOLD_NS,
    MESSAGE_COLUMNS,
    SAMPLED_MAX,
    SAMPLED_MIN,
    Kind,
    Stories,
    bounded,
    kind_of,
    share_for,
)
from zmqlab.wire.fault_queries import LinkFault, NodeFaults
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.traces import Direction, TraceKind, TraceRecord

SECOND = 1_000_000_000


def track(role: str = "follower", heard_s: float = 100.0) -> NodeTrack:
    numbers = dict.fromkeys(("node_id", "pid", "port", "time_ns", "uptime_ms", "term", "leader_id"), 1)
    indexes = dict.fromkeys(("first_index", "last_index", "commit_index", "applied_index", "lag"), 1)
    return NodeTrack(0, NodeStatus(name="node0", role=role, **numbers, **indexes), heard_s)


@pytest.mark.parametrize(
    ("state", "role", "leads", "late", "look"),
    [
        ("stopped", "leader", True, False, Look.DEAD),
        ("paused", "follower", False, True, Look.PAUSED),
        ("running", "leader", True, False, Look.LEADER),
        ("running", "leader", False, False, Look.OLD_LEADER),
        ("running", "candidate", False, False, Look.CANDIDATE),
        ("running", "pre_candidate", False, True, Look.CANDIDATE),
        ("running", "follower", False, False, Look.FOLLOWER),
        ("running", "follower", False, True, Look.BEHIND),
        ("running", "learner", False, False, Look.LEARNER),
        ("running", "learner", False, True, Look.LEARNER),
        ("running", "founder", False, False, Look.STARTING),
        ("running", "a role of a newer node", False, False, Look.STARTING),
    ],
)
def test_how_a_node_looks(state: str, role: str, leads: bool, late: bool, look: Look) -> None:
    assert look_of(state, track(role), leads, late, 100.1) is look


def test_a_node_that_publishes_nothing_is_not_what_it_was() -> None:
    assert look_of("running", track("leader", heard_s=100.0), True, False, 100.5) is Look.SILENT
    assert look_of("running", NodeTrack(0), False, False, 100.0) is Look.STARTING


@pytest.fixture
def readings(cluster: FakeCluster, sampler: Sampler) -> PictureReadings:
    for name in cluster.nodes:
        cluster.say(name, address=f"tcp://127.0.0.1:{5000 + 100 * int(name[4:])}")
    sampler.turn()
    return PictureReadings(cast(Cluster, cluster), sampler)


def test_a_node_that_came_back_starts_until_it_is_heard(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmqlab.widgets.readings.STALE_S", 30.0)
    now_s = time.monotonic()
    cluster.running = ("node0", "node1")
    assert readings.look(now_s)["node2"] is Look.DEAD
    cluster.running = cluster.nodes
    assert readings.look(now_s + 31)["node2"] is Look.STARTING, "what it said before was another life's"
    cluster.say("node2", time_ns=time.time_ns() + 1)
    sampler.turn()
    assert readings.look(time.monotonic())["node2"] is Look.FOLLOWER
    assert readings.look(time.monotonic() + 31)["node2"] is Look.SILENT


def test_a_node_is_behind_that_has_not_applied_what_was_committed_half_a_second_ago(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings
) -> None:
    start = time.time_ns()
    for step in range(10):
        for name, behind in (("node0", 0), ("node1", 200), ("node2", 900)):
            index = 1_000 + 100 * step - behind
            indexes = dict.fromkeys(("last_index", "commit_index", "applied_index"), index)
            cluster.say(name, time_ns=start + step * 100 * MS, **indexes)
        sampler.turn()
    looks = readings.look(time.monotonic())
    assert (looks["node0"], looks["node1"], looks["node2"]) == (Look.LEADER, Look.FOLLOWER, Look.BEHIND)


def newest_row(readings: PictureReadings) -> dict[str, float]:
    """What a page would get of a row that is made now, by column."""
    readings.sample(time.time_ns())
    stream = readings.frame(time.time_ns(), "").streams["rows"]
    return dict(zip(stream.names, stream.newest(1)[:, -1], strict=True))


def test_a_row_says_what_nodes_say(cluster: FakeCluster, sampler: Sampler, readings: PictureReadings) -> None:
    cluster.say("node1", applied_index=7, last_index=12, election_due_ms=150, election_timeout_ms=260, term=4)
    sampler.turn()
    row = newest_row(readings)
    assert (row["applied1"], row["term1"], row["due1"], row["timeout1"]) == (7, 4, 150, 260)
    assert (row["applied_lag1"], row["stored_lag1"]) == (3, -2)
    assert row["look0"] == Look.LEADER
    assert "look3" not in row, "a page gets the columns of the members"


def test_the_election_timer_is_told_in_real_time_whatever_the_clock_of_the_node(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings
) -> None:
    """At a quarter of its ticks a node waits four times as long as it says."""
    cluster.node_faults = {"node1": NodeFaults(clock_rate=0.25), "node2": NodeFaults(write_ms=5)}
    for name in cluster.nodes:
        cluster.say(name, election_due_ms=150, election_timeout_ms=260)
    sampler.turn()
    row = newest_row(readings)
    timers = [(row[f"due{slot}"], row[f"timeout{slot}"]) for slot in (0, 1, 2)]
    assert timers == [(150, 260), (600, 1_040), (150, 260)]


def test_with_several_groups_a_row_says_how_many_a_node_leads(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings
) -> None:
    """The term and the timer that were told were of its first group alone."""
    cluster.say("node0", role="leader", term=3)
    cluster.say("node1", election_due_ms=90, election_timeout_ms=200)
    sampler.turn()
    rows = [GroupRow(number, leader, 3, {}) for number, leader in enumerate(["node0", "node1", "node0", ""])]
    sampler._nodes.groups = GroupReadings(rows)
    row = newest_row(readings)
    assert [row[f"look{slot}"] for slot in (0, 1)] == [Look.LEADER, Look.FOLLOWER]
    assert row["leads0"] == 2
    assert row["leads1"] == 0, "it is not heard to lead any more"
    assert all(math.isnan(row[f"{column}0"]) for column in ("term", "due", "timeout"))


def say_in_groups(cluster: FakeCluster) -> None:
    """Three groups. Group 2 is held by node1 and node2; node1 leads it, in term 7, and node2 is far behind there."""
    for group, (leader, holders, term) in enumerate([("node0", (0, 1), 1), ("node0", (0, 2), 2), ("node1", (1, 2), 7)]):
        for name in (f"node{number}" for number in holders):
            known = {"group": group, "shards": 3, "role": "leader" if name == leader else "follower", "term": term}
            known |= {"commit_index": 900, "last_index": 905, "applied_index": 100 if name == "node2" else 900}
            cluster.say(name, election_due_ms=90, election_timeout_ms=200, **known)


def test_of_one_group_a_row_has_what_the_overview_has_not(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings
) -> None:
    say_in_groups(cluster)
    sampler.turn()
    of_all, of_two = newest_row(readings), newest_row(PictureReadings(cast(Cluster, cluster), sampler, 2))
    looks = [Look.LEADER, Look.LEADER, Look.BEHIND]
    assert [of_all[f"look{slot}"] for slot in range(3)] == [Look.LEADER, Look.LEADER, of_all["look2"]]
    assert [of_two[f"look{slot}"] for slot in range(3)] == [Look.NO_REPLICA, *looks[1:]]
    assert [of_two[f"term{slot}"] for slot in (1, 2)] == [7, 7]
    assert (of_two["applied_lag2"], of_two["commit_lag2"], of_two["stored_lag2"]) == (800, 0, -5)
    assert (of_two["applied1"], of_two["due1"], of_two["timeout1"]) == (900, 90, 200)
    assert all(math.isnan(of_two[f"{column}0"]) for column in ("term", "applied", "applied_lag", "due", "leads"))
    assert math.isnan(of_two["leads1"]), "it leads other groups, which are not shown"


def test_of_one_group_a_node_that_is_away_is_what_it_is(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings
) -> None:
    say_in_groups(cluster)
    sampler.turn()
    cluster.running = ("node2",)
    looks = PictureReadings(cast(Cluster, cluster), sampler, 2).look(time.monotonic())
    assert (looks["node0"], looks["node1"]) == (Look.DEAD, Look.DEAD)
    cluster.running = cluster.nodes
    late = PictureReadings(cast(Cluster, cluster), sampler, 2).look(time.monotonic() + 1)
    assert set(late.values()) == {Look.SILENT}, "whether a silent node holds the group is not known"


def test_a_frame_names_the_groups_and_the_one_that_is_shown(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings
) -> None:
    assert readings.frame(time.time_ns(), "").tables["groups"] == {"number": [], "leader": []}
    say_in_groups(cluster)
    sampler.turn()
    frame = PictureReadings(cast(Cluster, cluster), sampler, 1).frame(time.time_ns(), "")
    assert frame.tables["groups"] == {"number": [0, 1, 2], "leader": ["node0", "node0", "node1"]}
    assert frame.properties["picture", "group"] == 1
    assert readings.frame(time.time_ns(), "").properties["picture", "group"] == -1


def test_the_tables(cluster: FakeCluster, sampler: Sampler, readings: PictureReadings) -> None:
    cluster.links = {("node0", "node2"): LinkFault(delay_ms=200), ("node1", "gone"): LinkFault(cut=True)}
    cluster.load(acknowledged=512, endpoints=["tcp://127.0.0.1:5102", "tcp://127.0.0.1:9"], connected=[True, True])
    cluster.happen("killed", "node1")
    cluster.happen("role", "node1")
    sampler.turn()
    frame = readings.frame(time.time_ns(), "told")
    assert frame.tables["nodes"]["name"] == ["node0", "node1", "node2"]
    assert frame.tables["links"]["words"] == ["200 ms late"]
    assert (frame.tables["links"]["source"], frame.tables["links"]["target"]) == ([0], [2])
    assert frame.tables["clients"] == {"name": ["load"], "rate": ["5,100/s"], "slots": [[1]]}
    assert frame.tables["marks"]["label"] == ["node1 killed"]
    told = {"caption": "told", "group": -1, "is_traced": True}
    assert frame.properties == {("picture", name): value for name, value in told.items()}


def test_marks_grow_old_also_while_nothing_happens(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings
) -> None:
    """The table is made anew only for other events, and for a mark that a page keeps no longer."""
    cluster.happen("killed", "node1")
    sampler.turn()
    now_ns = time.time_ns()
    assert readings.frame(now_ns, "").tables["marks"]["label"] == ["node1 killed"]
    assert readings.frame(now_ns + SECOND, "").tables["marks"] is readings.frame(now_ns, "").tables["marks"]
    cluster.happen("restarted", "node1")
    sampler.turn()
    assert len(readings.frame(now_ns, "").tables["marks"]["label"]) == 2
    assert readings.frame(now_ns + 13 * SECOND, "").tables["marks"]["label"] == []


def test_a_client_that_tells_nothing_is_gone_from_the_picture_of_a_cluster_that_has_stopped(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.load(acknowledged=512)
    sampler.turn()
    assert readings.frame(time.time_ns(), "").tables["clients"]["name"] == ["load"]
    cluster.stop()
    later_ns = time.time_ns() + 2 * SECOND
    monkeypatch.setattr(time, "time_ns", lambda: later_ns)
    assert readings.frame(later_ns, "").tables["clients"]["name"] == []


class Heard:
    """A load client's snapshot that is looked at while another one comes."""

    pid, state, name, endpoints, connected, interval_s = 7, "running", "load", (), (), 0.1
    interval = snapshot().interval

    def __init__(self, frames: deque[Any]) -> None:
        self._frames = frames

    @property
    def time_ns(self) -> int:
        self._frames.append(Heard(self._frames))
        return time.time_ns()


def test_snapshots_of_a_load_client_may_come_while_they_are_looked_at(
    sampler: Sampler, readings: PictureReadings
) -> None:
    """The feed's thread adds them, and a picture that went over them meanwhile had stopped with a RuntimeError."""
    frames = sampler._load.frames
    frames.extend(Heard(frames) for _ in range(2))  # type: ignore[misc]
    assert readings.frame(time.time_ns(), "").tables["clients"]["name"] == ["load"]


def test_hashes_are_told_at_most_once_a_second(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings
) -> None:
    def hashes() -> dict[str, list[Any]]:
        return readings.frame(time.time_ns(), "").tables["hashes"]

    for name in cluster.nodes:
        cluster.say(name, hash_index=256, chain_hash="ab" * 16)
    assert hashes() == {"slot": [0, 1, 2], "hash": ["abababab"] * 3, "agrees": [True] * 3}
    for name in cluster.nodes:
        cluster.say(name, hash_index=512, chain_hash=("cd" if name == "node1" else "ef") * 16)
    assert hashes()["hash"] == ["abababab"] * 3
    readings._hashed_s -= 2
    assert hashes() == {"slot": [0, 1, 2], "hash": ["efefefef", "cdcdcdcd", "efefefef"], "agrees": [False] * 3}


def test_links_of_nodes_that_are_gone_are_not_told() -> None:
    assert links_table({("node0", "node9"): LinkFault(cut=True)}, {"node0": 0})["source"] == []


def test_the_rate_of_a_client_is_of_the_last_second() -> None:
    """Of a tenth it jumped: 1,600/s beside a large figure of 5,075."""
    recent = [snapshot(acknowledged=orders) for orders in (500, 520, 160)]
    assert clients_table(recent[-1:], recent, {})["rate"] == ["3,900/s"]
    assert clients_table(recent[-1:], [*recent, snapshot(acknowledged=9, pid=8)], {})["rate"] == ["3,900/s"]


def test_a_client_that_is_left_by_a_node_has_no_line_to_it() -> None:
    client = snapshot(endpoints=["a", "b"], connected=[True, False], acknowledged=0)
    assert clients_table([client], [client], {"a": 0, "b": 1}) == {"name": ["load"], "rate": ["0/s"], "slots": [[0]]}


def test_only_what_happened_in_the_time_that_a_page_keeps_is_told(cluster: FakeCluster) -> None:
    now = time.time_ns()
    for ago_s in (60, 2):
        cluster.happen("killed", f"node{ago_s}", now - ago_s * SECOND)
    assert marks_table(cluster.feed.events(), now)["label"] == ["node2 killed"]


# -- messages --------------------------------------------------------------------------------------------------------


def message(
    kind: str = "append_entries", sender: int | str = 1, to: int | str = 2, sent_ns: int = SECOND, **fields: Any
) -> Message:
    lost = fields.pop("lost", False)
    record = TraceRecord(sent_ns, TraceKind[kind.upper()], Direction.OUT, **fields)
    received = None if lost else sent_ns + MS
    return Message(kind, sender, to, sent_ns, received, Fate.MISSING if lost else Fate.ARRIVED, record)


def test_kinds_of_messages() -> None:
    assert kind_of(message(first_index=4)) is Kind.ENTRIES
    assert kind_of(message()) is Kind.HEARTBEAT
    assert kind_of(message("pre_vote")) is Kind.VOTE_ASKED
    assert kind_of(message("request_vote_response")) is Kind.VOTE_GIVEN
    assert kind_of(message("request_vote_response", accepted=False)) is Kind.VOTE_REFUSED
    assert kind_of(message("open_session")) is None


def place(stories: Stories, each: Message) -> tuple[int, bool]:
    kind = kind_of(each)
    assert kind is not None
    return stories.place(each, kind)


def order(number: int, sent_ns: int) -> list[Message]:
    """A request on its way through a cluster, in the order of sending."""
    key = {"client": 9, "number": number}
    at = {"term": 3, "round": number}
    return [
        message("request", "load", 1, sent_ns, **key),
        message("forward", 1, 2, sent_ns + MS, **key),
        message("append_entries", 2, 1, sent_ns + 2 * MS, first_index=number, **key, **at),
        message("append_entries_response", 1, 2, sent_ns + 3 * MS, **at),
        message("responses", 1, "load", sent_ns + 4 * MS, **key),
    ]


def test_what_belongs_to_one_order_is_one_story_and_answers_are_found_by_their_round() -> None:
    stories = Stories()
    placed = [place(stories, each) for each in order(7, SECOND)]
    assert len({number for number, _ in placed}) == 1
    assert all(live for _, live in placed)


def test_of_many_orders_a_handful_is_live_and_each_of_them_whole() -> None:
    stories, live = Stories(), 0
    for number in range(1_000):  # ten seconds of sampled orders
        flags = [place(stories, each)[1] for each in order(number, SECOND + number * 10 * MS)]
        assert len(set(flags)) == 1
        live += flags[0]
    assert 12 <= live <= 15


def test_elections_are_always_live() -> None:
    stories = Stories()
    for step in range(50):
        assert place(stories, message("pre_vote", term=5, sent_ns=SECOND + step))[1]
        assert place(stories, message("request_vote_response", term=5, sent_ns=SECOND + step))[1]


def test_heartbeats_are_live_while_there_are_no_orders() -> None:
    stories = Stories()
    beats = [
        place(stories, message(term=1, round=step, sent_ns=(10 + step) * 40 * MS + SECOND))[1] for step in range(100)
    ]
    assert 3 <= sum(beats) <= 5
    place(stories, message("request", "load", 1, 10 * SECOND, client=1, number=1))
    assert not place(stories, message(term=1, round=900, sent_ns=10 * SECOND + 500 * MS))[1]


def test_an_answer_of_a_story_whose_beginning_was_not_seen_is_not_live() -> None:
    assert not place(Stories(), message("append_entries_response", term=1, round=77))[1]


def test_elections_are_left_out_last() -> None:
    votes = [(message("request_vote"), Kind.VOTE_ASKED)] * 3
    beats = [(message(), Kind.HEARTBEAT)] * 10
    entries = [(message(first_index=1), Kind.ENTRIES)] * 5
    kept = bounded([*beats, *entries, *votes], 6)
    assert [kind for _, kind in kept] == [Kind.ENTRIES] * 3 + [Kind.VOTE_ASKED] * 3
    assert bounded(beats, 10) == beats


@pytest.mark.parametrize("rate", [0, 5, 20, 100, 5_000, 1e6])
def test_the_share_follows_the_load_and_seldom_changes(rate: float) -> None:
    share = share_for(rate)
    assert share == 1 if rate <= 5 else SAMPLED_MIN <= share * rate <= SAMPLED_MAX
    assert share_for(1.4 * rate, share) == share == share_for(rate / 1.3, share)


def told(readings: PictureReadings) -> list[dict[str, float]]:
    readings.sample(time.time_ns())
    columns = readings._messages._rows.newest(MESSAGE_COLUMNS)
    return [dict(zip(MESSAGE_COLUMNS, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_messages_wait_until_both_ends_can_be_known_and_leave_in_the_order_of_their_sending(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings
) -> None:
    cluster.load()
    sampler.turn()
    traces, now = cluster.feed.traces, time.monotonic_ns()
    traces._names["load"] = "load"
    old = now - 2 * HOLD_NS
    traces._tell([message(sent_ns=now, first_index=9), message(sent_ns=old + MS, to=3, first_index=8)])
    traces._tell([message("request", "load", 1, old, client=1, number=1)])
    rows = told(readings)
    assert [(row["source"], row["target"], row["kind"]) for row in rows] == [
        (CLIENT, 0, Kind.ORDER),
        (0, 2, Kind.ENTRIES),
    ]
    assert rows[0]["sent"] == pytest.approx(traces.wall_ns(old) / MS)
    assert rows[0]["received"] - rows[0]["sent"] == pytest.approx(1, abs=0.01)
    assert len(told(readings)) == 2, "the third is too young, and no message is told twice"


def test_messages_of_another_group_do_not_travel_in_the_picture_of_one(
    cluster: FakeCluster, sampler: Sampler, readings: PictureReadings
) -> None:
    """Of two pictures of a cluster, one showed its own group's nodes and the other one's messages."""
    say_in_groups(cluster)
    sampler.turn()
    of_one, old = PictureReadings(cast(Any, cluster), sampler, 1), time.monotonic_ns() - 2 * HOLD_NS
    traces = cluster.feed.traces
    traces._tell([message(sent_ns=old, first_index=9)])
    assert len(told(readings)) == 1, "the picture of all groups shows those of the one that is traced"
    assert told(of_one) == []
    assert (readings.is_traced, of_one.is_traced) == (True, False)
    traces.turn_to(1)
    traces._names |= {1: "node0", 2: "node1", 3: "node2"}
    traces._tell([message(sent_ns=old, first_index=9)])
    assert len(told(of_one)) == 1
    assert of_one.is_traced


def test_a_lost_message_has_no_arrival_and_one_of_unknown_fate_is_not_told(
    cluster: FakeCluster, readings: PictureReadings
) -> None:
    old = time.monotonic_ns() - 2 * HOLD_NS
    unknown = msgspec.structs.replace(message(sent_ns=old, first_index=9), fate=Fate.UNKNOWN, received_ns=None)
    stranger = message(sent_ns=old, to=77, first_index=9)
    cluster.feed.traces._tell([message(sent_ns=old, first_index=9, lost=True), unknown, stranger])
    (row,) = told(readings)
    assert math.isnan(row["received"])
