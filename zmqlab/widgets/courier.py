"""One message for all figures of a tick: what the widgets of a cluster push at one moment goes to a page together.

A message costs the kernel about the same whatever is in it: JSON, a signature, a turn of the thread that sends. So the
widgets that push ten times a second have one :class:`Courier` a cluster, a widget that is not seen. It collects their
pushes while the sampler tells its watchers of a row, and sends them when all have been told::

    {parts: [[box, number of buffers, message], ...]}     and the buffers of all parts, one after the other

- A *box* is a number that a widget has with its courier; the page's end of the widget takes the parts of its box.
- A push that is alone goes by its widget's own comm: at the end of the tick, or at once if it comes between two ticks.
  So a widget that is shown alone works as if there were no courier.
- Parts leave in the order in which they were handed in. No push of a widget overtakes another one.

*Back.* A page says twice a second what it has painted, in one message for all its figures::

    {painted: [[box, view, number of the push], ...]}

The kernel answers each message of a page with two of its own state, and so a message of a page costs more than a push.

A courier is closed with the last widget that has a box. ``pushes.js`` is the page's end.

Left out on purpose: what is pushed, and whether (:mod:`~zmqlab.widgets.live_figure`).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anywidget
import ipywidgets

from zmqlab.widgets.sampler import Sampler

Send = Callable[[dict[str, Any], list[bytes]], object]
"""Sends a message and its buffers to a widget's pages."""
Heard = Callable[[str, str, int], None]
"""Takes what a view says of itself: its name, what, and the last push that it has taken."""


def close_rest(widget: ipywidgets.DOMWidget) -> None:
    """Close what ipywidgets leaves open of a widget that has closed: its layout and its style are widgets, too."""
    for name in ("layout", "style"):
        rest = widget._trait_values.get(name)  # a widget that failed while it was made has none
        if rest is not None:
            rest.close()


class Courier(anywidget.AnyWidget):
    """Carries the pushes of one cluster's widgets; see the module. Made by :func:`box_with`. Any thread may call it."""

    _esm = "export default { render() {} }"

    def __init__(self, sampler: Sampler) -> None:
        self._lock = threading.RLock()
        """Also held while a message is sent: two of them keep their order."""
        self._collects = False
        """Whether the sampler is telling its watchers of a row."""
        self._parts: list[tuple[int, Send, dict[str, Any], list[bytes]]] = []
        """Pushes that wait for the end of the tick: the box, how its widget sends alone, the push."""
        self._boxes: dict[int, Heard] = {}
        self._made = 0
        """Boxes that there ever were."""
        super().__init__()
        self.on_msg(self._on_message)
        self._unregister = sampler.around_ticks(self._begin, self._end)

    def open_box(self, heard: Heard) -> int:
        """A box for one more widget; ``heard`` is told what views say that they have painted."""
        with self._lock:
            self._made += 1
            self._boxes[self._made] = heard
            return self._made

    def close_box(self, box: int) -> None:
        """That widget has closed. The last one closes the courier. A widget calls this once: a closed one is collected
        as garbage in any thread, which may hold a lock that another one waits for while it has ours."""
        with _couriers_lock:
            with self._lock:
                self._boxes.pop(box, None)
                is_last = not self._boxes
            if is_last:
                self.close()

    def close(self) -> None:
        """End it; no widget has a box any more."""
        if self.comm is None:
            return
        self._unregister()
        super().close()
        close_rest(self)

    def post(self, box: int, send: Send, message: dict[str, Any], buffers: list[bytes]) -> None:
        """Take a push; ``send`` sends it by the widget's own comm, if it is alone."""
        with self._lock:
            self._parts.append((box, send, message, buffers))
            if not self._collects:
                self._leave()

    def _begin(self) -> None:
        with self._lock:
            self._collects = True

    def _end(self) -> None:
        with self._lock:
            self._collects = False
            self._leave()

    def _leave(self) -> None:
        parts, self._parts = self._parts, []
        if len(parts) == 1:
            ((_, send, message, buffers),) = parts
            send(message, buffers)
        elif parts:
            told = [[box, len(buffers), message] for box, _, message, buffers in parts]
            self.send({"parts": told}, [each for *_, buffers in parts for each in buffers])

    def _on_message(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        """A page tells what it has painted. Runs in the kernel's thread."""
        painted: Sequence[Sequence[Any]] = content.get("painted", ())
        with self._lock:
            known = [(self._boxes.get(box), view, sequence) for box, view, sequence in painted]
        for heard, view, sequence in known:  # without the lock: a widget that pushes holds its own, and takes this one
            if heard is not None:
                heard(str(view), "painted", int(sequence))

    def __repr__(self) -> str:
        return "Courier()"


_couriers: weakref.WeakKeyDictionary[Sampler, Courier] = weakref.WeakKeyDictionary()
_couriers_lock = threading.Lock()
"""Held while a box is opened or closed: a courier that closes gives no box."""


def box_with(sampler: Sampler, heard: Heard) -> tuple[Courier, int]:
    """The courier of the sampler's cluster, made when it is first asked for, and a box with it (:meth:`open_box
    <Courier.open_box>`). The widget calls :meth:`Courier.close_box` when it closes."""
    with _couriers_lock:
        courier = _couriers.get(sampler)
        if courier is None or courier.comm is None:
            courier = _couriers[sampler] = Courier(sampler)
        return courier, courier.open_box(heard)
