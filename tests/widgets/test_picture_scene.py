"""What the picture shows, by the functions that decide it: no page, no canvas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright brings the Node.js: pip install 'zmqlab[lab,test]'")

from tests.widgets.javascript import JavaScript
from zmqlab.widgets.picture_readings import CLIENT, NODE_COLUMNS, Look
from zmqlab.widgets.travelling_messages import KEPT_MS, Kind

EM = 12
NO_LINKS: dict[str, list[Any]] = {"source": [], "target": [], "cut": [], "delay_ms": [], "loss": [], "words": []}


@pytest.fixture(scope="module")
def js() -> Iterator[JavaScript]:
    process = JavaScript("picture_scene.js")
    yield process
    process.close()


def test_both_sides_mean_the_same_by_a_number(js: JavaScript) -> None:
    assert js("LOOKS") == [look.name.lower().replace("_", " ") for look in Look]
    names = {"passed on": "order passed on", "hand over": "hand-over"}
    assert js("KINDS") == [names.get(name := kind.name.lower().replace("_", " "), name) for kind in Kind]
    assert js("NODE_COLUMNS") == list(NODE_COLUMNS)
    assert (js("CLIENT"), js("KEPT_MS")) == (CLIENT, KEPT_MS)


@pytest.mark.parametrize("width", [320, 480, 552, 800, 1_200, 1_900])
@pytest.mark.parametrize("count", range(1, 10))
def test_everything_has_its_place_at_any_width(js: JavaScript, width: int, count: int) -> None:
    """Nothing is cut off: bodies and labels stand inside of the field; nodes do not touch each other."""
    slots = list(range(count))
    height = js("naturalHeight(w, n, em)", w=width, n=count, em=EM)
    plan = js("plan(w, h, slots, 1, em)", w=width, h=height, slots=slots, em=EM)
    places, radius = dict(plan["places"]), plan["radius"]
    field, logs = plan["field"], plan["logs"]
    nodes = [places[slot] for slot in slots]
    for node in nodes:
        assert radius <= node["x"] <= field["w"] - radius
        assert 1.9 * radius <= node["y"] <= field["h"] - radius - 2 * EM, "a crown above, two words below"
    for one, other in itertools.combinations(nodes, 2):
        assert math.dist((one["x"], one["y"]), (other["x"], other["y"])) > 2.4 * radius
    assert logs["x"] + logs["w"] <= width + 0.5
    assert logs["y"] + logs["h"] <= height + 0.5
    assert logs["x"] >= field["w"] or logs["y"] >= field["h"], "the logs stand beside the ring or below it"
    client = places[CLIENT]
    assert 0 < client["x"] < field["w"]
    assert 0 < client["y"] < field["h"]


@pytest.mark.parametrize(("width", "height", "count"), [(320, 130, 3), (320, 140, 9), (480, 140, 5), (640, 190, 9)])
def test_a_low_box_shows_the_ring_alone(js: JavaScript, width: int, height: int, count: int) -> None:
    """As on a stage above a notebook's text: ring and logs, nodes, and a client stood on top of each other."""
    slots = list(range(count))
    plan = js("plan(w, h, slots, 1, 11)", w=width, h=height, slots=slots)
    assert plan["logs"]["h"] == 0
    assert (plan["field"]["w"], plan["field"]["h"]) == (width, height)
    nodes = [(place["x"], place["y"]) for number, place in plan["places"] if number in slots]
    for x, y in nodes:
        assert plan["radius"] <= x <= width - plan["radius"]
        assert plan["radius"] <= y <= height - plan["radius"]
    assert min(math.dist(one, other) for one, other in itertools.combinations(nodes, 2)) > 2 * plan["radius"]
    client = dict(plan["places"])[CLIENT]
    if width >= 26 * 11:
        assert all(x - plan["radius"] > client["x"] + 3.2 * 11 for x, _ in nodes)


