"""A person who clicks is heard, also while what is shown changes under the mouse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

pytest.importorskip("playwright", reason="playwright drives the browser: pip install 'zmqlab[lab,test]'")

from playwright.sync_api import Browser, Page

from tests.widgets.browser import PAGE_MARKS
from tests.widgets.fake_cluster import FakeCluster
from tests.widgets.picture_rig import BEGIN, PAGE, TRAITS
from zmqlab.lab.cluster import Cluster
from zmqlab.widgets.cluster_controls import FaultPanel, NodeTable, PartitionMatrix
from zmqlab.widgets.sampler import Sampler
from zmqlab.widgets.stage import StageActions

pytestmark = PAGE_MARKS


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1_000, "height": 800})
    opened.on("pageerror", lambda error: pytest.fail(str(error)))
    yield opened
    opened.close()


def show(page: Page, panel: FaultPanel, kernel: str = "idle") -> dict[str, Any]:
    """Put a panel on the page, beside a kernel in this state; the panel's own state."""
    page.expose_function("toKernel", lambda _content: None)
    page.set_content(PAGE)
    made = cast(Any, panel)
    traits = {name: getattr(made, name) for name in TRAITS}
    layout = {"widget_manager": {"kernel": {"status": kernel}}}
    page.evaluate("(layout) => { window.layout = layout; }", layout)
    page.evaluate(
        BEGIN.replace("values = traits", "values = { ...traits, layout: window.layout }"),
        [str(made._esm), str(made._css), traits],
    )
    return dict(made._state)


def struck(page: Page) -> list[list[Any]]:
    """What the page asked for."""
    asked = json.loads(page.evaluate("() => JSON.stringify(sent.filter((each) => each.do))"))
    return [[each["do"], each.get("button"), each.get("target")] for each in asked]


@pytest.mark.parametrize(
    ("kind", "opener", "button", "target"),
    [
        (PartitionMatrix, "", "[data-link='node0 node1']", ["node0", "node1"]),
        (NodeTable, "[data-node=node1] .zl-opener", "[data-node=node1] .zl-pop button:has-text('kill -9')", ["node1"]),
        (StageActions, ".zl-opener", ".zl-pop-row[data-node=node1] button:has-text('kill -9')", ["node1"]),
    ],
)
@pytest.mark.parametrize("by", ["mouse", "space"])
def test_a_click_is_heard_while_an_election_changes_the_panel(
    page: Page,
    cluster: FakeCluster,
    sampler: Sampler,
    kind: type[FaultPanel],
    opener: str,
    button: str,
    target: list[str],
    by: str,
) -> None:
    """Press; another node leads, and a node has died, so that rows are made anew; release."""
    for name in cluster.nodes:
        cluster.say(name)
    sampler.turn()
    state = show(page, kind(cast(Cluster, cluster)))
    if opener and page.locator(opener).first.is_visible():
        page.locator(opener).first.click()
    pressed = page.locator(button).first
    if by == "mouse":
        pressed.hover()
        page.mouse.down()
    else:
        pressed.focus()
        page.keyboard.down(" ")
    state["leader"] = "node2"
    state["nodes"] = [each | {"leads": each["name"] == "node2"} for each in state["nodes"]]
    state["nodes"][0] = state["nodes"][0] | {"state": "stopped"}
    page.evaluate("(state) => window.change('_state', state)", state)
    if by == "mouse":
        page.mouse.up()
    else:
        page.keyboard.up(" ")
    page.wait_for_function("() => sent.some((each) => each.do)")
    assert [[do, where] for do, _, where in struck(page)] == [["strike", target]]
    said = "stopped" if kind is PartitionMatrix else ""
    if said:
        page.wait_for_selector("[data-link='node0 node2'][title*='node0 is stopped']")
    else:
        page.wait_for_selector(".zl-leads[data-node=node2]", state="attached")


