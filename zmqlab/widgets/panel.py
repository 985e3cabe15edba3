"""The base of tables and buttons: hand-written JavaScript on the page, a state that goes there, actions that come back.

The page draws ``state``, a plain dictionary, anew whenever it changes. A button sends the name of an action; the
method ``do_NAME`` of the widget carries it out in a thread of its own, since most take a while (a node that ends, a
cluster that grows) and the kernel has to go on hearing clicks. While it runs, its button shows it; what goes wrong is
told in the panel, where the person is who clicked.

JavaScript: ``panel.js`` is what all have in common and stands in front of each widget's own file, in one module.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from zmqlab.errors import ZmqlabError
from zmqlab.widgets.chart_widgets import with_html

HERE = Path(__file__).parent
_log = logging.getLogger(__name__)


def script(name: str) -> str:
    """The module of one widget."""
    return (HERE / "panel.js").read_text(encoding="utf-8") + (HERE / name).read_text(encoding="utf-8")


class Panel(anywidget.AnyWidget):
    """See the module."""

    _css = HERE / "panel.css"
    _esm = "export default { render() {} }"
    _state = traitlets.Dict().tag(sync=True)
    _busy: list[str] = traitlets.List().tag(sync=True)
    """Keys of the actions that run, as in ``kill:node1``; several pages show the same."""
    _problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, interval_s: float = 0.5) -> None:
        self._guard = threading.RLock()
        """The state is set from the sampler's thread and from those of actions."""
        self._views: dict[str, bool] = {}
        """Which of the pages that have spoken are visible; empty before the first has."""
        self._interval_s = interval_s
        self._shown_s = float("-inf")
        super().__init__(_state=self.make_state())
        self.on_msg(self._on_message)

    def make_state(self) -> dict[str, Any]:
        """What the page shows; cheap, for it is made several times a second."""
        raise NotImplementedError

    def html(self) -> str:
        """The same as static HTML."""
        raise NotImplementedError

    def refresh(self, now: bool = False) -> None:
        """Show what has changed; at most every ``interval_s``, and not on a hidden page, unless ``now``.

        From any thread.
        """
        now_s = time.monotonic()
        with self._guard:
            if not now and self._views and not any(self._views.values()):
                return
            if not now and now_s - self._shown_s < self._interval_s - 0.02:
                return
            self._shown_s = now_s
            state = self.make_state()
            if state != self._state:
                self._state = state

    def tell(self, problem: str) -> None:
        """Show a problem in the panel; empty: none."""
        with self._guard:
            self._problem = problem

    def act(self, key: str, action: Callable[[], object], done: Callable[[], None] | None = None) -> threading.Thread:
        """Run ``action`` in a thread; its button works meanwhile, and what it raises is told."""
        with self._guard:
            self._problem = ""
            self._busy = [*self._busy, key]
        thread = threading.Thread(target=self._work, args=(key, action, done), name=f"zmqlab-{key}", daemon=True)
        thread.start()
        return thread

    def _work(self, key: str, action: Callable[[], object], done: Callable[[], None] | None) -> None:
        try:
            action()
        except ZmqlabError as error:
            self.tell(f"{key.replace(':', ' ')}: {error}")
        except Exception as error:
            _log.exception("%s failed", key)
            self.tell(f"{key.replace(':', ' ')} failed: {type(error).__name__}: {error}")
        finally:
            with self._guard:
                busy = list(self._busy)
                busy.remove(key)
                self._busy = busy
            self.refresh(now=True)
            if done is not None:
                done()

    def _on_message(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        """A click, or a page that is seen or not. What is not an action of this widget is not done."""
        if "say" in content:
            with self._guard:
                self._views[str(content.get("view"))] = content["say"] == "visible"
            self.refresh()
            return
        name = str(content.get("do"))
        if name == "dismiss":
            self.tell("")
            return
        method = getattr(self, f"do_{name}", None)
        if method is None:
            return
        try:
            method(**{key: value for key, value in content.items() if key != "do"})
        except Exception as error:  # JupyterLab would show it in a log console that nobody has open
            self.tell(str(error) if isinstance(error, ZmqlabError) else f"{name}: {type(error).__name__}: {error}")

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_html(super()._repr_mimebundle_(**kwargs), self.html())

    def _repr_html_(self) -> str:
        return self.html()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