@pytest.mark.parametrize(("width", "height", "count"), [(560, 165, 3), (490, 140, 3), (225, 130, 3), (900, 420, 5)])
def test_words_of_a_node_cover_no_other_node(js: JavaScript, width: int, height: int, count: int) -> None:
    """In a low box the words below the node at the top stood over the names of the other two."""
    slots = list(range(count))
    expression = (
        "((p) => ({p, at: slots.map((slot) => labelAt(p, slot, ['candidate', 'term 6']))}))(plan(w, h, slots, 1, 11))"
    )
    found = js(expression, w=width, h=height, slots=slots)
    places = dict(found["p"]["places"])
    for slot, at in enumerate(found["at"]):
        low, high = at["y"] - 5, at["y"] + 1.25 * 11 + 5
        left, right = at["left"], at["left"] + 0.62 * 11 * len("candidate")
        for other in set(slots) - {slot}:
            x, y = places[other]["x"], places[other]["y"]
            nearest = max(left, min(x, right)), max(low, min(y, high))
            assert math.dist(nearest, (x, y)) >= found["p"]["radius"]
    assert js("labelAt(plan(900, 500, [0, 1, 2], 1, 12), 0, ['leader']).align") == "center", (
        "below, where there is room"
    )


@pytest.mark.parametrize("width", [200, 240, 320, 480, 700])
@pytest.mark.parametrize("height", [160, 220, 320, 520])
@pytest.mark.parametrize("count", [3, 4, 5, 7, 9, 15])
def test_the_box_of_a_client_touches_no_node(js: JavaScript, width: int, height: int, count: int) -> None:
    """With nine nodes on a narrow stage the box of the load lay on one of them."""
    plan = js("plan(w, h, slots, 2, em)", w=width, h=height, slots=list(range(count)), em=EM)
    places, box = dict(plan["places"]), plan["box"]
    for client, slot in itertools.product((CLIENT, CLIENT + 1), range(count)):
        right, low = (abs(places[client][axis] - places[slot][axis]) for axis in "xy")
        apart = math.hypot(max(0.0, right - box["w"] / 2), max(0.0, low - box["h"] / 2))
        assert apart > plan["radius"] + 0.7 * EM, "an election timer stands around the body"


def test_what_a_pointer_is_at(js: JavaScript) -> None:
    plan = "plan(800, 400, [0, 1, 4], 0, 12)"
    places = dict(js(f"{plan}.places"))
    at = "hit(plan(800, 400, [0, 1, 4], 0, 12), x, y)"
    assert js(at, **places[4]) == {"node": 4}
    middle = {axis: (places[0][axis] + places[4][axis]) / 2 for axis in "xy"}
    assert js(at, **middle) == {"link": [0, 4]}
    assert js(at, x=2, y=2) is None


def nodes(*looks: str) -> list[dict[str, Any]]:
    return [{"slot": slot, "look": look, "term": 3, "due": 200, "timeout": 300} for slot, look in enumerate(looks)]


def test_a_link_that_is_cut_one_way_is_whole_the_other_way(js: JavaScript) -> None:
    bad = {"source": [2], "target": [0], "cut": [True], "delay_ms": [0], "loss": [0], "words": ["cut"]}
    links = js("linksOf(nodes, links)", nodes=nodes("leader", "follower", "follower"), links=bad)
    assert [(link["a"], link["b"], link["there"]["words"], link["back"]["words"]) for link in links] == [
        (0, 1, "whole", "whole"),
        (0, 2, "whole", "cut"),
        (1, 2, "whole", "whole"),
    ]
    assert [link["leading"] for link in links] == [True, True, False]
    words = js("wordsOfLink(link, (slot) => `node${slot}`)", link=links[1])
    assert words == "link of node0 and node2: node0 to node2 whole, back cut"


def test_a_link_to_a_dead_node_is_of_no_use(js: JavaScript) -> None:
    links = js("linksOf(nodes, links)", nodes=nodes("leader", "dead", "paused"), links=NO_LINKS)
    assert {(link["a"], link["b"]): link["up"] for link in links} == {(0, 1): False, (0, 2): True, (1, 2): False}