@pytest.mark.parametrize("state", ["busy", "idle"])
def test_a_click_is_not_forgotten_while_a_cell_runs(
    page: Page, cluster: FakeCluster, sampler: Sampler, state: str
) -> None:
    """The kernel hears it at the cell's end. The button looked free after three seconds, and a second click killed
    another leader."""
    page.clock.install()
    show(page, NodeTable(cast(Cluster, cluster)), kernel=state)
    kill = page.get_by_role("button", name="kill the leader")
    kill.click()
    page.clock.run_for(5_000)
    assert kill.is_disabled() == (state == "busy")
    page.evaluate("() => { layout.widget_manager.kernel.status = 'idle'; }")
    page.clock.run_for(5_000)
    assert kill.is_enabled(), "an idle kernel that has not begun with it never will"
    assert len(struck(page)) == 1


GROWS = "() => document.body.prepend(Object.assign(document.createElement('div'), { style: 'height: 60px' }))"
"""Something above the panel grows: a status line of two lines, or an output of a cell."""


@pytest.mark.parametrize("moves", ["the page", "the mouse"])
def test_a_click_is_heard_where_the_page_moves_under_the_mouse(
    page: Page, cluster: FakeCluster, sampler: Sampler, moves: str
) -> None:
    """JupyterLab scrolls when the last cell has run. One who draws the mouse away has thought better of it."""
    show(page, NodeTable(cast(Cluster, cluster)))
    kill = page.get_by_role("button", name="kill the leader")
    kill.hover()
    page.mouse.down()
    if moves == "the page":
        page.evaluate(GROWS)
    else:
        page.mouse.move(10, 700)
    page.mouse.up()
    page.evaluate("() => new Promise((done) => setTimeout(done, 500))")
    assert len(struck(page)) == (moves == "the page")
    page.evaluate("() => { sent.length = 0; }")
    page.get_by_role("button", name="heal all").click()
    page.evaluate("() => new Promise((done) => setTimeout(done, 500))")
    assert len(struck(page)) == 1, "an ordinary click counts once"


KILL = "[data-node=node1] .zl-pop button:has-text('kill -9')"
KILL_KEY = "kill -9:node1"
DRAWN = ".zl-leads[data-node=node2]"
"""What stands on the page when the election of :func:`elect` has been drawn."""


def show_table(page: Page, cluster: FakeCluster, sampler: Sampler) -> dict[str, Any]:
    """A table of three nodes that have been heard; its state."""
    for name in cluster.nodes:
        cluster.say(name)
    sampler.turn()
    return show(page, NodeTable(cast(Cluster, cluster)))


def elect(page: Page, state: dict[str, Any]) -> None:
    """Node 2 leads, and node 0 has stopped, so that all rows are made anew."""
    nodes = [each | {"leads": each["name"] == "node2"} for each in state["nodes"]]
    nodes[0] |= {"state": "stopped"}
    page.evaluate("(state) => window.change('_state', state)", state | {"leader": "node2", "nodes": nodes})


def point(page: Page, button: str, kind: str, pointer: int, **more: Any) -> None:
    """What a browser tells of a finger, or with another ``pointerType`` of a mouse."""
    event = {"bubbles": True, "pointerId": pointer, "isPrimary": True, "pointerType": "touch"} | more
    page.locator(button).first.dispatch_event(kind, event)


def hold_clock(page: Page) -> None:
    """Timers of the page go on by ``run_for`` alone."""
    page.clock.install(time=0)
    page.clock.pause_at(1_000)


def is_drawn(page: Page) -> bool:
    return page.locator(DRAWN).count() == 1


def test_a_second_tap_is_not_cut_off_by_the_first(page: Page, cluster: FakeCluster, sampler: Sampler) -> None:
    """A tap counts as pressed for a while after its release; what it then ended was the next press."""
    hold_clock(page)
    state = show_table(page, cluster, sampler)
    point(page, KILL, "pointerdown", 2)
    point(page, KILL, "pointerup", 2)
    page.clock.run_for(200)
    point(page, KILL, "pointerdown", 3)
    elect(page, state)
    page.clock.run_for(200)
    assert not is_drawn(page), "the button under the finger was made anew"
    point(page, KILL, "pointerup", 3)
    page.clock.run_for(1_000)
    assert is_drawn(page)


