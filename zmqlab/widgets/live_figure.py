"""Bokeh figures in a notebook that move: the figure goes to the page once, then only what is new.

One thin anywidget. The page gets BokehJS from the installed bokeh package (no network, no port of its own), the figure
as a bokeh JSON item, and from then on messages with a sequence number::

    {seq, key, now, streams: [[source, [column, ...], rows kept], ...], tables: {source: {column: [...]}},
     set: [[model name, property, value], ...]}     and one binary buffer a stream's column

A *stream* is a source that grows by rows; only new rows travel, and the page drops old ones. A *table* is a small
source that travels whole when it has changed. A source named ``NAME/...`` is a *part* of stream ``NAME``: the page
fills it with the columns that it has in common with the stream, if they all came. *set* are properties of named models:
ranges, labels, visibility. A *key frame* carries all of it; a page that misses a number waits for the next key frame
and asks for one. What the page says back goes to :class:`Flow`, which decides when there is a push
at all.

Figures stay ordinary bokeh models: :meth:`LiveFigure.static` gives one for a report, filled with what is there.

Compared with three other ways (push_notebook, jupyter_bokeh, an embedded bokeh server) this one took the least of
kernel, browser and notebook file, and was right after a page reload; see docs/architecture.md.
"""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import bokeh
import numpy as np
import traitlets
from bokeh.embed import json_item
from bokeh.models import UIElement
from ipywidgets import widget_serialization

from zmqlab.widgets.palette import themed
from zmqlab.widgets.rings import Column

HERE = Path(__file__).parent
HISTORY_KEPT = 1_200
"""Rows that a page keeps of a stream: two minutes, as the sampler does."""
STATES = ("hidden", "visible", "ready", "painted", "gap", "gone")


class BokehLibrary(anywidget.AnyWidget):
    """BokehJS, compressed, once for all figures of a kernel. Shows nothing."""

    _esm = "export default { render() {} }"
    version = traitlets.Unicode(bokeh.__version__).tag(sync=True)
    code = traitlets.Bytes().tag(sync=True)

    def __repr__(self) -> str:
        return "BokehLibrary()"


@cache
def _bokeh_code() -> bytes:
    """1.4 MB of script as 0.4 MB."""
    script = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
    return gzip.compress(script.read_bytes(), 6)


_library: BokehLibrary | None = None


def bokeh_library() -> BokehLibrary:
    """The kernel's one library; a new one if all widgets were closed meanwhile."""
    global _library
    if _library is None or _library.comm is None:
        _library = BokehLibrary(code=_bokeh_code())
    return _library