def test_an_election_timer_runs_on_only_while_the_leader_is_silent(js: JavaScript) -> None:
    """Nodes publish ten times a second and hear a leader 25 times: what is left would otherwise jump up and down."""
    left = "timerLeft({look, due, timeout: 300}, since)"
    assert js(left, look="follower", due=270, since=90) == pytest.approx(0.9)
    assert js(left, look="follower", due=150, since=90) == pytest.approx(0.2)
    assert js(left, look="follower", due=150, since=400) == 0
    assert js(left, look="leader", due=150, since=0) is None
    assert js("timerLeft({look: 'follower', due: 0, timeout: 0}, 0)") is None


def log(lag: float, **more: float) -> dict[str, Any]:
    lags = {"applied_lag": lag, "commit_lag": lag, "stored_lag": lag} | more
    return {"slot": 0, "look": "follower", "applied": 900, **lags}


def test_bars_stand_on_one_scale_and_the_commit_line_stands_still(js: JavaScript) -> None:
    logs = js("logsOf(nodes)", nodes=[log(0, stored_lag=-20), log(40), log(3_000)])
    line = js("COMMIT_AT")
    assert logs["span"] == 5_000
    ahead, near, far = logs["bars"]
    assert (ahead["applied"], ahead["stored"] > line) == (line, True)
    assert line > near["applied"] > far["applied"] == pytest.approx(line * 0.4)
    assert js("logsOf(nodes)", nodes=[log(0), log(40)])["span"] == 100
    assert js("logsOf(nodes)", nodes=[log(0), {"slot": 1, "look": "starting"}])["bars"][1]["known"] is False


def test_what_is_applied_never_stands_beyond_the_commit_line(js: JavaScript) -> None:
    """A dead leader told its commit index a tenth of a second ago, and its followers have applied more since."""
    (bar,) = js("logsOf(nodes)", nodes=[log(-500)])["bars"]
    assert bar["applied"] == bar["committed"] == js("COMMIT_AT")


def message(
    source: int, target: int, sent: float, received: float | None, story: int = 1, **more: Any
) -> dict[str, Any]:
    return {"source": source, "target": target, "sent": sent, "received": received, "story": story} | more


SCHEDULE = "schedule(messages.map((each) => ({...each, received: each.received ?? NaN})), slow)"


def test_no_answer_is_seen_to_leave_before_its_question_has_come(js: JavaScript) -> None:
    """A message takes 0.2 ms and is drawn over hundreds: the answer would cross its question."""
    chain = [message(9, 0, 0, 0.2), message(0, 1, 0.3, 0.5), message(1, 0, 0.9, 1.1), message(0, 9, 1.2, 1.4)]
    for slow in (1, 10, 100):
        drawn = js(SCHEDULE, messages=chain, slow=slow)
        assert all(one["end"] <= other["start"] for one, other in itertools.pairwise(drawn))
        assert all(each["end"] - each["start"] >= js("TRAVEL_MS") for each in drawn)
        assert all(each["start"] >= each["sent"] * slow for each in drawn)


def test_stories_do_not_wait_for_each_other(js: JavaScript) -> None:
    drawn = js(SCHEDULE, slow=1, messages=[message(0, 1, 0, 0.2, story=1), message(1, 0, 40, 40.2, story=2)])
    assert [each["start"] for each in drawn] == [0, 40]


def test_causes_that_came_with_an_earlier_push_count(js: JavaScript) -> None:
    drawn = js(
        "(() => { const ready = new Map(); schedule(first, 1, ready); return schedule(second, 1, ready); })()",
        first=[message(0, 1, 0, 0.2)],
        second=[message(1, 0, 0.3, 0.5)],
    )
    assert drawn[0]["start"] == js("TRAVEL_MS")


def test_a_message_on_a_slow_link_crawls(js: JavaScript) -> None:
    quick, slow, slowest = js(
        SCHEDULE, slow=1, messages=[message(0, 1, 0, 0.2), message(0, 2, 0, 200), message(0, 3, 0, 9_000)]
    )
    assert quick["end"] - quick["start"] == js("TRAVEL_MS")
    assert slow["end"] - slow["start"] == 1_000
    assert slowest["end"] - slowest["start"] == js("CRAWL_MAX_MS")
    (replayed,) = js(SCHEDULE, slow=100, messages=[message(0, 2, 0, 200)])
    assert replayed["end"] == 20_000, "a replay keeps the proportions"


