"""The live picture on a page, without Jupyter: what is read aloud, what keys and clicks do, and the replay."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright drives the browser: pip install 'zmqlab[lab,test]'")

from playwright.sync_api import Browser, Page

from tests.waiting import wait_for
from tests.widgets.browser import PAGE_MARKS
from tests.widgets.fake_cluster import MS, FakeCluster
from tests.widgets.picture_rig import Rig
from zmqlab.widgets.sampler import Sampler
from zmqlab.wire.fault_queries import LinkFault
from zmqlab.wire.node_status import GroupBrief

pytestmark = PAGE_MARKS


@pytest.fixture
def rig(browser: Browser, cluster: FakeCluster, sampler: Sampler) -> Iterator[Rig]:
    page = browser.new_page(viewport={"width": 1_000, "height": 800})
    made = Rig(page, cluster, sampler, lambda: publish(cluster))
    made.turn(3)
    yield made
    assert made.errors == []
    page.close()


def publish(cluster: FakeCluster) -> None:
    for name in cluster.running:
        cluster.say(name, address=f"tcp://127.0.0.1:{5000 + 100 * int(name[4:])}")


def labels(page: Page, group: str) -> list[str | None]:
    return [each.get_attribute("aria-label") for each in page.locator(f"[role=group][aria-label={group}] button").all()]


def paints(page: Page) -> int:
    return int(page.locator(".zl-picture").get_attribute("data-paints") or 0)


def test_what_a_screen_reader_is_told(rig: Rig) -> None:
    page = rig.page
    assert labels(page, "nodes") == ["node0, leader, term 1", "node1, follower, term 1", "node2, follower, term 1"]
    assert labels(page, "links")[0] == "link of node0 and node1: whole"
    assert page.get_by_role("status").text_content() == "node0 leads, term 1"
    rig.cluster.running = ("node0", "node1")
    rig.cluster.links = {("node0", "node1"): LinkFault(cut=True)}
    rig.turn(2)
    assert labels(page, "nodes")[2] == "node2, dead"
    assert labels(page, "links")[0] == "link of node0 and node1: node0 to node1 cut, back whole"
    assert page.get_by_role("status").text_content() == "node0 leads, term 1 · node2 dead · a link not whole"


def publish_groups(cluster: FakeCluster) -> None:
    for group, leader in enumerate(("node0", "node1", "node0")):
        for name in cluster.running:
            role = "leader" if name == leader else "follower"
            briefs = [GroupBrief(number=number, role=role, term=1, leader_id=1) for number in range(3)]
            cluster.say(name, group=group, shards=3, groups=briefs, role=role)


def test_with_several_groups_a_crown_says_how_many_its_node_leads(rig: Rig) -> None:
    """Each node that led one of them wore the same crown, and nothing said of how many."""
    rig.publish = lambda: publish_groups(rig.cluster)
    rig.turn(3)
    assert labels(rig.page, "nodes") == ["node0, leads 2 groups", "node1, leads 1 group", "node2, follower"]
    assert rig.page.get_by_role("status").text_content() == "node0 leads 2 groups, node1 leads 1 group"


def publish_held_groups(cluster: FakeCluster) -> None:
    """Three groups; node2 does not hold group 1, which node1 leads in term 4."""
    for group, (leader, holders) in enumerate([("node0", (0, 1, 2)), ("node1", (0, 1)), ("node0", (0, 1, 2))]):
        for number in holders:
            role, term = "leader" if leader == f"node{number}" else "follower", 4 if group == 1 else 1
            held = (0, 1, 2) if number < 2 else (0, 2)
            briefs = [GroupBrief(number=each, role=role, term=term, leader_id=1) for each in held]
            cluster.say(f"node{number}", group=group, shards=3, groups=briefs, role=role, term=term)


def test_one_group_is_chosen_by_keys_alone_and_all_are_again(rig: Rig) -> None:
    """With shards the picture was of all groups, and of none could one see terms, timers and logs."""
    page = rig.page
    assert page.locator(".zl-picture-choice").is_hidden(), "there is one group"
    rig.publish = lambda: publish_held_groups(rig.cluster)
    rig.turn(3)
    chooser = page.get_by_role("combobox", name="Raft group that is shown")
    said = ["all 3 groups", "group 0, led by node0", "group 1, led by node1", "group 2, led by node0"]
    assert chooser.locator("option").all_inner_texts() == said
    chooser.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    rig.deliver()
    rig.turn(2)
    assert chooser.input_value() == "1"
    assert labels(page, "nodes") == ["node0, follower, term 4", "node1, leader, term 4", "node2, no replica"]
    assert page.get_by_role("status").text_content() == "node1 leads, term 4"
    assert "node0" in rig.picture.html()
    assert "no replica" in rig.picture.html()
    chooser.focus()
    page.keyboard.press("Home")
    rig.deliver()
    rig.turn(2)
    assert page.get_by_role("status").text_content() == "node0 leads 2 groups, node1 leads 1 group"


def test_a_click_brings_the_messages_of_the_group_that_is_shown(rig: Rig) -> None:
    """Another group is traced: by another picture, or by ``cluster.trace(group=0)``."""
    page, traces = rig.page, rig.cluster.feed.traces
    rig.publish = lambda: publish_held_groups(rig.cluster)
    rig.turn(3)
    button = page.locator(".zl-picture-foot button")
    assert button.is_hidden(), "the picture of all groups shows those of any"
    page.locator(".zl-picture-choice").select_option("1")
    rig.deliver()
    rig.turn(2)
    assert button.inner_text() == "show messages of group 1"
    assert "those of group 0 are sampled now" in str(button.get_attribute("title")), (
        "where the words below have no room"
    )
    button.focus()
    page.keyboard.press("Enter")
    rig.deliver()
    assert rig.picture._turns_to == 1
    traces.turn_to(1)  # as is asked for in a thread of its own
    rig.turn(2)
    assert button.is_hidden()
    assert "Samples of group 1's real frames travel" in page.inner_text(".zl-picture-foot")
    page.locator(".zl-picture-choice").select_option("")
    rig.deliver()
    rig.turn(2)
    assert button.is_hidden()


def test_in_slow_motion_no_other_group_can_be_chosen(rig: Rig) -> None:
    """What was kept is of the group that was shown then."""
    rig.publish = lambda: publish_held_groups(rig.cluster)
    rig.turn(3)
    rig.page.get_by_role("button", name="1/10", exact=True).click()
    rig.turn()
    assert rig.page.locator(".zl-picture-choice").is_disabled()


def test_a_node_is_killed_by_keys_alone(rig: Rig) -> None:
    page = rig.page
    page.locator("[data-node=node0]").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    menu = page.get_by_role("dialog")
    assert "node1, follower" in (menu.get_attribute("aria-label") or "")
    assert page.evaluate("document.activeElement.textContent").startswith("kill -9"), "the first item has the focus"
    page.keyboard.press("Escape")
    assert menu.is_hidden()
    assert page.evaluate("document.activeElement.dataset.node") == "node1", "and the node has it back"
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent").startswith("pause")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    rig.deliver()
    assert wait_for(lambda: rig.cluster.done == [("SIGKILL", "node1")])


def test_a_menu_has_what_the_state_of_its_node_allows(rig: Rig) -> None:
    rig.cluster.running = ("node0", "node1")
    rig.turn(2)
    rig.page.locator("[data-node=node2]").click()
    said = [text.splitlines()[0] for text in rig.page.locator(".zl-menu-items button .zl-long").all_inner_texts()]
    assert said == ["restart", "wipe"]
    rig.page.mouse.click(5, 5)
    assert rig.page.get_by_role("dialog").is_hidden()


def test_a_link_is_cut_both_ways_and_healed_by_keys(rig: Rig) -> None:
    page = rig.page
    page.locator("[data-pair='node0 node2']").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="cut").press("Enter")
    rig.deliver()
    both = {("node0", "node2"): LinkFault(cut=True), ("node2", "node0"): LinkFault(cut=True)}
    assert wait_for(lambda: rig.cluster.links == both)
    rig.turn()
    page.locator("[data-pair='node0 node2']").press("Enter")
    page.get_by_role("button", name="node2 → node0").click()
    page.get_by_role("dialog").get_by_role("button", name="heal").click()
    rig.deliver()
    assert wait_for(lambda: rig.cluster.links == {("node0", "node2"): LinkFault(cut=True)})


def test_a_link_is_made_slow_by_a_click_on_its_line(rig: Rig) -> None:
    page = rig.page
    one, other = (page.locator(f"[data-node={name}]").bounding_box() for name in ("node0", "node1"))
    assert one is not None
    assert other is not None
    at = [
        (one[axis] + one[size] / 2 + other[axis] + other[size] / 2) / 2
        for axis, size in (("x", "width"), ("y", "height"))
    ]
    page.mouse.click(*at)
    assert page.get_by_role("dialog").get_attribute("aria-label") == "link of node0 and node1"
    page.get_by_role("button", name="node0 → node1").click()
    page.get_by_label("delay, ms").fill("200")
    rig.deliver()
    assert wait_for(lambda: rig.cluster.links == {("node0", "node1"): LinkFault(delay_ms=200)})


def test_a_picture_in_which_nothing_changes_is_not_painted(rig: Rig) -> None:
    rig.turn(3)
    before = paints(rig.page)
    rig.turn(5)
    assert paints(rig.page) == before

    def moves() -> bool:
        """A busy machine may paint too few pictures of one message."""
        before = paints(rig.page)
        rig.tell("append_entries", "node0", "node1", first_index=7)
        rig.turn(4, pause_ms=200)
        return paints(rig.page) > before + 3

    assert wait_for(moves)


def test_a_reader_who_wants_no_motion_gets_none(browser: Browser, cluster: FakeCluster, sampler: Sampler) -> None:
    context = browser.new_context(reduced_motion="reduce")
    rig = Rig(context.new_page(), cluster, sampler, lambda: publish(cluster))
    rig.turn(3)
    before = paints(rig.page)
    rig.tell("append_entries", "node0", "node1", first_index=7)
    rig.turn(6, pause_ms=200)
    assert before < paints(rig.page) <= before + 3, "it comes, and it goes"
    assert rig.errors == []
    context.close()


def test_the_last_ten_seconds_are_seen_again_in_slow_motion(rig: Rig) -> None:
    page = rig.page
    rig.cluster.running = ("node0", "node1")
    rig.cluster.happen("killed", "node2")
    rig.turn(4)
    page.get_by_role("button", name="1/10", exact=True).click()
    page.get_by_text("REPLAY 1/10").wait_for()
    assert "10 times slower" in page.inner_text(".zl-replay")
    assert page.locator("[data-node=node2]").get_attribute("data-look") == "follower", "as it was before"
    assert page.locator("[data-node=node2]").is_disabled(), "what is past can not be killed"
    rig.cluster.running = ("node0",)
    rig.turn(2)
    assert page.locator("[data-node=node1]").get_attribute("data-look") == "follower"
    slider = page.get_by_label("moment of the replay")
    slider.fill("1000")
    page.wait_for_function("() => document.querySelector('[data-node=node2]').dataset.look === 'dead'")
    page.get_by_role("button", name="back to live").click()
    page.wait_for_function("() => document.querySelector('[data-node=node1]').dataset.look === 'dead'")
    assert page.get_by_text("REPLAY 1/10").is_hidden()


def test_a_replay_does_not_show_what_was_not_seen(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page was hidden for some seconds: of them the picture would show what was before."""
    page, real = rig.page, time.time_ns
    rig.turn(3)
    monkeypatch.setattr(time, "time_ns", lambda: real() + 4_000 * MS)
    rig.turn(3)
    page.get_by_role("button", name="1/100", exact=True).click()
    slider, node = page.get_by_label("moment of the replay"), page.locator("[data-node=node2]")
    slider.fill("500")
    page.get_by_text("s were not seen").wait_for()
    page.wait_for_selector("[data-node=node2][data-look=unknown]")
    assert "not known" in str(node.get_attribute("aria-label"))
    assert page.inner_text(".zl-picture-summary") == "nothing is known of this moment"
    page.get_by_role("button", name="go on").click()
    page.wait_for_function("() => document.querySelector('[data-node=node2]').dataset.look === 'follower'")
    assert "not seen" not in page.inner_text(".zl-replay-sign"), "at once, and not a hundred times slower"
    page.get_by_role("button", name="back to live").click()
    assert page.locator(".zl-unknown").count() == 0