class LiveFigure(anywidget.AnyWidget):
    """A bokeh layout whose sources and changing models have names, kept up to date by :meth:`refresh`."""

    _esm = HERE / "live_figure.js"
    _css = HERE / "live_figure.css"
    _library = traitlets.Instance(BokehLibrary).tag(sync=True, **widget_serialization)
    _item = traitlets.Dict().tag(sync=True)
    _themes = traitlets.Dict().tag(sync=True)
    _toolbar = traitlets.List().tag(sync=True)
    """What stands above the figures: ``{key, kind: "select" | "toggle", label, value, options}``."""
    _problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, layout: UIElement, *, toolbar: Sequence[Mapping[str, Any]] = ()) -> None:
        self._lock = threading.RLock()
        """Pushes come from the sampler's thread, messages from the kernel's."""
        self._flow = Flow(time.monotonic())
        self._sequence = 0
        self._sent = Frame(0.0)
        """The last frame that went out, for what has changed since."""
        super().__init__(
            _library=bokeh_library(),
            _item=json_item(layout),
            _themes={"light": themed(layout, "light"), "dark": themed(layout, "dark")},
            _toolbar=[dict(each) for each in toolbar],
        )
        self.on_msg(self._on_message)

    @property
    def watched(self) -> bool:
        """Whether a page may be showing this: what costs much to find out is left alone otherwise."""
        with self._lock:
            return self._flow.may_push(self._sequence + 1, time.monotonic() + 1.0, kernel_is_busy())

    def refresh(self, make_frame: Callable[[], Frame], news: bool = False) -> bool:
        """Push what ``make_frame`` gives, if a page may be sent something now; whether it was. From any thread."""
        with self._lock:
            now_s = time.monotonic()
            if not self._flow.may_push(self._sequence + 1, now_s, kernel_is_busy(), news):
                return False
            frame = make_frame()
            if {name: each.names for name, each in frame.streams.items()} != {
                name: each.names for name, each in self._sent.streams.items()
            }:
                self._flow.want_key()
            key = self._flow.pushed(now_s)
            message, buffers = _message(frame, None if key else self._sent)
            self._sequence += 1
            self.send(message | {"seq": self._sequence, "key": key}, buffers)
            self._sent = frame
            return True

    def set_option(self, key: str, value: Any) -> None:
        """Something in the toolbar was changed, on the page or from here."""
        with self._lock:
            self._toolbar = [each | {"value": value} if each["key"] == key else each for each in self._toolbar]

    def option(self, key: str) -> Any:
        """The value of something in the toolbar."""
        return next(each["value"] for each in self._toolbar if each["key"] == key)

    def _on_message(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        said = content.get("say")
        with self._lock:
            if said in STATES:
                self._flow.heard(str(content.get("view")), said, int(content.get("seq", 0)), time.monotonic())
            elif said == "option" and any(each["key"] == content.get("key") for each in self._toolbar):
                self.set_option(content["key"], content.get("value"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"  # no address, so that a test of a notebook can compare it


def _message(frame: Frame, before: Frame | None) -> tuple[dict[str, Any], list[bytes]]:
    """What a page needs that has ``before``; all of it if that is None."""
    streams: list[tuple[str, tuple[str, ...], int]] = []
    buffers: list[bytes] = []
    for name, stream in frame.streams.items():
        rows = stream.newest(None if before is None else stream.total - before.streams[name].total)
        buffers += [np.ascontiguousarray(rows[column], "<f8").tobytes() for column in stream.names]
        streams.append((name, stream.names, HISTORY_KEPT))
    old_tables = {} if before is None else before.tables
    old_properties = {} if before is None else before.properties
    tables = {name: table for name, table in frame.tables.items() if old_tables.get(name) != table}
    changed = [
        (model, name, value)
        for (model, name), value in frame.properties.items()
        if (model, name) not in old_properties or old_properties[model, name] != value
    ]
    return {"now": frame.now_ms, "streams": streams, "tables": tables, "set": changed}, buffers



@dataclass(slots=True)
class Stream:
    """A source that grows by rows: how many there ever were, and how to read the newest."""

    total: int
    names: tuple[str, ...]
    newest: Callable[[int | None], Mapping[str, Column]]
    """The last so many rows, or with None all; by column."""


@dataclass(slots=True)
class Frame:
    """What the figures show at one moment."""

    now_ms: float
    streams: dict[str, Stream] = field(default_factory=dict)
    tables: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    properties: dict[tuple[str, str], Any] = field(default_factory=dict)
    """(name of a model, property) -> value."""



INTERVAL_S = 0.1
SLOW_S = 0.5
MAX_BEHIND = 12
"""Pushes; a page tells what it has painted twice a second, so five are ordinary."""
FORGET_S = 60.0
NEWBORN_S = 60.0
KEY_S = 2.0
EARLY_S = 0.02
"""The sampler's turns jitter: one that comes so much early is not put off to the next."""


@dataclass(slots=True)
class View:
    """One page, or one of several outputs, that shows a widget."""

    acknowledged: int
    """The last push that it has painted."""
    heard_s: float
    visible: bool = True


class Flow:
    """The state of all views of one widget."""

    def __init__(self, now_s: float) -> None:
        self.views: dict[str, View] = {}
        self._born_s = now_s
        self._spoken = False
        self._pushed_s = float("-inf")
        self._key_s = float("-inf")
        self._key_wanted = True

    def heard(self, view: str, what: str, sequence: int, now_s: float) -> None:
        """A view says ``ready``, ``painted``, ``gap``, ``hidden``, ``visible`` or ``gone``."""
        self._spoken = True
        if what == "gone":
            self.views.pop(view, None)
            return
        known = self.views.setdefault(view, View(sequence, now_s))
        known.heard_s = now_s
        known.acknowledged = max(known.acknowledged, sequence)
        if what in ("hidden", "visible"):
            known.visible = what == "visible"
        if what in ("ready", "visible", "gap"):
            known.acknowledged = sequence
            self._key_wanted = True

    def may_push(self, sequence: int, now_s: float, kernel_busy: bool, news: bool = False) -> bool:
        """Whether push number ``sequence`` may go out now."""
        since_s = now_s - self._pushed_s + EARLY_S
        if since_s < INTERVAL_S and not news:
            return False
        if not self._spoken:
            return kernel_busy or now_s - self._born_s < NEWBORN_S
        if not kernel_busy:
            self.views = {name: view for name, view in self.views.items() if now_s - view.heard_s < FORGET_S}
        seen = [view for view in self.views.values() if view.visible]
        if not seen:
            return False
        behind = sequence - min(view.acknowledged for view in seen)
        return behind <= MAX_BEHIND or since_s >= SLOW_S

    def pushed(self, now_s: float) -> bool:
        """A push goes out now: whether it has to be a key frame, whole and not just what is new."""
        self._pushed_s = now_s
        key = self._key_wanted or (not self._spoken and now_s - self._key_s >= KEY_S)
        if key:
            self._key_s = now_s
            self._key_wanted = False
        return key

    def want_key(self) -> None:
        """What is pushed has changed its shape."""
        self._key_wanted = True



_state: dict[str, Any] = {"shell": None, "busy": False}


def kernel_is_busy() -> bool:
    """Whether a cell runs now; the first call in a kernel, which a cell makes, starts watching."""
    shell = _shell()
    if shell is not None and _state["shell"] is not shell:
        _state["shell"] = shell
        _state["busy"] = bool(getattr(shell, "kernel", None))
        shell.events.register("pre_execute", _begin)
        shell.events.register("post_execute", _end)
    return bool(_state["busy"])


def _shell() -> Any:
    """IPython's shell, if this process is one; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _begin() -> None:
    _state["busy"] = True


def _end() -> None:
    _state["busy"] = False