def test_a_lost_message_breaks_off_and_never_arrives(js: JavaScript) -> None:
    (lost,) = js(SCHEDULE, slow=1, messages=[message(0, 1, 0, None)])
    lost["received"] = None

    def at(now: float) -> Any:
        return js("placeAt(message, now)", message=lost, now=now)

    travel, breaks = js("TRAVEL_MS"), js("BREAK_MS")
    assert at(-1) is None
    assert at(travel / 4) == {"share": 0.25, "broken": 0}
    broken = at(travel / 2 + breaks / 2)
    assert (broken["share"], broken["broken"]) == (0.5, pytest.approx(0.5))
    assert at(travel / 2 + breaks) is None
    assert js("lastsUntil(message)", message=lost) == travel / 2 + breaks


def test_a_message_that_arrives_is_gone_then(js: JavaScript) -> None:
    (drawn,) = js(SCHEDULE, slow=1, messages=[message(0, 1, 0, 0.2)])
    assert js("placeAt(message, 100)", message=drawn)["share"] == pytest.approx(100 / js("TRAVEL_MS"))
    assert js("placeAt(message, message.end)", message=drawn) is None


def test_a_replay_begins_shortly_before_the_first_thing_that_happened(js: JavaScript) -> None:
    times = [float(each) for each in range(0, 12_100, 100)]
    replay = "replayOf(times, {t: marks, label: []}, slow)"
    assert js(replay, times=times, marks=[1_000.0, 8_000.0], slow=10) == {"from": 2_000, "to": 12_000, "at": 7_850}
    assert js(replay, times=times, marks=[2_050.0], slow=10)["at"] == 2_000
    assert js(replay, times=times, marks=[], slow=100)["at"] == 2_000
    marks = {"t": [1_000, 2_000], "label": ["node0 killed", "node1 leads"]}
    assert js("lastMark(marks, 2_500)", marks=marks) == "node1 leads"
    assert js("lastMark(marks, 3_500)", marks=marks) == ""


def test_a_replay_knows_what_was_not_seen(js: JavaScript) -> None:
    """While a page is hidden no rows are made, and what it shows afterwards has a hole."""
    times = [0.0, 100.0, 600.0, 700.0, 3_900.0, 4_000.0]
    inside = {at: js("gapAt(times, at)", times=times, at=at) for at in (-5, 50, 400, 700, 701, 3_899, 3_900, 9_000)}
    assert {at for at, gap in inside.items() if gap} == {701, 3_899}, "a slow page has two rows a second"
    assert inside[701] == inside[3_899] == [700, 3_900]


def test_a_replay_shows_a_table_as_it_was(js: JavaScript) -> None:
    versions = [[100, "whole"], [200, "cut"]]
    assert [js("versionAt(versions, at)", versions=versions, at=at) for at in (50, 150, 250)] == [
        "whole",
        "whole",
        "cut",
    ]
    assert [js("rowAt([0, 100, 200], at)", at=at) for at in (-5, 0, 199, 900)] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("look", "how", "said"),
    [
        ("follower", "long", ["follower", "term 3"]),
        ("follower", "short", []),
        ("leader", "short", ["term 3"]),
        ("dead", "long", ["dead"]),
        ("behind", "long", ["behind", "term 3"]),
    ],
)
def test_labels(js: JavaScript, look: str, how: str, said: list[str]) -> None:
    labels = js("labelsOf({look, term: 3}, how, 3)", look=look, how=how)
    assert [each for each in labels if each] == said


@pytest.mark.parametrize(("how", "said"), [("long", ["leads 3 groups"]), ("short", [])])
def test_with_several_groups_a_crown_says_how_many_the_node_leads(js: JavaScript, how: str, said: list[str]) -> None:
    """Every node wore the same crown, and none of them leads all groups. Where there is little room the crown alone has
    the number: words beside five nodes lay on each other."""
    assert js("labelsOf({look: 'leader', leads: 3}, how, 0)", how=how) == said
    assert js("wordsOfNode({look: 'leader', leads: 1, applied: 0, applied_lag: 0}, 'node1')") == "node1, leads 1 group"
    assert js("labelsOf({look: 'follower', leads: 0}, how, 0)", how=how)[:1] == (["follower"] if how == "long" else [])


