"""The stage in every state, size and theme, as pictures to look at: ``python -m tests.widgets.screenshots FOLDER``.

Pictures are named for what they show, as in ``kill-1280x720-dark.png``. The ones in ``docs/images`` were taken so, and
chosen by eye. A test of pixels would hold nothing but today's fonts; ``test_browser.py`` holds what can be held.

The notebook is the first chapter, whose load is not started, so that there is an idle cluster to be seen first.
``--voila`` shows the panel's page instead, on the whole window, as for a class room. ``--moving FILE`` makes the moving
picture of a kill with which the README opens, and ``--panel FILE`` the one of the whole panel with five nodes in
``docs/architecture.md``.

A moving picture is Chromium's own screencast: it sends each frame that it paints. A screenshot asks for a frame and
waits for it, and so it gave 1.5 a second.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.widgets.browser import CHROMIUM, FLAGS
from tests.widgets.jupyter import JupyterLab, LabVisit

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SIZES = ("1920x1080", "1400x900", "1280x720", "1000x800", "800x800")
THEMES = ("light", "dark")
STATES = ("idle", "load", "kill", "partition", "unserved", "nine", "gone")
SETTLE_MS = 900
"""After a change of the window or of the theme, until all is drawn anew."""
KILL_MS = 500
"""The picture of a kill shows this moment after the click."""
KILLED_S, HEALED_S, MOVING_S = 2.0, 7.0, 11.0
"""In the moving picture: when the leader is killed, when all nodes run again, and the end."""
FRAME_S = 0.125
"""Between two frames of it. Eight a second look like motion, and fit into a megabyte and a half."""
PANEL_SIZE = {"width": 1260, "height": 2800}
STAGED = ', layout=\\"stage\\"'
"""In the first chapter's first cell."""


class Camera:
    """Takes one state in all sizes and themes; ``before`` is done anew for each picture."""

    def __init__(self, page: Page, folder: Path, sizes: Sequence[str], themes: Sequence[str]) -> None:
        self.page, self.folder, self.sizes, self.themes = page, folder, sizes, themes
        self.set_theme: Callable[[str], None] = lambda theme: page.emulate_media(color_scheme=theme)

    def take(self, state: str, before: Callable[[], None] = lambda: None) -> None:
        for theme in self.themes:
            self.set_theme(theme)
            for size in self.sizes:
                width, height = map(int, size.split("x"))
                self.page.set_viewport_size({"width": width, "height": height})
                self.page.wait_for_timeout(SETTLE_MS)
                before()
                self.page.screenshot(path=self.folder / f"{state}-{size}-{theme}.png")
                print(f"{state}-{size}-{theme}", flush=True)


class Screencast:
    """What a page paints, as pictures at even distances in time."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames: list[tuple[float, bytes]] = []
        """Seconds since the first one, and the picture as PNG."""
        self._channel = page.context.new_cdp_session(page)
        self._channel.on("Page.screencastFrame", self._take)
        self._began = time.monotonic()
        self._channel.send("Page.startScreencast", {"format": "png", "everyNthFrame": 1})

    @property
    def painted(self) -> int:
        """How many frames have come."""
        return len(self._frames)

    def _take(self, frame: dict[str, Any]) -> None:
        self._frames.append((time.monotonic() - self._began, base64.b64decode(frame["data"])))
        self._channel.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    def go_on(self, until_s: float) -> None:
        """Record until so long after the beginning."""
        self._page.wait_for_timeout(max(0.0, until_s - (time.monotonic() - self._began)) * 1_000)

    def ended(self) -> list[Image.Image]:
        """End it; the frame that was to be seen at each :data:`FRAME_S`."""
        self._channel.send("Page.stopScreencast")
        self._channel.detach()
        shown, place = [], 0
        for step in range(int(self._frames[-1][0] / FRAME_S) + 1):
            while place + 1 < len(self._frames) and self._frames[place + 1][0] <= step * FRAME_S:
                place += 1
            shown.append(self._frames[place][1])
        return [Image.open(io.BytesIO(each)).convert("RGB") for each in shown]


class Play:
    """Brings the stage on a page into its states, as a person does: by its buttons."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.actions = page.locator(".zl-place-actions")

    def press(self, name: str) -> None:
        self.actions.get_by_role("button", name=name, exact=True).click(force=True)

    def heal(self) -> None:
        """All nodes run, one leads, and orders are acknowledged."""
        self.press("heal all")
        self.page.wait_for_selector(".zl-pop-row.zl-leads", state="attached", timeout=30_000)
        self.page.wait_for_timeout(4_000)

    def kill(self) -> None:
        self.heal()
        self.press("kill the leader")
        self.page.wait_for_timeout(KILL_MS)

    def film(self, path: Path) -> None:
        """The leader is killed, another one takes over, the first comes back: the stage alone, in real time."""
        self.heal()
        cast = Screencast(self.page)
        for until_s, button in ((KILLED_S, "kill the leader"), (HEALED_S, "heal all"), (MOVING_S, "")):
            cast.go_on(until_s)
            if button:
                self.press(button)
        box = self.page.locator(".zl-stage").bounding_box()
        assert box is not None
        area = box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]
        first, *rest = (image.crop(area) for image in cast.ended())
        lasts_ms = [round(FRAME_S * 1_000)] * len(rest) + [1_000]
        first.save(path, save_all=True, append_images=rest, duration=lasts_ms, loop=0, quality=60, method=4)
        print(f"{path}: {len(rest) + 1} pictures of {cast.painted} painted, {path.stat().st_size / 1e6:.1f} MB")

    def of_node(self, name: str, button: str) -> None:
        """A button of a node's row in the menu, which need not be open for it."""
        row = self.actions.locator(f".zl-pop-row[data-node='{name}']")
        row.locator("button", has_text=button).first.evaluate("(button) => button.click()")


