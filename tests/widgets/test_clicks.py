"""A person who clicks is heard, also while what is shown changes under the mouse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

pytest.importorskip("playwright", reason="playwright drives the browser: pip install 'zmqlab[lab,test]'")

from playwright.sync_api import Browser, Page

from tests.widgets.browser import CHROMIUM
from tests.widgets.fake_cluster import FakeCluster
from tests.widgets.picture_rig import BEGIN, PAGE, TRAITS
from zmqlab.lab.cluster import Cluster
from zmqlab.widgets.cluster_controls import FaultPanel, NodeTable, PartitionMatrix
from zmqlab.widgets.sampler import Sampler
from zmqlab.widgets.stage import StageActions

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium"),
]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1_000, "height": 800})
    opened.on("pageerror", lambda error: pytest.fail(str(error)))
    yield opened
    opened.close()


def show(page: Page, panel: FaultPanel) -> dict[str, Any]:
    """Put a panel on the page; its state."""
    page.expose_function("toKernel", lambda _content: None)
    page.set_content(PAGE)
    made = cast(Any, panel)
    page.evaluate(BEGIN, [str(made._esm), str(made._css), {name: getattr(made, name) for name in TRAITS}])
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