def test_what_is_said_of_leaders_in_one_group_or_in_all(js: JavaScript) -> None:
    nodes = [{"slot": 0, "look": "follower"}, {"slot": 1, "look": "leader", "term": 7}]
    said = "wordsOfLeaders(nodes, (slot) => `node${slot}`)"
    assert js(said, nodes=nodes) == "node1 leads, term 7"
    assert js(said, nodes=nodes[:1]) == "no node leads"
    assert js(said, nodes=[{"slot": 0, "look": "leader", "leads": 2}]) == "node0 leads 2 groups"
    three = [{"slot": slot, "look": "leader", "leads": 2} for slot in range(3)]
    many = "wordsOfLeaders(nodes, (slot) => `node${slot}`, count)"
    assert js(many, nodes=three, count=6) == "3 nodes lead 6 groups"
    assert js(many, nodes=three, count=8) == "3 nodes lead 6 of 8 groups", "names would be cut off above a picture"


def test_the_groups_that_can_be_chosen(js: JavaScript) -> None:
    assert js("choicesOfGroups({number: [0, 1], leader: ['node2', '']})") == [
        ["", "all 2 groups"],
        ["0", "group 0, led by node2"],
        ["1", "group 1, led by none"],
    ]


def test_a_node_without_a_replica_has_no_term_no_timer_and_no_links_of_use(js: JavaScript) -> None:
    node = {"slot": 0, "look": "no replica", "term": None, "due": None, "timeout": None}
    assert js("labelsOf(node, 'long', 3)", node=node) == ["no replica"]
    assert js("labelsOf(node, 'short', 3)", node=node) == [], "its shape says it"
    assert js("timerLeft(node, 0)", node=node) is None
    bad = {"source": [], "target": [], "cut": [], "delay_ms": [], "loss": [], "words": []}
    assert js("linksOf(nodes, bad)[0].up", nodes=[node, {"slot": 1, "look": "leader"}], bad=bad) is False


def test_a_follower_of_an_older_term_says_so_where_there_is_little_room(js: JavaScript) -> None:
    assert js("labelsOf({look: 'follower', term: 2}, 'short', 3)") == ["term 2"]


def test_a_node_in_words(js: JavaScript) -> None:
    node = {"look": "behind", "term": 3, "applied": 12_345, "applied_lag": 67}
    assert js("wordsOfNode(node, 'node1')", node=node) == "node1, behind, term 3, applied 12,345, 67 entries behind"
    assert js("wordsOfNode({look: 'dead', term: 3, applied: 0}, 'node1')") == "node1, dead"


def test_a_page_takes_the_columns_from_the_buffer_of_a_stream() -> None:
    pushes = JavaScript("pushes.js")
    buffer = "new DataView(Float64Array.from([0, 1, 2, 3, 4, 5, 6]).buffer, 8)"
    columns = f"Object.entries(columnsOf(['a', 'b'], {buffer})).map(([name, values]) => [name, [...values]])"
    assert pushes(columns) == [["a", [1, 2, 3]], ["b", [4, 5, 6]]]
    assert pushes("columnsOf(['a', 'b'], new DataView(new ArrayBuffer(0))).b.length") == 0
    pushes.close()


def test_what_is_said_of_links_that_are_not_whole_has_no_number(js: JavaScript) -> None:
    """The status line counts both ways of a link: it said that four were cut, and the picture two."""
    links = "linksOf([0, 1, 2].map((slot) => ({slot, look: 'follower'})), links).filter((link) => link.there.bad)"
    bad = {
        "source": [0, 1],
        "target": [1, 0],
        "cut": [True] * 2,
        "delay_ms": [0, 0],
        "loss": [0, 0],
        "words": ["cut"] * 2,
    }
    assert js(f"wordsOfLinks({links})", links=NO_LINKS) == ""
    assert js(f"wordsOfLinks({links})", links=bad) == "a link cut"
    assert js(f"wordsOfLinks({links})", links={name: values[:1] for name, values in bad.items()}) == "a link not whole"
