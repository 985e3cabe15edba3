"""What travels to a page: the whole once, then only what is new, numbered."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import numpy as np
import pytest
from bokeh.models import ColumnDataSource
from bokeh.plotting import figure

from zmqlab.widgets.live_figure import INTERVAL_S, Frame, LiveFigure, Stream
from zmqlab.widgets.readings import Ring

NAMES = ("t", "y")
Sent = list[tuple[dict[str, Any], list[bytes]]]


class Page:
    """A page's end of it: keeps what it was told, as live_figure.js does."""

    def __init__(self) -> None:
        self.columns: dict[str, list[float]] = {}
        self.tables: dict[str, Any] = {}
        self.properties: dict[tuple[str, str], Any] = {}
        self.seq = 0
        self.lost = 0

    def take(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        if not message["key"] and message["seq"] != self.seq + 1:
            self.lost += 1
            return
        self.seq = message["seq"]
        for (_, names, keep), buffer in zip(message["streams"], buffers, strict=True):
            names = names or tuple(self.columns)
            for name, added in zip(names, np.frombuffer(buffer, "<f8").reshape(len(names), -1).tolist(), strict=True):
                old = [] if message["key"] else self.columns[name]
                self.columns[name] = (old + added)[-keep:]
        self.tables |= message["tables"]
        self.properties |= {(model, name): value for model, name, value in message["set"]}


class Rig:
    """A live figure of one stream, one table and one property, and what it sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ring = Ring(NAMES, 1_200)
        self.table: dict[str, list[Any]] = {"label": []}
        self.top = 1.0
        self.now_s = 1_000.0
        self.names: tuple[str, ...] = NAMES
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)
        chart = figure()
        chart.line("t", "y", source=ColumnDataSource(data={"t": [], "y": []}, name="series"))
        self.widget = LiveFigure(chart, toolbar=[{"key": "window", "kind": "select", "value": "60 s"}])
        self.sent: Sent = []
        self.widget.send = lambda message, buffers=None: self.sent.append((message, buffers))

    def frame(self) -> Frame:
        frame = Frame(self.now_s * 1000)
        names = self.names
        frame.streams["series"] = Stream(self.ring.total, names, partial(self.ring.table, names))
        frame.tables["marks"] = dict(self.table)
        frame.properties["y", "end"] = self.top
        return frame

    def step(self, rows: int = 1) -> bool:
        for _ in range(rows):
            self.ring.append({"t": float(self.ring.total), "y": self.now_s})
        self.now_s += INTERVAL_S
        return self.widget.refresh(self.frame)

    def say(self, what: str, seq: int = 0, view: str = "page") -> None:
        self.widget._on_message(None, {"say": what, "view": view, "seq": seq}, [])


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_the_page_has_what_the_ring_has(rig: Rig) -> None:
    page = Page()
    rig.say("ready")
    for step in range(50):
        if step == 20:
            rig.table = {"label": ["node0 killed"]}
            rig.top = 5.0
        rig.step(rows=step % 4)
        page.take(*rig.sent[-1])
        rig.say("painted", page.seq)
    assert page.columns["t"] == rig.ring.newest(["t"])["t"].tolist()
    assert page.tables == {"marks": {"label": ["node0 killed"]}}
    assert page.properties == {("y", "end"): 5.0}
    assert page.lost == 0
    assert sum(message["key"] for message, _ in rig.sent) == 1


def test_only_what_is_new_travels(rig: Rig) -> None:
    rig.say("ready")
    rig.step(rows=500)
    rig.step(rows=1)
    (first, whole), (second, added) = rig.sent
    assert [len(buffer) for buffer in whole] == [8_000], "of two columns"
    assert [len(buffer) for buffer in added] == [16]
    assert (first["seq"], second["seq"]) == (1, 2)
    assert second["tables"] == {}
    assert second["set"] == []


def test_a_new_view_gets_all_of_it(rig: Rig) -> None:
    rig.say("ready")
    for _ in range(3):
        rig.step()
    rig.say("ready", view="another")
    rig.step()
    page = Page()
    page.take(*rig.sent[-1])
    assert page.columns["t"] == [0, 1, 2, 3]
    assert ("y", "end") in page.properties


def test_a_page_that_missed_one_waits_for_the_next_key_frame(rig: Rig) -> None:
    page = Page()
    rig.say("ready")
    for _ in range(3):
        rig.step()
    page.take(*rig.sent[0])
    page.take(*rig.sent[2])
    assert page.lost == 1
    rig.say("gap", page.seq)
    rig.step()
    page.take(*rig.sent[-1])
    assert page.columns["t"] == [0, 1, 2, 3]


def test_other_columns_need_a_key_frame(rig: Rig) -> None:
    rig.say("ready")
    rig.step()
    rig.names = ("t",)
    rig.step()
    assert rig.sent[-1][0]["key"]


def test_nothing_is_made_for_a_hidden_page(rig: Rig) -> None:
    rig.say("ready")
    rig.say("hidden")
    made: list[int] = []
    rig.now_s += 1

    def make() -> Frame:
        made.append(1)
        return rig.frame()

    assert not rig.widget.refresh(make)
    assert not made
    assert not rig.widget.watched


def test_pushes_from_many_threads_are_numbered_without_a_gap(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.say("ready")
    monkeypatch.setattr(rig.widget._pushes.flow, "may_push", lambda *_: True)
    threads = [threading.Thread(target=lambda: [rig.widget.refresh(rig.frame) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [message["seq"] for message, _ in rig.sent] == list(range(1, 201))


def test_the_toolbar_is_set_from_the_page_and_nothing_else(rig: Rig) -> None:
    rig.widget._on_message(None, {"say": "option", "key": "window", "value": "30 s"}, [])
    rig.widget._on_message(None, {"say": "option", "key": "nonsense", "value": "30 s"}, [])
    rig.widget._on_message(None, {"say": "nonsense"}, [])
    assert rig.widget.options()["window"] == "30 s"
    assert [each["key"] for each in rig.widget._toolbar] == ["window"]


def test_the_library_is_sent_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    other = LiveFigure(figure())
    assert other._library is rig.widget._library
    assert 100_000 < len(other._library.code) < 1_000_000


def test_it_shows_no_address(rig: Rig) -> None:
    assert repr(rig.widget) == "LiveFigure()"