def in_jupyterlab(camera: Camera, visit: LabVisit, states: Sequence[str], moving: Path | None = None) -> None:
    play = Play(visit.page)
    visit.page.wait_for_selector(".zl-place-actions .zl-pop-row", state="attached", timeout=60_000)
    visit.page.wait_for_timeout(3_000)
    if "idle" in states:
        camera.take("idle")
    visit.execute("load.start()")
    visit.page.wait_for_timeout(8_000)
    if moving is not None:
        visit.page.wait_for_timeout(20_000)
        play.film(moving)
        return
    if "load" in states:
        camera.take("load")
    if "kill" in states:
        camera.take("kill", play.kill)
        play.heal()
    if "partition" in states:
        play.press("isolate the leader")
        visit.page.wait_for_timeout(2_500)
        camera.take("partition")
        play.heal()
    if "unserved" in states:
        for node in ("node1", "node2"):
            play.of_node(node, "kill -9")
        visit.page.wait_for_timeout(4_000)
        camera.take("unserved")
        play.heal()
    if "nine" in states:
        visit.execute("load.set_rate(1000); cluster.scale(9)")
        visit.page.wait_for_timeout(6_000)
        camera.take("nine")
        for tab in ("nodes", "load", "links", "charts and book"):
            opener = visit.page.locator(".zl-tabs").get_by_role("button", name=tab)
            opener.evaluate("(button) => button.click()")  # it may be scrolled under the status line
            camera.take(f"nine-{tab.split()[0]}", lambda: visit.page.locator(".zl-tab").scroll_into_view_if_needed())
            opener.evaluate("(button) => button.click()")
    if "gone" in states:
        visit.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        visit.page.wait_for_timeout(9_000)
        camera.take("gone")


def take_panel(visit: LabVisit, path: Path) -> None:
    """The whole panel, dark, after a kill, two new nodes, and a link that was cut and healed; paused to look."""
    page = visit.page
    visit.command("apputils:change-theme", {"theme": "JupyterLab Dark"})
    visit.command("application:toggle-left-area")
    page.set_viewport_size(PANEL_SIZE)
    page.wait_for_selector("tr.zl-leads", timeout=60_000)
    visit.execute("load.start(); load.set_rate(1000)")
    page.wait_for_timeout(12_000)
    visit.execute("import time; old = cluster.leader; cluster.kill(old); time.sleep(3); cluster.restart(old)")
    visit.execute("cluster.scale(5); time.sleep(3); one, other, *_ = cluster.nodes; cluster.cut(one, other)")
    visit.execute("time.sleep(3); cluster.heal(); time.sleep(9)")
    page.locator(".zl-live-bar").get_by_role("button").first.click()
    page.wait_for_timeout(SETTLE_MS)
    shot = Image.open(io.BytesIO(page.locator(".zl-lab").first.screenshot()))
    shot.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def chapter(folder: Path, staged: bool = True) -> Path:
    """The first chapter, with a load that is not started; ``staged``: with the stage, and not the panel in its cell."""
    text = (NOTEBOOKS / "01_start_a_cluster.ipynb").read_text()
    assert STAGED in text
    notebook = json.loads(text if staged else text.replace(STAGED, ""))
    for cell in notebook["cells"]:
        cell["source"] = [line.replace("duration=None).start()", "duration=None)") for line in cell["source"]]
    path = folder / "chapter.ipynb"
    path.write_text(json.dumps(notebook))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--states", nargs="+", default=STATES, choices=STATES)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--themes", nargs="+", default=THEMES, choices=THEMES)
    parser.add_argument("--voila", metavar="URL", help="of a page that `make app` has opened")
    parser.add_argument(
        "--moving", type=Path, metavar="FILE", help="take the moving picture, a .webp, and nothing else"
    )
    parser.add_argument("--panel", type=Path, metavar="FILE", help="take the whole panel, a .png, and nothing else")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as place:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        if asked.voila:
            page = browser.new_page()
            page.goto(asked.voila)
            play = Play(page)
            page.wait_for_selector(".zl-place-actions .zl-pop-row", state="attached", timeout=60_000)
            page.wait_for_timeout(8_000)
            camera = Camera(page, asked.folder, asked.sizes, asked.themes)
            camera.take("app-load")
            camera.take("app-kill", play.kill)
        else:
            (Path(place) / "server").mkdir()
            server = JupyterLab(Path(place) / "server", chapter(Path(place), staged=not asked.panel))
            try:
                visit = server.open(browser, 1400, 900)
                camera = Camera(visit.page, asked.folder, asked.sizes, asked.themes)
                camera.set_theme = lambda theme: visit.command(
                    "apputils:change-theme", {"theme": f"JupyterLab {theme.title()}"}
                )
                visit.page.evaluate("() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 1; }")
                visit.command("notebook:run-cell", {})
                if asked.panel:
                    take_panel(visit, asked.panel)
                else:
                    in_jupyterlab(camera, visit, asked.states if not asked.moving else (), asked.moving)
            finally:
                server.close()
        browser.close()


if __name__ == "__main__":
    main()