def test_a_second_finger_does_not_end_a_press(page: Page, cluster: FakeCluster, sampler: Sampler) -> None:
    hold_clock(page)
    state = show_table(page, cluster, sampler)
    point(page, KILL, "pointerdown", 2)
    point(page, "h4", "pointerdown", 3, isPrimary=False)
    elect(page, state)
    point(page, "h4", "pointerup", 3, isPrimary=False)
    page.clock.run_for(1_000)
    assert not is_drawn(page)
    point(page, KILL, "pointerup", 2)
    page.clock.run_for(1_000)
    assert is_drawn(page)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_shift_key_does_not_end_a_press(page: Page, cluster: FakeCluster, sampler: Sampler, when: str) -> None:
    """Before the election the click was lost; after it the panel was not drawn again."""
    state = show_table(page, cluster, sampler)
    page.locator(KILL).hover()
    page.mouse.down()
    if when == "before":
        page.keyboard.press("Shift")
    elect(page, state)
    if when == "after":
        page.keyboard.press("Shift")
    page.mouse.up()
    page.wait_for_selector(DRAWN, state="attached")
    assert struck(page) == [["strike", "kill -9", ["node1"]]]


def test_a_panel_that_has_left_the_page_is_not_drawn(page: Page, cluster: FakeCluster, sampler: Sampler) -> None:
    """The release's timer was left over."""
    hold_clock(page)
    state = show_table(page, cluster, sampler)
    point(page, KILL, "pointerdown", 1, pointerType="mouse")
    elect(page, state)
    point(page, KILL, "pointerup", 1, pointerType="mouse")
    page.evaluate("() => leave()")
    page.clock.run_for(1_000)
    assert not is_drawn(page)
    assert struck(page) == []


def test_a_button_that_becomes_busy_is_not_waited_for(page: Page, cluster: FakeCluster, sampler: Sampler) -> None:
    """Firefox tells of no release on a disabled button: the panel was not drawn until the next one."""
    state = show_table(page, cluster, sampler)
    page.locator(KILL).hover()
    page.mouse.down()
    elect(page, state)
    page.evaluate("(key) => window.change('_busy', [key])", KILL_KEY)
    page.wait_for_selector(DRAWN, state="attached")


def test_the_second_press_of_a_double_click_strikes_nothing(page: Page, cluster: FakeCluster, sampler: Sampler) -> None:
    """It hits the busy button, and the action ends before the release."""
    show_table(page, cluster, sampler)
    page.locator(KILL).click()
    page.evaluate("(key) => window.change('_busy', [key])", KILL_KEY)
    page.mouse.down()
    page.evaluate("() => window.change('_busy', [])")
    page.mouse.up()
    page.evaluate("() => new Promise((done) => setTimeout(done, 500))")
    assert len(struck(page)) == 1


def test_a_panel_that_became_inert_is_not_clicked(page: Page, cluster: FakeCluster, sampler: Sampler) -> None:
    show_table(page, cluster, sampler)
    page.locator(KILL).hover()
    page.mouse.down()
    page.evaluate("() => { document.querySelector('.zl-panel').inert = true; }")
    page.mouse.up()
    page.evaluate("() => new Promise((done) => setTimeout(done, 500))")
    assert struck(page) == []


def test_an_earlier_click_does_not_free_the_button_of_a_later_one(
    page: Page, cluster: FakeCluster, sampler: Sampler
) -> None:
    """Each click waits its own three seconds for the kernel."""
    hold_clock(page)
    show_table(page, cluster, sampler)
    kill = page.locator(KILL)
    kill.click()
    for busy in ([KILL_KEY], []):
        page.evaluate("(busy) => window.change('_busy', busy)", busy)
    page.clock.run_for(2_000)
    kill.click()
    page.clock.run_for(2_000)
    assert kill.is_disabled()
    page.clock.run_for(2_000)
    assert kill.is_enabled()


def test_a_menu_is_closed_by_the_button_that_opened_it(page: Page, cluster: FakeCluster, sampler: Sampler) -> None:
    """The browser closes it at the release already, and the click must not open it again."""
    show(page, StageActions(cast(Cluster, cluster)))
    opener, menu = page.locator(".zl-opener"), page.locator(".zl-pop")
    for is_open in (True, False, True):
        opener.click()
        assert menu.evaluate("(menu) => menu.matches(':popover-open')") == is_open
