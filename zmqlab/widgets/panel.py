"""The base of all tables and buttons: a state that goes to the page, and actions that come back.

*To the page.* :meth:`Panel.make_state` gives a plain dictionary, and the page's hand-written JavaScript draws it anew
whenever it has changed. The sampler's ticks ask for a refresh; :meth:`Panel.refresh` makes one for each beat of
``interval_s``, and none for a hidden page.

*Back.* A button sends the name of an action. The widget's method ``do_NAME`` starts it, in a thread of its own, because
most actions take a while (a node that ends, a cluster that grows) and the kernel has to go on hearing clicks. While the
action runs, its button shows it on every page. An error is shown in the panel, beside the button that was clicked.

*Rules.* A page can call what :meth:`Panel.action_of` gives, and nothing else. The state is set by several threads, so
that one lock guards it.

*Old figures.* A state may stay the same for an hour. So a beat goes to the page every two seconds, and a page without
one says that what it shows is old: its kernel may hang, restart or be gone. When the cluster stops there is a last
state, and the beat says that nothing more will come.

*JavaScript.* ``panel.js`` holds what all panels have in common, ``age.js`` what they share with the charts.
:func:`script` puts both in front of each widget's own file, and the three are one module.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from zmqlab.errors import ZmqlabError
from zmqlab.lab.cluster import Cluster
from zmqlab.widgets import palette
from zmqlab.widgets.courier import close_rest
from zmqlab.widgets.live_figure import page_text, with_html
from zmqlab.widgets.sampler import sampler_of

BEAT_S = 2.0
"""Less than half of the silence after which a page says that its figures are old; see ``age.js``."""
EARLY_S = 0.02
"""Ticks jitter: one that comes so much too early is not put off to the next."""

_BUTTONS = tuple(
    (re.compile(said), button)
    for said, button in (
        (r"cluster\.(restart|pause|resume)\(['\"]([^'\"]+)['\"]\)", r"the button “\1” beside \2"),
        (r"cluster\.(restart|pause|resume)\(name\)", r"the button “\1” beside a node"),
        (r", cluster\.status\(\) shows all", ""),
        (r"cluster\.stop\(\) ends the cluster", "shut the kernel down to end the cluster"),
        (r"load\.stop\(\) ends it, load\.close\(\) kills it", "press “stop and judge”"),
        (r"load\.wait\(\) ends with its verdict", "the button “judge it” ends with its verdict"),
        (r"load\.start\(\)", "press “start”"),
    )
)
"""What an error of the lab advises in Python, and the button that does it."""

_log = logging.getLogger(__name__)


def script(*names: str) -> str:
    """The JavaScript module of one widget: the nodes' shapes, ``age.js``, ``panel.js``, then the files ``names``."""
    return palette.script() + "".join(map(page_text, ("age.js", "panel.js", *names)))


def in_buttons(text: str) -> str:
    """An error's words for a person at the page: advice that names a call names the button instead."""
    for said, button in _BUTTONS:
        text = said.sub(button, text)
    return text