def test_a_page_that_missed_a_push_asks_for_all(rig: Rig) -> None:
    rig.picture._pushes._sequence += 1
    rig.turn()
    rig.page.wait_for_function("() => sent.some((each) => each.push === 'gap')")
    rig.turn(2)
    assert rig.page.evaluate("sent.filter((each) => each.push === 'gap').length") == 1


@pytest.mark.parametrize("width", [320, 800, 1_200])
@pytest.mark.parametrize("count", [1, 9])
def test_it_fits_a_page_of_any_width(browser: Browser, sampler: Sampler, width: int, count: int) -> None:
    from zmqlab.widgets.sampler import sampler_of

    cluster: Any = FakeCluster(*(f"node{number}" for number in range(count)))
    page = browser.new_page(viewport={"width": width, "height": 900})
    rig = Rig(page, cluster, sampler_of(cluster), lambda: publish(cluster))
    rig.turn(3, pause_ms=40)
    page.locator("[data-node=node0]").click()
    menu = page.get_by_role("dialog").bounding_box()
    assert menu is not None
    assert menu["x"] >= 0
    assert menu["x"] + menu["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".zl-picture-node").count() == count
    assert rig.errors == []
    page.close()
    cluster.stop()


def test_it_leaves_nothing_on_a_page(rig: Rig) -> None:
    rig.page.evaluate("leave()")
    rig.deliver()
    assert rig.picture._pushes.flow.views == {}
    before = time.monotonic()
    rig.turn(2)
    assert time.monotonic() - before > 0.1
    assert rig.page.evaluate("sent.at(-1).push") == "gone" or rig.page.evaluate("sent.at(-1).say") == "gone"
