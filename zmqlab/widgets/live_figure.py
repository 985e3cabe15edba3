"""Bokeh figures in a notebook that move: the figure goes to the page once, and after that only what is new.

One thin anywidget, :class:`LiveFigure`. The page gets BokehJS from the installed bokeh package, so that it needs
neither the network nor a port of its own. It gets the figure as a bokeh JSON item, and from then on messages with a
sequence number::

    {seq, key, now, streams: [[source, [column, ...] or null, rows kept], ...], tables: {source: {column: [...]}},
     set: [[model name, property, value], ...]}     and one binary buffer for each stream,
    its columns one after the other

- A *stream* is a source that grows by rows. Only new rows travel, and the page drops old ones. A source named
  ``NAME/...`` is a *part* of stream ``NAME``: the page fills it with the columns that both have, if all of them came.
- A *table* is a small source that travels whole when it has changed.
- *set* lists properties of named models: ranges, labels, visibility.
- A *key frame* carries all of it, and the names of the columns, which stay until the next one. A page that misses a
  number asks for a key frame, and waits for it.

**When a push goes out** is decided by :class:`Flow`: at most ten times a second, less often for a slow page, and not at
all for a hidden one. A page says that it is there, that it has painted a push, that it is hidden, that it leaves. The
kernel hears this only between two cells: a cell that runs for a minute delivers all of it a minute late. Silence
therefore has two meanings, and the rules are:

- A hidden view gets nothing, and a key frame when it is visible again.
- A view that is ``MAX_BEHIND`` pushes behind is slow, or the kernel is busy. It gets a push every ``SLOW_S``.
- A view that was silent for ``FORGET_S`` while the kernel was free is gone.
- Before the first view has spoken, one is assumed to be there: *Run All* may be under way. It gets a key frame every
  ``KEY_S``, because it may appear at any moment. ``NEWBORN_S`` bounds that time.
- News, a fault or an election, does not wait for its tenth of a second.

Compared by experiment with three other ways (push_notebook, jupyter_bokeh, an embedded bokeh server), this one took the
least of the kernel, the browser and the notebook file, and was right after a page reload; see docs/architecture.md.

Left out on purpose: what the figures mean. They are ordinary bokeh models, made elsewhere, and can go into a report.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from bokeh.embed import json_item
from bokeh.models import UIElement
from ipywidgets import widget_serialization

from zmqlab.widgets.bokeh_library import BokehLibrary, bokeh_library
from zmqlab.widgets.courier import Courier, box_with, close_rest
from zmqlab.widgets.palette import style_sheet, themed
from zmqlab.widgets.readings import Column
from zmqlab.widgets.sampler import Sampler

HERE = Path(__file__).parent
HISTORY_KEPT = 1_200
"""Rows that a page keeps of a stream: two minutes, as many as the sampler keeps."""
STATES = ("hidden", "visible", "ready", "painted", "gap", "gone")
"""What a page can say of itself."""

INTERVAL_S = 0.1
"""Nodes publish as often, so a page has nothing new to show before."""
SLOW_S = 0.5
"""A slow page still moves, and half a second is enough for the slowest paint that was measured (380 ms)."""
MAX_BEHIND = 12
"""Pushes. A page tells what it has painted twice a second, so being five behind is ordinary."""
FORGET_S = 60.0
"""A page that is alive speaks twice a second."""
NEWBORN_S = 60.0
"""A chapter runs in about a minute, all cells together, and its widgets come after its first cells."""
KEY_S = 2.0
"""A page that appears before it can be heard waits at most so long for its first picture."""
EARLY_S = 0.02
"""The sampler's turns jitter: one that comes so much too early is not put off to the next."""


# -- what travels --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stream:
    """A source that grows by rows."""

    total: int
    """Rows that it ever had."""
    names: tuple[str, ...]
    """Its columns, in the order in which they travel."""
    newest: Callable[[int | None], Column]
    """The last so many rows, or with None all that are kept: one array, with a line for each column."""


@dataclass(slots=True)
class Frame:
    """What figures show at one moment, apart from how it gets to a page."""

    now_ms: float
    """The right end of the time axis."""
    streams: dict[str, Stream] = field(default_factory=dict)
    """By name of the source."""
    tables: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    """By name of the source; a column's values each."""
    properties: dict[tuple[str, str], Any] = field(default_factory=dict)
    """(name of a model, property) -> value."""


def _message(frame: Frame, before: Frame | None) -> tuple[dict[str, Any], list[bytes]]:
    """The message, and its buffers, that brings a page from ``before`` to ``frame``; None: the page has nothing yet."""
    streams: list[tuple[str, tuple[str, ...] | None, int]] = []
    buffers: list[bytes] = []
    for name, stream in frame.streams.items():
        rows = stream.newest(None if before is None else stream.total - before.streams[name].total)
        buffers.append(rows.astype("<f8", copy=False).tobytes())
        streams.append((name, stream.names if before is None else None, HISTORY_KEPT))
    old_tables = {} if before is None else before.tables
    old_properties = {} if before is None else before.properties
    tables = {name: table for name, table in frame.tables.items() if old_tables.get(name) != table}
    changed = [
        (model, name, value)
        for (model, name), value in frame.properties.items()
        if (model, name) not in old_properties or old_properties[model, name] != value
    ]
    return {"now": frame.now_ms, "streams": streams, "tables": tables, "set": changed}, buffers


