"""The picture in a browser without Jupyter: a page with the widget's own script, and a cluster without processes.

The widget is a real one. What it pushes goes to the page, and what the page sends comes back, by a stand-in for the
model that Jupyter's widget manager would give it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from playwright.sync_api import Page, TimeoutError

from tests.widgets.fake_cluster import MS, FakeCluster
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.message_matching import Fate, Message
from zmqlab.widgets.cluster_picture import ClusterPicture
from zmqlab.widgets.sampler import Sampler
from zmqlab.wire.traces import Direction, TraceKind, TraceRecord

TRAITS = ("_state", "_busy", "_problem", "_beat", "_controls")
PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:12px"><div id="here"></div>"""
BEGIN = """async ([code, css, traits]) => {
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
    const heard = new Map(), values = traits, sent = window.sent = [];
    const call = (name, ...all) => { for (const each of heard.get(name) ?? []) each(...all); };
    const model = {
        get: (name) => values[name],
        on: (name, told) => heard.set(name, [...(heard.get(name) ?? []), told]),
        off: (name, told) => heard.set(name, (heard.get(name) ?? []).filter((each) => each !== told)),
        send: (content) => { sent.push(content); window.toKernel(JSON.stringify(content)); },
    };
    window.push = (message, columns) => call("msg:custom", message, columns.map((column) =>
        new DataView(Float64Array.from(column, (value) => value === null ? NaN : value).buffer)));
    window.change = (name, value) => { values[name] = value; call(`change:${name}`); call("change"); };
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    const widget = (await import(url)).default;
    window.leave = widget.render({ model, el: document.getElementById("here") });
}"""


class Rig:
    """One picture on one page."""

    def __init__(
        self, page: Page, cluster: FakeCluster, sampler: Sampler, publish: Callable[[], None] = lambda: None
    ) -> None:
        """``publish``: what the nodes say before each row."""
        self.page, self.cluster, self.sampler, self.publish = page, cluster, sampler, publish
        self.picture = ClusterPicture(cast(Cluster, cluster))
        self.picture._ask_for_samples = lambda _readings: None  # type: ignore[method-assign]
        self.picture.send = self._send  # type: ignore[method-assign]
        self.heard: list[dict[str, Any]] = []
        self.changes: list[tuple[str, Any]] = []
        self.pushed: list[list[Any]] = []
        """Traits and pushes of any thread; the page is told of them in the test's thread."""
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.expose_function("toKernel", self._hear)
        page.set_content(PAGE)
        picture = cast(Any, self.picture)
        traits = {name: getattr(picture, name) for name in TRAITS}
        page.evaluate(BEGIN, [str(picture._esm), str(picture._css), traits])
        picture.observe(lambda change: self.changes.append((change["name"], change["new"])), names=list(TRAITS))
        for client in ("load", "other"):
            cluster.feed.traces._names[client] = client

    def _send(self, message: dict[str, Any], buffers: Sequence[bytes]) -> None:
        columns = [
            [None if value != value else value for value in np.frombuffer(each, "<f8").tolist()] for each in buffers
        ]
        self.pushed.append([message, columns])

    def _hear(self, content: str) -> None:
        self.heard.append(json.loads(content))

    def deliver(self) -> None:
        """What the page has sent reaches the widget, and what that has changed reaches the page.

        The page has a moment for that by its own clock, which may be late.
        """
        self.page.evaluate("() => new Promise((done) => setTimeout(done, 20))")
        while self.heard:
            self.picture._on_message(None, self.heard.pop(0), [])
        while self.changes:
            self.page.evaluate("([name, value]) => window.change(name, value)", list(self.changes.pop(0)))
        while self.pushed:
            self.page.evaluate("([message, columns]) => window.push(message, columns)", self.pushed[0])
            self._await_paint(self.pushed.pop(0)[0]["seq"])

    def _await_paint(self, sequence: int) -> None:
        """Until the page shows this push. In a replay, or after it has missed one, it does not."""
        shown = "([seq]) => Number(document.querySelector('.zl-picture').dataset.seq) >= seq"
        with contextlib.suppress(TimeoutError):
            self.page.wait_for_function(shown, arg=[sequence], timeout=2_000)

    def turn(self, rows: int = 1, pause_ms: int = 100) -> None:
        """So many rows, a tenth of a second apart."""
        for _ in range(rows):
            self.publish()
            self.sampler.turn()
            self.picture._on_tick()
            self.deliver()
            self.page.wait_for_timeout(pause_ms)

    def tell(
        self, kind: str, sender: str, to: str, *, ago_ms: float = 300, took_ms: float | None = 0.5, **fields: Any
    ) -> None:
        """A message that the traces know: None for ``took_ms``: it is lost."""
        sent_ns = time.monotonic_ns() - round(ago_ms * MS)
        values = {"term": 1, "first_index": 5, "last_index": 5, "client": 0, "number": 0, "round": 1} | fields
        record = TraceRecord(sent_ns, TraceKind[kind.upper()], Direction.OUT, 0, **values)
        ends = [self._process(each) for each in (sender, to)]
        received_ns = None if took_ms is None else sent_ns + round(took_ms * MS)
        fate = Fate.MISSING if took_ms is None else Fate.ARRIVED
        traces = self.cluster.feed.traces
        traces._tell([Message(kind, ends[0], ends[1], sent_ns, received_ns, fate, record)])

    def _process(self, name: str) -> int | str:
        return 1 + int(name[4:]) if name.startswith("node") else name
