"""Who hears the news: callbacks, each slow one in a thread of its own.

A :class:`Listener` hands news to its callback in a thread. One that is slow, that raises, or that never returns, is
late itself, and nothing else is: it misses what finds no room. :func:`call_each` calls callbacks at once; for those of
the lab, which only store what they are given.

Left out on purpose: where news come from (:mod:`zmqlab.lab.feed`).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import weakref
from collections.abc import Callable

LISTEN_S = 0.2
"""How soon the thread of a callback ends after the feed."""
FAILED = "a callback of the metrics feed failed"
WAITING_MAX = 10_000
"""News that wait for one slow callback: a second of trades at full speed, or an hour of faults. More are dropped."""
WAITING_TURNS_MAX = 1
"""A callback that is slower than the turns gets fewer of them."""

_log = logging.getLogger(__name__)


class Listener:
    """Calls one callback in a thread of its own, with the news that were handed over; see the module."""

    def __init__(self, callback: Callable[..., None], waiting_max: int, is_over: Callable[[], bool]) -> None:
        self._callback = callback
        self._waiting: queue.Queue[tuple[object, ...]] = queue.Queue(waiting_max)
        self._is_over = is_over
        self._stopped = self._dropped = False
        threading.Thread(target=self._run, name="zmqlab-callback", daemon=True).start()

    def __call__(self, *news: object) -> None:
        """Hand over; never waits."""
        try:
            self._waiting.put_nowait(news)
        except queue.Full:
            if not self._dropped and self._waiting.maxsize > WAITING_TURNS_MAX:
                self._dropped = True
                _log.warning("%r is slower than the news: it misses some", self._callback)

    def stop(self) -> None:
        """Make no call any more."""
        self._stopped = True

    def _run(self) -> None:
        while not self._stopped:
            try:
                news = self._waiting.get(timeout=LISTEN_S)
            except queue.Empty:
                if self._is_over():
                    return
                continue
            try:
                if not self._stopped:
                    self._callback(*news)
            except BaseException:  # also sys.exit(): this thread has only the callback to serve
                _log.exception(FAILED)


def unregister_from(callbacks: list[Callable[..., None]], callback: Callable[..., None]) -> None:
    with contextlib.suppress(ValueError):
        callbacks.remove(callback)


def call_each(callbacks: list[Callable[..., None]], *arguments: object) -> None:
    """Call every callback; one that fails is logged and stops neither the others nor the feed."""
    for callback in tuple(callbacks):
        try:
            callback(*arguments)
        except Exception:
            _log.exception(FAILED)


def weakly(method: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Calls a method of an object that it does not keep alive."""
    held = weakref.WeakMethod(method)

    def call(frame: bytes) -> None:
        there = held()
        if there is not None:
            there(frame)

    return call