def _shape(frame: Frame) -> dict[str, tuple[str, ...]]:
    return {name: stream.names for name, stream in frame.streams.items()}


# -- when it travels -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class View:
    """One page, or one of several outputs on a page, that shows a widget."""

    acknowledged: int
    """The last push that it has painted."""
    heard_s: float
    """When it last spoke, on the monotonic clock."""
    visible: bool = True


class Flow:
    """The state of all views of one widget; see the module. The clock is handed in. Not thread-safe: its owner has a
    lock."""

    def __init__(self, now_s: float) -> None:
        self.views: dict[str, View] = {}
        self._born_s = now_s
        self._spoken = False
        """Whether any view has ever spoken."""
        self._pushed_s = float("-inf")
        self._key_s = float("-inf")
        """When the last push, and the last key frame, went out."""
        self._key_wanted = True
        """The next push has to be a key frame."""

    def heard(self, view: str, what: str, sequence: int, now_s: float) -> None:
        """A view says one of :data:`STATES`; ``sequence`` is the last push that it has taken."""
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
        """A push goes out now. Returns whether it has to be a key frame."""
        self._pushed_s = now_s
        key = self._key_wanted or (not self._spoken and now_s - self._key_s >= KEY_S)
        if key:
            self._key_s = now_s
            self._key_wanted = False
        return key

    @property
    def owes_key(self) -> bool:
        """Whether a page waits for a key frame."""
        return self._key_wanted

    def want_key(self) -> None:
        """Make the next push a key frame, because the streams have other columns now."""
        self._key_wanted = True


class _CellWatch:
    """Whether the notebook's kernel is in the middle of a cell, while which it hears no page.

    IPython calls back before and after each cell. Outside of IPython no cell ever runs.
    """

    def __init__(self) -> None:
        self._shell: Any = None
        self._busy = False

    def is_busy(self) -> bool:
        """Whether a cell runs now. The first call in a kernel comes from a cell, and starts watching."""
        if self._shell is None:
            self._watch_shell()
        return self._busy

    def _watch_shell(self) -> None:
        ipython = sys.modules.get("IPython")  # not imported for this: without it there are no cells
        self._shell = shell = ipython.get_ipython() if ipython is not None else None
        if shell is not None:
            self._busy = bool(getattr(shell, "kernel", None))
            shell.events.register("pre_execute", self._begin)
            shell.events.register("post_execute", self._end)

    def _begin(self) -> None:
        self._busy = True

    def _end(self) -> None:
        self._busy = False


_cells = _CellWatch()


class Pushes:
    """What one widget pushes to its pages: numbered, one after the other, and only when a page may be sent something.
    Any thread may call it."""

    def __init__(self) -> None:
        self.flow = Flow(time.monotonic())
        self._lock = threading.RLock()
        """Pushes come from the sampler's thread, messages from the kernel's."""
        self._sequence = 0
        """The number of the last push."""
        self._sent = Frame(0.0)
        """The last frame that went out; the next message says what has changed since."""
        self._refused = False
        """Whether pages lack what was to be pushed last."""

    @property
    def watched(self) -> bool:
        """Whether a page may be showing this. What is costly to find out can wait until one does."""
        with self._lock:
            return self.flow.may_push(self._sequence + 1, time.monotonic() + 1.0, _cells.is_busy())

    @property
    def owes(self) -> bool:
        """Whether a page lacks something that a push would bring, though nothing new comes."""
        with self._lock:
            return self._refused or self.flow.owes_key

    def begin_anew(self, change: Callable[[], object]) -> None:
        """Call ``change``, after which ``make_frame`` gives other things; the next push brings all of them."""
        with self._lock:
            change()
            self.flow.want_key()

    def heard(self, view: str, what: str, sequence: int) -> None:
        """A view says one of :data:`STATES`; anything else that it says is ignored."""
        if what in STATES:
            with self._lock:
                self.flow.heard(view, what, sequence, time.monotonic())

    def push(
        self,
        make_frame: Callable[[], Frame],
        send: Callable[[dict[str, Any], list[bytes]], object],
        news: bool = False,
    ) -> bool:
        """Push what ``make_frame`` gives by ``send``, if a page may be sent something now.

        Args:
            make_frame: called only if there is a push.
            send: sends a message and its buffers to all pages.
            news: do not wait for the next tenth of a second.

        Returns:
            Whether there was a push.
        """
        with self._lock:
            now_s = time.monotonic()
            self._refused = not self.flow.may_push(self._sequence + 1, now_s, _cells.is_busy(), news)
            if self._refused:
                return False
            frame = make_frame()
            if _shape(frame) != _shape(self._sent):
                self.flow.want_key()
            key = self.flow.pushed(now_s)
            message, buffers = _message(frame, None if key else self._sent)
            self._sequence += 1
            send(message | {"seq": self._sequence, "key": key}, buffers)
            self._sent = frame
            return True