class Panel(anywidget.AnyWidget):
    """A widget that shows something of one cluster; see the module. A subclass sets its fields before it calls this
    class's ``__init__``, which makes the first state."""

    _css = palette.style_sheet() + page_text("panel.css") + page_text("age.css")
    _esm = "export default { render() {} }"
    _state = traitlets.Dict().tag(sync=True)
    """The last result of :meth:`make_state`."""
    _busy: list[str] = traitlets.List().tag(sync=True)
    """Keys of the actions that run, as in ``kill:node1``; the same on all pages."""
    _problem = traitlets.Unicode().tag(sync=True)
    """The error that the panel shows; empty: none."""
    _beat = traitlets.Int().tag(sync=True)
    """Counts while a page is to be told that the panel lives; -1: the cluster has stopped, nothing more will come."""

    def __init__(self, cluster: Cluster, interval_s: float = 0.5) -> None:
        self._cluster = cluster
        self._sampler = sampler_of(cluster)
        self._guard = threading.RLock()
        """Held by the thread that sets a trait: the sampler's, an action's or the kernel's."""
        self._views: dict[str, bool] = {}
        """Which of the pages that have spoken are visible; empty before the first one has."""
        self._interval_s = interval_s
        self._shown_s = float("-inf")
        """When the last state was made, on the monotonic clock."""
        self._beaten_s = float("-inf")
        """The same of the last beat."""
        super().__init__(_state=self.make_state())
        self.on_msg(self._on_message)
        self._unregister = self._sampler.on_tick(self._on_tick)

    def make_state(self) -> dict[str, Any]:
        """What the page shows; called several times a second, so it must be cheap."""
        raise NotImplementedError

    def html(self) -> str:
        """The same as static HTML, for places without widgets."""
        raise NotImplementedError

    def close(self) -> None:
        """Take the panel from the page; what runs in the cluster goes on."""
        self._unregister()
        super().close()
        close_rest(self)

    def refresh(self, now: bool = False) -> None:
        """Show what has changed. From any thread.

        Args:
            now: also within ``interval_s`` of the last refresh, and on a hidden page.
        """
        with self._guard:
            if not now and (self._hidden or not self.is_due()):
                return
            self._shown_s = time.monotonic()
            state = self.make_state()
            if state != self._state:
                self._state = state

    def is_due(self) -> bool:
        """Whether a beat of ``interval_s`` has come since the last refresh. All panels count from one moment, so that
        two with the same figure show it at the same time."""
        beats = (time.monotonic() + EARLY_S) // self._interval_s
        return not math.isfinite(self._shown_s) or beats > (self._shown_s + EARLY_S) // self._interval_s

    def tell(self, problem: str) -> None:
        """Show an error in the panel; empty: take it away."""
        with self._guard:
            self._problem = problem

    def act(self, key: str, action: Callable[[], object]) -> None:
        """Run ``action`` in a thread of its own. The buttons of ``key`` are busy meanwhile; an error is shown."""
        with self._guard:
            self._problem = ""
            self._busy = [*self._busy, key]
        threading.Thread(target=self._work, args=(key, action), name=f"zmqlab-{key}", daemon=True).start()

    def action_of(self, name: str) -> Callable[..., None] | None:
        """What a page's message ``name`` calls; None: this panel has no such action."""
        method: Callable[..., None] | None = getattr(self, f"do_{name}", None)
        return method

    def _work(self, key: str, action: Callable[[], object]) -> None:
        try:
            action()
        except ZmqlabError as error:
            self.tell(f"{key.replace(':', ' ')}: {in_buttons(str(error))}")
        except Exception as error:
            _log.exception("%s failed", key)
            self.tell(f"{key.replace(':', ' ')} failed: {type(error).__name__}: {error}")
        finally:
            with self._guard:
                busy = list(self._busy)
                busy.remove(key)
                self._busy = busy
            self.refresh(now=True)

    @property
    def _hidden(self) -> bool:
        """Whether no page shows this, as far as pages have said."""
        return bool(self._views) and not any(self._views.values())

    def _on_tick(self) -> None:
        """Runs in the sampler's thread, after each row and at each event, and once more when that thread has ended."""
        self._tick()
        with self._guard:
            if self._sampler.ended:
                self.refresh(now=True)
                self._beat = -1
            elif not self._hidden and time.monotonic() - self._beaten_s >= BEAT_S:
                self._beat, self._beaten_s = self._beat + 1, time.monotonic()

    def _tick(self) -> None:
        """What a tick means for this panel."""
        self.refresh()

    def _on_message(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        """A click, or a page that tells whether it is visible. Runs in the kernel's thread."""
        if "say" in content:
            with self._guard:
                self._views[str(content.get("view"))] = content["say"] == "visible"
            self.refresh()
            return
        name = str(content.get("do"))
        if name == "dismiss":
            self.tell("")
            return
        action = self.action_of(name)
        if action is None:
            return
        try:
            action(**{key: value for key, value in content.items() if key != "do"})
        except Exception as error:  # JupyterLab would show it in a log console that is closed by default
            self.tell(
                in_buttons(str(error)) if isinstance(error, ZmqlabError) else f"{name}: {type(error).__name__}: {error}"
            )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_html(super()._repr_mimebundle_(**kwargs), self.html())

    def _repr_html_(self) -> str:
        return self.html()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