def page_text(name: str) -> str:
    """A script or style sheet of this folder.

    anywidget also takes a path. But it then watches the file, and the watch keeps each widget that was ever made, and
    with it the widget's cluster.
    """
    return (HERE / name).read_text(encoding="utf-8")


# -- the widgets ---------------------------------------------------------------------------------------------------


class LiveFigure(anywidget.AnyWidget):
    """A bokeh layout on a page, kept up to date by :meth:`refresh`. Its sources, and the models that change, have
    names.

    Args:
        layout: the figures.
        toolbar: what stands above them: ``{key, kind: "select" | "toggle", label, value, options}`` each.
        sampler: in whose ticks it is refreshed; its pushes travel with those of others (:mod:`zmqlab.widgets.courier`).
    """

    _esm = page_text("age.js") + page_text("pushes.js") + page_text("mark_labels.js") + page_text("live_figure.js")
    _css = style_sheet() + page_text("live_figure.css") + page_text("age.css")
    _library = traitlets.Instance(BokehLibrary).tag(sync=True, **widget_serialization)
    _item = traitlets.Dict().tag(sync=True)
    _themes = traitlets.Dict().tag(sync=True)
    _toolbar = traitlets.List().tag(sync=True)
    _courier = traitlets.Instance(Courier, allow_none=True).tag(sync=True, **widget_serialization)
    _box = traitlets.Int().tag(sync=True)
    """With the courier; 0: there is none."""
    _problem = traitlets.Unicode().tag(sync=True)
    """The error that stands above the figures; empty: none."""
    _ended = traitlets.Bool().tag(sync=True)
    """Nothing more will come. Until then a page that hears nothing for a while says that its figures are old."""

    def __init__(
        self, layout: UIElement, *, toolbar: Sequence[Mapping[str, Any]] = (), sampler: Sampler | None = None
    ) -> None:
        self._lock = threading.RLock()
        """A page may set an option while the notebook does."""
        self._pushes = Pushes()
        item, themes = json_item(layout), {"light": themed(layout, "light"), "dark": themed(layout, "dark")}
        courier, box = box_with(sampler, self._heard) if sampler is not None else (None, 0)
        super().__init__(
            _courier=courier,
            _box=box,
            _library=bokeh_library(),
            _item=item,
            _themes=themes,
            _toolbar=[dict(each) for each in toolbar],
        )
        self.on_msg(self._on_message)

    def close(self) -> None:
        """Take the figures from the page."""
        if self.comm is None:
            return
        super().close()
        close_rest(self)
        if self._courier is not None:
            self._courier.close_box(self._box)

    @property
    def watched(self) -> bool:
        """Whether a page may be showing this. What is costly to find out can wait until one does."""
        return self._pushes.watched

    def refresh(self, make_frame: Callable[[], Frame], news: bool = False) -> bool:
        """As :meth:`Pushes.push`."""
        return self._pushes.push(make_frame, self._post, news)

    def _post(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        if self._courier is None:
            self.send(message, buffers)
        else:
            self._courier.post(self._box, self.send, message, buffers)

    def set_option(self, key: str, value: Any) -> None:
        """Change the value of something in the toolbar; a page does it, or the notebook."""
        with self._lock:
            self._toolbar = [each | {"value": value} if each["key"] == key else each for each in self._toolbar]

    def options(self) -> dict[str, Any]:
        """The values of all that stands in the toolbar, by key."""
        return {each["key"]: each["value"] for each in self._toolbar}

    def _on_message(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        said = content.get("say")
        if said == "option":
            if content.get("key") in self.options():
                self.set_option(content["key"], content.get("value"))
        else:
            self._heard(str(content.get("view")), str(said), int(content.get("seq", 0)))

    def _heard(self, view: str, what: str, sequence: int) -> None:
        """A view has spoken. If nothing new will come any more, what it lacks, it lacks for good unless it is pushed
        now: it may have been hidden while most of it happened."""
        self._pushes.heard(view, what, sequence)
        if self._ended and self._pushes.owes:
            self._push_last()

    def _push_last(self) -> None:
        """Push all once more, and do not wait for the next tenth of a second."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"  # no address, so that a test of a notebook can compare it


def with_html(bundle: Any, text: str) -> Any:
    """A widget's mimebundle with static HTML beside it, for places that have no widgets."""
    if isinstance(bundle, tuple):
        return ({**bundle[0], "text/html": text}, *bundle[1:])
    return {**bundle, "text/html": text} if bundle is not None else {"text/html": text}
